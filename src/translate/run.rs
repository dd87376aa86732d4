//! Running chained units. Between units, as between the interpreter's traces, deadlines, interrupts and stale
//! code are looked for; within one there is nothing to look for.

use super::backend::{Backend, Broken, Chained, Ended as Ran, Whole};
use super::invariants;
use super::pause::Place;
use super::plan::{Flow, Plan, Policy, Tail, Treatment};
use super::tally::Tally;
use super::translator::{Left, Translator};
use super::unit::{CODE32, Key, Link, Record, Runs, USER, Unit, UnitInfo, Why as Dropped, mode_of};
use crate::addr::{Linear, PAGE_OFFSET};
use crate::bus::Ticks;
use crate::cpu::{Cpu, Fault, Segment};
use crate::decode::SegReg;
use crate::exec::ops;
use crate::interp::{CodeEnv, Stop, restore_eip};

/// What to do next.
enum Next {
    /// Look up, and go on.
    On,
    /// Come back.
    Leave(Left),
}

impl From<Fault> for Next {
    fn from(fault: Fault) -> Self {
        Self::Leave(Left::Stop(Stop::Fault(fault)))
    }
}

impl<E: CodeEnv, B: Backend<E>> Translator<E, B> {
    /// Runs until `limit`, a fault, or a reason to come back.
    pub fn run(&mut self, cpu: &mut Cpu, env: &mut E, policy: &mut dyn Policy<E>, limit: Ticks) -> Left {
        cpu.deadline = limit;
        self.steps.begin();
        if !self.goes_on(cpu, policy) {
            self.counts.entries += 1;
        }
        loop {
            self.restamp(env);
            if let Some(stop) = self.steps.boundary(cpu, env) {
                if stop == Stop::Budget {
                    self.pause(cpu, policy);
                }
                return Left::Stop(stop);
            }
            let next = if cpu.special.is_empty() && !env.checks_each_access() {
                let place = self.take_place(cpu, policy);
                self.chain(cpu, env, policy, place)
            } else {
                self.forget_pause();
                self.single(cpu, env, policy)
            };
            match next {
                Next::Leave(left) => return left,
                Next::On if self.by_unit => {
                    self.pause(cpu, policy);
                    return Left::Look;
                }
                Next::On => {}
            }
        }
    }

    /// Links count no longer if addresses may be translated otherwise now, or code was overwritten: by the
    /// guest, or while somebody else ran, by an emulated instruction, the delivery of an event, or a bus
    /// master.
    fn restamp(&mut self, env: &E) {
        if self.map_epoch != env.map_epoch() {
            self.map_epoch = env.map_epoch();
            self.drop_all(Dropped::MapChanged);
        }
        let code = invariants::epoch_of_links(env.code_epoch(), self.epochs.1);
        let epochs = (env.fetch_epoch(), code);
        if self.epochs != epochs {
            self.epochs = epochs;
            self.new_stamp();
        }
    }

    /// No link counts any longer.
    fn new_stamp(&mut self) {
        self.stamp = self.stamp.wrapping_add(1);
        self.backend.unlink();
    }

