// SPDX-License-Identifier: GPL-2.0-only
/*
 * vt_disk: disks in memory with properties that no other disk of a test host
 * has. All I/O is done in the context of whoever submits it, but for vtdlate's.
 *
 *   /dev/vtdsecure      erases securely, little at once: the erased bytes hold
 *                       VTD_ERASED; discarded ones hold zeroes
 *   /dev/vtdonesegment  has blocks of 4096 bytes and takes one segment at a time
 *   /dev/vtdlate        ends its bios on the last CPU, and can be slow where no disk is
 *
 * The parameters erase_bios and erased_sectors count what was erased; those of
 * vtdlate are told about below. The tests
 * (lib/testdisk.c and its users) know the numbers below.
 */
#include <linux/blkdev.h>
#include <linux/delay.h>
#include <linux/highmem.h>
#include <linux/kprobes.h>
#include <linux/module.h>
#include <linux/spinlock.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>

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
	bool ends_late;
	struct gendisk *disk;
	u8 *data;
};

static struct vtd vtd_disks[] = {
	{ .name = "vtdsecure", .lbs_bytes = 512, .max_segments = 128, .has_erase = true },
	{ .name = "vtdonesegment", .lbs_bytes = 4096, .max_segments = 1, .does_split = true },
	{ .name = "vtdlate", .lbs_bytes = 512, .max_segments = 128, .ends_late = true },
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

static void vtd_end(struct bio *bio)
{
	bio->bi_status = vtd_execute(bio->bi_bdev->bd_disk->private_data, bio);
	bio_endio(bio);
}

/* ---- vtdlate ---- */

/*
 * What the parameter late_stage says: end bios at once; keep them; end them, and be
 * slow when the end of one makes vhost core queue work. late_held is 1 meanwhile: for
 * 5 seconds at most, and for one more after the stage was changed.
 */
enum { VTD_END, VTD_KEEP, VTD_HOLD };

static int vtd_late_stage;
static int vtd_late_held;
static int vtd_late_can_hold;
module_param_named(late_stage, vtd_late_stage, int, 0644);
MODULE_PARM_DESC(late_stage, "0 end bios, 1 keep them, 2 end them and be slow in vhost core");
module_param_named(late_held, vtd_late_held, int, 0444);
MODULE_PARM_DESC(late_held, "1: the end of a bio is in vhost core");
module_param_named(late_can_hold, vtd_late_can_hold, int, 0444);
MODULE_PARM_DESC(late_can_hold, "1: this kernel can stop there");

static DEFINE_SPINLOCK(vtd_late_lock);
static struct bio_list vtd_late_bios = BIO_EMPTY_LIST;
static struct task_struct *vtd_late_task;

static struct bio *vtd_late_pop(void)
{
	struct bio *bio;

	spin_lock(&vtd_late_lock);
	bio = bio_list_pop(&vtd_late_bios);
	spin_unlock(&vtd_late_lock);
	return bio;
}

static void vtd_late_end(struct work_struct *work)
{
	struct bio *bio;

	WRITE_ONCE(vtd_late_task, current);
	/* Popped first: a bio that was submitted in a stage is treated as it says. */
	while ((bio = vtd_late_pop())) {
		while (READ_ONCE(vtd_late_stage) == VTD_KEEP)
			msleep(20);
		vtd_end(bio);
	}
	WRITE_ONCE(vtd_late_task, NULL);
}

static DECLARE_WORK(vtd_late_work, vtd_late_end);

static void vtd_late_submit(struct bio *bio)
{
	spin_lock(&vtd_late_lock);
	bio_list_add(&vtd_late_bios, bio);
	spin_unlock(&vtd_late_lock);
	schedule_work_on(cpumask_last(cpu_online_mask), &vtd_late_work);
}

static int vtd_late_hit(struct kprobe *probe, struct pt_regs *regs)
{
	unsigned int ms;

	if (READ_ONCE(vtd_late_task) != current || READ_ONCE(vtd_late_stage) != VTD_HOLD)
		return 0;
	WRITE_ONCE(vtd_late_held, 1);
	for (ms = 0; ms < 5000 && READ_ONCE(vtd_late_stage) == VTD_HOLD; ms++)
		mdelay(1);
	mdelay(1000);
	WRITE_ONCE(vtd_late_held, 0);
	return 0;
}

static struct kprobe vtd_late_probe = { .pre_handler = vtd_late_hit };

/* Where a completion queues work: the name depends on the kernel. */
static void vtd_late_init(void)
{
	vtd_late_probe.symbol_name = "vhost_vq_work_queue";
	vtd_late_can_hold = !register_kprobe(&vtd_late_probe);
	if (vtd_late_can_hold)
		return;
	vtd_late_probe.symbol_name = "vhost_work_queue";
	vtd_late_can_hold = !register_kprobe(&vtd_late_probe);
}

static void vtd_late_exit(void)
{
	if (vtd_late_can_hold)
		unregister_kprobe(&vtd_late_probe);
	flush_work(&vtd_late_work);
}

/* ---- all of them ---- */

static void vtd_submit_bio(struct bio *bio)
{
	struct vtd *vtd = bio->bi_bdev->bd_disk->private_data;

	if (vtd->does_split)
		bio = bio_split_to_limits(bio);
	if (!bio)	/* has ended with an error */
		return;
	if (vtd->ends_late)
		vtd_late_submit(bio);
	else
		vtd_end(bio);
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
	vtd_late_init();
	return 0;

remove_disks:
	while (i--)
		vtd_remove(&vtd_disks[i]);
	return ret;
}

static void __exit vtd_exit(void)
{
	unsigned int i;

	vtd_late_exit();
	for (i = 0; i < ARRAY_SIZE(vtd_disks); i++)
		vtd_remove(&vtd_disks[i]);
}

module_init(vtd_init);
module_exit(vtd_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Disks with rare properties, for tests of vhost_blk");
