//! The chain of exceptions and the last events as lines: each error code taken apart, each walk that it leads
//! to.

use super::facts::{Facts, event_name};
use super::walk::{Wrong, descriptor_line, gate, gate_lines, page_lines};
use super::{Ending, Step};
use crate::cpu::fault::{pf, vector_name};
use crate::cpu::vmx::refusal::{Refusal, RefusedEntry};
use crate::cpu::vmx::words;
use crate::cpu::{Cr0, Eflags, Fault, Selector, Vector};
use crate::exec::event::Event;
use crate::machine::history::Record;

/// The steps of a triple fault: the events tried, and the last fault, which nothing was left to deliver.
pub(super) fn steps(f: &Facts<'_>) -> Vec<Step> {
    let mut steps = refused_entry(f);
    let Ending::TripleFault(t) = f.ending else {
        steps.extend(handled_steps(f));
        return steps;
    };
    for (n, link) in f.chain.iter().enumerate() {
        let how = if n == 0 { "first" } else { "then" };
        let event = format!("{how} {}, EIP {}", event_name(link.record.event), f.place(link.record.eip));
        let fault = fault_of(link.record.event);
        let mut tried = step(f, event, fault);
        tried.walk.extend(target_lines(f, link.record.event.vector()));
        steps.push(tried);
        // What turned into the double fault has no event of its own.
        let doubled = f.chain.get(n + 1).and_then(|next| fault_of(next.record.event));
        if doubled.is_some_and(|d| d.is(Vector::Df)) {
            let met = link.met.unwrap_or(t.second);
            steps.push(step(f, format!("met {met} while delivering that: a double fault"), Some(met)));
        }
    }
    steps.push(step(
        f,
        format!("met {} while delivering the double fault: the processor shuts down", t.third),
        Some(t.third),
    ));
    steps
}

/// The last VM entry, if it was refused, and the field that was wrong.
fn refused_entry(f: &Facts<'_>) -> Vec<Step> {
    let Some(RefusedEntry { from, refusal, .. }) = f.refused_entry() else { return Vec::new() };
    let walk = match refusal {
        Refusal::Check { failure, value } => {
            let (field, value) = (words::field(failure.field), words::value(failure.field, value));
            vec![format!("{field}  {value}  <- {}", failure.why)]
        }
        _ => Vec::new(),
    };
    let (instruction, when) = (from.instruction(), from.when.instructions);
    let event =
        format!("{instruction} at {}, after {when} instructions: {}", f.place(from.eip), refusal.outcome());
    vec![Step { event, code: Vec::new(), walk }]
}

/// The steps of a chain of events that ended in a handler which did not return.
fn handled_steps(f: &Facts<'_>) -> Vec<Step> {
    if !f.last_is_fatal() {
        return Vec::new();
    }
    let mut steps: Vec<Step> = Vec::new();
    for (n, link) in f.chain.iter().enumerate() {
        let how = if n == 0 { "first" } else { "then" };
        let event = format!("{how} {}, EIP {}", event_name(link.record.event), f.place(link.record.eip));
        steps.push(step(f, event, fault_of(link.record.event)));
    }
    if f.handled {
        steps.push(step(f, "its handler ran, and did not return".into(), None));
    }
    steps
}

/// The walk through the gate of `vector` where it fails behind the gate: no error code leads there by itself.
fn target_lines(f: &Facts<'_>, vector: u8) -> Vec<String> {
    let behind = |w| {
        use Wrong::*;
        matches!(w, Selector(_) | NotCode | CodeNotPresent | InnerToOuter | Offset)
    };
    if f.cpu.protected() && gate(f, vector).wrong.is_some_and(behind) {
        gate_lines(f, vector)
    } else {
        Vec::new()
    }
}

fn fault_of(event: Event) -> Option<Fault> {
    match event {
        Event::Exception(f) | Event::Software(f) => Some(f),
        _ => None,
    }
}

