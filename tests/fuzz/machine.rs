//! A machine in a random state: every mode, ring and width, tables and control bits of which most make sense and some
//! do not, and code that is part noise, part what reaches far (system instructions, ports, strings, transfers).

use super::bytes::Bytes;
use subring::addr::GuestPhys;
use subring::bus::{Clock, Width};
use subring::cpu::{Cr0, Cr4, Eflags, Segment, gpr};
use subring::decode::SegReg;
use subring::machine::board::BoardConfig;
use subring::machine::{Config, Machine};
use subring::media::{Disk, MemoryDisk};

// Where things lie.
const CODE: u32 = 0x1000;
const CODE_LEN: u32 = 0x2000;
const GDT: u32 = 0x4000;
const LDT: u32 = 0x4800;
const IDT: u32 = 0x5000;
const TSS: u32 = 0x6000;
const STACKS: u32 = 0x8000;
const DIRECTORY: u32 = 0x1_0000;
const TABLE: u32 = 0x1_1000;

/// Selectors of [`gdt`] by ring: 32-bit code and data, 16-bit code and data.
const FLAT: [[u16; 4]; 4] =
    [[0x08, 0x10, 0x18, 0x20], [0x29, 0x31, 0x39, 0x41], [0x4a, 0x52, 0x5a, 0x62], [0x6b, 0x73, 0x7b, 0x83]];
const TSS32: u16 = 0x88;
const SELECTOR_LDT: u16 = 0xa0;

/// Ports with something behind them.
#[rustfmt::skip]
const PORTS: [u16; 64] = [
    0x00, 0x04, 0x05, 0x08, 0x0a, 0x0b, 0x0c, 0x0f, 0x20, 0x21, 0x40, 0x42, 0x43, 0x60, 0x61, 0x64,
    0x70, 0x71, 0x80, 0x81, 0x92, 0xa0, 0xa1, 0xc0, 0xd6, 0x1f0, 0x1f1, 0x1f2, 0x1f6, 0x1f7, 0x170, 0x177,
    0x2f8, 0x3c0, 0x3c4, 0x3ce, 0x3d4, 0x3da, 0x3f2, 0x3f4, 0x3f5, 0x3f6, 0x3f8, 0x3f9, 0x3fc, 0x510, 0xcf8, 0xcfc,
    0x172, 0x174, 0x175, 0x176, 0x170, 0x177, 0x376, 0x1f3, 0xcf8, 0xcfc, 0xc000, 0xc002, 0xc004, 0xc008, 0xc00a, 0xc00c,
];

/// Openings of instructions that reach far; operands follow from the noise.
#[rustfmt::skip]
const OPENINGS: &[&[u8]] = &[
    &[0xf3, 0xa4], &[0xf3, 0xab], &[0xf3, 0xa6], &[0xf2, 0xae], &[0xf3, 0xad], &[0xf3, 0x6c], &[0xf3, 0x6f], &[0x6d], &[0x6e],
    &[0x0f, 0x22], &[0x0f, 0x20], &[0x0f, 0x23], &[0x0f, 0x21], &[0x0f, 0x01], &[0x0f, 0x00], &[0x0f, 0x02], &[0x0f, 0x03],
    &[0x0f, 0x30], &[0x0f, 0x31], &[0x0f, 0x32], &[0x0f, 0x34], &[0x0f, 0x35], &[0x0f, 0xb2], &[0x0f, 0xc7], &[0x0f, 0xa2],
    &[0xcd], &[0xcc], &[0xce], &[0xf1], &[0xcf], &[0xcb], &[0xca], &[0xc3], &[0x9a], &[0xea], &[0xff], &[0xc4], &[0xc5],
    &[0x8e], &[0x8c], &[0x1f], &[0x17], &[0x07], &[0xe4], &[0xe6], &[0xec], &[0xee], &[0xed], &[0xef], &[0xfa], &[0xfb], &[0xf4],
    &[0x9c], &[0x9d], &[0xe2], &[0xe3], &[0xeb], &[0x62], &[0xc8], &[0xc9], &[0x60], &[0x61], &[0x66], &[0x67], &[0xf0],
    &[0xf6], &[0xf7], &[0xc1], &[0xd3], &[0x0f, 0xa4], &[0x0f, 0xab], &[0x0f, 0xb1], &[0x0f, 0xbd], &[0x88], &[0x89], &[0xd4],
    &[0x54], &[0x5c], &[0xbc], &[0x9e], &[0x37], &[0x27], &[0xd7], &[0x26], &[0x36], &[0x90], &[0x40], &[0x50], &[0x58],
];

