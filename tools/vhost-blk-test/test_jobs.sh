#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# TAP test: block jobs, snapshots, throttling, dirty bitmaps and changes of the graph
# on a running disk. The guest writes and verifies all the while; QEMU's engine serves
# while it is needed, the kernel's again afterwards, and copies are compared byte by byte.
# Start with: tools/vhost-blk-test/vm/run.sh --nested -- $0 [TURNS] [SECTION...]
#   TURNS    how often to go from the kernel to QEMU and back at the end (20 * VT_LOOPS)
#   SECTION  a part of the test, such as "mirror"; default: all
# DEVICE=virtio-blk-pci runs the same without the module.
#
# check() calls the functions below; blockdev.sh sets what is not set here.
# shellcheck disable=SC2317,SC2154,SC1091
set -uo pipefail

. "$(dirname "${BASH_SOURCE[0]}")/vm/blockdev.sh"

turns=${1-$((20 * ${VT_LOOPS-1}))}
mib=8		# of each disk

# ---- mirror ----

# mirror_start NODE TARGET MODE: a job that converges, also while the guest writes
mirror_start() {
	job_start blockdev-mirror device="$1" target="$2" sync=full copy-mode="$3"
}

# Both disks hold the same when the job is told to end at a time without writes.
mirror_cancelled() {
	scribe pause && job_is job ready && qmp_do block-job-cancel device=job && job_ends job 30 &&
		same "$disk_a" "$disk_b"
}

test_mirror_cancel() {
	check "mirror: target" node_add spare "$disk_b"
	check "mirror: job starts" mirror_start main spare write-blocking
	check "mirror: QEMU serves" served_by qemu
	check "mirror: converges under load" job_ready job 60
	check "mirror: guest writes on" moves
	check "mirror: cancelled when ready, it left an identical copy" mirror_cancelled
	check "mirror: the kernel serves again" served_by vhost
	check "mirror: guest writes on" scribe run 0
	check "mirror: half-made copy is cancelled" mirror_force_cancelled
	check "mirror: the kernel serves again" served_by vhost
	check "mirror: no write is lost" disk_is_the_guests "$disk_a"
	check "mirror: target goes" node_del spare
}

mirror_force_cancelled() {
	mirror_start main spare background && qmp_do block-job-cancel device=job force=true || return
	until_true 30 job_is job concluded && grep -qi cancel "$work/job" &&
		qmp_do job-dismiss id=job && moves
}

# pivot NODE TARGET MODE USEC: the guest's disk is TARGET afterwards. USEC slows
# it down until then: a copy in the background does not converge else.
pivot() {
	scribe run "$4" && mirror_start "$1" "$2" "$3" && job_ready job 90 &&
		served_by qemu && qmp_do block-job-complete device=job && job_ends job 30 && scribe run 0
}

# pivot_raw NAME NODE TARGET FILE MODE USEC: to a plain one
pivot_raw() {
	check "$1: pivots to it under load, $5" pivot "$2" "$3" "$5" "$6"
	check "$1: the kernel serves it" served_by vhost
	check "$1: guest writes on" moves
	check "$1: no write is lost" disk_is_the_guests "$4"
}

test_mirror_pivot() {
	scribe run 0 >/dev/null
	check "pivot: target" node_add spare "$disk_b"
	pivot_raw "pivot" main spare "$disk_b" background 2000
	check "pivot: nobody uses the old disk" pivot_left "$disk_a" main
	check "pivot back: target" node_add main "$disk_a"
	pivot_raw "pivot back" spare main "$disk_a" write-blocking 0
	check "pivot back: nobody uses the old disk" pivot_left "$disk_b" spare
}

# A write to the old disk would be a lost one, even if a reader found it there.
pivot_left() {
	local before

	before=$(contents "$1" | sha256sum)
	scribe run 0 && moves && node_del "$2" && opens_exclusively "$1" &&
		[[ $(contents "$1" | sha256sum) == "$before" ]]
}

# ---- backup ----

# Two copies made at the same time are copies of the same moment.
backups_of_one_moment() {
	local action='{"type":"blockdev-backup","data":{"device":"main","sync":"full","auto-dismiss":false'

	changes_get || return
	local first=$changes
	qmp_do transaction actions="[$action,\"job-id\":\"one\",\"target\":\"one\"}},
		$action,\"job-id\":\"two\",\"target\":\"two\"}}]" &&
		moves && job_ends one 60 && job_ends two 60 && same "$work/one" "$work/two" &&
		changes_reach $((first + 2))
}

