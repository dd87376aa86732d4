//! System instructions: control, debug, table and model-specific registers, HLT, CLI and STI, CPUID (SDM vol.
//! 2; vol. 3, 2.8).

use crate::addr::Linear;
use crate::bus::Width;
use crate::cpu::control::{DR6_BD, DR6_ONES, DR7_GD, DR7_ONES, DR7_ZEROS};
use crate::cpu::vmx::{Allowed, Primary, Reason, Secondary, Vmx};
use crate::cpu::{Activity, Cpu, Cr0, Cr4, Eflags, Fault, Segment, Selector, Shadow, TableReg, Word, gpr};
use crate::decode::{Insn, Place};
use crate::exec::bind::binders;
use crate::exec::operand::{DstReg, Mem, Source, Target, by_rm, by_width, ea, load, store};
use crate::exec::segload::find;
use crate::exec::task::{self, is_available_tss};
use crate::exec::vmx::intercept;
use crate::exec::{Env, Handler, cpuid, msr, pointers, vme};

binders! { i, E;
    Cli       => cli,
    Sti       => sti,
    Hlt       => hlt,
    Lgdt      => lgdt,
    Lidt      => lidt,
    Sgdt      => sgdt,
    Sidt      => sidt,
    Lldt      => lldt,
    Ltr       => ltr,
    Sldt      => by_rm!(i, sldt, E),
    Str       => by_rm!(i, str, E),
    Smsw      => by_rm!(i, smsw, E),
    Lmsw      => lmsw,
    Clts      => clts,
    Invd      => invd,
    Wbinvd    => wbinvd,
    Invlpg    => invlpg,
    MovFromCr => mov_from_cr,
    MovToCr   => mov_to_cr,
    MovFromDr => mov_from_dr,
    MovToDr   => mov_to_dr,
    Cpuid     => cpuid_insn,
    Rdtsc     => rdtsc,
    Rdpmc     => rdpmc,
    Rdmsr     => rdmsr,
    Wrmsr => wrmsr,
}

/// Privileged instructions: #GP(0) unless CPL is 0 (real mode is CPL 0, virtual-8086 mode CPL 3).
fn privileged(cpu: &Cpu) -> Result<(), Fault> {
    if cpu.cpl == 0 { Ok(()) } else { Err(Fault::GP0) }
}

/// Whether CLI and STI change IF: in protected mode CPL may not exceed IOPL, in virtual-8086 mode IOPL must be
/// 3, which is the same.
fn may_change_if(cpu: &Cpu) -> bool {
    !cpu.protected() || cpu.cpl <= cpu.iopl()
}

/// What UMIP makes privileged: SGDT, SIDT, SLDT, STR and SMSW.
fn prevented(cpu: &Cpu) -> Result<(), Fault> {
    if cpu.cr4.contains(Cr4::UMIP) { privileged(cpu) } else { Ok(()) }
}

// CLI
fn cli<E: Env>(cpu: &mut Cpu, _: &mut E, _: &Insn) -> Result<(), Fault> {
    if may_change_if(cpu) {
        cpu.system_flags -= Eflags::IF;
    } else if vme::virtualizes_if(cpu) {
        cpu.system_flags -= Eflags::VIF;
    } else {
        return Err(Fault::GP0);
    }
    Ok(())
}

// STI: interrupts are held off for one more instruction if they were off
fn sti<E: Env>(cpu: &mut Cpu, _: &mut E, _: &Insn) -> Result<(), Fault> {
    if !may_change_if(cpu) {
        return if vme::virtualizes_if(cpu) { vme::set_virtual_if(cpu) } else { Err(Fault::GP0) };
    }
    if !cpu.system_flags.contains(Eflags::IF) {
        cpu.system_flags |= Eflags::IF;
        cpu.cast_shadow(Shadow::STI);
    }
    Ok(())
}

// HLT
fn hlt<E: Env>(cpu: &mut Cpu, _: &mut E, i: &Insn) -> Result<(), Fault> {
    privileged(cpu)?;
    intercept::by(cpu, i, Primary::HLT, Reason::Hlt)?;
    cpu.activity = Activity::Halted;
    Ok(())
}

fn table_from_memory<E: Env>(cpu: &Cpu, env: &mut E, i: &Insn) -> Result<TableReg, Fault> {
    privileged(cpu)?;
    let at = ea(cpu, i);
    let limit: u16 = load(cpu, env, i.seg, at)?;
    let base: u32 = load(cpu, env, i.seg, at.wrapping_add(2) & i.addr_mask)?;
    let base = if i.width == Width::Word { base & 0xff_ffff } else { base };
    Ok(TableReg { base, limit })
}

