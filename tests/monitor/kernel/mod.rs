//! Generated kernels that keep the manual's rules: they flush what they change, so they must end the same on every machine
//! whose monitor is right. Those of [`kernels`] use no instruction that is sensitive and unprivileged where it shows;
//! those of [`any_kernels`] do, too. A kernel is a list of operations; it shrinks to the few that matter, and it is a
//! flat binary that `subring run` starts.
//!
//! | file | what it is |
//! |---|---|
//! | `code` | instructions on their way to memory |
//! | `tables` | where page tables lie, with PAE and without |
//! | `emit` | operations about memory, paging, ports and interrupts, as instructions |
//! | `games` | operations about segments, modes, and code that changes |
//! | `image` | the flat binary around them: tables, handlers, user code, the way there |

pub(super) mod code;
mod emit;
mod games;
pub(super) mod image;
mod tables;

pub(crate) use image::{BASE, RAM, binary, listing, machine};
use proptest::prelude::*;

/// What a kernel does.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// Writes a window entry of the current space, and INVLPG (or a load of CR3) for it; perhaps the page is read before, and
    /// written after.
    SetPte { page: u32, frame: u32, flags: u32, by_cr3: bool, around: (bool, bool) },
    /// Reads or writes a window page, as the kernel or as user code; user code perhaps with TF set.
    Touch { page: u32, offset: u32, write: bool, user: bool, step: bool },
    /// The same as user code with alignment checked, with IF or without.
    Aligned { page: u32, offset: u32, write: bool, interrupts: bool },
    /// A string instruction over window pages; it may fault on the way.
    String { kind: u8, from: u32, to: u32, count: u32 },
    /// A window page is mapped anew, and touched first by an instruction that has read its entry before, which shows whether it was
    /// marked by then: MOVS, CMPS, REP MOVS, PUSH, POP.
    First { page: u32, frame: u32, way: u8 },
    /// The other address space.
    Switch,
    /// The window's directory entry: its table, nothing, or a 4 MiB page; then a load of CR3.
    SetPde { kind: u8 },
    /// A global page of both address spaces, in both formats, is mapped to a frame and flushed, by INVLPG or by CR4.PGE, off and on; it
    /// is accessed here and in the other address space.
    Global { frame: u32, flags: u32, by_pge: bool, write: bool, user: bool },
    /// CR4.PGE the other way.
    TogglePge,
    /// CR4.PSE the other way; a window page is accessed before and after, perhaps by way of an entry that is the table's without PSE, and
    /// with it has reserved bits set.
    TogglePse { page: u32, write: bool, large: bool },
    /// CR0.WP the other way, between two writes of the kernel's to a read-only page of the window.
    ToggleWp { page: u32 },
    /// Paging off, and on again.
    PagingOff,
    /// Paging off, and on again with the other format of tables.
    Pae,
    /// With PAE: the last directory pointer is written, perhaps with a reserved bit, and perhaps loaded by way of CR3.
    Pointer { kind: u8, load: bool },
    /// The window's second place comes or goes; a page of it is touched there. With PAE that is a change of the top level, which counts
    /// when CR3 is loaded.
    Alias { on: bool, page: u32, write: bool, reload: bool },
    /// A window page in all far places, more than a monitor with few frames has tables for; then it is mapped to another frame, CR3
    /// loaded, and all are visited again, backwards.
    Sweep { page: u32, frame: u32, write: bool },
    /// CLI or STI.
    Interrupts(bool),
    /// STI and HLT, until the timer wakes the processor; then perhaps CLI.
    Sleep { close: bool },
    /// OUT to the POST port, IN from the keyboard controller's status.
    Ports(u8),
    /// A character is sent to COM1.
    Print(u8),
    /// INT 30h in ring 0.
    Int,
    /// Privileged instructions from user code: CLI, HLT, OUT.
    UserMisdeed(u8),
    /// To real mode and back.
    Real,
    /// To virtual-8086 mode, and back by a fault.
    V86,
    /// A segment with this descriptor is loaded, read and written, within its limit and across it.
    Segment { base: u32, limit: u16, kind: u8 },
    /// The segment of FS changes in the GDT while FS holds the old one.
    Stale { limit: u16 },
    /// A stack segment of 16 bits for some pushes.
    SmallStack,
    /// A segment from the LDT.
    Local { base: u32 },
    /// Arithmetic.
    Compute(u32),
    /// The operand of the next instruction is written first, again and again.
    SelfModify { n: u32, times: u32 },
    /// Code in the code window runs: a routine within a page, or one that crosses into the next.
    Run { page: u32, crossing: bool, user: bool },
    /// The same routine is written first, one that crosses in either page: through the frame's own address, or through the code window.
    Patch { page: u32, crossing: bool, through_window: bool, n: u32 },
    /// A page of the code window is mapped to another frame, by code in that page.
    Remap { page: u32, frame: u32, flags: u32 },
    /// The next page is mapped to another frame, right before an instruction that crosses into it.
    RemapNext { page: u32, frame: u32, flags: u32 },
    /// Code in a segment with a base and a limit, which may cut it short; it comes back by an interrupt or a far jump.
    Based { offset: u32, cut: u8, kind: u8, user: bool, far: bool },
    /// One instruction keeps writing to page tables, descriptors, no memory or plain memory; then to another of these.
    Rewrite { kind: u8, other: u8, times: u32 },
    /// A repeated store to absent entries of a page table.
    Fill { count: u32 },
    /// Reads or writes a window page from behind an IRET, as the kernel, as user code, or as user code that did the IRET itself (way 0
    /// to 2), with a breakpoint at the instruction (kind 0) or at what it writes (1) or accesses (3); with RF set a code
    /// breakpoint does not count.
    Break { page: u32, kind: u8, write: bool, way: u8, resume: bool },
    /// x87 instructions: errors are unmasked, masked, made, waited for and cleared.
    Numeric(Vec<u8>),
    /// The timer ticks at another rate.
    Timer(u8),
    /// An access to the last pages of linear space, where a monitor may live.
    TouchTop { offset: u32, write: bool, user: bool },
    /// A sensitive unprivileged instruction, where its result shows.
    Sensitive(u8),
    /// The kernel overwrites itself: for guests that are written by hand.
    Corrupt { at: u32, value: u32 },
}

