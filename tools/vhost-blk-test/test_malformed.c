// SPDX-License-Identifier: GPL-2.0-only
/*
 * Requests that break a rule: each is answered and changes nothing, and the
 * queue goes on. The teardown sends a good request after every one of them.
 */
#include "vt_test.h"

#define SECTOR	64	/* where requests of these tests go */
#define CANARY	0x5a

FIXTURE(bad) {
	struct vt_dev dev;
	struct vt_mem *mem;
	struct vt_queue *q;
	struct vt_chain *c;
	uint64_t hdr, status, data;
	uint8_t *p;		/* what data points to, 1 MiB */
	bool err_expected;
};

FIXTURE_VARIANT(bad) { bool indirect; };
FIXTURE_VARIANT_ADD(bad, direct) { .indirect = false };
FIXTURE_VARIANT_ADD(bad, indirect) { .indirect = true };

FIXTURE_SETUP(bad)
{
	struct vt_opts opts = { .num = 1024, .features = VT_F_BASE | VT_F_EVENT_IDX };

	ASSERT_EQ(0, vt_dev_init(&self->dev, &opts));
	ASSERT_EQ(0, vt_attach(&self->dev, vt_disk.fd));
	self->c = calloc(1, sizeof(*self->c));
	ASSERT_NE(NULL, self->c);
	self->q = &self->dev.q[0];
	self->mem = &self->dev.mem;
	self->hdr = vt_alloc(self->mem, 4096);
	self->status = vt_alloc(self->mem, 4096);
	self->data = vt_alloc(self->mem, VT_MIB);
	self->p = vt_ptr(self->mem, self->data);
	/* known data on the medium, something else in memory */
	vt_fill(self->p, 65536, 99, SECTOR);
	ASSERT_EQ(0, vt_io(self->q, VIRTIO_BLK_T_OUT, SECTOR, self->data, 65536));
	memset(self->p, CANARY, 65536);
}

FIXTURE_TEARDOWN(bad)
{
	uint64_t gpa = vt_alloc(self->mem, 65536);

	EXPECT_EQ(0, vt_good(self->q));
	EXPECT_EQ(0, vt_io(self->q, VIRTIO_BLK_T_IN, SECTOR, gpa, 65536));
	EXPECT_EQ(-1, vt_check(vt_ptr(self->mem, gpa), 65536, 99, SECTOR));
	EXPECT_EQ(0, vt_queue_idle(self->q));
	EXPECT_EQ(self->err_expected, vt_event_count(self->q->err, 0) != 0);
	EXPECT_EQ(0, vt_detach(&self->dev));
	vt_dev_fini(&self->dev);
	free(self->c);
}

#define HDR(type, sector) vt_hdr_write(self->mem, self->hdr, type, sector)
#define STATUS_CLEAR() (*(uint8_t *)vt_ptr(self->mem, self->status) = VT_STATUS_NONE)

/* Run the chain in self->c: it comes back with this status and used.len. */
#define EXPECT_ANSWER(want_status, used_len) do {				\
	STATUS_CLEAR();								\
	EXPECT_EQ((int)(used_len), vt_chain_run(self->q, self->c, variant->indirect)); \
	EXPECT_EQ(want_status, vt_status_read(self->mem, self->status));	\
} while (0)

#define EXPECT_IOERR()	EXPECT_ANSWER(VIRTIO_BLK_S_IOERR, 1)

#define EXPECT_UNTOUCHED(len) EXPECT_EQ(-1, vt_check_byte(self->p, len, CANARY))

/* C01 */
TEST_F(bad, header_too_short)
{
	static const uint32_t len[] = { 1, 8, 15 };

	for (unsigned int i = 0; i < ARRAY_SIZE(len); i++) {
		HDR(VIRTIO_BLK_T_IN, SECTOR);
		vt_out(self->c, self->hdr, len[i]);
		vt_in(self->c, self->data, 512);
		vt_in(self->c, self->status, 1);
		EXPECT_IOERR();
		EXPECT_UNTOUCHED(4096);
	}
}

