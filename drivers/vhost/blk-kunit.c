// SPDX-License-Identifier: GPL-2.0-only
/*
 * KUnit tables for the guest side: chains in, checked requests or a status out.
 *
 * The parser is built into this test, without vrings and bios. It reads user
 * memory: the suite maps some in the process that loads the module, and each
 * case borrows that process's mm.
 */
#include <kunit/test.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/module.h>
#include <linux/sched/mm.h>

#include "blk-req.c"

#define FEATURES	BIT_ULL(VIRTIO_BLK_F_FLUSH)
#define RANGE_FEATURES	(BIT_ULL(VIRTIO_BLK_F_DISCARD) | BIT_ULL(VIRTIO_BLK_F_WRITE_ZEROES) | \
			 BIT_ULL(VIRTIO_BLK_F_SECURE_ERASE))
#define CAPACITY	2048	/* sectors */
#define PIECES		20
#define BUFFER_BYTES	SZ_64K
/* Lengths with a meaning. */
#define EMPTY		(U32_MAX - 1)	/* a piece of 0 bytes */
#define UNMAPPED	U32_MAX		/* 16 bytes that lie nowhere */

static struct mm_struct *kunit_mm;
static unsigned long kunit_buffer;

/* What the parser calls. */
void vhost_blk_req_done(struct vhost_blk_req *req)
{
}

/**
 * struct parse_case - one chain and what has to come of it
 * @name:       shown
 * @out:        lengths of the device-readable pieces, which hold the header
 *              first; up to the first 0
 * @in:         lengths of the device-writable pieces
 * @type:       header
 * @sector:     header
 * @status:     expected
 * @data_bytes: expected, if the status is OK
 * @lbs:        logical block size; 0: 512
 * @no_flush:   the guest did not acknowledge FLUSH
 * @read_only:  the backend is
 * @big_endian: the header is in big endian (a legacy guest)
 * @no_status:  expected: there is no place for the status byte
 */
struct parse_case {
	const char *name;
	u32 out[PIECES];
	u32 in[PIECES];
	u32 type;
	u64 sector;
	u8 status;
	u64 data_bytes;
	u32 lbs;
	bool no_flush;
	bool read_only;
	bool big_endian;
	bool no_status;
};

#define OK		VIRTIO_BLK_S_OK
#define IOERR		VIRTIO_BLK_S_IOERR
#define UNSUPP		VIRTIO_BLK_S_UNSUPP
#define READ_T		VIRTIO_BLK_T_IN
#define WRITE_T		VIRTIO_BLK_T_OUT
#define FLUSH_T		VIRTIO_BLK_T_FLUSH
#define GET_ID_T	VIRTIO_BLK_T_GET_ID

