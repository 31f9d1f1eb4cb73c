// SPDX-License-Identifier: GPL-2.0-only
/*
 * One request in every shape of descriptors that a driver may use: the device
 * "MUST NOT make assumptions about the particular arrangement" (2.7.4).
 */
#include "vt_test.h"

FIXTURE(layout) {
	struct vt_dev dev;
	struct vt_queue *q;
	struct vt_chain *c;
	uint64_t hdr, status, data;
	uint8_t *p;		/* what data points to, 1 MiB */
};

#define layout_data FIXTURE_DATA(layout)

FIXTURE_VARIANT(layout) {
	bool indirect;
	uint64_t features;
};

FIXTURE_VARIANT_ADD(layout, direct) { .features = VT_F_BASE | VT_F_EVENT_IDX };
FIXTURE_VARIANT_ADD(layout, indirect) { .features = VT_F_BASE, .indirect = true };
/* B11: no VERSION_1: on this architecture native and little endian are the same */
FIXTURE_VARIANT_ADD(layout, legacy) {
	.features = VT_F(VIRTIO_F_ANY_LAYOUT) | VT_F_FLUSH | VT_F(VIRTIO_F_NOTIFY_ON_EMPTY),
};

FIXTURE_SETUP(layout)
{
	struct vt_opts opts = { .features = variant->features, .num = 1024 };

	ASSERT_EQ(0, vt_dev_init(&self->dev, &opts));
	ASSERT_EQ(0, vt_attach(&self->dev, vt_disk.fd));
	self->c = calloc(1, sizeof(*self->c));
	ASSERT_NE(NULL, self->c);
	self->q = &self->dev.q[0];
	self->hdr = vt_alloc(&self->dev.mem, 4096);
	self->status = vt_alloc(&self->dev.mem, 4096);
	self->data = vt_alloc(&self->dev.mem, VT_MIB);
	self->p = vt_ptr(&self->dev.mem, self->data);
}

FIXTURE_TEARDOWN(layout)
{
	EXPECT_EQ(0, vt_good(self->q));
	EXPECT_EQ(0, vt_queue_idle(self->q));
	EXPECT_EQ(0, vt_event_count(self->q->err, 0));
	EXPECT_EQ(0, vt_detach(&self->dev));
	vt_dev_fini(&self->dev);
	free(self->c);
}

/* Run the chain in self->c and expect it to end well with this used.len. */
#define RUN_OK(used_len) do {							\
	*(uint8_t *)vt_ptr(&self->dev.mem, self->status) = VT_STATUS_NONE;	\
	ASSERT_EQ((int)(used_len), vt_chain_run(self->q, self->c, variant->indirect)); \
	ASSERT_EQ(VIRTIO_BLK_S_OK, vt_status_read(&self->dev.mem, self->status)); \
} while (0)

#define HDR(type, sector) vt_hdr_write(&self->dev.mem, self->hdr, type, sector)

/* Put a pattern on the disk through the plainest layout there is. */
static void medium_fill(struct __test_metadata *_metadata, layout_data *self, uint64_t seed,
			uint64_t sector, uint32_t len)
{
	vt_fill(self->p, len, seed, sector);
	ASSERT_EQ(0, vt_io(self->q, VIRTIO_BLK_T_OUT, sector, self->data, len));
	memset(self->p, 0x55, len);
}

static void medium_check(struct __test_metadata *_metadata, layout_data *self, uint64_t seed,
			 uint64_t sector, uint32_t len)
{
	memset(self->p, 0x55, len);
	ASSERT_EQ(0, vt_io(self->q, VIRTIO_BLK_T_IN, sector, self->data, len));
	EXPECT_EQ(-1, vt_check(self->p, len, seed, sector));
}

/* B01 */
TEST_F(layout, header_and_data_in_one)
{
	HDR(VIRTIO_BLK_T_OUT, 8);
	vt_fill(vt_ptr(&self->dev.mem, self->hdr + 16), 512, 1, 8);
	vt_out(self->c, self->hdr, 528);
	vt_in(self->c, self->status, 1);
	RUN_OK(1);
	medium_check(_metadata, self, 1, 8, 512);
}

/* B02 */
TEST_F(layout, data_and_status_in_one)
{
	medium_fill(_metadata, self, 2, 8, 512);
	HDR(VIRTIO_BLK_T_IN, 8);
	self->status = self->data + 512;
	vt_out(self->c, self->hdr, 16);
	vt_in(self->c, self->data, 513);
	RUN_OK(513);
	EXPECT_EQ(-1, vt_check(self->p, 512, 2, 8));
}

