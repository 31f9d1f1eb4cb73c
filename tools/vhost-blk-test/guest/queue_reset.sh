# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2154 # disk_by_serial: rc.sh
#
# For guest/shell.sh: queue_reset.c.

# queue_reset_start SERIAL: take the disk from Linux' driver
queue_reset_start() {
	local pci

	program_get queue_reset || return
	pci=$(basename "$(readlink -f "/sys/block/$(disk_by_serial "$1")/device/..")")
	echo "$pci" >"/sys/bus/pci/devices/$pci/driver/unbind" &&
		echo 1 >/proc/sys/vm/nr_hugepages || return
	coproc RESET { exec /tmp/queue_reset "$pci"; }
	program_answer 20 "${RESET[0]}"
}

# queue_reset COMMAND QUEUE-OR-COUNT
queue_reset() {
	echo "$*" >&"${RESET[1]}"
	program_answer 100 "${RESET[0]}"
}
