//! The board: which chip sits at which port and on which interrupt line, and when the next of them acts by itself.
//!
//! The run loop calls [`Board::advance`] when [`Board::next_event`] is due, and looks at
//! [`Board::interrupt_requested`] between instructions; port I/O of the processor comes in by
//! [`Board::port_read`] and [`Board::port_write`].

use crate::addr::GuestPhys;
use crate::bus::phys::{PhysMap, VGA_WINDOW};
use crate::bus::{Clock, Ticks, Width};
use crate::device::Device;
use crate::device::apic::Apic;
use crate::device::ata::{Ata, Unit};
use crate::device::cmos::{Cmos, Machine};
use crate::device::debug_ports::DebugPorts;
use crate::device::dma::Dma;
use crate::device::fdc::Fdc;
use crate::device::fw_cfg::{FwCfg, FwCfgConfig};
use crate::device::i8042::I8042;
use crate::device::ide::BusMaster;
use crate::device::keymap::KeyEvent;
use crate::device::mouse::MouseEvent;
use crate::device::numeric::Numeric;
use crate::device::pci::{Pci, i440fx};
use crate::device::pic::{Pic, PicState};
use crate::device::pit::Pit;
use crate::device::pm::Pm;
use crate::device::uart::{Transmitter, Uart};
use crate::device::vga_text::{Screen, Vga};
use crate::error::Error;
use crate::media::Disk;
use ports::{Chip, TIMED, routes, takes_wide, window_chip};
use std::collections::BTreeMap;
use std::hash::{Hash, Hasher};

/// ISA interrupts that no chip of the board has, so that PCI interrupts may be routed to them.
const PIRQ_TARGETS: [u8; 4] = [5, 9, 10, 11];
/// The system control interrupt of ACPI.
const SCI: u8 = 9;
const NEVER: Ticks = Ticks::MAX;

/// What a board is built from.
#[derive(Default)]
pub struct BoardConfig {
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
    /// Boot devices in the order of CMOS 3Dh and 38h, a digit each from the lowest: 1 floppy, 2 disk, 3 CD-ROM.
    /// 0: the floppy first if there is one, then the disk, then the CD-ROM if there is one.
    pub boot_order: u16,
    /// Whether a BIOS is installed: the firmware region then shows ROM after reset, else it is RAM.
    pub firmware: bool,
    /// Whether there are a local APIC and an I/O APIC.
    pub apic: bool,
    /// Whether there is the PCI function that ACPI needs: power management.
    pub acpi: bool,
    /// How fast the serial ports send.
    pub transmitter: Transmitter,
    /// What the firmware is told besides the memory size.
    pub fw_cfg: FwCfgConfig,
}

/// The chips and their wiring.
pub struct Board {
    pic: Pic,
    apic: Option<Apic>,
    pit: Pit,
    i8042: I8042,
    cmos: Cmos,
    com: [Uart; 2],
    ata: [Ata; 2],
    fdc: Fdc,
    dma: Dma,
    vga: Vga,
    pci: Pci,
    pm: Option<Pm>,
    ide: BusMaster,
    fw_cfg: FwCfg,
    debug: DebugPorts,
    numeric: Numeric,
    reset_requested: bool,
    /// Per port: what answers there.
    route: Box<[Chip; 0x1_0000]>,
    /// When each of [`TIMED`] acts next, and the earliest of them.
    due: [Ticks; TIMED.len()],
    next: Ticks,
    /// Accesses per port that no chip claimed.
    unclaimed: BTreeMap<u16, u64>,
}

impl Board {
    /// A board after power-on. [`Board::reset`] is to follow, with the memory map that it works on.
    pub fn new(config: BoardConfig) -> Self {
        let clock = config.clock;
        let [d0, d1, d2, d3] = config.disks;
        let [d0, d1, d2, d3] = [d0, d1, d2, d3].map(|disk| disk.map(Unit::disk));
        let has_cdrom = config.cdrom.is_some();
        let ata = [Ata::new(clock, [d0, d1]), Ata::new(clock, [config.cdrom.map(Unit::cdrom).or(d2), d3])];
        let fdc = Fdc::new(clock, config.floppies);
        let cdrom_last = if has_cdrom { 0x300 } else { 0 };
        let boot_order = match config.boot_order {
            0 if fdc.drive_types()[0] != 0 => cdrom_last | 0x21,
            0 => cdrom_last | 0x12,
            order => order,
        };
        let machine = Machine {
            ram_size: config.ram_size,
            floppies: fdc.drive_types(),
            disks: [0, 1, 2, 3].map(|i| ata[i / 2].geometry(i % 2)),
            boot_order,
        };
        let mut cmos = Cmos::new(clock, config.epoch);
        cmos.describe(&machine);
        let mut pci = Pci::new(config.firmware);
        if config.acpi {
            pci.add(i440fx::power_management());
        }
        Self {
            pic: Pic::new(),
            apic: config.apic.then(|| Apic::new(clock)),
            pit: Pit::new(clock),
            i8042: I8042::new(clock),
            cmos,
            com: std::array::from_fn(|_| Uart::new(clock, config.transmitter)),
            ata,
            fdc,
            dma: Dma::new(),
            vga: Vga::new(clock),
            pci,
            pm: config.acpi.then(|| Pm::new(clock)),
            ide: BusMaster::default(),
            fw_cfg: FwCfg::new(config.ram_size, config.fw_cfg),
            debug: DebugPorts::new(),
            numeric: Numeric::default(),
            reset_requested: false,
            route: routes(),
            due: [NEVER; TIMED.len()],
            next: NEVER,
            unclaimed: BTreeMap::new(),
        }
    }

