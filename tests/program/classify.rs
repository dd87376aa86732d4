//! `subring classify` and what it derives: the set of sensitive unprivileged instructions in each setting, by name; that
//! every witness, run anew, shows what it is there for; that other seeds give the same set.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use subring::classify::judge::{holds, judge};
use subring::classify::vmx::{Behaviour, Level, behaviour};
use subring::classify::{Class, Form, Judgement, Mode, Setting, forms, literature, verdict};

const STATES: u32 = 128;

type Results = Vec<(Form, Judgement)>;
/// Results that one test derives while the others wait for them.
type Slot = Arc<OnceLock<&'static Results>>;

/// The judgement of every form in `setting`. Several tests look at one setting: the first of them derives its
/// results, and the others share them.
fn results(setting: Setting, seed: u64) -> &'static Results {
    static KNOWN: Mutex<BTreeMap<(Setting, u64), Slot>> = Mutex::new(BTreeMap::new());
    let slot = Arc::clone(KNOWN.lock().expect("no test panics here").entry((setting, seed)).or_default());
    slot.get_or_init(|| {
        let forms = forms::all(setting.mode.code32()).built;
        Box::leak(Box::new(
            forms.into_iter().map(|f| (f.clone(), judge(&f, setting, seed, STATES))).collect(),
        ))
    })
}

fn setting(mode: Mode, iopl: u8) -> Setting {
    Setting { mode, iopl, umip: false }
}

/// The names of forms without their sizes: `MOV r,CS`.
fn escaping(results: &[(Form, Judgement)]) -> BTreeSet<String> {
    let escaping = results.iter().filter(|(_, j)| j.class.escapes());
    escaping.map(|(f, _)| f.mnemonic().to_owned()).collect()
}

fn set(words: &[&str]) -> BTreeSet<String> {
    words.iter().flat_map(|w| w.split_whitespace()).map(str::to_owned).collect()
}

/// What escapes a monitor that waits for traps, in protected mode.
const PROTECTED: &str = "SGDT SIDT SLDT STR SMSW PUSHF PUSHFD POPF POPFD LAR LSL VERR VERW MOV PUSH POP LDS LES LFS LGS LSS \
    CALL JMP RETF INT IRET IRETD FNSTENV FNSAVE FXSAVE RDTSC";
/// And with IOPL 3 besides.
const OPEN: &str = "CLI STI IN OUT INSB INSW INSD OUTSB OUTSW OUTSD";
/// In virtual-8086 mode, with IOPL 0, and with IOPL 3 besides.
const V86: &str = "SGDT SIDT SMSW RDTSC";
const V86_OPEN: &str = "CLI STI PUSHF PUSHFD POPF POPFD IRET IRETD";

#[test]
fn the_sensitive_unprivileged_instructions_are_these() {
    for mode in [Mode::Cpl1, Mode::Cpl3] {
        assert_eq!(escaping(results(setting(mode, 0), 1)), set(&[PROTECTED]), "{mode:?}, IOPL 0");
        assert_eq!(escaping(results(setting(mode, 3), 1)), set(&[PROTECTED, OPEN]), "{mode:?}, IOPL 3");
    }
    assert_eq!(escaping(results(setting(Mode::V86, 0), 1)), set(&[V86]));
    assert_eq!(escaping(results(setting(Mode::V86, 3), 1)), set(&[V86, V86_OPEN]));
}

#[test]
fn of_moves_and_pushes_the_forms_with_segments_escape() {
    let results = results(setting(Mode::Cpl1, 0), 1);
    let escapes = |f: &Form, j: &Judgement| j.class.escapes().then(|| f.name.clone());
    let of = |mnemonic: &str| -> BTreeSet<String> {
        results.iter().filter(|(f, _)| f.mnemonic() == mnemonic).filter_map(|(f, j)| escapes(f, j)).collect()
    };
    let names = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(of("PUSH"), names(&["PUSH CS", "PUSH SS"]));
    assert_eq!(of("POP"), names(&["POP DS", "POP ES", "POP FS", "POP GS", "POP SS"]));
    assert_eq!(of("CALL"), names(&["CALL m16:16", "CALL m16:32", "CALL ptr16:16", "CALL ptr16:32"]));
    assert_eq!(of("JMP"), names(&["JMP m16:16", "JMP m16:32", "JMP ptr16:16", "JMP ptr16:32"]));
    let mut moves =
        names(&["MOV m16, CS", "MOV r16, CS", "MOV r32, CS", "MOV m16, SS", "MOV r16, SS", "MOV r32, SS"]);
    for s in ["DS", "ES", "FS", "GS", "SS"] {
        moves.extend(["m16", "r16", "r32"].map(|operand| format!("MOV {s}, {operand}")));
    }
    assert_eq!(of("MOV"), moves);
}