    /// Runs units until something is up, from `place` on or from the one at CS:EIP.
    fn chain(
        &mut self,
        cpu: &mut Cpu,
        env: &mut E,
        policy: &mut dyn Policy<E>,
        place: Option<Place>,
    ) -> Next {
        let mode = mode_of(cpu, policy);
        // The walk for a fetch may set an accessed bit in translated code, and asks to leave then.
        cpu.leave.set(false);
        let (mut at, mut done) = match place {
            Some(Place::Before(unit)) => (unit, None),
            Some(Place::Within(unit, done)) => {
                self.to_start(cpu, unit, done);
                (unit, Some(done))
            }
            Some(Place::Past(unit, way)) => match self.follow(cpu, env, policy, (unit, way, mode)) {
                Ok(Some(unit)) if !cpu.leave.get() => (unit, None),
                Ok(_) => return Next::On,
                Err(fault) => return fault.into(),
            },
            None => match self.enter(cpu, env, policy, mode) {
                Ok(Some(_)) if cpu.leave.get() => return Next::On,
                Ok(Some(unit)) => (unit, None),
                Ok(None) => return self.single(cpu, env, policy),
                Err(fault) => return fault.into(),
            },
        };
        let (watched, pages) = (env.watches_memory(), policy.shows_fetches());
        loop {
            // With a stamp that no link has yet each way out is followed here.
            let stamp = if self.by_unit { !self.stamp } else { self.stamp };
            let Segment { base, limit, .. } = *cpu.seg(SegReg::Cs);
            let bounds = Bounds { base, limit, mode, stamp };
            let mut ended;
            (at, ended) = match (done.take(), watched, self.store.tallies, pages) {
                (Some(done), ..) => (at, self.run_begun(cpu, env, (at, done), limit)),
                (None, false, false, false) => self.spin::<false, false, false>(cpu, env, at, bounds),
                (None, false, true, false) => self.spin::<false, true, false>(cpu, env, at, bounds),
                (None, true, _, false) => self.spin::<true, true, false>(cpu, env, at, bounds),
                (None, false, _, true) => self.spin::<false, true, true>(cpu, env, at, bounds),
                (None, true, _, true) => self.spin::<true, true, true>(cpu, env, at, bounds),
            };
            if let Ended::NoTime = ended {
                ended = self.run_to_deadline(cpu, env, (at, None));
            }
            let way = match ended {
                Ended::Way(way) => way,
                Ended::Tail { end, now } => match self.run_tail(at, (end, now), cpu, env, policy) {
                    None => 1,
                    Some(next) => return next,
                },
                Ended::Paused(place) => {
                    self.pause_at(place, cpu, policy);
                    return Next::On;
                }
                Ended::BeyondLimit => return self.single(cpu, env, policy),
                Ended::LookUp | Ended::NoTime => return Next::On,
                Ended::Fault(fault) => return fault.into(),
            };
            if cpu.now >= cpu.deadline {
                // A trap that is due goes first, and a fetch would fault before it.
                self.pause_at(Place::Past(at, way), cpu, policy);
                return Next::On;
            }
            at = match self.follow(cpu, env, policy, (at, way, mode)) {
                Ok(Some(unit)) if !cpu.leave.get() => unit,
                Ok(_) => return Next::On,
                Err(fault) => return fault.into(),
            };
            if self.by_unit {
                self.pause_at(Place::Before(at), cpu, policy);
                return Next::On;
            }
        }
    }

    /// Runs as much of unit `n` as there is time for before the deadline; of one that was begun, so many
    /// instructions are done.
    #[cold]
    fn run_to_deadline(&mut self, cpu: &mut Cpu, env: &mut E, (n, begun): (u32, Option<u8>)) -> Ended {
        let unit = &mut self.store.units[n as usize];
        let most = cpu.deadline.saturating_sub(cpu.now).min(u64::from(u8::MAX)) as u8;
        if begun.is_none() {
            if most == 0 {
                return Ended::Paused(Place::Before(n));
            }
            unit.runs += 1;
        }
        let way = match self.backend.run_part(&unit.fragment, begun.unwrap_or(0), most, cpu, env) {
            Ran::Way(way) => way,
            Ran::Paused(done) => {
                self.at_start(cpu, n, done);
                return Ended::Paused(Place::Within(n, done));
            }
            ran => {
                unit.note_end(ran);
                return stopped(ran, cpu, unit.bytes);
            }
        };
        if let Some(tally) = &mut unit.tally {
            tally.left_through(way);
        }
        if unit.precise && env.wants_attention(cpu) { Ended::LookUp } else { Ended::Way(way) }
    }

    /// Runs unit `n`, of which so many instructions are done, to its end or to the deadline.
    #[cold]
    fn run_begun(&mut self, cpu: &mut Cpu, env: &mut E, (n, done): (u32, u8), limit: u32) -> Ended {
        let unit = &mut self.store.units[n as usize];
        if beyond(cpu.eip, unit.bytes, limit) {
            unit.broke_off(usize::from(done));
            self.at_start(cpu, n, done);
            return Ended::BeyondLimit;
        }
        self.run_to_deadline(cpu, env, (n, Some(done)))
    }

