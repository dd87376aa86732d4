//! Debian's Linux 6.1 for i686 (package linux-image-686, architecture i386) with a busybox initial RAM disk, to a
//! shell on the serial line. About 8 G instructions: half a minute in a release build.

use super::fetch::{file, have, skipped};
use super::initramfs;
use super::pc::{Lab, Parts, in_order};
use std::path::PathBuf;
use subring::cli::session::Outcome;

const KERNEL: &str = "linux-image-686:i386";
const BUSYBOX: &str = "busybox-static:i386";

/// The kernel image: its name has the version in it.
fn kernel() -> PathBuf {
    let boot = super::fetch::cache().join(KERNEL).join("boot");
    let mut files = std::fs::read_dir(boot).expect("the package has a kernel").map(|e| e.unwrap().path());
    files.find(|p| p.to_string_lossy().contains("vmlinuz")).expect("the package has a kernel")
}

fn boot() -> Lab {
    let busybox = std::fs::read(file(BUSYBOX, "bin/busybox")).unwrap();
    let mut lab = Lab::new(Parts {
        mem: 128 << 20,
        hz: 100_000_000,
        kernel: Some(kernel()),
        cmdline: Some("console=ttyS0".into()),
        initrd: Some(initramfs::busybox(&busybox)),
        ..Parts::default()
    });
    lab.until_serial("Linux version 6.1", 100);
    lab.until_serial("Run /init as init process", 200);
    lab.until_serial("shell> ", 20);
    lab
}

/// What the shell says to a command.
fn answer(lab: &mut Lab, command: &str) -> String {
    lab.send(&format!("{command}\n"));
    lab.until_serial("shell> ", 60)
}

#[test]
fn debians_kernel_boots_to_a_shell() {
    if !super::full() {
        return skipped("it takes 8 G instructions; SUBRING_FULL=1 runs it");
    }
    if !have(&[KERNEL, BUSYBOX]) {
        return;
    }
    let mut lab = boot();
    in_order(&answer(&mut lab, "uname -a"), &["Linux (none) 6.1.0-", "-686 #1 ", "i686 GNU/Linux"]);
    let cpu = answer(&mut lab, "cat /proc/cpuinfo");
    in_order(&cpu, &["GenuineIntel", "fpu\t\t: yes", "flags\t\t: fpu de pse tsc msr cx8 sep pge cmov fxsr"]);
    in_order(&answer(&mut lab, "cat /proc/interrupts"), &["XT-PIC", "timer", "XT-PIC", "ttyS0"]);
    in_order(&answer(&mut lab, "seq 1 100 | grep 7 | sort -rn | head -n 2"), &["97\r\n", "87\r\n"]);
    let floats = "awk 'BEGIN { print 3.5 * 2.25, 22 / 7, 1e10 / 3e-5 }'";
    in_order(&answer(&mut lab, floats), &["7.875 3.14286 3.33333e+14"]);
    lab.send("poweroff -f\n");
    assert_eq!(lab.until_stop(60), Outcome::HaltedForever);
    println!("Linux to its shell and off: {:?}", lab.marks);
}
