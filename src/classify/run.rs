//! One run of one instruction, and how a de-privileged run compares with that on the bare machine.

use super::Setting;
use super::forms::Form;
use super::rng::mix;
use super::state::{Guest, TOP, immediate};
use super::world::{GDT, GUEST, IDT, MONITOR, Memory, Shadow, World};
use crate::cpu::{Activity, Cpu, Eflags, Fault, gpr};
use crate::decode::{Decoded, SegReg, decode};
use crate::exec::ops;
use std::fmt;

/// What became of one run.
pub(super) struct Outcome<'a> {
    pub(super) before: Cpu,
    pub(super) after: Cpu,
    pub(super) world: World<'a>,
    pub(super) fault: Option<Fault>,
}

impl Outcome<'_> {
    /// Whether control came to the monitor: by an exception, or from a lesser ring by a way into ring 0.
    pub(super) fn traps(&self) -> bool {
        self.fault.is_some() || self.arrived()
    }

    /// Whether ring 0 was entered without an exception.
    pub(super) fn arrived(&self) -> bool {
        self.fault.is_none() && self.before.cpl != 0 && self.after.cpl == 0
    }
}

/// The guest's state number `n` of a form; `bytes` are the instruction's.
pub(super) fn guest(form: &Form, seed: u64, n: u32, code32: bool) -> (Guest, Vec<u8>) {
    let name = form.name.bytes().chain(form.opcode.bytes()).fold(seed, |h, b| mix(h ^ u64::from(b)));
    let seed = mix(name.wrapping_add(u64::from(n)));
    let mut bytes = form.bytes.clone();
    immediate(seed, &form.insn, &mut bytes, form.fixed, !code32);
    let insn = match decode(&bytes, code32) {
        Decoded::Insn(i) => i,
        _ => form.insn,
    };
    (Guest::draw(seed, n, !code32, &insn), bytes)
}

/// The three images of a state: bare, relocated, de-privileged.
pub(super) fn images(guest: &Guest, setting: Setting) -> [(Cpu, Shadow); 3] {
    [guest.bare(setting), guest.relocated(setting), guest.deprivileged(setting)]
}

/// Runs the guest's instruction in an image of its state.
pub(super) fn run<'a>(guest: &'a Guest, memory: &'a Memory, image: &'a (Cpu, Shadow)) -> Outcome<'a> {
    let (before, shadow) = image;
    let mut cpu = before.clone();
    cpu.refresh();
    let before = cpu.clone();
    let mut world = World::new(memory, shadow);
    cpu.eip = cpu.eip.wrapping_add(u32::from(guest.insn.len));
    let result = ops::bind::<World>(&guest.insn)(&mut cpu, &mut world, &guest.insn);
    Outcome { before, after: cpu, world, fault: result.err() }
}

/// A resource of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names are the manual's")]
pub enum Resource {
    If,
    Iopl,
    Vm,
    Cpl,
    Cr0,
    Cr2,
    Cr3,
    Cr4,
    Debug,
    Msrs,
    Gdtr,
    Idtr,
    Ldtr,
    Tr,
    Halt,
    Tlb,
    Ports,
}

impl Resource {
    const ALL: [Resource; 17] = {
        use Resource::*;
        [If, Iopl, Vm, Cpl, Cr0, Cr2, Cr3, Cr4, Debug, Msrs, Gdtr, Idtr, Ldtr, Tr, Halt, Tlb, Ports]
    };

