//! RAM as one mapping, and which of its bytes hold decoded code.
//!
//! The decode cache marks the 64-byte chunks that it decoded from. A write that meets a marked chunk moves the
//! page's *generation* on and clears its marks: every cached trace of that page is then stale, since it names the
//! old generation. This is the one place where self-modifying code is noticed.

use super::P2m;
use crate::addr::{MachineAddr, PAGE_SHIFT, PAGE_SIZE};
use crate::error::{Error, Result};
use memmap2::MmapMut;
use serde::{Deserialize, Serialize};

/// log2 of the granularity at which code is marked.
const CHUNK_SHIFT: u32 = 6;

/// The machine's RAM from address 0 up, and its code marks. Guest RAM is all of it, or under a monitor the frames that
/// a [`P2m`] names.
pub struct Ram {
    bytes: MmapMut,
    /// What `bytes` maps, if it can be mapped a second time.
    object: Option<std::fs::File>,
    /// Per page: one bit per 64-byte chunk that decoded code came from.
    code: Vec<u64>,
    /// Per page: moves on when marked bytes change.
    generation: Vec<u32>,
    /// Set by a write that made decoded code stale; the run loop clears it.
    code_changed: bool,
    /// Moves on with each change of decoded code.
    code_epoch: u32,
    /// Per page: it was written since writes are looked for, or they are not.
    written: Vec<bool>,
}

/// RAM in a saved state: the pages that are not all zero.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    size: u32,
    pages: Vec<Page>,
}

/// A page and its number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Page {
    number: u32,
    #[serde(with = "crate::saved::bytes")]
    bytes: Vec<u8>,
}

impl Saved {
    /// RAM of `size` bytes of which nothing is saved.
    pub fn nothing(size: u32) -> Self {
        Self { size, pages: Vec::new() }
    }
    /// Bytes of RAM.
    pub fn size(&self) -> u32 {
        self.size
    }
}

impl Ram {
    /// The largest RAM: 3 GiB, below the region of chips and firmware.
    pub const MAX: u32 = 3 << 30;

    /// RAM of `size` bytes, all zero; a multiple of the page size between 64 KiB and 3 GiB.
    ///
    /// # Errors
    /// [`Error::Usage`] for a size out of range, [`Error::Host`] when the host cannot map it.
    pub fn new(size: u32) -> Result<Self> {
        if !size.is_multiple_of(PAGE_SIZE) || !(0x1_0000..=Self::MAX).contains(&size) {
            return Err(Error::Usage(format!(
                "a memory size of {size} bytes cannot be built: give a multiple of 4 KiB from 64K to 3G"
            )));
        }
        Self::of_pages(size >> PAGE_SHIFT)
    }

    /// RAM of `pages` pages, all zero: a machine that holds a guest and its monitor.
    ///
    /// # Errors
    /// [`Error::Host`] when the host cannot map it.
    pub fn of_pages(pages: u32) -> Result<Self> {
        Ok(Self::over(map_anonymous((pages << PAGE_SHIFT) as usize)?, None))
    }

    /// `pages` zeroed pages of an object that can be mapped a second time, see [`Ram::object`]. A page that was never
    /// written costs the host a frame when it is read there; in other RAM it costs nothing.
    ///
    /// # Errors
    /// [`Error::Host`] when the host cannot map it.
    pub fn mappable(pages: u32) -> Result<Self> {
        let (bytes, object) = map_object((pages << PAGE_SHIFT) as usize)?;
        Ok(Self::over(bytes, Some(object)))
    }

    fn over(bytes: MmapMut, object: Option<std::fs::File>) -> Self {
        let pages = bytes.len() >> PAGE_SHIFT;
        Self {
            bytes,
            object,
            code: vec![0; pages],
            generation: vec![0; pages],
            code_changed: false,
            code_epoch: 0,
            written: vec![true; pages],
        }
    }

    /// The object that can be mapped a second time: RAM's bytes from offset 0 up; none but in [`Ram::mappable`] RAM. A
    /// store through such a mapping owes [`Ram::touch`], or pages with code are mapped read-only.
    pub fn object(&self) -> Option<&std::fs::File> {
        self.object.as_ref()
    }

    /// Size in bytes.
    #[inline(always)]
    pub fn size(&self) -> u32 {
        self.bytes.len() as u32
    }

