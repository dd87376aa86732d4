//! Operations as instructions: segments, modes, code that changes, and what is sensitive and does not trap.

use super::Op;
use super::code::Code;
use super::image::{
    BASED, CODE_FRAMES, CODE_WINDOW, COUNTS, CROSSING, FAR_POINTER, GAME, GAME_SELECTOR, LDT, LDT_SELECTOR,
    NEXT_REMAPPER, NUMERIC_CONTROLS, REAL_CODE, REMAPPER, ROUTINE, SMALL_STACK, USER_DATA, USER_RETURNS,
    USER_ROUTINE, USER_SNIPPETS, V86_IP, V86_SEGMENT, WINDOW, descriptor,
};
use super::tables::Tables;

/// FS and GS by their numbers, and all data segment registers but SS.
const FS: u8 = 4;
const GS: u8 = 5;
const DATA: [u8; 4] = [3, 0, FS, GS];

pub(super) fn emit(c: &mut Code, op: &Op) {
    match *op {
        Op::Real => {
            c.guarded(|c| {
                let behind = c.here() + 5;
                c.put32(&[0xe9], REAL_CODE.wrapping_sub(behind)); // JMP
            });
        }
        Op::V86 => {
            c.guarded(|c| {
                // GS, FS, DS, ES, SS, ESP, EFLAGS with VM, CS, EIP.
                for value in [0, 0, 0, 0, 0, 0xd000, 0x2_0202, V86_SEGMENT, V86_IP] {
                    c.put32(&[0x68], value); // PUSH imm32
                }
                c.put(&[0xcf]); // IRET
            });
            // The way out of virtual-8086 mode leaves null selectors.
            c.load_segments(USER_DATA, &DATA);
        }
        Op::Segment { base, limit, kind } => {
            // Data; read-only; expand-down; not accessed yet; not present; code; conforming code; of ring 0.
            let attr = [0xf3, 0xf1, 0xf7, 0xf2, 0x73, 0xfb, 0xff, 0x93][usize::from(kind)];
            put_descriptor(c, GAME, descriptor(base, limit.into(), attr, 4));
            // Where it cannot be loaded the accesses fault, too.
            c.load_segments(0, &[FS]);
            c.guarded(|c| c.load_segments(GAME_SELECTOR, &[FS]));
            let limit = u32::from(limit);
            let (across, within) =
                (limit / 2 * 2, if kind == 2 { limit + 1 } else { limit.saturating_sub(3) });
            c.edi(within);
            c.guarded(|c| c.put(&[0x64, 0x03, 0x07])); // ADD EAX, FS:[EDI]
            // What lies below the window is the kernel itself.
            c.edi(if base < WINDOW { across } else { within });
            c.guarded(|c| c.put(&[0x64, 0x89, 0x07])); // MOV FS:[EDI], EAX
            c.load_segments(USER_DATA, &[FS]);
        }
        Op::Stale { limit } => {
            put_descriptor(c, GAME, descriptor(WINDOW, 0xfff, 0xf3, 4));
            c.load_segments(GAME_SELECTOR, &[FS]);
            put_descriptor(c, GAME, descriptor(0, limit.into(), 0x73, 4));
            c.put(&[0xe4, 0x64]); // IN AL, 64h
            c.edi(limit.into());
            c.guarded(|c| c.put(&[0x64, 0x03, 0x07])); // ADD EAX, FS:[EDI]
            c.load_segments(USER_DATA, &[FS]);
        }
        Op::SmallStack => {
            c.load_segments(SMALL_STACK, &[2]);
            c.put(&[0x50, 0x60, 0x61, 0x5a]); // PUSH EAX; PUSHA; POPA; POP EDX
            c.load_segments(0x10, &[2]);
        }
        Op::Local { base } => {
            put_descriptor(c, LDT + 8, descriptor(base, 0xffff, 0xf3, 4));
            c.put(&[0x66, 0xb8, LDT_SELECTOR as u8, 0, 0x0f, 0x00, 0xd0]); // MOV AX, selector; LLDT AX
            c.load_segments(0x0f, &[GS]);
            c.edi(0x40);
            c.guarded(|c| c.put(&[0x65, 0x03, 0x07])); // ADD EAX, GS:[EDI]
            c.load_segments(USER_DATA, &[GS]);
        }
        Op::Corrupt { at, value } => c.store(at, value),
        Op::Compute(n) => {
            c.put32(&[0x05], n); // ADD EAX, n
            c.put(&[0x69, 0xc0]); // IMUL EAX, EAX, n
            c.put(&(n | 1).to_le_bytes());
            c.put32(&[0x01, 0x05], COUNTS + 0x40); // ADD [at], EAX
        }
        Op::SelfModify { n, times } => {
            c.put32(&[0xb9], times); // MOV ECX, times
            let again = c.here();
            let operand = again + 10 + 1;
            c.put32(&[0x81, 0x05], operand); // ADD DWORD [operand], n
            c.put(&n.to_le_bytes());
            c.put32(&[0x05], 0); // ADD EAX, what was written
            let behind = c.here() + 2;
            c.put(&[0xe2, again.wrapping_sub(behind) as u8]); // LOOP again
        }
        Op::Run { page, crossing, user } => run(c, page, crossing, user),
        Op::Patch { page, crossing, through_window, n } => {
            let base = if through_window { CODE_WINDOW } else { CODE_FRAMES };
            // The operand of the routine's ADD EAX, imm32; the half of it that lies in its first page, or in the second.
            let second = if n & 0x1_0000 != 0 { 2 } else { 0 };
            let operand = base + page * 4096 + if crossing { CROSSING + second } else { ROUTINE } + 1;
            c.guarded(|c| {
                if crossing {
                    c.put32(&[0x66, 0xc7, 0x05], operand); // MOV WORD [operand], n
                    c.put(&n.to_le_bytes()[..2]);
                } else {
                    c.store(operand, n);
                }
            });
            run(c, page, crossing, false);
        }
        Op::Based { offset, cut, kind, user, far } => based(c, (offset, cut), kind, user, far),
        Op::Numeric(ref steps) => numeric(c, steps),
        Op::Break { page, kind, write, way, resume } => breaks(c, page, kind, (write, way, resume)),
        Op::Timer(count) => {
            for (port, value) in [(0x43, 0x34), (0x40, count), (0x40, 0)] {
                c.put(&[0xb0, value, 0xe6, port]); // MOV AL, value; OUT port, AL
            }
        }
        Op::Sensitive(n) => sensitive(c, n),
        _ => unreachable!("{op:?} is emitted elsewhere"),
    }
}

