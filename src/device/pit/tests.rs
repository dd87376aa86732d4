//! The 8254 against its datasheet: the modes, the table of gate pin operations, BCD, and what read-back
//! shows.

use super::*;

/// A clock in which one tick is one input cycle.
fn pit() -> Pit {
    Pit::new(Clock::new(HZ))
}

fn out(pit: &mut Pit, port: u16, value: u8, now: Ticks) {
    pit.write(port, Width::Byte, value.into(), now);
}

fn inb(pit: &mut Pit, port: u16, now: Ticks) -> u8 {
    pit.read(port, Width::Byte, now) as u8
}

/// OUT of channel 2, through port 61h.
fn out2(pit: &mut Pit, now: Ticks) -> bool {
    inb(pit, SPEAKER, now) & P61_OUT2 != 0
}

fn count2(pit: &mut Pit, now: Ticks) -> u16 {
    out(pit, CONTROL, 0x80, now);
    let low = inb(pit, 0x42, now);
    u16::from(inb(pit, 0x42, now)) << 8 | u16::from(low)
}

const STATUS_NULL: u8 = 0x40;

/// The status of channel 2, by the read-back command.
fn status2(pit: &mut Pit, now: Ticks) -> u8 {
    out(pit, CONTROL, 0xe8, now);
    inb(pit, 0x42, now)
}

fn write2(pit: &mut Pit, count: u16, now: Ticks) {
    out(pit, 0x42, count as u8, now);
    out(pit, 0x42, (count >> 8) as u8, now);
}

/// Channel 2 in `mode` with `count` written at 0, gate as given.
fn channel2(mode: u8, count: u16, gate: bool) -> Pit {
    let mut pit = pit();
    out(&mut pit, SPEAKER, gate.into(), 0);
    out(&mut pit, CONTROL, 0xb0 | mode << 1, 0);
    write2(&mut pit, count, 0);
    pit
}

#[test]
fn mode_0_rises_n_plus_1_clocks_after_the_write() {
    let mut pit = channel2(0, 4, true);
    assert_eq!([0, 4, 5, 100].map(|t| out2(&mut pit, t)), [false, false, true, true]);
    assert_eq!(count2(&mut pit, 6), 0xffff, "it wraps and goes on");
}

#[test]
fn mode_0_stands_still_while_the_gate_is_low() {
    let mut pit = channel2(0, 10, true);
    out(&mut pit, SPEAKER, 0, 4);
    assert_eq!(count2(&mut pit, 90), 7);
    out(&mut pit, SPEAKER, 1, 100);
    assert!(!out2(&mut pit, 106));
    assert!(out2(&mut pit, 107));
}

/// What the datasheet's table of gate pin operations says of a mode.
struct Gate {
    mode: u8,
    /// The count stands still while the gate is low.
    low_holds: bool,
    /// OUT goes high at once when the gate falls.
    low_sets_out: bool,
    /// A rising gate loads the count again.
    rising_loads: bool,
}

const GATE_TABLE: [Gate; 6] = [
    Gate { mode: 0, low_holds: true, low_sets_out: false, rising_loads: false },
    Gate { mode: 1, low_holds: false, low_sets_out: false, rising_loads: true },
    Gate { mode: 2, low_holds: true, low_sets_out: true, rising_loads: true },
    Gate { mode: 3, low_holds: true, low_sets_out: true, rising_loads: true },
    Gate { mode: 4, low_holds: true, low_sets_out: false, rising_loads: false },
    Gate { mode: 5, low_holds: false, low_sets_out: false, rising_loads: true },
];

/// Channel 2 that counts from 1000, as loaded at 1. The modes that wait for a trigger have got one.
fn counting(mode: u8) -> Pit {
    let triggered = matches!(mode, 1 | 5);
    let mut pit = channel2(mode, 1000, !triggered);
    out(&mut pit, SPEAKER, 1, 0);
    pit
}

