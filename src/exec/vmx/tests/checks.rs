//! The checks of a VM entry, one by one: each names the field that is wrong.

use super::{Lab, VMCS_REGION, VMLAUNCH, secondary};
use crate::cpu::vmx::{EntryControls, Field};
use crate::exec::msr;
use crate::exec::vmx::entry::first_failure;

/// One change each that makes an entry fail, with the field that is named.
#[test]
fn each_check_of_the_entry_finds_its_field() {
    type Change = fn(&mut Lab);
    let cases: &[(Change, Field)] = &[
        (
            |l| {
                l.set(Field::PinControls, 0);
            },
            Field::PinControls,
        ),
        (
            |l| {
                l.add(Field::PinControls, 1 << 9);
            },
            Field::PinControls,
        ),
        (
            |l| {
                l.add(Field::PinControls, 1 << 5);
            },
            Field::PinControls,
        ),
        (
            |l| {
                l.set(Field::PrimaryControls, 0);
            },
            Field::PrimaryControls,
        ),
        (
            |l| {
                l.add(Field::PrimaryControls, 1 << 22);
            },
            Field::PrimaryControls,
        ),
        (
            |l| {
                l.set(Field::Cr3TargetCount, 5);
            },
            Field::Cr3TargetCount,
        ),
        (
            |l| {
                l.add(Field::PrimaryControls, 1 << 25).set(Field::IoBitmapA, 1);
            },
            Field::IoBitmapA,
        ),
        (
            |l| {
                l.add(Field::PrimaryControls, 1 << 25).set(Field::IoBitmapB, 1 << 40);
            },
            Field::IoBitmapB,
        ),
        (
            |l| {
                l.add(Field::PrimaryControls, 1 << 28).set(Field::MsrBitmaps, 0x800);
            },
            Field::MsrBitmaps,
        ),
        (
            |l| {
                l.add(Field::PrimaryControls, 1 << 21).set(Field::VirtualApic, 4);
            },
            Field::VirtualApic,
        ),
        (
            |l| {
                l.add(Field::PrimaryControls, 1 << 21).set(Field::TprThreshold, 16);
            },
            Field::TprThreshold,
        ),
        (
            |l| {
                l.add(Field::PrimaryControls, 1 << 21).set(Field::TprThreshold, 3);
            },
            Field::TprThreshold,
        ),
        (
            |l| {
                secondary(l, 1 << 20);
            },
            Field::SecondaryControls,
        ),
        (
            |l| {
                secondary(l, 1 << 7);
            },
            Field::SecondaryControls,
        ),
        (
            |l| {
                secondary(l, 1 << 5);
            },
            Field::Vpid,
        ),
        (
            |l| {
                secondary(l, 2);
            },
            Field::EptPointer,
        ),
        (
            |l| {
                secondary(l, 2).set(Field::EptPointer, 0x1_2006);
            },
            Field::EptPointer,
        ),
        (
            |l| {
                secondary(l, 2).set(Field::EptPointer, 0x1_2f9e);
            },
            Field::EptPointer,
        ),
        (
            |l| {
                l.set(Field::ExitControls, 0);
            },
            Field::ExitControls,
        ),
        (
            |l| {
                l.add(Field::ExitControls, 1 << 22);
            },
            Field::ExitControls,
        ),
        (
            |l| {
                l.set(Field::ExitMsrStoreCount, 1).set(Field::ExitMsrStore, 8);
            },
            Field::ExitMsrStore,
        ),
        (
            |l| {
                l.set(Field::ExitMsrLoadCount, 1).set(Field::ExitMsrLoad, 1 << 36);
            },
            Field::ExitMsrLoad,
        ),
        (
            |l| {
                l.set(Field::EntryMsrLoadCount, 2).set(Field::EntryMsrLoad, 0xffff_fff0);
            },
            Field::EntryMsrLoad,
        ),
        (
            |l| {
                l.set(Field::EntryControls, 0);
            },
            Field::EntryControls,
        ),
        (
            |l| {
                l.set(Field::EntryInterruption, 0x8000_0120);
            },
            Field::EntryInterruption,
        ),
        (
            |l| {
                l.set(Field::EntryInterruption, 0x8000_0203);
            },
            Field::EntryInterruption,
        ),
        (
            |l| {
                l.set(Field::EntryInterruption, 0x8000_0320);
            },
            Field::EntryInterruption,
        ),
        (
            |l| {
                l.set(Field::EntryInterruption, 0x8000_030e);
            },
            Field::EntryInterruption,
        ),
        (
            |l| {
                l.set(Field::EntryInterruption, 0x8000_0b06);
            },
            Field::EntryInterruption,
        ),
        (
            |l| {
                l.set(Field::EntryInterruption, 0x8000_1306);
            },
            Field::EntryInterruption,
        ),
        (
            |l| {
                l.set(Field::EntryInterruption, 0x8000_0b0e).set(Field::EntryErrorCode, 0x8000);
            },
            Field::EntryErrorCode,
        ),
        (
            |l| {
                l.set(Field::EntryInterruption, 0x8000_0430);
            },
            Field::EntryLength,
        ),
        (
            |l| {
                l.set(Field::HostCr0, 0x31);
            },
            Field::HostCr0,
        ),
        (
            |l| {
                l.set(Field::HostCr4, 0);
            },
            Field::HostCr4,
        ),
        (
            |l| {
                l.set(Field::HostDs, 0x13);
            },
            Field::HostDs,
        ),
        (
            |l| {
                l.set(Field::HostGs, 0x14);
            },
            Field::HostGs,
        ),
        (
            |l| {
                l.set(Field::HostCs, 0);
            },
            Field::HostCs,
        ),
        (
            |l| {
                l.set(Field::HostSs, 0);
            },
            Field::HostSs,
        ),
        (
            |l| {
                l.set(Field::HostTr, 0);
            },
            Field::HostTr,
        ),
        (
            |l| {
                l.set(Field::GuestCr0, 0x8000_0030);
            },
            Field::GuestCr0,
        ),
        (
            |l| {
                l.set(Field::GuestCr4, 0);
            },
            Field::GuestCr4,
        ),
        (
            |l| {
                l.add(Field::EntryControls, 4).set(Field::GuestDebugctl, 0x100);
            },
            Field::GuestDebugctl,
        ),
        (
            |l| {
                l.set(Field::GuestTr, 0x1c);
            },
            Field::GuestTr,
        ),
        (
            |l| {
                l.set(Field::GuestSs, 0x13);
            },
            Field::GuestSs,
        ),
        (
            |l| {
                l.set(Field::GuestRflags, 2 | 1 << 17);
            },
            Field::GuestEsBase,
        ),
        (
            |l| {
                l.set(Field::GuestCsRights, 0xc093);
            },
            Field::GuestCsRights,
        ),
        (
            |l| {
                l.set(Field::GuestCsRights, 0xc0fb);
            },
            Field::GuestCsRights,
        ),
        (
            |l| {
                l.set(Field::GuestCsRights, 0xc08b);
            },
            Field::GuestCsRights,
        ),
        (
            |l| {
                l.set(Field::GuestCsRights, 0xc01b);
            },
            Field::GuestCsRights,
        ),
        (
            |l| {
                l.set(Field::GuestCsRights, 0xc19b);
            },
            Field::GuestCsRights,
        ),
        (
            |l| {
                l.set(Field::GuestCsRights, 0x409b);
            },
            Field::GuestCsRights,
        ),
        (
            |l| {
                l.set(Field::GuestCsLimit, 0x1000);
            },
            Field::GuestCsRights,
        ),
        (
            |l| {
                l.set(Field::GuestSsRights, 0xc091);
            },
            Field::GuestSsRights,
        ),
        (
            |l| {
                l.set(Field::GuestDsRights, 0xc092);
            },
            Field::GuestDsRights,
        ),
        (
            |l| {
                l.set(Field::GuestEsRights, 0xc099);
            },
            Field::GuestEsRights,
        ),
        (
            |l| {
                l.set(Field::GuestFs, 0x13);
            },
            Field::GuestFsRights,
        ),
        (
            |l| {
                l.set(Field::GuestTrRights, 0x1_008b);
            },
            Field::GuestTrRights,
        ),
        (
            |l| {
                l.set(Field::GuestTrRights, 0x89);
            },
            Field::GuestTrRights,
        ),
        (
            |l| {
                l.set(Field::GuestTrRights, 0x0b);
            },
            Field::GuestTrRights,
        ),
        (
            |l| {
                l.set(Field::GuestLdtrRights, 0x83);
            },
            Field::GuestLdtrRights,
        ),
        (
            |l| {
                l.set(Field::GuestLdtrRights, 0x82).set(Field::GuestLdtr, 4);
            },
            Field::GuestLdtr,
        ),
        (
            |l| {
                l.set(Field::GuestGdtrLimit, 0x1_0000);
            },
            Field::GuestGdtrLimit,
        ),
        (
            |l| {
                l.set(Field::GuestIdtrLimit, 0x1_0000);
            },
            Field::GuestIdtrLimit,
        ),
        (
            |l| {
                l.set(Field::GuestRflags, 0);
            },
            Field::GuestRflags,
        ),
        (
            |l| {
                l.set(Field::GuestRflags, 0xa);
            },
            Field::GuestRflags,
        ),
        (
            |l| {
                l.set(Field::EntryInterruption, 0x8000_0030);
            },
            Field::GuestRflags,
        ),
        (
            |l| {
                l.set(Field::Activity, 4);
            },
            Field::Activity,
        ),
        (
            |l| {
                l.set(Field::Activity, 1).set(Field::EntryInterruption, 0x8000_0306);
            },
            Field::Activity,
        ),
        (
            |l| {
                l.set(Field::Interruptibility, 16);
            },
            Field::Interruptibility,
        ),
        (
            |l| {
                l.set(Field::Interruptibility, 3);
            },
            Field::Interruptibility,
        ),
        (
            |l| {
                l.set(Field::Interruptibility, 1);
            },
            Field::Interruptibility,
        ),
        (
            |l| {
                l.set(Field::Interruptibility, 4);
            },
            Field::Interruptibility,
        ),
        (
            |l| {
                l.set(Field::PendingDebug, 0x10);
            },
            Field::PendingDebug,
        ),
        (
            |l| {
                l.set(Field::Interruptibility, 2).set(Field::PendingDebug, 0x4000);
            },
            Field::PendingDebug,
        ),
        (
            |l| {
                l.set(Field::LinkPointer, u64::from(VMCS_REGION));
            },
            Field::LinkPointer,
        ),
        (
            |l| {
                l.set(Field::LinkPointer, 0x3_0000);
            },
            Field::LinkPointer,
        ),
        (
            |l| {
                l.set(Field::LinkPointer, 5);
            },
            Field::LinkPointer,
        ),
    ];
    for (n, (change, field)) in cases.iter().enumerate() {
        let mut lab = Lab::root();
        change(&mut lab);
        let found = first_failure(&lab.cpu, &mut lab.world);
        assert_eq!(found.map(|failure| failure.field), Some(*field), "case {n}: {found:?}");
    }
    let mut lab = Lab::root();
    assert_eq!(first_failure(&lab.cpu, &mut lab.world), None);
}

