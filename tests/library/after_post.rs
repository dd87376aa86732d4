//! What a kernel finds after POST: by the built-in BIOS, and where it was loaded without one.

use crate::common::boot_sector;
use subring::addr::GuestPhys;
use subring::bus::Width;
use subring::machine::board::BoardConfig;
use subring::machine::{Config, Limits, Machine, Outcome};
use subring::media::{Disk, MemoryDisk};

const RAM: u32 = 4 << 20;

fn run(machine: &mut Machine) -> Outcome {
    machine.run(Limits::until(2_000_000_000))
}

/// Runs a boot sector under the built-in BIOS, on the first of two disks.
fn boot(code: &[u8]) -> Outcome {
    let disk = |code| Some(Box::new(MemoryDisk::new(boot_sector::disk(code, 64))) as Box<dyn Disk>);
    let board = BoardConfig {
        ram_size: RAM,
        disks: [disk(code), disk(&[]), None, None],
        cdrom: Some(Box::new(MemoryDisk::new(vec![0; 64 * 2048]))),
        boot_order: 2,
        firmware: true,
        ..BoardConfig::default()
    };
    let bios = Some(include_bytes!("../../guest-programs/bios/bios.bin").to_vec());
    run(&mut Machine::new(Config { ram_size: RAM, board, bios, vga_bios: None }).expect("a machine"))
}

/// A machine as the loader of a kernel leaves it, with 32-bit code at 1 MiB.
fn loaded(code: &[u8], board: BoardConfig) -> Machine {
    let board = BoardConfig { ram_size: RAM, ..board };
    let mut m = Machine::new(Config { ram_size: RAM, board, bios: None, vga_bios: None }).expect("a machine");
    m.store(GuestPhys(0x10_0000), code);
    m.chips_as_after_post();
    m.start_flat(0x10_0000, 0, 0, 0x8_0000);
    m
}

/// Sequencer and graphics controller for plane 2 at A0000h; AL = the fifth row of `A`; OUT F4h,AL.
#[rustfmt::skip]
const READS_THE_GLYPH: &[u8] = &[
    0x31, 0xc0, 0x8e, 0xd8,                               // XOR AX,AX; MOV DS,AX
    0xba, 0xc4, 0x03, 0xb8, 0x02, 0x04, 0xef,             // map mask: plane 2
    0xba, 0xc4, 0x03, 0xb8, 0x04, 0x07, 0xef,             // memory mode: no odd/even
    0xba, 0xce, 0x03, 0xb8, 0x04, 0x02, 0xef,             // read map: plane 2
    0xba, 0xce, 0x03, 0xb8, 0x05, 0x00, 0xef,             // mode 0
    0xba, 0xce, 0x03, 0xb8, 0x06, 0x04, 0xef,             // 64 KiB at A0000h
    0xb8, 0x00, 0xa0, 0x8e, 0xc0, 0x26, 0xa0, 0x24, 0x08, // AL = [A000:0824h]
    0xe6, 0xf4,
];

/// The fifth row of the glyph of `A`: `##...##.`.
const ROW: u8 = 0xc6;

#[test]
fn the_font_is_in_plane_2_after_the_bios() {
    assert_eq!(boot(READS_THE_GLYPH), Outcome::Exit(ROW));
}

#[test]
fn int_10h_says_where_the_font_is() {
    // MOV AX,1130h; MOV BH,6; INT 10h; MOV AL,ES:[BP+414h]; OUT F4h,AL
    let code = [0xb8, 0x30, 0x11, 0xb7, 6, 0xcd, 0x10, 0x26, 0x8a, 0x86, 0x14, 0x04, 0xe6, 0xf4];
    assert_eq!(boot(&code), Outcome::Exit(ROW));
}

#[test]
fn int_10h_loads_a_glyph() {
    let mut code = vec![
        0x0e, 0x07, 0xbd, 0x34, 0x7c, // PUSH CS; POP ES; MOV BP,7C34h
        0xb8, 0x00, 0x11, 0xbb, 0x00, 0x10, // AX = 1100h: load; BX = 1000h: 16 rows, font 0
        0xb9, 1, 0, 0xba, 0x41, 0, 0xcd, 0x10, // one, from `A` on; INT 10h
    ];
    code.extend([0xba, 0xce, 0x03, 0xb8, 0x04, 0x02, 0xef, 0xb8, 0x05, 0x00, 0xef, 0xb8, 0x06, 0x04, 0xef]);
    code.extend([0xba, 0xc4, 0x03, 0xb8, 0x04, 0x07, 0xef]);
    code.extend([0xb8, 0x00, 0xa0, 0x8e, 0xc0, 0x26, 0xa0, 0x24, 0x08, 0xe6, 0xf4]);
    assert_eq!(code.len(), 0x34);
    code.extend([0x5a; 16]);
    assert_eq!(boot(&code), Outcome::Exit(0x5a));
}

