//! The backend for any host: a fragment is an array of operations, each bound to its function beforehand, and
//! each goes on with the next by itself ("direct threading"). The calls are in tail position, so that an
//! optimizing build jumps; where they nest, a unit's length bounds their depth.
//!
//! A function is compiled around each form's semantics ([`bind_closely`](ops::bind_closely)); what has no
//! form of its own is called by way of its [`Handler`].

use super::{Backend, Broken, Ended};
use crate::cpu::{Cpu, Fault, Packed};
use crate::decode::{Cond, Insn, Op, SegReg};
use crate::exec::operand::by_cond;
use crate::exec::ops::{self, bind_with_condition};
use crate::exec::{Binder, ConditionBinder, Env, Handler, Quick, Semantics};
use crate::translate::plan::{Plan, SIDE_EXITS, Step, Tail};
use crate::width::Width;
use std::marker::PhantomData;
use std::rc::Rc;

/// Runs an operation and the `rest` after it. EIP and time are those of the unit's start, up to its last
/// operation, and within a [`Handler`] those of its instruction.
type Run<E> = fn(&mut Cpu, &mut E, &Operation<E>, &[Operation<E>]) -> Ran;

/// What an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// An instruction of the body.
    Plain,
    /// A Jcc of the body, and perhaps the comparison before it: the number of its way out.
    SideExit(u8),
    /// What goes on behind the body.
    End,
}

/// An operation.
struct Operation<E> {
    run: Run<E>,
    /// The instruction, for a Jcc the comparison before it if that is one with it.
    insn: Insn,
    /// Its function.
    call: Handler<E>,
    /// The Jcc's displacement and mask of EIP.
    by: u32,
    mask: u32,
    /// Bytes of the unit up to its end.
    end: u16,
    /// Instructions of the unit up to its end, and of it.
    count: u8,
    own: u8,
    /// The Jcc's condition, and bytes.
    cond: Cond,
    jcc_len: u8,
    kind: Kind,
}

/// A compiled unit.
pub struct Fragment<E> {
    operations: Rc<[Operation<E>]>,
}

impl<E> Clone for Fragment<E> {
    fn clone(&self) -> Self {
        Self { operations: Rc::clone(&self.operations) }
    }
}

/// The backend.
pub struct Portable<E> {
    /// How many operations all fragments have.
    operations: usize,
    /// A comparison and the Jcc after it become one operation.
    fuses: bool,
    world: PhantomData<fn(&mut E)>,
}

impl<E> Default for Portable<E> {
    fn default() -> Self {
        Self { operations: 0, fuses: true, world: PhantomData }
    }
}

/// How a run ended, in two registers: a fault or one of the numbers below, and how many operations were left.
#[derive(Clone, Copy)]
struct Ran {
    what: Packed,
    rest: usize,
}

/// Below it: a way out.
const TAIL: u32 = 2 + SIDE_EXITS as u32;
/// The operation asked to leave; of a fused one, its first instruction did.
const LEFT: u32 = TAIL + 1;
/// The unit is complete, and asked to leave.
const COMPLETE: u32 = TAIL + 2;
/// No operation is left to name: EIP and time are up to date.
const PLACED: usize = usize::MAX;

impl Ran {
    #[inline(always)]
    fn number(number: u32, rest: usize) -> Self {
        Self { what: Ok(number).into(), rest }
    }
    #[inline(always)]
    fn fault(fault: Fault, rest: usize) -> Self {
        Self { what: Err(fault).into(), rest }
    }
}

#[inline(always)]
fn next<E>(cpu: &mut Cpu, env: &mut E, rest: &[Operation<E>]) -> Ran {
    match rest.split_first() {
        Some((op, rest)) => (op.run)(cpu, env, op, rest),
        None => Ran::number(TAIL, 0),
    }
}

/// Around the semantics of an instruction in a body.
struct Body<E>(PhantomData<E>);

impl<E: Env> Binder for Body<E> {
    type Bound = Run<E>;
    fn bind<S: Semantics>() -> Run<E> {
        body::<E, S>
    }
}

fn body<E: Env, S: Semantics>(cpu: &mut Cpu, env: &mut E, op: &Operation<E>, rest: &[Operation<E>]) -> Ran {
    match S::run(cpu, &mut Quick(env), &op.insn) {
        Ok(()) => next(cpu, env, rest),
        Err(_) => called(cpu, env, op, rest),
    }
}

