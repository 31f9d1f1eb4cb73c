#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# make demo: boot a guest from a Debian root file system through vhost-blk-pci,
# run the 2013 paper's fio workload in it, compare with virtio-blk and with the
# host, check what the guest wrote. Results in build/demo.
#
# demo.sh [--packages]   RUNTIME=SECONDS and ROUNDS=N: each of the 20 combinations of
# engine and request size runs N times (3) for that long (1); the median counts.
# step() calls functions; single quotes keep what the test host expands.
# shellcheck disable=SC2317,SC2016
set -euo pipefail
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"

packages=(fio gnuplot-nox jq)

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
top=$(cd "$here/../.." && pwd -P)
cache=$HOME/.cache/vhost-blk
out=$top/build/demo
log=$out/demo.log
runtime=${RUNTIME-1}
rounds=${ROUNDS-3}
pending=

elapsed() {
	printf '%d:%02d' $((SECONDS / 60)) $((SECONDS % 60))
}

say() {
	printf '[%5s] %s\n' "$(elapsed)" "$*"
}

# die WHAT ADVICE
die() {
	say "FAILED: $1"
	echo "        what to do: $2"
	exit 1
}

# Shows that a long step is alive: one line every 20 seconds.
heartbeat() {
	local line

	# The sleep may outlive the demo: it must not hold our output open.
	while sleep 20 >/dev/null 2>&1; do
		line=$(tail -q -n 1 "$log" "$out/answer" 2>/dev/null | tail -n 1 | cut -c1-90)
		[[ $line != "== "* ]] || line="no output yet"
		say "  ... $line"
	done
}

# step TEXT ADVICE COMMAND...: its output goes to the log, the last line of its
# stdout into $answer
step() {
	local text=$1 advice=$2 rc=0

	shift 2
	say "$text"
	echo "== $text: $*" >>"$log"
	: >"$out/answer"
	heartbeat &
	pending=$!
	"$@" >"$out/answer" 2>>"$log" || rc=$?
	stop_heartbeat
	cat "$out/answer" >>"$log"
	if ((rc)); then
		tail -n 15 "$log"
		die "$text (status $rc)" "$advice"
	fi
	answer=$(tail -n 1 "$out/answer")
}

stop_heartbeat() {
	[[ $pending ]] || return 0
	kill "$pending" 2>/dev/null || true
	wait "$pending" 2>/dev/null || true
	pending=
}

check_machine() {
	local free

	[[ $(uname -m) == x86_64 ]] || die "this machine is $(uname -m)" "use an x86_64 one; the demo knows no other"
	for tool in fio jq gnuplot debootstrap qemu-system-x86_64; do
		command -v "$tool" >/dev/null || die "$tool is missing" "run 'make deps' (or make demo, which does)"
	done
	mkdir -p "$cache"
	free=$(df -k --output=avail "$cache" | tail -n 1)
	((free > 4 * 1048576)) || die "less than 4 GiB free below $cache" "free some space, or set HOME elsewhere"
	free=$(awk '$1 == "MemAvailable:" { print $2 }' /proc/meminfo)
	((free > 3500000)) || die "less than 3.5 GB of memory available" "end something, or use a larger machine"
}

# Cached; only making it needs root.
root_image() {
	local as_root=()

	[[ $(id -u) -eq 0 ]] || as_root=(sudo)
	"${as_root[@]}" "$here/guest/mkrootfs.sh" "$cache"
}

# A copy to write to, with the guest's scripts in it.
prepare_root() {
	cp --sparse=always --reflink=auto "$1" "$out/root.img"
	chmod 644 "$out/root.img"
	debugfs -w -f - "$out/root.img" <<-END
	cd guest
	write $here/guest/rc.sh rc.sh
	write $here/guest/demo.sh demo.sh
	write $here/guest/workload.sh workload.sh
	END
	e2fsck -fn "$out/root.img"
}

# Lines of the test host become progress lines of ours.
relay() {
	local line

	while read -r line; do
		case $line in
		"stage "*) say "${line#stage }" ;;
		*) echo "        $line" ;;
		esac
		echo "$line" >>"$log"
	done
}

run_test_host() {
	local rc=0

	"$here/vm/run.sh" --nested --timeout 720 --share "$out" --disk "$out/root.img" \
		--log "$out/console.log" -- \
		bash -c 'echo "$VHOST_BLK_ACCEL" >"$1/accel"; exec "$2/vm/demo-host.sh" "$1" "$3" "$4"' \
		demo "$out" "$here" "$runtime" "$rounds" 2>&1 | relay || rc=${PIPESTATUS[0]}
	case $rc in
	0) ;;
	99) die "the test host's kernel complained" "report $out/console.log: a bug in the module, unless the kernel is at fault" ;;
	124) die "the test host did not end in 12 minutes" "end other work on this machine, or ROUNDS=1 make demo" ;;
	125) die "the test host died" "see $out/console.log" ;;
	*) die "the demo inside the test host" "see the lines above" ;;
	esac
}

