//! The cost of a switch of address space by the number of address spaces: see README.md.

use std::fmt::Write;
use std::path::Path;
use std::time::Instant;
use subring::addr::GuestPhys;
use subring::cell::{Cell, Coherence};
use subring::load::{Entry, Plan, Spec};
use subring::machine::{Limits, Machine, Outcome};
use subring::report::Cause;
use subring::vmm;
use subring::vmm::cost::Costs;

const RAM: u32 = 16 << 20;
const CODE: u32 = 0x8000;
const IDENTITY: u32 = 0x5000;
const TABLE: u32 = 0x4000;
const DIRECTORIES: u32 = 0x10_0000;
/// Numbers of address spaces.
const SPACES: [u32; 10] = [2, 4, 8, 16, 40, 100, 160, 240, 500, 1000];
/// Instructions of a round's one space: MOV to CR3, eight reads, three to go on.
const PER_SWITCH: u64 = 12;

/// What is compared.
const KINDS: [(&str, Coherence, u32, &str); 3] = [
    ("trace", Coherence::Trace, 4096, "#1b6ca8"),
    ("trace, 500 frames", Coherence::Trace, 500, "#7a5195"),
    ("vtlb", Coherence::Vtlb, 4096, "#d1495b"),
];

/// A line of the figure: its name, its colour, number of address spaces and modelled cycles.
type Series = (&'static str, &'static str, Vec<(u32, f64)>);

/// What one switch cost.
struct Cost {
    exits: f64,
    hidden: f64,
    cycles: f64,
    nanoseconds: f64,
}

fn main() {
    println!(
        "{:<18} {:>6} {:>8} {:>10} {:>16} {:>8}",
        "", "spaces", "exits", "hidden #PF", "modelled cycles", "host ns"
    );
    let mut series = Vec::new();
    for (name, coherence, frames, colour) in KINDS {
        let mut points = Vec::new();
        for spaces in SPACES {
            let cost = measure(spaces, coherence, frames);
            println!(
                "{name:<18} {spaces:>6} {:>8.2} {:>10.2} {:>16.0} {:>8.0}",
                cost.exits, cost.hidden, cost.cycles, cost.nanoseconds
            );
            points.push((spaces, cost.cycles));
        }
        series.push((name, colour, points));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/cr3-switch/figure.svg");
    match std::fs::write(&path, figure(&series)) {
        Ok(()) => println!("the figure is {}", path.display()),
        Err(e) => eprintln!("cannot write {}: {e}", path.display()),
    }
    let kept = series[0].2.iter().map(|p| p.1);
    let (least, most) = (kept.clone().fold(f64::MAX, f64::min), kept.fold(0.0, f64::max));
    assert!(most < least * 1.02, "a switch among kept shadows costs from {least} to {most} cycles");
}

/// The cost of a switch among so many, once all of them have been in use.
fn measure(spaces: u32, coherence: Coherence, shadow_frames: u32) -> Cost {
    let mut m = machine(spaces);
    vmm::install(
        &mut m,
        &vmm::Config { cell: Cell::trap(coherence), shadow_frames, ..vmm::Config::default() },
    )
    .expect("a monitor");
    advance(&mut m, u64::from(spaces) * (PER_SWITCH + 2) + 100);
    let before = figures(&m);
    let start = Instant::now();
    advance(&mut m, 3 * u64::from(spaces).max(200) * PER_SWITCH);
    let host = start.elapsed();
    let after = figures(&m);
    let switches = after[3] - before[3];
    let each = |n: usize| (after[n] - before[n]) as f64 / switches as f64;
    Cost {
        exits: each(0),
        hidden: each(1),
        cycles: each(2),
        nanoseconds: host.as_nanos() as f64 / switches as f64,
    }
}

/// Exits, hidden page faults, modelled cycles, switches so far.
fn figures(m: &Machine) -> [u64; 4] {
    let report = m.monitor().expect("a monitor").report();
    let cycles = Costs::default().total(&report);
    let switches = report.shadow.map_or(0, |shadow| shadow.counts.switches);
    [report.exits.total(), report.exits.of(Cause::HiddenPageFault), cycles, switches]
}

fn advance(m: &mut Machine, instructions: u64) {
    let outcome = m.run(Limits::instructions(m.cpu.retired() + instructions));
    assert_eq!(outcome, Outcome::Reached, "the guest goes on for ever");
}

/// A guest that goes round `spaces` address spaces and reads eight pages in each.
fn machine(spaces: u32) -> Machine {
    let entries = || -> Vec<u8> { (0..1024u32).flat_map(|n| (n << 12 | 0x63).to_le_bytes()).collect() };
    let mut writes = vec![(IDENTITY, entries()), (TABLE, entries()), (CODE, code(spaces))];
    for n in 0..spaces {
        let directory = [(IDENTITY | 3).to_le_bytes(), (TABLE | 3).to_le_bytes()].concat();
        writes.push((DIRECTORIES + n * 0x1000, directory));
    }
    let writes = writes.into_iter().map(|(at, bytes)| (GuestPhys(at), bytes)).collect();
    let plan = Plan::new(Entry::Flat { eip: CODE, eax: 0, ebx: 0, esp: 0x1000 }, writes);
    Spec { mem: RAM, plan, ..Spec::default() }.build().expect("a machine")
}

fn code(spaces: u32) -> Vec<u8> {
    let mut code = vec![0xb8]; // MOV EAX, DIRECTORIES
    code.extend(DIRECTORIES.to_le_bytes());
    code.extend([0x0f, 0x22, 0xd8]); // MOV CR3, EAX
    code.extend([0x0f, 0x20, 0xc3, 0x81, 0xcb, 0, 0, 0, 0x80, 0x0f, 0x22, 0xc3]); // paging on, by EBX
    let again = code.len();
    code.extend([0x0f, 0x22, 0xd8]); // again: MOV CR3, EAX
    for page in 0..8u32 {
        code.extend([0x8b, 0x15]); // MOV EDX, [page]
        code.extend((0x40_0000 + page * 0x1000).to_le_bytes());
    }
    code.extend([0x05, 0x00, 0x10, 0x00, 0x00, 0x3d]); // ADD EAX, 1000h; CMP EAX, end
    code.extend((DIRECTORIES + spaces * 0x1000).to_le_bytes());
    let back = |code: &[u8]| again.wrapping_sub(code.len() + 2) as u8;
    let to = back(&code);
    code.extend([0x75, to]); // JNE again
    code.push(0xb8); // MOV EAX, DIRECTORIES
    code.extend(DIRECTORIES.to_le_bytes());
    let to = back(&code);
    code.extend([0xeb, to]); // JMP again
    code
}

/// The smallest of 1, 2 and 5 times a power of ten that is no less than `least`: the distance of an axis's ticks.
fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * power).find(|&step| step >= least).unwrap_or(10.0 * power)
}

