// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost_blk, host side: block devices.
 *
 * Reads and writes are in blk-bdev-rw.c. What names sectors only (FLUSH,
 * DISCARD, WRITE_ZEROES, SECURE_ERASE) is done here, by the slot's own bio: one
 * at a time, no longer than the device takes at once, so that a request over
 * a whole disk neither allocates anything nor keeps the worker.
 */
#include <linux/blk-integrity.h>
#include <linux/fs.h>
#include <linux/mm.h>
#include <linux/slab.h>

#include "blk-bdev.h"

/* What a write of zero pages is advertised to take at once: 32 MiB. */
#define VHOST_BLK_ZEROES_SECTORS	(SZ_32M >> SECTOR_SHIFT)

/*
 * How many tags of the device a worker takes at once, if it has many: it holds them
 * while it may sleep in a page fault.
 */
#define VHOST_BLK_TAG_BATCH	8

/* ---- FLUSH ---- */

static void vhost_blk_flush_submit(struct vhost_blk_bdev_req *br)
{
	br->own_used = true;
	br->stable = true;
	atomic_set(&br->pending, 1);
	/* The block layer takes REQ_OP_FLUSH from nobody: an empty write it is. */
	bio_init(&br->bio, vhost_blk_req_bdev(&br->req)->bdev, NULL, 0,
		 REQ_OP_WRITE | REQ_PREFLUSH | REQ_SYNC);
	vhost_blk_bio_submit(br, &br->bio);
}

/* The request's sector is of no concern (5.2.6.1 binds the driver). */
static void vhost_blk_bdev_execute_flush(struct vhost_blk_req *req)
{
	struct vhost_blk_bdev_req *br = to_bdev_req(req);

	if (!bdev_write_cache(vhost_blk_req_bdev(req)->bdev)) {
		vhost_blk_req_end(req, VIRTIO_BLK_S_OK);
		return;
	}
	br->error = BLK_STS_OK;
	br->bounce = false;
	br->left = 0;
	vhost_blk_flush_submit(br);
}

/* ---- DISCARD, WRITE_ZEROES, SECURE_ERASE ---- */

/* Most sectors that one bio of the request can have; 0: the device has no such thing. */
static unsigned int vhost_blk_range_limit(const struct vhost_blk_bdev_req *br)
{
	struct block_device *bdev = vhost_blk_req_bdev(&br->req)->bdev;

	if (br->zeroes)
		return SZ_64K >> SECTOR_SHIFT;
	switch (br->req.op->type) {
	case VIRTIO_BLK_T_DISCARD:
		return bdev_max_discard_sectors(bdev);
	case VIRTIO_BLK_T_SECURE_ERASE:
		return bdev_max_secure_erase_sectors(bdev);
	default:
		return bdev_write_zeroes_sectors(bdev);
	}
}

static blk_opf_t vhost_blk_range_opf(const struct vhost_blk_bdev_req *br)
{
	const struct vhost_blk_req *req = &br->req;

	if (br->zeroes)
		return REQ_OP_WRITE | REQ_SYNC | REQ_IDLE;
	switch (req->op->type) {
	case VIRTIO_BLK_T_DISCARD:
		return REQ_OP_DISCARD;
	case VIRTIO_BLK_T_SECURE_ERASE:
		return REQ_OP_SECURE_ERASE;
	default:
		if (req->ranges[br->range].flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP)
			return REQ_OP_WRITE_ZEROES;
		return REQ_OP_WRITE_ZEROES | REQ_NOUNMAP;
	}
}

/* How much of what is left goes into the next bio, in sectors. */
static unsigned int vhost_blk_range_chunk(const struct vhost_blk_bdev_req *br,
					  unsigned int limit)
{
	struct block_device *bdev = vhost_blk_req_bdev(&br->req)->bdev;
	unsigned int lbs = bdev_logical_block_size(bdev) >> SECTOR_SHIFT;
	unsigned int granularity = bdev_discard_granularity(bdev) >> SECTOR_SHIFT;
	u64 left = br->left >> SECTOR_SHIFT;
	u32 rest = 0;

	if (left <= limit)
		return left;
	/* The next one is to begin where the device can free something. */
	if (granularity > 1 && !br->zeroes)
		div_u64_rem(br->sector + limit, granularity, &rest);
	if (rest < limit)
		limit -= rest;
	return max(round_down(limit, lbs), lbs);
}

static void vhost_blk_bio_add_zeroes(struct bio *bio, unsigned int bytes)
{
	unsigned int len;

	for (; bytes; bytes -= len) {
		len = min_t(unsigned int, bytes, PAGE_SIZE);
		__bio_add_page(bio, ZERO_PAGE(0), len, 0);
	}
}

/* Submit nothing any more, but end. */
static void vhost_blk_range_fail(struct vhost_blk_bdev_req *br, blk_status_t error)
{
	br->left = 0;
	vhost_blk_error_set(br, error);
	vhost_blk_req_done(&br->req);
}

