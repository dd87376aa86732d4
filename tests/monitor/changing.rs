//! Code that changes while it runs translated, where two ways of noticing meet: a disk's bus master writes
//! over it, or it stands in the page table that it edits. It ends as on the bare machine, bit for bit; what
//! is thrown away, and what is found unchanged, is counted as that. With a rule broken each of these guests
//! ends otherwise.

use super::flat::{CODE, machine, with_disk};
use super::pair::{BT_TRACE, BT_VTLB, Cell, Strides, Tested, figures, translator};
use crate::translate::bug as translator;
use crate::vmm::bug::{self, Bug};
use subring::addr::GuestPhys;
use subring::bus::Width;
use subring::cpu::gpr;
use subring::machine::{Machine, Outcome};
use subring::translate::Why;

const CELLS: [Cell; 2] = [BT_TRACE, BT_VTLB];

/// Ticks by which each of the guests has halted, and strides in which they run: units break off at the end of
/// each, or never.
const ENOUGH: u64 = 200_000;
const STRIDES: [u64; 2] = [ENOUGH, 997];

const CLI_HLT: [u8; 2] = [0xfa, 0xf4];

/// Runs the guest bare and in `cell`, and compares after each stride. Both machines as they ended.
fn alike(make: &dyn Fn() -> Machine, cell: Cell, stride: u64) -> Result<[Machine; 2], String> {
    let (mut bare, mut other) = (make(), make());
    cell.put(&mut other, 5);
    let strides = Strides { most: ENOUGH, stride, whole: 1 };
    match strides.hold(&mut bare, &mut other, cell)? {
        Some(Outcome::HaltedForever) => Ok([bare, other]),
        ended => Err(format!("{cell}: it has not halted: {ended:?}")),
    }
}

/// Units thrown away because their code was overwritten; stale ones whose code turned out to be the same.
fn overwritten(m: &Machine) -> (u64, u64) {
    let counts = translator(m).counts();
    (counts.dropped[Why::Overwritten as usize], counts.renewed)
}

/// How many of a hundred ways out of units were chained.
fn chained(m: &Machine) -> u64 {
    let translator = translator(m);
    let (counts, runs) = (translator.counts(), translator.runs().units);
    let looked_up = counts.direct_misses + counts.indirect_misses + counts.entries;
    100 * runs.saturating_sub(looked_up) / runs.max(1)
}

// ---- by a disk's bus master ----

/// Where the routine lies, and its region table.
const ROUTINE: u32 = 0x10_2000;
const REGIONS: u32 = 0x10_4000;
/// Turns of the routine. It is overwritten somewhere on the way.
const TURNS: u32 = 2000;

/// The routine: INC EBX, or EDI; TEST CL, 3; JZ over INC EAX; INC EAX; DEC ECX; JNZ to the start; RET.
const OLD: [u8; 11] = [0x43, 0xf6, 0xc1, 3, 0x74, 1, 0x40, 0x49, 0x75, 0xf6, 0xc3];
const NEW: [u8; 11] = [0x47, 0xf6, 0xc1, 3, 0x74, 1, 0x40, 0x49, 0x75, 0xf6, 0xc3];

/// MOV DX, port; MOV AL, value; OUT DX, AL.
fn out(code: &mut Vec<u8>, port: u16, value: u8) {
    let [low, high] = port.to_le_bytes();
    code.extend([0x66, 0xba, low, high, 0xb0, value, 0xee]);
}

