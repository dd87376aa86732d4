//! The side that is judged by the host's processor: our decoder and semantics over the machine that `case.rs`
//! describes, as an [`Env`] of a few pages. Software interrupts are delivered through real gates to CPL 0,
//! where the frame they pushed is taken back.

use super::case::*;
use subring::addr::{GuestPhys, Linear, PAGE_SIZE};
use subring::bus::Width;
use subring::cpu::segment::attr;
use subring::cpu::{Cpu, Cr0, Eflags, Fault as Raised, Segment, TableReg, Word, gpr};
use subring::decode::{Decoded, Rep, SegReg, decode};
use subring::exec::Env;
use subring::exec::fpu::image::{self, Format};
use subring::exec::ops::bind;
use subring::interp::{CodeEnv, Stop};
use subring::translate::backend::Portable;
use subring::translate::{Left, Translator, plan::Identity};

/// Where the supervisor's pages lie: the descriptor tables, the task-state segment, the stack of CPL 0.
const GDT: u32 = 0x1_2000;
const LDT: u32 = 0x1_2100;
const TSS: u32 = 0x1_2200;
const IDT: u32 = 0x1_3000;
const RING0_STACK: u32 = 0x1_5000;
const END: u32 = 0x1_5000;
/// A gate's offset names its vector.
const GATES: u32 = 0x8000_0000;

/// Memory with the page rights of `case.rs`, and ports that user mode never reaches.
struct Pages {
    bytes: Vec<u8>,
    /// Of all code: moves on with each case.
    generation: u32,
    /// Code was changed, and nobody has looked since.
    code_changed: bool,
}

impl Pages {
    /// The fault, if any, of an access to `len` bytes.
    fn check(&self, at: u32, len: u32, user: bool, write: bool) -> Result<(), Raised> {
        let mut next = at;
        while next.wrapping_sub(at) < len {
            self.check_page(next, user, write)?;
            next = (next | (PAGE_SIZE - 1)).wrapping_add(1);
        }
        Ok(())
    }

    fn check_page(&self, at: u32, user: bool, write: bool) -> Result<(), Raised> {
        let code = u16::from(user) << 2 | u16::from(write) << 1;
        let writable = CODE.contains(&at) || WRITABLE.iter().any(|r| r.contains(&at));
        let supervisor = (GDT..END).contains(&at);
        match () {
            _ if writable || (READ_ONLY.contains(&at) && !write) || (supervisor && !user) => Ok(()),
            _ if READ_ONLY.contains(&at) || supervisor => Err(Raised::page(at, code | 1)),
            _ => Err(Raised::page(at, code)),
        }
    }

    fn put(&mut self, at: u32, bytes: &[u8]) {
        self.bytes[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    }

    fn dword(&self, at: u32) -> u32 {
        u32::read(&self.bytes, at as usize).unwrap_or(0)
    }
}

impl Env for Pages {
    fn load<W: Word>(&mut self, _: &Cpu, at: Linear, user: bool) -> Result<W, Raised> {
        self.check(at.0, size_of::<W>() as u32, user, false)?;
        Ok(W::read(&self.bytes, at.0 as usize).unwrap_or(W::from_u32(0)))
    }

    fn load_for_update<W: Word>(&mut self, _: &Cpu, at: Linear, user: bool) -> Result<W, Raised> {
        self.check(at.0, size_of::<W>() as u32, user, true)?;
        Ok(W::read(&self.bytes, at.0 as usize).unwrap_or(W::from_u32(0)))
    }

    fn store<W: Word>(&mut self, _: &Cpu, at: Linear, value: W, user: bool) -> Result<(), Raised> {
        self.check(at.0, size_of::<W>() as u32, user, true)?;
        value.write(&mut self.bytes, at.0 as usize);
        Ok(())
    }

    fn probe(&mut self, _: &Cpu, at: Linear, len: u32, user: bool, write: bool) -> Result<(), Raised> {
        self.check(at.0, len, user, write)
    }

    fn port_in(&mut self, _: &Cpu, _: u16, width: Width) -> u32 {
        width.mask()
    }

    fn port_out(&mut self, _: &Cpu, _: u16, _: Width, _: u32) {}

    fn flush_tlb(&mut self, _: bool) {}

    fn invalidate_page(&mut self, _: Linear) {}
}

/// Linear addresses are physical ones, and there are no chips.
impl CodeEnv for Pages {
    fn fetch_address(&mut self, cpu: &Cpu, at: Linear) -> Result<GuestPhys, Raised> {
        self.check(at.0, 1, cpu.user, false)?;
        Ok(GuestPhys(at.0))
    }

    fn fetch_epoch(&self) -> u32 {
        1
    }

    fn read_code(&mut self, _: &Cpu, at: GuestPhys, buf: &mut [u8]) {
        buf.copy_from_slice(&self.bytes[at.0 as usize..at.0 as usize + buf.len()]);
    }

