//! The interpreter: a run loop over cached traces of decoded instructions, each bound to the function that
//! executes it.
//!
//! Two ways through one semantics. The fast way runs a trace straight through. The careful way (`step`) runs
//! one instruction at a time, with breakpoints, single step and shadows; it is taken while `Cpu::special`
//! says so, and by observers. Both end in the same state; a property test holds that.

mod fetch;
mod pause;
mod step;

use crate::bus::Ticks;
use crate::cpu::{Activity, Cpu, Eflags, Fault, Special};
use crate::decode::cache::{Cache, Trace};
use crate::decode::{Insn, Rep};
use crate::exec::Handler;
pub use fetch::{CodeEnv, Saved};

/// Why the engine came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// An instruction faulted, or a trap is due: to be delivered. EIP is what the handler shall see.
    Fault(Fault),
    /// The world wants to be looked at.
    Exit(Exit),
    /// The clock has reached the limit.
    Budget,
}

/// A reason to leave the engine that is no fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// An interrupt is requested and can be taken before the next instruction.
    Interrupt,
    /// A chip was spoken to: its events may be due at other times than before.
    Chips,
    /// HLT.
    Halted,
    /// A monitor has looked up, and is to say so.
    Boundary,
    /// An instruction is next before which `Interp::stop_before` asked to stop.
    Sensitive,
}

/// An instruction bound to its function.
pub struct Bound<E> {
    run: Handler<E>,
    insn: Insn,
}

impl<E> Clone for Bound<E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Bound<E> {}

/// The interpreter's own state: caches only, so it can be dropped and made anew at any time.
pub struct Interp<E> {
    cache: Cache<Bound<E>>,
    /// The page that code was last fetched from, in supervisor and in user mode.
    pages: [fetch::Page; 2],
    /// The memory map that the cache was filled under.
    map_epoch: u32,
    /// Whether the instruction that faulted last had begun with RF set.
    resumed: bool,
    /// Instructions that stand alone in their traces.
    alone: Option<fn(&Insn) -> bool>,
    /// Runs end before these instructions.
    stops: bool,
    /// Where the last run paused.
    paused: Option<pause::Pause>,
}

impl<E> Default for Interp<E> {
    fn default() -> Self {
        Self {
            cache: Cache::default(),
            pages: Default::default(),
            map_epoch: 0,
            resumed: false,
            alone: None,
            stops: false,
            paused: None,
        }
    }
}

impl<E: CodeEnv> Interp<E> {
    /// Traces decoded, and whole-cache flushes.
    pub fn decode_counts(&self) -> (u64, u64) {
        (self.cache.decoded, self.cache.flushes)
    }

    /// Forgets all decoded code.
    pub fn forget(&mut self) {
        self.cache.flush();
        self.pages = Default::default();
    }

    /// From now on runs end before each instruction that `which` holds of, or no longer. Another `which` than
    /// before is never given.
    pub(crate) fn stop_before(&mut self, which: fn(&Insn) -> bool, on: bool) {
        if self.alone.is_none() {
            self.alone = Some(which);
            self.forget();
        }
        self.stops = on;
    }

    /// Whether the run is to end before the instruction at CS:EIP.
    #[cold]
    #[inline(never)]
    fn stops_here(&mut self, cpu: &Cpu, env: &mut E) -> bool {
        let next = self.one(cpu, env);
        next.is_ok_and(|bound| self.alone.is_some_and(|which| which(&bound.insn)))
    }

    /// Whether the instruction that faulted last had begun with RF set, which the fault took away: whoever
    /// lets it run again as if nothing had been gives RF back.
    pub(crate) fn resumed(&self) -> bool {
        self.resumed
    }

    /// It runs: no fault so far.
    pub(crate) fn begin(&mut self) {
        self.resumed = false;
    }

    /// Runs until `limit`, a fault, or a reason to look up.
    pub fn run(&mut self, cpu: &mut Cpu, env: &mut E, limit: Ticks) -> Stop {
        cpu.deadline = limit;
        self.begin();
        if let Some(stop) = self.go_on(cpu, env) {
            return stop;
        }
        loop {
            if let Some(stop) = self.boundary(cpu, env) {
                return stop;
            }
            if self.stops && self.stops_here(cpu, env) {
                return Stop::Exit(Exit::Sensitive);
            }
            if !cpu.special.is_empty() || env.checks_each_access() {
                match self.step(cpu, env) {
                    Ok(()) => continue,
                    Err(fault) => return Stop::Fault(fault),
                }
            }
            let trace = match self.trace(cpu, env) {
                Ok(trace) => trace,
                Err(fault) => return Stop::Fault(fault),
            };
            if let Err(fault) = self.run_trace(cpu, env, trace) {
                return Stop::Fault(fault);
            }
        }
    }