/// The machine that `data` means.
pub(crate) fn machine(data: &mut Bytes) -> Machine {
    let mut m = Machine::new(config(data)).expect("sizes are in range");
    if data.chance(8) {
        // As after the reset line: firmware, or what open memory reads as.
        return m;
    }
    vectors(&mut m, data);
    gdt(&mut m, data);
    idt(&mut m, data);
    tss(&mut m, data);
    page_tables(&mut m, data);
    mode(&mut m, data);
    registers(&mut m, data);
    if data.chance(160) {
        interrupts(&mut m, data);
    }
    bus_master(&mut m);
    code(&mut m, data);
    m
}

/// The registers of the IDE function's bus master at C000h, as firmware places them.
fn bus_master(m: &mut Machine) {
    for (port, value) in [(0xcf8, 0x8000_0920), (0xcfc, 0xc000), (0xcf8, 0x8000_0904), (0xcfc, 5)] {
        m.world.board.port_write(port, Width::Dword, value, 0, &mut m.world.map);
    }
    m.world.settle();
}

/// Interrupt controllers and timer as an operating system sets them up, the timer fast.
fn interrupts(m: &mut Machine, data: &mut Bytes) {
    let mode = mostly(data, 0x01, &[0x03]);
    let divisor = data.pick(&[2, 3, 9, 40]);
    let setup = [
        (0x20, 0x11),
        (0x21, 0x20),
        (0x21, 0x04),
        (0x21, mode),
        (0xa0, 0x11),
        (0xa1, 0x28),
        (0xa1, 0x02),
        (0xa1, mode),
        (0x21, 0x00),
        (0xa1, 0x00),
        (0x43, 0x34),
        (0x40, divisor),
        (0x40, 0),
        (0x3fc, 0x0b),
        (0x3f9, 0x03),
    ];
    for (port, value) in setup {
        m.world.board.port_write(port, Width::Byte, value, 0, &mut m.world.map);
    }
    m.world.settle();
}

fn config(data: &mut Bytes) -> Config {
    let ram_size = data.pick(&[0x1_0000, 0x10_0000, 0x10_1000, 0x2_0000, 0x40_0000]);
    let mut disk = || -> Option<Box<dyn Disk>> {
        let sectors = data.pick(&[0, 0, 1, 3, 63, 64, 720, 1440, 2881]);
        (sectors != 0).then(|| Box::new(MemoryDisk::new(vec![0x5a; sectors * 512 - 7])) as Box<dyn Disk>)
    };
    let (disks, floppies) = ([disk(), None, None, disk()], [disk(), disk()]);
    let cdrom = disk();
    let board = BoardConfig {
        clock: Clock::new(data.pick(&[100_000_000, 1000, 20_000, 1_000_000, 100_000_000_000])),
        ram_size,
        epoch: 946_684_799,
        disks,
        cdrom,
        floppies,
        firmware: data.chance(32),
        apic: data.chance(128),
        acpi: data.chance(128),
        ..BoardConfig::default()
    };
    let bios = board.firmware.then(|| {
        let mut image = vec![0xf4; 0x2000];
        image.iter_mut().for_each(|b| *b = data.u8());
        image
    });
    Config { ram_size, board, bios, vga_bios: None }
}

/// An offset within the code, sometimes far out.
fn entry(data: &mut Bytes) -> u32 {
    match data.u8() {
        0..240 => CODE + u32::from(data.u16()) % CODE_LEN,
        240..248 => u32::from(data.u16()),
        _ => data.u32(),
    }
}

/// `usual`, or seldom one of `others`.
fn mostly<T: Copy>(data: &mut Bytes, usual: T, others: &[T]) -> T {
    if data.chance(232) { usual } else { data.pick(others) }
}

/// Real mode's interrupt vectors.
fn vectors(m: &mut Machine, data: &mut Bytes) {
    for n in 0..64 {
        let ip = entry(data) as u16;
        m.store(GuestPhys(n * 4), &u32::from(ip).to_le_bytes());
    }
}

