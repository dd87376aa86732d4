//! Running a case on the real machine: on the fast path, observed one instruction at a time, on the portable engine,
//! under a monitor that translates, and in VMX non-root operation with shadow and with nested paging.

use crate::base;
use crate::expect::{Expected, exception_name, work_out};
use crate::layout::{RAM, STRICT};
use crate::memory::Memory;
use crate::state::{self, State};
use crate::text::Case;
use std::cell::RefCell;
use std::fmt::Write;
use std::rc::Rc;
use subring::addr::GuestPhys;
use subring::bus::Width;
use subring::cell::{Cell, Engine, Strategy};
use subring::clock::When;
use subring::decode::{Decoded, decode, disassemble};
use subring::event::{Event, Sink};
use subring::exec::Env;
use subring::machine::board::BoardConfig;
use subring::machine::{Config, Limits, Machine, Monitor, Outcome, Wants, Watcher};
use subring::report::Change;
use subring::vmm;

/// What was delivered, in the words of the cases.
#[derive(Clone, Default)]
struct Seen(Rc<RefCell<Vec<String>>>);

impl Sink for Seen {
    fn record(&mut self, _: When, event: &Event<'_>) {
        match *event {
            Event::Fault { vector, code, .. } => self.0.borrow_mut().push(exception_name(vector, code)),
            Event::Interrupt { vector, .. } => self.0.borrow_mut().push(format!("irq({vector:#x})")),
            _ => {}
        }
    }
}

/// A case, ready to run.
struct Prepared {
    memory: Memory,
    state: State,
    /// Instructions to run, delivered events not counted.
    steps: u64,
    /// The first instruction's end.
    next: u32,
    /// A hardware interrupt that is requested from the start.
    irq: Option<u8>,
    /// Instructions that run before it is requested; each iteration of a REP counts.
    irq_after: u64,
}

/// The machine after a run.
struct Ran {
    machine: Machine,
    events: Vec<String>,
    outcome: Outcome,
    supervised: Supervised,
}

/// How a case is run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Fast,
    Observed,
    /// On the bare machine, by its portable engine.
    Portable,
    /// Under this cell's monitor.
    Under(Cell),
}

/// The monitors under which a case runs.
const MONITORS: [Cell; 3] = [Cell::BT_TRACE, Cell::HVM_TRACE, Cell::HVM_NESTED];

/// How a case ran under a monitor.
#[derive(Clone, Copy, Debug, Default)]
struct Supervised {
    /// Instructions that ran with no intervention, in translated code, and units that ran.
    direct: u64,
    translated: u64,
    units: u64,
    /// A page-table entry in use was changed.
    changed_live_tables: bool,
}

/// How a case ran under all monitors.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ways {
    /// Something ran in translated code, and whole units did.
    pub translated: bool,
    pub units: bool,
    /// Something ran in non-root operation with no exit.
    pub non_root: bool,
    /// The case ended otherwise than on the bare machine under some monitor, and may.
    pub fresher: bool,
}

/// Runs `case`; the failure is a text of several lines.
pub fn check(case: &Case) -> Result<Ways, String> {
    let prepared = prepare(case)?;
    let expected = work_out(&prepared.state, &prepared.memory, prepared.next, &case.output)?;
    let fast = run(&prepared, Way::Fast)?;
    let mut wrong = compare(&expected, &prepared, &fast);
    let observed = run(&prepared, Way::Observed)?;
    agree(&fast, ("observed", &observed), &mut wrong);
    let portable = run(&prepared, Way::Portable)?;
    agree(&fast, ("portable", &portable), &mut wrong);
    let mut ways = Ways::default();
    if !hides_features(&prepared.state) {
        for cell in MONITORS {
            wrong += &check_under(cell, &prepared, &fast, &mut ways)?;
        }
    }
    if wrong.is_empty() { Ok(ways) } else { Err(wrong) }
}

/// What differs under the monitor of `cell` from the `fast` run, and may not.
fn check_under(cell: Cell, p: &Prepared, fast: &Ran, ways: &mut Ways) -> Result<String, String> {
    let ran = run(p, Way::Under(cell))?;
    let how = ran.supervised;
    ways.translated |= how.translated > 0;
    ways.units |= how.units > 0;
    ways.non_root |= cell.strategy() == Strategy::Hvm && how.direct > 0;
    let mut parted = String::new();
    agree(fast, (&cell.to_string(), &ran), &mut parted);
    if parted.is_empty() || !may_part(&how) {
        return Ok(parted);
    }
    ways.fresher = true;
    Ok(String::new())
}

/// Whether the case's processor has a feature that a monitor takes from its guest.
fn hides_features(s: &state::State) -> bool {
    ["vme", "pat", "nx"].iter().any(|name| s[*name] != 0)
}

/// Whether a case may end otherwise under a monitor: it changes a page-table entry whose translation is
/// cached, and the manual leaves open which of the two counts until the guest flushes (SDM vol. 3, 4.10.2.3).
/// The bare machine keeps the old one; the monitor, which traces page tables, has the new one at once.
fn may_part(how: &Supervised) -> bool {
    how.changed_live_tables
}

