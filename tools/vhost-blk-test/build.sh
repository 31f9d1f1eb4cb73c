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

echo "TAP version 13"
echo "1..3"
build "module" make -s -C "$top"
build "kselftests" make -s -C "$here" -j2
build "QEMU plugin" "$top/tools/qemu/build-plugin.sh"
exit $bad
