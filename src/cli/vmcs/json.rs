//! What `subring vmcs --json` prints: one object. Values and addresses are numbers.

use super::Moment;
use super::text::meanings;
use crate::cpu::vmx::field::Area;
use crate::cpu::vmx::refusal::{Refusal, RefusedEntry};
use crate::cpu::vmx::words::{self, LastExit, named};
use crate::cpu::vmx::{Field, Interruption, Operation};
use serde_json::{Value, json};

/// The moment.
pub(super) fn moment(m: &Moment<'_>) -> String {
    let cpu = &m.machine.cpu;
    let fields: Vec<Value> = match m.vmx.current {
        Some(_) => Field::ALL.iter().filter(|f| m.vmx.has(**f)).map(|f| field(m, *f)).collect(),
        None => Vec::new(),
    };
    let object = json!({
        "guest": m.guest,
        "cpu": cpu.model.to_string(),
        "how": m.how,
        "instructions": cpu.retired(),
        "eip": cpu.eip,
        "symbol": m.names.of(cpu.eip),
        "operation": match m.vmx.operation {
            Operation::Off => "off",
            Operation::Root => "root",
            Operation::NonRoot => "non-root",
        },
        "vmcs": m.vmx.current,
        "launched": m.vmx.current.map(|_| m.vmx.vmcs.launched),
        "entries": m.vmx.entries,
        "exits": m.vmx.exits,
        "last_exit": m.last_exit.map(last_exit),
        "refused_entry": m.refused.map(|refused| refused_entry(m, refused)),
        "next_entry_passes": m.next_entry.map(|checks| checks.is_ok()),
        "next_entry_fails_for": m.next_entry.and_then(Result::err).map(|refusal| refusal.sentence(m.vmx)),
        "fields": fields,
    });
    object.to_string() + "\n"
}

fn field(m: &Moment<'_>, field: Field) -> Value {
    let value = m.vmx.vmcs.get(field);
    let area = match field.area() {
        Area::Control => "control",
        Area::ExitInformation => "exit-information",
        Area::Guest => "guest",
        Area::Host => "host",
    };
    let mut object = json!({
        "encoding": field.encoding(), "name": field.name(), "area": area, "value": value,
    });
    let meaning = meanings(m, field, value as u32).join("; ");
    if let Some(bits) = named(field) {
        object["set"] = json!(bits.set(value as u32));
    } else if !meaning.is_empty() {
        object["meaning"] = json!(meaning);
    }
    object
}

fn last_exit(exit: LastExit) -> Value {
    let event = |event: Interruption| json!({ "vector": event.vector, "type": event.kind.name(), "error_code": event.code });
    json!({
        "number": exit.number,
        "reason": exit.name(),
        "entry_failed": exit.entry_failed,
        "qualification": exit.qualification,
        "details": exit.details(),
        "event": exit.event.map(event),
        "vectoring": exit.vectoring.map(event),
        "length": exit.length,
    })
}

fn refused_entry(m: &Moment<'_>, refused: RefusedEntry) -> Value {
    let (from, refusal) = (refused.from, refused.refusal);
    let check = match refusal {
        Refusal::Check { failure, value } => json!({
            "field": failure.field.name(),
            "encoding": failure.field.encoding(),
            "value": value,
            "section": failure.section,
        }),
        _ => Value::Null,
    };
    json!({
        "instruction": from.instruction(),
        "instructions": from.when.instructions,
        "cs": from.cs,
        "eip": from.eip,
        "symbol": m.names.of(from.eip),
        "outcome": refusal.outcome(),
        "error": refusal.error(),
        "error_meaning": refusal.error().and_then(words::instruction_error),
        "check": check,
        "sentence": refusal.sentence(m.vmx),
    })
}
