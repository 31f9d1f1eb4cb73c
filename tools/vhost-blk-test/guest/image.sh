# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2154 # param, disk, check: rc.sh
#
# Guest script: discard, write zeroes, switch the write cache. The host looks at
# what becomes of it. Parameters: serial; discards (1: what is discarded reads as
# zeroes; 0: it stays, and no command fails).

write_all() {
	dd if=/dev/urandom of="/dev/$disk" bs=1M count=32 iflag=fullblock oflag=direct
}

# sum SKIP COUNT: of that many MiB
sum() {
	dd if="/dev/$disk" bs=1M skip="$1" count="$2" iflag=direct | sha256sum
}

is_zero() {
	[[ -z $(dd if="/dev/$disk" bs=1M skip="$1" count="$2" iflag=direct | tr -d '\0' | head -c 1 | od -An -tx1) ]]
}

discard() {
	local before after middle

	echo "discard_max_bytes: $(<"/sys/block/$disk/queue/discard_max_bytes")"
	[[ $(<"/sys/block/$disk/queue/discard_max_bytes") -gt 0 ]] || return
	before=$(sum 0 8)
	after=$(sum 24 8)
	middle=$(sum 8 16)
	blkdiscard -o $((8 << 20)) -l $((16 << 20)) "/dev/$disk" || return
	[[ $(sum 0 8) == "$before" && $(sum 24 8) == "$after" ]] || return
	if [[ ${param[discards]} == 1 ]]; then is_zero 8 16; else [[ $(sum 8 16) == "$middle" ]]; fi
}

write_zeroes() {
	blkdiscard -z -o $((24 << 20)) -l $((4 << 20)) "/dev/$disk" && is_zero 24 4 && ! is_zero 28 4
}

# write_in_mode MODE: small writes over what is there already
write_in_mode() {
	local cache=/sys/block/$disk/cache_type

	echo "$1" >"$cache" || return
	echo "it is $(<"$cache")"
	[[ $(<"$cache") == "$1" ]] &&
		dd if=/dev/urandom of="/dev/$disk" bs=4k count=64 iflag=fullblock oflag=direct
}

check "writes" write_all
check "discard" discard
check "write zeroes" write_zeroes
check "write cache on" write_in_mode "write back"
check "write cache off" write_in_mode "write through"
check "write cache on again" write_in_mode "write back"
