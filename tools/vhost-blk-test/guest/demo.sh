# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2154 # param, say, check: rc.sh
#
# Guest script of the demo, run from a Debian root file system: the workload on
# each of the disks "plain", "iothread" and "vhost", then data whose checksums
# the host will look at. Results go to /results on the root disk.

measure() {
	DISK=/dev/$(disk_by_serial "$1") RUNTIME=${param[runtime]} timeout 200 \
		fio --output-format=json --output="/results/$1.json" /guest/demo.fio
}

verify() {
	timeout 200 fio --name=verify --filename="/dev/$1" --ioengine=libaio --direct=1 --rw=randrw \
		--rwmixread=50 --bs=4k --iodepth=32 --offset=64m --size=16m --verify=crc32c \
		--verify_fatal=1 --verify_backlog=256
}

# Left on the disk for the host, which verifies it with the same job.
write_for_host() {
	timeout 200 fio --name=for-host --filename="/dev/$1" --ioengine=libaio --direct=1 --rw=randwrite \
		--bs=4k --iodepth=32 --offset=80m --size=16m --verify=crc32c --do_verify=0 --end_fsync=1 &&
		dd if="/dev/$1" bs=1M skip=80 count=16 iflag=direct status=none | sha256sum | cut -d' ' -f1 >/results/disk.sha256
}

write_files() {
	mkdir /payload &&
		cp -a /usr/bin/[a-d]* /payload/ &&
		head -c 4000000 /dev/urandom >/payload/random &&
		sync &&
		(cd /payload && find . -type f -print0 | sort -z | xargs -0 sha256sum) >/results/files.sha256
}

mkdir -p /results
say "stage Debian $(</etc/debian_version) runs from /dev/$(disk_by_serial root), kernel $(uname -r)"
for engine in plain iothread vhost; do
	case $engine in
	plain) say "stage fio in the guest on virtio-blk-pci" ;;
	iothread) say "stage fio in the guest on virtio-blk-pci with an iothread" ;;
	vhost) say "stage fio in the guest on vhost-blk-pci" ;;
	esac
	check "fio on $engine" measure "$engine"
done
disk=$(disk_by_serial vhost)
say "stage fio with crc32c verification in the guest on vhost-blk-pci"
check "verified random reads and writes" verify "$disk"
check "random writes for the host to verify" write_for_host "$disk"
say "stage files and their checksums on the root disk"
check "files" write_files
