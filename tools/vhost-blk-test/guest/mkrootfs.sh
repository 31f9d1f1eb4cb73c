#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Make an ext4 image with a Debian root file system of the machine's own suite,
# from the mirror of the machine's own apt configuration, and print its path.
# Needs root, for debootstrap's chroot, but neither mounts nor loop devices.
#
# mkrootfs.sh CACHE-DIRECTORY
set -euo pipefail
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"

packages=(debian-archive-keyring debootstrap e2fsprogs)
include=fio
image_mib=1024

die() {
	echo "mkrootfs.sh: $*" >&2
	exit 1
}

# The archive that apt takes the suite's main component from.
mirror() {
	local site

	# shellcheck disable=SC2016 # fields of apt's, not of the shell's
	site=$(apt-get indextargets --format '$(SITE)|$(CODENAME)|$(ORIGIN)|$(COMPONENT)' 'Created-By: Packages' |
		awk -F'|' -v suite="$suite" '$2 == suite && $3 == "Debian" && $4 == "main" { print $1; exit }')
	# Cloud images name a file with a list of mirrors instead.
	if [[ $site == mirror+file:* ]]; then
		site=${site#mirror+file:}
		site=$(awk '/^[^#]/ { print $1; exit }' "/${site##*(/)}")
	fi
	[[ $site ]] || die "apt knows no Debian archive with $suite main: run 'apt-get update', check /etc/apt/sources.list*"
	echo "$site"
}

# debootstrap downloads with wget, which does not read apt's configuration.
use_apt_proxy() {
	local proxy=''

	eval "$(apt-config shell proxy Acquire::http::Proxy)"
	[[ -z $proxy || $proxy == DIRECT ]] || export http_proxy=${http_proxy-$proxy}
}

build() {
	local site

	site=$(mirror)
	use_apt_proxy
	work=$(mktemp -d "$cache/.rootfs.XXXXXX")
	trap 'rm -rf --one-file-system "$work"' EXIT
	chmod 755 "$work"
	if ! debootstrap --variant=minbase --include="$include" "$suite" "$work/root" "$site" >&2; then
		tail -n 5 "$work/root/debootstrap/debootstrap.log" >&2 || true
		die "debootstrap of $suite failed: is $site reachable, and $cache on a file system with exec and dev?"
	fi
	rm -rf "$work"/root/var/cache/apt/archives/*.deb "$work"/root/var/lib/apt/lists/* "$work/root/usr/share/doc"
	mkdir "$work/root/guest"
	# mke2fs says which file it makes even when told to be quiet.
	mke2fs -q -t ext4 -L vhost-blk-demo -d "$work/root" "$work/image" "${image_mib}M" >/dev/null
	mv "$work/image" "$image"
}

main() {
	local key lock

	if [[ ${1-} == --packages ]]; then
		printf '%s\n' "${packages[@]}"
		exit 0
	fi
	[[ $# -eq 1 ]] || die "usage: mkrootfs.sh CACHE-DIRECTORY"
	cache=$1
	# shellcheck source=/dev/null
	suite=$(. /etc/os-release && echo "${VERSION_CODENAME-}")
	[[ $suite ]] || die "/etc/os-release names no suite"
	command -v debootstrap >/dev/null || die "debootstrap is missing: apt-get install ${packages[*]}"
	# base-files changes with every point release.
	key=$({ cat "$0"; echo "$suite $include"; apt-cache policy base-files | grep Candidate; } | sha256sum | cut -c1-16)
	image=$cache/rootfs-$suite-$key.img
	if [[ ! -e $image ]]; then
		[[ $(id -u) -eq 0 ]] || die "debootstrap needs root"
		mkdir -p "$cache"
		exec {lock}>"$cache/.rootfs.lock"
		flock -w 900 "$lock" || die "another run holds $cache/.rootfs.lock for 15 minutes: end it"
		[[ -e $image ]] || build
		chmod 644 "$image"
	fi
	echo "$image"
}

shopt -s extglob
main "$@"; exit
