//! Recording and replay of a machine's input. All input goes through the session's `InputGate`: `--record` logs what
//! passes, `--replay` feeds the machine from the log.
//!
//! A point of a run is named by its tick. The machine stops at a tick before anything else happens there, so an input
//! that is given at the same tick as in the recording meets the machine in the same state, however the runs between
//! were cut into slices.

use super::ending::Ending;
use super::pc::{Limits, Outcome, Pc};
use crate::bus::Ticks;
use crate::error::{Error, Result};
use crate::snapshot::Recording;
use crate::snapshot::recording::{Frame, Input, Point, Recorder, Stop, What};
use std::cell::RefCell;
use std::path::PathBuf;
use std::rc::Rc;

/// A recording to be replayed, and its file.
#[derive(Clone, Debug)]
pub struct Replay {
    pub(super) path: PathBuf,
    pub(super) recording: Recording,
}

impl Replay {
    /// The error of a replay that is not where its recording was.
    pub(super) fn lost(&self, now: Point) -> Error {
        let reason = format!(
            "the replay went another way than the recording, by instruction {}: it was recorded by another version of this program",
            now.retired
        );
        Error::image(&self.path, reason)
    }
}

/// A recording that grows with its session.
pub(super) type Journal = Rc<RefCell<Recorder>>;

/// The only way for input into the machine.
pub(super) struct InputGate {
    record: bool,
    journal: Option<Journal>,
    /// Where the journal last said that the machine had got to.
    alive: Ticks,
    replay: Option<Replay>,
    /// What was recorded; or of the replay, how much was given.
    inputs: Vec<Input>,
    given: usize,
    /// The machine ran since it last got something.
    ran: bool,
}

/// Where `pc` is in its run.
pub(super) fn point(pc: &dyn Pc) -> Point {
    Point { ticks: pc.now(), retired: pc.retired() }
}

fn hand(pc: &mut dyn Pc, what: &What) {
    match what {
        What::Serial(bytes) => pc.serial_input(bytes),
        What::Key(event) => pc.key(*event),
        What::Mouse(event) => pc.mouse(*event),
    }
}

impl InputGate {
    /// A gate that records, replays, or just lets input through.
    pub(super) fn new(record: bool, journal: Option<Journal>, replay: Option<Replay>) -> Self {
        Self { record, journal, alive: 0, replay, inputs: Vec::new(), given: 0, ran: false }
    }

    /// Gives the machine something now.
    pub(super) fn give(&mut self, pc: &mut dyn Pc, what: What) {
        hand(pc, &what);
        let after_run = std::mem::take(&mut self.ran);
        let input = Input { at: point(pc), after_run, what };
        if let Some(journal) = &self.journal {
            journal.borrow_mut().note(&Frame::Input(input.clone()));
        }
        if self.record {
            self.inputs.push(input);
        }
    }

    /// Gives the machine what the recording has for this point.
    ///
    /// # Errors
    /// When the machine is not where it was then.
    pub(super) fn play(&mut self, pc: &mut dyn Pc) -> Result<()> {
        let Some(replay) = &self.replay else { return Ok(()) };
        let first = self.given;
        while let Some(input) = replay.recording.inputs.get(self.given) {
            let now = point(pc);
            if now.ticks < input.at.ticks {
                break;
            }
            if now != input.at {
                return Err(replay.lost(now));
            }
            if input.after_run && self.given > first {
                // It had looked up without getting any further.
                pc.run(Limits { ticks: now.ticks, retired: u64::MAX, at_idle: false });
            }
            hand(pc, &input.what);
            self.given += 1;
        }
        Ok(())
    }

    /// The tick up to which the machine may run until it is to get something, or is to end.
    pub(super) fn horizon(&self, now: Ticks) -> Ticks {
        let Some(Replay { recording, .. }) = &self.replay else { return Ticks::MAX };
        match recording.inputs.get(self.given) {
            Some(input) => input.at.ticks,
            // A guest that ends by itself may do so at once, or only when it is let run on from there.
            None if recording.stop == Stop::Guest && now >= recording.end.ticks => {
                recording.end.ticks.saturating_add(1)
            }
            None => recording.end.ticks,
        }
    }

    /// After the machine ran: how a replay ends, if this is its end.
    ///
    /// # Errors
    /// When the machine goes on where it then ended, or stopped where it then went on.
    pub(super) fn ended(&mut self, pc: &dyn Pc, outcome: &Outcome) -> Result<Option<Ending>> {
        self.ran = true;
        self.note_life(pc);
        // A stop that the user of the replay asked for is no other way.
        let Some(replay) = self.replay.as_ref().filter(|_| !matches!(outcome, Outcome::Stopped(_))) else {
            return Ok(None);
        };
        let (now, recording) = (point(pc), &replay.recording);
        let all_given = self.given == recording.inputs.len();
        if !matches!(outcome, Outcome::Reached | Outcome::Idle(_)) {
            return if all_given && now == recording.end { Ok(None) } else { Err(replay.lost(now)) };
        }
        if !all_given {
            let due = recording.inputs[self.given].at.ticks == now.ticks;
            return if due || *outcome == Outcome::Reached { Ok(None) } else { Err(replay.lost(now)) };
        }
        match recording.stop {
            _ if now.ticks > recording.end.ticks => Err(replay.lost(now)),
            Stop::Guest if *outcome == Outcome::Idle(None) => Ok(Some(Ending::HaltedForever)),
            _ if now.ticks < recording.end.ticks => Ok(None),
            // The recorded run waited for input that could not come.
            Stop::Guest if pc.waits_for_input() => Ok(Some(Ending::HaltedForever)),
            Stop::Guest => Ok(None),
            Stop::Budget => Ok(Some(Ending::BudgetSpent)),
            Stop::Time => Ok(Some(Ending::TimeSpent)),
            Stop::User => Ok(Some(Ending::Left)),
            Stop::Broken => Ok(Some(Ending::BrokenOff)),
        }
    }

    /// Notes down how far the machine got, each guest second.
    fn note_life(&mut self, pc: &dyn Pc) {
        if let Some(journal) = &self.journal
            && pc.now() - self.alive >= pc.clock().hz()
        {
            self.alive = pc.now();
            journal.borrow_mut().note(&Frame::Alive(point(pc)));
        }
    }

    /// Whether a recording is replayed.
    pub(super) fn replays(&self) -> bool {
        self.replay.is_some()
    }

    /// What was recorded.
    pub(super) fn take_inputs(&mut self) -> Vec<Input> {
        std::mem::take(&mut self.inputs)
    }
}