#[test]
fn each_mode_follows_the_table_of_gate_pin_operations() {
    for Gate { mode, low_holds, low_sets_out, rising_loads } in GATE_TABLE {
        let step = if mode == 3 { 2 } else { 1 };
        let mut pit = counting(mode);
        assert_eq!(count2(&mut pit, 101), 1000 - 100 * step, "mode {mode} counts");
        let before = out2(&mut pit, 101);
        out(&mut pit, SPEAKER, 0, 101);
        assert_eq!(out2(&mut pit, 101), before || low_sets_out, "mode {mode}, OUT at a falling gate");
        let held = if low_holds { 1000 - 100 * step } else { 1000 - 150 };
        assert_eq!(count2(&mut pit, 151), held, "mode {mode}, the gate is low");
        out(&mut pit, SPEAKER, 1, 201);
        let at_edge = if low_holds { 1000 - 100 * step } else { 1000 - 200 };
        assert_eq!(count2(&mut pit, 201), at_edge, "mode {mode}, no clock since the edge");
        let after = if rising_loads { 1000 - 9 * step } else { 1000 - 110 };
        assert_eq!(count2(&mut pit, 211), after, "mode {mode}, ten clocks after the edge");
    }
}

#[test]
fn a_low_gate_sets_out_high_in_the_low_part_of_modes_2_and_3() {
    for (mode, low_at) in [(2, 1000), (3, 700)] {
        let mut pit = counting(mode);
        assert!(!out2(&mut pit, low_at));
        out(&mut pit, SPEAKER, 0, low_at);
        assert_eq!([0, 1, 5000].map(|t| out2(&mut pit, low_at + t)), [true; 3], "mode {mode}");
    }
}

#[test]
fn a_trigger_of_mode_3_begins_with_the_high_half() {
    let mut pit = counting(3);
    out(&mut pit, SPEAKER, 0, 700);
    out(&mut pit, SPEAKER, 1, 800);
    assert_eq!([801, 1300, 1301, 1800, 1801].map(|t| out2(&mut pit, t)), [true, true, false, false, true]);
}

#[test]
fn the_first_count_of_each_gated_mode_is_loaded_with_the_gate_low() {
    for mode in [0, 2, 3, 4] {
        let mut pit = channel2(mode, 1000, false);
        assert_eq!(status2(&mut pit, 0) & STATUS_NULL, STATUS_NULL, "mode {mode}");
        assert_eq!((count2(&mut pit, 1), status2(&mut pit, 1) & STATUS_NULL), (1000, 0), "mode {mode}");
        assert_eq!(count2(&mut pit, 500), 1000, "mode {mode} does not count");
    }
}

#[test]
fn a_count_written_with_the_gate_low_waits_for_the_trigger_in_modes_2_and_3() {
    for mode in [2, 3] {
        let mut pit = counting(mode);
        out(&mut pit, SPEAKER, 0, 101);
        write2(&mut pit, 50, 110);
        let held = if mode == 3 { 800 } else { 900 };
        assert_eq!((count2(&mut pit, 9000), status2(&mut pit, 9000) & STATUS_NULL), (held, STATUS_NULL));
        out(&mut pit, SPEAKER, 1, 9000);
        assert_eq!((count2(&mut pit, 9001), status2(&mut pit, 9001) & STATUS_NULL), (50, 0));
    }
}

#[test]
fn a_gate_that_falls_before_the_end_of_the_period_keeps_the_new_count_out() {
    let mut pit = counting(2);
    write2(&mut pit, 50, 500);
    out(&mut pit, SPEAKER, 0, 600);
    assert_eq!(count2(&mut pit, 3000), 1000 - 599);
    out(&mut pit, SPEAKER, 1, 3000);
    assert_eq!(count2(&mut pit, 3001), 50);
}

#[test]
fn a_trigger_shorter_than_a_clock_counts() {
    let mut pit = counting(2);
    for gate in [0, 1, 0] {
        out(&mut pit, SPEAKER, gate, 300);
    }
    assert_eq!(count2(&mut pit, 400), 1000, "loaded at the next clock and held");
}

