#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# TAP test (I01): QEMU is killed with SIGKILL while its guest writes and flushes;
# everything that the guest's kernel had called stable by then is on the disk. A
# kill of QEMU leaves the cache of the disk intact; so half of the kills go along
# with a power cut of the disk, which takes what is in its cache.
# Start with: tools/vhost-blk-test/vm/run.sh --nested -- $0 [KILLS]
#   POWERCUT_KILLS   default of KILLS (5)
#
# check() calls the functions below; nested.sh sets what is not set here.
# shellcheck disable=SC2317,SC2154,SC1091
set -uo pipefail

. "$(dirname "${BASH_SOURCE[0]}")/vm/nested.sh"

kills=${1-${POWERCUT_KILLS-5}}
mib=48			# of the disk; the program is behind what is written
program_mib=40
spare_mib=44

program_build() {
	local source=${BASH_SOURCE[0]%/*}/guest/powercut.c

	"${CC-gcc}" -O2 -Wall -Wextra -Werror -D_GNU_SOURCE -static -s -pthread -o "$work/powercut" "$source"
}

program_put() {
	dd if="$work/powercut" of="$disk" bs=64k seek="${program_mib}M" oflag=seek_bytes conv=fsync status=none
}

# A new disk, which was never written, and new memory for what is acknowledged.
disk_new() {
	null_blk_create "$1" "$mib" "${@:2}" && disk=$null_blk && program_put &&
		rm -f "$work/shared.$1" && truncate -s 1M "$work/shared.$1"
}

acked() {
	od -An -tu4 -N4 "$shared" | tr -d ' '
}

acked_more_than() {
	(($(acked) > $1))
}

# A write that nobody flushes must be gone, or the cut would prove nothing.
power_cut() {
	local power=/sys/kernel/config/nullb/${disk#/dev/}/power at=$((spare_mib * 256)) left

	head -c 4096 /dev/zero | tr '\0' x | dd of="$disk" bs=4k seek="$at" iflag=fullblock oflag=direct status=none || return
	echo 0 >"$power" && echo 1 >"$power" && until_true 10 test -b "$disk" || return
	left=$(dd if="$disk" bs=4k count=1 skip="$at" iflag=direct status=none | tr -d '\0' | wc -c)
	echo "$left bytes of what was not flushed survived the power cut"
	((left == 0))
}

# kill_once NUMBER DISK cut|keep: let the guest write, kill QEMU, look at the disk
kill_once() {
	local name=kill$1 before

	disk=/dev/$2
	shared=$work/shared.$2
	before=$(acked)
	# shellcheck disable=SC2054 # QEMU separates options by commas
	qemu_start "$name" "$disk" -M pc -smp 2 -m 256 \
		-kernel "$(echo "$VHOST_BLK_KERNEL"/boot/vmlinuz-*)" -initrd "$VHOST_BLK_GUEST/initrd" \
		-append "console=ttyS0 panic=-1 quiet mitigations=off guest=powercut guest.program=$program_mib" \
		-drive "if=none,id=tools,file=$VHOST_BLK_GUEST/tools.img,format=raw,readonly=on,file.locking=off" \
		-device virtio-blk-pci,drive=tools,serial=tools \
		-object "memory-backend-file,id=shared,share=on,mem-path=$shared,size=1M" \
		-device ivshmem-plain,memdev=shared
	qmp_connect && await '^guest: load running' 240 && until_true 10 engine_is vhost || return
	# At another moment of its work each time.
	until_true 60 acked_more_than $((before + 100 + RANDOM % 400)) ||
		{ echo "$(acked) acknowledged writes"; tail -n 5 "$serial"; return 1; }
	qemu_kill
	until_true 10 idle "$disk" || { echo "in flight: $(<"/sys/block/$2/inflight")"; return 1; }
	until_true 10 opens_exclusively "$disk" || { echo "$disk is busy 10 s after the kill"; return 1; }
	[[ $3 == keep ]] || power_cut || return
	"$work/powercut" verify "$disk" "$shared" | tee "$work/verify"
	return "${PIPESTATUS[0]}"
}

# round NUMBER: with a cache and a power cut, or without on a disk that stays
round() {
	if (($1 % 2)); then
		disk_new vbtcached cache_size=64 && kill_once "$1" vbtcached cut && null_blk_remove vbtcached
	else
		kill_once "$1" vbtplain keep
	fi
}

nested_init
echo "TAP version 13"
program_build || bail_out "powercut.c does not compile"
disk_new vbtplain || bail_out "no null_blk"
for ((nr = 1; nr <= kills; nr++)); do
	start=$SECONDS
	check "kill $nr: what was acknowledged as flushed is on the disk" round "$nr" || break
	echo "# $(<"$work/verify"); $((SECONDS - start)) s"
done
echo "1..$tap_nr"
exit "$tap_failed"
