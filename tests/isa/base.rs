//! The base environment: memory and registers that `env` asks for.

use crate::layout::*;
use crate::memory::{Context, Memory};
use crate::state::{self, State};
use std::sync::OnceLock;
use subring::cpu::Cpu;

/// What follows `env`.
struct Env {
    mode: Mode,
    cpl: u32,
    paging: Paging,
}

#[derive(Clone, Copy, PartialEq)]
enum Paging {
    Off,
    On,
    Pae,
}

#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Real,
    Prot16,
    Prot32,
    V86,
}

fn parse(text: &str) -> Result<Env, String> {
    let mut words = text.split_whitespace();
    let mode = match words.next() {
        Some("real") => Mode::Real,
        Some("prot16") => Mode::Prot16,
        Some("prot32") => Mode::Prot32,
        Some("v86") => Mode::V86,
        _ => return Err("`env` takes real, prot16, prot32 or v86".to_owned()),
    };
    let mut env = Env { mode, cpl: if mode == Mode::V86 { 3 } else { 0 }, paging: Paging::Off };
    for word in words {
        match word.split_once('=') {
            Some(("cpl", v)) => env.cpl = number(v)?,
            Some(("paging", "on")) => env.paging = Paging::On,
            Some(("paging", "pae")) => env.paging = Paging::Pae,
            Some(("paging", "off")) => env.paging = Paging::Off,
            _ => return Err(format!("`{word}` means nothing for `env`")),
        }
    }
    match (env.mode, env.cpl) {
        (Mode::Prot16, 0 | 3) | (Mode::Prot32, 0..=3) | (Mode::V86, 3) | (Mode::Real, 0) => Ok(env),
        _ => Err(format!("there is no `env {text}`")),
    }
}

/// Memory and registers at the start.
pub fn build(text: &str) -> Result<(Memory, State), String> {
    let env = parse(text)?;
    static TABLES: OnceLock<Result<Memory, String>> = OnceLock::new();
    let memory = TABLES.get_or_init(tables).clone()?;
    let mut s = state::read(&Cpu::new());
    for (name, value) in subring::cpu::gpr::NAMES.iter().zip(REGISTERS) {
        set(&mut s, name, value);
    }
    set(&mut s, "eip", CODE);
    set(&mut s, "eflags", 2);
    set(&mut s, "cr0", 0x10);
    match env.mode {
        Mode::Real => real(&mut s, &memory),
        _ => protected(&mut s, &memory, &env),
    }
    if env.paging == Paging::Pae {
        set(&mut s, "cr4", 0x20);
        set(&mut s, "pdpte0", PAE_DIRECTORY | 1);
    }
    if env.paging != Paging::Off {
        set(&mut s, "cr3", if env.paging == Paging::Pae { POINTER_TABLE } else { PAGE_DIRECTORY });
        let cr0 = s["cr0"] | 1 << 31;
        set(&mut s, "cr0", cr0);
    }
    Ok((memory, s))
}

fn set(s: &mut State, name: &str, value: u32) {
    s.insert(name.to_owned(), value);
}

fn tables() -> Result<Memory, String> {
    let mut memory = Memory::new();
    let ctx = Context { stack: 0, gdt: GDT, ldt: LDT, idt: IDT };
    for (selector, words) in BASE_GDT {
        memory.directive(&format!("gdt {selector} = {words}"), &ctx)?;
    }
    for vector in 0..=255u8 {
        memory.directive(&format!("idt {vector} = int32 0x08:h{vector:x}"), &ctx)?;
        // The interrupt vector table of real mode.
        memory.put32(4 * u32::from(vector), handler(vector));
        memory.put(handler(vector), &[0xeb, 0xfe]);
    }
    memory.put(TARGET, &[0xeb, 0xfe]);
    let [esp0, esp1, esp2] = INNER_STACKS;
    memory.directive(
        &format!("tss32 {TSS}: esp0={esp0} ss0=0x10 esp1={esp1} ss1=0x21 esp2={esp2} ss2=0x32 iomap=0x68"),
        &ctx,
    )?;
    memory.put32(PAGE_DIRECTORY, PAGE_TABLES | 0x27);
    for page in 0..1024 {
        memory.put32(PAGE_TABLES + 4 * page, (page << 12) | 0x67);
    }
    memory.put32(POINTER_TABLE, PAE_DIRECTORY | 1);
    for half in 0..2 {
        memory.put32(PAE_DIRECTORY + 8 * half, (PAE_TABLES + 0x1000 * half) | 0x27);
    }
    for page in 0..1024 {
        memory.put32(PAE_TABLES + 8 * page, (page << 12) | 0x67);
    }
    Ok(memory)
}

fn real(s: &mut State, memory: &Memory) {
    set(s, "idtr.limit", 0x3ff);
    for name in ["es", "cs", "ss", "ds", "fs", "gs"] {
        state::load_segment(s, memory, name, 0);
    }
}

fn protected(s: &mut State, memory: &Memory, env: &Env) {
    set(s, "cr0", 0x11);
    for (name, value) in [
        ("gdtr.base", GDT),
        ("gdtr.limit", u32::from(GDT_LIMIT)),
        ("idtr.base", IDT),
        ("idtr.limit", u32::from(IDT_LIMIT)),
    ] {
        set(s, name, value);
    }
    state::load_segment(s, memory, "ldtr", 0x70);
    state::load_segment(s, memory, "tr", 0x68);
    let n = env.cpl;
    let (code, data) = match env.mode {
        Mode::Prot16 if n == 0 => (0x48, 0x50),
        Mode::Prot16 => (0x5b, 0x63),
        Mode::V86 => (0, 0),
        _ => ((0x08 + 0x10 * n) | n, (0x10 + 0x10 * n) | n),
    };
    if env.mode == Mode::V86 {
        let flags = s["eflags"] | state::VM;
        set(s, "eflags", flags);
    }
    state::load_segment(s, memory, "cs", code);
    for name in ["es", "ss", "ds", "fs", "gs"] {
        state::load_segment(s, memory, name, data);
    }
}
