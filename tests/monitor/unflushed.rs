//! Guests that change a page-table entry in use and go on without a flush. The architecture leaves open which entry counts then (SDM
//! vol. 3, 4.10.4), so that they may part from the bare machine; where they do, the lab says that it is this, and of a bug it does not.

use super::flat::{self, CODE};
use super::kernel::code::Code;
use super::pair::{BT_VTLB, CELLS, Cell, Staleness, TRACE, TRAPS, Tested, VTLB};
use crate::vmm::bug::{self, Bug};
use subring::lab::compare::boundaries::{self, Compared};
use subring::lab::compare::diagnosis::{HELD, LEFT_OPEN};
use subring::lab::compare::{Divergence, strides};

/// The page table, and its directory.
const TABLE: u32 = 0x9000;
const DIRECTORY: u32 = 0x8000;

/// A page that the guests change, another place at which it is seen, and the frame that they give it.
const PAGE: u32 = 0x5_0000;
const ALIAS: u32 = PAGE + 0x40_0000;
const OTHER: u32 = 0x5_1000;

/// The address of the entry of a page below 4 MiB.
pub(super) const fn entry(page: u32) -> u32 {
    TABLE + page / 4096 * 4
}

/// Turns paging on, one to one, all present and writable, the first 4 MiB and once more the next; then does `then`, and goes round in a
/// circle: to halt is privileged, and the monitor would walk to the instruction.
pub(super) fn guest(then: impl FnOnce(&mut Code)) -> Vec<u8> {
    let mut c = Code::new(CODE);
    c.edi(TABLE);
    c.put32(&[0xb8], 3); // MOV EAX, 3
    c.put32(&[0xb9], 1024); // MOV ECX, 1024
    c.put(&[0xab]); // fill: STOSD
    c.put32(&[0x05], 4096); // ADD EAX, 4096
    c.put(&[0xe2, 0xf8]); // LOOP fill
    c.store(DIRECTORY, TABLE | 3);
    c.store(DIRECTORY + 4, TABLE | 3);
    c.load_cr3(DIRECTORY);
    c.load_cr0(0x8001_0011);
    then(&mut c);
    c.put(&[0xeb, 0xfe]); // JMP $
    c.bytes
}

/// MOV EAX, [at].
fn read(c: &mut Code, at: u32) {
    c.put32(&[0xa1], at);
}

/// INVLPG [at].
fn invlpg(c: &mut Code, at: u32) {
    c.put32(&[0x0f, 0x01, 0x3d], at);
}

/// Takes the accessed bit from the page that it stands on, which the bare machine's TLB has.
fn ages() -> Vec<u8> {
    guest(|c| {
        c.store(entry(CODE), CODE | 3);
        c.put(&[0x90]); // NOP
    })
}

/// Does that to another page, and flushes it before it uses it.
fn ages_and_flushes() -> Vec<u8> {
    guest(|c| {
        read(c, PAGE);
        c.store(entry(PAGE), PAGE | 3);
        invlpg(c, PAGE);
        read(c, PAGE);
    })
}

/// Gives the page another frame, does `between`, and reads it.
fn remaps(between: fn(&mut Code)) -> Vec<u8> {
    guest(|c| {
        c.store(PAGE, 1);
        c.store(entry(PAGE), OTHER | 3);
        between(c);
        read(c, PAGE);
    })
}

/// It flushes the page in between.
fn remaps_and_flushes() -> Vec<u8> {
    remaps(|c| invlpg(c, PAGE))
}

/// It uses a page in between that takes the other one's place in the bare machine's TLB.
fn displaces() -> Vec<u8> {
    remaps(|c| read(c, ALIAS))
}

/// Takes its own page away, with its IDT, and gives it back; the bare machine's TLB has it all the while.
fn leaves() -> Vec<u8> {
    guest(|c| {
        c.store(PAGE, (CODE & 0xffff) << 16 | 0x7ff);
        c.store(PAGE + 4, CODE >> 16);
        c.put32(&[0x0f, 0x01, 0x1d], PAGE); // LIDT [PAGE]
        c.store(entry(CODE), CODE | 2);
        c.put(&[0x43]); // INC EBX
        c.store(entry(CODE), CODE | 3);
    })
}

/// Instructions after which each of them is at its end.
const ENOUGH: u64 = 4000;

/// At each boundary.
fn compare(code: &[u8], cell: Cell) -> Compared {
    boundaries::compare(|| Ok(cell.guests(5, || flat::machine(code))), ENOUGH, |_| true)
        .expect("it can be made")
}

/// In strides.
fn stride(code: &[u8], cell: Cell) -> Option<Divergence> {
    let (mut bare, mut other) = cell.guests(5, || flat::machine(code));
    strides::first_divergence(&mut bare, &mut other, ENOUGH, |_| true).expect("it can be put back")
}

#[track_caller]
fn left_open(d: &Divergence, piece: &str, values: [&str; 2]) {
    assert!(d.why.starts_with(LEFT_OPEN), "{d:?}");
    let found = &d.differences[0];
    assert_eq!(
        (found.piece.as_str(), [found.first.as_str(), found.second.as_str()]),
        (piece, values),
        "{d:?}"
    );
    assert!(!d.sensitive_unprivileged, "{d:?}");
}

