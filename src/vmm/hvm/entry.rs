//! Entering the guest, running it in non-root operation, and leaving it.

use super::state::Hvm;
use crate::bus::Ticks;
use crate::cpu::vmx::{Controls, Exit, Operation, Reason};
use crate::cpu::{Cpu, Cr0, Eflags, Special};
use crate::exec::event::Event;
use crate::exec::vmx::entry::{self, Entered};
use crate::exec::vmx::{self, leave, state};
use crate::interp::{CodeEnv, Stop};
use crate::machine::World;
use crate::report::{Cause, Obstacle};
use crate::vmm::place::place;
use crate::vmm::{integrity, invariants};

/// Why the guest stopped.
pub(super) enum Left {
    /// A VM exit, and whether the instruction had begun with RF set.
    Exit(Exit, bool),
    /// Something that causes no exit: a deadline, an exception of the guest's own.
    Inside(Stop),
}

impl Hvm {
    /// Runs the guest in non-root operation until something stops it.
    ///
    /// # Errors
    /// The [`Obstacle`], when its state has no image or an entry refuses it; nothing has run then.
    pub(super) fn run_guest(
        &mut self,
        guest: &mut Cpu,
        world: &mut World,
        until: Ticks,
    ) -> Result<Left, Obstacle> {
        self.compose(guest, world)?;
        self.paging.drop_stale(world);
        let window = self.watches_window();
        let sealed = integrity::take(&world.map.ram, || self.own_frames());
        world.enter_machine();
        let entered = if self.inside {
            self.resume();
            Ok(())
        } else {
            self.enter(world)
        };
        let left = entered.map(|()| {
            let start = self.real.now;
            world.watch_interrupt_window(window);
            let stop = self.direct.run(&mut self.real, world, until);
            world.watch_interrupt_window(false);
            self.ledger.counts.direct += self.real.now - start;
            self.leave(world, stop, window)
        });
        world.leave_machine();
        integrity::check(sealed, &world.map.ram, || self.own_frames());
        let left = left?;
        self.v.decompose(&mut self.real, guest);
        Ok(left)
    }

    /// Composes the real processor's state. What the processor would have left the guest for since it last ran
    /// is counted: an interrupt that came and cannot be taken yet, and a task switch through a gate.
    fn compose(&mut self, guest: &Cpu, world: &mut World) -> Result<(), Obstacle> {
        if world.board.numeric_error_waits() && !guest.cr0.contains(Cr0::NE) {
            return Err(Obstacle::X87Error);
        }
        let translation = self.paging.translation()?;
        let waits = world.interrupt_requested();
        if self.inside && !self.v.stands_in() && guest.tr != self.real.tr {
            self.leave_for(guest, world, Reason::TaskSwitch);
        }
        if self.inside && waits && !self.watches_window() && invariants::windows_are_seen() {
            self.leave_for(guest, world, Reason::ExternalInterrupt);
        }
        if !self.inside {
            self.watch_window(waits && invariants::windows_are_seen());
        }
        self.v.compose(guest, translation, &mut self.real)
    }

    /// Counts an exit that the machine stands for: an interrupt, a task switch.
    pub(super) fn leave_for(&mut self, guest: &Cpu, world: &mut World, reason: Reason) {
        self.inside = false;
        self.ledger.count(world, Cause::Vmx(reason), place(guest));
    }

    /// The VM entry, with all of the processor's checks.
    fn enter(&mut self, world: &mut World) -> Result<(), Obstacle> {
        let real = &mut self.real;
        let (activity, pending) = (real.activity, real.debug_pending);
        if let Some(vmx) = &mut real.vmx {
            vmx.controls = Controls::of(&vmx.vmcs);
        }
        let flags = real.eflags();
        state::save_guest(real, flags, true);
        let entered = entry::enter(real, world);
        if entered != Ok(Entered::Guest) {
            return Err(Obstacle::EntryCheck);
        }
        // The trap of a task's T bit has no place in the control structure.
        (real.activity, real.debug_pending) = (activity, pending);
        real.refresh();
        self.ledger.counts.entries += 1;
        self.inside = true;
        Ok(())
    }

    /// Goes on in the guest, which was not left.
    fn resume(&mut self) {
        if let Some(vmx) = &mut self.real.vmx {
            vmx.operation = Operation::NonRoot;
        }
        self.real.refresh();
    }

    /// What the processor makes of `stop`: an exit that is due is completed, as far as the guest goes.
    fn leave(&mut self, world: &mut World, stop: Stop, window: bool) -> Left {
        let real = &mut self.real;
        let exit = match stop {
            Stop::Fault(fault) if fault.is_vm_exit() => Some(leave::take(real, world)),
            Stop::Fault(fault) => {
                vmx::event::exits(real, Event::Exception(fault), 0).then(|| leave::take(real, world))
            }
            Stop::Budget | Stop::Exit(_) if window && is_open(real) => {
                Some(Exit::new(Reason::InterruptWindow, 0))
            }
            Stop::Budget | Stop::Exit(_) => None,
        };
        let left = match exit {
            Some(exit) => {
                // No list of MSRs is stored, so that nothing can go wrong.
                let saved = leave::save(real, world, exit);
                debug_assert!(saved.is_ok(), "no MSR is stored");
                self.inside = false;
                Left::Exit(exit, self.direct.resumed())
            }
            None => Left::Inside(stop),
        };
        if let Some(vmx) = &mut real.vmx {
            vmx.operation = Operation::Root;
        }
        left
    }
}

/// Whether the guest lets interrupts through now.
fn is_open(real: &Cpu) -> bool {
    real.system_flags.contains(Eflags::IF) && !real.special.intersects(Special::HOLDS_INTERRUPTS)
}
