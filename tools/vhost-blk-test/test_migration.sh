#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# TAP test of live migration on shared storage: two QEMUs in one test host, a guest
# that writes and verifies, and goes from one to the other and back.
#
#   test_migration.sh [ROUND-TRIPS]      (2)
#   CPUS=N   of the guest, and so many virtqueues in use (2; 1 on an emulated host)
#
# Start with: tools/vhost-blk-test/vm/run.sh --nested -- $0. DEVICE=virtio-blk-pci
# runs the same without the module.
#
# check() calls the functions below; nested.sh sets what is not set here.
# shellcheck disable=SC2317,SC2154,SC2034,SC1091
set -uo pipefail

. "$(dirname "${BASH_SOURCE[0]}")/vm/nested.sh"

round_trips=${1-2}	# of which two are in what runs in any case
# An emulated host's guest with two CPUs has been seen to stand still after a migration,
# one CPU in an endless loop and nothing in its ring.
cpus=${CPUS-2}
[[ ${CPUS-} || ${VHOST_BLK_ACCEL-} != tcg ]] || cpus=1
device=$DEVICE
hop_nr=0
socket=$work/socket
file=$work/file
here=

# as NAME COMMAND...: run a command for the QEMU parked by that name, while the
# current one waits
as() {
	local name=$1 rc

	qemu_park other
	qemu_unpark "$name"
	"${@:2}"
	rc=$?
	qemu_park "$name"
	qemu_unpark other
	return "$rc"
}

# guest_verifies COUNT: both writers end that many rounds from now on, the first of
# which has begun before, and had no error so far.
guest_verifies() {
	local writer

	if grep -a '^guest: FAIL' -A 12 "$serial"; then return 1; fi
	for writer in left right; do
		await "^guest: verified $writer " 60 "$(($(grep -acE "^guest: verified $writer " "$serial") + $1))" ||
			return
	done
	if grep -a '^guest: FAIL' -A 12 "$serial"; then return 1; fi
}

# status_is STATUS: of the virtual machine
status_is() {
	qmp '{"execute":"query-status"}' | grep "\"status\": \"$1\""
}

# migration_is STATUS
migration_is() {
	qmp '{"execute":"query-migrate"}' >"$work/migrate"
	cat "$work/migrate"
	grep -q "^{\"return\".*\"status\": \"$1\"" "$work/migrate"
}

# some memory has been sent, and there is more
migration_is_midway() {
	migration_is active || return
	[[ $(<"$work/migrate") =~ '"transferred": '([0-9]+) ]] && ((BASH_REMATCH[1] > 1000000))
}

# migrate_to URI BYTES-A-SECOND [PAUSE]: start. PAUSE: true waits with the guest
# stopped, and nothing but the state of the devices left to send.
migrate_to() {
	qmp '{"execute":"migrate-set-parameters","arguments":{"downtime-limit":3000,"max-bandwidth":'"$2"'}}' &&
		qmp '{"execute":"migrate-set-capabilities","arguments":{"capabilities":[
			{"capability":"pause-before-switchover","state":'"${3-false}"'}]}}' &&
		qmp '{"execute":"migrate","arguments":{"uri":"'"$1"'"}}'
}

# guest NAME DEVICE [QEMU-ARGUMENT...]: becomes the current QEMU
guest() {
	DEVICE=$2
	qemu_options=("${@:3}")
	guest_start "$1" "$disk" rounds serial=test
	qmp_connect
}

# incoming DEVICE [URI]: a QEMU that waits for the guest, parked as "target"
incoming() {
	qemu_park source
	hop_nr=$((hop_nr + 1))
	guest "hop$hop_nr" "$1" -S -incoming "${2-unix:$socket}" || { qemu_kill; qemu_unpark source; return 1; }
	qemu_park target
	qemu_unpark source
}

