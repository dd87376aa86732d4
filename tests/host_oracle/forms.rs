//! The instruction forms: every integer form of the 386 to Pentium Pro that user-mode code can run with a
//! well-defined result, in both code sizes and both operand sizes. One line (or one loop over an opcode row) each:
//! how it is encoded, how its operands are drawn, and which flags the manual leaves undefined.

use super::case::*;
use super::generate::*;
use super::models;

/// What draws a form's operands and emits its bytes.
type Build = Box<dyn Fn(&mut Gen)>;

/// One instruction form.
pub struct Form {
    /// Its name: code size, assembly syntax, operand kind.
    pub name: String,
    /// The code segment's size.
    pub mode: Mode,
    /// The operand size in bits.
    pub size: u32,
    /// Draws one case.
    pub build: Build,
    /// Nearly every case faults, which costs microseconds: run a tenth of them.
    pub faults: bool,
}

/// What is left out, and why; printed with every run.
pub const LEFT_OUT: &[&str] = &[
    "CPUID, RDTSC, RDPMC: answers belong to the host's model and clock",
    "SGDT, SIDT, SLDT, STR, SMSW: UMIP hosts fault and Linux emulates them with made-up values",
    "LAR, LSL, VERR, VERW: answers belong to the host kernel's descriptor tables",
    "FS as an override, loads of FS and GS: thread-local storage and the stubs live there",
    "INT 80h: it would be a system call; INT 1: its gate is the host kernel's choice",
    "SYSENTER: it would enter the host kernel",
    "far calls through gates, task switches, IRET to another privilege level: the host kernel owns the tables",
    "#AC (EFLAGS.AC stays clear before an instruction), TF and debug traps: delivered between instructions",
    "offsets beyond 4 GiB - 16 in flat segments: no memory is mapped there",
    "FXSAVE, FXRSTOR: the host's areas hold SSE state, which ours has not",
    "the selectors of FSAVE's last instruction and operand: 64-bit kernels lose them at a task switch",
];

const AF: u32 = 0x10;
const CF: u32 = 1;
const OF: u32 = 0x800;
const SZAP: u32 = 0xd4;

/// What stands in ModRM's reg field.
#[derive(Clone, Copy)]
enum Reg {
    Any,
    Digit(u8),
}

/// Which kinds of r/m a form takes.
#[derive(Clone, Copy, PartialEq)]
enum Kinds {
    Both,
    Memory,
    Register,
}

pub(super) struct Table {
    pub(super) forms: Vec<Form>,
    pub(super) mode: Mode,
}

/// Does nothing.
fn no(_: &mut Gen) {}

/// An immediate of the operand size behind ModRM.
fn imm_z(g: &mut Gen) {
    g.imm_z();
}

/// A byte immediate behind ModRM.
fn imm8(g: &mut Gen) {
    g.imm8();
}

impl Table {
    pub(super) fn add(&mut self, name: &str, size: u32, build: impl Fn(&mut Gen) + 'static) {
        let code = if self.mode == Mode::Code32 { "code32" } else { "code16" };
        let name = format!("{code} {name} /{size}");
        self.forms.push(Form { name, mode: self.mode, size, build: Box::new(build), faults: false });
    }

    /// The forms added since `from` mostly fault.
    fn faulting(&mut self, from: usize) {
        for form in &mut self.forms[from..] {
            form.faults = true;
        }
    }

    /// Opcode, ModRM with a register and with memory; `before` runs first, `after` behind ModRM.
    fn rm(
        &mut self,
        name: &str,
        size: u32,
        opcode: &[u8],
        (reg, kinds): (Reg, Kinds),
        before: impl Fn(&mut Gen) + Copy + 'static,
        after: impl Fn(&mut Gen) + Copy + 'static,
    ) {
        for memory in [false, true] {
            if (memory && kinds == Kinds::Register) || (!memory && kinds == Kinds::Memory) {
                continue;
            }
            let opcode = opcode.to_vec();
            self.add(&format!("{name} {}", if memory { "mem" } else { "reg" }), size, move |g| {
                before(g);
                g.op(memory, &opcode);
                let reg = match reg {
                    Reg::Any => g.any_reg(),
                    Reg::Digit(digit) => digit,
                };
                if memory {
                    g.rm_mem(reg);
                } else {
                    g.rm_reg(reg);
                }
                after(g);
            });
        }
    }
}

/// All forms, in both code sizes.
pub fn all(sixteen: bool) -> Vec<Form> {
    let mut forms = Vec::new();
    for mode in [Mode::Code32, Mode::Code16] {
        if mode == Mode::Code16 && !sixteen {
            continue;
        }
        let mut t = Table { forms: Vec::new(), mode };
        alu(&mut t);
        unary(&mut t);
        shifts(&mut t);
        multiply(&mut t);
        bits(&mut t);
        moves(&mut t);
        conditional(&mut t);
        stack(&mut t);
        branches(&mut t);
        far(&mut t);
        segments(&mut t);
        strings(&mut t);
        flags_and_bcd(&mut t);
        locked(&mut t);
        privileged(&mut t);
        super::x87::forms(&mut t);
        super::mmx::forms(&mut t);
        forms.append(&mut t.forms);
    }
    forms
}

const SIZES: [u32; 3] = [8, 16, 32];
const WIDE: [u32; 2] = [16, 32];

/// 1 in the opcode's bit 0 for word and doubleword operands.
fn w(size: u32) -> u8 {
    u8::from(size != 8)
}

