// SPDX-License-Identifier: GPL-2.0-only
/*
 * DISCARD, WRITE_ZEROES and SECURE_ERASE: ranges reach the medium, all of them
 * or none, and nothing else does. The whole medium is compared after each step.
 */
#include "vt_test.h"

#define IN		VIRTIO_BLK_T_IN
#define OUT		VIRTIO_BLK_T_OUT
#define DISCARD		VIRTIO_BLK_T_DISCARD
#define ZEROES		VIRTIO_BLK_T_WRITE_ZEROES
#define ERASE		VIRTIO_BLK_T_SECURE_ERASE
#define OK		VIRTIO_BLK_S_OK
#define IOERR		VIRTIO_BLK_S_IOERR
#define UNSUPP		VIRTIO_BLK_S_UNSUPP
#define UNMAP		VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP
#define FEATURES	(VT_F_BASE | VT_F_EVENT_IDX | VT_F_RANGES)
#define SEED		7
#define TABLE_BYTES	256

/* What a sector has to hold. */
enum { OLD, ZERO, EITHER };

struct medium {
	struct vt_dev dev;
	struct vt_bdev disk;	/* made by the test */
	struct vt_bdev over;	/* what lies over it, if anything */
	struct vt_bdev *served;
	struct vt_queue *q;
	uint64_t data;		/* as large as the medium */
	uint64_t ranges;	/* a page */
	uint32_t nr_sectors;
	uint8_t *want;		/* of each sector */
};

/* A setup that finds no disk leaves no queue: the harness runs the test all the same. */
#define SKIP_WITHOUT_DISK(m)	do {						\
	if (!(m)->q)								\
		SKIP(return, "no such disk in this kernel, or no dmsetup here"); \
} while (0)

static void medium_none(struct medium *m)
{
	m->disk.fd = -1;
	m->over.fd = -1;
	m->dev.fd = -1;
}

/* Attach @disk, all of it filled with a pattern. */
static int medium_init(struct medium *m, struct vt_bdev *disk, const struct vt_opts *opts)
{
	int r = vt_dev_init(&m->dev, opts);

	r = r ?: vt_attach(&m->dev, disk->fd);
	if (r)
		return r;
	m->served = disk;
	m->q = &m->dev.q[0];
	m->nr_sectors = disk->bytes / VT_SECTOR;
	m->data = vt_alloc(&m->dev.mem, disk->bytes);
	m->ranges = vt_alloc(&m->dev.mem, 4096);
	m->want = calloc(m->nr_sectors, 1);
	if (!m->want)
		return -ENOMEM;
	vt_fill(vt_ptr(&m->dev.mem, m->data), disk->bytes, SEED, 0);
	return vt_io(m->q, OUT, 0, m->data, disk->bytes);
}

static void medium_fini(struct medium *m)
{
	vt_dev_fini(&m->dev);
	vt_bdev_destroy(&m->over);
	vt_bdev_destroy(&m->disk);
	free(m->want);
}

/* The first sector that does not hold what it has to, or -1; below -1: -errno. */
static long medium_check(struct medium *m)
{
	uint8_t *p = vt_ptr(&m->dev.mem, m->data);
	int r = vt_io(m->q, IN, 0, m->data, m->nr_sectors * VT_SECTOR);

	if (r)
		return r < 0 ? r : -EIO;
	for (uint32_t i = 0; i < m->nr_sectors; i++, p += VT_SECTOR) {
		bool zero = vt_check_byte(p, VT_SECTOR, 0) < 0;

		if (m->want[i] != OLD && zero)
			continue;
		if (m->want[i] == ZERO || vt_check(p, VT_SECTOR, SEED, i) >= 0)
			return i;
	}
	return -1;
}

static void want(struct medium *m, uint64_t sector, uint32_t nr, uint8_t what)
{
	memset(m->want + sector, what, nr);
}

/* Put the pattern back where it was overwritten. */
static int medium_restore(struct medium *m)
{
	memset(m->want, OLD, m->nr_sectors);
	vt_fill(vt_ptr(&m->dev.mem, m->data), m->nr_sectors * VT_SECTOR, SEED, 0);
	return vt_io(m->q, OUT, 0, m->data, m->nr_sectors * VT_SECTOR);
}

static void range(struct medium *m, unsigned int i, uint64_t sector, uint32_t nr, uint32_t flags)
{
	vt_range_write(&m->dev.mem, m->ranges, i, sector, nr, flags);
}

/* Send the first @nr ranges: status, or -errno. */
static int ranges_run(struct medium *m, uint32_t type, unsigned int nr)
{
	return vt_io(m->q, type, 0, m->ranges, nr * VT_RANGE_BYTES);
}

static int range_run(struct medium *m, uint32_t type, uint64_t sector, uint32_t nr, uint32_t flags)
{
	range(m, 0, sector, nr, flags);
	return ranges_run(m, type, 1);
}

/* ---- on all kinds of disks ---- */

enum { NULL_BLK, SCSI, LOOP, BRD, LINEAR };

FIXTURE(backing) {
	struct medium m;
};

FIXTURE_VARIANT(backing) {
	int kind;
	unsigned int lbs;
	bool discard;		/* null_blk: takes it */
	bool indirect;
	const char *args;	/* of scsi_debug */
};

