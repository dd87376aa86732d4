//! What binary translation costs: an exit, a callout, a trace, a chained jump, an indirect branch that its inline cache knows
//! and one that it does not, a unit's translation; and workloads under it.
//!
//! Each small guest's counts are checked before it is measured: a jump that is not chained, say, would be measured as one that is.

use super::guest::{PAGING_ON, advance, loaded, paging_on, plan, small};
use criterion::{Bencher, Criterion, Throughput};
use subring::cell::Cell;
use subring::machine::Machine;
use subring::report::Cause;
use subring::report::TranslationFigures;
use subring::vmm;

/// Where the small guests' code and tables are.
const CODE: u32 = 0x8000;
const TABLE: u32 = 0x4000;
const DIRECTORY: u32 = 0x10_0000;

/// Steps of one measurement.
const STEPS: u64 = 10_000;
/// Jumps in a row of [`chained`].
const JUMPS: u64 = 10;
/// Units that [`unit`] has translated anew.
const UNITS: u64 = 500;

/// All of them.
pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("translation");
    group.throughput(Throughput::Elements(STEPS));
    group.bench_function("exit", exit);
    group.bench_function("callout", callout);
    group.bench_function("inline", inline);
    group.bench_function("trace", |b| trace(b, false));
    group.bench_function("trace-adapted", |b| trace(b, true));
    group.bench_function("chained", chained);
    group.bench_function("indirect-hit", |b| indirect(b, 0));
    group.bench_function("indirect-miss", |b| indirect(b, STEPS));
    group.throughput(Throughput::Elements(UNITS));
    group.bench_function("unit", unit);
    group.throughput(Throughput::Elements(1_000_000));
    for name in ["sieve", "mix", "calls", "indirect"] {
        group.bench_function(name, |b| {
            let mut machine = loaded(&plan(&format!("{name}=17000")));
            put(&mut machine, true);
            advance(&mut machine, 5_000_000);
            b.iter(|| advance(&mut machine, 1_000_000));
        });
    }
    group.finish();
}

fn put(machine: &mut Machine, adaptive: bool) {
    let config = vmm::Config { cell: Cell::BT_TRACE, adaptive, ..vmm::Config::default() };
    vmm::install(machine, &config).expect("a monitor");
}

/// What was counted: exits of a cause, and of translation.
fn counts(machine: &Machine, cause: Cause) -> (u64, TranslationFigures) {
    let report = machine.monitor().expect("a monitor").report();
    (report.exits.of(cause), report.translation.expect("it translates"))
}

/// Runs `instructions` twice, `grown` of the second time must be `expected`, but for the few where a run began or a timer was
/// due; then measures.
fn measure(
    b: &mut Bencher<'_>,
    mut machine: Machine,
    instructions: u64,
    grown: impl Fn(&Machine) -> u64,
    expected: u64,
) {
    advance(&mut machine, instructions);
    let before = grown(&machine);
    advance(&mut machine, instructions);
    let found = grown(&machine) - before;
    assert!(found.abs_diff(expected) <= expected.div_ceil(100), "{found} and not {expected}");
    b.iter(|| advance(&mut machine, instructions));
}

/// A read of a register of the local APIC, and a jump; not adaptive, so that each read is a fault.
fn exit(b: &mut Bencher<'_>) {
    let code = [0xa1, 0x30, 0x00, 0xe0, 0xfe, 0xeb, 0xf9]; // again: mov eax, [fee00030h]; jmp again
    let mut machine = small(CODE, &[(CODE, &code)]);
    put(&mut machine, false);
    measure(b, machine, STEPS * 2, |m| counts(m, Cause::Mmio).0, STEPS);
}

/// IN AL, 80h and a jump.
fn callout(b: &mut Bencher<'_>) {
    let mut machine = small(CODE, &[(CODE, &[0xe4, 0x80, 0xeb, 0xfc])]);
    put(&mut machine, true);
    measure(b, machine, STEPS * 2, |m| counts(m, Cause::PortIo).1.uses("PORT-IO"), STEPS);
}

/// CLI and a jump.
fn inline(b: &mut Bencher<'_>) {
    let mut machine = small(CODE, &[(CODE, &[0xfa, 0xeb, 0xfd])]);
    put(&mut machine, true);
    measure(b, machine, STEPS * 2, |m| counts(m, Cause::Privileged).1.uses("CLI"), STEPS);
}

