//! Tasks: the task-state segment and the hardware task switch (SDM vol. 3, 7).

use super::segload::{Found, StackFaults, find, mark_accessed, stack_segment_for};
use super::{Env, pointers, vmx};
use crate::addr::Linear;
use crate::cpu::control::DR6_BT;
use crate::cpu::{Cpu, Cr0, Eflags, Fault, Segment, Selector};
use crate::decode::SegReg;

/// The busy bit within a TSS descriptor's second doubleword.
const BUSY: u32 = 1 << 9;

// System descriptor types.
const LDT: u8 = 2;
const AVAILABLE_16: u8 = 1;
const BUSY_16: u8 = 3;
const AVAILABLE_32: u8 = 9;
const BUSY_32: u8 = 11;

/// How a task is switched to; decides busy bits, NT and the back link (SDM vol. 3, table 7-2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// JMP.
    Jump,
    /// CALL, an interrupt or an exception: nested.
    Call,
    /// IRET from a nested task.
    Return,
}

/// A task-state segment's descriptor.
#[derive(Clone, Copy)]
pub struct Tss {
    selector: Selector,
    found: Found,
}

impl Tss {
    /// Whether the TSS is of the 32-bit format.
    pub fn is_32bit(&self) -> bool {
        self.found.descriptor.kind() & 8 != 0
    }
}

/// Whether `kind` is an available TSS.
pub fn is_available_tss(kind: u8) -> bool {
    matches!(kind, AVAILABLE_16 | AVAILABLE_32)
}

/// The available TSS that a task gate or a far pointer names.
///
/// # Errors
/// #GP for a selector that names none, #NP, #PF.
pub fn find_available<E: Env>(cpu: &Cpu, env: &mut E, selector: Selector) -> Result<Tss, Fault> {
    let gp = Fault::gp(selector.code());
    if selector.is_null() || selector.local() {
        return Err(gp);
    }
    let found = find(cpu, env, selector, gp)?;
    let d = found.descriptor;
    if d.is_segment() || !is_available_tss(d.kind()) {
        return Err(gp);
    }
    if !d.present() {
        return Err(Fault::np(selector.code()));
    }
    Ok(Tss { selector, found })
}

/// The busy TSS that the current task's back link names.
///
/// # Errors
/// #TS, #NP, #PF.
pub fn find_previous<E: Env>(cpu: &Cpu, env: &mut E) -> Result<Tss, Fault> {
    let link: u16 = env.load(cpu, Linear(cpu.tr.base), false)?;
    let selector = Selector(link);
    let ts = Fault::ts(selector.code());
    if selector.is_null() || selector.local() {
        return Err(ts);
    }
    let found = find(cpu, env, selector, ts)?;
    let d = found.descriptor;
    if d.is_segment() || !matches!(d.kind(), BUSY_16 | BUSY_32) {
        return Err(ts);
    }
    if !d.present() {
        return Err(Fault::np(selector.code()));
    }
    Ok(Tss { selector, found })
}

/// Where in a 32-bit TSS the I/O map base is (SDM vol. 3, figure 7-2).
const IO_MAP_BASE: u32 = 0x66;

/// The I/O map base of the current task: an offset into its TSS.
///
/// # Errors
/// #GP(0) if the TSS has none, #PF.
pub fn io_map<E: Env>(cpu: &Cpu, env: &mut E) -> Result<u32, Fault> {
    let is_tss32 = cpu.tr.usable() && matches!(cpu.tr.attr & 0x1f, 0x9 | 0xb);
    if !is_tss32 || cpu.tr.limit < IO_MAP_BASE + 1 {
        return Err(Fault::GP0);
    }
    let base: u16 = env.load(cpu, Linear(cpu.tr.base.wrapping_add(IO_MAP_BASE)), false)?;
    Ok(u32::from(base))
}

fn tr_is_32bit(cpu: &Cpu) -> bool {
    cpu.tr.attr & 8 != 0
}

