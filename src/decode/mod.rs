//! From bytes to our instruction form.
//!
//! [`lower`] is the only place that knows how iced-x86 names things; all the rest of the project sees
//! [`insn::Insn`]. [`cache`] keeps decoded traces.

pub mod cache;
pub mod disasm;
pub mod insn;
pub mod lower;
pub mod x87;

pub use insn::{Cond, Insn, Op, Place, Rep, SegReg};
pub use lower::{Decoded, decode, disassemble};
pub use x87::{FpuMem, FpuOp};

/// The longest instruction that IA-32 allows, in bytes (SDM vol. 2, 2.3.11).
pub const MAX_INSN_LEN: usize = 15;
