//! `--gdb PORT` against the real gdb: scripted sessions (`tests/program/gdb/*.gdb`) whose transcripts are golden
//! (`tests/program/gdb/*.txt`; `SUBRING_BLESS=1` writes them anew), and against a small client of our own for what a script
//! cannot do. A run under gdb ends as the run without it: same output, same time, same registers, same memory.
//!
//! Where there is no gdb its sessions are skipped, loudly.

use crate::common::scratch::Scratch;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A run that waits for gdb, or has one.
struct Debuggee {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
    port: u16,
}

impl Debuggee {
    fn start(args: &[&str]) -> Self {
        Self::start_from(args, Stdio::null())
    }

    fn start_from(args: &[&str], input: Stdio) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_subring"))
            .args(["run", "--gdb", "0"])
            .args(args)
            .stdin(input)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("waiting for gdb") {
            line.clear();
            assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "it ended before it listened");
        }
        let port = line.trim().rsplit(':').next().unwrap().parse().unwrap();
        Self { child, stderr, port }
    }

    /// The same with bytes on standard input.
    fn start_with(args: &[&str], input: &[u8]) -> Self {
        let mut debuggee = Self::start_from(args, Stdio::piped());
        debuggee.child.stdin.take().unwrap().write_all(input).unwrap();
        debuggee
    }

    /// Its end: status, standard output, and the rest of standard error.
    fn finish(mut self) -> (Option<i32>, String, String) {
        let (mut out, mut err) = (String::new(), String::new());
        self.child.stdout.take().unwrap().read_to_string(&mut out).unwrap();
        self.stderr.read_to_string(&mut err).unwrap();
        (self.child.wait().unwrap().code(), out, err)
    }
}

/// The gdb whose words the transcripts hold. Others word things differently.
const GDB: &str = " 13.";

fn has_gdb() -> bool {
    let output = Command::new("gdb").arg("--version").output();
    let first = output.map(|o| String::from_utf8_lossy(&o.stdout).lines().next().unwrap_or("").to_owned());
    match first {
        Ok(line) if line.contains(GDB) => return true,
        Ok(line) => eprintln!("SKIPPED: the transcripts are of gdb{GDB}x; this is {line}"),
        Err(_) => eprintln!("SKIPPED: gdb is not installed; its scripted sessions did not run"),
    }
    false
}

/// Runs gdb's commands of `tests/program/gdb/NAME.gdb` one by one, each shown in the transcript before what it prints.
fn transcript(name: &str, symbols: Option<&str>, port: u16) -> String {
    let script = std::fs::read_to_string(root().join(format!("tests/program/gdb/{name}.gdb"))).unwrap();
    // What the stub says itself comes out on gdb's standard error.
    let mut gdb = Command::new("sh");
    gdb.args(["-c", "exec gdb \"$@\" 2>&1", "gdb"]);
    gdb.current_dir(root()).env("LC_ALL", "C").args(["-nx", "-batch"]);
    gdb.args(symbols);
    let setup = ["set pagination off", "set confirm off", "set width 0", "set style enabled off"];
    let connect = format!("target remote 127.0.0.1:{port}");
    for command in setup.into_iter().chain([connect.as_str()]) {
        gdb.args(["-ex", command]);
    }
    for line in script.lines().filter(|l| !l.starts_with('#')) {
        gdb.args(["-ex", &format!("echo (gdb) {line}\\n"), "-ex", line]);
    }
    let output = gdb.stdin(Stdio::null()).output().unwrap();
    // What snapshots take moves with the size of the chips' states.
    let stable = |line: &str| match line.strip_prefix("snapshots ") {
        Some(figures) if figures.contains(" KiB of ") => "snapshots      (figures)".to_owned(),
        _ => line.to_owned(),
    };
    String::from_utf8_lossy(&output.stdout).lines().map(|line| stable(line) + "\n").collect()
}

