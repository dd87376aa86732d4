//! Generated kernels that do nothing but IRET: with all kinds of code segments and flags in the frame, in both widths, between
//! interrupts and NMIs; and SMSW to memory. What they leave of it (flags, selectors, what x87 noted) goes to memory. Inline sequences
//! of the translator's run them, or decline to.

use super::equivalence::{cases, runner};
use super::kernel::image::CHIPS;
use super::pair::{BT_TRACE, BT_VTLB, Cell, Strides, Tested, figures};
use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use std::cell::Cell as Counter;
use subring::addr::GuestPhys;
use subring::bus::Width;
use subring::cpu::{Segment, TableReg};
use subring::machine::board::BoardConfig;
use subring::machine::{Config, Machine};
use subring::report::TranslationFigures;

/// How long a kernel runs, and when it is looked at.
const STRIDES: Strides = Strides { most: 20_000, stride: 97, whole: 8 };

const RAM: u32 = 1 << 20;
const GDT: u32 = 0x1000;
const IDT: u32 = 0x2000;
const TSS: u32 = 0x2800;
const HANDLERS: u32 = 0x3000;
const COUNTS: u32 = 0x3800;
const RESULTS: u32 = 0x3900;
const STACK: u32 = 0x4000;
const CODE: u32 = 0x5000;
/// Code that is on its way back to 32 bits, and user code.
const NARROW: u32 = 0xf000;
const USER: u32 = 0xf100;
const USER_STACK: u32 = 0xf800;

/// Code segments that a frame may name, with their bases: flat; flat and not accessed yet; conforming; of 64 KiB; with a base; not
/// present; data; null; beyond the table.
const SELECTORS: [(u16, u32); 9] =
    [(0x08, 0), (0x18, 0), (0x20, 0), LIMITED, (0x30, 0x1000), (0x38, 0), (0x10, 0), (0, 0), (0x200, 0)];
const LIMITED: (u16, u32) = (0x28, 0);
/// Code of 16 bits, code and data of ring 3.
const NARROW_SELECTOR: u16 = 0x50;
const USER_CODE: u16 = 0x43;
const USER_DATA: u16 = 0x5b;

/// FLD1; FSTP ST0.
const NUMERIC: &[u8] = &[0xd9, 0xe8, 0xdd, 0xd8];

/// What a kernel does.
#[derive(Clone, Debug)]
enum Op {
    /// IRET to what is next, perhaps right after an x87 instruction; `far`: to where the segment of 64 KiB does not reach.
    Return { selector: usize, rpl: u8, flags: u16, word: bool, far: bool, numeric: bool },
    /// IRET to 16-bit code, which jumps back.
    Narrow { flags: u16 },
    /// IRET to ring 3.
    Outward { flags: u16 },
    /// An x87 instruction; one that is addressed by SS.
    Numeric(bool),
    /// SS is loaded.
    Stack(u8),
    /// An NMI.
    Nmi,
    /// SMSW to memory, addressed by these two registers.
    Smsw { base: u8, index: u8 },
    /// IRET in real mode, with these flags, and back.
    Real { flags: u16 },
}

fn kernels() -> impl Strategy<Value = Vec<Op>> {
    proptest::collection::vec(op(), 1..40)
}

fn op() -> impl Strategy<Value = Op> {
    // Mostly neither TF nor NT.
    let flags = || (any::<u16>(), any::<u16>()).prop_map(|(f, g)| f & if g & 7 == 0 { !0 } else { !0x4100 });
    // Mostly code that is there.
    let selector = || prop_oneof![3 => 0..5usize, 1 => 0..SELECTORS.len()];
    let rpl = || prop_oneof![6 => Just(0u8), 1 => 1..4u8];
    let far = || (0..8u8).prop_map(|n| n == 0);
    prop_oneof![
        8 => (selector(), rpl(), flags(), any::<bool>(), far(), any::<bool>())
            .prop_map(|(selector, rpl, flags, word, far, numeric)| Op::Return { selector, rpl, flags, word, far, numeric }),
        1 => flags().prop_map(|flags| Op::Narrow { flags }),
        1 => flags().prop_map(|flags| Op::Outward { flags }),
        2 => any::<bool>().prop_map(Op::Numeric),
        1 => (0..3u8).prop_map(Op::Stack),
        1 => Just(Op::Nmi),
        1 => (0..3u8, 0..3u8).prop_map(|(base, index)| Op::Smsw { base, index }),
        1 => flags().prop_map(|flags| Op::Real { flags }),
    ]
}

/// Code that will lie at [`CODE`].
struct Code(Vec<u8>);

