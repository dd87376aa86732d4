//! Tests of the mouse alone; those with its controller are in `i8042`.

use super::*;

const SECOND: Ticks = 1_000_000;

fn mouse() -> Mouse {
    Mouse::new(Clock::new(SECOND))
}

/// What the mouse answers to these bytes, one after the other.
fn answers(mouse: &mut Mouse, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for &byte in bytes {
        mouse.command(byte);
        out.extend(std::iter::from_fn(|| mouse.take_byte()));
    }
    out
}

/// The packets that it sends by itself until it has nothing more to say, and when.
fn packets(mouse: &mut Mouse) -> Vec<(Ticks, Vec<u8>)> {
    std::iter::from_fn(|| {
        let at = mouse.next_event()?;
        mouse.advance(at);
        Some((at, std::iter::from_fn(|| mouse.take_byte()).collect()))
    })
    .collect()
}

/// The packets without their times.
fn contents(mouse: &mut Mouse) -> Vec<Vec<u8>> {
    packets(mouse).into_iter().map(|(_, packet)| packet).collect()
}

fn button(button: Button, down: bool) -> MouseEvent {
    MouseEvent::Button { button, down }
}

/// The sample rates of a knock.
fn knock(mouse: &mut Mouse, rates: [u8; 3]) {
    for rate in rates {
        assert_eq!(answers(mouse, &[0xf3, rate]), [ACK, ACK]);
    }
}

#[test]
fn a_reset_answers_with_the_self_test_and_the_plain_id() {
    let mut m = mouse();
    knock(&mut m, [200, 100, 80]);
    assert_eq!(answers(&mut m, &[0xff]), [ACK, PASSED, 0]);
    assert_eq!(answers(&mut m, &[0xf2]), [ACK, 0]);
    assert_eq!(answers(&mut m, &[0xe9]), [ACK, 0, 2, 100]);
}

#[test]
fn the_knocks_bring_the_wheel_and_then_five_buttons() {
    let mut m = mouse();
    knock(&mut m, [200, 200, 80]);
    assert_eq!(answers(&mut m, &[0xf2]), [ACK, 0], "five buttons only come with a wheel");
    knock(&mut m, [200, 100, 80]);
    assert_eq!(answers(&mut m, &[0xf2]), [ACK, 3]);
    knock(&mut m, [200, 200, 80]);
    assert_eq!(answers(&mut m, &[0xf2]), [ACK, 4]);
}

#[test]
fn the_status_shows_mode_scaling_resolution_rate_and_buttons() {
    let mut m = mouse();
    assert_eq!(answers(&mut m, &[0xe8, 3, 0xf3, 40, 0xe7, 0xf0, 0xf4]), [ACK; 7]);
    m.event(button(Button::Right, true));
    assert_eq!(answers(&mut m, &[0xeb]), [ACK, 0x0a, 0, 0]);
    assert_eq!(answers(&mut m, &[0xe9]), [ACK, 0x71, 3, 40]);
    assert_eq!(answers(&mut m, &[0xf6, 0xe9]), [ACK, ACK, 0x01, 2, 100]);
}

#[test]
fn a_stream_says_movements_with_y_upwards_and_each_change_of_a_button() {
    let mut m = mouse();
    m.event(MouseEvent::Move { dx: 5, dy: 3 });
    assert_eq!(m.next_event(), None, "it says nothing before reporting is enabled");
    answers(&mut m, &[0xf4]);
    assert_eq!(contents(&mut m), [[0x28, 5, 0xfd]]);
    m.event(button(Button::Left, true));
    m.event(MouseEvent::Move { dx: -1, dy: 0 });
    m.event(button(Button::Left, false));
    assert_eq!(contents(&mut m), [[0x19, 0xff, 0], [0x08, 0, 0]]);
}

#[test]
fn packets_come_at_the_sample_rate() {
    let mut m = mouse();
    answers(&mut m, &[0xf3, 10, 0xf4]);
    for down in [true, false, true] {
        m.event(button(Button::Middle, down));
    }
    let times: Vec<Ticks> = packets(&mut m).into_iter().map(|(at, _)| at).collect();
    assert_eq!(times, [0, SECOND / 10, SECOND / 5]);
}

#[test]
fn a_long_way_takes_several_packets() {
    let mut m = mouse();
    answers(&mut m, &[0xf4]);
    m.event(MouseEvent::Move { dx: 300, dy: -300 });
    m.event(MouseEvent::Move { dx: -600, dy: 0 });
    assert_eq!(contents(&mut m), [[0x18, 1, 255], [0x18, 0xd3, 45]]);
}

#[test]
fn the_wheel_has_a_byte_and_the_side_buttons_share_it() {
    let mut m = mouse();
    knock(&mut m, [200, 100, 80]);
    answers(&mut m, &[0xf4]);
    m.event(MouseEvent::Wheel(-9));
    assert_eq!(contents(&mut m), [[0x08, 0, 0, 0xf9], [0x08, 0, 0, 0xfe]]);
    knock(&mut m, [200, 200, 80]);
    m.event(button(Button::Side, true));
    m.event(button(Button::Extra, true));
    m.event(MouseEvent::Wheel(-1));
    assert_eq!(contents(&mut m), [[0x08, 0, 0, 0x10], [0x08, 0, 0, 0x3f]]);
}

#[test]
fn scaling_is_for_the_stream_only() {
    let mut m = mouse();
    answers(&mut m, &[0xe7, 0xf4]);
    for (moved, shown) in [(1, 1), (2, 1), (3, 3), (4, 6), (5, 9), (6, 12), (127, 254)] {
        m.event(MouseEvent::Move { dx: moved, dy: 0 });
        assert_eq!(contents(&mut m), [[0x08, shown, 0]], "{moved}");
    }
    m.event(MouseEvent::Move { dx: 4, dy: 0 });
    assert_eq!(answers(&mut m, &[0xf0, 0xeb]), [ACK, ACK, 0x08, 4, 0]);
}

#[test]
fn bad_bytes_are_asked_for_again_and_then_refused() {
    let mut m = mouse();
    assert_eq!(answers(&mut m, &[0x12, 0x12, 0xf2]), [RESEND, ERROR, ACK, 0]);
    assert_eq!(answers(&mut m, &[0xf3, 99]), [ACK, RESEND]);
    assert_eq!(answers(&mut m, &[0xe8, 4]), [ACK, RESEND]);
    assert_eq!(answers(&mut m, &[0xe9]), [ACK, 0, 2, 100]);
}

#[test]
fn resend_repeats_the_last_answer_and_wrap_mode_echoes() {
    let mut m = mouse();
    answers(&mut m, &[0xe9]);
    assert_eq!(answers(&mut m, &[0xfe, 0xfe]), [ACK, 0, 2, 100, ACK, 0, 2, 100]);
    assert_eq!(answers(&mut m, &[0xee, 0xf2, 0x55, 0xec, 0xf2]), [ACK, 0xf2, 0x55, ACK, ACK, 0]);
}

#[test]
fn a_command_ends_what_was_being_sent() {
    let mut m = mouse();
    answers(&mut m, &[0xf4]);
    m.event(MouseEvent::Move { dx: 1, dy: 0 });
    m.advance(0);
    assert_eq!(answers(&mut m, &[0xf5]), [ACK]);
}
