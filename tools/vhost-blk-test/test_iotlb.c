// SPDX-License-Identifier: GPL-2.0-only
/*
 * A device behind an IOMMU (VIRTIO_F_ACCESS_PLATFORM, K12): rings and descriptors
 * hold addresses that the device has to ask about. The address that the driver
 * uses, the one in guest memory and the one in the VMM all differ here.
 */
#include "vt_test.h"

#define IN		VIRTIO_BLK_T_IN
#define OUT		VIRTIO_BLK_T_OUT
#define OK		VIRTIO_BLK_S_OK
#define PAGE		4096U
#define FEATURES	(VT_F_BASE | VT_F_EVENT_IDX | VT_F(VIRTIO_F_ACCESS_PLATFORM))

FIXTURE(iotlb) {
	struct vt_dev dev;
	struct vt_bdev delay;
	struct vt_iotlb iotlb;
	struct vt_log log;
	struct vt_queue *q;
	uint64_t data;		/* 4 MiB */
	uint8_t *p;
};

#define iotlb_data FIXTURE_DATA(iotlb)

FIXTURE_VARIANT(iotlb) {
	uint64_t piece;
	bool indirect;
};

FIXTURE_VARIANT_ADD(iotlb, pages) { .piece = PAGE };
FIXTURE_VARIANT_ADD(iotlb, large) { .piece = 1 << 20, .indirect = true };

FIXTURE_SETUP(iotlb)
{
	struct vt_opts opts = {
		.features = FEATURES, .indirect = variant->indirect, .nr_queues = 2,
	};

	self->delay.fd = -1;
	ASSERT_EQ(0, vt_dev_init(&self->dev, &opts));
	self->q = &self->dev.q[0];
	self->data = vt_alloc(&self->dev.mem, 4 * VT_MIB + PAGE);
	self->p = vt_ptr(&self->dev.mem, self->data);
	self->iotlb.piece = variant->piece;
	ASSERT_EQ(0, vt_iotlb_start(&self->iotlb, &self->dev));
	ASSERT_EQ(0, vt_iotlb_prefetch(&self->iotlb));
	ASSERT_EQ(0, vt_attach(&self->dev, vt_disk.fd));
}

FIXTURE_TEARDOWN(iotlb)
{
	if (self->dev.fd >= 0) {
		EXPECT_EQ(0, vt_good(self->q));
		EXPECT_EQ(0, vt_queue_idle(self->q));
		EXPECT_EQ(0, vt_detach(&self->dev));
	}
	EXPECT_EQ(0, self->iotlb.error);
	vt_iotlb_stop(&self->iotlb);
	vt_dev_fini(&self->dev);
	vt_log_fini(&self->log);
	vt_bdev_destroy(&self->delay);
}

static int invalidate(iotlb_data *self, uint64_t iova, uint64_t size)
{
	struct vt_iotlb_map map = { .iova = iova, .size = size };

	return vt_iotlb_send(&self->dev, VHOST_IOTLB_INVALIDATE, &map);
}

/* Map @nr pages from @iova on to the pages of @gpa in reverse order. */
static void map_reversed(iotlb_data *self, uint64_t iova, uint64_t gpa, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++)
		self->iotlb.map[self->iotlb.nr_maps++] = (struct vt_iotlb_map) {
			iova + i * PAGE, PAGE,
			vt_dev_ptr(&self->dev.mem, gpa + (nr - 1 - i) * PAGE), VHOST_ACCESS_RW,
		};
}

