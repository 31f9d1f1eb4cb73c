// SPDX-License-Identifier: GPL-2.0-only
/*
 * A disk that takes one segment at a time, with blocks of 4096 bytes: the block layer
 * cannot split off less than a block for it, and says BUG() where a block lies in two
 * segments. Whatever layout a driver chooses, that must not come about.
 */
#include "vt_test.h"

#define IN	VIRTIO_BLK_T_IN
#define OUT	VIRTIO_BLK_T_OUT
#define OK	VIRTIO_BLK_S_OK
#define BLOCK	4096U
#define SECTORS	(BLOCK / VT_SECTOR)
#define UNUSED	0x55	/* what memory around the data holds */

FIXTURE(one_segment) {
	struct vt_dev dev;
	struct vt_bdev disk;
	struct vt_queue *q;
	struct vt_chain *c;
	uint64_t hdr, status;
	uint64_t data, plain;	/* room of 2 MiB each; plain is for simple requests */
	uint8_t *flat;		/* 1 MiB: what the disk has to hold */
	unsigned int nr;	/* layouts so far */
};

#define one_segment_data FIXTURE_DATA(one_segment)

FIXTURE_VARIANT(one_segment) {
	bool indirect;
};

FIXTURE_VARIANT_ADD(one_segment, direct) { };
FIXTURE_VARIANT_ADD(one_segment, indirect) { .indirect = true };

FIXTURE_SETUP(one_segment)
{
	struct vt_opts opts = { .num = 1024, .indirect = variant->indirect };
	struct vt_mem *mem = &self->dev.mem;

	ASSERT_EQ(0, vt_test_disk_open(&self->disk, "vtdonesegment")) {
		TH_LOG("vt_disk.ko: `make` builds it, $VHOST_BLK_TEST_DISK names it");
	}
	ASSERT_EQ(BLOCK, self->disk.lbs);
	ASSERT_EQ(0, vt_dev_init(&self->dev, &opts));
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	self->q = &self->dev.q[0];
	self->c = calloc(1, sizeof(*self->c));
	ASSERT_NE(NULL, self->c);
	self->hdr = vt_alloc(mem, 4096);
	self->status = vt_alloc(mem, 4096);
	self->data = vt_alloc(mem, 2 * VT_MIB);
	self->plain = vt_alloc(mem, 2 * VT_MIB);
	self->flat = malloc(VT_MIB);
	ASSERT_NE(NULL, self->flat);
}

FIXTURE_TEARDOWN(one_segment)
{
	EXPECT_EQ(0, vt_good(self->q));
	EXPECT_EQ(0, vt_queue_idle(self->q));
	EXPECT_EQ(0, vt_event_count(self->q->err, 0));
	EXPECT_EQ(0, vt_detach(&self->dev));
	EXPECT_EQ(0, vt_exclusive(&self->disk));
	vt_dev_fini(&self->dev);
	vt_bdev_destroy(&self->disk);
	free(self->flat);
	free(self->c);
}

/* A layout: pieces of @bytes each, the first one @shift into a page, @gap bytes between them. */
struct layout {
	unsigned int bytes, nr, shift, gap;
};

static uint64_t piece_gpa(const one_segment_data *self, const struct layout *l, unsigned int i)
{
	return self->data + l->shift + i * (l->bytes + l->gap);
}

/* Run a request of the pieces: its status, or -errno; -EBADMSG: used.len is wrong. */
static int layout_run(one_segment_data *self, bool indirect, const struct layout *l,
		      uint32_t type, uint64_t sector)
{
	struct vt_mem *mem = &self->dev.mem;
	int want = type == IN ? l->bytes * l->nr + 1 : 1, r;

	vt_hdr_write(mem, self->hdr, type, sector);
	*(uint8_t *)vt_ptr(mem, self->status) = VT_STATUS_NONE;
	vt_out(self->c, self->hdr, 16);
	for (unsigned int i = 0; i < l->nr; i++) {
		if (type == IN)
			vt_in(self->c, piece_gpa(self, l, i), l->bytes);
		else
			vt_out(self->c, piece_gpa(self, l, i), l->bytes);
	}
	vt_in(self->c, self->status, 1);
	r = vt_chain_run(self->q, self->c, indirect);
	if (r < 0)
		return r;
	return r == want ? vt_status_read(mem, self->status) : -EBADMSG;
}

/* Are the pieces what @flat is, and the gaps between them unused? */
static bool layout_holds(one_segment_data *self, const struct layout *l)
{
	const uint8_t *p;

	for (unsigned int i = 0; i < l->nr; i++) {
		p = vt_ptr(&self->dev.mem, piece_gpa(self, l, i));
		if (memcmp(p, self->flat + i * l->bytes, l->bytes) ||
		    vt_check_byte(p + l->bytes, l->gap, UNUSED) >= 0)
			return false;
	}
	return true;
}

