//! Guests whose instructions read the page-table entry of a page, as data or as their own code, and then touch that page for the first time: what they read has
//! no accessed or dirty bit yet, also where a monitor had to map the page in between.

use super::flat;
use super::kernel::code::Code;
use super::pair::{CELLS, Cell, Tested};
use super::unflushed::{entry, guest};
use crate::vmm::bug::{self, Bug};
use subring::addr::GuestPhys;
use subring::cell::Mmu;
use subring::lab::compare::{Divergence, strides};

/// A page that nothing has touched: the low word of its entry is a selector of the GDT.
const PAGE: u32 = 0x5_1000;
/// A GDT, half in the page before: the selector 1003h names the first descriptor of the page, 1023h another one.
const GDT: u32 = PAGE - 0x1000;
const DATA: u64 = 0x00cf_f300_0000_ffff;
/// Where its pointer is.
const POINTER: u32 = 0x7000;

/// What each of them does, and the code.
type Reader = (&'static str, fn(&mut Code));

const GUESTS: [Reader; 8] = [
    ("MOVSD", |c| strings(c, entry(PAGE), PAGE, &[0xa5])),
    ("REP MOVSD", |c| strings(c, entry(PAGE), PAGE, &[0xb9, 2, 0, 0, 0, 0xf3, 0xa5])),
    ("CMPSD", |c| strings(c, entry(PAGE), PAGE, &[0xa7])),
    ("CMPSD of the destination's entry", |c| strings(c, PAGE, entry(PAGE), &[0xa7])),
    ("PUSH", |c| {
        c.put32(&[0xbc], PAGE + 0x800); // MOV ESP, in the page
        c.put32(&[0xff, 0x35], entry(PAGE)); // PUSH [entry]
    }),
    ("POP", |c| {
        c.put32(&[0xbc], entry(PAGE)); // MOV ESP, entry
        c.put32(&[0x8f, 0x05], PAGE); // POP [in the page]
    }),
    ("MOV of itself", |c| {
        // MOV DWORD [in the page], the entry; JMP $: among the entries.
        c.store(entry(PAGE) - 8, 0x05c7_0000);
        c.store(entry(PAGE) - 4, PAGE);
        c.store(entry(PAGE) + 4, 0xfeeb);
        c.put32(&[0xbb], entry(PAGE) - 6); // MOV EBX, there
        c.put(&[0xff, 0xe3]); // JMP EBX
    }),
    ("MOV FS", |c| {
        c.put32(&[0x0f, 0x01, 0x15], POINTER); // LGDT [pointer]
        c.put32(&[0x8e, 0x25], entry(PAGE)); // MOV FS, [entry]
    }),
];

fn strings(c: &mut Code, from: u32, to: u32, insn: &[u8]) {
    c.put32(&[0xbe], from); // MOV ESI, from
    c.edi(to);
    c.put(insn);
}

/// Where it parts from the bare machine.
fn parts(code: &[u8], cell: Cell) -> Option<Divergence> {
    let make = || {
        let mut m = flat::machine(code);
        for offset in [0x1000, 0x1020] {
            m.store(GuestPhys(GDT + offset), &DATA.to_le_bytes());
        }
        m.store(GuestPhys(POINTER), &[&[0xff, 0xff][..], &GDT.to_le_bytes()].concat());
        m
    };
    let (mut bare, mut other) = cell.guests(5, make);
    strides::first_divergence(&mut bare, &mut other, 4000, |_| true).expect("it can be put back")
}

#[test]
fn an_entry_is_read_before_it_is_marked() {
    for (name, code) in GUESTS {
        let code = guest(code);
        for cell in CELLS {
            assert_eq!(parts(&code, cell).map(|d| d.differences), None, "{name}, {cell}");
        }
    }
}

/// Each of them tells a monitor that marks first, but for the one that reads the page before its entry.
#[test]
fn marks_that_come_early_show() {
    for (name, code) in GUESTS {
        let code = guest(code);
        for cell in CELLS {
            let found = bug::with(Some(Bug::EarlyMarks), || parts(&code, cell));
            let late = name == "CMPSD of the destination's entry";
            // Under trap-and-emulate the load faults in the monitor's GDT, and is emulated.
            let emulated = name == "MOV FS" && cell.parts_at_sensitive();
            // The processor's own walk waits for the page, and has no such bug.
            let never = cell.mmu() == Mmu::Nested;
            assert_eq!(found.is_some(), !late && !emulated && !never, "{name}, {cell}");
        }
    }
}
