//! The physical memory map: RAM, the legacy firmware region with its shadow (PAM) attributes, the ROM below
//! 4 GiB, chips' windows, and nothing.

use crate::addr::{GuestPhys, MachineAddr, PAGE_OFFSET, PAGE_SIZE};
use crate::error::{Error, Result};
use crate::mem::{self, P2m, Ram, Traces};
use bitflags::bitflags;
use serde::{Deserialize, Serialize};

bitflags! {
    /// Where accesses to a block of the firmware region C0000-FFFFF go (82441FX, PAM registers: bits RE and
    /// WE).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
    pub struct Pam: u8 {
        /// Reads go to RAM, else to ROM.
        const READ_RAM = 1;
        /// Writes go to RAM, else nowhere.
        const WRITE_RAM = 2;
    }
}

/// What answers reads or takes writes at a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Guest RAM, at the same address.
    Ram,
    /// A ROM: reads only.
    Rom,
    /// A chip's window: the board's `mmio_read` and `mmio_write`.
    Chip,
    /// Nothing: reads give ones, writes are lost.
    Open,
}

/// What answers at a page, by direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backing {
    /// Who answers reads.
    pub read: Target,
    /// Who takes writes.
    pub write: Target,
}

/// The VGA's window.
pub const VGA_WINDOW: std::ops::Range<u32> = 0xa_0000..0xc_0000;
const FIRMWARE: std::ops::Range<u32> = 0xc_0000..0x10_0000;
/// Granularity of the firmware region's attributes.
const PAM_BLOCK: u32 = 0x4000;

/// The machine's physical memory.
pub struct PhysMap {
    /// RAM: the guest's own, or under a monitor the whole machine's, in which the guest's lies.
    pub ram: Ram,
    /// Which machine frame each guest frame is.
    p2m: P2m,
    /// Guest frames whose writes are reported to a monitor.
    pub traces: Traces,
    /// Page-table entries that walks have written accessed and dirty bits to.
    entries_written: u64,
    /// Machine frames that hold copies of the guest's ROM, each with the page that was copied.
    rom_copies: Vec<(MachineAddr, GuestPhys)>,
    /// The ROM content of C0000-FFFFF.
    low_rom: Vec<u8>,
    /// The ROM that ends at 4 GiB.
    high_rom: Vec<u8>,
    pam: [Pam; ((FIRMWARE.end - FIRMWARE.start) / PAM_BLOCK) as usize],
    /// And-mask of physical addresses: bit 20 clear while the A20 gate is closed, and the processor heeds it.
    a20_mask: u32,
    /// Whether the gate is closed, and whether the processor does not heed it.
    a20_closed: bool,
    a20_blocked: bool,
    /// Pages at which chips answer, besides the VGA's window.
    chip_pages: [Option<GuestPhys>; 2],
    /// First and last address, exclusive, of a chip's memory that the board has beside those; equal when it
    /// has none.
    chip_memory: (u32, u32),
    /// Counts changes of what answers at some page; translations cached under an older count are invalid.
    epoch: u32,
}

/// Physical memory in a saved state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saved {
    ram: mem::Saved,
    #[serde(with = "crate::saved::bytes")]
    low_rom: Vec<u8>,
    #[serde(with = "crate::saved::bytes")]
    high_rom: Vec<u8>,
    pam: [Pam; 16],
    /// As the gate has it.
    a20_mask: u32,
    chip_pages: [Option<GuestPhys>; 2],
    chip_memory: (u32, u32),
}

impl Saved {
    /// Bytes of RAM.
    pub fn ram_size(&self) -> u32 {
        self.ram.size()
    }
}

/// The and-mask of physical addresses.
fn a20_mask(low: bool) -> u32 {
    if low { !(1 << 20) } else { !0 }
}

impl PhysMap {
    /// A map with `ram`, no ROM, and the firmware region open as RAM.
    pub fn new(ram: Ram) -> Self {
        Self {
            p2m: P2m::identity(ram.size()),
            traces: Traces::default(),
            entries_written: 0,
            rom_copies: Vec::new(),
            ram,
            low_rom: vec![0xff; (FIRMWARE.end - FIRMWARE.start) as usize],
            high_rom: Vec::new(),
            pam: [Pam::all(); 16],
            a20_mask: !0,
            a20_closed: false,
            a20_blocked: false,
            chip_pages: [None; 2],
            chip_memory: (0, 0),
            epoch: 0,
        }
    }

