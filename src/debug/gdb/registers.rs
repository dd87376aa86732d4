//! The registers as gdb numbers them: the order of `target.xml`, which is the one of gdb's feature
//! org.gnu.gdb.i386.core, then segment bases and control registers. Called by [`super::target`].
//!
//! EIP is the offset in CS, as the processor holds it; addresses of memory and breakpoints are linear. The
//! two are the same where CS has base 0.

use crate::cpu::{Cpu, Eflags, F80};
use crate::decode::SegReg;
use std::num::NonZeroUsize;

/// The i386 as this stub describes it to gdb.
pub enum I386 {}

/// A register of `target.xml`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reg {
    /// EAX to EDI, in the processor's order.
    General(usize),
    /// The instruction pointer.
    Eip,
    /// The flags.
    Eflags,
    /// A selector.
    Selector(SegReg),
    /// ST(n).
    St(u8),
    /// The x87's control word and what follows it, in gdb's order.
    X87(usize),
    /// The base in a segment register's hidden part.
    Base(SegReg),
    /// A control register.
    Control(u8),
}

/// gdb's order of the segment registers.
const SEGMENTS: [SegReg; 6] = [SegReg::Cs, SegReg::Ss, SegReg::Ds, SegReg::Es, SegReg::Fs, SegReg::Gs];
const CONTROL: [u8; 4] = [0, 2, 3, 4];
/// How many registers there are.
const COUNT: usize = 50;

impl Reg {
    /// The register with gdb's number `n`.
    pub fn numbered(n: usize) -> Option<Self> {
        Some(match n {
            0..=7 => Self::General(n),
            8 => Self::Eip,
            9 => Self::Eflags,
            10..=15 => Self::Selector(SEGMENTS[n - 10]),
            16..=23 => Self::St((n - 16) as u8),
            24..=31 => Self::X87(n - 24),
            40..=45 => Self::Base(SEGMENTS[n - 40]),
            46..=49 => Self::Control(CONTROL[n - 46]),
            _ => return None,
        })
    }

    fn bytes(self) -> usize {
        if matches!(self, Self::St(_)) { 10 } else { 4 }
    }
}

/// All registers, in order.
fn all() -> impl Iterator<Item = Reg> {
    (0..COUNT).filter_map(Reg::numbered)
}

/// Reads a register into `buf`, little-endian; the number of its bytes.
pub(super) fn read(cpu: &Cpu, reg: Reg, buf: &mut [u8]) -> usize {
    let bytes = match reg {
        Reg::St(i) => cpu.fpu.st(i).to_bytes().to_vec(),
        _ => value(cpu, reg).to_le_bytes().to_vec(),
    };
    let len = bytes.len().min(buf.len());
    buf[..len].copy_from_slice(&bytes[..len]);
    len
}

fn value(cpu: &Cpu, reg: Reg) -> u32 {
    match reg {
        Reg::General(n) => cpu.regs[n],
        Reg::Eip => cpu.eip,
        Reg::Eflags => cpu.eflags().bits(),
        Reg::Selector(s) => cpu.seg(s).selector.0.into(),
        Reg::Base(s) => cpu.seg(s).base,
        Reg::Control(0) => cpu.cr0.bits(),
        Reg::Control(2) => cpu.cr2,
        Reg::Control(3) => cpu.cr3,
        Reg::Control(_) => cpu.cr4.bits(),
        Reg::X87(n) => x87(cpu, n),
        Reg::St(_) => 0,
    }
}

fn x87(cpu: &Cpu, n: usize) -> u32 {
    let (fpu, last) = (&cpu.fpu, &cpu.fpu.last);
    match n {
        0 => fpu.control().into(),
        1 => fpu.status().into(),
        2 => fpu.tags().into(),
        3 => last.fcs.into(),
        4 => last.fip,
        5 => last.fds.into(),
        6 => last.fdp,
        _ => last.fop.into(),
    }
}

/// Writes a register; false where gdb may not: selectors in protected mode (loading one means a descriptor
/// and its checks), what is derived, and control registers, whose change means more than a number.
pub(super) fn write(cpu: &mut Cpu, reg: Reg, bytes: &[u8]) -> bool {
    if let (Reg::St(i), Ok(image)) = (reg, <&[u8; 10]>::try_from(bytes)) {
        cpu.fpu.set_st(i, F80::from_bytes(image));
        return true;
    }
    let Ok(word) = <[u8; 4]>::try_from(bytes) else { return false };
    let word = u32::from_le_bytes(word);
    if value(cpu, reg) == word {
        return true;
    }
    match reg {
        Reg::General(n) => cpu.regs[n] = word,
        Reg::Eip => {
            cpu.eip = word;
            cpu.mid_string = false;
        }
        Reg::Eflags => return write_flags(cpu, Eflags::from_bits_truncate(word)),
        Reg::Selector(s) => return write_selector(cpu, s, word),
        Reg::X87(0) => cpu.fpu.set_control(word as u16),
        Reg::X87(1) => cpu.fpu.set_status(word as u16),
        Reg::X87(2) => cpu.fpu.set_tags(word as u16),
        Reg::Control(2) => cpu.cr2 = word,
        _ => return false,
    }
    true
}