/// A write to an entry of a page table in use, and a jump: a fault each time, or a callout once the policy has adapted.
fn trace(b: &mut Bencher<'_>, adaptive: bool) {
    let code = [
        0xa1, 0x00, 0x00, 0x40, 0x00, // mov eax, [400000h]: the table is in use
        0x89, 0x15, 0xfc, 0x4f, 0x00, 0x00, // again: mov [TABLE + ffch], edx
        0xeb, 0xf8, // jmp again
    ];
    let code = paging_on(DIRECTORY, &code);
    let entries =
        |rights: u32| -> Vec<u8> { (0..1024u32).flat_map(|n| (n << 12 | rights).to_le_bytes()).collect() };
    let identity = TABLE + 0x1000;
    let directory = [(identity | 3).to_le_bytes(), (TABLE | 3).to_le_bytes()].concat();
    let writes =
        [(CODE, &code[..]), (identity, &entries(0x63)), (TABLE, &entries(0x63)), (DIRECTORY, &directory)];
    let mut machine = small(CODE, &writes);
    advance(&mut machine, PAGING_ON);
    put(&mut machine, adaptive);
    let grown = |m: &Machine| {
        let (exits, figures) = counts(m, Cause::TracePageTable);
        if adaptive { figures.uses("ADAPTED") } else { exits }
    };
    measure(b, machine, STEPS * 2, grown, STEPS);
}

/// Direct jumps, each to the next and the last one to the first.
fn chained(b: &mut Bencher<'_>) {
    let mut code = [0xeb, 0x00].repeat(JUMPS as usize - 1); // jmp next
    code.extend([0xeb, (-2 * JUMPS as i8) as u8]); // jmp first
    let mut machine = small(CODE, &[(CODE, &code)]);
    put(&mut machine, true);
    let misses = |m: &Machine| counts(m, Cause::PortIo).1.misses;
    measure(b, machine, STEPS, misses, 0);
}

/// An indirect jump and the direct one back: always to the same place, or to one place and another by turns.
fn indirect(b: &mut Bencher<'_>, misses: u64) {
    let step = if misses == 0 { 0x00 } else { 0x10 };
    let code = [
        0xbb, 0x60, 0x80, 0x00, 0x00, // mov ebx, 8060h
        0x83, 0xf3, step, // again: xor ebx, step
        0xff, 0xe3, // jmp ebx
    ];
    let back = |at: u32| [0xeb, (CODE as i32 + 5 - (at as i32 + 2)) as i8 as u8]; // jmp again
    let (here, there) = (CODE + 0x60, CODE + 0x70);
    let mut machine = small(CODE, &[(CODE, &code), (here, &back(here)), (there, &back(there))]);
    put(&mut machine, true);
    let grown = |m: &Machine| counts(m, Cause::PortIo).1.indirect_misses;
    measure(b, machine, STEPS * 3, grown, misses);
}

/// Units of eight instructions, translated anew: the guest writes another immediate into each, and runs it. The writing, by
/// a unit of its own, counts too.
fn unit(b: &mut Bencher<'_>) {
    const BODY: u32 = 0x20_0000;
    /// Bytes from one unit to the next.
    const APART: u32 = 32;
    let code = [
        &[0xb9][..], // again: mov ecx, UNITS
        &(UNITS as u32).to_le_bytes(),
        &[0xbb], // mov ebx, BODY + 1
        &(BODY + 1).to_le_bytes(),
        &[0xff, 0x03],              // next: inc dword [ebx]
        &[0x83, 0xc3, APART as u8], // add ebx, APART
        &[0x49],                    // dec ecx
        &[0x75, 0xf8],              // jnz next
        &[0xe9],                    // jmp BODY
        &(BODY - CODE - 23).to_le_bytes(),
    ]
    .concat();
    let mut bodies = Vec::new();
    for n in 1..=UNITS as u32 {
        let start = bodies.len();
        bodies.extend([0xb8, 0, 0, 0, 0]); // mov eax, changing
        bodies.extend([0x01, 0xc2].repeat(6)); // add edx, eax
        let from = BODY + start as u32 + 17 + 5;
        let to = if n == UNITS as u32 { CODE } else { BODY + n * APART };
        bodies.push(0xe9); // jmp to the next, or again
        bodies.extend(to.wrapping_sub(from).to_le_bytes());
        bodies.resize(start + APART as usize, 0);
    }
    let mut machine = small(CODE, &[(CODE, &code), (BODY, &bodies)]);
    put(&mut machine, true);
    let pass = 3 + UNITS * 4 + UNITS * 8;
    measure(b, machine, pass, |m| counts(m, Cause::PortIo).1.units, UNITS);
}
