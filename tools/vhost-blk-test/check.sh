#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# check.sh: build and run the tests.
#
# usage: check.sh [long|kcsan|qemu]
#   (nothing)   every test: what `make check` runs, within an hour
#   long        the release check: what it repeats, it repeats as often as a night
#               run would, and fuzzes and stresses for 10 minutes each
#   kcsan       kselftests, stress and fuzzer under the data race detector
#   qemu        guests on the QEMUs that the other tests do not use: one built from the
#               source of the installed one, and trixie's, stock and built
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
prefix=()	# runs the command of every test host
passed=0 failed=0 skipped=0
cd "$top" || exit 1
rm -rf "$logs"
mkdir -p "$logs"

# stage NAME SECONDS COMMAND...: run a command that prints TAP, count its results.
# A command that fails, prints no plan or not as many results as planned, counts
# as one failure more.
stage() {
	local name=$1 limit=$2 log=$logs/$1.tap start=$SECONDS status ok bad skip planned
	shift 2
	echo "# $name"
	# Ends with its lane.
	setpriv --pdeathsig TERM timeout --kill-after=30 "$limit" "$@" </dev/null 2>&1 | tee "$log"
	status=${PIPESTATUS[0]}
	skip=$(grep -cE '^ok [0-9]+.*# SKIP' "$log")
	ok=$(($(grep -cE '^ok [0-9]+' "$log") - skip))
	bad=$(grep -cE '^not ok [0-9]+' "$log")
	planned=$(sed -nE 's/^1\.\.([0-9]+).*/\1/p' "$log" | awk '{ n += $1 } END { print n + 0 }')
	if [ "$status" -ne 0 ] && [ "$bad" -eq 0 ]; then
		echo "not ok - $name: exit status $status" | tee -a "$log"
		bad=1
	elif [ "$planned" -eq 0 ] || [ "$planned" -ne $((ok + bad + skip)) ]; then
		echo "not ok - $name: $planned results planned, $((ok + bad + skip)) seen" | tee -a "$log"
		bad=$((bad + 1))
	fi
	echo "# $name: $ok passed, $bad failed, $skip skipped in $((SECONDS - start)) s"
	passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skip))
	[ "$bad" -eq 0 ]
}

# A second lane: the stages of FUNCTION in the background, because few stages keep two
# CPUs busy. Its output comes in one piece.
lane_start() {
	("$1"; echo "$passed $failed $skipped" >"$logs/$1.sum") >"$logs/$1.out" 2>&1 &
	trap 'kill $(jobs -p) 2>/dev/null' EXIT
	echo "# $1: in the background, output follows below"
}

lane_join() {
	local ok=0 bad=1 skip=0
	wait
	cat "$logs/$1.out"
	read -r ok bad skip <"$logs/$1.sum"
	passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skip))
}

# What failed, once more, with what was said before and after it.
failures() {
	local log name

	for log in "$logs"/*.tap; do
		name=${log##*/}
		grep -aE -B 8 -A 60 '^not ok' "$log" | sed "s/^/# ${name%.tap}: /"
	done
}