/// A figure with the number of address spaces (logarithmic) to the right and modelled cycles upwards.
fn figure(series: &[Series]) -> String {
    const WIDTH: f64 = 760.0;
    const HEIGHT: f64 = 400.0;
    const LEFT: f64 = 70.0;
    /// The legend stands here, beside the curves and not under one.
    const RIGHT: f64 = 150.0;
    const BOTTOM: f64 = 50.0;
    const TOP: f64 = 20.0;
    let highest = series.iter().flat_map(|s| &s.2).map(|p| p.1).fold(0.0, f64::max);
    let step = round_step(highest / 5.0);
    let steps = (highest / step).ceil() as u32;
    let highest = step * f64::from(steps);
    let x = |n: u32| LEFT + (f64::from(n).log10() - 0.3) / 2.7 * (WIDTH - LEFT - RIGHT);
    let y = |c: f64| HEIGHT - BOTTOM - c / highest * (HEIGHT - BOTTOM - TOP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    // Writing to a string cannot fail.
    for n in [2, 10, 100, 1000] {
        let at = x(n);
        let _ =
            writeln!(svg, "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{n}</text>", HEIGHT - 32.0);
        let _ = writeln!(
            svg,
            "<line x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{:.1}\" stroke=\"#ddd\"/>",
            HEIGHT - BOTTOM
        );
    }
    for n in 0..=steps {
        let cycles = step * f64::from(n);
        let at = y(cycles);
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{at:.1}\" text-anchor=\"end\">{cycles:.0}</text>",
            LEFT - 6.0
        );
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{:.1}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>",
            WIDTH - RIGHT
        );
    }
    for (n, (name, colour, points)) in series.iter().enumerate() {
        let path: Vec<_> = points.iter().map(|p| format!("{:.1},{:.1}", x(p.0), y(p.1))).collect();
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            path.join(" ")
        );
        let at = TOP + 16.0 + 16.0 * n as f64;
        let beside = WIDTH - RIGHT + 12.0;
        let _ = writeln!(svg, "<text x=\"{beside:.1}\" y=\"{at:.1}\" fill=\"{colour}\">{name}</text>");
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">address spaces</text>",
        (WIDTH - RIGHT + LEFT) / 2.0,
        HEIGHT - 12.0
    );
    let _ = writeln!(
        svg,
        "<text transform=\"translate(16 {:.1}) rotate(-90)\" text-anchor=\"middle\">modelled cycles a switch</text>",
        HEIGHT / 2.0
    );
    svg + "</svg>\n"
}
