//! One guest on two machines: bare, and under the monitor of a [`Cell`].

use super::audit::audit;
use super::bytes::Bytes;
use super::machine;
use std::cell::RefCell;
use std::rc::Rc;
pub(super) use subring::cell::Cell;
use subring::cell::{Coherence, Strategy};
use subring::clock::When;
use subring::decode::{MAX_INSN_LEN, disassemble};
use subring::event::{Event, Sink};
use subring::lab::compare::diagnosis::{self, Mode};
use subring::lab::guest::Guest;
use subring::lab::state::{self, Difference};
use subring::machine::{Limits, Machine, Monitor, Outcome, ShadowView, Wants, Watcher, World};
use subring::report::TranslationFigures;
use subring::translate::TranslatedCode;
use subring::vmm::{self, Config};

/// Trap and emulate, with either policy.
pub(super) const TRACE: Cell = Cell::TRAP_TRACE;
pub(super) const VTLB: Cell = Cell::TRAP_VTLB;

/// Binary translation, with either policy.
pub(super) const BT_TRACE: Cell = Cell::BT_TRACE;
pub(super) const BT_VTLB: Cell = Cell::BT_VTLB;

/// Hardware assist, with either policy and with nested paging.
pub(super) const HVM_TRACE: Cell = Cell::HVM_TRACE;
pub(super) const HVM_VTLB: Cell = Cell::HVM_VTLB;
pub(super) const NESTED: Cell = Cell::HVM_NESTED;

/// The cells with a monitor, and those of trap and emulate alone.
pub(super) const CELLS: [Cell; 7] = [TRACE, VTLB, BT_TRACE, BT_VTLB, HVM_TRACE, HVM_VTLB, NESTED];
pub(super) const TRAPS: [Cell; 2] = [TRACE, VTLB];

/// What these tests do with a cell.
pub(super) trait Tested: Copy {
    /// How the monitor is set up in these tests.
    fn config(self, seed: u64) -> Config;

    /// Puts `m` under the monitor.
    fn put(self, m: &mut Machine, seed: u64);

    /// Puts `m` under a monitor that is set up otherwise.
    fn put_with(self, m: &mut Machine, config: &Config);

    /// What `make` makes, for the lab: bare, and under the monitor.
    fn guests(self, seed: u64, make: impl Fn() -> Machine) -> (Guest, Guest) {
        let mut other = make();
        self.put(&mut other, seed);
        (Guest::new(make(), Vec::new()), Guest::new(other, Vec::new()))
    }

    /// Whether translations are as stale as a TLB may be, and for how long.
    fn staleness(self) -> Staleness;

    /// Whether sensitive instructions that do not trap go wrong.
    fn parts_at_sensitive(self) -> bool;
}

impl Tested for Cell {
    fn config(self, seed: u64) -> Config {
        // Few frames, so that evictions happen.
        Config { cell: self, shadow_frames: 24, seed, ..Config::default() }
    }

    fn put(self, m: &mut Machine, seed: u64) {
        self.put_with(m, &self.config(seed));
    }

    fn put_with(self, m: &mut Machine, config: &Config) {
        if self.has_monitor() {
            vmm::install(m, config).expect("a monitor");
        }
    }

    fn staleness(self) -> Staleness {
        match self.coherence() {
            Some(Coherence::Trace) => Staleness::Never,
            Some(Coherence::Vtlb) => Staleness::UntilFlushed,
            None => Staleness::AsTlb,
        }
    }

    fn parts_at_sensitive(self) -> bool {
        self.strategy() == Strategy::Trap
    }
}

/// How long a translation that the guest changed and did not flush is still used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Staleness {
    /// No longer: changes are traced.
    Never,
    /// Until the guest flushes: a virtual TLB has room for all.
    UntilFlushed,
    /// As long as the bare machine's TLB keeps it, which is as large as the real one's.
    AsTlb,
}

/// The monitor under `m`.
pub(super) fn monitor(m: &Machine) -> &dyn Monitor {
    m.monitor().expect("a monitor")
}

/// The shadow page tables under `m`.
pub(super) fn shadow(m: &Machine) -> &dyn ShadowView {
    m.shadow().expect("a shadow")
}

/// The translated code under `m`.
pub(super) fn translator(m: &Machine) -> &dyn TranslatedCode<World> {
    m.translation().expect("it translates").translator()
}

/// The figures of translation under `m`.
pub(super) fn figures(m: &Machine) -> TranslationFigures {
    monitor(m).report().translation.expect("it translates")
}

/// An instruction that the bare machine tried in a tick. There may be several: one faults, and its handler
/// begins.
#[derive(Clone, Debug, Default)]
pub(super) struct Tried {
    pub(super) bytes: Vec<u8>,
    pub(super) code32: bool,
    pub(super) eip: u32,
}

struct Keep(Rc<RefCell<Vec<Tried>>>);

impl Sink for Keep {
    fn record(&mut self, _: When, event: &Event<'_>) {
        if let Event::Insn { eip, bytes, code32, .. } = event {
            let bytes = bytes[..bytes.len().min(MAX_INSN_LEN)].to_vec();
            self.0.borrow_mut().push(Tried { bytes, code32: *code32, eip: *eip });
        }
    }
}

/// The two machines.
pub(super) struct Pair {
    pub(super) bare: Machine,
    pub(super) trap: Machine,
    tried: Rc<RefCell<Vec<Tried>>>,
}

