//! The world that a form runs in: all of linear memory is mapped, so that no instruction meets a page fault,
//! and every byte has a content without being stored: operands and stack from the state, descriptor tables
//! and task-state segments by their layout, the rest from a hash of the address. What the instruction writes
//! is kept in a list.
//!
//! Under a monitor guest-linear memory lies in other frames, and the monitor's tables are at the top of the
//! linear space, behind the limit of every segment.

use super::rng::mix;
use crate::addr::{GuestPhys, Linear};
use crate::bus::Width;
use crate::cpu::{Cpu, Fault, Word};
use crate::exec::Env;
use crate::mmu::paging::{Access, TableMemory, entry, walk};

/// Where the guest's tables are, in linear memory.
pub(super) const GUEST: u32 = 0x0001_0000;
/// Where the monitor's are, at the same distances.
pub(super) const MONITOR: u32 = 0xffc0_0000;
/// Distances of the tables.
pub(super) const GDT: u32 = 0;
pub(super) const LDT: u32 = 0x1000;
pub(super) const IDT: u32 = 0x2000;
pub(super) const TSS: u32 = 0x4000;
pub(super) const TSS2: u32 = 0x7000;
const TABLES_END: u32 = 0x8000;
/// A TSS with its I/O map.
pub(super) const TSS_LIMIT: u32 = 0x68 + 0x2000;
/// Physical addresses of the page directories.
pub(super) const GUEST_PAGES: u32 = 0x0001_8000;
pub(super) const MONITOR_PAGES: u32 = 0x0001_9000;
/// The physical page in which VMX finds zeros; everywhere else there are ones.
pub(super) const EMPTY_PAGE: u32 = 0x0010_0000;
/// Exchanges 4 MiB frames under the monitor.
const MOVED: u32 = 0x155 << 22;
/// Bytes of operand and stack that a state gives.
pub(super) const WINDOW: u32 = 64;

/// How the gates of an IDT come about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Gates {
    /// What the guest's are drawn from; none where it has no gates.
    pub(super) salt: Option<u64>,
    /// Whether these are the monitor's, made from the guest's.
    pub(super) monitor: bool,
    /// The gate.
    pub(super) make: fn(Gates, u8) -> u64,
}

impl Gates {
    fn of(self, vector: u8) -> u64 {
        (self.make)(self, vector)
    }
}

/// One owner's tables.
#[derive(Clone, Debug)]
pub(super) struct Tables {
    pub(super) gdt: Vec<u64>,
    pub(super) ldt: Vec<u64>,
    /// The gate of a vector.
    pub(super) gate: Gates,
    /// The doublewords of the TSS before its I/O map, and of a second one.
    pub(super) tss: [[u32; 26]; 2],
}

impl Tables {
    fn byte(&self, at: u32) -> Option<u8> {
        let of =
            |table: &[u64], at: u32| table.get((at / 8) as usize).map(|d| d.to_le_bytes()[(at % 8) as usize]);
        let task = |n: usize, at: u32| match self.tss[n].get((at / 4) as usize) {
            Some(word) => word.to_le_bytes()[(at % 4) as usize],
            // The I/O map: no port is allowed.
            None => 0xff,
        };
        match at {
            GDT..LDT => of(&self.gdt, at - GDT),
            LDT..IDT => of(&self.ldt, at - LDT),
            IDT..TSS if at < IDT + 0x800 => {
                Some(self.gate.of(((at - IDT) / 8) as u8).to_le_bytes()[(at % 8) as usize])
            }
            TSS..TSS2 => Some(task(0, at - TSS)),
            TSS2..TABLES_END => Some(task(1, at - TSS2)),
            _ => None,
        }
    }
}

/// What memory holds before the instruction, as the guest sees it.
#[derive(Clone, Debug)]
pub(super) struct Memory {
    pub(super) salt: u64,
    pub(super) operand_at: u32,
    pub(super) operand: [u8; WINDOW as usize],
    pub(super) stack_at: u32,
    pub(super) stack: [u8; WINDOW as usize],
    /// The guest's tables; none in real mode.
    pub(super) guest: Option<Tables>,
}

/// What the monitor adds.
#[derive(Clone, Debug)]
pub(super) enum Shadow {
    /// There is none: the bare machine.
    None,
    /// Real mode with the vector table elsewhere.
    Vectors,
    /// Tables of its own.
    Tables(Box<Tables>),
}

/// A port access: the port, the width in bytes, and the value written, if it was.
pub(super) type PortAccess = (u16, u32, Option<u32>);

/// The world of one run.
pub(super) struct World<'a> {
    memory: &'a Memory,
    shadow: &'a Shadow,
    moved: u32,
    /// Each written byte, by its linear address, in the order of the writes.
    pub(super) written: Vec<(u32, u8)>,
    pub(super) ports: Vec<PortAccess>,
    /// Whether cached translations were dropped.
    pub(super) flushed: bool,
}

