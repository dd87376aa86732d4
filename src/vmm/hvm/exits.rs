//! What a VM exit means: an instruction to be emulated, a translation to be made, or an exception of the
//! guest's own.

use super::state::Hvm;
use crate::addr::{GuestPhys, Linear};
use crate::cpu::fault::pf;
use crate::cpu::vmx::{EventType, Exit, Reason};
use crate::cpu::{Cpu, Eflags, Fault, Vector};
use crate::interp::{self, Stop};
use crate::machine::{Walked, World};
use crate::mmu::ept::qualification;
use crate::mmu::paging::Access;
use crate::report::{self, Cause};
use crate::vmm::invariants;
use crate::vmm::memory::{Resolution, Violated};
use crate::vmm::place::place;

use super::paging::Paging;

impl Hvm {
    /// Handles a VM exit; the instruction that caused it had begun with RF set or not. `None`: the guest can go
    /// on.
    pub(super) fn exited(
        &mut self,
        guest: &mut Cpu,
        world: &mut World,
        exit: Exit,
        resumed: bool,
    ) -> Option<Stop> {
        match exit.reason {
            Reason::InterruptWindow => {
                self.ledger.count(world, Cause::Vmx(exit.reason), place(guest));
                Some(Stop::Exit(interp::Exit::Interrupt))
            }
            Reason::Exception => self.exception(guest, world, &exit, resumed),
            Reason::EptViolation => {
                give_back_rf(guest, resumed);
                self.ept_violation(guest, world, &exit)
            }
            reason => {
                give_back_rf(guest, resumed);
                self.emulate(guest, world, Cause::Vmx(reason))
            }
        }
    }

    /// An exception that the bitmap takes from the guest.
    fn exception(&mut self, guest: &mut Cpu, world: &mut World, exit: &Exit, resumed: bool) -> Option<Stop> {
        let event = exit.interruption?;
        if event.vector == Vector::Pf as u8 {
            let fault = Fault::page(exit.qualification, event.code.unwrap_or(0) as u16);
            return self.page_fault(guest, world, fault, resumed);
        }
        if event.vector == Vector::Db as u8 && event.kind == EventType::HardwareException {
            // A debug exception belongs to what has run, or to a breakpoint: nothing is to be emulated.
            self.ledger.count(world, Cause::Vmx(Reason::Exception), place(guest));
            return Some(Stop::Fault(Fault::debug(exit.qualification)));
        }
        give_back_rf(guest, resumed);
        self.emulate(guest, world, Cause::Vmx(Reason::Exception))
    }

    /// A page fault on shadow page tables: the guest's own, one for the shadow's sake, or one of a write that
    /// has to be seen.
    fn page_fault(
        &mut self,
        guest: &mut Cpu,
        world: &mut World,
        fault: Fault,
        resumed: bool,
    ) -> Option<Stop> {
        let left = guest.system_flags & Eflags::RF;
        give_back_rf(guest, resumed);
        let at = Linear(fault.address()?);
        let write = fault.code().is_some_and(|code| code & pf::WRITE != 0);
        let user = fault.code().is_some_and(|code| code & pf::USER != 0);
        let access = Access::data(user, write);
        let faulting = &mut self.faulting;
        let rereads = |world: &World, walked: &Walked| faulting.rereads(guest, world, (at, access), walked);
        let Paging::Shadow(mmu) = &mut self.paging else { return Some(Stop::Fault(fault)) };
        mmu.note_origin(guest, world, false);
        match mmu.resolve(guest, world, at, access, rereads) {
            Resolution::Marks => self.emulate_access(guest, world, Cause::HiddenPageFault),
            Resolution::Filled => {
                if !invariants::filled_runs_again() {
                    return self.emulate(guest, world, Cause::HiddenPageFault);
                }
                self.ledger.count(world, Cause::HiddenPageFault, place(guest));
                None
            }
            Resolution::Guest(_) if self.faulting.writes_before_faults(guest, world) => {
                self.emulate(guest, world, Cause::TruePageFault)
            }
            Resolution::Guest(fault) => {
                self.ledger.count(world, Cause::TruePageFault, place(guest));
                guest.system_flags = (guest.system_flags - Eflags::RF) | left;
                guest.refresh();
                Some(Stop::Fault(fault))
            }
            Resolution::Traced(why) => {
                debug_assert!(why == report::Reason::PAGE_TABLE, "no descriptor table is traced");
                self.emulate(guest, world, Cause::TracePageTable)
            }
            Resolution::Mmio => self.emulate(guest, world, Cause::Mmio),
        }
    }

    /// An access that the extended page tables do not allow.
    fn ept_violation(&mut self, guest: &mut Cpu, world: &mut World, exit: &Exit) -> Option<Stop> {
        let cause = Cause::Vmx(exit.reason);
        let Paging::Nested(mmu) = &mut self.paging else { return self.emulate(guest, world, cause) };
        let at = GuestPhys(exit.physical.unwrap_or(0) as u32);
        let write = exit.qualification & qualification::WRITE != 0;
        match mmu.violated(&mut world.map, at, write) {
            Violated::Filled => {
                self.ledger.count(world, cause, place(guest));
                None
            }
            Violated::Emulate => self.emulate(guest, world, cause),
        }
    }
}

/// A hidden exit leaves RF to an instruction that had begun with it, and whose code breakpoints are still to be
/// ignored.
fn give_back_rf(guest: &mut Cpu, resumed: bool) {
    if resumed {
        guest.system_flags |= Eflags::RF;
        guest.refresh();
    }
}
