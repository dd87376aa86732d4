//! The MC146818A against its datasheet, and the memory against the PC's convention.

use super::*;

const HZ: u64 = 1_000_000;
/// 2000-02-29 23:59:58, a Tuesday.
const EPOCH: i64 = 951_868_798;

fn cmos() -> Cmos {
    Cmos::new(Clock::new(HZ), EPOCH)
}

fn get(cmos: &mut Cmos, index: u8, now: Ticks) -> u8 {
    cmos.write(0x70, Width::Byte, index.into(), now);
    cmos.read(0x71, Width::Byte, now) as u8
}

fn set(cmos: &mut Cmos, index: u8, value: u8, now: Ticks) {
    cmos.write(0x70, Width::Byte, index.into(), now);
    cmos.write(0x71, Width::Byte, value.into(), now);
}

#[test]
fn the_time_is_bcd_and_runs() {
    let mut cmos = cmos();
    let fields = [0, 2, 4, 6, 7, 8, 9, 0x32].map(|i| get(&mut cmos, i, 0));
    assert_eq!(fields, [0x58, 0x59, 0x23, 3, 0x29, 0x02, 0x00, 0x20]);
    let later = [0, 2, 4, 7, 8].map(|i| get(&mut cmos, i, 2 * HZ));
    assert_eq!(later, [0, 0, 0, 1, 3]);
}

#[test]
fn binary_and_twelve_hours() {
    let mut cmos = cmos();
    set(&mut cmos, 0x0b, 0x04, 0);
    assert_eq!([0, 4].map(|i| get(&mut cmos, i, 0)), [58, 0x80 | 11]);
    assert_eq!(get(&mut cmos, 4, 2 * HZ), 12, "midnight");
}

#[test]
fn set_stops_the_clock_and_lets_it_go_on_from_what_was_written() {
    let mut cmos = cmos();
    set(&mut cmos, 0x0b, 0x82, 0);
    for (i, v) in [(0, 0x10), (2, 0x20), (4, 0x05), (7, 0x04), (8, 0x07), (9, 0x99), (0x32, 0x19)] {
        set(&mut cmos, i, v, 0);
    }
    assert_eq!(get(&mut cmos, 0, 50 * HZ), 0x10);
    set(&mut cmos, 0x0b, 0x02, 50 * HZ);
    assert_eq!([0, 2, 4, 7, 8, 9].map(|i| get(&mut cmos, i, 53 * HZ)), [0x13, 0x20, 5, 4, 7, 0x99]);
}

/// Writes time registers under SET, at 0.
fn set_time(cmos: &mut Cmos, registers: &[(u8, u8)]) {
    set(cmos, 0x0b, 0x82, 0);
    registers.iter().for_each(|&(i, v)| set(cmos, i, v, 0));
    set(cmos, 0x0b, 0x02, 0);
}

#[test]
fn the_day_of_the_week_is_counted_from_what_was_written() {
    let mut cmos = cmos();
    set(&mut cmos, 6, 5, 0);
    assert_eq!(get(&mut cmos, 6, 0), 5, "a running clock takes it, too");
    let new_year = [(0, 0x59), (2, 0x59), (4, 0x23), (6, 7), (7, 0x31), (8, 0x12), (9, 0x99), (0x32, 0x19)];
    set_time(&mut cmos, &new_year);
    assert_eq!([6, 7, 8, 9, 0x32].map(|i| get(&mut cmos, i, 0)), [7, 0x31, 0x12, 0x99, 0x19]);
    assert_eq!([6, 7, 8, 9, 0x32].map(|i| get(&mut cmos, i, HZ)), [1, 1, 1, 0, 0x20]);
    assert_eq!(get(&mut cmos, 6, 86_401 * HZ), 2);
}

#[test]
fn a_date_that_does_not_exist_stays_until_midnight() {
    let mut cmos = cmos();
    set_time(&mut cmos, &[(0, 0x58), (2, 0x59), (4, 0x23), (7, 0x31), (8, 0x02), (9, 0x23)]);
    assert_eq!([7, 8].map(|i| get(&mut cmos, i, HZ)), [0x31, 0x02]);
    assert_eq!([7, 8].map(|i| get(&mut cmos, i, 2 * HZ)), [0x01, 0x03]);
}