/* All lengths and alignments, each page asked for when it is needed */
TEST_F(iotlb, serves)
{
	/* page by page it would take long */
	const uint32_t len[] = {
		512, 4096, 65536, variant->piece == PAGE ? VT_MIB / 2 : 4 * VT_MIB,
	};
	unsigned int before = self->iotlb.nr_misses;

	for (unsigned int i = 0; i < ARRAY_SIZE(len); i++)
		for (unsigned int odd = 0; odd < 2; odd++) {
			vt_fill(self->p + odd, len[i], 10 + i + odd, 64);
			ASSERT_EQ(OK, vt_io(self->q, OUT, 64, self->data + odd, len[i]));
			memset(self->p, 0, len[i] + 1);
			ASSERT_EQ(OK, vt_io(self->q, IN, 64, self->data + odd, len[i]));
			EXPECT_EQ(-1, vt_check(self->p + odd, len[i], 10 + i + odd, 64));
		}
	EXPECT_LT(before, self->iotlb.nr_misses);
	EXPECT_EQ(OK, vt_io(self->q, VIRTIO_BLK_T_FLUSH, 0, 0, 0));
	EXPECT_EQ(OK, vt_io(self->q, VIRTIO_BLK_T_GET_ID, 0, self->data + PAGE - 7, 20));
	EXPECT_EQ(0, vt_good(&self->dev.q[1]));
}

/* What is one piece to the driver lies scattered in memory. */
TEST_F(iotlb, scattered)
{
	const unsigned int nr = VT_IOTLB_MAPS;
	uint64_t iova = vt_hole(&self->dev.mem);
	unsigned int before = self->iotlb.nr_misses;

	map_reversed(self, iova, self->data, nr);
	for (unsigned int i = 0; i < nr; i++)
		vt_fill(self->p + (nr - 1 - i) * PAGE, PAGE, 5, 1024 + i * 8);
	ASSERT_EQ(OK, vt_io(self->q, OUT, 1024, iova, nr * PAGE));
	EXPECT_LE(before + nr, self->iotlb.nr_misses);
	memset(self->p, 0, nr * PAGE);
	ASSERT_EQ(OK, vt_io(self->q, IN, 1024, self->data + VT_MIB, nr * PAGE));
	EXPECT_EQ(-1, vt_check(self->p + VT_MIB, nr * PAGE, 5, 1024));
	before = self->iotlb.nr_misses;
	ASSERT_EQ(OK, vt_io(self->q, IN, 1024, iova, nr * PAGE));
	EXPECT_EQ(before, self->iotlb.nr_misses);
	for (unsigned int i = 0; i < nr; i++)
		EXPECT_EQ(-1, vt_check(self->p + (nr - 1 - i) * PAGE, PAGE, 5, 1024 + i * 8));
	/* as the driver sees it, from the middle of one page to the middle of the last */
	ASSERT_EQ(OK, vt_io(self->q, IN, 0, iova + 100, (nr - 1) * PAGE));
}

/* What was unmapped is asked for again, and what it is mapped to then counts. */
TEST_F(iotlb, invalidated)
{
	uint64_t iova = vt_hole(&self->dev.mem);
	struct vt_iotlb_map *map = &self->iotlb.map[0];

	ASSERT_EQ(0, vt_good(self->q));	/* all that is to be known but this page */
	map_reversed(self, iova, self->data, 1);
	for (unsigned int i = 0; i < vt_loops(20); i++) {
		unsigned int page = i % 8, before = self->iotlb.nr_misses;

		map->to = vt_dev_ptr(&self->dev.mem, self->data + page * PAGE);
		ASSERT_EQ(0, invalidate(self, iova, PAGE));
		memset(self->p, 0x11, 8 * PAGE);
		vt_fill(self->p + page * PAGE, PAGE, i, 8);
		ASSERT_EQ(OK, vt_io(self->q, OUT, 8, iova, PAGE));
		EXPECT_EQ(before + 1, self->iotlb.nr_misses);
		memset(self->p + page * PAGE, 0, PAGE);
		ASSERT_EQ(OK, vt_io(self->q, IN, 8, iova, PAGE));
		for (unsigned int k = 0; k < 8; k++)
			EXPECT_EQ(-1, k == page ? vt_check(self->p + k * PAGE, PAGE, i, 8) :
				  vt_check_byte(self->p + k * PAGE, PAGE, 0x11));
	}
	/* everything at once, the rings as well */
	ASSERT_EQ(0, invalidate(self, 0, UINT64_MAX));
	EXPECT_EQ(0, vt_good(self->q));
	EXPECT_EQ(0, vt_good(&self->dev.q[1]));
}