    /// The reset line: every chip back to its reset state, the A20 gate open, the firmware region as after
    /// power-on.
    pub fn reset(&mut self, map: &mut PhysMap) {
        self.pic.reset();
        self.dma.reset();
        self.vga.reset();
        self.pci.reset();
        self.ide.reset();
        self.fw_cfg.reset();
        self.debug.reset();
        self.numeric.reset();
        self.set_irq(13, false);
        for chip in TIMED {
            if let Some(device) = self.device(chip) {
                device.reset();
            }
            self.settle(chip, 0, map);
        }
        self.reset_requested = false;
        self.settle_pci(map);
        self.set_a20(true, map);
        self.refresh_all();
    }

    /// A read of `width` at `port`. Wide reads of byte-wide chips take the ports one by one, the low one first.
    pub fn port_read(&mut self, port: u16, width: Width, now: Ticks, map: &mut PhysMap) -> u32 {
        let chip = self.chip_at(port);
        if width == Width::Byte || takes_wide(chip, port) {
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
        if width == Width::Byte || takes_wide(chip, port) {
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
        let Some(device) = self.device(chip) else {
            *self.unclaimed.entry(port).or_default() += 1;
            return width.mask();
        };
        let value = device.read(port, width, now);
        self.settle(chip, now, map);
        value
    }

    fn write_chip(&mut self, chip: Chip, port: u16, width: Width, value: u32, now: Ticks, map: &mut PhysMap) {
        match self.device(chip) {
            Some(device) => device.write(port, width, value, now),
            None => *self.unclaimed.entry(port).or_default() += 1,
        }
        self.settle(chip, now, map);
    }

    fn device(&mut self, chip: Chip) -> Option<&mut dyn Device> {
        Some(match chip {
            Chip::None => return None,
            Chip::Pic => &mut self.pic,
            Chip::Apic => self.apic.as_mut()?,
            Chip::Pm => self.pm.as_mut()?,
            Chip::Dma => &mut self.dma,
            Chip::Vga => &mut self.vga,
            Chip::Pci => &mut self.pci,
            Chip::Ide => &mut self.ide,
            Chip::FwCfg => &mut self.fw_cfg,
            Chip::Ata0 => &mut self.ata[0],
            Chip::Ata1 => &mut self.ata[1],
            Chip::Fdc => &mut self.fdc,
            Chip::Pit => &mut self.pit,
            Chip::I8042 => &mut self.i8042,
            Chip::Cmos => &mut self.cmos,
            Chip::Com1 => &mut self.com[0],
            Chip::Com2 => &mut self.com[1],
            Chip::Debug => &mut self.debug,
            Chip::Numeric => &mut self.numeric,
        })
    }

    /// After a chip was touched: its lines to the interrupt controller, its side effects, its next event.
    fn settle(&mut self, chip: Chip, now: Ticks, map: &mut PhysMap) {
        match chip {
            Chip::None | Chip::Dma | Chip::Vga | Chip::FwCfg => return,
            Chip::Pic => return self.settle_pic(),
            Chip::Apic => {}
            Chip::Pm => self.drive_shared(),
            Chip::Debug => return self.settle_control(map),
            Chip::Pci => {
                self.settle_pci(map);
                // Bus mastering may have been switched on.
                return self.settle_ide(now, map);
            }
            Chip::Numeric => return self.set_irq(13, self.numeric.irq()),
            Chip::Pit => {
                if self.pit.take_edge() {
                    // A low time that nobody sampled.
                    self.set_irq(0, false);
                    self.set_irq(0, true);
                }
                self.set_irq(0, self.pit.irq());
            }
            Chip::I8042 => self.settle_keyboard(map),
            Chip::Cmos => self.set_irq(8, self.cmos.irq()),
            Chip::Com1 => self.settle_serial(0, 4),
            Chip::Com2 => self.settle_serial(1, 3),
            Chip::Ata0 => self.settle_ata(0, now, map),
            Chip::Ata1 => self.settle_ata(1, now, map),
            Chip::Ide => return self.settle_ide(now, map),
            Chip::Fdc => self.settle_floppy(now, map),
        }
        self.reschedule(chip);
    }

    fn settle_keyboard(&mut self, map: &mut PhysMap) {
        self.set_irq(1, self.i8042.irq());
        self.set_irq(12, self.i8042.irq12());
        self.reset_requested |= self.i8042.take_reset();
        if let Some(open) = self.i8042.take_a20() {
            self.set_a20(open, map);
        }
    }

    fn settle_control(&mut self, map: &mut PhysMap) {
        self.reset_requested |= self.debug.take_reset();
        if let Some(open) = self.debug.take_a20() {
            self.set_a20(open, map);
        }
    }

    fn settle_serial(&mut self, com: usize, irq: u8) {
        if self.com[com].take_dropped() {
            self.set_irq(irq, false);
        }
        self.set_irq(irq, self.com[com].irq());
    }

    fn settle_pci(&mut self, map: &mut PhysMap) {
        self.reset_requested |= self.pci.take_reset();
        if self.pci.take_pam_changed() {
            self.pci.apply_pam(map);
        }
        if self.pci.take_windows_changed() {
            self.route_windows();
        }
        if self.pci.take_routes_changed() {
            self.drive_shared();
        }
    }

    /// Routes the ports that PCI functions have moved theirs to. What is soldered to a port keeps it.
    fn route_windows(&mut self) {
        self.route = routes();
        for window in self.pci.io_windows() {
            let Some(chip) = window_chip(window) else { continue };
            let first = usize::from(window.base);
            let ports = self.route[first..].iter_mut().take(usize::from(window.ports));
            ports.filter(|owner| **owner == Chip::None).for_each(|owner| *owner = chip);
        }
    }

    /// Drives the ISA interrupts that the PCI interrupts and the system control interrupt share.
    fn drive_shared(&mut self) {
        let sci = self.pm.as_ref().is_some_and(Device::irq);
        let levels = self.pci.routed_levels() | u16::from(sci) << SCI;
        for irq in PIRQ_TARGETS {
            self.set_irq(irq, levels >> irq & 1 != 0);
        }
    }

    /// The floppy controller's data moves here, where both the DMA controller and memory are at hand.
    fn settle_floppy(&mut self, now: Ticks, map: &mut PhysMap) {
        if self.fdc.wants_transfer(now) {
            self.fdc.transfer(&mut self.dma, map);
        }
        self.set_irq(6, self.fdc.irq());
    }

    /// One gate, which the keyboard controller and port 92h both move: the last write counts.
    fn set_a20(&mut self, open: bool, map: &mut PhysMap) {
        self.i8042.set_a20(open);
        self.debug.set_a20(open);
        map.set_a20(open);
    }

    fn reschedule(&mut self, chip: Chip) {
        let due = self.device(chip).and_then(|d| d.next_event()).unwrap_or(NEVER);
        let Some(slot) = self.due.get_mut(chip as usize) else { return };
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
                if let Some(device) = self.device(chip) {
                    device.advance(now);
                }
                self.settle(chip, now, map);
            }
        }
    }

