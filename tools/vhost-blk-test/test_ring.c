// SPDX-License-Identifier: GPL-2.0-only
/*
 * Broken rings: the queue stops with an error event, the host and the other
 * queues go on, and after a detach fresh rings work.
 */
#include "vt_test.h"

#define NUM	64

FIXTURE(ring) {
	struct vt_dev dev;
	uint64_t hdr, status, data, table;
};

FIXTURE_VARIANT(ring) {
	/* Damage queue 0, which the test then kicks. */
	void (*damage)(struct vt_dev *dev, uint64_t hdr, uint64_t status, uint64_t data,
		       uint64_t table);
	bool may_serve;		/* an answer is as good as an error event */
};

/* Each of these is a variant, see below. */
#define DAMAGE(name)								\
static void name(struct vt_dev *dev __attribute__((unused)),			\
		 uint64_t hdr __attribute__((unused)),				\
		 uint64_t status __attribute__((unused)),			\
		 uint64_t data __attribute__((unused)),				\
		 uint64_t table __attribute__((unused)))

static void desc(struct vt_dev *dev, int i, uint64_t gpa, uint32_t len, uint16_t flags,
		 uint16_t next)
{
	dev->q[0].desc[i] = (struct vring_desc) { gpa, len, flags, next };
}

static void entry(struct vt_dev *dev, uint64_t table, int i, uint64_t gpa, uint32_t len,
		  uint16_t flags)
{
	struct vring_desc *d = vt_ptr(&dev->mem, table);

	d[i] = (struct vring_desc) { gpa, len, flags, i + 1 };
}

#define NEXT	VRING_DESC_F_NEXT
#define WRITE	VRING_DESC_F_WRITE
#define IND	VRING_DESC_F_INDIRECT

/* D01 */
DAMAGE(head_is_num) { vt_add_head(&dev->q[0], NUM); }
DAMAGE(head_is_max) { vt_add_head(&dev->q[0], 0xffff); }

/* D02 */
DAMAGE(next_is_num)
{
	desc(dev, 0, hdr, 16, NEXT, NUM);
	vt_add_head(&dev->q[0], 0);
}

DAMAGE(next_is_max)
{
	desc(dev, 0, hdr, 16, NEXT, 0xffff);
	vt_add_head(&dev->q[0], 0);
}

DAMAGE(chain_to_itself)
{
	desc(dev, 0, hdr, 16, NEXT, 0);
	vt_add_head(&dev->q[0], 0);
}

DAMAGE(chain_loop_at_its_end)
{
	desc(dev, 0, hdr, 16, NEXT, 1);
	desc(dev, 1, data, 512, NEXT | WRITE, 2);
	desc(dev, 2, status, 1, NEXT | WRITE, 1);
	vt_add_head(&dev->q[0], 0);
}

/* D03 */
DAMAGE(readable_after_writable)
{
	desc(dev, 0, hdr, 16, NEXT, 1);
	desc(dev, 1, data, 512, NEXT | WRITE, 2);
	desc(dev, 2, data + 512, 512, NEXT, 3);
	desc(dev, 3, status, 1, WRITE, 0);
	vt_add_head(&dev->q[0], 0);
}

DAMAGE(readable_after_writable_in_table)
{
	entry(dev, table, 0, status, 1, NEXT | WRITE);
	entry(dev, table, 1, hdr, 16, 0);
	desc(dev, 0, table, 32, IND, 0);
	vt_add_head(&dev->q[0], 0);
}

/* D04 */
DAMAGE(table_length_odd)
{
	entry(dev, table, 0, hdr, 16, NEXT);
	entry(dev, table, 1, status, 1, WRITE);
	desc(dev, 0, table, 33, IND, 0);
	vt_add_head(&dev->q[0], 0);
}

DAMAGE(table_empty)
{
	desc(dev, 0, table, 0, IND, 0);
	vt_add_head(&dev->q[0], 0);
}

DAMAGE(table_too_long)
{
	entry(dev, table, 0, hdr, 16, NEXT);
	entry(dev, table, 1, status, 1, WRITE);
	desc(dev, 0, table, 65537 * 16, IND, 0);
	vt_add_head(&dev->q[0], 0);
}

