//! What each processor model announces after power-on, in one text per model: CPUID's leaves, the bits that CR4 can
//! have, and every model-specific register that RDMSR reads. GOLDEN=write in the environment writes the files of
//! `tests/library/announced`.

use std::fmt::Write;
use std::path::Path;
use subring::cpu::{Cpu, Model};
use subring::exec::{cpuid, msr};
use subring::load::{Plan, Spec};

/// Leaves that software asks for: basic ones, a hypervisor's, and extended ones.
const LEAVES: [std::ops::RangeInclusive<u32>; 3] =
    [0..=0x20, 0x4000_0000..=0x4000_0001, 0x8000_0000..=0x8000_0020];
/// The numbers of MSR bitmaps (SDM vol. 3, 24.6.9), and those of another vendor.
const MSRS: [std::ops::Range<u32>; 3] = [0..0x2000, 0xc000_0000..0xc000_2000, 0xc001_0000..0xc001_2000];

/// The processor of a machine of this model; `plain` is one without what monitors hide from their guests.
fn processor(cpu: Model, plain: bool) -> Cpu {
    let spec = Spec { mem: 1 << 20, cpu, plain, plan: Plan::firmware(), ..Spec::default() };
    spec.build().unwrap().cpu.clone()
}

/// The text of a processor. Leaves beyond the highest give the highest basic one's registers (SDM vol. 2, CPUID),
/// and are left out while they do.
fn announced(out: &mut String, cpu: &Cpu) {
    let [basic, extended] = [0, 0x8000_0000].map(|first| cpuid::leaf(cpu, first)[0]);
    for leaf in LEAVES.into_iter().flatten() {
        let registers = cpuid::leaf(cpu, leaf);
        let is_there = leaf <= basic || (0x8000_0000..=extended).contains(&leaf);
        if is_there || registers != cpuid::leaf(cpu, basic) {
            let [a, b, c, d] = registers;
            writeln!(out, "cpuid {leaf:08x}  eax {a:08x} ebx {b:08x} ecx {c:08x} edx {d:08x}").unwrap();
        }
    }
    writeln!(out, "cr4 can have    {:08x}", cpu.features.cr4()).unwrap();
    for (number, value) in MSRS.into_iter().flatten().filter_map(|n| Some((n, msr::read(cpu, n)?))) {
        writeln!(out, "msr   {number:08x}  {value:016x}").unwrap();
    }
}

#[test]
fn each_model_announces_what_its_text_says() {
    for model in Model::ALL {
        let mut text = String::new();
        for (heading, plain) in [("after power-on", false), ("as a monitor shows it to its guest", true)] {
            writeln!(text, "{model}, {heading}").unwrap();
            announced(&mut text, &processor(*model, plain));
        }
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/library/announced/{model}.txt"));
        if std::env::var("GOLDEN").as_deref() == Ok("write") {
            std::fs::write(&path, &text).unwrap();
        }
        assert_eq!(text, std::fs::read_to_string(&path).unwrap(), "{model}");
    }
}
