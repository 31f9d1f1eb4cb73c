// SPDX-License-Identifier: GPL-2.0-only
/*
 * Raw image files as disks, on the file systems that people keep them on, past the
 * page cache and through it. The host looks at the same file with read().
 */
#include "vt_test.h"

#define IN		VIRTIO_BLK_T_IN
#define OUT		VIRTIO_BLK_T_OUT
#define FLUSH		VIRTIO_BLK_T_FLUSH
#define DISCARD		VIRTIO_BLK_T_DISCARD
#define ZEROES		VIRTIO_BLK_T_WRITE_ZEROES
#define OK		VIRTIO_BLK_S_OK
#define IOERR		VIRTIO_BLK_S_IOERR
#define UNSUPP		VIRTIO_BLK_S_UNSUPP
#define UNMAP		VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP
#define FEATURES	(VT_F_BASE | VT_F_EVENT_IDX | VT_F_RANGES)
#define FS_MIB		128UL
#define IMAGE_BYTES	(24 * VT_MIB)
#define DATA_BYTES	(4 * VT_MIB)
#define SEED		5

/* File systems are made once; a test leaves no file on them. */
enum { EXT4, EXT4_4K, XFS, BTRFS, TMPFS, NR_FS };

static const struct {
	const char *type, *disk;
	unsigned int lbs;
} fs_kind[NR_FS] = {
	[EXT4] = { "ext4", "vbtext4", 512 },
	[EXT4_4K] = { "ext4", NULL, 4096 },
	[XFS] = { "xfs", "vbtxfs", 512 },
	[BTRFS] = { "btrfs", "vbtbtrfs", 512 },
	[TMPFS] = { "tmpfs", NULL, 0 },
};

static struct fs_made {
	struct vt_fs fs;
	struct vt_bdev disk;
	int error;
} fs_made[NR_FS];

FIXTURE(image) {
	struct vt_dev dev;
	struct vt_queue *q;
	struct vt_fs *fs;
	bool was_full;		/* the file system */
	int fd;			/* what the device is given */
	int host;		/* the same file, through the page cache */
	uint32_t lbs;
	uint64_t data, meta;
	uint8_t *p;
	uint8_t *seen;		/* what the host read */
	const char *lacks;	/* why there is no such image */
};

/* The harness does not take a SKIP in a set-up for an answer. */
#define IMAGE_OR_SKIP() do {						\
	if (self->lacks)						\
		SKIP(return, "%s", self->lacks);			\
} while (0)

#define image_data FIXTURE_DATA(image)

FIXTURE_VARIANT(image) {
	int fs;
	bool direct;		/* the fd is open with O_DIRECT */
	bool indirect;
	unsigned int lbs;	/* what is to be offered */
};

FIXTURE_VARIANT_ADD(image, ext4) { .fs = EXT4, .lbs = 512, .indirect = true };
FIXTURE_VARIANT_ADD(image, ext4_direct) { .fs = EXT4, .direct = true, .lbs = 512 };
/* Direct I/O would need larger blocks than images are made for, unless that is meant. */
FIXTURE_VARIANT_ADD(image, ext4_4k) { .fs = EXT4_4K, .lbs = 512 };
FIXTURE_VARIANT_ADD(image, ext4_4k_direct) {
	.fs = EXT4_4K, .direct = true, .lbs = 4096, .indirect = true,
};

FIXTURE_VARIANT_ADD(image, xfs) { .fs = XFS, .lbs = 512 };
FIXTURE_VARIANT_ADD(image, xfs_direct) {
	.fs = XFS, .direct = true, .lbs = 512, .indirect = true,
};

FIXTURE_VARIANT_ADD(image, btrfs) { .fs = BTRFS, .lbs = 512, .indirect = true };
FIXTURE_VARIANT_ADD(image, btrfs_direct) { .fs = BTRFS, .direct = true, .lbs = 4096 };
FIXTURE_VARIANT_ADD(image, tmpfs) { .fs = TMPFS, .lbs = 512 };
FIXTURE_VARIANT_ADD(image, tmpfs_direct) {
	.fs = TMPFS, .direct = true, .lbs = 4096, .indirect = true,
};

FIXTURE_SETUP(image)
{
	struct vt_opts opts = {
		.features = FEATURES, .nr_queues = 2, .num = 512, .indirect = variant->indirect,
	};
	struct fs_made *made = &fs_made[variant->fs];

	self->dev.fd = -1;
	self->fd = -1;
	self->host = -1;
	if (made->error == -EOPNOTSUPP) {
		self->lacks = made->fs.lacks;
		return;
	}
	ASSERT_EQ(0, made->error);
	self->fs = &made->fs;
	self->fd = vt_image_create(self->fs, "image", variant->direct ? O_DIRECT : 0, IMAGE_BYTES);
	if (self->fd == -EINVAL && variant->direct) {
		self->lacks = "no direct I/O on this file system in this kernel";
		return;
	}
	ASSERT_LE(0, self->fd);
	self->host = vt_image_open(self->fs, "image", O_RDWR);
	ASSERT_LE(0, self->host);
	self->lbs = variant->lbs;
	self->seen = malloc(DATA_BYTES);
	ASSERT_NE(NULL, self->seen);
	ASSERT_EQ(0, vt_dev_init(&self->dev, &opts));
	ASSERT_EQ(0, vt_attach(&self->dev, self->fd));
	self->q = &self->dev.q[0];
	self->meta = vt_alloc(&self->dev.mem, 4096);
	self->data = vt_alloc(&self->dev.mem, DATA_BYTES + 8192);
	self->p = vt_ptr(&self->dev.mem, self->data);
}

