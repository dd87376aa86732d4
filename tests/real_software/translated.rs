//! All of it under binary translation and under hardware assist: what ring compression alone cannot run runs, and is
//! the same to the bit. Each piece goes through the script of its own test, on the bare machine and under each monitor;
//! transcript, screen, registers, memory and instruction counts at every point that the script waits for must agree.
//!
//! Pieces that take long run in full (`SUBRING_FULL=1`), and to an early point by default.

use super::fetch::{have, skipped};
use super::pc::{Lab, Monitor};
use super::{gnumach, grub, grub_boots, hard_disk, invaders, linux, memtest, seabios, syslinux};
use subring::cell::Cell;
use subring::vmm::Config;

/// The cells under which nothing goes wrong; the first ones by default.
const CELLS: [Cell; 5] = [Cell::BT_TRACE, Cell::HVM_NESTED, Cell::BT_VTLB, Cell::HVM_TRACE, Cell::HVM_VTLB];
const USUAL: usize = 2;

fn under(cell: Cell) -> Monitor {
    Some(Config { cell, ..Config::default() })
}

/// Holds that `run` ends as on the bare machine in each of `cells`.
#[track_caller]
fn same_in(cells: &[Cell], run: impl Fn(Monitor) -> Lab) {
    let bare = run(None).end_state();
    for cell in cells {
        assert_eq!(run(under(*cell)).end_state(), bare, "bare is the second one; here {cell}");
    }
}

/// The same in all cells, by default in one of either strategy.
#[track_caller]
fn same(run: impl Fn(Monitor) -> Lab) {
    same_in(if super::full() { &CELLS } else { &CELLS[..USUAL] }, run);
}

/// Whether the long form is wanted, and the packages are there.
fn wanted(packages: &[&str], instructions: &str) -> bool {
    if !super::full() {
        skipped(&format!("it takes {instructions} instructions; SUBRING_FULL=1 runs it"));
        return false;
    }
    have(packages)
}

#[test]
#[ignore = "needs packages from Debian"]
fn seabios_128k() {
    if have(&["seabios"]) {
        same_in(&CELLS, |monitor| seabios::boots_the_disk("bios.bin", monitor));
    }
}

#[test]
#[ignore = "needs packages from Debian"]
fn seabios_256k() {
    if have(&["seabios"]) {
        same_in(&CELLS, |monitor| seabios::boots_the_disk("bios-256k.bin", monitor));
    }
}

#[test]
#[ignore = "needs packages from Debian"]
fn grub_to_its_menu() {
    if have(&["seabios", "grub-rescue-pc"]) {
        same(grub::menu);
    }
}

#[test]
#[ignore = "needs packages from Debian"]
fn grub_with_its_commands() {
    if wanted(&["seabios", "grub-rescue-pc"], "1 G") {
        same(grub::own_bios_floppy);
        same(grub::larger_seabios_disk);
    }
}

/// Its programs run in 32-bit code and go back to real mode for each call of the BIOS.
#[test]
#[ignore = "needs packages from Debian"]
fn syslinux_and_its_programs() {
    if have(&syslinux::PACKAGES) {
        // One that is made anew has other times and another serial number.
        let floppy = syslinux::floppy("syslinux-translated.img");
        same(|monitor| syslinux::under_our_own_bios(floppy.clone(), monitor));
        same(|monitor| syslinux::under_seabios(floppy.clone(), monitor));
    }
}

#[test]
#[ignore = "needs packages from Debian"]
fn mach_by_grub_from_a_disk() {
    if wanted(&hard_disk::PACKAGES, "2 G") && have(&["grub-rescue-pc"]) {
        let image = grub_boots::kernels("grub-kernels-translated.img");
        same(|monitor| grub_boots::mach(image.clone(), monitor));
    }
}

#[test]
#[ignore = "needs packages from Debian"]
fn memtest() {
    if !have(&["memtest86+"]) {
        return;
    }
    if super::full() {
        same(memtest::first_tests);
        // 6 G instructions: once is enough.
        same_in(&CELLS[..1], memtest::first_pass);
    } else {
        same(memtest::start);
    }
}

#[test]
#[ignore = "needs packages from Debian"]
fn invaders() {
    if have(&["grub-invaders"]) {
        same(invaders::play);
    }
}

#[test]
#[ignore = "needs packages from Debian"]
fn mach() {
    if have(&[gnumach::MACH]) {
        same(gnumach::to_its_modules);
    }
}

#[test]
#[ignore = "needs packages from Debian"]
fn linux_begins() {
    if have(&[linux::KERNEL]) {
        same(|monitor| linux::begins(linux::KERNEL, 400, monitor));
    }
}

#[test]
#[ignore = "needs packages from Debian"]
fn linux_to_its_shell_with_traces() {
    if wanted(&linux::PACKAGES, "10 G") {
        linux::session_is_the_same(under(Cell::BT_TRACE));
    }
}

#[test]
#[ignore = "needs packages from Debian"]
fn linux_to_its_shell_with_a_virtual_tlb() {
    if wanted(&linux::PACKAGES, "10 G") {
        linux::session_is_the_same(under(Cell::BT_VTLB));
    }
}

#[test]
#[ignore = "needs packages from Debian"]
fn linux_to_its_shell_with_hardware_assist() {
    if wanted(&linux::PACKAGES, "30 G") {
        for cell in [Cell::HVM_TRACE, Cell::HVM_VTLB, Cell::HVM_NESTED] {
            linux::session_is_the_same(under(cell));
        }
    }
}

#[test]
#[ignore = "needs packages from Debian"]
fn linux_with_pae_to_its_shell() {
    if wanted(&[linux::KERNEL_PAE, linux::BUSYBOX], "42 G") {
        CELLS.into_iter().for_each(|cell| drop(linux::pae(under(cell))));
    }
}