/* B02: several data segments, the status in the tail of the last one */
TEST_F(layout, status_in_last_of_many)
{
	medium_fill(_metadata, self, 3, 16, 1536);
	HDR(VIRTIO_BLK_T_IN, 16);
	self->status = self->data + 1536;
	vt_out(self->c, self->hdr, 16);
	vt_in(self->c, self->data, 700);
	vt_in(self->c, self->data + 700, 837);
	RUN_OK(1537);
	EXPECT_EQ(-1, vt_check(self->p, 1536, 3, 16));
}

/* B03, with the data hanging on the header's last piece */
TEST_F(layout, split_header)
{
	static const unsigned int cut[] = { 1, 2, 3, 5, 15, 16 };

	for (unsigned int i = 0; i < ARRAY_SIZE(cut); i++) {
		unsigned int at, part = 16 / cut[i];

		HDR(VIRTIO_BLK_T_OUT, 24);
		vt_fill(vt_ptr(&self->dev.mem, self->hdr + 16), 512, i, 24);
		for (at = 0; at + part < 16; at += part)
			vt_out(self->c, self->hdr + at, part);
		vt_out(self->c, self->hdr + at, 16 - at + 512);
		vt_in(self->c, self->status, 1);
		RUN_OK(1);
		medium_check(_metadata, self, i, 24, 512);
	}
}

/* Lay @len bytes in pieces with gaps between; the pieces' sizes come from @seed. */
static unsigned int pieces(unsigned int len, unsigned int seed, unsigned int *size)
{
	unsigned int n = 0, sum = 0;

	srand(seed);
	for (; sum < len; sum += size[n++]) {
		size[n] = 1 + rand() % 511;
		if (size[n] > len - sum)
			size[n] = len - sum;
	}
	return n;
}

#define PIECE_ROOM	1024	/* where each piece starts, odd bytes into it */

/* B04, B05 */
TEST_F(layout, odd_pieces)
{
	const unsigned int len = 8192;
	uint8_t *flat = malloc(len);
	unsigned int size[len], n, at;

	ASSERT_NE(NULL, flat);
	for (unsigned int seed = 1; seed <= 8; seed++) {
		n = pieces(len, seed, size);
		vt_fill(flat, len, seed, 32);
		memset(self->p, 0x55, n * PIECE_ROOM);
		HDR(VIRTIO_BLK_T_OUT, 32);
		vt_out(self->c, self->hdr, 16);
		for (unsigned int i = at = 0; i < n; at += size[i++]) {
			memcpy(self->p + i * PIECE_ROOM + i % 7, flat + at, size[i]);
			vt_out(self->c, self->data + i * PIECE_ROOM + i % 7, size[i]);
		}
		vt_in(self->c, self->status, 1);
		RUN_OK(1);
		medium_check(_metadata, self, seed, 32, len);

		memset(self->p, 0x55, n * PIECE_ROOM);
		HDR(VIRTIO_BLK_T_IN, 32);
		vt_out(self->c, self->hdr, 16);
		for (unsigned int i = 0; i < n; i++)
			vt_in(self->c, self->data + i * PIECE_ROOM + i % 7, size[i]);
		vt_in(self->c, self->status, 1);
		RUN_OK(len + 1);
		for (unsigned int i = at = 0; i < n; at += size[i++]) {
			uint8_t *piece = self->p + i * PIECE_ROOM;

			EXPECT_EQ(-1, vt_check_byte(piece, i % 7, 0x55));
			EXPECT_EQ(0, memcmp(piece + i % 7, flat + at, size[i]));
			EXPECT_EQ(-1, vt_check_byte(piece + i % 7 + size[i],
						    PIECE_ROOM - i % 7 - size[i], 0x55));
		}
	}
	free(flat);
}

/* B04: the smallest pieces there are */
TEST_F(layout, single_bytes)
{
	uint8_t *flat = malloc(512);

	ASSERT_NE(NULL, flat);
	vt_fill(flat, 512, 4, 40);
	HDR(VIRTIO_BLK_T_OUT, 40);
	vt_out(self->c, self->hdr, 16);
	for (int i = 0; i < 500; i++) {
		self->p[2 * i] = flat[i];
		vt_out(self->c, self->data + 2 * i, 1);
	}
	memcpy(self->p + 1000, flat + 500, 12);
	vt_out(self->c, self->data + 1000, 12);
	vt_in(self->c, self->status, 1);
	RUN_OK(1);
	medium_check(_metadata, self, 4, 40, 512);
	free(flat);
}