fn step(f: &Facts<'_>, event: String, fault: Option<Fault>) -> Step {
    let Some(fault) = fault else { return Step { event, code: Vec::new(), walk: Vec::new() } };
    Step { event, code: code_lines(fault), walk: walk_lines(f, fault) }
}

/// An error code bit by bit.
pub(super) fn code_lines(fault: Fault) -> Vec<String> {
    let Some(code) = fault.code() else { return Vec::new() };
    if fault.is(Vector::Pf) {
        let either =
            |mask, on: &str, off: &str| if code & mask != 0 { on.to_owned() } else { off.to_owned() };
        return vec![
            either(
                pf::PRESENT,
                "bit 0 P=1: the page is present, the access is not allowed",
                "bit 0 P=0: not present",
            ),
            either(pf::WRITE, "bit 1 W=1: a write", "bit 1 W=0: a read or a fetch"),
            either(
                pf::USER,
                "bit 2 U=1: from ring 3",
                "bit 2 U=0: from ring 0-2, or by the processor itself",
            ),
            either(pf::RESERVED, "bit 3 RSVD=1: a reserved bit is set in an entry", "bit 3 RSVD=0"),
        ];
    }
    if fault.is(Vector::Df) || fault.is(Vector::Ac) || code == 0 {
        return Vec::new();
    }
    let table = match code & 6 {
        0 => "IDT=0 TI=0: the GDT",
        4 => "IDT=0 TI=1: the LDT",
        _ => "IDT=1: the IDT",
    };
    let ext = if code & 1 != 0 {
        "EXT=1: met while another event was delivered"
    } else {
        "EXT=0: the program's own doing"
    };
    vec![format!("bits 3-15 index {:#x}", code >> 3), format!("bits 1-2 {table}"), format!("bit 0 {ext}")]
}

/// The tables that an error code or an address names.
fn walk_lines(f: &Facts<'_>, fault: Fault) -> Vec<String> {
    if let Some(at) = fault.address() {
        return if f.cpu.cr0.contains(Cr0::PG) {
            page_lines(f, at, fault.code().unwrap_or(0))
        } else {
            Vec::new()
        };
    }
    let selects = [Vector::Ts, Vector::Np, Vector::Ss, Vector::Gp].into_iter().any(|v| fault.is(v));
    match fault.code() {
        Some(code) if selects && f.cpu.protected() && code & 2 != 0 => gate_lines(f, (code >> 3) as u8),
        Some(code) if selects && f.cpu.protected() && code & !1 != 0 => {
            vec![descriptor_line(f, Selector(code & !3), None)]
        }
        _ => Vec::new(),
    }
}

/// The last events, with the changes of mode between them.
pub(super) fn events(f: &Facts<'_>) -> Vec<String> {
    let mut lines = Vec::new();
    let mut mode: Option<String> = None;
    for r in &f.history {
        let now = mode_of(r);
        if mode.as_ref().is_some_and(|before| *before != now) {
            lines.push(format!("{:>12}  mode: {now}", r.when.instructions));
        }
        mode = Some(now);
        let met = if r.chained { ", met while delivering that" } else { "" };
        let tick = match r.when.ticks == r.when.instructions {
            true => String::new(),
            false => format!("  tick {}", r.when.ticks),
        };
        let (when, event) = (r.when.instructions, event_name(r.event));
        lines.push(format!("{when:>12}  {:04x}:{:08x}  {event}{met}{tick}", r.cs, r.eip));
    }
    lines
}

fn mode_of(r: &Record) -> String {
    let mode = match (r.cr0.contains(Cr0::PE), r.flags.contains(Eflags::VM)) {
        (false, _) => "real mode".to_owned(),
        (true, true) => "virtual-8086 mode".to_owned(),
        (true, false) => format!("protected mode, ring {}", r.cpl),
    };
    if r.cr0.contains(Cr0::PG) { mode + ", paging on" } else { mode }
}

/// The manual's name of a vector, or its number.
pub(super) fn vector_text(vector: u8) -> String {
    match vector_name(vector) {
        "interrupt" => format!("vector {vector:#04x}"),
        name => format!("{name}, vector {vector:#04x}"),
    }
}
