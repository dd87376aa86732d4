//! Pausing at a deadline, and going on from there: see `pause` for why.

use super::backend::Backend;
use super::pause::{Pause, Place, State};
use super::plan::Policy;
use super::translator::Translator;
use super::unit::mode_of;
use crate::cpu::Cpu;
use crate::interp::CodeEnv;

impl<E: CodeEnv, B: Backend<E>> Translator<E, B> {
    fn state(&self, cpu: &Cpu, policy: &dyn Policy<E>) -> State {
        State { linear: cpu.linear_eip(), now: cpu.now, mode: mode_of(cpu, policy), stamp: self.stamp }
    }

    /// The run pauses: the next one is no new entry. A place that was noted stays.
    pub(super) fn pause(&mut self, cpu: &Cpu, policy: &dyn Policy<E>) {
        let state = self.state(cpu, policy);
        if self.paused.is_none_or(|pause| pause.place.is_none()) {
            self.paused = Some(Pause { place: None, state });
        }
    }

    /// The run pauses at this place.
    pub(super) fn pause_at(&mut self, place: Place, cpu: &Cpu, policy: &dyn Policy<E>) {
        self.paused = Some(Pause { place: Some(place), state: self.state(cpu, policy) });
    }

    /// Whether a run that starts now goes on where the last one paused.
    pub(super) fn goes_on(&self, cpu: &Cpu, policy: &dyn Policy<E>) -> bool {
        // Between a pause and the next run somebody else may have moved the stamp, and the entry is the same.
        self.paused.is_some_and(|pause| {
            let State { stamp, .. } = pause.state;
            State { stamp, ..self.state(cpu, policy) } == pause.state
        })
    }

    /// The place to go on at, if there is one and it is still valid.
    pub(super) fn take_place(&mut self, cpu: &Cpu, policy: &dyn Policy<E>) -> Option<Place> {
        let Pause { place, state } = self.paused.take()?;
        let place = place?;
        if state == self.state(cpu, policy) {
            return Some(place);
        }
        self.abandon(place);
        None
    }

    /// Nothing goes on at the noted place.
    pub(super) fn forget_pause(&mut self) {
        if let Some(Pause { place: Some(place), .. }) = self.paused.take() {
            self.abandon(place);
        }
    }

    /// A unit that was begun breaks off where it paused.
    fn abandon(&mut self, place: Place) {
        if let Place::Within(unit, done) = place
            && let Some(unit) = self.store.units.get_mut(unit as usize)
        {
            unit.broke_off(usize::from(done));
        }
    }

    /// Puts EIP and time back to those of the start of `unit`, of which so many instructions are done.
    pub(super) fn to_start(&self, cpu: &mut Cpu, unit: u32, done: u8) {
        cpu.eip = cpu.eip.wrapping_sub(self.bytes_of(unit, done));
        cpu.now -= u64::from(done);
    }

    /// Brings EIP and time, which are those of the start of `unit`, to where so many of its instructions are
    /// done.
    pub(super) fn at_start(&self, cpu: &mut Cpu, unit: u32, done: u8) {
        cpu.eip = cpu.eip.wrapping_add(self.bytes_of(unit, done));
        cpu.now += u64::from(done);
    }

    /// Bytes of the first instructions of `unit`, all of the body at most.
    fn bytes_of(&self, unit: u32, instructions: u8) -> u32 {
        let body = self.store.records.get(unit as usize).map_or(&[][..], |record| &record.plan.body);
        body.iter().take(usize::from(instructions)).map(|step| u32::from(step.insn.len)).sum()
    }
}