/* B05: one segment at an odd address, also longer than a page, also at a page's end */
TEST_F(layout, odd_address)
{
	static const unsigned int shift[] = { 1, 3, 7, 8, 511, 512, 2049, 4095 };
	static const unsigned int len[] = { 512, 4096, 65536 };

	for (unsigned int i = 0; i < ARRAY_SIZE(shift) * ARRAY_SIZE(len); i++) {
		unsigned int s = shift[i / ARRAY_SIZE(len)], l = len[i % ARRAY_SIZE(len)];

		vt_fill(self->p + s, l, i, 48);
		ASSERT_EQ(0, vt_io(self->q, VIRTIO_BLK_T_OUT, 48, self->data + s, l));
		medium_check(_metadata, self, i, 48, l);
		memset(self->p, 0x55, s + l + 64);
		ASSERT_EQ(0, vt_io(self->q, VIRTIO_BLK_T_IN, 48, self->data + s, l));
		EXPECT_EQ(-1, vt_check_byte(self->p, s, 0x55));
		EXPECT_EQ(-1, vt_check(self->p + s, l, i, 48));
		EXPECT_EQ(-1, vt_check_byte(self->p + s + l, 64, 0x55));
	}
}

/* B06: data over the place where two regions meet, cut at and off page ends */
TEST_F(layout, data_over_region_boundary)
{
	static const unsigned int before[] = { 4096, 512, 100, 1, 65536 - 512 };

	for (unsigned int i = 0; i < ARRAY_SIZE(before); i++) {
		uint64_t gpa = vt_boundary(&self->dev.mem) - before[i];
		uint8_t *p = vt_ptr(&self->dev.mem, gpa);

		vt_fill(p, 65536, i, 64);
		ASSERT_EQ(0, vt_io(self->q, VIRTIO_BLK_T_OUT, 64, gpa, 65536));
		medium_check(_metadata, self, i, 64, 65536);
		memset(p, 0x55, 65536 + 64);
		ASSERT_EQ(0, vt_io(self->q, VIRTIO_BLK_T_IN, 64, gpa, 65536));
		EXPECT_EQ(-1, vt_check(p, 65536, i, 64));
		EXPECT_EQ(-1, vt_check_byte(p + 65536, 64, 0x55));
	}
}

/* B06 */
TEST_F(layout, header_and_status_over_region_boundary)
{
	for (unsigned int before = 1; before < 16; before += 7) {
		medium_fill(_metadata, self, before, 72, 512);
		self->hdr = vt_boundary(&self->dev.mem) - before;
		HDR(VIRTIO_BLK_T_IN, 72);
		vt_out(self->c, self->hdr, 16);
		vt_in(self->c, self->data, 512);
		vt_in(self->c, self->status, 1);
		RUN_OK(513);
		EXPECT_EQ(-1, vt_check(self->p, 512, before, 72));
	}
	/* data up to the last byte of one region, status the first of the next */
	self->hdr = self->data + 8192;
	self->status = vt_boundary(&self->dev.mem);
	HDR(VIRTIO_BLK_T_IN, 72);
	vt_out(self->c, self->hdr, 16);
	vt_in(self->c, self->status - 512, 513);
	RUN_OK(513);
	EXPECT_EQ(-1, vt_check(vt_ptr(&self->dev.mem, self->status - 512), 512, 15, 72));
}

/* B06: every one of the most segments there may be lies in two regions */
TEST_F(layout, all_segments_over_region_boundary)
{
	uint64_t gpa = vt_boundary(&self->dev.mem) - 256;
	uint8_t *p = vt_ptr(&self->dev.mem, gpa);

	vt_fill(p, 512, 5, 80);
	HDR(VIRTIO_BLK_T_OUT, 80);
	vt_out(self->c, self->hdr, 16);
	for (unsigned int i = 0; i < VT_SEG_MAX; i++)
		vt_out(self->c, gpa, 512);
	vt_in(self->c, self->status, 1);
	RUN_OK(1);
	ASSERT_EQ(0, vt_io(self->q, VIRTIO_BLK_T_IN, 80, self->data, VT_SEG_MAX * 512));
	for (unsigned int i = 0; i < VT_SEG_MAX; i++)
		EXPECT_EQ(-1, vt_check(self->p + i * 512, 512, 5, 80));
}