/// An instruction in a body that has no type, or whose quick way is barred.
#[inline(never)]
fn called<E>(cpu: &mut Cpu, env: &mut E, op: &Operation<E>, rest: &[Operation<E>]) -> Ran {
    match call(cpu, env, op, rest) {
        Ok(()) => next(cpu, env, rest),
        Err(ran) => ran,
    }
}

/// The operation's instruction, of a fused one the first.
#[inline(always)]
fn call<E>(cpu: &mut Cpu, env: &mut E, op: &Operation<E>, rest: &[Operation<E>]) -> Result<(), Ran> {
    let (eip, now) = (cpu.eip, cpu.now);
    let (bytes, count) = op.before();
    // A chip may be spoken to.
    let end = eip.wrapping_add(u32::from(bytes) + u32::from(op.insn.len));
    (cpu.eip, cpu.now) = (end, now + u64::from(count));
    let result = (op.call)(cpu, env, &op.insn);
    // An x87 or MMX instruction that waits for its error to be handled has moved EIP back to itself.
    let moved = cpu.eip.wrapping_sub(end);
    (cpu.eip, cpu.now) = (eip.wrapping_add(moved), now);
    if let Err(fault) = result {
        return Err(Ran::fault(fault, rest.len()));
    }
    // Code was overwritten, even by a read: by the walk that set an accessed bit in it.
    if cpu.leave.get() {
        return Err(Ran::number(LEFT, rest.len()));
    }
    Ok(())
}

/// A Jcc with what goes before it: at the unit's `END`, or in its body.
struct Conditional<E, const END: bool>(PhantomData<E>);

impl<E: Env, const END: bool> ConditionBinder for Conditional<E, END> {
    type Bound = Run<E>;
    fn bind<S: Semantics, const C: usize>() -> Run<E> {
        conditional::<E, S, END, C>
    }
}

fn conditional<E: Env, S: Semantics, const END: bool, const C: usize>(
    cpu: &mut Cpu,
    env: &mut E,
    op: &Operation<E>,
    rest: &[Operation<E>],
) -> Ran {
    match S::run(cpu, &mut Quick(env), &op.insn) {
        Ok(()) => decide::<E, END>(cpu, env, op, rest, cpu.lazy.holds(Cond::ALL[C])),
        Err(_) => slow_conditional::<E, END>(cpu, env, op, rest),
    }
}

#[cold]
#[inline(never)]
fn slow_conditional<E, const END: bool>(
    cpu: &mut Cpu,
    env: &mut E,
    op: &Operation<E>,
    rest: &[Operation<E>],
) -> Ran {
    match call(cpu, env, op, rest) {
        Ok(()) => decide::<E, END>(cpu, env, op, rest, cpu.lazy.holds(op.cond)),
        Err(ran) => ran,
    }
}

/// On behind a Jcc.
#[inline(always)]
fn decide<E, const END: bool>(
    cpu: &mut Cpu,
    env: &mut E,
    op: &Operation<E>,
    rest: &[Operation<E>],
    taken: bool,
) -> Ran {
    match (END, taken) {
        (true, _) => go(cpu, op, taken),
        (false, true) => exit(cpu, op),
        (false, false) => next(cpu, env, rest),
    }
}

/// Through a side exit.
#[inline(always)]
fn exit<E>(cpu: &mut Cpu, op: &Operation<E>) -> Ran {
    let Kind::SideExit(number) = op.kind else { unreachable!("no other operation has a side exit") };
    complete(cpu, op);
    jump(cpu, op, 2 + u32::from(number))
}

/// On behind the Jcc at the end.
#[inline(always)]
fn go<E>(cpu: &mut Cpu, op: &Operation<E>, taken: bool) -> Ran {
    complete(cpu, op);
    if taken { jump(cpu, op, 0) } else { Ran::number(1, 0) }
}

/// EIP and time after the operation.
#[inline(always)]
fn complete<E>(cpu: &mut Cpu, op: &Operation<E>) {
    cpu.eip = cpu.eip.wrapping_add(u32::from(op.end));
    cpu.now += u64::from(op.count);
}

/// Where the Jcc jumps to, from its end, through the way out `way`.
#[inline(always)]
fn jump<E>(cpu: &mut Cpu, op: &Operation<E>, way: u32) -> Ran {
    let target = cpu.eip.wrapping_add(op.by) & op.mask;
    if target > cpu.seg(SegReg::Cs).limit {
        return bad_jump(cpu, op);
    }
    cpu.eip = target;
    Ran::number(way, 0)
}