#[track_caller]
fn assert_golden(name: &str, text: &str) {
    let path = root().join(format!("tests/program/gdb/{name}.txt"));
    if std::env::var_os("SUBRING_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
        return;
    }
    let golden = std::fs::read_to_string(&path).unwrap();
    let differs = golden.lines().zip(text.lines()).position(|(a, b)| a != b);
    assert!(golden == text, "{name}: the transcript differs, first in line {differs:?}:\n{text}");
}

/// What a run leaves: its JSON without counts of our own caches and monitors, registers, and memory.
struct Left {
    json: serde_json::Value,
    state: String,
    memory: Vec<u8>,
}

/// The options that make a run leave all that, in `dir`.
fn leaving(dir: &Scratch) -> Vec<String> {
    let memory = format!("0:16M={}", dir.path("memory"));
    ["--json", "--dump-state", &dir.path("state"), "--dump-memory", &memory].map(str::to_owned).to_vec()
}

fn left(dir: &Scratch, json: &str) -> Left {
    let mut json: serde_json::Value = serde_json::from_str(json).unwrap();
    // How much a monitor translated, and how often it was entered, depends on how the run is cut.
    json["stats"].as_object_mut().unwrap().remove("monitor");
    let other = json["stats"]["other"].as_object_mut().unwrap();
    other.retain(|name, _| !name.starts_with("trace"));
    Left {
        json,
        state: std::fs::read_to_string(dir.path("state")).unwrap(),
        memory: std::fs::read(dir.path("memory")).unwrap(),
    }
}

/// A scripted session, its transcript, and the comparison with the run that nobody looked at.
fn session(name: &str, guest: &str, symbols: Option<&str>) {
    session_under(&[], name, guest, symbols);
}

/// Each monitor, by its options.
const MONITORS: [&[&str]; 4] = [
    &["--strategy", "trap"],
    &["--strategy", "trap", "--coherence", "vtlb"],
    &["--strategy", "bt"],
    &["--strategy", "bt", "--coherence", "vtlb"],
];

/// The same under a monitor, by its options: the transcript is that of the bare machine, and so is what the run leaves.
fn session_under(monitor: &[&str], name: &str, guest: &str, symbols: Option<&str>) {
    if !has_gdb() {
        return;
    }
    let dir = Scratch::new(&format!("{name}{}", monitor.concat()));
    let options = leaving(&dir);
    let options: Vec<&str> = [guest].into_iter().chain(options.iter().map(String::as_str)).collect();
    let debuggee = Debuggee::start(&[&options, monitor].concat());
    let text = transcript(name, symbols, debuggee.port);
    let (status, out, err) = debuggee.finish();
    assert_golden(name, &text);
    assert_eq!(status, Some(0), "{err}");
    let mut watched = left(&dir, &out);

    let alone = Command::new(env!("CARGO_BIN_EXE_subring"))
        .arg("run")
        .args(&options)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let mut alone = left(&dir, &String::from_utf8(alone.stdout).unwrap());
    if !monitor.is_empty() {
        // What an emulator's own TLB counted is another matter there.
        for left in [&mut watched, &mut alone] {
            left.json["stats"]["other"].as_object_mut().unwrap().retain(|name, _| !name.starts_with("TLB"));
        }
    }
    assert_eq!(watched.json, alone.json);
    assert_eq!(watched.state, alone.state);
    assert!(watched.memory == alone.memory, "memory differs");
}

#[test]
fn gdb_debugs_a_kernel_by_its_symbols() {
    session("rings", "rings", Some("guest-programs/rings/rings.elf"));
}

#[test]
fn gdb_debugs_a_boot_sector_in_16_bit_code() {
    session("boot", "boot", None);
}

#[test]
fn gdb_debugs_under_every_monitor_as_on_the_bare_machine() {
    let symbols = |clean: bool| {
        let name = if clean { "rings-clean" } else { "rings" };
        Some(format!("guest-programs/rings/{name}.elf"))
    };
    session("clean", "rings-clean", symbols(true).as_deref());
    for monitor in MONITORS {
        session_under(monitor, "clean", "rings-clean", symbols(true).as_deref());
        session_under(monitor, "boot", "boot", None);
        if monitor.contains(&"bt") {
            // It looks at its ring, and trap and emulate shows it the real one.
            session_under(monitor, "rings", "rings", symbols(false).as_deref());
        }
    }
}