#[test]
fn a_register_that_no_carry_reaches_reads_as_written() {
    let mut cmos = cmos();
    set_time(&mut cmos, &[(0, 0x10), (2, 0x7f), (6, 0), (8, 0x1f)]);
    assert_eq!([0, 2, 6, 8].map(|i| get(&mut cmos, i, 9 * HZ)), [0x19, 0x7f, 0, 0x1f]);
}

#[test]
fn the_years_have_their_lengths() {
    for (year, century, last) in
        [(0x00, 0x20, 0x29), (0x00, 0x19, 0x28), (0x24, 0x20, 0x29), (0x23, 0x20, 0x28)]
    {
        let mut cmos = cmos();
        let eve = [(0, 0x59), (2, 0x59), (4, 0x23), (7, last), (8, 2), (9, year), (0x32, century)];
        set_time(&mut cmos, &eve);
        assert_eq!([7, 8].map(|i| get(&mut cmos, i, HZ)), [1, 3], "{century:02x}{year:02x}");
    }
}

#[test]
fn a_long_sleep_ends_at_the_right_time() {
    // 2000-02-29 23:59:58 and 400 years: the calendar and the days of the week repeat.
    let mut cmos = cmos();
    let fields = [0, 2, 4, 6, 7, 8, 9, 0x32].map(|i| get(&mut cmos, i, 146_097 * 86_400 * HZ));
    assert_eq!(fields, [0x58, 0x59, 0x23, 3, 0x29, 0x02, 0x00, 0x24]);
    let day_later = [6, 7, 8].map(|i| get(&mut cmos, i, 146_098 * 86_400 * HZ));
    assert_eq!(day_later, [4, 1, 3]);
}

#[test]
fn the_hours_go_round_in_twelve_hour_form() {
    let mut cmos = cmos();
    set(&mut cmos, 0x0b, 0x00, 0);
    for (before, after) in [(0x12, 0x01), (0x11, 0x92), (0x92, 0x81), (0x91, 0x12)] {
        let mut cmos = cmos.clone();
        [(0, 0x59), (2, 0x59), (4, before)].into_iter().for_each(|(i, v)| set(&mut cmos, i, v, 0));
        assert_eq!(get(&mut cmos, 4, HZ), after, "after {before:02x}");
    }
}

#[test]
fn registers_written_under_set_keep_the_form_that_is_set_last() {
    let mut cmos = cmos();
    set(&mut cmos, 0x0b, 0x82, 0);
    [(0, 59), (2, 59), (4, 22), (7, 31)].into_iter().for_each(|(i, v)| set(&mut cmos, i, v, 0));
    set(&mut cmos, 0x0b, 0x06, 0);
    assert_eq!([0, 2, 4, 7].map(|i| get(&mut cmos, i, HZ)), [0, 0, 23, 31]);
}

#[test]
fn the_divider_runs_on_under_set_and_starts_anew_after_its_reset() {
    let mut cmos = cmos();
    set(&mut cmos, 0x0b, 0x82, HZ / 4);
    set(&mut cmos, 0x0b, 0x02, HZ * 3 / 4);
    assert_eq!([HZ - 1, HZ].map(|t| get(&mut cmos, 0, t)), [0x58, 0x59], "the phase stays");
    set(&mut cmos, 0x0a, 0x66, 2 * HZ);
    assert_eq!([0, 0x0a].map(|i| get(&mut cmos, i, 9 * HZ - 10)), [0x00, 0x66], "no UIP either");
    set(&mut cmos, 0x0a, 0x26, 9 * HZ);
    assert_eq!([9 * HZ + HZ / 2 - 1, 9 * HZ + HZ / 2].map(|t| get(&mut cmos, 0, t)), [0x00, 0x01]);
}

