//! PCI configuration mechanism 1 and the functions on bus 0 (PCI 2.1, 3.7.4.1; 82441FX and 82371SB
//! datasheets). The reset control register at CF9h is the ISA bridge's.
//!
//! [`function`] is one configuration space, [`i440fx`] the functions of this board. The board asks for what
//! the registers decide elsewhere: the firmware region's attributes, the ports that functions answer at, and
//! where the interrupts INTA# to INTD# go.

pub mod function;
pub mod i440fx;

use super::Device;
use crate::bus::phys::{Pam, PhysMap};
use crate::bus::{Ticks, Width};
use function::{Function, OWN};
use i440fx::{HOST_BRIDGE, ISA_BRIDGE, PAM, PIRQ, PM, PMBASE};
use serde::{Deserialize, Serialize};

/// CONFIG_ADDRESS.
pub const ADDRESS: u16 = 0xcf8;
/// Reset control, a byte within it.
pub const RESET: u16 = 0xcf9;
/// CONFIG_DATA.
pub const DATA: u16 = 0xcfc;

const ENABLE: u32 = 0x8000_0000;
const RESET_NOW: u8 = 0x04;
/// A PIRQ register's bit that leaves the interrupt unrouted.
const PIRQ_OFF: u8 = 0x80;

/// The configuration mechanism and the functions on bus 0.
#[derive(Clone, Debug, Hash, Serialize, Deserialize)]
pub struct Pci {
    address: u32,
    reset_control: u8,
    reset: bool,
    functions: Vec<Function>,
    pam_changed: bool,
    windows_changed: bool,
    /// Levels of the interrupt pins: a bit for each device, by PIRQ A to D.
    pirq: [u32; 4],
    routes_changed: bool,
}

/// I/O ports that a function answers at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoWindow {
    /// The function.
    pub devfn: u8,
    /// The base address register; [`PMBASE`] for power management, whose base is a register of its own.
    pub bar: usize,
    /// The first port.
    pub base: u16,
    /// How many.
    pub ports: u16,
}

impl Pci {
    /// The functions that every board has. With `firmware` the firmware region shows ROM after reset, else
    /// RAM.
    pub fn new(firmware: bool) -> Self {
        let pam = if firmware { 0 } else { 0x33 };
        let mut pci = Self {
            address: 0,
            reset_control: 0,
            reset: false,
            functions: Vec::new(),
            pam_changed: false,
            windows_changed: false,
            pirq: [0; 4],
            routes_changed: false,
        };
        [i440fx::host_bridge(pam), i440fx::isa_bridge(), i440fx::ide()].into_iter().for_each(|f| pci.add(f));
        pci
    }

    /// Adds a function; software finds it when it enumerates. A device's function 0 comes first.
    pub fn add(&mut self, function: Function) {
        if function.devfn & 7 != 0
            && let Some(first) = self.function_mut(function.devfn & !7)
        {
            first.set_multifunction();
        }
        self.functions.push(function);
        self.windows_changed = true;
    }

    /// The function `devfn`, if it is there.
    pub fn function(&self, devfn: u8) -> Option<&Function> {
        self.functions.iter().find(|f| f.devfn == devfn)
    }

    fn function_mut(&mut self, devfn: u8) -> Option<&mut Function> {
        self.functions.iter_mut().find(|f| f.devfn == devfn)
    }

