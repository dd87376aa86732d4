//! A monitor by ring compression: the loop that enters the guest and handles why it stopped.

use super::execution::Execution;
use super::state::{Reaction, RingCompression};
use crate::bus::Ticks;
use crate::cell::Cell;
use crate::classify::verdict;
use crate::cpu::{Cpu, Eflags};
use crate::interp::{CodeEnv, Stop};
use crate::machine::{Image, Monitor, ProcessorView, ShadowView, TranslationView, World};
use crate::report::{Cause, Counts, Exit, Exits, Obstacle, Report, ShadowFigures};
use crate::vmm::place::place;
use crate::vmm::vcpu::V;

/// Ring compression, and who runs the guest's code on it.
pub(in crate::vmm) struct RingMonitor<E> {
    ring: RingCompression,
    execution: E,
}

impl<E: Execution> RingMonitor<E> {
    /// A monitor of these two.
    pub(in crate::vmm) fn new(ring: RingCompression, execution: E) -> Self {
        Self { ring, execution }
    }

    /// Goes on with what was cut short, opens an interrupt window, or runs the guest's image, or the next
    /// instruction if there is none.
    fn advance(&mut self, guest: &mut Cpu, world: &mut World, until: Ticks) -> Option<Stop> {
        let Self { ring, execution } = self;
        match ring.take_cut_short(guest) {
            Ok(cut) => return ring.go_on(guest, world, &cut),
            Err(Some((at, met))) => execution.called_out(at, met),
            Err(None) => {}
        }
        if window_opens(guest, world) {
            return ring.emulate(guest, world, Cause::InterruptWindow);
        }
        match ring.compose(guest, world) {
            Ok(()) => {
                if ring.v.mode().is_users() {
                    execution.conceal(guest, &mut ring.real);
                }
                execution.run(ring, guest, world, until)
            }
            Err(why) => ring.interpret(guest, world, why),
        }
    }

    /// Does what the guest left its code for. `None`: the guest can go on.
    fn react(&mut self, guest: &mut Cpu, world: &mut World, what: Reaction) -> Option<Stop> {
        match what {
            Reaction::Fault { fault, resume_left } => {
                self.ring.handle_fault(guest, world, fault, resume_left)
            }
            Reaction::Callout(rule) => self.execution.call_out(&mut self.ring, guest, world, rule),
        }
    }

    /// Tells the execution which accesses left it since the last call, and which adapted ones ran.
    fn tell_execution(&mut self) {
        if let Some(exit) = self.ring.emulated.take()
            && !exit.safe
        {
            self.execution.exited(exit.at, exit.cause);
        }
        if let Some((at, met)) = self.ring.adapted.take() {
            self.execution.called_out(at, met);
        }
    }
}

/// Whether an interrupt waits that only a one-instruction shadow holds off.
fn window_opens(guest: &Cpu, world: &World) -> bool {
    world.interrupt_requested() && guest.system_flags.contains(Eflags::IF)
}

impl<E: Execution> ProcessorView for RingMonitor<E> {
    fn real(&self) -> &Cpu {
        &self.ring.real
    }

    fn image(&self, guest: &Cpu) -> Result<Image, Obstacle> {
        let root = self.ring.mmu.directory().ok_or(Obstacle::NoShadow)?;
        let (mut v, mut real) = (V::default(), Cpu::new());
        v.compose(guest, &self.ring.descriptors, root, &mut real)?;
        if v.mode().is_users() {
            self.execution.conceal(guest, &mut real);
        }
        let mut back = guest.clone();
        v.decompose(&real, &self.ring.descriptors, &mut back);
        Ok(Image { real, guest: back })
    }
}

impl<E: Execution> Monitor for RingMonitor<E> {
    fn cell(&self) -> Cell {
        self.ring.cell
    }

    fn report(&self) -> Report {
        Report {
            cell: self.ring.cell,
            counts: self.ring.ledger.counts.clone(),
            exits: self.ring.ledger.exits.clone(),
            shadow: Some(ShadowFigures {
                counts: self.ring.mmu.counts().clone(),
                most_tables: self.ring.mmu.most_tables(),
            }),
            nested: None,
            translation: self.execution.figures(),
            audit: self.ring.audit.clone(),
        }
    }

    fn counts(&self) -> &Counts {
        &self.ring.ledger.counts
    }

    fn exits(&self) -> &Exits {
        &self.ring.ledger.exits
    }

    fn log_exits(&mut self, on: bool) {
        self.ring.ledger.keep_log(on);
    }

    fn take_log(&mut self) -> Vec<Exit> {
        self.ring.ledger.take_log()
    }

    fn run(&mut self, guest: &mut Cpu, world: &mut World, until: Ticks) -> Stop {
        // An observer sees nothing in the midst of code that runs directly, and there it goes wrong and
        // heals.
        let alone = self.ring.by_boundary && !self.execution.has_units();
        let until = if alone { until.min(guest.now + 1) } else { until };
        guest.deadline = until;
        loop {
            if let Some(stop) = self.ring.emulator.boundary(guest, world) {
                return stop;
            }
            let stop = match self.ring.take_owed(guest) {
                Some(what) => self.react(guest, world, what),
                None => {
                    self.ring.sync(guest, world);
                    self.advance(guest, world, until)
                }
            };
            self.tell_execution();
            if let Some(stop) = stop {
                return stop;
            }
            if self.ring.by_boundary {
                return self.ring.look_up(guest);
            }
        }
    }

    fn stop_at_boundaries(&mut self, on: bool) {
        self.ring.by_boundary = on;
        self.execution.stop_at_units(on);
    }

    fn stop_before_sensitive(&mut self, on: bool) {
        self.ring.direct.stop_before(|insn| verdict(insn).escapes(), on);
    }

    fn interrupted(&mut self, guest: &Cpu, world: &mut World) {
        self.ring.count(world, Cause::ExternalInterrupt, place(guest));
    }

    fn follow(&mut self, guest: &Cpu, world: &mut World) {
        self.ring.sync(guest, world);
        self.ring.mmu.drop_stale(world);
    }

    fn forget(&mut self, _: &mut World) {
        self.ring.map_epoch = None;
        (self.ring.cut_short, self.ring.paused, self.ring.owed) = (None, None, None);
    }

    fn processor(&self) -> Option<&dyn ProcessorView> {
        Some(self)
    }

    fn shadow(&self) -> Option<&dyn ShadowView> {
        Some(&self.ring.mmu)
    }

    fn shadow_mut(&mut self) -> Option<&mut dyn ShadowView> {
        Some(&mut self.ring.mmu)
    }

    fn translation(&self) -> Option<&dyn TranslationView> {
        self.execution.view()
    }

    fn translation_mut(&mut self) -> Option<&mut dyn TranslationView> {
        self.execution.view_mut()
    }
}
