//! Drawing one case of a form: prefixes, ModRM with every addressing mode, operand values, the stack, and the memory
//! they touch. Addresses are solved backwards: first the target, then registers and displacement that reach it.
//! `forms.rs` composes these steps; `main` draws.

use super::case::*;
use super::rng::Rng;

/// The register numbers.
pub const EAX: usize = 0;
pub const ECX: usize = 1;
pub const EDX: usize = 2;
pub const EBX: usize = 3;
pub const ESP: usize = 4;
pub const EBP: usize = 5;
pub const ESI: usize = 6;
pub const EDI: usize = 7;

/// The case being drawn.
pub struct Gen<'a> {
    pub rng: &'a mut Rng,
    pub case: &'a mut Case,
    /// Operand size in bits: 8, 16 or 32; 64 for MMX.
    pub size: u32,
    /// Whether addresses are 16 bits wide.
    pub addr16: bool,
    /// Registers whose values are settled.
    pub pinned: u8,
    /// Bytes of the memory operand.
    pub len: u32,
    /// A shift count, immediate or similar that an earlier step drew for a later one.
    pub count: u32,
    /// Where the memory operand lies, once there is one.
    pub target: Option<u32>,
}

/// Draws the next case of a form into `case`.
pub fn draw(mode: Mode, size: u32, build: &dyn Fn(&mut Gen), rng: &mut Rng, case: &mut Case) {
    case.mode = mode;
    case.code.clear();
    case.windows.clear();
    case.memory.clear();
    case.landings.clear();
    case.undefined = 0;
    case.undefined_pending = 0;
    case.fpu.clear();
    case.fpu_undefined = 0;
    case.fpu_undefined_pending = 0;
    case.ulps = 0;
    case.class = "";
    case.eip = CODE.start + 0x800 + rng.below(32);
    case.eflags = 0x202 | (rng.next() & STATUS);
    for reg in &mut case.regs {
        *reg = rng.value();
    }
    let addr16 = mode == Mode::Code16;
    build(&mut Gen { rng, case, size, addr16, pinned: 0, len: size / 8, count: 0, target: None });
}

