//! Runs a random machine in slices and holds what must be true of any run, whatever the guest does: it ends in time,
//! and what the processor keeps derived agrees with what it is derived from.

use super::bytes::Bytes;
use super::machine::machine;
use subring::machine::{Limits, Machine, Outcome};

/// Ticks that a case runs.
const TICKS: u64 = 12_000;
/// Resets that a case carries out before it ends.
const RESETS: u32 = 3;

/// Runs the case that `data` means.
pub(crate) fn run(data: &[u8]) {
    let mut data = Bytes::new(data);
    let slices: Vec<u64> = (0..8).map(|_| 1 + u64::from(data.u16()) % 3000).collect();
    let mut m = machine(&mut data);
    let mut resets = 0;
    for slice in slices.into_iter().cycle() {
        let (now, retired) = (m.cpu.now, m.cpu.retired());
        let limits = Limits {
            ticks: (now + slice).min(TICKS),
            retired: retired + slice / 2 + 1,
            at_halt: slice & 1 != 0,
        };
        let outcome = m.run(limits);
        assert!(m.cpu.now <= limits.ticks, "{} ticks of {}", m.cpu.now, limits.ticks);
        assert!(m.cpu.retired() <= limits.retired, "{} instructions of {}", m.cpu.retired(), limits.retired);
        check(&m);
        match outcome {
            Outcome::Reached | Outcome::Idle(Some(_)) if m.cpu.now < TICKS => {}
            Outcome::Reset if resets < RESETS => {
                resets += 1;
                m.reset();
            }
            _ => return,
        }
    }
}

fn check(m: &Machine) {
    let cpu = &m.cpu;
    assert_eq!(cpu.regs[8..], [0; 8], "no register beyond EDI");
    assert_eq!(cpu.user, cpu.cpl == 3);
    assert_eq!(cpu.stack_mask, if cpu.seg(subring::decode::SegReg::Ss).big() { !0 } else { 0xffff });
    assert!(!cpu.v86() || cpu.protected() && cpu.cpl == 3, "virtual-8086 mode is ring 3 of protected mode");
    assert!(cpu.protected() || cpu.cpl == 0, "real mode is ring 0");
    let mut fresh = cpu.clone();
    fresh.refresh();
    assert_eq!(fresh.special, cpu.special);
    assert!(m.registers().contains("eip"));
}
