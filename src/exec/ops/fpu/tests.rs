//! What the host's processor cannot judge: availability, both ways of reporting errors, precise memory
//! faults, the formats of real mode, FXSAVE. The results themselves are judged in tests/host_oracle.

use crate::cpu::fpu::status::{ES, IE, ZE};
use crate::cpu::{Cpu, Cr0, F80, Fault};
use crate::decode::SegReg;
use crate::exec::testing::{World, flat, real, step, v86};

const FLD1: &[u8] = &[0xd9, 0xe8];
const FLDZ: &[u8] = &[0xd9, 0xee];
const FDIVP: &[u8] = &[0xde, 0xf9];
const FNINIT: &[u8] = &[0xdb, 0xe3];
const FNCLEX: &[u8] = &[0xdb, 0xe2];
const WAIT: &[u8] = &[0x9b];

/// After FNINIT.
fn ready(mut cpu: Cpu) -> (Cpu, World) {
    let mut world = World::new();
    step(&mut cpu, &mut world, FNINIT).unwrap();
    (cpu, world)
}

fn run(cpu: &mut Cpu, world: &mut World, code: &[&[u8]]) {
    for insn in code {
        step(cpu, world, insn).unwrap_or_else(|fault| panic!("{insn:x?}: {fault}"));
    }
}

/// With a divide by zero pending: unmasked, and met.
fn pending(cpu: Cpu) -> (Cpu, World) {
    let (mut cpu, mut world) = ready(cpu);
    cpu.fpu.set_control(0x37b);
    run(&mut cpu, &mut world, &[FLD1, FLDZ, FDIVP]);
    assert_eq!(cpu.fpu.status() & (ES | ZE), ES | ZE);
    assert_eq!(cpu.fpu.st(0), F80::ZERO, "no result was stored");
    (cpu, world)
}

#[test]
fn nm_as_cr0_says() {
    let table: [(Cr0, bool, bool); 5] = [
        (Cr0::EM, true, false),
        (Cr0::TS, true, false),
        (Cr0::MP, false, false),
        (Cr0::MP | Cr0::TS, true, true),
        (Cr0::EM | Cr0::MP, true, false),
    ];
    for (bits, escapes, wait) in table {
        let (mut cpu, mut world) = ready(flat(3));
        cpu.cr0 |= bits;
        let nm = |faults| if faults { Err(Fault::NM) } else { Ok(()) };
        for code in [FLD1, FNINIT, &[0xdf, 0xe0], &[0x0f, 0xae, 0x06]] {
            let expected = if code[0] == 0x0f && !escapes { Ok(()) } else { nm(escapes) };
            assert_eq!(step(&mut cpu, &mut world, code), expected, "{bits:?} {code:x?}");
        }
        assert_eq!(step(&mut cpu, &mut world, WAIT), nm(wait), "{bits:?} WAIT");
        let undefined = if escapes { Fault::NM } else { Fault::UD };
        assert_eq!(step(&mut cpu, &mut world, &[0xd9, 0xd1]), Err(undefined));
    }
}

#[test]
fn with_ne_the_next_waiting_instruction_raises_mf() {
    let (mut cpu, mut world) = pending(flat(0));
    cpu.cr0 |= Cr0::NE;
    for waiting in [FLD1, WAIT, FDIVP, &[0xd9, 0x2e]] {
        assert_eq!(step(&mut cpu, &mut world, waiting), Err(Fault::MF));
    }
    run(&mut cpu, &mut world, &[&[0xdf, 0xe0], &[0xd9, 0x3e], FNCLEX, WAIT, FLD1]);
    assert_eq!(cpu.reg(0) as u16 & (ES | ZE), ES | ZE);
}

#[test]
fn without_ne_it_stands_still_until_the_error_is_cleared() {
    let (mut cpu, mut world) = pending(flat(0));
    let at = cpu.eip;
    for waiting in [FLD1, WAIT] {
        run(&mut cpu, &mut world, &[waiting, waiting]);
        assert_eq!((cpu.eip, cpu.fpu.st(0)), (at, F80::ZERO));
    }
    assert!(world.ferr);
    world.ignne = true;
    run(&mut cpu, &mut world, &[FLD1]);
    assert_eq!((cpu.eip, cpu.fpu.st(0)), (at + 2, F80::ONE));
    run(&mut cpu, &mut world, &[FNCLEX]);
    assert!(!world.ferr);
}

/// IGNNE# lets FLDCW by, which masks what is pending.
#[test]
fn ferr_falls_when_the_error_is_masked() {
    let (mut cpu, mut world) = pending(flat(0));
    run(&mut cpu, &mut world, &[WAIT]);
    assert!(world.ferr);
    world.ignne = true;
    cpu.regs[6] = 0x5000;
    world.put(0x5000, &0x37fu16.to_le_bytes());
    run(&mut cpu, &mut world, &[&[0xd9, 0x2e]]); // FLDCW [ESI]
    assert!(!world.ferr && !cpu.fpu.pending());
}

