#!/bin/sh
# Installs what the checks need beyond Cargo: gcc and binutils rebuild the guest kernels, nasm the BIOS and the boot
# sector, gdb plays the golden sessions, qemu-img makes and checks disk images. `cargo test` itself needs nothing from here: the built images are committed, and
# what lacks its tool says SKIPPED.
#
# Works on Debian and its kin, as root or with passwordless sudo. Elsewhere it says what is missing and ends with 0:
# the checks that lack a tool say SKIPPED.
set -eu

missing=
need() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
need gcc gcc
need ld binutils
need nasm nasm
need gdb gdb
need qemu-img qemu-utils

if [ -z "$missing" ]; then
    echo "install: nothing is missing"
    exit 0
fi
if ! command -v apt-get >/dev/null 2>&1; then
    echo "install: SKIPPED: no apt-get here; install these yourself:$missing"
    exit 0
fi
if [ "$(id -u)" -eq 0 ]; then
    as_root=
elif sudo -n true 2>/dev/null; then
    as_root="sudo -n"
else
    echo "install: SKIPPED: neither root nor passwordless sudo; install these yourself:$missing"
    exit 0
fi
echo "install: installing$missing"
# A mirror answers badly now and then.
for try in 1 2 3; do
    # shellcheck disable=SC2086
    if $as_root apt-get update -qq &&
        $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
    then
        exit 0
    fi
    echo "install: attempt $try failed"
    sleep 5
done
echo "install: FAILED: could not install$missing"
exit 1
