//! Reverse execution: going back by a step, back to a stop, to a moment; and finding the last write to some
//! bytes.

use super::Rewind;
use crate::addr::Linear;
use crate::bus::Ticks;
use crate::decode::SegReg;
use crate::machine::breakpoints::{DataStops, Scan, Stops};
use crate::machine::{DataStop, Hit, Limits, Machine, Moment};

/// On the way to a place snapshots are made, at half the distance each, down to so many ticks from it: who
/// goes back once will do it again.
const NEAREST: Ticks = 4096;

/// The result of one stretch of a search backwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sought {
    /// The machine is at this stop.
    Stop(Hit),
    /// The machine is at the beginning of the history.
    Begin,
    /// Nothing was found yet: the search goes on.
    More,
}

/// The last write to some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastWrite {
    /// Instructions retired before it.
    pub retired: u64,
    /// When.
    pub at: Moment,
    /// CS and EIP.
    pub place: (u16, u32),
    /// The instruction there, and whether it is 32-bit code.
    pub code: (Vec<u8>, bool),
    /// Whether the bytes were written by the delivery of an interrupt or exception, before or at that
    /// instruction.
    pub delivery: bool,
    /// The bytes before.
    pub old: Vec<u8>,
    /// The bytes after.
    pub new: Vec<u8>,
}

impl Machine {
    /// Goes back by one step: the stop is what the step had hit, or the step. None at the beginning of the
    /// history.
    pub fn step_back(&mut self) -> Option<Hit> {
        self.set_wish(None);
        let watched = self.world.data_stops.watched();
        let back = self.without_stops(|r, m| {
            r.leave(m);
            let to = r.step_before(m, &watched);
            r.go(m, to.map_or(r.first(), |(to, _)| to));
            to.map(|(_, hit)| hit)
        });
        back.flatten()
    }

    /// Goes back to the last stop, by one stretch between two snapshots in each call; while it gives
    /// [`Sought::More`], the machine is in no state to be looked at.
    pub fn run_back(&mut self) -> Sought {
        let (code, watched) = (self.stops.code(), self.world.data_stops.watched());
        let sought = self.without_stops(|r, m| {
            r.leave(m);
            let (origin, until) = r.seek.take().unwrap_or((m.moment(), m.moment()));
            let nothing = code.is_empty() && watched.is_empty();
            if until <= r.first() || nothing {
                r.go(m, r.first());
                return Sought::Begin;
            }
            let from = r.stretch(m, until);
            match r.scan(m, until, Stops::at_code(&code), &watched).last {
                Some((at, hit)) => {
                    r.go(m, at);
                    Sought::Stop(hit)
                }
                None => {
                    r.seek = Some((origin, from));
                    Sought::More
                }
            }
        });
        let sought = sought.unwrap_or(Sought::Begin);
        if sought != Sought::More {
            self.set_wish(None);
        }
        if let Sought::Stop(Hit::Code(_)) = sought {
            self.stops.pass(self.cpu.now, self.cpu.linear_eip());
        }
        sought
    }

    /// Gives up going back: the machine is where the search began.
    pub fn stop_going_back(&mut self) {
        self.set_wish(None);
        self.without_stops(|r, m| {
            if let Some((origin, _)) = r.seek.take() {
                r.go(m, origin);
            }
        });
    }

    /// Goes to where `retired` instructions had retired; to the beginning or the end of the history if it is
    /// not within. False without a history.
    pub fn go_to(&mut self, retired: u64) -> bool {
        let gone = self.without_stops(|r, m| {
            r.leave(m);
            let n = r.store.snapshots().partition_point(|s| s.retired <= retired).saturating_sub(1);
            r.restore(m, n);
            let end = r.end.unwrap_or(m.moment());
            r.replay(m, end, retired);
            r.arrive(m);
        });
        gone.is_some()
    }

    /// The last write to any of `len` bytes at `at`, before now. The machine stays where it is.
    pub fn last_write(&mut self, at: Linear, len: u32) -> Option<LastWrite> {
        let watched = [DataStop { at, len, read: false, write: true }];
        self.without_stops(|r, m| {
            r.leave(m);
            let origin = m.moment();
            let mut until = origin;
            let mut found = None;
            while until > r.first() && found.is_none() {
                let from = r.stretch(m, until);
                found = r.scan(m, until, Stops::default(), &watched).last;
                until = from;
            }
            let write = found.map(|(moment, _)| r.describe_write(m, moment, at, len));
            r.go(m, origin);
            r.arrive(m);
            write
        })
        .flatten()
    }
}

impl Rewind {
    /// Leaves the present, which becomes the history's end.
    fn leave(&mut self, m: &Machine) {
        self.end.get_or_insert(m.moment());
    }

    /// Ends the stay in the past if the machine is back at the history's end.
    fn arrive(&mut self, m: &Machine) {
        if self.end.is_some_and(|end| m.moment() >= end) && self.given == self.journal.len() {
            self.end = None;
        }
    }

