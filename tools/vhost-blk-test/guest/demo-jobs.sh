# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# The workload of the 2013 paper on vhost-blk, for the guest and the host alike:
# random, half read, half write, 32 requests in flight, five request sizes.

# demo_jobs SECONDS ENGINE=DISK...: a fio job file. The engines take turns at each
# size, so that a disturbance of the machine does not hit one of them alone.
demo_jobs() {
	local bytes item

	cat <<-END
	[global]
	ioengine=libaio
	direct=1
	rw=randrw
	rwmixread=50
	iodepth=32
	size=64m
	norandommap
	randrepeat=1
	thread
	time_based
	runtime=$1
	ramp_time=500ms
	stonewall
	END
	for bytes in 512 1024 2048 4096 8192; do
		for item in "${@:2}"; do
			printf '[%s-%d]\nfilename=/dev/%s\nbs=%d\n' "${item%%=*}" "$bytes" "${item#*=}" "$bytes"
		done
	done
}