fn descriptor(base: u32, limit: u32, attr: u32) -> u64 {
    let (base, limit, attr) = (u64::from(base), u64::from(limit), u64::from(attr));
    (limit & 0xffff)
        | (base & 0xff_ffff) << 16
        | (attr & 0xff) << 40
        | (limit >> 16 & 0xf) << 48
        | (attr >> 8 & 0xf) << 52
        | (base >> 24) << 56
}

fn gate(selector: u16, offset: u32, attr: u32) -> u64 {
    u64::from(offset & 0xffff)
        | u64::from(selector) << 16
        | u64::from(attr & 0xff) << 40
        | u64::from(offset >> 16) << 48
}

fn random_descriptor(data: &mut Bytes) -> u64 {
    match data.u8() {
        0..64 => u64::from(data.u32()) | u64::from(data.u32()) << 32,
        64..128 => {
            let base = data.pick(&[0, 0x1000, 0xffff_fff0, 0xffff_0000]);
            let limit = data.pick(&[0, 1, 0xfff, 0x2fff, 0xffff, 0xf_ffff]);
            descriptor(base, limit, 0x80 | u32::from(data.u16() & 0xc7f))
        }
        128..200 => gate(any_selector(data), entry(data), data.pick(&[0x84, 0x8c, 0xe4, 0xec, 0xe5])),
        _ => descriptor(
            TSS + u32::from(data.u8()) * 8,
            data.pick(&[0, 0x67, 0x2b, 0xffff, 0xf_ffff]),
            data.pick(&[0x89, 0x8b, 0x81, 0x83, 0xe9]),
        ),
    }
}

fn any_selector(data: &mut Bytes) -> u16 {
    match data.u8() {
        0..160 => data.pick(&data_selectors()),
        160..230 => data.u16() & 0x1ff,
        _ => data.u16(),
    }
}

fn data_selectors() -> [u16; 16] {
    let mut all = [0; 16];
    for (n, s) in all.iter_mut().enumerate() {
        *s = FLAT[n / 4][n % 4];
    }
    all
}

fn gdt(m: &mut Machine, data: &mut Bytes) {
    let mut table = vec![0u64];
    for dpl in 0..4 {
        for attr in [0xc9b, 0xc93, 0x09b, 0x093] {
            let limit = if attr & 0x800 == 0 { 0xffff } else { 0xf_ffff };
            table.push(descriptor(0, limit, attr | dpl << 5));
        }
    }
    table.push(descriptor(TSS, 0x67 + 0x2000, 0x8b));
    table.push(descriptor(TSS + 0x400, 0x67, 0x89));
    table.push(descriptor(TSS + 0x800, 0x2b, 0x81));
    table.push(descriptor(LDT, 0x7f, 0x82));
    table.push(gate(0x08, entry(data), 0xec));
    table.push(gate(0x18, entry(data), 0xe4) | u64::from(data.u8() & 31) << 32);
    table.push(gate(0x90, 0, 0xe5));
    table.push(descriptor(0, 0xf_ffff, 0xc9f));
    table.push(descriptor(0, 0xfff, 0x4f7));
    table.resize_with(64, || random_descriptor(data));
    for _ in 0..data.u8() & 7 {
        let n = data.below(64);
        table[n] ^= 1u64 << (data.u8() & 63);
    }
    let mut local: Vec<u64> = (0..16).map(|_| random_descriptor(data)).collect();
    local[0] = table[1];
    store(m, GDT, &table);
    store(m, LDT, &local);
    m.cpu.gdtr.base = GDT;
    m.cpu.gdtr.limit = mostly(data, 0x1ff, &[0x9f, 0xffff, 0x7, 0x1fe]);
}

fn store(m: &mut Machine, at: u32, table: &[u64]) {
    let bytes: Vec<u8> = table.iter().flat_map(|d| d.to_le_bytes()).collect();
    m.store(GuestPhys(at), &bytes);
}

