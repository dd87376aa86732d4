//! States: a guest supervisor's, drawn from a seed, and what a monitor makes of it.
//!
//! [`Guest::draw`] gives the state on the bare machine. [`Guest::relocated`] is the same state with the
//! monitor's resources in the real registers and the same mode; [`Guest::deprivileged`] changes the mode as
//! well. So the first two differ in R alone and the last two in M alone (Popek and Goldberg's names).

use super::forms::{OPERAND16, OPERAND32};
use super::rng::{Rng, mix};
use super::world::*;
use super::{Mode, Setting};
use crate::cpu::segment::{Descriptor, attr};
use crate::cpu::{Cpu, Cr0, Cr4, Eflags, F80, Features, Segment, TableReg, gpr};
use crate::decode::{Insn, Op, Place, SegReg};
use crate::width::Width;

/// Where the segments' limit ends under a monitor: below its tables.
pub(super) const TOP: u32 = MONITOR - 1;
const ENTRY: u32 = MONITOR + 0x9000;

// Selectors of the guest's GDT.
const CODE: u16 = 0x08;
const DATA: u16 = 0x10;
const USER_CODE: u16 = 0x1b;
const USER_DATA: u16 = 0x23;
const LDT_SEL: u16 = 0x28;
const TSS_SEL: u16 = 0x30;
const TSS2_SEL: u16 = 0x38;
/// How many descriptors the guest's GDT has; the monitor's own follow.
const GUEST_ENTRIES: u16 = 20;
const MONITOR_CODE: u16 = GUEST_ENTRIES * 8;
const MONITOR_DATA: u16 = MONITOR_CODE + 8;
const MONITOR_LDT: u16 = MONITOR_CODE + 16;
const MONITOR_TSS: u16 = MONITOR_CODE + 24;

/// A descriptor with base and limit as given, `attr` as [`Segment::attr`].
fn descriptor(base: u32, limit: u32, attr: u16) -> u64 {
    let (base, limit, attr) = (u64::from(base), u64::from(limit), u64::from(attr));
    limit & 0xffff
        | (base & 0xff_ffff) << 16
        | (attr & 0xff) << 40
        | (limit >> 16 & 0xf) << 48
        | (attr >> 8) << 52
        | (base >> 24) << 56
}

fn gate(selector: u16, offset: u32, kind: u16, dpl: u16) -> u64 {
    let (offset, attr) = (u64::from(offset), u64::from(0x80 | dpl << 5 | kind));
    offset & 0xffff | u64::from(selector) << 16 | attr << 40 | (offset >> 16) << 48
}

/// A guest's state on the bare machine, and the instruction that is to run.
pub(super) struct Guest {
    pub(super) cpu: Cpu,
    pub(super) memory: Memory,
    pub(super) insn: Insn,
    real_mode: bool,
    salt: u64,
}

impl Guest {
    /// State number `turn`, drawn from `seed` and made for `insn`; `real_mode` or flat 32-bit protected mode
    /// at CPL 0.
    pub(super) fn draw(seed: u64, turn: u32, real_mode: bool, insn: &Insn) -> Self {
        let mut rng = Rng::at(seed, turn);
        let salt = rng.next();
        let mut cpu = Cpu::new();
        cpu.deadline = u64::MAX;
        cpu.now = rng.next() >> 24;
        let guest = if real_mode { None } else { Some(guest_tables(&mut rng, salt)) };
        system_registers(&mut rng, &mut cpu, guest.as_ref());
        general_registers(&mut rng, &mut cpu, insn, real_mode);
        x87(&mut rng, &mut cpu);
        let (operand_at, stack_at) = if real_mode {
            let offset = if insn.seg == SegReg::Ds { u32::from(OPERAND16) } else { insn.disp };
            (cpu.seg(insn.seg).base + offset, cpu.seg(SegReg::Ss).base + cpu.sp())
        } else {
            (OPERAND32, cpu.sp())
        };
        let operand = operand(&mut rng, insn, real_mode);
        let stack = stack(&mut rng, insn, real_mode);
        Self {
            cpu,
            memory: Memory { salt, operand_at, operand, stack_at, stack, guest },
            insn: *insn,
            real_mode,
            salt,
        }
    }

