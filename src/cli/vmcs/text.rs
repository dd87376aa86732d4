//! What `subring vmcs` prints for people: the answer first, then the fields in the manual's groups (SDM vol.
//! 3, 24.3), each with its encoding.

use super::Moment;
use crate::cli::columns::wrapped;
use crate::cpu::vmx::field::{Area, SEGMENTS};
use crate::cpu::vmx::refusal::RefusedEntry;
use crate::cpu::vmx::words::{self, LastExit, named};
use crate::cpu::vmx::{Field, Interruption, Operation};
use crate::decode::SegReg;
use crate::lab::digits::grouped;
use std::fmt::Write;

/// Where the answer's sentences begin.
const ANSWER: usize = 12;
/// Where what a field means begins.
const MEANING: usize = 8;

/// Everything, for people.
pub(super) fn text(m: &Moment<'_>) -> String {
    let mut out = String::new();
    head(&mut out, m);
    if m.vmx.current.is_some() {
        guest_state(&mut out, m);
        area(&mut out, m, "Host-state area", |field| field.area() == Area::Host);
        area(&mut out, m, "VM-execution control fields", is_execution_control);
        area(&mut out, m, "VM-exit control fields", is_exit_control);
        area(&mut out, m, "VM-entry control fields", is_entry_control);
        area(&mut out, m, "VM-exit information fields", |field| field.area() == Area::ExitInformation);
    }
    out
}

/// A labelled sentence in lines that fit.
fn say(out: &mut String, label: &str, sentence: &str) {
    *out += &wrapped(&format!("{label:<ANSWER$}{sentence}"), ANSWER);
}

fn head(out: &mut String, m: &Moment<'_>) {
    say(out, "VMCS", &current(m));
    if m.vmx.current.is_some() {
        last_exit(out, m.last_exit);
    }
    if let Some(refused) = m.refused {
        last_entry(out, m, refused);
    }
    next_entry(out, m);
    let cpu = &m.machine.cpu;
    let cs = cpu.seg(SegReg::Cs).selector.0;
    let name = m.names.of(cpu.eip).map_or(String::new(), |name| format!(" ({name})"));
    let (model, retired) = (cpu.model, grouped(cpu.retired()));
    let place = format!("after {retired} instructions, at {cs:04x}:{:08x}{name}", cpu.eip);
    say(out, "run", &format!("{} on {model}, {}: {place}", m.guest, m.how));
}

/// Where the current structure is, and in which state; or why there is none.
fn current(m: &Moment<'_>) -> String {
    let vmx = m.vmx;
    if vmx.operation == Operation::Off {
        return "none: the processor is not in VMX operation; VMXON begins that".into();
    }
    let Some(at) = vmx.current else {
        return "none is current: VMXON has been executed, and no VMPTRLD since, or a VMCLEAR of the current one"
            .into();
    };
    let launched = if vmx.vmcs.launched { "launched" } else { "clear (not launched)" };
    let runs = match vmx.operation {
        Operation::NonRoot => "its guest runs; the guest-state area is of the last VM entry or VM exit",
        _ => "the hypervisor runs",
    };
    format!("at {at:#010x}, launch state {launched}; {runs}")
}

fn last_exit(out: &mut String, exit: Option<LastExit>) {
    let Some(exit) = exit else { return say(out, "last exit", "none yet") };
    let details = exit.details();
    let colon = if details.is_empty() { "" } else { ": " };
    let length = exit.length.map_or(String::new(), |n| format!("; instruction of {n} bytes"));
    say(
        out,
        "last exit",
        &format!("reason {}, {}{colon}{}{length}", exit.number, exit.name(), details.join("; ")),
    );
}

fn last_entry(out: &mut String, m: &Moment<'_>, refused: RefusedEntry) {
    let (from, refusal) = (refused.from, refused.refusal);
    let name = m.names.of(from.eip).map_or(String::new(), |name| format!(" ({name})"));
    let instruction = from.instruction();
    let at = format!(
        "{instruction} at {:#010x}{name}, after {} instructions",
        from.eip,
        grouped(from.when.instructions)
    );
    say(out, "last entry", &format!("refused: {at}: {}", refusal.outcome()));
    say(out, "", &refusal.sentence(m.vmx));
}

/// What the checks of an entry say of the structure as it is now. What a refused entry failed for is not said
/// again.
fn next_entry(out: &mut String, m: &Moment<'_>) {
    let Some(checks) = m.next_entry else { return };
    if m.refused.is_some_and(|refused| Err(refused.refusal) == checks) {
        return;
    }
    match checks {
        Ok(()) => say(out, "next entry", "passes the checks of controls, host state and guest state"),
        Err(refusal) => {
            say(out, "next entry", &format!("fails, as the VMCS is now: {}", refusal.outcome()));
            say(out, "", &refusal.sentence(m.vmx));
        }
    }
}

