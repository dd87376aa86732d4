//! Where a run paused in a trace. A deadline may fall between any two instructions, and what is decoded must
//! not depend on where: the next run goes on in the same trace, unless something else happened meanwhile.

use super::{CodeEnv, Interp, Stop, run_insns};
use crate::bus::Ticks;
use crate::cpu::{Cpu, Fault};
use crate::decode::SegReg;
use crate::decode::cache::Trace;

/// A place in a trace, and what the processor and the cached code looked like there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pause {
    trace: Trace,
    done: usize,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
    now: Ticks,
    linear: u32,
    limit: u32,
    mode: (bool, bool),
    epochs: [u32; 3],
    decoded: (u64, u64),
}

impl<E: CodeEnv> Interp<E> {
    fn state(&self, cpu: &Cpu, env: &E) -> State {
        State {
            now: cpu.now,
            linear: cpu.linear_eip(),
            limit: cpu.seg(SegReg::Cs).limit,
            mode: (cpu.code32(), cpu.user),
            epochs: [env.map_epoch(), env.fetch_epoch(), env.code_epoch()],
            decoded: self.decode_counts(),
        }
    }

    /// Runs the rest of the trace that the last run paused in, or as much of it as there is time for.
    #[inline]
    pub(super) fn go_on(&mut self, cpu: &mut Cpu, env: &mut E) -> Option<Stop> {
        let Pause { trace, done, state } = self.paused?;
        if cpu.now >= cpu.deadline {
            return None;
        }
        self.paused = None;
        let plain = cpu.special.is_empty() && !env.checks_each_access() && !env.wants_attention(cpu);
        if !plain || state != self.state(cpu, env) {
            return None;
        }
        self.run_part(cpu, env, trace, done).err().map(Stop::Fault)
    }

    /// Runs the instructions of `trace` behind the first `done`, as many as there is time for, and notes where
    /// the deadline cuts the trace short.
    #[cold]
    #[inline(never)]
    pub(super) fn run_part(
        &mut self,
        cpu: &mut Cpu,
        env: &mut E,
        trace: Trace,
        done: usize,
    ) -> Result<(), Fault> {
        let insns = &self.cache.insns(trace)[done..];
        let left = (cpu.deadline - cpu.now).min(insns.len() as u64) as usize;
        run_insns(cpu, env, &insns[..left])?;
        // A branch back, or code that was overwritten, ends a trace before the deadline does.
        if left < insns.len() && cpu.now >= cpu.deadline && !cpu.leave.get() {
            self.paused = Some(Pause { trace, done: done + left, state: self.state(cpu, env) });
        }
        Ok(())
    }
}
