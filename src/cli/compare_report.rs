//! What `subring compare` prints: one table for people, CSV or JSON for programs. Events, modelled cycles and host time
//! stand in columns of their own.

use super::digits::grouped;
use super::rules::Finding;
use crate::addr::Linear;
use crate::cell::Cell;
use crate::lab::lockstep::Divergence;
use crate::report::{Breach, Cause, Obstacle, Report, ShadowFigures, TranslationFigures};
use crate::translate::RuleId;
use crate::vmm::bt::rules;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// Causes shown in a row, and places shown of each variant.
const TOP: usize = 3;
const SITES: usize = 8;
/// Differing pieces of state shown.
const PIECES: usize = 4;

/// How a run compares with the bare machine's.
pub(super) enum Verdict {
    /// It is the bare machine's, which ended so.
    Reference(String),
    /// Processor, memory, chips and instruction count are the bare machine's.
    Same,
    /// It goes another way, from here on; with the kernel's name for the place.
    Diverged(Box<Divergence>, Option<String>),
    /// It ended otherwise, and no instruction was found to blame.
    Lost,
}

/// Writes to traced frames.
fn traces(report: &Report) -> u64 {
    report.exits.of(Cause::TracePageTable) + report.exits.of(Cause::TraceDescriptors)
}

/// The causes with their counts, the most frequent first.
fn by_frequency(report: &Report) -> Vec<(Cause, u64)> {
    let mut causes: Vec<_> = report.exits.by_cause.iter().map(|(&c, &n)| (c, n)).collect();
    causes.sort_by_key(|&(cause, n)| (std::cmp::Reverse(n), cause));
    causes
}

/// The causes at places with their counts, the most frequent first.
fn sites_by_frequency(report: &Report) -> Vec<((Cause, u32), u64)> {
    let mut sites: Vec<_> = report.exits.by_site.iter().map(|(&site, &n)| (site, n)).collect();
    sites.sort_by_key(|&(site, n)| (std::cmp::Reverse(n), site));
    sites
}

/// The name of a row: its cell, and what the monitor runs without.
pub(super) fn name(cell: Cell, without: Option<RuleId>, adaptive: bool) -> String {
    let rule = without.map(|id| rules::by_id(id).name);
    let missing: Vec<_> = (!adaptive).then_some("adaptation").into_iter().chain(rule).collect();
    let without =
        if missing.is_empty() { String::new() } else { format!(" without {}", missing.join(" and ")) };
    format!("{cell}{without}")
}

/// One machine's run.
pub(super) struct Row {
    pub(super) cell: Cell,
    /// The rewriting rule that was not in force.
    pub(super) without: Option<RuleId>,
    /// Accesses that keep leaving translated code are translated otherwise.
    pub(super) adaptive: bool,
    pub(super) verdict: Verdict,
    pub(super) retired: u64,
    pub(super) cycles: u64,
    /// None of a run without instructions.
    pub(super) slowdown: Option<f64>,
    pub(super) monitor: Option<Report>,
    /// Boundaries at which it was compared, if at each.
    pub(super) boundaries: Option<u64>,
    pub(super) host: Duration,
}

impl Row {
    pub(super) fn name(&self) -> String {
        name(self.cell, self.without, self.adaptive)
    }

