#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# TAP test: one guest whose disk is plugged, loaded and unplugged under the load,
# again and again; what that leaves in QEMU and on the host is counted. Then disks
# grow and shrink under load.
# Start with: tools/vhost-blk-test/vm/run.sh --nested -- $0 [ROUNDS]
# With machine=q35 the disks are behind PCI Express root ports.
#
# check() calls the functions below; nested.sh sets what is not set here.
# shellcheck disable=SC2317,SC2154,SC1091
set -uo pipefail

. "$(dirname "${BASH_SOURCE[0]}")/vm/shell.sh"

rounds=${1-$((5 * ${VT_LOOPS-1}))}
warm_up=2	# rounds that fill what QEMU keeps for later
deleted=0
mib=$((1 << 20))

# plug NODE SERIAL [JSON]: the device "hot"; sets guest_disk to its name in the guest
plug() {
	local bus=''

	[[ ${machine-pc} != q35 ]] || bus=',"bus":"hotport"'
	qmp '{"execute":"device_add","arguments":{"driver":"'"$DEVICE"'","id":"hot","drive":"'"$1"'",
		"serial":"'"$2"'"'"$bus${3:+,$3}"'}}' || return
	guest_disk=$(guest_do 60 "await_disk $2 50") || { echo "$guest_disk"; return 1; }
	until_true 20 engine_is vhost hot
}

unplug() {
	deleted=$((deleted + 1))
	qmp '{"execute":"device_del","arguments":{"id":"hot"}}'
}

unplugged() {
	event 'DEVICE_DELETED.*"device": "hot"' 60 "$deleted"
}

# Threads by name, without those of QEMU's pool, which come and go; open files; what
# the C library's heap takes.
count() {
	local -A names=()
	local task name

	for task in "/proc/$qemu/task"/*; do
		name=$(<"$task/comm")
		[[ $name == worker ]] || names[$name]=$((${names[$name]-0} + 1))
	done
	threads=$(for name in "${!names[@]}"; do echo "$name=${names[$name]}"; done | sort | tr '\n' ' ')
	files=$(find "/proc/$qemu/fd" -type l -printf '%l\n' | sort)
	# Before 6.4 they are kernel threads.
	workers=$(cat /proc/[0-9]*/comm 2>/dev/null | grep -cx "vhost-$qemu")
	heap=$(awk '/\[heap\]$/ { heap = 1 } heap && $1 == "Rss:" { print $2; exit }' "/proc/$qemu/smaps")
}

nothing_is_left() {
	local old_threads=$threads old_files=$files

	count
	echo "threads: $threads, before: $old_threads, workers: $workers"
	diff <(echo "$old_files") <(echo "$files") || return
	[[ $threads == "$old_threads" && $workers -eq 0 ]] || return
	[[ $DEVICE != vhost-blk-pci ]] || module_unused
}

# A device takes more than 150 KiB, for 1024 virtqueues. For a moment its end takes
# much more.
heap_is_steady() {
	local allowed=$(((rounds - warm_up) * 32 + 64))

	count
	echo "heap: $first_heap KiB after $warm_up rounds, $heap KiB after $rounds, may grow by $allowed"
	((heap - first_heap <= allowed))
}

