//! The local APIC as the processor sees it: its registers, its interrupts, and how it is turned off (SDM vol. 3,
//! chapter 10).

use crate::common::apic;
use subring::cpu::gpr;
use subring::machine::{Limits, Machine, Outcome};
use subring::vmm;

const APIC_FEATURE: u32 = 1 << 9;

/// Runs `code` to its HLT; the machine then.
fn halted(code: &[u8]) -> Machine {
    let mut m = apic::machine(&[code, &[0xf4]].concat());
    assert_eq!(m.run(Limits::instructions(1000)), Outcome::HaltedForever);
    m
}

#[test]
fn the_timer_interrupts_at_the_bus_clock() {
    let mut m = apic::ticking();
    assert_eq!(m.run(Limits::until(100_000)), Outcome::Reached);
    let [timer, nmis, _] = apic::counts(&m);
    assert_eq!((timer, nmis), (99, 100), "the first NMI sent one more");
    assert_eq!((m.counts.interrupts[&0x40], m.counts.interrupts[&2]), (99, 100));
}

#[test]
fn an_nmi_needs_no_if_and_a_second_one_waits_for_iret() {
    let mut m = apic::interrupting_itself();
    assert_eq!(m.run(Limits::instructions(1000)), Outcome::HaltedForever);
    assert_eq!(apic::counts(&m), [0, 2, 1]);
}

#[test]
fn the_base_register_turns_it_off_and_on() {
    // MOV ECX, 1Bh; RDMSR; MOV ESI, EAX; AND AH, F7h; WRMSR; MOV EAX, 1; CPUID; MOV EDI, EDX; MOV EBX, [FEE00030]
    let off = [
        &[0xb9, 0x1b, 0, 0, 0, 0x0f, 0x32, 0x89, 0xc6, 0x80, 0xe4, 0xf7, 0x0f, 0x30][..],
        &[0xb8, 1, 0, 0, 0, 0x0f, 0xa2, 0x89, 0xd7, 0x8b, 0x1d, 0x30, 0, 0xe0, 0xfe],
    ]
    .concat();
    let m = halted(&off);
    assert_eq!(m.cpu.regs[gpr::ESI], 0xfee0_0900);
    assert_eq!(m.cpu.regs[gpr::EDI] & APIC_FEATURE, 0);
    assert_eq!(m.cpu.regs[gpr::EBX], !0, "nothing answers there");
    // The same but moved to FED00000, where it is still on.
    let moved = [
        &[0xb9, 0x1b, 0, 0, 0, 0x0f, 0x32, 0xb8, 0, 0x08, 0xd0, 0xfe, 0x0f, 0x30][..],
        &[0xb8, 1, 0, 0, 0, 0x0f, 0xa2, 0x89, 0xd7, 0x8b, 0x1d, 0x30, 0, 0xd0, 0xfe],
    ]
    .concat();
    let m = halted(&moved);
    assert_eq!(m.cpu.regs[gpr::EDI] & APIC_FEATURE, APIC_FEATURE);
    assert_eq!(m.cpu.regs[gpr::EBX], 0x4_0014);
    assert_eq!(m.cpu.msrs.apic_base, 0xfed0_0900, "it stays the first processor");
}

#[test]
fn a_reserved_bit_of_the_base_register_is_refused() {
    // MOV ECX, 1Bh; MOV EAX, FEE00C00h; XOR EDX, EDX; WRMSR
    let mut m = apic::machine(&[0xb9, 0x1b, 0, 0, 0, 0xb8, 0, 0x0c, 0xe0, 0xfe, 0x31, 0xd2, 0x0f, 0x30]);
    assert!(
        matches!(m.run(Limits::instructions(1000)), Outcome::TripleFault(_)),
        "there is no handler for #GP"
    );
    assert_eq!((m.counts.exceptions[13], m.cpu.msrs.apic_base), (1, 0xfee0_0900));
}

#[test]
fn a_saved_machine_goes_on_to_the_same_interrupts() {
    let mut m = apic::ticking();
    m.run(Limits::until(31_234));
    let mut other = apic::machine(&[]);
    other.restore(&m.save()).unwrap();
    for m in [&mut m, &mut other] {
        assert_eq!(m.run(Limits::until(77_777)), Outcome::Reached);
    }
    assert_eq!(m.state_hash(), other.state_hash());
    assert_eq!(apic::counts(&m), apic::counts(&other));
}

#[test]
fn a_kernel_under_the_trapping_monitor_has_the_same_interrupts() {
    let (mut bare, mut guest) = (apic::ticking(), apic::ticking());
    vmm::install(&mut guest, &vmm::Config::default()).unwrap();
    for m in [&mut bare, &mut guest] {
        assert_eq!(m.run(Limits::until(50_000)), Outcome::Reached);
    }
    assert_eq!(apic::counts(&guest), apic::counts(&bare));
    assert_eq!(guest.counts.interrupts, bare.counts.interrupts);
}