    fn without_name(&self) -> Option<&'static str> {
        self.without.map(|id| rules::by_id(id).name)
    }

    /// What the guest got at, and where it was.
    pub(super) fn breach(&self) -> Option<(Breach, Linear)> {
        self.monitor.as_ref()?.audit.as_ref()?.first
    }

    /// Exits by cause and place.
    pub(super) fn sites(&self) -> impl Iterator<Item = ((Cause, u32), u64)> + '_ {
        self.monitor.iter().flat_map(|m| m.exits.by_site.iter().map(|(site, n)| (*site, *n)))
    }

    /// Of these, those of one.
    pub(super) fn at_site(&self, cause: Cause, at: u32) -> u64 {
        let exits = self.monitor.as_ref().map(|m| &m.exits);
        exits.and_then(|exits| exits.by_site.get(&(cause, at)).copied()).unwrap_or(0)
    }

    fn outcome(&self) -> &'static str {
        match self.verdict {
            Verdict::Reference(_) => "reference",
            Verdict::Same => "same",
            Verdict::Diverged(..) => "diverged",
            Verdict::Lost => "ended otherwise",
        }
    }

    /// Instructions that ran with no intervention, of a hundred.
    fn direct(&self) -> Option<f64> {
        let direct = self.monitor.as_ref().map_or(self.retired, |m| m.counts.direct);
        self.percent(direct)
    }

    /// In translated code.
    fn translated(&self) -> Option<f64> {
        self.percent(self.monitor.as_ref().map_or(0, |m| m.counts.translated))
    }

    fn percent(&self, n: u64) -> Option<f64> {
        (self.retired > 0).then(|| 100.0 * n as f64 / self.retired as f64)
    }

    pub(super) fn translation(&self) -> Option<&TranslationFigures> {
        self.monitor.as_ref()?.translation.as_ref()
    }

    fn callouts(&self) -> u64 {
        self.translation().map_or(0, TranslationFigures::all_callouts)
    }

    pub(super) fn exits(&self) -> u64 {
        self.monitor.as_ref().map_or(0, |m| m.exits.total())
    }

    pub(super) fn of(&self, cause: Cause) -> u64 {
        self.monitor.as_ref().map_or(0, |m| m.exits.of(cause))
    }

    fn traces(&self) -> u64 {
        self.monitor.as_ref().map_or(0, traces)
    }

    fn per_thousand(&self) -> Option<f64> {
        (self.retired > 0).then(|| 1000.0 * self.exits() as f64 / self.retired as f64)
    }
}

/// Shares of translated code: instructions carried over, bytes of it for each of the guest's, ways out that were chained, indirect
/// branches that hit.
fn shares(t: &TranslationFigures) -> [Option<f64>; 4] {
    [
        (t.instructions > 0).then(|| t.ident_share()),
        (t.expansion > 0.0).then_some(t.expansion),
        (t.runs > t.entries).then(|| t.chained()),
        (t.indirect > 0).then(|| t.indirect_hits()),
    ]
}

/// A quotient with so many digits, or `none` of nothing.
fn quotient(of: Option<f64>, digits: usize, none: &str) -> String {
    of.map_or(none.to_owned(), |of| format!("{of:.digits$}"))
}

/// All of it.
pub(super) struct Table {
    pub(super) guest: String,
    pub(super) rows: Vec<Row>,
    /// What a missing rule broke, for each row without it.
    pub(super) findings: Vec<Finding>,
    /// What adaptation does, for each row without it.
    pub(super) adaptation: Vec<String>,
    /// Not all rows are there: a signal came.
    pub(super) interrupted: bool,
}

const COLUMNS: [&str; 14] = [
    "strategy",
    "outcome",
    "instructions",
    "direct %",
    "translated %",
    "callouts",
    "exits",
    "per 1000",
    "hidden #PF",
    "true #PF",
    "traces",
    "modelled cycles",
    "slowdown",
    "host s",
];

fn cells(row: &Row) -> [String; 14] {
    [
        row.name(),
        row.outcome().into(),
        grouped(row.retired),
        quotient(row.direct(), 2, "-"),
        quotient(row.translated(), 2, "-"),
        grouped(row.callouts()),
        grouped(row.exits()),
        quotient(row.per_thousand(), 2, "-"),
        grouped(row.of(Cause::HiddenPageFault)),
        grouped(row.of(Cause::TruePageFault)),
        grouped(row.traces()),
        grouped(row.cycles),
        quotient(row.slowdown, 2, "-"),
        format!("{:.3}", row.host.as_secs_f64()),
    ]
}

/// For people. `all_exits` adds every cause and the places that most exits come from.
pub(super) fn text(table: &Table, all_exits: bool) -> String {
    let mut out = String::new();
    if let Some(Row { verdict: Verdict::Reference(ending), .. }) = table.rows.first() {
        let _ = writeln!(out, "{}: {ending}\n", table.guest);
    }
    in_columns(&mut out, COLUMNS, table.rows.iter().map(cells), 2);
    let translated: Vec<_> = table.rows.iter().filter_map(|row| Some((row, row.translation()?))).collect();
    if !translated.is_empty() {
        out.push('\n');
        in_columns(&mut out, OF_TRANSLATION, translated.into_iter().map(translation_cells), 1);
    }
    for row in &table.rows {
        about(&mut out, row, all_exits);
    }
    let findings = table.findings.iter().map(|finding| finding.line(table.findings.len() > 1));
    for sentence in findings.chain(table.adaptation.iter().cloned()) {
        let _ = writeln!(out, "\n{sentence}");
    }
    if table.interrupted {
        let _ = writeln!(out, "\ninterrupted: the rows above are those that were finished");
    }
    out
}