/* C01 */
TEST_F(bad, header_missing)
{
	vt_in(self->c, self->status, 1);
	EXPECT_IOERR();
	vt_in(self->c, self->data, 512);
	vt_in(self->c, self->status, 1);
	EXPECT_IOERR();
	EXPECT_UNTOUCHED(4096);
}

/* C02 */
TEST_F(bad, header_writable)
{
	uint8_t before[16];

	HDR(VIRTIO_BLK_T_IN, SECTOR);
	memcpy(before, vt_ptr(self->mem, self->hdr), 16);
	vt_in(self->c, self->hdr, 16);
	vt_in(self->c, self->data, 512);
	vt_in(self->c, self->status, 1);
	EXPECT_IOERR();
	EXPECT_EQ(0, memcmp(before, vt_ptr(self->mem, self->hdr), 16));
	EXPECT_UNTOUCHED(4096);
}

/* C03: nothing can be said to the guest but that the head is back */
TEST_F(bad, no_writable_byte)
{
	self->err_expected = true;
	HDR(VIRTIO_BLK_T_OUT, SECTOR);
	vt_out(self->c, self->hdr, 16);
	EXPECT_EQ(0, vt_chain_run(self->q, self->c, variant->indirect));
	EXPECT_NE(0, vt_event_count(self->q->err, vt_timeout_ms()));
	vt_out(self->c, self->hdr, 16);
	vt_out(self->c, self->data, 512);
	EXPECT_EQ(0, vt_chain_run(self->q, self->c, variant->indirect));
	EXPECT_NE(0, vt_event_count(self->q->err, vt_timeout_ms()));
	HDR(VIRTIO_BLK_T_FLUSH, 0);
	vt_out(self->c, self->hdr, 16);
	EXPECT_EQ(0, vt_chain_run(self->q, self->c, variant->indirect));
}

/* C04: an empty status descriptor is none: the last byte before it is the status */
TEST_F(bad, status_empty)
{
	self->err_expected = true;
	HDR(VIRTIO_BLK_T_OUT, SECTOR);
	vt_out(self->c, self->hdr, 16);
	vt_out(self->c, self->data, 512);
	vt_in(self->c, self->status, 0);
	EXPECT_EQ(0, vt_chain_run(self->q, self->c, variant->indirect));

	self->status = self->data + 511;
	HDR(VIRTIO_BLK_T_IN, SECTOR);
	vt_out(self->c, self->hdr, 16);
	vt_in(self->c, self->data, 512);
	vt_in(self->c, self->status, 0);
	EXPECT_IOERR();		/* 511 bytes of payload are left */
	EXPECT_UNTOUCHED(511);
}

/* C05 */
TEST_F(bad, status_unmapped)
{
	static const uint32_t type[] = { VIRTIO_BLK_T_IN, VIRTIO_BLK_T_FLUSH, 5 };

	for (unsigned int i = 0; i < ARRAY_SIZE(type); i++) {
		ASSERT_EQ(0, vt_dev_protect(self->mem, self->status, 4096,
					    i ? PROT_NONE : PROT_READ));
		HDR(type[i], SECTOR);
		vt_out(self->c, self->hdr, 16);
		if (type[i] == VIRTIO_BLK_T_IN)
			vt_in(self->c, self->data, 4096);
		vt_in(self->c, self->status, 1);
		EXPECT_ANSWER(VT_STATUS_NONE, 0);
		ASSERT_EQ(0, vt_dev_protect(self->mem, self->status, 4096,
					    PROT_READ | PROT_WRITE));
	}
}

/* C06, and types whose feature is not acked */
TEST_F(bad, unknown_type)
{
	static const uint32_t type[] = {
		2, 3, 5, 6, 7, 9, 10, VIRTIO_BLK_T_DISCARD, 12, VIRTIO_BLK_T_WRITE_ZEROES,
		VIRTIO_BLK_T_SECURE_ERASE, 15, 16, 24, 26, 0x100, 0x10000, 0x40000000, 0xffffffff,
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(type); i++) {
		HDR(type[i], SECTOR);
		vt_out(self->c, self->hdr, 16);
		vt_in(self->c, self->status, 1);
		EXPECT_ANSWER(VIRTIO_BLK_S_UNSUPP, 1);
		vt_out(self->c, self->hdr, 16);
		vt_out(self->c, self->data, 32);
		vt_in(self->c, self->data + 512, 512);
		vt_in(self->c, self->status, 1);
		EXPECT_ANSWER(VIRTIO_BLK_S_UNSUPP, 1);
	}
	EXPECT_UNTOUCHED(4096);
}

