"""Random programs: tables, tasks and cases from a seed.

A program is a set of tables and up to 64 cases. A case is a state to enter (ring, segments, registers, control
registers) and a list of instructions, of which any can be left out: that is how a difference is shrunk. Flags that
the manual leaves undefined are never left standing: the instruction after sets them all.
"""

import random
import struct
from dataclasses import dataclass, field
from layout import *

END_VECTOR = 0x60
DISPLACEMENTS = [0, 1, 3, 4, 7, 0x10, 0x7C, 0xFC]
VALUES = [0, 1, 2, 3, 4, 7, 8, 0x1F, 0x20, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000,
          0xFFFFFFFE, 0xFFFFFFFF]


def d(value):
    return struct.pack("<I", value & 0xFFFFFFFF)


def w(value):
    return struct.pack("<H", value & 0xFFFF)


@dataclass
class Case:
    kind: str
    ring: int = 0
    v86: bool = False
    code16: bool = False
    eflags: int = 2
    body: list = field(default_factory=list)
    regs: dict = field(default_factory=dict)
    segs: dict = field(default_factory=dict)  # ds es fs gs, loaded before entry
    esp: int = 0
    ss: int = 0
    cr0: int = 0x80010031
    cr4: int = 0x10
    ldt: int = SEL_LDT_A
    dr7: int = 0x400
    dr0: int = 0

    def bytes(self):
        return b"".join(self.body) + bytes([0xCD, END_VECTOR])


