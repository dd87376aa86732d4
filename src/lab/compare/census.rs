//! Every divergence under trap and emulate, not the first: each sensitive instruction that does not trap runs
//! on the real processor as ever, beside the bare machine; where it went wrong the guest's state is healed to
//! the bare machine's, and the run goes on. The result is a census: which of these instructions the guest
//! runs, where, how often, how often each went wrong, and what differed.
//!
//! Between two such instructions nothing is compared: the monitor comes back before each, which it knows by
//! decoding. After each the processor is compared, and the memory that the instruction can reach: the stack,
//! its operand, and descriptors. Once in a stride all of the state is compared; what differs then was no such
//! instruction's doing, and is counted apart.

use super::diagnosis::Mode;
use super::divergence;
use crate::addr::{GuestPhys, Linear, PAGE_SIZE};
use crate::classify::literature::ROBIN_IRVINE;
use crate::classify::verdict;
use crate::cpu::{Cpu, gpr};
use crate::decode::{Decoded, Insn, MAX_INSN_LEN, Op, SegReg, decode, disassemble, lower};
use crate::error::Result;
use crate::exec::operand;
use crate::lab::guest::Guest;
use crate::lab::state::{self, Difference};
use crate::load::{Symbol, symbol_at};
use crate::machine::{Machine, Outcome};
use rustc_hash::FxHashMap;
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Instructions between two comparisons of all state.
const STRIDE: u64 = 1 << 25;
/// Places that are kept apart; the instructions of others count by their form alone.
const MOST_PLACES: usize = 4096;
/// Divergences of other instructions that are kept.
const MOST_OTHERS: usize = 64;
/// Bytes of the stack that are compared: below and above the stack pointer.
const STACK: (u32, u32) = (48, 16);
/// Bytes of an operand that are compared; an x87 state is longer.
const OPERAND: u32 = 16;
const X87_STATE: u32 = 512;

/// A form of instruction: one of Robin and Irvine's list, or another that is sensitive and unprivileged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Form {
    /// The list's name, or the mnemonic.
    pub name: String,
    /// The form is on Robin and Irvine's list.
    pub listed: bool,
    /// Times that it ran.
    pub ran: u64,
    /// Times that it went wrong.
    pub wrong: u64,
    /// Places that it ran at.
    pub places: u64,
    /// What differed then, each with how often.
    pub differed: BTreeMap<&'static str, u64>,
}

/// A place that a sensitive unprivileged instruction ran at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Linear address.
    pub linear: u32,
    /// The kernel's name for it.
    pub symbol: Option<String>,
    /// The guest's mode: `kernel`, `user` or `v86`.
    pub mode: &'static str,
    /// Name of the form.
    pub form: String,
    /// Class in Popek and Goldberg's sense.
    pub class: &'static str,
    /// Bytes of the instruction.
    pub bytes: Vec<u8>,
    /// Disassembly.
    pub disassembly: String,
    /// Times that it ran.
    pub ran: u64,
    /// Times that it went wrong.
    pub wrong: u64,
    /// What differed then, each with how often.
    pub differed: BTreeMap<&'static str, u64>,
    /// What differed the first time, the bare machine's value first.
    pub first: Vec<Difference>,
    /// Instructions retired before it first went wrong.
    pub first_after: Option<u64>,
}

/// A difference that was found at the end of a stride, of which no sensitive instruction is the cause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Other {
    /// Instructions retired by then.
    pub by: u64,
    /// What differed, the bare machine's value first.
    pub differences: Vec<Difference>,
}

/// The result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Census {
    /// Instructions retired.
    pub retired: u64,
    /// How the guest ended; `None` if it could have gone on.
    pub ended: Option<String>,
    /// The forms that ran, those that went wrong most often first.
    pub forms: Vec<Form>,
    /// The places, those that went wrong most often first.
    pub places: Vec<Place>,
    /// Instructions that ran at places beyond those kept.
    pub elsewhere: u64,
    /// Differences that no sensitive instruction is the cause of.
    pub others: Vec<Other>,
    /// Comparisons of all state.
    pub whole: u64,
}

impl Census {
    /// Times that an instruction went wrong.
    pub fn wrong(&self) -> u64 {
        self.forms.iter().map(|form| form.wrong).sum()
    }

    /// Times that a sensitive unprivileged instruction ran.
    pub fn ran(&self) -> u64 {
        self.forms.iter().map(|form| form.ran).sum()
    }

