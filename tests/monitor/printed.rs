//! A kernel that failed, as a guest that everybody can run: the flat binary in a file, the command that shows where the
//! monitors part from the bare machine, and its instructions.

use super::kernel::{BASE, Op, RAM, binary, listing};
use proptest::test_runner::TestError;
use std::path::{Path, PathBuf};

/// A kernel, written out.
pub(crate) struct Printed {
    /// The flat binary.
    pub(crate) file: PathBuf,
    /// The arguments of `subring` that compare it.
    pub(crate) arguments: Vec<String>,
    /// The operations and their instructions.
    pub(crate) listing: String,
}

impl Printed {
    /// Writes `ops` to a file of this name in `folder`; to be compared for `budget` instructions, with so many frames for
    /// shadow page tables and the guest's frames scattered by `seed`.
    pub(crate) fn new(
        folder: &Path,
        name: &str,
        ops: &[Op],
        (budget, frames, seed): (u64, u32, u64),
    ) -> std::io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let file = folder.join(format!("{name}.bin"));
        std::fs::write(&file, binary(ops))?;
        let mut arguments = vec!["compare".to_owned(), file.display().to_string()];
        let options = format!(
            "--at {BASE:#x} --mem {}M --no-apic --no-acpi --budget {budget} --shadow-frames {frames} --frame-seed {seed}",
            RAM >> 20
        );
        arguments.extend(options.split(' ').map(str::to_owned));
        Ok(Self { file, arguments, listing: listing(ops) })
    }
}

impl std::fmt::Display for Printed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "the guest is {}; to see it part:", self.file.display())?;
        writeln!(f, "    subring {}", self.arguments.join(" "))?;
        write!(f, "{}", self.listing)
    }
}

/// Panics if a run of kernels failed: with what went wrong, of `who`, and with the kernel as a guest, to be compared as
/// [`Printed::new`] says.
pub(crate) fn judge(
    result: Result<(), TestError<Vec<Op>>>,
    name: &str,
    who: &dyn std::fmt::Display,
    how: (u64, u32, u64),
) {
    match result {
        Ok(()) => {}
        Err(TestError::Fail(reason, ops)) => {
            let name = format!("{name} {who}").replace([' ', '/'], "-");
            let printed = Printed::new(&folder(), &name, &ops, how);
            let printed = printed.map_or_else(|e| format!("(not written: {e})"), |p| p.to_string());
            panic!("{who}: {reason}\n{printed}");
        }
        Err(abort) => panic!("{who}: {abort}"),
    }
}

/// Where such files go: `tmp` in the folder that the test was built in.
pub(crate) fn folder() -> PathBuf {
    let test = std::env::current_exe().unwrap_or_default();
    // target/debug/deps/test
    let target = test.ancestors().nth(3).filter(|folder| folder.join("CACHEDIR.TAG").exists());
    target.map_or_else(std::env::temp_dir, Path::to_owned).join("tmp/kernels")
}
