//! The 8254 interval timer and port 61h, the NMI status and speaker control (Intel 8254 datasheet, 231164;
//! 82371SB, 2.5.4). Channel 0 drives IRQ0, channel 2 the speaker; channel 1 once refreshed memory.
//!
//! Nothing is ticked: a channel keeps the cycle at which its count was loaded, and every answer is derived
//! from the clock. A simplification: IRQ0 is seen as one edge per rise of OUT; the low phase of the square
//! wave does not take an unserved request back.

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
/// The last cycle that is told apart, with room to reckon.
const END: u64 = 1 << 60;
/// The refresh request toggles at every refresh, 15.085 us apart.
const REFRESH_CYCLES: u64 = 18;

/// One counter. Times are in cycles of the input clock.
#[derive(Clone, Debug, Default, Hash, Serialize, Deserialize)]
struct Channel {
    mode: u8,
    bcd: bool,
    rw: u8,
    /// The count register (CR), written by the program; `None` from the control word to the first count.
    written: Option<u32>,
    /// The cycle at which CR goes into the counting element, once that is settled.
    load: Option<i64>,
    /// The null count bit: CR, or the mode, has not reached the counting element.
    null: bool,
    /// The count last loaded into the counting element, and the cycle of that; `None` from the control word
    /// on.
    count: u32,
    start: Option<i64>,
    /// Clocks counted since the load, while counting is disabled.
    held: Option<i64>,
    /// The counting element as the last control word left it.
    left: u16,
    /// The strobe of mode 4 is over, also when the gate stops the count there.
    strobed: bool,
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
        Self { rw: 3, null: true, gate, ..Self::default() }
    }

    /// Counts are 1 to 65 536, and times before the end of time.
    fn sensible(&self) -> bool {
        let count = |count: u32| (1..=0x1_0000).contains(&count);
        let time = |at: i64| at.unsigned_abs() <= END;
        self.written.is_none_or(count)
            && (self.start.is_none() || count(self.count))
            && [self.start, self.held, self.load].into_iter().flatten().all(time)
    }

    fn modulus(&self) -> i64 {
        if self.bcd { 10_000 } else { 0x1_0000 }
    }

    /// A control word stops the counter and clears its control logic; the counting element keeps its value.
    fn control(&mut self, value: u8, now: i64) {
        let mode = value >> 1 & 7;
        let left = self.value(now);
        *self = Self::new(self.gate);
        self.left = left;
        self.mode = if mode > 5 { mode - 4 } else { mode };
        self.bcd = value & 1 != 0;
        self.rw = value >> 4 & 3;
    }

    /// Loads the counting element, if that came due.
    fn sync(&mut self, now: i64) {
        let Some(at) = self.load.filter(|&at| now >= at) else { return };
        let Some(count) = self.written else { return };
        // Taken up in the middle of a square wave, the count begins with the low half.
        let low_half = self.mode == 3 && self.held.is_none() && self.falls_at(at);
        self.start = Some(if low_half { at - half_high(count) } else { at });
        self.count = count;
        self.held = (self.half_written || self.is_gated() && !self.gate).then_some(0);
        (self.load, self.null, self.strobed) = (None, false, false);
    }

    /// Whether a low gate disables counting, as in all modes but those that a trigger starts.
    fn is_gated(&self) -> bool {
        !matches!(self.mode, 1 | 5)
    }

    /// Whether counting begins anew by itself: modes 2 and 3.
    fn is_periodic(&self) -> bool {
        matches!(self.mode, 2 | 3)
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
                if self.half_written {
                    self.pause(now);
                }
                return;
            }
        };
        self.half_written = false;
        self.set_count(self.decode(raw), now);
    }

    /// The count that a register value means; 0 is the largest.
    fn decode(&self, raw: u32) -> u32 {
        let digit = |shift: u32| (raw >> shift & 0xf).min(9);
        let n = if self.bcd { digit(12) * 1000 + digit(8) * 100 + digit(4) * 10 + digit(0) } else { raw };
        if n == 0 { self.modulus() as u32 } else { n }
    }

    /// Writes CR. The counting element takes that up at the next clock, at the end of the (half) period, or
    /// at a trigger. The first count of modes 2 and 3 needs no trigger, even with the gate low.
    fn set_count(&mut self, count: u32, now: i64) {
        self.written = Some(count);
        self.null = true;
        self.load = match (self.mode, self.start) {
            (1 | 5, _) => self.load,
            (2 | 3, Some(_)) if !self.gate || self.held.is_some() => self.load,
            (2 | 3, Some(start)) => Some(self.next_boundary(start, now)),
            _ => Some(now + 1),
        };
    }

    /// The end of the current period (mode 2) or half period (mode 3).
    fn next_boundary(&self, from: i64, now: i64) -> i64 {
        let n = i64::from(self.count);
        let into = (now - from).rem_euclid(n);
        let base = now - into;
        let high = half_high(self.count);
        if self.mode == 3 && into < high { base + high } else { base + n }
    }

    /// The datasheet's table of gate pin operations: a low gate disables counting in modes 0, 2, 3 and 4, a
    /// rising one enables it in modes 0 and 4 and is a trigger in the others.
    fn set_gate(&mut self, gate: bool, now: i64) {
        if gate == self.gate {
            return;
        }
        self.sync(now);
        self.gate = gate;
        match (self.mode, gate) {
            (0 | 4, true) => self.resume(now),
            (_, true) => self.load = self.written.map(|_| now + 1),
            (1 | 5, false) => {}
            (_, false) => self.pause(now),
        }
    }

    /// Disables counting: the count stays as it is, and no end of a period comes that would take up a new
    /// one.
    fn pause(&mut self, now: i64) {
        let (None, Some(start)) = (self.held, self.start) else { return };
        let counted = now - start;
        self.held = Some(counted);
        self.strobed |= counted >= i64::from(self.count);
        if self.is_periodic() {
            self.load = None;
        }
    }

    fn resume(&mut self, now: i64) {
        if !self.half_written
            && let Some(counted) = self.held.take()
        {
            self.start = Some(now - counted);
        }
    }

    /// Clocks counted since the count was loaded; `None` while no count is.
    fn elapsed(&self, now: i64) -> Option<i64> {
        self.start.map(|start| self.held.unwrap_or(now - start))
    }

    /// The level of OUT; before a count is loaded that is low in mode 0 only.
    fn out(&self, now: i64) -> bool {
        let n = i64::from(self.count);
        let Some(t) = self.elapsed(now) else { return self.mode != 0 };
        match self.mode {
            0 => t >= n && !self.half_written,
            1 => t >= n,
            2 | 3 if self.held.is_some() => true,
            2 => t % n != n - 1 || n == 1,
            3 => t % n < half_high(self.count),
            _ => t != n || self.strobed,
        }
    }

    /// The next cycle after `now` at which OUT rises.
    fn next_rise(&self, now: i64) -> Option<i64> {
        let counting = self.start.filter(|_| self.held.is_none());
        let rise = counting.and_then(|start| self.rise_of(start, self.count, now));
        match (self.load, self.written) {
            (Some(at), Some(count)) if rise.is_none_or(|rise| rise > at) => {
                let low_half = self.mode == 3 && self.held.is_none() && self.falls_at(at);
                let start = if low_half { at - half_high(count) } else { at };
                self.rise_of(start, count, at).filter(|_| self.gate || !self.is_gated())
            }
            _ => rise,
        }
    }

    /// The next rise of OUT after `now` by a count that was loaded at `start`.
    fn rise_of(&self, start: i64, count: u32, now: i64) -> Option<i64> {
        let n = i64::from(count);
        let once = |at: i64| (at > now).then_some(at);
        match self.mode {
            0 | 1 => once(start + n),
            4 | 5 => once(start + n + 1),
            _ if now < start => Some(start + n),
            _ => Some(start + ((now - start) / n + 1) * n),
        }
    }

    /// The counting element, as a program reads it.
    fn value(&self, now: i64) -> u16 {
        let n = i64::from(self.count);
        let Some(t) = self.elapsed(now) else { return self.left };
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
        let status = u8::from(self.out(now)) << 7
            | u8::from(self.null) << 6
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
        self.clock.cycles(now, HZ).min(END) as i64
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
            i => self.channels[usize::from(i)].control(value, cycle),
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

    fn sensible(&self) -> bool {
        self.channels.iter().all(Channel::sensible)
    }

    /// A rise of OUT is an edge also when nobody sampled the low time before it.
    fn take_low(&mut self) -> bool {
        std::mem::take(&mut self.edge)
    }
}

#[cfg(test)]
mod tests;
