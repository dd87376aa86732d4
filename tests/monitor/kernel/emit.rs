//! Operations as instructions: memory, paging, ports, interrupts. Those about segments, modes and code are in `games`.

use super::Op;
use super::code::Code;
use super::games;
use super::image::{
    CODE_WINDOW, COUNTS, FRAMES, GLOBAL_PAGE, USER_CODE_SELECTOR, USER_SNIPPETS, WINDOW, paging_cr0,
};
use super::tables::{ALIAS, FAR, FAR_COUNT, TOP_DIRECTORY, Tables};

/// CR0.AM and EFLAGS.AC.
const AM: u32 = 1 << 18;
const AC: u32 = 1 << 18;
/// Bits of CR4.
const PSE: u32 = 1 << 4;
const PAE: u32 = 1 << 5;
const PGE: u32 = 1 << 7;

/// What is known of the kernel's state where the next operation goes.
pub(super) struct Now {
    /// The address space.
    space: usize,
    /// CR0.WP.
    wp: bool,
    /// CR4.PAE and CR4.PSE.
    pae: bool,
    pse: bool,
    /// A page of the window may have been touched where it is seen another time: INVLPG for the window leaves that cached.
    elsewhere: bool,
}

impl Now {
    pub(super) fn tables(&self) -> Tables {
        Tables::new(self.space, self.pae)
    }
}

/// Assembles a kernel that will lie at `at`. Gives where each operation's instructions start, too.
pub(super) fn assemble(ops: &[Op], at: u32) -> (Vec<u8>, Vec<u32>) {
    let mut c = Code::new(at);
    let mut now = Now { space: 0, wp: true, pae: false, pse: true, elsewhere: false };
    let mut starts = Vec::new();
    for op in ops {
        starts.push(c.here());
        emit(&mut c, op, &mut now);
    }
    c.put(&[0xfa, 0xf4]); // CLI; HLT
    (c.bytes, starts)
}

