//! Images and snapshots from strangers, and guests that would become strangers: none leads to a file of the
//! host that the user did not mean.

use super::options::{BOOT, DISGUISE};
use super::qemu::{here, img, try_img};
use crate::common::program::{ends, program, refused, text};
use crate::common::scratch::Scratch;
use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::Duration;
use subring::media::overlay::Overlay;
use subring::media::{Disk, SECTOR, image};

/// A qcow2 image of three sectors and 512-byte clusters without any data, on the backing file `name`.
fn qcow2_over(name: &str) -> Vec<u8> {
    let mut bytes = vec![0; 3 * SECTOR];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, b"QFI\xfb");
    put(4, &2u32.to_be_bytes());
    put(8, &72u64.to_be_bytes());
    put(16, &(name.len() as u32).to_be_bytes());
    put(20, &9u32.to_be_bytes());
    put(24, &1536u64.to_be_bytes());
    put(36, &1u32.to_be_bytes());
    put(40, &512u64.to_be_bytes());
    put(48, &1024u64.to_be_bytes());
    put(56, &1u32.to_be_bytes());
    put(72, name.as_bytes());
    bytes
}

fn vmdk_of(extent: &str) -> Vec<u8> {
    let head = "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\ncreateType=\"monolithicFlat\"\n";
    format!("{head}RW 3 FLAT \"{extent}\" 0\n").into_bytes()
}

#[test]
fn the_guard_of_a_raw_disk_outlasts_a_snapshot() {
    let dir = Scratch::new("guard");
    let guest = dir.file("guest.bin", DISGUISE);
    let (disk, snap) = (dir.file("disk.img", &[0; 8192]), dir.path("s"));
    let save = |disk: &str| {
        let args =
            ["snapshot", &guest, "--mode", "real", "--disk", disk, "--at-instruction", "3", "--out", &snap];
        ends(&args, 0);
    };
    save(&disk);
    for again in [&["run", "--restore", &snap][..], &["run", "--restore", &snap, "--disk", &disk]] {
        let said = text(&ends(again, 1).stderr);
        assert!(said.contains("look like a qcow2 image"), "{said}");
        assert_eq!(std::fs::read(&disk).unwrap(), [0; 8192]);
    }
    // Saved again from the restored machine, and restored from that.
    let second = dir.path("s2");
    ends(&["snapshot", "--restore", &snap, "--at-instruction", "5", "--out", &second], 0);
    ends(&["run", "--restore", &second], 1);
    assert_eq!(std::fs::read(&disk).unwrap(), [0; 8192]);
    save(&format!("{disk},format=raw"));
    ends(&["run", "--restore", &snap], 0);
    assert!(std::fs::read(&disk).unwrap().starts_with(b"QFI\xfb"));
}

#[test]
fn the_guard_outlasts_a_recording_and_the_name_of_the_guests_kind() {
    let dir = Scratch::new("kind");
    let mut boot = DISGUISE.to_vec();
    boot.resize(8192, 0);
    boot[510..512].copy_from_slice(&[0x55, 0xaa]);
    let (disk, tape) = (dir.file("disk.img", &boot), dir.path("tape"));
    for args in [
        &["run", &disk][..],
        &["run", &disk, "--format", "disk"],
        &["run", &disk, "--record", &tape],
        &["run", &disk, "--replay", &tape],
    ] {
        let said = text(&program(args).stdin(Stdio::null()).output().unwrap().stderr);
        assert!(said.contains("look like a qcow2 image") || args.contains(&"--replay"), "{args:?}: {said}");
        assert!(std::fs::read(&disk).unwrap() == boot, "{args:?}");
    }
}

