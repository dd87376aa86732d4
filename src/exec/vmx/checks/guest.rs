//! Checks of the guest-state area (SDM vol. 3, 26.3.1).

use super::{Checked, Failure, Stage, physical, qualification, valid_efer};
use crate::cpu::vmx::field::{PDPTES, SEGMENTS, SegmentFields};
use crate::cpu::vmx::guest_state::{activity, blocking, pending, rights};
use crate::cpu::vmx::{
    EntryControls, EventType, Field, Interruption, Pin, Secondary, UNRESTRICTED_CR0, region,
};
use crate::cpu::{Cr0, Cr4, Eflags};
use crate::exec::msr::valid_pat;
use crate::mmu::pae;

/// Indices into [`SEGMENTS`].
const CS: usize = 1;
const SS: usize = 2;
const LDTR: usize = 6;
const TR: usize = 7;

/// IA32_DEBUGCTL.BTF.
const DEBUGCTL_BTF: u64 = 2;
/// EFLAGS bits that must be zero, and the one that must be one.
const RFLAGS_ZEROS: u32 = 0xffc0_8028;
const RFLAGS_ONE: u32 = 2;
/// No link pointer.
const NO_LINK: u64 = u64::MAX;

fn ensure(good: bool, field: Field, why: &'static str) -> Result<(), Failure> {
    super::ensure(good, Stage::Guest, field, why)
}

pub(super) fn check(on: &mut Checked) -> Result<(), Failure> {
    let guest = Guest::of(on);
    control_registers(on, &guest).map_err(|failure| failure.of("26.3.1.1"))?;
    let selectors = selectors(on, &guest).and_then(|()| segments(on, &guest));
    selectors.map_err(|failure| failure.of("26.3.1.2"))?;
    tables(on).map_err(|failure| failure.of("26.3.1.3"))?;
    flags(on, &guest).map_err(|failure| failure.of("26.3.1.4"))?;
    let others = non_register(on, &guest).and_then(|()| link_pointer(on));
    others.map_err(|failure| failure.of("26.3.1.5"))?;
    pointers(on, &guest).map_err(|failure| failure.of("26.3.1.6"))
}

/// What many checks depend on.
struct Guest {
    unrestricted: bool,
    v86: bool,
    cr0: u32,
    flags: Eflags,
    event: Option<Interruption>,
}

impl Guest {
    fn of(on: &Checked) -> Self {
        let flags = Eflags::from_bits_truncate(on.get32(Field::GuestRflags));
        Self {
            unrestricted: on.controls.secondary.contains(Secondary::UNRESTRICTED),
            v86: flags.contains(Eflags::VM),
            cr0: on.get32(Field::GuestCr0),
            flags,
            event: Interruption::of(on.get32(Field::EntryInterruption), on.get32(Field::EntryErrorCode)),
        }
    }

    fn injects(&self, kind: EventType) -> bool {
        self.event.is_some_and(|event| event.kind == kind)
    }
}

// SDM vol. 3, 26.3.1.1
fn control_registers(on: &Checked, guest: &Guest) -> Result<(), Failure> {
    let (caps, entry) = (on.vmx.caps, on.controls.entry);
    let fixed = "has a bit that VMX operation fixes at the other value";
    let free = if guest.unrestricted { UNRESTRICTED_CR0.bits() } else { 0 };
    ensure(caps.cr0.freeing(free).allow(guest.cr0), Field::GuestCr0, fixed)?;
    let paged = guest.cr0 & Cr0::PG.bits() == 0 || guest.cr0 & Cr0::PE.bits() != 0;
    ensure(paged, Field::GuestCr0, "has PG (paging) without PE (protected mode), which it needs")?;
    ensure(caps.cr4.allow(on.get32(Field::GuestCr4)), Field::GuestCr4, fixed)?;
    if entry.contains(EntryControls::LOAD_DEBUG) {
        let good = on.get(Field::GuestDebugctl) & !u64::from(caps.debugctl) == 0;
        ensure(good, Field::GuestDebugctl, "has bits set that IA32_DEBUGCTL does not have here")?;
    }
    if entry.contains(EntryControls::LOAD_PAT) {
        ensure(valid_pat(on.get(Field::GuestPat)), Field::GuestPat, "has a memory type that does not exist")?;
    }
    if entry.contains(EntryControls::LOAD_EFER) {
        ensure(
            valid_efer(on.get(Field::GuestEfer)),
            Field::GuestEfer,
            "has bits set that IA32_EFER does not have here: only NXE, bit 11, may be 1",
        )?;
    }
    Ok(())
}

/// A segment register's fields, read.
struct Segment {
    fields: SegmentFields,
    selector: u32,
    base: u32,
    limit: u32,
    rights: u32,
}

