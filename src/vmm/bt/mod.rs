//! Binary translation of what must not run by itself: the guest's kernel, real mode, and user code wherever
//! direct execution is not safe (Adams and Agesen, ASPLOS 2006; Bugnion et al., TOCS 2012, section 4). What
//! is translated runs in the same ring, on the same shadow page tables, as under trap and emulate; but
//! sensitive instructions are rewritten, and nothing goes wrong.
//!
//! | file | what it is |
//! |---|---|
//! | `rules` | which instruction in which mode becomes what |
//! | `adapt` | accesses that keep leaving become callouts |
//! | `run` | running translated code |
//! | `sequences` | inline sequences on the virtual state |

pub mod adapt;
pub mod rules;
mod run;
mod sequences;

use super::descriptors::Descriptors;
use super::invariants;
use super::layout;
use super::vcpu::{Mode, V};
use crate::addr::Linear;
use crate::cpu::{Cpu, Cr4, Eflags, Fault, Segment};
use crate::decode::{Insn, MAX_INSN_LEN, SegReg};
use crate::exec::Handler;
use crate::machine::World;
use crate::report::TranslationFigures;
use crate::translate::{Flow, Policy, RuleId, TranslatedCode, Treatment, Why};
use adapt::Adaptation;
use rules::RuleSet;
use std::collections::BTreeMap;

/// The translator, its rules, and what was counted.
pub struct Translation {
    /// Translated code.
    pub translator: Box<dyn TranslatedCode<World>>,
    /// The rules in force.
    pub rules: RuleSet,
    /// Callouts by rule.
    pub callouts: BTreeMap<RuleId, u64>,
    /// Inline sequences run, by rule.
    pub inlined: Inlined,
    /// Accesses that became callouts.
    pub adaptation: Adaptation,
}

/// A number for each rule.
pub type Inlined = [u64; rules::RULES.len()];

impl Translation {
    /// With all rules but `without`; `adaptive` or not.
    pub fn new(translator: Box<dyn TranslatedCode<World>>, without: Option<RuleId>, adaptive: bool) -> Self {
        Self {
            translator,
            rules: RuleSet::without(without),
            callouts: BTreeMap::new(),
            inlined: [0; rules::RULES.len()],
            adaptation: Adaptation::new(adaptive && without != Some(rules::ADAPTED)),
        }
    }
}

impl Translation {
    /// The figures so far.
    pub fn figures(&self) -> TranslationFigures {
        let translator = &self.translator;
        let (counts, runs) = (translator.counts(), translator.runs());
        let guest: usize = translator.units().map(|unit| unit.code.len()).sum();
        let callouts = self.callouts.iter().map(|(id, n)| (rules::by_id(*id).name, *n)).collect();
        let inlined = rules::RULES.iter().zip(self.inlined).filter(|(_, n)| *n > 0);
        let dropped = Why::ALL.iter().zip(counts.dropped).filter(|(_, n)| *n > 0);
        TranslationFigures {
            units: counts.translated,
            instructions: counts.instructions,
            ident: counts.ident,
            expansion: translator.fragment_bytes() as f64 / guest.max(1) as f64,
            runs: runs.units,
            indirect: runs.indirect,
            inline: runs.inline,
            misses: counts.direct_misses + counts.indirect_misses,
            indirect_misses: counts.indirect_misses,
            entries: counts.entries,
            singles: counts.singles,
            callouts,
            inlined: inlined.map(|(rule, n)| (rule.name, n)).collect(),
            dropped: dropped.map(|(why, n)| (why.name(), n)).collect(),
            renewed: counts.renewed,
            adapted: self.adaptation.adapted,
            reverted: self.adaptation.reverted,
        }
    }
}

/// What translated code is made by, and the virtual state that its inline sequences work on.
pub(super) struct Rewriting<'a> {
    guest: &'a mut Cpu,
    /// The map between the two processors, and what it goes by.
    v: &'a mut V,
    tables: &'a Descriptors,
    mode: Mode,
    rules: RuleSet,
    inlined: &'a mut Inlined,
    adaptation: &'a Adaptation,
}

impl Rewriting<'_> {
    /// Whether user code is translated, which cannot run directly now.
    fn is_users(&self) -> bool {
        self.mode.is_users()
    }
}

impl Policy<World> for Rewriting<'_> {
    fn mode(&self, _: &Cpu) -> u8 {
        rules::column(self.mode)
    }

    fn treat(&self, mode: u8, at: Linear, insn: &Insn) -> Treatment {
        let treatment = if self.adaptation.is_adapted(at.0) {
            Treatment::Callout(rules::ADAPTED)
        } else {
            self.rules.treat(mode, insn)
        };
        invariants::innocuous_is_carried_over(insn, rules::ADAPTED, treatment)
    }

    fn hides(&self, at: Linear) -> bool {
        // The guest's CS may reach into the monitor's region, also by a last byte.
        self.mode == Mode::Kernel && at.0.saturating_add(MAX_INSN_LEN as u32 - 1) >= layout::BASE
    }

    fn inline(
        &mut self,
        rule: RuleId,
        run: Handler<World>,
        cpu: &mut Cpu,
        env: &mut World,
        insn: &Insn,
    ) -> Result<Flow, Fault> {
        let flow = rules::by_id(rule).sequence.run(self, run, cpu, env, insn);
        if let Some(n) = self.inlined.get_mut(usize::from(rule.0))
            && matches!(flow, Ok(Flow::Next | Flow::Anew | Flow::Look))
        {
            *n += 1;
        }
        flow
    }
}

/// Makes `real` fit to run user code that is to see nothing of the monitor. Its descriptor tables are where
/// nothing is mapped: loads of segment registers, LAR, LSL, VERR and VERW fault there, and are emulated. UMIP
/// makes SGDT and its like fault. IOPL is the guest's: no instruction at CPL 3 does anything else for it, but
/// PUSHF shows it.
pub(super) fn conceal(guest: &Cpu, real: &mut Cpu) {
    real.gdtr.base = layout::NOWHERE.0;
    if guest.ldtr.usable() {
        // The table at 0 that a reset leaves, too.
        real.ldtr = Segment::system(layout::LDT_SELECTOR, layout::NOWHERE.0, 0xffff, 0x82);
    }
    real.cr4 |= Cr4::UMIP;
    if !guest.v86() && guest.iopl() < 3 {
        real.system_flags |= guest.system_flags & Eflags::IOPL;
    }
}

/// Gives `real`, which has the image of the guest's CS, the guest's limit, for translated code. Such code is
/// not fetched through CS, so that nothing has to be truncated: a kernel at the end of a segment whose base
/// makes it wrap runs translated, too. What reads through CS calls out (CODE-READ).
fn widen(guest: &Cpu, mode: Mode, real: &mut Cpu) {
    if mode == Mode::Kernel {
        let narrow = *real.seg(SegReg::Cs);
        real.set_seg(SegReg::Cs, Segment { limit: guest.seg(SegReg::Cs).limit, ..narrow });
    }
}

/// Takes that back: CS is the image again, unless the real processor loaded it by itself since.
fn narrow(image: Segment, real: &mut Cpu) {
    let now = *real.seg(SegReg::Cs);
    if now == (Segment { limit: now.limit, ..image }) {
        real.set_seg(SegReg::Cs, image);
    }
}
