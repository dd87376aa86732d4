//! The host-CPU oracle.
mod case;
mod host;
mod rng;
mod survey;

fn main() {
    let (mut cpu, no16) = host::HostCpu::new().unwrap();
    eprintln!("16-bit: {no16:?}");
    use case::Subject;
    let mut out = case::Outcome::default();
    let c = case::Case { code: vec![0x01, 0xd8], eip: 0x4800, regs: [5, 1, 2, 7, 0xd000, 5, 6, 7], eflags: 0x202, ..Default::default() };
    cpu.run(&c, &mut out);
    eprintln!("{out:x?}");
    let t = std::time::Instant::now();
    for _ in 0..1_000_000 { cpu.run(&c, &mut out); }
    eprintln!("{:?} per M", t.elapsed());
    cpu.run(&case::Case { mode: case::Mode::Code16, ..c.clone() }, &mut out);
    eprintln!("{out:x?}");
    for code in [vec![0xf4], vec![0x0f, 0x0b], vec![0xcc], vec![0xcd, 0x21], vec![0xf7, 0xf6, 0x90], vec![0x8b, 0x05, 0, 0, 0, 0], vec![0x89, 0x1d, 0xfe, 0x9f, 0, 0], vec![0x29, 0x1d, 0xfe, 0xaf, 0, 0],  vec![0xc3]] {
        let c = case::Case { code, ..c.clone() };
        cpu.run(&c, &mut out);
        eprintln!("{:x?} {out:x?}", c.code);
    let t = std::time::Instant::now();
    for _ in 0..1_000_0 { cpu.run(&c, &mut out); }
    eprintln!("{:?} per 10k", t.elapsed());
    }
    std::fs::write("/tmp/wt/undefined-flags.txt", survey::survey(&mut cpu, 4000)).unwrap();
}
