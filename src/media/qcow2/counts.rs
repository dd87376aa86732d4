//! The reference counts of a qcow2 image: how often each cluster of the file is used, and which one is free
//! (docs/interop/qcow2.txt, "Host cluster management"). Only an image that is written to needs them.
//!
//! Every change is in the file before the call returns, so what the caller does in a safe order is safe to be
//! killed between. At worst a cluster stays counted that nothing uses: a leak, which `qemu-img check` tells
//! and frees.

use super::super::file::{HostFile, be64};
use super::super::table::Table;
use super::header::{Header, LARGEST_COUNT_TABLE, PLACE};
use super::tables::Tables;
use std::collections::HashSet;
use std::io;

/// Bits of an entry that are the place of a block.
const BLOCK: u64 = !0x1ff;
/// Where the header has the refcount table's place (8 bytes) and its clusters (4).
const TABLE_FIELDS: u64 = 48;
/// Clusters behind the end of the file that may be counted: leaks of a program that died.
const LEAKS: u64 = 1 << 20;

/// The counts, and where they are.
pub(super) struct Counts {
    cluster_bits: u32,
    order: u32,
    at: u64,
    /// The refcount table: the place of each block, or 0.
    table: Vec<u64>,
    blocks: Tables,
    /// No cluster before this one is free.
    hint: u64,
    /// Clusters of the image's own structures. None of them is ever free or a guest's, whatever a damaged
    /// image says.
    own: HashSet<u64>,
}

impl Counts {
    /// Reads the refcount table.
    pub(super) fn read(file: &HostFile, header: &Header, l1: &mut Table<8>) -> io::Result<Self> {
        let cluster = 1u64 << header.cluster_bits;
        let mut bytes = vec![0; (u64::from(header.counts_clusters) * cluster) as usize];
        file.read(header.counts_at, &mut bytes)?;
        let table: Vec<u64> = (0..bytes.len() / 8).map(|n| be64(&bytes, n * 8) & BLOCK).collect();
        let mut own = HashSet::from([0]);
        let mut cover = |at: u64, len: u64| {
            own.extend(at >> header.cluster_bits..=(at + len.max(1) - 1) >> header.cluster_bits);
        };
        cover(header.counts_at, bytes.len() as u64);
        cover(header.l1_at, header.l1_len * 8);
        cover(header.snapshots_at, 1);
        table.iter().for_each(|at| cover(*at, 1));
        for n in 0..l1.len() {
            cover(u64::from_be_bytes(l1.get(file, n)?) & PLACE, 1);
        }
        Ok(Self {
            cluster_bits: header.cluster_bits,
            order: header.count_order,
            at: header.counts_at,
            table,
            blocks: Tables::new(cluster as usize, 0),
            hint: 0,
            own,
        })
    }

    fn cluster(&self) -> u64 {
        1 << self.cluster_bits
    }
    /// Counts in a block.
    fn per_block(&self) -> u64 {
        (self.cluster() * 8) >> self.order
    }

    /// Notes that the cluster at `at` is one of the image's own structures, or no longer.
    pub(super) fn claim(&mut self, at: u64, own: bool) {
        let n = at >> self.cluster_bits;
        if own {
            self.own.insert(n);
        } else {
            self.own.remove(&n);
        }
    }

    /// Whether the cluster at `at` holds structures of the image.
    pub(super) fn owns(&self, at: u64) -> bool {
        self.own.contains(&(at >> self.cluster_bits))
    }

    /// How often the cluster at `at` is used.
    pub(super) fn get(&mut self, file: &HostFile, at: u64) -> io::Result<u64> {
        let n = at >> self.cluster_bits;
        let block = self.table.get((n / self.per_block()) as usize).copied().unwrap_or(0);
        if block == 0 {
            return Ok(0);
        }
        let index = (n % self.per_block()) as usize;
        let order = self.order;
        let bytes = self.blocks.get(file, block)?;
        Ok(entry(bytes, order, index))
    }

    /// Sets the count of the cluster at `at`. The cluster's block exists: [`Counts::free`] has made it, or
    /// the count was not 0 before.
    fn set(&mut self, file: &mut HostFile, at: u64, count: u64) -> io::Result<()> {
        let n = at >> self.cluster_bits;
        let block = self.table.get((n / self.per_block()) as usize).copied().unwrap_or(0);
        if block == 0 {
            return Err(file.damaged("a cluster is used that no refcount block covers"));
        }
        let index = (n % self.per_block()) as usize;
        let order = self.order;
        let mut bytes = self.blocks.get(file, block)?.clone();
        let changed = put(&mut bytes, order, index, count);
        self.blocks.set(file, block, changed.start, &bytes[changed])
    }

    /// Counts the free cluster at `at` as used once.
    pub(super) fn take(&mut self, file: &mut HostFile, at: u64) -> io::Result<()> {
        self.set(file, at, 1)
    }

    /// Counts the cluster at `at` as used once less. Gives what is left.
    pub(super) fn drop_one(&mut self, file: &mut HostFile, at: u64) -> io::Result<u64> {
        let count = self.get(file, at)?;
        let Some(left) = count.checked_sub(1) else {
            return Err(file.damaged("a cluster in use is counted as free"));
        };
        self.set(file, at, left)?;
        if left == 0 {
            self.hint = self.hint.min(at >> self.cluster_bits);
        }
        Ok(left)
    }

