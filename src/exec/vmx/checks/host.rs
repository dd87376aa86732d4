//! Checks of the host-state area (SDM vol. 3, 26.2.2 to 26.2.4).

use super::{Checked, EFER_NXE, Failure, Stage, allowed, valid_pat};
use crate::cpu::vmx::field::HOST_SELECTORS;
use crate::cpu::vmx::{ExitControls, Field};

fn ensure(good: bool, field: Field, why: &'static str) -> Result<(), Failure> {
    super::ensure(good, Stage::Host, field, why)
}

pub(super) fn check(on: &mut Checked) -> Result<(), Failure> {
    let caps = on.vmx.caps;
    let fixed = "has a bit that VMX operation fixes at the other value";
    ensure(allowed(on.get32(Field::HostCr0), (caps.cr0_fixed0, caps.cr0_fixed1)), Field::HostCr0, fixed)?;
    ensure(allowed(on.get32(Field::HostCr4), (caps.cr4_fixed0, caps.cr4_fixed1)), Field::HostCr4, fixed)?;
    if on.controls.exit.contains(ExitControls::LOAD_PAT) {
        ensure(valid_pat(on.get(Field::HostPat)), Field::HostPat, "has a memory type that does not exist")?;
    }
    if on.controls.exit.contains(ExitControls::LOAD_EFER) {
        ensure(on.get(Field::HostEfer) & !EFER_NXE == 0, Field::HostEfer, "has reserved bits set")?;
    }
    for field in HOST_SELECTORS.into_iter().chain([Field::HostTr]) {
        ensure(on.get(field) & 7 == 0, field, "has its RPL or its TI flag set")?;
    }
    for field in [Field::HostCs, Field::HostTr, Field::HostSs] {
        ensure(on.get(field) != 0, field, "is the null selector")?;
    }
    Ok(())
}
