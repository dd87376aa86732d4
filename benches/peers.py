#!/usr/bin/env python3
"""Compares the speed of subring, Bochs and QEMU (its translator, TCG) on guest-programs/bench/bench.elf.

    benches/peers.py                      builds subring, runs all workloads on all three, prints a table
    benches/peers.py --work sieve,calls   only these workloads
    benches/peers.py --strategy bare      only the bare machine of subring, without a monitor
    benches/peers.py --install            gets Debian's packages of the peers first

The seconds are CPU time of the whole emulator process. Each workload runs with n and with 2n rounds, several times; the
least time of each counts, and their difference is what n rounds cost: start-up, firmware and preparation cancel out.
n is chosen for each emulator so that the difference is long enough to measure. One round's checksum is compared with
expected.txt first. The instructions are those that subring retires; an iteration of REP is one.

QEMU takes the kernel by itself. Bochs only boots disks: it gets an image with a boot sector of ours (boot.S). It cannot
end by itself either, so its serial output is watched for the guest's last line.
"""
import argparse
import glob
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from math import isnan
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
KERNEL = ROOT / "guest-programs/bench/bench.elf"
EXPECTED = (ROOT / "guest-programs/bench/expected.txt").read_text().splitlines()
WORKS = [line.split()[0] for line in EXPECTED]
STRATEGIES = ["bare", "trap/trace", "trap/vtlb", "bt/trace", "bt/vtlb"]
PACKAGES = ["bochs", "qemu-system-x86", "seabios", "gcc", "binutils"]
SHOWN_ROUNDS = 100              # the table's seconds are for this many rounds
MOST_ROUNDS = 8000              # twice as many still fit into the guest's 32-bit loop counts
TIMEOUT = 120                   # seconds of patience with one run
TRIES = 3                       # to get a number out of noise
NOISE = "noise"                 # what stands where there is none
POLL = 0.002


class Skipped(Exception):
    """A peer that cannot run here, and why."""


# ---- running a process and taking its CPU time ----