# holders PATH [PID]: the processes that have it open, or that one if it has
holders() {
	local dirs=(/proc/[0-9]*/fd)

	[[ -z ${2-} ]] || dirs=("/proc/$2/fd")
	find "${dirs[@]}" -lname "$1" 2>/dev/null | cut -d/ -f3
}

# Stopped, with nothing under way on the disk: not by QEMU, not by the kernel.
source_is_quiet() {
	status_is postmigrate || return
	if [[ $DEVICE == vhost-blk-pci ]]; then engine_is off || return; fi
	# What the kernel served it has let go of.
	[[ $(holders "$disk" "$qemu" | wc -l) -le $disk_fds ]] && until_true 1 idle "$disk"
}

# The current QEMU and no other has /dev/vhost-blk open, if its device needs it.
vhost_is_ours() {
	local have want=

	[[ $DEVICE != vhost-blk-pci ]] || want=$qemu
	have=$(holders /dev/vhost-blk)
	echo "/dev/vhost-blk is held by '$have', expected '$want'"
	[[ $have == "$want" ]]
}

guest_has_moved() {
	until_true 30 as target status_is paused && as target qmp '{"execute":"cont"}'
}

source_ends() {
	qmp '{"execute":"quit"}' && qemu_wait 30
}

# hop DEVICE: the guest goes to a new QEMU, which becomes the current one
hop() {
	local name="$DEVICE to $1${here:+, $here}"

	check "$name: a QEMU waits for it" incoming "$1" || return
	check "$name: migration starts" migrate_to "unix:$socket" 4294967296 &&
		check "$name: migration completes" until_true 60 migration_is completed || return
	check "$name: the source is quiet" source_is_quiet
	check "$name: the guest is there" guest_has_moved || return
	arrive "$name"
}

# arrive NAME: the source ends, the target becomes the current QEMU
arrive() {
	check "$1: the source ends" source_ends
	qemu_unpark target
	check "$1: nobody else has /dev/vhost-blk open" vhost_is_ours
	check "$1: the disk's engine is the right one" until_true 10 engine_is vhost
	check "$1: the guest goes on and verifies" guest_verifies 1
}

stays() {
	until_true 20 status_is running && until_true 10 engine_is vhost && guest_verifies 1
}

target_ends() {
	local rc=0

	qemu_park source
	qemu_unpark target
	timeout 20 tail --pid="$qemu" -s 0.05 -f /dev/null || { echo "the target is still there"; rc=1; }
	qemu_kill
	qemu_unpark source
	return "$rc"
}

target_dies() {
	as target kill -KILL "${parked[target]%% *}"
	target_ends
}

# The way of most failures: memory is on its way while the guest runs.
test_dies_midway() {
	local name="target dies midway"

	check "$name: a QEMU waits" incoming "$device" || return
	check "$name: migration starts" migrate_to "unix:$socket" 1000000 &&
		check "$name: migration is under way" until_true 30 migration_is_midway || return
	check "$name: the guest verifies meanwhile" guest_verifies 1
	check "$name: it dies" target_dies
	check "$name: migration fails" until_true 30 migration_is failed || return
	check "$name: the guest goes on where it was" stays
}

# The guest has been stopped, and starts again.
test_dies_at_switchover() {
	local name="target dies at the switch-over"

	check "$name: a QEMU waits" incoming "$device" || return
	check "$name: migration starts" migrate_to "unix:$socket" 4294967296 true &&
		check "$name: the guest is stopped" until_true 60 migration_is pre-switchover || return
	check "$name: no request is in flight" until_true 1 idle "$disk"
	check "$name: it dies" target_dies
	check "$name: migration is to go on" qmp \
		'{"execute":"migrate-continue","arguments":{"state":"pre-switchover"}}'
	check "$name: migration fails" until_true 30 migration_is failed || return
	check "$name: the guest goes on where it was" stays
}