/// A table: names, of which there are `names` columns, to the left, numbers to the right.
fn in_columns<const N: usize>(
    out: &mut String,
    heads: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
    names: usize,
) {
    let rows: Vec<_> = std::iter::once(heads.map(str::to_owned)).chain(rows).collect();
    for row in &rows {
        let mut line = String::new();
        for (n, cell) in row.iter().enumerate() {
            let width = rows.iter().map(|r| r[n].chars().count()).max().unwrap_or(0);
            let _ =
                if n < names { write!(line, "{cell:<width$}  ") } else { write!(line, "{cell:>width$}  ") };
        }
        let _ = writeln!(out, "{}", line.trim_end());
    }
}

const OF_TRANSLATION: [&str; 12] = [
    "translation",
    "units",
    "IDENT %",
    "expansion",
    "runs",
    "chained %",
    "indirect",
    "hits %",
    "inline",
    "retranslated",
    "taken back",
    "thrown away",
];

fn translation_cells((row, t): (&Row, &TranslationFigures)) -> [String; 12] {
    let [ident, expansion, chained, hits] = shares(t);
    [
        row.name(),
        grouped(t.units),
        quotient(ident, 1, "-"),
        quotient(expansion, 1, "-"),
        grouped(t.runs),
        quotient(chained, 2, "-"),
        grouped(t.indirect),
        quotient(hits, 2, "-"),
        grouped(t.inline),
        grouped(t.adapted),
        grouped(t.reverted),
        grouped(t.dropped.values().sum()),
    ]
}

/// What adaptation does: a run with it beside one without.
pub(super) fn adaptation(with: &Row, without: &Row) -> String {
    let (adapted, reverted) = with.translation().map_or((0, 0), |t| (t.adapted, t.reverted));
    if adapted == 0 {
        return format!(
            "{}: no access keeps leaving translated code, and adaptation changes nothing",
            with.name()
        );
    }
    let causes: Vec<_> = Cause::ALL
        .iter()
        .map(|cause| (cause.name(), with.of(*cause), without.of(*cause)))
        .filter(|(_, with, without)| with != without)
        .map(|(name, with, without)| format!("{name} {} and not {}", grouped(with), grouped(without)))
        .collect();
    format!(
        "{}: {} accesses were translated again into callouts, and {} of them back; exits are {} and not {} ({}), \
         modelled cycles {} and not {}",
        with.name(),
        grouped(adapted),
        grouped(reverted),
        grouped(with.exits()),
        grouped(without.exits()),
        if causes.is_empty() { "each cause as often".to_owned() } else { causes.join(", ") },
        grouped(with.cycles),
        grouped(without.cycles),
    )
}

fn about(out: &mut String, row: &Row, all_exits: bool) {
    let Some(figures) = &row.monitor else { return };
    let _ = writeln!(out, "\n{}", row.name());
    let causes = by_frequency(figures);
    let shown = if all_exits { causes.len() } else { TOP };
    let list: Vec<_> =
        causes.iter().take(shown).map(|(c, n)| format!("{} {}", c.name(), grouped(*n))).collect();
    let more = causes.len().saturating_sub(shown);
    let more = match more {
        0 => String::new(),
        1 => ", 1 other cause".into(),
        _ => format!(", {more} other causes"),
    };
    let _ = match list.is_empty() {
        true => writeln!(out, "  exits: none"),
        false => writeln!(out, "  exits: {}{more}", list.join(", ")),
    };
    for (why, n) in &figures.counts.interpreted {
        let share = 100.0 * *n as f64 / row.retired.max(1) as f64;
        let _ = writeln!(out, "  interpreted: {} ({share:.2}%), {}", grouped(*n), why.sentence());
    }
    if let Some(t) = &figures.translation {
        translation(out, t);
    }
    if let Some(audit) = &figures.audit {
        let _ = match audit.first {
            Some((breach, at)) => writeln!(out, "  audited: the guest got at {}, near {at}", breach.name()),
            None => writeln!(
                out,
                "  audited: in {} entries it got at nothing of the monitor's",
                grouped(audit.entries)
            ),
        };
    }
    if all_exits {
        sites(out, figures);
        if let Some(figures) = &figures.shadow {
            let _ = writeln!(out, "  shadow: {}", shadow(figures));
        }
    }
    if let Some(n) = row.boundaries {
        let _ = writeln!(out, "  compared at {} boundaries", grouped(n));
    }
    if let Verdict::Diverged(d, symbol) = &row.verdict {
        diverged(out, d, symbol.as_deref());
    }
}

