#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# TAP test: vhost-blk-pci is virtio-blk-pci to whoever looks at it. Properties and
# errors of both are compared, then in guests what they see of two disks on the same
# node, of both kinds; then what QEMU's monitor tells.
# Start with: tools/vhost-blk-test/vm/run.sh --nested -- $0 [SECTION...]
#   SECTION  a part of the test: monitor, "pairs pc" or "pairs q35"; default: all
#
# check() calls the functions below; nested.sh sets what is not set here.
# shellcheck disable=SC2317,SC2154,SC2054,SC2034,SC1091
set -uo pipefail

. "$(dirname "${BASH_SOURCE[0]}")/vm/shell.sh"

model=virtio-blk-pci

# Names of types that an error may have in it.
neutral() {
	sed -E 's/(vhost|virtio)-blk(-pci(-non-transitional|-transitional)?|-device)?/TYPE/g'
}

properties_of() {
	qmp_get '{"execute":"device-list-properties","arguments":{"typename":"'"$1"'"}}' 'sort_by(.name)[] | tojson'
}

# same_properties SUFFIX: name, type, default value and description
same_properties() {
	local own='"name":"(vhost|vhostfd|poll-us|engine|engine-changes|engine-reason)"'

	properties_of "$model$1" | neutral >"$work/model"
	properties_of "$DEVICE$1" | neutral >"$work/device"
	echo "$model$1 has $(wc -l <"$work/model"), $DEVICE$1 has $(wc -l <"$work/device")"
	[[ -s $work/model ]] || return
	diff "$work/model" <(grep -vE "$own" "$work/device") || return
	[[ $DEVICE == "$model" ]] || (($(grep -cE "$own" "$work/device") >= 5))
}

# As users see it.
same_help() {
	local type

	for type in "$model" "$DEVICE"; do
		qmp_get '{"execute":"human-monitor-command","arguments":{"command-line":"device_add '"$type"',help"}}' . |
			grep -E '^ +[a-z]' | neutral | sort >"$work/help.$type"
	done
	echo "$(wc -l <"$work/help.$model") lines"
	[[ -s $work/help.$model ]] && ! grep -vxFf "$work/help.$DEVICE" "$work/help.$model"
}

# add TYPE JSON: print the answer
add() {
	qmp '{"execute":"device_add","arguments":{"driver":"'"$1"'","id":"bad"'"${2:+,$2}"'}}'
}

