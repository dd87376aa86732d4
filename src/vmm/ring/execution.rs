//! The seam between ring compression and who runs the guest's code on it: [`crate::vmm::trap`] and
//! [`crate::vmm::bt`].

use super::state::RingCompression;
use crate::addr::Linear;
use crate::bus::Ticks;
use crate::cpu::Cpu;
use crate::interp::Stop;
use crate::machine::{TranslationView, World};
use crate::report::{Cause, TranslationFigures};
use crate::translate::RuleId;

/// Runs the guest's code on the real processor, whose state is composed.
pub(in crate::vmm) trait Execution {
    /// Runs the guest until something stops it. `None`: the guest can go on.
    fn run(
        &mut self,
        ring: &mut RingCompression,
        guest: &mut Cpu,
        world: &mut World,
        until: Ticks,
    ) -> Option<Stop>;
    /// Runs the instruction at CS:EIP on the virtual processor, as this rule says. `None`: the guest can go
    /// on.
    fn call_out(
        &mut self,
        ring: &mut RingCompression,
        guest: &mut Cpu,
        world: &mut World,
        rule: RuleId,
    ) -> Option<Stop>;
    /// Hides from the guest in `real` what its user code could see of the monitor.
    fn conceal(&self, guest: &Cpu, real: &mut Cpu);
    /// The instruction at `at`, which does not run directly, was emulated after an exit of `cause`.
    fn exited(&mut self, at: Linear, cause: Cause);
    /// The adapted access at `at` ran; `met`: a trace or a chip stood in its way.
    fn called_out(&mut self, at: Linear, met: bool);
    /// Stops at the end of each unit of code, or no longer. `false`: there are no units, and each instruction
    /// is a boundary.
    fn stop_at_units(&mut self, on: bool);
    /// Whether the guest's code is cut into units.
    fn has_units(&self) -> bool;
    /// The figures of translation, if code is translated.
    fn figures(&self) -> Option<TranslationFigures>;
    /// The translation, if code is translated.
    fn view(&self) -> Option<&dyn TranslationView>;
    /// The translation, if code is translated, to observe its units.
    fn view_mut(&mut self) -> Option<&mut dyn TranslationView>;
}
