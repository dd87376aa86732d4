//! V, Popek and Goldberg's map from the virtual processor to the real one, and its inverse: what of the
//! guest's state the real processor holds as it is, what it holds changed, and what it does not hold at all.
//!
//! | guest's state | in the real processor |
//! |---|---|
//! | general registers, EIP, x87, arithmetic flags, DF, TF, NT, RF, AC, ID | the same |
//! | CPL 0 | CPL 1; a selector in CS or SS with RPL 0 shows RPL 1 |
//! | real mode | virtual-8086 mode |
//! | IF, IOPL | IF 1, IOPL 0: the guest's are virtual |
//! | segments | the same base, DPL 0 shown as 1, truncated below the monitor |
//! | CR0.TS, EM, MP, AM; CR4 but for paging; DR0-DR7; time-stamp counter | the same |
//! | the rest of CR0, CR2, CR3, GDTR, IDTR, LDTR, TR, SYSENTER's registers | the monitor's |
//!
//! A segment register may hold a descriptor that its table does not have any more, which Bugnion et al. call
//! non-reversible (TOCS 2012, 4.2). It is loaded through a *borrowed* slot: the shadow table has the old
//! descriptor in the selector's place while the register is loaded, and the present one before the guest
//! runs.
//!
//! Not every state has an image: what no descriptor could put into the real processor's segment registers has
//! none ([`Obstacle`]), and the monitor interprets until there is one again.

use super::descriptors::Descriptors;
use super::invariants;
use super::layout;
use super::shadow_descriptor::{self, Ring};
use crate::addr::MachineAddr;
use crate::cpu::fpu::LastInsn;
use crate::cpu::segment::attr;
use crate::cpu::{Cpu, Cr0, Cr4, Eflags, Segment, Selector, TableReg};
use crate::decode::SegReg;
use crate::report::Obstacle;

/// The guest's mode, as far as the map is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Real mode.
    Real,
    /// The guest's own virtual-8086 mode.
    V86,
    /// Protected mode, CPL 0.
    Kernel,
    /// Protected mode, CPL 3.
    User,
}

impl Mode {
    /// The mode of `cpu`; `None` in rings 1 and 2.
    pub fn of(cpu: &Cpu) -> Option<Self> {
        if !cpu.protected() {
            return Some(Self::Real);
        }
        if cpu.v86() {
            return Some(Self::V86);
        }
        match cpu.cpl {
            0 => Some(Self::Kernel),
            3 => Some(Self::User),
            _ => None,
        }
    }

    /// The ring whose code descriptors can be loaded unseen.
    pub fn ring(self) -> Ring {
        if self == Self::Kernel { Ring::Kernel } else { Ring::User }
    }

    /// Whether the guest runs user code, at CPL 3 or in virtual-8086 mode.
    pub fn is_users(self) -> bool {
        matches!(self, Self::V86 | Self::User)
    }

    /// Whether selectors name descriptors.
    pub(super) fn selectors(self) -> bool {
        matches!(self, Self::Kernel | Self::User)
    }
}

/// EFLAGS bits that are virtual.
const VIRTUAL: Eflags = Eflags::IF.union(Eflags::IOPL);
/// CR0 bits that are passed on.
const PASSED_CR0: Cr0 = Cr0::TS.union(Cr0::EM).union(Cr0::MP).union(Cr0::AM).union(Cr0::ET);
/// CR4 bits that are passed on.
const PASSED_CR4: Cr4 = Cr4::TSD.union(Cr4::DE).union(Cr4::PCE).union(Cr4::OSFXSR);

/// A selector of CS or SS in ring 0, in ring 1.
fn lowered(selector: Selector) -> u16 {
    if selector.rpl() == 0 && !selector.is_null() { selector.0 | 1 } else { selector.0 }
}

/// The inverse.
fn raised(selector: u16) -> u16 {
    if selector & 3 == 1 { selector & !3 } else { selector }
}

/// Whether virtual-8086 mode holds this real-mode segment as it is. Type and DPL count for nothing in either
/// mode.
fn is_plain(s: &Segment) -> bool {
    s.base == u32::from(s.selector.0) << 4 && s.limit == 0xffff && !s.big() && s.usable()
}

/// The map and its inverse, with what they remember of each other.
pub struct V {
    /// The segment registers as they were composed.
    composed: [Segment; 6],
    /// The guest's, as they were then.
    guest: [Segment; 6],
    /// The version of the guest's tables that these were found in.
    checked: Option<u64>,
    mode: Mode,
}

