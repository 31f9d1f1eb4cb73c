#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Build what a test guest boots from, once for each content, and print the
# directory that holds it:
#   initrd     busybox and the modules for virtio-blk, virtio-serial and ext4; those for
#              virtio-scsi, which a guest with guest.scsi on its command line loads
#   tools.img  an ext4 image with bash, fio, e2fsprogs, their libraries and the
#              scripts next to this file; the guest's read-only root
# Two parts, since fio's libraries are 80 MB of which a run touches little: on
# a disk only that is read, in an initramfs all of it is copied at every boot.
set -euo pipefail
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"

# With what the tests need beside it to work with guests and their disks.
packages=(bash busybox-static coreutils cpio dmsetup e2fsprogs fio jq kmod util-linux)
programs=(bash blockdev cat cmp dd e2fsck fio grep head mke2fs mkdir mount od poweroff printf
	sha256sum sleep sync timeout tr umount blkdiscard)
modules=(virtio_pci virtio_blk virtio_console ext4)
scsi_modules=(virtio_scsi sd_mod)

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)

die() {
	echo "mkinitramfs.sh: $*" >&2
	exit 1
}

# Everything that decides what the result is; its hash names the result.
inputs() {
	local path

	echo "$release"
	stat -L -c '%n %s %Y' "$image" "$kernel/lib/modules/$release/modules.dep"
	sha256sum "$here"/*.sh "$busybox"
	for path in "${paths[@]}"; do
		stat -L -c '%n %s %Y' "$path"
	done
}

# Paths of the programs and of every library that they are linked with.
collect_paths() {
	local name path found=()

	for name in "${programs[@]}"; do
		# What is no program of its own here is a busybox applet in the guest.
		if path=$(type -P "$name"); then found+=("$path"); fi
	done
	for name in fio mke2fs e2fsck bash; do
		[[ " ${found[*]} " == *"/$name "* ]] || die "$name is missing: apt-get install ${packages[*]}"
	done
	mapfile -t paths < <({
		printf '%s\n' "${found[@]}"
		ldd "${found[@]}" | awk '$2 == "=>" && $3 ~ "^/" { print $3 } $1 ~ "^/.*ld-linux" { print $1 }'
		# fio opens its libaio engine at run time where it is a plugin.
		compgen -G '/usr/lib/x86_64-linux-gnu/fio/*.so' || true
	} | sort -u)
}

# module_paths NAME...: with what they depend on, in the order of loading
module_paths() {
	local name

	for name; do
		modprobe -d "$kernel" -S "$release" --show-depends "$name" | awk '$1 == "insmod" { print $2 }' ||
			die "no module $name in $kernel"
	done | awk '!seen[$0]++'
}

# module_list DIRECTORY: copy the modules of stdin, print their places in the initramfs
module_list() {
	local path

	while read -r path; do
		cp "$path" "$1/"
		echo "/${path##*/}"
	done
}

build_initrd() {
	local dir=$work/initrd.d

	mkdir -p "$dir/bin"
	cp "$busybox" "$dir/bin/busybox"
	install -m 755 "$here/init.sh" "$dir/init"
	{
		module_paths "${modules[@]}"
		# ext4 finds its checksum by name when it mounts, so nothing depends on it.
		find "$kernel/lib/modules/$release/kernel" -name 'crc32c_generic.ko*'
	} | module_list "$dir" >"$dir/modules.order"
	module_paths "${scsi_modules[@]}" | module_list "$dir" >"$dir/modules.scsi"
	(cd "$dir" && find . -print0 | cpio -0 -o -H newc -R 0:0 --quiet) >"$work/out/initrd"
}

build_tools() {
	local dir=$work/tools.d path size

	mkdir -p "$dir"/{proc,sys,dev,tmp,run,mnt,guest,bin,usr/bin,usr/sbin,lib,lib64,usr/lib}
	for path in "${paths[@]}"; do
		mkdir -p "$dir${path%/*}"
		cp -L "$path" "$dir$path"
	done
	cp "$busybox" "$dir/bin/busybox"
	cp "$here"/*.sh "$dir/guest/"
	[[ -e $dir/bin/bash ]] || ln -s ../usr/bin/bash "$dir/bin/bash"
	size=$(du -sm "$dir" | cut -f1)
	# Room for the metadata; what stays empty is a hole.
	mke2fs -q -t ext4 -O ^has_journal -E root_owner=0:0 -d "$dir" "$work/out/tools.img" "$((size + size / 5 + 16))M" >/dev/null
}

main() {
	local key cache=$HOME/.cache/vhost-blk/guest

	if [[ ${1-} == --packages ]]; then
		printf '%s\n' "${packages[@]}"
		exit 0
	fi
	[[ $# -eq 1 && -d $1 ]] || die "usage: mkinitramfs.sh KERNEL-DIRECTORY (as fetch-kernel.sh prints it)"
	kernel=$1
	image=$(echo "$kernel"/boot/vmlinuz-*)
	release=${image##*/vmlinuz-}
	[[ -r $image ]] || die "$kernel/boot has no vmlinuz-RELEASE"
	busybox=$(type -P busybox) || die "busybox is missing: apt-get install busybox-static"
	if ldd "$busybox" >/dev/null 2>&1; then die "$busybox is not static: apt-get install busybox-static"; fi
	collect_paths
	key=$(inputs | sha256sum | cut -c1-16)
	if [[ ! -e $cache/$key/tools.img ]]; then
		mkdir -p "$cache"
		work=$(mktemp -d "$cache/.new.XXXXXX")
		trap 'rm -rf "$work"' EXIT
		mkdir "$work/out"
		build_initrd
		build_tools
		chmod 755 "$work/out"
		# Another run may have been faster; its result is the same.
		mv -T "$work/out" "$cache/$key" 2>/dev/null || [[ -e $cache/$key/tools.img ]]
	fi
	echo "$cache/$key"
}

main "$@"