#[test]
fn going_back_under_a_monitor_is_refused_with_a_sentence() {
    let dir = Scratch::new("back");
    for options in MONITORS {
        let path = looping(&dir);
        let args = [&[path.as_str()], options].concat();
        let debuggee = Debuggee::start(&args);
        let mut gdb = Client::connect(debuggee.port);
        assert!(!gdb.ask("qSupported:swbreak+;hwbreak+").contains("Reverse"), "{options:?}");
        for command in ["history", "goto 1", "last-write 0x1000"] {
            let said = monitor(&mut gdb, command);
            assert!(said.contains("under a monitor gdb cannot go back in time yet"), "{command}: {said}");
        }
        gdb.send("k");
        assert_eq!(debuggee.finish().0, Some(130));
        let args = [&["run", path.as_str(), "--gdb", "0", "--gdb-history", "64M"], options].concat();
        let output = Command::new(env!("CARGO_BIN_EXE_subring")).args(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains("is for the bare machine"), "{said}");
    }
}

#[test]
fn gdb_goes_back_in_a_kernel() {
    session("reverse", "rings", Some("guest-programs/rings/rings.elf"));
}

#[test]
fn gdb_goes_back_in_16_bit_code() {
    session("reverse-boot", "boot", None);
}

/// A client of the protocol: packets with checksums, acknowledged.
struct Client(TcpStream);

impl Client {
    fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self(stream)
    }

    fn send(&mut self, packet: &str) {
        let sum = packet.bytes().fold(0u8, u8::wrapping_add);
        self.0.write_all(format!("${packet}#{sum:02x}").as_bytes()).unwrap();
    }

    fn byte(&mut self) -> u8 {
        let mut b = [0];
        self.0.read_exact(&mut b).unwrap();
        b[0]
    }

    /// The next packet's content, run-length coding undone.
    fn receive(&mut self) -> String {
        while self.byte() != b'$' {}
        let mut text = Vec::new();
        loop {
            match self.byte() {
                b'#' => break,
                b'*' => {
                    let (last, times) = (*text.last().unwrap(), self.byte() - 29);
                    text.extend(std::iter::repeat_n(last, times.into()));
                }
                b => text.push(b),
            }
        }
        let _ = (self.byte(), self.byte());
        self.0.write_all(b"+").unwrap();
        String::from_utf8(text).unwrap()
    }

    fn ask(&mut self, packet: &str) -> String {
        self.send(packet);
        self.receive()
    }
}

/// Two instructions that run for ever: `jmp $` at 100000h, and INT3s after it.
fn looping(dir: &Scratch) -> String {
    let path = dir.path("loop.bin");
    std::fs::write(&path, [0xeb, 0xfe, 0xcc, 0xcc]).unwrap();
    path
}

/// The bare machine, and each monitor.
fn all() -> impl Iterator<Item = &'static [&'static str]> {
    [&[][..]].into_iter().chain(MONITORS)
}

#[test]
fn ctrl_c_stops_and_kill_ends() {
    all().for_each(ctrl_c_and_kill);
}

fn ctrl_c_and_kill(options: &[&str]) {
    let dir = Scratch::new(&format!("ctrl-c{}", options.concat()));
    let debuggee = Debuggee::start(&[&[looping(&dir).as_str()], options].concat());
    let mut gdb = Client::connect(debuggee.port);
    let features = gdb.ask("qSupported:swbreak+;hwbreak+;vContSupported+");
    assert!(features.contains("qXfer:features:read+"), "{features}");
    assert_eq!(features.contains("ReverseContinue+;ReverseStep+"), options.is_empty(), "{features}");
    gdb.send("c");
    std::thread::sleep(Duration::from_millis(200));
    gdb.0.write_all(&[3]).unwrap();
    let stop = gdb.receive();
    assert!(stop.starts_with("T02") || stop.starts_with("S02"), "SIGINT: {stop}");
    // EIP, register 8.
    assert_eq!(gdb.ask("p8"), "00001000");
    gdb.send("k");
    let (status, _, err) = debuggee.finish();
    assert_eq!(status, Some(130), "{err}");
    assert!(err.contains("ended by gdb"), "{err}");
}

