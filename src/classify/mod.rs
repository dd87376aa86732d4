//! Popek and Goldberg's classification of IA-32 (CACM 17(7), 1974), derived by running it.
//!
//! Every form of instruction ([`forms`]) runs from many generated states, with the semantics of
//! [`crate::exec`], on the bare machine and as a ring-compression monitor would run it; what happened decides
//! its class ([`Class`]). The definitions, as adapted to IA-32, are in [`DEFINITIONS`]. `subring classify`
//! prints the result; [`verdict`](mod@verdict) has it as a table in code for whoever needs it at once, and a
//! test holds the two together.
//!
//! In reading order: [`forms`] (what is run), `state` and `world` (from what), `run` (one run, and how two
//! compare), [`judge`](mod@judge) (the classes), [`literature`] (Robin and Irvine's list),
//! [`verdict`](mod@verdict), [`vmx`] (non-root operation), `host` (the host's own processor).

pub mod forms;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub mod host;
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod host_cpu;
pub mod judge;
pub mod literature;
mod rng;
mod run;
mod state;
pub mod verdict;
pub mod vmx;
mod world;

pub use forms::{Form, Forms};
pub use judge::{Judgement, Kind, Witness, judge};
pub use verdict::{Verdict, verdict};

/// How the guest's supervisor is de-privileged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// A protected-mode kernel in ring 1.
    Cpl1,
    /// A protected-mode kernel in ring 3.
    Cpl3,
    /// Real-mode code in virtual-8086 mode.
    V86,
}

impl Mode {
    /// All of them.
    pub const ALL: [Mode; 3] = [Mode::Cpl1, Mode::Cpl3, Mode::V86];

    /// As on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Cpl1 => "cpl1",
            Mode::Cpl3 => "cpl3",
            Mode::V86 => "v86",
        }
    }

    /// Whether code is 32-bit.
    pub fn code32(self) -> bool {
        self != Mode::V86
    }
}

/// The processor as the monitor sets it up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Setting {
    /// How the guest's supervisor is de-privileged.
    pub mode: Mode,
    /// The real EFLAGS.IOPL, 0 to 3.
    pub iopl: u8,
    /// The real CR4.UMIP.
    pub umip: bool,
}

/// What a form is, by what happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Traps in user mode and not in supervisor mode, in every pair.
    Privileged,
    /// Changes, or fails to change, the machine's resources or mode without a trap.
    ControlSensitive,
    /// The result depends on the monitor's resources or on the mode, without a trap.
    BehaviourSensitive,
    /// Traps in the states where the form is sensitive, and runs unharmed in the others.
    Guarded,
    /// Runs alike in either mode.
    Innocuous,
    /// Faults in every state of either mode.
    Undefined,
}

impl Class {
    /// All of them.
    pub const ALL: [Class; 6] = [
        Class::Privileged,
        Class::ControlSensitive,
        Class::BehaviourSensitive,
        Class::Guarded,
        Class::Innocuous,
        Class::Undefined,
    ];

    /// As on the command line and in tables.
    pub fn name(self) -> &'static str {
        match self {
            Class::Privileged => "privileged",
            Class::ControlSensitive => "control-sensitive",
            Class::BehaviourSensitive => "behaviour-sensitive",
            Class::Guarded => "guarded",
            Class::Innocuous => "innocuous",
            Class::Undefined => "undefined",
        }
    }

    /// What one line can say.
    pub fn about(self) -> &'static str {
        match self {
            Class::Privileged => "traps in user mode and not in supervisor mode, whatever the state",
            Class::ControlSensitive => "changes resources or mode, or loses such a change, without a trap",
            Class::BehaviourSensitive => {
                "its result shows the monitor's resources or the mode, without a trap"
            }
            Class::Guarded => "traps in the states where it is sensitive, in the others runs unharmed",
            Class::Innocuous => "neither",
            Class::Undefined => "faults in every state, in either mode",
        }
    }

    /// Sensitive and unprivileged: a monitor that waits for traps misses it.
    pub fn escapes(self) -> bool {
        matches!(self, Class::ControlSensitive | Class::BehaviourSensitive)
    }
}

/// The definitions, for `--explain`.
pub const DEFINITIONS: &str = "\
A state is <E, M, P, R>: storage E (registers, flags, x87, memory), mode M, program counter P, resources R.
On IA-32
  M is the CPL, and with it the RPL of CS and SS and the DPL of the guest's code and data segments: a monitor that
    moves a kernel from ring 0 to ring u raises each DPL below u to u in the descriptor tables that it really uses.
    Real-mode code is de-privileged into virtual-8086 mode.
  R is CR0, CR2, CR3, CR4, the debug registers, GDTR, IDTR, LDTR, TR, the MSRs with the time-stamp counter, IF, IOPL, VM, whether
    the processor halts, the cached translations, and the ports. Segment registers belong to E: a program may choose
    among what the tables offer, and the tables are R.

Each state S of a guest's supervisor (CPL 0, or real mode) is drawn from a seed, and run three times for one instruction:
  bare         S itself, on the machine alone
  relocated    the same mode; R is the monitor's: other tables at other addresses with the monitor's own entries behind
               the guest's, other page frames, segments cut below the monitor, IF on, IOPL as set, other time
  de-privileged  the same R as relocated, in user mode: V(S)
No memory access faults in any of them (all pages are there): there are no memory traps.
Of its gates the monitor leaves those that the guest opens to its user mode (DPL 3) where they lead, but for vectors
0-31; all others, TSSs and task gates are for ring 0. No port is allowed in the I/O map. The guest's CR4.TSD and PCE
are the real ones. SYSENTER leads to the monitor, if the guest has set it up.

A trap is an exception, or arrival in the monitor's own ring-0 code (SYSENTER, an exception's gate).

privileged           for every S with no fault when relocated, de-privileged it traps (the pair differs only in M)
sensitive            control-sensitive or behaviour-sensitive:
control-sensitive    for some S, V(S) runs without a trap, and changes R or M other than from the guest's supervisor to
                     its user mode; or S changes R on the bare machine and V(S) drops that change without a trap
behaviour-sensitive  for some S, V(S) runs without a trap and i(V(S)) is not V(i(S)): the result differs
                     by location, if relocated differs from bare already; by mode, if not
guarded              not privileged, since it does not always trap, and not sensitive where it does not
innocuous            it does not trap but where the bare machine faults too, and i(V(S)) = V(i(S))
undefined            it faults in every state of either mode, as UD2 does
A form that is both kinds of sensitive counts as control-sensitive. V relates CS and SS by their RPL, and the x87's last code
selector with it.

Sensitive and not privileged is what breaks Popek and Goldberg's Theorem 1.
";