/// Pages of the window, and frames that they are mapped to.
const PAGES: u32 = 6;
const FRAME_COUNT: u32 = 16;
/// Pages of the code window, and frames with code.
const CODE_PAGES: u32 = 4;

/// Lists of operations with nothing sensitive that does not trap.
pub(crate) fn kernels() -> impl Strategy<Value = Vec<Op>> {
    proptest::collection::vec(op(), 1..60)
}

/// Those that do nothing but page tables.
pub(crate) fn page_tables() -> impl Strategy<Value = Vec<Op>> {
    proptest::collection::vec(prop_oneof![16 => memory(), 1 => sweep(), 2 => Just(Op::Pae)], 1..60)
}

/// Those that end the same: of all kinds, unless what is sensitive and does not trap goes wrong.
pub(crate) fn kernels_for(parts_at_sensitive: bool) -> BoxedStrategy<Vec<Op>> {
    if parts_at_sensitive { kernels().boxed() } else { any_kernels().boxed() }
}

/// Lists of operations of all kinds.
pub(crate) fn any_kernels() -> impl Strategy<Value = Vec<Op>> {
    let sensitive = any::<u8>().prop_map(Op::Sensitive);
    proptest::collection::vec(prop_oneof![12 => op(), 1 => sensitive], 1..60)
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![16 => memory(), 6 => system(), 6 => segments(), 9 => code()]
}

fn sweep() -> impl Strategy<Value = Op> {
    (0..PAGES, 0..FRAME_COUNT, any::<bool>()).prop_map(|(page, frame, write)| Op::Sweep {
        page,
        frame,
        write,
    })
}

