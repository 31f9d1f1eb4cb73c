/* SPDX-License-Identifier: GPL-2.0-only */
/* What the two halves of the block device side share: blk-bdev.c, blk-bdev-rw.c. */
#ifndef _VHOST_BLK_BDEV_H
#define _VHOST_BLK_BDEV_H

#include <linux/bio.h>
#include <linux/blkdev.h>

#include "blk.h"

/* bvecs of a slot's own bio: 64 KiB that start anywhere in a page. */
#define VHOST_BLK_INLINE_VECS	(SZ_64K / PAGE_SIZE + 1)

/* Larger bios of one window. */
#define VHOST_BLK_WINDOW_BIOS	8

/**
 * struct vhost_blk_bdev - an open block device
 * @disk:       what all disks have; first
 * @bdev:       the device
 * @large_bios: allocated bios of all requests
 */
struct vhost_blk_bdev {
	struct vhost_blk_disk disk;
	struct block_device *bdev;
	atomic_t large_bios;
};

/* A bio that is not a slot's own; @bio is last: front_pad of the bio_set. */
struct vhost_blk_bio {
	struct vhost_blk_bio *next;
	struct bio bio;
};

/**
 * struct vhost_blk_bdev_req - slot of one vring entry, with the host's half
 * @req:      the guest's half; first
 * @pending:  bios in flight, plus one while a window is being submitted
 * @error:    first error of the window
 * @bounce:   payload goes through kernel pages
 * @own_used: @bio is part of the window
 * @stable:   nothing is left in the device's cache of what was written
 * @zeroes:   the device has no WRITE_ZEROES or failed it: write zero pages
 * @range:    index of the range that is worked on
 * @iov:      payload not yet mapped: first piece
 * @skip:     bytes of that piece already mapped
 * @left:     bytes of payload not yet mapped, or of @range not yet worked on
 * @sector:   where they go
 * @saved:    copy of the payload's pieces, for use after execute()
 * @large:    the window's other bios
 * @pin:      the page of the bio that has all that was left, if it stays pinned; no
 *            other bio of the window has just one page
 * @bio:      the slot's own bio
 * @vecs:     its bvecs
 */
struct vhost_blk_bdev_req {
	struct vhost_blk_req req;
	atomic_t pending;
	blk_status_t error;
	bool bounce;
	bool own_used;
	bool stable;
	bool zeroes;
	unsigned int range;
	const struct iovec *iov;
	size_t skip;
	u64 left;
	sector_t sector;
	struct iovec *saved;
	struct vhost_blk_bio *large;
	struct vhost_blk_pin *pin;
	struct bio bio;
	struct bio_vec vecs[VHOST_BLK_INLINE_VECS];
};

static inline struct vhost_blk_bdev *to_vhost_blk_bdev(const struct vhost_blk_disk *disk)
{
	return container_of(disk, struct vhost_blk_bdev, disk);
}

static inline struct vhost_blk_bdev *vhost_blk_req_bdev(const struct vhost_blk_req *req)
{
	return to_vhost_blk_bdev(req->queue->disk);
}

static inline struct vhost_blk_bdev_req *to_bdev_req(struct vhost_blk_req *req)
{
	return container_of(req, struct vhost_blk_bdev_req, req);
}

static inline void vhost_blk_error_set(struct vhost_blk_bdev_req *br, blk_status_t error)
{
	cmpxchg(&br->error, BLK_STS_OK, error);
}

/* Is something of a write in a cache that must not be, as things are now? */
static inline bool vhost_blk_bdev_is_volatile(const struct vhost_blk_bdev_req *br)
{
	return br->req.op->writes && !br->stable &&
	       vhost_blk_queue_is_write_through(br->req.queue);
}

/* blk-bdev.c */
bool vhost_blk_bdev_go_on(struct vhost_blk_bdev_req *br);

/* blk-bdev-rw.c */
void vhost_blk_bio_submit(struct vhost_blk_bdev_req *br, struct bio *bio);

#endif /* _VHOST_BLK_BDEV_H */
