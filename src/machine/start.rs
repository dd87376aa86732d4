//! Where a run starts, when it is not at the reset vector.

use super::Machine;
use crate::addr::GuestPhys;
use crate::bus::Width;
use crate::cpu::{Cr0, Eflags, Segment, TableReg, gpr};
use crate::decode::SegReg;
use crate::device::apic::LOCAL_APIC;
use crate::device::pci::{self, i440fx::PIRQ_ROUTES};
use crate::device::pm;

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
    // Edge and level: PCI interrupts, at IRQ 10 and 11, are levels.
    (0x4d1, 0x0c),
];

/// The same for PCI functions: configuration address, value. Interrupts are routed, power management has its ports.
const PCI_POST: [(u32, u32); 3] = [
    (0x8000_0860, u32::from_le_bytes(PIRQ_ROUTES)),
    (0x8000_0b40, pm::USUAL_BASE as u32 | 1),
    (0x8000_0b80, 1),
];

/// The same for the local APIC, by register: on, LINT0 passes the 8259's interrupts on, LINT1 is the NMI ("virtual wire
/// mode", MultiProcessor Specification 1.4, 3.6.2.2).
const APIC_POST: &[(u32, u32)] = &[(0x0f0, 0x1ff), (0x350, 0x700), (0x360, 0x400)];

impl Machine {
    /// Sets the chips up as a BIOS leaves them, for a kernel that starts without one: its loader would have run
    /// under a BIOS, and it may read the keyboard, say, without asking for it.
    pub fn chips_as_after_post(&mut self) {
        for &(port, value) in POST {
            let world = &mut self.world;
            world.board.port_write(port, Width::Byte, value.into(), self.cpu.now, &mut world.map);
        }
        for (address, value) in PCI_POST {
            let world = &mut self.world;
            world.board.port_write(pci::ADDRESS, Width::Dword, address, self.cpu.now, &mut world.map);
            world.board.port_write(pci::DATA, Width::Dword, value, self.cpu.now, &mut world.map);
        }
        if self.world.board.has_apic() {
            for &(register, value) in APIC_POST {
                let at = LOCAL_APIC.offset(register);
                self.world.board.mmio_write(at, Width::Dword, value, self.cpu.now);
            }
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
