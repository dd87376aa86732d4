//! The fields of a virtual-machine control structure: names, encodings, and which processors have them (SDM
//! vol. 3, appendix B and 24.11.2).

/// What a processor must offer for a field to exist (SDM vol. 3, appendix B, footnotes).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing beyond VMX.
    Vmx,
    /// The control "use TPR shadow".
    TprShadow,
    /// The control "use MSR bitmaps".
    MsrBitmaps,
    /// The control "activate secondary controls".
    Secondary,
    /// The control "enable EPT".
    Ept,
    /// The control "enable VPID".
    Vpid,
    /// Controls that load or save IA32_PAT.
    Pat,
    /// Controls that load or save IA32_EFER.
    Efer,
    /// The control "activate VMX-preemption timer".
    Timer,
}

/// How wide a field is (bits 14-13 of its encoding).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 16 bits.
    Word,
    /// 64 bits, of which the odd encoding names the upper half.
    Quad,
    /// 32 bits.
    Dword,
    /// As wide as the processor: 32 bits here.
    Natural,
}

/// What a field is for (bits 11-10 of its encoding).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Area {
    /// Controls of execution, exit and entry.
    Control,
    /// Information about the last VM exit, or about the last failure: read-only.
    ExitInformation,
    /// State of the guest.
    Guest,
    /// State of the host, loaded by a VM exit.
    Host,
}

macro_rules! fields {
    ($($Field:ident $encoding:literal $need:ident $name:literal;)*) => {
        /// A field of the control structure, by the manual's name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Field { $(#[doc = $name] $Field,)* }

        impl Field {
            /// All fields, in the order of their encodings within each width.
            pub const ALL: &[Self] = &[$(Self::$Field),*];
            const ENCODINGS: &[u16] = &[$($encoding),*];
            const NEEDS: &[Need] = &[$(Need::$need),*];
            const NAMES: &[&str] = &[$($name),*];
        }
    };
}