    fn mark_code(&mut self, _: GuestPhys, _: u32) -> bool {
        true
    }

    fn generation(&self, _: GuestPhys) -> u32 {
        self.generation
    }

    fn code_epoch(&self) -> u32 {
        self.generation
    }

    fn clear_code_changed(&mut self) {
        self.code_changed = false;
    }

    fn wants_attention(&self, _: &Cpu) -> bool {
        self.code_changed
    }

    fn take_chips_touched(&mut self) -> bool {
        false
    }

    fn interrupt_requested(&self) -> bool {
        false
    }

    fn check_each_access(&mut self, _: bool) {}
    fn checks_each_access(&self) -> bool {
        false
    }

    fn take_break_hits(&mut self) -> u32 {
        0
    }

    fn map_epoch(&self) -> u32 {
        1
    }
}

/// A code or data descriptor with base 0.
fn descriptor(limit: u32, attr: u16) -> u64 {
    let limit = if attr & attr::GRANULAR != 0 { limit >> 12 } else { limit };
    u64::from(limit & 0xffff)
        | u64::from(attr & 0xff) << 40
        | u64::from(limit >> 16) << 48
        | u64::from(attr >> 8) << 52
}

const FLAT_CODE: u16 = attr::GRANULAR | attr::BIG | 0xfb;
const FLAT_DATA: u16 = attr::GRANULAR | attr::BIG | 0xf3;

/// NOPs behind a translated instruction.
const BEHIND: usize = 16;

/// Our semantics on the machine of `case.rs`: by themselves, or in translated code.
pub struct Ours {
    start: Cpu,
    pages: Pages,
    background: Vec<u8>,
    translator: Option<Translator<Pages, Portable<Pages>>>,
}

impl Ours {
    /// With instructions run by themselves, or through the translator.
    pub fn new(translated: bool) -> Self {
        let mut pages =
            Pages { bytes: (0..TOP).map(background).collect(), generation: 1, code_changed: false };
        pages.bytes.resize(END as usize, 0);
        let ring0 = |attr: u16| descriptor(!0, attr & !0x60);
        let gdt =
            [0, 0, ring0(FLAT_CODE), ring0(FLAT_DATA), descriptor(!0, FLAT_CODE), descriptor(!0, FLAT_DATA)];
        for (i, entry) in gdt.iter().enumerate() {
            pages.put(GDT + 8 * i as u32, &entry.to_le_bytes());
        }
        pages.put(LDT + 8, &descriptor(0xffff, 0xfb).to_le_bytes());
        pages.put(LDT + 16, &descriptor(0xffff, 0xf3).to_le_bytes());
        pages.put(TSS + 4, &RING0_STACK.to_le_bytes());
        pages.put(TSS + 8, &0x18u32.to_le_bytes());
        pages.put(TSS + 0x66, &0x68u16.to_le_bytes());
        for vector in 0..256u32 {
            let target = GATES + vector;
            let kind: u32 = if matches!(vector, 3 | 4) { 0xee00 } else { 0x8e00 };
            pages.put(IDT + 8 * vector, &(0x10_0000 | target & 0xffff).to_le_bytes());
            pages.put(IDT + 8 * vector + 4, &(target & 0xffff_0000 | kind).to_le_bytes());
        }
        let background = pages.bytes.clone();
        let translator = translated.then(|| {
            let mut translator = Translator::default();
            // Units of one instruction, dropped now and then for lack of room.
            (translator.limits.unit, translator.limits.fragments) = (1, 1 << 16);
            translator
        });
        Ours { start: start_state(), pages, background, translator }
    }

    /// How often units ran.
    pub fn units(&self) -> u64 {
        self.translator.as_ref().map_or(0, |t| t.runs().units)
    }

    /// Runs the instruction in translated code until it is complete or faults.
    fn execute_translated(&mut self, cpu: &mut Cpu, case: &Case) -> Result<(), Raised> {
        let Some(translator) = &mut self.translator else { return Ok(()) };
        let repeats = match decode(&case.code, case.mode == Mode::Code32) {
            Decoded::Insn(insn) => insn.rep != Rep::Once,
            Decoded::Truncated | Decoded::TooLong => false,
        };
        let at = cpu.eip;
        self.pages.put(at, &case.code);
        self.pages.put(at + case.code.len() as u32, &[0x90; BEHIND]);
        self.pages.generation += 1;
        self.pages.code_changed = true;
        let ended = loop {
            let until = cpu.now + 1;
            match translator.run(cpu, &mut self.pages, &mut Identity, until) {
                Left::Stop(Stop::Budget) if repeats && cpu.eip == at => {}
                Left::Stop(Stop::Budget) => break Ok(()),
                Left::Stop(Stop::Fault(fault)) => break Err(fault),
                left => unreachable!("nothing else is to be looked at: {left:?}"),
            }
        };
        let range = at as usize..at as usize + case.code.len() + BEHIND;
        self.pages.bytes[range.clone()].copy_from_slice(&self.background[range]);
        ended
    }

