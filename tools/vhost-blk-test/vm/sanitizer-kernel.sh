#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Build a kernel with sanitizers (kconfig/) from the distribution's kernel source,
# and the module for it; print the directory, which run.sh --kernel takes:
#
#   DIR/linux or DIR/boot/vmlinuz-*      the kernel
#   DIR/lib/modules/*                    its modules
#   DIR/build/drivers/vhost/vhost_blk.ko
#   DIR/build/tools/vhost-blk-test/disk/vt_disk.ko     disks for the tests
#
# usage: sanitizer-kernel.sh [um|smp|kcsan] [--gcov]
#   um       user-mode Linux, one CPU, native speed: KASAN, lockdep, kmemleak, UBSAN,
#            fault injection, KUnit, gcov (default)
#   smp      the same on a virtual PC with several CPUs: sleeping in atomic context, too,
#            but not kmemleak
#   kcsan    a virtual PC with the data race detector, which looks at vhost and
#            vhost_blk only
#   --gcov   the module counts executed lines, in DIR/build-gcov
#
# A kernel is in the cache, by source version and configuration; its first build
# takes about 4 (um) or 9 minutes on 2 cores. Exit: 0, or 1 with a message.
set -euo pipefail
export LC_ALL=C
unset MAKEFLAGS MFLAGS

packages=(bc bison flex gcc kmod libelf-dev linux-source-6.1 make)
series=6.1

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
top=$(cd "$here/../../.." && pwd -P)
cache=$HOME/.cache/vhost-blk/sanitizer-kernels
tarball=/usr/src/linux-source-$series.tar.xz
# What has no question: on a PC KVM selects it, which is much to build; user-mode Linux
# has nothing that does.
selectable='/^config MMU_NOTIFIER$/,/bool$/s/bool$/bool "MMU notifiers"/'

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

# What makes a kernel of a kind: architecture, configuration, make's target and
# variables, and what the configuration must have come to.
set_kind() {
	local names needed=(FAULT_INJECTION FAIL_MAKE_REQUEST DEBUG_LIST GCOV_KERNEL MMU_NOTIFIER KSM)
	local kasan=(KASAN PROVE_LOCKING UBSAN)
	make_args=()
	case $1 in
	um)
		arch=um target=linux names=(common storage kasan um)
		required=("${needed[@]}" "${kasan[@]}" DEBUG_KMEMLEAK XFS_FS NVME_TARGET)
		;;
	smp)
		arch=x86 target=bzImage names=(common kasan x86)
		required=("${needed[@]}" "${kasan[@]}" SMP DEBUG_ATOMIC_SLEEP 9P_FS)
		;;
	kcsan)
		arch=x86 target=bzImage names=(common kcsan x86)
		required=("${needed[@]}" SMP KCSAN KCSAN_INTERRUPT_WATCHER 9P_FS)
		# Else nearly all watchpoints are in other code. scripts/Makefile.lib asks
		# for an object's own variable first; build_module() sets neither.
		make_args=(KCSAN_SANITIZE=n KCSAN_SANITIZE_{vhost,iotlb}.o=y)
		;;
	*) die "there is no kernel '$1': um, smp or kcsan" ;;
	esac
	configs=("${names[@]/#/$here/kconfig/}")
	configs=("${configs[@]/%/.config}")
	export ARCH=$arch
}