/// ESP and SS for level `cpl` from the current TSS.
///
/// # Errors
/// #TS when the TSS is too short, #PF.
pub fn stack_for<E: Env>(cpu: &Cpu, env: &mut E, cpl: u8) -> Result<(u32, u16), Fault> {
    let level = u32::from(cpl);
    let wide = tr_is_32bit(cpu);
    // ESP and a selector: the upper half of the slot of SS need not be there.
    let (offset, last) = if wide { (4 + 8 * level, 5) } else { (2 + 4 * level, 3) };
    if offset + last > cpu.tr.limit {
        return Err(Fault::ts(cpu.tr.selector.code()));
    }
    let at = Linear(cpu.tr.base.wrapping_add(offset));
    if wide {
        Ok((env.load(cpu, at, false)?, env.load(cpu, at.offset(4), false)?))
    } else {
        let sp: u16 = env.load(cpu, at, false)?;
        Ok((u32::from(sp), env.load(cpu, at.offset(2), false)?))
    }
}

/// What a TSS keeps of a task, both formats alike.
#[derive(Default)]
struct Image {
    cr3: u32,
    eip: u32,
    eflags: u32,
    regs: [u32; 8],
    /// ES, CS, SS, DS, FS, GS.
    segs: [u16; 6],
    ldt: u16,
    trap: bool,
}

/// Where the parts of a TSS stand.
struct Format {
    limit: u32,
    eip: u32,
    /// Bytes of a register slot.
    slot: u32,
    segs: u32,
    seg_count: usize,
    /// Bytes of a selector slot.
    seg_slot: u32,
    ldt: u32,
}

const FORMAT_16: Format =
    Format { limit: 0x2b, eip: 14, slot: 2, segs: 34, seg_count: 4, seg_slot: 2, ldt: 42 };
const FORMAT_32: Format =
    Format { limit: 0x67, eip: 0x20, slot: 4, segs: 0x48, seg_count: 6, seg_slot: 4, ldt: 0x60 };

fn format(is_32bit: bool) -> &'static Format {
    if is_32bit { &FORMAT_32 } else { &FORMAT_16 }
}

/// Switches to `tss`. `flags` is the EFLAGS image of the outgoing task.
///
/// # Errors
/// Before the switch is committed: #TS, #PF, in the old task. After it (while segments are loaded): #TS, #NP,
/// #SS, in the new one.
pub fn switch<E: Env>(
    cpu: &mut Cpu,
    env: &mut E,
    tss: Tss,
    kind: Switch,
    flags: Eflags,
) -> Result<(), Fault> {
    let new = format(tss.is_32bit());
    let d = tss.found.descriptor;
    if d.limit() < new.limit {
        return Err(Fault::ts(tss.selector.code()));
    }
    let source = match kind {
        Switch::Call => 0,
        Switch::Return => 1,
        Switch::Jump => 2,
    };
    vmx::intercept::task_switch(cpu, tss.selector.0, source, flags)?;
    let old = format(tr_is_32bit(cpu));
    let base = Linear(d.base());
    env.probe(cpu, Linear(cpu.tr.base), old.limit + 1, false, true)?;
    env.probe(cpu, base, new.limit + 1, false, kind == Switch::Call)?;
    let left = match kind {
        Switch::Call => None,
        _ => Some(find(cpu, env, cpu.tr.selector, Fault::ts(cpu.tr.selector.code()))?.at),
    };
    let entered = (kind != Switch::Return).then_some(tss.found.at);
    for at in [left, entered].into_iter().flatten() {
        env.probe(cpu, at.offset(4), 4, false, true)?;
    }

    let mut saved = flags;
    if kind == Switch::Return {
        saved -= Eflags::NT;
    }
    save(cpu, env, old, saved)?;
    // After the old state is saved: a task may return to itself.
    let mut image = read_image(cpu, env, base, tss.is_32bit())?;
    if kind == Switch::Call {
        env.store(cpu, base, cpu.tr.selector.0, false)?;
        image.eflags |= Eflags::NT.bits();
    }
    if let Some(at) = left {
        set_busy(cpu, env, at, false)?;
    }
    if let Some(at) = entered {
        set_busy(cpu, env, at, true)?;
    }
    load(cpu, env, &tss, &image)
}

