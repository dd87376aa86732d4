//! The user-mode half of the classification on the host's own processor (`subring classify --host`): every
//! form that is not innocuous, at CPL 3, in 32-bit code of an x86-64 Linux process. It shows which trap and
//! which run, and what they tell. Instructions run in a child process, so that nothing they do reaches the
//! command.

use super::forms::{Form, all};
use super::host_cpu::{self, FLAT, OPERAND};
use super::{Class, Mode, Setting, judge};
use crate::decode::{Op, Place, SegReg};
use std::io::Write;

/// What the host's processor did with a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Did {
    /// An exception with this vector.
    Trapped(u32),
    /// No exception; what the instruction shows.
    Ran(String),
    /// The child process did not survive the instruction.
    Died(String),
}

/// A form, our class for it at CPL 3 with IOPL 0, and what the host did.
#[derive(Clone, Debug)]
pub struct Line {
    /// The form.
    pub form: Form,
    /// Our class.
    pub class: Class,
    /// What the host did.
    pub did: Did,
}

impl Line {
    /// Whether the host did what our class says: privileged forms trap, escaping ones run.
    pub fn agrees(&self) -> bool {
        match self.class {
            Class::Privileged => matches!(self.did, Did::Trapped(_)),
            Class::ControlSensitive | Class::BehaviourSensitive => matches!(self.did, Did::Ran(_)),
            _ => !matches!(self.did, Did::Died(_)),
        }
    }
}

/// What is left out of the host's run, and why.
pub const LEFT_OUT: [&str; 4] = [
    "far CALL, JMP and RET, IRET: where they lead is the host kernel's tables' affair",
    "INT n and SYSENTER: they are system calls",
    "loads of FS: the thread's storage is there",
    "innocuous forms: tests/host_oracle compares their results",
];

/// The forms that the host runs, in order.
fn forms(seed: u64) -> Vec<(Form, Class)> {
    let setting = Setting { mode: Mode::Cpl3, iopl: 0, umip: false };
    let judged = |f: Form| {
        let class = judge(&f, setting, seed, 64).class;
        (f, class)
    };
    let chosen =
        |(f, class): &(Form, Class)| runs(f) && !matches!(class, Class::Innocuous | Class::Undefined);
    all(true).built.into_iter().map(judged).filter(chosen).collect()
}

fn runs(f: &Form) -> bool {
    use Op::*;
    let fs = SegReg::Fs as u8;
    match f.insn.op {
        JmpFar | JmpFarMem | CallFar | CallFarMem | Retf | Iret | Int | Sysenter => false,
        MovToSeg | PopSeg => f.insn.dst_reg != fs,
        LoadFar => f.insn.extra != fs,
        _ => true,
    }
}

/// The child's part: runs the forms from number `from` on and prints a line for each.
///
/// # Errors
/// A sentence, when the host does not let it prepare.
pub fn child(from: usize, seed: u64, out: &mut impl Write) -> Result<(), String> {
    host_cpu::prepare()?;
    for (n, (form, _)) in forms(seed).iter().enumerate().skip(from) {
        let selector = u32::from(FLAT);
        let ran = host_cpu::run(
            &form.bytes,
            [0, selector, 0x80, OPERAND, 0, OPERAND, OPERAND + 0x100, OPERAND + 0x200],
        );
        let told = match ran.vector {
            Some(vector) => format!("{n} trapped {vector}"),
            None => format!("{n} ran {}", shows(form, &ran)),
        };
        let written = writeln!(out, "{told}").and_then(|()| out.flush());
        written.map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// What an instruction that ran has to tell.
fn shows(form: &Form, ran: &host_cpu::Ran) -> String {
    use Op::*;
    let i = &form.insn;
    let operand =
        |len: usize| ran.operand[..len].iter().rev().map(|b| format!("{b:02x}")).collect::<String>();
    match i.op {
        Pushf | PushSeg => format!("pushed {:08x}", ran.pushed),
        Popf => format!(
            "EFLAGS {:08x}: IF {}",
            ran.flags,
            if ran.flags & 0x200 != 0 { "kept" } else { "cleared" }
        ),
        Sgdt | Sidt => format!("base:limit {}:{}", &operand(6)[..8], &operand(6)[8..]),
        Verr | Verw => format!("ZF {}", ran.flags >> 6 & 1),
        Lar | Lsl => format!("{:08x}, ZF {}", ran.regs[usize::from(i.dst_reg)], ran.flags >> 6 & 1),
        Rdtsc => "the clock".into(),
        Fpu => "the image".into(),
        MovToSeg | PopSeg | LoadFar => "loaded".into(),
        _ if i.dst == Place::Mem => operand(i.width.bytes() as usize),
        _ if i.dst == Place::Reg => format!("{:08x}", ran.regs[usize::from(i.dst_reg & 7)]),
        _ => "no more".into(),
    }
}

/// The parent's part: `start` runs a child from a form's number on, and gives what it printed and, where it
/// ended badly, how.
///
/// # Errors
/// What `start` says.
pub fn lines<E>(
    seed: u64,
    mut start: impl FnMut(usize) -> Result<(String, Option<String>), E>,
) -> Result<Vec<Line>, E> {
    let forms = forms(seed);
    let mut lines: Vec<Line> = Vec::new();
    while lines.len() < forms.len() {
        let (text, end) = start(lines.len())?;
        for told in text.lines() {
            let mut words = told.splitn(3, ' ');
            let (number, what, rest) = (words.next(), words.next(), words.next().unwrap_or(""));
            let Some((form, class)) = forms.get(lines.len()) else { break };
            if number != Some(&lines.len().to_string()) {
                break;
            }
            let did = match what {
                Some("trapped") => Did::Trapped(rest.parse().unwrap_or(0)),
                _ => Did::Ran(rest.to_owned()),
            };
            lines.push(Line { form: form.clone(), class: *class, did });
        }
        if let Some((form, class)) = forms.get(lines.len()) {
            let how = end.unwrap_or_else(|| "the child ended early".into());
            lines.push(Line { form: form.clone(), class: *class, did: Did::Died(how) });
        }
    }
    Ok(lines)
}

/// Whether Linux answered SGDT in the processor's place: UMIP made it fault, and the kernel stores fixed
/// values.
pub fn kernel_answers(lines: &[Line]) -> bool {
    let emulated =
        |l: &Line| l.form.insn.op == Op::Sgdt && l.did == Did::Ran("base:limit fffe0000:0000".into());
    lines.iter().any(emulated)
}
