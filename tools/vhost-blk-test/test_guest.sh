#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# TAP test with real guests: stock QEMU with the device plugin, nested in the
# test host. Start with: tools/vhost-blk-test/vm/run.sh --nested -- $0
# DEVICE=virtio-blk-pci runs the same without the module, to tell whose fault
# a failure is.
#
# check() calls the functions below; nested.sh sets what is not set here.
# shellcheck disable=SC2317,SC2154,SC1091
set -uo pipefail

. "$(dirname "${BASH_SOURCE[0]}")/vm/nested.sh"

text="sector 1 read and written by the BIOS"

# A boot sector that reads sector 1 through the BIOS, writes it to sector 2,
# prints it on the serial line and ends QEMU with status 85, or 3 on an error.
write_boot_sector() {
	local code

	code='31c08ed8be407cb442cd13721dc6440802b80043cd137212'   # read LBA 1, write LBA 2
	code+='be007ebaf803ac84c07403eeebf8'                      # lodsb; out 0x3f8
	code+='b02aeb02b001baf400eef4ebfd'                        # out 0xf4, 42 or 1
	code+=$(printf '00%.0s' {1..13})
	code+='10000100007e00000100000000000000'                  # disk address packet at 0x40
	{
		printf '%b' "$(fold -w 2 <<<"$code" | sed 's/^/\\x/' | tr -d '\n')"
		head -c $((510 - ${#code} / 2)) /dev/zero
		printf '\x55\xaa%s' "$text"
		head -c 2048 /dev/zero
	} | dd of="$1" bs=512 count=4 iflag=fullblock conv=fsync status=none
}

bios_boots() {
	local rc=0

	timeout 60 tail --pid="$qemu" -s 0.05 -f /dev/null || kill "$qemu"
	wait "$qemu" || rc=$?
	qemu_forget
	echo "QEMU's status $rc (85 is success, 3 an error of the BIOS); it printed:"
	cat "$serial" "${serial%.serial}.err"
	[[ $rc -eq 85 && $(<"$serial") == "$text" ]]
}

sector_is() {
	[[ $(dd if="$disk" bs=512 skip="$1" count=1 iflag=direct status=none | tr -d '\0') == "$2" ]]
}

test_bios() {
	write_boot_sector "$disk"
	qemu_start bios "$disk" -M q35 -m 64 -device isa-debug-exit,iobase=0xf4
	check "SeaBIOS boots from the device" bios_boots
	check "what the BIOS wrote is on the disk" sector_is 2 "$text"
}

# Results of the guest's own checks, as lines of ours.
guest_results() {
	local line

	while read -r line; do
		case $line in
		"guest: pass "*) result 0 "guest: ${line#guest: pass }" ;;
		"guest: FAIL "*) result 1 "guest: ${line#guest: FAIL }" ;;
		"guest: # "*) echo "# ${line#guest: # }" ;;
		esac
	done < <(tr -d '\r' <"$serial")
}

file_system_is_clean() {
	e2fsck -fn "$disk"
}

files_are_the_guests() {
	local sums want

	want=$(tr -d '\r' <"$serial" | sed -n 's/^guest: sums //p')
	mkdir -p "$work/mnt"
	mount -t ext4 -o ro "$disk" "$work/mnt" || return
	sums=$(sha256sum "$work/mnt/sums" | cut -d' ' -f1)
	(cd "$work/mnt" && sha256sum -c sums)
	local rc=$?
	umount "$work/mnt"
	echo "sha256 of the list is $sums, the guest said ${want:-nothing}"
	[[ $rc -eq 0 && -n $want && $sums == "$want" ]]
}

