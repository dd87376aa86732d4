//! The guest's instruction at CS:EIP, as far as its fault has to be told from others.

use crate::addr::{GuestPhys, Linear, PAGE_SIZE};
use crate::cpu::Cpu;
use crate::decode::{Decoded, Insn, MAX_INSN_LEN, Op, decode};
use crate::machine::{Walked, World};
use crate::mmu::paging::Access;

/// Instructions that are kept decoded.
const KEPT: usize = 64;

/// The code at CS:EIP, as much as is mapped.
struct Code {
    bytes: [u8; MAX_INSN_LEN],
    mapped: usize,
    /// Where the bytes of each page are: the first byte's number, and its address.
    pages: [Option<(usize, GuestPhys)>; 2],
}

impl Code {
    /// The code at `start`. No bit of a page table is set.
    fn at(guest: &Cpu, world: &World, start: Linear) -> Self {
        let mut code = Self { bytes: [0; MAX_INSN_LEN], mapped: 0, pages: [None; 2] };
        for page in &mut code.pages {
            let first = code.mapped;
            let at = start.offset(first as u32);
            let Some(phys) = world.peek_address(guest, at) else { break };
            let end = MAX_INSN_LEN.min(first + (PAGE_SIZE - at.page_offset()) as usize);
            world.map.read(phys, &mut code.bytes[first..end]);
            (*page, code.mapped) = (Some((first, phys)), end);
            if end == MAX_INSN_LEN {
                break;
            }
        }
        code
    }

    /// Whether the access that `walked` is of would change one of the first `len` bytes.
    fn is_marked(&self, len: usize, walked: &Walked) -> bool {
        let byte = |n: usize| {
            let page = self.pages.iter().flatten().rfind(|(first, _)| *first <= n);
            page.map(|(first, phys)| phys.offset((n - first) as u32))
        };
        (0..len.min(self.mapped)).filter_map(byte).any(|at| walked.marks_byte(at))
    }
}

/// An instruction, and the bytes that it was decoded from.
struct Known {
    bytes: [u8; MAX_INSN_LEN],
    code32: bool,
    insn: Insn,
}

/// The instructions that faulted last, by EIP. The bytes decide, so that nothing has to be invalidated.
pub(in crate::vmm) struct FaultingInsns {
    slots: Vec<Option<Known>>,
}

impl Default for FaultingInsns {
    fn default() -> Self {
        Self { slots: (0..KEPT).map(|_| None).collect() }
    }
}

impl FaultingInsns {
    /// The instruction at CS:EIP, as far as `code` is one.
    fn insn(&mut self, guest: &Cpu, code: &Code) -> Option<Insn> {
        let slot = &mut self.slots[guest.eip as usize % KEPT];
        if let Some(known) = slot {
            let len = usize::from(known.insn.len);
            let same = known.bytes[..len] == code.bytes[..len] && known.code32 == guest.code32();
            if same && len <= code.mapped {
                return Some(known.insn);
            }
        }
        match decode(&code.bytes[..code.mapped], guest.code32()) {
            Decoded::Insn(insn) => {
                *slot = Some(Known { bytes: code.bytes, code32: guest.code32(), insn });
                Some(insn)
            }
            _ => None,
        }
    }

    /// Whether the instruction at CS:EIP, for whose access at `at` a walk would mark entries, may have read
    /// them before: as its own code, or as data.
    pub(in crate::vmm) fn rereads(
        &mut self,
        guest: &Cpu,
        world: &World,
        (at, access): (Linear, Access),
        walked: &Walked,
    ) -> bool {
        let start = Linear(guest.linear_eip());
        if at == start && !access.write {
            // The fetch of the first byte.
            return false;
        }
        let code = Code::at(guest, world, start);
        let insn = self.insn(guest, &code);
        let len = insn.map_or(MAX_INSN_LEN, |insn| insn.len.into());
        // The fetch of the rest, in the next page. (A read of data there cannot fault any more once code was
        // fetched from it.)
        let fetches = !access.write && at == start.offset(len as u32 - 1).page();
        code.is_marked(len, walked) || (!fetches && insn.is_some_and(|i| i.touches_after_reading()))
    }

    /// Whether the instruction at CS:EIP writes several times, and so may have before its fault: the real
    /// processor has found that first ([`Env::restarts`]), the virtual one leaves what the bare machine
    /// leaves.
    ///
    /// [`Env::restarts`]: crate::exec::Env::restarts
    pub(in crate::vmm) fn writes_before_faults(&mut self, guest: &Cpu, world: &World) -> bool {
        let code = Code::at(guest, world, Linear(guest.linear_eip()));
        self.insn(guest, &code).is_some_and(|insn| matches!(insn.op, Op::Enter | Op::Pusha))
    }
}