fn memory() -> impl Strategy<Value = Op> {
    let page = || 0..PAGES;
    let at = || (page(), 0..4096u32).prop_map(|(page, offset)| page << 12 | offset);
    prop_oneof![
        4 => (page(), 0..FRAME_COUNT, any::<u32>(), any::<bool>(), any::<(bool, bool)>()).prop_map(
            |(page, frame, flags, by_cr3, around)| Op::SetPte { page, frame, flags, by_cr3, around }
        ),
        6 => (page(), 0..4093u32, any::<bool>(), any::<bool>(), 0..8u8).prop_map(
            |(page, offset, write, user, n)| Op::Touch { page, offset, write, user, step: n == 0 }
        ),
        3 => (page(), 0..4093u32, any::<bool>(), any::<bool>()).prop_map(
            |(page, offset, write, interrupts)| Op::Aligned { page, offset, write, interrupts }
        ),
        2 => (any::<u8>(), at(), at(), 1..2500u32)
            .prop_map(|(kind, from, to, count)| Op::String { kind: kind % 8, from, to, count }),
        1 => (page(), 0..FRAME_COUNT, 0..5u8).prop_map(|(page, frame, way)| Op::First { page, frame, way }),
        1 => Just(Op::Switch),
        1 => any::<u8>().prop_map(|kind| Op::SetPde { kind: kind % 3 }),
        1 => (any::<u8>(), any::<bool>()).prop_map(|(kind, load)| Op::Pointer { kind: kind % 3, load }),
        1 => (1..300u32).prop_map(|count| Op::Fill { count }),
        1 => page().prop_map(|page| Op::ToggleWp { page }),
        1 => sweep(),
        1 => (page(), any::<(bool, bool, bool)>())
            .prop_map(|(page, (on, write, reload))| Op::Alias { on, page, write, reload }),
        1 => Just(Op::TogglePge),
        2 => (page(), any::<bool>(), any::<bool>())
            .prop_map(|(page, write, large)| Op::TogglePse { page, write, large }),
        3 => (0..FRAME_COUNT, any::<u32>(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
            |(frame, flags, by_pge, write, user)| Op::Global { frame, flags, by_pge, write, user }
        ),
        1 => (0..0x40_0000u32, 0..3u8, any::<bool>(), any::<bool>()).prop_map(|(offset, n, write, user)| {
            // One in three where the monitor's own pages are.
            let offset = if n == 0 { offset % 0x2_2000 } else { offset } & !3;
            Op::TouchTop { offset, write, user }
        }),
    ]
}

fn system() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => any::<bool>().prop_map(Op::Interrupts),
        1 => any::<bool>().prop_map(|close| Op::Sleep { close }),
        1 => any::<u8>().prop_map(Op::Ports),
        1 => any::<u8>().prop_map(Op::Print),
        1 => Just(Op::Int),
        1 => any::<u8>().prop_map(Op::UserMisdeed),
        1 => Just(Op::PagingOff),
        2 => Just(Op::Pae),
        1 => (2..40u8).prop_map(Op::Timer),
        2 => proptest::collection::vec(0..7u8, 1..12).prop_map(Op::Numeric),
        2 => (0..PAGES, 0..3usize, any::<bool>(), 0..3u8, any::<bool>()).prop_map(
            |(page, kind, write, way, resume)| Op::Break { page, kind: [0, 1, 3][kind], write, way, resume }
        ),
        1 => Just(Op::Real),
        1 => Just(Op::V86),
    ]
}

fn segments() -> impl Strategy<Value = Op> {
    let base = || prop_oneof![Just(0), Just(0x40_0000), Just(0xffb0_0000), 0..0x20_0000u32];
    prop_oneof![
        3 => (base(), any::<u16>(), any::<u8>())
            .prop_map(|(base, limit, kind)| Op::Segment { base, limit, kind: kind % 8 }),
        2 => any::<u16>().prop_map(|limit| Op::Stale { limit }),
        1 => Just(Op::SmallStack),
        1 => base().prop_map(|base| Op::Local { base }),
    ]
}

fn code() -> impl Strategy<Value = Op> {
    let page = || 0..CODE_PAGES;
    prop_oneof![
        2 => any::<u32>().prop_map(Op::Compute),
        1 => (any::<u32>(), 1..20u32).prop_map(|(n, times)| Op::SelfModify { n, times }),
        2 => (page(), any::<bool>(), any::<bool>())
            .prop_map(|(page, crossing, user)| Op::Run { page, crossing, user }),
        2 => (page(), any::<bool>(), any::<bool>(), any::<u32>())
            .prop_map(|(page, crossing, through_window, n)| Op::Patch { page, crossing, through_window, n }),
        2 => (page(), page(), 0..16u32).prop_map(|(page, frame, n)| {
            // Mostly a page that all may use; else what user code or writes or nobody may.
            Op::Remap { page, frame, flags: *[1, 3, 5, 0].get(n as usize).unwrap_or(&7) }
        }),
        2 => (page(), page(), 0..16u32).prop_map(|(page, frame, n)| {
            Op::RemapNext { page, frame, flags: *[1, 3, 0, 0x27].get(n as usize).unwrap_or(&7) }
        }),
        1 => (0..6u8, 0..6u8, 1..120u32).prop_map(|(kind, other, times)| Op::Rewrite { kind, other, times }),
        2 => based(),
    ]
}

fn based() -> impl Strategy<Value = Op> {
    let offset = prop_oneof![1 => Just(0), 4 => 0..0x4000u32, 1 => Just(0xffff_f000)];
    (offset, 0..50u8, 0..7u8, any::<bool>(), any::<bool>())
        .prop_map(|(offset, cut, kind, user, far)| Op::Based { offset, cut, kind, user, far })
}
