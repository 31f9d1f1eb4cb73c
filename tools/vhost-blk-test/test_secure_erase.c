// SPDX-License-Identifier: GPL-2.0-only
/*
 * SECURE_ERASE on a disk that can: what is to be erased is, by the disk itself and
 * in pieces that it takes, and nothing else is. What erase and discard have in
 * common is in test_ranges.c.
 */
#include "vt_test.h"

#define IN		VIRTIO_BLK_T_IN
#define OUT		VIRTIO_BLK_T_OUT
#define ERASE		VIRTIO_BLK_T_SECURE_ERASE
#define DISCARD		VIRTIO_BLK_T_DISCARD
#define ZEROES		VIRTIO_BLK_T_WRITE_ZEROES
#define OK		VIRTIO_BLK_S_OK
#define IOERR		VIRTIO_BLK_S_IOERR
#define UNSUPP		VIRTIO_BLK_S_UNSUPP
#define F_ERASE		VT_F(VIRTIO_BLK_F_SECURE_ERASE)
#define FEATURES	(VT_F_BASE | VT_F_EVENT_IDX | VT_F_RANGES)
#define SEED		14
#define OLD		1	/* what a sector holds that still has the pattern */

FIXTURE(erase) {
	struct vt_dev dev;
	struct vt_bdev disk;
	struct vt_queue *q;
	uint64_t data, ranges;
	uint32_t nr_sectors;
	uint8_t *want;		/* of each sector: OLD, or the byte it is full of */
	long bios, sectors;	/* erased when it was last asked */
};

#define erase_data FIXTURE_DATA(erase)

FIXTURE_VARIANT(erase) {
	bool indirect;
};

FIXTURE_VARIANT_ADD(erase, direct) { };
FIXTURE_VARIANT_ADD(erase, indirect) { .indirect = true };

FIXTURE_SETUP(erase)
{
	struct vt_opts opts = { .features = FEATURES, .indirect = variant->indirect };
	struct vt_mem *mem = &self->dev.mem;

	ASSERT_EQ(0, vt_test_disk_open(&self->disk, "vtdsecure")) {
		TH_LOG("vt_disk.ko: `make` builds it, $VHOST_BLK_TEST_DISK names it");
	}
	ASSERT_EQ(0, vt_dev_init(&self->dev, &opts));
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	self->q = &self->dev.q[0];
	self->nr_sectors = self->disk.bytes / VT_SECTOR;
	self->data = vt_alloc(mem, self->disk.bytes);
	self->ranges = vt_alloc(mem, 4096);
	self->want = malloc(self->nr_sectors);
	ASSERT_NE(NULL, self->want);
	memset(self->want, OLD, self->nr_sectors);
	vt_fill(vt_ptr(mem, self->data), self->disk.bytes, SEED, 0);
	ASSERT_EQ(OK, vt_io(self->q, OUT, 0, self->data, self->disk.bytes));
	self->bios = vt_test_disk_count("erase_bios");
	self->sectors = vt_test_disk_count("erased_sectors");
}

/* The first sector that does not hold what it has to, or -1; below -1: -errno. */
static long medium_check(erase_data *self)
{
	uint8_t *p = vt_ptr(&self->dev.mem, self->data);
	int r = vt_io(self->q, IN, 0, self->data, self->nr_sectors * VT_SECTOR);

	if (r)
		return r < 0 ? r : -EIO;
	for (uint32_t i = 0; i < self->nr_sectors; i++, p += VT_SECTOR)
		if (self->want[i] == OLD ? vt_check(p, VT_SECTOR, SEED, i) >= 0 :
		    vt_check_byte(p, VT_SECTOR, self->want[i]) >= 0)
			return i;
	return -1;
}

FIXTURE_TEARDOWN(erase)
{
	EXPECT_EQ(-1, medium_check(self));
	EXPECT_EQ(0, vt_good(self->q));
	EXPECT_EQ(0, vt_queue_idle(self->q));
	EXPECT_EQ(0, vt_event_count(self->q->err, 0));
	EXPECT_EQ(0, vt_detach(&self->dev));
	EXPECT_EQ(0, vt_exclusive(&self->disk));
	vt_dev_fini(&self->dev);
	vt_bdev_destroy(&self->disk);
	free(self->want);
}

