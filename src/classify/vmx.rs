//! Popek and Goldberg's condition in VMX non-root operation, derived by running it: every form of instruction
//! runs from many states of a guest, on the bare machine and in non-root operation, first under as few
//! controls as the processor allows, then under each control alone, then under all together. What exits, by
//! which control, and what goes wrong without an exit, is what happened. [`VMX_DEFINITIONS`] says how.

use super::forms::Form;
use super::run::{Outcome, Piece, Resource, compare, guest, run};
use super::state::Guest;
use super::world::Shadow;
use crate::cpu::vmx::caps::YONAH_EPT;
use crate::cpu::vmx::words::named;
use crate::cpu::vmx::{Allowed, Controls, Field, Operation, Primary, Reason, Secondary, Vmx};
use crate::cpu::{Cpu, Fault};
use crate::exec::event::Event;
use crate::exec::vmx::event::exits;
use std::collections::BTreeSet;
use std::fmt;

/// The definitions, for `--vmx --explain`.
pub const VMX_DEFINITIONS: &str = "\
In VMX non-root operation a guest's kernel stays in ring 0, and its R comes apart:
  the guest's own    what a VM entry loads and a VM exit saves (segments, GDTR, IDTR, LDTR, TR, RFLAGS with IF and IOPL, the
                     CPL), and CR2, which the hypervisor exchanges as it does EAX
  the hypervisor's   CR0, CR3 and CR4 where they are not as the guest set them, the debug registers, the MSRs with the
                     time-stamp counter, whether the processor halts, the cached translations, the ports

Each state S of a guest (ring 0, or its own ring 3) is drawn from a seed, and runs for one instruction:
  bare         S itself, on the machine alone
  non-root     V(S): the guest's own as in S, and the hypervisor's resources in the real registers (CR0.WP and NE,
               CR4.PGE and VMXE, CR3, DR0-DR6 and the time differ), on the model yonah-ept; once with as few controls as it
               allows, once with each control more, and once with all of them
Every bitmap is full when its control is tried: all ports, all MSRs, all exceptions; the guest/host masks own all of CR0 and CR4,
and the read shadows hold the guest's values; the TSC offset is what the guest's time is from the real one. `use MSR bitmaps` is tried with an empty one, too: it takes exits away.
No memory access faults (all pages are there), so page faults and EPT violations are not looked at.

exits always   for every S with no fault on the bare machine, V(S) exits under the fewest controls
sensitive      for some S, under the fewest controls, V(S) runs without an exit, and changes what is the hypervisor's, or ends in
               another state than S does on the bare machine (i(V(S)) is not V(i(S)))
escapes        for some S that holds under all controls, too: this is what breaks Theorem 1
answered       a control takes the difference away without an exit: a read shadow or the TSC offset gives the guest's value
An instruction that reads or changes the guest's own, SGDT or POPF say, is not sensitive here: that is what the mode is for.
";

/// The ring that the guest's code is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// The guest's kernel.
    Ring0,
    /// The guest's user mode.
    Ring3,
}

impl Level {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ring0, Self::Ring3];

    /// As in tables.
    pub fn number(self) -> u8 {
        match self {
            Self::Ring0 => 0,
            Self::Ring3 => 3,
        }
    }
}

/// How non-root operation is set up.
#[derive(Clone, Copy, Debug)]
struct Setup {
    primary: Primary,
    secondary: Secondary,
    cr0_mask: u32,
    cr4_mask: u32,
    exceptions: u32,
    /// Whether the MSR bitmaps are empty; all other bitmaps are full.
    no_msrs: bool,
}

/// A setup that differs from the fewest controls in one thing.
struct Trial {
    name: &'static str,
    setup: Setup,
}

/// As few controls as the model allows.
const FEWEST: Setup = Setup {
    primary: Primary::from_bits_retain(YONAH_EPT.primary.must),
    secondary: Secondary::empty(),
    cr0_mask: 0,
    cr4_mask: 0,
    exceptions: 0,
    no_msrs: false,
};

/// All controls; the guest's exceptions are its own.
const ALL: Setup =
    Setup { primary: Primary::from_bits_retain(YONAH_EPT.primary.may), cr0_mask: !0, cr4_mask: !0, ..FEWEST };

/// The name of the trial with an empty MSR bitmap.
const NO_MSRS: &str = "use MSR bitmaps";

