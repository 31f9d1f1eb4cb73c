#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# The part of bench-guest.sh that runs where the guests run: in the test host
# (run.sh --nested), or on the machine itself. Guests with a disk of each back end, all
# of which take turns, and the host's own fio with them. Results go to RESULT-DIRECTORY:
#   rows      vcpus disks bytes depth round backend requests/s latency/us p99/us
#   commands  the command lines of QEMU and qemu-storage-daemon, and fio's jobs
#   kernel    of the host
#
# usage: guest-host.sh RESULT-DIRECTORY
# What to measure is in the environment: see bench-guest.sh.
#
# nested.sh sets what is not set here, and uses what is; traps call functions.
# shellcheck disable=SC2154,SC1091,SC2317,SC2034
set -uo pipefail

. "$(dirname "${BASH_SOURCE[0]}")/../vm/shell.sh"
. "$top/tools/vhost-blk-test/guest/bench.sh"
. "$top/tools/vhost-blk-test/bench/storage.sh"

results=$1
read -r -a bytes_list <<<"$BYTES"
read -r -a depth_list <<<"$DEPTHS"
read -r -a disks_list <<<"$DISKS"
read -r -a vcpus_list <<<"$VCPUS"
lio=/sys/kernel/config/target
disk_names=()
declare -A slot=([virtio-blk]=10 [iothread]=11 [iothread-vq-mapping]=12 [vhost-user-blk]=13
	[vhost-scsi]=14 [vhost-blk]=15 [vhost-blk-poll]=16)

fail() {
	echo "FAILED: $*"
	exit 1
}

# Those that this host and this QEMU have.
find_backends() {
	backends=(virtio-blk iothread)
	# Not grep -q: what it leaves unread would end QEMU by a signal.
	if "$QEMU" -device virtio-blk-pci,help | grep iothread-vq-mapping >/dev/null; then
		backends+=(iothread-vq-mapping)
	else
		echo "no iothread-vq-mapping: this QEMU's virtio-blk-pci does not have it"
	fi
	backends+=(vhost-user-blk)
	if modprobe -q vhost_scsi && modprobe -q target_core_iblock && mkdir -p "$lio/vhost"; then
		backends+=(vhost-scsi)
	else
		echo "no vhost-scsi: this kernel does not have vhost_scsi and target_core_iblock"
	fi
	backends+=(vhost-blk vhost-blk-poll)
}

# Disks of 1 GiB without memory behind them: what is measured is the way to them.
make_disks() {
	local name

	for name; do
		null_blk_create "bench-$name" 1024 memory_backed=0 irqmode=0 || return
		disk_names+=("bench-$name")
		echo none >"/sys/block/${null_blk#/dev/}/queue/scheduler"
		disk_of[$name]=$null_blk
	done
}

wwn_of() {
	printf 'naa.5001405000000%03d' "$1"
}

# LIO: a target, and so a worker of vhost_scsi, for each disk
target_create() {
	local wwn core=$lio/core/iblock_0/bench$1 tpg

	wwn=$(wwn_of "$1")
	tpg=$lio/vhost/$wwn/tpgt_1
	mkdir -p "$core" "$tpg/lun/lun_0" &&
		echo "udev_path=$2" >"$core/control" && echo 1 >"$core/enable" &&
		echo "$wwn" >"$tpg/nexus" && ln -s "$core" "$tpg/lun/lun_0/bench"
}

target_remove() {
	local dir

	for dir in "$lio"/vhost/naa.5001405000000*; do
		[[ -d $dir ]] || continue
		rm -f "$dir"/tpgt_1/lun/lun_0/bench
		echo NULL >"$dir/tpgt_1/nexus"
		rmdir "$dir/tpgt_1/lun/lun_0" "$dir/tpgt_1" "$dir"
	done
	for dir in "$lio"/core/iblock_0/bench*; do
		[[ ! -d $dir ]] || rmdir "$dir"
	done
}

