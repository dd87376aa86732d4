//! What raises #UD in every mode: UD0, UD1 and UD2, encodings that the manual leaves undefined, and
//! instructions of later processors.

use crate::cpu::{Cpu, Fault};
use crate::decode::Insn;
use crate::exec::bind::binders;
use crate::exec::{Env, Handler};

binders! { i, E;
    Ud      => undefined,
    Unbuilt => undefined,
}

// UD2
fn undefined<E: Env>(_: &mut Cpu, _: &mut E, _: &Insn) -> Result<(), Fault> {
    Err(Fault::UD)
}