#[test]
fn code_that_gdb_writes_is_what_runs() {
    all().for_each(written_code_runs);
}

fn written_code_runs(options: &[&str]) {
    let dir = Scratch::new(&format!("write{}", options.concat()));
    let debuggee = Debuggee::start(&[&[looping(&dir).as_str()], options].concat());
    let mut gdb = Client::connect(debuggee.port);
    gdb.send("c");
    std::thread::sleep(Duration::from_millis(100));
    gdb.0.write_all(&[3]).unwrap();
    gdb.receive();
    // mov al, 5; out 0f4h, al; jmp $ over the loop that is running.
    assert_eq!(gdb.ask("M100000,6:b005e6f4ebfe"), "OK");
    assert_eq!(gdb.ask("m100000,6"), "b005e6f4ebfe");
    assert_eq!(gdb.ask("M8000000,1:00").chars().next(), Some('E'), "beyond RAM");
    assert_eq!(gdb.ask("P0=78563412"), "OK");
    assert_eq!(gdb.ask("p0"), "78563412");
    assert_eq!(gdb.ask("Pa=18000000").chars().next(), Some('E'), "no loading of CS by gdb");
    let stop = gdb.ask("s");
    assert!(stop.starts_with("T05") || stop.starts_with("S05"), "SIGTRAP: {stop}");
    assert_eq!(gdb.ask("p0"), "05563412");
    assert_eq!(gdb.ask("c"), "W05");
    assert_eq!(debuggee.finish().0, Some(5));
}

#[test]
fn the_run_goes_on_after_a_detach_and_another_gdb_may_come() {
    all().for_each(detach_and_come_again);
}

fn detach_and_come_again(options: &[&str]) {
    let dir = Scratch::new(&format!("detach{}", options.concat()));
    let debuggee = Debuggee::start(&[&[looping(&dir).as_str()], options].concat());
    let mut gdb = Client::connect(debuggee.port);
    assert_eq!(gdb.ask("Z0,100000,1"), "OK");
    assert!(gdb.ask("c").starts_with("T05"));
    assert_eq!(gdb.ask("D"), "OK");
    drop(gdb);
    let mut again = Client::connect(debuggee.port);
    assert_eq!(again.ask("p8"), "00001000");
    again.send("k");
    assert_eq!(debuggee.finish().0, Some(130));
}

#[test]
fn what_a_triple_fault_left_can_be_looked_at() {
    let dir = Scratch::new("triple");
    let path = dir.path("triple.bin");
    // lidt [100008h], whose limit is 0; int3.
    let code = [0x0f, 0x01, 0x1d, 0x08, 0x00, 0x10, 0x00, 0xcc, 0, 0, 0, 0, 0, 0];
    std::fs::write(&path, code).unwrap();
    let debuggee = Debuggee::start(&[&path]);
    let mut gdb = Client::connect(debuggee.port);
    let stop = gdb.ask("c");
    assert!(stop.starts_with("T0b") || stop.starts_with("S0b"), "SIGSEGV: {stop}");
    assert_eq!(gdb.ask("p8"), "07001000");
    // Back from death, and there again.
    assert_eq!(gdb.ask("bs"), "S05");
    assert_eq!(gdb.ask("p8"), "07001000", "before the exception");
    assert_eq!(gdb.ask("bs"), "S05");
    assert_eq!(gdb.ask("p8"), "00001000");
    assert!(gdb.ask("bs").contains("replaylog:begin"));
    let stop = gdb.ask("c");
    assert!(stop.starts_with("T0b") || stop.starts_with("S0b"), "SIGSEGV again: {stop}");
    assert_eq!(gdb.ask("c"), "X09");
    assert_eq!(debuggee.finish().0, Some(120));
}

