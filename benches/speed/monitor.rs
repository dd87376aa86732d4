//! What a monitor costs: an exit, a shadow fill, traces, INVLPG, a switch of address space; and code that needs none of
//! them. No operation may cost more where more entries, pages or address spaces are kept.

use super::guest::{PAGING_ON, advance, loaded, paging_on, plan, small};
use criterion::{Bencher, Criterion, Throughput};
use subring::addr::GuestPhys;
use subring::cell::{Cell, Coherence};
use subring::machine::Machine;
use subring::report::Cause;
use subring::vmm;

/// Where the small guests' code and tables are.
const CODE: u32 = 0x8000;
const TABLE: u32 = 0x4000;
const IDENTITY: u32 = 0x5000;
/// The first directory of address space 0; the others follow.
const DIRECTORIES: u32 = 0x10_0000;

/// A GDT of 64 KiB, and its pointer.
const GDT: u32 = 0x9_0000;
const POINTER: u32 = 0x7000;

/// Steps of one measurement.
const STEPS: u64 = 10_000;
/// Pages of a pass of [`fill`].
const PAGES: u64 = 512;

/// Measures every operation of a monitor.
pub(crate) fn benches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("monitor");
    group.throughput(Throughput::Elements(STEPS));
    group.bench_function("exit", exit);
    group.bench_function("trace", trace);
    group.bench_function("descriptor", descriptor);
    for pages in [1, 1000] {
        group.bench_function(format!("invlpg/{pages}"), |b| invlpg(b, pages));
    }
    for spaces in [2, 1000] {
        group.bench_function(format!("directory/{spaces}"), |b| directory(b, spaces));
    }
    for spaces in [2, 30, 1000] {
        group.bench_function(format!("cr3-switch/{spaces}"), |b| cr3_switch(b, spaces));
    }
    group.throughput(Throughput::Elements(PAGES));
    group.bench_function("fill", fill);
    group.throughput(Throughput::Elements(1_000_000));
    for name in ["sieve", "calls"] {
        group.bench_function(name, |b| {
            let mut machine = loaded(&plan(&format!("{name}=17000")));
            put(&mut machine, Coherence::Trace);
            advance(&mut machine, 5_000_000);
            b.iter(|| advance(&mut machine, 1_000_000));
        });
    }
    group.finish();
}

fn put(machine: &mut Machine, coherence: Coherence) {
    vmm::install(machine, &vmm::Config { cell: Cell::trap(coherence), ..vmm::Config::default() })
        .expect("a monitor");
}

fn exits(machine: &Machine, cause: Cause) -> u64 {
    machine.monitor().expect("a monitor").exits().of(cause)
}

/// Runs `instructions` once, which must bring `STEPS` exits of `cause`, then measures.
fn measure(b: &mut Bencher<'_>, mut machine: Machine, instructions: u64, cause: Cause, expected: u64) {
    advance(&mut machine, instructions);
    let before = exits(&machine, cause);
    advance(&mut machine, instructions);
    assert_eq!(exits(&machine, cause) - before, expected);
    b.iter(|| advance(&mut machine, instructions));
}

/// IN AL, 80h and a jump.
fn exit(b: &mut Bencher<'_>) {
    let mut machine = small(CODE, &[(CODE, &[0xe4, 0x80, 0xeb, 0xfc])]);
    put(&mut machine, Coherence::Trace);
    measure(b, machine, STEPS * 2, Cause::PortIo, STEPS);
}

/// A write to an entry of a page table in use, and a jump.
fn trace(b: &mut Bencher<'_>) {
    let code = [
        0xa1, 0x00, 0x00, 0x40, 0x00, // mov eax, [400000h]: the table is in use
        0x89, 0x15, 0xfc, 0x4f, 0x00, 0x00, // again: mov [TABLE + ffch], edx
        0xeb, 0xf8, // jmp again
    ];
    let mut machine = paged(&code, 1);
    put(&mut machine, Coherence::Trace);
    measure(b, machine, STEPS * 2, Cause::TracePageTable, STEPS);
}

/// A write to the first entry of a GDT of 8192, and a jump.
fn descriptor(b: &mut Bencher<'_>) {
    let code = [
        &[0x0f, 0x01, 0x15][..], // lgdt [POINTER]
        &POINTER.to_le_bytes(),
        &[0xe4, 0x80], // in al, 80h: an exit, after which the table is traced
        &[0x89, 0x15], // again: mov [GDT], edx
        &GDT.to_le_bytes(),
        &[0xeb, 0xf8], // jmp again
    ]
    .concat();
    let mut machine = paged(&code, 1);
    machine.store(GuestPhys(POINTER), &[&[0xff, 0xff][..], &GDT.to_le_bytes()].concat());
    put(&mut machine, Coherence::Trace);
    measure(b, machine, STEPS * 2, Cause::TraceDescriptors, STEPS);
}