/* Writes zero pages for lack of anything better. */
FIXTURE_VARIANT_ADD(backing, null) { .kind = NULL_BLK, .lbs = 512 };

FIXTURE_VARIANT_ADD(backing, null_discard) {
	.kind = NULL_BLK, .lbs = 512, .discard = true, .indirect = true,
};

FIXTURE_VARIANT_ADD(backing, null_4k) { .kind = NULL_BLK, .lbs = 4096, .discard = true };

/* A range takes many commands. */
FIXTURE_VARIANT_ADD(backing, scsi_unmap) {
	.kind = SCSI, .indirect = true,
	.args = "dev_size_mb=4 delay=0 lbpu=1 unmap_max_desc=1 unmap_max_blocks=64",
};

FIXTURE_VARIANT_ADD(backing, scsi_write_same) {
	.kind = SCSI, .args = "dev_size_mb=4 delay=0 lbpws10=1 write_same_length=100",
};

FIXTURE_VARIANT_ADD(backing, scsi_4k) {
	.kind = SCSI, .args = "dev_size_mb=4 delay=0 sector_size=4096 lbpu=1 lbpws=1",
};

/* No discard, but an offload to write zeroes. */
FIXTURE_VARIANT_ADD(backing, scsi_plain) { .kind = SCSI, .args = "dev_size_mb=4 delay=0" };

/* tmpfs can punch holes, and says only when asked that it cannot zero a range in place. */
FIXTURE_VARIANT_ADD(backing, loop) { .kind = LOOP, .lbs = 512 };

FIXTURE_VARIANT_ADD(backing, loop_4k) { .kind = LOOP, .lbs = 4096, .indirect = true };

FIXTURE_VARIANT_ADD(backing, brd) { .kind = BRD };

FIXTURE_VARIANT_ADD(backing, linear) { .kind = LINEAR, .lbs = 512, .discard = true };

static int null_make(struct vt_bdev *disk, unsigned int lbs, bool discard)
{
	return vt_null_create(disk, "vbtranges", &(struct vt_null_opts) {
		.mib = 4, .lbs = lbs, .discard = discard,
	});
}

static int linear_make(struct medium *m)
{
	char table[TABLE_BYTES];
	int r = null_make(&m->disk, 512, true);

	snprintf(table, sizeof(table), "0 5000 linear %s 3000\n5000 384 linear %s 64",
		 m->disk.path, m->disk.path);
	return r ?: vt_dm_create(&m->over, "vbtranges", table);
}

static int brd_make(struct medium *m)
{
	struct stat st;

	if (vt_modprobe("brd", "rd_nr=1 rd_size=16384") || stat("/dev/ram0", &st))
		return -ENODEV;
	return vt_bdev_open(&m->disk, "ram0");
}

FIXTURE_SETUP(backing)
{
	struct vt_opts opts = { .features = FEATURES, .indirect = variant->indirect };
	struct medium *m = &self->m;
	int r = -EINVAL;

	medium_none(m);
	if (variant->kind == NULL_BLK)
		r = null_make(&m->disk, variant->lbs, variant->discard);
	if (variant->kind == SCSI)
		r = vt_scsi_debug_create_args(&m->disk, variant->args);
	if (variant->kind == LOOP)
		r = vt_loop_create(&m->disk, 4 * VT_MIB, variant->lbs);
	if (variant->kind == BRD)
		r = brd_make(m);
	if (variant->kind == LINEAR)
		r = linear_make(m);
	if (r == -ENODEV || r == -ENOENT)
		return;		/* each test says so */
	ASSERT_EQ(0, r);
	ASSERT_EQ(0, medium_init(m, variant->kind == LINEAR ? &m->over : &m->disk, &opts));
}

FIXTURE_TEARDOWN(backing)
{
	struct medium *m = &self->m;

	if (m->dev.fd >= 0) {
		EXPECT_EQ(0, vt_queue_idle(m->q));
		EXPECT_EQ(0, vt_detach(&m->dev));
		EXPECT_EQ(0, vt_exclusive(m->served));
	}
	medium_fini(m);
}

/* What sysfs says about discards, in sectors. */
static long discard_max(const struct vt_bdev *disk)
{
	char path[96];
	long bytes;

	snprintf(path, sizeof(path), "/sys/block/%s/queue/discard_max_bytes", disk->name);
	return vt_read_long(path, &bytes) ? -1 : bytes / VT_SECTOR;
}

