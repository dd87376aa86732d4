//! The seam between the machine and a monitor, and between a monitor and its observers. The machine keeps the
//! guest's processor, its world, its time and the delivery of its events; a monitor takes over the running of
//! its instructions, on a real processor of its own. Observers ask a monitor for its cell, its report and its
//! views, never for its type.

use super::{Limits, Machine, Outcome, World};
use crate::addr::{GuestPhys, Linear, MachineAddr, PAGE_SHIFT};
use crate::bus::Ticks;
use crate::cell::{Cell, Engine};
use crate::cpu::{Cpu, Features};
use crate::interp::Stop;
use crate::mem::{P2m, Ram};
use crate::report::{
    Counts, Exit, Exits, Journal, Key, Leaf, MmuCounts, NestedCounts, NestedLeaf, Noted, Obstacle, Reason,
    Report, Role, Root,
};
use crate::translate::{RuleId, TranslatedCode};
use std::collections::BTreeMap;

/// Runs a guest's instructions in the place of the bare processor.
pub trait Monitor {
    /// The cell that this monitor realises.
    fn cell(&self) -> Cell;
    /// What was counted so far, all of it.
    fn report(&self) -> Report;
    /// Who ran the instructions so far.
    fn counts(&self) -> &Counts;
    /// Exits so far.
    fn exits(&self) -> &Exits;
    /// Keeps a log of exits from now on, or none.
    fn log_exits(&mut self, on: bool);
    /// The exits that were logged since the last call, in their order.
    fn take_log(&mut self) -> Vec<Exit>;

    /// Runs the guest from the state in `cpu` until `until`, a fault of the guest's own, or a reason to stop.
    /// On return `cpu` holds the state as the bare processor would leave it.
    fn run(&mut self, cpu: &mut Cpu, world: &mut World, until: Ticks) -> Stop;
    /// A maskable interrupt is about to be delivered to the guest.
    fn interrupted(&mut self, cpu: &Cpu, world: &mut World);
    /// Returns at each boundary from now on, or no longer: at exits, and at the ends of translation units or
    /// of instructions that run directly.
    fn stop_at_boundaries(&mut self, on: bool);
    /// Returns before each sensitive instruction that the real processor would run without a fault, from now
    /// on, or no longer. A monitor under which no such instruction runs has nothing to do.
    fn stop_before_sensitive(&mut self, on: bool) {
        let _ = on;
    }
    /// Brings tables and caches up to what the guest did last, for an observer, as before the guest runs on.
    fn follow(&mut self, cpu: &Cpu, world: &mut World);
    /// Processor, memory or chips were replaced from outside: nothing that was derived from them counts any
    /// more.
    fn forget(&mut self, world: &mut World);

    /// The real processor, if the guest runs on one de-privileged.
    fn processor(&self) -> Option<&dyn ProcessorView> {
        None
    }
    /// The shadow page tables, if there are any.
    fn shadow(&self) -> Option<&dyn ShadowView> {
        None
    }
    /// The shadow page tables, to keep a journal of.
    fn shadow_mut(&mut self) -> Option<&mut dyn ShadowView> {
        None
    }
    /// The extended page tables, if there are any.
    fn nested(&self) -> Option<&dyn NestedView> {
        None
    }
    /// The binary translation, if guest code is translated.
    fn translation(&self) -> Option<&dyn TranslationView> {
        None
    }
    /// The binary translation, to observe its units.
    fn translation_mut(&mut self) -> Option<&mut dyn TranslationView> {
        None
    }
}

/// A de-privileged guest's real processor, and Popek and Goldberg's map V from the guest's state to the real
/// one's.
pub trait ProcessorView {
    /// The real processor, as the guest last left it.
    fn real(&self) -> &Cpu;
    /// V of the guest's state, on the present tables.
    ///
    /// # Errors
    /// The reason why this state has no image.
    fn image(&self, guest: &Cpu) -> Result<Image, Obstacle>;
}

/// A guest's state under V.
pub struct Image {
    /// V of the state.
    pub real: Cpu,
    /// What V's inverse makes of that: the state itself.
    pub guest: Cpu,
}