/// INVLPG and a read of one page, while a virtual TLB holds `pages` others.
fn invlpg(b: &mut Bencher<'_>, pages: u32) {
    let code = [
        &[0xbb, 0x00, 0x00, 0x50, 0x00][..], // mov ebx, 500000h
        &[0xb9],                             // mov ecx, pages
        &pages.to_le_bytes(),
        &[0x8b, 0x13],                               // next: mov edx, [ebx]
        &[0x81, 0xc3, 0x00, 0x10, 0x00, 0x00],       // add ebx, 1000h
        &[0x49],                                     // dec ecx
        &[0x75, 0xf5],                               // jnz next
        &[0x0f, 0x01, 0x3d, 0x00, 0x00, 0x40, 0x00], // again: invlpg [400000h]
        &[0xa1, 0x00, 0x00, 0x40, 0x00],             // mov eax, [400000h]
        &[0xeb, 0xf2],                               // jmp again
    ]
    .concat();
    let mut machine = paged(&code, 1);
    put(&mut machine, Coherence::Vtlb);
    advance(&mut machine, u64::from(pages) * 4 + 10);
    measure(b, machine, STEPS * 3, Cause::HiddenPageFault, STEPS);
}

/// A write to the directory in use, while `spaces` are kept, and a jump.
fn directory(b: &mut Bencher<'_>, spaces: u32) {
    let end = DIRECTORIES + spaces * 0x1000;
    let code = [
        &[0x0f, 0x22, 0xd8][..],               // visit: mov cr3, eax
        &[0x8b, 0x15, 0x00, 0x00, 0x40, 0x00], // mov edx, [400000h]
        &[0x05, 0x00, 0x10, 0x00, 0x00],       // add eax, 1000h
        &[0x3d],                               // cmp eax, end
        &end.to_le_bytes(),
        &[0x75, 0xeb], // jne visit
        &[0x89, 0x15], // again: mov [the current directory + 0x800], edx
        &(end - 0x1000 + 0x800).to_le_bytes(),
        &[0xeb, 0xf8], // jmp again
    ]
    .concat();
    let mut machine = paged(&code, spaces);
    put(&mut machine, Coherence::Trace);
    advance(&mut machine, u64::from(spaces) * 5 + 10);
    measure(b, machine, STEPS * 2, Cause::TracePageTable, STEPS);
}

/// MOV to CR3, the next of `spaces` address spaces, and a read of a page of its own.
fn cr3_switch(b: &mut Bencher<'_>, spaces: u32) {
    let end = DIRECTORIES + spaces * 0x1000;
    let code = [
        &[0x0f, 0x22, 0xd8][..],               // again: mov cr3, eax
        &[0x8b, 0x15, 0x00, 0x00, 0x40, 0x00], // mov edx, [400000h]
        &[0x05, 0x00, 0x10, 0x00, 0x00],       // add eax, 1000h
        &[0x3d],                               // cmp eax, end
        &end.to_le_bytes(),
        &[0x75, 0xeb], // jne again
        &[0xb8],       // mov eax, DIRECTORIES
        &DIRECTORIES.to_le_bytes(),
        &[0xeb, 0xe4], // jmp again
    ]
    .concat();
    let mut machine = paged(&code, spaces);
    put(&mut machine, Coherence::Trace);
    // All address spaces are known after this.
    advance(&mut machine, u64::from(spaces) * 5 + 100);
    let before = exits(&machine, Cause::HiddenPageFault);
    advance(&mut machine, STEPS * 5);
    assert_eq!(exits(&machine, Cause::HiddenPageFault), before, "kept shadows need no fill");
    b.iter(|| advance(&mut machine, STEPS * 5));
}

/// A read of each of 512 pages after a flush: four instructions to a page. Their frames are above 1 MiB: those of the VGA are
/// never mapped.
fn fill(b: &mut Bencher<'_>) {
    let code = [
        0x0f, 0x22, 0xd8, // again: mov cr3, eax
        0xbb, 0x00, 0x00, 0x50, 0x00, // mov ebx, 500000h
        0xb9, 0x00, 0x02, 0x00, 0x00, // mov ecx, 512
        0x8b, 0x13, // next: mov edx, [ebx]
        0x81, 0xc3, 0x00, 0x10, 0x00, 0x00, // add ebx, 1000h
        0x49, // dec ecx
        0x75, 0xf5, // jnz next
        0xeb, 0xe6, // jmp again
    ];
    let mut machine = paged(&code, 1);
    put(&mut machine, Coherence::Vtlb);
    let pass = PAGES * 4 + 4;
    // And one fill for the code.
    measure(b, machine, pass, Cause::HiddenPageFault, PAGES + 1);
}

/// A machine with paging on and `spaces` address spaces, each with the first 4 MiB where they are and the next 4 MiB mapped
/// to the same, at the first instruction of `code`, with the first directory in EAX.
fn paged(code: &[u8], spaces: u32) -> Machine {
    let entries = || -> Vec<u8> { (0..1024u32).flat_map(|n| (n << 12 | 0x63).to_le_bytes()).collect() };
    let code = paging_on(DIRECTORIES, code);
    let mut directory = vec![0; 4096];
    directory[..8].copy_from_slice(&[(IDENTITY | 3).to_le_bytes(), (TABLE | 3).to_le_bytes()].concat());
    let directories = directory.repeat(spaces as usize);
    let writes =
        [(CODE, &code[..]), (IDENTITY, &entries()), (TABLE, &entries()), (DIRECTORIES, &directories)];
    let mut machine = small(CODE, &writes);
    advance(&mut machine, PAGING_ON);
    machine
}
