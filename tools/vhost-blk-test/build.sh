#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# build.sh: build the module, the kselftests and the QEMU plugin; TAP on stdout.
set -uo pipefail
export LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
top=$(cd "$here/../.." && pwd -P)
n=0 bad=0

build() {
	local name=$1 log
	shift
	n=$((n + 1))
	if log=$("$@" 2>&1); then
		echo "ok $n $name"
	else
		bad=1
		tail -n 20 <<<"$log" | sed 's/^/# /'
		echo "not ok $n $name"
	fi
}

# A kernel source whose vhost.h differs by one field must be refused, with a
# message that names the reason.
wrong_header() {
	local tmp kdir log status=0
	tmp=$(mktemp -d)
	kdir=$(make -s -C "$top" print-kdir)
	mkdir -p "$tmp/linux/drivers/vhost"
	tar -xf "/usr/src/linux-source-$(make -s -C "$kdir" kernelversion | cut -d. -f1,2).tar.xz" \
		-C "$tmp/linux" --strip-components=1 --wildcards --no-wildcards-match-slash \
		'*/Makefile' '*/drivers/vhost/vhost.[ch]' || return 1
	sed -i 's/^struct vhost_dev {/&\n\tlong not_there;/' "$tmp/linux/drivers/vhost/vhost.h"
	tar -C "$tmp" -cf "$tmp/wrong.tar" linux
	log=$(VHOST_BLK_LINUX_SOURCE=$tmp/wrong.tar \
		"$top/tools/vhost-header.sh" "$kdir" "$tmp/out" 2>&1) && status=1
	echo "$log"
	grep -q "does not match the target kernel" <<<"$log" || status=1
	[ ! -e "$tmp/out/vhost.h" ] || status=1
	rm -rf "$tmp"
	return $status
}

no_headers() {
	local log
	log=$(make -s -C "$top" KDIR=/nonexistent 2>&1) && return 1
	echo "$log"
	grep -q "apt-get install linux-headers" <<<"$log"
}

echo "TAP version 13"
echo "1..5"
build "module" make -s -C "$top"
build "wrong vhost.h is refused" wrong_header
build "missing headers are named" no_headers
build "kselftests" make -s -C "$here" -j2
build "QEMU plugin" "$top/tools/qemu/build-plugin.sh"
exit $bad
