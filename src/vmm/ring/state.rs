//! What ring compression keeps: the virtual and the real processor, the shadow page tables and descriptors,
//! and what was counted.

use crate::addr::{Linear, MachineAddr};
use crate::bus::Ticks;
use crate::cell::Cell;
use crate::cpu::{Cpu, Fault};
use crate::interp::{self, Interp, Stop};
use crate::machine::World;
use crate::report::{Audit, Cause};
use crate::translate::RuleId;
use crate::vmm::audit::{self, Before};
use crate::vmm::descriptors::Descriptors;
use crate::vmm::insn::FaultingInsns;
use crate::vmm::ledger::Ledger;
use crate::vmm::memory::ShadowMmu;
use crate::vmm::place::Place;
use crate::vmm::vcpu::V;

/// How a run ends at a boundary that an observer asked for.
const BOUNDARY: Stop = Stop::Exit(interp::Exit::Boundary);

/// The mechanism of ring compression. Who runs the guest's code on it is an [`super::Execution`].
pub(in crate::vmm) struct RingCompression {
    pub(in crate::vmm) cell: Cell,
    /// The shadow MMU.
    pub(in crate::vmm) mmu: ShadowMmu,
    /// The real descriptor tables.
    pub(in crate::vmm) descriptors: Descriptors,
    /// What was counted.
    pub(in crate::vmm) ledger: Ledger,
    /// Looks whether the guest reaches state of the monitor's, if that was asked for.
    pub(in crate::vmm) audit: Option<Audit>,
    pub(in crate::vmm) v: V,
    pub(in crate::vmm) real: Cpu,
    /// Runs the real processor.
    pub(super) direct: Interp<World>,
    /// Runs the virtual processor, an instruction at a time.
    pub(super) emulator: Interp<World>,
    /// The instructions that faulted last, decoded.
    pub(super) faulting: FaultingInsns,
    pub(super) map_epoch: Option<u32>,
    /// Returns at each exit, and at the end of each unit of translated code.
    pub(super) by_boundary: bool,
    /// The guest's time at the last boundary.
    pub(super) looked_up: Ticks,
    /// RF as the real processor left it at its last fault.
    pub(super) resume_left: bool,
    /// The instruction that was emulated last wrote to a traced frame, and the traces have not been taken
    /// yet.
    pub(super) wrote: bool,
    pub(super) cut_short: Option<CutShort>,
    /// The guest's time and linear EIP where a deadline last stopped direct execution: going on from there is
    /// no new entry.
    pub(super) paused: Option<(Ticks, u32)>,
    /// What the guest left its code for, to be handled once the boundary has been seen.
    pub(super) owed: Option<Owed>,
    /// The exit that was emulated since the execution was last told, by the place of its instruction.
    pub(super) emulated: Option<Emulated>,
    /// The adapted access that ran since the execution was last told, and whether it met a trace or a chip.
    pub(super) adapted: Option<(Linear, bool)>,
}

/// A reason to leave the guest's code that was found at a boundary: what ran before it is to be seen before
/// it is handled.
pub(super) struct Owed {
    now: Ticks,
    linear: u32,
    what: Reaction,
}

/// What is done about a reason to leave the guest's code.
#[derive(Clone, Copy)]
pub(in crate::vmm) enum Reaction {
    /// Handle a fault of the real processor, which left RF so.
    Fault { fault: Fault, resume_left: bool },
    /// Call out, by this rule.
    Callout(RuleId),
}

/// An exit that was emulated.
pub(in crate::vmm) struct Emulated {
    pub(in crate::vmm) at: Linear,
    pub(in crate::vmm) cause: Cause,
    /// The guest's code could have run directly there.
    pub(in crate::vmm) safe: bool,
}

/// A repeated string instruction whose emulation the deadline cut short. Its rest is no new exit or callout:
/// how a run is cut must not show.
pub(in crate::vmm) struct CutShort {
    pub(super) eip: u32,
    /// If it is an access that was adapted: where it is, and whether it met anything so far.
    pub(super) adapted: Option<(Linear, bool)>,
}

impl RingCompression {
    /// Ring compression with these tables, about to run a guest for the first time.
    pub(in crate::vmm) fn new(cell: Cell, mmu: ShadowMmu, descriptors: Descriptors, audit: bool) -> Self {
        Self {
            cell,
            mmu,
            descriptors,
            ledger: Ledger::default(),
            audit: audit.then(Audit::default),
            v: V::default(),
            real: Cpu::new(),
            direct: Interp::default(),
            emulator: Interp::default(),
            faulting: FaultingInsns::default(),
            map_epoch: None,
            by_boundary: false,
            looked_up: 0,
            resume_left: false,
            wrote: false,
            cut_short: None,
            paused: None,
            owed: None,
            emulated: None,
            adapted: None,
        }
    }

    pub(in crate::vmm) fn count(&mut self, world: &mut World, cause: Cause, at: Place) {
        self.ledger.count(world, cause, at);
    }

    /// Whether an instruction ran, or an event was delivered, since the last boundary, and an observer is to
    /// see that first.
    pub(in crate::vmm) fn owes_boundary(&self, guest: &Cpu) -> bool {
        self.by_boundary && guest.now != self.looked_up
    }

    /// Ends the run at a boundary.
    pub(in crate::vmm) fn look_up(&mut self, guest: &Cpu) -> Stop {
        self.looked_up = guest.now;
        BOUNDARY
    }

    /// Ends the run at a boundary; the guest left its code for `what`, which is done when the run goes on.
    pub(in crate::vmm) fn look_up_first(&mut self, guest: &Cpu, what: Reaction) -> Stop {
        self.owed = Some(Owed { now: guest.now, linear: guest.linear_eip(), what });
        self.look_up(guest)
    }

    /// What is still to be done before the guest goes on, unless something else happened meanwhile.
    pub(super) fn take_owed(&mut self, guest: &Cpu) -> Option<Reaction> {
        let owed = self.owed.take()?;
        ((owed.now, owed.linear) == (guest.now, guest.linear_eip())).then_some(owed.what)
    }

    /// The monitor's own machine frames: its tables, which the guest must not change.
    pub(in crate::vmm) fn own_frames(&self) -> impl Iterator<Item = MachineAddr> + '_ {
        self.descriptors.frames().iter().copied().chain(self.mmu.table_frames())
    }

    /// Notes, before the guest runs, what is the monitor's, if the run is audited.
    pub(in crate::vmm) fn audit_before(&mut self, world: &World) -> Option<Before> {
        let mut audit = self.audit.take()?;
        let before =
            audit::before(&mut audit, &self.real, || audit::digest(&world.map.ram, self.own_frames()));
        self.audit = Some(audit);
        Some(before)
    }

    /// Compares with what was noted, after the guest stopped.
    pub(in crate::vmm) fn audit_after(&mut self, world: &World, before: Option<&Before>) {
        let Some(before) = before else { return };
        let Some(mut audit) = self.audit.take() else { return };
        audit::after(&mut audit, before, &self.real, || audit::digest(&world.map.ram, self.own_frames()));
        self.audit = Some(audit);
    }
}
