//! The processor's state: what the manual calls the basic execution environment and the system registers
//! (SDM vol. 1, 3; vol. 3, 2).

pub mod control;
pub mod event;
pub mod fault;
pub mod flags;
pub mod fpu;
pub mod model;
pub mod segment;
pub mod vmx;
pub mod word;

pub use control::{Cr0, Cr4, Dr7, Msrs, TableReg};
pub use fault::{Fault, Packed, Vector};
pub use flags::{Eflags, LazyFlags};
pub use fpu::{F80, Fpu};
pub use model::{Features, Model};
pub use segment::{Segment, Selector};
pub use word::Word;

use crate::addr::Linear;
use crate::clock::{Ticks, When};
use crate::decode::SegReg;
use bitflags::bitflags;
use serde::{Deserialize, Serialize};
use std::cell::Cell;

/// Register numbers of the general registers.
#[allow(missing_docs, reason = "the constants are the registers' names")]
pub mod gpr {
    pub const EAX: usize = 0;
    pub const ECX: usize = 1;
    pub const EDX: usize = 2;
    pub const EBX: usize = 3;
    pub const ESP: usize = 4;
    pub const EBP: usize = 5;
    pub const ESI: usize = 6;
    pub const EDI: usize = 7;
    /// Names by number.
    pub const NAMES: [&str; 8] = ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"];
}

/// Whether the processor runs instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Activity {
    /// Instructions run.
    #[default]
    Running,
    /// HLT: it waits for an interrupt.
    Halted,
    /// A triple fault: the processor waits for a reset, and in VMX non-root operation for an NMI or the
    /// VMX-preemption timer.
    Shutdown,
    /// In VMX non-root operation alone: only a start-up interrupt ends this, which no other processor is there
    /// to send.
    WaitForSipi,
}

bitflags! {
    /// What keeps the next instruction from running on the fast path. Kept up to date by [`Cpu::refresh`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
    pub struct Special: u8 {
        /// The instruction after STI: no maskable interrupt before it has run.
        const STI_SHADOW = 1;
        /// The instruction after a load of SS: no interrupt and no debug trap before it has run.
        const SS_SHADOW = 2;
        /// EFLAGS.TF is set.
        const SINGLE_STEP = 4;
        /// DR7 enables a code breakpoint.
        const CODE_BREAK = 8;
        /// DR7 enables a data breakpoint, or alignment is checked: each access has to be looked at.
        const CHECK_DATA = 16;
        /// A debug trap was noticed and is due after the instruction (pending bits of DR6).
        const DEBUG_TRAP = 32;
        /// EFLAGS.RF is set: the next instruction's code breakpoints are ignored.
        const RESUME = 64;
        /// No maskable interrupt now: a shadow, or a debug trap that goes first (SDM vol. 3, table 6-2).
        const HOLDS_INTERRUPTS = Self::STI_SHADOW.bits() | Self::SS_SHADOW.bits() | Self::DEBUG_TRAP.bits();
    }
}

bitflags! {
    /// Conditions that last for one instruction; see [`Special`].
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
    pub struct Shadow: u8 {
        /// After STI.
        const STI = 1;
        /// After a load of SS.
        const SS = 2;
    }
}