/// ADD .. CMP, TEST, XCHG, CMPXCHG, XADD.
fn alu(t: &mut Table) {
    use Kinds::*;
    for (i, name) in ["ADD", "OR", "ADC", "SBB", "AND", "SUB", "XOR", "CMP"].iter().enumerate() {
        let i = i as u8;
        let undefined = if matches!(i, 1 | 4 | 6) { AF } else { 0 };
        let mark = move |g: &mut Gen| g.case.undefined = undefined;
        for size in SIZES {
            t.rm(&format!("{name} rm,r"), size, &[i << 3 | w(size)], (Reg::Any, Both), mark, no);
            t.rm(&format!("{name} r,rm"), size, &[i << 3 | 2 | w(size)], (Reg::Any, Both), mark, no);
            t.rm(&format!("{name} rm,imm"), size, &[0x80 | w(size)], (Reg::Digit(i), Both), mark, imm_z);
            t.add(&format!("{name} a,imm"), size, move |g| {
                g.case.undefined = undefined;
                g.op(false, &[i << 3 | 4 | w(size)]);
                g.imm_z();
            });
        }
        t.rm(&format!("{name} rm,imm (82)"), 8, &[0x82], (Reg::Digit(i), Both), mark, imm_z);
        for size in WIDE {
            t.rm(&format!("{name} rm,simm8"), size, &[0x83], (Reg::Digit(i), Both), mark, imm8);
        }
    }
    let logic = |g: &mut Gen| g.case.undefined = AF;
    for size in SIZES {
        t.rm("TEST rm,r", size, &[0x84 | w(size)], (Reg::Any, Both), logic, no);
        t.rm("TEST rm,imm", size, &[0xf6 | w(size)], (Reg::Digit(0), Both), logic, imm_z);
        t.rm("TEST rm,imm (F6 /1)", size, &[0xf6 | w(size)], (Reg::Digit(1), Both), logic, imm_z);
        t.add("TEST a,imm", size, move |g| {
            g.case.undefined = AF;
            g.op(false, &[0xa8 | w(size)]);
            g.imm_z();
        });
        t.rm("XCHG rm,r", size, &[0x86 | w(size)], (Reg::Any, Both), no, no);
        t.rm("CMPXCHG rm,r", size, &[0x0f, 0xb0 | w(size)], (Reg::Any, Both), no, equal_sometimes);
        t.rm("XADD rm,r", size, &[0x0f, 0xc0 | w(size)], (Reg::Any, Both), no, no);
    }
    for size in WIDE {
        t.add("XCHG a,r", size, |g| {
            let r = g.any_reg();
            g.op(false, &[0x90 | r]);
        });
    }
    t.rm("CMPXCHG8B", 32, &[0x0f, 0xc7], (Reg::Digit(1), Memory), |g| g.len = 8, equal_sometimes);
}

/// Makes the memory operand equal to EDX:EAX (or its low part) half of the time.
fn equal_sometimes(g: &mut Gen) {
    let Some(target) = g.target else { return };
    if g.rng.one_in(2) {
        let value = u64::from(g.case.regs[EDX]) << 32 | u64::from(g.case.regs[EAX]);
        let len = g.len as usize;
        g.store(target, &value.to_le_bytes()[..len]);
    }
}

/// INC, DEC, NOT, NEG.
fn unary(t: &mut Table) {
    for size in SIZES {
        t.rm("INC rm", size, &[0xfe | w(size)], (Reg::Digit(0), Kinds::Both), no, no);
        t.rm("DEC rm", size, &[0xfe | w(size)], (Reg::Digit(1), Kinds::Both), no, no);
        t.rm("NOT rm", size, &[0xf6 | w(size)], (Reg::Digit(2), Kinds::Both), no, no);
        t.rm("NEG rm", size, &[0xf6 | w(size)], (Reg::Digit(3), Kinds::Both), no, no);
    }
    for size in WIDE {
        for (op, name) in [(0x40, "INC r"), (0x48, "DEC r")] {
            t.add(name, size, move |g| {
                let r = g.any_reg();
                g.op(false, &[op | r]);
            });
        }
    }
}

/// A shift count: small, at the width's edges, or anything.
fn draw_count(g: &mut Gen) -> u32 {
    const EDGES: [u32; 14] = [0, 1, 2, 7, 8, 9, 15, 16, 17, 18, 31, 32, 33, 255];
    if g.rng.one_in(3) { g.rng.below(256) } else { EDGES[g.rng.below(EDGES.len() as u32) as usize] }
}

/// The name of a count's class.
fn count_class(n: u32, size: u32) -> &'static str {
    match n {
        0 => "count 0",
        1 => "count 1",
        _ if n < size => "1 < count < size",
        _ if n == size => "count = size",
        _ => "count > size",
    }
}

/// Settles a shift's count and what it leaves undefined.
fn settle(g: &mut Gen, digit: u8, count: u32) {
    let n = count & 31;
    g.count = count;
    g.case.class = count_class(n, g.size);
    let mut undefined = if n > 1 { OF } else { 0 };
    if digit >= 4 && n > 0 {
        undefined |= AF;
    }
    if matches!(digit, 4..=6) && n >= g.size {
        undefined |= CF;
    }
    g.case.undefined = undefined;
}

