//! The prototype of the backend for x86-64 hosts against the interpreter: random programs, faults in the middle of generated
//! code, chained loops. `SUBRING_FULL=1` runs a hundred times as many programs.

use subring::addr::{Linear, MachineAddr};
use subring::cpu::{Cpu, Fault};
use subring::interp::{Interp, Stop};
use subring::translate::backend::native::world::{FlatWorld, flat_cpu};
use subring::translate::backend::native::{ByBase, ByGs, Choice, Counts, Native};
use subring::translate::plan::Identity;
use subring::translate::{Left, Translator};

const RAM: u32 = 1 << 20;
const CODE: u32 = 0x1_0000;
const DATA: u32 = 0x4_0000;
const STACK: u32 = 0x8_0000;
/// A page that is not there, and one that cannot be written.
const ABSENT: u32 = DATA + 0x3000;
const READ_ONLY: u32 = DATA + 0x5000;

fn world(code: &[u8]) -> FlatWorld {
    let mut world = FlatWorld::new(RAM).expect("memory");
    world.put(CODE, code);
    let words: Vec<u8> = (0..0x1_0000u32).map(|n| (n.wrapping_mul(0x9e37_79b1) >> 24) as u8).collect();
    world.put(DATA, &words);
    world.set_page(Linear(ABSENT), None);
    world.set_page(Linear(READ_ONLY), Some((MachineAddr(READ_ONLY), false)));
    // The end of the address space shows a page of data, and so does its start.
    world.set_page(Linear(0xffff_f000), Some((MachineAddr(DATA + 0x1000), true)));
    world.set_page(Linear(0), Some((MachineAddr(DATA + 0x2000), true)));
    world
}

/// A machine, and what runs it.
struct Side<R> {
    cpu: Cpu,
    world: FlatWorld,
    runner: R,
}

impl<R: Default> Side<R> {
    fn new(code: &[u8]) -> Self {
        Self { cpu: flat_cpu(CODE, STACK), world: world(code), runner: R::default() }
    }
}

impl Side<Interp<FlatWorld>> {
    fn run(&mut self, limit: u64) -> Stop {
        self.runner.run(&mut self.cpu, &mut self.world, limit)
    }
}

type Natively<A> = Side<Translator<FlatWorld, Native<FlatWorld, A>>>;

impl<A: Choice> Natively<A> {
    fn run(&mut self, limit: u64) -> Stop {
        match self.runner.run(&mut self.cpu, &mut self.world, &mut Identity, limit) {
            Left::Stop(stop) => stop,
            other => panic!("direct execution calls nobody: {other:?}"),
        }
    }

    fn counts(&self) -> Counts {
        self.runner.backend().counts
    }
}

/// What can be seen of a processor.
fn state(cpu: &Cpu) -> String {
    format!("{:x?} eip {:x} {:?} now {}", &cpu.regs[..8], cpu.eip, cpu.eflags(), cpu.now)
}

/// A small generator of random numbers (xorshift).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as u32
    }
    fn below(&mut self, n: u32) -> u32 {
        self.next() % n
    }
    fn chance(&mut self, of: u32) -> bool {
        self.below(of) == 0
    }
}

const ESP: u8 = 4;

/// A program of blocks that jump to each other, of 32-bit code at [`CODE`].
struct Program {
    random: Random,
    code: Vec<u8>,
    /// Where a displacement is to be filled in.
    branches: Vec<usize>,
    blocks: Vec<u32>,
    /// Stores go into the code, too.
    modifies: bool,
}

