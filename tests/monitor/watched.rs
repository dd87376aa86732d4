//! Data breakpoints on entries of the guest's GDT. The real processor reads a shadow of the table elsewhere, so a watched
//! entry must not be loaded directly. VERR, LSL and LAR of user code fault at no descriptor: under trap and emulate they go
//! wrong, as all sensitive unprivileged instructions do, and `compare` names them.

use super::flat;
use super::pair::{CELLS, Cell, Tested, run_to};
use subring::lab::compare::{Divergence, strides};
use subring::machine::{Machine, Outcome};

/// See `watched/kernel.asm` and `watched/user.asm`; made with `nasm -f bin`.
const KERNEL: &[u8] = include_bytes!("watched/kernel.bin");
const USER: &[u8] = include_bytes!("watched/user.bin");

const ENOUGH: u64 = 1000;

/// Breakpoints that the guest counted on `m`.
fn counted(mut m: Machine) -> u32 {
    assert_eq!(run_to(&mut m, ENOUGH), Some(Outcome::HaltedForever));
    m.cpu.reg(3)
}

fn parts(code: &[u8], cell: Cell) -> Option<Divergence> {
    let (mut bare, mut other) = cell.guests(5, || flat::machine(code));
    strides::first_divergence(&mut bare, &mut other, ENOUGH, |_| true).expect("it can be put back")
}

#[test]
fn a_watched_entry_that_the_kernel_loads_is_seen_in_every_cell() {
    assert_eq!(counted(flat::machine(KERNEL)), 4);
    for cell in CELLS {
        assert_eq!(parts(KERNEL, cell).map(|d| d.differences), None, "{cell}");
    }
}

#[test]
fn a_watched_entry_that_user_code_names_is_seen_where_nothing_goes_wrong() {
    assert_eq!(counted(flat::machine(USER)), 4);
    for cell in CELLS {
        let parted = parts(USER, cell);
        if cell.parts_at_sensitive() {
            let d = parted.expect("VERR reads the shadow");
            assert!(d.sensitive_unprivileged && d.disassembly.starts_with("verr"), "{cell}: {d:?}");
        } else {
            assert_eq!(parted.map(|d| d.differences), None, "{cell}");
        }
    }
}
