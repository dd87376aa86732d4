//! The frame map: which machine frame holds which guest-physical frame (what Xen calls P2M). On the bare machine the two
//! are one space; a monitor hands out frames in an order of its own, so that nothing works by accident.

use crate::addr::{GuestPhys, MachineAddr, PAGE_OFFSET, PAGE_SHIFT, PAGE_SIZE};

/// Where guest frames are. Guest RAM starts at guest-physical 0.
#[derive(Clone, Debug)]
pub struct P2m {
    /// Bytes of guest RAM.
    size: u32,
    /// Machine frame numbers by guest frame number; `None` where they are the same.
    frames: Option<Maps>,
}

#[derive(Clone, Debug)]
struct Maps {
    to_machine: Vec<u32>,
    /// Guest frame numbers by machine frame number; [`NOT_THE_GUESTS`] for the monitor's.
    to_guest: Vec<u32>,
}

const NOT_THE_GUESTS: u32 = !0;

impl P2m {
    /// Guest and machine addresses are the same.
    pub fn identity(size: u32) -> Self {
        Self { size, frames: None }
    }

    /// Guest frame `n` is in the machine frame `frames[n]`; the machine has `machine_frames` of them.
    pub fn scattered(frames: Vec<u32>, machine_frames: u32) -> Self {
        let mut to_guest = vec![NOT_THE_GUESTS; machine_frames as usize];
        for (guest, &machine) in (0u32..).zip(&frames) {
            to_guest[machine as usize] = guest;
        }
        let size = (frames.len() as u32) << PAGE_SHIFT;
        Self { size, frames: Some(Maps { to_machine: frames, to_guest }) }
    }

    /// Bytes of guest RAM.
    #[inline(always)]
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Whether machine addresses differ from guest-physical ones.
    pub fn is_scattered(&self) -> bool {
        self.frames.is_some()
    }

    /// Whether `len` bytes from `at` are all guest RAM.
    #[inline(always)]
    pub fn holds(&self, at: GuestPhys, len: u32) -> bool {
        u64::from(at.0) + u64::from(len) <= u64::from(self.size)
    }

    /// Where `at`, an address in guest RAM, is.
    #[inline(always)]
    pub fn machine(&self, at: GuestPhys) -> MachineAddr {
        match &self.frames {
            None => MachineAddr(at.0),
            Some(maps) => {
                MachineAddr(maps.to_machine[at.page_number() as usize] << PAGE_SHIFT | (at.0 & PAGE_OFFSET))
            }
        }
    }

    /// Which guest-physical address is at `at`, if it is the guest's.
    pub fn guest(&self, at: MachineAddr) -> Option<GuestPhys> {
        let Some(maps) = &self.frames else {
            return (at.0 < self.size).then_some(GuestPhys(at.0));
        };
        let frame = *maps.to_guest.get(at.page_number() as usize)?;
        (frame != NOT_THE_GUESTS).then(|| GuestPhys(frame << PAGE_SHIFT | at.page_offset()))
    }

    /// The machine addresses of the guest's frames, in guest order.
    pub fn frames(&self) -> impl Iterator<Item = MachineAddr> + '_ {
        (0..self.size >> PAGE_SHIFT).map(|n| self.machine(GuestPhys(n * PAGE_SIZE)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_directions_are_inverse() {
        let map = P2m::scattered(vec![5, 0, 3], 8);
        assert_eq!(map.size(), 0x3000);
        for at in [0x123, 0x1fff, 0x2000] {
            assert_eq!(map.guest(map.machine(GuestPhys(at))), Some(GuestPhys(at)));
        }
        assert_eq!(map.machine(GuestPhys(0x2010)), MachineAddr(0x3010));
        assert_eq!(map.guest(MachineAddr(0x1000)), None, "a frame of the monitor's");
        assert!(map.holds(GuestPhys(0x2fff), 1) && !map.holds(GuestPhys(0x2fff), 2));
    }
}
