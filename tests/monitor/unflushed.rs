//! Guests that change a page-table entry in use and go on without a flush. The architecture leaves open which entry counts then (SDM
//! vol. 3, 4.10.4), so that they may part from the bare machine; where they do, the lab says that it is this, and of a bug it does not.

use super::flat;
use super::pair::{BT_VTLB, CELLS, Cell, TRACE, TRAPS, VTLB};
use crate::vmm::bug::{self, Bug};
use subring::lab::boundary::{self, Compared};
use subring::lab::guest::Guest;
use subring::lab::lockstep::{self, Divergence};
use subring::lab::why::{HELD, LEFT_OPEN};
use subring::vmm::strategy::Coherence;

/// The page table. The directory is at 8000h.
const TABLE: u32 = 0x9000;

/// Fills the table one to one, all present and writable, makes it that of the first 4 MiB and of the next, and turns paging on.
#[rustfmt::skip]
const PAGING: &[u8] = &[
    0xbf, 0x00, 0x90, 0x00, 0x00,                                   // mov edi,9000h
    0xb8, 0x03, 0x00, 0x00, 0x00,                                   // mov eax,3
    0xb9, 0x00, 0x04, 0x00, 0x00,                                   // mov ecx,1024
    0xab,                                                           // fill: stosd
    0x05, 0x00, 0x10, 0x00, 0x00,                                   // add eax,1000h
    0xe2, 0xf8,                                                     // loop fill
    0xc7, 0x05, 0x00, 0x80, 0x00, 0x00, 0x03, 0x90, 0x00, 0x00,     // mov dword [8000h],9003h
    0xc7, 0x05, 0x04, 0x80, 0x00, 0x00, 0x03, 0x90, 0x00, 0x00,     // mov dword [8004h],9003h
    0xb8, 0x00, 0x80, 0x00, 0x00,                                   // mov eax,8000h
    0x0f, 0x22, 0xd8,                                               // mov cr3,eax
    0x0f, 0x20, 0xc0,                                               // mov eax,cr0
    0x0d, 0x00, 0x00, 0x01, 0x80,                                   // or eax,80010000h
    0x0f, 0x22, 0xc0,                                               // mov cr0,eax
];

/// Takes the accessed bit from the page that it stands on, which the bare machine's TLB has. It never ends: to halt is privileged,
/// and the monitor would walk to the instruction.
#[rustfmt::skip]
const AGES: &[u8] = &[
    0xc7, 0x05, 0x00, 0x94, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00,     // mov dword [9400h],100003h
    0x90,                                                           // nop
    0xeb, 0xfe,                                                     // jmp $
];

/// Does that to page 50h, and flushes it before it uses it.
#[rustfmt::skip]
const FLUSHES: &[u8] = &[
    0xa1, 0x00, 0x00, 0x05, 0x00,                                   // mov eax,[50000h]
    0xc7, 0x05, 0x40, 0x91, 0x00, 0x00, 0x03, 0x00, 0x05, 0x00,     // mov dword [9140h],50003h
    0x0f, 0x01, 0x3d, 0x00, 0x00, 0x05, 0x00,                       // invlpg [50000h]
    0xa1, 0x00, 0x00, 0x05, 0x00,                                   // mov eax,[50000h]
    0xeb, 0xfe,                                                     // jmp $
];

/// Gives page 50h another frame, flushes it and reads it.
#[rustfmt::skip]
const REMAPS: &[u8] = &[
    0xc7, 0x05, 0x00, 0x00, 0x05, 0x00, 0x01, 0x00, 0x00, 0x00,     // mov dword [50000h],1
    0xc7, 0x05, 0x40, 0x91, 0x00, 0x00, 0x03, 0x10, 0x05, 0x00,     // mov dword [9140h],51003h
    0x0f, 0x01, 0x3d, 0x00, 0x00, 0x05, 0x00,                       // invlpg [50000h]
    0xa1, 0x00, 0x00, 0x05, 0x00,                                   // mov eax,[50000h]
    0xeb, 0xfe,                                                     // jmp $
];

