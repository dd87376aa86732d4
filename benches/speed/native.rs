//! The prototype of the backend for x86-64 hosts against `portable`, on the same guest loops, with each way of addressing the
//! window: `cargo bench -- native`. An element is a guest instruction.

use criterion::{BenchmarkId, Criterion, Throughput};
use subring::cpu::Cpu;
use subring::translate::backend::native::world::{FlatWorld, flat_cpu};
use subring::translate::backend::native::{ByBase, ByGs, Choice, Native};
use subring::translate::backend::{Backend, Portable};
use subring::translate::plan::Identity;
use subring::translate::{Left, Translator};

const CODE: u32 = 0x1_0000;
const DATA: u32 = 0x4_0000;
/// Instructions of one measured run.
const TICKS: u64 = 200_000;

/// Guest loops without an end: their names and code.
const LOOPS: [(&str, &[u8]); 6] = [
    // Marks multiples: mov esi,2; n: lea eax,[esi+esi]; m: mov byte [edi+eax],0; add eax,esi; cmp eax,10000h; jb m;
    // add esi,1; cmp esi,100h; jb n; jmp to the start.
    (
        "sieve",
        &[
            0xbe, 2, 0, 0, 0, 0x8d, 0x04, 0x36, 0xc6, 0x04, 0x07, 0, 0x01, 0xf0, 0x3d, 0, 0, 1, 0, 0x72,
            0xf3, 0x83, 0xc6, 1, 0x81, 0xfe, 0, 1, 0, 0, 0x72, 0xe5, 0xeb, 0xde,
        ],
    ),
    // Copies 16 KiB: mov esi,DATA; mov edi,DATA+8000h; mov ecx,1000h; l: mov eax,[esi]; mov [edi],eax; add esi,4; add edi,4;
    // sub ecx,1; jne l; jmp to the start.
    (
        "copy",
        &[
            0xbe, 0, 0, 4, 0, 0xbf, 0, 0x80, 4, 0, 0xb9, 0, 0x10, 0, 0, 0x8b, 0x06, 0x89, 0x07, 0x83, 0xc6,
            4, 0x83, 0xc7, 4, 0x83, 0xe9, 1, 0x75, 0xf1, 0xeb, 0xe0,
        ],
    ),
    // The same by an index: l: mov eax,[esi+ecx*4]; mov [edi+ecx*4],eax; sub ecx,1; jne l.
    (
        "copy-indexed",
        &[
            0xbe, 0, 0, 4, 0, 0xbf, 0, 0x80, 4, 0, 0xb9, 0, 0x10, 0, 0, 0x8b, 0x04, 0x8e, 0x89, 0x04, 0x8f,
            0x83, 0xe9, 1, 0x75, 0xf5, 0xeb, 0xe4,
        ],
    ),
    // Follows a list: mov eax,[eax]; sub ecx,1; jne to the start; jmp to the start.
    ("chase", &[0x8b, 0x00, 0x83, 0xe9, 1, 0x75, 0xf9, 0xeb, 0xf7]),
    // The same with dec ecx, which leaves CF: the charge of the clock has to save the flags.
    ("chase-dec", &[0x8b, 0x00, 0x49, 0x75, 0xfb, 0xeb, 0xf9]),
    // Stores into the page that this code is in, which the window write-protects: mov [10800h],eax; jmp to the start.
    ("protected", &[0xa3, 0, 8, 1, 0, 0xeb, 0xf9]),
];

/// A list through 16 KiB, in an order that no prefetcher follows.
fn list() -> Vec<u8> {
    const NODES: u32 = 256;
    let at = |n: u32| DATA + (n * 97 % NODES) * 64;
    let mut memory = vec![0; (NODES * 64) as usize];
    for n in 0..NODES {
        let place = (at(n) - DATA) as usize;
        memory[place..place + 4].copy_from_slice(&at(n + 1).to_le_bytes());
    }
    memory
}

struct Machine<B: Backend<FlatWorld>> {
    cpu: Cpu,
    world: FlatWorld,
    translator: Translator<FlatWorld, B>,
}

impl<B: Backend<FlatWorld>> Machine<B> {
    fn new(code: &[u8]) -> Self {
        let mut world = FlatWorld::new(1 << 20).expect("memory");
        world.put(CODE, code);
        world.put(DATA, &list());
        let mut cpu = flat_cpu(CODE, 0x8_0000);
        cpu.regs[0] = DATA;
        cpu.regs[7] = DATA + 0x1_0000;
        Self { cpu, world, translator: Translator::default() }
    }

    fn run(&mut self, ticks: u64) {
        let limit = self.cpu.now + ticks;
        let left = self.translator.run(&mut self.cpu, &mut self.world, &mut Identity, limit);
        assert!(matches!(left, Left::Stop(subring::interp::Stop::Budget)), "{left:?}");
    }
}

fn native<A: Choice>(c: &mut Criterion, way: &str) {
    for (name, code) in LOOPS {
        let mut machine = Machine::<Native<FlatWorld, A>>::new(code);
        machine.run(TICKS);
        let counts = machine.translator.backend().counts;
        println!(
            "{name}, {way}: {} bytes of host code for {} of the guest's, {} of {} units save flags, {}% native",
            counts.host_bytes,
            counts.guest_bytes,
            counts.saving,
            counts.units,
            100 * counts.retired / TICKS
        );
        measure(c, name, way, move || machine.run(TICKS));
    }
}

fn measure(c: &mut Criterion, name: &str, way: &str, mut run: impl FnMut()) {
    let mut group = c.benchmark_group("native");
    group.throughput(Throughput::Elements(TICKS));
    group.bench_function(BenchmarkId::new(name, way), |b| b.iter(&mut run));
    group.finish();
}

pub(crate) fn benches(c: &mut Criterion) {
    for (name, code) in LOOPS {
        let mut machine = Machine::<Portable<FlatWorld>>::new(code);
        measure(c, name, "portable", move || machine.run(TICKS));
    }
    native::<ByGs>(c, "gs");
    native::<ByBase>(c, "base");
}
