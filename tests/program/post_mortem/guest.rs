//! A builder of tiny guests: tables laid out in memory, and code as bytes.

use subring::addr::GuestPhys;
use subring::cpu::Model;
use subring::debug::{Ending, Report, post_mortem};
use subring::load::{Entry, Plan, Spec, Symbol};
use subring::machine::{Limits, Machine, Outcome};

/// Where the tables lie.
pub(crate) const GDT: u32 = 0x1000;
pub(crate) const IDT: u32 = 0x2000;
pub(crate) const TSS: u32 = 0x3000;
pub(crate) const DIRECTORY: u32 = 0x4000;
pub(crate) const TABLE: u32 = 0x5000;
/// Where the operands of LGDT and LIDT lie.
const GDTR: u32 = 0x500;
const IDTR: u32 = 0x508;
/// Where code, handlers and user code begin.
pub(crate) const CODE: u32 = 0x10_0000;
pub(crate) const HANDLER: u32 = 0x10_8000;
pub(crate) const USER: u32 = 0x10_9000;
const USER_STACK: u32 = 0x8_0000;
pub(crate) const STACK: u32 = 0x9_0000;
const RAM: u32 = 4 << 20;
/// Instructions that a guest gets; of time, twice as much.
const BUDGET: u64 = 3_000_000;

/// A guest: what it stores, and its code.
pub(crate) struct Guest {
    image: Vec<(u32, Vec<u8>)>,
    pub(crate) code: Vec<u8>,
    real: bool,
    cpu: Model,
    symbols: Vec<Symbol>,
}

impl Guest {
    /// A guest that a boot loader starts in flat 32-bit protected mode, with the usual GDT in memory: 8 code, 10h
    /// data, 18h and 20h for ring 3, 28h a TSS; an IDT without gates, and a TSS with a stack.
    pub(crate) fn flat() -> Self {
        let mut g = Self {
            image: Vec::new(),
            code: Vec::new(),
            real: false,
            cpu: Model::default(),
            symbols: Vec::new(),
        };
        let flat = |access: u64| 0x00cf_0000_0000_ffff | access << 40;
        let tss = 0x0000_8900_0000_0067 | u64::from(TSS) << 16;
        for (n, d) in [0, flat(0x9a), flat(0x92), flat(0xfa), flat(0xf2), tss].into_iter().enumerate() {
            g.put(GDT + 8 * n as u32, &u64::to_le_bytes(d));
        }
        g.gdtr(GDT, 0x2f).idtr(IDT, 0x7ff);
        g.dword(TSS + 0x64, 0x68 << 16)
            .put(TSS + 4, &STACK.to_le_bytes())
            .put(TSS + 8, &0x10u32.to_le_bytes());
        g
    }

    /// A guest that starts in real mode at 0000:7C00, with the same tables.
    pub(crate) fn real() -> Self {
        Self { real: true, ..Self::flat() }
    }

    /// Stores `bytes` at `at`, over what was there.
    pub(crate) fn put(&mut self, at: u32, bytes: &[u8]) -> &mut Self {
        self.image.push((at, bytes.to_vec()));
        self
    }
    pub(crate) fn dword(&mut self, at: u32, value: u32) -> &mut Self {
        self.put(at, &value.to_le_bytes())
    }
    pub(crate) fn gdtr(&mut self, base: u32, limit: u16) -> &mut Self {
        self.put(GDTR, &limit.to_le_bytes()).dword(GDTR + 2, base)
    }
    pub(crate) fn idtr(&mut self, base: u32, limit: u16) -> &mut Self {
        self.put(IDTR, &limit.to_le_bytes()).dword(IDTR + 2, base)
    }
    pub(crate) fn descriptor(&mut self, selector: u32, d: u64) -> &mut Self {
        self.put(GDT + selector, &d.to_le_bytes())
    }
    /// A gate with these flags (8Eh an interrupt gate).
    pub(crate) fn gate(&mut self, vector: u32, selector: u16, offset: u32, flags: u8) -> &mut Self {
        let high = offset & 0xffff_0000 | u32::from(flags) << 8;
        let low = u32::from(selector) << 16 | offset & 0xffff;
        self.dword(IDT + 8 * vector, low).dword(IDT + 8 * vector + 4, high)
    }
    /// A handler for `vector`, in proper form, with this code.
    pub(crate) fn handler(&mut self, vector: u32, code: &[u8]) -> &mut Self {
        let at = HANDLER + 0x40 * vector;
        self.gate(vector, 8, at, 0x8e).put(at, code)
    }
    pub(crate) fn symbol(&mut self, name: &str, value: u32, size: u32) -> &mut Self {
        self.symbols.push(Symbol { name: name.into(), value, size });
        self
    }

