#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# install-deps.sh: install the Debian packages that `make demo` and `make check`
# need. Asks each tool for its own (--packages); does nothing if all are there.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
packages=(
	gcc g++ make linux-headers-amd64 linux-source kmod # the module
	sparse shellcheck perl python3-sphinx              # static checks
	xz-utils tar
	dmsetup mount nbd-client nbd-server                # kselftests
	e2fsprogs xfsprogs btrfs-progs                     # and file systems for images
)

die() {
	echo "install-deps: $*" >&2
	exit 1
}

for tool in vhost-blk-test/vm/run.sh vhost-blk-test/vm/debian-kernel.sh \
	vhost-blk-test/vm/sanitizer-kernel.sh vhost-blk-test/demo.sh \
	vhost-blk-test/bench/bench-cost.sh vhost-blk-test/bench/bench-guest.sh \
	qemu/build-plugin.sh; do
	list=$("$here/$tool" --packages) || die "$tool --packages failed"
	mapfile -t -O "${#packages[@]}" packages < <(tr ' ' '\n' <<<"$list" | sed '/^$/d')
done

is_installed() {
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing=()
for package in $(printf '%s\n' "${packages[@]}" | sort -u); do
	is_installed "$package" || missing+=("$package")
done
[ ${#missing[@]} -gt 0 ] || exit 0

command -v apt-get >/dev/null || die "not a Debian system; install: ${missing[*]}"
as_root=()
if [ "$(id -u)" != 0 ]; then
	command -v sudo >/dev/null || die "run as root, or install: ${missing[*]}"
	as_root=(sudo)
fi
echo "installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { "${as_root[@]}" apt-get update &&
	"${as_root[@]}" apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
	tail -n 20 "$log" >&2
	die "apt-get install failed"
fi