/* Since it was last asked, the disk erased this much in so many bios. */
static void expect_erased(struct __test_metadata *_metadata, erase_data *self, long sectors,
			  long bios)
{
	EXPECT_EQ(sectors, vt_test_disk_count("erased_sectors") - self->sectors);
	EXPECT_EQ(bios, vt_test_disk_count("erase_bios") - self->bios);
	self->sectors += sectors;
	self->bios += bios;
}

static void range(erase_data *self, unsigned int i, uint64_t sector, uint32_t nr, uint32_t flags)
{
	vt_range_write(&self->dev.mem, self->ranges, i, sector, nr, flags);
}

/* Send the first @nr ranges: status, or -errno. */
static int ranges_run(erase_data *self, uint32_t type, unsigned int nr)
{
	return vt_io(self->q, type, 0, self->ranges, nr * VT_RANGE_BYTES);
}

static int range_run(erase_data *self, uint32_t type, uint64_t sector, uint32_t nr,
		     uint32_t flags)
{
	range(self, 0, sector, nr, flags);
	return ranges_run(self, type, 1);
}

/* What it takes to erase a range without asking for too much, each but the last to a granule. */
static long bios_of(uint64_t sector, uint32_t nr)
{
	long bios = 1;

	for (uint32_t chunk; nr > VT_ERASE_SECTORS_MAX; nr -= chunk, sector += chunk, bios++)
		chunk = VT_ERASE_SECTORS_MAX -
			(sector + VT_ERASE_SECTORS_MAX) % VT_ERASE_GRANULARITY;
	return bios;
}

/* A driver is told what this disk can, and that it may not where it may not write. */
TEST_F(erase, query)
{
	int fd = open(self->disk.path, O_RDONLY | O_CLOEXEC);
	struct virtio_blk_config *config;
	struct vhost_blk_query query;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, vt_query(self->dev.fd, self->disk.fd, &query));
	config = (struct virtio_blk_config *)query.config;
	EXPECT_EQ(F_ERASE, query.features & F_ERASE);
	EXPECT_EQ(VT_ERASE_SECTORS_MAX, config->max_secure_erase_sectors);
	EXPECT_EQ(VT_RANGES_MAX, config->max_secure_erase_seg);
	EXPECT_EQ(VT_ERASE_GRANULARITY, config->secure_erase_sector_alignment);
	/* its limit of discards is another one */
	EXPECT_EQ(VT_F(VIRTIO_BLK_F_DISCARD), query.features & VT_F(VIRTIO_BLK_F_DISCARD));
	EXPECT_EQ(self->nr_sectors, config->max_discard_sectors);

	ASSERT_EQ(0, vt_query(self->dev.fd, fd, &query));
	EXPECT_EQ(0, query.features & F_ERASE);
	EXPECT_EQ(0, config->max_secure_erase_sectors);
	EXPECT_EQ(0, config->max_secure_erase_seg);
	EXPECT_EQ(0, config->secure_erase_sector_alignment);
	close(fd);
}

/* Of one sector, of as much as the disk takes at once, the first and the last */
TEST_F(erase, one_range)
{
	const struct {
		uint32_t sector, nr;
	} r[] = {
		{ 0, 1 }, { 17, 1 }, { 64, 16 }, { 203, VT_ERASE_SECTORS_MAX },
		{ 1024, VT_ERASE_SECTORS_MAX - 1 }, { self->nr_sectors - 1, 1 },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(r); i++) {
		EXPECT_EQ(OK, range_run(self, ERASE, r[i].sector, r[i].nr, 0));
		memset(self->want + r[i].sector, VT_ERASED, r[i].nr);
		expect_erased(_metadata, self, r[i].nr, 1);
		EXPECT_EQ(-1, medium_check(self));
	}
}

