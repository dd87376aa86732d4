//! The memory map that kernels are told of, as function E820 of INT 15h would give it.

/// End of usable low memory; the firmware's data area follows.
pub(super) const LOW_END: u32 = 0x9_fc00;
/// End of the memory below the VGA window.
const LOW_ALL: u32 = 0xa_0000;
const BIOS: u32 = 0xf_0000;
/// Where memory above the first megabyte starts.
pub(super) const HIGH: u32 = 0x10_0000;
/// The ROM below 4 GiB.
const TOP_ROM: u32 = 0xfffc_0000;

/// A range of the memory map, as function E820 of INT 15h gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    /// First byte.
    pub(super) base: u32,
    /// Bytes.
    pub(super) len: u32,
    /// RAM, else reserved.
    pub(super) usable: bool,
}

/// The memory map of a machine with `mem` bytes.
pub(super) fn memory_map(mem: u32) -> Vec<Range> {
    let range = |base, end: u32, usable| Range { base, len: end - base, usable };
    let mut map = vec![range(0, mem.min(LOW_END), true)];
    if mem >= LOW_ALL {
        map.push(range(LOW_END, LOW_ALL, false));
    }
    map.push(range(BIOS, HIGH, false));
    if mem > HIGH {
        map.push(range(HIGH, mem, true));
    }
    map.push(Range { base: TOP_ROM, len: TOP_ROM.wrapping_neg(), usable: false });
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_memory_map_leaves_out_what_is_not_there() {
        assert_eq!(memory_map(0x1_0000)[0], Range { base: 0, len: 0x1_0000, usable: true });
        let map = memory_map(32 << 20);
        assert_eq!(map.len(), 5);
        assert_eq!(map[3], Range { base: HIGH, len: 31 << 20, usable: true });
        assert_eq!(map[4].len, 0x4_0000);
    }
}
