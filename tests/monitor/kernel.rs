//! Generated kernels that keep the manual's rules: they flush what they change, and use no instruction that is sensitive and
//! unprivileged. So they must end the same on every machine. A kernel is a list of operations; it shrinks to the few
//! that matter, and prints as a flat binary that `subring run` starts.

use proptest::prelude::*;
use subring::addr::GuestPhys;
use subring::bus::Width;
use subring::cpu::{Segment, TableReg};
use subring::decode::SegReg;
use subring::machine::board::BoardConfig;
use subring::machine::{Config, Machine};

const RAM: u32 = 12 << 20;
const GDT: u32 = 0x4000;
const IDT: u32 = 0x5000;
const TSS: u32 = 0x6000;
const HANDLERS: u32 = 0x7000;
const COUNTS: u32 = 0x8000;
const USER_CODE: u32 = 0x9000;
const KERNEL_STACK: u32 = 0xc000;
const USER_STACK: u32 = 0xe000;
/// Two address spaces: each a directory and a table for the window.
const DIRECTORIES: [u32; 2] = [0x1_0000, 0x1_3000];
const WINDOW_TABLES: [u32; 2] = [0x1_2000, 0x1_4000];
const IDENTITY_TABLE: u32 = 0x1_1000;
const CODE: u32 = 0x2_0000;
/// The frames that the window's pages are mapped to: the first of 4 MiB that the window may be mapped to at once.
const FRAMES: u32 = 0x80_0000;
const FRAME_COUNT: u32 = 16;
/// The linear region whose mappings the kernel edits.
const WINDOW: u32 = 0x40_0000;
const PAGES: u32 = 6;

/// What a kernel does.
#[derive(Clone, Debug)]
pub(super) enum Op {
    /// Writes a window entry of the current space, and INVLPG (or a load of CR3) for it; perhaps the page is read before, and
    /// written after.
    SetPte { page: u32, frame: u32, flags: u32, by_cr3: bool, around: (bool, bool) },
    /// Reads or writes a window page, as the kernel or as user code.
    Touch { page: u32, offset: u32, write: bool, user: bool },
    /// A string store over window pages; it may fault on the way.
    Fill { page: u32, offset: u32, count: u32 },
    /// The other address space.
    Switch,
    /// The window's directory entry: its table, nothing, or a 4 MiB page; then a load of CR3.
    SetPde { kind: u8 },
    /// CR0.WP the other way.
    ToggleWp,
    /// CLI or STI.
    Interrupts(bool),
    /// OUT to the POST port, IN from the keyboard controller's status.
    Ports(u8),
    /// INT 30h in ring 0.
    Int,
    /// Privileged instructions from user code: CLI, HLT, OUT.
    UserMisdeed(u8),
    /// A segment of FS is changed in the GDT, and FS loaded anew.
    Descriptor { limit: u16 },
    /// Arithmetic.
    Compute(u32),
    /// The operand of the next Compute-like instruction is written first.
    SelfModify(u32),
    /// An access to the last pages of linear space, where a monitor may live.
    TouchTop { offset: u32 },
}

/// Lists of operations.
pub(super) fn kernels() -> impl Strategy<Value = Vec<Op>> {
    proptest::collection::vec(op(), 1..60)
}

fn op() -> impl Strategy<Value = Op> {
    let page = || 0..PAGES;
    prop_oneof![
        4 => (page(), 0..FRAME_COUNT, any::<u32>(), any::<bool>(), any::<(bool, bool)>()).prop_map(
            |(page, frame, flags, by_cr3, around)| Op::SetPte { page, frame, flags, by_cr3, around }
        ),
        6 => (page(), 0..4093u32, any::<bool>(), any::<bool>())
            .prop_map(|(page, offset, write, user)| Op::Touch { page, offset, write, user }),
        2 => (page(), 0..4096u32, 1..2500u32)
            .prop_map(|(page, offset, count)| Op::Fill { page, offset: offset & !3, count }),
        1 => Just(Op::Switch),
        1 => any::<u8>().prop_map(|kind| Op::SetPde { kind: kind % 3 }),
        1 => Just(Op::ToggleWp),
        2 => any::<bool>().prop_map(Op::Interrupts),
        1 => any::<u8>().prop_map(Op::Ports),
        1 => Just(Op::Int),
        1 => any::<u8>().prop_map(Op::UserMisdeed),
        1 => any::<u16>().prop_map(|limit| Op::Descriptor { limit: limit | 0xff }),
        2 => any::<u32>().prop_map(Op::Compute),
        1 => any::<u32>().prop_map(Op::SelfModify),
        1 => (0..0x40_0000u32).prop_map(|offset| Op::TouchTop { offset: offset & !3 }),
    ]
}

