//! Popek and Goldberg's theorem on the machine it was stated for: G. J. Popek and R. P. Goldberg, "Formal
//! Requirements for Virtualizable Third Generation Architectures", Communications of the ACM 17(7), 1974. Nothing
//! here is about x86 and nothing here is used by the rest of the program but `subring theorem`.
//!
//! In reading order:
//!
//! | file | what it is | in the paper |
//! |---|---|---|
//! | [`state`] | ⟨E, M, P, R⟩, relocation, traps | A Model of Third Generation Machines |
//! | [`machine`] | one step, and machines that run | the same |
//! | [`isa`] | instructions as data: a set that complies, and six that add one instruction | |
//! | [`space`] | every state of a machine of four words | |
//! | [`classify`] | privileged, sensitive and the rest, by brute force | Instruction Behavior |
//! | [`vmm`] | the control program ⟨D, A, {vᵢ}⟩, for any set; the hybrid | The Virtual Machine Monitor; Hybrid Virtual Machines |
//! | [`compare`] | f(e(S)) = e′(f(S)), step by step; the search for counterexamples; nesting | Virtual Machine Properties; Recursive Virtualization |
//! | [`report`] | all of it about one instruction set | |
//!
//! The theorems, in our words:
//!
//! 1. If every sensitive instruction is privileged, a VMM can be built that is equivalent, in control of resources,
//!    and efficient.
//! 2. If besides it can be built so that nothing depends on timing, VMMs nest.
//! 3. If every user-sensitive instruction is privileged, a hybrid VMM can be built, which interprets whatever the
//!    guest does in its supervisor mode.
//!
//! The theorems give sufficient conditions. That the sets here that break one also fail is shown by running them.

pub mod classify;
pub mod compare;
pub mod isa;
pub mod machine;
pub mod report;
pub mod space;
pub mod state;
pub mod vmm;
