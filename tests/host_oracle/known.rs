//! Results that the manuals fix beyond doubt: they show that the harness itself loads, runs and reads back rightly.

use super::case::*;
use super::compare::{Verdict, compare};

/// Runs `code` with the given EAX, EBX, ECX and flags on a plain stack.
fn run(cpu: &mut dyn Subject, mode: Mode, code: &[u8], [eax, ebx, ecx]: [u32; 3], eflags: u32) -> Outcome {
    let case = Case {
        mode,
        code: code.to_vec(),
        eip: CODE.start + 0x800,
        regs: [eax, ecx, 0, ebx, STACK.start + 0x1000, 0x55, DATA.start, DATA.start + 0x100],
        eflags: 2 | 0x200 | eflags,
        windows: vec![
            Window { addr: DATA.start, len: 8, at: 0 },
            Window { addr: STACK.start + 0xff8, len: 8, at: 8 },
        ],
        memory: vec![1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0],
        ..Case::default()
    };
    let mut out = Outcome::default();
    cpu.run(&case, &mut out);
    out
}

/// Checks a handful of results.
pub fn check(cpu: &mut dyn Subject, sixteen: bool) {
    let mode = Mode::Code32;
    let add = run(cpu, mode, &[0x01, 0xd8], [0x7fff_ffff, 1, 0], 1);
    assert_eq!((add.regs[0], add.eflags & STATUS, add.eip), (0x8000_0000, 0x894, CODE.start + 0x802), "ADD");
    let divide = run(cpu, mode, &[0xf7, 0xf3], [5, 0, 0], 0x41);
    assert_eq!(divide.fault, Some(Fault { vector: 0, error: 0, cr2: 0 }), "DIV by 0");
    assert_eq!((divide.eip, divide.eflags & STATUS), (CODE.start + 0x800, 0x41), "#DE is precise");
    let load = run(cpu, mode, &[0x8b, 0x06], [0, 0, 0], 0);
    assert_eq!(load.regs[0], 0x0403_0201, "MOV eax,[esi]");
    let store = run(cpu, mode, &[0x66, 0x89, 0x06], [0xabcd, 0, 0], 0);
    assert_eq!(store.memory[..8], [0xcd, 0xab, 3, 4, 5, 6, 7, 8], "MOV [esi],ax");
    let absent = run(cpu, mode, &[0x88, 0x46, 0xff], [0, 0, 0], 0);
    assert_eq!(
        absent.fault,
        Some(Fault { vector: 14, error: 6, cr2: DATA.start - 1 }),
        "write to an absent page"
    );
    let mut read_only = vec![0xa3];
    read_only.extend_from_slice(&(READ_ONLY.start - 2).to_le_bytes());
    let crossing = run(cpu, mode, &read_only, [0, 0, 0], 0);
    assert_eq!(
        crossing.fault,
        Some(Fault { vector: 14, error: 7, cr2: READ_ONLY.start }),
        "write across into a read-only page"
    );
    let repeat = run(cpu, mode, &[0xf3, 0xac], [0, 0, 3], 0);
    assert_eq!((repeat.regs[1], repeat.regs[6], repeat.regs[0]), (0, DATA.start + 3, 3), "REP LODSB");
    let gate = run(cpu, mode, &[0xcd, 0x21], [0, 0, 0], 0);
    assert_eq!(gate.fault.map(|f| (f.vector, f.error)), Some((13, 0x10a)), "INT 21h from user mode");
    if sixteen {
        let wrap = run(cpu, Mode::Code16, &[0x50], [0xbeef, 0, 0], 0);
        assert_eq!(
            (wrap.regs[4], wrap.segs),
            (STACK.start + 0xffe, [DATA16; 3]),
            "PUSH ax in a 16-bit segment"
        );
        let beyond = run(cpu, Mode::Code16, &[0xa1, 0xff, 0xff], [0, 0, 0], 0);
        assert_eq!(
            beyond.fault.map(|f| (f.vector, f.error)),
            Some((13, 0)),
            "a word across the segment's end"
        );
    }
}

/// Checks that the comparison sees a difference in every part of an outcome, and keeps undefined flags apart.
pub fn check_comparison() {
    let case = Case { undefined: 0x10, ..Case::default() };
    let host = Outcome { memory: vec![1], eflags: 2, ..Outcome::default() };
    let fault = Fault { vector: 14, error: 6, cr2: DATA.start };
    let wrong = [
        Outcome { regs: [0, 0, 0, 0, 0, 0, 0, 1], ..host.clone() },
        Outcome { eip: 1, ..host.clone() },
        Outcome { eflags: 3, ..host.clone() },
        Outcome { segs: [0, 1, 0], ..host.clone() },
        Outcome { fault: Some(fault), ..host.clone() },
        Outcome { memory: vec![2], ..host.clone() },
        Outcome { fpu: vec![1; 108], ..host.clone() },
    ];
    for ours in wrong {
        assert!(!compare(&case, &host, &ours).agrees, "{ours:?}");
    }
    let loose = Outcome { eflags: 0x12, ..host.clone() };
    assert_eq!(compare(&case, &host, &loose), Verdict { agrees: true, undefined: 0x10, ulps: 0 });
}