/* As many as there may be; some meet, most do not, some are empty */
TEST_F(erase, many_ranges)
{
	uint32_t nr, sum = 0, bios = 0;

	for (unsigned int i = 0; i < VT_RANGES_MAX; i++) {
		nr = i % 9;
		range(self, i, 8 * i, nr, 0);
		memset(self->want + 8 * i, VT_ERASED, nr);
		sum += nr;
		bios += nr > 0;
	}
	EXPECT_EQ(OK, ranges_run(self, ERASE, VT_RANGES_MAX));
	expect_erased(_metadata, self, sum, bios);
	EXPECT_EQ(OK, range_run(self, ERASE, 2048, 0, 0));
	EXPECT_EQ(OK, range_run(self, ERASE, self->nr_sectors, 0, 0));
	expect_erased(_metadata, self, 0, 0);
}

/* More than the disk takes at once: cut, each piece but the first where a granule begins */
TEST_F(erase, split)
{
	static const struct { uint32_t sector, nr; } r[] = {
		{ 8, 500 }, { 1024, VT_ERASE_SECTORS_MAX + 1 }, { 2047, 97 }, { 3007, 1000 },
	};
	uint32_t sum = 0, bios = 0;

	ASSERT_EQ(6, bios_of(8, 500));
	for (unsigned int i = 0; i < ARRAY_SIZE(r); i++) {
		range(self, i, r[i].sector, r[i].nr, 0);
		memset(self->want + r[i].sector, VT_ERASED, r[i].nr);
		sum += r[i].nr;
		bios += bios_of(r[i].sector, r[i].nr);
	}
	EXPECT_EQ(OK, ranges_run(self, ERASE, ARRAY_SIZE(r)));
	expect_erased(_metadata, self, sum, bios);
	EXPECT_EQ(-1, medium_check(self));
	EXPECT_EQ(OK, range_run(self, ERASE, 0, self->nr_sectors, 0));
	memset(self->want, VT_ERASED, self->nr_sectors);
	expect_erased(_metadata, self, self->nr_sectors, bios_of(0, self->nr_sectors));
}

/* Three kinds of ranges, all different on this disk */
TEST_F(erase, not_a_discard)
{
	EXPECT_EQ(OK, range_run(self, ERASE, 160, 16, 0));
	EXPECT_EQ(OK, range_run(self, DISCARD, 320, 500, 0));
	EXPECT_EQ(OK, range_run(self, ZEROES, 960, 16, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP));
	memset(self->want + 160, VT_ERASED, 16);
	memset(self->want + 320, 0, 500);
	memset(self->want + 960, 0, 16);
	expect_erased(_metadata, self, 16, 1);
}

/* Unmapping nothing is about discards: who asks for an erase gets it. */
TEST_F(erase, no_unmap)
{
	struct vhost_blk_backend b = {
		.fd = self->disk.fd, .flags = VHOST_BLK_BACKEND_NO_UNMAP,
	};

	ASSERT_EQ(0, vt_detach(&self->dev));
	ASSERT_EQ(0, vt_ioctl(self->dev.fd, VHOST_BLK_SET_BACKEND, &b, sizeof(b)));
	EXPECT_EQ(OK, range_run(self, ERASE, 160, 16, 0));
	memset(self->want + 160, VT_ERASED, 16);
	EXPECT_EQ(OK, range_run(self, DISCARD, 320, 16, 0));
	expect_erased(_metadata, self, 16, 1);
}

/* C13: no flag is for erases (5.2.6.2), not even one that WRITE_ZEROES has */
TEST_F(erase, flags)
{
	for (unsigned int bit = 0; bit < 32; bit++) {
		for (unsigned int k = 0; k < 3; k++)
			range(self, k, k * 80, 8, bit % 3 == k ? 1U << bit : 0);
		EXPECT_EQ(UNSUPP, ranges_run(self, ERASE, 3));
	}
	expect_erased(_metadata, self, 0, 0);
}

