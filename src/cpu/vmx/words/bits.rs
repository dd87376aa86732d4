//! Named bits of fields: controls (SDM vol. 3, 24.6 to 24.8), registers, and what blocks events (24.4.2).

use crate::cpu::fault::vector_name;
use crate::cpu::vmx::Field;

/// The bits of a field that have names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// Controls: that a bit is clear says as much as that it is set.
    Controls(&'static [(u8, &'static str)]),
    /// Flags: those that are set are told.
    Flags(&'static [(u8, &'static str)]),
    /// Exception vectors, a bit for each.
    Vectors,
}

impl Named {
    /// The name of bit `n`, if it has one.
    pub fn name(self, n: u8) -> Option<&'static str> {
        match self {
            Self::Controls(table) | Self::Flags(table) => {
                table.iter().find(|(bit, _)| *bit == n).map(|(_, name)| *name)
            }
            Self::Vectors => Some(vector_name(n)).filter(|name| *name != "interrupt"),
        }
    }

    /// The names of the bits that are set in `value`; a bit without a name has its number.
    pub fn set(self, value: u32) -> Vec<String> {
        let told =
            |n: &u8| value >> n & 1 != 0 && (self.name(*n).is_some() || !matches!(self, Self::Controls(_)));
        let name = |n: u8| self.name(n).map_or_else(|| format!("bit {n}"), str::to_owned);
        (0..32).filter(told).map(name).collect()
    }

    /// The names of controls that are clear in `value`, of those that a processor offers.
    pub fn clear(self, value: u32, offered: u32) -> Vec<String> {
        let Self::Controls(table) = self else { return Vec::new() };
        let clear = table.iter().filter(|(n, _)| value >> n & 1 == 0 && offered >> n & 1 != 0);
        clear.map(|(_, name)| (*name).to_owned()).collect()
    }
}

/// The named bits of `field`, if it has any.
pub fn named(field: Field) -> Option<Named> {
    Some(match field {
        Field::PinControls => Named::Controls(PIN),
        Field::PrimaryControls => Named::Controls(PRIMARY),
        Field::SecondaryControls => Named::Controls(SECONDARY),
        Field::ExitControls => Named::Controls(EXIT),
        Field::EntryControls => Named::Controls(ENTRY),
        Field::ExceptionBitmap => Named::Vectors,
        Field::GuestCr0 | Field::HostCr0 | Field::Cr0Mask | Field::Cr0Shadow => Named::Flags(CR0),
        Field::GuestCr4 | Field::HostCr4 | Field::Cr4Mask | Field::Cr4Shadow => Named::Flags(CR4),
        Field::GuestRflags => Named::Flags(RFLAGS),
        Field::Interruptibility => Named::Flags(BLOCKING),
        Field::PendingDebug => Named::Flags(PENDING),
        _ => return None,
    })
}

const PIN: &[(u8, &str)] = &[
    (0, "external-interrupt exiting"),
    (3, "NMI exiting"),
    (5, "virtual NMIs"),
    (6, "activate VMX-preemption timer"),
];

const PRIMARY: &[(u8, &str)] = &[
    (2, "interrupt-window exiting"),
    (3, "use TSC offsetting"),
    (7, "HLT exiting"),
    (9, "INVLPG exiting"),
    (10, "MWAIT exiting"),
    (11, "RDPMC exiting"),
    (12, "RDTSC exiting"),
    (15, "CR3-load exiting"),
    (16, "CR3-store exiting"),
    (19, "CR8-load exiting"),
    (20, "CR8-store exiting"),
    (21, "use TPR shadow"),
    (22, "NMI-window exiting"),
    (23, "MOV-DR exiting"),
    (24, "unconditional I/O exiting"),
    (25, "use I/O bitmaps"),
    (27, "monitor trap flag"),
    (28, "use MSR bitmaps"),
    (29, "MONITOR exiting"),
    (30, "PAUSE exiting"),
    (31, "activate secondary controls"),
];

const SECONDARY: &[(u8, &str)] = &[
    (0, "virtualize APIC accesses"),
    (1, "enable EPT"),
    (2, "descriptor-table exiting"),
    (3, "enable RDTSCP"),
    (4, "virtualize x2APIC mode"),
    (5, "enable VPID"),
    (6, "WBINVD exiting"),
    (7, "unrestricted guest"),
];

const EXIT: &[(u8, &str)] = &[
    (2, "save debug controls"),
    (9, "host address-space size"),
    (12, "load IA32_PERF_GLOBAL_CTRL"),
    (15, "acknowledge interrupt on exit"),
    (18, "save IA32_PAT"),
    (19, "load IA32_PAT"),
    (20, "save IA32_EFER"),
    (21, "load IA32_EFER"),
    (22, "save VMX-preemption timer value"),
];

