//! Moving state between the processor and the control structure: the guest's both ways, the host's out of it
//! (SDM vol. 3, 26.3.2, 27.3 and 27.5).

use crate::cpu::control::{DR7_ONES, DR7_ZEROS};
use crate::cpu::vmx::field::{HOST_SELECTORS, PDPTES, SEGMENTS, SegmentFields};
use crate::cpu::vmx::guest_state::{activity, blocking, pending, rights};
use crate::cpu::vmx::{EntryControls, ExitControls, Field, Pin, Secondary, Vmcs};
use crate::cpu::{Activity, Cpu, Cr0, Cr4, Eflags, Segment, Shadow, TableReg, gpr};
use crate::decode::SegReg;

/// CR0 bits that neither an entry nor an exit modifies: ET, NW, CD, and those that do not exist.
const CR0_KEPT: u32 = !(Cr0::PE.bits()
    | Cr0::MP.bits()
    | Cr0::EM.bits()
    | Cr0::TS.bits()
    | Cr0::NE.bits()
    | Cr0::WP.bits()
    | Cr0::AM.bits()
    | Cr0::PG.bits());

/// Access rights of a hidden segment part: its attribute bits, with AVL, D and G four bits higher.
fn access_rights(s: &Segment) -> u32 {
    let attr = u32::from(s.attr);
    attr & 0xff | (attr & 0xf00) << 4 | if s.usable() { 0 } else { rights::UNUSABLE }
}

fn segment(vmcs: &Vmcs, fields: SegmentFields, system: bool) -> Segment {
    let (selector, bits) = (vmcs.get(fields.selector) as u16, vmcs.get32(fields.rights));
    if bits & rights::UNUSABLE != 0 {
        return Segment::null(selector);
    }
    let (base, limit) = (vmcs.get32(fields.base), vmcs.get32(fields.limit));
    let attr = (bits & 0xff | bits >> 4 & 0xf00) as u16;
    if system {
        Segment::system(selector, base, limit, attr)
    } else {
        Segment::with(selector, base, limit, attr)
    }
}

fn save_segment(vmcs: &mut Vmcs, fields: SegmentFields, s: &Segment) {
    vmcs.set(fields.selector, s.selector.0);
    vmcs.set(fields.base, s.base);
    vmcs.set(fields.limit, s.limit);
    vmcs.set(fields.rights, access_rights(s));
}

fn cr0(cpu: &Cpu, value: u32) -> Cr0 {
    Cr0::from_bits_truncate(cpu.cr0.bits() & CR0_KEPT | value & !CR0_KEPT)
}

/// The fields of the MSRs that entries and exits load: SYSENTER_CS, _ESP, _EIP, IA32_PAT, IA32_EFER.
type MsrFields = [Field; 5];
const GUEST_MSRS: MsrFields = [
    Field::GuestSysenterCs,
    Field::GuestSysenterEsp,
    Field::GuestSysenterEip,
    Field::GuestPat,
    Field::GuestEfer,
];
const HOST_MSRS: MsrFields =
    [Field::HostSysenterCs, Field::HostSysenterEsp, Field::HostSysenterEip, Field::HostPat, Field::HostEfer];

/// Loads MSRs from their fields, IA32_PAT and IA32_EFER if the controls say so.
fn load_msrs(cpu: &mut Cpu, vmcs: &Vmcs, [cs, esp, eip, pat, efer]: MsrFields, loads: [bool; 2]) {
    let msrs = &mut cpu.msrs;
    msrs.sysenter_cs = vmcs.get32(cs);
    msrs.sysenter_esp = vmcs.get32(esp);
    msrs.sysenter_eip = vmcs.get32(eip);
    if loads[0] {
        msrs.pat = vmcs.get(pat);
    }
    if loads[1] {
        msrs.efer = vmcs.get32(efer);
    }
}

/// Loads the guest's state, all of which the checks have passed.
pub fn load_guest(cpu: &mut Cpu, vmcs: &Vmcs, entry: EntryControls) {
    cpu.cr0 = cr0(cpu, vmcs.get32(Field::GuestCr0));
    cpu.cr3 = vmcs.get32(Field::GuestCr3);
    cpu.cr4 = Cr4::from_bits_truncate(vmcs.get32(Field::GuestCr4));
    if entry.contains(EntryControls::LOAD_DEBUG) {
        cpu.dr[7] = vmcs.get32(Field::GuestDr7) & !DR7_ZEROS | DR7_ONES;
        cpu.msrs.debugctl = vmcs.get32(Field::GuestDebugctl);
    }
    let loads = [EntryControls::LOAD_PAT, EntryControls::LOAD_EFER].map(|control| entry.contains(control));
    load_msrs(cpu, vmcs, GUEST_MSRS, loads);
    for s in SegReg::ALL {
        cpu.set_seg(s, segment(vmcs, SEGMENTS[s as usize], false));
    }
    cpu.ldtr = segment(vmcs, SEGMENTS[6], true);
    cpu.tr = segment(vmcs, SEGMENTS[7], true);
    cpu.gdtr = table(vmcs, Field::GuestGdtrBase, Field::GuestGdtrLimit);
    cpu.idtr = table(vmcs, Field::GuestIdtrBase, Field::GuestIdtrLimit);
    cpu.eip = vmcs.get32(Field::GuestRip);
    cpu.regs[gpr::ESP] = vmcs.get32(Field::GuestRsp);
    cpu.set_eflags(Eflags::from_bits_truncate(vmcs.get32(Field::GuestRflags)));
    // SS's DPL is the privilege level, also of an unusable SS.
    cpu.set_cpl((vmcs.get32(Field::GuestSsRights) >> 5 & 3) as u8);
}