impl Program {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        random.next();
        let modifies = random.chance(8);
        let mut program =
            Self { random, code: Vec::new(), branches: Vec::new(), blocks: Vec::new(), modifies };
        for _ in 0..4 + program.random.below(8) {
            program.block();
        }
        for site in std::mem::take(&mut program.branches) {
            let to = program.blocks[program.random.below(program.blocks.len() as u32) as usize];
            let by = to.wrapping_sub(CODE + site as u32 + 4);
            program.code[site..site + 4].copy_from_slice(&by.to_le_bytes());
        }
        program
    }

    fn emit(&mut self, bytes: &[u8]) {
        self.code.extend_from_slice(bytes);
    }

    fn branch(&mut self, opcode: &[u8]) {
        self.emit(opcode);
        self.branches.push(self.code.len());
        self.emit(&[0; 4]);
    }

    fn block(&mut self) {
        self.blocks.push(CODE + self.code.len() as u32);
        for _ in 0..self.random.below(9) {
            match self.random.below(8) {
                0 | 1 => self.pointer(),
                2 => self.stack(),
                3 if self.random.chance(3) => {
                    let cond = self.random.below(16) as u8;
                    self.branch(&[0x0f, 0x80 + cond]);
                }
                _ => self.computes(),
            }
        }
        match self.random.below(8) {
            0 => self.branch(&[0xe9]),
            1 => self.branch(&[0xe8]),
            // Outside of the subset: RET; LOOP; CPUID.
            2 if self.random.chance(3) => self.emit(&[0xc3]),
            3 if self.random.chance(3) => self.emit(&[0xe2, 0xfe]),
            4 if self.random.chance(4) => self.emit(&[0x0f, 0xa2]),
            _ => {
                let cond = self.random.below(16) as u8;
                self.branch(&[0x0f, 0x80 + cond]);
            }
        }
    }

    /// A register gets an address of data.
    fn pointer(&mut self) {
        let register = self.random.below(8) as u8;
        let at = match self.random.below(16) {
            0 => 0xffff_fff0 + self.random.below(16),
            1 => self.random.below(16),
            2 if self.modifies => CODE + self.random.below(self.code.len() as u32 + 8),
            _ if register == ESP => STACK - 4 * self.random.below(64),
            _ => DATA + self.random.below(0x8000),
        };
        self.emit(&[0xb8 + register]);
        self.emit(&at.to_le_bytes());
    }

    fn stack(&mut self) {
        let register = self.random.below(8) as u8;
        match self.random.below(6) {
            0 | 1 => self.emit(&[0x50 + register]),
            2 | 3 => self.emit(&[0x58 + register]),
            4 => {
                self.emit(&[0x6a]);
                let value = self.random.next() as u8;
                self.emit(&[value]);
            }
            _ => {
                let operand = self.operand(6, true);
                self.emit(&[0xff]);
                self.emit(&operand);
            }
        }
    }

    /// ModRM and what follows, with `reg` in the middle; or, if it must be, memory.
    fn operand(&mut self, reg: u8, memory: bool) -> Vec<u8> {
        let mode = if memory { self.random.below(3) } else { self.random.below(5).min(3) } as u8;
        let rm = self.random.below(8) as u8;
        let mut bytes = vec![mode << 6 | reg << 3 | rm];
        let mut disp = [0, 1, 4, 0][mode as usize];
        if mode < 3 && rm == ESP {
            let sib = self.random.next() as u8;
            bytes.push(sib);
            if mode == 0 && sib & 7 == 5 {
                disp = 4;
            }
        }
        if mode == 0 && rm == 5 {
            disp = 4;
        }
        match disp {
            1 => bytes.push(self.random.next() as u8),
            4 => {
                let absolute = mode == 0;
                let near = self.random.below(64).wrapping_sub(32);
                let value = if absolute { DATA + self.random.below(0x8000) } else { near };
                bytes.extend(value.to_le_bytes());
            }
            _ => {}
        }
        bytes
    }

    fn computes(&mut self) {
        let (reg, wide) = (self.random.below(8) as u8, self.random.below(4));
        let width = u8::from(wide != 0);
        if wide == 1 && self.random.chance(2) {
            self.emit(&[0x66]);
        }
        let word = self.code.last() == Some(&0x66) && width == 1;
        let with = |program: &mut Self, opcode: &[u8], reg: u8, memory: bool| {
            let operand = program.operand(reg, memory);
            program.emit(opcode);
            program.emit(&operand);
        };
        match self.random.below(14) {
            0..4 => {
                let (form, other) = (self.random.below(2) as u8 * 2, self.random.below(8) as u8);
                with(self, &[reg * 8 + form + width], other, false);
            }
            4 => {
                with(self, &[0x80 + 3 * width], reg, false);
                let value = self.random.next() as u8;
                self.emit(&[value]);
            }
            5 => with(self, &[0x88 + width], reg, false),
            6 | 7 => with(self, &[0x8a + width], reg, false),
            8 => with(self, &[0x84 + width], reg, false),
            9 => {
                let kind = [0xb6, 0xb7, 0xbe, 0xbf][self.random.below(4) as usize];
                with(self, &[0x0f, kind], reg, false);
            }
            10 => with(self, &[0xfe + width], reg & 1, false),
            11 => with(self, &[0xf6 + width], 2 + (reg & 1), false),
            12 => {
                let (cond, set) = (self.random.below(16) as u8, self.random.chance(2));
                with(self, &[0x0f, if set { 0x90 } else { 0x40 } + cond], reg, false);
            }
            _ => match self.random.below(6) {
                0 => with(self, &[0x8d], reg, true),
                1 => self.emit(&[0x98 + (reg & 1)]),
                2 => self.emit(&[[0xf5, 0xf8, 0xf9, 0x90][(reg & 3) as usize]]),
                3 if !word => self.emit(&[0x0f, 0xc8 + reg]),
                // Outside of the subset: SHL by CL, IMUL.
                4 => with(self, &[0xd2 + width], 4, false),
                _ => with(self, &[0x0f, 0xaf], reg, false),
            },
        }
    }
}

