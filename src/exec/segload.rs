//! Descriptors: finding them in their tables, and loading segment registers (SDM vol. 3, 3.4-3.5, 5.4-5.6;
//! vol. 2, MOV).

use super::Env;
use crate::addr::Linear;
use crate::cpu::segment::{Descriptor, attr};
use crate::cpu::{Cpu, Fault, Segment, Selector};
use crate::decode::SegReg;

/// A descriptor and where it stands.
#[derive(Clone, Copy)]
pub struct Found {
    /// The descriptor.
    pub descriptor: Descriptor,
    /// Its linear address.
    pub at: Linear,
}

/// The linear address of the descriptor that `selector` names, if it is within its table.
pub fn descriptor_at(cpu: &Cpu, selector: Selector) -> Option<Linear> {
    let (base, limit) = if selector.local() {
        if !cpu.ldtr.usable() {
            return None;
        }
        (cpu.ldtr.base, cpu.ldtr.limit)
    } else {
        (cpu.gdtr.base, u32::from(cpu.gdtr.limit))
    };
    (selector.offset() + 7 <= limit).then(|| Linear(base.wrapping_add(selector.offset())))
}

/// Reads the descriptor that `selector` names; `outside` is the fault when it is beyond its table's limit.
///
/// # Errors
/// `outside`, or #PF.
pub fn find<E: Env>(cpu: &Cpu, env: &mut E, selector: Selector, outside: Fault) -> Result<Found, Fault> {
    let at = descriptor_at(cpu, selector).ok_or(outside)?;
    let low: u32 = env.load(cpu, at, false)?;
    let high: u32 = env.load(cpu, at.offset(4), false)?;
    Ok(Found { descriptor: Descriptor(u64::from(low) | (u64::from(high) << 32)), at })
}

/// Sets the accessed bit of a code or data descriptor in its table, if it is clear, and returns the
/// descriptor as it is then.
///
/// # Errors
/// #PF.
pub fn mark_accessed<E: Env>(cpu: &Cpu, env: &mut E, found: Found) -> Result<Descriptor, Fault> {
    let d = found.descriptor;
    if d.is_segment() && d.attr() & attr::ACCESSED == 0 {
        let at = found.at.offset(5);
        let byte: u8 = env.load_for_update(cpu, at, false)?;
        env.store(cpu, at, byte | attr::ACCESSED as u8, false)?;
        return Ok(Descriptor(d.0 | (u64::from(attr::ACCESSED) << 40)));
    }
    Ok(d)
}

/// What loading `selector` into `s` gives, by the rules of the current mode, with the accessed bit set in
/// memory. Not for CS.
///
/// # Errors
/// #GP, #SS, #NP, #PF as MOV to a segment register raises them.
pub fn data_segment<E: Env>(cpu: &Cpu, env: &mut E, s: SegReg, selector: u16) -> Result<Segment, Fault> {
    if cpu.v86() {
        return Ok(Segment::v86(selector));
    }
    if !cpu.protected() {
        return Ok(cpu.seg(s).real_reload(selector));
    }
    if s == SegReg::Ss { stack_segment(cpu, env, selector) } else { plain_data(cpu, env, selector) }
}

fn plain_data<E: Env>(cpu: &Cpu, env: &mut E, selector: u16) -> Result<Segment, Fault> {
    let sel = Selector(selector);
    if sel.is_null() {
        return Ok(Segment::null(selector));
    }
    let gp = Fault::gp(sel.code());
    let found = find(cpu, env, sel, gp)?;
    let d = found.descriptor;
    let readable = d.is_segment() && d.load(selector).readable();
    if !readable || (!d.is_conforming() && (sel.rpl() > d.dpl() || cpu.cpl > d.dpl())) {
        return Err(gp);
    }
    if !d.present() {
        return Err(Fault::np(sel.code()));
    }
    Ok(mark_accessed(cpu, env, found)?.load(selector))
}

fn stack_segment<E: Env>(cpu: &Cpu, env: &mut E, selector: u16) -> Result<Segment, Fault> {
    let faults = StackFaults { bad: Fault::gp, null: Fault::GP0 };
    stack_segment_for(cpu, env, selector, cpu.cpl, &faults)
}

/// Which exceptions a bad stack selector raises: #GP where a program loads it, #TS where it comes from a TSS.
pub struct StackFaults {
    /// For a descriptor that is no stack for this level.
    pub bad: fn(u16) -> Fault,
    /// For a null selector.
    pub null: Fault,
}

/// The stack segment that `selector` names, for use at level `cpl`.
///
/// # Errors
/// As `faults` says; #SS when it is not present.
pub fn stack_segment_for<E: Env>(
    cpu: &Cpu,
    env: &mut E,
    selector: u16,
    cpl: u8,
    faults: &StackFaults,
) -> Result<Segment, Fault> {
    let sel = Selector(selector);
    if sel.is_null() {
        return Err(faults.null);
    }
    let bad = (faults.bad)(sel.code());
    let found = find(cpu, env, sel, bad)?;
    let d = found.descriptor;
    if sel.rpl() != cpl || !d.is_writable_data() || d.dpl() != cpl {
        return Err(bad);
    }
    if !d.present() {
        return Err(Fault::ss(sel.code()));
    }
    Ok(mark_accessed(cpu, env, found)?.load(selector))
}

/// Loads segment register `s` (not CS) with `selector`.
///
/// # Errors
/// As [`data_segment`]; the register is unchanged then.
pub fn load_segment<E: Env>(cpu: &mut Cpu, env: &mut E, s: SegReg, selector: u16) -> Result<(), Fault> {
    let segment = data_segment(cpu, env, s, selector)?;
    cpu.set_seg(s, segment);
    Ok(())
}