impl Gen<'_> {
    pub fn emit(&mut self, bytes: &[u8]) {
        self.case.code.extend_from_slice(bytes);
    }

    pub fn pin(&mut self, reg: usize, value: u32) {
        self.case.regs[reg] = value;
        self.pinned |= 1 << reg;
    }

    /// True where the code segment's default size is 16 bits.
    pub fn code16(&self) -> bool {
        self.case.mode == Mode::Code16
    }

    /// Prefixes for the operand size, then the opcode. With `memory`, also address-size and segment prefixes.
    pub fn op(&mut self, memory: bool, opcode: &[u8]) {
        let mut prefixes = Vec::with_capacity(4);
        if matches!(self.size, 16 | 32) && (self.size == 16) != self.code16() {
            prefixes.push(0x66);
        } else if self.size == 8 && self.rng.one_in(32) {
            prefixes.push(0x66); // means nothing for byte operands
        }
        if memory && self.rng.one_in(4) {
            prefixes.push(0x67);
            self.addr16 = !self.addr16;
        }
        if (memory && self.rng.one_in(6)) || self.rng.one_in(64) {
            prefixes.push([0x2e, 0x36, 0x3e, 0x26, 0x65][self.rng.below(5) as usize]);
        }
        if !prefixes.is_empty() && self.rng.one_in(32) {
            prefixes.push(prefixes[0]);
        }
        for i in (1..prefixes.len()).rev() {
            prefixes.swap(i, self.rng.below(i as u32 + 1) as usize);
        }
        // A repeated 67h still means one change of size; a later segment prefix wins.
        self.emit(&prefixes);
        self.emit(opcode);
    }

    /// A plain opcode without any optional prefix but the operand size.
    pub fn bare(&mut self, opcode: &[u8]) {
        if self.size != 8 && (self.size == 16) != self.code16() {
            self.emit(&[0x66]);
        }
        self.emit(opcode);
    }

    pub fn imm(&mut self, value: u32, bits: u32) {
        self.emit(&value.to_le_bytes()[..bits as usize / 8]);
    }

    /// An immediate of the operand size.
    pub fn imm_z(&mut self) {
        let value = self.rng.value();
        self.imm(value, self.size);
    }

    pub fn imm8(&mut self) {
        let value = self.rng.value();
        self.imm(value, 8);
    }

    /// ModRM naming a random register in r/m; returns it.
    pub fn rm_reg(&mut self, reg: u8) -> usize {
        let rm = self.rng.below(8) as u8;
        self.emit(&[0xc0 | reg << 3 | rm]);
        usize::from(rm)
    }

    /// A random register field.
    pub fn any_reg(&mut self) -> u8 {
        self.rng.below(8) as u8
    }

    /// Memory that reads as `bytes` at `addr`, as far as it is writable, with random bytes around.
    pub fn window(&mut self, lo: u32, hi: u32) {
        for range in WRITABLE {
            let (lo, hi) = (lo.max(range.start), hi.min(range.end));
            if lo >= hi {
                continue;
            }
            let at = self.case.memory.len() as u32;
            self.case.windows.push(Window { addr: lo, len: hi - lo, at });
            for _ in 0..(hi - lo).div_ceil(4) {
                let four = self.rng.value().to_le_bytes();
                self.case.memory.extend_from_slice(&four);
            }
            self.case.memory.truncate((at + hi - lo) as usize);
        }
    }

    /// Writes bytes into the windows that hold them.
    pub fn store(&mut self, addr: u32, bytes: &[u8]) {
        for (i, &byte) in bytes.iter().enumerate() {
            let addr = addr.wrapping_add(i as u32);
            for w in &self.case.windows {
                if (w.addr..w.addr + w.len).contains(&addr) {
                    self.case.memory[(w.at + addr - w.addr) as usize] = byte;
                }
            }
        }
    }

    /// An address for an operand of `len` bytes: mostly plain data, sometimes across or in pages that fault.
    pub fn draw_target(&mut self, len: u32) -> u32 {
        let inside = |g: &mut Self, len: u32| 1 + g.rng.below(len.max(2) - 1);
        match self.rng.below(64) {
            0 | 1 => READ_ONLY.start + self.rng.below(0x1000 - len),
            2 => DATA.end - inside(self, len),
            3 => READ_ONLY.end - inside(self, len),
            4 => DATA.start - inside(self, len),
            5 => {
                [DATA.start - 0x800, READ_ONLY.end, 0x1800][self.rng.below(3) as usize]
                    + self.rng.below(0x700)
            }
            6 => 0x1_0000 - self.rng.below(len + 1),
            7..10 => DATA.start + 0x1000 - self.rng.below(len + 1),
            10..26 => DATA.start + 0x100 + self.rng.below(0x1d00),
            _ => DATA.start + 0x100 + (self.rng.below(0x1d00) & !7),
        }
    }

    /// Puts `bytes` into the windows at `addr`, as far as they reach.
    pub fn fill(&mut self, addr: u32, bytes: &[u8]) {
        for w in &self.case.windows {
            for (n, byte) in bytes.iter().enumerate() {
                let offset = addr.wrapping_add(n as u32).wrapping_sub(w.addr);
                if offset < w.len {
                    self.case.memory[(w.at + offset) as usize] = *byte;
                }
            }
        }
    }

    /// ModRM (with SIB and displacement) naming memory; returns the address.
    pub fn rm_mem(&mut self, reg: u8) -> u32 {
        let len = self.len;
        let target = self.draw_target(len);
        self.window(target.wrapping_sub(8), target + len + 8);
        self.rm_mem_at(reg, target);
        target
    }

    /// ModRM naming the memory at `target`.
    pub fn rm_mem_at(&mut self, reg: u8, target: u32) {
        self.target = Some(target);
        if self.addr16 && target <= 0xffff {
            self.solve16(reg, target);
        } else if self.addr16 {
            self.solve16(reg, target & 0xffff);
        } else {
            self.solve32(reg, target);
        }
    }

    fn solve16(&mut self, reg: u8, target: u32) {
        const BASES: [(usize, Option<usize>); 8] = [
            (ESI, Some(EBX)),
            (EDI, Some(EBX)),
            (ESI, Some(EBP)),
            (EDI, Some(EBP)),
            (ESI, None),
            (EDI, None),
            (EBP, None),
            (EBX, None),
        ];
        let (md, rm) = (self.rng.below(3) as u8, self.rng.below(8) as u8);
        let (base, other) = BASES[usize::from(rm)];
        if (md == 0 && rm == 6) || self.pinned >> base & 1 != 0 {
            self.emit(&[reg << 3 | 6]);
            return self.imm(target, 16);
        }
        let disp = match md {
            0 => 0,
            1 => self.rng.next() as i8 as u32,
            _ => self.rng.next(),
        };
        let rest = disp.wrapping_add(other.map_or(0, |r| self.case.regs[r]));
        let upper = self.rng.next() & 0xffff_0000;
        self.pin(base, upper | target.wrapping_sub(rest) & 0xffff);
        if let Some(other) = other {
            self.pinned |= 1 << other;
        }
        self.emit(&[md << 6 | reg << 3 | rm]);
        self.imm(disp, [0, 8, 16][usize::from(md)]);
    }

    fn solve32(&mut self, reg: u8, target: u32) {
        let (mut md, mut rm) = (self.rng.below(3) as u8, self.rng.below(8) as u8);
        if rm == 4 {
            return self.solve_sib(reg, md, target);
        }
        if self.pinned >> rm & 1 != 0 {
            (md, rm) = if md == 0 { (0, 5) } else { (2, rm) };
        }
        if md == 0 && rm == 5 {
            self.emit(&[reg << 3 | 5]);
            return self.imm(target, 32);
        }
        self.emit(&[md << 6 | reg << 3 | rm]);
        self.displace(md, usize::from(rm), 0, target);
    }

    /// A displacement of `md`'s width, and a base register that together with `index` reaches `target`.
    fn displace(&mut self, md: u8, base: usize, index: u32, target: u32) {
        let fixed = self.pinned >> base & 1 != 0;
        let disp = match md {
            _ if fixed => target.wrapping_sub(index).wrapping_sub(self.case.regs[base]),
            0 => 0,
            1 => self.rng.next() as i8 as u32,
            _ => self.rng.value(),
        };
        if !fixed {
            self.pin(base, target.wrapping_sub(disp).wrapping_sub(index));
        }
        self.imm(disp, [0, 8, 32][usize::from(md)]);
    }

    fn solve_sib(&mut self, reg: u8, mut md: u8, target: u32) {
        let (scale, index, base) =
            (self.rng.below(4) as u8, self.rng.below(8) as u8, self.rng.below(8) as u8);
        let none = md == 0 && base == 5;
        if index != 4 && (!none || self.pinned >> index & 1 == 0) {
            if self.rng.one_in(2) && self.pinned >> index & 1 == 0 {
                self.case.regs[usize::from(index)] = self.rng.below(64);
            }
            self.pinned |= 1 << index;
        }
        if !none && self.pinned >> base & 1 != 0 {
            md = 2;
        }
        let scaled = if index == 4 { 0 } else { self.case.regs[usize::from(index)] << scale };
        self.emit(&[md << 6 | reg << 3 | 4, scale << 6 | index << 3 | base]);
        if none {
            return self.imm(target.wrapping_sub(scaled), 32);
        }
        self.displace(md, usize::from(base), scaled, target);
    }

    /// Points ESP at the stack with `below` bytes to be pushed and `above` to be popped; mostly well inside it.
    pub fn stack(&mut self, below: u32, above: u32) -> u32 {
        let at = match self.rng.below(32) {
            0 => STACK.start + self.rng.below(below + 1),
            1 => STACK.end - self.rng.below(above + 1),
            2 => STACK.start + 0x1000 - self.rng.below(8),
            3 | 4 => STACK.start + 0xc00 + self.rng.below(0x800),
            _ => STACK.start + 0xc00 + (self.rng.below(0x800) & !3),
        };
        let upper = if self.code16() && self.rng.one_in(2) { self.rng.next() & 0xffff_0000 } else { 0 };
        self.pin(ESP, upper | at);
        self.window(at.saturating_sub(below + 8), at + above + 8);
        at
    }

    /// Puts the stack where no push faults: for cases that fault for another reason, since processors differ in
    /// which of two faults comes first.
    pub fn safe_stack(&mut self) {
        let at = STACK.start + 0xa00;
        self.pin(ESP, at);
        self.window(at - 16, at + 16);
    }

    /// An address to branch to, with a landing there.
    pub fn landing(&mut self) -> u32 {
        let at = CODE.start + 0x1000 + self.rng.below(0xf00);
        self.case.landings.push(at);
        at
    }

    /// A short displacement from the end of the instruction, whose length is `len`, that misses instruction and landing.
    pub fn short(&mut self, len: u32) -> u8 {
        let rel = if self.rng.one_in(2) {
            24 + self.rng.below(104) as i32
        } else {
            -48 - self.rng.below(80) as i32
        };
        self.case.landings.push((self.case.eip + len).wrapping_add(rel as u32));
        rel as u8
    }
}