/// The Jcc faults, and has not retired.
#[cold]
#[inline(never)]
fn bad_jump<E>(cpu: &mut Cpu, op: &Operation<E>) -> Ran {
    cpu.eip = cpu.eip.wrapping_sub(u32::from(op.jcc_len));
    cpu.now -= 1;
    Ran::fault(Fault::GP0, PLACED)
}

/// No instruction.
struct Nothing;

impl Semantics for Nothing {
    #[inline(always)]
    fn run<E: Env>(_: &mut Cpu, _: &mut E, _: &Insn) -> Result<(), Fault> {
        Ok(())
    }
}

/// What stands for [`Nothing`] when operations run one at a time.
fn nothing<E>(_: &mut Cpu, _: &mut E, _: &Insn) -> Result<(), Fault> {
    Ok(())
}

fn alone<B: ConditionBinder, const C: usize>() -> B::Bound {
    B::bind::<Nothing, C>()
}

/// The unit goes on behind its body.
fn fall<E>(cpu: &mut Cpu, _: &mut E, op: &Operation<E>, _: &[Operation<E>]) -> Ran {
    complete(cpu, op);
    Ran::number(1, 0)
}

/// Around the semantics of another near branch.
struct Near<E>(PhantomData<E>);

impl<E: Env> Binder for Near<E> {
    type Bound = Run<E>;
    fn bind<S: Semantics>() -> Run<E> {
        near::<E, S>
    }
}

fn near<E: Env, S: Semantics>(cpu: &mut Cpu, env: &mut E, op: &Operation<E>, rest: &[Operation<E>]) -> Ran {
    let start = cpu.eip;
    let end = start.wrapping_add(u32::from(op.end));
    cpu.eip = end;
    match S::run(cpu, &mut Quick(env), &op.insn) {
        Ok(()) => {
            cpu.now += u64::from(op.count);
            Ran::number(u32::from(cpu.eip == end), 0)
        }
        Err(_) => {
            cpu.eip = start;
            branch(cpu, env, op, rest)
        }
    }
}

/// Another near branch that has no type, or whose quick way is barred.
#[inline(never)]
fn branch<E>(cpu: &mut Cpu, env: &mut E, op: &Operation<E>, _: &[Operation<E>]) -> Ran {
    let end = cpu.eip.wrapping_add(u32::from(op.end));
    cpu.eip = end;
    cpu.now += u64::from(op.count) - 1;
    if let Err(fault) = (op.call)(cpu, env, &op.insn) {
        cpu.eip = end.wrapping_sub(u32::from(op.insn.len));
        return Ran::fault(fault, PLACED);
    }
    cpu.now += 1;
    if cpu.leave.get() {
        return Ran::number(COMPLETE, 0);
    }
    Ran::number(u32::from(cpu.eip == end), 0)
}

impl<E: Env> Operation<E> {
    /// What `insn` in a body becomes; `before` is what of the unit goes before it: bytes and instructions.
    fn plain((bytes, count): (u16, u8), insn: Insn, flags_dead: bool) -> Self {
        Self {
            run: ops::bind_closely::<Body<E>>(&insn, flags_dead).unwrap_or(called::<E>),
            insn,
            call: ops::bind(&insn),
            by: 0,
            mask: 0,
            end: bytes + u16::from(insn.len),
            count: count + 1,
            own: 1,
            cond: Cond::O,
            jcc_len: 0,
            kind: Kind::Plain,
        }
    }

    /// What `jcc` becomes; `compare` is the instruction before, if they are one.
    fn jcc((bytes, count): (u16, u8), compare: Option<(Insn, Run<E>)>, jcc: &Insn, kind: Kind) -> Self {
        let (insn, run) = match compare {
            Some(both) => both,
            None if kind == Kind::End => (*jcc, by_cond!(jcc, alone, Conditional<E, true>)()),
            None => (*jcc, by_cond!(jcc, alone, Conditional<E, false>)()),
        };
        let (own, own_bytes) = if compare.is_some() { (2, insn.len + jcc.len) } else { (1, jcc.len) };
        Self {
            run,
            insn,
            call: if compare.is_some() { ops::bind(&insn) } else { nothing::<E> },
            by: jcc.imm,
            mask: if jcc.width == Width::Word { 0xffff } else { !0 },
            end: bytes + u16::from(own_bytes),
            count: count + own,
            own,
            cond: jcc.cond,
            jcc_len: jcc.len,
            kind,
        }
    }

    /// What stands at a unit's end: `own` instructions.
    fn end((bytes, count): (u16, u8), insn: Insn, run: Run<E>, own: u8) -> Self {
        Self {
            run,
            insn,
            call: ops::bind(&insn),
            by: 0,
            mask: 0,
            end: bytes + u16::from(insn.len),
            count: count + own,
            own,
            cond: Cond::O,
            jcc_len: 0,
            kind: Kind::End,
        }
    }
}

