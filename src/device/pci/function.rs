//! One PCI function: its configuration space, which of its bits a guest can write, and its base address
//! registers (PCI 2.1, chapter 6).

use serde::{Deserialize, Serialize};

/// Registers of the header (PCI 2.1, 6.1).
const COMMAND: usize = 0x04;
const CLASS: usize = 0x08;
const HEADER_TYPE: usize = 0x0e;
const BARS: usize = 0x10;
const INTERRUPT_LINE: usize = 0x3c;
const INTERRUPT_PIN: usize = 0x3d;
/// Where the registers of the device itself begin.
pub(super) const OWN: usize = 0x40;

/// Command: the function answers in I/O space.
const COMMAND_IO: u8 = 1 << 0;
/// Command: it answers in memory space.
const COMMAND_MEMORY: u8 = 1 << 1;
/// Command: it may be a bus master.
const COMMAND_MASTER: u8 = 1 << 2;
const MULTIFUNCTION: u8 = 1 << 7;
/// A base address register of I/O space.
const BAR_IO: u32 = 1;

/// A function on bus 0.
#[derive(Clone, Debug, Hash, Serialize, Deserialize)]
pub struct Function {
    /// Device in bits 7-3, function in 2-0.
    pub devfn: u8,
    #[serde(with = "crate::saved::array")]
    config: [u8; 256],
    /// Ones where a write sticks.
    #[serde(with = "crate::saved::array")]
    writable: [u8; 256],
    /// The registers after a reset.
    #[serde(with = "crate::saved::array")]
    at_reset: [u8; 256],
}

impl Function {
    /// A function with the given identity; class is base class, subclass, interface. It has no base address,
    /// no interrupt pin and no registers of its own until they are added.
    pub fn new(devfn: u8, vendor: u16, device: u16, class: u32) -> Self {
        let zero = [0; 256];
        Self { devfn, config: zero, writable: zero, at_reset: zero }
            .with(0, &vendor.to_le_bytes())
            .with(2, &device.to_le_bytes())
            .with(CLASS, &(class << 8).to_le_bytes())
            .keeps(COMMAND, &[0x47, 0x01])
            .keeps(INTERRUPT_LINE, &[0xff])
    }

    /// Sets `values` from `register` on, now and after each reset.
    pub fn with(mut self, register: usize, values: &[u8]) -> Self {
        self.config[register..register + values.len()].copy_from_slice(values);
        self.at_reset = self.config;
        self
    }

    /// Makes the bits of `masks`, from `register` on, writable.
    pub fn keeps(mut self, register: usize, masks: &[u8]) -> Self {
        self.writable[register..register + masks.len()].copy_from_slice(masks);
        self
    }

    /// Makes all device registers, from 40h on, writable: for a function that is modelled as far as software
    /// needs.
    pub fn keeps_own(mut self) -> Self {
        self.writable[OWN..].fill(0xff);
        self
    }

    /// Adds base address register `n` (0-5) for `ports` I/O ports, a power of two from 4 to 256. Software
    /// finds the size by writing ones (PCI 2.1, 6.2.5.1). All 32 bits of the address are kept, as firmware
    /// that reckons with 32 bits expects; beyond 64 KiB nothing answers.
    pub fn with_io_bar(self, n: usize, ports: u32) -> Self {
        let mask = !(ports - 1);
        self.with(BARS + 4 * n, &BAR_IO.to_le_bytes()).keeps(BARS + 4 * n, &mask.to_le_bytes())
    }

    /// Adds base address register `n` for `bytes` of 32-bit memory space, a power of two from 16 on.
    pub fn with_memory_bar(self, n: usize, bytes: u32) -> Self {
        self.keeps(BARS + 4 * n, &(!(bytes - 1)).to_le_bytes())
    }

    /// Adds interrupt pin INTA# (1) to INTD# (4).
    pub fn with_pin(self, pin: u8) -> Self {
        self.with(INTERRUPT_PIN, &[pin])
    }