/* A ring that is not known yet: an attach says so, and does well once it is */
TEST_F(iotlb, rings_unknown)
{
	unsigned int before = self->iotlb.nr_misses;
	int r;

	ASSERT_EQ(0, vt_detach(&self->dev));
	ASSERT_EQ(0, invalidate(self, 0, UINT64_MAX));
	__atomic_store_n(&self->iotlb.mute, true, __ATOMIC_RELEASE);
	r = vt_attach(&self->dev, vt_disk.fd);
	EXPECT_EQ(true, r == 0 || r == -EFAULT);
	ASSERT_EQ(0, vt_iotlb_miss_wait(&self->iotlb, before));
	__atomic_store_n(&self->iotlb.mute, false, __ATOMIC_RELEASE);
	ASSERT_EQ(0, vt_detach(&self->dev));
	ASSERT_EQ(0, vt_iotlb_prefetch(&self->iotlb));
	ASSERT_EQ(0, vt_attach(&self->dev, vt_disk.fd));
}

/*
 * Access that the mapping does not permit: nothing is read or written, the queue
 * stops with an error as with any other broken chain, and goes on at the next
 * kick once it is permitted.
 */
TEST_F(iotlb, permission)
{
	static const struct { uint32_t type; uint8_t perm; } no[] = {
		{ IN, VHOST_ACCESS_RO }, { OUT, VHOST_ACCESS_WO },
	};
	uint64_t iova = vt_hole(&self->dev.mem);
	struct vt_req req;
	struct vt_used u;

	map_reversed(self, iova, self->data, 4);
	for (unsigned int i = 0; i < ARRAY_SIZE(no); i++) {
		vt_fill(self->p + VT_MIB, 4 * PAGE, 77, 2048);
		ASSERT_EQ(OK, vt_io(self->q, OUT, 2048, self->data + VT_MIB, 4 * PAGE));
		memset(self->p, 0x22, 4 * PAGE);
		for (unsigned int k = 0; k < 4; k++)
			self->iotlb.map[k].perm = no[i].perm;
		ASSERT_EQ(0, invalidate(self, iova, 4 * PAGE));
		req = (struct vt_req) {
			.type = no[i].type, .sector = 2048, .data = iova, .len = 4 * PAGE,
		};
		vt_event_count(self->q->err, 0);
		ASSERT_EQ(0, vt_req_submit(self->q, &req));
		EXPECT_NE(0, vt_event_count(self->q->err, vt_timeout_ms()));
		EXPECT_EQ(0, vt_used_get(self->q, &u));
		EXPECT_EQ(-1, vt_check_byte(self->p, 4 * PAGE, 0x22));
		ASSERT_EQ(OK, vt_io(&self->dev.q[1], IN, 2048, self->data + VT_MIB, 4 * PAGE));
		EXPECT_EQ(-1, vt_check(self->p + VT_MIB, 4 * PAGE, 77, 2048));
		/* permitted now */
		for (unsigned int k = 0; k < 4; k++)
			self->iotlb.map[k].perm = VHOST_ACCESS_RW;
		ASSERT_EQ(0, invalidate(self, iova, 4 * PAGE));
		vt_kick(self->q);
		ASSERT_EQ(0, vt_req_wait(self->q, &req));
		EXPECT_EQ(OK, req.status);
	}
	vt_event_count(self->q->err, 0);
}

