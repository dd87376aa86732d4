//! The processor's state as named numbers: read out, written, and edited by `name=value` tokens.

use crate::descriptor::hidden;
use crate::layout::number;
use crate::memory::{Context, Memory};
use std::collections::BTreeMap;
use subring::cpu::{Activity, Cpu, Cr0, Cr4, Eflags, Features, Segment, gpr};
use subring::decode::SegReg;

/// State by name. Segment registers have `ds`, `ds.base`, `ds.limit` and `ds.attr`; so have `ldtr` and `tr`.
pub type State = BTreeMap<String, u32>;

/// The registers that name descriptors.
pub const SEGMENTS: [&str; 8] = ["es", "cs", "ss", "ds", "fs", "gs", "ldtr", "tr"];

/// Reads the whole state.
pub fn read(cpu: &Cpu) -> State {
    let mut s = State::new();
    for (n, name) in gpr::NAMES.iter().enumerate() {
        s.insert((*name).to_owned(), cpu.regs[n]);
    }
    let activity = match cpu.activity {
        Activity::Running => 0,
        Activity::Halted => 1,
        Activity::Shutdown => 2,
        Activity::WaitForSipi => 3,
    };
    let plain = [
        ("eip", cpu.eip),
        ("eflags", cpu.eflags().bits()),
        ("cpl", u32::from(cpu.cpl)),
        ("activity", activity),
        ("cr0", cpu.cr0.bits()),
        ("cr2", cpu.cr2),
        ("cr3", cpu.cr3),
        ("cr4", cpu.cr4.bits()),
        ("gdtr.base", cpu.gdtr.base),
        ("gdtr.limit", u32::from(cpu.gdtr.limit)),
        ("idtr.base", cpu.idtr.base),
        ("idtr.limit", u32::from(cpu.idtr.limit)),
        ("sysenter_cs", cpu.msrs.sysenter_cs),
        ("sysenter_esp", cpu.msrs.sysenter_esp),
        ("sysenter_eip", cpu.msrs.sysenter_eip),
        ("umip", u32::from(cpu.features.contains(Features::UMIP))),
        ("vme", u32::from(cpu.features.contains(Features::VME))),
        ("pat", u32::from(cpu.features.contains(Features::PAT))),
        ("nx", u32::from(cpu.features.contains(Features::NX))),
        ("efer", cpu.msrs.efer),
        ("fcw", u32::from(cpu.fpu.control())),
        ("fsw", u32::from(cpu.fpu.status())),
        ("ftw", u32::from(cpu.fpu.tags())),
    ];
    s.extend(plain.map(|(n, v)| (n.to_owned(), v)));
    for n in 0..4 {
        s.insert(format!("pdpte{n}"), cpu.pdptes[n] as u32);
    }
    for n in [0, 1, 2, 3, 6, 7] {
        s.insert(format!("dr{n}"), cpu.dr[n]);
    }
    for name in SEGMENTS {
        let seg = segment(cpu, name);
        s.insert(name.to_owned(), u32::from(seg.selector.0));
        s.insert(format!("{name}.base"), seg.base);
        s.insert(format!("{name}.limit"), seg.limit);
        s.insert(format!("{name}.attr"), u32::from(seg.attr));
    }
    s
}

fn segment(cpu: &Cpu, name: &str) -> Segment {
    match name {
        "ldtr" => cpu.ldtr,
        "tr" => cpu.tr,
        _ => *cpu.seg(seg_reg(name)),
    }
}

fn seg_reg(name: &str) -> SegReg {
    SegReg::ALL.into_iter().find(|s| s.name() == name).unwrap_or(SegReg::Es)
}

/// Writes the whole state.
pub fn write(s: &State, cpu: &mut Cpu) {
    for (n, name) in gpr::NAMES.iter().enumerate() {
        cpu.regs[n] = s[*name];
    }
    cpu.eip = s["eip"];
    cpu.cr0 = Cr0::from_bits_retain(s["cr0"]);
    cpu.cr2 = s["cr2"];
    cpu.cr3 = s["cr3"];
    cpu.cr4 = Cr4::from_bits_retain(s["cr4"]);
    for n in 0..4 {
        cpu.pdptes[n] = s[&format!("pdpte{n}")].into();
    }
    for n in [0, 1, 2, 3, 6, 7] {
        cpu.dr[n] = s[&format!("dr{n}")];
    }
    cpu.gdtr.base = s["gdtr.base"];
    cpu.gdtr.limit = s["gdtr.limit"] as u16;
    cpu.idtr.base = s["idtr.base"];
    cpu.idtr.limit = s["idtr.limit"] as u16;
    cpu.msrs.sysenter_cs = s["sysenter_cs"];
    cpu.msrs.sysenter_esp = s["sysenter_esp"];
    cpu.msrs.sysenter_eip = s["sysenter_eip"];
    cpu.features.set(Features::UMIP, s["umip"] != 0);
    cpu.features.set(Features::VME, s["vme"] != 0);
    cpu.features.set(Features::PAT, s["pat"] != 0);
    cpu.features.set(Features::NX, s["nx"] != 0);
    cpu.msrs.efer = s["efer"];
    cpu.fpu.set_control(s["fcw"] as u16);
    cpu.fpu.set_status(s["fsw"] as u16);
    cpu.fpu.set_tags(s["ftw"] as u16);
    for name in SEGMENTS {
        let part = |what: &str| s[&format!("{name}.{what}")];
        let (sel, base, limit, attr) = (s[name] as u16, part("base"), part("limit"), part("attr") as u16);
        match name {
            "ldtr" => cpu.ldtr = Segment::system(sel, base, limit, attr),
            "tr" => cpu.tr = Segment::system(sel, base, limit, attr),
            _ => cpu.set_seg(seg_reg(name), Segment::with(sel, base, limit, attr)),
        }
    }
    cpu.set_eflags(Eflags::from_bits_truncate(s["eflags"]));
    cpu.set_cpl(s["cpl"] as u8);
}