/* Write what lies so, read it plainly; write plainly, read it so. */
static void layout_check(struct __test_metadata *_metadata, one_segment_data *self,
			 bool indirect, const struct layout *l)
{
	const uint32_t bytes = l->bytes * l->nr;
	const uint64_t sector = self->nr % 7 * SECTORS;
	struct vt_mem *mem = &self->dev.mem;
	uint8_t *plain = vt_ptr(mem, self->plain);

	ASSERT_EQ(0, bytes % BLOCK);
	ASSERT_GE(VT_MIB, bytes);
	vt_fill(self->flat, bytes, ++self->nr, sector);
	for (unsigned int i = 0; i < l->nr; i++)
		memcpy(vt_ptr(mem, piece_gpa(self, l, i)), self->flat + i * l->bytes, l->bytes);
	EXPECT_EQ(OK, layout_run(self, indirect, l, OUT, sector));
	memset(plain, UNUSED, bytes);
	ASSERT_EQ(OK, vt_io(self->q, IN, sector, self->plain, bytes));
	EXPECT_EQ(0, memcmp(self->flat, plain, bytes)) {
		TH_LOG("written: %u pieces of %u, at %u", l->nr, l->bytes, l->shift);
	}

	vt_fill(self->flat, bytes, ++self->nr, sector);
	memcpy(plain, self->flat, bytes);
	ASSERT_EQ(OK, vt_io(self->q, OUT, sector, self->plain, bytes));
	memset(vt_ptr(mem, self->data), UNUSED, 2 * VT_MIB);
	EXPECT_EQ(OK, layout_run(self, indirect, l, IN, sector));
	EXPECT_EQ(true, layout_holds(self, l)) {
		TH_LOG("read: %u pieces of %u, at %u", l->nr, l->bytes, l->shift);
	}
}

#define LAYOUT_CHECK(piece_bytes, nr_pieces, ...)				\
	layout_check(_metadata, self, variant->indirect, &(struct layout) {	\
		.bytes = (piece_bytes), .nr = (nr_pieces), __VA_ARGS__		\
	})

/* Whole blocks on whole pages: as this disk likes it, one and many */
TEST_F(one_segment, pages)
{
	static const unsigned int nr[] = { 1, 2, 17, 128 };

	for (unsigned int i = 0; i < ARRAY_SIZE(nr); i++) {
		LAYOUT_CHECK(BLOCK, nr[i], .gap = BLOCK);
		LAYOUT_CHECK(nr[i] * BLOCK, 1);
	}
	LAYOUT_CHECK(VT_MIB, 1);
}

/* B04: two segments that together make one block, on one page and on two */
TEST_F(one_segment, halves)
{
	LAYOUT_CHECK(BLOCK / 2, 2);
	LAYOUT_CHECK(BLOCK / 2, 2, .gap = BLOCK);
	LAYOUT_CHECK(BLOCK / 2, 2, .shift = BLOCK / 2);
	LAYOUT_CHECK(BLOCK / 2, 128, .gap = BLOCK / 2);
	LAYOUT_CHECK(BLOCK / 2, 400);
}

/* B05: one segment at an address that the disk takes, but pages end inside its blocks */
TEST_F(one_segment, pages_end_inside_blocks)
{
	static const unsigned int shift[] = { 512, 1024, 2048, 3584 };
	static const unsigned int nr[] = { 1, 2, 16, 17, 255 };

	for (unsigned int i = 0; i < ARRAY_SIZE(shift); i++) {
		for (unsigned int k = 0; k < ARRAY_SIZE(nr); k++)
			LAYOUT_CHECK(nr[k] * BLOCK, 1, .shift = shift[i]);
		LAYOUT_CHECK(BLOCK, 16, .shift = shift[i], .gap = 512);
	}
}

/* B05: addresses that it does not take */
TEST_F(one_segment, odd_addresses)
{
	static const unsigned int shift[] = { 1, 4, 511, 2049, 4095 };

	for (unsigned int i = 0; i < ARRAY_SIZE(shift); i++) {
		LAYOUT_CHECK(BLOCK, 1, .shift = shift[i]);
		LAYOUT_CHECK(BLOCK, 3, .shift = shift[i], .gap = 100);
		LAYOUT_CHECK(17 * BLOCK, 2, .shift = shift[i], .gap = 7);
	}
}

/* B04: as many small ones as there may be */
TEST_F(one_segment, many_small)
{
	LAYOUT_CHECK(512, 504);
	LAYOUT_CHECK(512, 504, .shift = 3, .gap = 5);
	LAYOUT_CHECK(512, 504, .shift = 512, .gap = 512);
	LAYOUT_CHECK(16, 256, .gap = 3);
	LAYOUT_CHECK(1024, 508, .shift = 1024, .gap = 1024);
}

/* Several such requests at once: the parts that a split leaves are not mixed up */
TEST_F(one_segment, at_once)
{
	struct vt_req req[16] = {};
	uint8_t *p = vt_ptr(&self->dev.mem, self->data);

	for (unsigned int pass = 0; pass < 2; pass++) {
		for (unsigned int i = 0; i < ARRAY_SIZE(req); i++) {
			uint32_t at = i * (64 * 1024 + 512) + 512;

			req[i] = (struct vt_req) {
				.type = pass ? IN : OUT, .sector = i * 128,
				.data = self->data + at, .len = 64 * 1024,
				.seg_bytes = i % 2 ? 2048 : 0,
			};
			if (pass)
				memset(p + at, UNUSED, 64 * 1024);
			else
				vt_fill(p + at, 64 * 1024, 3, i * 128);
			ASSERT_EQ(0, vt_req_add(self->q, &req[i]));
		}
		vt_publish(self->q);
		vt_kick(self->q);
		ASSERT_EQ(0, vt_wait_all(self->q));
		for (unsigned int i = 0; i < ARRAY_SIZE(req); i++)
			EXPECT_EQ(OK, req[i].status);
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(req); i++)
		EXPECT_EQ(-1, vt_check(p + i * (64 * 1024 + 512) + 512, 64 * 1024, 3, i * 128));
}

#include "vt_test_unload.h"

VT_TEST_MAIN