FIXTURE_TEARDOWN(image)
{
	if (self->q) {
		EXPECT_EQ(0, vt_good(self->q));
		EXPECT_EQ(0, vt_queue_idle(self->q));
		EXPECT_EQ(0, vt_queue_idle(&self->dev.q[1]));
		EXPECT_EQ(0, vt_detach(&self->dev));
	}
	vt_dev_fini(&self->dev);
	free(self->seen);
	if (self->host >= 0)
		close(self->host);
	if (self->fd >= 0) {
		close(self->fd);
		vt_image_remove(self->fs, "image");
	}
	/* For long, btrfs finds no room for some requests, and room for others. */
	if (self->was_full && variant->fs == BTRFS)
		EXPECT_EQ(0, vt_fs_renew(self->fs));
}

/* Write @len bytes of a pattern: status, or -errno. */
static int pattern_write(image_data *self, uint64_t sector, uint32_t len, uint64_t seed)
{
	vt_fill(self->p, len, seed, sector);
	return vt_io(self->q, OUT, sector, self->data, len);
}

/* What the guest reads: the pattern, or zeroes. 0, or the status, or -errno. */
static int pattern_read(image_data *self, uint64_t sector, uint32_t len, uint64_t seed)
{
	int r;

	memset(self->p, 0xee, len);
	r = vt_io(self->q, IN, sector, self->data, len);
	if (r)
		return r;
	return vt_check(self->p, len, seed, sector) < 0 ? 0 : -EILSEQ;
}

static int zeroes_read(image_data *self, uint64_t sector, uint32_t len)
{
	int r;

	memset(self->p, 0xee, len);
	r = vt_io(self->q, IN, sector, self->data, len);
	if (r)
		return r;
	return vt_check_byte(self->p, len, 0) < 0 ? 0 : -EILSEQ;
}

/* What the host reads. */
static int pattern_host(image_data *self, uint64_t sector, uint32_t len, uint64_t seed)
{
	if (pread(self->host, self->seen, len, sector * VT_SECTOR) != (ssize_t)len)
		return -EIO;
	return vt_check(self->seen, len, seed, sector) < 0 ? 0 : -EILSEQ;
}

static int zeroes_host(image_data *self, uint64_t sector, uint32_t len)
{
	if (pread(self->host, self->seen, len, sector * VT_SECTOR) != (ssize_t)len)
		return -EIO;
	return vt_check_byte(self->seen, len, 0) < 0 ? 0 : -EILSEQ;
}

/* ---- reads and writes ---- */

/* A02, A03, B05: wherever the payload lies and however it is cut */
TEST_F(image, layouts)
{
	static const struct {
		uint32_t len, odd, seg_bytes;
	} layouts[] = {
		{ 4096, 0, 0 }, { 4096, 1, 0 }, { 4096, 512, 0 }, { 4096, 0, 512 },
		{ 4096, 3, 17 }, { 16384, 0, 4096 }, { 12288, 511, 1000 }, { 65536, 4095, 0 },
		{ DATA_BYTES, 0, 0 }, { DATA_BYTES, 0, 16384 }, { DATA_BYTES, 513, 16384 },
		{ DATA_BYTES, 2, 10000 },
	};
	uint64_t sector = 0;

	IMAGE_OR_SKIP();
	for (unsigned int i = 0; i < ARRAY_SIZE(layouts); i++, sector += 8) {
		uint32_t len = layouts[i].len;
		uint8_t *p = self->p + layouts[i].odd;
		struct vt_req req = {
			.type = OUT, .sector = sector, .len = len,
			.data = self->data + layouts[i].odd, .seg_bytes = layouts[i].seg_bytes,
		};

		vt_fill(p, len, i, sector);
		ASSERT_EQ(0, vt_req_run(self->q, &req));
		ASSERT_EQ(OK, req.status) TH_LOG("layout %u", i);
		ASSERT_EQ(0, pattern_host(self, sector, len, i)) TH_LOG("layout %u", i);
		memset(self->p, 0xee, DATA_BYTES + 8192);
		req.type = IN;
		ASSERT_EQ(0, vt_req_run(self->q, &req));
		ASSERT_EQ(OK, req.status) TH_LOG("layout %u", i);
		EXPECT_EQ(len + 1, req.used_len);
		EXPECT_EQ(-1, vt_check(p, len, i, sector)) TH_LOG("layout %u", i);
		EXPECT_EQ(-1, vt_check_byte(self->p, layouts[i].odd, 0xee));
		EXPECT_EQ(-1, vt_check_byte(p + len, 4096, 0xee));
	}
}