/* Nobody answers: nothing hangs, and what was asked for is served when it is known */
TEST_F(iotlb, no_answer)
{
	uint64_t iova = vt_hole(&self->dev.mem);
	unsigned int before = self->iotlb.nr_misses;
	struct vt_req req = { .type = IN, .data = iova, .len = PAGE };
	int64_t start;

	vt_fill(self->p, PAGE, 4, 0);
	ASSERT_EQ(OK, vt_io(self->q, OUT, 0, self->data, PAGE));
	memset(self->p, 0, PAGE);
	before = self->iotlb.nr_misses;
	ASSERT_EQ(0, vt_req_submit(self->q, &req));
	ASSERT_EQ(0, vt_iotlb_miss_wait(&self->iotlb, before));
	EXPECT_EQ(iova, self->iotlb.last_miss);
	EXPECT_EQ(0, vt_good(&self->dev.q[1]));
	start = vt_now_ms();
	ASSERT_EQ(0, vt_detach(&self->dev));
	EXPECT_GT(vt_timeout_ms(), vt_now_ms() - start);
	EXPECT_EQ(false, req.done);
	EXPECT_EQ(-1, vt_check_byte(self->p, PAGE, 0));
	ASSERT_EQ(0, vt_attach(&self->dev, vt_disk.fd));
	map_reversed(self, iova, self->data, 1);
	ASSERT_EQ(0, vt_iotlb_answer(&self->iotlb, iova));
	ASSERT_EQ(0, vt_req_wait(self->q, &req));
	EXPECT_EQ(OK, req.status);
	EXPECT_EQ(-1, vt_check(self->p, PAGE, 4, 0));
}

/* The device is closed, and its owner goes, with questions unanswered. */
TEST_F(iotlb, closed)
{
	struct vt_req req = { .type = IN, .data = vt_hole(&self->dev.mem), .len = PAGE };
	unsigned int before = self->iotlb.nr_misses;
	int64_t start = vt_now_ms();

	ASSERT_EQ(0, vt_req_submit(self->q, &req));
	ASSERT_EQ(0, vt_iotlb_miss_wait(&self->iotlb, before));
	vt_iotlb_stop(&self->iotlb);
	/* one more that nobody reads */
	req.data += PAGE;
	ASSERT_EQ(0, vt_req_submit(&self->dev.q[1], &req));
	close(self->dev.fd);
	self->dev.fd = -1;
	EXPECT_GT(2 * vt_timeout_ms(), vt_now_ms() - start);
	EXPECT_EQ(0, vt_exclusive(&vt_disk));
}

/*
 * A guest asked for what is nowhere, and nobody answers. The next driver's vrings get
 * their own answers, and what was asked before is not waited for, nor kept.
 */
TEST_F(iotlb, forgotten)
{
	struct vt_req req = { .type = IN, .data = vt_hole(&self->dev.mem), .len = PAGE };
	struct pollfd pfd = { .fd = self->dev.fd, .events = POLLIN };
	unsigned int before = self->iotlb.nr_misses;

	ASSERT_EQ(0, vt_req_submit(self->q, &req));
	ASSERT_EQ(0, vt_iotlb_miss_wait(&self->iotlb, before));
	ASSERT_EQ(0, vt_detach(&self->dev));
	ASSERT_EQ(0, vt_vring_reset(&self->dev, 0, 0));
	ASSERT_EQ(0, vt_log_used(&self->dev, false));
	ASSERT_EQ(0, vt_attach(&self->dev, vt_disk.fd));
	/* the next driver has to ask as well */
	ASSERT_EQ(0, invalidate(self, 0, UINT64_MAX));
	ASSERT_EQ(0, vt_good(self->q));

	/* a question that the VMM has not even read */
	vt_iotlb_stop(&self->iotlb);
	ASSERT_EQ(0, vt_req_submit(self->q, &req));
	ASSERT_EQ(1, poll(&pfd, 1, vt_timeout_ms()));
	ASSERT_EQ(0, vt_detach(&self->dev));
	ASSERT_EQ(0, vt_vring_reset(&self->dev, 0, 0));
	ASSERT_EQ(0, vt_log_used(&self->dev, false));
	ASSERT_EQ(0, vt_iotlb_start(&self->iotlb, &self->dev));
	ASSERT_EQ(0, vt_iotlb_prefetch(&self->iotlb));
	ASSERT_EQ(0, vt_attach(&self->dev, vt_disk.fd));
	ASSERT_EQ(0, invalidate(self, 0, UINT64_MAX));
}

