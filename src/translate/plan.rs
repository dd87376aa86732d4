//! From decoded instructions to a plan: where the unit ends, what becomes of each instruction, and which
//! flags are dead.

use super::flags;
use crate::addr::Linear;
use crate::cpu::{Cpu, Fault};
use crate::decode::{Insn, Op, Rep, op};
use crate::exec::Handler;

/// The number of a rule in the policy's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub u8);

/// What becomes of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// It is carried over unchanged.
    Ident,
    /// A short sequence on the virtual state takes its place.
    Inline(RuleId),
    /// The monitor is called and runs it.
    Callout(RuleId),
}

/// What is to be done after an inline sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Go on.
    Next,
    /// Go on, with another code segment or somewhere else.
    Anew,
    /// The monitor has to look up.
    Look,
    /// Nothing was done: the monitor runs the instruction.
    CallOut,
}

/// Decides what becomes of instructions, and runs the inline sequences.
pub trait Policy<E> {
    /// The mode that translations depend on, below 64.
    fn mode(&self, cpu: &Cpu) -> u8;
    /// What becomes of `insn`, at the linear address `at`, in this mode.
    fn treat(&self, mode: u8, at: Linear, insn: &Insn) -> Treatment;
    /// Whether the instruction at the linear address `at` must not be fetched. That is a #GP, as beyond a
    /// segment's end.
    fn hides(&self, at: Linear) -> bool {
        let _ = at;
        false
    }
    /// Whether the guest can tell when the pages of its code are looked up: they are in a TLB of its own.
    /// Then each page that control comes to is, as by the interpreter.
    fn shows_fetches(&self) -> bool {
        false
    }
    /// Runs the sequence of `rule` for `insn`, whose semantics are `run`. EIP names the next instruction, and
    /// is put back by the caller after a fault.
    ///
    /// # Errors
    /// The fault to be delivered.
    fn inline(
        &mut self,
        rule: RuleId,
        run: Handler<E>,
        cpu: &mut Cpu,
        env: &mut E,
        insn: &Insn,
    ) -> Result<Flow, Fault>;
}

/// How a unit goes on after its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// With the next instruction.
    Fall,
    /// Jcc.
    Conditional,
    /// Another direct near branch.
    Direct,
    /// An indirect near branch or a return.
    Indirect,
    /// A repeated string instruction.
    String,
    /// Another instruction after which nothing is known any more.
    Other,
    /// An inline sequence.
    Inline(RuleId),
    /// The monitor runs the next instruction.
    Callout(RuleId),
}

/// Why a unit ends where it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// At control flow.
    ControlFlow,
    /// At an instruction that a rule rewrites.
    Rewritten,
    /// At an instruction that the monitor runs.
    Callout,
    /// At an instruction after which the run loop has to look up.
    Synchronizing,
    /// It is as long as it may get.
    Length,
    /// What follows is on the next page, or is no instruction.
    PageEnd,
}

impl Ending {
    /// For people.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::ControlFlow => "control flow",
            Self::Rewritten => "rewritten instruction",
            Self::Callout => "callout",
            Self::Synchronizing => "instruction that ends a run",
            Self::Length => "length bound",
            Self::PageEnd => "end of the page",
        }
    }
}

/// An instruction of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The instruction.
    pub insn: Insn,
    /// Nothing sees the flags that it leaves.
    pub flags_dead: bool,
    /// For a Jcc: the way out that it takes if its condition holds, from 0. It is in the body because more
    /// often than not it does not.
    pub side_exit: Option<u8>,
}

/// The most Jcc in a body.
pub const SIDE_EXITS: usize = 3;

/// What a unit does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Instructions carried over, in order.
    pub body: Vec<Step>,
    /// What follows them.
    pub tail: Tail,
    /// The instruction of the tail, unless it falls through.
    pub last: Option<Insn>,
    /// Why it ends there.
    pub ending: Ending,
    /// Bytes of the body.
    pub body_bytes: u16,
    /// Whether an instruction of the body looks at EIP or the time.
    pub precise: bool,
}

