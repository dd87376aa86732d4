//! Tests of the board: wiring, ports, and the chips together.

use super::*;
use crate::bus::phys::Target;
use crate::console::keymap::Stroke;
use crate::device::apic::{IO_APIC, LOCAL_APIC};
use crate::media::{MemoryDisk, SECTOR};
use crate::mem::Ram;

fn board() -> (Board, PhysMap) {
    let ram = Ram::new(4 << 20).unwrap();
    let config = BoardConfig { ram_size: 4 << 20, ..BoardConfig::default() };
    (Board::new(config), PhysMap::new(ram))
}

#[test]
fn the_timer_interrupts_through_the_controller() {
    let (mut board, mut map) = board();
    let writes =
        [(0x20, 0x11), (0x21, 8), (0x21, 4), (0x21, 1), (0x21, 0xfe), (0x43, 0x34), (0x40, 0), (0x40, 1)];
    for (port, value) in writes {
        board.port_write(port, Width::Byte, value, 0, &mut map);
    }
    while board.interrupt_requested() {
        board.acknowledge();
        board.port_write(0x20, Width::Byte, 0x20, 0, &mut map);
    }
    let due = board.next_event().unwrap();
    board.advance(due, &mut map);
    assert!(board.interrupt_requested());
    assert_eq!(board.acknowledge(), 8);
    assert!(!board.interrupt_requested());
}

#[test]
fn a_numeric_error_is_interrupt_13_until_port_f0_is_written() {
    let (mut board, mut map) = board();
    let setup = [
        (0x20, 0x11),
        (0x21, 8),
        (0x21, 4),
        (0x21, 1),
        (0x21, 0xfb),
        (0xa0, 0x11),
        (0xa1, 0x70),
        (0xa1, 2),
        (0xa1, 1),
        (0xa1, 0xdf),
    ];
    for (port, value) in setup {
        board.port_write(port, Width::Byte, value, 0, &mut map);
    }
    assert!(!board.numeric_error(true), "IGNNE# is not driven yet");
    assert!(board.interrupt_requested());
    assert_eq!(board.acknowledge(), 0x75);
    board.port_write(0xf0, Width::Byte, 0, 0, &mut map);
    assert!(board.numeric_error(true), "the handler may use the x87");
    assert!(!board.numeric_error(false));
    board.port_write(0xa0, Width::Byte, 0x20, 0, &mut map);
    board.port_write(0x20, Width::Byte, 0x20, 0, &mut map);
    assert!(!board.interrupt_requested());
}

#[test]
fn each_byte_written_to_an_idle_serial_port_asks_for_the_next() {
    let (mut board, mut map) = board();
    let setup = [(0x20, 0x11), (0x21, 8), (0x21, 4), (0x21, 1), (0x21, 0xef), (0x3fc, 0x0b), (0x3f9, 2)];
    for (port, value) in setup {
        board.port_write(port, Width::Byte, value, 0, &mut map);
    }
    for now in [1_000_000, 2_000_000] {
        assert!(board.interrupt_requested());
        assert_eq!(board.acknowledge(), 0x0c);
        board.port_write(0x20, Width::Byte, 0x20, now, &mut map);
        board.advance(now, &mut map);
        board.port_write(0x3f8, Width::Byte, b'.'.into(), now, &mut map);
    }
    assert_eq!(board.take_serial_output(0), b"..");
}

#[test]
fn either_a20_switch_moves_the_gate() {
    let (mut board, mut map) = board();
    board.port_write(0x92, Width::Byte, 0, 0, &mut map);
    assert_eq!(map.gated(GuestPhys(0x10_0000)), GuestPhys(0));
    board.port_write(0x64, Width::Byte, 0xdf, 0, &mut map);
    assert_eq!(map.gated(GuestPhys(0x10_0000)), GuestPhys(0x10_0000));
    assert_eq!(board.port_read(0x92, Width::Byte, 0, &mut map), 2);
}