/// Shifts, rotates, SHLD, SHRD.
fn shifts(t: &mut Table) {
    use Kinds::Both;
    let names = ["ROL", "ROR", "RCL", "RCR", "SHL", "SHR", "SAL(/6)", "SAR"];
    for (digit, name) in names.iter().enumerate() {
        let digit = digit as u8;
        for size in SIZES {
            let reg = Reg::Digit(digit);
            t.rm(
                &format!("{name} rm,1"),
                size,
                &[0xd0 | w(size)],
                (reg, Both),
                move |g| settle(g, digit, 1),
                no,
            );
            let by_cl = move |g: &mut Gen| {
                let count = draw_count(g);
                let upper = g.rng.next() & 0xffff_ff00;
                g.pin(ECX, upper | count);
                settle(g, digit, count);
            };
            t.rm(&format!("{name} rm,CL"), size, &[0xd2 | w(size)], (reg, Both), by_cl, no);
            let by_imm = move |g: &mut Gen| {
                let count = draw_count(g);
                settle(g, digit, count);
            };
            t.rm(&format!("{name} rm,imm8"), size, &[0xc0 | w(size)], (reg, Both), by_imm, |g| {
                g.imm(g.count, 8)
            });
        }
    }
    for (op, name) in [(0xa4u8, "SHLD"), (0xac, "SHRD")] {
        for size in WIDE {
            t.rm(&format!("{name} rm,r,imm8"), size, &[0x0f, op], (Reg::Any, Both), double_count, |g| {
                g.imm(g.count, 8)
            });
            let by_cl = |g: &mut Gen| {
                double_count(g);
                let upper = g.rng.next() & 0xffff_ff00;
                g.pin(ECX, upper | g.count);
            };
            t.rm(&format!("{name} rm,r,CL"), size, &[0x0f, op | 1], (Reg::Any, Both), by_cl, no);
        }
    }
}

/// SHLD's and SHRD's count: above the size the manual leaves everything undefined.
fn double_count(g: &mut Gen) {
    g.count = draw_count(g);
    if models::host().intel && g.count & 31 > g.size {
        // We do there as AMD's processors do, and Intel's do something else.
        g.count %= g.size + 1;
    }
    let n = g.count & 31;
    g.case.class = count_class(n, g.size);
    g.case.undefined = match n {
        0 => 0,
        1 => AF,
        _ if n <= g.size => AF | OF,
        _ => STATUS,
    };
}

/// MUL, IMUL, DIV, IDIV.
fn multiply(t: &mut Table) {
    use Kinds::Both;
    for size in SIZES {
        let product = |g: &mut Gen| g.case.undefined = SZAP;
        t.rm("MUL rm", size, &[0xf6 | w(size)], (Reg::Digit(4), Both), product, no);
        t.rm("IMUL rm", size, &[0xf6 | w(size)], (Reg::Digit(5), Both), product, no);
        t.rm("DIV rm", size, &[0xf6 | w(size)], (Reg::Digit(6), Both), dividend, no);
        t.rm("IDIV rm", size, &[0xf6 | w(size)], (Reg::Digit(7), Both), dividend, no);
        if size != 8 {
            t.rm("IMUL r,rm", size, &[0x0f, 0xaf], (Reg::Any, Both), product, no);
            t.rm("IMUL r,rm,imm", size, &[0x69], (Reg::Any, Both), product, imm_z);
            t.rm("IMUL r,rm,simm8", size, &[0x6b], (Reg::Any, Both), product, imm8);
        }
    }
}

/// A dividend whose quotient usually fits.
fn dividend(g: &mut Gen) {
    g.case.undefined = STATUS;
    let high = match g.rng.below(8) {
        0..3 => 0,
        3 | 4 => (g.case.regs[EAX] as i32 >> 31) as u32,
        5 => g.rng.below(256),
        _ => g.rng.value(),
    };
    if g.size == 8 {
        g.case.regs[EAX] = g.case.regs[EAX] & 0xffff_00ff | (high & 0xff) << 8;
    } else {
        g.case.regs[EDX] = high;
    }
}

/// BT family, BSF, BSR, BSWAP.
fn bits(t: &mut Table) {
    use Kinds::Both;
    for (i, name) in ["BT", "BTS", "BTR", "BTC"].into_iter().enumerate() {
        let i = i as u8;
        for size in WIDE {
            let mark = |g: &mut Gen| g.case.undefined = STATUS & !CF & !0x40;
            t.rm(&format!("{name} rm,imm8"), size, &[0x0f, 0xba], (Reg::Digit(4 + i), Both), mark, imm8);
            t.rm(
                &format!("{name} rm,r"),
                size,
                &[0x0f, 0xa3 | i << 3],
                (Reg::Any, Kinds::Register),
                mark,
                no,
            );
            t.add(&format!("{name} rm,r mem (far bits)"), size, move |g| far_bit(g, 0xa3 | i << 3));
        }
    }
    for (op, name) in [(0xbcu8, "BSF"), (0xbd, "BSR")] {
        for size in WIDE {
            let mark = |g: &mut Gen| g.case.undefined = STATUS & !0x40;
            t.rm(&format!("{name} r,rm"), size, &[0x0f, op], (Reg::Any, Both), mark, |g| {
                if let Some(target) = g.target.filter(|_| g.rng.one_in(8)) {
                    g.store(target, &[0; 4]);
                }
            });
        }
    }
    t.add("BSWAP r", 32, |g| {
        let r = g.any_reg();
        g.op(false, &[0x0f, 0xc8 | r]);
    });
}

