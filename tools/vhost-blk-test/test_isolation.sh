#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# TAP test: a guest of a QEMU that is kept small as management software does it: a
# user without rights, who gets /dev/vhost-blk open as vhostfd=, in the sandbox, in a
# control group. What the kernel does for its disk has to be charged to that group,
# and limited by it.
# Start with: tools/vhost-blk-test/vm/run.sh --nested -- $0
#
# check() calls the functions below; nested.sh sets what is not set here.
# shellcheck disable=SC2317,SC2154,SC2034,SC1091
set -uo pipefail

. "$(dirname "${BASH_SOURCE[0]}")/vm/shell.sh"

group=/sys/fs/cgroup/vm
user=65534
limit=$((1 << 20))	# bytes a second
seconds=4

group_create() {
	echo "+cpu +io" >/sys/fs/cgroup/cgroup.subtree_control && mkdir "$group"
}

# The user cannot get at what is below root's home.
make_accessible() {
	mkdir -p "$work/kernel" "$work/guest" &&
		mount --bind "$VHOST_BLK_KERNEL" "$work/kernel" && mount --bind "$VHOST_BLK_GUEST" "$work/guest" || return
	VHOST_BLK_KERNEL=$work/kernel VHOST_BLK_GUEST=$work/guest
	cp "$plugin" "$work/plugin.so" && plugin=$work/plugin.so
	chmod 755 "$work" "$work/plugin.so" && chmod 666 /dev/kvm && chown "$user" "$disk"
}

task_status() {
	awk -v name="$1:" '$1 == name { print $2 }' "/proc/$qemu/status"
}

runs_unprivileged() {
	echo "uid $(task_status Uid), capabilities $(task_status CapEff), seccomp $(task_status Seccomp)"
	[[ $(task_status Uid) -eq $user && $(task_status CapEff) =~ ^0+$ && $(task_status Seccomp) -eq 2 ]]
}

cannot_open_vhost() {
	! setpriv --reuid "$user" --regid "$user" --clear-groups dd if=/dev/vhost-blk count=0 2>/dev/null
}

# The thread that serves the disk: of the kernel before 6.4, else one of QEMU's.
find_worker() {
	local task

	for task in /proc/[0-9]*/task/[0-9]*; do
		[[ $(cat "$task/comm" 2>/dev/null) != "vhost-$qemu" ]] || { worker=$task; return; }
	done
	echo "there is no thread vhost-$qemu"
	return 1
}

worker_is_in_group() {
	echo "the group of ${worker#/proc/}: $(grep '^0:' "$worker/cgroup")"
	[[ $(grep '^0:' "$worker/cgroup") == 0::/vm ]]
}

