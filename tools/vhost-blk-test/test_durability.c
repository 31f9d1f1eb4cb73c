// SPDX-License-Identifier: GPL-2.0-only
/* What is on the medium when, seen by the bios it gets and by cutting its power. */
#include "vt_test.h"

#define LEN	16384

FIXTURE(durable) {
	struct vt_dev dev;
	struct vt_bdev disk;
	struct vt_trace trace;
	uint64_t data;
	uint8_t *p;
};

FIXTURE_VARIANT(durable) {
	bool cache;		/* the disk has a volatile write cache */
	bool flush;		/* the driver acked FLUSH */
};

FIXTURE_VARIANT_ADD(durable, cache_flush) { .cache = true, .flush = true };
FIXTURE_VARIANT_ADD(durable, cache_noflush) { .cache = true, .flush = false };
FIXTURE_VARIANT_ADD(durable, nocache_flush) { .cache = false, .flush = true };
FIXTURE_VARIANT_ADD(durable, nocache_noflush) { .cache = false, .flush = false };

FIXTURE_SETUP(durable)
{
	struct vt_null_opts opts = { .cache_mib = variant->cache ? 32 : 0 };
	struct vt_opts dev = { .features = VT_F_BASE, .num = 1024 };

	if (!variant->flush)
		dev.features &= ~VT_F_FLUSH;
	ASSERT_EQ(0, vt_null_create(&self->disk, "vbtdurable", &opts));
	ASSERT_EQ(0, vt_dev_init(&self->dev, &dev));
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	self->data = vt_alloc(&self->dev.mem, 2 * VT_MIB);
	self->p = vt_ptr(&self->dev.mem, self->data);
	ASSERT_EQ(0, vt_trace_start(&self->trace, &self->disk));
}

FIXTURE_TEARDOWN(durable)
{
	vt_trace_stop(&self->trace);
	vt_dev_fini(&self->dev);
	vt_bdev_destroy(&self->disk);
}

/* A05, I02, I04: a plain write, one of several bios, one that is bounced */
TEST_F(durable, writes)
{
	static const struct { uint32_t len, odd; } kind[] = {
		{ 512, 0 }, { LEN, 0 }, { 2 * VT_MIB - 4096, 0 }, { LEN, 1 },
	};
	struct vt_trace_count n;

	for (unsigned int i = 0; i < ARRAY_SIZE(kind); i++) {
		ASSERT_EQ(0, vt_io(&self->dev.q[0], VIRTIO_BLK_T_OUT, 0,
				   self->data + kind[i].odd, kind[i].len));
		ASSERT_EQ(0, vt_trace_read(&self->trace, &n));
		EXPECT_LE(1, n.writes);
		EXPECT_EQ(0, n.reads);
		/* stable by FUA or by a flush after it; nothing of the kind for nothing */
		if (variant->cache && !variant->flush)
			EXPECT_EQ(true, n.fua_writes == n.writes || n.first_flush > n.last_write);
		if (!variant->cache || variant->flush)
			EXPECT_EQ(0, n.fua_writes + n.flushes);
	}
}

TEST_F(durable, reads)
{
	struct vt_trace_count n;

	ASSERT_EQ(0, vt_io(&self->dev.q[0], VIRTIO_BLK_T_IN, 0, self->data, LEN));
	ASSERT_EQ(0, vt_trace_read(&self->trace, &n));
	EXPECT_LE(1, n.reads);
	EXPECT_EQ(0, n.writes + n.flushes + n.fua_writes);
}

/* A05, I03: a flush reaches a disk with a cache, after what it is to make stable */
TEST_F(durable, flush)
{
	struct vt_queue *q = &self->dev.q[0];
	struct vt_trace_count n;

	if (!variant->flush) {
		ASSERT_EQ(VIRTIO_BLK_S_UNSUPP, vt_io(q, VIRTIO_BLK_T_FLUSH, 0, 0, 0));
		ASSERT_EQ(0, vt_trace_read(&self->trace, &n));
		EXPECT_EQ(0, n.flushes);
		return;
	}
	ASSERT_EQ(0, vt_io(q, VIRTIO_BLK_T_OUT, 0, self->data, LEN));
	ASSERT_EQ(0, vt_io(q, VIRTIO_BLK_T_OUT, 64, self->data, LEN));
	ASSERT_EQ(0, vt_io(q, VIRTIO_BLK_T_FLUSH, 0, 0, 0));
	ASSERT_EQ(0, vt_trace_read(&self->trace, &n));
	EXPECT_EQ(2, n.writes);
	EXPECT_EQ(variant->cache ? 1 : 0, n.flushes);
	if (variant->cache)
		EXPECT_GT(n.first_flush, n.last_write);

	/* each its own; what comes later is not held back or turned round */
	ASSERT_EQ(0, vt_io(q, VIRTIO_BLK_T_FLUSH, 0, 0, 0));
	ASSERT_EQ(0, vt_io(q, VIRTIO_BLK_T_OUT, 0, self->data, LEN));
	ASSERT_EQ(0, vt_io(q, VIRTIO_BLK_T_FLUSH, 0, 0, 0));
	ASSERT_EQ(0, vt_trace_read(&self->trace, &n));
	EXPECT_EQ(1, n.writes);
	EXPECT_EQ(variant->cache ? 2 : 0, n.flushes);
}

/* I01, I02: what the driver was promised survives a power cut */
TEST_F(durable, power_cut)
{
	struct vt_queue *q = &self->dev.q[0];

	vt_fill(self->p, LEN, 1, 0);
	ASSERT_EQ(0, vt_io(q, VIRTIO_BLK_T_OUT, 0, self->data, LEN));
	if (variant->flush) {
		ASSERT_EQ(0, vt_io(q, VIRTIO_BLK_T_FLUSH, 0, 0, 0));
		/* nothing was promised for this one */
		vt_fill(self->p, LEN, 2, 1024);
		ASSERT_EQ(0, vt_io(q, VIRTIO_BLK_T_OUT, 1024, self->data, LEN));
	}
	vt_trace_stop(&self->trace);
	ASSERT_EQ(0, vt_detach(&self->dev));
	ASSERT_EQ(0, vt_null_power_cycle(&self->disk));
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	memset(self->p, 0, LEN);
	ASSERT_EQ(0, vt_io(q, VIRTIO_BLK_T_IN, 0, self->data, LEN));
	EXPECT_EQ(-1, vt_check(self->p, LEN, 1, 0));
	if (!variant->flush || !variant->cache)
		return;
	/* the disk does forget: without this the test would show nothing */
	ASSERT_EQ(0, vt_io(q, VIRTIO_BLK_T_IN, 1024, self->data, LEN));
	EXPECT_NE(-1, vt_check(self->p, LEN, 2, 1024));
}

VT_TEST_MAIN
