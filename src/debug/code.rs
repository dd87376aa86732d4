//! The code around EIP, and who called it.

use super::facts::Facts;
use super::source::{Excerpt, Place};
use super::{Caller, CodeLine};
use crate::addr::Linear;
use crate::cpu::{Activity, gpr};
use crate::decode::{Decoded, MAX_INSN_LEN, Op, SegReg, decode, disassemble};

/// Instructions shown before EIP and from it on.
const BEFORE: usize = 4;
const FROM: usize = 6;
/// The longest backtrace.
const FRAMES: usize = 24;

/// Disassembly around EIP. Where the instructions before it begin is found by starting further back: the
/// first start from which decoding arrives at EIP is taken.
pub(super) fn around(f: &Facts<'_>) -> Vec<CodeLine> {
    let eip = f.cpu.eip;
    let back = (1..=(BEFORE * 6) as u32).rev().find_map(|n| arrives(f, eip.wrapping_sub(n), eip));
    let mut starts = back.unwrap_or_default();
    let keep = starts.len().saturating_sub(BEFORE);
    starts.drain(..keep);
    let mut at = eip;
    for _ in 0..FROM {
        starts.push(at);
        let Some(len) = length(f, at) else { break };
        at = at.wrapping_add(len);
    }
    let mut named = None;
    let mut lines: Vec<CodeLine> = starts.iter().map(|&at| line(f, at, &mut named)).collect();
    let mut before: Option<Place> = None;
    for line in &mut lines {
        let place = f.source.and_then(|s| s.place(linear(f, line.eip)));
        if place != before {
            line.source_text = place.as_ref().and_then(|place| f.source?.text(place));
            line.source.clone_from(&place);
        }
        before = place;
    }
    lines
}

/// The starts of the instructions from `start` up to `eip`, if they end right there.
fn arrives(f: &Facts<'_>, start: u32, eip: u32) -> Option<Vec<u32>> {
    let (mut at, mut starts) = (start, Vec::new());
    while at != eip {
        if eip.wrapping_sub(at) > 64 {
            return None;
        }
        starts.push(at);
        at = at.wrapping_add(length(f, at)?);
    }
    Some(starts)
}

fn linear(f: &Facts<'_>, eip: u32) -> u32 {
    f.cpu.seg(SegReg::Cs).base.wrapping_add(eip)
}

fn bytes(f: &Facts<'_>, eip: u32) -> Vec<u8> {
    f.machine.world.peek(f.cpu, Linear(linear(f, eip)), MAX_INSN_LEN)
}

fn length(f: &Facts<'_>, eip: u32) -> Option<u32> {
    match decode(&bytes(f, eip), f.cpu.code32()) {
        Decoded::Insn(insn) => Some(u32::from(insn.len)),
        _ => None,
    }
}

fn line(f: &Facts<'_>, eip: u32, named: &mut Option<String>) -> CodeLine {
    let bytes = bytes(f, eip);
    let len = length(f, eip).map_or(bytes.len(), |n| n as usize).min(bytes.len());
    let hex: Vec<String> = bytes[..len].iter().map(|b| format!("{b:02x}")).collect();
    let text =
        if bytes.is_empty() { "(not mapped)".into() } else { disassemble(&bytes, f.cpu.code32(), eip) };
    let symbol = f.symbol(linear(f, eip));
    let function = symbol.as_deref().map(|s| s.split('+').next().unwrap_or(s).to_owned());
    let shown = if function == *named { None } else { symbol };
    *named = function;
    CodeLine {
        eip,
        symbol: shown,
        bytes: hex.join(" "),
        text,
        current: eip == f.cpu.eip,
        source: None,
        source_text: None,
    }
}

/// The callers by frame pointers: [EBP] is the caller's EBP, [EBP+4] where it goes on. The backtrace ends
/// where the chain does not lead upwards any more, out of what is mapped, or to what no CALL pushed.
pub(super) fn backtrace(f: &Facts<'_>) -> Vec<Caller> {
    // HLT is behind EIP when it has run.
    let halted = f.cpu.activity == Activity::Halted;
    let symbol = if halted { f.caller(f.cpu.eip) } else { f.symbol(f.cpu.eip) };
    let inside = f.cpu.eip.wrapping_sub(u32::from(halted));
    let mut frames = vec![caller(f, f.cpu.eip, inside, symbol)];
    if !f.cpu.code32() {
        return frames;
    }
    let base = f.cpu.seg(SegReg::Ss).base;
    let mut ebp = f.cpu.regs[gpr::EBP];
    while frames.len() < FRAMES && ebp != 0 && ebp & 3 == 0 {
        let at = base.wrapping_add(ebp);
        let (Some(outer), Some(eip)) = (f.dword(at), f.dword(at.wrapping_add(4))) else { break };
        if eip == 0 || eip == !0 || !follows_call(f, eip) {
            break;
        }
        frames.push(caller(f, eip, eip.wrapping_sub(1), f.caller(eip)));
        if outer <= ebp {
            break;
        }
        ebp = outer;
    }
    frames
}

/// Whether the instruction before `eip` is a CALL: what stands on the stack may be any number, a pointer to
/// data as well.
fn follows_call(f: &Facts<'_>, eip: u32) -> bool {
    let is_call = |start: u32| match decode(&bytes(f, start), f.cpu.code32()) {
        Decoded::Insn(insn) => {
            let calls = matches!(insn.op, Op::Call | Op::CallInd | Op::CallFar | Op::CallFarMem);
            calls && start.wrapping_add(u32::from(insn.len)) == eip
        }
        _ => false,
    };
    (2..=MAX_INSN_LEN as u32).any(|n| is_call(eip.wrapping_sub(n)))
}

/// The frame of `eip`, with what the source says of the instruction that `inside` is in.
fn caller(f: &Facts<'_>, eip: u32, inside: u32, symbol: Option<String>) -> Caller {
    let mut inlined = f.source.map_or(Vec::new(), |s| s.functions(linear(f, inside)));
    let source = match inlined.pop() {
        Some(function) => function.place,
        None => f.source.and_then(|s| s.place(linear(f, inside))),
    };
    Caller { eip, symbol, source, inlined }
}

/// The source around the instruction at EIP.
pub(super) fn excerpt(f: &Facts<'_>, backtrace: &[Caller]) -> Option<Excerpt> {
    let first = backtrace.first()?;
    let place = match first.inlined.first() {
        Some(function) => function.place.as_ref(),
        None => first.source.as_ref(),
    };
    f.source?.excerpt(place?)
}