/// A board whose disk's and floppy's first sectors hold `d` and `f`.
fn board_with_drives() -> (Board, PhysMap) {
    let disk = |byte, sectors| -> Option<Box<dyn Disk>> {
        Some(Box::new(MemoryDisk::new(vec![byte; sectors * SECTOR])))
    };
    let config = BoardConfig {
        ram_size: 4 << 20,
        disks: [disk(b'd', 2016), None, None, None],
        cdrom: disk(b'c', 400),
        floppies: [disk(b'f', 2880), None],
        firmware: true,
        apic: true,
        acpi: true,
        ..BoardConfig::default()
    };
    let mut map = PhysMap::new(Ram::new(4 << 20).unwrap());
    let mut board = Board::new(config);
    board.reset(&mut map);
    (board, map)
}

/// Runs all events up to `until`.
fn run(board: &mut Board, until: Ticks, map: &mut PhysMap) {
    while let Some(at) = board.next_event().filter(|&at| at <= until) {
        board.advance(at, map);
    }
}

#[test]
fn a_disk_sector_comes_through_the_data_port_with_irq_14() {
    let (mut board, mut map) = board_with_drives();
    for (port, value) in [(0xa0, 0x11), (0xa1, 0x70), (0xa1, 2), (0xa1, 1), (0xa1, 0xbf)] {
        board.port_write(port, Width::Byte, value, 0, &mut map);
    }
    for (port, value) in [(0x1f2, 1), (0x1f3, 0), (0x1f4, 0), (0x1f5, 0), (0x1f6, 0xe0), (0x1f7, 0x20)] {
        board.port_write(port, Width::Byte, value, 0, &mut map);
    }
    run(&mut board, 1_000_000, &mut map);
    board.port_write(0xa0, Width::Byte, 0x0a, 0, &mut map);
    assert_eq!(board.port_read(0xa0, Width::Byte, 1_000_000, &mut map) & 0x40, 0x40);
    assert_eq!(board.port_read(0x1f0, Width::Dword, 1_000_000, &mut map), 0x6464_6464);
}

/// The IDE function's base address 4 at C000h, and the function a bus master.
fn map_bus_master(board: &mut Board, map: &mut PhysMap) {
    for (register, value) in [(0x20, 0xc000), (0x04, 5)] {
        board.port_write(0xcf8, Width::Dword, 0x8000_0900 | register, 0, map);
        board.port_write(0xcfc, Width::Dword, value, 0, map);
    }
}

#[test]
fn disk_sectors_come_by_bus_master_dma_once_both_sides_are_ready() {
    let (mut board, mut map) = board_with_drives();
    board.port_read(0xc002, Width::Byte, 0, &mut map);
    assert_eq!(board.unclaimed_ports().get(&0xc002), Some(&1), "not mapped yet");
    map_bus_master(&mut board, &mut map);
    // Two regions, across a page and of 1024 bytes in all.
    let table = [0x2f00u32, 512, 0x4000, 0x8000_0000 | 512];
    map.write(GuestPhys(0x1000), &table.map(u32::to_le_bytes).concat());
    board.port_write(0xc004, Width::Dword, 0x1000, 0, &mut map);
    let command = [(0x1f2, 2), (0x1f3, 0), (0x1f4, 0), (0x1f5, 0), (0x1f6, 0xe0), (0x1f7, 0xc8)];
    for (port, value) in [(0xc002, 6), (0xc000, 8)].into_iter().chain(command) {
        board.port_write(port, Width::Byte, value, 0, &mut map);
    }
    run(&mut board, 1_000_000, &mut map);
    let byte = |map: &PhysMap, at| {
        let mut got = [0];
        map.read(GuestPhys(at), &mut got);
        got[0]
    };
    assert_eq!(byte(&map, 0x2f00), 0, "the bus master is not started");
    assert_eq!(board.port_read(0xc002, Width::Byte, 1_000_000, &mut map), 0);
    board.port_write(0xc000, Width::Byte, 9, 1_000_000, &mut map);
    assert_eq!(
        [0x2eff, 0x2f00, 0x30ff, 0x3100, 0x41ff, 0x4200].map(|at| byte(&map, at)),
        [0, b'd', b'd', 0, b'd', 0]
    );
    assert_eq!(board.port_read(0xc002, Width::Byte, 1_000_000, &mut map), 4, "done, and IRQ 14");
    assert_eq!(board.port_read(0x1f7, Width::Byte, 1_000_000, &mut map), 0x50);
}

