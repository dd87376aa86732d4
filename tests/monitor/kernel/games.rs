//! Operations as instructions: segments, modes, code that changes, and what is sensitive and does not trap.

use super::Op;
use super::code::Code;
use super::image::{
    CODE_FRAMES, CODE_WINDOW, COUNTS, CROSSING, GAME, GAME_SELECTOR, LDT, LDT_SELECTOR, REAL_CODE, REMAPPER,
    ROUTINE, SMALL_STACK, USER_DATA, USER_ROUTINE, V86_IP, V86_SEGMENT, WINDOW, descriptor,
};

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
            c.guarded(|c| c.load_segments(GAME_SELECTOR, &[FS]));
            c.edi(u32::from(limit) / 2 * 2);
            c.guarded(|c| c.put(&[0x64, 0x03, 0x07])); // ADD EAX, FS:[EDI]
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
            // The operand of the routine's ADD EAX, imm32; the part of it that lies in its first page.
            let operand = base + page * 4096 + if crossing { CROSSING } else { ROUTINE } + 1;
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
    let to = at + if crossing { CROSSING } else { ROUTINE };
    c.guarded(|c| {
        let behind = c.here() + 5;
        c.put32(&[0xe8], to.wrapping_sub(behind)); // CALL
    });
}

/// Code in `page` of the code window maps that page to another frame, and goes on there. If it is to be no page at all, the
/// kernel does it.
pub(super) fn remap(c: &mut Code, table: u32, page: u32, frame: u32, flags: u32) {
    let at = CODE_WINDOW + page * 4096;
    c.put32(&[0xbe], table + page * 4); // MOV ESI, the entry's address
    // Accessed already: whether the fetch of the flush itself sets that bit is left open.
    let accessed = if flags & 1 != 0 { 0x20 } else { 0 };
    c.put32(&[0xba], (CODE_FRAMES + frame * 4096) | flags | accessed); // MOV EDX, entry
    c.edi(at);
    if flags & 1 == 0 {
        // Not by code in that page: the flush is to be fetched whether the page is still there or not.
        c.put(&[0x89, 0x16, 0x0f, 0x01, 0x3f]); // MOV [ESI], EDX; INVLPG [EDI]
        return run(c, page, false, false);
    }
    c.guarded(|c| {
        let behind = c.here() + 5;
        c.put32(&[0xe8], (at + REMAPPER).wrapping_sub(behind)); // CALL
    });
}

/// Where each result goes: EAX, and from there to memory.
const SENSITIVE: [&[u8]; 13] = [
    &[0x9c, 0x58],                                           // PUSHF; POP EAX
    &[0x68, 0x02, 0x32, 0x00, 0x00, 0x9d],                   // PUSH 3202h; POPF: IOPL
    &[0x68, 0x02, 0x02, 0x00, 0x00, 0x9d, 0x9c, 0x58],       // PUSH 202h; POPF: IF; PUSHF; POP EAX
    &[0x83, 0xec, 0x08, 0x0f, 0x01, 0x04, 0x24, 0x58, 0x58], // SUB ESP, 8; SGDT [ESP]; POP EAX; POP EAX
    &[0x83, 0xec, 0x08, 0x0f, 0x01, 0x0c, 0x24, 0x58, 0x58], // the same with SIDT
    &[0x0f, 0x00, 0xc0],                                     // SLDT EAX
    &[0x0f, 0x00, 0xc8],                                     // STR EAX
    &[0x0f, 0x01, 0xe0],                                     // SMSW EAX
    &[0x8c, 0xc8],                                           // MOV EAX, CS
    &[0x0e, 0x58],                                           // PUSH CS; POP EAX
    &[0xb8, 0x08, 0, 0, 0, 0x0f, 0x02, 0xc0],                // MOV EAX, 8; LAR EAX, EAX
    &[0xb8, 0x10, 0, 0, 0, 0x0f, 0x03, 0xc0],                // MOV EAX, 10h; LSL EAX, EAX
    &[0x8c, 0xd0],                                           // MOV EAX, SS
];

fn sensitive(c: &mut Code, n: u8) {
    c.put(SENSITIVE[usize::from(n) % SENSITIVE.len()]);
    c.put32(&[0x01, 0x05], COUNTS + 0x4c); // ADD [at], EAX
}
