//! Instructions as data, and the instruction sets made of them: one that satisfies Theorem 1, and that one
//! with an instruction added that does not, each after a machine that has it. Used by the machine to decode
//! and by the monitor to emulate: an instruction's function is the only place that says what it does.

use super::state::{Mode, Psw, Relocation, Trap, View, Word};
use serde::Serialize;

/// What an instruction does with its operands x and y: the paper's function on states, where `Err` is a trap
/// and then nothing has changed.
pub type Semantics = fn(&mut View<'_>, u8, u8) -> Result<(), Trap>;

/// What an operand is. The machine does not ask; it says which values are worth trying.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operand {
    /// The address of data, or a number.
    Data,
    /// Where to jump.
    Target,
}

const NONE: &[Operand] = &[];
const DATA: &[Operand] = &[Operand::Data];
const TO: &[Operand] = &[Operand::Target];
const TWO: &[Operand] = &[Operand::Data, Operand::Data];
const DATA_TO: &[Operand] = &[Operand::Data, Operand::Target];

/// One instruction.
#[derive(Clone, Copy, Serialize)]
pub struct Instruction {
    /// Its mnemonic.
    pub name: &'static str,
    /// Bits 24 to 31 of its word. x is in bits 8 to 15, y in bits 0 to 7.
    #[serde(skip)]
    pub opcode: u8,
    /// What x and y are; with none or one, the others are 0.
    #[serde(skip)]
    pub operands: &'static [Operand],
    /// The instruction's effect, in a line.
    pub about: &'static str,
    /// The instruction's semantics.
    #[serde(skip)]
    pub run: Semantics,
}

impl Instruction {
    /// Its word with these operands.
    pub const fn word(&self, x: u8, y: u8) -> Word {
        (self.opcode as Word) << 24 | (x as Word) << 8 | y as Word
    }
}

impl std::fmt::Debug for Instruction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

/// By its opcode: no two instructions here share one.
impl PartialEq for Instruction {
    fn eq(&self, other: &Self) -> bool {
        self.opcode == other.opcode
    }
}

const fn instruction(
    opcode: u8,
    name: &'static str,
    operands: &'static [Operand],
    about: &'static str,
    run: Semantics,
) -> Instruction {
    Instruction { name, opcode, operands, about, run }
}

/// The set that satisfies the theorem. The first seven touch storage and P only.
#[rustfmt::skip]
const COMPLIANT: [Instruction; 13] = [
    instruction(0x10, "SET",  TWO, "E[x] <- y",                           set),
    instruction(0x11, "MOV",  TWO, "E[x] <- E[y]",                        mov),
    instruction(0x12, "LD",   TWO, "E[x] <- E[E[y]]",                     load),
    instruction(0x13, "ST",   TWO, "E[E[x]] <- E[y]",                     store),
    instruction(0x14, "ADD",  TWO, "E[x] <- E[x] + E[y]",                 add),
    instruction(0x15, "SUB",  TWO, "E[x] <- E[x] - E[y]",                 sub),
    instruction(0x16, "JZ",   DATA_TO, "if E[x] = 0 then P <- y",             jump_if_zero),
    instruction(0x17, "JMP",  TO, "P <- x",                              jump),
    instruction(0x18, "SVC",  NONE, "traps, in either mode",               supervisor_call),
    instruction(0x19, "LPSW", DATA, "privileged: M, P, R <- E[x]",         load_psw),
    instruction(0x1a, "SETR", DATA, "privileged: R <- E[x]",               set_r),
    instruction(0x1b, "GETR", DATA, "privileged: E[x] <- M, R",            get_r),
    instruction(0x1c, "HALT", NONE, "privileged: P stays",                 halt),
];

const JRST_1: Instruction =
    instruction(0x20, "JRST 1", TO, "M <- u, P <- x; in user mode a plain jump", jrst_1);
const POPF: Instruction =
    instruction(0x21, "POPF", DATA, "M, R <- E[x]; in user mode, silently nothing", popf);
const MOVE_SR: Instruction = instruction(0x22, "MOVE SR", DATA, "E[x] <- M, in either mode", move_sr);
const LRA: Instruction = instruction(0x23, "LRA", TWO, "E[x] <- l + y, in either mode", lra);
const MOV_DS: Instruction = instruction(0x24, "MOV DS", DATA, "R <- E[x], in either mode", mov_ds);
const STCK: Instruction = instruction(0x25, "STCK", DATA, "E[x] <- the clock, in either mode", stck);

