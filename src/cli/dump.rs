//! `--dump-state` and `--dump-memory`: what the machine held when the run ended, for tools that compare two runs or
//! two machines (tests/differential does) and for a look after the fact.

use super::session::Pc;
use super::{args, create};
use crate::cpu::{Cpu, Fpu, Segment, TableReg, gpr};
use crate::decode::SegReg;
use crate::error::{Error, Result};
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The processor at the end of a run. Registers are hexadecimal strings: `"0x00100000"`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct State {
    /// Instructions retired since power-on.
    pub retired: u64,
    /// The current privilege level.
    pub cpl: u8,
    /// General, control and debug registers, EIP, EFLAGS and the SYSENTER registers, by name.
    pub registers: BTreeMap<&'static str, String>,
    /// ES, CS, SS, DS, FS, GS, LDTR, TR.
    pub segments: BTreeMap<&'static str, SegmentState>,
    /// GDTR and IDTR.
    pub tables: BTreeMap<&'static str, TableState>,
    /// The x87: its words, where the last instruction and operand were, and ST(0) to ST(7) as sign, exponent and
    /// significand.
    pub x87: BTreeMap<&'static str, String>,
}

/// A segment register with its hidden part.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SegmentState {
    selector: String,
    base: String,
    limit: String,
    /// Type in bits 0-3, S 4, DPL 5-6, P 7, AVL 8, D/B 10, G 11; 0 after a null selector.
    attr: String,
}

/// A descriptor table register.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TableState {
    base: String,
    limit: String,
}

impl From<&Segment> for SegmentState {
    fn from(s: &Segment) -> Self {
        Self {
            selector: format!("{:#06x}", s.selector.0),
            base: hex(s.base),
            limit: hex(s.limit),
            attr: format!("{:#05x}", s.attr),
        }
    }
}

impl From<&TableReg> for TableState {
    fn from(t: &TableReg) -> Self {
        Self { base: hex(t.base), limit: format!("{:#06x}", t.limit) }
    }
}

impl From<&Cpu> for State {
    fn from(cpu: &Cpu) -> Self {
        let general = gpr::NAMES.into_iter().zip(cpu.regs);
        let others = [
            ("eip", cpu.eip),
            ("eflags", cpu.eflags().bits()),
            ("cr0", cpu.cr0.bits()),
            ("cr2", cpu.cr2),
            ("cr3", cpu.cr3),
            ("cr4", cpu.cr4.bits()),
            ("dr0", cpu.dr[0]),
            ("dr1", cpu.dr[1]),
            ("dr2", cpu.dr[2]),
            ("dr3", cpu.dr[3]),
            ("dr6", cpu.dr[6]),
            ("dr7", cpu.dr[7]),
            ("sysenter_cs", cpu.msrs.sysenter_cs),
            ("sysenter_esp", cpu.msrs.sysenter_esp),
            ("sysenter_eip", cpu.msrs.sysenter_eip),
        ];
        let segments = SegReg::ALL.into_iter().map(|s| (s.name(), cpu.seg(s)));
        let system = [("ldtr", &cpu.ldtr), ("tr", &cpu.tr)];
        Self {
            retired: cpu.retired(),
            cpl: cpu.cpl,
            registers: general.chain(others).map(|(name, value)| (name, hex(value))).collect(),
            segments: segments.chain(system).map(|(name, s)| (name, s.into())).collect(),
            tables: [("gdtr", (&cpu.gdtr).into()), ("idtr", (&cpu.idtr).into())].into(),
            x87: x87(&cpu.fpu),
        }
    }
}

fn x87(f: &Fpu) -> BTreeMap<&'static str, String> {
    const ST: [&str; 8] = ["st0", "st1", "st2", "st3", "st4", "st5", "st6", "st7"];
    let last = f.last;
    let words = [
        ("control", f.control()),
        ("status", f.status()),
        ("tags", f.tags()),
        ("fcs", last.fcs),
        ("fds", last.fds),
        ("fop", last.fop),
    ];
    let registers = ST.into_iter().zip(0..).map(|(name, i)| {
        let x = f.st(i);
        (name, format!("{:#06x}:{:#018x}", x.sign_exp, x.significand))
    });
    let words = words.map(|(name, value)| (name, format!("{value:#06x}")));
    let pointers = [("fip", hex(last.fip)), ("fdp", hex(last.fdp))];
    words.into_iter().chain(pointers).chain(registers).collect()
}