fn prepare(case: &Case) -> Result<Prepared, String> {
    let (mut memory, mut s) = base::build(&case.env)?;
    let (mut tokens, mut stack_directives) = (Vec::new(), Vec::new());
    for piece in case.setup.iter().chain(&case.input) {
        if piece.starts_with("stack") {
            stack_directives.push(piece);
        } else if !memory.directive(piece, &state::context(&s))? {
            tokens.extend(piece.split_whitespace());
        }
    }
    let mut steps = None;
    let mut irq = None;
    let mut irq_after = 0;
    for (name, value) in tokens.iter().filter_map(|t| t.split_once('=')) {
        match name {
            "steps" => steps = Some(u64::from(crate::layout::number(value)?)),
            "irq" => irq = Some(crate::layout::number(value)? as u8),
            "irq_after" => irq_after = u64::from(crate::layout::number(value)?),
            _ => {}
        }
    }
    tokens.retain(|t| !["steps=", "irq=", "irq_after="].iter().any(|name| t.starts_with(name)));
    state::assign(&mut s, &memory, &tokens)?;
    for piece in stack_directives {
        memory.directive(piece, &state::context(&s))?;
    }
    let listing = assembly(&case.code, s["cs.attr"] & 0x400 != 0, s["eip"]);
    let text = listing.iter().map(|(_, t)| t.as_str()).collect::<Vec<_>>().join("; ");
    if text != case.assembly {
        return Err(format!("disassembly: expected `{}`, got `{text}`", case.assembly));
    }
    memory.put(s["cs.base"].wrapping_add(s["eip"]), &case.code);
    let first = listing.first().map_or(0, |(len, _)| *len);
    let (len, count) = match steps {
        Some(n) => (listing.iter().take(n as usize).map(|(l, _)| l).sum(), n),
        None if listing.len() > 1 => (case.code.len(), listing.len() as u64),
        None => (first, 1),
    };
    let next = s["eip"].wrapping_add(len as u32);
    Ok(Prepared { memory, state: s, steps: count, next, irq, irq_after })
}

/// Length and text of each instruction.
fn assembly(code: &[u8], code32: bool, eip: u32) -> Vec<(usize, String)> {
    let mut listing = Vec::new();
    let mut at = 0;
    while at < code.len() {
        let len = match decode(&code[at..], code32) {
            Decoded::Insn(insn) => usize::from(insn.len),
            Decoded::Truncated | Decoded::TooLong => code.len() - at,
        };
        listing.push((len, disassemble(&code[at..], code32, eip.wrapping_add(at as u32))));
        at += len;
    }
    listing
}

fn run(p: &Prepared, way: Way) -> Result<Ran, String> {
    let board = BoardConfig { ram_size: RAM, ..BoardConfig::default() };
    let config = Config { ram_size: RAM, board, bios: None, vga_bios: None };
    let mut machine = Machine::new(config).map_err(|e| e.to_string())?;
    // Nothing is decoded yet, so that memory may be written directly.
    let ram = machine.world.map.ram.bytes_unmarked_mut();
    ram[..STRICT as usize].copy_from_slice(&p.memory.low);
    for (&at, &byte) in &p.memory.high {
        machine.store(GuestPhys(at), &[byte]);
    }
    state::write(&p.state, &mut machine.cpu);
    machine.world.tlb.flush(true);
    match way {
        Way::Fast | Way::Observed => {}
        Way::Portable => machine.set_engine(Engine::Portable),
        Way::Under(cell) => supervise(&mut machine, cell, p.steps)?,
    }
    let seen = Seen::default();
    let all = Wants { insn: true, fault: true, interrupt: true, port: true, memory: true, exit: true };
    let wants =
        if way == Way::Observed { all } else { Wants { fault: true, interrupt: true, ..Wants::default() } };
    machine.watch(Some(Watcher { wants, sink: Box::new(seen.clone()) }));
    let end = machine.cpu.retired() + p.steps;
    if let Some(vector) = p.irq {
        if p.irq_after > 0 {
            machine.run(Limits::instructions(machine.cpu.retired() + p.irq_after));
        }
        request_interrupt(&mut machine, vector);
    }
    let outcome = machine.run(Limits::instructions(end));
    // The run loop's own note, no part of the processor's state.
    machine.cpu.leave.set(false);
    let events = seen.0.take();
    let supervised = machine.monitor().map_or_else(Supervised::default, supervised);
    Ok(Ran { machine, events, outcome, supervised })
}

/// Puts the machine, as it stands, under the monitor of `cell`. A translated unit is no longer than the case, or it
/// would be run an instruction at a time: it is not begun where the clock ends within it.
fn supervise(machine: &mut Machine, cell: Cell, steps: u64) -> Result<(), String> {
    let config = vmm::Config { cell, shadow_frames: 64, ..vmm::Config::default() };
    vmm::install(machine, &config).map_err(|e| e.to_string())?;
    if let Some(translation) = machine.monitor_mut().and_then(Monitor::translation_mut) {
        translation.translator_mut().limits_mut().unit = steps as usize;
    }
    Ok(())
}