fields! {
    Vpid                    0x0000 Vpid       "Virtual-processor identifier";
    GuestEs                 0x0800 Vmx        "Guest ES selector";
    GuestCs                 0x0802 Vmx        "Guest CS selector";
    GuestSs                 0x0804 Vmx        "Guest SS selector";
    GuestDs                 0x0806 Vmx        "Guest DS selector";
    GuestFs                 0x0808 Vmx        "Guest FS selector";
    GuestGs                 0x080a Vmx        "Guest GS selector";
    GuestLdtr               0x080c Vmx        "Guest LDTR selector";
    GuestTr                 0x080e Vmx        "Guest TR selector";
    HostEs                  0x0c00 Vmx        "Host ES selector";
    HostCs                  0x0c02 Vmx        "Host CS selector";
    HostSs                  0x0c04 Vmx        "Host SS selector";
    HostDs                  0x0c06 Vmx        "Host DS selector";
    HostFs                  0x0c08 Vmx        "Host FS selector";
    HostGs                  0x0c0a Vmx        "Host GS selector";
    HostTr                  0x0c0c Vmx        "Host TR selector";
    IoBitmapA               0x2000 Vmx        "Address of I/O bitmap A";
    IoBitmapB               0x2002 Vmx        "Address of I/O bitmap B";
    MsrBitmaps              0x2004 MsrBitmaps "Address of MSR bitmaps";
    ExitMsrStore            0x2006 Vmx        "VM-exit MSR-store address";
    ExitMsrLoad             0x2008 Vmx        "VM-exit MSR-load address";
    EntryMsrLoad            0x200a Vmx        "VM-entry MSR-load address";
    ExecutiveVmcs           0x200c Vmx        "Executive-VMCS pointer";
    TscOffset               0x2010 Vmx        "TSC offset";
    VirtualApic             0x2012 TprShadow  "Virtual-APIC address";
    ApicAccess              0x2014 Secondary  "APIC-access address";
    EptPointer              0x201a Ept        "EPT pointer";
    GuestPhysical           0x2400 Ept        "Guest-physical address";
    LinkPointer             0x2800 Vmx        "VMCS link pointer";
    GuestDebugctl           0x2802 Vmx        "Guest IA32_DEBUGCTL";
    GuestPat                0x2804 Pat        "Guest IA32_PAT";
    GuestEfer               0x2806 Efer       "Guest IA32_EFER";
    GuestPdpte0             0x280a Ept        "Guest PDPTE0";
    GuestPdpte1             0x280c Ept        "Guest PDPTE1";
    GuestPdpte2             0x280e Ept        "Guest PDPTE2";
    GuestPdpte3             0x2810 Ept        "Guest PDPTE3";
    HostPat                 0x2c00 Pat        "Host IA32_PAT";
    HostEfer                0x2c02 Efer       "Host IA32_EFER";
    PinControls             0x4000 Vmx        "Pin-based VM-execution controls";
    PrimaryControls         0x4002 Vmx        "Primary processor-based VM-execution controls";
    ExceptionBitmap         0x4004 Vmx        "Exception bitmap";
    PageFaultMask           0x4006 Vmx        "Page-fault error-code mask";
    PageFaultMatch          0x4008 Vmx        "Page-fault error-code match";
    Cr3TargetCount          0x400a Vmx        "CR3-target count";
    ExitControls            0x400c Vmx        "VM-exit controls";
    ExitMsrStoreCount       0x400e Vmx        "VM-exit MSR-store count";
    ExitMsrLoadCount        0x4010 Vmx        "VM-exit MSR-load count";
    EntryControls           0x4012 Vmx        "VM-entry controls";
    EntryMsrLoadCount       0x4014 Vmx        "VM-entry MSR-load count";
    EntryInterruption       0x4016 Vmx        "VM-entry interruption-information field";
    EntryErrorCode          0x4018 Vmx        "VM-entry exception error code";
    EntryLength             0x401a Vmx        "VM-entry instruction length";
    TprThreshold            0x401c TprShadow  "TPR threshold";
    SecondaryControls       0x401e Secondary  "Secondary processor-based VM-execution controls";
    InstructionError        0x4400 Vmx        "VM-instruction error";
    ExitReason              0x4402 Vmx        "Exit reason";
    ExitInterruption        0x4404 Vmx        "VM-exit interruption information";
    ExitErrorCode           0x4406 Vmx        "VM-exit interruption error code";
    IdtVectoring            0x4408 Vmx        "IDT-vectoring information field";
    IdtVectoringErrorCode   0x440a Vmx        "IDT-vectoring error code";
    ExitLength              0x440c Vmx        "VM-exit instruction length";
    ExitInstruction         0x440e Vmx        "VM-exit instruction information";
    GuestEsLimit            0x4800 Vmx        "Guest ES limit";
    GuestCsLimit            0x4802 Vmx        "Guest CS limit";
    GuestSsLimit            0x4804 Vmx        "Guest SS limit";
    GuestDsLimit            0x4806 Vmx        "Guest DS limit";
    GuestFsLimit            0x4808 Vmx        "Guest FS limit";
    GuestGsLimit            0x480a Vmx        "Guest GS limit";
    GuestLdtrLimit          0x480c Vmx        "Guest LDTR limit";
    GuestTrLimit            0x480e Vmx        "Guest TR limit";
    GuestGdtrLimit          0x4810 Vmx        "Guest GDTR limit";
    GuestIdtrLimit          0x4812 Vmx        "Guest IDTR limit";
    GuestEsRights           0x4814 Vmx        "Guest ES access rights";
    GuestCsRights           0x4816 Vmx        "Guest CS access rights";
    GuestSsRights           0x4818 Vmx        "Guest SS access rights";
    GuestDsRights           0x481a Vmx        "Guest DS access rights";
    GuestFsRights           0x481c Vmx        "Guest FS access rights";
    GuestGsRights           0x481e Vmx        "Guest GS access rights";
    GuestLdtrRights         0x4820 Vmx        "Guest LDTR access rights";
    GuestTrRights           0x4822 Vmx        "Guest TR access rights";
    Interruptibility        0x4824 Vmx        "Guest interruptibility state";
    Activity                0x4826 Vmx        "Guest activity state";
    Smbase                  0x4828 Vmx        "Guest SMBASE";
    GuestSysenterCs         0x482a Vmx        "Guest IA32_SYSENTER_CS";
    TimerValue              0x482e Timer      "VMX-preemption timer value";
    HostSysenterCs          0x4c00 Vmx        "Host IA32_SYSENTER_CS";
    Cr0Mask                 0x6000 Vmx        "CR0 guest/host mask";
    Cr4Mask                 0x6002 Vmx        "CR4 guest/host mask";
    Cr0Shadow               0x6004 Vmx        "CR0 read shadow";
    Cr4Shadow               0x6006 Vmx        "CR4 read shadow";
    Cr3Target0              0x6008 Vmx        "CR3-target value 0";
    Cr3Target1              0x600a Vmx        "CR3-target value 1";
    Cr3Target2              0x600c Vmx        "CR3-target value 2";
    Cr3Target3              0x600e Vmx        "CR3-target value 3";
    ExitQualification       0x6400 Vmx        "Exit qualification";
    IoRcx                   0x6402 Vmx        "I/O RCX";
    IoRsi                   0x6404 Vmx        "I/O RSI";
    IoRdi                   0x6406 Vmx        "I/O RDI";
    IoRip                   0x6408 Vmx        "I/O RIP";
    GuestLinear             0x640a Vmx        "Guest-linear address";
    GuestCr0                0x6800 Vmx        "Guest CR0";
    GuestCr3                0x6802 Vmx        "Guest CR3";
    GuestCr4                0x6804 Vmx        "Guest CR4";
    GuestEsBase             0x6806 Vmx        "Guest ES base";
    GuestCsBase             0x6808 Vmx        "Guest CS base";
    GuestSsBase             0x680a Vmx        "Guest SS base";
    GuestDsBase             0x680c Vmx        "Guest DS base";
    GuestFsBase             0x680e Vmx        "Guest FS base";
    GuestGsBase             0x6810 Vmx        "Guest GS base";
    GuestLdtrBase           0x6812 Vmx        "Guest LDTR base";
    GuestTrBase             0x6814 Vmx        "Guest TR base";
    GuestGdtrBase           0x6816 Vmx        "Guest GDTR base";
    GuestIdtrBase           0x6818 Vmx        "Guest IDTR base";
    GuestDr7                0x681a Vmx        "Guest DR7";
    GuestRsp                0x681c Vmx        "Guest RSP";
    GuestRip                0x681e Vmx        "Guest RIP";
    GuestRflags             0x6820 Vmx        "Guest RFLAGS";
    PendingDebug            0x6822 Vmx        "Guest pending debug exceptions";
    GuestSysenterEsp        0x6824 Vmx        "Guest IA32_SYSENTER_ESP";
    GuestSysenterEip        0x6826 Vmx        "Guest IA32_SYSENTER_EIP";
    HostCr0                 0x6c00 Vmx        "Host CR0";
    HostCr3                 0x6c02 Vmx        "Host CR3";
    HostCr4                 0x6c04 Vmx        "Host CR4";
    HostFsBase              0x6c06 Vmx        "Host FS base";
    HostGsBase              0x6c08 Vmx        "Host GS base";
    HostTrBase              0x6c0a Vmx        "Host TR base";
    HostGdtrBase            0x6c0c Vmx        "Host GDTR base";
    HostIdtrBase            0x6c0e Vmx        "Host IDTR base";
    HostSysenterEsp         0x6c10 Vmx        "Host IA32_SYSENTER_ESP";
    HostSysenterEip         0x6c12 Vmx        "Host IA32_SYSENTER_EIP";
    HostRsp                 0x6c14 Vmx        "Host RSP";
    HostRip                 0x6c16 Vmx        "Host RIP";
}