    /// The same state in the user mode of the guest's own.
    pub(super) fn in_user_mode(&mut self) {
        let Some(tables) = &self.memory.guest else { return };
        for s in SegReg::ALL {
            let selector = match s {
                SegReg::Cs => USER_CODE,
                _ if !self.cpu.seg(s).usable() => continue,
                _ => USER_DATA,
            };
            let descriptor = Descriptor(tables.gdt[usize::from(selector / 8)] | 1 << 40);
            self.cpu.set_seg(s, descriptor.load(selector));
        }
        self.cpu.set_cpl(3);
    }

    /// The state in VMX non-root operation: registers that VM entries load are the guest's; CR0, CR3, CR4, the
    /// debug registers and the time are the hypervisor's.
    pub(super) fn non_root(&self) -> Cpu {
        let mut rng = Rng::new(self.salt ^ 0x006d_6f6e_6974_6f72);
        let mut cpu = self.cpu.clone();
        cpu.features.insert(Features::VMX);
        // VMX operation fixes NE.
        cpu.cr0 = (cpu.cr0 ^ Cr0::WP) | Cr0::NE;
        cpu.cr3 = MONITOR_PAGES;
        cpu.cr4 = (cpu.cr4 ^ Cr4::PGE) | Cr4::VMXE;
        for n in 0..4 {
            cpu.dr[n] = rng.word();
        }
        cpu.dr[6] ^= 0xf;
        cpu.msrs.tsc_offset = rng.next() >> 20;
        cpu
    }

    /// The bare machine.
    pub(super) fn bare(&self, setting: Setting) -> (Cpu, Shadow) {
        let mut cpu = self.cpu.clone();
        cpu.features.set(Features::UMIP, setting.umip);
        (cpu, Shadow::None)
    }

    /// The monitor's resources in the real registers, the mode as it was.
    pub(super) fn relocated(&self, setting: Setting) -> (Cpu, Shadow) {
        let mut cpu = self.cpu.clone();
        self.real_registers(&mut cpu, setting);
        if self.real_mode {
            cpu.cr0 ^= Cr0::NE | Cr0::WP;
            cpu.idtr = TableReg { base: MONITOR + IDT, limit: 0x7ff };
            return (cpu, Shadow::Vectors);
        }
        let tables = self.shadow_tables(0);
        self.reload(&mut cpu, &tables, 0);
        (cpu, Shadow::Tables(Box::new(tables)))
    }

    /// The monitor's resources, and the mode that it gives the guest's supervisor.
    pub(super) fn deprivileged(&self, setting: Setting) -> (Cpu, Shadow) {
        let mut cpu = self.cpu.clone();
        self.real_registers(&mut cpu, setting);
        cpu.cr0 |= Cr0::PE | Cr0::PG;
        cpu.cr4 |= Cr4::PSE;
        cpu.cr3 = MONITOR_PAGES;
        let level = setting.mode.cpl();
        let tables = self.shadow_tables(level);
        if self.real_mode {
            self.tables_in(&mut cpu, &tables);
            for s in SegReg::ALL {
                cpu.set_seg(s, Segment::v86(self.cpu.seg(s).selector.0));
            }
            cpu.system_flags |= Eflags::VM;
        } else {
            self.reload(&mut cpu, &tables, level);
        }
        cpu.set_cpl(level);
        (cpu, Shadow::Tables(Box::new(tables)))
    }

    /// What is the monitor's in both images: CR0, CR3, debug registers, MSRs, IF on, IOPL as it chose.
    fn real_registers(&self, cpu: &mut Cpu, setting: Setting) {
        let mut rng = Rng::new(self.salt ^ 0x006d_6f6e_6974_6f72);
        if !self.real_mode {
            cpu.cr0 ^= Cr0::WP | Cr0::NE;
            cpu.cr3 = MONITOR_PAGES;
        }
        cpu.features.set(Features::UMIP, setting.umip);
        cpu.cr4.set(Cr4::UMIP, setting.umip);
        // A supervisor's alignment is not checked, so it must not be when it runs in ring 3.
        cpu.cr0.remove(Cr0::AM);
        cpu.cr4 ^= Cr4::PGE;
        cpu.cr2 ^= 0x1000;
        for n in 0..4 {
            cpu.dr[n] = rng.word();
        }
        cpu.dr[6] ^= 0xf;
        cpu.dr[7] ^= 0x00ff_0000;
        cpu.msrs.tsc_offset = rng.next() >> 20;
        if cpu.msrs.sysenter_cs & 0xfffc != 0 {
            cpu.msrs.sysenter_cs = u32::from(MONITOR_CODE);
        }
        cpu.msrs.sysenter_esp = ENTRY;
        cpu.msrs.sysenter_eip = ENTRY;
        let flags = (self.cpu.eflags() - Eflags::IOPL) | Eflags::IF;
        cpu.set_eflags(flags | Eflags::from_bits_truncate(u32::from(setting.iopl) << 12));
        cpu.gdtr = TableReg { base: MONITOR + GDT, limit: MONITOR_TSS + 7 };
    }