#[test]
fn dma_waits_until_the_function_may_be_a_bus_master() {
    let (mut board, mut map) = board_with_drives();
    map_bus_master(&mut board, &mut map);
    board.port_write(0xcfc, Width::Dword, 1, 0, &mut map);
    map.write(GuestPhys(0x1000), &[0, 0x20, 0, 0, 0, 2, 0, 0x80]);
    board.port_write(0xc004, Width::Dword, 0x1000, 0, &mut map);
    for (port, value) in [(0x1f2, 1), (0x1f6, 0xe0), (0x1f7, 0xc8), (0xc000, 9)] {
        board.port_write(port, Width::Byte, value, 0, &mut map);
    }
    run(&mut board, 1_000_000, &mut map);
    assert_eq!(board.port_read(0xc002, Width::Byte, 1_000_000, &mut map), 1);
    board.port_write(0xcfc, Width::Dword, 5, 1_000_000, &mut map);
    assert_eq!(board.port_read(0xc002, Width::Byte, 1_000_000, &mut map), 4);
}

#[test]
fn a_floppy_sector_comes_by_dma() {
    let (mut board, mut map) = board_with_drives();
    let dma = [(0x0b, 0x46), (0x0c, 0), (4, 0), (4, 0x7c), (5, 0xff), (5, 1), (0x81, 0), (0x0a, 2)];
    let read = [0x46, 0, 0, 0, 1, 2, 18, 0x1b, 0xff].map(|b| (0x3f5, b));
    for (port, value) in dma.into_iter().chain([(0x3f2, 0x1c)]).chain(read) {
        board.port_write(port, Width::Byte, value, 0, &mut map);
    }
    run(&mut board, 10_000_000, &mut map);
    let mut got = [0; 2];
    map.read(GuestPhys(0x7dff), &mut got);
    assert_eq!(got, [b'f', 0]);
    assert_eq!(board.port_read(0x3f5, Width::Byte, 10_000_000, &mut map), 0);
}

#[test]
fn the_screen_shows_what_is_written_in_the_window() {
    let (mut board, _) = board();
    board.mmio_write(GuestPhys(0xb_8000), Width::Dword, 0x0769_0748, 0);
    assert_eq!(board.mmio_read(GuestPhys(0xb_8002), Width::Word, 0), 0x0769);
    assert_eq!(board.screen().unwrap().lines()[0], "Hi");
}

#[test]
fn the_firmware_region_is_rom_after_reset_until_pam_opens_it() {
    let (mut board, mut map) = board_with_drives();
    assert_eq!(map.backing(GuestPhys(0xf_0000)).read, Target::Rom);
    board.port_write(0xcf8, Width::Dword, 0x8000_0058, 0, &mut map);
    board.port_write(0xcfd, Width::Byte, 0x30, 0, &mut map);
    assert_eq!(map.backing(GuestPhys(0xf_0000)).read, Target::Ram);
    board.port_write(0xcf9, Width::Byte, 6, 0, &mut map);
    assert!(board.reset_requested());
    board.reset(&mut map);
    assert!(!board.reset_requested());
    assert_eq!(map.backing(GuestPhys(0xf_0000)).read, Target::Rom);
}

#[test]
fn cmos_tells_of_the_drives() {
    let (mut board, mut map) = board_with_drives();
    let mut cmos = |index| {
        board.port_write(0x70, Width::Byte, index, 0, &mut map);
        board.port_read(0x71, Width::Byte, 0, &mut map)
    };
    assert_eq!([0x10, 0x12, 0x1b, 0x1d, 0x23, 0x3d].map(&mut cmos), [0x40, 0xf0, 2, 16, 63, 0x21]);
}