/// The processor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cpu {
    /// The general registers by number; number 8 always holds 0 and stands for "no register" in addresses.
    pub regs: [u32; 16],
    /// The instruction pointer. While an instruction runs it already names the next one.
    pub eip: u32,
    /// The arithmetic flags, in lazy form.
    pub lazy: LazyFlags,
    /// The other flags; the arithmetic bits in here mean nothing.
    pub system_flags: Eflags,
    /// The segment registers with their hidden parts, by [`SegReg`] number.
    pub segs: [Segment; 6],
    /// The current privilege level.
    pub cpl: u8,
    /// Whether accesses are user-mode ones for paging (CPL 3).
    pub user: bool,
    /// FFFF or FFFFFFFF, as SS.B says.
    pub stack_mask: u32,
    /// What keeps the fast path from being taken.
    pub special: Special,
    /// One-instruction shadows.
    pub shadow: Shadow,
    /// DR6 bits of debug traps that are due at the end of the instruction.
    pub debug_pending: u32,
    /// Whether the processor runs.
    pub activity: Activity,
    /// A REP instruction stopped between iterations and EIP names it again.
    pub mid_string: bool,
    /// The arithmetic flags from before that REP instruction.
    pub string_flags: LazyFlags,
    /// A task switch was committed and is not complete: a fault now belongs to the new task, whose EIP stays
    /// as it is.
    pub switched_task: bool,
    /// NMIs are blocked until the next IRET.
    pub nmi_blocked: bool,
    /// Which processor this is. Kept over a reset, as are the features.
    pub model: Model,
    /// What the processor has beyond a Pentium II: the model's, or what a monitor leaves of them.
    pub features: Features,
    /// Control register 0.
    pub cr0: Cr0,
    /// Control register 2: the address of the last page fault.
    pub cr2: u32,
    /// Control register 3.
    pub cr3: u32,
    /// Control register 4.
    pub cr4: Cr4,
    /// The page-directory-pointer-table entries, loaded with CR3 (SDM vol. 3, 4.4.1): the top level of PAE
    /// paging.
    pub pdptes: [u64; 4],
    /// The debug registers; 4 and 5 are not used.
    pub dr: [u32; 8],
    /// The global descriptor table register.
    pub gdtr: TableReg,
    /// The interrupt descriptor table register.
    pub idtr: TableReg,
    /// The local descriptor table register.
    pub ldtr: Segment,
    /// The task register.
    pub tr: Segment,
    /// The model-specific registers.
    pub msrs: Msrs,
    /// The x87.
    pub fpu: Fpu,
    /// The virtual-machine extensions, if the processor has them.
    pub vmx: Option<Box<vmx::Vmx>>,
    /// Guest time: retired instructions (each iteration of a REP counts as one; so does an event that is
    /// delivered right after another one, with no instruction in between) plus [`Cpu::idle`].
    pub now: Ticks,
    /// Ticks skipped while halted.
    pub idle: Ticks,
    /// Set by what makes the rest of the running trace, or of a REP instruction, wrong to run: a taken branch
    /// in its middle, a store into decoded code, a port access.
    pub leave: Cell<bool>,
    /// The tick at which the run loop must look up; REP instructions stop there.
    pub deadline: Ticks,
}

impl Default for Cpu {
    fn default() -> Self {
        Self::new()
    }
}

impl Cpu {
    /// A Pentium II after power-on.
    pub fn new() -> Self {
        Self::of(Model::PentiumII)
    }

    /// The processor after power-on (SDM vol. 3, table 9-1).
    pub fn of(model: Model) -> Self {
        let mut cpu = Self {
            regs: [0; 16],
            eip: 0xfff0,
            lazy: LazyFlags::default(),
            system_flags: Eflags::empty(),
            segs: [Segment::real(0); 6],
            cpl: 0,
            user: false,
            stack_mask: 0xffff,
            special: Special::empty(),
            shadow: Shadow::empty(),
            debug_pending: 0,
            activity: Activity::Running,
            mid_string: false,
            string_flags: LazyFlags::default(),
            switched_task: false,
            nmi_blocked: false,
            model,
            features: model.features(),
            cr0: Cr0::RESET,
            cr2: 0,
            cr3: 0,
            cr4: Cr4::empty(),
            pdptes: [0; 4],
            dr: [0, 0, 0, 0, 0, 0, control::DR6_ONES, control::DR7_ONES],
            gdtr: TableReg::default(),
            idtr: TableReg { base: 0, limit: 0xffff },
            ldtr: Segment::system(0, 0, 0xffff, 0x82),
            tr: Segment::system(0, 0, 0xffff, 0x8b),
            msrs: Msrs::reset(),
            fpu: Fpu::new(),
            vmx: model.vmx().map(|caps| Box::new(vmx::Vmx::new(*caps))),
            now: 0,
            idle: 0,
            leave: Cell::new(false),
            deadline: 0,
        };
        cpu.regs[gpr::EDX] = model.signature();
        cpu.segs[SegReg::Cs as usize] = Segment::reset_code();
        cpu
    }

