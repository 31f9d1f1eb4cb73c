// SPDX-License-Identifier: GPL-2.0-only
/*
 * What VHOST_BLK_QUERY_BACKEND says about a disk is what the host's sysfs says, for
 * disks of many geometries, and it holds when a guest relies on it.
 */
#include <limits.h>

#include "vt_test.h"

/* What a disk may lack, and what only a read-only one has. */
#define DEPENDS	(VT_F(VIRTIO_BLK_F_RO) | VT_F(VIRTIO_BLK_F_DISCARD) | \
		 VT_F(VIRTIO_BLK_F_SECURE_ERASE))

FIXTURE(query) {
	struct vt_dev dev;
	struct vt_stack stack;
	struct vt_bdev own;	/* not made by vt_stack_create */
	struct vt_bdev *disk;
};

#define query_data FIXTURE_DATA(query)

FIXTURE_VARIANT(query) {
	const char *stack;	/* for vt_stack_create, or else */
	const char *scsi;	/* scsi_debug with these parameters, or else */
	struct vt_null_opts null;
};

#define NULL_DISK(name, ...) \
	FIXTURE_VARIANT_ADD(query, name) { .null = { .mib = 16, __VA_ARGS__ } }
#define STACK(name) FIXTURE_VARIANT_ADD(query, name) { .stack = #name }
#define SCSI(name, args) \
	FIXTURE_VARIANT_ADD(query, name) { .scsi = "delay=0 dev_size_mb=8 " args }

NULL_DISK(null_512, .lbs = 512);
NULL_DISK(null_1k_cache, .lbs = 1024, .cache_mib = 1);
NULL_DISK(null_2k_discard, .lbs = 2048, .discard = true);
NULL_DISK(null_4k, .lbs = 4096, .cache_mib = 1, .discard = true);
SCSI(scsi, "");
SCSI(scsi_no_cache, "opts=0x1000");
SCSI(scsi_4k, "sector_size=4096 physblk_exp=1");
SCSI(scsi_512e, "physblk_exp=3 lowest_aligned=7");
SCSI(scsi_io_sizes, "physblk_exp=3 opt_xferlen_exp=7 opt_blks=2048");
SCSI(scsi_unmap, "lbpu=1 unmap_granularity=16 unmap_alignment=4 unmap_max_blocks=1024");
SCSI(scsi_unmap_4k, "lbpu=1 sector_size=4096 unmap_granularity=8");
SCSI(scsi_write_same, "lbpws=1 write_same_length=512");
SCSI(scsi_4t, "virtual_gb=4096");
STACK(loop);
STACK(loop_4k);
STACK(brd);
STACK(dm_linear);
STACK(dm_crypt);
STACK(dm_thin);
STACK(md_raid1);
STACK(nvme_tcp);
STACK(nvme_loop);
STACK(lio_ram);
STACK(lio_file);
STACK(nbd);

FIXTURE_SETUP(query)
{
	self->own.fd = -1;
	self->stack.disk.fd = -1;
	self->disk = variant->stack ? &self->stack.disk : &self->own;
	ASSERT_EQ(0, vt_dev_init(&self->dev, &(struct vt_opts) {}));
}

FIXTURE_TEARDOWN(query)
{
	vt_dev_fini(&self->dev);
	vt_bdev_destroy(&self->own);
	vt_stack_destroy(&self->stack);
}

/* ---- what sysfs says ---- */

static long sysfs(const struct vt_bdev *disk, const char *attr)
{
	char path[128];
	long value = -1;

	snprintf(path, sizeof(path), "/sys/class/block/%s/%s", disk->name, attr);
	return vt_read_long(path, &value) ? LONG_MIN : value;
}

/* A partition has its disk's queue. */
static long sysfs_queue(const struct vt_bdev *disk, const char *attr)
{
	char path[64];

	snprintf(path, sizeof(path), "%s/%s",
		 sysfs(disk, "partition") > 0 ? "../queue" : "queue", attr);
	return sysfs(disk, path);
}

static bool sysfs_write_back(const struct vt_bdev *disk)
{
	char path[128], text[32] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/sys/class/block/%s/%s/write_cache", disk->name,
		 sysfs(disk, "partition") > 0 ? "../queue" : "queue");
	f = fopen(path, "re");
	if (!f || !fgets(text, sizeof(text), f))
		text[0] = 0;
	if (f)
		fclose(f);
	return !strcmp(text, "write back\n");
}

/* ---- what the module says ---- */