    fn tables_in(&self, cpu: &mut Cpu, tables: &Tables) {
        cpu.gdtr = TableReg { base: MONITOR + GDT, limit: MONITOR_TSS + 7 };
        cpu.idtr = TableReg { base: MONITOR + IDT, limit: 0x7ff };
        let of = |sel: u16| Descriptor(tables.gdt[usize::from(sel / 8)]);
        cpu.ldtr = of(MONITOR_LDT).load(MONITOR_LDT);
        cpu.tr = of(MONITOR_TSS).load(MONITOR_TSS);
        cpu.tr.attr |= 2;
    }

    /// Loads the segment registers' hidden parts from the monitor's tables; CS and SS show the level.
    fn reload(&self, cpu: &mut Cpu, tables: &Tables, level: u8) {
        self.tables_in(cpu, tables);
        for s in SegReg::ALL {
            let old = self.cpu.seg(s).selector.0;
            let visible = if matches!(s, SegReg::Cs | SegReg::Ss) { old | u16::from(level) } else { old };
            let table = if old & 4 != 0 { &tables.ldt } else { &tables.gdt };
            if old & 0xfffc != 0 {
                cpu.set_seg(s, Descriptor(table[usize::from(old / 8)]).load(visible));
            }
        }
        cpu.fpu.last.fcs |= u16::from(level);
    }

    /// The monitor's tables: the guest's descriptors, raised to `level` and cut below the monitor, then its
    /// own.
    fn shadow_tables(&self, level: u8) -> Tables {
        let tss = [task(MONITOR_DATA, ENTRY), task(MONITOR_DATA, ENTRY)];
        let gate =
            Gates { salt: self.memory.guest.as_ref().map(|_| self.salt), monitor: true, make: make_gate };
        let Some(guest) = &self.memory.guest else {
            let mut gdt = vec![0; usize::from(GUEST_ENTRIES)];
            monitor_entries(&mut gdt);
            return Tables { gdt, ldt: vec![0; 8], gate, tss };
        };
        let mut gdt: Vec<u64> = guest.gdt.iter().map(|&d| shadow(d, level)).collect();
        monitor_entries(&mut gdt);
        let ldt = guest.ldt.iter().map(|&d| shadow(d, level)).collect();
        Tables { gdt, ldt, gate, tss }
    }
}

/// The real descriptor for a guest's: code and data at least at `level` and not beyond [`TOP`]; TSSs and task
/// gates for the monitor alone; other gates and LDTs as they are.
fn shadow(d: u64, level: u8) -> u64 {
    let parsed = Descriptor(d);
    let with_dpl = |d: u64, dpl: u8| d & !(3 << 45) | u64::from(dpl) << 45;
    if !parsed.is_segment() {
        let task = matches!(parsed.kind(), 1 | 3 | 5 | 9 | 11);
        return if task { with_dpl(d, 0) } else { d };
    }
    let d = with_dpl(d, parsed.dpl().max(level));
    if parsed.attr() & attr::GRANULAR != 0 && parsed.limit() > TOP {
        let limit = u64::from(TOP >> 12);
        return d & !0x000f_0000_0000_ffff | limit & 0xffff | (limit >> 16) << 48;
    }
    d
}

fn monitor_entries(gdt: &mut Vec<u64>) {
    gdt.push(descriptor(0, 0xf_ffff, 0xc9b));
    gdt.push(descriptor(0, 0xf_ffff, 0xc93));
    gdt.push(descriptor(MONITOR + LDT, 0x3f, 0x82));
    gdt.push(descriptor(MONITOR + TSS, TSS_LIMIT, 0x89));
}