/* Is @type served as it has to be? All kinds of ranges; nothing but them may change. */
static void type_check(struct __test_metadata *_metadata, struct medium *m, uint32_t type,
		       uint32_t flags, int status)
{
	const uint32_t unit = m->served->lbs / VT_SECTOR;
	/* brd of newer kernels discards whole pages and leaves the rest of a range as it is. */
	const bool loose = type == DISCARD && !strncmp(m->served->name, "ram", 3);
	const uint8_t zero = status != OK ? OLD : loose ? EITHER : ZERO;
	unsigned int i;

	/* A07, A08: one range, of one block and of many */
	EXPECT_EQ(status, range_run(m, type, 64, unit, flags));
	want(m, 64, unit, zero);
	EXPECT_EQ(status, range_run(m, type, 1024, 300 * unit, flags));
	want(m, 1024, 300 * unit, zero);
	/* the last block, and nothing at all, also just after the end */
	EXPECT_EQ(status, range_run(m, type, m->nr_sectors - unit, unit, flags));
	want(m, m->nr_sectors - unit, unit, zero);
	EXPECT_EQ(status, range_run(m, type, 0, 0, flags));
	EXPECT_EQ(status, range_run(m, type, m->nr_sectors, 0, flags));
	EXPECT_EQ(-1, medium_check(m));
	ASSERT_EQ(OK, medium_restore(m));
	/* A10: as many as there may be; some meet, most do not */
	for (i = 0; i < VT_RANGES_MAX; i++) {
		uint64_t sector = i * 8 * unit;
		uint32_t nr = (1 + i % 8) * unit;

		range(m, i, sector, nr, flags);
		want(m, sector, nr, zero);
	}
	EXPECT_EQ(status, ranges_run(m, type, i));
	EXPECT_EQ(-1, medium_check(m));
	/* the whole medium, in more pieces than fit into anything */
	EXPECT_EQ(status, range_run(m, type, 0, m->nr_sectors, flags));
	want(m, 0, m->nr_sectors, zero);
	EXPECT_EQ(-1, medium_check(m));
	ASSERT_EQ(OK, medium_restore(m));
	EXPECT_EQ(0, vt_good(m->q));
	ASSERT_EQ(OK, medium_restore(m));
}

static void query_check(struct __test_metadata *_metadata, struct medium *m)
{
	struct virtio_blk_config *config;
	struct vhost_blk_query query;
	long max = discard_max(m->served);

	ASSERT_EQ(0, vt_query(m->dev.fd, m->served->fd, &query));
	config = (struct virtio_blk_config *)query.config;
	EXPECT_EQ(max > 0, !!(query.features & VT_F(VIRTIO_BLK_F_DISCARD)));
	EXPECT_NE(0, query.features & VT_F(VIRTIO_BLK_F_WRITE_ZEROES));
	EXPECT_EQ(0, query.features & VT_F(VIRTIO_BLK_F_SECURE_ERASE));
	EXPECT_EQ(VT_RANGES_MAX, config->max_write_zeroes_seg);
	EXPECT_LT(0, config->max_write_zeroes_sectors);
	if (max <= 0)
		return;
	EXPECT_EQ(VT_RANGES_MAX, config->max_discard_seg);
	EXPECT_LT(0, config->max_discard_sectors);
}

/* A07 to A10 */
TEST_F(backing, serves)
{
	struct medium *m = &self->m;

	SKIP_WITHOUT_DISK(m);
	query_check(_metadata, m);
	type_check(_metadata, m, DISCARD, 0, discard_max(m->served) ? OK : UNSUPP);
	type_check(_metadata, m, ZEROES, 0, OK);
	type_check(_metadata, m, ZEROES, UNMAP, OK);
	/* None of these disks can; the driver is told so before it tries. */
	type_check(_metadata, m, ERASE, 0, UNSUPP);
}

/* ---- what a disk without the feature says only when asked ---- */

FIXTURE(fallback) {
	struct medium m;
};

FIXTURE_SETUP(fallback)
{
	medium_none(&self->m);
}

FIXTURE_TEARDOWN(fallback)
{
	if (self->m.dev.fd >= 0) {
		EXPECT_EQ(0, vt_queue_idle(self->m.q));
		EXPECT_EQ(0, vt_detach(&self->m.dev));
	}
	medium_fini(&self->m);
}

/* A09: a disk that offers to write zeroes and then refuses: they are written all the same */
TEST_F(fallback, refused_at_run_time)
{
	struct medium *m = &self->m;
	int r = vt_scsi_debug_create_args(&m->disk, "dev_size_mb=4 delay=0");

	if (r == -ENODEV)
		SKIP(return, "no scsi_debug in this kernel");
	ASSERT_EQ(0, r);
	ASSERT_EQ(0, medium_init(m, &m->disk, &(struct vt_opts) { .features = FEATURES }));
	ASSERT_EQ(0, vt_write_file("/sys/module/scsi_debug/parameters/write_same_length", "1"));
	/* The first one finds out, the second one is after that. */
	for (unsigned int i = 0; i < 2; i++) {
		for (unsigned int k = 0; k < 3; k++) {
			range(m, k, 100 + 1000 * k + i * 300, 200, 0);
			want(m, 100 + 1000 * k + i * 300, 200, ZERO);
		}
		EXPECT_EQ(OK, ranges_run(m, ZEROES, 3));
		EXPECT_EQ(-1, medium_check(m));
	}
	EXPECT_EQ(OK, range_run(m, ZEROES, 0, m->nr_sectors, 0));
	want(m, 0, m->nr_sectors, ZERO);
	EXPECT_EQ(-1, medium_check(m));
	EXPECT_EQ(0, vt_good(m->q));
}

/* ---- rules ---- */

FIXTURE(rules) {
	struct medium m;
	struct vt_chain *c;
	uint64_t hdr, status;
};

#define rules_data FIXTURE_DATA(rules)

FIXTURE_VARIANT(rules) {
	bool indirect;
	unsigned int lbs;
	uint32_t type;
};