DAMAGE(table_in_table)
{
	entry(dev, table, 0, hdr, 16, NEXT);
	entry(dev, table, 1, table + 64, 32, IND);
	entry(dev, table + 64, 0, data, 512, NEXT | WRITE);
	entry(dev, table + 64, 1, status, 1, WRITE);
	desc(dev, 0, table, 32, IND, 0);
	vt_add_head(&dev->q[0], 0);
}

DAMAGE(table_runs_over_its_end)
{
	entry(dev, table, 0, hdr, 16, NEXT);
	entry(dev, table, 1, status, 1, NEXT | WRITE);
	desc(dev, 0, table, 32, IND, 0);
	vt_add_head(&dev->q[0], 0);
}

DAMAGE(table_with_next)
{
	entry(dev, table, 0, hdr, 16, 0);
	desc(dev, 0, table, 16, IND | NEXT, 1);
	desc(dev, 1, data, 512, NEXT | WRITE, 2);
	desc(dev, 2, status, 1, WRITE, 0);
	vt_add_head(&dev->q[0], 0);
}

/* C18, C05: addresses that no region has */
DAMAGE(header_nowhere)
{
	desc(dev, 0, vt_hole(&dev->mem), 16, NEXT, 1);
	desc(dev, 1, status, 1, WRITE, 0);
	vt_add_head(&dev->q[0], 0);
}

DAMAGE(payload_nowhere)
{
	desc(dev, 0, hdr, 16, NEXT, 1);
	desc(dev, 1, vt_hole(&dev->mem), 4096, NEXT | WRITE, 2);
	desc(dev, 2, status, 1, WRITE, 0);
	vt_add_head(&dev->q[0], 0);
}

DAMAGE(payload_over_the_end_of_memory)
{
	desc(dev, 0, hdr, 16, NEXT, 1);
	desc(dev, 1, vt_end(&dev->mem) - 4096, 8192, NEXT | WRITE, 2);
	desc(dev, 2, status, 1, WRITE, 0);
	vt_add_head(&dev->q[0], 0);
}

DAMAGE(payload_wraps_around)
{
	desc(dev, 0, hdr, 16, NEXT, 1);
	desc(dev, 1, ~0ULL - 511, 4096, NEXT | WRITE, 2);
	desc(dev, 2, status, 1, WRITE, 0);
	vt_add_head(&dev->q[0], 0);
}

DAMAGE(status_nowhere)
{
	desc(dev, 0, hdr, 16, NEXT, 1);
	desc(dev, 1, data, 512, NEXT | WRITE, 2);
	desc(dev, 2, vt_hole(&dev->mem), 1, WRITE, 0);
	vt_add_head(&dev->q[0], 0);
}

DAMAGE(table_nowhere)
{
	desc(dev, 0, vt_hole(&dev->mem), 48, IND, 0);
	vt_add_head(&dev->q[0], 0);
}

/* D05 */
DAMAGE(avail_jumps) { dev->q[0].avail_idx += NUM + 1; }
DAMAGE(avail_goes_back) { dev->q[0].avail_idx -= 1; }

/* D08: pages of the rings vanish from the owner's memory */
static void unmap_ring(struct vt_dev *dev, uint64_t gpa)
{
	vt_dev_protect(&dev->mem, gpa & ~4095ULL, 4096, PROT_NONE);
}

DAMAGE(avail_unmapped) { unmap_ring(dev, dev->q[0].avail_gpa); }
DAMAGE(desc_unmapped)
{
	vt_add_head(&dev->q[0], 0);
	unmap_ring(dev, dev->q[0].desc_gpa);
}

DAMAGE(used_unmapped)
{
	entry(dev, table, 0, hdr, 16, NEXT);
	entry(dev, table, 1, status, 1, WRITE);
	desc(dev, 0, table, 32, IND, 0);
	vt_add_head(&dev->q[0], 0);
	unmap_ring(dev, dev->q[0].used_gpa);
}