/// BT and its kin with a bit offset that may lie far from the operand's address.
fn far_bit(g: &mut Gen, opcode: u8) {
    g.case.undefined = STATUS & !CF & !0x40;
    let reg = g.any_reg();
    if reg as usize == ESP {
        return far_bit(g, opcode);
    }
    let offset = match g.rng.below(4) {
        0 => g.rng.below(32),
        1 => g.rng.below(0x2000).wrapping_sub(0x1000),
        _ => g.rng.value(),
    };
    g.pin(usize::from(reg), offset);
    g.op(true, &[0x0f, opcode]);
    let bytes = g.size / 8;
    let whole = if g.size == 16 { i32::from(offset as i16) >> 4 } else { offset as i32 >> 5 };
    let reach = (whole as u32).wrapping_mul(bytes);
    let target = g.draw_target(bytes);
    g.window(target.wrapping_sub(8), target + 16);
    let mut base = target.wrapping_sub(reach);
    if g.addr16 {
        base &= 0xffff;
    }
    g.rm_mem_at(reg, base);
}

/// MOV and what resembles it.
fn moves(t: &mut Table) {
    use Kinds::*;
    for size in SIZES {
        t.rm("MOV rm,r", size, &[0x88 | w(size)], (Reg::Any, Both), no, no);
        t.rm("MOV r,rm", size, &[0x8a | w(size)], (Reg::Any, Both), no, no);
        t.rm("MOV rm,imm", size, &[0xc6 | w(size)], (Reg::Digit(0), Both), no, imm_z);
        t.add("MOV r,imm", size, move |g| {
            let r = g.any_reg();
            g.op(false, &[if size == 8 { 0xb0 } else { 0xb8 } | r]);
            g.imm_z();
        });
        for (op, name) in [(0xa0u8, "MOV a,moffs"), (0xa2, "MOV moffs,a")] {
            t.add(name, size, move |g| {
                g.op(true, &[op | w(size)]);
                let target = g.draw_target(size / 8);
                g.window(target - 8, target + 16);
                g.imm(target, if g.addr16 { 16 } else { 32 });
            });
        }
    }
    for size in WIDE {
        for (op, name, len) in [
            (0xb6u8, "MOVZX r,rm8", 1),
            (0xb7, "MOVZX r,rm16", 2),
            (0xbe, "MOVSX r,rm8", 1),
            (0xbf, "MOVSX r,rm16", 2),
        ] {
            t.rm(name, size, &[0x0f, op], (Reg::Any, Both), move |g| g.len = len, no);
        }
        t.rm("LEA r,m", size, &[0x8d], (Reg::Any, Memory), no, no);
        for sreg in [0u8, 1, 2, 3] {
            let name = ["ES", "CS", "SS", "DS"][usize::from(sreg)];
            t.rm(&format!("MOV rm,{name}"), size, &[0x8c], (Reg::Digit(sreg), Both), |g| g.len = 2, no);
        }
        for (op, name) in [(0x98u8, "CBW/CWDE"), (0x99, "CWD/CDQ"), (0x90, "NOP")] {
            t.add(name, size, move |g| g.op(false, &[op]));
        }
    }
    t.add("XLAT", 8, |g| {
        g.op(true, &[0xd7]);
        let target = g.draw_target(1);
        g.window(target - 8, target + 8);
        let base = target.wrapping_sub(g.case.regs[EAX] & 0xff);
        let upper = if g.addr16 { g.rng.next() & 0xffff_0000 } else { 0 };
        g.pin(EBX, if g.addr16 { upper | base & 0xffff } else { base });
    });
}

/// SETcc, CMOVcc.
fn conditional(t: &mut Table) {
    for cc in 0..16u8 {
        t.rm(&format!("SET{cc:X}"), 8, &[0x0f, 0x90 | cc], (Reg::Digit(0), Kinds::Both), no, no);
        for size in WIDE {
            t.rm(&format!("CMOV{cc:X}"), size, &[0x0f, 0x40 | cc], (Reg::Any, Kinds::Both), no, no);
        }
    }
}

/// PUSH, POP and their families, ENTER, LEAVE, BOUND.
fn stack(t: &mut Table) {
    for size in WIDE {
        for (op, name) in [(0x50u8, "PUSH r"), (0x58, "POP r")] {
            t.add(name, size, move |g| {
                g.stack(8, 8);
                let r = g.any_reg();
                g.op(false, &[op | r]);
            });
        }
        t.add("PUSH imm", size, |g| {
            g.stack(8, 8);
            g.op(false, &[0x68]);
            g.imm_z();
        });
        t.add("PUSH simm8", size, |g| {
            g.stack(8, 8);
            g.op(false, &[0x6a]);
            g.imm8();
        });
        for (op, name) in [(0x06u8, "PUSH ES"), (0x0e, "PUSH CS"), (0x16, "PUSH SS"), (0x1e, "PUSH DS")] {
            t.add(name, size, move |g| {
                g.stack(8, 8);
                g.op(false, &[op]);
            });
        }
        let room = |g: &mut Gen| {
            g.stack(8, 8);
        };
        t.rm("PUSH rm", size, &[0xff], (Reg::Digit(6), Kinds::Both), room, no);
        t.rm("POP rm", size, &[0x8f], (Reg::Digit(0), Kinds::Register), room, no);
        t.add("POP rm mem", size, |g| {
            let at = g.stack(8, 8);
            g.op(true, &[0x8f]);
            pop_to_memory(g, at);
        });
        t.add("PUSHA", size, |g| {
            g.stack(32, 0);
            g.op(false, &[0x60]);
        });
        t.add("POPA", size, |g| {
            g.stack(0, 32);
            g.op(false, &[0x61]);
        });
        t.add("PUSHF", size, |g| {
            g.stack(8, 0);
            g.case.eflags |= (g.rng.next() & 1) << 10;
            g.op(false, &[0x9c]);
        });
        t.add("POPF", size, |g| {
            let at = g.stack(0, 8);
            // Every bit may be set but TF, whose trap would follow.
            let image = g.rng.next() & !0x100;
            g.store(at, &image.to_le_bytes());
            g.op(false, &[0x9d]);
        });
        t.add("ENTER", size, enter);
        t.add("LEAVE", size, |g| {
            let at = g.stack(0, 8);
            let upper = if g.code16() { g.rng.next() & 0xffff_0000 } else { 0 };
            g.case.regs[EBP] = upper | at;
            g.case.regs[ESP] = g.rng.value();
            g.op(false, &[0xc9]);
        });
        t.add("BOUND", size, move |g| {
            g.len = size / 4;
            let reg = g.any_reg();
            g.pin(usize::from(reg), g.case.regs[usize::from(reg)]);
            g.op(true, &[0x62]);
            let target = g.rm_mem(reg);
            if !g.rng.one_in(4) {
                // Bounds that admit the index, at either edge.
                let index = g.case.regs[usize::from(reg)];
                let bytes = (size / 8) as usize;
                let (lower, upper) = (index.wrapping_sub(g.rng.below(3)), index.wrapping_add(g.rng.below(3)));
                g.store(target, &lower.to_le_bytes()[..bytes]);
                g.store(target + size / 8, &upper.to_le_bytes()[..bytes]);
            }
        });
    }
}

