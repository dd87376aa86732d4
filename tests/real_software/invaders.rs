//! grub-invaders: a Multiboot game that polls the keyboard controller and times itself by the 8254. It is played by
//! script: the ship moves, shots fly, invaders fall, the game pauses, and Esc resets the machine.

use super::fetch::{file, have};
use super::pc::{Lab, Monitor, Parts};
use subring::cli::pc::Outcome;

/// Row of the ship's nose.
const NOSE: usize = 23;
const LEFT: u8 = 0x4b;
const RIGHT: u8 = 0x4d;

fn start(monitor: Monitor) -> Lab {
    let kernel = Some(file("grub-invaders", "boot/invaders.exec"));
    let mut lab = Lab::new(Parts { kernel, mem: 4 << 20, monitor, ..Parts::default() });
    lab.until("/ \\", 5);
    // The army appears first; then the keys count.
    lab.wait_ms(1000);
    lab
}

fn column(lab: &Lab) -> usize {
    lab.lines()[NOSE].find('_').expect("the ship is there")
}

fn invaders(lab: &Lab) -> usize {
    lab.text().matches('*').count()
}

fn shots(lab: &Lab) -> usize {
    lab.text().matches('|').count()
}

/// Plays for some seconds and asserts on the way.
pub(crate) fn play(monitor: Monitor) -> Lab {
    let mut lab = start(monitor);
    let (center, army) = (column(&lab), invaders(&lab));
    assert_eq!((center, army, shots(&lab)), (40, 40, 0), "{}", lab.text());

    lab.hold(LEFT, 500);
    let left = column(&lab);
    assert!(left < center - 2, "it moves left: {left}");
    lab.hold(RIGHT, 1000);
    assert!(column(&lab) > center, "and right: {}", column(&lab));

    let mut seen = 0;
    for _ in 0..20 {
        lab.keys("<Space>");
        lab.wait_ms(100);
        seen += shots(&lab);
        lab.hold(LEFT, 100);
    }
    assert!(seen > 0, "shots fly");
    assert!(invaders(&lab) < army, "and hit:\n{}", lab.text());

    lab.keys("p");
    lab.until("PRESS 'P'", 5);
    let paused = lab.text();
    lab.wait_ms(1000);
    assert_eq!(lab.text(), paused, "nothing moves");
    lab.keys("p");
    lab.wait_ms(1000);
    assert_ne!(lab.text(), paused);
    lab
}

#[test]
#[ignore = "needs packages from Debian"]
fn it_plays_by_script_twice_the_same() {
    if !have(&["grub-invaders"]) {
        return;
    }
    let mut lab = play(None);
    assert_eq!(play(None).end_state(), lab.end_state(), "two runs differ");
    lab.keys("<Esc>");
    assert_eq!(lab.until_stop(5), Outcome::Reset);
}
