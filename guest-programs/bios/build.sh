#!/bin/sh
# Builds bios.bin from src/. With --check: builds into a temporary folder and compares with the committed image.
set -eu
cd "$(dirname "$0")"
if ! command -v nasm >/dev/null 2>&1; then
    echo "SKIPPED: nasm is not installed, bios.bin was not rebuilt"
    exit 0
fi
if [ "${1:-}" = "--check" ]; then
    out=$(mktemp -d)
    trap 'rm -rf "$out"' EXIT
    nasm -Wall -f bin -I src/ -o "$out/bios.bin" src/bios.asm
    cmp "$out/bios.bin" bios.bin
    echo "ok: bios.bin is what src/ builds"
else
    nasm -Wall -f bin -I src/ -o bios.bin src/bios.asm
fi