/// Has the disk read `sector` over the routine, by a READ DMA, and runs the routine meanwhile, without any
/// contact to a chip. Then the bus master is stopped.
fn read_meanwhile(code: &mut Vec<u8>, sector: u8) {
    // Status: errors and the interrupt are cleared; command: to memory, stopped.
    for (port, value) in [(0xc002, 6), (0xc000, 8)] {
        out(code, port, value);
    }
    for (port, value) in [(0x1f2, 1), (0x1f3, sector), (0x1f4, 0), (0x1f5, 0), (0x1f6, 0xe0), (0x1f7, 0xc8)] {
        out(code, port, value);
    }
    out(code, 0xc000, 9);
    code.push(0xb9); // MOV ECX, TURNS
    code.extend(TURNS.to_le_bytes());
    let behind = CODE + code.len() as u32 + 5;
    code.push(0xe8); // CALL ROUTINE
    code.extend(ROUTINE.wrapping_sub(behind).to_le_bytes());
    out(code, 0xc000, 0);
}

/// A guest that begins with the old routine, and reads these sectors over it. The first is the old routine
/// again, the second the new one.
fn overwritten_by_disk(sectors: &[u8]) -> Machine {
    let mut code = Vec::new();
    sectors.iter().for_each(|&sector| read_meanwhile(&mut code, sector));
    code.extend(CLI_HLT);
    let mut disk = vec![0x90; 1024];
    disk[..OLD.len()].copy_from_slice(&OLD);
    disk[512..][..NEW.len()].copy_from_slice(&NEW);
    let old = disk[..512].to_vec();
    let mut m = with_disk(&code, disk);
    m.store(GuestPhys(ROUTINE), &old);
    m.store(GuestPhys(REGIONS), &[ROUTINE, 0x8000_0200].map(u32::to_le_bytes).concat());
    // The function's registers are at C000h, as firmware places them, and know where the regions are.
    let dwords = [(0xcf8, 0x8000_0920), (0xcfc, 0xc000), (0xcf8, 0x8000_0904), (0xcfc, 5), (0xc004, REGIONS)];
    for (port, value) in dwords {
        m.world.board.port_write(port, Width::Dword, value, 0, &mut m.world.map);
    }
    m.world.settle();
    m
}

#[test]
fn code_that_a_disk_overwrites_while_it_runs_translated_is_the_new_code_from_then_on() {
    for (cell, stride) in CELLS.into_iter().flat_map(|cell| STRIDES.map(|stride| (cell, stride))) {
        let [bare, bt] = alike(&|| overwritten_by_disk(&[1]), cell, stride).unwrap_or_else(|e| panic!("{e}"));
        let [old, new] = [gpr::EBX, gpr::EDI].map(|r| bare.cpu.regs[r]);
        assert!(old > 20 && new > 20 && old + new == TURNS, "both ran: {old} and {new} turns");
        assert!(stride < ENOUGH || chained(&bt) > 95, "{} of a hundred are chained", chained(&bt));
        let (dropped, _) = overwritten(&bt);
        println!("{cell}: {old} old turns, {new} new ones; {dropped} units overwritten");
        assert!(dropped > 0);
        assert_eq!(translator(&bt).counts().dropped.iter().sum::<u64>(), dropped, "{cell}");
    }
}

#[test]
fn code_that_a_disk_overwrites_with_itself_is_found_unchanged() {
    for cell in CELLS {
        let [bare, bt] = alike(&|| overwritten_by_disk(&[0]), cell, ENOUGH).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!([gpr::EBX, gpr::EDI].map(|r| bare.cpu.regs[r]), [TURNS, 0]);
        let (dropped, renewed) = overwritten(&bt);
        assert!(dropped == 0 && renewed > 0, "{cell}: {dropped} dropped, {renewed} renewed");
    }
}

#[test]
fn code_that_a_disk_overwrites_again_and_again_is_each_time_what_was_read_last() {
    for (cell, stride) in CELLS.into_iter().flat_map(|cell| STRIDES.map(|stride| (cell, stride))) {
        let make = || overwritten_by_disk(&[1, 1, 0, 1, 0, 0]);
        let [bare, bt] = alike(&make, cell, stride).unwrap_or_else(|e| panic!("{e}"));
        let turns = [gpr::EBX, gpr::EDI].map(|r| bare.cpu.regs[r]);
        assert!(turns.iter().all(|&n| n > TURNS) && turns.iter().sum::<u32>() == 6 * TURNS, "{turns:?}");
        let (dropped, renewed) = overwritten(&bt);
        assert!(dropped >= 4 && renewed > 0, "{cell}: {dropped} dropped, {renewed} renewed");
    }
}

