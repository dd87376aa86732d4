"""Running a program on the two machines, and what each leaves."""

import json
import struct
import subprocess
import tempfile
from pathlib import Path

from gdb import Gone, Qemu, boot_rom
from layout import *

# Instructions (ours) and seconds (QEMU's) after which a program is taken to hang.
BUDGET = 60_000_000
TIMEOUT = 10
# VME, PSE-36 and PAE are not built on our side; the local APIC would add an interrupt.
CPU = "pentium2,-vme,-pse36,-pae,-apic,-pat"
# Vectors whose frame begins with an error code. No case reaches them by INT n.
ERROR_CODES = {8, 10, 11, 12, 13, 14, 17}
COMPARED = [("log", LOG, 0x10000), ("tables", LIVE, 0x1800), ("page tables", PAGE_DIR, 0x2000), ("data", DATA, DATA_LEN)]


class End:
    """How a program ended: a word, registers, memory from LIVE to the log's end."""

    def __init__(self, how, registers=None, memory=None):
        self.how, self.registers, self.memory = how, registers or {}, memory or {}

    def entries(self, count):
        log = self.memory.get("log", b"")
        words = [struct.unpack_from(f"<{len(LOG_FIELDS)}I", log, n * ENTRY) for n in range(count)] if log else []
        return [frame(dict(zip(LOG_FIELDS, w))) for w in words]


def frame(entry):
    """Names what the processor pushed; that of a 16-bit gate, or of a nested fault, keeps numbers."""
    vector = entry["vector"]
    if entry["nested"] or vector > 0x60 or vector == 8:
        return entry
    words = [entry.pop(f"f{n}") for n in range(16)]
    entry["code"] = words.pop(0) if vector in ERROR_CODES else 0
    names = ["eip", "cs", "eflags"]
    if words[1] & 3 or words[2] & 0x20000:
        names += ["outer_esp", "outer_ss"]
    if words[2] & 0x20000:
        names += ["v86_es", "v86_ds", "v86_fs", "v86_gs"]
    entry.update(zip(names, words))
    entry.update((f"above{n}", word) for n, word in enumerate(words[len(names) :][:6]))
    return entry


class Ours:
    """The project's machine: one process per program."""

    name = "subring"

    def __init__(self, program, folder):
        self.program, self.folder = program, Path(folder)

    def run(self, program, trace=None):
        image = bytearray(END - KERNEL)
        for at, data in program.parts():
            image[at - KERNEL : at - KERNEL + len(data)] = data
        flat = self.folder / "program.bin"
        flat.write_bytes(image)
        command = [self.program, "run", str(flat), "--format", "flat", "--mode", "flat", "--at", hex(KERNEL), "--mem", "16M",
                   "--budget", str(BUDGET), "--dump-state", str(self.folder / "state.json")]
        for name, at, length in COMPARED:
            command += ["--dump-memory", f"{at:#x}:{length:#x}={self.folder / name.replace(' ', '-')}"]
        if trace:
            command += ["--trace", "insn,fault,int", "--trace-file", trace]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=300)
        how = {0: "done", 120: "triple fault", 121: "halted", 124: "hang"}.get(done.returncode)
        if how is None or b"panicked" in done.stderr:
            raise RuntimeError(f"subring ended with status {done.returncode}: {done.stderr.decode()}")
        state = json.loads((self.folder / "state.json").read_text())
        registers = {name: int(value, 0) for name, value in state["registers"].items()}
        for name in ("cs", "ss", "ds", "es", "fs", "gs"):
            registers[name] = int(state["segments"][name]["selector"], 0)
        memory = {name: (self.folder / name.replace(" ", "-")).read_bytes() for name, _, _ in COMPARED}
        return End(how, registers, memory)


class Theirs:
    """QEMU: one process for many programs, each started by setting EIP where the one before stopped."""

    name = "qemu"

    def __init__(self, program, folder):
        self.program, self.folder, self.qemu = program, folder, None
        self.rom = Path(folder) / "boot.rom"
        self.rom.write_bytes(boot_rom())

    def start(self):
        self.qemu = Qemu(self.program, ["-machine", "pc", "-cpu", CPU, "-m", "16", "-bios", str(self.rom)], self.folder)
        self.fresh = True

    def close(self):
        if self.qemu:
            self.qemu.close()
            self.qemu = None

    def run(self, program):
        if not self.qemu:
            self.start()
        gdb = self.qemu.gdb
        if not self.fresh:
            gdb.set_register("eip", KERNEL)
        for at, data in program.parts():
            gdb.write(at, data)
        done = program.kernel.done
        if self.fresh:
            gdb.ask(f"Z1,{done:x},1")
            self.fresh = False
        try:
            if not gdb.run(TIMEOUT):
                end = End("hang", gdb.registers(), None)
                self.close()
                return end
            registers = gdb.registers()
        except Gone:
            # -no-reboot: a triple fault ends QEMU.
            self.close()
            return End("triple fault")
        if registers["eip"] != done:
            self.close()
            return End("stopped", registers)
        memory = {name: gdb.read(at, length) for name, at, length in COMPARED}
        return End("done", registers, memory)