fn hex(value: u32) -> String {
    format!("{value:#010x}")
}

/// A range of guest-physical memory and the file it goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    start: u32,
    len: u32,
    file: PathBuf,
}

/// `START:LEN=FILE`.
///
/// # Errors
/// A sentence.
pub fn range(text: &str) -> std::result::Result<Range, String> {
    const EXAMPLE: &str = "give a range and a file like 0x100000:64K=memory.bin";
    let (range, file) = text.split_once('=').ok_or(EXAMPLE)?;
    let (start, len) = range.split_once(':').ok_or(EXAMPLE)?;
    let (start, len) = (args::address(start)?, args::length(len)?);
    if file.is_empty() {
        return Err(EXAMPLE.into());
    }
    if u64::from(start) + u64::from(len) > 1 << 32 {
        return Err("the range reaches beyond 4 GiB".into());
    }
    Ok(Range { start, len, file: file.into() })
}

/// The files of the dumps, open: a path that cannot be written is found before the run and not after it.
pub(super) struct Files {
    /// None within is standard output.
    state: Option<Option<(PathBuf, File)>>,
    memory: Vec<(Range, File)>,
}

impl Files {
    /// Creates them.
    pub(super) fn create(state: Option<&Path>, memory: &[Range]) -> Result<Self> {
        let state = match state {
            None => None,
            Some(path) if path == Path::new("-") => Some(None),
            Some(path) => Some(Some((path.to_owned(), create(path)?))),
        };
        let memory = memory.iter().map(|r| Ok((r.clone(), create(&r.file)?))).collect::<Result<_>>()?;
        Ok(Self { state, memory })
    }

    /// Fills them from `pc`.
    pub(super) fn write(self, pc: &dyn Pc) -> Result<()> {
        for (range, file) in self.memory {
            write_memory(pc, &range, file)?;
        }
        let Some(to) = self.state else { return Ok(()) };
        // All keys are strings and no value can fail to serialise.
        let text = serde_json::to_string_pretty(&pc.state()).unwrap_or_default() + "\n";
        match to {
            Some((path, mut file)) => {
                file.write_all(text.as_bytes()).map_err(|e| Error::file("write", &path, e))
            }
            None => super::out(text.as_bytes()),
        }
    }
}

fn write_memory(pc: &dyn Pc, range: &Range, mut file: File) -> Result<()> {
    const PIECE: u32 = 64 << 10;
    let mut buf = vec![0; PIECE.min(range.len) as usize];
    let mut done = 0;
    while done < range.len {
        let piece = &mut buf[..PIECE.min(range.len - done) as usize];
        pc.read_memory(range.start + done, piece);
        file.write_all(piece).map_err(|e| Error::file("write", &range.file, e))?;
        done += piece.len() as u32;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_name_start_length_and_file() {
        let r = range("0x100000:64K=a=b").unwrap();
        assert_eq!((r.start, r.len, r.file.as_path()), (0x10_0000, 64 << 10, Path::new("a=b")));
        assert_eq!(range("16:0x20=f").unwrap().len, 32);
        assert_eq!(range("0xfffff000:4K=f").unwrap().len, 4096);
        for bad in ["", "1", "1:2", "1:2=", "x:2=f", "1:0=f", "0xfffff000:8K=f", "1:5G=f"] {
            assert!(range(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_state_has_every_register() {
        let state = State::from(&Cpu::new());
        assert_eq!(state.registers["eip"], "0x0000fff0");
        assert_eq!(state.segments["cs"].base, "0xffff0000");
        assert_eq!((state.segments.len(), state.tables.len()), (8, 2));
    }
}
