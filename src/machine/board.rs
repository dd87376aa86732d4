//! The board: which chip sits at which port and on which interrupt line, and when the next of them acts by
//! itself.
//!
//! The run loop calls [`Board::advance`] when [`Board::next_event`] is due, and looks at
//! [`Board::interrupt_requested`] between instructions; port I/O of the processor comes in by
//! [`Board::port_read`] and [`Board::port_write`].

use crate::addr::GuestPhys;
use crate::bus::phys::{PhysMap, VGA_WINDOW};
use crate::bus::{Clock, Ticks, Width};
use crate::console::keymap::KeyEvent;
use crate::cpu::Model;
use crate::device::Device;
use crate::device::ata::{Ata, Unit};
use crate::device::cmos;
use crate::device::fdc;
use crate::device::fw_cfg::FwCfgConfig;
use crate::device::mouse::MouseEvent;
use crate::device::pc_testdev::{self, PcTestdev};
use crate::device::pic::PicState;
use crate::device::pm::Pm;
use crate::device::uart::Transmitter;
use crate::device::uart::Uart;
use crate::device::vga_text::Screen;
use crate::error::Error;
use crate::media::Disk;
use chips::{Chip, Chips, Parts, TABLE, TIMED};
use ports::{routes, window_chip};
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

/// ISA interrupts that no chip of the board has, so that PCI interrupts may be routed to them.
const PIRQ_TARGETS: [u8; 4] = [5, 9, 10, 11];
/// The system control interrupt of ACPI.
const SCI: u8 = 9;
/// CMOS shutdown codes (IBM PC/AT Technical Reference, BIOS): end the interrupt and jump by 40:67h, or just
/// jump.
const WARM_SHUTDOWN_CODES: [u8; 2] = [0x05, 0x0a];
const NEVER: Ticks = Ticks::MAX;

/// What a board is built from.
#[derive(Default)]
pub struct BoardConfig {
    /// The processor.
    pub cpu: Model,
    /// The machine's clock.
    pub clock: Clock,
    /// RAM in bytes, for the firmware's tables.
    pub ram_size: u32,
    /// What the real-time clock shows at power-on: seconds since 1970.
    pub epoch: i64,
    /// The disks: device 0 and 1 of the first channel, then of the second.
    pub disks: [Option<Box<dyn Disk>>; 4],
    /// The CD-ROM. Its drive is device 0 of the second channel, in the place of a disk.
    pub cdrom: Option<Box<dyn Disk>>,
    /// The floppies in drives A and B.
    pub floppies: [Option<Box<dyn Disk>>; 2],
    /// Boot devices in the order of CMOS 3Dh and 38h, a digit each from the lowest: 1 floppy, 2 disk, 3
    /// CD-ROM. 0: the floppy first if there is one, then the disk, then the CD-ROM if there is one.
    pub boot_order: u16,
    /// Whether a BIOS is installed: the firmware region then shows ROM after reset, else it is RAM.
    pub firmware: bool,
    /// Whether there are a local APIC and an I/O APIC.
    pub apic: bool,
    /// Whether there is the PCI function that ACPI needs: power management.
    pub acpi: bool,
    /// How fast the serial ports send.
    pub transmitter: Transmitter,
    /// Whether every reset ends the run of a machine without firmware; else one that the guest made to go on
    /// does not.
    pub ends_at_reset: bool,
    /// Whether there is the test device of QEMU's PC.
    pub testdev: bool,
    /// What the firmware is told besides the memory size.
    pub fw_cfg: FwCfgConfig,
}

/// The chips and their wiring.
pub struct Board {
    chips: Chips,
    reset_requested: bool,
    /// Whether a reset without firmware may go on where the program asked.
    warm_starts: bool,
    /// Per port: what answers there.
    route: Box<[Chip; 0x1_0000]>,
    /// When each of [`TIMED`] acts next, and the earliest of them.
    due: [Ticks; TIMED.len()],
    next: Ticks,
    /// Accesses per port that no chip claimed.
    unclaimed: BTreeMap<u16, u64>,
}

/// Boot devices in the order of CMOS 3Dh and 38h, where the configuration leaves it to what there is.
fn boot_order(config: &BoardConfig) -> u16 {
    let cdrom_last = if config.cdrom.is_some() { 0x300 } else { 0 };
    match config.boot_order {
        0 if config.floppies[0].is_some() => cdrom_last | 0x21,
        0 => cdrom_last | 0x12,
        order => order,
    }
}

