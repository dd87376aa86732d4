//! Single steps: what a machine's start costs, a decoded instruction, an event with its IRET, a TLB fill and a flush.
//!
//! The guests are endless loops of a few instructions, given as bytes with their assembly text. Guest instructions are
//! counted into steps here: `PAIRS * 3` instructions are `PAIRS` rounds of a loop of three.

use super::guest::{PAGING_ON, advance, firmware, loaded, paging_on, plan, small};
use criterion::{Bencher, Criterion, Throughput};
use std::hint::black_box;
use subring::decode::{Decoded, decode};
use subring::machine::Machine;

/// The project's own BIOS.
const BIOS: &[u8] = include_bytes!("../../guest-programs/bios/bios.bin");

/// Where the small guests' code and tables are.
const CODE: u32 = 0x8000;
const GDT: u32 = 0x1000;
const IDT: u32 = 0x2000;
const DIRECTORY: u32 = 0x3000;
const TABLES: u32 = 0x4000;

/// Steps of one measurement.
const STEPS: u64 = 10_000;

/// All of them.
pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("start");
    group.bench_function("kernel", start_kernel);
    group.bench_function("firmware", start_firmware);
    group.finish();

    let code = kernel_code();
    let mut group = criterion.benchmark_group("micro");
    group.throughput(Throughput::Elements(code.len() as u64));
    group.bench_function("decode", |b| b.iter(|| decode_all(&code)));
    group.throughput(Throughput::Elements(STEPS));
    group.bench_function("int-iret", int_iret);
    group.bench_function("tlb-flush", tlb_flush);
    group.throughput(Throughput::Elements(PAGES));
    group.bench_function("tlb-fill", tlb_fill);
    group.finish();
}

/// A machine is built, gets a kernel, runs one instruction, and is dropped.
fn start_kernel(b: &mut Bencher<'_>) {
    let plan = plan("");
    b.iter(|| advance(&mut loaded(&plan), 1));
}

/// The same with a BIOS, from the reset vector.
fn start_firmware(b: &mut Bencher<'_>) {
    b.iter(|| advance(&mut firmware(BIOS), 1));
}

/// The bench kernel's bytes, cut at its instructions as a linear sweep finds them (it sweeps over the constants, too).
fn kernel_code() -> Vec<Vec<u8>> {
    let plan = plan("");
    let image = plan.writes.iter().map(|(_, bytes)| bytes).max_by_key(|b| b.len()).expect("a segment");
    let mut cuts = Vec::new();
    let mut at = 0;
    while let Some(Decoded::Insn(insn)) = image.get(at..).map(|rest| decode(rest, true)) {
        cuts.push(image[at..].iter().copied().take(usize::from(insn.len)).collect());
        at += usize::from(insn.len);
    }
    assert!(cuts.len() > 1000, "{} instructions are no kernel", cuts.len());
    cuts
}

fn decode_all(code: &[Vec<u8>]) {
    for bytes in code {
        black_box(decode(black_box(bytes), true));
    }
}

/// INT 40h and IRET, ring 0 to ring 0, without paging.
fn int_iret(b: &mut Bencher<'_>) {
    const HANDLER: u32 = CODE + 0x100;
    let code = [
        &[0x0f, 0x01, 0x15, 0x00, 0x10, 0x00, 0x00][..], // lgdt [GDT]: the null descriptor's place holds its register
        &[0x0f, 0x01, 0x1d, 0x08, 0x11, 0x00, 0x00],     // lidt [GDT + 108h]
        &[0xcd, 0x40],                                   // again: int 40h
        &[0xeb, 0xfc],                                   // jmp again
    ]
    .concat();
    let gate = [HANDLER as u16, 0x08, 0x8e00, (HANDLER >> 16) as u16].map(u16::to_le_bytes).concat();
    let writes: [(u32, &[u8]); 6] = [
        (CODE, &code),
        (HANDLER, &[0xcf]), // iret
        (GDT, &table_register(GDT, 0xff)),
        (GDT + 8, &[0xff, 0xff, 0, 0, 0, 0x9a, 0xcf, 0]), // flat code
        (GDT + 0x108, &table_register(IDT, 0x7ff)),
        (IDT + 8 * 0x40, &gate),
    ];
    let mut machine = small(CODE, &writes);
    advance(&mut machine, 2);
    let before = machine.world.software_interrupts[0x40];
    advance(&mut machine, STEPS * 3);
    assert_eq!(machine.world.software_interrupts[0x40] - before, STEPS);
    b.iter(|| advance(&mut machine, STEPS * 3));
}

/// What LGDT and LIDT read.
fn table_register(base: u32, limit: u16) -> Vec<u8> {
    [&limit.to_le_bytes()[..], &base.to_le_bytes()].concat()
}

/// MOV to CR3 with the code's page in the TLB: each flush brings a fill of that page.
fn tlb_flush(b: &mut Bencher<'_>) {
    let mut machine = paged(&[
        0x0f, 0x22, 0xd8, // again: mov cr3, eax
        0xeb, 0xfb, // jmp again
    ]);
    let before = machine.world.tlb.flushes;
    advance(&mut machine, STEPS * 2);
    assert_eq!(machine.world.tlb.flushes - before, STEPS);
    b.iter(|| advance(&mut machine, STEPS * 2));
}

/// Pages of a pass of [`READ_PAGES`]: fewer than the TLB has entries, and none that shares an entry with the code.
pub(crate) const PAGES: u64 = 512;
/// Instructions of such a pass.
pub(crate) const PASS: u64 = PAGES * 4 + 4;

/// A read of each of 512 pages after a flush: four instructions to a page.
pub(crate) const READ_PAGES: [u8; 26] = [
    0x0f, 0x22, 0xd8, // again: mov cr3, eax
    0xbb, 0x00, 0x00, 0x50, 0x00, // mov ebx, 500000h
    0xb9, 0x00, 0x02, 0x00, 0x00, // mov ecx, 512
    0x8b, 0x13, // next: mov edx, [ebx]
    0x81, 0xc3, 0x00, 0x10, 0x00, 0x00, // add ebx, 1000h
    0x49, // dec ecx
    0x75, 0xf5, // jnz next
    0xeb, 0xe6, // jmp again
];

/// A fill of the TLB by a walk of two levels.
fn tlb_fill(b: &mut Bencher<'_>) {
    let mut machine = paged(&READ_PAGES);
    let before = machine.world.tlb.fills;
    advance(&mut machine, PASS);
    assert!(machine.world.tlb.fills - before >= PAGES);
    b.iter(|| advance(&mut machine, PASS));
}

/// A machine with paging on, all of its memory mapped where it is, at the first instruction of `code`, with the page
/// directory's address in EAX.
pub(crate) fn paged(code: &[u8]) -> Machine {
    const PRESENT_WRITABLE: u32 = 3;
    let entries = |first: u32| -> Vec<u8> {
        (0..4096).flat_map(|n| ((first + 4096 * n) | PRESENT_WRITABLE).to_le_bytes()).collect()
    };
    let code = paging_on(DIRECTORY, code);
    let directory = &entries(TABLES)[..16];
    let mut machine = small(CODE, &[(CODE, &code), (DIRECTORY, directory), (TABLES, &entries(0))]);
    advance(&mut machine, PAGING_ON);
    machine
}
