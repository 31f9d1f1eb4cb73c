#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Run a command on a kernel with the data race detector (KCSAN), which is told to
# report races between functions of vhost_blk and vhost core only: the rest of the
# kernel has some that are known and none of ours. run.sh fails on a report.
#
# usage: kcsan.sh COMMAND [ARGUMENT...]     in the test host, module loaded, as root
#   KCSAN_SKIP_WATCH=N   watch one access in N (200)
set -euo pipefail

kcsan=/sys/kernel/debug/kcsan
[ -e "$kcsan" ] || mount -t debugfs debugfs /sys/kernel/debug
[ -w "$kcsan" ] || { echo "kcsan.sh: this kernel has no KCSAN" >&2; exit 1; }
nr=0
while read -r name; do
	if echo "!$name" >"$kcsan" 2>/dev/null; then nr=$((nr + 1)); fi
done < <(awk 'tolower($2) == "t" && $4 ~ /^\[vhost/ { print $3 }' /proc/kallsyms | sort -u)
echo "# KCSAN looks at $nr functions"
[ "$nr" -ge 50 ] || { echo "kcsan.sh: these are too few" >&2; exit 1; }
# The default watches one access in 4000.
echo "${KCSAN_SKIP_WATCH:-200}" >/sys/module/kcsan/parameters/skip_watch
echo whitelist >"$kcsan"
exec "$@"
