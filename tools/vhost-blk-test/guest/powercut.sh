# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2154,SC2034 # param, disk, say, failed: rc.sh
#
# Guest script of test_powercut.sh: run powercut.c, which the host has put on the
# disk at program= MiB, until the host kills QEMU. What is acknowledged goes into
# the memory of an ivshmem device.

shared_memory() {
	local dir

	for dir in /sys/bus/pci/devices/*; do
		[[ $(<"$dir/vendor") == 0x1af4 && $(<"$dir/device") == 0x1110 ]] || continue
		echo 1 >"$dir/enable"
		echo "$dir/resource2"
	done
}

dd if="/dev/$disk" of=/tmp/powercut bs=1M skip="${param[program]}" count=2 iflag=direct status=none
chmod +x /tmp/powercut
say "load running"
/tmp/powercut write "/dev/$disk" "$(shared_memory)" 2>&1 | sed 's/^/guest: # /'
say "FAIL the writer ended"
failed=1
