//! Debian's Linux 6.1 for i686 (package linux-image-686, architecture i386) with a busybox initial RAM disk: to a shell
//! on the serial line, through a session there that uses the processor, the disk and the mouse, and off. About 10 G
//! instructions: half a minute in a release build. The same session runs on QEMU, and each difference is known.

use super::fetch::{cache, file, have, own, skipped};
use super::initramfs;
use super::linux_session::{Known, Machine, Session, compare};
use super::pc::{Lab, Monitor, Parts, in_order};
use super::pinned::{Inputs, assert_count};
use super::qemu::Qemu;
use std::path::PathBuf;
use subring::cli::pc::Outcome;
use subring::device::mouse::MouseEvent;

/// What it needs.
pub(crate) const PACKAGES: [&str; 2] = [KERNEL, BUSYBOX];
pub(crate) const KERNEL: &str = "linux-image-686:i386";
pub(crate) const KERNEL_PAE: &str = "linux-image-686-pae:i386";
pub(crate) const BUSYBOX: &str = "busybox-static:i386";
const CMDLINE: &str = "console=ttyS0";
const MEM: u32 = 128 << 20;
/// The drivers of the disk, the file system and the mouse.
const MODULES: [&str; 5] = ["sd_mod", "crc32c_generic", "ext4", "psmouse", "ata_piix"];

/// The kernel image: its name has the version in it.
pub(crate) fn kernel_of(package: &str) -> PathBuf {
    let boot = cache().join(package).join("boot");
    let mut files = std::fs::read_dir(boot).expect("the package has a kernel").map(|e| e.unwrap().path());
    files.find(|p| p.to_string_lossy().contains("vmlinuz")).expect("the package has a kernel")
}

/// The kernel of most tests.
pub(crate) fn kernel() -> PathBuf {
    kernel_of(KERNEL)
}

/// The initial RAM disk with its drivers.
pub(crate) fn initrd() -> Vec<u8> {
    initrd_of(KERNEL)
}

fn initrd_of(package: &str) -> Vec<u8> {
    let modules = initramfs::modules(&cache().join(package).join("lib/modules"), &MODULES);
    initramfs::busybox(&std::fs::read(file(BUSYBOX, "bin/busybox")).unwrap(), &modules, &[])
}

/// An empty disk of 16 MiB. Tests that run beside each other share it, and none may see half a file.
fn disk(name: &str) -> PathBuf {
    let path = cache().join(name);
    let part = path.with_extension(format!("{:?}", std::thread::current().id()));
    std::fs::write(&part, vec![0; 16 << 20]).unwrap();
    std::fs::rename(part, &path).unwrap();
    path
}

/// To the shell, with what the kernel logged from its first line on.
fn to_shell(package: &str, cmdline: &str, monitor: Monitor) -> (Lab, String) {
    let mut lab = Lab::new(Parts {
        mem: MEM,
        hz: 100_000_000,
        kernel: Some(kernel_of(package)),
        cmdline: Some(cmdline.into()),
        initrd: Some(initrd_of(package)),
        disks: vec![disk(&format!("{package}-disk.img"))],
        monitor,
        ..Parts::default()
    });
    lab.until_serial("Linux version 6.1", 100);
    let log = lab.until_serial("Run /init as init process", 200);
    lab.until_serial("shell> ", 20);
    (lab, log)
}

fn boot(package: &str, monitor: Monitor) -> Lab {
    let (lab, log) = to_shell(package, CMDLINE, monitor);
    finds_the_board(&log);
    lab
}

/// Holds that a run with `package`, which is over, took as many instructions as ever.
#[track_caller]
fn has_pinned_count(name: &str, package: &str, lab: &Lab) {
    let kernel = kernel_of(package);
    let file = kernel.file_name().unwrap().to_string_lossy().into_owned();
    let inputs = Inputs { kernel: (file, std::fs::read(&kernel).unwrap()), initrd: initrd_of(package) };
    assert_count(name, &inputs, lab.marks.last().unwrap().1);
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
            "ttyS1 at I/O 0x2f8 (irq = 3, base_baud = 115200) is a 16550A",
            "i8042: PNP: PS/2 Controller [PNP0303:KBD,PNP0f13:MOU] at 0x60,0x64 irq 1,12",
            "rtc_cmos 00:00: registered as rtc0",
            "rtc_cmos 00:00: setting system clock to 2000-01-01T00:00:",
        ],
    );
    for complaint in ["ACPI Error", "ACPI BIOS", "ACPI Warning", "Firmware Bug", "BIOS bug", "nobody cared"] {
        assert!(!log.contains(complaint), "{complaint}:\n{log}");
    }
}