/* B06: memory above 4 GiB that is no neighbour of any other */
TEST_F(layout, high_region)
{
	uint64_t gpa = vt_alloc_in(&self->dev.mem, 2, 8192, 4096);
	uint8_t *p = vt_ptr(&self->dev.mem, gpa);

	vt_fill(p, 4096, 6, 88);
	HDR(VIRTIO_BLK_T_OUT, 88);
	vt_out(self->c, self->hdr, 16);
	vt_out(self->c, gpa, 4096);
	self->status = gpa + 4096;
	vt_in(self->c, self->status, 1);
	RUN_OK(1);
	medium_check(_metadata, self, 6, 88, 4096);
}

/* B07 */
TEST_F(layout, empty_descriptors)
{
	medium_fill(_metadata, self, 7, 96, 1024);
	HDR(VIRTIO_BLK_T_IN, 96);
	vt_out(self->c, self->hdr, 0);
	vt_out(self->c, self->hdr, 16);
	vt_out(self->c, self->hdr, 0);
	vt_in(self->c, self->data, 0);
	vt_in(self->c, self->data, 512);
	vt_in(self->c, self->data, 0);
	vt_in(self->c, self->data + 512, 512);
	vt_in(self->c, self->status, 1);
	vt_in(self->c, self->data + 2048, 0);
	RUN_OK(1025);
	EXPECT_EQ(-1, vt_check(self->p, 1024, 7, 96));
}

/* B10: one page for all segments of a request */
TEST_F(layout, same_page_twice)
{
	vt_fill(self->p, 512, 8, 104);
	HDR(VIRTIO_BLK_T_OUT, 104);
	vt_out(self->c, self->hdr, 16);
	vt_out(self->c, self->data, 512);
	vt_out(self->c, self->data, 512);
	vt_in(self->c, self->status, 1);
	RUN_OK(1);
	ASSERT_EQ(0, vt_io(self->q, VIRTIO_BLK_T_IN, 104, self->data, 1024));
	EXPECT_EQ(-1, vt_check(self->p, 512, 8, 104));
	EXPECT_EQ(-1, vt_check(self->p + 512, 512, 8, 104));
}

/* B10: two requests in flight that share pages, each with half of every page */
TEST_F(layout, same_pages_by_two_requests)
{
	struct vt_req req[2] = {};

	medium_fill(_metadata, self, 9, 112, 4096);
	for (int i = 0; i < 2; i++) {
		req[i].type = VIRTIO_BLK_T_IN;
		req[i].sector = 112 + 4 * i;
		req[i].data = self->data + 2048 * i;
		req[i].len = 2048;
		ASSERT_EQ(0, vt_req_add(self->q, &req[i]));
	}
	vt_publish(self->q);
	vt_kick(self->q);
	ASSERT_EQ(0, vt_wait_all(self->q));
	EXPECT_EQ(VIRTIO_BLK_S_OK, req[0].status);
	EXPECT_EQ(VIRTIO_BLK_S_OK, req[1].status);
	EXPECT_EQ(-1, vt_check(self->p, 4096, 9, 112));
}

/* B10: both requests read the same sector to the same place */
TEST_F(layout, same_buffer_by_two_requests)
{
	struct vt_req req[2] = {};

	medium_fill(_metadata, self, 10, 120, 4096);
	for (int i = 0; i < 2; i++) {
		req[i] = (struct vt_req) {
			.type = VIRTIO_BLK_T_IN, .sector = 120, .data = self->data, .len = 4096,
		};
		ASSERT_EQ(0, vt_req_add(self->q, &req[i]));
	}
	vt_publish(self->q);
	vt_kick(self->q);
	ASSERT_EQ(0, vt_wait_all(self->q));
	EXPECT_EQ(-1, vt_check(self->p, 4096, 10, 120));
}