# What the threads of QEMU's process have run for, and the worker, in microseconds.
run_times() {
	cat "/proc/$qemu"/task/*/schedstat | awk '{ ns += $1 } END { print int(ns / 1000) }'
	if [[ $worker == "/proc/$qemu/"* || ! $worker ]]; then
		echo 0
	else
		awk '{ print int($1 / 1000) }' "$worker/schedstat"
	fi
}

group_cpu() {
	awk '$1 == "usage_usec" { print $2 }' "$group/cpu.stat"
}

# group_io NAME: rbytes, wbytes, rios or wios on the disk
group_io() {
	awk -v dev="$disk_numbers" -v name="$1" '$1 == dev {
		for (i = 2; i <= NF; i++) { split($i, item, "="); if (item[1] == name) { n = item[2] } }
	} END { print n + 0 }' "$group/io.stat"
}

# guest_writes: sets written to the bytes that the guest wrote within some seconds
guest_writes() {
	local before

	before=$(group_io wbytes)
	written=$(guest_do 90 "read -r -a old </sys/block/$guest_disk/stat;
		fio --name=w --filename=/dev/$guest_disk --ioengine=libaio --direct=1 --rw=${1-write} --bs=64k --iodepth=16 \
			--size=64m --time_based --runtime=$seconds >/tmp/w || cat /tmp/w;
		read -r -a new </sys/block/$guest_disk/stat; echo \$(((new[6] - old[6]) * 512))" | tail -n 1)
	charged=$(($(group_io wbytes) - before))
	echo "in $seconds s the guest wrote $written bytes; its group was charged with $charged"
	[[ $written =~ ^[0-9]+$ ]] && ((written > 0))
}

io_is_charged() {
	guest_writes || return
	free=$written
	((charged >= written && charged <= written + written / 16))
}

# The group's time is that of its threads; without the worker's some would be missing.
cpu_is_charged() {
	local -a before after
	local group_before group_after qemu_us worker_us group_us

	mapfile -t before < <(run_times)
	group_before=$(group_cpu)
	guest_writes randwrite || return
	group_after=$(group_cpu)
	mapfile -t after < <(run_times)
	qemu_us=$((after[0] - before[0])) worker_us=$((after[1] - before[1]))
	group_us=$((group_after - group_before))
	echo "QEMU ran for $qemu_us us, the worker for $worker_us us; the group is charged with $group_us us"
	[[ $DEVICE != vhost-blk-pci || $worker == "/proc/$qemu/"* ]] || ((worker_us > 0)) || return
	# Half of the worker's time is more than what the two readings differ by.
	((group_us >= qemu_us + worker_us / 2 && group_us <= (qemu_us + worker_us) * 11 / 10))
}

io_is_limited() {
	local enough=$((limit * seconds / 2)) most=$((limit * (seconds + 2) * 5 / 4))

	echo "$disk_numbers wbps=$limit" >"$group/io.max" || return
	guest_writes
	echo "$disk_numbers wbps=max" >"$group/io.max"
	echo "expected between $enough and $most bytes; without a limit it was $free"
	((written >= enough && written <= most && free > most))
}

reads_are_limited() {
	local start bytes=$((12 << 20)) ms

	echo "$disk_numbers riops=64" >"$group/io.max" || return
	start=${EPOCHREALTIME/./}
	guest_do 60 "dd if=/dev/$guest_disk of=/dev/null bs=64k count=192 iflag=direct"
	ms=$(((${EPOCHREALTIME/./} - start) / 1000))
	echo "$disk_numbers riops=max" >"$group/io.max"
	echo "192 reads of 64 KiB at 64 a second took $ms ms for $bytes bytes"
	((ms >= 2500 && ms < 8000))
}

test_guest() {
	check "QEMU starts" qmp_connect && check "guest boots" await '^guest: shell' 90 || return
	check "QEMU has no rights and is in the sandbox" runs_unprivileged
	guest_disk=$(guest_do 60 "await_disk test 50" | tail -n 1)
	check "the kernel serves the disk" until_true 20 engine_is vhost || return
	worker=
	if [[ $DEVICE == vhost-blk-pci ]]; then
		check "the user cannot open /dev/vhost-blk" cannot_open_vhost
		check "a thread serves the disk" find_worker &&
			check "it is in QEMU's group" worker_is_in_group
	fi
	check "I/O is charged to the group" io_is_charged
	check "the worker's time is charged to the group" cpu_is_charged
	check "io.max limits bytes written" io_is_limited
	check "io.max limits reads" reads_are_limited
	check "without a limit it is fast again" guest_writes && echo "# $written bytes in $seconds s"
	check "verified load" guest_do 120 "load $guest_disk && await_requests $guest_disk 512 60 && load_stop $guest_disk"
	check "guest switches itself off, QEMU ends" guest_end
}

nested_init
echo "TAP version 13"
null_blk_create nullb0 64 || bail_out "no null_blk"
disk=$null_blk
disk_numbers=$(<"/sys/block/${disk#/dev/}/dev")
group_create || bail_out "no control groups"
make_accessible || bail_out "cannot make QEMU's files accessible"
qemu_user=$user
# shellcheck disable=SC2016 # for the other shell
qemu_prefix=(bash -c 'echo 0 >"$0/cgroup.procs" && exec "$@"' "$group"
	setpriv --reuid "$user" --regid "$user" --clear-groups --no-new-privs --bounding-set=-all)
options=''
if [[ $DEVICE == vhost-blk-pci ]]; then
	exec {vhost}<>/dev/vhost-blk
	options=,vhostfd=$vhost
fi
shell_start isolation -sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny \
	-blockdev "$(blockdev disk "$disk")" -device "$DEVICE,id=disk0,drive=disk,serial=test$options"
[[ ! $options ]] || exec {vhost}>&-
test_guest
qemu_kill
check "the disk opens exclusively" opens_exclusively "$disk"
[[ $DEVICE != vhost-blk-pci ]] || check "the module is unused" until_true 10 module_unused
check "nobody is left in the group" until_true 10 rmdir "$group"
umount "$work/kernel" "$work/guest"
echo "1..$tap_nr"
exit "$tap_failed"
