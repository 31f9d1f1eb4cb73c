#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# shellcheck disable=SC2034 # used by the scripts that source this
#
# For scripts that run inside the test host (run.sh --nested): back ends, test
# guests on them and their monitor. To be sourced.
#
# DEVICE=virtio-blk-pci runs the same with QEMU's own engine, without the module.
# QEMU is another binary than the installed one, PLUGIN the device for it; an empty
# PLUGIN loads none, for a QEMU that has the device built in.

nested_vm=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
top=$(cd "$nested_vm/../../.." && pwd -P)
DEVICE=${DEVICE-vhost-blk-pci}
QEMU=${QEMU-qemu-system-x86_64}
plugin=${PLUGIN-$top/tools/qemu/build/vhost-blk.so}
work=$(mktemp -d)
qemu=
qemu_prefix=()
qemu_options=()
declare -A parked=()
tap_nr=0
tap_failed=0
examined=0

bail_out() {
	echo "Bail out! $*"
	exit 1
}

# result STATUS NAME: one TAP line
result() {
	tap_nr=$((tap_nr + 1))
	if [[ $1 -eq 0 ]]; then
		echo "ok $tap_nr - $2"
	else
		echo "not ok $tap_nr - $2"
		tap_failed=1
	fi
}

# check NAME COMMAND...: one TAP line, and what the command printed if it failed
check() {
	local name=$1 rc=0

	shift
	"$@" >"$work/check.log" 2>&1 || rc=$?
	result "$rc" "$name"
	if ((rc)); then
		{ tail -n 40 "$work/check.log"; ((examined)) || post_mortem; } | cut -c 1-600 | sed 's/^/# /'
		examined=1
	fi
	return "$rc"
}

# The state in which a check, the first one to fail, has left QEMU: where its threads
# are, and the kernel's that work for it, what is in flight, where the guest's CPUs are,
# and both indices of the ring.
post_mortem() {
	local task ring address

	[[ $qemu ]] && kill -0 "$qemu" 2>/dev/null || return 0
	for task in "/proc/$qemu/task"/* $(grep -slx "vhost-$qemu" /proc/[0-9]*/comm | xargs -r dirname); do
		echo "${task##*/} $(<"$task/comm") $(awk '$1 == "State:" { print $2 }' "$task/status"):" \
			"$(head -n 4 "$task/stack" | tr '\n' ' ')"
	done 2>/dev/null
	grep -Hv '^ *0 *0$' /sys/block/*/inflight
	qmp '{"execute":"human-monitor-command","arguments":{"command-line":"info registers -a"}}' |
		grep -oE 'RIP=[0-9a-f]+ RFL=[0-9a-f]+|CPL=[0-9]'
	for ring in avail used; do
		address=$(qmp '{"execute":"x-query-virtio-queue-status","arguments":{"queue":0,
			"path":"/machine/peripheral/disk0/virtio-backend"}}' |
			sed -nE 's/.*"vring-'"$ring"'": ([0-9]+).*/\1/p')
		[[ $address ]] || return 0
		echo "$ring:"
		qmp '{"execute":"human-monitor-command","arguments":{"command-line":"xp /2xh '"$address"'"}}'
	done
}

# until_true SECONDS COMMAND...: for state without an event to wait for
until_true() {
	local end=$((SECONDS + $1))

	shift
	until "$@" >"$work/attempt.log" 2>&1; do
		((SECONDS < end)) || {
			cat "$work/attempt.log"
			return 1
		}
		sleep 0.05
	done
}

nested_init() {
	[[ ${VHOST_BLK_VM-} && ${VHOST_BLK_GUEST-} ]] ||
		bail_out "start this with tools/vhost-blk-test/vm/run.sh --nested -- $0"
	[[ -c /dev/kvm ]] || bail_out "no /dev/kvm in the test host"
	if [[ $DEVICE == vhost-blk-pci ]]; then
		[[ -z $plugin || -r $plugin ]] || bail_out "no $plugin: run tools/qemu/build-plugin.sh"
		[[ -c /dev/vhost-blk ]] || bail_out "no /dev/vhost-blk: is the module loaded?"
	fi
	trap nested_exit EXIT
}