    /// Runs units from `n` on as long as they are chained, or can be found by their linear addresses, and end
    /// in near branches; returns the last one, too. `WATCHED`: somebody looks at memory accesses, `TALLIED`:
    /// and wants to know where runs break off, `PAGES`: the guest can tell when pages of code are looked up.
    #[inline(never)]
    fn spin<const WATCHED: bool, const TALLIED: bool, const PAGES: bool>(
        &mut self,
        cpu: &mut Cpu,
        env: &mut E,
        mut n: u32,
        place: Bounds,
    ) -> (u32, Ended) {
        let (deadline, stamp) = (cpu.deadline, place.stamp);
        let mut start = place.base.wrapping_add(cpu.eip);
        let (units, jumps) = self.store.running();
        loop {
            let mut done = 0;
            if B::CHAINS && !WATCHED {
                match self.backend.chain(&units[n as usize].fragment, cpu, env) {
                    None => {}
                    Some(Chained::At(unit, so_many)) => (n, done) = (unit, so_many),
                    Some(Chained::Way(from, way)) => {
                        match units[from as usize].links[way].to(place.base.wrapping_add(cpu.eip), stamp) {
                            Some(next) => n = next,
                            None => return (from, Ended::Way(way)),
                        }
                        continue;
                    }
                }
            }
            debug_assert!(!cpu.leave.get(), "nothing stands between the last unit and this one");
            let unit = &mut units[n as usize];
            if cpu.now + u64::from(unit.needs) > deadline || beyond(cpu.eip, unit.bytes, place.limit) {
                return (n, unit.short(cpu, place.limit));
            }
            unit.runs += 1;
            let precise = unit.precise || WATCHED;
            let way = match self.backend.run(&unit.fragment, done, cpu, env, precise) {
                Ran::Way(way) => way,
                ran => {
                    unit.note_end(ran);
                    return (n, stopped(ran, cpu, unit.bytes));
                }
            };
            if TALLIED && let Some(tally) = &mut unit.tally {
                tally.left_through(way);
            }
            if unit.precise && env.wants_attention(cpu) {
                return (n, Ended::LookUp);
            }
            let linear = place.base.wrapping_add(cpu.eip);
            if PAGES {
                if (linear ^ start) & !PAGE_OFFSET != 0 {
                    return (n, Ended::Way(way));
                }
                start = linear;
            }
            if let Some(next) = unit.links[way].to(linear, stamp) {
                n = next;
                continue;
            }
            let indirect = unit.tail == Tail::Indirect && way < 2 && cpu.now < deadline;
            let found = if indirect { jumps.find(linear, place.mode, stamp) } else { None };
            let Some(next) = found else { return (n, Ended::Way(way)) };
            self.counts.indirect_misses += 1;
            self.counts.table_hits += 1;
            unit.links[way] = Link { linear, stamp, unit: next };
            n = next;
        }
    }

    /// The tails that are no near branch; the unit ends at `end`, and began at `now`. `None`: the next unit
    /// can be chained.
    #[inline(never)]
    fn run_tail(
        &mut self,
        at: u32,
        (end, now): (u32, Ticks),
        cpu: &mut Cpu,
        env: &mut E,
        policy: &mut dyn Policy<E>,
    ) -> Option<Next> {
        let unit = &self.store.units[at as usize];
        let body_end = now + u64::from(unit.count);
        (cpu.eip, cpu.now) = (end, body_end);
        let (run, insn) = unit.last.as_ref()?;
        let result = match unit.tail {
            Tail::Callout(_) if cpu.now >= cpu.deadline && invariants::callouts_heed_deadline() => {
                let done = unit.count;
                self.pause_at(Place::Within(at, done), cpu, policy);
                return Some(Next::On);
            }
            Tail::Callout(rule) => return Some(Next::Leave(Left::Callout(rule))),
            Tail::Inline(rule) => {
                cpu.now = body_end - 1;
                policy.inline(rule, *run, cpu, env, insn)
            }
            tail => {
                cpu.now = body_end - 1;
                let result = run(cpu, env, insn);
                let complete = cpu.eip == end;
                if tail == Tail::String && !complete && result.is_ok() && cpu.now + 1 >= cpu.deadline {
                    return Some(self.pause_string(at, cpu, env, policy));
                }
                let chains = tail == Tail::String && complete;
                result.map(|()| if chains { Flow::Next } else { Flow::Anew })
            }
        };
        let flow = match result {
            Ok(flow) => flow,
            Err(fault) => {
                restore_eip(cpu, insn);
                self.store.units[at as usize].break_off_last();
                return Some(fault.into());
            }
        };
        if let (Flow::CallOut, Tail::Inline(rule)) = (flow, unit.tail) {
            restore_eip(cpu, insn);
            return Some(Next::Leave(Left::Callout(rule)));
        }
        cpu.now += 1;
        match flow {
            Flow::Next if cpu.special.is_empty() && !env.wants_attention(cpu) => None,
            Flow::Next => Some(Next::On),
            Flow::Anew => {
                self.restamp(env);
                Some(Next::On)
            }
            Flow::Look | Flow::CallOut => Some(Next::Leave(Left::Look)),
        }
    }