impl Default for V {
    fn default() -> Self {
        let none = [Segment::null(0); 6];
        Self { composed: none, guest: none, checked: None, mode: Mode::Real }
    }
}

impl V {
    /// The mode that was composed last.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Puts the image of `guest` into `real`; `root` is the page directory that the real CR3 shall name.
    ///
    /// # Errors
    /// The [`Obstacle`], when there is no image.
    pub fn compose(
        &mut self,
        guest: &Cpu,
        tables: &Descriptors,
        root: MachineAddr,
        real: &mut Cpu,
    ) -> Result<(), Obstacle> {
        let mode = self.check(guest, tables)?;
        self.mode = mode;
        real.clone_from(guest);
        for (n, s) in SegReg::ALL.into_iter().enumerate() {
            real.set_seg(s, self.composed[n]);
        }
        let v86 = matches!(mode, Mode::Real | Mode::V86);
        let flags = invariants::real_flags(guest, (guest.system_flags - VIRTUAL) | Eflags::IF);
        real.system_flags = if v86 { flags | Eflags::VM } else { flags - Eflags::VM };
        real.cr0 = Cr0::PE | Cr0::PG | Cr0::WP | Cr0::NE | (guest.cr0 & PASSED_CR0);
        if mode == Mode::Real {
            // Virtual-8086 mode runs at CPL 3, where alignment is checked; real mode does not.
            real.cr0 -= Cr0::AM;
        }
        real.cr3 = root.0;
        real.cr4 = guest.cr4 & PASSED_CR4;
        real.gdtr = TableReg { base: layout::GDT.0, limit: 0xffff };
        real.idtr = TableReg { base: layout::IDT.0, limit: 0x7ff };
        real.ldtr = if guest.ldtr.usable() && !guest.ldtr.selector.is_null() {
            Segment::system(layout::LDT_SELECTOR, layout::LDT.0, 0xffff, 0x82)
        } else {
            Segment::null(0)
        };
        real.tr = Segment::system(layout::TSS_SELECTOR, layout::TSS.0, layout::TSS_LIMIT, 0x8b);
        (real.msrs.sysenter_cs, real.msrs.sysenter_esp, real.msrs.sysenter_eip) = (0, 0, 0);
        if mode.selectors() {
            real.fpu.last.fcs = lowered(Selector(guest.fpu.last.fcs));
        }
        // State that is derived from CPL and flags, too.
        real.set_cpl(if mode == Mode::Kernel { 1 } else { 3 });
        Ok(())
    }

    /// The other way: what the real processor did becomes the guest's state.
    pub fn decompose(&self, real: &Cpu, tables: &Descriptors, guest: &mut Cpu) {
        guest.regs = real.regs;
        guest.eip = real.eip;
        guest.lazy = real.lazy;
        let kept = invariants::kept_flags(guest.system_flags & (VIRTUAL | Eflags::VM));
        guest.system_flags = (real.system_flags - VIRTUAL - Eflags::VM) | kept;
        for (n, s) in SegReg::ALL.into_iter().enumerate() {
            if real.segs[n] != self.composed[n] {
                let segment = self.loaded(guest, tables, s, real.seg(s));
                guest.set_seg(s, segment);
            }
        }
        if invariants::shadows_outlast_exits() {
            guest.shadow = real.shadow;
        }
        guest.debug_pending = real.debug_pending;
        guest.mid_string = real.mid_string;
        guest.string_flags = real.string_flags;
        guest.now = real.now;
        let before = guest.fpu.last;
        guest.fpu.clone_from(&real.fpu);
        if self.mode.selectors() {
            guest.fpu.last = last_insn(real.fpu.last, before, &real.segs);
            guest.set_cpl(if real.cpl == 1 { 0 } else { real.cpl });
        } else {
            guest.refresh();
        }
    }

    /// The image of the guest's `s`, as it was composed or loaded last.
    pub(super) fn image(&self, s: SegReg) -> Segment {
        self.composed[s as usize]
    }

    /// The real processor has loaded `s` with the guest's segment by itself: both processors get what is
    /// theirs. Returns whether there is an image; else the real one keeps the guest's, and must not run.
    pub fn load(&mut self, s: SegReg, tables: &Descriptors, real: &mut Cpu, guest: &mut Cpu) -> bool {
        let segment = *real.seg(s);
        if self.mode.selectors() && invariants::x87_selectors_are_kept() {
            // x87 may have noted the selector that goes: it is the guest's as long as it is known to be.
            guest.fpu.last = last_insn(real.fpu.last, guest.fpu.last, &self.composed);
            real.fpu.last = LastInsn { fcs: lowered(Selector(guest.fpu.last.fcs)), ..guest.fpu.last };
        }
        guest.set_seg(s, segment);
        self.guest[s as usize] = segment;
        let image = image(self.mode, s, &segment, tables);
        match image {
            Ok(image) if invariants::loads_are_truncated() => real.set_seg(s, image),
            Ok(_) => {}
            Err(_) => self.checked = None,
        }
        self.composed[s as usize] = *real.seg(s);
        image.is_ok()
    }

