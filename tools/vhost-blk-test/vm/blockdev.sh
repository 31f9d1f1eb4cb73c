#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# shellcheck disable=SC2154,SC2034,SC1091 # set by nested.sh, used by who sources this
#
# For tests that run block jobs and change the graph below a guest that writes and
# verifies all the while (guest/scribe.c). To be sourced.

. "$(dirname "${BASH_SOURCE[0]}")/shell.sh"

backend_path=/machine/peripheral/disk0/virtio-backend

# qmp_do COMMAND [NAME=VALUE...]: values that are no numbers, booleans, objects or
# lists are strings
qmp_do() {
	local arguments='' item value

	for item in "${@:2}"; do
		value=${item#*=}
		[[ $value =~ ^(true|false|[0-9]+|[\{\[].*)$ ]] || value="\"$value\""
		arguments+=",\"${item%%=*}\":$value"
	done
	qmp "{\"execute\":\"$1\",\"arguments\":{${arguments#,}}}"
}

# refused REGEX COMMAND...: it fails with such a message
refused() {
	local answer

	if answer=$("${@:2}"); then
		echo "this should have failed: $answer"
		return 1
	fi
	echo "$answer"
	grep -qE "$1" <<<"$answer"
}

hmp() {
	local answer

	answer=$(qmp_do human-monitor-command "command-line=$1") || { echo "$answer"; return 1; }
	echo "$answer"
	[[ $answer == *'{"return": ""}'* ]]
}

# served_by vhost|qemu: soon
served_by() {
	until_true 10 engine_is "$1"
}

# changes_get: sets changes to how often the engine has changed; forks nothing
changes_get() {
	local line

	changes=0
	[[ $DEVICE == vhost-blk-pci ]] || return 0
	qmp_do qom-get path=/machine/peripheral/disk0 property=engine-changes >"$work/changes" || return
	while read -r line; do
		[[ $line != '{"return": '* ]] || changes=${line//[^0-9]/}
	done <"$work/changes"
}

# changes_reach COUNT: within 10 s
changes_reach() {
	local end=$((SECONDS + 10))

	until changes_get && { [[ $DEVICE != vhost-blk-pci ]] || ((changes >= $1)); }; do
		((SECONDS < end)) || { echo "the engine changed $changes times, not $1"; return 1; }
	done
}

# ---- nodes ----

# node_add NAME FILE [DRIVER]: as the device's own, so that the kernel can serve it
node_add() {
	qmp '{"execute":"blockdev-add","arguments":'"$(blockdev "$@")"'}'
}

node_del() {
	qmp_do blockdev-del node-name="$1"
}

# copy_add NAME: an empty raw file as large as the disk, where O_DIRECT is unknown
copy_add() {
	rm -f "$work/$1"
	truncate -s "${mib}M" "$work/$1" && qmp_do blockdev-add driver=raw node-name="$1" \
		file='{"driver":"file","filename":"'"$work/$1"'"}'
}

# qcow2_create NAME: a file, by QEMU itself, and its node, without a backing one
qcow2_create() {
	rm -f "$work/$1"
	: >"$work/$1"
	qmp_do blockdev-add driver=file node-name="$1-file" filename="$work/$1" discard=unmap &&
		qmp_do blockdev-create job-id=create \
			options='{"driver":"qcow2","file":"'"$1-file"'","size":'$((mib << 20))'}' &&
		job_ends create 30 &&
		qmp_do blockdev-add driver=qcow2 node-name="$1" file="$1-file" discard=unmap
}

qcow2_del() {
	node_del "$1" && node_del "$1-file"
}

# root_set NODE: put it below the device
root_set() {
	qmp_do qom-set path=/machine/peripheral/disk0 property=drive value="$1"
}

# ---- jobs ----

# job_start COMMAND [NAME=VALUE...]: as "job", which stays until job_ends
job_start() {
	qmp_do "$1" job-id=job auto-dismiss=false "${@:2}"
}

job_status() {
	qmp_get '{"execute":"query-jobs"}' ".[] | select(.id == \"$1\") | .status, .error // empty"
}

job_is() {
	job_status "$1" >"$work/job"
	cat "$work/job"
	grep -qxE "$2" "$work/job"
}

# job_ready NAME SECONDS
job_ready() {
	until_true "$2" job_is "$1" 'ready|concluded' && job_is "$1" ready
}

# job_ends NAME SECONDS: without an error
job_ends() {
	until_true "$2" job_is "$1" concluded || return
	[[ $(wc -l <"$work/job") -eq 1 ]] || { cat "$work/job"; return 1; }
	qmp_do job-dismiss id="$1"
}

# ---- the guest's writer ----

# jobs_guest NAME QEMU-ARGUMENT...: a guest with the writer on the disk "test"
jobs_guest() {
	program_disk scribe
	shell_start "$@" "${program[@]}"
	check "$1: QEMU starts" qmp_connect && check "$1: guest boots" await '^guest: shell' 120 &&
		check "$1: guest starts to write" scribe_start
}

scribe_start() {
	guest_do 30 '. /guest/scribe.sh && scribe_start test' && scribe run 0
}

# scribe run USEC|pause|check|end
scribe() {
	guest_do 110 "scribe $*"
}

# written: requests that the guest has completed; it writes on. From the disk's
# counters in the guest, which say nothing of a job.
written() {
	# shellcheck disable=SC2016
	guest_do 20 'completed "$(disk_by_serial test)"'
}

# moves: the guest's requests go on completing
moves() {
	# shellcheck disable=SC2016
	guest_do 60 'await_requests "$(disk_by_serial test)" 64 50'
}

# ---- what is on a disk ----

# contents FILE: past the page cache, if it has one of its own
contents() {
	if [[ -b $1 ]]; then dd if="$1" bs=1M iflag=direct status=none; else cat "$1"; fi
}

# same FILE FILE: byte by byte
same() {
	local bytes

	bytes=$(contents "$2" | wc -c)
	echo "$bytes bytes"
	((bytes == mib << 20)) && cmp <(contents "$1") <(contents "$2")
}

# disk_is_the_guests FILE: the guest finds on it all it wrote, and it has the same
# contents when the host looks past QEMU
disk_is_the_guests() {
	local sum

	scribe check || return
	# shellcheck disable=SC2016
	sum=$(guest_do 60 'checksum "$(disk_by_serial test)" 0 '"$mib") || { echo "$sum"; return 1; }
	echo "the guest's $sum, the host's $(contents "$1" | sha256sum)"
	[[ $sum == "$(contents "$1" | sha256sum | cut -d' ' -f1)" ]]
}
