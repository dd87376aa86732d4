#!/bin/sh
# Builds every guest kernel of this folder, the same bytes each time.
#
#   build.sh            build all in place
#   build.sh NAME...    build only these
#   build.sh --check    build into a temporary folder and compare with the committed images
#
# Needs gcc (with -m32; no 32-bit C library) and GNU binutils. VERSION names the versions that made the committed images.
set -eu
cd "$(dirname "$0")"

CFLAGS="-m32 -std=gnu11 -Wall -Wextra -Werror -O2 -march=i686 -mtune=generic -masm=intel
  -ffreestanding -fno-pic -fno-pie -fno-stack-protector -fno-asynchronous-unwind-tables -fcf-protection=none
  -fno-ident -fno-common -fno-strict-aliasing -fno-tree-loop-distribute-patterns -fno-optimize-sibling-calls
  -mno-sse -mno-mmx -mno-80387 -mpreferred-stack-boundary=2 -g0"
LDFLAGS="-m elf_i386 -n -static --build-id=none --no-warn-rwx-segments -z noexecstack"
PROGRAM_LDFLAGS="-m elf_i386 -static --build-id=none -z noexecstack"
DEBUG="-g -gdwarf-5 -O1 -fno-ipa-sra -fno-omit-frame-pointer -mno-omit-leaf-frame-pointer -fno-shrink-wrap
  -ffile-prefix-map=$PWD=guest-programs"
BASE="lib/boot.S lib/console.c lib/memory.c"
TRAPS="lib/segments.c lib/traps.c lib/traps.S"
RINGS="rings/kernel.c rings/memory.c rings/task.c rings/syscall.c rings/entry.S rings/user.c lib/phase.c"
VMX_HOST="lib/options.c vmx-test/main.c vmx-test/machine.c vmx-test/guest.c vmx-test/enter.S vmx-test/state.c vmx-test/errors.c vmx-test/entries.c"
VMX_GUESTS="vmx-test/instructions.c vmx-test/control_registers.c vmx-test/io.c vmx-test/exceptions.c vmx-test/events.c"
VMX="lib/options.c vmx/main.c vmx/vmcs.c vmx/enter.S vmx/exits.c vmx/devices.c vmx/shadow.c vmx/ept.c vmx/image.S"
KVM_CLIENT="kvm/client.c kvm/system.c kvm/guests.S"
KVM_BOOT="kvm/boot.c kvm/system.c kvm/uart.c"
BENCH="bench/bench.c bench/compute.c bench/memory.c bench/branches.c bench/system.c bench/user.S"

# One line per image: image, extra flags (or -), linker script (or - for a program of Linux), sources. `debug` is with
# source lines, which name no folder of the machine that builds; `packed` the same with compressed sections. vmx.elf has
# vmx-guest.elf within it, so it comes after it.
images() {
  cat <<LIST
hello/hello.elf               -        lib/link.ld     $BASE hello/hello.c
rings/rings.elf               -        rings/rings.ld  $BASE $TRAPS $RINGS
rings/rings-clean.elf         -DCLEAN  rings/rings.ld  $BASE $TRAPS $RINGS
sensitive/sensitive.elf       -        lib/link.ld     $BASE $TRAPS sensitive/sensitive.c sensitive/transfers.S
nano/nano.elf                 -        lib/link.ld     $BASE $TRAPS lib/options.c lib/phase.c nano/nano.c nano/ops.S
nano/nano-clean.elf           -DCLEAN  lib/link.ld     $BASE $TRAPS lib/options.c lib/phase.c nano/nano.c nano/ops.S
smc/smc.elf                   -        lib/link.ld     $BASE smc/smc.c smc/code.S
bench/bench.elf               -        lib/link.ld     $BASE $TRAPS lib/options.c lib/phase.c $BENCH
vmx-test/vmx-test.elf         -        lib/link.ld     $BASE $TRAPS $VMX_HOST $VMX_GUESTS
vmx/vmx-guest.elf             -        lib/link.ld     $BASE $TRAPS lib/options.c vmx/guest.c
vmx/vmx.elf                   -        lib/link.ld     $BASE $TRAPS $VMX
kvm/client.elf                -        -               $KVM_CLIENT
kvm/boot.elf                  -        -               $KVM_BOOT
nested/nested.elf             debug    lib/link.ld     $BASE nested/nested.c
nested/nested-packed.elf      packed   lib/link.ld     $BASE nested/nested.c
LIST
}

versions() { gcc --version | head -n 1; ld --version | head -n 1; }

# build_image OUT FLAGS SCRIPT SOURCE...
build_image() {
  out=$1 flags=$2 script=$3; shift 3
  pack=
  case $flags in
    -) flags= ;;
    debug) flags=$DEBUG ;;
    packed) flags=$DEBUG pack=--compress-debug-sections=zlib ;;
  esac
  objects=
  for source in "$@"; do
    object=$scratch/$(echo "$source" | tr / _).o
    # shellcheck disable=SC2086
    gcc $CFLAGS $flags -c "$source" -o "$object"
    objects="$objects $object"
  done
  # shellcheck disable=SC2086
  case $script in
    -) ld $PROGRAM_LDFLAGS -o "$out" $objects ;;
    *) ld $LDFLAGS $pack -T "$script" -o "$out" $objects ;;
  esac
  chmod 644 "$out"
}

# build_all PREFIX [NAME...]: images under PREFIX (empty: in place)
build_all() {
  prefix=$1; shift
  for name; do
    names=$(images | sed 's|^[^ ]*/\([^ ]*\)\.elf .*|\1|' | xargs)
    case " $names " in
      *" $name "*) ;;
      *) echo "build.sh: no image is called $name; there are: $names" >&2; exit 1 ;;
    esac
  done
  images | while read -r image flags script sources; do
    name=$(basename "$image" .elf)
    case " $* " in "  " | *" $name "*) ;; *) continue ;; esac
    mkdir -p "$prefix$(dirname "$image")"
    # shellcheck disable=SC2086
    build_image "$prefix$image" "$flags" "$script" $sources
    echo "built $image"
  done
}

check() {
  if ! printf 'int x;' | gcc -m32 -ffreestanding -xc -c - -o "$scratch/probe.o" 2>/dev/null || ! command -v ld >/dev/null; then
    echo "SKIPPED: guest images not rebuilt: gcc -m32 or ld is missing"; exit 0
  fi
  if ! versions | cmp -s - VERSION; then
    echo "SKIPPED: guest images not compared: they were built by"; sed 's/^/  /' VERSION
    echo "and here is"; versions | sed 's/^/  /'; exit 0
  fi
  build_all "$scratch/out/" >/dev/null
  status=0
  for image in $(images | cut -d' ' -f1); do
    if cmp -s "$image" "$scratch/out/$image"; then echo "same $image"
    else echo "DIFFERENT $image: run guest-programs/build.sh and commit the result"; status=1; fi
  done
  exit $status
}

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
case "${1-}" in
  --check) check ;;
  *) build_all "" "$@"; versions > VERSION ;;
esac
