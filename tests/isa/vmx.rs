//! Cases of VMX: a guest that an entry begins, and how it ends. Files are in `vmx/`, their format in `README.md`.

use crate::base;
use crate::layout::{RAM, number};
use crate::memory::Memory;
use crate::state;
use crate::text::Case;
use std::collections::BTreeMap;
use std::fmt::Write;
use subring::cpu::vmx::caps::{Allowed, VmxCaps};
use subring::cpu::vmx::exit::ENTRY_FAILURE;
use subring::cpu::vmx::{Field, Operation, Reason, Vmx};
use subring::cpu::{Cpu, Cr0, Cr4, Features, gpr};
use subring::decode::{Decoded, decode, disassemble};
use subring::exec::vmx::entry::{Entered, enter};
use subring::exec::vmx::state::save_guest;
use subring::machine::board::BoardConfig;
use subring::machine::{Config, Limits, Machine};

/// The processor of the cases: everything that the manual's chapters on a 32-bit guest describe.
const CAPS: VmxCaps = VmxCaps {
    basic: 0x0059_1000_0000_002b,
    pin: Allowed { must: 0x16, may: 0x7f },
    primary: Allowed { must: 0x0400_6172, may: 0xf7e1_fffe },
    secondary: Some(Allowed { must: 0, may: 0xa2 }),
    exit: Allowed { must: 0x3_6dfb, may: 0x7f_edff },
    entry: Allowed { must: 0x11fb, may: 0xddff },
    misc: 0x1c0,
    cr0: Allowed { must: 0x8000_0021, may: !0 },
    cr4: Allowed { must: 0x2000, may: 0x27ff },
    vmcs_enum: 0x2e,
    ept_vpid: 0x0f01_0631_4141,
    debugctl: 3,
};

/// Where the host goes on, its stack, and the structures that cases may name.
const HOST_ENTRY: u32 = 0x8_0000;
const HOST_STACK: u32 = 0x8_1000;
const VMXON_REGION: u32 = 0x8_2000;
const VMCS_REGION: u32 = 0x8_3000;

/// Short names of fields whose manual's names are long.
const SHORT: &[(&str, Field)] = &[
    ("pin", Field::PinControls),
    ("primary", Field::PrimaryControls),
    ("secondary", Field::SecondaryControls),
    ("exit", Field::ExitControls),
    ("entry", Field::EntryControls),
    ("event", Field::EntryInterruption),
    ("event-code", Field::EntryErrorCode),
    ("event-length", Field::EntryLength),
    ("blocked", Field::Interruptibility),
    ("activity", Field::Activity),
    ("pending", Field::PendingDebug),
    ("link", Field::LinkPointer),
    ("debugctl", Field::GuestDebugctl),
    ("exceptions", Field::ExceptionBitmap),
];

/// `guest-cs-access-rights` and so on: the manual's name in lower case, its words joined; or a short one.
fn field(name: &str) -> Result<Field, String> {
    let slug = |f: Field| f.name().to_lowercase().replace([' ', '/'], "-").replace("-field", "");
    let short = SHORT.iter().find(|(short, _)| *short == name).map(|(_, field)| *field);
    let long = || Field::ALL.iter().copied().find(|f| slug(*f) == name);
    short.or_else(long).ok_or_else(|| format!("there is no field `{name}`"))
}

fn wide(text: &str) -> Result<u64, String> {
    match text.strip_prefix("0x").map(|hex| u64::from_str_radix(hex, 16)) {
        Some(Ok(value)) => Ok(value),
        _ => number(text).map(u64::from),
    }
}

