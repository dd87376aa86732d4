//! What a case says shall be afterwards: registers and memory, the exceptions on the way, and the frame that the
//! last of them leaves.
//!
//! `#GP(0x28)` stands for its delivery through the base environment's gates, worked out here from the manual (SDM
//! vol. 3, 6.12.1 and 20.1.4). A case about delivery itself names the exception with `event` and writes the rest out.

use crate::descriptor::hidden;
use crate::layout::number;
use crate::memory::Memory;
use crate::state::{self, RF, State, VM};

/// The state after a case.
pub struct Expected {
    pub state: State,
    pub memory: Memory,
    /// Exceptions and interrupts tried, in order, as [`crate::run::Seen`] names them.
    pub events: Vec<String>,
    pub shutdown: bool,
}

/// Exceptions by vector, and whether they push an error code.
#[rustfmt::skip]
const EXCEPTIONS: [(&str, u8, bool); 16] = [
    ("#DE", 0, false), ("#DB", 1, false), ("NMI", 2, false), ("#BP", 3, false), ("#OF", 4, false),
    ("#BR", 5, false), ("#UD", 6, false), ("#NM", 7, false), ("#DF", 8, true), ("#TS", 10, true),
    ("#NP", 11, true), ("#SS", 12, true), ("#GP", 13, true), ("#PF", 14, true), ("#MF", 16, false),
    ("#AC", 17, true),
];

/// The name that an exception has in a case's text, such as `#GP(0x28)`.
pub fn exception_name(vector: u8, code: Option<u16>) -> String {
    let name = EXCEPTIONS.iter().find(|e| e.1 == vector).map_or("#??", |e| e.0);
    code.map_or_else(|| name.to_owned(), |code| format!("{name}({code:#x})"))
}

/// Something delivered.
struct Delivery {
    vector: u8,
    code: Option<u32>,
    eip: u32,
    /// RF is set in the pushed flags.
    fault: bool,
    /// What is recorded of it; software interrupts are not.
    event: Option<String>,
}

/// Works out `output` for a case that starts with `before` and `memory`, whose first instruction ends at `next`.
pub fn work_out(before: &State, memory: &Memory, next: u32, output: &[String]) -> Result<Expected, String> {
    let mut e =
        Expected { state: before.clone(), memory: memory.clone(), events: Vec::new(), shutdown: false };
    e.state.insert("eip".to_owned(), next);
    let mut tokens = Vec::new();
    let mut directives = Vec::new();
    let mut last = None;
    for piece in output {
        match piece.split_whitespace().next() {
            Some("event") => e.events.extend(piece.split_whitespace().skip(1).map(normal)),
            Some("shutdown") => e.shutdown = true,
            Some(word) if is_directive(word) => directives.push(piece.as_str()),
            _ => tokens.extend(piece.split_whitespace()),
        }
    }
    let mut assignments = Vec::new();
    let mut frame = Vec::new();
    for token in tokens {
        if let Some(d) = delivery(token, before["eip"], next)? {
            e.events.extend(d.event.clone());
            last = Some(d);
        } else if let Some(part) = token.strip_prefix("frame.") {
            frame.push(part);
        } else {
            assignments.push(token);
        }
    }
    if let Some(d) = last {
        e.deliver(before, &d, &frame)?;
    } else if !frame.is_empty() {
        return Err("`frame.` needs an exception or interrupt that leaves a frame".to_owned());
    }
    if e.shutdown {
        e.state.insert("activity".to_owned(), 2);
        e.state.insert("eip".to_owned(), before["eip"]);
    }
    e.settle(&assignments, &directives)?;
    Ok(e)
}

/// `#GP(0X28)` and `#GP(40)` are the same.
fn normal(token: &str) -> String {
    match token.split_once('(').and_then(|(name, rest)| Some((name, number(rest.strip_suffix(')')?).ok()?))) {
        Some((name, code)) => format!("{name}({code:#x})"),
        None => token.to_owned(),
    }
}

fn is_directive(word: &str) -> bool {
    const WORDS: [&str; 15] = [
        "gdt", "ldt", "idt", "mem", "mem16", "mem32", "stack16:", "stack32:", "tss32", "tss16", "pte", "pde",
        "pte64", "pde64", "free",
    ];
    WORDS.contains(&word) || word == "accessed" || word == "busy"
}

/// Reads `#GP(0x28)`, `#DB@next`, `int(0x21)`, `irq(0x20)`.
fn delivery(token: &str, start: u32, next: u32) -> Result<Option<Delivery>, String> {
    let (head, at) = token.split_once('@').map_or((token, None), |(h, a)| (h, Some(a)));
    let (name, argument) = match head.split_once('(') {
        Some((name, rest)) => {
            let argument = rest.strip_suffix(')').ok_or_else(|| format!("`{token}` lacks its `)`"))?;
            (name, Some(number(argument)?))
        }
        None => (head, None),
    };
    let at = match at {
        Some("next") => Some(next),
        Some(n) => Some(number(n)?),
        None => None,
    };
    if name == "int" || name == "irq" {
        let vector = argument.ok_or_else(|| format!("`{token}` needs a vector"))? as u8;
        let eip = at.unwrap_or(if name == "int" { next } else { start });
        let event = (name == "irq").then(|| format!("irq({vector:#x})"));
        return Ok(Some(Delivery { vector, code: None, eip, fault: false, event }));
    }
    let Some(&(_, vector, has_code)) = EXCEPTIONS.iter().find(|e| e.0 == name) else { return Ok(None) };
    if has_code != argument.is_some() {
        return Err(format!("`{token}`: {name} has {} error code", if has_code { "an" } else { "no" }));
    }
    // #DB and #DF leave RF as it is, traps too (SDM vol. 3, 17.3.1.1).
    let fault = at.is_none() && vector != 1 && vector != 8;
    let event = Some(exception_name(vector, argument.map(|c| c as u16)));
    Ok(Some(Delivery { vector, code: argument, eip: at.unwrap_or(start), fault, event }))
}