impl Field {
    /// The encoding that VMREAD and VMWRITE take; of a 64-bit field that of the whole or the lower half.
    pub const fn encoding(self) -> u16 {
        Self::ENCODINGS[self as usize]
    }

    /// What a processor must offer to have the field.
    pub const fn need(self) -> Need {
        Self::NEEDS[self as usize]
    }

    /// The manual's name.
    pub const fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    /// The width.
    pub const fn width(self) -> Width {
        match self.encoding() >> 13 & 3 {
            0 => Width::Word,
            1 => Width::Quad,
            2 => Width::Dword,
            _ => Width::Natural,
        }
    }

    /// The area.
    pub const fn area(self) -> Area {
        match self.encoding() >> 10 & 3 {
            0 => Area::Control,
            1 => Area::ExitInformation,
            2 => Area::Guest,
            _ => Area::Host,
        }
    }

    /// The bits that the field has.
    pub const fn mask(self) -> u64 {
        match self.width() {
            Width::Word => 0xffff,
            Width::Quad => u64::MAX,
            Width::Dword | Width::Natural => 0xffff_ffff,
        }
    }

    /// The field that `encoding` names, and whether the encoding is that of a 64-bit field's upper half.
    pub fn of(encoding: u32) -> Option<(Self, bool)> {
        let high = encoding & 1 != 0;
        let field = Self::ALL.iter().copied().find(|f| u32::from(f.encoding()) == encoding & !1)?;
        (!high || field.width() == Width::Quad).then_some((field, high))
    }
}

