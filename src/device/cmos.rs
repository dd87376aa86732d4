//! The MC146818A real-time clock with its CMOS memory (Motorola MC146818A datasheet). Index at 70h, whose bit 7
//! masks NMI, data at 71h; IRQ8.
//!
//! The time is a fixed epoch plus guest time. The memory holds what the PC's BIOS convention keeps there; the
//! board fills it in with [`Cmos::describe`].

use super::Device;
use crate::bus::{Clock, Ticks, Width};
use serde::{Deserialize, Serialize};

/// Index port; data is the next.
pub const INDEX: u16 = 0x70;

const SECONDS: usize = 0;
const SECONDS_ALARM: usize = 1;
const MINUTES: usize = 2;
const MINUTES_ALARM: usize = 3;
const HOURS: usize = 4;
const HOURS_ALARM: usize = 5;
const WEEKDAY: usize = 6;
const DAY: usize = 7;
const MONTH: usize = 8;
const YEAR: usize = 9;
const REG_A: usize = 0x0a;
const REG_B: usize = 0x0b;
const REG_C: usize = 0x0c;
const REG_D: usize = 0x0d;
const CENTURY: usize = 0x32;

const A_UIP: u8 = 0x80;
const A_DIVIDER: u8 = 0x70;
const A_DIVIDER_RUN: u8 = 0x20;
const A_DIVIDER_RESET: u8 = 0x60;
const B_SET: u8 = 0x80;
const B_PIE: u8 = 0x40;
const B_AIE: u8 = 0x20;
const B_UIE: u8 = 0x10;
const B_BINARY: u8 = 0x04;
const B_24H: u8 = 0x02;
const C_IRQF: u8 = 0x80;
const C_PF: u8 = 0x40;
const C_AF: u8 = 0x20;
const C_UF: u8 = 0x10;
const D_VALID: u8 = 0x80;
const PM: u8 = 0x80;
/// An alarm byte with both top bits set matches anything.
const ANY: u8 = 0xc0;
/// UIP is up 244 us before an update and while it lasts, 1984 us.
const UIP_US: u64 = 244 + 1984;
/// The divider chain's base frequency.
const BASE_HZ: u64 = 32_768;
const DAY_SECONDS: i64 = 86_400;

/// What the CMOS memory says of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct Machine {
    /// RAM in bytes.
    pub ram_size: u32,
    /// Types of drives A and B: 0 none, 1 360K, 2 1.2M, 3 720K, 4 1.44M, 5 2.88M.
    pub floppies: [u8; 2],
    /// Cylinders, heads and sectors of the two disks of the first channel and the two of the second.
    pub disks: [Option<(u16, u8, u8)>; 4],
    /// Boot devices in order, a digit each from the lowest: 1 floppy, 2 hard disk, 3 CD-ROM.
    pub boot_order: u16,
}

/// The clock and its memory.
#[derive(Clone, Debug, Hash, Serialize, Deserialize)]
pub struct Cmos {
    clock: Clock,
    index: u8,
    nmi_masked: bool,
    #[serde(with = "crate::saved::array")]
    memory: [u8; 128],
    /// The time (seconds since 1970) at tick `origin`; it moves on every second from there.
    time: i64,
    origin: Ticks,
    /// The tick up to which flags were raised.
    synced: Ticks,
    next: Option<Ticks>,
}

impl Cmos {
    /// A clock that shows `epoch` (seconds since 1970) at power-on.
    pub fn new(clock: Clock, epoch: i64) -> Self {
        let mut memory = [0; 128];
        memory[REG_A] = A_DIVIDER_RUN | 6;
        memory[REG_B] = B_24H;
        memory[REG_D] = D_VALID;
        Self { clock, index: 0, nmi_masked: false, memory, time: epoch, origin: 0, synced: 0, next: None }
    }

    /// Whether bit 7 of port 70h holds NMI back.
    pub fn nmi_masked(&self) -> bool {
        self.nmi_masked
    }

    /// A byte of the memory, for what the convention below does not know.
    pub fn set_byte(&mut self, index: u8, value: u8) {
        self.memory[usize::from(index & 0x7f)] = value;
    }

    /// Fills in the memory as the PC's BIOS convention (and QEMU's extension for the firmware that runs under it)
    /// lays it out.
    pub fn describe(&mut self, machine: &Machine) {
        self.describe_memory(machine.ram_size);
        self.describe_drives(machine);
        let order = machine.boot_order;
        self.memory[0x3d] = order as u8;
        self.memory[0x38] = ((order >> 8) as u8) << 4;
        self.checksum();
    }

