//! x87 errors the PC's way, on the whole machine: with CR0.NE clear FERR# raises interrupt 13 through the board, and
//! port F0h lets the processor go on (SDM vol. 1, 8.7.2).

use subring::addr::GuestPhys;
use subring::bus::Width;
use subring::cpu::fpu::status::{ES, ZE};
use subring::cpu::{Eflags, F80, Segment};
use subring::decode::SegReg;
use subring::exec::Env;
use subring::machine::board::BoardConfig;
use subring::machine::{Config, Limits, Machine, Outcome};

const MAIN: u32 = 0x1000;
const HANDLER: u32 = 0x2000;
const STACK: u32 = 0x8000;

#[rustfmt::skip]
const PROGRAM: &[u8] = &[
    0xdb, 0xe3,             // fninit
    0xd9, 0x2e, 0x00, 0x05, // fldcw [0x500]
    0xd9, 0xe8,             // fld1
    0xd9, 0xee,             // fldz
    0xde, 0xf9,             // fdivp: 1/0, not masked
    0x90,                   // nop
    0xd9, 0xe8,             // fld1, at 0x100d: stands still until the interrupt
    0xb0, 0x2a,             // mov al,0x2a
    0xe6, 0xf4,             // out 0xf4,al
];

/// With `fnclex`, or without it.
fn handler(clears: bool) -> Vec<u8> {
    let clear: [u8; 2] = if clears { [0xdb, 0xe2] } else { [0x90, 0x90] };
    #[rustfmt::skip]
    let code = [
        0x50,                       // push ax
        0xdd, 0x3e, 0x02, 0x05,     // fnstsw [0x502]
        0x30, 0xc0, 0xe6, 0xf0,     // xor al,al; out 0xf0,al
        clear[0], clear[1],
        0xb0, 0x20, 0xe6, 0xa0,     // mov al,0x20; out 0xa0,al
        0xe6, 0x20,                 // out 0x20,al
        0x58, 0xcf,                 // pop ax; iret
    ];
    code.to_vec()
}

fn word(m: &Machine, at: u32) -> u16 {
    let bytes = m.world.map.ram.bytes();
    u16::from_le_bytes([bytes[at as usize], bytes[at as usize + 1]])
}

/// Runs the program in real mode to its end.
fn run(clears: bool) -> Machine {
    let board = BoardConfig { ram_size: 1 << 20, ..BoardConfig::default() };
    let config = Config { ram_size: 1 << 20, board, bios: None, vga_bios: None };
    let mut m = Machine::new(config).expect("memory for the machine");
    m.store(GuestPhys(MAIN), PROGRAM);
    m.store(GuestPhys(HANDLER), &handler(clears));
    m.store(GuestPhys(0x500), &0x037bu16.to_le_bytes());
    m.store(GuestPhys(4 * 0x75), &HANDLER.to_le_bytes());
    let cpu = m.cpu.clone();
    let controllers = [
        [(0x20, 0x11), (0x21, 8), (0x21, 4), (0x21, 1), (0x21, 0xfb)],
        [(0xa0, 0x11), (0xa1, 0x70), (0xa1, 2), (0xa1, 1), (0xa1, 0xdf)],
    ];
    for (port, value) in controllers.into_iter().flatten() {
        m.world.port_out(&cpu, port, Width::Byte, value);
    }
    for s in SegReg::ALL {
        m.cpu.set_seg(s, Segment::real(0));
    }
    m.cpu.eip = MAIN;
    m.cpu.regs[4] = STACK;
    m.cpu.set_eflags(Eflags::IF);
    assert_eq!(m.run(Limits::instructions(10_000)), Outcome::Exit(0x2a));
    m
}

#[test]
fn an_error_interrupts_before_the_next_waiting_instruction() {
    let m = run(true);
    assert_eq!(m.counts.interrupts.get(&0x75), Some(&1));
    assert_eq!(word(&m, STACK - 6), 0x100d, "the interrupt returns to the instruction that waited");
    assert_eq!(word(&m, 0x502) & (ES | ZE), ES | ZE);
    assert!(!m.cpu.fpu.pending());
    assert_eq!((m.cpu.fpu.st(0), m.cpu.fpu.last.fip), (F80::ONE, 0x100d));
}

#[test]
fn port_f0_lets_the_processor_go_on_with_the_error_pending() {
    let m = run(false);
    assert_eq!(m.counts.interrupts.get(&0x75), Some(&1));
    assert!(m.cpu.fpu.pending());
    assert_eq!(m.cpu.fpu.st(0), F80::ONE);
}