/// Values that go to a stack, the highest first.
struct Pushes {
    ss_base: u32,
    esp: u32,
    mask: u32,
    width: u32,
}

impl Pushes {
    fn push(&mut self, memory: &mut Memory, value: u32) {
        self.esp = (self.esp & !self.mask) | (self.esp.wrapping_sub(self.width) & self.mask);
        let at = self.ss_base.wrapping_add(self.esp & self.mask);
        memory.put(at, &value.to_le_bytes()[..self.width as usize]);
    }
}

impl Expected {
    fn deliver(&mut self, before: &State, d: &Delivery, frame: &[&str]) -> Result<(), String> {
        let mut parts = before.clone();
        let flags = before["eflags"] | if d.fault { RF } else { 0 };
        parts.insert("eflags".to_owned(), flags);
        parts.insert("eip".to_owned(), d.eip);
        for part in frame {
            let (name, value) = part.split_once('=').ok_or("a frame's part needs a value")?;
            parts.insert(name.to_owned(), number(value)?);
        }
        if before["cr0"] & 1 == 0 { self.deliver_real(&parts, d) } else { self.deliver_protected(&parts, d) }
    }

    fn deliver_real(&mut self, parts: &State, d: &Delivery) -> Result<(), String> {
        let entry = self.memory.get(parts["idtr.base"] + 4 * u32::from(d.vector), 4) as u32;
        let flags = parts["eflags"] & !RF;
        self.push_all(parts, parts["esp"], 2, &[flags, parts["cs"], parts["eip"]]);
        self.state.insert("eip".to_owned(), entry & 0xffff);
        self.clear_flags(&[8, 9, 16, 18]);
        state::load_segment(&mut self.state, &self.memory, "cs", entry >> 16);
        Ok(())
    }

    fn deliver_protected(&mut self, parts: &State, d: &Delivery) -> Result<(), String> {
        let gate = self.memory.get(parts["idtr.base"] + 8 * u32::from(d.vector), 8);
        if (gate >> 40) & 0x9f != 0x8e {
            return Err(
                "not an `int32` gate: name the exception with `event` and write the rest out".to_owned()
            );
        }
        let selector = (gate >> 16) as u32 & 0xffff;
        let ctx = state::context(&self.state);
        let (_, _, attr) = hidden(self.memory.descriptor(selector, &ctx));
        let (cpl, v86) = (parts["cpl"], parts["eflags"] & VM != 0);
        let target = if attr & 0xc == 0xc { cpl } else { (attr >> 5) & 3 };
        let mut values = Vec::new();
        if v86 {
            values.extend(["gs", "fs", "ds", "es"].map(|s| parts[s]));
        }
        let mut esp = parts["esp"];
        if target < cpl {
            values.extend([parts["ss"], parts["esp"]]);
            esp = self.inner_stack(parts, target, v86);
        }
        values.extend([parts["eflags"], parts["cs"], parts["eip"]]);
        values.extend(d.code);
        let stack = self.state.clone();
        self.push_all(&stack, esp, 4, &values);
        self.clear_flags(&[8, 9, 14, 16, 17]);
        state::load_segment(&mut self.state, &self.memory, "cs", (selector & !3) | target);
        self.state.insert("eip".to_owned(), gate as u32 & 0xffff | (gate >> 32) as u32 & 0xffff_0000);
        Ok(())
    }

    /// Switches to the stack of level `cpl`, as the current TSS names it; returns its ESP.
    fn inner_stack(&mut self, parts: &State, cpl: u32, v86: bool) -> u32 {
        let tss = parts["tr.base"];
        let esp = self.memory.get(tss + 4 + 8 * cpl, 4) as u32;
        let ss = self.memory.get(tss + 8 + 8 * cpl, 2) as u32;
        if v86 {
            self.clear_flags(&[17]);
            for name in ["gs", "fs", "ds", "es"] {
                state::load_segment(&mut self.state, &self.memory, name, 0);
            }
        }
        state::load_segment(&mut self.state, &self.memory, "ss", ss);
        esp
    }

    fn push_all(&mut self, stack: &State, esp: u32, width: u32, values: &[u32]) {
        let mask = if stack["ss.attr"] & 0x400 != 0 { !0 } else { 0xffff };
        let mut pushes = Pushes { ss_base: stack["ss.base"], esp, mask, width };
        for &value in values {
            pushes.push(&mut self.memory, value);
        }
        self.state.insert("esp".to_owned(), pushes.esp);
    }

    fn clear_flags(&mut self, bits: &[u32]) {
        let flags = bits.iter().fold(self.state["eflags"], |f, b| f & !(1 << b));
        self.state.insert("eflags".to_owned(), flags);
    }

    /// Registers first, then memory (the stack's place depends on ESP), then segment registers once more, since what
    /// they hold follows from descriptors.
    fn settle(&mut self, assignments: &[&str], directives: &[&str]) -> Result<(), String> {
        state::assign(&mut self.state, &self.memory, assignments)?;
        for directive in directives {
            let ctx = state::context(&self.state);
            self.memory.directive(directive, &ctx)?;
        }
        state::assign(&mut self.state, &self.memory, assignments)
    }
}