/* D09: more pieces than the kernel takes in one go */
DAMAGE(too_many_segments)
{
	entry(dev, table, 0, hdr, 16, NEXT);
	for (int i = 1; i < 1200; i++)
		entry(dev, table, i, data, 512, NEXT | WRITE);
	entry(dev, table, 1200, status, 1, WRITE);
	desc(dev, 0, table, 1201 * 16, IND, 0);
	vt_add_head(&dev->q[0], 0);
}

FIXTURE_VARIANT_ADD(ring, head_is_num) { .damage = head_is_num };
FIXTURE_VARIANT_ADD(ring, head_is_max) { .damage = head_is_max };
FIXTURE_VARIANT_ADD(ring, next_is_num) { .damage = next_is_num };
FIXTURE_VARIANT_ADD(ring, next_is_max) { .damage = next_is_max };
FIXTURE_VARIANT_ADD(ring, chain_to_itself) { .damage = chain_to_itself };
FIXTURE_VARIANT_ADD(ring, chain_loop_at_its_end) { .damage = chain_loop_at_its_end };
FIXTURE_VARIANT_ADD(ring, readable_after_writable) { .damage = readable_after_writable };
FIXTURE_VARIANT_ADD(ring, readable_after_writable_in_table) {
	.damage = readable_after_writable_in_table,
};

FIXTURE_VARIANT_ADD(ring, table_length_odd) { .damage = table_length_odd };
FIXTURE_VARIANT_ADD(ring, table_empty) { .damage = table_empty };
FIXTURE_VARIANT_ADD(ring, table_too_long) { .damage = table_too_long };
FIXTURE_VARIANT_ADD(ring, table_in_table) { .damage = table_in_table };
FIXTURE_VARIANT_ADD(ring, table_runs_over_its_end) { .damage = table_runs_over_its_end };
FIXTURE_VARIANT_ADD(ring, table_with_next) { .damage = table_with_next, .may_serve = true };
FIXTURE_VARIANT_ADD(ring, header_nowhere) { .damage = header_nowhere };
FIXTURE_VARIANT_ADD(ring, payload_nowhere) { .damage = payload_nowhere };
FIXTURE_VARIANT_ADD(ring, payload_over_the_end_of_memory) {
	.damage = payload_over_the_end_of_memory,
};

FIXTURE_VARIANT_ADD(ring, payload_wraps_around) { .damage = payload_wraps_around };
FIXTURE_VARIANT_ADD(ring, status_nowhere) { .damage = status_nowhere };
FIXTURE_VARIANT_ADD(ring, table_nowhere) { .damage = table_nowhere };
FIXTURE_VARIANT_ADD(ring, avail_jumps) { .damage = avail_jumps };
FIXTURE_VARIANT_ADD(ring, avail_goes_back) { .damage = avail_goes_back };
FIXTURE_VARIANT_ADD(ring, avail_unmapped) { .damage = avail_unmapped };
FIXTURE_VARIANT_ADD(ring, desc_unmapped) { .damage = desc_unmapped };
FIXTURE_VARIANT_ADD(ring, used_unmapped) { .damage = used_unmapped };
FIXTURE_VARIANT_ADD(ring, too_many_segments) { .damage = too_many_segments };

FIXTURE_SETUP(ring)
{
	struct vt_opts opts = { .nr_queues = 2, .num = NUM };
	struct vt_dev *dev = &self->dev;

	ASSERT_EQ(0, vt_dev_init(dev, &opts));
	ASSERT_EQ(0, vt_attach(dev, vt_disk.fd));
	self->hdr = vt_alloc(&dev->mem, 4096);
	self->status = vt_alloc(&dev->mem, 4096);
	self->data = vt_alloc(&dev->mem, 65536);
	self->table = vt_alloc(&dev->mem, 2 * VT_MIB);
	vt_hdr_write(&dev->mem, self->hdr, VIRTIO_BLK_T_IN, 0);
}

FIXTURE_TEARDOWN(ring)
{
	vt_dev_fini(&self->dev);
}

/* Wait for the error event, or for an answer where that will do. */
static bool reacted(struct vt_queue *q, bool may_serve)
{
	struct pollfd pfd[2] = {
		{ .fd = q->err, .events = POLLIN }, { .fd = q->call, .events = POLLIN },
	};

	return poll(pfd, may_serve ? 2 : 1, vt_timeout_ms()) > 0;
}