/* One chain of segments of one byte and one long one. */
static int chain_of_bytes(image_data *self, uint32_t type, uint32_t len)
{
	struct vt_chain c = {};
	unsigned int i;
	int r;

	vt_hdr_write(&self->dev.mem, self->meta, type, 64);
	*(uint8_t *)vt_ptr(&self->dev.mem, self->meta + 16) = VT_STATUS_NONE;
	vt_out(&c, self->meta, 16);
	for (i = 0; i < 300; i++)
		(type == IN ? vt_in : vt_out)(&c, self->data + i, 1);
	(type == IN ? vt_in : vt_out)(&c, self->data + i, len - i);
	vt_in(&c, self->meta + 16, 1);
	r = vt_chain_run(self->q, &c, self->dev.indirect);
	return r < 0 ? r : vt_status_read(&self->dev.mem, self->meta + 16);
}

TEST_F(image, segments_of_one_byte)
{
	const uint32_t len = 8192;

	IMAGE_OR_SKIP();
	vt_fill(self->p, len, SEED, 64);
	ASSERT_EQ(OK, chain_of_bytes(self, OUT, len));
	EXPECT_EQ(0, pattern_host(self, 64, len, SEED));
	memset(self->p, 0xee, len + 1);
	ASSERT_EQ(OK, chain_of_bytes(self, IN, len));
	EXPECT_EQ(-1, vt_check(self->p, len, SEED, 64));
	EXPECT_EQ(0xee, self->p[len]);
}

/* Nothing was written there yet, or just next to it */
TEST_F(image, holes)
{
	const uint32_t unit = self->lbs / VT_SECTOR;
	const uint64_t middle = 4 * VT_MIB / VT_SECTOR;

	IMAGE_OR_SKIP();
	EXPECT_EQ(0, zeroes_read(self, 0, DATA_BYTES));
	EXPECT_EQ(0, zeroes_read(self, IMAGE_BYTES / VT_SECTOR - unit, self->lbs));
	ASSERT_EQ(OK, pattern_write(self, middle + unit, self->lbs, SEED));
	EXPECT_EQ(0, zeroes_read(self, middle, self->lbs));
	EXPECT_EQ(0, pattern_read(self, middle + unit, self->lbs, SEED));
	EXPECT_EQ(0, zeroes_read(self, middle + 2 * unit, VT_MIB));
	EXPECT_EQ(0, zeroes_host(self, middle, self->lbs));
	EXPECT_EQ(0, zeroes_host(self, middle + 2 * unit, VT_MIB));
	/* and it stays sparse */
	EXPECT_GT(IMAGE_BYTES / 4 / VT_SECTOR, vt_image_blocks(self->host));
}

/* Two queues, all layouts, everything read back by the guest and by the host */
TEST_F(image, load)
{
	struct vt_bdev shape = { .bytes = IMAGE_BYTES, .lbs = self->lbs };
	struct vt_load load[2];

	IMAGE_OR_SKIP();
	vt_load_spread(load, 2, &self->dev, &shape);
	for (unsigned int i = 0; i < 2; i++)
		ASSERT_EQ(0, vt_load_start(&load[i]));
	vt_loads_go_on(_metadata, load, 2, vt_loops(150));
	for (unsigned int i = 0; i < 2; i++) {
		EXPECT_EQ(0, vt_load_stop(&load[i])) TH_LOG("%s", load[i].what);
		EXPECT_EQ(0, vt_load_compare(&load[i], self->host)) TH_LOG("%s", load[i].what);
		vt_load_free(&load[i]);
	}
	EXPECT_EQ(0, vt_good(&self->dev.q[1]));
}

/* Once it is detached nothing is missing, whoever looks */
TEST_F(image, detached)
{
	struct stat st;

	IMAGE_OR_SKIP();
	ASSERT_EQ(OK, pattern_write(self, 8, VT_MIB, SEED));
	ASSERT_EQ(0, vt_detach(&self->dev));
	EXPECT_EQ(0, pattern_host(self, 8, VT_MIB, SEED));
	ASSERT_EQ(0, fstat(self->host, &st));
	EXPECT_EQ((off_t)IMAGE_BYTES, st.st_size);
	/* what the host writes then, the guest reads later */
	vt_fill(self->seen, VT_MIB, SEED + 1, 8);
	ASSERT_EQ((ssize_t)VT_MIB, pwrite(self->host, self->seen, VT_MIB, 8 * VT_SECTOR));
	ASSERT_EQ(0, vt_attach(&self->dev, self->fd));
	EXPECT_EQ(0, pattern_read(self, 8, VT_MIB, SEED + 1));
}

