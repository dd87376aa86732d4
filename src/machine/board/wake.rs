//! Whether anything can still wake a halted processor (SDM volume 2, HLT: an interrupt that is enabled, an NMI, a
//! reset). Asked by the machine each time that it halts.

use super::{Board, Chip, NEVER, SCI, TIMED};

impl Board {
    /// Whether an interrupt can reach a halted processor, now or ever: one of a chip that acts by itself, or of one
    /// that the host may send something to. The chips stand as they stand for good, because who would write to them
    /// is halted. So the lines of those chips are raised in a copy of the interrupt controllers, and what comes out
    /// decides; the local APIC's timer always may.
    pub fn can_wake(&self) -> bool {
        self.can_wake_with(true)
    }

    /// Whether an interrupt can reach a halted processor though the host sends nothing more.
    pub fn can_wake_without_input(&self) -> bool {
        self.can_wake_with(false)
    }

    /// [`Board::can_wake`], where the host sends `input` or never will.
    fn can_wake_with(&self, input: bool) -> bool {
        if self.due[Chip::Apic as usize] != NEVER {
            return true;
        }
        // A chip that only passes on what the host sends is dead without it.
        let live = |chip: &Chip| input || self.due[*chip as usize] != NEVER;
        let (mut pic, mut apic) = (self.pic.clone(), self.apic.clone());
        for irq in TIMED.into_iter().filter(live).flat_map(|chip| self.live_lines(chip)) {
            pic.pulse(irq);
            if let Some(apic) = &mut apic {
                let pin = if irq == 0 { 2 } else { irq };
                apic.set_pin(pin, false);
                apic.set_pin(pin, true);
                apic.set_ext_int(pic.int());
            }
        }
        apic.map_or(pic.int(), |apic| apic.requests(pic.int()) || apic.nmi())
    }

    /// The interrupt lines that a chip may yet drive while the processor is halted.
    fn live_lines(&self, chip: Chip) -> Vec<u8> {
        let due = |line: u8| if self.due[chip as usize] == NEVER { vec![] } else { vec![line] };
        let if_on = |on: bool, line: u8| if on { vec![line] } else { vec![] };
        match chip {
            Chip::I8042 => {
                let [keyboard, mouse] = self.i8042.interrupts_on();
                [if_on(keyboard, 1), if_on(mouse, 12)].concat()
            }
            Chip::Com1 => if_on(self.com[0].interrupts_on(), 4),
            Chip::Com2 => if_on(self.com[1].interrupts_on(), 3),
            Chip::Pit => due(0),
            Chip::Fdc => due(6),
            Chip::Cmos => due(8),
            Chip::Pm => due(SCI),
            Chip::Ata0 => due(14),
            Chip::Ata1 => due(15),
            _ => vec![],
        }
    }
}
