//! The machine as a target of gdb: what each packet of the remote protocol does to it. Called by the
//! protocol's state machine, which [`super::Server`] feeds.

use super::monitor;
use super::registers::{self, I386, Image, Reg};
use crate::addr::Linear;
use crate::bus::phys::Target as Backing;
use crate::cpu::Cpu;
use crate::machine::{CodeStop, DataStop, Input, Machine, Wish};
use gdbstub::common::Signal;
use gdbstub::target::ext::base::BaseOps;
use gdbstub::target::ext::base::reverse_exec::{ReverseCont, ReverseContOps, ReverseStep, ReverseStepOps};
use gdbstub::target::ext::base::single_register_access::{SingleRegisterAccess, SingleRegisterAccessOps};
use gdbstub::target::ext::base::singlethread::{
    SingleThreadBase, SingleThreadResume, SingleThreadResumeOps, SingleThreadSingleStep,
    SingleThreadSingleStepOps,
};
use gdbstub::target::ext::breakpoints::{
    Breakpoints, BreakpointsOps, HwBreakpoint, HwBreakpointOps, HwWatchpoint, HwWatchpointOps, SwBreakpoint,
    SwBreakpointOps, WatchKind,
};
use gdbstub::target::ext::monitor_cmd::{ConsoleOutput, MonitorCmd, MonitorCmdOps};
use gdbstub::target::ext::target_description_xml_override::{
    TargetDescriptionXmlOverride, TargetDescriptionXmlOverrideOps,
};
use gdbstub::target::{Target, TargetError, TargetResult};
use std::convert::Infallible;

impl Target for Machine {
    type Arch = I386;
    type Error = Infallible;

    fn base_ops(&mut self) -> BaseOps<'_, I386, Infallible> {
        BaseOps::SingleThread(self)
    }
    fn support_breakpoints(&mut self) -> Option<BreakpointsOps<'_, Self>> {
        Some(self)
    }
    fn support_monitor_cmd(&mut self) -> Option<MonitorCmdOps<'_, Self>> {
        Some(self)
    }
    fn support_target_description_xml_override(
        &mut self,
    ) -> Option<TargetDescriptionXmlOverrideOps<'_, Self>> {
        Some(self)
    }
}

impl TargetDescriptionXmlOverride for Machine {
    fn target_description_xml(
        &self,
        _: &[u8],
        at: u64,
        len: usize,
        buf: &mut [u8],
    ) -> TargetResult<usize, Self> {
        let xml = registers::description(self.cpu.code32());
        let rest = usize::try_from(at).ok().and_then(|at| xml.as_bytes().get(at..)).unwrap_or_default();
        let len = rest.len().min(len).min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }
}

impl SingleThreadBase for Machine {
    fn read_registers(&mut self, regs: &mut Image) -> TargetResult<(), Self> {
        *regs = Image::of(&self.cpu);
        Ok(())
    }

    fn write_registers(&mut self, regs: &Image) -> TargetResult<(), Self> {
        let mut cpu = self.cpu.clone();
        let done = regs.store(&mut cpu);
        written(self, cpu, done)
    }

    fn support_single_register_access(&mut self) -> Option<SingleRegisterAccessOps<'_, (), Self>> {
        Some(self)
    }

    /// Memory at a linear address: through the page tables as they stand in memory, with no right checked, no
    /// accessed bit set and no TLB entry used or made. Chips are not spoken to; their windows read as ones.
    fn read_addrs(&mut self, start: u32, data: &mut [u8]) -> TargetResult<usize, Self> {
        let bytes = self.world.peek(&self.cpu, Linear(start), data.len());
        if bytes.is_empty() && !data.is_empty() {
            return Err(TargetError::NonFatal);
        }
        data[..bytes.len()].copy_from_slice(&bytes);
        Ok(bytes.len())
    }

    /// All or nothing: each byte must be mapped to RAM. Decoded code notices.
    fn write_addrs(&mut self, start: u32, data: &[u8]) -> TargetResult<(), Self> {
        let place = |n| {
            let phys = self.world.peek_address(&self.cpu, Linear(start).offset(n))?;
            (self.world.map.backing(phys).write == Backing::Ram).then_some(phys)
        };
        let places: Option<Vec<_>> = (0..data.len() as u32).map(place).collect();
        for (at, byte) in places.ok_or(TargetError::NonFatal)?.into_iter().zip(data) {
            self.give(Input::Memory(at, vec![*byte]));
        }
        Ok(())
    }

    fn support_resume(&mut self) -> Option<SingleThreadResumeOps<'_, Self>> {
        Some(self)
    }
}

