//! The name of an instruction's form, as the manual's opcode tables have it (SDM vol. 2, 3.1.1). For the
//! enumeration of all forms in `classify`; [`super::lower`] is the other file that names iced-x86.

use super::lower::{OPTIONS, bitness};
use iced_x86::{Decoder, OpKind};

/// A form of an instruction: which encoding it is, apart from the values in its operands.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FormText {
    /// Mnemonic and operands: `MOV m16, CS`, `ADD r32, imm8`. Where ModRM leaves a choice between a register
    /// and memory, or between segment, control and debug registers, it says which.
    pub syntax: String,
    /// The opcode: `o32 81 /0 id`.
    pub opcode: String,
}

/// The form of the instruction at the start of `bytes`; none where no processor defines it.
pub fn form(bytes: &[u8], code32: bool) -> Option<FormText> {
    let raw = Decoder::with_ip(bitness(code32), bytes, 0, OPTIONS).decode();
    if raw.is_invalid() {
        return None;
    }
    let info = raw.code().op_code();
    let memory = (0..raw.op_count()).any(|i| raw.op_kind(i) == OpKind::Memory);
    let special = (0..raw.op_count())
        .filter(|&i| raw.op_kind(i) == OpKind::Register)
        .map(|i| raw.op_register(i))
        .find(|r| r.is_segment_register() || r.is_cr() || r.is_dr() || r.is_tr());
    let operand = |token: &str| {
        let (bare, comma) = token.strip_suffix(',').map_or((token, ""), |t| (t, ","));
        let named = match (bare, special) {
            ("Sreg" | "cr" | "dr" | "tr", Some(r)) => format!("{r:?}"),
            _ => chosen(bare, memory),
        };
        named + comma
    };
    let syntax: Vec<String> = info.instruction_string().split(' ').map(operand).collect();
    Some(FormText { syntax: syntax.join(" "), opcode: info.op_code_string().to_owned() })
}

/// `r/m32` and `r32/m16`, with the choice made.
fn chosen(operand: &str, memory: bool) -> String {
    match operand.split_once("/m") {
        Some((_, size)) if memory => format!("m{size}"),
        Some(("r", size)) => format!("r{size}"),
        Some((register, _)) => register.to_owned(),
        None => operand.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::form;

    #[test]
    fn a_form_says_which_operands_were_chosen() {
        let syntax = |bytes: &[u8]| form(bytes, true).map(|f| f.syntax);
        assert_eq!(syntax(&[0x8c, 0xc9]).as_deref(), Some("MOV r32, CS"));
        assert_eq!(syntax(&[0x8c, 0x0d, 0, 0, 0, 0]).as_deref(), Some("MOV m16, CS"));
        assert_eq!(syntax(&[0x01, 0xc8]).as_deref(), Some("ADD r32, r32"));
        assert_eq!(syntax(&[0x0f, 0x22, 0xd8]).as_deref(), Some("MOV CR3, r32"));
        assert_eq!(syntax(&[0x0f, 0x04]), None);
    }
}
