//! An initial RAM file system with busybox and kernel modules, as a cpio archive in the "newc" format
//! (Documentation/driver-api/early-userspace/buffer-format.rst).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The archive.
#[derive(Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    inodes: u32,
}

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const FILE: u32 = 0o100_644;

impl Archive {
    pub(crate) fn directory(&mut self, name: &str) {
        self.entry(name, DIRECTORY, &[]);
    }

    pub(crate) fn program(&mut self, name: &str, content: &[u8]) {
        self.entry(name, PROGRAM, content);
    }

    pub(crate) fn file(&mut self, name: &str, content: &[u8]) {
        self.entry(name, FILE, content);
    }

    /// The archive with its trailer.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) {
        self.inodes += 1;
        let (links, size, name_size) = (1, content.len() as u32, name.len() as u32 + 1);
        let fields = [self.inodes, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(name.bytes().chain([0]));
        self.pad();
        self.bytes.extend(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

/// busybox, a first process that mounts what a shell needs and starts one, `programs` by their paths, and in /lib
/// the `modules`: `sh /lib/load` inserts them in their order.
pub(crate) fn busybox(
    busybox: &[u8],
    modules: &[(String, Vec<u8>)],
    programs: &[(&str, Vec<u8>)],
) -> Vec<u8> {
    const INIT: &str = "#!/bin/busybox sh\n\
        /bin/busybox mkdir -p /usr/bin /usr/sbin /sbin\n\
        /bin/busybox --install -s\n\
        mount -t proc proc /proc\n\
        mount -t sysfs sys /sys\n\
        mount -t devtmpfs dev /dev\n\
        export PS1='shell> '\n\
        exec setsid cttyhack sh\n";
    let mut archive = Archive::default();
    for name in ["bin", "proc", "sys", "dev", "tmp", "mnt", "lib"] {
        archive.directory(name);
    }
    archive.program("bin/busybox", busybox);
    archive.program("init", INIT.as_bytes());
    for (name, content) in programs {
        archive.program(name, content);
    }
    for (name, content) in modules {
        archive.file(&format!("lib/{name}.ko"), content);
    }
    let load: String = modules.iter().map(|(name, _)| format!("insmod /lib/{name}.ko || exit 1\n")).collect();
    archive.file("lib/load", load.as_bytes());
    archive.finish()
}

/// The kernel modules `wanted` below `folder` and all that they say they depend on, each after what it needs.
pub(crate) fn modules(folder: &Path, wanted: &[&str]) -> Vec<(String, Vec<u8>)> {
    let mut files = BTreeMap::new();
    collect(folder, &mut files);
    let mut ordered = Vec::new();
    for name in wanted {
        assert!(files.contains_key(*name), "the package has no module {name}");
        add(name, &files, &mut ordered);
    }
    ordered
}

/// Every module below `folder`, by name. The kernel takes - and _ for the same.
fn collect(folder: &Path, files: &mut BTreeMap<String, PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the package has modules") {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "ko") {
            files.insert(path.file_stem().unwrap().to_string_lossy().replace('-', "_"), path);
        }
    }
}

fn add(name: &str, files: &BTreeMap<String, PathBuf>, ordered: &mut Vec<(String, Vec<u8>)>) {
    // What is no file here is in the kernel.
    let Some(path) = files.get(name).filter(|_| ordered.iter().all(|(n, _)| n != name)) else { return };
    let content = std::fs::read(path).unwrap();
    let needs = info(&content, "depends=").into_iter().chain(info(&content, "softdep=pre: "));
    for list in needs {
        list.split([',', ' ']).for_each(|need| add(&need.replace('-', "_"), files, ordered));
    }
    ordered.push((name.to_owned(), content));
}

/// The values of a key among the zero-ended strings of a module's `.modinfo`.
fn info(module: &[u8], key: &str) -> Vec<String> {
    let strings = module.split(|&b| b == 0).filter_map(|s| s.strip_prefix(key.as_bytes()));
    strings.map(|value| String::from_utf8_lossy(value).into_owned()).collect()
}