/// Runs `seed`'s program both ways, in slices, and holds the states against each other after each.
fn agree<A: Choice>(seed: u64, sum: &mut Counts) {
    let Program { code, blocks, mut random, .. } = Program::new(seed);
    let mut reference = Side::<Interp<FlatWorld>>::new(&code);
    let mut native = Natively::<A>::new(&code);
    for n in 0..8 {
        let value = DATA + random.below(0x8000);
        if n != ESP {
            (reference.cpu.regs[n as usize], native.cpu.regs[n as usize]) = (value, value);
        }
    }
    let mut limit = 0;
    for _ in 0..24 {
        limit = reference.cpu.now.max(limit) + u64::from(random.below(400));
        let stops = (reference.run(limit), native.run(limit));
        let states = (state(&reference.cpu), state(&native.cpu));
        assert_eq!(stops.1, stops.0, "program {seed}\n{}\n{}", states.1, states.0);
        assert_eq!(states.1, states.0, "program {seed}, after {:?}", stops.0);
        assert!(reference.world.memory() == native.world.memory(), "program {seed}, after {}", states.0);
        if stops.0 != Stop::Budget {
            // A handler would go on somewhere.
            let to = blocks[random.below(blocks.len() as u32) as usize];
            (reference.cpu.eip, native.cpu.eip) = (to, to);
            (reference.cpu.regs[4], native.cpu.regs[4]) = (STACK, STACK);
        }
    }
    let counts = native.counts();
    sum.units += counts.units;
    sum.retired += counts.retired;
    sum.faults += counts.faults;
    sum.mapped += counts.mapped;
    sum.saving += counts.saving;
}

fn random_programs<A: Choice>() {
    let most = if std::env::var_os("SUBRING_FULL").is_some() { 50_000 } else { 500 };
    let mut sum = Counts::default();
    (1..=most).for_each(|seed| agree::<A>(seed, &mut sum));
    assert!(sum.units > 5 * most && sum.retired > 100 * most, "generated code was run at all: {sum:?}");
    assert!(sum.faults > sum.mapped && sum.mapped > most && sum.saving > most / 2, "{sum:?}");
}

#[test]
fn random_programs_run_as_interpreted_with_gs() {
    random_programs::<ByGs>();
}

#[test]
fn random_programs_run_as_interpreted_with_a_base_register() {
    random_programs::<ByBase>();
}

/// What a run to the first stop leaves, interpreted and natively.
fn both<A: Choice>(code: &[u8], limit: u64, prepare: impl Fn(&mut Cpu)) -> (Stop, Cpu, Counts) {
    let mut reference = Side::<Interp<FlatWorld>>::new(code);
    let mut native = Natively::<A>::new(code);
    prepare(&mut reference.cpu);
    prepare(&mut native.cpu);
    let stops = (reference.run(limit), native.run(limit));
    assert_eq!(stops.1, stops.0);
    assert_eq!(state(&native.cpu), state(&reference.cpu));
    assert!(native.world.memory() == reference.world.memory());
    (stops.1, native.cpu.clone(), native.counts())
}