static void geometry_compare(struct __test_metadata *_metadata, const struct vt_bdev *disk,
			     const struct virtio_blk_config *c)
{
	long lbs = sysfs_queue(disk, "logical_block_size");
	long alignment = sysfs(disk, "alignment_offset");
	long io_min = sysfs_queue(disk, "minimum_io_size") / lbs;

	EXPECT_EQ(sysfs(disk, "size"), (long)c->capacity);
	EXPECT_EQ(lbs, c->blk_size);
	EXPECT_EQ(sysfs_queue(disk, "physical_block_size"), lbs << c->physical_block_exp);
	/* In blocks; -1: parts of the disk are aligned in different ways. */
	EXPECT_EQ(alignment < 0 ? 0 : alignment / lbs, c->alignment_offset);
	EXPECT_EQ(io_min > UINT16_MAX ? UINT16_MAX : io_min, c->min_io_size);
	EXPECT_EQ(sysfs_queue(disk, "optimal_io_size") / lbs, c->opt_io_size);
	EXPECT_EQ(0, c->geometry.cylinders);
	EXPECT_EQ(0, c->geometry.heads);
	EXPECT_EQ(0, c->geometry.sectors);
}

/*
 * What a range may have if the queue takes @bytes at once: whole blocks, since a
 * guest cuts long ranges there, and less than 2 GiB.
 */
static uint32_t range_max(const struct virtio_blk_config *c, long bytes)
{
	long sectors = (bytes > INT32_MAX ? INT32_MAX : bytes) / VT_SECTOR;

	return sectors - sectors % (c->blk_size / VT_SECTOR);
}

static void ranges_compare(struct __test_metadata *_metadata, const struct vt_bdev *disk,
			   uint64_t features, const struct virtio_blk_config *c)
{
	long discard = sysfs_queue(disk, "discard_max_bytes");
	long zeroes = sysfs_queue(disk, "write_zeroes_max_bytes");
	long granularity = sysfs_queue(disk, "discard_granularity");
	bool writable = !(features & VT_F(VIRTIO_BLK_F_RO));

	EXPECT_EQ(writable && discard, !!(features & VT_F(VIRTIO_BLK_F_DISCARD)));
	if (features & VT_F(VIRTIO_BLK_F_DISCARD)) {
		EXPECT_EQ(range_max(c, discard), c->max_discard_sectors);
		EXPECT_EQ(VT_RANGES_MAX, c->max_discard_seg);
		/* What Linux takes for the granularity, and QEMU gives as it. */
		EXPECT_EQ(granularity ?: VT_SECTOR,
			  (long)c->discard_sector_alignment * VT_SECTOR);
	} else {
		EXPECT_EQ(0, c->max_discard_sectors);
		EXPECT_EQ(0, c->max_discard_seg);
		EXPECT_EQ(0, c->discard_sector_alignment);
	}
	/* None of the disks here can do this. */
	EXPECT_EQ(0, features & VT_F(VIRTIO_BLK_F_SECURE_ERASE));
	EXPECT_EQ(0, c->max_secure_erase_sectors);
	EXPECT_EQ(0, c->max_secure_erase_seg);
	EXPECT_EQ(0, c->secure_erase_sector_alignment);
	/* Zeroes are written with or without help from the disk. */
	EXPECT_LT(0, c->max_write_zeroes_sectors);
	if (zeroes)
		EXPECT_EQ(range_max(c, zeroes), c->max_write_zeroes_sectors);
	EXPECT_EQ(0, c->max_write_zeroes_sectors % (c->blk_size / VT_SECTOR));
	EXPECT_EQ(VT_RANGES_MAX, c->max_write_zeroes_seg);
	EXPECT_EQ(!!zeroes, c->write_zeroes_may_unmap);
}

static void compare(struct __test_metadata *_metadata, struct vt_dev *dev,
		    const struct vt_bdev *disk, int fd, bool read_only)
{
	struct vhost_blk_query query;
	struct virtio_blk_config *c = (struct virtio_blk_config *)query.config;
	uint64_t offered;

	memset(&query, 0xff, sizeof(query));
	query.fd = fd;
	query.flags = 0;
	ASSERT_EQ(0, vt_ioctl(dev->fd, VHOST_BLK_QUERY_BACKEND, &query, sizeof(query)));
	ASSERT_EQ(0, vt_ioctl(dev->fd, VHOST_GET_FEATURES, &offered, sizeof(offered)));
	EXPECT_EQ(read_only, !!(query.features & VT_F(VIRTIO_BLK_F_RO)));
	EXPECT_EQ(offered & ~DEPENDS, query.features & ~DEPENDS);
	geometry_compare(_metadata, disk, c);
	ranges_compare(_metadata, disk, query.features, c);
	EXPECT_EQ(VT_SEG_MAX, c->seg_max);
	/* Whole pages, so that nobody is tempted to cut blocks. */
	EXPECT_LE(65536, c->size_max);
	EXPECT_EQ(0, c->size_max % 4096);
	EXPECT_EQ(VT_NR_QUEUES, c->num_queues);
	EXPECT_EQ(sysfs_write_back(disk), c->wce);
	EXPECT_EQ(0, c->unused);
	EXPECT_EQ(-1, vt_check_byte(c->unused1, sizeof(c->unused1), 0));
	EXPECT_EQ(-1, vt_check_byte((void *)(c + 1), sizeof(query.config) - sizeof(*c), 0));
}