    fn word(&mut self, index: usize, value: u16) {
        self.memory[index] = value as u8;
        self.memory[index + 1] = (value >> 8) as u8;
    }

    fn describe_memory(&mut self, ram: u32) {
        let base_kib = (ram >> 10).min(640) as u16;
        let extended_kib = (ram >> 10).saturating_sub(1024).min(0xfc00) as u16;
        let above_16m = (ram.saturating_sub(16 << 20) >> 16).min(0xffff) as u16;
        self.word(0x15, base_kib);
        self.word(0x17, extended_kib);
        self.word(0x30, extended_kib);
        self.word(0x34, above_16m);
        self.memory[0x5b..=0x5d].fill(0);
        self.memory[0x5f] = 0;
    }

    fn describe_drives(&mut self, machine: &Machine) {
        let [a, b] = machine.floppies;
        self.memory[0x10] = a << 4 | b & 0xf;
        let drives = u8::from(a != 0) + u8::from(b != 0);
        let floppies = if drives == 0 { 0 } else { 1 | (drives - 1) << 6 };
        // A pointing device, a display with its own BIOS, and an FPU.
        self.memory[0x14] = 0x06 | floppies;
        let type_of = |d: usize| if machine.disks[d].is_some() { 0xf } else { 0u8 };
        self.memory[0x12] = type_of(0) << 4 | type_of(1);
        for (slot, disk) in machine.disks.iter().take(2).enumerate() {
            self.describe_disk(slot, *disk);
        }
        self.memory[0x39] = translation(&machine.disks[..2]) | translation(&machine.disks[2..]) << 4;
    }

    /// The user-defined type 47's geometry: cylinders, heads, write precompensation, control, landing zone, sectors.
    fn describe_disk(&mut self, slot: usize, disk: Option<(u16, u8, u8)>) {
        let base = 0x1b + slot * 9;
        self.memory[0x19 + slot] = if disk.is_some() { 47 } else { 0 };
        let Some((cylinders, heads, sectors)) = disk else { return };
        self.word(base, cylinders);
        self.memory[base + 2] = heads;
        self.word(base + 3, 0xffff);
        self.memory[base + 5] = 0xc0 | u8::from(heads > 8) << 3;
        self.word(base + 6, cylinders);
        self.memory[base + 8] = sectors;
    }

    fn checksum(&mut self) {
        let sum: u16 = self.memory[0x10..=0x2d].iter().map(|&b| u16::from(b)).sum();
        self.memory[0x2e] = (sum >> 8) as u8;
        self.memory[0x2f] = sum as u8;
    }

    fn stopped(&self) -> bool {
        self.memory[REG_B] & B_SET != 0 || self.memory[REG_A] & A_DIVIDER_RESET == A_DIVIDER_RESET
    }

    /// Whole seconds from `origin` to `now`.
    fn seconds_since(&self, now: Ticks) -> i64 {
        if now < self.origin { 0 } else { ((now - self.origin) / self.clock.hz()) as i64 }
    }

    fn time_at(&self, now: Ticks) -> i64 {
        if self.stopped() { self.time } else { self.time.saturating_add(self.seconds_since(now)) }
    }

    fn updating(&self, now: Ticks) -> bool {
        if self.stopped() {
            return false;
        }
        let hz = self.clock.hz();
        let into =
            if now < self.origin { hz - (self.origin - now).min(hz) } else { (now - self.origin) % hz };
        hz - into <= self.clock.micros(UIP_US)
    }

    /// Ticks between periodic interrupts; none at rate 0.
    fn period(&self) -> Option<u64> {
        match self.memory[REG_A] & 0x0f {
            0 => None,
            rate @ (1 | 2) => Some(1 << (rate + 6)),
            rate => Some(1 << (rate - 1)),
        }
    }

    fn encode(&self, value: u8) -> u8 {
        if self.memory[REG_B] & B_BINARY != 0 { value } else { ((value / 10 % 10) << 4) | (value % 10) }
    }

    fn decode(&self, value: u8) -> u8 {
        if self.memory[REG_B] & B_BINARY != 0 { value } else { (value >> 4) * 10 + (value & 0xf) }
    }

    fn encode_hours(&self, hour: u8) -> u8 {
        if self.memory[REG_B] & B_24H != 0 {
            return self.encode(hour);
        }
        let twelve = if hour.is_multiple_of(12) { 12 } else { hour % 12 };
        self.encode(twelve) | if hour >= 12 { PM } else { 0 }
    }

