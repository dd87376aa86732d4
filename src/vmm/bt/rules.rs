//! The rewriting rules: which instruction in which mode becomes what. Policy only, one rule to a line; the
//! sequences are in `sequences`, the mechanism is [`crate::translate`].
//!
//! A column is a mode of the guest's, and how it runs in the real processor: real mode (in virtual-8086
//! mode), its own virtual-8086 mode, kernel (in ring 1), user (in ring 3, where direct execution is not
//! safe).
//!
//! | letter | what becomes of the instruction |
//! |---|---|
//! | `-` | carried over (IDENT): the real processor does the same, or faults and the monitor emulates |
//! | `i` | the inline sequence on the virtual state |
//! | `c` | a callout: the monitor runs it on the virtual processor, without a fault |

use super::sequences::{self, Sequence};
use crate::decode::{FpuMem, FpuOp, Insn, Op, Place, SegReg};
use crate::translate::{RuleId, Treatment};
use crate::vmm::vcpu::Mode;

/// A rule.
pub struct Rule {
    /// The name, for `--without-rule` and in listings.
    pub name: &'static str,
    /// Whether the rule is about this instruction.
    pub applies: fn(&Insn) -> bool,
    /// What becomes of the instruction, by [`COLUMNS`].
    columns: &'static str,
    /// The inline sequence, where there is one.
    pub(super) sequence: Sequence,
    /// Why it is needed.
    pub why: &'static str,
}

const fn rule(
    name: &'static str,
    applies: fn(&Insn) -> bool,
    columns: &'static str,
    sequence: Sequence,
    why: &'static str,
) -> Rule {
    Rule { name, applies, columns, sequence, why }
}

/// The modes of a rule's columns.
pub const COLUMNS: [&str; 4] = ["real mode", "virtual-8086 mode", "kernel", "user"];
/// The column of the guest's kernel.
pub const KERNEL: u8 = 2;

/// The place of `mode` in a rule's columns, and the translator's number of it.
pub(super) fn column(mode: Mode) -> u8 {
    match mode {
        Mode::Real => 0,
        Mode::V86 => 1,
        Mode::Kernel => KERNEL,
        Mode::User => 3,
    }
}

macro_rules! ops {
    ($($op:ident)|+) => { |i: &Insn| matches!(i.op, $(Op::$op)|+) };
}

fn shows_ring(register: u8) -> bool {
    register == SegReg::Cs as u8 || register == SegReg::Ss as u8
}
fn from_ring(i: &Insn) -> bool {
    i.op == Op::MovFromSeg && shows_ring(i.src_reg)
}
fn pushes_ring(i: &Insn) -> bool {
    i.op == Op::PushSeg && shows_ring(i.dst_reg)
}
fn smsw_register(i: &Insn) -> bool {
    i.op == Op::Smsw && i.dst != Place::Mem
}
/// Stores the selectors of x87's last operands, or loads what the real CS or SS could show as well.
fn x87_state(i: &Insn) -> bool {
    use FpuOp::*;
    i.op == Op::Fpu && matches!(i.fpu, Fnstenv | Fnsave | Fxsave | Fldenv | Frstor | Fxrstor)
}

/// Reads what CS names.
fn reads_code(i: &Insn) -> bool {
    let implied = matches!(i.op, Op::Movs | Op::Cmps | Op::Lods | Op::Xlat) || i.fpu_mem != FpuMem::None;
    let reads = i.dst == Place::Mem || i.src == Place::Mem || implied;
    i.seg == SegReg::Cs && reads && !matches!(i.op, Op::Lea | Op::Nop)
}

/// No instruction: for what a site's history decides.
fn never(_: &Insn) -> bool {
    false
}

use sequences::{CLTS, CONTROL, CONTROL_TO_MEMORY, FLAGS, NONE, RETURN, SEGMENTS, SELECTORS, TABLES, TIME};

