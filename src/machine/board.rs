//! The board: which chip sits at which port and on which interrupt line, and when the next of them acts by itself.
//!
//! The run loop calls [`Board::advance`] when [`Board::next_event`] is due, and looks at
//! [`Board::interrupt_requested`] between instructions; port I/O of the processor comes in by
//! [`Board::port_read`] and [`Board::port_write`].

use crate::bus::phys::PhysMap;
use crate::bus::{Clock, Ticks, Width};
use crate::device::Device;
use crate::device::cmos::{Cmos, Machine};
use crate::device::debug_ports::DebugPorts;
use crate::device::i8042::I8042;
use crate::device::keymap::KeyEvent;
use crate::device::pic::Pic;
use crate::device::pit::Pit;
use crate::device::uart::Uart;
use std::collections::BTreeMap;

/// What answers at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Chip {
    None,
    Pic,
    Pit,
    I8042,
    Cmos,
    Com1,
    Com2,
    Debug,
}

/// First and last port of each chip.
const PORTS: &[(u16, u16, Chip)] = &[
    (0x020, 0x021, Chip::Pic),
    (0x040, 0x043, Chip::Pit),
    (0x060, 0x060, Chip::I8042),
    (0x061, 0x061, Chip::Pit),
    (0x064, 0x064, Chip::I8042),
    (0x070, 0x071, Chip::Cmos),
    (0x080, 0x080, Chip::Debug),
    (0x092, 0x092, Chip::Debug),
    (0x0a0, 0x0a1, Chip::Pic),
    (0x0e9, 0x0e9, Chip::Debug),
    (0x0f4, 0x0f4, Chip::Debug),
    (0x2f8, 0x2ff, Chip::Com2),
    (0x3f8, 0x3ff, Chip::Com1),
    (0x402, 0x402, Chip::Debug),
    (0x4d0, 0x4d1, Chip::Pic),
];

/// The chips that act by themselves, as indices into the table of due times.
const TIMED: [Chip; 5] = [Chip::Pit, Chip::I8042, Chip::Cmos, Chip::Com1, Chip::Com2];
const NEVER: Ticks = Ticks::MAX;

/// What a board is built from.
#[derive(Default)]
pub struct BoardConfig {
    /// The machine's clock.
    pub clock: Clock,
    /// RAM in bytes, for the firmware's tables.
    pub ram_size: u32,
    /// What the real-time clock shows at power-on: seconds since 1970.
    pub epoch: i64,
}

/// The chips and their wiring.
pub struct Board {
    pic: Pic,
    pit: Pit,
    i8042: I8042,
    cmos: Cmos,
    com: [Uart; 2],
    debug: DebugPorts,
    a20: bool,
    reset_requested: bool,
    /// Per port: a [`Chip`].
    route: Box<[Chip; 0x1_0000]>,
    /// When each of [`TIMED`] acts next, and the earliest of them.
    due: [Ticks; TIMED.len()],
    next: Ticks,
    /// Accesses per port that no chip claimed.
    unclaimed: BTreeMap<u16, u64>,
}

impl Board {
    /// A board after power-on.
    pub fn new(config: BoardConfig) -> Self {
        let clock = config.clock;
        let mut cmos = Cmos::new(clock, config.epoch);
        cmos.describe(&Machine { ram_size: config.ram_size, ..Machine::default() });
        Self {
            pic: Pic::new(),
            pit: Pit::new(clock),
            i8042: I8042::new(clock),
            cmos,
            com: [Uart::new(clock), Uart::new(clock)],
            debug: DebugPorts::new(),
            a20: true,
            reset_requested: false,
            route: routes(),
            due: [NEVER; TIMED.len()],
            next: NEVER,
            unclaimed: BTreeMap::new(),
        }
    }

    /// The reset line: every chip back to its reset state, the A20 gate open.
    pub fn reset(&mut self, map: &mut PhysMap) {
        self.pic.reset();
        self.pit.reset();
        self.i8042.reset();
        self.cmos.reset();
        self.com.iter_mut().for_each(Device::reset);
        self.debug.reset();
        self.reset_requested = false;
        self.set_a20(true, map);
        self.refresh_all();
    }

    /// A read of `width` at `port`. Wide reads of byte-wide chips take the ports one by one, the low one first.
    pub fn port_read(&mut self, port: u16, width: Width, now: Ticks, map: &mut PhysMap) -> u32 {
        let chip = self.chip_at(port);
        if width == Width::Byte || takes_wide(chip, port) {
            return self.read_chip(chip, port, width, now, map);
        }
        (0..width.bytes()).fold(0, |value, i| {
            let at = port.wrapping_add(i as u16);
            let byte = self.read_chip(self.chip_at(at), at, Width::Byte, now, map) & 0xff;
            value | byte << (8 * i)
        })
    }