/* C07 */
TEST_F(bad, legacy_barrier_bit)
{
	HDR(VIRTIO_BLK_T_IN | 0x80000000, SECTOR);
	vt_out(self->c, self->hdr, 16);
	vt_in(self->c, self->data, 512);
	vt_in(self->c, self->status, 1);
	EXPECT_ANSWER(VIRTIO_BLK_S_OK, 513);
	EXPECT_EQ(-1, vt_check(self->p, 512, 99, SECTOR));
	HDR(VIRTIO_BLK_T_OUT | 0x80000000, SECTOR);
	vt_out(self->c, self->hdr, 16);
	vt_out(self->c, self->data, 512);
	vt_in(self->c, self->status, 1);
	EXPECT_ANSWER(VIRTIO_BLK_S_OK, 1);
	HDR(VIRTIO_BLK_T_FLUSH | 0x80000000, 0);
	vt_out(self->c, self->hdr, 16);
	vt_in(self->c, self->status, 1);
	EXPECT_ANSWER(VIRTIO_BLK_S_OK, 1);
	HDR(5 | 0x80000000, 0);
	vt_out(self->c, self->hdr, 16);
	vt_in(self->c, self->status, 1);
	EXPECT_ANSWER(VIRTIO_BLK_S_UNSUPP, 1);
}

/* C08 */
TEST_F(bad, payload_on_the_wrong_side)
{
	HDR(VIRTIO_BLK_T_IN, SECTOR);
	vt_out(self->c, self->hdr, 16);
	vt_out(self->c, self->data, 512);
	vt_in(self->c, self->status, 1);
	EXPECT_IOERR();
	vt_out(self->c, self->hdr, 16 + 512);
	vt_in(self->c, self->data, 512);
	vt_in(self->c, self->status, 1);
	EXPECT_IOERR();

	HDR(VIRTIO_BLK_T_OUT, SECTOR);
	vt_out(self->c, self->hdr, 16);
	vt_in(self->c, self->data, 512);
	vt_in(self->c, self->status, 1);
	EXPECT_IOERR();
	vt_out(self->c, self->hdr, 16);
	vt_out(self->c, self->data, 512);
	vt_in(self->c, self->data + 512, 512);
	vt_in(self->c, self->status, 1);
	EXPECT_IOERR();
	vt_out(self->c, self->hdr, 16);
	vt_out(self->c, self->data, 512);
	vt_in(self->c, self->status - 1, 2);
	EXPECT_IOERR();

	HDR(VIRTIO_BLK_T_GET_ID, 0);
	vt_out(self->c, self->hdr, 16);
	vt_out(self->c, self->data, 20);
	vt_in(self->c, self->status, 1);
	EXPECT_IOERR();
	EXPECT_UNTOUCHED(4096);
}

/* C08 for FLUSH: payload on any side is wrong */
TEST_F(bad, flush_with_payload)
{
	HDR(VIRTIO_BLK_T_FLUSH, 0);
	vt_out(self->c, self->hdr, 16);
	vt_out(self->c, self->data, 512);
	vt_in(self->c, self->status, 1);
	EXPECT_IOERR();
	vt_out(self->c, self->hdr, 16);
	vt_in(self->c, self->data, 512);
	vt_in(self->c, self->status, 1);
	EXPECT_IOERR();
	EXPECT_UNTOUCHED(4096);
}

/* C09 */
TEST_F(bad, length)
{
	static const uint32_t len[] = { 0, 1, 511, 513, 1023, 4096 + 256 };

	for (unsigned int i = 0; i < ARRAY_SIZE(len); i++) {
		HDR(VIRTIO_BLK_T_IN, SECTOR);
		vt_out(self->c, self->hdr, 16);
		if (len[i])
			vt_in(self->c, self->data, len[i]);
		vt_in(self->c, self->status, 1);
		EXPECT_IOERR();
		HDR(VIRTIO_BLK_T_OUT, SECTOR);
		vt_out(self->c, self->hdr, 16);
		if (len[i])
			vt_out(self->c, self->data, len[i]);
		vt_in(self->c, self->status, 1);
		EXPECT_IOERR();
	}
	EXPECT_UNTOUCHED(8192);
}