FIXTURE_VARIANT_ADD(rules, discard) { .lbs = 512, .type = DISCARD };
FIXTURE_VARIANT_ADD(rules, discard_4k) { .lbs = 4096, .type = DISCARD, .indirect = true };
FIXTURE_VARIANT_ADD(rules, zeroes) { .lbs = 512, .type = ZEROES, .indirect = true };
FIXTURE_VARIANT_ADD(rules, zeroes_4k) { .lbs = 4096, .type = ZEROES };

FIXTURE_SETUP(rules)
{
	struct vt_opts opts = {
		.features = FEATURES, .num = 1024, .indirect = variant->indirect,
	};

	medium_none(&self->m);
	self->c = calloc(1, sizeof(*self->c));
	ASSERT_NE(NULL, self->c);
	ASSERT_EQ(0, null_make(&self->m.disk, variant->lbs, true));
	ASSERT_EQ(0, medium_init(&self->m, &self->m.disk, &opts));
	self->hdr = vt_alloc(&self->m.dev.mem, 4096);
	self->status = vt_alloc(&self->m.dev.mem, 4096);
}

FIXTURE_TEARDOWN(rules)
{
	struct medium *m = &self->m;

	if (m->q) {
		/* nothing but what was wanted happened; all of that did */
		EXPECT_EQ(-1, medium_check(m));
		EXPECT_EQ(0, vt_good(m->q));
		EXPECT_EQ(0, vt_queue_idle(m->q));
		EXPECT_EQ(0, vt_event_count(m->q->err, 0));
		EXPECT_EQ(0, vt_detach(&m->dev));
	}
	medium_fini(m);
	free(self->c);
}

/* Lay @bytes of ranges over descriptors of @piece bytes each. */
static int pieces_run(rules_data *self, uint32_t type, uint32_t bytes, uint32_t piece,
		      bool indirect)
{
	struct vt_mem *mem = &self->m.dev.mem;
	int r;

	vt_hdr_write(mem, self->hdr, type, 0);
	*(uint8_t *)vt_ptr(mem, self->status) = VT_STATUS_NONE;
	vt_out(self->c, self->hdr, 16);
	for (uint32_t at = 0; at < bytes; at += piece)
		vt_out(self->c, self->m.ranges + at, piece < bytes - at ? piece : bytes - at);
	vt_in(self->c, self->status, 1);
	r = vt_chain_run(self->m.q, self->c, indirect);
	return r == 1 ? vt_status_read(mem, self->status) : r < 0 ? r : -EBADMSG;
}

/* A10: ranges over descriptors of all sizes, cut anywhere inside a range */
TEST_F(rules, pieces)
{
	static const uint32_t piece[] = { 1, 5, 15, 17, 100, 1023 };
	const uint32_t unit = variant->lbs / VT_SECTOR;

	for (unsigned int i = 0; i < ARRAY_SIZE(piece); i++) {
		/* no more descriptors than a chain may have */
		unsigned int nr = piece[i] == 1 ? 24 : VT_RANGES_MAX;

		for (unsigned int k = 0; k < nr; k++) {
			range(&self->m, k, (i * 64 + k) * 2 * unit, unit, 0);
			want(&self->m, (i * 64 + k) * 2 * unit, unit, ZERO);
		}
		EXPECT_EQ(OK, pieces_run(self, variant->type, nr * VT_RANGE_BYTES, piece[i],
					 variant->indirect));
		EXPECT_EQ(-1, medium_check(&self->m));
	}
}

/* A10: header, ranges in one descriptor */
TEST_F(rules, header_and_ranges_in_one)
{
	struct vt_mem *mem = &self->m.dev.mem;
	uint64_t all = self->m.ranges;

	vt_hdr_write(mem, all, variant->type, 12345);
	range(&self->m, 1, 800, 80, 0);
	range(&self->m, 2, 1600, 16, 0);
	vt_out(self->c, all, 48);
	vt_in(self->c, self->status, 1);
	EXPECT_EQ(1, vt_chain_run(self->m.q, self->c, variant->indirect));
	EXPECT_EQ(OK, vt_status_read(mem, self->status));
	want(&self->m, 800, 80, ZERO);
	want(&self->m, 1600, 16, ZERO);
}

/* C12 */
TEST_F(rules, payload_length)
{
	static const uint32_t bad[] = { 0, 1, 15, 17, 31, 1008 + 8, 1025, 65 * 16, 128 * 16, 4096 };

	for (unsigned int k = 0; k < 4096 / VT_RANGE_BYTES; k++)
		range(&self->m, k, k * 8, 8, 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		EXPECT_EQ(IOERR, vt_io(self->m.q, variant->type, 0, self->m.ranges, bad[i]));
		EXPECT_EQ(-1, medium_check(&self->m));
	}
}

