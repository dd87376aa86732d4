//! The 8254 interval timer and port 61h, the NMI status and speaker control (Intel 8254 datasheet, 231164;
//! 82371SB, 2.5.4). Channel 0 drives IRQ0, channel 2 the speaker; channel 1 once refreshed memory.
//!
//! Nothing is ticked: a channel keeps the cycle at which its count was loaded, and every answer is derived from the
//! clock. A simplification: IRQ0 is seen as one edge per rise of OUT; the low phase of the square wave does not
//! take an unserved request back.

use super::Device;
use crate::bus::{Clock, Ticks, Width};
use serde::{Deserialize, Serialize};

/// The input frequency of all three channels.
pub const HZ: u64 = 1_193_182;
/// Channel 0; 1 and 2 and the control word follow.
pub const CHANNEL0: u16 = 0x40;
/// Control word.
pub const CONTROL: u16 = 0x43;
/// Speaker control.
pub const SPEAKER: u16 = 0x61;

const RW_LATCH: u8 = 0;
const RW_LSB: u8 = 1;
const RW_MSB: u8 = 2;
const P61_GATE2: u8 = 0x01;
const P61_SPEAKER: u8 = 0x02;
const P61_REFRESH: u8 = 0x10;
const P61_OUT2: u8 = 0x20;
/// The refresh request toggles at every refresh, 15.085 us apart.
const REFRESH_CYCLES: u64 = 18;

/// One counter. Times are in cycles of the input clock.
#[derive(Clone, Debug, Default, Hash, Serialize, Deserialize)]
struct Channel {
    mode: u8,
    bcd: bool,
    rw: u8,
    /// The count register as last loaded into the counting element.
    count: u32,
    /// A count that modes 2 and 3 take up at the end of the (half) period, and when.
    next: Option<(u32, i64)>,
    /// A count written, for modes 1 and 5 to take up at the next trigger.
    armed: Option<u32>,
    /// The cycle at which `count` was loaded; `None` while nothing was.
    start: Option<i64>,
    /// Clocks counted before the gate closed, while it is closed (modes 0 and 4).
    held: Option<i64>,
    gate: bool,
    /// Mode 0 between the two bytes of a count: counting is off, OUT is low.
    half_written: bool,
    write_low: Option<u8>,
    read_high: bool,
    latched: Option<u16>,
    status: Option<u8>,
}

impl Channel {
    fn new(gate: bool) -> Self {
        Self { rw: 3, gate, ..Self::default() }
    }

    fn modulus(&self) -> i64 {
        if self.bcd { 10_000 } else { 0x1_0000 }
    }

    fn control(&mut self, value: u8) {
        let mode = value >> 1 & 7;
        let gate = self.gate;
        *self = Self::new(gate);
        self.mode = if mode > 5 { mode - 4 } else { mode };
        self.bcd = value & 1 != 0;
        self.rw = value >> 4 & 3;
    }

    /// Takes up the counts that came due.
    fn sync(&mut self, now: i64) {
        if let Some((count, at)) = self.next
            && now >= at
        {
            self.next = None;
            self.start = Some(if self.mode == 3 && self.falls_at(at) { at - half_high(count) } else { at });
            self.count = count;
        }
    }

    /// Whether the half period of mode 3 that begins at `at` is the low one.
    fn falls_at(&self, at: i64) -> bool {
        let n = i64::from(self.count);
        self.start.is_some_and(|s| (at - s).rem_euclid(n) >= half_high(self.count))
    }

    fn write(&mut self, value: u8, now: i64) {
        let raw = match (self.rw, self.write_low.take()) {
            (RW_LSB, _) => u32::from(value),
            (RW_MSB, _) => u32::from(value) << 8,
            (_, Some(low)) => u32::from(value) << 8 | u32::from(low),
            (_, None) => {
                self.write_low = Some(value);
                self.half_written = self.mode == 0;
                return;
            }
        };
        self.half_written = false;
        self.load(self.decode(raw), now);
    }

    /// The count that a register value means; 0 is the largest.
    fn decode(&self, raw: u32) -> u32 {
        let digit = |shift: u32| (raw >> shift & 0xf).min(9);
        let n = if self.bcd { digit(12) * 1000 + digit(8) * 100 + digit(4) * 10 + digit(0) } else { raw };
        if n == 0 { self.modulus() as u32 } else { n }
    }

    fn load(&mut self, count: u32, now: i64) {
        match self.mode {
            1 | 5 => self.armed = Some(count),
            2 | 3 if self.start.is_some() && self.gate => {
                let from = self.start.unwrap_or(now);
                self.next = Some((count, self.next_boundary(from, now)));
            }
            2 | 3 if !self.gate => self.armed = Some(count),
            _ => {
                self.count = count;
                self.start = Some(now + 1);
                self.held = if self.gate { None } else { Some(0) };
            }
        }
    }

    /// The end of the current period (mode 2) or half period (mode 3).
    fn next_boundary(&self, from: i64, now: i64) -> i64 {
        let n = i64::from(self.count);
        let into = (now - from).rem_euclid(n);
        let base = now - into;
        let high = half_high(self.count);
        if self.mode == 3 && into < high { base + high } else { base + n }
    }

