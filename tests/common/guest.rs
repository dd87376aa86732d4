//! The machines of the built-in guests, for tests of the library.

use subring::load::Spec;
use subring::load::builtin::Builtin;
use subring::machine::Machine;

/// The machine that `subring run NAME --mem 4M` builds.
pub(crate) fn machine(guest: &Builtin) -> Machine {
    Spec::builtin(guest, 4 << 20, None).and_then(Spec::build).expect("a machine with a built-in guest")
}
