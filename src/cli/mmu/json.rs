//! What `subring mmu --json` prints: of one moment an object, of `--watch` an object a line. Addresses are
//! numbers.

use super::event::change_name;
use super::text::why_traced;
use super::{Moment, Names};
use crate::cpu::{Cr0, Cr4};
use crate::decode::disassemble;
use crate::lab::mappings::Page;
use crate::report::{About, Noted, Reason};
use serde_json::{Value, json};

/// The moment.
pub(super) fn moment(m: &Moment<'_>) -> String {
    let cpu = &m.machine.cpu;
    let pages: Vec<Value> = m.view.pages(m.pages.clone()).iter().map(|p| page(m, p)).collect();
    let traced: Vec<Value> = m.view.shadow.map_or_else(Vec::new, |shadow| {
        let one = |(at, why): (crate::addr::GuestPhys, Reason)| {
            json!({ "frame": at.0, "why": why_traced(&shadow.roles(at), why, m.view) })
        };
        shadow.all_traced().into_iter().map(one).collect()
    });
    let object = json!({
        "guest": m.guest,
        "machine": m.who,
        "how": m.how,
        "instructions": cpu.retired(),
        "eip": cpu.eip,
        "symbol": m.names.of(cpu.eip),
        "paging": m.view.paging(),
        "pae": cpu.cr4.contains(Cr4::PAE),
        "wp": cpu.cr0.contains(Cr0::WP),
        "cr3": cpu.cr3,
        "pdptes": cpu.pdptes,
        "shadow_space": m.view.root.map(|root| root.0),
        "pages": pages,
        "write_protected": traced,
    });
    object.to_string() + "\n"
}

fn page(m: &Moment<'_>, p: &Page) -> Value {
    let guest = p.guest.map(|g| {
        json!({
            "frame": g.frame.0, "user": g.user, "write": g.write, "accessed": g.accessed, "dirty": g.dirty,
            "global": g.global, "reserved": g.reserved, "size": g.size, "entry": g.entry.map(|at| at.0),
        })
    });
    let shadow = p.shadow.map(|(leaf, frame)| {
        json!({
            "machine_frame": leaf.frame.0, "user": leaf.user, "write": leaf.write,
            "guest_frame": frame.map(|at| at.0),
        })
    });
    let nested = p.nested.map(|leaf| json!({ "machine_frame": leaf.frame.0, "write": leaf.write }));
    let tlb =
        p.tlb.map(|t| json!({ "frame": t.frame.0, "user": t.user, "write": t.write, "global": t.global }));
    let history: Vec<Value> = m.view.history(p.at).into_iter().map(|n| change(m.names, n)).collect();
    json!({ "linear": p.at.0, "guest": guest, "shadow": shadow, "nested": nested, "tlb": tlb, "marks": p.marks, "history": history })
}

fn change(names: &Names, n: &Noted) -> Value {
    let origin = &*n.origin;
    let about = match n.about {
        About::Nothing => Value::Null,
        About::Access(a) => json!({ "access": if a.write { "write" } else { "read" }, "user": a.user }),
        About::Written(at) => json!({ "written": at.0 }),
        About::Traced(why) => json!({
            "page_table": why.contains(Reason::PAGE_TABLE), "descriptors": why.contains(Reason::DESCRIPTORS),
        }),
    };
    json!({
        "linear": n.at.0,
        "change": change_name(n.change),
        "space": n.root.0,
        "user": n.leaf.user,
        "write": n.leaf.write,
        "about": about,
        "instructions": origin.retired,
        "eip": origin.eip,
        "symbol": names.of(origin.eip),
        "instruction": if origin.outside { None } else { Some(disassemble(&origin.bytes, origin.code32, origin.eip)) },
    })
}

/// Changes, an object a line.
pub(super) fn changes(names: &Names, log: &[Noted]) -> String {
    log.iter().map(|n| change(names, n).to_string() + "\n").collect()
}