/// POP to memory: with ESP as base the address counts from the incremented ESP.
fn pop_to_memory(g: &mut Gen, at: u32) {
    if g.addr16 || g.code16() || !g.rng.one_in(4) {
        // ESP as a pinned base would be solved with its value before the pop: keep it out by SIB-less forms.
        let target = g.draw_target(g.size / 8);
        g.window(target - 8, target + 16);
        g.target = Some(target);
        if g.addr16 {
            g.rm_mem_at(0, target);
        } else {
            let base = [EAX, ECX, EDX, EBX, ESI, EDI][g.rng.below(6) as usize];
            let disp = g.rng.value();
            g.pin(base, target.wrapping_sub(disp));
            g.emit(&[0x80 | base as u8]);
            g.imm(disp, 32);
        }
        return;
    }
    let disp = g.rng.below(0x80);
    g.window(at + disp, at + disp + 16);
    g.emit(&[0x44, 0x24]);
    g.imm(disp, 8);
}

/// ENTER: the frame pointers copied lie on the stack too.
fn enter(g: &mut Gen) {
    let level = if g.rng.one_in(2) { g.rng.below(3) } else { g.rng.below(256) };
    let bytes = g.size / 8 * ((level & 31) + 2);
    let at = g.stack(bytes, 8);
    let frame = match g.rng.below(16) {
        0 => STACK.start + g.rng.below(64),
        1 => 0x7000 + g.rng.below(0x800),
        _ => STACK.start + 0x1800 + g.rng.below(0x400),
    };
    g.window(frame.saturating_sub(bytes), frame);
    let upper = if g.code16() { g.rng.next() & 0xffff_0000 } else { 0 };
    g.case.regs[EBP] = upper | frame;
    let _ = at;
    g.op(false, &[0xc8]);
    // The processor probes the final top of the stack; a small frame stays on mapped pages.
    let alloc = if g.rng.one_in(16) { g.rng.below(0x1_0000) } else { g.rng.below(0x200) };
    g.imm(alloc, 16);
    g.imm(level, 8);
}

/// Near branches.
fn branches(t: &mut Table) {
    for size in WIDE {
        for cc in 0..16u8 {
            t.add(&format!("J{cc:X} short"), size, move |g| relative(g, &[0x70 | cc], 8));
            t.add(&format!("J{cc:X} near"), size, move |g| relative(g, &[0x0f, 0x80 | cc], 0));
        }
        t.add("JMP short", size, |g| relative(g, &[0xeb], 8));
        t.add("JMP near", size, |g| relative(g, &[0xe9], 0));
        t.add("CALL near", size, |g| {
            g.stack(8, 0);
            relative(g, &[0xe8], 0);
        });
        for (op, name) in [(0xe0u8, "LOOPNE"), (0xe1, "LOOPE"), (0xe2, "LOOP"), (0xe3, "JCXZ/JECXZ")] {
            t.add(name, size, move |g| {
                let count = [0, 1, 2, 0x1_0000, 0x1_0001, g.rng.next()][g.rng.below(6) as usize];
                g.pin(ECX, count);
                if g.rng.one_in(2) {
                    g.emit(&[0x67]);
                }
                relative(g, &[op], 8);
            });
        }
        for (digit, name) in [(2u8, "CALL"), (4, "JMP")] {
            for memory in [false, true] {
                t.add(&format!("{name} rm {}", if memory { "mem" } else { "reg" }), size, move |g| {
                    indirect(g, digit, memory);
                });
            }
        }
        for (op, name) in [(0xc3u8, "RET"), (0xc2, "RET imm16")] {
            t.add(name, size, move |g| {
                let at = g.stack(0, 8);
                let to = branch_value(g);
                g.store(at, &to.to_le_bytes()[..g.size as usize / 8]);
                g.op(false, &[op]);
                if op == 0xc2 {
                    let pop = g.rng.value();
                    g.imm(pop, 16);
                }
            });
        }
    }
}