#[test]
fn null_count_is_set_until_the_count_register_is_loaded() {
    let null = |pit: &mut Pit, now| status2(pit, now) & STATUS_NULL != 0;
    for mode in 0..6 {
        let mut pit = pit();
        out(&mut pit, SPEAKER, 1, 0);
        out(&mut pit, CONTROL, 0xb0 | mode << 1, 0);
        assert!(null(&mut pit, 5), "mode {mode}: a control word");
        write2(&mut pit, 1000, 10);
        assert!(null(&mut pit, 10), "mode {mode}: a count that no clock has loaded");
        assert_eq!(null(&mut pit, 11), matches!(mode, 1 | 5), "mode {mode}: the next clock");
        out(&mut pit, SPEAKER, 0, 20);
        out(&mut pit, SPEAKER, 1, 20);
        assert!(!null(&mut pit, 21), "mode {mode}: a trigger");
        write2(&mut pit, 500, 100);
        assert_eq!(null(&mut pit, 101), !matches!(mode, 0 | 4), "mode {mode}: a new count");
        let taken_up = if mode == 3 { 21 + 500 } else { 21 + 1000 };
        assert_eq!(null(&mut pit, taken_up - 1), !matches!(mode, 0 | 4), "mode {mode}");
        assert_eq!(null(&mut pit, taken_up), matches!(mode, 1 | 5), "mode {mode}: the end of the period");
    }
}

#[test]
fn the_first_byte_of_a_count_stops_mode_0_where_it_is() {
    let mut pit = channel2(0, 1000, true);
    out(&mut pit, 0x42, 0x10, 501);
    assert_eq!((count2(&mut pit, 900), out2(&mut pit, 2000)), (500, false));
    out(&mut pit, 0x42, 0, 2000);
    assert_eq!(count2(&mut pit, 2001), 16);
    assert_eq!([2016, 2017].map(|t| out2(&mut pit, t)), [false, true]);
    let mut pit = channel2(4, 1000, true);
    out(&mut pit, 0x42, 0x10, 501);
    assert_eq!(count2(&mut pit, 601), 400, "mode 4 counts on");
}

#[test]
fn the_count_holds_across_a_control_word() {
    let mut pit = channel2(2, 0x8000, true);
    out(&mut pit, CONTROL, 0xb0, 0x101);
    assert_eq!(count2(&mut pit, 0x5000), 0x7f00);
}

#[test]
fn the_strobe_of_mode_4_comes_once_whatever_the_gate_does() {
    let mut pit = counting(4);
    assert!(!out2(&mut pit, 1001));
    out(&mut pit, SPEAKER, 0, 1001);
    assert!(out2(&mut pit, 1002));
    out(&mut pit, SPEAKER, 1, 1100);
    assert_eq!([1100, 1101, 1102].map(|t| out2(&mut pit, t)), [true; 3]);
}

#[test]
fn a_retriggered_one_shot_stays_low_without_a_gap() {
    let mut pit = counting(1);
    out(&mut pit, SPEAKER, 0, 500);
    out(&mut pit, SPEAKER, 1, 500);
    assert_eq!([500, 501, 1500, 1501].map(|t| out2(&mut pit, t)), [false, false, false, true]);
}

#[test]
fn mode_1_waits_for_a_trigger_and_takes_another() {
    let mut pit = channel2(1, 3, false);
    assert!(out2(&mut pit, 50));
    out(&mut pit, SPEAKER, 1, 50);
    assert_eq!([51, 53, 54].map(|t| out2(&mut pit, t)), [false, false, true]);
    out(&mut pit, SPEAKER, 0, 60);
    out(&mut pit, SPEAKER, 1, 70);
    assert!(!out2(&mut pit, 71));
    out(&mut pit, SPEAKER, 0, 72);
    out(&mut pit, SPEAKER, 1, 72);
    assert!(!out2(&mut pit, 75), "retriggered");
    assert!(out2(&mut pit, 76));
}

#[test]
fn mode_2_is_low_for_the_last_clock_of_each_period() {
    let mut pit = channel2(2, 3, true);
    let wave = [1, 2, 3, 4, 5, 6, 7].map(|t| out2(&mut pit, t));
    assert_eq!(wave, [true, true, false, true, true, false, true]);
    assert_eq!([4, 5, 6].map(|t| count2(&mut pit, t)), [3, 2, 1]);
}

#[test]
fn mode_2_takes_a_new_count_at_the_end_of_the_period() {
    let mut pit = channel2(2, 4, true);
    out(&mut pit, 0x42, 2, 2);
    out(&mut pit, 0x42, 0, 2);
    let wave = [3, 4, 5, 6, 7, 8].map(|t| out2(&mut pit, t));
    assert_eq!(wave, [true, false, true, false, true, false]);
}

