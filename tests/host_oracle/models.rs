//! What the manual leaves to the processor's model. We do as AMD's processors do, after which the forms were written; on a host of
//! Intel's, what we made of a case is first brought to what those make of it, case by case, and anything else is a difference.

use super::case::{Case, Mode, Outcome};
use super::fsave;
use std::sync::OnceLock;
use subring::bus::Width;
use subring::decode::{Decoded, decode};

/// What the host's processor is.
pub struct Model {
    /// It is one of Intel's.
    pub intel: bool,
    /// It notes x87's pointers at unmasked exceptions only (CPUID.(EAX=7, ECX=0):EBX[6], FDP_EXCPTN_ONLY).
    pub keeps_pointers: bool,
}

/// The host's; CPUID is asked once, since in a virtual machine each time is an exit.
pub fn host() -> &'static Model {
    static HOST: OnceLock<Model> = OnceLock::new();
    HOST.get_or_init(|| {
        let id = std::arch::x86_64::__cpuid(0);
        let vendor = [id.ebx, id.edx, id.ecx].map(u32::to_le_bytes).concat();
        let features = if id.eax < 7 { 0 } else { std::arch::x86_64::__cpuid_count(7, 0).ebx };
        Model { intel: vendor == b"GenuineIntel", keeps_pointers: features & 1 << 6 != 0 }
    })
}

/// A way in which Intel's processors part from ours: what `ours` would be there, if `case` is one for it.
type Way = fn(&Case, &Outcome, &Outcome) -> Option<Outcome>;

const OF_INTEL: [Way; 8] = [
    push_of_a_selector,
    bound_below,
    call_beyond_the_limit,
    exception_before_fault,
    store_in_two_parts,
    mmx_store_that_faults,
    denormal_that_stays,
    sine_at_the_smallest,
];

/// What Intel's processors make of `case`, where that differs from `ours` and the host is one of them.
pub fn of_host(case: &Case, theirs: &Outcome, ours: &Outcome) -> Option<Outcome> {
    if !host().intel {
        return None;
    }
    OF_INTEL.iter().find_map(|way| way(case, theirs, ours))
}

/// The instruction without its prefixes, and whether its operands have 32 bits.
fn opcode(case: &Case) -> (&[u8], bool) {
    let (prefixes, rest) = case.split();
    (rest, prefixes.contains(&0x66) != (case.mode == Mode::Code32))
}

/// The address of the top of the stack, with ESP as `esp`.
fn stack(case: &Case, esp: u32) -> u32 {
    if case.mode == Mode::Code32 { esp } else { esp & 0xffff }
}

/// Where the byte at `addr` is in [`Case::memory`].
fn place(case: &Case, addr: u32) -> Option<usize> {
    let window = case.windows.iter().find(|w| addr.wrapping_sub(w.addr) < w.len)?;
    Some((window.at + (addr - window.addr)) as usize)
}

/// SDM vol. 2, PUSH: of a selector two bytes may be written, and the two above left as they are.
fn push_of_a_selector(case: &Case, _: &Outcome, ours: &Outcome) -> Option<Outcome> {
    let (code, wide) = opcode(case);
    if !wide || ours.fault.is_some() || !matches!(code, [0x06 | 0x0e | 0x16 | 0x1e]) {
        return None;
    }
    let mut ours = ours.clone();
    for n in [2, 3] {
        let at = place(case, stack(case, ours.regs[4]).wrapping_add(n))?;
        ours.memory[at] = case.memory[at];
    }
    Some(ours)
}

/// Whether `outcome` is a fault of an access to memory.
fn faults(outcome: &Outcome) -> bool {
    outcome.fault.is_some_and(|fault| matches!(fault.vector, 12..=14))
}

/// BOUND: an index below the lower bound is found before the upper bound is read, which may lie where it faults.
fn bound_below(case: &Case, theirs: &Outcome, ours: &Outcome) -> Option<Outcome> {
    let bound = matches!(opcode(case).0, [0x62, ..]) && theirs.fault?.vector == 5 && faults(ours);
    (bound && is_below(case) != Some(false)).then(|| Outcome { fault: theirs.fault, ..ours.clone() })
}

/// Whether BOUND's index is below the lower bound, if that is memory that the case brings.
fn is_below(case: &Case) -> Option<bool> {
    let Decoded::Insn(insn) = decode(&case.code, case.mode == Mode::Code32) else { return None };
    let reg = |n: u8| case.regs.get(usize::from(n)).copied().unwrap_or(0);
    let offset = reg(insn.base).wrapping_add(reg(insn.index) << insn.scale).wrapping_add(insn.disp);
    let at = (0..insn.width.bytes()).map(|n| place(case, (offset & insn.addr_mask).wrapping_add(n)));
    let lower =
        at.enumerate().try_fold(0u32, |sum, (n, at)| Some(sum | u32::from(case.memory[at?]) << (8 * n)))?;
    let index = reg(insn.dst_reg);
    Some(match insn.width {
        Width::Word => (index as i16) < lower as i16,
        _ => (index as i32) < lower as i32,
    })
}