impl Code {
    fn put(&mut self, bytes: &[u8]) {
        self.0.extend(bytes);
    }
    fn put32(&mut self, opcode: &[u8], operand: u32) {
        self.put(opcode);
        self.put(&operand.to_le_bytes());
    }
    fn here(&self) -> u32 {
        CODE + self.0.len() as u32
    }
    /// What `inner` makes of the address behind it, which is in EBX: there the handlers go on.
    fn guarded(&mut self, inner: impl Fn(&mut Self, u32)) {
        let start = self.0.len();
        let mut behind = 0;
        // The second time the address is known.
        for _ in 0..2 {
            self.0.truncate(start);
            self.put32(&[0xbb], behind); // MOV EBX
            inner(self, behind);
            behind = self.here();
        }
    }
    /// What there is to see, into memory: flags, CS, SS, and where the last x87 instruction was.
    fn look(&mut self) {
        self.put(&[0x9c, 0x58]); // PUSHF; POP EAX
        self.put32(&[0x01, 0x05], RESULTS); // ADD [at], EAX
        self.put(&[0x8c, 0xc8]); // MOV EAX, CS
        self.put32(&[0x01, 0x05], RESULTS + 4);
        self.put(&[0x0e, 0x58]); // PUSH CS; POP EAX
        self.put32(&[0x01, 0x05], RESULTS + 8);
        self.put32(&[0xd9, 0x35], RESULTS + 0x10); // FNSTENV [at]
    }
}

fn emit(c: &mut Code, op: &Op) {
    match *op {
        Op::Return { selector, rpl, flags, word, far, numeric } => c.guarded(|c, behind| {
            if numeric {
                c.put(NUMERIC);
            }
            let far = far && SELECTORS[selector] == LIMITED;
            let (selector, base) = SELECTORS[selector];
            let values = [
                flags.into(),
                (selector | u16::from(rpl)).into(),
                behind.wrapping_sub(base) | u32::from(far) << 16,
            ];
            for value in values {
                if word {
                    c.put(&[0x66, 0x68, value as u8, (value >> 8) as u8]); // PUSH imm16
                } else {
                    c.put32(&[0x68], value);
                }
            }
            c.put(if word { &[0x66, 0xcf] } else { &[0xcf] });
        }),
        Op::Narrow { flags } => c.guarded(|c, _| {
            for value in [flags.into(), NARROW_SELECTOR.into(), NARROW] {
                c.put32(&[0x68], value);
            }
            c.put(&[0xcf]);
        }),
        Op::Outward { flags } => c.guarded(|c, _| {
            for value in [USER_DATA.into(), USER_STACK, flags.into(), USER_CODE.into(), USER] {
                c.put32(&[0x68], value);
            }
            c.put(&[0xcf]);
        }),
        Op::Numeric(by_stack) => {
            c.put(if by_stack { &[0xd9, 0x04, 0x24, 0xdd, 0xd8] } else { NUMERIC });
        }
        Op::Stack(n) => {
            c.put(&[0x66, 0xb8, [0x10, 0x60, 0x68][usize::from(n)], 0, 0x8e, 0xd0]); // MOV AX; MOV SS, AX
        }
        Op::Nmi => c.guarded(|c, _| send_nmi(c)),
        Op::Smsw { base, index } => {
            let at = RESULTS + 0x40;
            c.put32(&[0xb8 + index], if base == index { at / 2 } else { 4 }); // MOV
            if base != index {
                c.put32(&[0xb8 + base], at - 4);
            }
            c.put(&[0x0f, 0x01, 0x24, index << 3 | base]); // SMSW [base + index]
        }
        Op::Real { flags } => real(c, flags),
    }
    c.look();
    c.put(&[0x6a, 2, 0x9d]); // PUSH 2; POPF
}

/// An NMI to all, itself included.
fn send_nmi(c: &mut Code) {
    c.put32(&[0x36, 0xc7, 0x05], 0xfee0_0300); // MOV DWORD SS:[ICR]
    c.put(&0x8_4400u32.to_le_bytes());
}

