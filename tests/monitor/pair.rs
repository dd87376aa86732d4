//! One guest on two machines: bare, and under a monitor.

use super::bytes::Bytes;
use super::machine;
use std::cell::RefCell;
use std::rc::Rc;
use subring::decode::{MAX_INSN_LEN, disassemble};
use subring::event::{Event, Sink};
use subring::lab::state::{self, Difference};
use subring::lab::why::{self, Mode};
use subring::machine::{Limits, Machine, Outcome, Wants, Watcher};
use subring::vmm::strategy::Coherence;
use subring::vmm::{self, Config, Trap};

/// An instruction that the bare machine tried in a tick. There may be several: one faults, and its handler begins.
#[derive(Clone, Debug, Default)]
pub(super) struct Tried {
    pub(super) bytes: Vec<u8>,
    pub(super) code32: bool,
    pub(super) eip: u32,
}

struct Keep(Rc<RefCell<Vec<Tried>>>);

impl Sink for Keep {
    fn record(&mut self, _: u64, event: &Event<'_>) {
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
    pub(super) verdict: why::Verdict,
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

/// How a monitor of these tests is set up.
pub(super) fn config(coherence: Coherence, seed: u64) -> Config {
    // Few frames, so that evictions happen.
    Config { coherence, shadow_frames: 24, seed, ..Config::default() }
}

impl Pair {
    /// The guest that `data` means.
    pub(super) fn new(data: &[u8], coherence: Coherence) -> Self {
        Self::of(machine::machine(&mut Bytes::new(data)), machine::machine(&mut Bytes::new(data)), coherence)
    }

    /// Two machines in the same state.
    pub(super) fn of(mut bare: Machine, mut trap: Machine, coherence: Coherence) -> Self {
        vmm::trap(&mut trap, &config(coherence, 7)).expect("a monitor");
        let tried = Rc::new(RefCell::new(Vec::new()));
        let wants = Wants { insn: true, ..Wants::default() };
        bare.watch(Some(Watcher { wants, sink: Box::new(Keep(Rc::clone(&tried))) }));
        Self { bare, trap, tried }
    }

    pub(super) fn monitor(&self) -> &Trap {
        self.trap.monitor().expect("it is there")
    }

    /// Runs both, tick by tick, to `ticks`, or to where they part. The bare machine's TLB holds nothing from one
    /// instruction to the next: what random guests forget to flush is then as fresh there as under a monitor.
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
        let explain = |t: &Tried| why::explain(&t.bytes, t.code32, mode, &differences);
        let blamed = all.iter().find(|t| explain(t).sensitive_unprivileged).or(all.first());
        let tried = blamed.cloned().unwrap_or_default();
        let verdict = explain(&tried);
        Parting { tick, tried, verdict, differences }
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