impl Segment {
    fn of(on: &Checked, n: usize) -> Self {
        let fields = SEGMENTS[n];
        Self {
            fields,
            selector: on.get32(fields.selector),
            base: on.get32(fields.base),
            limit: on.get32(fields.limit),
            rights: on.get32(fields.rights),
        }
    }
    fn usable(&self) -> bool {
        self.rights & rights::UNUSABLE == 0
    }
    fn kind(&self) -> u32 {
        self.rights & rights::TYPE
    }
    fn dpl(&self) -> u32 {
        self.rights >> 5 & 3
    }
    fn rpl(&self) -> u32 {
        self.selector & 3
    }
    fn local(&self) -> bool {
        self.selector & 4 != 0
    }

    /// What holds of every usable register but in virtual-8086 mode.
    fn common(&self, code_or_data: bool) -> Result<(), Failure> {
        let field = self.fields.rights;
        let s = self.rights & rights::CODE_OR_DATA != 0;
        ensure(
            s == code_or_data,
            field,
            "has the wrong S flag: bit 4 must be 1 for code and data segments, and 0 for TR and LDTR",
        )?;
        ensure(
            self.rights & rights::PRESENT != 0,
            field,
            "is not present: bit 7, P, must be 1 in a usable segment",
        )?;
        ensure(
            self.rights & rights::RESERVED == 0,
            field,
            "has reserved bits set: 31-17 and 11-8 must be 0",
        )?;
        let granular = self.rights & rights::GRANULAR != 0;
        let fits = if granular { self.limit & 0xfff == 0xfff } else { self.limit & 0xfff0_0000 == 0 };
        ensure(
            fits,
            field,
            "has a G flag (bit 15) that does not go with the limit: G must be 1 if a bit of 31-20 of the limit is 1, and 0 \
             if a bit of 11-0 is 0",
        )
    }
}

// SDM vol. 3, 26.3.1.2: selectors
fn selectors(on: &Checked, guest: &Guest) -> Result<(), Failure> {
    let [cs, ss, ldtr, tr] = [CS, SS, LDTR, TR].map(|n| Segment::of(on, n));
    ensure(
        !tr.local(),
        tr.fields.selector,
        "has its TI flag set: bit 2 must be 0, as the descriptor is in the GDT",
    )?;
    ensure(
        !ldtr.usable() || !ldtr.local(),
        ldtr.fields.selector,
        "has its TI flag set: bit 2 must be 0, as the descriptor is in the GDT",
    )?;
    let same = guest.v86 || guest.unrestricted || ss.rpl() == cs.rpl();
    ensure(same, ss.fields.selector, "has another RPL (bits 1-0) than CS's selector")
}

// SDM vol. 3, 26.3.1.2: bases, limits, access rights
fn segments(on: &Checked, guest: &Guest) -> Result<(), Failure> {
    for n in 0..6 {
        let segment = Segment::of(on, n);
        if guest.v86 {
            v86_segment(&segment)?;
            continue;
        }
        if n == CS {
            code(on, guest, &segment)?;
        } else if segment.usable() {
            data(guest, n, &segment)?;
        }
        if n == CS || segment.usable() {
            segment.common(true)?;
        }
    }
    if !guest.v86 {
        stack_level(on, guest)?;
    }
    let tr = Segment::of(on, TR);
    ensure(tr.usable(), tr.fields.rights, "is unusable: TR must have a TSS, and bit 16 be 0")?;
    ensure(
        matches!(tr.kind(), 3 | 11),
        tr.fields.rights,
        "is no busy TSS: its type, bits 3-0, must be 11, or 3 for a 16-bit one",
    )?;
    tr.common(false)?;
    let ldtr = Segment::of(on, LDTR);
    if ldtr.usable() {
        ensure(ldtr.kind() == 2, ldtr.fields.rights, "is no LDT: its type, bits 3-0, must be 2")?;
        ldtr.common(false)?;
    }
    Ok(())
}

fn v86_segment(s: &Segment) -> Result<(), Failure> {
    ensure(
        s.base == s.selector << 4,
        s.fields.base,
        "is not 16 times the selector, which virtual-8086 mode demands",
    )?;
    ensure(s.limit == 0xffff, s.fields.limit, "is not FFFFh, which virtual-8086 mode demands")?;
    ensure(s.rights == rights::V86, s.fields.rights, "is not F3h, which virtual-8086 mode demands")
}

