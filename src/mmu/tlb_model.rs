//! The TLB against a model that keeps the slots filled in one list and looks at all of them: after every
//! operation both hold the same entries, allow the same accesses and have counted the same.

use super::paging::{Access, Mapping};
use super::tlb::{Class, Direct, Saved, Tlb};
use crate::addr::{GuestPhys, Linear, PAGE_OFFSET};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

const ENTRIES: usize = 1024;
const CLASSES: [Class; 4] =
    [Class::new(false, false), Class::new(false, true), Class::new(true, false), Class::new(true, true)];
const FETCHES: [Class; 2] = [Class::fetch(false), Class::fetch(true)];

/// An entry of the model: a page, what the walk found, and which accesses may go straight to RAM.
#[derive(Clone, Copy)]
struct Entry {
    page: u32,
    mapping: Mapping,
    rights: [bool; 4],
    fetches: [bool; 2],
    fast: [bool; 4],
}

struct Model {
    slots: Vec<Option<Entry>>,
    epoch: u32,
    fills: u64,
    flushes: u64,
}

fn slot(page: u32) -> usize {
    (page >> 12) as usize % ENTRIES
}

impl Model {
    fn new() -> Self {
        Self { slots: vec![None; ENTRIES], epoch: 0, fills: 0, flushes: 0 }
    }

    fn drop_if(&mut self, drop: impl Fn(&Entry) -> bool) {
        for slot in &mut self.slots {
            *slot = slot.filter(|e| !drop(e));
        }
        self.epoch += 1;
    }

    fn fill(&mut self, page: u32, mapping: Mapping, wp: bool, direct: Direct) {
        let allowed = |n: usize| {
            let access = Access::data(n & 2 != 0, n & 1 != 0);
            mapping.allows(access, wp) && (!access.write || mapping.dirty)
        };
        let rights = [0, 1, 2, 3].map(allowed);
        let fast = [0, 1, 2, 3].map(|n| rights[n] && if n & 1 != 0 { direct.write } else { direct.read });
        let fetches = [false, true].map(|user| mapping.allows(Access::fetch(user), wp));
        self.slots[slot(page)] = Some(Entry { page, mapping, rights, fetches, fast });
        self.fills += 1;
    }

    fn flush(&mut self, globals: bool) {
        self.drop_if(|e| globals || !e.mapping.global);
        self.flushes += 1;
    }

    fn invalidate(&mut self, page: u32) {
        self.drop_if(|e| e.page == page || (e.mapping.large && e.page >> 22 == page >> 22));
    }

    fn at(&self, page: u32) -> Option<&Entry> {
        self.slots[slot(page)].as_ref().filter(|e| e.page == page)
    }
}

/// An operation on a TLB.
#[derive(Clone, Debug)]
enum Step {
    Fill(u32, Mapping, bool, Direct),
    Flush(bool),
    Invalidate(u32),
    Protect(u32),
    Grant(u32, bool),
    DropFast,
    SaveAndRestore,
}

/// A page: few regions and few slots, so that entries meet.
fn page() -> impl Strategy<Value = u32> {
    (0u32..4, prop_oneof![0u32..6, 1018u32..1024]).prop_map(|(region, n)| region << 22 | n << 12)
}

fn mapping() -> impl Strategy<Value = Mapping> {
    (0u32..8, any::<[bool; 6]>()).prop_map(|(frame, [user, write, execute, dirty, global, large])| Mapping {
        frame: GuestPhys(frame << 12),
        user,
        write,
        execute,
        dirty,
        global,
        large,
    })
}

fn step() -> impl Strategy<Value = Step> {
    let direct = any::<[bool; 2]>().prop_map(|[read, write]| Direct { read, write });
    prop_oneof![
        12 => (page(), mapping(), any::<bool>(), direct).prop_map(|(p, m, wp, d)| Step::Fill(p, m, wp, d)),
        2 => any::<bool>().prop_map(Step::Flush),
        4 => page().prop_map(Step::Invalidate),
        1 => (0u32..8).prop_map(|frame| Step::Protect(frame << 12)),
        2 => (page(), any::<bool>()).prop_map(|(p, write)| Step::Grant(p, write)),
        1 => Just(Step::DropFast),
        1 => Just(Step::SaveAndRestore),
    ]
}