/* C08: writable payload, and readable payload with some writable behind */
TEST_F(rules, payload_side)
{
	struct vt_mem *mem = &self->m.dev.mem;
	uint8_t before[64];

	range(&self->m, 0, 0, 8, 0);
	range(&self->m, 1, 8, 8, 0);
	memcpy(before, vt_ptr(mem, self->m.ranges), 64);
	vt_hdr_write(mem, self->hdr, variant->type, 0);
	for (unsigned int i = 0; i < 2; i++) {
		*(uint8_t *)vt_ptr(mem, self->status) = VT_STATUS_NONE;
		vt_out(self->c, self->hdr, 16);
		if (i)
			vt_out(self->c, self->m.ranges, 16);
		vt_in(self->c, self->m.ranges + 16, 16);
		vt_in(self->c, self->status, 1);
		EXPECT_EQ(1, vt_chain_run(self->m.q, self->c, variant->indirect));
		EXPECT_EQ(IOERR, vt_status_read(mem, self->status));
	}
	EXPECT_EQ(0, memcmp(before, vt_ptr(mem, self->m.ranges), 64));
}

/* C13: also a flag of just one range */
TEST_F(rules, flags)
{
	for (unsigned int bit = 0; bit < 32; bit++) {
		if (bit == 0 && variant->type == ZEROES)
			continue;
		for (unsigned int k = 0; k < 3; k++)
			range(&self->m, k, k * 80, 8, bit % 3 == k ? 1U << bit : 0);
		EXPECT_EQ(UNSUPP, ranges_run(&self->m, variant->type, 3));
	}
	EXPECT_EQ(UNSUPP, range_run(&self->m, variant->type, 0, 8, UINT32_MAX));
	EXPECT_EQ(UNSUPP, range_run(&self->m, variant->type, 0, 8, UNMAP | 2));
	/* a flag of a range that names nothing */
	EXPECT_EQ(UNSUPP, range_run(&self->m, variant->type, 0, 0, 2));
}

/* C14, C15: each bad range, wherever it stands: no range is applied, not even those before it */
TEST_F(rules, bad_range)
{
	const uint64_t end = self->m.nr_sectors;
	const struct {
		uint64_t sector;
		uint32_t nr;
	} bad[] = {
		{ end, 8 }, { end - 8, 16 }, { 0, end + 8 }, { 8, UINT32_MAX & ~7U },
		{ 0, UINT32_MAX }, { UINT64_MAX, 1 }, { UINT64_MAX - 7, 8 }, { UINT64_MAX - 7, 16 },
		{ 1ULL << 55, 8 }, { 1ULL << 63, 8 }, { end + 8, 0 }, { UINT64_MAX, 0 },
	};
	static const unsigned int nr[] = { 1, 2, 3, VT_RANGES_MAX };

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++)
		for (unsigned int k = 0; k < ARRAY_SIZE(nr); k++) {
			for (unsigned int n = 0; n < nr[k]; n++)
				range(&self->m, n, n * 16, 8, 0);
			/* in the middle of two or three, last of one or many */
			range(&self->m, nr[k] == 3 ? 1 : nr[k] - 1, bad[i].sector, bad[i].nr, 0);
			EXPECT_EQ(IOERR, ranges_run(&self->m, variant->type, nr[k])) {
				TH_LOG("%u ranges, sector %#llx, %u sectors", nr[k],
				       (unsigned long long)bad[i].sector, bad[i].nr);
			}
		}
}

/* C14: whole logical blocks only */
TEST_F(rules, between_blocks)
{
	static const struct { uint32_t sector, nr; } odd[] = {
		{ 1, 8 }, { 8, 1 }, { 7, 1 }, { 4, 8 }, { 8, 12 }, { 1, 0 },
	};
	bool ok = variant->lbs == 512;

	for (unsigned int i = 0; i < ARRAY_SIZE(odd); i++) {
		range(&self->m, 0, 1600, 16, 0);
		range(&self->m, 1, odd[i].sector, odd[i].nr, 0);
		EXPECT_EQ(ok ? OK : IOERR, ranges_run(&self->m, variant->type, 2));
		if (ok)
			want(&self->m, odd[i].sector, odd[i].nr, ZERO);
	}
	if (ok)
		want(&self->m, 1600, 16, ZERO);
}

/* C14: a range of nothing does nothing, alone and among others */
TEST_F(rules, no_sectors)
{
	EXPECT_EQ(OK, range_run(&self->m, variant->type, 80, 0, 0));
	for (unsigned int k = 0; k < VT_RANGES_MAX; k++)
		range(&self->m, k, 80 * k, k % 3 ? 0 : 16, 0);
	for (unsigned int k = 0; k < VT_RANGES_MAX; k += 3)
		want(&self->m, 80 * k, 16, ZERO);
	EXPECT_EQ(OK, ranges_run(&self->m, variant->type, VT_RANGES_MAX));
}

/* Ranges that overlap, and the same one several times. */
TEST_F(rules, overlap)
{
	for (unsigned int k = 0; k < VT_RANGES_MAX; k++)
		range(&self->m, k, k % 4 * 8, 64, 0);
	want(&self->m, 0, 24 + 64, ZERO);
	EXPECT_EQ(OK, ranges_run(&self->m, variant->type, VT_RANGES_MAX));
}

/* C18: ranges that cannot be read */
TEST_F(rules, unmapped)
{
	struct vt_mem *mem = &self->m.dev.mem;
	uint64_t gpa = vt_alloc(mem, 8192) + 4096 - 24;

	vt_range_write(mem, gpa, 0, 0, 8, 0);
	ASSERT_EQ(0, vt_dev_protect(mem, gpa + 24, 4096, PROT_NONE));
	EXPECT_EQ(IOERR, vt_io(self->m.q, variant->type, 0, gpa, 32));
	EXPECT_EQ(IOERR, vt_io(self->m.q, variant->type, 0, gpa + 24, 16));
	ASSERT_EQ(0, vt_dev_protect(mem, gpa + 24, 4096, PROT_READ | PROT_WRITE));
	EXPECT_EQ(OK, vt_io(self->m.q, variant->type, 0, gpa, 16));
	want(&self->m, 0, 8, ZERO);
}

