#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# kunit.sh: run vhost_blk's KUnit tables in a test host whose kernel has KUnit;
# TAP on stdout, a point for each row. The module lies beside the one that the
# runner loaded.
set -uo pipefail
export PATH="$PATH:/usr/sbin:/sbin"

module=$(dirname "${VHOST_BLK_MODULE:?run this by vm/run.sh}")/vhost_blk_kunit.ko

die() {
	echo "Bail out! $*"
	exit 1
}

[ -e "$module" ] || die "no $module: does the kernel have KUnit?"
modprobe kunit enable=1 2>/dev/null || modprobe kunit || die "cannot load kunit"
insmod "$module" || die "cannot load $module"
# debugfs keeps the last rows only: read the kernel log. A row is "ok 3 - name",
# one level below its test's.
rows=$(dmesg | sed -nE '/# Subtest: vhost_blk_req/,$s/^\[[^]]*\] *((not )?ok [0-9]+ (- )?.*)$/\1/p' |
	sed -E 's/ok [0-9]+ (- )?/ok /' | grep -vE 'ok (parse_test|vhost_blk_req)$')
rmmod vhost_blk_kunit
[ -n "$rows" ] || die "KUnit ran nothing"
echo "TAP version 13"
awk '{ bad = /^not / || bad; r = $0; sub(/^(not )?ok /, "", r)
	printf "%sok %d kunit: %s\n", /^not / ? "not " : "", ++n, r }
	END { print "1.." n; exit bad }' <<<"$rows"
