//! The cube: who runs the guest's sensitive instructions, who translates its addresses, what keeps that
//! coherent, and what realises instructions on the host. A point of the cube is a [`Cell`].
//!
//! A cell is one of [`Cell::ALL`]: a combination that means nothing has no value of this type, and
//! [`Choice::cell`] says why in one sentence. A new strategy, MMU or engine is a line of its axis, a line for
//! each of its cells, and the reasons that the compiler then asks for.

use crate::error::{Error, Result};
use serde::Serialize;
use std::fmt;
use std::str::FromStr;

/// Declares an axis of the cube, or another choice of an option: its values, each with its name and its line of
/// help.
macro_rules! axis {
    ($(#[$doc:meta])* $axis:ident, $option:literal:
     $($(#[$of_value:meta])* $value:ident = $name:literal, $help:literal;)+) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $axis {
            $(#[doc = $help] $(#[$of_value])* $value,)+
        }

        impl $axis {
            /// The values, in the order of help and tables.
            pub const ALL: &[Self] = &[$(Self::$value),+];

            /// The name in options, tables and files.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$value => $name,)+
                }
            }

            /// One line of help.
            const fn help(self) -> &'static str {
                match self {
                    $(Self::$value => $help,)+
                }
            }
        }

        impl std::fmt::Display for $axis {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl std::str::FromStr for $axis {
            type Err = $crate::error::Error;
            fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
                Self::ALL.iter().copied().find(|value| value.name() == text).ok_or_else(|| {
                    let names = $crate::cell::listed(Self::ALL.iter().map(|value| value.name()));
                    $crate::error::Error::Usage(format!(concat!("--", $option, " {} is unknown: give {}"), text, names))
                })
            }
        }

        impl serde::Serialize for $axis {
            fn serialize<S: serde::Serializer>(&self, to: S) -> std::result::Result<S::Ok, S::Error> {
                to.serialize_str(self.name())
            }
        }

        impl clap::ValueEnum for $axis {
            fn value_variants<'a>() -> &'a [Self] {
                Self::ALL
            }
            fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
                Some(clap::builder::PossibleValue::new(self.name()).help(self.help()))
            }
        }
    };
}

pub(crate) use axis;

axis! {
    /// Who runs the guest's sensitive instructions, and in which ring the guest's kernel runs.
    Strategy, "strategy":
    Bare = "bare", "No monitor";
    Trap = "trap", "Trap and emulate, by ring compression";
    Bt = "bt", "Binary translation of the guest's kernel, direct execution of its user code";
    Hvm = "hvm", "Hardware assist: the guest in VMX non-root operation, its kernel in ring 0";
}

axis! {
    /// Who translates guest-linear addresses to machine addresses.
    Mmu, "mmu":
    Direct = "direct", "The guest's own page tables";
    Shadow = "shadow", "Shadow page tables";
    Nested = "nested", "The guest's own page tables, and extended page tables behind them, in hardware";
}

axis! {
    /// How shadow page tables are kept coherent with the guest's.
    Coherence, "coherence":
    Trace = "trace", "Guest page tables are write-protected, writes to them emulated: a change counts at \
                      once, where a TLB may hold the old entry until the guest flushes";
    Vtlb = "vtlb", "The shadow is a virtual TLB, dropped when the guest flushes";
}

axis! {
    /// How instructions are realised on the host.
    Engine, "engine":
    Interp = "interp", "The interpreter";
    Portable = "portable", "Translated code that calls one handler after another, on any host";
}

/// A strategy, an MMU, a coherence policy and an engine that go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Cell {
    strategy: Strategy,
    mmu: Mmu,
    coherence: Option<Coherence>,
    engine: Engine,
}

impl Cell {
    /// The bare machine, interpreted: the reference.
    pub const BARE: Self = Self::direct(Engine::Interp);
    /// The bare machine, its code translated by the portable engine.
    pub const BARE_PORTABLE: Self = Self::direct(Engine::Portable);
    /// Trap and emulate, with traced page tables.
    pub const TRAP_TRACE: Self = Self::trap(Coherence::Trace);
    /// Trap and emulate, with a virtual TLB.
    pub const TRAP_VTLB: Self = Self::trap(Coherence::Vtlb);
    /// Binary translation, with traced page tables.
    pub const BT_TRACE: Self = Self::bt(Coherence::Trace);
    /// Binary translation, with a virtual TLB.
    pub const BT_VTLB: Self = Self::bt(Coherence::Vtlb);

