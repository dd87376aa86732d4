//! Every form of instruction that the decoder knows, found by walking the opcode maps (SDM vol. 2, appendix
//! A): each opcode byte after each prefix that matters, each ModRM.reg, with memory and with each register,
//! and what is told apart by the decoder's own name for it is a form. Nothing is typed in.

use crate::decode::disasm::form;
use crate::decode::op::Family;
use crate::decode::{Decoded, Insn, Op, Place, decode};
use std::collections::BTreeSet;

/// Offset of a form's memory operand in 32-bit and in 16-bit code.
pub(super) const OPERAND32: u32 = 0x2000_0000;
pub(super) const OPERAND16: u16 = 0x4000;

const OPERAND_SIZE: u8 = 0x66;
const LOCK: u8 = 0xf0;
const REPNE: u8 = 0xf2;
const REP: u8 = 0xf3;
const PREFIXES: [u8; 11] = [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, OPERAND_SIZE, 0x67, LOCK, REPNE, REP];
/// Bytes after an opcode: enough for any immediate.
const TAIL: [u8; 8] = [0; 8];

/// A form of instruction.
#[derive(Clone, Debug)]
pub struct Form {
    /// The form's name: `LOCK ADD m32, r32`, `MOV r32, CS`.
    pub name: String,
    /// Its opcode as the manual writes it: `o32 8C /r`.
    pub opcode: String,
    /// An example of it.
    pub bytes: Vec<u8>,
    /// Bytes of the example before its immediate.
    pub fixed: usize,
    /// The example, decoded.
    pub insn: Insn,
}

impl Form {
    /// The mnemonic, without prefixes.
    pub fn mnemonic(&self) -> &str {
        self.name.split(' ').find(|w| !matches!(*w, "LOCK" | "REP" | "REPNE")).unwrap_or(&self.name)
    }
}

/// All forms of a code size.
#[derive(Clone, Debug)]
pub struct Forms {
    /// Forms that this processor has, in the order of their opcodes.
    pub built: Vec<Form>,
    /// How many more the decoder knows, of later processors: #UD here.
    pub unbuilt: usize,
}

/// Walks the opcode maps, for 32-bit or 16-bit code.
pub fn all(code32: bool) -> Forms {
    let mut walk = Walk { code32, seen: BTreeSet::new(), forms: Forms { built: Vec::new(), unbuilt: 0 } };
    for map in [&[][..], &[0x0f][..]] {
        for opcode in 0..=0xff {
            let escape = map.is_empty() && (opcode == 0x0f || PREFIXES.contains(&opcode));
            for prefix in [&[][..], &[OPERAND_SIZE][..]].into_iter().filter(|_| !escape) {
                walk.opcode(&[prefix, map, &[opcode]].concat());
            }
        }
    }
    walk.forms
}

struct Walk {
    code32: bool,
    seen: BTreeSet<(String, String)>,
    forms: Forms,
}

impl Walk {
    fn opcode(&mut self, opcode: &[u8]) {
        if !(0..8).any(|reg| self.has_modrm(opcode, reg)) {
            return self.add("", opcode);
        }
        for reg in 0..8 {
            self.add("", &self.memory(opcode, reg));
            for rm in [1, 0, 2, 3, 4, 5, 6, 7] {
                self.add("", &[opcode, &[0xc0 | reg << 3 | rm]].concat());
            }
        }
    }

    /// The opcode with a memory operand at a fixed offset.
    fn memory(&self, opcode: &[u8], reg: u8) -> Vec<u8> {
        if self.code32 {
            [opcode, &[reg << 3 | 5], &OPERAND32.to_le_bytes()].concat()
        } else {
            [opcode, &[reg << 3 | 6], &OPERAND16.to_le_bytes()].concat()
        }
    }

    /// Whether the byte after the opcode is a ModRM: its memory form is longer than its register form, or
    /// only one of them is defined, or its reg field names a register (MOV to and from control and debug
    /// registers, which have no memory form).
    fn has_modrm(&self, opcode: &[u8], reg: u8) -> bool {
        let shape = |bytes: &[u8]| {
            let bytes = [bytes, &TAIL].concat();
            let len = match decode(&bytes, self.code32) {
                Decoded::Insn(i) => i.len,
                _ => 0,
            };
            form(&bytes, self.code32).map(|_| len)
        };
        let register = |reg: u8| [opcode, &[0xc1 | reg << 3]].concat();
        shape(&self.memory(opcode, reg)) != shape(&register(reg))
            || form(&[&register(reg), &TAIL[..]].concat(), self.code32)
                != form(&[&register(0), &TAIL[..]].concat(), self.code32)
    }

    /// Adds the form of `bytes` unless it is known; then the same with the prefixes that make other forms of
    /// it.
    fn add(&mut self, prefix: &str, bytes: &[u8]) {
        let fixed = bytes.len();
        let mut bytes = [bytes, &TAIL].concat();
        let Some(text) = form(&bytes, self.code32) else { return };
        let Decoded::Insn(insn) = decode(&bytes, self.code32) else { return };
        let name = format!("{prefix}{}", text.syntax);
        if insn.op == Op::Ud && !text.syntax.contains("UD") && !text.syntax.starts_with("MOV") {
            return;
        }
        if !self.seen.insert((name.clone(), text.opcode.clone())) {
            return;
        }
        if insn.op == Op::Unbuilt {
            self.forms.unbuilt += 1;
            return;
        }
        bytes.truncate(usize::from(insn.len));
        let plain = bytes[..fixed.min(bytes.len())].to_vec();
        let fixed = plain.len();
        self.forms.built.push(Form { name, opcode: text.opcode, bytes, fixed, insn });
        if prefix.is_empty() {
            self.add_prefixed(&insn, &plain);
        }
    }

    fn add_prefixed(&mut self, insn: &Insn, plain: &[u8]) {
        let with = |prefix: u8| [&[prefix], plain].concat();
        if insn.op.facts().family == Family::String {
            self.add("REP ", &with(REP));
        }
        if matches!(insn.op, Op::Cmps | Op::Scas) {
            self.add("REPNE ", &with(REPNE));
        }
        if insn.dst == Place::Mem {
            self.add("LOCK ", &with(LOCK));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_walk_finds_groups_registers_and_prefixes() {
        let forms = all(true);
        let names: BTreeSet<&str> = forms.built.iter().map(|f| f.name.as_str()).collect();
        for name in [
            "MOV r32, CS",
            "MOV m16, DS",
            "PUSH CS",
            "POP SS",
            "SGDT m",
            "SMSW r32",
            "FNSTENV m28byte",
            "FCHS",
            "LOCK XADD m8, r8",
            "REPNE SCASD",
            "CALL ptr16:32",
            "JMP m16:16",
            "MOV CR4, r32",
            "MOV r32, DR7",
            "MOV r32, CR3",
            "MOV DR6, r32",
            "INT imm8",
            "LAR r16, r16",
        ] {
            assert!(names.contains(name), "{name} is not in {names:?}");
        }
        assert!(forms.unbuilt > 100, "later processors' forms are seen: {}", forms.unbuilt);
    }

    #[test]
    fn a_form_is_told_from_every_other() {
        for code32 in [false, true] {
            let forms = all(code32).built;
            let distinct: BTreeSet<_> = forms.iter().map(|f| (&f.name, &f.opcode)).collect();
            assert_eq!(distinct.len(), forms.len());
            for f in &forms {
                assert_eq!(decode(&f.bytes, code32), Decoded::Insn(f.insn), "{}", f.name);
                assert_eq!(usize::from(f.insn.len), f.bytes.len(), "{}", f.name);
            }
        }
    }
}
