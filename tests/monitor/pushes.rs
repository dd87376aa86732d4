//! PUSHA and ENTER that push over themselves and across a page, which may be there, untouched, read-only or absent: the instructions
//! that write several times. On the monitor's processor a fault may be the monitor's, and then they run again; they must not have
//! changed themselves, and what they leave of a fault of the guest's own is what the bare machine leaves.

use super::equivalence::runner;
use super::pair::{CELLS, Cell, TRAPS, Tested, run_to};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use std::cell::Cell as Counter;
use subring::addr::GuestPhys;
use subring::cpu::{Cr0, Eflags, Segment, TableReg, gpr};
use subring::decode::SegReg;
use subring::lab::state;
use subring::machine::board::BoardConfig;
use subring::machine::{Config, Machine};

const RAM: u32 = 1 << 20;
const GDT: u32 = 0x1000;
const IDT: u32 = 0x2000;
const TSS: u32 = 0x3000;
const HANDLER: u32 = 0x4000;
const KERNEL_STACK: u32 = 0x6000;
/// The instruction's page, below 64 KiB so that a stack of 16 bits reaches it, and the one that its pushes reach into.
const CODE: u32 = 0xa000;
const BELOW: u32 = 0x9000;
const DIRECTORY: u32 = 0x1_0000;
const TABLE: u32 = 0x1_1000;
/// Ticks that a guest runs on in what it has made of its code.
const TICKS: u64 = 40;

/// A guest's first instruction, and its state.
#[derive(Clone, Debug)]
struct Push {
    /// ENTER with these operands; else PUSHA.
    enter: Option<(u16, u8)>,
    /// Operands of 16 bits.
    narrow: bool,
    /// A stack of 16 bits.
    small: bool,
    /// Where the instruction is in its page, and ESP behind that.
    offset: u32,
    esp: u32,
    ebp: u32,
    /// The other registers.
    values: [u32; 5],
    /// The entry of the page below.
    below: u32,
    user: bool,
    /// Alignment is checked.
    aligned: bool,
}

fn pushes() -> impl Strategy<Value = Push> {
    let enter = prop_oneof![
        1 => Just(None),
        2 => (prop_oneof![0..64u16, any::<u16>()], prop_oneof![0..4u8, any::<u8>()]).prop_map(Some),
    ];
    let where_from = prop_oneof![BELOW..CODE + 0x100, any::<u32>()];
    // There and touched, untouched, read-only, absent, the kernel's alone.
    let below = prop_oneof![2 => Just(0x67u32), 3 => Just(7), 1 => Just(5), 2 => Just(0), 1 => Just(3)];
    let bits = any::<(bool, bool, bool)>();
    (enter, bits, (0..80u32, 0..48u32), where_from, any::<[u32; 5]>(), below, 0..6u8).prop_map(
        |(enter, (narrow, small, user), (offset, esp), ebp, values, below, n)| Push {
            enter,
            narrow,
            small,
            offset,
            esp: if n == 1 { esp } else { esp & !3 },
            ebp,
            values,
            below,
            user,
            aligned: n < 2,
        },
    )
}