    /// Appends code.
    pub(crate) fn run(&mut self, code: &[u8]) -> &mut Self {
        self.code.extend_from_slice(code);
        self
    }
    fn run_at(&mut self, code: &[u8], operand: u32) -> &mut Self {
        self.run(code).run(&operand.to_le_bytes())
    }
    /// LGDT, a far jump to 8, data segments 10h, a stack.
    pub(crate) fn segments(&mut self) -> &mut Self {
        self.run_at(&[0x0f, 0x01, 0x15], GDTR);
        let next = CODE + self.code.len() as u32 + 7;
        self.run_at(&[0xea], next).run(&[8, 0]);
        self.run(&[0x66, 0xb8, 0x10, 0, 0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0]).run_at(&[0xbc], STACK)
    }
    /// LIDT.
    pub(crate) fn lidt(&mut self) -> &mut Self {
        self.run_at(&[0x0f, 0x01, 0x1d], IDTR)
    }
    /// A processor of this model.
    pub(crate) fn on(&mut self, cpu: Model) -> &mut Self {
        self.cpu = cpu;
        self
    }
    /// Both.
    pub(crate) fn start(&mut self) -> &mut Self {
        self.segments().lidt()
    }
    /// Page tables that map the first 4 MiB to themselves with these bits in the PTEs; the PDE allows all.
    pub(crate) fn tables(&mut self, bits: u32) -> &mut Self {
        self.dword(DIRECTORY, TABLE | 7);
        for n in 0..1024 {
            self.dword(TABLE + 4 * n, n << 12 | bits);
        }
        self
    }
    pub(crate) fn pte(&mut self, at: u32, value: u32) -> &mut Self {
        self.dword(TABLE + 4 * (at >> 12), value)
    }
    /// MOV CR3 and MOV CR0 with PG.
    pub(crate) fn paging_at(&mut self, cr3: u32) -> &mut Self {
        self.run_at(&[0xb8], cr3).run(&[0x0f, 0x22, 0xd8, 0x0f, 0x20, 0xc0]);
        self.run(&[0x0d, 0, 0, 0, 0x80, 0x0f, 0x22, 0xc0])
    }
    pub(crate) fn paging(&mut self) -> &mut Self {
        self.paging_at(DIRECTORY)
    }
    /// LTR 28h.
    pub(crate) fn task(&mut self) -> &mut Self {
        self.run(&[0x66, 0xb8, 0x28, 0, 0x0f, 0x00, 0xd8])
    }
    /// IRET to `cs`:USER with a stack of ring 3, and `user` as the code there.
    pub(crate) fn user(&mut self, cs: u8, user: &[u8]) -> &mut Self {
        self.put(USER, user);
        self.run(&[0x6a, 0x23]).run_at(&[0x68], USER_STACK).run(&[0x6a, 0x02, 0x6a, cs]);
        self.run_at(&[0x68], USER).run(&[0xcf])
    }
    /// The two 8259A with vectors from 20h on, all masked but IRQ 0, and a fast timer.
    pub(crate) fn timer(&mut self) -> &mut Self {
        let writes =
            [(0x20, 0x11), (0x21, 0x20), (0x21, 4), (0x21, 1), (0xa0, 0x11), (0xa1, 0x28), (0xa1, 2)];
        let rest = [(0xa1, 1), (0x21, 0xfe), (0xa1, 0xff), (0x43, 0x34), (0x40, 0), (0x40, 4)];
        for (port, value) in writes.into_iter().chain(rest) {
            self.run(&[0xb0, value, 0xe6, port]);
        }
        self
    }

    /// The machine, about to run it.
    pub(crate) fn machine(&self) -> Machine {
        let (at, entry) = if self.real {
            (0x7c00, Entry::Real { cs: 0, ip: 0x7c00 })
        } else {
            (CODE, Entry::Flat { eip: CODE, eax: 0, ebx: 0, esp: STACK })
        };
        let parts = self.image.iter().cloned().chain([(at, self.code.clone())]);
        let plan = Plan::new(entry, parts.map(|(at, bytes)| (GuestPhys(at), bytes)).collect());
        let spec = Spec { mem: RAM, apic: false, acpi: false, cpu: self.cpu, plan, ..Spec::default() };
        spec.build().unwrap()
    }

    /// Runs it: the machine, and how it ended.
    pub(crate) fn end(&self) -> (Machine, Ending) {
        let mut m = self.machine();
        let ending = match m.run(Limits { ticks: 2 * BUDGET, ..Limits::instructions(BUDGET) }) {
            Outcome::TripleFault(t) => Ending::TripleFault(t),
            Outcome::VmxAbort(why) => Ending::VmxAbort(why),
            Outcome::HaltedForever | Outcome::Idle(None) => Ending::HaltedForever,
            Outcome::Exit(status) => Ending::Exit(status),
            _ => Ending::Limit,
        };
        (m, ending)
    }

    /// Runs it, and its post-mortem.
    pub(crate) fn report(&self) -> Option<Report> {
        let (m, ending) = self.end();
        post_mortem(&m, &ending, &self.symbols, None)
    }

    /// Runs it, and asserts that the likeliest mistake is `rule`, with `words` in its sentence.
    #[track_caller]
    pub(crate) fn dies_of(&self, rule: &str, words: &str) -> Report {
        let report = self.report().expect("a post-mortem");
        let first = report.diagnoses.first();
        let found = first.is_some_and(|d| d.rule == rule && d.sentence.contains(words));
        assert!(found, "wanted {rule}: {words}\n{}", subring::debug::explain(&report));
        report
    }
}
