#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Run the kselftests of vhost_blk on this machine, as root, with the module
# loaded; vm/run.sh gives a machine that may break. All of it is TAP, one test
# point a test case; exit status 0 if none failed.
#
#   run-kselftests.sh [PROGRAM...]   default: every build/test_* and test_module.sh;
#                                    the other test_*.sh start guests
#   VT_PROGRAM_TIMEOUT=SECONDS       for each program (180)
#   VT_TIMEOUT_MS, VT_LOOPS          see lib/vt.h
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
timeout=${VT_PROGRAM_TIMEOUT:-180}
plan=0
nr=0
failed=0
skipped=0

# Into $list.
programs() {
	local p

	for p in "$here"/test_*.c; do
		p=$here/build/$(basename "$p" .c)
		if [ ! -x "$p" ]; then
			echo "Bail out! $p is not built: make -C $here"
			exit 1
		fi
		list+=("$p")
	done
	list+=("$here/test_module.sh")
}

point() {
	nr=$((nr + 1))
	case $1 in
	"not ok"*) failed=$((failed + 1)) ;;
	*"# SKIP"*) skipped=$((skipped + 1)) ;;
	esac
	echo "$1"
}

# The harness numbers a program's points from 1: number them all in one row.
renumber() {
	local program=$1 line name

	while IFS= read -r line; do
		case $line in
		"ok "* | "not ok "*)
			name=${line#not }
			name=${name#ok }
			name=${name#"${name%%[!0-9]*}"}
			point "${line%%ok *}ok $((nr + 1)) $program:$name"
			;;
		[0-9]*..[0-9]*) plan=${line#*..} ;;
		"TAP version"*) ;;
		"Bail out!"*) echo "# $line" ;;
		*) echo "$line" ;;
		esac
	done
}

kernel_splats() {
	dmesg | grep -cE 'WARNING: |BUG: |Oops|KASAN:|UBSAN:|kernel BUG|general protection fault' || true
}

# One program: its points, and one more for how it ended and what the kernel said.
run_program() {
	local program=$1 name before status=0 first=$nr start=$SECONDS what=

	name=$(basename "$program")
	before=$(kernel_splats)
	plan=0
	renumber "$name" < <(timeout -k 10 "$timeout" "$program" 2>&1 && echo 0 >"$state" ||
		echo $? >"$state")
	status=$(cat "$state")
	case $status in
	0 | 1) ;;
	124 | 137) what="did not end within $timeout s" ;;
	*) what="exit status $status" ;;
	esac
	[ $((nr - first)) = "$plan" ] && [ "$plan" != 0 ] ||
		what+="${what:+, }$((nr - first)) of $plan test cases were run"
	[ "$(kernel_splats)" = "$before" ] || what+="${what:+, }the kernel log has a splat"
	if [ -n "$what" ]; then
		point "not ok $((nr + 1)) $name: ended well"
		echo "# $name: $what"
	else
		point "ok $((nr + 1)) $name: ended well"
	fi
	echo "# $name: $((SECONDS - start)) s"
}

# Memory that nothing refers to any more, with a kernel that can tell. An object may
# look so for a moment; one that does in two scans, 5 s apart, is lost.
kmemleak=/sys/kernel/debug/kmemleak
kmemleak_clear() {
	[ -e "$kmemleak" ] || mount -t debugfs debugfs /sys/kernel/debug 2>/dev/null || true
	[ ! -w "$kmemleak" ] || echo clear >"$kmemleak"
}

kmemleak_report() {
	[ -w "$kmemleak" ] || return 0
	echo scan >"$kmemleak"
	sleep 5
	echo scan >"$kmemleak"
	if grep -q . "$kmemleak"; then
		point "not ok $((nr + 1)) kmemleak: nothing is lost"
		head -n 60 "$kmemleak" | sed 's/^/# /'
	else
		point "ok $((nr + 1)) kmemleak: nothing is lost"
	fi
}

state=$(mktemp)
trap 'rm -f "$state"' EXIT
list=("$@")
echo "TAP version 13"
[ $# -gt 0 ] || programs
kmemleak_clear
for program in "${list[@]}"; do
	run_program "$program"
done
kmemleak_report
echo "1..$nr"
echo "# $((nr - failed - skipped)) passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
