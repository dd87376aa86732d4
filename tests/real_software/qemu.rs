//! A machine of QEMU's with a kernel, an initial RAM disk and a disk, driven like ours by its serial line and its mouse.

use super::linux_session::Machine;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use subring::device::mouse::{Button, MouseEvent};

/// However loaded the host is, an answer is there in this time.
const PATIENCE: Duration = Duration::from_secs(600);

/// A running QEMU.
pub(crate) struct Qemu {
    child: Child,
    input: ChildStdin,
    output: Receiver<Vec<u8>>,
    monitor: UnixStream,
    serial: String,
    buttons: u8,
}

impl Qemu {
    /// Powers one on: an i440FX board with a Pentium II, as ours. None when there is no QEMU here.
    pub(crate) fn boot(kernel: &Path, initrd: &Path, cmdline: &str, mem: u32, disk: &Path) -> Option<Self> {
        let socket = std::env::temp_dir().join(format!("subring-qemu-{}", std::process::id()));
        let mut command = Command::new("qemu-system-i386");
        command.args(["-accel", "tcg", "-M", "pc", "-cpu", "pentium2", "-display", "none", "-net", "none"]);
        // Guest time by instructions, 16 ns each: however busy the host is, no device answers too late for a driver.
        command.args(["-icount", "shift=4"]);
        command.args(["-no-reboot", "-rtc", "base=2000-01-01T00:00:00,clock=vm", "-m", &mem.to_string()]);
        command.args(["-append", cmdline, "-kernel"]).arg(kernel).arg("-initrd").arg(initrd);
        command.args(["-serial", "stdio", "-serial", "null", "-monitor"]);
        command.arg(format!("unix:{},server,nowait", socket.display()));
        command.args(["-drive", &format!("file={},format=raw,if=ide,index=0", disk.display())]);
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(e) if e.kind() == ErrorKind::NotFound => return None,
            Err(e) => panic!("qemu-system-i386: {e}"),
        };
        let (input, output) = (child.stdin.take().unwrap(), reader(child.stdout.take().unwrap()));
        let monitor = connect(&socket);
        Some(Self { child, input, output, monitor, serial: String::new(), buttons: 0 })
    }

    /// Waits for it to end by itself.
    #[track_caller]
    pub(crate) fn ends(mut self) {
        while self.output.recv_timeout(PATIENCE).is_ok() {}
        assert!(self.child.wait().unwrap().success());
    }

    /// Has its monitor do something.
    fn order(&mut self, line: &str) {
        self.monitor.write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}

impl Machine for Qemu {
    fn send(&mut self, text: &str) {
        self.input.write_all(text.as_bytes()).unwrap();
        self.input.flush().unwrap();
    }

    #[track_caller]
    fn until(&mut self, text: &str) -> String {
        loop {
            if let Some(at) = self.serial.find(text) {
                let before = self.serial[..at].to_owned();
                self.serial.drain(..at + text.len());
                return before;
            }
            match self.output.recv_timeout(PATIENCE) {
                Ok(bytes) => self.serial += &String::from_utf8_lossy(&bytes),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("QEMU without `{text}`:\n{}", self.serial)
                }
            }
        }
    }

    fn hand(&mut self, event: MouseEvent) {
        match event {
            MouseEvent::Move { dx, dy } => self.order(&format!("mouse_move {dx} {dy}")),
            MouseEvent::Wheel(dz) => self.order(&format!("mouse_move 0 0 {dz}")),
            MouseEvent::Button { button, down } => {
                // Its monitor's bits, which its help has in another order.
                let bit = match button {
                    Button::Left => 1,
                    Button::Right => 2,
                    Button::Middle => 4,
                    Button::Side | Button::Extra => panic!("QEMU's monitor has three buttons"),
                };
                self.buttons = if down { self.buttons | bit } else { self.buttons & !bit };
                self.order(&format!("mouse_button {}", self.buttons));
            }
        }
    }
}

impl Drop for Qemu {
    fn drop(&mut self) {
        // It has ended already if all went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads in a thread of its own, so that waiting can end.
fn reader(mut from: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut buf = [0; 4096];
        while let Ok(n @ 1..) = from.read(&mut buf) {
            if sender.send(buf[..n].to_vec()).is_err() {
                break;
            }
        }
    });
    receiver
}

/// The monitor's socket, once it is there. What it says is read and let go.
fn connect(socket: &PathBuf) -> UnixStream {
    let start = Instant::now();
    loop {
        match UnixStream::connect(socket) {
            Ok(stream) => {
                let _ = std::fs::remove_file(socket);
                let said = BufReader::new(stream.try_clone().unwrap());
                std::thread::spawn(move || said.lines().for_each(drop));
                return stream;
            }
            Err(e) => assert!(start.elapsed() < PATIENCE, "QEMU's monitor: {e}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