/* The most segments and the longest odd one: more than one bio holds, through the bounce path */
TEST_F(layout, large_and_odd)
{
	uint64_t gpa = vt_alloc(&self->dev.mem, 4 * VT_MIB + 4096) + 1;
	uint8_t *p = vt_ptr(&self->dev.mem, gpa);
	struct vt_req req = {
		.type = VIRTIO_BLK_T_OUT, .sector = 1024, .data = gpa, .len = VT_SEG_MAX * 512,
		.seg_bytes = 512,
	};

	vt_fill(p, 4 * VT_MIB, 11, 1024);
	ASSERT_EQ(0, vt_req_run(self->q, &req));
	ASSERT_EQ(VIRTIO_BLK_S_OK, req.status);
	medium_check(_metadata, self, 11, 1024, VT_SEG_MAX * 512);
	ASSERT_EQ(0, vt_io(self->q, VIRTIO_BLK_T_OUT, 1024, gpa, 4 * VT_MIB));
	memset(p, 0, 4 * VT_MIB);
	ASSERT_EQ(0, vt_io(self->q, VIRTIO_BLK_T_IN, 1024, gpa, 4 * VT_MIB));
	EXPECT_EQ(-1, vt_check(p, 4 * VT_MIB, 11, 1024));
}

/* ---- indirect tables that the lib would not write ---- */

FIXTURE(table) {
	struct vt_dev dev;
	struct vt_queue *q;
	uint64_t hdr, status, data;
};

#define table_data FIXTURE_DATA(table)

FIXTURE_SETUP(table)
{
	ASSERT_EQ(0, vt_dev_init(&self->dev, &(struct vt_opts) { .num = 64 }));
	ASSERT_EQ(0, vt_attach(&self->dev, vt_disk.fd));
	self->q = &self->dev.q[0];
	self->hdr = vt_alloc(&self->dev.mem, 4096);
	self->status = vt_alloc(&self->dev.mem, 4096);
	self->data = vt_alloc(&self->dev.mem, VT_MIB);
}

FIXTURE_TEARDOWN(table)
{
	EXPECT_EQ(0, vt_event_count(self->q->err, 0));
	EXPECT_EQ(0, vt_detach(&self->dev));
	vt_dev_fini(&self->dev);
}

static void entry(struct vt_mem *mem, uint64_t table, unsigned int i, struct vt_seg seg,
		  bool last)
{
	struct vring_desc d = {
		.addr = seg.gpa, .len = seg.len, .next = i + 1,
		.flags = seg.flags | (last ? 0 : VRING_DESC_F_NEXT),
	};

	/* The table may lie at any address: no aligned store. */
	memcpy(vt_ptr(mem, table + i * sizeof(d)), &d, sizeof(d));
}

/* A read of @nr segments of 512 bytes through a table of @room entries at @table. */
static int table_read(struct __test_metadata *_metadata, table_data *self,
		      uint64_t table, unsigned int nr, unsigned int room, uint16_t flags)
{
	struct vt_mem *mem = &self->dev.mem;
	struct vt_queue *q = self->q;
	struct vt_used u;

	vt_fill(vt_ptr(mem, self->data), nr * 512, room, 0);
	ASSERT_EQ(0, vt_io(q, VIRTIO_BLK_T_OUT, 0, self->data, nr * 512));
	memset(vt_ptr(mem, self->data), 0, nr * 512);

	vt_hdr_write(mem, self->hdr, VIRTIO_BLK_T_IN, 0);
	entry(mem, table, 0, (struct vt_seg) { self->hdr, 16, 0 }, false);
	for (unsigned int i = 0; i < nr; i++)
		entry(mem, table, i + 1,
		      (struct vt_seg) { self->data + i * 512, 512, VRING_DESC_F_WRITE }, false);
	entry(mem, table, nr + 1, (struct vt_seg) { self->status, 1, VRING_DESC_F_WRITE }, true);

	q->desc[63].addr = table;
	q->desc[63].len = room * sizeof(struct vring_desc);
	q->desc[63].flags = VRING_DESC_F_INDIRECT | flags;
	*(uint8_t *)vt_ptr(mem, self->status) = VT_STATUS_NONE;
	vt_add_head(q, 63);
	vt_publish(q);
	vt_kick(q);
	ASSERT_EQ(0, vt_wait(q, &u));
	ASSERT_EQ(63, u.head);
	EXPECT_EQ(VIRTIO_BLK_S_OK, vt_status_read(mem, self->status));
	EXPECT_EQ(-1, vt_check(vt_ptr(mem, self->data), nr * 512, room, 0));
	return u.len;
}

/* B08: also a table with more room than its chain takes */
TEST_F(table, sizes)
{
	uint64_t table = vt_alloc(&self->dev.mem, 65536);

	EXPECT_EQ(513, table_read(_metadata, self, table, 1, 3, 0));
	EXPECT_EQ(126 * 512 + 1, table_read(_metadata, self, table, 126, 128, 0));
	EXPECT_EQ(VT_SEG_MAX * 512 + 1,
		  table_read(_metadata, self, table, VT_SEG_MAX, VT_SEG_MAX + 2, 0));
	EXPECT_EQ(8 * 512 + 1, table_read(_metadata, self, table, 8, 1024, 0));
}

