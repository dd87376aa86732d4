//! The machine: the board, its reset, and running it.

pub mod board;