    /// Its name in a sentence.
    pub fn name(self) -> &'static str {
        match self {
            Resource::If => "IF",
            Resource::Iopl => "IOPL",
            Resource::Vm => "VM",
            Resource::Cpl => "the CPL",
            Resource::Cr0 => "CR0",
            Resource::Cr2 => "CR2",
            Resource::Cr3 => "CR3",
            Resource::Cr4 => "CR4",
            Resource::Debug => "a debug register",
            Resource::Msrs => "an MSR",
            Resource::Gdtr => "GDTR",
            Resource::Idtr => "IDTR",
            Resource::Ldtr => "LDTR",
            Resource::Tr => "TR",
            Resource::Halt => "the halt state",
            Resource::Tlb => "the TLB",
            Resource::Ports => "a port",
        }
    }

    /// Whether the run changed it.
    fn changed(self, o: &Outcome) -> bool {
        let (a, b) = (&o.before, &o.after);
        let flags = |f: Eflags| (a.system_flags ^ b.system_flags).intersects(f);
        match self {
            Resource::If => flags(Eflags::IF),
            Resource::Iopl => flags(Eflags::IOPL),
            Resource::Vm => flags(Eflags::VM),
            Resource::Cpl => a.cpl != b.cpl,
            Resource::Cr0 => a.cr0 != b.cr0,
            Resource::Cr2 => a.cr2 != b.cr2,
            Resource::Cr3 => a.cr3 != b.cr3,
            Resource::Cr4 => a.cr4 != b.cr4,
            Resource::Debug => a.dr != b.dr,
            Resource::Msrs => a.msrs != b.msrs,
            Resource::Gdtr => a.gdtr != b.gdtr,
            Resource::Idtr => a.idtr != b.idtr,
            Resource::Ldtr => a.ldtr != b.ldtr,
            Resource::Tr => a.tr != b.tr,
            Resource::Halt => b.activity != Activity::Running,
            Resource::Tlb => o.world.flushed,
            Resource::Ports => !o.world.ports.is_empty(),
        }
    }
}

/// A piece in which i(V(S)) is not V(i(S)), the most telling first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Piece {
    /// The de-privileged run changed a resource of the real machine.
    Changed(Resource),
    /// The bare machine changed it, the de-privileged run did not.
    Lost(Resource),
    /// A general register, by number: bare, de-privileged.
    Register(u8, u32, u32),
    /// A segment register, by number: its selector on the bare machine, and de-privileged.
    Selector(u8, u16, u16),
    /// The bare machine faults.
    NoFault(u8),
    /// Memory: address, bare, de-privileged.
    Memory(u32, u8, u8),
    /// EFLAGS, but for IF, IOPL and VM.
    Flags(u32, u32),
    /// EIP.
    Eip(u32, u32),
    /// A segment register's base or limit.
    Hidden(u8),
    /// The x87's state.
    X87,
    /// The bare machine marked the guest's descriptor as accessed; the de-privileged run marked the monitor's
    /// copy.
    Accessed(u32),
}

impl Piece {
    /// Whether this evidence makes an instruction control-sensitive.
    pub fn control(self) -> bool {
        matches!(self, Piece::Changed(_) | Piece::Lost(_))
    }
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let segment = |n: u8| SegReg::ALL[usize::from(n)].name().to_uppercase();
        match *self {
            Piece::Changed(r) => write!(f, "{} of the real machine changes", r.name()),
            Piece::Lost(r) => write!(f, "the change of {} is dropped", r.name()),
            Piece::Register(n, a, b) => {
                write!(f, "{} is {a:08x}, de-privileged {b:08x}", gpr::NAMES[usize::from(n)].to_uppercase())
            }
            Piece::Selector(n, a, b) => write!(f, "{} is {a:04x}, de-privileged {b:04x}", segment(n)),
            Piece::NoFault(v) => {
                write!(f, "{} on the bare machine, de-privileged no fault", crate::cpu::fault::vector_name(v))
            }
            Piece::Memory(at, a, b) => write!(f, "byte {at:08x} is {a:02x}, de-privileged {b:02x}"),
            Piece::Flags(a, b) => write!(f, "EFLAGS differ by {:08x}", a ^ b),
            Piece::Eip(a, b) => write!(f, "EIP is {a:08x}, de-privileged {b:08x}"),
            Piece::Hidden(n) => write!(f, "base or limit of {} differs", segment(n)),
            Piece::X87 => write!(f, "the x87's state differs"),
            Piece::Accessed(at) => {
                write!(
                    f,
                    "the accessed bit at {at:08x} is set in the monitor's descriptor, not in the guest's"
                )
            }
        }
    }
}