impl Board {
    /// A board after power-on. [`Board::reset`] is to follow, with the memory map that it works on.
    pub fn new(config: BoardConfig) -> Self {
        let boot_order = boot_order(&config);
        let [d0, d1, d2, d3] = config.disks.map(|disk| disk.map(Unit::disk));
        let units = [[d0, d1], [config.cdrom.map(Unit::cdrom).or(d2), d3]];
        let geometry = |unit: usize| units[unit / 2][unit % 2].as_ref().and_then(Unit::geometry);
        let cmos = cmos::Machine {
            ram_size: config.ram_size,
            floppies: config
                .floppies
                .each_ref()
                .map(|f| f.as_ref().map_or(0, |f| fdc::drive_type(f.sectors()))),
            disks: [0, 1, 2, 3].map(geometry),
            boot_order,
        };
        let mut parts = Parts {
            clock: config.clock,
            epoch: config.epoch,
            ram_size: config.ram_size,
            firmware: config.firmware,
            apic: config.apic,
            acpi: config.acpi,
            testdev: config.testdev,
            transmitter: config.transmitter,
            cmos,
            units,
            floppies: config.floppies,
            fw_cfg: config.fw_cfg,
        };
        Self {
            chips: Chips::new(&mut parts),
            reset_requested: false,
            warm_starts: !config.firmware && !config.ends_at_reset,
            route: routes(config.testdev),
            due: [NEVER; TIMED.len()],
            next: NEVER,
            unclaimed: BTreeMap::new(),
        }
    }

    /// The reset line: every chip back to its reset state, the A20 gate open, the firmware region as after
    /// power-on.
    pub fn reset(&mut self, map: &mut PhysMap) {
        for entry in TABLE {
            if let Some(device) = self.chips.device_mut(entry.chip) {
                device.reset();
            }
        }
        for entry in TABLE {
            self.settle(entry.chip, 0, map);
        }
        self.reset_requested = false;
        if self.chips.testdev.is_some() {
            map.set_chip_memory(pc_testdev::MEMORY.0..pc_testdev::MEMORY.0 + pc_testdev::MEMORY_SIZE);
        }
        self.set_a20(true, map);
        self.refresh_all();
    }

    /// A read of `width` at `port`. Wide reads of byte-wide chips take the ports one by one, the low one
    /// first.
    pub fn port_read(&mut self, port: u16, width: Width, now: Ticks, map: &mut PhysMap) -> u32 {
        let chip = self.chip_at(port);
        if width == Width::Byte || self.is_wide(chip, port) {
            return self.read_chip(chip, port, width, now, map);
        }
        (0..width.bytes()).fold(0, |value, i| {
            let at = port.wrapping_add(i as u16);
            let byte = self.read_chip(self.chip_at(at), at, Width::Byte, now, map) & 0xff;
            value | byte << (8 * i)
        })
    }

    /// A write of `width` at `port`, split like a read.
    pub fn port_write(&mut self, port: u16, width: Width, value: u32, now: Ticks, map: &mut PhysMap) {
        let chip = self.chip_at(port);
        if width == Width::Byte || self.is_wide(chip, port) {
            return self.write_chip(chip, port, width, value & width.mask(), now, map);
        }
        for i in 0..width.bytes() {
            let at = port.wrapping_add(i as u16);
            self.write_chip(self.chip_at(at), at, Width::Byte, value >> (8 * i) & 0xff, now, map);
        }
    }

    #[inline]
    fn chip_at(&self, port: u16) -> Chip {
        self.route[usize::from(port)]
    }

    fn read_chip(&mut self, chip: Chip, port: u16, width: Width, now: Ticks, map: &mut PhysMap) -> u32 {
        let Some(device) = self.chips.device_mut(chip) else {
            *self.unclaimed.entry(port).or_default() += 1;
            return width.mask();
        };
        let value = device.read(port, width, now);
        self.settle(chip, now, map);
        value
    }

    fn write_chip(&mut self, chip: Chip, port: u16, width: Width, value: u32, now: Ticks, map: &mut PhysMap) {
        match self.chips.device_mut(chip) {
            Some(device) => device.write(port, width, value, now),
            None => *self.unclaimed.entry(port).or_default() += 1,
        }
        self.settle(chip, now, map);
    }