    /// Installs a system ROM: `image` ends at 4 GiB, its last 128 KiB also at 1 MiB, where reads now come
    /// from ROM until the firmware shadows it.
    ///
    /// # Errors
    /// [`Error::Usage`] for an image that is empty, over 16 MiB, or not a multiple of 4 KiB.
    pub fn install_bios(&mut self, image: &[u8]) -> Result<()> {
        let fits =
            !image.is_empty() && image.len() <= 16 << 20 && image.len().is_multiple_of(PAGE_SIZE as usize);
        if !fits {
            return Err(Error::Usage(format!(
                "a BIOS image of {} bytes cannot be mapped: it must be a multiple of 4 KiB, up to 16 MiB",
                image.len()
            )));
        }
        self.high_rom = image.to_vec();
        let shown = &image[image.len().saturating_sub(0x2_0000)..];
        self.install_rom(FIRMWARE.end - shown.len() as u32, shown)
    }

    /// Installs an option ROM (a VGA BIOS, say) at `at` in C0000-FFFFF.
    ///
    /// # Errors
    /// [`Error::Usage`] when it does not fit there.
    pub fn install_rom(&mut self, at: u32, image: &[u8]) -> Result<()> {
        let end = at as usize + image.len();
        if at < FIRMWARE.start || end > FIRMWARE.end as usize {
            return Err(Error::Usage(format!("a ROM of {} bytes does not fit at {at:#x}", image.len())));
        }
        let base = FIRMWARE.start as usize;
        self.low_rom[at as usize - base..end - base].copy_from_slice(image);
        for block in (at / PAM_BLOCK)..=((end as u32 - 1) / PAM_BLOCK) {
            self.pam[(block - FIRMWARE.start / PAM_BLOCK) as usize] = Pam::empty();
        }
        self.epoch += 1;
        Ok(())
    }

    /// Pages of C0000-FFFFF that reads find a ROM at, whether or not there is something in it.
    pub fn rom_pages(&self) -> usize {
        let shown = self.pam.iter().filter(|pam| !pam.contains(Pam::READ_RAM));
        shown.count() * (PAM_BLOCK / PAGE_SIZE) as usize
    }

    /// Moves the guest's RAM into `machine`, each frame to where `p2m` says. Anything cached of this map
    /// becomes invalid.
    pub fn relocate(&mut self, mut machine: Ram, p2m: P2m) {
        let zero = [0; PAGE_SIZE as usize];
        for (from, to) in self.p2m.frames().zip(p2m.frames()) {
            let page = self.ram.page(from);
            // Memory that was never written stays untouched: the host need not provide it.
            if *page != zero {
                machine.write(to, page);
            }
        }
        self.ram = machine;
        self.p2m = p2m;
        self.epoch += 1;
    }

    /// Where in the machine the guest's frames are.
    #[inline(always)]
    pub fn p2m(&self) -> &P2m {
        &self.p2m
    }

    /// Where in the machine's memory the guest's `at`, an address in its RAM, is.
    #[inline(always)]
    pub fn machine(&self, at: GuestPhys) -> MachineAddr {
        self.p2m.machine(at)
    }

    /// `frame` is a copy of the ROM page of `original` from now on.
    pub fn note_rom_copy(&mut self, frame: MachineAddr, original: GuestPhys) {
        self.rom_copies.push((frame, original));
    }

    /// There are no copies of ROM pages any more.
    pub fn forget_rom_copies(&mut self) {
        self.rom_copies.clear();
    }

    /// Where in the guest's memory the machine's byte at `at` is: in its RAM, or in its ROM, of which that is
    /// a copy.
    pub fn guest_address(&self, at: MachineAddr) -> Option<GuestPhys> {
        let original = |frame: MachineAddr| self.rom_copies.iter().find(|(copy, _)| *copy == frame);
        let page = MachineAddr(at.0 & !PAGE_OFFSET);
        let of_rom = || Some(original(page)?.1.offset(at.0 & PAGE_OFFSET));
        self.p2m.guest(at).or_else(of_rom)
    }

    /// Stores a page-table entry with accessed or dirty bits set, for a walk. What a walk sets is no write of
    /// the guest's, so no trace notes it.
    pub fn write_used(&mut self, at: GuestPhys, entry: u32) {
        self.ram.write(self.p2m.machine(at), &entry.to_le_bytes());
        self.entries_written += 1;
    }

    /// How often [`PhysMap::write_used`] was called.
    pub fn entries_written(&self) -> u64 {
        self.entries_written
    }