/// `monitor` commands come and go in hexadecimal.
fn monitor(gdb: &mut Client, command: &str) -> String {
    let hex: String = command.bytes().map(|b| format!("{b:02x}")).collect();
    gdb.send(&format!("qRcmd,{hex}"));
    let mut text = Vec::new();
    loop {
        let packet = gdb.receive();
        let Some(hex) = packet.strip_prefix('O').filter(|hex| *hex != "K") else { break };
        let digits: Vec<u8> = hex.chars().map(|c| c.to_digit(16).unwrap() as u8).collect();
        text.extend(digits.chunks(2).map(|d| d[0] << 4 | d[1]));
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn a_reset_starts_the_firmware_again() {
    let debuggee = Debuggee::start(&["boot"]);
    let mut gdb = Client::connect(debuggee.port);
    assert_eq!(gdb.ask("Z1,7c00,1"), "OK");
    for _ in 0..2 {
        gdb.ask("c");
        assert_eq!(gdb.ask("p8"), "007c0000");
        assert!(monitor(&mut gdb, "info tlb").starts_with("cached translations: "));
        assert!(monitor(&mut gdb, "stats").starts_with("instructions retired"));
        assert!(monitor(&mut gdb, "reset").starts_with("reset: "));
        assert_eq!(gdb.ask("p8"), "f0ff0000");
    }
    assert_eq!(gdb.ask("z1,7c00,1"), "OK");
    assert_eq!(gdb.ask("c"), "W00");
    assert_eq!(debuggee.finish().0, Some(0));
}

#[test]
fn bytes_that_are_no_protocol_do_no_harm() {
    let dir = Scratch::new("noise");
    let debuggee = Debuggee::start(&["--budget", "5M", &looping(&dir)]);
    let mut noise = TcpStream::connect(("127.0.0.1", debuggee.port)).unwrap();
    let _ = noise.write_all(b"GET / HTTP/1.1\r\n\r\n$p99999999999#00$zz#zz}}}*~#00$m,#a1$Z9,0,0#33");
    std::thread::sleep(Duration::from_millis(300));
    drop(noise);
    assert_eq!(debuggee.finish().0, Some(124), "the run goes on to its budget");
}

#[test]
fn what_lies_beyond_the_machine_gets_an_error_reply() {
    let dir = Scratch::new("beyond");
    let debuggee = Debuggee::start(&[&looping(&dir)]);
    let mut gdb = Client::connect(debuggee.port);
    let registers = gdb.ask("g");
    for packet in ["m100000000,4", "mfffffffe,8", "m100000,ffffffff", "M100000000,1:00", "Z0,100000000,1"] {
        assert_eq!(gdb.ask(packet), "E16", "{packet}");
    }
    assert_eq!(gdb.ask("G0011223344"), "E16", "a short G");
    assert_eq!(gdb.ask("g"), registers, "nothing was written");
    assert_eq!(gdb.ask(&format!("G{registers}")), "OK");
    assert_eq!(gdb.ask("m100000,4"), "ebfecccc");
    gdb.send("k");
    assert_eq!(debuggee.finish().0, Some(130));
}

#[test]
fn a_second_gdb_is_told_at_once() {
    let dir = Scratch::new("second");
    let debuggee = Debuggee::start(&[&looping(&dir)]);
    let mut first = Client::connect(debuggee.port);
    assert!(first.ask("?").starts_with(['S', 'T']));
    let mut second = Client::connect(debuggee.port);
    let told = second.ask("qSupported");
    assert!(told.starts_with("E.another debugger has this machine"), "{told}");
    assert_eq!(first.ask("m100000,2"), "ebfe", "the first one has it still");
    first.send("k");
    assert_eq!(debuggee.finish().0, Some(130));
}

/// Packets that a client of ill will or of another architecture may send, from a seed.
#[test]
fn forged_packets_never_end_the_program() {
    let dir = Scratch::new("forged");
    let debuggee = Debuggee::start(&["--budget", "5M", &looping(&dir)]);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let heads = [
        "m",
        "M",
        "G",
        "P",
        "p",
        "g",
        "X",
        "Z0,",
        "z0,",
        "Z2,",
        "qRcmd,",
        "qXfer:features:read:",
        "vCont;",
        "H",
        "bs",
        "bc",
        "qSupported:",
        "QStartNoAckMode",
        "?",
        "vMustReplyEmpty",
        "T",
        "s",
        "R",
        "!",
    ];
    let alphabet = b"0123456789abcdef,:;=fFxX-*}zZ{";
    for _ in 0..40 {
        // The run may be over: a forged packet may have written any register.
        let Ok(mut gdb) = TcpStream::connect(("127.0.0.1", debuggee.port)) else { break };
        for _ in 0..40 {
            let mut body = heads[random(heads.len())].as_bytes().to_vec();
            body.extend((0..random(24)).map(|_| alphabet[random(alphabet.len())]));
            let sum = body.iter().fold(0u8, |sum, b| sum.wrapping_add(*b));
            let packet = [&b"$"[..], &body, format!("#{sum:02x}").as_bytes()].concat();
            if gdb.write_all(&packet).is_err() {
                break;
            }
        }
        drop(gdb);
        std::thread::sleep(Duration::from_millis(5));
    }
    let (status, _, err) = debuggee.finish();
    assert!(!err.contains("panicked"), "{err}");
    assert!(matches!(status, Some(120 | 121 | 124 | 130)), "{status:?}: {err}");
}

/// Echoes what comes over COM1, and ends after a `q`.
const ECHO: [u8; 26] = [
    0x66, 0xba, 0xfd, 0x03, 0xec, 0xa8, 0x01, 0x74, 0xfb, // wait: in al, 3fdh; test al, 1; jz wait
    0xb2, 0xf8, 0xec, 0xee, // 100009: mov dl, f8h; in al, dx; 10000c: out dx, al
    0x3c, 0x71, 0x74, 0x04, 0xb2, 0xfd, 0xeb, 0xef, // cmp al, 'q'; je end; mov dl, fdh; jmp wait
    0xb0, 0x07, 0xe6, 0xf4, 0x90, // end: mov al, 7; out 0f4h, al
];

#[test]
fn input_is_given_again_and_output_is_not_printed_again() {
    let dir = Scratch::new("echo");
    let path = dir.path("echo.bin");
    std::fs::write(&path, ECHO).unwrap();
    let debuggee = Debuggee::start_with(&[&path], b"abcq");
    let mut gdb = Client::connect(debuggee.port);
    assert_eq!(gdb.ask("Z0,10000c,1"), "OK");
    let taken = |gdb: &mut Client, how: &str| {
        let stop = gdb.ask(how);
        assert!(stop.starts_with("T05"), "{stop}");
        u8::from_str_radix(&gdb.ask("p0")[..2], 16).unwrap() as char
    };
    let forward: String = (0..3).map(|_| taken(&mut gdb, "c")).collect();
    assert_eq!(forward, "abc");
    let back: String = (0..2).map(|_| taken(&mut gdb, "bc")).collect();
    assert_eq!(back, "ba");
    assert!(gdb.ask("bc").contains("replaylog:begin"));
    assert!(monitor(&mut gdb, "history").contains("inputs         1"));
    let again: String = (0..4).map(|_| taken(&mut gdb, "c")).collect();
    assert_eq!(again, "abcq");
    // Another future: an `a` becomes a `q`.
    for _ in 0..3 {
        taken(&mut gdb, "bc");
    }
    assert_eq!(gdb.ask("P0=71000000"), "OK");
    assert_eq!(gdb.ask("c"), "W07");
    let (status, out, err) = debuggee.finish();
    assert_eq!((status, out.as_str()), (Some(7), "abcq"), "what was printed cannot be taken back: {err}");
    assert!(err.contains("gdb changed the machine at instruction") && err.contains("is dropped"), "{err}");
}

/// Real mode: writes 512 times the byte 41h to sector 1, and ends.
const WRITER: [u8; 54] = [
    0xfc, 0xba, 0xf2, 0x01, 0xb0, 0x01, 0xee, 0x42, 0xee, 0x42, 0x30, 0xc0, 0xee, 0x42, 0xee, 0x42, 0xb0,
    0xe0, 0xee, 0x42, 0xb0, 0x30, 0xee, 0xec, 0xa8, 0x08, 0x74, 0xfb, 0xba, 0xf0, 0x01, 0xb9, 0x00, 0x01,
    0xb8, 0x41, 0x41, 0xef, 0xe2, 0xfd, 0xba, 0xf7, 0x01, 0xec, 0xa8, 0x80, 0x75, 0xfb, 0xb0, 0x00, 0xe6,
    0xf4, 0x90, 0x90,
];

#[test]
fn an_image_file_is_written_at_the_end_of_the_session() {
    for (history, kept) in [("64M", true), ("0", false)] {
        let dir = Scratch::new(&format!("disk-{history}"));
        let (code, image) = (dir.path("writer.bin"), dir.path("disk.img"));
        std::fs::write(&code, WRITER).unwrap();
        std::fs::write(&image, [0; 1 << 16]).unwrap();
        let sector = || std::fs::read(&image).unwrap()[512..1024].to_vec();
        let args = ["--mode", "real", "--disk", &image, "--gdb-history", history, &code];
        let debuggee = Debuggee::start(&args);
        let mut gdb = Client::connect(debuggee.port);
        let features = gdb.ask("qSupported:swbreak+;hwbreak+");
        assert_eq!(features.contains("Reverse"), kept, "{features}");
        // Before the last two instructions.
        assert_eq!(gdb.ask("Z0,7c30,1"), "OK");
        assert!(gdb.ask("c").starts_with("T05"));
        assert_eq!(sector(), [if kept { 0 } else { 0x41 }; 512], "history {history}");
        if kept {
            assert!(gdb.ask("bc").contains("replaylog:begin"));
            assert!(gdb.ask("c").starts_with("T05"));
        } else {
            assert!(monitor(&mut gdb, "history").contains("no history is kept"));
        }
        assert_eq!(gdb.ask("c"), "W00");
        assert_eq!(debuggee.finish().0, Some(0));
        assert_eq!(sector(), [0x41; 512]);
    }
}

#[test]
fn a_search_backwards_can_be_interrupted() {
    let dir = Scratch::new("search");
    let debuggee = Debuggee::start(&[&looping(&dir)]);
    let mut gdb = Client::connect(debuggee.port);
    gdb.send("c");
    std::thread::sleep(Duration::from_millis(1500));
    gdb.0.write_all(&[3]).unwrap();
    gdb.receive();
    let here = monitor(&mut gdb, "history");
    let count = |text: &str| text.lines().nth(1).unwrap().to_owned();
    assert_eq!(gdb.ask("Z2,500,4"), "OK");
    gdb.send("bc");
    std::thread::sleep(Duration::from_millis(50));
    gdb.0.write_all(&[3]).unwrap();
    let stop = gdb.receive();
    assert!(stop.starts_with("T02") || stop.starts_with("S02") || stop.contains("begin"), "{stop}");
    if !stop.contains("begin") {
        assert_eq!(count(&monitor(&mut gdb, "history")), count(&here), "it is where it was");
    }
    gdb.send("k");
    assert_eq!(debuggee.finish().0, Some(130));
}

#[test]
fn a_history_too_small_for_the_memory_is_refused() {
    let run = |args: &[&str]| {
        let program = env!("CARGO_BIN_EXE_subring");
        let output = Command::new(program).arg("run").args(args).stdin(Stdio::null()).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (status, err) = run(&["hello", "--gdb", "0", "--gdb-history", "1M"]);
    assert!(status == Some(2) && err.contains("give 32 MiB or more, or 0"), "{err}");
    let (status, err) = run(&["hello", "--gdb-history", "64M"]);
    assert!(status == Some(2) && err.contains("--gdb"), "{err}");
}