fn idt(m: &mut Machine, data: &mut Bytes) {
    let mut table = Vec::new();
    for _ in 0..256 {
        table.push(match data.u8() {
            0..210 => gate(0x08, entry(data), data.pick(&[0x8e, 0x8f, 0xee, 0xef])),
            210..220 => gate(0x18, entry(data), data.pick(&[0x86, 0x87, 0xe6, 0xe7])),
            220..230 => gate(data.pick(&[0x90, 0x98, TSS32]), 0, 0xe5),
            230..248 => gate(any_selector(data), entry(data), data.pick(&[0x8e, 0xee, 0x0e, 0xe6])),
            _ => random_descriptor(data),
        });
    }
    store(m, IDT, &table);
    m.cpu.idtr.base = mostly(data, IDT, &[0, 0xffff_fffc]);
    m.cpu.idtr.limit = mostly(data, 0x7ff, &[0x77, 0, 0xffff, 0x6b]);
}

fn stack(data: &mut Bytes) -> u32 {
    match data.u8() {
        0..232 => STACKS + u32::from(data.u16() & 0x3ffc),
        232..244 => data.pick(&[0, 1, 2, 3, 5, 0xffff, 0x1_0001, 0xffff_fffe]),
        _ => data.u32(),
    }
}

fn tss(m: &mut Machine, data: &mut Bytes) {
    for at in [TSS, TSS + 0x400, TSS + 0x800] {
        let mut image = [0u8; 0x68];
        image.iter_mut().for_each(|b| *b = data.u8());
        let mut put = |at: usize, v: u32| image[at..at + 4].copy_from_slice(&v.to_le_bytes());
        if at == TSS + 0x800 {
            put(14, entry(data) & 0xffff | u32::from(data.u16()) << 16);
            put(34, 0x0018_0020);
            put(38, 0x0020_0020);
            put(42, 0);
        } else {
            for (level, selectors) in FLAT[..3].iter().enumerate() {
                put(4 + 8 * level, stack(data));
                put(8 + 8 * level, selectors[1].into());
            }
            put(0, u32::from(data.pick(&[TSS32, 0x90, 0x98, 0])));
            put(0x1c, DIRECTORY);
            put(0x20, entry(data));
            put(0x24, data.u32() & if data.chance(200) { 0xd5 } else { !0 });
            put(0x38, stack(data));
            let ring = data.below(4);
            for (n, which) in [1, 0, 1, 1, 1, 1].into_iter().enumerate() {
                let selector = if data.chance(230) { FLAT[ring][which] } else { any_selector(data) };
                put(0x48 + 4 * n, selector.into());
            }
            put(0x60, u32::from(data.pick(&[0, SELECTOR_LDT])));
            put(0x64, 0x68 << 16 | u32::from(data.chance(20)));
        }
        m.store(GuestPhys(at), &image);
    }
    // The I/O permission bitmap, most ports allowed.
    let bitmap: Vec<u8> = (0..0x200).map(|_| if data.chance(30) { data.u8() } else { 0 }).collect();
    m.store(GuestPhys(TSS + 0x68), &bitmap);
    m.cpu.tr =
        Segment::system(TSS32, TSS, mostly(data, 0x2067, &[0x67, 0x20, 0, !0]), mostly(data, 0x8b, &[0x83]));
}

/// The first 4 MiB page by page, the rest in random ways.
fn page_tables(m: &mut Machine, data: &mut Bytes) {
    let mut table = Vec::new();
    for n in 0..1024u32 {
        let flags = if n < 64 && data.chance(252) { 0x07 } else { u32::from(data.u16() & 0x1e7) | 1 };
        let page = if n < 64 || data.chance(200) { n } else { u32::from(data.u16()) };
        table.extend((page << 12 | flags).to_le_bytes());
    }
    let mut directory = (TABLE | 0x67).to_le_bytes().to_vec();
    for _ in 1..1024 {
        let entry = match data.u8() & 7 {
            0 => TABLE | 0x07,
            1 => data.u32(),
            2 => u32::from(data.u8()) << 22 | 0xe7,
            3 => DIRECTORY | 0x67,
            _ => 0,
        };
        directory.extend(entry.to_le_bytes());
    }
    m.store(GuestPhys(TABLE), &table);
    m.store(GuestPhys(DIRECTORY), &directory);
    m.cpu.cr3 = mostly(data, DIRECTORY, &[DIRECTORY | 0x18, 0xffff_f000]);
}