fn set_busy<E: Env>(cpu: &Cpu, env: &mut E, at: Linear, busy: bool) -> Result<(), Fault> {
    let high: u32 = env.load_for_update(cpu, at.offset(4), false)?;
    env.store(cpu, at.offset(4), if busy { high | BUSY } else { high & !BUSY }, false)
}

/// Marks a TSS descriptor busy (LTR).
///
/// # Errors
/// #PF.
pub fn mark_busy<E: Env>(cpu: &Cpu, env: &mut E, found: &Found) -> Result<(), Fault> {
    set_busy(cpu, env, found.at, true)
}

fn word<E: Env>(cpu: &Cpu, env: &mut E, at: Linear, bytes: u32) -> Result<u32, Fault> {
    if bytes == 4 { env.load(cpu, at, false) } else { Ok(u32::from(env.load::<u16>(cpu, at, false)?)) }
}

fn read_image<E: Env>(cpu: &Cpu, env: &mut E, base: Linear, is_32bit: bool) -> Result<Image, Fault> {
    let f = format(is_32bit);
    let mut image = Image::default();
    let slot = |n: u32| base.offset(f.eip + n * f.slot);
    image.eip = word(cpu, env, slot(0), f.slot)?;
    image.eflags = word(cpu, env, slot(1), f.slot)?;
    for n in 0..8 {
        let value = word(cpu, env, slot(2 + n), f.slot)?;
        image.regs[n as usize] = if is_32bit { value } else { value | 0xffff_0000 };
    }
    for n in 0..f.seg_count {
        image.segs[n] = env.load(cpu, base.offset(f.segs + n as u32 * f.seg_slot), false)?;
    }
    image.ldt = env.load(cpu, base.offset(f.ldt), false)?;
    if is_32bit {
        image.cr3 = env.load(cpu, base.offset(0x1c), false)?;
        image.trap = env.load::<u16>(cpu, base.offset(0x64), false)? & 1 != 0;
    }
    Ok(image)
}

/// Saves the outgoing task's dynamic fields.
fn save<E: Env>(cpu: &Cpu, env: &mut E, f: &Format, flags: Eflags) -> Result<(), Fault> {
    let base = Linear(cpu.tr.base);
    let put = |env: &mut E, at: Linear, value: u32| {
        if f.slot == 4 { env.store(cpu, at, value, false) } else { env.store(cpu, at, value as u16, false) }
    };
    put(env, base.offset(f.eip), cpu.eip)?;
    put(env, base.offset(f.eip + f.slot), flags.bits())?;
    for n in 0..8 {
        put(env, base.offset(f.eip + (2 + n) * f.slot), cpu.regs[n as usize])?;
    }
    for n in 0..f.seg_count {
        let selector = cpu.segs[n].selector.0;
        env.store(cpu, base.offset(f.segs + n as u32 * f.seg_slot), selector, false)?;
    }
    Ok(())
}

/// Makes the new task current: registers first, then LDTR and the segments with their checks.
fn load<E: Env>(cpu: &mut Cpu, env: &mut E, tss: &Tss, image: &Image) -> Result<(), Fault> {
    let d = tss.found.descriptor;
    cpu.switched_task = true;
    cpu.tr = Segment::system(tss.selector.0, d.base(), d.limit(), d.attr() | 2);
    cpu.cr0 |= Cr0::TS;
    // Local breakpoints belong to a task.
    cpu.dr[7] &= !0x155;
    let mut pointers = Ok(());
    if tss.is_32bit() && cpu.cr0.contains(Cr0::PG) && image.cr3 != cpu.cr3 {
        cpu.cr3 = image.cr3;
        env.flush_tlb(false);
        pointers = pointers::load(cpu, env, cpu.cr0, image.cr3, cpu.cr4);
    }
    cpu.regs[..8].copy_from_slice(&image.regs);
    cpu.eip = image.eip;
    for s in SegReg::ALL {
        cpu.set_seg(s, Segment::null(image.segs[s as usize]));
    }
    let v86 = image.eflags & Eflags::VM.bits() != 0 && tss.is_32bit();
    let mut flags = Eflags::from_bits_truncate(image.eflags);
    flags.set(Eflags::VM, v86);
    cpu.set_eflags(flags);
    cpu.set_cpl(if v86 { 3 } else { Selector(image.segs[1]).rpl() });
    // A fault belongs to the new task.
    pointers?;
    load_ldt(cpu, env, image.ldt)?;
    if v86 {
        for s in SegReg::ALL {
            cpu.set_seg(s, Segment::v86(image.segs[s as usize]));
        }
    } else {
        load_segments(cpu, env, image)?;
    }
    // Only a task that can start traps: after a fault above, the trap would hit whatever runs next.
    if image.trap {
        cpu.pend_debug(DR6_BT);
    }
    Ok(())
}

