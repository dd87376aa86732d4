//! GNU Mach 1.8 (package gnumach-image-1.8-486, architecture i386), a Multiboot kernel, to where it asks for its modules.

use super::fetch::{file, have};
use super::pc::{Lab, Monitor, Parts, in_order};
use std::path::PathBuf;
use std::process::Command;

pub(crate) const MACH: &str = "gnumach-image-1.8-486:i386";

/// The kernel, unpacked.
pub(crate) fn kernel() -> PathBuf {
    let packed = file(MACH, "boot/gnumach-1.8-486.gz");
    let unpacked = Command::new("gzip").arg("-dc").arg(packed).output().expect("gzip is there").stdout;
    let kernel = super::fetch::cache().join(MACH).join("gnumach");
    // Tests run beside each other: none may see half a file.
    let part = kernel.with_extension(format!("{:?}", std::thread::current().id()));
    std::fs::write(&part, unpacked).unwrap();
    std::fs::rename(part, &kernel).unwrap();
    kernel
}

/// From its start to where it has nothing to go on with.
pub(crate) fn to_its_modules(monitor: Monitor) -> Lab {
    let mut lab = Lab::new(Parts {
        hz: 10_000_000,
        kernel: Some(kernel()),
        cmdline: Some("console=com0".into()),
        monitor,
        ..Parts::default()
    });
    let log = lab.until_serial("No bootstrap code loaded", 120);
    in_order(&log, &["GNU Mach 1.8"]);
    lab
}

#[test]
#[ignore = "needs packages from Debian"]
fn it_asks_for_its_modules() {
    if have(&[MACH]) {
        to_its_modules(None);
    }
}