# A copy of the moment it started at, however much is written meanwhile.
backup_of_the_past() {
	scribe pause && contents "$disk_a" >"$work/before" &&
		job_start blockdev-backup device=main target=one sync=full && scribe run 0 && moves &&
		job_ends job 60 && same "$work/before" "$work/one" || return
	scribe pause && ! same "$disk_a" "$work/one" && scribe run 0
}

test_backup() {
	scribe run 0 >/dev/null
	check "backup: targets" copy_add one && check "backup: targets" copy_add two
	check "backup: two of one moment under load are identical" backups_of_one_moment
	check "backup: the kernel serves again" served_by vhost
	check "backup: what the disk was when it started" backup_of_the_past
	check "backup: the kernel serves again" served_by vhost
	check "backup: no write is lost" disk_is_the_guests "$disk_a"
	check "backup: targets go" node_del one
	check "backup: targets go" node_del two
}

# ---- dirty bitmaps ----

bitmap() {
	qmp_do "block-dirty-bitmap-$1" node=main name=bitmap "${@:2}"
}

# What the bitmap names makes an old copy, "one", a copy of the disk as it is now.
incremental_fits() {
	scribe pause && job_start blockdev-backup device=main target=one sync=incremental bitmap=bitmap &&
		job_ends job 60 && same "$disk_a" "$work/one"
}

# What comes right after the bitmap. It takes the rings from the kernel before QEMU
# would have looked for a bitmap.
bitmap_then() {
	case $1 in
	nothing) ;;
	stop) qmp_do stop && qmp_do cont ;;
	# Its filter is the top node then.
	job) job_start blockdev-backup device=main target=two sync=none &&
		qmp_do block-job-cancel device=job &&
		until_true 30 job_is job concluded && qmp_do job-dismiss id=job ;;
	esac
}

# The bitmap comes while the kernel serves, and QEMU looks for one only now and then:
# the guest writes at once.
bitmap_misses_nothing() {
	scribe pause && served_by vhost && contents "$disk_a" >"$work/one" &&
		bitmap add granularity=65536 && scribe run 0 && bitmap_then "$1" || return
	served_by qemu && moves && incremental_fits && bitmap remove && served_by vhost
}

bitmap_with_backup() {
	qmp_do transaction actions='[
		{"type":"block-dirty-bitmap-add","data":{"node":"main","name":"bitmap"}},
		{"type":"blockdev-backup","data":{"device":"main","sync":"full","target":"one",
			"job-id":"job","auto-dismiss":false}}]' &&
		job_ends job 60 && moves && incremental_fits && bitmap remove && served_by vhost
}

test_bitmap() {
	scribe run 0 >/dev/null
	check "bitmap: target" copy_add one
	check "bitmap: target of a job" copy_add two
	check "bitmap: added while the kernel serves, misses no write" bitmap_misses_nothing nothing
	check "bitmap: added just before a stop, misses no write" bitmap_misses_nothing stop
	check "bitmap: added just before a job, misses no write" bitmap_misses_nothing job
	check "bitmap: guest writes on" scribe run 0
	check "bitmap: full copy and incremental one make the disk" bitmap_with_backup
	check "bitmap: a persistent one is refused on raw" refused 'persistent|store' bitmap add persistent=true
	check "bitmap: no write is lost" disk_is_the_guests "$disk_a"
	check "bitmap: target goes" node_del one
	check "bitmap: target goes" node_del two
}

# ---- snapshot, commit, stream, and what a qcow2 disk can do ----

# snapshot_take OVERLAY: under load; the disk below does not change from now on
snapshot_take() {
	local before

	qcow2_create "$1" && served_by vhost && qmp_do blockdev-snapshot node=main overlay="$1" &&
		served_by qemu || return
	before=$(contents "$disk_a" | sha256sum)
	moves && [[ $(contents "$disk_a" | sha256sum) == "$before" ]]
}

commit_active() {
	scribe run "$2" && job_start block-commit device="$1" && job_ready job 90 && moves &&
		qmp_do block-job-complete device=job && job_ends job 30 && scribe run 0
}

