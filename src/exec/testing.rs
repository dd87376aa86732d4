//! A flat, unpaged world for unit tests: a megabyte of memory, and ports that remember.

use super::{Env, ops};
use crate::addr::Linear;
use crate::bus::Width;
use crate::cpu::fault::pf;
use crate::cpu::{Cpu, Cr0, Eflags, Fault, Segment, Word};
use crate::decode::{Decoded, SegReg, decode};

const SIZE: usize = 1 << 20;

/// Memory beyond it, and the page at [`World::absent`], raise #PF.
pub(crate) struct World {
    pub(crate) memory: Vec<u8>,
    pub(crate) absent: Option<u32>,
    pub(crate) port_reads: u32,
    pub(crate) written: Vec<(u16, u32)>,
    /// FERR# and IGNNE#.
    pub(crate) ferr: bool,
    pub(crate) ignne: bool,
    /// A20M#, and whether it is blocked.
    pub(crate) a20m: bool,
    pub(crate) a20m_blocked: bool,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            memory: vec![0; SIZE],
            absent: None,
            port_reads: 0,
            written: Vec::new(),
            ferr: false,
            ignne: false,
            a20m: false,
            a20m_blocked: false,
        }
    }

    pub(crate) fn word(&self, at: u32) -> u16 {
        u16::read(&self.memory, at as usize).unwrap_or_default()
    }

    pub(crate) fn put(&mut self, at: u32, bytes: &[u8]) {
        self.memory[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
    }

    fn check(&self, at: Linear, len: u32, user: bool, write: bool) -> Result<(), Fault> {
        let code = if user { pf::USER } else { 0 } | if write { pf::WRITE } else { 0 };
        for byte in [at, at.offset(len - 1)] {
            if self.absent == Some(byte.page().0) || byte.0 as usize >= SIZE {
                return Err(Fault::page(byte.0, code));
            }
        }
        Ok(())
    }
}

impl Env for World {
    fn load<W: Word>(&mut self, _: &Cpu, at: Linear, user: bool) -> Result<W, Fault> {
        self.check(at, W::BYTES, user, false)?;
        Ok(W::read(&self.memory, at.0 as usize).expect("checked"))
    }
    fn load_for_update<W: Word>(&mut self, _: &Cpu, at: Linear, user: bool) -> Result<W, Fault> {
        self.check(at, W::BYTES, user, true)?;
        Ok(W::read(&self.memory, at.0 as usize).expect("checked"))
    }
    fn store<W: Word>(&mut self, _: &Cpu, at: Linear, value: W, user: bool) -> Result<(), Fault> {
        self.check(at, W::BYTES, user, true)?;
        assert!(value.write(&mut self.memory, at.0 as usize));
        Ok(())
    }
    fn probe(&mut self, _: &Cpu, at: Linear, len: u32, user: bool, write: bool) -> Result<(), Fault> {
        self.check(at, len, user, write)
    }
    fn port_in(&mut self, _: &Cpu, _: u16, _: Width) -> u32 {
        self.port_reads += 1;
        0x5a5a_5a5a
    }
    fn port_out(&mut self, _: &Cpu, port: u16, _: Width, value: u32) {
        self.written.push((port, value));
    }
    fn read_physical(&mut self, _: &Cpu, at: u32) -> u32 {
        u32::read(&self.memory, at as usize).unwrap_or(!0)
    }
    fn write_physical(&mut self, _: &Cpu, at: u32, value: u32) {
        value.write(&mut self.memory, at as usize);
    }
    fn flush_tlb(&mut self, _: bool) {}
    fn numeric_error(&mut self, _: &Cpu, asserted: bool) -> bool {
        self.ferr = asserted;
        self.ignne
    }
    fn invalidate_page(&mut self, _: Linear) {}
    fn a20m(&self) -> bool {
        self.a20m
    }
    fn block_a20m(&mut self, _: &Cpu, blocked: bool) {
        self.a20m_blocked = blocked;
    }
}

/// Real mode, all segments at zero, EIP 100h, SP 8000h, time without end.
pub(crate) fn real() -> Cpu {
    let mut cpu = Cpu::new();
    cpu.set_seg(SegReg::Cs, Segment::real(0));
    cpu.eip = 0x100;
    cpu.regs[4] = 0x8000;
    cpu.deadline = u64::MAX;
    cpu
}

/// Virtual-8086 mode with the given IOPL, laid out as [`real`], interrupts enabled.
pub(crate) fn v86(iopl: u32) -> Cpu {
    let mut cpu = real();
    cpu.cr0 |= Cr0::PE;
    SegReg::ALL.iter().for_each(|&s| cpu.set_seg(s, Segment::v86(0)));
    cpu.set_cpl(3);
    cpu.set_eflags(Eflags::VM | Eflags::IF | Eflags::from_bits_truncate(iopl << 12));
    cpu
}

/// Flat 32-bit protected mode at the given CPL, laid out as [`real`].
pub(crate) fn flat(cpl: u8) -> Cpu {
    let mut cpu = real();
    cpu.cr0 |= Cr0::PE;
    for s in SegReg::ALL {
        let kind = if s == SegReg::Cs { 0xc9b } else { 0xc93 };
        cpu.set_seg(s, Segment::with(8, 0, !0, kind | u16::from(cpl) << 5));
    }
    cpu.set_cpl(cpl);
    cpu
}

/// Executes one instruction as a run loop does; on a fault EIP is put back.
pub(crate) fn step(cpu: &mut Cpu, world: &mut World, code: &[u8]) -> Result<(), Fault> {
    let Decoded::Insn(i) = decode(code, cpu.code32()) else { panic!("not an instruction: {code:x?}") };
    let start = cpu.eip;
    cpu.eip = start.wrapping_add(u32::from(i.len));
    let result = ops::bind::<World>(&i)(cpu, world, &i);
    match result {
        Ok(()) => cpu.now += 1,
        Err(_) => cpu.eip = start,
    }
    result
}
