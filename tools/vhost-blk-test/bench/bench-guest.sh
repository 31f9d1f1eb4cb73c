#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# make bench-guest: a guest's requests per second and latency, by back end, and the
# host's own, all in turns in one boot. Progress and tables on the terminal; one file of
# results for each run, build/bench/guest-TIME.json, and plots beside it.
#
# usage: bench-guest.sh [--packages]
#   QUICK=1               fewer cases
#   ROUNDS=N RUNTIME=S    every case runs that often (5), that many seconds (1)
#   BYTES="512 ..."       sizes of requests, by a guest with one disk and the first of
#   DEPTHS="1 32"         VCPUS; these many are in flight
#   VCPUS="1 2"           of guests; all but the first with 4096 bytes only
#   DISKS="1 2 4 8"       used at the same time, by a guest with the last of VCPUS, with
#                         4096 bytes and the last of DEPTHS
#   HERE=1                guests on this machine's KVM instead of in a test host: as root,
#                         with vhost_blk loaded
#   QEMU=FILE PLUGIN=FILE another QEMU, and the device's plugin for it
set -euo pipefail
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
top=$(cd "$here/../../.." && pwd -P)
out=$top/build/bench
name=$out/guest-$(date +%Y%m%d-%H%M%S)
packages=(bsdextrautils fio gnuplot-nox jq qemu-system-common)

if [[ ${1-} == --packages ]]; then
	printf '%s\n' "${packages[@]}"
	exit
fi

quick=${QUICK-0}
choose() {
	if [[ $quick == 1 ]]; then echo "$1"; else echo "$2"; fi
}
ROUNDS=${ROUNDS-5} RUNTIME=${RUNTIME-1} DEPTHS=${DEPTHS-1 32} VCPUS=${VCPUS-1 2}
BYTES=${BYTES-$(choose "4096" "512 1024 2048 4096 8192")}
DISKS=${DISKS-$(choose "1 4" "1 2 4 8")}

die() {
	echo "bench-guest: $*" >&2
	exit 1
}

say() {
	printf '[%d:%02d] %s\n' $((SECONDS / 60)) $((SECONDS % 60)) "$*"
}

check_words() {
	[[ "$ROUNDS $RUNTIME $BYTES $DEPTHS $VCPUS $DISKS" =~ ^[1-9][0-9]*(\ [1-9][0-9]*)*$ ]] ||
		die "ROUNDS, RUNTIME, BYTES, DEPTHS, VCPUS and DISKS take numbers"
	[[ " $BYTES " == *" 4096 "* ]] || die "BYTES must have 4096, which guests are compared with"
	for disks in $DISKS; do
		((disks <= 8)) || die "at most 8 disks"
	done
}

relay() {
	local line

	while read -r line; do
		case $line in
		"stage "*) say "${line#stage }" ;;
		"case "*) say "${line#case }" ;;
		*) echo "        $line" ;;
		esac
	done
}

settings() {
	printf '%s\0' "ROUNDS=$ROUNDS" "RUNTIME=$RUNTIME" "BYTES=$BYTES" "DEPTHS=$DEPTHS" \
		"VCPUS=$VCPUS" "DISKS=$DISKS" ${QEMU+"QEMU=$QEMU"} ${PLUGIN+"PLUGIN=$PLUGIN"}
}

# On the machine itself: its own KVM, its own module.
run_here() {
	local kernel guest

	[[ $(id -u) -eq 0 && -c /dev/kvm && -c /dev/vhost-blk ]] ||
		die "HERE=1 needs root, /dev/kvm and /dev/vhost-blk ('make install', modprobe vhost_blk)"
	kernel=$("$here/../vm/fetch-kernel.sh" "$release")
	guest=$("$here/../guest/mkinitramfs.sh" "$kernel")
	echo kvm >"$raw/accel"
	env "${settings[@]}" VHOST_BLK_VM=1 "VHOST_BLK_KERNEL=$kernel" "VHOST_BLK_GUEST=$guest" \
		VHOST_BLK_ACCEL=kvm "$here/guest-host.sh" "$raw"
}

# Nothing is waited for without a limit of its own: the deadline is generous.
run_test_host() {
	# shellcheck disable=SC2016 # for the test host
	"$here/../vm/run.sh" --nested --cpus "$cpus" --timeout 7200 --share "$raw" --log "$name.console" -- \
		env "${settings[@]}" bash -c 'echo "$VHOST_BLK_ACCEL" >"$2/accel"; exec "$1" "$2"' - \
		"$here/guest-host.sh" "$raw"
}