    /// The guest's segment register for one that the real processor has loaded by itself.
    fn loaded(&self, guest: &Cpu, tables: &Descriptors, s: SegReg, real: &Segment) -> Segment {
        match self.mode {
            Mode::Real => guest.seg(s).real_reload(real.selector.0),
            Mode::V86 => *real,
            Mode::Kernel | Mode::User => {
                let selector = match s {
                    SegReg::Cs | SegReg::Ss if invariants::selectors_show_the_virtual_ring() => {
                        raised(real.selector.0)
                    }
                    _ => real.selector.0,
                };
                match tables.guest(real.selector) {
                    Some(d) if real.usable() => d.load(selector),
                    _ => Segment::null(selector),
                }
            }
        }
    }

    /// Finds the image of each segment register. What was found holds until a segment register or a table
    /// changes.
    fn check(&mut self, guest: &Cpu, tables: &Descriptors) -> Result<Mode, Obstacle> {
        let mode = Mode::of(guest).ok_or(Obstacle::MiddleRing)?;
        let same = self.checked == Some(tables.version()) && self.mode == mode && self.guest == guest.segs;
        if same {
            return Ok(mode);
        }
        self.checked = None;
        for (n, s) in SegReg::ALL.into_iter().enumerate() {
            self.composed[n] = image(mode, s, guest.seg(s), tables)?;
        }
        self.guest = guest.segs;
        self.checked = Some(tables.version());
        Ok(mode)
    }
}

/// Where the guest's last x87 instruction was, from what the real processor, with the segment registers
/// `segs`, noted: selectors have the guest's RPL again. It was `before` when that was last known.
fn last_insn(last: LastInsn, before: LastInsn, segs: &[Segment; 6]) -> LastInsn {
    if last == (LastInsn { fcs: lowered(Selector(before.fcs)), ..before }) {
        return before;
    }
    let theirs = |selector: u16, s: SegReg| {
        if selector == segs[s as usize].selector.0 { raised(selector) } else { selector }
    };
    LastInsn { fcs: theirs(last.fcs, SegReg::Cs), fds: theirs(last.fds, SegReg::Ss), ..last }
}

/// The image of one segment register.
fn image(mode: Mode, s: SegReg, segment: &Segment, tables: &Descriptors) -> Result<Segment, Obstacle> {
    if !mode.selectors() {
        let plain = is_plain(segment) && (mode == Mode::Real || *segment == Segment::v86(segment.selector.0));
        return if plain { Ok(Segment::v86(segment.selector.0)) } else { Err(Obstacle::UnrealMode) };
    }
    if segment.selector.is_null() || !segment.usable() {
        let null = *segment == Segment::null(segment.selector.0) && segment.selector.is_null();
        return if null { Ok(*segment) } else { Err(Obstacle::Unloadable) };
    }
    let found = tables.guest(segment.selector).map(|d| d.load(segment.selector.0));
    if found != Some(*segment) && !can_borrow(mode, s, segment) {
        return Err(Obstacle::Unloadable);
    }
    let selector = match s {
        SegReg::Cs | SegReg::Ss => lowered(segment.selector),
        _ => segment.selector.0,
    };
    shadow_descriptor::segment(segment, selector).ok_or(Obstacle::MonitorsRegion)
}

/// Whether the real processor can load this register from a slot that has its descriptor for a moment.
fn can_borrow(mode: Mode, s: SegReg, segment: &Segment) -> bool {
    let cpl = if mode == Mode::Kernel { 0 } else { 3 };
    let code = segment.attr & attr::CODE != 0;
    let conforming = code && segment.attr & attr::DC != 0;
    let free = segment.selector.local() || segment.selector.0 < layout::LDT_SELECTOR;
    free && segment.attr & attr::USER != 0
        && match s {
            SegReg::Cs => code && (conforming || segment.dpl() == cpl) && segment.selector.rpl() == cpl,
            SegReg::Ss => segment.writable() && segment.dpl() == cpl && segment.selector.rpl() == cpl,
            _ => segment.readable() && (conforming || segment.dpl() >= cpl.max(segment.selector.rpl())),
        }
}