    /// Instructions retired; each iteration of a REP counts as one, and so does an event right after another.
    #[inline(always)]
    pub fn retired(&self) -> u64 {
        self.now - self.idle
    }

    /// The point of the run that the processor is at.
    #[inline]
    pub fn when(&self) -> When {
        When { instructions: self.retired(), ticks: self.now }
    }

    /// A hidden segment part by name.
    #[inline(always)]
    pub fn seg(&self, s: SegReg) -> &Segment {
        &self.segs[s as usize]
    }

    /// The general register `n`, whole.
    #[inline(always)]
    pub fn reg(&self, n: u8) -> u32 {
        self.regs[(n & 15) as usize]
    }

    /// The general register `n` in width `W`; for bytes 4-7 are AH, CH, DH, BH.
    #[inline(always)]
    pub fn get<W: Word>(&self, n: u8) -> W {
        W::get(&self.regs, n)
    }

    /// Sets the general register `n` in width `W`, leaving the rest of it.
    #[inline(always)]
    pub fn set<W: Word>(&mut self, n: u8, value: W) {
        W::set(&mut self.regs, n, value);
    }

    /// EFLAGS, whole.
    pub fn eflags(&self) -> Eflags {
        (self.system_flags - Eflags::ARITHMETIC) | self.lazy.to_flags() | Eflags::FIXED
    }

    /// Sets EFLAGS, whole; bits that do not exist are dropped.
    pub fn set_eflags(&mut self, flags: Eflags) {
        let virtual_interrupts = Eflags::VIF | Eflags::VIP;
        let exist = if self.features.contains(Features::VME) { virtual_interrupts } else { Eflags::empty() };
        let flags = flags & (Eflags::ALL | exist);
        self.lazy = LazyFlags::from_flags(flags);
        self.system_flags = flags - Eflags::ARITHMETIC;
        self.refresh();
    }

    /// The I/O privilege level.
    #[inline(always)]
    pub fn iopl(&self) -> u8 {
        ((self.system_flags.bits() >> 12) & 3) as u8
    }

    /// Protected mode, virtual-8086 mode included.
    #[inline(always)]
    pub fn protected(&self) -> bool {
        self.cr0.contains(Cr0::PE)
    }

    /// Virtual-8086 mode.
    #[inline(always)]
    pub fn v86(&self) -> bool {
        self.system_flags.contains(Eflags::VM)
    }

    /// Protected mode, and not virtual-8086 mode: selectors name descriptors.
    #[inline(always)]
    pub fn selectors(&self) -> bool {
        self.protected() && !self.v86()
    }

    /// CS.D: whether code is 32-bit by default.
    #[inline(always)]
    pub fn code32(&self) -> bool {
        self.segs[SegReg::Cs as usize].big()
    }

    /// The linear address of EIP.
    #[inline(always)]
    pub fn linear_eip(&self) -> u32 {
        self.segs[SegReg::Cs as usize].base.wrapping_add(self.eip)
    }

    /// Sets the privilege level and what follows from it.
    pub fn set_cpl(&mut self, cpl: u8) {
        self.cpl = cpl;
        self.user = cpl == 3;
        self.refresh();
    }

    /// Puts `segment` into `s` and keeps what is derived from SS.
    pub fn set_seg(&mut self, s: SegReg, segment: Segment) {
        self.segs[s as usize] = segment;
        if s == SegReg::Ss {
            self.stack_mask = if segment.big() { !0 } else { 0xffff };
        }
    }

    /// The stack pointer, as wide as SS.B says.
    #[inline(always)]
    pub fn sp(&self) -> u32 {
        self.regs[gpr::ESP] & self.stack_mask
    }

    /// Sets the stack pointer: with a 16-bit stack only SP changes.
    #[inline(always)]
    pub fn set_sp(&mut self, sp: u32) {
        let mask = self.stack_mask;
        self.regs[gpr::ESP] = (self.regs[gpr::ESP] & !mask) | (sp & mask);
    }