nested_exit() {
	local name

	for name in "${!parked[@]}"; do qemu_kill; qemu_unpark "$name"; done
	[[ -z $qemu ]] || kill -KILL "$qemu" 2>/dev/null
	rm -rf "$work"
}

# null_blk_create NAME MIB [ATTRIBUTE=VALUE...]: memory-backed unless told otherwise
null_blk_create() {
	local dir=/sys/kernel/config/nullb/$1 item

	modprobe null_blk nr_devices=0 || return
	mkdir "$dir" || return
	echo 1 >"$dir/memory_backed"
	echo "$2" >"$dir/size"
	for item in "${@:3}"; do
		echo "${item#*=}" >"$dir/${item%%=*}" || return
	done
	echo 1 >"$dir/power" || return
	# Before 6.1 the disk does not take the directory's name.
	null_blk=/dev/$1
	[[ -b $null_blk ]] || null_blk=/dev/nullb$(<"$dir/index")
	[[ -b $null_blk ]]
}

null_blk_remove() {
	echo 0 >"/sys/kernel/config/nullb/$1/power"
	rmdir "/sys/kernel/config/nullb/$1"
}

# qemu_run NAME QEMU-ARGUMENT...: QEMU in the background, with the command in
# qemu_prefix, if any, before it, and the arguments in qemu_options last. Sets qemu;
# output in $work/NAME.err, serial line in $work/NAME.serial, monitor at the other
# end of $qmp_in and $qmp_out. Those files belong to qemu_user, if set.
qemu_run() {
	local base=$work/$1 load=()

	shift
	[[ $DEVICE != vhost-blk-pci || -z $plugin ]] || load=(-plugin "$plugin")
	serial=$base.serial
	events=$base.events
	rm -f "$serial" "$events" "$base.qmp.in" "$base.qmp.out"
	mkfifo "$base.qmp.in" "$base.qmp.out"
	touch "$serial" "$events"
	[[ -z ${qemu_user-} ]] || chown "$qemu_user" "$base".*
	exec {qmp_in}<>"$base.qmp.in" {qmp_out}<>"$base.qmp.out"
	"${qemu_prefix[@]}" "$QEMU" "${load[@]}" -accel kvm -cpu host \
		-nodefaults -no-user-config -display none \
		-chardev "file,id=serial,path=$serial" -serial chardev:serial \
		-chardev "pipe,id=qmp,path=$base.qmp" -mon chardev=qmp,mode=control \
		"$@" "${qemu_options[@]}" </dev/null >"$base.err" 2>&1 {qmp_in}>&- {qmp_out}>&- &
	qemu=$!
}

# qemu_start NAME DISK QEMU-ARGUMENT...: with DISK as the device under test
qemu_start() {
	local name=$1 disk=$2

	shift 2
	qemu_run "$name" -drive "if=none,id=d0,file=$disk,format=raw,cache=none,aio=native" \
		-device "$DEVICE,drive=d0,id=disk0,serial=${serial_number-test}${device_options:+,$device_options}" \
		"$@"
}

# guest_boot SCRIPT [KEY=VALUE...]: sets guest_args to what QEMU needs to boot a
# test guest that runs guest/SCRIPT.sh
guest_boot() {
	local append="console=ttyS0 panic=-1 quiet mitigations=off guest=$1" word

	for word in "${@:2}"; do append+=" guest.$word"; done
	# shellcheck disable=SC2054 # QEMU separates options by commas
	guest_args=(-M "${machine-pc}" -smp "${guest_cpus-1}" -m 256
		-kernel "$(echo "$VHOST_BLK_KERNEL"/boot/vmlinuz-*)" -initrd "$VHOST_BLK_GUEST/initrd"
		-append "$append"
		-drive "if=none,id=tools,file=$VHOST_BLK_GUEST/tools.img,format=raw,readonly=on,file.locking=off"
		-device virtio-blk-pci,drive=tools,serial=tools)
}

# guest_start NAME DISK SCRIPT [KEY=VALUE...]: a test guest with DISK as the device
# under test
guest_start() {
	guest_boot "${@:3}"
	qemu_start "$1" "$2" "${guest_args[@]}"
}

