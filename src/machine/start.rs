//! Where a run starts, when it is not at the reset vector.

use super::Machine;
use crate::addr::GuestPhys;
use crate::bus::Width;
use crate::cpu::{Cr0, Eflags, Segment, gpr};
use crate::decode::SegReg;

/// What a BIOS last wrote to the chips when it passes control on: port, value.
const POST: &[(u16, u8)] = &[
    // Two 8259A: vectors 08h and 70h, the second on IRQ 2; timer, keyboard, floppy, clock and disks let through.
    (0x20, 0x11),
    (0x21, 0x08),
    (0x21, 0x04),
    (0x21, 0x01),
    (0xa0, 0x11),
    (0xa1, 0x70),
    (0xa1, 0x02),
    (0xa1, 0x01),
    (0x21, 0xb8),
    (0xa1, 0x3e),
    // 8254: 18.2 ticks a second.
    (0x43, 0x34),
    (0x40, 0x00),
    (0x40, 0x00),
    // 8237: cleared, the first controller cascaded through channel 4 of the second.
    (0x0d, 0x00),
    (0xda, 0x00),
    (0xd6, 0xc0),
    (0xd4, 0x00),
    // 8042: the keyboard on, its interrupt too, scan codes translated to set 1.
    (0x64, 0x60),
    (0x60, 0x65),
    (0x64, 0xae),
];

impl Machine {
    /// Sets the chips up as a BIOS leaves them, for a kernel that starts without one: its loader would have run
    /// under a BIOS, and it may read the keyboard, say, without asking for it.
    pub fn chips_as_after_post(&mut self) {
        for &(port, value) in POST {
            let world = &mut self.world;
            world.board.port_write(port, Width::Byte, value.into(), self.cpu.now, &mut world.map);
        }
        self.world.settle();
    }

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