#[test]
fn robin_and_irvine_are_contained_in_protected_mode_and_each_difference_is_explained() {
    for mode in Mode::ALL {
        for (iopl, umip) in [(0, false), (3, false), (0, true)] {
            let v86 = mode == Mode::V86;
            let comparison = literature::compare(results(Setting { mode, iopl, umip }, 1), v86, umip);
            for (_, name, forms, why) in &comparison.listed {
                assert!(v86 || umip || !forms.is_empty(), "{name} escapes with {mode:?}, IOPL {iopl}");
                assert!(
                    forms.is_empty() == why.is_some(),
                    "{name} is told of: {mode:?} {iopl} {umip} {forms:?}"
                );
            }
            for (mnemonic, why) in &comparison.beyond {
                assert!(why.is_some(), "{mnemonic} is told of");
            }
        }
    }
}

#[test]
fn umip_takes_five_away() {
    for mode in [Mode::Cpl1, Mode::Cpl3] {
        let without = escaping(results(setting(mode, 0), 1));
        let with = escaping(results(Setting { mode, iopl: 0, umip: true }, 1));
        let gone: BTreeSet<String> = without.difference(&with).cloned().collect();
        assert_eq!(gone, set(&["SGDT SIDT SLDT STR SMSW"]));
        assert!(with.is_subset(&without));
    }
}

#[test]
fn other_seeds_give_the_same_classes() {
    for mode in Mode::ALL {
        for iopl in [0, 3] {
            let first = results(setting(mode, iopl), 1);
            for seed in [77] {
                for ((f, a), (_, b)) in first.iter().zip(results(setting(mode, iopl), seed)) {
                    assert_eq!(
                        a.class, b.class,
                        "{} [{}] {mode:?} IOPL {iopl} seed {seed}",
                        f.name, f.opcode
                    );
                }
            }
        }
    }
}

#[test]
fn every_witness_shows_what_it_is_there_for() {
    for mode in Mode::ALL {
        for (f, j) in results(setting(mode, 0), 1) {
            assert!(holds(f, setting(mode, 0), 1, j), "{} [{}] {mode:?}: {j:?}", f.name, f.opcode);
            // And does not show something else.
            let other = match j.class {
                Class::Innocuous => Class::ControlSensitive,
                _ => Class::Innocuous,
            };
            assert!(!holds(f, setting(mode, 0), 1, &Judgement { class: other, ..*j }), "{}", f.name);
        }
    }
}