/// Code on its way to memory.
struct Code {
    bytes: Vec<u8>,
    at: u32,
}

impl Code {
    fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }
    fn put32(&mut self, opcode: &[u8], operand: u32) {
        self.put(opcode);
        self.put(&operand.to_le_bytes());
    }
    fn here(&self) -> u32 {
        self.at + self.bytes.len() as u32
    }
    /// MOV DWORD [at], value.
    fn store(&mut self, at: u32, value: u32) {
        self.put32(&[0xc7, 0x05], at);
        self.put(&value.to_le_bytes());
    }
    fn load_cr3(&mut self, cr3: u32) {
        self.put32(&[0xb8], cr3); // MOV EAX, cr3
        self.put(&[0x0f, 0x22, 0xd8]); // MOV CR3, EAX
    }
    /// `inner`, which may fault: the handlers go on at EBX.
    fn guarded(&mut self, inner: impl FnOnce(&mut Self)) {
        self.put32(&[0xbb], 0); // MOV EBX, the address behind
        let operand = self.bytes.len() - 4;
        inner(self);
        let behind = self.here().to_le_bytes();
        self.bytes[operand..operand + 4].copy_from_slice(&behind);
    }
    /// IRET to user code at `to`; its INT 30h, or a fault, comes back behind.
    fn in_user_mode(&mut self, to: u32) {
        self.guarded(|c| {
            for value in [0x23, USER_STACK, 0x202, 0x1b, to] {
                c.put32(&[0x68], value); // PUSH imm32
            }
            c.put(&[0xfb, 0xcf]); // STI; IRET
        });
    }
}

/// Where user code does what: MOV EAX, [EDI]; MOV [EDI], EAX; CLI; HLT; OUT 80h, AL. Each is followed by INT 30h.
const USER_SNIPPETS: [(u32, &[u8]); 5] = [
    (USER_CODE, &[0x8b, 0x07, 0xcd, 0x30]),
    (USER_CODE + 0x10, &[0x89, 0x07, 0xcd, 0x30]),
    (USER_CODE + 0x20, &[0xfa, 0xcd, 0x30]),
    (USER_CODE + 0x30, &[0xf4, 0xcd, 0x30]),
    (USER_CODE + 0x40, &[0xe6, 0x80, 0xcd, 0x30]),
];

/// Assembles a kernel.
fn assemble(ops: &[Op]) -> Vec<u8> {
    let mut c = Code { bytes: Vec::new(), at: CODE };
    let mut space = 0;
    let mut wp = true;
    for op in ops {
        emit(&mut c, op, &mut space, &mut wp);
    }
    c.put(&[0xfa, 0xf4]); // CLI; HLT
    c.bytes
}