/// A TSS: the stack for ring 0 and for rings 1 and 2, and a task's state that can be entered.
fn task(ss0: u16, esp: u32) -> [u32; 26] {
    let mut t = [0; 26];
    (t[1], t[2], t[3], t[4], t[5], t[6]) = (esp, u32::from(ss0), esp, 0x89, esp, 0x8a);
    (t[7], t[8], t[9], t[14]) = (GUEST_PAGES, 0x1_2345, 0x2, 0x2000_8000);
    (t[18], t[19], t[20], t[21], t[22], t[23], t[24]) = (0x10, 0x08, 0x10, 0x10, 0, 0, u32::from(LDT_SEL));
    t[25] = 0x68 << 16;
    t
}

/// The guest's gates are interrupt or trap gates to its code, open to its user mode or not. Under a monitor
/// exceptions go there, and so do the gates that the guest keeps for itself; a gate that the guest opens to
/// its user mode leads where the guest says.
fn make_gate(gates: Gates, vector: u8) -> u64 {
    let Some(salt) = gates.salt else { return gate(MONITOR_CODE, ENTRY, 14, 0) };
    let h = mix(salt ^ u64::from(vector) << 40);
    let dpl = if h & 1 == 0 { 3 } else { 0 };
    if gates.monitor && (vector < 32 || dpl == 0) {
        return gate(MONITOR_CODE, ENTRY, 14, dpl);
    }
    gate(CODE, (h >> 32) as u32 >> 2, if h & 2 == 0 { 14 } else { 15 }, dpl)
}

fn guest_tables(rng: &mut Rng, salt: u64) -> Tables {
    let flat = |rng: &mut Rng, attr: u16| descriptor(0, 0xf_ffff, 0xc00 | attr | u16::from(rng.one_in(2)));
    let open = |rng: &mut Rng| if rng.one_in(2) { 3 } else { 0 };
    let mut gdt = vec![0, flat(rng, 0x9a), flat(rng, 0x92), flat(rng, 0xfa), flat(rng, 0xf2)];
    gdt.push(descriptor(GUEST + LDT, 0x3f, 0x82));
    gdt.push(descriptor(GUEST + TSS, TSS_LIMIT, 0x8b));
    gdt.push(descriptor(GUEST + TSS2, TSS_LIMIT, 0x89 | open(rng) << 5));
    gdt.push(gate(CODE, rng.word() >> 2, 12, open(rng)));
    gdt.push(flat(rng, 0x9e));
    gdt.push(descriptor(0, 0xffff, 0x9a));
    gdt.push(descriptor(0, 0x7fff_ffff >> 12, if rng.one_in(2) { 0xc92 } else { 0xc12 }));
    gdt.push(gate(CODE, rng.word() >> 2, 4, open(rng)));
    gdt.push(gate(TSS2_SEL, 0, 5, open(rng)));
    gdt.push(flat(rng, 0x98));
    gdt.push(flat(rng, 0x90));
    gdt.push(flat(rng, 0xba));
    gdt.push(flat(rng, 0xb2));
    gdt.push(flat(rng, 0xda));
    gdt.push(flat(rng, 0xd2));
    let ldt = vec![0, flat(rng, 0x9a), flat(rng, 0x92), flat(rng, 0xf2), flat(rng, 0xfa), 0, 0, 0];
    let gate = Gates { salt: Some(salt), monitor: false, make: make_gate };
    Tables { gdt, ldt, gate, tss: [task(DATA, 0x2200_0000), task(DATA, 0x2300_0000)] }
}

