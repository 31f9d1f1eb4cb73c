#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Build vhost-blk.c as a plugin for the QEMU that is installed on this machine, or
# for that of another Debian release, and print the path of the shared object as
# the last line.
#
# The plugin uses QEMU's internals, so it is compiled with the headers of the
# very source package that the binary was built from. That takes a configured
# source tree and the headers generated from the QAPI schema, no build of QEMU.
set -euo pipefail

PACKAGES=(
	gcc libc6-dev make
	meson ninja-build pkg-config python3 python3-venv
	libglib2.0-dev libpixman-1-dev libfdt-dev
)

# Only what the headers' layout depends on has to agree with Debian's build;
# the plugin checks the outcome when it is loaded.
CONFIGURE=(
	--target-list=x86_64-softmmu --without-default-features
	--enable-system --enable-kvm --enable-tcg --enable-plugins
	--enable-vhost-kernel --enable-vhost-net --enable-vhost-user
	--enable-fdt=system --audio-drv-list= --disable-docs --disable-tools
	--disable-install-blobs --disable-werror --disable-debug-info
)

HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
UAPI=$HERE/../../include/uapi
# shellcheck source=tools/qemu/qemu-source.sh
. "$HERE/qemu-source.sh"

usage()
{
	cat <<-END
	usage: build-plugin.sh [--release RELEASE] [--expect PACKAGE] [--output FILE.so]
	       build-plugin.sh --release RELEASE --qemu
	       build-plugin.sh --packages
	  --release   the QEMU of another Debian release: ${RELEASES[*]}
	  --expect    the QEMU to accept (default: the one built for), in the words
	              of 'qemu-system-x86_64 --version' between the parentheses
	  --output    default tools/qemu/build/vhost-blk[-RELEASE].so
	  --qemu      print the path of a command that runs that release's QEMU here
	  --packages  print the Debian packages that this needs
	END
}

# Leave a configured tree with the generated headers in $2, for source $1.
configure_tree()
{
	local src=$1 tree=$2

	[[ -e $tree/.done ]] && return
	rm -rf "$tree"
	mkdir -p "$tree"
	say "configuring QEMU's headers"
	(cd "$tree" && "${IN[@]}" nice "$src/configure" "${QEMU_CONFIGURE[@]}" "${CONFIGURE[@]}" &&
		"${IN[@]}" nice ninja qapi/qapi-builtin-types.h) \
		>"$tree/configure.log" 2>&1 || {
		tail -n 20 "$tree/configure.log" >&2
		die "QEMU's configure failed, see $tree/configure.log"
	}
	touch "$tree/.done"
}

# Print the flags that QEMU compiles its virtio-blk with in tree $1, one a line.
compile_flags()
{
	python3 - "$1/compile_commands.json" <<-'END'
	import json, shlex, sys
	for c in json.load(open(sys.argv[1])):
	    if c["file"].endswith("/hw/block/virtio-blk.c"):
	        words = iter(shlex.split(c["command"])[1:])
	        for w in words:
	            if w in ("-o", "-c", "-MQ", "-MF"):
	                next(words)
	            elif w not in ("-MD", "-fPIE"):
	                print(w)
	        break
	else:
	    sys.exit("virtio-blk.c is not part of this configuration")
	END
}

# $1: configured tree, $2: expected package, $3: output
compile()
{
	local tree=$1 flags

	flags=$(compile_flags "$tree") || die "cannot read QEMU's compiler flags"
	mapfile -t flags <<<"$flags"
	mkdir -p "${3%/*}"
	say "compiling ${3##*/}"
	(cd "$tree" && "${IN[@]}" gcc "${flags[@]}" -Wall -Wextra -Wno-unused-parameter \
		-Wno-sign-compare -Wno-missing-field-initializers -Werror \
		-isystem "$UAPI" -DVHOST_BLK_PLUGIN "-DVHOST_BLK_QEMU_PACKAGE=\"$2\"" \
		-fPIC -shared -o "$tree/vhost-blk.so" "$HERE/vhost-blk.c")
	# In one step for those who have it open; the directories may be on two disks.
	mv "$tree/vhost-blk.so" "$3.tmp"
	mv "$3.tmp" "$3"
}

main()
{
	local expect='' output='' release='' only_qemu=0 tree key

	while [[ $# -gt 0 ]]; do
		case $1 in
		--packages)
			printf '%s\n' "${PACKAGES[@]}" "${INSTALLED_PACKAGES[@]}" "${RELEASE_PACKAGES[@]}"
			exit
			;;
		--release) release=${2:?}; shift 2 ;;
		--expect) expect=${2:?}; shift 2 ;;
		--output) output=$(realpath -m "${2:?}"); shift 2 ;;
		--qemu) only_qemu=1; shift ;;
		-h | --help) usage; exit ;;
		*) usage >&2; exit 2 ;;
		esac
	done
	[[ $output ]] || output=$HERE/build/vhost-blk${release:+-$release}.so

	select_qemu "$release" "${PACKAGES[@]}"
	if ((only_qemu)); then
		echo "$QEMU_BINARY"
		exit
	fi
	if [[ ! $expect ]]; then
		expect=$(package_of "$QEMU_BINARY")
		[[ $release || $expect == "Debian $(dpkg-query -W -f '${Version}' qemu-system-x86)" ]] ||
			die "$(command -v "$QEMU_BINARY") is not the one of package qemu-system-x86"
	fi
	key=$( (echo "$QEMU_VERSION" "$QEMU_ROOT" "${QEMU_CONFIGURE[@]}" "${CONFIGURE[@]}"
		cd "$QEMU_BASE" && "${IN[@]}" gcc --version) | key_of)
	tree=$QEMU_BASE/headers-$key
	key=$( (echo "$key" "$expect"; cat "$HERE"/{vhost-blk.c,build-plugin.sh,qemu-source.sh} \
		"$UAPI/linux/vhost_blk.h") | key_of)

	if [[ ! -e $output || $(cat "$output.key" 2>/dev/null) != "$key" ]]; then
		exec 9>"$QEMU_BASE/lock"
		flock 9
		fetch_qemu_source "$release"
		configure_tree "$QEMU_BASE/src" "$tree"
		compile "$tree" "$expect" "$output"
		echo "$key" >"$output.key"
	fi
	echo "$output"
}

main "$@"