fn put_descriptor(c: &mut Code, at: u32, d: u64) {
    c.store(at, d as u32);
    c.store(at + 4, (d >> 32) as u32);
}

/// A routine in a page of the code window is called, or run as user code.
fn run(c: &mut Code, page: u32, crossing: bool, user: bool) {
    let at = CODE_WINDOW + page * 4096;
    if user {
        return c.in_user_mode(at + USER_ROUTINE, 0);
    }
    call(c, at + if crossing { CROSSING } else { ROUTINE });
}

/// CALL, guarded.
fn call(c: &mut Code, to: u32) {
    c.guarded(|c| {
        let behind = c.here() + 5;
        c.put32(&[0xe8], to.wrapping_sub(behind));
    });
}

/// Code in `page` of the code window maps that page to another frame, and goes on there. If it is to be no page at all, the
/// kernel does it.
pub(super) fn remap(c: &mut Code, t: Tables, page: u32, frame: u32, flags: u32) {
    let at = CODE_WINDOW + page * 4096;
    // Accessed already: whether the fetch of the flush itself sets that bit is left open.
    let accessed = if flags & 1 != 0 { 0x20 } else { 0 };
    remapping(c, t, page, (CODE_FRAMES + frame * 4096) | flags | accessed);
    if flags & 1 == 0 {
        // Not by code in that page: the flush is to be fetched whether the page is still there or not.
        c.put(&[0x89, 0x16, 0x0f, 0x01, 0x3f]); // MOV [ESI], EDX; INVLPG [EDI]
        return run(c, page, false, false);
    }
    call(c, at + REMAPPER);
}

/// Code at the end of `page` of the code window maps the next page to another frame; its next instruction ends there.
pub(super) fn remap_next(c: &mut Code, t: Tables, page: u32, frame: u32, flags: u32) {
    remapping(c, t, page + 1, (CODE_FRAMES + frame * 4096) | flags);
    call(c, CODE_WINDOW + page * 4096 + NEXT_REMAPPER);
}

/// What the routines that map a page of the code window expect: ESI is the entry's address, EDX the new one, EDI the page.
fn remapping(c: &mut Code, t: Tables, page: u32, entry: u32) {
    c.put32(&[0xbe], t.code + page * t.size()); // MOV ESI
    c.put32(&[0xba], entry); // MOV EDX
    c.edi(CODE_WINDOW + page * 4096);
}