#[test]
fn typed_keys_interrupt_and_serial_bytes_go_both_ways() {
    let (mut board, mut map) = board();
    board.port_write(0x64, Width::Byte, 0x60, 0, &mut map);
    board.port_write(0x60, Width::Byte, 0x41, 0, &mut map);
    board.key(&Stroke::of_char('x').unwrap().events(), 0);
    board.serial_input(0, b"y", 0);
    board.port_write(0x3f8, Width::Byte, b'z'.into(), 0, &mut map);
    run(&mut board, 1_000_000, &mut map);
    assert_eq!(board.port_read(0x60, Width::Byte, 1_000_000, &mut map), 0x2d);
    assert_eq!(board.port_read(0x3f8, Width::Byte, 1_000_000, &mut map), u32::from(b'y'));
    assert_eq!(board.take_serial_output(0), b"z");
}

/// Nothing that a guest writes to any port may panic or hang; seeds are fixed.
#[test]
fn random_port_access_does_no_harm() {
    (1..=8).for_each(random_port_access);
}

/// A place in the VGA's window or in one of the APIC's pages.
fn window(value: u32) -> GuestPhys {
    match value >> 30 {
        0 => LOCAL_APIC.offset(value & 0x3f0),
        1 => IO_APIC.offset(value & 0x10),
        _ => GuestPhys(0xa_0000 + (value & 0x1_fffc)),
    }
}

fn random_port_access(seed: u64) {
    let (mut board, mut map) = board_with_drives();
    map_bus_master(&mut board, &mut map);
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let ports: Vec<_> = TABLE.iter().flat_map(|entry| entry.ports).copied().collect();
    let mut now = 0;
    for _ in 0..400_000 {
        let r = random();
        now += if r & 0xff00 == 0 { r >> 40 } else { r >> 56 };
        let bus_master = (0xc000, 0xc00f);
        let (first, last) = *ports.get((r >> 8) as usize % (ports.len() + 2)).unwrap_or(&bus_master);
        let port = first + (r >> 24) as u16 % (last - first + 1);
        let width = [Width::Byte, Width::Byte, Width::Word, Width::Dword][(r & 3) as usize];
        let value = random() as u32;
        match r >> 2 & 7 {
            0..=2 => drop(board.port_read(port, width, now, &mut map)),
            3 => drop(board.mmio_read(window(value), width, now)),
            4 => drop(board.mmio_write(window(value), width, random() as u32, now)),
            5 if board.interrupt_requested() => drop(board.acknowledge()),
            _ => board.port_write(port, width, value, now, &mut map),
        }
        board.advance(now, &mut map);
        if r & 0xfff == 0 {
            board.screen();
        }
        assert!(board.next_event().is_none_or(|at| at > now), "an event in the past would never end");
    }
}

#[test]
fn unclaimed_ports_read_ones_and_are_counted() {
    let (mut board, mut map) = board();
    assert_eq!(board.port_read(0x1234, Width::Dword, 0, &mut map), 0xffff_ffff);
    assert_eq!(board.unclaimed_ports().len(), 4);
}

#[test]
fn wide_accesses_reach_neighbouring_ports() {
    let (mut board, mut map) = board();
    board.port_write(0x70, Width::Word, 0x0015 | 0x5a00, 0, &mut map);
    assert_eq!(board.port_read(0x71, Width::Byte, 0, &mut map), 0x5a);
}

#[test]
fn the_exit_port_ends_with_the_low_byte() {
    let (mut board, mut map) = board();
    board.port_write(0xf4, Width::Dword, 0x1_0003, 0, &mut map);
    assert_eq!(board.exit_code(), Some(3));
}

#[test]
fn a_routed_pci_interrupt_reaches_the_interrupt_controller_as_a_level() {
    let (mut board, mut map) = board();
    board.reset(&mut map);
    for (port, value) in [(0xcf8, 0x8000_0860), (0xcfc, 0x0b0b_0b0b)] {
        board.port_write(port, Width::Dword, value, 0, &mut map);
    }
    let levels = |board: &Board| board.interrupt_controllers()[1].irr;
    board.chips.pci.set_intx(0x10, 1, true);
    board.settle_pci(&mut map);
    assert_eq!(levels(&board), 1 << 3);
    board.port_write(0xcfd, Width::Byte, 0x80, 0, &mut map);
    assert_eq!(levels(&board), 0, "its route is off again");
}

