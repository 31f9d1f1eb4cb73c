#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# TAP test of run.sh itself: each exit status it promises, the separation of
# output and status, shares and disks. Boots one short VM a case; no module.
# check() calls the functions; what stands in single quotes expands inside the VM.
# shellcheck disable=SC2317,SC2016
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
work=$(mktemp -d "${TMPDIR:-/tmp}/vhost-blk-selftest.XXXXXX")
trap 'rm -rf "$work"' EXIT
nr=0
failed=0

check() {
	local name=$1

	shift
	nr=$((nr + 1))
	if "$@"; then
		echo "ok $nr - $name"
	else
		echo "not ok $nr - $name"
		sed 's/^/# /' "$work/out" "$work/err"
		failed=1
	fi
}

# run STATUS [run.sh options] -- COMMAND: passes when run.sh exits with STATUS
run() {
	local want=$1 rc=0

	shift
	"$here/run.sh" --module none --log "$work/log" "$@" >"$work/out" 2>"$work/err" <&- || rc=$?
	[[ $rc -eq $want ]] || {
		echo "# exit status $rc, expected $want"
		return 1
	}
}

prints() {
	[[ $(<"$work/out") == "$1" ]]
}

complains() {
	grep -q "$1" "$work/err"
}

two_at_once() {
	local a b rc=0

	"$here/run.sh" --module none --log "$work/log.a" -- echo one >"$work/out.a" 2>>"$work/err" &
	a=$!
	"$here/run.sh" --module none --log "$work/log.b" -- echo two >"$work/out.b" 2>>"$work/err" &
	b=$!
	wait "$a" || rc=1
	wait "$b" || rc=1
	[[ $rc -eq 0 && $(<"$work/out.a") == one && $(<"$work/out.b") == two ]]
}

disk_and_share() {
	truncate -s 8M "$work/disk"
	mkdir "$work/share"
	run 0 --disk "$work/disk" --share "$work/share" -- bash -c \
		"printf mark | dd of=/dev/vda bs=512 seek=3 conv=notrunc status=none; cat /sys/block/vda/size >$work/share/size" &&
		[[ $(<"$work/share/size") -eq 16384 ]] &&
		[[ $(dd if="$work/disk" bs=512 skip=3 count=1 status=none | tr -d '\0') == mark ]]
}

: >"$work/out"
: >"$work/err"
echo "TAP version 13"
echo "1..11"
check "status 0, arguments arrive unchanged" run 0 -- bash -c 'printf "%s|" "$@"' x 'a b' '' '$c'
check "its output arrives on stdout, alone" prints 'a b||$c|'
check "the command's own status" run 7 -- bash -c 'echo vm: status 0; exit 7'
check "deadline gives 124" run 124 --timeout 25 -- sleep 1000
check "the output until then is there, the VM dead gives 125" run 125 -- \
	bash -c 'echo before
		until grep -q before /run/vm/ctl/output; do read -r -t 0.1 <>/dev/ptmx; done
		echo c >/proc/sysrq-trigger; read -r -t 60 <>/dev/ptmx'
check "what came out of it before the panic is kept" prints before
check "a warning in the log gives 99" run 99 -- bash -c 'echo "WARNING: CPU: 0 PID: 1 at x" >/dev/kmsg'
check "and is shown" complains 'WARNING: CPU: 0'
check "a failure keeps its status next to a warning" run 3 -- \
	bash -c 'echo "BUG: unable to handle page fault" >/dev/kmsg; exit 3'
check "disks and shares" disk_and_share
check "two at once" two_at_once
exit "$failed"