fn system_registers(rng: &mut Rng, cpu: &mut Cpu, tables: Option<&Tables>) {
    let mut optional = Cr0::NE | Cr0::WP | Cr0::AM;
    if rng.one_in(4) {
        optional |= Cr0::TS;
    }
    cpu.cr0 = Cr0::ET | Cr0::from_bits_truncate(rng.word()) & optional;
    cpu.cr4 = Cr4::from_bits_truncate(rng.word()) & (Cr4::TSD | Cr4::PGE | Cr4::PCE | Cr4::OSFXSR);
    cpu.cr2 = rng.word();
    for n in 0..4 {
        cpu.dr[n] = rng.word();
    }
    cpu.dr[6] |= rng.word() & 0xf;
    cpu.dr[7] |= rng.word() & 0xffff_0000;
    cpu.msrs.tsc_offset = rng.next() >> 20;
    cpu.msrs.sysenter_cs = if rng.one_in(3) { 0 } else { u32::from(CODE) };
    cpu.msrs.sysenter_esp = rng.word() >> 2;
    cpu.msrs.sysenter_eip = rng.word() >> 2;
    let mut flags = Eflags::ARITHMETIC | Eflags::DF | Eflags::IF | Eflags::IOPL | Eflags::AC | Eflags::ID;
    if rng.one_in(16) {
        flags |= Eflags::NT;
    }
    cpu.set_eflags(Eflags::from_bits_truncate(rng.word()) & flags);
    let Some(tables) = tables else {
        for s in SegReg::ALL {
            let at = rng.below(0x8000) as u16 + 0x1000;
            cpu.set_seg(s, Segment::real(at));
        }
        cpu.eip = rng.below(0x8000);
        cpu.gdtr = TableReg { base: rng.word() >> 12, limit: rng.word() as u16 };
        cpu.idtr = TableReg { base: 0, limit: 0x3ff };
        return;
    };
    cpu.cr0 |= Cr0::PE | Cr0::PG;
    cpu.cr4 |= Cr4::PSE;
    cpu.cr3 = GUEST_PAGES;
    cpu.eip = rng.word() >> 2;
    cpu.gdtr = TableReg { base: GUEST + GDT, limit: GUEST_ENTRIES * 8 - 1 };
    cpu.idtr = TableReg { base: GUEST + IDT, limit: 0x7ff };
    cpu.ldtr = Descriptor(tables.gdt[5]).load(LDT_SEL);
    cpu.tr = Descriptor(tables.gdt[6]).load(TSS_SEL);
    for s in SegReg::ALL {
        let selector = match s {
            SegReg::Cs => CODE,
            SegReg::Ss => DATA,
            SegReg::Fs | SegReg::Gs if rng.one_in(3) => 0,
            _ => rng.of(&[DATA, DATA, 0x23, 0x14]),
        };
        let table = if selector & 4 != 0 { &tables.ldt } else { &tables.gdt };
        let loaded = if selector == 0 {
            Segment::null(0)
        } else {
            Descriptor(table[usize::from(selector / 8)] | 1 << 40).load(selector)
        };
        cpu.set_seg(s, loaded);
    }
}

/// A selector worth trying.
fn selector(rng: &mut Rng) -> u16 {
    let rpl = rng.of(&[0, 0, 0, 1, 2, 3]);
    match rng.below(8) {
        0 => rng.of(&[0, 1, 2, 3]),
        1 => rng.of(&[0x0c, 0x14, 0x1c, 0x24]) | rpl,
        2 => rng.of(&[MONITOR_CODE, MONITOR_DATA, MONITOR_LDT, MONITOR_TSS]) | rpl,
        3 | 4 => rng.of(&[CODE, DATA, 0x18, 0x20, 0x80, 0x88]) | rpl,
        _ => (rng.below(u32::from(GUEST_ENTRIES)) as u16) << 3 | rpl,
    }
}

/// A selector of code, for far transfers.
fn code_selector(rng: &mut Rng) -> u16 {
    let usual = [CODE, CODE | 1, CODE | 3, 0x1b, 0x48, 0x81, 0x0c, 0x40, 0x38];
    if rng.one_in(3) { selector(rng) } else { rng.in_turn(&usual) }
}

/// Whether the instruction loads SS.
fn loads_stack(insn: &Insn) -> bool {
    let ss = SegReg::Ss as u8;
    match insn.op {
        Op::MovToSeg | Op::PopSeg => insn.dst_reg == ss,
        Op::LoadFar => insn.extra == ss,
        _ => false,
    }
}

/// The selector that suits the instruction.
fn suited_selector(rng: &mut Rng, insn: &Insn) -> u16 {
    const RINGS: [Option<u16>; 12] = {
        let (c, d) = (CODE, DATA);
        [
            Some(c),
            None,
            Some(d),
            None,
            Some(c | 1),
            None,
            Some(d | 1),
            None,
            Some(c | 3),
            None,
            Some(d | 3),
            None,
        ]
    };
    let chosen = match insn.op {
        Op::Lldt => rng.in_turn(&[Some(LDT_SEL), None]),
        Op::Ltr => rng.in_turn(&[Some(TSS2_SEL), None]),
        Op::JmpFar | Op::CallFar | Op::JmpFarMem | Op::CallFarMem => Some(code_selector(rng)),
        _ if loads_stack(insn) => Some(rng.in_turn(&[DATA, 0x11, 0x13, DATA, 0x14, 0x23, 0x89, 0xa3, 0])),
        Op::Lar | Op::Lsl | Op::Verr | Op::Verw | Op::MovToSeg | Op::PopSeg | Op::LoadFar => {
            rng.in_turn(&RINGS)
        }
        _ => None,
    };
    chosen.unwrap_or_else(|| selector(rng))
}