/// Where the tables and the stack are.
pub fn context(s: &State) -> Context {
    let mask = if s["ss.attr"] & 0x400 != 0 { !0 } else { 0xffff };
    Context {
        stack: s["ss.base"].wrapping_add(s["esp"] & mask),
        gdt: s["gdtr.base"],
        ldt: s["ldtr.base"],
        idt: s["idtr.base"],
    }
}

/// Whether selectors are 16-byte paragraphs: real and virtual-8086 mode.
pub fn paragraphs(s: &State) -> bool {
    s["cr0"] & 1 == 0 || s["eflags"] & VM != 0
}

pub const RF: u32 = 1 << 16;
pub const VM: u32 = 1 << 17;

/// Flag names: lowest bit, mask of the unshifted value.
const FLAGS: [(&str, u32, u32); 17] = [
    ("cf", 0, 1),
    ("pf", 2, 1),
    ("af", 4, 1),
    ("zf", 6, 1),
    ("sf", 7, 1),
    ("tf", 8, 1),
    ("if", 9, 1),
    ("df", 10, 1),
    ("of", 11, 1),
    ("iopl", 12, 3),
    ("nt", 14, 1),
    ("rf", 16, 1),
    ("vm", 17, 1),
    ("ac", 18, 1),
    ("vif", 19, 1),
    ("vip", 20, 1),
    ("id", 21, 1),
];

/// Applies `name=value` tokens: all others first, then whole segment registers, whose hidden parts follow from the
/// descriptor in `memory`, then parts of segment registers that are given by themselves.
pub fn assign(s: &mut State, memory: &Memory, tokens: &[&str]) -> Result<(), String> {
    let mut pairs = Vec::new();
    for token in tokens {
        let (name, value) = token.split_once('=').ok_or_else(|| format!("`{token}` means nothing here"))?;
        pairs.push((name, number(value)?));
    }
    let hidden_part = |name: &str| SEGMENTS.iter().any(|n| name.starts_with(&format!("{n}.")));
    let rank = |name: &str| if hidden_part(name) { 2 } else { u8::from(SEGMENTS.contains(&name)) };
    pairs.sort_by_key(|(name, _)| rank(name));
    for (name, value) in pairs {
        if SEGMENTS.contains(&name) {
            load_segment(s, memory, name, value);
        } else {
            assign_plain(s, name, value)?;
        }
    }
    Ok(())
}

fn assign_plain(s: &mut State, name: &str, value: u32) -> Result<(), String> {
    if let Some((_, shift, mask)) = FLAGS.iter().find(|f| f.0 == name) {
        let flags = s["eflags"] & !(mask << shift) | (value & mask) << shift;
        s.insert("eflags".to_owned(), flags);
    } else if let Some((whole, shift, mask)) = part_of_register(name) {
        let whole_value = s[&whole] & !(mask << shift) | (value & mask) << shift;
        s.insert(whole, whole_value);
    } else if s.contains_key(name) {
        s.insert(name.to_owned(), value);
    } else {
        return Err(format!("there is no register or flag `{name}`"));
    }
    Ok(())
}

/// `ax`, `al`, `ah`: the whole register, the shift, the mask.
fn part_of_register(name: &str) -> Option<(String, u32, u32)> {
    let whole = |letter: &str| format!("e{letter}x");
    match name.as_bytes() {
        [_, b'l'] if "abcd".contains(&name[..1]) => Some((whole(&name[..1]), 0, 0xff)),
        [_, b'h'] if "abcd".contains(&name[..1]) => Some((whole(&name[..1]), 8, 0xff)),
        [_, _] if gpr::NAMES.contains(&format!("e{name}").as_str()) => Some((format!("e{name}"), 0, 0xffff)),
        _ => None,
    }
}

/// What `name` holds once `selector` is loaded. A load of CS also sets CPL.
pub fn load_segment(s: &mut State, memory: &Memory, name: &str, selector: u32) {
    let system = matches!(name, "ldtr" | "tr");
    let (base, limit, attr) = if paragraphs(s) && !system {
        let part = |what: &str| s[&format!("{name}.{what}")];
        let v86 = s["eflags"] & VM != 0;
        let (limit, attr) = if v86 { (0xffff, 0xf3) } else { (part("limit"), part("attr")) };
        (selector << 4, limit, attr)
    } else if selector & 0xfffc == 0 {
        (0, 0, 0)
    } else {
        hidden(memory.descriptor(selector, &context(s)))
    };
    s.insert(name.to_owned(), selector);
    for (what, value) in [("base", base), ("limit", limit), ("attr", attr)] {
        s.insert(format!("{name}.{what}"), value);
    }
    if name == "cs" {
        let v86 = s["eflags"] & VM != 0;
        let cpl = if v86 {
            3
        } else if paragraphs(s) {
            0
        } else {
            selector & 3
        };
        s.insert("cpl".to_owned(), cpl);
    }
}
