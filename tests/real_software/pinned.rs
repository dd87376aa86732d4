//! Instruction counts that stand beside the golden transcripts, each with the files that it is of: a run is
//! deterministic, so the same kernel and initial RAM disk retire the same count on every host. The table is
//! `counts.txt`; a newer package of Debian's is told from a change here by the hashes in it.

use super::fetch::own;
use xxhash_rust::xxh3::xxh3_64;

const TABLE: &str = "tests/real_software/counts.txt";

/// What decides about a run's course, but for the machine.
pub(crate) struct Inputs {
    /// The kernel's file name, which has the release in it, and its bytes.
    pub(crate) kernel: (String, Vec<u8>),
    /// The initial RAM disk.
    pub(crate) initrd: Vec<u8>,
}

/// Holds that the run called `name` retired `count` instructions, as the table says.
///
/// # Panics
/// With a sentence: when the count is another one, and when the table knows nothing of these packages. Both tell the
/// line that would pin this run.
#[track_caller]
pub(crate) fn assert_count(name: &str, inputs: &Inputs, count: u64) {
    let table = std::fs::read_to_string(own(TABLE)).unwrap();
    if let Err(sentence) = judge(&table, name, inputs, count) {
        panic!("{sentence}");
    }
}

fn judge(table: &str, name: &str, inputs: &Inputs, count: u64) -> Result<(), String> {
    let (kernel, bytes) = &inputs.kernel;
    let of = format!("{name} {kernel} {:016x} {:016x}", xxh3_64(bytes), xxh3_64(&inputs.initrd));
    let lines = table.lines().filter(|line| !line.starts_with('#'));
    let pinned = lines.filter_map(|line| line.rsplit_once(' ')).find(|(key, _)| *key == of);
    match pinned {
        Some((_, pinned)) if pinned == count.to_string() => Ok(()),
        Some((_, pinned)) => Err(format!(
            "{name}: {count} instructions, but {pinned} are pinned for these very files: the machine does something \
             else than it did. If that is meant, {TABLE} has to say `{of} {count}`"
        )),
        None => Err(format!(
            "{name}: the transcript is right, but {TABLE} knows no count for these files: Debian's packages are other \
             ones than those pinned. Once this run has been looked at, add the line `{of} {count}`"
        )),
    }
}

#[test]
fn a_count_is_judged_by_its_files() {
    let inputs = |kernel: &[u8]| Inputs { kernel: ("k-1".into(), kernel.to_vec()), initrd: vec![7] };
    let table = format!("# x\nrun k-1 {:016x} {:016x} 42\n", xxh3_64(b"old"), xxh3_64(&[7]));
    assert_eq!(judge(&table, "run", &inputs(b"old"), 42), Ok(()));
    assert!(judge(&table, "run", &inputs(b"old"), 43).unwrap_err().contains("but 42 are pinned"));
    assert!(judge(&table, "run", &inputs(b"new"), 42).unwrap_err().contains("knows no count"));
    assert!(judge(&table, "other", &inputs(b"old"), 42).unwrap_err().contains("knows no count"));
}