/* The path is gone, the file is not */
TEST_F(image, unlinked)
{
	IMAGE_OR_SKIP();
	ASSERT_EQ(0, vt_image_remove(self->fs, "image"));
	EXPECT_EQ(0, vt_good(self->q));
	close(self->host);
	close(self->fd);
	self->fd = -1;
	self->host = -1;
	ASSERT_EQ(OK, pattern_write(self, 0, DATA_BYTES, SEED));
	EXPECT_EQ(OK, vt_io(self->q, FLUSH, 0, 0, 0));
	EXPECT_EQ(0, pattern_read(self, 0, DATA_BYTES, SEED));
}

/* ---- its size ---- */

TEST_F(image, grows)
{
	const uint64_t end = IMAGE_BYTES / VT_SECTOR;

	IMAGE_OR_SKIP();
	EXPECT_EQ(IOERR, vt_io(self->q, IN, end, self->data, self->lbs));
	EXPECT_EQ(IOERR, pattern_write(self, end, self->lbs, SEED));
	ASSERT_EQ(0, ftruncate(self->host, IMAGE_BYTES + VT_MIB));
	EXPECT_EQ(0, zeroes_read(self, end, VT_MIB));
	ASSERT_EQ(OK, pattern_write(self, end, VT_MIB, SEED));
	EXPECT_EQ(0, pattern_read(self, end, VT_MIB, SEED));
	EXPECT_EQ(0, pattern_host(self, end, VT_MIB, SEED));
	EXPECT_EQ(IOERR, vt_io(self->q, IN, end + VT_MIB / VT_SECTOR, self->data, self->lbs));
}

TEST_F(image, shrinks)
{
	const uint32_t unit = self->lbs / VT_SECTOR;
	const uint64_t end = VT_MIB / VT_SECTOR;
	struct stat st;

	IMAGE_OR_SKIP();
	ASSERT_EQ(OK, pattern_write(self, 0, 2 * VT_MIB, SEED));
	ASSERT_EQ(0, ftruncate(self->host, VT_MIB));
	EXPECT_EQ(IOERR, vt_io(self->q, IN, end, self->data, self->lbs));
	EXPECT_EQ(IOERR, vt_io(self->q, IN, end - unit, self->data, 2 * self->lbs));
	EXPECT_EQ(IOERR, pattern_write(self, end, self->lbs, SEED));
	EXPECT_EQ(IOERR, pattern_write(self, end - unit, 2 * self->lbs, SEED + 1));
	/* nothing has made it longer, nor changed what is left of it */
	ASSERT_EQ(0, fstat(self->host, &st));
	EXPECT_EQ((off_t)VT_MIB, st.st_size);
	EXPECT_EQ(0, pattern_read(self, 0, VT_MIB, SEED));
	ASSERT_EQ(0, ftruncate(self->host, IMAGE_BYTES));
	EXPECT_EQ(0, zeroes_read(self, end, VT_MIB));
	EXPECT_EQ(0, pattern_read(self, 0, VT_MIB, SEED));
}

/* A sector of which the file has only a part is none */
TEST_F(image, partial_sector)
{
	const uint32_t unit = self->lbs / VT_SECTOR;
	const uint64_t end = VT_MIB / VT_SECTOR;
	uint8_t tail[100];

	IMAGE_OR_SKIP();
	memset(tail, 0x77, sizeof(tail));
	ASSERT_EQ(0, ftruncate(self->host, VT_MIB));
	ASSERT_EQ((ssize_t)sizeof(tail), pwrite(self->host, tail, sizeof(tail), VT_MIB));
	EXPECT_EQ(IOERR, vt_io(self->q, IN, end, self->data, self->lbs));
	EXPECT_EQ(IOERR, pattern_write(self, end, self->lbs, SEED));
	EXPECT_EQ(IOERR, pattern_write(self, end - unit, 2 * self->lbs, SEED));
	ASSERT_EQ(OK, pattern_write(self, end - unit, self->lbs, SEED));
	EXPECT_EQ(0, pattern_read(self, end - unit, self->lbs, SEED));
	ASSERT_EQ((ssize_t)sizeof(tail), pread(self->host, self->seen, DATA_BYTES, VT_MIB));
	EXPECT_EQ(-1, vt_check_byte(self->seen, sizeof(tail), 0x77));
	ASSERT_EQ(0, ftruncate(self->host, IMAGE_BYTES));
}

TEST_F(image, empty)
{
	IMAGE_OR_SKIP();
	ASSERT_EQ(0, vt_detach(&self->dev));
	ASSERT_EQ(0, ftruncate(self->host, 0));
	ASSERT_EQ(0, vt_attach(&self->dev, self->fd));
	EXPECT_EQ(IOERR, vt_io(self->q, IN, 0, self->data, self->lbs));
	EXPECT_EQ(IOERR, vt_io(self->q, OUT, 0, self->data, self->lbs));
	EXPECT_EQ(OK, vt_io(self->q, FLUSH, 0, 0, 0));
	ASSERT_EQ(0, ftruncate(self->host, IMAGE_BYTES));
	EXPECT_EQ(0, vt_good(self->q));
}

