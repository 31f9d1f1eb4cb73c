#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# make profile: which functions execute the instructions that a request costs, each one
# counted by QEMU. Table on the terminal, the whole of it in build/bench/profile.txt.
#
# usage: profile.sh [OPTION...]   those of vring_cost but --requests; IRQMODE=0, 1 or 2
set -euo pipefail
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
top=$(cd "$here/../../.." && pwd -P)
out=$top/build/bench
# A multiple of what is in flight, if that is a power of two.
requests=38400

# The plugin interface is that of the source that the installed QEMU was built from.
build_plugin() {
	local flags

	# shellcheck source=tools/qemu/qemu-source.sh
	. "$top/tools/qemu/qemu-source.sh"
	select_qemu "" gcc libglib2.0-dev pkg-config
	exec 9>"$QEMU_BASE/lock"
	flock 9
	fetch_qemu_source ""
	exec 9>&-
	read -r -a flags <<<"$(pkg-config --cflags glib-2.0)"
	gcc -O2 -Wall -Wextra -Werror -fPIC -shared "${flags[@]}" -isystem "$QEMU_BASE/src/include/qemu" \
		-o "$1" "$top/tools/qemu/profile.c"
}

# Symbols and counts, sorted together by address: a count belongs to the last symbol.
# Prints instructions per request, function, module.
by_function() {
	{
		awk '$2 ~ /^[tTwW]$/ { print $1, "symbol", $3, ($4 ? $4 : "kernel") }' "$work/symbols"
		sed 's/ / count /' "$work/counts"
	} | sort -s -k 1,1 | awk -v requests="$requests" '
		$2 == "symbol" { name = $3 " " $4; next }
		{ sum[/^0000/ ? "(all) user-space" : name] += $3 }
		END { for (name in sum) printf "%.1f %s\n", sum[name] / requests, name }' |
		sort -k 1,1nr
}

by_module() {
	awk '{ sum[$3] += $1; all += $1 } END {
		printf "%.1f all\n", all
		for (name in sum) printf "%.1f %s\n", sum[name], name }' "$out/profile.txt" | sort -k 1,1nr
}

mkdir -p "$out"
work=$(mktemp -d "$out/.profile.XXXXXX")
trap 'rm -rf "$work"' EXIT
unset MAKEFLAGS MFLAGS MAKELEVEL
make -s -C "$top" modules
make -s -C "$here/.." bench
build_plugin "$work/profile.so"
"$here/../vm/run.sh" --count-instructions --plugin "$work/profile.so,out=$work/counts" --mem 1024 \
	--timeout 600 --share "$work" -- "$here/cost-host.sh" "$here/../build/vring_cost" "" \
	profile "$work" "${IRQMODE-0}" "$@" --requests "$requests"
by_function >"$out/profile.txt"
printf '\nInstructions per request, by module:\n'
by_module | column -t
printf '\nBy function:\n'
head -n 60 "$out/profile.txt" | column -t
echo "All: $out/profile.txt"
