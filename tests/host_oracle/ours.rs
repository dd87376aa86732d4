//! The side that is judged by the host's processor: this crate's semantics over a small flat memory.

use super::case::*;
use subring::addr::{Linear, PAGE_OFFSET, PAGE_SIZE};
use subring::bus::Width;
use subring::cpu::fault::pf;
use subring::cpu::segment::Descriptor;
use subring::cpu::{Cpu, Cr0, Eflags, Fault as Raised, Segment, TableReg, Word};
use subring::decode::{Decoded, SegReg, decode};
use subring::exec::Env;
use subring::exec::ops::bind;

/// The subject under test.
pub fn subject() -> Option<Box<dyn Subject>> {
    Some(Box::new(Ours::new()))
}

/// A page that only the supervisor sees: the descriptor tables.
const TABLES: u32 = 0x12000;
/// The LDT within it.
const LDT: u32 = TABLES + 0x800;
/// The TSS within it.
const TSS: u32 = TABLES + 0xc00;
/// Descriptors by selector.
const DESCRIPTORS: [(u16, u64); 5] = [
    (0x08, 0x00cf_9b00_0000_ffff),
    (0x18, 0x00cf_9300_0000_ffff),
    (CS32, 0x00cf_fb00_0000_ffff),
    (FLAT, 0x00cf_f300_0000_ffff),
    (0x10, 0x00af_9b00_0000_ffff),
];
const LOCAL_DESCRIPTORS: [(u16, u64); 2] = [(CS16, 0x0000_fb00_0000_ffff), (DATA16, 0x0000_f300_0000_ffff)];

struct Ours {
    world: World,
    background: Vec<u8>,
}

impl Ours {
    fn new() -> Self {
        let mut background: Vec<u8> = (0..TABLES + PAGE_SIZE).map(background).collect();
        background[TABLES as usize..].fill(0);
        for (tables, list) in [(TABLES, &DESCRIPTORS[..]), (LDT, &LOCAL_DESCRIPTORS[..])] {
            for &(selector, bits) in list {
                let at = (tables + u32::from(selector & 0xfff8)) as usize;
                background[at..at + 8].copy_from_slice(&bits.to_le_bytes());
            }
        }
        // The task-state segment's I/O map would begin beyond its limit: there is none.
        let map_base = (TSS + 0x66) as usize;
        background[map_base..map_base + 2].copy_from_slice(&0x68u16.to_le_bytes());
        Self { world: World { memory: background.clone() }, background }
    }
}

/// The processor as `case` starts it.
fn start(case: &Case) -> Cpu {
    let mut cpu = Cpu::new();
    cpu.cr0 = Cr0::PE | Cr0::PG | Cr0::ET | Cr0::NE | Cr0::WP | Cr0::MP | Cr0::AM;
    cpu.gdtr = TableReg { base: TABLES, limit: 0x7f };
    cpu.ldtr = Segment::system(0x50, LDT, 0x17, 0x82);
    cpu.tr = Segment::system(0x40, TSS, 0x67, 0x8b);
    let (code, data) = match case.mode {
        Mode::Code32 => (CS32, FLAT),
        Mode::Code16 => (CS16, DATA16),
    };
    for (s, selector) in
        [(SegReg::Cs, code), (SegReg::Ds, data), (SegReg::Es, data), (SegReg::Ss, data), (SegReg::Gs, FLAT)]
    {
        cpu.set_seg(s, segment(selector));
    }
    cpu.set_seg(SegReg::Fs, Segment::null(0));
    cpu.set_cpl(3);
    cpu.regs[..8].copy_from_slice(&case.regs);
    cpu.set_eflags(Eflags::from_bits_truncate(case.eflags) | Eflags::IF);
    cpu.eip = case.eip;
    cpu.deadline = u64::MAX;
    cpu
}

fn segment(selector: u16) -> Segment {
    let known = DESCRIPTORS.iter().chain(&LOCAL_DESCRIPTORS).find(|d| d.0 == selector);
    known.map_or(Segment::null(selector), |d| Descriptor(d.1).load(selector))
}

/// Executes the instruction, and leaves EIP as a run loop would.
fn step(cpu: &mut Cpu, world: &mut World, case: &Case) -> Result<(), Raised> {
    let insn = match decode(&case.code, case.mode == Mode::Code32) {
        Decoded::Insn(insn) => insn,
        _ => return Err(Raised::GP0),
    };
    cpu.eip = case.eip.wrapping_add(u32::from(insn.len));
    let result = bind::<World>(&insn)(cpu, world, &insn);
    if result.is_err() {
        cpu.eip = case.eip;
    }
    result
}

