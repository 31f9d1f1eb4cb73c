// SPDX-License-Identifier: GPL-2.0-only
/* What is on the medium when, seen by the bios it gets and by cutting its power. */
#include "ledger.h"
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

/* ---- writes in flight ---- */

#define NR_HELD		8

FIXTURE(held) {
	struct vt_dev dev;
	struct vt_bdev disk;
	struct vt_bdev delay;	/* holds writes until told to let them go */
	struct vt_trace trace;	/* of the disk below */
	struct vt_req write[NR_HELD];
	struct vt_queue *q;
};

FIXTURE_SETUP(held)
{
	struct vt_null_opts null = { .cache_mib = 32 };
	int r;

	self->delay.fd = -1;
	self->dev.fd = -1;
	ASSERT_EQ(0, vt_null_create(&self->disk, "vbtdurable", &null));
	r = vt_delay_create(&self->delay, "vbtdelay", &self->disk, (struct vt_delay) {
		.write = 10 * vt_timeout_ms(),
	});
	if (r == -ENOENT)
		SKIP(return, "no dmsetup here");
	ASSERT_EQ(0, r);
	ASSERT_EQ(0, vt_dev_init(&self->dev, &(struct vt_opts) {
				 .features = VT_F_BASE | VT_F_EVENT_IDX,
			     }));
	ASSERT_EQ(0, vt_attach(&self->dev, self->delay.fd));
	self->q = &self->dev.q[0];
	ASSERT_EQ(0, vt_trace_start(&self->trace, &self->disk));
	for (unsigned int i = 0; i < NR_HELD; i++)
		self->write[i] = (struct vt_req) {
			.type = VIRTIO_BLK_T_OUT, .sector = 64 * i, .len = LEN,
			.data = vt_alloc(&self->dev.mem, LEN),
		};
}

FIXTURE_TEARDOWN(held)
{
	vt_trace_stop(&self->trace);
	vt_dev_fini(&self->dev);
	vt_bdev_destroy(&self->delay);
	vt_bdev_destroy(&self->disk);
}

/* I03: a flush does not wait for writes in flight, and each is acknowledged once */
TEST_F(held, flush_overtakes)
{
	struct vt_trace_count n;

	for (unsigned int i = 0; i < NR_HELD; i++)
		ASSERT_EQ(0, vt_req_submit(self->q, &self->write[i]));
	ASSERT_EQ(0, vt_fetched_wait(self->q));
	for (unsigned int i = 1; i <= 3; i++) {
		ASSERT_EQ(0, vt_io(self->q, VIRTIO_BLK_T_FLUSH, 0, 0, 0));
		ASSERT_EQ(0, vt_trace_read(&self->trace, &n));
		EXPECT_EQ(1, n.flushes);
		EXPECT_EQ(0, n.writes);
	}
	EXPECT_EQ(NR_HELD, self->q->inflight);
	/* A new table lets go what the old one holds. */
	ASSERT_EQ(0, vt_delay_set(&self->delay, &self->disk, (struct vt_delay) {}));
	for (unsigned int i = 0; i < NR_HELD; i++) {
		ASSERT_EQ(0, vt_req_wait(self->q, &self->write[i]));
		EXPECT_EQ(VIRTIO_BLK_S_OK, self->write[i].status);
		EXPECT_EQ(1, self->write[i].used_len);
	}
	ASSERT_EQ(0, vt_trace_read(&self->trace, &n));
	EXPECT_EQ(NR_HELD, n.writes);
	EXPECT_EQ(0, n.flushes);
	EXPECT_EQ(0, vt_queue_idle(self->q));
	EXPECT_EQ(0, vt_good(self->q));
	EXPECT_EQ(0, vt_detach(&self->dev));
}

/* I03: completed writes, flush, later writes: the disk sees them in this order */
TEST_F(held, order)
{
	struct vt_trace_count n;

	ASSERT_EQ(0, vt_delay_set(&self->delay, &self->disk, (struct vt_delay) {}));
	for (unsigned int round = 0; round < 8; round++) {
		for (unsigned int i = 0; i < NR_HELD; i++) {
			if (i == round)
				ASSERT_EQ(0, vt_wait_all(self->q));
			if (i == round)
				ASSERT_EQ(0, vt_io(self->q, VIRTIO_BLK_T_FLUSH, 0, 0, 0));
			ASSERT_EQ(0, vt_req_submit(self->q, &self->write[i]));
		}
		ASSERT_EQ(0, vt_wait_all(self->q));
		ASSERT_EQ(0, vt_trace_read(&self->trace, &n));
		EXPECT_EQ(NR_HELD, n.writes);
		EXPECT_EQ(1, n.flushes);
		EXPECT_EQ(round + 1, n.first_flush);
		EXPECT_EQ(NR_HELD + 1, n.last_write);
	}
	EXPECT_EQ(0, vt_queue_idle(self->q));
	EXPECT_EQ(0, vt_detach(&self->dev));
}

/* ---- power cuts under load ---- */

