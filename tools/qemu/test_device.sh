#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Test what of vhost-blk-pci can be tested without the kernel module: the stock
# QEMU with the plugin, no guest. Prints TAP; exit status 1 if a test failed.
#
#   test_device.sh [QEMU | --release RELEASE]
#       QEMU: a binary with the device built in; then no plugin is loaded
#       RELEASE: the stock QEMU of another Debian release, with the plugin for it
set -euo pipefail
export LC_ALL=C

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
RELEASE=()
STOCK=qemu-system-x86_64
if [[ ${1:-} == --release ]]; then
	RELEASE=(--release "${2:?}")
	shift 2
fi
QEMU=${1:-}
TMP=$(mktemp -d)
trap 'rm -rf "$TMP"' EXIT

NR=0
FAILED=0
OUT=
RC=0

ok()
{
	NR=$((NR + 1))
	echo "ok $NR - $1"
}

not_ok()
{
	NR=$((NR + 1))
	FAILED=$((FAILED + 1))
	echo "not ok $NR - $1"
	{
		echo "exit status $RC, end of the output:"
		tail -n 20 <<<"$OUT"
	} | sed 's/^/# /'
}

skip()
{
	NR=$((NR + 1))
	echo "ok $NR - $1 # SKIP $2"
}

# Run QEMU, paused and without a guest, give it the HMP commands of stdin, and
# let it quit. Leaves OUT and RC.
run()
{
	local plugin=() line

	[[ $QEMU ]] || plugin=(-plugin "$PLUGIN")
	{
		echo '{"execute": "qmp_capabilities"}'
		while read -r line; do
			printf '{"execute": "human-monitor-command", "arguments": {"command-line": "%s"}}\n' "$line"
		done
		echo '{"execute": "quit"}'
	} >"$TMP/qmp"
	RC=0
	timeout -k 5 60 "${QEMU:-$STOCK}" -nodefaults -display none -S \
		-machine pc -accel tcg "${plugin[@]}" -qmp stdio "$@" \
		<"$TMP/qmp" >"$TMP/out" 2>&1 || RC=$?
	OUT=$(sed 's/\\r\\n/\n/g; s/\\"/"/g' "$TMP/out")
}

# $1: name, $2: exit status, further: extended regular expressions that the
# output must match, or, with a ! in front, must not match.
check()
{
	local name=$1 want=$2 regex
	shift 2

	if [[ $RC -ne $want ]]; then
		not_ok "$name (exit status $RC, not $want)"
		return
	fi
	for regex; do
		if [[ $regex == !* ]] && grep -Eq -- "${regex#!}" <<<"$OUT"; then
			not_ok "$name (unexpected: ${regex#!})"
			return
		elif [[ $regex != !* ]] && ! grep -Eq -- "$regex" <<<"$OUT"; then
			not_ok "$name (missing: $regex)"
			return
		fi
	done
	ok "$name"
}

test_properties()
{
	local property

	# Not "-device ...,help": QEMU answers that before it loads a plugin.
	run <<<"device_add vhost-blk-pci,help"
	local regexes=()
	for property in vhostfd drive serial num-queues queue-size seg-max-adjust bootindex \
		logical_block_size physical_block_size min_io_size opt_io_size vectors \
		write-cache share-rw config-wce discard write-zeroes iothread werror rerror \
		ioeventfd addr disable-legacy disable-modern iommu_platform; do
		regexes+=("^ *$property=<")
	done
	check "vhost-blk-pci has every property of virtio-blk-pci that users set" 0 "${regexes[@]}"

	run <<<"info qdm"
	check "the three PCI types are there" 0 '"vhost-blk-pci"' \
		'"vhost-blk-pci-transitional"' '"vhost-blk-pci-non-transitional"'

	run <<<"device_add vhost-blk-pci-transitional,help"
	check "the transitional type has no disable-legacy" 0 'drive=<' '!disable-legacy='
}

test_realize()
{
	local drive=(-drive "if=none,id=d0,format=raw,file=$TMP/disk")

	truncate -s 1M "$TMP/disk"

	run -device vhost-blk-pci,drive=none </dev/null
	check "an unknown drive is an error" 1 "can't find value 'none'"

	run "${drive[@]}" -device vhost-blk-pci,drive=d0,num-queues=17 </dev/null
	check "more than 16 queues are an error" 1 'num-queues must be at most 16'

	run "${drive[@]}" -device vhost-blk-pci,drive=d0,vhostfd=77 </dev/null
	check "a closed vhostfd is an error" 1 'vhostfd=77 is not an open /dev/vhost-blk'

	run "${drive[@]}" -device vhost-blk-pci,drive=d0,vhostfd=9 </dev/null 9<>/dev/null
	check "a vhostfd that is something else is an error" 1 \
		'vhostfd=9 is not an open /dev/vhost-blk'

	run "${drive[@]}" -device vhost-blk-pci,drive=d0,vhostfd=nonsense </dev/null
	check "a vhostfd that is no fd is an error" 1 \
		"vhostfd: Invalid file descriptor number 'nonsense'"

	run "${drive[@]}" <<<"device_add vhost-blk-pci,drive=d0,vhostfd=nonsense"
	check "hotplug looks vhostfd up among the monitor's fds" 0 \
		"vhostfd: File descriptor named 'nonsense' has not been found"
}

