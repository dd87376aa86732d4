//! The backend for any host: a fragment is an array of operations, each bound to its function beforehand.

use super::{Backend, Broken, Why};
use crate::cpu::{Cpu, Fault};
use crate::decode::Insn;
use crate::exec::{Env, Handler, ops};
use crate::translate::plan::Step;
use crate::width::Width;

/// An operation: what of the unit is complete after it, and how to do it.
struct Operation<E> {
    run: Handler<E>,
    insn: Insn,
    /// Bytes of the unit up to its end.
    end: u16,
    /// Instructions of the unit up to and with it.
    count: u8,
    /// The number of its way out, if it is a Jcc.
    exit: Option<u8>,
}

/// A compiled body.
#[derive(Clone, Copy, Debug)]
pub struct Fragment {
    start: u32,
    len: u32,
}

/// The backend.
pub struct Portable<E> {
    operations: Vec<Operation<E>>,
}

impl<E> Default for Portable<E> {
    fn default() -> Self {
        Self { operations: Vec::new() }
    }
}

impl<E: Env> Backend<E> for Portable<E> {
    type Fragment = Fragment;

    fn emit(&mut self, body: &[Step]) -> Fragment {
        let start = self.operations.len() as u32;
        let (mut end, mut count) = (0, 0);
        for step in body {
            end += u16::from(step.insn.len);
            count += 1;
            let run = match step.side_exit {
                Some(_) => ops::branch::bind_side_exit(&step.insn),
                None => ops::bind_closely(&step.insn, step.flags_dead),
            };
            self.operations.push(Operation { run, insn: step.insn, end, count, exit: step.side_exit });
        }
        Fragment { start, len: self.operations.len() as u32 - start }
    }

    #[inline(always)]
    fn run(&self, body: Fragment, cpu: &mut Cpu, env: &mut E, precise: bool) -> Result<(), Broken> {
        let operations = &self.operations[body.start as usize..][..body.len as usize];
        if precise {
            return run_precisely(operations, cpu, env);
        }
        for op in operations {
            let result = (op.run)(cpu, env, &op.insn);
            if result.is_err() || cpu.leave.get() {
                return Err(broken(op, result));
            }
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        self.operations.len() * size_of::<Operation<E>>()
    }

    fn clear(&mut self) {
        self.operations.clear();
    }

    fn rest(&self, body: Fragment, done: u8) -> Fragment {
        let done = u32::from(done).min(body.len);
        Fragment { start: body.start + done, len: body.len - done }
    }
}

#[inline(always)]
fn broken<E>(op: &Operation<E>, result: Result<(), Fault>) -> Broken {
    let (count, bytes) = (op.count, op.end);
    match (result, op.exit) {
        (Ok(()), None) => Broken { count, bytes, why: Why::Left },
        (Ok(()), Some(exit)) => {
            let mask = if op.insn.width == Width::Word { 0xffff } else { !0 };
            Broken { count, bytes, why: Why::Exit(exit, op.insn.imm, mask) }
        }
        (Err(fault), _) => {
            Broken { count: count - 1, bytes: bytes - u16::from(op.insn.len), why: Why::Fault(fault) }
        }
    }
}

/// With EIP and time as the run loop of the interpreter keeps them.
#[inline(never)]
fn run_precisely<E>(operations: &[Operation<E>], cpu: &mut Cpu, env: &mut E) -> Result<(), Broken> {
    let (start, now) = (cpu.eip, cpu.now);
    for op in operations {
        cpu.eip = start.wrapping_add(u32::from(op.end));
        cpu.now = now + u64::from(op.count - 1);
        let result = (op.run)(cpu, env, &op.insn);
        if result.is_err() || cpu.leave.get() {
            // An x87 instruction that waits for its error to be handled leaves EIP at itself.
            let bytes = cpu.eip.wrapping_sub(start) as u16;
            (cpu.eip, cpu.now) = (start, now);
            let broken = broken(op, result);
            return Err(if broken.why == Why::Left { Broken { bytes, ..broken } } else { broken });
        }
    }
    (cpu.eip, cpu.now) = (start, now);
    Ok(())
}