    /// The entries of Robin and Irvine's list that never ran.
    pub fn never_ran(&self) -> Vec<&'static str> {
        let ran = |name: &str| self.forms.iter().any(|form| form.listed && form.name == name);
        ROBIN_IRVINE.iter().map(|entry| entry.name).filter(|name| !ran(name)).collect()
    }
}

/// Runs `trapped`, under trap and emulate, beside `bare`, to `limit` retired instructions. `None` when
/// `goes_on`, which is told how far both are, says no.
///
/// # Errors
/// When a machine cannot be put into the other's state.
pub fn census(
    bare: Guest,
    trapped: Guest,
    limit: u64,
    symbols: &[Symbol],
    mut goes_on: impl FnMut(u64) -> bool,
) -> Result<Option<Census>> {
    let mut run = Run { bare, trapped, limit, counted: Counted::default(), others: Vec::new(), whole: 0 };
    let mut next = STRIDE.min(limit);
    loop {
        match run.advance(next)? {
            Step::Sensitive => continue,
            Step::Ended(outcome) => return Ok(Some(run.finish(Some(outcome), symbols)?)),
            Step::Reached if next == limit => return Ok(Some(run.finish(None, symbols)?)),
            Step::Reached => next = next.saturating_add(STRIDE).min(limit),
        }
        run.compare_all()?;
        if !goes_on(run.bare.machine.cpu.retired()) {
            return Ok(None);
        }
    }
}

/// Why the run came back.
enum Step {
    /// A sensitive instruction was run and compared.
    Sensitive,
    /// The end of the stride.
    Reached,
    /// The guest ended.
    Ended(Outcome),
}

struct Run {
    bare: Guest,
    trapped: Guest,
    limit: u64,
    counted: Counted,
    others: Vec<Other>,
    whole: u64,
}

impl Run {
    /// Runs on through the next sensitive instruction, or to `retired` instructions.
    fn advance(&mut self, retired: u64) -> Result<Step> {
        let (ended, sensitive) = self.trapped.run_to_sensitive(retired);
        if !sensitive {
            let to = if ended.is_some() { self.limit } else { retired };
            let other = self.bare.run_to(to);
            if other != ended {
                self.note_other((other, ended));
            }
            return Ok(other.or(ended).map_or(Step::Reached, Step::Ended));
        }
        let machine = &self.trapped.machine;
        let after = machine.cpu.retired();
        let at = self.counted.see(&machine.cpu, &machine.code_ahead());
        let reach = self.counted.insn(at).map_or_else(Vec::new, |insn| reach(&machine.cpu, &insn));
        let to = machine.cpu.now + 1;
        let ended = (self.bare.run_until(to, u64::MAX), self.trapped.run_until(to, u64::MAX));
        if ended.0 != ended.1 {
            self.counted.went_wrong(at, &["ending"], after, || {
                divergence::differences(&self.bare.machine, &self.trapped.machine, ended)
            });
            self.heal()?;
        } else {
            self.compare(at, after, &reach);
        }
        Ok(ended.0.map_or(Step::Sensitive, Step::Ended))
    }

    /// Compares what the instruction at the place `at` can reach, and heals it.
    fn compare(&mut self, at: usize, after: u64, reach: &[(Linear, u32)]) {
        let (bare, trapped) = (&self.bare.machine, &self.trapped.machine);
        let mut pieces = state::cpu_pieces_that_differ(&bare.cpu, &trapped.cpu);
        let memory: Vec<_> = reach.iter().flat_map(|range| differing(bare, trapped, *range)).collect();
        if !memory.is_empty() {
            pieces.push("memory");
        }
        if pieces.is_empty() {
            return;
        }
        self.counted.went_wrong(at, &pieces, after, || {
            let mut differences = state::cpu_differences(&bare.cpu, &trapped.cpu);
            differences.extend(memory.iter().map(difference));
            differences
        });
        self.trapped.machine.cpu = self.bare.machine.cpu.clone();
        for (place, right, _) in memory {
            self.trapped.machine.store(place, &[right]);
        }
    }