impl<E> Operation<E> {
    /// What of the unit goes before it: bytes and instructions.
    fn before(&self) -> (u16, u8) {
        let alone = self.jcc_len > 0 && self.own == 1;
        let first = if alone { 0 } else { self.insn.len };
        (self.end - u16::from(self.jcc_len + first), self.count - self.own)
    }

    /// Whether a comparison and a Jcc are one operation here, and of both only the comparison is done.
    fn is_half_done(&self, done: u8) -> bool {
        self.own == 2 && self.count == done + 1
    }

    /// What is complete after its first instruction: all of it, unless a Jcc is one with that.
    fn after_first(&self) -> (u16, u8) {
        let (bytes, count) = self.before();
        (bytes + u16::from(self.insn.len), count + 1)
    }
}

impl<E> Portable<E> {
    /// Operations of one instruction each.
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    pub(super) fn singly() -> Self {
        Self { fuses: false, ..Self::default() }
    }
}

/// Operations of a unit in the making.
struct Emitter<E> {
    operations: Vec<Operation<E>>,
    fuses: bool,
    /// Bytes and instructions so far.
    before: (u16, u8),
}

impl<E: Env> Emitter<E> {
    fn body(&mut self, step: &Step) {
        match step.side_exit {
            Some(n) => self.jcc::<Conditional<E, false>>(&step.insn, Kind::SideExit(n)),
            None => self.operations.push(Operation::plain(self.before, step.insn, step.flags_dead)),
        }
        self.before = (self.before.0 + u16::from(step.insn.len), self.before.1 + 1);
    }

    /// The operation of `jcc`, with the last one if they can be one.
    fn jcc<B: ConditionBinder<Bound = Run<E>>>(&mut self, jcc: &Insn, kind: Kind) {
        let last = self.operations.pop_if(|last| self.fuses && last.kind == Kind::Plain);
        let both =
            last.as_ref().and_then(|last| Some((last.insn, bind_with_condition::<B>(&last.insn, jcc)?)));
        let op = match (both, last) {
            (Some(compare), Some(last)) => Operation::jcc(last.before(), Some(compare), jcc, kind),
            (_, last) => {
                self.operations.extend(last);
                Operation::jcc(self.before, None, jcc, kind)
            }
        };
        self.operations.push(op);
    }

    fn end(&mut self, plan: &Plan) {
        match (plan.tail, &plan.last) {
            (Tail::Conditional, Some(jcc)) => self.jcc::<Conditional<E, true>>(jcc, Kind::End),
            (Tail::Direct | Tail::Indirect, Some(insn)) => {
                let run = ops::branch::bind_closely::<Near<E>>(insn).unwrap_or(branch::<E>);
                self.operations.push(Operation::end(self.before, *insn, run, 1));
            }
            (Tail::Fall, _) | (_, None) => {
                self.operations.push(Operation::end(self.before, Insn::bare(Op::Nop, 0), fall::<E>, 0));
            }
            _ => {}
        }
    }
}

impl<E: Env> Backend<E> for Portable<E> {
    type Fragment = Fragment<E>;

    fn emit(&mut self, plan: &Plan) -> Fragment<E> {
        let operations = Vec::with_capacity(plan.body.len() + 1);
        let mut emitter = Emitter { operations, fuses: self.fuses, before: (0, 0) };
        plan.body.iter().for_each(|step| emitter.body(step));
        emitter.end(plan);
        self.operations += emitter.operations.len();
        Fragment { operations: emitter.operations.into() }
    }

    #[inline(always)]
    fn run(&self, fragment: &Fragment<E>, done: u8, cpu: &mut Cpu, env: &mut E, precise: bool) -> Ended {
        if precise {
            return run_precisely(&fragment.operations, (done, u8::MAX), cpu, env);
        }
        if done > 0 {
            return run_from(&fragment.operations, done, cpu, env);
        }
        ended(&fragment.operations, next(cpu, env, &fragment.operations))
    }

    fn run_part(&self, fragment: &Fragment<E>, done: u8, most: u8, cpu: &mut Cpu, env: &mut E) -> Ended {
        run_precisely(&fragment.operations, (done, most), cpu, env)
    }

    fn is_fused(&self, fragment: &Fragment<E>) -> bool {
        fragment.operations.last().is_some_and(|op| op.kind == Kind::End && op.own == 2)
    }

