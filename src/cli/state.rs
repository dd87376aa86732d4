//! The processor's state as `--dump-state` writes it.

use crate::cpu::{Cpu, Fpu, Segment, TableReg, gpr};
use crate::decode::SegReg;
use serde::Serialize;
use std::collections::BTreeMap;

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_has_every_register() {
        let state = State::from(&Cpu::new());
        assert_eq!(state.registers["eip"], "0x0000fff0");
        assert_eq!(state.segments["cs"].base, "0xffff0000");
        assert_eq!((state.segments.len(), state.tables.len()), (8, 2));
    }
}
