#!/bin/sh
# Boots test/services.asm by bios.bin under QEMU, as a disk and as a floppy. An upper-case letter is a check that passed.
set -eu
cd "$(dirname "$0")"
for tool in nasm qemu-system-i386; do
    if ! command -v "$tool" >/dev/null 2>&1; then
        echo "SKIPPED: $tool is not installed, the BIOS was not tested"
        exit 0
    fi
done
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT
nasm -Wall -f bin -o "$out/services.img" test/services.asm
status=0
for kind in ide floppy; do
    printf '%s: ' "$kind"
    code=0
    timeout 60 qemu-system-i386 -M pc -m 8 -bios bios.bin -display none -serial stdio \
        -drive "format=raw,if=$kind,file=$out/services.img" \
        -device isa-debug-exit,iobase=0xf4,iosize=4 </dev/null || code=$?
    if [ "$code" -ne 1 ]; then      # QEMU's code is twice the guest's plus one
        echo "FAILED ($code)"
        status=1
    fi
done
exit $status
