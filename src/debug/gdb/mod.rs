//! `--gdb PORT`: a stub for gdb's remote serial protocol (gdb manual, appendix E). [`Server`] holds the
//! connection and is served between two slices of a run; `target.rs` is what the packets do; the crate
//! `gdbstub` parses them.
//!
//! A run under gdb is the run without it: stops are kept outside the guest ([`crate::machine::Stops`]), and
//! time stands still while gdb holds the machine. Only what gdb writes changes anything.
//!
//! A step is one instruction, one iteration of a string instruction, or the delivery of one interrupt or
//! exception: it then ends at the handler's first instruction. Addresses are linear throughout, but EIP is
//! the offset in CS. gdb takes EIP for a linear address: where CS has another base than 0 it cannot match a
//! stop with its breakpoint, and says SIGTRAP instead of the breakpoint's number.
//!
//! With a history ([`crate::machine::rewind`]) gdb may also go back: by steps, to breakpoints and to
//! watchpoints, where it stops *before* the access. Going on from there is the same run again, to where it
//! was left, and then on.

mod monitor;
mod packets;
mod registers;
mod target;

use crate::decode::SegReg;
use crate::error::{Error, Result};
use crate::machine::{CodeStop, Hit, Machine, Sought, Wish};
use gdbstub::common::Signal;
use gdbstub::stub::state_machine::GdbStubStateMachine as Link;
use gdbstub::stub::{DisconnectReason, GdbStub, SingleThreadStopReason as Reason};
use gdbstub::target::ext::base::reverse_exec::ReplayLogPosition;
use gdbstub::target::ext::breakpoints::WatchKind;
use packets::{Packets, Verdict};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;

/// How long one wait for gdb lasts, so that signals to this program are noticed.
const NAP: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
/// What a second gdb is told; gdb shows the text behind `E.`.
const BUSY: &[u8] = b"E.another debugger has this machine: let it detach first";
const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };

/// What the run does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// The run goes on.
    Run,
    /// gdb holds it: ask again.
    Wait,
    /// gdb ended it.
    Kill,
}

/// How a run ended, for gdb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// With the guest's own status: gdb hears it and is let go.
    Exit(u8),
    /// In a triple fault: gdb may look at what is left.
    TripleFault,
    /// Otherwise: the same.
    Other,
}

/// What gdb does with a machine whose run is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mourning {
    /// Nothing more.
    Over,
    /// gdb looks at what is left: ask again.
    Looks,
    /// gdb goes back in time: the run is not over.
    Back,
}

/// The stub: a listening socket, and the gdb that is connected to it, if one is.
pub struct Server {
    listener: TcpListener,
    link: Option<Link<'static, Machine, TcpStream>>,
    /// The bytes come from here; the link has the other handle.
    input: Option<TcpStream>,
    packets: Packets,
    /// The run does not start before gdb has come.
    awaits: bool,
    /// gdb was stopped at the end of the run.
    mourned: bool,
    killed: bool,
}

