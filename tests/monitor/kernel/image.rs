//! The flat binary of a kernel: descriptor and page tables, handlers, user code, code for the code window, the operations'
//! instructions, and what brings the processor there. It is loaded and started at [`BASE`].

use super::code::Code;
use super::emit::assemble;
use super::tables::{TOP_DIRECTORY, Tables};
use super::{CODE_PAGES, FRAME_COUNT, Op};
use std::path::Path;
use subring::decode::{Decoded, MAX_INSN_LEN, decode, disassemble};
use subring::load::{self, Around, Guest};
use subring::machine::board::BoardConfig;
use subring::machine::{Config, Machine};

/// Bytes of memory that a kernel needs.
pub(crate) const RAM: u32 = 5 << 20;
/// Where the binary lies, and starts.
pub(crate) const BASE: u32 = 0x3000;
const REGISTERS: u32 = 0x3f00;
const GDT: u32 = 0x4000;
const IDT: u32 = 0x5000;
const TSS: u32 = 0x6000;
const HANDLERS: u32 = 0x7000;
pub(super) const COUNTS: u32 = 0x8000;
const USER_CODE: u32 = 0x9000;
pub(super) const REAL_CODE: u32 = 0x9400;
pub(super) const V86_SEGMENT: u32 = 0x900;
pub(super) const V86_IP: u32 = 0x600;
pub(super) const LDT: u32 = 0x9800;
const KERNEL_STACK: u32 = 0xc000;
pub(super) const USER_STACK: u32 = 0xe000;
/// The frames of the code window.
pub(super) const CODE_FRAMES: u32 = 0x1_8000;
/// Routines for code segments with a base: one ends with INT 30h, the other with a jump to what [`FAR_POINTER`] holds.
pub(super) const BASED: [u32; 2] = [0x1_d000, 0x1_d020];
pub(super) const FAR_POINTER: u32 = 0x8060;
pub(super) const NUMERIC_CONTROLS: u32 = 0x8070;
const CODE: u32 = 0x3_0000;
/// The frames that the window's pages are mapped to: the first of 4 MiB that the window may be mapped to at once.
pub(super) const FRAMES: u32 = 0x40_0000;
/// The linear region whose mappings the kernel edits.
pub(super) const WINDOW: u32 = 0x40_0000;
/// The one whose pages hold code.
pub(super) const CODE_WINDOW: u32 = 0xc0_0000;

/// A page behind those with code, which is global.
pub(super) const GLOBAL_PAGE: u32 = 7;

/// Offsets in a frame with code: a routine; one that user code runs; one that maps its own page elsewhere; one whose only
/// instruction goes on in the next page; and right before it, one that maps that next page elsewhere.
pub(super) const ROUTINE: u32 = 0x10;
pub(super) const USER_ROUTINE: u32 = 0x20;
pub(super) const REMAPPER: u32 = 0x40;
pub(super) const CROSSING: u32 = 0xffd;
pub(super) const NEXT_REMAPPER: u32 = CROSSING - 5;

pub(super) const USER_CODE_SELECTOR: u16 = 0x1b;
pub(super) const USER_DATA: u16 = 0x23;
/// The slot of the GDT that operations play with.
pub(super) const GAME: u32 = GDT + 0x48;
pub(super) const GAME_SELECTOR: u16 = 0x4b;
pub(super) const SMALL_STACK: u16 = 0x50;
pub(super) const LDT_SELECTOR: u16 = 0x58;

/// Where user code does what: MOV EAX, [EDI]; MOV [EDI], EAX; CLI; HLT; OUT 80h, AL. Each is followed by INT 30h.
pub(super) const USER_SNIPPETS: [(u32, &[u8]); 5] = [
    (USER_CODE, &[0x8b, 0x07, 0xcd, 0x30]),
    (USER_CODE + 0x10, &[0x89, 0x07, 0xcd, 0x30]),
    (USER_CODE + 0x20, &[0xfa, 0xcd, 0x30]),
    (USER_CODE + 0x30, &[0xf4, 0xcd, 0x30]),
    (USER_CODE + 0x40, &[0xe6, 0x80, 0xcd, 0x30]),
];