    /// A write of `width` at `port`, split like a read.
    pub fn port_write(&mut self, port: u16, width: Width, value: u32, now: Ticks, map: &mut PhysMap) {
        let chip = self.chip_at(port);
        if width == Width::Byte || takes_wide(chip, port) {
            return self.write_chip(chip, port, width, value & width.mask(), now, map);
        }
        for i in 0..width.bytes() {
            let at = port.wrapping_add(i as u16);
            self.write_chip(self.chip_at(at), at, Width::Byte, value >> (8 * i) & 0xff, now, map);
        }
    }

    #[inline]
    fn chip_at(&self, port: u16) -> Chip {
        self.route[usize::from(port)]
    }

    fn read_chip(&mut self, chip: Chip, port: u16, width: Width, now: Ticks, map: &mut PhysMap) -> u32 {
        let Some(device) = self.device(chip) else {
            *self.unclaimed.entry(port).or_default() += 1;
            return width.mask();
        };
        let value = device.read(port, width, now);
        self.settle(chip, map);
        value
    }

    fn write_chip(&mut self, chip: Chip, port: u16, width: Width, value: u32, now: Ticks, map: &mut PhysMap) {
        match self.device(chip) {
            Some(device) => device.write(port, width, value, now),
            None => *self.unclaimed.entry(port).or_default() += 1,
        }
        self.settle(chip, map);
    }

    fn device(&mut self, chip: Chip) -> Option<&mut dyn Device> {
        Some(match chip {
            Chip::None => return None,
            Chip::Pic => &mut self.pic,
            Chip::Pit => &mut self.pit,
            Chip::I8042 => &mut self.i8042,
            Chip::Cmos => &mut self.cmos,
            Chip::Com1 => &mut self.com[0],
            Chip::Com2 => &mut self.com[1],
            Chip::Debug => &mut self.debug,
        })
    }

    /// After a chip was touched: its lines to the interrupt controller, its side effects, its next event.
    fn settle(&mut self, chip: Chip, map: &mut PhysMap) {
        match chip {
            Chip::None | Chip::Pic => return,
            Chip::Pit => {
                if self.pit.take_edge() {
                    self.pic.pulse(0);
                }
                self.pic.set_line(0, self.pit.irq());
            }
            Chip::I8042 => self.settle_keyboard(map),
            Chip::Cmos => self.pic.set_line(8, self.cmos.irq()),
            Chip::Com1 => self.pic.set_line(4, self.com[0].irq()),
            Chip::Com2 => self.pic.set_line(3, self.com[1].irq()),
            Chip::Debug => return self.settle_control(map),
        }
        self.reschedule(chip);
    }

    fn settle_keyboard(&mut self, map: &mut PhysMap) {
        self.pic.set_line(1, self.i8042.irq());
        self.pic.set_line(12, self.i8042.irq12());
        self.reset_requested |= self.i8042.take_reset();
        if let Some(open) = self.i8042.take_a20() {
            self.set_a20(open, map);
        }
    }

    fn settle_control(&mut self, map: &mut PhysMap) {
        self.reset_requested |= self.debug.take_reset();
        if let Some(open) = self.debug.take_a20() {
            self.set_a20(open, map);
        }
    }

    /// One gate, which the keyboard controller and port 92h both move: the last write counts.
    fn set_a20(&mut self, open: bool, map: &mut PhysMap) {
        self.a20 = open;
        self.i8042.set_a20(open);
        self.debug.set_a20(open);
        map.set_a20(open);
    }

    fn reschedule(&mut self, chip: Chip) {
        let Some(slot) = TIMED.iter().position(|&c| c == chip) else { return };
        let due = self.device(chip).and_then(|d| d.next_event()).unwrap_or(NEVER);
        if self.due[slot] != due {
            self.due[slot] = due;
            self.next = self.due.iter().copied().min().unwrap_or(NEVER);
        }
    }

    fn refresh_all(&mut self) {
        TIMED.into_iter().for_each(|chip| self.reschedule(chip));
    }

    /// When the earliest chip acts by itself.
    #[inline(always)]
    pub fn next_event(&self) -> Option<Ticks> {
        if self.next == NEVER { None } else { Some(self.next) }
    }

    /// Runs what is due at `now`.
    pub fn advance(&mut self, now: Ticks, map: &mut PhysMap) {
        if now < self.next {
            return;
        }
        for (slot, chip) in TIMED.into_iter().enumerate() {
            if self.due[slot] <= now {
                if let Some(device) = self.device(chip) {
                    device.advance(now);
                }
                self.settle(chip, map);
            }
        }
    }

    /// The interrupt controller's INT line.
    #[inline(always)]
    pub fn interrupt_requested(&self) -> bool {
        self.pic.int()
    }

    /// The INTA cycle: the vector.
    pub fn acknowledge(&mut self) -> u8 {
        self.pic.acknowledge()
    }

    /// Whether a chip asks for a reset of the machine; [`Board::reset`] takes it back.
    #[inline]
    pub fn reset_requested(&self) -> bool {
        self.reset_requested
    }

    /// The guest's exit status, once it wrote port F4h.
    #[inline]
    pub fn exit_code(&self) -> Option<u8> {
        self.debug.exit().map(|value| value as u8)
    }

