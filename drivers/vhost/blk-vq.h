/* SPDX-License-Identifier: GPL-2.0-only */
/* What the control side knows of vrings: blk.c, blk-vq.c. */
#ifndef _VHOST_BLK_VQ_H
#define _VHOST_BLK_VQ_H

#include <linux/wait.h>
#include <linux/workqueue.h>

#include "vhost.h"
#include "blk.h"

/*
 * One pass over a vring ends after this many requests or bytes, so that the
 * other vrings of the worker get their turn.
 */
#define VHOST_BLK_PASS_REQS	256
#define VHOST_BLK_PASS_BYTES	SZ_8M

/*
 * A disk is quick if a request ends this soon after a pass; the worker stays awake for
 * as long.
 */
#define VHOST_BLK_QUICK_NS	(20 * NSEC_PER_USEC)

/*
 * How long a worker polls for the driver's next request, if VHOST_SET_VRING_BUSYLOOP_TIMEOUT
 * allows it: first, and at most. The vring cannot be stopped meanwhile.
 */
#define VHOST_BLK_POLL_MIN_NS	(4 * NSEC_PER_USEC)
#define VHOST_BLK_POLL_MAX_US	1000U

/**
 * struct vhost_blk_region - a region of the memory table
 * @start:  first guest address; ~0 if there is none
 * @last:   last guest address; 0 if there is none
 * @offset: what leads from a guest address to the owner's, modulo 2^64
 */
struct vhost_blk_region {
	u64 start;
	u64 last;
	u64 offset;
};

/**
 * struct vhost_blk_hints - regions of the memory table that were used last
 * @region: a guest often has two that matter, below and above 4 GiB
 * @oldest: the one to replace
 */
struct vhost_blk_hints {
	struct vhost_blk_region region[2];
	unsigned int oldest;
};

#define VHOST_BLK_HINTS_NONE	{ .region = { { .start = U64_MAX }, { .start = U64_MAX } } }

/**
 * struct vhost_blk_vq - one vring of a device
 * @vq:        vhost core's part; first
 * @queue:     what requests have to know of it
 * @slots:     one per vring entry, indexed by head; only while attached
 * @inflight:  slots in use
 * @in_pass:   the worker is in a pass over this vring and reaps at its end
 * @unsignalled: the driver has not been told of what is in the used ring
 * @quick:     what was in flight after the last pass began to end soon
 * @pass_end_ns: when the last pass was over
 * @poll_ns:   how long to poll for the driver's next request then
 * @stalled:   a pass ended because the backend was full; the next reap goes on
 * @kept:      requests that failed, for who serves the vring next; no more are fetched
 * @untranslated: the VMM was asked for an address; its answer goes on
 * @done:      requests to reap
 * @done_work: reaps them on the worker
 * @orphan_work: reaps them when the worker is gone
 * @stats:     counters, by struct vhost_blk_op.stat
 */
struct vhost_blk_vq {
	struct vhost_virtqueue vq;
	struct vhost_blk_queue queue;
	void *slots;
	unsigned int inflight;
	bool in_pass;
	bool unsignalled;
	bool quick;
	u64 pass_end_ns;
	u64 poll_ns;
	bool stalled;
	bool untranslated;
	struct llist_head done;
	struct llist_head kept;
	struct vhost_work done_work;
	struct work_struct orphan_work;
	struct vhost_blk_stat stats[VHOST_BLK_NR_STATS];
};

/**
 * struct vhost_blk - one open /dev/vhost-blk
 * @dev:        vhost core's part
 * @disk:       the backend; NULL while detached
 * @id:         number of the open, for tracing
 * @drain_wait: woken when a vring has nothing in flight any more
 * @vqs:        for vhost core
 * @bvqs:       the vrings; dev.nvqs of them
 */
struct vhost_blk {
	struct vhost_dev dev;
	struct vhost_blk_disk *disk;
	unsigned int id;
	wait_queue_head_t drain_wait;
	struct vhost_virtqueue *vqs[VHOST_BLK_MAX_VQS];
	struct vhost_blk_vq *bvqs[VHOST_BLK_MAX_VQS];
};

static inline struct vhost_blk *to_vhost_blk(struct vhost_blk_vq *bvq)
{
	return container_of(bvq->vq.dev, struct vhost_blk, dev);
}

/* blk-vq.c */
void vhost_blk_vq_init(struct vhost_blk_vq *bvq, unsigned int dev_id, unsigned int index);
void vhost_blk_vq_reset(struct vhost_blk_vq *bvq);
int vhost_blk_vq_start(struct vhost_blk_vq *bvq, struct vhost_blk_disk *disk);
void vhost_blk_vq_halt(struct vhost_blk_vq *bvq);
bool vhost_blk_vq_is_drained(struct vhost_blk_vq *bvq);
void vhost_blk_vq_put_back(struct vhost_blk_vq *bvq);
void vhost_blk_vq_free(struct vhost_blk_vq *bvq);

/* blk-desc.c */
bool vhost_blk_desc_is_empty(struct vhost_virtqueue *vq);
int vhost_blk_desc_get(struct vhost_virtqueue *vq, struct vhost_blk_hints *hints,
		       unsigned int *nr_out, unsigned int *nr_in);

/* blk-iotlb.c */
int vhost_blk_iotlb_msg(struct vhost_dev *dev, u32 asid, struct vhost_iotlb_msg *msg);
void vhost_blk_iotlb_forget(struct vhost_blk_vq *bvq);

#endif /* _VHOST_BLK_VQ_H */
