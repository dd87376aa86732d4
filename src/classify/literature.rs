//! Robin and Irvine's list of the sensitive unprivileged instructions of IA-32 ("Analysis of the Intel
//! Pentium's Ability to Support a Secure Virtual Machine Monitor", USENIX Security 2000), beside what was
//! derived, and why they differ. The list is for comparing only: nothing is classified by it.

use super::{Form, Judgement};
use crate::decode::Op;
use std::collections::BTreeSet;

/// An entry of the list.
#[derive(Clone, Copy, Debug)]
pub struct Listed {
    /// The paper's group.
    pub group: &'static str,
    /// The paper's name for it.
    pub name: &'static str,
    /// The operations that it stands for.
    pub ops: &'static [Op],
}

const REGISTERS: &str = "sensitive registers";
const PROTECTION: &str = "protection system";

/// The list, in the paper's order.
#[rustfmt::skip]
pub const ROBIN_IRVINE: [Listed; 18] = [
    Listed { group: REGISTERS, name: "SGDT", ops: &[Op::Sgdt] },
    Listed { group: REGISTERS, name: "SIDT", ops: &[Op::Sidt] },
    Listed { group: REGISTERS, name: "SLDT", ops: &[Op::Sldt] },
    Listed { group: REGISTERS, name: "SMSW", ops: &[Op::Smsw] },
    Listed { group: REGISTERS, name: "PUSHF", ops: &[Op::Pushf] },
    Listed { group: REGISTERS, name: "POPF", ops: &[Op::Popf] },
    Listed { group: PROTECTION, name: "LAR", ops: &[Op::Lar] },
    Listed { group: PROTECTION, name: "LSL", ops: &[Op::Lsl] },
    Listed { group: PROTECTION, name: "VERR", ops: &[Op::Verr] },
    Listed { group: PROTECTION, name: "VERW", ops: &[Op::Verw] },
    Listed { group: PROTECTION, name: "POP", ops: &[Op::PopSeg] },
    Listed { group: PROTECTION, name: "PUSH", ops: &[Op::PushSeg] },
    Listed { group: PROTECTION, name: "CALL", ops: &[Op::CallFar, Op::CallFarMem] },
    Listed { group: PROTECTION, name: "JMP", ops: &[Op::JmpFar, Op::JmpFarMem] },
    Listed { group: PROTECTION, name: "INT n", ops: &[Op::Int] },
    Listed { group: PROTECTION, name: "RET", ops: &[Op::Retf] },
    Listed { group: PROTECTION, name: "STR", ops: &[Op::Str] },
    Listed { group: PROTECTION, name: "MOV", ops: &[Op::MovFromSeg, Op::MovToSeg] },
];

/// Why the derived set has what the list has not: by operation.
fn not_listed(op: Op) -> Option<&'static str> {
    use Op::*;
    Some(match op {
        Iret => {
            "a far return that also loads EFLAGS: RET and POPF in one; the paper names neither it nor its flags"
        }
        LoadFar => "a MOV to a segment register with an offset beside it",
        Fpu => {
            "the x87 keeps the CS of its last instruction, and its RPL is the ring; the paper looks at no x87 state"
        }
        Rdtsc => {
            "time is a resource here; Popek and Goldberg, and the paper, set timing aside. CR4.TSD makes it privileged"
        }
        Cli | Sti => {
            "with IOPL at least the CPL it runs, and what it does to IF the monitor does not learn; the paper's monitor keeps IOPL at 0"
        }
        In | Out | Ins | Outs => {
            "with IOPL at least the CPL every port is open; the paper's monitor keeps IOPL at 0"
        }
        _ => return None,
    })
}

/// Why an entry of the list does not escape in a setting.
fn not_derived(op: Op, v86: bool, umip: bool) -> Option<&'static str> {
    use Op::*;
    Some(match op {
        Sgdt | Sidt | Sldt | Str | Smsw if umip && !(v86 && matches!(op, Sldt | Str)) => {
            "CR4.UMIP makes it fault at CPL > 0"
        }
        Sldt | Str | Lar | Lsl | Verr | Verw if v86 => {
            "not recognised in real and virtual-8086 mode: #UD in both"
        }
        PopSeg | PushSeg | CallFar | JmpFar | Retf | MovFromSeg | MovToSeg if v86 => {
            "in virtual-8086 mode selectors are bases, as in real mode: no ring and no descriptor shows"
        }
        Pushf | Popf | Int if v86 => "in virtual-8086 mode it faults while IOPL is less than 3",
        _ => return None,
    })
}

/// Instructions that are often asked about and are not in the derived set.
pub const NOTES: [&str; 8] = [
    "MOV and PUSH from DS, ES, FS, GS: the list has all of MOV and PUSH; a monitor loads these with the guest's own selectors, so only CS and SS show",
    "PUSH and POP of general registers and memory, near CALL, JMP and RET: innocuous; the list means the forms with segments",
    "CPUID: innocuous here, since the guest's processor is the machine's; a monitor that shows another one cannot trap it",
    "RDPMC: guarded by CR4.PCE; its counters stand at 0 on this processor, on a real one they are the monitor's too",
    "SYSENTER: it ends in ring 0 at the monitor's entry: control is the monitor's, which is what a trap is; SYSEXIT faults",
    "INT3, INT1, INTO: their vectors are exceptions', which a monitor keeps",
    "CLI, STI, IN, OUT: privileged while CPL > IOPL (and the I/O map denies the port); see --iopl 3",
    "PUSHF and POPF in virtual-8086 mode: they fault with IOPL < 3. With CR4.VME, which this processor has not, they would run on VIF instead",
];

/// The comparison in one setting.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// Entries of the list: group, name, the forms of it that escape, and why there is none.
    pub listed: Vec<(&'static str, &'static str, Vec<String>, Option<&'static str>)>,
    /// Mnemonics that escape and are not on the list, with the reason.
    pub beyond: Vec<(String, Option<&'static str>)>,
}

/// Compares the forms that escape with the list.
pub fn compare<'a>(
    results: impl IntoIterator<Item = &'a (Form, Judgement)>,
    v86: bool,
    umip: bool,
) -> Comparison {
    let escaping: Vec<&Form> =
        results.into_iter().filter(|(_, j)| j.class.escapes()).map(|(f, _)| f).collect();
    let mut comparison = Comparison::default();
    for entry in ROBIN_IRVINE {
        let forms = escaping.iter().filter(|f| entry.ops.contains(&f.insn.op));
        let names: Vec<String> = forms.map(|f| f.name.clone()).collect();
        let why = if names.is_empty() { not_derived(entry.ops[0], v86, umip) } else { None };
        comparison.listed.push((entry.group, entry.name, names, why));
    }
    let listed = |op: Op| ROBIN_IRVINE.iter().any(|e| e.ops.contains(&op));
    let beyond: BTreeSet<(String, Option<&str>)> = escaping
        .iter()
        .filter(|f| !listed(f.insn.op))
        .map(|f| (f.mnemonic().to_owned(), not_listed(f.insn.op)))
        .collect();
    comparison.beyond = beyond.into_iter().collect();
    comparison
}
