//! The seeded bugs of binary translation: each is noticed, by what the table in the output says. And what
//! looks closest at the translator alone: random straight code with comparisons and jumps, in translated code
//! and interpreted.

use super::equivalence::cases;
use super::kernel;
use super::pair::{BT_TRACE, Tested, run_to};
use super::returns;
use super::translation;
use crate::translate::bug as translator;
use crate::vmm::bug::{self, Bug};
use proptest::test_runner::{Config as Settings, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use std::cell::Cell;
use subring::addr::GuestPhys;
use subring::cell::Coherence;
use subring::interp::{Interp, Stop};
use subring::lab::state;
use subring::machine::board::BoardConfig;
use subring::machine::{Config, Machine, World};
use subring::translate::backend::Portable;
use subring::translate::plan::Identity;
use subring::translate::{Left, Translator};

/// Where sequences lie, and how many one machine runs.
const CODE: u32 = 0x10_0000;
const SEQUENCES: usize = 12;

/// SplitMix64.
#[derive(Clone)]
pub(super) struct Draw(pub(super) u64);

impl Draw {
    pub(super) fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }

    fn byte(&mut self) -> u8 {
        self.below(256) as u8
    }

    /// ModRM of two registers, neither ESP; or memory at a fixed place.
    fn operands(&mut self, code: &mut Vec<u8>) {
        const REGISTERS: [u8; 6] = [0, 1, 2, 3, 6, 7];
        let reg = REGISTERS[self.below(6)] << 3;
        if self.below(5) == 0 {
            code.push(reg | 5);
            code.extend((0x20_0000 + 4 * self.below(16) as u32).to_le_bytes());
        } else {
            code.push(0xc0 | reg | REGISTERS[self.below(6)]);
        }
    }

    /// One instruction that reads or writes flags.
    fn instruction(&mut self, code: &mut Vec<u8>) {
        const BINARY: [u8; 16] =
            [0x01, 0x03, 0x09, 0x0b, 0x11, 0x13, 0x19, 0x1b, 0x21, 0x23, 0x29, 0x2b, 0x31, 0x33, 0x39, 0x3b];
        const SINGLE: [u8; 11] = [0x40, 0x41, 0x43, 0x48, 0x4a, 0x4f, 0xf5, 0xf8, 0xf9, 0x98, 0x99];
        match self.below(10) {
            0..4 => {
                // The byte forms are the even opcodes; AH to BH are then among the operands.
                code.push(BINARY[self.below(16)] & if self.below(4) == 0 { !1 } else { !0 });
                self.operands(code);
            }
            4 => code.push(SINGLE[self.below(11)]),
            5 => {
                code.extend([0x0f, 0x90 | self.below(16) as u8, 0xc0 | self.below(4) as u8]);
            }
            6 => {
                code.extend([0x0f, 0x40 | self.below(16) as u8]);
                self.operands(code);
            }
            7 => {
                let kind = [0, 1, 2, 3, 4, 5, 7][self.below(7)];
                code.extend([[0xd1, 0xd3][self.below(2)], 0xc0 | kind << 3 | self.below(4) as u8]);
            }
            8 => {
                code.extend([0x83, 0xc0 | self.byte() & 0x38 | self.below(4) as u8, self.byte()]);
            }
            _ => {
                code.extend([0x85, 0xc0 | (self.below(4) << 3 | self.below(4)) as u8]);
            }
        }
    }

    /// Two to six instructions, perhaps with forward jumps among them, then a Jcc over an INC of ESI.
    fn sequence(&mut self, code: &mut Vec<u8>) {
        for _ in 0..2 + self.below(5) {
            self.instruction(code);
            if self.below(5) == 0 {
                // A side exit: over an INC of EDI.
                code.extend([0x70 | self.below(16) as u8, 1, 0x47]);
            }
        }
        code.extend([0x70 | self.below(16) as u8, 1, 0x46]);
    }
}

/// A machine in flat protected mode, with sequences to run, again and again.
fn sequences(seed: u64) -> Machine {
    let ram_size = 4 << 20;
    let board = BoardConfig { ram_size, ..BoardConfig::default() };
    let mut m = Machine::new(Config { ram_size, board, bios: None, vga_bios: None }).expect("a machine");
    let (mut draw, mut code) = (Draw(seed), Vec::new());
    for _ in 0..SEQUENCES {
        draw.sequence(&mut code);
    }
    // JMP to the start.
    let back = (code.len() as i32 + 5).wrapping_neg();
    code.push(0xe9);
    code.extend(back.to_le_bytes());
    m.store(GuestPhys(CODE), &code);
    m.start_flat(CODE, 0, 0, 0x9_0000);
    for n in [0, 1, 2, 3, 6, 7] {
        m.cpu.regs[n] = (draw.below(1 << 16) as u32) << [0, 0, 8, 16][draw.below(4)];
    }
    m
}