impl Subject for Ours {
    fn run(&mut self, case: &Case, out: &mut Outcome) {
        for w in &case.windows {
            self.world
                .bytes_mut(w.addr, w.len)
                .copy_from_slice(&case.memory[w.at as usize..(w.at + w.len) as usize]);
        }
        let mut cpu = start(case);
        let result = step(&mut cpu, &mut self.world, case);
        out.regs.copy_from_slice(&cpu.regs[..8]);
        out.eip = cpu.eip;
        out.eflags = cpu.eflags().bits();
        out.segs = [SegReg::Ds, SegReg::Es, SegReg::Ss].map(|s| cpu.seg(s).selector.0);
        out.fault = result.err().map(|f| Fault {
            vector: f.vector(),
            error: f.code().unwrap_or(0).into(),
            cr2: f.address().unwrap_or(0),
        });
        out.memory.resize(case.memory.len(), 0);
        for w in &case.windows {
            out.memory[w.at as usize..(w.at + w.len) as usize]
                .copy_from_slice(self.world.bytes_mut(w.addr, w.len));
        }
        for range in WRITABLE.into_iter().chain([CODE]) {
            let range = range.start as usize..range.end as usize;
            self.world.memory[range.clone()].copy_from_slice(&self.background[range]);
        }
    }
}

/// The little machine's memory and its page protection; it has no ports.
struct World {
    memory: Vec<u8>,
}

impl World {
    fn bytes_mut(&mut self, at: u32, len: u32) -> &mut [u8] {
        &mut self.memory[at as usize..(at + len) as usize]
    }

    /// The fault of an access to one byte's page.
    fn check_page(at: u32, user: bool, write: bool) -> Result<(), Raised> {
        let readable = READ_ONLY.contains(&at) || CODE.contains(&at);
        let writable = CODE.contains(&at) || WRITABLE.iter().any(|r| r.contains(&at));
        let tables = (TABLES..TABLES + PAGE_SIZE).contains(&at);
        let present = readable || writable || tables;
        if (if write { writable } else { readable || writable }) || (tables && !user) {
            return Ok(());
        }
        let code = if present { pf::PRESENT } else { 0 }
            | if user { pf::USER } else { 0 }
            | if write { pf::WRITE } else { 0 };
        Err(Raised::page(at, code))
    }

    fn check(at: u32, len: u32, user: bool, write: bool) -> Result<(), Raised> {
        Self::check_page(at, user, write)?;
        let last = at.wrapping_add(len - 1);
        if last & !PAGE_OFFSET != at & !PAGE_OFFSET {
            Self::check_page(last & !PAGE_OFFSET, user, write)?;
        }
        Ok(())
    }
}

impl Env for World {
    fn load<W: Word>(&mut self, _: &Cpu, at: Linear, user: bool) -> Result<W, Raised> {
        Self::check(at.0, W::BYTES, user, false)?;
        Ok(W::read(&self.memory, at.0 as usize).expect("the check holds it inside"))
    }

    fn load_for_update<W: Word>(&mut self, _: &Cpu, at: Linear, user: bool) -> Result<W, Raised> {
        Self::check(at.0, W::BYTES, user, true)?;
        Ok(W::read(&self.memory, at.0 as usize).expect("the check holds it inside"))
    }

    fn store<W: Word>(&mut self, _: &Cpu, at: Linear, value: W, user: bool) -> Result<(), Raised> {
        Self::check(at.0, W::BYTES, user, true)?;
        assert!(value.write(&mut self.memory, at.0 as usize), "the check holds it inside");
        Ok(())
    }

    fn probe(&mut self, _: &Cpu, at: Linear, len: u32, user: bool, write: bool) -> Result<(), Raised> {
        Self::check(at.0, len, user, write)
    }

    fn port_in(&mut self, _: &Cpu, _: u16, width: Width) -> u32 {
        width.mask()
    }

    fn port_out(&mut self, _: &Cpu, _: u16, _: Width, _: u32) {}

    fn flush_tlb(&mut self, _: bool) {}

    fn invalidate_page(&mut self, _: Linear) {}
}