/// Shadow page tables, as an observer sees them.
pub trait ShadowView {
    /// The address spaces that are kept.
    fn spaces(&self) -> Vec<(Key, Root)>;
    /// The kept address space that `cpu` is in.
    fn space_of(&self, cpu: &Cpu) -> Option<Root>;
    /// The address space that the real processor uses.
    fn current(&self) -> Option<(Key, Root)>;
    /// Whether the real processor uses the address space that `cpu` is in.
    fn is_entered(&self, cpu: &Cpu) -> bool;
    /// Every address space that has tables.
    fn roots(&self) -> Vec<Root>;
    /// Every entry of `root`, upwards, without the monitor's own.
    fn leaves(&self, ram: &Ram, root: Root) -> Vec<(Linear, Leaf)>;
    /// The entry of the page of `at`.
    fn entry(&self, ram: &Ram, root: Root, at: Linear) -> Option<Leaf>;
    /// Frames that hold tables now.
    fn tables(&self) -> usize;
    /// Why the frame of `at` is traced; empty if it is not.
    fn traced(&self, at: GuestPhys) -> Reason;
    /// The traced frames, upwards, with the reasons.
    fn all_traced(&self) -> Vec<(GuestPhys, Reason)>;
    /// What the frame of `at` is to the guest's page tables.
    fn roles(&self, at: GuestPhys) -> Vec<Role>;
    /// What was counted.
    fn counts(&self) -> &MmuCounts;
    /// The history of entries, if one is kept.
    fn journal(&self) -> Option<&Journal>;
    /// Keeps a history of entries in `journal` from now on.
    fn keep_journal(&mut self, journal: Journal);
    /// The changes that were logged since the last call, in their order.
    fn take_changes(&mut self) -> Vec<Noted>;
}

/// Extended page tables, as an observer sees them.
pub trait NestedView {
    /// The EPT pointer.
    fn pointer(&self) -> u64;
    /// Every entry that maps a frame, upwards.
    fn leaves(&self, ram: &Ram) -> Vec<(GuestPhys, NestedLeaf)>;
    /// The entry that maps the frame of `at`.
    fn entry(&self, ram: &Ram, at: GuestPhys) -> Option<NestedLeaf>;
    /// Frames that hold tables now.
    fn tables(&self) -> usize;
    /// What was counted.
    fn counts(&self) -> &NestedCounts;
}

/// Binary translation, as an observer sees it.
pub trait TranslationView {
    /// Translated code.
    fn translator(&self) -> &dyn TranslatedCode<World>;
    /// Translated code, to observe or to forget.
    fn translator_mut(&mut self) -> &mut dyn TranslatedCode<World>;
    /// Callouts by rule.
    fn callouts(&self) -> &BTreeMap<RuleId, u64>;
    /// Inline sequences run, by any rule.
    fn inlined(&self) -> u64;
}

impl Machine {
    /// Puts `monitor` between the guest and the processor, and the guest's memory into `memory`, where `p2m`
    /// says.
    pub fn virtualize(&mut self, monitor: Box<dyn Monitor>, memory: Ram, p2m: P2m) {
        self.world.virtualize(memory, p2m);
        self.set_engine(Engine::Interp);
        self.interp.forget();
        self.monitor = Some(monitor);
        self.hide_extensions();
    }

    /// From now on the guest's processor is without what monitors hide, as if there were one: the bare machine
    /// that others are held against.
    pub fn hide_as_monitors_do(&mut self) {
        self.plain = true;
        self.hide_extensions();
    }

    /// Takes from the guest's processor what a monitor cannot give to a guest: VMX, and execute-disable, for
    /// which its page tables have no bit. CPUID reports neither, and the instructions of VMX are undefined.
    pub(super) fn hide_extensions(&mut self) {
        if self.monitor.is_some() || self.plain {
            self.cpu.features &= Features::UMIP;
            self.cpu.vmx = None;
        }
    }

