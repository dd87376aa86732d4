//! The bare machine's world: what the processor reaches through the seam [`Env`]: the TLB and the page
//! walker, the physical memory map, and the board.

use super::board::Board;
use super::breakpoints::DataStops;
use super::space::{Flushes, MachineTables, Parked, Space};
use super::tables::LiveTables;
use crate::addr::{GuestPhys, Linear, MachineAddr, PAGE_OFFSET, PAGE_SIZE};
use crate::bus::Width;
use crate::bus::phys::{Backing, PhysMap, Target};
use crate::cpu::control::{Dr7, Watch};
use crate::cpu::vmx::refusal::{EntrySite, Refusal, RefusedEntry};
use crate::cpu::{Cpu, Cr0, Cr4, Eflags, Fault, Packed, Word};
use crate::event::{Event, Sink};
use crate::exec::{Env, vmx};
use crate::interp::CodeEnv;
use crate::mmu::pae;
use crate::mmu::paging::{Access, Mapping, walk};
use crate::mmu::tlb::{Class, Direct, Tlb};
use crate::mmu::two_dimensional::Refused;
use crate::report::Walks;

/// Which events a sink is told of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    /// Instructions.
    pub insn: bool,
    /// Exceptions.
    pub fault: bool,
    /// Hardware interrupts.
    pub interrupt: bool,
    /// Port accesses.
    pub port: bool,
    /// Memory accesses of instructions.
    pub memory: bool,
    /// Exits to a monitor.
    pub exit: bool,
}

/// An observer and what it wants.
pub struct Watcher {
    /// What it wants.
    pub wants: Wants,
    /// Where it goes.
    pub sink: Box<dyn Sink>,
}

/// Memory and chips, as the processor sees them.
pub struct World {
    /// The translation look-aside buffer.
    pub tlb: Tlb,
    /// Physical memory.
    pub map: PhysMap,
    /// The chips.
    pub board: Board,
    /// Software interrupts by vector.
    pub software_interrupts: [u64; 256],
    /// Reads and writes by port.
    pub ports: Vec<[u64; 2]>,
    pub(super) watcher: Option<Watcher>,
    /// The last VM entry that was refused; no part of the machine's state.
    pub(super) refused_entry: Option<RefusedEntry>,
    /// Where a debugger stops data accesses.
    pub(super) data_stops: DataStops,
    map_epoch: u32,
    /// Each data access is to be looked at.
    pub(super) careful: bool,
    break_hits: u32,
    chips_touched: bool,
    /// Moves on with whatever may have changed a chip.
    pub(super) contacts: u64,
    /// An access of the guest's met something else than RAM.
    reached_chip: bool,
    /// The interrupt request line, as it was after the board was last spoken to.
    pub(super) intr: bool,
    /// Whose memory the processor at hand sees.
    pub(super) space: Space,
    /// What belongs to the other space meanwhile.
    pub(super) parked: Parked,
    /// Physical addresses of the processor at hand are not machine addresses: the guest's under a monitor.
    pub(super) scattered: bool,
    /// What the guest flushed of its TLB, for a monitor.
    pub(super) flushes: Option<Flushes>,
    /// What extended page tables have refused, until the VM exit is completed.
    pub(super) refused: Option<Refused>,
    /// Two-dimensional walks so far.
    pub nested: Walks,
}

impl World {
    /// A world of `map` and `board`, with nothing cached.
    pub fn new(map: PhysMap, board: Board) -> Self {
        Self {
            tlb: Tlb::default(),
            map_epoch: map.epoch(),
            map,
            board,
            software_interrupts: [0; 256],
            ports: vec![[0; 2]; 0x1_0000],
            watcher: None,
            refused_entry: None,
            data_stops: DataStops::default(),
            careful: false,
            break_hits: 0,
            chips_touched: false,
            contacts: 0,
            reached_chip: false,
            intr: false,
            space: Space::Guest,
            parked: Parked::default(),
            scattered: false,
            flushes: None,
            refused: None,
            nested: Walks::default(),
        }
    }

    /// To be called after the board was spoken to: the interrupt line, and what is cached of the memory map.
    pub fn settle(&mut self) {
        self.contacts += 1;
        self.intr = self.board.interrupt_requested();
        if self.map.epoch() != self.map_epoch {
            self.map_epoch = self.map.epoch();
            self.tlb.flush(true);
        }
    }

