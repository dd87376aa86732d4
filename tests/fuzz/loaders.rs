//! The loaders on any file: noise, and built-in guests with bytes changed or missing. Whatever a file says, the plan
//! stays within RAM and does not grow beyond the file and what the user passes along.

use super::bytes::Bytes;
use std::path::Path;
use subring::load::builtin;
use subring::load::{Around, Entry, Format, Guest, HEAD, Mode, Module, Plan, identify, plan};

/// Plans the load that `data` means.
pub(crate) fn run(data: &[u8]) {
    let mut data = Bytes::new(data);
    let around = around(&mut data);
    let format = data.pick(&[
        Format::Auto,
        Format::Auto,
        Format::Flat,
        Format::Elf,
        Format::Multiboot,
        Format::Disk,
        Format::Floppy,
    ]);
    let file = file(&mut data);
    let path = Path::new("guest");
    let head = &file[..file.len().min(HEAD)];
    let Ok(kind) = identify(path, head, file.len() as u64, format) else { return };
    let file = if matches!(kind, Guest::Disk | Guest::Floppy) { &[] } else { &file[..] };
    if let Ok(plan) = plan(path, file, kind, &around) {
        check(&plan, &around, file.len());
    }
}

fn around(data: &mut Bytes) -> Around {
    let modules = (0..data.u8() & 3)
        .map(|n| Module { string: format!("module{n} {}", data.u8()), bytes: vec![n; data.below(9000)] })
        .collect();
    Around {
        mem: data.pick(&[4 << 20, 64 << 10, 1 << 20, 0x10_1000, 16 << 20, 3 << 30]),
        initrd: None,
        cmdline: data.chance(64).then(|| "x".repeat(data.below(5000))),
        modules: if data.chance(100) { modules } else { Vec::new() },
        at: data.chance(20).then(|| data.u32()),
        mode: data.chance(20).then(|| data.pick(&[Mode::Real, Mode::Flat])),
        strict: data.chance(64),
        has_disk: data.chance(128),
        named: data.chance(128),
    }
}

/// A built-in guest with some of its bytes changed, or noise.
fn file(data: &mut Bytes) -> Vec<u8> {
    let mut file = match data.below(builtin::ALL.len() + 2) {
        n if n < builtin::ALL.len() => builtin::ALL[n].bytes.to_vec(),
        _ => {
            let mut noise = Vec::new();
            while data.any() && noise.len() < 4096 {
                noise.push(data.u8());
            }
            return noise;
        }
    };
    let cut = if data.chance(40) { data.below(file.len()) } else { file.len() };
    file.truncate(cut);
    let mut changes = data.u8() % 12;
    while data.any() && changes > 0 && !file.is_empty() {
        changes -= 1;
        // Mostly in the headers: the file's, and Multiboot's in the pages after it.
        let area = data.pick(&[0x34, 0xc0, 0x100, 0x1100, usize::MAX]).min(file.len());
        let at = data.below(area);
        let value = data.pick(&[0, 1, 0xff, 0x7f, 0x80]) ^ if data.chance(128) { data.u8() } else { 0 };
        let len = data.pick(&[1usize, 1, 2, 4]);
        file[at..].iter_mut().take(len).for_each(|b| *b = value);
    }
    file
}

fn check(plan: &Plan, around: &Around, file: usize) {
    let mut total = 0;
    let mut spans: Vec<(u64, u64)> = Vec::new();
    for (at, bytes) in &plan.writes {
        let span = (u64::from(at.0), u64::from(at.0) + bytes.len() as u64);
        assert!(span.1 <= u64::from(around.mem), "{span:x?} lies beyond RAM");
        total += bytes.len();
        spans.push(span);
    }
    spans.sort_unstable();
    assert!(spans.windows(2).all(|w| w[0].1 <= w[1].0), "stores overlap: {spans:x?}");
    let passed: usize = around.modules.iter().map(|m| m.bytes.len() + m.string.len()).sum();
    let told = around.cmdline.as_ref().map_or(0, String::len);
    assert!(total <= file + passed + told + 0x1_0000, "{total} bytes come from {file}");
    if let Entry::Flat { eip, .. } = plan.entry {
        assert!(eip < around.mem, "the entry {eip:#x} lies beyond RAM");
    }
}