/// A board whose local APIC is on.
fn board_with_apic() -> (Board, PhysMap) {
    let config = BoardConfig { ram_size: 4 << 20, apic: true, ..BoardConfig::default() };
    let mut map = PhysMap::new(Ram::new(4 << 20).unwrap());
    let mut board = Board::new(config);
    board.reset(&mut map);
    board.set_apic_base(0xfee0_0900, &mut map);
    board.mmio_write(LOCAL_APIC.offset(0xf0), Width::Dword, 0x1ff, 0);
    (board, map)
}

fn redirect(board: &mut Board, pin: u32, entry: u32) {
    board.mmio_write(IO_APIC, Width::Dword, 0x10 + 2 * pin, 0);
    board.mmio_write(IO_APIC.offset(0x10), Width::Dword, entry, 0);
}

#[test]
fn the_timer_interrupts_through_pin_2_of_the_io_apic() {
    let (mut board, mut map) = board_with_apic();
    redirect(&mut board, 2, 0x31);
    for (port, value) in [(0x43, 0x34), (0x40, 0), (0x40, 1)] {
        board.port_write(port, Width::Byte, value, 0, &mut map);
    }
    for _ in 0..2 {
        let due = board.next_event().unwrap();
        board.advance(due, &mut map);
        assert!(board.interrupt_requested());
        assert_eq!(board.acknowledge(), 0x31);
        assert!(!board.interrupt_requested(), "it is in service");
        assert!(board.mmio_write(LOCAL_APIC.offset(0xb0), Width::Dword, 0, due));
    }
}

#[test]
fn the_8259_comes_through_lint0_and_without_the_apic_directly() {
    let (mut board, mut map) = board_with_apic();
    let setup = [(0x20, 0x11), (0x21, 8), (0x21, 4), (0x21, 1), (0x21, 0xef), (0x3fc, 0x0b), (0x3f9, 2)];
    for (port, value) in setup {
        board.port_write(port, Width::Byte, value, 0, &mut map);
    }
    assert!(!board.interrupt_requested(), "LINT0 is masked");
    board.mmio_write(LOCAL_APIC.offset(0x350), Width::Dword, 0x700, 0);
    assert!(board.interrupt_requested());
    board.mmio_write(LOCAL_APIC.offset(0x350), Width::Dword, 0x1_0700, 0);
    board.set_apic_base(0xfee0_0100, &mut map);
    assert!(board.interrupt_requested(), "disabled, the processor has the 8259 at its pin");
    assert_eq!(map.backing(LOCAL_APIC).read, Target::Open);
    assert_eq!(board.acknowledge(), 0x0c);
}

#[test]
fn the_local_timer_is_an_event_of_the_board() {
    let (mut board, mut map) = board_with_apic();
    for (register, value) in [(0x3e0, 0xb), (0x320, 0xef), (0x380, 1000)] {
        board.mmio_write(LOCAL_APIC.offset(register), Width::Dword, value, 50);
    }
    run(&mut board, 1049, &mut map);
    assert!(!board.interrupt_requested());
    run(&mut board, 1050, &mut map);
    assert_eq!(board.acknowledge(), 0xef);
}

#[test]
fn a_reset_puts_the_apic_back_and_keeps_what_drives_its_pins() {
    let (mut board, mut map) = board_with_apic();
    redirect(&mut board, 2, 0x31);
    board.reset(&mut map);
    assert_eq!(board.mmio_read(LOCAL_APIC.offset(0xf0), Width::Dword, 0), 0xff);
    board.mmio_write(IO_APIC, Width::Dword, 0x14, 0);
    assert_eq!(board.mmio_read(IO_APIC.offset(0x10), Width::Dword, 0), 0x1_0000);
}

