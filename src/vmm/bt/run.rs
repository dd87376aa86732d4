//! Running the guest on translated code, and directly where that is safe.

use super::{Rewriting, Translation, conceal, narrow, rules, widen};
use crate::addr::Linear;
use crate::bus::Ticks;
use crate::cpu::Cpu;
use crate::decode::SegReg;
use crate::interp::Stop;
use crate::machine::{TranslationView, World};
use crate::report::{Cause, TranslationFigures};
use crate::translate::{Left, RuleId};
use crate::vmm::integrity;
use crate::vmm::ring::{Execution, Reaction, RingCompression, runs_directly};

impl Translation {
    /// Runs translated code until something stops it. `None`: the guest can go on.
    fn run_translated(
        &mut self,
        ring: &mut RingCompression,
        guest: &mut Cpu,
        world: &mut World,
        until: Ticks,
    ) -> Option<Stop> {
        ring.mmu.drop_stale(world);
        let before = ring.audit_before(world);
        let start = guest.now;
        widen(guest, ring.v.mode(), &mut ring.real);
        let sealed = integrity::take(&world.map.ram, || ring.own_frames());
        let mut policy = Rewriting {
            mode: ring.v.mode(),
            rules: self.rules,
            inlined: &mut self.inlined,
            adaptation: &self.adaptation,
            guest,
            v: &mut ring.v,
            tables: &ring.descriptors,
        };
        world.enter_machine();
        let entries = self.translator.counts().entries;
        let left = self.translator.run(&mut ring.real, world, &mut policy, until);
        let entries = self.translator.counts().entries - entries;
        let resumed = self.translator.interp().resumed();
        world.leave_machine();
        integrity::check(sealed, &world.map.ram, || ring.own_frames());
        ring.audit_after(world, before.as_ref());
        narrow(ring.v.image(SegReg::Cs), &mut ring.real);
        ring.v.decompose(&ring.real, &ring.descriptors, guest);
        ring.ledger.counts.entries += entries;
        ring.ledger.counts.translated += guest.now - start;
        match left {
            Left::Stop(stop) => ring.stopped(guest, world, stop, resumed),
            Left::Look => None,
            Left::Callout(rule) if ring.owes_boundary(guest) => {
                Some(ring.look_up_first(guest, Reaction::Callout(rule)))
            }
            Left::Callout(rule) => self.call_out(ring, guest, world, rule),
        }
    }
}

impl Execution for Translation {
    fn run(
        &mut self,
        ring: &mut RingCompression,
        guest: &mut Cpu,
        world: &mut World,
        until: Ticks,
    ) -> Option<Stop> {
        if runs_directly(guest, ring.v.mode()) {
            ring.run_direct(guest, world, until)
        } else {
            self.run_translated(ring, guest, world, until)
        }
    }

    fn call_out(
        &mut self,
        ring: &mut RingCompression,
        guest: &mut Cpu,
        world: &mut World,
        rule: RuleId,
    ) -> Option<Stop> {
        *self.callouts.entry(rule).or_default() += 1;
        let at = Linear(guest.linear_eip());
        _ = world.take_reached_chip();
        let stop = ring.call_out(guest, world);
        if rule == rules::ADAPTED {
            ring.adapted_ran(world, at, false);
        }
        stop
    }

    fn conceal(&self, guest: &Cpu, real: &mut Cpu) {
        conceal(guest, real);
    }

    fn exited(&mut self, at: Linear, cause: Cause) {
        if self.adaptation.exited(at.0, cause) {
            self.translator.retranslate(at);
        }
    }

    fn called_out(&mut self, at: Linear, met: bool) {
        if self.adaptation.called_out(at.0, met) {
            self.translator.retranslate(at);
        }
    }

    fn stop_at_units(&mut self, on: bool) {
        self.translator.stop_after_units(on);
    }

    fn has_units(&self) -> bool {
        true
    }

    fn figures(&self) -> Option<TranslationFigures> {
        Some(Self::figures(self))
    }

    fn view(&self) -> Option<&dyn TranslationView> {
        Some(self)
    }

    fn view_mut(&mut self) -> Option<&mut dyn TranslationView> {
        Some(self)
    }
}