/* C14, C15: a bad range, and those before it are not erased */
TEST_F(erase, bad_range)
{
	const struct {
		uint64_t sector;
		uint32_t nr;
	} bad[] = {
		{ self->nr_sectors, 1 }, { self->nr_sectors - 8, 9 }, { 0, UINT32_MAX },
		{ UINT64_MAX, 1 }, { UINT64_MAX - 7, 16 }, { 1ULL << 55, 8 },
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		range(self, 0, 0, 8, 0);
		range(self, 1, 800, 500, 0);
		range(self, 2, bad[i].sector, bad[i].nr, 0);
		EXPECT_EQ(IOERR, ranges_run(self, ERASE, 3));
	}
	EXPECT_EQ(IOERR, vt_io(self->q, ERASE, 0, self->ranges, 0));
	EXPECT_EQ(IOERR, vt_io(self->q, ERASE, 0, self->ranges, VT_RANGE_BYTES + 1));
	EXPECT_EQ(IOERR, vt_io(self->q, ERASE, 0, self->ranges,
			       (VT_RANGES_MAX + 1) * VT_RANGE_BYTES));
	expect_erased(_metadata, self, 0, 0);
}

/* C16: a driver that did not ack it; the others it may use all the same */
TEST_F(erase, not_acked)
{
	uint64_t features = FEATURES & ~F_ERASE;

	ASSERT_EQ(0, vt_detach(&self->dev));
	ASSERT_EQ(0, vt_ioctl(self->dev.fd, VHOST_SET_FEATURES, &features, 8));
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	EXPECT_EQ(UNSUPP, range_run(self, ERASE, 0, 8, 0));
	EXPECT_EQ(OK, range_run(self, DISCARD, 320, 16, 0));
	memset(self->want + 320, 0, 16);
	expect_erased(_metadata, self, 0, 0);
	ASSERT_EQ(0, vt_detach(&self->dev));
	ASSERT_EQ(0, vt_ioctl(self->dev.fd, VHOST_SET_FEATURES, &self->dev.features, 8));
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	EXPECT_EQ(OK, range_run(self, ERASE, 160, 16, 0));
	memset(self->want + 160, VT_ERASED, 16);
	expect_erased(_metadata, self, 16, 1);
}

/* C11: by the fd's mode and by the device */
TEST_F(erase, read_only)
{
	int fd = open(self->disk.path, O_RDONLY | O_CLOEXEC), one = 1, zero = 0;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, vt_detach(&self->dev));
	ASSERT_EQ(0, vt_attach(&self->dev, fd));
	EXPECT_EQ(IOERR, range_run(self, ERASE, 0, 8, 0));
	EXPECT_EQ(IOERR, range_run(self, ERASE, 0, self->nr_sectors, 0));
	ASSERT_EQ(0, vt_detach(&self->dev));
	close(fd);
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	ASSERT_EQ(0, ioctl(self->disk.fd, BLKROSET, &one));
	EXPECT_EQ(IOERR, range_run(self, ERASE, 0, 8, 0));
	ASSERT_EQ(0, ioctl(self->disk.fd, BLKROSET, &zero));
	expect_erased(_metadata, self, 0, 0);
}

/* They count as discards: what was asked for, not in how many pieces it was done */
TEST_F(erase, stats)
{
	struct vhost_blk_stats a, b;

	ASSERT_EQ(0, vt_ioctl(self->dev.fd, VHOST_BLK_GET_STATS, &a, sizeof(a)));
	for (unsigned int k = 0; k < 3; k++) {
		range(self, k, 1000 * k, 250, 0);
		memset(self->want + 1000 * k, VT_ERASED, 250);
	}
	ASSERT_EQ(OK, ranges_run(self, ERASE, 3));
	ASSERT_EQ(IOERR, range_run(self, ERASE, self->nr_sectors, 1, 0));
	ASSERT_EQ(UNSUPP, range_run(self, ERASE, 0, 8, 1));
	ASSERT_EQ(0, vt_ioctl(self->dev.fd, VHOST_BLK_GET_STATS, &b, sizeof(b)));
	EXPECT_EQ(3, b.discard.ops - a.discard.ops);
	EXPECT_EQ(750 * VT_SECTOR, b.discard.bytes - a.discard.bytes);
	EXPECT_EQ(2, b.discard.errors - a.discard.errors);
	EXPECT_LT(a.discard.ns, b.discard.ns);
	EXPECT_EQ(a.write.ops, b.write.ops);
	EXPECT_EQ(a.other.ops, b.other.ops);
}

#include "vt_test_unload.h"

VT_TEST_MAIN