    /// The deadline came between two iterations of the string instruction at the end of this unit.
    #[cold]
    fn pause_string(&mut self, at: u32, cpu: &mut Cpu, env: &E, policy: &dyn Policy<E>) -> Next {
        cpu.now += 1;
        if cpu.leave.get() {
            self.restamp(env);
        } else {
            let done = self.store.units[at as usize].count - 1;
            self.pause_at(Place::Within(at, done), cpu, policy);
        }
        Next::On
    }

    /// A way out that is not chained to where it leads now: looks up, and chains it.
    #[cold]
    #[inline(never)]
    fn follow(
        &mut self,
        cpu: &mut Cpu,
        env: &mut E,
        policy: &mut dyn Policy<E>,
        (from, way, mode): (u32, usize, u8),
    ) -> Result<Option<u32>, Fault> {
        if policy.shows_fetches() {
            self.steps.code_address(cpu, env)?;
        }
        if let Some(unit) = self.store.units[from as usize].links[way].to(cpu.linear_eip(), self.stamp) {
            return Ok(Some(unit));
        }
        let indirect = way < 2 && self.store.units[from as usize].tail == Tail::Indirect;
        if indirect {
            self.counts.indirect_misses += 1;
        } else {
            self.counts.direct_misses += 1;
        }
        let Some(to) = self.enter(cpu, env, policy, mode)? else { return Ok(None) };
        // All units may have been dropped meanwhile. What a link says does not depend on the unit that it
        // stands in.
        if self.chains(to, policy)
            && let Some(unit) = self.store.units.get_mut(from as usize)
        {
            unit.links[way] = Link { linear: cpu.linear_eip(), stamp: self.stamp, unit: to };
            let fragment = unit.fragment.clone();
            self.backend.link(&fragment, way, &self.store.units[to as usize].fragment, cpu.eip);
        }
        Ok(Some(to))
    }

    /// The unit at CS:EIP, translated if need be; `None` if there can be none.
    fn enter(
        &mut self,
        cpu: &mut Cpu,
        env: &mut E,
        policy: &mut dyn Policy<E>,
        mode: u8,
    ) -> Result<Option<u32>, Fault> {
        let linear = cpu.linear_eip();
        if policy.shows_fetches() {
            self.steps.code_address(cpu, env)?;
        }
        if let Some(unit) = self.store.looked_up(linear, mode, self.stamp) {
            self.counts.table_hits += 1;
            return Ok(Some(unit));
        }
        if policy.hides(Linear(linear)) {
            return Err(Fault::GP0);
        }
        let at = self.steps.code_address(cpu, env)?;
        let key = Key { at, mode };
        let unit = match self.store.find(key) {
            Some(n) if self.is_current(n, cpu, env)? => n,
            found => {
                if let Some(n) = found {
                    self.store.forget(n, Dropped::Overwritten);
                    self.counts.dropped[Dropped::Overwritten as usize] += 1;
                }
                match self.translate(key, cpu, env, policy)? {
                    Some(n) => n,
                    None => return Ok(None),
                }
            }
        };
        if self.chains(unit, policy) {
            self.store.note(linear, mode, self.stamp, unit);
        }
        Ok(Some(unit))
    }

