// SPDX-License-Identifier: GPL-2.0-only
/*
 * Whoever ends a request on the disk's side may be overtaken: by the time it asks for
 * the request to be returned to the guest, it can have been, by a pass that saw it
 * first. Nothing is in flight any more then, but that CPU is not through with the
 * device. vtdlate stops it there; the device must not go away under it.
 */
#include <sched.h>

#include "vt_test.h"

#define IN	VIRTIO_BLK_T_IN
#define OK	VIRTIO_BLK_S_OK

/* Of vtdlate: bios are ended, are kept, are ended and hold whoever ends them. */
enum stage { END, KEEP, HOLD };

FIXTURE(overtaken) {
	struct vt_dev dev;
	struct vt_bdev disk;
	struct vt_queue *q;
	uint64_t data;
};

#define overtaken_data FIXTURE_DATA(overtaken)

/* What frees something that the CPU still needs: all, its slots, its worker. */
static int device_close(struct vt_dev *dev)
{
	int fd = dev->fd;

	dev->fd = -1;
	return close(fd) ? -errno : 0;
}

static int device_reset_owner(struct vt_dev *dev)
{
	return vt_ioctl(dev->fd, VHOST_RESET_OWNER, NULL, 0);
}

FIXTURE_VARIANT(overtaken) {
	int (*end)(struct vt_dev *dev);
};

FIXTURE_VARIANT_ADD(overtaken, close) { .end = device_close };
FIXTURE_VARIANT_ADD(overtaken, detach) { .end = vt_detach };
FIXTURE_VARIANT_ADD(overtaken, reset_owner) { .end = device_reset_owner };

static int stage_set(enum stage stage)
{
	static const char *const values[] = { "0", "1", "2" };

	return vt_write_file("/sys/module/vt_disk/parameters/late_stage", values[stage]);
}

/* The worker and this process run on the first CPU, what vtdlate ends on the last. */
static int stay_on_first_cpu(struct vt_dev *dev)
{
	struct vt_opts opts = { .features = VT_F_BASE | VT_F_EVENT_IDX };
	cpu_set_t first;
	int r, tid;

	CPU_ZERO(&first);
	CPU_SET(0, &first);
	if (sched_setaffinity(0, sizeof(first), &first))
		return -errno;
	r = vt_dev_init(dev, &opts);
	tid = vt_worker_tid();
	/* A worker that is a thread of this process stays where it was made. */
	if (!r && tid > 0 && sched_setaffinity(tid, sizeof(first), &first))
		r = -errno;
	return r;
}

FIXTURE_SETUP(overtaken)
{
	ASSERT_EQ(0, vt_test_disk_open(&self->disk, "vtdlate")) {
		TH_LOG("vt_disk.ko: `make` builds it, $VHOST_BLK_TEST_DISK names it");
	}
	ASSERT_EQ(0, stay_on_first_cpu(&self->dev));
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	self->q = &self->dev.q[0];
	self->data = vt_alloc(&self->dev.mem, 4096);
	ASSERT_EQ(0, vt_good(self->q));
}

FIXTURE_TEARDOWN(overtaken)
{
	stage_set(END);
	vt_dev_fini(&self->dev);
	EXPECT_EQ(0, vt_exclusive(&self->disk));
	vt_bdev_destroy(&self->disk);
}

static int held_wait(void)
{
	int64_t end = vt_now_ms() + vt_timeout_ms();

	while (vt_test_disk_count("late_held") != 1) {
		if (vt_now_ms() > end)
			return -ETIMEDOUT;
		usleep(1000);
	}
	return 0;
}

/*
 * End a request, with nothing in flight afterwards, so that who ended it has not yet
 * asked for that, and does in a second.
 */
static void overtake(struct __test_metadata *_metadata, overtaken_data *self)
{
	struct vt_req req = { .type = IN, .data = self->data, .len = 4096 };
	struct vhost_blk_stats stats;

	ASSERT_EQ(0, stage_set(KEEP));
	ASSERT_EQ(0, vt_req_submit(self->q, &req));
	ASSERT_EQ(0, vt_fetched_wait(self->q));
	/* This takes turns with the pass: it is over. */
	ASSERT_EQ(0, vt_ioctl(self->dev.fd, VHOST_BLK_GET_STATS, &stats, sizeof(stats)));
	ASSERT_EQ(0, stage_set(HOLD));
	ASSERT_EQ(0, held_wait());
	EXPECT_EQ(false, req.done);
	vt_kick(self->q);
	ASSERT_EQ(0, vt_req_wait(self->q, &req));
	EXPECT_EQ(OK, req.status);
	EXPECT_EQ(4097, req.used_len);
	EXPECT_EQ(0, vt_queue_idle(self->q));
	ASSERT_EQ(1, vt_test_disk_count("late_held"));
	ASSERT_EQ(0, stage_set(END));
}

/* Whatever ends the device waits until that CPU is through with it. */
TEST_F(overtaken, is_waited_for)
{
	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "there is one CPU only");
	if (!vt_test_disk_count("late_can_hold"))
		SKIP(return, "no kprobes in this kernel");
	overtake(_metadata, self);
	EXPECT_EQ(0, variant->end(&self->dev));
	EXPECT_EQ(0, vt_test_disk_count("late_held"));
	EXPECT_EQ(0, vt_event_count(self->q->err, 0));

	vt_dev_fini(&self->dev);
	ASSERT_EQ(0, stay_on_first_cpu(&self->dev));
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	EXPECT_EQ(0, vt_good(self->q));
	EXPECT_EQ(0, vt_queue_idle(self->q));
	EXPECT_EQ(0, vt_detach(&self->dev));
}

#include "vt_test_unload.h"

VT_TEST_MAIN
