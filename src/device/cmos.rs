//! The MC146818A real-time clock with its CMOS memory (Motorola MC146818A datasheet). Index at 70h, whose bit
//! 7 masks NMI, data at 71h; IRQ8.
//!
//! Time and date are counters that stand in the memory's first bytes, as the program sees them; each carries
//! into the next. The day of the week is one of them, and whatever the program writes there is counted on
//! from. The rest of the memory holds what the PC's BIOS convention keeps there; the board fills it in with
//! [`Cmos::describe`].
//!
//! Simplifications: the century in byte 32h is a counter, too, always in BCD (on many boards firmware keeps
//! it). Daylight saving (DSE) is a bit without effect, and each divider setting but a reset stands for a 32
//! 768 Hz crystal. The datasheet asks for new values after a change of 12/24 hours or of BCD/binary; here a
//! running clock shows its time in the new form at once, as other emulators do.

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
/// Why the processor is reset, for firmware.
pub const SHUTDOWN: u8 = 0x0f;

const A_UIP: u8 = 0x80;
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
/// Days after which all the calendar's counters stand where they stood: 10 000 years.
const CALENDAR_DAYS: u64 = 25 * 146_097;

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
    /// The tick of the next update of the time. While SET holds updates off this goes on by whole seconds.
    update: Ticks,
    /// The cycle of the crystal at which the divider chain was last released.
    released: u64,
    /// The tick up to which the periodic flag was raised.
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
        let (update, released, synced) = (clock.hz(), 0, 0);
        let mut cmos =
            Self { clock, index: 0, nmi_masked: false, memory, update, released, synced, next: None };
        cmos.show(epoch);
        cmos
    }

    /// As [`Cmos::new`], with the memory filled in.
    pub fn described(clock: Clock, epoch: i64, machine: &Machine) -> Self {
        let mut cmos = Self::new(clock, epoch);
        cmos.describe(machine);
        cmos
    }

    /// Whether bit 7 of port 70h holds NMI back.
    pub fn nmi_masked(&self) -> bool {
        self.nmi_masked
    }

    /// A byte of the memory.
    pub fn byte(&self, index: u8) -> u8 {
        self.memory[usize::from(index & 0x7f)]
    }

    /// Sets a byte of the memory, for what the convention below does not know.
    pub fn set_byte(&mut self, index: u8, value: u8) {
        self.memory[usize::from(index & 0x7f)] = value;
    }

    /// Fills in the memory as the PC's BIOS convention (and QEMU's extension for the firmware that runs under
    /// it) lays it out.
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

    /// The user-defined type 47's geometry: cylinders, heads, write precompensation, control, landing zone,
    /// sectors.
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

    fn divider_held(&self) -> bool {
        self.memory[REG_A] & A_DIVIDER_RESET == A_DIVIDER_RESET
    }

    fn stopped(&self) -> bool {
        self.memory[REG_B] & B_SET != 0 || self.divider_held()
    }

    fn updating(&self, now: Ticks) -> bool {
        !self.stopped() && self.update.saturating_sub(now) <= self.clock.micros(UIP_US)
    }

    /// Cycles of the crystal between periodic interrupts; none at rate 0.
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

    /// Sets the counters to `time`, in seconds since 1970.
    fn show(&mut self, time: i64) {
        let of_day = time.rem_euclid(DAY_SECONDS);
        let days = time.div_euclid(DAY_SECONDS);
        let (year, month, day) = civil(days);
        self.memory[SECONDS] = self.encode((of_day % 60) as u8);
        self.memory[MINUTES] = self.encode((of_day / 60 % 60) as u8);
        self.memory[HOURS] = self.encode_hours((of_day / 3600) as u8);
        self.memory[WEEKDAY] = self.encode(((days + 4).rem_euclid(7) + 1) as u8);
        self.memory[DAY] = self.encode(day);
        self.memory[MONTH] = self.encode(month);
        self.memory[YEAR] = self.encode(year.rem_euclid(100) as u8);
        self.memory[CENTURY] = bcd(year.div_euclid(100).rem_euclid(100) as u8);
    }

    /// Counts `register` up from `first` to `last`. Whether it began anew, and so carries into the next one.
    /// A value beyond its range, which only a program puts there, ends at the next count.
    fn count(&mut self, register: usize, first: u8, last: u8) -> bool {
        let value = self.decode(self.memory[register]);
        let carry = value >= last;
        self.memory[register] = self.encode(if carry { first } else { value + 1 });
        carry
    }

    fn count_hours(&mut self) -> bool {
        let hour = self.decode_hours(self.memory[HOURS]);
        let carry = hour >= 23;
        self.memory[HOURS] = self.encode_hours(if carry { 0 } else { hour + 1 });
        carry
    }

    /// One update: a second more.
    fn count_second(&mut self) {
        if self.count(SECONDS, 0, 59) && self.count(MINUTES, 0, 59) && self.count_hours() {
            self.count_day();
        }
    }

    fn count_day(&mut self) {
        self.count(WEEKDAY, 1, 7);
        let last = self.days_in_month();
        if self.count(DAY, 1, last) && self.count(MONTH, 1, 12) && self.count(YEAR, 0, 99) {
            let century = (self.memory[CENTURY] >> 4) * 10 + (self.memory[CENTURY] & 0xf);
            self.memory[CENTURY] = bcd((century + 1) % 100);
        }
    }

    fn days_in_month(&self) -> u8 {
        let century = u32::from(self.memory[CENTURY] >> 4) * 10 + u32::from(self.memory[CENTURY] & 0xf);
        let year = century * 100 + u32::from(self.decode(self.memory[YEAR]));
        match self.decode(self.memory[MONTH]) {
            2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            _ => 31,
        }
    }

    fn alarm_matches(&self) -> bool {
        [(SECONDS_ALARM, SECONDS), (MINUTES_ALARM, MINUTES), (HOURS_ALARM, HOURS)]
            .into_iter()
            .all(|(alarm, time)| self.memory[alarm] & ANY == ANY || self.memory[alarm] == self.memory[time])
    }

    /// Cycles of the crystal that the divider chain has counted.
    fn chain(&self, now: Ticks) -> u64 {
        self.clock.cycles(now, BASE_HZ).saturating_sub(self.released)
    }

    /// Brings the time, and the flags of everything that happened, up to `now`. Flags do not ask for enables.
    fn sync(&mut self, now: Ticks) {
        let since = self.synced;
        self.synced = now.max(since);
        if !self.divider_held()
            && let Some(period) = self.period()
            && self.chain(now) / period > self.chain(since) / period
        {
            self.memory[REG_C] |= C_PF;
        }
        let Some(late) = now.checked_sub(self.update) else { return };
        let seconds = late / self.clock.hz() + 1;
        self.update = self.update.saturating_add(seconds.saturating_mul(self.clock.hz()));
        if !self.stopped() {
            self.count_seconds(seconds);
        }
    }

    /// Counts `seconds`; all but the last days of a long sleep by days, after which the calendar repeats
    /// itself.
    fn count_seconds(&mut self, seconds: u64) {
        let whole_days = (seconds / DAY_SECONDS as u64).saturating_sub(1);
        for _ in 0..whole_days % CALENDAR_DAYS {
            self.count_day();
        }
        self.memory[REG_C] |= C_UF;
        for _ in 0..seconds - whole_days * DAY_SECONDS as u64 {
            self.count_second();
            if self.alarm_matches() {
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
            let next = (self.chain(now) / period + 1) * period;
            self.clock.ticks_at(self.released.saturating_add(next), BASE_HZ)
        });
        let periodic = periodic.filter(|_| !self.divider_held());
        let wants_second = b & (B_AIE | B_UIE) != 0 && !self.stopped();
        let second = wants_second.then_some(self.update);
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
            i => self.memory[i],
        }
    }

    fn write_data(&mut self, value: u8, now: Ticks) {
        let index = usize::from(self.index);
        match index {
            REG_A | REG_B => self.write_control(index, value, now),
            REG_C | REG_D => {}
            i => self.memory[i] = value,
        }
    }

    /// SET holds updates off, and the divider chain runs on under it; a divider held in reset stops that as
    /// well, and the first update comes half a second after its release.
    fn write_control(&mut self, index: usize, value: u8, now: Ticks) {
        let was_running = !self.stopped();
        let divider_was_held = self.divider_held();
        let old = self.memory[REG_B];
        self.memory[index] = match index {
            REG_A => value & !A_UIP,
            _ if value & B_SET != 0 => value & !B_UIE,
            _ => value,
        };
        if was_running && !self.stopped() && (old ^ self.memory[REG_B]) & (B_BINARY | B_24H) != 0 {
            self.reencode(old);
        }
        if divider_was_held && !self.divider_held() {
            self.update = now.saturating_add(self.clock.hz() / 2);
            self.released = self.clock.cycles(now, BASE_HZ);
        }
    }

    /// Shows the time, which is in the form of register B's value `old`, in the form that is now set.
    fn reencode(&mut self, old: u8) {
        let new = std::mem::replace(&mut self.memory[REG_B], old);
        let registers = [SECONDS, MINUTES, WEEKDAY, DAY, MONTH, YEAR];
        let values = registers.map(|register| self.decode(self.memory[register]));
        let hours = self.decode_hours(self.memory[HOURS]);
        self.memory[REG_B] = new;
        for (register, value) in registers.into_iter().zip(values) {
            self.memory[register] = self.encode(value);
        }
        self.memory[HOURS] = self.encode_hours(hours);
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
mod tests;