/// Runs `case`; the failure is a text of several lines.
pub fn check(case: &Case) -> Result<(), String> {
    let mut lab = Lab::new(case)?;
    let steps = lab.load_code(case)?;
    for piece in case.setup.iter().chain(&case.input) {
        lab.change(piece)?;
    }
    lab.flush_memory();
    let happened = lab.run(steps);
    let expected = expected(&case.output, &lab, steps)?;
    let mut wrong = String::new();
    for (name, value) in &expected {
        let got = happened.get(name).map_or("nothing", String::as_str);
        if got != value {
            let _ = writeln!(wrong, "  {name:<12} expected {value}, got {got}");
        }
    }
    for (name, got) in happened.iter().filter(|(name, _)| !expected.contains_key(*name)) {
        let _ = writeln!(wrong, "  {name:<12} expected nothing, got {got}");
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

/// What is compared, by name.
type Outcome = BTreeMap<String, String>;

struct Lab {
    machine: Machine,
    memory: Memory,
    /// The guest before the entry.
    before: Before,
}

#[derive(Clone, Copy, Default)]
struct Before {
    eip: u32,
    esp: u32,
    flags: u32,
}

impl Lab {
    /// A guest in the environment of the case, paged and with what VMX operation fixes, that an entry takes.
    fn new(case: &Case) -> Result<Self, String> {
        let (memory, s) = base::build(&case.env)?;
        let board = BoardConfig { ram_size: RAM, apic: true, ..BoardConfig::default() };
        let config = Config { ram_size: RAM, board, bios: None, vga_bios: None };
        let mut machine = Machine::new(config).map_err(|e| e.to_string())?;
        let cpu = &mut machine.cpu;
        let mut vmx = Vmx::new(CAPS);
        vmx.region = VMXON_REGION;
        vmx.current = Some(VMCS_REGION);
        vmx.operation = Operation::Root;
        cpu.vmx = Some(Box::new(vmx));
        cpu.features |= Features::VMX;
        state::write(&s, cpu);
        cpu.cr0 |= Cr0::NE;
        cpu.cr4 |= Cr4::VMXE;
        let flags = cpu.eflags();
        save_guest(cpu, flags, false);
        fill(cpu);
        Ok(Self { machine, memory, before: Before::default() })
    }

    fn vmx(&mut self) -> &mut Vmx {
        self.machine.cpu.vmx.as_mut().expect("the processor has VMX")
    }

    fn get(&self, field: Field) -> u32 {
        self.machine.cpu.vmx.as_ref().map_or(0, |vmx| vmx.vmcs.get32(field))
    }

    /// Puts the code where the guest starts; how many instructions there are.
    fn load_code(&mut self, case: &Case) -> Result<u64, String> {
        let code32 = self.get(Field::GuestCsRights) & 0x4000 != 0;
        let (eip, base) = (self.get(Field::GuestRip), self.get(Field::GuestCsBase));
        let (mut at, mut texts) = (0, Vec::new());
        while at < case.code.len() {
            let rest = &case.code[at..];
            texts.push(disassemble(rest, code32, eip.wrapping_add(at as u32)));
            at += match decode(rest, code32) {
                Decoded::Insn(insn) => usize::from(insn.len),
                Decoded::Truncated | Decoded::TooLong => rest.len(),
            };
        }
        if texts.join("; ") != case.assembly {
            return Err(format!("disassembly: expected `{}`, got `{}`", case.assembly, texts.join("; ")));
        }
        self.memory.put(base.wrapping_add(eip), &case.code);
        Ok(texts.len() as u64)
    }

    /// A directive of memory, or fields and registers with their values.
    fn change(&mut self, piece: &str) -> Result<(), String> {
        let context = state::context(&state::read(&self.machine.cpu));
        if self.memory.directive(piece, &context)? {
            return Ok(());
        }
        piece.split_whitespace().try_for_each(|token| self.assign(token))
    }

    fn assign(&mut self, token: &str) -> Result<(), String> {
        let (name, value) = token.split_once('=').ok_or_else(|| format!("`{token}` needs a value"))?;
        let value = wide(value)?;
        if let Some(n) = gpr::NAMES.iter().position(|register| *register == name) {
            self.machine.cpu.regs[n] = value as u32;
            return Ok(());
        }
        match name {
            "cr2" => self.machine.cpu.cr2 = value as u32,
            "dr0" => self.machine.cpu.dr[0] = value as u32,
            _ => {
                let (name, op) = match name.strip_suffix(['+', '-', '^']) {
                    Some(stem) => (stem, &name[stem.len()..]),
                    None => (name, ""),
                };
                let field = field(name)?;
                let vmcs = &mut self.vmx().vmcs;
                let old = vmcs.get(field);
                let new = match op {
                    "+" => old | value,
                    "-" => old & !value,
                    "^" => old ^ value,
                    _ => value,
                };
                vmcs.set(field, new);
            }
        }
        Ok(())
    }

    /// Memory is as the case says; nothing is decoded yet.
    fn flush_memory(&mut self) {
        self.memory.put32(VMCS_REGION, CAPS.revision());
        self.memory.put(HOST_ENTRY, &[0xeb, 0xfe]);
        let ram = self.machine.world.map.ram.bytes_unmarked_mut();
        ram[..self.memory.low.len()].copy_from_slice(&self.memory.low);
        for (&at, &byte) in &self.memory.high {
            ram[at as usize] = byte;
        }
        self.machine.world.tlb.flush(true);
    }

    /// Enters, and runs the instructions up to an exit.
    fn run(&mut self, steps: u64) -> Outcome {
        self.before = Before {
            eip: self.get(Field::GuestRip),
            esp: self.get(Field::GuestRsp),
            flags: self.get(Field::GuestRflags),
        };
        let machine = &mut self.machine;
        match enter(&mut machine.cpu, &mut machine.world) {
            Ok(Entered::Refused(refusal)) => {
                return refusal.error().map_or_else(|| self.failed(), |number| told([("vmfail", number)]));
            }
            Ok(Entered::Guest) => {}
            Err(aborted) => return told([("abort", aborted.0 as u32)]),
        }
        // VMLAUNCH would have taken a tick.
        machine.cpu.now += 1;
        // An event that is injected takes no instruction.
        for _ in 0..steps.max(1) {
            let next = machine.cpu.retired() + 1;
            machine.run(Limits::instructions(next));
            if machine.cpu.vmx.as_ref().is_some_and(|vmx| vmx.aborted.is_some()) {
                return told([("abort", 0)]);
            }
            if machine.cpu.vmx.as_ref().is_some_and(|vmx| vmx.operation == Operation::Root) {
                return self.exited();
            }
        }
        self.runs_on()
    }

    fn failed(&self) -> Outcome {
        let mut outcome = told([("failure", self.get(Field::ExitReason) & !ENTRY_FAILURE)]);
        note(&mut outcome, "q", self.get(Field::ExitQualification), 0);
        outcome
    }

    /// The exit's fields, those that are as usual left out.
    fn exited(&self) -> Outcome {
        let reason = self.get(Field::ExitReason);
        let mut outcome = told([("exit", reason)]);
        note(&mut outcome, "q", self.get(Field::ExitQualification), 0);
        let event = self.get(Field::ExitInterruption);
        note(&mut outcome, "event", event, 0);
        if event & 1 << 11 != 0 {
            note(&mut outcome, "code", self.get(Field::ExitErrorCode), 0);
        }
        let during = self.get(Field::IdtVectoring);
        note(&mut outcome, "during", during, 0);
        if during & 1 << 11 != 0 {
            note(&mut outcome, "during-code", self.get(Field::IdtVectoringErrorCode), 0);
        }
        let software = |event: u32| event >> 31 != 0 && event >> 8 & 7 >= 4;
        let kind = Reason::of(reason as u16);
        if kind.is_some_and(Reason::has_length)
            && !(reason == 9 && self.get(Field::ExitQualification) >> 30 == 3)
            || software(event)
            || software(during)
        {
            note(&mut outcome, "length", self.get(Field::ExitLength), 0);
        }
        let information = self.get(Field::ExitInstruction);
        note(&mut outcome, "info", information & defined(reason, information), 0);
        let string = reason == 30 && self.get(Field::ExitQualification) & 16 != 0;
        let lmsw = reason == 28 && self.get(Field::ExitQualification) & 0x70 == 0x70;
        if string || lmsw || reason == 48 {
            note(&mut outcome, "linear", self.get(Field::GuestLinear), 0);
        }
        note(&mut outcome, "eip", self.get(Field::GuestRip), self.before.eip);
        note(&mut outcome, "esp", self.get(Field::GuestRsp), self.before.esp);
        note(&mut outcome, "flags", self.get(Field::GuestRflags), self.before.flags);
        note(&mut outcome, "blocked", self.get(Field::Interruptibility), 0);
        note(&mut outcome, "activity", self.get(Field::Activity), 0);
        note(&mut outcome, "pending", self.get(Field::PendingDebug), 0);
        outcome
    }

    /// No exit: where the guest is, and its general registers.
    fn runs_on(&self) -> Outcome {
        let cpu = &self.machine.cpu;
        told([("eip", cpu.eip), ("eax", cpu.regs[gpr::EAX]), ("esp", cpu.regs[gpr::ESP])])
    }
}

/// The bits of instruction information that the manual defines for an exit (SDM vol. 3, 27.2.5).
fn defined(reason: u32, information: u32) -> u32 {
    match reason {
        23 | 25 if information & 1 << 10 != 0 => 0xf000_0478,
        19 | 21 | 22 | 23 | 25 | 27 | 30 | 50 | 53 => !0,
        _ => 0,
    }
}

fn told<const N: usize>(values: [(&str, u32); N]) -> Outcome {
    values.into_iter().map(|(name, value)| (name.to_owned(), shown(name, value))).collect()
}

fn note(outcome: &mut Outcome, name: &str, value: u32, usual: u32) {
    if value != usual {
        outcome.insert(name.to_owned(), shown(name, value));
    }
}

fn shown(name: &str, value: u32) -> String {
    if matches!(name, "vmfail" | "failure" | "exit" | "length") {
        value.to_string()
    } else {
        format!("{value:#x}")
    }
}

/// `vmfail 7`, `failure 33 q=2`, `exit 10 length=2`, or `runs eip=0xc002 eax=1`.
fn expected(output: &[String], lab: &Lab, steps: u64) -> Result<Outcome, String> {
    let words: Vec<&str> = output.iter().flat_map(|piece| piece.split_whitespace()).collect();
    let (kind, rest) = words.split_first().ok_or("the outcome is missing")?;
    let mut expected = Outcome::new();
    let assignments = match *kind {
        "vmfail" | "failure" | "exit" => {
            let (value, rest) = rest.split_first().ok_or_else(|| format!("`{kind}` needs a number"))?;
            expected.insert((*kind).to_owned(), shown(kind, number(value)?));
            rest
        }
        "runs" => {
            let cpu = &lab.machine.cpu;
            let end = lab.before.eip + code_length(lab, steps);
            expected.extend(told([("eip", end), ("eax", cpu.regs[gpr::EAX]), ("esp", lab.before.esp)]));
            rest
        }
        other => return Err(format!("`{other}` is no outcome")),
    };
    for token in assignments {
        let (name, value) = token.split_once('=').ok_or_else(|| format!("`{token}` needs a value"))?;
        expected.insert(name.to_owned(), shown(name, number(value)?));
    }
    Ok(expected)
}

/// The length of the first `steps` instructions of the guest.
fn code_length(lab: &Lab, steps: u64) -> u32 {
    let code32 = lab.get(Field::GuestCsRights) & 0x4000 != 0;
    let start = lab.before.eip.wrapping_add(lab.get(Field::GuestCsBase));
    let mut length = 0;
    for _ in 0..steps {
        let bytes: Vec<u8> = (0..15).map(|n| lab.memory.get(start + length + n, 1) as u8).collect();
        if let Decoded::Insn(insn) = decode(&bytes, code32) {
            length += u32::from(insn.len);
        }
    }
    length
}

/// What of the control structure is not the guest's state.
fn fill(cpu: &mut Cpu) {
    let Some(vmx) = &mut cpu.vmx else { return };
    let vmcs = &mut vmx.vmcs;
    let values = [
        (Field::PinControls, CAPS.pin.must),
        (Field::PrimaryControls, CAPS.primary.must),
        (Field::ExitControls, CAPS.exit.must | 4),
        (Field::EntryControls, CAPS.entry.must | 4),
        (Field::HostCr0, 0x8000_0031),
        (Field::HostCr3, crate::layout::PAGE_DIRECTORY),
        (Field::HostCr4, 0x2000),
        (Field::HostCs, 0x08),
        (Field::HostSs, 0x10),
        (Field::HostDs, 0x10),
        (Field::HostEs, 0x10),
        (Field::HostFs, 0x10),
        (Field::HostGs, 0x10),
        (Field::HostTr, 0x68),
        (Field::HostTrBase, crate::layout::TSS),
        (Field::HostGdtrBase, crate::layout::GDT),
        (Field::HostIdtrBase, crate::layout::IDT),
        (Field::HostRip, HOST_ENTRY),
        (Field::HostRsp, HOST_STACK),
        (Field::GuestDr7, 0x400),
    ];
    for (field, value) in values {
        vmcs.set(field, value);
    }
    vmcs.set(Field::LinkPointer, u64::MAX);
}
