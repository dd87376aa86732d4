//! The guests inside the program: one line each. Their sources are under guest-programs/.

/// A guest that needs no file.
#[derive(Clone, Copy, Debug)]
pub struct Builtin {
    /// What `subring run` calls it.
    pub name: &'static str,
    /// What it shows, in one line.
    pub about: &'static str,
    /// The image.
    pub bytes: &'static [u8],
    /// Its command line when the user gives none.
    pub cmdline: Option<&'static str>,
}

/// All of them, in the order of `subring guests`.
pub const ALL: &[Builtin] = &[];

/// Those that `subring` without a command runs.
pub const DEMO: &[&str] = &["hello", "rings"];

/// The built-in guest called `name`.
pub fn find(name: &str) -> Option<&'static Builtin> {
    ALL.iter().find(|b| b.name == name)
}