    /// A read of `width` in a chip's window: the VGA's, or a page of the APIC's.
    pub fn mmio_read(&mut self, at: GuestPhys, width: Width, now: Ticks) -> u32 {
        if !VGA_WINDOW.contains(&at.0) {
            return self.apic.as_ref().map_or(width.mask(), |apic| apic.mmio_read(at, width, now));
        }
        (0..width.bytes()).fold(0, |v, i| v | u32::from(self.vga.read_memory(at.0 + i)) << (8 * i))
    }

    /// What a read of `width` in a chip's window gives an observer, or a walk of page tables: nothing changes by it.
    pub fn mmio_peek(&self, at: GuestPhys, width: Width, now: Ticks) -> u32 {
        if !VGA_WINDOW.contains(&at.0) {
            return self.apic.as_ref().map_or(width.mask(), |apic| apic.mmio_read(at, width, now));
        }
        (0..width.bytes()).fold(0, |v, i| v | u32::from(self.vga.peek_memory(at.0 + i)) << (8 * i))
    }

    /// A write of `width` in a chip's window. Whether the interrupt line or the time of the next event may have
    /// changed.
    pub fn mmio_write(&mut self, at: GuestPhys, width: Width, value: u32, now: Ticks) -> bool {
        if !VGA_WINDOW.contains(&at.0) {
            self.apic.iter_mut().for_each(|apic| apic.mmio_write(at, width, value, now));
            self.reschedule(Chip::Apic);
            return true;
        }
        for i in 0..width.bytes() {
            self.vga.write_memory(at.0 + i, (value >> (8 * i)) as u8);
        }
        false
    }