# What the guest wrote before the load, read by the host when the disk is unplugged.
guest_writes() {
	sum=$(guest_do 30 "dd if=/dev/urandom of=/dev/$guest_disk bs=1M seek=40 count=1 oflag=direct status=none &&
		checksum $guest_disk 40 1" | tail -n 1)
	[[ $sum =~ ^[0-9a-f]{64}$ ]] || { echo "the guest says: $sum"; return 1; }
}

host_reads() {
	local have

	have=$(dd if="$disk" bs=1M skip=40 count=1 iflag=direct status=none | sha256sum | cut -d' ' -f1)
	echo "sha256 $have, the guest's $sum"
	[[ $have == "$sum" ]]
}

# The verifying load has seen no error until then.
plug_and_unplug() {
	plug disk "round$1" && guest_writes && guest_do 90 "load $guest_disk" || return
	until_true 10 in_flight "$disk" && guest_do 10 "kill -0 \${load[$guest_disk]}" || return
	unplug && unplugged && guest_do 60 "load_dies $guest_disk 30 && await_gone $guest_disk 10" || return
	idle "$disk" && host_reads && nothing_is_left
}

test_rounds() {
	local i start

	for ((i = 1; i <= rounds; i++)); do
		start=$SECONDS
		check "round $i: unplugged under load, nothing is left" plug_and_unplug "$i" ||
			return
		echo "# $((SECONDS - start)) s, heap $heap KiB"
		((i != warm_up)) || first_heap=$heap
	done
	((rounds <= warm_up)) || check "QEMU's heap does not grow" until_true 20 heap_is_steady
}

guest_has_in_flight() {
	guest_do 10 "cat /sys/block/$guest_disk/inflight; read -r in out </sys/block/$guest_disk/inflight &&
		((in + out >= 8))"
}

not_yet_unplugged() {
	qmp '{"execute":"query-status"}' && (($(grep -c 'DEVICE_DELETED.*"device": "hot"' "$events") < deleted))
}

# A host disk that does not answer: the requests are in flight for as long as we want.
unplug_in_flight() {
	plug disk stalled && guest_do 90 "load $guest_disk" || return
	dmsetup suspend --nolockfs disk || return
	until_true 20 guest_has_in_flight && unplug && not_yet_unplugged
	local rc=$?
	dmsetup resume disk || return
	((rc == 0)) && unplugged && guest_do 60 "load_dies $guest_disk 30 && await_gone $guest_disk 10" &&
		nothing_is_left
}

# QEMU and the guest go on meanwhile.
module_reloads() {
	[[ $DEVICE == vhost-blk-pci ]] || return 0
	rmmod vhost_blk && insmod "$VHOST_BLK_MODULE" && until_true 10 test -c /dev/vhost-blk
}

plug_again() {
	plug disk again && guest_do 90 "load $guest_disk" && guest_do 60 "load_stop $guest_disk"
}

remove() {
	unplug && unplugged && guest_do 30 "await_gone $guest_disk 20"
}

# resize NODE MIB: the guest sees it, its load goes on, the kernel serves
resize() {
	qmp '{"execute":"block_resize","arguments":{"node-name":"'"$1"'","size":'$(($2 * mib))'}}' &&
		guest_do 30 "await_sectors $guest_disk $(($2 * 2048)) 20 &&
			await_requests $guest_disk 64 30" || return
	until_true 20 engine_is vhost hot
}

# write_last MIB FILE: the last MiB of the disk is what the guest wrote there
write_last() {
	local have

	sum=$(guest_do 30 "dd if=/dev/urandom of=/dev/$guest_disk bs=1M seek=$(($1 - 1)) count=1 \
		oflag=direct status=none && checksum $guest_disk $(($1 - 1)) 1" | tail -n 1)
	have=$(dd if="$2" bs=1M skip=$(($1 - 1)) count=1 iflag=direct status=none | sha256sum | cut -d' ' -f1)
	echo "sha256 $have, the guest's $sum"
	[[ $have == "$sum" ]]
}

refused() {
	local invalid failed

	invalid=$(blockstat hot invalid_wr_operations)
	failed=$(blockstat hot failed_wr_operations)
	echo "$invalid invalid writes, $failed failed"
	((invalid + failed > 0))
}

# The disk ends before what the guest writes: its requests that wait for a place in
# the short ring were accepted by its kernel when there was room for them.
# shrink NODE MIB COMMAND...: which makes it that short
shrink() {
	local node=$1 now=$2 failed

	shift 2
	guest_do 30 "errors --filename=/dev/$guest_disk --rw=randwrite --bs=4k --iodepth=64 \
		--offset=${now}m --size=4m --norandommap --time_based --runtime=6 >/tmp/past_end & job=\$!;
		await_requests $guest_disk 64 25" && "$@" || return
	qmp '{"execute":"block_resize","arguments":{"node-name":"'"$node"'","size":'$((now * mib))'}}' || return
	guest_do 30 "await_sectors $guest_disk $((now * 2048)) 20" || return
	failed=$(guest_do 60 "wait \$job; cat /tmp/past_end" | tail -n 1)
	echo "$failed writes failed in the guest"
	((failed > 0)) && until_true 5 refused
}

no_longer_than() {
	local bytes

	bytes=$(stat -c %s "$1")
	echo "$1 is $bytes bytes long"
	((bytes == $2 * mib))
}

# What is on the disk below, behind the end of the one that has become shorter.
shorten() {
	dm_switch disk "0 $((80 * 2048)) linear $null_disk 0" || return
	tail_sum=$(sum_of_tail)
}

sum_of_tail() {
	dd if="$null_disk" bs=1M skip=80 count=16 iflag=direct status=none | sha256sum
}

nothing_past_the_end() {
	[[ $(sum_of_tail) == "$tail_sum" ]]
}

test_file_size() {
	local dir=$work/image.d image=$work/image.d/image

	# Slow, so that requests wait for others.
	null_blk_create nullb1 128 irqmode=2 completion_nsec=10000000 || { result 1 "a disk for a file"; return; }
	mkdir "$dir"
	mke2fs -q -F -t ext4 -b 4096 -E nodiscard,lazy_itable_init=1 "$null_blk" &&
		mount -o noinit_itable,commit=600 "$null_blk" "$dir" && truncate -s 48M "$image" || return
	check "a file is a node" qmp '{"execute":"blockdev-add","arguments":'"$(blockdev image "$image" file)"'}'
	check "it is plugged, with a short ring" plug image image '"queue-size":16,"share-rw":true' || return
	check "load" guest_do 90 "load $guest_disk" || return
	check "block_resize up under load" resize image 64
	check "the guest writes what is new" write_last 64 "$image"
	check "block_resize down under load" resize image 40
	check "the guest writes up to the end" write_last 40 "$image"
	check "load has seen no error" guest_do 60 "load_stop $guest_disk"
	check "writes fail that are past the new end" shrink image 36 true
	check "the file did not become longer" no_longer_than "$image" 36
	check "the guest writes up to the end again" write_last 36 "$image"
	check "the file is unplugged" remove
	check "its node is deleted" qmp '{"execute":"blockdev-del","arguments":{"node-name":"image"}}'
	check "nobody has it open" umount "$dir"
	null_blk_remove nullb1
}

test_device_size() {
	check "the host device is plugged again" plug disk disk '"queue-size":16' || return
	check "load" guest_do 90 "load $guest_disk" || return
	check "the host device grows under load" dm_switch disk "0 $((96 * 2048)) linear $null_disk 0"
	if guest_do 5 "await_sectors $guest_disk $((96 * 2048)) 2" >/dev/null; then
		echo "# the guest knows without block_resize"
	fi
	check "block_resize tells the guest" resize disk 96
	check "the guest writes what is new" write_last 96 "$disk"
	check "load has seen no error" guest_do 60 "load_stop $guest_disk"
	check "writes fail behind the end of a host device that shrinks" \
		shrink disk 80 shorten
	check "nothing is written past its end" nothing_past_the_end
	check "the guest writes up to the end again" write_last 80 "$disk"
	check "the host device is unplugged" remove
}

nested_init
echo "TAP version 13"
# Completions that take 2 ms leave requests in flight at any moment.
null_blk_create nullb0 128 irqmode=2 completion_nsec=2000000 || bail_out "no null_blk"
null_disk=$null_blk
dm_create disk "0 $((64 * 2048)) linear $null_disk 0" || bail_out "no device mapper"
disk=$(dm_path disk)
ports=()
# shellcheck disable=SC2054 # QEMU separates options by commas
[[ ${machine-pc} != q35 ]] || ports=(-device pcie-root-port,id=hotport,chassis=1)
shell_start hotplug -name hotplug,debug-threads=on "${ports[@]}" -blockdev "$(blockdev disk "$disk")"
if check "QEMU starts" qmp_connect && check "guest boots" await '^guest: shell' 90; then
	count
	test_rounds
	check "unplugged with requests in flight" unplug_in_flight
	check "the module can be unloaded and loaded" module_reloads
	check "a disk that is plugged then works" plug_again
	check "it is unplugged" remove
	test_file_size
	test_device_size
	check "the host device's node is deleted" \
		qmp '{"execute":"blockdev-del","arguments":{"node-name":"disk"}}'
	check "the host device opens exclusively" opens_exclusively "$disk"
	check "the module is not in use" module_reloads
	check "guest switches itself off, QEMU ends" guest_end
fi
qemu_kill
dmsetup remove --retry disk
echo "1..$tap_nr"
exit "$tap_failed"
