/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * vhost_blk: what the control, guest and host sides share.
 *
 *   blk.c       control: chardev, ioctls, attach and drain, kick and completion loops
 *   blk-req.c   guest side: from a descriptor chain to a checked request, status byte
 *   blk-bdev.c  host side: from a checked request to bios on a block device
 *
 * This header names neither vrings nor bios, so that each side can be built
 * and tested without the other.
 *
 * Locking. Order: vhost_dev.mutex, then one vhost_virtqueue.mutex.
 *
 *   what                                  protected by
 *   ------------------------------------  -------------------------------------
 *   vhost_blk.bdev                        vhost_dev.mutex
 *   the backend of one vring              vq.mutex (vhost_vq_set_backend)
 *   vhost_blk_vq.slots, .inflight,        vq.mutex; inflight is also read,
 *   .stalled                              without it, by the drain
 *   vhost_blk_queue (all of it)           vq.mutex
 *   vhost_blk_vq.done                     lockless list; add: any context,
 *                                         take: vq.mutex
 *   vhost_blk_vq.in_pass                  written under vq.mutex, read anywhere
 *   vhost_blk_req                         vq.mutex, except while bios are in
 *                                         flight: then only .pending and .error
 *                                         of the host side's half, both atomic
 *
 * A slot (struct vhost_blk_req) belongs to the guest's head from the moment
 * the head is fetched until it is back in the used ring.
 */
#ifndef _VHOST_BLK_H
#define _VHOST_BLK_H

#include <linux/llist.h>
#include <linux/types.h>
#include <linux/uio.h>
#include <linux/vhost_blk.h>

/* virtio counts in sectors of 512 bytes, whatever the logical block size (5.2.4). */
#define VHOST_BLK_SECTOR_SHIFT	9

/* Largest vring size (entries) that can be attached. */
#define VHOST_BLK_MAX_VQ_SIZE	1024

/*
 * Most data segments of a request. vhost core gives up on a chain of more than
 * UIO_MAXIOV pieces, and any segment may lie across two memory regions.
 */
#define VHOST_BLK_SEG_MAX	((UIO_MAXIOV - 4) / 2)

/* Largest data segment, in bytes; a page multiple below 2 GiB. */
#define VHOST_BLK_SIZE_MAX	0x7ffff000U

struct vhost_blk_bdev;
struct vhost_blk_req;

/**
 * struct vhost_blk_limits - what requests are checked against
 * @capacity_sectors: size of the medium, in 512-byte sectors
 * @lbs_bytes:        logical block size
 * @read_only:        the backend takes no writes (fd mode or device)
 *
 * Refreshed for each pass over a vring: a block device can be resized or made
 * read-only while it is attached.
 */
struct vhost_blk_limits {
	sector_t capacity_sectors;
	unsigned int lbs_bytes;
	bool read_only;
};

/**
 * struct vhost_blk_queue - what a request has to know of its queue
 * @features:      virtio feature bits that the guest acknowledged
 * @little_endian: byte order of the request header
 * @limits:        of the backend
 * @bdev:          the backend
 * @serial:        answer to VIRTIO_BLK_T_GET_ID
 */
struct vhost_blk_queue {
	u64 features;
	bool little_endian;
	struct vhost_blk_limits limits;
	struct vhost_blk_bdev *bdev;
	u8 serial[VHOST_BLK_SERIAL_BYTES];
};

/* Which side of the chain carries a request's payload. */
enum vhost_blk_payload {
	VHOST_BLK_PAYLOAD_NONE,
	VHOST_BLK_PAYLOAD_IN,	/* device-writable */
	VHOST_BLK_PAYLOAD_OUT,	/* device-readable */
};

/* How long the payload may be. */
enum vhost_blk_length {
	VHOST_BLK_LENGTH_ANY,
	VHOST_BLK_LENGTH_BLOCKS,	/* > 0, whole logical blocks, on the medium */
};

/**
 * struct vhost_blk_op - one row of the request table
 * @execute: starts the request and owns it from then on
 * @type:    VIRTIO_BLK_T_*
 * @feature: feature bit the guest must have acknowledged, or -1
 * @payload: side of the payload
 * @length:  length rule
 * @writes:  changes the medium
 */
struct vhost_blk_op {
	void (*execute)(struct vhost_blk_req *req);
	u32 type;
	s8 feature;
	enum vhost_blk_payload payload;
	enum vhost_blk_length length;
	bool writes;
};

/**
 * struct vhost_blk_req - one request: the slot of one vring entry
 * @done:        link in the queue's list of requests to reap
 * @queue:       the queue it came from
 * @op:          row of the request table; NULL until the header is known
 * @iov:         payload in the owner's address space; lives in the vring's
 *               scratch array, so it is valid during execute() only
 * @nr_iov:      pieces of payload
 * @data_bytes:  length of payload
 * @sector:      first sector, in 512 bytes
 * @status_addr: where the status byte goes; NULL if the chain has no room
 * @in_bytes:    payload bytes written to the guest (for used.len)
 * @head:        descriptor index that the guest published
 * @status:      VIRTIO_BLK_S_*
 * @busy:        the slot is in use
 */
struct vhost_blk_req {
	struct llist_node done;
	struct vhost_blk_queue *queue;
	const struct vhost_blk_op *op;
	const struct iovec *iov;
	unsigned int nr_iov;
	u64 data_bytes;
	u64 sector;
	u8 __user *status_addr;
	u32 in_bytes;
	u16 head;
	u8 status;
	bool busy;
};

/* blk.c */
void vhost_blk_req_done(struct vhost_blk_req *req);

static inline bool vhost_blk_queue_has_feature(const struct vhost_blk_queue *queue,
					       unsigned int bit)
{
	return queue->features & BIT_ULL(bit);
}

/**
 * vhost_blk_req_end - end a request that has no I/O in flight
 * @req:    the request
 * @status: VIRTIO_BLK_S_*
 *
 * Context: the queue's worker, vq.mutex held.
 */
static inline void vhost_blk_req_end(struct vhost_blk_req *req, u8 status)
{
	req->status = status;
	vhost_blk_req_done(req);
}

/* blk-req.c */
u8 vhost_blk_req_parse(struct vhost_blk_req *req, struct iovec *iov,
		       unsigned int nr_out, unsigned int nr_in);
u32 vhost_blk_req_status_put(const struct vhost_blk_req *req);

/* blk-bdev.c */
extern const size_t vhost_blk_bdev_slot_bytes;
int vhost_blk_bdev_init(void);
void vhost_blk_bdev_exit(void);
struct vhost_blk_bdev *vhost_blk_bdev_get(int fd);
int vhost_blk_bdev_attach(struct vhost_blk_bdev *bdev);
void vhost_blk_bdev_detach(struct vhost_blk_bdev *bdev);
void vhost_blk_bdev_put(struct vhost_blk_bdev *bdev);
void vhost_blk_bdev_limits(const struct vhost_blk_bdev *bdev,
			   struct vhost_blk_limits *limits);
bool vhost_blk_bdev_is_full(const struct vhost_blk_bdev *bdev);
void vhost_blk_bdev_query(const struct vhost_blk_bdev *bdev,
			  struct vhost_blk_query *query);
void vhost_blk_execute_rw(struct vhost_blk_req *req);
void vhost_blk_execute_flush(struct vhost_blk_req *req);
bool vhost_blk_bdev_reap(struct vhost_blk_req *req);

#endif /* _VHOST_BLK_H */