/// VM changes what segment registers mean: it stays.
fn write_flags(cpu: &mut Cpu, flags: Eflags) -> bool {
    if (flags ^ cpu.eflags()).contains(Eflags::VM) {
        return false;
    }
    cpu.set_eflags(flags);
    true
}

fn write_selector(cpu: &mut Cpu, s: SegReg, selector: u32) -> bool {
    let Ok(selector) = u16::try_from(selector) else { return false };
    if cpu.selectors() {
        return false;
    }
    let segment = cpu.seg(s).real_reload(selector);
    cpu.set_seg(s, segment);
    true
}

/// All registers, as the `g` packet carries them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image(Vec<u8>);

impl Image {
    /// The processor's registers now.
    pub fn of(cpu: &Cpu) -> Self {
        let mut image = Vec::new();
        for reg in all() {
            let mut buf = [0; 10];
            let len = read(cpu, reg, &mut buf);
            image.extend_from_slice(&buf[..len]);
        }
        Self(image)
    }

    /// Bytes of the whole.
    pub(super) fn bytes() -> usize {
        all().map(Reg::bytes).sum()
    }

    /// Writes all that differ; whether all of these could be.
    pub fn store(&self, cpu: &mut Cpu) -> bool {
        let (mut rest, mut done) = (&self.0[..], true);
        for reg in all() {
            let Some((bytes, after)) = rest.split_at_checked(reg.bytes()) else { break };
            let mut now = [0; 10];
            let len = read(cpu, reg, &mut now);
            if bytes != &now[..len] {
                done &= write(cpu, reg, bytes);
            }
            rest = after;
        }
        done
    }
}

impl gdbstub::arch::Registers for Image {
    type ProgramCounter = u32;

    fn pc(&self) -> u32 {
        self.0.get(32..36).and_then(|b| b.try_into().ok()).map_or(0, u32::from_le_bytes)
    }

    fn gdb_serialize(&self, mut write_byte: impl FnMut(Option<u8>)) {
        self.0.iter().for_each(|b| write_byte(Some(*b)));
    }

    fn gdb_deserialize(&mut self, bytes: &[u8]) -> Result<(), ()> {
        self.0 = bytes.to_vec();
        Ok(())
    }
}

impl gdbstub::arch::RegId for Reg {
    fn from_raw_id(id: usize) -> Option<(Self, Option<NonZeroUsize>)> {
        let reg = Self::numbered(id)?;
        Some((reg, NonZeroUsize::new(reg.bytes())))
    }
}

impl gdbstub::arch::Arch for I386 {
    type Usize = u32;
    type Registers = Image;
    type BreakpointKind = usize;
    type RegId = Reg;
}

/// The description of the registers for gdb. In 16-bit code it names gdb's architecture for that, which `set
/// architecture i386` overrides later. Otherwise it names none: gdb takes the one of the program's ELF file,
/// or its own default, and `set architecture i8086` works, which it would not against a description that says
/// i386.
pub(super) fn description(code32: bool) -> String {
    let head = "<target version=\"1.0\">\n";
    let xml = include_str!("target.xml");
    if code32 {
        xml.into()
    } else {
        xml.replacen(head, &format!("{head}  <architecture>i8086</architecture>\n"), 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::Segment;

    #[test]
    fn the_description_and_the_numbers_agree() {
        let xml = include_str!("target.xml");
        let sizes: Vec<usize> = xml
            .split("bitsize=\"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap().parse::<usize>().unwrap() / 8)
            .collect();
        assert_eq!(sizes, all().map(Reg::bytes).collect::<Vec<_>>());
        assert!(description(false).contains("<architecture>i8086</architecture>"));
        assert!(xml.contains("name=\"cs_base\" bitsize=\"32\" type=\"uint32\" regnum=\"40\""));
    }

    #[test]
    fn an_image_stored_again_changes_nothing() {
        let mut cpu = Cpu::new();
        cpu.fpu.init();
        cpu.fpu.push(F80::ONE);
        let before = cpu.clone();
        assert!(Image::of(&before).store(&mut cpu));
        assert_eq!(cpu, before);
    }

    #[test]
    fn selectors_are_written_in_real_mode_only() {
        let mut cpu = Cpu::new();
        assert!(write(&mut cpu, Reg::Selector(SegReg::Ds), &0x1234u32.to_le_bytes()));
        assert_eq!(cpu.seg(SegReg::Ds).base, 0x12340);
        cpu.cr0 |= crate::cpu::Cr0::PE;
        cpu.set_seg(SegReg::Ds, Segment::with(0x10, 0, !0, 0xc93));
        assert!(!write(&mut cpu, Reg::Selector(SegReg::Ds), &0x18u32.to_le_bytes()));
        assert!(!write(&mut cpu, Reg::Control(3), &0x1000u32.to_le_bytes()));
    }
}
