//! Looking into a machine from outside: the stub for gdb.

pub mod gdb;
