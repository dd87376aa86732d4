//! The `subring` program: everything is in [`subring::cli`].

fn main() {}
