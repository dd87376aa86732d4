#!/usr/bin/env python3
"""Compares VMX here and on Bochs: the transcripts of guest-programs/vmx-test, line by line, and those of the
hypervisor guest-programs/vmx with shadow page tables and with nested ones.

    tests/differential/vmx.py                     on the Core Duo of both
    tests/differential/vmx.py --all               lists the known differences, too, each with its lines
    tests/differential/vmx.py --keep FOLDER       leaves both transcripts there

It needs Debian's `bochs` and says SKIPPED without it. Exit status 0: no difference beyond those of
known-vmx.json.
"""
import argparse
import difflib
import json
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "benches"))
import peers  # noqa: E402

KERNEL = ROOT / "guest-programs/vmx-test/vmx-test.elf"
HYPERVISOR = ROOT / "guest-programs/vmx/vmx.elf"
# Our model, Bochs's, and the hypervisor's command line. Lynnfield has no unrestricted guest.
HYPERVISORS = [("yonah", "core_duo_t2400_yonah", "shadow"), ("yonah-ept", "corei7_sandy_bridge_2600k", "shadow"),
               ("yonah-ept", "corei7_sandy_bridge_2600k", "ept")]
# Exits whose number depends on how fast instructions and the serial port are.
TIMED = re.compile(r"^ *(?:1|7|30)?  (external interrupt|interrupt window|I/O|all) +\d+$", re.M)
KNOWN = Path(__file__).with_name("known-vmx.json")
# What Bochs 2.7 survives (see the kernel's README).
CMDLINE = "hard=0"


class Bochs(peers.Bochs):
    MODEL, CPU = "core_duo_t2400_yonah", ", ignore_bad_msrs=0"

    def transcript(self, kernel, cmdline, last):
        sectors = self.CYLINDERS * self.HEADS * self.SECTORS
        self.disk.write_bytes(peers.disk_image(cmdline, self.scratch, sectors, kernel))
        peers.cpu_time(self.command, ended=lambda: self.done(last))
        return self.serial.read_bytes().decode()

    def done(self, last):
        return self.serial.exists() and re.search(last + rb"\r\n$", self.serial.read_bytes())


def ours(binary, kernel, model, cmdline):
    command = [binary, "run", str(kernel), "--cpu", model, "--append", cmdline, "--json"]
    out = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if out.returncode:
        sys.exit(f"vmx.py: {' '.join(command)}: status {out.returncode}\n{out.stderr}")
    return json.loads(out.stdout)["serial"]


def by_guest(transcript):
    """The lines of each guest, by its name: what stands before the last colon that a blank follows."""
    guests = defaultdict(list)
    for line in transcript.splitlines():
        name, colon, rest = line.rpartition(": ") if ": " in line else (line, "", "")
        guests[name].append(rest)
    return guests


class Rule:
    def __init__(self, rule):
        self.name, self.right, self.manual, self.why = map(rule.get, ("name", "right", "manual", "why"))
        self.guests = re.compile(rule["guests"])
        # Without "bits" the rule explains whatever the lines say; with them, only these bits of these words.
        self.bits = {word: int(mask, 0) for word, mask in rule.get("bits", {}).items()}
        self.lines = re.compile(rule.get("lines", ""))
        self.used = []

    def blank(self, line):
        """The line without the bits that the rule explains; flags are shown only where they are not 2."""
        if not self.lines.search(line):
            return line
        for word, mask in self.bits.items():
            usual = 2 if word == "flags" else 0
            found = re.search(rf" {word}=([0-9a-f]+)", line)
            value = int(found[1], 16) if found else usual
            line = re.sub(rf" {word}=[0-9a-f]+", "", line) + f" {word}={value & ~mask:x}"
        return line

    def explains(self, name, a, b):
        if not self.guests.fullmatch(name):
            return False
        return not self.bits or [self.blank(line) for line in a] == [self.blank(line) for line in b]


def shown(name, a, b, indent):
    for who, lines in (("here", a), ("bochs", b)):
        for line in lines or ["(nothing)"]:
            print(f"{indent}{who:<6} {name}: {line}")


def compare(here, there, rules, every):
    """The number of guests whose lines differ and that no rule explains."""
    unknown = 0
    for name in {**here, **there}:
        a, b = here.get(name, []), there.get(name, [])
        if a == b:
            continue
        rule = next((rule for rule in rules if rule.explains(name, a, b)), None)
        if rule:
            rule.used.append((name, a, b))
        else:
            unknown += 1
            shown(name, a, b, "")
    for rule in rules:
        if rule.used:
            print(f"known: {rule.name}: {len(rule.used)} guests; right is {rule.right} ({rule.manual})")
            for used in rule.used if every else []:
                shown(*used, "    ")
        else:
            print(f"known: {rule.name}: not met")
    return unknown


def hypervisor(binary, bochs, model, peer, cmdline):
    """Whether the hypervisor says the same on both, but for the exits that depend on time."""
    with tempfile.TemporaryDirectory() as scratch:
        machine = type("Model", (Bochs,), {"MODEL": peer})(scratch, bochs)
        there = machine.transcript(HYPERVISOR, cmdline, rb"all +\d+").replace("\r", "")
    here = ours(binary, HYPERVISOR, model, cmdline).replace("\r", "")
    here, there = (TIMED.sub(r"\1: some", text) for text in (here, there))
    lines = list(difflib.unified_diff(here.splitlines(), there.splitlines(), model, peer, lineterm="", n=0))
    print(f"hypervisor, {cmdline}: {model} and Bochs's {peer}: {'DIFFERENT' if lines else 'same'}")
    print("".join(f"    {line}\n" for line in lines), end="")
    return not lines


def main():
    plain = argparse.RawDescriptionHelpFormatter
    options = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    binary = str(ROOT / "target/release/subring")
    options.add_argument("--binary", default=binary, help="the program to compare")
    options.add_argument("--bochs", help="a Bochs other than the one that is installed")
    options.add_argument("--all", action="store_true", help="show the lines of known differences")
    options.add_argument("--keep", type=Path, metavar="FOLDER", help="write both transcripts there")
    options = options.parse_args()
    rules = [Rule(rule) for rule in json.loads(KNOWN.read_text())["rules"]]
    with tempfile.TemporaryDirectory() as scratch:
        try:
            there = Bochs(scratch, options.bochs).transcript(KERNEL, CMDLINE, b"done")
        except peers.Skipped as why:
            print(f"SKIPPED: {why}")
            return
    here = ours(options.binary, KERNEL, "yonah", CMDLINE)
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
        for name, text in (("here.txt", here), ("bochs.txt", there)):
            (options.keep / name).write_text(text.replace("\r", ""))
    here, there = by_guest(here), by_guest(there)
    unknown = compare(here, there, rules, options.all)
    lines = sum(map(len, here.values()))
    print(f"{len(here)} guests, {lines} lines: {unknown} unknown differences")
    alike = [hypervisor(options.binary, options.bochs, *which) for which in HYPERVISORS]
    sys.exit(1 if unknown or not all(alike) else 0)


if __name__ == "__main__":
    main()
