//! A session at the shell of a Linux machine, whichever runs it: what is typed, what the mouse does, and what of the
//! answers is the same on every run and on every version of the packages.

use subring::device::mouse::{Button, MouseEvent};

/// A machine with a shell on its serial line.
pub(crate) trait Machine {
    /// Types at the shell.
    fn send(&mut self, text: &str);
    /// Waits for `text` and returns what came before it.
    fn until(&mut self, text: &str) -> String;
    /// Moves or clicks the mouse.
    fn hand(&mut self, event: MouseEvent);
}

const PROMPT: &str = "shell> ";
/// The shell asks its terminal where the cursor is.
const CURSOR_QUERY: &str = "\u{1b}[6n";

/// The commands, in order. Kernel messages stay off the console, where they would fall between the answers,
/// and the terminal is too wide for the echo to wrap.
const COMMANDS: &[&str] = &[
    "stty cols 999",
    "dmesg -n 1",
    "uname -a",
    "cat /proc/cpuinfo",
    "seq 1 100 | grep 7 | sort -rn | head -n 2",
    "for i in 1 2 3; do (exit $i); echo $i: $?; done",
    "awk 'BEGIN { print 3.5 * 2.25, 22 / 7, 1e10 / 3e-5; for (i = 1; i < 1000; i++) s += 1 / (i * i); printf \"%.14f\\n\", s }'",
    "sh /lib/load",
    // The mouse's driver asks it in a thread of its own, which may be done later than what loaded it.
    "until grep -q mouse0 /proc/bus/input/devices; do sleep 1; done",
    // Times of the log go first: digits in one may be what is looked for.
    "dmesg | sed 's/^.[0-9. ]*. //' | grep -E '16550|rtc_cmos|serio|input:|ata[12]|sd 0'",
    "date -u +%Y-%m-%d; hwclock -r -u | cut -c 1-13",
    "mke2fs /dev/sda",
    "mount -t ext2 /dev/sda /mnt",
    "cp /bin/busybox /mnt; seq 1 20000 > /mnt/numbers; cd /mnt; md5sum busybox numbers > /tmp/sums; cd /",
    "umount /mnt; dd if=/dev/sda bs=2 skip=540 count=1 2>/dev/null | hexdump",
    "mount -t ext2 /dev/sda /mnt; grep sda /proc/mounts",
    "cd /mnt; md5sum -c /tmp/sums; cmp busybox /bin/busybox && tail -n 1 numbers; ls -l | awk '{ print $1, $5, $9 }'; cd /",
    "umount /mnt; cat /proc/bus/input/devices",
];
/// The last commands.
const MORE: &[&str] = &["cat /proc/interrupts", "dmesg -r | grep '^<[0-3]>' | sed 's/^<.>.[0-9. ]*. //'"];
/// Reads one packet of the mouse, as a PS/2 mouse with two buttons would send it.
const PACKET: &str = "(sleep 1; echo rea''dy) & dd if=/dev/input/mice bs=3 count=1 2>/dev/null | hexdump -C";
/// What the mouse does, one after the other. Who opens it anew is not told of a button that comes up.
const HAND: [MouseEvent; 4] = [
    MouseEvent::Move { dx: 5, dy: 3 },
    MouseEvent::Button { button: Button::Left, down: true },
    MouseEvent::Move { dx: -100, dy: -40 },
    MouseEvent::Button { button: Button::Right, down: true },
];

/// A session with these packages.
pub(crate) struct Session {
    /// The kernel's release.
    pub(crate) release: String,
    /// Bytes of the program.
    pub(crate) busybox: u64,
}

impl Session {
    /// Types everything at a machine that shows its prompt, up to the command that powers it off. Returns the
    /// transcript.
    pub(crate) fn run(&self, machine: &mut impl Machine) -> String {
        let mut transcript = String::new();
        for command in COMMANDS {
            machine.send(&format!("{command}\n"));
            transcript += &self.entry(command, &machine.until(PROMPT));
        }
        for event in HAND {
            machine.send(&format!("{PACKET}\n"));
            machine.until("ready");
            machine.hand(event);
            let answer = machine.until(PROMPT);
            let packet = answer.lines().find(|line| line.starts_with("0000")).unwrap_or("nothing");
            transcript += &format!("{event:?}: {packet}\n");
        }
        for command in MORE {
            machine.send(&format!("{command}\n"));
            transcript += &self.entry(command, &machine.until(PROMPT));
        }
        machine.send("poweroff -f\n");
        transcript
    }

