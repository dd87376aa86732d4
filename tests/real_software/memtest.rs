//! memtest86+ 6 (package memtest86+), the 32-bit image, from its own boot image as a disk: a first pass of its tests
//! with no errors on its screen. It needs an x87 for the figures that it shows.
//!
//! Test 10 waits for two times 80 seconds, so a low frequency makes it cheap. The rest is work: tests 0 to 3 take 100
//! million instructions with 5 MB of memory (with less the program finds no room), the whole pass 6,326 million.

use super::fetch::{file, have, skipped};
use super::pc::{Lab, Monitor, Parts};

fn boot(monitor: Monitor) -> Lab {
    let disks = vec![file("memtest86+", "usr/lib/memtest86+/memtest86+ia32.iso")];
    let mut lab = Lab::new(Parts { disks, mem: 5 << 20, hz: 1_000_000, monitor, ..Parts::default() });
    lab.until("Errors: 0", 60);
    lab
}

/// Runs on until the screen shows each of these.
fn follow(lab: &mut Lab, points: &[&str], seconds: u64) {
    for point in points {
        lab.until(point, seconds);
        assert!(lab.shows("Errors: 0"), "{}", lab.text());
    }
}

const FIRST: [&str; 3] = ["Pentium II", "Test #3 ", "Test #4 "];
const REST: [&str; 7] = [
    "Test #5 ",
    "Test #6 ",
    "Test #7 ",
    "Test #8 ",
    "Test #9 ",
    "Test #10",
    "Press any key to remove this banner",
];

/// To where its screen says that it has begun.
pub(crate) fn start(monitor: Monitor) -> Lab {
    let mut lab = boot(monitor);
    follow(&mut lab, &FIRST[..1], 600);
    lab
}

/// Tests 0 to 3.
pub(crate) fn first_tests(monitor: Monitor) -> Lab {
    let mut lab = boot(monitor);
    follow(&mut lab, &FIRST, 600);
    lab
}

/// All tests.
pub(crate) fn first_pass(monitor: Monitor) -> Lab {
    let mut lab = boot(monitor);
    follow(&mut lab, &FIRST, 6000);
    follow(&mut lab, &REST, 20_000);
    assert!(lab.shows("Pass:  1"), "{}", lab.text());
    lab
}

#[test]
#[ignore = "needs packages from Debian"]
fn its_first_tests_find_no_errors_twice_the_same() {
    if !have(&["memtest86+"]) {
        return;
    }
    let lab = first_tests(None);
    assert_eq!(first_tests(None).end_state(), lab.end_state(), "two runs differ");
}

/// The whole first pass: minutes in a debug build.
#[test]
#[ignore = "needs packages from Debian"]
fn its_first_pass_finds_no_errors() {
    if !super::full() {
        return skipped("it takes minutes; SUBRING_FULL=1 runs it");
    }
    if !have(&["memtest86+"]) {
        return;
    }
    println!("the first pass: {:?}", first_pass(None).marks);
}
