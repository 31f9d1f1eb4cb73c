# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2154 # disk_by_serial: rc.sh
#
# For guest/shell.sh: scribe.c.

# scribe_start SERIAL: on that disk, whose contents are zeroes
scribe_start() {
	program_get scribe || return
	coproc SCRIBE { exec /tmp/scribe "/dev/$(disk_by_serial "$1")" 60; }
}

# scribe run USEC|pause|check|end
scribe() {
	echo "$*" >&"${SCRIBE[1]}"
	program_answer 100 "${SCRIBE[0]}"
}