# From QEMU 9.0 on each virtqueue may have an iothread of its own.
test_iothreads()
{
	local name="each virtqueue can have an iothread of its own" mapping

	run <<<"device_add virtio-blk-pci,help"
	if ! grep -q "iothread-vq-mapping=" <<<"$OUT"; then
		skip "$name" "virtio-blk-pci of this QEMU has no iothread-vq-mapping"
		return
	fi
	mapping='{"driver": "vhost-blk-pci", "drive": "d0", "num-queues": 4, "id": "v0",
		"iothread-vq-mapping": [{"iothread": "t0"}, {"iothread": "t1"}]}'
	truncate -s 1M "$TMP/disk"
	run -drive "if=none,id=d0,format=raw,file=$TMP/disk" -object iothread,id=t0 \
		-object iothread,id=t1 -device "$mapping" <<<"info qtree"
	check "$name" 0 'dev: vhost-blk-pci, id "v0"'
}

test_no_module()
{
	local drive=(-drive "if=none,id=d0,format=raw,file=$TMP/disk")

	if [[ -e /dev/vhost-blk ]]; then
		skip "without /dev/vhost-blk QEMU serves, and says what to do" "/dev/vhost-blk exists"
		skip "vhost=off says nothing" "/dev/vhost-blk exists"
		skip "vhost=on makes it an error" "/dev/vhost-blk exists"
		skip "a failed hotplug leaves the drive usable" "/dev/vhost-blk exists"
		return
	fi
	run "${drive[@]}" -device vhost-blk-pci,drive=d0 </dev/null
	check "without /dev/vhost-blk QEMU serves, and says what to do" 0 \
		"QEMU itself serves drive 'd0'" \
		'cannot open /dev/vhost-blk: No such file or directory' 'modprobe vhost_blk' permission

	run "${drive[@]}" -device vhost-blk-pci,drive=d0,vhost=off </dev/null
	check "vhost=off says nothing" 0 '!serves' '!/dev/vhost-blk'

	run "${drive[@]}" -device vhost-blk-pci,drive=d0,vhost=on </dev/null
	check "vhost=on makes it an error" 1 \
		'cannot open /dev/vhost-blk: No such file or directory' 'modprobe vhost_blk' permission

	run "${drive[@]}" <<-'END'
		device_add vhost-blk-pci,drive=d0,id=v0,vhost=on
		device_add virtio-blk-pci,drive=d0,id=v1
		info qtree
	END
	check "a failed hotplug leaves the drive usable" 0 \
		'cannot open /dev/vhost-blk' '!dev: vhost-blk-pci, id "v0"' \
		'dev: virtio-blk-pci, id "v1"'
}

test_wrong_qemu()
{
	local right=${PLUGIN:-}

	if [[ $QEMU ]]; then
		skip "another QEMU than it was built for is refused" "no plugin"
		return
	fi
	"$HERE/build-plugin.sh" "${RELEASE[@]}" --expect 'Debian 1:0.0-0' --output "$TMP/wrong.so" \
		>"$TMP/build.log" 2>&1 || {
		OUT=$(<"$TMP/build.log")
		not_ok "a plugin for another QEMU can be built"
		return
	}
	PLUGIN=$TMP/wrong.so
	run </dev/null
	PLUGIN=$right
	check "another QEMU than it was built for is refused" 1 \
		'this plugin is for QEMU Debian 1:0\.0-0, but this is QEMU .*build-plugin\.sh'
}

main()
{
	PLUGIN=
	if [[ ! $QEMU ]]; then
		PLUGIN=$("$HERE/build-plugin.sh" "${RELEASE[@]}" | tail -n 1)
		[[ ${#RELEASE[@]} -eq 0 ]] ||
			STOCK=$("$HERE/build-plugin.sh" "${RELEASE[@]}" --qemu)
	fi
	test_properties
	test_realize
	test_iothreads
	test_no_module
	test_wrong_qemu
	echo "1..$NR"
	[[ $FAILED -eq 0 ]]
}

main