/// All rules. The first one that applies counts.
#[rustfmt::skip]
pub const RULES: &[Rule] = &[
    //   name             instructions                             r v k u  sequence    why
    rule("CLI",           ops!(Cli),                               "iiii", FLAGS,      "IF is virtual"),
    rule("STI",           ops!(Sti),                               "iiii", FLAGS,      "IF is virtual"),
    rule("PUSHF",         ops!(Pushf),                             "iiii", FLAGS,      "it would push the real IF and IOPL"),
    rule("POPF",          ops!(Popf),                              "iiii", FLAGS,      "its writes to IF and IOPL would be dropped without a fault"),
    rule("SGDT",          ops!(Sgdt),                              "icic", TABLES,     "it would store the monitor's GDTR"),
    rule("SIDT",          ops!(Sidt),                              "icic", TABLES,     "it would store the monitor's IDTR"),
    rule("SLDT",          ops!(Sldt),                              "--ic", SELECTORS,  "it would show the monitor's LDTR"),
    rule("STR",           ops!(Str),                               "--ic", SELECTORS,  "it would show the monitor's TR"),
    rule("SMSW",          smsw_register,                           "icic", CONTROL,    "it would show the monitor's CR0"),
    rule("SMSW-MEMORY",   ops!(Smsw),                              "icic", CONTROL_TO_MEMORY, "it would store the monitor's CR0"),
    rule("MOV-FROM-CR",   ops!(MovFromCr),                         "i-i-", CONTROL,    "control registers are virtual"),
    rule("MOV-TO-CR",     ops!(MovToCr | Lmsw),                    "c-c-", NONE,       "control registers are virtual"),
    rule("CLTS",          ops!(Clts),                              "i-i-", CLTS,       "CR0 is virtual"),
    rule("MOV-FROM-SEG",  from_ring,                               "--i-", SELECTORS,  "the RPL that it reads would be the real ring"),
    rule("PUSH-SEG",      pushes_ring,                             "--i-", SELECTORS,  "the RPL that it pushes would be the real ring"),
    rule("LOAD-SEG",      ops!(MovToSeg | PopSeg | LoadFar),       "--i-", SEGMENTS,   "its checks would be against the real ring and the monitor's descriptors"),
    rule("LAR",           ops!(Lar | Lsl),                         "--cc", NONE,       "it would ask the monitor's descriptors, at the real ring"),
    rule("VERR",          ops!(Verr | Verw),                       "--cc", NONE,       "it would ask the monitor's descriptors, at the real ring"),
    rule("FAR",           ops!(JmpFar | CallFar | JmpFarMem | CallFarMem | Retf), "--c-", NONE, "what it pushes and checks would be the real ring"),
    rule("IRET",          ops!(Iret),                              "iiic", RETURN,     "IF and IOPL are virtual, and the ring that it returns from"),
    rule("INT",           ops!(Int | Int3 | Into | Int1),          "cccc", NONE,       "the IDT is the monitor's"),
    rule("SYSENTER",      ops!(Sysenter | Sysexit),                "c-cc", NONE,       "the registers that it goes by are virtual"),
    rule("HLT",           ops!(Hlt),                               "c-c-", NONE,       "it would stop the real processor"),
    rule("LGDT",          ops!(Lgdt | Lidt | Lldt | Ltr),          "c-c-", NONE,       "the table registers are virtual"),
    rule("INVLPG",        ops!(Invlpg),                            "c-c-", NONE,       "the TLB is the monitor's"),
    rule("INVD",          ops!(Invd | Wbinvd),                     "c-c-", NONE,       "the caches are the machine's"),
    rule("MOV-DR",        ops!(MovFromDr | MovToDr),               "c-c-", NONE,       "debug registers are virtual"),
    rule("MSR",           ops!(Rdmsr | Wrmsr | Rdpmc),             "c-c-", NONE,       "model-specific registers are virtual"),
    rule("RDTSC",         ops!(Rdtsc),                             "i-i-", TIME,       "whether it may be read depends on the real ring"),
    rule("PORT-IO",       ops!(In | Out | Ins | Outs),             "cccc", NONE,       "ports are the monitor's"),
    rule("X87-STATE",     x87_state,                               "--c-", NONE,       "its selectors of CS and SS would show the real ring"),
    rule("CODE-READ",     reads_code,                              "--c-", NONE,       "CS is not truncated where it limits no fetch, and reaches the monitor"),
    rule("ADAPTED",       never,                                   "cccc", NONE,       "the access met a trace or a chip time and again"),
];

/// The rule of accesses that were adapted.
pub const ADAPTED: RuleId = RuleId(RULES.len() as u8 - 1);

impl Rule {
    /// What becomes of the instruction in the mode of `column`: a letter of the table above.
    pub fn letter(&self, column: usize) -> char {
        self.columns.as_bytes().get(column).map_or('-', |letter| char::from(*letter))
    }

    /// The steps of the inline sequence, in words.
    pub fn steps(&self) -> impl Iterator<Item = String> {
        self.sequence.steps()
    }

    /// What becomes of the instruction in `mode`, a column.
    fn treatment(&self, id: RuleId, mode: u8) -> Treatment {
        match self.columns.as_bytes().get(usize::from(mode)) {
            Some(b'i') => Treatment::Inline(id),
            Some(b'c') => Treatment::Callout(id),
            _ => Treatment::Ident,
        }
    }
}

/// The rule with this number.
pub fn by_id(id: RuleId) -> &'static Rule {
    &RULES[usize::from(id.0).min(RULES.len() - 1)]
}

/// The rule with this name, in capitals or not.
pub fn by_name(name: &str) -> Option<RuleId> {
    RULES.iter().position(|r| r.name.eq_ignore_ascii_case(name)).map(|n| RuleId(n as u8))
}

