# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2154 # param, disk, check, say: rc.sh
#
# Guest script: everything a guest does with a disk once, checked. Parameters:
# serial, sectors (what the host says of the disk), sum (sha256 of its first
# MiB, which the host wrote), runtime.

serial_is() {
	echo "serial is '$(<"/sys/block/$disk/serial")', expected '$1'"
	[[ $(<"/sys/block/$disk/serial") == "$1" ]]
}

sectors_are() {
	echo "size is $(<"/sys/block/$disk/size") sectors, expected $1"
	[[ $(<"/sys/block/$disk/size") -eq $1 ]]
}

first_mib_is() {
	local sum

	sum=$(dd if="/dev/$disk" bs=64k count=16 iflag=direct | sha256sum | cut -d' ' -f1)
	echo "sha256 is $sum, expected $1"
	[[ $sum == "$1" ]]
}

verify_job() {
	timeout 120 fio --name=verify --filename="/dev/$disk" --ioengine=libaio --direct=1 --rw=randrw \
		--rwmixread=50 --bsrange="$1" --blockalign=512 --iodepth=32 --offset="$2" --size="$3" \
		--io_size="$4" --verify=crc32c --verify_fatal=1 --verify_backlog=256 --norandommap=0 \
		--randrepeat=0
}

flush_job() {
	timeout 120 fio --name=flush --filename="/dev/$disk" --ioengine=psync --direct=1 --rw=randwrite \
		--bs=4k --size=1m --fdatasync=1
}

past_end() {
	local sectors

	sectors=$(<"/sys/block/$disk/size")
	! dd if="/dev/$disk" of=/dev/null bs=512 skip="$sectors" count=1 iflag=direct 2>&1 | grep -q '1+0 records in'
}

file_system() {
	local sums

	mke2fs -q -F -t ext4 -E nodiscard,lazy_itable_init=0 "/dev/$disk" &&
		mount -t ext4 "/dev/$disk" /mnt &&
		mkdir /mnt/dir &&
		head -c 3000000 /dev/urandom >/mnt/dir/random &&
		cat /usr/bin/fio /bin/bash >/mnt/dir/programs &&
		dd if=/dev/zero of=/mnt/hole bs=4096 seek=1000 count=1 &&
		sync -f /mnt &&
		(cd /mnt && sha256sum dir/random dir/programs hole >sums && sha256sum -c sums) &&
		umount /mnt || return
	sums=$(mount -t ext4 "/dev/$disk" /mnt && sha256sum /mnt/sums | cut -d' ' -f1 && umount /mnt) || return
	say "sums $sums" >/dev/console
}

remount_and_compare() {
	mount -t ext4 -o ro "/dev/$disk" /mnt && (cd /mnt && sha256sum -c sums) && umount /mnt &&
		e2fsck -fn "/dev/$disk"
}

check "serial number" serial_is "${param[serial]}"
check "capacity" sectors_are "${param[sectors]}"
check "first MiB is what the host wrote" first_mib_is "${param[sum]}"
check "fio verify 512..64k" verify_job 512-64k 2m 32m 16m
check "fio verify 256k..1m" verify_job 256k-1m 2m 32m 16m
check "fio fdatasync after every write" flush_job
check "reading past the end fails" past_end
check "file system" file_system
check "file system read back" remount_and_compare