/// Each control of the model alone.
fn trials() -> Vec<Trial> {
    let free = |allowed: Allowed| allowed.may & !allowed.must;
    let names = |field, bits: u32| {
        let named = named(field);
        (0..32).filter(move |n| bits >> n & 1 != 0).filter_map(move |n| Some((n, named?.name(n)?)))
    };
    let primary = names(Field::PrimaryControls, free(YONAH_EPT.primary)).map(|(n, name)| {
        let primary = FEWEST.primary | Primary::from_bits_retain(1 << n);
        Trial { name, setup: Setup { primary, no_msrs: name == NO_MSRS, ..FEWEST } }
    });
    let secondary = YONAH_EPT.secondary.map_or(0, free);
    let secondary = names(Field::SecondaryControls, secondary).map(|(n, name)| {
        let setup = Setup {
            primary: FEWEST.primary | Primary::SECONDARY,
            secondary: Secondary::from_bits_retain(1 << n),
            ..FEWEST
        };
        Trial { name, setup }
    });
    let others = [
        Trial { name: "CR0 guest/host mask", setup: Setup { cr0_mask: !0, ..FEWEST } },
        Trial { name: "CR4 guest/host mask", setup: Setup { cr4_mask: !0, ..FEWEST } },
        Trial { name: "exception bitmap", setup: Setup { exceptions: !0, ..FEWEST } },
    ];
    primary.chain(secondary).chain(others).collect()
}

/// How a run without an exit goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Harm {
    /// A difference between the two states.
    Piece(Piece),
    /// A fault that the bare machine does not have.
    Fault(u8),
}

impl fmt::Display for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let vector = |v: u8| crate::cpu::fault::vector_name(v);
        match *self {
            Self::Piece(Piece::Changed(r)) => write!(f, "{} is the hypervisor's, and changes", r.name()),
            Self::Piece(Piece::Lost(r)) => write!(f, "the change of {} is dropped", r.name()),
            Self::Piece(Piece::Register(..) | Piece::Memory(..)) => {
                write!(f, "its result is not what the bare machine gives")
            }
            Self::Piece(Piece::NoFault(v)) => write!(f, "no {}, which the bare machine raises", vector(v)),
            Self::Piece(piece) => write!(f, "{piece}"),
            Self::Fault(v) => write!(f, "{}, which the bare machine does not raise", vector(v)),
        }
    }
}

/// What the states of a form say.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Behaviour {
    /// States.
    pub states: u32,
    /// States in which the bare machine raises no fault.
    pub runs: u32,
    /// Of these, states in which it exits under the fewest controls.
    pub always: u32,
    /// States in which it exits under the fewest controls.
    pub exits: u32,
    /// Controls that alone make it exit where it did not.
    pub by: BTreeSet<&'static str>,
    /// Controls that alone take an exit away.
    pub spared_by: BTreeSet<&'static str>,
    /// Controls that alone take the harm away, without an exit.
    pub answered_by: BTreeSet<&'static str>,
    /// Reasons of its exits, under any controls.
    pub reasons: BTreeSet<Reason>,
    /// The first harm under the fewest controls, the most telling one, and in which state.
    pub harm: Option<(Harm, u32)>,
    /// The same under all controls.
    pub escape: Option<(Harm, u32)>,
}

impl Behaviour {
    /// Whether it exits under the fewest controls wherever it does not fault on the bare machine; or in every
    /// state, as an instruction does that the bare machine does not have.
    pub fn exits_always(&self) -> bool {
        if self.runs > 0 { self.always == self.runs } else { self.exits == self.states }
    }
}

/// Runs `form` at `level` from `states` states that `seed` names. The same arguments give the same answer.
pub fn behaviour(form: &Form, level: Level, seed: u64, states: u32) -> Behaviour {
    let trials = trials();
    let mut found = Behaviour { states, ..Behaviour::default() };
    for n in 0..states {
        let (mut guest, _) = guest(form, seed, n, true);
        if level == Level::Ring3 {
            guest.in_user_mode();
        }
        found.add(n, &guest, &trials);
    }
    found
}