# await REGEX SECONDS [COUNT]: until that many lines on the serial line match, or
# QEMU ends, or time is up
await() {
	local fd tail rc=0

	exec {fd}< <(exec tail -n +1 -s 0.1 --pid="$qemu" -f "$serial" 2>/dev/null)
	tail=$!
	timeout "$2" grep -a -m "${3-1}" -E "$1" <&"$fd" >"$work/await" || rc=$?
	kill "$tail" 2>/dev/null
	exec {fd}<&-
	[[ $rc -ne 124 && $(wc -l <"$work/await") -ge ${3-1} ]] && return
	echo "no '$1' from the guest within $2 s; its last lines:"
	tail -n 12 "$serial" | tr -d '\r'
	tail -n 5 "${serial%.serial}.err"
	return 1
}

# qmp JSON: send a command, print its answer, fail if that is an error
qmp() {
	local line='' part end=$((SECONDS + 60))

	echo "$1" >&"$qmp_in"
	while ((SECONDS < end)) && kill -0 "$qemu" 2>/dev/null; do
		# A read that times out in the middle of a line has consumed its start.
		read -r -t 1 -u "$qmp_out" part || { line+=$part; continue; }
		line+=$part
		case $line in
		'{"return"'*) echo "$line"; return 0 ;;
		'{"error"'*) echo "$line"; return 1 ;;
		esac
		echo "$line"
		[[ $line != '{"timestamp"'* ]] || echo "$line" >>"$events"
		line=
	done
	echo "$line"
	echo "no answer from QEMU's monitor to $1; QEMU says:"
	cat "${serial%.serial}.err"
	return 1
}

qmp_connect() {
	qmp '{"execute":"qmp_capabilities"}'
}

# event REGEX SECONDS [COUNT]: until QEMU has told that many events that match, since
# it started
event() {
	local end=$((SECONDS + $2))

	until (($(grep -cE "$1" "$events") >= ${3-1})); do
		if ((SECONDS >= end)); then
			echo "no event '$1' from QEMU within $2 s, but:"
			tail -n 12 "$events"
			return 1
		fi
		# What has happened comes before the answer.
		qmp '{"execute":"query-status"}' || return
		sleep 0.05
	done
}

# engine_is vhost|qemu [ID]: which one serves the device under test, or another
engine_is() {
	local answer

	[[ $DEVICE == vhost-blk-pci ]] || return 0
	answer=$(qmp '{"execute":"qom-get","arguments":{"path":"/machine/peripheral/'"${2-disk0}"'","property":"engine"}}')
	echo "engine: $answer"
	cat "${serial%.serial}.err"
	[[ $answer == *"\"$1\""* ]]
}

# qemu_wait SECONDS: QEMU ends by itself in time, with status 0
qemu_wait() {
	local rc=0

	if ! timeout "$1" tail --pid="$qemu" -s 0.05 -f /dev/null; then
		echo "QEMU is still there after $1 s; the guest's last lines:"
		tail -n 5 "$serial" | tr -d '\r'
		kill -KILL "$qemu"
		rc=1
	fi
	wait "$qemu" || { echo "QEMU's status is $?"; cat "${serial%.serial}.err"; rc=1; }
	qemu_forget
	return "$rc"
}

qemu_kill() {
	[[ $qemu ]] || return 0
	kill -KILL "$qemu"
	wait "$qemu" 2>/dev/null
	qemu_forget
}

qemu_forget() {
	qemu=
	exec {qmp_in}>&- {qmp_out}<&-
}

# All above deals with one QEMU. To have several, put the current one aside by a
# name: qemu_park NAME, and qemu_unpark NAME makes it the current one again.
qemu_park() {
	parked[$1]="$qemu $qmp_in $qmp_out $serial $events $DEVICE"
	qemu=
}

qemu_unpark() {
	read -r qemu qmp_in qmp_out serial events DEVICE <<<"${parked[$1]}"
	unset "parked[$1]"
}

# No request that was submitted to DISK is still in flight.
idle() {
	[[ $(<"/sys/block/${1#/dev/}/inflight") =~ ^\ *0\ +0$ ]]
}

# A claim for the whole device, as mkfs or mount makes it (perl: O_EXCL is 0200).
opens_exclusively() {
	perl -e 'use Fcntl; sysopen(my $f, $ARGV[0], O_RDWR | O_EXCL) or die "$ARGV[0]: $!\n"' "$1"
}