    /// Stores `bytes`, within one page of the guest's RAM, for whoever writes.
    #[inline]
    pub fn write_ram(&mut self, at: GuestPhys, bytes: &[u8]) {
        self.ram.write(self.p2m.machine(at), bytes);
        self.traces.note(at, bytes.len() as u32);
    }

    /// Sets where accesses to `C0000 + 16 KiB * block` go.
    pub fn set_pam(&mut self, block: usize, pam: Pam) {
        if self.pam[block] != pam {
            self.pam[block] = pam;
            self.epoch += 1;
        }
    }

    /// Sets the pages at which chips answer, in front of RAM and ROM.
    pub fn set_chip_pages(&mut self, pages: [Option<GuestPhys>; 2]) {
        if self.chip_pages != pages {
            self.chip_pages = pages;
            self.epoch += 1;
        }
    }

    /// Gives a chip's memory the addresses `range`, whole pages.
    pub fn set_chip_memory(&mut self, range: std::ops::Range<u32>) {
        self.chip_memory = (range.start, range.end);
        self.epoch += 1;
    }

    /// The whole state: contents of RAM and ROM, and what answers where.
    pub fn save(&self) -> Saved {
        Saved {
            ram: self.ram.save(&self.p2m),
            low_rom: self.low_rom.clone(),
            high_rom: self.high_rom.clone(),
            pam: self.pam,
            a20_mask: a20_mask(self.a20_closed),
            chip_pages: self.chip_pages,
            chip_memory: self.chip_memory,
        }
    }

    /// The state without contents: only what answers where.
    pub fn save_gates(&self) -> Saved {
        let ram = mem::Saved::nothing(self.ram.size());
        Saved {
            ram,
            low_rom: Vec::new(),
            high_rom: Vec::new(),
            pam: self.pam,
            a20_mask: a20_mask(self.a20_closed),
            chip_pages: self.chip_pages,
            chip_memory: self.chip_memory,
        }
    }

