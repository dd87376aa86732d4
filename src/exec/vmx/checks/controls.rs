//! Checks of the control fields (SDM vol. 3, 26.2.1).

use super::{Checked, Failure, Stage, physical};
use crate::cpu::vmx::{EntryControls, EventType, ExitControls, Field, Pin, Primary, Secondary};

/// The TPR in the virtual-APIC page.
const VIRTUAL_TPR: u32 = 0x80;
/// Bits of the EPT pointer: memory type, walk length, accessed and dirty flags.
const EPT_TYPE: u64 = 7;
const EPT_WALK: u64 = 7 << 3;
const EPT_WALK_4: u64 = 3 << 3;
const EPT_USED: u64 = 1 << 6;
const EPT_RESERVED: u64 = 0xf80;
/// IA32_VMX_EPT_VPID_CAP: memory type UC, memory type WB, accessed and dirty flags.
const CAP_UC: u64 = 1 << 8;
const CAP_WB: u64 = 1 << 14;
const CAP_USED: u64 = 1 << 21;
/// IA32_VMX_MISC: an injected event may have an instruction length of 0.
const MISC_LENGTH_0: u64 = 1 << 30;

pub(super) fn check(on: &mut Checked) -> Result<(), Failure> {
    execution(on).map_err(|failure| failure.of("26.2.1.1"))?;
    exit(on).map_err(|failure| failure.of("26.2.1.2"))?;
    entry(on).map_err(|failure| failure.of("26.2.1.3"))
}

fn ensure(good: bool, field: Field, why: &'static str) -> Result<(), Failure> {
    super::ensure(good, Stage::Controls, field, why)
}

const SETTINGS: &str = "has bits set or clear that this processor does not allow";
const PAGE: &str = "is not the address of a page in physical memory";

// SDM vol. 3, 26.2.1.1
fn execution(on: &mut Checked) -> Result<(), Failure> {
    let (caps, controls) = (on.vmx.caps, on.controls);
    ensure(caps.pin.allow(on.get32(Field::PinControls)), Field::PinControls, SETTINGS)?;
    ensure(caps.primary.allow(on.get32(Field::PrimaryControls)), Field::PrimaryControls, SETTINGS)?;
    if controls.primary.contains(Primary::SECONDARY) {
        let good = caps.secondary.is_some_and(|of| of.allow(on.get32(Field::SecondaryControls)));
        ensure(good, Field::SecondaryControls, SETTINGS)?;
    }
    ensure(on.get32(Field::Cr3TargetCount) <= 4, Field::Cr3TargetCount, "is more than 4")?;
    if controls.primary.contains(Primary::IO_BITMAPS) {
        for field in [Field::IoBitmapA, Field::IoBitmapB] {
            ensure(physical(on.get(field), 4096), field, PAGE)?;
        }
    }
    if controls.primary.contains(Primary::MSR_BITMAPS) {
        ensure(physical(on.get(Field::MsrBitmaps), 4096), Field::MsrBitmaps, PAGE)?;
    }
    if controls.primary.contains(Primary::TPR_SHADOW) {
        tpr_shadow(on)?;
    }
    let nmi = controls.pin.contains(Pin::NMI) || !controls.pin.contains(Pin::VIRTUAL_NMIS);
    ensure(nmi, Field::PinControls, "has \"virtual NMIs\" without \"NMI exiting\", which it needs")?;
    let window = controls.pin.contains(Pin::VIRTUAL_NMIS) || !controls.primary.contains(Primary::NMI_WINDOW);
    ensure(
        window,
        Field::PrimaryControls,
        "has \"NMI-window exiting\" without \"virtual NMIs\" in the pin-based controls, which it needs",
    )?;
    secondary(on)
}

fn tpr_shadow(on: &mut Checked) -> Result<(), Failure> {
    let page = on.get(Field::VirtualApic);
    ensure(physical(page, 4096), Field::VirtualApic, PAGE)?;
    let threshold = on.get32(Field::TprThreshold);
    ensure(threshold & !15 == 0, Field::TprThreshold, "has bits set above bit 3")?;
    if !on.controls.secondary.contains(Secondary::APIC_ACCESSES) {
        let shadow = (on.read)(page as u32 + VIRTUAL_TPR) >> 4 & 15;
        ensure(
            threshold <= shadow,
            Field::TprThreshold,
            "is above bits 7-4 of the TPR in the virtual-APIC page",
        )?;
    }
    Ok(())
}

fn secondary(on: &mut Checked) -> Result<(), Failure> {
    let secondary = on.controls.secondary;
    if secondary.contains(Secondary::APIC_ACCESSES) {
        ensure(physical(on.get(Field::ApicAccess), 4096), Field::ApicAccess, PAGE)?;
    }
    if secondary.contains(Secondary::VPID) {
        ensure(on.get(Field::Vpid) != 0, Field::Vpid, "is 0, which is the host's")?;
    }
    if secondary.contains(Secondary::EPT) {
        return ept_pointer(on);
    }
    let restricted = !secondary.contains(Secondary::UNRESTRICTED);
    ensure(
        restricted,
        Field::SecondaryControls,
        "has \"unrestricted guest\" without \"enable EPT\", which it needs",
    )
}

