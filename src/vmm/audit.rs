//! Whether the guest got at what is the monitor's, looked at as it runs: Popek and Goldberg's resource
//! control (CACM 1974, section 3). Before the real processor is given to the guest and when it comes back,
//! the registers that only the monitor may change are compared, and what the monitor's frames hold: at each
//! of the first entries, then at one in `SAMPLE`.
//!
//! For runs in which something is broken on purpose: `subring compare --without-rule`.

use crate::addr::{Linear, MachineAddr};
use crate::cpu::{Cpu, Cr0, Cr4, Eflags, Segment, TableReg};
use crate::mem::Ram;
use crate::report::{Audit, Breach};
use xxhash_rust::xxh3::Xxh3;

/// Entries after which the monitor's frames are looked at, at first, and then one in so many.
const ALL_FRAMES: u64 = 1024;
const SAMPLE: u64 = 64;

/// The monitor's registers and a hash of its frames, before the guest runs.
pub(super) struct Before {
    registers: Registers,
    frames: Option<u64>,
}

/// The registers that the guest must not change, with their names.
struct Registers {
    tables: [(&'static str, TableReg); 2],
    segments: [(&'static str, Segment); 2],
    words: [(&'static str, u32); 7],
}

impl Registers {
    fn of(cpu: &Cpu) -> Self {
        // TS is the guest's too, and its CLTS may clear it.
        let cr0 = (cpu.cr0 - Cr0::TS).bits();
        let held = Eflags::IF | Eflags::IOPL | Eflags::VM;
        Self {
            tables: [("GDTR", cpu.gdtr), ("IDTR", cpu.idtr)],
            segments: [("LDTR", cpu.ldtr), ("TR", cpu.tr)],
            words: [
                ("CR0", cr0),
                ("CR3", cpu.cr3),
                ("CR4", (cpu.cr4 & Cr4::all()).bits()),
                ("DR7", cpu.dr[7]),
                ("the real IF, IOPL or VM", (cpu.system_flags & held).bits()),
                ("SYSENTER_EIP", cpu.msrs.sysenter_eip),
                ("SYSENTER_CS", cpu.msrs.sysenter_cs),
            ],
        }
    }

    /// The first that differs.
    fn changed(&self, now: &Self) -> Option<&'static str> {
        fn differs<T: PartialEq>(a: &[(&'static str, T)], b: &[(&'static str, T)]) -> Option<&'static str> {
            a.iter().zip(b).find(|(x, y)| x.1 != y.1).map(|(x, _)| x.0)
        }
        differs(&self.tables, &now.tables)
            .or_else(|| differs(&self.segments, &now.segments))
            .or_else(|| differs(&self.words, &now.words))
    }
}

/// Notes what is the monitor's; `digest` hashes the monitor's frames.
pub(super) fn before(audit: &mut Audit, real: &Cpu, digest: impl FnOnce() -> u64) -> Before {
    let looks = audit.entries < ALL_FRAMES || audit.entries.is_multiple_of(SAMPLE);
    audit.entries += 1;
    Before { registers: Registers::of(real), frames: looks.then(digest) }
}

/// Compares after the guest stopped; `digest` hashes the monitor's frames.
pub(super) fn after(audit: &mut Audit, before: &Before, real: &Cpu, digest: impl FnOnce() -> u64) {
    let breach = if real.cpl == 0 {
        Some(Breach::Ring)
    } else if let Some(name) = before.registers.changed(&Registers::of(real)) {
        Some(Breach::Register(name))
    } else {
        before.frames.is_some_and(|hash| hash != digest()).then_some(Breach::Frames)
    };
    if let (None, Some(breach)) = (audit.first, breach) {
        audit.first = Some((breach, Linear(real.linear_eip())));
    }
}

/// A hash of what the monitor's `frames` hold.
pub(super) fn digest(ram: &Ram, frames: impl Iterator<Item = MachineAddr>) -> u64 {
    let mut hash = Xxh3::new();
    for at in frames {
        hash.update(ram.page(at));
    }
    hash.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_register_of_the_monitors_is_looked_at() {
        type Change = (&'static str, fn(&mut Cpu));
        let changes: [Change; 5] = [
            ("GDTR", |c| c.gdtr.limit ^= 1),
            ("TR", |c| c.tr.selector.0 ^= 8),
            ("CR3", |c| c.cr3 ^= 0x1000),
            ("DR7", |c| c.dr[7] ^= 1),
            ("the real IF, IOPL or VM", |c| c.system_flags ^= Eflags::IF),
        ];
        let cpu = Cpu::new();
        let before = Registers::of(&cpu);
        assert_eq!(before.changed(&Registers::of(&cpu)), None);
        for (name, change) in changes {
            let mut cpu = Cpu::new();
            change(&mut cpu);
            assert_eq!(before.changed(&Registers::of(&cpu)), Some(name));
        }
    }
}
