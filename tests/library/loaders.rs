//! Guest images: what is loaded where, and the sentence that each kind of bad image gets.

use proptest::prelude::*;
use std::path::Path;
use subring::addr::GuestPhys;
use subring::error::{Error, Result};
use subring::load::{Around, Entry, Format, Guest, Mode, Module, Plan, identify, plan};

const MEM: u32 = 16 << 20;

fn around() -> Around {
    Around { mem: MEM, strict: true, ..Around::default() }
}

fn load_as(bytes: &[u8], format: Format, around: &Around) -> Result<Plan> {
    let path = Path::new("dir/kernel");
    let head = &bytes[..bytes.len().min(subring::load::HEAD)];
    let guest = identify(path, head, bytes.len() as u64, format)?;
    let around = Around { named: format != Format::Auto, ..around.clone() };
    plan(path, bytes, guest, &around)
}

fn load(bytes: &[u8]) -> Result<Plan> {
    load_as(bytes, Format::Auto, &around())
}

/// Asserts that the image is refused with a sentence that contains `words`.
#[track_caller]
fn refused(result: Result<Plan>, words: &str) {
    let message = match result {
        Err(e @ (Error::Image { .. } | Error::Usage(_))) => e.to_string(),
        other => panic!("expected a refusal, got {other:?}"),
    };
    assert!(message.contains(words), "`{message}` does not say `{words}`");
    assert!(!message.contains('\n'), "one sentence: {message}");
}

/// What an ELF test file is made from.
#[derive(Clone)]
struct Elf {
    vaddr: u32,
    paddr: u32,
    memsz: u32,
    entry: u32,
    code: Vec<u8>,
}

impl Default for Elf {
    fn default() -> Self {
        Self { vaddr: 0x10_0000, paddr: 0x10_0000, memsz: 0x2000, entry: 0x10_0010, code: vec![0x90; 0x100] }
    }
}

const CODE_AT: usize = 0x54;

impl Elf {
    /// Header, one program header, the code, then a symbol table with one symbol, `start`.
    fn build(&self) -> Vec<u8> {
        let mut f = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        let code_end = (CODE_AT + self.code.len()) as u32;
        let strings = b"\0start\0";
        let symtab = code_end + strings.len() as u32;
        let sections = symtab + 32;
        for half in [2u16, 3] {
            f.extend(half.to_le_bytes());
        }
        for word in [1, self.entry, 52, sections, 0] {
            f.extend(word.to_le_bytes());
        }
        for half in [52u16, 32, 1, 40, 3, 0] {
            f.extend(half.to_le_bytes());
        }
        let len = self.code.len() as u32;
        for word in [1, CODE_AT as u32, self.vaddr, self.paddr, len, self.memsz, 7, 0x1000] {
            f.extend(word.to_le_bytes());
        }
        f.extend(&self.code);
        f.extend(strings);
        f.extend([0; 16]);
        for word in [1, self.entry, 4, 0x0001_0012u32] {
            f.extend(word.to_le_bytes());
        }
        f.extend([0; 40]);
        let table = |kind: u32, at: u32, len: u32, link: u32, each: u32| {
            [0, kind, 0, 0, at, len, link, 1, 1, each]
                .into_iter()
                .flat_map(u32::to_le_bytes)
                .collect::<Vec<u8>>()
        };
        f.extend(table(2, symtab, 32, 2, 16));
        f.extend(table(3, code_end, strings.len() as u32, 0, 0));
        f
    }
}

