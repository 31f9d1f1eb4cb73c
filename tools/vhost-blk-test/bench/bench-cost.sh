#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# make bench-cost: instructions that a request costs the host, user and kernel, by
# vhost_blk and by what else there is, on the same null_blk. The test host has one CPU,
# and each of its instructions takes one nanosecond: the figures do not depend on the
# machine. Table on the terminal; build/bench/cost.json and cost.svg.
#
# usage: bench-cost.sh [--packages]
set -euo pipefail
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
top=$(cd "$here/../../.." && pwd -P)
out=$top/build/bench
packages=(bc bsdextrautils fio gnuplot-nox jq qemu-system-common)

if [[ ${1-} == --packages ]]; then
	{ printf '%s\n' "${packages[@]}"; "$here/build-io_uring.sh" --packages; } | sort -u
	exit
fi

say() {
	printf '[%d:%02d] %s\n' $((SECONDS / 60)) $((SECONDS % 60)) "$*"
}

# One line of progress for each case; all of them go to the file.
relay() {
	local line

	while read -r line; do
		if [[ $line != '{'* ]]; then
			echo "$line"
			continue
		fi
		echo "$line" >>"$out/cost.jsonl"
		say "$(jq -r '"\(.backend), \(.bytes) bytes, \(.depth) in flight, \(.queues) queues, irqmode \(.irqmode): \(.ns | round)"' <<<"$line")"
	done
}

table() {
	jq -r '
		def backends: map(.backend) | unique;
		def cell($rows; $b): ($rows | map(select(.backend == $b))[0].ns) as $ns |
			if $ns then ($ns | round | tostring) else "-" end;
		backends as $all | (["irqmode", "bytes", "depth", "queues", "indirect"] + $all),
		(group_by([.irqmode, .queues, .indirect, .bytes, .depth])[] as $rows |
			[$rows[0] | .irqmode, .bytes, .depth, .queues, .indirect] +
			[$all[] as $b | cell($rows; $b)]) | @tsv' "$out/cost.json" | column -t
}

events() {
	jq -r '["irqmode", "bytes", "depth", "queues", "kicks", "calls", "switches", "pins"],
		(.[] | select(.backend == "vhost-blk") |
		[.irqmode, .bytes, .depth, .queues, .kicks, .calls, .switches, .pins]) | @tsv' "$out/cost.json" | column -t
}

plot() {
	jq -r 'map(select(.irqmode == 0 and .bytes == 4096 and .queues == 1 and .indirect == false)) |
		[group_by(.backend)[] | ["\"\(.[0].backend)\""] + [sort_by(.depth)[] | "\(.depth) \(.ns)"] |
			join("\n")] | join("\n\n\n")' \
		"$out/cost.json" >"$out/cost.dat"
	gnuplot <<-END
		set terminal svg noenhanced size 900,540 background "white"
		set output "$out/cost.svg"
		set title "Instructions a 4 KiB request costs the host (null_blk, one CPU)"
		set xlabel "requests in flight"
		set ylabel "instructions per request"
		set logscale x 2
		set xtics (1, 8, 32, 128)
		set yrange [0:*]
		set grid
		set key outside right
		stats "$out/cost.dat" using 1:2 nooutput
		plot for [i=0:STATS_blocks-1] "$out/cost.dat" index i using 1:2 with linespoints linewidth 2 title columnheader(1)
	END
}

mkdir -p "$out"
rm -f "$out"/cost.*
say "building"
make -s -C "$top" modules
make -s -C "$here/.." bench
io_uring=$("$here/build-io_uring.sh") || { echo "no t/io_uring: its columns will be missing"; io_uring=; }
say "measuring: about 10 minutes"
"$here/../vm/run.sh" --count-instructions --mem 2048 --timeout 2400 --log "$out/cost.console" -- \
	"$here/cost-host.sh" "$here/../build/vring_cost" "$io_uring" | relay
jq -s . "$out/cost.jsonl" >"$out/cost.json"
rm "$out/cost.jsonl"
plot
echo
echo "Instructions per request, 50 % writes (io_uring: reads), random offsets:"
table
echo
echo "What happens per request, vhost-blk:"
events
say "done: $out/cost.json, $out/cost.svg"
