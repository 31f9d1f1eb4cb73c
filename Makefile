# SPDX-License-Identifier: GPL-2.0-only
# vhost_blk: see README.md. `make help` lists the targets.

# Kernel to build for: the running one if its headers are installed, else the
# newest that are, else KDIR=.
ifndef KDIR
KDIR := $(firstword $(wildcard /lib/modules/$(shell uname -r)/build/Makefile) \
	$(shell ls -d /lib/modules/*/build/Makefile 2>/dev/null | sort -rV))
override KDIR := $(patsubst %/Makefile,%,$(KDIR))
endif

TOP := $(CURDIR)
VHOST_H_DIR := $(TOP)/drivers/vhost/.vhost
KBUILD = $(MAKE) -C $(KDIR) M=$(TOP) VHOST_BLK_TOP=$(TOP) VHOST_H_DIR=$(VHOST_H_DIR)
TEST_DISK := $(TOP)/tools/vhost-blk-test/disk

PREFIX ?= /usr
DESTDIR ?=

.PHONY: all print-kdir modules test-disk modules_install install uninstall clean help check \
	check-long check-kcsan check-qemu bench bench-cost bench-guest bench-baseline profile \
	demo coverage htmldocs deps headers

all: modules test-disk

headers:
ifeq ($(wildcard $(KDIR)/Makefile),)
	@echo "vhost_blk: no kernel headers found: apt-get install linux-headers-amd64, or give KDIR=" >&2
	@exit 1
else
	@tools/vhost-header.sh $(KDIR) $(VHOST_H_DIR)
endif

# W=1 and C=1 (sparse) are handed on to kbuild.
modules: headers
	+@$(KBUILD) modules

# Disks that the tests need, as a module of its own, which is never installed.
test-disk: modules
	+@$(MAKE) -C $(KDIR) M=$(TEST_DISK) modules

# Headers packages have no key to sign with, and no System.map for kbuild's depmod.
modules_install: modules
	+@$(KBUILD) modules_install $(if $(DESTDIR),INSTALL_MOD_PATH=$(DESTDIR)) \
		$(if $(wildcard $(KDIR)/certs/signing_key.pem),,CONFIG_MODULE_SIG_ALL=)
	$(if $(DESTDIR),,/sbin/depmod $(shell cut -d'"' -f2 $(KDIR)/include/generated/utsrelease.h))

# The module, loaded at boot; the UAPI header; /dev/vhost-blk for group kvm.
install: modules_install
	install -D -m 644 include/uapi/linux/vhost_blk.h $(DESTDIR)$(PREFIX)/include/linux/vhost_blk.h
	install -D -m 644 tools/60-vhost-blk.rules $(DESTDIR)/lib/udev/rules.d/60-vhost-blk.rules
	install -d $(DESTDIR)/lib/modules-load.d
	echo vhost_blk > $(DESTDIR)/lib/modules-load.d/vhost-blk.conf

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/include/linux/vhost_blk.h \
		$(DESTDIR)/lib/udev/rules.d/60-vhost-blk.rules \
		$(DESTDIR)/lib/modules-load.d/vhost-blk.conf

# For scripts: the kernel build directory in use.
print-kdir:
	@echo $(KDIR)

# Debian packages that demo and check need.
deps:
	@tools/install-deps.sh

demo: deps
	@tools/vhost-blk-test/demo.sh

check: deps
	@tools/vhost-blk-test/check.sh

# For a release: what check repeats, many times over.
check-long: deps
	@tools/vhost-blk-test/check.sh long

# The tests under the kernel's data race detector.
check-kcsan: deps
	@tools/vhost-blk-test/check.sh kcsan

# Guests on other builds and releases of QEMU.
check-qemu: deps
	@tools/vhost-blk-test/check.sh qemu

# Instructions per request, by vhost_blk and by others.
bench-cost: deps
	@tools/vhost-blk-test/bench/bench-cost.sh

# What fio gets in guests, by back end, and on the host.
bench-guest: deps
	@tools/vhost-blk-test/bench/bench-guest.sh

# One after the other, also with -j: they measure.
bench: deps
	@tools/vhost-blk-test/bench/bench-cost.sh
	@tools/vhost-blk-test/bench/bench-guest.sh

# Where the instructions of a request go; OPTIONS="--depth 1" and others of vring_cost's.
profile: deps
	@tools/vhost-blk-test/bench/profile.sh $(OPTIONS)

# The costs that check holds the module to, to be committed with it.
bench-baseline: deps
	@tools/vhost-blk-test/bench/cost-gate.sh --record

htmldocs:
	sphinx-build -W -q -b html Documentation build/html

# Lines of the module that the tests execute; at least PERCENT=90 must be.
coverage: deps modules
	@tools/vhost-blk-test/coverage.sh

# Without kbuild, so that it works when the kernel it was built for is gone.
clean:
	rm -rf $(VHOST_H_DIR) build tools/qemu/build tools/vhost-blk-test/build
	find . -path ./.git -prune -o \( -name '*.o' -o -name '*.ko' -o -name '*.mod' -o \
		-name '*.mod.c' -o -name '.*.cmd' -o -name Module.symvers -o \
		-name modules.order -o -name '*.o.d' \) -exec rm -f {} +

help:
	@echo 'make                  build drivers/vhost/vhost_blk.ko (KDIR=, W=1, C=1)'
	@echo 'make demo             install what is missing, build, run a guest, print a table'
	@echo 'make check            install what is missing, build, run every test'
	@echo 'make check-long       for a release: the same tests many times over, 10 minutes of fuzzing'
	@echo 'make check-kcsan      the tests under the data race detector'
	@echo 'make coverage         lines of the module that the tests execute'
	@echo 'make check-qemu       guests on QEMU 7.2 and 10.0, stock and built from source'
	@echo 'make bench-cost       instructions per request, beside libaio, io_uring and QEMU (10 minutes)'
	@echo 'make bench-guest      fio in guests, by back end, and on the host (30 minutes; QUICK=1: 10)'
	@echo 'make bench            both'
	@echo 'make profile          instructions per request by function (OPTIONS="--depth 1")'
	@echo 'make bench-baseline   record the costs that check compares with'
	@echo 'make htmldocs         Documentation/ as HTML in build/html (python3-sphinx)'
	@echo 'make modules_install  install the module for the kernel in KDIR'
	@echo 'make install          the same, and the header, udev rule, load at boot (DESTDIR=, PREFIX=)'
	@echo 'make uninstall        remove the header, udev rule, load at boot'
	@echo 'make clean            remove everything that was built'