/// One instruction writes to one place again and again, then to another, then to the first again: enough for a translator to change
/// its mind about it. What it changes there no translation is made from.
pub(super) fn rewrite(c: &mut Code, t: Tables, kinds: [u8; 2], times: u32) {
    // A bit that is the system's in entries of both levels; a descriptor; no memory; plain memory; past where segments are truncated.
    let of =
        |kind: u8| [t.window, t.pde(WINDOW), GAME, 0xa_0000, COUNTS + 0x80, 0xffff_f000][usize::from(kind)];
    c.edi(of(kinds[0]));
    c.put32(&[0xbe], of(kinds[1])); // MOV ESI
    c.guarded(|c| {
        c.put(&[0x6a, 3, 0x5a]); // PUSH 3; POP EDX
        let outer = c.here();
        c.put32(&[0xb9], times); // MOV ECX
        let inner = c.here();
        c.put32(&[0x81, 0x37], 0x200); // XOR DWORD [EDI], 200h
        let behind = c.here() + 2;
        c.put(&[0xe2, inner.wrapping_sub(behind) as u8, 0x87, 0xf7, 0x4a]); // LOOP inner; XCHG ESI, EDI; DEC EDX
        let behind = c.here() + 2;
        c.put(&[0x75, outer.wrapping_sub(behind) as u8]); // JNZ outer
    });
    c.load_cr3(t.cr3);
}

/// Entries of the window's table that nothing is mapped by are written by a repeated store, and stay absent.
pub(super) fn fill(c: &mut Code, t: Tables, count: u32) {
    c.edi(t.window + 0x400);
    c.put32(&[0xb9], count); // MOV ECX
    c.put(&[0x24, 0xfe, 0xfc, 0xf3, 0xab]); // AND AL, FEh; CLD; REP STOSD
}

/// x87 instructions while its interrupt can come: errors go by way of the board.
fn numeric(c: &mut Code, steps: &[u8]) {
    let mask = |c: &mut Code, first: u8, second: u8| {
        c.put(&[0xb0, first, 0xe6, 0x21, 0xb0, second, 0xe6, 0xa1]); // MOV AL; OUT 21h, AL; MOV AL; OUT A1h, AL
    };
    mask(c, 0xfa, 0xdf);
    c.put(&[0xdb, 0xe3, 0xfb]); // FNINIT; STI
    c.guarded(|c| {
        for step in steps {
            match step {
                0 => c.put32(&[0xd9, 0x2d], NUMERIC_CONTROLS),     // FLDCW
                1 => c.put32(&[0xd9, 0x2d], NUMERIC_CONTROLS + 2), // FLDCW
                2 => c.put(&[0xd9, 0xe8, 0xd9, 0xee, 0xde, 0xf9]), // FLD1; FLDZ; FDIVP
                3 => c.put(&[0x9b]),                               // WAIT
                4 => c.put(&[0xdb, 0xe2]),                         // FNCLEX
                5 => c.put(&[0x0f, 0x77]),                         // EMMS
                _ => {
                    c.put(&[0xdf, 0xe0]); // FNSTSW AX
                    c.put32(&[0x01, 0x05], COUNTS + 0x74); // ADD [at], EAX
                }
            }
        }
    });
    c.put(&[0xdb, 0xe3, 0xfa]); // FNINIT; CLI
    mask(c, 0xfe, 0xff);
}

/// An access to `page` from behind an IRET, with a breakpoint on.
fn breaks(c: &mut Code, page: u32, kind: u8, (write, way, resume): (bool, u8, bool)) {
    // One snippet for both: in ring 0, too, it ends with INT 30h.
    let (to, at) = (USER_SNIPPETS[usize::from(write)].0, WINDOW + page * 4096);
    c.put32(&[0xb8], if kind == 0 { to } else { at }); // MOV EAX
    c.put(&[0x0f, 0x23, 0xc0]); // MOV DR0, EAX
    // G0, and for data four bytes.
    let length = if kind == 0 { 0 } else { 3 << 18 };
    c.put32(&[0xb8], 2 | u32::from(kind) << 16 | length); // MOV EAX
    c.put(&[0x0f, 0x23, 0xf8]); // MOV DR7, EAX
    c.edi(at);
    let flags = if resume { 0x1_0000 } else { 0 };
    match way {
        // IF off, so that nothing comes in between.
        0 => c.guarded(|c| c.iret(8, to, 2 | flags)),
        1 => c.in_user_mode(to, flags),
        _ => c.in_user_mode(USER_RETURNS[usize::from(write)][usize::from(resume)], 0),
    }
    c.put(&[0x31, 0xc0, 0x0f, 0x23, 0xf8]); // XOR EAX, EAX; MOV DR7, EAX
}

