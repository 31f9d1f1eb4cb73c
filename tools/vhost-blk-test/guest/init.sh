#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=dash
#
# /init of the test guest: load the modules, mount the tools disk (the one with
# the serial "tools") as root and go on with rc.sh there.

/bin/busybox mkdir -p /proc /sys /dev /new
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
exec </dev/null >/dev/console 2>&1
export PATH=/bin
/bin/busybox --install -s /bin

while read -r module; do
	# crc32c may be in already, as another's dependency.
	insmod "$module" 2>/dev/null
done </modules.order

# The disks are probed when the driver's insmod returns.
for disk in /sys/block/vd*; do
	if [ "$(cat "$disk/serial")" = tools ]; then
		mount -t ext4 -o ro "/dev/${disk##*/}" /new
	fi
done
if [ ! -e /new/guest/rc.sh ]; then
	echo "guest: FAIL: no disk with the serial 'tools'"
	exit 1
fi
for dir in proc sys dev; do
	mount --move "/$dir" "/new/$dir"
done
exec switch_root /new /bin/bash /guest/rc.sh