/* E05: no room: an error for what needs some, nothing else; and all is well once there is */
TEST_F(image, no_space)
{
	const unsigned int nr = 16 * VT_MIB / 65536;
	const uint64_t from = 8 * VT_MIB / VT_SECTOR;
	int64_t end = vt_now_ms() + vt_timeout_ms();
	unsigned int i, failed = 0;
	int ballast, status = IOERR;

	IMAGE_OR_SKIP();
	ASSERT_EQ(OK, pattern_write(self, 0, VT_MIB, SEED));
	ASSERT_EQ(OK, vt_io(self->q, FLUSH, 0, 0, 0));
	ballast = vt_fs_fill(self->fs, "ballast");
	ASSERT_LE(0, ballast);
	self->was_full = true;
	/* A file system may still find a little somewhere. */
	for (i = 0; i < nr && failed < 3; i++) {
		status = pattern_write(self, from + i * 128, 65536, SEED);
		ASSERT_EQ(true, status == OK || status == IOERR);
		failed += status == IOERR;
	}
	EXPECT_EQ(3, failed);
	EXPECT_EQ(0, pattern_read(self, 0, VT_MIB, SEED));
	/* Only one that never overwrites in place needs room for this. */
	if (variant->fs != BTRFS) {
		EXPECT_EQ(OK, pattern_write(self, 0, VT_MIB, SEED + 1));
		EXPECT_EQ(OK, vt_io(self->q, FLUSH, 0, 0, 0));
		EXPECT_EQ(0, pattern_read(self, 0, VT_MIB, SEED + 1));
	}
	close(ballast);
	ASSERT_EQ(0, vt_image_remove(self->fs, "ballast"));
	/* Some free what was removed in the background. */
	do {
		syncfs(self->host);
		status = pattern_write(self, from, VT_MIB, SEED);
	} while (status == IOERR && vt_now_ms() < end);
	EXPECT_EQ(OK, status);
	EXPECT_EQ(OK, vt_io(self->q, FLUSH, 0, 0, 0));
	EXPECT_EQ(0, pattern_host(self, from, VT_MIB, SEED));
}

/* ---- ranges ---- */

static int range_run(image_data *self, uint32_t type, uint64_t sector, uint32_t nr,
		     uint32_t flags)
{
	vt_range_write(&self->dev.mem, self->meta, 0, sector, nr, flags);
	return vt_io(self->q, type, 0, self->meta, VT_RANGE_BYTES);
}

/* The 4 MiB that the range tests begin with, and what is left around a range of 1 MiB. */
static void ranges_begin(struct __test_metadata *_metadata, image_data *self)
{
	ASSERT_EQ(OK, pattern_write(self, 0, DATA_BYTES, SEED));
	ASSERT_EQ(0, pattern_host(self, 0, DATA_BYTES, SEED));
}

static void range_check(struct __test_metadata *_metadata, image_data *self, uint64_t sector,
			uint32_t nr)
{
	uint32_t rest = DATA_BYTES / VT_SECTOR - sector - nr;

	EXPECT_EQ(0, zeroes_read(self, sector, nr * VT_SECTOR));
	EXPECT_EQ(0, zeroes_host(self, sector, nr * VT_SECTOR));
	EXPECT_EQ(0, pattern_read(self, 0, sector * VT_SECTOR, SEED));
	EXPECT_EQ(0, pattern_read(self, sector + nr, rest * VT_SECTOR, SEED));
	EXPECT_EQ(0, pattern_host(self, 0, sector * VT_SECTOR, SEED));
	EXPECT_EQ(0, pattern_host(self, sector + nr, rest * VT_SECTOR, SEED));
}

#define RANGE		2048U	/* sectors */
#define RANGE_FREED	1500L	/* of them at least, in whole extents */

/* A07: what is discarded is free on the host, and only that */
TEST_F(image, discard)
{
	const uint32_t unit = self->lbs / VT_SECTOR;
	long before;

	IMAGE_OR_SKIP();
	ranges_begin(_metadata, self);
	before = vt_image_blocks(self->host);
	ASSERT_EQ(OK, range_run(self, DISCARD, 2048, RANGE, 0));
	EXPECT_LE(RANGE_FREED, before - vt_image_blocks(self->host));
	range_check(_metadata, self, 2048, RANGE);
	/* one block, less than what the file system allocates */
	ranges_begin(_metadata, self);
	ASSERT_EQ(OK, range_run(self, DISCARD, 3 * unit, unit, 0));
	range_check(_metadata, self, 3 * unit, unit);
	/* beyond the end, or no whole blocks */
	EXPECT_EQ(IOERR, range_run(self, DISCARD, IMAGE_BYTES / VT_SECTOR, unit, 0));
	if (self->lbs > VT_SECTOR)
		EXPECT_EQ(IOERR, range_run(self, DISCARD, 1, unit, 0));
	EXPECT_EQ(UNSUPP, range_run(self, VIRTIO_BLK_T_SECURE_ERASE, 0, unit, 0));
	range_check(_metadata, self, 3 * unit, unit);
}