#define AREA		(16 * VT_MIB)
#define MAX_WRITES	4000

FIXTURE(cut) {
	struct vt_dev dev;
	struct vt_bdev disk;
	struct vt_ledger ledger;
	struct vt_writer writer;
	unsigned int lost;	/* blocks of which a completed write was lost */
};

FIXTURE_VARIANT(cut) {
	bool cache, flush;	/* as of durable */
	unsigned int lbs;
};

FIXTURE_VARIANT_ADD(cut, cache_flush_512) { .cache = true, .flush = true, .lbs = 512 };
FIXTURE_VARIANT_ADD(cut, cache_flush_4096) { .cache = true, .flush = true, .lbs = 4096 };
FIXTURE_VARIANT_ADD(cut, cache_noflush) { .cache = true, .flush = false, .lbs = 512 };
FIXTURE_VARIANT_ADD(cut, nocache_flush) { .cache = false, .flush = true, .lbs = 512 };

FIXTURE_SETUP(cut)
{
	struct vt_opts opts = { .features = VT_F_BASE, .num = 1024, .nr_queues = 2 };

	if (!variant->flush)
		opts.features &= ~VT_F_FLUSH;
	self->disk.fd = -1;
	ASSERT_EQ(0, vt_dev_init(&self->dev, &opts));
	self->writer.dev = &self->dev;
	self->writer.ledger = &self->ledger;
	self->writer.nr_flushes = variant->flush ? VT_WRITER_FLUSHES : 0;
	self->writer.hot_units = AREA / variant->lbs / 16;
	vt_writer_init(&self->writer);
}

FIXTURE_TEARDOWN(cut)
{
	vt_ledger_fini(&self->ledger);
	vt_dev_fini(&self->dev);
	vt_bdev_destroy(&self->disk);
}

static void *power_off(void *arg)
{
	struct vt_bdev *disk = arg;

	return (void *)(intptr_t)vt_null_attr(disk->name, "power", "0");
}

/* Load the disk, cut its power after @steps of it; what is under way fails. */
static int load_until_cut(struct vt_writer *w, struct vt_bdev *disk, unsigned int steps)
{
	pthread_t thread = 0;
	void *ret = NULL;
	int r = 0;

	for (unsigned int i = 0; !r && !w->nr_failed; i++) {
		if (i == steps)
			r = -pthread_create(&thread, NULL, power_off, disk);
		if (w->ledger->nr_writes + VT_WRITER_WRITES > MAX_WRITES)
			r = -ETIMEDOUT;
		r = r ?: vt_writer_issue(w);
		r = r ?: vt_writer_reap(w);
	}
	r = r ?: vt_writer_drain(w);
	if (thread)
		pthread_join(thread, &ret);
	return r ?: (int)(intptr_t)ret;
}

/* I01, I02: whatever was in flight, what was promised is there */
TEST_F_TIMEOUT(cut, under_load, 3600)
{
	struct vt_writer *w = &self->writer;
	struct vt_ledger *l = &self->ledger;
	/* Nothing leaves the cache by itself: it holds the whole area. */
	struct vt_null_opts null = {
		.cache_mib = variant->cache ? 32 : 0, .lbs = variant->lbs,
		.delay_ns = 500 * 1000,
	};

	for (unsigned int i = 0; i < vt_loops(5); i++) {
		/* A new one: null_blk caches only what was never on its medium. */
		ASSERT_EQ(0, vt_null_create(&self->disk, "vbtcut", &null));
		ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
		ASSERT_EQ(0, vt_ledger_init(l, AREA / variant->lbs, variant->lbs, MAX_WRITES,
					    !variant->flush || !variant->cache));
		w->random = i;
		/* Often, to have much that must not be lost, and seldom, to lose some. */
		w->flush_odds = i % 2 ? 6 : 60;
		w->nr_failed = 0;
		ASSERT_EQ(0, load_until_cut(w, &self->disk, 1 + i * 7 % 40));
		for (unsigned int q = 0; q < self->dev.nr_queues; q++)
			ASSERT_EQ(0, vt_queue_idle(&self->dev.q[q]));
		ASSERT_EQ(0, vt_detach(&self->dev));
		/* From now on there is no delay any more. */
		ASSERT_EQ(0, vt_null_attr(self->disk.name, "irqmode", "1"));
		ASSERT_EQ(0, vt_null_power_cycle(&self->disk));
		EXPECT_EQ(0, vt_ledger_check_disk(l, self->disk.path));
		/* And if every completed write had been promised? */
		vt_ledger_flush_end(l, vt_ledger_flush(l));
		self->lost += vt_ledger_check_disk(l, self->disk.path);
		vt_ledger_fini(l);
		ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
		EXPECT_EQ(0, vt_good(&self->dev.q[0]));
		EXPECT_EQ(0, vt_detach(&self->dev));
		vt_bdev_destroy(&self->disk);
	}
	/* the disk does forget, if it has something to forget */
	EXPECT_EQ(variant->cache && variant->flush, self->lost > 0);
}

VT_TEST_MAIN
