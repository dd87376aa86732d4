//! Where to look: a guest with handlers of its own is long past its mistake when it ends. The scene is then
//! the last exception whose handler has not returned, with the processor as it was there.

use crate::addr::Linear;
use crate::cpu::{Activity, Cpu, Cr0};
use crate::decode::SegReg;
use crate::exec::event::Event;
use crate::machine::Machine;
use crate::machine::history::Record;

/// Words above the top of the stack among which the frame of an exception is looked for.
const DEPTH: usize = 2048;

/// The processor that a post-mortem is about.
pub(super) struct Scene {
    /// The registers there.
    pub(super) cpu: Cpu,
    /// The last events up to there, the oldest first.
    pub(super) history: Vec<Record>,
    /// Whether this is an earlier place than the end of the run: the event's handler never returned.
    pub(super) handled: bool,
}

impl Scene {
    /// The end of the run itself.
    pub(super) fn end(machine: &Machine) -> Self {
        let history = machine.history.records().copied().collect();
        Self { cpu: machine.cpu.clone(), history, handled: false }
    }

    /// The last exception whose frame is still on the stack, if there is one.
    pub(super) fn unreturned(machine: &Machine) -> Option<Self> {
        let mut history: Vec<Record> = machine.history.records().copied().collect();
        let (wide, narrow) = stacks(machine);
        let waits = |r: &Record| {
            let on_stack = if r.cr0.contains(Cr0::PE) { frame_in(&wide, r) } else { frame_in(&narrow, r) };
            on_stack && (matches!(r.event, Event::Exception(_)) || is_stray_irq(machine, r))
        };
        let last = history.iter().rposition(waits)?;
        history.truncate(last + 1);
        Some(Self { cpu: before(machine, &history[last]), history, handled: true })
    }
}

/// Whether a hardware interrupt came at one of the vectors that a PC's firmware leaves the first 8259A with;
/// in protected mode those are exceptions'.
fn is_stray_irq(machine: &Machine, r: &Record) -> bool {
    let base = machine.world.board.interrupt_controllers()[0].base;
    matches!(r.event, Event::External(8..=15)) && r.cr0.contains(Cr0::PE) && base == 8
}

/// The stack from its top upwards, in doublewords and in words.
fn stacks(machine: &Machine) -> (Vec<u32>, Vec<u32>) {
    let cpu = &machine.cpu;
    let top = cpu.seg(SegReg::Ss).base.wrapping_add(cpu.sp());
    let mut bytes = Vec::new();
    // Page by page: what is not mapped ends the stack.
    while bytes.len() < 4 * DEPTH {
        let more = machine.world.peek(cpu, Linear(top.wrapping_add(bytes.len() as u32)), 4);
        if more.len() < 4 {
            break;
        }
        bytes.extend(more);
    }
    let wide = bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let narrow = bytes.chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]]).into()).collect();
    (wide, narrow)
}

/// Whether the frame that `r` pushed (EIP, CS, EFLAGS) is on the stack.
fn frame_in(stack: &[u32], r: &Record) -> bool {
    // RF, above these bits, is set in the image of a fault only.
    let flags = |image: u32| (image ^ r.flags.bits()) & 0xffff == 0;
    stack.windows(3).any(|w| w[0] == r.eip && w[1] & 0xffff == u32::from(r.cs) && flags(w[2]))
}

/// The processor before `r`. What an event does not note down is as it is now: tables and control registers
/// but CR0, CR2 and CR3 are hardly ever changed by a handler.
fn before(machine: &Machine, r: &Record) -> Cpu {
    let mut cpu = machine.cpu.clone();
    (cpu.cr0, cpu.cr2, cpu.cr3) = (r.cr0, r.cr2, r.cr3);
    (cpu.eip, cpu.cpl, cpu.activity) = (r.eip, r.cpl, Activity::Running);
    (cpu.now, cpu.idle) = (r.when.ticks, r.when.ticks - r.when.instructions);
    cpu.regs[..8].copy_from_slice(&r.regs);
    for (n, s) in SegReg::ALL.into_iter().enumerate() {
        cpu.set_seg(s, r.segs[n]);
    }
    cpu.set_eflags(r.flags);
    cpu
}
