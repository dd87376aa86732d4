//! What happened to the entries of a shadow, when, and by which instruction. An observer asks for a journal;
//! nothing that the monitor does depends on one.

use super::shadow::{Change, Leaf, Reason, Root};
use crate::addr::{GuestPhys, Linear};
use crate::bus::Ticks;
use crate::cpu::Cpu;
use crate::decode::SegReg;
use crate::mmu::paging::Access;
use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::rc::Rc;

/// Changes that are kept for each page.
const KEPT: usize = 8;

/// The guest's instruction that made the monitor change something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// Guest time before it.
    pub now: Ticks,
    /// Instructions retired before it.
    pub retired: u64,
    /// The CS selector.
    pub cs: u16,
    /// EIP.
    pub eip: u32,
    /// CS:EIP as a linear address.
    pub linear: u32,
    /// Code is 32-bit there.
    pub code32: bool,
    /// The instruction's first bytes, as many as are mapped.
    pub bytes: Vec<u8>,
    /// The instruction was only next: a bus master or the delivery of an event changed memory.
    pub outside: bool,
}

impl Origin {
    /// The instruction that `cpu` is at, whose first bytes are `bytes`.
    pub fn of(cpu: &Cpu, bytes: Vec<u8>, outside: bool) -> Self {
        Self {
            now: cpu.now,
            retired: cpu.retired(),
            cs: cpu.seg(SegReg::Cs).selector.0,
            eip: cpu.eip,
            linear: cpu.linear_eip(),
            code32: cpu.code32(),
            bytes,
            outside,
        }
    }
}

/// What the change is about, beyond its kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum About {
    /// Nothing more.
    #[default]
    Nothing,
    /// The access that faulted.
    Access(Access),
    /// The guest wrote here, to a page table of its own.
    Written(GuestPhys),
    /// The frame became traced for this reason.
    Traced(Reason),
}

/// A change of a shadow entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    /// The address space.
    pub root: Root,
    /// The page.
    pub at: Linear,
    /// What happened.
    pub change: Change,
    /// The entry after it; before it, if it is gone now.
    pub leaf: Leaf,
    /// What the change is about.
    pub about: About,
    /// The instruction that caused the change.
    pub origin: Rc<Origin>,
}

/// Changes of shadow entries, the last ones of each page.
#[derive(Debug)]
pub struct Journal {
    /// Numbers of the pages whose changes are kept.
    pages: RangeInclusive<u32>,
    last: BTreeMap<(Root, u32), VecDeque<Noted>>,
    log: Option<Vec<Noted>>,
    origin: Rc<Origin>,
    about: About,
}

impl Journal {
    /// An empty one for these page numbers; with a log if changes are also wanted in their order.
    pub fn new(pages: RangeInclusive<u32>, log: bool) -> Self {
        let log = log.then(Vec::new);
        Self { pages, last: BTreeMap::new(), log, origin: Rc::default(), about: About::Nothing }
    }

    /// Changes are because of `origin` from now on.
    pub fn set_origin(&mut self, origin: Origin) {
        self.origin = Rc::new(origin);
        self.about = About::Nothing;
    }

    /// Changes are about this from now on.
    pub fn set_about(&mut self, about: About) {
        self.about = about;
    }

    /// Notes a change of the page of `at`.
    pub fn note(&mut self, root: Root, at: Linear, change: Change, leaf: Leaf) {
        if !self.pages.contains(&at.page_number()) {
            return;
        }
        let about = match change {
            Change::Filled | Change::Refilled | Change::Downgraded | Change::Synced => self.about,
            _ => About::Nothing,
        };
        let noted = Noted { root, at: at.page(), change, leaf, about, origin: Rc::clone(&self.origin) };
        let notes = self.last.entry((root, at.page_number())).or_default();
        if notes.len() == KEPT {
            notes.pop_front();
        }
        notes.push_back(noted.clone());
        if let Some(log) = &mut self.log {
            log.push(noted);
        }
    }

    /// Forgets the address space that `root` stood for before.
    pub fn begin(&mut self, root: Root) {
        self.last.retain(|(r, _), _| *r != root);
    }

    /// The last changes of the page of `at`, the oldest first.
    pub fn of(&self, root: Root, at: Linear) -> impl Iterator<Item = &Noted> {
        self.last.get(&(root, at.page_number())).into_iter().flatten()
    }

    /// The changes in their order since this was last asked.
    pub fn take_log(&mut self) -> Vec<Noted> {
        self.log.as_mut().map(std::mem::take).unwrap_or_default()
    }
}
