//! What a BIOS leaves in the chips when it starts a boot sector: SeaBIOS's registers and ours, one by one.
//! What a kernel could see and is not the same stands in [`SETTLED`], with the reason.

use super::fetch::have;
use super::seabios::bios;
use subring::addr::GuestPhys;
use subring::bus::Width;
use subring::device::pci;
use subring::machine::board::BoardConfig;
use subring::machine::{Config, Limits, Machine, Outcome};
use subring::media::{Disk, MemoryDisk};

const OWN: &[u8] = include_bytes!("../../guest-programs/bios/bios.bin");
const RAM: u32 = 32 << 20;

/// A disk that stops where a kernel would start: CLI; HLT.
fn disk() -> Box<dyn Disk> {
    let mut image = vec![0; 64 * 512];
    image[..2].copy_from_slice(&[0xfa, 0xf4]);
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
    Box::new(MemoryDisk::new(image))
}

/// The machine in its boot sector.
fn booted(bios: Vec<u8>, vga_bios: Option<Vec<u8>>) -> Machine {
    let board = BoardConfig {
        ram_size: RAM,
        disks: [Some(disk()), Some(disk()), None, None],
        floppies: [Some(Box::new(MemoryDisk::new(vec![0; 2880 * 512]))), None],
        cdrom: Some(Box::new(MemoryDisk::new(vec![0; 64 * 2048]))),
        boot_order: 2,
        firmware: true,
        apic: true,
        acpi: true,
        ..BoardConfig::default()
    };
    let mut m = Machine::new(Config { ram_size: RAM, board, bios: Some(bios), vga_bios }).expect("a machine");
    assert_eq!(m.run(Limits::until(2_000_000_000)), Outcome::HaltedForever);
    assert!((0x7c00..0x7c10).contains(&m.cpu.eip), "in the boot sector: {:#x}", m.cpu.eip);
    m
}

/// Access to the chips as a kernel has it.
struct Probe {
    machine: Machine,
    seen: Vec<(String, u32)>,
}

impl Probe {
    fn read(&mut self, port: u16, width: Width) -> u32 {
        let (now, world) = (self.machine.cpu.now, &mut self.machine.world);
        world.board.port_read(port, width, now, &mut world.map)
    }

    fn write(&mut self, port: u16, width: Width, value: u32) {
        let (now, world) = (self.machine.cpu.now, &mut self.machine.world);
        world.board.port_write(port, width, value, now, &mut world.map);
    }

    fn note(&mut self, name: impl Into<String>, value: u32) {
        self.seen.push((name.into(), value));
    }

    /// The bytes at `ports`.
    fn ports(&mut self, name: &str, ports: impl IntoIterator<Item = u16>) {
        for port in ports {
            let value = self.read(port, Width::Byte);
            self.note(format!("{name} {port:03x}"), value);
        }
    }

    /// Registers `0..count` behind an index port and the data port after it.
    fn indexed(&mut self, name: &str, port: u16, registers: impl IntoIterator<Item = u8>) {
        for register in registers {
            self.write(port, Width::Byte, register.into());
            let value = self.read(port + 1, Width::Byte);
            self.note(format!("{name} {register:02x}"), value);
        }
    }

    fn interrupts(&mut self) {
        let chips = self.machine.world.board.interrupt_controllers();
        for (name, chip) in ["8259 master", "8259 slave"].into_iter().zip(chips) {
            self.note(format!("{name} base"), chip.base.into());
            self.note(format!("{name} mask"), chip.imr.into());
            self.note(format!("{name} in service"), chip.isr.into());
        }
        self.ports("ELCR", [0x4d0, 0x4d1]);
        for (name, at) in
            [("TPR", 0x80), ("LDR", 0xd0), ("DFR", 0xe0), ("SVR", 0xf0), ("LINT0", 0x350), ("LINT1", 0x360)]
        {
            let now = self.machine.cpu.now;
            let value = self.machine.world.board.mmio_read(GuestPhys(0xfee0_0000 + at), Width::Dword, now);
            self.note(format!("local APIC {name}"), value);
        }
    }

    fn timers(&mut self) {
        for (channel, select) in [(0, 0xe2), (1, 0xe4), (2, 0xe8)] {
            self.write(0x43, Width::Byte, select);
            let status = self.read(0x40 + channel, Width::Byte);
            self.note(format!("8254 channel {channel} status"), status & 0x3f);
        }
        let gate = self.read(0x61, Width::Byte) & 0x0f;
        self.note("port 61", gate);
        self.indexed("CMOS", 0x70, [0x0b, 0x0d, 0x0e, 0x0f, 0x10, 0x12, 0x14, 0x15, 0x16, 0x2d]);
    }

    fn keyboard(&mut self) {
        let status = self.read(0x64, Width::Byte);
        self.note("8042 status", status);
        self.write(0x64, Width::Byte, 0x20);
        let command = self.read(0x60, Width::Byte);
        self.note("8042 command byte", command);
        self.ports("port", [0x92]);
    }

