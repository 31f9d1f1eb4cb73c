#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# TAP test: what becomes of requests that the host's disk fails, with each rerror= and
# werror=: disks that are switched to errors under load, and such that are full, until
# there is room again. One guest with a disk for each.
# Start with: tools/vhost-blk-test/vm/run.sh --nested -- $0
#
# check() calls the functions below; nested.sh sets what is not set here.
# shellcheck disable=SC2317,SC2154,SC1091
set -uo pipefail

. "$(dirname "${BASH_SOURCE[0]}")/vm/shell.sh"

loops=$((2 * ${VT_LOOPS-1}))
sectors=65536	# of each disk on device mapper

# slice_create NAME INDEX: a disk that is a part of null_blk
declare -A slice=()
slice_create() {
	slice[$1]="0 $sectors linear $null_disk $(($2 * sectors))"
	dm_create "$1" "${slice[$1]}"
}

# A disk on which all fails, and a good one again.
break_disk() {
	dm_switch "$1" "0 $sectors error"
}

mend_disk() {
	dm_switch "$1" "${slice[$1]}"
}

# drive ID FILE DRIVER OPTIONS: QEMU's arguments for a disk
drive() {
	args+=(-blockdev "$(blockdev "$1" "$2" "$3")" -device "$DEVICE,id=$1,drive=$1,serial=$1,$4")
}

# has_stopped ID STATUS: QEMU has stopped the machine once more, for an error on that
# disk, whose io-status is that now. There is one STOP for a batch of BLOCK_IO_ERRORs.
stopped=0
has_stopped() {
	local nospace=false

	[[ $2 != nospace ]] || nospace=true
	stopped=$((stopped + 1))
	event '"event": "STOP"' 60 "$stopped" && status_is io-error && io_status_is "$1" "$2" &&
		grep '"BLOCK_IO_ERROR"' "$events" | grep -F '"node-name": "'"$1"'"' | grep -F '"action": "stop"' |
		grep -F '"nospace": '"$nospace" | tail -n 1
}

has_not_stopped() {
	qmp '{"execute":"query-status"}' && (($(grep -c '"event": "STOP"' "$events") == stopped))
}

# status_is STATUS
status_is() {
	local status

	status=$(qmp_get '{"execute":"query-status"}' .status)
	echo "the machine is: $status"
	[[ $status == "$1" ]]
}

# io_status_is ID STATUS
io_status_is() {
	local status

	status=$(qmp_get '{"execute":"query-block"}' \
		".[] | select(.qdev | . != null and startswith(\"/machine/peripheral/$1/\")) | .[\"io-status\"]")
	echo "the disk is: $status"
	[[ $status == "$2" ]]
}

cont() {
	qmp '{"execute":"cont"}'
}

# many_in_flight DISK: requests that the guest has sent to a disk that does not answer
many_in_flight() {
	guest_do 10 "cat /sys/block/$1/inflight; read -r in out </sys/block/$1/inflight; ((in + out >= 8))"
}

# fail_in_flight ID DISK: requests of both queues fail at the same time
fail_in_flight() {
	dmsetup suspend --nolockfs "$1" || return
	until_true 20 many_in_flight "$2"
	local rc=$?
	dmsetup load "$1" --table "0 $sectors error" && dmsetup resume "$1" && return "$rc"
}

stop_and_retry() {
	fail_in_flight stop "$disk" && has_stopped stop failed || return
	# Still broken: the retried requests fail again.
	cont && has_stopped stop failed || return
	mend_disk stop && cont && guest_do 60 "await_requests $disk 128 50" && status_is running &&
		until_true 20 engine_is vhost stop
}

# same_data ID DISK MIB: the guest reads what the host reads
same_data() {
	local guest host

	guest=$(guest_do 60 "checksum $2 0 $3" | tail -n 1)
	host=$(dd if="$(file_of "$1")" bs=1M count="$3" iflag=direct status=none | sha256sum | cut -d' ' -f1)
	echo "sha256 in the guest: $guest, on the host: $host"
	[[ $guest == "$host" ]]
}

file_of() {
	if [[ $1 == file ]]; then echo "$image"; else dm_path "$1"; fi
}

# name_in_guest ID: sets disk
name_in_guest() {
	disk=$(guest_do 60 "await_disk $1 50" | tail -n 1)
	[[ $disk == vd* ]] || { echo "$disk"; return 1; }
	until_true 10 engine_is vhost "$1"
}

test_stop() {
	local i

	check "stop: the kernel serves" name_in_guest stop || return
	check "stop: load on two queues" guest_do 90 "load $disk --numjobs=2 --offset_increment=16m --size=16m \
		--iodepth=16 --fdatasync=16" || return
	for ((i = 1; i <= loops; i++)); do
		check "stop: errors stop the machine, cont retries, $i of $loops" stop_and_retry || return
	done
	check "stop: the guest has seen no error" guest_do 60 "load_stop $disk"
	check "stop: guest and host read the same" same_data stop "$disk" 32
}

# errors_are COUNT RW: of 64 requests with 16 in flight
errors_are() {
	local count

	count=$(guest_do 60 "errors --filename=/dev/$disk --rw=$2 --bs=4k --size=16m --io_size=256k \
		--iodepth=16" | tail -n 1)
	echo "$count of 64 requests failed, $1 should"
	[[ $count == "$1" ]]
}

# verified: a disk that is good again
verified() {
	local count

	count=$(errors_are 0 randwrite) || { echo "$count"; return 1; }
	guest_do 90 "load $disk --size=8m && load_stop $disk"
}