    fn is_wide(&self, chip: Chip, port: u16) -> bool {
        self.chips.device(chip).is_some_and(|device| device.is_wide(port))
    }

    /// After a chip was touched: its side effects, its line to the interrupt controllers, its next event.
    fn settle(&mut self, chip: Chip, now: Ticks, map: &mut PhysMap) {
        match chip {
            Chip::None | Chip::Dma | Chip::Vga | Chip::FwCfg => return,
            Chip::Pic => return self.settle_pic(),
            Chip::Debug => return self.settle_control(map),
            Chip::Pci => {
                self.settle_pci(map);
                // Bus mastering may have been switched on.
                return self.settle_ide(now, map);
            }
            Chip::Ide => return self.settle_ide(now, map),
            Chip::Pm => self.drive_shared(),
            Chip::Testdev => self.settle_testdev(),
            Chip::I8042 => self.settle_keyboard(map),
            Chip::Ata0 => self.settle_ata(0, now, map),
            Chip::Ata1 => self.settle_ata(1, now, map),
            Chip::Fdc => self.settle_floppy(now, map),
            Chip::Apic | Chip::Pit | Chip::Cmos | Chip::Com1 | Chip::Com2 | Chip::Ferr => {}
        }
        self.drive_line(chip);
        self.reschedule(chip);
    }

    /// Brings a chip's request line to the interrupt controllers, as the table has it.
    fn drive_line(&mut self, chip: Chip) {
        let Some(irq) = chip.entry().and_then(|entry| entry.irq) else { return };
        let Some(device) = self.chips.device_mut(chip) else { return };
        let (low, high) = (device.take_low(), device.irq());
        if low {
            self.set_irq(irq, false);
        }
        self.set_irq(irq, high);
    }

    fn settle_keyboard(&mut self, map: &mut PhysMap) {
        self.set_irq(12, self.chips.i8042.irq12());
        self.reset_requested |= self.chips.i8042.take_reset();
        if let Some(open) = self.chips.i8042.take_a20() {
            self.set_a20(open, map);
        }
    }

    fn settle_control(&mut self, map: &mut PhysMap) {
        self.reset_requested |= self.chips.debug.take_reset();
        if let Some(open) = self.chips.debug.take_a20() {
            self.set_a20(open, map);
        }
    }

    fn settle_pci(&mut self, map: &mut PhysMap) {
        self.reset_requested |= self.chips.pci.take_reset();
        if self.chips.pci.take_pam_changed() {
            self.chips.pci.apply_pam(map);
        }
        if self.chips.pci.take_windows_changed() {
            self.route_windows();
        }
        if self.chips.pci.take_routes_changed() {
            self.drive_shared();
        }
    }

    /// Routes the ports that PCI functions have moved theirs to. What is soldered to a port keeps it.
    fn route_windows(&mut self) {
        self.route = routes(self.chips.testdev.is_some());
        for window in self.chips.pci.io_windows() {
            let Some(chip) = window_chip(window) else { continue };
            let first = usize::from(window.base);
            let ports = self.route[first..].iter_mut().take(usize::from(window.ports));
            ports.filter(|owner| **owner == Chip::None).for_each(|owner| *owner = chip);
        }
    }

    /// The test device drives any line; a chip that has the line, too, drives it again at its next change.
    fn settle_testdev(&mut self) {
        let written = self.chips.testdev.as_mut().and_then(PcTestdev::take_line);
        match written {
            Some((irq, _)) if PIRQ_TARGETS.contains(&irq) => self.drive_shared(),
            Some((irq @ 0..16, high)) => self.set_irq(irq, high),
            _ => {}
        }
    }

    /// Drives the ISA interrupts that the PCI interrupts and the system control interrupt share.
    fn drive_shared(&mut self) {
        let sci = self.chips.pm.as_ref().is_some_and(Device::irq);
        let forced = self.chips.testdev.as_ref().map_or(0, PcTestdev::lines) as u16;
        let levels = self.chips.pci.routed_levels() | u16::from(sci) << SCI | forced;
        for irq in PIRQ_TARGETS {
            self.set_irq(irq, levels >> irq & 1 != 0);
        }
    }

    /// The floppy controller's data moves here, where both the DMA controller and memory are at hand.
    fn settle_floppy(&mut self, now: Ticks, map: &mut PhysMap) {
        if self.chips.fdc.wants_transfer(now) {
            self.chips.fdc.transfer(&mut self.chips.dma, map);
        }
    }