/// E\[x\] ← y.
fn set(m: &mut View<'_>, x: u8, y: u8) -> Result<(), Trap> {
    m.write(x, y.into())
}

/// E\[x\] ← E\[y\].
fn mov(m: &mut View<'_>, x: u8, y: u8) -> Result<(), Trap> {
    m.write(x, m.read(y)?)
}

/// E\[x\] ← E\[E\[y\]\].
fn load(m: &mut View<'_>, x: u8, y: u8) -> Result<(), Trap> {
    m.write(x, m.read(m.read(y)?)?)
}

/// E\[E\[x\]\] ← E\[y\].
fn store(m: &mut View<'_>, x: u8, y: u8) -> Result<(), Trap> {
    m.write(m.read(x)?, m.read(y)?)
}

/// E\[x\] ← E\[x\] + E\[y\].
fn add(m: &mut View<'_>, x: u8, y: u8) -> Result<(), Trap> {
    m.write(x, m.read(x)?.wrapping_add(m.read(y)?))
}

/// E\[x\] ← E\[x\] − E\[y\].
fn sub(m: &mut View<'_>, x: u8, y: u8) -> Result<(), Trap> {
    m.write(x, m.read(x)?.wrapping_sub(m.read(y)?))
}

/// If E\[x\] = 0 then P ← y.
fn jump_if_zero(m: &mut View<'_>, x: u8, y: u8) -> Result<(), Trap> {
    if m.read(x)? == 0 {
        m.psw.p = y;
    }
    Ok(())
}

/// P ← x.
fn jump(m: &mut View<'_>, x: u8, _: u8) -> Result<(), Trap> {
    m.psw.p = x;
    Ok(())
}

/// Traps. Not privileged, since it does so in supervisor mode too, and harmless to a monitor for the same
/// reason.
fn supervisor_call(_: &mut View<'_>, _: u8, _: u8) -> Result<(), Trap> {
    Err(Trap::Call)
}

/// ⟨M, P, R⟩ ← E\[x\].
fn load_psw(m: &mut View<'_>, x: u8, _: u8) -> Result<(), Trap> {
    m.supervisor_only()?;
    m.psw = Psw::of(m.read(x)?);
    Ok(())
}

/// R ← E\[x\].
fn set_r(m: &mut View<'_>, x: u8, _: u8) -> Result<(), Trap> {
    m.supervisor_only()?;
    mov_ds(m, x, 0)
}

/// E\[x\] ← ⟨M, 0, R⟩.
fn get_r(m: &mut View<'_>, x: u8, _: u8) -> Result<(), Trap> {
    m.supervisor_only()?;
    m.write(x, Psw { p: 0, ..m.psw }.word())
}

/// P ← its own address: a state that is its own successor, which is what halted means here.
fn halt(m: &mut View<'_>, _: u8, _: u8) -> Result<(), Trap> {
    m.supervisor_only()?;
    m.psw.p = m.psw.p.wrapping_sub(1);
    Ok(())
}

/// PDP-10, JRST 1: "return to user mode". The paper's own example of what breaks Theorem 1: it changes M and
/// does not trap in user mode, where M is u already and it is a jump.
fn jrst_1(m: &mut View<'_>, x: u8, _: u8) -> Result<(), Trap> {
    m.psw.mode = Mode::User;
    jump(m, x, 0)
}

/// IA-32, POPF: where the program may not change IF and IOPL, they stay as they are and nothing is said. M
/// and R stand for them here.
fn popf(m: &mut View<'_>, x: u8, _: u8) -> Result<(), Trap> {
    let Psw { mode, r, .. } = Psw::of(m.read(x)?);
    if m.psw.mode == Mode::Supervisor {
        m.psw = Psw { mode, r, ..m.psw };
    }
    Ok(())
}

/// MC68000, MOVE from SR: the status register, S bit included, for everybody to read. (The MC68010 made it
/// privileged.)
fn move_sr(m: &mut View<'_>, x: u8, _: u8) -> Result<(), Trap> {
    m.write(x, Word::from(m.psw.mode == Mode::User))
}

/// System/360-67, LOAD REAL ADDRESS, as it would be unprivileged: where in storage an address of the program
/// is.
fn lra(m: &mut View<'_>, x: u8, y: u8) -> Result<(), Trap> {
    m.write(x, Word::from(m.psw.r.l) + Word::from(y))
}