    /// The ports that functions answer at by their base addresses.
    pub fn io_windows(&self) -> impl Iterator<Item = IoWindow> + '_ {
        self.functions.iter().flat_map(|f| {
            let window =
                |bar| f.io_bar(bar).map(|(base, ports)| IoWindow { devfn: f.devfn, bar, base, ports });
            let pm =
                i440fx::pm_window(f).map(|base| IoWindow { devfn: f.devfn, bar: PMBASE, base, ports: 64 });
            (0..6).filter_map(window).chain(pm)
        })
    }

    /// Whether [`Pci::io_windows`] may have changed since this was last asked.
    pub fn take_windows_changed(&mut self) -> bool {
        std::mem::take(&mut self.windows_changed)
    }

    /// Drives pin INTA# (1) to INTD# (4) of the device of `devfn`. Slots are wired in rotation: INTA# of
    /// device 1 is PIRQA, that of device 2 PIRQB.
    pub fn set_intx(&mut self, devfn: u8, pin: u8, high: bool) {
        let device = u32::from(devfn >> 3);
        let line = (device + 3 + u32::from(pin) - 1) & 3;
        let levels = &mut self.pirq[line as usize];
        let was = *levels;
        *levels = if high { was | 1 << device } else { was & !(1 << device) };
        self.routes_changed |= *levels != was;
    }

    /// The level of PIRQ A (0) to D (3).
    pub fn pirq(&self, line: usize) -> bool {
        self.pirq[line] != 0
    }

    /// The levels of the ISA interrupts that PIRQs are routed to: a bit for each that is high.
    pub fn routed_levels(&self) -> u16 {
        let routes = |line| self.function(ISA_BRIDGE).map_or(PIRQ_OFF, |f| f.byte(PIRQ + line));
        let driven = (0..4).filter(|&line| self.pirq(line) && routes(line) & PIRQ_OFF == 0);
        driven.fold(0, |levels, line| levels | 1 << (routes(line) & 0xf))
    }

    /// Whether [`Pci::routed_levels`] may have changed since this was last asked.
    pub fn take_routes_changed(&mut self) -> bool {
        std::mem::take(&mut self.routes_changed)
    }

    /// Whether port CF9h asked for a reset since this was last asked.
    pub fn take_reset(&mut self) -> bool {
        std::mem::take(&mut self.reset)
    }

    /// Whether the PAM registers were written since this was last asked.
    pub fn take_pam_changed(&mut self) -> bool {
        std::mem::take(&mut self.pam_changed)
    }

    /// Sets the firmware region's attributes as the PAM registers have them: PAM0's upper half is
    /// F0000-FFFFF, each half of PAM1 to PAM6 is 16 KiB from C0000 on.
    pub fn apply_pam(&self, map: &mut PhysMap) {
        let Some(host) = self.function(HOST_BRIDGE) else { return };
        for block in 0..16 {
            let nibble = match block {
                0..12 => host.byte(PAM + 1 + block / 2) >> (4 * (block % 2)),
                _ => host.byte(PAM) >> 4,
            };
            map.set_pam(block, Pam::from_bits_truncate(nibble));
        }
    }

    /// The function and the register that CONFIG_ADDRESS and the port name.
    fn target(&mut self, port: u16) -> Option<(&mut Function, usize)> {
        let address = self.address;
        if address & ENABLE == 0 || address >> 16 & 0xff != 0 {
            return None;
        }
        let devfn = (address >> 8) as u8;
        let register = usize::from(address as u8 & 0xfc) + usize::from(port & 3);
        self.function_mut(devfn).map(|f| (f, register))
    }

    fn read_data(&mut self, port: u16) -> u8 {
        self.target(port).map_or(0xff, |(function, register)| function.byte(register))
    }

    fn write_data(&mut self, port: u16, value: u8) {
        let Some((function, register)) = self.target(port) else { return };
        function.write(register, value);
        let devfn = function.devfn;
        self.pam_changed |= devfn == HOST_BRIDGE && (PAM..PAM + 7).contains(&register);
        self.routes_changed |= devfn == ISA_BRIDGE && (PIRQ..PIRQ + 4).contains(&register);
        self.windows_changed |= register < OWN || devfn == PM;
    }

    fn write_reset(&mut self, value: u8) {
        self.reset |= value & !self.reset_control & RESET_NOW != 0;
        self.reset_control = value & 0x0e;
    }
}

impl Device for Pci {
    fn read(&mut self, port: u16, width: Width, _now: Ticks) -> u32 {
        match (port, width) {
            (ADDRESS, Width::Dword) => self.address,
            (RESET, Width::Byte) => self.reset_control.into(),
            (ADDRESS..DATA, _) => width.mask(),
            _ => (0..width.bytes() as u16)
                .filter(|i| port + i < DATA + 4)
                .fold(0, |v, i| v | u32::from(self.read_data(port + i)) << (8 * i)),
        }
    }

    fn write(&mut self, port: u16, width: Width, value: u32, _now: Ticks) {
        match (port, width) {
            (ADDRESS, Width::Dword) => self.address = value & 0x80ff_fffc,
            (RESET, Width::Byte) => self.write_reset(value as u8),
            (ADDRESS..DATA, _) => {}
            _ => (0..width.bytes() as u16)
                .filter(|i| port + i < DATA + 4)
                .for_each(|i| self.write_data(port + i, (value >> (8 * i)) as u8)),
        }
    }

    fn reset(&mut self) {
        self.functions.iter_mut().for_each(Function::reset);
        (self.address, self.reset_control, self.reset) = (0, 0, false);
        self.pirq = [0; 4];
        (self.pam_changed, self.windows_changed, self.routes_changed) = (true, true, true);
    }

    fn is_wide(&self, _port: u16) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::GuestPhys;
    use crate::bus::phys::Target;
    use crate::mem::Ram;

    fn select(pci: &mut Pci, devfn: u32, register: u32) {
        pci.write(ADDRESS, Width::Dword, ENABLE | devfn << 8 | register, 0);
    }

