//! Where a run starts, when it is not at the reset vector.

use super::Machine;
use crate::addr::GuestPhys;
use crate::bus::Width;
use crate::cpu::{Cr0, Eflags, Segment, TableReg, gpr};
use crate::decode::SegReg;
use crate::device::apic::LOCAL_APIC;
use crate::device::pci::{self, i440fx::PIRQ_ROUTES};
use crate::device::{ide, pm};

/// What a BIOS last wrote to the chips when it passes control on: port, value.
const POST: &[(u16, u8)] = &[
    // Two 8259A: vectors 08h and 70h, the second on IRQ 2; timer, keyboard, floppy, clock, x87 errors and
    // disks let through.
    (0x20, 0x11),
    (0x21, 0x08),
    (0x21, 0x04),
    (0x21, 0x01),
    (0xa0, 0x11),
    (0xa1, 0x70),
    (0xa1, 0x02),
    (0xa1, 0x01),
    (0x21, 0xb8),
    (0xa1, 0x1e),
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

/// What a BIOS leaves in the PCI functions: configuration address, value. Interrupts are routed, power
/// management has its ports.
const PCI_POST: &[(u32, u32)] = &[
    // PAM0 to PAM6, as SeaBIOS leaves them: RAM that takes no writes at C0000-EBFFF and F0000-FFFFF.
    (0x8000_0058, 0x1111_1000),
    (0x8000_005c, 0x3111_1111),
    // The bus master at its ports, and each function answering.
    (0x8000_0920, ide::USUAL_BASE as u32 | 1),
    (0x8000_0904, 0x0103),
    (0x8000_0804, 0x0107),
    (0x8000_0004, 0x0103),
    (0x8000_0860, u32::from_le_bytes(PIRQ_ROUTES)),
    (0x8000_0b40, pm::USUAL_BASE as u32 | 1),
    (0x8000_0b80, 1),
    (0x8000_0b04, 0x0103),
];

/// What stands at the reset vector of a machine without firmware. A warm start takes the shutdown code from
/// CMOS, so that it serves once, and goes on by the far pointer at 40:67h: with code 5 after ending the
/// interrupt and taking the keyboard's byte, with 0Ah at once (IBM PC/AT Technical Reference, BIOS).
#[rustfmt::skip]
const WARM_START: &[u8] = &[
    0xb0, 0x0f, 0xe6, 0x70,       // MOV AL,0Fh; OUT 70h,AL
    0xe4, 0x71, 0x88, 0xc3,       // IN AL,71h; MOV BL,AL
    0xb0, 0x0f, 0xe6, 0x70,       // MOV AL,0Fh; OUT 70h,AL
    0x30, 0xc0, 0xe6, 0x71,       // XOR AL,AL; OUT 71h,AL
    0xb8, 0x40, 0x00, 0x8e, 0xd8, // MOV AX,40h; MOV DS,AX
    0x80, 0xfb, 0x05, 0x75, 0x08, // CMP BL,5; JNE to the jump
    0xb0, 0x20, 0xe6, 0xa0,       // MOV AL,20h; OUT A0h,AL
    0xe6, 0x20, 0xe4, 0x60,       // OUT 20h,AL; IN AL,60h
    0xff, 0x2e, 0x67, 0x00,       // JMP FAR [0067h]
];
const WARM_START_AT: GuestPhys = GuestPhys(0xf_ff00);

/// The last 16 bytes below 1 MiB: JMP F000:FF00h, the date, and the model byte of a PC/AT.
const RESET_VECTOR: &[u8; 16] = b"\xea\x00\xff\x00\xf001/01/26\x00\xfc\x00";
const RESET_VECTOR_AT: GuestPhys = GuestPhys(0xf_fff0);

/// What a BIOS leaves in the local APIC, by register: on, LINT0 passes the 8259's interrupts on, LINT1 is the
/// NMI ("virtual wire mode", MultiProcessor Specification 1.4, 3.6.2.2).
const APIC_POST: &[(u32, u32)] = &[(0x0f0, 0x1ff), (0x350, 0x8700), (0x360, 0x8400)];

impl Machine {
    /// Sets the chips up as a BIOS leaves them, for a kernel that starts without one: its loader would have
    /// run under a BIOS, and it may read the keyboard, say, without asking for it.
    ///
    /// What the loader stored at F0000-FFFFF is read only from here on, as a BIOS leaves its shadow, and the
    /// memory map calls it reserved.
    pub fn chips_as_after_post(&mut self) {
        self.store(WARM_START_AT, WARM_START);
        self.store(RESET_VECTOR_AT, RESET_VECTOR);
        for &(port, value) in POST {
            let world = &mut self.world;
            world.board.port_write(port, Width::Byte, value.into(), self.cpu.now, &mut world.map);
        }
        for &(address, value) in PCI_POST {
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

    /// A reset that the guest made to leave protected mode: the chips as after POST again, the processor at
    /// the reset vector. Memory stays.
    pub(super) fn warm_start(&mut self) {
        self.reset();
        self.chips_as_after_post();
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

    /// As [`Machine::start_flat`], with CS 10h and data segments 18h from a table at `gdt`, and ESI as given
    /// (Linux boot protocol, 32-bit entry).
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

    /// Starts in 32-bit protected mode with flat segments, paging and interrupts off (the state of Multiboot
    /// 1, 3.2).
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
