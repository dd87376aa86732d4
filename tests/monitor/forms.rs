//! What the translator's backend has a compiled form for, and what bars an operation's quick way: random code
//! whose memory operands lie about segment limits and in its own code, with every near branch, in translated
//! code and interpreted. A fault ends the same in both, at the same instruction; then both go on elsewhere.

use super::equivalence::cases;
use super::seeded::Draw;
use subring::addr::GuestPhys;
use subring::cpu::{Cpu, Cr0, Segment};
use subring::decode::SegReg;
use subring::interp::{Exit, Interp, Stop};
use subring::lab::state;
use subring::machine::board::BoardConfig;
use subring::machine::{Config, Machine, World};
use subring::translate::backend::Portable;
use subring::translate::plan::Identity;
use subring::translate::{Left, Translator};

/// The code's first byte, and its length at most. Below 64 KiB, so that branches with 16-bit operands arrive.
const CODE: u32 = 0x8000;
const CODE_LEN: usize = 1500;
/// Limits: of data, and of the stack.
const DATA_LIMIT: u32 = 0x1_0fff;
const STACK_LIMIT: u32 = 0xc0ff;

/// A generated instruction's place in code under construction.
struct Code<'a> {
    draw: &'a mut Draw,
    bytes: Vec<u8>,
}

impl Code<'_> {
    fn byte(&mut self) -> u8 {
        self.draw.below(256) as u8
    }

    /// ModRM with `reg`, or a random register, and the rest: a register, or memory in any of the forms that
    /// have a type, and some that have none.
    fn operands(&mut self, reg: Option<u8>) {
        let reg = reg.unwrap_or(self.draw.below(8) as u8) << 3;
        let displacement = self.byte();
        match self.draw.below(8) {
            0..3 => {
                let rm = self.draw.below(8) as u8;
                self.bytes.extend([0xc0 | reg | rm]);
            }
            3 => self.bytes.extend([reg | 6]),
            4 => self.bytes.extend([0x40 | reg | 7, displacement]),
            5 => self.bytes.extend([0x40 | reg | 4, 0x24, displacement]),
            6 => self.bytes.extend([0x40 | reg | 4, 0x1e | (self.draw.below(2) << 6) as u8, displacement]),
            _ => {
                self.bytes.extend([reg | 5]);
                let near = [CODE, DATA_LIMIT - 3, 0x9000][self.draw.below(3)] + self.draw.below(900) as u32;
                self.bytes.extend(near.to_le_bytes());
            }
        }
    }

    /// An instruction that goes on with the next.
    fn plain(&mut self) {
        if self.draw.below(8) == 0 {
            self.bytes.extend([0x66]);
        }
        match self.draw.below(16) {
            0 | 1 => {
                let op = [0x00, 0x08, 0x10, 0x18, 0x20, 0x28, 0x30, 0x38][self.draw.below(8)];
                self.bytes.extend([op | self.draw.below(4) as u8]);
                self.operands(None);
            }
            2 => {
                self.bytes.extend([0x83]);
                self.operands(None);
                let n = self.byte();
                self.bytes.extend([n]);
            }
            3 | 4 => {
                self.bytes.extend([0x88 | self.draw.below(4) as u8]);
                self.operands(None);
            }
            5 => {
                self.bytes.extend([0xc6]);
                self.operands(Some(0));
                let n = self.byte();
                self.bytes.extend([n]);
            }
            6 => {
                self.bytes.extend([0x0f, [0xb6, 0xb7, 0xbe, 0xbf, 0xaf][self.draw.below(5)]]);
                self.operands(None);
            }
            7 => {
                self.bytes.extend([0x0f, 0x40 | self.draw.below(16) as u8]);
                self.operands(None);
            }
            8 => {
                self.bytes.extend([0x0f, 0x90 | self.draw.below(16) as u8]);
                self.operands(Some(0));
            }
            9 => {
                self.bytes.extend([[0xc0, 0xc1][self.draw.below(2)]]);
                let kind = [4, 5, 7][self.draw.below(3)];
                self.operands(Some(kind));
                let n = self.byte();
                self.bytes.extend([n]);
            }
            10 => self.bytes.extend([0x50 | self.draw.below(16) as u8]),
            11 => {
                self.bytes.extend([0xff]);
                let kind = [0, 1, 6][self.draw.below(3)];
                self.operands(Some(kind));
            }
            12 => {
                self.bytes.extend([0xf7]);
                let kind = [2, 3][self.draw.below(2)];
                self.operands(Some(kind));
            }
            13 => {
                self.bytes.extend([0x86 | self.draw.below(2) as u8]);
                self.operands(None);
            }
            14 => self.bytes.extend([[0x40, 0x48, 0x90, 0x99, 0xc9, 0x98][self.draw.below(6)]]),
            _ => {
                self.bytes.extend([0x6b]);
                self.operands(None);
                let n = self.byte();
                self.bytes.extend([n]);
            }
        }
    }

    /// A comparison, more often than not of a form that becomes one with the Jcc after it, and that.
    fn compare_and_jump(&mut self) {
        match self.draw.below(4) {
            0 => self.bytes.extend([[0x38, 0x39, 0x3a, 0x3b, 0x84, 0x85][self.draw.below(6)]]),
            1 => self.bytes.extend([0x80]),
            _ => self.bytes.extend([0x83]),
        }
        if matches!(self.bytes.last(), Some(0x80 | 0x83)) {
            self.operands(Some(7));
            let n = self.byte();
            self.bytes.extend([n]);
        } else {
            self.operands(None);
        }
        self.jcc();
    }

    fn jcc(&mut self) {
        let cond = self.draw.below(16) as u8;
        match self.draw.below(8) {
            // Beyond the limit of CS.
            0 => self.bytes.extend([0x0f, 0x80 | cond, 0, 0, 1, 0]),
            1 => self.bytes.extend([0x66, 0x0f, 0x80 | cond, 3, 0]),
            2 => self.bytes.extend([0x70 | cond, (-20i8) as u8]),
            _ => self.bytes.extend([0x70 | cond, self.draw.below(6) as u8]),
        }
    }

    /// Another near branch.
    fn branch(&mut self) {
        match self.draw.below(8) {
            0 => self.bytes.extend([0xe9, 5, 0, 0, 0]),
            1 => self.bytes.extend([0xe8, self.draw.below(30) as u8, 0, 0, 0]),
            2 => self.bytes.extend([0xe8, 0, 0, 2, 0]),
            3 => self.bytes.extend([0xc3]),
            4 => self.bytes.extend([0xe2, self.draw.below(9) as u8]),
            5 => {
                self.bytes.extend([0xff]);
                let kind = [2, 4][self.draw.below(2)];
                self.operands(Some(kind));
            }
            6 => self.bytes.extend([0xc2, 4, 0]),
            _ => self.bytes.extend([0xeb, self.draw.below(9) as u8]),
        }
    }
}