# The host keeps the device open, so that its page cache outlives each command:
# dirty before the guest starts, full of old data while it writes.
test_verify() {
	local sum held

	exec {held}<"$disk"
	head -c 1048576 /dev/urandom >"$work/first"
	sum=$(sha256sum <"$work/first" | cut -d' ' -f1)
	cat <"$disk" >/dev/null
	dd if="$work/first" of="$disk" bs=1M conv=notrunc status=none
	serial_number=vhost-blk-serial-0-9 machine=q35 guest_start verify "$disk" verify \
		serial=vhost-blk-serial-0-9 sectors="$(<"/sys/block/${disk#/dev/}/size")" sum="$sum"
	check "QEMU starts" qmp_connect || return
	check "guest boots" await '^guest: ready' 90 || return
	check "the disk's engine is the kernel" until_true 10 engine_is vhost
	check "guest ends its script without a failure" await '^guest: done 0' 240
	guest_results
	check "guest switches itself off, QEMU ends" qemu_wait 30
	check "no request is left in flight" idle "$disk"
	check "e2fsck finds the guest's file system clean" file_system_is_clean
	check "the guest's files have its checksums on the host" files_are_the_guests
	exec {held}<&-
	check "the disk opens exclusively" opens_exclusively "$disk"
}

completed() {
	local -a stat

	read -r -a stat <"/sys/block/${disk#/dev/}/stat"
	echo $((stat[0] + stat[4]))
}

completed_more_than() {
	(($(completed) > $1))
}

nothing_moves() {
	local before

	until_true 10 idle "$disk" || { echo "in flight: $(<"/sys/block/${disk#/dev/}/inflight")"; return 1; }
	before=$(completed)
	# Not a wait for something: the time in which nothing may happen.
	sleep 1
	[[ $(completed) -eq $before ]]
}

stop_and_cont() {
	qmp '{"execute":"stop"}' || return
	nothing_moves || { echo "the stopped guest's disk is not quiet"; return 1; }
	local before
	before=$(completed)
	qmp '{"execute":"cont"}' || return
	until_true 20 completed_more_than "$((before + 64))" || { echo "no I/O after cont"; return 1; }
	until_true 10 engine_is vhost
}

test_control() {
	machine=pc guest_start control "$disk" load serial=test runtime=12
	check "QEMU starts" qmp_connect || return
	check "guest boots and loads the disk" await '^guest: load running' 240 || return
	check "the disk's engine is the kernel" until_true 10 engine_is vhost
	check "stop quiets the disk, cont goes on" stop_and_cont
	check "again" stop_and_cont
	check "reset under load" qmp '{"execute":"system_reset"}'
	check "guest boots again and loads the disk" await '^guest: load running' 240 2
	check "the disk's engine is the kernel again" until_true 10 engine_is vhost
	check "stop and cont after the reset" stop_and_cont
	check "verified load ends without a failure" await '^guest: done 0' 120
	check "guest switches itself off, QEMU ends" qemu_wait 30
	check "no request is left in flight" idle "$disk"
}

test_queues() {
	machine=pc guest_cpus=2 device_options=num-queues=4,queue-size=64 \
		guest_start queues "$disk" load serial=test runtime=4
	check "QEMU starts with 4 queues" qmp_connect || return
	check "guest loads the disk" await '^guest: load running' 240
	check "the disk's engine is the kernel" until_true 10 engine_is vhost
	check "verified load on several queues" await '^guest: done 0' 90
	check "QEMU ends" qemu_wait 30
}

# Bios that the disk below the image file had to make stable at once.
stable_trace_start() {
	local dir=/sys/kernel/tracing/instances/image device

	mkdir "$dir" || return
	device=$(stat -c '%Hr %Lr' "$1")
	echo "dev == $((${device% *} << 20 | ${device#* }))" >"$dir/events/block/block_bio_queue/filter" &&
		echo 1 >"$dir/events/block/block_bio_queue/enable"
}

# As many as the guest wrote in write-through mode, and hardly any else.
stable_trace_fits() {
	local count

	count=$(grep -cE 'block_bio_queue: [0-9,]+ [A-Z]*F' /sys/kernel/tracing/instances/image/trace)
	echo "$count bios flushed or were FUA, of 64 writes in write-through mode"
	((count >= 64 && count < 128))
}

stable_trace_stop() {
	echo 0 >/sys/kernel/tracing/instances/image/events/block/block_bio_queue/enable
	rmdir /sys/kernel/tracing/instances/image
}

# allocated_is FILE MIB: but for what the file system needs itself
allocated_is() {
	local kib

	sync "$1"
	kib=$(du -k "$1" | cut -f 1)
	echo "$kib KiB are allocated, $2 MiB expected"
	((kib >= $2 * 1024 && kib < ($2 + 1) * 1024))
}

# image_guest NAME FILE DISCARDS [OPTIONS]: the guest script on an image file
image_guest() {
	guest_start "$1" "$2${4-}" image serial=test discards="$3"
	check "$1: QEMU starts" qmp_connect || return
	check "$1: guest boots" await '^guest: ready' 90 || return
	check "$1: the file's engine is the kernel" until_true 10 engine_is vhost
	check "$1: guest ends its script without a failure" await '^guest: done 0' 120
	guest_results
	check "$1: guest switches itself off, QEMU ends" qemu_wait 30
}

test_image() {
	local dir=$work/image.d image=$work/image.d/image

	null_blk_create nullb1 128 cache_size=16 discard=1 || { result 1 "a disk for an image file"; return; }
	mkdir "$dir"
	check "file system for an image file" \
		mke2fs -q -F -t ext4 -b 4096 -E nodiscard,lazy_itable_init=1 "$null_blk" &&
		check "mount" mount -o noinit_itable,commit=600 "$null_blk" "$dir" || return
	truncate -s 40M "$image"
	check "trace of the disk below" stable_trace_start "$null_blk"
	image_guest unmap "$image" 1 ,discard=unmap
	check "what the guest discarded is free on the host" allocated_is "$image" 16
	check "writes are made stable in write-through mode only" stable_trace_fits
	stable_trace_stop
	image_guest ignore "$image" 0
	check "a discard that QEMU ignores is ignored" allocated_is "$image" 32
	check "nobody has the file open" umount "$dir"
	null_blk_remove nullb1
}

nested_init
echo "TAP version 13"
null_blk_create nullb0 256 || bail_out "no null_blk"
disk=$null_blk
for section in test_bios test_verify test_control test_queues test_image; do
	"$section"
	# A section that ended early leaves its QEMU.
	qemu_kill
done
echo "1..$tap_nr"
exit "$tap_failed"
