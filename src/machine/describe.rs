//! The machine's state for people, and as a hash for tests of equality.

use super::Machine;
use crate::addr::Linear;
use crate::cpu::gpr::NAMES;
use crate::cpu::{Activity, Cpu, Eflags, Fpu, Segment};
use crate::decode::{MAX_INSN_LEN, SegReg, disassemble};
use crate::exec::event::{Event, TripleFault};
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};

impl Machine {
    /// The registers, and the instruction that is next, as lines of text.
    pub fn registers(&self) -> String {
        let mut text = registers(&self.cpu);
        let bytes = self.code_ahead();
        let next = disassemble(&bytes, self.cpu.code32(), self.cpu.eip);
        let cs = self.cpu.seg(SegReg::Cs).selector.0;
        let _ = writeln!(text, "next {cs:04x}:{:08x}  {next}", self.cpu.eip);
        text
    }

    /// The registers of `cpu`, a processor of this machine at another time, and the instruction that was next there.
    pub fn registers_of(&self, cpu: &Cpu) -> String {
        let mut text = registers(cpu);
        let bytes = self.world.peek(cpu, Linear(cpu.linear_eip()), MAX_INSN_LEN);
        let next = disassemble(&bytes, cpu.code32(), cpu.eip);
        let _ = writeln!(text, "next {:04x}:{:08x}  {next}", cpu.seg(SegReg::Cs).selector.0, cpu.eip);
        text
    }

    /// What led to a triple fault, in a sentence.
    pub fn explain(&self, t: &TripleFault) -> String {
        let first = match t.first {
            Event::Exception(f) => f.to_string(),
            other => format!("the interrupt with vector {:#04x}", other.vector()),
        };
        let cs = self.cpu.seg(SegReg::Cs).selector.0;
        format!(
            "{first} at {cs:04x}:{:08x} could not be delivered: {}; delivering the double fault met {}",
            self.cpu.eip, t.second, t.third
        )
    }

    /// An event that is about to be delivered, with its place.
    pub fn explain_event(&self, event: Event) -> String {
        let event = match event {
            Event::Exception(f) | Event::Software(f) | Event::PrivilegedSoftware(f) => f.to_string(),
            Event::Injected(event) => format!("injected {} {:#04x}", event.kind.name(), event.vector),
            Event::Nmi => "NMI".into(),
            Event::External(v) => format!("hardware interrupt {v:#04x}"),
            Event::SoftwareVector(v) => format!("INT {v:#04x}"),
        };
        let cs = self.cpu.seg(SegReg::Cs).selector.0;
        format!("{event} at {cs:04x}:{:08x}", self.cpu.eip)
    }

    /// A hash of the whole state at this point in time: processor, cached translations (but for a guest
    /// under a monitor: those are the monitor's), memory and chips. Disks
    /// count by their size.
    pub fn state_hash(&self) -> u64 {
        let mut h = DefaultHasher::new();
        hash_cpu(&self.cpu, &mut h);
        (self.delivered, self.pending.map(|f| (f.vector(), f.code(), f.address()))).hash(&mut h);
        if !self.has_monitor() {
            self.world.tlb.entries().for_each(|e| e.hash(&mut h));
        }
        self.world.map.p2m().frames().for_each(|at| self.world.map.ram.page(at).hash(&mut h));
        self.world.board.hash_state(&mut h);
        h.finish()
    }
}

fn hash_cpu(cpu: &Cpu, h: &mut DefaultHasher) {
    (cpu.shadow.bits(), cpu.debug_pending, cpu.nmi_blocked, cpu.activity == Activity::Running).hash(h);
    (cpu.regs, cpu.eip, cpu.eflags().bits(), cpu.cpl, cpu.now, cpu.idle).hash(h);
    (cpu.cr0.bits(), cpu.cr2, cpu.cr3, cpu.cr4.bits(), cpu.pdptes, cpu.dr).hash(h);
    for s in cpu.segs.iter().chain([&cpu.ldtr, &cpu.tr]) {
        (s.selector, s.base, s.limit, s.attr).hash(h);
    }
    (cpu.gdtr.base, cpu.gdtr.limit, cpu.idtr.base, cpu.idtr.limit).hash(h);
    (
        cpu.msrs.tsc_offset,
        cpu.msrs.apic_base,
        cpu.msrs.sysenter_cs,
        cpu.msrs.sysenter_esp,
        cpu.msrs.sysenter_eip,
    )
        .hash(h);
    if let Some(vmx) = &cpu.vmx {
        (cpu.msrs.efer, cpu.msrs.feature_control, cpu.msrs.debugctl, cpu.msrs.pat, cpu.msrs.misc_enable)
            .hash(h);
        vmx.hash(h);
    }
    cpu.fpu.hash(h);
}

