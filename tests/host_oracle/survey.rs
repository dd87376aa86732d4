//! How the host's processor leaves the flags that the manual calls undefined: every such flag of every such
//! instruction is compared with a list of simple rules, over many operands, and the rules that always hold are
//! printed. `main` runs it for `--survey`; whoever writes instruction semantics follows its answer.

use super::case::*;
use super::rng::Rng;

/// What a rule may look at.
struct Sample {
    size: u32,
    before: [u32; 8],
    flags: u32,
    after: [u32; 8],
    left: u32,
    /// The count as given, where there is one.
    count: u32,
}

impl Sample {
    fn mask(&self, v: u32) -> u32 {
        if self.size == 32 { v } else { v & ((1 << self.size) - 1) }
    }
    fn msb(&self, v: u32) -> bool {
        v >> (self.size - 1) & 1 != 0
    }
    /// The destination before: AL, AX or EAX.
    fn dest(&self) -> u32 {
        self.mask(self.before[0])
    }
    /// The destination after.
    fn result(&self) -> u32 {
        self.mask(self.after[0])
    }
    /// The other operand: BL, BX or EBX.
    fn source(&self) -> u32 {
        self.mask(self.before[3])
    }
    /// The upper half of a product, the remainder of a division: AH, DX or EDX.
    fn high(&self) -> u32 {
        if self.size == 8 { self.after[0] >> 8 & 0xff } else { self.mask(self.after[2]) }
    }
    fn old(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }
    fn now(&self, flag: u32) -> bool {
        self.left & flag != 0
    }
    /// Bit `n` of the destination before.
    fn bit(&self, n: u32) -> bool {
        n < 32 && self.dest() >> n & 1 != 0
    }
}

fn parity(v: u32) -> bool {
    (v as u8).count_ones().is_multiple_of(2)
}