impl Machine for Lab {
    fn send(&mut self, text: &str) {
        Lab::send(self, text);
    }
    fn until(&mut self, text: &str) -> String {
        self.until_serial(text, 120)
    }
    fn hand(&mut self, event: MouseEvent) {
        self.mouse(event);
    }
}

fn session() -> Session {
    let release = kernel().file_name().unwrap().to_string_lossy().trim_start_matches("vmlinuz-").to_owned();
    let busybox = std::fs::metadata(file(BUSYBOX, "bin/busybox")).unwrap().len();
    Session { release, busybox }
}

/// A run from power-on to power-off: what the shell said, and the machine.
fn run(monitor: Monitor) -> (String, Lab) {
    let mut lab = boot(KERNEL, monitor);
    let said = session().run(&mut lab);
    assert_eq!(lab.until_stop(60), Outcome::PowerOff);
    (said, lab)
}

/// The session's transcript.
fn golden() -> String {
    std::fs::read_to_string(own("tests/real_software/linux.txt")).unwrap()
}

/// Whether the packages are there, and the long tests are wanted.
fn wanted() -> bool {
    if !super::full() {
        skipped("it takes 10 G instructions; SUBRING_FULL=1 runs it");
        return false;
    }
    have(&PACKAGES)
}

#[test]
#[ignore = "needs packages from Debian"]
fn debians_kernel_boots_to_a_shell_uses_the_machine_and_powers_off() {
    if !wanted() {
        return;
    }
    let (said, lab) = run(None);
    // To be looked at, or to become the golden file when a change is wanted.
    std::fs::write(cache().join("linux.txt"), &said).unwrap();
    let golden = golden();
    for (line, (said, golden)) in (1..).zip(said.lines().zip(golden.lines())) {
        assert_eq!(said, golden, "line {line} of linux.txt");
    }
    assert_eq!(said.lines().count(), golden.lines().count());
    let (said_again, again) = run(None);
    assert_eq!((said, &lab.marks), (said_again, &again.marks), "the second run went another way");
    println!("Linux to its shell and off: {:?}", lab.marks);
    has_pinned_count("session", KERNEL, &lab);
}

/// The session under a monitor: the golden transcript, and the pinned count.
pub(crate) fn session_is_the_same(monitor: Monitor) {
    let (said, lab) = run(monitor);
    assert_eq!(said, golden());
    println!("Linux to its shell and off, {monitor:?}: {:?}", lab.marks);
    has_pinned_count("session", KERNEL, &lab);
}

/// The kernel of `package` as it unpacks itself, and a little of what it does then.
pub(crate) fn begins(package: &str, ms: u64, monitor: Monitor) -> Lab {
    let mut lab = Lab::new(Parts {
        mem: 64 << 20,
        hz: 100_000_000,
        kernel: Some(kernel_of(package)),
        cmdline: Some(CMDLINE.into()),
        monitor,
        ..Parts::default()
    });
    lab.wait_ms(ms);
    lab
}

/// What QEMU says otherwise, and why.
const QEMU_DIFFERS: &[Known] = &[
    Known {
        command: "cat /proc/cpuinfo",
        lines: &[
            "model",
            "stepping",
            "microcode",
            "cache size",
            "cpuid level",
            "flags",
            "bugs",
            "address sizes",
        ],
        why: "QEMU's Pentium II is the later model (Deschutes): CPUID leaf 2 with a cache, machine checks, MTRRs, \
              36 address bits; and it says that a hypervisor runs it",
    },
    Known {
        command: "dmesg | sed",
        lines: &["00:0", "rtc_cmos 00:0"],
        why: "the ACPI tables name the devices in another order, and QEMU's real-time clock has the second bank of \
              CMOS memory, wakes, and is shared with an HPET",
    },
    Known {
        command: "dmesg | sed",
        lines: &["ata1", "ata2", "sd 0:0:0:0: [sda] Write cache"],
        why: "QEMU's disk is of ATA-7 with a write cache and READ MULTIPLE, its second channel has a CD-ROM drive, and \
              the bus master is at other ports",
    },
    Known {
        command: "cat /proc/interrupts",
        lines: &["8: ", "15: ", "MCP: "],
        why: "as above: the clock shared with the HPET interrupts, the CD-ROM drive has the second channel, and there \
              are machine checks to poll",
    },
    Known {
        command: "dmesg -r | grep",
        lines: &["Failed to access perfctr msr", "mce: Unable to init"],
        why: "no performance counters and machine checks here; QEMU has the registers of both",
    },
];

