#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Build a small qemu-system-x86_64 with vhost-blk-pci in it, from the Debian
# source of the installed QEMU or that of another Debian release, and print its
# path as the last line. Takes 5 to 10 minutes the first time; later only what
# changed is built. For a stock QEMU see build-plugin.sh, which is much quicker.
set -euo pipefail

PACKAGES=(
	gcc libc6-dev make patch
	meson ninja-build pkg-config python3 python3-venv
	libglib2.0-dev libpixman-1-dev libfdt-dev libaio-dev liburing-dev
)

CONFIGURE=(
	--prefix=/usr
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

# The patched source in $1, made from the pristine one by patch $2.
patch_tree()
{
	local tree=$1

	[[ -e $tree/.patched ]] && return
	rm -rf "$tree"
	cp -a "$QEMU_BASE/src" "$tree"
	patch -d "$tree" -p1 --fuzz=0 --quiet <"$2" >&2 ||
		die "${2##*/} does not apply to this source"
	echo "$DEVICES" >"$tree/configs/devices/x86_64-softmmu/vhostblk.mak"
	touch "$tree/.patched"
}

# Copy what changed, so that only that is compiled again.
copy_device()
{
	install -C -m 644 "$HERE/vhost-blk.c" "$1/hw/virtio/vhost-blk.c"
	install -C -m 644 "$UAPI/linux/vhost_blk.h" "$1/linux-headers/linux/vhost_blk.h"
}

# Build in $1 and print the path of what runs it.
build()
{
	local tree=$1 log=$1/build.log

	mkdir -p "$tree/build"
	cd "$tree/build"
	if [[ ! -e build.ninja ]]; then
		say "configuring QEMU"
		"${IN[@]}" nice -n 19 ../configure "${QEMU_CONFIGURE[@]}" "${CONFIGURE[@]}" \
			>"$log" 2>&1 || {
			tail -n 20 "$log" >&2
			rm -rf "$tree/build"
			die "QEMU's configure failed"
		}
	fi
	say "building QEMU, log in $log"
	"${IN[@]}" nice -n 19 ninja -j "$(nproc)" qemu-system-x86_64 >"$log" 2>&1 || {
		tail -n 20 "$log" >&2
		die "the build of QEMU failed"
	}
	if [[ $QEMU_ROOT ]]; then
		make_runnable "$PWD/qemu-system-x86_64"
	else
		# Before it is installed, QEMU looks for the firmware only below this.
		rm -rf qemu-bundle
		mkdir qemu-bundle
		ln -s /usr qemu-bundle/usr
		echo "$PWD/qemu-system-x86_64"
	fi
}

main()
{
	local release='' patch tree key

	while [[ $# -gt 0 ]]; do
		case $1 in
		--packages)
			printf '%s\n' "${PACKAGES[@]}" "${INSTALLED_PACKAGES[@]}" "${RELEASE_PACKAGES[@]}"
			exit
			;;
		--release) release=${2:?}; shift 2 ;;
		*) echo "usage: build-qemu.sh [--release RELEASE | --packages]" >&2; exit 2 ;;
		esac
	done

	select_qemu "$release" "${PACKAGES[@]}"
	[[ $QEMU_VERSION =~ ^1:([0-9]+\.[0-9]+) ]]
	patch=$HERE/qemu-${BASH_REMATCH[1]}.patch
	key=$( (echo "$QEMU_VERSION" "$QEMU_ROOT" "${QEMU_CONFIGURE[@]}" "${CONFIGURE[@]}" \
		"$DEVICES"; cat "$patch") | key_of)
	tree=$QEMU_BASE/full-$key
	exec 9>"$QEMU_BASE/lock"
	flock 9
	fetch_qemu_source "$release"
	patch_tree "$tree" "$patch"
	copy_device "$tree"
	build "$tree"
}

main "$@"
