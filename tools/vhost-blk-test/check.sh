#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# check.sh: build and run every test; what `make check` runs.
#
#   KERNELS="6.1 6.12"   kernels to run the kselftests on (default: 6.1 6.12 7.2)
#   FUZZ_SEED=N          first seed of the fuzzer (1)
#
# Every stage prints TAP. The last line counts all of its results:
# "N passed, N failed, N skipped". Logs stay in build/check/. Exit: 0 if nothing
# failed.
set -uo pipefail
export LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
top=$(cd "$here/../.." && pwd -P)
logs=$top/build/check
vm=$here/vm/run.sh
kernels=${KERNELS:-6.1 6.12 7.2}
passed=0 failed=0 skipped=0
cd "$top" || exit 1
rm -rf "$logs"
mkdir -p "$logs"

# stage NAME SECONDS COMMAND...: run a command that prints TAP, count its results.
# A command that fails, prints no plan or not as many results as planned, counts
# as one failure more. Where run.sh blames the emulator, the command runs again.
stage() {
	local name=$1 limit=$2 log=$logs/$1.tap start=$SECONDS try status ok bad skip planned
	shift 2
	for try in 1 2 3; do
		echo "# $name$([ "$try" = 1 ] || echo ", try $try")"
		timeout --kill-after=30 "$limit" "$@" </dev/null 2>&1 | tee "$log"
		status=${PIPESTATUS[0]}
		[ "$status" -eq 75 ] || break
	done
	skip=$(grep -cE '^ok [0-9]+.*# SKIP' "$log")
	ok=$(($(grep -cE '^ok [0-9]+' "$log") - skip))
	bad=$(grep -cE '^not ok [0-9]+' "$log")
	planned=$(sed -nE 's/^1\.\.([0-9]+).*/\1/p' "$log" | awk '{ n += $1 } END { print n + 0 }')
	if [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then
		echo "not ok - $name: exit status $status"
		bad=1
	elif [ "$planned" -eq 0 ] || [ "$planned" -ne $((ok + bad + skip)) ]; then
		echo "not ok - $name: $planned results planned, $((ok + bad + skip)) seen"
		bad=$((bad + 1))
	fi
	echo "# $name: $ok passed, $bad failed, $skip skipped in $((SECONDS - start)) s"
	passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skip))
	[ "$bad" -eq 0 ]
}

finish() {
	echo "# logs: $logs, $((SECONDS / 60)) min $((SECONDS % 60)) s"
	echo "$passed passed, $failed failed, $skipped skipped"
	[ "$failed" -eq 0 ]
	exit
}

# build_kernel LABEL COMMAND...: a kernel and the module for it; the directory that
# the command prints goes into a file, for the stages that boot it.
build_kernel() {
	local label=$1 dir
	shift
	echo "1..1"
	if dir=$("$@"); then
		echo "$dir" >"$logs/kernel-$label"
		echo "ok 1 kernel and module: $label"
	else
		echo "not ok 1 kernel and module: $label"
		return 1
	fi
}
export -f build_kernel
export logs

# kselftests LABEL [KERNEL_DIR]: the whole suite in a test host.
kselftests() {
	local label=$1 args=()
	[ $# -eq 1 ] || args=(--mem 2048 --kernel "$2" --module "$2/build/drivers/vhost/vhost_blk.ko")
	stage "kselftests-$label" 900 "$vm" "${args[@]}" --timeout 840 \
		--log "$logs/kselftests-$label.console" -- "$here/run-kselftests.sh"
}

stage static 600 "$here/static.sh" || finish
stage build 1200 "$here/build.sh" || finish
stage test-host 600 "$here/vm/selftest.sh"
stage qemu-device 300 "$top/tools/qemu/test_device.sh"

native=$(modinfo -F vermagic drivers/vhost/vhost_blk.ko | cut -d. -f1,2)
for series in $kernels; do
	if [ "$series" = "$native" ]; then
		kselftests "$series"
	elif stage "build-$series" 1200 bash -c 'build_kernel "$@"' - \
		"$series" "$here/vm/debian-kernel.sh" "$series"; then
		kselftests "$series" "$(cat "$logs/kernel-$series")"
	fi
done
if stage build-sanitizer 2400 bash -c 'build_kernel "$@"' - \
	sanitizer "$here/vm/sanitizer-kernel.sh"; then
	dir=$(cat "$logs/kernel-sanitizer")
	stage kunit 120 "$vm" --kernel "$dir" --module "$dir/build/drivers/vhost/vhost_blk.ko" \
		--mem 1536 --timeout 100 --log "$logs/kunit.console" -- "$here/kunit.sh"
	kselftests sanitizer "$dir"
	stage fuzz 300 "$vm" --kernel "$dir" --module "$dir/build/drivers/vhost/vhost_blk.ko" \
		--mem 2048 --timeout 280 --log "$logs/fuzz.console" \
		-- "$here/build/fuzz" --seconds 60 --seed "${FUZZ_SEED:-1}"
fi
stage guest 900 "$vm" --nested --timeout 840 --log "$logs/guest.console" \
	-- "$here/test_guest.sh"
# slub_debug keeps caches apart and counts exact: 20 kills must not leave an object.
stage kill 1200 "$vm" --nested --append slub_debug=U --timeout 1140 --log "$logs/kill.console" \
	-- "$here/test_kill.sh"
finish