    /// One gate, which the keyboard controller and port 92h both move: the last write counts.
    fn set_a20(&mut self, open: bool, map: &mut PhysMap) {
        self.chips.i8042.set_a20(open);
        self.chips.debug.set_a20(open);
        map.set_a20(open);
    }

    fn reschedule(&mut self, chip: Chip) {
        let Some(slot) = self.due.get_mut(chip as usize) else { return };
        let due = self.chips.device(chip).and_then(Device::next_event).unwrap_or(NEVER);
        if *slot != due {
            *slot = due;
            self.next = self.due.iter().copied().min().unwrap_or(NEVER);
        }
    }

    fn refresh_all(&mut self) {
        TIMED.into_iter().for_each(|chip| self.reschedule(chip));
    }

    /// When the earliest chip acts by itself.
    #[inline(always)]
    pub fn next_event(&self) -> Option<Ticks> {
        if self.next == NEVER { None } else { Some(self.next) }
    }

    /// Runs what is due at `now`.
    pub fn advance(&mut self, now: Ticks, map: &mut PhysMap) {
        if now < self.next {
            return;
        }
        for (slot, chip) in TIMED.into_iter().enumerate() {
            if self.due[slot] <= now {
                if let Some(device) = self.chips.device_mut(chip) {
                    device.advance(now);
                }
                self.settle(chip, now, map);
            }
        }
    }

    /// A read of `width` in a chip's window: the VGA's, or a page of the APIC's.
    pub fn mmio_read(&mut self, at: GuestPhys, width: Width, now: Ticks) -> u32 {
        if let Some(testdev) = self.chips.testdev.as_ref().filter(|_| pc_testdev::has_memory_at(at)) {
            return testdev.read_memory(at, width);
        }
        if !VGA_WINDOW.contains(&at.0) {
            return self.chips.apic.as_ref().map_or(width.mask(), |apic| apic.mmio_read(at, width, now));
        }
        (0..width.bytes()).fold(0, |v, i| v | u32::from(self.chips.vga.read_memory(at.0 + i)) << (8 * i))
    }

    /// What a read of `width` in a chip's window gives an observer, or a walk of page tables: nothing changes
    /// by it.
    pub fn mmio_peek(&self, at: GuestPhys, width: Width, now: Ticks) -> u32 {
        if let Some(testdev) = self.chips.testdev.as_ref().filter(|_| pc_testdev::has_memory_at(at)) {
            return testdev.read_memory(at, width);
        }
        if !VGA_WINDOW.contains(&at.0) {
            return self.chips.apic.as_ref().map_or(width.mask(), |apic| apic.mmio_read(at, width, now));
        }
        (0..width.bytes()).fold(0, |v, i| v | u32::from(self.chips.vga.peek_memory(at.0 + i)) << (8 * i))
    }

    /// A write of `width` in a chip's window. Whether the interrupt line or the time of the next event may
    /// have changed.
    pub fn mmio_write(&mut self, at: GuestPhys, width: Width, value: u32, now: Ticks) -> bool {
        if let Some(testdev) = self.chips.testdev.as_mut().filter(|_| pc_testdev::has_memory_at(at)) {
            testdev.write_memory(at, width, value);
            return false;
        }
        if !VGA_WINDOW.contains(&at.0) {
            self.chips.apic.iter_mut().for_each(|apic| apic.mmio_write(at, width, value, now));
            self.reschedule(Chip::Apic);
            return true;
        }
        for i in 0..width.bytes() {
            self.chips.vga.write_memory(at.0 + i, (value >> (8 * i)) as u8);
        }
        false
    }

    /// What the two interrupt controllers hold, the master first.
    pub fn interrupt_controllers(&self) -> [PicState; 2] {
        self.chips.pic.inspect()
    }

    /// Whether software turned the machine off.
    #[inline]
    pub fn is_off(&self) -> bool {
        self.chips.pm.as_ref().is_some_and(Pm::is_off)
    }

    /// Whether a chip asks for a reset of the machine; [`Board::reset`] takes it back.
    #[inline]
    pub fn reset_requested(&self) -> bool {
        self.reset_requested
    }

    /// The guest's exit status, once it wrote port F4h.
    #[inline]
    pub fn exit_code(&self) -> Option<u8> {
        self.chips.debug.exit().map(|value| value as u8)
    }