/* The next bio of the range that is worked on. */
static void vhost_blk_range_submit(struct vhost_blk_bdev_req *br)
{
	unsigned int limit = vhost_blk_range_limit(br), bytes;
	struct bio *bio = &br->bio;

	if (READ_ONCE(br->req.queue->disk->abort)) {
		vhost_blk_range_fail(br, BLK_STS_IOERR);
		return;
	}
	if (!limit) {	/* the device can do it no more */
		vhost_blk_range_fail(br, BLK_STS_NOTSUPP);
		return;
	}
	bytes = vhost_blk_range_chunk(br, limit) << SECTOR_SHIFT;
	bio_init(bio, vhost_blk_req_bdev(&br->req)->bdev, br->vecs, VHOST_BLK_INLINE_VECS,
		 vhost_blk_range_opf(br));
	bio->bi_iter.bi_sector = br->sector;
	if (br->zeroes)
		vhost_blk_bio_add_zeroes(bio, bytes);
	else
		bio->bi_iter.bi_size = bytes;
	br->sector += bytes >> SECTOR_SHIFT;
	br->left -= bytes;
	br->own_used = true;
	atomic_set(&br->pending, 1);
	vhost_blk_bio_submit(br, bio);
}

/* Make the first range from @br->range on that is not empty the current one. */
static bool vhost_blk_range_begin(struct vhost_blk_bdev_req *br)
{
	const struct vhost_blk_range *range;

	for (; br->range < br->req.nr_ranges; br->range++) {
		range = &br->req.ranges[br->range];
		if (!range->nr_sectors)
			continue;
		br->sector = range->sector;
		br->left = (u64)range->nr_sectors << SECTOR_SHIFT;
		return true;
	}
	return false;
}

static bool vhost_blk_range_begin_next(struct vhost_blk_bdev_req *br)
{
	br->range++;
	return vhost_blk_range_begin(br);
}

static void vhost_blk_bdev_execute_ranges(struct vhost_blk_req *req)
{
	struct vhost_blk_bdev_req *br = to_bdev_req(req);
	struct block_device *bdev = vhost_blk_req_bdev(req)->bdev;

	br->error = BLK_STS_OK;
	br->bounce = false;
	br->stable = false;
	br->range = 0;
	br->left = 0;
	br->zeroes = req->op->type == VIRTIO_BLK_T_WRITE_ZEROES &&
		     !bdev_write_zeroes_sectors(bdev);
	if (vhost_blk_req_is_ignored(req))
		vhost_blk_req_end(req, VIRTIO_BLK_S_OK);
	else if (!vhost_blk_range_limit(br))
		vhost_blk_req_end(req, VIRTIO_BLK_S_UNSUPP);
	else if (!vhost_blk_range_begin(br))
		vhost_blk_req_end(req, VIRTIO_BLK_S_OK);
	else
		vhost_blk_range_submit(br);
}

/*
 * A device may find out late that it has no WRITE_ZEROES; the block layer itself
 * falls back after any error. Begin anew: zeroes twice are zeroes.
 */
static bool vhost_blk_ranges_retry(struct vhost_blk_bdev_req *br)
{
	if (br->req.op->type != VIRTIO_BLK_T_WRITE_ZEROES || br->zeroes || br->stable ||
	    READ_ONCE(br->req.queue->disk->abort))
		return false;
	br->error = BLK_STS_OK;
	br->zeroes = true;
	br->range = 0;
	return vhost_blk_range_begin(br);
}

/**
 * vhost_blk_bdev_go_on - go on with a request that is more than a read or write
 * @br: its bios have all ended: it has ranges, or failed, or has to be stable
 *
 * Context: as vhost_blk_bdev_reap().
 *
 * Return: true if it comes back through vhost_blk_req_done(), false if it has ended.
 */
bool vhost_blk_bdev_go_on(struct vhost_blk_bdev_req *br)
{
	struct vhost_blk_req *req = &br->req;

	if (br->error && !vhost_blk_ranges_retry(br))
		return false;
	if (req->ranges && !br->stable && (br->left || vhost_blk_range_begin_next(br))) {
		vhost_blk_range_submit(br);
		return true;
	}
	/* Ranges know no FUA, and the cache may have been switched off just now. */
	if (vhost_blk_bdev_is_volatile(br) && bdev_write_cache(vhost_blk_req_bdev(req)->bdev)) {
		vhost_blk_flush_submit(br);
		return true;
	}
	return false;
}

/* ---- the device ---- */

static struct vhost_blk_disk *vhost_blk_bdev_get(struct file *file)
{
	struct vhost_blk_bdev *bdev;

