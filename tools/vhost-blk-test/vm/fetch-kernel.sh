#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Make sure that a Debian kernel is unpacked in the cache, and print where.
#
# Nothing is installed on the machine: no /boot, no boot loader, no initramfs
# hook. The unpacked directory has boot/vmlinuz-RELEASE and lib/modules/RELEASE
# and is what run.sh --kernel takes. QEMU boots an image of either form.
set -euo pipefail
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"

die() {
	echo "fetch-kernel.sh: $*" >&2
	exit 1
}

# Download and unpack into a directory of our own, so that an interrupted run
# never leaves a half-filled one under the final name.
unpack_package() {
	local release=$1 work=$2

	mkdir "$work/deb"
	# apt drops to _apt for the download, which cannot write into a private
	# directory; it then says so and goes on as the caller.
	if ! (cd "$work/deb" && apt-get -q download "linux-image-$release") >"$work/apt.log" 2>&1; then
		cat "$work/apt.log" >&2
		return 1
	fi
	dpkg -x "$work"/deb/*.deb "$work/root"
}

# Without a reachable archive an installed kernel serves as well.
copy_installed() {
	local release=$1 work=$2

	[[ -r /boot/vmlinuz-$release && -d /lib/modules/$release/kernel ]] || return 1
	mkdir -p "$work/root/boot" "$work/root/lib/modules"
	cp "/boot/vmlinuz-$release" "$work/root/boot/"
	cp -a "/lib/modules/$release" "$work/root/lib/modules/"
}

# number IMAGE OFFSET BYTES
number() {
	od -An -t "u$3" -j "$2" -N "$3" "$1" | tr -d ' '
}

# piece IMAGE OFFSET BYTES
piece() {
	dd if="$1" bs=64K iflag=skip_bytes,count_bytes skip="$2" count="$3" status=none
}

# A kernel that is packed with xz unpacks itself in 4 s where it is emulated: at every
# boot, of a test host and of the guests inside. One with an entry point for PVH (Xen's
# ELF note 18) also boots unpacked. Offsets: the kernel's Documentation/x86/boot.rst.
unpack_image() {
	local image=$1 from length

	from=$((($(number "$image" 0x1f1 1) + 1) * 512 + $(number "$image" 0x248 4)))
	length=$(number "$image" 0x24c 4)
	[[ $(piece "$image" "$from" 6 | od -An -t x1) == " fd 37 7a 58 5a 00" ]] || return 0
	# The last four bytes are its size unpacked.
	piece "$image" "$from" $((length - 4)) | xz -dc >"$image.elf"
	if readelf -nW "$image.elf" 2>/dev/null | grep 'Xen.*(0x00000012)' >/dev/null; then
		mv "$image.elf" "$image"
	else
		rm "$image.elf"
	fi
}

complete() {
	[[ -r $1/boot/vmlinuz-$2 && -r $1/lib/modules/$2/modules.dep.bin ]]
}

fetch() {
	local release=$1 cache=$2 work

	work=$(mktemp -d "$cache/.fetch.XXXXXX")
	# shellcheck disable=SC2064 # the value of now is meant
	trap "rm -rf '$work'" EXIT
	unpack_package "$release" "$work" || copy_installed "$release" "$work" ||
		die "no kernel $release: run 'apt-get update', or see 'apt-cache search linux-image' for what exists"
	unpack_image "$work/root/boot/vmlinuz-$release"
	depmod -b "$work/root" "$release"
	complete "$work/root" "$release" ||
		die "package linux-image-$release has no kernel or no modules in it"
	rm -rf "${cache:?}/$release"
	mv "$work/root" "$cache/$release"
	chmod 755 "$cache/$release"
}

main() {
	local release=${1-} cache=$HOME/.cache/vhost-blk/host-kernels lock

	if [[ $release == --packages ]]; then
		printf '%s\n' binutils kmod xz-utils
		exit 0
	fi
	[[ $# -eq 1 && $release =~ ^[0-9][A-Za-z0-9.+~-]*$ ]] ||
		die "usage: fetch-kernel.sh RELEASE (for example 6.1.0-56-amd64)"
	mkdir -p "$cache"
	if ! complete "$cache/$release" "$release"; then
		exec {lock}>"$cache/.lock"
		flock -w 600 "$lock" || die "another download holds $cache/.lock for 10 minutes: end it"
		complete "$cache/$release" "$release" || fetch "$release" "$cache"
	fi
	echo "$cache/$release"
}

main "$@"
