//! A prototype of the backend for x86-64 Linux hosts, which no command uses yet: it shows that the seam
//! holds, and what the ways of addressing cost. Units of a subset (moves, arithmetic, the stack, direct near
//! branches; flat 32-bit segments) run on the host's processor and chain there; what is outside of it runs by
//! [`Portable`], from the instruction on at which generated code ends. Memory is the *window*, whose pages
//! are mapped when generated code first meets them.
//!
//! | file | what it is |
//! |---|---|
//! | `emit` | from a unit to the host's code |
//! | `host` | running that: code memory, the way in and out, the signal of a fault |
//! | `window` | guest-linear memory in the host's address space |
//! | `world` | a flat world for tests and benches |
//!
//! Not built: a monitor's world (its TLB would have to tell what it may map), one window for each privilege
//! level, counting how often units ran.

mod emit;
mod host;
mod window;
pub mod world;

use super::{Backend, Chained, Ended, Portable, Whole, portable};
use crate::addr::{Linear, MachineAddr};
use crate::cpu::{Cpu, Eflags, LazyFlags};
use crate::decode::SegReg;
use crate::error::Error;
use crate::exec::Env;
use crate::mem::Ram;
use crate::translate::plan::{Plan, SIDE_EXITS};
pub use emit::Addressing;
use emit::{Exit, Site, Way};
use host::{Code, Context, FAULT};
use std::marker::PhantomData;
use window::Window;

/// Ticks that are left when generated code leaves: more than any unit has.
const MARGIN: i64 = 66;

/// A page of RAM that the window may show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Where in RAM it is.
    pub at: MachineAddr,
    /// Whether stores may go there without a look.
    pub writable: bool,
}

/// A world whose memory can be shown in a window.
pub trait Windowed {
    /// What is at `at` for an access of the processor's, now; `None` if the access faults or has to be looked
    /// at.
    fn frame(&mut self, cpu: &Cpu, at: Linear, write: bool) -> Option<Frame>;
    /// A page of which an earlier [`Windowed::frame`] no longer holds, each once.
    fn take_stale(&mut self) -> Option<Linear>;
    /// What is mapped. It stays the same.
    fn ram(&self) -> &Ram;
}

/// Chooses the addressing of a [`Native`].
pub trait Choice {
    /// The one.
    const ADDRESSING: Addressing;
}

/// [`Addressing::Gs`].
#[derive(Clone, Copy, Debug)]
pub struct ByGs;
/// [`Addressing::Base`].
#[derive(Clone, Copy, Debug)]
pub struct ByBase;

impl Choice for ByGs {
    const ADDRESSING: Addressing = Addressing::Gs;
}
impl Choice for ByBase {
    const ADDRESSING: Addressing = Addressing::Base;
}

/// What was counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Units that generated code was made of, or of their first instructions.
    pub units: u64,
    /// Of these, those that save the flags around their charge.
    pub saving: u64,
    /// Bytes of the guest's code of these units, and of the code made.
    pub guest_bytes: u64,
    /// See there.
    pub host_bytes: u64,
    /// Entries into generated code, and instructions that ran there.
    pub entries: u64,
    /// See there.
    pub retired: u64,
    /// Faults in it.
    pub faults: u64,
    /// Of these, those that mapped a page and went on.
    pub mapped: u64,
}

/// A unit: for [`Portable`], and the number of its generated code.
pub struct Fragment<E> {
    body: portable::Fragment<E>,
    number: u32,
}

impl<E> Clone for Fragment<E> {
    fn clone(&self) -> Self {
        Self { body: self.body.clone(), ..*self }
    }
}

/// Generated code of a unit.
struct Compiled {
    unit: u32,
    eip: u32,
    entry: u64,
    ways: [Option<Way>; 2 + SIDE_EXITS],
}

/// What the host lends.
struct Host {
    code: Code,
    window: Window,
    context: Box<Context>,
}

impl Host {
    fn new() -> Result<Self, Error> {
        Ok(Self { code: Code::new()?, window: Window::reserve()?, context: Box::default() })
    }
}

