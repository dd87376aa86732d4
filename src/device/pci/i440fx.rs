//! The functions of a 440FX board (82441FX and 82371SB datasheets): the host bridge, whose PAM registers open the
//! firmware region, the ISA bridge, which routes the PCI interrupts, and its IDE function.

use super::function::Function;

/// 00:00.0.
pub const HOST_BRIDGE: u8 = 0;
/// 00:01.0.
pub const ISA_BRIDGE: u8 = 1 << 3;
/// 00:01.1.
pub const IDE: u8 = 1 << 3 | 1;
/// PAM0-PAM6 of the host bridge.
pub const PAM: usize = 0x59;
/// PIRQRC[A:D] of the ISA bridge: bit 7 off, else the ISA interrupt in bits 3-0.
pub const PIRQ: usize = 0x60;

/// The 82441FX with `pam` in both halves of its PAM registers. Its subsystem is the one by which SeaBIOS knows that
/// fw_cfg is there.
pub fn host_bridge(pam: u8) -> Function {
    Function::new(HOST_BRIDGE, 0x8086, 0x1237, 0x06_00_00)
        .with(0x08, &[2])
        .with(0x2c, &[0xf4, 0x1a, 0x00, 0x11])
        .with(PAM, &[pam & 0xf0, pam, pam, pam, pam, pam, pam])
        .with(0x72, &[0x02])
        .keeps_own()
}

/// The 82371SB's function 0; its PIRQ routes are off. Its other registers keep what is written and do nothing.
pub fn isa_bridge() -> Function {
    Function::new(ISA_BRIDGE, 0x8086, 0x7000, 0x06_01_00)
        .with(0x04, &[7, 0, 0x00, 0x02])
        .with(0x4c, &[0x4d])
        .with(0x4e, &[0x03])
        .with(PIRQ, &[0x80; 4])
        .keeps_own()
        .keeps(PIRQ, &[0x8f; 4])
}

/// The 82371SB's function 1: both channels at the legacy ports, no bus master.
pub fn ide() -> Function {
    Function::new(IDE, 0x8086, 0x7010, 0x01_01_00)
        .with(0x04, &[1, 0, 0x80, 0x02])
        .with(0x40, &[0x00, 0x80, 0x00, 0x80])
        .keeps_own()
}