/// The processor has one set of bits of IA32_DEBUGCTL: what WRMSR takes, a VM entry loads, and no other.
#[test]
fn wrmsr_and_vm_entries_take_the_same_bits_of_debugctl() {
    for bits in [0, 1, 3] {
        for bit in (0..64).map(|n| 1u64 << n) {
            let mut lab = Lab::root();
            lab.vmx().caps.debugctl = bits;
            let written = msr::write(&mut lab.cpu, &mut lab.world, msr::IA32_DEBUGCTL, bit);
            assert_eq!(written.is_ok(), bit & u64::from(bits) != 0, "{bits:#x}: WRMSR of {bit:#x}");
            lab.add(Field::EntryControls, EntryControls::LOAD_DEBUG.bits()).set(Field::GuestDebugctl, bit);
            let refused = first_failure(&lab.cpu, &mut lab.world).map(|failure| failure.field);
            assert_eq!(
                refused,
                written.is_err().then_some(Field::GuestDebugctl),
                "{bits:#x}: an entry with {bit:#x}"
            );
            if refused.is_none() {
                lab.cpu.msrs.debugctl = 0;
                lab.run(VMLAUNCH);
                assert_eq!(msr::read(&lab.cpu, msr::IA32_DEBUGCTL), Some(bit));
            }
        }
    }
}