    /// Tells the board and the memory map where the processor has its local APIC.
    pub(super) fn place_apic(&mut self, cpu: &Cpu) {
        self.board.set_apic_base(cpu.msrs.apic_base, &mut self.map);
        self.settle();
    }

    /// To be called after memory and the board were restored: nothing cached counts any more.
    pub(super) fn settle_restored(&mut self, tlb: &[crate::mmu::tlb::Saved]) {
        self.map_epoch = self.map.epoch();
        self.tlb.restore(tlb);
        (self.careful, self.break_hits, self.chips_touched) = (false, 0, false);
        self.settle();
    }

    /// The processor's walk of the guest's page tables.
    fn walk_tables(&mut self, cpu: &Cpu, at: Linear, access: Access) -> Result<Mapping, Fault> {
        let mut tables = LiveTables::new(&mut self.map, &mut self.board, cpu.now);
        let mapping = walk(cpu, &mut tables, at, access);
        if tables.attention {
            self.heed_chip(cpu);
        }
        let mapping = mapping?;
        Ok(Mapping { frame: self.map.gated(mapping.frame), ..mapping })
    }

    /// A write to a chip may have changed the interrupt line or the time of the next event.
    pub(super) fn heed_chip(&mut self, cpu: &Cpu) {
        self.settle();
        self.chips_touched = true;
        cpu.leave.set(true);
    }

    /// Forgets breakpoints hit by what was not an instruction's own access.
    pub(super) fn clear_break_hits(&mut self) {
        self.break_hits = 0;
    }

    /// Whether an access of the guest's met something else than RAM since this was last asked.
    pub fn take_reached_chip(&mut self) -> bool {
        std::mem::take(&mut self.reached_chip)
    }

    fn is_watched(&self) -> bool {
        !self.data_stops.is_empty() || self.watcher.as_ref().is_some_and(|w| w.wants.memory)
    }

    /// What may go straight to RAM in `frame`.
    fn direct(&self, frame: GuestPhys) -> Direct {
        // Under a monitor the guest's own TLB serves emulation only, which has no need to be fast.
        if self.careful || self.is_watched() || self.scattered {
            return Direct { read: false, write: false };
        }
        let backing = self.backing(frame);
        let read = backing.read == Target::Ram;
        Direct { read, write: read && self.writes_directly(frame, backing.write) }
    }

    /// Neither decoded code nor who looks for written pages has to notice a write to `frame`.
    fn writes_directly(&self, frame: GuestPhys, to: Target) -> bool {
        let (ram, at) = (&self.map.ram, MachineAddr(frame.0));
        to == Target::Ram && !ram.has_code(at) && ram.is_written(at)
    }

    fn translate(&mut self, cpu: &Cpu, at: Linear, access: Access) -> Result<GuestPhys, Fault> {
        if let Some(phys) = self.tlb.lookup(at, access.into()) {
            return Ok(phys);
        }
        let mapping = match (self.space, vmx::ept_pointer(cpu)) {
            (Space::Guest, None) => self.walk_tables(cpu, at, access)?,
            (Space::Machine, None) => walk(cpu, &mut MachineTables(&mut self.map.ram), at, access)?,
            (_, Some(pointer)) => self.walk_two_dimensions(cpu, pointer, at, access)?,
        };
        if self.map.ram.code_changed() {
            // An accessed or dirty bit went into a page table that lies among code.
            cpu.leave.set(true);
        }
        let direct = self.direct(mapping.frame);
        self.tlb.fill(at, &mapping, cpu.cr0.contains(Cr0::WP), direct);
        Ok(GuestPhys(mapping.frame.0 | at.page_offset()))
    }

    /// What answers at `at` for the processor at hand: a real one under a monitor reaches memory only.
    fn backing(&self, at: GuestPhys) -> Backing {
        match self.space {
            Space::Guest => self.map.backing(at),
            Space::Machine => Backing { read: Target::Ram, write: Target::Ram },
        }
    }

    /// The physical address `at` behind the A20 gate, which is the guest's.
    fn on_the_bus(&self, at: u32) -> GuestPhys {
        match self.space {
            Space::Guest => self.map.gated(GuestPhys(at)),
            Space::Machine => GuestPhys(at),
        }
    }