/// Where user code does an IRET to each of the first two, without RF and with it.
pub(super) const USER_RETURNS: [[u32; 2]; 2] =
    [[USER_CODE + 0x50, USER_CODE + 0x70], [USER_CODE + 0x90, USER_CODE + 0xb0]];

/// Ports and values that set up the chips: both 8259A with vectors 20h and 28h, the timer let through, and the 8254 fast.
pub(crate) const CHIPS: [(u8, u8); 12] = [
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

/// CR0 with paging on.
pub(super) fn paging_cr0(wp: bool) -> u32 {
    0x8000_0011 | if wp { 1 << 16 } else { 0 }
}

/// A segment descriptor; `flags` are G, D/B and AVL with a bit between.
pub(super) fn descriptor(base: u32, limit: u32, attr: u64, flags: u64) -> u64 {
    let (base, limit) = (u64::from(base), u64::from(limit));
    (limit & 0xffff)
        | (base & 0xff_ffff) << 16
        | attr << 40
        | (limit >> 16 & 0xf) << 48
        | flags << 52
        | (base >> 24) << 56
}

/// Work in a code segment, the same in 32-bit and 16-bit code: ADD EAX, CS:[EDI]; PUSH 3; POP ECX; ADD EAX, 90901234h; LOOP to that.
/// (As 16-bit code ADD AX, CS:[BX], and two NOPs.)
const BASED_WORK: &[u8] = &[0x2e, 0x03, 0x07, 0x6a, 3, 0x59, 0x05, 0x34, 0x12, 0x90, 0x90, 0xe2, 0xf9];

/// JMP FAR [FAR_POINTER].
fn far_jump() -> Vec<u8> {
    [&[0xff, 0x2d][..], &FAR_POINTER.to_le_bytes()].concat()
}

/// The binary on its way: bytes from [`BASE`] on.
struct Image(Vec<u8>);

impl Image {
    fn put(&mut self, at: u32, bytes: &[u8]) {
        let from = (at - BASE) as usize;
        let end = from + bytes.len();
        if self.0.len() < end {
            self.0.resize(end, 0);
        }
        self.0[from..end].copy_from_slice(bytes);
    }
    fn put_words(&mut self, at: u32, words: &[u64]) {
        let bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        self.put(at, &bytes);
    }
}

/// The flat binary that does `ops`, to be loaded and started at [`BASE`].
pub(crate) fn binary(ops: &[Op]) -> Vec<u8> {
    let mut image = Image(Vec::new());
    image.put(BASE, &boot());
    descriptor_tables(&mut image);
    handlers(&mut image);
    for (at, code) in USER_SNIPPETS {
        image.put(at, code);
    }
    for (returns, (to, _)) in USER_RETURNS.into_iter().zip(USER_SNIPPETS) {
        for (at, flags) in returns.into_iter().zip([0x202, 0x1_0202]) {
            let mut c = Code::new(at);
            c.iret(USER_CODE_SELECTOR, to, flags);
            image.put(at, &c.bytes);
        }
    }
    image.put(REAL_CODE, &real());
    // In virtual-8086 mode: INC WORD [8050h]; PUSH DS; POP ES; INT 30h.
    let v86 = [0xff, 0x06, 0x50, 0x80, 0x1e, 0x07, 0xcd, 0x30];
    image.put(V86_SEGMENT * 16 + V86_IP, &v86);
    page_tables(&mut image);
    for n in 0..CODE_PAGES {
        image.put(CODE_FRAMES + n * 4096, &code_frame(n));
    }
    for (at, end) in BASED.into_iter().zip([vec![0xcd, 0x30], far_jump()]) {
        image.put(at, &[BASED_WORK, &end].concat());
    }
    image.put(CODE, &assemble(ops, CODE).0);
    image.0
}

/// The operations with their instructions, for people.
pub(crate) fn listing(ops: &[Op]) -> String {
    let (code, starts) = assemble(ops, CODE);
    let mut text = String::new();
    let mut at = 0;
    while at < code.len() {
        let here = CODE + at as u32;
        for (_, op) in starts.iter().zip(ops).filter(|(start, _)| **start == here) {
            text += &format!("{op:?}\n");
        }
        let bytes = &code[at..code.len().min(at + MAX_INSN_LEN)];
        text += &format!("    {here:08x}  {}\n", disassemble(bytes, true, here));
        at += match decode(bytes, true) {
            Decoded::Insn(insn) => usize::from(insn.len),
            _ => 1,
        };
    }
    text
}

/// The machine that `subring run` would start the binary of `ops` in.
pub(crate) fn machine(ops: &[Op]) -> Machine {
    let board = BoardConfig { ram_size: RAM, ..BoardConfig::default() };
    let mut m = Machine::new(Config { ram_size: RAM, board, bios: None, vga_bios: None }).expect("a machine");
    let around = Around { mem: RAM, at: Some(BASE), named: true, ..Around::default() };
    let plan = load::plan(Path::new("kernel"), &binary(ops), Guest::Flat, &around).expect("it fits");
    plan.carry_out(&mut m);
    m
}

/// From the state that a flat binary starts in to the first operation: tables, a fast timer, content that tells the frames
/// apart, paging.
fn boot() -> Vec<u8> {
    let mut c = Code::new(BASE);
    c.put32(&[0x0f, 0x01, 0x15], REGISTERS); // LGDT
    c.put32(&[0x0f, 0x01, 0x1d], REGISTERS + 8); // LIDT
    c.put(&[0x66, 0xb8, 0x28, 0x00, 0x0f, 0x00, 0xd8]); // MOV AX, 28h; LTR AX
    c.load_segments(0x10, &[2]);
    c.put32(&[0xbc], KERNEL_STACK); // MOV ESP
    c.load_segments(USER_DATA, &[0, 3, 4, 5]);
    for (port, value) in CHIPS {
        c.put(&[0xb0, value, 0xe6, port]); // MOV AL, value; OUT port, AL
    }
    c.edi(FRAMES);
    c.put32(&[0xb8], 1 << 31); // MOV EAX
    c.put32(&[0xba], FRAME_COUNT); // MOV EDX
    let again = c.here();
    c.put32(&[0xb9], 64); // MOV ECX
    c.put(&[0xf3, 0xab]); // REP STOSD
    c.put32(&[0x81, 0xc7], 4096 - 256); // ADD EDI
    c.put32(&[0x05], 1 << 16); // ADD EAX
    c.put(&[0x4a]); // DEC EDX
    let behind = c.here() + 2;
    c.put(&[0x75, again.wrapping_sub(behind) as u8]); // JNZ
    c.put(&[0xb8, 0x10, 0, 0, 0, 0x0f, 0x22, 0xe0]); // MOV EAX, CR4.PSE; MOV CR4, EAX
    c.load_cr3(Tables::new(0, false).cr3);
    c.load_cr0(paging_cr0(true));
    c.put32(&[0xb8], 0x1357_9bdf); // MOV EAX
    let behind = c.here() + 5;
    c.put32(&[0xe9], CODE.wrapping_sub(behind)); // JMP
    assert!(c.here() < REGISTERS);
    c.bytes
}

fn gate(offset: u32, attr: u64) -> u64 {
    u64::from(offset & 0xffff) | 0x08 << 16 | attr << 40 | u64::from(offset >> 16) << 48
}

fn descriptor_tables(image: &mut Image) {
    let flat = |attr| descriptor(0, 0xf_ffff, attr, 0xc);
    let gdt = [
        0,
        flat(0x9b),
        flat(0x93),
        flat(0xfb),
        flat(0xf3),
        descriptor(TSS, 0x67, 0x89, 0),
        descriptor(0, 0xffff, 0xf3, 4),
        descriptor(0, 0xffff, 0x9b, 0), // 38h: 16-bit code
        descriptor(0, 0xffff, 0x93, 0), // 40h: data to go with it
        0,                              // 48h: the operations'
        descriptor(0, 0xffff, 0x93, 0), // 50h: a 16-bit stack
        descriptor(LDT, 0x1f, 0x82, 0), // 58h: the LDT
    ];
    image.put_words(GDT, &gdt);
    let mut idt = vec![gate(HANDLERS, 0x8e); 32];
    idt.resize(0x30, gate(HANDLERS + 0x40, 0x8e));
    idt[0x2d] = gate(HANDLERS + 0xc0, 0x8e);
    idt.push(gate(HANDLERS + 0x80, 0xee));
    image.put_words(IDT, &idt);
    let register = |base: u32, limit: u16| [&limit.to_le_bytes()[..], &base.to_le_bytes()].concat();
    image.put(REGISTERS, &register(GDT, 8 * gdt.len() as u16 - 1));
    image.put(REGISTERS + 8, &register(IDT, 8 * 0x31 - 1));
    image.put(TSS + 4, &KERNEL_STACK.to_le_bytes());
    image.put(TSS + 8, &0x10u32.to_le_bytes());
    image.put(TSS + 0x66, &0x68u16.to_le_bytes());
}

/// OUT E9h, AL.
const PRINT: [u8; 2] = [0xe6, 0xe9];

/// Handlers. They count by SS, which is the only segment that they know: out of virtual-8086 mode the others are null. Each prints what
/// AL is to port E9h, so that the order of events shows.
fn handlers(image: &mut Image) {
    let inc = |at: u32| [&[0x36, 0xff, 0x05][..], &at.to_le_bytes()].concat();
    let back = [&[0xbc][..], &KERNEL_STACK.to_le_bytes(), &[0xff, 0xe3]].concat(); // MOV ESP, top; JMP EBX
    // A fault: count, add CR2 and the frame's first word up, go on.
    let sum =
        [&[0x0f, 0x20, 0xd0, 0x03, 0x04, 0x24, 0x36, 0x01, 0x05][..], &(COUNTS + 4).to_le_bytes()].concat();
    image.put(HANDLERS, &[inc(COUNTS), sum, PRINT.to_vec(), back.clone()].concat());
    // A timer tick: count, acknowledge, return.
    let tick = [inc(COUNTS + 8), PRINT.to_vec(), vec![0x50, 0xb0, 0x20, 0xe6, 0x20, 0x58, 0xcf]].concat();
    image.put(HANDLERS + 0x40, &tick);
    image.put(HANDLERS + 0x80, &[inc(COUNTS + 12), PRINT.to_vec(), back].concat());
    // IRQ 13, the x87's: IGNNE#, acknowledge to both, return.
    let numeric = [
        inc(COUNTS + 0x18),
        PRINT.to_vec(),
        vec![0x50, 0xe6, 0xf0, 0xb0, 0x20, 0xe6, 0xa0, 0xe6, 0x20, 0x58, 0xcf],
    ];
    image.put(HANDLERS + 0xc0, &numeric.concat());
    // Control words: zero divide unmasked, everything masked.
    image.put(NUMERIC_CONTROLS, &[0x7b, 0x03, 0x7f, 0x03]);
}

/// To real mode, some work there, and back to EBX.
fn real() -> Vec<u8> {
    let mut c = Code::new(REAL_CODE);
    c.put(&[0xfa, 0x0f, 0x20, 0xc0]); // CLI; MOV EAX, CR0
    c.put32(&[0x25], 0x7fff_ffff); // AND EAX
    c.put(&[0x0f, 0x22, 0xc0]); // MOV CR0, EAX
    let to = c.here() + 7;
    c.put32(&[0xea], to); // JMP 38h:the next
    c.put(&[0x38, 0x00]);
    // 16-bit code from here.
    c.put(&[0xb8, 0x40, 0x00]); // MOV AX, 40h
    let to_segments: [&[u8]; 5] = [&[0x8e, 0xd8], &[0x8e, 0xc0], &[0x8e, 0xd0], &[0x8e, 0xe0], &[0x8e, 0xe8]];
    to_segments.iter().for_each(|load| c.put(load)); // MOV DS, ES, SS, FS, GS
    c.put(&[0x0f, 0x20, 0xc0, 0x24, 0xfe, 0x0f, 0x22, 0xc0]); // MOV EAX, CR0; AND AL, FEh; MOV CR0, EAX
    let to = c.here() + 5;
    c.put(&[0xea]); // JMP 0:the next
    c.put(&(to as u16).to_le_bytes());
    c.put(&[0x00, 0x00, 0x31, 0xc0]); // XOR AX, AX
    to_segments.iter().for_each(|load| c.put(load));
    // INC WORD [8054h]; IN AL, 64h; PUSH AX; POP CX; MOV CX, 9; MOV SI, 8000h; MOV DI, 8100h; REP MOVSB
    c.put(&[0xff, 0x06, 0x54, 0x80, 0xe4, 0x64, 0x50, 0x59, 0xb9, 9, 0, 0xbe, 0, 0x80, 0xbf, 0, 0x81]);
    c.put(&[0xfc, 0xf3, 0xa4]);
    c.put(&[0x0f, 0x20, 0xc0, 0x0c, 0x01, 0x0f, 0x22, 0xc0]); // MOV EAX, CR0; OR AL, 1; MOV CR0, EAX
    let to = c.here() + 8;
    c.put32(&[0x66, 0xea], to); // JMP 8:the next
    c.put(&[0x08, 0x00]);
    // 32-bit code again.
    c.load_segments(0x10, &[2]);
    c.load_segments(USER_DATA, &[0, 3, 4, 5]);
    c.put32(&[0xbc], KERNEL_STACK); // MOV ESP
    c.put(&[0x0f, 0x20, 0xc0]); // MOV EAX, CR0
    c.put32(&[0x0d], 1 << 31); // OR EAX
    c.put(&[0x0f, 0x22, 0xc0, 0xff, 0xe3]); // MOV CR0, EAX; JMP EBX
    c.bytes
}

/// Both address spaces, in both formats: the first 2 MiB of memory as they are, the window empty, the code window as its frames lie.
fn page_tables(image: &mut Image) {
    for t in Tables::all() {
        let mut put = |at: u32, entry: u32| image.put(at, &entry.to_le_bytes());
        (0..512u32).for_each(|n| put(t.identity + t.size() * n, n << 12 | 7));
        (0..CODE_PAGES).for_each(|n| put(t.code + t.size() * n, (CODE_FRAMES + n * 4096) | 7));
        put(t.pde(0), t.identity | 7);
        put(t.pde(WINDOW), t.window | 7);
        t.far().for_each(|at| put(at, t.window | 7));
        // Accessed already: a global page of the other address space may need no walk in this one.
        put(t.pde(CODE_WINDOW), t.code | 0x27);
        if t.pae {
            put(t.cr3, t.directory | 1);
            t.far_directory.into_iter().for_each(|directory| put(t.cr3 + 16, directory | 1));
            // The last 8 MiB, which are there when an operation sets the pointer to them: 2 MiB of memory, again and again.
            (508..512).for_each(|n| put(TOP_DIRECTORY + 8 * n, FRAMES | 0x87));
        }
    }
}

/// A frame of code: each adds another number at the same places, so that it shows which one ran.
fn code_frame(n: u32) -> Vec<u8> {
    let mut frame = vec![0x90; 4096];
    let mut put =
        |at: u32, bytes: &[u8]| frame[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    let add = |k: u32| [&[0x05][..], &k.to_le_bytes()].concat(); // ADD EAX, k
    // What the last instruction of the page before ends with, and RET.
    put(0, &[0x40 + n as u8, n as u8, 0xc3]);
    put(ROUTINE, &[add(0x100 + n), vec![0xc3]].concat());
    put(USER_ROUTINE, &[add(0x1000 + n), vec![0xcd, 0x30]].concat());
    // MOV [ESI], EDX; INVLPG [EDI]; ADD EAX, k; RET
    put(REMAPPER, &[vec![0x89, 0x16, 0x0f, 0x01, 0x3f], add(0x1_0000 + n), vec![0xc3]].concat());
    put(NEXT_REMAPPER, &[0x89, 0x16, 0x0f, 0x01, 0x3f]); // MOV [ESI], EDX; INVLPG [EDI]
    put(CROSSING, &[0x05, 0x77, 0x66]);
    frame
}
