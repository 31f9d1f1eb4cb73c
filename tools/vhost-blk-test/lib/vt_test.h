/* SPDX-License-Identifier: GPL-2.0-only */
/* What every kselftest program here starts with, and its main(). */
#ifndef VT_TEST_H
#define VT_TEST_H

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <linux/fs.h>

#include "kselftest_harness.h"
#include "vt.h"

/*
 * The harness ends a test after 30 s, which an emulated kernel with sanitizers can
 * need just to make a few disks. Every wait of the tests has a deadline of its own.
 */
#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT 300

/*
 * Disks that all tests of a program share. They are made once: a test may rely
 * on nothing that is stored on them, and leaves them attached to nothing.
 */
static struct vt_bdev vt_disk;		/* 512 byte blocks, 64 MiB */
static struct vt_bdev vt_disk_4k;	/* 4096 byte blocks, 64 MiB */

static inline void vt_disks_destroy(void)
{
	vt_bdev_destroy(&vt_disk);
	vt_bdev_destroy(&vt_disk_4k);
}

static inline void vt_disk_must(struct vt_bdev *disk, const char *name,
				const struct vt_null_opts *opts)
{
	int r = vt_null_create(disk, name, opts);

	if (r)
		ksft_exit_fail_msg("null_blk disk %s: %s; null_blk and root are needed\n",
				   name, strerror(-r));
}

/* A disk of this kind, where the kernel has it; for the test's own function. */
#define VT_STACK_OR_SKIP(stack, kind) do {				\
	struct vt_stack *vt_s = (stack);				\
	int vt_r = vt_stack_create(vt_s, kind);				\
									\
	if (vt_r == -EOPNOTSUPP)					\
		SKIP(return, "%s", vt_s->lacks);			\
	ASSERT_EQ(0, vt_r);						\
} while (0)

/* Every one of @n loads gets on, after whatever was changed. */
static inline void vt_loads_go_on(struct __test_metadata *_metadata, struct vt_load *load,
				  unsigned int n, unsigned int nr)
{
	for (unsigned int i = 0; i < n; i++) {
		ASSERT_EQ(0, vt_load_more(&load[i], nr)) {
			TH_LOG("%s", load[i].what);
		}
	}
}

/* They end well, and their queues are fine. */
static inline void vt_loads_stop(struct __test_metadata *_metadata, struct vt_load *load,
				 unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		EXPECT_EQ(0, vt_load_stop(&load[i])) {
			TH_LOG("%s", load[i].what);
		}
		vt_load_free(&load[i]);
		EXPECT_EQ(0, vt_good(load[i].q));
	}
}

#define VT_TEST_MAIN							\
int main(int argc, char **argv)						\
{									\
	if (access(VT_DEV, R_OK | W_OK)) {				\
		ksft_print_header();					\
		ksft_exit_fail_msg("%s: %s; load vhost_blk.ko and be root\n", \
				   VT_DEV, strerror(errno));		\
	}								\
	vt_disk_must(&vt_disk, "vbt512", &(struct vt_null_opts) { .nr_queues = 2 }); \
	vt_disk_must(&vt_disk_4k, "vbt4k", &(struct vt_null_opts) { .lbs = 4096 }); \
	atexit(vt_disks_destroy);					\
	return test_harness_run(argc, argv);				\
}

#endif /* VT_TEST_H */