/// CALL near to beyond the limit: the return address is written before that is found, below an ESP that stays.
fn call_beyond_the_limit(case: &Case, _: &Outcome, ours: &Outcome) -> Option<Outcome> {
    let (code, wide) = opcode(case);
    let calls = matches!(code, [0xe8, ..]) || matches!(code, [0xff, modrm, ..] if digit(*modrm) == 2);
    if !calls || !wide || ours.fault?.vector != 13 {
        return None;
    }
    let mut ours = ours.clone();
    let back = case.eip.wrapping_add(case.code.len() as u32);
    for (n, byte) in (0..).zip(back.to_le_bytes()) {
        let at = place(case, stack(case, case.regs[4].wrapping_sub(4).wrapping_add(n)))?;
        ours.memory[at] = byte;
    }
    Some(ours)
}

/// The opcode's extension in a ModR/M byte.
fn digit(modrm: u8) -> u8 {
    modrm >> 3 & 7
}

/// Whether it is an x87 store to memory: FST, FSTP, FIST, FISTP, FBSTP.
fn stores_x87(code: &[u8]) -> bool {
    let &[opcode, modrm, ..] = code else {
        return false;
    };
    let stores: &[u8] = match opcode {
        0xd9 | 0xdd => &[2, 3],
        0xdb => &[2, 3, 7],
        0xdf => &[2, 3, 6, 7],
        _ => &[],
    };
    modrm < 0xc0 && stores.contains(&digit(modrm))
}

/// A store whose x87 exception is unmasked does not look at its place: the exception is pending, and no fault is found.
fn exception_before_fault(case: &Case, theirs: &Outcome, ours: &Outcome) -> Option<Outcome> {
    let first = stores_x87(opcode(case).0)
        && faults(ours)
        && theirs.fault.is_none()
        && !fsave::pending(&case.fpu)
        && fsave::pending(&theirs.fpu)
        && fsave::same_registers(&case.fpu, &theirs.fpu);
    let eip = case.eip.wrapping_add(case.code.len() as u32);
    first.then(|| Outcome { fault: None, eip, fpu: theirs.fpu.clone(), ..ours.clone() })
}

/// FSTP of ten bytes and FBSTP write eight and two: the first may be done when the second part faults.
fn store_in_two_parts(case: &Case, theirs: &Outcome, ours: &Outcome) -> Option<Outcome> {
    let (code, _) = opcode(case);
    let ten = match code {
        [0xdb, modrm, ..] => digit(*modrm) == 7,
        [0xdf, modrm, ..] => digit(*modrm) == 6,
        _ => false,
    };
    let written = || (0..case.memory.len()).filter(|&n| case.memory[n] != theirs.memory[n]);
    let together = written().next_back().unwrap_or(0) - written().next().unwrap_or(0) < 8;
    (ten && stores_x87(code)
        && faults(ours)
        && ours.memory == case.memory
        && theirs.fault == ours.fault
        && together)
        .then(|| Outcome { memory: theirs.memory.clone(), ..ours.clone() })
}

/// MOVD and MOVQ to memory that fault have made register 0 the top already, though no register is marked as full yet.
fn mmx_store_that_faults(case: &Case, _: &Outcome, ours: &Outcome) -> Option<Outcome> {
    let stores = matches!(opcode(case).0, [0x0f, 0x7e | 0x7f, ..]);
    (stores && faults(ours)).then(|| Outcome { fpu: fsave::with_top_at_0(&ours.fpu), ..ours.clone() })
}

/// FSCALE, FPREM and FPREM1 of a denormal number that they do not change raise no unmasked underflow.
fn denormal_that_stays(case: &Case, theirs: &Outcome, ours: &Outcome) -> Option<Outcome> {
    let scales = matches!(opcode(case).0, [0xd9, 0xfd | 0xf5 | 0xf8]);
    (scales
        && fsave::underflows(&ours.fpu)
        && fsave::top_is_denormal(&case.fpu)
        && fsave::same_top(&case.fpu, &theirs.fpu))
    .then(|| Outcome { fpu: fsave::without_underflow(&ours.fpu, &case.fpu), ..ours.clone() })
}

/// FSIN and FSINCOS may round a result just below the smallest normal number up to that, which is no underflow.
fn sine_at_the_smallest(case: &Case, theirs: &Outcome, ours: &Outcome) -> Option<Outcome> {
    let sine = match opcode(case).0 {
        [0xd9, 0xfe] => 0,
        [0xd9, 0xfb] => 1,
        _ => return None,
    };
    fsave::is_smallest(&theirs.fpu, sine)
        .then(|| Outcome { fpu: fsave::rounded_up(&ours.fpu, sine), ..ours.clone() })
}
