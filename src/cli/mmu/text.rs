//! What `subring mmu` prints of one moment: a table of runs of pages, or page by page with the history of
//! each; then who is write-protected.

use super::event::change_name;
use super::{Moment, Names};
use crate::addr::{GuestPhys, Linear, PAGE_OFFSET, PAGE_SIZE};
use crate::cli::columns::wrapped;
use crate::cpu::{Cr0, Cr4};
use crate::decode::disassemble;
use crate::lab::digits::grouped;
use crate::lab::mappings::{GuestEntry, Mark, Page, Size, View};
use crate::lab::nested_walk::{End, Table, walk};
use crate::machine::NestedView;
use crate::mmu::tlb::Cached;
use crate::report::{About, Change, Key, Leaf, NestedLeaf, Noted, Origin, Reason, Role, Top};
use std::fmt::Write;

/// The most pages that are shown one by one.
const ONE_BY_ONE: usize = 64;
/// The most write-protected frames that are listed.
const FRAMES: usize = 40;
/// What stands before the notes on pages, which have lines of their own.
const NOTES: &str = "";

/// Everything, for people.
pub(super) fn text(m: &Moment<'_>) -> String {
    let mut out = String::new();
    head(&mut out, m);
    let pages = m.view.pages(m.pages.clone());
    if pages.is_empty() {
        _ = writeln!(out, "\nNobody maps anything there.");
    } else if m.ranged && pages.len() <= ONE_BY_ONE {
        pages.iter().for_each(|page| one(&mut out, m, page));
    } else {
        table(&mut out, m, &pages);
    }
    sums(&mut out, m, &pages);
    protected(&mut out, m, &pages);
    out
}