/* C11: by the fd's mode and by the device */
TEST_F(rules, read_only)
{
	struct medium *m = &self->m;
	int fd = open(m->disk.path, O_RDONLY | O_CLOEXEC), one = 1;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, vt_detach(&m->dev));
	ASSERT_EQ(0, vt_attach(&m->dev, fd));
	EXPECT_EQ(IOERR, range_run(m, variant->type, 0, 8, 0));
	EXPECT_EQ(IOERR, range_run(m, variant->type, 0, m->nr_sectors, 0));
	EXPECT_EQ(-1, medium_check(m));
	ASSERT_EQ(0, vt_detach(&m->dev));
	ASSERT_EQ(0, vt_attach(&m->dev, m->disk.fd));
	ASSERT_EQ(0, ioctl(m->disk.fd, BLKROSET, &one));
	EXPECT_EQ(IOERR, range_run(m, variant->type, 0, 8, 0));
	EXPECT_EQ(-1, medium_check(m));
	one = 0;
	ASSERT_EQ(0, ioctl(m->disk.fd, BLKROSET, &one));
	close(fd);
}

/* C16: a driver that did not ack one of them */
TEST_F(rules, not_acked)
{
	static const struct { uint32_t type; unsigned int feature; } other[] = {
		{ DISCARD, VIRTIO_BLK_F_DISCARD }, { ZEROES, VIRTIO_BLK_F_WRITE_ZEROES },
		{ ERASE, VIRTIO_BLK_F_SECURE_ERASE },
	};
	struct medium *m = &self->m;

	ASSERT_EQ(0, vt_detach(&m->dev));
	for (unsigned int i = 0; i < ARRAY_SIZE(other); i++) {
		uint64_t features = FEATURES & ~VT_F(other[i].feature);

		ASSERT_EQ(0, vt_ioctl(m->dev.fd, VHOST_SET_FEATURES, &features, 8));
		ASSERT_EQ(0, vt_attach(&m->dev, m->disk.fd));
		EXPECT_EQ(UNSUPP, range_run(m, other[i].type, 0, 8, 0));
		EXPECT_EQ(-1, medium_check(m));
		ASSERT_EQ(0, vt_detach(&m->dev));
	}
	ASSERT_EQ(0, vt_ioctl(m->dev.fd, VHOST_SET_FEATURES, &m->dev.features, 8));
	ASSERT_EQ(0, vt_attach(&m->dev, m->disk.fd));
}

/* A VMM whose user wants nothing unmapped: a discard is a hint that may be ignored */
TEST_F(rules, no_unmap)
{
	struct vhost_blk_backend b = {
		.fd = self->m.disk.fd, .flags = VHOST_BLK_BACKEND_NO_UNMAP,
	};
	struct medium *m = &self->m;

	ASSERT_EQ(0, vt_detach(&m->dev));
	ASSERT_EQ(0, vt_ioctl(m->dev.fd, VHOST_BLK_SET_BACKEND, &b, sizeof(b)));
	for (unsigned int k = 0; k < 3; k++)
		range(m, k, 80 * k, 16, variant->type == ZEROES ? UNMAP : 0);
	EXPECT_EQ(OK, ranges_run(m, variant->type, 3));
	for (unsigned int k = 0; k < 3; k++)
		want(m, 80 * k, 16, variant->type == ZEROES ? ZERO : OLD);
	EXPECT_EQ(-1, medium_check(m));
	/* what is wrong is wrong all the same */
	EXPECT_EQ(IOERR, range_run(m, variant->type, m->nr_sectors, 8, 0));
	ASSERT_EQ(0, vt_detach(&m->dev));
	ASSERT_EQ(0, vt_attach(&m->dev, m->disk.fd));
	EXPECT_EQ(OK, range_run(m, variant->type, 800, 8, 0));
	want(m, 800, 8, ZERO);
}

/* B11: a legacy driver's ranges are little endian like all others */
TEST_F(rules, legacy)
{
	uint64_t features = FEATURES & ~VT_F(VIRTIO_F_VERSION_1);
	struct medium *m = &self->m;

	ASSERT_EQ(0, vt_detach(&m->dev));
	ASSERT_EQ(0, vt_ioctl(m->dev.fd, VHOST_SET_FEATURES, &features, 8));
	ASSERT_EQ(0, vt_attach(&m->dev, m->disk.fd));
	EXPECT_EQ(OK, range_run(m, variant->type, 80, 8, 0));
	want(m, 80, 8, ZERO);
}

/* ---- a guest that rewrites ranges ---- */

#define FLIPS	32	/* ranges; each has two places, A and B */

struct flipper {
	volatile uint64_t *sector[FLIPS];
	uint64_t a[FLIPS], b[FLIPS];
	uint64_t bad;
	bool stop;
};