/* Messages that say nothing: an error each, and nothing breaks. */
TEST_F(iotlb, garbage)
{
	static const size_t bytes[] = { 0, 1, 3, 4, 8, 12, 39 };
	const struct vt_iotlb_map bad[] = {
		{ self->data, 0, self->p, VHOST_ACCESS_RW },
		{ UINT64_MAX, PAGE, self->p, VHOST_ACCESS_RW },
		{ self->data, UINT64_MAX, self->p, VHOST_ACCESS_RW },
		{ self->data, PAGE, (void *)0xffffffff81000000UL, VHOST_ACCESS_RW },
		{ self->data, PAGE, (void *)(UINTPTR_MAX - 100), VHOST_ACCESS_RO },
	};
	struct vhost_msg msg = { .type = VHOST_IOTLB_MSG };

	for (unsigned int i = 0; i < ARRAY_SIZE(bytes); i++)
		EXPECT_GE(0, write(self->dev.fd, &msg, bytes[i]));
	for (unsigned int type = 0; type < 256; type++) {
		if (type == VHOST_IOTLB_UPDATE || type == VHOST_IOTLB_INVALIDATE)
			continue;
		msg.iotlb.type = type;
		EXPECT_GT(0, write(self->dev.fd, &msg, sizeof(msg)));
	}
	msg.type = 77;
	EXPECT_GT(0, write(self->dev.fd, &msg, sizeof(msg)));
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		EXPECT_NE(0, vt_iotlb_send(&self->dev, VHOST_IOTLB_UPDATE, &bad[i])) {
			TH_LOG("message %u", i);
		}
	}
	/* nothing to read; a buffer that is too small gets nothing */
	EXPECT_GE(0, read(self->dev.fd, &msg, 8));
	EXPECT_EQ(0, vt_good(self->q));
}

/*
 * The used ring's translation goes away while a request is under way, as it does
 * when too many others are made: it is asked for again and the request is not lost.
 */
TEST_F(iotlb, used_ring_gone)
{
	uint64_t used = self->q->used_gpa & ~(PAGE - 1ULL);
	struct vt_req req = { .type = IN, .data = self->data, .len = 65536 };
	int r = vt_delay_create(&self->delay, "vbtiotlb", &vt_disk,
				(struct vt_delay) { 200, 200, 200 });

	if (r == -ENODEV || r == -ENOENT)
		SKIP(return, "no dm-delay in this kernel, or no dmsetup here");
	ASSERT_EQ(0, r);
	ASSERT_EQ(0, vt_detach(&self->dev));
	ASSERT_EQ(0, vt_attach(&self->dev, self->delay.fd));
	for (unsigned int i = 0; i < 4; i++) {
		ASSERT_EQ(0, vt_req_submit(self->q, &req));
		ASSERT_EQ(0, vt_fetched_wait(self->q));
		ASSERT_EQ(0, i % 2 ? invalidate(self, used, PAGE) :
			  invalidate(self, 0, UINT64_MAX));
		ASSERT_EQ(0, vt_req_wait(self->q, &req));
		EXPECT_EQ(OK, req.status);
		EXPECT_EQ(65537, req.used_len);
	}
	/* A detach waits for the request, not for a translation to tell of it. */
	ASSERT_EQ(0, vt_req_submit(self->q, &req));
	ASSERT_EQ(0, vt_fetched_wait(self->q));
	ASSERT_EQ(0, invalidate(self, used, PAGE));
	ASSERT_EQ(0, vt_detach(&self->dev));
	ASSERT_EQ(0, vt_vring_reset(&self->dev, 0, 0));
	ASSERT_EQ(0, vt_log_used(&self->dev, false));
	ASSERT_EQ(0, vt_iotlb_prefetch(&self->iotlb));
	ASSERT_EQ(0, vt_attach(&self->dev, vt_disk.fd));
}

