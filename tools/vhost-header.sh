#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# vhost-header.sh KDIR OUT: put the target kernel's private drivers/vhost/vhost.h
# into the directory OUT and check that it is the one the kernel was built from.
#
# No headers package carries this file, and a module that was built with another
# kernel's copy loads and then corrupts memory. It comes from KDIR itself when
# that is a full source tree, else from the linux-source-X.Y package. It is
# checked by compiling that source's vhost.c for KDIR: every symbol it exports
# must get the checksum (CRC of all types involved) that KDIR's Module.symvers
# has. Without CONFIG_MODVERSIONS the version number decides.
#
# Exit: 0; 1 with a message that says what to do.
set -euo pipefail

# Called by make: W=1 and the like are for the module, not for vhost.c.
unset MAKEFLAGS MFLAGS

die() {
	echo "vhost_blk: $*" >&2
	exit 1
}

[ $# -eq 2 ] || die "usage: vhost-header.sh KDIR OUT"
kdir=$1 out=$2
full=$(make -s -C "$kdir" kernelversion 2>/dev/null | tail -n 1)
[ -n "$full" ] || die "$kdir is not a kernel build directory"
series=$(cut -d. -f1,2 <<<"$full")

# Where the source is: a directory, or a tarball and the directory within.
source_dir=$kdir
[ -e "$kdir/source" ] && source_dir=$kdir/source
tarball=${VHOST_BLK_LINUX_SOURCE:-/usr/src/linux-source-$series.tar.xz}

stamp=$out/stamp
if [ -e "$source_dir/drivers/vhost/vhost.h" ]; then
	want="$full $source_dir $(stat -c %Y "$source_dir/drivers/vhost/vhost.h")"
else
	[ -e "$tarball" ] || die "building needs the private header vhost.h of kernel $full:" \
		"apt-get install linux-source-$series"
	want="$full $tarball $(stat -c '%s %Y' "$tarball")"
fi
[ -e "$stamp" ] && [ "$(cat "$stamp")" = "$want" ] && exit 0

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
if [ -e "$source_dir/drivers/vhost/vhost.h" ]; then
	cp "$source_dir"/drivers/vhost/vhost.[ch] "$tmp/"
else
	tar -xf "$tarball" -C "$tmp" --strip-components=1 --wildcards \
		'*/Makefile' '*/drivers/vhost/vhost.[ch]' --no-wildcards-match-slash 2>/dev/null ||
		die "cannot read $tarball"
	have=$(awk '/^VERSION =|^PATCHLEVEL =|^SUBLEVEL =/ { v = v sep $3; sep = "." } END { print v }' \
		"$tmp/Makefile")
	[ "$have" = "${full%%[-+]*}" ] || die "$tarball is the source of $have, the target is $full:" \
		"install the linux-source-$series and linux-headers packages of one version"
	rm "$tmp/Makefile"
	mv "$tmp"/drivers/vhost/vhost.[ch] "$tmp/"
	rm -rf "$tmp/drivers"
fi

if grep -q '^CONFIG_MODVERSIONS=y' "$kdir/.config" "$kdir/include/config/auto.conf" 2>/dev/null; then
	echo 'obj-m := vhost.o' >"$tmp/Kbuild"
	make -s -C "$kdir" M="$tmp" modules >"$tmp/log" 2>&1 ||
		die "cannot compile vhost.c for $full: $(tail -n 3 "$tmp/log")"
	awk -F'\t' '
		$3 !~ /vhost$/ { next }
		NR == FNR { crc[$2] = $1; next }
		{ n++; if (crc[$2] != $1) { print $2; bad = 1 } }
		END { if (!n) print "no symbol"; exit bad || !n }' \
		"$kdir/Module.symvers" "$tmp/Module.symvers" >"$tmp/differ" ||
		die "vhost.h of the $series source does not match the target kernel $full" \
			"($(head -n 3 "$tmp/differ" | tr '\n' ' ')): install the source of the same build"
fi
mkdir -p "$out"
cp "$tmp/vhost.h" "$out/vhost.h"
echo "$want" >"$stamp"