    /// Compares all state, at the end of a stride.
    fn compare_all(&mut self) -> Result<()> {
        self.whole += 1;
        let (bare, trapped) = (&self.bare.machine, &self.trapped.machine);
        if !state::same(bare, trapped) {
            self.note_other((None, None));
            self.heal()?;
        }
        // The console shows what the bare machine's run printed before.
        for guest in [&mut self.bare, &mut self.trapped] {
            _ = guest.machine.world.board.take_serial_output(0);
        }
        Ok(())
    }

    /// Notes a difference that no sensitive instruction is the cause of.
    fn note_other(&mut self, ended: divergence::Endings) {
        if self.others.len() < MOST_OTHERS {
            let (bare, trapped) = (&self.bare.machine, &self.trapped.machine);
            let differences = divergence::differences(bare, trapped, ended);
            self.others.push(Other { by: bare.cpu.retired(), differences });
        }
    }

    /// Puts the trapped machine into the bare machine's state.
    fn heal(&mut self) -> Result<()> {
        self.trapped.machine.restore(&self.bare.machine.save())?;
        self.trapped.set_given(self.bare.given());
        Ok(())
    }

    fn finish(mut self, ended: Option<Outcome>, symbols: &[Symbol]) -> Result<Census> {
        self.compare_all()?;
        let retired = self.bare.machine.cpu.retired();
        let ended = ended.map(|outcome| divergence::ending(&self.bare.machine, Some(outcome)));
        let Counted { mut forms, mut places, elsewhere, .. } = self.counted;
        forms.sort_by_key(|form| (Reverse((form.wrong, form.ran)), form.name.clone()));
        places.iter_mut().for_each(|place| place.symbol = symbol_at(symbols, place.linear));
        places.sort_by_key(|place| (Reverse((place.wrong, place.ran)), place.linear));
        Ok(Census { retired, ended, forms, places, elsewhere, others: self.others, whole: self.whole })
    }
}

/// The bytes in a range of the bare machine's linear memory that differ: where, and both values.
fn differing(bare: &Machine, trapped: &Machine, (from, len): (Linear, u32)) -> Vec<(GuestPhys, u8, u8)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < len {
        let start = from.offset(at);
        let n = (len - at).min(PAGE_SIZE - start.page_offset());
        at += n;
        let Some(place) = bare.world.peek_address(&bare.cpu, start) else { continue };
        let (mut right, mut wrong) = ([0; X87_STATE as usize], [0; X87_STATE as usize]);
        let (right, wrong) = (&mut right[..n as usize], &mut wrong[..n as usize]);
        bare.world.map.read(place, right);
        trapped.world.map.read(place, wrong);
        if right != wrong {
            let bytes = (0..n).zip(right.iter().zip(wrong.iter())).filter(|(_, (a, b))| a != b);
            found.extend(bytes.map(|(n, (a, b))| (place.offset(n), *a, *b)));
        }
    }
    found
}

fn difference((place, right, wrong): &(GuestPhys, u8, u8)) -> Difference {
    let (first, second) = (format!("{right:02x}"), format!("{wrong:02x}"));
    Difference { piece: format!("memory at {place}"), first, second }
}

/// The linear memory that `insn`, about to run on `cpu`, may write, other than page tables: the stack around
/// its top, its operand, and the guest's descriptors, whose accessed bits loads of selectors set.
fn reach(cpu: &Cpu, insn: &Insn) -> Vec<(Linear, u32)> {
    let stack = cpu.seg(SegReg::Ss);
    let top = cpu.regs[gpr::ESP] & if stack.big() { u32::MAX } else { 0xffff };
    let mut found =
        vec![(Linear(stack.base.wrapping_add(top)).offset(0u32.wrapping_sub(STACK.0)), STACK.0 + STACK.1)];
    if insn.has_memory_operand() {
        let segment = cpu.seg(insn.seg);
        let len = if insn.op == Op::Fpu { X87_STATE } else { OPERAND };
        found.push((Linear(segment.base.wrapping_add(operand::ea(cpu, insn))), len));
    }
    if loads_selector(insn.op) && cpu.selectors() {
        for (base, limit) in [(cpu.gdtr.base, u32::from(cpu.gdtr.limit)), (cpu.ldtr.base, cpu.ldtr.limit)] {
            found.push((Linear(base), limit.min(255) + 1));
        }
    }
    found
}

fn loads_selector(op: Op) -> bool {
    use Op::*;
    matches!(op, MovToSeg | PopSeg | LoadFar | JmpFar | JmpFarMem | CallFar | CallFarMem | Retf | Iret | Int)
}