fn head(out: &mut String, m: &Moment<'_>) {
    let (cpu, names) = (&m.machine.cpu, m.names);
    let place = place(names, cpu.seg(crate::decode::SegReg::Cs).selector.0, cpu.eip);
    *out += &wrapped(
        &format!("{}, {}: after {} instructions, at {place}", m.guest, m.who, grouped(cpu.retired())),
        2,
    );
    _ = writeln!(out, "{}", m.how);
    let bits = |names: &[(&'static str, bool)]| {
        let set: Vec<&str> = names.iter().filter(|(_, on)| *on).map(|(name, _)| *name).collect();
        if set.is_empty() { "none of its paging bits".to_owned() } else { set.join(" ") }
    };
    let cr4 = [
        ("PSE", cpu.cr4.contains(Cr4::PSE)),
        ("PAE", cpu.cr4.contains(Cr4::PAE)),
        ("PGE", cpu.cr4.contains(Cr4::PGE)),
    ];
    if m.view.paging() {
        let wp = u8::from(cpu.cr0.contains(Cr0::WP));
        _ = writeln!(out, "guest   CR3 {:08x}, CR0.WP {wp}, CR4 {}", cpu.cr3, bits(&cr4));
        if cpu.cr4.contains(Cr4::PAE) {
            let pointers = cpu.pdptes.map(|p| format!("{p:016x}")).join(" ");
            _ = writeln!(out, "        PDPTE registers {pointers}");
        }
    } else {
        *out += "guest   paging is off: linear addresses are guest-physical ones, and there are no\n        \
                 guest page tables\n";
    }
    if let Some(nested) = m.view.nested {
        nested_head(out, m, nested);
        return;
    }
    let Some(shadow) = m.view.shadow else {
        *out += "shadow  none: this is the bare machine, whose processor walks the guest's page tables\n        \
                 itself; --strategy trap has a shadow\n";
        return;
    };
    let (spaces, frames) = (shadow.spaces(), shadow.tables());
    let own = match m.view.root {
        Some(root) => format!("address space {} of {} kept", root.0, spaces.len()),
        None => format!("none yet of this address space, {} of others", spaces.len()),
    };
    _ = writeln!(out, "shadow  {own}, {} frames of tables in all", grouped(frames as u64));
    for (key, root) in spaces.iter().take(FRAMES).filter(|_| spaces.len() > 1) {
        let here = if Some(*root) == m.view.root { ", the current one" } else { "" };
        _ = writeln!(out, "        {}: {}{here}", root.0, space(key));
    }
}

fn nested_head(out: &mut String, m: &Moment<'_>, nested: &dyn NestedView) {
    let mapped = nested.leaves(&m.machine.world.map.ram).len();
    _ = writeln!(
        out,
        "nested  EPT pointer {:08x}, {} frames of tables, {} frames of the guest mapped",
        nested.pointer(),
        grouped(nested.tables() as u64),
        grouped(mapped as u64)
    );
    let walks = m.machine.world.nested;
    _ = writeln!(
        out,
        "        {} walks in two dimensions so far, {} references",
        grouped(walks.walks),
        grouped(walks.references)
    );
}

fn space(key: &Key) -> String {
    let wp = if key.wp { ", WP" } else { "" };
    match key.top {
        Top::Off => "paging off".into(),
        Top::Directory(at) => {
            format!("page directory {:08x}{wp}{}", at.0, if key.pse { ", PSE" } else { "" })
        }
        Top::Pointers(pointers) => {
            let all = pointers.map(|p| p.map_or("-".into(), |at| format!("{:08x}", at.0))).join(" ");
            format!("PAE, page directories {all}{wp}")
        }
    }
}

/// A place in the guest's code.
pub(super) fn place(names: &Names, cs: u16, eip: u32) -> String {
    let symbol = names.of(eip).map_or(String::new(), |name| format!(" ({name})"));
    format!("{cs:04x}:{eip:08x}{symbol}")
}

fn rights(user: bool, write: bool) -> String {
    format!("r{}{}", if write { 'w' } else { '-' }, if user { 'u' } else { 's' })
}

fn guest_text(g: Option<&GuestEntry>) -> String {
    let Some(g) = g else { return "-".into() };
    if g.size == Size::Unpaged {
        return format!("{:08x} (no paging)", g.frame.0);
    }
    let flag = |on: bool, c: char| if on { c } else { '-' };
    let size = match g.size {
        Size::Large4M => " 4M",
        Size::Large2M => " 2M",
        Size::Small | Size::Unpaged => "",
    };
    let flags: String =
        [flag(g.accessed, 'A'), flag(g.dirty, 'D'), flag(g.global, 'G')].into_iter().collect();
    format!("{:08x} {} {flags}{size}", g.frame.0, rights(g.user, g.write))
}

fn nested_text(page: &Page, exact: bool) -> String {
    let rights = |leaf: &NestedLeaf| if leaf.write { "rwx" } else { "r-x" };
    match &page.nested {
        None => "-".into(),
        Some(leaf) if exact => format!("{:08x} {}", leaf.frame.0, rights(leaf)),
        Some(leaf) => format!("scattered {}", rights(leaf)),
    }
}

fn shadow_text(page: &Page, exact: bool) -> String {
    match &page.shadow {
        None => "-".into(),
        Some((leaf, _)) if exact => format!("{:08x} {}", leaf.frame.0, rights(leaf.user, leaf.write)),
        Some((leaf, _)) => format!("scattered {}", rights(leaf.user, leaf.write)),
    }
}

fn tlb_rights(tlb: Option<&Cached>) -> String {
    tlb.map_or("-".into(), |t| rights(t.user, t.write))
}

/// A mark in a table, and in full.
fn mark_text(mark: Mark) -> (&'static str, &'static str) {
    match mark {
        Mark::Missing => {
            ("missing", "MISSING in the shadow: it is filled on the next access, a hidden page fault")
        }
        Mark::Unmapped => {
            ("unmapped", "UNMAPPED in the extended page tables: mapped on the next access, an EPT violation")
        }
        Mark::Stale => {
            ("STALE", "STALE: the shadow says otherwise, or allows more, than the guest's tables do now")
        }
        Mark::StaleTlb => {
            ("STALE TLB", "STALE TLB: it holds what the tables that it is filled from do not say any more")
        }
        Mark::Clean => (
            "write-protected: dirty bit clear",
            "write-protected, so that the first write sets the guest's dirty bit",
        ),
        Mark::PageTable => {
            ("write-protected: page table", "write-protected: the frame is one of the guest's page tables")
        }
        Mark::Descriptors => {
            ("write-protected: descriptors", "write-protected: the frame holds the guest's GDT or LDT")
        }
        Mark::ReadSoFar => {
            ("write-protected: only read so far", "write-protected: it was only read since it was filled")
        }
        Mark::KernelsForNow => (
            "the kernel's for now",
            "the kernel's until user code asks: CR0.WP is clear in the guest, and set in the machine",
        ),
        Mark::Mmio => ("not RAM", "never mapped for this: a chip or nothing is there"),
        Mark::Rom => ("ROM", "a copy of a ROM's page: writes are emulated, and lost"),
        Mark::Reserved => ("reserved bit", "a reserved bit is set in the guest's entry: every access faults"),
    }
}

/// Whether `next` says of the page behind what `page` says of its own.
fn goes_on(page: &Page, next: &Page, last: (Option<Change>, Option<Change>)) -> bool {
    let follows = next.at.0 == page.at.0.wrapping_add(PAGE_SIZE) && next.at.0 != 0;
    let guest = match (&page.guest, &next.guest) {
        (Some(a), Some(b)) => {
            b.frame.0 == a.frame.0.wrapping_add(PAGE_SIZE)
                && GuestEntry { frame: a.frame, entry: a.entry, ..*b } == *a
        }
        (None, None) => true,
        _ => false,
    };
    let shadow = |page: &Page| {
        (page.shadow.map(|(leaf, _)| (leaf.user, leaf.write)), page.nested.map(|leaf| leaf.write))
    };
    let tlb = |page: &Page| page.tlb.map(|t| (t.user, t.write));
    follows
        && guest
        && (shadow(page), tlb(page)) == (shadow(next), tlb(next))
        && (page.traced, &page.marks) == (next.traced, &next.marks)
        && last.0 == last.1
}

fn last_change<'a>(m: &Moment<'a>, page: &Page) -> Option<&'a Noted> {
    m.view.history(page.at).last().copied()
}