    /// Whether `len` bytes from `at` are all RAM.
    #[inline(always)]
    pub fn holds(&self, at: MachineAddr, len: u32) -> bool {
        u64::from(at.0) + u64::from(len) <= self.bytes.len() as u64
    }

    /// All of RAM, to read.
    #[inline(always)]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// RAM without the code check: only for pages known to hold no marked code.
    #[inline(always)]
    pub fn bytes_unmarked_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Copies RAM from `at` on into `buf`; bytes beyond RAM read as ones.
    pub fn read(&self, at: MachineAddr, buf: &mut [u8]) {
        let start = (at.0 as usize).min(self.bytes.len());
        let held = buf.len().min(self.bytes.len() - start);
        let (in_ram, beyond) = buf.split_at_mut(held);
        in_ram.copy_from_slice(&self.bytes[start..start + held]);
        beyond.fill(0xff);
    }

    /// Copies `data` into RAM from `at` on, noticing changed code; bytes beyond RAM are dropped.
    pub fn write(&mut self, at: MachineAddr, data: &[u8]) {
        let start = (at.0 as usize).min(self.bytes.len());
        let end = (start + data.len()).min(self.bytes.len());
        if start == end {
            return;
        }
        self.bytes[start..end].copy_from_slice(&data[..end - start]);
        let mut a = start as u32;
        while (a as usize) < end {
            let next = ((a >> PAGE_SHIFT) + 1) << PAGE_SHIFT;
            let stop = (next as usize).min(end) as u32;
            self.touch(MachineAddr(a), stop - a);
            a = stop;
        }
    }

    /// Notes that `len` bytes at `at`, within one page, changed.
    #[inline]
    pub fn touch(&mut self, at: MachineAddr, len: u32) {
        let page = at.page_number() as usize;
        self.written[page] = true;
        if self.code[page] & chunks(at, len) != 0 {
            self.stale(page);
        }
    }

    /// Whether writes to the page of `at` need not be looked for: it was written already, or nobody asks.
    #[inline(always)]
    pub fn is_written(&self, at: MachineAddr) -> bool {
        self.written.get(at.page_number() as usize).copied().unwrap_or(true)
    }

    /// The pages written since this was last called (at first: all of them), by number; from now on the next ones are
    /// looked for. Writes that bypass [`Ram::touch`] must be kept off the pages that [`Ram::is_written`] denies.
    pub fn take_written(&mut self) -> Vec<u32> {
        const RUN: usize = 64;
        let mut found = Vec::new();
        for (run, pages) in self.written.chunks_mut(RUN).enumerate() {
            // Mostly there is none.
            if pages.iter().fold(false, |any, written| any | written) {
                let pages = (run * RUN..).zip(pages);
                found.extend(pages.filter_map(|(n, written)| std::mem::take(written).then_some(n as u32)));
            }
        }
        found
    }

    #[cold]
    fn stale(&mut self, page: usize) {
        self.code[page] = 0;
        self.generation[page] = self.generation[page].wrapping_add(1);
        self.code_changed = true;
        self.code_epoch = self.code_epoch.wrapping_add(1);
    }

    /// The page at `at`, its first byte.
    pub fn page(&self, at: MachineAddr) -> &[u8] {
        &self.bytes[at.0 as usize..][..PAGE_SIZE as usize]
    }

    /// The guest's content.
    pub fn save(&self, map: &P2m) -> Saved {
        let zero = [0; PAGE_SIZE as usize];
        let pages = (0u32..).zip(map.frames().map(|at| self.page(at))).filter(|(_, page)| **page != zero);
        Saved {
            size: map.size(),
            pages: pages.map(|(number, page)| Page { number, bytes: page.to_vec() }).collect(),
        }
    }

