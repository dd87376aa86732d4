//! The TLB: each of its operations, with as many entries in use as there are, and the loop of a kernel that changes a
//! mapping: a write of a page-table entry, INVLPG, a read of the page.
//!
//! None of these may cost more with more entries in use; [`benches`] has each operation beside its number of entries.

use super::guest::advance;
use super::micro::paged;
use criterion::{BatchSize, Bencher, BenchmarkGroup, Criterion, Throughput, measurement::WallTime};
use std::hint::black_box;
use subring::addr::{GuestPhys, Linear};
use subring::mmu::paging::Mapping;
use subring::mmu::tlb::{Class, Direct, Tlb};

/// Rounds of the loop that one measurement takes.
const ROUNDS: u64 = 10_000;
const PAGE: u32 = 4096;
const LARGE_PAGE: u32 = 4 << 20;

pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("tlb");
    for filled in [16, 1024] {
        operations(&mut group, filled);
    }
    group.throughput(Throughput::Elements(ROUNDS));
    group.bench_function("edit-invlpg-touch", edit_invlpg_touch);
    group.finish();
}

/// All operations on a TLB of `filled` entries.
fn operations(group: &mut BenchmarkGroup<'_, WallTime>, filled: u32) {
    let small = |n: u32| (Linear(n * PAGE), mapping(n, false, false));
    let global = |n: u32| (Linear(n * PAGE), mapping(n, true, false));
    let tlb = || full(filled, small);
    group.bench_function(format!("lookup/{filled}"), |b| {
        let tlb = tlb();
        b.iter(|| black_box(tlb.lookup(black_box(Linear(5 * PAGE)), Class::new(false, false))));
    });
    group.bench_function(format!("fill/{filled}"), |b| {
        let mut tlb = tlb();
        b.iter(|| fill(&mut tlb, small(5)));
    });
    group.bench_function(format!("invlpg/{filled}"), |b| {
        let mut tlb = tlb();
        b.iter(|| {
            tlb.invalidate(black_box(Linear(5 * PAGE)));
            fill(&mut tlb, small(5));
        });
    });
    group.bench_function(format!("invlpg-beside-large-pages/{filled}"), |b| {
        let mut tlb = full(filled, |n| (Linear(LARGE_PAGE + n * PAGE), mapping(n, false, true)));
        b.iter(|| {
            tlb.invalidate(black_box(Linear(5 * PAGE)));
            fill(&mut tlb, small(5));
        });
    });
    group.bench_function(format!("invlpg-of-large-page/{filled}"), |b| {
        let part = |n| (Linear(LARGE_PAGE + n * PAGE), mapping(n, false, true));
        b.iter_batched_ref(
            || full(filled, part),
            |tlb| tlb.invalidate(Linear(LARGE_PAGE)),
            BatchSize::SmallInput,
        );
    });
    group.bench_function(format!("load-cr3/{filled}"), |b| {
        b.iter_batched_ref(tlb, |tlb| tlb.flush(false), BatchSize::SmallInput);
    });
    group.bench_function(format!("load-cr3-beside-global-pages/{filled}"), |b| {
        let mut tlb = full(filled, global);
        b.iter(|| tlb.flush(false));
    });
}

/// A TLB with the entries 0 to `filled`, as `entry` has them.
fn full(filled: u32, entry: impl Fn(u32) -> (Linear, Mapping)) -> Tlb {
    let mut tlb = Tlb::default();
    (0..filled).for_each(|n| fill(&mut tlb, entry(n)));
    assert_eq!(tlb.entries().count(), filled as usize);
    tlb
}

fn fill(tlb: &mut Tlb, (at, mapping): (Linear, Mapping)) {
    tlb.fill(at, &mapping, true, Direct { read: true, write: true });
}

fn mapping(n: u32, global: bool, large: bool) -> Mapping {
    Mapping { frame: GuestPhys(n * PAGE), user: true, write: true, execute: true, dirty: true, global, large }
}

/// A kernel that changes a mapping, while 512 other pages are in the TLB.
fn edit_invlpg_touch(b: &mut Bencher<'_>) {
    /// Instructions before the loop: two, and four for each of the 512 pages.
    const BEFORE: u64 = 2 + 512 * 4;
    let mut machine = paged(&[
        0xbb, 0x00, 0x00, 0x50, 0x00, // mov ebx, 500000h
        0xb9, 0x00, 0x02, 0x00, 0x00, // mov ecx, 512
        0x8b, 0x13, // next: mov edx, [ebx]
        0x81, 0xc3, 0x00, 0x10, 0x00, 0x00, // add ebx, 1000h
        0x49, // dec ecx
        0x75, 0xf5, // jnz next
        0x81, 0x35, 0x00, 0x5c, 0x00, 0x00, 0x00, 0x10, 0x00, 0x00, // again: xor dword [5c00h], 1000h
        0x0f, 0x01, 0x3d, 0x00, 0x00, 0x70, 0x00, // invlpg [700000h]
        0x8b, 0x15, 0x00, 0x00, 0x70, 0x00, // mov edx, [700000h]
        0xeb, 0xe7, // jmp again
    ]);
    advance(&mut machine, BEFORE);
    let before = machine.world.tlb.fills;
    advance(&mut machine, ROUNDS * 4);
    assert!(machine.world.tlb.fills - before >= ROUNDS, "each round fills an entry");
    b.iter(|| advance(&mut machine, ROUNDS * 4));
}
