//! The session loop over a mock machine.

use super::super::keys;
use super::super::screen::TextScreen;
use super::super::state::State;
use super::super::stats::Stats;
use super::super::terminal::Setup;
use super::*;
use crate::bus::Clock;
use crate::console::keymap::KeyEvent;
use crate::device::mouse::Button;
use crate::device::mouse::MouseEvent;
use crate::error::Error;
use std::cell::RefCell;
use std::rc::Rc;

/// A machine of one guest instruction per tick that follows a script of outcomes by time.
#[derive(Default)]
struct Mock {
    now: Ticks,
    /// At this time, this happens.
    at: Ticks,
    then: Option<Outcome>,
    output: Vec<u8>,
    keys: Vec<(Ticks, KeyEvent)>,
    mouse: Vec<(Ticks, MouseEvent)>,
    limits: Vec<Limits>,
}

#[derive(Clone, Default)]
struct Shared(Rc<RefCell<Mock>>);

impl Pc for Shared {
    fn clock(&self) -> Clock {
        Clock::new(1_000_000)
    }
    fn now(&self) -> Ticks {
        self.0.borrow().now
    }
    fn retired(&self) -> u64 {
        self.0.borrow().now
    }
    fn run(&mut self, limits: Limits) -> Outcome {
        let mut m = self.0.borrow_mut();
        m.limits.push(limits);
        assert!(m.limits.len() < 10_000, "the session does not end");
        let stop = limits.ticks.min(limits.retired);
        if let Some(outcome) = m.then.clone()
            && m.at <= stop
        {
            m.now = m.at;
            return outcome;
        }
        m.now = stop;
        Outcome::Reached
    }
    fn serial_input(&mut self, _: &[u8]) {}
    fn serial_backlog(&self) -> usize {
        0
    }
    fn take_serial_output(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.0.borrow_mut().output)
    }
    fn take_debugcon(&mut self) -> Vec<u8> {
        Vec::new()
    }
    fn take_bioscon(&mut self) -> Vec<u8> {
        Vec::new()
    }
    fn key(&mut self, event: KeyEvent) {
        let mut m = self.0.borrow_mut();
        let now = m.now;
        m.keys.push((now, event));
    }
    fn mouse(&mut self, event: MouseEvent) {
        let mut m = self.0.borrow_mut();
        let now = m.now;
        m.mouse.push((now, event));
    }
    fn screen(&self) -> Option<TextScreen> {
        let text = if self.now() >= 40_000 { "grub>" } else { "     " };
        Some(TextScreen { columns: 5, cells: text.chars().map(|c| (c, 7)).collect(), cursor: None })
    }
    fn registers(&self) -> String {
        String::new()
    }
    fn state(&self) -> State {
        State::default()
    }
    fn read_memory(&self, _: u32, buf: &mut [u8]) {
        buf.fill(0);
    }
    fn stats(&self) -> Stats {
        Stats::default()
    }
    fn take_host_error(&mut self) -> Option<Error> {
        None
    }
    fn finish_trace(&mut self) -> Result<()> {
        Ok(())
    }
}

fn drive_mock(mock: Mock, options: Options) -> (End, Shared) {
    let mut pc = Shared(Rc::new(RefCell::new(mock)));
    let setup = Setup { input: false, stream: false, keep: true, live: false, debugcon: None, bioscon: None };
    let mut console = Console::open_with(setup).unwrap();
    (drive(&mut pc, &mut console, &options).unwrap(), pc)
}

#[test]
fn each_outcome_has_its_ending_and_status() {
    let table = [
        (Outcome::Exit(7), Ending::Exit(7), 7),
        (Outcome::TripleFault("x".into()), Ending::TripleFault("x".into()), 120),
        (Outcome::HaltedForever, Ending::HaltedForever, 121),
        (Outcome::Idle(None), Ending::HaltedForever, 121),
        (Outcome::PowerOff, Ending::PowerOff, 0),
        (Outcome::Reset, Ending::Reset, 122),
    ];
    for (outcome, ending, status) in table {
        let mock = Mock { at: 25_000, then: Some(outcome), output: b"hi".to_vec(), ..Mock::default() };
        let (end, _) = drive_mock(mock, Options::default());
        assert_eq!((end.ending.status(), &end.ending), (status, &ending));
        assert_eq!((end.retired, end.serial.as_slice()), (25_000, &b"hi"[..]));
    }
}

#[test]
fn budget_and_time_end_a_run_exactly() {
    let (end, _) = drive_mock(Mock::default(), Options { budget: Some(123_456), ..Options::default() });
    assert_eq!((end.ending, end.retired), (Ending::BudgetSpent, 123_456));
    let (end, _) = drive_mock(Mock::default(), Options { time: Some(55_555), ..Options::default() });
    assert_eq!((end.ending, end.ticks), (Ending::TimeSpent, 55_555));
    let (end, _) = drive_mock(Mock::default(), Options { budget: Some(0), ..Options::default() });
    assert_eq!((end.ending, end.retired), (Ending::BudgetSpent, 0));
}

#[test]
fn keys_fall_on_the_grid_of_slices() {
    let script = keys::parse("@\"grub>\":a@+50ms:<Enter>").unwrap();
    let (_, pc) =
        drive_mock(Mock::default(), Options { time: Some(200_000), keys: script, ..Options::default() });
    let keys: Vec<(Ticks, u8, bool)> = pc.0.borrow().keys.iter().map(|(t, e)| (*t, e.code, e.down)).collect();
    assert_eq!(
        keys,
        [(40_000, 0x1e, true), (50_000, 0x1e, false), (100_000, 0x1c, true), (110_000, 0x1c, false)]
    );
}

#[test]
fn the_mouse_of_a_script_takes_its_turn_among_the_keys() {
    let script = keys::parse("@10ms:a<Click:left><Move:3,-4>").unwrap();
    let (_, pc) =
        drive_mock(Mock::default(), Options { time: Some(200_000), keys: script, ..Options::default() });
    let button = |down| MouseEvent::Button { button: Button::Left, down };
    let expected =
        [(30_000, button(true)), (40_000, button(false)), (50_000, MouseEvent::Move { dx: 3, dy: -4 })];
    assert_eq!(pc.0.borrow().mouse, expected);
    assert_eq!(pc.0.borrow().keys.len(), 2);
}

#[test]
fn an_idle_guest_gets_its_keys_before_it_is_given_up() {
    let mock = Mock { at: 5, then: Some(Outcome::Idle(None)), ..Mock::default() };
    let (end, pc) = drive_mock(mock, Options { keys: keys::parse("@9s:q").unwrap(), ..Options::default() });
    assert_eq!(end.ending, Ending::HaltedForever);
    assert_eq!(pc.0.borrow().keys.len(), 2);
}

#[test]
fn a_batch_run_never_stops_at_idle() {
    let (_, pc) = drive_mock(Mock::default(), Options { time: Some(100_000), ..Options::default() });
    assert!(pc.0.borrow().limits.iter().all(|l| !l.at_idle));
}
