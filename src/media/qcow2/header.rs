//! The header of a qcow2 image and its extensions (docs/interop/qcow2.txt of QEMU, "Header", "Header
//! extensions"). Every field is checked here, so that what uses it need not; what is not built is refused by
//! name.

use super::super::file::{HostFile, be32, be64};
use super::super::format::ImageFormat;
use super::super::unpack::Packing;
use crate::error::{Error, Result};

const DIRTY: u64 = 1 << 0;
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;
const COMPRESSION_TYPE: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;
const EXTENSION_END: u32 = 0;
const EXTENSION_BACKING_FORMAT: u32 = 0xe279_2aca;
/// The largest image that is opened: 128 GiB, what LBA28 reaches. With it, an L1 table has 4 million entries
/// at most.
const LARGEST: u64 = 128 << 30;
/// Bits of an L1 or L2 entry that are a place in the file.
pub(super) const PLACE: u64 = 0x00ff_ffff_ffff_fe00;
/// The largest refcount table, as QEMU has it.
pub(super) const LARGEST_COUNT_TABLE: u64 = 8 << 20;
/// The longest name of a backing file.
const LONGEST_NAME: usize = 1023;

/// The fields of the header, checked.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) version: u32,
    pub(super) cluster_bits: u32,
    /// Bytes of the disk.
    pub(super) size: u64,
    pub(super) l1_at: u64,
    /// Entries that the disk's size needs.
    pub(super) l1_len: u64,
    pub(super) counts_at: u64,
    pub(super) counts_clusters: u32,
    /// The width of a refcount is 2 to this power, in bits.
    pub(super) count_order: u32,
    pub(super) snapshots_at: u64,
    /// Whether an autoclear feature is on, which a writer that does not know it must switch off.
    pub(super) autoclear: bool,
    pub(super) packing: Packing,
    pub(super) backing: Option<(String, Option<ImageFormat>)>,
}

impl Header {
    /// Reads and checks the header of `file`.
    ///
    /// # Errors
    /// [`Error::Image`] with what is wrong, or not built.
    pub(super) fn read(file: &HostFile, write: bool) -> Result<Self> {
        let damaged = |what: &str| Error::image(file.path(), format!("the qcow2 image is damaged: {what}"));
        let refuse = |what: String| Err(Error::image(file.path(), what));
        let head = file.part(0, 112)?;
        if head.len() < 72 || !head.starts_with(b"QFI\xfb") {
            return refuse("it is no qcow2 image, or only the beginning of one".into());
        }
        let version = be32(&head, 4);
        if !(2..=3).contains(&version) {
            return refuse(format!("the image is of version {version} of qcow: 2 and 3 are read"));
        }
        if version == 3 && head.len() < 104 {
            return Err(damaged("its header is cut short"));
        }
        let v3 = |at: usize| if version == 3 { be64(&head, at) } else { 0 };
        let incompatible = v3(72);
        check_features(file, incompatible, write)?;
        let cluster_bits = be32(&head, 20);
        if !(9..=21).contains(&cluster_bits) {
            return Err(damaged("its clusters are not of 512 bytes to 2 MiB"));
        }
        if be32(&head, 32) != 0 {
            return refuse(
                "the qcow2 image is encrypted, and that is not built: decrypt it with `qemu-img convert`"
                    .into(),
            );
        }
        let cluster = 1u64 << cluster_bits;
        let size = be64(&head, 24);
        if size > LARGEST {
            return refuse("the disk is larger than 128 GiB, the most that LBA28 can address".into());
        }
        let (l1_at, counts_at) = (be64(&head, 40), be64(&head, 48));
        let l1_len = size.div_ceil(cluster * cluster / 8);
        if u64::from(be32(&head, 36)) < l1_len || (l1_len != 0 && !in_file(file, l1_at, cluster)) {
            return Err(damaged("its L1 table is too short or lies outside the file"));
        }
        let counts_clusters = be32(&head, 56);
        if counts_clusters == 0
            || u64::from(counts_clusters) * cluster > LARGEST_COUNT_TABLE
            || !in_file(file, counts_at, cluster)
        {
            return Err(damaged("its refcount table is empty, too large or lies outside the file"));
        }
        let count_order = if version == 3 { be32(&head, 96) } else { 4 };
        if count_order > 6 {
            return Err(damaged("its refcounts are wider than 64 bits"));
        }
        let header_len = if version == 3 { u64::from(be32(&head, 100)) } else { 72 };
        if header_len > cluster || (version == 3 && (header_len < 104 || header_len % 8 != 0)) {
            return Err(damaged("its header's length makes no sense"));
        }
        let packing = match head.get(104).filter(|_| header_len > 104) {
            Some(0) | None => Packing::Deflate,
            Some(1) => Packing::Zstd,
            Some(n) => {
                return refuse(format!(
                    "the qcow2 image is compressed by method {n}: zlib and zstd are read"
                ));
            }
        };
        if (packing == Packing::Zstd) != (incompatible & COMPRESSION_TYPE != 0) {
            return Err(damaged("two fields disagree about the kind of compression"));
        }
        Ok(Self {
            version,
            cluster_bits,
            size,
            l1_at,
            l1_len,
            counts_at,
            counts_clusters,
            count_order,
            snapshots_at: if be32(&head, 60) == 0 { 0 } else { be64(&head, 64) },
            autoclear: v3(88) != 0,
            packing,
            backing: backing(file, &head, header_len, cluster)?,
        })
    }
}

