//! The commands that gdb passes on with `monitor`: what the protocol has no packet for. Each only looks, but
//! `reset` and `goto`. Called by [`super::target`].

use crate::addr::{GuestPhys, Linear};
use crate::cpu::fault::vector_name;
use crate::cpu::segment::{Descriptor, attr};
use crate::cpu::{Cr0, Cr4};
use crate::decode::disassemble;
use crate::machine::{Input, LastWrite, Machine};
use crate::mmu::pae;
use crate::mmu::paging::{TableMemory, entry};
use crate::mmu::reserved::Reserved;
use std::fmt::Write;

const HELP: &str = "\
info tlb     cached translations: linear page, frame, G for global
info mem     ranges that the page tables map: linear range, physical start, u for user, w for writable
info gdt     the global descriptor table, as far as it is mapped
info idt     the interrupt descriptor table, without empty gates
stats        what the run counted
reset        the reset line (guests that were started by firmware); then: maintenance flush register-cache
help         this text
On the bare machine only, for under a monitor there is no going back in time yet:
history      how far back it goes, and what it takes
goto N       to where N instructions had retired; then: maintenance flush register-cache
last-write ADDR [LEN]   what wrote last to LEN (4) bytes at ADDR, before now: 0x1000, counter, &counter, table+8
Addresses that gdb takes (break, watch, x) are linear: in 16-bit code, segment * 16 + offset. $eip is the offset
in CS: `x/i $cs_base+$eip` shows what is next, after `set architecture i8086` in 16-bit code or
`set architecture i386` in 32-bit code. Where $cs_base is not 0 a breakpoint stops with SIGTRAP, not with its number.
";

/// What a command answers.
pub(super) fn answer(m: &mut Machine, command: &str) -> String {
    let words: Vec<&str> = command.split_whitespace().collect();
    match words[..] {
        ["help"] | [] => HELP.into(),
        ["info", "tlb"] => tlb(m),
        ["info", "mem"] => mem(m),
        ["info", "gdt"] => gdt(m),
        ["info", "idt"] => idt(m),
        ["stats"] => stats(m),
        ["history"] => history(m),
        ["goto", count] => goto(m, count),
        ["last-write", at] => last_write(m, at, "4"),
        ["last-write", at, len] => last_write(m, at, len),
        ["reset"] => reset(m),
        _ => format!("`{command}` is no command here; `monitor help` lists them\n"),
    }
}

/// Lines under a first one that counts them. Writing to a String cannot fail, here and below.
fn table(what: &str, lines: impl IntoIterator<Item = String>) -> String {
    let lines: Vec<String> = lines.into_iter().collect();
    let mut text = format!("{what}: {}\n", lines.len());
    for line in lines {
        let _ = writeln!(text, "{line}");
    }
    text
}

fn tlb(m: &Machine) -> String {
    let mut entries: Vec<_> = m.world.tlb.entries().collect();
    entries.sort();
    let line = |(page, frame, global): (Linear, GuestPhys, bool)| {
        format!("{:08x} -> {:08x}{}", page.0, frame.0, if global { " G" } else { "" })
    };
    table("cached translations", entries.into_iter().map(line))
}

/// Pages that lie together in both spaces and have the same rights.
struct Range {
    at: u64,
    len: u64,
    phys: u64,
    rights: u32,
}

fn mem(m: &Machine) -> String {
    if !m.cpu.cr0.contains(Cr0::PG) {
        return "paging is off: each linear address is its own physical address\n".into();
    }
    let line = |r: &Range| {
        let user = if r.rights & entry::USER != 0 { 'u' } else { '-' };
        let write = if r.rights & entry::WRITE != 0 { 'w' } else { '-' };
        format!("{:08x}-{:08x} -> {:08x} {user}r{write}", r.at, r.at + r.len - 1, r.phys)
    };
    table("mapped ranges", mapped(m).iter().map(line))
}

fn mapped(m: &Machine) -> Vec<Range> {
    if m.cpu.cr4.contains(Cr4::PAE) { mapped_pae(m) } else { mapped_32(m) }
}

fn mapped_pae(m: &Machine) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    let reserved = Reserved::of(&m.cpu);
    let read = |at: GuestPhys| pae::read(&m.world.tables(m.cpu.now), at);
    for region in (0..1 << 11).map(|n| Linear(n << 21)) {
        let pointer = m.cpu.pdptes[(region.0 >> 30) as usize];
        let pde = if pae::present(pointer) { read(pae::pde_address(pointer, region)) } else { 0 };
        if !pae::present(pde) || pde & reserved.of_pde(pae::large(pde)) != 0 {
            continue;
        }
        if pae::large(pde) {
            add(&mut ranges, region.0.into(), 1 << 21, (pde & pae::LARGE_FRAME) as u32, pde as u32);
            continue;
        }
        for page in (0..512).map(|n| region.offset(n << 12)) {
            let pte = read(pae::pte_address(pde, page));
            if pae::present(pte) && pte & reserved.small == 0 {
                add(&mut ranges, page.0.into(), 1 << 12, (pte & pae::FRAME) as u32, (pde & pte) as u32);
            }
        }
    }
    ranges
}

