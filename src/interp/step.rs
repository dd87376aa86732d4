//! The careful way: one instruction, with everything that the fast way leaves out (SDM vol. 3, 6.9 and 17.3).

use super::{CodeEnv, Interp, restore_eip, unfinished};
use crate::cpu::control::{DR6_BS, Dr7, Watch};
use crate::cpu::{Cpu, Eflags, Fault, Shadow, Special};
use crate::decode::Op;

impl<E: CodeEnv> Interp<E> {
    /// Runs the instruction at CS:EIP. The order is the manual's: code breakpoints, fetch, execution, then the traps
    /// that are due: data breakpoints and single step.
    ///
    /// # Errors
    /// The fault or trap to be delivered.
    pub(crate) fn step(&mut self, cpu: &mut Cpu, env: &mut E) -> Result<(), Fault> {
        self.tell_careful(cpu, env);
        code_breakpoints(cpu)?;
        let bound = self.one(cpu, env)?;
        let insn = bound.insn;

        let old_shadow = std::mem::take(&mut cpu.shadow);
        let stepping = cpu.system_flags.contains(Eflags::TF);
        let resume = cpu.system_flags.contains(Eflags::RF);
        env.take_break_hits();
        let start = cpu.eip;
        cpu.eip = start.wrapping_add(u32::from(insn.len));
        if let Err(fault) = (bound.run)(cpu, env, &insn) {
            restore_eip(cpu, &insn);
            cpu.shadow = old_shadow;
            cpu.refresh();
            return Err(fault);
        }
        cpu.switched_task = false;
        cpu.now += 1;
        cpu.debug_pending |= env.take_break_hits();
        // RF lasts for one instruction; one that loads EFLAGS has set it for the next.
        let loads_flags = matches!(insn.op, Op::Iret);
        if resume && !loads_flags && !unfinished(cpu, &insn, start) {
            cpu.system_flags -= Eflags::RF;
        }
        cpu.refresh();
        self.tell_careful(cpu, env);
        due_traps(cpu, stepping && !entered_handler(cpu, insn.op))
    }

    /// Passes on to the environment whether data accesses must be looked at one by one.
    fn tell_careful(&mut self, cpu: &Cpu, env: &mut E) {
        let careful = cpu.special.contains(Special::CHECK_DATA);
        if careful != self.careful {
            self.careful = careful;
            env.check_each_access(careful);
        }
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

/// Whether a software interrupt has been taken: it clears TF, and the single step is lost with it (SDM vol. 3,
/// 17.3.1.4).
fn entered_handler(cpu: &Cpu, op: Op) -> bool {
    matches!(op, Op::Int | Op::Int3 | Op::Into | Op::Int1) && !cpu.system_flags.contains(Eflags::TF)
}

/// The traps due after an instruction. A load of SS holds them off by one instruction, and a single step is lost.
fn due_traps(cpu: &mut Cpu, stepping: bool) -> Result<(), Fault> {
    if cpu.shadow.contains(Shadow::SS) {
        return Ok(());
    }
    let mut dr6 = std::mem::take(&mut cpu.debug_pending);
    if stepping {
        dr6 |= DR6_BS;
    }
    cpu.refresh();
    if dr6 == 0 { Ok(()) } else { Err(Fault::debug(dr6)) }
}
