//! The processor's local APIC (SDM vol. 3, chapter 10), an xAPIC of version 14h with an ID of 8 bits:
//! interrupts by priority, the local vector table, and interprocessor interrupts, of which only those to
//! itself arrive: there is no other processor, so INIT, start-up and the rest go nowhere.
//!
//! Simpler than a real one: a request that the processor is offered stays until it takes it, so the spurious
//! vector is never given; LINT0 with a fixed vector is edge triggered whatever its trigger mode says; an INIT
//! to itself is ignored; no message takes time, so delivery status always reads idle.

use super::timer::Timer;
use crate::bus::{Clock, Ticks};
use serde::{Deserialize, Serialize};

const ID: u32 = 0x020;
const VERSION: u32 = 0x030;
const TPR: u32 = 0x080;
const APR: u32 = 0x090;
const PPR: u32 = 0x0a0;
const EOI: u32 = 0x0b0;
const LDR: u32 = 0x0d0;
const DFR: u32 = 0x0e0;
const SVR: u32 = 0x0f0;
const ISR: u32 = 0x100;
const TMR: u32 = 0x180;
const IRR: u32 = 0x200;
const ESR: u32 = 0x280;
const ICR_LOW: u32 = 0x300;
const ICR_HIGH: u32 = 0x310;
const LVT_TIMER: u32 = 0x320;
const LVT_COUNTERS: u32 = 0x340;
const LVT_LINT0: u32 = 0x350;
const LVT_LINT1: u32 = 0x360;
const LVT_ERROR: u32 = 0x370;
const INITIAL_COUNT: u32 = 0x380;
const CURRENT_COUNT: u32 = 0x390;
const DIVIDE: u32 = 0x3e0;

/// Version 14h with five entries in the local vector table: timer, performance counters, LINT0, LINT1, error.
const VERSION_VALUE: u32 = 0x0004_0014;
const SVR_ENABLE: u32 = 1 << 8;
const LVT_MASKED: u32 = 1 << 16;
const LVT_PERIODIC: u32 = 1 << 17;
/// The entries of the local vector table and the bits of each that are kept.
const LVT: [(u32, u32); 5] = [
    (LVT_TIMER, 0x3_00ff),
    (LVT_COUNTERS, 0x1_07ff),
    (LVT_LINT0, 0x1_a7ff),
    (LVT_LINT1, 0x1_a7ff),
    (LVT_ERROR, 0x1_00ff),
];
/// Vectors below this are reserved.
const FIRST_VECTOR: u8 = 16;

/// Errors (10.5.3).
const SEND_ILLEGAL_VECTOR: u32 = 1 << 5;
const RECEIVED_ILLEGAL_VECTOR: u32 = 1 << 6;
const ILLEGAL_REGISTER: u32 = 1 << 7;

/// What a message or a pin asks for (10.6.1, delivery mode).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The vector.
    Fixed,
    /// The vector, at the processor of lowest priority.
    LowestPriority,
    /// System management: not built, lost.
    Smi,
    /// A non-maskable interrupt.
    Nmi,
    /// INIT or start-up: for other processors.
    Init,
    /// The 8259's vector, by an INTA cycle.
    ExtInt,
}

impl Delivery {
    /// From bits 10-8 of a register.
    pub fn of(register: u32) -> Self {
        match register >> 8 & 7 {
            0 => Self::Fixed,
            1 => Self::LowestPriority,
            2 => Self::Smi,
            4 => Self::Nmi,
            7 => Self::ExtInt,
            _ => Self::Init,
        }
    }
}

/// A message on the interrupt bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// Which local APICs are addressed.
    pub destination: u8,
    /// Whether that is a logical destination, else an ID.
    pub logical: bool,
    /// Delivery mode.
    pub delivery: Delivery,
    /// The vector.
    pub vector: u8,
    /// Trigger mode: whether the source is level triggered, and waits for the EOI.
    pub level: bool,
}