#[test]
fn the_verdict_on_every_form_is_what_running_it_gives() {
    let mut wrong = Vec::new();
    for (f, j) in results(setting(Mode::Cpl1, 0), 1) {
        let v = verdict(&f.insn);
        if v.class != j.class {
            wrong.push(format!("{} [{}]: {:?}, but it ran as {:?}", f.name, f.opcode, v.class, j.class));
        }
        assert!(!v.why.is_empty() && !v.why.ends_with('.'), "{}", f.name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn subring(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_subring")).args(args).stdin(Stdio::null()).output().unwrap()
}

fn stdout(args: &[&str]) -> String {
    let output = subring(args);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The whole table. `SUBRING_BLESS=1` writes it anew, for whoever then reads the difference.
#[test]
fn the_table_is_the_committed_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/program/classify/table.txt");
    let table = stdout(&["classify"]);
    if std::env::var_os("SUBRING_BLESS").is_some() {
        std::fs::write(path, &table).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap();
    let differing = table.lines().zip(committed.lines()).find(|(now, then)| now != then);
    assert!(
        table == committed,
        "not tests/program/classify/table.txt (SUBRING_BLESS=1 writes it anew): {differing:?}"
    );
}

#[test]
fn rows_are_json_and_csv_of_the_same_forms() {
    let args = ["classify", "--mode", "cpl1", "--iopl", "0", "--states", "16", "--only", "control-sensitive"];
    let json: serde_json::Value = serde_json::from_str(&stdout(&[&args[..], &["--json"]].concat())).unwrap();
    let rows = json.as_array().unwrap();
    let names: BTreeSet<&str> = rows.iter().map(|r| r["form"].as_str().unwrap()).collect();
    assert!(names.contains("POPFD") && rows.iter().all(|r| r["class"] == "control-sensitive"), "{names:?}");
    let csv = stdout(&[&args[..], &["--csv"]].concat());
    assert_eq!(csv.lines().count(), rows.len() + 1);
    assert!(csv.lines().nth(1).unwrap().starts_with("cpl1,0,false,"), "{csv}");
}

#[test]
fn a_witness_is_shown_in_full() {
    let text = stdout(&["classify", "--witness", "push cs"]);
    assert!(text.contains("PUSH CS [o32 0E]: behaviour-sensitive (mode)"), "{text}");
    assert!(text.contains("de-privileged 09"), "{text}");
    let text = stdout(&["classify", "--witness", "CLI", "--iopl", "3"]);
    assert!(text.contains("control-sensitive") && text.contains("IF of the real machine changes"), "{text}");
    assert!(stdout(&["classify", "--explain"]).contains("control-sensitive    for some S"));
}

/// The host's processor does in user mode what our classes say, and a crash of the child is told.
#[test]
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
fn the_hosts_processor_does_as_classified() {
    let output = subring(&["classify", "--host"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        println!("*** SKIPPED: {} ***", String::from_utf8_lossy(&output.stderr));
        return;
    }
    for line in ["CLI", "HLT", "MOV CR3, r32", "LGDT m16&32"] {
        let told = text
            .lines()
            .find(|l| l.get(2..).is_some_and(|l| l.starts_with(&format!("{line} "))))
            .expect(line);
        assert!(told.contains("traps (#GP)"), "{told}");
    }
    for line in ["PUSHFD", "POPFD", "MOV r32, CS", "PUSH SS", "LAR r32, r32"] {
        let told = text
            .lines()
            .find(|l| l.get(2..).is_some_and(|l| l.starts_with(&format!("{line} "))))
            .expect(line);
        assert!(told.contains("runs: "), "{told}");
    }
    assert!(text.contains("IF kept"), "{text}");
    // The two operand sizes of a form have the same name.
    let labels = text.lines().filter_map(|l| l.get(2..)?.split_once(']')).map(|(label, _)| label);
    let labels: Vec<&str> = labels.collect();
    assert!(labels.contains(&"PUSH CS [o16 0E") && labels.contains(&"PUSH CS [o32 0E"), "{text}");
    assert_eq!(labels.iter().collect::<BTreeSet<_>>().len(), labels.len(), "{text}");
    // Where UMIP is on and the kernel does not answer, five fault; nothing else differs.
    let differ: Vec<&str> = text.lines().filter(|l| l.starts_with("* ") && l.contains("sensitive")).collect();
    let umip = ["SGDT", "SIDT", "SLDT", "STR", "SMSW"];
    assert!(differ.iter().all(|l| umip.iter().any(|m| l[2..].starts_with(m))), "{differ:?}");
    assert!(!text.contains("the child died"), "{text}");
}

/// The text of `--vmx`. `SUBRING_BLESS=1` writes it anew.
#[test]
fn what_exits_in_non_root_operation_is_the_committed_text() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/program/classify/vmx.txt");
    let shown = stdout(&["classify", "--vmx"]);
    if std::env::var_os("SUBRING_BLESS").is_some() {
        std::fs::write(path, &shown).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    let differing = shown.lines().zip(committed.lines()).find(|(now, then)| now != then);
    assert!(shown == committed, "not tests/program/classify/vmx.txt: {differing:?}");
    assert_eq!(shown.lines().find(|line| line.chars().count() > 80), None, "a line is too wide");
}

/// The behaviour of every form in non-root operation.
fn non_root(level: Level, seed: u64) -> Vec<(Form, Behaviour)> {
    forms::all(true).built.into_iter().map(|f| (f.clone(), behaviour(&f, level, seed, 48))).collect()
}

#[test]
fn in_non_root_operation_nothing_sensitive_escapes() {
    for level in Level::ALL {
        let first = non_root(level, 1);
        let second = non_root(level, 77);
        for ((f, a), (_, b)) in first.iter().zip(&second) {
            let name = format!("{} [{}] in {level:?}", f.name, f.opcode);
            assert_eq!((a.escape, b.escape), (None, None), "{name} escapes");
            assert_eq!(a.harm.is_some(), b.harm.is_some(), "{name}: other states are as sensitive");
            assert_eq!(a.exits_always(), b.exits_always(), "{name}");
            assert!(a.harm.is_none() || !a.by.is_empty() || !a.answered_by.is_empty(), "{name}: by what?");
        }
    }
}

/// The controls that the manual names for each instruction (SDM vol. 3, 25.1) are those that come out, and where it
/// names none, none does.
#[test]
fn the_controls_are_the_manuals() {
    let rows = non_root(Level::Ring0, 1);
    let of = |name: &str| &rows.iter().find(|(f, _)| f.name == name).unwrap_or_else(|| panic!("{name}")).1;
    for name in ["CPUID", "INVD", "VMCALL", "RDMSR", "WRMSR"] {
        assert!(of(name).exits_always(), "{name} exits always");
    }
    assert!(of("RDMSR").spared_by.contains("use MSR bitmaps"));
    for (name, controls) in [
        ("HLT", &["HLT exiting"][..]),
        ("INVLPG m", &["INVLPG exiting"]),
        ("RDTSC", &["RDTSC exiting"]),
        ("RDPMC", &["RDPMC exiting"]),
        ("CLTS", &["CR0 guest/host mask"]),
        ("LMSW r16", &["CR0 guest/host mask"]),
        ("MOV CR0, r32", &["CR0 guest/host mask"]),
        ("MOV CR3, r32", &["CR3-load exiting"]),
        ("MOV r32, CR3", &["CR3-store exiting"]),
        ("MOV CR4, r32", &["CR4 guest/host mask"]),
        ("MOV DR7, r32", &["MOV-DR exiting"]),
        ("IN AL, DX", &["unconditional I/O exiting", "use I/O bitmaps"]),
        ("REP OUTSD", &["unconditional I/O exiting", "use I/O bitmaps"]),
        ("SGDT m", &[]),
        ("SIDT m", &[]),
        ("SLDT r32", &[]),
        ("STR r32", &[]),
        ("POPFD", &[]),
        ("PUSH CS", &[]),
        ("CLI", &[]),
        ("WBINVD", &[]),
    ] {
        let by: Vec<&str> = of(name).by.iter().copied().filter(|c| *c != "exception bitmap").collect();
        assert_eq!(by, controls, "{name}");
    }
    assert!(of("SMSW r32").answered_by.contains("CR0 guest/host mask") && of("SMSW r32").by.is_empty());
    assert!(of("RDTSC").answered_by.contains("use TSC offsetting"));
    assert!(of("UD2").by.contains("exception bitmap"));
}

#[test]
fn rows_of_non_root_operation_are_json() {
    let rows: serde_json::Value =
        serde_json::from_str(&stdout(&["classify", "--vmx", "--json", "--states", "16"])).unwrap();
    let rows = rows.as_array().unwrap();
    let of = |ring: u8, form: &str| rows.iter().find(|r| r["ring"] == ring && r["form"] == form).unwrap();
    assert_eq!(of(0, "HLT")["controls"], serde_json::json!(["HLT exiting"]));
    assert_eq!(of(3, "HLT")["exits_under_fewest_controls"], 0);
    assert_eq!(of(3, "CPUID")["class"], "exits always");
    assert!(stdout(&["classify", "--vmx", "--explain"]).contains("exits always   for every S"));
}

#[test]
fn bad_options_are_refused() {
    for (args, words) in [
        (&["--mode", "cpl2"][..], "invalid value 'cpl2'"),
        (&["--iopl", "4"], "4 is not in 0..=3"),
        (&["--states", "1"], "1 is not in 16..=100000"),
        (&["--seed", "x"], "invalid digit"),
        (&["--only", "harmless"], "invalid value 'harmless'"),
        (&["--json", "--csv"], "cannot be used with"),
        (&["--explain", "--json"], "cannot be used with"),
        (&["--host", "--mode", "v86"], "can do nothing with --mode"),
        (&["--umip", "--host"], "can do nothing with --umip"),
        (&["--host", "--states", "64"], "can do nothing with --states"),
        (&["--host", "--json"], "can do nothing with --json"),
        (&["--vmx", "--umip"], "cannot be used with"),
        (&["--vmx", "--host"], "cannot be used with"),
        (&["--vmx", "--csv"], "cannot be used with"),
        (&["--witness", "FROB"], "there is no form `FROB` in cpl1"),
        (&["--witness", ""], "there is no form ``"),
    ] {
        let output = subring(&[&["classify"], args].concat());
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {text}");
        assert!(text.contains(words), "{args:?}: {text}");
        assert!(output.stdout.is_empty());
    }
}
