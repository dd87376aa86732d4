//! A flat world for the tests and benches of the backend: RAM, and a table of what is at which guest-linear page. There are
//! no chips, no ports and no privilege.

use super::{Frame, Windowed};
use crate::addr::{GuestPhys, Linear, MachineAddr, PAGE_OFFSET, PAGE_SHIFT};
use crate::cpu::fault::pf;
use crate::cpu::{Cpu, Cr0, Fault, Segment, Word};
use crate::decode::SegReg;
use crate::error::Result;
use crate::exec::Env;
use crate::interp::CodeEnv;
use crate::mem::Ram;
use crate::width::Width;
use std::collections::BTreeMap;

/// The world.
pub struct FlatWorld {
    ram: Ram,
    /// By page number: the frame's, and whether it can be written.
    pages: BTreeMap<u32, (u32, bool)>,
    stale: Vec<Linear>,
    epoch: u32,
}

/// A processor in flat 32-bit protected mode at CPL 0, at EIP `eip`, with a stack below `esp`.
pub fn flat_cpu(eip: u32, esp: u32) -> Cpu {
    let mut cpu = Cpu::new();
    cpu.cr0 |= Cr0::PE;
    for s in SegReg::ALL {
        let kind = if s == SegReg::Cs { 0xc9b } else { 0xc93 };
        cpu.set_seg(s, Segment::with(8, 0, !0, kind));
    }
    cpu.set_cpl(0);
    cpu.regs[4] = esp;
    cpu.eip = eip;
    cpu
}

impl FlatWorld {
    /// RAM of `size` bytes, whole pages, at the linear addresses that are its own.
    ///
    /// # Errors
    /// As [`Ram::mappable`].
    pub fn new(size: u32) -> Result<Self> {
        let pages = (0..size >> PAGE_SHIFT).map(|n| (n, (n, true))).collect();
        Ok(Self { ram: Ram::mappable(size >> PAGE_SHIFT)?, pages, stale: Vec::new(), epoch: 0 })
    }

    /// Puts the page of RAM at `frame` at the page of `at`, or nothing.
    pub fn set_page(&mut self, at: Linear, frame: Option<(MachineAddr, bool)>) {
        let number = at.page_number();
        match frame {
            Some((frame, writable)) => self.pages.insert(number, (frame.page_number(), writable)),
            None => self.pages.remove(&number),
        };
        self.stale.push(at.page());
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// All of RAM.
    pub fn memory(&self) -> &[u8] {
        self.ram.bytes()
    }

    /// Writes to RAM.
    pub fn put(&mut self, at: u32, bytes: &[u8]) {
        self.ram.write(MachineAddr(at), bytes);
    }

    fn at(&self, at: Linear, user: bool, write: bool) -> std::result::Result<MachineAddr, Fault> {
        let code = if user { pf::USER } else { 0 } | if write { pf::WRITE } else { 0 };
        match self.pages.get(&at.page_number()) {
            None => Err(Fault::page(at.0, code)),
            Some((_, false)) if write => Err(Fault::page(at.0, code | pf::PRESENT)),
            Some((frame, _)) => Ok(MachineAddr(frame << PAGE_SHIFT | at.page_offset())),
        }
    }

    /// Where each byte of an access is; the access faults as a whole.
    fn bytes<W: Word>(&self, at: Linear, user: bool, write: bool) -> std::result::Result<[usize; 4], Fault> {
        let mut found = [0; 4];
        for n in 0..W::BYTES {
            found[n as usize] = self.at(at.offset(n), user, write)?.0 as usize;
        }
        Ok(found)
    }

    /// Whether `len` bytes at `at` can be written, lie in one page, and that holds no code.
    fn plain(&self, at: Linear, len: u32, user: bool) -> Option<()> {
        let frame = self.at(at, user, true).ok()?.page();
        (at.page_offset() + len <= PAGE_OFFSET + 1 && !self.ram.has_code(frame)).then_some(())
    }
}

impl Env for FlatWorld {
    fn load<W: Word>(&mut self, _: &Cpu, at: Linear, user: bool) -> std::result::Result<W, Fault> {
        if at.page_offset() + W::BYTES <= PAGE_OFFSET + 1 {
            let at = self.at(at, user, false)?;
            return Ok(W::read(self.ram.bytes(), at.0 as usize).unwrap_or(W::from_u32(0)));
        }
        let places = self.bytes::<W>(at, user, false)?;
        let bytes = places.map(|at| self.ram.bytes()[at]);
        Ok(W::from_u32(u32::from_le_bytes(bytes)))
    }