// LGDT m16&32
fn lgdt<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    cpu.gdtr = table_from_memory(cpu, env, i)?;
    Ok(())
}

// LIDT m16&32
fn lidt<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    cpu.idtr = table_from_memory(cpu, env, i)?;
    Ok(())
}

fn table_to_memory<E: Env>(cpu: &Cpu, env: &mut E, i: &Insn, t: TableReg) -> Result<(), Fault> {
    use crate::exec::operand::writable;
    prevented(cpu)?;
    let at = ea(cpu, i);
    let upper = at.wrapping_add(2) & i.addr_mask;
    // Both parts are checked, the limit first, before either is stored.
    for (offset, bytes) in [(at, 2), (upper, 4)] {
        let linear = writable(cpu, i.seg, offset, bytes)?;
        env.probe(cpu, linear, bytes, cpu.user, true)?;
    }
    // The base has the stricter alignment.
    store(cpu, env, i.seg, upper, t.base)?;
    store(cpu, env, i.seg, at, t.limit)
}

// SGDT m: all 32 bits of base, also with a 16-bit operand size (unlike LGDT)
fn sgdt<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    table_to_memory(cpu, env, i, cpu.gdtr)
}

// SIDT m
fn sidt<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    table_to_memory(cpu, env, i, cpu.idtr)
}

fn selector_operand<E: Env>(cpu: &Cpu, env: &mut E, i: &Insn) -> Result<Selector, Fault> {
    let value =
        if i.dst == Place::Mem { Mem::read::<u16, E>(cpu, env, i)? } else { DstReg::read(cpu, env, i)? };
    Ok(Selector(value))
}

// LLDT r/m16
fn lldt<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    if !cpu.selectors() {
        return Err(Fault::UD);
    }
    privileged(cpu)?;
    let sel = selector_operand(cpu, env, i)?;
    if sel.is_null() {
        cpu.ldtr = Segment::null(sel.0);
        return Ok(());
    }
    let gp = Fault::gp(sel.code());
    if sel.local() {
        return Err(gp);
    }
    let d = find(cpu, env, sel, gp)?.descriptor;
    if d.is_segment() || d.kind() != 2 {
        return Err(gp);
    }
    if !d.present() {
        return Err(Fault::np(sel.code()));
    }
    cpu.ldtr = d.load(sel.0);
    Ok(())
}

// LTR r/m16
fn ltr<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    if !cpu.selectors() {
        return Err(Fault::UD);
    }
    privileged(cpu)?;
    let sel = selector_operand(cpu, env, i)?;
    let gp = Fault::gp(sel.code());
    if sel.is_null() || sel.local() {
        return Err(gp);
    }
    let found = find(cpu, env, sel, gp)?;
    let d = found.descriptor;
    if d.is_segment() || !is_available_tss(d.kind()) {
        return Err(gp);
    }
    if !d.present() {
        return Err(Fault::np(sel.code()));
    }
    task::mark_busy(cpu, env, &found)?;
    cpu.tr = Segment::system(sel.0, d.base(), d.limit(), d.attr() | 2);
    Ok(())
}

// SLDT r/m16
fn sldt<E: Env, W: Word, D: Target>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    if !cpu.selectors() {
        return Err(Fault::UD);
    }
    prevented(cpu)?;
    let value = u32::from(cpu.ldtr.selector.0);
    D::write(cpu, env, i, W::from_u32(value))
}

// STR r/m16
fn str<E: Env, W: Word, D: Target>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    if !cpu.selectors() {
        return Err(Fault::UD);
    }
    prevented(cpu)?;
    let value = u32::from(cpu.tr.selector.0);
    D::write(cpu, env, i, W::from_u32(value))
}

// SMSW r/m16: a 32-bit register gets all of CR0
fn smsw<E: Env, W: Word, D: Target>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    prevented(cpu)?;
    let value = intercept::seen_cr0(cpu);
    D::write(cpu, env, i, W::from_u32(value))
}

// LMSW r/m16: PE, MP, EM and TS; PE cannot be cleared
fn lmsw<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    privileged(cpu)?;
    let value = u32::from(selector_operand(cpu, env, i)?.0);
    let mask = intercept::lmsw(cpu, i, value)?;
    let kept = cpu.cr0.bits() & !(mask & !Cr0::PE.bits());
    set_cr0(cpu, env, kept | (value & mask))
}