/// A bit for each vector.
#[derive(Clone, Copy, Debug, Default, Hash, Serialize, Deserialize)]
struct Vectors([u32; 8]);

impl Vectors {
    fn set(&mut self, vector: u8, on: bool) {
        let (word, bit) = (&mut self.0[usize::from(vector >> 5)], 1 << (vector & 31));
        *word = if on { *word | bit } else { *word & !bit };
    }

    fn has(self, vector: u8) -> bool {
        self.0[usize::from(vector >> 5)] >> (vector & 31) & 1 != 0
    }

    fn highest(self) -> Option<u8> {
        let word = (0..8).rev().find(|&w| self.0[w] != 0)?;
        Some((32 * word as u32 + 31 - self.0[word].leading_zeros()) as u8)
    }
}

/// The local APIC.
#[derive(Clone, Debug, Hash, Serialize, Deserialize)]
pub struct LocalApic {
    id: u32,
    tpr: u8,
    ldr: u32,
    dfr: u32,
    svr: u32,
    isr: Vectors,
    tmr: Vectors,
    irr: Vectors,
    esr: u32,
    /// Errors since the ESR was last written.
    errors: u32,
    icr: [u32; 2],
    /// In the order of [`LVT`].
    lvt: [u32; 5],
    timer: Timer,
    lint0: bool,
    nmi: bool,
    /// The vector to be offered to the processor, kept so that looking is cheap.
    offered: Option<u8>,
}

impl LocalApic {
    /// As after power-on: disabled by software, every entry of the local vector table masked (10.4.7.1).
    pub fn new(clock: Clock) -> Self {
        Self {
            id: 0,
            tpr: 0,
            ldr: 0,
            dfr: !0,
            svr: 0xff,
            isr: Vectors::default(),
            tmr: Vectors::default(),
            irr: Vectors::default(),
            esr: 0,
            errors: 0,
            icr: [0; 2],
            lvt: [LVT_MASKED; 5],
            timer: Timer::new(clock),
            lint0: false,
            nmi: false,
            offered: None,
        }
    }

    /// The register at `offset` in the page. Registers stand on 16-byte boundaries.
    pub fn read(&self, offset: u32, now: Ticks) -> u32 {
        let of = |vectors: Vectors, base: u32| vectors.0[((offset - base) >> 4 & 7) as usize];
        match offset {
            ID => self.id,
            VERSION => VERSION_VALUE,
            TPR => self.tpr.into(),
            PPR => self.ppr().into(),
            LDR => self.ldr,
            DFR => self.dfr,
            SVR => self.svr,
            ISR..TMR => of(self.isr, ISR),
            TMR..IRR => of(self.tmr, TMR),
            IRR..ESR => of(self.irr, IRR),
            ESR => self.esr,
            ICR_LOW => self.icr[0],
            ICR_HIGH => self.icr[1],
            INITIAL_COUNT => self.timer.initial(),
            CURRENT_COUNT => self.timer.current(now),
            DIVIDE => self.timer.divide(),
            _ => LVT.iter().position(|&(at, _)| at == offset).map_or(0, |n| self.lvt[n]),
        }
    }

    /// Writes the register at `offset`. Returns the vector of an EOI that ends a level-triggered interrupt,
    /// for the I/O APIC.
    pub fn write(&mut self, offset: u32, value: u32, now: Ticks) -> Option<u8> {
        let mut ended = None;
        match offset {
            ID => self.id = value & 0xff00_0000,
            TPR => self.tpr = value as u8,
            EOI => ended = self.end_of_interrupt(),
            LDR => self.ldr = value & 0xff00_0000,
            DFR => self.dfr = value | 0x0fff_ffff,
            SVR => self.set_svr(value),
            ESR => self.esr = std::mem::take(&mut self.errors),
            ICR_LOW => self.send(value),
            ICR_HIGH => self.icr[1] = value & 0xff00_0000,
            INITIAL_COUNT => self.timer.set_initial(value, now),
            DIVIDE => self.timer.set_divide(value, now),
            VERSION | APR | PPR | ISR..ESR | CURRENT_COUNT => {}
            _ => match LVT.iter().position(|&(at, _)| at == offset) {
                Some(entry) => self.set_lvt(entry, value, now),
                None => self.error(ILLEGAL_REGISTER),
            },
        }
        self.update();
        ended
    }