static void *flip(void *arg)
{
	struct flipper *f = arg;

	for (unsigned int i = 0; !__atomic_load_n(&f->stop, __ATOMIC_RELAXED); i++) {
		unsigned int k = i % FLIPS, what = i / FLIPS % 3;

		*f->sector[k] = what == 0 ? f->a[k] : what == 1 ? f->b[k] : f->bad;
	}
	return NULL;
}

/*
 * Neither place, both, or what is beyond the end must not be touched, and nothing
 * at all when the answer is an error.
 */
static void flips_check(struct __test_metadata *_metadata, struct medium *m,
			const struct flipper *f, int status)
{
	const uint8_t *p = vt_ptr(&m->dev.mem, m->data);

	ASSERT_EQ(OK, vt_io(m->q, IN, 0, m->data, m->nr_sectors * VT_SECTOR));
	for (unsigned int k = 0; k < FLIPS; k++) {
		bool a = vt_check_byte(p + f->a[k] * VT_SECTOR, 4096, 0) < 0;
		bool b = vt_check_byte(p + f->b[k] * VT_SECTOR, 4096, 0) < 0;

		ASSERT_EQ(status == OK ? 1 : 0, a + b) {
			TH_LOG("status %d, range %u: %d + %d", status, k, a, b);
		}
		want(m, f->a[k], 8, a ? ZERO : OLD);
		want(m, f->b[k], 8, b ? ZERO : OLD);
	}
	EXPECT_EQ(-1, medium_check(m));
}

/* C20: what is checked is what is used */
TEST_F(rules, rewritten_while_read)
{
	struct flipper f = { .bad = self->m.nr_sectors };
	struct medium *m = &self->m;
	unsigned int nr[2] = { 0 };
	pthread_t thread;

	for (unsigned int k = 0; k < FLIPS; k++) {
		f.sector[k] = vt_ptr(&m->dev.mem, m->ranges + k * VT_RANGE_BYTES);
		f.a[k] = k * 32;
		f.b[k] = k * 32 + 16;
		range(m, k, f.a[k], 8, 0);
	}
	ASSERT_EQ(0, pthread_create(&thread, NULL, flip, &f));
	for (unsigned int i = 0; i < vt_loops(25); i++) {
		/* Of one range, some requests are right; of many, hardly any is. */
		int status = ranges_run(m, variant->type, i % 4 ? 1 : FLIPS);

		EXPECT_EQ(true, status == OK || status == IOERR);
		nr[status == OK]++;
		if (i % 4) {
			/* of one range: the others are as they were */
			struct flipper one = f;

			for (unsigned int k = 1; k < FLIPS; k++) {
				one.a[k] = f.a[0];
				one.b[k] = f.b[0];
			}
			flips_check(_metadata, m, &one, status);
		} else {
			flips_check(_metadata, m, &f, status);
		}
		ASSERT_EQ(OK, medium_restore(m));
	}
	f.stop = true;
	pthread_join(thread, NULL);
	ksft_print_msg("%u requests were right, %u were not\n", nr[1], nr[0]);
}

/* ---- a slow disk ---- */

FIXTURE(slow) {
	struct medium m;
	struct vt_req req;
};

FIXTURE_VARIANT(slow) {
	bool discard;
	uint32_t type;
};

FIXTURE_VARIANT_ADD(slow, discard) { .discard = true, .type = DISCARD };
/* dm-delay has no offload: zero pages */
FIXTURE_VARIANT_ADD(slow, zeroes) { .type = ZEROES };

static int slow_set(struct medium *m, unsigned int write_ms)
{
	return vt_delay_set(&m->over, &m->disk, (struct vt_delay) {
		.write = write_ms, .flush = write_ms,
	});
}

FIXTURE_SETUP(slow)
{
	struct medium *m = &self->m;
	int r;

	medium_none(m);
	ASSERT_EQ(0, null_make(&m->disk, 512, variant->discard));
	r = vt_delay_create(&m->over, "vbtranges", &m->disk, (struct vt_delay) {});
	if (r == -ENODEV || r == -ENOENT)
		return;		/* each test says so */
	ASSERT_EQ(0, r);
	ASSERT_EQ(0, medium_init(m, &m->over, &(struct vt_opts) { .features = FEATURES }));
	for (unsigned int k = 0; k < VT_RANGES_MAX; k++) {
		range(m, k, 100 * k, 50, 0);
		want(m, 100 * k, 50, ZERO);
	}
	self->req = (struct vt_req) {
		.type = variant->type, .data = m->ranges, .len = VT_RANGES_MAX * VT_RANGE_BYTES,
	};
}

FIXTURE_TEARDOWN(slow)
{
	struct medium *m = &self->m;

	if (m->q) {
		EXPECT_EQ(0, vt_queue_idle(m->q));
		EXPECT_EQ(0, vt_detach(&m->dev));
		EXPECT_EQ(0, vt_exclusive(&m->over));
	}
	medium_fini(m);
}

