#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# What a request costs on null_blk, by each way to it; to be run in a test host on
# which a nanosecond is an instruction (run.sh --count-instructions). Prints one line
# of JSON for each case: who serves, irqmode of null_blk (0: completes at once, 1: in
# a soft interrupt, 2: by a timer after 10 us), size, requests in flight, and "ns", the
# cost of a request, or "allocations", how many of its objects come from the kernel's
# slab caches.
#
# usage: cost-host.sh VRING_COST IO_URING|"" [gate | profile DIRECTORY IRQMODE OPTION...]
#   gate      only what cost-gate.sh watches, after a line with the kernel's version
#   profile   only what profile.sh asks for, with these options of vring_cost; the
#             kernel's symbols go to DIRECTORY
#
# shellcheck disable=SC1091,SC2154 # nested.sh: null_blk
set -euo pipefail

# shellcheck source=tools/vhost-blk-test/vm/nested.sh
. "$(dirname "${BASH_SOURCE[0]}")/../vm/nested.sh"
# shellcheck source=tools/vhost-blk-test/bench/storage.sh
. "$(dirname "${BASH_SOURCE[0]}")/storage.sh"

vring_cost=$1 io_uring=$2
trap 'storage_stop' EXIT

# disk_create IRQMODE [NAME]: without memory behind it; sets disk
disk_create() {
	local name=${2-cost}

	[[ ! -d /sys/kernel/config/nullb/$name ]] || null_blk_remove "$name"
	irqmode=$1
	null_blk_create "$name" 1024 memory_backed=0 irqmode="$irqmode" completion_nsec=10000
	disk=$null_blk
	echo none >"/sys/block/${disk##*/}/queue/scheduler"
}

# row BACKEND JSON
row() {
	printf '{"backend":"%s","irqmode":%d,%s\n' "$1" "$irqmode" "${2#\{}"
}

# vring BACKEND DISK|SOCKET OPTION...
vring() {
	row "$1" "$("$vring_cost" "${@:3}" "$2")"
}

# fio_ms BYTES DEPTH REQUESTS: milliseconds that it ran for; its clock begins when all
# is set up. number_ios= would end when it has gone over the disk once.
fio_ms() {
	fio --name=cost --filename="$disk" --direct=1 --rw=randrw --norandommap --bs="$1" --iodepth="$2" \
		--ioengine=libaio --io_size=$(($1 * $3)) --output-format=json |
		jq '.jobs[0] | [.read.runtime, .write.runtime] | max'
}

# libaio BYTES DEPTH
libaio() {
	local least=10000 most=110000

	if (($1 > 65536)); then least=1000 most=5000; fi
	row libaio "$(printf '{"bytes":%d,"depth":%d,"queues":1,"indirect":false,"ns":%s}' "$1" "$2" \
		"$(bc <<<"scale=1; ($(fio_ms "$1" "$2" "$most") - $(fio_ms "$1" "$2" "$least")) * 1000000 / ($most - $least)")")"
}

# io_uring NAME BYTES DEPTH FIXED: by what it completes in its third second
io_uring() {
	local iops

	[[ $io_uring ]] || return 0
	iops=$("$io_uring" -d "$3" -s "$3" -c "$3" -b "$2" -p 0 -B "$4" -F "$4" -R 1 -X 0 -r 3 "$disk" |
		sed -nE 's/^Maximum IOPS=([0-9.]+)(K|M)?.*/\1 \2/p' |
		awk '{ print $1 * ($2 == "M" ? 1000000 : $2 == "K" ? 1000 : 1) }')
	row "$1" "$(printf '{"bytes":%d,"depth":%d,"queues":1,"indirect":false,"ns":%s}' "$2" "$3" \
		"$(bc <<<"scale=1; 1000000000 / $iops")")"
}

# Both ways to drive a vring, with the same options; requests enough for 0.1 s.
by_vring() {
	local backend=$1 target=$2 bytes depth

	for depth in 1 8 32 128; do
		vring "$backend" "$target" --depth "$depth"
	done
	[[ $irqmode == 0 ]] || return 0
	for bytes in 512 8192 65536; do
		vring "$backend" "$target" --bytes "$bytes"
	done
	vring "$backend" "$target" --bytes 1048576 --requests 2000
	vring "$backend" "$target" --indirect
	vring "$backend" "$target" --queues 4
}

# With eight devices, each with a disk of its own.
many_devices() {
	local i depth disks=()

	for ((i = 0; i < 8; i++)); do
		disk_create 0 "cost$i"
		disks+=("$disk")
	done
	for depth in 1 32; do
		row vhost-blk "$("$vring_cost" --depth "$depth" "${disks[@]}")"
	done
	for ((i = 0; i < 8; i++)); do null_blk_remove "cost$i"; done
}

# Of all tasks together.
allocations_so_far() {
	local event

	for event in kmalloc kmem_cache_alloc; do
		sed -nE 's/^ +Hits: //p' "/sys/kernel/tracing/events/kmem/$event/hist"
	done | paste -sd+ | bc
}

# allocations BYTES: between runs of different lengths, so that what set-up takes cancels
allocations() {
	local nr=20000 event requests count=()

	for event in kmalloc kmem_cache_alloc; do
		echo 'hist:keys=common_cpu' >"/sys/kernel/tracing/events/kmem/$event/trigger"
	done
	# The first one fills caches.
	for requests in $nr $nr $((2 * nr)); do
		"$vring_cost" --bytes "$1" --requests "$requests" "$disk" >"$work/run"
		count+=("$(allocations_so_far)")
	done
	for event in kmalloc kmem_cache_alloc; do
		echo '!hist:keys=common_cpu' >"/sys/kernel/tracing/events/kmem/$event/trigger"
	done
	# vring_cost runs 1.75 times what it counts.
	row vhost-blk "$(printf '{"bytes":%d,"depth":32,"queues":1,"indirect":false,"devices":1,"allocations":%.3f}' "$1" \
		"$(bc <<<"scale=4; (${count[2]} - 2 * ${count[1]} + ${count[0]}) / (1.75 * $nr)")")"
}

all_cases() {
	local mode depth bytes aio

	many_devices
	for mode in 0 1 2; do
		disk_create "$mode"
		for depth in 1 8 32 128; do
			libaio 4096 "$depth"
			io_uring io_uring 4096 "$depth" 0
			io_uring io_uring-fixed 4096 "$depth" 1
		done
		by_vring vhost-blk "$disk"
		for aio in native io_uring; do
			storage_start "$aio" 4 "$disk"
			by_vring "vhost-user-$aio" "$work/user0"
		done
		storage_stop
		[[ $mode == 0 ]] || continue
		for bytes in 4096 65536; do allocations "$bytes"; done
		for bytes in 512 8192 65536 1048576; do
			libaio "$bytes" 32
			io_uring io_uring "$bytes" 32 0
			io_uring io_uring-fixed "$bytes" 32 1
		done
	done
}

gate_cases() {
	printf '{"kernel":"%s"}\n' "$(uname -r -v)"
	disk_create 0
	for depth in 1 32; do
		vring vhost-blk "$disk" --depth "$depth"
	done
}

profile_cases() {
	disk_create "$2"
	vring vhost-blk "$disk" "${@:3}"
	cat /proc/kallsyms >"$1/symbols"
}

"${3-all}_cases" "${@:4}"
