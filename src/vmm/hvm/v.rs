//! V, Popek and Goldberg's map from the virtual processor to the real one, under VMX. Nearly all of the guest's
//! state is the processor's own in non-root operation, its privilege level, IF and IOPL among them; control
//! registers differ, and the guest reads its own from the read shadows.
//!
//! | guest's state | in the real processor |
//! |---|---|
//! | CR0 | NE is set. On shadow page tables PE, PG and WP are, too |
//! | CR3 | the guest's; on shadow page tables the root of the shadow |
//! | CR4 | VMXE is set. On shadow page tables PSE, PAE and PGE are clear |
//! | real mode | real mode; without unrestricted guest, virtual-8086 mode with IOPL 0 |
//! | all else | the same |

use super::controls::{GUESTS_CR0, exception_bitmap};
use crate::clock::Ticks;
use crate::cpu::vmx::Field;
use crate::cpu::{Cpu, Cr0, Cr4, Eflags, Features, Model, Msrs, Segment, Shadow};
use crate::decode::SegReg;
use crate::report::Obstacle;
use crate::vmm::invariants;

/// CR0 bits that are the guest's own also on shadow page tables.
const SHADOW_CR0: Cr0 =
    Cr0::TS.union(Cr0::EM).union(Cr0::MP).union(Cr0::AM).union(Cr0::ET).union(Cr0::CD).union(Cr0::NW);
/// CR4 bits of paging.
const PAGING_CR4: Cr4 = Cr4::PSE.union(Cr4::PAE).union(Cr4::PGE);

/// What the machine's processor may have beyond the guest's: controls keep it from the guest. The page attribute
/// table and virtual interrupts are not of this kind. They make bits of page-table entries and of EFLAGS exist, and
/// nothing exits where a guest uses one; so the machine under `hvm` has neither.
const CONTROLLED: Features = Features::NX.union(Features::VMX);

/// How the guest's addresses are translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Translation {
    /// By shadow page tables with this root.
    Shadow(u32),
    /// By the guest's tables and extended ones.
    Nested,
}

/// The map and its inverse, with what they remember of each other.
pub(super) struct V {
    model: Model,
    features: Features,
    translation: Translation,
    /// Virtual-8086 mode stands in for real mode.
    stands_in: bool,
    /// The segment registers as they were composed.
    composed: [Segment; 6],
}

impl V {
    /// The map to a processor of `model`.
    pub(super) fn new(model: Model) -> Self {
        let composed = [Segment::null(0); 6];
        let translation = Translation::Nested;
        let features = model.features() & CONTROLLED;
        Self { model, features, translation, stands_in: false, composed }
    }

    /// Whether virtual-8086 mode stands in for the guest's real mode.
    pub(super) fn stands_in(&self) -> bool {
        self.stands_in
    }

    /// Puts the image of `guest` into `real`, and into the control structure what is no register.
    ///
    /// # Errors
    /// The [`Obstacle`], when there is no image.
    pub(super) fn compose(
        &mut self,
        guest: &Cpu,
        translation: Translation,
        real: &mut Cpu,
    ) -> Result<(), Obstacle> {
        if guest.cr4.contains(Cr4::UMIP) {
            return Err(Obstacle::Umip);
        }
        let shadow = matches!(translation, Translation::Shadow(_));
        let stands_in = shadow && !guest.protected();
        if stands_in && !guest.segs.iter().all(is_plain) {
            return Err(Obstacle::UnrealMode);
        }
        (self.translation, self.stands_in) = (translation, stands_in);
        let vmx = real.vmx.take();
        real.clone_from(guest);
        (real.vmx, real.model, real.features) = (vmx, self.model, self.features);
        self.control_registers(guest, real);
        if stands_in {
            stand_in(real);
        }
        self.composed = real.segs;
        real.refresh();
        self.tell(guest, real);
        Ok(())
    }

    fn control_registers(&self, guest: &Cpu, real: &mut Cpu) {
        real.cr4 |= Cr4::VMXE;
        match self.translation {
            Translation::Nested => real.cr0 |= Cr0::NE,
            Translation::Shadow(root) => {
                real.cr0 = Cr0::PE | Cr0::PG | Cr0::WP | Cr0::NE | (guest.cr0 & SHADOW_CR0);
                real.cr3 = root;
                real.cr4 -= PAGING_CR4;
            }
        }
    }

