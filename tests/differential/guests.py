"""The project's own guests on both machines: serial transcripts and exit statuses."""

import difflib
import re
import subprocess
from pathlib import Path

PROGRAMS = Path(__file__).parent / "../../guest-programs"
# nano's ticks are each machine's own; its counts are not.
TICKS = r"(?<=100) +\d+(?= )"
# Image, command line, and the lines that name the machine or its loader and so differ.
GUESTS = [
    ("hello/hello.elf", "one two=2", [r"processor", r"command line", r"loader", r"memory", r"^ *[0-9a-f]{8}", r"KiB|MiB|bytes"]),
    ("rings/rings.elf", "", []),
    ("rings/rings-clean.elf", "", []),
    ("sensitive/sensitive.elf", "", []),
    ("smc/smc.elf", "", []),
    ("nano/nano.elf", "all=100", [TICKS]),
    ("nano/nano-clean.elf", "all=100", [TICKS]),
    ("bench/bench.elf", "all=1", []),
    ("vmx/vmx-guest.elf", "", []),
    ("boot/boot.img", None, [r"clock:", r"e820:", r"conventional", r"disk: cylinders"]),
]


def compare(subring, qemu, folder):
    """Runs them all; true when none differs."""
    results = [one(subring, qemu, Path(folder), *guest) for guest in GUESTS]
    return all(results)


def one(subring, qemu, folder, image, line, masks):
    path = PROGRAMS / image
    ours = subprocess.run([subring, "run", str(path), "--mem", "16M", "--snapshot", *(["--append", line] if line else [])],
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=300)
    log = folder / "serial"
    boot = (["-kernel", str(path), *(["-append", line] if line else [])] if line is not None else
            ["-bios", str(PROGRAMS / "bios/bios.bin"), "-drive", f"format=raw,file={path},snapshot=on"])
    theirs = subprocess.run(
        [qemu, "-accel", "tcg", "-cpu", "pentium2", "-m", "16", "-display", "none", "-monitor", "none", "-no-reboot",
         "-serial", f"file:{log}", "-device", "isa-debug-exit,iobase=0xf4,iosize=4", *boot],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=300)
    # QEMU turns the guest's status s into 2s + 1.
    statuses = ours.returncode, theirs.returncode >> 1 if theirs.returncode & 1 else f"QEMU's {theirs.returncode}"
    texts = [strip(t, masks) for t in (ours.stdout, log.read_bytes())]
    same = texts[0] == texts[1] and statuses[0] == statuses[1]
    print(f"guest {image}: {'same' if same else 'DIFFERS'}, {len(texts[0])} lines, status {statuses[0]}")
    if statuses[0] != statuses[1]:
        print(f"  status {statuses[0]} here, {statuses[1]} on QEMU")
    for text in difflib.unified_diff(*texts, "subring", "qemu", lineterm="", n=1):
        print("  " + text)
    return same


def strip(text, masks):
    lines = text.decode(errors="replace").replace("\r", "").splitlines()
    if TICKS in masks:
        return [re.sub(TICKS, " (ticks)", line) for line in lines]
    return [line for line in lines if not any(re.search(m, line, re.I) for m in masks)]