TEST_F(ring, damage)
{
	struct vt_dev *dev = &self->dev;
	struct vt_queue *q = &dev->q[0];

	ASSERT_EQ(0, vt_good(q));
	vt_event_count(q->call, 0);
	/* The damage lies on descriptors that vt_good is done with. */
	variant->damage(dev, self->hdr, self->status, self->data, self->table);
	vt_publish(q);
	vt_kick(q);
	EXPECT_EQ(true, reacted(q, variant->may_serve));

	/* the other queue does not care, nor do more kicks harm */
	vt_kick(q);
	EXPECT_EQ(0, vt_good(&dev->q[1]));
	EXPECT_EQ(0, vt_event_count(dev->q[1].err, 0));

	/* fresh rings after a detach, all as at the start */
	EXPECT_EQ(0, vt_detach(dev));
	ASSERT_EQ(0, vt_dev_protect(&dev->mem, dev->mem.region[0].gpa, 65536,
				    PROT_READ | PROT_WRITE));
	ASSERT_EQ(0, vt_vring_reset(dev, 0, 0));
	ASSERT_EQ(0, vt_attach(dev, vt_disk.fd));
	EXPECT_EQ(0, vt_good(q));
	EXPECT_EQ(0, vt_good(&dev->q[1]));
	EXPECT_EQ(0, vt_event_count(q->err, 0));
	EXPECT_EQ(0, vt_detach(dev));
}

/* A broken ring is no obstacle to closing the device. */
TEST_F(ring, close)
{
	struct vt_dev *dev = &self->dev;

	variant->damage(dev, self->hdr, self->status, self->data, self->table);
	vt_publish(&dev->q[0]);
	vt_kick(&dev->q[0]);
	EXPECT_EQ(true, reacted(&dev->q[0], variant->may_serve));
	close(dev->fd);
	dev->fd = -1;
	EXPECT_EQ(0, vt_exclusive(&vt_disk));
}

/* ---- with requests in flight ---- */

FIXTURE(slow) {
	struct vt_dev dev;
	struct vt_bdev disk;
	struct vt_queue *q;
	struct vt_req req;
};

FIXTURE_SETUP(slow)
{
	struct vt_null_opts opts = { .delay_ns = 500 * 1000 * 1000 };

	ASSERT_EQ(0, vt_null_create(&self->disk, "vbtslow", &opts));
	ASSERT_EQ(0, vt_dev_init(&self->dev, &(struct vt_opts) { .num = NUM }));
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	self->q = &self->dev.q[0];
	self->req = (struct vt_req) {
		.type = VIRTIO_BLK_T_IN, .len = 4096, .data = vt_alloc(&self->dev.mem, 4096),
	};
}

FIXTURE_TEARDOWN(slow)
{
	vt_dev_fini(&self->dev);
	vt_bdev_destroy(&self->disk);
}

/* D06: the second is answered with nothing at once, the first as if alone */
TEST_F(slow, head_published_twice)
{
	struct vt_queue *q = self->q;
	volatile struct vring_used_elem *e = q->used->ring;
	int64_t start = vt_now_ms();
	struct vt_used u;

	ASSERT_EQ(0, vt_req_submit(q, &self->req));
	vt_add_head(q, self->req.head);
	vt_publish(q);
	vt_kick(q);
	EXPECT_NE(0, vt_event_count(q->err, vt_timeout_ms()));
	while (q->used->idx == 0 && vt_now_ms() < start + vt_timeout_ms())
		usleep(1000);
	ASSERT_LE(1, q->used->idx);
	EXPECT_EQ(self->req.head, e[0].id);
	EXPECT_EQ(0, e[0].len);
	q->used_idx = 1;	/* not the lib's: it counts heads, not answers */
	ASSERT_EQ(0, vt_wait(q, &u));
	EXPECT_EQ(self->req.head, u.head);
	EXPECT_EQ(4097, u.len);
	EXPECT_EQ(VIRTIO_BLK_S_OK, self->req.status);
	EXPECT_EQ(0, vt_good(q));
	EXPECT_EQ(2 + 2, q->used->idx);
	EXPECT_EQ(0, vt_detach(&self->dev));
}