counted_failures() {
	local reads writes

	reads=$(blockstat "$1" failed_rd_operations)
	writes=$(blockstat "$1" failed_wr_operations)
	echo "QEMU has counted $reads failed reads and $writes failed writes"
	((reads == $2 && writes == $3))
}

# test_no_stop ID FAILURES TEXT: errors on a disk, but the machine goes on
test_no_stop() {
	check "$1: the kernel serves" name_in_guest "$1" || return
	check "$1: the disk breaks" break_disk "$1"
	check "$1: $3 on writes" errors_are "$2" randwrite
	check "$1: $3 on reads" errors_are "$2" randread
	check "$1: the machine runs" status_is running
	check "$1: it has not stopped" has_not_stopped
	[[ $1 == ignore ]] || check "$1: failures are counted" until_true 5 counted_failures "$1" 64 64
	check "$1: the disk is good again" mend_disk "$1"
	check "$1: verified load" verified
	check "$1: guest and host read the same" same_data "$1" "$disk" 8
	check "$1: the kernel serves" until_true 20 engine_is vhost "$1"
}

# Half of what the guest writes has room; with cont alone it has not more.
full_stops() {
	guest_do 30 "fio --name=fill --filename=/dev/$disk --ioengine=libaio --direct=1 --rw=write --bs=64k \
		--size=8m --iodepth=16 --verify=crc32c --verify_fatal=1 >/tmp/fill.$disk 2>&1 & job=\$!"
	has_stopped "$1" nospace && cont && has_stopped "$1" nospace
}

# test_full ID COMMAND...: which makes room
test_full() {
	local id=$1

	shift
	check "enospc, full $id: the kernel serves" name_in_guest "$id" || return
	check "enospc, full $id: the machine stops, and again" full_stops "$id" || return
	check "enospc, full $id: there is room" "$@"
	check "enospc, full $id: cont" cont
	check "enospc, full $id: guest writes and verifies all" guest_do 60 "wait \$job || { cat /tmp/fill.$disk; false; }"
	check "enospc, full $id: the machine runs" status_is running
	check "enospc, full $id: guest and host read the same" same_data "$id" "$disk" 8
	check "enospc, full $id: the kernel serves" until_true 20 engine_is vhost "$id"
}

# A sparse file on a file system with 4 MiB left.
make_file() {
	local dir=$work/image.d kib

	null_blk_create nullb1 32 || return
	image=$dir/image
	mkdir "$dir"
	mke2fs -q -F -t ext4 -b 4096 -m 0 -E nodiscard,lazy_itable_init=1 "$null_blk" &&
		mount -o noinit_itable "$null_blk" "$dir" && truncate -s 32M "$image" || return
	kib=$(df -k --output=avail "$dir" | tail -n 1)
	fallocate -l $((kib - 4096))K "$dir/ballast"
}

# A thin disk in a pool with 4 MiB.
make_thin() {
	slice_create thin-meta 5 && dm_create thin-data "0 8192 linear $null_disk $((6 * sectors))" &&
		dm_create thin-pool "0 8192 $pool" && dmsetup message thin-pool 0 "create_thin 0" &&
		dm_create thin "0 $sectors thin /dev/mapper/thin-pool 0"
}

free_space() {
	rm "$work/image.d/ballast" && sync -f "$work/image.d"
}

grow_pool() {
	dm_switch thin-data "0 $sectors linear $null_disk $((6 * sectors))" && dm_switch thin-pool "0 $sectors $pool"
}

# Requests that wait for a retry must not keep QEMU from ending.
test_quit() {
	check "quit: the disk" name_in_guest stop || return
	check "quit: load" guest_do 90 "load $disk" || return
	check "quit: the disk breaks" fail_in_flight stop "$disk"
	check "quit: the machine stops" has_stopped stop failed
	check "quit: QEMU takes the command" qmp '{"execute":"quit"}'
	check "quit: QEMU ends" qemu_wait 30
	check "quit: nothing is left in flight" idle "$(dm_path stop)"
	check "quit: the disk opens exclusively" opens_exclusively "$(dm_path stop)"
	[[ $DEVICE != vhost-blk-pci ]] || check "quit: the module is unused" module_unused
}

nested_init
echo "TAP version 13"
null_blk_create nullb0 256 irqmode=2 completion_nsec=1000000 || bail_out "no null_blk"
null_disk=$null_blk
pool="thin-pool /dev/mapper/thin-meta /dev/mapper/thin-data 128 1 1 error_if_no_space"
args=()
nr=0
for id in stop report ignore enospc; do
	slice_create "$id" $((nr++)) || bail_out "no device mapper"
	case $id in
	enospc) policy=werror=enospc ;;
	stop) policy=rerror=stop,werror=stop,num-queues=2 ;;
	*) policy=rerror=$id,werror=$id ;;
	esac
	drive "$id" "$(dm_path "$id")" host_device "$policy"
done
make_file || bail_out "no file system for an image"
drive file "$image" file werror=enospc
modprobe dm_thin_pool && make_thin || bail_out "no thin disk"
drive thin "$(dm_path thin)" host_device werror=enospc
guest_cpus=2 shell_start errors "${args[@]}"
if check "QEMU starts" qmp_connect && check "guest boots" await '^guest: shell' 90; then
	test_stop
	test_no_stop report 64 "errors reach the guest"
	test_no_stop ignore 0 "errors are ignored"
	test_no_stop enospc 64 "other errors reach the guest"
	test_full file free_space
	test_full thin grow_pool
	test_quit
fi
qemu_kill
umount "$work/image.d"
for id in thin thin-pool thin-data thin-meta stop report ignore enospc; do dmsetup remove --retry "$id"; done
check "nobody has the disks open" opens_exclusively "$null_disk"
echo "1..$tap_nr"
exit "$tap_failed"