/// Through 16-bit code to real mode; there an IRET with `flags`, and back to where EBX says.
fn real(c: &mut Code, flags: u16) {
    let far = |c: &mut Code, selector: u16, bytes: u32| {
        let to = c.here() + bytes;
        c.put(&[0xea]);
        c.put(&(to as u16).to_le_bytes());
        c.put(&selector.to_le_bytes());
    };
    c.put(&[0xfa]); // CLI: real mode has no handlers
    let to = c.here() + 7;
    c.put32(&[0xea], to); // JMP 50h:the next
    c.put(&NARROW_SELECTOR.to_le_bytes());
    c.put(&[0xb8, 0x68, 0x00, 0x8e, 0xd0]); // MOV AX, 68h; MOV SS, AX
    c.put(&[0x0f, 0x20, 0xc0, 0x24, 0xfe, 0x0f, 0x22, 0xc0]); // MOV EAX, CR0; AND AL, FEh; MOV CR0, EAX
    far(c, 0, 5);
    c.put(&[0x31, 0xc0, 0x8e, 0xd0]); // XOR AX, AX; MOV SS, AX
    let [low, high] = (flags & !0x0300).to_le_bytes();
    let to = (c.here() + 10) as u16;
    c.put(&[0x68, low, high, 0x6a, 0x00, 0x68]); // PUSH flags; PUSH 0; PUSH the next
    c.put(&to.to_le_bytes());
    c.put(&[0xcf, 0x90]); // IRET
    c.put(&[0x9c, 0x58, 0x36, 0x01, 0x06]); // PUSHF; POP AX; ADD SS:[at], AX
    c.put(&((RESULTS + 12) as u16).to_le_bytes());
    c.put(&[0x36, 0x0f, 0x01, 0x26]); // SMSW SS:[at]
    c.put(&((RESULTS + 14) as u16).to_le_bytes());
    c.put(&[0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x0f, 0x22, 0xc0]); // MOV EAX, CR0; OR AL, 1; MOV CR0, EAX
    let to = c.here() + 8;
    c.put32(&[0x66, 0xea], to);
    c.put(&[0x08, 0x00]); // JMP 8:the next
    c.put(&[0x66, 0xb8, 0x10, 0x00, 0x8e, 0xd0]); // MOV AX, 10h; MOV SS, AX
}

fn descriptor(base: u64, limit: u64, attr: u64, flags: u64) -> u64 {
    (limit & 0xffff)
        | (base & 0xff_ffff) << 16
        | attr << 40
        | (limit >> 16) << 48
        | flags << 52
        | (base >> 24) << 56
}

/// The machine that runs `ops`, with paging off and a fast timer.
fn machine(ops: &[Op]) -> Machine {
    let board = BoardConfig { ram_size: RAM, apic: true, ..BoardConfig::default() };
    let mut m = Machine::new(Config { ram_size: RAM, board, bios: None, vga_bios: None }).expect("a machine");
    let mut put = |at: u32, words: &[u64]| {
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        m.store(GuestPhys(at), &bytes);
    };
    let flat = |attr| descriptor(0, 0xf_ffff, attr, 0xc);
    let gdt = [
        0,
        flat(0x9b),
        flat(0x93),
        flat(0x9a),
        flat(0x9f),
        descriptor(0, 0xffff, 0x9b, 4),
        descriptor(0x1000, 0xf_ffff, 0x9b, 0xc),
        flat(0x1b),
        flat(0xfb),
        descriptor(TSS.into(), 0x67, 0x89, 0),
        descriptor(0, 0xffff, 0x9b, 0), // 50h: 16-bit code
        flat(0xf3),
        flat(0x93),
        descriptor(0, 0xffff, 0x93, 0), // 68h: a 16-bit stack
    ];
    put(GDT, &gdt);
    let gate = |offset: u32, attr: u64| u64::from(offset) | 0x08 << 16 | attr << 40;
    let mut idt = vec![gate(HANDLERS, 0x8e); 0x20];
    idt[2] = gate(HANDLERS + 0x80, 0x8e);
    idt.resize(0x30, gate(HANDLERS + 0x40, 0x8e));
    idt.push(gate(HANDLERS, 0xee));
    put(IDT, &idt);
    m.store(GuestPhys(TSS + 4), &STACK.to_le_bytes());
    m.store(GuestPhys(TSS + 8), &0x10u32.to_le_bytes());
    handlers(&mut m);
    let mut c = Code(vec![0xdb, 0xe3]); // FNINIT
    for (register, value) in [(0xf0, 0x1ffu32), (0x350, 0x700)] {
        // The APIC is on, and passes the timer on.
        c.put32(&[0xc7, 0x05], 0xfee0_0000 + register); // MOV DWORD [register], value
        c.put(&value.to_le_bytes());
    }
    ops.iter().for_each(|op| emit(&mut c, op));
    c.put(&[0xfa, 0xf4]); // CLI; HLT
    assert!(c.here() < NARROW);
    m.store(GuestPhys(CODE), &c.0);
    for (port, value) in CHIPS {
        m.world.board.port_write(port.into(), Width::Byte, value.into(), 0, &mut m.world.map);
    }
    m.world.settle();
    m.start_flat(CODE, 0, 0, STACK);
    m.cpu.gdtr = TableReg { base: GDT, limit: 8 * gdt.len() as u16 - 1 };
    m.cpu.idtr = TableReg { base: IDT, limit: 8 * 0x31 - 1 };
    m.cpu.tr = Segment::system(0x48, TSS, 0x67, 0x8b);
    m
}

