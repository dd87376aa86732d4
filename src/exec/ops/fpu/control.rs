//! Control, state and waiting (SDM vol. 1, 8.3.11 to 8.3.13, 10.5).

use super::memory::{read, write};
use super::{available, begin, note, report};
use crate::bus::Width;
use crate::cpu::fpu::status::C1;
use crate::cpu::{Cpu, Cr0, Fault, gpr};
use crate::decode::{FpuOp, Insn, Place};
use crate::exec::bind::binders;
use crate::exec::fpu::image::{self, FX_BYTES, Format};
use crate::exec::operand::ea;
use crate::exec::{Env, Handler};

binders! { i, E;
    Fincstp  => turn,
    Fdecstp  => turn,
    Ffree    => ffree,
    Fnop     => fnop,
    Wait     => wait,
    Fninit   => fninit,
    Fnclex   => fnclex,
    Fldcw    => fldcw,
    Fnstcw   => fnstcw,
    Fnstsw   => fnstsw,
    Fnstenv  => fnstenv,
    Fldenv   => fldenv,
    Fnsave   => fnsave,
    Frstor   => frstor,
    Fxsave   => fxsave,
    Fxrstor  => fxrstor,
    Obsolete => obsolete,
}

// FNOP
fn fnop<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    if begin(cpu, env, i)? {
        note(cpu, i);
    }
    Ok(())
}

// FNENI, FNDISI, FNSETPM
fn obsolete<E: Env>(cpu: &mut Cpu, _: &mut E, _: &Insn) -> Result<(), Fault> {
    available(cpu)
}

// WAIT: TS counts only with MP, and EM does not
fn wait<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    if cpu.cr0.contains(Cr0::MP | Cr0::TS) {
        return Err(Fault::NM);
    }
    if cpu.fpu.pending() {
        report(cpu, env, i)?;
    }
    Ok(())
}

// FINCSTP, FDECSTP: the tags stay
fn turn<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    if begin(cpu, env, i)? {
        note(cpu, i);
        let by = if i.fpu == FpuOp::Fincstp { 1 } else { 7 };
        cpu.fpu.set_top(cpu.fpu.top() + by);
        cpu.fpu.set_codes(C1, 0);
    }
    Ok(())
}

// FFREE ST(i), FFREEP ST(i)
fn ffree<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    if begin(cpu, env, i)? {
        note(cpu, i);
        cpu.fpu.free(i.dst_reg);
        cpu.fpu.set_codes(C1, 0);
        super::pop(&mut cpu.fpu, i.extra);
    }
    Ok(())
}

/// After an instruction that may have taken back what was pending, or masked it: FERR# falls with ES.
fn settle<E: Env>(cpu: &Cpu, env: &mut E, was_pending: bool) {
    if was_pending && !cpu.fpu.pending() && !cpu.cr0.contains(Cr0::NE) {
        env.numeric_error(cpu, false);
    }
}

// FNINIT
fn fninit<E: Env>(cpu: &mut Cpu, env: &mut E, _: &Insn) -> Result<(), Fault> {
    available(cpu)?;
    let pending = cpu.fpu.pending();
    cpu.fpu.init();
    settle(cpu, env, pending);
    Ok(())
}

// FNCLEX
fn fnclex<E: Env>(cpu: &mut Cpu, env: &mut E, _: &Insn) -> Result<(), Fault> {
    available(cpu)?;
    let pending = cpu.fpu.pending();
    cpu.fpu.clear_exceptions();
    settle(cpu, env, pending);
    Ok(())
}

// FLDCW m16
fn fldcw<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    if begin(cpu, env, i)? {
        let mut bytes = [0; 2];
        read(cpu, env, i, &mut bytes)?;
        let pending = cpu.fpu.pending();
        cpu.fpu.set_control(u16::from_le_bytes(bytes));
        settle(cpu, env, pending);
    }
    Ok(())
}

// FNSTCW m16
fn fnstcw<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    available(cpu)?;
    write(cpu, env, i, &cpu.fpu.control().to_le_bytes())
}

// FNSTSW m16, FNSTSW AX
fn fnstsw<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    available(cpu)?;
    let status = cpu.fpu.status();
    if i.dst == Place::Mem {
        return write(cpu, env, i, &status.to_le_bytes());
    }
    cpu.set(gpr::EAX as u8, status);
    Ok(())
}

/// The format that mode and operand size choose.
fn format(cpu: &Cpu, i: &Insn) -> Format {
    Format { wide: i.width != Width::Word, protected: cpu.selectors() }
}

// FNSTENV m14, m28: all exceptions are masked after it
fn fnstenv<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    available(cpu)?;
    let pending = cpu.fpu.pending();
    let bytes = image::environment(&cpu.fpu, format(cpu, i));
    write(cpu, env, i, &bytes)?;
    cpu.fpu.set_control(cpu.fpu.control() | 0x3f);
    settle(cpu, env, pending);
    Ok(())
}

// FLDENV m14, m28
fn fldenv<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    if !begin(cpu, env, i)? {
        return Ok(());
    }
    let (format, mut bytes) = (format(cpu, i), [0; 28]);
    let bytes = &mut bytes[..format.environment()];
    read(cpu, env, i, bytes)?;
    let pending = cpu.fpu.pending();
    image::load_environment(&mut cpu.fpu, bytes, format);
    settle(cpu, env, pending);
    Ok(())
}

// FNSAVE m94, m108: and then FNINIT
fn fnsave<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    available(cpu)?;
    let pending = cpu.fpu.pending();
    let bytes = image::state(&cpu.fpu, format(cpu, i));
    write(cpu, env, i, &bytes)?;
    cpu.fpu.init();
    settle(cpu, env, pending);
    Ok(())
}

// FRSTOR m94, m108
fn frstor<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    if !begin(cpu, env, i)? {
        return Ok(());
    }
    let (format, mut bytes) = (format(cpu, i), [0; 108]);
    let bytes = &mut bytes[..format.state()];
    read(cpu, env, i, bytes)?;
    let pending = cpu.fpu.pending();
    image::load_state(&mut cpu.fpu, bytes, format);
    settle(cpu, env, pending);
    Ok(())
}

/// The area of FXSAVE is 512 bytes, of which the last 352 are left alone; it is aligned to 16.
fn fx_area<E: Env>(cpu: &Cpu, env: &mut E, i: &Insn, write: bool) -> Result<(), Fault> {
    use crate::exec::operand::{readable, writable};
    let check = if write { writable } else { readable };
    let at = check(cpu, i.seg, ea(cpu, i), 512)?;
    if at.0 & 15 != 0 {
        return Err(Fault::GP0);
    }
    env.probe(cpu, at, 512, cpu.user, write)
}

// FXSAVE m512
fn fxsave<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    available(cpu)?;
    fx_area(cpu, env, i, true)?;
    write(cpu, env, i, &image::fx_state(&cpu.fpu))
}

// FXRSTOR m512
fn fxrstor<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    available(cpu)?;
    fx_area(cpu, env, i, false)?;
    let mut bytes = [0; FX_BYTES];
    read(cpu, env, i, &mut bytes)?;
    let pending = cpu.fpu.pending();
    image::load_fx_state(&mut cpu.fpu, &bytes);
    settle(cpu, env, pending);
    Ok(())
}