    #[test]
    fn functions_are_found_and_absent_ones_read_ones() {
        let mut pci = Pci::new(true);
        select(&mut pci, 0, 0);
        assert_eq!(pci.read(ADDRESS, Width::Dword, 0), ENABLE);
        assert_eq!(pci.read(DATA, Width::Dword, 0), 0x1237_8086);
        assert_eq!(pci.read(DATA + 2, Width::Word, 0), 0x1237);
        select(&mut pci, 8, 0);
        assert_eq!(pci.read(DATA, Width::Dword, 0), 0x7000_8086);
        select(&mut pci, 0x10, 0);
        assert_eq!(pci.read(DATA, Width::Dword, 0), 0xffff_ffff);
        pci.write(ADDRESS, Width::Dword, 0, 0);
        assert_eq!(pci.read(DATA, Width::Byte, 0), 0xff);
    }

    #[test]
    fn identity_is_read_only() {
        let mut pci = Pci::new(true);
        select(&mut pci, 0, 0);
        pci.write(DATA, Width::Dword, 0, 0);
        assert_eq!(pci.read(DATA, Width::Dword, 0), 0x1237_8086);
    }

    #[test]
    fn pam_registers_open_the_firmware_region() {
        let mut pci = Pci::new(true);
        let mut map = PhysMap::new(Ram::new(1 << 20).unwrap());
        pci.apply_pam(&mut map);
        assert_eq!(map.backing(GuestPhys(0xf_0000)).read, Target::Rom);
        select(&mut pci, 0, 0x58);
        pci.write(DATA + 1, Width::Byte, 0x30, 0);
        pci.write(DATA + 2, Width::Byte, 0x20, 0);
        assert!(pci.take_pam_changed());
        pci.apply_pam(&mut map);
        assert_eq!(map.backing(GuestPhys(0xf_c000)).read, Target::Ram);
        assert_eq!(map.backing(GuestPhys(0xc_0000)).write, Target::Open);
        let c4 = map.backing(GuestPhys(0xc_4000));
        assert_eq!((c4.read, c4.write), (Target::Rom, Target::Ram));
    }

    #[test]
    fn cf9_resets_on_a_rising_bit_2() {
        let mut pci = Pci::new(true);
        pci.write(RESET, Width::Byte, 0x02, 0);
        assert!(!pci.take_reset());
        pci.write(RESET, Width::Byte, 0x06, 0);
        assert!(pci.take_reset());
    }

    #[test]
    fn a_device_with_functions_says_so_in_its_first() {
        let mut pci = Pci::new(true);
        for (devfn, header) in [(0, 0x00), (8, 0x80), (9, 0x00)] {
            select(&mut pci, devfn, 0xc);
            assert_eq!(pci.read(DATA + 2, Width::Byte, 0), header);
        }
        pci.add(Function::new(0x10, 1, 2, 0x02_00_00));
        pci.add(Function::new(0x13, 1, 2, 0x02_00_00));
        pci.reset();
        select(&mut pci, 0x10, 0xc);
        assert_eq!(pci.read(DATA + 2, Width::Byte, 0), 0x80);
    }

    #[test]
    fn ports_move_with_the_base_address() {
        let mut pci = Pci::new(true);
        pci.add(Function::new(0x10, 1, 2, 0x02_00_00).with_io_bar(1, 32));
        assert!(pci.take_windows_changed());
        assert_eq!(pci.io_windows().count(), 0);
        select(&mut pci, 0x10, 0x14);
        pci.write(DATA, Width::Dword, 0xc120, 0);
        select(&mut pci, 0x10, 4);
        pci.write(DATA, Width::Word, 1, 0);
        assert!(pci.take_windows_changed());
        let windows: Vec<_> = pci.io_windows().collect();
        assert_eq!(windows, [IoWindow { devfn: 0x10, bar: 1, base: 0xc120, ports: 32 }]);
    }

    #[test]
    fn interrupt_pins_go_where_the_isa_bridge_routes_them() {
        let mut pci = Pci::new(true);
        pci.set_intx(0x10, 1, true);
        assert!(pci.take_routes_changed());
        assert!(pci.pirq(1) && !pci.pirq(0));
        assert_eq!(pci.routed_levels(), 0, "not routed yet");
        select(&mut pci, 8, 0x60);
        pci.write(DATA + 1, Width::Byte, 11, 0);
        assert!(pci.take_routes_changed());
        assert_eq!(pci.routed_levels(), 1 << 11);
        pci.set_intx(0x18, 4, true);
        pci.set_intx(0x10, 1, false);
        assert_eq!(pci.routed_levels(), 1 << 11, "another device pulls the same line");
        pci.set_intx(0x18, 4, false);
        assert_eq!(pci.routed_levels(), 0);
    }
}
