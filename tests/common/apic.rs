//! A kernel of a few instructions that runs on the local APIC: its timer, and NMIs that it sends to itself.

use subring::addr::GuestPhys;
use subring::cpu::TableReg;
use subring::machine::board::BoardConfig;
use subring::machine::{Config, Machine};

/// Counts of timer interrupts and of NMIs, and how many NMIs the first one's handler had seen after it sent another.
pub(crate) const COUNTS: u32 = 0x3000;

const KERNEL: u32 = 0x10_0000;
const ON_NMI: u32 = 0x10_1000;
const ON_TIMER: u32 = 0x10_2000;
const IDT: u32 = 0x1000;
const GDT: u32 = 0x2000;
const TIMER_VECTOR: u32 = 0x40;

/// MOV DWORD [at], value.
fn set(at: u32, value: u32) -> Vec<u8> {
    [&[0xc7, 0x05][..], &at.to_le_bytes(), &value.to_le_bytes()].concat()
}

/// INC DWORD [at].
fn inc(at: u32) -> Vec<u8> {
    [&[0xff, 0x05][..], &at.to_le_bytes()].concat()
}

/// A write of a local APIC's register.
fn apic(register: u32, value: u32) -> Vec<u8> {
    set(0xfee0_0000 + register, value)
}

/// An NMI to the processor whose ID is 0.
fn nmi() -> Vec<u8> {
    apic(0x300, 0x4400)
}

/// A machine with an APIC whose kernel is `code`, its interrupt handlers in place and interrupts off.
pub(crate) fn machine(code: &[u8]) -> Machine {
    let board = BoardConfig { ram_size: 2 << 20, apic: true, ..BoardConfig::default() };
    let mut m =
        Machine::new(Config { ram_size: 2 << 20, board, bios: None, vga_bios: None }).expect("a machine");
    let gate = |at: u32| (u64::from(at >> 16) << 48) | 0x8e00_0008_0000 | u64::from(at & 0xffff);
    m.store(GuestPhys(IDT + 8 * 2), &gate(ON_NMI).to_le_bytes());
    m.store(GuestPhys(IDT + 8 * TIMER_VECTOR), &gate(ON_TIMER).to_le_bytes());
    m.store(GuestPhys(GDT + 8), &0x00cf_9b00_0000_ffff_u64.to_le_bytes());
    m.store(GuestPhys(KERNEL), code);
    m.store(GuestPhys(ON_TIMER), &[inc(COUNTS), apic(0x0b0, 0), nmi(), vec![0xcf]].concat());
    // The first NMI sends another, and a few instructions later notes how many have come.
    let first = [nmi(), vec![0x90, 0x8b, 0x1d], (COUNTS + 4).to_le_bytes().to_vec()].concat();
    let first = [first, vec![0x89, 0x1d], (COUNTS + 8).to_le_bytes().to_vec()].concat();
    let compare = [&[0x83, 0x3d][..], &(COUNTS + 4).to_le_bytes(), &[1, 0x75, first.len() as u8]].concat();
    m.store(GuestPhys(ON_NMI), &[inc(COUNTS + 4), compare, first, vec![0xcf]].concat());
    m.start_flat(KERNEL, 0, 0, 0x9_0000);
    m.cpu.idtr = TableReg { base: IDT, limit: 0x7ff };
    m.cpu.gdtr = TableReg { base: GDT, limit: 0x0f };
    m
}

/// One whose timer interrupts every 1000 cycles of the bus clock, with an NMI at each.
#[allow(dead_code, reason = "not every test that shares this file uses all of it")]
pub(crate) fn ticking() -> Machine {
    let on = [apic(0x0f0, 0x1ff), apic(0x3e0, 0xb), apic(0x320, 0x2_0000 | TIMER_VECTOR)].concat();
    let wait = [apic(0x380, 1000), vec![0xfb, 0x40, 0xeb, 0xfd]].concat(); // STI; INC EAX; JMP
    machine(&[on, wait].concat())
}

/// One that sends itself an NMI with interrupts off, and halts.
#[allow(dead_code, reason = "not every test that shares this file uses all of it")]
pub(crate) fn interrupting_itself() -> Machine {
    machine(&[nmi(), vec![0xf4, 0xeb, 0xfd]].concat())
}

/// The counts.
#[allow(dead_code, reason = "not every test that shares this file uses all of it")]
pub(crate) fn counts(m: &Machine) -> [u32; 3] {
    [0, 4, 8].map(|n| {
        let mut bytes = [0; 4];
        m.world.map.read(GuestPhys(COUNTS + n), &mut bytes);
        u32::from_le_bytes(bytes)
    })
}