#[test]
fn the_periodic_tap_starts_anew_with_the_divider() {
    let mut cmos = cmos();
    set(&mut cmos, 0x0b, 0x42, 0);
    set(&mut cmos, 0x0a, 0x6f, 100_000);
    assert_eq!(cmos.next_event(), None, "held in reset");
    get(&mut cmos, 0x0c, 300_000);
    set(&mut cmos, 0x0a, 0x2f, 300_000);
    assert!(cmos.next_event().is_some_and(|at| at.abs_diff(800_000) < 40), "{:?}", cmos.next_event());
}

#[test]
fn flags_come_without_their_enables_and_interrupt_once_enabled() {
    let mut cmos = cmos();
    [1, 3, 5].into_iter().for_each(|i| set(&mut cmos, i, 0xff, 0));
    assert_eq!(get(&mut cmos, 0x0c, HZ), C_PF | C_AF | C_UF);
    assert_eq!(get(&mut cmos, 0x0c, HZ), 0, "reading clears");
    set(&mut cmos, 0x0b, 0x12, 2 * HZ + 1);
    assert!(cmos.irq(), "an update before it was enabled");
}

#[test]
fn what_is_read_only_takes_no_write() {
    let mut cmos = cmos();
    [(0x0a, 0xa6), (0x0c, 0xff), (0x0d, 0)].into_iter().for_each(|(i, v)| set(&mut cmos, i, v, 0));
    assert_eq!([0x0a, 0x0c, 0x0d].map(|i| get(&mut cmos, i, 0)), [0x26, 0, 0x80]);
    set(&mut cmos, 0x0b, 0x92, 0);
    assert_eq!(get(&mut cmos, 0x0b, 0), 0x82, "SET clears UIE");
}

#[test]
fn uip_is_up_before_each_second() {
    let mut cmos = cmos();
    assert_eq!(get(&mut cmos, 0x0a, HZ / 2) & 0x80, 0);
    assert_eq!(get(&mut cmos, 0x0a, HZ - 100) & 0x80, 0x80);
    assert_eq!(get(&mut cmos, 0x0a, HZ) & 0x80, 0);
}

#[test]
fn the_update_interrupt_comes_each_second_until_c_is_read() {
    let mut cmos = cmos();
    set(&mut cmos, 0x0b, 0x12, 10);
    assert_eq!(cmos.next_event(), Some(HZ));
    cmos.advance(HZ);
    assert!(cmos.irq());
    assert_eq!(get(&mut cmos, 0x0c, HZ) & 0x90, 0x90);
    assert!(!cmos.irq());
    assert_eq!(cmos.next_event(), Some(2 * HZ));
}

#[test]
fn the_alarm_strikes_at_its_time_or_at_any() {
    let mut cmos = cmos();
    set(&mut cmos, 1, 0x01, 0);
    set(&mut cmos, 3, 0x00, 0);
    set(&mut cmos, 5, 0xff, 0);
    set(&mut cmos, 0x0b, 0x22, 0);
    cmos.advance(HZ);
    cmos.advance(2 * HZ);
    assert!(!cmos.irq());
    cmos.advance(3 * HZ);
    assert!(cmos.irq());
    assert_eq!(get(&mut cmos, 0x0c, 3 * HZ) & 0xa0, 0xa0);
}

#[test]
fn the_periodic_interrupt_has_its_rate() {
    let mut cmos = cmos();
    set(&mut cmos, 0x0b, 0x42, 0);
    assert_eq!(cmos.next_event(), Some(977), "1024 Hz");
    set(&mut cmos, 0x0a, 0x2f, 0);
    assert_eq!(cmos.next_event(), Some(HZ / 2), "2 Hz");
}

#[test]
fn memory_sizes_follow_the_convention() {
    let mut cmos = cmos();
    cmos.describe(&Machine { ram_size: 64 << 20, floppies: [4, 0], ..Machine::default() });
    let bytes = [0x15, 0x16, 0x17, 0x18, 0x34, 0x35, 0x10].map(|i| get(&mut cmos, i, 0));
    assert_eq!(bytes, [0x80, 0x02, 0x00, 0xfc, 0x00, 0x03, 0x40]);
}

#[test]
fn bit_7_of_the_index_masks_nmi() {
    let mut cmos = cmos();
    cmos.write(0x70, Width::Byte, 0x8f, 0);
    assert!(cmos.nmi_masked());
}