    /// Whether `unit` may be entered again with no look at its code: not where that lies in a second page,
    /// too, and the guest can tell when that is fetched from.
    fn chains(&self, unit: u32, policy: &dyn Policy<E>) -> bool {
        !policy.shows_fetches() || self.store.records[unit as usize].crossing.is_none()
    }

    /// Whether the code of unit `n` is still what it was translated from.
    fn is_current(&mut self, n: u32, cpu: &Cpu, env: &mut E) -> Result<bool, Fault> {
        let unit = &mut self.store.records[n as usize];
        let generation = env.generation(unit.key.at);
        if let Some(crossing) = unit.crossing {
            return Ok(unit.generation == generation && self.steps.still_crosses(cpu, env, crossing)?);
        }
        if unit.generation == generation || !invariants::stale_units_are_checked() {
            return Ok(true);
        }
        let mut now = vec![0; unit.code.len()];
        env.read_code(cpu, unit.key.at, &mut now);
        let same = now == unit.code && env.mark_code(unit.key.at, now.len() as u32);
        if same {
            unit.generation = generation;
            self.counts.renewed += 1;
        }
        Ok(same)
    }

    #[cold]
    fn translate(
        &mut self,
        key: Key,
        cpu: &mut Cpu,
        env: &mut E,
        policy: &mut dyn Policy<E>,
    ) -> Result<Option<u32>, Fault> {
        let Some(run) = self.steps.decoded(cpu, env)? else { return Ok(None) };
        if self.backend.bytes() >= self.limits.fragments {
            self.drop_all(Dropped::Full);
        }
        let treat = |at: Linear, insn: &_| policy.treat(key.mode & !(CODE32 | USER), at, insn);
        let plan = Plan::new(&run.insns, self.limits.unit, treat, Linear(cpu.linear_eip()));
        let covered = usize::from(plan.body_bytes) + plan.last.map_or(0, |i| usize::from(i.len));
        self.counts.translated += 1;
        self.counts.instructions += plan.body.len() as u64 + u64::from(plan.last.is_some());
        self.counts.ident += plan.body.len() as u64;
        self.counts.guest_bytes += covered as u64;
        let fragment = self.backend.emit(&plan);
        let unit = Unit {
            fragment: fragment.clone(),
            links: Default::default(),
            runs: 0,
            bytes: plan.bytes(),
            count: plan.count(),
            needs: plan.count().max(1),
            fused: self.backend.is_fused(&fragment),
            tally: self.store.tallies.then(|| Box::new(Tally::new(&plan))),
            precise: plan.precise,
            tail: plan.tail,
            last: plan.last.map(|insn| (ops::bind(&insn), insn)),
        };
        let record = Record {
            key,
            generation: env.generation(key.at),
            code: run.code[..covered].to_vec(),
            crossing: run.crossing,
            linear: cpu.linear_eip(),
            eip: cpu.eip,
            gone: None,
            plan,
        };
        let number = self.store.insert(unit, record);
        let Record { eip, plan, code, .. } = &self.store.records[number as usize];
        self.backend.complete(&fragment, Whole { number, eip: *eip, plan, code, code32: key.code32() });
        Ok(Some(number))
    }

    /// Runs one instruction outside of units, the careful way.
    fn single(&mut self, cpu: &mut Cpu, env: &mut E, policy: &mut dyn Policy<E>) -> Next {
        let at = Linear(cpu.linear_eip());
        if policy.hides(at) {
            return Fault::GP0.into();
        }
        // Without an instruction there is none to rewrite. What goes before a fetch still goes before its
        // fault.
        let insn = if policy.shows_fetches() { None } else { self.steps.peek(cpu, env).ok() };
        self.counts.singles += 1;
        match insn.map_or(Treatment::Ident, |insn| policy.treat(policy.mode(cpu), at, &insn)) {
            Treatment::Ident => match self.steps.step(cpu, env) {
                Ok(()) => {
                    self.restamp(env);
                    Next::On
                }
                Err(fault) => fault.into(),
            },
            // The monitor's own way to run it is careful, too.
            Treatment::Inline(rule) | Treatment::Callout(rule) => Next::Leave(Left::Callout(rule)),
        }
    }