#[test]
fn a_raw_disk_takes_no_disguise_that_would_be_believed() {
    let dir = Scratch::new("disguises");
    let footer = {
        let mut f = vec![0u8; SECTOR];
        f[..8].copy_from_slice(b"conectix");
        f[60..64].copy_from_slice(&2u32.to_be_bytes());
        f[48..56].copy_from_slice(&4096u64.to_be_bytes());
        let sum = !f.iter().map(|b| u32::from(*b)).sum::<u32>();
        f[64..68].copy_from_slice(&sum.to_be_bytes());
        f
    };
    let heads: [&[u8]; 6] =
        [b"QFI\xfb", b"conectix", b"KDMV", b"COWD", b"# Disk DescriptorFile", b"# disk descriptorfile"];
    // The size of the second is no multiple of a sector: its last 512 bytes lie in two.
    for size in [4096, 4096 - 24] {
        let content = vec![0; size];
        let path = dir.file("disk.img", &content);
        let opened = || image::open(path.as_ref(), None, true).unwrap().disk;
        let tries = |disk: &mut dyn Disk| {
            for head in heads {
                let mut sector = head.to_vec();
                sector.resize(2 * SECTOR, 0);
                assert!(disk.write(0, &sector).is_err(), "{head:?}");
            }
            if size == 4096 {
                assert!(
                    disk.write(7, &footer).is_err()
                        && disk.write(6, &[vec![0; SECTOR], footer.clone()].concat()).is_err()
                );
            }
        };
        let mut disk = opened();
        tries(&mut *disk);
        drop(disk);
        // A debugger that goes back in time writes at its end; the guest is told at once.
        let mut overlay = Overlay::new(opened());
        tries(&mut overlay.clone());
        overlay.write(1, &[7; SECTOR]).unwrap();
        overlay.finish().unwrap();
        let now = std::fs::read(&path).unwrap();
        assert!(
            now[..SECTOR] == content[..SECTOR] && now[SECTOR..2 * SECTOR] == [7; SECTOR] && now.len() == size
        );
    }
}

#[test]
fn an_image_names_files_of_its_own_folder_only() {
    let dir = Scratch::new("names");
    let inner = dir.path("inner");
    std::fs::create_dir(&inner).unwrap();
    let secret = dir.file("secret", &[b's'; 3 * SECTOR]);
    std::fs::write(format!("{inner}/base"), [b'b'; 3 * SECTOR]).unwrap();
    std::os::unix::fs::symlink(&secret, format!("{inner}/link")).unwrap();
    type Maker = fn(&str) -> Vec<u8>;
    let makers: [(&str, Maker); 2] = [("qcow2", qcow2_over), ("vmdk", vmdk_of)];
    for (name, make) in makers {
        let image = format!("{inner}/image.{name}");
        let run = ["run", "hello", "--snapshot", "--disk", &image];
        for outside in [secret.as_str(), "../secret", "link", "../inner/../secret", "/proc/self/environ"] {
            std::fs::write(&image, make(outside)).unwrap();
            refused(&run, 1, "--allow-path");
        }
        std::fs::write(&image, make("../secret")).unwrap();
        let told = text(&ends(&[&run[..], &["--allow-path", &dir.path("")]].concat(), 0).stderr);
        assert!(told.contains("also reads") && told.contains("secret"), "{told}");
        for own in ["base", "./base", &format!("{inner}/base"), "../inner/base"] {
            std::fs::write(&image, make(own)).unwrap();
            let told = text(&ends(&run, 0).stderr);
            assert!(told.contains("also reads") && told.contains("inner/base"), "{told}");
        }
    }
    let missing = dir.path("missing");
    refused(&["run", "hello", "--snapshot", "--disk", &secret, "--allow-path", &missing], 1, "cannot open");
}

#[test]
fn a_snapshot_opens_its_disks_where_they_were_only() {
    let dir = Scratch::new("reopened");
    let folder = dir.path("elsewhere");
    std::fs::create_dir(&folder).unwrap();
    let (disk, snap) = (dir.file("boot.img", BOOT), format!("{folder}/s"));
    ends(&["snapshot", &disk, "--at-instruction", "60000", "--out", &snap], 0);
    refused(&["run", "--restore", &snap], 1, "--allow-path");
    ends(&["run", "--restore", &snap, "--disk", &disk], 0);
    let told = text(&ends(&["run", "--restore", &snap, "--allow-path", &dir.path("")], 0).stderr);
    assert!(told.contains("opened to be written to"), "{told}");
    // Another file of the same content, behind a link of the name.
    let moved = dir.path("moved.img");
    std::fs::rename(&disk, &moved).unwrap();
    std::os::unix::fs::symlink(&moved, &disk).unwrap();
    refused(&["run", "--restore", &snap, "--allow-path", &dir.path("")], 1, "is a link");
}

/// Runs the program with 1 GiB of address space; it is to say one sentence with `words`.
#[track_caller]
fn small(args: &[&str], words: &str) {
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -v 1048576; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_subring")]).args(args);
    let started = std::time::Instant::now();
    let output = shell.stdin(Stdio::null()).output().unwrap();
    let said = text(&output.stderr);
    assert!(said.contains(words) && output.status.code() == Some(1), "{args:?}: {:?}: {said}", output.status);
    assert!(started.elapsed() < Duration::from_secs(20), "{args:?}: {:?}", started.elapsed());
}