/// The backend.
pub struct Native<E, A = ByBase> {
    portable: Portable<E>,
    /// `None` if the host lends nothing; then all of it is [`Portable`].
    host: Option<Host>,
    /// By fragment.
    compiled: Vec<Option<Compiled>>,
    /// By the number that code leaves with: the fragment, and what is done.
    exits: Vec<(u32, Exit)>,
    /// In the order of their addresses: the fragment, and where an instruction starts.
    sites: Vec<(u32, Site)>,
    /// Ways out that lead to other units.
    linked: Vec<Way>,
    /// There was no room for code; the next translation is to drop all.
    full: bool,
    /// What was counted.
    pub counts: Counts,
    addressing: PhantomData<A>,
}

impl<E, A> Default for Native<E, A> {
    fn default() -> Self {
        Self {
            // Generated code may leave between any two instructions.
            portable: Portable::singly(),
            host: Host::new().ok(),
            compiled: Vec::new(),
            exits: Vec::new(),
            sites: Vec::new(),
            linked: Vec::new(),
            full: false,
            counts: Counts::default(),
            addressing: PhantomData,
        }
    }
}

/// How generated code came back.
enum Back {
    /// To the unit of this fragment, of which so much is done, and so many ticks were charged that did not
    /// pass.
    At { fragment: u32, done: u8, charged: u8 },
    /// Through the way out of the unit of this fragment.
    Way { fragment: u32, way: usize, eip: u32 },
}

impl<E: Env + Windowed, A: Choice> Native<E, A> {
    /// Runs generated code from `entry` on, and maps what it meets.
    fn fly(&mut self, entry: u64, cpu: &Cpu, env: &mut E) -> Option<Back> {
        let host = self.host.as_mut()?;
        let mut entry = entry;
        loop {
            host.context.window = host.window.base();
            host.code.run(&mut host.context, entry, A::ADDRESSING == Addressing::Gs);
            if host.context.exit != FAULT {
                let (fragment, exit) = self.exits[host.context.exit as usize];
                return Some(match exit {
                    Exit::Way(way, eip) => Back::Way { fragment, way, eip },
                    Exit::At(done, charged) => Back::At { fragment, done, charged },
                });
            }
            self.counts.faults += 1;
            let ip = host.context.fault_ip;
            let after = self.sites.partition_point(|(_, site)| site.at <= ip);
            let (fragment, site) = self.sites[after - 1];
            if !show(host, cpu, env) {
                return Some(Back::At { fragment, done: site.done, charged: site.charged });
            }
            self.counts.mapped += 1;
            entry = site.at;
        }
    }
}

/// Maps the page that generated code has faulted on, if the access may go through.
fn show<E: Windowed>(host: &mut Host, cpu: &Cpu, env: &mut E) -> bool {
    let write = host.context.fault_write;
    let Some(at) = host.window.linear(host.context.fault_at) else { return false };
    match env.frame(cpu, at, write) {
        Some(frame) if frame.writable || !write => {
            let object = env.ram().object();
            object.is_some_and(|object| host.window.map(at, object, frame.at, frame.writable).is_ok())
        }
        _ => false,
    }
}

/// Whether memory is what generated code takes it for: flat segments, a 32-bit stack.
fn is_flat(cpu: &Cpu) -> bool {
    const ALL: u64 = 1 << 32;
    let data = [SegReg::Ds, SegReg::Es, SegReg::Ss].map(|s| cpu.seg(s));
    let code = cpu.seg(SegReg::Cs);
    data.iter().all(|s| s.base == 0 && s.read_end == ALL && s.write_end == ALL)
        && (code.base, code.limit, cpu.stack_mask) == (0, !0, !0)
}

/// The arithmetic flags as [`Context::flags`] has them.
fn pack(flags: Eflags) -> u32 {
    (flags.bits() & 0xd5) << 8 | u32::from(flags.contains(Eflags::OF))
}

fn unpack(packed: u32) -> LazyFlags {
    let mut flags = Eflags::from_bits_truncate(packed >> 8 & 0xd5);
    flags.set(Eflags::OF, packed & 1 != 0);
    LazyFlags::from_flags(flags)
}

impl<E: Env + Windowed, A: Choice> Backend<E> for Native<E, A> {
    const CHAINS: bool = true;
    type Fragment = Fragment<E>;

    fn emit(&mut self, plan: &Plan) -> Fragment<E> {
        self.compiled.push(None);
        Fragment { body: self.portable.emit(plan), number: self.compiled.len() as u32 - 1 }
    }

