#!/bin/sh
# Builds boot.img from boot.asm. With --check: builds into a temporary folder and compares with the committed image.
set -eu
cd "$(dirname "$0")"
if ! command -v nasm >/dev/null 2>&1; then
    echo "SKIPPED: nasm is not installed, boot.img was not rebuilt"
    exit 0
fi
if [ "${1:-}" = "--check" ]; then
    out=$(mktemp -d)
    trap 'rm -rf "$out"' EXIT
    nasm -Wall -f bin -o "$out/boot.img" boot.asm
    cmp "$out/boot.img" boot.img
    echo "ok: boot.img is what boot.asm builds"
else
    nasm -Wall -f bin -o boot.img boot.asm
fi
