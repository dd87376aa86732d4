//! Debian's own KVM on the processor models with VMX: the kernel loads kvm-intel, with shadow page tables on the Core Duo
//! and extended ones on the invented model, and `kvm-client` runs guests in real mode, protected mode and with paging.

use super::fetch::{cache, file, have, own, skipped};
use super::initramfs;
use super::linux::{BUSYBOX, KERNEL, KERNEL_PAE, kernel_of};
use super::pc::{Lab, Parts};
use subring::cli::pc::Outcome;
use subring::cpu::Model;

const CLIENT: &str = "guest-programs/kvm/client.elf";
const BOOT: &str = "guest-programs/kvm/boot.elf";
const TRANSCRIPT: &str = "tests/real_software/kvm.txt";
/// Without the workarounds for processors' faults, which this one has not, and the kernel's tests of its ciphers.
const CMDLINE: &str = "console=ttyS0,115200 mitigations=off cryptomgr.notests quiet";

/// A shell on `cpu` under the kernel of `package`, with `programs`.
struct Host {
    lab: Lab,
}

impl Host {
    fn boot(package: &str, cpu: Model, programs: &[(&str, Vec<u8>)]) -> Self {
        let modules = initramfs::modules(&cache().join(package).join("lib/modules"), &["kvm_intel"]);
        let mut lab = Lab::new(Parts {
            mem: 192 << 20,
            hz: 100_000_000,
            cpu,
            kernel: Some(kernel_of(package)),
            cmdline: Some(CMDLINE.into()),
            initrd: Some(initramfs::busybox(&shell_program(), &modules, programs)),
            ..Parts::default()
        });
        lab.until_serial("shell> ", 200);
        let mut host = Self { lab };
        host.answer("dmesg -n 1; sh /lib/load");
        host
    }

    /// What `command` prints.
    fn answer(&mut self, command: &str) -> String {
        self.lab.send(&format!("{command}\n"));
        let said = self.lab.until_serial("shell> ", 200).replace('\r', "");
        // The first line is the echo, and the last one the prompt.
        let said = said.split_once('\n').map_or("", |(_, rest)| rest);
        said.trim_end_matches("shell> ").to_owned()
    }

    /// KVM had nothing to complain of, and its guests ran in non-root operation.
    fn power_off(mut self) -> Lab {
        assert_eq!(self.answer("dmesg -r | grep '^<[0-3]>.*kvm'"), "", "KVM complains");
        self.lab.send("poweroff -f\n");
        assert_eq!(self.lab.until_stop(60), Outcome::PowerOff);
        assert!(self.lab.vm_entries() > 20, "the guests did not run in non-root operation");
        self.lab
    }
}

fn shell_program() -> Vec<u8> {
    std::fs::read(file(BUSYBOX, "bin/busybox")).unwrap()
}

/// What the client says of its guests.
fn run(package: &str, cpu: Model) -> String {
    let mut host = Host::boot(package, cpu, &[("bin/kvm-client", std::fs::read(own(CLIENT)).unwrap())]);
    let nested = if cpu == Model::YonahEpt { "Y\n" } else { "N\n" };
    for parameter in ["ept", "unrestricted_guest", "vpid"] {
        let said = host.answer(&format!("cat /sys/module/kvm_intel/parameters/{parameter}"));
        assert_eq!(said, nested, "{parameter}");
    }
    let said = host.answer("kvm-client; echo status $?");
    let lab = host.power_off();
    println!("KVM's guests on {cpu}: {:?}, {} VM entries", lab.marks, lab.vm_entries());
    said
}

/// Debian's kernel under KVM under Debian's kernel: a shell that answers, and a reset that ends it.
fn linux_in_linux(cpu: Model) {
    if !super::full() {
        return skipped("it takes 10 G instructions; SUBRING_FULL=1 runs it");
    }
    if !have(&[KERNEL_PAE, KERNEL, BUSYBOX]) {
        return;
    }
    let programs = [
        ("bin/kvm-boot", std::fs::read(own(BOOT)).unwrap()),
        ("lib/linux", std::fs::read(kernel_of(KERNEL)).unwrap()),
        ("lib/ramdisk", initramfs::busybox(&shell_program(), &[], &[])),
    ];
    let mut host = Host::boot(KERNEL_PAE, cpu, &programs);
    // Without a keyboard controller Linux needs to be told how to reset.
    host.answer(&format!("kvm-boot /lib/linux /lib/ramdisk {CMDLINE} reboot=k"));
    assert!(host.answer("uname -r").ends_with("686\n"));
    let detected = host.answer("dmesg | grep -c 'Hypervisor detected: KVM'; echo $((6 * 7))");
    assert_eq!(detected, "1\n42\n");
    let last = host.answer("reboot -f");
    assert!(last.contains("the guest reset its machine"), "{last}");
    assert!(host.answer("uname -r").ends_with("686-pae\n"));
    let lab = host.power_off();
    println!("Linux in Linux on {cpu}: {:?}, {} VM entries", lab.marks, lab.vm_entries());
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

#[test]
#[ignore = "needs packages from Debian"]
fn debians_kernel_boots_in_kvm_on_the_core_duo() {
    linux_in_linux(Model::Yonah);
}

#[test]
#[ignore = "needs packages from Debian"]
fn debians_kernel_boots_in_kvm_with_extended_page_tables() {
    linux_in_linux(Model::YonahEpt);
}