# command_line PID: of a program that has answered, so that it is no more a copy of us
command_line() {
	{ tr '\0' ' ' <"/proc/$1/cmdline"; echo; } | tee -a "$results/commands"
}

# device BACKEND NUMBER DISK VCPUS: adds the QEMU arguments for it to args
device() {
	local id=$1-$2 at="multifunction=on,addr=0x${slot[$1]}.$2" i map=
	local drive="if=none,id=$id,file=$3,format=raw,cache=none,aio=native"

	case $1 in
	virtio-blk) args+=(-drive "$drive" -device "virtio-blk-pci,drive=$id,$at") ;;
	iothread)
		args+=(-object "iothread,id=io$2" -drive "$drive"
			-device "virtio-blk-pci,drive=$id,iothread=io$2,$at")
		;;
	iothread-vq-mapping)
		for ((i = 0; i < $4; i++)); do
			args+=(-object "iothread,id=map$2.$i")
			map+="${map:+,}{\"iothread\":\"map$2.$i\"}"
		done
		args+=(-drive "$drive" -device "{\"driver\":\"virtio-blk-pci\",\"drive\":\"$id\",\
\"iothread-vq-mapping\":[$map],\"multifunction\":true,\"addr\":\"0x${slot[$1]}.$2\"}")
		;;
	vhost-user-blk)
		args+=(-chardev "socket,id=$id,path=$work/user$2"
			-device "vhost-user-blk-pci,chardev=$id,num-queues=$4,$at")
		;;
	vhost-scsi) args+=(-device "vhost-scsi-pci,wwpn=$(wwn_of "$2"),num_queues=$4,$at") ;;
	vhost-blk) args+=(-drive "$drive" -device "vhost-blk-pci,drive=$id,id=$id,$at") ;;
	# For as long as an iothread, by default.
	vhost-blk-poll) args+=(-drive "$drive" -device "vhost-blk-pci,poll-us=32,drive=$id,id=$id,$at") ;;
	esac
}

# guest_up VCPUS DISKS: sets items to what bench() takes, a word for each back end
guest_up() {
	local backend i args=() addresses=() names user=() disks

	for ((i = 0; i < $2; i++)); do user+=("${disk_of[vhost-user-blk$i]}"); done
	storage_start native "$1" "${user[@]}" || fail "qemu-storage-daemon does not start"
	command_line "$storage"
	# vhost-user has to share the guest's memory, so all of them do.
	args=(-object "memory-backend-memfd,id=memory,size=256M,share=on")
	for backend in "${backends[@]}"; do
		for ((i = 0; i < $2; i++)); do
			device "$backend" "$i" "${disk_of[$backend$i]}" "$1"
			addresses+=("${slot[$backend]}.$i")
		done
	done
	machine=pc,memory-backend=memory guest_cpus=$1 guest_parameters=(scsi)
	shell_start guest "${args[@]}"
	qmp_connect >"$work/step" || { cat "$work/step"; fail "QEMU does not start"; }
	command_line "$qemu"
	await '^guest: shell' 180 || fail "the guest does not boot"
	guest_do 60 ". /guest/bench.sh; bench_disks 30 ${addresses[*]}" >"$work/names" ||
		{ cat "$work/names"; fail "disks are missing in the guest"; }
	mapfile -t names <"$work/names"
	items=()
	for backend in "${backends[@]}"; do
		disks=$(printf '%s,' "${names[@]:0:$2}")
		items+=("$backend=${disks%,}")
		names=("${names[@]:$2}")
	done
	engines_are_vhost "$2"
}

engines_are_vhost() {
	local i id

	for ((i = 0; i < $1; i++)); do
		for id in "vhost-blk-$i" "vhost-blk-poll-$i"; do
			until_true 10 engine_is vhost "$id" || fail "the kernel does not serve $id"
		done
	done
}

