/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * vhost_blk: what the control, guest and host sides share.
 *
 *   blk.c          control: chardev, ioctls, attach and drain
 *   blk-vq.c       vrings: kick and completion loops, dirty log, counters
 *   blk-desc.c     vrings: the short way to fetch a usual descriptor chain
 *   blk-iotlb.c    vrings: addresses that a virtual IOMMU translates
 *   blk-req.c      guest side: from a descriptor chain to a checked request, status byte
 *   blk-disk.c     host side: what all kinds of disks have in common
 *   blk-bdev.c     host side: block devices
 *   blk-bdev-rw.c  host side: from a checked read or write to bios
 *   blk-pins.c     host side: pages that stay pinned from one request to the next
 *   blk-file.c     host side: raw image files
 *
 * This header names neither vrings nor bios, so that each side can be built
 * and tested without the other.
 *
 * Locking. Order: vhost_dev.mutex, then one vhost_virtqueue.mutex.
 *
 *   what                                  protected by
 *   ------------------------------------  -------------------------------------
 *   vhost_blk.disk                        vhost_dev.mutex
 *   the backend of one vring              vq.mutex (vhost_vq_set_backend)
 *   vhost_blk_vq.slots, .inflight,        vq.mutex; inflight is also read,
 *   .stalled, .untranslated, .stats,      without it, by the drain
 *   .unsignalled, .quick, .pass_end_ns,
 *   .poll_ns
 *   vhost_blk_queue (all of it)           vq.mutex
 *   vhost_blk_vq.done                     lockless list; add: any context,
 *                                         take: vq.mutex
 *   vhost_blk_vq.in_pass                  written under vq.mutex, read anywhere
 *   vhost_blk_req                         vq.mutex, except while bios are in
 *                                         flight: then only .pending and .error
 *                                         of the host side's half, both atomic;
 *                                         of an image file's while it is with
 *                                         the file system, all of its half
 *   vhost_blk_pins                        see blk-pins.c
 *   vhost_blk_disk.bounce_pages, .copies  atomic
 *   vhost_blk_disk.abort                  written under vhost_dev.mutex, read
 *                                         anywhere
 *
 * A slot (struct vhost_blk_req) belongs to the guest's head from the moment
 * the head is fetched until it is back in the used ring.
 */
#ifndef _VHOST_BLK_H
#define _VHOST_BLK_H

#include <linux/atomic.h>
#include <linux/blk_types.h>
#include <linux/llist.h>
#include <linux/types.h>
#include <linux/uio.h>
#include <linux/vhost_blk.h>
#include <uapi/linux/virtio_blk.h>

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

/* Most ranges of a DISCARD, WRITE_ZEROES or SECURE_ERASE. */
#define VHOST_BLK_RANGES_MAX	64

/* Longest such range, in sectors: just below 2 GiB. */
#define VHOST_BLK_RANGE_SECTORS_MAX	(INT_MAX >> VHOST_BLK_SECTOR_SHIFT)

struct mm_struct;
struct vhost_blk_disk;
struct vhost_blk_log;
struct vhost_blk_pins;
struct vhost_blk_req;

/**
 * struct vhost_blk_limits - what requests are checked against
 * @capacity_sectors: size of the medium, in 512-byte sectors
 * @lbs_bytes:        logical block size
 * @addr_mask:        bits that are zero in the address of payload that needs no copy
 * @tag_batch:        requests that can be expected of the disk at once, 0: no need to
 * @merges_in_plug:   there is no scheduler that merges requests
 * @read_only:        the backend takes no writes (fd mode or device)
 *
 * Refreshed for each pass over a vring: a block device can be resized or made
 * read-only while it is attached.
 */
struct vhost_blk_limits {
	sector_t capacity_sectors;
	unsigned int lbs_bytes;
	unsigned int addr_mask;
	unsigned int tag_batch;
	bool merges_in_plug;
	bool read_only;
};

/**
 * struct vhost_blk_queue - what a request has to know of its queue
 * @features:      virtio feature bits that the guest acknowledged
 * @dev_id:        number of the device, for tracing
 * @index:         number of the queue
 * @now_ns:        when the pass over the vring began
 * @nr_ready:      requests known to be there: the one that is started, and more
 * @next_sector:   behind the last read or write
 * @ioprio:        I/O priority of the worker
 * @little_endian: byte order of the request header
 * @write_through: the VMM switched the write cache off
 * @limits:        of the backend
 * @disk:          the backend
 * @mm:            the owner's memory
 * @pins:          pages of it that stay pinned; NULL: none do
 * @serial:        answer to VIRTIO_BLK_T_GET_ID
 */