fn mapped_32(m: &Machine) -> Vec<Range> {
    let mut ranges: Vec<Range> = Vec::new();
    let read = |at: u32| m.world.tables(m.cpu.now).read_entry(GuestPhys(at));
    for n in 0..1024u32 {
        let pde = read((m.cpu.cr3 & entry::FRAME) | n << 2);
        if pde & entry::PRESENT == 0 {
            continue;
        }
        if pde & entry::LARGE != 0 && m.cpu.cr4.contains(Cr4::PSE) {
            add(&mut ranges, u64::from(n) << 22, 1 << 22, pde & entry::LARGE_FRAME, pde);
            continue;
        }
        for k in 0..1024u32 {
            let pte = read((pde & entry::FRAME) | k << 2);
            if pte & entry::PRESENT != 0 {
                let at = u64::from(n) << 22 | u64::from(k) << 12;
                add(&mut ranges, at, 1 << 12, pte & entry::FRAME, pde & pte);
            }
        }
    }
    ranges
}

fn add(ranges: &mut Vec<Range>, at: u64, len: u64, phys: u32, rights: u32) {
    let (phys, rights) = (u64::from(phys), rights & (entry::USER | entry::WRITE));
    match ranges.last_mut() {
        Some(r) if r.at + r.len == at && r.phys + r.len == phys && r.rights == rights => r.len += len,
        _ => ranges.push(Range { at, len, phys, rights }),
    }
}

/// The descriptors of a table, as far as it is mapped.
fn descriptors(m: &Machine, base: u32, limit: u16) -> impl Iterator<Item = (u32, Descriptor)> + '_ {
    (0..=u32::from(limit) / 8).filter(move |n| n * 8 + 7 <= u32::from(limit)).map_while(move |n| {
        let bytes = m.world.peek(&m.cpu, Linear(base).offset(n * 8), 8);
        Some((n, Descriptor(u64::from_le_bytes(bytes.try_into().ok()?))))
    })
}

fn gdt(m: &Machine) -> String {
    let (base, limit) = (m.cpu.gdtr.base, m.cpu.gdtr.limit);
    let lines = descriptors(m, base, limit).map(|(n, d)| format!("{:04x}  {}", n * 8, describe(d)));
    table(&format!("GDT at {base:08x}, limit {limit:04x}, descriptors"), lines)
}

fn describe(d: Descriptor) -> String {
    if d.0 == 0 {
        return "null".into();
    }
    let present = if d.present() { "" } else { "  not present" };
    if !d.is_segment() && matches!(d.kind(), 4..=7 | 12 | 14 | 15) {
        return format!("{}{present}", gate(d));
    }
    let kind = if d.is_segment() { segment_kind(d) } else { system_kind(d).into() };
    format!("base {:08x}  limit {:08x}  dpl {}  {kind}{present}", d.base(), d.limit(), d.dpl())
}

fn segment_kind(d: Descriptor) -> String {
    let has = |bit, name| if d.attr() & bit != 0 { name } else { "" };
    let size = if d.attr() & attr::BIG != 0 { "32-bit" } else { "16-bit" };
    let accessed = has(attr::ACCESSED, ", accessed");
    if d.is_code() {
        let (read, conforming) = (has(attr::RW, ", readable"), has(attr::DC, ", conforming"));
        format!("{size} code{read}{conforming}{accessed}")
    } else {
        let (write, down) = (has(attr::RW, ", writable"), has(attr::DC, ", expand-down"));
        format!("{size} data{write}{down}{accessed}")
    }
}

/// Names of system descriptors (SDM vol. 3, table 3-2).
fn system_kind(d: Descriptor) -> &'static str {
    match d.kind() {
        1 => "16-bit TSS, available",
        2 => "LDT",
        3 => "16-bit TSS, busy",
        4 => "16-bit call gate",
        5 => "task gate",
        6 => "16-bit interrupt gate",
        7 => "16-bit trap gate",
        9 => "32-bit TSS, available",
        11 => "32-bit TSS, busy",
        12 => "32-bit call gate",
        14 => "32-bit interrupt gate",
        15 => "32-bit trap gate",
        _ => "reserved type",
    }
}

fn gate(d: Descriptor) -> String {
    let offset = if d.kind() < 8 { d.gate_offset() & 0xffff } else { d.gate_offset() };
    format!("{:04x}:{offset:08x}  dpl {}  {}", d.gate_selector().0, d.dpl(), system_kind(d))
}

fn idt(m: &Machine) -> String {
    let (base, limit) = (m.cpu.idtr.base, m.cpu.idtr.limit);
    if !m.cpu.protected() {
        return vectors(m, base, limit);
    }
    let gates = descriptors(m, base, limit).filter(|(_, d)| d.0 != 0);
    let lines = gates.map(|(n, d)| format!("{n:02x}  {}", describe(d)));
    table(&format!("IDT at {base:08x}, limit {limit:04x}, gates"), lines)
}