guest_down() {
	guest_end >"$work/step" || { cat "$work/step"; fail "the guest does not switch off"; }
	storage_stop
}

# one_case VCPUS DISKS BYTES DEPTH ROUND: the host and, beginning with another one each
# round, all back ends
one_case() {
	local i host='' turned=() shift=$(($5 % ${#items[@]})) deadline

	for ((i = 0; i < $2; i++)); do host+=",${disk_of[host$i]#/dev/}"; done
	for i in "${items[@]:shift}" "${items[@]:0:shift}"; do
		# As many of the disks that this guest has.
		turned+=("${i%%=*}=$(cut -d, -f "1-$2" <<<"${i#*=}")")
	done
	bench "$RUNTIME" "$3" "$4" "host=${host#,}" >"$work/rows" || { cat "$work/rows"; fail "fio on the host"; }
	[[ -s $results/fio ]] || cp /tmp/bench.fio "$results/fio"
	deadline=$((120 + ${#turned[@]} * (RUNTIME + 6)))
	guest_do "$deadline" "bench $RUNTIME $3 $4 ${turned[*]}" >>"$work/rows" ||
		{ cat "$work/rows"; fail "fio in the guest"; }
	(($(wc -l <"$work/rows") == ${#turned[@]} + 1)) || { cat "$work/rows"; fail "a result is missing"; }
	sed "s/^/$1 $2 $3 $4 $5 /" "$work/rows" >>"$results/rows"
	echo "case vCPUs $1, disks $2, $3 bytes, $4 in flight, round $5: $(sort "$work/rows" |
		awk '{ printf "%s%s %s", (NR > 1 ? ", " : ""), $1, $2 }')"
}

# guest_rounds VCPUS DISKS CASE...: a case is DISKS:BYTES:DEPTH
guest_rounds() {
	local round item disks bytes depth

	echo "stage starting a guest: vCPUs $1, disks of each back end $2"
	guest_up "$1" "$2"
	for ((round = 1; round <= ROUNDS; round++)); do
		for item in "${@:3}"; do
			IFS=: read -r disks bytes depth <<<"$item"
			one_case "$1" "$disks" "$bytes" "$depth" "$round"
		done
	done
	engines_are_vhost "$2"
	guest_down
}

leave() {
	local name

	tail -n 20 "$work"/guest.{serial,err} "$work/storage.err" >"$results/last-words" 2>/dev/null
	qemu_kill
	storage_stop
	target_remove
	for name in "${disk_names[@]}"; do null_blk_remove "$name"; done
	nested_exit
}

main() {
	local i backend vcpus cases=() most=${disks_list[-1]}
	declare -gA disk_of=()

	nested_init
	trap leave EXIT
	uname -srv >"$results/kernel"
	find_backends
	for backend in host "${backends[@]}"; do
		for ((i = 0; i < most; i++)); do
			make_disks "$backend$i" >"$work/step" 2>&1 || { cat "$work/step"; fail "no disk $backend$i"; }
		done
	done
	[[ " ${backends[*]} " != *" vhost-scsi "* ]] ||
		for ((i = 0; i < most; i++)); do
			target_create "$i" "${disk_of[vhost-scsi$i]}" || fail "no LIO target"
		done

	for depth in "${depth_list[@]}"; do
		for bytes in "${bytes_list[@]}"; do cases+=("1:$bytes:$depth"); done
	done
	guest_rounds "${vcpus_list[0]}" 1 "${cases[@]}"
	for vcpus in "${vcpus_list[@]:1}"; do
		guest_rounds "$vcpus" 1 "${depth_list[@]/#/1:4096:}"
	done
	cases=()
	# One disk has been measured, in a guest that has no more.
	for i in "${disks_list[@]}"; do
		((i == 1)) || cases+=("$i:4096:${depth_list[-1]}")
	done
	((${#cases[@]} == 0)) || guest_rounds "${vcpus_list[-1]}" "$most" "${cases[@]}"
}

main; exit
