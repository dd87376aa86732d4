#!/usr/bin/env python3
"""Runs the same programs on this project's machine and on QEMU, and compares how they end. See README.md."""

import argparse
import collections
import copy
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

import guests
import known
from generate import KINDS, Program
from layout import *
from machines import End, Ours, Theirs

HERE = Path(__file__).parent
FINAL = ["cs", "ss", "ds", "es", "esp"]


def main():
    args = arguments()
    if not shutil.which(args.qemu):
        print(f"SKIPPED: no {args.qemu} on this machine (Debian: apt-get install qemu-system-x86)")
        return 0
    ok = True
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        if not args.no_guests and args.only is None:
            ok &= guests.compare(args.subring, args.qemu, folder)
        theirs = Theirs(args.qemu, folder)
        try:
            ok &= Search(args, Ours(args.subring, folder), theirs).run()
        finally:
            theirs.close()
    return 0 if ok else 1


def arguments():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--subring", default=str(HERE / "../../target/release/subring"), help="our program")
    p.add_argument("--qemu", default="qemu-system-i386", help="QEMU's")
    p.add_argument("--seed", type=int, default=1, help="the first program's seed")
    p.add_argument("--programs", type=int, default=200, help="how many programs")
    p.add_argument("--cases", type=int, default=32, help="cases in each")
    p.add_argument("--kinds", default=",".join(KINDS), help="kinds of case")
    p.add_argument("--only", type=int, help="this case of the first seed alone, with everything shown")
    p.add_argument("--show", type=int, default=3, help="how many differences of a sort are shrunk and shown")
    p.add_argument("--no-guests", action="store_true", help="random programs only")
    return p.parse_args()


def differences(ours, theirs):
    """{field: (ours, theirs)} of two log entries."""
    fields = dict.fromkeys([*ours, *theirs])
    return {f: (ours.get(f, 0), theirs.get(f, 0)) for f in fields if ours.get(f, 0) != theirs.get(f, 0)}


def one_case(seed, count, kinds, n):
    """The program of `seed` with nothing but case `n`. The case keeps its place: its code and log stand there."""
    program = Program(seed, count, kinds)
    for k, case in enumerate(program.cases):
        if k != n:
            case.body, case.ring, case.v86, case.eflags, case.code16 = [], 0, False, 2, False
            case.segs, case.ss = dict.fromkeys(("ds", "es", "fs", "gs"), KDATA), KDATA
            case.cr0, case.cr4, case.dr7, case.dr0, case.ldt = 0x80010031, 0x10, 0x400, 0, SEL_LDT_A
    del program.cases[n + 1 :]
    return program


