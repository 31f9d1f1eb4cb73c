#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# TAP test: QEMU is killed with SIGKILL while its guest loads the disk. After
# each kill no request may be in flight, the disk must open exclusively and the
# module must unload and load again; over all of them nothing may leak.
# Start with: tools/vhost-blk-test/vm/run.sh --nested --append "slub_debug=U debugfs=off" -- $0 [KILLS]
# Without slub_debug=U slab counts are only good to a few slabs, and a leak of
# few small objects stays unseen.
#
# check() calls the functions below; nested.sh sets what is not set here.
# shellcheck disable=SC2317,SC2154,SC1091
set -uo pipefail

. "$(dirname "${BASH_SOURCE[0]}")/vm/nested.sh"

kills=${1-12}
module=$top/drivers/vhost/vhost_blk.ko
# The first rounds fill caches that stay; growth is measured after them, between
# a window of rounds there and one at the end.
warm_up=2
window=3

in_flight() {
	! idle "$disk"
}

module_unused() {
	[[ $(</sys/module/vhost_blk/refcnt) -eq 0 ]]
}

vmstat() {
	awk -v name="$1" '$1 == name { print $2 }' /proc/vmstat
}

# Guest pages that a request pinned and nobody unpinned.
pages_are_unpinned() {
	local acquired released

	acquired=$(vmstat nr_foll_pin_acquired)
	released=$(vmstat nr_foll_pin_released)
	echo "pages pinned: $acquired, unpinned: $released"
	[[ $acquired -eq $released ]]
}

device_is_free() {
	until_true 30 idle "$disk" || { echo "in flight: $(<"/sys/block/${disk#/dev/}/inflight")"; return 1; }
	until_true 30 opens_exclusively "$disk" || { echo "$disk is busy 30 s after the kill"; return 1; }
}

module_reloads() {
	[[ $DEVICE == vhost-blk-pci ]] || return 0
	until_true 30 module_unused || { echo "references left: $(</sys/module/vhost_blk/refcnt)"; return 1; }
	until_true 30 pages_are_unpinned || return
	rmmod vhost_blk || return
	if grep vhost_blk /proc/vmallocinfo; then
		echo "vmalloc memory of the unloaded module is left"
		return 1
	fi
	insmod "$module" || return
	until_true 30 test -c /dev/vhost-blk
}

# Counts that only grow when something is kept: all that can be freed is freed
# first, so that what is left is in use.
snapshot() {
	local shrink

	sync
	echo 3 >/proc/sys/vm/drop_caches
	for shrink in /sys/kernel/slab/*/shrink; do
		echo 1 >"$shrink"
	done 2>/dev/null
	{
		awk -v slabs="$slabs" 'NR > 2 { print "slab:" $1, $2, slabs * $5 }' /proc/slabinfo
		echo "vmalloc-areas $(wc -l </proc/vmallocinfo) 0"
		# In units of 256 KiB: a few pages a kill are noise of the machine.
		awk '$1 == "MemTotal:" { all = $2 } $1 == "MemFree:" { print "memory-used-256k", int((all - $2) / 256), 0 }' /proc/meminfo
	} >"$work/counts.$1"
}

kill_once() {
	local name=kill$1

	machine=pc guest_start "$name" "$disk" load serial=test runtime=600
	qmp_connect && await '^guest: load running' 240 && until_true 30 engine_is vhost || return
	until_true 30 in_flight || { echo "the guest does no I/O"; return 1; }
	qemu_kill
	device_is_free && module_reloads || return
	rm -f "$work/$name".*
	# Dropping the caches makes the next start slow: only where it counts.
	if (($1 > warm_up && $1 <= warm_up + window || $1 > kills - window)); then snapshot "$1"; fi
}

# A leak of one object a kill separates the last snapshots from the first by at
# least as many objects as there were kills between the two windows. The third
# column is the error of a count.
nothing_grows() {
	local first=() last=() i distance=$((kills - warm_up - 2 * window + 1))

	((distance > 1)) || { echo "too few kills to tell"; return 1; }
	for ((i = 1; i <= window; i++)); do
		first+=("$work/counts.$((warm_up + i))")
		last+=("$work/counts.$((kills - window + i))")
	done
	awk -v window="$window" -v distance="$distance" '
		FNR == 1 { file++ }
		{ error[$1] = $3 }
		file <= window && (!($1 in first) || $2 > first[$1]) { first[$1] = $2 }
		file > window && (!($1 in last) || $2 < last[$1]) { last[$1] = $2 }
		END {
			for (name in last) {
				if (last[name] - first[name] < distance + error[name]) { continue }
				print name, "grew in", distance, "kills from at most", first[name] + 0,
					"to at least", last[name]
				bad = 1
			}
			exit bad
		}' "${first[@]}" "${last[@]}"
}

kmemleak_is_silent() {
	local file=/sys/kernel/debug/kmemleak

	echo scan >"$file"
	# A pointer may be in a register during one scan; the second decides.
	sleep 5
	echo scan >"$file"
	[[ -z $(<"$file") ]] || { head -n 60 "$file"; return 1; }
}

# Free objects of a slab that a CPU holds count as used, but not when debugging.
slabs=4
[[ $(cat /sys/kernel/slab/filp/store_user 2>/dev/null) != 1 ]] || slabs=0

nested_init
echo "TAP version 13"
echo "# slab counts are $( ((slabs)) && echo "good to $slabs slabs" || echo exact)"
# Completions that take 2 ms leave requests in flight at any moment.
null_blk_create nullb0 64 irqmode=2 completion_nsec=2000000 || bail_out "no null_blk"
disk=$null_blk
# The disk's own pages are there before the first count.
dd if=/dev/urandom of="$disk" bs=1M count=64 oflag=direct status=none
for ((round = 1; round <= kills; round++)); do
	start=$SECONDS
	check "kill $round: nothing in flight, exclusive open, module reloads" kill_once "$round" ||
		bail_out "the device may be wedged; what follows would fail too"
	echo "# $((SECONDS - start)) s"
done
check "nothing grows from kill $((warm_up + 1)) to kill $kills" nothing_grows
if [[ -e /sys/kernel/debug/kmemleak ]]; then
	check "kmemleak" kmemleak_is_silent
fi
# For a closer look: run.sh --share DIR -- env COUNTS_DIR=DIR $0
if [[ ${COUNTS_DIR-} ]]; then cp "$work"/counts.* "$COUNTS_DIR"; fi
echo "1..$tap_nr"
exit "$tap_failed"
