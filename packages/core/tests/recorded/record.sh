#!/bin/sh
# SPDX-License-Identifier: BSD-3-Clause
# Records what is in this directory, on the machine and kernel at hand; needs root for the namespaces.
# The tests expect the kinds of processes, and the numbers that they name: look at the difference.
# arm.* and arm64.* are the same of zoo.c in guests with Debian's kernels, built by the cross compilers.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
cd "$tmp"

# keep PID NAME FILE…
keep() {
	pid=$1 name=$2
	shift 2
	for file; do
		cat "/proc/$pid/$file" >"$here/$name.$file"
	done
}

# zoo NAME COMPILER
zoo() {
	"$2" -static -o zoo "$here/zoo.c"
	mkfifo ready
	./zoo >ready &
	pid=$!
	read -r _ <ready
	keep "$pid" "$1" maps smaps status stat
	kill "$pid"
	rm ready
}

zoo x86-64 gcc
zoo i386 i686-linux-gnu-gcc

# Three pid namespaces and two user namespaces deep.
mkfifo ready
unshare -pf unshare --map-root-user -pf sh -c 'echo ready; exec sleep 1000' >ready &
outer=$!
read -r _ <ready
pid=$(pgrep -P "$(pgrep -P "$outer")")
keep "$pid" nested status stat uid_map
kill -KILL "$pid"

keep 2 kthread status stat

# A child that nobody waits for.
mkfifo held
sh -c 'true & echo $!; exec cat held' >ready &
read -r pid <ready
while ! grep -q zombie "/proc/$pid/status"; do :; done
keep "$pid" zombie status stat
: >held