#[test]
fn the_font_is_there_without_a_bios() {
    let mut m = loaded(&[], BoardConfig::default());
    let (world, now) = (&mut m.world, m.cpu.now);
    for (port, value) in [(0x3c4, 0x0704), (0x3ce, 0x0204), (0x3ce, 0x0005), (0x3ce, 0x0406)] {
        world.board.port_write(port, Width::Word, value, now, &mut world.map);
    }
    let row = |m: &mut Machine, code: u32, row: u32| {
        m.world.board.mmio_read(GuestPhys(0xa_0000 + code * 32 + row), Width::Byte, 0)
    };
    assert_eq!(row(&mut m, 0x41, 4), u32::from(ROW));
    assert_eq!([0x00, 0x20, 0xdb].map(|code| row(&mut m, code, 8)), [0, 0, 0xff]);
    assert!((1..0xff).filter(|&c| c != 0x20).all(|c| (0..16).any(|y| row(&mut m, c, y) != 0)), "every glyph");
}

#[test]
fn no_disk_keeps_an_error_in_its_status() {
    // MOV DX,1F6h; MOV AL,device; OUT DX,AL; INC DX; IN AL,DX; OUT F4h,AL
    for device in [0xe0, 0xf0] {
        let code = [0xba, 0xf6, 0x01, 0xb0, device, 0xee, 0x42, 0xec, 0xe6, 0xf4];
        assert_eq!(boot(&code), Outcome::Exit(0x50), "DRDY and DSC, device {device:x}");
    }
}

#[test]
fn the_firmware_region_is_read_only_for_a_loaded_kernel() {
    // A stack below FFFF0h loses what is pushed, C8000h loses what is stored, and EC000h is RAM. AL counts
    // what is not so.
    #[rustfmt::skip]
    let code = [
        0xbc, 0xf0, 0xff, 0x0f, 0x00, 0x68, 0x78, 0x56, 0x34, 0x12, 0x58,  // ESP = FFFF0h; PUSH 12345678h; POP EAX
        0x3d, 0x78, 0x56, 0x34, 0x12, 0x0f, 0x94, 0xc0,                    // CMP EAX,12345678h; SETE AL
        0xc6, 0x05, 0x00, 0x80, 0x0c, 0x00, 0x5a,                          // MOV BYTE [C8000h],5Ah
        0x80, 0x3d, 0x00, 0x80, 0x0c, 0x00, 0x5a, 0x0f, 0x94, 0xc4,        // CMP; SETE AH
        0x08, 0xe0,                                                        // OR AL,AH
        0xc6, 0x05, 0x00, 0xc0, 0x0e, 0x00, 0x5a,                          // MOV BYTE [EC000h],5Ah
        0x80, 0x3d, 0x00, 0xc0, 0x0e, 0x00, 0x5a, 0x0f, 0x95, 0xc4,        // CMP; SETNE AH
        0x08, 0xe0, 0xe6, 0xf4,                                            // OR AL,AH; OUT F4h,AL
    ];
    assert_eq!(run(&mut loaded(&code, BoardConfig::default())), Outcome::Exit(0));
}

#[test]
fn the_reset_vector_is_a_pcs() {
    let m = loaded(&[], BoardConfig::default());
    let mut end = [0; 16];
    m.world.map.read(GuestPhys(0xf_fff0), &mut end);
    assert_eq!((end[0], &end[5..13], end[14]), (0xea, &b"01/01/26"[..], 0xfc));
}

#[test]
fn pam_opens_the_firmware_region_to_a_loaded_kernel() {
    let mut m = loaded(&[], BoardConfig::default());
    let (world, now) = (&mut m.world, m.cpu.now);
    let store = |m: &mut subring::machine::World| {
        m.map.write(GuestPhys(0xf_1000), &[0x5a]);
        let mut byte = [0];
        m.map.read(GuestPhys(0xf_1000), &mut byte);
        byte[0]
    };
    assert_eq!(store(world), 0);
    world.board.port_write(0xcf8, Width::Dword, 0x8000_0058, now, &mut world.map);
    world.board.port_write(0xcfd, Width::Byte, 0x30, now, &mut world.map);
    assert_eq!(store(world), 0x5a);
}

