//! What observers see of shadow page tables and of translated code: the views that `machine::monitor`
//! declares.

use super::bt::Translation;
use super::memory::{NestedMmu, ShadowMmu, key_of};
use crate::addr::{GuestPhys, Linear};
use crate::cpu::Cpu;
use crate::machine::{NestedView, ShadowView, TranslationView, World};
use crate::mem::Ram;
use crate::report::{Journal, Key, Leaf, MmuCounts, NestedCounts, NestedLeaf, Noted, Reason, Role, Root};
use crate::translate::{RuleId, TranslatedCode};
use std::collections::BTreeMap;

impl ShadowView for ShadowMmu {
    fn spaces(&self) -> Vec<(Key, Root)> {
        self.kept_spaces()
    }

    fn space_of(&self, cpu: &Cpu) -> Option<Root> {
        let key = key_of(cpu);
        self.kept_spaces().into_iter().find(|(of, _)| *of == key).map(|(_, root)| root)
    }

    fn current(&self) -> Option<(Key, Root)> {
        self.current_space()
    }

    fn is_entered(&self, cpu: &Cpu) -> bool {
        self.is_in_space_of(cpu)
    }

    fn roots(&self) -> Vec<Root> {
        self.shadow.target.roots().collect()
    }

    fn leaves(&self, ram: &Ram, root: Root) -> Vec<(Linear, Leaf)> {
        self.shadow.target.leaves(ram, root)
    }

    fn entry(&self, ram: &Ram, root: Root, at: Linear) -> Option<Leaf> {
        self.shadow.target.entry(ram, root, at)
    }

    fn tables(&self) -> usize {
        self.shadow.target.frames().0
    }

    fn traced(&self, at: GuestPhys) -> Reason {
        self.shadow.traced(at)
    }

    fn all_traced(&self) -> Vec<(GuestPhys, Reason)> {
        self.shadow.all_traced().collect()
    }

    fn roles(&self, at: GuestPhys) -> Vec<Role> {
        self.roles_of(at)
    }

    fn counts(&self) -> &MmuCounts {
        &self.shadow.counts
    }

    fn journal(&self) -> Option<&Journal> {
        self.shadow.journal.as_ref()
    }

    fn keep_journal(&mut self, journal: Journal) {
        self.shadow.journal = Some(journal);
    }

    fn take_changes(&mut self) -> Vec<Noted> {
        self.shadow.journal.as_mut().map(Journal::take_log).unwrap_or_default()
    }
}

impl NestedView for NestedMmu {
    fn pointer(&self) -> u64 {
        self.extended().pointer()
    }

    fn leaves(&self, ram: &Ram) -> Vec<(GuestPhys, NestedLeaf)> {
        self.extended().leaves(ram)
    }

    fn entry(&self, ram: &Ram, at: GuestPhys) -> Option<NestedLeaf> {
        self.extended().entry(ram, at)
    }

    fn tables(&self) -> usize {
        self.extended().frames().0
    }

    fn counts(&self) -> &NestedCounts {
        self.counted()
    }
}

impl TranslationView for Translation {
    fn translator(&self) -> &dyn TranslatedCode<World> {
        &*self.translator
    }

    fn translator_mut(&mut self) -> &mut dyn TranslatedCode<World> {
        &mut *self.translator
    }

    fn callouts(&self) -> &BTreeMap<RuleId, u64> {
        &self.callouts
    }

    fn inlined(&self) -> u64 {
        self.inlined.iter().sum()
    }
}
