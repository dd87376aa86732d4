//! PCI configuration mechanism 1 with the functions of a 440FX board (PCI 2.1, 3.7.4.1; 82441FX and 82371SB
//! datasheets): the host bridge, whose PAM registers open the firmware region, the ISA bridge, and its IDE function
//! at the legacy ports. The reset control register at CF9h is the ISA bridge's.

use super::Device;
use crate::bus::phys::{Pam, PhysMap};
use crate::bus::{Ticks, Width};
use serde::{Deserialize, Serialize};

/// CONFIG_ADDRESS.
pub const ADDRESS: u16 = 0xcf8;
/// Reset control, a byte within it.
pub const RESET: u16 = 0xcf9;
/// CONFIG_DATA.
pub const DATA: u16 = 0xcfc;

const ENABLE: u32 = 0x8000_0000;
const RESET_NOW: u8 = 0x04;
/// PAM0-PAM6 of the host bridge.
const PAM: usize = 0x59;
/// Device and function numbers.
const HOST_BRIDGE: u8 = 0;
const ISA_BRIDGE: u8 = 1 << 3;
const IDE: u8 = 1 << 3 | 1;

/// One function's configuration space, and which of its bits a guest can write.
#[derive(Clone, Debug, Hash, Serialize, Deserialize)]
pub struct Function {
    /// Device in bits 7-3, function in 2-0, on bus 0.
    pub devfn: u8,
    /// The registers.
    #[serde(with = "crate::saved::array")]
    pub config: [u8; 256],
    /// Ones where a write sticks.
    #[serde(with = "crate::saved::array")]
    pub writable: [u8; 256],
}

impl Function {
    /// A function with the given identity; class is base class, subclass, interface. Its device-specific registers,
    /// from 40h, all keep what is written.
    pub fn new(devfn: u8, vendor: u16, device: u16, class: u32) -> Self {
        let mut config = [0; 256];
        let mut writable = [0; 256];
        config[0..2].copy_from_slice(&vendor.to_le_bytes());
        config[2..4].copy_from_slice(&device.to_le_bytes());
        config[8..12].copy_from_slice(&(class << 8).to_le_bytes());
        writable[4] = 0x47;
        writable[5] = 0x01;
        writable[0x3c] = 0xff;
        writable[0x40..].fill(0xff);
        Self { devfn, config, writable }
    }

    fn read(&self, register: usize) -> u8 {
        self.config[register]
    }

    fn write(&mut self, register: usize, value: u8) {
        let mask = self.writable[register];
        self.config[register] = self.config[register] & !mask | value & mask;
    }
}

/// The configuration mechanism and the functions on bus 0.
#[derive(Clone, Debug, Hash, Serialize, Deserialize)]
pub struct Pci {
    address: u32,
    reset_control: u8,
    reset: bool,
    functions: Vec<Function>,
    /// PAM's reset value: ROM, or RAM where no firmware is to be shadowed.
    pam_reset: u8,
    pam_changed: bool,
}

impl Pci {
    /// The board's functions. With `firmware` the firmware region shows ROM after reset, else RAM.
    pub fn new(firmware: bool) -> Self {
        let pam_reset = if firmware { 0 } else { 0x33 };
        Self {
            address: 0,
            reset_control: 0,
            reset: false,
            functions: vec![host_bridge(pam_reset), isa_bridge(), ide()],
            pam_reset,
            pam_changed: false,
        }
    }

    /// Adds a function; software finds it when it enumerates.
    pub fn add(&mut self, function: Function) {
        self.functions.push(function);
    }

    /// Whether port CF9h asked for a reset since this was last asked.
    pub fn take_reset(&mut self) -> bool {
        std::mem::take(&mut self.reset)
    }

    /// Whether the PAM registers were written since this was last asked.
    pub fn take_pam_changed(&mut self) -> bool {
        std::mem::take(&mut self.pam_changed)
    }

    /// Sets the firmware region's attributes as the PAM registers have them: PAM0's upper half is F0000-FFFFF, each
    /// half of PAM1 to PAM6 is 16 KiB from C0000 on.
    pub fn apply_pam(&self, map: &mut PhysMap) {
        let Some(host) = self.functions.iter().find(|f| f.devfn == HOST_BRIDGE) else { return };
        for block in 0..16 {
            let nibble = match block {
                0..12 => host.config[PAM + 1 + block / 2] >> (4 * (block % 2)),
                _ => host.config[PAM] >> 4,
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
        self.functions.iter_mut().find(|f| f.devfn == devfn).map(|f| (f, register))
    }

    fn read_data(&mut self, port: u16) -> u8 {
        self.target(port).map_or(0xff, |(function, register)| function.read(register))
    }

    fn write_data(&mut self, port: u16, value: u8) {
        let Some((function, register)) = self.target(port) else { return };
        function.write(register, value);
        let pam = function.devfn == HOST_BRIDGE && (PAM..PAM + 7).contains(&register);
        self.pam_changed |= pam;
    }

    fn write_reset(&mut self, value: u8) {
        self.reset |= value & !self.reset_control & RESET_NOW != 0;
        self.reset_control = value & 0x0e;
    }
}

/// The 82441FX. Its subsystem is the one by which SeaBIOS knows that fw_cfg is there.
fn host_bridge(pam: u8) -> Function {
    let mut f = Function::new(HOST_BRIDGE, 0x8086, 0x1237, 0x06_00_00);
    f.config[8] = 2;
    f.config[0x2c..0x30].copy_from_slice(&[0xf4, 0x1a, 0x00, 0x11]);
    f.config[PAM..PAM + 7].fill(pam);
    f.config[PAM] = pam & 0xf0;
    f.config[0x72] = 0x02;
    f
}

/// The 82371SB's function 0; its PIRQ routes are off.
fn isa_bridge() -> Function {
    let mut f = Function::new(ISA_BRIDGE, 0x8086, 0x7000, 0x06_01_00);
    f.config[0x0e] = 0x80;
    f.config[4] = 7;
    f.config[6..8].copy_from_slice(&[0x00, 0x02]);
    f.config[0x4c] = 0x4d;
    f.config[0x4e] = 0x03;
    f.config[0x60..0x64].fill(0x80);
    f
}

/// The 82371SB's function 1: both channels at the legacy ports, no bus master.
fn ide() -> Function {
    let mut f = Function::new(IDE, 0x8086, 0x7010, 0x01_01_00);
    f.config[4] = 1;
    f.config[6..8].copy_from_slice(&[0x80, 0x02]);
    f.config[0x40..0x44].copy_from_slice(&[0x00, 0x80, 0x00, 0x80]);
    f
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
        let added = self.functions.split_off(3);
        *self = Self::new(self.pam_reset == 0);
        self.functions.extend(added);
        self.pam_changed = true;
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
}
