//! What a run counted.

use super::monitored::Monitored;
use serde::Serialize;
use std::collections::BTreeMap;

/// What a run counted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Exceptions by vector.
    pub exceptions: BTreeMap<u8, u64>,
    /// Hardware interrupts by vector.
    pub interrupts: BTreeMap<u8, u64>,
    /// Software interrupts (INT n) by vector.
    pub software: BTreeMap<u8, u64>,
    /// Reads and writes by port.
    pub ports: BTreeMap<u16, (u64, u64)>,
    /// Instructions that are not built and raised #UD, by name.
    pub unbuilt: BTreeMap<String, u64>,
    /// Further counts by name (traces decoded, TLB misses, …).
    pub other: BTreeMap<String, u64>,
    /// What a monitor counted, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub monitor: Option<Monitored>,
}