fn apply(step: Step, tlb: &mut Tlb, model: &mut Model) {
    match step {
        Step::Fill(page, mapping, wp, direct) => {
            tlb.fill(Linear(page | 0x123), &mapping, wp, direct);
            model.fill(page, mapping, wp, direct);
        }
        Step::Flush(globals) => {
            tlb.flush(globals);
            model.flush(globals);
        }
        Step::Invalidate(page) => {
            tlb.invalidate(Linear(page | 0xfff));
            model.invalidate(page);
        }
        Step::Protect(frame) => {
            tlb.protect_frame(GuestPhys(frame));
            let mapped = model.slots.iter_mut().flatten().filter(|e| e.mapping.frame.0 == frame);
            mapped.for_each(|e| (e.fast[1], e.fast[3]) = (false, false));
        }
        Step::Grant(page, write) => {
            if write {
                tlb.grant_write(Linear(page))
            } else {
                tlb.grant_read(Linear(page))
            }
            if let Some(e) = model.slots[slot(page)].as_mut().filter(|e| e.page == page) {
                for n in [usize::from(write), 2 | usize::from(write)] {
                    e.fast[n] |= e.rights[n];
                }
            }
        }
        Step::DropFast => {
            tlb.drop_fast();
            model.slots.iter_mut().flatten().for_each(|e| e.fast = [false; 4]);
        }
        Step::SaveAndRestore => {
            let saved: Vec<Saved> = tlb.save();
            tlb.restore(&saved);
            (model.epoch, model.flushes) = (model.epoch + 1, model.flushes + 1);
            model.slots.iter_mut().flatten().for_each(|e| e.fast = [false; 4]);
        }
    }
}

fn compare(tlb: &Tlb, model: &Model) -> Result<(), TestCaseError> {
    prop_assert_eq!((tlb.epoch(), tlb.fills, tlb.flushes), (model.epoch, model.fills, model.flushes));
    let entries: Vec<_> = tlb.entries().collect();
    let held = model.slots.iter().flatten();
    let expected: Vec<_> = held.map(|e| (Linear(e.page), e.mapping.frame, e.mapping.global)).collect();
    prop_assert_eq!(entries, expected);
    for page in (0..4u32).flat_map(|region| (0..1024).map(move |n| region << 22 | n << 12)) {
        let at = Linear(page | 0x10);
        let entry = model.at(page);
        for (n, class) in CLASSES.into_iter().enumerate() {
            let allowed = entry.filter(|e| e.rights[n]).map(|e| GuestPhys(e.mapping.frame.0 | 0x10));
            prop_assert_eq!(tlb.lookup(at, class), allowed);
            let fast =
                entry.filter(|e| e.fast[n]).map(|e| (e.mapping.frame.0 & !PAGE_OFFSET | 0x10) as usize);
            prop_assert_eq!(tlb.fast(at, 4, class), fast);
        }
        for (n, class) in FETCHES.into_iter().enumerate() {
            let allowed = entry.filter(|e| e.fetches[n]).map(|e| GuestPhys(e.mapping.frame.0 | 0x10));
            prop_assert_eq!(tlb.lookup(at, class), allowed);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, rng_seed: RngSeed::Fixed(11), ..ProptestConfig::default() })]

    #[test]
    fn each_operation_does_what_a_look_at_all_entries_does(steps in prop::collection::vec(step(), 1..200)) {
        let (mut tlb, mut model) = (Tlb::default(), Model::new());
        for step in steps {
            apply(step, &mut tlb, &mut model);
        }
        compare(&tlb, &model)?;
    }
}
