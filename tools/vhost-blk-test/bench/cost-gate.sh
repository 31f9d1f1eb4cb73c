#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# A part of make check: a 4 KiB request with 1 and with 32 in flight may cost at most
# 2 % more instructions than cost-baseline.json says. TAP on stdout.
#
# usage: cost-gate.sh [--record]
#   --record   write cost-baseline.json (make bench-baseline); commit it with the module
#
# The figures hold for one kernel, compiler and emulator. With others, and before it
# fails, the module of the commit that wrote the baseline is built and measured as well,
# and is what counts: an update of the machine's packages is no regression, and does not
# switch this off.
set -euo pipefail
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
top=$(cd "$here/../../.." && pwd -P)
baseline=$here/cost-baseline.json
percent=2
old=$top/build/cost-baseline

# measure MODULE: {"kernel": ..., "compiler": ..., "emulator": ..., "cost": {"1": N, "32": N}}
measure() {
	local lines

	lines=$("$here/../vm/run.sh" --count-instructions --mem 1024 --timeout 280 --module "$1" -- \
		"$here/cost-host.sh" "$here/../build/vring_cost" "" gate) || return
	jq -s --arg compiler "$(gcc --version | head -n 1)" \
		--arg emulator "$(qemu-system-x86_64 --version | head -n 1)" \
		'.[0] + {compiler: $compiler, emulator: $emulator,
			cost: (.[1:] | map({key: "\(.depth)", value: (.ns | round)}) | from_entries)}' <<<"$lines"
}

cost() {
	jq ".cost[\"$2\"]" <<<"$1"
}

conditions() {
	jq -c 'del(.cost)' <<<"$1"
}

# within NEW OLD: no figure is more than that many percent higher
within() {
	jq -en --argjson new "$1" --argjson old "$2" --argjson percent "$percent" \
		'all($old.cost | keys[]; $new.cost[.] * 100 <= $old.cost[.] * (100 + $percent))' >/dev/null
}

# The commit that wrote the baseline. Where history is cut off, the oldest commit seems
# to have written everything.
baseline_commit() {
	local commit

	commit=$(git -C "$top" log -1 --format=%H -- "$baseline" 2>/dev/null) &&
		git -C "$top" rev-parse -q --verify "$commit^" >/dev/null && echo "$commit"
}

# build_old COMMIT: its module, below $old
build_old() {
	rm -rf "$old"
	mkdir -p "$old"
	git -C "$top" archive "$1" Makefile Kbuild drivers include tools/vhost-header.sh |
		tar -x -C "$old"
	# A make that called us must not hand its options to this one.
	env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL make -s -C "$old" modules >&2
}

# verdict DEPTH NEW OLD REFERENCE: one TAP line
verdict() {
	local new base word=ok

	new=$(cost "$2" "$1") base=$(cost "$3" "$1")
	((new * 100 <= base * (100 + percent))) || word="not ok" failed=1
	printf '%s %d - a 4 KiB request with %d in flight costs %d instructions, %+.1f %% of %d, %s\n' \
		"$word" $((tap += 1)) "$1" "$new" "$(bc -l <<<"($new - $base) * 100 / $base")" "$base" "$4"
}

gate() {
	local new recorded commit reference="the baseline" tap=0 failed=0 depth same=1

	new=$(measure "$top/drivers/vhost/vhost_blk.ko") || return
	recorded=$(<"$baseline")
	[[ $(conditions "$new") == "$(conditions "$recorded")" ]] || same=0
	if ((!same)) || ! within "$new" "$recorded"; then
		((same)) || echo "# conditions: $(conditions "$new"), the baseline's: $(conditions "$recorded")"
		if commit=$(baseline_commit); then
			echo "# building and measuring the module of $commit, which wrote the baseline"
			build_old "$commit"
			recorded=$(measure "$old/drivers/vhost/vhost_blk.ko") || return
			reference="that module's cost under the same conditions"
		elif ((!same)); then
			for depth in 1 32; do
				echo "ok $((tap += 1)) - cost with $depth in flight # SKIP another kernel, compiler or" \
					"emulator than the baseline's, and no git history to build its module from"
			done
			return
		fi
	fi
	for depth in 1 32; do
		verdict "$depth" "$new" "$recorded" "$reference"
	done
	within "$recorded" "$new" ||
		echo "# cheaper than the baseline by more than $percent %: 'make bench-baseline' keeps that"
	return "$failed"
}

make -s -C "$top" modules >&2
make -s -C "$here/.." bench >&2
case ${1-} in
--record)
	new=$(measure "$top/drivers/vhost/vhost_blk.ko")
	jq . <<<"$new" | tee "$baseline"
	;;
'')
	echo "TAP version 13"
	echo "1..2"
	gate
	;;
*) echo "usage: cost-gate.sh [--record]" >&2; exit 2 ;;
esac