/// The value that an indirect branch of the operand size takes to a landing; sometimes beyond a 16-bit segment's end.
fn branch_value(g: &mut Gen) -> u32 {
    let to = g.landing();
    if g.size == 16 {
        return to | g.rng.next() & 0xffff_0000;
    }
    if g.code16() && g.rng.one_in(8) {
        return to | 1 << (16 + g.rng.below(16));
    }
    to
}

/// A branch with a relative displacement of 8 bits or of the operand size.
fn relative(g: &mut Gen, opcode: &[u8], width: u32) {
    g.op(false, opcode);
    let start = g.case.code.len() as u32;
    if width == 8 {
        let rel = g.short(start + 1);
        return g.emit(&[rel]);
    }
    let to = g.landing();
    let mut rel = to.wrapping_sub(g.case.eip + start + g.size / 8);
    if g.size == 32 && g.code16() && g.rng.one_in(8) {
        rel ^= 0x10_0000; // beyond the segment's limit
        g.safe_stack();
    }
    let size = g.size;
    g.imm(rel, size);
}

/// CALL and JMP through a register or memory.
fn indirect(g: &mut Gen, digit: u8, memory: bool) {
    g.stack(8, 0);
    let to = branch_value(g);
    if g.size == 32 && to > 0xffff {
        g.safe_stack();
    }
    g.op(memory, &[0xff]);
    if memory {
        // Mostly in plain data: a pointer read from elsewhere would lead nowhere.
        let target = DATA.start + 0x100 + g.rng.below(0x1e00);
        g.window(target, target + 8);
        g.store(target, &to.to_le_bytes());
        return g.rm_mem_at(digit, target);
    }
    let reg = [EAX, ECX, EDX, EBX, EBP, ESI, EDI][g.rng.below(7) as usize];
    g.pin(reg, to);
    g.emit(&[0xc0 | digit << 3 | reg as u8]);
}

/// Far transfers to the same code segment, IRET.
fn far(t: &mut Table) {
    let selector = if t.mode == Mode::Code32 { CS32 } else { CS16 };
    for size in WIDE {
        let bytes = size as usize / 8;
        for (op, name) in [(0xeau8, "JMP far"), (0x9a, "CALL far")] {
            t.add(name, size, move |g| {
                g.stack(8, 0);
                let to = g.landing();
                g.op(false, &[op]);
                g.imm(to, size);
                g.imm(selector.into(), 16);
            });
        }
        for (digit, name) in [(3u8, "CALL far m"), (5, "JMP far m")] {
            t.add(name, size, move |g| {
                g.stack(8, 0);
                let to = g.landing();
                g.op(true, &[0xff]);
                let target = DATA.start + 0x100 + g.rng.below(0x1e00);
                g.window(target, target + 8);
                g.store(target, &to.to_le_bytes()[..bytes]);
                g.store(target + bytes as u32, &selector.to_le_bytes());
                g.rm_mem_at(digit, target);
            });
        }
        for (op, name) in [(0xcbu8, "RETF"), (0xca, "RETF imm16"), (0xcf, "IRET")] {
            t.add(name, size, move |g| {
                let at = STACK.start + 0xc00 + g.rng.below(0x800);
                g.pin(ESP, at);
                g.window(at, at + 16);
                let to = g.landing();
                let flags = g.rng.next() & 0x0024_7ed5; // neither TF nor VM nor RF
                g.store(at, &to.to_le_bytes()[..bytes]);
                g.store(at + bytes as u32, &u32::from(selector).to_le_bytes()[..bytes]);
                if op == 0xcf {
                    g.store(at + 2 * bytes as u32, &flags.to_le_bytes()[..bytes]);
                }
                g.op(false, &[op]);
                if op == 0xca {
                    let pop = g.rng.value();
                    g.imm(pop, 16);
                }
            });
        }
    }
}

/// Selectors that load, that are null, and that fault: empty, beyond the LDT, of a lesser DPL.
fn draw_selector(g: &mut Gen) -> u16 {
    const SELECTORS: [u16; 13] =
        // Not the null selectors 1 to 3: an interrupt's IRET between load and read-back makes them 0.
        [FLAT, FLAT, DATA16, DATA16, CS32, CS16, 0, 0x0b, 0x07, 0x1f, 0x18, FLAT & !3, DATA16 & !3];
    SELECTORS[g.rng.below(SELECTORS.len() as u32) as usize]
}

/// Loads of DS, ES and SS.
fn segments(t: &mut Table) {
    for size in WIDE {
        for (sreg, name) in [(0u8, "ES"), (2, "SS"), (3, "DS")] {
            t.add(&format!("MOV {name},r"), size, move |g| {
                let (reg, selector) = (g.any_reg(), draw_selector(g));
                let upper = g.rng.next() & 0xffff_0000;
                g.pin(usize::from(reg), upper | u32::from(selector));
                g.bare(&[0x8e, 0xc0 | sreg << 3 | reg]);
            });
            t.add(&format!("MOV {name},m"), size, move |g| {
                g.len = 2;
                let selector = draw_selector(g);
                g.op(true, &[0x8e]);
                let target = DATA.start + 0x100 + g.rng.below(0x1e00);
                g.window(target, target + 8);
                g.store(target, &selector.to_le_bytes());
                g.rm_mem_at(sreg, target);
            });
            t.add(&format!("POP {name}"), size, move |g| {
                let selector = draw_selector(g);
                let at = STACK.start + 0xc00 + g.rng.below(0x800);
                g.pin(ESP, at);
                g.window(at, at + 8);
                g.store(at, &selector.to_le_bytes());
                g.bare(&[0x07 | sreg << 3]);
            });
        }
        let loads: [(&[u8], &str); 3] =
            [(&[0xc4], "LES r,m"), (&[0xc5], "LDS r,m"), (&[0x0f, 0xb2], "LSS r,m")];
        for (op, name) in loads {
            t.add(name, size, move |g| {
                let selector = draw_selector(g);
                g.op(true, op);
                let target = DATA.start + 0x100 + g.rng.below(0x1e00);
                g.window(target, target + 8);
                g.store(target + size / 8, &selector.to_le_bytes());
                let reg = g.any_reg();
                g.rm_mem_at(reg, target);
            });
        }
    }
    let from = t.forms.len();
    t.add("MOV CS,r (#UD)", 32, |g| g.bare(&[0x8e, 0xc8]));
    t.faulting(from);
}