#[test]
#[ignore = "needs packages from Debian"]
fn qemu_says_the_same_of_debians_kernel() {
    if !wanted() {
        return;
    }
    let initrd_path = cache().join("linux-initrd");
    std::fs::write(&initrd_path, initrd()).unwrap();
    let mem = MEM >> 20;
    let Some(mut qemu) = Qemu::boot(&kernel(), &initrd_path, CMDLINE, mem, &disk("linux-qemu.img")) else {
        return skipped("there is no qemu-system-i386 here");
    };
    qemu.until("shell> ");
    let said = session().run(&mut qemu);
    qemu.ends();
    std::fs::write(cache().join("linux-qemu.txt"), &said).unwrap();
    compare(&golden(), &said, QEMU_DIFFERS);
}

/// What the shell says to a command.
fn answer(lab: &mut Lab, command: &str) -> String {
    lab.send(&format!("{command}\n"));
    lab.until_serial("shell> ", 60)
}

/// The kernel for PAE: page tables of three levels, and nothing else is different.
#[test]
#[ignore = "needs packages from Debian"]
fn debians_kernel_with_pae_boots_to_a_shell() {
    if !super::full() {
        return skipped("it takes 8 G instructions; SUBRING_FULL=1 runs it");
    }
    if !have(&[KERNEL_PAE, BUSYBOX]) {
        return;
    }
    pae(None);
}

/// The kernel for PAE to its shell and off.
pub(crate) fn pae(monitor: Monitor) -> Lab {
    let mut lab = boot(KERNEL_PAE, monitor);
    in_order(&answer(&mut lab, "uname -a"), &["Linux (none) 6.1.0-", "-686-pae #1 ", "i686 GNU/Linux"]);
    let sizes = "cat /proc/cpuinfo | grep 'address sizes'";
    in_order(&answer(&mut lab, sizes), &["32 bits physical, 32 bits virtual"]);
    in_order(&answer(&mut lab, "seq 1 100 | grep 7 | sort -rn | head -n 2"), &["97\r\n", "87\r\n"]);
    lab.send("poweroff -f\n");
    assert_eq!(lab.until_stop(60), Outcome::PowerOff);
    println!("Linux with PAE to its shell and off: {:?}", lab.marks);
    has_pinned_count("pae", KERNEL_PAE, &lab);
    lab
}

/// Without local APIC its timer and the I/O APIC are out of use, too: the 8259A and the 8254 do all.
#[test]
#[ignore = "needs packages from Debian"]
fn debians_kernel_does_without_the_local_apic() {
    let interrupts = ["0: some XT-PIC timer", "4: some XT-PIC ttyS0", "14: some XT-PIC ata_piix"];
    plainer("nolapic", &[], &interrupts, Outcome::PowerOff);
}

/// Without ACPI the MP table tells of the I/O APIC, the legacy ports of what else there is, and nothing turns the
/// machine off: the processor halts for ever.
#[test]
#[ignore = "needs packages from Debian"]
fn debians_kernel_does_without_acpi() {
    let log = ["Intel MultiProcessor Specification v1.4", "i8042: PNP: No PS/2 controller found."];
    let interrupts =
        ["0: some IO-APIC 2-edge timer", "4: some IO-APIC 4-edge ttyS0", "14: some IO-APIC 14-edge ata_piix"];
    plainer("acpi=off", &log, &interrupts, Outcome::HaltedForever);
}

/// To the shell with one more option, a look at the disk, and the end. The kernel's tests of its ciphers are left out, and
/// the serial line is fast: both take half of the time.
#[track_caller]
fn plainer(option: &str, logged: &[&str], interrupts: &[&str], end: Outcome) {
    if !wanted() {
        return;
    }
    let (mut lab, log) = to_shell(KERNEL, &format!("console=ttyS0,115200 cryptomgr.notests {option}"), None);
    in_order(&log, logged);
    answer(&mut lab, "dmesg -n 1; sh /lib/load");
    in_order(&answer(&mut lab, "cat /dev/zero | head -c 4000 | cmp - /dev/sda"), &["cmp: EOF on -"]);
    let counts = answer(&mut lab, "cat /proc/interrupts");
    let lines: Vec<String> = counts.lines().map(super::linux_session::interrupt).collect();
    let lines: Vec<String> =
        lines.iter().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for line in interrupts {
        assert!(lines.iter().any(|l| l == line), "no `{line}`:\n{counts}");
    }
    lab.send("poweroff -f\n");
    assert_eq!(lab.until_stop(60), end);
    println!("Linux with {option} to its shell and off: {:?}", lab.marks);
    has_pinned_count(option, KERNEL, &lab);
}
