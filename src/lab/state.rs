//! Two machines compared as their guests can: processor, memory, chips. Caches are no part of it: neither
//! TLBs, which the architecture lets differ, nor anything of a monitor's.

use crate::addr::{GuestPhys, PAGE_SIZE};
use crate::cpu::{Cpu, Eflags, gpr};
use crate::decode::SegReg;
use crate::machine::Machine;
use rustc_hash::FxHasher;
use serde::Serialize;
use std::hash::Hasher;

/// A piece of state that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The piece: a register's name, `memory at 0x…`, `chips`.
    pub piece: String,
    /// Its value in the first machine.
    pub first: String,
    /// Its value in the second one.
    pub second: String,
}

/// Bytes of memory that differ and are listed one by one.
const MOST_BYTES: usize = 8;

/// Whether the two are the same to their guests.
pub fn same(a: &Machine, b: &Machine) -> bool {
    same_cpu(&a.cpu, &b.cpu) && chips(a) == chips(b) && same_memory(a, b)
}

/// Two machines that were the same: what has to be looked at to tell whether they still are.
pub struct Followed {
    /// Of each when their chips were compared.
    contacts: (u64, u64),
    video: (u64, u64),
}

impl Followed {
    /// Follows the two, which are the same now.
    pub fn new(a: &mut Machine, b: &mut Machine) -> Self {
        a.take_written();
        b.take_written();
        Self { contacts: (a.chip_contacts(), b.chip_contacts()), video: (video(a), video(b)) }
    }

    /// Whether they are the same now; looks only at what may have changed since they were.
    pub fn are_same(&mut self, a: &mut Machine, b: &mut Machine) -> bool {
        let pages = [a.take_written(), b.take_written()];
        self.chips_are_same(a, b)
            && same_cpu(&a.cpu, &b.cpu)
            && pages.concat().into_iter().all(|n| page(a, n) == page(b, n))
    }
}

impl Followed {
    fn chips_are_same(&mut self, a: &Machine, b: &Machine) -> bool {
        let now = (a.chip_contacts(), b.chip_contacts());
        if std::mem::replace(&mut self.contacts, now) == now {
            return true;
        }
        let now = (video(a), video(b));
        if std::mem::replace(&mut self.video, now) != now {
            return chips(a) == chips(b);
        }
        registers(a) == registers(b)
    }
}

fn video(m: &Machine) -> u64 {
    m.world.board.video_version()
}

/// A hash of all that chips hold but for video memory.
fn registers(m: &Machine) -> u64 {
    let mut h = FxHasher::default();
    m.world.board.hash_registers(&mut h);
    h.finish()
}

fn page(m: &Machine, n: u32) -> &[u8] {
    let map = &m.world.map;
    map.ram.page(map.machine(GuestPhys(n * PAGE_SIZE)))
}

/// What differs, the processor first. Empty if nothing does.
pub fn differences(a: &Machine, b: &Machine) -> Vec<Difference> {
    let mut found = cpu_differences(&a.cpu, &b.cpu);
    found.extend(memory(a, b));
    if chips(a) != chips(b) {
        let hash = |m| format!("state {:016x}", chips(m));
        found.push(Difference { piece: "chips".into(), first: hash(a), second: hash(b) });
    }
    found
}

/// What differs of two processors.
pub fn cpu_differences(a: &Cpu, b: &Cpu) -> Vec<Difference> {
    cpu_pieces(a)
        .into_iter()
        .zip(cpu_pieces(b))
        .filter(|(x, y)| x.1 != y.1)
        .map(|((piece, first), (_, second))| Difference { piece, first, second })
        .collect()
}

/// The pieces of two processors' state that differ, by names that [`cpu_differences`] has, but for flags,
/// which have their own. Makes no text of what is the same.
pub fn cpu_pieces_that_differ(a: &Cpu, b: &Cpu) -> Vec<&'static str> {
    if same_cpu(a, b) {
        return Vec::new();
    }
    let mut found: Vec<&'static str> = Vec::new();
    let mut note = |name: &'static str, differs: bool| {
        if differs {
            found.push(name);
        }
    };
    (0..gpr::NAMES.len()).for_each(|n| note(gpr::NAMES[n], a.regs[n] != b.regs[n]));
    let flags = a.eflags() ^ b.eflags();
    note("IF", flags.contains(Eflags::IF));
    note("IOPL", flags.intersects(Eflags::IOPL));
    note("other flags", !(flags - Eflags::IF - Eflags::IOPL).is_empty());
    note("eip", a.eip != b.eip);
    SegReg::ALL.iter().for_each(|s| note(s.name(), a.seg(*s) != b.seg(*s)));
    note("cpl", a.cpl != b.cpl);
    note("x87", a.fpu != b.fpu);
    if found.is_empty() {
        found.push("other state");
    }
    found
}

