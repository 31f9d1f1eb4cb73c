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
		say "$(jq -r '"\(.backend), \(.bytes) bytes, \(.depth) in flight, \(.queues) queues, " +
			"\(.devices // 1) devices, irqmode \(.irqmode): " +
			if .ns then "\(.ns | round)" else "\(.allocations) slab allocations" end' <<<"$line")"
	done
}

table() {
	jq -r '
		def backends: map(.backend) | unique;
		def cell($rows; $b): ($rows | map(select(.backend == $b))[0].ns) as $ns |
			if $ns then ($ns | round | tostring) else "-" end;
		map(select(.ns)) | backends as $all |
		(["irqmode", "bytes", "depth", "queues", "indirect", "devices"] + $all),
		(group_by([.irqmode, .queues, .indirect, .devices // 1, .bytes, .depth])[] as $rows |
			[$rows[0] | .irqmode, .bytes, .depth, .queues, .indirect, .devices // 1] +
			[$all[] as $b | cell($rows; $b)]) | @tsv' "$out/cost.json" | column -t
}

events() {
	jq -r '["irqmode", "bytes", "depth", "queues", "indirect", "devices", "kicks", "calls", "switches", "pins"],
		(.[] | select(.backend == "vhost-blk" and .ns) |
		[.irqmode, .bytes, .depth, .queues, .indirect, .devices, .kicks, .calls, .switches, .pins]) |
		@tsv' "$out/cost.json" | column -t
}

# What Documentation/benchmarks.rst has targets for.
summary() {
	jq -r '
		def rows($b; $case): map(select(. as $row | $row.backend == $b and .ns and
			all({irqmode: 0, bytes: 4096, depth: 32, queues: 1, indirect: false, devices: 1} + $case |
				to_entries[]; . as $e | ($row | {devices: 1} + .)[$e.key] == $e.value)));
		def cost($b; $case): rows($b; $case)[0].ns;
		def short: if . == null then "-" else . * 1000 | round / 1000 | tostring end;
		def ratio($what; $a; $b): [$what, ($a | short), ($b | short),
			(if $a and $b then $a / $b else null end | short)];
		def own($case): cost("vhost-blk"; $case);
		def against($what; $b; $case): ratio("\($what) ÷ \($b)"; own($case); cost($b; $case));
		["", "vhost-blk", "the other", "ratio"],
		against("32 in flight"; "libaio"; {}), against("1 in flight"; "libaio"; {depth: 1}),
		against("timer, 32 in flight"; "libaio"; {irqmode: 2}),
		against("timer, 1 in flight"; "libaio"; {irqmode: 2, depth: 1}),
		against("32 in flight"; "vhost-user-native"; {}),
		against("64 KiB, 32 in flight"; "io_uring"; {bytes: 65536}),
		ratio("4 queues ÷ 1 queue"; own({queues: 4}); own({})),
		ratio("8 devices ÷ 1 device"; own({devices: 8}); own({})),
		ratio("8 devices ÷ 1 device, 1 in flight"; own({devices: 8, depth: 1}); own({depth: 1})),
		(rows("vhost-blk"; {})[0] | ["calls", .calls, "-", "-"], ["kicks", .kicks, "-", "-"]),
		(.[] | select(has("allocations")) | ["slab allocations, \(.bytes) bytes", .allocations, "-", "-"]),
		["KiB of kernel memory for a device with one queue of 256",
			rows("vhost-blk"; {devices: 8})[0].memory_kib, "-", "-"] |
		@tsv' "$out/cost.json" | LC_ALL=C.UTF-8 column -t -s $'\t'
}

plot() {
	jq -r 'map(select(.ns and .irqmode == 0 and .bytes == 4096 and .queues == 1 and .indirect == false and
			(.devices // 1) == 1)) |
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
echo
echo "In short: instructions per request of 4 KiB, where nothing else is said:"
summary
say "done: $out/cost.json, $out/cost.svg"