/* More translations than are kept: all requests come back, with the right data */
TEST_F(iotlb, many)
{
	const unsigned int nr = 2500;	/* vhost keeps 2048 */
	uint64_t iova = vt_hole(&self->dev.mem);

	vt_fill(self->p, PAGE, 6, 8);
	ASSERT_EQ(OK, vt_io(self->q, OUT, 8, self->data, PAGE));
	for (unsigned int i = 0; i < nr; i++) {
		struct vt_iotlb_map map = {
			iova + i * 2 * PAGE, PAGE,
			vt_dev_ptr(&self->dev.mem, self->data + i % 16 * PAGE), VHOST_ACCESS_RW,
		};

		ASSERT_EQ(0, vt_iotlb_send(&self->dev, VHOST_IOTLB_UPDATE, &map));
		if (i % 100)
			continue;
		memset(self->p, 0, 16 * PAGE);
		ASSERT_EQ(OK, vt_io(self->q, IN, 8, map.iova, PAGE));
		EXPECT_EQ(-1, vt_check(self->p + i % 16 * PAGE, PAGE, 6, 8));
	}
}

/* L01 to L03: pages are marked where guest memory has them */
TEST_F(iotlb, log)
{
	uint64_t iova = vt_hole(&self->dev.mem);
	struct vt_log *log = &self->log;
	unsigned int n;

	map_reversed(self, iova, self->data, 16);
	ASSERT_EQ(0, vt_log_init(log, &self->dev));
	ASSERT_EQ(0, vt_log_start(log));
	ASSERT_EQ(OK, vt_io(self->q, OUT, 0, iova, 8 * PAGE));
	EXPECT_EQ(0, vt_log_count(log, self->data + VT_IOTLB_SHIFT, 4 * VT_MIB));
	ASSERT_EQ(OK, vt_io(self->q, IN, 0, iova, 8 * PAGE));
	ASSERT_EQ(0, vt_log_stop(log));
	/* the first eight are the last eight */
	EXPECT_EQ(0, vt_log_count(log, self->data + VT_IOTLB_SHIFT, 8 * PAGE));
	EXPECT_EQ(8, vt_log_count(log, self->data + VT_IOTLB_SHIFT + 8 * PAGE, 8 * PAGE));
	n = vt_log_count(log, self->q->slot_gpa + VT_IOTLB_SHIFT, self->q->num * 32);
	EXPECT_LE(1, n);
	EXPECT_EQ(true, vt_log_has(log, self->q->used_gpa + VT_IOTLB_SHIFT));
	/* and nowhere else, but for the other queue's used ring */
	EXPECT_GE(8 + n + 2, vt_log_count_all(log));
	/* a bounced one */
	ASSERT_EQ(0, vt_log_start(log));
	ASSERT_EQ(OK, vt_io(self->q, IN, 0, iova + 1, PAGE));
	ASSERT_EQ(0, vt_log_stop(log));
	EXPECT_EQ(2, vt_log_count(log, self->data + VT_IOTLB_SHIFT, 16 * PAGE));
}

struct chaos {
	iotlb_data *self;
	bool stop;
	int error;
};

/* Translations come and go all the time. */
static void *invalidate_all(void *arg)
{
	struct chaos *c = arg;
	uint64_t random = 1;

	while (!__atomic_load_n(&c->stop, __ATOMIC_ACQUIRE) && !c->error) {
		const struct vt_region *r = &c->self->dev.mem.region[1];

		random = random * 6364136223846793005ULL + 1442695040888963407ULL;
		c->error = invalidate(c->self, r->gpa + (random >> 33) % r->size / PAGE * PAGE,
				      64 * PAGE);
		usleep(2000);
	}
	return NULL;
}