/* B08: a table of two entries, no data at all */
TEST_F(table, two_entries)
{
	uint64_t table = vt_alloc(&self->dev.mem, 4096);
	struct vt_mem *mem = &self->dev.mem;
	struct vt_used u;

	vt_hdr_write(mem, self->hdr, VIRTIO_BLK_T_FLUSH, 0);
	entry(mem, table, 0, (struct vt_seg) { self->hdr, 16, 0 }, false);
	entry(mem, table, 1, (struct vt_seg) { self->status, 1, VRING_DESC_F_WRITE }, true);
	self->q->desc[63].addr = table;
	self->q->desc[63].len = 32;
	self->q->desc[63].flags = VRING_DESC_F_INDIRECT;
	*(uint8_t *)vt_ptr(mem, self->status) = VT_STATUS_NONE;
	vt_add_head(self->q, 63);
	vt_publish(self->q);
	vt_kick(self->q);
	ASSERT_EQ(0, vt_wait(self->q, &u));
	EXPECT_EQ(1, u.len);
	EXPECT_EQ(VIRTIO_BLK_S_OK, vt_status_read(mem, self->status));
}

/* B08 */
TEST_F(table, over_region_boundary)
{
	uint64_t boundary = vt_boundary(&self->dev.mem);

	EXPECT_EQ(8 * 512 + 1, table_read(_metadata, self, boundary - 64, 8, 10, 0));
	/* one entry itself in two regions */
	EXPECT_EQ(8 * 512 + 1, table_read(_metadata, self, boundary - 40, 8, 10, 0));
}

/* B08 */
TEST_F(table, unaligned)
{
	uint64_t table = vt_alloc(&self->dev.mem, 8192);

	EXPECT_EQ(8 * 512 + 1, table_read(_metadata, self, table + 1, 8, 10, 0));
	EXPECT_EQ(8 * 512 + 1, table_read(_metadata, self, table + 4090, 8, 10, 0));
}

/* B12: "the device MUST ignore the write-only flag" (2.7.5.3.2) */
TEST_F(table, write_flag_ignored)
{
	uint64_t table = vt_alloc(&self->dev.mem, 4096);

	EXPECT_EQ(513, table_read(_metadata, self, table, 1, 3, VRING_DESC_F_WRITE));
}

/* B09: header direct, all else in the table that follows; down to a table of one */
TEST_F(table, direct_then_indirect)
{
	uint64_t table = vt_alloc(&self->dev.mem, 4096);
	struct vt_seg data = { .gpa = self->data, .flags = VRING_DESC_F_WRITE };
	struct vt_seg status = { self->data + 512, 1, VRING_DESC_F_WRITE };
	struct vt_mem *mem = &self->dev.mem;
	struct vt_queue *q = self->q;
	struct vt_used u;

	for (unsigned int nr = 1; nr <= 2; nr++) {
		vt_fill(vt_ptr(mem, self->data), 512, nr, 0);
		ASSERT_EQ(0, vt_io(q, VIRTIO_BLK_T_OUT, 0, self->data, 512));
		memset(vt_ptr(mem, self->data), 0, 513);
		vt_hdr_write(mem, self->hdr, VIRTIO_BLK_T_IN, 0);
		data.len = nr == 1 ? 513 : 512;
		entry(mem, table, 0, data, nr == 1);
		entry(mem, table, 1, status, true);
		q->desc[62] = (struct vring_desc) { self->hdr, 16, VRING_DESC_F_NEXT, 63 };
		q->desc[63] = (struct vring_desc) { table, nr * 16, VRING_DESC_F_INDIRECT, 0 };
		*(uint8_t *)vt_ptr(mem, self->data + 512) = VT_STATUS_NONE;
		vt_add_head(q, 62);
		vt_publish(q);
		vt_kick(q);
		ASSERT_EQ(0, vt_wait(q, &u));
		EXPECT_EQ(62, u.head);
		EXPECT_EQ(513, u.len);
		EXPECT_EQ(VIRTIO_BLK_S_OK, vt_status_read(mem, self->data + 512));
		EXPECT_EQ(-1, vt_check(vt_ptr(mem, self->data), 512, nr, 0));
	}
}

VT_TEST_MAIN