test_commit() {
	scribe run 0 >/dev/null
	check "commit: snapshot under load" snapshot_take over
	check "commit: of the active layer under load" commit_active over 2000
	check "commit: the kernel serves again" served_by vhost
	check "commit: no write is lost" disk_is_the_guests "$disk_a"
	check "commit: overlay goes" qcow2_del over
}

stream() {
	job_start block-stream device="$1" && moves && job_ends job 60 && engine_is qemu &&
		[[ $(qmp_get '{"execute":"query-named-block-nodes"}' \
			".[] | select(.[\"node-name\"] == \"$1\") | .image.\"backing-filename\" // \"none\"") == none ]]
}

# The guest goes back to what it was, disk and memory, and so finds all it wrote.
savevm_loadvm() {
	scribe run 0 && hmp "savevm then" && moves && hmp "loadvm then" && moves && scribe check &&
		scribe run 0 && hmp "delvm then"
}

bitmap_persists() {
	contents_of_qcow2 && qmp_do block-dirty-bitmap-add node=over name=bitmap persistent=true &&
		scribe run 0 && moves || return
	scribe pause && job_start blockdev-backup device=over target=one sync=incremental bitmap=bitmap &&
		job_ends job 60 && job_start blockdev-backup device=over target=two sync=full && job_ends job 60 &&
		same "$work/two" "$work/one" && scribe run 0
}

# "one" becomes a copy of the paused qcow2 disk.
contents_of_qcow2() {
	scribe pause && copy_add one && copy_add two &&
		job_start blockdev-backup device=over target=one sync=full && job_ends job 60
}

savevm_refused_on_raw() {
	served_by vhost && refused 'does not support|snapshots' hmp "savevm then" && served_by vhost && moves
}

test_qcow2() {
	scribe run 0 >/dev/null
	check "savevm: a clear error on raw, the kernel serves on" savevm_refused_on_raw
	check "stream: snapshot under load" snapshot_take over
	check "stream: overlay gets independent under load" stream over
	check "stream: nobody uses the old disk" node_del main
	check "qcow2: guest verifies what QEMU serves" scribe check
	check "qcow2: savevm and loadvm under load" savevm_loadvm
	check "qcow2: persistent bitmap misses no write" bitmap_persists
	check "qcow2: copies go" node_del one
	check "qcow2: copies go" node_del two
	check "qcow2 to raw: target" node_add main "$disk_a"
	pivot_raw "qcow2 to raw" over main "$disk_a" write-blocking 0
	check "qcow2: node goes" qcow2_del over
	scribe run 0 >/dev/null
}

# ---- throttling ----

throttle_set() {
	qmp_do block_set_io_throttle id="$backend_path" bps=0 bps_rd=0 bps_wr=0 \
		iops="$1" iops_rd=0 iops_wr=0 group=limit
}

# limited_to IOPS: by what the guest completes within 3 s, after the burst
limited_to() {
	local before after

	before=$(written) || return
	# Not a wait for something: the time in which no more may happen.
	sleep 3
	after=$(written) || return
	echo "$((after - before)) requests in 3 s and some, $1 a second are allowed"
	((after - before > $1 / 2 && after - before < $1 * 5))
}

throttled() {
	throttle_set 50 && served_by qemu && limited_to 50 && throttle_set 0 && served_by vhost && moves
}

throttle_node() {
	qmp_do object-add qom-type=throttle-group id=group limits='{"iops-total":50}' &&
		qmp_do blockdev-add driver=throttle node-name=slow throttle-group=group file=main &&
		root_set slow && served_by qemu && limited_to 50 &&
		root_set main && served_by vhost && node_del slow && qmp_do object-del id=group && moves
}

test_throttle() {
	scribe run 0 >/dev/null
	check "throttle: on in a group and off" throttled
	check "throttle: a node in and out" throttle_node
	check "throttle: no write is lost" disk_is_the_guests "$disk_a"
}

# ---- reopen, changes of the graph ----

# reopen DETECT-ZEROES [DISCARD]: the top node, with those options
reopen() {
	qmp_do blockdev-reopen options='[{"driver":"raw","node-name":"main","cache":{"direct":true},
		"discard":"'"${2-unmap}"'","detect-zeroes":"'"$1"'","file":"'"$file_node"'"}]'
}

reopen_often() {
	local i

	for ((i = 0; i < 10; i++)); do
		reopen on && served_by qemu && reopen off && served_by vhost || return
	done
	moves
}

