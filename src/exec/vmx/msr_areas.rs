//! The areas of MSRs that entries and exits load and store (SDM vol. 3, 24.7.2, 26.4, 27.4 and 27.6).
//!
//! An entry of an area has 16 bytes: the MSR's number, a reserved doubleword, and the value.

use crate::cpu::Cpu;
use crate::cpu::vmx::Field;
use crate::exec::{Env, msr};

/// MSRs that no area may name: IA32_SMM_MONITOR_CTL, IA32_SMBASE, and those of the local APIC in x2APIC mode.
fn refused(number: u32) -> bool {
    matches!(number, 0x9b | 0x9e | 0x800..=0x8ff)
}

/// The most entries of an area that IA32_VMX_MISC recommends (bits 27-25, which are 0). Beyond these the manual
/// leaves open what happens; here the next entry fails.
const MOST: u32 = 512;

/// Calls `each` for the entries of an area, with their addresses, up to the first one that it refuses.
fn for_each<E: Env>(
    cpu: &mut Cpu,
    env: &mut E,
    (count, address): (Field, Field),
    mut each: impl FnMut(&mut Cpu, &mut E, u32, u32) -> Option<()>,
) -> Result<(), u32> {
    let Some(vmx) = &cpu.vmx else { return Ok(()) };
    let (count, address) = (vmx.vmcs.get32(count), vmx.vmcs.get32(address));
    for n in 0..count {
        if n == MOST {
            return Err(n + 1);
        }
        let at = address.wrapping_add(16 * n);
        let number = env.read_physical(cpu, at);
        let reserved = env.read_physical(cpu, at.wrapping_add(4));
        let done = if reserved != 0 || refused(number) { None } else { each(cpu, env, number, at) };
        done.ok_or(n + 1)?;
    }
    Ok(())
}

/// Loads the MSRs of an area.
///
/// # Errors
/// The number of the first entry that cannot be loaded, from 1.
pub(super) fn load<E: Env>(cpu: &mut Cpu, env: &mut E, area: (Field, Field)) -> Result<(), u32> {
    for_each(cpu, env, area, |cpu, env, number, at| {
        let low = env.read_physical(cpu, at.wrapping_add(8));
        let high = env.read_physical(cpu, at.wrapping_add(12));
        msr::write(cpu, env, number, u64::from(low) | u64::from(high) << 32).ok()
    })
}

/// Stores MSRs into an area.
///
/// # Errors
/// The number of the first entry that cannot be stored, from 1.
pub(super) fn store<E: Env>(cpu: &mut Cpu, env: &mut E, area: (Field, Field)) -> Result<(), u32> {
    for_each(cpu, env, area, |cpu, env, number, at| {
        let value = msr::read(cpu, number)?;
        env.write_physical(cpu, at.wrapping_add(8), value as u32);
        env.write_physical(cpu, at.wrapping_add(12), (value >> 32) as u32);
        Some(())
    })
}
