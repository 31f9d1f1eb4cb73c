#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Build a user-mode Linux kernel with sanitizers (um.config) from the
# distribution's kernel source, and the module for it; print the directory:
#
#   DIR/linux                the kernel, a program; run.sh --kernel DIR runs it
#   DIR/lib/modules/*        its modules
#   DIR/build/drivers/vhost/vhost_blk.ko
#
# usage: sanitizer-kernel.sh [--gcov]
#   --gcov   the module counts executed lines, in DIR/build-gcov
#
# The kernel is in the cache, by source version and configuration; the first
# build takes about 4 minutes on 2 cores. Exit: 0, or 1 with a message.
set -euo pipefail
export LC_ALL=C ARCH=um
unset MAKEFLAGS MFLAGS

packages=(bc bison flex gcc kmod linux-source-6.1 make)
series=6.1

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
top=$(cd "$here/../../.." && pwd -P)
cache=$HOME/.cache/vhost-blk/sanitizer-kernels
tarball=/usr/src/linux-source-$series.tar.xz

die() {
	echo "sanitizer-kernel.sh: $*" >&2
	exit 1
}

run() {
	local log=$1
	shift
	"$@" >>"$log" 2>&1 && return
	tail -n 20 "$log" >&2
	die "failed: $*"
}

# An option that does not exist (any more) would silently weaken the tests.
check_config() {
	local option missing=()
	for option in KASAN PROVE_LOCKING DEBUG_LIST UBSAN DEBUG_KMEMLEAK \
		FAULT_INJECTION FAIL_MAKE_REQUEST GCOV_KERNEL; do
		grep -q "^CONFIG_$option=y" "$1" || missing+=("$option")
	done
	[ ${#missing[@]} -eq 0 ] || die "the kernel has no ${missing[*]}: see um.config"
}

build_kernel() {
	local dir=$1 work src log
	work=$(mktemp -d "$cache/.build.XXXXXX")
	# shellcheck disable=SC2064  # the value of now is meant
	trap "rm -rf '$work'" EXIT
	log=$work/log src=$work/source
	echo "sanitizer-kernel.sh: building a kernel with sanitizers, about 4 minutes" >&2
	mkdir -p "$src" "$work/kdir"
	run "$log" tar -xf "$tarball" -C "$src" --strip-components=1
	(cd "$src" && run "$log" scripts/kconfig/merge_config.sh -n -O "$work/kdir" "$here/um.config")
	check_config "$work/kdir/.config"
	run "$log" make -C "$src" O="$work/kdir" -j"$(nproc)" linux modules
	run "$log" make -C "$src" O="$work/kdir" modules_install INSTALL_MOD_PATH="$work"
	rm -f "$work"/lib/modules/*/{build,source}
	mv "$work/kdir/linux" "$work/linux"
	# What building a module needs of the source is a tenth of it.
	find "$src" -mindepth 1 -maxdepth 1 ! -name arch ! -name include ! -name scripts \
		! -name drivers ! -name 'Make*' ! -name 'Kbuild*' ! -name tools -exec rm -rf {} +
	find "$src/arch" -mindepth 1 -maxdepth 1 ! -name um ! -name x86 -type d -exec rm -rf {} +
	find "$src/drivers" -mindepth 1 -maxdepth 1 ! -name vhost -exec rm -rf {} +
	find "$work/kdir" -name '*.o' ! -path '*/scripts/*' -delete
	# The object directory names its source by its path.
	sed -i "s|$work|$dir|g" "$work/kdir/Makefile"
	ln -sfn "$dir/source" "$work/kdir/source"
	chmod 755 "$work"
	rm -rf "$dir"
	mv "$work" "$dir"
	trap - EXIT
}

build_module() {
	local dir=$1 build=$1/$2
	shift 2
	mkdir -p "$build/drivers/vhost"
	cp -rp "$top"/{Kbuild,include} "$build/"
	(cd "$top/drivers/vhost" && git ls-files -co --exclude-standard |
		xargs cp -p -t "$build/drivers/vhost")
	run "$build/log" make -C "$dir/kdir" M="$build" VHOST_BLK_TOP="$build" \
		VHOST_H_DIR="$dir/source/drivers/vhost" "$@" modules
}

main() {
	local key dir lock gcov=''
	case ${1-} in
	--packages) echo "${packages[@]}"; exit 0 ;;
	--gcov) gcov=1 ;;
	'') ;;
	*) die "usage: sanitizer-kernel.sh [--gcov]" ;;
	esac
	[ -e "$tarball" ] || die "no kernel source: apt-get install linux-source-$series"
	key=$({ stat -c '%s %Y' "$tarball"; cat "$here/um.config"; gcc --version; } | sha256sum | cut -c1-16)
	dir=$cache/$series-$key
	mkdir -p "$cache"
	exec {lock}>"$cache/.lock"
	flock -w 1800 "$lock" || die "another run holds $cache/.lock for 30 minutes: end it"
	[ -x "$dir/linux" ] || build_kernel "$dir"
	if [ -n "$gcov" ]; then
		build_module "$dir" build-gcov VHOST_BLK_GCOV=y
	else
		build_module "$dir" build
	fi
	echo "$dir"
}

main "$@"