    /// Where `at`, an address in RAM, is.
    #[inline(always)]
    fn ram_address(&self, at: GuestPhys) -> MachineAddr {
        if self.scattered { self.map.machine(at) } else { MachineAddr(at.0) }
    }

    fn read_phys(&mut self, cpu: &Cpu, at: GuestPhys, width: Width) -> u32 {
        let target = self.backing(at).read;
        self.reached_chip |= target != Target::Ram;
        match target {
            Target::Ram => {
                let at = self.ram_address(at).0 as usize;
                let ram = self.map.ram.bytes();
                match width {
                    Width::Byte => u8::read(ram, at).map(u32::from),
                    Width::Word => u16::read(ram, at).map(u32::from),
                    Width::Dword => u32::read(ram, at),
                }
                .unwrap_or(width.mask())
            }
            Target::Rom => {
                (0..width.bytes()).fold(0, |v, n| v | u32::from(self.map.rom_byte(at.offset(n))) << (8 * n))
            }
            Target::Chip => {
                self.contacts += 1;
                self.board.mmio_read(at, width, cpu.now) & width.mask()
            }
            Target::Open => width.mask(),
        }
    }

    fn write_phys(&mut self, cpu: &Cpu, at: GuestPhys, width: Width, value: u32) {
        let target = self.backing(at).write;
        self.reached_chip |= target != Target::Ram;
        match target {
            Target::Ram => {
                let bytes = value.to_le_bytes();
                let bytes = &bytes[..width.bytes() as usize];
                match self.space {
                    Space::Guest => self.map.write_ram(at, bytes),
                    Space::Machine => self.map.ram.write(MachineAddr(at.0), bytes),
                }
                if self.map.ram.code_changed() {
                    cpu.leave.set(true);
                }
            }
            Target::Chip => {
                self.contacts += 1;
                if self.board.mmio_write(at, width, value & width.mask(), cpu.now) {
                    self.heed_chip(cpu);
                }
            }
            Target::Rom | Target::Open => {}
        }
    }

    /// Alignment checks and data breakpoints.
    #[cold]
    fn inspect(&mut self, cpu: &Cpu, at: Linear, bytes: u32, access: Access) -> Result<(), Fault> {
        if access.user {
            cpu.check_alignment(at, bytes)?;
        }
        self.break_hits |= hits(cpu, at.0, bytes, |w| match w {
            Watch::Write => access.write,
            Watch::Access => true,
            Watch::Code | Watch::Io => false,
        });
        Ok(())
    }

    #[cold]
    #[inline(never)]
    fn load_slow<W: Word>(&mut self, cpu: &Cpu, at: Linear, access: Access) -> Packed {
        self.load_checked::<W>(cpu, at, access).into()
    }

    #[inline(always)]
    fn load_checked<W: Word>(&mut self, cpu: &Cpu, at: Linear, access: Access) -> Result<u32, Fault> {
        if self.careful {
            self.inspect(cpu, at, W::BYTES, Access::data(access.user, false))?;
        }
        let phys = self.translate(cpu, at, access)?;
        let value = if crosses(at, W::BYTES) {
            let rest = PAGE_SIZE - at.page_offset();
            let next = self.translate(cpu, at.offset(rest), access)?;
            (0..W::BYTES).fold(0, |v, n| {
                let byte_at = if n < rest { phys.offset(n) } else { next.offset(n - rest) };
                v | self.read_phys(cpu, byte_at, Width::Byte) << (8 * n)
            })
        } else {
            if self.direct(phys.page()).read {
                self.tlb.grant_read(at);
            }
            self.read_phys(cpu, phys, W::WIDTH)
        };
        self.tell_memory(cpu, at, phys, W::BYTES, value, false);
        Ok(value)
    }

    #[cold]
    #[inline(never)]
    fn store_slow<W: Word>(&mut self, cpu: &Cpu, at: Linear, value: W, user: bool) -> Result<(), Fault> {
        let access = Access::write(user);
        if self.careful {
            self.inspect(cpu, at, W::BYTES, access)?;
        }
        let phys = self.translate(cpu, at, access)?;
        if crosses(at, W::BYTES) {
            let rest = PAGE_SIZE - at.page_offset();
            let next = self.translate(cpu, at.offset(rest), access)?;
            for n in 0..W::BYTES {
                let byte_at = if n < rest { phys.offset(n) } else { next.offset(n - rest) };
                self.write_phys(cpu, byte_at, Width::Byte, value.u() >> (8 * n));
            }
        } else {
            self.write_phys(cpu, phys, W::WIDTH, value.u());
            if self.direct(phys.page()).write {
                self.tlb.grant_write(at);
            }
        }
        self.tell_memory(cpu, at, phys, W::BYTES, value.u(), true);
        Ok(())
    }