// ---- in a page table ----

const DIRECTORY: u32 = 0x10_1000;
const TABLE: u32 = 0x10_3000;
/// Two frames that one page is mapped to in turn, and what is in them.
const FRAMES: [u32; 2] = [0x11_0000, 0x11_1000];
const CONTENTS: [u32; 2] = [3, 0x500];
/// The second half of the table maps what nobody uses, and holds code: the operand of an instruction of it is
/// an entry.
const OPERAND: u32 = TABLE + 0x820;
/// Turns of the loop: the policy of adaptation makes the store a callout on the way.
const TIMES: u32 = 300;
/// What the operand is, if nobody writes to it.
const PLAIN: u32 = 5;

/// Which entry the loop edits, which stands in the page that the loop runs in.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Entry {
    /// One among the entries, 72 bytes from the loop.
    Apart,
    /// One right before the loop: a store to it makes the translated code look whether it is still the same.
    Beside,
    /// The one that is the operand of an instruction of the loop.
    Operand,
}

impl Entry {
    const ALL: [Self; 3] = [Self::Apart, Self::Beside, Self::Operand];

    /// Where it is; and the page that it maps.
    fn place(self) -> (u32, u32) {
        let at = match self {
            Self::Apart => TABLE + 0x7c0,
            Self::Beside => TABLE + 0x804,
            Self::Operand => OPERAND,
        };
        (at, ((at - TABLE) / 4) << 12)
    }
}

/// What turns on paging, with the page's two entries in EDI and ESI, and jumps to the loop at `to`.
fn enter_paging(to: u32) -> Vec<u8> {
    let mut code = Vec::new();
    let words: [(&[u8], u32); 4] =
        [(&[0xb8], DIRECTORY), (&[0xb9], TIMES), (&[0xbe], FRAMES[0] | 7), (&[0xbf], FRAMES[1] | 7)];
    for (opcode, operand) in words {
        code.extend(opcode); // MOV EAX, ECX, ESI, EDI
        code.extend(operand.to_le_bytes());
    }
    code.extend([0x0f, 0x22, 0xd8, 0x0f, 0x20, 0xc0, 0x0d, 0, 0, 0, 0x80, 0x0f, 0x22, 0xc0]); // CR3; CR0.PG
    code.extend([0x31, 0xc0, 0xe9]); // XOR EAX, EAX; JMP
    let behind = CODE + code.len() as u32 + 4;
    code.extend(to.wrapping_sub(behind).to_le_bytes());
    code
}

/// MOV [entry], EDI; XCHG EDI, ESI; INVLPG [page]; ADD EAX, [page]; ADD EBX, operand; DEC ECX; JNZ to the
/// start; CLI; HLT.
fn edit_entry(entry: Entry) -> Vec<u8> {
    let (at, page) = entry.place();
    let mut code = vec![0x89, 0x3d];
    code.extend(at.to_le_bytes());
    code.extend([0x87, 0xfe, 0x0f, 0x01, 0x3d]);
    code.extend(page.to_le_bytes());
    code.extend([0x03, 0x05]);
    code.extend(page.to_le_bytes());
    code.extend([0x81, 0xc3]);
    code.extend(PLAIN.to_le_bytes());
    code.extend([0x49, 0x75, 0xe2]);
    code.extend(CLI_HLT);
    code
}