    /// Writing EOI ends the highest interrupt in service (10.8.5).
    fn end_of_interrupt(&mut self) -> Option<u8> {
        let vector = self.isr.highest()?;
        self.isr.set(vector, false);
        self.tmr.has(vector).then_some(vector)
    }

    /// Disabled by software, all entries of the local vector table are masked and stay so (10.4.7.2).
    fn set_svr(&mut self, value: u32) {
        self.svr = value & 0x1ff;
        if !self.enabled() {
            self.lvt.iter_mut().for_each(|entry| *entry |= LVT_MASKED);
        }
    }

    fn set_lvt(&mut self, entry: usize, value: u32, now: Ticks) {
        let (at, kept) = LVT[entry];
        if at == LVT_TIMER {
            // What happened under the old mode has happened.
            self.advance(now);
            self.timer.set_periodic(value & LVT_PERIODIC != 0);
        }
        let masked = if self.enabled() { 0 } else { LVT_MASKED };
        self.lvt[entry] = value & kept | masked;
    }

    fn entry(&self, at: u32) -> u32 {
        LVT.iter().position(|&(a, _)| a == at).map_or(LVT_MASKED, |n| self.lvt[n])
    }

    fn error(&mut self, bit: u32) {
        self.errors |= bit;
        let entry = self.entry(LVT_ERROR);
        // An illegal vector in that entry would be an error again.
        if entry & LVT_MASKED == 0 && entry as u8 >= FIRST_VECTOR {
            self.request(entry as u8, false);
        }
    }

    /// Sends an interprocessor interrupt (10.6.1). Shorthands: to the destination in the upper half, to
    /// itself, to all, to all others.
    fn send(&mut self, value: u32) {
        self.icr[0] = value & 0x000c_cfff;
        let delivery = Delivery::of(value);
        let vector = value as u8;
        if delivery == Delivery::Fixed && vector < FIRST_VECTOR {
            return self.error(SEND_ILLEGAL_VECTOR);
        }
        let message = Message {
            destination: (self.icr[1] >> 24) as u8,
            logical: value & 1 << 11 != 0,
            delivery,
            vector,
            level: false,
        };
        match value >> 18 & 3 {
            0 => self.receive(message),
            1 | 2 => self.accept(message),
            _ => {}
        }
    }

    /// Takes a message from the bus, if it is for this one.
    pub fn receive(&mut self, message: Message) {
        if self.is_addressed(message) {
            self.accept(message);
            self.update();
        }
    }

    /// 10.6.2: by ID, or by the logical destination in the flat or the cluster model.
    pub fn is_addressed(&self, message: Message) -> bool {
        let to = message.destination;
        if !message.logical {
            return to == 0xff || u32::from(to) == self.id >> 24;
        }
        let own = (self.ldr >> 24) as u8;
        match self.dfr >> 28 {
            0xf => to & own != 0,
            _ => (to >> 4 == 0xf || to >> 4 == own >> 4) && to & own & 0xf != 0,
        }
    }

    fn accept(&mut self, message: Message) {
        match message.delivery {
            Delivery::Fixed | Delivery::LowestPriority if self.enabled() => {
                self.request(message.vector, message.level);
            }
            Delivery::Nmi => self.nmi = true,
            _ => {}
        }
    }

    fn request(&mut self, vector: u8, level: bool) {
        if vector < FIRST_VECTOR {
            return self.error(RECEIVED_ILLEGAL_VECTOR);
        }
        self.irr.set(vector, true);
        self.tmr.set(vector, level);
    }