/// Runs the sequences of `seed` in translated code and interpreted, to deadlines all along the way.
fn alike(seed: u64) -> Result<u64, String> {
    let (mut a, mut b) = (sequences(seed), sequences(seed));
    let mut interp = Interp::<World>::default();
    let mut translator = Translator::<World, Portable<World>>::default();
    let mut draw = Draw(!seed);
    let mut to = 0;
    while to < 600 {
        to = a.cpu.now + 1 + draw.below(90) as u64;
        let plain = interp.run(&mut a.cpu, &mut a.world, to);
        let left = translator.run(&mut b.cpu, &mut b.world, &mut Identity, to);
        let same = (plain, left) == (Stop::Budget, Left::Stop(Stop::Budget));
        let differences = state::differences(&a, &b);
        if !same || !differences.is_empty() {
            return Err(format!("sequences: by tick {to}, {plain:?} {left:?} {differences:#?}"));
        }
    }
    Ok(translator.runs().units)
}

#[test]
fn straight_code_and_its_jumps_end_the_same_in_translated_code() {
    let units = Cell::new(0);
    for seed in 0..u64::from(cases(300)) {
        units.set(units.get() + alike(seed).unwrap_or_else(|e| panic!("seed {seed}: {e}")));
    }
    println!("{} runs of units", units.get());
    assert!(units.get() > 1000, "sequences run in units");
}

/// Kernels, bare and translated, in strides.
fn kernels_alike(cases: u32) -> Result<(), String> {
    // The first kernel will do: nobody reads it.
    let config = Settings { cases, failure_persistence: None, max_shrink_iters: 0, ..Settings::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[9; 32]));
    let result = runner.run(&kernel::kernels(), |ops| {
        let (mut bare, mut bt) = (kernel::machine(&ops), kernel::machine(&ops));
        BT_TRACE.put(&mut bt, 5);
        let mut to = 0;
        loop {
            to += 331;
            let (a, b) = (run_to(&mut bare, to), run_to(&mut bt, to));
            let alike = a == b && (bare.cpu.eip, bare.cpu.regs) == (bt.cpu.eip, bt.cpu.regs);
            if !alike || (a.is_some() && !state::same(&bare, &bt)) {
                return Err(TestCaseError::fail(format!("kernels: by tick {to}")));
            }
            if a.is_some() || to > 60_000 {
                return Ok(());
            }
        }
    });
    result.map_err(|e| e.to_string())
}

/// Random machines, bare and translated.
fn machines_alike(cases: u32) -> Result<(), String> {
    for seed in 0..u64::from(cases) {
        let data = super::seed::bytes(seed ^ 0xb06, translation::LEN);
        match translation::run_random(&data, Coherence::Trace, seed) {
            Ok(_) => {}
            Err(_) if translation::is_open(&data, Coherence::Trace, seed) => {}
            Err(noticed) => return Err(format!("machines: {}", noticed.what)),
        }
    }
    Ok(())
}

/// A bug of the translator's, or of the rules that it goes by.
#[derive(Clone, Copy, Debug)]
enum Seeded {
    Translator(translator::Bug),
    Rules(Bug),
}

impl Seeded {
    fn with<T>(self, f: impl FnOnce() -> T) -> T {
        match self {
            Self::Translator(bug) => translator::with(Some(bug), f),
            Self::Rules(bug) => bug::with(Some(bug), f),
        }
    }
}

/// Runs so many cases.
type Check = fn(u32) -> Result<(), String>;

const CHECKS: [(&str, Check); 4] = [
    ("sequences", |n| (0..u64::from(n)).try_for_each(|seed| alike(seed).map(drop))),
    ("kernels", kernels_alike),
    ("random machines", machines_alike),
    ("returns", returns::alike),
];

const SEEDED: [Seeded; 10] = [
    Seeded::Translator(translator::Bug::DeadFlags),
    Seeded::Translator(translator::Bug::StaleUnit),
    Seeded::Translator(translator::Bug::DeadChain),
    Seeded::Translator(translator::Bug::StaleInlineCache),
    Seeded::Translator(translator::Bug::LateCallout),
    Seeded::Rules(Bug::MissWindow),
    Seeded::Rules(Bug::KeepIf),
    Seeded::Rules(Bug::BlockNmis),
    Seeded::Rules(Bug::AnyRing),
    Seeded::Rules(Bug::LateSelector),
];

#[test]
fn every_seeded_bug_of_the_translator_is_noticed() {
    let mut missed = Vec::new();
    println!("{:<30} noticed by", "bug");
    for seeded in SEEDED {
        let noticed = |check: Check, cases: u32| {
            // A bug may also trip the library's own assertions.
            let ran = std::panic::catch_unwind(|| seeded.with(|| check(cases)));
            translator::with(None, || ());
            bug::with(None, || ());
            !matches!(ran, Ok(Ok(())))
        };
        let all = |cases: u32| -> Vec<&str> {
            let noticing = CHECKS.iter().filter(|(_, check)| noticed(*check, cases));
            noticing.map(|(name, _)| *name).collect()
        };
        // What few guests meet takes more of them.
        let few = all(40);
        let by = if few.is_empty() { all(400) } else { few };
        println!("{:<30} {}", format!("{seeded:?}"), by.join(", "));
        if by.is_empty() {
            missed.push(seeded);
        }
    }
    assert!(missed.is_empty(), "not noticed: {missed:?}");
    for (name, check) in CHECKS {
        assert_eq!(check(40), Ok(()), "{name}: with no bug nothing is noticed");
    }
}
