//! The classification as a function of a decoded instruction, for ring compression as a monitor runs it: CPL
//! 1, IOPL 0, no UMIP. The table of instructions says what each operation is ([`Ring`]); the class and the
//! reason follow. A test runs every form of instruction and compares what comes out.
//!
//! Callers: the explanation of a monitor's divergence, and the choice of what a translator must rewrite.

use super::Class;
use crate::decode::op::Ring;
use crate::decode::{FpuOp, Insn, Rep, SegReg};

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
#[rustfmt::skip]
pub fn verdict(i: &Insn) -> Verdict {
    use Class::*;
    let (class, why) = match i.op.facts().ring {
        Ring::Undefined => (Undefined, UNDEFINED),
        Ring::Innocuous => (Innocuous, INNOCUOUS),

        Ring::Cpl0 => (Privileged, "it faults unless CPL is 0"),
        Ring::Iopl => (Privileged, "it faults since CPL 1 is greater than IOPL 0"),
        Ring::Port => (Privileged, NO_PORT),
        Ring::PortString if i.rep == Rep::Once => (Privileged, NO_PORT),
        Ring::Exception => (Privileged, "its vector is an exception's: it comes to the monitor"),
        Ring::Enters => (Privileged, "it enters ring 0 where the monitor's MSRs say, or faults"),

        Ring::PortString => (Guarded, "it faults, but with a count of 0 it does nothing"),
        Ring::Overflow => (Guarded, "with OF set it comes to the monitor, else it does nothing"),
        Ring::Counter =>
            (Guarded, "it faults unless CR4.PCE is set; the counters of this processor stand at 0"),

        Ring::LosesFlags =>
            (ControlSensitive, "at CPL 1 > IOPL 0 its writes to IF and IOPL are dropped without a fault"),
        Ring::Returns =>
            (ControlSensitive,
             "at CPL 1 > IOPL 0 it drops IF and IOPL without a fault, and the RPL of its CS counts from the real ring"),
        Ring::Gate =>
            (ControlSensitive,
             "through a gate that is open to it the frame shows the real CS and EFLAGS, and an interrupt gate clears the real IF"),

        Ring::ShowsGdtr => (BehaviourSensitive, "it stores the monitor's GDTR"),
        Ring::ShowsIdtr => (BehaviourSensitive, "it stores the monitor's IDTR"),
        Ring::ShowsLdtr => (BehaviourSensitive, "it shows the monitor's LDTR"),
        Ring::ShowsTr => (BehaviourSensitive, "it shows the monitor's TR"),
        Ring::ShowsCr0 => (BehaviourSensitive, "it shows the monitor's CR0"),
        Ring::ShowsFlags => (BehaviourSensitive, "it pushes the real IF and IOPL"),
        Ring::ShowsTime =>
            (BehaviourSensitive, "it reads the real time-stamp counter unless CR4.TSD is set"),
        Ring::ShowsX87 => x87(i.fpu),
        Ring::ReadsSelector if shows_ring(i.src_reg) =>
            (BehaviourSensitive, "the RPL that it reads is the real ring"),
        Ring::PushesSelector if shows_ring(i.dst_reg) =>
            (BehaviourSensitive, "the RPL that it pushes is the real ring"),
        Ring::ReadsSelector | Ring::PushesSelector => (Innocuous, INNOCUOUS),
        Ring::AsksRights =>
            (BehaviourSensitive,
             "it asks the monitor's descriptors, at the real ring: other DPLs and limits, other entries visible"),
        Ring::AsksAccess => (BehaviourSensitive, "it asks the monitor's descriptors, at the real ring"),
        Ring::LoadsSelector =>
            (BehaviourSensitive,
             "its checks are against the real ring and the monitor's descriptors, one of which it marks accessed"),
        Ring::JumpsFar =>
            (BehaviourSensitive, "its checks are against the real ring and the monitor's descriptors"),
        Ring::CallsFar =>
            (BehaviourSensitive, "the CS that it pushes shows the real ring, against which its checks are too"),
        Ring::ReturnsFar =>
            (BehaviourSensitive, "whether it returns to an outer ring is told by the real ring"),
    };
    Verdict { class, why }
}

const UNDEFINED: &str = "it raises #UD in every mode";
const INNOCUOUS: &str = "it neither shows nor changes the machine's resources or its mode";
const NO_PORT: &str = "it faults since CPL 1 is greater than IOPL 0 and the monitor's I/O map allows no port";

fn x87(op: FpuOp) -> (Class, &'static str) {
    match op {
        FpuOp::Undefined => (Class::Undefined, UNDEFINED),
        FpuOp::Fnstenv | FpuOp::Fnsave | FpuOp::Fxsave => {
            (Class::BehaviourSensitive, "it stores the last x87 instruction's CS, whose RPL is the real ring")
        }
        _ => (Class::Innocuous, INNOCUOUS),
    }
}

fn shows_ring(register: u8) -> bool {
    register == SegReg::Cs as u8 || register == SegReg::Ss as u8
}
