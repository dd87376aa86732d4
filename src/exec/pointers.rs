//! The registers that hold the top level of PAE paging (SDM vol. 3, 4.4.1). MOV to CR0, CR3 and CR4 and the
//! task switch load them.

use super::Env;
use crate::cpu::{Cpu, Cr0, Cr4, Fault};

/// Loads them from the table at `cr3`, if PAE paging is in use with these `cr0` and `cr4`.
///
/// # Errors
/// #GP(0) when a present entry has reserved bits set: then none is loaded.
pub fn load<E: Env>(cpu: &mut Cpu, env: &mut E, cr0: Cr0, cr3: u32, cr4: Cr4) -> Result<(), Fault> {
    if cr0.contains(Cr0::PG) && cr4.contains(Cr4::PAE) {
        cpu.pdptes = env.load_pointers(cpu, cr3)?;
    }
    Ok(())
}