class Program:
    """Tables and cases; `image` lays them out."""

    def __init__(self, seed, count, kinds=None):
        self.rng = random.Random(seed)
        self.seed = seed
        self.gdt = [bytes(8)] * 64
        self.ldts = [[bytes(8)] * 32, [bytes(8)] * 32]
        self.kernel = Kernel()
        self.tables()
        names = list(kinds or KINDS)
        self.cases = []
        for n in range(count):
            # Each case has its own stream, so that shrinking and other cases do not move it.
            rng = random.Random(f"{seed}.{n}")
            name = rng.choice(names)
            case = Case(name)
            Builder(self, case, rng).build()
            self.cases.append(case)

    # -- tables ----------------------------------------------------------------------------------------------------

    def tables(self):
        rng = self.rng
        g = self.gdt
        g[1] = segment(0, 0xFFFFF, 0xB, 0, granular=True)
        g[2] = segment(0, 0xFFFFF, 0x3, 0, granular=True)
        g[3] = segment(KERNEL, 0xFFFF, 0xB, 0)
        g[4] = system(MAIN_TSS, 0x68 + 0x82 - 1, 9)
        g[5] = system(DF_TSS, 0x67, 9)
        g[6] = segment(0, 0xFFFFF, 0xB, 3, granular=True)
        g[7] = segment(0, 0xFFFFF, 0x3, 3, granular=True)
        g[8] = segment(0, 0xFFFFF, 0xB, 1, granular=True)
        g[9] = segment(0, 0xFFFFF, 0x3, 1, granular=True)
        g[10] = segment(0, 0xFFFFF, 0xB, 2, granular=True)
        g[11] = segment(0, 0xFFFFF, 0x3, 2, granular=True)
        g[12] = system(LDT_A, 0xFF, 2)
        g[13] = system(LDT_B, 0xFF, 2)
        for ring in range(4):
            g[14 + ring] = segment(CASES, 0xFFFF, 0xB, ring, big=False)
        g[18] = segment(DATA, 0x7FFF, 0x2, 0, big=False)
        g[19] = segment(DATA, 0x7FFF, 0x2, 3, big=False)
        for n in range(FIRST_RANDOM, 64):
            g[n] = self.descriptor(rng)
        for table in self.ldts:
            for n in range(32):
                table[n] = self.descriptor(rng)
        self.tss = [self.task(rng) for _ in range(8)]
        self.idt = self.vectors(rng)
        self.window = [self.pte(rng) for _ in range(64)]
        self.pdes = self.directory(rng)

    def descriptor(self, rng):
        dpl, present = rng.choice([0, 0, 1, 2, 3, 3, 3]), rng.random() < 0.9
        pick = rng.random()
        if pick < 0.42:
            base = rng.choice([0, 0, DATA, DATA + 0x1000, DATA + 0xF80, WINDOW, WINDOW + 0xFF8, 0x2000000])
            limit, g = rng.choice([(0xFFFFF, True), (0xFFFFF, True), (0xFFF, False), (0x1FFF, False), (0xFFFF, False),
                                   (0x10, False), (0, False), (1, True), (0x121, True)])
            kind = rng.choice([0, 1, 2, 3, 2, 3, 2, 3, 4, 5, 6, 7, 6, 7])
            return segment(base, limit, kind, dpl, rng.random() < 0.7, g, present)
        if pick < 0.62:
            base = rng.choice([0, 0, CASES, LANDING])
            limit, g = rng.choice([(0xFFFFF, True), (0xFFFFF, True), (0xFFFF, False), (0x7FFF, False), (0x6FFF, False),
                                   (0xF, False)])
            kind = 8 | rng.choice([0, 1, 2, 3, 2, 3, 2, 3, 4, 6, 7])
            return segment(base, limit, kind, dpl, rng.random() < 0.75, g, present)
        if pick < 0.78:
            kind = rng.choice([12, 12, 12, 4])
            count = rng.choice([0, 0, 0, 1, 2, 3, 31])
            offset = self.landing(rng) & (0xFFFF if kind == 4 else 0xFFFFFFFF)
            return gate(self.code_selector(rng), offset, kind, dpl, present, count)
        if pick < 0.90:
            n = rng.randrange(8)
            wide = n % 3 != 2
            kind = (9 if wide else 1) | rng.choice([0, 0, 0, 2])
            limit = rng.choice([0x67, 0x67, 0x67, 0x7F, 0x66] if wide else [0x2B, 0x2B, 0x67, 0x2A])
            return system(TSS + 0x80 * n, limit, kind, dpl, present)
        if pick < 0.95:
            return gate(self.task_selector(rng), 0, 5, dpl, present)
        if pick < 0.97:
            return system(LDT_B, rng.choice([0xFF, 0x7F, 7]), 2, dpl, present)
        return raw(rng.getrandbits(32), rng.getrandbits(20), rng.getrandbits(8), rng.getrandbits(4) & 0xD)

    def landing(self, rng):
        return rng.choice([LANDING, LANDING, LANDING - CASES, RETURNS, RETURNS - CASES, LANDING - CASES]) + rng.randrange(64)

    def any_selector(self, rng):
        pick = rng.random()
        if pick < 0.03:
            return rng.randrange(4)
        if pick < 0.06:
            return rng.getrandbits(16)
        if pick < 0.75:
            return rng.randrange(1, 64) * 8 | rng.randrange(4)
        return rng.randrange(32) * 8 | 4 | rng.randrange(4)

    def find(self, rng, wanted, tries=60):
        """A selector of a descriptor for which wanted(access byte, type) holds, else any."""
        for _ in range(tries):
            sel = self.any_selector(rng)
            entry = self.entry(sel)
            if entry and wanted(entry[5], entry[5] & 15):
                return sel
        return self.any_selector(rng)

    def entry(self, sel):
        table = self.ldts[0] if sel & 4 else self.gdt
        n = sel >> 3
        return table[n] if 0 < n + (sel & 4) and n < len(table) else None

    def code_selector(self, rng):
        pick = rng.random()
        if pick < 0.6:
            return rng.choice(CODE) & ~3 | rng.randrange(4)
        if pick < 0.7:
            return rng.choice(CODE16)
        return self.find(rng, lambda a, t: a & 0x18 == 0x18)

    def data_selector(self, rng):
        if rng.random() < 0.3:
            return rng.choice(DATA_SEL)
        return self.find(rng, lambda a, t: a & 0x10 and (not a & 8 or a & 2))

    def task_selector(self, rng):
        return self.find(rng, lambda a, t: not a & 0x10 and t in (1, 9)) & ~3

    def task(self, rng):
        n = len(getattr(self, "_tasks", []))
        self._tasks = getattr(self, "_tasks", []) + [0]
        ring = rng.randrange(4)
        cs = CODE[ring] if rng.random() < 0.8 else self.code_selector(rng)
        ss = DATA_SEL[ring] if rng.random() < 0.85 else self.data_selector(rng)
        data = [DATA_SEL[3] if rng.random() < 0.5 else self.data_selector(rng) for _ in range(4)]
        if rng.random() < 0.1:
            data[rng.randrange(4)] = self.any_selector(rng)
        regs = [rng.choice(VALUES + [DATA + 0x100]) for _ in range(8)]
        regs[4] = DATA + 0x7000 + 0x100 * n + 0xF0
        ldt = rng.choice([SEL_LDT_A, SEL_LDT_A, SEL_LDT_A, SEL_LDT_B, 0, self.any_selector(rng)])
        eflags = 2 | rng.choice([0, 0, 0x200, 0x3000, 0x8D5, 0x4000])
        eip = self.landing(rng) if rng.random() < 0.3 else LANDING + 16 * n
        link = self.find(rng, lambda a, t: not a & 0x10 and t in (3, 11))
        if n % 3 == 2:
            return tss16(link, eip & 0xFFFF, eflags, regs, (data[0], CODE16[ring], STACK16.get(ring, 0x9B), data[1]), ldt)
        trap = int(rng.random() < 0.1)
        if rng.random() < 0.12:
            return tss32(link=link, eip=rng.randrange(64), eflags=eflags | 0x20000, regs=regs,
                         segs=(0x1400, V86_LANDING >> 4, 0x1500, 0x1400, 0x1400, 0x1500), ldt=ldt, trap=trap)
        return tss32(link, KSTACK_TOP, KDATA, DATA + 0x5F00, 0x49, DATA + 0x6F00, 0x5A, eip=eip, eflags=eflags, regs=regs,
                     segs=(data[0], cs, ss, data[1], data[2], data[3]), ldt=ldt, trap=trap)

    def vectors(self, rng):
        idt = []
        for v in range(256):
            kind = rng.choice([14, 14, 15]) if v < 32 else 14
            dpl = 3 if v in (3, 4, END_VECTOR) or v >= 0x80 else rng.choice([0, 0, 0, 3]) if v < 32 else 0
            idt.append(gate(KCODE, self.kernel.stub(v), kind, dpl))
        idt[8] = gate(SEL_DF_TSS, 0, 5, 0)
        for v in range(0x61, 0x80):
            dpl, present = rng.choice([0, 1, 2, 3, 3, 3]), rng.random() < 0.9
            kind = rng.choice([14, 15, 6, 7, 5, 14, 15, 6, 7, rng.randrange(16)])
            if kind == 5:
                idt[v] = gate(self.task_selector(rng), 0, 5, dpl, present)
            elif kind in (6, 7):
                idt[v] = gate(KCODE_HIGH, self.kernel.stub(v) - KERNEL, kind, dpl, present)
            elif rng.random() < 0.5:
                idt[v] = gate(self.code_selector(rng), self.landing(rng), kind, dpl, present)
            else:
                idt[v] = gate(KCODE, self.kernel.stub(v), kind, dpl, present)
        return idt

    def pte(self, rng):
        frame = DATA + 0x1000 * rng.choice([0, 1, 2, 3, 0, 1, 2, 3, 5, 6])
        bits = rng.choice([1, 1, 1, 1, 1, 0]) | rng.choice([2, 2, 0]) | rng.choice([4, 4, 0])
        bits |= rng.choice([0, 0x20, 0x60, 0x40]) | rng.choice([0, 0, 0x100]) | rng.choice([0, 0x18, 0xE00])
        return frame | bits

    def directory(self, rng):
        pdes = [TABLE_0 | 0x67] + [0] * 1023
        for n in (1, 2):
            bits = rng.choice([7, 7, 7, 3, 5, 1, 6])
            pdes[n] = WINDOW_TABLE | bits | rng.choice([0, 0x20])
        for n in (3, 4, 6, 7):
            bits = rng.choice([7, 7, 3, 5, 1, 6]) | rng.choice([0, 0x20, 0x60]) | rng.choice([0, 0x100])
            pdes[n] = 0x80 | bits
        return pdes

    # -- memory ----------------------------------------------------------------------------------------------------

    def parts(self):
        """(address, bytes) of all that is not zero, apart from each other."""
        kernel = bytearray(self.kernel.image)
        at = self.kernel.ncases - KERNEL
        kernel[at : at + 4] = d(len(self.cases))
        df = tss32(eip=self.kernel.df_entry, segs=(KDATA, KCODE, KDATA, KDATA, 0, 0), regs=(0,) * 4 + (DF_STACK,) + (0,) * 3)
        kernel[DF_TSS - KERNEL : DF_TSS - KERNEL + len(df)] = df
        return [(KERNEL, bytes(kernel)), (PRISTINE, self.tables_image()), (TABLE_0, self.table_0()),
                (DATA_PRISTINE, self.data_image()), (CASES, self.cases_image())]

    def tables_image(self):
        out = bytearray(TABLES_LEN)
        place(out, GDT - LIVE, b"".join(self.gdt))
        place(out, LDT_A - LIVE, b"".join(self.ldts[0]))
        place(out, LDT_B - LIVE, b"".join(self.ldts[1]))
        for n, tss in enumerate(self.tss):
            place(out, TSS + 0x80 * n - LIVE, tss)
        link = self.find(random.Random(self.seed), lambda a, t: not a & 0x10 and t in (3, 11))
        main = tss32(link, KSTACK_TOP, KDATA, DATA + 0x5F00, 0x49, DATA + 0x6F00, 0x5A)
        bitmap = bytearray(b"\xff" * 0x82)
        bitmap[0x80 // 8] = 0xF0  # ports 80-83 are open
        place(out, MAIN_TSS - LIVE, main + bitmap)
        place(out, IDT - LIVE, b"".join(self.idt))
        place(out, PAGE_DIR - LIVE, b"".join(d(e) for e in self.pdes))
        place(out, WINDOW_TABLE - LIVE, b"".join(d(e) for e in self.window))
        return bytes(out)

    def table_0(self):
        user, kernel = 0x67, 0x63
        table = [n << 12 | kernel for n in range(1024)]
        for at in list(range(DATA, DATA + DATA_LEN, 0x1000)) + list(range(CASES, END, 0x1000)):
            table[at >> 12] = at | user
        for n in range(0x100):
            table[n] = 0
        for n in range(4):
            table[(V86_BODIES >> 12) + n] = BODIES + (n << 12) | user
        for n in range(8):
            table[(V86_DATA >> 12) + n] = DATA + (n << 12) | user
        table[V86_LANDING >> 12] = LANDING | user
        table[(V86_LANDING >> 12) + 1] = RETURNS | user
        return b"".join(d(e) for e in table)

    def data_image(self):
        rng = random.Random(f"{self.seed}.data")
        out = bytearray(rng.randbytes(0x4000) + bytes(DATA_LEN - 0x4000))
        # Selectors and far pointers to load.
        for n in range(0, 0x4000, 0x40):
            place(out, n, d(self.landing(rng)) + w(self.any_selector(rng)) + w(self.any_selector(rng)))
        return bytes(out)

    def cases_image(self):
        out = bytearray(END - CASES)
        for n, case in enumerate(self.cases):
            place(out, n * RECORD, self.record(n, case))
            place(out, BODIES - CASES + n * BODY, case.bytes()[:BODY])
        out[LANDING - CASES : LANDING - CASES + 0x1000] = b"\xcc" * 0x1000
        rng = random.Random(f"{self.seed}.returns")
        returns = b"".join(rng.choice([b"\xcb", b"\xcf", b"\xcc", b"\x66\xcb", b"\x90"]) for _ in range(300))
        place(out, RETURNS - CASES, (returns + b"\xcc" * 0x1000)[:0x1000])
        return bytes(out)

    def record(self, n, case):
        body = BODIES + n * BODY
        if case.v86:
            eip, cs = n * BODY, V86_BODIES >> 4
        elif case.code16:
            eip, cs = body - CASES, CODE16[case.ring]
        else:
            eip, cs = body, CODE[case.ring]
        s = case.segs
        frame = [eip, cs, case.eflags, case.esp, case.ss, *((s["es"], s["ds"], s["fs"], s["gs"]) if case.v86 else (0,) * 4)]
        r = case.regs
        regs = [r["edi"], r["esi"], r["ebp"], 0, r["ebx"], r["edx"], r["ecx"], r["eax"]]
        segs = [0] * 4 if case.v86 else [s["ds"], s["es"], s["fs"], s["gs"]]
        return b"".join(d(v) for v in [*frame, *regs, *segs, case.cr0, case.cr4, case.ldt, case.dr7, case.dr0])


KSTACK_TOP = 0x103F80


def place(out, at, data):
    out[at : at + len(data)] = data


class Builder:
    """Fills one case."""

    def __init__(self, program, case, rng):
        self.p, self.c, self.rng = program, case, rng
        # Most cases start with data segments through which everything can be reached: what is tested then is not
        # hidden behind segment faults, which QEMU does not know.
        self.safe = rng.random() < 0.8

    def build(self):
        rng, c = self.rng, self.c
        c.ring = rng.choice([0, 0, 0, 1, 2, 3, 3, 3])
        c.eflags = 2 | rng.choice([0, 0x8D5, 0x41, 0x95, 0x800]) | rng.choice([0, 0, 0x200]) | rng.choice([0, 0, 0, 0x400])
        c.eflags |= rng.randrange(4) << 12
        if rng.random() < 0.05:
            c.cr0 &= ~0x10000
        if rng.random() < 0.2:
            c.cr4 = rng.choice([0x90, 0x90, 0x10, 0x98])
        KINDS[c.kind](self)
        if c.v86:
            c.ring = 3
            c.eflags |= 0x20000
            c.segs = {s: rng.choice([0x1400, 0x1400, 0x1500, 0x1600, 0xFFFF, 0x1000]) for s in ("ds", "es", "fs", "gs")}
            c.ss, c.esp = rng.choice([0x1500, 0x1900]), rng.choice([0xF00, 0xF00, 0xF00, 1, 2, 0])
        else:
            c.segs = {s: self.loadable() for s in ("ds", "es", "fs", "gs")}
            c.ss, c.esp = DATA_SEL[c.ring], DATA + 0x4F00 + 0x1000 * c.ring
            if c.code16 and c.ring in STACK16 and rng.random() < 0.5 or rng.random() < 0.05 and c.ring == 3:
                c.ss, c.esp = STACK16[c.ring], 0x4F00 + 0x1000 * c.ring
        c.regs = {r: self.pointer() if rng.random() < 0.7 else rng.choice(VALUES) for r in
                  ("eax", "ebx", "ecx", "edx", "esi", "edi", "ebp")}
        if c.kind in ("string", "v86", "code16"):
            c.regs["ecx"] = rng.choice([0, 1, 2, 5, 0x20, 0x41])
        if c.v86:
            for r in c.regs:
                c.regs[r] = rng.choice([c.regs[r] & 0xFFF, c.regs[r] & 0xFFFF, c.regs[r]])
            c.regs["ecx"] &= 0xFF
        total = 0
        for n, i in enumerate(c.body):
            total += len(i)
            if total > BODY - 4:
                del c.body[n:]
                break

    def loadable(self):
        """A data selector that ring 0 can load."""
        rng = self.rng
        if rng.random() < 0.55:
            return DATA_SEL[self.c.ring] if self.safe or rng.random() < 0.8 else rng.choice(DATA_SEL)
        for _ in range(50):
            sel = self.p.any_selector(rng)
            if sel & 4 and self.c.ldt != SEL_LDT_A:
                continue
            e = self.p.entry(sel)
            if not e or sel < 8 or not e[5] & 0x80 or not e[5] & 0x10:
                continue
            a, dpl = e[5], e[5] >> 5 & 3
            if a & 8 and not a & 2:
                continue
            if a & 0xC != 0xC and sel & 3 > dpl:
                continue
            if self.safe and (a & 0xE != 2 or dpl < self.c.ring or e[6] & 0x8F != 0x8F or e[:2] != b"\xff\xff"):
                continue
            return sel
        return DATA_SEL[3] if self.safe else rng.choice([0, DATA_SEL[3]])

    def pointer(self):
        rng = self.rng
        low = rng.choice([rng.randrange(0x1000), 0xFF8 + rng.randrange(8), 0xFFC, 0xFFE, rng.randrange(0x1000) & ~3])
        page = rng.randrange(4)
        pick = rng.random()
        if pick < 0.40:
            return DATA + page * 0x1000 + low
        if pick < 0.70:
            return WINDOW + rng.randrange(64) * 0x1000 + low + rng.choice([0, 0, 0x400000])
        if pick < 0.82:
            return rng.choice([3, 4, 6, 7]) * 0x400000 + DATA + page * 0x1000 + low
        if pick < 0.90:
            return rng.choice([0x10, 0, 0xFFD, 0xFFFC, 0xFFFF, 0x1FFE, 0x7FFC, 0x1000, 0x2000])
        if pick < 0.95 and not self.c.v86:
            return rng.choice([0x2000000, 0xFFFFFFFC, 0xFFFFFFFE, 0x1400000 - 2, LIVE, 0x121FFF])
        return DATA + page * 0x1000

    # -- encodings -------------------------------------------------------------------------------------------------

    def wide(self):
        """The default operand size here."""
        return not (self.c.v86 or self.c.code16)

    def mem(self, reg, seg_ok=True):
        """Prefixes and ModRM of a memory operand."""
        rng = self.rng
        prefix = b""
        if seg_ok and rng.random() < 0.4:
            prefix = rng.choice([b"\x26", b"\x2e", b"\x36", b"\x3e", b"\x64", b"\x65", b"\x64", b"\x65"])
        if self.wide() or rng.random() < 0.3:
            if not self.wide():
                prefix += b"\x67"
            base = rng.choice([0, 1, 2, 3, 5, 6, 7])
            if rng.random() < 0.2:
                return prefix, bytes([reg << 3 | 5]) + d(self.pointer())
            return prefix, bytes([0x40 | reg << 3 | base, rng.choice(DISPLACEMENTS)])
        if rng.random() < 0.2:
            return prefix, bytes([reg << 3 | 6]) + w(rng.choice([rng.randrange(0x1000), 0xFFFE, 0xFFFF, 0x7FFF]))
        return prefix, bytes([0x40 | reg << 3 | rng.choice([4, 5, 6, 7]), rng.choice(DISPLACEMENTS)])

    def rm(self, reg, memory=0.7):
        if self.rng.random() < memory:
            return self.mem(reg)
        return b"", bytes([0xC0 | reg << 3 | self.rng.choice([0, 1, 2, 3, 5, 6, 7])])

    def op(self, *opcode, reg=None, memory=0.7, size=True, tail=b""):
        """One ModRM instruction, sometimes with the other operand size."""
        rng = self.rng
        if reg is None:
            reg = rng.choice([0, 1, 2, 3, 5, 6, 7])
        prefix, modrm = self.rm(reg, memory)
        if size and rng.random() < 0.25:
            prefix += b"\x66"
        return prefix + bytes(opcode) + modrm + tail

    def size(self):
        """Operand-size prefix for a 32-bit operand here."""
        return b"" if self.wide() else b"\x66"

    def push(self, value):
        return self.size() + b"\x68" + d(value)

    def mov(self, reg, value):
        return self.size() + bytes([0xB8 | reg]) + d(value)

    def put(self, *instructions):
        self.c.body += instructions

    # -- instructions ----------------------------------------------------------------------------------------------

    def integer(self):
        rng = self.rng
        fix = b"\x05" + (d if self.wide() else w)(rng.choice(VALUES))  # ADD eAX, imm: all flags defined again
        pick = rng.randrange(26)
        alu = rng.choice([0, 2, 3, 5, 7]) << 3
        if pick < 6:
            self.put(self.op(alu | rng.randrange(4)))
        elif pick == 6:
            self.put(self.op(rng.choice([0x21, 0x09, 0x31, 0x84, 0x85, 0x23, 0x0B, 0x33])) + fix)
        elif pick == 7:
            self.put(self.op(rng.choice([0x88, 0x89, 0x8A, 0x8B])))
        elif pick == 8:
            self.put(self.op(rng.choice([0xFE, 0xFF]), reg=rng.randrange(2)))
        elif pick == 9:
            self.put(self.op(0x0F, rng.choice([0xB6, 0xB7, 0xBE, 0xBF])))
        elif pick == 10:
            self.put(self.op(rng.choice([0x86, 0x87])))
        elif pick == 11:
            self.put(self.op(0x0F, rng.choice([0xC0, 0xC1, 0xB0, 0xB1])))
        elif pick == 12:
            self.put(self.op(0x0F, 0xC7, reg=1, memory=1, size=False))
        elif pick == 13:
            self.put(self.op(0x0F, rng.choice([0xA3, 0xAB, 0xB3, 0xBB])) + fix)
        elif pick == 14:
            self.put(self.op(0x0F, 0xBA, reg=rng.randrange(4, 8), tail=bytes([rng.randrange(256)])) + fix)
        elif pick == 15:
            self.put(self.op(rng.choice([0xC0, 0xC1]), reg=rng.choice([0, 1, 4, 5, 7]), tail=bytes([rng.randrange(1, 8)])) + fix)
        elif pick == 16:
            self.put(self.op(0xF7, reg=rng.choice([2, 3])))
        elif pick == 17:
            self.put(self.op(0xFF, reg=6))
        elif pick == 18:
            self.put(self.op(0x8F, reg=0))
        elif pick == 19:
            self.put(bytes([rng.choice([0x50, 0x58]) | rng.choice([0, 1, 2, 3, 5, 6, 7])]))
        elif pick == 20:
            self.put(rng.choice([b"\x60", b"\x61", b"\x66\x60", b"\x9c", b"\x66\x9c", b"\xc8\x08\x00\x00", b"\xc8\x10\x00\x01",
                                 b"\xc8\x04\x00\x03", b"\x66\xc8\x08\x00\x02",
                                 # At ring 0 the logging of the case would go to wherever LEAVE points ESP.
                                 *((b"\xc9", b"\x66\xc9") if self.c.ring or self.c.v86 else ())]))
        elif pick == 21:
            self.put(self.op(0x0F, 0x40 | rng.randrange(16)))
        elif pick == 22:
            self.put(self.op(0x0F, 0x90 | rng.randrange(16), size=False))
        elif pick == 23:
            self.put(self.op(rng.choice([0xF6, 0xF7]), reg=rng.choice([6, 7])) + fix)
        elif pick == 24:
            self.put(self.op(0x62, memory=1) if rng.random() < 0.5 else b"\xce")
        else:
            self.put(self.op(0x0F, rng.choice([0xA4, 0xAC]), tail=bytes([rng.randrange(1, 9)]), size=False) + fix)

    def string(self):
        rng = self.rng
        prefix = rng.choice([b"", b"\xf3", b"\xf3", b"\xf2"])
        if rng.random() < 0.3:
            prefix += rng.choice([b"\x26", b"\x2e", b"\x36", b"\x64", b"\x65"])
        if rng.random() < 0.2:
            prefix += b"\x66"
        if rng.random() < 0.15:
            prefix += b"\x67"
        op = rng.choice([0xA4, 0xA5, 0xA6, 0xA7, 0xAA, 0xAB, 0xAC, 0xAD, 0xAE, 0xAF, 0xA4, 0xA5])
        self.put(prefix + bytes([op]))

    def segment_load(self):
        rng, p = self.rng, self.p
        sel = rng.choice([p.data_selector(rng), p.any_selector(rng)])
        seg = rng.choice([0, 3, 4, 5, 0, 3, 2])
        pick = rng.randrange(5)
        if pick < 2:
            self.put(self.mov(0, sel) + bytes([0x8E, 0xC0 | seg << 3]))
        elif pick == 2:
            pop = {0: b"\x07", 2: b"\x17", 3: b"\x1f", 4: b"\x0f\xa1", 5: b"\x0f\xa9"}[seg]
            self.put(self.push(rng.getrandbits(16) << 16 | sel) + rng.choice([b"", b"", b"\x66"]) + pop)
        elif pick == 3:
            load = {0: (0xC4,), 2: (0x0F, 0xB2), 3: (0xC5,), 4: (0x0F, 0xB4), 5: (0x0F, 0xB5)}[seg]
            self.put(self.op(*load, memory=1))
        else:
            self.put(self.op(0x8E, reg=seg, memory=1))
        if rng.random() < 0.5:
            self.put(self.op(rng.choice([0x8B, 0x89, 0x8A, 0x88])))

    def store_segment(self):
        rng = self.rng
        self.put(rng.choice([self.op(0x8C, reg=rng.randrange(6)), b"\x06", b"\x0e", b"\x16", b"\x1e", b"\x0f\xa0"]))

    def far_pointer(self):
        """Selector and offset."""
        rng, p = self.rng, self.p
        pick = rng.random()
        if pick < 0.35:
            sel = p.code_selector(rng)
        elif pick < 0.65:
            sel = p.find(rng, lambda a, t: not a & 0x10 and t in (4, 12))
        elif pick < 0.8:
            sel = p.find(rng, lambda a, t: not a & 0x10 and t in (1, 9, 5))
        else:
            sel = p.any_selector(rng)
        if rng.random() < 0.4:
            sel = sel & ~3 | rng.choice([0, self.c.ring])
        return sel, p.landing(rng)

    def far(self):
        rng = self.rng
        sel, offset = self.far_pointer()
        if self.c.v86:
            sel = rng.choice([V86_LANDING >> 4, V86_LANDING >> 4, rng.getrandbits(16) | 0x2000])
            offset = rng.randrange(0x400)
        for _ in range(rng.choice([0, 0, 1, 4])):
            self.put(self.push(rng.choice(VALUES)))
        other = rng.random() < 0.2
        pick = rng.randrange(4)
        narrow = self.wide() == other
        if pick < 3:
            prefix = b"\x66" if other else b""
            pointer = (w(offset) if narrow else d(offset)) + w(sel)
            self.put(prefix + rng.choice([b"\x9a", b"\xea"]) + pointer)
        else:
            self.put(self.op(0xFF, reg=rng.choice([3, 5]), memory=1))

    def far_return(self):
        """RETF or IRET with a made-up frame."""
        rng, p, c = self.rng, self.p, self.c
        narrow = rng.random() < 0.2
        push = (lambda v: (b"\x66" if self.wide() else b"") + b"\x68" + w(v)) if narrow else self.push
        ring = rng.choice([c.ring, 3, rng.randrange(4)])
        cs = CODE[ring] if rng.random() < 0.7 else p.code_selector(rng)
        if rng.random() < 0.1:
            cs = p.any_selector(rng)
        ss = DATA_SEL[cs & 3] if rng.random() < 0.75 else p.any_selector(rng)
        eip = LANDING + rng.randrange(64) if rng.random() < 0.8 else p.landing(rng)
        if c.v86:
            cs, ss, eip = rng.choice([V86_LANDING >> 4, rng.getrandbits(16) | 0x2000]), 0x1500, rng.choice([rng.randrange(0x100), 0xFFFF, 0x10000])
        iret = rng.random() < 0.6
        flags = 2 | rng.choice([0, 0x8D5, 0x247]) | rng.choice([0, 0, 0x3000, 0x1000]) | rng.choice([0, 0, 0, 0x4000])
        flags |= rng.choice([0, 0, 0x40000, 0x200000, 0x10000])
        esp = DATA + 0x4E00 + 0x1000 * (cs & 3)
        frame = [ss, esp]
        if iret and rng.random() < 0.15 and not narrow:
            flags |= 0x20000
            frame = [0x1500, 0x1400, 0x1400, 0x1500, 0x1500, 0xF00]  # GS FS DS ES SS ESP
            cs, eip = V86_LANDING >> 4, rng.choice([0x20, 0x20, 0x10020, 0xFFFF])
        extra = 0
        for v in frame:
            self.put(push(v))
        if iret:
            self.put(push(flags))
        else:
            extra = rng.choice([0, 0, 4, 8, 0xFFFF])
            for _ in range(extra // 4 if extra < 100 else 0):
                self.put(push(0x1234))
        self.put(push(cs), push(eip))
        prefix = b"\x66" if narrow == self.wide() else b""
        op = b"\xcf" if iret else b"\xcb" if extra == 0 else b"\xca" + w(extra)
        self.put(prefix + op)

    def query(self):
        rng = self.rng
        sel = self.p.any_selector(rng)
        pick = rng.randrange(5)
        if pick < 2:
            op = rng.choice([0x02, 0x03])
            self.put(self.mov(3, sel) + rng.choice([b"", b"", b"\x66"]) + bytes([0x0F, op, 0xC0 | rng.choice([0, 1, 2, 6]) << 3 | 3]))
        elif pick < 4:
            self.put(self.mov(1, sel) + bytes([0x0F, 0x00, 0xC0 | rng.choice([4, 5]) << 3 | 1]))
        else:
            self.put(self.op(0x63, size=False))

    def privileged(self):
        rng, p = self.rng, self.p
        pick = rng.randrange(24)
        sel = p.any_selector(rng)
        if pick == 0:
            self.put(rng.choice([b"\xfa", b"\xfb", b"\xf4" if self.c.ring or self.c.v86 else b"\x90", b"\x0f\x06", b"\x0f\x09"]))
        elif pick == 1:
            self.put(rng.choice([b"", b"\x66"]) + b"\x9c")
        elif pick == 2:
            flags = 2 | rng.getrandbits(12) & 0xCD5 | rng.choice([0, 0x200]) | rng.randrange(4) << 12 | rng.choice([0, 0x4000])
            flags |= rng.choice([0, 0x40000, 0x200000, 0x10000, 0x20000])
            self.put(self.push(flags) + rng.choice([b"", b"", b"\x66"]) + b"\x9d")
        elif pick == 3:
            self.put(rng.choice([b"\xe6\x80", b"\xe7\x80", b"\xe4\x21", b"\xe6\x83", b"\xe7\x82", b"\xe7\x83", b"\xe6\x84", b"\xe4\x21"]))
        elif pick == 4:
            self.put(self.mov(2, rng.choice([0x80, 0x82, 0x83, 0x3FF, 0x40C])) + rng.choice([b"\xee", b"\xef", b"\x66\xef"]))
        elif pick == 5:
            value = 0x80000031 | rng.choice([0, 0x10000]) | rng.choice([0, 2, 4, 8, 0x40000, 0xE]) | rng.choice([0, 0, 0x40000000, 0x60000000, 0x20000000])
            self.put(self.mov(0, value) + b"\x0f\x22\xc0")
        elif pick == 6:
            self.put(self.mov(0, PAGE_DIR | rng.choice([0, 0x18])) + b"\x0f\x22\xd8")
        elif pick == 7:
            self.put(self.mov(0, rng.choice([0x10, 0x90, 0x98, 0x14, 0x110, 0x9C])) + b"\x0f\x22\xe0")
        elif pick == 8:
            self.put(bytes([0x0F, 0x20, 0xC0 | rng.choice([0, 2, 3, 4]) << 3 | rng.choice([0, 1, 2, 3])]))
        elif pick == 9:
            self.put(self.op(0x0F, 0x01, reg=rng.choice([0, 1]), memory=1))
        elif pick == 10:
            self.put(self.op(0x0F, 0x01, reg=4))
        elif pick == 11:
            self.put(self.op(0x0F, 0x00, reg=rng.choice([0, 1])))
        elif pick == 12:
            self.put(self.mov(0, rng.choice([sel, SEL_LDT_A, SEL_LDT_B, 0])) + b"\x0f\x00\xd0")
        elif pick == 13:
            self.put(self.mov(0, p.task_selector(rng) if rng.random() < 0.6 else sel) + b"\x0f\x00\xd8")
        elif pick == 14:
            self.put(self.mov(0, rng.choice([0, 1, 2, 8, 0xE, 0xF])) + b"\x0f\x01\xf0")
        elif pick == 15:
            self.put(self.op(0x0F, 0x01, reg=7, memory=1))
        elif pick == 16:
            self.put(self.mov(1, rng.choice([0x174, 0x175, 0x176, 0x12345])) + rng.choice([b"\x0f\x32", b"\x0f\x30" if self.c.ring else b"\x0f\x32"]))
        elif pick == 17:
            self.put(rng.choice([b"\x0f\x34", b"\x0f\x35" if self.c.ring else b"\x0f\x34", b"\x0f\x0b", b"\xd9\xee" if False else b"\x0f\x0b"]))
        elif pick == 18:
            self.put(b"\x0f\x06")
        elif pick == 19:
            self.put(bytes([0x0F, 0x21, 0xC0 | rng.choice([0, 1, 2, 3, 6, 7]) << 3]))
        elif pick == 20:
            self.put(self.mov(0, rng.getrandbits(32)) + bytes([0x0F, 0x23, 0xC0 | rng.choice([0, 1, 2, 3, 6]) << 3]))
        elif pick == 21:
            self.put(bytes([0xCD, rng.choice([rng.randrange(0x61, 0x80), rng.randrange(0x61, 0x80), 3, 4, 0x80, 0, 1, 5, 0x20])]))
        elif pick == 22:
            self.put(self.op(0x0F, 0x01, reg=rng.choice([2, 3]), memory=1) if self.c.ring or self.c.v86 else b"\x90")
        else:
            self.put(rng.choice([b"\xcc", b"\xce", b"\xf0\x90", b"\xf0\x01\xc0", b"\x0f\xff", b"\x8e\xc8", b"\x0f\x00\xf0"]))

    # -- kinds -----------------------------------------------------------------------------------------------------

    def repeat(self, low, high, *choices):
        for _ in range(self.rng.randint(low, high)):
            self.rng.choice(choices)()


def k_integer(b):
    b.repeat(2, 6, b.integer)


def k_string(b):
    b.repeat(1, 3, b.string, b.string, b.integer)


def k_segload(b):
    b.repeat(1, 4, b.segment_load, b.segment_load, b.store_segment)


def k_far(b):
    b.far()


def k_return(b):
    b.far_return()


def k_query(b):
    b.repeat(2, 5, b.query)


def k_privileged(b):
    b.repeat(1, 5, b.privileged)


def k_int(b):
    b.put(bytes([0xCD, b.rng.randrange(0x61, 0x80)]))


def k_task(b):
    rng, p = b.rng, b.p
    if rng.random() < 0.25:
        b.put(b"\x9c" + b"\x81\x0c\x24" + d(0x4000) + b"\x9d", b"\xcf")  # set NT, IRET
        return
    sel = p.find(rng, lambda a, t: not a & 0x10 and t in (1, 9, 5, 3, 11))
    if rng.random() < 0.5:
        sel = sel & ~3 | rng.choice([0, b.c.ring])
    b.put(rng.choice([b"\x9a", b"\xea"]) + d(0) + w(sel))


def k_v86(b):
    b.c.v86 = True
    b.c.ring = 3
    if b.rng.random() < 0.6:
        b.c.eflags |= 0x3000
    b.repeat(1, 5, b.integer, b.string, b.segment_load, b.store_segment, b.privileged, b.far, b.far_return)


def k_code16(b):
    b.c.code16 = True
    b.repeat(1, 5, b.integer, b.string, b.segment_load, b.privileged, b.far, b.far_return, b.query)


def k_paging(b):
    """Change an entry, with or without INVLPG, and access."""
    rng = b.rng
    n = rng.randrange(64)
    at = WINDOW + n * 0x1000 + rng.choice([0, 0x10, 0xFFE])
    access = lambda: rng.choice([b"\xa1", b"\xa3", b"\xff\x05", b"\x83\x25", b"\xff\x35"])
    def touch():
        op = access()
        return op + d(at) + (b"\x0f" + b"\x05" + d(1) if op == b"\x83\x25" else b"")
    b.put(touch())
    if b.c.ring == 0:
        entry = b.p.pte(rng)
        b.put(b"\xc7\x05" + d(WINDOW_TABLE + 4 * n) + d(entry), b"\x0f\x01\x3d" + d(at))
        b.put(touch())
        if rng.random() < 0.3:
            b.put(b"\xc7\x05" + d(PAGE_DIR + 4) + d(WINDOW_TABLE | rng.choice([7, 5, 3, 1, 0, 0x27])), b"\x0f\x20\xd8\x0f\x22\xd8")
            b.put(touch())
    b.repeat(0, 2, b.integer)


def k_step(b):
    """Single step: the trap comes after the first instruction that does not load SS."""
    b.c.eflags |= 0x100
    b.repeat(1, 3, b.integer, b.segment_load, b.string, b.privileged, b.far)


def k_break(b):
    """A data or code breakpoint."""
    rng = b.rng
    b.c.cr4 |= 8
    at = DATA + rng.randrange(0x1000) & ~3
    b.c.dr0 = at + rng.choice([0, 0, 0, 1, 2])
    length, kind = rng.choice([(0, 1), (1, 1), (3, 1), (0, 3), (1, 3), (3, 3)])
    b.c.dr7 = 0x400 | rng.choice([1, 2, 3]) | length << 18 | kind << 16
    access = rng.choice([b"\xa1", b"\xa3", b"\xff\x05", b"\xff\x35", b"\x8f\x05", b"\x66\xa3", b"\xa2"])
    b.put(access + d(at + rng.choice([0, 0, 0, 1, 3, 4, 0xFFFFFFFC])))
    b.integer()


def k_align(b):
    """Alignment checks."""
    b.c.cr0 |= 0x40000
    b.c.eflags |= 0x40000
    b.repeat(2, 5, b.integer, b.segment_load, b.store_segment)


KINDS = {
    "integer": k_integer, "string": k_string, "segload": k_segload, "far": k_far, "return": k_return,
    "query": k_query, "privileged": k_privileged, "int": k_int, "task": k_task, "v86": k_v86, "code16": k_code16,
    "paging": k_paging, "step": k_step, "break": k_break, "align": k_align,
}