/// Registers that point somewhere worth it.
fn scatter(cpu: &mut Cpu, draw: &mut Draw) {
    for (n, reg) in cpu.regs.iter_mut().take(8).enumerate() {
        let (from, span) = match draw.below(4) {
            0 => (CODE, CODE_LEN),
            1 => (DATA_LIMIT - 200, 260),
            2 => (STACK_LIMIT - 100, 120),
            _ => (0x9000, 0x3000),
        };
        *reg = if n == 1 { draw.below(3) as u32 } else { from + draw.below(span) as u32 };
    }
    cpu.regs[4] = [STACK_LIMIT - 40, 0xa000, 12, CODE + 200][draw.below(4)] + draw.below(50) as u32;
    cpu.eip = CODE + draw.below(CODE_LEN - 100) as u32;
}

fn machine(seed: u64) -> Machine {
    let ram_size = 1 << 20;
    let board = BoardConfig { ram_size, ..BoardConfig::default() };
    let mut m = Machine::new(Config { ram_size, board, bios: None, vga_bios: None }).expect("a machine");
    let mut code = Code { draw: &mut Draw(seed), bytes: Vec::new() };
    while code.bytes.len() < CODE_LEN {
        match code.draw.below(8) {
            0..5 => code.plain(),
            5 | 6 => code.compare_and_jump(),
            _ => code.branch(),
        }
    }
    m.store(GuestPhys(CODE), &code.bytes);
    m.start_flat(CODE, 0, 0, 0x9000);
    m.cpu.set_seg(SegReg::Ds, Segment::with(0x10, 0, DATA_LIMIT, 0x493));
    m.cpu.set_seg(SegReg::Ss, Segment::with(0x10, 0, STACK_LIMIT, 0x493));
    m.cpu.set_seg(SegReg::Cs, Segment::with(0x08, 0, CODE + CODE_LEN as u32 - 50, 0x49b));
    m
}

