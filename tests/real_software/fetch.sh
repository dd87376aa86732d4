#!/bin/sh
# Fetches Debian packages and unpacks them: fetch.sh FOLDER PACKAGE...
#
# Each package ends in FOLDER/PACKAGE. Nothing is installed, and root is not needed. One that is there is left alone.
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

own_lists() {
    mkdir -p "$folder/apt/lists/partial" "$folder/apt/cache/archives/partial"
    echo "-o Dir::State::Lists=$folder/apt/lists -o Dir::Cache=$folder/apt/cache"
}

# A mirror answers badly now and then.
download() {
    for pause in 1 3 10; do
        # shellcheck disable=SC2086
        apt-get -q $options download "$1" >download.log 2>&1 && return 0
        sleep $pause
        options=$(own_lists)
        # shellcheck disable=SC2086
        apt-get -q $options update >>download.log 2>&1 || true
    done
    grep -h '^E:' download.log | tail -n 1 >&2
    return 1
}

options=
for package in "$@"; do
    [ -d "$folder/$package" ] && continue
    work="$folder/work"
    rm -rf "$work"
    mkdir "$work"
    cd "$work"
    download "$package"
    dpkg -x ./*.deb unpacked
    mv unpacked "$folder/$package"
    cd "$folder"
    rm -rf "$work"
done
