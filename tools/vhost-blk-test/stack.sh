#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# stack.sh: make block devices that lie on other disks, on files or in memory, the
# way an admin would; lib/stack.c calls it. As root, on a machine that may break.
#
# usage: stack.sh create KIND NAME ARG...    prints the names of the disks
#        stack.sh destroy KIND NAME          also what a failed create has left
#
#   nvme-tcp NAME DISK     NVMe over TCP: target and host on the loopback interface
#   nvme-loop NAME DISK    the same without a network
#   lio-ram NAME MIB NR    NR disks of a SCSI target in memory
#   lio-file NAME FILE     a disk of a SCSI target over a file
#   nbd NAME FILE          a network block device that nbd-server serves
#   md-raid1 NAME A B      MD's RAID 1, without metadata
#
# md is set up through sysfs: mdadm would bring udev, a monitor and a new initramfs
# to the machine. Exit: 0; 4 and a message if this kernel cannot; 1 and a message.
set -euo pipefail
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"

config=/sys/kernel/config
async_md=/sys/module/md_mod/parameters/legacy_async_del_gendisk
wait_s=$((${VT_TIMEOUT_MS:-5000} / 250 + 10))

log=/tmp/vhost-blk-test-stack.log	# of the last tool that may say why

die() {
	echo "stack.sh: $*" >&2
	[ ! -s $log ] || tail -n 5 $log >&2
	exit 1
}

# Load modules that may be built in.
need() {
	local module

	for module; do
		modprobe -q "$module" || { echo "this kernel has no $module"; exit 4; }
	done
	mountpoint -q $config || mount -t configfs configfs $config
}

# Write without the newline that some attributes take for a part of the value.
put() {
	printf %s "$2" >"$1"
}

await() {
	local end=$((SECONDS + wait_s))

	until "$@"; do
		[ $SECONDS -lt $end ] || die "in vain for $wait_s s: $*"
		sleep 0.02
	done
}

# ---- NVMe: a subsystem with one namespace, a port, a connection ----

nvme_create() {
	local transport=$1 disk=$2 subsystem=$config/nvmet/subsystems/$nqn
	local port=$config/nvmet/ports/4420 opts="transport=$1,nqn=$nqn,nr_io_queues=2"

	mkdir "$subsystem" "$subsystem/namespaces/1"
	put "$subsystem/attr_allow_any_host" 1
	put "$subsystem/namespaces/1/device_path" "/dev/$disk"
	put "$subsystem/namespaces/1/enable" 1
	mkdir "$port"
	put "$port/addr_trtype" "$transport"
	if [ "$transport" = tcp ]; then
		put "$port/addr_adrfam" ipv4
		put "$port/addr_traddr" 127.0.0.1
		put "$port/addr_trsvcid" 4420
		opts+=,traddr=127.0.0.1,trsvcid=4420
	fi
	ln -s "$subsystem" "$port/subsystems/$nqn"
	await test -e /dev/nvme-fabrics
	put /dev/nvme-fabrics "$opts"
	await nvme_disk
}

# With several paths the disks of each have no node.
nvme_disk() {
	local dir

	for dir in /sys/block/nvme*n*; do
		[ "$(cat "$dir/device/subsysnqn" 2>/dev/null)" = "$nqn" ] || continue
		[ -b "/dev/${dir##*/}" ] || continue
		echo "${dir##*/}"
		return
	done
	return 1
}

nvme_destroy() {
	local dir

	for dir in /sys/class/nvme/nvme*; do
		[ "$(cat "$dir/subsysnqn" 2>/dev/null)" = "$nqn" ] || continue
		put "$dir/delete_controller" 1
	done
	dir=$config/nvmet/ports/4420
	rm -f "$dir/subsystems/$nqn"
	[ ! -d "$dir" ] || rmdir "$dir"
	dir=$config/nvmet/subsystems/$nqn
	[ ! -d "$dir/namespaces/1" ] || rmdir "$dir/namespaces/1"
	[ ! -d "$dir" ] || rmdir "$dir"
}

# ---- SCSI: LUNs of a LIO target, seen by this host itself ----

lio_create() {
	local hba=$config/target/core/$1_4242 control=$2 nr=$3 address i

	[ -d $config/target/loopback ] || mkdir $config/target/loopback
	mkdir -p "$hba" "$tpg"
	put "$tpg/nexus" naa.5001405000004243
	address=$(cat "$tpg/address")
	for ((i = 0; i < nr; i++)); do
		mkdir "$hba/$name$i" "$tpg/lun/lun_$i"
		put "$hba/$name$i/control" "$control"
		put "$hba/$name$i/enable" 1
		# The disk appears with this, and is probed on the spot.
		ln -s "$hba/$name$i" "$tpg/lun/lun_$i/port"
	done
	for ((i = 0; i < nr; i++)); do
		await lio_disk "$address:$i"
	done
}

