//! What firmware and boot loaders leave for a kernel beyond what its boot protocol promises. GRUB starts a Multiboot
//! kernel with an initialised FPU and with a GDT of its own in memory below 1 MiB: kernels that reload a selector
//! before their first LGDT live there, though the specification says that GDTR may be invalid (3.2).

use super::guest::Around;
use super::part::Part;
use crate::addr::GuestPhys;

/// The state that a loader leaves. The FPU is initialised, as by FNINIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoaderState {
    /// Where the loader's GDT lies, if there is room for it.
    pub gdt: Option<u32>,
}

/// Null; 08h: code, 10h: data; flat, 32-bit, ring 0, not yet accessed.
const DESCRIPTORS: [u64; 3] = [0, 0x00cf_9a00_0000_ffff, 0x00cf_9200_0000_ffff];
/// The bit that the processor sets in a descriptor when a selector of it is loaded (SDM volume 3, 3.4.5.1).
const ACCESSED: u64 = 1 << 40;
/// Where the table lies in a machine with all of its low memory: in the extended BIOS data area, which the memory map
/// calls reserved.
const IN_EBDA: u32 = 0x9_fe00;
/// Where conventional memory ends.
const LOW_ALL: u32 = 0xa_0000;

/// Bytes to be stored, and where.
type Stored = (GuestPhys, Vec<u8>);

impl LoaderState {
    /// GDTR's limit.
    pub(super) const LIMIT: u16 = 8 * DESCRIPTORS.len() as u16 - 1;
    /// Bytes below the end of a small memory that are kept for the table.
    pub(super) const ROOM: u32 = 0x20;

    /// The state for an image of `parts`, with what is to be stored for it; none under `--strict`.
    pub(super) fn of(around: &Around, parts: &[Part<'_>]) -> Option<(Self, Option<Stored>)> {
        if around.strict {
            return None;
        }
        let at = if around.mem >= LOW_ALL { IN_EBDA } else { (around.mem - Self::ROOM) & !0xf };
        let end = u64::from(at + Self::ROOM);
        if parts.iter().any(|p| u64::from(p.at) < end && p.end() > u64::from(at)) {
            return Some((Self { gdt: None }, None));
        }
        let table = DESCRIPTORS.iter().flat_map(|d| d.to_le_bytes()).collect();
        Some((Self { gdt: Some(at) }, Some((GuestPhys(at), table))))
    }

    /// A note if a selector of the loader's GDT was loaded, as `read` shows its memory: the processor has marked the
    /// descriptor as accessed.
    pub fn note(&self, read: impl Fn(u32, &mut [u8])) -> Option<String> {
        let at = self.gdt?;
        let used = (0u32..).zip(DESCRIPTORS).skip(1).find(|(n, descriptor)| {
            let mut bytes = [0; 8];
            read(at + 8 * n, &mut bytes);
            u64::from_le_bytes(bytes) == descriptor | ACCESSED
        });
        let (n, _) = used?;
        Some(format!(
            "the guest loaded the selector {:02x}h from the GDT that boot loaders leave, which its boot protocol does not \
             promise: load a GDT of your own first (--strict runs the guest without it)",
            8 * n
        ))
    }
}
