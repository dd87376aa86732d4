//! Which slots of the TLB hold parts of large pages: a list for each 4 MiB of linear addresses, so that
//! INVLPG finds all parts of a page without a look at the rest. A 2 MiB page counts for the 4 MiB around it.

/// Regions of 4 MiB in 4 GiB.
const REGIONS: usize = 1024;
/// No slot.
const NONE: u16 = u16::MAX;

/// A slot's neighbours in its list.
#[derive(Clone, Copy)]
struct Link {
    before: u16,
    after: u16,
}

/// The lists: a slot is in one of them or in none.
pub(super) struct LargePages<const SLOTS: usize> {
    first: Box<[u16; REGIONS]>,
    links: Box<[Link; SLOTS]>,
}

impl<const SLOTS: usize> Default for LargePages<SLOTS> {
    fn default() -> Self {
        Self {
            first: Box::new([NONE; REGIONS]),
            links: Box::new([Link { before: NONE, after: NONE }; SLOTS]),
        }
    }
}

fn region(page: u32) -> usize {
    (page >> 22) as usize
}

impl<const SLOTS: usize> LargePages<SLOTS> {
    /// A slot that holds a part of a large page around `page`.
    #[inline]
    pub(super) fn first(&self, page: u32) -> Option<usize> {
        let first = self.first[region(page)];
        (first != NONE).then_some(usize::from(first))
    }

    /// Adds slot `n`, which holds the part at `page`, to its list.
    pub(super) fn insert(&mut self, page: u32, n: usize) {
        let first = &mut self.first[region(page)];
        self.links[n] = Link { before: NONE, after: *first };
        if *first != NONE {
            self.links[usize::from(*first)].before = n as u16;
        }
        *first = n as u16;
    }

    /// Takes slot `n`, which holds the part at `page`, out of its list.
    pub(super) fn remove(&mut self, page: u32, n: usize) {
        let Link { before, after } = self.links[n];
        match before {
            NONE => self.first[region(page)] = after,
            before => self.links[usize::from(before)].after = after,
        }
        if after != NONE {
            self.links[usize::from(after)].before = before;
        }
    }
}
