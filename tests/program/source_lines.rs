//! Source lines of kernels with debug information (DWARF): in the post-mortem, in its JSON, in the trace; and what
//! comes of debug information that is damaged.

use crate::common::seed;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use subring::debug::source::Source;
use subring::load::DebugSections;

const NESTED: &str = "guest-programs/nested/nested.elf";
const PACKED: &str = "guest-programs/nested/nested-packed.elf";

fn run(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_subring"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).arg("run").args(args);
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(120), "a triple fault");
    output
}

fn said(args: &[&str]) -> String {
    String::from_utf8(run(args).stderr).unwrap()
}

/// `SUBRING_BLESS=1` writes the golden file anew.
#[test]
fn a_death_has_its_lines_and_callers_by_name() {
    let text = said(&[NESTED]);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/program/post_mortem/golden/nested.txt");
    if std::env::var_os("SUBRING_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(path).unwrap());
    assert_eq!(said(&[PACKED]), text, "compressed sections say the same");
}

#[test]
fn json_has_them_too() {
    let json: serde_json::Value = serde_json::from_slice(&run(&[NESTED, "--json"]).stdout).unwrap();
    let frames = json["post_mortem"]["backtrace"].as_array().unwrap();
    assert_eq!(frames[0]["inlined"][0]["name"], "share");
    assert_eq!(frames[0]["inlined"][0]["place"]["line"], 18);
    let lines: Vec<u64> = frames.iter().map(|f| f["source"]["line"].as_u64().unwrap()).collect();
    assert_eq!(lines[..3], [23, 31, 38], "hand_out, feast, kernel_main");
    assert_eq!(json["post_mortem"]["source"]["lines"][2][1], "    return b->apples / b->children;");
}

#[test]
fn a_trace_names_each_new_line() {
    let text = said(&[NESTED, "--trace", "insn"]);
    let named = |what: &str| text.lines().filter(|l| l.contains(" insn ") && l.contains(what)).count();
    assert_eq!(named("; guest-programs/nested/nested.c:18  return b->apples / b->children;"), 3);
    assert!(named("; guest-programs/lib/boot.S:") > 3, "{text}");
}

/// Elsewhere there is no file to show lines of, and files that are not near are not read.
#[test]
fn without_the_source_there_are_numbers() {
    let dir = std::env::temp_dir().join(format!("subring-lines-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let kernel = dir.join("kernel.elf");
    std::fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join(NESTED), &kernel).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_subring"));
    let output = command.current_dir(&dir).args(["run", "kernel.elf"]).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("share at guest-programs/nested/nested.c:18, inlined in"), "{text}");
    assert!(!text.contains("b->apples"), "{text}");
    std::fs::remove_dir_all(&dir).unwrap();
}

fn image(path: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Asks all that a post-mortem may ask.
fn ask(file: &[u8]) -> Option<String> {
    let source = Source::new(&DebugSections::of(Path::new("kernel.elf"), file)?);
    for address in (0x10_0000..0x10_0800).step_by(16) {
        source.place(address);
        source.functions(address);
    }
    source.trouble()
}

#[test]
fn damaged_information_is_a_sentence_and_no_panic() {
    let whole = image(NESTED);
    assert_eq!(ask(&whole), None);
    let troubles = std::cell::Cell::new(0);
    seed::each(400, 64, |random| {
        let mut file = whole.clone();
        // The debug sections are behind the code.
        for place in random.chunks_exact(4).take(1 + usize::from(random[0]) % 15) {
            let at = u32::from_le_bytes(place.try_into().unwrap()) as usize % (file.len() - 0xc00) + 0xc00;
            file[at] ^= place[0] | 1;
        }
        troubles.set(troubles.get() + usize::from(ask(&file).is_some()));
    });
    let troubles = troubles.get();
    assert!(troubles > 20, "most damage goes unnoticed: {troubles}");
    for len in (0..whole.len()).step_by(97) {
        ask(&whole[..len]);
    }
}

#[test]
fn a_bomb_is_refused_by_its_size() {
    let mut file = image(PACKED);
    let word = |file: &[u8], at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap()) as usize;
    let (table, count) = (word(&file, 32), u16::from_le_bytes([file[48], file[49]]) as usize);
    // Each compressed section (SHF_COMPRESSED) begins with its type, its size and its alignment.
    let packed: Vec<usize> = (0..count)
        .filter(|n| word(&file, table + 40 * n + 8) & 0x800 != 0)
        .map(|n| word(&file, table + 40 * n + 16))
        .collect();
    assert!(packed.len() > 2, "compressed sections");
    for &at in &packed {
        file[at + 4..at + 8].copy_from_slice(&u32::MAX.to_le_bytes());
    }
    let trouble = ask(&file).unwrap();
    assert!(trouble.contains("MiB, and 512 are read at most"), "{trouble}");
    let mut file = image(PACKED);
    file[packed[0] + 14] ^= 0xff;
    assert!(ask(&file).is_some_and(|t| t.contains("cannot be unpacked")));
}