TEST_F(iotlb, load)
{
	struct chaos chaos = { .self = self };
	struct vt_load load[2];
	pthread_t thread;

	vt_load_spread(load, 2, &self->dev, &vt_disk);
	for (unsigned int i = 0; i < 2; i++) {
		/* page by page it takes long */
		load[i].nr_sectors = 256;
		load[i].max_bytes = 16384;
		load[i].depth = 4;
		ASSERT_EQ(0, vt_load_start(&load[i]));
	}
	ASSERT_EQ(0, pthread_create(&thread, NULL, invalidate_all, &chaos));
	for (unsigned int i = 0; i < vt_loops(5); i++)
		vt_loads_go_on(_metadata, load, 2, 5);
	__atomic_store_n(&chaos.stop, true, __ATOMIC_RELEASE);
	pthread_join(thread, NULL);
	EXPECT_EQ(0, chaos.error);
	vt_loads_stop(_metadata, load, 2);
}

/* ---- without it ---- */

/* A device whose driver does not need translations takes none, and asks for none. */
TEST(no_iommu)
{
	struct vt_iotlb_map map = { 0, PAGE, &map, VHOST_ACCESS_RW };
	struct vhost_msg msg;
	struct pollfd pfd;
	struct vt_dev dev;

	ASSERT_EQ(0, vt_dev_init(&dev, &(struct vt_opts) {}));
	ASSERT_EQ(0, vt_attach(&dev, vt_disk.fd));
	EXPECT_GT(0, vt_iotlb_send(&dev, VHOST_IOTLB_UPDATE, &map));
	EXPECT_GT(0, vt_iotlb_send(&dev, VHOST_IOTLB_INVALIDATE, &map));
	pfd = (struct pollfd) { .fd = dev.fd, .events = POLLIN };
	EXPECT_EQ(0, poll(&pfd, 1, 0));
	/* must not sleep: there will never be anything */
	EXPECT_GE(0, read(dev.fd, &msg, sizeof(msg)));
	EXPECT_EQ(0, vt_good(&dev.q[0]));
	EXPECT_EQ(0, vt_detach(&dev));
	vt_dev_fini(&dev);
}

/* The bit is part of what a driver acks once and for all. */
TEST(switched)
{
	uint64_t features = VT_F_BASE | VT_F(VIRTIO_F_ACCESS_PLATFORM);
	struct vt_dev dev;

	ASSERT_EQ(0, vt_dev_init(&dev, &(struct vt_opts) {}));
	ASSERT_EQ(0, vt_attach(&dev, vt_disk.fd));
	EXPECT_EQ(-EBUSY, vt_ioctl(dev.fd, VHOST_SET_FEATURES, &features, 8));
	EXPECT_EQ(0, vt_good(&dev.q[0]));
	/* another driver later */
	ASSERT_EQ(0, vt_detach(&dev));
	for (unsigned int i = 0; i < 3; i++) {
		struct vt_iotlb iotlb = { .piece = VT_MIB };

		dev.features = features;
		ASSERT_EQ(0, vt_ioctl(dev.fd, VHOST_SET_FEATURES, &features, 8));
		ASSERT_EQ(0, vt_iotlb_start(&iotlb, &dev));
		ASSERT_EQ(0, vt_iotlb_prefetch(&iotlb));
		ASSERT_EQ(0, vt_attach(&dev, vt_disk.fd));
		EXPECT_EQ(0, vt_good(&dev.q[0]));
		ASSERT_EQ(0, vt_detach(&dev));
		vt_iotlb_stop(&iotlb);
		EXPECT_EQ(0, iotlb.error);
		dev.features = VT_F_BASE;
		ASSERT_EQ(0, vt_ioctl(dev.fd, VHOST_SET_FEATURES, &dev.features, 8));
		ASSERT_EQ(0, vt_mem_set(&dev.mem, dev.fd));
		ASSERT_EQ(0, vt_vring_reset(&dev, 0, 0));
		ASSERT_EQ(0, vt_attach(&dev, vt_disk.fd));
		EXPECT_EQ(0, vt_good(&dev.q[0]));
		ASSERT_EQ(0, vt_detach(&dev));
	}
	vt_dev_fini(&dev);
}

VT_TEST_MAIN