/// Pages in runs.
fn table(out: &mut String, m: &Moment<'_>, pages: &[Page]) {
    _ = writeln!(
        out,
        "\n{:<17}  {:>7}  {:<20}  {:<13}  TLB\n{NOTES:8}what it is, and what happened to it last",
        "linear",
        "pages",
        "guest",
        if m.view.nested.is_some() { "nested" } else { "shadow" },
    );
    let last: Vec<Option<&Noted>> = pages.iter().map(|page| last_change(m, page)).collect();
    let mut start = 0;
    for n in 0..pages.len() {
        let kinds = |n: usize| last.get(n).copied().flatten().map(|noted| noted.change);
        if pages.get(n + 1).is_some_and(|next| goes_on(&pages[n], next, (kinds(n), kinds(n + 1)))) {
            continue;
        }
        run(out, m, &pages[start..=n], &last[start..=n]);
        start = n + 1;
    }
}

fn run(out: &mut String, m: &Moment<'_>, pages: &[Page], last: &[Option<&Noted>]) {
    let (page, end) = (&pages[0], pages[pages.len() - 1].at.0 | PAGE_OFFSET);
    let mut notes: Vec<String> = page.marks.iter().map(|mark| mark_text(*mark).0.to_owned()).collect();
    let when: Vec<u64> = last.iter().flatten().map(|noted| noted.origin.retired).collect();
    if let Some(noted) = last[0] {
        let (first, latest) = (when.iter().min().unwrap_or(&0), when.iter().max().unwrap_or(&0));
        let what = change_name(noted.change);
        notes.push(if pages.len() == 1 {
            format!("{what} at {} by {}", grouped(*first), by(m.names, &noted.origin))
        } else if first == latest {
            format!("{what} at {}", grouped(*first))
        } else {
            format!("{what} from {} to {}", grouped(*first), grouped(*latest))
        });
    }
    let line = format!(
        "{:08x}-{end:08x}  {:>7}  {:<20}  {:<13}  {}",
        page.at.0,
        grouped(pages.len() as u64),
        guest_text(page.guest.as_ref()),
        if m.view.nested.is_some() {
            nested_text(page, pages.len() == 1)
        } else {
            shadow_text(page, pages.len() == 1)
        },
        tlb_rights(page.tlb.as_ref()),
    );
    _ = writeln!(out, "{line}");
    if !notes.is_empty() {
        *out += &wrapped(&format!("{NOTES:8}{}", notes.join("; ")), 8);
    }
}

