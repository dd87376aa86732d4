//! Trap and emulate (Popek and Goldberg, CACM 1974; Robin and Irvine, USENIX Security 2000, on why it fails
//! on IA-32): all of the guest's code runs directly. Sensitive instructions that do not fault run on the real
//! state and go wrong, on purpose. The sibling that rewrites them is [`super::bt`].

use super::ring::{Execution, RingCompression};
use crate::addr::Linear;
use crate::bus::Ticks;
use crate::cpu::Cpu;
use crate::interp::Stop;
use crate::machine::{TranslationView, World};
use crate::report::{Cause, TranslationFigures};
use crate::translate::RuleId;

/// Direct execution of all code.
pub(super) struct TrapAndEmulate;

impl Execution for TrapAndEmulate {
    fn run(
        &mut self,
        ring: &mut RingCompression,
        guest: &mut Cpu,
        world: &mut World,
        until: Ticks,
    ) -> Option<Stop> {
        ring.run_direct(guest, world, until)
    }

    fn call_out(&mut self, _: &mut RingCompression, _: &mut Cpu, _: &mut World, _: RuleId) -> Option<Stop> {
        None
    }

    fn conceal(&self, _: &Cpu, _: &mut Cpu) {}

    fn exited(&mut self, _: Linear, _: Cause) {}

    fn called_out(&mut self, _: Linear, _: bool) {}

    fn stop_at_units(&mut self, _: bool) {}

    fn has_units(&self) -> bool {
        false
    }

    fn figures(&self) -> Option<TranslationFigures> {
        None
    }

    fn view(&self) -> Option<&dyn TranslationView> {
        None
    }

    fn view_mut(&mut self) -> Option<&mut dyn TranslationView> {
        None
    }
}