    fn set_gate(&mut self, gate: bool, now: i64) {
        if gate == self.gate {
            return;
        }
        self.sync(now);
        match self.mode {
            0 | 4 => self.pause(gate, now),
            _ if gate => self.trigger(now),
            2 | 3 if self.start.take().is_some() => {
                self.armed = Some(self.next.take().map_or(self.count, |(n, _)| n));
            }
            _ => {}
        }
        self.gate = gate;
    }

    fn pause(&mut self, gate: bool, now: i64) {
        let Some(start) = self.start else { return };
        if gate {
            let counted = self.held.take().unwrap_or(0);
            self.start = Some(now - counted);
        } else {
            self.held = Some((now - start).max(0));
        }
    }

    /// A rising gate starts modes 1, 2, 3 and 5 over, at the next clock.
    fn trigger(&mut self, now: i64) {
        if let Some(count) = self.armed {
            self.count = count;
            self.start = Some(now + 1);
        }
    }

    /// Clocks counted since the count was loaded; `None` while no count is.
    fn elapsed(&self, now: i64) -> Option<i64> {
        let start = self.start?;
        if self.half_written {
            return None;
        }
        match self.held {
            Some(counted) => Some(counted),
            None => (now >= start).then_some(now - start),
        }
    }

    /// The level of OUT; before a count is loaded that is low in mode 0 only.
    fn out(&self, now: i64) -> bool {
        let n = i64::from(self.count);
        let Some(t) = self.elapsed(now) else { return self.mode != 0 };
        match self.mode {
            0 | 1 => t >= n,
            2 => t % n != n - 1 || n == 1,
            3 => t % n < half_high(self.count),
            _ => t != n,
        }
    }

    /// The next cycle after `now` at which OUT rises.
    fn next_rise(&self, now: i64) -> Option<i64> {
        let start = self.start.filter(|_| self.held.is_none() && !self.half_written)?;
        let n = i64::from(self.count);
        let once = |at: i64| (at > now).then_some(at);
        match self.mode {
            0 | 1 => once(start + n),
            4 | 5 => once(start + n + 1),
            _ => {
                let (base, n) = match self.next {
                    Some((count, at)) if self.rise_after(start, n, now) > at => {
                        return Some(self.rise_of_next(count, at));
                    }
                    _ => (start, n),
                };
                Some(self.rise_after(base, n, now))
            }
        }
    }

    fn rise_after(&self, base: i64, n: i64, now: i64) -> i64 {
        if now < base { base + n } else { base + ((now - base) / n + 1) * n }
    }

    fn rise_of_next(&self, count: u32, at: i64) -> i64 {
        let n = i64::from(count);
        if self.mode == 3 && self.falls_at(at) { at + n - half_high(count) } else { at + n }
    }

    /// The counting element, as a program reads it.
    fn value(&self, now: i64) -> u16 {
        let n = i64::from(self.count);
        let Some(t) = self.elapsed(now) else { return self.encode(n) };
        let value = match self.mode {
            2 => n - t % n,
            3 => square_value(n, t % n),
            _ => (n - t).rem_euclid(self.modulus()),
        };
        self.encode(value)
    }

    fn encode(&self, value: i64) -> u16 {
        let v = (value % self.modulus()) as u16;
        if self.bcd { (v / 1000) << 12 | (v / 100 % 10) << 8 | (v / 10 % 10) << 4 | (v % 10) } else { v }
    }

    fn read(&mut self, now: i64) -> u8 {
        if let Some(status) = self.status.take() {
            return status;
        }
        let value = self.latched.unwrap_or_else(|| self.value(now));
        let high = match self.rw {
            RW_LSB => false,
            RW_MSB => true,
            _ => {
                self.read_high = !self.read_high;
                !self.read_high
            }
        };
        if self.rw != 3 || high {
            self.latched = None;
        }
        if high { (value >> 8) as u8 } else { value as u8 }
    }

    fn latch(&mut self, now: i64) {
        if self.latched.is_none() {
            self.latched = Some(self.value(now));
        }
    }

    fn latch_status(&mut self, now: i64) {
        let waiting = self.next.is_some() || self.armed.is_some() && self.start.is_none();
        let null_count = waiting || self.start.is_none_or(|s| now < s);
        let status = u8::from(self.out(now)) << 7
            | u8::from(null_count) << 6
            | self.rw << 4
            | self.mode << 1
            | u8::from(self.bcd);
        self.status.get_or_insert(status);
    }
}

/// Clocks of the high half of mode 3: the longer one when the count is odd.
fn half_high(count: u32) -> i64 {
    i64::from(count.div_ceil(2))
}

/// Mode 3 counts by twos from the count, or from the count less one when that is odd.
fn square_value(n: i64, t: i64) -> i64 {
    let high = (n + 1) / 2;
    let into = if t < high { t } else { t - high };
    (n & !1) - 2 * into
}

