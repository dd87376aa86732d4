//! Which instructions touch memory after they have read some ([`Insn::touches_after_reading`]): each form runs from many states in a
//! world that notes where it reads and what it touches then.
//!
//! [`Insn::touches_after_reading`]: subring::decode::Insn::touches_after_reading

use super::seed;
use crate::exec::testing::{World, flat, real, v86};
use std::collections::BTreeSet;
use subring::addr::Linear;
use subring::bus::Width;
use subring::classify::forms::{self, Form};
use subring::cpu::{Cpu, Eflags, Fault, Segment, TableReg, Word};
use subring::decode::{Insn, Op, Place, SegReg};
use subring::exec::{Env, ops};

/// A world that notes the order of what is touched.
struct Watched {
    world: World,
    /// Bytes that were touched.
    touched: BTreeSet<u32>,
    /// Something was read.
    has_read: bool,
    /// Other bytes were touched then.
    after: bool,
}

impl Watched {
    fn note(&mut self, at: Linear, len: u32, reads: bool) {
        let mut new = false;
        for n in 0..len {
            new |= self.touched.insert(at.offset(n).0);
        }
        self.after |= new && self.has_read;
        self.has_read |= reads;
    }
}

impl Env for Watched {
    fn load<W: Word>(&mut self, cpu: &Cpu, at: Linear, user: bool) -> Result<W, Fault> {
        self.note(at, W::BYTES, true);
        self.world.load(cpu, at, user)
    }
    fn load_for_update<W: Word>(&mut self, cpu: &Cpu, at: Linear, user: bool) -> Result<W, Fault> {
        self.note(at, W::BYTES, true);
        self.world.load_for_update(cpu, at, user)
    }
    /// Nothing is written: the next form starts from the same memory.
    fn store<W: Word>(&mut self, _: &Cpu, at: Linear, _: W, _: bool) -> Result<(), Fault> {
        self.note(at, W::BYTES, false);
        Ok(())
    }
    fn probe(&mut self, cpu: &Cpu, at: Linear, len: u32, user: bool, write: bool) -> Result<(), Fault> {
        self.note(at, len, false);
        self.world.probe(cpu, at, len, user, write)
    }
    fn port_in(&mut self, cpu: &Cpu, port: u16, width: Width) -> u32 {
        self.world.port_in(cpu, port, width)
    }
    fn port_out(&mut self, cpu: &Cpu, port: u16, width: Width, value: u32) {
        self.world.port_out(cpu, port, width, value);
    }
    fn flush_tlb(&mut self, _: bool) {}
    fn invalidate_page(&mut self, _: Linear) {}
}

const GDT: u32 = 0x1_0000;
const IDT: u32 = 0x2_0000;
const TSS: u32 = 0x3_0000;

/// Descriptors and gates of every kind, in a table of 8 KiB: the low byte of the type moves on with the slot.
fn tables(world: &mut World) {
    for n in 0..0x400 {
        let kind = 0x80 | (n % 32) | (n / 32 % 4) << 5;
        let base = if kind & 0x10 == 0 && kind & 0xf < 4 || kind & 0xd == 9 { TSS } else { 0 };
        let segment = 0x00cf_0000_0000_ffff | u64::from(kind) << 40 | u64::from(base) << 16;
        // To the code segment 1Bh.. whose type is that of slot 3: conforming or not, any will do that loads.
        let gate = 0x0000_0000_00d8_0100 | u64::from(kind) << 40;
        world.put(GDT + n * 8, &if kind & 0x17 == 4 { gate } else { segment }.to_le_bytes());
        let kind = [0xee, 0xef, 0xe6, 0xe7, 0x8e][n as usize % 5];
        world.put(IDT + n * 8, &(0x0000_0000_00d8_0100 | u64::from(kind as u8) << 40).to_le_bytes());
    }
}

