//! The monitor of Theorem 1 ("The Virtual Machine Monitor"), for any instruction set: a control program of a
//! dispatcher D, an allocator A and interpreter routines vᵢ; and the hybrid monitor of Theorem 3, which
//! differs in one line. Used by [`super::compare`], and by itself: what it makes is a [`Machine`], which a
//! further monitor can stand on.
//!
//! The virtual machine map f is E′\[i + k\] = E\[i\], M′ = u, P′ = P, R′ = (l + k, b). M and R of the virtual
//! machine are in the monitor's records; E and P are on the host only.
//!
//! The monitor learns of a trap as its program would: the host has swapped PSWs and stands at the dispatcher.
//! Its own code is Rust and takes no storage; the cell of its entry stands for it.

use super::classify::Class;
use super::isa::{Instruction, Isa, Semantics};
use super::machine::{
    By, Machine, Mode, NEW_PSW, OLD_PSW, Psw, Relocation, Storage, Trap, View, Word, perform, step, trap,
};
use std::rc::Rc;

/// Cells below the guest's region: the host's two PSWs and the dispatcher's first word.
pub const BELOW: usize = 3;
/// A cell above the region, which is somebody else's.
pub const ABOVE: usize = 1;
/// Where the dispatcher is.
const ENTRY: usize = 2;
/// What the cells hold that are not the guest's, to see that they stay.
const NOT_YOURS: Word = 0xdead;
/// Ticks that the monitor takes for one trap: any number above 0 would show the same.
pub const INTERVENTION: Word = 10;

/// Where the guest's storage is in the host's: `size` words from `k`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Region {
    /// k.
    pub k: usize,
    /// In words.
    pub size: usize,
}

/// An interpreter routine vᵢ: the opcode, and what to do with the virtual state.
pub type Routine = (u8, Semantics);

/// ⟨D, A, {vᵢ}⟩, and which modes run on the host. All parts are data, so that a test can put in a wrong one.
#[derive(Clone)]
pub struct ControlProgram {
    /// Whether the guest runs on the host while its mode is this one; else it is interpreted.
    pub direct: fn(Mode) -> bool,
    /// D: the routine for an instruction that trapped, given the virtual mode, or `None`: the trap is the
    /// guest's own.
    pub dispatcher: fn(&[Routine], Mode, &Instruction) -> Option<Semantics>,
    /// A: the PSW that the guest really runs with, for its virtual one. No other part makes a value of R.
    pub allocator: fn(Psw, Region) -> Psw,
    /// {vᵢ}.
    pub routines: Vec<Routine>,
    /// Gives the guest a trap: from its storage and its virtual PSW, the new virtual PSW.
    pub reflect: fn(&mut dyn Storage, Psw) -> Psw,
}

impl ControlProgram {
    /// Theorem 1's: everything runs on the host, with a routine for each privileged instruction. A routine is
    /// the instruction's own function, applied to the virtual state: vᵢ = f ∘ i ∘ f⁻¹.
    pub fn trap_and_emulate(classes: &[Class]) -> Self {
        let privileged = classes.iter().filter(|c| c.privileged);
        Self {
            direct: |_| true,
            dispatcher: dispatch,
            allocator: allocate,
            routines: privileged.map(|c| (c.instruction.opcode, c.instruction.run)).collect(),
            reflect: trap,
        }
    }

    /// Theorem 3's: the guest's supervisor mode is interpreted, only its user mode runs on the host.
    pub fn hybrid(classes: &[Class]) -> Self {
        Self { direct: |mode| mode == Mode::User, ..Self::trap_and_emulate(classes) }
    }
}

/// D. Privileged in virtual supervisor mode: emulate. Everything else would have trapped on the bare machine
/// too.
pub fn dispatch(routines: &[Routine], mode: Mode, instruction: &Instruction) -> Option<Semantics> {
    let found = routines.iter().find(|r| r.0 == instruction.opcode && mode == Mode::Supervisor);
    found.map(|r| r.1)
}

