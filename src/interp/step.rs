//! The careful way: one instruction, with everything that the fast way leaves out (SDM vol. 3, 6.9 and 17.3).

use super::{CodeEnv, Interp, restore_eip, unfinished};
use crate::cpu::control::{DR6_BS, Dr7, Watch};
use crate::cpu::{Cpu, Eflags, Fault, Shadow, Special};

impl<E: CodeEnv> Interp<E> {
    /// Runs the instruction at CS:EIP. The order is the manual's: traps left over from before (a task's T bit), code
    /// breakpoints, fetch, execution, then the traps that are due: data breakpoints and single step.
    ///
    /// RF is clear while the instruction runs (SDM vol. 3, 17.3.1.1), so that what it saves has it clear and what it
    /// loads stays. A single step is noted as pending beforehand: an instruction that delivers an event discards it,
    /// because the handler starts with TF clear (17.3.1.4).
    ///
    /// # Errors
    /// The fault or trap to be delivered.
    pub(crate) fn step(&mut self, cpu: &mut Cpu, env: &mut E) -> Result<(), Fault> {
        tell_careful(cpu, env);
        if cpu.debug_pending != 0 && !cpu.shadow.contains(Shadow::SS) {
            return due_traps(cpu);
        }
        code_breakpoints(cpu)?;
        let bound = self.one(cpu, env)?;
        let insn = bound.insn;

        let old_shadow = std::mem::take(&mut cpu.shadow);
        let resume = cpu.system_flags & Eflags::RF;
        cpu.system_flags -= resume;
        if cpu.system_flags.contains(Eflags::TF) {
            cpu.debug_pending |= DR6_BS;
        }
        env.take_break_hits();
        let start = cpu.eip;
        cpu.eip = start.wrapping_add(u32::from(insn.len));
        if let Err(fault) = (bound.run)(cpu, env, &insn) {
            restore_eip(cpu, &insn);
            cpu.debug_pending &= !DR6_BS;
            cpu.shadow = old_shadow;
            cpu.refresh();
            self.resumed = !resume.is_empty();
            return Err(fault);
        }
        cpu.now += 1;
        cpu.debug_pending |= env.take_break_hits();
        // A REP instruction is one instruction: RF lasts for all of it.
        if unfinished(cpu, &insn, start) {
            cpu.system_flags |= resume;
        }
        if cpu.shadow.contains(Shadow::SS) {
            cpu.debug_pending &= !DR6_BS;
        }
        cpu.refresh();
        tell_careful(cpu, env);
        due_traps(cpu)
    }
}

/// Passes on to the environment whether data accesses must be looked at one by one.
fn tell_careful<E: CodeEnv>(cpu: &Cpu, env: &mut E) {
    let careful = cpu.special.contains(Special::CHECK_DATA);
    if careful != env.checks_each_access() {
        env.check_each_access(careful);
    }
}

/// #DB before the instruction, if a code breakpoint is at it. RF and the shadow of a load of SS hold it off.
fn code_breakpoints(cpu: &Cpu) -> Result<(), Fault> {
    let held_off = cpu.special.intersects(Special::RESUME | Special::SS_SHADOW);
    if held_off || !cpu.special.contains(Special::CODE_BREAK) {
        return Ok(());
    }
    let (at, dr7) = (cpu.linear_eip(), Dr7(cpu.dr[7]));
    let hits = (0..4)
        .filter(|&n| dr7.watch(n) == Watch::Code && cpu.dr[n] == at)
        .fold((0u32, false), |(bits, on), n| (bits | 1 << n, on | dr7.enabled(n)));
    match hits {
        (bits, true) => Err(Fault::debug(bits)),
        _ => Ok(()),
    }
}

/// The traps due after an instruction. A load of SS holds them off by one instruction; its single step is lost.
pub(super) fn due_traps(cpu: &mut Cpu) -> Result<(), Fault> {
    if cpu.debug_pending == 0 || cpu.shadow.contains(Shadow::SS) {
        return Ok(());
    }
    let dr6 = std::mem::take(&mut cpu.debug_pending);
    cpu.refresh();
    Err(Fault::debug(dr6))
}
