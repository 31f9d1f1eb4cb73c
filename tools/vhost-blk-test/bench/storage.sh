# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2154 # work, until_true: nested.sh
#
# qemu-storage-daemon's vhost-user-blk, for the benchmarks. To be sourced after nested.sh.

storage=

storage_stop() {
	[[ $storage ]] || return 0
	# Asked to end, it may wait for ever.
	kill -KILL "$storage"
	wait "$storage" 2>/dev/null || true
	storage=
}

# storage_start AIO QUEUES DISK...: one daemon with an iothread for each disk; their
# sockets are $work/user0 and so on
storage_start() {
	local i args=() disks=("${@:3}")

	storage_stop
	# Those of the one before, which was killed.
	rm -f "$work"/user*
	for i in "${!disks[@]}"; do
		args+=(--object "iothread,id=thread$i"
			--blockdev "driver=host_device,node-name=disk$i,filename=${disks[i]},cache.direct=on,aio=$1"
			--export "type=vhost-user-blk,id=export$i,node-name=disk$i,addr.type=unix,\
addr.path=$work/user$i,writable=on,iothread=thread$i,num-queues=$2")
	done
	qemu-storage-daemon "${args[@]}" 2>"$work/storage.err" &
	storage=$!
	for i in "${!disks[@]}"; do
		until_true 60 test -S "$work/user$i" || { cat "$work/storage.err"; return 1; }
	done
}