    #[inline(always)]
    fn run(&self, fragment: &Fragment<E>, done: u8, cpu: &mut Cpu, env: &mut E, precise: bool) -> Ended {
        self.portable.run(&fragment.body, done, cpu, env, precise)
    }

    fn run_part(&self, fragment: &Fragment<E>, done: u8, most: u8, cpu: &mut Cpu, env: &mut E) -> Ended {
        self.portable.run_part(&fragment.body, done, most, cpu, env)
    }

    fn is_fused(&self, fragment: &Fragment<E>) -> bool {
        self.portable.is_fused(&fragment.body)
    }

    fn bytes(&self) -> usize {
        let code = self.host.as_ref().map_or(0, |host| host.code.used());
        if self.full { usize::MAX } else { self.portable.bytes() + code }
    }

    fn clear(&mut self) {
        self.portable.clear();
        self.compiled.clear();
        self.exits.clear();
        self.sites.clear();
        self.linked.clear();
        self.full = false;
        if let Some(host) = &mut self.host {
            host.code.clear();
        }
    }

    fn complete(&mut self, fragment: &Fragment<E>, unit: Whole<'_>) {
        let Some(host) = &mut self.host else { return };
        let entry = host.code.next();
        let first = self.exits.len() as u32;
        let Some(emitted) = emit::emit(&unit, A::ADDRESSING, entry, first) else { return };
        if !host.code.append(&emitted.code) {
            self.full = true;
            return;
        }
        let number = fragment.number;
        self.exits.extend(emitted.exits.into_iter().map(|exit| (number, exit)));
        self.sites.extend(emitted.sites.into_iter().map(|site| (number, site)));
        self.counts.units += 1;
        self.counts.saving += u64::from(emitted.saves_flags);
        self.counts.guest_bytes += unit.code.len() as u64;
        self.counts.host_bytes += emitted.code.len() as u64;
        self.compiled[number as usize] =
            Some(Compiled { unit: unit.number, eip: unit.eip, entry, ways: emitted.ways });
    }

    fn link(&mut self, from: &Fragment<E>, way: usize, to: &Fragment<E>, eip: u32) {
        let Some(host) = &mut self.host else { return };
        let [from, to] = [from, to].map(|f| self.compiled.get(f.number as usize).and_then(Option::as_ref));
        if let (Some(from), Some(to)) = (from, to)
            && let Some(way) = from.ways[way]
            && way.eip == eip
            && to.eip == eip
        {
            host.code.patch(way.site, to.entry);
            self.linked.push(way);
        }
    }

    fn unlink(&mut self) {
        let Some(host) = &mut self.host else { return };
        for way in self.linked.drain(..) {
            host.code.patch(way.site, way.unlinked);
        }
    }

    #[inline]
    fn chain(&mut self, from: &Fragment<E>, cpu: &mut Cpu, env: &mut E) -> Option<Chained> {
        let compiled = self.compiled.get(from.number as usize)?.as_ref()?;
        let left = i64::try_from(cpu.deadline.saturating_sub(cpu.now)).unwrap_or(i64::MAX) - MARGIN;
        if left < 0 || compiled.eip != cpu.eip || !is_flat(cpu) {
            return None;
        }
        let entry = compiled.entry;
        let host = self.host.as_mut()?;
        while let Some(page) = env.take_stale() {
            host.window.unmap(page).ok()?;
        }
        host.context.regs.copy_from_slice(&cpu.regs[..8]);
        host.context.flags = pack(cpu.lazy.to_flags());
        host.context.left = left;
        let back = self.fly(entry, cpu, env)?;
        let context = &self.host.as_ref()?.context;
        cpu.regs[..8].copy_from_slice(&context.regs);
        cpu.lazy = unpack(context.flags);
        let unit = |fragment: u32| self.compiled.get(fragment as usize)?.as_ref().map(|c| (c.unit, c.eip));
        let (chained, eip, not_passed) = match back {
            Back::Way { fragment, way, eip } => (Chained::Way(unit(fragment)?.0, way), eip, 0),
            Back::At { fragment, done, charged } => {
                let (unit, eip) = unit(fragment)?;
                (Chained::At(unit, done), eip, charged)
            }
        };
        let passed = left - context.left - i64::from(not_passed);
        cpu.eip = eip;
        cpu.now += passed as u64;
        self.counts.entries += 1;
        self.counts.retired += passed as u64;
        Some(chained)
    }
}