# build/demo/results.json: [{engine, bytes, iops, latency_us}], the round with the
# median IOPS of each; a job with an error or without a request is no result.
collect() {
	jq -s --argjson rounds "$rounds" '[.[].jobs[] |
		if .error != 0 or .read.total_ios == 0 or .write.total_ios == 0
		then error("fio job \(.jobname) failed") else . end |
		(.read.total_ios + .write.total_ios) as $ios | (.jobname | split("-")) as [$engine, $bytes] |
		{ engine: $engine, bytes: ($bytes | tonumber),
		  iops: (.read.iops + .write.iops | round),
		  latency_us: ((.read.lat_ns.mean * .read.total_ios +
			.write.lat_ns.mean * .write.total_ios) / $ios / 100 | round / 10) }] |
		group_by([.engine, .bytes]) |
		map(if length != $rounds then error("a round is missing") else
			sort_by(.iops)[length / 2 | floor] end)' \
		"$out"/host.*.json "$out"/guest.*.json >"$out/results.json" || return
	jq -e 'length == 20' "$out/results.json" >/dev/null || return
	jq -r '["engine","bytes","iops","latency_us"], (.[] | [.engine,.bytes,.iops,.latency_us]) | @csv' \
		"$out/results.json" | tr -d '"' >"$out/results.csv"
}

# table FIELD TITLE: one row an engine, one column a request size
table() {
	awk -F, -v column="$1" -v title="$2" '
		BEGIN {
			split("host plain iothread vhost", order, " ")
			name["host"] = "host, no guest"; name["plain"] = "virtio-blk-pci"
			name["iothread"] = "virtio-blk-pci,iothread"; name["vhost"] = "vhost-blk-pci"
			split("512 1024 2048 4096 8192", size, " ")
			split("512 B,1 KiB,2 KiB,4 KiB,8 KiB", head, ",")
		}
		NR > 1 { value[$1, $2] = $column }
		END {
			printf "\n  %-25s", title
			for (i = 1; i <= 5; i++) { printf "%10s", head[i] }
			print ""
			for (e = 1; e <= 4; e++) {
				printf "  %-25s", name[order[e]]
				for (i = 1; i <= 5; i++) { printf "%10s", value[order[e], size[i]] }
				print ""
			}
			for (e = 2; e <= 3; e++) {
				printf "  %-25s", "vhost-blk : " (e == 2 ? "virtio-blk" : "iothread")
				for (i = 1; i <= 5; i++) {
					printf "%9.2fx", value["vhost", size[i]] / value[order[e], size[i]]
				}
				print ""
			}
		}' "$out/results.csv"
}

plot() {
	local where=''

	[[ $(<"$out/accel") != tcg ]] || where=" (under emulation: only ratios count)"
	gnuplot <<-END
	set terminal svg size 900,420 font "sans,12"
	set output "$out/results.svg"
	set datafile separator ","
	set style data histograms
	set style histogram clustered gap 1
	set style fill solid 0.8 border -1
	set key outside right top
	set grid ytics
	set yrange [0:*]
	set ylabel "IOPS"
	set xlabel "request size"
	set title "random 50/50 read/write, libaio, direct, queue depth 32$where"
	plot for [e in "host plain iothread vhost"] "< awk -F, '\$1==\"".e."\"' $out/results.csv" \\
		using 3:xtic(2) title (e eq "host" ? "host, no guest" : e eq "plain" ? "virtio-blk-pci" : \\
		e eq "iothread" ? "virtio-blk-pci, iothread" : "vhost-blk-pci")
	END
}

report() {
	echo
	echo "  Random 50/50 read and write, libaio, direct, 32 in flight; median of $rounds"
	echo "  rounds of $runtime s; memory-backed null_blk disks, all in the same boot."
	table 3 "IOPS"
	table 4 "mean latency, us"
	echo
	if [[ $(<"$out/accel") == tcg ]]; then
		echo "  KVM is not usable on this machine: everything ran under emulation, guest inside"
		echo "  guest. Only ratios count; the absolute numbers say nothing about real hardware."
		echo "  Most of the time goes into leaving and entering the guest, whatever the device,"
		echo "  and ratios move by a third from run to run; ROUNDS=9 steadies them."
		echo
	fi
	echo "  The guest ran from Debian on vhost-blk-pci and shut down; e2fsck, sha256 of its"
	echo "  files and data, and crc32c of its writes agree on the host; no kernel warning."
	echo "  $out: results.json results.csv results.svg qemu-command console.log"
}

main() {
	local arg

	case ${1-} in
	--packages)
		{ printf '%s\n' "${packages[@]}"; "$here/guest/mkrootfs.sh" --packages; } | sort -u
		exit 0
		;;
	'') ;;
	*) echo "usage: demo.sh [--packages]" >&2; exit 2 ;;
	esac
	[[ $runtime =~ ^[1-9][0-9]*$ && $rounds =~ ^[1-9]$ ]] ||
		die "RUNTIME is '$runtime', ROUNDS is '$rounds'" "give whole seconds and 1 to 9 rounds"
	rm -rf "$out"
	mkdir -p "$out"
	trap stop_heartbeat EXIT
	# A make that called us must not hand its options to ours.
	unset MAKEFLAGS MFLAGS MAKELEVEL
	check_machine
	step "building the module" "see $log; 'make' shows it alone" make -C "$top"
	step "building the QEMU device" "see $log; tools/qemu/build-plugin.sh shows it alone" "$top/tools/qemu/build-plugin.sh"
	step "making a Debian root file system (cached)" "see $log" root_image
	step "copying it for this run" "see $log; is the disk full?" prepare_root "$answer"
	arg=$(modinfo -F vermagic "$top/drivers/vhost/vhost_blk.ko" | cut -d' ' -f1)
	step "fetching kernel $arg (cached)" "run 'apt-get update', then again" "$here/vm/fetch-kernel.sh" "$arg"
	say "booting the test host"
	run_test_host
	collect || die "fio's results are incomplete" "see $out/*.json"
	plot || die "no plot" "see the lines above; gnuplot-nox is needed"
	report
	say "done"
}

main "$@"; exit
