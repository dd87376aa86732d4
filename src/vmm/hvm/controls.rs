//! The control structure as the monitor sets it up: what leaves the guest, and why it must.

use crate::addr::MachineAddr;
use crate::cpu::vmx::{EntryControls, ExitControls, Field, Operation, Pin, Primary, Secondary, Vmx, region};
use crate::cpu::{Cr0, Cr4, Vector};
use crate::mem::Ram;

/// The primary controls of every guest. External interrupts are the machine's, ports and MSRs the virtual
/// chips' and processor's; HLT gives the processor back. MONITOR, MWAIT and RDPMC leave the guest because its
/// virtual processor may have none. RDTSC, CLTS, MOV to DR and PAUSE do what they do on the bare machine.
const PRIMARY: Primary = Primary::HLT
    .union(Primary::MWAIT)
    .union(Primary::MONITOR)
    .union(Primary::RDPMC)
    .union(Primary::UNCONDITIONAL_IO);
/// On shadow page tables CR3 is the monitor's.
const SHADOW: Primary = Primary::CR3_LOAD.union(Primary::CR3_STORE).union(Primary::INVLPG);
const NESTED: Secondary = Secondary::EPT.union(Secondary::VPID).union(Secondary::UNRESTRICTED);

/// The guest's identifier among the processor's tagged translations.
const VPID: u32 = 1;

/// CR0 bits that the guest writes without an exit: TS, which a kernel sets and clears at every switch of tasks
/// that use the x87.
pub(super) const GUESTS_CR0: Cr0 = Cr0::TS;

/// Where the monitor goes on after an exit. Nothing is there: exits arrive as values.
const NOWHERE: u32 = 0xffff_0000;

/// Puts `vmx` into root operation with the region at `region` and the control structure at `vmcs`, and fills in
/// all that stays. `host` is an empty page directory. `ept` is the EPT pointer under nested paging.
pub(super) fn set_up(vmx: &mut Vmx, ram: &mut Ram, [region, vmcs, host]: [MachineAddr; 3], ept: Option<u64>) {
    for at in [region, vmcs] {
        ram.write(at.offset(region::REVISION), &vmx.caps.revision().to_le_bytes());
    }
    (vmx.operation, vmx.region, vmx.current) = (Operation::Root, region.0, Some(vmcs.0));
    set_execution(vmx, ept);
    set_host(vmx, host);
}

/// Controls, each with the bits that the processor demands.
fn set_execution(vmx: &mut Vmx, ept: Option<u64>) {
    let primary = PRIMARY | if ept.is_some() { Primary::SECONDARY } else { SHADOW };
    let (caps, vmcs) = (vmx.caps, &mut vmx.vmcs);
    vmcs.set(Field::PinControls, caps.pin.must | Pin::EXTERNAL_INTERRUPT.bits());
    vmcs.set(Field::PrimaryControls, caps.primary.must | primary.bits());
    vmcs.set(Field::ExitControls, caps.exit.must | ExitControls::SAVE_DEBUG.bits());
    vmcs.set(Field::EntryControls, caps.entry.must | EntryControls::LOAD_DEBUG.bits());
    if let Some(pointer) = ept {
        let must = caps.secondary.map_or(0, |secondary| secondary.must);
        vmcs.set(Field::SecondaryControls, must | NESTED.bits());
        vmcs.set(Field::EptPointer, pointer);
        vmcs.set(Field::Vpid, VPID);
    }
    vmcs.set(Field::LinkPointer, u64::MAX);
    vmcs.set(Field::Cr0Mask, !GUESTS_CR0.bits());
    vmcs.set(Field::Cr4Mask, u32::MAX);
}

/// The host's state, for the processor's checks.
fn set_host(vmx: &mut Vmx, directory: MachineAddr) {
    let (caps, vmcs) = (vmx.caps, &mut vmx.vmcs);
    vmcs.set(Field::HostCr0, caps.cr0.must | Cr0::WP.bits());
    vmcs.set(Field::HostCr3, directory.0);
    vmcs.set(Field::HostCr4, caps.cr4.must | Cr4::VMXE.bits());
    vmcs.set(Field::HostCs, 0x08u32);
    vmcs.set(Field::HostTr, 0x10u32);
    for field in [Field::HostSs, Field::HostDs, Field::HostEs] {
        vmcs.set(field, 0x18u32);
    }
    vmcs.set(Field::HostRip, NOWHERE);
}

/// The exceptions that leave the guest. On shadow page tables a page fault may be the monitor's own affair.
/// While the guest's CR0.NE is clear, x87 errors go by way of the board. Real mode that runs in virtual-8086
/// mode handles none by itself.
pub(super) fn exception_bitmap(shadow: bool, numeric: bool, stands_in: bool) -> u32 {
    let bit = |on: bool, vector: Vector| u32::from(on) << vector as u8;
    if stands_in { u32::MAX } else { bit(shadow, Vector::Pf) | bit(!numeric, Vector::Mf) }
}
