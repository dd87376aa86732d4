//! Debian's Linux 6.1 for i686 (package linux-image-686, architecture i386) with a busybox initial RAM disk, to a
//! shell on the serial line. About 8 G instructions: half a minute in a release build.

use super::fetch::{file, have, skipped};
use super::initramfs;
use super::pc::{Lab, Parts, in_order};
use std::path::PathBuf;
use subring::cli::session::Outcome;

const KERNEL: &str = "linux-image-686:i386";
const KERNEL_PAE: &str = "linux-image-686-pae:i386";
const BUSYBOX: &str = "busybox-static:i386";

/// The kernel image: its name has the version in it.
fn kernel(package: &str) -> PathBuf {
    let boot = super::fetch::cache().join(package).join("boot");
    let mut files = std::fs::read_dir(boot).expect("the package has a kernel").map(|e| e.unwrap().path());
    files.find(|p| p.to_string_lossy().contains("vmlinuz")).expect("the package has a kernel")
}

fn boot(package: &str) -> Lab {
    let busybox = std::fs::read(file(BUSYBOX, "bin/busybox")).unwrap();
    let mut lab = Lab::new(Parts {
        mem: 128 << 20,
        hz: 100_000_000,
        kernel: Some(kernel(package)),
        cmdline: Some("console=ttyS0".into()),
        initrd: Some(initramfs::busybox(&busybox)),
        ..Parts::default()
    });
    lab.until_serial("Linux version 6.1", 100);
    let log = lab.until_serial("Run /init as init process", 200);
    finds_the_board(&log);
    lab.until_serial("shell> ", 20);
    lab
}

/// What the kernel's log says of ACPI, APIC and PCI, and that it complains of none of them.
#[track_caller]
fn finds_the_board(log: &str) {
    in_order(
        log,
        &[
            "ACPI: RSDP 0x00000000000F0000 000014 (v00 SUBRNG)",
            "ACPI: PM-Timer IO Port: 0x608",
            "IOAPIC[0]: apic_id 0, version 17, address 0xfec00000, GSI 0-23",
            "ACPI: INT_SRC_OVR (bus 0 bus_irq 0 global_irq 2 dfl dfl)",
            "ACPI: Using ACPI (MADT) for SMP configuration information",
            "Enabling APIC mode:  Flat.  Using 1 I/O APICs",
            "..TIMER: vector=0x30 apic1=0 pin1=2 apic2=-1 pin2=-1",
            "ACPI: 1 ACPI AML tables successfully acquired and loaded",
            "ACPI: PM: (supports S0 S5)",
            "ACPI: Using IOAPIC for interrupt routing",
            "ACPI: PCI Root Bridge [PCI0] (domain 0000 [bus 00])",
            "pci 0000:00:01.3: quirk: [io  0x0600-0x063f] claimed by PIIX4 ACPI",
            "pnp: PnP ACPI: found 5 devices",
            "clocksource: Switched to clocksource acpi_pm",
            "ttyS0 at I/O 0x3f8 (irq = 4, base_baud = 115200) is a 16550A",
            "i8042: PNP: PS/2 Controller [PNP0303:KBD,PNP0f13:MOU] at 0x60,0x64 irq 1,12",
        ],
    );
    for complaint in ["ACPI Error", "ACPI BIOS", "ACPI Warning", "Firmware Bug", "BIOS bug", "nobody cared"] {
        assert!(!log.contains(complaint), "{complaint}:\n{log}");
    }
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
    let mut lab = boot(KERNEL);
    in_order(&answer(&mut lab, "uname -a"), &["Linux (none) 6.1.0-", "-686 #1 ", "i686 GNU/Linux"]);
    let cpu = answer(&mut lab, "cat /proc/cpuinfo");
    in_order(
        &cpu,
        &["GenuineIntel", "fpu\t\t: yes", "flags\t\t: fpu de pse tsc msr pae cx8 apic sep pge cmov mmx fxsr"],
    );
    in_order(
        &answer(&mut lab, "cat /proc/interrupts"),
        &["IO-APIC   2-edge      timer", "IO-APIC   4-edge      ttyS0", "Local timer interrupts"],
    );
    in_order(&answer(&mut lab, "seq 1 100 | grep 7 | sort -rn | head -n 2"), &["97\r\n", "87\r\n"]);
    let floats = "awk 'BEGIN { print 3.5 * 2.25, 22 / 7, 1e10 / 3e-5 }'";
    in_order(&answer(&mut lab, floats), &["7.875 3.14286 3.33333e+14"]);
    lab.send("poweroff -f\n");
    assert_eq!(lab.until_stop(60), Outcome::PowerOff);
    println!("Linux to its shell and off: {:?}", lab.marks);
}

/// The kernel for PAE: page tables of three levels, and nothing else is different.
#[test]
fn debians_kernel_with_pae_boots_to_a_shell() {
    if !super::full() {
        return skipped("it takes 8 G instructions; SUBRING_FULL=1 runs it");
    }
    if !have(&[KERNEL_PAE, BUSYBOX]) {
        return;
    }
    let mut lab = boot(KERNEL_PAE);
    in_order(&answer(&mut lab, "uname -a"), &["Linux (none) 6.1.0-", "-686-pae #1 ", "i686 GNU/Linux"]);
    let sizes = "cat /proc/cpuinfo | grep 'address sizes'";
    in_order(&answer(&mut lab, sizes), &["32 bits physical, 32 bits virtual"]);
    in_order(&answer(&mut lab, "seq 1 100 | grep 7 | sort -rn | head -n 2"), &["97\r\n", "87\r\n"]);
    lab.send("poweroff -f\n");
    assert_eq!(lab.until_stop(60), Outcome::PowerOff);
    println!("Linux with PAE to its shell and off: {:?}", lab.marks);
}