fn table(vmcs: &Vmcs, base: Field, limit: Field) -> TableReg {
    TableReg { base: vmcs.get32(base), limit: vmcs.get(limit) as u16 }
}

/// Loads what of the guest is no register: shadows, blocking by NMI, pending debug traps, activity. With an
/// injected event nothing holds that event off, and the guest is awake (SDM vol. 3, 26.3.2.4 and 26.6).
pub fn load_non_register(cpu: &mut Cpu, injects: bool) {
    let Some(vmx) = &mut cpu.vmx else { return };
    let state = vmx.vmcs.get32(Field::Interruptibility);
    let nmi = state & blocking::NMI != 0;
    if vmx.controls.pin.contains(Pin::VIRTUAL_NMIS) {
        vmx.virtual_nmi_blocked = nmi;
        cpu.nmi_blocked = false;
    } else {
        vmx.virtual_nmi_blocked = false;
        cpu.nmi_blocked = nmi;
    }
    let (debug, state_of_activity) = (vmx.vmcs.get32(Field::PendingDebug), vmx.vmcs.get32(Field::Activity));
    cpu.shadow = Shadow::empty();
    cpu.debug_pending = 0;
    cpu.activity = Activity::Running;
    if !injects {
        cpu.shadow.set(Shadow::STI, state & blocking::STI != 0);
        cpu.shadow.set(Shadow::SS, state & blocking::MOV_SS != 0);
        cpu.debug_pending = pending_debug(debug);
        cpu.activity = match state_of_activity {
            activity::HLT => Activity::Halted,
            activity::SHUTDOWN => Activity::Shutdown,
            activity::WAIT_FOR_SIPI => Activity::WaitForSipi,
            _ => Activity::Running,
        };
    }
    cpu.refresh();
}

/// DR6 bits of the pending debug exceptions: breakpoints that bit 12 enables, and the single step.
fn pending_debug(field: u32) -> u32 {
    let enabled = field & pending::ENABLED_BREAKPOINT != 0;
    field & pending::BS | if enabled { field & pending::BREAKPOINTS } else { 0 }
}

/// Saves the guest's state. `flags` is the EFLAGS image.
pub fn save_guest(cpu: &mut Cpu, flags: Eflags, keep_pending: bool) {
    let Some(mut vmx) = cpu.vmx.take() else { return };
    let (vmcs, controls) = (&mut vmx.vmcs, vmx.controls);
    vmcs.set(Field::GuestCr0, cpu.cr0.bits());
    vmcs.set(Field::GuestCr3, cpu.cr3);
    vmcs.set(Field::GuestCr4, cpu.cr4.bits());
    if controls.secondary.contains(Secondary::EPT) && cpu.cr0.contains(Cr0::PG) && cpu.cr4.contains(Cr4::PAE)
    {
        PDPTES.into_iter().zip(cpu.pdptes).for_each(|(field, pointer)| vmcs.set(field, pointer));
    }
    if controls.exit.contains(ExitControls::SAVE_DEBUG) {
        vmcs.set(Field::GuestDr7, cpu.dr[7]);
        vmcs.set(Field::GuestDebugctl, cpu.msrs.debugctl);
    }
    vmcs.set(Field::GuestSysenterCs, cpu.msrs.sysenter_cs);
    vmcs.set(Field::GuestSysenterEsp, cpu.msrs.sysenter_esp);
    vmcs.set(Field::GuestSysenterEip, cpu.msrs.sysenter_eip);
    if controls.exit.contains(ExitControls::SAVE_PAT) {
        vmcs.set(Field::GuestPat, cpu.msrs.pat);
    }
    if controls.exit.contains(ExitControls::SAVE_EFER) {
        vmcs.set(Field::GuestEfer, cpu.msrs.efer);
    }
    for s in SegReg::ALL {
        save_segment(vmcs, SEGMENTS[s as usize], cpu.seg(s));
    }
    if !cpu.seg(SegReg::Ss).usable() {
        vmcs.set(Field::GuestSsRights, rights::UNUSABLE | u32::from(cpu.cpl) << 5);
    }
    save_segment(vmcs, SEGMENTS[6], &cpu.ldtr);
    save_segment(vmcs, SEGMENTS[7], &cpu.tr);
    vmcs.set(Field::GuestGdtrBase, cpu.gdtr.base);
    vmcs.set(Field::GuestGdtrLimit, cpu.gdtr.limit);
    vmcs.set(Field::GuestIdtrBase, cpu.idtr.base);
    vmcs.set(Field::GuestIdtrLimit, cpu.idtr.limit);
    vmcs.set(Field::GuestRip, cpu.eip);
    vmcs.set(Field::GuestRsp, cpu.regs[gpr::ESP]);
    vmcs.set(Field::GuestRflags, flags.bits());
    save_non_register(cpu, vmcs, keep_pending, vmx.virtual_nmi_blocked);
    if controls.exit.contains(ExitControls::SAVE_TIMER) {
        let left = vmx.timer.map_or(0, |at| at.saturating_sub(cpu.now)) >> vmx.caps.timer_rate();
        vmx.vmcs.set(Field::TimerValue, left);
    }
    cpu.vmx = Some(vmx);
}

