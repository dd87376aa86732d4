//! Debian's own KVM on the processor models with VMX: the kernel loads kvm-intel, with shadow page tables on the Core Duo
//! and extended ones on the invented model, and `kvm-client` runs guests in real mode, protected mode and with paging.

use super::fetch::{cache, file, have, own, skipped};
use super::initramfs;
use super::linux::{BUSYBOX, KERNEL, KERNEL_PAE, kernel_of};
use super::pc::{Lab, Parts};
use subring::cli::pc::Outcome;
use subring::cpu::Model;

const CLIENT: &str = "guest-programs/kvm-client/kvm-client.elf";
const TRANSCRIPT: &str = "tests/real_software/kvm.txt";
/// Without the workarounds for processors' faults, which this one has not, and the kernel's tests of its ciphers.
const CMDLINE: &str = "console=ttyS0,115200 mitigations=off cryptomgr.notests quiet";

/// Boots the kernel of `package` on `cpu` and types at its shell. Returns what the client said.
fn run(package: &str, cpu: Model) -> String {
    let modules = initramfs::modules(&cache().join(package).join("lib/modules"), &["kvm_intel"]);
    let programs = [("kvm-client", std::fs::read(own(CLIENT)).unwrap())];
    let busybox = std::fs::read(file(BUSYBOX, "bin/busybox")).unwrap();
    let mut lab = Lab::new(Parts {
        mem: 128 << 20,
        hz: 100_000_000,
        cpu,
        kernel: Some(kernel_of(package)),
        cmdline: Some(CMDLINE.into()),
        initrd: Some(initramfs::busybox(&busybox, &modules, &programs)),
        ..Parts::default()
    });
    lab.until_serial("shell> ", 200);
    let mut answer = |command: &str| {
        lab.send(&format!("{command}\n"));
        let said = lab.until_serial("shell> ", 60).replace('\r', "");
        // The first line is the echo.
        said.split_once('\n').map_or(String::new(), |(_, rest)| rest.to_owned())
    };
    answer("dmesg -n 1; sh /lib/load");
    let nested = if cpu == Model::YonahEpt { "Y\n" } else { "N\n" };
    for parameter in ["ept", "unrestricted_guest", "vpid"] {
        assert_eq!(
            answer(&format!("cat /sys/module/kvm_intel/parameters/{parameter}")),
            nested,
            "{parameter}"
        );
    }
    let said = answer("kvm-client; echo status $?");
    assert_eq!(answer("dmesg -r | grep '^<[0-3]>.*kvm'"), "", "KVM complains");
    lab.send("poweroff -f\n");
    assert_eq!(lab.until_stop(60), Outcome::PowerOff);
    assert!(lab.vm_entries() > 20, "the guests did not run in non-root operation");
    println!("KVM's guests on {cpu}: {:?}, {} VM entries", lab.marks, lab.vm_entries());
    said
}

/// The transcript is the same on both models and with both kernels: a guest cannot tell what KVM does for it.
fn runs_its_guests(package: &str, cpu: Model) {
    if !super::full() {
        return skipped("it takes 3 G instructions; SUBRING_FULL=1 runs it");
    }
    if !have(&[package, BUSYBOX]) {
        return;
    }
    let said = run(package, cpu);
    let golden = std::fs::read_to_string(own(TRANSCRIPT)).unwrap();
    assert_eq!(said, golden);
}

#[test]
#[ignore = "needs packages from Debian"]
fn debians_kvm_runs_guests_on_the_core_duo() {
    runs_its_guests(KERNEL_PAE, Model::Yonah);
}

#[test]
#[ignore = "needs packages from Debian"]
fn debians_kvm_runs_guests_with_extended_page_tables() {
    runs_its_guests(KERNEL_PAE, Model::YonahEpt);
}

#[test]
#[ignore = "needs packages from Debian"]
fn debians_kvm_runs_guests_under_a_kernel_without_pae() {
    runs_its_guests(KERNEL, Model::Yonah);
}