    /// Decodes and executes the instruction until it is complete or faults.
    fn execute(&mut self, cpu: &mut Cpu, case: &Case) -> Result<(), Raised> {
        let decoded = match decode(&case.code, case.mode == Mode::Code32) {
            Decoded::Insn(insn) => insn,
            Decoded::Truncated | Decoded::TooLong => return Err(Raised::GP0),
        };
        let handler = bind::<Pages>(&decoded);
        loop {
            let at = cpu.eip;
            cpu.eip = at.wrapping_add(decoded.len.into());
            if let Err(fault) = handler(cpu, &mut self.pages, &decoded) {
                cpu.eip = at;
                return Err(fault);
            }
            if decoded.rep == Rep::Once || cpu.eip != at {
                return Ok(());
            }
        }
    }

    /// Takes back a software interrupt's frame from the stack of CPL 0.
    fn unwind(&self, cpu: &Cpu, out: &mut Outcome) {
        let sp = cpu.regs[gpr::ESP];
        out.fault = Some(Fault { vector: cpu.eip as u8, error: 0, cr2: 0 });
        out.eip = self.pages.dword(sp);
        out.eflags = self.pages.dword(sp + 8);
        out.regs[gpr::ESP] = self.pages.dword(sp + 12);
        out.segs[2] = self.pages.dword(sp + 16) as u16;
    }
}

/// The processor in user mode, as 32-bit cases find it.
fn start_state() -> Cpu {
    let mut cpu = Cpu::new();
    cpu.cr0 = Cr0::PE | Cr0::PG | Cr0::WP | Cr0::AM | Cr0::NE | Cr0::ET;
    cpu.gdtr = TableReg { base: GDT, limit: 0x2f };
    cpu.idtr = TableReg { base: IDT, limit: 0x7ff };
    cpu.ldtr = Segment::system(0x38, LDT, 0x17, 0x82);
    cpu.tr = Segment::system(0x40, TSS, 0x67, 0x8b);
    cpu.set_cpl(3);
    cpu.deadline = u64::MAX;
    cpu
}

/// Loads the segment registers as `mode` wants them.
fn load_segments(cpu: &mut Cpu, mode: Mode) {
    let flat = Segment::with(FLAT, 0, !0, FLAT_DATA);
    let (code, data) = match mode {
        Mode::Code32 => (Segment::with(CS32, 0, !0, FLAT_CODE), flat),
        Mode::Code16 => (Segment::with(CS16, 0, 0xffff, 0xfb), Segment::with(DATA16, 0, 0xffff, 0xf3)),
    };
    cpu.set_seg(SegReg::Cs, code);
    for s in [SegReg::Ds, SegReg::Es, SegReg::Ss] {
        cpu.set_seg(s, data);
    }
    cpu.set_seg(SegReg::Fs, Segment::null(0));
    cpu.set_seg(SegReg::Gs, flat);
}

impl Subject for Ours {
    fn run(&mut self, case: &Case, out: &mut Outcome) {
        for w in &case.windows {
            self.pages.put(w.addr, &case.memory[w.at as usize..(w.at + w.len) as usize]);
        }
        let mut cpu = self.start.clone();
        load_segments(&mut cpu, case.mode);
        cpu.regs[..8].copy_from_slice(&case.regs);
        cpu.eip = case.eip;
        cpu.set_eflags(Eflags::from_bits_truncate(case.eflags));
        let format = Format { wide: true, protected: true };
        image::load_state(&mut cpu.fpu, &case.fpu, format);
        let result = match self.translator {
            Some(_) => self.execute_translated(&mut cpu, case),
            None => self.execute(&mut cpu, case),
        };
        out.fpu = if case.fpu.is_empty() { Vec::new() } else { image::state(&cpu.fpu, format) };
        out.regs.copy_from_slice(&cpu.regs[..8]);
        out.eip = cpu.eip;
        out.eflags = cpu.eflags().bits();
        out.segs = [SegReg::Ds, SegReg::Es, SegReg::Ss].map(|s| cpu.seg(s).selector.0);
        out.fault = result.err().map(|f| Fault {
            vector: f.vector(),
            error: f.code().unwrap_or(0).into(),
            cr2: f.address().unwrap_or(0),
        });
        if cpu.cpl == 0 {
            self.unwind(&cpu, out);
        }
        out.memory.resize(case.memory.len(), 0);
        for w in &case.windows {
            let range = w.addr as usize..(w.addr + w.len) as usize;
            out.memory[w.at as usize..(w.at + w.len) as usize].copy_from_slice(&self.pages.bytes[range]);
        }
        // Windows may overlap: all are read before any is cleared.
        for w in &case.windows {
            let range = w.addr as usize..(w.addr + w.len) as usize;
            self.pages.bytes[range.clone()].copy_from_slice(&self.background[range]);
        }
    }
}