version() {
	"$1" --version 2>/dev/null | head -n 1
}

# All there is to know of a run: conditions, command lines, and every measurement.
collect() {
	jq -n --rawfile rows "$raw/rows" --rawfile commands "$raw/commands" --rawfile jobs "$raw/fio" \
		--arg date "$(date -Iseconds)" --arg accel "$(<"$raw/accel")" --arg kernel "$(<"$raw/kernel")" \
		--arg where "$([[ ${HERE-} ]] && echo "this machine" || echo "test host")" \
		--arg commit "$(git -C "$top" describe --always --dirty 2>/dev/null || echo unknown)" \
		--arg cpu "$(sed -n '/^model name/ { s/.*: //p; q }' /proc/cpuinfo)" --argjson cpus "$cpus" \
		--arg qemu "$(version "${QEMU-qemu-system-x86_64}")" \
		--arg storage "$(version qemu-storage-daemon)" --arg fio "$(version fio)" \
		--argjson rounds "$ROUNDS" --argjson runtime "$RUNTIME" '{
			conditions: {$date, $where, $accel, $cpu, $cpus, $kernel, $qemu, $storage, $fio,
				$commit, $rounds, runtime_s: $runtime},
			commands: ($commands | rtrimstr("\n") / "\n"), fio_jobs: $jobs,
			rows: [$rows | rtrimstr("\n") / "\n" | .[] / " " |
				{vcpus: .[0] | tonumber, disks: .[1] | tonumber, bytes: .[2] | tonumber,
				 depth: .[3] | tonumber, round: .[4] | tonumber, backend: .[5],
				 iops: .[6] | tonumber, latency_us: .[7] | tonumber, p99_us: .[8] | tonumber}]}' \
		>"$name.json"
}

# Functions for the tables and plots, which are all made of the file of results.
# shellcheck disable=SC2016 # jq's
jq_functions='
	def median: sort | if length % 2 == 1 then .[length / 2 | floor]
		else (.[length / 2 - 1] + .[length / 2]) / 2 end;
	def order: ["host", "virtio-blk", "iothread", "iothread-vq-mapping", "vhost-user-blk",
		"vhost-scsi", "vhost-blk", "vhost-blk-poll"];
	def backends: map(.backend) as $there | order | map(select(IN($there[])));
	def cells($axis): group_by(.[$axis]) | map({key: .[0][$axis], rows: .});
	def short: if . >= 100 then round else (. * 10 | round / 10) end | tostring;
	def spread: "\(median | short) ±\((max - min) * 50 / median | round)%";
	def pick($b): map(select(.backend == $b));
	def ratios($a; $b; $what): sort_by(.round) | [pick($a), pick($b)] | transpose |
		map(.[0][$what] / .[1][$what]);
	def ratio: "\(median * 100 | round / 100) (\(min * 100 | round / 100)-\(max * 100 | round / 100))";
	def part($case): .rows | map(select(. as $row | all($case | to_entries[]; $row[.key] == .value)));'

# table TITLE CASE AXIS FIELD: CASE in JSON says which rows; a column for each AXIS
table() {
	echo
	echo "$1"
	jq -r --argjson case "$2" --arg axis "$3" --arg what "$4" "$jq_functions"'
		part($case) | backends as $all | cells($axis) as $cells |
		["  \($axis)"] + ($cells | map(.key | tostring)),
		($all[] as $b | ["  \($b)"] + ($cells | map(.rows | pick($b) | map(.[$what]) | spread))),
		(("vhost-blk", "vhost-blk-poll") as $a | ("virtio-blk", "iothread", "vhost-user-blk") as $b |
			["  \($a) ÷ \($b)"] + ($cells | map(.rows | ratios($a; $b; $what) | ratio))) | @tsv' "$name.json" |
		LC_ALL=C.UTF-8 column -t -s $'\t'
}

