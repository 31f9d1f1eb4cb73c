// SPDX-License-Identifier: GPL-2.0-only
/*
 * Disks that fail, go away or change their size while they are attached: the
 * guest gets the right status byte, the first error counts, the next request
 * and the detach are fine.
 */
#include <linux/loop.h>

#include "vt_test.h"

#define IN	VIRTIO_BLK_T_IN
#define OUT	VIRTIO_BLK_T_OUT
#define OK	VIRTIO_BLK_S_OK
#define IOERR	VIRTIO_BLK_S_IOERR

FIXTURE(faults) {
	struct vt_dev dev;
	struct vt_bdev disk;	/* made by the test */
	struct vt_bdev over;	/* what lies over it, if anything */
	struct vt_queue *q;
	uint64_t data;		/* 4 MiB */
};

FIXTURE_SETUP(faults)
{
	self->disk.fd = -1;
	self->over.fd = -1;
	ASSERT_EQ(0, vt_dev_init(&self->dev, &(struct vt_opts) {}));
	self->q = &self->dev.q[0];
	self->data = vt_alloc_in(&self->dev.mem, 1, 4 * VT_MIB, 4096);
}

FIXTURE_TEARDOWN(faults)
{
	EXPECT_EQ(0, vt_queue_idle(self->q));
	EXPECT_EQ(0, vt_detach(&self->dev));
	vt_dev_fini(&self->dev);
	vt_bdev_destroy(&self->over);
	vt_bdev_destroy(&self->disk);
}

static int null_attr(const char *name, const char *attr, const char *value)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/kernel/config/nullb/%s/%s", name, attr);
	return vt_write_file(path, value);
}

/* H01: some sectors are bad; a request that touches them fails, others do not */
TEST_F(faults, bad_sectors)
{
	ASSERT_EQ(0, vt_null_create(&self->disk, "vbtbad", &(struct vt_null_opts) {}));
	ASSERT_EQ(0, null_attr("vbtbad", "badblocks", "+100-107"));
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	for (int i = 0; i < 2; i++) {
		uint32_t type = i ? IN : OUT;

		EXPECT_EQ(OK, vt_io(self->q, type, 92, self->data, 4096));
		EXPECT_EQ(IOERR, vt_io(self->q, type, 100, self->data, 4096));
		EXPECT_EQ(IOERR, vt_io(self->q, type, 93, self->data, 4096));
		EXPECT_EQ(OK, vt_io(self->q, type, 108, self->data, 4096));
		/* bounced */
		EXPECT_EQ(IOERR, vt_io(self->q, type, 100, self->data + 1, 4096));
	}
	ASSERT_EQ(0, null_attr("vbtbad", "badblocks", "-100-107"));
	EXPECT_EQ(OK, vt_io(self->q, IN, 100, self->data, 4096));
}

/* H02: any of the bios of a large request fails, the last one too */
TEST_F(faults, one_bio_of_many)
{
	static const char *const bad[] = { "0-0", "1000-1000", "3000-3000", "8191-8191" };
	char text[32];

	ASSERT_EQ(0, vt_null_create(&self->disk, "vbtbad", &(struct vt_null_opts) {}));
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		snprintf(text, sizeof(text), "+%s", bad[i]);
		ASSERT_EQ(0, null_attr("vbtbad", "badblocks", text));
		EXPECT_EQ(IOERR, vt_io(self->q, OUT, 0, self->data, 4 * VT_MIB));
		EXPECT_EQ(IOERR, vt_io(self->q, IN, 0, self->data, 4 * VT_MIB));
		snprintf(text, sizeof(text), "-%s", bad[i]);
		ASSERT_EQ(0, null_attr("vbtbad", "badblocks", text));
		EXPECT_EQ(OK, vt_io(self->q, IN, 0, self->data, 4 * VT_MIB));
	}
}