    /// A cluster that is free. It stays so until it is taken.
    pub(super) fn free(&mut self, file: &mut HostFile) -> io::Result<u64> {
        let end = (file.len() >> self.cluster_bits) + LEAKS;
        loop {
            let block = (self.hint / self.per_block()) as usize;
            if block >= self.table.len() {
                self.grow(file)?;
                continue;
            }
            let at = self.hint << self.cluster_bits;
            if self.table[block] == 0 {
                // Where no block covers a cluster, none is used: the block is the first of those that it
                // counts.
                self.refuse_own(file, at)?;
                self.new_block(file, block, at)?;
            } else if self.get(file, at)? == 0 {
                self.refuse_own(file, at)?;
                return Ok(at);
            }
            if self.hint > end {
                return Err(file.damaged("its refcounts count far more clusters than it has"));
            }
            self.hint += 1;
        }
    }

    fn refuse_own(&self, file: &HostFile, at: u64) -> io::Result<()> {
        if self.owns(at) {
            return Err(
                file.damaged("a table of its own is counted as free; `qemu-img check -r all` may repair it")
            );
        }
        Ok(())
    }

    /// Makes a block at `at`, the first of the clusters that it counts or a later one; then it is entered.
    fn new_block(&mut self, file: &mut HostFile, block: usize, at: u64) -> io::Result<()> {
        let mut bytes = vec![0; self.cluster() as usize];
        let index = (at >> self.cluster_bits) % self.per_block();
        put(&mut bytes, self.order, index as usize, 1);
        self.blocks.forget(at);
        file.write(at, &bytes)?;
        file.write(self.at + block as u64 * 8, &at.to_be_bytes())?;
        self.table[block] = at;
        self.claim(at, true);
        Ok(())
    }

    /// Makes a larger refcount table. It lies behind all that the old one reaches, after the blocks that
    /// count it, and is whole before the header names it.
    fn grow(&mut self, file: &mut HostFile) -> io::Result<()> {
        let (cluster, per_block) = (self.cluster(), self.per_block());
        let old = self.table.len() as u64 * 8;
        let new = (old * 2).next_multiple_of(cluster);
        if new > LARGEST_COUNT_TABLE {
            return Err(io::Error::other(format!(
                "{}: the qcow2 image cannot grow any more",
                file.path().display()
            )));
        }
        let first_block = self.table.len();
        let start = first_block as u64 * per_block;
        let table_clusters = new / cluster;
        let mut blocks = 1;
        while blocks * per_block < blocks + table_clusters {
            blocks += 1;
        }
        for n in 0..blocks {
            let mut bytes = vec![0; cluster as usize];
            for index in 0..per_block.min((blocks + table_clusters).saturating_sub(n * per_block)) {
                put(&mut bytes, self.order, index as usize, 1);
            }
            file.write((start + n) << self.cluster_bits, &bytes)?;
        }
        let mut table = self.table.clone();
        table.resize((new / 8) as usize, 0);
        for n in 0..blocks {
            table[first_block + n as usize] = (start + n) << self.cluster_bits;
        }
        let bytes: Vec<u8> = table.iter().flat_map(|at| at.to_be_bytes()).collect();
        let at = (start + blocks) << self.cluster_bits;
        file.write(at, &bytes)?;
        let fields = [&at.to_be_bytes()[..], &(table_clusters as u32).to_be_bytes()].concat();
        file.write(TABLE_FIELDS, &fields)?;
        for n in start..start + blocks + table_clusters {
            self.blocks.forget(n << self.cluster_bits);
            self.own.insert(n);
        }
        self.table = table;
        let was = std::mem::replace(&mut self.at, at);
        for n in 0..old.div_ceil(cluster) {
            self.claim(was + n * cluster, false);
            self.drop_one(file, was + n * cluster)?;
        }
        Ok(())
    }
}

/// Entry `index` of a block whose entries have `1 << order` bits.
fn entry(block: &[u8], order: u32, index: usize) -> u64 {
    match order {
        0..=2 => {
            let bit = index << order;
            u64::from(block[bit / 8]) >> (bit % 8) & ((1 << (1 << order)) - 1)
        }
        _ => {
            let width = 1 << (order - 3);
            block[index * width..(index + 1) * width].iter().fold(0, |n, b| n << 8 | u64::from(*b))
        }
    }
}

/// Sets entry `index` of such a block. Gives the range of the bytes that changed.
fn put(block: &mut [u8], order: u32, index: usize, count: u64) -> std::ops::Range<usize> {
    if order < 3 {
        let bit = index << order;
        let mask = ((1u16 << (1 << order)) - 1) as u8;
        let byte = &mut block[bit / 8];
        *byte = *byte & !(mask << (bit % 8)) | (count as u8 & mask) << (bit % 8);
        return bit / 8..bit / 8 + 1;
    }
    let width = 1 << (order - 3);
    let range = index * width..(index + 1) * width;
    block[range.clone()].copy_from_slice(&count.to_be_bytes()[8 - width..]);
    range
}

#[cfg(test)]
mod tests {
    use super::{entry, put};

    #[test]
    fn counts_of_every_width_are_kept_apart() {
        for order in 0..=6 {
            let most = if order == 6 { u64::MAX } else { (1 << (1 << order)) - 1 };
            let mut block = [0; 64];
            for index in 0..(512 >> order) {
                put(&mut block, order, index, if index % 3 == 0 { most } else { 0 });
            }
            for index in 0..(512 >> order) {
                let expected = if index % 3 == 0 { most } else { 0 };
                assert_eq!(entry(&block, order, index), expected, "order {order}, entry {index}");
            }
        }
    }
}
