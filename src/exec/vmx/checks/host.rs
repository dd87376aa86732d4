//! Checks of the host-state area (SDM vol. 3, 26.2.2 to 26.2.4).

use super::{Checked, Failure, Stage, valid_efer};
use crate::cpu::vmx::field::HOST_SELECTORS;
use crate::cpu::vmx::{ExitControls, Field};
use crate::exec::msr::valid_pat;

fn ensure(good: bool, field: Field, why: &'static str) -> Result<(), Failure> {
    super::ensure(good, Stage::Host, field, why)
}

pub(super) fn check(on: &mut Checked) -> Result<(), Failure> {
    let caps = on.vmx.caps;
    let fixed = "has a bit that VMX operation fixes at the other value";
    ensure(caps.cr0.allow(on.get32(Field::HostCr0)), Field::HostCr0, fixed)?;
    ensure(caps.cr4.allow(on.get32(Field::HostCr4)), Field::HostCr4, fixed)?;
    if on.controls.exit.contains(ExitControls::LOAD_PAT) {
        ensure(valid_pat(on.get(Field::HostPat)), Field::HostPat, "has a memory type that does not exist")?;
    }
    if on.controls.exit.contains(ExitControls::LOAD_EFER) {
        ensure(valid_efer(on.get(Field::HostEfer)), Field::HostEfer, "has reserved bits set")?;
    }
    for field in HOST_SELECTORS.into_iter().chain([Field::HostTr]) {
        ensure(on.get(field) & 7 == 0, field, "has its RPL or its TI flag set")?;
    }
    for field in [Field::HostCs, Field::HostTr, Field::HostSs] {
        ensure(on.get(field) != 0, field, "is the null selector")?;
    }
    Ok(())
}