/// gdb wrote registers. What it wrote as it was changes nothing, nor what is known of the future.
fn written(machine: &mut Machine, cpu: Cpu, done: bool) -> TargetResult<(), Machine> {
    if cpu != machine.cpu {
        machine.give(Input::Registers(Box::new(cpu)));
    }
    if done { Ok(()) } else { Err(TargetError::NonFatal) }
}

impl SingleRegisterAccess<()> for Machine {
    fn read_register(&mut self, (): (), reg: Reg, buf: &mut [u8]) -> TargetResult<usize, Self> {
        Ok(registers::read(&self.cpu, reg, buf))
    }

    fn write_register(&mut self, (): (), reg: Reg, value: &[u8]) -> TargetResult<(), Self> {
        let mut cpu = self.cpu.clone();
        let done = registers::write(&mut cpu, reg, value);
        written(self, cpu, done)
    }
}

// A signal that gdb sends along means nothing to a processor.
impl SingleThreadResume for Machine {
    fn resume(&mut self, _: Option<Signal>) -> Result<(), Infallible> {
        self.stops.set_step(false);
        self.set_wish(None);
        Ok(())
    }

    fn support_single_step(&mut self) -> Option<SingleThreadSingleStepOps<'_, Self>> {
        Some(self)
    }

    fn support_reverse_step(&mut self) -> Option<ReverseStepOps<'_, (), Self>> {
        if self.has_history() { Some(self) } else { None }
    }

    fn support_reverse_cont(&mut self) -> Option<ReverseContOps<'_, (), Self>> {
        if self.has_history() { Some(self) } else { None }
    }
}

impl SingleThreadSingleStep for Machine {
    fn step(&mut self, _: Option<Signal>) -> Result<(), Infallible> {
        self.stops.set_step(true);
        self.set_wish(None);
        Ok(())
    }
}

// The server does it, between two slices.
impl ReverseStep<()> for Machine {
    fn reverse_step(&mut self, (): ()) -> Result<(), Infallible> {
        self.set_wish(Some(Wish::StepBack));
        Ok(())
    }
}

impl ReverseCont<()> for Machine {
    fn reverse_cont(&mut self) -> Result<(), Infallible> {
        self.set_wish(Some(Wish::RunBack));
        Ok(())
    }
}

impl Breakpoints for Machine {
    fn support_sw_breakpoint(&mut self) -> Option<SwBreakpointOps<'_, Self>> {
        Some(self)
    }
    fn support_hw_breakpoint(&mut self) -> Option<HwBreakpointOps<'_, Self>> {
        Some(self)
    }
    fn support_hw_watchpoint(&mut self) -> Option<HwWatchpointOps<'_, Self>> {
        Some(self)
    }
}

impl SwBreakpoint for Machine {
    fn add_sw_breakpoint(&mut self, at: u32, _: usize) -> TargetResult<bool, Self> {
        self.stops.add_code(CodeStop::Software(at));
        Ok(true)
    }
    fn remove_sw_breakpoint(&mut self, at: u32, _: usize) -> TargetResult<bool, Self> {
        Ok(self.stops.remove_code(CodeStop::Software(at)))
    }
}

// Both kinds are compares of addresses on our side: guest memory is never patched, and there is no limit of
// four.
impl HwBreakpoint for Machine {
    fn add_hw_breakpoint(&mut self, at: u32, _: usize) -> TargetResult<bool, Self> {
        self.stops.add_code(CodeStop::Hardware(at));
        Ok(true)
    }
    fn remove_hw_breakpoint(&mut self, at: u32, _: usize) -> TargetResult<bool, Self> {
        Ok(self.stops.remove_code(CodeStop::Hardware(at)))
    }
}

fn data_stop(at: u32, len: u32, kind: WatchKind) -> DataStop {
    DataStop { at: Linear(at), len, read: kind != WatchKind::Write, write: kind != WatchKind::Read }
}

impl HwWatchpoint for Machine {
    fn add_hw_watchpoint(&mut self, at: u32, len: u32, kind: WatchKind) -> TargetResult<bool, Self> {
        self.add_data_stop(data_stop(at, len, kind));
        Ok(true)
    }
    fn remove_hw_watchpoint(&mut self, at: u32, len: u32, kind: WatchKind) -> TargetResult<bool, Self> {
        Ok(self.remove_data_stop(data_stop(at, len, kind)))
    }
}

impl MonitorCmd for Machine {
    fn handle_monitor_cmd(&mut self, cmd: &[u8], mut out: ConsoleOutput<'_>) -> Result<(), Infallible> {
        out.write_raw(monitor::answer(self, &String::from_utf8_lossy(cmd)).as_bytes());
        Ok(())
    }
}
