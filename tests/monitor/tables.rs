//! Generated kernels that do nothing but page tables, in both layouts and between them: what [`super::kernel`] does with two
//! levels, and with PAE; the top level changed with and without loading it; more regions than there are frames for tables.
//! They flush what they change, so they end the same on every machine. And the seeded bugs about that.

use super::equivalence::runner;
use super::kernel::image::CHIPS;
use super::pair::{CELLS, Cell, Strides, TRACE, VTLB};
use crate::vmm::bug::{self, Bug};
use proptest::prelude::*;
use proptest::test_runner::{Config as Cases, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use subring::addr::GuestPhys;
use subring::bus::Width;
use subring::cpu::{Segment, TableReg};
use subring::decode::SegReg;
use subring::machine::board::BoardConfig;
use subring::machine::{Config, Machine};
use subring::vmm;

/// How long a kernel runs, and when it is looked at.
const STRIDES: Strides = Strides { most: 60_000, stride: 97, whole: 64 };

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
/// The same with PAE: the two tables of pointers, the directories, the tables.
const POINTERS: [u32; 2] = [0x1_5000, 0x1_5020];
const PAE_DIRECTORIES: [u32; 2] = [0x1_6000, 0x1_7000];
const PAE_WINDOW_TABLES: [u32; 2] = [0x1_8000, 0x1_9000];
const PAE_IDENTITY_TABLE: u32 = 0x1_a000;
const PAE_FAR_DIRECTORIES: [u32; 2] = [0x1_b000, 0x1_c000];
const CODE: u32 = 0x2_0000;
/// The frames that the window's pages are mapped to: the first of 4 MiB that the window may be mapped to at once.
const FRAMES: u32 = 0x80_0000;
const FRAME_COUNT: u32 = 16;
/// The linear region whose mappings the kernel edits.
const WINDOW: u32 = 0x40_0000;
const PAGES: u32 = 6;
/// Where the window may be seen a second time.
const ALIAS: u32 = 0x4000_0000;
/// Where it is seen once in each 4 MiB, and in how many of them: more than there are tables for.
const FAR: u32 = 0x8000_0000;
const FAR_COUNT: u32 = 28;

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
    /// From two levels of page tables to three, or back, by way of no paging.
    TogglePae,
    /// The window's second place comes or goes. With PAE that is a change of the top level, which counts when CR3 is loaded;
    /// the page is touched before.
    Alias { on: bool, page: u32, write: bool, reload: bool },
    /// A window page in all far places; then it is mapped to another frame, CR3 loaded, and all are visited again, backwards.
    Sweep { page: u32, frame: u32, write: bool },
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
        1 => Just(Op::TogglePae),
        2 => (any::<bool>(), page(), any::<bool>(), any::<bool>())
            .prop_map(|(on, page, write, reload)| Op::Alias { on, page, write, reload }),
        1 => (page(), 0..FRAME_COUNT, any::<bool>())
            .prop_map(|(page, frame, write)| Op::Sweep { page, frame, write }),
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
    /// MOV EAX, value; MOV CRn, EAX.
    fn load_control(&mut self, n: u8, value: u32) {
        self.put32(&[0xb8], value);
        self.put(&[0x0f, 0x22, 0xc0 | n << 3]);
    }
    fn load_cr3(&mut self, now: &Now) {
        self.load_control(3, now.cr3());
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

/// What the kernel has done to the processor so far.
struct Now {
    space: usize,
    wp: bool,
    pae: bool,
}

impl Now {
    fn cr0(&self) -> u32 {
        0x8000_0011 | u32::from(self.wp) << 16
    }
    fn cr3(&self) -> u32 {
        if self.pae { POINTERS[self.space] } else { DIRECTORIES[self.space] }
    }
    fn cr4(&self) -> u32 {
        0x10 | u32::from(self.pae) << 5
    }
    /// Where the window's entry for `page` is, and that of its directory.
    fn pte(&self, page: u32) -> u32 {
        if self.pae { PAE_WINDOW_TABLES[self.space] + page * 8 } else { WINDOW_TABLES[self.space] + page * 4 }
    }
    fn pde(&self) -> u32 {
        if self.pae {
            PAE_DIRECTORIES[self.space] + (WINDOW >> 21) * 8
        } else {
            DIRECTORIES[self.space] + (WINDOW >> 22) * 4
        }
    }
    fn window_table(&self) -> u32 {
        if self.pae { PAE_WINDOW_TABLES[self.space] } else { WINDOW_TABLES[self.space] }
    }
}

/// Where user code does what: MOV EAX, [EDI]; MOV [EDI], EAX. Each is followed by INT 30h.
const USER_SNIPPETS: [(u32, &[u8]); 2] =
    [(USER_CODE, &[0x8b, 0x07, 0xcd, 0x30]), (USER_CODE + 0x10, &[0x89, 0x07, 0xcd, 0x30])];

/// Assembles a kernel.
fn assemble(ops: &[Op]) -> Vec<u8> {
    let mut c = Code { bytes: Vec::new(), at: CODE };
    let mut now = Now { space: 0, wp: true, pae: false };
    for op in ops {
        emit(&mut c, op, &mut now);
    }
    c.put(&[0xfa, 0xf4]); // CLI; HLT
    c.bytes
}

fn emit(c: &mut Code, op: &Op, now: &mut Now) {
    match *op {
        Op::SetPte { page, frame, flags, by_cr3, around } => {
            c.put32(&[0xbf], WINDOW + page * 4096); // MOV EDI, address
            if around.0 {
                c.guarded(|c| c.put(&[0x03, 0x07])); // ADD EAX, [EDI]
            }
            // Present, R/W, U/S, accessed, dirty and a bit that is the system's.
            let entry = (FRAMES + frame * 4096) | (flags & 0x267);
            c.store(now.pte(page), entry);
            if now.pae {
                // Every 16th has a bit set that is reserved.
                let high = if flags >> 28 == 0 { 1 << (flags >> 23 & 31) } else { 0 };
                c.store(now.pte(page) + 4, high);
            }
            if by_cr3 {
                c.load_cr3(now);
            } else {
                c.put32(&[0x0f, 0x01, 0x3d], WINDOW + page * 4096); // INVLPG
                c.put32(&[0x0f, 0x01, 0x3d], ALIAS + WINDOW + page * 4096);
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
            now.space ^= 1;
            c.load_cr3(now);
        }
        Op::SetPde { kind } => {
            let entry = [now.window_table() | 7, 0, FRAMES | 0x87][usize::from(kind)];
            c.store(now.pde(), entry);
            c.load_cr3(now);
        }
        Op::ToggleWp => {
            now.wp = !now.wp;
            c.load_control(0, now.cr0());
        }
        Op::Interrupts(on) => c.put(&[if on { 0xfb } else { 0xfa }]),
        Op::TogglePae => {
            now.pae = !now.pae;
            c.load_control(0, now.cr0() & !0x8000_0000);
            c.load_control(4, now.cr4());
            c.load_cr3(now);
            c.load_control(0, now.cr0());
        }
        Op::Sweep { page, frame, write } => {
            let visit = |c: &mut Code, n: u32| {
                c.put32(&[0xbf], FAR + (n << 22) + page * 4096);
                c.guarded(|c| c.put(&[if write { 0x01 } else { 0x03 }, 0x07]));
            };
            c.load_cr3(now);
            (0..FAR_COUNT).for_each(|n| visit(c, n));
            c.store(now.pte(page), (FRAMES + frame * 4096) | 7);
            if now.pae {
                c.store(now.pte(page) + 4, 0);
            }
            c.load_cr3(now);
            (0..FAR_COUNT).rev().for_each(|n| visit(c, n));
        }
        Op::Alias { on, page, write, reload } => {
            if now.pae {
                c.store(now.cr3() + 8, if on { PAE_DIRECTORIES[now.space] | 1 } else { 0 });
            } else {
                let entry = if on { now.window_table() | 7 } else { 0 };
                c.store(now.cr3() + ((ALIAS + WINDOW) >> 22) * 4, entry);
            }
            if reload || !now.pae {
                c.load_cr3(now);
            }
            c.put32(&[0xbf], ALIAS + WINDOW + page * 4096);
            c.guarded(|c| c.put(&[if write { 0x01 } else { 0x03 }, 0x07])); // ADD [EDI], EAX; ADD EAX, [EDI]
        }
    }
}

fn gate(offset: u32, attr: u64) -> u64 {
    u64::from(offset & 0xffff) | 0x08 << 16 | attr << 40 | u64::from(offset >> 16) << 48
}

/// The machine that runs `ops`, with paging on and a fast timer.
fn machine(ops: &[Op]) -> Machine {
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

/// Both address spaces in both layouts: the first 2 MiB of memory as they are, the window empty.
fn tables(m: &mut Machine) {
    let identity: Vec<u8> = (0..512u32).flat_map(|n| (n << 12 | 7).to_le_bytes()).collect();
    m.store(GuestPhys(IDENTITY_TABLE), &identity);
    for (directory, table) in DIRECTORIES.into_iter().zip(WINDOW_TABLES) {
        m.store(GuestPhys(directory), &(IDENTITY_TABLE | 7).to_le_bytes());
        m.store(GuestPhys(directory + (WINDOW >> 22) * 4), &(table | 7).to_le_bytes());
        for n in 0..FAR_COUNT {
            m.store(GuestPhys(directory + ((FAR >> 22) + n) * 4), &(table | 7).to_le_bytes());
        }
    }
    let identity: Vec<u8> = (0..512u64).flat_map(|n| (n << 12 | 7).to_le_bytes()).collect();
    m.store(GuestPhys(PAE_IDENTITY_TABLE), &identity);
    for n in 0..2 {
        let (directory, table) = (PAE_DIRECTORIES[n], PAE_WINDOW_TABLES[n]);
        m.store(GuestPhys(POINTERS[n]), &(directory | 1).to_le_bytes());
        m.store(GuestPhys(directory), &(PAE_IDENTITY_TABLE | 7).to_le_bytes());
        m.store(GuestPhys(directory + (WINDOW >> 21) * 8), &(table | 7).to_le_bytes());
        m.store(GuestPhys(POINTERS[n] + 16), &(PAE_FAR_DIRECTORIES[n] | 1).to_le_bytes());
        for region in 0..FAR_COUNT {
            m.store(GuestPhys(PAE_FAR_DIRECTORIES[n] + region * 16), &(table | 7).to_le_bytes());
        }
    }
}

fn start(m: &mut Machine) {
    for (port, value) in CHIPS {
        m.world.board.port_write(port.into(), Width::Byte, value.into(), 0, &mut m.world.map);
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

/// Runs `ops` on the bare machine and under a monitor. An error begins with the check that noticed.
fn same(ops: &[Op], cell: Cell) -> Result<(), String> {
    same_with(ops, cell, &cell.config(3)).map(drop)
}

/// The same, with the monitor set up in another way; its machine.
pub(super) fn same_with(ops: &[Op], cell: Cell, config: &vmm::Config) -> Result<Machine, String> {
    let (mut bare, mut other) = (machine(ops), machine(ops));
    cell.put_with(&mut other, config);
    STRIDES.hold(&mut bare, &mut other, cell.coherence)?;
    Ok(other)
}

#[test]
fn page_tables_of_both_layouts_end_the_same() {
    for cell in CELLS {
        let result = runner(60).run(&kernels(), |ops| same(&ops, cell).map_err(TestCaseError::fail));
        if let Err(failure) = result {
            panic!("{cell}: {failure}");
        }
    }
}

/// The bugs, and the policy that each concerns.
const BUGS: [(Bug, Cell); 7] = [
    (Bug::StalePointers, TRACE),
    (Bug::HalfEntries, TRACE),
    (Bug::ForgetRefilling, TRACE),
    (Bug::ForgetRefilling, VTLB),
    (Bug::SkipTrace, TRACE),
    (Bug::ForgetSync, TRACE),
    (Bug::ForgetInvlpg, VTLB),
];

#[test]
fn every_seeded_bug_about_page_tables_is_noticed() {
    let mut missed = Vec::new();
    for (bug, cell) in BUGS {
        let config = Cases { cases: 300, failure_persistence: None, max_shrink_iters: 8, ..Cases::default() };
        let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[9; 32]));
        let result = runner
            .run(&kernels(), |ops| bug::with(Some(bug), || same(&ops, cell)).map_err(TestCaseError::fail));
        match result {
            Err(TestError::Fail(reason, ops)) => {
                let what = reason.message().split(':').next().unwrap_or_default().to_owned();
                println!("{bug:?} ({cell}): noticed by {what}, in {} operations", ops.len());
            }
            _ => missed.push((bug, cell)),
        }
    }
    assert!(missed.is_empty(), "nobody noticed {missed:?}");
}
