//! Healthy guests get no post-mortem, wherever they are stopped.

use super::guest::Guest;
use std::path::Path;
use subring::debug::{Ending, post_mortem};
use subring::load::builtin;
use subring::load::{self, Around, Entry, Format, Spec};
use subring::machine::{Limits, Machine, Outcome};

const RAM: u32 = 32 << 20;

fn machine(plan: &load::Plan) -> Option<Machine> {
    // Firmware needs its disk: the boot sector's kind is left out.
    if plan.entry == Entry::Firmware {
        return None;
    }
    Some(Spec { mem: RAM, plan: plan.clone(), ..Spec::default() }.build().unwrap())
}

#[test]
fn built_in_guests_get_none_at_any_limit() {
    let (mut looked, mut guests) = (0, 0);
    for b in builtin::ALL {
        let path = Path::new(b.name);
        let kind = load::identify(path, b.bytes, b.bytes.len() as u64, Format::Auto).unwrap();
        let around = Around { mem: RAM, cmdline: b.cmdline.map(str::to_owned), ..Around::default() };
        let plan = load::plan(path, b.bytes, kind, &around).unwrap();
        let Some(mut m) = machine(&plan) else { continue };
        guests += 1;
        // Odd steps, so that the guest is met in all of its parts.
        for n in 1..200 {
            let outcome = m.run(Limits::instructions(n * 9_973));
            let report = post_mortem(&m, &Ending::Limit, &plan.symbols, None);
            assert!(
                report.is_none(),
                "{} at {}: {:#?}",
                b.name,
                m.cpu.retired(),
                report.map(|r| r.diagnoses)
            );
            looked += 1;
            if outcome != Outcome::Reached {
                assert!(matches!(outcome, Outcome::Exit(_)), "{}: {outcome:?}", b.name);
                break;
            }
        }
    }
    assert!(guests >= 8 && looked > 500, "{guests} guests, looked at {looked} times");
}

#[test]
fn a_kernel_that_waits_for_its_timer_is_well() {
    // A handler with EOI; STI; HLT; JMP back to HLT, and the same with JMP $.
    for idle in [&[0xfb, 0xf4, 0xeb, 0xfd][..], &[0xfb, 0xeb, 0xfe]] {
        let mut g = Guest::flat();
        g.handler(0x20, &[0x50, 0xb0, 0x20, 0xe6, 0x20, 0x58, 0xcf]).start().timer().run(idle);
        assert_eq!(g.report().map(|r| r.diagnoses), None);
    }
}
