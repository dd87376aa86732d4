#!/bin/sh
# Runs every guest under qemu-system-i386, with 16 MiB and as several processors, and compares what it says on the serial
# port, byte by byte, with its expected*.txt. Extra arguments go to QEMU.
set -eu
cd "$(dirname "$0")"
command -v qemu-system-i386 >/dev/null || { echo "SKIPPED: no qemu-system-i386 on this machine"; exit 0; }
out=$(mktemp)
trap 'rm -f "$out"' EXIT
failed=0

# run IMAGE COMMAND-LINE EXPECTED [QEMU-ARGUMENT...]: EXPECTED may be - ; hello's holds the beginning only.
run() {
  image=$1 line=$2 expected=$3; shift 3
  status=0
  timeout 120 qemu-system-i386 -kernel "$image" -append "$line" -m 16 -serial stdio -display none -monitor none -no-reboot \
    -device isa-debug-exit,iobase=0xf4,iosize=4 "$@" </dev/null >"$out" || status=$?
  verdict=ok
  [ $status -eq 1 ] || verdict="FAILED: QEMU's status is $status, not 1 (the guest's 0)"
  if [ "$expected" != - ] && ! head -c "$(wc -c <"$expected")" "$out" | cmp -s - "$expected"; then
    verdict="FAILED: differs from $expected"
  fi
  case $expected in -|hello/*) ;; *) [ "$(wc -c <"$out")" -eq "$(wc -c <"$expected")" ] || verdict="FAILED: longer or shorter than $expected" ;; esac
  [ "$verdict" = ok ] || failed=1
  echo "$image $*: $verdict"
}

for cpu in qemu32 pentium2 pentium3; do
  run hello/hello.elf         "one two=2" hello/expected.txt       -cpu $cpu "$@"
  run rings/rings.elf         ""          rings/expected.txt       -cpu $cpu "$@"
  run rings/rings-clean.elf   ""          rings/expected-clean.txt -cpu $cpu "$@"
  run sensitive/sensitive.elf ""          sensitive/expected.txt   -cpu $cpu "$@"
  run smc/smc.elf             ""          smc/expected.txt         -cpu $cpu "$@"
  run nano/nano.elf           "all=100"   -                        -cpu $cpu "$@"
  run nano/nano-clean.elf     "all=100"   -                        -cpu $cpu "$@"
  run bench/bench.elf         "all=1"     bench/expected.txt       -cpu $cpu "$@"
  run vmx/vmx-guest.elf       ""          vmx/expected.txt         -cpu $cpu "$@"
done
exit $failed