/// Where they part.
pub(super) struct Parting {
    pub(super) tick: u64,
    pub(super) tried: Tried,
    pub(super) verdict: diagnosis::Verdict,
    pub(super) differences: Vec<Difference>,
}

impl std::fmt::Display for Parting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Tried { bytes, code32, eip } = &self.tried;
        writeln!(f, "at tick {} after {:x?}: {}", self.tick, bytes, disassemble(bytes, *code32, *eip))?;
        writeln!(f, "{}", self.verdict.sentence)?;
        for d in &self.differences {
            writeln!(f, "  {}: bare {}, monitor {}", d.piece, d.first, d.second)?;
        }
        Ok(())
    }
}

impl Pair {
    /// The guest that `data` means.
    pub(super) fn new(data: &[u8], cell: Cell) -> Self {
        Self::of(machine::machine(&mut Bytes::new(data)), machine::machine(&mut Bytes::new(data)), cell)
    }

    /// Two machines in the same state.
    pub(super) fn of(mut bare: Machine, mut trap: Machine, cell: Cell) -> Self {
        cell.put(&mut trap, 7);
        let tried = Rc::new(RefCell::new(Vec::new()));
        let wants = Wants { insn: true, ..Wants::default() };
        bare.watch(Some(Watcher { wants, sink: Box::new(Keep(Rc::clone(&tried))) }));
        Self { bare, trap, tried }
    }

    /// Runs both, tick by tick, to `ticks`, or to where they part. The bare machine's TLB holds nothing from
    /// one instruction to the next: what random guests forget to flush is then as fresh there as under a
    /// monitor.
    pub(super) fn run(&mut self, ticks: u64) -> Result<(), Box<Parting>> {
        while self.bare.cpu.now < ticks {
            let mode = Mode::of(&self.bare.cpu);
            let to = self.bare.cpu.now + 1;
            self.tried.borrow_mut().clear();
            let (a, b) = (run_to(&mut self.bare, to), run_to(&mut self.trap, to));
            self.bare.world.tlb.flush(true);
            if a != b || !same_cpu(&self.bare, &self.trap) || !state::same(&self.bare, &self.trap) {
                return Err(Box::new(self.parting(to, mode, (a, b))));
            }
            if a.is_some() {
                break;
            }
        }
        Ok(())
    }

    fn parting(&self, tick: u64, mode: Mode, outcomes: (Option<Outcome>, Option<Outcome>)) -> Parting {
        let mut differences = state::differences(&self.bare, &self.trap);
        if outcomes.0 != outcomes.1 {
            differences.push(Difference {
                piece: "outcome".into(),
                first: format!("{:?}", outcomes.0),
                second: format!("{:?}", outcomes.1),
            });
        }
        let all = self.tried.borrow();
        let explain = |t: &Tried| diagnosis::explain(&t.bytes, t.code32, mode, &differences);
        let blamed = all.iter().find(|t| explain(t).sensitive_unprivileged).or(all.first());
        let tried = blamed.cloned().unwrap_or_default();
        let verdict = explain(&tried);
        Parting { tick, tried, verdict, differences }
    }
}

/// How a guest that keeps the rules is held against itself on the bare machine: to this tick at most, in
/// strides of so many ticks, and all of its state after so many strides.
pub(super) struct Strides {
    pub(super) most: u64,
    pub(super) stride: u64,
    pub(super) whole: u64,
}

/// Something was wrong.
pub(super) struct Noticed {
    /// The tick by which it was.
    pub(super) by: u64,
    /// The check that noticed, a colon, and what it saw.
    pub(super) what: String,
}

impl From<Noticed> for String {
    fn from(noticed: Noticed) -> Self {
        noticed.what
    }
}

impl Strides {
    /// Runs `bare`, and `other` under its monitor, on until the guest ends, with an audit after each stride;
    /// how it ended.
    pub(super) fn hold(
        &self,
        bare: &mut Machine,
        other: &mut Machine,
        cell: Cell,
    ) -> Result<Option<Outcome>, Noticed> {
        let mut strides = 0;
        loop {
            strides += 1;
            let to = bare.cpu.now + self.stride;
            let (a, b) = (run_to(bare, to), run_to(other, to));
            let wrong = |what| Err(Noticed { by: to, what });
            if let Err(e) = audit(other, cell.coherence() == Some(Coherence::Trace)) {
                return wrong(format!("audit: {e}"));
            }
            if other.world.escapes() != 0 {
                return wrong("control: the real processor reached a chip".into());
            }
            let alike = a == b && same_cpu(bare, other);
            let whole = a.is_some() || strides % self.whole == 0;
            if !alike || (whole && !state::same(bare, other)) {
                let differences = state::differences(bare, other);
                return wrong(format!("equivalence: by tick {to} {a:?} {b:?} {differences:#?}"));
            }
            if a.is_some() || to > self.most {
                return Ok(a);
            }
        }
    }
}

/// What is cheap to compare, first.
fn same_cpu(a: &Machine, b: &Machine) -> bool {
    (a.cpu.regs, a.cpu.eip, a.cpu.now) == (b.cpu.regs, b.cpu.eip, b.cpu.now)
}

/// Runs to `ticks`; `None` when it got there.
pub(super) fn run_to(m: &mut Machine, ticks: u64) -> Option<Outcome> {
    loop {
        match m.run(Limits::until(ticks)) {
            Outcome::Reached if m.cpu.now >= ticks => return None,
            Outcome::Reached => {}
            Outcome::Reset => m.reset(),
            ended => return Some(ended),
        }
    }
}