/// Code in a page table that edits an entry of that table, again and again.
fn in_page_table(entry: Entry) -> Machine {
    let code = edit_entry(entry);
    let before_operand = 23;
    let start = OPERAND - before_operand;
    let mut m = machine(&enter_paging(start));
    m.store(GuestPhys(DIRECTORY), &(TABLE | 7).to_le_bytes());
    let entries: Vec<u8> = (0..512).flat_map(|n| (n << 12 | 7u32).to_le_bytes()).collect();
    m.store(GuestPhys(TABLE), &entries);
    m.store(GuestPhys(start), &code);
    for (frame, content) in FRAMES.into_iter().zip(CONTENTS) {
        m.store(GuestPhys(frame), &content.to_le_bytes());
    }
    m
}

/// What the loop leaves in EAX, what it read; and in EBX, the sum of its operands. As an entry the operand is
/// accessed already: the page is read before the operand is.
fn sums(entry: Entry) -> [u32; 2] {
    let pairs = TIMES / 2;
    let operands = match entry {
        Entry::Apart | Entry::Beside => 2 * PLAIN,
        Entry::Operand => FRAMES.iter().map(|frame| frame | 0x27).sum(),
    };
    [CONTENTS.iter().sum::<u32>() * pairs, operands.wrapping_mul(pairs)]
}

#[test]
fn code_in_a_page_table_that_edits_it_ends_the_same_before_and_after_adaptation() {
    for (entry, cell) in Entry::ALL.into_iter().flat_map(|e| CELLS.map(|c| (e, c))) {
        for stride in STRIDES {
            let [bare, bt] =
                alike(&|| in_page_table(entry), cell, stride).unwrap_or_else(|e| panic!("{entry:?}: {e}"));
            assert_eq!([gpr::EAX, gpr::EBX].map(|r| bare.cpu.regs[r]), sums(entry), "{entry:?}, bare");
            let (dropped, renewed) = overwritten(&bt);
            let adapted = figures(&bt).adapted;
            println!(
                "{cell}, {entry:?}: {dropped} overwritten, {renewed} found unchanged, {adapted} adapted"
            );
            // Only traces make an access to a page table an exit.
            assert_eq!(adapted, u64::from(cell == BT_TRACE), "{entry:?}, {cell}");
            let all = u64::from(TIMES);
            match entry {
                Entry::Apart => assert_eq!((dropped, renewed), (0, 0), "{cell}"),
                Entry::Beside => assert!(dropped == 0 && renewed >= all, "{cell}: {renewed}"),
                // By the loop's store, and by the walk that sets the accessed bit.
                Entry::Operand => assert!(dropped > all, "{cell}: {dropped}"),
            }
        }
    }
}

// ---- with a rule broken ----

/// Whether a guest ends otherwise in `cell`, with a bug of the translator's or of the monitor's.
fn noticed(make: &dyn Fn() -> Machine, cell: Cell, bugs: (Option<translator::Bug>, Option<Bug>)) -> bool {
    // A bug may also trip the library's own assertions.
    let ran = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        translator::with(bugs.0, || bug::with(bugs.1, || alike(make, cell, ENOUGH).is_ok()))
    }));
    translator::with(None, || ());
    bug::with(None, || ());
    !matches!(ran, Ok(true))
}

#[test]
fn each_of_these_guests_notices_what_it_is_there_for() {
    use translator::Bug::{DeadChain, StaleUnit};
    for cell in CELLS {
        for bug in [StaleUnit, DeadChain] {
            assert!(noticed(&|| overwritten_by_disk(&[1]), cell, (Some(bug), None)), "{cell}: {bug:?}, disk");
        }
        let operand = || in_page_table(Entry::Operand);
        assert!(noticed(&operand, cell, (Some(StaleUnit), None)), "{cell}: a stale unit, operand");
        let forgets = if cell == BT_TRACE { Bug::ForgetSync } else { Bug::ForgetInvlpg };
        for entry in Entry::ALL {
            let make = || in_page_table(entry);
            assert!(noticed(&make, cell, (None, Some(forgets))), "{cell}: {forgets:?}, {entry:?}");
            assert!(!noticed(&make, cell, (None, None)), "{cell}: {entry:?}");
        }
    }
}
