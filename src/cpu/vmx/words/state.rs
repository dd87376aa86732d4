//! Fields of the guest's state that are no plain register's (SDM vol. 3, 24.4).

use crate::cpu::vmx::guest_state::{activity as state, rights as bits};

/// An activity state's name.
pub fn activity(value: u32) -> &'static str {
    match value {
        state::ACTIVE => "active",
        state::HLT => "HLT",
        state::SHUTDOWN => "shutdown",
        state::WAIT_FOR_SIPI => "wait-for-SIPI",
        _ => "none that exists",
    }
}

/// Segment access rights: "code, read, accessed; DPL 0; 32 bits; pages".
pub fn rights(value: u32) -> String {
    if value & bits::UNUSABLE != 0 {
        return "unusable".into();
    }
    let kind = value & bits::TYPE;
    let what = if value & bits::CODE_OR_DATA == 0 { system(kind).to_owned() } else { code_or_data(kind) };
    let present = if value & bits::PRESENT == 0 { ", not present" } else { "" };
    let wide = if value & 1 << 14 != 0 { ", 32-bit" } else { "" };
    let pages = if value & bits::GRANULAR != 0 { ", limit in pages" } else { "" };
    format!("{what}, DPL {}{wide}{pages}{present}", value >> 5 & 3)
}

fn system(kind: u32) -> &'static str {
    match kind {
        1 => "16-bit TSS, available",
        2 => "LDT",
        3 => "16-bit TSS, busy",
        9 => "32-bit TSS, available",
        11 => "32-bit TSS, busy",
        _ => "system segment of no use",
    }
}

fn code_or_data(kind: u32) -> String {
    let accessed = if kind & 1 != 0 { ", accessed" } else { "" };
    let what = match kind >> 1 {
        0 => "data, read-only",
        1 => "data",
        2 => "data, read-only, expand-down",
        3 => "data, expand-down",
        4 => "code, execute-only",
        5 => "code",
        6 => "code, execute-only, conforming",
        _ => "code, conforming",
    };
    format!("{what}{accessed}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rights_are_told() {
        assert_eq!(rights(0xc09b), "code, accessed, DPL 0, 32-bit, limit in pages");
        assert_eq!(rights(0x008b), "32-bit TSS, busy, DPL 0");
        assert_eq!(rights(0xf3), "data, accessed, DPL 3");
        assert_eq!(rights(0x1_0000), "unusable");
        assert_eq!(rights(0x13), "data, accessed, DPL 0, not present");
    }
}
