#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# The part of the demo that runs inside the test host, started by demo.sh:
# demo-host.sh RESULT-DIRECTORY RUNTIME ROUNDS. /dev/vda is the root disk for the guest.
#
# nested.sh sets what is not set here; step() and a trap call functions.
# shellcheck disable=SC2154,SC1091,SC2317
set -uo pipefail

. "$(dirname "${BASH_SOURCE[0]}")/nested.sh"
. "$top/tools/vhost-blk-test/guest/workload.sh"

results=$1
runtime=$2
rounds=$3
root=/dev/vda
mib=128
pipe=

stage() {
	echo "stage $*"
}

# fail WHAT ADVICE
fail() {
	echo "FAILED: $1"
	echo "what to do: $2"
	exit 1
}

step() {
	local what=$1 advice=$2

	shift 2
	"$@" >"$work/step.log" 2>&1 && return
	tail -n 20 "$work/step.log"
	fail "$what" "$advice"
}

# Four equal disks in memory, all of it written once: one for the host's own
# fio, one for each way into the guest.
make_disks() {
	local name

	for name in nullb0 nullb1 nullb2 nullb3; do
		null_blk_create "$name" "$mib" || return
		head -c "${mib}M" /dev/urandom >"$work/fill"
		dd if="$work/fill" of="/dev/$name" bs=1M oflag=direct status=none || return
		rm "$work/fill"
	done
}

host_fio() {
	demo_jobs "$runtime" host=nullb0 >"$work/jobs.fio"
	timeout 200 fio --output-format=json --output="$results/host.$1.json" "$work/jobs.fio"
}

data_disk() {
	echo "if=none,id=$1,file=/dev/$2,format=raw,cache=none,aio=native"
}

start_guest() {
	# shellcheck disable=SC2054 # QEMU separates options by commas
	serial_number=root qemu_start demo "$root" -M q35 -smp 1 -m 512 \
		-kernel "$(echo "$VHOST_BLK_KERNEL"/boot/vmlinuz-*)" -initrd "$VHOST_BLK_GUEST/initrd" \
		-append "console=ttyS0 panic=-1 quiet mitigations=off root=serial:root rw guest=demo guest.runtime=$runtime guest.rounds=$rounds" \
		-object iothread,id=io0 \
		-drive "$(data_disk plain nullb1)" -device virtio-blk-pci,drive=plain,serial=plain \
		-drive "$(data_disk iothread nullb2)" -device virtio-blk-pci,drive=iothread,iothread=io0,serial=iothread \
		-drive "$(data_disk vhost nullb3)" -device "$DEVICE,drive=vhost,serial=vhost,id=disk1"
	# The exact command line, for whoever wants to repeat it by hand.
	tr '\0' ' ' <"/proc/$qemu/cmdline" >"$results/qemu-command"
	tail -n +1 -s 0.1 --pid="$qemu" -f "$serial" 2>/dev/null |
		sed -un 's/\r$//; s/^guest: stage /stage /p; s/^guest: FAIL /FAILED in the guest: /p; s/^guest: # /  /p' &
	pipe=$!
}

# The crc32c headers that the guest's job left, read by the host's own fio.
host_verifies() {
	fio --name=for-host --filename=/dev/nullb3 --ioengine=libaio --direct=1 --rw=randwrite --bs=4k \
		--iodepth=32 --offset=80m --size=16m --verify=crc32c --verify_only --verify_fatal=1
}

disk_sum_matches() {
	local sum

	sum=$(dd if=/dev/nullb3 bs=1M skip=80 count=16 iflag=direct status=none | sha256sum | cut -d' ' -f1)
	echo "sha256 of what the host reads is $sum, the guest said $(<"$results/disk.sha256")"
	[[ $sum == "$(<"$results/disk.sha256")" ]]
}

fetch_results() {
	mkdir -p "$work/mnt" && mount -t ext4 -o ro "$root" "$work/mnt" &&
		cp "$work"/mnt/results/* "$results/" && [[ -s $results/files.sha256 ]]
}

check_guest() {
	step "the root file system is not clean" "see $results/console.log; e2fsck -fn build/demo/root.img shows the same" \
		e2fsck -fn "$root"
	step "the guest left no results" "see $results/guest.log" fetch_results
	step "files differ from what the guest wrote" "a data corruption: keep build/demo/root.img and report it" \
		bash -c "cd '$work/mnt/payload' && sha256sum --quiet -c '$results/files.sha256'"
	step "umount of the guest's disk" "see $results/console.log" umount "$work/mnt"
	step "the data disk differs from what the guest read back" "a data corruption: report it" disk_sum_matches
	step "crc32c of what the guest wrote" "a data corruption: report it" host_verifies
}

leave() {
	cat "$work"/demo.serial "$work"/demo.err >"$results/guest.log" 2>/dev/null
	nested_exit
}

main() {
	local round image_advice="see $results/console.log, the test host's kernel log"

	nested_init
	trap leave EXIT
	step "no disks for the data" "$image_advice" make_disks
	for ((round = 1; round <= rounds; round++)); do
		stage "fio on the host itself, round $round of $rounds"
		step "fio on the host" "$image_advice" host_fio "$round"
	done
	stage "starting the guest with QEMU's vhost-blk-pci"
	start_guest
	step "QEMU does not start" "run tools/qemu/build-plugin.sh, then again" qmp_connect
	step "the guest does not boot" "see $results/guest.log" await '^guest: stage' 120
	step "the root disk is not served by the kernel" "see $results/guest.log" until_true 10 engine_is vhost
	step "the data disk is not served by the kernel" "see $results/guest.log" until_true 10 engine_is vhost disk1
	await '^guest: done' 500 >"$work/done.log" || { cat "$work/done.log"; fail "the guest does not end" "see $results/guest.log"; }
	stage "shutting the guest down"
	step "the guest does not switch off" "see $results/guest.log" qemu_wait 60
	wait "$pipe"
	grep -aq '^guest: done 0' "$serial" || fail "a check in the guest" "see $results/guest.log"
	step "requests are left in flight" "$image_advice" idle "$root"
	stage "checking the guest's file system and checksums on the host"
	check_guest
}

main; exit
