//! The classification as a function of a decoded instruction, for ring compression as a monitor runs it: CPL 1, IOPL 0,
//! no UMIP. Typed in, for whoever needs the answer at once; a test runs every form and holds it to what comes out.
//!
//! Called by who explains a divergence of a monitor, and by who decides which instruction a translator must rewrite.

use super::Class;
use crate::decode::{FpuOp, Insn, Op, Rep, SegReg};

/// What an instruction is under ring compression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Its class.
    pub class: Class,
    /// Why, in one sentence; what goes wrong, where it is sensitive and does not trap.
    pub why: &'static str,
}

impl Verdict {
    /// Sensitive and unprivileged: a monitor that waits for traps misses it.
    pub fn escapes(self) -> bool {
        self.class.escapes()
    }
}

/// The verdict on an instruction of a protected-mode kernel that runs at CPL 1 with IOPL 0.
pub fn verdict(i: &Insn) -> Verdict {
    let found = privileged(i.op)
        .or_else(|| control(i.op))
        .or_else(|| registers(i))
        .or_else(|| protection(i))
        .or_else(|| guarded(i));
    let (class, why) = found.unwrap_or(match (i.op, i.fpu) {
        (Op::Ud | Op::Unbuilt, _) => (Class::Undefined, "it raises #UD in every mode"),
        (Op::Fpu, FpuOp::Undefined) => (Class::Undefined, "it raises #UD in every mode"),
        _ => (Class::Innocuous, "it neither shows nor changes the machine's resources or its mode"),
    });
    Verdict { class, why }
}

type Answer = Option<(Class, &'static str)>;

fn privileged(op: Op) -> Answer {
    use Op::*;
    let why = match op {
        Hlt | Lgdt | Lidt | Lldt | Ltr | Lmsw | Clts | Invd | Wbinvd | Invlpg | MovFromCr | MovToCr
        | MovFromDr | MovToDr | Rdmsr | Wrmsr | Sysexit => "it faults unless CPL is 0",
        Cli | Sti => "it faults since CPL 1 is greater than IOPL 0",
        In | Out => "it faults since CPL 1 is greater than IOPL 0 and the monitor's I/O map allows no port",
        Int3 | Int1 => "its vector is an exception's: it comes to the monitor",
        Sysenter => "it enters ring 0 where the monitor's MSRs say, or faults",
        _ => return None,
    };
    Some((Class::Privileged, why))
}

fn control(op: Op) -> Answer {
    let why = match op {
        Op::Popf => "at CPL 1 > IOPL 0 its writes to IF and IOPL are dropped without a fault",
        Op::Iret => {
            "at CPL 1 > IOPL 0 it drops IF and IOPL without a fault, and the RPL of its CS counts from the real ring"
        }
        Op::Int => {
            "through a gate that is open to it the frame shows the real CS and EFLAGS, and an interrupt gate clears the real IF"
        }
        _ => return None,
    };
    Some((Class::ControlSensitive, why))
}

/// The sensitive instructions that show registers.
fn registers(i: &Insn) -> Answer {
    let why = match i.op {
        Op::Sgdt => "it stores the monitor's GDTR",
        Op::Sidt => "it stores the monitor's IDTR",
        Op::Sldt => "it shows the monitor's LDTR",
        Op::Str => "it shows the monitor's TR",
        Op::Smsw => "it shows the monitor's CR0",
        Op::Pushf => "it pushes the real IF and IOPL",
        Op::Rdtsc => "it reads the real time-stamp counter unless CR4.TSD is set",
        Op::MovFromSeg if shows_ring(i.src_reg) => "the RPL that it reads is the real ring",
        Op::PushSeg if shows_ring(i.dst_reg) => "the RPL that it pushes is the real ring",
        Op::Fpu if matches!(i.fpu, FpuOp::Fnstenv | FpuOp::Fnsave | FpuOp::Fxsave) => {
            "it stores the last x87 instruction's CS, whose RPL is the real ring"
        }
        _ => return None,
    };
    Some((Class::BehaviourSensitive, why))
}

fn shows_ring(register: u8) -> bool {
    register == SegReg::Cs as u8 || register == SegReg::Ss as u8
}

/// The sensitive instructions that ask the protection system.
fn protection(i: &Insn) -> Answer {
    use Op::*;
    let why = match i.op {
        Lar | Lsl => {
            "it asks the monitor's descriptors, at the real ring: other DPLs and limits, other entries visible"
        }
        Verr | Verw => "it asks the monitor's descriptors, at the real ring",
        MovToSeg | PopSeg | LoadFar => {
            "its checks are against the real ring and the monitor's descriptors, one of which it marks accessed"
        }
        JmpFar | JmpFarMem => "its checks are against the real ring and the monitor's descriptors",
        CallFar | CallFarMem => "the CS that it pushes shows the real ring, against which its checks are too",
        Retf => "whether it returns to an outer ring is told by the real ring",
        _ => return None,
    };
    Some((Class::BehaviourSensitive, why))
}

fn guarded(i: &Insn) -> Answer {
    use Op::*;
    match i.op {
        Ins | Outs if i.rep == Rep::Once => Some((
            Class::Privileged,
            "it faults since CPL 1 is greater than IOPL 0 and the monitor's I/O map allows no port",
        )),
        Ins | Outs => Some((Class::Guarded, "it faults, but with a count of 0 it does nothing")),
        Into => Some((Class::Guarded, "with OF set it comes to the monitor, else it does nothing")),
        Rdpmc => Some((
            Class::Guarded,
            "it faults unless CR4.PCE is set; the counters of this processor stand at 0",
        )),
        _ => None,
    }
}