/// The segment registers' fields, by the number of the register: ES, CS, SS, DS, FS, GS, LDTR, TR.
pub const SEGMENTS: [SegmentFields; 8] = {
    use Field::*;
    [
        SegmentFields { selector: GuestEs, base: GuestEsBase, limit: GuestEsLimit, rights: GuestEsRights },
        SegmentFields { selector: GuestCs, base: GuestCsBase, limit: GuestCsLimit, rights: GuestCsRights },
        SegmentFields { selector: GuestSs, base: GuestSsBase, limit: GuestSsLimit, rights: GuestSsRights },
        SegmentFields { selector: GuestDs, base: GuestDsBase, limit: GuestDsLimit, rights: GuestDsRights },
        SegmentFields { selector: GuestFs, base: GuestFsBase, limit: GuestFsLimit, rights: GuestFsRights },
        SegmentFields { selector: GuestGs, base: GuestGsBase, limit: GuestGsLimit, rights: GuestGsRights },
        SegmentFields {
            selector: GuestLdtr,
            base: GuestLdtrBase,
            limit: GuestLdtrLimit,
            rights: GuestLdtrRights,
        },
        SegmentFields { selector: GuestTr, base: GuestTrBase, limit: GuestTrLimit, rights: GuestTrRights },
    ]
};

/// The four fields of a guest segment register.
#[derive(Clone, Copy, Debug)]
pub struct SegmentFields {
    /// The selector.
    pub selector: Field,
    /// The base address.
    pub base: Field,
    /// The limit, in bytes.
    pub limit: Field,
    /// Access rights (SDM vol. 3, table 24-2).
    pub rights: Field,
}

/// Host selector fields, by the number of the register: ES, CS, SS, DS, FS, GS.
pub const HOST_SELECTORS: [Field; 6] =
    [Field::HostEs, Field::HostCs, Field::HostSs, Field::HostDs, Field::HostFs, Field::HostGs];

/// The guest's PDPTE fields.
pub const PDPTES: [Field; 4] =
    [Field::GuestPdpte0, Field::GuestPdpte1, Field::GuestPdpte2, Field::GuestPdpte3];

/// The CR3-target values.
pub const CR3_TARGETS: [Field; 4] =
    [Field::Cr3Target0, Field::Cr3Target1, Field::Cr3Target2, Field::Cr3Target3];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_unique_and_even_and_name_their_fields() {
        for &field in Field::ALL {
            assert_eq!(field.encoding() & 1, 0, "{field:?}");
            assert_eq!(Field::of(u32::from(field.encoding())), Some((field, false)));
            let high = Field::of(u32::from(field.encoding()) + 1);
            assert_eq!(high, (field.width() == Width::Quad).then_some((field, true)), "{field:?}");
        }
        assert_eq!(Field::of(0x6c18), None);
        assert_eq!(Field::of(0x1_0000 | 0x6800), None);
    }

    #[test]
    fn areas_follow_the_names() {
        for &field in Field::ALL {
            let name = field.name();
            let guest =
                name.starts_with("Guest") && !matches!(field, Field::GuestPhysical | Field::GuestLinear);
            assert!(!guest || field.area() == Area::Guest, "{name}");
            assert_eq!(name.starts_with("Host"), field.area() == Area::Host, "{name}");
        }
    }
}