#[test]
fn a_memory_fault_leaves_the_x87_as_it_was() {
    let (mut cpu, mut world) = ready(flat(3));
    run(&mut cpu, &mut world, &[FLD1]);
    world.absent = Some(0x5000);
    cpu.regs[6] = 0x4ff8;
    let before = cpu.fpu.clone();
    // fld m80, fstp m80, fnsave, frstor, fadd m64 at the page
    for code in [&[0xdb, 0x2e][..], &[0xdb, 0x3e], &[0xdd, 0x36], &[0xdd, 0x26], &[0xdc, 0x46, 4]] {
        let fault = step(&mut cpu, &mut world, code).expect_err("the page is absent");
        assert_eq!(fault.address().map(|at| at & !0xfff), Some(0x5000), "{code:x?}");
        assert_eq!(cpu.fpu, before);
    }
    assert_eq!(world.memory[0x4ff8..0x5000], [0; 8], "nothing was written of what crosses the page");
}

#[test]
fn real_mode_keeps_linear_addresses() {
    for cpu in [real(), v86(3)] {
        let (mut cpu, mut world) = ready(cpu);
        let segment = crate::cpu::Segment::real(0x1234);
        cpu.set_seg(SegReg::Ds, segment);
        cpu.regs[6] = 0x5678;
        run(&mut cpu, &mut world, &[&[0xd9, 0x04]]); // fld dword [si]
        cpu.set_seg(SegReg::Ds, crate::cpu::Segment::real(0));
        cpu.regs[7] = 0x2000;
        run(&mut cpu, &mut world, &[&[0xd9, 0x35]]); // fnstenv [di]
        let words: Vec<u16> = (0..7).map(|n| world.word(0x2000 + 2 * n)).collect();
        let fip = cpu.fpu.last.fip as u16;
        assert_eq!(words, [0x37f, 0x3800, 0x7fff, fip, 0x104, 0x79b8, 0x1000]);
        run(&mut cpu, &mut world, &[&[0x66, 0xd9, 0x35], FNINIT, &[0x66, 0xd9, 0x25], &[0xd9, 0x35]]);
        assert_eq!((0..7).map(|n| world.word(0x2000 + 2 * n)).collect::<Vec<_>>(), words);
    }
}

#[test]
fn environments_end_at_the_end_of_the_segment() {
    let (mut cpu, mut world) = ready(real());
    cpu.regs[7] = 0xfff8;
    run(&mut cpu, &mut world, &[&[0xd9, 0x35]]); // fnstenv [di]: it goes on at the segment's start
    assert_eq!((world.word(0xfff8), world.word(0)), (0x37f, 0));
    cpu.regs[7] = 0xffff;
    assert_eq!(step(&mut cpu, &mut world, &[0xd9, 0x35]), Err(Fault::GP0));
}

#[test]
fn fxsave_and_fxrstor_are_inverse() {
    let (mut cpu, mut world) = ready(flat(3));
    run(&mut cpu, &mut world, &[FLD1, FLDZ, &[0xd9, 0xeb]]);
    let before = cpu.fpu.clone();
    cpu.regs[6] = 0x3000;
    run(&mut cpu, &mut world, &[&[0x0f, 0xae, 0x06]]);
    assert_eq!((world.memory[0x3004], world.memory[0x30a0]), (0xe0, 0));
    run(&mut cpu, &mut world, &[FNINIT, &[0x0f, 0xae, 0x0e]]);
    assert_eq!(cpu.fpu, before);
    cpu.regs[6] = 0x3008;
    assert_eq!(step(&mut cpu, &mut world, &[0x0f, 0xae, 0x06]), Err(Fault::GP0));
}

#[test]
fn loading_a_state_with_an_unmasked_exception_makes_it_pending() {
    let (mut cpu, mut world) = ready(flat(3));
    cpu.cr0 |= Cr0::NE;
    cpu.regs[6] = 0x3000;
    world.put(0x3000, &[0x7e, 3, 0, 0, IE as u8, 0, 0, 0, 0xff, 0xff]);
    run(&mut cpu, &mut world, &[&[0xd9, 0x26]]); // fldenv [esi]
    assert_eq!(step(&mut cpu, &mut world, FLD1), Err(Fault::MF));
}

#[test]
fn wide_operands_are_aligned_to_eight() {
    use crate::cpu::Eflags;
    let (mut cpu, mut world) = ready(flat(3));
    cpu.cr0 |= Cr0::AM;
    cpu.set_eflags(Eflags::AC);
    for (at, faults) in [(0x3000, false), (0x3004, true), (0x3008, false), (0x3001, true)] {
        cpu.regs[6] = at;
        let expected = if faults { Err(Fault::AC) } else { Ok(()) };
        assert_eq!(step(&mut cpu, &mut world, &[0xdd, 0x06]), expected); // fld qword [esi]
        assert_eq!(step(&mut cpu, &mut world, &[0xdb, 0x3e]), expected); // fstp tword [esi]
    }
    cpu.regs[6] = 0x3004;
    run(&mut cpu, &mut world, &[&[0xdd, 0x36], &[0xdd, 0x26]]); // fnsave, frstor: aligned to four
}
