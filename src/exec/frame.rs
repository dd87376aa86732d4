//! Stack frames of transfers and events: built whole, checked whole, then written; so a fault while pushing
//! leaves the stack and the registers as they were.

use super::Env;
use crate::addr::Linear;
use crate::bus::Width;
use crate::cpu::{Cpu, Fault, Segment, gpr};

/// The longest frame: a call gate's 31 parameters, SS, ESP, CS, EIP.
const MOST: usize = 36;

/// Values on their way to a stack.
pub struct Frame {
    /// The stack segment that they go to.
    pub ss: Segment,
    /// The stack pointer before the first push.
    pub sp: u32,
    /// Whether the stack belongs to CPL 3.
    pub user: bool,
    width: Width,
    values: [u32; MOST],
    count: usize,
}

impl Frame {
    /// An empty frame of `width` slots below `sp` in `ss`.
    pub fn new(ss: Segment, sp: u32, user: bool, width: Width) -> Self {
        Self { ss, sp, user, width, values: [0; MOST], count: 0 }
    }

    /// A frame on the current stack.
    pub fn current(cpu: &Cpu, width: Width) -> Self {
        Self::new(*cpu.seg(crate::decode::SegReg::Ss), cpu.regs[gpr::ESP], cpu.user, width)
    }

    /// Adds a value: the first added lies highest.
    pub fn push(&mut self, value: u32) {
        self.values[self.count] = value;
        self.count += 1;
    }

    /// Whether the values fit the segment; pages are not looked at.
    ///
    /// # Errors
    /// #SS(`code`).
    pub fn check_room(&self, code: u16) -> Result<(), Fault> {
        let step = self.width.bytes();
        let fits = |n| self.ss.in_limit(self.offset(n), step);
        let room = self.ss.usable() && self.ss.writable() && (0..self.count).all(fits);
        if room { Ok(()) } else { Err(Fault::ss(code)) }
    }

    /// Writes the values and returns the stack pointer after them (within SS.B's width; upper bits those of
    /// `sp`).
    ///
    /// # Errors
    /// #SS(`code`) when they do not fit the segment; #AC; #PF.
    pub fn commit<E: Env>(&self, cpu: &Cpu, env: &mut E, code: u16) -> Result<u32, Fault> {
        self.check_room(code)?;
        let step = self.width.bytes();
        for n in 0..self.count {
            let at = self.linear(self.offset(n));
            // Here, because the environment looks at accesses one by one only where an instruction is run
            // that way.
            if self.user {
                cpu.check_alignment(at, step)?;
            }
            env.probe(cpu, at, step, self.user, true)?;
        }
        for n in 0..self.count {
            let at = self.linear(self.offset(n));
            match self.width {
                Width::Dword => env.store(cpu, at, self.values[n], self.user)?,
                _ => env.store(cpu, at, self.values[n] as u16, self.user)?,
            }
        }
        let mask = self.mask();
        Ok((self.sp & !mask) | (self.sp.wrapping_sub(step * self.count as u32) & mask))
    }

    fn mask(&self) -> u32 {
        if self.ss.big() { !0 } else { 0xffff }
    }

    fn offset(&self, n: usize) -> u32 {
        self.sp.wrapping_sub(self.width.bytes() * (n as u32 + 1)) & self.mask()
    }

    fn linear(&self, offset: u32) -> Linear {
        Linear(self.ss.base.wrapping_add(offset))
    }
}

/// Reads the `n`th slot of `width` above the stack pointer, `skip` bytes further up.
///
/// # Errors
/// #SS(0), #PF.
pub fn peek<E: Env>(cpu: &Cpu, env: &mut E, n: u32, width: Width, skip: u32) -> Result<u32, Fault> {
    use crate::decode::SegReg::Ss;
    use crate::exec::operand::load;
    let offset = cpu.sp().wrapping_add(n * width.bytes()).wrapping_add(skip) & cpu.stack_mask;
    match width {
        Width::Dword => load::<u32, E>(cpu, env, Ss, offset),
        _ => Ok(u32::from(load::<u16, E>(cpu, env, Ss, offset)?)),
    }
}