/// The fields of an area, a line each, and what their values mean.
fn area(out: &mut String, m: &Moment<'_>, title: &str, is: impl Fn(Field) -> bool) {
    _ = writeln!(out, "\n{title}");
    for &field in Field::ALL.iter().filter(|field| is(**field) && m.vmx.has(**field)) {
        line(out, m, field);
    }
}

fn line(out: &mut String, m: &Moment<'_>, field: Field) {
    let value = m.vmx.vmcs.get(field);
    let shown = words::value(field, value);
    _ = writeln!(out, "  {:04x}  {:<47} {shown:>18}", field.encoding(), field.name());
    for meaning in meanings(m, field, value as u32) {
        *out += &wrapped(&format!("{:MEANING$}{meaning}", ""), MEANING + 8);
    }
}

/// What the value of `field` means, in phrases.
pub(super) fn meanings(m: &Moment<'_>, field: Field, value: u32) -> Vec<String> {
    if let Some(bits) = named(field) {
        let (set, clear) = (bits.set(value), bits.clear(value, offered(m, field)));
        let phrase = |label: &str, names: Vec<String>| {
            (!names.is_empty()).then(|| format!("{label:<8}{}", names.join(", ")))
        };
        return [phrase("set", set), phrase("clear", clear)].into_iter().flatten().collect();
    }
    let event = |code| Interruption::of(value, m.vmx.vmcs.get32(code)).map(words::interruption);
    let meaning = match field {
        Field::ExitReason => m.last_exit.map(|exit| exit.name().to_owned()),
        Field::ExitQualification => m.last_exit.and_then(qualification),
        Field::ExitInterruption => event(Field::ExitErrorCode),
        Field::IdtVectoring => event(Field::IdtVectoringErrorCode),
        Field::EntryInterruption => event(Field::EntryErrorCode),
        Field::InstructionError => words::instruction_error(value).map(str::to_owned),
        Field::Activity => Some(words::activity(value).to_owned()),
        _ => None,
    };
    meaning.into_iter().collect()
}

fn qualification(exit: LastExit) -> Option<String> {
    words::qualification(exit.reason?, exit.qualification, exit.event)
}

/// The controls of `field` that this processor lets a hypervisor choose.
fn offered(m: &Moment<'_>, field: Field) -> u32 {
    let caps = &m.vmx.caps;
    match field {
        Field::PinControls => caps.pin.may,
        Field::PrimaryControls => caps.primary.may,
        Field::SecondaryControls => caps.secondary.map_or(0, |allowed| allowed.may),
        Field::ExitControls => caps.exit.may,
        Field::EntryControls => caps.entry.may,
        _ => 0,
    }
}

/// Segment registers' names, in the order of [`SEGMENTS`].
const SEGMENT_NAMES: [&str; 8] = ["ES", "CS", "SS", "DS", "FS", "GS", "LDTR", "TR"];

/// The guest-state area: registers, segments as a table, the rest (SDM vol. 3, 24.4).
fn guest_state(out: &mut String, m: &Moment<'_>) {
    area(out, m, "Guest-state area", |field| field.area() == Area::Guest && !is_segment(field));
    let vmcs = &m.vmx.vmcs;
    _ = writeln!(out, "\nGuest-state area: segment registers (encodings in the first line of each)");
    _ = writeln!(
        out,
        "  {:<5} {:>8}  {:>10}  {:>10}  {:>13}",
        "", "selector", "base", "limit", "access rights"
    );
    for (name, fields) in SEGMENT_NAMES.into_iter().zip(SEGMENTS) {
        let all = [fields.selector, fields.base, fields.limit, fields.rights];
        let [selector, base, limit, rights] = all.map(|field| format!("{:04x}h", field.encoding()));
        _ = writeln!(out, "  {name:<5} {selector:>8}  {base:>10}  {limit:>10}  {rights:>13}");
        let [selector, base, limit, rights] = all.map(|field| words::value(field, vmcs.get(field)));
        _ = writeln!(out, "  {:<5} {selector:>8}  {base:>10}  {limit:>10}  {rights:>13}", "");
        _ = writeln!(out, "        {}", words::rights(vmcs.get32(fields.rights)));
    }
}

fn is_segment(field: Field) -> bool {
    SEGMENTS.iter().any(|s| [s.selector, s.base, s.limit, s.rights].contains(&field))
}

fn is_exit_control(field: Field) -> bool {
    use Field::*;
    matches!(field, ExitControls | ExitMsrStore | ExitMsrLoad | ExitMsrStoreCount | ExitMsrLoadCount)
}

fn is_entry_control(field: Field) -> bool {
    use Field::*;
    matches!(
        field,
        EntryControls | EntryMsrLoad | EntryMsrLoadCount | EntryInterruption | EntryErrorCode | EntryLength
    )
}

fn is_execution_control(field: Field) -> bool {
    field.area() == Area::Control && !is_exit_control(field) && !is_entry_control(field)
}