fn general_registers(rng: &mut Rng, cpu: &mut Cpu, insn: &Insn, real_mode: bool) {
    use Op::*;
    let takes_selector = matches!(insn.op, MovToSeg | Lldt | Ltr | Lar | Lsl | Verr | Verw | Arpl);
    for n in [gpr::EAX, gpr::ECX, gpr::EDX, gpr::EBX, gpr::EBP, gpr::ESI, gpr::EDI] {
        cpu.regs[n] = match rng.below(4) {
            0..3 if takes_selector => u32::from(suited_selector(rng, insn)),
            0 => u32::from(suited_selector(rng, insn)),
            1 => rng.word() >> (2 + rng.below(28)),
            _ => rng.word() >> 2,
        };
    }
    if real_mode {
        // Offsets of data stay away from the end of a segment; what a near jump takes is half of the time an
        // offset.
        if rng.one_in(2) {
            [gpr::EAX, gpr::ECX, gpr::EDX].into_iter().for_each(|n| cpu.regs[n] &= 0x7fff);
        }
        for n in [gpr::EBX, gpr::EBP, gpr::ESI, gpr::EDI] {
            cpu.regs[n] = cpu.regs[n] & 0xffff_0000 | 0x8000 | rng.below(0x4000);
        }
    }
    cpu.regs[gpr::ESP] =
        if real_mode { 0x1000 + rng.below(0x2000) * 4 } else { 0x2100_0000 + rng.below(0x1000) * 4 };
    match insn.op {
        Movs | Cmps | Scas | Lods | Stos | Ins | Outs => {
            cpu.regs[gpr::ECX] = rng.below(4);
            cpu.regs[gpr::EDX] = rng.below(0x1_0000);
        }
        Rdmsr | Wrmsr => cpu.regs[gpr::ECX] = rng.of(&[0x10, 0x17, 0x8b, 0x174, 0x175, 0x176, 0x1b, 0x1234]),
        Rdpmc => cpu.regs[gpr::ECX] = rng.below(3),
        MovToCr if rng.one_in(2) => {
            let usual =
                [0x8000_0011 | rng.word() & 0x0005_0028, 0, 0, rng.word() & !0xfff, rng.word() & 0x19c];
            cpu.regs[usize::from(insn.src_reg)] = usual[usize::from(insn.dst_reg).min(4)];
        }
        _ => {}
    }
}

fn x87(rng: &mut Rng, cpu: &mut Cpu) {
    cpu.fpu.set_control(if rng.one_in(4) { rng.word() as u16 | 0x3f } else { 0x37f });
    cpu.fpu.set_status(rng.word() as u16 & 0x7f00);
    cpu.fpu.set_full(rng.word() as u8);
    for n in 0..8 {
        let exponent = 0x3ff0 + rng.below(0x20) as u16;
        cpu.fpu.set_st(n, F80::new(exponent | (rng.below(2) as u16) << 15, rng.next() | 1 << 63));
    }
    cpu.fpu.set_full(rng.word() as u8);
    cpu.fpu.last.fip = rng.word() >> 2;
    cpu.fpu.last.fcs = if cpu.protected() { CODE } else { 0 };
}

/// Values one after the other, each of `size` bytes.
fn lay(slots: &[(u32, u32)], rng: &mut Rng) -> [u8; WINDOW as usize] {
    let mut bytes = [0; WINDOW as usize];
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&rng.next().to_le_bytes());
    }
    let mut at = 0;
    for &(value, size) in slots {
        bytes[at..at + size as usize].copy_from_slice(&value.to_le_bytes()[..size as usize]);
        at += size as usize;
    }
    bytes
}

/// How far to shift a random word, so that it is an offset within a code segment.
fn offset_shift(real_mode: bool) -> u32 {
    if real_mode { 17 } else { 2 }
}