/// Work in a code segment of its own: its base lies `offset` below the routine, and it ends `cut` bytes into that.
fn based(c: &mut Code, (offset, cut): (u32, u8), kind: u8, user: bool, far: bool) {
    // Readable; not; conforming; not accessed yet; not present; data; 16-bit.
    let (attr, flags) =
        [(0x9b, 4), (0x99, 4), (0x9f, 4), (0x9a, 4), (0x1b, 4), (0x93, 4), (0x9b, 0)][usize::from(kind)];
    let attr = if user { attr | 0x60 } else { attr };
    // As 16-bit code the far jump would be another, and LOOP goes to where 16 bits reach.
    let (far, offset) = if flags == 0 { (false, offset & 0x3fff) } else { (far, offset) };
    // A base above the routine: the offset wraps around, and the limit is counted in pages.
    let (limit, pages) = if offset > 0xf_ffff { (0xf_ffff, 8) } else { (offset + u32::from(cut), 0) };
    let base = BASED[usize::from(far)].wrapping_sub(offset);
    put_descriptor(c, GAME, descriptor(base, limit, attr, flags | pages));
    c.edi(offset);
    if user {
        return c.in_user_code(GAME_SELECTOR, offset, 0);
    }
    c.guarded(|c| {
        // The far pointer behind: EBX knows its offset.
        c.put32(&[0x89, 0x1d], FAR_POINTER); // MOV [FAR_POINTER], EBX
        c.store(FAR_POINTER + 4, 8);
        c.put32(&[0xea], offset); // JMP GAME:offset
        c.put(&(GAME_SELECTOR & !3).to_le_bytes());
    });
}

/// Where each result goes: EAX, and from there to memory.
const SENSITIVE: [&[u8]; 17] = [
    &[0x9c, 0x58],                                                                   // PUSHF; POP EAX
    &[0x68, 0x02, 0x32, 0x00, 0x00, 0x9d],                                           // PUSH 3202h; POPF: IOPL
    &[0x68, 0x02, 0x02, 0x00, 0x00, 0x9d, 0x9c, 0x58], // PUSH 202h; POPF: IF; PUSHF; POP EAX
    &[0x83, 0xec, 0x08, 0x0f, 0x01, 0x04, 0x24, 0x58, 0x58], // SUB ESP, 8; SGDT [ESP]; POP EAX; POP EAX
    &[0x83, 0xec, 0x08, 0x0f, 0x01, 0x0c, 0x24, 0x58, 0x58], // the same with SIDT
    &[0x0f, 0x00, 0xc0],                               // SLDT EAX
    &[0x0f, 0x00, 0xc8],                               // STR EAX
    &[0x0f, 0x01, 0xe0],                               // SMSW EAX
    &[0x8c, 0xc8],                                     // MOV EAX, CS
    &[0x0e, 0x58],                                     // PUSH CS; POP EAX
    &[0xb8, 0x08, 0, 0, 0, 0x0f, 0x02, 0xc0],          // MOV EAX, 8; LAR EAX, EAX
    &[0xb8, 0x10, 0, 0, 0, 0x0f, 0x03, 0xc0],          // MOV EAX, 10h; LSL EAX, EAX
    &[0x8c, 0xd0],                                     // MOV EAX, SS
    &[0x50, 0x0f, 0x01, 0x24, 0x24, 0x58],             // PUSH EAX; SMSW [ESP]; POP EAX
    &[0xb8, 0x10, 0, 0, 0, 0x0f, 0x00, 0xe8, 0x9c, 0x58], // MOV EAX, 10h; VERW AX; PUSHF; POP EAX
    &[0x83, 0xec, 0x1c, 0xd9, 0x34, 0x24, 0x8b, 0x44, 0x24, 0x10, 0x83, 0xc4, 0x1c], // FNSTENV; its FCS in EAX
    &[0xd9, 0xe8, 0xdd, 0xd8, 0x83, 0xec, 0x1c, 0xd9, 0x34, 0x24, 0x8b, 0x44, 0x24, 0x10, 0x83, 0xc4, 0x1c], // FLD1; FSTP; the same
];

fn sensitive(c: &mut Code, n: u8) {
    c.put(SENSITIVE[usize::from(n) % SENSITIVE.len()]);
    c.put32(&[0x01, 0x05], COUNTS + 0x4c); // ADD [at], EAX
}
