# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2154,SC2034 # param, disk, say, failed: rc.sh
#
# Guest script: load on the disk for runtime= seconds with crc32c verify. Says
# "load running" when the disk has completed requests of it.

completed() {
	local -a stat

	read -r -a stat <"/sys/block/$disk/stat"
	echo $((stat[0] + stat[4]))
}

before=$(completed)
fio --name=load --filename="/dev/$disk" --ioengine=libaio --direct=1 --rw=randrw --bsrange=4k-64k \
	--iodepth=32 --size=64m --time_based --runtime="${param[runtime]:-600}" --verify=crc32c \
	--verify_fatal=1 --verify_backlog=128 >/tmp/load.log 2>&1 &
pid=$!
while kill -0 "$pid" 2>/dev/null && (($(completed) - before < 64)); do
	sleep 0.05
done
say "load running"
if wait "$pid"; then
	say "pass load"
else
	say "FAIL load"
	sed 's/^/guest: # /' /tmp/load.log
	failed=1
fi