/// Sets 40:67h to 0000:7000h, where there is MOV AL,7; OUT F4h,AL, and the shutdown code; then resets by port
/// 92h, by the keyboard controller or by CF9h, and halts.
#[rustfmt::skip]
fn resets(kind: u8, shutdown: u8) -> Vec<u8> {
    vec![
        0xb3, kind,                                                 // MOV BL,kind
        0xc7, 0x05, 0x67, 0x04, 0x00, 0x00, 0x00, 0x70, 0x00, 0x00, // [467h] = 0000:7000h
        0xc7, 0x05, 0x00, 0x70, 0x00, 0x00, 0xb0, 0x07, 0xe6, 0xf4, // [7000h] = MOV AL,7; OUT F4h,AL
        0xb0, 0x0f, 0xe6, 0x70, 0xb0, shutdown, 0xe6, 0x71,         // CMOS 0Fh = the shutdown code
        0x80, 0xfb, 0x01, 0x74, 0x07, 0x77, 0x0a,                   // CMP BL,1; JE, JA
        0xb0, 0x03, 0xe6, 0x92, 0xf4,                               // port 92h
        0xb0, 0xfe, 0xe6, 0x64, 0xf4,                               // the keyboard controller
        0x66, 0xba, 0xf9, 0x0c, 0xb0, 0x06, 0xee, 0xf4,             // CF9h
    ]
}

#[test]
fn a_reset_with_a_shutdown_code_goes_on_where_the_kernel_asked() {
    for kind in 0..3 {
        for shutdown in [0x05, 0x0a] {
            let mut m = loaded(&resets(kind, shutdown), BoardConfig::default());
            assert_eq!(run(&mut m), Outcome::Exit(7), "reset {kind}, code {shutdown:x}");
        }
        let mut m = loaded(&resets(kind, 0), BoardConfig::default());
        assert_eq!(run(&mut m), Outcome::Reset, "reset {kind}: nothing asks to go on");
        let board = BoardConfig { ends_at_reset: true, ..BoardConfig::default() };
        assert_eq!(
            run(&mut loaded(&resets(kind, 0x0a), board)),
            Outcome::Reset,
            "reset {kind}: asked to end"
        );
    }
}

#[test]
fn the_test_device_has_its_ports_and_its_memory() {
    #[rustfmt::skip]
    let code = [
        0xb8, 0x78, 0x56, 0x34, 0x12, 0xe7, 0xe0, 0xe4, 0xe9, 0x3c, 0x56, 0x75, 0x2c, // E0h = 12345678h; E9h reads 56h
        0xc7, 0x05, 0x10, 0x00, 0x00, 0xff, 0xfe, 0xca, 0x00, 0x00,                   // [FF000010h] = CAFEh
        0x66, 0x81, 0x3d, 0x10, 0x00, 0x00, 0xff, 0xfe, 0xca, 0x75, 0x17,             // and reads so
        0xb0, 0x6b, 0xe6, 0xf1,                                                       // `k` to the console
        0x66, 0xba, 0x05, 0x20, 0xb0, 0x01, 0xee,                                     // IRQ 5 goes up
        0xb0, 0x0a, 0xe6, 0x20, 0xe4, 0x20, 0x24, 0x20, 0x34, 0x20, 0xe6, 0xf4,       // exit with IRR bit 5, inverted
        0xb0, 0x01, 0xe6, 0xf4,
    ];
    let board = BoardConfig { testdev: true, ..BoardConfig::default() };
    let mut m = loaded(&code, board);
    assert_eq!(run(&mut m), Outcome::Exit(0));
    assert_eq!(m.world.board.take_debug_console(), b"k");
    let state = m.save();
    let bytes = postcard::to_stdvec(&state).expect("it has a form");
    assert!(bytes.windows(2).any(|pair| pair == [0xfe, 0xca]), "saved with the machine");
    assert_eq!(
        run(&mut loaded(&code, BoardConfig::default())),
        Outcome::Exit(1),
        "not there unless asked for"
    );
}