/// One page in full.
fn one(out: &mut String, m: &Moment<'_>, page: &Page) {
    let entry = page.guest.as_ref().and_then(|g| g.entry);
    let entry = entry.map_or(String::new(), |at| format!("   its entry is at {:08x}", at.0));
    let name = m.names.of(page.at.0).map_or(String::new(), |name| format!("  {name}"));
    _ = writeln!(out, "\n{:08x}{name}", page.at.0);
    _ = writeln!(out, "  guest   {}{entry}", guest_text(page.guest.as_ref()));
    if m.view.shadow.is_some() {
        let frame = page.shadow.as_ref().and_then(|(_, frame)| *frame);
        let frame = frame.map_or(String::new(), |at| format!("   which is guest frame {:08x}", at.0));
        _ = writeln!(out, "  shadow  {}{frame}", shadow_text(page, true));
    }
    if m.view.nested.is_some() {
        _ = writeln!(out, "  nested  {}", nested_text(page, true));
    }
    let tlb = page.tlb.map_or("-".into(), |t| format!("{:08x} {}", t.frame.0, rights(t.user, t.write)));
    _ = writeln!(out, "  TLB     {tlb}");
    for mark in &page.marks {
        *out += &wrapped(&format!("  {}", mark_text(*mark).1), 4);
    }
    for noted in m.view.history(page.at) {
        // Folded below what happened, beside its time and name.
        *out += &wrapped(&format!("  {}", change_line(m.names, noted, 1)), 29);
    }
    if let Some(nested) = m.view.nested {
        walk_text(out, m, nested, page.at);
    }
}

/// The walk that the processor makes for the page of `at`, each reference numbered.
fn walk_text(out: &mut String, m: &Moment<'_>, nested: &dyn NestedView, at: Linear) {
    let walk = walk(&m.machine.cpu, &m.machine.world.map.ram, nested.pointer(), at);
    let count = walk.references.len();
    _ = writeln!(out, "  a walk takes {count} reference{}:", if count == 1 { "" } else { "s" });
    for (n, reference) in (1..).zip(&walk.references) {
        let (what, width) = match reference.table {
            Table::Extended(level) => (format!("EPT level {level}, for {:08x}", reference.guest.0), 16),
            Table::Directory => (format!("guest directory, at {:08x}", reference.guest.0), 8),
            Table::PageTable => (format!("guest table, at {:08x}", reference.guest.0), 8),
        };
        let value = format!("{:0width$x}", reference.value);
        _ = writeln!(out, "  {n:>4}  {what:<28}  machine {:08x}: {value}", reference.at.0);
    }
    _ = match walk.end {
        End::Page(frame, machine) => {
            writeln!(out, "        the page: guest frame {:08x}, machine frame {:08x}", frame.0, machine.0)
        }
        End::NotPresent => writeln!(out, "        not present: the guest's own page fault, and no exit"),
        End::Violation(at) => writeln!(out, "        an EPT violation at {:08x}", at.0),
    };
}

/// Who did it: the instruction and its place.
fn by(names: &Names, origin: &Origin) -> String {
    if origin.outside {
        return format!(
            "a bus master or the delivery of an event, before {}",
            place(names, origin.cs, origin.eip)
        );
    }
    let insn = disassemble(&origin.bytes, origin.code32, origin.eip);
    format!("{insn} at {}", place(names, origin.cs, origin.eip))
}

/// A change in a line: when, what, to what, why, by whom; `pages` pages together.
pub(super) fn change_line(names: &Names, noted: &Noted, pages: u64) -> String {
    let what = change_name(noted.change);
    let count = if pages > 1 { format!(" ({pages} pages)") } else { String::new() };
    format!(
        "{:>13}  {what:<11} {}{count}; {}",
        grouped(noted.origin.retired),
        reason(noted),
        by(names, &noted.origin)
    )
}

/// What the change came to, and why.
fn reason(noted: &Noted) -> String {
    let Leaf { user, write, .. } = noted.leaf;
    let now = rights(user, write);
    match (noted.change, noted.about) {
        (Change::Filled | Change::Refilled, About::Access(access)) => {
            let who = if access.user { "user" } else { "kernel" };
            let what = if access.write { "write" } else { "read" };
            format!("{now} on a hidden page fault ({who} {what})")
        }
        (Change::Filled | Change::Refilled, _) => format!("{now} on a hidden page fault"),
        (Change::Downgraded, About::Traced(why)) => format!("{now}: {}", traced_text(why)),
        (Change::Downgraded, _) => format!("{now}: its frame is traced"),
        (Change::Synced, About::Written(at)) => format!("the guest wrote its page table at {:08x}", at.0),
        (Change::Synced, _) => "the guest wrote its page table".into(),
        (Change::Flushed, _) => "the guest flushed its TLB".into(),
        (Change::Invalidated, _) => "the guest invalidated the page".into(),
        (Change::Evicted, _) => "its place was needed, and it was not used for longest".into(),
        (Change::Dropped, _) => "its address space is no more, or memory was mapped anew".into(),
    }
}

