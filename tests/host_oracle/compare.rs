//! Comparing two outcomes of one case, and printing a failure as one line: bytes, disassembly, the state before, and
//! what each side made of it. Undefined flags are kept apart: they are counted, not failures.

use super::case::*;
use super::fsave;
use super::models;
use super::x87;
use iced_x86::{Decoder, DecoderOptions, Formatter, NasmFormatter};
use std::fmt::Write;

/// What a comparison found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// All that the manual defines agrees.
    pub agrees: bool,
    /// Flags that the manual leaves undefined, and that differ.
    pub undefined: u32,
    /// The largest difference between x87 registers, in units in the last place.
    pub ulps: u64,
}

/// What the host may do before a fault and we do not: named here, with the reason, and nowhere else.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Liberty {
    None,
    /// POPA that faults between its pops restarts from the unchanged ESP, and may have loaded registers already.
    Registers,
    /// A far CALL whose second push faults may have stored the first one below the unchanged ESP.
    Memory,
    /// Repeated CMPS and SCAS: the manual gives EFLAGS back as they were before the instruction (SDM vol. 2, REP);
    /// AMD's processors leave those of the last iteration that was complete.
    Flags,
}

/// Whether the faults are the same. Where CMPS can read neither operand, the host may report the one at EDI and we the one
/// at ESI; which comes first we take to be open. Anything else must be equal.
fn same_fault(case: &Case, host: &Outcome, ours: &Outcome) -> bool {
    let (_, code) = case.split();
    // Code of either size has its data in the same low 64 KiB: the low halves of address and index register tell.
    let within = |f: &Fault, index: u32| match (f.vector, f.error) {
        (12 | 13, 0) => true,
        (14, 4) => (f.cr2 as u16).wrapping_sub(index as u16) < 4,
        _ => false,
    };
    match (&host.fault, &ours.fault) {
        (Some(a), Some(b)) if a != b && matches!(code, [0xa6 | 0xa7, ..]) => {
            within(a, host.regs[7]) && within(b, ours.regs[6])
        }
        (a, b) => a == b,
    }
}

fn liberty(case: &Case, host: &Outcome) -> Liberty {
    let (prefixes, code) = case.split();
    let repeated = prefixes.iter().any(|byte| *byte >= 0xf2);
    if host.fault.is_none() {
        return Liberty::None;
    }
    match code {
        [0x61, ..] => Liberty::Registers,
        [0x9a, ..] => Liberty::Memory,
        [0xff, modrm, ..] if modrm >> 3 & 7 == 3 => Liberty::Memory,
        [0xa6 | 0xa7 | 0xae | 0xaf, ..] if repeated => Liberty::Flags,
        _ => Liberty::None,
    }
}

/// Compares what the host and the other side made of `case`, as they are and then as the host's model has it.
pub fn compare(case: &Case, host: &Outcome, ours: &Outcome) -> Verdict {
    let verdict = compare_as_they_are(case, host, ours);
    if verdict.agrees {
        return verdict;
    }
    let brought = models::of_host(case, host, ours);
    brought.map_or(verdict, |ours| compare_as_they_are(case, host, &ours))
}

/// Where the host has a liberty, we must have done nothing.
fn compare_as_they_are(case: &Case, host: &Outcome, ours: &Outcome) -> Verdict {
    let liberty = liberty(case, host);
    let registers = match liberty {
        Liberty::Registers => host.regs[4] == ours.regs[4] && ours.regs == case.regs,
        _ => host.regs == ours.regs,
    };
    let memory = host.memory == ours.memory || (liberty == Liberty::Memory && ours.memory == case.memory);
    let differ = match liberty {
        Liberty::Flags => (case.eflags ^ ours.eflags) & COMPARED,
        _ => (host.eflags ^ ours.eflags) & COMPARED,
    };
    // A fault leaves no result, so it leaves nothing undefined.
    let undefined = match host.fault {
        Some(_) => 0,
        None if fsave::pending(&host.fpu) => case.undefined | case.undefined_pending,
        None => case.undefined,
    };
    let (same_fpu, ulps) = x87::compare(case, &host.fpu, &ours.fpu);
    let agrees = same_fault(case, host, ours)
        && registers
        && host.eip == ours.eip
        && host.segs == ours.segs
        && memory
        && same_fpu
        && differ & !undefined == 0;
    Verdict { agrees, undefined: differ & undefined & case.undefined, ulps }
}

/// The instruction in assembly.
pub fn disassemble(case: &Case) -> String {
    let bits = if case.mode == Mode::Code32 { 32 } else { 16 };
    let mut decoder = Decoder::with_ip(bits, &case.code, case.eip.into(), DecoderOptions::NONE);
    let mut text = String::new();
    NasmFormatter::new().format(&decoder.decode(), &mut text);
    text
}

/// The names of the set flags.
pub fn flag_names(flags: u32) -> String {
    let names: Vec<&str> = FLAGS.iter().filter(|(_, bit)| flags & bit != 0).map(|f| f.0).collect();
    names.join("+")
}

const NAMES: [&str; 8] = ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"];

/// One line about a case on which the sides disagree. Of the outcomes it gives what changed or differs.
pub fn describe(form: &str, case: &Case, host: &Outcome, ours: &Outcome) -> String {
    let mut line = format!("{form}: ");
    for byte in &case.code {
        let _ = write!(line, "{byte:02x}");
    }
    let _ = write!(line, " `{}` at {:x} |", disassemble(case), case.eip);
    for (name, value) in NAMES.iter().zip(case.regs) {
        let _ = write!(line, " {name}={value:x}");
    }
    let _ = write!(line, " fl={:x}", case.eflags);
    for w in &case.windows {
        let _ = write!(line, " [{:x}]=", w.addr);
        for byte in &case.memory[w.at as usize..(w.at + w.len.min(48)) as usize] {
            let _ = write!(line, "{byte:02x}");
        }
    }
    line += &x87::describe(&case.fpu, &[]);
    for (side, out) in [("host", host), ("ours", ours)] {
        let _ = write!(line, " | {side}:");
        describe_outcome(&mut line, case, out, if side == "host" { ours } else { host });
    }
    line
}

/// What one side changed, or what differs from the other side.
fn describe_outcome(line: &mut String, case: &Case, out: &Outcome, other: &Outcome) {
    if let Some(f) = out.fault {
        let _ = write!(line, " #{} error {:x} cr2 {:x}", f.vector, f.error, f.cr2);
    }
    for (i, name) in NAMES.iter().enumerate() {
        if out.regs[i] != case.regs[i] || out.regs[i] != other.regs[i] {
            let _ = write!(line, " {name}={:x}", out.regs[i]);
        }
    }
    let _ = write!(line, " eip={:x} fl={:x}", out.eip, out.eflags & COMPARED);
    *line += &x87::describe(&out.fpu, &other.fpu);
    if out.segs != other.segs {
        let _ = write!(line, " ds,es,ss={:x?}", out.segs);
    }
    for w in &case.windows {
        for i in 0..w.len {
            let at = (w.at + i) as usize;
            if out.memory.get(at) != other.memory.get(at) {
                let _ = write!(line, " [{:x}]={:02x}", w.addr + i, out.memory.get(at).copied().unwrap_or(0));
            }
        }
    }
}