/// Which rules are in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RuleSet {
    without: Option<RuleId>,
}

impl RuleSet {
    /// All rules but one.
    pub fn without(rule: Option<RuleId>) -> Self {
        Self { without: rule }
    }

    /// What becomes of `insn` in `mode`, a column.
    pub(super) fn treat(self, mode: u8, insn: &Insn) -> Treatment {
        let found = RULES.iter().position(|r| (r.applies)(insn)).map(|n| RuleId(n as u8));
        match found {
            Some(id) if self.without != Some(id) => by_id(id).treatment(id, mode),
            _ => Treatment::Ident,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::classify::forms::all;
    use crate::classify::{self, Class, Kind, Setting, judge, verdict};

    /// Sensitive forms that the kernel column carries over, each with the reason.
    const CARRIED_OVER: [(&str, &str); 0] = [];

    #[test]
    fn every_sensitive_form_has_a_rule_in_kernel_mode() {
        let forms = [all(true), all(false)];
        let mut sensitive = 0;
        for form in forms.iter().flat_map(|forms| &forms.built) {
            let found = verdict(&form.insn);
            if !found.escapes() && !matches!(found.class, Class::Privileged | Class::Guarded) {
                continue;
            }
            sensitive += 1;
            let carried = RuleSet::default().treat(KERNEL, &form.insn) == Treatment::Ident;
            let named = CARRIED_OVER.iter().any(|(name, _)| *name == form.name);
            assert_eq!(carried, named, "{} ({}): {}", form.name, form.opcode, found.why);
        }
        assert!(sensitive > 200, "the forms were found: {sensitive}");
    }

    /// As what happens says, with the IOPL that real-mode code is run with. RDTSC shows the clock, which is
    /// one and the same.
    #[test]
    fn every_sensitive_form_has_a_rule_in_real_mode() {
        let setting = Setting { mode: classify::Mode::V86, iopl: 0, umip: false };
        let mut sensitive = 0;
        for form in &all(false).built {
            let carried = RuleSet::default().treat(0, &form.insn) == Treatment::Ident;
            if carried && form.insn.op != Op::Rdtsc {
                let found = judge(form, setting, 1, 32);
                assert!(!found.class.escapes(), "{} ({}): {:?}", form.name, form.opcode, found.class);
            }
            sensitive += u32::from(!carried);
        }
        assert!(sensitive > 8, "the forms were found: {sensitive}");
    }

    /// Code of the guest's own rings 3 and virtual-8086 mode has that mode in the real processor, too: what
    /// depends on the mode goes right. What the classification finds to show the monitor's registers, or to
    /// lose a change, has a rule there as well.
    #[test]
    fn what_shows_the_monitor_has_a_rule_in_user_and_virtual_8086_mode() {
        let columns = [(1, classify::Mode::V86, false), (3, classify::Mode::Cpl3, true)];
        for (column, mode, code32) in columns {
            let setting = Setting { mode, iopl: 0, umip: false };
            let mut shown = 0;
            for form in &all(code32).built {
                let found = judge(form, setting, 1, 32);
                let lost = found.class == Class::ControlSensitive && form.insn.op != Op::Retf;
                if lost || found.kind == Some(Kind::Location) && form.insn.op != Op::Rdtsc {
                    let treated = RuleSet::default().treat(column, &form.insn);
                    let (name, column) = (&form.name, COLUMNS[usize::from(column)]);
                    assert_ne!(treated, Treatment::Ident, "{name} ({}) in {column}", form.opcode);
                    shown += 1;
                }
            }
            assert!(shown > 4, "the forms were found: {shown}");
        }
    }

    /// But for what loads x87's selectors: V maps one that is loaded and one that the real CS or SS shows to
    /// the same, so that what ran by itself cannot be taken back.
    #[test]
    fn what_is_innocuous_is_carried_over() {
        for form in all(true).built.iter().filter(|f| verdict(&f.insn).class == Class::Innocuous) {
            let treatment = RuleSet::default().treat(KERNEL, &form.insn);
            if matches!(form.insn.fpu, FpuOp::Fldenv | FpuOp::Frstor | FpuOp::Fxrstor) {
                assert_eq!(Some(treatment), by_name("X87-STATE").map(Treatment::Callout), "{}", form.name);
            } else {
                assert_eq!(treatment, Treatment::Ident, "{}", form.name);
            }
        }
    }

    #[test]
    fn names_are_unique_and_every_rule_has_four_columns() {
        for (n, rule) in RULES.iter().enumerate() {
            assert_eq!(by_name(rule.name), Some(RuleId(n as u8)), "{}", rule.name);
            assert!(
                rule.columns.len() == 4 && rule.columns.bytes().all(|c| b"-ic".contains(&c)),
                "{}",
                rule.name
            );
        }
    }
}
