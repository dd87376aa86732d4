//! Mistakes that show in where the processor runs, or in that it does not.

use super::stuck::{nowhere, spins, zeros};
use crate::addr::GuestPhys;
use crate::cpu::{Activity, Eflags, Vector};
use crate::debug::Ending;
use crate::debug::facts::Facts;
use crate::decode::{Op, lower};

pub(super) fn a20_closed(f: &Facts<'_>) -> Option<String> {
    let closed = f.machine.world.map.gated(GuestPhys(1 << 20)).0 == 0;
    (closed && f.cpu.selectors()).then(|| {
        "the A20 gate is closed: bit 20 of every address reads as 0, so each odd megabyte is the one below it; open it (port 92h bit 1, or the keyboard controller) before going above 1 MiB".to_owned()
    })
}

pub(super) fn unbuilt(f: &Facts<'_>) -> Option<String> {
    let unknown = f.insn.is_some_and(|i| i.op == Op::Unbuilt);
    (f.first()?.is(Vector::Ud) && unknown).then(|| {
        format!(
            "this processor has no {}: it is of the Pentium II's kind; compile with -march=i686 -mno-sse, or ask CPUID first",
            lower::mnemonic(&f.bytes, f.cpu.code32()).to_uppercase()
        )
    })
}

pub(super) fn outside_memory(f: &Facts<'_>) -> Option<String> {
    let at = nowhere(f, f.cpu).filter(|_| f.cpu.eip != 0)?;
    if f.cpu.eip == !0 {
        return Some(
            "EIP is 0xffffffff: a RET found ones where its return address should be; the stack was lost or is where no memory is".into(),
        );
    }
    let page = at & !0xfff;
    let slid = page != 0 && f.physical_bytes::<16>(page.wrapping_sub(16)) == [0; 16];
    let how = if slid {
        "execution ran through zeros to the end of memory: a jump or a RET went astray far below"
    } else {
        "a jump or a RET went astray"
    };
    Some(format!("EIP is {:#010x}, where this machine has no memory: {how}", f.cpu.eip))
}

pub(super) fn to_null(f: &Facts<'_>) -> Option<String> {
    let low = f.cpu.selectors() && f.cpu.linear_eip() < 0x400;
    low.then(|| {
        format!(
            "execution is at {:#x}, at the very bottom of memory: a call or jump through a null pointer, or a RET that found 0",
            f.cpu.linear_eip()
        )
    })
}

pub(super) fn into_zeros(f: &Facts<'_>) -> Option<String> {
    zeros(f, f.cpu).then(|| {
        format!(
            "execution is at {}, where memory holds only zeros (00 00 is ADD [EAX], AL): it ran past the end of the code, or jumped to where nothing was loaded",
            f.place(f.cpu.eip)
        )
    })
}

pub(super) fn spin(f: &Facts<'_>) -> Option<String> {
    let off = !f.now().system_flags.contains(Eflags::IF);
    (f.ending == Ending::Limit && spins(f)).then(|| {
        let why = if off { "interrupts are off" } else { "the interrupt controllers let none through" };
        format!(
            "the guest jumps to itself at {} for ever: {why}, so nothing can end it; after a panic end with CLI, HLT",
            f.place(f.now().eip)
        )
    })
}

pub(super) fn halted(f: &Facts<'_>) -> Option<String> {
    let off = !f.now().system_flags.contains(Eflags::IF);
    (f.ending == Ending::HaltedForever || f.ending == Ending::Limit && f.now().activity == Activity::Halted)
        .then(|| match off {
            true => "HLT ran with interrupts off: if that was not meant as the end, STI must come before HLT"
                .into(),
            false => "HLT waits for an interrupt, and none will come".into(),
        })
}