struct vhost_blk_queue {
	u64 features;
	unsigned int dev_id;
	unsigned int index;
	u64 now_ns;
	unsigned int nr_ready;
	u64 next_sector;
	u16 ioprio;
	bool little_endian;
	bool write_through;
	struct vhost_blk_limits limits;
	struct vhost_blk_disk *disk;
	struct mm_struct *mm;
	struct vhost_blk_pins *pins;
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
	VHOST_BLK_LENGTH_RANGES,	/* 1 to VHOST_BLK_RANGES_MAX ranges on the medium */
};

/* Which of a disk's operations executes a request. */
enum vhost_blk_exec {
	VHOST_BLK_EXEC_RW,
	VHOST_BLK_EXEC_FLUSH,
	VHOST_BLK_EXEC_RANGES,
	VHOST_BLK_EXEC_GET_ID,
	VHOST_BLK_NR_EXEC,
};

/**
 * struct vhost_blk_op - one row of the request table
 * @exec:    what starts the request and owns it from then on
 * @stat:    counter, as an index into struct vhost_blk_stats
 * @type:    VIRTIO_BLK_T_*
 * @feature: feature bit the guest must have acknowledged, or -1
 * @payload: side of the payload
 * @length:  length rule
 * @flags:   flags that a range may have
 * @writes:  changes the medium
 */
struct vhost_blk_op {
	enum vhost_blk_exec exec;
	unsigned int stat;
	u32 type;
	s8 feature;
	enum vhost_blk_payload payload;
	enum vhost_blk_length length;
	u32 flags;
	bool writes;
};

/* Counters by kind of request. */
#define VHOST_BLK_NR_STATS	(sizeof(struct vhost_blk_stats) / sizeof(struct vhost_blk_stat))
#define VHOST_BLK_STAT(kind)	(offsetof(struct vhost_blk_stats, kind) / \
				 sizeof(struct vhost_blk_stat))

/**
 * struct vhost_blk_range - one range of a DISCARD, WRITE_ZEROES or SECURE_ERASE
 * @sector:     first sector
 * @nr_sectors: sectors; can be 0
 * @flags:      VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP, if the disk may unmap, or 0
 */