    fn decode_hours(&self, value: u8) -> u8 {
        if self.memory[REG_B] & B_24H != 0 {
            return self.decode(value);
        }
        self.decode(value & !PM) % 12 + if value & PM != 0 { 12 } else { 0 }
    }

    /// The time registers as they show `time`.
    fn fields(&self, time: i64) -> [(usize, u8); 8] {
        let of_day = time.rem_euclid(DAY_SECONDS);
        let days = time.div_euclid(DAY_SECONDS);
        let (year, month, day) = civil(days);
        [
            (SECONDS, self.encode((of_day % 60) as u8)),
            (MINUTES, self.encode((of_day / 60 % 60) as u8)),
            (HOURS, self.encode_hours((of_day / 3600) as u8)),
            (WEEKDAY, self.encode(((days + 4).rem_euclid(7) + 1) as u8)),
            (DAY, self.encode(day)),
            (MONTH, self.encode(month)),
            (YEAR, self.encode(year.rem_euclid(100) as u8)),
            (CENTURY, bcd(year.div_euclid(100).rem_euclid(100) as u8)),
        ]
    }

    /// The time that the registers in memory show.
    fn time_of_memory(&self) -> i64 {
        let field = |i: usize| i64::from(self.decode(self.memory[i]));
        let century = i64::from(self.memory[CENTURY] >> 4) * 10 + i64::from(self.memory[CENTURY] & 0xf);
        let year = century * 100 + field(YEAR);
        let days = days_from_civil(year, field(MONTH).clamp(1, 12), field(DAY).clamp(1, 31));
        let hours = i64::from(self.decode_hours(self.memory[HOURS]));
        days * DAY_SECONDS + hours * 3600 + field(MINUTES) * 60 + field(SECONDS)
    }

    fn is_time(index: usize) -> bool {
        index == CENTURY || index <= YEAR && !matches!(index, SECONDS_ALARM | MINUTES_ALARM | HOURS_ALARM)
    }

    /// Puts the running time into the registers, to be read or changed there.
    fn freeze(&mut self, now: Ticks) {
        for (i, value) in self.fields(self.time_at(now)) {
            self.memory[i] = value;
        }
    }

    /// Lets the time run on from the registers; the next second begins at `from`.
    fn thaw(&mut self, from: Ticks) {
        self.time = self.time_of_memory();
        self.origin = from;
    }

    fn alarm_matches(&self, time: i64) -> bool {
        let of_day = time.rem_euclid(DAY_SECONDS);
        let matches = |i: usize, shown: u8| self.memory[i] & ANY == ANY || self.memory[i] == shown;
        matches(SECONDS_ALARM, self.encode((of_day % 60) as u8))
            && matches(MINUTES_ALARM, self.encode((of_day / 60 % 60) as u8))
            && matches(HOURS_ALARM, self.encode_hours((of_day / 3600) as u8))
    }

    /// Raises the flags of everything that happened up to `now`.
    fn sync(&mut self, now: Ticks) {
        let since = self.synced;
        self.synced = now.max(since);
        if self.memory[REG_A] & A_DIVIDER != A_DIVIDER_RESET
            && let Some(period) = self.period()
            && self.clock.cycles(now, BASE_HZ) / period > self.clock.cycles(since, BASE_HZ) / period
        {
            self.memory[REG_C] |= C_PF;
        }
        if self.stopped() {
            return;
        }
        let (first, last) = (self.time_at(since), self.time_at(now));
        if last > first {
            self.memory[REG_C] |= C_UF;
            let first = first.max(last - DAY_SECONDS);
            if (first + 1..=last).any(|t| self.alarm_matches(t)) {
                self.memory[REG_C] |= C_AF;
            }
        }
    }

    /// The flags of register C that interrupt share their bits with the enables of register B.
    fn interrupting(&self) -> bool {
        self.memory[REG_B] & self.memory[REG_C] & (B_PIE | B_AIE | B_UIE) != 0
    }

    fn schedule(&mut self, now: Ticks) {
        let b = self.memory[REG_B];
        let periodic = self.period().filter(|_| b & B_PIE != 0).map(|period| {
            let next = (self.clock.cycles(now, BASE_HZ) / period + 1) * period;
            self.clock.ticks_at(next, BASE_HZ)
        });
        let wants_second = b & (B_AIE | B_UIE) != 0 && !self.stopped();
        let hz = self.clock.hz();
        let second = wants_second.then(|| self.origin + (self.seconds_since(now) as u64 + 1) * hz);
        self.next = if self.interrupting() { None } else { [periodic, second].into_iter().flatten().min() };
    }