impl Push {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = if self.narrow { vec![0x66] } else { Vec::new() };
        match self.enter {
            None => bytes.push(0x60),
            Some((size, level)) => bytes.extend([&[0xc8][..], &size.to_le_bytes(), &[level]].concat()),
        }
        bytes
    }

    fn eip(&self) -> u32 {
        CODE + self.offset
    }

    fn esp(&self) -> u32 {
        (self.eip() & !3) + self.esp + if self.small { self.values[0] & 0xffff_0000 } else { 0 }
    }

    fn machine(&self) -> Machine {
        let board = BoardConfig { ram_size: RAM, ..BoardConfig::default() };
        let mut m =
            Machine::new(Config { ram_size: RAM, board, bios: None, vga_bios: None }).expect("a machine");
        m.store(GuestPhys(self.eip()), &self.bytes());
        m.store(GuestPhys(HANDLER), &[0xf4]); // HLT
        let gate = u64::from(HANDLER & 0xffff) | 8 << 16 | 0x8e00 << 32;
        m.store(GuestPhys(IDT), &gate.to_le_bytes().repeat(32));
        let gdt = [0u64, 0x00cf_9b00_0000_ffff, 0x00cf_9300_0000_ffff];
        m.store(GuestPhys(GDT), &gdt.map(u64::to_le_bytes).concat());
        m.store(GuestPhys(TSS + 4), &KERNEL_STACK.to_le_bytes());
        m.store(GuestPhys(TSS + 8), &0x10u32.to_le_bytes());
        m.store(GuestPhys(DIRECTORY), &(TABLE | 7).to_le_bytes());
        let entries = |n: u32| if n << 12 == BELOW { BELOW | self.below } else { n << 12 | 7 };
        m.store(GuestPhys(TABLE), &(0..256).flat_map(|n| entries(n).to_le_bytes()).collect::<Vec<_>>());
        self.start(&mut m);
        m
    }

    fn start(&self, m: &mut Machine) {
        m.start_flat(self.eip(), 0, 0, self.esp());
        let cpu = &mut m.cpu;
        cpu.gdtr = TableReg { base: GDT, limit: 0x17 };
        cpu.idtr = TableReg { base: IDT, limit: 0xff };
        cpu.tr = Segment::system(0x28, TSS, 0x67, 0x8b);
        let ring: u16 = if self.user { 3 } else { 0 };
        let dpl = ring << 5;
        cpu.set_seg(SegReg::Cs, Segment::with(0x08 | ring, 0, !0, 0xc9b | dpl));
        for s in [SegReg::Ds, SegReg::Es, SegReg::Fs, SegReg::Gs] {
            cpu.set_seg(s, Segment::with(0x10 | ring, 0, !0, 0xc93 | dpl));
        }
        let (limit, attr) = if self.small { (0xffff, 0x093) } else { (!0, 0xc93) };
        cpu.set_seg(SegReg::Ss, Segment::with(0x10 | ring, 0, limit, attr | dpl));
        cpu.set_cpl(ring as u8);
        for (n, value) in [gpr::EAX, gpr::ECX, gpr::EDX, gpr::EBX, gpr::ESI].into_iter().zip(self.values) {
            cpu.regs[n] = value;
        }
        cpu.regs[gpr::EBP] = self.ebp;
        cpu.cr3 = DIRECTORY;
        cpu.cr0 |= Cr0::PG | Cr0::WP;
        cpu.cr0.set(Cr0::AM, self.aligned);
        cpu.set_eflags(if self.aligned { Eflags::AC } else { Eflags::empty() });
        cpu.refresh();
        m.world.tlb.flush(true);
    }

    /// Whether the first push lies on the instruction.
    fn hits_itself(&self) -> bool {
        let top = self.esp() & 0xffff;
        top > self.eip() && top - 8 < self.eip() + self.bytes().len() as u32
    }
}

/// The guest of `push`, bare and in `cell`: after the instruction, and later if what it runs then cannot go wrong unseen.
fn same(push: &Push, cell: Cell) -> Result<(), String> {
    let (mut bare, mut other) = (push.machine(), push.machine());
    cell.put(&mut other, 6);
    let ends: &[u64] = if TRAPS.contains(&cell) { &[1] } else { &[1, TICKS] };
    for &to in ends {
        let (a, b) = (run_to(&mut bare, to), run_to(&mut other, to));
        let differences = state::differences(&bare, &other);
        if a != b || !differences.is_empty() {
            return Err(format!("{cell}, by tick {to}: {a:?} {b:?} {differences:#?}"));
        }
        if a.is_some() {
            break;
        }
    }
    Ok(())
}

#[test]
fn what_pushes_over_itself_is_run_as_it_was() {
    let (hits, faults) = (Counter::new(0), Counter::new(0));
    let result = runner(250).run(&pushes(), |push| {
        let mut bare = push.machine();
        run_to(&mut bare, 1);
        // The handler's HLT is all that runs then.
        let faulted = bare.cpu.eip == HANDLER + 1;
        hits.set(hits.get() + u32::from(push.hits_itself()));
        faults.set(faults.get() + u32::from(faulted));
        CELLS.into_iter().try_for_each(|cell| same(&push, cell)).map_err(TestCaseError::fail)
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
    println!("{} pushed over themselves, {} faulted", hits.get(), faults.get());
    assert!(hits.get() > 20 && faults.get() > 20);
}
