#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Build the module for another Debian release's kernel, with that release's own
# compiler, and print the directory that has all of it:
#
#   DIR                      a file tree of that release: kernel headers, compiler
#   DIR/boot/vmlinuz-*       and DIR/lib/modules/*: what run.sh --kernel takes
#   DIR/build/drivers/vhost/vhost_blk.ko
#   DIR/build/tools/vhost-blk-test/disk/vt_disk.ko     disks for the tests
#
# usage: debian-kernel.sh SERIES     6.1 (bookworm), 6.12 (trixie) or 7.2 (sid)
#
# The tree is in the cache, by package version; the machine is left alone. Needs
# root, for chroot. Exit: 0, or 1 with a message.
set -euo pipefail
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"

packages=(mmdebstrap kmod util-linux debian-archive-keyring)

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
top=$(cd "$here/../../.." && pwd -P)
cache=$HOME/.cache/vhost-blk/debian-kernels

die() {
	echo "debian-kernel.sh: $*" >&2
	exit 1
}

suites_of() {
	case $1 in
	6.1) echo bookworm bookworm-security ;;
	6.12) echo trixie trixie-security ;;
	7.2) echo sid ;;
	*) die "no Debian release is known for kernel $1: 6.1, 6.12 or 7.2" ;;
	esac
}

# Where the machine's own apt gets Debian from; $1: "" or "-security".
archive_uri() {
	# shellcheck disable=SC2016  # apt expands these
	apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' \
		'Origin: Debian' | awk -v sec="$1" '
		{ is = $2 ~ /-security$/ } is == (sec != "") && $2 !~ /-updates$/ { print $1; exit }'
}

sources_list() {
	local suite uri key=/usr/share/keyrings/debian-archive-keyring.gpg
	for suite; do
		case $suite in
		*-security) uri=$(archive_uri -security) ;;
		*) uri=$(archive_uri "") ;;
		esac
		[ -n "$uri" ] || die "apt knows no Debian archive for $suite: run apt-get update"
		echo "deb [signed-by=$key] $uri $suite main"
	done
}

# apt with a set-up of its own, in directory $1; unstable's lists may be stale.
private_apt() {
	local dir=$1 tool=$2
	shift 2
	"$tool" -o Dir::Etc::sourcelist="$dir/sources.list" -o Dir::Etc::sourceparts=/dev/null \
		-o Dir::State::lists="$dir/lists" -o Dir::Cache="$dir/cache" \
		-o Dir::State::status=/dev/null -o APT::Sandbox::User=root \
		-o Acquire::Check-Valid-Until=false -o Acquire::Retries=3 "$@"
}

# The release of a series that is newest in the archive, as in 6.12.117+deb13-amd64.
newest_release() {
	local dir=$1 series=$2 release
	private_apt "$dir" apt-get -qq update >"$dir/apt.log" 2>&1 || return 1
	release=$(private_apt "$dir" apt-cache depends linux-headers-amd64 |
		sed -n 's/^ *Depends: linux-headers-\([0-9].*\)/\1/p' | tail -n 1)
	[[ $release == "$series".* ]] ||
		die "the archive has kernel $release in place of $series: choose other KERNELS"
	echo "$release"
}

# A file tree with the kernel, its headers and source, and what builds modules:
# unpacked only, no maintainer script is run.
make_tree() {
	local dir=$1 series=$2 release=$3 tree=$4 work
	work=$(mktemp -d "$cache/.tree.XXXXXX")
	# shellcheck disable=SC2064  # the value of now is meant
	trap "rm -rf '$work'" EXIT
	echo "debian-kernel.sh: unpacking kernel $release with its compiler" >&2
	mmdebstrap --quiet --mode=root --variant=extract --architectures=amd64 \
		--aptopt='Acquire::Check-Valid-Until "false"' \
		--aptopt='APT::Install-Recommends "false"' \
		--include="linux-headers-$release,linux-image-$release,linux-source-$series" \
		--include=make,dpkg,dash,bash,coreutils,sed,grep,mawk,findutils,diffutils,perl \
		--include=kmod,xz-utils,libc-bin,base-files,tar \
		"" "$work/tree" - <"$dir/sources.list" >"$work/log" 2>&1 || {
		tail -n 20 "$work/log" >&2
		die "cannot unpack the packages of kernel $release"
	}
	ln -sf mawk "$work/tree/usr/bin/awk"
	[ -e "$work/tree/boot/vmlinuz-$release" ] ||
		ln -s "../usr/lib/modules/$release/vmlinuz" "$work/tree/boot/vmlinuz-$release"
	depmod -b "$work/tree" "$release"
	mkdir -p "$work/tree"/{dev,proc,tmp}
	[ -e "$work/tree/dev/null" ] || mknod -m 666 "$work/tree/dev/null" c 1 3
	chmod 755 "$work/tree"
	rm -rf "$tree"
	mv "$work/tree" "$tree"
}

# A copy of the source, so that builds for several kernels do not share objects.
build_module() {
	local tree=$1 release=$2 build=$1/build
	mkdir -p "$build/drivers/vhost"
	cp -rp "$top"/{Kbuild,Makefile,include,tools/vhost-header.sh} "$build/"
	mkdir -p "$build/tools/vhost-blk-test/disk"
	mv "$build/vhost-header.sh" "$build/tools/"
	cp -p "$top"/tools/vhost-blk-test/disk/{Kbuild,vt_disk.c} "$build/tools/vhost-blk-test/disk/"
	(cd "$top/drivers/vhost" && git ls-files -co --exclude-standard | xargs cp -p -t "$build/drivers/vhost")
	# shellcheck disable=SC2016  # for the inner shell
	unshare --mount bash -c 'mount -t proc proc "$1/proc" &&
		exec chroot "$1" /usr/bin/env PATH=/usr/bin:/usr/sbin make -s -C /build \
			KDIR="/lib/modules/$2/build" W=1' - "$tree" "$release" >"$build/log" 2>&1 || {
		cat "$build/log" >&2
		die "the module does not build for $release"
	}
	! grep -E 'warning:' "$build/log" >&2 || die "the module builds with warnings for $release"
}

main() {
	local series=${1-} dir release tree lock
	if [ "$series" = --packages ]; then
		echo "${packages[@]}"
		exit 0
	fi
	[ $# -eq 1 ] || die "usage: debian-kernel.sh SERIES"
	suites=$(suites_of "$series")
	dir=$cache/apt-$series
	mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
	exec {lock}>"$cache/.lock-$series"
	flock -w 900 "$lock" || die "another run holds $cache/.lock-$series for 15 minutes: end it"
	# shellcheck disable=SC2086  # several words
	sources_list $suites >"$dir/sources.list"
	if ! release=$(newest_release "$dir" "$series"); then
		# Offline: what is there is still good.
		release=$(cd "$cache" && find . -maxdepth 1 -name "tree-$series.*" | sort -V | tail -n 1)
		release=${release#./tree-}
		[ -n "$release" ] || die "$(tail -n 3 "$dir/apt.log")"
	fi
	tree=$cache/tree-$release
	[ -e "$tree/lib/modules/$release/modules.dep" ] ||
		make_tree "$dir" "$series" "$release" "$tree"
	build_module "$tree" "$release"
	echo "$tree"
}

main "$@"