/* A10 */
TEST_F(image, discard_many)
{
	const uint32_t unit = self->lbs / VT_SECTOR;

	IMAGE_OR_SKIP();
	ranges_begin(_metadata, self);
	for (unsigned int i = 0; i < VT_RANGES_MAX; i++)
		vt_range_write(&self->dev.mem, self->meta, i, 2 * i * unit, unit, 0);
	ASSERT_EQ(OK, vt_io(self->q, DISCARD, 0, self->meta, VT_RANGES_MAX * VT_RANGE_BYTES));
	for (unsigned int i = 0; i < VT_RANGES_MAX; i++) {
		ASSERT_EQ(0, zeroes_host(self, 2 * i * unit, self->lbs));
		ASSERT_EQ(0, pattern_read(self, (2 * i + 1) * unit, self->lbs, SEED));
	}
}

/* A08: with and without leave to unmap */
TEST_F(image, write_zeroes)
{
	const uint32_t unit = self->lbs / VT_SECTOR;
	long before;

	IMAGE_OR_SKIP();
	ranges_begin(_metadata, self);
	before = vt_image_blocks(self->host);
	ASSERT_EQ(OK, range_run(self, ZEROES, 2048, RANGE, 0));
	EXPECT_LE(before, vt_image_blocks(self->host));
	range_check(_metadata, self, 2048, RANGE);
	ASSERT_EQ(OK, range_run(self, ZEROES, 2048, RANGE, UNMAP));
	EXPECT_LE(RANGE_FREED, before - vt_image_blocks(self->host));
	range_check(_metadata, self, 2048, RANGE);
	ranges_begin(_metadata, self);
	ASSERT_EQ(OK, range_run(self, ZEROES, 5 * unit, unit, 0));
	range_check(_metadata, self, 5 * unit, unit);
	/* a hole: it is not to be one any more */
	before = vt_image_blocks(self->host);
	ASSERT_EQ(OK, range_run(self, ZEROES, 16 * 2048, RANGE, 0));
	EXPECT_LE(RANGE_FREED, vt_image_blocks(self->host) - before);
	EXPECT_EQ(0, zeroes_read(self, 16 * 2048, VT_MIB));
	EXPECT_EQ(IOERR, range_run(self, ZEROES, IMAGE_BYTES / VT_SECTOR, unit, 0));
}

/* Everything has to stay allocated: a discard does nothing, zeroes are written */
TEST_F(image, no_unmap)
{
	struct vhost_blk_backend b = { .fd = self->fd, .flags = VHOST_BLK_BACKEND_NO_UNMAP };
	long before;

	IMAGE_OR_SKIP();
	ASSERT_EQ(0, vt_detach(&self->dev));
	ASSERT_EQ(0, vt_ioctl(self->dev.fd, VHOST_BLK_SET_BACKEND, &b, sizeof(b)));
	ranges_begin(_metadata, self);
	before = vt_image_blocks(self->host);
	ASSERT_EQ(OK, range_run(self, DISCARD, 2048, RANGE, 0));
	EXPECT_EQ(0, pattern_read(self, 0, DATA_BYTES, SEED));
	EXPECT_EQ(IOERR, range_run(self, DISCARD, IMAGE_BYTES / VT_SECTOR, 8, 0));
	ASSERT_EQ(OK, range_run(self, ZEROES, 2048, RANGE, UNMAP));
	EXPECT_LE(before, vt_image_blocks(self->host));
	range_check(_metadata, self, 2048, RANGE);
	/* it is a matter of the backend, not of the device */
	ASSERT_EQ(0, vt_detach(&self->dev));
	ASSERT_EQ(0, vt_attach(&self->dev, self->fd));
	ASSERT_EQ(OK, range_run(self, DISCARD, 2048, RANGE, 0));
	EXPECT_LE(RANGE_FREED, before - vt_image_blocks(self->host));
}

/* ---- which files, and as what ---- */

/* C11 */
TEST_F(image, read_only)
{
	struct vhost_blk_query query;
	int fd;

	IMAGE_OR_SKIP();
	ASSERT_EQ(OK, pattern_write(self, 0, VT_MIB, SEED));
	ASSERT_EQ(OK, vt_io(self->q, FLUSH, 0, 0, 0));
	ASSERT_EQ(0, vt_detach(&self->dev));
	fd = vt_image_open(self->fs, "image", O_RDONLY | (variant->direct ? O_DIRECT : 0));
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, vt_query(self->dev.fd, fd, &query));
	EXPECT_EQ(VT_F(VIRTIO_BLK_F_RO),
		  query.features & (VT_F(VIRTIO_BLK_F_RO) | VT_F(VIRTIO_BLK_F_DISCARD)));
	ASSERT_EQ(0, vt_attach(&self->dev, fd));
	close(fd);
	EXPECT_EQ(IOERR, pattern_write(self, 0, self->lbs, SEED + 1));
	EXPECT_EQ(IOERR, range_run(self, DISCARD, 0, 2048, 0));
	EXPECT_EQ(IOERR, range_run(self, ZEROES, 0, 2048, 0));
	EXPECT_EQ(OK, vt_io(self->q, FLUSH, 0, 0, 0));
	EXPECT_EQ(0, pattern_read(self, 0, VT_MIB, SEED));
	ASSERT_EQ(0, vt_detach(&self->dev));
	ASSERT_EQ(0, vt_attach(&self->dev, self->fd));
}

