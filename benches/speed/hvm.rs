//! What hardware assist costs: a VM exit and the entry after it, an EPT violation, a two-dimensional walk; and code that needs
//! none of them.

use super::guest::{advance, loaded, plan, small};
use super::micro::{PAGES, PASS, READ_PAGES, paged};
use criterion::{Bencher, Criterion, Throughput};
use subring::addr::GuestPhys;
use subring::cell::Cell;
use subring::cpu::vmx::Reason;
use subring::load::{Entry, Plan, Spec};
use subring::machine::Machine;
use subring::report::Cause;
use subring::vmm;

/// Where the small guests' code is.
const CODE: u32 = 0x8000;
/// Steps of one measurement.
const STEPS: u64 = 10_000;

/// Measures every operation of the monitor with VMX.
pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hvm");
    group.throughput(Throughput::Elements(STEPS));
    group.bench_function("cpuid", |b| exits(b, &[0x0f, 0xa2, 0xeb, 0xfc], Reason::Cpuid));
    group.bench_function("exit", |b| exits(b, &[0xe4, 0x80, 0xeb, 0xfc], Reason::Io));
    group.throughput(Throughput::Elements(FRAMES));
    group.bench_function("violation", violation);
    group.throughput(Throughput::Elements(PAGES));
    group.bench_function("walk", walk);
    group.throughput(Throughput::Elements(1_000_000));
    for (mmu, cell) in [("nested", Cell::HVM_NESTED), ("shadow", Cell::HVM_TRACE)] {
        for name in ["sieve", "calls"] {
            group.bench_function(format!("{name}/{mmu}"), |b| {
                let mut machine = loaded(&plan(&format!("{name}=17000")));
                put(&mut machine, cell);
                advance(&mut machine, 5_000_000);
                b.iter(|| advance(&mut machine, 1_000_000));
            });
        }
    }
    group.finish();
}

fn put(machine: &mut Machine, cell: Cell) {
    vmm::install(machine, &vmm::Config { cell, ..vmm::Config::default() }).expect("a monitor");
}

fn count(machine: &Machine, reason: Reason) -> u64 {
    machine.monitor().expect("a monitor").exits().of(Cause::Vmx(reason))
}

/// An instruction that exits, and a jump back to it.
fn exits(b: &mut Bencher<'_>, code: &[u8], reason: Reason) {
    let mut machine = small(CODE, &[(CODE, code)]);
    put(&mut machine, Cell::HVM_NESTED);
    advance(&mut machine, STEPS * 2);
    let before = count(&machine, reason);
    advance(&mut machine, STEPS * 2);
    assert_eq!(count(&machine, reason) - before, STEPS);
    b.iter(|| advance(&mut machine, STEPS * 2));
}

/// Frames of a pass of [`violation`]: 16 in each of 31 times 2 MiB.
const FRAMES: u64 = 496;

/// A read of a frame that the extended page tables do not map. The monitor has too few frames for all of the tables, so each
/// pass finds them dropped.
fn violation(b: &mut Bencher<'_>) {
    let code = [
        0xbb, 0x00, 0x00, 0x20, 0x00, // again: mov ebx, 200000h
        0xb9, 0xf0, 0x01, 0x00, 0x00, // mov ecx, FRAMES
        0x8b, 0x13, // next: mov edx, [ebx]
        0x81, 0xc3, 0x00, 0x00, 0x02, 0x00, // add ebx, 20000h
        0x49, // dec ecx
        0x75, 0xf5, // jnz next
        0xeb, 0xe9, // jmp again
    ];
    let entry = Entry::Flat { eip: CODE, eax: 0, ebx: 0, esp: 0x1000 };
    let plan = Plan::new(entry, vec![(GuestPhys(CODE), code.to_vec())]);
    let mut machine =
        Spec { mem: 64 << 20, plan, ..Spec::default() }.build().expect("memory for the machine");
    let config = vmm::Config { cell: Cell::HVM_NESTED, shadow_frames: 16, ..vmm::Config::default() };
    vmm::install(&mut machine, &config).expect("a monitor");
    let pass = FRAMES * 4 + 3;
    advance(&mut machine, pass);
    let before = count(&machine, Reason::EptViolation);
    advance(&mut machine, pass);
    // The frames, and the code's after each time that the tables were dropped.
    let violations = count(&machine, Reason::EptViolation) - before;
    assert!((FRAMES..FRAMES + 8).contains(&violations), "{violations} violations");
    b.iter(|| advance(&mut machine, pass));
}

/// The pages of `micro/tlb-fill`, each by a walk of two levels through extended page tables of four.
fn walk(b: &mut Bencher<'_>) {
    let mut machine = paged(&READ_PAGES);
    put(&mut machine, Cell::HVM_NESTED);
    advance(&mut machine, PASS);
    let before = (machine.world.nested, machine.monitor().expect("a monitor").exits().total());
    advance(&mut machine, PASS);
    assert!(machine.world.nested.walks - before.0.walks >= PAGES);
    assert_eq!(machine.monitor().expect("a monitor").exits().total(), before.1, "no exits");
    b.iter(|| advance(&mut machine, PASS));
}