fn emit(c: &mut Code, op: &Op, space: &mut usize, wp: &mut bool) {
    match *op {
        Op::SetPte { page, frame, flags, by_cr3, around } => {
            c.put32(&[0xbf], WINDOW + page * 4096); // MOV EDI, address
            if around.0 {
                c.guarded(|c| c.put(&[0x03, 0x07])); // ADD EAX, [EDI]
            }
            // Present, R/W, U/S, accessed, dirty and a bit that is the system's.
            let entry = (FRAMES + frame * 4096) | (flags & 0x267);
            c.store(WINDOW_TABLES[*space] + page * 4, entry);
            if by_cr3 {
                c.load_cr3(DIRECTORIES[*space]);
            } else {
                c.put32(&[0x0f, 0x01, 0x3d], WINDOW + page * 4096); // INVLPG
            }
            if around.1 {
                c.guarded(|c| c.put(&[0x01, 0x07])); // ADD [EDI], EAX
            }
        }
        Op::Touch { page, offset, write, user } => {
            c.put32(&[0xbf], WINDOW + page * 4096 + offset); // MOV EDI, address
            match (user, write) {
                (true, write) => c.in_user_mode(USER_SNIPPETS[usize::from(write)].0),
                (false, false) => c.guarded(|c| c.put(&[0x03, 0x07])), // ADD EAX, [EDI]
                (false, true) => c.guarded(|c| c.put(&[0x01, 0x07])),  // ADD [EDI], EAX
            }
        }
        Op::Fill { page, offset, count } => {
            c.put32(&[0xbf], WINDOW + page * 4096 + offset);
            c.put32(&[0xb9], count); // MOV ECX, count
            c.guarded(|c| c.put(&[0xfc, 0xf3, 0xab])); // CLD; REP STOSD
        }
        Op::Switch => {
            *space ^= 1;
            c.load_cr3(DIRECTORIES[*space]);
        }
        Op::SetPde { kind } => {
            let entry = [WINDOW_TABLES[*space] | 7, 0, FRAMES | 0x87][usize::from(kind)];
            c.store(DIRECTORIES[*space] + (WINDOW >> 22) * 4, entry);
            c.load_cr3(DIRECTORIES[*space]);
        }
        Op::ToggleWp => {
            *wp = !*wp;
            let cr0 = 0x8000_0011 | if *wp { 1 << 16 } else { 0 };
            c.put32(&[0xb8], cr0);
            c.put(&[0x0f, 0x22, 0xc0]); // MOV CR0, EAX
        }
        Op::Interrupts(on) => c.put(&[if on { 0xfb } else { 0xfa }]),
        Op::Ports(value) => c.put(&[0xb0, value, 0xe6, 0x80, 0xe4, 0x64]),
        Op::Int => c.guarded(|c| c.put(&[0xcd, 0x30])),
        Op::UserMisdeed(n) => c.in_user_mode(USER_SNIPPETS[2 + usize::from(n) % 3].0),
        Op::Descriptor { limit } => {
            c.store(GDT + 0x30, u32::from(limit));
            c.put(&[0x66, 0xb8, 0x33, 0x00, 0x8e, 0xe0]); // MOV AX, 33h; MOV FS, AX
            c.put32(&[0xbf], u32::from(limit) / 2 * 2);
            c.guarded(|c| c.put(&[0x64, 0x8b, 0x07])); // MOV EAX, FS:[EDI]
        }
        Op::Compute(n) => {
            c.put32(&[0x05], n); // ADD EAX, n
            c.put(&[0x69, 0xc0]); // IMUL EAX, EAX, n
            c.put(&(n | 1).to_le_bytes());
            c.put32(&[0x01, 0x05], COUNTS + 0x40); // ADD [at], EAX
        }
        Op::SelfModify(n) => {
            let operand = c.here() + 10 + 1;
            c.store(operand, n);
            c.put32(&[0x05], 0); // ADD EAX, what was written
        }
        Op::TouchTop { offset } => {
            c.put32(&[0xbf], 0xffc0_0000 + offset);
            c.guarded(|c| c.put(&[0x8b, 0x07])); // MOV EAX, [EDI]
        }
    }
}

fn gate(offset: u32, attr: u64) -> u64 {
    u64::from(offset & 0xffff) | 0x08 << 16 | attr << 40 | u64::from(offset >> 16) << 48
}

/// The machine that runs `ops`, with paging on and a fast timer.
pub(super) fn machine(ops: &[Op]) -> Machine {
    let board = BoardConfig { ram_size: RAM, ..BoardConfig::default() };
    let mut m = Machine::new(Config { ram_size: RAM, board, bios: None, vga_bios: None }).expect("a machine");
    let mut put = |at: u32, words: &[u64]| {
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        m.store(GuestPhys(at), &bytes);
    };
    let tss = 0x8900_0000_0067 | u64::from(TSS) << 16;
    let flat = |attr: u64| 0x00cf_0000_0000_ffff | attr << 40;
    // Ring 0 code and data, ring 3 code and data, the TSS, the segment of FS.
    put(GDT, &[0, flat(0x9b), flat(0x93), flat(0xfb), flat(0xf3), tss, 0x0040_f300_0000_ffff]);
    let fault = HANDLERS;
    let fault_with_code = HANDLERS;
    let mut idt = vec![gate(fault, 0x8e); 32];
    for vector in [8, 10, 11, 12, 13, 14, 17] {
        idt[vector] = gate(fault_with_code, 0x8e);
    }
    idt.resize(0x28, gate(HANDLERS + 0x40, 0x8e));
    idt.resize(0x30, gate(HANDLERS + 0x40, 0x8e));
    idt.push(gate(HANDLERS + 0x80, 0xee));
    put(IDT, &idt);
    bytes(&mut m);
    tables(&mut m);
    m.store(GuestPhys(CODE), &assemble(ops));
    // Content that tells the frames apart.
    for n in 0..FRAME_COUNT {
        let words: Vec<u8> = (0..1024u32).flat_map(|k| (n << 16 | k | 1 << 31).to_le_bytes()).collect();
        m.store(GuestPhys(FRAMES + n * 4096), &words);
    }
    start(&mut m);
    m
}