#[test]
fn mode_3_is_square_and_its_odd_clock_is_high() {
    let mut even = channel2(3, 4, true);
    assert_eq!([1, 2, 3, 4, 5].map(|t| out2(&mut even, t)), [true, true, false, false, true]);
    assert_eq!([1, 2, 3, 4].map(|t| count2(&mut even, t)), [4, 2, 4, 2]);
    let mut odd = channel2(3, 5, true);
    assert_eq!([1, 3, 4, 5, 6].map(|t| out2(&mut odd, t)), [true, true, false, false, true]);
}

#[test]
fn modes_4_and_5_strobe_once() {
    let mut soft = channel2(4, 3, true);
    assert_eq!([3, 4, 5].map(|t| out2(&mut soft, t)), [true, false, true]);
    let mut hard = channel2(5, 3, false);
    assert!(out2(&mut hard, 4));
    out(&mut hard, SPEAKER, 1, 10);
    assert_eq!([13, 14, 15].map(|t| out2(&mut hard, t)), [true, false, true]);
}

#[test]
fn bcd_counts_in_tens() {
    let mut pit = pit();
    out(&mut pit, SPEAKER, 1, 0);
    out(&mut pit, CONTROL, 0xb1, 0);
    out(&mut pit, 0x42, 0x00, 0);
    out(&mut pit, 0x42, 0x01, 0);
    assert_eq!(count2(&mut pit, 2), 0x0099);
}

#[test]
fn bcd_counts_in_tens_in_each_mode() {
    for mode in 0..6 {
        let mut pit = pit();
        let triggered = matches!(mode, 1 | 5);
        out(&mut pit, SPEAKER, (!triggered).into(), 0);
        out(&mut pit, CONTROL, 0xb1 | mode << 1, 0);
        write2(&mut pit, 0x2000, 0);
        out(&mut pit, SPEAKER, 1, 0);
        let step = if mode == 3 { 2 } else { 1 };
        let shown = [0x2000, 0x1999, 0x1998][step as usize];
        assert_eq!(count2(&mut pit, 2), shown, "mode {mode}");
        let end = if matches!(mode, 2 | 3) { 0x2000 } else { 0x9999 };
        let wraps = if matches!(mode, 2 | 3) { 2001 } else { 2002 };
        assert_eq!(count2(&mut pit, wraps), end, "mode {mode} at the end of the count");
        assert_eq!(status2(&mut pit, 2001) & 1, 1);
    }
    let mut largest = pit();
    out(&mut largest, CONTROL, 0x35, 0);
    [0, 0].into_iter().for_each(|byte| out(&mut largest, CHANNEL0, byte, 0));
    assert_eq!(largest.next_event(), Some(10_001), "0 stands for 10 000");
}

#[test]
fn read_back_latches_status_then_count() {
    let mut pit = pit();
    out(&mut pit, CONTROL, 0x34, 0);
    out(&mut pit, CONTROL, 0xe2, 0);
    assert_eq!(inb(&mut pit, 0x40, 0), 0xf4, "OUT high, null count, lo/hi, mode 2");
    out(&mut pit, 0x40, 0x00, 0);
    out(&mut pit, 0x40, 0x10, 0);
    out(&mut pit, CONTROL, 0xc2, 11);
    assert_eq!(inb(&mut pit, 0x40, 50), 0xb4);
    assert_eq!([inb(&mut pit, 0x40, 50), inb(&mut pit, 0x40, 50)], [0xf6, 0x0f]);
}

#[test]
fn channel_0_interrupts_each_period() {
    let mut pit = Pit::new(Clock::default());
    out(&mut pit, CONTROL, 0x34, 0);
    out(&mut pit, 0x40, 0xa9, 0);
    out(&mut pit, 0x40, 0x04, 0);
    pit.take_low();
    let first = pit.next_event().unwrap();
    pit.advance(first - 1);
    assert!(!pit.take_low());
    pit.advance(first);
    assert!(pit.take_low());
    let period = pit.next_event().unwrap() - first;
    assert!((period as i64 - 1193 * 100_000_000 / HZ as i64).abs() <= 1);
}

#[test]
fn the_refresh_bit_toggles() {
    let mut pit = pit();
    let bits = [0, 18, 36].map(|t| inb(&mut pit, SPEAKER, t) & P61_REFRESH);
    assert_eq!(bits, [0, 0x10, 0]);
}
