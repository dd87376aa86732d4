//! The control fields' bits (SDM vol. 3, 24.6 to 24.8).

use bitflags::bitflags;
use serde::{Deserialize, Serialize};

bitflags! {
    /// Pin-based VM-execution controls (SDM vol. 3, table 24-5).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
    pub struct Pin: u32 {
        /// External interrupts cause VM exits.
        const EXTERNAL_INTERRUPT = 1 << 0;
        /// Non-maskable interrupts cause VM exits.
        const NMI = 1 << 3;
        /// NMIs are never blocked, and blocking is the guest's own.
        const VIRTUAL_NMIS = 1 << 5;
        /// The VMX-preemption timer counts down.
        const TIMER = 1 << 6;
        const _ = !0;
    }

    /// Primary processor-based VM-execution controls (SDM vol. 3, table 24-6).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
    pub struct Primary: u32 {
        /// A VM exit as soon as the guest is open to interrupts.
        const INTERRUPT_WINDOW = 1 << 2;
        /// RDTSC and RDMSR of IA32_TIME_STAMP_COUNTER add the TSC offset.
        const TSC_OFFSETTING = 1 << 3;
        /// HLT.
        const HLT = 1 << 7;
        /// INVLPG.
        const INVLPG = 1 << 9;
        /// MWAIT.
        const MWAIT = 1 << 10;
        /// RDPMC.
        const RDPMC = 1 << 11;
        /// RDTSC.
        const RDTSC = 1 << 12;
        /// MOV to CR3.
        const CR3_LOAD = 1 << 15;
        /// MOV from CR3.
        const CR3_STORE = 1 << 16;
        /// The virtual-APIC page holds a TPR shadow.
        const TPR_SHADOW = 1 << 21;
        /// A VM exit as soon as there is no virtual-NMI blocking.
        const NMI_WINDOW = 1 << 22;
        /// MOV to and from debug registers.
        const MOV_DR = 1 << 23;
        /// Every IN and OUT.
        const UNCONDITIONAL_IO = 1 << 24;
        /// IN and OUT by the I/O bitmaps.
        const IO_BITMAPS = 1 << 25;
        /// RDMSR and WRMSR by the MSR bitmaps.
        const MSR_BITMAPS = 1 << 28;
        /// MONITOR.
        const MONITOR = 1 << 29;
        /// PAUSE.
        const PAUSE = 1 << 30;
        /// There are secondary controls.
        const SECONDARY = 1 << 31;
        const _ = !0;
    }

    /// Secondary processor-based VM-execution controls (SDM vol. 3, table 24-7).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
    pub struct Secondary: u32 {
        /// The APIC-access page.
        const APIC_ACCESSES = 1 << 0;
        /// Extended page tables.
        const EPT = 1 << 1;
        /// LGDT, LIDT, LLDT, LTR, SGDT, SIDT, SLDT and STR.
        const DESCRIPTOR_TABLES = 1 << 2;
        /// Cached translations are tagged by the virtual-processor identifier.
        const VPID = 1 << 5;
        /// WBINVD.
        const WBINVD = 1 << 6;
        /// The guest may run unpaged and in real mode.
        const UNRESTRICTED = 1 << 7;
        const _ = !0;
    }

    /// VM-exit controls (SDM vol. 3, table 24-10).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
    pub struct ExitControls: u32 {
        /// DR7 and IA32_DEBUGCTL are saved.
        const SAVE_DEBUG = 1 << 2;
        /// The host is in 64-bit mode.
        const HOST_64 = 1 << 9;
        /// An external interrupt is acknowledged, and its vector saved.
        const ACKNOWLEDGE = 1 << 15;
        /// IA32_PAT is saved.
        const SAVE_PAT = 1 << 18;
        /// IA32_PAT is loaded.
        const LOAD_PAT = 1 << 19;
        /// IA32_EFER is saved.
        const SAVE_EFER = 1 << 20;
        /// IA32_EFER is loaded.
        const LOAD_EFER = 1 << 21;
        /// The VMX-preemption timer is saved.
        const SAVE_TIMER = 1 << 22;
        const _ = !0;
    }

    /// VM-entry controls (SDM vol. 3, table 24-12).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
    pub struct EntryControls: u32 {
        /// DR7 and IA32_DEBUGCTL are loaded.
        const LOAD_DEBUG = 1 << 2;
        /// The guest is in IA-32e mode.
        const GUEST_64 = 1 << 9;
        /// The processor is in system-management mode after the entry.
        const TO_SMM = 1 << 10;
        /// The dual-monitor treatment of SMIs ends.
        const NO_DUAL_MONITOR = 1 << 11;
        /// IA32_PAT is loaded.
        const LOAD_PAT = 1 << 14;
        /// IA32_EFER is loaded.
        const LOAD_EFER = 1 << 15;
        const _ = !0;
    }
}