    /// Processor priority (10.8.3.1).
    fn ppr(&self) -> u8 {
        let serviced = self.isr.highest().unwrap_or(0);
        if self.tpr >> 4 >= serviced >> 4 { self.tpr } else { serviced & 0xf0 }
    }

    fn update(&mut self) {
        self.offered = self.irr.highest().filter(|v| v >> 4 > self.ppr() >> 4);
    }

    /// Whether an interrupt of its own waits for the processor.
    #[inline]
    pub fn requests(&self) -> bool {
        self.offered.is_some()
    }

    /// The processor takes the interrupt that is offered.
    pub fn acknowledge(&mut self) -> Option<u8> {
        let vector = self.offered?;
        self.irr.set(vector, false);
        self.isr.set(vector, true);
        self.update();
        Some(vector)
    }

    /// The level of LINT0, which the 8259's INT drives. Passed on as an ExtINT it is only looked at; other
    /// entries act when it rises.
    pub fn set_lint0(&mut self, high: bool) {
        let rises = high && !self.lint0;
        self.lint0 = high;
        let entry = self.entry(LVT_LINT0);
        if !rises || entry & LVT_MASKED != 0 {
            return;
        }
        match Delivery::of(entry) {
            Delivery::Fixed => self.request(entry as u8, false),
            Delivery::Nmi => self.nmi = true,
            _ => return,
        }
        self.update();
    }

    /// Whether LINT0 passes the 8259's interrupts on to the processor ("virtual wire mode").
    #[inline]
    pub fn passes_lint0(&self) -> bool {
        let entry = self.lvt[2];
        entry & LVT_MASKED == 0 && Delivery::of(entry) == Delivery::ExtInt
    }

    /// Whether LINT0 makes an NMI of the 8259's interrupts.
    pub fn lint0_is_nmi(&self) -> bool {
        let entry = self.lvt[2];
        entry & LVT_MASKED == 0 && Delivery::of(entry) == Delivery::Nmi
    }

    /// Whether software has enabled the local APIC (SVR bit 8), so that messages are accepted.
    pub fn enabled(&self) -> bool {
        self.svr & SVR_ENABLE != 0
    }

    /// Whether the timer's LVT entry is unmasked.
    pub fn timer_is_open(&self) -> bool {
        self.lvt[0] & LVT_MASKED == 0
    }

    /// Whether an NMI waits for the processor.
    #[inline]
    pub fn nmi(&self) -> bool {
        self.nmi
    }

    /// The processor takes the NMI.
    pub fn take_nmi(&mut self) {
        self.nmi = false;
    }

    /// When the timer next interrupts: a masked one only counts.
    pub fn next_event(&self) -> Option<Ticks> {
        self.timer.due().filter(|_| self.lvt[0] & LVT_MASKED == 0)
    }

