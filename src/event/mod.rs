//! Events: what an observer of a run can see. Recording them changes nothing in the run.

use crate::addr::{GuestPhys, Linear};
use crate::clock::When;

/// Something that happened, at a point in guest time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// An instruction is about to run.
    Insn {
        /// CS.
        cs: u16,
        /// EIP.
        eip: u32,
        /// The linear address of both.
        at: Linear,
        /// Its bytes.
        bytes: &'a [u8],
        /// Whether they are 32-bit code.
        code32: bool,
        /// Whether it goes on with the next iteration of a string instruction that was begun before.
        within: bool,
    },
    /// An exception is delivered.
    Fault {
        /// Its vector.
        vector: u8,
        /// Its error code.
        code: Option<u16>,
        /// A page fault's address.
        address: Option<u32>,
        /// CS of the instruction.
        cs: u16,
        /// EIP of the instruction.
        eip: u32,
    },
    /// A hardware interrupt is delivered.
    Interrupt {
        /// Its vector.
        vector: u8,
        /// CS of the interrupted code.
        cs: u16,
        /// EIP of the interrupted code.
        eip: u32,
    },
    /// A port is read or written.
    Port {
        /// The port.
        port: u16,
        /// Bytes.
        width: u32,
        /// What was read or written.
        value: u32,
        /// Whether it was written.
        write: bool,
    },
    /// A monitor was entered.
    Exit {
        /// Why, by the name that tables have.
        cause: &'static str,
        /// Of a guest's own hypervisor, what else there is to say: the exit qualification and the events, in words.
        detail: Option<&'a str>,
        /// CS of the guest.
        cs: u16,
        /// EIP of the guest.
        eip: u32,
    },
    /// A VM entry of a guest's own hypervisor was refused.
    EntryRefused {
        /// How the hypervisor sees that, and what was wrong, in sentences.
        why: &'a str,
        /// CS of the instruction.
        cs: u16,
        /// EIP of the instruction.
        eip: u32,
    },
    /// Memory is read or written by an instruction.
    Memory {
        /// Where.
        at: Linear,
        /// Where that is mapped to.
        phys: GuestPhys,
        /// Bytes.
        width: u32,
        /// What was read or written.
        value: u32,
        /// Whether it was written.
        write: bool,
    },
}

/// Where events go.
pub trait Sink {
    /// Takes `event`, which happened at this point of the run.
    fn record(&mut self, when: When, event: &Event<'_>);
}