    fn tell_memory(&mut self, cpu: &Cpu, at: Linear, phys: GuestPhys, width: u32, value: u32, write: bool) {
        self.data_stops.note(at, width, write);
        if let Some(w) = self.watcher.as_mut().filter(|w| w.wants.memory) {
            let phys = match self.space {
                Space::Guest => Some(phys),
                // What the real processor reads of the monitor's own, its descriptor tables say, is none of
                // the guest's accesses.
                Space::Machine => self.map.guest_address(MachineAddr(phys.0)),
            };
            if let Some(phys) = phys {
                w.sink.record(cpu.when(), &Event::Memory { at, phys, width, value, write });
            }
        }
    }

    fn tell_port(&mut self, cpu: &Cpu, port: u16, width: Width, value: u32, write: bool) {
        self.ports[usize::from(port)][usize::from(write)] += 1;
        if self.careful && cpu.cr4.contains(Cr4::DE) {
            self.break_hits |= hits(cpu, u32::from(port), width.bytes(), |w| w == Watch::Io);
        }
        if let Some(w) = self.watcher.as_mut().filter(|w| w.wants.port) {
            let width = width.bytes();
            w.sink.record(cpu.when(), &Event::Port { port, width, value, write });
        }
    }
}

/// DR6 bits of the enabled breakpoints of a kind that `bytes` at `at` touch.
fn hits(cpu: &Cpu, at: u32, bytes: u32, kind: impl Fn(Watch) -> bool) -> u32 {
    let dr7 = Dr7(cpu.dr[7]);
    (0..4)
        .filter(|&n| dr7.enabled(n) && kind(dr7.watch(n)))
        .filter(|&n| {
            let len = dr7.len(n);
            let start = cpu.dr[n] & !(len - 1);
            u64::from(at) < u64::from(start) + u64::from(len)
                && u64::from(start) < u64::from(at) + u64::from(bytes)
        })
        .fold(0, |bits, n| bits | 1 << n)
}

#[inline(always)]
fn crosses(at: Linear, bytes: u32) -> bool {
    (at.0 & PAGE_OFFSET) + bytes > PAGE_SIZE
}

impl Env for World {
    fn restarts(&self) -> bool {
        self.space == Space::Machine
    }

    #[inline(always)]
    fn load<W: Word>(&mut self, cpu: &Cpu, at: Linear, user: bool) -> Result<W, Fault> {
        match self.quick_load(cpu, at, user) {
            Some(v) => Ok(v),
            None => self.load_slow::<W>(cpu, at, Access::read(user)).unpack().map(W::from_u32),
        }
    }

    #[inline(always)]
    fn load_for_update<W: Word>(&mut self, cpu: &Cpu, at: Linear, user: bool) -> Result<W, Fault> {
        match self.quick_load_for_update(cpu, at, user) {
            Some(v) => Ok(v),
            None => self.load_slow::<W>(cpu, at, Access::write(user)).unpack().map(W::from_u32),
        }
    }

    #[inline(always)]
    fn store<W: Word>(&mut self, cpu: &Cpu, at: Linear, value: W, user: bool) -> Result<(), Fault> {
        if self.quick_store(cpu, at, value, user) {
            return Ok(());
        }
        self.store_slow(cpu, at, value, user)
    }

    #[inline(always)]
    fn quick_load<W: Word>(&mut self, _: &Cpu, at: Linear, user: bool) -> Option<W> {
        let at = self.tlb.fast(at, W::BYTES, Class::new(user, false))?;
        W::read(self.map.ram.bytes(), at)
    }

    #[inline(always)]
    fn quick_load_for_update<W: Word>(&mut self, _: &Cpu, at: Linear, user: bool) -> Option<W> {
        let at = self.tlb.fast(at, W::BYTES, Class::new(user, true))?;
        W::read(self.map.ram.bytes(), at)
    }