    /// Brings the timer up to `now`.
    pub fn advance(&mut self, now: Ticks) {
        let entry = self.lvt[0];
        if self.timer.advance(now) && entry & LVT_MASKED == 0 {
            self.request(entry as u8, false);
            self.update();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Enabled by software; the clock runs at the bus frequency.
    fn apic() -> LocalApic {
        let mut apic = LocalApic::new(Clock::new(super::super::timer::HZ));
        apic.write(SVR, 0x1ff, 0);
        apic
    }

    fn fixed(vector: u8) -> Message {
        Message { destination: 0, logical: false, delivery: Delivery::Fixed, vector, level: false }
    }

    #[test]
    fn after_power_on_it_is_disabled_and_all_masked() {
        let mut apic = LocalApic::new(Clock::default());
        assert_eq!((apic.read(SVR, 0), apic.read(VERSION, 0), apic.read(DFR, 0)), (0xff, 0x4_0014, !0));
        apic.write(LVT_LINT0, 0x700, 0);
        assert_eq!(apic.read(LVT_LINT0, 0), 0x1_0700, "it cannot be unmasked while disabled");
        apic.receive(fixed(0x40));
        assert!(!apic.requests());
        apic.write(SVR, 0x1ff, 0);
        apic.write(LVT_LINT0, 0x700, 0);
        assert!(apic.passes_lint0());
        apic.write(SVR, 0xff, 0);
        assert!(!apic.passes_lint0());
    }

    #[test]
    fn interrupts_come_by_priority_and_nest_by_class() {
        let mut apic = apic();
        [0x45, 0x41, 0x52].into_iter().for_each(|v| apic.receive(fixed(v)));
        assert_eq!(apic.read(IRR + 0x20, 0), 1 << 5 | 1 << 1 | 1 << 18);
        assert_eq!(apic.acknowledge(), Some(0x52));
        assert_eq!((apic.read(ISR + 0x20, 0), apic.read(PPR, 0)), (1 << 18, 0x50));
        assert_eq!(apic.acknowledge(), None, "a lower class waits");
        apic.write(EOI, 0, 0);
        assert_eq!(apic.acknowledge(), Some(0x45));
        apic.receive(fixed(0x46));
        assert!(!apic.requests(), "nor does its own class interrupt");
        apic.write(EOI, 0, 0);
        assert_eq!(apic.acknowledge(), Some(0x46));
    }

    #[test]
    fn the_task_priority_holds_its_class_and_those_below_back() {
        let mut apic = apic();
        apic.write(TPR, 0x42, 0);
        apic.receive(fixed(0x4f));
        assert!(!apic.requests());
        assert_eq!(apic.read(PPR, 0), 0x42);
        apic.write(TPR, 0x3f, 0);
        assert!(apic.requests());
    }

    #[test]
    fn the_end_of_a_level_triggered_interrupt_is_passed_on() {
        let mut apic = apic();
        apic.receive(Message { level: true, ..fixed(0x61) });
        apic.receive(fixed(0x71));
        assert_eq!(apic.read(TMR + 0x30, 0), 2);
        apic.acknowledge();
        apic.acknowledge();
        assert_eq!(apic.write(EOI, 0, 0), None, "71h was an edge");
        assert_eq!(apic.acknowledge(), Some(0x61));
        assert_eq!(apic.write(EOI, 0, 0), Some(0x61));
        assert_eq!(apic.write(EOI, 0, 0), None);
    }

    #[test]
    fn interprocessor_interrupts_reach_itself_and_nobody_else() {
        let mut apic = apic();
        let mut arrived = |high: u32, low: u32| {
            apic.write(ICR_HIGH, high, 0);
            apic.write(ICR_LOW, low, 0);
            let vector = apic.acknowledge();
            apic.write(EOI, 0, 0);
            vector
        };
        assert_eq!(arrived(0, 0x4_4055), Some(0x55), "self");
        assert_eq!(arrived(0, 0x8_4056), Some(0x56), "all");
        assert_eq!(arrived(0, 0xc_4057), None, "all others");
        assert_eq!(arrived(0, 0x4058), Some(0x58), "by its ID");
        assert_eq!(arrived(1 << 24, 0x4059), None, "by another's ID");
        assert_eq!(arrived(0xff << 24, 0x405a), Some(0x5a), "broadcast");
        assert_eq!(arrived(1 << 24, 0x4608), None, "start-up");
        assert_eq!(arrived(1 << 24, 0x485b), None, "it has no logical ID yet");
        assert!(!apic.nmi());
        apic.write(ICR_LOW, 0x8_4400, 0);
        assert!(apic.nmi());
    }

    #[test]
    fn logical_destinations_are_a_mask_or_a_cluster() {
        let mut apic = apic();
        let to = |destination| Message { destination, logical: true, ..fixed(0x40) };
        apic.write(LDR, 0x2200_0000, 0);
        assert!(apic.is_addressed(to(0x02)) && apic.is_addressed(to(0xf0)) && !apic.is_addressed(to(0x11)));
        apic.write(DFR, 0x0fff_ffff, 0);
        assert!(apic.is_addressed(to(0x22)) && apic.is_addressed(to(0xff)));
        assert!(!apic.is_addressed(to(0x12)) && !apic.is_addressed(to(0x21)));
    }

    #[test]
    fn the_timer_interrupts_by_its_vector() {
        let mut apic = apic();
        apic.write(DIVIDE, 0xb, 0);
        apic.write(LVT_TIMER, 0x2_00ef, 0);
        apic.write(INITIAL_COUNT, 500, 0);
        assert_eq!((apic.next_event(), apic.read(CURRENT_COUNT, 100)), (Some(500), 400));
        apic.advance(500);
        assert_eq!((apic.acknowledge(), apic.next_event()), (Some(0xef), Some(1000)));
        apic.write(LVT_TIMER, 0x3_00ef, 700);
        assert_eq!(apic.next_event(), None, "masked it only counts");
        assert_eq!(apic.read(CURRENT_COUNT, 800), 200);
    }

    #[test]
    fn a_masked_periodic_timer_counts_round_and_interrupts_when_unmasked() {
        let mut apic = apic();
        apic.write(DIVIDE, 0xb, 0);
        apic.write(LVT_TIMER, 0x3_0020, 0);
        apic.write(INITIAL_COUNT, 10_000, 0);
        assert_eq!(
            apic.read(CURRENT_COUNT, 204_000),
            6_000,
            "SDM vol. 3, 10.5.4: the mask stops the interrupt"
        );
        assert!(!apic.requests());
        apic.write(LVT_TIMER, 0x2_0020, 207_000);
        assert!(!apic.requests(), "periods that ended while masked are over");
        assert_eq!(apic.next_event(), Some(210_000));
        apic.advance(210_000);
        assert_eq!(apic.acknowledge(), Some(0x20));
    }

    #[test]
    fn a_timer_that_ran_out_while_masked_does_not_interrupt_afterwards() {
        let mut apic = apic();
        apic.write(DIVIDE, 0xb, 0);
        apic.write(LVT_TIMER, 0x1_00ef, 0);
        apic.write(INITIAL_COUNT, 500, 0);
        apic.write(LVT_TIMER, 0xef, 900);
        apic.advance(901);
        assert!(!apic.requests());
    }

    #[test]
    fn errors_show_after_a_write_and_interrupt() {
        let mut apic = apic();
        apic.write(LVT_ERROR, 0xfe, 0);
        apic.write(ICR_LOW, 0x4_4003, 0);
        assert_eq!(apic.read(ESR, 0), 0);
        apic.write(ESR, 0, 0);
        assert_eq!(apic.read(ESR, 0), SEND_ILLEGAL_VECTOR);
        assert_eq!(apic.acknowledge(), Some(0xfe));
        apic.receive(fixed(0));
        apic.write(0x400, 1, 0);
        apic.write(ESR, 0, 0);
        assert_eq!(apic.read(ESR, 0), RECEIVED_ILLEGAL_VECTOR | ILLEGAL_REGISTER);
    }

    #[test]
    fn lint0_does_what_its_entry_says() {
        let mut apic = apic();
        apic.write(LVT_LINT0, 0x31, 0);
        [true, true, false].into_iter().for_each(|level| apic.set_lint0(level));
        assert_eq!(apic.acknowledge(), Some(0x31), "one edge, one interrupt");
        apic.write(LVT_LINT0, 0x400, 0);
        apic.set_lint0(true);
        assert!(apic.nmi() && apic.lint0_is_nmi() && !apic.requests());
        apic.take_nmi();
        apic.write(LVT_LINT0, 0x700, 0);
        assert!(apic.passes_lint0() && !apic.nmi());
    }
}
