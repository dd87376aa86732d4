//! What one comparison consists of: the layout of the little machine that both sides present, the instruction with
//! its input state ([`Case`]), and what became of it ([`Outcome`]). Everything in this directory speaks these types.
//!
//! The machine: user mode (CPL 3, IOPL 0), paging on. In 32-bit mode CS is flat, 32-bit ([`CS32`]); DS, ES, SS and
//! GS are flat data ([`FLAT`]); FS is null. In 16-bit mode CS, DS, ES and SS are 16-bit segments of the LDT with base
//! 0 and limit FFFFh; GS stays flat. The GDT's entries 1 to 3 have DPL 0, entries 4 and 5 are those of [`CS32`] and
//! [`FLAT`]; the LDT has three entries, of which entry 0 is empty. The TSS has no I/O permission map. IDT gates 3 and 4 have DPL 3, all others DPL 0.

use std::ops::Range;

/// The 32-bit flat user code segment.
pub const CS32: u16 = 0x23;
/// The flat user data segment: DS, ES, SS and GS in 32-bit cases, GS in 16-bit ones.
pub const FLAT: u16 = 0x2b;
/// LDT entry 1: 16-bit code, base 0, limit FFFFh, readable.
pub const CS16: u16 = 0x0f;
/// LDT entry 2: 16-bit data, base 0, limit FFFFh, writable, B = 0.
pub const DATA16: u16 = 0x17;

/// Where instructions lie: readable, writable, executable.
pub const CODE: Range<u32> = 0x4000..0x6000;
/// Operands: readable and writable. The page below is not present, the page above is [`READ_ONLY`].
pub const DATA: Range<u32> = 0x8000..0xa000;
/// A page that user code may only read. The page above it is not present.
pub const READ_ONLY: Range<u32> = 0xa000..0xb000;
/// The stack: readable and writable, with absent pages on both sides.
pub const STACK: Range<u32> = 0xc000..0xe000;
/// Two pages around the end of a 16-bit segment: readable and writable.
pub const EDGE: Range<u32> = 0xf000..0x11000;
/// Everything above lies below this address; nothing else is mapped below it.
pub const TOP: u32 = 0x11000;

/// Pages that an instruction may write, apart from its own code.
pub const WRITABLE: [Range<u32>; 3] = [DATA, STACK, EDGE];

/// What a byte of memory holds where no [`Window`] says otherwise.
pub fn background(addr: u32) -> u8 {
    (addr.wrapping_mul(0x9e37_79b1) >> 24) as u8
}

/// CF, PF, AF, ZF, SF and OF.
pub const STATUS: u32 = 0x8d5;
/// Bits of EFLAGS that are compared: all but RF, which a fault's saved image sets.
pub const COMPARED: u32 = 0x003e_ffff;

/// The flag bits by name, in the order in which reports print them.
pub const FLAGS: [(&str, u32); 6] =
    [("CF", 1), ("PF", 4), ("AF", 0x10), ("ZF", 0x40), ("SF", 0x80), ("OF", 0x800)];

/// The size of the code segment that an instruction runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// Flat 32-bit code.
    #[default]
    Code32,
    /// 16-bit code from the LDT.
    Code16,
}

/// A run of bytes with known contents before the instruction, read back after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Linear address of the first byte, inside one of [`WRITABLE`].
    pub addr: u32,
    /// Its length.
    pub len: u32,
    /// Where its bytes start in [`Case::memory`] and [`Outcome::memory`].
    pub at: u32,
}

/// One instruction and the state in which it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Case {
    /// Which code segment.
    pub mode: Mode,
    /// The instruction's bytes.
    pub code: Vec<u8>,
    /// Where it lies.
    pub eip: u32,
    /// EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI.
    pub regs: [u32; 8],
    /// EFLAGS at the start (status flags and DF; IF and bit 1 are set on both sides).
    pub eflags: u32,
    /// Memory that is not background.
    pub windows: Vec<Window>,
    /// The windows' contents, one after the other.
    pub memory: Vec<u8>,
    /// Where the instruction may continue other than behind itself.
    pub landings: Vec<u32>,
    /// Status flags that the manual leaves undefined for this case.
    pub undefined: u32,
    /// More such flags, where an unmasked x87 exception is pending.
    pub undefined_pending: u32,
    /// The x87's state at the start, as FSAVE stores it in 32-bit protected mode; empty where it does not matter.
    pub fpu: Vec<u8>,
    /// Bits of the x87's status word that the manual leaves undefined for this case.
    pub fpu_undefined: u16,
    /// More such bits, where an unmasked exception is pending.
    pub fpu_undefined_pending: u16,
    /// By how many units in the last place x87 registers may differ.
    pub ulps: u64,
    /// Which sort of case of its form this is (`"count 0"`, ...), for the report of undefined flags.
    pub class: &'static str,
}

/// Prefixes that the forms use.
const PREFIXES: [u8; 9] = [0x66, 0x67, 0x26, 0x2e, 0x36, 0x3e, 0x65, 0xf2, 0xf3];

impl Case {
    /// The instruction's prefixes, and the rest of it.
    pub fn split(&self) -> (&[u8], &[u8]) {
        let prefixes = self.code.iter().take_while(|byte| PREFIXES.contains(byte)).count();
        self.code.split_at(prefixes)
    }
}

/// A fault or trap as delivered to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The vector.
    pub vector: u8,
    /// Its error code; 0 where the vector has none.
    pub error: u32,
    /// CR2 for a page fault, else 0.
    pub cr2: u32,
}

/// The state after one instruction, or at its fault.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// EAX, ECX, EDX, EBX, ESP, EBP, ESI, EDI.
    pub regs: [u32; 8],
    /// Where execution continues; with a fault, the saved EIP.
    pub eip: u32,
    /// EFLAGS.
    pub eflags: u32,
    /// The selectors in DS, ES and SS.
    pub segs: [u16; 3],
    /// The fault, if it faulted.
    pub fault: Option<Fault>,
    /// The windows' bytes, laid out as in [`Case::memory`].
    pub memory: Vec<u8>,
    /// The x87's state, where the case has one.
    pub fpu: Vec<u8>,
}

/// Something that executes a case: the host's processor, or an interpreter.
pub trait Subject {
    /// Executes the one instruction of `case` (all iterations, if it repeats) and leaves what became of it in `out`.
    fn run(&mut self, case: &Case, out: &mut Outcome);
}
