//! Model-specific registers (SDM vol. 4).

use super::Env;
use crate::cpu::control::{APIC_ENABLE, APIC_FIRST, APIC_PAGE, EFER_NXE, MISC_LIMIT_CPUID, MISC_XD_DISABLE};
use crate::cpu::{Cpu, Fault, Features};

const IA32_TSC: u32 = 0x10;
const IA32_PLATFORM_ID: u32 = 0x17;
const IA32_APIC_BASE: u32 = 0x1b;
const IA32_BIOS_SIGN_ID: u32 = 0x8b;
const IA32_FEATURE_CONTROL: u32 = 0x3a;
const IA32_SYSENTER_CS: u32 = 0x174;
const IA32_SYSENTER_ESP: u32 = 0x175;
const IA32_SYSENTER_EIP: u32 = 0x176;
const IA32_MISC_ENABLE: u32 = 0x1a0;
/// Which of its bits there are, the capabilities of VMX say: for WRMSR and for VM entries alike.
pub const IA32_DEBUGCTL: u32 = 0x1d9;
const IA32_PAT: u32 = 0x277;
const IA32_EFER: u32 = 0xc000_0080;

/// IA32_MISC_ENABLE: what no write changes. Branch trace storage is unavailable.
const MISC_FIXED: u64 = 1 << 11;

/// IA32_FEATURE_CONTROL: locked until a reset, and VMX outside of SMX operation (SDM vol. 3, 23.7).
const FEATURE_LOCK: u32 = 1;
const FEATURE_VMX: u32 = 1 << 2;

/// The time-stamp counter: one count per tick of guest time, with the offset of non-root operation.
pub fn tsc(cpu: &Cpu) -> u64 {
    let offset = cpu.vmx.as_ref().map_or(0, |vmx| vmx.tsc_offset());
    cpu.now.wrapping_add(cpu.msrs.tsc_offset).wrapping_add(offset)
}

/// The value of register `number`, if there is one.
pub fn read(cpu: &Cpu, number: u32) -> Option<u64> {
    Some(match number {
        IA32_TSC => tsc(cpu),
        // No microcode, no platform strapping.
        IA32_PLATFORM_ID | IA32_BIOS_SIGN_ID => 0,
        IA32_APIC_BASE if cpu.msrs.apic_base != 0 => u64::from(cpu.msrs.apic_base),
        IA32_SYSENTER_CS => u64::from(cpu.msrs.sysenter_cs),
        IA32_SYSENTER_ESP => u64::from(cpu.msrs.sysenter_esp),
        IA32_SYSENTER_EIP => u64::from(cpu.msrs.sysenter_eip),
        IA32_FEATURE_CONTROL if cpu.vmx.is_some() => u64::from(cpu.msrs.feature_control),
        IA32_MISC_ENABLE if cpu.features.contains(Features::MISC_ENABLE) => MISC_FIXED | cpu.msrs.misc_enable,
        IA32_DEBUGCTL if cpu.vmx.is_some() => u64::from(cpu.msrs.debugctl),
        IA32_PAT if cpu.features.contains(Features::PAT) => cpu.msrs.pat,
        IA32_EFER if cpu.has_nx() => u64::from(cpu.msrs.efer),
        _ => return cpu.vmx.as_ref()?.caps.msr(number),
    })
}

/// Writes register `number`.
///
/// # Errors
/// #GP(0) where there is none, or where it cannot have this value.
pub fn write<E: Env>(cpu: &mut Cpu, env: &mut E, number: u32, value: u64) -> Result<(), Fault> {
    let low = value as u32;
    match number {
        // The P6 writes the lower half and clears the upper one (SDM vol. 3, 17.17.3).
        IA32_TSC => cpu.msrs.tsc_offset = u64::from(low).wrapping_sub(cpu.now),
        IA32_APIC_BASE if cpu.msrs.apic_base != 0 => set_apic_base(cpu, env, value)?,
        IA32_BIOS_SIGN_ID => {}
        IA32_SYSENTER_CS => cpu.msrs.sysenter_cs = low,
        IA32_SYSENTER_ESP => cpu.msrs.sysenter_esp = low,
        IA32_SYSENTER_EIP => cpu.msrs.sysenter_eip = low,
        IA32_FEATURE_CONTROL if cpu.vmx.is_some() => set_feature_control(cpu, value)?,
        IA32_MISC_ENABLE if cpu.features.contains(Features::MISC_ENABLE) => set_misc_enable(cpu, value)?,
        IA32_DEBUGCTL => {
            let exists = cpu.vmx.as_ref().map(|vmx| u64::from(vmx.caps.debugctl));
            cpu.msrs.debugctl = exists.filter(|bits| value & !bits == 0).map(|_| low).ok_or(Fault::GP0)?;
        }
        IA32_PAT if cpu.features.contains(Features::PAT) && valid_pat(value) => cpu.msrs.pat = value,
        IA32_EFER if cpu.has_nx() => set_efer(cpu, env, value)?,
        _ => return Err(Fault::GP0),
    }
    Ok(())
}

