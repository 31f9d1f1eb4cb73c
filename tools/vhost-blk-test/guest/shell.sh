# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2154 # say, disk_by_serial: rc.sh
#
# Guest script: run what the host sends by virtio-serial (guest_do of vm/shell.sh; the
# serial line now and then loses a character where it is emulated), a number and a command
# on each line, until "0 end". What they print goes back there, and then "guest-status",
# the number and the status.

# await_disk SERIAL SECONDS: print its name once it is there
await_disk() {
	local end=$((SECONDS + $2))

	until disk_by_serial "$1" 2>/dev/null; do
		((SECONDS < end)) || { echo "no disk $1 within $2 s"; return 1; }
		sleep 0.05
	done
}

# program_get NAME: from the disk "program", to /tmp
program_get() {
	dd if="/dev/$(disk_by_serial program)" of="/tmp/$1" bs=64k status=none && chmod +x "/tmp/$1"
}

# program_answer SECONDS FD: print the line with which a program answers; "ok" is good
program_answer() {
	local answer="no answer"

	read -r -t "$1" answer <&"$2"
	echo "$answer"
	[[ $answer == ok* ]]
}

# await_gone DISK SECONDS
await_gone() {
	local end=$((SECONDS + $2))

	while [[ -e /sys/block/$1 ]]; do
		((SECONDS < end)) || { echo "$1 is there after $2 s"; return 1; }
		sleep 0.05
	done
}

# await_sectors DISK COUNT SECONDS: until its capacity is that
await_sectors() {
	local end=$((SECONDS + $3))

	until [[ $(<"/sys/block/$1/size") -eq $2 ]]; do
		((SECONDS < end)) || { echo "$1 has $(<"/sys/block/$1/size") sectors, not $2"; return 1; }
		sleep 0.05
	done
}

# completed DISK: reads and writes so far
completed() {
	local -a stat

	read -r -a stat <"/sys/block/$1/stat"
	echo $((stat[0] + stat[4]))
}

# await_requests DISK COUNT SECONDS: until that many more have completed
await_requests() {
	local end=$((SECONDS + $3)) want=$(($(completed "$1") + $2))

	until (($(completed "$1") >= want)); do
		((SECONDS < end)) || { echo "$1 did not complete $2 requests within $3 s"; return 1; }
		sleep 0.05
	done
}

# load DISK [FIO-ARGUMENT...]: writes and verifies in the background from now on
declare -A load=()
load() {
	fio --name=load --filename="/dev/$1" --ioengine=libaio --direct=1 --rw=randrw --bsrange=4k-64k \
		--iodepth=32 --size=32m --time_based --runtime=600 --verify=crc32c \
		--verify_fatal=1 --verify_backlog=128 "${@:2}" >"/tmp/load.$1" 2>&1 &
	load[$1]=$!
	await_requests "$1" 64 60
}

# load_stop DISK: it ends without any error. fio's status is 128 then.
load_stop() {
	local rc=0

	kill -INT "${load[$1]}" || { head -n 5 "/tmp/load.$1"; return 1; }
	wait "${load[$1]}" || rc=$?
	[[ $rc -eq 0 || $rc -eq 128 ]] && grep -q 'err= 0' "/tmp/load.$1" && return
	echo "fio's status is $rc; it says:"
	head -n 5 "/tmp/load.$1"
	return 1
}

# load_dies DISK SECONDS: it ends by itself with an error. Which one is no use: of a disk
# that is gone fio reads nothing, and takes that for what it should verify.
load_dies() {
	local end=$((SECONDS + $2)) rc=0

	while kill -0 "${load[$1]}" 2>/dev/null; do
		((SECONDS < end)) || { echo "the load is there after $2 s"; return 1; }
		sleep 0.05
	done
	wait "${load[$1]}" || rc=$?
	((rc)) && return
	echo "fio's status is $rc; it says:"
	head -n 5 "/tmp/load.$1"
	return 1
}

# checksum DISK MIB COUNT: of that many MiB from MIB on
checksum() {
	dd if="/dev/$1" bs=1M skip="$2" count="$3" iflag=direct status=none | sha256sum | cut -d' ' -f1
}

# errors FIO-ARGUMENT...: requests that may fail; prints how many did
errors() {
	fio --name=errors --ioengine=libaio --direct=1 --continue_on_error=all "$@" >/tmp/errors 2>&1
	sed -n 's/^ *errors *: total=\([0-9]*\),.*/\1/p' /tmp/errors | grep . || {
		grep -q 'err= 0' /tmp/errors || { cat /tmp/errors; return 1; }
		echo 0
	}
}

# Named by where it is among all virtio devices.
until port=$(compgen -G '/dev/vport*p1'); do sleep 0.05; done
exec {line}<>"$port"
# To read before the host is there is to read the end; to write waits for it.
echo "guest-status 0 0" >&"$line"
say "shell"
while read -r -u "$line" number command; do
	[[ $command != end ]] || break
	eval "$command" </dev/null >&"$line" 2>&1
	echo "guest-status $number $?" >&"$line"
done
