//! The x87's state in memory: the four formats of FSTENV and FSAVE (SDM vol. 1, figures 8-9 to 8-12), and
//! what FXSAVE stores of it (SDM vol. 1, 10.5.1).

use crate::cpu::fpu::LastInsn;
use crate::cpu::{F80, Fpu};

/// Which of the four formats.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    /// 32-bit operand size.
    pub wide: bool,
    /// Selectors and offsets; else linear addresses, as in real and virtual-8086 mode.
    pub protected: bool,
}

impl Format {
    /// Bytes of the environment.
    pub fn environment(self) -> usize {
        if self.wide { 28 } else { 14 }
    }
    /// Bytes of the whole state.
    pub fn state(self) -> usize {
        self.environment() + 80
    }
}

/// FOP has eleven bits.
const FOP: u16 = 0x7ff;

/// The environment's seven words of two or four bytes.
fn words(fpu: &Fpu, format: Format) -> [u32; 7] {
    let l = &fpu.last;
    let upper = if format.wide { 0xffff_0000 } else { 0 };
    let head = [fpu.control(), fpu.status(), fpu.tags()].map(|w| upper | u32::from(w));
    let opcode = u32::from(l.fop & FOP);
    let [fip, at_fip, fdp, at_fdp] = match (format.protected, format.wide) {
        (true, true) => [l.fip, u32::from(l.fcs) | opcode << 16, l.fdp, upper | u32::from(l.fds)],
        (true, false) => [l.fip, u32::from(l.fcs), l.fdp, u32::from(l.fds)],
        (false, wide) => {
            let linear = |offset: u32, segment: u16| offset.wrapping_add(u32::from(segment) << 4);
            let (ip, dp) = (linear(l.fip, l.fcs), linear(l.fdp, l.fds));
            let high = |at: u32| if wide { at >> 16 << 12 } else { (at >> 16 & 15) << 12 };
            [upper | ip & 0xffff, high(ip) | opcode, upper | dp & 0xffff, high(dp)]
        }
    };
    [head[0], head[1], head[2], fip, at_fip, fdp, at_fdp]
}

/// The environment, as FSTENV stores it.
pub fn environment(fpu: &Fpu, format: Format) -> Vec<u8> {
    let size = if format.wide { 4 } else { 2 };
    words(fpu, format).iter().flat_map(|w| w.to_le_bytes()[..size].to_vec()).collect()
}

/// Loads an environment, as FLDENV does. What `bytes` lacks counts as zero.
pub fn load_environment(fpu: &mut Fpu, bytes: &[u8], format: Format) {
    let size = if format.wide { 4 } else { 2 };
    let word =
        |n: usize| bytes.iter().skip(n * size).take(size).rev().fold(0u32, |v, b| v << 8 | u32::from(*b));
    fpu.set_control(word(0) as u16);
    fpu.set_status(word(1) as u16);
    fpu.set_tags(word(2) as u16);
    fpu.last = if format.protected {
        // The 16-bit format has no room for the opcode.
        let fop = if format.wide { (word(4) >> 16) as u16 & FOP } else { 0 };
        LastInsn { fip: word(3), fcs: word(4) as u16, fdp: word(5), fds: word(6) as u16, fop }
    } else {
        let linear = |low: u32, high: u32| low & 0xffff | (high & 0x0fff_f000) << 4;
        let (fip, fdp) = (linear(word(3), word(4)), linear(word(5), word(6)));
        LastInsn { fip, fcs: 0, fdp, fds: 0, fop: word(4) as u16 & FOP }
    };
}

/// The whole state, as FSAVE stores it: the environment, and the registers from ST(0) on.
pub fn state(fpu: &Fpu, format: Format) -> Vec<u8> {
    let mut bytes = environment(fpu, format);
    (0..8).for_each(|i| bytes.extend(fpu.st(i).to_bytes()));
    bytes
}

/// Loads the whole state, as FRSTOR does.
pub fn load_state(fpu: &mut Fpu, bytes: &[u8], format: Format) {
    load_environment(fpu, bytes, format);
    let full = fpu.full();
    let registers = bytes.get(format.environment()..).unwrap_or_default();
    for (i, ten) in (0..8).zip(registers.chunks_exact(10)) {
        if let Ok(ten) = ten.try_into() {
            fpu.set_st(i, F80::from_bytes(ten));
        }
    }
    fpu.set_full(full);
}

/// Bytes that FXSAVE stores of the x87: the header, and a slot of 16 for each register.
pub const FX_BYTES: usize = 32 + 8 * 16;

/// The area of FXSAVE, as far as this processor, which has no SSE, writes it.
pub fn fx_state(fpu: &Fpu) -> [u8; FX_BYTES] {
    let mut bytes = [0; FX_BYTES];
    let l = &fpu.last;
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, &fpu.control().to_le_bytes());
    put(2, &fpu.status().to_le_bytes());
    put(4, &[fpu.full()]);
    put(6, &(l.fop & FOP).to_le_bytes());
    put(8, &l.fip.to_le_bytes());
    put(12, &l.fcs.to_le_bytes());
    put(16, &l.fdp.to_le_bytes());
    put(20, &l.fds.to_le_bytes());
    (0..8).for_each(|i| put(32 + 16 * usize::from(i), &fpu.st(i).to_bytes()));
    bytes
}

/// Loads it, as FXRSTOR does.
pub fn load_fx_state(fpu: &mut Fpu, bytes: &[u8; FX_BYTES]) {
    let half = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    let full = |at: usize| u32::from(half(at)) | u32::from(half(at + 2)) << 16;
    fpu.set_control(half(0));
    fpu.set_status(half(2));
    fpu.last = LastInsn { fip: full(8), fcs: half(12), fdp: full(16), fds: half(20), fop: half(6) & FOP };
    for i in 0..8 {
        let mut ten = [0; 10];
        ten.copy_from_slice(&bytes[32 + 16 * usize::from(i)..][..10]);
        fpu.set_st(i, F80::from_bytes(&ten));
    }
    fpu.set_full(bytes[4]);
}