/* A request of many ranges must not keep others from being served, nor read its ranges again. */
TEST_F(slow, others_go_on)
{
	struct medium *m = &self->m;

	SKIP_WITHOUT_DISK(m);
	ASSERT_EQ(0, slow_set(m, 20 * vt_timeout_ms()));
	ASSERT_EQ(0, vt_req_submit(m->q, &self->req));
	ASSERT_EQ(0, vt_fetched_wait(m->q));
	for (unsigned int i = 0; i < 8; i++)
		EXPECT_EQ(OK, vt_io(m->q, IN, 7000, m->data, 65536));
	EXPECT_EQ(false, self->req.done);
	/* C20: it was read; what is written there now has no effect */
	for (unsigned int k = 0; k < VT_RANGES_MAX; k++)
		range(m, k, k % 2 ? UINT64_MAX : 100 * k + 50, 50, 0);
	ASSERT_EQ(0, slow_set(m, 0));
	ASSERT_EQ(0, vt_req_wait(m->q, &self->req));
	EXPECT_EQ(OK, self->req.status);
	EXPECT_EQ(1, self->req.used_len);
	EXPECT_EQ(-1, medium_check(m));
	EXPECT_EQ(0, vt_good(m->q));
}

/* G04: a detach waits for it, and no longer than it takes */
TEST_F(slow, detach)
{
	struct medium *m = &self->m;
	int64_t start;

	SKIP_WITHOUT_DISK(m);
	ASSERT_EQ(0, slow_set(m, 10));
	ASSERT_EQ(0, vt_req_submit(m->q, &self->req));
	ASSERT_EQ(0, vt_fetched_wait(m->q));
	start = vt_now_ms();
	ASSERT_EQ(0, vt_detach(&m->dev));
	EXPECT_GT(2 * vt_timeout_ms(), vt_now_ms() - start);
	/* it is back, and has done what it was to do */
	ASSERT_EQ(0, vt_req_wait(m->q, &self->req));
	EXPECT_EQ(OK, self->req.status);
	ASSERT_EQ(0, slow_set(m, 0));
	ASSERT_EQ(0, vt_attach(&m->dev, m->over.fd));
	EXPECT_EQ(-1, medium_check(m));
	EXPECT_EQ(0, vt_good(m->q));
}

/* G01: so does the close of the device */
TEST_F(slow, close)
{
	struct medium *m = &self->m;
	int64_t start;

	SKIP_WITHOUT_DISK(m);
	ASSERT_EQ(0, slow_set(m, 10));
	ASSERT_EQ(0, vt_req_submit(m->q, &self->req));
	ASSERT_EQ(0, vt_fetched_wait(m->q));
	start = vt_now_ms();
	close(m->dev.fd);
	m->dev.fd = -1;
	EXPECT_GT(2 * vt_timeout_ms(), vt_now_ms() - start);
	EXPECT_EQ(0, vt_exclusive(&m->over));
	/* It may have been cut short, which is nothing that it could keep from the driver. */
	ASSERT_EQ(0, vt_req_wait(m->q, &self->req));
	EXPECT_EQ(true, self->req.status == OK || self->req.status == IOERR);
	m->q = NULL;
}

/* ---- a disk that fails ---- */

FIXTURE(failing) {
	struct medium m;
};

FIXTURE_VARIANT(failing) {
	bool discard;
	uint32_t type;
};

FIXTURE_VARIANT_ADD(failing, discard) { .discard = true, .type = DISCARD };
FIXTURE_VARIANT_ADD(failing, zeroes) { .type = ZEROES };

FIXTURE_SETUP(failing)
{
	struct vt_opts opts = { .features = FEATURES };

	medium_none(&self->m);
	ASSERT_EQ(0, null_make(&self->m.disk, 512, variant->discard));
	ASSERT_EQ(0, medium_init(&self->m, &self->m.disk, &opts));
}

FIXTURE_TEARDOWN(failing)
{
	EXPECT_EQ(0, vt_queue_idle(self->m.q));
	EXPECT_EQ(0, vt_detach(&self->m.dev));
	medium_fini(&self->m);
}

/* H01, H02: whichever range it is that fails; the next request is fine */
TEST_F(failing, one_range)
{
	static const char *const bad[] = { "100-100", "1150-1160", "2199-2199" };
	struct medium *m = &self->m;
	char text[32];

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		for (unsigned int k = 0; k < 3; k++) {
			range(m, k, 100 + 1000 * k, 100, 0);
			want(m, 100 + 1000 * k, 100, EITHER);
		}
		snprintf(text, sizeof(text), "+%s", bad[i]);
		ASSERT_EQ(0, vt_null_attr(m->disk.name, "badblocks", text));
		EXPECT_EQ(IOERR, ranges_run(m, variant->type, 3));
		EXPECT_EQ(OK, range_run(m, variant->type, 8000, 16, 0));
		want(m, 8000, 16, ZERO);
		snprintf(text, sizeof(text), "-%s", bad[i]);
		ASSERT_EQ(0, vt_null_attr(m->disk.name, "badblocks", text));
		EXPECT_EQ(-1, medium_check(m));
		for (unsigned int k = 0; k < 3; k++) {
			range(m, k, 100 + 1000 * k, 100, 0);
			want(m, 100 + 1000 * k, 100, ZERO);
		}
		EXPECT_EQ(OK, ranges_run(m, variant->type, 3));
		EXPECT_EQ(-1, medium_check(m));
		EXPECT_EQ(0, vt_good(m->q));
		ASSERT_EQ(OK, medium_restore(m));
	}
}

VT_TEST_MAIN
