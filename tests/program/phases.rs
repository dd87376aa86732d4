//! `compare --by-phase`: phases that a guest marks, and what operations cost in them.

use crate::common::program::{ends, text};
use crate::common::scratch::Scratch;
use std::collections::BTreeMap;

/// The figures of one machine's phase.
#[derive(Clone, Copy)]
struct Figures {
    operations: u64,
    interventions: u64,
    cycles: u64,
}

impl Figures {
    fn cycles_each(self) -> f64 {
        self.cycles as f64 / self.operations as f64
    }
}

/// The lines of `--by-phase --csv`, without the measured column.
fn csv(args: &[&str]) -> Vec<Vec<String>> {
    let out = ends(&[&["compare", "--by-phase", "--csv"], args].concat(), 0);
    let fields = |line: &str| {
        let mut fields: Vec<String> = line.split(',').map(str::to_owned).collect();
        assert_eq!(fields.len(), 16, "{line}");
        fields.pop();
        fields
    };
    text(&out.stdout).lines().map(fields).collect()
}

/// Figures by cell and phase.
fn figures(args: &[&str]) -> BTreeMap<(String, String), Figures> {
    let number = |field: &String| field.parse().expect("a count");
    csv(args)
        .iter()
        .skip(1)
        .map(|line| {
            let (cell, phase) = (line[4].clone(), line[8].clone());
            let interventions = number(&line[11]) + number(&line[12]);
            let (operations, cycles) = (number(&line[9]), number(&line[13]));
            ((cell, phase), Figures { operations, interventions, cycles })
        })
        .collect()
}

#[test]
fn operations_cost_what_the_literature_says_in_its_order() {
    let all = figures(&["nano-clean"]);
    let of = |cell: &str, phase: &str| all[&(cell.to_owned(), phase.to_owned())];
    let cost = |cell, phase| of(cell, phase).cycles_each();
    assert_eq!(of("bare direct", "syscall").operations, 1000);
    assert_eq!(of("bare direct", "syscall").interventions, 0);
    // Adams and Agesen (ASPLOS 2006), section 6.3: what traps dearly is cheap with hardware's help, and the other way
    // round where page tables change.
    for phase in ["syscall", "cr8wr", "divzero"] {
        assert!(cost("hvm shadow/trace", phase) < cost("bt shadow/trace", phase), "{phase}");
        assert!(cost("bt shadow/trace", phase) < cost("trap shadow/trace", phase), "{phase}");
    }
    for phase in ["in", "pgfault", "ptemod"] {
        assert!(cost("bt shadow/trace", phase) < cost("hvm shadow/trace", phase), "{phase}");
    }
    for phase in ["pgfault", "ptemod"] {
        assert!(cost("hvm nested", phase) < cost("bt shadow/vtlb", phase), "{phase}");
        // Once, at the first access to a frame.
        assert!(of("hvm nested", phase).interventions <= 1, "{phase}");
    }
    // An IN takes one exit or callout, and a CALL none: the marks' own are not among them.
    for cell in ["trap shadow/trace", "bt shadow/vtlb", "hvm shadow/vtlb", "hvm nested"] {
        assert_eq!(of(cell, "in").interventions, 1000, "{cell}");
        assert_eq!(of(cell, "callret").interventions, 0, "{cell}");
    }
}

#[test]
fn a_kernels_operations_cost_more_under_a_monitor_and_nested_paging_saves_most_of_that() {
    let all = figures(&["rings-clean"]);
    let cost = |cell: &str, phase: &str| all[&(cell.to_owned(), phase.to_owned())].cycles_each();
    let phases = ["null call", "sysenter", "page fault", "write fault", "fork+exit", "switch"];
    for phase in phases {
        // Barham et al. (SOSP 2003), table of lmbench figures: each operation is dearer under VMware's monitor.
        for cell in ["trap shadow/trace", "trap shadow/vtlb", "bt shadow/trace", "bt shadow/vtlb"] {
            assert!(cost("bare direct", phase) < cost(cell, phase), "{cell}: {phase}");
        }
        for cell in ["trap shadow/trace", "bt shadow/trace", "hvm shadow/trace", "hvm shadow/vtlb"] {
            assert!(cost("hvm nested", phase) <= cost(cell, phase), "{cell}: {phase}");
        }
    }
    let bare = all[&("bare direct".to_owned(), "switch".to_owned())];
    assert_eq!((bare.operations, bare.interventions), (400, 0));
    // A switch keeps the shadow tables under `trace` and drops them under `vtlb`.
    assert!(3.0 * cost("bt shadow/trace", "switch") < cost("bt shadow/vtlb", "switch"));
    assert_eq!(all.len(), 8 * phases.len());
}

