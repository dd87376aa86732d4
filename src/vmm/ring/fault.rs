//! What a stop of the real processor means: a reason to end the run, an exit to be emulated, or a fault of
//! the guest's own.

use super::state::{Reaction, RingCompression};
use crate::addr::Linear;
use crate::cpu::control::{DR6_BS, DR6_BT, Dr7, Watch};
use crate::cpu::fault::pf;
use crate::cpu::{Cpu, Eflags, Fault, Vector};
use crate::interp::{self, Stop};
use crate::machine::{Walked, World};
use crate::mmu::paging::Access;
use crate::report::{Cause, Reason};
use crate::vmm::invariants;
use crate::vmm::layout;
use crate::vmm::memory::Resolution;
use crate::vmm::place::place;

impl RingCompression {
    /// The real processor stopped, and its state is the guest's again; an instruction that faulted had begun
    /// with RF or not. `None`: the guest can go on.
    pub(in crate::vmm) fn stopped(
        &mut self,
        guest: &mut Cpu,
        world: &mut World,
        stop: Stop,
        resumed: bool,
    ) -> Option<Stop> {
        match stop {
            Stop::Budget => Some(Stop::Budget),
            // The next instruction is sensitive and would not fault; an observer wants to see it run.
            Stop::Exit(exit @ interp::Exit::Sensitive) => Some(Stop::Exit(exit)),
            Stop::Exit(_) => None,
            Stop::Fault(fault) => {
                // A hidden fault must leave RF to the instruction, whose code breakpoints are still to be
                // ignored. A fault of the guest's own leaves it as the processor does.
                let resume_left = guest.system_flags.contains(Eflags::RF);
                if resumed {
                    set_resume(guest, true);
                }
                // Resolving a fault may set accessed bits, which on the bare machine nobody sees before the
                // instruction has run. A debug trap is of the instruction that ran.
                if self.owes_boundary(guest) && !is_debug_trap(guest, fault) {
                    return Some(self.look_up_first(guest, Reaction::Fault { fault, resume_left }));
                }
                self.handle_fault(guest, world, fault, resume_left)
            }
        }
    }

    /// Handles a fault of the real processor, which left RF so. `None`: the guest can go on.
    pub(super) fn handle_fault(
        &mut self,
        guest: &mut Cpu,
        world: &mut World,
        fault: Fault,
        resume_left: bool,
    ) -> Option<Stop> {
        self.resume_left = resume_left;
        self.fault(guest, world, fault)
    }

    /// A fault of the real processor.
    fn fault(&mut self, guest: &mut Cpu, world: &mut World, fault: Fault) -> Option<Stop> {
        if let Some(at) = fault.address() {
            return self.page_fault(guest, world, Linear(at), fault);
        }
        const EMULATED: [Vector; 6] =
            [Vector::Gp, Vector::Np, Vector::Ss, Vector::Ts, Vector::Ud, Vector::Mf];
        if EMULATED.iter().any(|v| fault.is(*v)) {
            // An x87 exception is the guest's own, also where it comes to it by way of the board.
            let cause = if fault.is(Vector::Mf) { Cause::Reflected } else { self.cause(guest, world) };
            return self.emulate(guest, world, cause);
        }
        self.count(world, Cause::Reflected, place(guest));
        Some(self.reflect(guest, fault))
    }

    /// The fault is the guest's own.
    fn reflect(&self, guest: &mut Cpu, fault: Fault) -> Stop {
        set_resume(guest, self.resume_left);
        Stop::Fault(fault)
    }

    /// The cause of an exit at the instruction that faulted.
    fn cause(&mut self, guest: &Cpu, world: &mut World) -> Cause {
        self.emulator.peek(guest, world).map_or(Cause::Truncated, |insn| Cause::of(&insn))
    }

    fn page_fault(&mut self, guest: &mut Cpu, world: &mut World, at: Linear, fault: Fault) -> Option<Stop> {
        if layout::is_nowhere(at) && fault.code().is_none_or(|code| code & pf::USER == 0) {
            // The descriptor tables are concealed from the guest's user code.
            let cause = self.cause(guest, world);
            return self.emulate(guest, world, cause);
        }
        self.note_origin(guest, world, false);
        let write = fault.code().is_some_and(|code| code & pf::WRITE != 0);
        let access = Access::data(guest.user, write);
        let faulting = &mut self.faulting;
        let rereads = |world: &World, walked: &Walked| faulting.rereads(guest, world, (at, access), walked);
        match self.mmu.resolve(guest, world, at, access, rereads) {
            Resolution::Marks => self.emulate_access(guest, world),
            Resolution::Filled => {
                if !invariants::filled_runs_again() {
                    return self.emulate(guest, world, Cause::HiddenPageFault);
                }
                self.count(world, Cause::HiddenPageFault, place(guest));
                None
            }
            Resolution::Guest(_) if self.faulting.writes_before_faults(guest, world) => {
                self.emulate(guest, world, Cause::TruePageFault)
            }
            Resolution::Guest(fault) => {
                self.count(world, Cause::TruePageFault, place(guest));
                Some(self.reflect(guest, fault))
            }
            Resolution::Traced(why) => {
                let table = why.contains(Reason::PAGE_TABLE);
                let cause = if table { Cause::TracePageTable } else { Cause::TraceDescriptors };
                self.emulate(guest, world, cause)
            }
            Resolution::Mmio => self.emulate(guest, world, Cause::Mmio),
        }
    }
}

fn set_resume(guest: &mut Cpu, on: bool) {
    guest.system_flags.set(Eflags::RF, on);
    guest.refresh();
}

/// Whether the fault is a debug trap, after an instruction, and no code breakpoint, before one.
fn is_debug_trap(guest: &Cpu, fault: Fault) -> bool {
    let (dr6, dr7) = (fault.dr6(), Dr7(guest.dr[7]));
    let data = |n: usize| dr6 & (1 << n) != 0 && dr7.watch(n) != Watch::Code;
    dr6 & (DR6_BS | DR6_BT) != 0 || (0..4).any(data)
}