/// String instructions, alone and repeated.
fn strings(t: &mut Table) {
    let list = [(0xa4u8, "MOVS"), (0xa6, "CMPS"), (0xaa, "STOS"), (0xac, "LODS"), (0xae, "SCAS")];
    for (op, name) in list {
        for size in SIZES {
            for (prefix, repeat) in [(None, ""), (Some(0xf3u8), "REP "), (Some(0xf2), "REPNE ")] {
                t.add(&format!("{repeat}{name}"), size, move |g| string(g, op, prefix));
            }
        }
    }
}

/// One string instruction; runs may cross into pages that fault, and then stop in between.
fn string(g: &mut Gen, op: u8, prefix: Option<u8>) {
    let bytes = g.size / 8;
    let count = if prefix.is_none() {
        1
    } else if g.rng.one_in(4) {
        g.rng.below(70)
    } else {
        g.rng.below(9)
    };
    g.case.eflags |= (g.rng.next() & 1) << 10;
    let down = g.case.eflags & 0x400 != 0;
    if let Some(prefix) = prefix {
        g.emit(&[prefix]);
    }
    g.op(true, &[op | w(g.size)]);
    let span = bytes * count.max(1);
    // Erratum of a host (AMD family 1Ah): REP MOVS with 16-bit addresses takes the registers' upper halves into account
    // when it looks for overlapping operands, and then copies in blocks. So they are zero here.
    let wild = g.addr16 && !(op == 0xa4 && prefix.is_some());
    let upper = if wild { g.rng.next() & 0xffff_0000 } else { 0 };
    for reg in [ESI, EDI] {
        let first =
            if g.rng.one_in(2) { g.draw_target(bytes) } else { DATA.start + 0x400 + g.rng.below(0x1800) };
        let lo = if down { first.wrapping_sub(span).min(first) } else { first };
        g.window(lo.saturating_sub(4), if down { first + bytes } else { first + span } + 4);
        g.pin(reg, if g.addr16 { upper | first & 0xffff } else { first });
    }
    if prefix.is_some() {
        let upper = if g.addr16 { g.rng.next() & 0xffff_0000 } else { 0 };
        g.pin(ECX, upper | count);
    }
    if matches!(op, 0xa6 | 0xae) {
        alike(g, count * bytes);
    }
}

/// Makes comparisons run on: a repeated value in memory, in the accumulator and on both sides.
fn alike(g: &mut Gen, bytes: u32) {
    if g.rng.one_in(3) {
        return;
    }
    let byte = g.rng.next() as u8;
    g.case.memory.fill(byte);
    if !g.rng.one_in(3) {
        g.case.regs[EAX] = u32::from_le_bytes([byte; 4]);
    }
    if g.rng.one_in(2) && bytes > 0 && !g.case.memory.is_empty() {
        let at = g.rng.below(g.case.memory.len() as u32) as usize;
        g.case.memory[at] ^= 1 << g.rng.below(8);
    }
}

/// Flag instructions, BCD.
fn flags_and_bcd(t: &mut Table) {
    let plain = [
        (0xf8u8, "CLC"),
        (0xf9, "STC"),
        (0xf5, "CMC"),
        (0xfc, "CLD"),
        (0xfd, "STD"),
        (0x9e, "SAHF"),
        (0x9f, "LAHF"),
        (0xd6, "SALC"),
    ];
    for (op, name) in plain {
        t.add(name, 8, move |g| {
            g.case.eflags |= (g.rng.next() & 1) << 10;
            g.op(false, &[op]);
        });
    }
    let decimal = [
        (0x27u8, "DAA", OF),
        (0x2f, "DAS", OF),
        (0x37, "AAA", OF | SZAP & !AF),
        (0x3f, "AAS", OF | SZAP & !AF),
    ];
    for (op, name, undefined) in decimal {
        t.add(name, 8, move |g| {
            g.case.undefined = undefined;
            g.case.regs[EAX] = if g.rng.one_in(2) { g.rng.next() } else { g.case.regs[EAX] };
            g.op(false, &[op]);
        });
    }
    for (op, name) in [(0xd4u8, "AAM"), (0xd5, "AAD")] {
        t.add(name, 8, move |g| {
            g.case.undefined = CF | AF | OF;
            g.op(false, &[op]);
            let base = if g.rng.one_in(2) { 10 } else { g.rng.value() };
            g.imm(base, 8);
        });
    }
}