// CLTS
fn clts<E: Env>(cpu: &mut Cpu, _: &mut E, i: &Insn) -> Result<(), Fault> {
    privileged(cpu)?;
    if intercept::clts(cpu, i)? {
        cpu.cr0 -= Cr0::TS;
    }
    Ok(())
}

// INVD: there are no data caches to drop
fn invd<E: Env>(cpu: &mut Cpu, _: &mut E, i: &Insn) -> Result<(), Fault> {
    privileged(cpu)?;
    intercept::always(cpu, i, Reason::Invd)
}

// WBINVD
fn wbinvd<E: Env>(cpu: &mut Cpu, _: &mut E, i: &Insn) -> Result<(), Fault> {
    privileged(cpu)?;
    intercept::by_secondary(cpu, i, Secondary::WBINVD, Reason::Wbinvd)
}

// INVLPG m
fn invlpg<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    // The register form is no instruction, whatever the privilege.
    if i.dst != Place::Mem {
        return Err(Fault::UD);
    }
    privileged(cpu)?;
    let linear = cpu.seg(i.seg).base.wrapping_add(ea(cpu, i));
    intercept::invlpg(cpu, i, linear)?;
    env.invalidate_page(Linear(linear));
    Ok(())
}

// MOV r32, CRn
fn mov_from_cr<E: Env>(cpu: &mut Cpu, _: &mut E, i: &Insn) -> Result<(), Fault> {
    privileged(cpu)?;
    let value = match i.src_reg {
        0 => intercept::seen_cr0(cpu),
        2 => cpu.cr2,
        3 => {
            intercept::from_cr3(cpu, i)?;
            cpu.cr3
        }
        _ => intercept::seen_cr4(cpu),
    };
    cpu.set(i.dst_reg, value);
    Ok(())
}

// MOV CRn, r32
fn mov_to_cr<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    privileged(cpu)?;
    let value = cpu.reg(i.src_reg);
    match i.dst_reg {
        0 => {
            let value = intercept::to_cr0(cpu, i, value)?;
            set_cr0(cpu, env, value)
        }
        2 => {
            cpu.cr2 = value;
            Ok(())
        }
        3 => {
            intercept::to_cr3(cpu, i, value)?;
            pointers::load(cpu, env, cpu.cr0, value, cpu.cr4)?;
            cpu.cr3 = value;
            env.flush_tlb(false);
            Ok(())
        }
        _ => {
            let value = intercept::to_cr4(cpu, i, value)?;
            set_cr4(cpu, env, value)
        }
    }
}

/// Whether VMX operation fixes a bit of a control register at another value than `value` has.
fn is_fixed(cpu: &Cpu, of: fn(&Vmx) -> Option<Allowed>, value: u32) -> bool {
    cpu.vmx.as_deref().and_then(of).is_some_and(|fixed| !fixed.allow(value))
}

fn set_cr0<E: Env>(cpu: &mut Cpu, env: &mut E, value: u32) -> Result<(), Fault> {
    let new = Cr0::from_bits_truncate(value) | Cr0::ET;
    let paging_without_protection = new.contains(Cr0::PG) && !new.contains(Cr0::PE);
    let write_through_without_disable = new.contains(Cr0::NW) && !new.contains(Cr0::CD);
    let fixed = is_fixed(cpu, Vmx::fixed_cr0, new.bits());
    if paging_without_protection || write_through_without_disable || fixed {
        return Err(Fault::GP0);
    }
    let changed = cpu.cr0 ^ new;
    if changed.intersects(Cr0::PG | Cr0::CD | Cr0::NW) {
        pointers::load(cpu, env, new, cpu.cr3, cpu.cr4)?;
    }
    cpu.cr0 = new;
    if changed.intersects(Cr0::PG | Cr0::PE | Cr0::WP) {
        env.flush_tlb(true);
    }
    cpu.refresh();
    Ok(())
}

fn set_cr4<E: Env>(cpu: &mut Cpu, env: &mut E, value: u32) -> Result<(), Fault> {
    let new = Cr4::from_bits(value).filter(|&new| cpu.features.cr4().contains(new)).ok_or(Fault::GP0)?;
    if is_fixed(cpu, Vmx::fixed_cr4, value) {
        return Err(Fault::GP0);
    }
    let changed = cpu.cr4 ^ new;
    let paging = changed.intersects(Cr4::PAE | Cr4::PSE | Cr4::PGE);
    if paging {
        pointers::load(cpu, env, cpu.cr0, cpu.cr3, new)?;
    }
    cpu.cr4 = new;
    if paging {
        env.flush_tlb(true);
    }
    Ok(())
}