    fn drives(&mut self) {
        for base in [0x1f0, 0x170] {
            let selected = self.read(base + 6, Width::Byte);
            self.note(format!("ATA {base:x} device"), selected);
            for device in [0xa0, 0xb0] {
                self.write(base + 6, Width::Byte, device);
                let name = format!("ATA {base:x} {device:x}");
                self.ports(&name, [base + 7, base + 1, base + 2, base + 3, base + 4, base + 5]);
            }
        }
        self.ports("floppy", [0x3f2, 0x3f4, 0x3f7]);
        self.ports("DMA", [0x08, 0xd0, 0x81, 0x82, 0x83]);
    }

    fn serial(&mut self) {
        for base in [0x3f8, 0x2f8] {
            self.ports("UART", (base + 1)..(base + 7));
            let lcr = self.read(base + 3, Width::Byte);
            self.write(base + 3, Width::Byte, lcr | 0x80);
            self.ports("UART divisor", [base, base + 1]);
        }
    }

    fn video(&mut self) {
        self.ports("VGA", [0x3c6, 0x3cc, 0x3ca]);
        self.indexed("VGA sequencer", 0x3c4, 1..5);
        self.indexed("VGA CRTC", 0x3d4, 0..0x19);
        self.indexed("VGA graphics", 0x3ce, 0..9);
        for register in 0..0x15 {
            self.read(0x3da, Width::Byte);
            self.write(0x3c0, Width::Byte, register | 0x20);
            let value = self.read(0x3c1, Width::Byte);
            self.note(format!("VGA attribute {register:02x}"), value);
        }
    }

    fn pci(&mut self) {
        for (function, name) in [(0x00, "host"), (0x08, "ISA"), (0x09, "IDE"), (0x0b, "PM")] {
            for register in (0..0x100).step_by(4) {
                self.write(pci::ADDRESS, Width::Dword, 0x8000_0000 | function << 8 | register);
                let value = self.read(pci::DATA, Width::Dword);
                self.note(format!("PCI {name} {register:02x}"), value);
            }
        }
        self.write(pci::ADDRESS, Width::Dword, 0x8000_0b40);
        let base = self.read(pci::DATA, Width::Dword) as u16 & 0xffc0;
        for register in 0..6 {
            let value = self.read(base + register, Width::Byte);
            self.note(format!("PM {register}"), value);
        }
    }
}

/// Every register that the chips show, by name.
fn registers(machine: Machine) -> Vec<(String, u32)> {
    let mut probe = Probe { machine, seen: Vec::new() };
    probe.interrupts();
    probe.timers();
    probe.keyboard();
    probe.drives();
    probe.serial();
    probe.video();
    probe.pci();
    probe.seen
}

/// Register, SeaBIOS's value, ours, and why that may stay so.
const SETTLED: &[(&str, u32, u32, &str)] = &[
    ("8259 slave mask", 0x8e, 0x1e, "ours serves both ATA channels and no mouse"),
    ("8254 channel 1 status", 0x30, 0x14, "ours programs the refresh timer of an AT"),
    ("8042 status", 0x10, 0x14, "the self test was good, as the PC/AT reference has it"),
    ("8042 command byte", 0x61, 0x65, "its system flag"),
    ("ATA 170 device", 0xb0, 0xa0, "the drive that was asked last"),
    ("ATA 170 a0 172", 0x00, 0x55, "left by the probe; SeaBIOS has read from the CD-ROM drive since"),
    ("ATA 170 a0 173", 0x00, 0xaa, "the probe"),
    ("ATA 170 a0 174", 0x00, 0x14, "the signature of a packet device"),
    ("ATA 170 a0 175", 0x00, 0xeb, "the signature"),
    ("ATA 170 b0 172", 0x00, 0x55, "device 0 answers for the one that is not there"),
    ("ATA 170 b0 173", 0x00, 0xaa, "device 0 answers"),
    ("ATA 170 b0 174", 0x00, 0x14, "device 0 answers"),
    ("ATA 170 b0 175", 0x00, 0xeb, "device 0 answers"),
    ("VGA CRTC 0e", 0x00, 0x02, "the cursor stands after other text"),
    ("VGA CRTC 0f", 0x00, 0x30, "the cursor"),
    ("PCI host 58", 0x1111_1000, 0, "our ROM is not copied to RAM: it answers itself"),
    ("PCI host 5c", 0x3111_1111, 0, "our ROM answers itself"),
    ("PCI PM 40", 0xb001, 0x0601, "ACPI's tables say where power management is"),
    ("PCI PM 90", 0xb101, 0, "no SMBus is built"),
    ("PCI PM d0", 0x9_0000, 0, "no SMBus is built"),
];

#[test]
fn our_bios_leaves_the_chips_as_seabios_does() {
    let image = |path| std::fs::read(path).expect("the package's file");
    let Some((system, vga)) = have(&["seabios"]).then(|| bios("bios.bin")).flatten() else { return };
    let sea = registers(booted(image(system), Some(image(vga))));
    let own = registers(booted(OWN.to_vec(), None));
    let mut wrong = Vec::new();
    for ((name, sea), (_, own)) in sea.iter().zip(&own) {
        let settled = SETTLED.iter().any(|&(n, s, o, _)| n == name && s == *sea && o == *own);
        if sea != own && !settled {
            wrong.push(format!("{name}: SeaBIOS {sea:#x}, ours {own:#x}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (name, ..) in SETTLED {
        assert!(sea.iter().any(|(n, _)| n == name), "{name} is no register that is read here");
    }
}
