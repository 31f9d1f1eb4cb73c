#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Run a command on a kernel with the data race detector (KCSAN), in which only
# vhost_blk and vhost core are instrumented (sanitizer-kernel.sh kcsan); say at the
# end how often it looked. run.sh fails on a report.
#
# usage: kcsan.sh COMMAND [ARGUMENT...]     in the test host, module loaded, as root
#   KCSAN_SKIP_WATCH=N   watch one access in N (40)
#   KCSAN_DELAY_US=N     for as long (80)
set -euo pipefail

kcsan=/sys/kernel/debug/kcsan
parameters=/sys/module/kcsan/parameters
[ -e "$kcsan" ] || mount -t debugfs debugfs /sys/kernel/debug
[ -w "$kcsan" ] || { echo "kcsan.sh: this kernel has no KCSAN" >&2; exit 1; }

counter() {
	awk -v name="$1:" '$1 == name { print $2 }' "$kcsan"
}

# The default watches one access in 4000.
echo "${KCSAN_SKIP_WATCH:-40}" >"$parameters/skip_watch"
echo "${KCSAN_DELAY_US:-80}" >"$parameters/udelay_task"
before=$(counter setup_watchpoints) status=0
"$@" || status=$?
nr=$(($(counter setup_watchpoints) - before))
echo "# KCSAN watched $nr accesses and saw $(counter data_races) races"
[ "$nr" -ge 100 ] || { echo "kcsan.sh: these are too few: is the module instrumented?" >&2; exit 1; }
exit "$status"
