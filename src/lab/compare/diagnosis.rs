//! Why two machines part, in one sentence: what [`crate::classify`] says of the instruction, with what POPF
//! left undone this time; or a cached translation that the guest has not flushed.

use crate::addr::{GuestPhys, Linear};
use crate::classify::verdict;
use crate::cpu::{Cpu, Eflags};
use crate::decode::{Decoded, Op, decode, lower};
use crate::lab::mappings::{Mark, Page, View, deciding_entry};
use crate::lab::state::Difference;
use crate::machine::Machine;

/// The mode that the guest's code ran in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Real or virtual-8086 mode, run in virtual-8086 mode.
    V86,
    /// The kernel, run at CPL 1.
    Kernel,
    /// User code, at CPL 3 both.
    User,
}

impl Mode {
    /// The name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::V86 => "v86",
            Self::Kernel => "kernel",
            Self::User => "user",
        }
    }

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

/// The reason for a difference that is gone when the bare machine runs on with an empty TLB: a cached
/// translation of its was stale.
pub const LEFT_OPEN: &str = "the guest changed a page-table entry that it uses here and has not flushed it yet, so \
                             either is right (SDM vol. 3, 4.10.4): trace sees a change at once, and vtlb may not \
                             until the flush, as the bare machine's TLB";

/// The reason for a difference that is gone when neither machine has anything cached, and not when only the
/// bare machine's TLB is emptied.
pub const HELD: &str = "the monitor's shadow of the page tables is staler here than the bare machine's TLB: either \
                        the guest has not flushed an entry that it changed, and both are right (SDM vol. 3, 4.10.4), \
                        or the monitor missed a flush";

/// [`LEFT_OPEN`], with the entry that was changed; `a`, the bare machine, is about to run the instruction.
pub(super) fn left_open(a: &Machine, b: &Machine) -> String {
    naming(LEFT_OPEN, a, b)
}

/// [`HELD`], with the entry that was changed.
pub(super) fn held(a: &Machine, b: &Machine) -> String {
    naming(HELD, b, a)
}

/// `sentence`, with the entry of which the first machine holds another translation than it gives; or else the
/// second.
fn naming(sentence: &str, first: &Machine, second: &Machine) -> String {
    let found = [first, second].into_iter().find_map(unflushed);
    let Some((at, entry, level)) = found else { return sentence.into() };
    format!("{sentence}. The entry is the {level} entry at {entry}, for the page at {at}")
}

/// A page whose entry says less than what is cached of it, by preference the page that code runs in; and the
/// entry.
fn unflushed(machine: &Machine) -> Option<(Linear, GuestPhys, &'static str)> {
    let view = View::of(machine);
    let stale = |page: &Page| {
        let unmarked = page.guest.is_some_and(|g| !g.accessed);
        let held = page.tlb.is_some() || page.shadow.is_some();
        held && (unmarked || page.marks.contains(&Mark::Stale) || page.marks.contains(&Mark::StaleTlb))
    };
    let code = Linear(machine.cpu.linear_eip()).page();
    let cached = machine.world.running_tlb().entries().map(|(at, ..)| at);
    let mut pages: Vec<_> = std::iter::once(code).chain(cached).map(Linear::page_number).collect();
    pages.extend(view.shadowed());
    let found = pages.into_iter().flat_map(|n| view.pages(n..=n)).find(stale)?;
    let (entry, level) = deciding_entry(&machine.cpu, &machine.world, found.at)?;
    Some((found.at, entry, level))
}

/// The diagnosis of one instruction.
pub struct Verdict {
    /// Bytes of the instruction.
    pub len: usize,
    /// The instruction is sensitive and does not fault outside ring 0.
    pub sensitive_unprivileged: bool,
    /// The sentence.
    pub sentence: String,
}

/// The diagnosis of the instruction in `bytes`, after which there were these differences.
pub fn explain(bytes: &[u8], code32: bool, mode: Mode, differences: &[Difference]) -> Verdict {
    let insn = match decode(bytes, code32) {
        Decoded::Insn(insn) => insn,
        _ => return unexplained(1),
    };
    let len = usize::from(insn.len);
    let found = verdict(&insn);
    if !found.escapes() {
        return unexplained(len);
    }
    let what = if insn.op == Op::Popf { popf(mode, differences) } else { found.why.to_owned() };
    let name = lower::mnemonic(bytes, code32).to_uppercase();
    Verdict { len, sensitive_unprivileged: true, sentence: format!("{name}: {what}") }
}

fn unexplained(len: usize) -> Verdict {
    let sentence = "this is no sensitive instruction: the monitor or the emulated machine has a bug".into();
    Verdict { len, sensitive_unprivileged: false, sentence }
}

/// The sentence for POPF, with the flags that kept their value.
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
