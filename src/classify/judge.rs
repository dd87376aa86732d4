//! The classes: what all states of a form together say, and the witness for it.

use super::forms::Form;
use super::run::{Outcome, compare, guest, images, run};
pub use super::run::{Piece, Resource};
use super::{Class, Setting};
use std::fmt::Write;

/// On what a sensitive form's result depends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// On the monitor's resources being in the real registers.
    Location,
    /// On the mode.
    Mode,
}

impl Kind {
    /// In tables.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Location => "location",
            Kind::Mode => "mode",
        }
    }
}

/// The state that proves a form's class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Witness {
    /// The number of the state.
    pub state: u32,
    /// What differs; none where the trap, or its absence, is the proof.
    pub piece: Option<Piece>,
    /// The vector of the de-privileged run's exception; none where it has none.
    pub vector: Option<u8>,
}

/// What the states of a form say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// Its class.
    pub class: Class,
    /// For a behaviour-sensitive form: on what its result depends, at its witness.
    pub kind: Option<Kind>,
    /// The proof.
    pub witness: Witness,
    /// States in which it trapped de-privileged and did not fault in supervisor mode.
    pub trapped: u32,
    /// States in which it ran without a trap de-privileged.
    pub ran: u32,
    /// Of these, states in which it went wrong.
    pub wrong: u32,
}

/// Runs `form` in `setting` from `states` states that `seed` names, and says what it is. The same arguments
/// give the same answer.
pub fn judge(form: &Form, setting: Setting, seed: u64, states: u32) -> Judgement {
    let mut tally = Tally::default();
    for n in 0..states {
        let (guest, _) = guest(form, seed, n, setting.mode.code32());
        let images = images(&guest, setting);
        let [bare, relocated, user] = images.each_ref().map(|i| run(&guest, &guest.memory, i));
        tally.add(n, setting, &bare, &relocated, &user);
    }
    tally.judgement()
}

/// Whether a judgement's witness, run anew, shows what it is there to prove.
pub fn holds(form: &Form, setting: Setting, seed: u64, j: &Judgement) -> bool {
    let (guest, _) = guest(form, seed, j.witness.state, setting.mode.code32());
    let images = images(&guest, setting);
    let [bare, relocated, user] = images.each_ref().map(|i| run(&guest, &guest.memory, i));
    let differences = || compare(&bare, &user, setting.mode.cpl());
    match j.class {
        Class::Privileged | Class::Guarded => {
            let vector = user.fault.map(|f| f.vector());
            user.traps() && relocated.fault.is_none() && vector == j.witness.vector
        }
        Class::ControlSensitive | Class::BehaviourSensitive => {
            !user.traps() && j.witness.piece.is_some_and(|p| differences().contains(&p))
        }
        Class::Innocuous => !user.traps() && differences().is_empty(),
        Class::Undefined => user.traps() && relocated.fault.is_some(),
    }
}

#[derive(Default)]
struct Tally {
    trapped: u32,
    ran: u32,
    wrong: u32,
    first_trap: Option<Witness>,
    first_quiet: Option<Witness>,
    /// The most telling difference so far.
    best: Option<(Piece, u32, Kind)>,
}

impl Tally {
    fn add(&mut self, state: u32, setting: Setting, bare: &Outcome, relocated: &Outcome, user: &Outcome) {
        if user.traps() {
            if relocated.fault.is_none() {
                self.trapped += 1;
                let vector = user.fault.map(|f| f.vector());
                self.first_trap.get_or_insert(Witness { state, piece: None, vector });
            }
            return;
        }
        self.ran += 1;
        let Some(&piece) = compare(bare, user, setting.mode.cpl()).first() else {
            self.first_quiet.get_or_insert(Witness { state, piece: None, vector: None });
            return;
        };
        self.wrong += 1;
        let moved =
            relocated.fault.is_none() && compare(bare, relocated, 0).iter().any(|&p| same_sort(p, piece));
        let kind = if moved { Kind::Location } else { Kind::Mode };
        if self.best.is_none_or(|(best, ..)| rank(piece) < rank(best)) {
            self.best = Some((piece, state, kind));
        }
    }

    fn judgement(&self) -> Judgement {
        let quiet = self.first_quiet.or(self.first_trap);
        let nothing = Witness { state: 0, piece: None, vector: None };
        let (class, kind, witness) = match (self.best, self.trapped, self.ran) {
            (Some((piece, state, kind)), ..) => {
                let control = piece.control();
                let class = if control { Class::ControlSensitive } else { Class::BehaviourSensitive };
                (
                    class,
                    if control { None } else { Some(kind) },
                    Some(Witness { state, piece: Some(piece), vector: None }),
                )
            }
            (None, 0, 0) => (Class::Undefined, None, Some(nothing)),
            (None, _, 0) => (Class::Privileged, None, self.first_trap),
            (None, 0, _) => (Class::Innocuous, None, quiet),
            (None, ..) => (Class::Guarded, None, self.first_trap),
        };
        let witness = witness.unwrap_or(nothing);
        Judgement { class, kind, witness, trapped: self.trapped, ran: self.ran, wrong: self.wrong }
    }
}