    /// Starts a one-instruction shadow.
    pub fn cast_shadow(&mut self, shadow: Shadow) {
        self.shadow |= shadow;
        self.refresh();
    }

    /// Notes DR6 bits of a debug trap, to be raised when the instruction is complete.
    pub fn pend_debug(&mut self, dr6: u32) {
        self.debug_pending |= dr6;
        self.refresh();
    }

    /// Recomputes [`Cpu::special`]. To be called after a change of a shadow, EFLAGS, DR7, CR0 or CPL; the
    /// setters here do so.
    pub fn refresh(&mut self) {
        let mut special = Special::empty();
        special.set(Special::STI_SHADOW, self.shadow.contains(Shadow::STI));
        special.set(Special::SS_SHADOW, self.shadow.contains(Shadow::SS));
        special.set(Special::SINGLE_STEP, self.system_flags.contains(Eflags::TF));
        special.set(Special::RESUME, self.system_flags.contains(Eflags::RF));
        let dr7 = Dr7(self.dr[7]);
        special.set(Special::CODE_BREAK, dr7.any_code());
        special.set(Special::CHECK_DATA, dr7.any_data() || self.checks_alignment());
        special.set(Special::DEBUG_TRAP, self.debug_pending != 0);
        self.special = special;
    }

    /// Whether there is something to look at after each iteration of a repeated string instruction: anything
    /// in [`Cpu::special`] but RF, which lasts for all of them.
    #[inline(always)]
    pub fn steps_iterations(&self) -> bool {
        !(self.special - Special::RESUME).is_empty()
    }

    /// Whether there are execute-disable pages: the processor has them, and IA32_MISC_ENABLE leaves them on.
    pub fn has_nx(&self) -> bool {
        self.features.contains(Features::NX) && self.msrs.misc_enable & control::MISC_XD_DISABLE == 0
    }

    /// Whether the processor is in VMX operation, root or not.
    pub fn in_vmx_operation(&self) -> bool {
        self.vmx.as_ref().is_some_and(|vmx| vmx.operation != vmx::Operation::Off)
    }

    /// Whether page-table entries have an execute-disable bit: IA32_EFER.NXE, with the entries of PAE.
    #[inline]
    pub fn execute_disable(&self) -> bool {
        self.msrs.efer & control::EFER_NXE != 0 && self.cr4.contains(Cr4::PAE)
    }

    /// Whether unaligned data accesses raise #AC now (SDM vol. 3, 6.15, interrupt 17).
    pub fn checks_alignment(&self) -> bool {
        self.user && self.cr0.contains(Cr0::AM) && self.system_flags.contains(Eflags::AC)
    }

    /// Alignment of a data access at `at`, which is to be a multiple of `unit` bytes, a power of two.
    ///
    /// # Errors
    /// #AC if it is not, where that is checked.
    pub fn check_alignment(&self, at: Linear, unit: u32) -> Result<(), Fault> {
        if at.0 & (unit - 1) != 0 && self.checks_alignment() { Err(Fault::AC) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_registers_live_in_the_low_halves() {
        let mut cpu = Cpu::new();
        cpu.regs[gpr::EAX] = 0x1122_3344;
        cpu.set::<u8>(4, 0xaa);
        cpu.set::<u8>(0, 0xbb);
        assert_eq!(cpu.reg(0), 0x1122_aabb);
        assert_eq!(cpu.get::<u8>(4), 0xaa);
        cpu.set::<u16>(0, 0x5566);
        assert_eq!(cpu.reg(0), 0x1122_5566);
    }

    #[test]
    fn eflags_round_trip_through_the_lazy_form() {
        let mut cpu = Cpu::new();
        for bits in 0..0x1000u32 {
            let flags = Eflags::from_bits_truncate(bits);
            cpu.set_eflags(flags);
            assert_eq!(cpu.eflags(), flags | Eflags::FIXED);
        }
    }
}