/* F07 */
TEST_F(image, open_modes)
{
	static const struct {
		int flags, error;
	} modes[] = {
		{ O_WRONLY, -EINVAL }, { O_RDWR | O_APPEND, -EINVAL },
		{ O_RDONLY | O_APPEND, -EINVAL }, { O_PATH, -EBADF },
		{ O_RDWR | O_SYNC, 0 }, { O_RDWR | O_NONBLOCK, 0 },
	};
	struct vhost_blk_query query;

	IMAGE_OR_SKIP();
	ASSERT_EQ(0, vt_detach(&self->dev));
	for (unsigned int i = 0; i < ARRAY_SIZE(modes); i++) {
		int fd = vt_image_open(self->fs, "image", modes[i].flags);

		ASSERT_LE(0, fd);
		EXPECT_EQ(modes[i].error, vt_query(self->dev.fd, fd, &query));
		EXPECT_EQ(modes[i].error, vt_attach(&self->dev, fd)) TH_LOG("mode %u", i);
		close(fd);
		if (!modes[i].error) {
			EXPECT_EQ(0, vt_good(self->q));
			EXPECT_EQ(0, vt_detach(&self->dev));
		}
	}
	ASSERT_EQ(0, vt_attach(&self->dev, self->fd));
}

/* What the file is offered as */
TEST_F(image, query)
{
	const uint64_t differs = VT_F(VIRTIO_BLK_F_RO) | VT_F(VIRTIO_BLK_F_SECURE_ERASE);
	struct virtio_blk_config *config;
	struct vhost_blk_query query;
	uint64_t features = 0;

	IMAGE_OR_SKIP();
	ASSERT_EQ(0, ftruncate(self->host, IMAGE_BYTES + 700));
	ASSERT_EQ(0, vt_query(self->dev.fd, self->fd, &query));
	ASSERT_EQ(0, vt_ioctl(self->dev.fd, VHOST_GET_FEATURES, &features, 8));
	EXPECT_EQ(features & ~differs, query.features);
	config = (struct virtio_blk_config *)query.config;
	EXPECT_EQ(IMAGE_BYTES / VT_SECTOR + 1, config->capacity);
	EXPECT_EQ(self->lbs, config->blk_size);
	/* the file system's blocks */
	EXPECT_EQ(4096, config->blk_size << config->physical_block_exp);
	EXPECT_EQ(0, config->alignment_offset);
	EXPECT_EQ(1, config->wce);
	EXPECT_EQ(VT_NR_QUEUES, config->num_queues);
	EXPECT_EQ(VT_RANGES_MAX, config->max_discard_seg);
	EXPECT_EQ(4096 / VT_SECTOR, config->discard_sector_alignment);
	EXPECT_LT(VT_MIB, config->max_discard_sectors);
	EXPECT_EQ(0, config->max_discard_sectors % (self->lbs / VT_SECTOR));
	EXPECT_EQ(VT_RANGES_MAX, config->max_write_zeroes_seg);
	EXPECT_LT(VT_MIB, config->max_write_zeroes_sectors);
	EXPECT_EQ(1, config->write_zeroes_may_unmap);
	EXPECT_EQ(0, config->max_secure_erase_seg);
	ASSERT_EQ(0, ftruncate(self->host, IMAGE_BYTES));
}

/* Images and disks take turns; none gets what is meant for another */
TEST_F(image, swapped)
{
	struct vt_bdev disk;
	int other;

	IMAGE_OR_SKIP();
	other = vt_image_create(self->fs, "other", variant->direct ? O_DIRECT : 0, IMAGE_BYTES);
	ASSERT_LE(0, other);
	ASSERT_EQ(0, vt_null_create(&disk, "vbtswap", &(struct vt_null_opts) { .mib = 16 }));
	for (unsigned int i = 0; i < 3; i++) {
		ASSERT_EQ(OK, pattern_write(self, 0, 65536, SEED + i));
		ASSERT_EQ(0, vt_detach(&self->dev));
		ASSERT_EQ(0, vt_attach(&self->dev, other));
		ASSERT_EQ(OK, pattern_write(self, 0, 65536, 2 * SEED + i));
		EXPECT_EQ(-EBUSY, vt_attach(&self->dev, self->fd));
		ASSERT_EQ(0, vt_detach(&self->dev));
		ASSERT_EQ(0, vt_attach(&self->dev, disk.fd));
		ASSERT_EQ(OK, pattern_write(self, 0, 65536, 3 * SEED + i));
		EXPECT_EQ(0, vt_good(&self->dev.q[1]));
		ASSERT_EQ(0, vt_detach(&self->dev));
		ASSERT_EQ(0, vt_attach(&self->dev, self->fd));
		EXPECT_EQ(0, pattern_read(self, 0, 65536, SEED + i));
	}
	EXPECT_EQ(0, vt_exclusive(&disk));
	vt_bdev_destroy(&disk);
	close(other);
	vt_image_remove(self->fs, "other");
}