/* ---- what a guest may rely on ---- */

/* The last block is the last one; the host finds it at the same place. */
static void edges(struct __test_metadata *_metadata, struct vt_queue *q,
		  const struct vt_bdev *disk)
{
	uint64_t capacity = disk->bytes / VT_SECTOR, last = capacity - disk->lbs / VT_SECTOR;
	uint64_t gpa = vt_alloc(&q->dev->mem, 16384);
	uint8_t *p = vt_ptr(&q->dev->mem, gpa);
	uint32_t lbs = disk->lbs;
	char block[4096];

	vt_fill(p, lbs, 42, last);
	EXPECT_EQ(VIRTIO_BLK_S_OK, vt_io(q, VIRTIO_BLK_T_OUT, last, gpa, lbs));
	memset(p, 0, lbs);
	EXPECT_EQ(VIRTIO_BLK_S_OK, vt_io(q, VIRTIO_BLK_T_IN, last, gpa, lbs));
	EXPECT_GT(0, vt_check(p, lbs, 42, last));
	EXPECT_EQ(VIRTIO_BLK_S_IOERR, vt_io(q, VIRTIO_BLK_T_IN, capacity, gpa, lbs));
	EXPECT_EQ(VIRTIO_BLK_S_IOERR, vt_io(q, VIRTIO_BLK_T_OUT, capacity, gpa, lbs));
	EXPECT_EQ(VIRTIO_BLK_S_IOERR, vt_io(q, VIRTIO_BLK_T_IN, last, gpa, 2 * lbs));
	EXPECT_EQ(VIRTIO_BLK_S_IOERR, vt_io(q, VIRTIO_BLK_T_OUT, last, gpa, 2 * lbs));
	if (lbs > VT_SECTOR) {
		EXPECT_EQ(VIRTIO_BLK_S_IOERR,
			  vt_io(q, VIRTIO_BLK_T_IN, last + 1, gpa, VT_SECTOR));
		EXPECT_EQ(VIRTIO_BLK_S_IOERR,
			  vt_io(q, VIRTIO_BLK_T_OUT, last, gpa, lbs - VT_SECTOR));
	}
	EXPECT_EQ(0, vt_good(q));
	ASSERT_EQ(0, vt_detach(q->dev));
	ASSERT_EQ(lbs, (uint32_t)pread(disk->fd, block, lbs, disk->bytes - lbs));
	EXPECT_GT(0, vt_check(block, lbs, 42, last));
}

/* One that the host made read-only takes nothing, and says so before. */
static void read_only(struct __test_metadata *_metadata, struct vt_queue *q,
		      const struct vt_bdev *disk)
{
	uint64_t gpa = vt_alloc(&q->dev->mem, 4096);
	uint8_t *p = vt_ptr(&q->dev->mem, gpa);
	int on = 1, off = 0;

	ASSERT_EQ(0, vt_attach(q->dev, disk->fd));
	vt_fill(p, disk->lbs, 42, 0);
	EXPECT_EQ(VIRTIO_BLK_S_OK, vt_io(q, VIRTIO_BLK_T_OUT, 0, gpa, disk->lbs));
	EXPECT_EQ(0, vt_detach(q->dev));
	ASSERT_EQ(0, ioctl(disk->fd, BLKROSET, &on));
	EXPECT_EQ(1, sysfs(disk, "ro"));
	compare(_metadata, q->dev, disk, disk->fd, true);
	ASSERT_EQ(0, vt_attach(q->dev, disk->fd));
	vt_fill(p, disk->lbs, 43, 0);
	EXPECT_EQ(VIRTIO_BLK_S_IOERR, vt_io(q, VIRTIO_BLK_T_OUT, 0, gpa, disk->lbs));
	EXPECT_EQ(VIRTIO_BLK_S_OK, vt_io(q, VIRTIO_BLK_T_IN, 0, gpa, disk->lbs));
	EXPECT_GT(0, vt_check(p, disk->lbs, 42, 0));
	EXPECT_EQ(0, vt_detach(q->dev));
	ASSERT_EQ(0, ioctl(disk->fd, BLKROSET, &off));
	compare(_metadata, q->dev, disk, disk->fd, false);
}

