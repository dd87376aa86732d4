//! The machines of the built-in guests, for tests of the library.

use subring::bus::Clock;
use subring::cpu::Model;
use subring::load::Spec;
use subring::load::builtin::{self, Builtin};
use subring::machine::Machine;

/// The machine that `subring run NAME --mem 4M` builds.
pub(crate) fn machine(guest: &Builtin) -> Machine {
    machine_at(guest, Clock::default())
}

/// The machine that `subring run NAME --mem 4M --hz` builds.
pub(crate) fn machine_at(guest: &Builtin, clock: Clock) -> Machine {
    let spec = Spec::builtin(guest, 4 << 20, None).map(|spec| Spec { hz: clock.hz(), ..spec });
    spec.and_then(Spec::build).expect("a machine with a built-in guest")
}

/// The machine of the built-in hypervisor on a processor of `cpu`: with shadow page tables on the Core Duo, and extended
/// ones on the model that has them.
pub(crate) fn hypervisor(cpu: Model) -> Machine {
    let guest = builtin::find("vmx").expect("a built-in guest");
    let mode = if cpu == Model::YonahEpt { "ept" } else { "shadow" };
    let spec = Spec::builtin(guest, 16 << 20, Some(mode)).map(|spec| Spec { cpu, ..spec });
    spec.and_then(Spec::build).expect("a machine with a built-in guest")
}