# The kernel can serve it before and after.
reopen_plain() {
	local i

	for ((i = 0; i < 10; i++)); do
		reopen off ignore && served_by vhost && reopen off unmap && served_by vhost || return
	done
	moves
}

test_reopen() {
	scribe run 0 >/dev/null
	file_node=$(qmp_get '{"execute":"query-named-block-nodes"}' \
		".[] | select(.file == \"$disk_a\" and .drv == \"host_device\") | .[\"node-name\"]")
	check "reopen: 20 times, with an option that needs QEMU and without" reopen_often
	check "reopen: 20 times, with options that the kernel knows" reopen_plain
	check "reopen: no write is lost" disk_is_the_guests "$disk_a"
}

# A quorum lets nobody else write to its children, so only a pivot leads to one.
quorum_starts() {
	node_add spare "$disk_b" &&
		qmp_do blockdev-add driver=quorum node-name=quorum vote-threshold=1 read-pattern=fifo \
			children='["spare"]' &&
		pivot main quorum write-blocking 0 && served_by qemu && node_del main
}

# Another child gets all writes from the moment on that it comes.
quorum_grows() {
	scribe pause &&
		contents "$disk_b" | dd of="$disk_a" bs=1M iflag=fullblock oflag=direct status=none &&
		node_add main "$disk_a" && qmp_do x-blockdev-change parent=quorum node=main &&
		scribe run 0 && moves && scribe pause && same "$disk_a" "$disk_b" && scribe run 0
}

quorum_shrinks() {
	qmp_do x-blockdev-change parent=quorum child=children.1 && moves && scribe pause &&
		! same "$disk_a" "$disk_b" && scribe check
}

test_graph() {
	scribe run 0 >/dev/null
	check "x-blockdev-change: pivots to a quorum under load" quorum_starts
	check "x-blockdev-change: a second child of it gets all writes" quorum_grows
	check "x-blockdev-change: gets none any more when it has gone" quorum_shrinks
	pivot_raw "quorum to raw" quorum main "$disk_a" write-blocking 0
	check "quorum goes" node_del quorum
	check "its child goes" node_del spare
}

# ---- many hand-overs ----

hand_over_often() {
	local i first start=${EPOCHREALTIME/./}

	changes_get && first=$changes || return
	for ((i = 1; i <= turns; i++)); do
		reopen on >"$work/reopen" && changes_reach "$((first + 2 * i - 1))" &&
			reopen off >"$work/reopen" && changes_reach "$((first + 2 * i))" || return
	done
	echo "$((changes - first)) hand-overs in $turns turns of $(((${EPOCHREALTIME/./} - start) / turns / 1000)) ms" |
		tee "$work/figure"
}

test_turns() {
	scribe run 0 >/dev/null
	file_node=$(qmp_get '{"execute":"query-named-block-nodes"}' \
		".[] | select(.file == \"$disk_a\" and .drv == \"host_device\") | .[\"node-name\"]")
	check "$turns turns to QEMU and back with 32 requests in flight" hand_over_often
	echo "# $(<"$work/figure")"
	check "turns: the kernel serves" served_by vhost
	check "turns: no write is lost" disk_is_the_guests "$disk_a"
}

# ---- without the module ----

# A warning may have a second line, which says what to do.
warnings_are() {
	echo "warnings wanted: $1; QEMU says:"
	cat "${serial%.serial}.err"
	[[ $(grep -vcE "TCG doesn't support|^Load the module with" "${serial%.serial}.err") -eq $1 ]]
}

# bios_disk NAME OPTIONS: the BIOS reads from the disk; no guest is needed for that
bios_disk() {
	qemu_run "$1" -M q35 -m 64 -blockdev "$(blockdev main "$disk_a")" \
		-device "$DEVICE,drive=main,id=disk0,$2"
	qmp_connect
}

engine_never_vhost() {
	until_true 20 engine_is qemu
}

# fallback NAME: vhost=auto, on and off, where the module cannot be used
fallback() {
	check "$1: vhost=auto: QEMU starts" bios_disk auto vhost=auto
	check "$1: vhost=auto: QEMU serves" engine_never_vhost
	check "$1: vhost=auto: one warning" warnings_are 1
	qemu_kill
	check "$1: vhost=on: QEMU does not start" refused_by_qemu vhost=on
	check "$1: vhost=off: QEMU starts" bios_disk off vhost=off
	check "$1: vhost=off: QEMU serves" engine_never_vhost
	check "$1: vhost=off: nothing is said" warnings_are 0
	qemu_kill
}