static void disk_check(struct __test_metadata *_metadata, query_data *self)
{
	struct vt_queue *q = &self->dev.q[0];
	int fd;

	compare(_metadata, &self->dev, self->disk, self->disk->fd, false);
	fd = open(self->disk->path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	compare(_metadata, &self->dev, self->disk, fd, true);
	close(fd);
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk->fd));
	compare(_metadata, &self->dev, self->disk, self->disk->fd, false);
	edges(_metadata, q, self->disk);
	read_only(_metadata, q, self->disk);
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk->fd));
	EXPECT_EQ(0, vt_good(q));
	EXPECT_EQ(0, vt_detach(&self->dev));
	EXPECT_EQ(0, vt_exclusive(self->disk));
}

/* F07, A04, A16 */
TEST_F(query, as_sysfs)
{
	int r;

	if (variant->stack) {
		VT_STACK_OR_SKIP(&self->stack, variant->stack);
	} else if (variant->scsi) {
		r = vt_scsi_debug_create_args(&self->own, variant->scsi);
		if (r == -ENODEV)
			SKIP(return, "this kernel has no scsi_debug");
		ASSERT_EQ(0, r);
	} else {
		ASSERT_EQ(0, vt_null_create(&self->own, "vbtquery", &variant->null));
	}
	disk_check(_metadata, self);
}

/* ---- a partition that starts in the middle of a physical block ---- */

#define MBR_TABLE	446
#define PART_START	63
#define PART_SECTORS	4001

FIXTURE(partition) {
	struct vt_dev dev;
	struct vt_bdev whole, part;
};

FIXTURE_SETUP(partition)
{
	self->whole.fd = -1;
	self->part.fd = -1;
	ASSERT_EQ(0, vt_dev_init(&self->dev, &(struct vt_opts) {}));
}

FIXTURE_TEARDOWN(partition)
{
	vt_dev_fini(&self->dev);
	vt_bdev_destroy(&self->part);
	vt_bdev_destroy(&self->whole);
}

static int partition_write(int fd)
{
	uint8_t mbr[512] = { [MBR_TABLE + 4] = 0x83, [510] = 0x55, [511] = 0xaa };
	uint32_t where[2] = { htole32(PART_START), htole32(PART_SECTORS) };

	memcpy(mbr + MBR_TABLE + 8, where, sizeof(where));
	if (pwrite(fd, mbr, sizeof(mbr), 0) != sizeof(mbr) || fsync(fd))
		return -errno;
	return ioctl(fd, BLKRRPART) ? -errno : 0;
}

TEST_F(partition, as_sysfs)
{
	char name[40], before[512], after[512];
	struct vt_bdev *part = &self->part;
	int r;

	r = vt_scsi_debug_create_args(&self->whole, "delay=0 dev_size_mb=8 physblk_exp=3 lbpu=1");
	if (r == -ENODEV)
		SKIP(return, "this kernel has no scsi_debug");
	ASSERT_EQ(0, r);
	ASSERT_EQ(0, partition_write(self->whole.fd));
	snprintf(name, sizeof(name), "%s1", self->whole.name);
	ASSERT_EQ(0, vt_bdev_open(part, name));
	ASSERT_EQ(PART_SECTORS, part->bytes / VT_SECTOR);
	EXPECT_EQ(512, sysfs(part, "alignment_offset"));
	compare(_metadata, &self->dev, part, part->fd, false);

	/* Its end is not the disk's, and nobody gets past it. */
	ASSERT_EQ(512, pread(self->whole.fd, before, 512, (PART_START + PART_SECTORS) * 512));
	ASSERT_EQ(0, vt_attach(&self->dev, part->fd));
	edges(_metadata, &self->dev.q[0], part);
	ASSERT_EQ(0, ioctl(self->whole.fd, BLKFLSBUF));
	ASSERT_EQ(512, pread(self->whole.fd, after, 512, (PART_START + PART_SECTORS) * 512));
	EXPECT_EQ(0, memcmp(before, after, 512));
	read_only(_metadata, &self->dev.q[0], part);
	EXPECT_EQ(0, vt_exclusive(part));
}

VT_TEST_MAIN