fn emit(c: &mut Code, op: &Op, now: &mut Now) {
    match *op {
        Op::SetPte { page, frame, flags, by_cr3, around } => {
            c.edi(WINDOW + page * 4096);
            if around.0 {
                c.touch(false);
            }
            // Present, R/W, U/S, accessed, dirty and a bit that is the system's.
            let entry = (FRAMES + frame * 4096) | (flags & 0x267);
            // Sometimes bit 7, which is reserved with PSE, and with PAE.
            let entry = if flags >> 20 & 15 == 15 { entry | 0x80 } else { entry };
            let t = now.tables();
            if t.pae {
                // What lies beyond the physical address is reserved, bit 63 too.
                let high = [1 << 31, 1 << 4].get((flags >> 28) as usize).copied().unwrap_or(0);
                c.store(t.window + page * 8 + 4, high);
            }
            c.store(t.window + page * t.size(), entry);
            // What INVLPG does not reach, because the page was also seen elsewhere, goes first.
            let elsewhere = std::mem::take(&mut now.elsewhere);
            if by_cr3 || elsewhere {
                c.load_cr3(t.cr3);
            }
            if !by_cr3 {
                c.put32(&[0x0f, 0x01, 0x3d], WINDOW + page * 4096); // INVLPG
            }
            if around.1 {
                c.touch(true);
            }
        }
        Op::Touch { page, offset, write, user, step } => {
            c.edi(WINDOW + page * 4096 + offset);
            let tf = if step { 0x100 } else { 0 };
            if user { c.in_user_mode(USER_SNIPPETS[usize::from(write)].0, tf) } else { c.touch(write) }
        }
        Op::Aligned { page, offset, write, interrupts } => {
            c.edi(WINDOW + page * 4096 + offset);
            c.load_cr0(paging_cr0(now.wp) | AM);
            let flags = AC | if interrupts { 0x202 } else { 2 };
            c.return_to_user(USER_CODE_SELECTOR, USER_SNIPPETS[usize::from(write)].0, flags);
            c.load_cr0(paging_cr0(now.wp));
        }
        Op::String { kind, from, to, count } => string(c, kind, from, to, count),
        Op::First { page, frame, way } => first(c, now.tables(), (page, frame), way),
        Op::Switch => {
            now.space ^= 1;
            c.load_cr3(now.tables().cr3);
        }
        Op::SetPde { kind } => {
            let t = now.tables();
            // Without PSE its bit means nothing, and the entry is of the table.
            let large = if now.pse || now.pae { FRAMES } else { t.window } | 0x87;
            let entry = [t.window | 7, 0, large][usize::from(kind)];
            c.store(t.pde(WINDOW), entry);
            c.load_cr3(t.cr3);
        }
        Op::Pae => {
            now.pae = !now.pae;
            c.load_cr0(paging_cr0(now.wp) & !(1 << 31));
            c.toggle_cr4(PAE);
            c.load_cr3(now.tables().cr3);
            c.load_cr0(paging_cr0(now.wp));
        }
        Op::Pointer { kind, load } => pointer(c, now.tables(), kind, load),
        Op::Global { frame, flags, by_pge, write, user } => {
            let at = CODE_WINDOW + GLOBAL_PAGE * 4096;
            for t in Tables::all() {
                // Global, accessed and dirty.
                c.store(t.code + GLOBAL_PAGE * t.size(), (FRAMES + frame * 4096) | 0x160 | (flags & 7));
            }
            if by_pge {
                c.toggle_cr4(PGE);
                c.toggle_cr4(PGE);
            } else {
                c.put32(&[0x0f, 0x01, 0x3d], at); // INVLPG
            }
            let touch = |c: &mut Code| {
                c.edi(at + 0x10);
                let (code, bytes) = USER_SNIPPETS[usize::from(write)];
                if user { c.in_user_mode(code, 0) } else { c.guarded(|c| c.put(&bytes[..2])) }
            };
            touch(c);
            now.space ^= 1;
            c.load_cr3(now.tables().cr3);
            touch(c);
        }
        Op::Alias { on, page, write, reload } => {
            let t = now.tables();
            let entry = if t.pae { t.directory | 1 } else { t.window | 7 };
            c.store(t.alias(), if on { entry } else { 0 });
            if reload || !t.pae {
                c.load_cr3(t.cr3);
            }
            c.edi(ALIAS + WINDOW + page * 4096);
            c.touch(write);
            now.elsewhere = true;
        }
        Op::Sweep { page, frame, write } => {
            let t = now.tables();
            let visit = |c: &mut Code, n: u32| {
                c.edi(FAR + (n << 22) + page * 4096);
                c.touch(write);
            };
            (0..FAR_COUNT).for_each(|n| visit(c, n));
            if t.pae {
                c.store(t.window + page * 8 + 4, 0);
            }
            c.store(t.window + page * t.size(), (FRAMES + frame * 4096) | 7);
            c.load_cr3(t.cr3);
            (0..FAR_COUNT).rev().for_each(|n| visit(c, n));
            now.elsewhere = true;
        }
        Op::TogglePge => c.toggle_cr4(PGE),
        Op::TogglePse { page, write, large } => toggle_pse(c, now, (page, write), large),
        Op::ToggleWp { page } => {
            let t = now.tables();
            c.store(t.window + page * t.size(), (FRAMES + page * 4096) | 0x65);
            c.edi(WINDOW + page * 4096);
            if std::mem::take(&mut now.elsewhere) {
                c.load_cr3(t.cr3);
            }
            c.put(&[0x0f, 0x01, 0x3f]); // INVLPG [EDI]
            c.touch(true);
            now.wp = !now.wp;
            c.load_cr0(paging_cr0(now.wp));
            c.touch(true);
        }
        Op::PagingOff => {
            c.load_cr0(paging_cr0(now.wp) & !(1 << 31));
            c.put32(&[0x01, 0x05], COUNTS + 0x44); // ADD [at], EAX
            c.load_cr0(paging_cr0(now.wp));
        }
        Op::Interrupts(on) => c.put(&[if on { 0xfb } else { 0xfa }]),
        Op::Sleep { close } => c.put(if close { &[0xfb, 0xf4, 0xfa] } else { &[0xfb, 0xf4] }),
        Op::Ports(value) => c.put(&[0xb0, value, 0xe6, 0x80, 0xe4, 0x64]),
        Op::Print(value) => c.put(&[0xb0, value, 0x66, 0xba, 0xf8, 0x03, 0xee]), // MOV AL, value; MOV DX, 3F8h; OUT DX, AL
        Op::Int => c.guarded(|c| c.put(&[0xcd, 0x30])),
        Op::UserMisdeed(n) => c.in_user_mode(USER_SNIPPETS[2 + usize::from(n) % 3].0, 0),
        Op::TouchTop { offset, write, user } => {
            c.edi(0xffc0_0000 + offset);
            let (code, bytes) = USER_SNIPPETS[usize::from(write)];
            match user {
                true => c.in_user_mode(code, 0),
                false => c.guarded(|c| c.put(&bytes[..2])),
            }
        }
        Op::Remap { page, frame, flags } => {
            games::remap(c, now.tables(), page, frame, flags);
        }
        Op::RemapNext { page, frame, flags } => {
            games::remap_next(c, now.tables(), page, frame, flags);
        }
        Op::Rewrite { kind, other, times } => games::rewrite(c, now.tables(), [kind, other], times),
        Op::Fill { count } => games::fill(c, now.tables(), count),
        _ => games::emit(c, op),
    }
}