/// Handlers, user code, the TSS.
fn bytes(m: &mut Machine) {
    let inc = |at: u32| [&[0xff, 0x05][..], &at.to_le_bytes()].concat();
    let back = [&[0xbc][..], &KERNEL_STACK.to_le_bytes(), &[0xff, 0xe3]].concat(); // MOV ESP, top; JMP EBX
    // A fault: count, add CR2 and the frame's first word up, go on.
    let sum = [&[0x0f, 0x20, 0xd0, 0x03, 0x04, 0x24, 0x01, 0x05][..], &(COUNTS + 4).to_le_bytes()].concat();
    m.store(GuestPhys(HANDLERS), &[inc(COUNTS), sum, back.clone()].concat());
    // A timer tick: count, acknowledge, return.
    let tick = [inc(COUNTS + 8), vec![0x50, 0xb0, 0x20, 0xe6, 0x20, 0x58, 0xcf]].concat();
    m.store(GuestPhys(HANDLERS + 0x40), &tick);
    m.store(GuestPhys(HANDLERS + 0x80), &[inc(COUNTS + 12), back].concat());
    for (at, code) in USER_SNIPPETS {
        m.store(GuestPhys(at), code);
    }
    m.store(GuestPhys(TSS + 4), &KERNEL_STACK.to_le_bytes());
    m.store(GuestPhys(TSS + 8), &0x10u32.to_le_bytes());
    m.store(GuestPhys(TSS + 0x66), &0x68u16.to_le_bytes());
}

/// Both address spaces: the first 2 MiB of memory as they are, the window empty.
fn tables(m: &mut Machine) {
    let identity: Vec<u8> = (0..512u32).flat_map(|n| (n << 12 | 7).to_le_bytes()).collect();
    m.store(GuestPhys(IDENTITY_TABLE), &identity);
    for (directory, table) in DIRECTORIES.into_iter().zip(WINDOW_TABLES) {
        m.store(GuestPhys(directory), &(IDENTITY_TABLE | 7).to_le_bytes());
        m.store(GuestPhys(directory + (WINDOW >> 22) * 4), &(table | 7).to_le_bytes());
    }
}

fn start(m: &mut Machine) {
    let setup: [(u16, u32); 12] = [
        (0x20, 0x11),
        (0x21, 0x20),
        (0x21, 0x04),
        (0x21, 0x01),
        (0xa0, 0x11),
        (0xa1, 0x28),
        (0xa1, 0x02),
        (0xa1, 0x01),
        (0x21, 0xfe),
        (0x43, 0x34),
        (0x40, 2),
        (0x40, 0),
    ];
    for (port, value) in setup {
        m.world.board.port_write(port, Width::Byte, value, 0, &mut m.world.map);
    }
    m.world.settle();
    m.start_flat(CODE, 0x1357_9bdf, 0, KERNEL_STACK);
    let cpu = &mut m.cpu;
    cpu.gdtr = TableReg { base: GDT, limit: 0x37 };
    cpu.idtr = TableReg { base: IDT, limit: 0x187 };
    cpu.tr = Segment::system(0x28, TSS, 0x67, 0x8b);
    for s in [SegReg::Ds, SegReg::Es, SegReg::Fs, SegReg::Gs] {
        cpu.set_seg(s, Segment::with(0x23, 0, !0, 0xcf3));
    }
    cpu.cr3 = DIRECTORIES[0];
    cpu.cr4 = subring::cpu::Cr4::PSE;
    cpu.cr0 = subring::cpu::Cr0::from_bits_truncate(0x8001_0011);
    cpu.refresh();
    m.world.tlb.flush(true);
}