fn traced_text(why: Reason) -> &'static str {
    if why.contains(Reason::PAGE_TABLE) {
        "its frame is a page table of the guest's now"
    } else {
        "its frame holds the guest's GDT or LDT now"
    }
}

fn sums(out: &mut String, m: &Moment<'_>, pages: &[Page]) {
    if m.view.nested.is_some() {
        let (count, has) = (
            |f: &dyn Fn(&Page) -> bool| grouped(pages.iter().filter(|p| f(p)).count() as u64),
            |mark: Mark| move |p: &Page| p.marks.contains(&mark),
        );
        out.push('\n');
        *out += &wrapped(
            &format!(
                "pages: the guest maps {}, {} of them to frames that are mapped ({} unmapped), the TLB {} ({} stale)",
                count(&|p| p.guest.is_some()),
                count(&|p| p.nested.is_some()),
                count(&has(Mark::Unmapped)),
                count(&|p| p.tlb.is_some()),
                count(&has(Mark::StaleTlb)),
            ),
            2,
        );
        return;
    }
    // Under a monitor the TLB is filled from the shadow.
    let unlike = if m.view.shadow.is_some() { "unlike the shadow" } else { "stale" };
    let count = |f: &dyn Fn(&Page) -> bool| grouped(pages.iter().filter(|p| f(p)).count() as u64);
    let has = |mark: Mark| move |p: &Page| p.marks.contains(&mark);
    out.push('\n');
    *out += &wrapped(
        &format!(
            "pages: the guest maps {}, the shadow {} ({} missing, {} stale), the TLB {} ({} {unlike})",
            count(&|p| p.guest.is_some()),
            count(&|p| p.shadow.is_some()),
            count(&has(Mark::Missing)),
            count(&has(Mark::Stale)),
            count(&|p| p.tlb.is_some()),
            count(&has(Mark::StaleTlb)),
        ),
        2,
    );
}

/// The traced frames: all of them, or those that the range maps or is mapped by.
fn protected(out: &mut String, m: &Moment<'_>, pages: &[Page]) {
    let Some(shadow) = m.view.shadow else { return };
    let concerned = |at: GuestPhys| {
        !m.ranged
            || pages
                .iter()
                .filter_map(|p| p.guest)
                .any(|g| g.frame.page() == at || g.entry.is_some_and(|entry| entry.page() == at))
    };
    let frames: Vec<_> = shadow.all_traced().into_iter().filter(|(at, _)| concerned(*at)).collect();
    if frames.is_empty() {
        return;
    }
    _ = writeln!(out, "write-protected guest frames:");
    for (at, why) in frames.iter().take(FRAMES) {
        *out += &wrapped(&format!("  {:08x}  {}", at.0, why_traced(&shadow.roles(*at), *why, m.view)), 12);
    }
    if frames.len() > FRAMES {
        _ = writeln!(out, "  and {} more", frames.len() - FRAMES);
    }
}

/// Why a frame is traced, in words.
pub(super) fn why_traced(roles: &[Role], why: Reason, view: &View<'_>) -> String {
    let mut all: Vec<String> = Vec::new();
    for role in roles {
        let kind = if role.directory { "page directory" } else { "page table" };
        let other =
            if Some(role.root) == view.root { String::new() } else { format!(" in space {}", role.root.0) };
        all.push(format!("{kind} of {}{other}", span(role.first, role.last)));
    }
    if roles.is_empty() && why.contains(Reason::PAGE_TABLE) {
        all.push("page table".into());
    }
    if why.contains(Reason::DESCRIPTORS) {
        all.push("the guest's GDT or LDT".into());
    }
    all.join(", ")
}

fn span(first: Linear, last: Linear) -> String {
    format!("{:08x}-{:08x}", first.0, last.0)
}