#[test]
fn marks_come_at_the_same_instructions_under_each_monitor() {
    for guest in ["nano-clean", "rings-clean"] {
        let mut counts: BTreeMap<String, BTreeMap<String, usize>> = BTreeMap::new();
        for line in csv(&[guest]).split_off(1) {
            *counts.entry(line[8].clone()).or_default().entry(line[10].clone()).or_default() += 1;
        }
        assert!(!counts.is_empty(), "{guest}");
        assert!(
            counts.values().all(|of| of.len() == 1 && of.values().all(|&n| n == 8)),
            "{guest}: {counts:?}"
        );
    }
}

#[test]
fn figures_do_not_depend_on_the_run() {
    assert_eq!(csv(&["nano-clean", "--strategy", "bt"]), csv(&["nano-clean", "--strategy", "bt"]));
}

#[test]
fn the_tables_fit_80_columns() {
    let out = text(&ends(&["compare", "nano-clean", "--by-phase"], 0).stdout);
    assert!(out.lines().all(|line| line.chars().count() <= 80), "{out}");
    assert!(out.contains("modelled cycles per operation, times bare"), "{out}");
    let out = text(&ends(&["compare", "hello", "--by-phase"], 0).stdout);
    assert!(out.contains("the guest marks no phases"), "{out}");
}

/// A program that writes each of `marks` to port ECh and ends; after it come `descriptions` at 1000h.
fn marking(marks: &[u32], descriptions: &[(&[u8], u32)]) -> Vec<u8> {
    // mov dx,0xec, with a 32-bit operand for OUT in real mode
    let mut code = vec![0xba, 0xec, 0x00];
    for mark in marks {
        code.extend([0x66, 0xb8]);
        code.extend(mark.to_le_bytes());
        code.extend([0x66, 0xef]);
    }
    // mov al,0; out 0xf4,al
    code.extend([0xb0, 0x00, 0xe6, 0xf4]);
    code.resize(0x1000, 0);
    for (name, operations) in descriptions {
        let mut description = b"PHAS".to_vec();
        description.extend(operations.to_le_bytes());
        description.extend(*name);
        description.resize(32, 0);
        code.extend(description);
    }
    code
}

/// What `--by-phase` says of such a program at 7C00h.
fn said(name: &str, marks: &[u32], descriptions: &[(&[u8], u32)]) -> String {
    let scratch = Scratch::new(name);
    let file = scratch.file("marks.bin", &marking(marks, descriptions));
    let args =
        ["compare", &file, "--mode", "real", "--strategy", "trap", "--coherence", "trace", "--by-phase"];
    text(&ends(&args, 0).stdout).replace("\n  ", " ")
}

#[test]
fn what_is_wrong_with_marks_is_told() {
    const A: u32 = 0x8c00;
    const B: u32 = A + 32;
    let both: [(&[u8], u32); 2] = [(b"first", 2), (b"second", 5)];
    let good = said("phases-good", &[A, A, B, B], &both);
    assert!(good.contains("\nfirst ") && good.contains("\nsecond ") && !good.contains("note:"), "{good}");
    let within = said("phases-within", &[A, B, B], &both);
    assert!(within.contains("phase `second` begins within `first`, which is left out"), "{within}");
    assert!(within.contains("\nsecond ") && !within.contains("\nfirst "), "{within}");
    let open = said("phases-open", &[A, A, B], &both);
    assert!(open.contains("phase `second` does not end, and is left out"), "{open}");
    for address in [0x9000, 0xffff_fff0] {
        let nothing = said("phases-nothing", &[A, address, A], &both);
        let sentence = format!("a mark names {address:08x}, where no phase is described");
        assert!(nothing.contains(&sentence) && nothing.contains("\nfirst "), "{nothing}");
    }
    let unnamed = said("phases-unnamed", &[A], &[(b"\x01\x02", 1)]);
    assert!(unnamed.contains("a mark names 00008c00, where no phase is described"), "{unnamed}");
}