fn supervised(monitor: &dyn Monitor) -> Supervised {
    let counts = monitor.counts();
    let units = monitor.translation().map_or(0, |t| t.translator().runs().units);
    let changed_live_tables =
        monitor.shadow().is_some_and(|s| s.counts().changes.contains_key(&Change::Synced));
    Supervised { direct: counts.direct, translated: counts.translated, units, changed_live_tables }
}

/// Programs the interrupt controller so that its line 0 gives `vector` (a multiple of 8), and the timer so
/// that the line is raised before the next instruction.
fn request_interrupt(machine: &mut Machine, vector: u8) {
    let cpu = machine.cpu.clone();
    let writes = [
        (0x20, 0x11),
        (0x21, vector),
        (0x21, 4),
        (0x21, 1),
        (0x21, 0xfe),
        (0x43, 0x30),
        (0x40, 4),
        (0x40, 0),
    ];
    for (port, value) in writes {
        machine.world.port_out(&cpu, port, Width::Byte, u32::from(value));
    }
    machine.cpu.now += 1_000_000;
    machine.cpu.idle += 1_000_000;
}

/// What differs from what was expected, one line each.
fn compare(expected: &Expected, p: &Prepared, got: &Ran) -> String {
    let mut wrong = String::new();
    if got.events != expected.events {
        let list = |v: &[String]| if v.is_empty() { "none".to_owned() } else { v.join(" ") };
        line(&mut wrong, "exceptions", &list(&expected.events), &list(&got.events));
    }
    let shut_down = matches!(got.outcome, Outcome::TripleFault(_));
    if shut_down != expected.shutdown {
        line(&mut wrong, "shutdown", &expected.shutdown.to_string(), &shut_down.to_string());
    }
    let state = state::read(&got.machine.cpu);
    for (name, value) in &state {
        let want = expected.state[name];
        if *value != want {
            line(&mut wrong, name, &format!("{want:#x}"), &format!("{value:#x}"));
        }
    }
    compare_memory(expected, p, got, &mut wrong);
    wrong
}

fn line(wrong: &mut String, what: &str, expected: &str, got: &str) {
    let _ = writeln!(wrong, "    {what:<12} expected {expected}, got {got}");
}

fn compare_memory(expected: &Expected, p: &Prepared, got: &Ran, wrong: &mut String) {
    let low = low(got);
    let mut places: Vec<u32> = Vec::new();
    if low != expected.memory.low {
        places.extend(
            (0..STRICT).filter(|&a| low[a as usize] != expected.memory.low[a as usize]).map(|a| a & !3),
        );
    }
    for &at in expected.memory.high.keys().chain(p.memory.high.keys()) {
        let mut byte = [0];
        got.machine.world.map.read(GuestPhys(at), &mut byte);
        if u64::from(byte[0]) != expected.memory.get(at, 1) {
            places.push(at & !3);
        }
    }
    places.dedup();
    for at in places.into_iter().take(12) {
        let mut bytes = [0; 4];
        got.machine.world.map.read(GuestPhys(at), &mut bytes);
        let (want, value) = (expected.memory.get(at, 4), u32::from_le_bytes(bytes));
        line(wrong, &format!("mem {at:#x}"), &format!("{want:#010x}"), &format!("{value:#010x}"));
    }
}

/// Where two texts part.
fn first_difference(a: &str, b: &str) -> String {
    let same = a.bytes().zip(b.bytes()).take_while(|(x, y)| x == y).count();
    let from = same.saturating_sub(40);
    let excerpt = |text: &str| text.get(from..text.len().min(same + 40)).unwrap_or_default().to_owned();
    format!("`{}`, not `{}`", excerpt(b), excerpt(a))
}

fn low(ran: &Ran) -> Vec<u8> {
    let mut bytes = vec![0; STRICT as usize];
    ran.machine.world.map.read(GuestPhys(0), &mut bytes);
    bytes
}

/// Another way of running the case must end in the same state.
fn agree(fast: &Ran, (name, other): (&str, &Ran), wrong: &mut String) {
    if fast.events != other.events {
        line(wrong, name, &fast.events.join(" "), &other.events.join(" "));
    }
    if fast.outcome != other.outcome {
        line(wrong, name, &format!("{:?}", fast.outcome), &format!("{:?}", other.outcome));
    }
    if fast.machine.cpu != other.machine.cpu {
        let (a, b) = (state::read(&fast.machine.cpu), state::read(&other.machine.cpu));
        let names: Vec<_> = a.keys().filter(|n| a[*n] != b[*n]).cloned().collect();
        let hidden =
            || first_difference(&format!("{:?}", fast.machine.cpu), &format!("{:?}", other.machine.cpu));
        let what = if names.is_empty() { hidden() } else { names.join(" ") };
        line(wrong, name, "the fast path's state", &format!("another one: {what}"));
    }
    let (a, b) = (low(fast), low(other));
    if let Some(at) = (0..a.len()).find(|&at| a[at] != b[at]) {
        line(wrong, name, "the fast path's memory", &format!("another one at {at:#x}"));
    }
}