fn save_non_register(cpu: &Cpu, vmcs: &mut Vmcs, keep_pending: bool, virtual_nmi_blocked: bool) {
    let mut state = 0;
    if cpu.shadow.contains(Shadow::SS) {
        state |= blocking::MOV_SS;
    } else if cpu.shadow.contains(Shadow::STI) {
        state |= blocking::STI;
    }
    if virtual_nmi_blocked || cpu.nmi_blocked {
        state |= blocking::NMI;
    }
    vmcs.set(Field::Interruptibility, state);
    let kept = if keep_pending { cpu.debug_pending & (pending::BREAKPOINTS | pending::BS) } else { 0 };
    let enabled = if kept & pending::BREAKPOINTS != 0 { pending::ENABLED_BREAKPOINT } else { 0 };
    vmcs.set(Field::PendingDebug, kept | enabled);
    vmcs.set(
        Field::Activity,
        match cpu.activity {
            Activity::Running => activity::ACTIVE,
            Activity::Halted => activity::HLT,
            Activity::Shutdown => activity::SHUTDOWN,
            Activity::WaitForSipi => activity::WAIT_FOR_SIPI,
        },
    );
}

/// Loads the host's state.
pub fn load_host(cpu: &mut Cpu, vmcs: &Vmcs, exit: ExitControls) {
    cpu.cr0 = cr0(cpu, vmcs.get32(Field::HostCr0));
    cpu.cr3 = vmcs.get32(Field::HostCr3);
    cpu.cr4 = Cr4::from_bits_truncate(vmcs.get32(Field::HostCr4));
    cpu.dr[7] = DR7_ONES;
    cpu.msrs.debugctl = 0;
    let loads = [ExitControls::LOAD_PAT, ExitControls::LOAD_EFER].map(|control| exit.contains(control));
    load_msrs(cpu, vmcs, HOST_MSRS, loads);
    for s in SegReg::ALL {
        cpu.set_seg(s, host_segment(vmcs, s));
    }
    cpu.ldtr = Segment::null(0);
    cpu.tr = Segment::system(vmcs.get(Field::HostTr) as u16, vmcs.get32(Field::HostTrBase), 0x67, 0x8b);
    cpu.gdtr = TableReg { base: vmcs.get32(Field::HostGdtrBase), limit: 0xffff };
    cpu.idtr = TableReg { base: vmcs.get32(Field::HostIdtrBase), limit: 0xffff };
    cpu.eip = vmcs.get32(Field::HostRip);
    cpu.regs[gpr::ESP] = vmcs.get32(Field::HostRsp);
    cpu.shadow = Shadow::empty();
    cpu.debug_pending = 0;
    cpu.activity = Activity::Running;
    cpu.mid_string = false;
    cpu.set_eflags(Eflags::FIXED);
    cpu.set_cpl(0);
}

/// A host segment: flat at privilege level 0 (SDM vol. 3, 27.5.2); one with a null selector is unusable, but
/// for CS.
fn host_segment(vmcs: &Vmcs, s: SegReg) -> Segment {
    let selector = vmcs.get(HOST_SELECTORS[s as usize]) as u16;
    let base = match s {
        SegReg::Fs => vmcs.get32(Field::HostFsBase),
        SegReg::Gs => vmcs.get32(Field::HostGsBase),
        _ => 0,
    };
    match s {
        SegReg::Cs => Segment::with(selector, 0, !0, 0xc9b),
        _ if selector == 0 => Segment::null(0),
        _ => Segment::with(selector, base, !0, 0xc93),
    }
}