// SDM vol. 3, 24.6.11
fn ept_pointer(on: &Checked) -> Result<(), Failure> {
    let (pointer, caps) = (on.get(Field::EptPointer), on.vmx.caps.ept_vpid);
    let known = match pointer & EPT_TYPE {
        0 => caps & CAP_UC != 0,
        6 => caps & CAP_WB != 0,
        _ => false,
    };
    let field = Field::EptPointer;
    ensure(
        known,
        field,
        "has a memory type in bits 2-0 that EPT structures cannot have: 6 is write-back, 0 uncacheable",
    )?;
    ensure(
        pointer & EPT_WALK == EPT_WALK_4,
        field,
        "asks for a walk of other than four levels: bits 5-3 must be 3",
    )?;
    let used = pointer & EPT_USED == 0 || caps & CAP_USED != 0;
    ensure(used, field, "asks for accessed and dirty flags, which this processor has not")?;
    ensure(
        pointer & EPT_RESERVED == 0 && pointer >> 32 == 0,
        field,
        "has reserved bits set: 11-7, or an address beyond 4 GiB",
    )
}

/// An MSR area: `count` entries of 16 bytes at an aligned address, within physical memory.
fn msr_area(on: &Checked, count: Field, address: Field) -> Result<(), Failure> {
    let (count, at) = (on.get(count), on.get(address));
    if count == 0 {
        return Ok(());
    }
    ensure(physical(at, 16), address, "is not a multiple of 16 in physical memory")?;
    ensure((at + 16 * count - 1) >> 32 == 0, address, "leads to an area beyond physical memory")
}

// SDM vol. 3, 26.2.1.2
fn exit(on: &Checked) -> Result<(), Failure> {
    ensure(on.vmx.caps.exit.allow(on.get32(Field::ExitControls)), Field::ExitControls, SETTINGS)?;
    let saves = on.controls.exit.contains(ExitControls::SAVE_TIMER);
    let timer = on.controls.pin.contains(Pin::TIMER);
    ensure(timer || !saves, Field::ExitControls, "saves the VMX-preemption timer, which is not activated")?;
    msr_area(on, Field::ExitMsrStoreCount, Field::ExitMsrStore)?;
    msr_area(on, Field::ExitMsrLoadCount, Field::ExitMsrLoad)
}

// SDM vol. 3, 26.2.1.3
fn entry(on: &Checked) -> Result<(), Failure> {
    ensure(on.vmx.caps.entry.allow(on.get32(Field::EntryControls)), Field::EntryControls, SETTINGS)?;
    let management = EntryControls::TO_SMM | EntryControls::NO_DUAL_MONITOR;
    let outside = !on.controls.entry.intersects(management);
    ensure(outside, Field::EntryControls, "is for system-management mode, which does not exist here")?;
    injection(on)?;
    msr_area(on, Field::EntryMsrLoadCount, Field::EntryMsrLoad)
}

/// Bits of the interruption-information field.
const VALID: u32 = 1 << 31;
const HAS_CODE: u32 = 1 << 11;
const RESERVED: u32 = 0x7fff_f000;

fn injection(on: &Checked) -> Result<(), Failure> {
    let field = Field::EntryInterruption;
    let information = on.get32(field);
    if information & VALID == 0 {
        return Ok(());
    }
    let vector = information & 0xff;
    let kind = EventType::of(information >> 8 & 7);
    ensure(
        kind.is_some(),
        field,
        "has a reserved interruption type in bits 10-8: 1 and 7 are none of an event",
    )?;
    let fits = match kind {
        Some(EventType::Nmi) => vector == 2,
        Some(EventType::HardwareException) => vector < 32,
        _ => true,
    };
    ensure(
        fits,
        field,
        "has a vector that does not go with its interruption type: an NMI's is 2, a hardware exception's below 32",
    )?;
    let has_code = information & HAS_CODE != 0;
    ensure(
        has_code == wants_code(on, vector, kind),
        field,
        "has the wrong setting of bit 11, \"deliver error code\": it must be 1 for #DF, #TS, #NP, #SS, #GP, #PF and #AC as \
         hardware exceptions in protected mode, and 0 for all else",
    )?;
    ensure(information & RESERVED == 0, field, "has reserved bits set: 30-12 must be 0")?;
    let code = on.get32(Field::EntryErrorCode);
    ensure(!has_code || code >> 15 == 0, Field::EntryErrorCode, "has bits set above bit 14")?;
    if kind.is_some_and(EventType::has_length) {
        let length = on.get32(Field::EntryLength);
        let least = if on.vmx.caps.misc & MISC_LENGTH_0 != 0 { 0 } else { 1 };
        ensure(
            (least..=15).contains(&length),
            Field::EntryLength,
            "is not the length of an instruction, 1 to 15, which a software interrupt or exception needs",
        )?;
    }
    Ok(())
}

/// Whether the injected event must have an error code: a hardware exception that has one, outside real mode.
fn wants_code(on: &Checked, vector: u32, kind: Option<EventType>) -> bool {
    let unrestricted = on.controls.secondary.contains(Secondary::UNRESTRICTED);
    let protected = !unrestricted || on.get32(Field::GuestCr0) & 1 != 0;
    protected && kind == Some(EventType::HardwareException) && matches!(vector, 8 | 10..=14 | 17)
}