    fn read_data(&mut self, now: Ticks) -> u8 {
        let index = usize::from(self.index);
        match index {
            REG_A => self.memory[REG_A] & !A_UIP | if self.updating(now) { A_UIP } else { 0 },
            REG_C => {
                let irqf = if self.interrupting() { C_IRQF } else { 0 };
                std::mem::take(&mut self.memory[REG_C]) | irqf
            }
            i if Self::is_time(i) && !self.stopped() => {
                self.freeze(now);
                self.memory[i]
            }
            i => self.memory[i],
        }
    }

    fn write_data(&mut self, value: u8, now: Ticks) {
        let index = usize::from(self.index);
        match index {
            REG_A | REG_B => self.write_control(index, value, now),
            REG_C | REG_D => {}
            i if Self::is_time(i) && !self.stopped() => {
                self.freeze(now);
                self.memory[i] = value;
                let second = self.origin + self.seconds_since(now) as u64 * self.clock.hz();
                self.thaw(second);
            }
            i => self.memory[i] = value,
        }
    }

    /// Stopping the clock (SET, or the divider held in reset) freezes the registers; starting it takes them up.
    /// A released divider makes the first update half a second later.
    fn write_control(&mut self, index: usize, value: u8, now: Ticks) {
        let was_stopped = self.stopped();
        let divider_was_held = self.memory[REG_A] & A_DIVIDER_RESET == A_DIVIDER_RESET;
        if !was_stopped {
            self.freeze(now);
            self.time = self.time_at(now);
            self.origin += self.seconds_since(now) as u64 * self.clock.hz();
        }
        self.memory[index] = if index == REG_A {
            value & !A_UIP
        } else if value & B_SET != 0 {
            value & !B_UIE
        } else {
            value
        };
        if was_stopped && !self.stopped() {
            let half = self.clock.hz() / 2;
            let since = (now.saturating_sub(self.origin)) / self.clock.hz() * self.clock.hz();
            let phase = if divider_was_held { now.saturating_sub(half) } else { self.origin + since };
            self.thaw(phase);
        }
    }
}

/// Two bits per disk of a channel: how firmware translates its geometry (0 not at all, 1 LBA-assisted).
fn translation(disks: &[Option<(u16, u8, u8)>]) -> u8 {
    let of = |disk: &Option<(u16, u8, u8)>| u8::from(disk.is_some_and(|(cylinders, ..)| cylinders > 1024));
    of(&disks[0]) | of(&disks[1]) << 2
}

fn bcd(value: u8) -> u8 {
    ((value / 10) << 4) | (value % 10)
}

/// The proleptic Gregorian date of a day number since 1970-01-01, reckoned in years that begin in March.
fn civil(days: i64) -> (i64, u8, u8) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let of_era = z.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month as u8, day as u8)
}

/// The inverse of [`civil`].
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let year_of_era = y.rem_euclid(400);
    let march_month = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * march_month + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year - 719_468
}

impl Device for Cmos {
    fn read(&mut self, port: u16, _width: Width, now: Ticks) -> u32 {
        self.sync(now);
        let value = if port & 1 == 0 { 0xff } else { self.read_data(now) };
        self.schedule(now);
        value.into()
    }

    fn write(&mut self, port: u16, _width: Width, value: u32, now: Ticks) {
        self.sync(now);
        if port & 1 == 0 {
            self.index = value as u8 & 0x7f;
            self.nmi_masked = value & 0x80 != 0;
        } else {
            self.write_data(value as u8, now);
            self.schedule(now);
        }
    }

    fn irq(&self) -> bool {
        self.interrupting()
    }

    fn next_event(&self) -> Option<Ticks> {
        self.next
    }

    fn advance(&mut self, now: Ticks) {
        if self.next.is_some_and(|t| t <= now) {
            self.sync(now);
            self.schedule(now);
        }
    }

    /// The battery keeps everything but the enables and the index.
    fn reset(&mut self) {
        self.memory[REG_B] &= !(B_PIE | B_AIE | B_UIE);
        self.memory[REG_C] = 0;
        self.index = 0;
        self.nmi_masked = false;
        self.next = None;
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!([0, 2, 4, 6, 7, 8, 9].map(|i| get(&mut cmos, i, 53 * HZ)), [0x13, 0x20, 5, 1, 4, 7, 0x99]);
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
}