    /// What the two interrupt controllers hold, the master first.
    pub fn interrupt_controllers(&self) -> [PicState; 2] {
        self.pic.inspect()
    }

    /// Whether software turned the machine off.
    #[inline]
    pub fn is_off(&self) -> bool {
        self.pm.as_ref().is_some_and(Pm::is_off)
    }

    /// Whether a chip asks for a reset of the machine; [`Board::reset`] takes it back.
    #[inline]
    pub fn reset_requested(&self) -> bool {
        self.reset_requested
    }

    /// The guest's exit status, once it wrote port F4h.
    #[inline]
    pub fn exit_code(&self) -> Option<u8> {
        self.debug.exit().map(|value| value as u8)
    }

    /// Hashes the state of every chip.
    pub fn hash_state(&self, h: &mut impl Hasher) {
        self.hash_registers(h);
        self.vga.hash(h);
    }

    /// The same without what video memory holds; that is the same as long as [`Board::video_version`] is.
    pub fn hash_registers(&self, h: &mut impl Hasher) {
        self.vga.hash_registers(h);
        (&self.pic, &self.apic, &self.pit, &self.i8042, &self.cmos, &self.com, &self.ata).hash(h);
        (&self.fdc, &self.dma, &self.pci, &self.pm, &self.ide, &self.fw_cfg, &self.debug, &self.numeric)
            .hash(h);
        (self.reset_requested, self.next).hash(h);
    }

    /// Moves on whenever video memory is written to.
    pub fn video_version(&self) -> u64 {
        self.vga.version()
    }

    /// The first trouble that the host made with a disk or floppy image, once.
    pub fn take_host_error(&mut self) -> Option<Error> {
        let [first, second] = &mut self.ata;
        first.take_host_error().or_else(|| second.take_host_error()).or_else(|| self.fdc.take_host_error())
    }

    /// The text screen; `None` while a graphics mode is set.
    pub fn screen(&self) -> Option<Screen> {
        self.vga.text_screen()
    }

    /// Accesses per port that no chip claimed.
    pub fn unclaimed_ports(&self) -> &BTreeMap<u16, u64> {
        &self.unclaimed
    }

    /// The last POST code, and how many were written.
    pub fn post(&self) -> (u8, u64) {
        self.debug.post()
    }

    /// Whether port 70h masks NMI.
    pub fn nmi_masked(&self) -> bool {
        self.cmos.nmi_masked()
    }

    /// Bytes from the host for COM1 (`com` 0) or COM2 (1).
    pub fn serial_input(&mut self, com: usize, bytes: &[u8], now: Ticks) {
        if let Some(port) = self.com.get_mut(com) {
            port.input(bytes, now);
        }
        self.refresh_all();
    }

    /// Host bytes for COM1 (`com` 0) or COM2 (1) that the guest's receiver has not got yet.
    pub fn serial_backlog(&self, com: usize) -> usize {
        self.com.get(com).map_or(0, Uart::input_waiting)
    }

    /// Bytes that the guest sent by COM1 (`com` 0) or COM2 (1) since this was last asked.
    pub fn take_serial_output(&mut self, com: usize) -> Vec<u8> {
        self.com.get_mut(com).map(Uart::take_output).unwrap_or_default()
    }

    /// Keys of the host's.
    pub fn key(&mut self, events: &[KeyEvent], now: Ticks) {
        for &event in events {
            self.i8042.key(event, now);
        }
        self.refresh_all();
    }

    /// The host's mouse is moved or clicked.
    pub fn mouse(&mut self, event: MouseEvent, now: Ticks) {
        self.i8042.mouse(event, now);
        self.refresh_all();
    }

    /// Key events, bytes and movements of the mouse that the guest has not taken yet.
    pub fn keys_waiting(&self) -> usize {
        self.i8042.keys_waiting()
    }

    /// Bytes written to the debug console, port E9h, since this was last asked.
    pub fn take_debug_console(&mut self) -> Vec<u8> {
        self.debug.take_console()
    }

    /// Bytes written to SeaBIOS' debug port 402h since this was last asked.
    pub fn take_bios_console(&mut self) -> Vec<u8> {
        self.debug.take_bios_console()
    }
}

mod bus_master;
mod interrupts;
mod ports;
mod save;
#[cfg(test)]
mod tests;
mod wake;

pub use ports::chip_name;
pub use save::State;