fn load_ldt<E: Env>(cpu: &mut Cpu, env: &mut E, selector: u16) -> Result<(), Fault> {
    let sel = Selector(selector);
    cpu.ldtr = Segment::null(selector);
    if sel.is_null() {
        return Ok(());
    }
    let ts = Fault::ts(sel.code());
    if sel.local() {
        return Err(ts);
    }
    let d = find(cpu, env, sel, ts)?.descriptor;
    if d.is_segment() || d.kind() != LDT || !d.present() {
        return Err(ts);
    }
    cpu.ldtr = d.load(selector);
    Ok(())
}

fn load_segments<E: Env>(cpu: &mut Cpu, env: &mut E, image: &Image) -> Result<(), Fault> {
    let cs = code_segment(cpu, env, image.segs[SegReg::Cs as usize])?;
    cpu.set_seg(SegReg::Cs, cs);
    let faults = StackFaults { bad: Fault::ts, null: Fault::ts(0) };
    let ss = stack_segment_for(cpu, env, image.segs[SegReg::Ss as usize], cpu.cpl, &faults)?;
    cpu.set_seg(SegReg::Ss, ss);
    for s in [SegReg::Es, SegReg::Ds, SegReg::Fs, SegReg::Gs] {
        let segment = data_segment(cpu, env, image.segs[s as usize])?;
        cpu.set_seg(s, segment);
    }
    Ok(())
}

fn code_segment<E: Env>(cpu: &Cpu, env: &mut E, selector: u16) -> Result<Segment, Fault> {
    let sel = Selector(selector);
    let ts = Fault::ts(sel.code());
    if sel.is_null() {
        return Err(ts);
    }
    let found = find(cpu, env, sel, ts)?;
    let d = found.descriptor;
    let level_fits = if d.is_conforming() { d.dpl() <= sel.rpl() } else { d.dpl() == sel.rpl() };
    if !d.is_code() || !level_fits {
        return Err(ts);
    }
    if !d.present() {
        return Err(Fault::np(sel.code()));
    }
    Ok(mark_accessed(cpu, env, found)?.load(selector))
}

fn data_segment<E: Env>(cpu: &Cpu, env: &mut E, selector: u16) -> Result<Segment, Fault> {
    let sel = Selector(selector);
    if sel.is_null() {
        return Ok(Segment::null(selector));
    }
    let ts = Fault::ts(sel.code());
    let found = find(cpu, env, sel, ts)?;
    let d = found.descriptor;
    let readable = d.is_segment() && d.load(selector).readable();
    if !readable || (!d.is_conforming() && (sel.rpl() > d.dpl() || cpu.cpl > d.dpl())) {
        return Err(ts);
    }
    if !d.present() {
        return Err(Fault::np(sel.code()));
    }
    Ok(mark_accessed(cpu, env, found)?.load(selector))
}

/// The new task's EIP must lie within its code segment; checked last, in the new task. With this the switch
/// is complete.
///
/// # Errors
/// #GP(0).
pub fn check_entry(cpu: &mut Cpu) -> Result<(), Fault> {
    if cpu.eip > cpu.seg(SegReg::Cs).limit {
        return Err(Fault::GP0);
    }
    cpu.switched_task = false;
    Ok(())
}