/// 8086, MOV to a segment register: every program loads its own relocation (and here, its bound).
fn mov_ds(m: &mut View<'_>, x: u8, _: u8) -> Result<(), Trap> {
    let Psw { r: Relocation { l, b }, .. } = Psw::of(m.read(x)?);
    m.psw.r = Relocation { l, b };
    Ok(())
}

/// System/370, STORE CLOCK: time for everybody to read.
fn stck(m: &mut View<'_>, x: u8, _: u8) -> Result<(), Trap> {
    m.write(x, m.clock)
}

/// The instruction sets: name, what it is, and the instruction that is added to the compliant set.
#[rustfmt::skip]
const SETS: [(&str, &str, Option<Instruction>); 7] = [
    ("compliant", "every sensitive instruction is privileged",                          None),
    ("jrst1",     "with JRST 1 of the PDP-10, which leaves supervisor mode unnoticed",  Some(JRST_1)),
    ("popf",      "with a POPF of IA-32, which does nothing silently in user mode",     Some(POPF)),
    ("move-sr",   "with MOVE from SR of the MC68000, which shows the mode",             Some(MOVE_SR)),
    ("lra",       "with an unprivileged LRA of the 360/67, which shows the relocation", Some(LRA)),
    ("mov-ds",    "with MOV to a segment register of the 8086, which sets R",           Some(MOV_DS)),
    ("stck",      "with STCK of System/370, which shows the time",                      Some(STCK)),
];

/// An instruction set.
#[derive(Clone, Debug)]
pub struct Isa {
    /// What `--isa` calls it.
    pub name: &'static str,
    /// The set's description, in a line.
    pub about: &'static str,
    instructions: Vec<Instruction>,
    /// Opcode to index of `instructions`.
    by_opcode: Vec<Option<u8>>,
}

impl Isa {
    /// The compliant set with `added`, whose opcodes must be new.
    pub fn compliant_with(name: &'static str, about: &'static str, added: &[Instruction]) -> Self {
        let instructions = [&COMPLIANT, added].concat();
        let mut by_opcode = vec![None; 256];
        for (n, i) in instructions.iter().enumerate() {
            let slot = &mut by_opcode[usize::from(i.opcode)];
            assert!(slot.is_none(), "opcode {:#04x} is taken", i.opcode);
            *slot = Some(n as u8);
        }
        Self { name, about, instructions, by_opcode }
    }

    /// The set called `name`.
    pub fn find(name: &str) -> Option<Self> {
        let (name, about, added) = SETS.into_iter().find(|s| s.0 == name)?;
        Some(Self::compliant_with(name, about, added.as_slice()))
    }

    /// The names of all sets, the compliant one first.
    pub fn names() -> impl Iterator<Item = &'static str> {
        SETS.into_iter().map(|s| s.0)
    }

    /// Its instructions.
    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    /// Instructions that the compliant set does not have.
    pub fn added(&self) -> &[Instruction] {
        &self.instructions[COMPLIANT.len()..]
    }

    /// The instruction in a word, with its operands.
    pub fn decode(&self, word: Word) -> Option<(&Instruction, u8, u8)> {
        let [y, x, _, opcode] = word.to_le_bytes();
        let n = self.by_opcode[usize::from(opcode)]?;
        Some((&self.instructions[usize::from(n)], x, y))
    }

    /// The word of the instruction called `name`.
    ///
    /// # Panics
    /// If there is none: names come from the source.
    pub fn word(&self, name: &str, x: u8, y: u8) -> Word {
        let found = self.instructions.iter().find(|i| i.name == name);
        found.unwrap_or_else(|| panic!("{} has no {name}", self.name)).word(x, y)
    }

    /// A word as a reader likes it: an instruction, a PSW if it cannot be a small number, or a number.
    pub fn show(&self, word: Word) -> String {
        match self.decode(word) {
            Some((i, x, y)) => match i.operands.len() {
                0 => i.name.to_owned(),
                1 => format!("{} {x}", i.name),
                _ => format!("{} {x},{y}", i.name),
            },
            None if word > 0xff && word >> 25 == 0 => {
                let Psw { mode, p, r } = Psw::of(word);
                format!("<{mode},{p},{r}>")
            }
            None => word.to_string(),
        }
    }
}