/// A table begins at the begin of a cluster within the file.
fn in_file(file: &HostFile, at: u64, cluster: u64) -> bool {
    at != 0 && at.is_multiple_of(cluster) && at < file.len()
}

fn check_features(file: &HostFile, incompatible: u64, write: bool) -> Result<()> {
    let refuse = |what: &str| Err(Error::image(file.path(), what));
    if incompatible & EXTERNAL_DATA != 0 {
        return refuse(
            "the qcow2 image has its data in an external file, and that is not built: convert it with `qemu-img convert`",
        );
    }
    if incompatible & EXTENDED_L2 != 0 {
        return refuse(
            "the qcow2 image has extended L2 entries, and those are not built: convert it with `qemu-img convert`",
        );
    }
    let known = DIRTY | CORRUPT | EXTERNAL_DATA | COMPRESSION_TYPE | EXTENDED_L2;
    if incompatible & !known != 0 {
        let bit = (incompatible & !known).trailing_zeros();
        return Err(Error::image(
            file.path(),
            format!("the qcow2 image has a feature that this program does not know: incompatible bit {bit}"),
        ));
    }
    if write && incompatible & CORRUPT != 0 {
        return refuse(
            "the qcow2 image is marked as corrupt: repair it with `qemu-img check -r all`, or give --snapshot to read it as it is",
        );
    }
    if write && incompatible & DIRTY != 0 {
        return refuse(
            "the qcow2 image was not closed and its refcounts are stale: repair it with `qemu-img check -r all`, or give --snapshot",
        );
    }
    Ok(())
}

/// The backing file's name, and its format where an extension tells it.
fn backing(
    file: &HostFile,
    head: &[u8],
    header_len: u64,
    cluster: u64,
) -> Result<Option<(String, Option<ImageFormat>)>> {
    let damaged = |what: &str| Error::image(file.path(), format!("the qcow2 image is damaged: {what}"));
    let (at, len) = (be64(head, 8), be32(head, 16) as usize);
    if at == 0 {
        return Ok(None);
    }
    if len == 0 || len > LONGEST_NAME || at > cluster - len as u64 {
        return Err(damaged("the name of its backing file is too long or lies outside the first cluster"));
    }
    let first = file.part(0, cluster)?;
    let Some(name) = first.get(at as usize..at as usize + len) else {
        return Err(damaged("the name of its backing file is cut short"));
    };
    let Ok(name) = std::str::from_utf8(name) else {
        return Err(damaged("the name of its backing file is no text"));
    };
    let mut format = None;
    let mut next = header_len as usize;
    while let Some(extension) = first.get(next..next + 8).filter(|_| next + 8 <= at as usize) {
        let (kind, len) = (be32(extension, 0), be32(extension, 4) as usize);
        if kind == EXTENSION_END {
            break;
        }
        let Some(data) = first.get(next + 8..).and_then(|rest| rest.get(..len)) else {
            return Err(damaged("a header extension is cut short"));
        };
        if kind == EXTENSION_BACKING_FORMAT {
            let told = String::from_utf8_lossy(data);
            format = ImageFormat::named(&told);
            if format.is_none() {
                let reason =
                    format!("its backing file is of format `{told}`: raw, qcow2, vpc and vmdk are read");
                return Err(Error::image(file.path(), reason));
            }
        }
        next += 8 + len.next_multiple_of(8);
    }
    Ok(Some((name.to_owned(), format)))
}
