# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# The workload with numbers, for test guests and the host alike. To be sourced.

# shellcheck source=tools/vhost-blk-test/guest/workload.sh
. "${BASH_SOURCE[0]%/*}/workload.sh"

# disk_at SLOT.FUNCTION: what the PCI device there has become, virtio-blk or SCSI
disk_at() {
	local dir

	for dir in /sys/block/[sv]d*; do
		[[ $(readlink -f "$dir/device") != */0000:00:"$1"/* ]] || { echo "${dir##*/}"; return; }
	done
	return 1
}

# bench_disks SECONDS SLOT.FUNCTION...: their names, once all are there. Requests go to
# them in the order that they are made in.
bench_disks() {
	local end=$((SECONDS + $1)) address name

	for address in "${@:2}"; do
		until name=$(disk_at "$address"); do
			((SECONDS < end)) || { echo "no disk at $address"; return 1; }
			sleep 0.1
		done
		echo none >"/sys/block/$name/queue/scheduler"
		echo "$name"
	done
}

# bench_jobs SECONDS BYTES DEPTH BACKEND=DISK[,DISK...]...: a fio job file; the back
# ends one after the other, the disks of each at the same time
bench_jobs() {
	local item disk

	workload "$1"
	printf '%s\n' group_reporting "bs=$2" "iodepth=$3"
	for item in "${@:4}"; do
		printf '[%s]\nstonewall\n' "${item%%=*}"
		item=${item#*=}
		for disk in ${item//,/ }; do
			printf 'filename=/dev/%s\n[same]\n' "$disk"
		done | sed '$d'
	done
}

# bench SECONDS BYTES DEPTH BACKEND=DISK[,DISK...]...: a line of each back end with
# requests per second, and in microseconds mean latency and the 99th percentile
bench() {
	bench_jobs "$@" >/tmp/bench.fio
	timeout $((60 + $# * ($1 + 3))) fio --output-format=terse --terse-version=3 /tmp/bench.fio |
		awk -F ';' '
			# "p99=NUMBER" of reads and of writes
			function most(reads, writes) {
				sub(".*=", "", reads)
				sub(".*=", "", writes)
				return reads + 0 > writes + 0 ? reads : writes
			}
			$5 != 0 || $8 == 0 || $49 == 0 { print "fio: " $0; exit 1 }
			{
				mean = ($8 * $40 + $49 * $81) / ($8 + $49)
				printf "%s %d %.1f %d\n", $3, $8 + $49, mean, most($30, $71)
			}'
}