    /// Restores what [`PhysMap::save_gates`] gave; contents stay. Anything cached of this map becomes
    /// invalid. Whether the processor heeds the A20 gate is left to [`PhysMap::block_a20`].
    pub fn restore_gates(&mut self, saved: &Saved) {
        self.pam = saved.pam;
        self.set_a20(saved.a20_mask == !0);
        self.chip_pages = saved.chip_pages;
        self.chip_memory = saved.chip_memory;
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// Restores what [`PhysMap::save`] gave. Anything cached of this map becomes invalid.
    ///
    /// # Errors
    /// [`Error::Usage`] when `saved` is of a map of another size.
    pub fn restore(&mut self, saved: &Saved) -> Result<()> {
        if saved.low_rom.len() != self.low_rom.len() {
            return Err(Error::Usage("the saved firmware region has another size".into()));
        }
        self.ram.restore(&saved.ram, &self.p2m)?;
        self.low_rom.clone_from(&saved.low_rom);
        self.high_rom.clone_from(&saved.high_rom);
        self.restore_gates(saved);
        Ok(())
    }

    /// Opens or closes the A20 gate.
    pub fn set_a20(&mut self, open: bool) {
        self.a20_closed = !open;
        self.drive_a20();
    }

    /// Makes the processor heed the A20 gate no longer, or again.
    pub fn block_a20(&mut self, blocked: bool) {
        self.a20_blocked = blocked;
        self.drive_a20();
    }

    /// Whether the A20 gate is closed, whether or not the processor heeds it.
    pub fn a20_closed(&self) -> bool {
        self.a20_closed
    }

    fn drive_a20(&mut self) {
        let mask = a20_mask(self.a20_closed && !self.a20_blocked);
        if self.a20_mask != mask {
            self.a20_mask = mask;
            self.epoch += 1;
        }
    }

    /// The address that the bus sees for `at`: with the A20 gate closed, bit 20 is low.
    #[inline(always)]
    pub fn gated(&self, at: GuestPhys) -> GuestPhys {
        GuestPhys(at.0 & self.a20_mask)
    }

    /// Moves on when what answers at some page changes.
    #[inline(always)]
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// What answers at the page of `at` (already gated).
    pub fn backing(&self, at: GuestPhys) -> Backing {
        let both = |target| Backing { read: target, write: target };
        let in_chip_memory = (self.chip_memory.0..self.chip_memory.1).contains(&at.0);
        if VGA_WINDOW.contains(&at.0) || self.chip_pages.contains(&Some(at.page())) || in_chip_memory {
            both(Target::Chip)
        } else if FIRMWARE.contains(&at.0) {
            let pam = self.pam[((at.0 - FIRMWARE.start) / PAM_BLOCK) as usize];
            let ram = if self.p2m.holds(at.page(), PAGE_SIZE) { Target::Ram } else { Target::Open };
            Backing {
                read: if pam.contains(Pam::READ_RAM) { ram } else { Target::Rom },
                write: if pam.contains(Pam::WRITE_RAM) { ram } else { Target::Open },
            }
        } else if self.p2m.holds(at.page(), PAGE_SIZE) {
            both(Target::Ram)
        } else if self.high_rom_offset(at).is_some() {
            Backing { read: Target::Rom, write: Target::Open }
        } else {
            both(Target::Open)
        }
    }

    /// The ROM byte at `at`; ones where there is none.
    pub fn rom_byte(&self, at: GuestPhys) -> u8 {
        if FIRMWARE.contains(&at.0) {
            self.low_rom[(at.0 - FIRMWARE.start) as usize]
        } else {
            self.high_rom_offset(at).map_or(0xff, |i| self.high_rom[i])
        }
    }

    fn high_rom_offset(&self, at: GuestPhys) -> Option<usize> {
        let below_top = (1u64 << 32) - u64::from(at.0);
        (self.high_rom.len() as u64).checked_sub(below_top).map(|i| i as usize)
    }

    /// Copies what a bus master or an observer reads at `at` into `buf`: RAM or ROM, ones elsewhere.
    pub fn read(&self, at: GuestPhys, buf: &mut [u8]) {
        let mut at = at;
        let mut rest = buf;
        while !rest.is_empty() {
            let in_page = ((PAGE_SIZE - at.page_offset()) as usize).min(rest.len());
            let (now, later) = rest.split_at_mut(in_page);
            self.read_in_page(at, now);
            at = at.offset(in_page as u32);
            rest = later;
        }
    }

    fn read_in_page(&self, at: GuestPhys, buf: &mut [u8]) {
        match self.backing(at).read {
            Target::Ram => self.ram.read(self.p2m.machine(at), buf),
            Target::Rom => (0u32..).zip(buf).for_each(|(n, b)| *b = self.rom_byte(at.offset(n))),
            Target::Chip | Target::Open => buf.fill(0xff),
        }
    }

    /// Writes what a bus master stores at `at`: into RAM, lost elsewhere.
    pub fn write(&mut self, at: GuestPhys, data: &[u8]) {
        for (i, b) in data.iter().enumerate() {
            let a = at.offset(i as u32);
            if self.backing(a).write == Target::Ram {
                self.write_ram(a, &[*b]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> PhysMap {
        PhysMap::new(Ram::new(1 << 20).unwrap())
    }

    #[test]
    fn a_bios_shows_twice_and_is_read_only_until_shadowed() {
        let mut map = map();
        let mut image = vec![0u8; 0x2_0000];
        image[0x1_fff0] = 0xea;
        map.install_bios(&image).unwrap();
        let mut b = [0];
        for at in [0xffff_fff0, 0xf_fff0] {
            map.read(GuestPhys(at), &mut b);
            assert_eq!(b[0], 0xea);
        }
        map.write(GuestPhys(0xf_fff0), &[1]);
        map.read(GuestPhys(0xf_fff0), &mut b);
        assert_eq!(b[0], 0xea);
        map.set_pam(15, Pam::all());
        map.write(GuestPhys(0xf_fff0), &[1]);
        map.read(GuestPhys(0xf_fff0), &mut b);
        assert_eq!(b[0], 1);
    }

    #[test]
    fn a_closed_gate_wraps_the_second_megabyte() {
        let mut map = map();
        map.set_a20(false);
        assert_eq!(map.gated(GuestPhys(0x10_0010)), GuestPhys(0x10));
        map.set_a20(true);
        assert_eq!(map.gated(GuestPhys(0x10_0010)), GuestPhys(0x10_0010));
    }

    #[test]
    fn a_chip_answers_at_its_page_in_front_of_ram() {
        let mut map = map();
        let epoch = map.epoch();
        map.set_chip_pages([Some(GuestPhys(0x2000)), Some(GuestPhys(0xfec0_0000))]);
        assert_ne!(map.epoch(), epoch);
        for (at, target) in [(0x1fff, Target::Ram), (0x2fff, Target::Chip), (0xfec0_0010, Target::Chip)] {
            assert_eq!(map.backing(GuestPhys(at)).read, target);
        }
    }

    #[test]
    fn a_bios_of_no_page_multiple_is_refused() {
        assert!(map().install_bios(&[0; 100]).is_err());
    }
}
