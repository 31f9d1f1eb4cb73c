// SPDX-License-Identifier: GPL-2.0-only
/*
 * H05, H06: where test_inject lets one place fail, here any place on the worker
 * fails at random, several in one request, while others are in flight and the
 * device is detached. Needs a kernel with fault injection.
 */
#include "vt_test.h"

#define IN	VIRTIO_BLK_T_IN
#define OUT	VIRTIO_BLK_T_OUT
#define NR_LOAD	24
#define SECTORS_APART	2048	/* 1 MiB */

enum { SLAB, PAGES, BIOS, COPIES, NR_KINDS };

static const char *const kinds[NR_KINDS] = {
	[SLAB] = "failslab", [PAGES] = "fail_page_alloc",
	[BIOS] = "fail_make_request", [COPIES] = "fail_usercopy",
};

FIXTURE(storm) {
	struct vt_dev dev;
	struct vt_bdev disk;
	long pinned;		/* pages, before the test */
	struct vt_req load[NR_LOAD];
	int nr_ok, nr_ioerr, nr_lost;
};

#define storm_data FIXTURE_DATA(storm)

FIXTURE_VARIANT(storm) {
	const char *percent[NR_KINDS];
};

FIXTURE_VARIANT_ADD(storm, little_memory) { { "30", "30", "0", "0" } };
FIXTURE_VARIANT_ADD(storm, no_memory) { { "100", "100", "0", "0" } };
FIXTURE_VARIANT_ADD(storm, bios) { { "0", "0", "20", "0" } };
FIXTURE_VARIANT_ADD(storm, copies) { { "0", "0", "0", "1" } };
FIXTURE_VARIANT_ADD(storm, all) { { "5", "5", "5", "1" } };

FIXTURE_SETUP(storm)
{
	struct vt_null_opts null = { .cache_mib = 32 };
	struct vt_opts opts = { .indirect = true };

	self->pinned = vt_pinned_pages();
	ASSERT_EQ(0, vt_null_create(&self->disk, "vbtstorm", &null));
	ASSERT_EQ(0, vt_dev_init(&self->dev, &opts));
	/* User-mode Linux dies if a page fault of a copy finds no memory for a page table. */
	for (int i = 0; i < VT_NR_REGIONS; i++)
		ASSERT_EQ(0, madvise(self->dev.mem.region[i].dev, self->dev.mem.region[i].size,
				     MADV_POPULATE_WRITE));
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
}

FIXTURE_TEARDOWN(storm)
{
	for (unsigned int i = 0; i < ARRAY_SIZE(kinds); i++) {
		vt_fault_set(kinds[i], "probability", "0");
		vt_fault_set(kinds[i], "task-filter", "N");
	}
	EXPECT_EQ(0, vt_detach(&self->dev));
	EXPECT_EQ(0, vt_inflight(&self->disk));
	EXPECT_EQ(0, vt_pinned_wait(self->pinned));
	vt_dev_fini(&self->dev);
	EXPECT_EQ(0, vt_exclusive(&self->disk));
	vt_bdev_destroy(&self->disk);
}

/* Failures of that kind may happen, to whom storm_on() says. */
static int storm_allow(const char *const percent[NR_KINDS])
{
	int r = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(kinds); i++) {
		r = r ?: vt_fault_set(kinds[i], "task-filter", "Y");
		r = r ?: vt_fault_set(kinds[i], "times", "-1");
		r = r ?: vt_fault_set(kinds[i], "probability", percent[i]);
	}
	return r;
}

/* The worker, and nobody else, meets failures. */
static int storm_on(bool on)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/make-it-fail", vt_worker_tid());
	return vt_write_file(path, on ? "1" : "0");
}

static void load_submit(struct __test_metadata *_metadata, storm_data *self)
{
	static const uint32_t len[] = { 4096, 65536, 512, VT_MIB, 20 };
	struct vt_queue *q = &self->dev.q[0];

	for (int i = 0; i < NR_LOAD; i++) {
		struct vt_req *req = &self->load[i];

		*req = (struct vt_req) {
			.type = i % 2 ? IN : OUT, .len = len[i % ARRAY_SIZE(len)],
			.sector = (i & ~1) * SECTORS_APART, .seg_bytes = 32768,
		};
		req->data = vt_alloc(&self->dev.mem, req->len + 4096) + i % 3;
		if (req->len == 20)
			req->type = VIRTIO_BLK_T_GET_ID;
		if (req->type == OUT)
			vt_fill(vt_ptr(&self->dev.mem, req->data), req->len, 1, req->sector);
		ASSERT_EQ(0, vt_req_add(q, req));
		vt_publish(q);
		vt_kick(q);
	}
}

/* The detach has waited for all that was fetched; what is not answered now never is. */
static void load_collect(struct __test_metadata *_metadata, storm_data *self)
{
	struct vt_queue *q = &self->dev.q[0];
	struct vt_used u;
	int r;

	while ((r = vt_used_get(q, &u)) == 1)
		;
	EXPECT_EQ(0, r);
	for (int i = 0; i < NR_LOAD; i++) {
		struct vt_req *req = &self->load[i];

		if (!req->done) {
			self->nr_lost++;
			continue;
		}
		if (req->status == VIRTIO_BLK_S_OK) {
			self->nr_ok++;
		} else {
			self->nr_ioerr++;
			EXPECT_EQ(VIRTIO_BLK_S_IOERR, req->status);
		}
	}
}

TEST_F_TIMEOUT(storm, drained, 300)
{
	size_t mark = self->dev.mem.region[1].used;
	struct vt_queue *q = &self->dev.q[0];
	/* A copy that fails may stop the ring, or lose an answer on the way into it. */
	bool all_answered = !atoi(variant->percent[COPIES]);
	char path[96];
	int base;

	if (vt_fault_init())
		SKIP(return, "no fault injection in this kernel");
	snprintf(path, sizeof(path), "/sys/block/%s/make-it-fail", self->disk.name);
	ASSERT_EQ(0, vt_write_file(path, "1"));
	ASSERT_EQ(0, storm_allow(variant->percent));
	for (unsigned int i = 0; i < vt_loops(6); i++) {
		ASSERT_EQ(0, storm_on(true));
		load_submit(_metadata, self);
		if (all_answered)
			ASSERT_EQ(0, vt_wait_all(q));
		ASSERT_EQ(0, vt_detach(&self->dev));
		ASSERT_EQ(0, storm_on(false));
		load_collect(_metadata, self);
		base = vt_vring_base(&self->dev, 0);
		ASSERT_LE(0, base);
		ASSERT_EQ(0, vt_vring_reset(&self->dev, 0, base));
		self->dev.mem.region[1].used = mark;
		ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
		ASSERT_EQ(0, vt_good(q));
	}
	EXPECT_LT(0, self->nr_ioerr);
	if (all_answered)
		EXPECT_EQ(0, self->nr_lost);
	TH_LOG("%d OK, %d IOERR, %d not fetched or not answered", self->nr_ok, self->nr_ioerr,
	       self->nr_lost);
}

VT_TEST_MAIN