    /// Accesses per port that no chip claimed.
    pub fn unclaimed_ports(&self) -> &BTreeMap<u16, u64> {
        &self.unclaimed
    }

    /// The last POST code, and how many were written.
    pub fn post(&self) -> (u8, u64) {
        self.debug.post()
    }

    /// Whether port 70h masks NMI.
    pub fn nmi_masked(&self) -> bool {
        self.cmos.nmi_masked()
    }

    /// Bytes from the host for COM1 (`com` 0) or COM2 (1).
    pub fn serial_input(&mut self, com: usize, bytes: &[u8], now: Ticks) {
        if let Some(port) = self.com.get_mut(com) {
            port.input(bytes, now);
        }
        self.refresh_all();
    }

    /// Bytes that the guest sent by COM1 (`com` 0) or COM2 (1) since this was last asked.
    pub fn take_serial_output(&mut self, com: usize) -> Vec<u8> {
        self.com.get_mut(com).map(Uart::take_output).unwrap_or_default()
    }

    /// Whether [`Board::take_serial_output`] has something.
    pub fn has_serial_output(&self, com: usize) -> bool {
        self.com.get(com).is_some_and(Uart::has_output)
    }

    /// Keys of the host's.
    pub fn key(&mut self, events: &[KeyEvent], now: Ticks) {
        for &event in events {
            self.i8042.key(event, now);
        }
        self.refresh_all();
    }

    /// Key bytes that the guest has not taken yet.
    pub fn keys_waiting(&self) -> usize {
        self.i8042.keys_waiting()
    }

    /// Bytes written to the debug console, port E9h, since this was last asked.
    pub fn take_debug_console(&mut self) -> Vec<u8> {
        self.debug.take_console()
    }

    /// Bytes written to SeaBIOS' debug port 402h since this was last asked.
    pub fn take_bios_console(&mut self) -> Vec<u8> {
        self.debug.take_bios_console()
    }
}

/// Whether the register at `port` is wider than a byte.
fn takes_wide(chip: Chip, port: u16) -> bool {
    match chip {
        Chip::Debug => port == crate::device::debug_ports::EXIT,
        _ => false,
    }
}

fn routes() -> Box<[Chip; 0x1_0000]> {
    let mut route = Box::new([Chip::None; 0x1_0000]);
    for &(first, last, chip) in PORTS {
        route[usize::from(first)..=usize::from(last)].fill(chip);
    }
    route
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::GuestPhys;
    use crate::mem::Ram;

    fn board() -> (Board, PhysMap) {
        let ram = Ram::new(4 << 20).unwrap();
        let config = BoardConfig { ram_size: 4 << 20, ..BoardConfig::default() };
        (Board::new(config), PhysMap::new(ram))
    }

    #[test]
    fn the_timer_interrupts_through_the_controller() {
        let (mut board, mut map) = board();
        let writes =
            [(0x20, 0x11), (0x21, 8), (0x21, 4), (0x21, 1), (0x21, 0xfe), (0x43, 0x34), (0x40, 0), (0x40, 1)];
        for (port, value) in writes {
            board.port_write(port, Width::Byte, value, 0, &mut map);
        }
        while board.interrupt_requested() {
            board.acknowledge();
            board.port_write(0x20, Width::Byte, 0x20, 0, &mut map);
        }
        let due = board.next_event().unwrap();
        board.advance(due, &mut map);
        assert!(board.interrupt_requested());
        assert_eq!(board.acknowledge(), 8);
        assert!(!board.interrupt_requested());
    }

    #[test]
    fn either_a20_switch_moves_the_gate() {
        let (mut board, mut map) = board();
        board.port_write(0x92, Width::Byte, 0, 0, &mut map);
        assert_eq!(map.gated(GuestPhys(0x10_0000)), GuestPhys(0));
        board.port_write(0x64, Width::Byte, 0xdf, 0, &mut map);
        assert_eq!(map.gated(GuestPhys(0x10_0000)), GuestPhys(0x10_0000));
        assert_eq!(board.port_read(0x92, Width::Byte, 0, &mut map), 2);
    }

    #[test]
    fn unclaimed_ports_read_ones_and_are_counted() {
        let (mut board, mut map) = board();
        assert_eq!(board.port_read(0x1234, Width::Dword, 0, &mut map), 0xffff_ffff);
        assert_eq!(board.unclaimed_ports().len(), 4);
    }

    #[test]
    fn wide_accesses_reach_neighbouring_ports() {
        let (mut board, mut map) = board();
        board.port_write(0x70, Width::Word, 0x0015 | 0x5a00, 0, &mut map);
        assert_eq!(board.port_read(0x71, Width::Byte, 0, &mut map), 0x5a);
    }

    #[test]
    fn the_exit_port_ends_with_the_low_byte() {
        let (mut board, mut map) = board();
        board.port_write(0xf4, Width::Dword, 0x1_0003, 0, &mut map);
        assert_eq!(board.exit_code(), Some(3));
    }
}
