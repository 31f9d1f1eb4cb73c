# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2154,SC2034 # param, disk, say, failed: rc.sh
#
# Guest script: two writers in turns of their own, without an end but an error. A
# round writes and reads 4 MiB at random with crc32c verify, and reads all of it
# again; then the writer says "verified NAME ROUND". The host ends this with QEMU.

round() {
	fio --name="$1" --filename="/dev/$disk" --ioengine=libaio --direct=1 --rw=randrw \
		--bsrange=4k-64k --iodepth=16 --offset="$2" --size=4m --verify=crc32c \
		--verify_fatal=1 --verify_backlog=64 --randrepeat=0
}

writer() {
	local nr=1

	while round "$@" >"/tmp/$1.log" 2>&1; do
		say "verified $1 $((nr++))"
	done
	say "FAIL $1, round $nr"
	sed 's/^/guest: # /' "/tmp/$1.log"
}

writer left 0 &
writer right 32m &
wait
failed=1