impl<'a> World<'a> {
    pub(super) fn new(memory: &'a Memory, shadow: &'a Shadow) -> Self {
        let moved = if matches!(shadow, Shadow::Tables(_)) { MOVED } else { 0 };
        Self { memory, shadow, moved, written: Vec::new(), ports: Vec::new(), flushed: false }
    }

    /// The byte at a linear address, now.
    pub(super) fn byte(&self, at: u32) -> u8 {
        let written = self.written.iter().rev().find(|(a, _)| *a == at);
        written.map_or_else(|| self.before(at), |(_, b)| *b)
    }

    /// The byte before the instruction.
    fn before(&self, at: u32) -> u8 {
        let m = self.memory;
        let (operand, stack) = (at.wrapping_sub(m.operand_at), at.wrapping_sub(m.stack_at));
        if stack < WINDOW {
            return m.stack[stack as usize];
        }
        if operand < WINDOW {
            return m.operand[operand as usize];
        }
        let monitor = at.wrapping_sub(MONITOR);
        let tables = match self.shadow {
            Shadow::Tables(t) if at >= MONITOR => t.byte(monitor),
            Shadow::Vectors if at >= MONITOR => return self.before(monitor.wrapping_sub(IDT)),
            _ => m.guest.as_ref().and_then(|t| t.byte(at.wrapping_sub(GUEST))),
        };
        tables.unwrap_or_else(|| mix(m.salt ^ u64::from(at)) as u8)
    }

    fn translate(&mut self, cpu: &Cpu, at: Linear, user: bool, write: bool) -> Result<u32, Fault> {
        let m = walk(cpu, self, at, Access::data(user, write))?;
        Ok((m.frame.0 | at.page_offset()) ^ self.moved)
    }

    fn read<W: Word>(&mut self, cpu: &Cpu, at: Linear, user: bool, write: bool) -> Result<W, Fault> {
        let mut bytes = [0; 4];
        for n in 0..W::BYTES {
            let home = self.translate(cpu, at.offset(n), user, write)?;
            bytes[n as usize] = self.byte(home);
        }
        Ok(W::from_u32(u32::from_le_bytes(bytes)))
    }
}

impl TableMemory for World<'_> {
    /// The page directories: 4 MiB pages for all of the linear space, accessed and dirty; the monitor's part
    /// is for supervisors.
    fn read_entry(&self, at: GuestPhys) -> u32 {
        let directory = at.page().0;
        if directory != GUEST_PAGES && directory != MONITOR_PAGES {
            return 0;
        }
        let frame = (at.page_offset() / 4) << 22;
        let user = if self.moved != 0 && frame >= MONITOR { 0 } else { entry::USER };
        let flags = entry::PRESENT | entry::WRITE | entry::ACCESSED | entry::DIRTY | entry::LARGE | user;
        (frame ^ self.moved) | flags
    }

    fn write_entry(&mut self, _: GuestPhys, _: u32) {}
}

impl Env for World<'_> {
    fn load<W: Word>(&mut self, cpu: &Cpu, at: Linear, user: bool) -> Result<W, Fault> {
        self.read(cpu, at, user, false)
    }

    fn load_for_update<W: Word>(&mut self, cpu: &Cpu, at: Linear, user: bool) -> Result<W, Fault> {
        self.read(cpu, at, user, true)
    }

    fn store<W: Word>(&mut self, cpu: &Cpu, at: Linear, value: W, user: bool) -> Result<(), Fault> {
        self.probe(cpu, at, W::BYTES, user, true)?;
        for (n, byte) in (0..W::BYTES).zip(value.u().to_le_bytes()) {
            let home = self.translate(cpu, at.offset(n), user, true)?;
            self.written.push((home, byte));
        }
        Ok(())
    }

    fn probe(&mut self, cpu: &Cpu, at: Linear, len: u32, user: bool, write: bool) -> Result<(), Fault> {
        self.translate(cpu, at, user, write)?;
        self.translate(cpu, at.offset(len - 1), user, write).map(|_| ())
    }

    fn port_in(&mut self, _: &Cpu, port: u16, width: Width) -> u32 {
        self.ports.push((port, width.bytes(), None));
        mix(self.memory.salt ^ u64::from(port)) as u32
    }

    fn port_out(&mut self, _: &Cpu, port: u16, width: Width, value: u32) {
        self.ports.push((port, width.bytes(), Some(value)));
    }

    fn read_physical(&mut self, _: &Cpu, at: u32) -> u32 {
        if at & !0xfff == EMPTY_PAGE { 0 } else { !0 }
    }

    fn flush_tlb(&mut self, _: bool) {
        self.flushed = true;
    }

    fn invalidate_page(&mut self, _: Linear) {
        self.flushed = true;
    }
}