    #[inline(always)]
    fn quick_store<W: Word>(&mut self, _: &Cpu, at: Linear, value: W, user: bool) -> bool {
        match self.tlb.fast(at, W::BYTES, Class::new(user, true)) {
            Some(at) => value.write(self.map.ram.bytes_unmarked_mut(), at),
            None => false,
        }
    }

    fn probe(&mut self, cpu: &Cpu, at: Linear, len: u32, user: bool, write: bool) -> Result<(), Fault> {
        let access = Access::data(user, write);
        self.translate(cpu, at, access)?;
        if crosses(at, len) {
            self.translate(cpu, at.offset(PAGE_SIZE - at.page_offset()), access)?;
        }
        Ok(())
    }

    fn port_in(&mut self, cpu: &Cpu, port: u16, width: Width) -> u32 {
        if self.space == Space::Machine {
            self.parked.escapes += 1;
            return width.mask();
        }
        let value = self.board.port_read(port, width, cpu.now, &mut self.map);
        self.settle();
        self.chips_touched = true;
        cpu.leave.set(true);
        self.tell_port(cpu, port, width, value, false);
        value
    }

    fn port_out(&mut self, cpu: &Cpu, port: u16, width: Width, value: u32) {
        if self.space == Space::Machine {
            self.parked.escapes += 1;
            return;
        }
        self.board.port_write(port, width, value, cpu.now, &mut self.map);
        self.settle();
        self.chips_touched = true;
        cpu.leave.set(true);
        self.tell_port(cpu, port, width, value, true);
    }

    fn flush_tlb(&mut self, globals: bool) {
        self.tlb.flush(globals);
        // What the real processor drops by itself under a monitor is no affair of the guest's tables.
        if let (Space::Guest, Some(flushes)) = (self.space, &mut self.flushes) {
            flushes.note_all(globals);
        }
    }

    fn invalidate_page(&mut self, at: Linear) {
        self.tlb.invalidate(at);
        if let (Space::Guest, Some(flushes)) = (self.space, &mut self.flushes) {
            flushes.note_page(at);
        }
    }

    fn load_pointers(&mut self, cpu: &Cpu, cr3: u32) -> Result<[u64; 4], Fault> {
        match vmx::ept_pointer(cpu) {
            None => pae::load_pointers(&self.tables(cpu.now), cr3).ok_or(Fault::GP0),
            Some(pointer) => self.load_pointers_nested(cpu, pointer, cr3),
        }
    }

    fn take_refused(&mut self) -> Option<Refused> {
        self.refused.take()
    }

    fn move_run(&mut self, cpu: &Cpu, from: Linear, to: Linear, bytes: u32, step: u32) -> bool {
        let from = self.tlb.fast(from, bytes, Class::new(cpu.user, false));
        let to = self.tlb.fast(to, bytes, Class::new(cpu.user, true));
        let (Some(from), Some(to), bytes) = (from, to, bytes as usize) else { return false };
        let ram = self.map.ram.bytes_unmarked_mut();
        if from + bytes > ram.len() || to + bytes > ram.len() {
            return false;
        }
        if to > from && to < from + bytes {
            // Overlapping upwards: what was just written is read again, a pattern repeats.
            let step = step as usize;
            for n in (0..bytes).step_by(step) {
                ram.copy_within(from + n..from + n + step, to + n);
            }
        } else {
            ram.copy_within(from..from + bytes, to);
        }
        true
    }

    fn fill_run<W: Word>(&mut self, cpu: &Cpu, to: Linear, bytes: u32, value: W) -> bool {
        let Some(to) = self.tlb.fast(to, bytes, Class::new(cpu.user, true)) else { return false };
        let Some(ram) = self.map.ram.bytes_unmarked_mut().get_mut(to..to + bytes as usize) else {
            return false;
        };
        let pattern = value.u().to_le_bytes();
        for item in ram.chunks_exact_mut(W::BYTES as usize) {
            item.copy_from_slice(&pattern[..W::BYTES as usize]);
        }
        true
    }

    fn read_physical(&mut self, cpu: &Cpu, at: u32) -> u32 {
        self.read_phys(cpu, self.on_the_bus(at), Width::Dword)
    }

    fn write_physical(&mut self, cpu: &Cpu, at: u32, value: u32) {
        self.write_phys(cpu, self.on_the_bus(at), Width::Dword, value);
    }

