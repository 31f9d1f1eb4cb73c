#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Build vhost-blk.c as a plugin for the QEMU that is installed on this machine
# and print the path of the shared object as the last line.
#
# The plugin uses QEMU's internals, so it is compiled with the headers of the
# very source package that the binary was built from. That takes a configured
# source tree and the headers generated from the QAPI schema, no build of QEMU.
set -euo pipefail

PACKAGES=(
	gcc libc6-dev dpkg-dev make
	qemu-system-x86 seabios
	meson ninja-build pkg-config python3 python3-venv
	libglib2.0-dev libpixman-1-dev libfdt-dev
)

# Only what the headers' layout depends on has to agree with Debian's build;
# the plugin checks the outcome when it is loaded.
CONFIGURE=(
	--meson=/usr/bin/meson --with-git-submodules=ignore
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
	usage: build-plugin.sh [--expect PACKAGE] [--output FILE.so]
	       build-plugin.sh --packages
	  --expect    the QEMU to accept (default: the one installed), in the words
	              of 'qemu-system-x86_64 --version' between the parentheses
	  --output    default tools/qemu/build/vhost-blk.so
	  --packages  print the Debian packages that this needs
	END
}

# What the installed binary calls itself, for instance "Debian 1:7.2+dfsg-7".
installed_package()
{
	local line

	line=$(qemu-system-x86_64 --version 2>/dev/null | head -n 1) ||
		die "cannot run qemu-system-x86_64: apt-get install qemu-system-x86"
	[[ $line =~ \((Debian\ .*)\)$ ]] ||
		die "this is not Debian's QEMU ($line): build one with build-qemu.sh"
	[[ ${BASH_REMATCH[1]} == "Debian $(dpkg-query -W -f '${Version}' qemu-system-x86)" ]] ||
		die "$(command -v qemu-system-x86_64) is not the one of package qemu-system-x86"
	echo "${BASH_REMATCH[1]}"
}

# Leave a configured tree with the generated headers in $2, for source $1.
configure_tree()
{
	local src=$1 tree=$2

	[[ -e $tree/.done ]] && return
	rm -rf "$tree"
	mkdir -p "$tree"
	say "configuring QEMU's headers"
	# /usr/bin first: Debian's meson wants Debian's python.
	(cd "$tree" && PATH=/usr/bin:/bin nice "$src/configure" "${CONFIGURE[@]}" &&
		PATH=/usr/bin:/bin nice ninja qapi/qapi-builtin-types.h) \
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
	(cd "$tree" && gcc "${flags[@]}" -Wall -Wextra -Wno-unused-parameter \
		-Wno-sign-compare -Wno-missing-field-initializers -Werror \
		-isystem "$UAPI" -DVHOST_BLK_PLUGIN "-DVHOST_BLK_QEMU_PACKAGE=\"$2\"" \
		-fPIC -shared -o "$3.tmp" "$HERE/vhost-blk.c")
	mv "$3.tmp" "$3"
}

main()
{
	local expect='' output=$HERE/build/vhost-blk.so version base tree key

	while [[ $# -gt 0 ]]; do
		case $1 in
		--packages) printf '%s\n' "${PACKAGES[@]}"; exit ;;
		--expect) expect=${2:?}; shift 2 ;;
		--output) output=$(realpath -m "${2:?}"); shift 2 ;;
		-h | --help) usage; exit ;;
		*) usage >&2; exit 2 ;;
		esac
	done

	require_packages "${PACKAGES[@]}"
	[[ $expect ]] || expect=$(installed_package)
	version=$(qemu_source_version)
	base=$VHOST_BLK_CACHE/qemu/${version//[^A-Za-z0-9.+~-]/_}
	key=$( (echo "$version" "${CONFIGURE[@]}"; gcc --version) | key_of)
	tree=$base/headers-$key
	key=$( (echo "$key" "$expect"; cat "$HERE/vhost-blk.c" "$HERE/build-plugin.sh" \
		"$UAPI/linux/vhost_blk.h") | key_of)

	if [[ ! -e $output || $(cat "$output.key" 2>/dev/null) != "$key" ]]; then
		mkdir -p "$base"
		exec 9>"$base/lock"
		flock 9
		fetch_qemu_source "$base/src"
		configure_tree "$base/src" "$tree"
		compile "$tree" "$expect" "$output"
		echo "$key" >"$output.key"
	fi
	echo "$output"
}

main "$@"
