//! Why an instruction goes another way under a monitor than on the bare machine: what it depends on, or silently leaves
//! undone, where its kernel no longer runs in ring 0 (Robin and Irvine, USENIX Security 2000).

use super::state::Difference;
use crate::cpu::{Cpu, Eflags};
use crate::decode::x87::FpuOp;
use crate::decode::{Decoded, Insn, Op, decode};

/// What the guest was in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Real or virtual-8086 mode, run in virtual-8086 mode.
    V86,
    /// The kernel, run at CPL 1.
    Kernel,
    /// User code, at CPL 3 both.
    User,
}

impl Mode {
    /// The mode of a guest's processor.
    pub fn of(cpu: &Cpu) -> Self {
        if !cpu.selectors() {
            Self::V86
        } else if cpu.cpl == 3 {
            Self::User
        } else {
            Self::Kernel
        }
    }
}

/// What there is to say.
pub struct Verdict {
    /// Bytes of the instruction.
    pub len: usize,
    /// It is sensitive and does not fault outside ring 0.
    pub sensitive_unprivileged: bool,
    /// The sentence.
    pub sentence: String,
}

/// The verdict on the instruction in `bytes`, after which there were these differences.
pub fn explain(bytes: &[u8], code32: bool, mode: Mode, differences: &[Difference]) -> Verdict {
    let insn = match decode(bytes, code32) {
        Decoded::Insn(insn) => insn,
        _ => return unexplained(1),
    };
    let len = usize::from(insn.len);
    let Some((name, what)) = cause(&insn, mode, differences) else { return unexplained(len) };
    Verdict { len, sensitive_unprivileged: true, sentence: format!("{name}: {what}") }
}

fn unexplained(len: usize) -> Verdict {
    let sentence = "this is no sensitive instruction: the monitor or the machine has a bug".into();
    Verdict { len, sensitive_unprivileged: false, sentence }
}

/// The instruction's name and what goes wrong with it.
fn cause(insn: &Insn, mode: Mode, differences: &[Difference]) -> Option<(&'static str, String)> {
    let ring = match mode {
        Mode::V86 => "in virtual-8086 mode",
        Mode::Kernel => "at CPL 1",
        Mode::User => "at CPL 3",
    };
    Some(match insn.op {
        Op::Popf => ("POPF", popf(mode, differences)),
        Op::Pushf => (
            "PUSHF",
            format!(
                "it stores the real IF and IOPL, and {ring} no fault lets the monitor put the virtual ones there"
            ),
        ),
        Op::Sgdt => ("SGDT", format!("it stores the real GDTR, the monitor's, and does not fault {ring}")),
        Op::Sidt => ("SIDT", format!("it stores the real IDTR, the monitor's, and does not fault {ring}")),
        Op::Sldt => (
            "SLDT",
            format!("it stores the selector of the real LDT, the monitor's, and does not fault {ring}"),
        ),
        Op::Str => (
            "STR",
            format!("it stores the selector of the real TSS, the monitor's, and does not fault {ring}"),
        ),
        Op::Smsw => (
            "SMSW",
            format!(
                "it stores the real CR0, where PE, PG and WP are the monitor's, and does not fault {ring}"
            ),
        ),
        Op::Lar => (
            "LAR",
            format!(
                "it shows the descriptor's rights in the real table, where the kernel's segments are ring 1's, and does not fault {ring}"
            ),
        ),
        Op::Lsl => (
            "LSL",
            format!(
                "it shows the limit in the real table, where segments end below the monitor, and does not fault {ring}"
            ),
        ),
        Op::Verr => ("VERR", format!("it asks the real table, by the real CPL, and does not fault {ring}")),
        Op::Verw => ("VERW", format!("it asks the real table, by the real CPL, and does not fault {ring}")),
        Op::MovFromSeg => (
            "MOV from a segment register",
            format!("the selector shows the real RPL, and reading it does not fault {ring}"),
        ),
        Op::PushSeg => (
            "PUSH of a segment register",
            format!("the selector shows the real RPL, and reading it does not fault {ring}"),
        ),
        Op::MovToSeg => (
            "MOV to a segment register",
            format!("it loads the real descriptor by the real CPL, with no fault {ring}"),
        ),
        Op::PopSeg => (
            "POP to a segment register",
            format!("it loads the real descriptor by the real CPL, with no fault {ring}"),
        ),
        Op::LoadFar => (
            "a load of a far pointer",
            format!("it loads the real descriptor by the real CPL, with no fault {ring}"),
        ),
        Op::CallFar | Op::CallFarMem => {
            ("far CALL", format!("it pushes CS with the real RPL, with no fault {ring}"))
        }
        Op::JmpFar | Op::JmpFarMem => {
            ("far JMP", format!("it loads CS by the real CPL, with no fault {ring}"))
        }
        Op::Retf => ("far RET", format!("it loads CS by the real CPL, with no fault {ring}")),
        Op::Iret => {
            ("IRET", format!("popped with RPL 1 CS goes through, and IF and IOPL are silently kept {ring}"))
        }
        Op::Int | Op::Int3 | Op::Into => ("INT n", format!("it goes by the real CPL {ring}")),
        Op::Fpu if matches!(insn.fpu, FpuOp::Fnstenv | FpuOp::Fnsave | FpuOp::Fxsave) => (
            "an x87 environment store",
            format!("the selector of the last instruction shows the real RPL, with no fault {ring}"),
        ),
        _ => return None,
    })
}

/// POPF, with what it left undone.
fn popf(mode: Mode, differences: &[Difference]) -> String {
    let ring = if mode == Mode::User { "3" } else { "1" };
    let flags = |text: &str| u32::from_str_radix(text, 16).unwrap_or(0);
    let changed =
        differences.iter().find(|d| d.piece == "eflags").map_or(0, |d| flags(&d.first) ^ flags(&d.second));
    let changed = Eflags::from_bits_truncate(changed);
    let what = match (changed.contains(Eflags::IF), changed.intersects(Eflags::IOPL)) {
        (true, true) => "IF and IOPL",
        (false, true) => "IOPL",
        _ => "IF",
    };
    format!("{what} kept; at CPL {ring} > IOPL 0 the write to {what} is dropped without a fault")
}
