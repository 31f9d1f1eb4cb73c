// SPDX-License-Identifier: GPL-2.0-only
/*
 * vt_disk: disks in memory with properties that no other disk of a test host
 * has. All I/O is done in the context of whoever submits it.
 *
 *   /dev/vtdsecure      erases securely, little at once: the erased bytes hold
 *                       VTD_ERASED; discarded ones hold zeroes
 *   /dev/vtdonesegment  has blocks of 4096 bytes and takes one segment at a time
 *
 * The parameters erase_bios and erased_sectors count what was erased. The tests
 * (lib/testdisk.c and its users) know the numbers below.
 */
#include <linux/blkdev.h>
#include <linux/highmem.h>
#include <linux/module.h>
#include <linux/spinlock.h>
#include <linux/vmalloc.h>

#define VTD_BYTES		SZ_4M
#define VTD_ERASED		0xe5

/* Not a multiple of the other: who erases much has to think of both. */
#define VTD_ERASE_SECTORS_MAX	100
#define VTD_GRANULARITY_BYTES	SZ_8K

struct vtd {
	const char *name;
	unsigned int lbs_bytes;
	unsigned short max_segments;
	bool has_erase;
	bool does_split;
	struct gendisk *disk;
	u8 *data;
};

static struct vtd vtd_disks[] = {
	{ .name = "vtdsecure", .lbs_bytes = 512, .max_segments = 128, .has_erase = true },
	{ .name = "vtdonesegment", .lbs_bytes = 4096, .max_segments = 1, .does_split = true },
};

static DEFINE_SPINLOCK(vtd_count_lock);
static unsigned long vtd_erase_bios;
static unsigned long vtd_erased_sectors;
module_param_named(erase_bios, vtd_erase_bios, ulong, 0444);
MODULE_PARM_DESC(erase_bios, "secure erases so far");
module_param_named(erased_sectors, vtd_erased_sectors, ulong, 0444);
MODULE_PARM_DESC(erased_sectors, "512-byte sectors that they erased");

static blk_status_t vtd_erase(u8 *at, unsigned int nr_sectors)
{
	/* The block layer leaves this limit to the submitter. */
	if (nr_sectors > VTD_ERASE_SECTORS_MAX)
		return BLK_STS_IOERR;
	memset(at, VTD_ERASED, nr_sectors << SECTOR_SHIFT);
	spin_lock(&vtd_count_lock);
	vtd_erase_bios++;
	vtd_erased_sectors += nr_sectors;
	spin_unlock(&vtd_count_lock);
	return BLK_STS_OK;
}

static void vtd_copy(u8 *at, struct bio *bio)
{
	bool is_write = op_is_write(bio_op(bio));
	struct bvec_iter iter;
	struct bio_vec bv;

	bio_for_each_segment(bv, bio, iter) {
		if (is_write)
			memcpy_from_bvec(at, &bv);
		else
			memcpy_to_bvec(&bv, at);
		at += bv.bv_len;
	}
}

static blk_status_t vtd_execute(struct vtd *vtd, struct bio *bio)
{
	u8 *at = vtd->data + (bio->bi_iter.bi_sector << SECTOR_SHIFT);

	/* Half a block is what a wrong split leaves. */
	if (!IS_ALIGNED((at - vtd->data) | bio->bi_iter.bi_size, vtd->lbs_bytes))
		return BLK_STS_IOERR;
	switch (bio_op(bio)) {
	case REQ_OP_READ:
	case REQ_OP_WRITE:
		vtd_copy(at, bio);
		return BLK_STS_OK;
	case REQ_OP_DISCARD:
		memset(at, 0, bio->bi_iter.bi_size);
		return BLK_STS_OK;
	case REQ_OP_SECURE_ERASE:
		return vtd_erase(at, bio_sectors(bio));
	default:
		return BLK_STS_NOTSUPP;
	}
}

static void vtd_submit_bio(struct bio *bio)
{
	struct vtd *vtd = bio->bi_bdev->bd_disk->private_data;

	if (vtd->does_split)
		bio = bio_split_to_limits(bio);
	if (!bio)	/* has ended with an error */
		return;
	bio->bi_status = vtd_execute(vtd, bio);
	bio_endio(bio);
}

static const struct block_device_operations vtd_ops = {
	.owner		= THIS_MODULE,
	.submit_bio	= vtd_submit_bio,
};

#ifdef HAVE_ALLOC_WITH_LIMITS
static struct gendisk *vtd_disk_alloc(const struct vtd *vtd)
{
	struct queue_limits limits = {
		.logical_block_size	= vtd->lbs_bytes,
		.max_segments		= vtd->max_segments,
	};

	if (vtd->has_erase) {
		limits.max_hw_discard_sectors = VTD_BYTES >> SECTOR_SHIFT;
		limits.max_secure_erase_sectors = VTD_ERASE_SECTORS_MAX;
		limits.discard_granularity = VTD_GRANULARITY_BYTES;
	}
	return blk_alloc_disk(&limits, NUMA_NO_NODE);
}
#else
static struct gendisk *vtd_disk_alloc(const struct vtd *vtd)
{
	struct gendisk *disk = blk_alloc_disk(NUMA_NO_NODE);

	if (!disk)
		return ERR_PTR(-ENOMEM);
	blk_queue_logical_block_size(disk->queue, vtd->lbs_bytes);
	blk_queue_max_segments(disk->queue, vtd->max_segments);
	if (vtd->has_erase) {
		blk_queue_max_discard_sectors(disk->queue, VTD_BYTES >> SECTOR_SHIFT);
		blk_queue_max_secure_erase_sectors(disk->queue, VTD_ERASE_SECTORS_MAX);
		disk->queue->limits.discard_granularity = VTD_GRANULARITY_BYTES;
	}
	return disk;
}
#endif

static int vtd_add(struct vtd *vtd)
{
	struct gendisk *disk;
	int ret = -ENOMEM;

	vtd->data = vzalloc(VTD_BYTES);
	if (!vtd->data)
		return ret;
	disk = vtd_disk_alloc(vtd);
	if (IS_ERR(disk)) {
		ret = PTR_ERR(disk);
		goto free_data;
	}
	strscpy(disk->disk_name, vtd->name, sizeof(disk->disk_name));
	disk->flags |= GENHD_FL_NO_PART;
	disk->fops = &vtd_ops;
	disk->private_data = vtd;
	set_capacity(disk, VTD_BYTES >> SECTOR_SHIFT);
	ret = add_disk(disk);
	if (ret)
		goto put_disk;
	vtd->disk = disk;
	return 0;

put_disk:
	put_disk(disk);
free_data:
	vfree(vtd->data);
	return ret;
}

static void vtd_remove(struct vtd *vtd)
{
	del_gendisk(vtd->disk);
	put_disk(vtd->disk);
	vfree(vtd->data);
}

static int __init vtd_init(void)
{
	unsigned int i;
	int ret;

	for (i = 0; i < ARRAY_SIZE(vtd_disks); i++) {
		ret = vtd_add(&vtd_disks[i]);
		if (ret)
			goto remove_disks;
	}
	return 0;

remove_disks:
	while (i--)
		vtd_remove(&vtd_disks[i]);
	return ret;
}

static void __exit vtd_exit(void)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(vtd_disks); i++)
		vtd_remove(&vtd_disks[i]);
}

module_init(vtd_init);
module_exit(vtd_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Disks with rare properties, for tests of vhost_blk");
