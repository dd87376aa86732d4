#!/bin/sh
# Fetches Debian packages and unpacks them: fetch.sh FOLDER PACKAGE[:ARCHITECTURE]...
#
# Each package ends in FOLDER/PACKAGE[:ARCHITECTURE]; a kernel's metapackage (linux-image-686) as the kernel that it
# depends on. Nothing is installed, and root is not needed. One that is there is left alone.
# When apt knows no such package (its lists are empty or old), lists of our own are fetched into FOLDER/apt.
set -eu

folder=$1
shift
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)

command -v apt-get >/dev/null || { echo "there is no apt-get here" >&2; exit 1; }
command -v dpkg >/dev/null || { echo "there is no dpkg here" >&2; exit 1; }

# Two fetches at a time would write the same files.
exec 9>"$folder/lock"
if command -v flock >/dev/null; then flock 9; fi

# Options for lists of our own; those of a foreign architecture know of nothing that is installed.
own_lists() {
    apt="$folder/apt$arch"
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
    : >"$apt/status"
    echo "-o Dir::State::Lists=$apt/lists -o Dir::Cache=$apt/cache"
    [ -z "$arch" ] || echo "-o Dir::State::status=$apt/status -o APT::Architecture=$arch -o APT::Architectures::=$arch"
}

# The kernel that a metapackage stands for; any other package is itself.
resolve() {
    case $1 in
    linux-image-[0-9]86*)
        # shellcheck disable=SC2086
        apt-cache $options depends "$1" | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p' | head -n 1
        ;;
    *) echo "$1" ;;
    esac
}

# A mirror answers badly now and then.
download() {
    for pause in 1 3 10; do
        # shellcheck disable=SC2086
        apt-get -q $options download "$(resolve "$1")" >download.log 2>&1 && return 0
        sleep $pause
        options=$(own_lists)
        # shellcheck disable=SC2086
        apt-get -q $options update >>download.log 2>&1 || true
    done
    grep -h '^E:' download.log | tail -n 1 >&2
    return 1
}

for package in "$@"; do
    [ -d "$folder/$package" ] && continue
    arch=
    options=
    case $package in *:*) arch=${package#*:} ;; esac
    # The system's own lists need not know a foreign architecture.
    if [ -n "$arch" ]; then
        options=$(own_lists)
        # shellcheck disable=SC2086
        [ -n "$(ls "$folder/apt$arch/lists" | grep Packages)" ] || apt-get -q $options update >/dev/null 2>&1 || true
    fi
    work="$folder/work"
    rm -rf "$work"
    mkdir "$work"
    cd "$work"
    download "${package%:*}"
    dpkg -x ./*.deb unpacked
    mv unpacked "$folder/$package"
    cd "$folder"
    rm -rf "$work"
done