fn operand(rng: &mut Rng, insn: &Insn, real_mode: bool) -> [u8; WINDOW as usize] {
    use Op::*;
    let selector = u32::from(suited_selector(rng, insn));
    let offset = rng.word() >> offset_shift(real_mode);
    let slots = match insn.op {
        JmpInd | CallInd => vec![(offset, insn.width.bytes())],
        JmpFarMem | CallFarMem | LoadFar => vec![(offset, insn.width.bytes()), (selector, 2)],
        MovToSeg | Lldt | Ltr | Lar | Lsl | Verr | Verw | Arpl => vec![(selector, 2)],
        Lgdt | Lidt => vec![(rng.word(), 2), (rng.word(), 4)],
        Lmsw => vec![(rng.word(), 2)],
        // The lower bound of BOUND is low and the upper high, half of the time.
        Bound if rng.one_in(2) => vec![(0, insn.width.bytes()), (!0 >> 1, insn.width.bytes())],
        _ => Vec::new(),
    };
    lay(&slots, rng)
}

fn stack(rng: &mut Rng, insn: &Insn, real_mode: bool) -> [u8; WINDOW as usize] {
    use Op::*;
    // To user mode, and within the ring.
    let usual = [(0x1b, 0x23), (CODE, DATA), (CODE | 1, DATA | 1), (CODE | 3, DATA | 3)].map(Some);
    let [a, b, c, d] = usual;
    let chosen = rng.in_turn(&[a, None, b, None, c, None, d, None]);
    let (cs, ss) = chosen.unwrap_or_else(|| (code_selector(rng), selector(rng)));
    let flags = Eflags::from_bits_truncate(rng.word()) & (Eflags::ALL - Eflags::VM - Eflags::TF - Eflags::NT);
    let (eip, esp) = (rng.word() >> offset_shift(real_mode), rng.word() >> 2);
    let slots = match insn.op {
        Retf if insn.dst != Place::Imm => vec![eip, u32::from(cs), esp, u32::from(ss)],
        // RETF n skips n bytes between the two halves; n is small and even.
        Retf => vec![eip, u32::from(cs), esp, u32::from(ss), esp, u32::from(ss)],
        Iret => vec![eip, u32::from(cs), flags.bits(), esp, u32::from(ss)],
        Popf => vec![flags.bits()],
        PopSeg => vec![u32::from(suited_selector(rng, insn))],
        _ => vec![eip, esp],
    };
    let slots: Vec<_> = slots.into_iter().map(|v| (v, insn.width.bytes().max(2))).collect();
    lay(&slots, rng)
}

/// The bytes of a form's immediate that suit it.
pub(super) fn immediate(seed: u64, insn: &Insn, bytes: &mut [u8], fixed: usize, real_mode: bool) {
    let mut rng = Rng::new(mix(seed));
    let len = bytes.len();
    for b in &mut bytes[fixed..] {
        *b = rng.word() as u8;
    }
    match insn.op {
        Op::JmpFar | Op::CallFar => {
            bytes[len - 3] &= 0x3f;
            if real_mode && insn.width == Width::Dword {
                bytes[len - 4..len - 2].fill(0);
            }
            bytes[len - 2..].copy_from_slice(&code_selector(&mut rng).to_le_bytes());
        }
        Op::Jmp | Op::Call | Op::Jcc if real_mode && len - fixed == 4 => bytes[len - 2..].fill(0),
        Op::Retf if len >= fixed + 2 => {
            bytes[len - 2..].copy_from_slice(&(rng.below(3) as u16 * 4).to_le_bytes())
        }
        Op::Enter => bytes[len - 1] &= 3,
        // The address of MOV AL, moffs and its kin.
        Op::Mov
            if insn.disp == 0
                && (insn.src == Place::Mem || insn.dst == Place::Mem)
                && len - fixed >= 2
                && bytes[fixed - 1] & 0xfc == 0xa0 =>
        {
            bytes[len - 1] &= 0x3f;
        }
        _ => {}
    }
}

impl Mode {
    /// The level at which the guest's supervisor runs.
    pub fn cpl(self) -> u8 {
        match self {
            Mode::Cpl1 => 1,
            Mode::Cpl3 | Mode::V86 => 3,
        }
    }
}
