#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# PID 1 of a test guest: run the script that the kernel command line names
# (guest=NAME, with guest.KEY=VALUE as its parameters), report, switch off.
#
# All lines for the host start with "guest: ". The last one is
# "guest: done STATUS"; it comes after everything is unmounted and synced.
set -u
export LC_ALL=C PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
declare -A param=()
failed=0

say() {
	echo "guest: $*"
}

# check NAME COMMAND...: one line "pass NAME" or "FAIL NAME" with the output.
check() {
	local name=$1

	shift
	if "$@" >/tmp/check.log 2>&1; then
		say "pass $name"
	else
		say "FAIL $name"
		sed 's/^/guest: # /' /tmp/check.log
		failed=1
	fi
}

# disk_by_serial SERIAL: its name
disk_by_serial() {
	local dir

	for dir in /sys/block/vd*; do
		[[ $(<"$dir/serial") != "$1" ]] || { echo "${dir##*/}"; return; }
	done
	return 1
}

# The disk under test is the one that is not the tools disk.
find_disk() {
	local dir

	for dir in /sys/block/vd*; do
		[[ $(<"$dir/serial") == tools ]] || disk=${dir##*/}
	done
	[[ -n ${disk-} ]]
}

boot() {
	local word

	mount -t tmpfs tmp /tmp
	mount -t tmpfs run /run
	# The tools disk has programs of a few packages only.
	if [[ -x /bin/busybox ]]; then
		mkdir /tmp/bin
		/bin/busybox --install -s /tmp/bin
		PATH=$PATH:/tmp/bin
	fi
	for word in $(</proc/cmdline); do
		case $word in
		guest=*) param[script]=${word#*=} ;;
		guest.*) word=${word#guest.} param[${word%%=*}]=${word#*=} ;;
		esac
	done
}

boot
find_disk || say "FAIL no disk to test"
say "ready ${disk-none}"
# shellcheck source=/dev/null
. "/guest/${param[script]}.sh" || failed=1
sync
mount -o remount,ro / || say "FAIL root cannot be made read-only"
say "done $failed"
# Without an init system: power off at once, as poweroff -f does.
echo o >/proc/sysrq-trigger
while :; do sleep 60; done