    /// Takes that content back; all decoded code is stale.
    ///
    /// # Errors
    /// [`Error::Usage`] when `saved` is of RAM of another size.
    pub fn restore(&mut self, saved: &Saved, map: &P2m) -> Result<()> {
        let whole = |p: &Page| p.bytes.len() == PAGE_SIZE as usize && p.number < map.size() >> PAGE_SHIFT;
        if saved.size != map.size() || !saved.pages.iter().all(whole) {
            return Err(Error::Usage(format!(
                "a state with {} bytes of memory does not go into a machine with {}",
                saved.size,
                map.size()
            )));
        }
        let mut pages = saved.pages.iter().peekable();
        for (number, at) in (0u32..).zip(map.frames()) {
            let bytes = &mut self.bytes[at.0 as usize..][..PAGE_SIZE as usize];
            match pages.next_if(|p| p.number == number) {
                Some(page) => bytes.copy_from_slice(&page.bytes),
                // Memory that was never written stays untouched: the host need not provide it.
                None if bytes.iter().any(|b| *b != 0) => bytes.fill(0),
                None => {}
            }
        }
        for page in 0..self.code.len() {
            if self.code[page] != 0 {
                self.stale(page);
            }
        }
        Ok(())
    }

    /// Marks `len` bytes at `at`, within one page, as decoded code. Returns whether the page had no marks before.
    pub fn mark_code(&mut self, at: MachineAddr, len: u32) -> bool {
        let marks = &mut self.code[at.page_number() as usize];
        let first = *marks == 0;
        *marks |= chunks(at, len);
        first
    }

    /// Whether any code of the page of `at` is marked.
    #[inline(always)]
    pub fn has_code(&self, at: MachineAddr) -> bool {
        self.code[at.page_number() as usize] != 0
    }

    /// The generation of the page of `at`; 0 outside RAM.
    #[inline(always)]
    pub fn generation(&self, at: MachineAddr) -> u32 {
        self.generation.get(at.page_number() as usize).copied().unwrap_or(0)
    }

    /// Whether decoded code went stale since this was last asked.
    #[inline(always)]
    pub fn code_changed(&self) -> bool {
        self.code_changed
    }

    /// Moves on each time that decoded code goes stale, whoever was told.
    #[inline(always)]
    pub fn code_epoch(&self) -> u32 {
        self.code_epoch
    }

    /// Clears [`Ram::code_changed`].
    pub fn clear_code_changed(&mut self) {
        self.code_changed = false;
    }
}

/// The chunk bits of `len` bytes at `at`, within one page.
fn chunks(at: MachineAddr, len: u32) -> u64 {
    let first = at.page_offset() >> CHUNK_SHIFT;
    let last = (at.page_offset() + len - 1) >> CHUNK_SHIFT;
    (u64::MAX >> (63 - last)) & (u64::MAX << first)
}

/// Maps `size` zeroed bytes of a memfd, so that the same frames can be mapped twice.
fn map_object(size: usize) -> Result<(MmapMut, std::fs::File)> {
    let host = |source| Error::Host { action: "allocate guest memory", source };
    let fd = rustix::fs::memfd_create("subring-ram", rustix::fs::MemfdFlags::CLOEXEC)
        .map_err(|e| host(e.into()))?;
    let file = std::fs::File::from(fd);
    file.set_len(size as u64).map_err(host)?;
    // SAFETY: the memfd is private to this process, and its descriptor is dropped by the caller or lent to a second
    // mapping only, so nothing truncates it while it is mapped.
    let bytes = unsafe { MmapMut::map_mut(&file) }.map_err(host)?;
    Ok((bytes, file))
}

/// Maps `size` zeroed bytes, which cost the host nothing before they are written.
fn map_anonymous(size: usize) -> Result<MmapMut> {
    MmapMut::map_anon(size).map_err(|source| Error::Host { action: "allocate guest memory", source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_to_marked_code_moves_the_generation() {
        let mut ram = Ram::new(0x10000).unwrap();
        assert!(ram.mark_code(MachineAddr(0x1040), 4));
        ram.write(MachineAddr(0x1000), &[1; 64]);
        assert!(!ram.code_changed(), "the chunk before is not code");
        ram.write(MachineAddr(0x0ffe), &[1; 0x43]);
        assert!(ram.code_changed());
        assert_eq!(ram.generation(MachineAddr(0x1fff)), 1);
        assert!(!ram.has_code(MachineAddr(0x1000)));
    }

    #[test]
    fn accesses_beyond_ram_read_ones_and_drop_writes() {
        let mut ram = Ram::new(0x10000).unwrap();
        ram.write(MachineAddr(0xfffe), &[1, 2, 3, 4]);
        let mut buf = [0; 4];
        ram.read(MachineAddr(0xfffe), &mut buf);
        assert_eq!(buf, [1, 2, 0xff, 0xff]);
        ram.write(MachineAddr(0xffff_0000), &[1]);
    }
}