fn translation(out: &mut String, t: &TranslationFigures) {
    let counted = |map: &BTreeMap<&str, u64>| {
        let mut list: Vec<_> = map.iter().collect();
        list.sort_by_key(|(name, n)| (std::cmp::Reverse(**n), **name));
        let list: Vec<_> = list.into_iter().map(|(name, n)| format!("{name} {}", grouped(*n))).collect();
        if list.is_empty() { "none".into() } else { list.join(", ") }
    };
    let _ = writeln!(out, "  callouts: {}", counted(&t.callouts));
    let _ = writeln!(
        out,
        "  thrown away: {}; found unchanged {}; single steps {}",
        counted(&t.dropped),
        grouped(t.renewed),
        grouped(t.singles)
    );
}

fn sites(out: &mut String, figures: &Report) {
    for ((cause, at), n) in sites_by_frequency(figures).into_iter().take(SITES) {
        let _ = writeln!(out, "    at {at:#010x}: {} {}", cause.name(), grouped(n));
    }
}

fn shadow(figures: &ShadowFigures) -> String {
    let changes = figures.counts.changes.iter().map(|(change, n)| {
        let name = serde_json::to_value(change).ok().and_then(|v| v.as_str().map(str::to_owned));
        format!("{} {}", name.unwrap_or_default(), grouped(*n))
    });
    let spaces = format!("address spaces {}", grouped(figures.counts.spaces_made));
    let switches = format!("switches {}", grouped(figures.counts.switches));
    let frames = format!("tables at most {}", figures.most_tables);
    changes.chain([spaces, switches, frames]).collect::<Vec<_>>().join(", ")
}

fn diverged(out: &mut String, d: &Divergence, symbol: Option<&str>) {
    let bytes: Vec<_> = d.bytes.iter().map(|b| format!("{b:02x}")).collect();
    let place = symbol.map_or(String::new(), |s| format!(" ({s})"));
    let _ = writeln!(
        out,
        "  diverged after {} instructions, at {:04x}:{:08x}{place}\n    {}  {}",
        grouped(d.after),
        d.cs,
        d.eip,
        bytes.join(" "),
        d.disassembly
    );
    for piece in d.differences.iter().take(PIECES) {
        let _ = writeln!(out, "    {}: bare {}, here {}", piece.piece, piece.first, piece.second);
    }
    let more = d.differences.len().saturating_sub(PIECES);
    if more > 0 {
        let _ = writeln!(out, "    and {more} more pieces of state");
    }
    let kind = if d.sensitive_unprivileged { "sensitive and unprivileged" } else { "not sensitive" };
    let _ = writeln!(out, "    {kind}. {}", capitalized(&d.why));
}