refused_by_qemu() {
	local rc=0

	bios_disk on "$1" && { echo "it started"; return 1; }
	wait "$qemu" || rc=$?
	qemu_forget
	cat "$work/on.err"
	[[ $rc -eq 1 && $(grep -c vhost-blk "$work/on.err") -ge 1 ]]
}

# What the kernel cannot serve; the bitmap is that of the test above.
qcow2_from_the_start() {
	qemu_run qcow2 -M q35 -m 64 -device "$DEVICE,drive=main,id=disk0" \
		-blockdev '{"driver":"qcow2","node-name":"main","file":{"driver":"file","filename":"'"$work/over"'"}}'
	qmp_connect && until_true 20 engine_is qemu &&
		[[ $(qmp_get '{"execute":"query-named-block-nodes"}' '.[] | ."dirty-bitmaps"[0].name // empty') == bitmap ]]
}

test_qcow2_start() {
	check "qcow2 from the start: QEMU serves, the persistent bitmap is there" qcow2_from_the_start
	[[ $DEVICE != vhost-blk-pci ]] || check "qcow2 from the start: one warning" warnings_are 1
	qemu_kill
}

# As good as one that is too old: it knows none of our ioctls.
module_too_old() {
	modprobe vhost_net && mv /dev/vhost-blk /dev/vhost-blk.new && ln -s vhost-net /dev/vhost-blk
}

module_back() {
	mv -T /dev/vhost-blk.new /dev/vhost-blk
}

# Last, because the module is gone after it.
test_fallback() {
	if [[ $DEVICE == vhost-blk-pci ]]; then
		check "vhost=off: QEMU starts" bios_disk off vhost=off
		check "vhost=off: QEMU serves" engine_never_vhost
		check "vhost=off: nothing is said" warnings_are 0
		qemu_kill
		check "old module: it looks like one" module_too_old
		fallback "old module"
		check "old module: gone" module_back
		check "no module: it goes" rmmod vhost_blk
		fallback "no module"
	fi
	jobs_guest fallback -blockdev "$(blockdev main "$disk_a")" \
		-device "$DEVICE,drive=main,id=disk0,serial=test"
	check "no module: guest writes" moves
	check "no module: QEMU serves" engine_is qemu
	check "no module: no write is lost" disk_is_the_guests "$disk_a"
	check "no module: guest ends" guest_end
}

# ---- all of it ----

disks_empty() {
	null_blk_remove nullb0 2>/dev/null
	null_blk_remove nullb1 2>/dev/null
	null_blk_create nullb1 "$mib" && disk_b=$null_blk && null_blk_create nullb0 "$mib" && disk_a=$null_blk
}

run_sections() {
	local section start

	jobs_guest jobs -blockdev "$(blockdev main "$disk_a")" \
		-device "$DEVICE,drive=main,id=disk0,serial=test" || return
	check "the disk's engine is the kernel" served_by vhost || return
	for section; do
		start=$SECONDS
		"test_$section"
		echo "# $section: $((SECONDS - start)) s"
		kill -0 "$qemu" 2>/dev/null || return
	done
	check "guest's writer ends without a failure" scribe end
	check "QEMU said nothing" warnings_are 0
	check "guest switches itself off, QEMU ends" guest_end
	check "no request is left in flight" idle "$disk_a"
	check "the disk opens exclusively" opens_exclusively "$disk_a"
}

sections=("${@:2}")
((${#sections[@]})) || sections=(mirror_cancel mirror_pivot backup bitmap commit qcow2 throttle
	reopen graph turns)
nested_init
echo "TAP version 13"
program_build scribe || bail_out "scribe.c does not compile"
disks_empty || bail_out "no null_blk"
[[ ${sections[0]} == fallback ]] || run_sections "${sections[@]}"
qemu_kill
if [[ $# -lt 2 || ${sections[0]} == fallback ]]; then
	disks_empty || bail_out "no null_blk"
	[[ ! -e $work/over ]] || test_qcow2_start
	test_fallback
	qemu_kill
fi
echo "1..$tap_nr"
exit "$tap_failed"