# What there is of devices.
inventory() {
	local task

	qmp '{"execute":"qom-list","arguments":{"path":"/machine/peripheral"}}'
	qmp '{"execute":"human-monitor-command","arguments":{"command-line":"info qtree"}}'
	qmp '{"execute":"query-block"}'
	find "/proc/$qemu/fd" -type l -printf '%f %l\n' | sort
	for task in "/proc/$qemu/task"/*/comm; do
		task=$(<"$task")
		[[ $task == worker ]] || echo "$task"
	done
	[[ $DEVICE != vhost-blk-pci || ! -d /sys/module/vhost_blk ]] || cat /sys/module/vhost_blk/refcnt
}

baseline() {
	inventory >"$work/inventory"
}

nothing_is_left() {
	diff "$work/inventory" <(inventory)
}

# refused JSON TEXT: with that in the error, and with nothing left of it; QEMU frees some
# of it a moment later.
refused() {
	local answer

	answer=$(add "$DEVICE" "$1") && { echo "accepted: $1"; return 1; }
	echo "$answer"
	until_true 5 nothing_is_left && grep -qE "$2" <<<"$answer"
}

same_error() {
	local expected got

	refused "$1" error || return
	got=$(add "$DEVICE" "$1" | neutral)
	expected=$(add "$model" "$1" | neutral)
	echo "$model: $expected"
	[[ $got == "$expected" ]]
}

# One a line: properties that both refuse.
bad_input() {
	cat <<-'END'
	"drive":"disk","num-queues":"many"
	"drive":"disk","num-queues":-1
	"drive":"disk","num-queues":0
	"drive":"disk","num-queues":70000
	"drive":"disk","queue-size":3
	"drive":"disk","queue-size":100
	"drive":"disk","queue-size":2
	"drive":"disk","queue-size":2048
	"drive":"disk","queue-size":"long"

	"drive":"nowhere"
	"drive":5
	"drive":"disk","logical_block_size":1000
	"drive":"disk","logical_block_size":4096,"physical_block_size":512
	"drive":"disk","min_io_size":1
	"drive":"disk","discard_granularity":100
	"drive":"disk","max-discard-sectors":0
	"drive":"disk","write-cache":"maybe"
	"drive":"disk","share-rw":7
	"drive":"disk","rerror":"sometimes"
	"drive":"disk","werror":"sometimes"
	"drive":"disk","iothread":"nowhere"
	"drive":"disk","vectors":"some"
	"drive":"disk","addr":"99.9"
	"drive":"disk","bus":"nowhere"
	"drive":"disk","cyls":70000,"heads":1,"secs":1
	"drive":"disk","no-such-property":1
	"drive":"disk","scsi":true
	"drive":"below"
	END
}

test_bad_input() {
	local json

	baseline
	while read -r json; do
		[[ $json ]] || json='"serial":"without-a-drive"'
		check "refused as $model does: $json" same_error "$json"
	done < <(bad_input)
	qmp '{"execute":"device_add","arguments":{"driver":"'"$DEVICE"'","id":"first","drive":"disk"}}' >/dev/null
	baseline
	check "a second device on a writable node without share-rw is refused" same_error '"drive":"disk"'
	[[ $DEVICE == vhost-blk-pci ]] || return
	check "vhost=maybe" refused '"drive":"other","vhost":"maybe"' "does not accept value 'maybe'"
	check "a vhostfd that nobody has given" refused '"drive":"other","vhostfd":"nobody"' "'nobody' has not been found"
	check "a vhostfd that is closed" refused '"drive":"other","vhostfd":"77"' "not an open /dev/vhost-blk"
	check "a vhostfd that is something else" refused '"drive":"other","vhostfd":"'"$null"'"' \
		"not an open /dev/vhost-blk"
	check "a longer poll than the kernel has" refused '"drive":"other","poll-us":1001' "poll-us must be at most 1000"
	check "more queues than the kernel has" refused '"drive":"other","num-queues":17' "at most 16"
	check "after all this a good device is accepted, and polled for as long as it says" told_to_poll
}

# A kernel probe sees what vhost is told of each queue.
told_to_poll() {
	local dir=/sys/kernel/tracing event=events/kprobes/vt_ioctl told

	: >"$dir/trace"
	echo 'p:vt_ioctl vhost_vring_ioctl cmd=%si:u32 us=+u4(%dx):u32' >>"$dir/kprobe_events" || return
	# VHOST_SET_VRING_BUSYLOOP_TIMEOUT
	echo 'cmd == 0x4008af23' >"$dir/$event/filter"
	echo 1 >"$dir/$event/enable"
	add "$DEVICE" '"drive":"other","num-queues":3,"poll-us":77'
	echo 0 >"$dir/$event/enable"
	told=$(grep -c ' us=77$' "$dir/trace")
	echo '-:vt_ioctl' >>"$dir/kprobe_events"
	echo "told of $told queues"
	((told == 3))
}

# default_properties TYPE: JSON of all that have a default value, set to that. That of
# addr, "any", is not taken by any device.
default_properties() {
	qmp_get '{"execute":"device-list-properties","arguments":{"typename":"'"$1"'"}}' \
		'map(select(has("default-value")) | {(.name): .["default-value"]}) | add | del(.addr) | tojson' | sed 's/^{//; s/}$//'
}

# As management software names what it could leave out.
accepts_all() {
	local json id

	json=$(default_properties "$model")
	echo "$json"
	[[ $json ]] || return
	qmp '{"execute":"device_add","arguments":{"driver":"'"$model"'","id":"all1","drive":"all1",'"$json"'}}' &&
		qmp '{"execute":"device_add","arguments":{"driver":"'"$DEVICE"'","id":"all2","drive":"all2",'"$json"'}}'
}

warnings() {
	grep -c 'warning:.*vhost-blk' "${serial%.serial}.err"
}

# What auto does without a module: QEMU serves, and says so once.
one_warning() {
	local before

	before=$(warnings)
	qmp '{"execute":"device_add","arguments":{"driver":"'"$DEVICE"'","id":"nomod","drive":"nomod"}}' || return
	cat "${serial%.serial}.err"
	(($(warnings) == before + 1))
}

test_no_module() {
	[[ $DEVICE == vhost-blk-pci ]] || return
	check "the module is unloaded" rmmod vhost_blk || return
	baseline
	check "vhost=on is an error without it" refused '"drive":"nomod","vhost":"on"' "cannot open /dev/vhost-blk"
	check "vhost=auto is a warning" one_warning
	check "the module is loaded" insmod "$VHOST_BLK_MODULE"
}

# Without a guest: QEMU only makes devices.
test_monitor() {
	local name

	exec {null}<>/dev/null
	args=(-M pc -S -name dropin,debug-threads=on)
	for name in disk other all1 all2 nomod below; do
		args+=(-blockdev "$(blockdev "$name" "$disk" host_device '"locking":"off"')")
	done
	args+=(-blockdev '{"driver":"raw","node-name":"above","file":"below"}'
		-device virtio-scsi-pci -device scsi-hd,drive=above)
	qemu_run monitor "${args[@]}"
	exec {null}>&-
	check "QEMU starts" qmp_connect || return
	for name in '' -transitional -non-transitional; do
		check "$DEVICE$name has the properties of $model$name and its own" same_properties "$name"
	done
	check "its help has every line of $model's" same_help
	if properties_of "$DEVICE" | grep iothread-vq-mapping >/dev/null; then has_mapping=yes; fi
	test_no_module
	check "every property can be set to its default" accepts_all
	test_bad_input
	check "QEMU takes quit" qmp '{"execute":"quit"}'
	check "QEMU ends" qemu_wait 20
}

# pair NODE SUFFIX OPTIONS [BUS]: a disk of each kind on the same node; sets nr
pair() {
	local i type place

	nr=$((nr + 1))
	for i in 0 1; do
		type=$model
		((i == 0)) || type=$DEVICE
		place=addr=$(printf '%#x' "$((nr * 2 + 2 + i))")
		if [[ ${4-} ]]; then
			args+=(-device "pcie-root-port,id=port$nr-$i,chassis=$((nr * 2 + i)),$place")
			place=bus=port$nr-$i
		fi
		args+=(-device "$type$2,id=pair$nr-$i,drive=$1,serial=pair$nr-$i,share-rw=on,$place${3:+,$3}")
	done
	names[nr]="$1 $type$2 $3${4:+ behind a port}"
}

pairs_on_pc() {
	pair disk '' ''
	pair disk -transitional ''
	pair disk -non-transitional ''
	pair disk '' disable-modern=on
	pair big '' logical_block_size=4096,physical_block_size=4096
	pair readonly '' ''
	pair file '' physical_block_size=4096,min_io_size=4096,opt_io_size=65536,discard_granularity=4096
	pair disk '' write-cache=off,config-wce=off
	pair disk '' discard=off,write-zeroes=off
	pair disk '' num-queues=3,queue-size=64,vectors=2,seg-max-adjust=off
	pair disk '' disable-legacy=on,packed=on
	pair disk '' disable-legacy=on,iommu_platform=on
	pair disk '' "indirect_desc=off,event_idx=off,queue_reset=off,cyls=64,heads=16,secs=32,request-merging=off,\
max-discard-sectors=2048,max-write-zeroes-sectors=1024"
}

pairs_on_q35() {
	pair disk '' ''
	pair disk '' ats=on port
	pair disk -transitional '' port
	pair file -non-transitional num-queues=2,write-cache=on port
}

nodes() {
	args=(-blockdev "$(blockdev disk "$disk")" -blockdev "$(blockdev big "$big")"
		-blockdev "$(blockdev file "$image" file)"
		-blockdev "$(blockdev readonly "$disk" host_device '"locking":"off"' | sed 's/"cache"/"read-only":true,&/g')")
}

# virtio_status ID: but for what only one of the engines touches
virtio_status() {
	qmp_get '{"execute":"x-query-virtio-status","arguments":{"path":"/machine/peripheral/'"$1"'/virtio-backend"}}' \
		'{name, "device-id", "host-features", "guest-features", "num-vqs", status, "queue-sel",
		  "device-endian", "bus-name", broken, disabled, started} | tojson'
}

# config_bytes ID: the device's configuration, 60 bytes as the guest reads them from the
# fourth base address register
config_bytes() {
	local base

	base=$(qmp_get '{"execute":"query-pci"}' \
		"[.. | objects | select(.qdev_id? == \"$1\")][0].regions[] | select(.bar == 4) | .address")
	[[ $base =~ ^[0-9]+$ ]] || return 0
	qmp_get '{"execute":"human-monitor-command","arguments":{"command-line":"xp /60xb '$((base + 0x2000))'"}}' . |
		sed 's/^[^:]*://' | tr -d '\r\n'
	echo
}

# same_to_qemu PAIR: features offered and accepted, and the configuration
same_to_qemu() {
	local i

	for i in 0 1; do
		virtio_status "pair$1-$i" >"$work/pair$i"
		config_bytes "pair$1-$i" >>"$work/pair$i"
	done
	cat "$work/pair1"
	[[ -s $work/pair0 ]] && diff "$work/pair0" "$work/pair1"
}

# Since QEMU 9.0 each virtqueue may have an iothread of its own.
spread_over_iothreads() {
	args+=(-object iothread,id=one -object iothread,id=two -blockdev "$(blockdev spread "$spread")"
		-device '{"driver":"'"$DEVICE"'","id":"spread","drive":"spread","serial":"spread","num-queues":2,
			"iothread-vq-mapping":[{"iothread":"one"},{"iothread":"two"}]}')
}

# Linux' driver does not reset queues; a program of ours does.
with_queue_reset() {
	program_disk queue_reset
	args+=(-blockdev "$(blockdev reset "$spread")" "${program[@]}"
		-device "$DEVICE,id=reset,drive=reset,serial=reset,num-queues=2")
}

spread_throttle() {
	qmp '{"execute":"block_set_io_throttle","arguments":{"id":"/machine/peripheral/spread/virtio-backend",
		"bps":0,"bps_rd":0,"bps_wr":0,"iops":'"$1"',"iops_rd":0,"iops_wr":0}}'
}

# QEMU's engine in between, with both threads, and the kernel's before and after.
spread_is_served() {
	local name

	name=$(guest_do 30 "await_disk spread 20")
	guest_do 90 "load $name" && spread_throttle 100000 && until_true 20 engine_is qemu spread &&
		guest_do 60 "await_requests $name 256 50" && spread_throttle 0 &&
		until_true 20 engine_is vhost spread && guest_do 60 "await_requests $name 256 50 && load_stop $name"
}

# test_pairs MACHINE
test_pairs() {
	local i

	nr=0
	names=()
	nodes
	"pairs_on_$1"
	args+=(-object iothread,id=thread -blockdev "$(blockdev own "$own")" -blockdev "$(blockdev lone "$lone")"
		-device "$DEVICE,id=own,drive=own,serial=own,num-queues=2"
		-device "$DEVICE,id=lone,drive=lone,serial=lone,iothread=thread${no_vhost:+,$no_vhost}")
	[[ $1 != pc || ! $has_mapping ]] || spread_over_iothreads
	[[ $1 != q35 ]] || with_queue_reset
	machine=$1 shell_start "$1" -name "$1,debug-threads=on" "${args[@]}"
	check "$1: QEMU starts" qmp_connect && check "$1: guest boots" await '^guest: shell' 120 || return
	guest_do 20 ". /guest/describe.sh"
	for ((i = 1; i <= nr; i++)); do
		check "$1: the guest sees the same: ${names[i]}" guest_do 60 "same pair$i-0 pair$i-1"
		check "$1: QEMU tells the same: ${names[i]}" same_to_qemu "$i"
	done
	"more_on_$1"
	check "$1: guest switches itself off, QEMU ends" guest_end
}

# What runs in the thread, in microseconds.
thread_us() {
	local task

	task=$(qmp_get '{"execute":"query-iothreads"}' '.[0]."thread-id"')
	awk '{ print int($1 / 1000) }' "/proc/$qemu/task/$task/schedstat"
}

# thread_us_for DISK: how long the iothread runs for 512 requests of that disk; sets us
thread_us_for() {
	local before

	before=$(thread_us)
	guest_do 60 "dd if=/dev/$1 of=/dev/null bs=4k count=512 iflag=direct status=none" || return
	us=$(($(thread_us) - before))
	echo "the iothread ran for $us us during 512 requests"
}

thread_serves() {
	thread_us_for "$1" && ((us > 5120))
}

thread_rests() {
	[[ $DEVICE == vhost-blk-pci ]] || return 0
	thread_us_for "$1" && ((us < 2560))
}

more_on_pc() {
	local lone own

	lone=$(guest_do 30 "await_disk lone 20")
	own=$(guest_do 30 "await_disk own 20")
	check "the device is QEMU's where it has to be" engine_is qemu lone
	check "its iothread serves it" thread_serves "$lone"
	check "the other one is the kernel's" until_true 20 engine_is vhost own
	check "the iothread does not serve that" thread_rests "$own"
	[[ ! $has_mapping ]] || check "iothread-vq-mapping" spread_is_served
	[[ $DEVICE == vhost-blk-pci ]] || return 0
	check "stop and cont change the engine" changes_are_counted
}

changes_are_counted() {
	local before after

	before=$(property own engine-changes)
	qmp '{"execute":"stop"}' && engine_is off own && qmp '{"execute":"cont"}' && until_true 20 engine_is vhost own || return
	after=$(property own engine-changes)
	echo "the engine changed $before times before, $after times after"
	((after > before))
}

counters() {
	qmp_get '{"execute":"query-blockstats"}' '.[] | select(.qdev == "/machine/peripheral/own/virtio-backend") | .stats |
		[.rd_operations, .rd_bytes, .wr_operations, .wr_bytes, .flush_operations, .failed_rd_operations,
		 .failed_wr_operations, .invalid_rd_operations, .invalid_wr_operations] | join(" ")'
}

# Reads, writes and flushes of the guest's, and of QEMU's counters.
counters_grow_by() {
	local -a now
	local i sum=()

	read -r -a now < <(counters)
	for i in "${!now[@]}"; do sum+=($((now[i] - old[i]))); done
	echo "counted: ${sum[*]}, expected: $*"
	[[ ${sum[*]} == "$*" ]]
}

# 48 reads of 8 KiB, 32 writes of 4 KiB, 4 flushes at their end
counters_are_true() {
	local name

	name=$(guest_do 30 "await_disk own 20")
	read -r -a old < <(counters)
	guest_do 60 "dd if=/dev/$name of=/dev/null bs=8k count=48 iflag=direct status=none &&
		for i in 0 1 2 3; do
			dd if=/dev/zero of=/dev/$name bs=4k count=8 oflag=direct conv=fsync status=none || break;
		done" || return
	until_true 5 counters_grow_by 48 $((48 * 8192)) 32 $((32 * 4096)) 4 0 0 0 0
}

times_are_told() {
	local ns

	ns=$(blockstat own '"rd_total_time_ns"')
	echo "reads took $ns ns in all"
	[[ $ns =~ ^[0-9]+$ ]] && ((ns > 0))
}

query_block_is_same() {
	local i

	for i in 0 1; do
		qmp_get '{"execute":"query-block"}' ".[] | select(.qdev == \"/machine/peripheral/pair1-$i/virtio-backend\") |
			del(.qdev) | tojson" >"$work/block$i"
	done
	cat "$work/block1"
	[[ -s $work/block0 ]] && diff "$work/block0" "$work/block1"
}

# tree ID: the device in info qtree, without where it is
tree() {
	qmp_get '{"execute":"human-monitor-command","arguments":{"command-line":"info qtree"}}' . | tr -d '\r' |
		awk -v id="id \"$1\"" '/^ *dev: / { show = index($0, id) || (show && /virtio-backend|dev: (virtio-blk-device|vhost-blk),/) } show' |
		grep -vE 'addr|bar |serial|vhost = |vhostfd = |poll-us = |^ *bus: |id "' | neutral | sort
}

info_qtree_is_same() {
	tree pair1-0 >"$work/tree0"
	tree pair1-1 >"$work/tree1"
	wc -l "$work/tree0"
	[[ -s $work/tree0 ]] && diff "$work/tree0" "$work/tree1"
}

# virtio ID COMMAND [QUEUE]: of the x-query-virtio family
virtio() {
	qmp '{"execute":"'"$2"'","arguments":{"path":"/machine/peripheral/'"$1"'/virtio-backend"'"${3+,\"queue\":$3}"'}}'
}

listed() {
	qmp_get '{"execute":"x-query-virtio"}' '.[] | .name + " " + .path' >"$work/list"
	cat "$work/list"
	[[ $(grep -F /own/ "$work/list" | cut -d' ' -f1) == "$(grep -F /pair1-0/ "$work/list" | cut -d' ' -f1)" ]]
}

# Of a queue that the kernel serves. (QEMU 7.2 gives 0 as the index of any such queue.)
queue_status() {
	local told models

	models=$(virtio pair1-0 x-query-virtio-queue-status 0 | tail -n 1)
	told=$(virtio own x-query-virtio-queue-status 0 | tail -n 1)
	echo "$models $told"
	jq -e --argjson model "$models" '.return | .inuse == 0 and has("last-avail-idx") and
		.["vring-num"] > 0 and .["vring-num"] == $model.return["vring-num"]' <<<"$told"
}

vhost_status() {
	virtio own x-query-virtio-vhost-queue-status 1 && virtio own x-query-virtio-status |
		grep '^{"return"' | jq -e '.return | .["vhost-started"] and .["vhost-dev"] != null'
}

# A driver that resets single queues, each time handed back and taken over again.
reset_io() {
	until_true 20 engine_is vhost reset && guest_do 60 "queue_reset io 0 && queue_reset io 1"
}

# The other queue goes on, and is the kernel's.
one_queue_is_reset() {
	guest_do 30 "queue_reset reset 0" && until_true 20 engine_is vhost reset &&
		guest_do 60 "queue_reset io 1"
}

# All goes on with that number of changes of the engine, two for a reset or an enabled queue.
changes_grow_by() {
	local before

	before=$(property reset engine-changes)
	"${@:2}" || return
	[[ $DEVICE == vhost-blk-pci ]] || return 0
	echo "engine-changes: $before before, $(property reset engine-changes) after, at least $1 expected"
	(($(property reset engine-changes) - before >= $1))
}

test_queue_reset() {
	check "queue reset: a driver in user space starts" guest_do 60 \
		". /guest/queue_reset.sh && queue_reset_start reset" || return
	check "queue reset: the kernel serves both queues" reset_io
	check "queue reset: queue 0 is gone, queue 1 goes on" changes_grow_by 2 one_queue_is_reset
	check "queue reset: queue 0 is enabled elsewhere" guest_do 30 "queue_reset enable 0"
	check "queue reset: the kernel serves both queues" reset_io
	check "queue reset: 50 times under load, nothing is written to a queue that is gone" changes_grow_by 50 \
		guest_do 110 "queue_reset turns 50"
	check "queue reset: the kernel serves both queues" reset_io
	check "queue reset: the driver ends" guest_do 30 "queue_reset end"
}

more_on_q35() {
	check "the kernel serves the disk" until_true 20 engine_is vhost own
	check "query-blockstats has what the guest did" counters_are_true
	check "and the time it took" times_are_told
	check "query-block tells the same" query_block_is_same
	check "info qtree tells the same" info_qtree_is_same
	check "x-query-virtio lists it" listed
	check "x-query-virtio-queue-status" queue_status
	[[ $DEVICE != vhost-blk-pci ]] || check "x-query-virtio-status of vhost" vhost_status
	check "the kernel serves the disk after all that" until_true 20 engine_is vhost own
	test_queue_reset
}

disks() {
	local dir=$work/image.d

	image=$dir/image
	null_blk_create nullb0 64 discard=1 || return
	disk=$null_blk
	null_blk_create nullb1 64 blocksize=4096 || return
	big=$null_blk
	null_blk_create nullb2 64 || return
	own=$null_blk
	null_blk_create nullb3 64 || return
	lone=$null_blk
	null_blk_create nullb5 64 || return
	spread=$null_blk
	null_blk_create nullb4 64 discard=1 || return
	mkdir "$dir"
	mke2fs -q -F -t ext4 -b 4096 -E nodiscard,lazy_itable_init=1 "$null_blk" &&
		mount -o noinit_itable "$null_blk" "$dir" && truncate -s 32M "$image"
}

nested_init
echo "TAP version 13"
no_vhost='' has_mapping=''
[[ $DEVICE != vhost-blk-pci ]] || no_vhost=vhost=off
names=()
disks || bail_out "no disks"
program_build queue_reset || bail_out "queue_reset.c does not compile"
sections=("$@")
((${#sections[@]})) || sections=(monitor "pairs pc" "pairs q35")
for section in "${sections[@]}"; do
	# shellcheck disable=SC2086 # with its argument
	test_$section
	qemu_kill
done
umount "$work/image.d"
check "nobody has the disks open" opens_exclusively "$disk"
echo "1..$tap_nr"
exit "$tap_failed"