finish() {
	failures
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

# Kernels of ours have their module below them; Debian's own one is for the native kernel.
of_kernel() {
	[ $# -eq 0 ] || printf '%s\0' --mem 2048 --kernel "$1" --module "$1/build/drivers/vhost/vhost_blk.ko"
}

# in_vm NAME SECONDS KERNEL_DIR|"" COMMAND...: a stage in a test host.
in_vm() {
	local name=$1 limit=$2 args
	mapfile -d '' args < <(of_kernel ${3:+"$3"})
	shift 3
	stage "$name" $((limit + 60)) "$vm" "${args[@]}" --timeout "$limit" \
		--log "$logs/$name.console" -- "${prefix[@]}" "$@"
}

# nested NAME SECONDS [run.sh options] -- COMMAND...: a stage that starts guests.
nested() {
	local name=$1 limit=$2
	shift 2
	stage "$name" $((limit + 60)) "$vm" --nested --timeout "$limit" \
		--log "$logs/$name.console" "$@"
}

# The whole suite or some programs of it: LABEL SECONDS KERNEL_DIR|"" [PROGRAM...]
kselftests() {
	local label=$1 limit=$2 dir=$3
	shift 3
	in_vm "kselftests-$label" "$limit" "$dir" env "VT_LOOPS=${VT_LOOPS:-1}" \
		"VT_TIMEOUT_MS=${VT_TIMEOUT_MS:-5000}" \
		"VT_PROGRAM_TIMEOUT=${VT_PROGRAM_TIMEOUT:-480}" "$here/run-kselftests.sh" "$@"
}

# On a virtual PC with sanitizers, which is 20 times as slow as others, those programs
# where several CPUs, or sleeping at the wrong time, matter most: LABEL KERNEL_DIR
kselftests_smp() {
	VT_TIMEOUT_MS=30000 VT_PROGRAM_TIMEOUT=900 kselftests "$1" 2400 "$2" \
		"$here"/build/test_{completion,faults,lifecycle,malformed,pins,ring,uapi}
}

# Random verified requests from all sides: LABEL KERNEL_DIR SECONDS; on disks of all
# kinds, which together take half as long again.
stress() {
	in_vm "stress-$1" $(($3 * 2 + 420)) "$2" env "VT_SECONDS=$3" "$here/build/test_stress"
}

# LABEL KERNEL_DIR SECONDS
fuzz() {
	in_vm "fuzz-$1" $(($3 + 220)) "$2" "$here/build/fuzz" --seconds "$3" --seed "${FUZZ_SEED:-1}"
}

# Builds the kernel $1, leaves its directory in $dir.
sanitizer() {
	stage "build-$1" 2400 bash -c 'build_kernel "$@"' - "$1" "$here/vm/sanitizer-kernel.sh" "$1" &&
		dir=$(cat "$logs/kernel-$1")
}

# Builds for the Debian kernel $1; $dir is empty for the one that is native here.
debian() {
	dir=
	[ "$1" = "$(modinfo -F vermagic drivers/vhost/vhost_blk.ko | cut -d. -f1,2)" ] ||
		{ stage "build-$1" 1200 bash -c 'build_kernel "$@"' - "$1" "$here/vm/debian-kernel.sh" "$1" &&
			dir=$(cat "$logs/kernel-$1"); }
}

debian_kernels() {
	for series in $kernels; do
		! debian "$series" || kselftests "$series" 1800 "$dir"
	done
}

# The kernels first, which need nothing that the other lane builds.
sanitizer_kernels() {
	local um='' smp=''

	! sanitizer um || um=$dir
	! sanitizer smp || smp=$dir
	flock -w 1800 "$logs/building" true
	if [ "$um" ]; then
		in_vm kunit 120 "$um" "$here/kunit.sh"
		kselftests um 1800 "$um"
		fuzz um "$um" 60
	fi
	if [ "$smp" ]; then
		kselftests_smp smp "$smp"
		stress smp "$smp" 60
	fi
}

guests() {
	nested guest 840 -- "$here/test_guest.sh"
	# slub_debug keeps caches apart and counts exact: 12 kills must not leave an object.
	# It makes 6.1 lose an inode of debugfs with every cache that is destroyed.
	nested kill 1140 --append "slub_debug=U debugfs=off" -- "$here/test_kill.sh"
	nested powercut 540 -- "$here/test_powercut.sh"
	nested jobs 900 -- "$here/test_jobs.sh"
	nested isolation 600 -- "$here/test_isolation.sh"
}

# What is done to disks of virtio-blk-pci, done to one of vhost-blk-pci; most of it in the
# second lane.
devices() {
	nested migration 900 -- "$here/test_migration.sh"
	nested dropin 600 -- "$here/test_dropin.sh"
	nested errors 600 -- "$here/test_errors.sh"
	nested hotplug 600 -- "$here/test_hotplug.sh"
}

background() {
	sanitizer_kernels
	devices
}

run_all() {
	local building

	exec {building}>"$logs/building"
	flock "$building"
	lane_start background
	stage static 600 "$here/static.sh" || finish
	stage build 1200 "$here/build.sh" || finish
	flock -u "$building"
	stage test-host 600 "$here/vm/selftest.sh"
	stage qemu-device 300 "$top/tools/qemu/test_device.sh"
	stage cost 900 "$here/bench/cost-gate.sh"
	debian_kernels
	guests
	lane_join background
}

# 50 kills, a thousand hand-overs and back, 50 disks plugged and unplugged, 10 round trips.
guests_long() {
	nested kill-long 1800 --append "slub_debug=U debugfs=off" -- "$here/test_kill.sh" 50
	nested jobs-long 1800 -- "$here/test_jobs.sh" 1000 turns
	nested hotplug-long 1800 -- "$here/test_hotplug.sh" 50
	nested hotplug-q35 900 -- env machine=q35 "$here/test_hotplug.sh"
	nested migration-long 1800 -- env CPUS=2 "$here/test_migration.sh" 10
}

run_long() {
	stage build 1200 "$here/build.sh" || finish
	# Brings starts and stops to 1 000 and reloads to 100.
	export VT_LOOPS=5 VT_PROGRAM_TIMEOUT=900
	! debian 7.2 || kselftests 7.2-long 1800 "$dir" \
		"$here"/build/test_{backend_changes,lifecycle,workers} "$here/test_module.sh"
	if sanitizer um; then
		kselftests um-long 3600 "$dir"
		# A million pairs of requests.
		in_vm lost-wakeup-um 1800 "$dir" env VT_LOOPS=84 "$here/build/test_notify"
		fuzz um "$dir" 600
	fi
	! sanitizer smp || stress smp "$dir" 600
	guests_long
}

run_kcsan() {
	stage build 1200 "$here/build.sh" || finish
	sanitizer kcsan || finish
	prefix=("$here/vm/kcsan.sh")
	kselftests_smp kcsan "$dir"
	stress kcsan "$dir" 60
	fuzz kcsan "$dir" 60
}

# qemu_variant NAME: where it is, and its plugin, if it needs one, into files for the
# stages that use it.
qemu_variant() {
	local qemu plugin='' tools=$top/tools/qemu

	echo "1..1"
	case $1 in
	built) qemu=$("$tools/build-qemu.sh" | tail -n 1) ;;
	trixie)
		qemu=$("$tools/build-plugin.sh" --release trixie --qemu | tail -n 1) &&
			plugin=$("$tools/build-plugin.sh" --release trixie | tail -n 1)
		;;
	trixie-built) qemu=$("$tools/build-qemu.sh" --release trixie | tail -n 1) ;;
	esac
	if [ -x "$qemu" ]; then
		printf '%s\n' "QEMU=$qemu" "PLUGIN=$plugin" >"$logs/variant-$1"
		echo "ok 1 QEMU: $1"
	else
		echo "not ok 1 QEMU: $1"
		return 1
	fi
}
export -f qemu_variant
export top

run_qemu() {
	local variant test env

	stage build 1200 "$here/build.sh" || finish
	for variant in built trixie trixie-built; do
		stage "qemu-$variant" 2400 bash -o pipefail -c 'qemu_variant "$@"' - "$variant" || continue
		mapfile -t env <"$logs/variant-$variant"
		for test in guest dropin jobs migration hotplug errors; do
			nested "$test-$variant" 900 -- env "${env[@]}" "$here/test_$test.sh"
		done
	done
}

case ${1-} in
'') run_all ;;
long) run_long ;;
kcsan) run_kcsan ;;
qemu) run_qemu ;;
*) echo "check.sh: there is no '$1': long, kcsan, qemu, or nothing" >&2; exit 2 ;;
esac
finish
