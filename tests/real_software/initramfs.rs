//! An initial RAM file system with busybox, as a cpio archive in the "newc" format (Documentation/driver-api/early-
//! userspace/buffer-format.rst).

/// The archive.
#[derive(Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    inodes: u32,
}

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;

impl Archive {
    pub(crate) fn directory(&mut self, name: &str) {
        self.entry(name, DIRECTORY, &[]);
    }

    pub(crate) fn program(&mut self, name: &str, content: &[u8]) {
        self.entry(name, PROGRAM, content);
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

/// busybox with a first process that mounts what a shell needs and starts one.
pub(crate) fn busybox(busybox: &[u8]) -> Vec<u8> {
    const INIT: &str = "#!/bin/busybox sh\n\
        /bin/busybox mkdir -p /usr/bin /usr/sbin /sbin\n\
        /bin/busybox --install -s\n\
        mount -t proc proc /proc\n\
        mount -t sysfs sys /sys\n\
        mount -t devtmpfs dev /dev\n\
        export PS1='shell> '\n\
        exec setsid cttyhack sh\n";
    let mut archive = Archive::default();
    for name in ["bin", "proc", "sys", "dev", "tmp", "mnt"] {
        archive.directory(name);
    }
    archive.program("bin/busybox", busybox);
    archive.program("init", INIT.as_bytes());
    archive.finish()
}