    /// A command and its answer, without what differs between versions and runs.
    fn entry(&self, command: &str, answer: &str) -> String {
        let answer = answer.replace('\r', "").replace(CURSOR_QUERY, "");
        // The first line is the echo.
        let shown = answer.split_once('\n').map_or("", |(_, rest)| rest);
        let mut entry = format!("$ {command}\n");
        for line in shown.lines() {
            entry += &self.line(command, line);
            entry.push('\n');
        }
        entry
    }

    fn line(&self, command: &str, line: &str) -> String {
        if command == "cat /proc/interrupts" {
            return interrupt(line);
        }
        if line.starts_with("cpu MHz") || line.starts_with("bogomips") {
            return line.split(':').next().unwrap_or_default().to_owned() + ": N";
        }
        if let Some((clock, _)) = line.split_once("setting system clock to ") {
            return clock.to_owned() + "setting system clock";
        }
        let line = line.replace(&self.release, "RELEASE").replace(&self.busybox.to_string(), "SIZE");
        match (line.find(" #1 "), line.find(" i686 ")) {
            (Some(from), Some(to)) if from < to => format!("{} BUILD{}", &line[..from], &line[to..]),
            _ => line,
        }
    }
}

/// A line of /proc/interrupts: whether there were any, not how many.
pub(crate) fn interrupt(line: &str) -> String {
    let Some((name, rest)) = line.split_once(':') else { return line.trim().to_owned() };
    let rest = rest.trim_start();
    let (count, what) = rest.split_once(' ').unwrap_or((rest, ""));
    let some = if count == "0" { "none" } else { "some" };
    format!("{}: {some} {}", name.trim(), what.trim()).trim_end().to_owned()
}

/// Lines that differ between two machines.
pub(crate) struct Known {
    /// The command whose answer it is, by its start.
    pub(crate) command: &'static str,
    /// What the lines start with, on either machine.
    pub(crate) lines: &'static [&'static str],
    /// Why.
    pub(crate) why: &'static str,
}

/// Holds that two transcripts are the same but for what is `known`, and that what is known still differs.
#[track_caller]
pub(crate) fn compare(ours: &str, theirs: &str, known: &[Known]) {
    let (ours, theirs) = (entries(ours), entries(theirs));
    let commands =
        |entries: &[(String, Vec<String>)]| entries.iter().map(|e| e.0.clone()).collect::<Vec<_>>();
    assert_eq!(commands(&ours), commands(&theirs));
    let mut seen = vec![false; known.len()];
    let mut unknown = Vec::new();
    for ((command, ours), (_, theirs)) in ours.iter().zip(&theirs) {
        let only_ours = ours.iter().filter(|line| !theirs.contains(line)).map(|line| ("-", line));
        let only_theirs = theirs.iter().filter(|line| !ours.contains(line)).map(|line| ("+", line));
        for (side, line) in only_ours.chain(only_theirs) {
            let fits =
                |k: &Known| command.starts_with(k.command) && k.lines.iter().any(|l| line.starts_with(l));
            match known.iter().position(fits) {
                Some(at) => seen[at] = true,
                None => unknown.push(format!("{command}\n{side} {line}")),
            }
        }
    }
    assert!(unknown.is_empty(), "differences that are not known (- here, + there):\n{}", unknown.join("\n"));
    for (known, seen) in known.iter().zip(seen) {
        assert!(seen, "{}: no longer differs: {}", known.command, known.why);
        println!("{}: {:?}: {}", known.command, known.lines, known.why);
    }
}

/// The commands with the lines of their answers. What the mouse sends is an answer to no command.
fn entries(transcript: &str) -> Vec<(String, Vec<String>)> {
    let mut entries: Vec<(String, Vec<String>)> = Vec::new();
    for line in transcript.lines() {
        match (line.strip_prefix("$ "), entries.last_mut()) {
            (Some(command), _) => entries.push((command.to_owned(), Vec::new())),
            (None, Some((_, lines))) => lines.push(line.to_owned()),
            (None, None) => panic!("a transcript starts with a command, not with `{line}`"),
        }
    }
    entries
}
