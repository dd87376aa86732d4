//! The decoder and the disassembler on any bytes.

use subring::decode::lower::mnemonic;
use subring::decode::{Decoded, MAX_INSN_LEN, decode, disassemble};

/// Decodes `data` in both widths and holds what is true of any decoder.
pub(crate) fn run(data: &[u8]) {
    for code32 in [false, true] {
        let whole = decode(data, code32);
        if let Decoded::Insn(insn) = &whole {
            let len = usize::from(insn.len);
            assert!(len >= 1 && len <= data.len().min(MAX_INSN_LEN), "{len} bytes of {data:02x?}");
            // An instruction is decided by its own bytes: none less will do, and what follows is of no concern.
            assert_eq!(decode(&data[..len], code32), whole, "{data:02x?}");
            assert!(
                !matches!(decode(&data[..len - 1], code32), Decoded::Insn(i) if i.op == insn.op),
                "{data:02x?}"
            );
        }
        assert!(whole != Decoded::Truncated || data.len() < MAX_INSN_LEN, "{data:02x?}");
        assert!(!disassemble(data, code32, 0xffff_fff0).is_empty() || data.is_empty());
        let _ = mnemonic(data, code32);
    }
}
