#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# PID 1 of the test host, on the machine's own root: finish the mounts, load
# the modules, run the command, report its status, switch the VM off.
#
# The status goes into a file of the private control share, which nothing that
# the command prints can reach. The output goes into another file there: a 9p
# write is on the host once it returns, so nothing is lost when the VM dies.
set -u
ctl=/run/vm/ctl
export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
# run.sh writes these into conf.
top='' home='' release='' kernel='' um=0 guest='' accel='' module='' deadline=0 disks=0
preload=() keep=() shares=()
# shellcheck source=/dev/null
. "$ctl/conf"

# The debug exit device ends QEMU within the instruction; the slow way is for
# kernels without /dev/port.
power_off() {
	printf '\125' | dd of=/dev/port bs=1 seek=244 conv=notrunc 2>/dev/null
	# User-mode Linux has a poweroff, but no sysrq for it.
	if ((um)); then busybox poweroff -f; fi
	echo o >/proc/sysrq-trigger
	while :; do read -r -t 60 <>/run/vm/never; done
}

# Ends without a status: the runner reports a VM that did not boot.
fail() {
	echo "$*" >"$ctl/failure"
	echo "vm: $*" >/dev/console
	power_off
}

# The machine's mount points may be missing in a minimal root, so make them.
mount_fs() {
	local type=$1 dir=$2 opts=${3:-rw}

	mkdir -p "$dir"
	mount -t "$type" -o "$opts" "$type" "$dir" || fail "cannot mount $type on $dir"
}

mount_all() {
	local dir i

	mount_fs sysfs /sys
	# not there with debugfs=off
	[ ! -d /sys/kernel/debug ] || mount_fs debugfs /sys/kernel/debug
	mount_fs cgroup2 /sys/fs/cgroup
	mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
	modprobe configfs 2>/dev/null
	mount_fs configfs /sys/kernel/config
	mount_fs tmpfs /dev/shm mode=1777
	mount_fs devpts /dev/pts gid=5,mode=620,ptmxmode=666
	ln -sf pts/ptmx /dev/ptmx
	ln -sf /proc/self/fd /dev/fd
	ln -sf /proc/self/fd/0 /dev/stdin
	ln -sf /proc/self/fd/1 /dev/stdout
	ln -sf /proc/self/fd/2 /dev/stderr
	mkdir -p /run/lock /run/vm/tmp
	# What the run needs from below /tmp stays visible through the new one.
	mount --bind /tmp /run/vm/tmp
	mount_fs tmpfs /tmp mode=1777
	for dir in "${keep[@]}"; do
		mkdir -p "$dir"
		mount --bind "/run/vm$dir" "$dir" || fail "cannot keep $dir"
	done
	for i in "${!shares[@]}"; do
		mkdir -p "${shares[i]}"
		if ((um)); then
			mount -t hostfs -o "${shares[i]}" "share$i" "${shares[i]}"
		else
			mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=mmap \
				"share$i" "${shares[i]}"
		fi || fail "cannot mount share ${shares[i]}"
	done
	ip link set lo up
}

bind_modules() {
	# Headers alone make this directory too, without a module in it.
	mkdir -p "/lib/modules/$release"
	mount --bind "$kernel/lib/modules/$release" "/lib/modules/$release" ||
		fail "cannot bind the kernel's modules"
}

load_modules() {
	local dep

	echo "vm: loading modules" >/dev/kmsg
	for dep in "${preload[@]}"; do
		modprobe "$dep" || fail "cannot load $dep"
	done
	[[ $module != none ]] || return 0
	while read -r dep; do
		[[ -z $dep ]] || modprobe "$dep" || fail "cannot load $dep, which $module needs"
	done < <(modinfo -F depends "$module" | tr ',' '\n')
	insmod "$module" 2>"$ctl/insmod.err" ||
		fail "insmod $module: $(<"$ctl/insmod.err"), see the end of the console log"
}

# Shortly before the deadline, show in the console log what everyone waits for.
deadline_report() {
	local left=$((deadline - $(date +%s) - 10))

	((left > 0)) || return 0
	read -r -t "$left" <>/run/vm/never
	echo "vm: 10 s to the deadline; blocked tasks and active CPUs follow" >/dev/kmsg
	echo 1 >/proc/sys/kernel/sysrq
	echo w >/proc/sysrq-trigger
	echo l >/proc/sysrq-trigger
}

run_command() {
	local rc reader cmd disk=$kernel/build/tools/vhost-blk-test/disk/vt_disk.ko

	# Next to the module for a kernel of ours, in the tree for the native one.
	[[ -e $disk ]] || disk=$top/tools/vhost-blk-test/disk/vt_disk.ko
	mapfile -d '' -t cmd <"$ctl/cmd"
	mkfifo /run/vm/output
	cat </run/vm/output >>"$ctl/output" 2>/dev/null &
	reader=$!
	(
		cd "$top" || exit 126
		exec env -i LC_ALL=C PATH="$PATH" HOME="$home" TERM=dumb USER=root LOGNAME=root \
			VHOST_BLK_VM=1 VHOST_BLK_KERNEL="$kernel" VHOST_BLK_MODULE="$module" \
			VHOST_BLK_TEST_DISK="$disk" \
			VHOST_BLK_GUEST="$guest" VHOST_BLK_ACCEL="$accel" setsid -w "${cmd[@]}" </dev/null
	) >/run/vm/output 2>&1
	rc=$?
	# A daemon of the command may hold the pipe open: do not wait for it long.
	timeout 5 tail --pid="$reader" -s 0.05 -f /dev/null
	echo "$rc" >"$ctl/status.new"
}

: >"$ctl/started"
mkfifo /run/vm/never
bind_modules
mount_all
load_modules
deadline_report >/dev/null 2>&1 &
echo "vm: running the command" >/dev/kmsg
run_command
# A broken block device must not keep the result from getting out.
if ((disks)); then
	sync &
	timeout 20 tail --pid=$! -s 0.05 -f /dev/null
fi
mv "$ctl/status.new" "$ctl/status"
power_off
