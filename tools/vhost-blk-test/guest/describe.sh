# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2154 # disk_by_serial: rc.sh
#
# For guest/shell.sh: what a guest can tell of a disk. Two disks that differ only in
# where they are have the same description.

# PCI config space, with all the ids, but without the addresses in it and the interrupt
# line, and what the base address registers are.
describe_pci() {
	local bytes i flags from to

	mapfile -t bytes < <(od -An -v -w1 -tx1 "$1/config")
	for i in {16..39} {48..51} 60; do bytes[i]=--; done
	echo "config: ${bytes[*]}"
	while read -r from to flags; do
		echo "resource: $((to - from)) $flags"
	done <"$1/resource"
}

# The device's configuration as drivers before virtio 1.0 read it: by I/O port, behind
# 24 bytes of header.
describe_legacy() {
	local flags

	read -r _ _ flags <"$1/resource"
	((flags & 0x100)) || return 0
	dd if="$1/resource0" bs=1 skip=24 count=60 2>/dev/null | od -An -v -tx1
}

# describe SERIAL
describe() {
	local name virtio file value

	name=$(disk_by_serial "$1") || { echo "no disk $1"; return 1; }
	virtio=$(readlink -f "/sys/block/$name/device")
	describe_pci "$virtio/.."
	describe_legacy "$virtio/.."
	echo "features: $(<"$virtio/features") status: $(<"$virtio/status") ids: $(<"$virtio/modalias")"
	for file in "/sys/block/$name"/{size,ro,removable,cache_type,discard_alignment,alignment_offset} \
		"/sys/block/$name"/queue/*; do
		[[ -f $file ]] || continue
		# Some cannot be read; a builtin, since the disks and files are many.
		value=
		read -r value 2>/dev/null <"$file"
		echo "${file#"/sys/block/$name/"}: $value"
	done
	echo "queues: $(echo "/sys/block/$name/mq"/*/ | wc -w)"
}

# same SERIAL SERIAL: all that the guest sees of two disks, but the serial number
same() {
	describe "$1" >/tmp/one && describe "$2" >/tmp/other || { cat /tmp/one /tmp/other; return 1; }
	cmp /tmp/one /tmp/other || { diff /tmp/one /tmp/other; return 1; }
	echo "features $(sed -n 's/^features: \([01]*\) .*/\1/p' /tmp/one), $(wc -l </tmp/one) lines compared"
}