/* D10: nothing can be told to the guest any more, and yet the drain ends */
TEST_F(slow, used_ring_unwritable_at_completion)
{
	struct vt_queue *q = self->q;
	int64_t start = vt_now_ms();

	ASSERT_EQ(0, vt_req_submit(q, &self->req));
	ASSERT_EQ(0, vt_inflight_wait(&self->disk, 1));
	ASSERT_EQ(0, vt_dev_protect(&self->dev.mem, q->used_gpa & ~4095ULL, 4096, PROT_READ));
	EXPECT_EQ(0, vt_detach(&self->dev));
	EXPECT_LE(300, vt_now_ms() - start);
	ASSERT_EQ(0, vt_dev_protect(&self->dev.mem, q->used_gpa & ~4095ULL, 4096,
				    PROT_READ | PROT_WRITE));
	EXPECT_EQ(0, vt_exclusive(&self->disk));
	ASSERT_EQ(0, vt_vring_reset(&self->dev, 0, 0));
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	EXPECT_EQ(0, vt_good(q));
}

/* ---- the 16-bit indices ---- */

FIXTURE(wrap) { struct vt_dev dev; };
FIXTURE_VARIANT(wrap) { uint64_t features; };
FIXTURE_VARIANT_ADD(wrap, event) { .features = VT_F_BASE | VT_F_EVENT_IDX };
FIXTURE_VARIANT_ADD(wrap, noevent) { .features = VT_F_BASE };

FIXTURE_SETUP(wrap)
{
	struct vt_opts opts = { .features = variant->features, .num = NUM, .indirect = true };

	ASSERT_EQ(0, vt_dev_init(&self->dev, &opts));
}

FIXTURE_TEARDOWN(wrap)
{
	EXPECT_EQ(0, vt_queue_idle(&self->dev.q[0]));
	EXPECT_EQ(0, vt_detach(&self->dev));
	vt_dev_fini(&self->dev);
}

/* D11: more requests than the indices have values */
TEST_F(wrap, many_requests)
{
	struct vt_queue *q = &self->dev.q[0];
	uint64_t data = vt_alloc(&self->dev.mem, 4096);
	struct vt_req req[NUM] = {};
	unsigned int done = 0;

	ASSERT_EQ(0, vt_attach(&self->dev, vt_disk.fd));
	while (done < 66000) {
		for (int i = 0; i < NUM; i++) {
			req[i].type = VIRTIO_BLK_T_GET_ID;
			req[i].data = data;
			req[i].len = 20;
			ASSERT_EQ(0, vt_req_add(q, &req[i]));
		}
		vt_publish(q);
		vt_kick_needed(q);
		ASSERT_EQ(0, vt_wait_all(q));
		for (int i = 0; i < NUM; i++, done++)
			EXPECT_EQ(21, req[i].used_len);
	}
}

/* D11: the wrap itself with real requests in flight */
TEST_F(wrap, in_flight)
{
	struct vt_queue *q = &self->dev.q[0];
	struct vt_req req[NUM] = {};
	uint64_t data = vt_alloc(&self->dev.mem, NUM * 512);

	ASSERT_EQ(0, vt_vring_reset(&self->dev, 0, 65536 - NUM / 2));
	ASSERT_EQ(0, vt_attach(&self->dev, vt_disk.fd));
	for (int pass = 0; pass < 2; pass++) {
		for (int i = 0; i < NUM; i++) {
			req[i].type = pass ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT;
			req[i].sector = 2 * i;
			req[i].data = data + 512 * i;
			req[i].len = 512;
			if (!pass)
				vt_fill(vt_ptr(&self->dev.mem, req[i].data), 512, 11, 2 * i);
			ASSERT_EQ(0, vt_req_add(q, &req[i]));
		}
		vt_publish(q);
		vt_kick(q);
		ASSERT_EQ(0, vt_wait_all(q));
	}
	for (int i = 0; i < NUM; i++)
		EXPECT_EQ(-1, vt_check(vt_ptr(&self->dev.mem, req[i].data), 512, 11, 2 * i));
	EXPECT_EQ(NUM + NUM / 2, (uint16_t)q->used->idx);
}

VT_TEST_MAIN