/// Memory where operands and stacks are: small numbers, selectors among them, and anything.
fn world(n: u64) -> Watched {
    let mut world = World::new();
    for (i, pair) in seed::bytes(n, 0x4000).chunks_exact(2).enumerate() {
        let value = match pair[0] & 3 {
            0 => u16::from(pair[1]) & !3 | u16::from(pair[0] >> 6),
            1 => 0,
            _ => u16::from_le_bytes([pair[0], pair[1]]),
        };
        world.put(0x4000 + 2 * i as u32, &value.to_le_bytes());
    }
    tables(&mut world);
    Watched { world, touched: BTreeSet::new(), has_read: false, after: false }
}

/// General registers: pointers into that memory, a small count, and anything.
fn registers(n: u64) -> [u32; 8] {
    let draw = seed::bytes(!n, 32);
    let mut regs = [0; 8];
    for (r, bytes) in regs.iter_mut().zip(draw.chunks_exact(4)) {
        *r = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
    for (r, at) in [(1, 4), (4, 0x4800), (5, 0x5000), (6, 0x5800), (7, 0x6000)] {
        regs[r] = at + (regs[r] & 0x1fc);
    }
    regs
}

/// Runs `form` once, with immediates that lead somewhere; whether it touched other memory after it had read some.
fn touches(form: &Form, mut cpu: Cpu, n: u64, world: &mut Watched) -> bool {
    (world.has_read, world.after) = (false, false);
    world.touched.clear();
    let insn = match form.insn.op {
        Op::Enter => Insn { extra: (n % 4) as u8, ..form.insn },
        Op::CallFar | Op::JmpFar => Insn { selector: (n % 0x1fff) as u16, ..form.insn },
        _ => form.insn,
    };
    cpu.eip += u32::from(form.insn.len);
    cpu.set_eflags(cpu.eflags() | Eflags::OF);
    // One iteration.
    cpu.deadline = 1;
    _ = ops::bind::<Watched>(&insn)(&mut cpu, world, &insn);
    world.after
}

fn states(code32: bool) -> Vec<Cpu> {
    let mut states = if code32 { vec![flat(0), flat(3)] } else { vec![real(), v86(0), v86(3)] };
    for cpu in &mut states {
        if code32 {
            // The operand's offset is here.
            let base = 0x4000u32.wrapping_sub(0x2000_0000);
            let data = *cpu.seg(SegReg::Ds);
            cpu.set_seg(SegReg::Ds, Segment { base, ..data });
            cpu.gdtr = TableReg { base: GDT, limit: 0x1fff };
            cpu.idtr = TableReg { base: IDT, limit: 0x7ff };
            cpu.tr = Segment::system(0x40, TSS, 0x2067, 0x8b);
        }
    }
    states
}

/// What is said of an instruction holds of each of its forms: none touches memory after a read without its being said, and
/// each of which it is said has been seen to.
#[test]
fn what_touches_memory_after_a_read_is_known() {
    const RUNS: u64 = 1500;
    let (mut untold, mut said, mut seen) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let key = |i: &Insn| (format!("{:?}", i.op), i.dst == Place::Mem || i.src == Place::Mem);
    for code32 in [true, false] {
        let (states, forms) = (states(code32), forms::all(code32).built);
        for n in 0..RUNS {
            let mut world = world(n);
            let mut cpu = states[n as usize % states.len()].clone();
            cpu.regs[..8].copy_from_slice(&registers(n));
            for form in &forms {
                if touches(form, cpu.clone(), n, &mut world) {
                    seen.insert(key(&form.insn));
                    if !form.insn.touches_after_reading() {
                        untold.insert(form.name.clone());
                    }
                }
            }
        }
        said.extend(forms.iter().filter(|f| f.insn.touches_after_reading()).map(|f| key(&f.insn)));
    }
    assert!(untold.is_empty(), "it is not said of {untold:?}");
    let unseen: Vec<_> = said.difference(&seen).collect();
    assert!(unseen.is_empty(), "it is said of {unseen:?}, and none of them did");
    println!("{} operations touch memory after they have read some", seen.len());
}
