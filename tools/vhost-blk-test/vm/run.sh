#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Boot a test host: a kernel of choice in QEMU, with this machine's root below
# a throw-away overlay and the module just built, run one command in it, and
# exit with the command's status. See usage() for the options.
set -euo pipefail
export LC_ALL=C PATH="$PATH:/usr/sbin:/sbin"

packages=(busybox-static cpio iproute2 kmod qemu-system-x86)

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd -P)
top=$(cd "$here/../../.." && pwd -P)
cache=$HOME/.cache/vhost-blk
ctl=
vm=
tail=
watch=

# What the kernel prints when something is wrong in it. One extended regular
# expression a line; user processes that fault print "traps: ..." instead.
splats() {
	grep -v '^$' <<-'END'
	WARNING: (CPU:|possible|inconsistent|suspicious|bad unlock|held lock|Nested|lock held)
	WARNING: .* at [^ ]+:[0-9]+
	\bBUG: 
	\bBUG at
	\bBUG kmalloc|BUG [a-z0-9_-]+ \(.*\):
	\bOops\b|: [0-9a-f]{4} \[#[0-9]+\]
	Kernel panic
	KASAN:
	KCSAN:
	KFENCE:
	UBSAN:
	kernel BUG
	INFO: task .* blocked for more than
	INFO: possible recursive locking
	INFO: trying to register non-static key
	INFO: rcu.* (detected|self-detected)|rcu:.*(detected stalls|self-detected stall)
	soft lockup|hard LOCKUP|hard lockup
	unreferenced object|kmemleak: [0-9]+ new suspected
	general protection fault[,:]
	unable to handle
	refcount_t:
	list_(add|del) corruption
	(Bad|bad) page (state|map)
	Objects remaining in
	scheduling while atomic|sleeping function called from invalid context
	possible circular locking|possible deadlock|suspicious RCU usage|inconsistent lock state
	ODEBUG:
	Call Trace:
	END
}

usage() {
	cat <<-'END'
	usage: run.sh [options] -- COMMAND [ARGUMENT...]
	  --kernel DIR     a kernel as fetch-kernel.sh prints it (default: the one the module is for)
	  --module FILE    module to load (default drivers/vhost/vhost_blk.ko; "none" loads none)
	  --cpus N         virtual CPUs (2)
	  --mem MIB        memory (4096)
	  --timeout SEC    deadline for the whole run (600)
	  --nested         make KVM guests possible inside
	  --count-instructions  one emulated CPU, each of whose instructions takes 1 ns
	  --plugin FILE    a plugin for QEMU's emulation, FILE,NAME=VALUE,... (repeatable)
	  --share DIR      directory of this machine, writable inside, at the same path (repeatable)
	  --disk FILE      raw image to attach as /dev/vdX (repeatable)
	  --append WORDS   more for the kernel's command line (repeatable)
	  --log FILE       where the kernel's console goes
	  --packages       print the Debian packages this needs
	Runs COMMAND as root in the project's directory. Exit status: that of COMMAND;
	124 deadline; 125 the VM did not boot or died; 99 COMMAND succeeded but the kernel
	complained.
	VHOST_BLK_ACCEL=kvm or tcg overrides the choice of accelerator.
	END
}

die() {
	echo "run.sh: $*" >&2
	exit 125
}

note() {
	echo "run.sh: $*" >&2
}

parse_args() {
	kernel='' module=$top/drivers/vhost/vhost_blk.ko cpus=2 mem=4096 timeout=600 nested=0 counting=0 log=''
	shares=() disks=() plugins=() append="console=ttyS0 panic=-1 mitigations=off loglevel=7"
	while (($#)); do
		case $1 in
		--packages)
			{ printf '%s\n' "${packages[@]}"; "$here/../guest/mkinitramfs.sh" --packages; } | sort -u
			exit 0
			;;
		-h | --help) usage; exit 0 ;;
		--nested) nested=1; shift; continue ;;
		--count-instructions) counting=1; cpus=1; shift; continue ;;
		--) shift; break ;;
		--*) (($# >= 2)) || die "$1 needs a value, see --help" ;;
		*) die "unexpected '$1' before --, see --help" ;;
		esac
		case $1 in
		--kernel) kernel=$2 ;;
		--module) module=$2 ;;
		--cpus) cpus=$2 ;;
		--mem) mem=$2 ;;
		--timeout) timeout=$2 ;;
		--share) shares+=("$(realpath -e "$2")") || die "--share $2: no such directory" ;;
		--disk) disks+=("$(realpath -e "$2")") || die "--disk $2: no such file" ;;
		--plugin) plugins+=(-plugin "$2") ;;
		--append) append+=" $2" ;;
		--log) log=$(realpath -m "$2") ;;
		*) die "unknown option $1, see --help" ;;
		esac
		shift 2
	done
	(($#)) || die "no command given after --, see --help"
	command=("$@")
	[[ "$cpus$mem$timeout" =~ ^[0-9]+$ ]] || die "--cpus, --mem and --timeout take numbers"
}

check_tools() {
	local tool

	for tool in qemu-system-x86_64 cpio busybox modprobe modinfo ip setsid; do
		command -v "$tool" >/dev/null ||
			die "$tool is missing: apt-get install ${packages[*]}"
	done
	busybox=$(command -v busybox)
	if ldd "$busybox" >/dev/null 2>&1; then
		die "$busybox is not a static one: apt-get install busybox-static"
	fi
}

# The kernel that the module was built for, else the newest with headers here.
default_release() {
	local dirs

	if [[ $module != none ]]; then
		modinfo -F vermagic "$module" | cut -d' ' -f1
		return
	fi
	dirs=$(printf '%s\n' /usr/src/linux-headers-*-amd64 | sort -V | tail -n 1)
	echo "${dirs#/usr/src/linux-headers-}"
}

find_kernel() {
	local images

	if [[ $module != none ]]; then
		[[ -r $module ]] || die "no module $module: run 'make' first, or give --module none"
		module=$(realpath -e "$module")
	fi
	if [[ -z $kernel ]]; then
		kernel=$("$here/fetch-kernel.sh" "$(default_release)") || die "no kernel to boot"
	fi
	kernel=$(realpath -e "$kernel") || die "--kernel: no such directory"
	um=0
	if [[ -x $kernel/linux ]]; then
		um=1
		image=$kernel/linux
		images=("$kernel"/lib/modules/*)
		release=${images[0]##*/}
	else
		images=("$kernel"/boot/vmlinuz-*)
		[[ ${#images[@]} -eq 1 && -r ${images[0]} ]] ||
			die "$kernel/boot must hold one vmlinuz-RELEASE"
		image=${images[0]}
		release=${image##*/vmlinuz-}
	fi
	[[ -d $kernel/lib/modules/$release ]] || die "$kernel has no lib/modules/$release"
}

prepare_log() {
	log_is_default=0
	if [[ -z $log ]]; then
		log=$top/tools/vhost-blk-test/build/console-$(date +%H%M%S)-$$.log
		log_is_default=1
	fi
	mkdir -p "$(dirname "$log")"
	: >"$log"
}

# Paths of the modules that the initramfs loads, dependencies first.
early_modules() {
	local name

	((!um)) || return 0
	for name in virtio_pci 9pnet_virtio 9p overlay; do
		modprobe -d "$kernel" -S "$release" --show-depends "$name" |
			awk '$1 == "insmod" { print $2 }' || die "no module $name in $kernel"
	done | awk '!seen[$0]++'
}

make_initramfs() {
	local dir=$ctl/initramfs path

	mkdir -p "$dir/bin"
	cp "$busybox" "$dir/bin/busybox"
	install -m 755 "$here/init.sh" "$dir/init"
	early_modules >"$dir/paths"
	while read -r path; do
		cp "$path" "$dir/"
		echo "/${path##*/}"
	done <"$dir/paths" >"$dir/modules.order"
	rm "$dir/paths"
	(cd "$dir" && find . -print0 | cpio -0 -o -H newc -R 0:0 --quiet) >"$ctl/initrd"
	rm -r "$dir"
}

kvm_modules_nested() {
	grep -qsE '^(Y|1)$' /sys/module/kvm_{intel,amd}/parameters/nested
}

# /dev/kvm alone says little: boot this kernel under it. The answer holds for
# this boot of the machine, this kernel and this QEMU.
probe_kvm() {
	local key answer rc=0

	key=$(cat /proc/sys/kernel/random/boot_id; echo "$release"; qemu-system-x86_64 --version)
	answer=$cache/kvm-probe-$(sha256sum <<<"$key" | cut -c1-16)
	if [[ ! -e $answer ]]; then
		# The braces silence the shell too, which tells when QEMU aborts.
		{
			timeout -k 5 30 qemu-system-x86_64 -nodefaults -no-user-config -no-reboot \
				-display none -M q35 -accel kvm -cpu host -m 512 -kernel "$image" \
				-initrd "$ctl/initrd" -append "quiet panic=-1 vm_probe" \
				-device isa-debug-exit,iobase=0xf4 || rc=$?
		} </dev/null >/dev/null 2>&1
		mkdir -p "$cache"
		# (42 << 1) | 1, written by init.sh
		if ((rc == 85)); then echo yes; else echo no; fi >"$answer.$$"
		mv "$answer.$$" "$answer"
	fi
	[[ $(<"$answer") == yes ]]
}

# TCG before QEMU 8.1 translates code without a lock on its page: while one CPU patches
# the kernel's text, another can keep a breakpoint that is not there any more. Guests
# inside now and then stand still, one CPU in an endless loop. Debian trixie's does
# neither, and is half as fast again. A single CPU races with nobody: instructions are
# counted by the installed one, so that figures do not change with another's updates.
choose_emulator() {
	local version newer

	version=$(qemu-system-x86_64 --version | sed -nE '1s/.* version ([0-9.]+).*/\1/p')
	[[ $(printf '%s\n' 8.1 "$version" | sort -V | head -n 1) != 8.1 ]] || return 0
	if newer=$("$top/tools/qemu/build-plugin.sh" --release trixie --qemu); then
		emulator=$newer
	else
		note "goes on with QEMU $version; its emulation of several CPUs is not reliable"
	fi
}

choose_accel() {
	accel=${VHOST_BLK_ACCEL-}
	emulator=qemu-system-x86_64
	preload=()
	if ((um)); then
		((!nested && !counting && ${#disks[@]} == 0 && ${#plugins[@]} == 0)) ||
			die "user-mode Linux has neither --nested nor --count-instructions nor --disk nor --plugin"
		return
	fi
	if ((counting)); then
		((cpus == 1 && !nested)) || die "--count-instructions is for one CPU and without --nested"
		accel=tcg
	fi

	if [[ -z $accel ]]; then
		accel=tcg
		if [[ -r /dev/kvm && -w /dev/kvm ]] && { ((!nested)) || kvm_modules_nested; } && probe_kvm; then
			accel=kvm
		fi
	fi
	case $accel in
	kvm)
		accel_args=(-accel kvm -cpu host)
		if ((nested)); then
			if grep -qw svm /proc/cpuinfo; then preload+=(kvm_amd); else preload+=(kvm_intel); fi
		fi
		;;
	tcg)
		((counting)) || choose_emulator
		# Of TCG's CPUs only this one has working virtualization extensions.
		accel_args=(-accel 'tcg,thread=multi' -cpu 'EPYC,+svm,+npt')
		# All CPUs read one time stamp counter here, which the kernel cannot
		# know. Its other clock, the HPET, takes QEMU's big lock at each
		# reading; on a busy machine the timer interrupt then never ends.
		append+=" tsc=reliable"
		((!counting)) || accel_args=(-accel 'tcg,thread=single' -icount 'shift=0,sleep=off' -cpu max)
		if ((nested)); then preload+=(kvm_amd); fi
		;;
	*) die "VHOST_BLK_ACCEL is '$accel', not kvm or tcg" ;;
	esac
	((${#disks[@]} == 0)) || preload+=(virtio_blk)
}

# What of the paths a run needs lies below /tmp, where the VM has its own tmpfs.
kept_paths() {
	local dir

	for dir in "$top" "$kernel" "$([[ $module == none ]] || dirname "$module")" "$PWD" "$@"; do
		[[ $dir != /tmp/* ]] || printf '%s\n' "$dir"
	done | sort -u
}

# A share that holds the path of an array element must not read "keep=()" wrong:
# declare -p output is shell syntax, so stage2.sh can source it as it is.
write_conf() {
	local deadline=$1 home=$HOME keep disk_count=${#disks[@]} guest=''

	# What guests inside boot from is made here: the cache in there is thrown away.
	if ((nested)); then guest=$("$here/../guest/mkinitramfs.sh" "$kernel") || die "no files for guests"; fi

	mapfile -t keep < <(kept_paths "$guest")
	{
		declare -p top home release kernel um guest accel module preload keep shares deadline
		echo "disks=$disk_count"
	} >"$ctl/conf"
	cp "$here/stage2.sh" "$ctl/stage2.sh"
	printf '%s\0' "${command[@]}" >"$ctl/cmd"
	: >"$ctl/output"
}

qemu_args() {
	local i

	# shellcheck disable=SC2054 # QEMU separates options by commas
	args=("$emulator" -nodefaults -no-user-config -no-reboot -display none -nic none
		-M q35 "${accel_args[@]}" "${plugins[@]}"
		-smp "$cpus" -m "$mem" -kernel "$image" -initrd "$ctl/initrd" -append "$append"
		-chardev "file,id=log,path=${log//,/,,},append=on" -serial chardev:log
		-device isa-debug-exit,iobase=0xf4
		-virtfs "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap"
		-virtfs "local,path=${ctl//,/,,},mount_tag=ctl,security_model=none,multidevs=remap")
	for i in "${!shares[@]}"; do
		args+=(-virtfs "local,path=${shares[i]//,/,,},mount_tag=share$i,security_model=none,multidevs=remap")
	done
	for i in "${!disks[@]}"; do
		args+=(-drive "if=none,id=disk$i,format=raw,file=${disks[i]//,/,,}"
			-device "virtio-blk-pci,drive=disk$i")
	done
}

# User-mode Linux takes its kernel command line as arguments; it has one CPU.
um_args() {
	# shellcheck disable=SC2054 # a comma for the console, not for the shell
	args=("$image" "mem=${mem}M" "initrd=$ctl/initrd" loglevel=7 panic=-1 con=null
		con0=null,fd:1 "vm_ctl=$ctl")
}

# shellcheck disable=SC2317 # by trap
cleanup() {
	[[ -z $vm ]] || kill -TERM "$vm" 2>/dev/null || true
	[[ -z $tail ]] || kill "$tail" 2>/dev/null || true
	[[ -z $watch ]] || kill "$watch" 2>/dev/null || true
	[[ -z $ctl ]] || rm -rf "$ctl"
}

find_splats() {
	# The kernel's messages end in CR LF on a serial line. What comes before the
	# module is loaded is none of its doing: user-mode Linux 6.1 has a splat there.
	tr -d '\r' <"$log" | sed "$( ((!um)) || echo '1,/vm: loading modules/s/.*//')" | grep -nE -f <(splats) || true
}

report() {
	local rc=$1 status=125 found

	if [[ -e $ctl/status ]]; then
		status=$(<"$ctl/status")
	elif ((rc == 124 || rc == 137)); then
		status=124
		note "deadline of $timeout s passed; blocked tasks are at the end of $log"
	else
		if [[ -e $ctl/failure ]]; then note "the test host did not get ready: $(<"$ctl/failure")"; fi
		note "the VM ended without a result (its status $rc); the end of its console:"
		tail -n 15 "$log" | tr -d '\r' >&2
		grep -v "TCG doesn't support requested feature" "$ctl/qemu.err" >&2 || true
	fi
	found=$(find_splats)
	if [[ -n $found ]]; then
		note "the kernel complained, see $log:"
		head -n 20 <<<"$found" >&2
		((status != 0)) || status=99
	fi
	((status != 0 || !log_is_default)) || rm -f "$log"
	return "$status"
}

# Ends a VM that has not reached our first instruction after two minutes.
watch_boot() {
	local i

	for ((i = 0; i < 120; i++)); do
		sleep 1
		[[ ! -e $ctl/started ]] || return 0
	done
	kill -TERM "$1" 2>/dev/null
}

# Run the VM to its end; its output goes to stdout as it comes.
boot() {
	local rc=0

	# QEMU writes its guest's console to the log itself, and nothing to stdout.
	timeout -k 5 "$((timeout - SECONDS))" "${args[@]}" \
		</dev/null >>"$log" 2>"$ctl/qemu.err" &
	vm=$!
	watch_boot "$vm" >/dev/null 2>&1 &
	watch=$!
	tail -c +1 -s 0.1 --pid="$vm" -f "$ctl/output" 2>/dev/null &
	tail=$!
	wait "$vm" || rc=$?
	vm=
	kill "$watch" 2>/dev/null || true
	wait "$tail" || true
	tail=
	return "$rc"
}

main() {
	local start=$SECONDS rc=0 slack=0

	parse_args "$@"
	check_tools
	find_kernel
	prepare_log
	ctl=$(mktemp -d "${TMPDIR:-/tmp}/vhost-blk-vm.XXXXXX")
	trap cleanup EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	make_initramfs
	choose_accel
	# A clock that counts instructions runs ahead of ours where the CPU waits.
	((!counting)) || slack=1000000
	write_conf "$(($(date +%s) + timeout - (SECONDS - start) + slack))"
	if ((um)); then um_args; else qemu_args; fi
	boot || rc=$?
	# Emulation now and then dies or stands still while the kernel sets itself up.
	# Nothing of ours has run by then, so try once more; a second time is a result.
	if ((rc != 124 && rc != 137)) && [[ ! -e $ctl/status ]] &&
		! grep -q "vm: " "$log"; then
		note "the VM died or hung before it had started anything (status $rc); booting it again"
		# What that boot said is no result either.
		: >"$log"
		rc=0
		boot || rc=$?
	fi
	report "$rc"
}

# On one line: bash must not read on in a file that may have changed meanwhile.
main "$@"; exit