type Rule = (&'static str, fn(&Sample) -> bool);

/// What the destination holds afterwards, as a function of the sample.
type Destination = (&'static str, fn(&Sample) -> u32);

/// The rules, the simplest first.
const RULES: &[Rule] = &[
    ("0", |_| false),
    ("1", |_| true),
    ("msb(result)", |s| s.msb(s.result())),
    ("result==0", |s| s.result() == 0),
    ("parity(result)", |s| parity(s.result())),
    ("msb(high)", |s| s.msb(s.high())),
    ("high==0", |s| s.high() == 0),
    ("parity(high)", |s| parity(s.high())),
    ("high:result==0", |s| s.high() == 0 && s.result() == 0),
    ("msb(dest&source)", |s| s.msb(s.dest() & s.source())),
    ("dest&source==0", |s| s.dest() & s.source() == 0),
    ("parity(dest&source)", |s| parity(s.dest() & s.source())),
    ("msb(source)", |s| s.msb(s.source())),
    ("source==0", |s| s.source() == 0),
    ("parity(source)", |s| parity(s.source())),
    ("msb(dest before)", |s| s.msb(s.dest())),
    ("dest before==0", |s| s.dest() == 0),
    ("parity(dest before)", |s| parity(s.dest())),
    ("new CF", |s| s.now(1)),
    ("new AF", |s| s.now(0x10)),
    ("old CF", |s| s.old(1)),
    ("old AF", |s| s.old(0x10)),
    ("bit0(result)", |s| s.result() & 1 != 0),
    ("bit4(result)", |s| s.result() & 0x10 != 0),
    ("bit4(dest^result)", |s| (s.result() ^ s.dest()) & 0x10 != 0),
    ("msb(result)^CF", |s| s.msb(s.result()) ^ s.now(1)),
    ("msb(result)^msb-1(result)", |s| s.msb(s.result()) ^ s.msb(s.result() << 1)),
    ("msb(dest)^msb(result)", |s| s.msb(s.result()) ^ s.msb(s.dest())),
    ("msb(dest)^msb-1(dest)", |s| s.msb(s.dest()) ^ s.msb(s.dest() << 1)),
    ("msb(dest)^old CF", |s| s.msb(s.dest()) ^ s.old(1)),
    ("msb(dest)^msb(source)", |s| s.msb(s.source()) ^ s.msb(s.dest())),
    ("dest.bit[size-n]", |s| s.bit(s.size.wrapping_sub(s.count & 31))),
    ("dest.bit[n-1]", |s| s.bit((s.count & 31).wrapping_sub(1))),
    ("source.bit[2size-n]", |s| {
        s.source().checked_shr((2 * s.size).wrapping_sub(s.count & 31)).unwrap_or(0) & 1 != 0
    }),
    ("source.bit[n-size-1]", |s| {
        s.source().checked_shr((s.count & 31).wrapping_sub(s.size + 1)).unwrap_or(0) & 1 != 0
    }),
    ("al>9 or old AF (low nibble)", |s| s.before[0] & 15 > 9 || s.old(0x10)),
    ("msb(AL-6 or AL+6 borrow/overflow: signed add 6)", |s| {
        (s.before[0] as u8 as i8).checked_add(6).is_none()
    }),
    ("sub6 overflow", |s| (s.before[0] as u8 as i8).checked_sub(6).is_none()),
    ("adjusted && add6 overflow", |s| {
        (s.before[0] & 15 > 9 || s.old(0x10)) && (s.before[0] as u8 as i8).checked_add(6).is_none()
    }),
    ("adjusted && sub6 overflow", |s| {
        (s.before[0] & 15 > 9 || s.old(0x10)) && (s.before[0] as u8 as i8).checked_sub(6).is_none()
    }),
    ("DAA: whole adjustment overflows", |s| {
        let (al, low) = (s.before[0] as u8, s.before[0] & 15 > 9 || s.old(0x10));
        let add = if low { 6 } else { 0 } + if al > 0x99 || s.old(1) { 0x60 } else { 0 };
        (al as i8).checked_add(add).is_none()
    }),
    ("DAS: whole adjustment overflows", |s| {
        let (al, low) = (s.before[0] as u8, s.before[0] & 15 > 9 || s.old(0x10));
        let sub = if low { 6 } else { 0 } + if al > 0x99 || s.old(1) { 0x60 } else { 0 };
        (al as i8).checked_sub(sub).is_none()
    }),
    ("bit 15 of AX+106h, if adjusted", |s| ax(s, 0x106).0 & 0x8000 != 0),
    ("AX+106h==0 (if adjusted, before the mask)", |s| ax(s, 0x106).0 == 0),
    ("AX+106h overflows", |s| ax(s, 0x106).1),
    ("parity(AL+6 if adjusted, before the mask)", |s| parity(ax(s, 0x106).0.into())),
    ("bit 15 of AX-106h, if adjusted", |s| ax(s, -0x106).0 & 0x8000 != 0),
    ("AX-106h==0 (if adjusted, before the mask)", |s| ax(s, -0x106).0 == 0),
    ("AX-106h overflows", |s| ax(s, -0x106).1),
    ("parity(AL-6 if adjusted, before the mask)", |s| parity(ax(s, -0x106).0.into())),
    ("AAD add carry", |s| aad(s).0 > 0xff),
    ("AAD add overflow", |s| {
        let (_, a, b) = aad(s);
        (a as i8).checked_add(b as i8).is_none()
    }),
    ("AAD add half carry", |s| {
        let (_, a, b) = aad(s);
        (a & 15) + (b & 15) > 15
    }),
];

/// AX after AAA's or AAS's adjustment by `by`, before the upper half of AL is cleared, and whether it overflowed.
fn ax(s: &Sample, by: i16) -> (u16, bool) {
    let ax = s.before[0] as u16 as i16;
    if s.before[0] & 15 <= 9 && !s.old(0x10) {
        return (ax as u16, false);
    }
    (ax.wrapping_add(by) as u16, ax.checked_add(by).is_none())
}

/// AAD's sum, and its two addends.
fn aad(s: &Sample) -> (u32, u8, u8) {
    let (al, product) = (s.before[0] as u8, ((s.before[0] >> 8) as u8).wrapping_mul(10));
    (u32::from(al) + u32::from(product), al, product)
}

/// One surveyed instruction: its bytes after an operand-size prefix, and how to draw the operands.
struct Surveyed {
    name: String,
    size: u32,
    code: Vec<u8>,
    /// Which sort of counts and operands to draw.
    draw: fn(&mut Rng, &mut [u32; 8]),
    /// Whether BL/CL holds a count that classes split by.
    class: String,
}

/// The surveyed instructions.
fn subjects() -> Vec<Surveyed> {
    let mut list = Vec::new();
    let any: fn(&mut Rng, &mut [u32; 8]) = |_, _| {};
    let mut push = |name: &str, size: u32, op8: &[u8], class: &str, draw: fn(&mut Rng, &mut [u32; 8])| {
        let mut code = if size == 16 { vec![0x66] } else { vec![] };
        code.extend_from_slice(op8);
        list.push(Surveyed { name: format!("{name}/{size}"), size, code, draw, class: class.into() });
    };
    let shifts = ["ROL", "ROR", "RCL", "RCR", "SHL", "SHR", "SAL(/6)", "SAR"];
    for size in [8u32, 16, 32] {
        let w = u8::from(size != 8);
        for (digit, name) in shifts.iter().enumerate() {
            let modrm = 0xc0 | (digit as u8) << 3;
            push(&format!("{name} 1 (D0/D1)"), size, &[0xd0 | w, modrm], "by one", any);
            for (class, draw) in counts(size) {
                push(&format!("{name} CL"), size, &[0xd2 | w, modrm], class, draw);
            }
        }
        for (i, name) in ["ADD", "OR", "ADC", "SBB", "AND", "SUB", "XOR", "CMP"].iter().enumerate() {
            if matches!(i, 1 | 4 | 6) {
                push(name, size, &[(i as u8) << 3 | w, 0xd8], "any", any); // eax, ebx
            }
        }
        push("TEST", size, &[0x84 | w, 0xd8], "any", any);
        push("MUL bl", size, &[0xf6 | w, 0xe3], "any", any);
        push("MUL bl", size, &[0xf6 | w, 0xe3], "upper half zero", |r, g| {
            g[0] &= 0xf;
            g[3] = r.next() & 0xf;
        });
        push("IMUL bl", size, &[0xf6 | w, 0xeb], "any", any);
        push("DIV bl", size, &[0xf6 | w, 0xf3], "no #DE", |r, g| {
            g[2] = if r.one_in(2) { 0 } else { g[3] >> r.below(31) };
            g[0] &= if r.one_in(2) { 0x00ff } else { 0xffff_ffff };
        });
        push("IDIV bl", size, &[0xf6 | w, 0xfb], "no #DE", |r, g| {
            g[2] = (g[3] as i32 >> (1 + r.below(31))) as u32;
            g[0] = if r.one_in(2) { g[0] as i8 as u32 } else { g[0] };
        });
        if size == 8 {
            continue;
        }
        push("IMUL eax,ebx", size, &[0x0f, 0xaf, 0xc3], "any", any);
        push("IMUL eax,ebx", size, &[0x0f, 0xaf, 0xc3], "small", |r, g| {
            g[0] &= 0x7f;
            g[3] = r.next() & 0x7f;
        });
        push("IMUL eax,ebx,imm8", size, &[0x6b, 0xc3, 0x35], "any", any);
        for (op, name) in [(0xa5u8, "SHLD eax,ebx,cl"), (0xad, "SHRD eax,ebx,cl")] {
            for (class, draw) in counts(size) {
                push(name, size, &[0x0f, op, 0xd8], class, draw);
            }
        }
        for (op, name) in [(0xa3u8, "BT"), (0xab, "BTS"), (0xb3, "BTR"), (0xbb, "BTC")] {
            push(&format!("{name} eax,ebx"), size, &[0x0f, op, 0xd8], "any", any);
        }
        for (op, name) in [(0xbcu8, "BSF"), (0xbd, "BSR")] {
            push(&format!("{name} eax,ebx"), size, &[0x0f, op, 0xc3], "source!=0", |r, g| {
                g[3] = 1u32 << (r.next() & 15);
                g[3] |= r.next() & r.next();
            });

            push(&format!("{name} eax,ebx"), size, &[0x0f, op, 0xc3], "source==0", |_, g| g[3] = 0);
        }
    }
    for (code, name) in [
        (&[0x27u8][..], "DAA"),
        (&[0x2f], "DAS"),
        (&[0x37], "AAA"),
        (&[0x3f], "AAS"),
        (&[0xd4, 10], "AAM 10"),
        (&[0xd4, 7], "AAM 7"),
        (&[0xd5, 10], "AAD 10"),
    ] {
        push(name, 8, code, "any", any);
    }
    list
}

type Draw = fn(&mut Rng, &mut [u32; 8]);

/// The classes of shift counts in CL for operands of `size` bits.
fn counts(size: u32) -> Vec<(&'static str, Draw)> {
    let mut list: Vec<(&'static str, Draw)> = vec![
        ("count&31==0", |r, g| g[1] = (r.next() & 7) << 5),
        ("count&31==1", |r, g| g[1] = (r.next() & 7) << 5 | 1),
    ];
    match size {
        8 => {
            list.push(("2..7", |r, g| g[1] = 2 + r.next() % 6));
            list.push(("8", |_, g| g[1] = 8));
            list.push(("9", |_, g| g[1] = 9));
            list.push(("10..31", |r, g| g[1] = 10 + r.next() % 22));
        }
        16 => {
            list.push(("2..15", |r, g| g[1] = 2 + r.next() % 14));
            list.push(("16", |_, g| g[1] = 16));
            list.push(("17", |_, g| g[1] = 17));
            list.push(("18..31", |r, g| g[1] = 18 + r.next() % 14));
        }
        _ => list.push(("2..31", |r, g| g[1] = 2 + r.next() % 30)),
    }
    list
}

/// The rules that hold for one flag over all samples.
fn rules_for(flag: u32, samples: &[Sample]) -> String {
    if samples.iter().all(|s| s.now(flag) == s.old(flag)) {
        return "unchanged".into();
    }
    let hold: Vec<&str> = RULES
        .iter()
        .filter(|(_, rule)| samples.iter().all(|s| rule(s) == s.now(flag)))
        .map(|r| r.0)
        .collect();
    if hold.is_empty() {
        "NO SIMPLE RULE".into()
    } else {
        hold.into_iter().take(4).collect::<Vec<_>>().join(" | ")
    }
}

/// What the destination holds afterwards, where that is the question (16-bit SHLD by more than 16, BSF of 0).
fn dest_rule(samples: &[Sample]) -> &'static str {
    let rules: [Destination; 5] = [
        ("dest unchanged", |s| s.before[0]),
        ("SHLD16>16 = (dest:src:dest << n) >> 32", |s| {
            let n = s.count & 31;
            let wide = u64::from(s.dest()) << 32 | u64::from(s.source()) << 16 | u64::from(s.dest());
            s.before[0] & 0xffff_0000 | ((wide << n) >> 32) as u32 & 0xffff
        }),
        ("SHRD16>16 = (dest:src:dest >> n)", |s| {
            let n = s.count & 31;
            let wide = u64::from(s.dest()) << 32 | u64::from(s.source()) << 16 | u64::from(s.dest());
            s.before[0] & 0xffff_0000 | (wide >> n) as u32 & 0xffff
        }),
        ("SHLD16>16 = (dest:src:src << n) >> 32", |s| {
            let n = s.count & 31;
            let wide = u64::from(s.dest()) << 32 | u64::from(s.source()) << 16 | u64::from(s.source());
            s.before[0] & 0xffff_0000 | ((wide << n) >> 32) as u32 & 0xffff
        }),
        ("SHRD16>16 = (src:src:dest >> n)", |s| {
            let n = s.count & 31;
            let wide = u64::from(s.source()) << 32 | u64::from(s.source()) << 16 | u64::from(s.dest());
            s.before[0] & 0xffff_0000 | (wide >> n) as u32 & 0xffff
        }),
    ];
    rules.iter().find(|(_, rule)| samples.iter().all(|s| rule(s) == s.after[0])).map_or("", |r| r.0)
}

/// Runs the survey and returns its table.
pub fn survey(cpu: &mut dyn Subject, cases: usize) -> String {
    let mut text = String::from(
        "form | class of cases | dest | CF PF AF ZF SF OF: rules that held for every case (operands: EAX, EBX; count CL)\n",
    );
    for subject in subjects() {
        let mut rng = Rng::new(0x5eed_0001);
        let mut samples = Vec::with_capacity(cases);
        let mut out = Outcome::default();
        for _ in 0..cases {
            let mut regs: [u32; 8] = std::array::from_fn(|_| rng.value());
            (subject.draw)(&mut rng, &mut regs);
            regs[4] = STACK.start + 0x1000;
            let case = Case {
                code: subject.code.clone(),
                eip: CODE.start + 0x800,
                regs,
                eflags: 0x202 | (rng.next() & STATUS),
                ..Case::default()
            };
            cpu.run(&case, &mut out);
            if out.fault.is_none() {
                let count = case.regs[1] & 0xff;
                let (before, flags) = (case.regs, case.eflags);
                samples.push(Sample {
                    size: subject.size,
                    before,
                    flags,
                    after: out.regs,
                    left: out.eflags,
                    count,
                });
            }
        }
        text += &format!(
            "\n{} [{}] ({} cases) {}\n",
            subject.name,
            subject.class,
            samples.len(),
            dest_rule(&samples)
        );
        for (name, bit) in FLAGS {
            text += &format!("    {name}: {}\n", rules_for(bit, &samples));
        }
    }
    text
}