#[test]
fn a_trace_sees_what_a_tlb_does_not() {
    for cell in CELLS {
        let Compared { divergence, same, .. } = compare(&ages(), cell);
        match cell.staleness() {
            Staleness::UntilFlushed | Staleness::AsTlb => {
                assert!(same && divergence.is_none(), "{cell}: {divergence:?}")
            }
            Staleness::Never => {
                let at = format!("memory at {:#010x}", entry(CODE));
                for d in [divergence, stride(&ages(), cell)] {
                    let d = d.expect("the page is walked again");
                    left_open(&d, &at, ["03", "23"]);
                    let named = format!(
                        "the page-table entry at {:#010x}, for the page at {CODE:#010x}",
                        entry(CODE)
                    );
                    assert!(d.why.ends_with(&named), "{cell}: {d:?}");
                    assert_eq!(d.disassembly, "nop", "{cell}: {d:?}");
                }
            }
        }
    }
}

/// There is no way on for the monitor's guest, and no other sentence for it; the instruction is shown though its page is gone.
#[test]
fn a_guest_that_takes_its_own_page_is_told_of_it() {
    for cell in CELLS {
        let Compared { divergence, same, .. } = compare(&leaves(), cell);
        match cell.staleness() {
            Staleness::UntilFlushed | Staleness::AsTlb => {
                assert!(same && divergence.is_none(), "{cell}: {divergence:?}")
            }
            Staleness::Never => {
                for d in [divergence, stride(&leaves(), cell)] {
                    let d = d.expect("the page is walked again");
                    assert!(d.why.starts_with(LEFT_OPEN) && d.disassembly == "inc ebx", "{cell}: {d:?}");
                }
            }
        }
    }
}

/// Takes the directory's entry of its own code away and goes on with a store to a page that no TLB has.
fn falls() -> Vec<u8> {
    guest(|c| {
        c.store(DIRECTORY, 0);
        c.store(0x3000, 1); // in no TLB
    })
}

/// Without an IDT both end in a triple fault, of different page faults; the entry is named.
#[test]
fn a_triple_fault_after_an_unflushed_change_is_left_open() {
    for cell in CELLS {
        let Compared { divergence, same, .. } = compare(&falls(), cell);
        match cell.staleness() {
            Staleness::UntilFlushed | Staleness::AsTlb => {
                assert!(same && divergence.is_none(), "{cell}: {divergence:?}")
            }
            Staleness::Never => {
                for d in [divergence, stride(&falls(), cell)] {
                    let d = d.expect("they end by other faults");
                    let named = format!(
                        "the page-directory entry at {DIRECTORY:#010x}, for the page at {CODE:#010x}"
                    );
                    assert!(d.why.starts_with(LEFT_OPEN) && d.why.ends_with(&named), "{cell}: {d:?}");
                    let ending = d.differences.iter().find(|d| d.piece == "ending").expect("another ending");
                    assert!(ending.first.contains("#PF(0x0002) at 0x00003000"), "{cell}: {d:?}");
                    assert!(ending.second.contains("#PF(0x0000) at 0x001000"), "{cell}: {d:?}");
                }
            }
        }
    }
}

#[test]
fn a_virtual_tlb_may_hold_longer_than_the_bare_machines() {
    for cell in CELLS {
        let Compared { divergence, same, .. } = compare(&displaces(), cell);
        match cell.staleness() {
            Staleness::Never | Staleness::AsTlb => {
                assert!(same && divergence.is_none(), "{cell}: {divergence:?}")
            }
            Staleness::UntilFlushed => {
                let d = divergence.expect("it holds");
                assert!(d.why.starts_with(HELD) && d.differences[0].piece == "eax", "{cell}: {d:?}");
                assert!(d.why.contains(&format!("entry at {:#010x}", entry(PAGE))), "{cell}: {d:?}");
            }
        }
    }
}

#[test]
fn with_a_flush_all_are_the_same() {
    for cell in CELLS {
        let found = compare(&ages_and_flushes(), cell);
        assert!(found.same && found.divergence.is_none(), "{cell}: {:?}", found.divergence);
    }
}

/// What a monitor does wrong is not excused.
#[test]
fn a_bug_is_not_left_open() {
    for cell in TRAPS {
        let d = bug::with(Some(Bug::ForgetAccessed), || stride(&ages_and_flushes(), cell))
            .expect("a bit is missing");
        assert!(!d.why.starts_with(LEFT_OPEN), "{cell}: {d:?}");
    }
    // A flush that is missed heals as soon as there is another.
    for cell in [VTLB, BT_VTLB] {
        let found = bug::with(Some(Bug::ForgetInvlpg), || compare(&remaps_and_flushes(), cell));
        let d = found.divergence.expect("the old frame is read");
        assert!(d.why.starts_with(HELD) && d.differences[0].piece == "eax", "{cell}: {d:?}");
        let right = compare(&remaps_and_flushes(), cell);
        assert!(right.same && right.divergence.is_none(), "{cell}: {:?}", right.divergence);
    }
    let found = bug::with(Some(Bug::ForgetSync), || compare(&remaps_and_flushes(), TRACE));
    assert!(!found.divergence.expect("the old frame is read").why.starts_with(LEFT_OPEN));
}
