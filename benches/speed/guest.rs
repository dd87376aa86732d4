//! Machines with a guest in them, for the other files: the bench guest at work, and small guests of a few instructions.

use criterion::{BenchmarkGroup, Criterion, SamplingMode, Throughput, measurement::WallTime};
use std::hint::black_box;
use subring::addr::GuestPhys;
use subring::load::{Entry, Plan, Spec, builtin};
use subring::machine::{Limits, Machine, Outcome};

/// Memory of every machine here.
pub(crate) const RAM: u32 = 16 << 20;
/// Where the stack of the small guests begins.
const STACK: u32 = 0x1000;
/// Instructions of one measured step, about a round of the bench guest.
const STEP: u64 = 1_000_000;
/// Instructions before the measuring: more than any workload's preparation takes.
const PREPARATION: u64 = 5_000_000;
/// So many that no sample reaches the end, and their loop counts fit into 32 bits.
const ROUNDS: u32 = 17_000;

/// A machine without disks that starts in `bios`.
pub(crate) fn firmware(bios: &[u8]) -> Machine {
    Spec { mem: RAM, bios: Some(bios.to_vec()), ..Spec::default() }.build().expect("memory for the machine")
}

/// How the bench guest is loaded, with its command line.
pub(crate) fn plan(cmdline: &str) -> Plan {
    let guest = builtin::find("bench").expect("a built-in guest");
    Spec::builtin(guest, RAM, Some(cmdline)).expect("a kernel that fits").plan
}

/// A machine at the first instruction of `plan`.
pub(crate) fn loaded(plan: &Plan) -> Machine {
    Spec { mem: RAM, plan: plan.clone(), ..Spec::default() }.build().expect("memory for the machine")
}

/// A machine without firmware at `eip`, with `writes` in its memory.
pub(crate) fn small(eip: u32, writes: &[(u32, &[u8])]) -> Machine {
    let entry = Entry::Flat { eip, eax: 0, ebx: 0, esp: STACK };
    let writes = writes.iter().map(|(at, bytes)| (GuestPhys(*at), bytes.to_vec())).collect();
    loaded(&Plan::new(entry, writes))
}

/// Runs `instructions` more; the guest must still be at it then.
pub(crate) fn advance(machine: &mut Machine, instructions: u64) {
    let outcome = machine.run(Limits::instructions(machine.cpu.retired() + instructions));
    assert_eq!(black_box(outcome), Outcome::Reached, "the guest ended while it was measured");
}

/// Instructions of [`paging_on`] before `code`.
pub(crate) const PAGING_ON: u64 = 5;

/// `code` after instructions that turn paging on, with the page directory at `directory`, which is then in EAX.
pub(crate) fn paging_on(directory: u32, code: &[u8]) -> Vec<u8> {
    [
        &[0xb8][..], // mov eax, directory
        &directory.to_le_bytes(),
        &[0x0f, 0x22, 0xd8],                   // mov cr3, eax
        &[0x0f, 0x20, 0xc3],                   // mov ebx, cr0
        &[0x81, 0xcb, 0x00, 0x00, 0x00, 0x80], // or ebx, CR0.PG
        &[0x0f, 0x22, 0xc3],                   // mov cr0, ebx
        code,
    ]
    .concat()
}

/// Measures one workload of the bench guest, in guest instructions a second. Each sample has a machine of its own, whose
/// preparation does not count.
fn workload(group: &mut BenchmarkGroup<'_, WallTime>, name: &str) {
    group.throughput(Throughput::Elements(STEP));
    group.bench_function(name, |b| {
        let mut machine = loaded(&plan(&format!("{name}={ROUNDS}")));
        advance(&mut machine, PREPARATION);
        b.iter(|| advance(&mut machine, STEP));
    });
}

/// Measures the workloads of one family.
pub(crate) fn workloads(criterion: &mut Criterion, family: &str, names: &[&str]) {
    let mut group = criterion.benchmark_group(family);
    group.sampling_mode(SamplingMode::Flat);
    for name in names {
        workload(&mut group, name);
    }
    group.finish();
}