    fn moved_apic(&mut self, cpu: &Cpu) {
        self.place_apic(cpu);
        self.chips_touched = true;
        cpu.leave.set(true);
    }

    fn numeric_error(&mut self, _: &Cpu, asserted: bool) -> bool {
        if self.space == Space::Machine {
            self.parked.escapes += 1;
            return true;
        }
        let ignored = self.board.numeric_error(asserted);
        self.settle();
        self.chips_touched = true;
        ignored
    }

    fn vmx_transition(&mut self, cpu: &Cpu) {
        // Translations carry no tags here. The guest's processor has one TLB for a hypervisor and its guests; the
        // real machine's holds those of one guest alone, which a VPID lets outlast entries and exits.
        if self.space == Space::Guest || !vmx::has_vpid(cpu) {
            self.flush_tlb(true);
        }
    }

    fn a20m(&self) -> bool {
        self.space == Space::Guest && self.map.a20_closed()
    }

    fn block_a20m(&mut self, cpu: &Cpu, blocked: bool) {
        if self.space == Space::Guest {
            self.map.block_a20(blocked);
            self.settle();
            self.chips_touched = true;
            cpu.leave.set(true);
        }
    }

    fn refused_entry(&mut self, cpu: &Cpu, from: EntrySite, refusal: Refusal) {
        self.note_refused_entry(cpu, from, refusal);
    }

    fn took_software_interrupt(&mut self, vector: u8) {
        self.software_interrupts[usize::from(vector)] += 1;
    }
}

impl CodeEnv for World {
    fn fetch_address(&mut self, cpu: &Cpu, at: Linear) -> Result<GuestPhys, Fault> {
        self.translate(cpu, at, Access::fetch(cpu.user))
    }

    #[inline(always)]
    fn fetch_epoch(&self) -> u32 {
        self.tlb.epoch()
    }

    fn read_code(&mut self, cpu: &Cpu, at: GuestPhys, buf: &mut [u8]) {
        if self.space == Space::Machine {
            self.map.ram.read(MachineAddr(at.0), buf);
        } else if self.map.backing(at).read == Target::Chip {
            for (n, b) in buf.iter_mut().enumerate() {
                *b = self.board.mmio_read(at.offset(n as u32), Width::Byte, cpu.now) as u8;
            }
        } else {
            self.map.read(at, buf);
        }
    }

    fn mark_code(&mut self, at: GuestPhys, len: u32) -> bool {
        match self.backing(at).read {
            Target::Ram => {
                let machine = self.ram_address(at);
                if self.map.ram.mark_code(machine, len) {
                    self.tlb.protect_frame(at);
                    // Of the two TLBs under a monitor only the real machine's lets writes pass without a
                    // look.
                    self.parked.tlb.protect_frame(GuestPhys(machine.0));
                }
                true
            }
            // A ROM changes only with the memory map.
            Target::Rom => true,
            Target::Chip | Target::Open => false,
        }
    }

    #[inline(always)]
    fn generation(&self, at: GuestPhys) -> u32 {
        if self.scattered && !self.map.p2m().holds(at, 1) {
            return 0;
        }
        self.map.ram.generation(self.ram_address(at))
    }

    fn clear_code_changed(&mut self) {
        self.map.ram.clear_code_changed();
    }

    #[inline(always)]
    fn code_epoch(&self) -> u32 {
        self.map.ram.code_epoch()
    }

    #[inline(always)]
    fn wants_attention(&self, cpu: &Cpu) -> bool {
        // An interrupt that waits for IF wants nothing yet.
        (self.intr & cpu.system_flags.contains(Eflags::IF)) | self.chips_touched | self.map.ram.code_changed()
    }

    fn take_chips_touched(&mut self) -> bool {
        std::mem::take(&mut self.chips_touched)
    }

    fn interrupt_requested(&self) -> bool {
        self.intr
    }

    fn check_each_access(&mut self, on: bool) {
        self.careful = on;
        self.tlb.drop_fast();
    }

    fn checks_each_access(&self) -> bool {
        self.careful
    }

    fn take_break_hits(&mut self) -> u32 {
        std::mem::take(&mut self.break_hits)
    }

    fn map_epoch(&self) -> u32 {
        self.map.epoch()
    }

    fn watches_memory(&self) -> bool {
        self.is_watched()
    }
}
