//! Checks of the host-state area (SDM vol. 3, 26.2.2 to 26.2.4).

use super::{Checked, Failure, Stage, valid_efer};
use crate::cpu::vmx::field::HOST_SELECTORS;
use crate::cpu::vmx::{ExitControls, Field};
use crate::exec::msr::valid_pat;

fn ensure(good: bool, field: Field, why: &'static str) -> Result<(), Failure> {
    super::ensure(good, Stage::Host, field, why)
}

pub(super) fn check(on: &mut Checked) -> Result<(), Failure> {
    control_registers(on).map_err(|failure| failure.of("26.2.2"))?;
    selectors(on).map_err(|failure| failure.of("26.2.3"))
}

// SDM vol. 3, 26.2.2
fn control_registers(on: &Checked) -> Result<(), Failure> {
    let caps = on.vmx.caps;
    let fixed = "has a bit that VMX operation fixes at the other value";
    ensure(caps.cr0.allow(on.get32(Field::HostCr0)), Field::HostCr0, fixed)?;
    ensure(caps.cr4.allow(on.get32(Field::HostCr4)), Field::HostCr4, fixed)?;
    if on.controls.exit.contains(ExitControls::LOAD_PAT) {
        ensure(valid_pat(on.get(Field::HostPat)), Field::HostPat, "has a memory type that does not exist")?;
    }
    if on.controls.exit.contains(ExitControls::LOAD_EFER) {
        ensure(
            valid_efer(on.get(Field::HostEfer)),
            Field::HostEfer,
            "has bits set that IA32_EFER does not have here: only NXE, bit 11, may be 1",
        )?;
    }
    Ok(())
}

// SDM vol. 3, 26.2.3
fn selectors(on: &Checked) -> Result<(), Failure> {
    for field in HOST_SELECTORS.into_iter().chain([Field::HostTr]) {
        ensure(
            on.get(field) & 7 == 0,
            field,
            "has its RPL or its TI flag set: bits 2-0 of a host selector must be 0",
        )?;
    }
    for field in [Field::HostCs, Field::HostTr, Field::HostSs] {
        ensure(
            on.get(field) != 0,
            field,
            "is the null selector, which the host cannot have in CS, SS or TR",
        )?;
    }
    Ok(())
}