impl Behaviour {
    fn add(&mut self, state: u32, guest: &Guest, trials: &[Trial]) {
        let image = (guest.cpu.clone(), Shadow::None);
        let bare = run(guest, &guest.memory, &image);
        let faults = bare.fault.is_some();
        let (first, harm) = tried(guest, &bare, FEWEST);
        self.runs += u32::from(!faults);
        self.exits += u32::from(first.is_some());
        self.always += u32::from(first.is_some() && !faults);
        keep(&mut self.harm, harm, state);
        for trial in trials {
            let (reason, left) = tried(guest, &bare, trial.setup);
            match (first, reason) {
                (None, None) if harm.is_some() && left.is_none() => _ = self.answered_by.insert(trial.name),
                (None, Some(_)) => _ = self.by.insert(trial.name),
                (Some(_), None) => _ = self.spared_by.insert(trial.name),
                _ => {}
            }
            self.reasons.extend(reason);
        }
        let (_, escape) = tried(guest, &bare, ALL);
        keep(&mut self.escape, escape, state);
    }
}

/// Keeps the more telling harm.
fn keep(best: &mut Option<(Harm, u32)>, harm: Option<Harm>, state: u32) {
    if let Some(harm) = harm
        && best.is_none_or(|(known, _)| sort(harm) < sort(known))
    {
        *best = Some((harm, state));
    }
}

/// The order of harms without their values.
fn sort(harm: Harm) -> (u8, u8) {
    match harm {
        Harm::Piece(Piece::Changed(r)) => (0, r as u8),
        Harm::Piece(Piece::Lost(r)) => (1, r as u8),
        Harm::Piece(Piece::Register(..)) => (2, 0),
        Harm::Piece(Piece::Memory(..)) => (3, 0),
        Harm::Fault(_) => (4, 0),
        Harm::Piece(_) => (5, 0),
    }
}

/// Runs the guest's instruction in non-root operation: the reason of its exit; else what goes wrong.
fn tried(guest: &Guest, bare: &Outcome, setup: Setup) -> (Option<Reason>, Option<Harm>) {
    let image = (non_root(guest, setup), Shadow::None);
    let mut outcome = run(guest, &guest.memory, &image);
    if let Some(fault) = outcome.fault.filter(|fault| *fault != Fault::VM_EXIT)
        && exits(&mut outcome.after, Event::Exception(fault), 0)
    {
        outcome.fault = Some(Fault::VM_EXIT);
    }
    if outcome.fault == Some(Fault::VM_EXIT) {
        let exit = outcome.after.vmx.as_ref().and_then(|vmx| vmx.exit);
        return (exit.map(|exit| exit.reason), None);
    }
    let harm = match (outcome.fault, bare.fault) {
        (Some(fault), Some(bare)) if fault.vector() == bare.vector() => None,
        (Some(fault), _) => Some(Harm::Fault(fault.vector())),
        (None, _) => {
            let harmful =
                |piece: &Piece| !matches!(*piece, Piece::Changed(r) | Piece::Lost(r) if is_guests(r));
            compare(bare, &outcome, 0).into_iter().find(harmful).map(Harm::Piece)
        }
    };
    (None, harm)
}

/// Whether a VM entry loads the resource and a VM exit saves it, or the hypervisor exchanges it.
fn is_guests(resource: Resource) -> bool {
    use Resource::*;
    matches!(resource, If | Iopl | Vm | Cpl | Cr2 | Gdtr | Idtr | Ldtr | Tr)
}

/// The guest's processor in non-root operation.
fn non_root(guest: &Guest, setup: Setup) -> Cpu {
    let mut cpu = guest.non_root();
    let mut vmx = Vmx::new(YONAH_EPT);
    vmx.operation = Operation::NonRoot;
    vmx.current = Some(0x1000);
    vmx.controls = Controls { primary: setup.primary, secondary: setup.secondary, ..Controls::default() };
    for (field, value) in [
        (Field::Cr0Mask, setup.cr0_mask),
        (Field::Cr0Shadow, guest.cpu.cr0.bits()),
        (Field::Cr4Mask, setup.cr4_mask),
        (Field::Cr4Shadow, guest.cpu.cr4.bits()),
        (Field::ExceptionBitmap, setup.exceptions),
        // The full bitmaps lie at 0, the empty ones behind.
        (Field::MsrBitmaps, if setup.no_msrs { super::world::EMPTY_PAGE } else { 0 }),
    ] {
        vmx.vmcs.set(field, value);
    }
    // As the time-stamp counter of the guest stands to the real one.
    vmx.vmcs.set(Field::TscOffset, guest.cpu.msrs.tsc_offset.wrapping_sub(cpu.msrs.tsc_offset));
    cpu.vmx = Some(Box::new(vmx));
    cpu
}