def cpu_time(command, ended=None, stdin=subprocess.DEVNULL, status=0):
    """The CPU seconds of `command`, its children's included, and what it printed. With `ended`, it is killed as soon as
    that holds; otherwise it must end with `status`."""
    out = tempfile.TemporaryFile()
    process = subprocess.Popen(command, stdin=stdin, stdout=out, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + TIMEOUT
    while True:
        pid, result, usage = os.wait4(process.pid, os.WNOHANG)
        if pid or time.monotonic() > deadline or ended and ended():
            break
        time.sleep(POLL)
    if not pid:
        os.killpg(process.pid, signal.SIGKILL)
        _, result, usage = os.wait4(process.pid, 0)
    process.returncode = result = os.waitstatus_to_exitcode(result)
    if result != (-signal.SIGKILL if ended else status) or time.monotonic() > deadline:
        sys.exit(f"peers.py: {' '.join(map(str, command))}: status {result} within {TIMEOUT} s")
    out.seek(0)
    return usage.ru_utime + usage.ru_stime, out.read().decode(errors="replace")


# ---- the three emulators: each runs one workload, and gives its CPU seconds and the guest's line ----

class Subring:
    def __init__(self, binary, strategy="bare"):
        self.name, self.binary = strategy, binary
        which, _, coherence = strategy.partition("/")
        self.monitor = ["--strategy", which] + (["--coherence", coherence] if coherence else [])
        self.retired = {}

    def run(self, work, rounds):
        options = ["--append", f"{work}={rounds}", "--json", *self.monitor]
        seconds, out = cpu_time([self.binary, "run", str(KERNEL), *options])
        report = json.loads(out)
        self.retired[work, rounds] = report["retired"]
        return seconds, report["serial"]

    def version(self):
        return subprocess.run([self.binary, "--version"], capture_output=True, text=True).stdout.strip()


class Qemu:
    name = "qemu"

    def __init__(self):
        self.binary = shutil.which("qemu-system-i386")
        if not self.binary:
            raise Skipped("no qemu-system-i386 on this machine")

    def run(self, work, rounds):
        options = "-accel tcg -cpu pentium2 -m 16 -serial stdio -display none -monitor none -no-reboot"
        command = [self.binary, "-kernel", str(KERNEL), "-append", f"{work}={rounds}", *options.split()]
        # The guest's status 0 comes out as 2 * 0 + 1.
        return cpu_time([*command, "-device", "isa-debug-exit,iobase=0xf4,iosize=4"], status=1)

    def version(self):
        out = subprocess.run([self.binary, "--version"], capture_output=True, text=True).stdout
        return out.splitlines()[0]


class Bochs:
    name = "bochs"
    PLUGINS = "/usr/lib/*/bochs/plugins/libbx_{}_gui.so"
    BIOS = ["/usr/share/seabios/bios.bin", "/usr/share/bochs/BIOS-bochs-latest"]
    VGA_BIOS = ["/usr/share/seabios/vgabios-stdvga.bin", "/usr/share/bochs/VGABIOS-lgpl-latest"]
    CYLINDERS, HEADS, SECTORS = 4, 16, 63
    # Debian's looks for a sound card otherwise; a Bochs without sound does not know the option.
    SILENCE = "sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy"
    # One of Bochs's processor models, and more options of the line "cpu".
    MODEL, CPU = "p2_klamath", ""
    # These need no window and no terminal.
    SCREENS = {"nogui": "nogui", "rfb": 'rfb, options="timeout=0"'}

    def __init__(self, scratch, own):
        self.binary = own or shutil.which("bochs")
        if not self.binary:
            raise Skipped("no bochs on this machine")
        self.own = own is not None
        self.scratch = Path(scratch)
        self.disk, self.serial = self.scratch / "disk.img", self.scratch / "com1.txt"
        self.configure()

    def configure(self):
        screens = [line for name, line in self.SCREENS.items() if self.own or glob.glob(self.PLUGINS.format(name))]
        if not screens:
            raise Skipped("this bochs has neither of the display libraries nogui and rfb")
        self.config = self.scratch / "bochsrc"
        self.config.write_text(f"""
display_library: {screens[0]}
romimage: file={first(self.BIOS)}
vgaromimage: file={first(self.VGA_BIOS)}
megs: 16
cpu: model={self.MODEL}, count=1, ips=50000000{self.CPU}
clock: sync=none
vga: update_freq=1
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=disk, path={self.disk}, mode=flat, cylinders={self.CYLINDERS}, heads={self.HEADS}, spt={self.SECTORS}
boot: disk
com1: enabled=1, mode=file, dev={self.serial}
speaker: enabled=0
{"" if self.own else self.SILENCE}
log: {self.scratch / "bochs.log"}
panic: action=fatal
""")
        self.command = [self.binary, "-q", "-f", str(self.config)]
        # A build with the debugger stops at the reset vector and wants to be told.
        if "-rc filename" in self.help():
            commands = self.scratch / "debugger"
            commands.write_text("continue\n")
            self.command += ["-rc", str(commands)]

    def help(self):
        out = subprocess.run([self.binary, "--help"], capture_output=True, text=True)
        return out.stdout + out.stderr

    def run(self, work, rounds):
        self.disk.write_bytes(disk_image(f"{work}={rounds}", self.scratch, self.CYLINDERS * self.HEADS * self.SECTORS))
        self.serial.unlink(missing_ok=True)
        Path(f"{self.disk}.lock").unlink(missing_ok=True)       # a killed Bochs leaves it
        seconds, _ = cpu_time(self.command, ended=lambda: self.serial.exists() and b"\n" in self.serial.read_bytes())
        return seconds, self.serial.read_text()

    def version(self):
        text = self.help()
        name = next((line.strip() for line in text.splitlines() if "Bochs x86 Emulator" in line), "Bochs")
        return name + (", built with its debugger" if "-rc filename" in text else "")


def first(paths):
    for path in paths:
        if os.path.exists(path):
            return path
    raise Skipped(f"none of {', '.join(paths)} on this machine")


# ---- a disk that boots the kernel ----

def disk_image(cmdline, scratch, sectors, kernel=KERNEL):
    """The boot sector, its parameters (boot.S says where), and the kernel's segments as one block."""
    elf = kernel.read_bytes()
    entry, table = struct.unpack_from("<II", elf, 24)
    count, = struct.unpack_from("<H", elf, 44)
    headers = [struct.unpack_from("<8I", elf, table + 32 * i) for i in range(count)]
    base = min(at for _, _, _, at, *_ in headers)
    end = max(at + memory for _, _, _, at, _, memory, *_ in headers)
    kernel = bytearray(max(at + length for _, _, _, at, length, *_ in headers if length) - base)
    for _, offset, _, at, length, *_ in headers:
        kernel[at - base:at - base + length] = elf[offset:offset + length]
    parameters = bytearray(512)
    struct.pack_into("<4I", parameters, 0, base, len(kernel), end - base - len(kernel), entry)
    struct.pack_into("<5I", parameters, 32, 1 << 2, 0, 0, 0, 0x8000 + 256)     # Multiboot: there is a command line
    parameters[256:256 + len(cmdline)] = cmdline.encode()
    block = bytes(parameters) + bytes(kernel)
    image = boot_sector(scratch, -(-len(block) // 512)) + block
    return image.ljust(sectors * 512, b"\0")


def boot_sector(scratch, sectors):
    if not shutil.which("gcc") or not shutil.which("ld"):
        raise Skipped("no gcc and ld on this machine, for the boot sector")
    linked = Path(scratch) / "boot.bin"
    if not linked.exists():
        made = Path(scratch) / "boot.o"
        source = Path(__file__).with_name("boot.S")
        subprocess.run(["gcc", "-m32", f"-DSECTORS={sectors}", "-c", source, "-o", made], check=True)
        link = ["ld", "-m", "elf_i386", "-Ttext", "0x7c00", "--oformat", "binary", made, "-o", linked]
        subprocess.run(link, check=True)
    return linked.read_bytes()


# ---- measuring ----

def check(machine, work):
    """One round gives the checksum that it gives everywhere."""
    seconds, said = machine.run(work, 1)
    expected = EXPECTED[WORKS.index(work)]
    if said.split() != expected.split():
        sys.exit(f"peers.py: {machine.name} is wrong: it says {said!r}, not {expected!r}")
    return seconds


def enough_rounds(machine, work, wanted):
    """How many rounds take about `wanted` seconds, or the most there are."""
    base, rounds = check(machine, work), 8
    while (seconds := machine.run(work, rounds)[0] - base) < wanted / 4 and rounds < MOST_ROUNDS:
        rounds *= 4
    return min(MOST_ROUNDS, max(1, round(rounds * wanted / max(seconds, POLL))))


def measure(machine, work, options):
    """Seconds of a round, and the rounds that it was found with. On a busy host one kind of run may be slowed down more than the
    other: then both are run again; if that does not help, the seconds are no number."""
    rounds = enough_rounds(machine, work, options.seconds)
    once, twice = [], []
    for _ in range(TRIES):
        once += [machine.run(work, rounds)[0] for _ in range(options.runs)]
        twice += [machine.run(work, 2 * rounds)[0] for _ in range(options.runs)]
        seconds = min(twice) - min(once)
        if seconds >= options.seconds / 4 or rounds == MOST_ROUNDS and seconds > 0:
            return seconds / rounds, rounds
    return float("nan"), rounds


def rows(ours, peers, work, options):
    """The cells of a workload's rows, one for each of ours: the first is the one that the others are compared with."""
    theirs = None
    for machine in ours:
        seconds, rounds = measure(machine, work, options)
        instructions = (machine.retired[work, 2 * rounds] - machine.retired[work, rounds]) / rounds
        rate = instructions / seconds / 1e6
        if theirs is None:
            first = rate
            theirs = [instructions / measure(peer, work, options)[0] / 1e6 for peer in peers]
        yield [work, machine.name, f"{instructions * SHOWN_ROUNDS / 1e6:.0f}", shown(seconds * SHOWN_ROUNDS),
               shown_rate(rate), *map(shown_rate, theirs), ratio(rate / first), *[ratio(rate / t) for t in theirs]]


def line(cells, widths):
    return "| " + " | ".join(f"{c:<{w}}" if i < 2 else f"{c:>{w}}" for i, (c, w) in enumerate(zip(cells, widths))) + " |"


def shown(seconds):
    if isnan(seconds):
        return NOISE
    return f"{seconds:.3f}" if seconds >= 0.1 else f"{seconds:.4f}"


def shown_rate(rate):
    if isnan(rate):
        return NOISE
    return f"{rate:.0f}" if rate >= 10 else f"{rate:.1f}"


def ratio(value):
    if isnan(value):
        return NOISE
    return f"{value:.2f}" if value >= 0.1 else f"{value:.4f}"


def table(ours, peers, options):
    """Million instructions a second for each way that we run the workload and for each peer, and how many times as fast we
    are as our first way and as each peer."""
    names = [peer.name for peer in peers]
    head = ["work", "subring", "M instr", "s", "M/s", *[f"{n} M/s" for n in names],
            f"/ {ours[0].name}", *[f"/ {n}" for n in names]]
    widths = [max(len(h), 10 if i < 2 else 7) for i, h in enumerate(head)]
    print(line(head, widths))
    print("|" + "|".join("-" * (w + 1) + ("-" if i < 2 else ":") for i, w in enumerate(widths)) + "|", flush=True)
    for work in options.work:
        for cells in rows(ours, peers, work, options):
            print(line(cells, widths), flush=True)


def peers(scratch, options):
    makers = {"bochs": lambda: Bochs(scratch, options.bochs), "qemu": Qemu}
    for name in options.peers:
        try:
            yield makers[name]()
        except Skipped as why:
            print(f"SKIPPED: {why} (peers.py --install gets it on Debian)")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = lambda text: text.split(",")
    parser.add_argument("--work", type=names, default=WORKS, help="workloads, separated by commas")
    parser.add_argument("--strategy", type=names, default=STRATEGIES, help="how subring runs them: " + ", ".join(STRATEGIES))
    parser.add_argument("--peers", type=names, default=["bochs", "qemu"], help="bochs, qemu, or both")
    parser.add_argument("--runs", type=int, default=3, help="runs of each kind; the least time counts (default: 3)")
    parser.add_argument("--seconds", type=float, default=0.4, help="length of what is measured (default: 0.4)")
    parser.add_argument("--binary", help="a subring that is built already")
    parser.add_argument("--bochs", metavar="FILE", help="a Bochs of your own, built with nogui and no sound")
    parser.add_argument("--install", action="store_true", help="apt-get install " + " ".join(PACKAGES))
    options = parser.parse_args()
    if unknown := set(options.peers) - {"bochs", "qemu"}:
        parser.error(f"no peer {', '.join(unknown)}")
    if unknown := set(options.strategy) - set(STRATEGIES):
        parser.error(f"no strategy {', '.join(unknown)}: there are {', '.join(STRATEGIES)}")
    if unknown := set(options.work) - set(WORKS):
        parser.error(f"no workload {', '.join(unknown)}: there are {', '.join(WORKS)}")
    return options


def main():
    options = arguments()
    if options.install:
        subprocess.run(["apt-get", "install", "-y", *PACKAGES], check=True)
    if not options.binary:
        subprocess.run(["cargo", "build", "--profile", "dist", "--quiet"], cwd=ROOT, check=True)
        target = os.environ.get("CARGO_TARGET_DIR", ROOT / "target")
        options.binary = str(Path(target) / "dist/subring")
    with tempfile.TemporaryDirectory() as scratch:
        ours = [Subring(options.binary, strategy) for strategy in options.strategy]
        others = list(peers(scratch, options))
        for m in [ours[0], *others]:
            print(m.version())
        print("load average {:.2f} {:.2f} {:.2f}".format(*os.getloadavg()))
        print(f"seconds are CPU time of {SHOWN_ROUNDS} rounds, the least of {options.runs} runs\n")
        table(ours, others, options)
        print("\nload average {:.2f} {:.2f} {:.2f}".format(*os.getloadavg()))


if __name__ == "__main__":
    main()