    /// The read shadows, and the exceptions that exit.
    fn tell(&self, guest: &Cpu, real: &mut Cpu) {
        let Some(vmx) = &mut real.vmx else { return };
        let shadow = self.translation != Translation::Nested;
        let bitmap = exception_bitmap(shadow, guest.cr0.contains(Cr0::NE), self.stands_in);
        vmx.vmcs.set(Field::ExceptionBitmap, bitmap);
        let shadowed = invariants::control_registers_are_shadowed();
        vmx.vmcs.set(Field::Cr0Shadow, if shadowed { guest.cr0 } else { real.cr0 }.bits());
        vmx.vmcs.set(Field::Cr4Shadow, if shadowed { guest.cr4 } else { real.cr4 }.bits());
    }

    /// The other way: what the real processor did becomes the guest's state.
    pub(super) fn decompose(&self, real: &mut Cpu, guest: &mut Cpu) {
        let before = Kept::of(guest);
        // The control structure's data stay where they are.
        let vmx = real.vmx.take();
        guest.clone_from(real);
        real.vmx = vmx;
        (guest.model, guest.features, guest.deadline) = (before.model, before.features, before.deadline);
        guest.cr0 = (before.cr0 - GUESTS_CR0) | (real.cr0 & GUESTS_CR0);
        guest.cr4 = before.cr4;
        if let Translation::Shadow(_) = self.translation {
            (guest.cr3, guest.pdptes) = (before.cr3, before.pdptes);
        }
        if self.stands_in {
            self.back_to_real_mode(real, &before, guest);
        }
        if !invariants::shadows_outlast_exits() {
            guest.shadow = before.shadow;
        }
        guest.refresh();
    }

    /// What virtual-8086 mode did becomes a state of real mode.
    fn back_to_real_mode(&self, real: &Cpu, before: &Kept, guest: &mut Cpu) {
        (guest.msrs, guest.ldtr, guest.tr) = (before.msrs, before.ldtr, before.tr);
        guest.system_flags = (guest.system_flags - Eflags::VM - Eflags::IOPL) | (before.flags & Eflags::IOPL);
        guest.segs = before.segs;
        for (n, s) in SegReg::ALL.into_iter().enumerate() {
            if real.segs[n] != self.composed[n] {
                guest.set_seg(s, before.segs[n].real_reload(real.segs[n].selector.0));
            }
        }
        guest.set_cpl(0);
    }
}

/// What of the guest the real processor may not hold.
struct Kept {
    cr0: Cr0,
    cr3: u32,
    cr4: Cr4,
    pdptes: [u64; 4],
    model: Model,
    features: Features,
    deadline: Ticks,
    shadow: Shadow,
    flags: Eflags,
    segs: [Segment; 6],
    ldtr: Segment,
    tr: Segment,
    msrs: Msrs,
}

impl Kept {
    fn of(guest: &Cpu) -> Self {
        let Cpu { cr0, cr3, cr4, pdptes, model, features, deadline, shadow, .. } = *guest;
        let Cpu { system_flags: flags, segs, ldtr, tr, msrs, .. } = *guest;
        Self { cr0, cr3, cr4, pdptes, model, features, deadline, shadow, flags, segs, ldtr, tr, msrs }
    }
}

/// Whether virtual-8086 mode holds this real-mode segment as it is. Type and DPL count for nothing in either
/// mode.
fn is_plain(s: &Segment) -> bool {
    s.base == u32::from(s.selector.0) << 4 && s.limit == 0xffff && !s.big() && s.usable()
}

/// Makes `real`, a real-mode state on protected-mode control registers, one of virtual-8086 mode in which every
/// sensitive instruction faults: IOPL is 0, no port is granted, SYSENTER has no target.
fn stand_in(real: &mut Cpu) {
    for s in SegReg::ALL {
        let selector = real.seg(s).selector.0;
        real.set_seg(s, Segment::v86(selector));
    }
    real.system_flags = (real.system_flags - Eflags::IOPL) | Eflags::VM;
    // Virtual-8086 mode runs at CPL 3, where alignment is checked; real mode does not.
    real.cr0 -= Cr0::AM;
    real.tr = Segment::system(0, 0, 0, 0x8b);
    real.ldtr = Segment::null(0);
    (real.msrs.sysenter_cs, real.msrs.sysenter_esp, real.msrs.sysenter_eip) = (0, 0, 0);
    real.set_cpl(3);
}
