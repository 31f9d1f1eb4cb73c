#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Build fio's own io_uring benchmark (t/io_uring, in no package) from the Debian
# source of the installed fio, and print its path. Cached by version.
#
# usage: build-io_uring.sh [--packages]
set -euo pipefail
export LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
packages=(dpkg-dev fio gcc libaio-dev make zlib1g-dev)
[[ ${1-} != --packages ]] || { printf '%s\n' "${packages[@]}"; exit; }
# shellcheck source=tools/qemu/qemu-source.sh
. "$here/../../qemu/qemu-source.sh"

version=$(dpkg-query -W -f '${source:Version}' fio)
dir=$HOME/.cache/vhost-blk/fio-$version-generic
if [[ ! -x $dir/t/io_uring ]]; then
	mkdir -p "${dir%/*}"
	work=$(mktemp -d "$dir.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	mapfile -t options < <(private_apt "$work/apt" "")
	(
		cd "$work"
		apt-get "${options[@]}" -qq update
		apt-get "${options[@]}" -qq --download-only source "fio=$version"
		dpkg-source --no-check -x ./fio_*.dsc src
		cd src
		./configure --disable-native
		make -j"$(nproc)" t/io_uring
	) >"$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; exit 1; }
	rm -rf "$dir"
	mv "$work/src" "$dir"
fi
echo "$dir/t/io_uring"