    /// Hardware assist, with traced page tables.
    pub const HVM_TRACE: Self = Self::hvm(Coherence::Trace);
    /// Hardware assist, with a virtual TLB.
    pub const HVM_VTLB: Self = Self::hvm(Coherence::Vtlb);
    /// Hardware assist, with nested paging.
    pub const HVM_NESTED: Self =
        Self { strategy: Strategy::Hvm, mmu: Mmu::Nested, coherence: None, engine: Engine::Interp };

    /// Every cell that means something. Of those that fit a [`Choice`] the first is meant.
    pub const ALL: &[Self] = &[
        Self::BARE,
        Self::BARE_PORTABLE,
        Self::TRAP_TRACE,
        Self::TRAP_VTLB,
        Self::BT_TRACE,
        Self::BT_VTLB,
        Self::HVM_TRACE,
        Self::HVM_VTLB,
        Self::HVM_NESTED,
    ];

    /// The cells that `compare` runs, the reference first. The bare machine's other engine is not among them:
    /// an engine that can be told from the reference is a fault of ours and no finding about a monitor.
    pub const COMPARED: &[Self] = &[
        Self::BARE,
        Self::TRAP_TRACE,
        Self::TRAP_VTLB,
        Self::BT_TRACE,
        Self::BT_VTLB,
        Self::HVM_TRACE,
        Self::HVM_VTLB,
        Self::HVM_NESTED,
    ];

    const fn direct(engine: Engine) -> Self {
        Self { strategy: Strategy::Bare, mmu: Mmu::Direct, coherence: None, engine }
    }

    /// Trap and emulate on shadow page tables that are kept coherent so.
    pub const fn trap(coherence: Coherence) -> Self {
        Self::shadow(Strategy::Trap, coherence, Engine::Interp)
    }

    /// Binary translation on shadow page tables that are kept coherent so.
    pub const fn bt(coherence: Coherence) -> Self {
        Self::shadow(Strategy::Bt, coherence, Engine::Portable)
    }

    /// Hardware assist on shadow page tables that are kept coherent so.
    pub const fn hvm(coherence: Coherence) -> Self {
        Self::shadow(Strategy::Hvm, coherence, Engine::Interp)
    }

    const fn shadow(strategy: Strategy, coherence: Coherence, engine: Engine) -> Self {
        Self { strategy, mmu: Mmu::Shadow, coherence: Some(coherence), engine }
    }

    /// Who runs the guest's sensitive instructions.
    pub const fn strategy(self) -> Strategy {
        self.strategy
    }

    /// Who translates the guest's addresses.
    pub const fn mmu(self) -> Mmu {
        self.mmu
    }

    /// How shadow page tables are kept coherent; `None` without any.
    pub const fn coherence(self) -> Option<Coherence> {
        self.coherence
    }

    /// How instructions are realised.
    pub const fn engine(self) -> Engine {
        self.engine
    }

    /// Whether a monitor stands between the guest and the machine.
    pub fn has_monitor(self) -> bool {
        self.strategy != Strategy::Bare
    }
}

/// `bare direct`, `bt shadow/trace`; the engine only where another one is usual.
impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut name = format!("{} {}", self.strategy, self.mmu);
        if let Some(coherence) = self.coherence {
            name = format!("{name}/{coherence}");
        }
        let usual = Choice { engine: None, ..Choice::from(*self) }.first();
        if usual != Some(*self) {
            name = format!("{name} {}", self.engine);
        }
        f.pad(&name)
    }
}

/// What [`Cell`]'s `Display` writes, or less of it: `bt`, `bt vtlb`. What is left out is as usual.
impl FromStr for Cell {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        fn set<T: FromStr>(axis: &mut Option<T>, word: &str) -> bool {
            let free = axis.is_none();
            word.parse().is_ok_and(|value| {
                *axis = Some(value);
                free
            })
        }
        let mut choice = Choice::default();
        for word in text.split([' ', '/']).filter(|word| !word.is_empty()) {
            let known = set(&mut choice.strategy, word)
                || set(&mut choice.mmu, word)
                || set(&mut choice.coherence, word)
                || set(&mut choice.engine, word);
            if !known {
                let all = listed(Self::ALL.iter().map(ToString::to_string));
                return Err(Error::Usage(format!("{text} names no cell at `{word}`: give {all}")));
            }
        }
        choice.cell()
    }
}