    /// Sets the multifunction bit of the header type.
    pub(super) fn set_multifunction(&mut self) {
        self.config[HEADER_TYPE] |= MULTIFUNCTION;
        self.at_reset[HEADER_TYPE] |= MULTIFUNCTION;
    }

    /// The byte at `register`.
    pub fn byte(&self, register: usize) -> u8 {
        self.config[register]
    }

    /// The dword at `register`.
    pub fn dword(&self, register: usize) -> u32 {
        (0..4).fold(0, |v, i| v | u32::from(self.config[register + i]) << (8 * i))
    }

    /// A guest's write of one byte.
    pub(super) fn write(&mut self, register: usize, value: u8) {
        let mask = self.writable[register];
        self.config[register] = self.config[register] & !mask | value & mask;
    }

    /// Whether the function answers in I/O space.
    pub fn decodes_io(&self) -> bool {
        self.config[COMMAND] & COMMAND_IO != 0
    }

    /// Whether the function may move data to and from memory.
    pub fn is_bus_master(&self) -> bool {
        self.config[COMMAND] & COMMAND_MASTER != 0
    }

    /// The first port and the number of ports of base address register `n`, while the function answers there.
    pub fn io_bar(&self, n: usize) -> Option<(u16, u16)> {
        let at = BARS + 4 * n;
        let mask = u32::from_le_bytes([0, 1, 2, 3].map(|i| self.writable[at + i]));
        let value = self.dword(at);
        let base = value & mask;
        let mapped = self.decodes_io() && value & BAR_IO != 0 && base != 0 && base <= 0xffff;
        mapped.then(|| (base as u16, (!mask & 0xffff) as u16 + 1))
    }

    /// The address of base address register `n` in memory space, while the function answers there.
    pub fn memory_bar(&self, n: usize) -> Option<u32> {
        let value = self.dword(BARS + 4 * n);
        let mapped = self.config[COMMAND] & COMMAND_MEMORY != 0 && value & BAR_IO == 0 && value != 0;
        mapped.then_some(value & !0xf)
    }

    /// Back to the registers after power-on.
    pub(super) fn reset(&mut self) {
        self.config = self.at_reset;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(f: &mut Function, register: usize, value: u32) {
        (0..4).for_each(|i| f.write(register + i, (value >> (8 * i)) as u8));
    }

    #[test]
    fn writing_ones_to_a_base_address_gives_its_size() {
        let mut f = Function::new(8, 0x8086, 0x7010, 0x01_01_80).with_io_bar(4, 16).with_memory_bar(0, 4096);
        assert_eq!(f.dword(0x20), 1);
        write(&mut f, 0x20, !0);
        assert_eq!(f.dword(0x20), 0xffff_fff1);
        write(&mut f, 0x10, !0);
        assert_eq!(f.dword(0x10), 0xffff_f000);
        write(&mut f, 0x14, !0);
        assert_eq!(f.dword(0x14), 0, "there is none");
    }

    #[test]
    fn a_base_address_counts_while_the_command_register_says_so() {
        let mut f = Function::new(8, 0x8086, 0x7010, 0x01_01_80).with_io_bar(4, 16).with_memory_bar(0, 4096);
        write(&mut f, 0x20, 0xc000);
        write(&mut f, 0x10, 0xfebf_0000);
        assert_eq!((f.io_bar(4), f.memory_bar(0)), (None, None));
        write(&mut f, 4, 3);
        assert_eq!((f.io_bar(4), f.memory_bar(0)), (Some((0xc000, 16)), Some(0xfebf_0000)));
        f.reset();
        assert_eq!((f.io_bar(4), f.dword(0x20)), (None, 1));
    }

    #[test]
    fn only_what_is_said_to_be_kept_is_kept() {
        let mut f = Function::new(0, 0x8086, 0x7000, 0x06_01_00).keeps(0x60, &[0x8f; 4]);
        write(&mut f, 0x60, 0x7f7f_7f7f);
        write(&mut f, 0x64, 0x7f7f_7f7f);
        assert_eq!((f.dword(0x60), f.dword(0x64)), (0x0f0f_0f0f, 0));
    }
}
