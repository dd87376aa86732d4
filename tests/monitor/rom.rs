//! Generated guests that read, run and write ROM, and move RAM under it and away again by the chipset's PAM registers, as firmware
//! does. A monitor has copies of the ROM's pages; they end the same there, and nothing writes to a copy.

use super::equivalence::runner;
use super::kernel::code::Code;
use super::pair::{BT_VTLB, CELLS, Cell, NESTED, Strides, TRACE, Tested, run_to};
use crate::vmm::bug::{self, Bug};
use proptest::prelude::*;
use proptest::test_runner::{TestCaseError, TestError};
use subring::addr::GuestPhys;
use subring::machine::board::BoardConfig;
use subring::machine::{Config, Machine, Outcome};

const RAM: u32 = 1 << 20;
const CODE: u32 = 0x1_0000;
const STACK: u32 = 0x8000;
/// The ROM: routines of 16 bytes, each ADD EAX, its number; RET. Behind that is room, which writes aim at.
const ROM: u32 = 0xf_0000;
const ROM_LEN: u32 = 0x1_0000;
const ROUTINE: u32 = 16;

/// How long a guest runs, and when it is looked at.
const STRIDES: Strides = Strides { most: 40_000, stride: 13, whole: 1 };
/// Ticks by which the ROM is copied.
const COPIED: u64 = 16_300;

/// What a guest does, where in the ROM.
#[derive(Clone, Copy, Debug)]
enum Op {
    /// ADD EAX, [at]
    Read(u32),
    /// MOV [at], EAX
    Write(u32),
    /// XOR [at], EAX
    Change(u32),
    /// CALL the routine of this number.
    Call(u32),
    /// Reads and writes go to ROM or RAM as these two bits say (82441FX, 3.2.18: PAM0's upper half, for F0000-FFFFF).
    Pam(u8),
}

fn guests() -> impl Strategy<Value = Vec<Op>> {
    let room = || (0..ROM_LEN / ROUTINE, 8..13u32).prop_map(|(n, offset)| n * ROUTINE + offset);
    let op = prop_oneof![
        3 => (0..ROM_LEN - 4).prop_map(Op::Read),
        2 => room().prop_map(Op::Write),
        1 => room().prop_map(Op::Change),
        3 => (0..ROM_LEN / ROUTINE).prop_map(Op::Call),
        1 => (0..4u8).prop_map(Op::Pam),
    ];
    proptest::collection::vec(op, 1..60)
}

fn rom() -> Vec<u8> {
    let routine = |n: u32| {
        let mut bytes = [0x90; ROUTINE as usize];
        bytes[0] = 0x05; // ADD EAX, n
        bytes[1..5].copy_from_slice(&(n.wrapping_mul(0x1001)).to_le_bytes());
        bytes[5] = 0xc3; // RET
        bytes
    };
    (0..ROM_LEN / ROUTINE).flat_map(routine).collect()
}

fn emit(c: &mut Code, op: Op) {
    match op {
        Op::Read(at) => c.put32(&[0x03, 0x05], ROM + at),
        Op::Write(at) => c.put32(&[0x89, 0x05], ROM + at),
        Op::Change(at) => c.put32(&[0x31, 0x05], ROM + at),
        Op::Call(n) => {
            let behind = c.here() + 5;
            c.put32(&[0xe8], (ROM + n * ROUTINE).wrapping_sub(behind));
        }
        Op::Pam(bits) => {
            c.put(&[0x50, 0xb8, 0x58, 0, 0, 0x80]); // PUSH EAX; MOV EAX, 80000058h
            c.put(&[0x66, 0xba, 0xf8, 0x0c, 0xef]); // MOV DX, CF8h; OUT DX, EAX
            c.put(&[0x66, 0xba, 0xfd, 0x0c, 0xb0, bits << 4, 0xee, 0x58]); // MOV DX, CFDh; MOV AL, bits; OUT DX, AL; POP EAX
        }
    }
}

fn machine(ops: &[Op]) -> Machine {
    let board = BoardConfig { ram_size: RAM, firmware: true, ..BoardConfig::default() };
    let config = Config { ram_size: RAM, board, bios: Some(rom()), vga_bios: None };
    let mut m = Machine::new(config).expect("a machine");
    let mut code = Code::new(CODE);
    // As firmware does: the ROM is copied to the RAM under it.
    emit(&mut code, Op::Pam(2));
    code.put32(&[0xbe], ROM); // MOV ESI
    code.put32(&[0xbf], ROM); // MOV EDI
    code.put32(&[0xb9], ROM_LEN / 4); // MOV ECX
    code.put(&[0xf3, 0xa5]); // REP MOVSD
    emit(&mut code, Op::Pam(0));
    ops.iter().for_each(|op| emit(&mut code, *op));
    code.put(&[0xf4]); // HLT
    m.store(GuestPhys(CODE), &code.bytes);
    m.start_flat(CODE, 0x1357_9bdf, 0, STACK);
    m
}

/// Runs `ops` on the bare machine and under a monitor. An error begins with the check that noticed, and a colon.
fn same(ops: &[Op], cell: Cell) -> Result<(), String> {
    let (mut bare, mut other) = (machine(ops), machine(ops));
    cell.put(&mut other, 2);
    let copied = (run_to(&mut bare, COPIED), run_to(&mut other, COPIED));
    assert_eq!(copied, (None, None), "the ROM is copied first");
    match STRIDES.hold(&mut bare, &mut other, cell)? {
        Some(Outcome::HaltedForever) => Ok(()),
        ended => Err(format!("the guest: {ended:?}")),
    }
}

/// Such guests under a monitor with `bug`, or without one.
fn all_same(cell: Cell, bug: Option<Bug>) -> Result<(), TestError<Vec<Op>>> {
    runner(60).run(&guests(), |ops| bug::with(bug, || same(&ops, cell)).map_err(TestCaseError::fail))
}

#[test]
fn guests_that_write_to_rom_end_the_same() {
    for cell in CELLS {
        if let Err(failure) = all_same(cell, None) {
            panic!("{cell}: {failure}");
        }
    }
}

#[test]
fn a_copy_of_rom_that_can_be_written_is_noticed() {
    let bugs = [TRACE, BT_VTLB, NESTED].map(|cell| (cell, Bug::WritableRom));
    // Extended page tables change with the memory map: the processor has to forget what it holds of them.
    for (cell, bug) in bugs.into_iter().chain([(NESTED, Bug::StaleTlb)]) {
        let Err(TestError::Fail(reason, ops)) = all_same(cell, Some(bug)) else {
            panic!("{cell}, {bug:?}: nobody noticed");
        };
        let what = reason.message().split(':').next().unwrap_or_default().to_owned();
        println!("{bug:?} ({cell}): noticed by {what}, in {} operations", ops.len());
    }
}