/// A, and the PSW's part of f. The paper leaves b as it is; but what is in bounds and past the end of the
/// virtual storage must trap, and beyond the region there is more storage here, so b is trimmed to what the
/// region holds.
pub fn allocate(psw: Psw, region: Region) -> Psw {
    let l = usize::from(psw.r.l).min(region.size);
    let b = usize::from(psw.r.b).min(region.size - l);
    Psw { mode: Mode::User, p: psw.p, r: Relocation { l: (region.k + l) as u8, b: b as u8 } }
}

/// How often an instruction came, and what became of it.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Handled {
    /// Ran on the host, with no intervention.
    pub direct: u64,
    /// Trapped, and a routine did it.
    pub emulated: u64,
    /// Trapped, as it does on the bare machine: the guest got the trap.
    pub reflected: u64,
    /// Never reached the host.
    pub interpreted: u64,
}

impl Handled {
    fn count(&mut self, by: By) {
        let n = match by {
            By::Hardware => &mut self.direct,
            By::Routine => &mut self.emulated,
            By::Reflection => &mut self.reflected,
            By::Interpreter => &mut self.interpreted,
        };
        *n += 1;
    }
}

/// The guest's storage, seen from the host: E\[i\] is E′\[i + k\].
struct Resident<'a> {
    host: &'a mut dyn Machine,
    region: Region,
}

impl Storage for Resident<'_> {
    fn size(&self) -> usize {
        self.region.size
    }
    fn get(&self, at: usize) -> Word {
        self.host.get(self.region.k + at)
    }
    fn set(&mut self, at: usize, word: Word) {
        self.host.set(self.region.k + at, word);
    }
}

/// A monitor with one virtual machine.
pub struct Vmm {
    host: Box<dyn Machine>,
    isa: Rc<Isa>,
    program: ControlProgram,
    region: Region,
    /// The host's PSW when the dispatcher runs.
    entry: Psw,
    /// The virtual ⟨M, P, R⟩. P is out of date while the guest runs on the host.
    psw: Psw,
    handled: Vec<Handled>,
}

impl Vmm {
    /// A monitor on `host` with a virtual machine of [`Storage::size`] − [`BELOW`] − [`ABOVE`] words, at
    /// reset.
    pub fn new(mut host: Box<dyn Machine>, program: ControlProgram) -> Self {
        let size = host.size() - BELOW - ABOVE;
        let region = Region { k: BELOW, size };
        let entry = Psw::new(Mode::Supervisor, ENTRY as u8, 0, host.size() as u8);
        host.set(NEW_PSW, entry.word());
        host.set(ENTRY, NOT_YOURS);
        host.set(BELOW + size, NOT_YOURS);
        let isa = Rc::clone(host.isa());
        let psw = Psw::new(Mode::Supervisor, 0, 0, size as u8);
        let mut vmm = Self { host, isa, program, region, entry, psw, handled: vec![Handled::default(); 256] };
        vmm.resume();
        vmm
    }

    /// What became of an instruction so far.
    pub fn handled(&self, instruction: &Instruction) -> Handled {
        self.handled[usize::from(instruction.opcode)]
    }

    /// The host's state: f(S), if all is well.
    pub fn host(&self) -> &dyn Machine {
        self.host.as_ref()
    }

    /// Puts the guest on the host, or keeps it here to be interpreted.
    fn resume(&mut self) {
        if (self.program.direct)(self.psw.mode) {
            let real = (self.program.allocator)(self.psw, self.region);
            self.host.load_psw(real);
        }
    }