/// The sentence with its first letter in upper case.
fn capitalized(sentence: &str) -> String {
    let mut chars = sentence.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// One row a line, the columns of the table and then the exits by cause.
pub(super) fn csv(table: &Table) -> String {
    let mut out = String::from(
        "guest,strategy,mmu,coherence,outcome,instructions,direct_percent,exits,exits_per_1000,hidden_page_faults,\
         true_page_faults,trace_hits,modelled_cycles,slowdown,host_seconds,diverged_after,diverged_at,translated_percent,callouts,units,ident_percent,\
         chained_percent,indirect_hit_percent,expansion,units_dropped,without_rule,adaptive,retranslated,taken_back",
    );
    for cause in Cause::ALL {
        let _ = write!(out, ",{}", cause.name());
    }
    out.push('\n');
    for row in &table.rows {
        let divergence = match &row.verdict {
            Verdict::Diverged(d, _) => format!("{},{:#x}", d.after, d.linear),
            _ => ",".into(),
        };
        let mmu = row.cell.mmu();
        let coherence = row.cell.coherence().map_or(String::new(), |c| c.to_string());
        let figure = |of| quotient(of, 4, "");
        let _ = write!(
            out,
            "{},{},{mmu},{coherence},{},{},{},{},{},{},{},{},{},{},{:.6},{divergence}",
            quoted(&table.guest),
            row.cell.strategy(),
            row.outcome(),
            row.retired,
            figure(row.direct()),
            row.exits(),
            figure(row.per_thousand()),
            row.of(Cause::HiddenPageFault),
            row.of(Cause::TruePageFault),
            row.traces(),
            row.cycles,
            figure(row.slowdown),
            row.host.as_secs_f64(),
        );
        match row.translation() {
            Some(t) => {
                let dropped: u64 = t.dropped.values().sum();
                let [ident, expansion, chained, hits] = shares(t).map(figure);
                let _ = write!(
                    out,
                    ",{},{},{},{ident},{chained},{hits},{expansion},{dropped}",
                    figure(row.translated()),
                    t.all_callouts(),
                    t.units,
                );
            }
            None => out.push_str(",,,,,,,,"),
        }
        let _ = write!(out, ",{}", row.without_name().unwrap_or_default());
        let _ = match row.translation() {
            Some(t) => write!(out, ",{},{},{}", row.adaptive, t.adapted, t.reverted),
            None => write!(out, ",,,"),
        };
        for cause in Cause::ALL {
            let _ = write!(out, ",{}", row.of(cause));
        }
        out.push('\n');
    }
    out
}

/// A CSV field, quoted where it must be (RFC 4180).
fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

/// One object. It holds no host time: the same guest gives the same bytes. `places` adds where exits come from.
pub(super) fn json(table: &Table, places: bool) -> String {
    let mut rows: Vec<_> = table.rows.iter().map(row_json).collect();
    if places {
        rows.iter_mut()
            .zip(&table.rows)
            .for_each(|(object, row)| object["exits_by_place"] = places_json(row));
    }
    let mut object = json!({ "guest": table.guest, "interrupted": table.interrupted, "rows": rows });
    if !table.findings.is_empty() {
        object["without_rule"] = json!(table.findings);
    }
    if !table.adaptation.is_empty() {
        object["adaptation"] = json!(table.adaptation);
    }
    format!("{object}\n")
}

/// The most frequent first.
fn places_json(row: &Row) -> Value {
    let places = row.monitor.as_ref().map(sites_by_frequency).unwrap_or_default();
    let place =
        |((cause, at), n): ((Cause, u32), u64)| json!({ "at": at, "cause": cause.name(), "exits": n });
    places.into_iter().map(place).collect()
}

fn row_json(row: &Row) -> Value {
    let exits: BTreeMap<_, _> = Cause::ALL.iter().map(|c| (c.name(), row.of(*c))).collect();
    let interpreted: BTreeMap<Obstacle, u64> =
        row.monitor.as_ref().map(|m| m.counts.interpreted.clone()).unwrap_or_default();
    let divergence = match &row.verdict {
        Verdict::Diverged(d, symbol) => json!({ "symbol": symbol, "where": d }),
        _ => Value::Null,
    };
    json!({
        "strategy": row.cell.strategy(),
        "mmu": row.cell.mmu(),
        "coherence": row.cell.coherence(),
        "without_rule": row.without_name(),
        "adaptive": row.translation().map(|_| row.adaptive),
        "outcome": row.outcome(),
        "instructions": row.retired,
        "direct": row.monitor.as_ref().map_or(row.retired, |m| m.counts.direct),
        "translated": row.monitor.as_ref().map_or(0, |m| m.counts.translated),
        "translation": row.translation(),
        "emulated": row.monitor.as_ref().map_or(0, |m| m.counts.emulated),
        "interpreted": interpreted,
        "exits": exits,
        "exits_total": row.exits(),
        "trace_hits": row.traces(),
        "boundaries": row.boundaries,
        "shadow": row.monitor.as_ref().and_then(|m| m.shadow.as_ref()),
        "modelled_cycles": row.cycles,
        "slowdown": row.slowdown,
        "divergence": divergence,
    })
}
