#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Build a small qemu-system-x86_64 with vhost-blk-pci in it, from the Debian
# source of the installed QEMU, and print its path as the last line. Takes 5 to
# 10 minutes the first time; later only what changed is built. For a stock QEMU
# see build-plugin.sh, which is much quicker.
set -euo pipefail

PACKAGES=(
	gcc libc6-dev dpkg-dev make patch
	qemu-system-x86 seabios
	meson ninja-build pkg-config python3 python3-venv
	libglib2.0-dev libpixman-1-dev libfdt-dev libaio-dev liburing-dev
)

CONFIGURE=(
	--meson=/usr/bin/meson --with-git-submodules=ignore --prefix=/usr
	--target-list=x86_64-softmmu --without-default-features
	--without-default-devices --with-devices-x86_64=vhostblk
	--enable-system --enable-kvm --enable-tcg
	--enable-vhost-kernel --enable-vhost-net --enable-vhost-user
	--enable-linux-aio --enable-linux-io-uring --enable-fdt=system
	--enable-coroutine-pool --audio-drv-list= --disable-docs --disable-tools
	--disable-install-blobs --disable-werror --disable-debug-info
	--firmwarepath=/usr/share/qemu:/usr/share/seabios:/usr/lib/ipxe/qemu
	--with-pkgversion=vhost_blk
)

DEVICES='CONFIG_PCI_DEVICES=n
CONFIG_I440FX=y
CONFIG_Q35=y
CONFIG_PCIE_PORT=y
CONFIG_VTD=y
CONFIG_SERIAL_ISA=y
CONFIG_ISA_DEBUG=y
CONFIG_VIRTIO_PCI=y
CONFIG_VIRTIO_BLK=y
CONFIG_VIRTIO_NET=y
CONFIG_VIRTIO_RNG=y
CONFIG_VIRTIO_SCSI=y
CONFIG_VIRTIO_SERIAL=y
CONFIG_VHOST_BLK=y
CONFIG_VHOST_SCSI=y
CONFIG_VHOST_USER_BLK=y'

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
UAPI=$HERE/../../include/uapi
# shellcheck source=tools/qemu/qemu-source.sh
. "$HERE/qemu-source.sh"

# The patched source in $2, made from the pristine one in $1.
patch_tree()
{
	local src=$1 tree=$2

	[[ -e $tree/.patched ]] && return
	rm -rf "$tree"
	cp -a "$src" "$tree"
	patch -d "$tree" -p1 --fuzz=0 --quiet <"$HERE/qemu-7.2.patch" >&2 ||
		die "qemu-7.2.patch does not apply to this source"
	echo "$DEVICES" >"$tree/configs/devices/x86_64-softmmu/vhostblk.mak"
	touch "$tree/.patched"
}

# Copy what changed, so that only that is compiled again.
copy_device()
{
	install -C -m 644 "$HERE/vhost-blk.c" "$1/hw/virtio/vhost-blk.c"
	install -C -m 644 "$UAPI/linux/vhost_blk.h" "$1/linux-headers/linux/vhost_blk.h"
}

build()
{
	local tree=$1 log=$1/build.log

	if [[ ! -e $tree/build/build.ninja ]]; then
		say "configuring QEMU"
		mkdir -p "$tree/build"
		(cd "$tree/build" && PATH=/usr/bin:/bin nice -n 19 ../configure "${CONFIGURE[@]}") \
			>"$log" 2>&1 || {
			tail -n 20 "$log" >&2
			rm -rf "$tree/build"
			die "QEMU's configure failed"
		}
	fi
	say "building QEMU, log in $log"
	PATH=/usr/bin:/bin nice -n 19 ninja -C "$tree/build" -j "$(nproc)" qemu-system-x86_64 \
		>"$log" 2>&1 || {
		tail -n 20 "$log" >&2
		die "the build of QEMU failed"
	}
	# Before it is installed, QEMU looks for the firmware only below this.
	rm -rf "$tree/build/qemu-bundle"
	mkdir "$tree/build/qemu-bundle"
	ln -s /usr "$tree/build/qemu-bundle/usr"
}

main()
{
	local version base tree key

	case ${1:-} in
	--packages) printf '%s\n' "${PACKAGES[@]}"; exit ;;
	'') ;;
	*) echo "usage: build-qemu.sh [--packages]" >&2; exit 2 ;;
	esac

	require_packages "${PACKAGES[@]}"
	version=$(qemu_source_version)
	[[ $version =~ ^1:7\.2\+ ]] || die "the patch is for QEMU 7.2, but $version is installed"
	base=$VHOST_BLK_CACHE/qemu/${version//[^A-Za-z0-9.+~-]/_}
	key=$( (echo "$version" "${CONFIGURE[@]}" "$DEVICES"; cat "$HERE/qemu-7.2.patch") | key_of)
	tree=$base/full-$key
	mkdir -p "$base"
	exec 9>"$base/lock"
	flock 9
	fetch_qemu_source "$base/src"
	patch_tree "$base/src" "$tree"
	copy_device "$tree"
	build "$tree"
	echo "$tree/build/qemu-system-x86_64"
}

main "$@"