    /// What there is to do between instructions, before the next one.
    #[inline(always)]
    pub(crate) fn boundary(&mut self, cpu: &mut Cpu, env: &mut E) -> Option<Stop> {
        if cpu.now >= cpu.deadline {
            return Some(deadline(cpu));
        }
        if env.wants_attention(cpu) {
            return attend(cpu, env);
        }
        if cpu.activity != Activity::Running {
            return Some(Stop::Exit(Exit::Halted));
        }
        None
    }

    /// Runs a trace, again and again while it branches back to its own start and nothing is up.
    #[inline(always)]
    fn run_trace(&mut self, cpu: &mut Cpu, env: &mut E, trace: Trace) -> Result<(), Fault> {
        let insns = self.cache.insns(trace);
        let start = cpu.eip;
        loop {
            if cpu.deadline - cpu.now < insns.len() as u64 {
                return self.run_part(cpu, env, trace, 0);
            }
            run_insns(cpu, env, insns)?;
            let again = cpu.eip == start && trace.near && cpu.now < cpu.deadline;
            if !again || env.wants_attention(cpu) {
                return Ok(());
            }
        }
    }
}

/// Runs instructions of one trace. All but the last leave EIP and time to the loop, which keeps both in
/// registers: what changes them otherwise ends a trace, or sets `leave`.
#[inline(always)]
fn run_insns<E>(cpu: &mut Cpu, env: &mut E, insns: &[Bound<E>]) -> Result<(), Fault> {
    let Some((last, body)) = insns.split_last() else { return Ok(()) };
    cpu.leave.set(false);
    let (mut eip, mut now) = (cpu.eip, cpu.now);
    for bound in body {
        eip = eip.wrapping_add(u32::from(bound.insn.len));
        cpu.eip = eip;
        execute(cpu, env, bound)?;
        now += 1;
        cpu.now = now;
        if cpu.leave.get() {
            return Ok(());
        }
    }
    cpu.eip = eip.wrapping_add(u32::from(last.insn.len));
    execute(cpu, env, last)?;
    cpu.now += 1;
    Ok(())
}

#[inline(always)]
fn execute<E>(cpu: &mut Cpu, env: &mut E, bound: &Bound<E>) -> Result<(), Fault> {
    let result = (bound.run)(cpu, env, &bound.insn);
    if result.is_err() {
        restore_eip(cpu, &bound.insn);
    }
    result
}

/// A trap that is due belongs to the instruction before, and to the same side of the deadline.
#[cold]
#[inline(never)]
fn deadline(cpu: &mut Cpu) -> Stop {
    step::due_traps(cpu).map_or_else(Stop::Fault, |()| Stop::Budget)
}

/// Something in the environment is up: stale code, an interrupt, a chip that was spoken to.
#[cold]
#[inline(never)]
fn attend<E: CodeEnv>(cpu: &mut Cpu, env: &mut E) -> Option<Stop> {
    env.clear_code_changed();
    if env.take_chips_touched() {
        return Some(Stop::Exit(Exit::Chips));
    }
    let shadowed = cpu.special.intersects(Special::HOLDS_INTERRUPTS);
    if env.interrupt_requested() && cpu.system_flags.contains(Eflags::IF) && !shadowed {
        return Some(Stop::Exit(Exit::Interrupt));
    }
    (cpu.activity != Activity::Running).then_some(Stop::Exit(Exit::Halted))
}

/// After a fault EIP names the instruction again, unless a committed task switch has replaced it.
pub(crate) fn restore_eip(cpu: &mut Cpu, insn: &Insn) {
    if cpu.switched_task {
        cpu.switched_task = false;
    } else {
        cpu.eip = cpu.eip.wrapping_sub(u32::from(insn.len));
    }
}

/// Whether a REP instruction that just ran stands before more iterations.
fn unfinished(cpu: &Cpu, insn: &Insn, start: u32) -> bool {
    insn.rep != Rep::Once && cpu.eip == start
}