static const struct parse_case parse_cases[] = {
	/* Layouts (2.7.4): anything goes as long as the sums are right. */
	{ "read", { 16 }, { 512, 1 }, READ_T, 0, OK, 512 },
	{ "write", { 16, 512 }, { 1 }, WRITE_T, 0, OK, 512 },
	{ "header and data in one", { 528 }, { 1 }, WRITE_T, 0, OK, 512 },
	{ "data and status in one", { 16 }, { 513 }, READ_T, 0, OK, 512 },
	{ "header in 2 pieces", { 7, 9 }, { 513 }, READ_T, 0, OK, 512 },
	{ "header in 3 pieces, data behind", { 1, 14, 513 }, { 1 }, WRITE_T, 0, OK, 512 },
	{ "header in 16 pieces",
	  { 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1 }, { 512, 1 }, READ_T, 0, OK, 512 },
	{ "data in odd pieces", { 16, 1, 510, 1 }, { 1 }, WRITE_T, 0, OK, 512 },
	{ "empty pieces everywhere",
	  { EMPTY, 16, EMPTY }, { EMPTY, 512, EMPTY, 1, EMPTY }, READ_T, 0, OK, 512 },
	{ "flush", { 16 }, { 1 }, FLUSH_T, 0, OK, 0 },
	{ "flush with a sector", { 16 }, { 1 }, FLUSH_T, 77, OK, 0 },
	{ "get id", { 16 }, { 20, 1 }, GET_ID_T, 0, OK, 20 },
	{ "get id, short", { 16 }, { 8, 1 }, GET_ID_T, 0, OK, 8 },
	{ "get id, long, split", { 16 }, { 30, 35 }, GET_ID_T, 0, OK, 64 },
	{ "get id, empty", { 16 }, { 1 }, GET_ID_T, 0, OK, 0 },
	{ "barrier bit", { 16 }, { 513 }, VHOST_BLK_T_BARRIER, 0, OK, 512 },
	{ "big endian header", { 16 }, { 513 }, READ_T, 3, OK, 512, .big_endian = true },
	{ "last sector", { 16 }, { 513 }, READ_T, CAPACITY - 1, OK, 512 },
	{ "whole medium", { 16 }, { CAPACITY * 512, 1 }, READ_T, 0, OK, CAPACITY * 512 },
	{ "4096-byte blocks", { 16 }, { 4097 }, READ_T, 8, OK, 4096, .lbs = 4096 },

	/* Headers and status bytes that are not there. */
	{ "no readable piece", {}, { 513 }, READ_T, 0, IOERR, 0 },
	{ "header of 15 bytes", { 15 }, { 513 }, READ_T, 0, IOERR, 0 },
	{ "header empty", { EMPTY }, { 1 }, READ_T, 0, IOERR, 0 },
	{ "header unmapped", { UNMAPPED }, { 1 }, READ_T, 0, IOERR, 0 },
	{ "no writable piece", { 16 }, {}, READ_T, 0, IOERR, 0, .no_status = true },
	{ "writable pieces empty",
	  { 16 }, { EMPTY, EMPTY }, READ_T, 0, IOERR, 0, .no_status = true },

	/* Types and features. */
	{ "type 2", { 16 }, { 1 }, 2, 0, UNSUPP, 0 },
	{ "type 3", { 16 }, { 1 }, 3, 0, UNSUPP, 0 },
	{ "type 5", { 16 }, { 1 }, 5, 0, UNSUPP, 0 },
	{ "discard", { 16, 16 }, { 1 }, VIRTIO_BLK_T_DISCARD, 0, UNSUPP, 0 },
	{ "write zeroes", { 16, 16 }, { 1 }, VIRTIO_BLK_T_WRITE_ZEROES, 0, UNSUPP, 0 },
	{ "secure erase", { 16, 16 }, { 1 }, VIRTIO_BLK_T_SECURE_ERASE, 0, UNSUPP, 0 },
	{ "type 0xffffffff", { 16 }, { 1 }, U32_MAX, 0, UNSUPP, 0 },
	{ "flush not acked", { 16 }, { 1 }, FLUSH_T, 0, UNSUPP, 0, .no_flush = true },

	/* Payload on the wrong side, or of a wrong length. */
	{ "read with readable payload", { 16, 512 }, { 513 }, READ_T, 0, IOERR, 0 },
	{ "write with writable payload", { 16, 512 }, { 513 }, WRITE_T, 0, IOERR, 0 },
	{ "flush with payload", { 16, 512 }, { 1 }, FLUSH_T, 0, IOERR, 0 },
	{ "flush with writable payload", { 16 }, { 513 }, FLUSH_T, 0, IOERR, 0 },
	{ "get id with readable payload", { 16, 4 }, { 21 }, GET_ID_T, 0, IOERR, 0 },
	{ "empty read", { 16 }, { 1 }, READ_T, 0, IOERR, 0 },
	{ "empty write", { 16 }, { 1 }, WRITE_T, 0, IOERR, 0 },
	{ "511 bytes", { 16 }, { 512 }, READ_T, 0, IOERR, 0 },
	{ "half a block", { 16 }, { 513 }, READ_T, 0, IOERR, 0, .lbs = 4096 },
	{ "between blocks", { 16 }, { 4097 }, READ_T, 1, IOERR, 0, .lbs = 4096 },
	{ "more than used.len can say",
	  { 16 }, { 0x80000000, 0x80000000, 1 }, READ_T, 0, IOERR, 0 },
	{ "32-bit wrap of the length",
	  { 16 }, { 0x80000000, 0x80000000, 512, 1 }, READ_T, 0, IOERR, 0 },

	/* Ranges. */
	{ "first sector beyond", { 16 }, { 513 }, READ_T, CAPACITY, IOERR, 0 },
	{ "runs over the end", { 16 }, { 1025 }, READ_T, CAPACITY - 1, IOERR, 0 },
	{ "one sector more than there is",
	  { 16 }, { (CAPACITY + 1) * 512, 1 }, READ_T, 0, IOERR, 0 },
	{ "sector 2^64 - 1", { 16 }, { 513 }, READ_T, U64_MAX, IOERR, 0 },
	{ "sector * 512 wraps", { 16 }, { 513 }, READ_T, 1ULL << 55, IOERR, 0 },
	{ "sector + length wraps", { 16 }, { 1025 }, READ_T, U64_MAX - 1, IOERR, 0 },

	/* Read-only. */
	{ "write to read-only", { 16, 512 }, { 1 }, WRITE_T, 0, IOERR, 0, .read_only = true },
	{ "read of read-only", { 16 }, { 513 }, READ_T, 0, OK, 512, .read_only = true },
	{ "flush of read-only", { 16 }, { 1 }, FLUSH_T, 0, OK, 0, .read_only = true },
};