const ENTRY: &[(u8, &str)] = &[
    (2, "load debug controls"),
    (9, "IA-32e mode guest"),
    (10, "entry to SMM"),
    (11, "deactivate dual-monitor treatment"),
    (13, "load IA32_PERF_GLOBAL_CTRL"),
    (14, "load IA32_PAT"),
    (15, "load IA32_EFER"),
];

const CR0: &[(u8, &str)] = &[
    (0, "PE"),
    (1, "MP"),
    (2, "EM"),
    (3, "TS"),
    (4, "ET"),
    (5, "NE"),
    (16, "WP"),
    (18, "AM"),
    (29, "NW"),
    (30, "CD"),
    (31, "PG"),
];

const CR4: &[(u8, &str)] = &[
    (0, "VME"),
    (1, "PVI"),
    (2, "TSD"),
    (3, "DE"),
    (4, "PSE"),
    (5, "PAE"),
    (6, "MCE"),
    (7, "PGE"),
    (8, "PCE"),
    (9, "OSFXSR"),
    (10, "OSXMMEXCPT"),
    (11, "UMIP"),
    (13, "VMXE"),
    (14, "SMXE"),
];

const RFLAGS: &[(u8, &str)] = &[
    (0, "CF"),
    (1, "1 (reserved)"),
    (2, "PF"),
    (4, "AF"),
    (6, "ZF"),
    (7, "SF"),
    (8, "TF"),
    (9, "IF"),
    (10, "DF"),
    (11, "OF"),
    (12, "IOPL bit 0"),
    (13, "IOPL bit 1"),
    (14, "NT"),
    (16, "RF"),
    (17, "VM"),
    (18, "AC"),
    (19, "VIF"),
    (20, "VIP"),
    (21, "ID"),
];

const BLOCKING: &[(u8, &str)] =
    &[(0, "blocking by STI"), (1, "blocking by MOV SS"), (2, "blocking by SMI"), (3, "blocking by NMI")];

const PENDING: &[(u8, &str)] = &[
    (0, "breakpoint 0"),
    (1, "breakpoint 1"),
    (2, "breakpoint 2"),
    (3, "breakpoint 3"),
    (12, "enabled breakpoint"),
    (14, "BS"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::vmx::caps::{YONAH, YONAH_EPT};
    use crate::cpu::vmx::{EntryControls, Pin, Primary, Secondary};

    #[test]
    fn bits_have_the_manuals_names() {
        let pin = named(Field::PinControls).unwrap();
        assert_eq!(pin.set(0x17), ["external-interrupt exiting"], "default-1 bits have no name");
        assert_eq!(pin.clear(0x17, YONAH.pin.may), ["NMI exiting"]);
        assert_eq!(named(Field::ExceptionBitmap).unwrap().set(1 << 14 | 1 << 6), ["#UD", "#PF"]);
        assert_eq!(named(Field::GuestCr0).unwrap().set(0x8000_0041), ["PE", "bit 6", "PG"]);
        assert_eq!(named(Field::GuestCs), None);
    }

    /// Every control that a model lets a hypervisor choose has a name.
    #[test]
    fn controls_that_can_be_chosen_are_named() {
        let caps = YONAH_EPT;
        let fields = [
            (Field::PinControls, caps.pin),
            (Field::PrimaryControls, caps.primary),
            (Field::SecondaryControls, caps.secondary.unwrap()),
            (Field::ExitControls, caps.exit),
            (Field::EntryControls, caps.entry),
        ];
        for (field, allowed) in fields {
            for n in (0..32).filter(|n| (allowed.may & !allowed.must) >> n & 1 != 0) {
                assert!(named(field).unwrap().name(n).is_some(), "{field:?} bit {n}");
            }
        }
    }

    #[test]
    fn names_are_those_of_the_bits_that_the_processor_reads() {
        let name = |field, bits: u32| named(field).unwrap().name(bits.trailing_zeros() as u8);
        assert_eq!(name(Field::PinControls, Pin::TIMER.bits()), Some("activate VMX-preemption timer"));
        assert_eq!(name(Field::PrimaryControls, Primary::HLT.bits()), Some("HLT exiting"));
        assert_eq!(name(Field::PrimaryControls, Primary::IO_BITMAPS.bits()), Some("use I/O bitmaps"));
        assert_eq!(
            name(Field::SecondaryControls, Secondary::UNRESTRICTED.bits()),
            Some("unrestricted guest")
        );
        assert_eq!(name(Field::EntryControls, EntryControls::LOAD_EFER.bits()), Some("load IA32_EFER"));
    }
}
