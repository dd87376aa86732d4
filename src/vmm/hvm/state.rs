//! What the monitor keeps: the real processor, tables, and what was counted.

use super::controls;
use super::paging::Paging;
use super::v::V;
use crate::addr::MachineAddr;
use crate::cell::Cell;
use crate::cpu::vmx::{Field, Primary, Vmx};
use crate::cpu::{Cpu, Model};
use crate::interp::Interp;
use crate::machine::World;
use crate::mem::Ram;
use crate::report::Walks;
use crate::vmm::insn::FaultingInsns;
use crate::vmm::ledger::Ledger;

/// Frames of the monitor's own beside tables: the VMXON region, the control structure, an empty page directory.
pub(in crate::vmm) const PAGES: usize = 3;

/// A hypervisor and its processor.
pub(in crate::vmm) struct Hvm {
    pub(super) cell: Cell,
    pub(super) paging: Paging,
    pub(super) v: V,
    pub(super) real: Cpu,
    pub(super) ledger: Ledger,
    own: [MachineAddr; PAGES],
    /// Runs the real processor.
    pub(super) direct: Interp<World>,
    /// Runs the virtual processor, an instruction at a time.
    pub(super) emulator: Interp<World>,
    /// The instructions that faulted last, decoded.
    pub(super) faulting: FaultingInsns,
    pub(super) map_epoch: Option<u32>,
    /// Returns at each exit, and after each instruction.
    pub(super) by_boundary: bool,
    /// The guest was not left since it was entered: a deadline stopped it, or an exception of its own, which
    /// causes no exit. Going on is no new entry.
    pub(super) inside: bool,
    /// The instruction that was emulated last wrote to a traced frame.
    pub(super) wrote: bool,
    /// Two-dimensional walks, as the world counted them when the guest last stopped.
    pub(super) walks: Walks,
    /// EIP of the repeated instruction whose emulation the deadline cut short.
    pub(super) cut_short: Option<u32>,
}

impl Hvm {
    /// A hypervisor for `cell` on a processor of `model`, with `own` frames.
    pub(in crate::vmm) fn new(
        cell: Cell,
        model: Model,
        ram: &mut Ram,
        own: [MachineAddr; PAGES],
        paging: Paging,
    ) -> Self {
        let mut real = Cpu::of(model);
        if let Some(vmx) = &mut real.vmx {
            controls::set_up(vmx, ram, own, paging.ept_pointer());
        }
        Self {
            cell,
            paging,
            v: V::new(model),
            real,
            ledger: Ledger::default(),
            own,
            direct: Interp::default(),
            emulator: Interp::default(),
            faulting: FaultingInsns::default(),
            map_epoch: None,
            by_boundary: false,
            inside: false,
            wrote: false,
            walks: Walks::default(),
            cut_short: None,
        }
    }

    /// The monitor's own machine frames, which the guest must not change.
    pub(super) fn own_frames(&self) -> impl Iterator<Item = MachineAddr> + use<> {
        self.own.into_iter().chain(self.paging.frames())
    }

    /// Whether the guest leaves when it lets interrupts through.
    pub(super) fn watches_window(&self) -> bool {
        let primary = |vmx: &Vmx| Primary::from_bits_retain(vmx.vmcs.get32(Field::PrimaryControls));
        self.real.vmx.as_deref().is_some_and(|vmx| primary(vmx).contains(Primary::INTERRUPT_WINDOW))
    }

    /// Sets or clears "interrupt-window exiting".
    pub(super) fn watch_window(&mut self, on: bool) {
        let Some(vmx) = &mut self.real.vmx else { return };
        let mut primary = Primary::from_bits_retain(vmx.vmcs.get32(Field::PrimaryControls));
        primary.set(Primary::INTERRUPT_WINDOW, on);
        vmx.vmcs.set(Field::PrimaryControls, primary.bits());
    }

    /// Brings tables up to what the guest and its chips did since the guest last ran.
    pub(super) fn sync(&mut self, guest: &Cpu, world: &mut World) {
        let epoch = Some(world.map.epoch());
        let anew = self.map_epoch != epoch;
        self.map_epoch = epoch;
        let wrote = std::mem::take(&mut self.wrote);
        self.paging.sync(guest, world, anew, wrote);
    }
}
