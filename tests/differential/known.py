"""known.json: the differences that are understood. Each rule has

    name     its name in reports
    right    who is right: "subring", "qemu", or "both" where the manual leaves a choice
    manual   the section that says so
    why      the difference in a sentence
    when     conditions, all of which must hold; each optional:
             kind (list), ours_vector, qemu_vector (lists), v86 (bool), ring (list), code (regular expression that some
             instruction's hexadecimal bytes match), segment_check (true: our fault is #GP(0) or #SS(0) of an
             instruction that raises these for its operand's segment alone), vectors_differ (bool), at (opcodes of the instruction at our EIP,
             prefixes left out: "cf", "0f01"), task_switch (true: TR has changed), ours, qemu ({field: list of values, or {"mask": m, "value": v}})
    ignore   {field: mask of bits}: differing bits that the rule explains; "*" explains every field
"""

import json
import re

from layout import SEL_MAIN_TSS


def load(path):
    return Known(json.loads(path.read_text())["rules"])


class Known:
    def __init__(self, rules):
        self.rules = rules
        self.by_name = {r["name"]: r for r in rules}

    def explain(self, case, ours, theirs, found):
        """The names of the rules that explain something, and what is left of `found`."""
        names, left = [], dict(found)
        for rule in self.rules:
            if not left:
                break
            if not holds(rule.get("when", {}), case, ours, theirs):
                continue
            used = False
            for field, mask in rule["ignore"].items():
                for f in list(left) if field == "*" else [field] if field in left else []:
                    a, b = left[f]
                    m = 0xFFFFFFFF if field == "*" else int(mask, 0)
                    if (a ^ b) & m:
                        used = True
                        left[f] = (a & ~m, b & ~m)
                        if left[f][0] == left[f][1]:
                            del left[f]
            if used:
                names.append(rule["name"])
        return names, left


def holds(when, case, ours, theirs):
    if "kind" in when and case.kind not in when["kind"]:
        return False
    if "ring" in when and case.ring not in when["ring"]:
        return False
    if "v86" in when and case.v86 != when["v86"]:
        return False
    if "ours_vector" in when and ours["vector"] not in when["ours_vector"]:
        return False
    if "qemu_vector" in when and theirs["vector"] not in when["qemu_vector"]:
        return False
    if "at" in when and opcode(case, ours) not in when["at"]:
        return False
    if "task_switch" in when and (ours["tr"] & 0xFFFF != SEL_MAIN_TSS) != when["task_switch"]:
        return False
    if when.get("segment_check") and not is_segment_check(case, ours):
        return False
    if "vectors_differ" in when and (ours["vector"] != theirs["vector"]) != when["vectors_differ"]:
        return False
    if "code" in when and not any(re.search(when["code"], i.hex()) for i in case.body):
        return False
    return all(matches(when.get(side, {}), entry) for side, entry in (("ours", ours), ("qemu", theirs)))


def matches(conditions, entry):
    for field, wanted in conditions.items():
        value = entry.get(field, 0)
        if isinstance(wanted, dict):
            if value & int(wanted["mask"], 0) != int(wanted["value"], 0):
                return False
        elif value not in [int(v, 0) if isinstance(v, str) else v for v in wanted]:
            return False
    return True


PREFIXES = {0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3}
# One-byte opcodes whose #GP(0) and #SS(0) come from the segment of an operand and from nothing else.
PLAIN = ({a | b for a in range(0, 0x40, 8) for b in range(6)} | set(range(0x50, 0x60)) | {0x60, 0x61, 0x62, 0x63, 0x68, 0x6A}
         | set(range(0x80, 0x8E)) | {0x8F} | set(range(0xA0, 0xB0)) | {0xC0, 0xC1, 0xC4, 0xC5, 0xC8, 0xC9}
         | {0x06, 0x0E, 0x16, 0x1E} | set(range(0xD0, 0xD4)) | {0xF6, 0xF7, 0xFE, 0xFF})
PLAIN_0F = ({0x00, 0x02, 0x03, 0xA0, 0xA3, 0xA4, 0xA8, 0xAB, 0xAC, 0xB0, 0xB1, 0xB3, 0xB4, 0xB5, 0xB6, 0xB7, 0xBA, 0xBB, 0xBE, 0xBF, 0xC0, 0xC1,
             0xC7} | set(range(0x40, 0x50)) | set(range(0x90, 0xA0)))


def instruction(case, entry):
    """The bytes of the case's body from the instruction at EIP on, prefixes left out."""
    body, at = case.bytes(), entry.get("eip", 0) & 0xFF
    while at < len(body) and body[at] in PREFIXES:
        at += 1
    return body[at:]


def opcode(case, entry):
    """Its opcode in hexadecimal."""
    i = instruction(case, entry)
    return i[: 2 if i[:1] == b"\x0f" else 1].hex()


def is_segment_check(case, ours):
    if ours["vector"] not in (12, 13) or ours.get("code") != 0 or ours["nested"]:
        return False
    i = instruction(case, ours)
    if len(i) < 2:
        return False
    if i[:2] == b"\x0f\x01":
        return i[2] >> 3 & 7 in (0, 1, 4)  # SGDT, SIDT, SMSW
    # PUSHF and POPF are in the range 9C-9D and not plain in virtual-8086 mode; POP SS may be a null selector.
    return i[1] in PLAIN_0F if i[0] == 0x0F else i[0] in PLAIN