/// Gives page 50h another frame, and uses first another page, which takes its place in the bare machine's TLB.
#[rustfmt::skip]
const DISPLACES: &[u8] = &[
    0xc7, 0x05, 0x00, 0x00, 0x05, 0x00, 0x01, 0x00, 0x00, 0x00,     // mov dword [50000h],1
    0xc7, 0x05, 0x40, 0x91, 0x00, 0x00, 0x03, 0x10, 0x05, 0x00,     // mov dword [9140h],51003h
    0x8b, 0x1d, 0x00, 0x00, 0x45, 0x00,                             // mov ebx,[450000h]
    0xa1, 0x00, 0x00, 0x05, 0x00,                                   // mov eax,[50000h]
    0xeb, 0xfe,                                                     // jmp $
];

/// Instructions after which each of them is at its end.
const ENOUGH: u64 = 4000;

fn pair(code: &[u8], cell: Cell) -> (Guest, Guest) {
    let code = [PAGING, code].concat();
    let mut other = flat::machine(&code);
    cell.put(&mut other, 5);
    (Guest::new(flat::machine(&code), Vec::new()), Guest::new(other, Vec::new()))
}

/// At each boundary.
fn compare(code: &[u8], cell: Cell) -> Compared {
    boundary::compare(|| Ok(pair(code, cell)), ENOUGH, |_| true).expect("it can be made")
}

/// In strides.
fn stride(code: &[u8], cell: Cell) -> Option<Divergence> {
    let (mut bare, mut other) = pair(code, cell);
    lockstep::first_divergence(&mut bare, &mut other, ENOUGH, |_| true).expect("it can be put back")
}

#[track_caller]
fn left_open(d: &Divergence, piece: &str, values: [&str; 2]) {
    assert_eq!(d.why, LEFT_OPEN, "{d:?}");
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
        let Compared { divergence, same, .. } = compare(AGES, cell);
        match cell.coherence {
            Coherence::Vtlb => assert!(same && divergence.is_none(), "{cell}: {divergence:?}"),
            Coherence::Trace => {
                let at = format!("memory at {:#010x}", TABLE + 0x400);
                for d in [divergence, stride(AGES, cell)] {
                    let d = d.expect("the page is walked again");
                    left_open(&d, &at, ["03", "23"]);
                    assert_eq!(d.disassembly, "nop", "{cell}: {d:?}");
                }
            }
        }
    }
}

#[test]
fn a_virtual_tlb_may_hold_longer_than_the_bare_machines() {
    for cell in CELLS {
        let Compared { divergence, same, .. } = compare(DISPLACES, cell);
        match cell.coherence {
            Coherence::Trace => assert!(same && divergence.is_none(), "{cell}: {divergence:?}"),
            Coherence::Vtlb => {
                let d = divergence.expect("it holds");
                assert_eq!((d.why.as_str(), d.differences[0].piece.as_str()), (HELD, "eax"), "{cell}: {d:?}");
            }
        }
    }
}

#[test]
fn with_a_flush_all_are_the_same() {
    for cell in CELLS {
        let found = compare(FLUSHES, cell);
        assert!(found.same && found.divergence.is_none(), "{cell}: {:?}", found.divergence);
    }
}

/// What a monitor does wrong is not excused.
#[test]
fn a_bug_is_not_left_open() {
    for cell in TRAPS {
        let d = bug::with(Some(Bug::ForgetAccessed), || stride(FLUSHES, cell)).expect("a bit is missing");
        assert_ne!(d.why, LEFT_OPEN, "{cell}: {d:?}");
    }
    // A flush that is missed heals as soon as there is another.
    for cell in [VTLB, BT_VTLB] {
        let found = bug::with(Some(Bug::ForgetInvlpg), || compare(REMAPS, cell));
        let d = found.divergence.expect("the old frame is read");
        assert_eq!((d.why.as_str(), d.differences[0].piece.as_str()), (HELD, "eax"), "{cell}: {d:?}");
        let right = compare(REMAPS, cell);
        assert!(right.same && right.divergence.is_none(), "{cell}: {:?}", right.divergence);
    }
    let found = bug::with(Some(Bug::ForgetSync), || compare(REMAPS, TRACE));
    assert_ne!(found.divergence.expect("the old frame is read").why, LEFT_OPEN);
}