/// Handlers, by SS: the other registers may be null. And the code that returns lead to.
fn handlers(m: &mut Machine) {
    let inc = |at: u32| [&[0x36, 0xff, 0x05][..], &at.to_le_bytes()].concat();
    // A fault, or INT 30h: count, add the frame's first word up, go on with the usual stack.
    let mut c = Code(inc(COUNTS));
    c.put(&[0x8b, 0x04, 0x24, 0x36, 0x01, 0x05]); // MOV EAX, [ESP]; ADD SS:[at], EAX
    c.put(&(COUNTS + 4).to_le_bytes());
    c.put(&[0x66, 0xb8, 0x10, 0x00, 0x8e, 0xd0, 0x8e, 0xd8]); // MOV AX, 10h; MOV SS, AX; MOV DS, AX
    c.put32(&[0xbc], STACK); // MOV ESP
    c.put(&[0xff, 0xe3]); // JMP EBX
    m.store(GuestPhys(HANDLERS), &c.0);
    // A timer tick: count, acknowledge, return.
    let tick = [inc(COUNTS + 8), vec![0x50, 0xb0, 0x20, 0xe6, 0x20, 0x58, 0xcf]].concat();
    m.store(GuestPhys(HANDLERS + 0x40), &tick);
    // An NMI: count; the first of two sends the second, which comes when it returns.
    let mut c = Code(inc(COUNTS + 12));
    c.put32(&[0x36, 0xf6, 0x05], COUNTS + 12); // TEST BYTE SS:[at], 1
    c.put(&[1, 0x74, 11]); // JZ over what is next
    send_nmi(&mut c);
    c.put(&[0x90, 0xcf]); // IRET
    m.store(GuestPhys(HANDLERS + 0x80), &c.0);
    // MOV EAX, EBX; then the way back: PUSH 8; PUSH EBX; RETF of 32 bits.
    m.store(GuestPhys(NARROW), &[0x6a, 0x08, 0x66, 0x6a, 0x08, 0x66, 0x53, 0x66, 0xcb]);
    m.store(GuestPhys(USER), &[0x9c, 0x58, 0xcd, 0x30]); // PUSHF; POP EAX; INT 30h
}

/// Runs `ops` on the bare machine and under a monitor, whose figures it returns. An error begins with the check that noticed.
fn same(ops: &[Op], cell: Cell) -> Result<TranslationFigures, String> {
    let (mut bare, mut other) = (machine(ops), machine(ops));
    cell.put(&mut other, 3);
    STRIDES.hold(&mut bare, &mut other, cell)?;
    Ok(figures(&other))
}

/// Such kernels, bare and translated: for the seeded bugs.
pub(super) fn alike(cases: u32) -> Result<(), String> {
    let config = Cases { cases, failure_persistence: None, max_shrink_iters: 0, ..Cases::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[9; 32]));
    let check = |ops: Vec<Op>| same(&ops, BT_TRACE).map(drop).map_err(TestCaseError::fail);
    runner.run(&kernels(), check).map_err(|e| format!("returns: {e}"))
}

#[test]
fn returns_of_all_kinds_end_the_same_when_translated() {
    for cell in [BT_TRACE, BT_VTLB] {
        let (inlined, called_out) = (Counter::new(0), Counter::new(0));
        let check = |ops: Vec<Op>| {
            let figures = same(&ops, cell).map_err(TestCaseError::fail)?;
            let of =
                |counts: &std::collections::BTreeMap<&str, u64>| counts.get("IRET").copied().unwrap_or(0);
            inlined.set(inlined.get() + of(&figures.inlined));
            called_out.set(called_out.get() + of(&figures.callouts));
            Ok(())
        };
        if let Err(failure) = runner(100).run(&kernels(), check) {
            panic!("{cell}: {failure}");
        }
        println!("{cell}: {} returns inline, {} by callout", inlined.get(), called_out.get());
        assert!(inlined.get() > 10 * u64::from(cases(100)), "returns are inline");
        assert!(called_out.get() > 0, "some leave the ring");
    }
}