report() {
	local depth first=${VCPUS%% *} last=${VCPUS##* } one

	echo
	echo "Medians of $ROUNDS rounds and half the distance of the extremes; of ratios, which are"
	echo "those of a round, the extremes. Random, half writes, libaio, direct; null_blk disks."
	for depth in $DEPTHS; do
		one="$first vCPU, 1 disk, $depth in flight, by size of the request:"
		table "Requests per second, $one" "{\"vcpus\":$first,\"disks\":1,\"depth\":$depth}" bytes iops
		table "Mean latency in microseconds, $one" "{\"vcpus\":$first,\"disks\":1,\"depth\":$depth}" bytes latency_us
		table "Requests per second of 4096 bytes, 1 disk, $depth in flight, by vCPUs:" \
			"{\"disks\":1,\"bytes\":4096,\"depth\":$depth}" vcpus iops
	done
	table "Requests per second of 4096 bytes, $last vCPU, $depth in flight on each disk, by disks:" \
		"{\"vcpus\":$last,\"bytes\":4096,\"depth\":$depth}" disks iops
	echo
	echo "Conditions:"
	jq -r '.conditions | to_entries[] | "  \(.key): \(.value)"' "$name.json"
	[[ $(<"$raw/accel") != tcg ]] || cat <<-END

	  KVM is not usable here: the host was emulated, and the guests ran inside it. Only
	  ratios count; the absolute figures say nothing about real hardware.
	END
}

# data CASE AXIS FIELD: for gnuplot, a row for each AXIS, three columns for each back end
data() {
	jq -r --argjson case "$1" --arg axis "$2" --arg what "$3" "$jq_functions"'
		part($case) | backends as $all | ["\"\""] + ($all | map("\"\(.)\"", 0, 0)),
		(cells($axis)[] | .rows as $rows | ["\"\(.key)\""] + ($all | map(. as $b | $rows |
			pick($b) | map(.[$what]) | median, min, max))) | join(" ")' "$name.json"
}

# plot SUFFIX TITLE XLABEL YLABEL DATA...: one picture of a chart for each CASE:AXIS:FIELD:TITLE
plot() {
	local suffix=$1 note='' commands='' i=0 file

	[[ $(<"$raw/accel") != tcg ]] || note=" (emulated: only ratios count)"
	while (($# > 1)); do
		file=$raw/plot.$suffix.$((i += 1))
		data "$4" "$5" "$6" >"$file"
		commands+="set title \"$2$note\"; set ylabel \"$3\"; set xlabel \"$5\"
			stats \"$file\" skip 1 using 2 nooutput
			plot for [i=2:STATS_columns:3] \"$file\" using i:i+1:i+2:xtic(1) title columnheader(i)
			"
		shift 5
	done
	gnuplot <<-END
		set terminal svg noenhanced size 1000,$((i * 380)) background "white"
		set output "$name-$suffix.svg"
		set style data histograms
		set style histogram errorbars gap 1 lw 1
		set style fill solid 0.8 border -1
		set yrange [0:*]
		set grid ytics
		set key outside right
		set multiplot layout $i,1
		$commands
	END
}

plots() {
	local depth iops=() latency=() first=${VCPUS%% *} last=${VCPUS##* } case

	for depth in $DEPTHS; do
		case="{\"vcpus\":$first,\"disks\":1,\"depth\":$depth}"
		iops+=("Requests per second, $first vCPU, 1 disk, $depth in flight" "IOPS" "$case" bytes iops)
		latency+=("Mean latency, $first vCPU, 1 disk, $depth in flight" "us" "$case" bytes latency_us)
	done
	plot iops "${iops[@]}"
	plot latency "${latency[@]}"
	plot disks "Requests per second, 4096 bytes, $last vCPU, $depth in flight on each disk" IOPS \
		"{\"vcpus\":$last,\"bytes\":4096,\"depth\":$depth}" disks iops
	plot vcpus "Requests per second, 4096 bytes, 1 disk, $depth in flight" IOPS \
		"{\"disks\":1,\"bytes\":4096,\"depth\":$depth}" vcpus iops
}

check_words
mkdir -p "$out"
raw=$(mktemp -d "$out/.guest.XXXXXX")
trap 'rm -rf "$raw"' EXIT
# A make that called us must not hand its options to ours.
unset MAKEFLAGS MFLAGS MAKELEVEL
cpus=$(nproc)
((cpus <= 8)) || [[ ${HERE-} ]] || cpus=8
say "building"
make -s -C "$top" modules
[[ ${PLUGIN+set} ]] || "$top/tools/qemu/build-plugin.sh" >/dev/null
release=$(modinfo -F vermagic "$top/drivers/vhost/vhost_blk.ko" | cut -d' ' -f1)
mapfile -d '' settings < <(settings)
say "measuring: $ROUNDS rounds"
if [[ ${HERE-} ]]; then run_here; else run_test_host; fi 2>&1 | relay || {
	cat "$raw/last-words" 2>/dev/null || true
	die "the run failed, see above and $name.console"
}
collect
report
plots
say "done: $name.json, $name-{iops,latency,disks,vcpus}.svg"
