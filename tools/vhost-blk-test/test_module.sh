#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# kselftest: loading and unloading vhost_blk.ko, in TAP. Runs as root on a
# machine (or test host) that can do without the module for a moment.
#   VHOST_BLK_MODULE=FILE   the module (default: the one just built, else modprobe's)
set -euo pipefail
export PATH="$PATH:/usr/sbin:/sbin"

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
ko=${VHOST_BLK_MODULE:-$here/../../drivers/vhost/vhost_blk.ko}
dev=/dev/vhost-blk
nr=0
failed=0

load() {
	if [ -e "$ko" ]; then
		insmod "$ko"
	else
		modprobe vhost_blk
	fi
}

# result NAME COMMAND...: the command's status is the test's.
result() {
	local name=$1

	shift
	nr=$((nr + 1))
	if "$@"; then
		echo "ok $nr module.$name"
	else
		echo "not ok $nr module.$name"
		failed=$((failed + 1))
	fi
}

refcnt() {
	cat /sys/module/vhost_blk/refcnt
}

# Slab memory that is not reclaimable, in KiB.
slab() {
	awk '/^SUnreclaim/ { print $2 }' /proc/meminfo
}

# G07: an open device keeps the module in.
busy_while_open() {
	local message

	exec 9<>"$dev"
	message=$(rmmod vhost_blk 2>&1) && { echo "# rmmod went through"; return 1; }
	case $message in
	*"in use"*) ;;
	*) echo "# $message"; return 1 ;;
	esac
	[ "$(refcnt)" = 1 ] || { echo "# refcnt $(refcnt), expected 1"; return 1; }
	exec 9>&-
	[ "$(refcnt)" = 0 ] || { echo "# refcnt $(refcnt), expected 0"; return 1; }
}

unload() {
	rmmod vhost_blk || return 1
	[ ! -e "$dev" ] || { echo "# $dev is still there"; return 1; }
	[ ! -d /sys/module/vhost_blk ]
}

reload() {
	load || return 1
	[ -c "$dev" ] || { echo "# no $dev"; return 1; }
	[ "$(refcnt)" = 0 ]
}

# G07: again and again; a leak of a page each time would show. What the rest of the kernel
# allocates meanwhile can look like one, but not in each series.
reload_many() {
	local i series before after rounds=$((${VT_LOOPS:-1} > 1 ? 100 : 33))

	for series in 1 2 3; do
		for ((i = 0; i < rounds; i++)); do
			if ! { unload && reload; }; then
				echo "# series $series, round $i"
				return 1
			fi
			exec 9<>"$dev"
			exec 9>&-
			[ "$i" != 2 ] || before=$(slab)
		done
		after=$(slab)
		echo "# unreclaimable slab: $before KiB before, $after KiB after"
		# Kernels that look for leaks keep what is free for a while, and books on it.
		[ ! -e /sys/kernel/debug/kmemleak ] || return 0
		((after - before >= 2 * rounds)) || return 0
	done
	return 1
}

echo "TAP version 13"
echo "1..4"
if [ "$(id -u)" != 0 ] || [ ! -c "$dev" ]; then
	echo "Bail out! $dev: load vhost_blk.ko and be root"
	exit 1
fi
result busy_while_open busy_while_open
result unload unload
result reload reload
result reload_many reload_many
[ "$failed" = 0 ]
