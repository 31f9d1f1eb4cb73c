#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0-only
#
# /init of the test host: mount the machine's root read-only, put a tmpfs
# overlay on it, and hand over to stage2.sh. Runs in a busybox initramfs.
# shellcheck shell=dash

# An exit of PID 1 panics and, with panic=-1 and -no-reboot, ends QEMU at once:
# the runner then knows that the VM never got to its command.
fail() {
	echo "vm: init: $*"
	exit 1
}

/bin/busybox mkdir -p /proc /sys /dev /low /up /new /ctl
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t devtmpfs dev /dev
exec </dev/null >/dev/console 2>&1
export PATH=/bin
/bin/busybox --install -s /bin

# A probe boot only has to show that this accelerator runs kernel and userland.
if grep -q vm_probe /proc/cmdline; then
	printf '\052' | dd of=/dev/port bs=1 seek=244 conv=notrunc 2>/dev/null
	fail "no debug exit device"
fi

while read -r module; do
	insmod "$module" || fail "cannot load $module"
done </modules.order

# User-mode Linux sees the machine's files as they are; a VM has them over 9p.
um=
if grep -qw hostfs /proc/filesystems; then um=1; fi
opts=trans=virtio,version=9p2000.L,msize=512000
if [ "$um" ]; then
	mount -t hostfs -o ro,/ host /low
else
	mount -t 9p -o ro,cache=loose,$opts host /low
fi || fail "cannot mount the machine's root"
mount -t tmpfs -o size=75% up /up || fail "no tmpfs"
mkdir /up/upper /up/work
mount -t overlay -o lowerdir=/low,upperdir=/up/upper,workdir=/up/work root /new ||
	fail "cannot mount the overlay"
mount -t tmpfs -o mode=755 run /new/run || fail "no tmpfs on /run"
mkdir -p /new/run/vm/ctl
if [ "$um" ]; then
	ctl=$(sed 's/.*vm_ctl=\([^ ]*\).*/\1/' /proc/cmdline)
	mount -t hostfs -o "$ctl" ctl /new/run/vm/ctl
else
	mount -t 9p -o cache=none,$opts ctl /new/run/vm/ctl
fi || fail "cannot mount the control share"
mount --move /proc /new/proc
mount --move /dev /new/dev
exec switch_root /new /bin/bash /run/vm/ctl/stage2.sh