    fn load_for_update<W: Word>(
        &mut self,
        cpu: &Cpu,
        at: Linear,
        user: bool,
    ) -> std::result::Result<W, Fault> {
        self.bytes::<W>(at, user, true)?;
        self.load(cpu, at, user)
    }

    fn store<W: Word>(
        &mut self,
        cpu: &Cpu,
        at: Linear,
        value: W,
        user: bool,
    ) -> std::result::Result<(), Fault> {
        if at.page_offset() + W::BYTES <= PAGE_OFFSET + 1 {
            let at = self.at(at, user, true)?;
            value.write(self.ram.bytes_unmarked_mut(), at.0 as usize);
            self.ram.touch(at, W::BYTES);
        } else {
            let places = self.bytes::<W>(at, user, true)?;
            for (place, byte) in places.into_iter().zip(value.u().to_le_bytes()).take(W::BYTES as usize) {
                self.ram.write(MachineAddr(place as u32), &[byte]);
            }
        }
        if self.ram.code_changed() {
            cpu.leave.set(true);
        }
        Ok(())
    }

    fn quick_load<W: Word>(&mut self, cpu: &Cpu, at: Linear, user: bool) -> Option<W> {
        self.load(cpu, at, user).ok()
    }

    fn quick_load_for_update<W: Word>(&mut self, cpu: &Cpu, at: Linear, user: bool) -> Option<W> {
        self.plain(at, W::BYTES, user)?;
        self.load(cpu, at, user).ok()
    }

    fn quick_store<W: Word>(&mut self, cpu: &Cpu, at: Linear, value: W, user: bool) -> bool {
        self.plain(at, W::BYTES, user).is_some() && self.store(cpu, at, value, user).is_ok()
    }

    fn probe(
        &mut self,
        _: &Cpu,
        at: Linear,
        len: u32,
        user: bool,
        write: bool,
    ) -> std::result::Result<(), Fault> {
        for at in [at, at.offset(len.max(1) - 1)] {
            self.at(at, user, write)?;
        }
        Ok(())
    }

    fn port_in(&mut self, _: &Cpu, _: u16, _: Width) -> u32 {
        !0
    }
    fn port_out(&mut self, _: &Cpu, _: u16, _: Width, _: u32) {}
    fn flush_tlb(&mut self, _: bool) {}
    fn invalidate_page(&mut self, _: Linear) {}
}

impl CodeEnv for FlatWorld {
    fn fetch_address(&mut self, cpu: &Cpu, at: Linear) -> std::result::Result<GuestPhys, Fault> {
        self.at(at, cpu.user, false).map(|at| GuestPhys(at.0))
    }
    fn fetch_epoch(&self) -> u32 {
        self.epoch
    }
    fn read_code(&mut self, _: &Cpu, at: GuestPhys, buf: &mut [u8]) {
        self.ram.read(MachineAddr(at.0), buf);
    }
    fn mark_code(&mut self, at: GuestPhys, len: u32) -> bool {
        if self.ram.mark_code(MachineAddr(at.0), len) {
            let shown = self.pages.iter().filter(|(_, (frame, _))| *frame == at.page_number());
            self.stale.extend(shown.map(|(number, _)| Linear(number << PAGE_SHIFT)));
        }
        true
    }
    fn generation(&self, at: GuestPhys) -> u32 {
        self.ram.generation(MachineAddr(at.0))
    }
    fn clear_code_changed(&mut self) {
        self.ram.clear_code_changed();
    }
    fn code_epoch(&self) -> u32 {
        self.ram.code_epoch()
    }
    fn wants_attention(&self, _: &Cpu) -> bool {
        self.ram.code_changed()
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
        0
    }
}

impl Windowed for FlatWorld {
    fn frame(&mut self, cpu: &Cpu, at: Linear, write: bool) -> Option<Frame> {
        let frame = self.at(at, cpu.user, write).ok()?.page();
        let writable = self.at(at, cpu.user, true).is_ok() && !self.ram.has_code(frame);
        Some(Frame { at: frame, writable })
    }
    fn take_stale(&mut self) -> Option<Linear> {
        self.stale.pop()
    }
    fn ram(&self) -> &Ram {
        &self.ram
    }
}
