# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# The workload of the 2013 paper on vhost-blk, for guests and the host alike: random,
# half read, half write. To be sourced.

# workload SECONDS: the start of a fio job file; what follows holds for all jobs, too
workload() {
	cat <<-END
	[global]
	ioengine=libaio
	direct=1
	rw=randrw
	rwmixread=50
	norandommap
	randrepeat=1
	thread
	time_based
	ramp_time=500ms
	runtime=$1
	END
}

# demo_jobs SECONDS ENGINE=DISK...: a fio job file, 32 requests in flight, five request
# sizes. The engines take turns at each size, so that a disturbance of the machine does
# not hit one of them alone.
demo_jobs() {
	local bytes item

	workload "$1"
	printf '%s\n' iodepth=32 size=64m stonewall
	for bytes in 512 1024 2048 4096 8192; do
		for item in "${@:2}"; do
			printf '[%s-%d]\nfilename=/dev/%s\nbs=%d\n' "${item%%=*}" "$bytes" "${item#*=}" "$bytes"
		done
	done
}
