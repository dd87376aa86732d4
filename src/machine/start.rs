//! Where a run starts, when it is not at the reset vector.

use super::Machine;
use crate::addr::GuestPhys;
use crate::cpu::{Cr0, Eflags, Segment, TableReg, gpr};
use crate::decode::SegReg;

impl Machine {
    /// Stores `bytes` at `at`: the loader's way into RAM.
    pub fn store(&mut self, at: GuestPhys, bytes: &[u8]) {
        self.world.map.write(at, bytes);
    }

    /// Starts in real mode at `cs:ip`, all data segments as CS, the stack at its top.
    pub fn start_real(&mut self, cs: u16, ip: u16) {
        for s in SegReg::ALL {
            self.cpu.set_seg(s, Segment::real(cs));
        }
        self.cpu.eip = u32::from(ip);
        self.cpu.regs[gpr::ESP] = 0xfffe;
    }

    /// As [`Machine::start_flat`], with CS 10h and data segments 18h from a table at `gdt`, and ESI as given (Linux
    /// boot protocol, 32-bit entry).
    pub fn start_linux(&mut self, eip: u32, esi: u32, gdt: u32) {
        self.start_flat(eip, 0, 0, 0);
        let cpu = &mut self.cpu;
        cpu.gdtr = TableReg { base: gdt, limit: 0x1f };
        for s in SegReg::ALL {
            cpu.set_seg(s, Segment::with(0x18, 0, !0, 0xc93));
        }
        cpu.set_seg(SegReg::Cs, Segment::with(0x10, 0, !0, 0xc9b));
        cpu.regs[gpr::ESI] = esi;
    }

    /// Starts in 32-bit protected mode with flat segments, paging and interrupts off (the state of Multiboot 1, 3.2).
    pub fn start_flat(&mut self, eip: u32, eax: u32, ebx: u32, esp: u32) {
        let cpu = &mut self.cpu;
        cpu.cr0 = (cpu.cr0 | Cr0::PE) - (Cr0::CD | Cr0::NW);
        for s in SegReg::ALL {
            cpu.set_seg(s, Segment::with(0x10, 0, !0, 0xc93));
        }
        cpu.set_seg(SegReg::Cs, Segment::with(0x08, 0, !0, 0xc9b));
        cpu.set_eflags(Eflags::empty());
        cpu.eip = eip;
        cpu.regs[..8].fill(0);
        cpu.regs[gpr::EAX] = eax;
        cpu.regs[gpr::EBX] = ebx;
        cpu.regs[gpr::ESP] = esp;
        self.world.tlb.flush(true);
    }
}
