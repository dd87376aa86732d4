//! The base environment: where everything stands before a case changes it, and the names for it.
//!
//! All addresses are physical and, while nothing else is said, linear: segments are flat, and paging, when it is on,
//! maps the first 4 MiB to themselves.

/// The global descriptor table.
pub const GDT: u32 = 0x1000;
/// Its limit: 128 descriptors.
pub const GDT_LIMIT: u16 = 0x3ff;
/// The local descriptor table: 32 descriptors.
pub const LDT: u32 = 0x2000;
/// The interrupt descriptor table: 256 gates.
pub const IDT: u32 = 0x3000;
/// Its limit.
pub const IDT_LIMIT: u16 = 0x7ff;
/// The current task's TSS (32-bit), its I/O bitmap at its limit, so that no port is allowed.
pub const TSS: u32 = 0x4000;
/// Handlers: one `jmp $` per vector, 16 bytes apart.
pub const HANDLERS: u32 = 0xa000;
/// Where the instruction of a case stands (EIP; CS is flat, so it is the address too).
pub const CODE: u32 = 0xc000;
/// Where transfers of the cases go: a `jmp $` too.
pub const TARGET: u32 = 0xd000;
/// ESP at the start.
pub const STACK: u32 = 0xe000;
/// ESP of the levels 0, 1 and 2 in the TSS.
pub const INNER_STACKS: [u32; 3] = [0xf000, 0xf400, 0xf800];
/// A place for data.
pub const DATA: u32 = 0x2_0000;
/// The page directory.
pub const PAGE_DIRECTORY: u32 = 0x4_0000;
/// The page tables of the first directory entries, one after the other.
pub const PAGE_TABLES: u32 = 0x4_1000;
/// How many directory entries have a table there.
pub const PAGE_TABLE_COUNT: u32 = 16;
/// With PAE: the page-directory-pointer table, the page directory of the first GiB, the page tables of the first 4 MiB.
pub const POINTER_TABLE: u32 = 0x7_0000;
pub const PAE_DIRECTORY: u32 = 0x7_1000;
pub const PAE_TABLES: u32 = 0x7_2000;
/// RAM in bytes.
pub const RAM: u32 = 8 << 20;
/// Below this, a byte that changes without being mentioned is a failure.
pub const STRICT: u32 = 0xa_0000;

/// Selectors of the base GDT: flat segments of each level, 16-bit ones, the TSS and the LDT.
#[rustfmt::skip]
pub const BASE_GDT: &[(u16, &str)] = &[
    (0x08, "code32 dpl=0"), (0x10, "data32 dpl=0"),
    (0x18, "code32 dpl=1"), (0x20, "data32 dpl=1"),
    (0x28, "code32 dpl=2"), (0x30, "data32 dpl=2"),
    (0x38, "code32 dpl=3"), (0x40, "data32 dpl=3"),
    (0x48, "code16 dpl=0"), (0x50, "data16 dpl=0"),
    (0x58, "code16 dpl=3"), (0x60, "data16 dpl=3"),
    (0x68, "tss32 busy base=0x4000 limit=0x67"),
    (0x70, "ldt base=0x2000 limit=0xff"),
];

/// The general registers at the start, by number; each distinct, so that a mix-up shows.
pub const REGISTERS: [u32; 8] =
    [0xaaaa_0001, 0xcccc_0002, 0xdddd_0003, 0xbbbb_0004, STACK, 0xeeee_0005, 0x5555_0006, 0x7777_0007];

/// The handler of `vector`.
pub fn handler(vector: u8) -> u32 {
    HANDLERS + 16 * u32::from(vector)
}

/// A number: hexadecimal with `0x`, else decimal; or a place (`code`, `target`, `stack`, `data`, `h0d` for the handler of
/// vector 0D), with `+n` or `-n` after it.
pub fn number(text: &str) -> Result<u32, String> {
    let split = text.char_indices().skip(1).find(|(_, c)| matches!(c, '+' | '-')).map(|(i, _)| i);
    let (head, tail) = text.split_at(split.unwrap_or(text.len()));
    let value = place(head).or_else(|| plain(head)).ok_or_else(|| format!("`{text}` is not a number"))?;
    let Some(sign) = tail.chars().next() else { return Ok(value) };
    let n = plain(&tail[1..]).ok_or_else(|| format!("`{text}` is not a number"))?;
    Ok(if sign == '+' { value.wrapping_add(n) } else { value.wrapping_sub(n) })
}

fn plain(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

fn place(text: &str) -> Option<u32> {
    match text {
        "code" => Some(CODE),
        "target" => Some(TARGET),
        "stack" => Some(STACK),
        "data" => Some(DATA),
        "esp0" => Some(INNER_STACKS[0]),
        "esp1" => Some(INNER_STACKS[1]),
        "esp2" => Some(INNER_STACKS[2]),
        _ => u8::from_str_radix(text.strip_prefix('h')?, 16).ok().map(handler),
    }
}
