//! The caps on what a monitor keeps, at their smallest: shadow page tables and translated code are thrown
//! away all the time, and what the guest does stays the same. The kernels are generated: they change page
//! tables, code, modes and segments.

use super::equivalence::{cases, runner};
use super::kernel;
use super::pair::{CELLS, Cell, Strides, Tested};
use super::printed;
use proptest::test_runner::TestCaseError;
use std::cell::Cell as Counter;
use subring::cell::{Mmu, Strategy};
use subring::machine::Machine;
use subring::report::Change;
use subring::translate::Why;
use subring::vmm::Config;
use subring::vmm::memory::FEWEST_FRAMES;

/// How long a kernel runs, and when it is looked at.
const STRIDES: Strides = Strides { most: 60_000, stride: 331, whole: 16 };
const SEED: u64 = 4;

/// Memory for translated code: none, so that each unit goes when the next comes; and for a few units, which
/// chain until then.
const FRAGMENTS: [usize; 2] = [0, 4096];
/// No unit's code is longer.
const LONGEST: usize = 8192;

/// Runs a kernel of all kinds of operations on the bare machine and under a monitor, whose machine it
/// returns.
fn same(ops: &[kernel::Op], cell: Cell, config: &Config) -> Result<Machine, String> {
    let (mut bare, mut other) = (kernel::machine(ops), kernel::machine(ops));
    cell.put_with(&mut other, config);
    STRIDES.hold(&mut bare, &mut other, cell)?;
    Ok(other)
}

/// What went for want of room.
#[derive(Default)]
struct Gone {
    shadow: Counter<u64>,
    units: Counter<u64>,
}

impl Gone {
    /// Counts that of `machine`, and holds its memory to the caps.
    fn add(&self, machine: &Machine, config: &Config) -> Result<(), TestCaseError> {
        let shadow = machine.shadow().and_then(|mmu| mmu.counts().changes.get(&Change::Evicted).copied());
        let nested = machine.nested().map(|mmu| mmu.counts().evictions);
        self.shadow.set(self.shadow.get() + shadow.or(nested).unwrap_or(0));
        let Some(translation) = machine.translation() else { return Ok(()) };
        let full = translation.translator().counts().dropped[Why::Full as usize];
        self.units.set(self.units.get() + full);
        let bytes = translation.translator().fragment_bytes();
        if bytes > config.fragment_memory.saturating_add(LONGEST) {
            return Err(TestCaseError::fail(format!("{bytes} bytes of fragments")));
        }
        Ok(())
    }
}

/// The smallest caps on translated code, with plenty of frames for shadow page tables and with the fewest.
fn caps(cell: Cell) -> Vec<Config> {
    let with =
        |shadow_frames, fragment_memory| Config { shadow_frames, fragment_memory, ..cell.config(SEED) };
    FRAGMENTS.into_iter().flat_map(|bytes| [with(1024, bytes), with(FEWEST_FRAMES, bytes)]).collect()
}

#[test]
fn translated_code_is_thrown_away_all_the_time_and_nothing_changes() {
    for cell in CELLS.into_iter().filter(|cell| cell.strategy() == Strategy::Bt) {
        for config in caps(cell) {
            let gone = Gone::default();
            let check = |ops: Vec<kernel::Op>| {
                let machine = same(&ops, cell, &config).map_err(TestCaseError::fail)?;
                gone.add(&machine, &config)
            };
            let who = format!("{cell} with {} bytes of fragments", config.fragment_memory);
            let how = (STRIDES.most, config.shadow_frames, SEED);
            printed::judge(runner(12).run(&kernel::any_kernels(), check), "caps", &who, how);
            let units = gone.units.get();
            println!("{cell}, {} bytes: {units} units thrown away", config.fragment_memory);
            assert!(units > 50 * u64::from(cases(12)), "{cell}, {config:?}: {units} units went");
        }
    }
}

#[test]
fn shadow_page_tables_are_taken_from_each_other_all_the_time_and_nothing_changes() {
    for cell in CELLS {
        let smallest = Config { shadow_frames: FEWEST_FRAMES, fragment_memory: 0, ..cell.config(SEED) };
        let gone = Gone::default();
        let check = |ops: Vec<kernel::Op>| {
            let machine = same(&ops, cell, &smallest).map_err(TestCaseError::fail)?;
            gone.add(&machine, &smallest)
        };
        let how = (STRIDES.most, FEWEST_FRAMES, SEED);
        printed::judge(runner(30).run(&kernel::page_tables(), check), "smallest", &cell, how);
        let (shadow, units) = (gone.shadow.get(), gone.units.get());
        println!("{cell}: {shadow} entries of shadow page tables evicted, {units} units thrown away");
        // Extended page tables for all that these kernels touch find room in the fewest frames.
        let few = cell.mmu() == Mmu::Nested;
        assert!(few || shadow > 10 * u64::from(cases(30)), "{cell}: {shadow} entries were evicted");
        assert!(units > 0 || cell.strategy() != Strategy::Bt, "{cell}: both caps are at work");
    }
}