    fn restore(&mut self, m: &mut Machine, n: usize) {
        self.store.restore(m, n);
        self.given = self.store.base().given;
        self.ran = true;
    }

    /// Puts the machine at the moment `to`.
    fn go(&mut self, m: &mut Machine, to: Moment) {
        self.restore(m, self.store.before(to));
        self.replay(m, to, u64::MAX);
        if m.moment() != to {
            self.note = Some(format!(
                "going back to tick {} came to tick {}: this is a bug of subring",
                to.ticks,
                m.moment().ticks
            ));
        }
    }

    /// Puts the machine back to the last snapshot before `until`, which must not be the beginning. Its
    /// moment.
    fn stretch(&mut self, m: &mut Machine, until: Moment) -> Moment {
        let n = self.store.before(until);
        let n = if self.store.snapshots()[n].at == until { n.saturating_sub(1) } else { n };
        self.restore(m, n);
        self.store.base().at
    }

    /// Runs on to `to`, or to so many instructions, giving what the journal has for before.
    fn replay(&mut self, m: &mut Machine, to: Moment, retired: u64) {
        loop {
            let next = self.journal.get(self.given).map(|e| e.at).filter(|at| *at < to);
            let stop = next.unwrap_or(to);
            self.run_near(m, stop, retired);
            if m.moment() < stop && m.cpu.retired() < retired {
                self.run_to(m, stop, retired);
            }
            if next.is_none() || m.moment() != stop {
                return;
            }
            self.give_next(m);
        }
    }

    /// Runs on at full speed to a tick before `stop`, making snapshots on the way.
    fn run_near(&mut self, m: &mut Machine, stop: Moment, retired: u64) {
        let near = stop.ticks.saturating_sub(1);
        while m.cpu.now < near && m.cpu.retired() < retired {
            let half = m.cpu.now + (near - m.cpu.now) / 2;
            let ticks = if half - m.cpu.now < NEAREST { near } else { half };
            let before = m.cpu.now;
            self.rerun(m, Limits { ticks, retired, at_halt: false });
            if m.cpu.now < ticks {
                // It got to its instructions, or is dead; or it would never get on.
                if m.cpu.now == before || m.cpu.retired() >= retired {
                    return;
                }
            } else if ticks < near {
                m.discard_output();
                self.store.capture(m, self.given, true);
            }
        }
    }

    /// Runs on to `until` under watch for `stops` and `watched`.
    fn scan(&mut self, m: &mut Machine, until: Moment, stops: Stops, watched: &[DataStop]) -> Scan {
        m.stops = stops;
        m.world.data_stops = DataStops::of(watched);
        m.world.tlb.drop_fast();
        m.stops.begin_scan(Scan::at(m.moment()));
        loop {
            let next = self.journal.get(self.given).map(|e| e.at).filter(|at| *at < until);
            let stop = next.unwrap_or(until);
            if m.moment() < stop {
                self.run_to(m, stop, u64::MAX);
            }
            if next.is_none() || m.moment() != stop {
                break;
            }
            self.give_next(m);
        }
        let scan = m.end_scan();
        m.stops = Stops::default();
        m.world.data_stops = DataStops::default();
        scan.unwrap_or(Scan::at(until))
    }

    /// The step before the one that the machine stands at, and what it hits; none at the beginning.
    fn step_before(&mut self, m: &mut Machine, watched: &[DataStop]) -> Option<(Moment, Hit)> {
        let now = m.moment();
        if now <= self.first() {
            return None;
        }
        let mut from = self.stretch(m, now);
        // Mostly it is a tick or two away.
        let near = Moment { ticks: now.ticks.saturating_sub(2), delivered: false };
        if near > from {
            self.replay(m, near, u64::MAX);
            let scan = self.scan(m, now, Stops::default(), watched);
            if scan.begun {
                return Some(scan.last_step());
            }
            from = self.stretch(m, now);
        }
        // The processor was halted for longer than that.
        let mut until = now;
        loop {
            let scan = self.scan(m, until, Stops::default(), watched);
            if scan.begun {
                return Some(scan.last_step());
            }
            if from <= self.first() {
                return Some((self.first(), Hit::Step));
            }
            until = from;
            from = self.stretch(m, until);
        }
    }

    /// The write at the step `moment`. The machine is past it then.
    fn describe_write(&mut self, m: &mut Machine, moment: Moment, at: Linear, len: u32) -> LastWrite {
        self.go(m, moment);
        let place = (m.cpu.seg(SegReg::Cs).selector.0, m.cpu.eip);
        let code = m.code_ahead();
        let (retired, code32) = (m.cpu.retired(), m.cpu.code32());
        let old = m.world.peek(&m.cpu, at, len as usize);
        m.stops.set_step(true);
        self.rerun(m, Limits::until(Ticks::MAX));
        m.stops = Stops::default();
        let new = m.world.peek(&m.cpu, at, len as usize);
        let delivery = m.moment().delivered;
        LastWrite { retired, at: moment, place, code: (code, code32), delivery, old, new }
    }
}