/// Runs on until something else is up than a chip.
fn until(mut run: impl FnMut() -> Left) -> Left {
    loop {
        match run() {
            Left::Stop(Stop::Exit(Exit::Chips)) => {}
            left => return left,
        }
    }
}

/// Runs both, from fault to fault; how many there were.
fn alike(seed: u64) -> Result<u64, String> {
    let (mut a, mut b) = (machine(seed), machine(seed));
    let mut interp = Interp::<World>::default();
    let mut translator = Translator::<World, Portable<World>>::default();
    let mut draw = Draw(!seed);
    let mut faults = 0;
    for _ in 0..120 {
        let mut again = draw.clone();
        scatter(&mut a.cpu, &mut draw);
        scatter(&mut b.cpu, &mut again);
        let to = a.cpu.now + 1 + draw.below(40) as u64;
        // A chip that was spoken to is looked after at the end of a unit, or of a trace.
        let plain = until(|| Left::Stop(interp.run(&mut a.cpu, &mut a.world, to)));
        let left = until(|| translator.run(&mut b.cpu, &mut b.world, &mut Identity, to));
        let differences = state::differences(&a, &b);
        if left != plain || !differences.is_empty() {
            return Err(format!("by tick {to}, {plain:?} {left:?} {differences:#?}"));
        }
        faults += u64::from(matches!(plain, Left::Stop(Stop::Fault(_))));
    }
    Ok(faults)
}

#[test]
fn each_form_of_operand_and_branch_ends_the_same_in_translated_code() {
    let mut faults = 0;
    for seed in 0..u64::from(cases(300)) {
        faults += alike(seed).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
    }
    println!("{faults} faults");
    assert!(faults > 3 * u64::from(cases(300)), "operands lie beyond limits, too");
}

/// The walk for a fetch sets an accessed bit in a page table that is code, too: ADD EAX, EAX (03 C0) becomes
/// AND EAX, EAX (23 C0), where it had been translated already.
#[test]
fn the_walk_for_a_fetch_may_change_translated_code() {
    let shared = || {
        let mut m = machine(1);
        m.store(GuestPhys(0x2000), &0x3023u32.to_le_bytes());
        let mut table: Vec<u32> = (0..1024).map(|page| page << 12 | 0x63).collect();
        // The page at 7000, not accessed yet; and RET.
        table[7] = 0xc003;
        table[8] = 0x80c3;
        let bytes: Vec<u8> = table.into_iter().flat_map(u32::to_le_bytes).collect();
        m.store(GuestPhys(0x3000), &bytes);
        let call = |from: u32| [&[0xe8][..], &(0x301cu32.wrapping_sub(from + 5)).to_le_bytes()].concat();
        m.store(GuestPhys(0x9000), &call(0x9000));
        m.store(GuestPhys(0x9005), &[0xe9, 0xf6, 0xdf, 0xff, 0xff]);
        m.store(GuestPhys(0xc000), &call(0x7000));
        m.store(GuestPhys(0xc005), &[0xeb, 0xfe]);
        m.start_flat(0x9000, 0, 0, 0x5ff0);
        m.cpu.regs[0] = 0x5000;
        m.cpu.cr3 = 0x2000;
        m.cpu.cr0 |= Cr0::PG;
        m
    };
    let (mut a, mut b) = (shared(), shared());
    let mut interp = Interp::<World>::default();
    let mut translator = Translator::<World, Portable<World>>::default();
    let plain = until(|| Left::Stop(interp.run(&mut a.cpu, &mut a.world, 12)));
    let left = until(|| translator.run(&mut b.cpu, &mut b.world, &mut Identity, 12));
    assert_eq!((left, &state::differences(&a, &b)[..]), (plain, &[][..]));
    assert_eq!((a.cpu.regs[0], a.cpu.eip), (0xa000, 0x7005), "it was AND the second time");
}