    fn resident(&mut self) -> Resident<'_> {
        Resident { host: self.host.as_mut(), region: self.region }
    }

    /// The instruction at P of the virtual `psw`, if it can be fetched and is one.
    fn fetch(&mut self, psw: Psw) -> Option<(Instruction, u8, u8)> {
        let isa = Rc::clone(&self.isa);
        let word = View::new(psw, 0, &mut self.resident()).read(psw.p).ok()?;
        isa.decode(word).map(|(i, x, y)| (*i, x, y))
    }

    /// One instruction on the host. If the host comes back at the dispatcher, there was a trap.
    fn run(&mut self) -> By {
        self.host.step();
        if self.host.psw() != self.entry {
            return By::Hardware;
        }
        self.host.spend(INTERVENTION);
        // f⁻¹: P from the PSW that the trap stored, M and R from our records.
        self.psw.p = Psw::of(self.host.get(OLD_PSW)).p;
        let by = self.dispatch();
        self.resume();
        by
    }

    /// D, and what it chose. A routine may find that the instruction traps after all, out of bounds.
    fn dispatch(&mut self) -> By {
        let psw = self.psw;
        if let Some((i, x, y)) = self.fetch(psw)
            && let Some(routine) = (self.program.dispatcher)(&self.program.routines, psw.mode, &i)
            && self.emulate(routine, x, y).is_ok()
        {
            return By::Routine;
        }
        let reflect = self.program.reflect;
        self.psw = reflect(&mut self.resident(), psw);
        By::Reflection
    }

    fn emulate(&mut self, routine: Semantics, x: u8, y: u8) -> Result<(), Trap> {
        let (psw, clock) = (self.psw, self.clock());
        let mut resident = self.resident();
        let mut view = View::new(psw, clock, &mut resident);
        perform(routine, x, y, &mut view)?;
        self.psw = view.psw;
        Ok(())
    }

    /// One instruction or trap of the virtual machine, in software: the machine's own step on the virtual
    /// state.
    fn interpret(&mut self) -> By {
        let (isa, clock, mut psw) = (Rc::clone(&self.isa), self.clock(), self.psw);
        step(&isa, &mut self.resident(), &mut psw, clock);
        self.psw = psw;
        self.host.spend(INTERVENTION);
        self.resume();
        By::Interpreter
    }
}

impl Storage for Vmm {
    fn size(&self) -> usize {
        self.region.size
    }
    fn get(&self, at: usize) -> Word {
        self.host.get(self.region.k + at)
    }
    fn set(&mut self, at: usize, word: Word) {
        self.host.set(self.region.k + at, word);
    }
}

/// The virtual machine, f⁻¹ of the host.
impl Machine for Vmm {
    fn isa(&self) -> &Rc<Isa> {
        &self.isa
    }
    fn psw(&self) -> Psw {
        if (self.program.direct)(self.psw.mode) { Psw { p: self.host.psw().p, ..self.psw } } else { self.psw }
    }
    /// A monitor in this virtual machine says LPSW: privileged, so that it traps to us and we emulate it.
    /// Each level of nesting pays for the level above. (On a real machine this trap would itself pass through
    /// all monitors below; here it comes straight, so that ticks at depth 3 and more are too few.)
    fn load_psw(&mut self, psw: Psw) {
        self.host.spend(INTERVENTION);
        self.psw = psw;
        self.resume();
    }
    fn step(&mut self) -> By {
        let opcode = self.fetch(self.psw()).map_or(0, |(i, ..)| i.opcode);
        let by = if (self.program.direct)(self.psw.mode) { self.run() } else { self.interpret() };
        self.handled[usize::from(opcode)].count(by);
        by
    }
    fn clock(&self) -> Word {
        self.host.clock()
    }
    fn spend(&mut self, ticks: Word) {
        self.host.spend(ticks);
    }
    fn reset_clock(&mut self) {
        self.host.reset_clock();
    }
    /// Resource control: the guest runs in user mode within its region, with the R that the allocator gave,
    /// and no other cell has changed; and so on every level below.
    fn in_control(&self) -> Result<(), &'static str> {
        self.host.in_control()?;
        let Region { k, size } = self.region;
        let whole = self.host.get(NEW_PSW) == self.entry.word() && self.host.get(ENTRY) == NOT_YOURS;
        if !whole {
            return Err("the monitor's own storage has changed");
        }
        if self.host.get(k + size) != NOT_YOURS {
            return Err("storage beyond the guest's region has changed");
        }
        if !(self.program.direct)(self.psw.mode) {
            return Ok(());
        }
        let Psw { mode, r, .. } = self.host.psw();
        let (l, b) = (usize::from(r.l), usize::from(r.b));
        if mode != Mode::User {
            Err("the guest runs in supervisor mode")
        } else if l < k || l + b > k + size {
            Err("R reaches outside the guest's region")
        } else if r != (self.program.allocator)(self.psw, self.region).r {
            Err("R is not what the allocator made of the virtual R")
        } else {
            Ok(())
        }
    }
}