/// Where `user`, which did not trap, differs from what `bare` comes to under V; `level` is the level that V
/// gives the guest's supervisor.
pub(super) fn compare(bare: &Outcome, user: &Outcome, level: u8) -> Vec<Piece> {
    let mut pieces = Vec::new();
    if let Some(fault) = bare.fault {
        pieces.extend(control(user, level));
        pieces.push(Piece::NoFault(fault.vector()));
        pieces.sort();
        return pieces;
    }
    pieces.extend(control(user, level));
    for r in Resource::ALL {
        // Between supervisor and user the level changes with the guest's own, unless both are in one ring.
        let kept = r == Resource::Cpl && user.after.cpl == bare.after.cpl.max(level) && level != 3;
        if r.changed(bare) && !r.changed(user) && !kept {
            pieces.push(Piece::Lost(r));
        }
    }
    registers(bare, user, level, &mut pieces);
    memory(bare, user, &mut pieces);
    pieces.sort();
    pieces
}

/// The resources that the run changed.
fn control(user: &Outcome, level: u8) -> Vec<Piece> {
    let own = |r: Resource| r == Resource::Cpl && user.after.cpl > level && user.before.cpl == level;
    Resource::ALL.into_iter().filter(|r| r.changed(user) && !own(*r)).map(Piece::Changed).collect()
}

fn registers(bare: &Outcome, user: &Outcome, level: u8, pieces: &mut Vec<Piece>) {
    let (a, b) = (&bare.after, &user.after);
    for n in 0..8 {
        if a.regs[n] != b.regs[n] {
            pieces.push(Piece::Register(n as u8, a.regs[n], b.regs[n]));
        }
    }
    let resources = Eflags::IF | Eflags::IOPL | Eflags::VM;
    let (fa, fb) = (a.eflags() - resources, b.eflags() - resources);
    if fa != fb {
        pieces.push(Piece::Flags(fa.bits(), fb.bits()));
    }
    if a.eip != b.eip {
        pieces.push(Piece::Eip(a.eip, b.eip));
    }
    for s in SegReg::ALL {
        let (x, y) = (a.seg(s), b.seg(s));
        let shows_level = matches!(s, SegReg::Cs | SegReg::Ss) && a.selectors();
        let expected = if shows_level && x.selector.rpl() < level {
            x.selector.0 & !3 | u16::from(level)
        } else {
            x.selector.0
        };
        if expected != y.selector.0 {
            pieces.push(Piece::Selector(s as u8, x.selector.0, y.selector.0));
        } else if x.usable() != y.usable()
            || x.base != y.base
            || !(x.limit == y.limit || x.limit > TOP && y.limit >= TOP)
        {
            pieces.push(Piece::Hidden(s as u8));
        }
    }
    let mut fpu = b.fpu.clone();
    for (mine, theirs) in [(&mut fpu.last.fcs, a.fpu.last.fcs), (&mut fpu.last.fds, a.fpu.last.fds)] {
        if *mine == theirs | u16::from(level) {
            *mine = theirs;
        }
    }
    if fpu != a.fpu {
        pieces.push(Piece::X87);
    }
}

fn memory(bare: &Outcome, user: &Outcome, pieces: &mut Vec<Piece>) {
    let mut at: Vec<u32> = bare.world.written.iter().chain(&user.world.written).map(|w| w.0).collect();
    at.retain(|&a| a < MONITOR);
    at.sort_unstable();
    at.dedup();
    for at in at {
        let (a, b) = (bare.world.byte(at), user.world.byte(at));
        if a != b {
            let table = bare.before.protected() && (GUEST + GDT..GUEST + IDT).contains(&at);
            pieces.push(if table { Piece::Accessed(at) } else { Piece::Memory(at, a, b) });
        }
    }
}