/* C10 */
TEST_F(bad, range)
{
	const uint64_t end = vt_disk.bytes / VT_SECTOR;
	const uint64_t sector[] = {
		end - 7, end - 1, end, end + 1, 1ULL << 32, (1ULL << 32) + SECTOR, 1ULL << 55,
		(1ULL << 55) + SECTOR, 1ULL << 63, ~0ULL - 8, ~0ULL - 7, ~0ULL - 6, ~0ULL,
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(sector); i++) {
		EXPECT_EQ(VIRTIO_BLK_S_IOERR,
			  vt_io(self->q, VIRTIO_BLK_T_OUT, sector[i], self->data, 4096));
		EXPECT_EQ(VIRTIO_BLK_S_IOERR,
			  vt_io(self->q, VIRTIO_BLK_T_IN, sector[i], self->data, 4096));
	}
	EXPECT_UNTOUCHED(4096);
	EXPECT_EQ(0, vt_io(self->q, VIRTIO_BLK_T_OUT, end - 8, self->data, 4096));
}

/* C17: 4 GiB and a sector, which is a sector to who counts in 32 bits */
TEST_F(bad, payload_wraps_32_bits)
{
	for (int type = VIRTIO_BLK_T_IN; type <= VIRTIO_BLK_T_OUT; type++) {
		HDR(type, SECTOR);
		vt_out(self->c, self->hdr, 16);
		for (int i = 0; i < 256 + 1; i++) {
			uint32_t len = i < 256 ? 16 * VT_MIB : 512;

			if (type == VIRTIO_BLK_T_IN)
				vt_in(self->c, self->mem->region[1].gpa + 8 * VT_MIB, len);
			else
				vt_out(self->c, self->mem->region[1].gpa + 8 * VT_MIB, len);
		}
		vt_in(self->c, self->status, 1);
		EXPECT_IOERR();
	}
	EXPECT_UNTOUCHED(4096);
}

/* C18, C19: the first @good pages can be had, the next one cannot; also bounced */
TEST_F(bad, payload_unmapped)
{
	static const unsigned int good[] = { 0, 1, 7, 100 };

	for (unsigned int i = 0; i < 2 * ARRAY_SIZE(good); i++) {
		uint64_t hole = self->data + good[i / 2] * 4096;
		uint64_t at = self->data + i % 2;
		uint32_t len = (good[i / 2] + 2) * 4096;

		ASSERT_EQ(0, vt_dev_protect(self->mem, hole, 4096, PROT_NONE));
		EXPECT_EQ(VIRTIO_BLK_S_IOERR, vt_io(self->q, VIRTIO_BLK_T_IN, SECTOR, at, len));
		/* beyond what the teardown compares: a part may be written */
		EXPECT_EQ(VIRTIO_BLK_S_IOERR, vt_io(self->q, VIRTIO_BLK_T_OUT, 4096, at, len));
		ASSERT_EQ(0, vt_dev_protect(self->mem, hole, 4096, PROT_READ | PROT_WRITE));
		EXPECT_EQ(0, vt_io(self->q, VIRTIO_BLK_T_IN, SECTOR, at, len));
	}
}

/* C18: memory that the owner may only read is good for OUT and bad for IN */
TEST_F(bad, payload_read_only)
{
	ASSERT_EQ(0, vt_dev_protect(self->mem, self->data, 8192, PROT_READ));
	for (int odd = 0; odd < 2; odd++) {
		EXPECT_EQ(VIRTIO_BLK_S_IOERR,
			  vt_io(self->q, VIRTIO_BLK_T_IN, SECTOR, self->data + odd, 4096));
		EXPECT_EQ(0, vt_io(self->q, VIRTIO_BLK_T_OUT, 4096, self->data + odd, 4096));
	}
	EXPECT_EQ(VIRTIO_BLK_S_IOERR, vt_io(self->q, VIRTIO_BLK_T_GET_ID, 0, self->data, 20));
	EXPECT_UNTOUCHED(8192);
	ASSERT_EQ(0, vt_dev_protect(self->mem, self->data, 8192, PROT_READ | PROT_WRITE));
}

