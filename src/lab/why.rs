//! Why an instruction goes another way under a monitor than on the bare machine: what [`crate::classify`] says of it, in one
//! sentence, with what POPF left undone this time.

use super::state::Difference;
use crate::classify::verdict;
use crate::cpu::{Cpu, Eflags};
use crate::decode::{Decoded, Op, decode, lower};

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

/// Of a difference that is gone when the bare machine runs on with an empty TLB: what it had cached was stale.
pub const LEFT_OPEN: &str = "the guest changed a page-table entry that it uses here and has not flushed it yet, so either is right \
                             (SDM vol. 3, 4.10.4): trace sees a change at once, and vtlb may not until the flush, as the bare \
                             machine's TLB";

/// Of one that is gone when what both have cached is dropped, and not when the bare machine's is.
pub const HELD: &str = "what the monitor holds of the page tables is staler here than the bare machine's TLB: either the guest has not \
                        flushed an entry that it changed, and both are right (SDM vol. 3, 4.10.4), or the monitor missed a flush";

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
    let found = verdict(&insn);
    if !found.escapes() {
        return unexplained(len);
    }
    let what = if insn.op == Op::Popf { popf(mode, differences) } else { found.why.to_owned() };
    let name = lower::mnemonic(bytes, code32).to_uppercase();
    Verdict { len, sensitive_unprivileged: true, sentence: format!("{name}: {what}") }
}

fn unexplained(len: usize) -> Verdict {
    let sentence = "this is no sensitive instruction: the monitor or the machine has a bug".into();
    Verdict { len, sensitive_unprivileged: false, sentence }
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
