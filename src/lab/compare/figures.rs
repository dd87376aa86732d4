//! The figures of a run in the order that tables show them.

use crate::lab::digits::grouped;
use crate::report::{Cause, Report};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Exits for writes to traced page tables and descriptor tables.
pub fn traces(report: &Report) -> u64 {
    report.exits.of(Cause::TracePageTable) + report.exits.of(Cause::TraceDescriptors)
}

/// Causes of exits with their counts, the most frequent first.
pub fn by_frequency(report: &Report) -> Vec<(Cause, u64)> {
    let mut causes: Vec<_> = report.exits.by_cause.iter().map(|(&c, &n)| (c, n)).collect();
    causes.sort_by_key(|&(cause, n)| (Reverse(n), cause));
    causes
}

/// Causes of exits at places with their counts, the most frequent first.
pub fn sites_by_frequency(report: &Report) -> Vec<((Cause, u32), u64)> {
    let mut sites: Vec<_> = report.exits.by_site.iter().map(|(&site, &n)| (site, n)).collect();
    sites.sort_by_key(|&(site, n)| (Reverse(n), site));
    sites
}

/// Named counts as a list, the most frequent first: `POPF 12, CLI 3`; `none` if there are none.
pub fn listed(counts: &BTreeMap<&str, u64>) -> String {
    let mut counts: Vec<_> = counts.iter().filter(|(_, n)| **n > 0).collect();
    counts.sort_by_key(|(name, n)| (Reverse(**n), **name));
    let list: Vec<_> = counts.into_iter().map(|(name, n)| format!("{name} {}", grouped(*n))).collect();
    if list.is_empty() { "none".into() } else { list.join(", ") }
}