    fn drop_all(&mut self, why: Dropped) {
        self.forget_pause();
        self.counts.dropped[why as usize] += self.store.found() as u64;
        self.gone = self.runs();
        self.store.clear(why);
        self.backend.clear();
        self.new_stamp();
    }

    /// Forgets all translations.
    pub fn forget(&mut self) {
        self.drop_all(Dropped::MapChanged);
        self.steps.forget();
    }

    /// The policy has changed its mind about the instruction at `at`: what was translated from it is
    /// translated anew.
    pub fn retranslate(&mut self, at: Linear) {
        for n in self.store.covering(at) {
            self.store.forget(n, Dropped::Adapted);
            self.counts.dropped[Dropped::Adapted as usize] += 1;
        }
        self.new_stamp();
    }

    /// How often units ran so far.
    pub fn runs(&self) -> Runs {
        let mut runs = self.gone;
        self.store.units.iter().for_each(|unit| runs.add(unit.tail, unit.runs));
        runs
    }

    /// What compiles and runs bodies.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// The unit with this number, if it is there or kept.
    pub fn unit(&self, n: u32) -> Option<UnitInfo<'_>> {
        match n.checked_sub(self.store.dropped.count) {
            Some(place) => ((place as usize) < self.store.units.len()).then(|| self.store.info(place)),
            None => self.store.dropped.get(n),
        }
    }

    /// All units since everything was last dropped, in the order of translation.
    pub fn units(&self) -> impl Iterator<Item = UnitInfo<'_>> {
        (0..self.store.units.len() as u32).map(|n| self.store.info(n))
    }
}

/// What the hot loop goes by.
#[derive(Clone, Copy)]
struct Bounds {
    /// CS, which stays as it is while units chain.
    base: u32,
    limit: u32,
    /// The mode of all units.
    mode: u8,
    /// Of links that count.
    stamp: u32,
}

/// Why the hot loop ended; EIP and time are up to date but for a tail's.
enum Ended {
    /// The way out with this number is not chained to where it leads now.
    Way(usize),
    /// The tail has to be run: where the unit ends, and when it began.
    Tail {
        end: u32,
        now: Ticks,
    },
    /// There is not enough time for all of the unit, which has not begun.
    NoTime,
    /// The deadline is reached; EIP and time are those of the place.
    Paused(Place),
    /// The unit reaches beyond the code segment.
    BeyondLimit,
    /// Code was overwritten.
    LookUp,
    Fault(Fault),
}

/// A unit of so many bytes did not end through a way out.
#[cold]
#[inline(never)]
fn stopped(ran: Ran, cpu: &mut Cpu, bytes: u16) -> Ended {
    match ran {
        Ran::Way(way) => Ended::Way(way),
        Ran::Tail => Ended::Tail { end: cpu.eip.wrapping_add(u32::from(bytes)), now: cpu.now },
        Ran::Left | Ran::Paused(_) => Ended::LookUp,
        Ran::Fault(fault) => Ended::Fault(fault),
        Ran::Broken(Broken { count, bytes, fault }) => {
            cpu.eip = cpu.eip.wrapping_add(u32::from(bytes));
            cpu.now += u64::from(count);
            fault.map_or(Ended::LookUp, Ended::Fault)
        }
    }
}

impl<F, E> Unit<F, E> {
    /// Why the unit cannot be run whole.
    #[cold]
    fn short(&self, cpu: &Cpu, limit: u32) -> Ended {
        if cpu.now < cpu.deadline && beyond(cpu.eip, self.bytes, limit) {
            Ended::BeyondLimit
        } else {
            Ended::NoTime
        }
    }
}

/// Whether `bytes` of code at `eip` reach beyond the code segment.
#[inline(always)]
fn beyond(eip: u32, bytes: u16, limit: u32) -> bool {
    u64::from(eip) + u64::from(bytes) > u64::from(limit) + 1
}
