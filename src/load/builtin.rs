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

/// A row of the table.
macro_rules! guest {
    ($name:literal, $file:literal, $about:literal, $cmdline:expr) => {
        Builtin {
            name: $name,
            about: $about,
            bytes: include_bytes!(concat!("../../guest-programs/", $file)),
            cmdline: $cmdline,
        }
    };
}

/// All of them, in the order of `subring guests`.
#[rustfmt::skip]
pub const ALL: &[Builtin] = &[
    guest!("hello",       "hello/hello.elf",         "prints a greeting, its command line and the memory map", None),
    guest!("rings",       "rings/rings.elf",         "a small kernel: rings, tasks, paging, system calls, a scheduler", None),
    guest!("rings-clean", "rings/rings-clean.elf",   "the same without sensitive unprivileged instructions", None),
    guest!("sensitive",   "sensitive/sensitive.elf", "each sensitive unprivileged instruction, where its result shows", None),
    guest!("nano",        "nano/nano.elf",           "the nanobenchmarks of Adams and Agesen (ASPLOS 2006)", None),
    guest!("nano-clean",  "nano/nano-clean.elf",     "the same without sensitive unprivileged instructions", None),
    guest!("smc",         "smc/smc.elf",             "self-modifying code, in the same and in another page", None),
    guest!("vmx",         "vmx/vmx.elf",             "a small hypervisor and its guest, for --cpu yonah and yonah-ept", None),
    guest!("bench",       "bench/bench.elf",         "compute, memory, call, trap and port loops for speed measurements", None),
    guest!("boot",        "boot/boot.img",           "a boot sector, started by the project's own BIOS", None),
];

/// Those that `subring` without a command runs.
pub const DEMO: &[&str] = &["hello", "rings"];

/// The built-in guest called `name`.
pub fn find(name: &str) -> Option<&'static Builtin> {
    ALL.iter().find(|b| b.name == name)
}

/// The built-in guest whose name is nearest to `name`, if one is near.
pub fn nearest(name: &str) -> Option<&'static str> {
    let distances = ALL.iter().map(|guest| (distance(name, guest.name), guest.name));
    distances.filter(|(distance, known)| 3 * distance <= known.len().max(4)).min().map(|(_, known)| known)
}

/// Levenshtein's distance: insertions, deletions and replacements that make `a` of `b`.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_mistyped_is_near() {
        assert_eq!(nearest("helo"), Some("hello"));
        assert_eq!(nearest("ring"), Some("rings"));
        assert_eq!(nearest("sensitve"), Some("sensitive"));
        assert_eq!(nearest("linux"), None);
        assert_eq!((distance("kitten", "sitting"), distance("", "abc")), (3, 3));
    }
}
