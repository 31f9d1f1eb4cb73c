// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the guest is told when the block layer says why a request failed, and
 * which of several errors of one request it is told.
 */
#include <linux/loop.h>

#include "vt_test.h"

#define IN	VIRTIO_BLK_T_IN
#define OUT	VIRTIO_BLK_T_OUT
#define OK	VIRTIO_BLK_S_OK
#define IOERR	VIRTIO_BLK_S_IOERR
#define UNSUPP	VIRTIO_BLK_S_UNSUPP

FIXTURE(status) {
	struct vt_dev dev;
	struct vt_bdev disk;
	struct vt_errdisk err;
	struct vt_queue *q;
	uint64_t data;		/* 4 MiB */
	int ready;		/* 0, or why there is no such disk */
};

#define status_data FIXTURE_DATA(status)

FIXTURE_SETUP(status)
{
	ASSERT_EQ(0, vt_dev_init(&self->dev, &(struct vt_opts) {}));
	self->q = &self->dev.q[0];
	self->data = vt_alloc(&self->dev.mem, 4 * VT_MIB + 4096);
	self->ready = vt_errdisk_create(&self->err, &self->disk, 8 * VT_MIB);
	if (self->ready != -ENOENT)
		ASSERT_EQ(0, self->ready);
	if (!self->ready)
		ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
}

FIXTURE_TEARDOWN(status)
{
	EXPECT_EQ(0, vt_queue_idle(self->q));
	EXPECT_EQ(0, vt_detach(&self->dev));
	vt_dev_fini(&self->dev);
	vt_bdev_destroy(&self->disk);
	vt_errdisk_destroy(&self->err);
}

static void fail_at(status_data *self, int i, uint64_t from, uint64_t to, int err)
{
	self->err.range[i].from = from;
	self->err.range[i].to = to;
	self->err.range[i].err = err;
}

/* H03: one status of the block layer after the other */
TEST_F(status, map)
{
	static const struct { int err; uint8_t status; } map[] = {
		{ -EOPNOTSUPP, UNSUPP },	/* NOTSUPP */
		{ -EIO, IOERR },
		{ -ETIMEDOUT, IOERR },		/* TIMEOUT */
		{ -ENOSPC, IOERR },		/* NOSPC */
		{ -ENOLINK, IOERR },		/* TRANSPORT */
		{ -EREMOTEIO, IOERR },		/* TARGET */
		{ -EBADE, IOERR },		/* RESV_CONFLICT, once NEXUS */
		{ -ENODATA, IOERR },		/* MEDIUM */
		{ -EILSEQ, IOERR },		/* PROTECTION */
	};

	if (self->ready)
		SKIP(return, "no FUSE in this kernel");
	for (unsigned int i = 0; i < ARRAY_SIZE(map); i++) {
		fail_at(self, 0, 0, VT_MIB, map[i].err);
		for (unsigned int type = IN; type <= OUT; type++) {
			uint8_t want = map[i].status;

			EXPECT_EQ(want, vt_io(self->q, type, 64, self->data, 4096)) {
				TH_LOG("type %u: %s", type, strerror(-map[i].err));
			}
			/* bounced; then the first bio of four */
			EXPECT_EQ(want, vt_io(self->q, type, 64, self->data + 1, 65536));
			EXPECT_EQ(want, vt_io(self->q, type, 0, self->data, 4 * VT_MIB));
			EXPECT_EQ(OK, vt_io(self->q, type, 4096, self->data, 4096));
		}
		fail_at(self, 0, 0, 0, 0);
		EXPECT_EQ(0, vt_good(self->q));
	}
}

/* H02: the loop device works through bios in their order; the first error is told */
TEST_F(status, first_error)
{
	if (self->ready)
		SKIP(return, "no FUSE in this kernel");
	for (unsigned int type = IN; type <= OUT; type++) {
		fail_at(self, 0, VT_MIB, 2 * VT_MIB, -EOPNOTSUPP);
		fail_at(self, 1, 2 * VT_MIB, 4 * VT_MIB, -EIO);
		EXPECT_EQ(UNSUPP, vt_io(self->q, type, 0, self->data, 4 * VT_MIB));
		fail_at(self, 0, VT_MIB, 2 * VT_MIB, -EIO);
		fail_at(self, 1, 2 * VT_MIB, 4 * VT_MIB, -EOPNOTSUPP);
		EXPECT_EQ(IOERR, vt_io(self->q, type, 0, self->data, 4 * VT_MIB));
		fail_at(self, 0, 0, 0, 0);
		EXPECT_EQ(UNSUPP, vt_io(self->q, type, 0, self->data, 4 * VT_MIB));
		fail_at(self, 1, 0, 0, 0);
		EXPECT_EQ(OK, vt_io(self->q, type, 0, self->data, 4 * VT_MIB));
	}
	EXPECT_EQ(0, vt_good(self->q));
}

/* H03: the server of the disk dies; what comes then fails, and the detach is fine */
TEST_F(status, server_gone)
{
	if (self->ready)
		SKIP(return, "no FUSE in this kernel");
	EXPECT_EQ(0, vt_good(self->q));
	ASSERT_EQ(0, kill(self->err.server, SIGKILL));
	ASSERT_EQ(self->err.server, waitpid(self->err.server, NULL, 0));
	self->err.server = 0;
	EXPECT_EQ(IOERR, vt_io(self->q, IN, 64, self->data, 4096));
	EXPECT_EQ(IOERR, vt_io(self->q, OUT, 0, self->data, 4 * VT_MIB));
}

VT_TEST_MAIN
