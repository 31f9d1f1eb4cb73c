# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034 # variables for the scripts that source this
#
# Sourced by build-plugin.sh and build-qemu.sh: gets the Debian source of a QEMU,
# and the means to compile it. That is the one installed on this machine, or that
# of another Debian release, unpacked in the cache with that release's compiler.

VHOST_BLK_CACHE=${VHOST_BLK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vhost-blk}

RELEASES=(trixie bookworm-backports)
# What the installed QEMU takes, besides what the caller says that it builds with.
INSTALLED_PACKAGES=(dpkg-dev qemu-system-x86 seabios)
RELEASE_PACKAGES=(
	mmdebstrap util-linux patch debian-archive-keyring dpkg-dev gcc make python3
)

# What a release's own tree has to have beside QEMU, to compile it.
RELEASE_TREE_PACKAGES=(
	gcc libc6-dev make patch
	meson ninja-build pkg-config python3 python3-venv
	libglib2.0-dev libpixman-1-dev libfdt-dev libaio-dev liburing-dev
)

# What select_qemu() finds out.
QEMU_VERSION=	# of the source package
QEMU_BASE=	# directory with all that is made of it
QEMU_BINARY=	# stock
QEMU_ROOT=	# file tree of another release
QEMU_CONFIGURE=()
IN=()		# before a command that uses the compiler

die()
{
	echo "${0##*/}: $*" >&2
	exit 1
}

say()
{
	echo "${0##*/}: $*" >&2
}

# Print the first 16 hex digits of a hash over stdin.
key_of()
{
	sha256sum | cut -c1-16
}

# Fail with one line that says what to install.
require_packages()
{
	local package missing=()

	for package; do
		[[ $(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null) == installed ]] ||
			missing+=("$package")
	done
	[[ ${#missing[@]} -eq 0 ]] || die "missing packages: apt-get install ${missing[*]}"
}

# What a binary calls itself, for instance "Debian 1:7.2+dfsg-7".
package_of()
{
	local line

	line=$("$1" --version 2>/dev/null | head -n 1) || die "cannot run $1"
	[[ $line =~ \((Debian\ .*)\)$ ]] ||
		die "$1 is not Debian's QEMU ($line): build one with build-qemu.sh"
	echo "${BASH_REMATCH[1]}"
}

# Where the machine's own apt gets Debian from; $1: "" or "-security".
archive_uri()
{
	# shellcheck disable=SC2016  # apt expands these
	apt-get indextargets --format '$(REPO_URI) $(CODENAME)' 'Created-By: Packages' \
		'Origin: Debian' | awk -v sec="$1" '
		{ is = $2 ~ /-security$/ } is == (sec != "") && $2 !~ /-updates$/ { print $1; exit }'
}

# Lines for sources.list: all that release $1 needs, or, if it is empty, the
# sources of all that the machine's apt knows of Debian.
apt_sources()
{
	local signed='' suites suite uri

	[[ -r /usr/share/keyrings/debian-archive-keyring.gpg ]] &&
		signed="[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] "
	case $1 in
	'')
		# shellcheck disable=SC2016  # apt expands these
		apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' \
			'Created-By: Packages' 'Origin: Debian' |
			sort -u | sed "s|^|deb-src $signed|"
		return
		;;
	*-backports) suites=("$1" "${1%-backports}" "${1%-backports}-security") ;;
	*) suites=("$1" "$1-security") ;;
	esac
	for suite in "${suites[@]}"; do
		case $suite in
		*-security) uri=$(archive_uri -security) ;;
		*) uri=$(archive_uri "") ;;
		esac
		[[ $uri ]] || continue
		printf '%s\n' "deb $signed$uri $suite main" "deb-src $signed$uri $suite main"
	done
}

# A private apt set-up in directory $1, so that nothing on the machine is changed;
# $2: release, or empty. Prints apt options, one a line.
private_apt()
{
	local dir=$1

	mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
	apt_sources "$2" >"$dir/sources.list"
	[[ -s $dir/sources.list ]] ||
		die "apt knows no Debian package lists: run apt-get update"
	printf '%s\n' -o "Dir::Etc::sourcelist=$dir/sources.list" \
		-o "Dir::Etc::sourceparts=/dev/null" \
		-o "Dir::State::lists=$dir/lists" -o "Dir::Cache=$dir/cache" \
		-o "APT::Sandbox::User=root" -o "Acquire::Retries=3"
	[[ -z $2 ]] || printf '%s\n' -o Dir::State::status=/dev/null
}