/// CR4.PSE the other way, between two accesses to a window page. No entry is left that would be a large page's with PSE: where none
/// was, the frames of the window would be tables.
fn toggle_pse(c: &mut Code, now: &mut Now, (page, write): (u32, bool), large: bool) {
    let t = now.tables();
    let touch = |c: &mut Code| {
        c.edi(WINDOW + page * 4096);
        c.touch(write);
    };
    for t in Tables::all().into_iter().filter(|t| !t.pae) {
        c.store(t.pde(WINDOW), t.window | 7);
    }
    if large {
        c.store(t.pde(WINDOW), t.window | 0x87);
    }
    c.load_cr3(t.cr3);
    touch(c);
    now.pse = !now.pse;
    c.toggle_cr4(PSE);
    c.load_cr3(t.cr3);
    touch(c);
    if large {
        c.store(t.pde(WINDOW), t.window | 7);
        c.load_cr3(t.cr3);
    }
}

/// The directory pointer of the last GiB is written, and perhaps loaded: until then it means nothing (SDM vol. 3, 4.4.1).
fn pointer(c: &mut Code, t: Tables, kind: u8, load: bool) {
    if !t.pae {
        return;
    }
    // Nothing, its directory, and a reserved bit, with which CR3 cannot be loaded.
    let entry = [0, TOP_DIRECTORY | 1, TOP_DIRECTORY | 3][usize::from(kind)];
    c.store(t.last_pointer(), entry);
    if kind == 2 {
        c.guarded(|c| c.load_cr3(t.cr3));
        c.store(t.last_pointer(), 0);
    }
    if load {
        c.load_cr3(t.cr3);
    }
}

/// A window page is mapped without accessed and dirty bits, and an instruction reads the entry, and then touches the page.
fn first(c: &mut Code, t: Tables, (page, frame): (u32, u32), way: u8) {
    let entry = t.window + page * t.size();
    let at = WINDOW + page * 4096 + 0x800;
    c.store(t.pde(WINDOW), t.window | 7);
    if t.pae {
        c.store(entry + 4, 0);
    }
    c.store(entry, (FRAMES + frame * 4096) | 7);
    c.load_cr3(t.cr3);
    c.put32(&[0xbe], entry); // MOV ESI, entry
    c.edi(at);
    // With another stack, where nothing may interrupt.
    let on_stack = |c: &mut Code, esp: u32, insn: (&[u8], u32)| {
        c.put32(&[0xfa, 0x89, 0x25], COUNTS + 0x5c); // CLI; MOV [at], ESP
        c.put32(&[0xbc], esp); // MOV ESP, esp
        c.put32(insn.0, insn.1);
        c.put32(&[0x8b, 0x25], COUNTS + 0x5c); // MOV ESP, [at]
        c.put(&[0xfb]); // STI
    };
    match way {
        0 => c.put(&[0xa5]),                          // MOVSD
        1 => c.put(&[0xa7]),                          // CMPSD
        2 => c.put(&[0xb9, 3, 0, 0, 0, 0xf3, 0xa5]),  // MOV ECX, 3; REP MOVSD
        3 => on_stack(c, at, (&[0xff, 0x35], entry)), // PUSH [entry]
        _ => on_stack(c, entry, (&[0x8f, 0x05], at)), // POP [at]
    }
    c.put(&[0x9f]); // LAHF
    c.put32(&[0x01, 0x05], COUNTS + 0x44); // ADD [at], EAX
}

/// A repeated string instruction, upwards or downwards: STOS, MOVS, CMPS, LODS.
fn string(c: &mut Code, kind: u8, from: u32, to: u32, count: u32) {
    let opcode = [0xab, 0xa5, 0xa7, 0xa4][usize::from(kind & 3)];
    let down = kind & 4 != 0;
    c.put32(&[0xbe], WINDOW + from); // MOV ESI, from
    c.edi(WINDOW + to);
    c.put32(&[0xb9], count); // MOV ECX, count
    c.guarded(|c| c.put(&[if down { 0xfd } else { 0xfc }, 0xf3, opcode])); // STD or CLD; REP
    c.put(&[0xfc]);
    c.put32(&[0x01, 0x0d], COUNTS + 0x48); // ADD [at], ECX
}