#[test]
fn acpi_turns_off_and_interrupts_at_the_ports_that_pmbase_names() {
    let (mut board, mut map) = board_with_drives();
    let pmbase = [(0xcf8, 0x8000_0b40), (0xcfc, 0x1801), (0xcf8, 0x8000_0b80), (0xcfc, 1)];
    for (port, value) in pmbase {
        board.port_write(port, Width::Dword, value, 0, &mut map);
    }
    assert_eq!(board.port_read(0x1808, Width::Dword, 100_000_000, &mut map), 3_579_545);
    board.port_write(0xb2, Width::Byte, 0xf1, 0, &mut map);
    board.port_write(0x1802, Width::Word, 1, 0, &mut map);
    run(&mut board, 250_000_000, &mut map);
    assert_eq!(board.interrupt_controllers()[1].irr & 2, 2, "the timer's highest bit changed");
    board.port_write(0x1800, Width::Word, 1, 250_000_000, &mut map);
    assert_eq!(board.interrupt_controllers()[1].irr & 2, 0);
    assert!(!board.is_off());
    board.port_write(0x1804, Width::Word, 0x2001, 250_000_000, &mut map);
    assert!(board.is_off());
}

/// The request lines at which an event arrives only once its chip's mask is lifted: by the chip, not by the
/// 8259s.
#[test]
fn what_a_chip_masks_happens_all_the_same() {
    let (mut board, mut map) = board_with_drives();
    let at = |board: &mut Board, map: &mut PhysMap, writes: &[(u16, u8)], now: Ticks| {
        writes.iter().for_each(|&(port, value)| board.port_write(port, Width::Byte, value.into(), now, map));
    };
    let later = |board: &mut Board, map: &mut PhysMap| board.advance(100_000_000, map);
    // Serial: a byte comes in with the receiver's interrupt off.
    at(&mut board, &mut map, &[(0x3fc, 0x0b)], 0);
    board.serial_input(0, b"x", 0);
    // Keyboard: a key goes down with IRQ 1 off.
    at(&mut board, &mut map, &[(0x64, 0x60), (0x60, 0x40)], 0);
    let key = Stroke::of_char('a').expect("a key");
    board.key(&key.events(), 0);
    // ATA: IDENTIFY with nIEN; floppy: a reset with the gate of its interrupt closed.
    at(&mut board, &mut map, &[(0x3f6, 0x02), (0x1f6, 0xa0), (0x1f7, 0xec)], 0);
    at(&mut board, &mut map, &[(0x3f2, 0x00), (0x3f2, 0x04)], 0);
    later(&mut board, &mut map);
    let now = 100_000_000;
    for (line, port) in [(4, 0x3fd), (1, 0x64), (14, 0x3f6), (6, 0x3f4)] {
        assert!(!board.chips.pic.line(line), "line {line} is masked");
        let status = board.port_read(port, Width::Byte, now, &mut map);
        assert_ne!(status & 0x89, 0, "its event shows at {port:x}: {status:x}");
    }
    at(&mut board, &mut map, &[(0x3f9, 1), (0x64, 0x60), (0x60, 0x41), (0x3f6, 0), (0x3f2, 0x0c)], now);
    assert_eq!([4, 1, 14, 6].map(|line| board.chips.pic.line(line)), [true; 4]);
}

#[test]
fn a_timer_behind_a_masked_line_leaves_its_request() {
    let (mut board, mut map) = board();
    let setup =
        [(0x20, 0x11), (0x21, 8), (0x21, 4), (0x21, 1), (0x21, 0xff), (0x43, 0x34), (0x40, 0), (0x40, 1)];
    setup.iter().for_each(|&(port, value)| board.port_write(port, Width::Byte, value, 0, &mut map));
    for _ in 0..3 {
        let due = board.next_event().expect("the timer runs");
        board.advance(due, &mut map);
    }
    assert!(!board.interrupt_requested());
    assert_eq!(board.interrupt_controllers()[0].irr & 1, 1);
    board.port_write(0x21, Width::Byte, 0xfe, board.next_event().unwrap_or(0), &mut map);
    assert_eq!((board.interrupt_requested(), board.acknowledge()), (true, 8));
}