fn code(on: &Checked, guest: &Guest, cs: &Segment) -> Result<(), Failure> {
    let field = cs.fields.rights;
    let ss = Segment::of(on, SS);
    let known = matches!(cs.kind(), 9 | 11 | 13 | 15) || guest.unrestricted && cs.kind() == 3;
    ensure(known, field, "is no accessed code segment: its type, bits 3-0, must be 9, 11, 13 or 15")?;
    let level = match cs.kind() {
        3 => cs.dpl() == 0,
        9 | 11 => cs.dpl() == ss.dpl(),
        _ => cs.dpl() <= ss.dpl(),
    };
    ensure(
        level,
        field,
        "has a DPL (bits 6-5) that does not go with SS's: it must be equal to that, or for a conforming segment not above",
    )
}

fn data(guest: &Guest, n: usize, s: &Segment) -> Result<(), Failure> {
    let field = s.fields.rights;
    if n == SS {
        return ensure(
            matches!(s.kind(), 3 | 7),
            field,
            "is no accessed, writable data segment: its type, bits 3-0, must be 3 or 7",
        );
    }
    ensure(s.kind() & 1 != 0, field, "is not accessed: bit 0 of its type must be 1")?;
    ensure(s.kind() & 8 == 0 || s.kind() & 2 != 0, field, "is a code segment that cannot be read")?;
    let level = guest.unrestricted || s.kind() > 11 || s.dpl() >= s.rpl();
    ensure(level, field, "has a DPL (bits 6-5) below the selector's RPL")
}

/// SS's DPL, which is the current privilege level, whether SS is usable or not.
fn stack_level(on: &Checked, guest: &Guest) -> Result<(), Failure> {
    let [cs, ss] = [CS, SS].map(|n| Segment::of(on, n));
    let field = ss.fields.rights;
    let own = guest.unrestricted || ss.dpl() == ss.rpl();
    ensure(
        own,
        field,
        "has another DPL (bits 6-5) than the RPL (bits 1-0) of the selector: both are the guest's privilege level",
    )?;
    let real = guest.cr0 & Cr0::PE.bits() == 0 || cs.kind() == 3;
    ensure(!real || ss.dpl() == 0, field, "has a DPL above 0 in real mode")
}

// SDM vol. 3, 26.3.1.3
fn tables(on: &Checked) -> Result<(), Failure> {
    for field in [Field::GuestGdtrLimit, Field::GuestIdtrLimit] {
        ensure(on.get32(field) >> 16 == 0, field, "is above FFFFh")?;
    }
    Ok(())
}

// SDM vol. 3, 26.3.1.4
fn flags(on: &Checked, guest: &Guest) -> Result<(), Failure> {
    let (field, bits) = (Field::GuestRflags, on.get32(Field::GuestRflags));
    let reserved = bits & RFLAGS_ZEROS == 0 && bits & RFLAGS_ONE != 0;
    ensure(
        reserved,
        field,
        "has reserved bits that are not as they must be: bit 1 is 1, and bits 31-22, 15, 5 and 3 are 0",
    )?;
    let v86 = !guest.v86 || guest.cr0 & Cr0::PE.bits() != 0;
    ensure(v86, field, "has VM set in real mode")?;
    let open = !guest.injects(EventType::External) || guest.flags.contains(Eflags::IF);
    ensure(open, field, "has IF clear, and an external interrupt is injected")
}

// SDM vol. 3, 26.3.1.5
fn non_register(on: &Checked, guest: &Guest) -> Result<(), Failure> {
    activity_state(on, guest)?;
    interruptibility(on, guest)?;
    pending_debug(on, guest)
}

fn activity_state(on: &Checked, guest: &Guest) -> Result<(), Failure> {
    let (field, state) = (Field::Activity, on.get32(Field::Activity));
    let known = state == activity::ACTIVE
        || state <= activity::WAIT_FOR_SIPI && on.vmx.caps.misc >> (activity::MISC_SHIFT + state) & 1 != 0;
    ensure(known, field, "is none that this processor has: 0 is active, 1 HLT, 2 shutdown, 3 wait-for-SIPI")?;
    let halted = state == activity::HLT && Segment::of(on, SS).dpl() != 0;
    ensure(!halted, field, "is HLT, and SS's DPL is not 0")?;
    let blocked = on.get32(Field::Interruptibility) & (blocking::STI | blocking::MOV_SS) != 0;
    ensure(!blocked || state == activity::ACTIVE, field, "is not active, with blocking by STI or by MOV SS")?;
    let Some(event) = guest.event else { return Ok(()) };
    let wakes = match (state, event.kind) {
        (activity::ACTIVE, _) | (activity::HLT, EventType::External | EventType::Nmi) => true,
        (activity::HLT, EventType::HardwareException) => matches!(event.vector, 1 | 18),
        (activity::SHUTDOWN, EventType::Nmi) => true,
        (activity::SHUTDOWN, EventType::HardwareException) => event.vector == 18,
        _ => false,
    };
    ensure(
        wakes,
        field,
        "is one that the injected event cannot end: HLT ends with interrupts, NMI, #DB and #MC, shutdown with NMI and #MC",
    )
}

