"""QEMU behind its gdb port: the few packets of the remote serial protocol that the comparison needs."""

import os
import socket
import subprocess
import tempfile
import time

REGISTERS = ["eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi", "eip", "eflags",
             "cs", "ss", "ds", "es", "fs", "gs"]
# QEMU's packets hold 4 KiB of text.
PIECE = 0x700


class Gone(Exception):
    """QEMU ended, or does not answer."""


class Gdb:
    """A connection to a gdb stub."""

    def __init__(self, path, timeout=20):
        self.sock = socket.socket(socket.AF_UNIX) if isinstance(path, str) else socket.socket()
        deadline = time.monotonic() + timeout
        while True:
            try:
                self.sock.connect(path)
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise Gone("no gdb port")
                time.sleep(0.01)
        self.buffer = b""

    def send(self, text):
        data = text.encode()
        self.sock.sendall(b"$" + data + b"#%02x" % (sum(data) & 0xFF))

    def receive(self, timeout=10):
        """The next packet's text; None when none comes in time."""
        deadline = time.monotonic() + timeout
        while True:
            start = self.buffer.find(b"$")
            end = self.buffer.find(b"#", start)
            if start >= 0 and end >= 0 and len(self.buffer) >= end + 3:
                text = self.buffer[start + 1 : end]
                self.buffer = self.buffer[end + 3 :]
                try:
                    self.sock.sendall(b"+")
                except OSError:
                    raise Gone("the connection broke")
                return text.decode()
            self.sock.settimeout(max(deadline - time.monotonic(), 0.001))
            try:
                more = self.sock.recv(65536)
            except socket.timeout:
                return None
            except OSError:
                raise Gone("the connection broke")
            if not more:
                raise Gone("QEMU ended")
            self.buffer += more

    def ask(self, text):
        self.send(text)
        reply = self.receive()
        if reply is None:
            raise Gone(f"no answer to {text[:20]}")
        return reply

    def write(self, at, data):
        for n in range(0, len(data), PIECE):
            piece = data[n : n + PIECE]
            if self.ask(f"M{at + n:x},{len(piece):x}:{piece.hex()}") != "OK":
                raise Gone("a memory write was refused")

    def read(self, at, length):
        out = b""
        while len(out) < length:
            n = min(PIECE, length - len(out))
            out += bytes.fromhex(self.ask(f"m{at + len(out):x},{n:x}"))
        return out

    def registers(self):
        data = bytes.fromhex(self.ask("g"))
        return {name: int.from_bytes(data[4 * n : 4 * n + 4], "little") for n, name in enumerate(REGISTERS)}

    def set_register(self, name, value):
        # All at once: QEMU takes P only from a debugger that has asked for its register descriptions.
        data = bytearray.fromhex(self.ask("g"))
        at = 4 * REGISTERS.index(name)
        data[at : at + 4] = value.to_bytes(4, "little")
        if self.ask("G" + data.hex()) != "OK":
            raise Gone("a register write was refused")

    def run(self, timeout):
        """Continues until something stops the machine. False when nothing does in time (it is stopped then)."""
        self.send("c")
        reply = self.receive(timeout)
        if reply is None:
            self.sock.sendall(b"\x03")
            if self.receive(5) is None:
                raise Gone("QEMU does not stop")
            return False
        if reply.startswith("W"):
            raise Gone("QEMU ended")
        return True


# A ROM that does nothing but enter flat 32-bit protected mode at 1 MiB.
def boot_rom():
    rom = bytearray(b"\xf4" * 0x10000)
    gdt = 0xE100
    rom[gdt : gdt + 24] = bytes(8) + bytes.fromhex("ffff0000009bcf00") + bytes.fromhex("ffff00000093cf00")
    rom[0xE200:0xE206] = (23).to_bytes(2, "little") + (0xF0000 + gdt).to_bytes(4, "little")
    code = bytes.fromhex("fa 66 2e 0f 01 16 00 e2 0f 20 c0 0c 01 0f 22 c0 66 ea 00 00 10 00 08 00".replace(" ", ""))
    rom[0xE000 : 0xE000 + len(code)] = code
    rom[0xFFF0:0xFFF5] = bytes.fromhex("ea00e000f0")
    return bytes(rom)


class Qemu:
    """One QEMU process, stopped at power-on, with a gdb connection."""

    def __init__(self, program, arguments, folder):
        self.folder = folder
        port = tempfile.mktemp(dir=folder, suffix=".gdb")
        self.process = subprocess.Popen(
            [program, "-accel", "tcg", "-display", "none", "-monitor", "none", "-nodefaults", "-no-reboot", "-S",
             "-gdb", f"unix:{port},server=on,wait=off", *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            self.gdb = Gdb(port)
            self.gdb.ask("?")
        except Gone:
            self.close()
            raise Gone("QEMU did not start: " + self.process.stderr.read().decode(errors="replace"))

    def close(self):
        self.process.kill()
        self.process.wait()
        try:
            self.gdb.sock.close()
        except AttributeError:
            pass