    /// Tells the monitor, if there is one, that the machine was changed from outside.
    pub(super) fn tell_monitor(&mut self) {
        if let Some(monitor) = &mut self.monitor {
            monitor.forget(&mut self.world);
        }
    }

    /// Lets the monitor, if there is one, follow what the guest did last, for an observer. The run does not
    /// change: the monitor would do the same before the guest's next instruction.
    pub fn follow(&mut self) {
        if let Some(monitor) = &mut self.monitor {
            monitor.follow(&self.cpu, &mut self.world);
        }
    }

    /// Runs to the first of `limits`, or to where the monitor next looked up: an exit, or the end of a
    /// translation unit. What was chained is passed link by link, as it would be without a stop. A fault of
    /// the guest's is found before it is delivered. On the bare machine there are no such boundaries.
    pub fn run_to_boundary(&mut self, limits: Limits) -> Outcome {
        self.stop_at_boundaries(true);
        let outcome = self.run(limits);
        self.stop_at_boundaries(false);
        outcome
    }

    /// Runs to the first of `limits`, or to before the next sensitive instruction that the real processor
    /// would run without a fault. Tells whether it stopped before one.
    pub fn run_to_sensitive(&mut self, limits: Limits) -> (Outcome, bool) {
        let stop = |machine: &mut Self, on| {
            if let Some(monitor) = &mut machine.monitor {
                monitor.stop_before_sensitive(on);
            }
        };
        stop(self, true);
        let outcome = self.run(limits);
        stop(self, false);
        (outcome, std::mem::take(&mut self.before_sensitive))
    }

    /// Runs to the first of `limits`, or to after the guest's next mark (port ECh), which is given with the
    /// outcome.
    pub fn run_to_mark(&mut self, limits: Limits) -> (Outcome, Option<u32>) {
        _ = self.world.board.take_mark();
        self.by_mark = true;
        let outcome = self.run(limits);
        self.by_mark = false;
        (outcome, self.world.board.take_mark())
    }

    fn stop_at_boundaries(&mut self, on: bool) {
        if let Some(monitor) = &mut self.monitor {
            monitor.stop_at_boundaries(on);
            self.by_boundary = on;
        }
    }

    /// The pages of the guest's memory that were written, by whomever, since this was last called (at first:
    /// all of them), by number.
    pub fn take_written(&mut self) -> Vec<u32> {
        let pages = self.world.take_written_pages();
        let p2m = self.world.map.p2m();
        let guest = |page| p2m.guest(MachineAddr(page << PAGE_SHIFT)).map(GuestPhys::page_number);
        pages.into_iter().filter_map(guest).collect()
    }

    /// A number that changes whenever a chip may have.
    pub fn chip_contacts(&self) -> u64 {
        self.world.contacts
    }

    /// The cell of the cube that runs the guest.
    pub fn cell(&self) -> Cell {
        match (self.monitor(), &self.translated) {
            (Some(monitor), _) => monitor.cell(),
            (None, None) => Cell::BARE,
            (None, Some(_)) => Cell::BARE_PORTABLE,
        }
    }

    /// The monitor between the guest and the processor, if there is one.
    pub fn monitor(&self) -> Option<&dyn Monitor> {
        self.monitor.as_deref()
    }

    /// The monitor, to change what observers may.
    pub fn monitor_mut(&mut self) -> Option<&mut dyn Monitor> {
        self.monitor.as_deref_mut().map(|monitor| monitor as &mut dyn Monitor)
    }

    /// Whether a monitor stands between the guest and the processor.
    pub fn has_monitor(&self) -> bool {
        self.monitor.is_some()
    }

    /// The shadow page tables of the monitor, if there are any.
    pub fn shadow(&self) -> Option<&dyn ShadowView> {
        self.monitor()?.shadow()
    }

    /// The extended page tables of the monitor, if there are any.
    pub fn nested(&self) -> Option<&dyn NestedView> {
        self.monitor()?.nested()
    }

    /// The binary translation of the monitor, if there is any.
    pub fn translation(&self) -> Option<&dyn TranslationView> {
        self.monitor()?.translation()
    }
}