/// LOCK, where it is allowed and where it is #UD.
fn locked(t: &mut Table) {
    for size in SIZES {
        for (i, name) in ["ADD", "OR", "ADC", "SBB", "AND", "SUB", "XOR"].into_iter().enumerate() {
            t.add(&format!("LOCK {name} m,r"), size, move |g| {
                g.case.undefined = if matches!(i, 1 | 4 | 6) { AF } else { 0 };
                lock(g, &[(i as u8) << 3 | w(size)], Reg::Any, true);
            });
        }
        let more = [
            (vec![0x86 | w(size)], Reg::Any, "XCHG m,r"),
            (vec![0x0f, 0xb0 | w(size)], Reg::Any, "CMPXCHG m,r"),
            (vec![0x0f, 0xc0 | w(size)], Reg::Any, "XADD m,r"),
            (vec![0xfe | w(size)], Reg::Digit(0), "INC m"),
            (vec![0xfe | w(size)], Reg::Digit(1), "DEC m"),
            (vec![0xf6 | w(size)], Reg::Digit(2), "NOT m"),
            (vec![0xf6 | w(size)], Reg::Digit(3), "NEG m"),
        ];
        for (op, reg, name) in more {
            t.add(&format!("LOCK {name}"), size, move |g| lock(g, &op, reg, true));
        }
    }
    t.add("LOCK CMPXCHG8B", 32, |g| {
        g.len = 8;
        lock(g, &[0x0f, 0xc7], Reg::Digit(1), true);
        equal_sometimes(g);
    });
    let from = t.forms.len();
    let invalid = [
        (vec![0x01u8], "ADD r,r", false),
        (vec![0x03], "ADD r,m", true),
        (vec![0x39], "CMP m,r", true),
        (vec![0x85], "TEST m,r", true),
        (vec![0x89], "MOV m,r", true),
        (vec![0x8b], "MOV r,m", true),
        (vec![0x87], "XCHG r,r", false),
        (vec![0x0f, 0xa3], "BT m,r", true),
        (vec![0x0f, 0xa5], "SHLD m,r,CL", true),
        (vec![0x0f, 0xaf], "IMUL r,m", true),
    ];
    for (op, name, memory) in invalid {
        t.add(&format!("LOCK {name} (#UD)"), 32, move |g| lock(g, &op, Reg::Any, memory));
    }
    for op in [0x90u8, 0x40, 0x50, 0xc3, 0xa4, 0x9c] {
        t.add(&format!("LOCK {op:02X} (#UD)"), 32, move |g| {
            g.stack(8, 8);
            g.emit(&[0xf0]);
            g.bare(&[op]);
        });
    }
    t.faulting(from);
}

fn lock(g: &mut Gen, opcode: &[u8], reg: Reg, memory: bool) {
    g.emit(&[0xf0]);
    g.op(memory, opcode);
    let reg = match reg {
        Reg::Any => g.any_reg(),
        Reg::Digit(digit) => digit,
    };
    if memory {
        g.rm_mem(reg);
    } else {
        g.rm_reg(reg);
    }
}

/// What user mode may not do, and software interrupts.
fn privileged(t: &mut Table) {
    let from = t.forms.len();
    let list: [(&[u8], &str); 27] = [
        (&[0xf4], "HLT"),
        (&[0xfa], "CLI"),
        (&[0xfb], "STI"),
        (&[0xec], "IN al,dx"),
        (&[0xee], "OUT dx,al"),
        (&[0xed], "IN eax,dx"),
        (&[0xef], "OUT dx,eax"),
        (&[0xe4, 0x60], "IN al,imm8"),
        (&[0xe6, 0x80], "OUT imm8,al"),
        (&[0x6c], "INSB"),
        (&[0x6d], "INSD"),
        (&[0x6e], "OUTSB"),
        (&[0x6f], "OUTSD"),
        (&[0x0f, 0x06], "CLTS"),
        (&[0x0f, 0x08], "INVD"),
        (&[0x0f, 0x09], "WBINVD"),
        (&[0x0f, 0x30], "WRMSR"),
        (&[0x0f, 0x32], "RDMSR"),
        (&[0x0f, 0x20, 0xc0], "MOV eax,cr0"),
        (&[0x0f, 0x22, 0xd8], "MOV cr3,eax"),
        (&[0x0f, 0x21, 0xf8], "MOV eax,dr7"),
        (&[0x0f, 0x23, 0xf8], "MOV dr7,eax"),
        (&[0x0f, 0x00, 0xd0], "LLDT ax"),
        (&[0x0f, 0x00, 0xd8], "LTR ax"),
        (&[0x0f, 0x01, 0xf0], "LMSW ax"),
        (&[0x0f, 0x0b], "UD2"),
        (&[0xcc], "INT3"),
    ];
    for (bytes, name) in list {
        t.add(name, 8, move |g| {
            g.pin(ESI, DATA.start + 0x800);
            g.pin(EDI, DATA.start + 0x900);
            g.op(false, bytes);
        });
    }
    for (modrm, name) in [(0x10u8, "LGDT m"), (0x18, "LIDT m"), (0x38, "INVLPG m")] {
        t.add(name, 32, move |g| {
            g.len = 6;
            let target = DATA.start + 0x800;
            g.window(target, target + 8);
            g.op(true, &[0x0f, 0x01]);
            g.rm_mem_at(modrm >> 3, target);
        });
    }
    t.add("INTO", 8, |g| g.op(false, &[0xce]));
    t.add("INT n", 8, |g| {
        let mut n = g.rng.below(256);
        if matches!(n, 1 | 0x80) {
            n = 0x21;
        }
        g.op(false, &[0xcd]);
        g.imm(n, 8);
    });
    t.faulting(from);
}
