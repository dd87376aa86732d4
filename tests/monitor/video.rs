//! Page tables, page-directory-pointer tables and descriptor tables in video memory: a walk, a load of CR3
//! and a load of a segment register are ordinary physical accesses, on the bare machine and under each
//! monitor.

use super::flat;
use super::kernel::code::Code;
use super::pair::{CELLS, Cell, Tested};
use subring::cpu::gpr::{EBX, ECX, EDI, EDX, ESI};
use subring::machine::{Limits, Outcome};

/// The page-directory-pointer table with PAE, the page table for the first 512 pages, and the GDT: in the
/// VGA's window.
const POINTERS: u32 = 0xb_8000;
const TABLE: u32 = 0xb_9000;
const GDT: u32 = 0xb_b000;
/// The page directory, and the GDT's limit and base: in RAM.
const DIRECTORY: u32 = 0x18_0000;
const GDT_REGISTER: u32 = 0x5_2000;
/// Two pages; the first one's entry comes to name the second one.
const PAGE: u32 = 0x5_0000;
const OTHER: u32 = 0x5_1000;

const PE_PG_ET: u32 = 0x8000_0011;
const PAE: u32 = 0x20;

/// Code that leaves in ESI and EBX what it reads in the first page before and after the change of its entry,
/// in ECX the entry, and in EDX and EDI the descriptors of data and code after they were loaded.
fn guest(pae: bool) -> Vec<u8> {
    let size = if pae { 8 } else { 4 };
    let entry = TABLE + (PAGE >> 12) * size;
    let mut c = Code::new(flat::CODE);
    c.edi(TABLE);
    c.put32(&[0xb8], 3); // MOV EAX, 3
    c.put32(&[0xb9], 512); // MOV ECX, 512
    c.put(&[0x89, 0x07]); // next: MOV [EDI], EAX
    c.put(&[0xc7, 0x47, 0x04, 0, 0, 0, 0]); // MOV DWORD [EDI+4], 0
    c.put(&[0x83, 0xc7, size as u8]); // ADD EDI, size
    c.put32(&[0x05], 0x1000); // ADD EAX, 1000h
    c.put(&[0xe2, 0xed]); // LOOP next
    c.store(DIRECTORY, TABLE | 3);
    c.store(DIRECTORY + 4, 0);
    if pae {
        (0..8).for_each(|n| c.store(POINTERS + 4 * n, 0));
        c.store(POINTERS, DIRECTORY | 1);
        c.put32(&[0xb8], PAE); // MOV EAX, PAE
        c.put(&[0x0f, 0x22, 0xe0]); // MOV CR4, EAX
    }
    c.load_cr3(if pae { POINTERS } else { DIRECTORY });
    c.load_cr0(PE_PG_ET);
    c.store(PAGE, 0x600d);
    c.store(OTHER, 0xbeef);
    c.put32(&[0x8b, 0x35], PAGE); // MOV ESI, [PAGE]
    c.store(entry, OTHER | 3);
    c.put32(&[0x0f, 0x01, 0x3d], PAGE); // INVLPG [PAGE]
    c.put32(&[0x8b, 0x1d], PAGE); // MOV EBX, [PAGE]
    c.put32(&[0x8b, 0x0d], entry); // MOV ECX, [entry]
    for (n, half) in [0, 0, 0xffff, 0x00cf_9a00, 0xffff, 0x00cf_9200].into_iter().enumerate() {
        c.store(GDT + 4 * n as u32, half);
    }
    c.store(GDT_REGISTER, GDT << 16 | 0x17);
    c.store(GDT_REGISTER + 4, GDT >> 16);
    c.put32(&[0x0f, 0x01, 0x15], GDT_REGISTER); // LGDT [GDT_REGISTER]
    c.put(&[0x66, 0xb8, 0x10, 0x00, 0x8e, 0xd8]); // MOV AX, 10h; MOV DS, AX
    c.put32(&[0x8b, 0x15], GDT + 0x14); // MOV EDX, [descriptor of data]
    let behind = c.here() + 7;
    c.put32(&[0xea], behind); // JMP 8:behind
    c.put(&[0x08, 0x00]);
    c.put32(&[0x8b, 0x3d], GDT + 0x0c); // MOV EDI, [descriptor of code]
    c.put(&[0xf4]); // HLT
    c.bytes
}

fn ends_right(cell: Cell, pae: bool) {
    let mut m = flat::machine(&guest(pae));
    cell.put(&mut m, 0);
    assert_eq!(m.run(Limits::instructions(100_000)), Outcome::HaltedForever, "{cell} PAE {pae}");
    let read = [ESI, EBX, ECX, EDX, EDI].map(|n| m.cpu.regs[n]);
    // The entry is marked as accessed, and so are the descriptors.
    let expected = [0x600d, 0xbeef, OTHER | 0x23, 0x00cf_9300, 0x00cf_9b00];
    assert_eq!(read.map(|v| format!("{v:x}")), expected.map(|v: u32| format!("{v:x}")), "{cell} PAE {pae}");
}

#[test]
fn tables_in_video_memory_are_walked_marked_and_changed() {
    for pae in [false, true] {
        ends_right(Cell::BARE, pae);
        CELLS.into_iter().for_each(|cell| ends_right(cell, pae));
    }
}

#[test]
fn an_observer_sees_them_and_changes_nothing() {
    let mut m = flat::machine(&guest(false));
    m.run(Limits::instructions(100_000));
    let before = m.world.board.mmio_peek(subring::addr::GuestPhys(TABLE), subring::width::Width::Dword, 0);
    assert_eq!(m.world.peek(&m.cpu, subring::addr::Linear(PAGE), 2), [0xef, 0xbe]);
    let after = m.world.board.mmio_peek(subring::addr::GuestPhys(TABLE), subring::width::Width::Dword, 0);
    assert_eq!(before, after);
}