# An option that does not exist (any more) would silently weaken the tests.
check_config() {
	local option missing=()
	for option in "${required[@]}"; do
		grep -q "^CONFIG_$option=[ym]" "$1" || missing+=("$option")
	done
	[ ${#missing[@]} -eq 0 ] || die "the kernel has no ${missing[*]}: see kconfig/"
}

# The kernel itself, where run.sh looks for it.
install_image() {
	local work=$1 release
	if [ "$arch" = um ]; then
		mv "$work/kdir/linux" "$work/linux"
		return
	fi
	release=$(cat "$work/kdir/include/config/kernel.release")
	mkdir -p "$work/boot"
	cp "$work/kdir/arch/x86/boot/bzImage" "$work/boot/vmlinuz-$release"
}

build_kernel() {
	local kind=$1 dir=$2 work src log
	work=$(mktemp -d "$cache/.build.XXXXXX")
	# shellcheck disable=SC2064  # the value of now is meant
	trap "rm -rf '$work'" EXIT
	log=$work/log src=$work/source
	echo "sanitizer-kernel.sh: building the kernel '$kind', 4 to 9 minutes" >&2
	mkdir -p "$src" "$work/kdir"
	run "$log" tar -xf "$tarball" -C "$src" --strip-components=1
	sed -i "$selectable" "$src/mm/Kconfig"
	(cd "$src" && run "$log" scripts/kconfig/merge_config.sh -n -O "$work/kdir" "${configs[@]}")
	check_config "$work/kdir/.config"
	run "$log" make -C "$src" O="$work/kdir" -j"$(nproc)" "${make_args[@]}" "$target" modules
	run "$log" make -C "$src" O="$work/kdir" modules_install INSTALL_MOD_PATH="$work"
	rm -f "$work"/lib/modules/*/{build,source}
	install_image "$work"
	# What building a module needs of the source is a tenth of it.
	find "$src" -mindepth 1 -maxdepth 1 ! -name arch ! -name include ! -name scripts \
		! -name drivers ! -name 'Make*' ! -name 'Kbuild*' ! -name tools -exec rm -rf {} +
	find "$src/arch" -mindepth 1 -maxdepth 1 ! -name um ! -name x86 -type d -exec rm -rf {} +
	find "$src/drivers" -mindepth 1 -maxdepth 1 ! -name vhost -exec rm -rf {} +
	find "$work/kdir" \( -name '*.o' -o -name 'vmlinux*' -o -name bzImage \) \
		! -path '*/scripts/*' ! -path '*/tools/objtool/*' -delete
	# The object directory names its source by its path.
	sed -i "s|$work|$dir|g" "$work/kdir/Makefile"
	ln -sfn "$dir/source" "$work/kdir/source"
	chmod 755 "$work"
	rm -rf "$dir"
	mv "$work" "$dir"
	trap - EXIT
}

# The disks for tests, too: where stage2.sh looks for them.
build_module() {
	local dir=$1 build=$1/$2 disk=$1/build/tools/vhost-blk-test/disk
	shift 2
	mkdir -p "$disk"
	cp -p "$top"/tools/vhost-blk-test/disk/{Kbuild,vt_disk.c} "$disk/"
	run "$dir/build/log" make -C "$dir/kdir" M="$disk" modules
	mkdir -p "$build/drivers/vhost"
	cp -rp "$top"/{Kbuild,include} "$build/"
	(cd "$top/drivers/vhost" && git ls-files -co --exclude-standard |
		xargs cp -p -t "$build/drivers/vhost")
	run "$build/log" make -C "$dir/kdir" M="$build" VHOST_BLK_TOP="$build" \
		VHOST_H_DIR="$dir/source/drivers/vhost" "$@" modules
}

main() {
	local key dir lock arg kind=um gcov=''
	for arg; do
		case $arg in
		--packages) echo "${packages[@]}"; exit 0 ;;
		--gcov) gcov=1 ;;
		-*) die "usage: sanitizer-kernel.sh [um|smp|kcsan] [--gcov]" ;;
		*) kind=$arg ;;
		esac
	done
	set_kind "$kind"
	[ -e "$tarball" ] || die "no kernel source: apt-get install linux-source-$series"
	key=$({ stat -c '%s %Y' "$tarball"; cat "${configs[@]}"; gcc --version
		printf '%s' "${make_args[*]}" "$selectable"; } | sha256sum | cut -c1-16)
	dir=$cache/$series-$kind-$key
	mkdir -p "$cache"
	exec {lock}>"$cache/.lock-$kind"
	flock -w 1800 "$lock" || die "another run holds $cache/.lock-$kind for 30 minutes: end it"
	[ -d "$dir/lib/modules" ] || build_kernel "$kind" "$dir"
	if [ -n "$gcov" ]; then
		build_module "$dir" build-gcov VHOST_BLK_GCOV=y
	else
		build_module "$dir" build
	fi
	echo "$dir"
}

main "$@"
