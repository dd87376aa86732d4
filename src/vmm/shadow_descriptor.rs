//! From the guest's descriptors to those that the real processor loads: privilege shifted, limits truncated,
//! and not present wherever a load has to be seen.

use super::invariants;
use super::layout;
use crate::cpu::Segment;
use crate::cpu::segment::{Descriptor, attr};

/// Attribute bits of the DPL.
const DPL: u16 = 0x60;
/// The DPL of ring 1.
const RING1: u16 = 0x20;

/// The ring whose code runs: code segments of the other one must not be entered unseen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ring {
    /// The guest's kernel, in ring 1.
    Kernel,
    /// The guest's user code, in ring 3.
    User,
}

/// The limit of a segment of the guest's so that no offset reaches the monitor's region; `None` if no limit
/// does that.
pub(super) fn truncated(base: u32, limit: u32, attr: u16) -> Option<u32> {
    invariants::truncation(base, limit, below_monitor(base, limit, attr))
}

fn below_monitor(base: u32, limit: u32, attr: u16) -> Option<u32> {
    if attr & (attr::CODE | attr::DC) == attr::DC {
        return expand_down_fits(base, limit, attr).then_some(limit);
    }
    let room = layout::BASE.checked_sub(base).filter(|room| *room > 0)?;
    if limit < room {
        return Some(limit);
    }
    // With page granularity a limit ends with a page.
    let room = if attr & attr::GRANULAR != 0 { room & !0xfff } else { room };
    room.checked_sub(1)
}

/// Whether an expand-down segment stays clear of the monitor's region: its limit is at the wrong end to be
/// truncated.
fn expand_down_fits(base: u32, limit: u32, attr: u16) -> bool {
    let top: u64 = if attr & attr::BIG != 0 { 0xffff_ffff } else { 0xffff };
    if u64::from(limit) >= top {
        return true;
    }
    let first = u64::from(limit) + 1;
    let start = (u64::from(base) + first) & 0xffff_ffff;
    let end = start + (top - first);
    end < u64::from(layout::BASE)
}

/// The attributes of a guest segment in the real processor: ring 0 becomes ring 1, but for conforming code,
/// which runs in the ring of its caller.
pub(super) fn shifted(attr: u16) -> u16 {
    let conforming = attr & (attr::CODE | attr::DC) == attr::CODE | attr::DC;
    if attr & attr::USER != 0 && attr & DPL == 0 && !conforming { attr | RING1 } else { attr }
}

/// A segment register of the guest's as the real processor holds it; `None` if it cannot.
pub(super) fn segment(s: &Segment, selector: u16) -> Option<Segment> {
    if !s.usable() {
        return Some(Segment::null(s.selector.0));
    }
    let limit = truncated(s.base, s.limit, s.attr)?;
    Some(Segment::with(selector, s.base, limit, shifted(s.attr)))
}

/// The real descriptor for the guest's `d` while `ring` runs; `loadable` says whether a load may go unseen as
/// far as the guest's page tables are concerned.
pub(super) fn descriptor(d: Descriptor, ring: Ring, loadable: bool) -> Descriptor {
    let a = d.attr();
    let limit = if d.is_segment() { truncated(d.base(), d.limit(), a) } else { None };
    let Some(limit) = limit else { return encode(d, d.limit(), a & !attr::PRESENT) };
    let unseen = loadable && a & attr::ACCESSED != 0 && (!d.is_code() || enters_unseen(d, ring));
    let a = if unseen { a } else { a & !attr::PRESENT };
    encode(d, limit, shifted(a))
}

/// Whether a transfer to this code segment keeps the ring that runs, and is allowed where the guest allows
/// it.
fn enters_unseen(d: Descriptor, ring: Ring) -> bool {
    match ring {
        Ring::Kernel => d.dpl() == 0,
        Ring::User => d.is_conforming() || d.dpl() == 3 || d.dpl() == 0,
    }
}

fn encode(d: Descriptor, limit: u32, a: u16) -> Descriptor {
    let raw = if a & attr::GRANULAR != 0 { limit >> 12 } else { limit };
    let keep = d.0 & 0xff00_00ff_ffff_0000;
    let limit = u64::from(raw & 0xffff) | u64::from(raw >> 16 & 0xf) << 48;
    Descriptor(keep | limit | u64::from(a & 0xff) << 40 | u64::from(a >> 8 & 0xf) << 52)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLAT_CODE: Descriptor = Descriptor(0x00cf_9b00_0000_ffff);
    const FLAT_USER_CODE: Descriptor = Descriptor(0x00cf_fb00_0000_ffff);

    #[test]
    fn a_flat_segment_ends_below_the_monitor() {
        let d = descriptor(FLAT_CODE, Ring::Kernel, true);
        assert_eq!((d.base(), d.limit(), d.dpl(), d.present()), (0, layout::BASE - 1, 1, true));
    }

    #[test]
    fn code_of_the_other_ring_is_not_there() {
        assert!(!descriptor(FLAT_USER_CODE, Ring::Kernel, true).present());
        assert!(descriptor(FLAT_USER_CODE, Ring::User, true).present());
        let fresh = Descriptor(FLAT_CODE.0 & !(1 << 40));
        assert!(!descriptor(fresh, Ring::Kernel, true).present(), "the load sets the guest's accessed bit");
    }

    #[test]
    fn descriptors_that_fit_stay_as_they_are() {
        let d = Descriptor(0x1240_f334_5678_9abc);
        assert_eq!(descriptor(d, Ring::User, true), d);
    }

    #[test]
    fn a_base_inside_the_region_has_no_limit() {
        assert_eq!(truncated(layout::BASE, 0xffff, 0x93), None);
        assert_eq!(truncated(layout::BASE - 1, 0xffff, 0x93), Some(0));
        assert_eq!(truncated(0xff00_0123, !0, 0xc93), Some(0xbf_efff));
    }

    #[test]
    fn expand_down_segments_cannot_be_truncated() {
        assert_eq!(truncated(0, 0xfff, 0x97), Some(0xfff), "16-bit: up to 64 KiB");
        assert_eq!(truncated(0, 0xfff, 0xc97), None, "32-bit: up to 4 GiB");
        assert_eq!(truncated(0, 0xffff_ffff, 0xc97), Some(!0), "empty");
    }
}