fn put(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

fn multiboot_header(flags: u32) -> Vec<u8> {
    let sum = 0u32.wrapping_sub(0x1bad_b002).wrapping_sub(flags);
    [0x1bad_b002, flags, sum].into_iter().flat_map(u32::to_le_bytes).collect()
}

fn multiboot_elf() -> Elf {
    let mut code = multiboot_header(3);
    code.resize(0x100, 0x90);
    Elf { code, ..Elf::default() }
}

/// A kernel with the address fields, loaded at 1 MiB from file offset 0; the header at offset 16.
fn kludge(fields: [u32; 5]) -> Vec<u8> {
    let mut f = vec![0x90; 16];
    f.extend(multiboot_header(1 << 16 | 3));
    f.extend(fields.into_iter().flat_map(u32::to_le_bytes));
    f.resize(0x200, 0x90);
    f
}

fn word(plan: &Plan, at: u32) -> u32 {
    let (base, bytes) = plan
        .writes
        .iter()
        .find(|(b, w)| at >= b.0 && at + 4 <= b.0 + w.len() as u32)
        .expect("address is written");
    let i = (at - base.0) as usize;
    u32::from_le_bytes(bytes[i..i + 4].try_into().unwrap())
}

fn string(plan: &Plan, at: u32) -> String {
    (at..)
        .map(|a| word(plan, a & !3).to_le_bytes()[(a & 3) as usize])
        .take_while(|&b| b != 0)
        .map(char::from)
        .collect()
}

#[test]
fn an_elf_goes_to_its_physical_addresses() {
    let plan = load(&Elf { vaddr: 0xc010_0000, entry: 0xc010_0010, ..Elf::default() }.build()).unwrap();
    assert_eq!(plan.writes, [(GuestPhys(0x10_0000), vec![0x90; 0x100])]);
    assert!(matches!(plan.entry, Entry::Flat { eip: 0x10_0010, eax: 0, .. }), "{:?}", plan.entry);
    assert_eq!(plan.symbols.len(), 1);
    assert_eq!((plan.symbols[0].name.as_str(), plan.symbols[0].value), ("start", 0xc010_0010));
}

#[test]
fn bad_elf_files_say_why() {
    let good = Elf::default().build();
    let with = |at: usize, value: u32| {
        let mut f = good.clone();
        put(&mut f, at, value);
        load(&f)
    };
    refused(load(&good[..40]), "cut short");
    refused(load(&good[..0x60]), "cut short");
    refused(with(4, 0x0001_0102), "64-bit ELF");
    refused(with(4, 0x0001_0201), "big-endian");
    refused(with(4, 0x0001_0109), "ELF class 9");
    refused(with(0x10, 0x003e_0002), "another processor");
    refused(with(0x10, 0x0003_0001), "object file");
    refused(with(0x10, 0x0003_0003), "-no-pie");
    refused(with(0x10, 0x0003_0004), "core dump");
    refused(with(0x1c, 0xffff_0000), "program headers");
    refused(with(0x2c, 0x0028_0000), "no program headers");
    refused(with(0x2c, 0x0028_fff0), "program headers");
    refused(with(0x18, 0x5000), "entry point 0x5000");
    refused(with(0x34, 0), "no segment to load");
    refused(with(0x34 + 4, 0xffff_ff00), "beyond the end of the file");
    refused(with(0x34 + 12, 0xffff_f000), "beyond 4 GiB");
    refused(with(0x34 + 12, MEM - 0x1000), "do not fit into 16 MiB of memory");
    refused(with(0x34 + 12, 0x9_f000), "VGA window");
    refused(with(0x34 + 16, 0x3000), "more bytes in the file");
    refused(with(0x34 + 20, 0xffff_ffff), "beyond 4 GiB");
}

#[test]
fn damaged_symbols_are_a_note_and_no_error() {
    let mut f = Elf::default().build();
    put(&mut f, 0x20, 0xffff_fff0);
    let plan = load(&f).unwrap();
    assert!(plan.symbols.is_empty());
    assert_eq!(plan.notes.len(), 1);
}

#[test]
fn overlapping_segments_are_refused() {
    let mut f = Elf::default().build();
    let phdr = f[0x34..0x54].to_vec();
    let at = f.len() as u32;
    f.extend(&phdr);
    f.extend(&phdr);
    put(&mut f, 0x1c, at);
    put(&mut f, 0x2c, 0x0028_0002);
    refused(load(&f), "overlap");
}

#[test]
fn a_multiboot_kernel_gets_its_information() {
    let modules = vec![
        Module { string: "a b".into(), bytes: vec![1; 5000] },
        Module { string: "c".into(), bytes: vec![2; 3] },
    ];
    let around = Around { cmdline: Some("x=1 y".into()), modules, has_disk: true, ..around() };
    let plan = load_as(&multiboot_elf().build(), Format::Auto, &around).unwrap();
    let Entry::Flat { eip, eax, ebx, .. } = plan.entry else { panic!("{:?}", plan.entry) };
    assert_eq!((eip, eax), (0x10_0010, 0x2bad_b002));
    assert_eq!(word(&plan, ebx), 0b10_0100_1111);
    assert_eq!(word(&plan, ebx + 4), 639);
    assert_eq!(word(&plan, ebx + 8), 15 * 1024);
    assert_eq!(word(&plan, ebx + 12) >> 24, 0x80);
    assert_eq!(string(&plan, word(&plan, ebx + 16)), "kernel x=1 y");
    assert_eq!(word(&plan, ebx + 20), 2);
    let mods = word(&plan, ebx + 24);
    assert_eq!((word(&plan, mods), word(&plan, mods + 4)), (0x10_2000, 0x10_2000 + 5000));
    assert_eq!((word(&plan, mods + 16), word(&plan, mods + 20)), (0x10_4000, 0x10_4003));
    assert_eq!(string(&plan, word(&plan, mods + 8)), "a b");
    let (len, map) = (word(&plan, ebx + 44), word(&plan, ebx + 48));
    assert_eq!(len, 5 * 24);
    let entry: Vec<u32> = (0..6).map(|i| word(&plan, map + 3 * 24 + 4 * i)).collect();
    assert_eq!(entry, [20, 0x10_0000, 0, MEM - 0x10_0000, 0, 1]);
    assert!(string(&plan, word(&plan, ebx + 64)).starts_with("subring"));
}

#[test]
fn the_address_fields_rule_over_the_file() {
    let plan = load(&kludge([0x10_0010, 0x10_0000, 0x10_0100, 0x10_4000, 0x10_0040])).unwrap();
    assert_eq!((plan.writes[0].0, plan.writes[0].1.len()), (GuestPhys(0x10_0000), 0x100));
    assert!(matches!(plan.entry, Entry::Flat { eip: 0x10_0040, eax: 0x2bad_b002, .. }));
    let plan = load(&kludge([0x10_0010, 0x10_0000, 0, 0, 0x10_0040])).unwrap();
    assert_eq!(plan.writes[0].1.len(), 0x200, "without an end, all of the file is loaded");
}

#[test]
fn bad_multiboot_kernels_say_why() {
    refused(load(&kludge([0x10_0010, 0x10_0020, 0, 0, 0x10_0040])), "load address");
    refused(load(&kludge([0x10_0010, 0, 0, 0, 0])), "load address");
    refused(load(&kludge([0x10_0010, 0x10_0000, 0x10_1000, 0, 0x10_0040])), "cut short");
    refused(load(&kludge([0x10_0010, 0x10_0000, 0xf_0000, 0, 0x10_0040])), "below its load address");
    refused(load(&kludge([0x10_0010, 0x10_0000, 0x10_0100, 0x10_0050, 0x10_0040])), "bss end");
    refused(load(&kludge([0x10_0010, 0x10_0000, 0x10_0100, 0xffff_ffff, 0x10_0040])), "do not fit");
    refused(load(&kludge([0x10_0010, 0x10_0000, 0, 0, 0x20_0000])), "entry point");
    refused(load(&kludge([0xffff_ff10, 0xffff_ff00, 0, 0, 0xffff_ff40])), "beyond 4 GiB");
    refused(load(&kludge([0x10_0010, 0x10_0000, 0, 0, 0x10_0040])[..40]), "cut short");
    refused(load(&multiboot_header(3)), "gives no load addresses");
    refused(load(&multiboot_header(1 << 5)), "unknown features");
}

#[test]
fn a_multiboot_header_out_of_reach_is_an_error_unless_the_format_is_named() {
    let mut code = vec![0x90; 9000];
    code.truncate(9000 - (CODE_AT + 9000) % 4);
    code.extend(multiboot_header(3));
    let file = Elf { code, memsz: 0x4000, ..Elf::default() }.build();
    refused(load(&file), "out of reach");
    refused(load_as(&file, Format::Multiboot, &around()), "out of reach");
    assert!(load_as(&file, Format::Elf, &around()).is_ok());
    let mut flat = vec![0x90; 12000];
    flat.extend(multiboot_header(3));
    refused(load(&flat), "out of reach");
    assert!(load_as(&flat, Format::Flat, &around()).is_ok());
}

#[test]
fn a_wrong_checksum_is_named_when_multiboot_was_asked_for() {
    let mut f = multiboot_elf().build();
    f[CODE_AT + 8] ^= 1;
    refused(load_as(&f, Format::Multiboot, &around()), "checksum");
    refused(load_as(&Elf::default().build(), Format::Multiboot, &around()), "no Multiboot header");
}

#[test]
fn a_video_request_is_a_note() {
    let mut elf = multiboot_elf();
    elf.code[..12].copy_from_slice(&multiboot_header(7));
    assert!(load(&elf.build()).unwrap().notes[0].contains("video"));
}

#[test]
fn a_module_that_does_not_fit_is_refused() {
    let modules = vec![Module { string: "big".into(), bytes: vec![0; MEM as usize - 0x10_1000] }];
    refused(load_as(&multiboot_elf().build(), Format::Auto, &Around { modules, ..around() }), "`big`");
}

#[test]
fn a_kernel_that_fills_low_memory_gets_its_information_above() {
    let elf =
        Elf { vaddr: 0x1000, paddr: 0x1000, entry: 0x1010, memsz: 0x9_0000, code: { multiboot_elf().code } };
    let Entry::Flat { ebx, .. } = load(&elf.build()).unwrap().entry else { panic!() };
    assert_eq!(ebx, 0x10_0000);
}

#[test]
fn flat_binaries_start_where_asked() {
    let entry =
        |around: &Around| load_as(&[0xf4; 100], Format::Auto, around).map(|p| (p.writes[0].0.0, p.entry));
    let (at, start) = entry(&around()).unwrap();
    assert_eq!(at, 0x10_0000);
    assert!(matches!(start, Entry::Flat { eip: 0x10_0000, eax: 0, ebx: 0, esp: 0x9_f000 }));
    let real = Around { mode: Some(Mode::Real), ..around() };
    assert_eq!(entry(&real).unwrap(), (0x7c00, Entry::Real { cs: 0, ip: 0x7c00 }));
    let high = Around { at: Some(0x2_0123), ..real.clone() };
    assert_eq!(entry(&high).unwrap(), (0x2_0123, Entry::Real { cs: 0x2012, ip: 3 }));
    refused(load_as(&[0xf4], Format::Auto, &Around { at: Some(0x20_0000), ..real }), "below 1 MiB");
    refused(
        load_as(&[0xf4; 100], Format::Auto, &Around { at: Some(0xffff_fff0), ..around() }),
        "beyond 4 GiB",
    );
    refused(load_as(&[0xf4; 100], Format::Auto, &Around { mem: 0x1_0000, ..around() }), "do not fit");
    refused(load_as(&[0xf4; 100], Format::Auto, &Around { at: Some(0xb_8000), ..around() }), "VGA window");
}

#[test]
fn options_that_would_do_nothing_are_refused() {
    let elf = Elf::default().build();
    let flat = [0xf4; 16];
    refused(load_as(&flat, Format::Auto, &Around { cmdline: Some("x".into()), ..around() }), "--append");
    refused(load_as(&elf, Format::Auto, &Around { at: Some(1), ..around() }), "--load-at");
    refused(load_as(&elf, Format::Auto, &Around { mode: Some(Mode::Real), ..around() }), "--mode");
    let modules = vec![Module { string: "m".into(), bytes: vec![] }];
    refused(load_as(&elf, Format::Auto, &Around { modules, ..around() }), "--module");
}

#[test]
fn files_are_recognised() {
    let kind = |bytes: &[u8], size: u64| identify(Path::new("f"), bytes, size, Format::Auto);
    let mut sector = vec![0; 512];
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    assert_eq!(kind(&sector, 512).unwrap(), Guest::Disk);
    assert_eq!(kind(&sector, 64 << 20).unwrap(), Guest::Disk);
    assert_eq!(kind(&sector, 1440 << 10).unwrap(), Guest::Floppy);
    assert_eq!(kind(&[0; 512], 1440 << 10).unwrap(), Guest::Floppy);
    // A floppy image of an odd size is padded.
    assert_eq!(kind(&sector, 513).unwrap(), Guest::Floppy);
    assert_eq!(kind(b"x", 1).unwrap(), Guest::Flat);
    assert_eq!(kind(&Elf::default().build(), 1000).unwrap(), Guest::Elf);
    assert_eq!(kind(&multiboot_elf().build(), 1000).unwrap(), Guest::Multiboot(CODE_AT));

    let says = |bytes: &[u8], words: &str| {
        let message = kind(bytes, bytes.len() as u64).expect_err("refused").to_string();
        assert!(message.contains(words), "{message}");
    };
    says(b"", "empty");
    says(b"\x1f\x8b\x08", "gzip");
    says(b"\xfd7zXZ\0", "xz");
    says(b"\x28\xb5\x2f\xfd", "zstd");

    let mut linux = sector.clone();
    linux.extend(b"\xeb\x66HdrS");
    assert_eq!(kind(&linux, 5 << 20).unwrap(), Guest::Linux);
    let mut iso = vec![0; 0x9000];
    iso[0x8001..0x8006].copy_from_slice(b"CD001");
    assert_eq!(kind(&iso, 0x9000).unwrap(), Guest::Cdrom);
    iso[510..512].copy_from_slice(&[0x55, 0xaa]);
    assert_eq!(kind(&iso, 0x9000).unwrap(), Guest::Cdrom, "a hybrid image too");
    assert!(kind(&iso, 0x9200).unwrap_err().to_string().contains("2048-byte CD blocks"));
    let mut pe = vec![0; 0x100];
    pe[..2].copy_from_slice(b"MZ");
    pe[0x3c] = 0x80;
    pe[0x80..0x84].copy_from_slice(b"PE\0\0");
    says(&pe, "PE");
    put(&mut pe, 0x3c, 0xffff_ffff);
    says(&pe, "a DOS executable");
    let two = [0xe852_50d6u32, 0, 16, 0u32.wrapping_sub(0xe852_50d6 + 16)];
    says(&two.into_iter().flat_map(u32::to_le_bytes).collect::<Vec<u8>>(), "Multiboot 2");
}

/// Whatever the bytes: a plan whose stores lie in RAM and apart from each other, or a refusal.
fn check_any(bytes: &[u8]) {
    let formats = [Format::Auto, Format::Flat, Format::Elf, Format::Multiboot, Format::Disk, Format::Floppy];
    for format in formats {
        let Ok(plan) = load_as(bytes, format, &around()) else { continue };
        let mut ranges: Vec<(u64, u64)> =
            plan.writes.iter().map(|(at, w)| (u64::from(at.0), u64::from(at.0) + w.len() as u64)).collect();
        ranges.sort_unstable();
        assert!(ranges.iter().all(|r| r.1 <= u64::from(MEM)), "{ranges:x?}");
        assert!(ranges.windows(2).all(|w| w[0].1 <= w[1].0), "{ranges:x?}");
        let names: usize = plan.symbols.iter().map(|s| s.name.len()).sum();
        assert!(names <= 3 * bytes.len());
    }
}

/// A field-sized change: mostly corner values, as plain random bytes rarely meet a check.
fn change() -> impl Strategy<Value = (usize, u32)> {
    let corner = prop_oneof![
        Just(0u32),
        Just(1),
        Just(0x7fff_ffff),
        Just(0x8000_0000),
        Just(0xffff_ffff),
        Just(0xffff_f000),
        Just(0x9_ffff),
        Just(0x10_0000),
        Just(MEM - 1),
        any::<u32>(),
        0u32..0x400,
    ];
    (0usize..0x200, corner)
}

fn changed(mut bytes: Vec<u8>, changes: &[(usize, u32)], cut: usize) -> Vec<u8> {
    for &(at, value) in changes {
        if at + 4 <= bytes.len() {
            put(&mut bytes, at, value);
        }
    }
    bytes.truncate(cut);
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_changed_elf_panics(changes in prop::collection::vec(change(), 0..4), cut in 0usize..0x400) {
        check_any(&changed(Elf::default().build(), &changes, cut));
    }

    #[test]
    fn no_changed_multiboot_elf_panics(changes in prop::collection::vec(change(), 0..4), cut in 0usize..0x400) {
        check_any(&changed(multiboot_elf().build(), &changes, cut));
    }

    #[test]
    fn no_address_fields_panic(fields: [u32; 5], changes in prop::collection::vec(change(), 0..4)) {
        check_any(&changed(kludge(fields), &changes, 0x200));
        let near = fields.map(|f| 0x10_0000 + (f & 0x3ff));
        check_any(&kludge(near));
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        check_any(&bytes);
    }
}
