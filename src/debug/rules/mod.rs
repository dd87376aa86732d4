//! The usual mistakes, a line each: a name, and a function that gives the sentence if the dead machine looks
//! like it.
//!
//! The order is that of likelihood where several match: what stopped the guest's progress by itself, then
//! what made the first exception, then what kept it from being delivered.

mod controllers;
mod delivery;
mod flow;
mod fpu;
mod interrupts;
mod paging;
mod repeats;
mod segments;
mod stack;
mod stuck;
mod vmx;

use super::Ending;
use super::facts::Facts;
use serde::Serialize;
pub(super) use stuck::stuck;

/// A mistake that this death looks like.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// The rule's name.
    pub rule: &'static str,
    /// What is wrong, and what to do.
    pub sentence: String,
}

/// What a rule is: its name, and how it looks at the facts.
type Rule = (&'static str, fn(&Facts<'_>) -> Option<String>);

/// All of them.
#[rustfmt::skip]
const RULES: &[Rule] = &[
    // A hypervisor whose guest does not run.
    ("vmx-abort",               vmx::aborted),
    ("vm-entry-refused",        vmx::refused),
    ("vmxon-not-ready",         vmx::not_ready),
    ("vmx-not-on",              vmx::outside),
    // The mode itself is half set up.
    ("forgot-far-jump",         segments::forgot_far_jump),
    ("code-segment-16",         segments::code_16),
    ("a20-closed",              flow::a20_closed),
    // Interrupts and their handlers.
    ("pic-not-remapped",        interrupts::pic_not_remapped),
    ("error-code-not-popped",   interrupts::error_code_not_popped),
    ("ret-instead-of-iret",     interrupts::ret_instead_of_iret),
    ("gate-16",                 interrupts::gate_16),
    ("no-eoi",                  interrupts::no_eoi),
    ("irqs-masked",             interrupts::irqs_masked),
    ("exception-repeats",       repeats::exception_repeats),
    // Page tables as a whole.
    ("cr3-linear",              paging::cr3_linear),
    ("page-directory-empty",    paging::directory_empty),
    ("large-page-without-pse",  paging::large_without_pse),
    ("page-table-outside-ram",  paging::table_outside_ram),
    ("paging-not-identity",     paging::not_identity),
    ("gdt-unmapped",            paging::gdt_unmapped),
    ("idt-unmapped",            paging::idt_unmapped),
    // Stacks.
    ("stack-overflow",          stack::overflow),
    ("stack-unmapped",          stack::unmapped),
    ("no-task-register",        stack::no_task_register),
    ("esp0-zero",               stack::esp0_zero),
    ("ss0-bad",                 stack::ss0_bad),
    ("stack-in-nothing",        stack::in_nothing),
    // Pages.
    ("null-pointer",            paging::null_pointer),
    ("pde-not-user",            paging::pde_not_user),
    ("pte-not-user",            paging::pte_not_user),
    ("page-read-only",          paging::read_only),
    ("page-reserved-bit",       paging::reserved_bit),
    // Segments.
    ("segments-not-reloaded",   segments::not_reloaded),
    ("null-segment",            segments::null_segment),
    ("segment-limit",           segments::limit),
    ("gdt-not-loaded",          segments::gdt_not_loaded),
    ("selector-beyond-gdt",     segments::beyond_gdt),
    ("descriptor-empty",        segments::descriptor_empty),
    ("segment-not-present",     segments::not_present),
    ("jump-to-data-segment",    segments::jump_to_data),
    ("code-in-ss",              segments::code_in_ss),
    ("selector-rpl",            segments::selector_rpl),
    // Privilege and instructions.
    ("int-gate-dpl",            segments::int_gate_dpl),
    ("privileged-in-user",      segments::privileged_in_user),
    ("io-in-user",              segments::io_in_user),
    ("fpu-not-initialised",     fpu::not_initialised),
    ("fpu-error-unheard",       fpu::error_unheard),
    ("unbuilt-instruction",     flow::unbuilt),
    // Nowhere to go.
    ("jump-outside-memory",     flow::outside_memory),
    ("jump-to-null",            flow::to_null),
    ("ran-into-zeros",          flow::into_zeros),
    // Why an exception could not be delivered.
    ("idt-not-loaded",          delivery::idt_not_loaded),
    ("idt-limit-zero",          delivery::limit_zero),
    ("idt-limit-entries",       delivery::limit_entries),
    ("idt-limit-size",          delivery::limit_size),
    ("idt-limit-short",         delivery::limit_short),
    ("gate-empty",              delivery::gate_empty),
    ("gate-type",               delivery::gate_type),
    ("gate-not-present",        delivery::gate_not_present),
    ("gate-selector-null",      delivery::selector_null),
    ("gate-selector-data",      delivery::selector_data),
    ("gate-selector-beyond",    delivery::selector_beyond),
    ("gate-code-not-present",   delivery::code_not_present),
    ("gate-offset",             delivery::offset),
    // Nothing but the end.
    ("spin",                    flow::spin),
    ("halted",                  flow::halted),
];

/// The most that is said.
const MOST: usize = 3;

/// The mistakes that the facts look like, the likeliest first.
pub fn diagnose(f: &Facts<'_>) -> Vec<Diagnosis> {
    if f.ending == Ending::Limit && !f.handled && !stuck(f) {
        return Vec::new();
    }
    let found = RULES.iter().filter_map(|&(rule, find)| Some(Diagnosis { rule, sentence: find(f)? }));
    found.take(MOST).collect()
}

/// The names of all rules, in their order.
pub fn names() -> impl Iterator<Item = &'static str> {
    RULES.iter().map(|&(name, _)| name)
}