/* ---- files that no file system of ours has ---- */

FIXTURE(odd) {
	struct vt_dev dev;
	uint64_t data;
};

FIXTURE_SETUP(odd)
{
	ASSERT_EQ(0, vt_dev_init(&self->dev, &(struct vt_opts) { .features = FEATURES }));
	self->data = vt_alloc(&self->dev.mem, 65536);
}

FIXTURE_TEARDOWN(odd)
{
	vt_dev_fini(&self->dev);
}

/* F04: neither a file nor a block device, or a file that is none */
TEST_F(odd, refused)
{
	struct vhost_blk_query query;
	struct {
		int fd, error;
	} bad[] = {
		{ open("/", O_RDONLY | O_DIRECTORY), -ENOTBLK },
		{ open("/dev/zero", O_RDWR), -ENOTBLK },
		{ open("/proc/version", O_RDONLY), -EINVAL },
		{ eventfd(0, 0), -ENOTBLK },
		{ -1, -ENOTBLK }, { -1, -ENOTBLK },
	};
	int fifo[2];

	ASSERT_EQ(0, pipe(fifo));
	bad[4].fd = fifo[0];
	bad[5].fd = fifo[1];
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		ASSERT_LE(0, bad[i].fd) TH_LOG("file %u", i);
		EXPECT_EQ(bad[i].error, vt_attach(&self->dev, bad[i].fd)) TH_LOG("file %u", i);
		EXPECT_EQ(bad[i].error, vt_query(self->dev.fd, bad[i].fd, &query));
		close(bad[i].fd);
	}
}

/* A file that has become unwritable under its open fd: errors, and no more than that */
TEST_F(odd, sealed)
{
	int fd = memfd_create("image", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct vt_queue *q = &self->dev.q[0];

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, VT_MIB));
	ASSERT_EQ(0, vt_attach(&self->dev, fd));
	EXPECT_EQ(0, vt_good(q));
	ASSERT_EQ(0, fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW));
	EXPECT_EQ(IOERR, vt_io(q, OUT, 8, self->data, 4096));
	vt_range_write(&self->dev.mem, self->data, 0, 8, 8, 0);
	EXPECT_EQ(IOERR, vt_io(q, DISCARD, 0, self->data, VT_RANGE_BYTES));
	EXPECT_EQ(IOERR, vt_io(q, ZEROES, 0, self->data, VT_RANGE_BYTES));
	EXPECT_EQ(OK, vt_io(q, IN, 8, self->data, 4096));
	EXPECT_LE(0, vt_check_byte(vt_ptr(&self->dev.mem, self->data), 4096, 0));
	EXPECT_EQ(OK, vt_io(q, FLUSH, 0, 0, 0));
	EXPECT_EQ(0, vt_queue_idle(q));
	EXPECT_EQ(0, vt_detach(&self->dev));
	close(fd);
}

/* ---- */

/* null_blk with blocks of 4096 bytes takes no payload that lies across pages. */
static int disk_create(struct vt_bdev *disk, unsigned int i)
{
	disk->fd = -1;
	if (fs_kind[i].lbs == 4096)
		return vt_loop_create(disk, FS_MIB * VT_MIB, 4096);
	if (!fs_kind[i].disk)
		return 0;
	return vt_null_create(disk, fs_kind[i].disk, &(struct vt_null_opts) {
		.mib = FS_MIB, .discard = true,
	});
}

static void fs_all_create(void)
{
	for (unsigned int i = 0; i < NR_FS; i++) {
		struct fs_made *made = &fs_made[i];

		made->error = disk_create(&made->disk, i) ?:
			      vt_fs_create(&made->fs, fs_kind[i].type, &made->disk);
	}
}

/* The harness exits by itself; the runner reports a status that does not fit. */
static void fs_all_destroy(void)
{
	int r = 0;

	for (unsigned int i = 0; i < NR_FS; i++) {
		r = vt_fs_destroy(&fs_made[i].fs) ?: r;
		vt_bdev_destroy(&fs_made[i].disk);
	}
	if (r) {
		ksft_print_msg("a file system is still in use: %s\n", strerror(-r));
		fflush(stdout);
		_exit(KSFT_FAIL);
	}
}

int main(int argc, char **argv)
{
	if (access(VT_DEV, R_OK | W_OK)) {
		ksft_print_header();
		ksft_exit_fail_msg("%s: %s; load vhost_blk.ko and be root\n",
				   VT_DEV, strerror(errno));
	}
	fs_all_create();
	atexit(fs_all_destroy);
	return test_harness_run(argc, argv);
}