static void parse_case_desc(const struct parse_case *c, char *desc)
{
	strscpy(desc, c->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(parse, parse_cases, parse_case_desc);

/* Lay pieces one after the other into the buffer, with a gap of a byte each. */
static unsigned int pieces_lay(const u32 *lens, struct iovec *iov, unsigned long *addr)
{
	unsigned int nr;

	for (nr = 0; nr < PIECES && lens[nr]; nr++) {
		iov[nr].iov_base = (void __user *)*addr;
		iov[nr].iov_len = lens[nr] == EMPTY ? 0 : lens[nr];
		if (lens[nr] == UNMAPPED) {
			iov[nr].iov_base = (void __user *)(kunit_buffer + BUFFER_BYTES);
			iov[nr].iov_len = 16;
		}
		*addr += min_t(size_t, iov[nr].iov_len, 600) + 1;
	}
	return nr;
}

/* Write @left bytes over the pieces, one after the other. */
static int pieces_put(const struct iovec *iov, unsigned int nr, const void *from, size_t left)
{
	for (; nr && left; nr--, iov++) {
		size_t len = min(left, iov->iov_len);

		if (copy_to_user(iov->iov_base, from, len))
			return -EFAULT;
		from += len;
		left -= len;
	}
	return 0;
}

static int header_put(const struct parse_case *c, const struct iovec *iov, unsigned int nr)
{
	struct virtio_blk_outhdr hdr = {
		.type = __cpu_to_virtio32(!c->big_endian, c->type),
		.sector = __cpu_to_virtio64(!c->big_endian, c->sector),
	};

	return pieces_put(iov, nr, &hdr, sizeof(hdr));
}

static void parse_test(struct kunit *test)
{
	const struct parse_case *c = test->param_value;
	struct vhost_blk_queue queue = {
		.features = c->no_flush ? 0 : FEATURES,
		.little_endian = !c->big_endian,
		.limits = {
			.capacity_sectors = CAPACITY,
			.lbs_bytes = c->lbs ? c->lbs : 512,
			.read_only = c->read_only,
		},
	};
	struct vhost_blk_req req = { .queue = &queue };
	unsigned long addr = kunit_buffer;
	struct iovec iov[2 * PIECES];
	unsigned int nr_out, nr_in;
	u8 status;

	nr_out = pieces_lay(c->out, iov, &addr);
	nr_in = pieces_lay(c->in, iov + nr_out, &addr);
	if (c->out[0] != UNMAPPED)
		KUNIT_ASSERT_EQ(test, header_put(c, iov, nr_out), 0);

	status = vhost_blk_req_parse(&req, iov, nr_out, nr_in);

	KUNIT_EXPECT_EQ(test, status, c->status);
	KUNIT_EXPECT_EQ(test, !req.status_addr, c->no_status);
	if (c->status != VIRTIO_BLK_S_OK)
		return;
	KUNIT_ASSERT_NOT_NULL(test, req.op);
	KUNIT_EXPECT_EQ(test, req.data_bytes, c->data_bytes);
	KUNIT_EXPECT_EQ(test, req.sector, c->sector);
	KUNIT_EXPECT_EQ(test, vhost_blk_iov_bytes(req.iov, req.nr_iov), c->data_bytes);
}

/**
 * struct range_case - a request with ranges and what has to come of it
 * @name:       shown
 * @out:        as of struct parse_case, ranges follow the header
 * @type:       header
 * @status:     expected
 * @range:      the first ones; the others name no sectors
 * @lbs:        logical block size; 0: 512
 * @read_only:  the backend is
 * @big_endian: the header is in big endian, which means nothing to the ranges
 */
struct range_case {
	const char *name;
	u32 out[PIECES];
	u32 type;
	u8 status;
	struct vhost_blk_range range[3];
	u32 lbs;
	bool read_only;
	bool big_endian;
};

#define DISCARD_T	VIRTIO_BLK_T_DISCARD
#define ZEROES_T	VIRTIO_BLK_T_WRITE_ZEROES
#define ERASE_T		VIRTIO_BLK_T_SECURE_ERASE
#define UNMAP		VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP

static const struct range_case range_cases[] = {
	{ "discard", { 16, 16 }, DISCARD_T, OK, { { 8, 16 } } },
	{ "write zeroes", { 16, 16 }, ZEROES_T, OK, { { 8, 16 } } },
	{ "write zeroes, unmap", { 16, 16 }, ZEROES_T, OK, { { 8, 16, UNMAP } } },
	{ "secure erase", { 16, 16 }, ERASE_T, OK, { { 8, 16 } } },
	{ "header and range in one", { 32 }, DISCARD_T, OK, { { 1, 2 } } },
	{ "3 ranges in odd pieces", { 7, 10, 14, 1, 32 }, ZEROES_T, OK,
	  { { 1, 2 }, { 3, 4, UNMAP }, { 5, 6 } } },
	{ "empty pieces", { 16, EMPTY, 8, EMPTY, 8, EMPTY }, DISCARD_T, OK, { { 8, 16 } } },
	{ "64 ranges", { 16, 1024 }, DISCARD_T, OK, { { 8, 16 }, { 100, 1 } } },
	{ "whole medium", { 16, 16 }, DISCARD_T, OK, { { 0, CAPACITY } } },
	{ "last sector", { 16, 16 }, ZEROES_T, OK, { { CAPACITY - 1, 1 } } },
	{ "no sectors", { 16, 16 }, DISCARD_T, OK, { { 8, 0 } } },
	{ "no sectors at the end", { 16, 16 }, DISCARD_T, OK, { { CAPACITY, 0 } } },
	{ "4096-byte blocks", { 16, 16 }, ZEROES_T, OK, { { 8, 16 } }, .lbs = 4096 },
	{ "big endian header", { 16, 16 }, DISCARD_T, OK, { { 8, 16 } }, .big_endian = true },

	/* Payload. */
	{ "no ranges", { 16 }, DISCARD_T, IOERR },
	{ "15 bytes", { 16, 15 }, DISCARD_T, IOERR },
	{ "17 bytes", { 16, 17 }, ZEROES_T, IOERR },
	{ "65 ranges", { 16, 1040 }, DISCARD_T, IOERR },
	{ "2^28 ranges", { 16, 0x80000000, 0x80000000 }, DISCARD_T, IOERR },
	{ "range unmapped", { 16, UNMAPPED }, DISCARD_T, IOERR },
	{ "second range unmapped", { 32, UNMAPPED }, ZEROES_T, IOERR, { { 8, 16 } } },

	/* Flags, of any of the ranges. */
	{ "discard, unmap", { 16, 16 }, DISCARD_T, UNSUPP, { { 8, 16, UNMAP } } },
	{ "secure erase, unmap", { 16, 16 }, ERASE_T, UNSUPP, { { 8, 16, UNMAP } } },
	{ "reserved flag", { 16, 16 }, ZEROES_T, UNSUPP, { { 8, 16, 2 } } },
	{ "reserved flag and unmap", { 16, 16 }, ZEROES_T, UNSUPP, { { 8, 16, 3 } } },
	{ "high flag of the last", { 16, 48 }, DISCARD_T, UNSUPP,
	  { { 1, 1 }, { 2, 1 }, { 3, 1, 0x80000000 } } },

	/* Sectors, of any of the ranges. */
	{ "beyond the end", { 16, 16 }, DISCARD_T, IOERR, { { CAPACITY, 1 } } },
	{ "over the end", { 16, 16 }, ZEROES_T, IOERR, { { CAPACITY - 1, 2 } } },
	{ "2^32 - 1 sectors", { 16, 16 }, DISCARD_T, IOERR, { { 0, U32_MAX } } },
	{ "sector 2^64 - 1", { 16, 16 }, DISCARD_T, IOERR, { { U64_MAX, 1 } } },
	{ "sum wraps", { 16, 16 }, DISCARD_T, IOERR, { { U64_MAX - 1, 4 } } },
	{ "sector * 512 wraps", { 16, 16 }, DISCARD_T, IOERR, { { 1ULL << 55, 8 } } },
	{ "no sectors, beyond the end", { 16, 16 }, DISCARD_T, IOERR, { { CAPACITY + 1, 0 } } },
	{ "second of two", { 16, 32 }, ZEROES_T, IOERR, { { 8, 16 }, { CAPACITY, 1 } } },
	{ "last of three", { 16, 48 }, DISCARD_T, IOERR,
	  { { 8, 16 }, { 9, 9 }, { 0, CAPACITY + 1 } } },
	{ "from inside a block", { 16, 16 }, DISCARD_T, IOERR, { { 4, 8 } }, .lbs = 4096 },
	{ "half a block", { 16, 16 }, ZEROES_T, IOERR, { { 8, 4 } }, .lbs = 4096 },

	{ "read-only", { 16, 16 }, DISCARD_T, IOERR, { { 8, 16 } }, .read_only = true },
};

static void range_case_desc(const struct range_case *c, char *desc)
{
	strscpy(desc, c->name, KUNIT_PARAM_DESC_SIZE);
}

KUNIT_ARRAY_PARAM(range, range_cases, range_case_desc);

/* Header, ranges, and ranges that name nothing up to the end of the buffer. */
static int range_case_put(const struct range_case *c, const struct iovec *iov, unsigned int nr)
{
	static struct {
		struct virtio_blk_outhdr hdr;
		struct virtio_blk_discard_write_zeroes range[128];
	} wire;
	unsigned int i;

	memset(&wire, 0, sizeof(wire));
	wire.hdr.type = __cpu_to_virtio32(!c->big_endian, c->type);
	wire.hdr.sector = __cpu_to_virtio64(!c->big_endian, U64_MAX);
	for (i = 0; i < ARRAY_SIZE(c->range); i++) {
		wire.range[i].sector = cpu_to_le64(c->range[i].sector);
		wire.range[i].num_sectors = cpu_to_le32(c->range[i].nr_sectors);
		wire.range[i].flags = cpu_to_le32(c->range[i].flags);
	}
	for (i = 0; i < nr; i++)	/* up to what is not mapped */
		if (iov[i].iov_base == (void __user *)(kunit_buffer + BUFFER_BYTES))
			break;
	return pieces_put(iov, i, &wire, sizeof(wire));
}

static void range_test(struct kunit *test)
{
	const struct range_case *c = test->param_value;
	struct vhost_blk_disk disk = {};
	struct vhost_blk_queue queue = {
		.features = RANGE_FEATURES,
		.little_endian = !c->big_endian,
		.limits = {
			.capacity_sectors = CAPACITY,
			.lbs_bytes = c->lbs ? c->lbs : 512,
			.read_only = c->read_only,
		},
		.disk = &disk,
	};
	struct vhost_blk_req req = { .queue = &queue };
	static const u32 in[PIECES] = { 1 };
	unsigned long addr = kunit_buffer;
	struct iovec iov[2 * PIECES];
	unsigned int nr_out, nr_in, i;

	nr_out = pieces_lay(c->out, iov, &addr);
	nr_in = pieces_lay(in, iov + nr_out, &addr);
	KUNIT_ASSERT_EQ(test, range_case_put(c, iov, nr_out), 0);
	KUNIT_EXPECT_EQ(test, vhost_blk_req_parse(&req, iov, nr_out, nr_in), c->status);
	for (i = 0; c->status == VIRTIO_BLK_S_OK && i < req.nr_ranges; i++) {
		struct vhost_blk_range none = {};
		const struct vhost_blk_range *want =
			i < ARRAY_SIZE(c->range) ? &c->range[i] : &none;

		KUNIT_EXPECT_EQ(test, req.ranges[i].sector, want->sector);
		KUNIT_EXPECT_EQ(test, req.ranges[i].nr_sectors, want->nr_sectors);
		KUNIT_EXPECT_EQ(test, req.ranges[i].flags, want->flags);
	}
	if (c->status == VIRTIO_BLK_S_OK)
		KUNIT_EXPECT_EQ(test, req.nr_ranges * 16, req.data_bytes);
	if (req.ranges)
		vhost_blk_req_ranges_free(&req);
	KUNIT_EXPECT_EQ(test, atomic_read(&disk.copies), 0);
}

/* The status byte and used.len, also where it cannot be written. */
static void status_test(struct kunit *test)
{
	u8 __user *addr = (u8 __user *)kunit_buffer;
	struct vhost_blk_req req = { .in_bytes = 512, .status_addr = addr };
	u8 seen = 0xff;

	KUNIT_EXPECT_EQ(test, vhost_blk_req_status_put(&req), 513U);
	KUNIT_ASSERT_EQ(test, get_user(seen, addr), 0);
	KUNIT_EXPECT_EQ(test, seen, VIRTIO_BLK_S_OK);

	req.status = VIRTIO_BLK_S_IOERR;
	KUNIT_EXPECT_EQ(test, vhost_blk_req_status_put(&req), 1U);
	KUNIT_ASSERT_EQ(test, get_user(seen, addr), 0);
	KUNIT_EXPECT_EQ(test, seen, VIRTIO_BLK_S_IOERR);

	req.status_addr = (u8 __user *)(kunit_buffer + BUFFER_BYTES);
	KUNIT_EXPECT_EQ(test, vhost_blk_req_status_put(&req), 0U);
	req.status_addr = NULL;
	KUNIT_EXPECT_EQ(test, vhost_blk_req_status_put(&req), 0U);
}

/* The page behind the buffer stays unmapped: mapped twice as large, cut in half. */
static int suite_init(struct kunit_suite *suite)
{
	if (!current->mm)
		return -EINVAL;
	kunit_buffer = vm_mmap(NULL, 0, 2 * BUFFER_BYTES, PROT_READ | PROT_WRITE,
			       MAP_ANONYMOUS | MAP_PRIVATE, 0);
	if (IS_ERR_VALUE(kunit_buffer))
		return kunit_buffer;
	vm_munmap(kunit_buffer + BUFFER_BYTES, BUFFER_BYTES);
	kunit_mm = current->mm;
	mmget(kunit_mm);
	return 0;
}

static void suite_exit(struct kunit_suite *suite)
{
	vm_munmap(kunit_buffer, BUFFER_BYTES);
	mmput(kunit_mm);
}

static int case_init(struct kunit *test)
{
	kthread_use_mm(kunit_mm);
	return 0;
}

static void case_exit(struct kunit *test)
{
	kthread_unuse_mm(kunit_mm);
}

static struct kunit_case cases[] = {
	KUNIT_CASE_PARAM(parse_test, parse_gen_params),
	KUNIT_CASE_PARAM(range_test, range_gen_params),
	KUNIT_CASE(status_test),
	{}
};

static struct kunit_suite suite = {
	.name = "vhost_blk_req",
	.suite_init = suite_init,
	.suite_exit = suite_exit,
	.init = case_init,
	.exit = case_exit,
	.test_cases = cases,
};

kunit_test_suite(suite);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Tests of vhost_blk's request parser");