test_cancel() {
	local name="migrate_cancel"

	check "$name: a QEMU waits" incoming "$device" || return
	check "$name: migration starts" migrate_to "unix:$socket" 1000000 &&
		check "$name: migration is under way" until_true 30 migration_is_midway || return
	check "$name: is accepted" qmp '{"execute":"migrate_cancel"}'
	check "$name: migration ends" until_true 30 migration_is cancelled || return
	check "$name: the target ends" target_ends
	check "$name: the guest goes on where it was" stays
}

# A target without a feature that the guest uses finds out when all has been sent:
# the source has let go of the disk, and takes it again.
test_refused() {
	local name="target refuses"

	device_options=${device_options:+$device_options,}discard=off
	check "$name: a QEMU waits" incoming "$device" || return
	check "$name: migration starts" migrate_to "unix:$socket" 4294967296 || return
	check "$name: it ends" target_ends
	check "$name: migration has ended" until_true 10 migration_has_ended || return
	# Whether QEMU has noticed is a matter of time.
	check "$name: the source is told to go on" qmp '{"execute":"cont"}'
	check "$name: the guest goes on where it was" stays
}

migration_has_ended() {
	migration_is completed || migration_is failed
}

throttle() {
	qmp '{"execute":"block_set_io_throttle","arguments":{"device":"d0","bps":0,"bps_rd":0,"bps_wr":0,
		"iops":'"$1"',"iops_rd":0,"iops_wr":0}}'
}

# QEMU's engine has requests of its own in flight, and some that wait.
test_throttled() {
	check "throttled: limit" throttle 100
	check "throttled: QEMU's engine serves" until_true 10 engine_is qemu
	here=throttled
	hop "$device"
	local rc=$?
	here=
	return "$rc"
}

test_file() {
	local name="through a file"

	check "$name: the source stops and writes it" migrate_to "exec:cat >$file" 4294967296 &&
		check "$name: migration completes" until_true 60 migration_is completed || return
	check "$name: the source is quiet" source_is_quiet
	check "$name: a QEMU reads it" incoming "$1" "exec:cat $file"
	check "$name: the guest is there" guest_has_moved || return
	arrive "$name"
	rm -f "$file"
}

boot() {
	guest_cpus=$cpus device_options=num-queues=4,queue-size=64
	check "QEMU starts" guest first "$device" || return
	check "guest boots and verifies" await '^guest: verified left ' 240 || return
	check "the disk's engine is the right one" until_true 10 engine_is vhost
	# The kernel's engine has one open file more, which is not QEMU's.
	disk_fds=$(holders "$disk" "$qemu" | wc -l)
	[[ $DEVICE != vhost-blk-pci ]] || disk_fds=$((disk_fds - 1))
}

finish() {
	check "the guest verifies, in rounds that begin now" guest_verifies 2
	check "stop" qmp '{"execute":"stop"}'
	check "no request is in flight" until_true 5 idle "$disk"
	check "QEMU ends" source_ends
	check "nobody has /dev/vhost-blk open" no_holders /dev/vhost-blk
	check "nobody has the disk open" no_holders "$disk"
	check "the disk opens exclusively" opens_exclusively "$disk"
}

no_holders() {
	local have

	have=$(holders "$1")
	echo "held by '$have'"
	[[ -z $have ]]
}

# What every round trip has: the kernel's engine on both sides, and on one only
round_trip() {
	hop "$device" && hop virtio-blk-pci && hop "$device"
}

test_all() {
	local trip

	boot || return
	test_dies_midway && test_dies_at_switchover && test_cancel || return
	round_trip || return
	test_throttled && test_file virtio-blk-pci && hop "$device" || return
	for ((trip = 3; trip <= round_trips; trip++)); do
		here="round trip $trip"
		round_trip || return
	done
	here=
	test_refused
	finish
}

nested_init
echo "TAP version 13"
null_blk_create nullb0 128 discard=1 || bail_out "no null_blk"
disk=$null_blk
test_all
echo "1..$tap_nr"
exit "$tap_failed"