    /// Whether the guest wrote a mark that was not taken.
    #[inline]
    pub fn has_mark(&self) -> bool {
        self.chips.debug.has_mark()
    }

    /// The last mark that the guest wrote to port ECh, unless it was taken.
    pub fn take_mark(&mut self) -> Option<u32> {
        self.chips.debug.take_mark()
    }

    /// Hashes the state of every chip.
    pub fn hash_state(&self, h: &mut impl Hasher) {
        self.hash_registers(h);
        self.chips.vga.hash_memory(h);
    }

    /// Hashes the registers of every chip. Video memory is left out: it is unchanged while
    /// [`Board::video_version`] is.
    pub fn hash_registers(&self, h: &mut impl Hasher) {
        (&self.chips, self.reset_requested, self.next).hash(h);
    }

    /// Moves on whenever video memory is written to.
    pub fn video_version(&self) -> u64 {
        self.chips.vga.version()
    }

    /// The first trouble that the host made with a disk or floppy image, once.
    pub fn take_host_error(&mut self) -> Option<Error> {
        let chips = &mut self.chips;
        let ata = [&mut chips.ata0, &mut chips.ata1].into_iter().find_map(Ata::take_host_error);
        ata.or_else(|| chips.fdc.take_host_error())
    }

    /// The text screen; `None` while a graphics mode is set.
    pub fn screen(&self) -> Option<Screen> {
        self.chips.vga.text_screen()
    }

    /// Accesses per port that no chip claimed.
    pub fn unclaimed_ports(&self) -> &BTreeMap<u16, u64> {
        &self.unclaimed
    }

    /// The last POST code, and how many were written.
    pub fn post(&self) -> (u8, u64) {
        self.chips.debug.post()
    }

    /// Whether port 70h masks NMI.
    pub fn nmi_masked(&self) -> bool {
        self.chips.cmos.nmi_masked()
    }

    /// Bytes from the host for COM1 (`com` 0) or COM2 (1).
    pub fn serial_input(&mut self, com: usize, bytes: &[u8], now: Ticks) {
        if let Some(port) = self.chips.com(com) {
            port.input(bytes, now);
        }
        self.refresh_all();
    }

    /// Host bytes for COM1 (`com` 0) or COM2 (1) that the guest's receiver has not got yet.
    pub fn serial_backlog(&self, com: usize) -> usize {
        let ports = [&self.chips.com1, &self.chips.com2];
        ports.get(com).map_or(0, |port| port.input_waiting())
    }

    /// Bytes that the guest sent by COM1 (`com` 0) or COM2 (1) since this was last asked.
    pub fn take_serial_output(&mut self, com: usize) -> Vec<u8> {
        self.chips.com(com).map(Uart::take_output).unwrap_or_default()
    }

    /// Types keys of the host's.
    pub fn key(&mut self, events: &[KeyEvent], now: Ticks) {
        for &event in events {
            self.chips.i8042.key(event, now);
        }
        self.refresh_all();
    }

    /// The host's mouse is moved or clicked.
    pub fn mouse(&mut self, event: MouseEvent, now: Ticks) {
        self.chips.i8042.mouse(event, now);
        self.refresh_all();
    }

    /// Key events, bytes and movements of the mouse that the guest has not taken yet.
    pub fn keys_waiting(&self) -> usize {
        self.chips.i8042.keys_waiting()
    }

    /// Bytes written to the debug console, port E9h, or to a test device's, since this was last asked.
    pub fn take_debug_console(&mut self) -> Vec<u8> {
        let mut bytes = self.chips.debug.take_console();
        bytes.extend(self.chips.testdev.iter_mut().flat_map(PcTestdev::take_console));
        bytes
    }

    /// Whether a reset is a warm start: the processor was reset to leave protected mode, with a shutdown code
    /// in CMOS that asks firmware to go on at 40:67h, and the kernel was loaded without firmware.
    pub fn starts_warm(&self) -> bool {
        self.warm_starts && WARM_SHUTDOWN_CODES.contains(&self.chips.cmos.byte(cmos::SHUTDOWN))
    }

    /// Bytes written to SeaBIOS' debug port 402h since this was last asked.
    pub fn take_bios_console(&mut self) -> Vec<u8> {
        self.chips.debug.take_bios_console()
    }
}

mod bus_master;
mod chips;
mod interrupts;
mod ports;
mod save;
#[cfg(test)]
mod tests;
mod wake;

pub use ports::chip_name;
pub use save::State;
