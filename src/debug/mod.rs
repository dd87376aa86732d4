//! What happened to a guest that died, in plain English.
//!
//! [`post_mortem`] reads a machine whose run has ended and gives a [`Report`]: the chain of exceptions with
//! their error codes taken apart (SDM vol. 3, 6.13 and 4.7), the descriptors and page-table entries they
//! blame, the code around EIP, who called it, the last events, and which usual mistake looks like this
//! ([`diagnose`]). It changes nothing in the machine. [`explain()`] makes the report's text. `cli` calls both
//! when a run ends badly.

mod chain;
mod code;
pub mod explain;
mod facts;
pub mod gdb;
pub mod rules;
mod scene;
pub mod source;
mod walk;

use crate::cpu::vmx::Abort;
use crate::exec::event::TripleFault;
use crate::machine::Machine;
use crate::symbols::Symbol;
pub use explain::explain;
use facts::Facts;
pub use rules::{Diagnosis, diagnose};
use scene::Scene;
use serde::Serialize;
use source::{Excerpt, Function, Place, Source};

/// How the run ended, as far as a post-mortem may have to say something about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The processor shut down.
    TripleFault(TripleFault),
    /// A VM exit of the guest's own hypervisor could not be completed.
    VmxAbort(Abort),
    /// HLT that nothing will end.
    HaltedForever,
    /// A limit of instructions or of time was reached.
    Limit,
    /// The guest ended the run with this status.
    Exit(u8),
    /// The run was to stop at an event, which is about to be delivered.
    Event,
    /// Another end: power off, a reset, the user left.
    Other,
}

/// One link of the chain of exceptions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What was to be delivered, and where.
    pub event: String,
    /// Its error code, bit by bit.
    pub code: Vec<String>,
    /// The table entries that it leads to, one a line; what is wrong with one stands behind `<-`.
    pub walk: Vec<String>,
}

/// One line of disassembly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CodeLine {
    /// The offset in the code segment.
    pub eip: u32,
    /// The symbol, if it starts here or is the first line's.
    pub symbol: Option<String>,
    /// The bytes.
    pub bytes: String,
    /// The instruction.
    pub text: String,
    /// Whether EIP is here.
    pub current: bool,
    /// The source line, if it is another than the one before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Place>,
    /// Its text, if the file is at hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_text: Option<String>,
}

/// One frame of the backtrace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Caller {
    /// Where it is, or will go on.
    pub eip: u32,
    /// The symbol and offset.
    pub symbol: Option<String>,
    /// The source line in the function that the symbol names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Place>,
    /// The functions that are inlined there, the innermost first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub inlined: Vec<Function>,
}

/// All that there is to say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// What happened, in a sentence.
    pub what: String,
    /// The usual mistakes that look like this, the likeliest first.
    pub diagnoses: Vec<Diagnosis>,
    /// The chain of exceptions.
    pub chain: Vec<Step>,
    /// The registers.
    pub registers: String,
    /// The source around EIP, if the file is at hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Excerpt>,
    /// Why there are no source lines, or not all, though there is debug information.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_trouble: Option<String>,
    /// The code around EIP.
    pub code: Vec<CodeLine>,
    /// Who called it, by frame pointers, the innermost first.
    pub backtrace: Vec<Caller>,
    /// The last exceptions, interrupts and changes of mode, the oldest first.
    pub events: Vec<String>,
}

/// Why this guest died; `None` when it did not: a limit stopped a guest that was not stuck, or it ended the
/// run with status 0, or with another one and neither in the handler of an exception nor with the last VM
/// entry of its own hypervisor refused.
pub fn post_mortem(
    machine: &Machine,
    ending: &Ending,
    symbols: &[Symbol],
    source: Option<&Source>,
) -> Option<Report> {
    let scene = scene_of(machine, *ending);
    let refused = machine.world.last_refused_entry(&machine.cpu).is_some();
    let wanted = match ending {
        Ending::TripleFault(_) | Ending::VmxAbort(_) | Ending::HaltedForever | Ending::Event => true,
        Ending::Exit(0) => false,
        Ending::Exit(_) | Ending::Other => scene.handled || refused,
        Ending::Limit => true,
    };
    let report = wanted.then(|| report(machine, *ending, symbols, source, &scene))?;
    (*ending != Ending::Limit || !report.diagnoses.is_empty()).then_some(report)
}

/// The report of a guest that need not have died.
pub fn any_report(machine: &Machine, ending: &Ending, symbols: &[Symbol], source: Option<&Source>) -> Report {
    report(machine, *ending, symbols, source, &scene_of(machine, *ending))
}

/// Where the post-mortem looks. A guest that a limit met in a handler may be well: only if it is stuck there,
/// the exception is to blame.
fn scene_of(machine: &Machine, ending: Ending) -> Scene {
    let end = Scene::end(machine);
    let may_be_handled = match ending {
        Ending::TripleFault(_) | Ending::VmxAbort(_) | Ending::Event => false,
        Ending::Limit => rules::stuck(&Facts::new(machine, ending, &[], None, &end)),
        Ending::HaltedForever | Ending::Exit(_) | Ending::Other => true,
    };
    Scene::unreturned(machine).filter(|_| may_be_handled).unwrap_or(end)
}

fn report(
    machine: &Machine,
    ending: Ending,
    symbols: &[Symbol],
    source: Option<&Source>,
    scene: &Scene,
) -> Report {
    let facts = Facts::new(machine, ending, symbols, source, scene);
    let diagnoses = diagnose(&facts);
    let backtrace = code::backtrace(&facts);
    Report {
        what: facts.what(),
        diagnoses,
        chain: chain::steps(&facts),
        registers: if scene.handled { machine.registers_of(facts.cpu) } else { machine.registers() },
        source: code::excerpt(&facts, &backtrace),
        code: code::around(&facts),
        backtrace,
        events: chain::events(&facts),
        source_trouble: source.and_then(Source::trouble),
    }
}