/// A file of `size` bytes that begins with `head`; the rest is a hole.
fn giant(dir: &Scratch, name: &str, head: &[u8], size: u64) -> String {
    let path = dir.file(name, head);
    std::fs::File::options().write(true).open(&path).unwrap().set_len(size).unwrap();
    path
}

#[test]
fn giants_of_holes_take_no_memory() {
    let dir = Scratch::new("giants");
    let disk = |path: &str, words: &str| small(&["run", "hello", "--snapshot", "--disk", path], words);
    let mut vmdk = vec![0; SECTOR];
    let fields: [(usize, u64, usize); 6] = [
        (0, u64::from(u32::from_le_bytes(*b"KDMV")), 4),
        (4, 1, 4),
        (12, 8 << 30, 8),
        (20, 1, 8),
        (44, 1, 4),
        (56, 8, 8),
    ];
    for (at, value, width) in fields {
        vmdk[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
    }
    disk(&giant(&dir, "g.vmdk", &vmdk, (32 << 30) + 8192), "128 GiB");
    disk(&giant(&dir, "short.vmdk", &vmdk, 1 << 30), "cut short");
    // Of 3 GiB: a head as the program writes it, with a length that fits and a checksum that does not; and no
    // such head.
    let size = 3u64 << 30;
    let (snap, tape) = (dir.path("snap"), dir.path("tape"));
    ends(&["snapshot", "hello", "--at-instruction", "9", "--out", &snap], 0);
    ends(&["run", "hello", "--record", &tape], 0);
    for (file, args) in [(&snap, &["run", "--restore"][..]), (&tape, &["run", "hello", "--replay"])] {
        let mut head = std::fs::read(file).unwrap();
        head.truncate(36);
        head[12..20].copy_from_slice(&(size - 36).to_le_bytes());
        small(&[args, &[&giant(&dir, "g", &head, size)]].concat(), "damaged");
        head[0] = b'X';
        small(&[args, &[&giant(&dir, "g", &head, size)]].concat(), "this is no");
    }
    // Images of 128 GiB in clusters of 512 bytes: an L1 table of 32 MiB each.
    let mut name = String::from("c0");
    std::fs::write(dir.path("c0"), vec![0; 3 * SECTOR]).unwrap();
    for n in 1..40 {
        let mut bytes = qcow2_over(&name);
        bytes[24..32].copy_from_slice(&(128u64 << 30).to_be_bytes());
        bytes[36..40].copy_from_slice(&(4u32 << 20).to_be_bytes());
        name = format!("c{n}");
        giant(&dir, &name, &bytes, 33 << 20);
    }
    disk(&dir.path("c39"), "stand on each other");
    let mut shell = Command::new("sh");
    shell.args(["-c", "ulimit -v 1048576; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_subring")]);
    let output = shell.args(["run", "hello", "--snapshot", "--disk", &dir.path("c30")]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn a_fifo_makes_nothing_wait() {
    let dir = Scratch::new("fifo");
    let fifo = dir.path("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for args in [
        &["run", &fifo][..],
        &["run", &fifo, "--format", "disk"],
        &["run", "hello", "--disk", &fifo],
        &["run", "hello", "--floppy", &format!("{fifo},format=raw")],
        &["run", "hello", "--cdrom", &fifo],
        &["run", "--bios", &fifo],
        &["run", "--restore", &fifo],
        &["run", "hello", "--replay", &fifo],
        &["compare", "hello", "--costs", &fifo],
    ] {
        refused(args, 1, "this is a FIFO and no regular file");
    }
    for args in [
        &["run", "hello", "--record", &fifo][..],
        &["snapshot", "hello", "--at-instruction", "9", "--out", &fifo],
    ] {
        let said = text(&ends(args, 1).stderr);
        assert!(said.contains("a file cannot take its place"), "{said}");
    }
    for option in ["--debugcon", "--bioscon", "--dump-state"] {
        refused(&["run", "hello", option, &fifo], 1, "nobody reads from this FIFO");
    }
    refused(&["run", "hello", "--trace", "int", "--trace-file", &fifo], 1, "nobody reads from this FIFO");
    assert!(std::os::unix::fs::FileTypeExt::is_fifo(&std::fs::metadata(&fifo).unwrap().file_type()));
}

#[test]
fn outputs_replace_files_only_and_whole_ones() {
    let dir = Scratch::new("outputs");
    let (out, bystander) = (dir.file("s", b"older"), dir.file("s.partial", b"bystander"));
    let save = ["snapshot", "hello", "--out", &out, "--at-instruction"];
    ends(&[&save[..], &["100G"]].concat(), 2);
    assert_eq!(std::fs::read(&out).unwrap(), b"older");
    ends(&[&save[..], &["100"]].concat(), 0);
    assert!(std::fs::read(&out).unwrap().starts_with(b"SUBRINGS"));
    assert_eq!(std::fs::read(&bystander).unwrap(), b"bystander");
    // A recording that comes to nothing leaves the older one.
    let tape = dir.file("tape", b"older");
    ends(&["run", "hello", "--record", &tape, "--disk", &dir.path("missing")], 1);
    assert_eq!(std::fs::read(&tape).unwrap(), b"older");
    ends(&["run", "hello", "--record", &tape], 0);
    ends(&["run", "hello", "--replay", &tape], 0);
    let state = dir.file("state", b"older");
    ends(
        &["run", "hello", "--dump-state", &state, "--dump-memory", &format!("0x100000:16={}", dir.path("m"))],
        0,
    );
    assert!(
        std::fs::read(&state).unwrap().starts_with(b"{") && std::fs::read(dir.path("m")).unwrap().len() == 16
    );
    let device = dir.path("null");
    if Command::new("mknod").args([&device, "c", "1", "3"]).status().is_ok_and(|s| s.success()) {
        refused(
            &[&["snapshot", "hello", "--at-instruction", "9", "--out"][..], &[&device]].concat(),
            1,
            "a character device",
        );
        let device_there = || {
            std::os::unix::fs::FileTypeExt::is_char_device(&std::fs::metadata(&device).unwrap().file_type())
        };
        for option in ["--dump-state", "--debugcon"] {
            ends(&["run", "hello", option, &device], 0);
            assert!(device_there(), "{option}");
        }
        ends(&["run", "hello", "--record", &device], 1);
        assert!(device_there());
    } else {
        eprintln!("SKIPPED: a device as an output: no right to make one");
    }
    let left: Vec<_> = std::fs::read_dir(dir.path("")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with('.')), "{left:?}");
}

#[test]
fn qemu_and_a_run_keep_off_each_others_images() {
    if !here("qemu_and_a_run_keep_off_each_others_images") {
        return;
    }
    let dir = Scratch::new("qemu-locks");
    let (raw, qcow2) = (dir.file("disk.img", &[0; 8192]), dir.path("disk.qcow2"));
    img(&["create", "-q", "-f", "qcow2", &qcow2, "1M"]);
    // MOV DX, 3F8h; MOV AL, 'x'; OUT DX, AL; JMP to itself: a run that prints has its images open, and locked.
    let forever = dir.file("forever.bin", &[0xba, 0xf8, 0x03, 0xb0, b'x', 0xee, 0xeb, 0xfe]);
    for (disk, format) in [(&raw, "raw"), (&qcow2, "qcow2")] {
        let run = ["run", &forever, "--mode", "real", "--disk", disk];
        for (options, reads) in [(&[][..], false), (&["--snapshot"], true)] {
            let mut child = program(&[&run[..], options].concat())
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            let mut first = [0];
            child.stdout.as_mut().unwrap().read_exact(&mut first).expect("the guest prints");
            let (status, said) = try_img(&["resize", "-f", format, disk, "2M"]);
            assert!(status != 0 && said.contains("lock"), "{options:?}: {status}: {said}");
            let copy = dir.path("copy");
            let (status, said) = try_img(&["convert", "-f", format, "-O", "raw", disk, &copy]);
            assert_eq!(status == 0, reads, "{options:?}: {said}");
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let io = Command::new("qemu-io")
            .args(["-f", format, disk])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn();
        let Ok(mut io) = io else {
            eprintln!("SKIPPED: images in use by QEMU: no qemu-io on this machine");
            return;
        };
        let mut commands = io.stdin.take().unwrap();
        commands.write_all(b"write 0 512\n").unwrap();
        std::thread::sleep(Duration::from_millis(600));
        refused(&run, 1, "such as QEMU");
        refused(&[&run[..], &["--snapshot"]].concat(), 1, "such as QEMU");
        drop(commands);
        io.wait().unwrap();
        ends(&["run", "hello", "--disk", disk], 0);
    }
}
