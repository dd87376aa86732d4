//! The monitor: the loop that enters the guest and handles why it was left.

use super::entry::Left;
use super::state::Hvm;
use crate::bus::Ticks;
use crate::cell::Cell;
use crate::cpu::vmx::Reason;
use crate::cpu::{Cpu, Fault, Vector};
use crate::interp::{self, Stop};
use crate::machine::{Image, Monitor, NestedView, ProcessorView, ShadowView, World};
use crate::report::{Counts, Exit, Exits, Obstacle, Report};
use crate::vmm::hvm::v::V;

/// How a run ends at a boundary that an observer asked for.
const BOUNDARY: Stop = Stop::Exit(interp::Exit::Boundary);

/// A hypervisor.
pub(in crate::vmm) struct HvmMonitor(Hvm);

impl HvmMonitor {
    /// The monitor that `hvm` is.
    pub(in crate::vmm) fn new(hvm: Hvm) -> Self {
        Self(hvm)
    }

    /// Goes on with what was cut short, or runs the guest, or the next instruction if its state has no image.
    fn advance(&mut self, guest: &mut Cpu, world: &mut World, until: Ticks) -> Option<Stop> {
        let hvm = &mut self.0;
        if let Some(eip) = hvm.cut_short.take()
            && guest.mid_string
            && eip == guest.eip
        {
            return hvm.run_virtually(guest, world);
        }
        match hvm.run_guest(guest, world, until) {
            Ok(Left::Exit(exit, resumed)) => hvm.exited(guest, world, exit, resumed),
            Ok(Left::Inside(Stop::Fault(fault))) => self.own_fault(guest, world, fault),
            Ok(Left::Inside(Stop::Budget)) => Some(Stop::Budget),
            Ok(Left::Inside(Stop::Exit(_))) => None,
            Err(why) => hvm.interpret(guest, world, why),
        }
    }

    /// Enters the guest again and again, until something is the machine's to do.
    fn run_to_stop(&mut self, guest: &mut Cpu, world: &mut World, until: Ticks) -> Stop {
        loop {
            if let Some(stop) = self.0.emulator.boundary(guest, world) {
                return stop;
            }
            self.0.sync(guest, world);
            if let Some(stop) = self.advance(guest, world, until) {
                return stop;
            }
            if self.0.by_boundary {
                return BOUNDARY;
            }
        }
    }

    /// An exception of the guest's own, which goes to the guest's handler with no exit. The real processor finds
    /// the page faults of an instruction with several writes before the first of them; the virtual one leaves
    /// what the bare machine leaves.
    fn own_fault(&mut self, guest: &mut Cpu, world: &mut World, fault: Fault) -> Option<Stop> {
        if fault.is(Vector::Pf) && self.0.faulting.writes_before_faults(guest, world) {
            return self.0.run_virtually(guest, world);
        }
        Some(Stop::Fault(fault))
    }
}

impl ProcessorView for HvmMonitor {
    fn real(&self) -> &Cpu {
        &self.0.real
    }

    fn image(&self, guest: &Cpu) -> Result<Image, Obstacle> {
        let translation = self.0.paging.translation()?;
        let (mut v, mut real) = (V::new(self.0.real.model), Cpu::of(self.0.real.model));
        v.compose(guest, translation, &mut real)?;
        let mut back = guest.clone();
        v.decompose(&mut real, &mut back);
        Ok(Image { real, guest: back })
    }
}

impl Monitor for HvmMonitor {
    fn cell(&self) -> Cell {
        self.0.cell
    }

    fn report(&self) -> Report {
        let (shadow, nested) = self.0.paging.figures(self.0.walks);
        Report {
            cell: self.0.cell,
            counts: self.0.ledger.counts.clone(),
            exits: self.0.ledger.exits.clone(),
            shadow,
            nested,
            translation: None,
            audit: None,
        }
    }

    fn counts(&self) -> &Counts {
        &self.0.ledger.counts
    }

    fn exits(&self) -> &Exits {
        &self.0.ledger.exits
    }

    fn log_exits(&mut self, on: bool) {
        self.0.ledger.keep_log(on);
    }

    fn take_log(&mut self) -> Vec<Exit> {
        self.0.ledger.take_log()
    }

    fn run(&mut self, guest: &mut Cpu, world: &mut World, until: Ticks) -> Stop {
        let until = if self.0.by_boundary { until.min(guest.now + 1) } else { until };
        guest.deadline = until;
        let stop = self.run_to_stop(guest, world, until);
        self.0.walks = world.nested;
        stop
    }

    fn stop_at_boundaries(&mut self, on: bool) {
        self.0.by_boundary = on;
    }

    fn interrupted(&mut self, guest: &Cpu, world: &mut World) {
        if self.0.inside {
            self.0.leave_for(guest, world, Reason::ExternalInterrupt);
        }
    }

    fn follow(&mut self, guest: &Cpu, world: &mut World) {
        self.0.sync(guest, world);
        self.0.paging.drop_stale(world);
    }

    fn forget(&mut self, _: &mut World) {
        self.0.map_epoch = None;
        (self.0.cut_short, self.0.inside) = (None, false);
    }

    fn processor(&self) -> Option<&dyn ProcessorView> {
        Some(self)
    }

    fn shadow(&self) -> Option<&dyn ShadowView> {
        self.0.paging.shadow().map(|mmu| mmu as &dyn ShadowView)
    }

    fn nested(&self) -> Option<&dyn NestedView> {
        self.0.paging.nested().map(|mmu| mmu as &dyn NestedView)
    }

    fn shadow_mut(&mut self) -> Option<&mut dyn ShadowView> {
        self.0.paging.shadow_mut().map(|mmu| mmu as &mut dyn ShadowView)
    }
}
