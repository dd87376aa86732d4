//! The seam between the machine and a monitor. The machine keeps the guest's processor, its world, its time and the
//! delivery of its events; a monitor only takes over the running of its instructions, on a real processor of its own.

use super::{Limits, Machine, Outcome, World};
use crate::addr::{GuestPhys, MachineAddr, PAGE_SHIFT};
use crate::bus::Ticks;
use crate::cpu::Cpu;
use crate::interp::Stop;
use crate::mem::{P2m, Ram};
use std::any::Any;

/// Runs a guest's instructions in the place of the bare processor.
pub trait Monitor: Any {
    /// Runs the guest from the state in `cpu` until `until`, a fault that is the guest's own, or a reason to look up. The
    /// state is in `cpu` again when it comes back, as the bare processor would leave it.
    fn run(&mut self, cpu: &mut Cpu, world: &mut World, until: Ticks) -> Stop;
    /// A maskable interrupt is about to be delivered to the guest.
    fn interrupted(&mut self, cpu: &Cpu, world: &mut World) {
        let _ = (cpu, world);
    }
    /// From now on it comes back at each of its boundaries, or no longer does: exits, and ends of translation units or of instructions
    /// that run by themselves.
    fn stop_at_boundaries(&mut self, on: bool) {
        let _ = on;
    }
    /// Somebody wants to see what is kept: brings it up to what the guest did last, as before the guest runs on.
    fn follow(&mut self, cpu: &Cpu, world: &mut World) {
        let _ = (cpu, world);
    }
    /// Processor, memory or chips were replaced from outside: nothing that was derived from them counts any more.
    fn forget(&mut self, world: &mut World);
}

impl Machine {
    /// Puts `monitor` between the guest and the processor, and the guest's memory into `memory`, where `p2m` says.
    pub fn virtualize(&mut self, monitor: Box<dyn Monitor>, memory: Ram, p2m: P2m) {
        self.world.virtualize(memory, p2m);
        self.interp.forget();
        self.monitor = Some(monitor);
    }

    /// Tells the monitor, if there is one, that the machine was changed from outside.
    pub(super) fn tell_monitor(&mut self) {
        if let Some(monitor) = &mut self.monitor {
            monitor.forget(&mut self.world);
        }
    }

    /// Lets the monitor, if there is one, follow what the guest did last, for an observer. The run does not change: the monitor
    /// would do the same before the guest's next instruction.
    pub fn follow(&mut self) {
        if let Some(monitor) = &mut self.monitor {
            monitor.follow(&self.cpu, &mut self.world);
        }
    }

    /// Runs to the first of `limits`, or to where the monitor next looked up: an exit, or the end of a translation unit. What was
    /// chained is passed link by link, as it would be without a stop. A fault of the guest's is found before it is delivered.
    /// On the bare machine there are no such boundaries.
    pub fn run_to_boundary(&mut self, limits: Limits) -> Outcome {
        self.stop_at_boundaries(true);
        let outcome = self.run(limits);
        self.stop_at_boundaries(false);
        outcome
    }

    fn stop_at_boundaries(&mut self, on: bool) {
        if let Some(monitor) = &mut self.monitor {
            monitor.stop_at_boundaries(on);
            self.by_boundary = on;
        }
    }

    /// The pages of the guest's memory that were written, by whomever, since this was last called (at first: all of them), by
    /// number.
    pub fn take_written(&mut self) -> Vec<u32> {
        let pages = self.world.take_written_pages();
        let p2m = self.world.map.p2m();
        let guest = |page| p2m.guest(MachineAddr(page << PAGE_SHIFT)).map(GuestPhys::page_number);
        pages.into_iter().filter_map(guest).collect()
    }

    /// Another number means that a chip may have changed.
    pub fn chip_contacts(&self) -> u64 {
        self.world.contacts
    }

    /// Whether a monitor stands between the guest and the processor.
    pub fn has_monitor(&self) -> bool {
        self.monitor.is_some()
    }

    /// The monitor, if there is one of type `M`.
    pub fn monitor<M: Monitor>(&self) -> Option<&M> {
        let monitor: &dyn Any = &**self.monitor.as_ref()?;
        monitor.downcast_ref()
    }

    /// The same, to change.
    pub fn monitor_mut<M: Monitor>(&mut self) -> Option<&mut M> {
        let monitor: &mut dyn Any = &mut **self.monitor.as_mut()?;
        monitor.downcast_mut()
    }
}
