# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2154,SC1091 # param, say, check: rc.sh
#
# Guest script of the demo, run from a Debian root file system: the workload on
# the disks "plain", "iothread" and "vhost", rounds= times, then data whose
# checksums the host will look at. Results go to /results on the root disk.

. /guest/workload.sh

measure() {
	demo_jobs "${param[runtime]}" plain="$(disk_by_serial plain)" iothread="$(disk_by_serial iothread)" \
		vhost="$(disk_by_serial vhost)" >/tmp/jobs.fio
	timeout 200 fio --output-format=json --output="/results/guest.$1.json" /tmp/jobs.fio
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
for ((round = 1; round <= param[rounds]; round++)); do
	say "stage fio in the guest, round $round of ${param[rounds]}: virtio-blk, virtio-blk with iothread, vhost-blk"
	check "fio round $round" measure "$round"
done
disk=$(disk_by_serial vhost)
say "stage fio with crc32c verification in the guest on vhost-blk-pci"
check "verified random reads and writes" verify "$disk"
check "random writes for the host to verify" write_for_host "$disk"
say "stage files and their checksums on the root disk"
check "files" write_files