/// Which debug register number `n` means: 4 and 5 are 6 and 7, or undefined with CR4.DE. Any access faults
/// while DR7.GD is set.
fn debug_register(cpu: &Cpu, n: u8) -> Result<usize, Fault> {
    if matches!(n, 4 | 5) && cpu.cr4.contains(Cr4::DE) {
        return Err(Fault::UD);
    }
    privileged(cpu)?;
    if cpu.dr[7] & DR7_GD != 0 {
        return Err(Fault::debug(DR6_BD));
    }
    Ok(usize::from(if matches!(n, 4 | 5) { n + 2 } else { n & 7 }))
}

// MOV r32, DRn
fn mov_from_dr<E: Env>(cpu: &mut Cpu, _: &mut E, i: &Insn) -> Result<(), Fault> {
    intercept::mov_dr(cpu, i, true)?;
    let n = debug_register(cpu, i.src_reg)?;
    let value = cpu.dr[n];
    cpu.set(i.dst_reg, value);
    Ok(())
}

// MOV DRn, r32
fn mov_to_dr<E: Env>(cpu: &mut Cpu, _: &mut E, i: &Insn) -> Result<(), Fault> {
    intercept::mov_dr(cpu, i, false)?;
    let n = debug_register(cpu, i.dst_reg)?;
    let value = cpu.reg(i.src_reg);
    cpu.dr[n] = match n {
        6 => (value & 0xe00f) | DR6_ONES,
        7 => (value & !DR7_ZEROS) | DR7_ONES,
        _ => value,
    };
    cpu.refresh();
    Ok(())
}

// CPUID
fn cpuid_insn<E: Env>(cpu: &mut Cpu, _: &mut E, i: &Insn) -> Result<(), Fault> {
    intercept::always(cpu, i, Reason::Cpuid)?;
    let [eax, ebx, ecx, edx] = cpuid::leaf(cpu, cpu.regs[gpr::EAX]);
    cpu.regs[gpr::EAX] = eax;
    cpu.regs[gpr::EBX] = ebx;
    cpu.regs[gpr::ECX] = ecx;
    cpu.regs[gpr::EDX] = edx;
    Ok(())
}

fn set_edx_eax(cpu: &mut Cpu, value: u64) {
    cpu.regs[gpr::EAX] = value as u32;
    cpu.regs[gpr::EDX] = (value >> 32) as u32;
}

// RDTSC
fn rdtsc<E: Env>(cpu: &mut Cpu, _: &mut E, i: &Insn) -> Result<(), Fault> {
    if cpu.cpl != 0 && cpu.cr4.contains(Cr4::TSD) {
        return Err(Fault::GP0);
    }
    intercept::by(cpu, i, Primary::RDTSC, Reason::Rdtsc)?;
    set_edx_eax(cpu, msr::tsc(cpu));
    Ok(())
}

// RDPMC: the two counters of the P6 exist; no event can be selected, so they stand at 0
fn rdpmc<E: Env>(cpu: &mut Cpu, _: &mut E, i: &Insn) -> Result<(), Fault> {
    if cpu.cpl != 0 && !cpu.cr4.contains(Cr4::PCE) {
        return Err(Fault::GP0);
    }
    intercept::by(cpu, i, Primary::RDPMC, Reason::Rdpmc)?;
    if cpu.regs[gpr::ECX] > 1 {
        return Err(Fault::GP0);
    }
    set_edx_eax(cpu, 0);
    Ok(())
}

// RDMSR
fn rdmsr<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    privileged(cpu)?;
    let number = cpu.regs[gpr::ECX];
    intercept::msr(cpu, env, i, number, false)?;
    let value = msr::read(cpu, number).ok_or(Fault::GP0)?;
    set_edx_eax(cpu, value);
    Ok(())
}

// WRMSR
fn wrmsr<E: Env>(cpu: &mut Cpu, env: &mut E, i: &Insn) -> Result<(), Fault> {
    privileged(cpu)?;
    let number = cpu.regs[gpr::ECX];
    intercept::msr(cpu, env, i, number, true)?;
    let value = u64::from(cpu.regs[gpr::EAX]) | u64::from(cpu.regs[gpr::EDX]) << 32;
    msr::write(cpu, env, number, value)
}
