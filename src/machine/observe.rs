//! Running under observation: one instruction at a time, each reported before it runs.

use super::Machine;
use super::world::World;
use crate::addr::Linear;
use crate::bus::Ticks;
use crate::decode::{MAX_INSN_LEN, SegReg};
use crate::event::Event;
use crate::interp::Stop;

impl Machine {
    /// As the interpreter's `run`, reporting each instruction to the watcher. The state that a run ends in is
    /// the same with and without.
    pub(super) fn execute_observed(&mut self, until: Ticks) -> Stop {
        self.cpu.deadline = until;
        loop {
            if let Some(stop) = self.boundary() {
                return stop;
            }
            self.report_next();
            if let Err(fault) = self.step() {
                return Stop::Fault(fault);
            }
        }
    }

    /// The bytes at CS:EIP as the processor would fetch them, for an observer: those of the next instruction,
    /// as many as are there.
    pub fn code_ahead(&self) -> Vec<u8> {
        let page = self.interp().page(&self.cpu, &self.world);
        self.world.peek_code(&self.cpu, Linear(self.cpu.linear_eip()), MAX_INSN_LEN, page)
    }

    /// Reports the next instruction to the watcher.
    pub(super) fn report_next(&mut self) {
        let (bytes, cpu) = (self.code_ahead(), &self.cpu);
        let cs = cpu.seg(SegReg::Cs).selector.0;
        let within = cpu.mid_string;
        let at = Linear(cpu.linear_eip());
        let event = Event::Insn { cs, eip: cpu.eip, at, bytes: &bytes, code32: cpu.code32(), within };
        if let Some(w) = self.world.watcher.as_mut() {
            w.sink.record(cpu.when(), &event);
        }
    }
}

impl World {
    /// The pages of RAM written since this was last called; from now on the next ones are looked for.
    pub(super) fn take_written_pages(&mut self) -> Vec<u32> {
        self.drop_fast();
        self.map.ram.take_written()
    }

    /// From now on somebody looks at accesses that went straight to RAM: those of the processor at hand, and
    /// of the other one.
    pub(super) fn drop_fast(&mut self) {
        self.tlb.drop_fast();
        self.parked.tlb.drop_fast();
    }
}
