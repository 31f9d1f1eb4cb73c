#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# shellcheck disable=SC2154,SC1091 # set by nested.sh
#
# For tests that talk with a running guest and change its disks. To be sourced.

. "$(dirname "${BASH_SOURCE[0]}")/nested.sh"

# Without udev dmsetup has to make the nodes itself.
export DM_DISABLE_UDEV=1
guest_parameters=()

# shell_start NAME QEMU-ARGUMENT...: a test guest that does what guest_do asks for; it
# has the parameters in guest_parameters. Commands go by virtio-serial, a function of the
# slot that each machine has its own devices in: all other slots are the tests'.
shell_start() {
	local base=$work/$1 slot=1

	[[ ${machine-pc} != q35* ]] || slot=1f

	rm -f "$base.shell.in" "$base.shell.out"
	mkfifo "$base.shell.in" "$base.shell.out"
	exec {shell_in}<>"$base.shell.in" {shell_out}<>"$base.shell.out"
	guest_boot shell "${guest_parameters[@]}"
	qemu_run "$1" "${guest_args[@]}" -chardev "pipe,id=shell,path=$base.shell" \
		-device "virtio-serial-pci,addr=$slot.7" -device virtserialport,chardev=shell "${@:2}"
}

# guest_do SECONDS COMMAND: run it in the guest, print what it prints, return its status
guest_do() {
	local line='' part end=$((SECONDS + $1)) nr=${EPOCHREALTIME/./} command=${2//$'\n'/ }

	echo "$nr $command" >&"$shell_in"
	while ((SECONDS < end)) && kill -0 "$qemu" 2>/dev/null; do
		read -r -t 1 -u "$shell_out" part || { line+=$part; continue; }
		line+=$part
		[[ $line != "guest-status $nr "* ]] || return "${line##* }"
		[[ $line == "guest-status "* ]] || echo "$line"
		line=
	done
	echo "$line"
	echo "no answer from the guest within $1 s to: $2; its console:"
	tail -n 5 "$serial" | tr -d '\r'
	tail -n 5 "${serial%.serial}.err"
	return 1
}

# program_build NAME: guest/NAME.c, for a guest
program_build() {
	"${CC-gcc}" -O2 -Wall -Wextra -Werror -D_GNU_SOURCE -static -s -o "$work/$1" \
		"$nested_vm/../guest/$1.c" && truncate -s %4096 "$work/$1"
}

# program_disk NAME: sets program to what QEMU needs to show it as the disk "program"
program_disk() {
	# shellcheck disable=SC2034,SC2054 # for shell_start; QEMU separates options by commas
	program=(-drive "if=none,id=program,file=$work/$1,format=raw,readonly=on,file.locking=off"
		-device virtio-blk-pci,drive=program,serial=program)
}

# guest_end: the guest switches itself off, QEMU ends
guest_end() {
	echo "0 end" >&"$shell_in"
	await '^guest: done 0' 60 && qemu_wait 30
	local rc=$?
	exec {shell_in}>&- {shell_out}<&-
	return "$rc"
}

# qmp_get JSON JQ-FILTER: what the command returns, filtered
qmp_get() {
	qmp "$1" | grep '^{"return"' | jq -r ".return | $2"
}

# blockdev NODE FILE [DRIVER [JSON]]: JSON for a raw node on a host block device or
# file, and what more that one has
blockdev() {
	local both='"cache":{"direct":true},"discard":"unmap"'

	printf '{"driver":"raw","node-name":"%s",%s,"file":{"driver":"%s","filename":"%s","aio":"native",%s%s}}' \
		"$1" "$both" "${3-host_device}" "$2" "$both" "${4:+,$4}"
}

# property ID NAME: of a device
property() {
	qmp_get '{"execute":"qom-get","arguments":{"path":"/machine/peripheral/'"$1"'","property":"'"$2"'"}}' .
}

# blockstat ID NAME: a counter of the drive of a device
blockstat() {
	qmp_get '{"execute":"query-blockstats"}' \
		".[] | select(.qdev | . != null and startswith(\"/machine/peripheral/$1/\")) | .stats.$2"
}

# dm_switch NAME TABLE: give a device-mapper device another table
dm_switch() {
	dmsetup load "$1" --table "$2" && dmsetup suspend --nolockfs "$1" &&
		dmsetup resume "$1"
}

# dm_create NAME TABLE
dm_create() {
	modprobe dm_mod && dmsetup create "$1" --table "$2"
}

# dm_path NAME: the node that has the name of the device in sysfs
dm_path() {
	echo "/dev/$(dmsetup info -c --noheadings -o blkdevname "$1")"
}

# in_flight DISK [COUNT]: have at least that many requests been submitted, but not
# completed?
in_flight() {
	local -a counts

	read -r -a counts <"/sys/block/${1#/dev/}/inflight"
	echo "in flight: ${counts[*]}"
	((counts[0] + counts[1] >= ${2-1}))
}

module_unused() {
	echo "references: $(</sys/module/vhost_blk/refcnt)"
	[[ $(</sys/module/vhost_blk/refcnt) -eq 0 ]]
}