class Search:
    """Random programs, their differences, and the account of them."""

    def __init__(self, args, ours, theirs):
        self.args, self.ours, self.theirs = args, ours, theirs
        self.kinds = args.kinds.split(",")
        self.known = known.load(HERE / "known.json")
        self.seen = collections.Counter()
        self.sorts = collections.Counter()
        self.vectors = collections.Counter()
        self.by_kind = collections.Counter()
        self.cases = 0

    def run(self):
        a = self.args
        if a.only is not None:
            return self.show(a.seed, a.only, shrink=False) is None
        start = time.monotonic()
        for seed in range(a.seed, a.seed + a.programs):
            self.program(seed)
        self.account(time.monotonic() - start)
        return not self.sorts

    def program(self, seed):
        program = Program(seed, self.args.cases, self.kinds)
        ours, theirs = self.ours.run(program), self.theirs.run(program)
        if ours.how != theirs.how:
            self.ended_apart(seed, program, ours, theirs)
            return
        if ours.how != "done":
            self.seen[f"both ended with: {ours.how}"] += 1
            return
        count = len(program.cases)
        for n, (x, y) in enumerate(zip(ours.entries(count), theirs.entries(count))):
            self.cases += 1
            self.vectors[x["vector"] & 0xFF] += 1
            self.by_kind[program.cases[n].kind] += 1
            found = differences(x, y)
            if found:
                self.judge(seed, n, program, x, y, found)
        for name in FINAL:
            if ours.registers[name] != theirs.registers[name]:
                self.report(seed, None, f"final {name}: {ours.registers[name]:#x} and {theirs.registers[name]:#x}")

    def ended_apart(self, seed, program, ours, theirs):
        """Finds the first case with which alone the two end differently."""
        for n in range(len(program.cases)):
            alone = one_case(seed, self.args.cases, self.kinds, n)
            x, y = self.ours.run(alone), self.theirs.run(alone)
            if x.how != y.how and runs_beyond(program.cases[n], x.entries(n + 1)[n]):
                self.seen["no-limit-check-of-a-target"] += 1
                return
            if x.how != y.how:
                self.report(seed, n, f"{program.cases[n].kind}: ends with {x.how} here, with {y.how} on QEMU")
                return
        self.report(seed, None, f"ends with {ours.how} here, with {theirs.how} on QEMU, and no case alone does")

    def judge(self, seed, n, program, ours, theirs, found):
        names, left = self.known.explain(program.cases[n], ours, theirs, found)
        self.seen.update(names)
        if left:
            self.report(seed, n, sort_of(program.cases[n].kind, ours, theirs, left))

    def report(self, seed, n, sort):
        if n is not None and not self.differs_alone(seed, n):
            # QEMU went on where a fault was due and spoilt what later cases start from.
            self.seen["only after the known difference of a case before"] += 1
            return
        self.sorts[sort] += 1
        if self.sorts[sort] <= self.args.show:
            print(f"\n=== DIFFERENCE, seed {seed}, case {n}: {sort}", flush=True)
            if n is not None:
                self.show(seed, n, shrink=True)

    def differs_alone(self, seed, n):
        # A fresh QEMU: memory that no program is to touch may keep something of those before.
        self.theirs.close()
        return bool(self.compare_alone(one_case(seed, self.args.cases, self.kinds, n), n)[2])

    # -- one case --------------------------------------------------------------------------------------------------

    def compare_alone(self, program, n):
        """(our end, their end, differences left, our entry, their entry) of the program's case `n`."""
        x, y = self.ours.run(program), self.theirs.run(program)
        if x.how != "done" or y.how != "done":
            return x, y, {"how": (x.how, y.how)} if x.how != y.how else {}, None, None
        p, q = x.entries(n + 1)[n], y.entries(n + 1)[n]
        _, left = self.known.explain(program.cases[n], p, q, differences(p, q))
        return x, y, left, p, q

    def show(self, seed, n, shrink):
        program = one_case(seed, self.args.cases, self.kinds, n)
        result = self.compare_alone(program, n)
        if not result[2]:
            print("  no difference beyond the known ones")
        if shrink:
            result = self.shrink(program, n, result)
        self.print_case(program, n, *result)
        return result[2] or None

    def shrink(self, program, n, result):
        """Leaves out instructions for as long as a difference remains."""
        case = program.cases[n]
        k = 0
        while k < len(case.body):
            dropped = case.body.pop(k)
            shorter = self.compare_alone(program, n)
            if shorter[2] and set(shorter[2]) == set(result[2]):
                result = shorter
            else:
                case.body.insert(k, dropped)
                k += 1
        return result

    def print_case(self, program, n, x, y, left, p, q):
        case = program.cases[n]
        mode = "V86" if case.v86 else f"ring {case.ring}" + (", 16-bit code" if case.code16 else "")
        print(f"  {case.kind}, {mode}, eflags {case.eflags:#x}, cr0 {case.cr0:#x}, cr4 {case.cr4:#x}, dr0 {case.dr0:#x}, dr7 {case.dr7:#x}, ss:esp {case.ss:#x}:{case.esp:#x}")
        print("  " + " ".join(f"{r} {v:#x}" for r, v in case.regs.items()))
        print("  " + " ".join(f"{s} {v:#x}{self.descriptor(program, case, v)}" for s, v in case.segs.items()))
        print(f"  bytes {case.bytes().hex(' ')}")
        for line in self.trace(program, case, n):
            print("   ", line)
        if p is None:
            print(f"  ours: {x.how}; QEMU: {y.how} {({k: hex(v) for k, v in y.registers.items()})}")
            return
        for name, entry in (("ours", p), ("qemu", q)):
            print(f"  {name}: {describe(entry)}")
        print("  differ: " + ", ".join(f"{f} {a:#x} / {b:#x}" for f, (a, b) in left.items()))
        for name, at, length in SHOWN:
            a, b = x.memory[name][:length], y.memory[name][:length]
            spots = [k for k in range(0, len(a), 4) if a[k : k + 4] != b[k : k + 4]]
            for k in spots[:6]:
                print(f"  {name} at {at + k:#x}: {a[k:k+4][::-1].hex()} / {b[k:k+4][::-1].hex()}")

    def descriptor(self, program, case, sel):
        entry = None if case.v86 else program.entry(sel)
        return f" ({entry[::-1].hex()})" if entry else ""

    def trace(self, program, case, n):
        """Our disassembly of the case as it ran."""
        with tempfile.NamedTemporaryFile(mode="r") as f:
            self.ours.run(program, trace=f.name)
            lines = f.read().splitlines()
        kernel = re.compile(r"insn +0008:0010[0-5]")
        start = max((k for k, line in enumerate(lines) if kernel.search(line) and "iret" in line), default=0)
        rest = lines[start + 1 : start + 60]
        stop = next((k for k, line in enumerate(rest) if kernel.search(line)), len(rest))
        return rest[:stop]

    # -- the account -----------------------------------------------------------------------------------------------

    def account(self, seconds):
        print(f"\n{self.args.programs} programs from seed {self.args.seed}, {self.cases} cases in {seconds:.0f} s")
        print("cases by kind:   " + ", ".join(f"{k} {n}" for k, n in sorted(self.by_kind.items())))
        print("ended by vector: " + ", ".join(f"{v:#x} {n}" for v, n in sorted(self.vectors.items())))
        print("\nknown differences:")
        for name, n in self.seen.most_common():
            rule = self.known.by_name.get(name)
            print(f"  {n:7}  {name}" + (f": {rule['right']} is right ({rule['manual']})" if rule else ""))
        print("\nunexplained differences:" if self.sorts else "\nno unexplained difference")
        for sort, n in self.sorts.most_common():
            print(f"  {n:7}  {sort}")


SHOWN = [("tables", LIVE, 0x1800), ("page tables", PAGE_DIR, 0x2000), ("data", DATA, 0x4000)]


def runs_beyond(case, entry):
    """Whether the case ended here with #GP(0) at a code segment's limit, which QEMU lacks."""
    return entry["vector"] == 13 and entry.get("code") == 0 and known.opcode(case, entry) in ("", "cd", "9a", "ea", "ff")


def sort_of(kind, ours, theirs, left):
    a, b = ours["vector"], theirs["vector"]
    if a != b:
        return f"{kind}: vector {a:#x} here, {b:#x} on QEMU"
    parts = [f"eflags^{x ^ y:#x}" if f == "eflags" else f for f, (x, y) in sorted(left.items())]
    return f"{kind}: vector {a:#x}, fields " + " ".join(parts)


def describe(e):
    """A log entry in words."""
    names = list(e)
    names.sort(key=lambda n: n not in ("vector", "code", "eip", "cs", "eflags", "outer_esp", "outer_ss"))
    return " ".join(f"{n} {e[n]:#x}" for n in names if n != "case" and (e[n] or n in ("eip", "code")))


if __name__ == "__main__":
    sys.exit(main())