/// mov eax,1; add ecx,ecx; mov [ebx],eax; mov eax,2; add dword [ebx+1000h],1; mov eax,3; jmp $
const FAULTS: [u8; 30] = [
    0xb8, 1, 0, 0, 0, 0x01, 0xc9, 0x89, 0x03, 0xb8, 2, 0, 0, 0, 0x83, 0x83, 0, 0x10, 0, 0, 1, 0xb8, 3, 0, 0,
    0, 0xeb, 0xfe, 0, 0,
];

fn a_fault_is_exact<A: Choice>() {
    for (page, code) in [(ABSENT, 2), (READ_ONLY, 3)] {
        let (stop, cpu, counts) = both::<A>(&FAULTS, 1000, |cpu| {
            cpu.regs[1] = 0x8000_0001;
            cpu.regs[3] = page - 0x1000 + 0x24;
        });
        // The store before it is done and its page is mapped by a fault of its own; CF is that of ADD ECX,ECX.
        assert_eq!(stop, Stop::Fault(Fault::page(page + 0x24, code)));
        assert_eq!((cpu.regs[0], cpu.regs[1], cpu.eip, cpu.now), (2, 2, CODE + 14, 4));
        assert!(cpu.lazy.cf(), "{:?}", cpu.eflags());
        assert_eq!((counts.faults, counts.mapped, counts.retired), (2, 1, 0));
    }
}

#[test]
fn a_fault_in_the_middle_leaves_the_state_before_its_instruction() {
    a_fault_is_exact::<ByGs>();
    a_fault_is_exact::<ByBase>();
}

/// A loop of four units: a call, a jump, and two ways back. RET is outside of the subset.
///
/// ```text
/// 00 top:  add eax,ecx
/// 02       jmp next
/// 04 next: xor edx,eax
/// 06       test eax,1
/// 0b       jne odd
/// 0d       add ebx,1
/// 10       jmp back
/// 12 odd:  sub ebx,1
/// 15       jmp back
/// 17 back: sub ecx,1
/// 1a       jne top
/// 1c       jmp $
/// ```
const LOOP: [u8; 30] = [
    0x01, 0xc8, 0xeb, 0x00, 0x31, 0xc2, 0xa9, 1, 0, 0, 0, 0x75, 0x05, 0x83, 0xc3, 1, 0xeb, 0x05, 0x83, 0xeb,
    1, 0xeb, 0x00, 0x83, 0xe9, 1, 0x75, 0xe4, 0xeb, 0xfe,
];

fn a_loop_chains<A: Choice>() {
    let (stop, cpu, counts) = both::<A>(&LOOP, 100_000, |cpu| cpu.regs[1] = 10_000);
    assert_eq!((stop, cpu.now), (Stop::Budget, 100_000));
    assert_eq!((cpu.regs[1], cpu.eip), (0, CODE + 28));
    // It comes back for each way that is not linked yet, and near the end.
    assert!(counts.entries < 20 && counts.retired > 99_900, "{counts:?}");
    assert_eq!((counts.saving, counts.faults), (1, 0), "JMP $ writes no flags: {counts:?}");
}

#[test]
fn a_loop_of_several_units_stays_in_generated_code() {
    a_loop_chains::<ByGs>();
    a_loop_chains::<ByBase>();
}

/// A store into the code that runs next: mov byte [CODE+0Bh],2; add ecx,1; mov eax,1 (then: 2); jmp $
const MODIFIES: [u8; 17] = [0xc6, 0x05, 0x0b, 0, 1, 0, 2, 0x83, 0xc1, 1, 0xb8, 1, 0, 0, 0, 0xeb, 0xfe];

#[test]
fn code_that_is_overwritten_is_translated_anew() {
    for n in 1..20 {
        let (_, cpu, _) = both::<ByGs>(&MODIFIES, n, |_| {});
        assert!(n < 3 || cpu.regs[0] == 2);
        both::<ByBase>(&MODIFIES, n, |_| {});
    }
}
