//! Tests of the keyboard controller, its keyboard and its mouse.

use super::super::mouse::Button;
use super::*;
use crate::console::keymap::Stroke;

struct Bench {
    chip: I8042,
    now: Ticks,
}

impl Bench {
    fn new() -> Self {
        Self { chip: I8042::new(Clock::default()), now: 0 }
    }
    fn command(&mut self, value: u8) {
        self.chip.write(COMMAND, Width::Byte, value.into(), self.now);
    }
    fn data(&mut self, value: u8) {
        self.chip.write(DATA, Width::Byte, value.into(), self.now);
    }
    fn status(&mut self) -> u8 {
        self.chip.read(COMMAND, Width::Byte, self.now) as u8
    }
    /// The next byte, once it arrives.
    fn byte(&mut self) -> Option<u8> {
        self.now += 2_000_000;
        self.status();
        self.now += 100_000;
        (self.status() & STATUS_OBF != 0).then(|| self.chip.read(DATA, Width::Byte, self.now) as u8)
    }
    fn bytes(&mut self) -> Vec<u8> {
        std::iter::from_fn(|| self.byte()).collect()
    }
    /// Strikes keys by their names or characters.
    fn type_keys(&mut self, keys: &[&str]) {
        for event in keys.iter().flat_map(|name| Stroke::of_name(name).unwrap().events()) {
            self.chip.key(event, self.now);
        }
    }
}

#[test]
fn self_tests_pass() {
    let mut b = Bench::new();
    b.command(0xaa);
    assert_eq!(b.bytes(), [0x55]);
    assert_eq!(b.status() & STATUS_SYS, STATUS_SYS);
    b.command(0xab);
    assert_eq!(b.bytes(), [0]);
}

#[test]
fn the_command_byte_reads_back() {
    let mut b = Bench::new();
    b.command(0x60);
    b.data(0x61);
    b.command(0x20);
    assert_eq!(b.bytes(), [0x61]);
}

#[test]
fn a20_follows_the_output_port_and_its_short_forms() {
    let mut b = Bench::new();
    b.command(0xd1);
    b.data(0xdd);
    assert_eq!(b.chip.take_a20(), Some(false));
    b.command(0xd0);
    assert_eq!(b.bytes()[0] & OUT_A20, 0);
    b.command(0xdf);
    assert_eq!(b.chip.take_a20(), Some(true));
    assert_eq!(b.chip.take_a20(), None);
    b.command(0xfe);
    assert!(b.chip.take_reset());
}

#[test]
fn the_keyboard_answers_reset_identify_and_echo() {
    let mut b = Bench::new();
    b.data(0xff);
    assert_eq!(b.bytes(), [0xfa, 0xaa]);
    b.data(0xf2);
    assert_eq!(b.bytes(), [0xfa, 0xab, 0x83]);
    b.data(0xee);
    assert_eq!(b.bytes(), [0xee]);
    b.data(0xfe);
    assert_eq!(b.bytes(), [0xee]);
    b.data(0xed);
    b.data(2);
    assert_eq!(b.bytes(), [0xfa, 0xfa]);
    assert_eq!(b.chip.leds(), 2);
    b.data(0xf0);
    b.data(0);
    assert_eq!(b.bytes(), [0xfa, 0xfa, 2]);
}

#[test]
fn keys_arrive_in_set_2_or_translated_with_an_interrupt_each() {
    let mut b = Bench::new();
    b.command(0x60);
    b.data(0x01);
    b.type_keys(&["a", "Up"]);
    b.now += 100_000;
    b.status();
    assert!(b.chip.irq());
    assert_eq!(b.bytes(), [0x1c, 0xf0, 0x1c, 0xe0, 0x75, 0xe0, 0xf0, 0x75]);
    assert!(!b.chip.irq());
    b.command(0x60);
    b.data(0x41);
    b.type_keys(&["a", "Up", "F7"]);
    assert_eq!(b.bytes(), [0x1e, 0x9e, 0xe0, 0x48, 0xe0, 0xc8, 0x41, 0xc1]);
}

#[test]
fn answers_that_nobody_reads_are_lost_rather_than_kept() {
    let mut b = Bench::new();
    for _ in 0..1000 {
        b.data(0xf2);
        b.command(0xd4);
        b.data(0xe9);
    }
    assert!(b.chip.keyboard.queue.len() <= 2 * QUEUE);
    b.bytes();
    b.data(0xee);
    assert_eq!(b.bytes(), [0xee]);
}

#[test]
fn a_disabled_keyboard_holds_its_bytes() {
    let mut b = Bench::new();
    b.command(0xad);
    b.type_keys(&["a"]);
    assert_eq!(b.byte(), None);
    b.command(0xae);
    assert_eq!(b.bytes(), [0x1c, 0xf0, 0x1c]);
}

#[test]
fn a_long_string_waits_for_the_guest() {
    let mut b = Bench::new();
    b.command(0x60);
    b.data(0x41);
    let keys = ["a", "b", "c"].repeat(200);
    b.type_keys(&keys);
    b.now += 1_000_000_000;
    let got = b.bytes();
    assert_eq!(got.len(), 2 * keys.len());
    assert_eq!(got[got.len() - 2..], [0x2e, 0xae]);
    assert_eq!(b.chip.keys_waiting(), 0);
}

#[test]
fn the_mouse_answers_a_probe_on_irq12() {
    let mut b = Bench::new();
    b.command(0x60);
    b.data(0x03);
    b.command(0xd4);
    b.data(0xff);
    b.chip.advance(100_000);
    assert!(b.chip.irq12() && !b.chip.irq());
    assert_eq!(b.status() & STATUS_AUX, STATUS_AUX);
    assert_eq!(b.bytes(), [0xfa, 0xaa, 0]);
    b.command(0xd4);
    b.data(0xf2);
    assert_eq!(b.bytes(), [0xfa, 0]);
}

#[test]
fn the_mouse_reports_to_a_guest_that_listens() {
    let mut b = Bench::new();
    b.chip.mouse(MouseEvent::Move { dx: 2, dy: -1 }, 0);
    b.chip.mouse(MouseEvent::Button { button: Button::Left, down: true }, 0);
    assert_eq!((b.chip.next_event(), b.chip.keys_waiting()), (None, 2));
    b.command(0x60);
    b.data(0x03);
    b.command(0xd4);
    b.data(0xf4);
    assert_eq!(b.byte(), Some(0xfa));
    b.command(0xa7);
    assert_eq!((b.byte(), b.chip.next_event()), (None, None), "its clock line is held");
    b.command(0xa8);
    assert!(b.chip.next_event().is_some());
    assert_eq!(b.bytes(), [0x08, 2, 1, 0x09, 0, 0]);
    assert_eq!(b.chip.keys_waiting(), 0);
}

#[test]
fn the_auxiliary_port_can_be_looped_back() {
    let mut b = Bench::new();
    b.command(0xd3);
    b.data(0xa5);
    assert_eq!(b.status() & (STATUS_OBF | STATUS_AUX), STATUS_OBF | STATUS_AUX);
    assert_eq!(b.bytes(), [0xa5]);
    b.command(0xa9);
    assert_eq!(b.bytes(), [0]);
    b.command(0xa7);
    b.command(0x20);
    assert_eq!(b.bytes()[0] & CTR_NO_AUX, CTR_NO_AUX);
}