/// The 256 vectors of real mode; neighbours that are equal share a line.
fn vectors(m: &Machine, base: u32, limit: u16) -> String {
    let inside = (0..256u32).filter(|n| n * 4 + 3 <= u32::from(limit));
    let mut runs: Vec<(u32, u32, u16, u16)> = Vec::new();
    for n in inside {
        let bytes = m.world.peek(&m.cpu, Linear(base).offset(n * 4), 4);
        let Ok([a, b, c, d]) = <[u8; 4]>::try_from(bytes) else { break };
        let (offset, segment) = (u16::from_le_bytes([a, b]), u16::from_le_bytes([c, d]));
        match runs.last_mut() {
            Some(r) if (r.2, r.3) == (segment, offset) => r.1 = n,
            _ => runs.push((n, n, segment, offset)),
        }
    }
    let lines = runs
        .iter()
        .map(|(first, last, segment, offset)| format!("{first:02x}-{last:02x}  {segment:04x}:{offset:04x}"));
    table(&format!("interrupt vectors at {base:08x}, limit {limit:04x}, groups"), lines)
}

fn stats(m: &Machine) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "instructions retired  {}", m.cpu.retired());
    let _ = writeln!(text, "ticks halted          {}", m.cpu.idle);
    let _ = writeln!(text, "TLB fills, flushes    {}, {}", m.world.tlb.fills, m.world.tlb.flushes);
    for (vector, n) in (0u8..).zip(m.counts.exceptions).filter(|(_, n)| *n != 0) {
        let _ = writeln!(text, "exceptions {:<10} {n}", vector_name(vector));
    }
    for (vector, n) in &m.counts.interrupts {
        let _ = writeln!(text, "interrupts {vector:02x}         {n}");
    }
    for (vector, n) in (0u8..=255).zip(m.world.software_interrupts).filter(|(_, n)| *n != 0) {
        let _ = writeln!(text, "INT {vector:02x}                {n}");
    }
    text
}

fn reset(m: &mut Machine) -> String {
    if !m.has_firmware() {
        return "this guest was loaded without firmware: nothing would start it again after a reset\n".into();
    }
    m.give(Input::Reset);
    "reset: the processor is at its first instruction (maintenance flush register-cache shows it)\n".into()
}

/// Why there is no history.
fn no_history(m: &Machine) -> String {
    if m.has_monitor() {
        "no history is kept: under a monitor gdb cannot go back in time yet\n".into()
    } else {
        "no history is kept: --gdb-history 0 says so\n".into()
    }
}

/// The most bytes that `last-write` watches.
const MOST_WATCHED: u32 = 4096;

fn history(m: &Machine) -> String {
    let Some(h) = m.history_info() else { return no_history(m) };
    let begin = if h.shortened { "  (what was before is dropped)" } else { "" };
    let mut text = format!("begins at      instruction {}{begin}\n", h.begin);
    let _ = writeln!(text, "here           instruction {}, tick {}", h.now, m.cpu.now);
    let _ = match h.end {
        Some(end) => writeln!(text, "ends at        tick {end}; from there on the run is live"),
        None => writeln!(text, "ends           here"),
    };
    let _ = writeln!(text, "inputs         {}", h.inputs);
    let (used, cap) = h.bytes;
    let _ =
        writeln!(text, "snapshots      {} in {} KiB of {} KiB", h.snapshots, used.div_ceil(1024), cap / 1024);
    text
}

/// A number as gdb and C write it.
fn number(text: &str) -> Option<u64> {
    let digits = text.replace('_', "");
    match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => digits.parse().ok(),
    }
}

fn goto(m: &mut Machine, count: &str) -> String {
    let Some(count) = number(count) else {
        return format!("`{count}` is no number of instructions\n");
    };
    if !m.go_to(count) {
        return no_history(m);
    }
    let now = m.cpu.retired();
    let outside = if now == count { "" } else { ": the history goes no further" };
    format!("instruction {now}{outside} (maintenance flush register-cache shows it)\n")
}

fn last_write(m: &mut Machine, at: &str, len: &str) -> String {
    let at = match m.symbols.address(at) {
        Ok(at) => at,
        Err(why) => return format!("last-write: {why}\n"),
    };
    let len = number(len).and_then(|n| u32::try_from(n).ok()).filter(|n| (1..=MOST_WATCHED).contains(n));
    let Some(len) = len else {
        return format!("last-write: the length is 1 to {MOST_WATCHED} bytes\n");
    };
    if !m.has_history() {
        return no_history(m);
    }
    match m.last_write(Linear(at), len) {
        Some(write) => describe_write(&write),
        None => "nothing wrote there since the history began\n".into(),
    }
}

fn describe_write(w: &LastWrite) -> String {
    let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<Vec<_>>().join(" ");
    let (cs, eip) = w.place;
    let (bytes, code32) = &w.code;
    let by = if w.delivery { "an interrupt or exception, delivered at" } else { "by" };
    let mut text = format!("after instruction {}, {by} {cs:04x}:{eip:08x}  ", w.retired);
    text += &disassemble(bytes, *code32, eip);
    let _ = writeln!(text, "\nbefore  {}\nafter   {}", hex(&w.old), hex(&w.new));
    text
}