fn set_feature_control(cpu: &mut Cpu, value: u64) -> Result<(), Fault> {
    let known = u64::from(FEATURE_LOCK | FEATURE_VMX);
    if cpu.msrs.feature_control & FEATURE_LOCK != 0 || value & !known != 0 {
        return Err(Fault::GP0);
    }
    cpu.msrs.feature_control = value as u32;
    Ok(())
}

/// IA32_MISC_ENABLE: thermal control, SpeedStep and the other switches for which nothing is built do not exist.
fn set_misc_enable(cpu: &mut Cpu, value: u64) -> Result<(), Fault> {
    let known = MISC_FIXED | MISC_LIMIT_CPUID | MISC_XD_DISABLE;
    if value & !known != 0 {
        return Err(Fault::GP0);
    }
    cpu.msrs.misc_enable = value & !MISC_FIXED;
    Ok(())
}

/// Whether `value` is one that IA32_PAT can hold: memory types 0, 1 and 4 to 7 (SDM vol. 3, 11.12.2).
pub fn valid_pat(value: u64) -> bool {
    value.to_le_bytes().iter().all(|entry| matches!(entry, 0 | 1 | 4..=7))
}

/// IA32_EFER: a 32-bit processor has no other bit than NXE. What the TLB holds was made with the old one.
fn set_efer<E: Env>(cpu: &mut Cpu, env: &mut E, value: u64) -> Result<(), Fault> {
    if value & !u64::from(EFER_NXE) != 0 {
        return Err(Fault::GP0);
    }
    if cpu.msrs.efer != value as u32 {
        cpu.msrs.efer = value as u32;
        env.flush_tlb(true);
    }
    Ok(())
}

/// IA32_APIC_BASE: the page in bits 31-12, enable in bit 11; bit 8, this is the first processor, stays. There
/// is no memory above 4 GiB to move it to.
fn set_apic_base<E: Env>(cpu: &mut Cpu, env: &mut E, value: u64) -> Result<(), Fault> {
    let reserved = !u64::from(APIC_PAGE | APIC_ENABLE | APIC_FIRST);
    if value & reserved != 0 {
        return Err(Fault::GP0);
    }
    cpu.msrs.apic_base = value as u32 | APIC_FIRST;
    env.moved_apic(cpu);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Model;
    use crate::exec::testing::World;

    fn yonah() -> (Cpu, World) {
        (Cpu::of(Model::Yonah), World::new())
    }

    #[test]
    fn pat_holds_memory_types_that_exist() {
        let (mut cpu, mut world) = yonah();
        assert_eq!(read(&cpu, IA32_PAT), Some(0x0007_0406_0007_0406));
        assert_eq!(write(&mut cpu, &mut world, IA32_PAT, 0x0001_0406_0507_0406), Ok(()));
        assert_eq!(read(&cpu, IA32_PAT), Some(0x0001_0406_0507_0406));
        for bad in [2, 3, 8, 0x80, 2 << 56] {
            assert_eq!(write(&mut cpu, &mut world, IA32_PAT, bad), Err(Fault::GP0), "{bad:x}");
        }
        assert_eq!(read(&Cpu::new(), IA32_PAT), None);
        assert_eq!(write(&mut Cpu::new(), &mut world, IA32_PAT, 0), Err(Fault::GP0));
    }

    #[test]
    fn misc_enable_has_the_switches_of_what_is_built() {
        let (mut cpu, mut world) = yonah();
        assert_eq!(read(&Cpu::new(), IA32_MISC_ENABLE), None);
        let reset = read(&cpu, IA32_MISC_ENABLE).unwrap();
        assert_eq!(write(&mut cpu, &mut world, IA32_MISC_ENABLE, reset | 1 << 3), Err(Fault::GP0));
        assert_eq!(write(&mut cpu, &mut world, IA32_MISC_ENABLE, reset | MISC_XD_DISABLE), Ok(()));
        assert_eq!(read(&cpu, IA32_MISC_ENABLE), Some(reset | MISC_XD_DISABLE));
        assert_eq!(read(&cpu, IA32_EFER), None);
        assert_eq!(write(&mut cpu, &mut world, IA32_EFER, EFER_NXE.into()), Err(Fault::GP0));
    }
}