/// The counts while the run goes on.
#[derive(Default)]
struct Counted {
    forms: Vec<Form>,
    places: Vec<Place>,
    /// The instruction and the form's index of each place.
    known: Vec<(Insn, usize)>,
    /// The last place at a linear address, by mode; another instruction there is another place.
    by_address: FxHashMap<(u32, Mode), usize>,
    elsewhere: u64,
    /// The last instruction of which no place is kept.
    unkept: Option<(Insn, usize)>,
}

/// The index that stands for an instruction of which no place is kept.
const UNKEPT: usize = usize::MAX;

impl Counted {
    /// Counts the instruction in `code`, about to run on `cpu`. Gives its place.
    fn see(&mut self, cpu: &Cpu, code: &[u8]) -> usize {
        let key = (cpu.linear_eip(), Mode::of(cpu));
        if let Some(at) = self.find(key, code) {
            self.places[at].ran += 1;
            self.forms[self.known[at].1].ran += 1;
            return at;
        }
        let code32 = cpu.code32();
        let Decoded::Insn(insn) = decode(&code[..code.len().min(MAX_INSN_LEN)], code32) else {
            return UNKEPT;
        };
        let bytes = &code[..usize::from(insn.len)];
        let form = self.form(&insn, bytes, code32);
        self.forms[form].ran += 1;
        if self.places.len() >= MOST_PLACES {
            self.elsewhere += 1;
            self.unkept = Some((insn, form));
            return UNKEPT;
        }
        self.forms[form].places += 1;
        let mode = key.1.name();
        self.places.push(Place {
            linear: key.0,
            symbol: None,
            mode,
            form: self.forms[form].name.clone(),
            class: verdict(&insn).class.name(),
            bytes: bytes.to_vec(),
            disassembly: disassemble(bytes, code32, cpu.eip),
            ran: 1,
            wrong: 0,
            differed: BTreeMap::new(),
            first: Vec::new(),
            first_after: None,
        });
        self.known.push((insn, form));
        self.by_address.insert(key, self.places.len() - 1);
        self.places.len() - 1
    }

    /// The place of the instruction that `code` begins with, if it has been seen.
    fn find(&mut self, key: (u32, Mode), code: &[u8]) -> Option<usize> {
        let at = *self.by_address.get(&key)?;
        if code.starts_with(&self.places[at].bytes) {
            return Some(at);
        }
        // Other code was there since: another address space's, or newer.
        let same = |place: &Place| {
            place.linear == key.0 && place.mode == key.1.name() && code.starts_with(&place.bytes)
        };
        let at = self.places.iter().position(same)?;
        self.by_address.insert(key, at);
        Some(at)
    }

    /// The form of `insn`.
    fn form(&mut self, insn: &Insn, bytes: &[u8], code32: bool) -> usize {
        let entry = ROBIN_IRVINE.iter().find(|entry| entry.ops.contains(&insn.op));
        let name = entry
            .map_or_else(|| lower::mnemonic(bytes, code32).to_uppercase(), |entry| entry.name.to_owned());
        if let Some(n) = self.forms.iter().position(|form| form.name == name) {
            return n;
        }
        let listed = entry.is_some();
        self.forms.push(Form { name, listed, ran: 0, wrong: 0, places: 0, differed: BTreeMap::new() });
        self.forms.len() - 1
    }

    /// The instruction at a place.
    fn insn(&self, at: usize) -> Option<Insn> {
        self.known.get(at).or(self.unkept.as_ref()).map(|(insn, _)| *insn)
    }

    /// Counts that the instruction at a place went wrong; `pieces` differed.
    fn went_wrong(
        &mut self,
        at: usize,
        pieces: &[&'static str],
        after: u64,
        differences: impl FnOnce() -> Vec<Difference>,
    ) {
        let form = self.known.get(at).or(self.unkept.as_ref()).map(|(_, form)| *form);
        if let Some(form) = form.and_then(|form| self.forms.get_mut(form)) {
            form.wrong += 1;
            pieces.iter().for_each(|piece| *form.differed.entry(piece).or_default() += 1);
        }
        let Some(place) = self.places.get_mut(at) else { return };
        if place.wrong == 0 {
            (place.first, place.first_after) = (differences(), Some(after));
        }
        place.wrong += 1;
        pieces.iter().for_each(|piece| *place.differed.entry(piece).or_default() += 1);
    }
}