	/* A zoned device would reject the guest's random writes. */
	if (bdev_is_zoned(I_BDEV(file->f_mapping->host)))
		return ERR_PTR(-EOPNOTSUPP);
	bdev = kzalloc(sizeof(*bdev), GFP_KERNEL_ACCOUNT);
	if (!bdev)
		return ERR_PTR(-ENOMEM);
	bdev->bdev = I_BDEV(file->f_mapping->host);
	return &bdev->disk;
}

static void vhost_blk_bdev_put(struct vhost_blk_disk *disk)
{
	kfree(to_vhost_blk_bdev(disk));
}

/*
 * Bios bypass the page cache: what the host has written through it must be on
 * the medium before the guest reads.
 */
static int vhost_blk_bdev_attach(struct vhost_blk_disk *disk)
{
	struct block_device *bdev = to_vhost_blk_bdev(disk)->bdev;
	int ret = sync_blockdev(bdev);

	invalidate_bdev(bdev);
	return ret;
}

/* Drop what the host cached while the guest wrote. */
static void vhost_blk_bdev_detach(struct vhost_blk_disk *disk)
{
	invalidate_bdev(to_vhost_blk_bdev(disk)->bdev);
}

/*
 * A page may end inside a block, but not everywhere: the block layer makes protection
 * information bvec by bvec, so such a bvec would get a tuple more than there is room
 * for; and it cannot split off less than a block for a device that takes one segment
 * at a time.
 */
static unsigned int vhost_blk_bdev_addr_mask(struct block_device *bdev)
{
	unsigned int mask = bdev_dma_alignment(bdev);

	if (bdev_get_integrity(bdev) || queue_max_segments(bdev_get_queue(bdev)) == 1)
		mask |= bdev_logical_block_size(bdev) - 1;
	return mask;
}

/* A block device can be resized or made read-only while it is attached. */
static void vhost_blk_bdev_limits(const struct vhost_blk_disk *disk,
				  struct vhost_blk_limits *limits)
{
	struct block_device *bdev = to_vhost_blk_bdev(disk)->bdev;
	struct request_queue *q = bdev_get_queue(bdev);

	limits->capacity_sectors = bdev_nr_sectors(bdev);
	limits->lbs_bytes = bdev_logical_block_size(bdev);
	limits->addr_mask = vhost_blk_bdev_addr_mask(bdev);
	limits->tag_batch = 0;
	limits->merges_in_plug = false;
	if (queue_is_mq(q)) {
		limits->merges_in_plug = !q->elevator;
		if (q->nr_requests >= 8 * VHOST_BLK_TAG_BATCH)
			limits->tag_batch = VHOST_BLK_TAG_BATCH;
	}
	limits->read_only = !(disk->file->f_mode & FMODE_WRITE) || bdev_read_only(bdev);
}

static void vhost_blk_bdev_geometry(const struct vhost_blk_disk *disk,
				    struct vhost_blk_geometry *geometry)
{
	struct block_device *bdev = to_vhost_blk_bdev(disk)->bdev;
	u32 max = VHOST_BLK_RANGE_SECTORS_MAX;

	geometry->pbs_bytes = bdev_physical_block_size(bdev);
	geometry->alignment_bytes = max(bdev_alignment_offset(bdev), 0);
	geometry->io_min_bytes = bdev_io_min(bdev);
	geometry->io_opt_bytes = bdev_io_opt(bdev);
	geometry->write_cache = bdev_write_cache(bdev);
	geometry->discard_sectors = min(bdev_max_discard_sectors(bdev), max);
	geometry->discard_granularity_sectors = bdev_discard_granularity(bdev) >> SECTOR_SHIFT;
	geometry->secure_erase_sectors = min(bdev_max_secure_erase_sectors(bdev), max);
	geometry->write_zeroes_sectors = min(bdev_write_zeroes_sectors(bdev), max);
	geometry->write_zeroes_unmap = geometry->write_zeroes_sectors;
	if (!geometry->write_zeroes_sectors)
		geometry->write_zeroes_sectors = VHOST_BLK_ZEROES_SECTORS;
}

const struct vhost_blk_disk_ops vhost_blk_bdev_ops = {
	.pins_pages	= true,
	.slot_bytes	= sizeof(struct vhost_blk_bdev_req),
	.execute	= {
		[VHOST_BLK_EXEC_RW]	= vhost_blk_bdev_execute_rw,
		[VHOST_BLK_EXEC_FLUSH]	= vhost_blk_bdev_execute_flush,
		[VHOST_BLK_EXEC_RANGES]	= vhost_blk_bdev_execute_ranges,
		[VHOST_BLK_EXEC_GET_ID]	= vhost_blk_execute_get_id,
	},
	.reap		= vhost_blk_bdev_reap,
	.get		= vhost_blk_bdev_get,
	.attach		= vhost_blk_bdev_attach,
	.detach		= vhost_blk_bdev_detach,
	.put		= vhost_blk_bdev_put,
	.limits		= vhost_blk_bdev_limits,
	.geometry	= vhost_blk_bdev_geometry,
};
