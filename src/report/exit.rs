//! Exits: why the monitor was entered, how often, and where from.

use crate::bus::Ticks;
use crate::cpu::vmx;
use crate::decode::{Insn, Op};
use serde::{Serialize, Serializer};
use std::collections::BTreeMap;

/// Why the monitor was entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// A privileged instruction.
    Privileged,
    /// A port: IN, OUT, INS, OUTS.
    PortIo,
    /// HLT.
    Halt,
    /// INT n, INT3, INTO.
    SoftwareInterrupt,
    /// A load of a segment register, or a far transfer, that must not go unseen.
    SegmentReload,
    /// A page fault that is the guest's.
    TruePageFault,
    /// A page fault for a translation that the shadow did not have, or not with these rights.
    HiddenPageFault,
    /// A write to a page table of the guest's.
    TracePageTable,
    /// A write to a descriptor table of the guest's.
    TraceDescriptors,
    /// An access to a chip or to nothing, or a write to a ROM.
    Mmio,
    /// An access beyond a truncated segment, which the guest's own segment allows.
    Truncated,
    /// Another exception that is the guest's.
    Reflected,
    /// An interrupt of the guest's waited for the end of a one-instruction shadow.
    InterruptWindow,
    /// An interrupt of the guest's came.
    ExternalInterrupt,
    /// A VM exit with this basic reason. Page faults of a guest on shadow page tables, which exit with the
    /// reason "Exception or NMI", count as what the monitor finds them to be.
    Vmx(vmx::Reason),
}

impl Serialize for Cause {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(self.name())
    }
}

impl Cause {
    /// Every cause under ring compression, in the order of tables.
    pub const RING: [Self; 14] = [
        Self::Privileged,
        Self::PortIo,
        Self::Halt,
        Self::SoftwareInterrupt,
        Self::SegmentReload,
        Self::TruePageFault,
        Self::HiddenPageFault,
        Self::TracePageTable,
        Self::TraceDescriptors,
        Self::Mmio,
        Self::Truncated,
        Self::Reflected,
        Self::InterruptWindow,
        Self::ExternalInterrupt,
    ];

    /// The name in tables and in cost files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::PortIo => "port-io",
            Self::Halt => "halt",
            Self::SoftwareInterrupt => "software-interrupt",
            Self::SegmentReload => "segment-reload",
            Self::TruePageFault => "true-page-fault",
            Self::HiddenPageFault => "hidden-page-fault",
            Self::TracePageTable => "trace-page-table",
            Self::TraceDescriptors => "trace-descriptors",
            Self::Mmio => "mmio",
            Self::Truncated => "truncated",
            Self::Reflected => "reflected",
            Self::InterruptWindow => "interrupt-window",
            Self::ExternalInterrupt => "external-interrupt",
            Self::Vmx(reason) => reason.name(),
        }
    }

    /// The name in words of one piece: `hidden-page-fault`, `vmx-ept-violation`.
    pub fn key(self) -> String {
        match self {
            Self::Vmx(reason) => {
                format!("vmx-{}", reason.name().to_lowercase().replace('/', "").replace(' ', "-"))
            }
            _ => self.name().to_owned(),
        }
    }

    /// The reasons that guests of a hypervisor of ours exit for, by number.
    const VMX: [vmx::Reason; 26] = {
        use vmx::Reason::*;
        [
            Exception,
            ExternalInterrupt,
            InterruptWindow,
            TaskSwitch,
            Cpuid,
            Hlt,
            Invd,
            Invlpg,
            Rdpmc,
            Vmcall,
            Vmclear,
            Vmlaunch,
            Vmptrld,
            Vmptrst,
            Vmread,
            Vmresume,
            Vmwrite,
            Vmxoff,
            Vmxon,
            ControlRegister,
            Io,
            Rdmsr,
            Wrmsr,
            Mwait,
            Monitor,
            EptViolation,
        ]
    };

    /// The causes of VM exits, in the order of tables: page faults of guests on shadow page tables, then all else
    /// by its reason.
    pub fn under_vmx() -> impl Iterator<Item = Self> {
        let faults = [Self::TruePageFault, Self::HiddenPageFault, Self::TracePageTable, Self::Mmio];
        faults.into_iter().chain(Self::VMX.into_iter().map(Self::Vmx))
    }

    /// The causes in the order of tables: those of ring compression, then VM exits by their reasons.
    pub fn all() -> impl Iterator<Item = Self> + Clone {
        Self::RING.into_iter().chain(Self::VMX.into_iter().map(Self::Vmx))
    }

    /// What a general-protection fault of `insn` is about, if the emulation of it succeeds.
    pub fn of(insn: &Insn) -> Self {
        use Op::*;
        match insn.op {
            In | Out | Ins | Outs => Self::PortIo,
            Hlt => Self::Halt,
            Int | Int3 | Into | Int1 | Bound => Self::SoftwareInterrupt,
            MovToSeg | PopSeg | LoadFar | JmpFar | CallFar | JmpFarMem | CallFarMem | Retf | Iret => {
                Self::SegmentReload
            }
            Cli | Sti | Pushf | Popf | Sysenter | Sysexit | Lgdt | Lidt | Lldt | Ltr | Lmsw | Clts | Invd
            | Wbinvd | Invlpg | MovFromCr | MovToCr | MovFromDr | MovToDr | Rdtsc | Rdpmc | Rdmsr | Wrmsr
            | Sgdt | Sidt | Sldt | Str | Smsw => Self::Privileged,
            _ => Self::Truncated,
        }
    }
}

/// An exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Guest time.
    pub now: Ticks,
    /// Why.
    pub cause: Cause,
    /// The guest's CS selector.
    pub cs: u16,
    /// The guest's EIP.
    pub eip: u32,
}

/// Places that are counted apart; exits at others count by cause alone.
const MOST_SITES: usize = 4096;

/// What was counted of exits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exits {
    /// By cause.
    pub by_cause: BTreeMap<Cause, u64>,
    /// By cause and linear address of the instruction.
    pub by_site: BTreeMap<(Cause, u32), u64>,
}

impl Exits {
    /// Counts an exit, at the linear address `at`.
    pub fn count(&mut self, cause: Cause, at: u32) {
        *self.by_cause.entry(cause).or_default() += 1;
        if self.by_site.len() < MOST_SITES || self.by_site.contains_key(&(cause, at)) {
            *self.by_site.entry((cause, at)).or_default() += 1;
        }
    }

    /// Exits, all together.
    pub fn total(&self) -> u64 {
        self.by_cause.values().sum()
    }

    /// Exits of `cause`.
    pub fn of(&self, cause: Cause) -> u64 {
        self.by_cause.get(&cause).copied().unwrap_or(0)
    }
}