/// The order of pieces without their values.
fn rank(piece: Piece) -> (u8, u8) {
    match piece {
        Piece::Changed(r) => (0, r as u8),
        Piece::Lost(r) => (1, r as u8),
        Piece::Register(..) => (2, 0),
        Piece::Selector(..) => (3, 0),
        Piece::Memory(..) => (4, 0),
        Piece::NoFault(_) => (5, 0),
        Piece::Flags(..) => (6, 0),
        Piece::Eip(..) => (7, 0),
        Piece::Hidden(_) => (8, 0),
        Piece::X87 => (9, 0),
        Piece::Accessed(_) => (10, 0),
    }
}

fn same_sort(a: Piece, b: Piece) -> bool {
    match (a, b) {
        (Piece::Changed(x) | Piece::Lost(x), Piece::Changed(y) | Piece::Lost(y)) => x == y,
        (Piece::Register(x, ..), Piece::Register(y, ..)) => x == y,
        (Piece::Memory(x, ..), Piece::Memory(y, ..)) => x == y,
        _ => rank(a) == rank(b),
    }
}

/// A witness in full: the instruction, the state, and the three runs.
pub fn tell(form: &Form, setting: Setting, seed: u64, witness: &Witness) -> String {
    let (guest, bytes) = guest(form, seed, witness.state, setting.mode.code32());
    let images = images(&guest, setting);
    let outcomes = images.each_ref().map(|i| run(&guest, &guest.memory, i));
    let mut text = String::new();
    let hex: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
    let at = guest.cpu.eip;
    let _ = writeln!(
        text,
        "{}    {}",
        crate::decode::disassemble(&bytes, setting.mode.code32(), at),
        hex.join(" ")
    );
    let _ = writeln!(text, "state {} of seed {seed}", witness.state);
    let _ = writeln!(text, "  operand {}", hex_of(&guest.memory.operand[..16]));
    let _ = writeln!(text, "  stack   {}", hex_of(&guest.memory.stack[..24]));
    for (name, outcome) in ["bare", "relocated", "de-privileged"].iter().zip(&outcomes) {
        let _ = writeln!(text, "{name}");
        describe(&mut text, "before", &outcome.before);
        match outcome.fault {
            Some(fault) => _ = writeln!(text, "  raises {fault}"),
            None => describe(&mut text, "after ", &outcome.after),
        }
        if outcome.arrived() {
            let _ = writeln!(text, "  and is in the monitor: a trap");
        }
        for (at, byte) in &outcome.world.written {
            let _ = writeln!(text, "  writes {at:08x} = {byte:02x}");
        }
        for (port, width, value) in &outcome.world.ports {
            let what = value.map_or("reads".to_owned(), |v| format!("writes {v:x} to"));
            let _ = writeln!(text, "  {what} port {port:04x}, {width} bytes");
        }
    }
    let [bare, _, user] = &outcomes;
    if user.traps() {
        let _ = writeln!(text, "so: de-privileged it traps");
        return text;
    }
    let pieces = compare(bare, user, setting.mode.cpl());
    if pieces.is_empty() {
        let _ = writeln!(text, "so: no difference");
    }
    for piece in pieces {
        let _ = writeln!(text, "so: {piece}");
    }
    text
}

fn hex_of(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ")
}

fn describe(text: &mut String, when: &str, cpu: &crate::cpu::Cpu) {
    let regs: Vec<String> =
        crate::cpu::gpr::NAMES.iter().zip(cpu.regs).map(|(n, v)| format!("{n}={v:08x}")).collect();
    let segs: Vec<String> = crate::decode::SegReg::ALL
        .iter()
        .map(|&s| format!("{}={:04x}", s.name(), cpu.seg(s).selector.0))
        .collect();
    let _ = writeln!(
        text,
        "  {when} cpl={} eip={:08x} eflags={:08x} {}\n         {}\n         cr0={:08x} cr3={:08x} cr4={:08x} gdtr={:08x}:{:04x} idtr={:08x}:{:04x} ldtr={:04x} tr={:04x}",
        cpu.cpl,
        cpu.eip,
        cpu.eflags().bits(),
        segs.join(" "),
        regs.join(" "),
        cpu.cr0.bits(),
        cpu.cr3,
        cpu.cr4.bits(),
        cpu.gdtr.base,
        cpu.gdtr.limit,
        cpu.idtr.base,
        cpu.idtr.limit,
        cpu.ldtr.selector.0,
        cpu.tr.selector.0
    );
}
