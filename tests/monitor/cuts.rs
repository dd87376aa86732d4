//! A run that is cut, saved and gone on from on another machine, under another strategy or none, ends where the whole run
//! does: what a monitor saves is a bare machine's state.

use super::equivalence::runner;
use super::kernel::{self, Op};
use super::pair::{CELLS, Cell, Tested, run_to};
use super::printed;
use proptest::test_runner::{TestCaseError, TestError};
use subring::lab::state;
use subring::machine::{Machine, State};

const TICKS: u64 = 20_000;

/// `m`, saved to bytes and read back, on a machine in `cell` (none: the bare machine).
fn moved(m: &Machine, cell: Option<Cell>, seed: u64) -> Result<Machine, String> {
    let bytes = postcard::to_allocvec(&m.save()).map_err(|e| e.to_string())?;
    let state: State = postcard::from_bytes(&bytes).map_err(|e| e.to_string())?;
    let none = || [const { None }; 4];
    let mut other =
        Machine::from_state(&state, none(), [const { None }; 2], None).map_err(|e| e.to_string())?;
    if let Some(cell) = cell {
        cell.put(&mut other, seed);
    }
    Ok(other)
}

fn cut(ops: &[Op], cuts: &[(u64, u8)]) -> Result<(), String> {
    let mut whole = kernel::machine(ops);
    let ended = run_to(&mut whole, TICKS);
    let mut m = kernel::machine(ops);
    let mut at = 0;
    for &(gap, which) in cuts {
        at += gap;
        if at >= TICKS || run_to(&mut m, at).is_some() {
            break;
        }
        let cell = CELLS.get(usize::from(which)).copied();
        m = moved(&m, cell, at)?;
    }
    let end = run_to(&mut m, TICKS);
    let differences = state::differences(&whole, &m);
    if ended == end && differences.is_empty() {
        Ok(())
    } else {
        Err(format!("whole {ended:?}, cut {end:?}: {differences:#?}"))
    }
}

#[test]
fn a_run_that_is_cut_and_goes_on_elsewhere_ends_the_same() {
    let cuts = proptest::collection::vec((0..1500u64, 0..=CELLS.len() as u8), 1..12);
    let result = runner(40)
        .run(&(kernel::kernels(), cuts), |(ops, cuts)| cut(&ops, &cuts).map_err(TestCaseError::fail));
    // The guest is printed without its cuts, so it may part when it is run as a whole, or not.
    let result = result.map_err(|e| match e {
        TestError::Fail(reason, (ops, cuts)) => {
            TestError::Fail(format!("{reason}, cut {cuts:?}").into(), ops)
        }
        TestError::Abort(reason) => TestError::Abort(reason),
    });
    printed::judge(result, "cuts", &"cut", (TICKS, CELLS[0].config(0).shadow_frames, 0));
}