/* C01 with a header that is there for the guest but not for us */
TEST_F(bad, header_unmapped)
{
	HDR(VIRTIO_BLK_T_IN, SECTOR);
	ASSERT_EQ(0, vt_dev_protect(self->mem, self->hdr, 4096, PROT_NONE));
	vt_out(self->c, self->hdr, 16);
	vt_in(self->c, self->data, 512);
	vt_in(self->c, self->status, 1);
	EXPECT_IOERR();
	EXPECT_UNTOUCHED(4096);
	ASSERT_EQ(0, vt_dev_protect(self->mem, self->hdr, 4096, PROT_READ | PROT_WRITE));
}

struct racer {
	struct virtio_blk_outhdr *hdr;
	volatile bool stop;
};

static void *racer_run(void *arg)
{
	struct racer *r = arg;
	volatile struct virtio_blk_outhdr *hdr = r->hdr;

	for (uint64_t i = 0; !r->stop; i++) {
		hdr->sector = i & 1 ? ~0ULL : SECTOR;
		hdr->type = i & 2 ? VIRTIO_BLK_T_OUT : i & 4 ? VIRTIO_BLK_T_IN : 77;
	}
	return NULL;
}

/* C20: a header that changes under the device is taken as one of its values */
TEST_F(bad, header_rewritten_after_kick)
{
	struct racer racer = { .hdr = vt_ptr(self->mem, self->hdr) };
	pthread_t thread;
	int len;

	HDR(VIRTIO_BLK_T_IN, SECTOR);
	ASSERT_EQ(0, pthread_create(&thread, NULL, racer_run, &racer));
	for (unsigned int i = 0; i < vt_loops(500); i++) {
		vt_out(self->c, self->hdr, 16);
		vt_in(self->c, self->data, 4096);
		vt_in(self->c, self->status, 1);
		STATUS_CLEAR();
		len = vt_chain_run(self->q, self->c, variant->indirect);
		switch (vt_status_read(self->mem, self->status)) {
		case VIRTIO_BLK_S_OK:
			EXPECT_EQ(4097, len);
			EXPECT_EQ(-1, vt_check(self->p, 4096, 99, SECTOR));
			break;
		case VIRTIO_BLK_S_IOERR:
		case VIRTIO_BLK_S_UNSUPP:
			EXPECT_EQ(1, len);
			break;
		default:
			EXPECT_EQ(0, vt_status_read(self->mem, self->status));
		}
	}
	racer.stop = true;
	pthread_join(thread, NULL);
}

/* ---- a backend that takes no writes ---- */

FIXTURE(read_only) {
	struct vt_dev dev;
	uint64_t data;
	int fd;
};

FIXTURE_VARIANT(read_only) { bool by_fd; };
FIXTURE_VARIANT_ADD(read_only, fd) { .by_fd = true };
FIXTURE_VARIANT_ADD(read_only, device) { .by_fd = false };

static int blkroset(int ro)
{
	return ioctl(vt_disk.fd, BLKROSET, &ro);
}

FIXTURE_SETUP(read_only)
{
	uint8_t *p;

	ASSERT_EQ(0, vt_dev_init(&self->dev, &(struct vt_opts) { .num = 64 }));
	self->data = vt_alloc(&self->dev.mem, 4096);
	p = vt_ptr(&self->dev.mem, self->data);
	vt_fill(p, 4096, 1, SECTOR);
	ASSERT_EQ(0, vt_attach(&self->dev, vt_disk.fd));
	ASSERT_EQ(0, vt_io(&self->dev.q[0], VIRTIO_BLK_T_OUT, SECTOR, self->data, 4096));
	ASSERT_EQ(0, vt_detach(&self->dev));
	self->fd = open(vt_disk.path, variant->by_fd ? O_RDONLY : O_RDWR);
	ASSERT_LE(0, self->fd);
	if (!variant->by_fd)
		ASSERT_EQ(0, blkroset(1));
}

