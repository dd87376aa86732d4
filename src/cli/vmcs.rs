//! `subring vmcs`: the current control structure of a guest's own hypervisor, field by field, at a point of
//! the guest's run; its last VM exit; and why the last VM entry failed, if it did.

mod event;
mod json;
mod text;

use super::guest_args::GuestArgs;
use super::mmu::Names;
use super::mmu::session::{Ran, Runner, inputs};
use super::output::{out, tell_notes};
use super::restore::RestoreArgs;
use super::signals::watch_signals;
use crate::bus::Ticks;
use crate::cell::Strategy;
use crate::cpu::vmx::refusal::{Refusal, RefusedEntry};
use crate::cpu::vmx::words::LastExit;
use crate::cpu::vmx::{Operation, Vmx};
use crate::error::{Error, Result};
use crate::exec::vmx::entry::first_failure;
use crate::load::Spec;
use crate::machine::Machine;
use clap::Args;
use event::Event;

/// Printed below the options.
const HELP: &str = "\
EVENT of --at, the first time or with #N the N-th time:
  10M, 1_000_000       that many instructions are retired
  enter_guest, f+0x10  the instruction at a symbol of the guest's is next
  0x100000             the instruction at an address is next
  exit, exit:REASON    a VM exit, or one with a reason whose name begins so (exit:cpuid, exit:i/o); shown is the
                       state after the hypervisor's next instruction
  refused              a VM entry failed: VMLAUNCH or VMRESUME did not begin the guest; shown is the state after it
Without --at the end of the run is shown, or where --budget or --time cut it.

Exit status:
  0      the structure is shown, or there is none and a sentence says so
  1      trouble on our side: a file, an image that cannot be loaded
  2      a wrong option, or what --at names did not happen
  130    interrupted: the state then is shown";

/// The options of `subring vmcs`.
#[derive(Args, Clone, Debug)]
#[command(after_help = HELP)]
pub(super) struct Command {
    #[command(flatten)]
    guest: GuestArgs,
    #[command(flatten)]
    start: RestoreArgs,
    /// Where in the run to look; see below
    #[arg(id = "point", long = "at", value_name = "EVENT", allow_hyphen_values = true)]
    event: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What is shown.
struct Moment<'a> {
    guest: String,
    /// How the run came here.
    how: String,
    machine: &'a Machine,
    vmx: &'a Vmx,
    refused: Option<RefusedEntry>,
    last_exit: Option<LastExit>,
    /// What a VM entry now would be refused for; nothing where none can be tried.
    next_entry: Option<std::result::Result<(), Refusal>>,
    names: &'a Names,
}

/// Makes the checks of a VM entry on the control structure as it is now.
fn next_entry(machine: &mut Machine) -> Option<std::result::Result<(), Refusal>> {
    let vmx = machine.cpu.vmx.as_deref().filter(|vmx| vmx.operation == Operation::Root)?;
    vmx.current?;
    let Some(failure) = first_failure(&machine.cpu, &mut machine.world) else { return Some(Ok(())) };
    let value = vmx.vmcs.get(failure.field);
    Some(Err(Refusal::Check { failure, value }))
}

impl Command {
    /// The command. Gives the program's exit status.
    pub(super) fn run(&self) -> Result<u8> {
        self.check()?;
        let plan = self.spec()?.plan;
        let names = Names(plan.symbols);
        let event = self.event.as_deref().map(|text| Event::parse(text, &names.0)).transpose()?;
        tell_notes(&plan.notes);
        let signal = watch_signals()?;
        let inputs = inputs(&self.guest, || self.spec())?;
        let start = || Ok(Runner::new(self.spec()?.build()?, inputs.clone(), &self.guest, &signal));
        let mut runner = start()?;
        if runner.guest.machine.cpu.vmx.is_none() {
            return Err(Error::Usage(
                "this processor has no VMX, so no guest can have a VMCS: give --cpu yonah or --cpu yonah-ept"
                    .into(),
            ));
        }
        let (mut runner, ran) = match (&event, &self.event) {
            (Some(event), Some(text)) => event.reach(text, runner, start)?,
            _ => {
                let ran = runner.run(Ticks::MAX, u64::MAX);
                (runner, ran)
            }
        };
        runner.progress.restart();
        let how = match &self.event {
            Some(text) if ran == Ran::There => format!("at {text}"),
            _ => format!("at the end of the run: {}", ran.sentence()),
        };
        out(self.show(&mut runner.guest.machine, how, &names).as_bytes())?;
        Ok(if ran == Ran::Interrupted { 130 } else { 0 })
    }

    fn show(&self, machine: &mut Machine, how: String, names: &Names) -> String {
        let next_entry = next_entry(machine);
        let machine = &*machine;
        let Some(vmx) = machine.cpu.vmx.as_deref() else { return String::new() };
        let moment = Moment {
            guest: self.start.name(&self.guest),
            how,
            machine,
            vmx,
            refused: machine.world.last_refused_entry(&machine.cpu),
            last_exit: vmx.current.and_then(|_| LastExit::of(&vmx.vmcs)),
            next_entry,
            names,
        };
        if self.json { json::moment(&moment) } else { text::text(&moment) }
    }

    fn check(&self) -> Result<()> {
        if self.guest.monitor.strategy() != Strategy::Bare {
            return Err(Error::Usage(
                "`vmcs` shows the VMCS of the guest's own hypervisor, which runs on the bare machine only: leave \
                 --strategy out"
                    .into(),
            ));
        }
        if self.start.restore.is_some() && !self.guest.keys.is_empty() {
            return Err(Error::Usage("`vmcs` cannot type at a restored machine: leave --keys out".into()));
        }
        Ok(())
    }

    /// What the machine is built from.
    fn spec(&self) -> Result<Spec> {
        let guest = GuestArgs { snapshot: true, ..self.guest.clone() };
        Ok(Spec { monitor: None, ..self.start.spec(&guest)? })
    }
}
