#!/bin/busybox sh
# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=dash
#
# /init of the test guest: load the modules, mount the disk with the serial number
# that root=serial:... names ("tools" by default) and go on with rc.sh there.

/bin/busybox mkdir -p /proc /sys /dev /new
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
exec </dev/null >/dev/console 2>&1
export PATH=/bin
/bin/busybox --install -s /bin

load() {
	while read -r module; do
		# It may be in already, as another's dependency.
		insmod "$module" 2>/dev/null
	done <"$1"
}

load /modules.order
! grep -qw guest.scsi /proc/cmdline || load /modules.scsi

root=tools
mode=ro
read -r cmdline </proc/cmdline
for word in $cmdline; do
	case $word in
	root=serial:*) root=${word#*:} ;;
	rw) mode=rw ;;
	esac
done

# The disks are probed when the driver's insmod returns.
for disk in /sys/block/vd*; do
	if [ "$(cat "$disk/serial")" = "$root" ]; then
		mount -t ext4 -o "$mode" "/dev/${disk##*/}" /new
	fi
done
if [ ! -e /new/guest/rc.sh ]; then
	echo "guest: FAIL no disk with the serial number $root to boot from"
	exit 1
fi
for dir in proc sys dev; do
	mount --move "/$dir" "/new/$dir"
done
exec switch_root /new /bin/bash /guest/rc.sh
