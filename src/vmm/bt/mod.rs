//! Binary translation of what must not run by itself: the guest's kernel, real mode, and user code wherever direct execution
//! is not safe (Adams and Agesen, ASPLOS 2006; Bugnion et al., TOCS 2012, section 4). What is translated runs in the same
//! ring, on the same shadow page tables, as under trap and emulate; but sensitive instructions are rewritten, and
//! nothing goes wrong.
//!
//! | file | what it is |
//! |---|---|
//! | `rules` | which instruction in which mode becomes what |
//! | `adapt` | accesses that keep leaving become callouts |
//! | `sequences` | inline sequences on the virtual state |

pub mod adapt;
pub mod rules;
mod sequences;

use super::bug::{self, Bug};
use super::descriptors::Descriptors;
use super::layout;
use super::seal;
use super::trap::Trap;
use super::vcpu::{Mode, V};
use crate::addr::Linear;
use crate::bus::Ticks;
use crate::cpu::{Cpu, Cr4, Eflags, Fault, Segment};
use crate::decode::{Insn, MAX_INSN_LEN, Op, SegReg};
use crate::exec::Handler;
use crate::interp::Stop;
use crate::machine::World;
use crate::report::{Cause, TranslationFigures};
use crate::translate::{Flow, Left, Policy, RuleId, Translator, Treatment, Why};
use adapt::Adaptation;
use rules::RuleSet;
use std::collections::BTreeMap;

/// The translator, its rules, and what was counted.
pub struct Translation {
    /// Translated code.
    pub translator: Translator<World>,
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
    pub fn new(without: Option<RuleId>, adaptive: bool) -> Self {
        Self {
            translator: Translator::default(),
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
        let (counts, runs) = (&translator.counts, translator.runs());
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

    /// The carried-over instruction at `at` left translated code for `cause`.
    pub(super) fn exited(&mut self, at: Linear, cause: Cause) {
        if self.adaptation.exited(at.0, cause) {
            self.translator.retranslate(at);
        }
    }

    /// The adapted access at `at` ran; whether it met a trace or a chip.
    pub(super) fn called_out(&mut self, at: Linear, met: bool) {
        if self.adaptation.called_out(at.0, met) {
            self.translator.retranslate(at);
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
    /// Whether this is user code, translated only because it cannot run by itself now.
    fn is_users(&self) -> bool {
        self.mode.is_users()
    }
}

impl Policy<World> for Rewriting<'_> {
    fn mode(&self, _: &Cpu) -> u8 {
        rules::column(self.mode)
    }

    fn treat(&self, mode: u8, at: Linear, insn: &Insn) -> Treatment {
        if insn.op == Op::Inc && bug::on(Bug::NeedlessCallout) {
            return Treatment::Callout(RuleId(0));
        }
        if self.adaptation.is_adapted(at.0) || (insn.op == Op::Inc && bug::on(Bug::EagerAdaptation)) {
            return Treatment::Callout(rules::ADAPTED);
        }
        self.rules.treat(mode, insn)
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

/// Whether the guest's code can run by itself: user code with interrupts on, that may neither turn them off nor speak to
/// ports (Bugnion et al., 4.3).
pub(super) fn is_safe(guest: &Cpu, mode: Mode) -> bool {
    mode.is_users() && guest.system_flags.contains(Eflags::IF) && guest.iopl() < 3
}

/// Makes `real` fit to run user code that is to see nothing of the monitor. Its descriptor tables are where nothing is
/// mapped: loads of segment registers, LAR, LSL, VERR and VERW fault there, and are emulated. UMIP makes SGDT and its
/// like fault. IOPL is the guest's: no instruction at CPL 3 does anything else for it, but PUSHF shows it.
pub(super) fn conceal(guest: &Cpu, real: &mut Cpu) {
    real.gdtr.base = layout::NOWHERE.0;
    if guest.ldtr.usable() {
        // Also the table at 0 that there is after a reset.
        real.ldtr = Segment::system(layout::LDT_SELECTOR, layout::NOWHERE.0, 0xffff, 0x82);
    }
    real.cr4 |= Cr4::UMIP;
    if !guest.v86() && guest.iopl() < 3 {
        real.system_flags |= guest.system_flags & Eflags::IOPL;
    }
}

/// Gives `real`, which has the image of the guest's CS, the guest's limit, for translated code. Such code is not fetched through
/// CS, so that nothing has to be truncated: a kernel at the end of a segment whose base makes it wrap runs translated, too. What
/// reads through CS calls out (CODE-READ).
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

impl Trap {
    /// Runs translated code until something stops it. `None`: it can go on.
    pub(super) fn run_translated(
        &mut self,
        guest: &mut Cpu,
        world: &mut World,
        until: Ticks,
    ) -> Option<Stop> {
        self.drop_stale(world);
        let before = self.audit_before(world);
        let Some(translation) = &mut self.translation else { return None };
        let start = guest.now;
        widen(guest, self.v.mode(), &mut self.real);
        let mut policy = Rewriting {
            mode: self.v.mode(),
            rules: translation.rules,
            inlined: &mut translation.inlined,
            adaptation: &translation.adaptation,
            guest,
            v: &mut self.v,
            tables: &self.descriptors,
        };
        let sealed = seal::take(&world.map.ram, &self.mmu.shadow.target, &self.descriptors);
        world.enter_machine();
        let left = translation.translator.run(&mut self.real, world, &mut policy, until);
        let resumed = translation.translator.resumed();
        world.leave_machine();
        seal::check(sealed, &world.map.ram, &self.mmu.shadow.target, &self.descriptors);
        self.audit_after(world, before.as_ref());
        narrow(self.v.image(SegReg::Cs), &mut self.real);
        self.v.decompose(&self.real, &self.descriptors, guest);
        self.counts.entries += 1;
        self.counts.translated += guest.now - start;
        match left {
            Left::Stop(stop) => self.stopped(guest, world, stop, resumed),
            Left::Look => None,
            // It may fault, and what ran before it is to be seen first.
            Left::Callout(_) if self.owes_boundary(guest) => Some(self.look_up(guest)),
            Left::Callout(rule) => {
                *self.translation.as_mut()?.callouts.entry(rule).or_default() += 1;
                let at = Linear(guest.linear_eip());
                _ = world.take_reached_chip();
                let stop = self.call_out(guest, world);
                if rule == rules::ADAPTED {
                    self.adapted_ran(world, at, false);
                }
                stop
            }
        }
    }
}
