#!/usr/bin/env python3
"""Draws a terminal session of the program as an SVG: book/session.py PROGRAM > book/src/session.svg

The session is what the README opens with. Its columns of host time are left out, so the picture is the same on every
host."""

import html
import subprocess
import sys

COMMANDS = [["compare", "rings"]]
# Lines of each command's output that are shown.
SHOWN = 16
WIDTH, LINE, LEFT, TOP = 700, 18, 16, 34


def output(program, command):
    """The first lines of what the program says, without the column of host time."""
    text = subprocess.run([program, *command], capture_output=True, text=True, check=True).stdout
    lines, cut = [], None
    for line in text.splitlines():
        if "host s" in line:
            cut = line.index("host s")
        elif not line:
            cut = None
        lines.append(line[:cut].rstrip() if cut else line)
    return lines[:SHOWN]


def main():
    program = sys.argv[1]
    lines = []
    for command in COMMANDS:
        lines.append("$ subring " + " ".join(command))
        lines += output(program, command) + [""]
    lines.pop()
    height = TOP + LINE * len(lines) + 10
    print(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="monospace" font-size="13">')
    print(f'<rect width="{WIDTH}" height="{height}" rx="8" fill="#1d2330"/>')
    for n, colour in enumerate(("#e0605a", "#e0b34f", "#67b668")):
        print(f'<circle cx="{18 + 18 * n}" cy="16" r="5" fill="{colour}"/>')
    for n, line in enumerate(lines):
        if not line:
            continue
        fill = "#8fc7ff" if line.startswith("$") else "#e6b8b5" if "diverged" in line else "#b9dfb5" if "same" in line else "#d9dde6"
        y = TOP + LINE * (n + 0.8)
        print(f'<text x="{LEFT}" y="{y:.1f}" fill="{fill}" xml:space="preserve">{html.escape(line, quote=False)}</text>')
    print("</svg>")


main()