/* H01, H07: a disk that fails everything, flushes included, and recovers */
TEST_F(faults, dm_error)
{
	static const char error[] = "0 65536 error";
	char linear[128];
	int r;

	ASSERT_EQ(0, vt_null_create(&self->disk, "vbtlow",
				    &(struct vt_null_opts) { .cache_mib = 8 }));
	snprintf(linear, sizeof(linear), "0 65536 linear %s 0", self->disk.path);
	r = vt_dm_create(&self->over, "vbterror", linear);
	if (r == -ENOENT)
		SKIP(return, "no dmsetup here");
	ASSERT_EQ(0, r);
	ASSERT_EQ(0, vt_attach(&self->dev, self->over.fd));
	EXPECT_EQ(OK, vt_io(self->q, VIRTIO_BLK_T_FLUSH, 0, 0, 0));
	ASSERT_EQ(0, vt_dm_reload(&self->over, error));
	EXPECT_EQ(IOERR, vt_io(self->q, OUT, 0, self->data, 4096));
	EXPECT_EQ(IOERR, vt_io(self->q, IN, 0, self->data, 4 * VT_MIB));
	EXPECT_EQ(IOERR, vt_io(self->q, IN, 0, self->data + 1, 65536));
	ASSERT_EQ(0, vt_dm_reload(&self->over, linear));
	EXPECT_EQ(0, vt_good(self->q));
	EXPECT_EQ(OK, vt_io(self->q, VIRTIO_BLK_T_FLUSH, 0, 0, 0));
}

/* G10: the disk is removed with requests in flight; they and later ones end */
TEST_F(faults, removed)
{
	struct vt_null_opts opts = { .delay_ns = 300 * 1000 * 1000 };
	struct vt_req req[16];

	ASSERT_EQ(0, vt_null_create(&self->disk, "vbtgone", &opts));
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	for (unsigned int i = 0; i < ARRAY_SIZE(req); i++) {
		req[i] = (struct vt_req) {
			.type = i % 2 ? IN : OUT, .sector = 2048 * i, .data = self->data,
			.len = i % 3 ? 4096 : 2 * VT_MIB,
		};
		ASSERT_EQ(0, vt_req_submit(self->q, &req[i]));
	}
	ASSERT_EQ(0, vt_inflight_wait(&self->disk, 1));
	ASSERT_EQ(0, null_attr("vbtgone", "power", "0"));
	for (unsigned int i = 0; i < ARRAY_SIZE(req); i++) {
		ASSERT_EQ(0, vt_req_wait(self->q, &req[i]));
		EXPECT_EQ(true, req[i].status == OK || req[i].status == IOERR);
	}
	EXPECT_EQ(IOERR, vt_io(self->q, IN, 0, self->data, 4096));
	EXPECT_EQ(IOERR, vt_io(self->q, OUT, 0, self->data, 4096));
	EXPECT_EQ(0, vt_detach(&self->dev));
}

static int loop_limit(int fd, uint64_t bytes)
{
	struct loop_info64 info;

	if (ioctl(fd, LOOP_GET_STATUS64, &info))
		return -errno;
	info.lo_sizelimit = bytes;
	return ioctl(fd, LOOP_SET_STATUS64, &info) ? -errno : 0;
}

/* G11: the disk shrinks and grows; the bound of a request follows at once */
TEST_F(faults, resized)
{
	ASSERT_EQ(0, vt_loop_create(&self->disk, 8 * VT_MIB, 512));
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	EXPECT_EQ(OK, vt_io(self->q, OUT, 16376, self->data, 4096));
	EXPECT_EQ(IOERR, vt_io(self->q, OUT, 16384, self->data, 4096));

	ASSERT_EQ(0, loop_limit(self->disk.fd, 4 * VT_MIB));
	EXPECT_EQ(IOERR, vt_io(self->q, OUT, 16376, self->data, 4096));
	EXPECT_EQ(IOERR, vt_io(self->q, IN, 8192, self->data, 512));
	EXPECT_EQ(OK, vt_io(self->q, OUT, 8184, self->data, 4096));

	ASSERT_EQ(0, loop_limit(self->disk.fd, 0));
	EXPECT_EQ(OK, vt_io(self->q, IN, 16376, self->data, 4096));
	EXPECT_EQ(IOERR, vt_io(self->q, IN, 16384, self->data, 512));
}

VT_TEST_MAIN
