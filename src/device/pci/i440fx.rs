//! The functions of a 440FX board (82441FX, 82371SB and 82371AB datasheets): the host bridge, whose PAM
//! registers open the firmware region, the ISA bridge, which routes the PCI interrupts, its IDE function, and
//! power management.

use super::function::Function;

/// 00:00.0.
pub const HOST_BRIDGE: u8 = 0;
/// 00:01.0.
pub const ISA_BRIDGE: u8 = 1 << 3;
/// 00:01.1.
pub const IDE: u8 = 1 << 3 | 1;
/// 00:01.3.
pub const PM: u8 = 1 << 3 | 3;
/// PAM0-PAM6 of the host bridge.
pub const PAM: usize = 0x59;
/// `PIRQRC[A:D]` of the ISA bridge: bit 7 off, else the ISA interrupt in bits 3-0.
pub const PIRQ: usize = 0x60;

/// PIRQRC as firmware sets it: PIRQ A and B to IRQ 10, C and D to IRQ 11.
pub const PIRQ_ROUTES: [u8; 4] = [10, 10, 11, 11];
/// Base of the power management registers: I/O, 64 ports.
pub const PMBASE: usize = 0x40;
/// PMREGMISC: bit 0 enables the ports at PMBASE.
pub const PMREGMISC: usize = 0x80;

/// The 82441FX with `pam` in both halves of its PAM registers. Its subsystem is the one by which SeaBIOS
/// knows that fw_cfg is there.
pub fn host_bridge(pam: u8) -> Function {
    Function::new(HOST_BRIDGE, 0x8086, 0x1237, 0x06_00_00)
        .with(0x08, &[2])
        .with(0x2c, &[0xf4, 0x1a, 0x00, 0x11])
        .with(PAM, &[pam & 0xf0, pam, pam, pam, pam, pam, pam])
        .with(0x72, &[0x02])
        .keeps_own()
}

/// The 82371SB's function 0; its PIRQ routes are off. Its other registers keep what is written and do
/// nothing.
pub fn isa_bridge() -> Function {
    Function::new(ISA_BRIDGE, 0x8086, 0x7000, 0x06_01_00)
        .with(0x04, &[7, 0, 0x00, 0x02])
        .with(0x4c, &[0x4d])
        .with(0x4e, &[0x03])
        .with(PIRQ, &[0x80; 4])
        .keeps_own()
        .keeps(PIRQ, &[0x8f; 4])
}

/// The 82371SB's function 1: both channels at the legacy ports, which answer whatever IDETIM says, and the
/// bus master at base address 4.
pub fn ide() -> Function {
    Function::new(IDE, 0x8086, 0x7010, 0x01_01_80)
        .with(0x04, &[1, 0, 0x80, 0x02])
        .with_io_bar(4, 16)
        .with(0x40, &[0x00, 0x80, 0x00, 0x80])
        .keeps_own()
}

/// The 82371AB's power management (`device::pm`), whose interrupt is the system control interrupt, IRQ 9.
/// Byte 5Bh has APMC_EN set, by which SeaBIOS sees that it need not set up system management mode, which is
/// not built.
pub fn power_management() -> Function {
    Function::new(PM, 0x8086, 0x7113, 0x06_80_00)
        .with(0x06, &[0x80, 0x02])
        .with(0x08, &[3])
        .with(0x3c, &[9])
        .with_pin(1)
        .with(PMBASE, &[1])
        .with(0x5b, &[0x02])
        .keeps_own()
        .keeps(PMBASE, &[0xc0, 0xff, 0, 0])
}

/// The ports of the power management registers, while they answer.
pub fn pm_window(f: &Function) -> Option<u16> {
    let base = (f.dword(PMBASE) & 0xffc0) as u16;
    (f.devfn == PM && f.byte(PMREGMISC) & 1 != 0 && base != 0).then_some(base)
}
