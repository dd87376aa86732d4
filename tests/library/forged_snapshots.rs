//! Saved states with fields changed at will, as in a snapshot that someone forged with its checksum: each is
//! refused with a sentence, or makes a strange machine that runs; none a panic.

use crate::common::scratch::Scratch;
use crate::common::seed;
use subring::machine::board::BoardConfig;
use subring::machine::{Config, Limits, Machine, State};
use subring::media::{Disk, ImageFormat, MemoryDisk};
use subring::snapshot::recording::{Frame, Input, Point, Recorder, Stop, What};
use subring::snapshot::{Drive, Recording, Saved, Snapshot};

fn disk() -> [Option<Box<dyn Disk>>; 4] {
    [Some(Box::new(MemoryDisk::new(vec![0x5a; 64 * 512]))), None, None, None]
}
fn cdrom() -> Option<Box<dyn Disk>> {
    Some(Box::new(MemoryDisk::new(vec![0xc3; 64 * 512])))
}
fn floppy() -> [Option<Box<dyn Disk>>; 2] {
    [Some(Box::new(MemoryDisk::new(vec![0xa5; 2880 * 512]))), None]
}

/// Touches every port of the PC, and ends: 16-bit code for 0000:7C00.
#[rustfmt::skip]
const PORTS: &[u8] = &[
    0xfa, 0x31, 0xd2,                   // CLI; DX = 0
    0xec, 0xee, 0xed,                   // IN AL; OUT AL; IN EAX (AX)
    0x42, 0x81, 0xfa, 0x00, 0x10,       // INC DX; CMP DX, 1000h
    0x72, 0xf6,                         // JB
    0xbf, 0x00, 0xa0, 0x8e, 0xc7,       // ES = A000h
    0x31, 0xff, 0x26, 0x8a, 0x05, 0xaa, // MOV AL, ES:[DI]; STOSB
    0x75, 0xfa, 0xf4,                   // HLT
];

/// A state in the middle of a disk read, in bytes.
fn base() -> Vec<u8> {
    let board = BoardConfig {
        ram_size: 1 << 20,
        disks: disk(),
        cdrom: cdrom(),
        floppies: floppy(),
        ..BoardConfig::default()
    };
    let mut m =
        Machine::new(Config { ram_size: 1 << 20, board, bios: None, vga_bios: None }).expect("a machine");
    m.store(subring::addr::GuestPhys(0x7c00), PORTS);
    m.start_real(0, 0x7c00);
    m.run(Limits::until(700));
    postcard::to_stdvec(&m.save()).expect("it has a form")
}

/// Where the chips' fields are: not in the long runs that are memories.
fn fields(state: &[u8]) -> Vec<usize> {
    let dull = |at: usize| {
        let around = &state[at.saturating_sub(24)..(at + 24).min(state.len())];
        around.chunks_exact(2).all(|pair| pair == &around[..2])
    };
    (0..state.len()).filter(|&at| !dull(at)).collect()
}

#[test]
fn no_forged_state_harms_the_program() {
    let whole = base();
    let fields = fields(&whole);
    assert!(fields.len() > 500 && fields.len() < whole.len() / 4, "{} of {}", fields.len(), whole.len());
    let (refused, ran) = (std::cell::Cell::new(0u32), std::cell::Cell::new(0u32));
    seed::each(600, 24, |dice| {
        let mut bytes = whole.clone();
        for change in dice[1..].chunks_exact(5).take(1 + usize::from(dice[0] % 3)) {
            let n = u32::from_le_bytes([change[0], change[1], change[2], 0]) as usize;
            bytes[fields[n % fields.len()]] = [0, 1, 0x7f, 0xff, change[4]][usize::from(change[3] % 5)];
        }
        let machine = postcard::from_bytes::<State>(&bytes).ok().filter(|s| s.ram_size() <= 64 << 20);
        match machine.map(|state| Machine::from_state(&state, disk(), floppy(), cdrom())) {
            Some(Ok(mut machine)) => {
                ran.set(ran.get() + 1);
                let now = machine.cpu.now;
                machine.run(Limits::until(now.saturating_add(60_000)));
                let _ = machine.world.board.screen();
            }
            _ => refused.set(refused.get() + 1),
        }
    });
    assert!(refused.get() > 10 && ran.get() > 100, "{} refused, {} ran", refused.get(), ran.get());
}

/// A file of `kind` with `payload`, under a checksum that fits.
fn sealed(head: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut file = head[..12].to_vec();
    file.extend((payload.len() as u64).to_le_bytes());
    let mut sum = xxhash_rust::xxh3::Xxh3::new();
    sum.update(&file);
    sum.update(payload);
    file.extend(sum.digest128().to_le_bytes());
    [&file, payload].concat()
}

#[test]
fn no_forged_file_harms_its_reader() {
    let dir = Scratch::new("forged-files");
    let drive = Drive {
        path: "/disk.img".into(),
        bytes: 4096,
        format: ImageFormat::Raw,
        detected: true,
        hash: Some(7),
        overlay: false,
    };
    let state = postcard::from_bytes(&base()).unwrap();
    let machine = Saved { state, reboots: true };
    let snapshot =
        Snapshot { machine, disks: vec![drive], floppies: Vec::new(), cdrom: None }.encode().unwrap();
    let tape = dir.path("tape");
    let mut recorder = Recorder::create(tape.as_ref(), &[("guest".into(), 1)]).unwrap();
    let at = Point { ticks: 5, retired: 4 };
    recorder.note(&Frame::Input(Input { at, after_run: true, what: What::Serial(vec![1; 40]) }));
    recorder.note(&Frame::Alive(at));
    recorder.finish(at, Stop::User, 3).unwrap();
    let recording = std::fs::read(&tape).unwrap();
    assert_eq!(Recording::read(tape.as_ref()).unwrap().inputs.len(), 1);
    let read = std::cell::Cell::new(0);
    seed::each(200, 64, |dice| {
        let snap = dice[0].is_multiple_of(2);
        let mut bytes = if snap { snapshot.clone() } else { recording.clone() };
        let near_the_end = bytes.len() - 100.min(bytes.len());
        for change in dice[1..].chunks_exact(6).take(1 + usize::from(dice[0] / 2 % 6)) {
            let n = u32::from_le_bytes([change[0], change[1], change[2], 0]) as usize;
            let at = if change[5] % 2 == 0 { near_the_end } else { 36 } + n % 100;
            let len = bytes.len();
            bytes[at % len] = [0, 1, 0x7f, 0xff, change[3]][usize::from(change[4] % 5)];
        }
        if snap {
            bytes = sealed(&bytes, &bytes[36..]);
        }
        let path = dir.file("forged", &bytes);
        let opened = match snap {
            true => Snapshot::read(path.as_ref()).map(|_| ()),
            false => Recording::read(path.as_ref()).map(|_| ()),
        };
        match opened {
            Ok(()) => read.set(read.get() + 1),
            Err(e) => assert_eq!(e.to_string().lines().count(), 1, "{e}"),
        }
    });
    assert!((1..200).contains(&read.get()), "{} of 200 could be read", read.get());
}