/// What was asked for of each axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// `--strategy`.
    pub strategy: Option<Strategy>,
    /// `--mmu`.
    pub mmu: Option<Mmu>,
    /// `--coherence`.
    pub coherence: Option<Coherence>,
    /// `--engine`.
    pub engine: Option<Engine>,
}

impl From<Cell> for Choice {
    fn from(cell: Cell) -> Self {
        Self {
            strategy: Some(cell.strategy),
            mmu: Some(cell.mmu),
            coherence: cell.coherence,
            engine: Some(cell.engine),
        }
    }
}

impl Choice {
    /// Any cell of `strategy`.
    pub fn of(strategy: Strategy) -> Self {
        Self { strategy: Some(strategy), ..Self::default() }
    }

    /// Whether `cell` is as asked for; an axis that was left open admits every value.
    pub fn admits(&self, cell: Cell) -> bool {
        self.strategy.is_none_or(|strategy| strategy == cell.strategy)
            && self.mmu.is_none_or(|mmu| mmu == cell.mmu)
            && self.coherence.is_none_or(|coherence| Some(coherence) == cell.coherence)
            && self.engine.is_none_or(|engine| engine == cell.engine)
    }

    fn first(&self) -> Option<Cell> {
        Cell::ALL.iter().copied().find(|cell| self.admits(*cell))
    }

    /// The cell that is meant: of the bare machine if no strategy is named, and the usual one on each axis
    /// left open.
    ///
    /// # Errors
    /// [`Error::Usage`], with the reason, when no cell is like that.
    pub fn cell(self) -> Result<Cell> {
        let strategy = self.strategy.unwrap_or(Strategy::Bare);
        let choice = Self { strategy: Some(strategy), ..self };
        choice.first().ok_or_else(|| Error::Usage(choice.why_not(strategy)))
    }

    /// Why no cell of `strategy` is as asked for.
    fn why_not(self, strategy: Strategy) -> String {
        let reasons = [
            self.mmu.and_then(|mmu| mmu_refused(strategy, mmu)),
            self.coherence.and_then(|_| coherence_refused(strategy, self.mmu)),
            self.engine.and_then(|engine| engine_refused(strategy, engine)),
        ];
        reasons.into_iter().flatten().next().unwrap_or_else(|| {
            let cells = Cell::ALL.iter().filter(|cell| cell.strategy == strategy);
            format!("--strategy {strategy} does not go with these options: give those of {}", listed(cells))
        })
    }
}

/// Why `strategy` cannot run with `mmu`.
fn mmu_refused(strategy: Strategy, mmu: Mmu) -> Option<String> {
    match (strategy, mmu) {
        (Strategy::Bare, Mmu::Direct)
        | (Strategy::Trap | Strategy::Bt | Strategy::Hvm, Mmu::Shadow)
        | (Strategy::Hvm, Mmu::Nested) => None,
        (Strategy::Bare, Mmu::Shadow) => Some(format!(
            "--mmu shadow needs a monitor to keep the shadow: give --strategy {}, or leave --mmu out",
            strategies(|cell| cell.mmu == Mmu::Shadow)
        )),
        (Strategy::Trap | Strategy::Bt | Strategy::Hvm, Mmu::Direct) => Some(format!(
            "--strategy {strategy} cannot run with --mmu direct: the guest's page tables name guest-physical \
             frames, and the processor would use them as machine frames; give --mmu shadow{}",
            if strategy == Strategy::Hvm { " or --mmu nested" } else { "" }
        )),
        (Strategy::Bare | Strategy::Trap | Strategy::Bt, Mmu::Nested) => Some(format!(
            "--mmu nested needs the processor's extended page tables, which translate for a guest in VMX \
             non-root operation alone: give --strategy {}",
            strategies(|cell| cell.mmu == Mmu::Nested)
        )),
    }
}