    fn bytes(&self) -> usize {
        self.operations * size_of::<Operation<E>>()
    }

    fn clear(&mut self) {
        self.operations = 0;
    }
}

/// `operations` from the one on before which so many instructions are done.
fn rest<E>(operations: &[Operation<E>], done: u8) -> &[Operation<E>] {
    &operations[operations.partition_point(|op| op.own > 0 && op.count <= done)..]
}

#[inline(always)]
fn ended<E: Env>(operations: &[Operation<E>], ran: Ran) -> Ended {
    match ran.what.below(TAIL) {
        Some(way) => Ended::Way(way as usize),
        None => no_way(operations, ran),
    }
}

/// What is no way out.
#[cold]
#[inline(never)]
fn no_way<E: Env>(operations: &[Operation<E>], Ran { what, rest }: Ran) -> Ended {
    let what = what.unpack();
    match what {
        Ok(TAIL) => return Ended::Tail,
        Ok(COMPLETE) => return Ended::Left,
        Err(fault) if rest == PLACED => return Ended::Fault(fault),
        _ => {}
    }
    let op = &operations[operations.len() - 1 - rest];
    let (bytes, count) = if what.is_ok() { op.after_first() } else { op.before() };
    Ended::Broken(Broken { count, bytes, fault: what.err() })
}

/// Runs the instructions from number `done` on.
#[inline(never)]
fn run_from<E: Env>(all: &[Operation<E>], done: u8, cpu: &mut Cpu, env: &mut E) -> Ended {
    let operations = rest(all, done);
    match operations.split_first() {
        Some((op, rest)) if op.is_half_done(done) => ended(operations, second_half(cpu, env, op, rest)),
        _ => ended(operations, next(cpu, env, operations)),
    }
}

/// The Jcc of an operation whose comparison is done.
#[cold]
fn second_half<E>(cpu: &mut Cpu, env: &mut E, op: &Operation<E>, rest: &[Operation<E>]) -> Ran {
    let taken = cpu.lazy.holds(op.cond);
    match op.kind {
        Kind::End => decide::<E, true>(cpu, env, op, rest, taken),
        _ => decide::<E, false>(cpu, env, op, rest, taken),
    }
}

/// Runs the instructions from number `done` up to number `most` one at a time, with EIP and time as the run
/// loop of the interpreter keeps them.
#[inline(never)]
fn run_precisely<E: Env>(all: &[Operation<E>], (done, most): (u8, u8), cpu: &mut Cpu, env: &mut E) -> Ended {
    let operations = if done == 0 { all } else { rest(all, done) };
    for op in operations {
        let (_, count) = op.before();
        if count >= most {
            return Ended::Paused(count);
        }
        if !op.is_half_done(done)
            && let Err(ended) = run_first(op, cpu, env)
        {
            return ended;
        }
        if op.own == 2 && op.count > most {
            return Ended::Paused(count + 1);
        }
        let ran = match op.kind {
            Kind::SideExit(_) if cpu.lazy.holds(op.cond) => exit(cpu, op),
            Kind::End if op.jcc_len > 0 => go(cpu, op, cpu.lazy.holds(op.cond)),
            Kind::End => (op.run)(cpu, env, op, &[]),
            _ => continue,
        };
        return ended(operations, ran);
    }
    match all.last() {
        Some(op) if op.count >= most => Ended::Paused(op.count),
        None if most == 0 => Ended::Paused(0),
        _ => Ended::Tail,
    }
}

/// Runs the first instruction of `op`, unless that is a branch at the unit's end, which runs all of it.
fn run_first<E: Env>(op: &Operation<E>, cpu: &mut Cpu, env: &mut E) -> Result<(), Ended> {
    if op.kind == Kind::End && op.jcc_len == 0 {
        return Ok(());
    }
    let (start, now) = (cpu.eip, cpu.now);
    let (bytes, count) = op.before();
    cpu.eip = start.wrapping_add(u32::from(bytes) + u32::from(op.insn.len));
    cpu.now = now + u64::from(count);
    let result = (op.call)(cpu, env, &op.insn);
    let after = cpu.eip.wrapping_sub(start) as u16;
    (cpu.eip, cpu.now) = (start, now);
    match result {
        Err(fault) => Err(Ended::Broken(Broken { count, bytes, fault: Some(fault) })),
        // An x87 instruction that waits for its error to be handled leaves EIP at itself.
        Ok(()) if cpu.leave.get() => {
            Err(Ended::Broken(Broken { count: count + 1, bytes: after, fault: None }))
        }
        Ok(()) => Ok(()),
    }
}
