//! The comparison: a guest in a list of cells, each held against the bare machine's run.

use super::boundaries::{self, Compared};
use super::phases::{Phases, Recorder};
use super::reference::Reference;
use super::row::{Outcome, Row};
use super::strides;
use super::variant::Variant;
use crate::error::Result;
use crate::lab::guest::Guest;
use crate::lab::state;
use crate::load::{Symbol, symbol_at};
use crate::machine::{Machine, Monitor};
use crate::vmm;
use crate::vmm::cost::Costs;
use std::time::Duration;

/// Instructions between two questions whether to go on.
const STRIDE: u64 = 1 << 22;

/// What a comparison is doing, for whoever shows its progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doing {
    /// Runs beside the bare machine and is compared with it in strides.
    Comparing,
    /// Is compared with the bare machine at each boundary of the monitor.
    Lockstep,
    /// Runs alone, for its figures and host time.
    Measuring,
}

/// How a guest is compared.
pub struct Comparison<'a> {
    /// Builds the guest's machine, bare or under a monitor.
    pub build: &'a dyn Fn(Option<vmm::Config>) -> Result<Machine>,
    /// The bare machine's run.
    pub reference: &'a Reference,
    /// What events cost.
    pub costs: &'a Costs,
    /// The kernel's names for its addresses.
    pub symbols: &'a [Symbol],
    /// Compare at each boundary of the monitor, not only in strides.
    pub lockstep: bool,
    /// Take the figures of each phase that the guest marks.
    pub by_phase: bool,
}

/// A run for its figures.
struct Measured {
    guest: Guest,
    host: Duration,
    phases: Option<Phases>,
}

impl Comparison<'_> {
    /// A guest about to run, with the reference's input to come.
    ///
    /// # Errors
    /// When the machine cannot be built.
    pub fn guest(&self, monitor: Option<vmm::Config>) -> Result<Guest> {
        Ok(Guest::new((self.build)(monitor)?, self.reference.inputs.clone()))
    }

    /// The row of `config`; `None` when `goes_on`, which is told how far it is, says no.
    ///
    /// # Errors
    /// When a machine cannot be built.
    pub fn row(
        &self,
        config: vmm::Config,
        mut goes_on: impl FnMut(Doing, u64) -> bool,
    ) -> Result<Option<Row>> {
        let Compared { divergence, same, boundaries } = self.compare(config, &mut goes_on)?;
        let to = divergence.as_ref().map_or(self.reference.limit, |d| d.after);
        let Some(Measured { guest, host, phases }) =
            self.measure(Some(config), to, |retired| goes_on(Doing::Measuring, retired))?
        else {
            return Ok(None);
        };
        let report = guest.machine.monitor().map(Monitor::report);
        let retired = guest.machine.cpu.retired();
        let terms = report.as_ref().map_or_else(Vec::new, |report| self.costs.breakdown(report));
        let cycles = report.as_ref().map_or(0, |report| self.costs.total(report));
        let outcome = match divergence {
            Some(d) => {
                let symbol = symbol_at(self.symbols, d.linear);
                Outcome::Diverged(Box::new(d), symbol)
            }
            None if same && retired == self.reference.retired => Outcome::Same,
            None => Outcome::EndedOtherwise,
        };
        Ok(Some(Row {
            variant: Variant::from(config),
            outcome,
            retired,
            cycles,
            slowdown: self.costs.slowdown(cycles, retired),
            report,
            terms,
            boundaries: self.lockstep.then_some(boundaries),
            host,
            phases,
        }))
    }

    /// The phases of the bare machine's run; `None` when `goes_on` says no.
    ///
    /// # Errors
    /// When the machine cannot be built.
    pub fn bare_phases(&self, mut goes_on: impl FnMut(Doing, u64) -> bool) -> Result<Option<Phases>> {
        let goes_on = |retired| goes_on(Doing::Measuring, retired);
        Ok(self.measure(None, self.reference.limit, goes_on)?.and_then(|measured| measured.phases))
    }

    /// Runs a machine alone to `to` instructions, for its figures and host time; `None` when `goes_on` says no.
    fn measure(
        &self,
        config: Option<vmm::Config>,
        to: u64,
        mut goes_on: impl FnMut(u64) -> bool,
    ) -> Result<Option<Measured>> {
        let mut guest = self.guest(config)?;
        let mut recorder = Recorder::new(self.costs);
        loop {
            let retired = guest.machine.cpu.retired();
            if !goes_on(retired) {
                return Ok(None);
            }
            let next = retired.saturating_add(STRIDE).min(to);
            if !self.run_to(&mut guest, next, &mut recorder) || next == to {
                break;
            }
            // The console shows what the bare machine printed.
            _ = guest.machine.world.board.take_serial_output(0);
        }
        let host = recorder.host();
        let phases = self.by_phase.then(|| recorder.finish(&guest.machine));
        Ok(Some(Measured { guest, host, phases }))
    }

    /// Runs to `retired` instructions. Whether the guest goes on from there.
    fn run_to(&self, guest: &mut Guest, retired: u64, recorder: &mut Recorder<'_>) -> bool {
        if !self.by_phase {
            return guest.run_to(retired).is_none();
        }
        loop {
            match guest.run_to_mark(retired) {
                (Some(_), _) => return false,
                (None, None) => return true,
                (None, Some(mark)) => recorder.mark(guest, mark),
            }
        }
    }

    /// Holds a variant against the bare machine: in strides, or at each boundary.
    fn compare(&self, config: vmm::Config, goes_on: &mut impl FnMut(Doing, u64) -> bool) -> Result<Compared> {
        let make = || Ok((self.guest(None)?, self.guest(Some(config))?));
        let limit = self.reference.limit;
        if !self.lockstep {
            let (mut bare, mut other) = make()?;
            let on = |retired| goes_on(Doing::Comparing, retired);
            let divergence = strides::first_divergence(&mut bare, &mut other, limit, on)?;
            let same = divergence.is_none() && state::same(&bare.machine, &other.machine);
            // Where a run that is cut into pieces goes right, only its boundaries can tell.
            if divergence.as_ref().is_none_or(|d| !d.differences.is_empty()) {
                return Ok(Compared { divergence, same, boundaries: 0 });
            }
        }
        boundaries::compare(make, limit, |retired| goes_on(Doing::Lockstep, retired))
    }
}
