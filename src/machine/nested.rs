//! Walks through extended page tables: those of a monitor, for the real processor, and those of a guest's own
//! hypervisor on the bare machine. What they refuse is kept until the VM exit is completed.

use super::space::{MachineTables, Space};
use super::tables::LiveTables;
use super::world::World;
use crate::addr::Linear;
use crate::cpu::{Cpu, Fault};
use crate::mmu::paging::{Access, Mapping};
use crate::mmu::two_dimensional::{self, Refused, Stopped, walk_nested};

impl World {
    /// The processor's walk through extended page tables.
    #[cold]
    pub(super) fn walk_two_dimensions(
        &mut self,
        cpu: &Cpu,
        pointer: u64,
        at: Linear,
        access: Access,
    ) -> Result<Mapping, Fault> {
        let mut attention = false;
        let walked = match self.space {
            Space::Guest => {
                let mut tables = LiveTables::new(&mut self.map, &mut self.board, cpu.now);
                let walked = walk_nested(cpu, &mut tables, pointer, at, access);
                attention = tables.attention;
                walked
            }
            Space::Machine => walk_nested(cpu, &mut MachineTables(&mut self.map.ram), pointer, at, access),
        };
        if attention {
            self.heed_chip(cpu);
        }
        match walked {
            Ok((mapping, references)) => {
                self.nested.walks += 1;
                self.nested.references += u64::from(references.all);
                self.nested.native += u64::from(references.native);
                let gated = self.space == Space::Guest;
                let frame = if gated { self.map.gated(mapping.frame) } else { mapping.frame };
                Ok(Mapping { frame, ..mapping })
            }
            Err(Stopped::Fault(fault)) => Err(fault),
            Err(Stopped::Refused(refused)) => Err(self.refuse(refused)),
        }
    }

    /// The guest's page-directory-pointer table at `cr3`, through the extended page tables of `pointer`.
    pub(super) fn load_pointers_nested(
        &mut self,
        cpu: &Cpu,
        pointer: u64,
        cr3: u32,
    ) -> Result<[u64; 4], Fault> {
        let loaded = match self.space {
            Space::Guest => {
                let mut tables = LiveTables::new(&mut self.map, &mut self.board, cpu.now);
                two_dimensional::load_pointers(&mut tables, pointer, cr3)
            }
            Space::Machine => {
                two_dimensional::load_pointers(&mut MachineTables(&mut self.map.ram), pointer, cr3)
            }
        };
        match loaded {
            Ok(pointers) => pointers.ok_or(Fault::GP0),
            Err(refused) => Err(self.refuse(refused)),
        }
    }

    /// Notes what was refused.
    fn refuse(&mut self, refused: Refused) -> Fault {
        self.refused = Some(refused);
        Fault::VM_EXIT
    }
}
