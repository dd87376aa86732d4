//! Running under observation: one instruction at a time, each reported before it runs.

use super::Machine;
use super::world::World;
use crate::addr::Linear;
use crate::bus::Ticks;
use crate::cpu::Cpu;
use crate::decode::{MAX_INSN_LEN, SegReg};
use crate::event::Event;
use crate::interp::Stop;

impl Machine {
    /// As the interpreter's `run`, reporting each instruction to the watcher. The state that a run ends in is the
    /// same with and without.
    pub(super) fn execute_observed(&mut self, until: Ticks) -> Stop {
        self.cpu.deadline = until;
        loop {
            if let Some(stop) = self.interp.boundary(&mut self.cpu, &mut self.world) {
                return stop;
            }
            report(&mut self.world, &self.cpu);
            if let Err(fault) = self.step() {
                return Stop::Fault(fault);
            }
        }
    }
}

pub(super) fn report(world: &mut World, cpu: &Cpu) {
    let bytes = world.peek(cpu, Linear(cpu.linear_eip()), MAX_INSN_LEN);
    let event =
        Event::Insn { cs: cpu.seg(SegReg::Cs).selector.0, eip: cpu.eip, bytes: &bytes, code32: cpu.code32() };
    if let Some(w) = world.watcher.as_mut() {
        w.sink.record(cpu.now, &event);
    }
}
