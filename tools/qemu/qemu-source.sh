# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# Sourced by build-plugin.sh and build-qemu.sh: gets the Debian source of the
# QEMU that is installed on this machine.

VHOST_BLK_CACHE=${VHOST_BLK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/vhost-blk}

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

# The version of the source package that the installed QEMU was built from.
qemu_source_version()
{
	dpkg-query -W -f '${source:Version}' qemu-system-x86 2>/dev/null ||
		die "QEMU is not installed: apt-get install qemu-system-x86"
}

# A private apt set-up that knows the sources of the Debian packages which the
# machine's own set-up knows, so that nothing on the machine is changed.
# $1: directory. Prints apt options, one a line.
private_apt()
{
	local dir=$1 signed=

	mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
	[[ -r /usr/share/keyrings/debian-archive-keyring.gpg ]] &&
		signed="[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] "
	# shellcheck disable=SC2016  # apt expands these
	apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' \
		'Created-By: Packages' 'Origin: Debian' |
		sort -u | sed "s|^|deb-src $signed|" >"$dir/sources.list"
	[[ -s $dir/sources.list ]] ||
		die "apt knows no Debian package lists: run apt-get update"
	printf '%s\n' -o "Dir::Etc::sourcelist=$dir/sources.list" \
		-o "Dir::Etc::sourceparts=/dev/null" \
		-o "Dir::State::lists=$dir/lists" -o "Dir::Cache=$dir/cache" \
		-o "APT::Sandbox::User=root" -o "Acquire::Retries=3"
}

# Leave the unpacked, patched source in directory $1.
fetch_qemu_source()
{
	local dest=$1 version tmp options
	version=$(qemu_source_version)

	[[ -e $dest/configure ]] && return
	mkdir -p "${dest%/*}"
	tmp=$(mktemp -d "${dest%/*}/fetch.XXXXXX")
	# shellcheck disable=SC2064  # expand now
	trap "rm -rf '$tmp'" EXIT
	say "getting the source of QEMU $version"
	mapfile -t options < <(private_apt "$tmp/apt")
	[[ ${#options[@]} -gt 0 ]] || exit 1
	apt-get "${options[@]}" -qq update >&2 ||
		die "cannot get Debian's source lists"
	(cd "$tmp" && apt-get "${options[@]}" -qq --download-only source "qemu=$version" >&2) ||
		die "Debian's archive has no source of qemu $version: apt-get update && apt-get install qemu-system-x86"
	dpkg-source --no-check -x "$tmp"/qemu_*.dsc "$tmp/src" >"$tmp/unpack.log" 2>&1 || {
		cat "$tmp/unpack.log" >&2
		die "cannot unpack the source of QEMU"
	}
	rm -rf "$dest"
	mv "$tmp/src" "$dest"
	rm -rf "$tmp"
	trap - EXIT
}