/// A hash of all that [`same`] looks at.
pub fn digest(m: &Machine) -> u64 {
    use std::hash::Hash;
    let mut h = FxHasher::default();
    cpu_pieces(&m.cpu).hash(&mut h);
    chips(m).hash(&mut h);
    frames(m).for_each(|page| page.hash(&mut h));
    h.finish()
}

fn chips(m: &Machine) -> u64 {
    let mut h = FxHasher::default();
    m.world.board.hash_state(&mut h);
    h.finish()
}

/// The guest's memory, page by page.
fn frames(m: &Machine) -> impl Iterator<Item = &[u8]> {
    m.world.map.p2m().frames().map(|at| m.world.map.ram.page(at))
}

fn same_memory(a: &Machine, b: &Machine) -> bool {
    frames(a).eq(frames(b))
}

fn memory(a: &Machine, b: &Machine) -> Vec<Difference> {
    let mut found = Vec::new();
    for (n, (x, y)) in (0u32..).zip(frames(a).zip(frames(b))) {
        if x == y {
            continue;
        }
        let bytes = (0u32..).zip(x.iter().zip(y)).filter(|(_, (p, q))| p != q);
        for (offset, (p, q)) in bytes.take(MOST_BYTES - found.len()) {
            let at = GuestPhys(n * PAGE_SIZE + offset);
            let byte = |b: &u8| format!("{b:02x}");
            found.push(Difference { piece: format!("memory at {at}"), first: byte(p), second: byte(q) });
        }
        if found.len() == MOST_BYTES {
            break;
        }
    }
    found
}

/// The pieces of [`cpu_pieces`], compared without making text of them.
fn same_cpu(a: &Cpu, b: &Cpu) -> bool {
    let pieces = |c: &Cpu| {
        (
            (c.regs, c.eip, c.eflags(), c.cr0, c.cr2, c.cr3, c.cr4),
            ([c.dr[0], c.dr[1], c.dr[2], c.dr[3], c.dr[6], c.dr[7]], c.segs, c.ldtr, c.tr, c.gdtr, c.idtr),
            (c.cpl, c.activity, c.shadow, c.debug_pending, c.nmi_blocked, c.now, c.idle, c.pdptes),
            (c.msrs.sysenter_cs, c.msrs.sysenter_esp, c.msrs.sysenter_eip, c.msrs.tsc_offset),
        )
    };
    pieces(a) == pieces(b) && a.fpu == b.fpu
}

/// The processor's state, piece by piece, always in the same order.
fn cpu_pieces(cpu: &Cpu) -> Vec<(String, String)> {
    let mut pieces = Vec::with_capacity(48);
    let mut hex = |name: &str, value: u32| pieces.push((name.to_owned(), format!("{value:08x}")));
    for (name, value) in gpr::NAMES.iter().zip(cpu.regs) {
        hex(name, value);
    }
    hex("eip", cpu.eip);
    hex("eflags", cpu.eflags().bits());
    hex("cr0", cpu.cr0.bits());
    hex("cr2", cpu.cr2);
    hex("cr3", cpu.cr3);
    hex("cr4", cpu.cr4.bits());
    for n in [0, 1, 2, 3, 6, 7] {
        hex(&format!("dr{n}"), cpu.dr[n]);
    }
    hex("sysenter_cs", cpu.msrs.sysenter_cs);
    hex("sysenter_esp", cpu.msrs.sysenter_esp);
    hex("sysenter_eip", cpu.msrs.sysenter_eip);
    let named = SegReg::ALL.iter().map(|s| (s.name(), cpu.seg(*s)));
    for (name, s) in named.chain([("ldtr", &cpu.ldtr), ("tr", &cpu.tr)]) {
        let text = format!(
            "{:04x} (base {:08x}, limit {:08x}, attributes {:03x})",
            s.selector.0, s.base, s.limit, s.attr
        );
        pieces.push((name.to_owned(), text));
    }
    for (name, t) in [("gdtr", cpu.gdtr), ("idtr", cpu.idtr)] {
        pieces.push((name.to_owned(), format!("base {:08x}, limit {:04x}", t.base, t.limit)));
    }
    let rest = [
        ("cpl", format!("{}", cpu.cpl)),
        ("activity", format!("{:?}", cpu.activity)),
        ("shadow", format!("{:?}, debug traps {:x}", cpu.shadow, cpu.debug_pending)),
        ("NMI blocked", format!("{}", cpu.nmi_blocked)),
        ("time", format!("{} ({} of it halted)", cpu.now, cpu.idle)),
        ("pdptes", format!("{:016x?}", cpu.pdptes)),
        ("tsc offset", format!("{}", cpu.msrs.tsc_offset)),
        ("x87", format!("{:?}", cpu.fpu)),
    ];
    pieces.extend(rest.map(|(name, text)| (name.to_owned(), text)));
    pieces
}