lio_disk() {
	local dir

	for dir in /sys/bus/scsi/devices/"$1"/block/*; do
		[ -b "/dev/${dir##*/}" ] || return 1
		echo "${dir##*/}"
	done
}

lio_destroy() {
	local dir

	for dir in "$tpg"/lun/lun_*; do
		[ -d "$dir" ] || continue
		rm -f "$dir/port"
		rmdir "$dir"
	done
	[ ! -d "$tpg" ] || rmdir "$tpg"
	[ ! -d "${tpg%/*}" ] || rmdir "${tpg%/*}"
	for dir in "$config/target/core/$1_4242/$name"*; do
		[ ! -d "$dir" ] || rmdir "$dir"
	done
	[ ! -d "$config/target/core/$1_4242" ] || rmdir "$config/target/core/$1_4242"
}

# ---- NBD ----

nbd_create() {
	cat >"$nbd.conf" <<-END
		[generic]
		listenaddr = 127.0.0.1
		port = 10809
		[$name]
		exportname = $1
		flush = true
		fua = true
		trim = true
	END
	nbd-server -C "$nbd.conf" -p "$nbd.pid" >&2
	await nbd_connect
	echo nbd0
}

# Cut off on a busy machine, it may have told the kernel already, which needs no more of it.
nbd_connect() {
	timeout 5 nbd-client -N "$name" -b 512 127.0.0.1 10809 /dev/nbd0 </dev/null >$log 2>&1 ||
		nbd-client -c /dev/nbd0 >/dev/null
}

nbd_destroy() {
	[ ! -b /dev/nbd0 ] || timeout $wait_s nbd-client -d /dev/nbd0 >/dev/null
	[ ! -s "$nbd.pid" ] || kill "$(cat "$nbd.pid")" || true
	rm -f "$nbd.conf" "$nbd.pid"
}

# ---- MD ----

md_create() {
	local kib disk slot=0

	# Newer kernels keep a stopped array until somebody closes it, for old versions of mdadm.
	[ ! -e $async_md ] || put $async_md N
	put /sys/module/md_mod/parameters/new_array "md_$name"
	await test -d "$md"
	kib=$(($(cat "/sys/block/$1/size") / 2))
	put "$md/metadata_version" none
	put "$md/level" raid1
	put "$md/raid_disks" $#
	put "$md/component_size" $kib
	# Both hold the same: nothing.
	put "$md/resync_start" none
	for disk; do
		put "$md/new_dev" "$(cat "/sys/block/$disk/dev")"
		put "$md/dev-$disk/size" $kib
		put "$md/dev-$disk/slot" $((slot++))
	done
	put "$md/array_state" active
	await test -b "/dev/md_$name"
	echo "md_$name"
}

md_destroy() {
	[ -d "$md" ] || return 0
	put "$md/array_state" clear
	await test ! -d "$md"
}

# ----

rm -f $log
[ $# -ge 3 ] || die "usage: stack.sh create|destroy KIND NAME [ARG...]"
verb=$1 kind=$2 name=$3
shift 3
nqn=nqn.2013-01.org.kernel.vhost-blk-test:$name
tpg=$config/target/loopback/naa.5001405000004242/tpgt_1
nbd=/tmp/vhost-blk-test-$name
md=/sys/block/md_$name/md
case $kind in
nvme-tcp | nvme-loop) destroy=(nvme_destroy) ;;
lio-ram) destroy=(lio_destroy rd_mcp) ;;
lio-file) destroy=(lio_destroy fileio) ;;
nbd) destroy=(nbd_destroy) ;;
md-raid1) destroy=(md_destroy) ;;
*) die "there is no kind '$kind'" ;;
esac
if [ "$verb" = create ]; then
	case $kind in
	nvme-tcp)
		need nvmet nvme-tcp nvmet-tcp
		# Its report would count as one against the module, and is the last one.
		[ ! -e /proc/lockdep ] || { echo "lockdep finds a cycle within nvmet-tcp"; exit 4; }
		create=(nvme_create tcp)
		;;
	nvme-loop) need nvmet nvme-loop; create=(nvme_create loop) ;;
	lio-ram)
		need target_core_mod tcm_loop sd_mod
		create=(lio_create rd_mcp "rd_pages=$(($1 * 1048576 / $(getconf PAGESIZE)))" "$2")
		set --
		;;
	lio-file)
		need target_core_mod target_core_file tcm_loop sd_mod
		create=(lio_create fileio
			"fd_dev_name=$1,fd_dev_size=$(stat -c %s "$1"),fd_buffered_io=1" 1)
		set --
		;;
	nbd) need nbd; create=(nbd_create) ;;
	md-raid1) need md_mod raid1; create=(md_create) ;;
	esac
	"${destroy[@]}"
	"${create[@]}" "$@"
else
	"${destroy[@]}"
fi