/// The three channels and port 61h.
#[derive(Clone, Debug, Hash, Serialize, Deserialize)]
pub struct Pit {
    clock: Clock,
    channels: [Channel; 3],
    speaker: u8,
    /// The next tick at which OUT of channel 0 rises.
    rise: Option<Ticks>,
    line: bool,
    edge: bool,
}

impl Pit {
    /// A timer with no counts loaded; OUT is high.
    pub fn new(clock: Clock) -> Self {
        let channels = [Channel::new(true), Channel::new(true), Channel::new(false)];
        Self { clock, channels, speaker: 0, rise: None, line: true, edge: false }
    }

    fn cycle(&self, now: Ticks) -> i64 {
        self.clock.cycles(now, HZ) as i64
    }

    /// Whether IRQ0 rose since this was last asked.
    pub fn take_edge(&mut self) -> bool {
        std::mem::take(&mut self.edge)
    }

    /// Whether port 61h lets channel 2 sound the speaker.
    pub fn speaker_on(&self) -> bool {
        self.speaker & (P61_SPEAKER | P61_GATE2) == P61_SPEAKER | P61_GATE2
    }

    fn schedule(&mut self, cycle: i64) {
        let rise = self.channels[0].next_rise(cycle);
        self.rise = rise.map(|c| self.clock.ticks_at(c.max(0) as u64, HZ));
    }

    fn control(&mut self, value: u8, cycle: i64) {
        match value >> 6 {
            3 => self.read_back(value, cycle),
            i if value >> 4 & 3 == RW_LATCH => self.channels[usize::from(i)].latch(cycle),
            i => self.channels[usize::from(i)].control(value),
        }
    }

    fn read_back(&mut self, value: u8, cycle: i64) {
        for (i, channel) in self.channels.iter_mut().enumerate() {
            if value >> (i + 1) & 1 == 0 {
                continue;
            }
            if value & 0x20 == 0 {
                channel.latch(cycle);
            }
            if value & 0x10 == 0 {
                channel.latch_status(cycle);
            }
        }
    }

    fn read_speaker(&self, cycle: i64) -> u8 {
        let refresh = (cycle as u64 / REFRESH_CYCLES) & 1 != 0;
        self.speaker
            | if refresh { P61_REFRESH } else { 0 }
            | if self.channels[2].out(cycle) { P61_OUT2 } else { 0 }
    }

    fn after_write(&mut self, cycle: i64) {
        if !self.channels[0].out(cycle) {
            self.line = false;
        } else if !self.line {
            self.line = true;
            self.edge = true;
        }
        self.schedule(cycle);
    }
}

impl Device for Pit {
    fn read(&mut self, port: u16, _width: Width, now: Ticks) -> u32 {
        self.advance(now);
        let cycle = self.cycle(now);
        let value = match port {
            SPEAKER => self.read_speaker(cycle),
            CONTROL => 0xff,
            _ => self.channels[usize::from(port & 3)].read(cycle),
        };
        value.into()
    }

    fn write(&mut self, port: u16, _width: Width, value: u32, now: Ticks) {
        self.advance(now);
        let cycle = self.cycle(now);
        let value = value as u8;
        match port {
            SPEAKER => {
                self.speaker = value & 0x0f;
                self.channels[2].set_gate(value & P61_GATE2 != 0, cycle);
                return;
            }
            CONTROL => self.control(value, cycle),
            _ => self.channels[usize::from(port & 3)].write(value, cycle),
        }
        self.after_write(cycle);
    }

    fn irq(&self) -> bool {
        self.line
    }

    fn next_event(&self) -> Option<Ticks> {
        self.rise
    }

    fn advance(&mut self, now: Ticks) {
        let cycle = self.cycle(now);
        let due = self.rise.is_some_and(|at| now >= at);
        for channel in &mut self.channels {
            channel.sync(cycle);
        }
        if due {
            self.line = true;
            self.edge = true;
            self.schedule(cycle);
        }
    }

    fn reset(&mut self) {
        *self = Self::new(self.clock);
    }
}

#[cfg(test)]
mod tests {
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

    /// Channel 2 in `mode` with `count` written at 0, gate as given.
    fn channel2(mode: u8, count: u16, gate: bool) -> Pit {
        let mut pit = pit();
        out(&mut pit, SPEAKER, gate.into(), 0);
        out(&mut pit, CONTROL, 0xb0 | mode << 1, 0);
        out(&mut pit, 0x42, count as u8, 0);
        out(&mut pit, 0x42, (count >> 8) as u8, 0);
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
        pit.take_edge();
        let first = pit.next_event().unwrap();
        pit.advance(first - 1);
        assert!(!pit.take_edge());
        pit.advance(first);
        assert!(pit.take_edge());
        let period = pit.next_event().unwrap() - first;
        assert!((period as i64 - 1193 * 100_000_000 / HZ as i64).abs() <= 1);
    }

    #[test]
    fn the_refresh_bit_toggles() {
        let mut pit = pit();
        let bits = [0, 18, 36].map(|t| inb(&mut pit, SPEAKER, t) & P61_REFRESH);
        assert_eq!(bits, [0, 0x10, 0]);
    }
}
