//! What a shadow MMU asks of whoever realises its translations: page tables in machine memory ([`super::tables`]), or
//! another form of the same thing, such as a window of host address space.

use crate::addr::{Linear, MachineAddr};
use crate::mem::Ram;

/// An address space of the shadow MMU's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Root(pub u32);

/// The translation of one page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// The machine frame.
    pub frame: MachineAddr,
    /// User-mode accesses are allowed.
    pub user: bool,
    /// Writes are allowed.
    pub write: bool,
}

/// There is no frame left for another table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exhausted;

/// Holds translations. `ram` is the machine's memory. What the real TLB may still hold of entries that were taken away
/// or lessened is noted until [`ShadowTarget::take_stale`].
pub trait ShadowTarget {
    /// A new, empty address space.
    ///
    /// # Errors
    /// [`Exhausted`].
    fn add_root(&mut self, ram: &mut Ram) -> Result<Root, Exhausted>;
    /// Drops an address space with all its translations. Dropping the current one leaves none.
    fn drop_root(&mut self, ram: &mut Ram, root: Root);
    /// Makes `root` the current address space.
    fn switch_root(&mut self, root: Root);
    /// Translates the page of `at` as `leaf` says, instead of what was there.
    ///
    /// # Errors
    /// [`Exhausted`]; nothing has changed then.
    fn map(&mut self, ram: &mut Ram, root: Root, at: Linear, leaf: Leaf) -> Result<(), Exhausted>;
    /// Takes the translation of the page of `at` away, and returns it.
    fn unmap(&mut self, ram: &mut Ram, root: Root, at: Linear) -> Option<Leaf>;
    /// Takes writes of the page of `at` away.
    fn protect(&mut self, ram: &mut Ram, root: Root, at: Linear);
    /// The translation of the page of `at`.
    fn entry(&self, ram: &Ram, root: Root, at: Linear) -> Option<Leaf>;
    /// The pages of `root` that are translated within the 4 MiB of `at`.
    fn region(&self, ram: &Ram, root: Root, at: Linear) -> Vec<Linear>;
    /// Gives back the table of the 4 MiB of `at`, which translates nothing any more.
    fn release_region(&mut self, ram: &mut Ram, root: Root, at: Linear);
    /// What the real TLB must drop before the guest runs again.
    fn take_stale(&mut self) -> Stale;
}

/// Translations that the real TLB must not use any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stale {
    /// All of them.
    pub all: bool,
    /// These pages of the current address space.
    pub pages: Vec<Linear>,
}
