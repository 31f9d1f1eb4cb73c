#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# static.sh: everything that reads the source without running it; TAP on stdout.
# checkpatch and kernel-doc come from the kernel source package.
set -uo pipefail
export LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
top=$(cd "$here/../.." && pwd -P)
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
n=0 bad=0
cd "$top" || exit 1

# check NAME COMMAND...: passes if the command exits with 0 and prints nothing.
check() {
	local name=$1 log status
	shift
	n=$((n + 1))
	log=$("$@" 2>&1)
	status=$?
	if [ $status -eq 0 ] && [ -z "$log" ]; then
		echo "ok $n $name"
	else
		bad=1
		head -n 40 <<<"$log" | sed 's/^/# /'
		echo "not ok $n $name (exit status $status)"
	fi
}

kernel_scripts() {
	local tarball
	tarball=$(find /usr/src -maxdepth 1 -name 'linux-source-*.tar.xz' | sort -V | tail -n 1)
	[ -n "$tarball" ] || { echo "no kernel source: apt-get install linux-source"; return 1; }
	# The scripts sort behind most of the tree: name them all, read the tarball once.
	tar -xf "$tarball" -C "$tmp" --strip-components=1 --wildcards \
		'*/scripts/checkpatch.pl' '*/scripts/spelling.txt' \
		'*/scripts/const_structs.checkpatch' '*/scripts/kernel-doc'
}

# Warnings of this module only: the kernel's own headers are not ours to mend.
module_build() {
	local log
	rm -f drivers/vhost/*.o
	log=$(make W=1 C=1 CF=-D__CHECK_ENDIAN__ 2>&1) || { echo "$log"; return 1; }
	! grep -E "^($top/)?(drivers/vhost|include/uapi)/.*(warning|error)" <<<"$log"
}

checkpatch() {
	perl "$tmp/scripts/checkpatch.pl" --no-tree --terse --no-summary --show-types --quiet "$@"
}

# In a program volatile is what shared memory needs, and there are no kernel macros or types.
user_style=VOLATILE,PREFER_DEFINED_ATTRIBUTE_MACRO,CAMELCASE,MACRO_WITH_FLOW_CONTROL,COMPLEX_MACRO,PREFER_KERNEL_TYPES

kernel_doc() {
	perl "$tmp/scripts/kernel-doc" -none "$@" 2>&1
}

sources() {
	git ls-files -co --exclude-standard -- "$@"
}

uapi_alone() {
	local std
	for std in gnu89 c99 c11; do
		gcc -std=$std -Wall -Wextra -Werror -fsyntax-only -Iinclude/uapi -x c - \
			<<<"#include <linux/vhost_blk.h>" || return 1
	done
	g++ -Wall -Wextra -Werror -fsyntax-only -Iinclude/uapi -x c++ - \
		<<<"#include <linux/vhost_blk.h>"
}

# Every file says its licence in its first lines.
spdx() {
	local file
	while read -r file; do
		head -n 3 "$file" | grep -q SPDX-License-Identifier || echo "$file: no SPDX line"
	done < <(sources '*.c' '*.h' '*.sh' '*Makefile*' '*Kbuild' '.ci/run')
}

# Everywhere in the kernel, trace events are laid out in a way that --strict objects to.
checkpatch_module() {
	local -a code=() events=()
	local file
	for file; do
		if [[ $file == *-trace.h ]]; then events+=("$file"); else code+=("$file"); fi
	done
	checkpatch --strict -f "${code[@]}" &&
		checkpatch --ignore OPEN_ENDED_LINE,PARENTHESIS_ALIGNMENT,SPACING -f "${events[@]}"
}

mapfile -t kernel_files < <(sources drivers/vhost include | grep '\.[ch]$')
mapfile -t test_files < <(sources tools/vhost-blk-test | grep '\.[ch]$')
mapfile -t scripts < <(sources '*.sh' .ci/run)

echo "TAP version 13"
echo "1..9"
check "kernel's own scripts" kernel_scripts
check "module builds with W=1 and sparse" module_build
check "checkpatch --strict: module" checkpatch_module "${kernel_files[@]}"
check "checkpatch: tests" checkpatch --ignore "$user_style" -f "${test_files[@]}"
check "kernel-doc" kernel_doc "${kernel_files[@]}"
check "UAPI header compiles alone, C and C++" uapi_alone
check "shellcheck" shellcheck -x -S warning "${scripts[@]}"
check "licence lines" spdx
check "documentation" sphinx-build -W -q -b html Documentation "$tmp/html"
exit $bad