fn interruptibility(on: &Checked, guest: &Guest) -> Result<(), Failure> {
    let (field, state) = (Field::Interruptibility, on.get32(Field::Interruptibility));
    let (sti, mov_ss) = (state & blocking::STI != 0, state & blocking::MOV_SS != 0);
    ensure(state & blocking::RESERVED == 0, field, "has reserved bits set: 31-4 must be 0")?;
    ensure(!(sti && mov_ss), field, "has both blocking by STI and by MOV SS")?;
    ensure(!sti || guest.flags.contains(Eflags::IF), field, "has blocking by STI with IF clear")?;
    let external = guest.injects(EventType::External) && (sti || mov_ss);
    ensure(!external, field, "blocks the external interrupt that is injected")?;
    let nmi = guest.injects(EventType::Nmi);
    ensure(!(nmi && mov_ss), field, "has blocking by MOV SS, and an NMI is injected")?;
    ensure(state & blocking::SMI == 0, field, "has blocking by SMI outside system-management mode")?;
    if nmi && sti {
        let why = "has blocking by STI, and an NMI is injected";
        return Err(Failure {
            stage: Stage::Guest,
            field,
            why,
            qualification: qualification::NMI,
            section: "",
        });
    }
    let virtual_nmi = on.controls.pin.contains(Pin::VIRTUAL_NMIS) && nmi && state & blocking::NMI != 0;
    ensure(!virtual_nmi, field, "has blocking by NMI, and a virtual NMI is injected")
}

fn pending_debug(on: &Checked, guest: &Guest) -> Result<(), Failure> {
    let (field, bits) = (Field::PendingDebug, on.get32(Field::PendingDebug));
    ensure(bits & pending::RESERVED == 0, field, "has reserved bits set: all but 3-0, 12 and 14 must be 0")?;
    let blocked = on.get32(Field::Interruptibility) & (blocking::STI | blocking::MOV_SS) != 0;
    if !blocked && on.get32(Field::Activity) != activity::HLT {
        return Ok(());
    }
    let branches = on.get(Field::GuestDebugctl) & DEBUGCTL_BTF != 0;
    let steps = guest.flags.contains(Eflags::TF) && !branches;
    ensure(
        (bits & pending::BS != 0) == steps,
        field,
        "has a BS (bit 14) that does not go with TF and BTF: while events are blocked, or in HLT, BS is 1 exactly if the \
         guest single-steps",
    )
}

fn link_pointer(on: &mut Checked) -> Result<(), Failure> {
    let link = on.get(Field::LinkPointer);
    if link == NO_LINK {
        return Ok(());
    }
    let fail = |why| {
        let (stage, field) = (Stage::Guest, Field::LinkPointer);
        Err(Failure { stage, field, why, qualification: qualification::LINK_POINTER, section: "" })
    };
    if !physical(link, 4096) {
        return fail("is not the address of a page in physical memory");
    }
    if (on.read)(link as u32 + region::REVISION) != on.vmx.caps.revision() {
        return fail("leads to a region that does not begin with the revision identifier of IA32_VMX_BASIC");
    }
    if on.vmx.current == Some(link as u32) {
        return fail("is the current control structure itself");
    }
    Ok(())
}

// SDM vol. 3, 26.3.1.6
fn pointers(on: &mut Checked, guest: &Guest) -> Result<(), Failure> {
    let paging = Cr0::from_bits_truncate(guest.cr0).contains(Cr0::PG);
    if !paging || on.get32(Field::GuestCr4) & Cr4::PAE.bits() == 0 {
        return Ok(());
    }
    let fail = |field| {
        let why = match field {
            Field::GuestCr3 => {
                "leads to a page-directory-pointer table with reserved bits set in a present entry"
            }
            _ => "is a present page-directory-pointer-table entry with reserved bits set",
        };
        Err(Failure { stage: Stage::Guest, field, why, qualification: qualification::PDPTE, section: "" })
    };
    let good = |pointer: u64| !pae::present(pointer) || pointer & pae::POINTER_RESERVED == 0;
    if on.controls.secondary.contains(Secondary::EPT) {
        let wrong = PDPTES.into_iter().find(|field| !good(on.get(*field)));
        return wrong.map_or(Ok(()), fail);
    }
    let table = on.get32(Field::GuestCr3) & !0x1f;
    for n in 0..4 {
        let low = (on.read)(table + 8 * n);
        let high = (on.read)(table + 8 * n + 4);
        if !good(u64::from(low) | u64::from(high) << 32) {
            return fail(Field::GuestCr3);
        }
    }
    Ok(())
}
