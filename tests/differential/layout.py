"""Where everything stands in memory, as kernel.asm has it, and how descriptors and page tables are encoded
(SDM vol. 3, 3.4.5, 3.5, 4.3, 7.2)."""

import struct
from pathlib import Path

KERNEL = 0x100000
DF_TSS = 0x104000
DF_STACK = 0x105000
LIVE = 0x110000
PRISTINE = 0x118000
TABLES_LEN = 0x4000
GDT, LDT_A, LDT_B = 0x110000, 0x110200, 0x110300
TSS = 0x110400  # eight of 0x80 bytes
MAIN_TSS = 0x110800
IDT = 0x111000
PAGE_DIR = 0x112000
WINDOW_TABLE = 0x113000
TABLE_0 = 0x114000
DATA, DATA_PRISTINE, DATA_LEN = 0x120000, 0x128000, 0x8000
LOG, ENTRY = 0x130000, 192
CASES, RECORD = 0x140000, 128
BODIES, BODY = 0x142000, 256
MAX_CASES = 64
LANDING = 0x146000  # INT3 all over: where gates lead to
RETURNS = 0x147000  # RETF, RETF n, IRET
END = 0x148000

# Virtual-8086 code sees the bodies at 1000:0000, data and stacks above.
V86_BODIES, V86_DATA, V86_LANDING = 0x10000, 0x14000, 0x1C000
WINDOW = 0x400000

KCODE, KDATA = 0x08, 0x10
KCODE_HIGH = 0x18  # base of the kernel: 16-bit gates reach it
SEL_MAIN_TSS, SEL_DF_TSS = 0x20, 0x28
CODE = [0x08, 0x41, 0x52, 0x33]  # flat, by ring
DATA_SEL = [0x10, 0x49, 0x5A, 0x3B]
SEL_LDT_A, SEL_LDT_B = 0x60, 0x68
CODE16 = [0x70, 0x79, 0x82, 0x8B]  # 16-bit, base CASES, by ring
STACK16 = {0: 0x90, 3: 0x9B}  # 16-bit stacks, base DATA
FIRST_RANDOM = 20

LOG_FIELDS = (
    ["case", "gs", "fs", "es", "ds", "edi", "esi", "ebp", "esp0", "ebx", "edx", "ecx", "eax", "vector"]
    + [f"f{n}" for n in range(16)]
    + ["ss", "esp", "cr2", "tr", "cr0", "dr6", "tables", "data", "nested", "cr3", "accessed", "pages"]
)


class Kernel:
    """kernel.bin and the addresses in its header."""

    def __init__(self):
        self.image = (Path(__file__).parent / "kernel.bin").read_bytes()
        self.stubs, self.done, self.df_entry, self.ncases = struct.unpack_from("<4I", self.image, 8)

    def stub(self, vector):
        return self.stubs + 10 * vector


def segment(base, limit, kind, dpl, big=True, granular=False, present=True):
    """A code or data descriptor; `kind` is its four type bits."""
    access = kind | 0x10 | dpl << 5 | present << 7
    flags = (granular << 3) | (big << 2)
    return raw(base, limit, access, flags)


def system(base, limit, kind, dpl=0, present=True):
    """An LDT or TSS descriptor."""
    return raw(base, limit, kind | dpl << 5 | present << 7, 0)


def raw(base, limit, access, flags):
    return struct.pack(
        "<HHBBBB", limit & 0xFFFF, base & 0xFFFF, base >> 16 & 0xFF, access, flags << 4 | limit >> 16 & 0xF, base >> 24
    )


def gate(selector, offset, kind, dpl, present=True, count=0):
    """A call, interrupt, trap or task gate."""
    return struct.pack(
        "<HHBBH", offset & 0xFFFF, selector, count, kind | dpl << 5 | present << 7, offset >> 16 & 0xFFFF
    )


def tss32(link=0, esp0=0, ss0=0, esp1=0, ss1=0, esp2=0, ss2=0, cr3=PAGE_DIR, eip=0, eflags=2, regs=(0,) * 8,
          segs=(0,) * 6, ldt=0, trap=0, iomap=0x68):
    """`regs`: EAX ECX EDX EBX ESP EBP ESI EDI; `segs`: ES CS SS DS FS GS."""
    return struct.pack(
        "<26I", link, esp0, ss0, esp1, ss1, esp2, ss2, cr3, eip, eflags, *regs, *segs, ldt, iomap << 16 | trap
    )


def tss16(link=0, ip=0, flags=2, regs=(0,) * 8, segs=(0,) * 4, ldt=0):
    """A 16-bit TSS; `segs`: ES CS SS DS. Its inner stacks are zero."""
    low = [r & 0xFFFF for r in regs]
    return struct.pack("<22H", link, 0, 0, 0, 0, 0, 0, ip & 0xFFFF, flags & 0xFFFF, *low, *segs, ldt)