impl Server {
    /// Listens on `port` of 127.0.0.1; port 0 is any free one.
    ///
    /// # Errors
    /// [`Error::Host`] when the port cannot be had.
    pub fn listen(port: u16) -> Result<Self> {
        let host = |source| Error::Host { action: "listen for gdb", source };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).map_err(host)?;
        listener.set_nonblocking(true).map_err(host)?;
        Ok(Self {
            listener,
            link: None,
            input: None,
            packets: Packets::default(),
            awaits: true,
            mourned: false,
            killed: false,
        })
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.listener.local_addr().map_or(0, |a| a.port())
    }

    /// Before a slice: takes a connection, and what gdb has sent.
    pub fn before(&mut self, machine: &mut Machine) -> Turn {
        if self.link.is_none() {
            self.accept(machine);
        } else {
            self.turn_away();
        }
        match &self.link {
            None if self.awaits => {
                sleep(&self.listener, &NAP);
                return Turn::Wait;
            }
            Some(link) => {
                let nap = if matches!(link, Link::Idle(_)) { NAP } else { NOW };
                self.serve(machine, &nap);
            }
            None => {}
        }
        match &self.link {
            _ if self.killed => Turn::Kill,
            Some(Link::Idle(_)) => Turn::Wait,
            _ => match machine.wish() {
                Some(wish) => {
                    self.go_back(machine, wish);
                    Turn::Wait
                }
                None => Turn::Run,
            },
        }
    }

    /// Goes back, or a part of the way: between the parts gdb can interrupt.
    fn go_back(&mut self, machine: &mut Machine, wish: Wish) {
        let begin = Reason::ReplayLog { tid: None, pos: ReplayLogPosition::Begin };
        let reason = match wish {
            Wish::StepBack => machine.step_back().map_or(begin, |hit| reason(hit, based(machine))),
            Wish::RunBack => match machine.run_back() {
                Sought::More => return,
                Sought::Begin => begin,
                Sought::Stop(hit) => reason(hit, based(machine)),
            },
        };
        self.tell(machine, reason);
    }

    /// After a slice: whether a stop ended it. gdb is told which.
    pub fn after(&mut self, machine: &mut Machine) -> bool {
        let Some(hit) = machine.stops.take_hit() else { return false };
        self.tell(machine, reason(hit, based(machine)));
        true
    }

    /// The run is over: what gdb does now.
    pub fn hold(&mut self, machine: &mut Machine, over: Over) -> Mourning {
        let first = !std::mem::replace(&mut self.mourned, true);
        self.turn_away();
        match (over, first) {
            (Over::Exit(status), _) => self.tell(machine, Reason::Exited(status)),
            (Over::TripleFault, true) => self.tell(machine, Reason::Signal(Signal::SIGSEGV)),
            (Over::Other, true) => self.tell(machine, Reason::Signal(Signal::SIGSTOP)),
            _ => self.serve(machine, &NAP),
        }
        if matches!(self.link, Some(Link::Idle(_))) {
            return Mourning::Looks;
        }
        if self.link.is_some() && (machine.wish().is_some() || machine.in_the_past()) {
            self.mourned = false;
            return Mourning::Back;
        }
        // Told to go on, or gone.
        self.tell(machine, Reason::Terminated(Signal::SIGKILL));
        Mourning::Over
    }

    /// Takes a connection that is waiting. The machine stops for it.
    fn accept(&mut self, machine: &mut Machine) {
        let Ok((stream, _)) = self.listener.accept() else { return };
        let Ok(input) = stream.set_nonblocking(false).and_then(|()| stream.try_clone()) else { return };
        if let Ok(link) = GdbStub::new(stream).run_state_machine(machine) {
            self.awaits = false;
            self.input = Some(input);
            self.packets = Packets::default();
            self.link = Some(link);
        }
    }

    /// Tells another gdb that this one has the machine, and lets it go.
    fn turn_away(&self) {
        while let Ok((mut stream, _)) = self.listener.accept() {
            let _ = stream.set_nonblocking(true);
            let _ = stream.write(&packets::framed(BUSY));
            // What was sent already must be read, or closing would drop the sentence on its way.
            let _ = stream.shutdown(Shutdown::Write);
            sleep(&stream, &NAP);
            let _ = stream.read(&mut [0; 4096]);
        }
    }

    /// Feeds what gdb has sent, waiting up to `nap` for it.
    fn serve(&mut self, machine: &mut Machine, nap: &Timespec) {
        let mut nap = *nap;
        while let Some(input) = &mut self.input
            && sleep(input, &nap)
        {
            nap = NOW;
            let mut bytes = [0; 4096];
            match input.read(&mut bytes) {
                Ok(n) if n > 0 => bytes[..n].iter().for_each(|b| self.take(machine, *b)),
                _ => self.part(machine),
            }
        }
    }

    /// One byte from gdb. While the machine runs, only an interrupt means something, and the parser knows it.
    fn take(&mut self, machine: &mut Machine, byte: u8) {
        if matches!(self.link, Some(Link::Running(_))) {
            return self.feed(machine, byte);
        }
        match self.packets.take(byte) {
            Verdict::Wait => {}
            Verdict::Pass(bytes) => bytes.into_iter().for_each(|b| self.feed(machine, b)),
            Verdict::Reply(bytes) => {
                let sent = self.input.as_mut().map_or(Ok(()), |to| to.write_all(&bytes));
                if sent.is_err() {
                    self.part(machine);
                }
            }
        }
    }

    /// One byte for the parser.
    fn feed(&mut self, machine: &mut Machine, byte: u8) {
        let next = match self.link.take() {
            Some(Link::Idle(link)) => link.incoming_data(machine, byte),
            Some(Link::Running(link)) => link.incoming_data(machine, byte),
            _ => return,
        };
        self.settle(machine, next);
    }

    /// The machine has stopped, or the run is over.
    fn tell(&mut self, machine: &mut Machine, reason: Reason<u32>) {
        match self.link.take() {
            Some(Link::Running(link)) => {
                let next = link.report_stop(machine, reason);
                self.settle(machine, next);
            }
            other => self.link = other,
        }
    }

    /// Keeps the link, or lets gdb go.
    fn settle<E>(
        &mut self,
        machine: &mut Machine,
        next: std::result::Result<Link<'static, Machine, TcpStream>, E>,
    ) {
        match next {
            Ok(Link::CtrlCInterrupt(link)) => {
                machine.stop_going_back();
                machine.stops.take_hit();
                let next = link.interrupt_handled(machine, Some(Reason::Signal(Signal::SIGINT)));
                self.settle(machine, next);
            }
            Ok(Link::Disconnected(link)) => {
                self.killed |= link.get_reason() == DisconnectReason::Kill;
                self.part(machine);
            }
            Ok(link) => self.link = Some(link),
            // The connection broke, or what came over it is no protocol of gdb's.
            Err(_) => self.part(machine),
        }
    }

    /// gdb has left: the run goes on without stops. Another gdb may come.
    fn part(&mut self, machine: &mut Machine) {
        machine.stop_going_back();
        machine.clear_stops();
        self.link = None;
        self.input = None;
    }
}

/// Whether EIP is not a linear address.
fn based(machine: &Machine) -> bool {
    machine.cpu.seg(SegReg::Cs).base != 0
}

/// Waits for something to read; whether there is.
fn sleep(fd: &impl AsFd, nap: &Timespec) -> bool {
    let mut fds = [PollFd::new(fd, PollFlags::IN)];
    matches!(poll(&mut fds, Some(nap)), Ok(n) if n > 0)
}

/// Why the machine stopped, in gdb's words; `based`: EIP is not a linear address. A stop for a breakpoint
/// that gdb does not find at EIP it would take for one that it has just removed, and go on.
fn reason(hit: Hit, based: bool) -> Reason<u32> {
    match hit {
        Hit::Step => Reason::DoneStep,
        Hit::Event(_) => Reason::Signal(Signal::SIGTRAP),
        Hit::Code(_) if based => Reason::Signal(Signal::SIGTRAP),
        Hit::Code(CodeStop::Software(_)) => Reason::SwBreak(()),
        Hit::Code(CodeStop::Hardware(_)) => Reason::HwBreak(()),
        Hit::Data(stop) => {
            let kind = match (stop.read, stop.write) {
                (true, true) => WatchKind::ReadWrite,
                (true, false) => WatchKind::Read,
                _ => WatchKind::Write,
            };
            Reason::Watch { tid: (), kind, addr: stop.at.0 }
        }
    }
}