/// Real, protected at a ring and width, or virtual-8086 mode; paging on or off; control bits.
fn mode(m: &mut Machine, data: &mut Bytes) {
    let real = data.chance(64);
    m.start_real(0, 0);
    let flags = Eflags::from_bits_truncate(data.u32() & !(Eflags::VM.bits()));
    let flags = if data.chance(220) { flags - (Eflags::TF | Eflags::NT | Eflags::RF) } else { flags };
    let cpu = &mut m.cpu;
    cpu.cr0 |= Cr0::from_bits_truncate(data.u32()) & (Cr0::WP | Cr0::AM | Cr0::NE | Cr0::MP);
    if data.chance(30) {
        cpu.cr0 |= Cr0::from_bits_truncate(data.u32()) & (Cr0::EM | Cr0::TS);
    }
    cpu.cr4 = Cr4::from_bits_truncate(data.u32());
    if real {
        cpu.idtr.base = mostly(data, 0, &[IDT]);
        cpu.set_eflags(flags);
    } else {
        cpu.cr0 |= Cr0::PE;
        cpu.cr0.set(Cr0::PG, data.chance(128));
        let ring = data.pick(&[0u8, 0, 0, 1, 2, 3, 3, 3, 4]);
        if ring == 4 {
            for s in SegReg::ALL {
                cpu.set_seg(s, Segment::v86(0));
            }
            cpu.set_eflags(flags | Eflags::VM);
            cpu.set_cpl(3);
        } else {
            protected(cpu, ring, data.chance(90));
            cpu.set_eflags(flags);
        }
    }
    m.world.tlb.flush(true);
}

fn protected(cpu: &mut subring::cpu::Cpu, ring: u8, small: bool) {
    let attr = u16::from(ring) << 5;
    let pair = usize::from(small) * 2;
    let (limit, big) = if small { (0xffff, 0) } else { (!0, 0xc00) };
    let selectors = FLAT[usize::from(ring)];
    for s in SegReg::ALL {
        cpu.set_seg(s, Segment::with(selectors[pair + 1], 0, limit, 0x93 | attr | big));
    }
    cpu.set_seg(SegReg::Cs, Segment::with(selectors[pair], 0, limit, 0x9b | attr | big));
    cpu.set_cpl(ring);
}

fn number(data: &mut Bytes) -> u32 {
    match data.u8() {
        0..60 => u32::from(data.u16()),
        60..120 => entry(data),
        120..160 => {
            data.pick(&[0, 1, !0, 0x8000_0000, 0x7fff_ffff, 0xffff, 0x1_0000, 0xa_0000, 0xf_ffff, 0x10_0000])
        }
        160..200 => u32::from(data.u8()),
        200..220 => data.pick(&[GDT, IDT, TSS, DIRECTORY, TABLE]) + u32::from(data.u8()) * 4,
        _ => data.u32(),
    }
}

fn registers(m: &mut Machine, data: &mut Bytes) {
    for n in 0..8 {
        m.cpu.regs[n] = number(data);
    }
    m.cpu.regs[gpr::ESP] = stack(data);
    if data.chance(160) {
        m.cpu.regs[gpr::EDX] = u32::from(data.pick(&PORTS));
    }
    m.cpu.eip = CODE + u32::from(data.u16()) % 0x1100;
    if data.chance(40) {
        for n in 0..4 {
            m.cpu.dr[n] = number(data);
        }
        m.cpu.dr[7] = (data.u32() & !0xf800) | 0x400;
        m.cpu.refresh();
    }
    m.cpu.msrs.sysenter_cs = u32::from(any_selector(data));
    m.cpu.msrs.sysenter_eip = entry(data);
    m.cpu.msrs.sysenter_esp = stack(data);
}

/// Fills the code region: noise, with openings in it, over and over.
fn code(m: &mut Machine, data: &mut Bytes) {
    let mut bytes = Vec::new();
    while data.any() && bytes.len() < CODE_LEN as usize {
        match data.u8() {
            0..120 => bytes.extend(OPENINGS[data.below(OPENINGS.len())]),
            120..140 => {
                // MOV (E)DX, a port that answers.
                bytes.push(0xba);
                bytes.extend(data.pick(&PORTS).to_le_bytes());
                if m.cpu.code32() {
                    bytes.extend([0, 0]);
                }
            }
            _ => bytes.push(data.u8()),
        }
    }
    bytes.push(0x90);
    let all: Vec<u8> = bytes.into_iter().cycle().take(CODE_LEN as usize).collect();
    m.store(GuestPhys(CODE), &all);
}