fn registers(cpu: &Cpu) -> String {
    let mut t = String::new();
    for half in [0..4, 4..8] {
        let line: Vec<String> = half.map(|n| format!("{} {:08x}", NAMES[n], cpu.regs[n])).collect();
        let _ = writeln!(t, "{}", line.join("  "));
    }
    let _ = writeln!(
        t,
        "eip {:08x}  eflags {:08x} [{}]  cpl {}",
        cpu.eip,
        cpu.eflags().bits(),
        flags(cpu.eflags()),
        cpu.cpl
    );
    for s in SegReg::ALL {
        segment(&mut t, s.name(), cpu.seg(s));
    }
    segment(&mut t, "ldtr", &cpu.ldtr);
    segment(&mut t, "tr", &cpu.tr);
    let _ = writeln!(
        t,
        "gdtr {:08x}+{:04x}  idtr {:08x}+{:04x}",
        cpu.gdtr.base, cpu.gdtr.limit, cpu.idtr.base, cpu.idtr.limit
    );
    let _ = writeln!(
        t,
        "cr0 {:08x}  cr2 {:08x}  cr3 {:08x}  cr4 {:08x}",
        cpu.cr0.bits(),
        cpu.cr2,
        cpu.cr3,
        cpu.cr4.bits()
    );
    let d = &cpu.dr;
    let _ = writeln!(
        t,
        "dr0 {:08x}  dr1 {:08x}  dr2 {:08x}  dr3 {:08x}  dr6 {:08x}  dr7 {:08x}",
        d[0], d[1], d[2], d[3], d[6], d[7]
    );
    x87(&mut t, cpu);
    t
}

/// The x87, if anything was done with it: as FNINIT leaves it, or reset, it says nothing.
fn x87(t: &mut String, cpu: &Cpu) {
    let (f, mut idle) = (&cpu.fpu, Fpu::new());
    let reset = *f == idle;
    idle.init();
    if reset || (f.control(), f.status(), f.full()) == (idle.control(), idle.status(), idle.full()) {
        return;
    }
    let _ = writeln!(
        t,
        "fcw {:04x}  fsw {:04x}  ftw {:04x}  fip {:04x}:{:08x}  fdp {:04x}:{:08x}  fop {:03x}",
        f.control(),
        f.status(),
        f.tags(),
        f.last.fcs,
        f.last.fip,
        f.last.fds,
        f.last.fdp,
        f.last.fop
    );
    for i in (0..8).filter(|&i| !f.is_empty(i)) {
        let x = f.st(i);
        let _ = writeln!(t, "st{i} {:04x} {:016x}", x.sign_exp, x.significand);
    }
}

fn segment(t: &mut String, name: &str, s: &Segment) {
    let _ = writeln!(
        t,
        "{name:<4} {:04x}  base {:08x}  limit {:08x}  attr {:03x}",
        s.selector.0, s.base, s.limit, s.attr
    );
}

/// The names of the flags that are set.
fn flags(f: Eflags) -> String {
    let names =
        (f - Eflags::FIXED - Eflags::IOPL).iter_names().map(|(name, _)| name).filter(|n| *n != "ARITHMETIC");
    let mut text: Vec<String> = names.map(str::to_owned).collect();
    let iopl = (f.bits() >> 12) & 3;
    if iopl != 0 {
        text.push(format!("IOPL{iopl}"));
    }
    text.join(" ")
}