struct vhost_blk_range {
	u64 sector;
	u32 nr_sectors;
	u32 flags;
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
 * @start_ns:    when the pass that fetched it began
 * @ranges:      what a request with ranges names, checked; NULL if it has none
 * @nr_ranges:   how many
 * @range:       room for one of them
 * @log:         what of guest memory it may write, if that is logged
 * @status_addr: where the status byte goes; NULL if the chain has no room
 * @in_bytes:    payload bytes written to the guest (for used.len)
 * @head:        descriptor index that the guest published
 * @status:      VIRTIO_BLK_S_*
 * @busy:        the slot is in use
 * @error:       -errno of the disk, 0 once that has been dealt with
 */
struct vhost_blk_req {
	struct llist_node done;
	struct vhost_blk_queue *queue;
	const struct vhost_blk_op *op;
	const struct iovec *iov;
	unsigned int nr_iov;
	u64 data_bytes;
	u64 sector;
	u64 start_ns;
	struct vhost_blk_range *ranges;
	unsigned int nr_ranges;
	struct vhost_blk_range range;
	struct vhost_blk_log *log;
	u8 __user *status_addr;
	u32 in_bytes;
	u16 head;
	u8 status;
	bool busy;
	int error;
};

/**
 * struct vhost_blk_geometry - what a disk is offered as, besides its limits
 * @pbs_bytes:        physical block size
 * @alignment_bytes:  where the first physical block begins
 * @io_min_bytes:     preferred minimum of a request
 * @io_opt_bytes:     optimal size of a request, 0: unknown
 * @write_cache:      it has a volatile one
 * @discard_sectors:  most sectors of one discard, 0: it has none
 * @discard_granularity_sectors: of discards and secure erases
 * @write_zeroes_sectors: the same for WRITE_ZEROES, which every disk takes
 * @write_zeroes_unmap: it may unmap what is to read as zeroes
 * @secure_erase_sectors: the same for SECURE_ERASE, 0: it has none
 */
struct vhost_blk_geometry {
	unsigned int pbs_bytes;
	unsigned int alignment_bytes;
	unsigned int io_min_bytes;
	unsigned int io_opt_bytes;
	bool write_cache;
	u32 discard_sectors;
	u32 discard_granularity_sectors;
	u32 write_zeroes_sectors;
	bool write_zeroes_unmap;
	u32 secure_erase_sectors;
};

/**
 * struct vhost_blk_disk_ops - one kind of disk
 * @execute:    start a checked request and own it. Context: the queue's worker
 *              with the owner's mm, vq.mutex held; may sleep for a free tag
 * @reap:       take back what a request held that called vhost_blk_req_done().
 *              Same context. Return: true if it has ended and req->status says
 *              how, false if more of it was started
 * @get:        make a disk of an open file. Return: it, or ERR_PTR
 * @attach:     the host's last chance to write back. Return: 0 or -errno
 * @detach:     nothing is in flight any more
 * @put:        free it; the file is put by the caller
 * @limits:     what it takes right now. Context: any
 * @geometry:   what it is offered as
 * @pins_pages: it pins payload, and can use what is pinned already
 * @slot_bytes: size of its struct that begins with a struct vhost_blk_req
 */
struct vhost_blk_disk_ops {
	void (*execute[VHOST_BLK_NR_EXEC])(struct vhost_blk_req *req);
	bool (*reap)(struct vhost_blk_req *req);
	struct vhost_blk_disk *(*get)(struct file *file);
	int (*attach)(struct vhost_blk_disk *disk);
	void (*detach)(struct vhost_blk_disk *disk);
	void (*put)(struct vhost_blk_disk *disk);
	void (*limits)(const struct vhost_blk_disk *disk, struct vhost_blk_limits *limits);
	void (*geometry)(const struct vhost_blk_disk *disk, struct vhost_blk_geometry *geometry);
	bool pins_pages;
	size_t slot_bytes;
};

/*
 * What all requests of one disk together may hold; of pages and copies it can
 * be what one request of each vring takes more.
 */
#define VHOST_BLK_MAX_BOUNCE_PAGES	1024
#define VHOST_BLK_MAX_COPIES		256

/**
 * struct vhost_blk_disk - an open disk
 * @ops:          its kind
 * @file:         keeps it open; put last
 * @bounce_pages: kernel pages that hold payload of all requests
 * @copies:       copies of payload's pieces, ranges and logs of all requests
 * @abort:        the device is going away: requests with ranges end early
 * @flags:        VHOST_BLK_BACKEND_*
 */
struct vhost_blk_disk {
	const struct vhost_blk_disk_ops *ops;
	struct file *file;
	atomic_t bounce_pages;
	atomic_t copies;
	bool abort;
	u32 flags;
};

/**
 * vhost_blk_disk_is_full - do the requests in flight hold all they may?
 * @disk: the disk
 *
 * No request may be started then, as long as there is one whose end will tell.
 * This bounds the host memory that a guest holds by requests of odd layout.
 *
 * Context: any.
 */
static inline bool vhost_blk_disk_is_full(const struct vhost_blk_disk *disk)
{
	return atomic_read(&disk->bounce_pages) >= VHOST_BLK_MAX_BOUNCE_PAGES ||
	       atomic_read(&disk->copies) >= VHOST_BLK_MAX_COPIES;
}

/* A DISCARD that is to do nothing. The unmap flag of WRITE_ZEROES the parser has taken off. */
static inline bool vhost_blk_req_is_ignored(const struct vhost_blk_req *req)
{
	return req->op->type == VIRTIO_BLK_T_DISCARD &&
	       (req->queue->disk->flags & VHOST_BLK_BACKEND_NO_UNMAP);
}

static inline bool vhost_blk_queue_has_feature(const struct vhost_blk_queue *queue,
					       unsigned int bit)
{
	return queue->features & BIT_ULL(bit);
}

/*
 * Must a write be stable when it is acknowledged? Yes, unless the guest can ask
 * for that with FLUSH and has the cache on (5.2.6.2).
 */
static inline bool vhost_blk_queue_is_write_through(const struct vhost_blk_queue *queue)
{
	return queue->write_through ||
	       !vhost_blk_queue_has_feature(queue, VIRTIO_BLK_F_FLUSH);
}

/* blk-vq.c */
void vhost_blk_req_done(struct vhost_blk_req *req);

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
void vhost_blk_req_ranges_free(struct vhost_blk_req *req);
u32 vhost_blk_req_status_put(const struct vhost_blk_req *req);
void vhost_blk_execute_get_id(struct vhost_blk_req *req);

/* blk-disk.c */
struct vhost_blk_disk *vhost_blk_disk_get(int fd);
void vhost_blk_disk_put(struct vhost_blk_disk *disk);
void vhost_blk_disk_query(const struct vhost_blk_disk *disk,
			  struct vhost_blk_query *query);
u8 vhost_blk_status_from_blk(blk_status_t error);

/* blk-bdev.c, blk-bdev-rw.c */
extern const struct vhost_blk_disk_ops vhost_blk_bdev_ops;
int vhost_blk_bdev_init(void);
void vhost_blk_bdev_exit(void);
void vhost_blk_bdev_execute_rw(struct vhost_blk_req *req);
bool vhost_blk_bdev_reap(struct vhost_blk_req *req);

/* blk-file.c */
extern const struct vhost_blk_disk_ops vhost_blk_file_ops;

#endif /* _VHOST_BLK_H */
