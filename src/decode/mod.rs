//! From bytes to our instruction form.
//!
//! [`lower`] is the only place that knows how iced-x86 names things; all the rest of the project sees
//! [`insn::Insn`]. [`op`] is the table of instructions; [`cache`] keeps decoded traces.

pub mod cache;
pub mod disasm;
pub mod insn;
pub mod lower;
pub mod op;
pub mod x87;

pub use insn::{Cond, Insn, MAX_INSN_LEN, Place, Rep, SegReg};
pub use lower::{Decoded, decode, disassemble};
pub use op::Op;
pub use x87::{FpuMem, FpuOp};