# The versions of the binary and the source package in release $1, on two lines.
release_versions()
{
	local binary source options

	mapfile -t options < <(private_apt "$2" "$1")
	[[ ${#options[@]} -gt 0 ]] || exit 1
	apt-get "${options[@]}" -qq update >"$2/log" 2>&1 || return 1
	binary=$(apt-cache "${options[@]}" madison qemu-system-x86 |
		awk '/ Packages$/ { print $3 }' | sort -V | tail -n 1)
	[[ $binary ]] || die "Debian $1 has no qemu-system-x86"
	source=$(apt-cache "${options[@]}" show "qemu-system-x86=$binary" |
		sed -n 's/^Source: qemu (\(.*\))/\1/p')
	printf '%s\n' "$binary" "${source:-$binary}"
}

# Let a tree's own loader run the binary $1 on this system. QEMU looks for its
# modules and firmware below "qemu-bundle", beside what runs, before the system's.
# Prints a script for it.
make_runnable()
{
	local dir=${1%/*} script=$1.run

	cp -L "$QEMU_ROOT/lib64/ld-linux-x86-64.so.2" "$dir/ld-qemu.so"
	rm -rf "$dir/qemu-bundle"
	mkdir "$dir/qemu-bundle"
	ln -s "$QEMU_ROOT/usr" "$dir/qemu-bundle/usr"
	cat >"$script" <<-END
		#!/bin/sh
		exec '$dir/ld-qemu.so' --library-path '$QEMU_ROOT/usr/lib/x86_64-linux-gnu' \\
			--argv0 "\$0" '$1' "\$@"
	END
	chmod 755 "$script"
	echo "$script"
}

# A file tree with QEMU $2 of release $1, and what compiles it: unpacked only, no
# maintainer script is run. $3: sources.list
make_root()
{
	local release=$1 version=$2 list=$3 work options=()

	[[ $release != *-backports ]] ||
		options=(--aptopt="APT::Default-Release \"$release\"")
	work=$(mktemp -d "$QEMU_BASE/root.XXXXXX")
	# shellcheck disable=SC2064  # expand now
	trap "rm -rf '$work'" EXIT
	say "unpacking QEMU $version of $release with its compiler"
	mmdebstrap --quiet --mode=root --variant=extract --architectures=amd64 \
		--aptopt='APT::Install-Recommends "false"' "${options[@]}" \
		--include="qemu-system-x86=$version,seabios,base-files,bash,coreutils" \
		--include=dash,diffutils,findutils,grep,mawk,sed,tar,ca-certificates \
		"${RELEASE_TREE_PACKAGES[@]/#/--include=}" "" "$work/tree" - <"$list" >"$work/log" 2>&1 || {
		tail -n 20 "$work/log" >&2
		die "cannot unpack the packages of QEMU $version"
	}
	# What maintainer scripts would do. pip wants certificates, even offline.
	ln -sf mawk "$work/tree/usr/bin/awk"
	cat "$work"/tree/usr/share/ca-certificates/*/*.crt \
		>"$work/tree/etc/ssl/certs/ca-certificates.crt"
	mkdir -p "$work/tree"/{dev,proc,tmp}
	[[ -e $work/tree/dev/null ]] || mknod -m 666 "$work/tree/dev/null" c 1 3
	chmod 755 "$work/tree"
	rm -rf "$QEMU_ROOT"
	mv "$work/tree" "$QEMU_ROOT"
	rm -rf "$work"
	trap - EXIT
}

# Run a command in this directory, which must be below QEMU_BASE, with the tree of
# another release as the system. The project is there, too.
in_root()
{
	# shellcheck disable=SC2016  # for the inner shells
	unshare --mount bash -euc 'root=$1 dir=$2
		mount -t proc proc "$root/proc"
		for path in "$3" "$4"; do
			mkdir -p "$root$path"
			mount --bind "$path" "$root$path"
		done
		shift 4
		exec chroot "$root" /usr/bin/env -i PATH=/usr/bin:/usr/sbin LC_ALL=C HOME=/tmp \
			/bin/sh -c "cd \"\$0\" && exec \"\$@\"" "$dir" "$@"' \
		- "$QEMU_ROOT" "$PWD" "$QEMU_BASE" "$(realpath "$HERE/../..")" "$@"
}

# Unpack QEMU and the compiler of release $1.
select_release()
{
	local release=$1 dir=$VHOST_BLK_CACHE/qemu/apt-$1 versions lock

	[[ " ${RELEASES[*]} " == *" $release "* ]] ||
		die "no QEMU is known in release '$release', but in: ${RELEASES[*]}"
	[[ $EUID -eq 0 ]] || die "only root can use another release's compiler"
	require_packages "${RELEASE_PACKAGES[@]}"
	mkdir -p "$dir"
	exec {lock}>"$dir/lock"
	flock "$lock"
	if [[ $(find "$dir/versions" -mmin -720 2>/dev/null) ]]; then
		: # asked today
	elif release_versions "$release" "$dir" >"$dir/versions.new"; then
		mv "$dir/versions.new" "$dir/versions"
	elif [[ ! -s $dir/versions ]]; then
		# Else offline: what is there is still good.
		die "$(tail -n 3 "$dir/log")"
	fi
	mapfile -t versions <"$dir/versions"
	QEMU_VERSION=${versions[1]}
	QEMU_BASE=$VHOST_BLK_CACHE/qemu/${QEMU_VERSION//[^A-Za-z0-9.+~-]/_}
	QEMU_ROOT=$QEMU_BASE/root-$(echo "${versions[0]}" "${RELEASE_TREE_PACKAGES[@]}" | key_of)
	mkdir -p "$QEMU_BASE"
	[[ -e $QEMU_ROOT ]] || make_root "$release" "${versions[0]}" "$dir/sources.list"
	QEMU_BINARY=$QEMU_ROOT/usr/bin/qemu-system-x86_64.run
	[[ -x $QEMU_BINARY ]] || make_runnable "${QEMU_BINARY%.run}" >/dev/null
	flock -u "$lock"
	IN=(in_root)
}

# $1: release, or empty for the QEMU that is installed; further: packages that are
# needed to compile that.
select_qemu()
{
	local release=$1
	shift

	if [[ $release ]]; then
		select_release "$release"
	else
		require_packages "$@" "${INSTALLED_PACKAGES[@]}"
		QEMU_VERSION=$(dpkg-query -W -f '${source:Version}' qemu-system-x86)
		QEMU_BASE=$VHOST_BLK_CACHE/qemu/${QEMU_VERSION//[^A-Za-z0-9.+~-]/_}
		QEMU_BINARY=qemu-system-x86_64
		# /usr/bin first: Debian's meson wants Debian's python.
		IN=(env PATH=/usr/bin:/bin)
		mkdir -p "$QEMU_BASE"
	fi
	case $QEMU_VERSION in
	1:7.2*) QEMU_CONFIGURE=(--meson=/usr/bin/meson --with-git-submodules=ignore) ;;
	1:10.0*) QEMU_CONFIGURE=(--disable-download --cc=gcc --host-cc=gcc) ;;
	*) die "only QEMU 7.2 and 10.0 are known, not $QEMU_VERSION" ;;
	esac
}

# Leave the unpacked, patched source in QEMU_BASE/src. $1: release, or empty.
fetch_qemu_source()
{
	local dest=$QEMU_BASE/src tmp options

	[[ -e $dest/configure ]] && return
	tmp=$(mktemp -d "$QEMU_BASE/fetch.XXXXXX")
	# shellcheck disable=SC2064  # expand now
	trap "rm -rf '$tmp'" EXIT
	say "getting the source of QEMU $QEMU_VERSION"
	mapfile -t options < <(private_apt "$tmp/apt" "$1")
	[[ ${#options[@]} -gt 0 ]] || exit 1
	apt-get "${options[@]}" -qq update >&2 ||
		die "cannot get Debian's source lists"
	(cd "$tmp" && apt-get "${options[@]}" -qq --download-only source "qemu=$QEMU_VERSION" >&2) ||
		die "Debian's archive has no source of qemu $QEMU_VERSION: apt-get update && apt-get install qemu-system-x86"
	dpkg-source --no-check -x "$tmp"/qemu_*.dsc "$tmp/src" >"$tmp/unpack.log" 2>&1 || {
		cat "$tmp/unpack.log" >&2
		die "cannot unpack the source of QEMU"
	}
	rm -rf "$dest"
	mv "$tmp/src" "$dest"
	rm -rf "$tmp"
	trap - EXIT
}