impl Plan {
    /// Plans the unit that starts with `insns`, at `at`; there is at least one.
    pub fn new(
        insns: &[Insn],
        most: usize,
        mut treat: impl FnMut(Linear, &Insn) -> Treatment,
        at: Linear,
    ) -> Self {
        let most = most.clamp(1, 64);
        let (mut tail, mut last) = (Tail::Fall, None);
        let mut ending = Ending::PageEnd;
        let (mut count, mut bytes, mut exits) = (0, 0, 0);
        for insn in insns {
            let found = tail_of(insn, treat(at.offset(bytes), insn));
            let goes_on = goes_on(insn, &insns[count + 1..]) && exits < SIDE_EXITS && count < most;
            if let Some((Tail::Conditional, _)) = found
                && goes_on
            {
                exits += 1;
            } else if let Some(found) = found {
                (tail, ending) = found;
                last = Some(*insn);
                break;
            }
            if count == most {
                ending = Ending::Length;
                break;
            }
            count += 1;
            bytes += u32::from(insn.len);
        }
        // The flags that a callout or the next unit finds are the real ones; a rewritten instruction may read
        // them too.
        let mut exits = 0..;
        let body: Vec<Step> = (0..count)
            .map(|n| Step {
                insn: insns[n],
                flags_dead: flags::are_dead(&insns[n..count]),
                side_exit: if insns[n].op == Op::Jcc { exits.next() } else { None },
            })
            .collect();
        let precise = body.iter().any(|step| looks_at_eip(&step.insn));
        Self { body, tail, last, ending, body_bytes: bytes as u16, precise }
    }

    /// Instructions that a whole run of it retires.
    pub fn count(&self) -> u8 {
        let last = self.last.is_some() && !matches!(self.tail, Tail::Callout(_));
        self.body.len() as u8 + u8::from(last)
    }

    /// Bytes of the guest's code that it covers, without an instruction that the monitor runs.
    pub fn bytes(&self) -> u16 {
        let last = match self.tail {
            Tail::Callout(_) => 0,
            _ => self.last.map_or(0, |insn| u16::from(insn.len)),
        };
        self.body_bytes + last
    }
}

/// Whether a unit goes on behind a Jcc: where it jumps forward, and there is something to go on with. A
/// loop's branch back is mostly taken.
fn goes_on(insn: &Insn, rest: &[Insn]) -> bool {
    insn.op == Op::Jcc && (insn.imm as i32) >= 0 && !rest.is_empty()
}

/// The tail that `insn` makes, if it ends the unit.
fn tail_of(insn: &Insn, treatment: Treatment) -> Option<(Tail, Ending)> {
    Some(match (treatment, insn.op.facts().flow) {
        (Treatment::Inline(rule), _) => (Tail::Inline(rule), Ending::Rewritten),
        (Treatment::Callout(rule), _) => (Tail::Callout(rule), Ending::Callout),
        (Treatment::Ident, op::Flow::Conditional) => (Tail::Conditional, Ending::ControlFlow),
        (Treatment::Ident, op::Flow::Direct) => (Tail::Direct, Ending::ControlFlow),
        (Treatment::Ident, op::Flow::Indirect) => (Tail::Indirect, Ending::ControlFlow),
        (Treatment::Ident, op::Flow::Repeats) if insn.rep != Rep::Once => {
            (Tail::String, Ending::Synchronizing)
        }
        (Treatment::Ident, op::Flow::Leaves) => (Tail::Other, Ending::Synchronizing),
        (Treatment::Ident, op::Flow::Next | op::Flow::Repeats) => return None,
    })
}

/// x87 instructions note where they are, and may wait; all others look at EIP only where they end a unit.
fn looks_at_eip(insn: &Insn) -> bool {
    insn.op == Op::Fpu
}

/// Everything is carried over: direct execution.
pub struct Identity;

impl<E> Policy<E> for Identity {
    fn mode(&self, _: &Cpu) -> u8 {
        0
    }
    fn treat(&self, _: u8, _: Linear, _: &Insn) -> Treatment {
        Treatment::Ident
    }
    fn shows_fetches(&self) -> bool {
        true
    }
    fn inline(
        &mut self,
        _: RuleId,
        run: Handler<E>,
        cpu: &mut Cpu,
        env: &mut E,
        insn: &Insn,
    ) -> Result<Flow, Fault> {
        run(cpu, env, insn).map(|()| Flow::Next)
    }
}
