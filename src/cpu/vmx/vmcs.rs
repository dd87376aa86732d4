//! A virtual-machine control structure's data (SDM vol. 3, 24.2).
//!
//! While a structure is current and active the processor keeps its data; VMCLEAR, and loading another one,
//! write the data to the structure's region in memory. The manual leaves the format in memory to the
//! processor: after the revision identifier and the VMX-abort indicator comes the launch state, then 64 bits
//! for each field of [`Field::ALL`], in its order.

use super::field::Field;
use serde::{Deserialize, Serialize};

/// Offsets into the region, in bytes.
#[allow(missing_docs, reason = "the constants are the parts' names")]
pub mod region {
    pub const REVISION: u32 = 0;
    pub const ABORT: u32 = 4;
    pub const LAUNCH_STATE: u32 = 8;
    pub const FIELDS: u32 = 16;
}

/// The data of a control structure.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Vmcs {
    /// Whether VMLAUNCH succeeded with it since VMCLEAR.
    pub launched: bool,
    fields: Vec<u64>,
}

impl Default for Vmcs {
    fn default() -> Self {
        Self { launched: false, fields: vec![0; Field::ALL.len()] }
    }
}

impl Vmcs {
    /// The value of `field`.
    #[inline]
    pub fn get(&self, field: Field) -> u64 {
        self.fields.get(field as usize).copied().unwrap_or(0)
    }

    /// The lower 32 bits of `field`: all of it, but for 64-bit fields.
    #[inline]
    pub fn get32(&self, field: Field) -> u32 {
        self.get(field) as u32
    }

    /// Sets `field`; bits that the field has not are dropped.
    #[inline]
    pub fn set(&mut self, field: Field, value: impl Into<u64>) {
        if let Some(place) = self.fields.get_mut(field as usize) {
            *place = value.into() & field.mask();
        }
    }

    /// Sets the upper or the lower half of a 64-bit field, as VMWRITE of 32 bits does: the lower half's
    /// write clears the upper one.
    pub fn set_half(&mut self, field: Field, high: bool, value: u32) {
        let old = self.get(field);
        let new = if high { old & 0xffff_ffff | u64::from(value) << 32 } else { u64::from(value) };
        self.set(field, new);
    }

    /// The data as doublewords with their offsets in the region, for memory.
    pub fn image(&self) -> impl Iterator<Item = (u32, u32)> + '_ {
        let launched = std::iter::once((region::LAUNCH_STATE, u32::from(self.launched)));
        launched.chain(self.fields.iter().enumerate().flat_map(|(n, value)| {
            let at = region::FIELDS + 8 * n as u32;
            [(at, *value as u32), (at + 4, (value >> 32) as u32)]
        }))
    }

    /// The data that memory holds; `read` reads the doubleword at an offset in the region.
    pub fn from_image(mut read: impl FnMut(u32) -> u32) -> Self {
        let launched = read(region::LAUNCH_STATE) & 1 != 0;
        let mut vmcs = Self { launched, ..Self::default() };
        for &field in Field::ALL {
            let at = region::FIELDS + 8 * field as u32;
            vmcs.set(field, u64::from(read(at)) | u64::from(read(at + 4)) << 32);
        }
        vmcs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn the_data_comes_back_from_memory() {
        let mut vmcs = Vmcs { launched: true, ..Vmcs::default() };
        for (n, &field) in Field::ALL.iter().enumerate() {
            vmcs.set(field, 0x1234_5678_9abc_def0u64.rotate_left(n as u32));
        }
        let memory: BTreeMap<u32, u32> = vmcs.image().collect();
        assert!(memory.keys().all(|at| *at < 4096 && *at >= 8));
        assert_eq!(Vmcs::from_image(|at| memory[&at]), vmcs);
    }

    #[test]
    fn halves_are_written_apart() {
        let mut vmcs = Vmcs::default();
        vmcs.set_half(Field::TscOffset, true, 7);
        vmcs.set_half(Field::TscOffset, false, 5);
        assert_eq!(vmcs.get(Field::TscOffset), 5, "VMWRITE of the whole field clears the upper half");
        vmcs.set_half(Field::TscOffset, true, 7);
        assert_eq!(vmcs.get(Field::TscOffset), 7 << 32 | 5);
        vmcs.set(Field::GuestCs, 0x12_3456u32);
        assert_eq!(vmcs.get(Field::GuestCs), 0x3456);
    }
}
