//! What an observer sees of monitors and of a guest's own hypervisor: exits, and VM entries that were
//! refused.

use super::world::World;
use crate::clock::When;
use crate::cpu::Cpu;
use crate::cpu::vmx::refusal::{EntrySite, Refusal, RefusedEntry};
use crate::cpu::vmx::words::LastExit;
use crate::event::Event;

impl World {
    /// The last VM entry of the guest's own hypervisor, if it was refused. A machine that a snapshot restored
    /// does not know about entries before.
    pub fn last_refused_entry(&self, cpu: &Cpu) -> Option<RefusedEntry> {
        let entries = cpu.vmx.as_ref()?.entries;
        // A debugger may have gone back to before it.
        let past = |refused: &RefusedEntry| refused.from.when.ticks < cpu.now;
        self.refused_entry.filter(|refused| refused.entries == entries && past(refused))
    }

    /// A monitor was entered, for this reason.
    pub fn tell_exit(&mut self, when: When, cause: &'static str, cs: u16, eip: u32) {
        if let Some(w) = self.watcher.as_mut().filter(|w| w.wants.exit) {
            w.sink.record(when, &Event::Exit { cause, detail: None, cs, eip });
        }
    }

    /// A VM exit of a guest's own hypervisor took place, from CS:EIP; the control structure tells about it.
    pub(super) fn tell_vm_exit(&mut self, cpu: &Cpu, (cs, eip): (u16, u32)) {
        if let Some(w) = self.watcher.as_mut().filter(|w| w.wants.exit)
            && let Some(vmx) = &cpu.vmx
            && let Some(exit) = LastExit::of(&vmx.vmcs)
        {
            let detail = exit.details().join("; ");
            w.sink.record(cpu.when(), &Event::Exit { cause: exit.name(), detail: Some(&detail), cs, eip });
        }
    }

    /// Notes that a VM entry was refused.
    pub(super) fn note_refused_entry(&mut self, cpu: &Cpu, from: EntrySite, refusal: Refusal) {
        let Some(vmx) = &cpu.vmx else { return };
        self.refused_entry = Some(RefusedEntry { from, refusal, entries: vmx.entries });
        if let Some(w) = self.watcher.as_mut().filter(|w| w.wants.exit) {
            let why = format!("{}: {}", refusal.outcome(), refusal.sentence(vmx));
            w.sink.record(from.when, &Event::EntryRefused { why: &why, cs: from.cs, eip: from.eip });
        }
    }
}