/// Why `--coherence` says nothing about `strategy` with `mmu`.
fn coherence_refused(strategy: Strategy, mmu: Option<Mmu>) -> Option<String> {
    match (strategy, mmu) {
        (Strategy::Bare, _) => Some(format!(
            "--coherence requires a monitor with shadow page tables, and the bare machine has none: give \
             --strategy {}",
            strategies(|cell| cell.coherence.is_some())
        )),
        (_, Some(Mmu::Nested)) => Some(
            "--coherence is about shadow page tables, and --mmu nested has none to keep coherent: leave \
             --coherence out, or give --mmu shadow"
                .into(),
        ),
        (Strategy::Trap | Strategy::Bt | Strategy::Hvm, _) => None,
    }
}

/// Why `engine` cannot run `strategy`.
fn engine_refused(strategy: Strategy, engine: Engine) -> Option<String> {
    match (strategy, engine) {
        (Strategy::Bare, Engine::Interp | Engine::Portable)
        | (Strategy::Trap | Strategy::Hvm, Engine::Interp)
        | (Strategy::Bt, Engine::Portable) => None,
        (Strategy::Trap | Strategy::Hvm, Engine::Portable) => Some(format!(
            "--engine portable runs translated code, and --strategy {strategy} runs the guest's own: give \
             --strategy {}",
            strategies(|cell| cell.engine == Engine::Portable)
        )),
        (Strategy::Bt, Engine::Interp) => Some(
            "--engine interp runs the guest's own code, and --strategy bt translates it: give \
             --engine portable"
                .into(),
        ),
    }
}

/// The strategies of the cells that are like that: `trap or bt`.
fn strategies(like: impl Fn(&Cell) -> bool) -> String {
    let mut found: Vec<_> = Cell::ALL.iter().filter(|cell| like(cell)).map(|cell| cell.strategy).collect();
    found.dedup();
    listed(found)
}

/// `a`, `a or b`, `a, b or c`.
pub(crate) fn listed(names: impl IntoIterator<Item = impl fmt::Display>) -> String {
    let mut names: Vec<_> = names.into_iter().map(|name| name.to_string()).collect();
    match names.pop() {
        Some(last) if names.is_empty() => last,
        Some(last) => format!("{} or {last}", names.join(", ")),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn any<T: Copy>(values: &[T]) -> Vec<Option<T>> {
        std::iter::once(None).chain(values.iter().copied().map(Some)).collect()
    }

    /// Each combination of options is a cell, or is refused for a reason of its own.
    #[test]
    fn what_is_no_cell_is_refused_with_a_reason() {
        let (mut cells, mut refused) = (0, 0);
        for strategy in any(Strategy::ALL) {
            for mmu in any(Mmu::ALL) {
                for coherence in any(Coherence::ALL) {
                    for engine in any(Engine::ALL) {
                        let choice = Choice { strategy, mmu, coherence, engine };
                        match choice.cell() {
                            Ok(cell) => {
                                assert!(choice.admits(cell), "{choice:?}: {cell}");
                                cells += 1;
                            }
                            Err(why) => {
                                assert!(!why.to_string().contains("these options"), "{choice:?}: {why}");
                                refused += 1;
                            }
                        }
                    }
                }
            }
        }
        assert!(cells > 20 && refused > 20, "{cells} {refused}");
    }

    #[test]
    fn a_cell_is_read_as_it_is_written() {
        for &cell in Cell::ALL {
            assert_eq!(cell.to_string().parse::<Cell>().unwrap(), cell);
        }
        assert_eq!("bt".parse::<Cell>().unwrap(), Cell::BT_TRACE);
        assert_eq!("bare portable".parse::<Cell>().unwrap(), Cell::BARE_PORTABLE);
        assert_eq!("trap/vtlb".parse::<Cell>().unwrap(), Cell::TRAP_VTLB);
        assert_eq!(Cell::BARE.to_string(), "bare direct");
        assert_eq!(Cell::BT_VTLB.to_string(), "bt shadow/vtlb");
        for wrong in ["bt bt", "bt shadow/trace trace", "vm", "trap direct"] {
            assert!(wrong.parse::<Cell>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn cells_are_different_and_the_reference_is_compared_first() {
        for (n, cell) in Cell::ALL.iter().enumerate() {
            assert!(!Cell::ALL[..n].contains(cell), "{cell}");
        }
        assert_eq!(Cell::COMPARED.first(), Some(&Cell::BARE));
        assert!(Cell::COMPARED.iter().all(|cell| Cell::ALL.contains(cell)));
    }
}