FIXTURE_TEARDOWN(read_only)
{
	blkroset(0);
	EXPECT_EQ(0, vt_detach(&self->dev));
	close(self->fd);
	vt_dev_fini(&self->dev);
}

/* C11 */
TEST_F(read_only, refuses_writes)
{
	uint8_t *p = vt_ptr(&self->dev.mem, self->data);
	struct vt_queue *q = &self->dev.q[0];

	ASSERT_EQ(0, vt_attach(&self->dev, self->fd));
	vt_fill(p, 4096, 2, SECTOR);
	EXPECT_EQ(VIRTIO_BLK_S_IOERR, vt_io(q, VIRTIO_BLK_T_OUT, SECTOR, self->data, 4096));
	EXPECT_EQ(0, vt_io(q, VIRTIO_BLK_T_FLUSH, 0, 0, 0));
	EXPECT_EQ(0, vt_io(q, VIRTIO_BLK_T_GET_ID, 0, self->data, 20));
	EXPECT_EQ(0, vt_io(q, VIRTIO_BLK_T_IN, SECTOR, self->data, 4096));
	EXPECT_EQ(-1, vt_check(p, 4096, 1, SECTOR));
}

/* C11, F07: the device turns read-only, and back, while it is attached */
TEST_F(read_only, while_attached)
{
	struct vt_queue *q = &self->dev.q[0];
	uint8_t *p = vt_ptr(&self->dev.mem, self->data);

	ASSERT_EQ(0, blkroset(0));
	ASSERT_EQ(0, vt_attach(&self->dev, self->fd));
	/* the file's mode stays what it is */
	EXPECT_EQ(variant->by_fd ? -EIO : 0, vt_good(q));
	ASSERT_EQ(0, blkroset(1));
	vt_fill(p, 4096, 3, SECTOR);
	EXPECT_EQ(VIRTIO_BLK_S_IOERR, vt_io(q, VIRTIO_BLK_T_OUT, SECTOR, self->data, 4096));
	EXPECT_EQ(0, vt_io(q, VIRTIO_BLK_T_IN, SECTOR, self->data, 4096));
	EXPECT_EQ(-1, vt_check(p, 4096, 1, SECTOR));
	ASSERT_EQ(0, blkroset(0));
	EXPECT_EQ(variant->by_fd ? -EIO : 0, vt_good(q));
}

/* C16: a request whose feature the driver did not ack */
TEST(flush_not_acked)
{
	struct vt_opts opts = { .features = VT_F_BASE & ~VT_F_FLUSH };
	struct vt_dev dev;

	ASSERT_EQ(0, vt_dev_init(&dev, &opts));
	ASSERT_EQ(0, vt_attach(&dev, vt_disk.fd));
	EXPECT_EQ(VIRTIO_BLK_S_UNSUPP, vt_io(&dev.q[0], VIRTIO_BLK_T_FLUSH, 0, 0, 0));
	EXPECT_EQ(0, vt_good(&dev.q[0]));
	EXPECT_EQ(0, vt_detach(&dev));
	vt_dev_fini(&dev);
}

/* A device of no size: every I/O is beyond its end */
TEST(zero_capacity)
{
	struct vt_bdev none;
	struct vt_dev dev;
	uint64_t data;

	ASSERT_EQ(0, vt_dev_init(&dev, &(struct vt_opts) {}));
	data = vt_alloc(&dev.mem, 4096);
	ASSERT_EQ(0, vt_loop_unbound(&none));
	ASSERT_EQ(0, vt_attach(&dev, none.fd));
	EXPECT_EQ(VIRTIO_BLK_S_IOERR, vt_io(&dev.q[0], VIRTIO_BLK_T_IN, 0, data, 512));
	EXPECT_EQ(VIRTIO_BLK_S_IOERR, vt_io(&dev.q[0], VIRTIO_BLK_T_OUT, 0, data, 512));
	EXPECT_EQ(0, vt_io(&dev.q[0], VIRTIO_BLK_T_GET_ID, 0, data, 20));
	EXPECT_EQ(0, vt_detach(&dev));
	vt_dev_fini(&dev);
	vt_bdev_destroy(&none);
}

VT_TEST_MAIN
