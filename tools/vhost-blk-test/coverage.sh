#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# coverage.sh: which lines of the module the kselftests and the fuzzer execute, on
# the sanitizer kernel. Prints a table and the lines that are never reached; the
# annotated sources stay in build/coverage/. Exit: 0 if at least PERCENT (90) of
# the lines are.
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
top=$(cd "$here/../.." && pwd -P)
out=$top/build/coverage
percent=${PERCENT:-90}

# Inside the test host: run everything, then take the counters out.
if [ "${1-}" = --inside ]; then
	failed=0
	"$here/run-kselftests.sh" >"$out/kselftests.tap" || failed=1
	"$here/build/fuzz" --seconds "${FUZZ_SECONDS:-60}" >"$out/fuzz.tap" || failed=1
	for file in /sys/kernel/debug/gcov"$2"/drivers/vhost/blk*.gcda; do
		cat "$file" >"$out/${file##*/}"
	done
	exit $failed
fi

rm -rf "$out"
mkdir -p "$out"
make -s -C "$here"
dir=$("$here/vm/sanitizer-kernel.sh" --gcov)
"$here/vm/run.sh" --mem 2048 --timeout 2400 --kernel "$dir" --share "$out" --log "$out/console" \
	--module "$dir/build-gcov/drivers/vhost/vhost_blk.ko" -- "$0" --inside "$dir/build-gcov" ||
	echo "coverage.sh: some tests failed, see $out" >&2
cp "$dir"/build-gcov/drivers/vhost/blk*.gcno "$out/"
cd "$out"
rm -f blk-kunit.*
[ -e blk.gcda ] || { echo "coverage.sh: no counters came out, see $out/console" >&2; exit 1; }
(cd "$dir/kdir" && gcov --object-directory "$out" "$out"/blk*.gcda >"$out/gcov.log" 2>&1 &&
	mv ./*.gcov "$out/")
echo "lines never executed:"
grep -Hn '^ *#####:' blk*.c.gcov | sed -E 's/\.gcov:[0-9]+: *#####: *([0-9]+):/:\1: /' || true
awk -F: '
	FNR == 1 { file = FILENAME; sub(/\.gcov$/, "", file); files[++n] = file }
	$1 ~ /#####|=====/ { all[file]++; next }
	$1 ~ /[0-9]/ { all[file]++; hit[file]++ }
	END {
		printf "\n%-14s %6s %6s %7s\n", "file", "lines", "hit", "%"
		for (i = 1; i <= n; i++) {
			f = files[i]; A += all[f]; H += hit[f]
			printf "%-14s %6d %6d %6.1f%%\n", f, all[f], hit[f], 100 * hit[f] / all[f]
		}
		printf "%-14s %6d %6d %6.1f%%\n", "all", A, H, 100 * H / A
		exit 100 * H / A < '"$percent"'
	}' blk*.c.gcov
