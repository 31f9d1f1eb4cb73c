// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost_blk, vrings: the two loops that run on a device's worker, one that
 * fetches requests from a vring and one that returns them, and what is recorded
 * on the way: the log of dirty guest memory and the counters.
 */
#include <linux/blkdev.h>
#include <linux/indirect_call_wrapper.h>
#include <linux/ioprio.h>
#include <linux/kthread.h>
#include <linux/nospec.h>
#include <linux/sched/stat.h>
#include <linux/slab.h>

#include "blk-vq.h"
#include "blk-compat.h"
#include "blk-pins.h"

#define CREATE_TRACE_POINTS
#include "blk-trace.h"

/* ---- the log of dirty guest memory, for live migration ---- */

/**
 * struct vhost_blk_log - the device-writable pieces of a chain
 * @bytes:  of all of them
 * @nr_log: how many, by guest physical address
 * @nr_iov: how many, by address in the owner; a piece that lies in several
 *          regions of the memory table is several here
 * @log:    guest physical
 * @iov:    in the owner's address space; behind @log, for use with an IOTLB
 */
struct vhost_blk_log {
	u64 bytes;
	unsigned int nr_log;
	unsigned int nr_iov;
	struct iovec *iov;
	struct vhost_log log[];
};

/*
 * What a request may write is known before it runs, that it is written only
 * afterwards. An error would be no way out: its status has to be logged, too.
 */
static void vhost_blk_log_save(struct vhost_blk_vq *bvq, struct vhost_blk_req *req,
			       const struct iovec *in, unsigned int nr_in,
			       unsigned int nr_log)
{
	struct vhost_blk_log *log;
	unsigned int i;

	log = kvmalloc(struct_size(log, log, nr_log) + nr_in * sizeof(*in),
		       GFP_KERNEL | __GFP_NOFAIL);
	log->nr_log = nr_log;
	log->nr_iov = nr_in;
	log->iov = (struct iovec *)&log->log[nr_log];
	memcpy(log->log, bvq->vq.log, nr_log * sizeof(*log->log));
	memcpy(log->iov, in, nr_in * sizeof(*in));
	log->bytes = 0;
	for (i = 0; i < nr_log; i++)
		log->bytes += log->log[i].len;
	req->log = log;
	atomic_inc(&bvq->queue.disk->copies);
}

static void vhost_blk_log_free(struct vhost_blk_vq *bvq, struct vhost_blk_req *req)
{
	kvfree(req->log);
	req->log = NULL;
	atomic_dec(&bvq->queue.disk->copies);
}

/* Everything that the request could write is written. */
static void vhost_blk_log_write(struct vhost_blk_vq *bvq, struct vhost_blk_req *req)
{
	struct vhost_virtqueue *vq = &bvq->vq;
	struct vhost_blk_log *log = req->log;

	/* vhost core takes it as a bug if nothing is to be logged. */
	if (log->bytes && vhost_log_write(vq, log->log, log->nr_log, log->bytes,
					  log->iov, log->nr_iov) < 0)
		vq_err(vq, "cannot log what head %u wrote\n", req->head);
	vhost_blk_log_free(bvq, req);
}

/* ---- one request ---- */

static struct vhost_blk_req *vhost_blk_slot(struct vhost_blk_vq *bvq, unsigned int head)
{
	return bvq->slots + head * bvq->queue.disk->ops->slot_bytes;
}

/* The slot of a head that was just fetched; NULL if the guest reused a live one. */
static struct vhost_blk_req *vhost_blk_req_get(struct vhost_blk_vq *bvq, unsigned int head)
{
	struct vhost_blk_req *req;

	head = array_index_nospec(head, bvq->vq.num);
	req = vhost_blk_slot(bvq, head);
	if (unlikely(req->busy))
		return NULL;
	req->busy = true;
	req->head = head;
	req->queue = &bvq->queue;
	req->op = NULL;
	req->in_bytes = 0;
	req->data_bytes = 0;
	req->start_ns = bvq->queue.now_ns;
	bvq->inflight++;
	return req;
}

static void vhost_blk_req_put(struct vhost_blk_vq *bvq, struct vhost_blk_req *req)
{
	if (unlikely(req->ranges))
		vhost_blk_req_ranges_free(req);
	req->busy = false;
	WRITE_ONCE(bvq->inflight, bvq->inflight - 1);
}

/**
 * vhost_blk_req_done - give a request to its queue for reaping
 * @req: a request with nothing in flight
 *
 * Context: any, also hard interrupt.
 */
void vhost_blk_req_done(struct vhost_blk_req *req)
{
	struct vhost_blk_vq *bvq = container_of(req->queue, struct vhost_blk_vq, queue);

	/*
	 * Once it is on the list it can be reaped, and the device freed: the drain
	 * waits for this section.
	 */
	rcu_read_lock_sched();
	/*
	 * llist_add() is a full barrier: either this sees the end of the pass,
	 * or the reap at its end sees the request. Both is harmless.
	 */
	if (llist_add(&req->done, &bvq->done) && !READ_ONCE(bvq->in_pass) &&
	    !vhost_blk_work_queue(&bvq->vq, &bvq->done_work))
		queue_work(system_unbound_wq, &bvq->orphan_work);
	rcu_read_unlock_sched();
}

/* Start what the guest asked for. Return: payload bytes, for the pass's weight. */
static u64 vhost_blk_req_start(struct vhost_blk_vq *bvq, unsigned int head,
			       unsigned int nr_out, unsigned int nr_in,
			       unsigned int nr_log)
{
	struct vhost_virtqueue *vq = &bvq->vq;
	struct vhost_blk_req *req = vhost_blk_req_get(bvq, head);
	u64 bytes;
	u8 status;

	if (unlikely(!req)) {
		vq_err(vq, "head %u published while it is in flight\n", head);
		trace_vhost_blk_error(&bvq->queue, head, -EEXIST);
		vhost_add_used_and_signal(vq->dev, vq, head, 0);
		return 0;
	}
	if (unlikely(vhost_has_feature(vq, VHOST_F_LOG_ALL)))
		vhost_blk_log_save(bvq, req, vq->iov + nr_out, nr_in, nr_log);
	status = vhost_blk_req_parse(req, vq->iov, nr_out, nr_in);
	if (unlikely(!req->status_addr))
		vq_err(vq, "head %u has no room for the status byte\n", head);
	bytes = req->data_bytes;
	if (likely(status == VIRTIO_BLK_S_OK)) {
		trace_vhost_blk_submit(req);
		INDIRECT_CALL_1(bvq->queue.disk->ops->execute[req->op->exec],
				vhost_blk_bdev_execute_rw, req);
	} else {
		vhost_blk_req_end(req, status);
	}
	return bytes;
}

static void vhost_blk_req_count(struct vhost_blk_vq *bvq, const struct vhost_blk_req *req,
				u64 now_ns)
{
	struct vhost_blk_stat *stat =
		&bvq->stats[req->op ? req->op->stat : VHOST_BLK_STAT(other)];
	unsigned int i;

	stat->ops++;
	stat->ns += now_ns - req->start_ns;
	if (unlikely(req->status != VIRTIO_BLK_S_OK)) {
		stat->errors++;
	} else if (unlikely(req->ranges)) {
		for (i = 0; i < req->nr_ranges; i++)
			stat->bytes += (u64)req->ranges[i].nr_sectors << VHOST_BLK_SECTOR_SHIFT;
	} else {
		stat->bytes += req->data_bytes;
	}
}

/* ---- requests that fail, where the VMM wants to know first ---- */

static bool vhost_blk_req_is_to_keep(const struct vhost_blk_req *req)
{
	u32 flags = req->queue->disk->flags;

	/* What a disk does not have is no failure: the guest is told so. */
	if (req->status != VIRTIO_BLK_S_IOERR)
		return false;
	if (req->op->type == VIRTIO_BLK_T_IN)
		return flags & VHOST_BLK_BACKEND_STOP_ON_READ_ERROR;
	return flags & VHOST_BLK_BACKEND_STOP_ON_WRITE_ERROR ||
	       (flags & VHOST_BLK_BACKEND_STOP_ON_ENOSPC && req->error == -ENOSPC);
}

/* The disk has failed a request. Return: true if the guest is not to know of it now. */
static bool vhost_blk_req_failed(struct vhost_blk_vq *bvq, struct vhost_blk_req *req)
{
	bool keep = vhost_blk_req_is_to_keep(req);

	trace_vhost_blk_error(req->queue, req->head, req->error);
	req->error = 0;
	if (!keep)
		return false;
	if (req->ranges)
		vhost_blk_req_ranges_free(req);
	llist_add(&req->done, &bvq->kept);
	WRITE_ONCE(bvq->inflight, bvq->inflight - 1);
	vq_err(&bvq->vq, "head %u failed on the disk, the vring stops\n", req->head);
	return true;
}

/* The VMM's dirty log knows guest addresses: find the one of a place in a vring. */
static int vhost_blk_log_user(struct vhost_virtqueue *vq, void __user *p, u64 bytes)
{
	struct vhost_iotlb_map *map;
	struct vhost_log log = { .len = bytes };

	if (!vhost_has_feature(vq, VHOST_F_LOG_ALL))
		return 0;
	list_for_each_entry(map, &vq->umem->list, link) {
		if ((unsigned long)p - map->addr >= map->size)
			continue;
		log.addr = map->start + ((unsigned long)p - map->addr);
		return vhost_log_write(vq, &log, 1, bytes, NULL, 0);
	}
	return -EFAULT;
}

/*
 * Make a request the last one that has not been fetched. The entry was fetched
 * long ago, and the driver cannot have used it again: it has as many entries as
 * descriptors, and this request still owns one.
 */
static int vhost_blk_req_put_back(struct vhost_blk_vq *bvq, const struct vhost_blk_req *req)
{
	struct vhost_virtqueue *vq = &bvq->vq;
	u16 last = vq->last_avail_idx - 1;
	__virtio16 __user *entry = &vq->avail->ring[last & (vq->num - 1)];

	if (put_user(cpu_to_vhost16(vq, req->head), entry) ||
	    vhost_blk_log_user(vq, entry, sizeof(*entry)))
		return -EFAULT;
	vq->last_avail_idx = last;
	return 0;
}

/**
 * vhost_blk_vq_put_back - leave requests that failed to who serves the vring next
 * @bvq: a vring that is drained
 *
 * Context: process, dev.mutex held. For another process than the owner, which can
 * only close the device, they are dropped, as what the guest has not yet published.
 */
void vhost_blk_vq_put_back(struct vhost_blk_vq *bvq)
{
	struct vhost_virtqueue *vq = &bvq->vq;
	struct llist_node *list = llist_del_all(&bvq->kept);
	struct vhost_blk_req *req;
	u32 len;

	if (!list)
		return;
	mutex_lock(&vq->mutex);
	llist_for_each_entry(req, list, done) {
		req->busy = false;
		if (current->mm == vq->dev->mm && vhost_blk_req_put_back(bvq, req)) {
			/* It must not be lost: the guest learns of it after all. */
			len = vhost_blk_req_status_put(req);
			if (req->log)
				vhost_blk_log_write(bvq, req);
			vhost_add_used_and_signal(vq->dev, vq, req->head, len);
		} else if (req->log) {
			vhost_blk_log_free(bvq, req);
		}
	}
	mutex_unlock(&vq->mutex);
}

/* ---- the loops ---- */

/*
 * Has the VMM translated what the vring needs? It is asked once: however often
 * the guest kicks, what waits for the VMM does not grow.
 */
static bool vhost_blk_vq_is_mapped(struct vhost_blk_vq *bvq)
{
	if (likely(!bvq->vq.iotlb))
		return true;
	if (!bvq->untranslated)
		bvq->untranslated = !vq_meta_prefetch(&bvq->vq);
	return !bvq->untranslated;
}

/*
 * Can requests be returned to it? If not, the pass that the VMM's answer starts
 * returns them. That descriptors wait for one as well is no reason to wait.
 */
static bool vhost_blk_vq_is_writable(struct vhost_blk_vq *bvq)
{
	if (bvq->vq.meta_iotlb[VHOST_ADDR_USED] || vq_meta_prefetch(&bvq->vq))
		return true;
	bvq->untranslated = true;
	return false;
}

/*
 * Return requests to the guest: status bytes, then one used ring update for all of
 * them. vhost_blk_signal() has to follow.
 */
static void vhost_blk_reap(struct vhost_blk_vq *bvq, u64 now_ns)
{
	struct vhost_virtqueue *vq = &bvq->vq;
	struct vhost_blk_req *req, *next;
	struct llist_node *list;
	unsigned int nr = 0;

	lockdep_assert_held(&vq->mutex);

	/* A vring that is stopped has no next pass, and must drain. */
	if (unlikely(vq->iotlb) && !vhost_blk_vq_is_writable(bvq) && vhost_vq_get_backend(vq))
		return;
	list = llist_reverse_order(llist_del_all(&bvq->done));
	if (!list)
		return;
	llist_for_each_entry_safe(req, next, list, done) {
		if (!INDIRECT_CALL_1(bvq->queue.disk->ops->reap, vhost_blk_bdev_reap, req))
			continue;
		if (unlikely(req->error) && vhost_blk_req_failed(bvq, req))
			continue;
		vq->heads[nr].id = cpu_to_vhost32(vq, req->head);
		vq->heads[nr].len = cpu_to_vhost32(vq, vhost_blk_req_status_put(req));
		if (unlikely(req->log))
			vhost_blk_log_write(bvq, req);
		vhost_blk_req_count(bvq, req, now_ns);
		trace_vhost_blk_complete(req, now_ns - req->start_ns);
		vhost_blk_req_put(bvq, req);
		nr++;
	}
	if (nr) {
		vhost_blk_add_used_n(vq, vq->heads, nr);
		bvq->unsignalled = true;
	}
	if (unlikely(bvq->stalled)) {
		bvq->stalled = false;
		vhost_poll_queue(&vq->poll);
	}
	if (!bvq->inflight && wq_has_sleeper(&to_vhost_blk(bvq)->drain_wait))
		wake_up(&to_vhost_blk(bvq)->drain_wait);
}

static void vhost_blk_signal(struct vhost_blk_vq *bvq)
{
	if (!bvq->unsignalled)
		return;
	bvq->unsignalled = false;
	vhost_signal(bvq->vq.dev, &bvq->vq);
}

/* Reap what has ended after a pass. */
static void vhost_blk_reap_late(struct vhost_blk_vq *bvq, u64 now_ns)
{
	vhost_blk_reap(bvq, now_ns);
	bvq->quick = now_ns - bvq->pass_end_ns <= VHOST_BLK_QUICK_NS;
}

static void vhost_blk_handle_done(struct vhost_work *work)
{
	struct vhost_blk_vq *bvq = container_of(work, struct vhost_blk_vq, done_work);

	mutex_lock(&bvq->vq.mutex);
	vhost_blk_reap_late(bvq, ktime_get_ns());
	vhost_blk_signal(bvq);
	mutex_unlock(&bvq->vq.mutex);
}

/*
 * A worker that is a thread of the owner dies with it, while I/O is still in
 * flight. The device keeps the owner's mm until it is cleaned up.
 */
static void vhost_blk_handle_orphans(struct work_struct *work)
{
	struct vhost_blk_vq *bvq = container_of(work, struct vhost_blk_vq, orphan_work);
	struct mm_struct *mm = bvq->queue.mm;

	kthread_use_mm(mm);
	vhost_blk_handle_done(&bvq->done_work);
	kthread_unuse_mm(mm);
}

/*
 * Fetch and start requests until the vring is empty, broken or has had its share.
 * Return: true if it is empty.
 */
static bool vhost_blk_fetch(struct vhost_blk_vq *bvq, unsigned int *nr)
{
	struct vhost_virtqueue *vq = &bvq->vq;
	struct vhost_log *log = vhost_has_feature(vq, VHOST_F_LOG_ALL) ? vq->log : NULL;
	/* An iov_base has to hold a guest address. */
	const bool usual = IS_ENABLED(CONFIG_64BIT) && bvq->queue.little_endian && !log &&
			   !vq->iotlb;
	struct vhost_blk_hints hints = VHOST_BLK_HINTS_NONE;
	unsigned int nr_out, nr_in, nr_log = 0;
	u64 bytes = 0;
	int head;

	do {
		/* With nothing in flight here, others hold it all: be modest and go on. */
		if (unlikely(bvq->inflight && vhost_blk_disk_is_full(bvq->queue.disk))) {
			bvq->stalled = true;
			return false;
		}
		head = usual ? vhost_blk_desc_get(vq, &hints, &nr_out, &nr_in) : -EAGAIN;
		if (unlikely(head < 0))
			head = vhost_get_vq_desc(vq, vq->iov, ARRAY_SIZE(vq->iov),
						 &nr_out, &nr_in, log, &nr_log);
		/*
		 * Broken: vhost core signalled the error eventfd. Wait for a kick.
		 * Or not translated: vhost core asked the VMM, whose answer kicks.
		 */
		if (unlikely(head < 0)) {
			bvq->untranslated = vq->iotlb && head == -EAGAIN;
			trace_vhost_blk_error(&bvq->queue, -1, head);
			return false;
		}
		if (head == vq->num)
			return true;
		bvq->queue.nr_ready = (u16)(vq->avail_idx - vq->last_avail_idx) + 1;
		bytes += vhost_blk_req_start(bvq, head, nr_out, nr_in, nr_log);
	} while (++*nr < VHOST_BLK_PASS_REQS && bytes < VHOST_BLK_PASS_BYTES);
	vhost_poll_queue(&vq->poll);
	return false;
}

/*
 * A pass begins: would it have paid to poll for its first request? As an iothread of
 * QEMU does it: more and more while requests come soon enough, not at all if not.
 */
static void vhost_blk_poll_adapt(struct vhost_blk_vq *bvq)
{
	u32 max_us = min(bvq->vq.busyloop_timeout, VHOST_BLK_POLL_MAX_US);
	u64 max_ns = max_us * NSEC_PER_USEC, waited_ns = bvq->queue.now_ns - bvq->pass_end_ns;

	if (waited_ns > max_ns)
		bvq->poll_ns = 0;
	else if (waited_ns > bvq->poll_ns)
		bvq->poll_ns = clamp(2 * bvq->poll_ns, VHOST_BLK_POLL_MIN_NS, max_ns);
}

/*
 * Nothing is left to fetch. If what is in flight will soon end, stay awake for it, as
 * long as no other task wants this CPU: to sleep and to be woken takes longer. The same
 * for the driver's next request, if the VMM wants that, until the scheduler objects.
 * Other work of the worker always comes first.
 *
 * Where but little of a pass with @nr requests is in flight, the driver is told once, of
 * all; it can see in the used ring what has ended before.
 */
static void vhost_blk_linger(struct vhost_blk_vq *bvq, unsigned int nr)
{
	struct vhost_virtqueue *vq = &bvq->vq;
	u64 now_ns = bvq->pass_end_ns, spent_ns;
	bool soon;

	/* Without a translation nothing can be reaped. */
	if (vq->iotlb)
		return;
	for (;;) {
		spent_ns = now_ns - bvq->pass_end_ns;
		soon = bvq->quick && bvq->inflight && spent_ns < VHOST_BLK_QUICK_NS;
		if (!soon || bvq->inflight > nr / 4)
			vhost_blk_signal(bvq);
		if (spent_ns >= bvq->poll_ns && !(soon && single_task_running()))
			break;
		if (need_resched() || vhost_blk_has_work(vq) || !vhost_blk_desc_is_empty(vq))
			break;
		cpu_relax();
		now_ns = ktime_get_ns();
		if (!llist_empty(&bvq->done))
			vhost_blk_reap_late(bvq, now_ns);
	}
}

/*
 * A pass is over. If something was done in it, look once more before asking the driver
 * for a kick, when the driver has had the time to go on, if it shares this CPU, and the
 * worker's other vrings their turn.
 */
static void vhost_blk_idle(struct vhost_blk_vq *bvq, bool active)
{
	struct vhost_virtqueue *vq = &bvq->vq;

	if (!active) {
		if (likely(!vhost_enable_notify(vq->dev, vq)))
			return;
		vhost_disable_notify(vq->dev, vq);
	}
	vhost_poll_queue(&vq->poll);
}

/* Return: true if the vring has been found empty; in @nr, how much was fetched before. */
static bool vhost_blk_pass(struct vhost_blk_vq *bvq, struct vhost_blk_disk *disk,
			   unsigned int *nr)
{
	struct vhost_virtqueue *vq = &bvq->vq;
	struct blk_plug plug;
	bool empty;

	bvq->queue.features = vq->acked_features;
	bvq->queue.little_endian = vhost_is_little_endian(vq);
	bvq->queue.now_ns = ktime_get_ns();
	vhost_blk_poll_adapt(bvq);
	bvq->queue.ioprio = get_current_ioprio();
	disk->ops->limits(disk, &bvq->queue.limits);
	trace_vhost_blk_kick(&bvq->queue);

	WRITE_ONCE(bvq->in_pass, true);
	blk_start_plug(&plug);
	empty = vhost_blk_fetch(bvq, nr);
	blk_finish_plug(&plug);
	bvq->pass_end_ns = ktime_get_ns();
	vhost_blk_reap(bvq, bvq->pass_end_ns);
	if (empty)
		vhost_blk_linger(bvq, *nr);
	WRITE_ONCE(bvq->in_pass, false);
	/* Pairs with the barrier in vhost_blk_req_done(). */
	smp_mb();
	return empty;
}

static void vhost_blk_handle_vq(struct vhost_blk_vq *bvq)
{
	struct vhost_virtqueue *vq = &bvq->vq;
	struct vhost_blk_disk *disk;
	unsigned int nr = 0;
	bool empty = true;

	mutex_lock(&vq->mutex);
	/* Once stopped, requests in flight still need the queue as it is. */
	disk = vhost_vq_get_backend(vq);
	if (!disk || unlikely(!vhost_blk_vq_is_mapped(bvq) || !llist_empty(&bvq->kept)))
		goto unlock;

	vhost_disable_notify(vq->dev, vq);
	/* Often it is empty: see vhost_blk_idle(). */
	if (!vhost_blk_desc_is_empty(vq))
		empty = vhost_blk_pass(bvq, disk, &nr);
	if (!llist_empty(&bvq->done))
		vhost_blk_reap_late(bvq, ktime_get_ns());
	vhost_blk_signal(bvq);
	if (empty)
		vhost_blk_idle(bvq, nr);
unlock:
	mutex_unlock(&vq->mutex);
}

static void vhost_blk_handle_kick(struct vhost_work *work)
{
	struct vhost_virtqueue *vq = container_of(work, struct vhost_virtqueue, poll.work);

	vhost_blk_handle_vq(container_of(vq, struct vhost_blk_vq, vq));
}

/* ---- start and stop ---- */

/**
 * vhost_blk_vq_init - prepare a vring of a new device, before vhost_dev_init()
 * @bvq:    the vring, all zeroes
 * @dev_id: number of the device
 * @index:  number of the vring
 */
void vhost_blk_vq_init(struct vhost_blk_vq *bvq, unsigned int dev_id, unsigned int index)
{
	bvq->queue.dev_id = dev_id;
	bvq->queue.index = index;
	bvq->vq.handle_kick = vhost_blk_handle_kick;
	init_llist_head(&bvq->done);
	init_llist_head(&bvq->kept);
	vhost_work_init(&bvq->done_work, vhost_blk_handle_done);
	INIT_WORK(&bvq->orphan_work, vhost_blk_handle_orphans);
}

/**
 * vhost_blk_vq_reset - forget what an owner said and did
 * @bvq: a vring that is not started
 */
void vhost_blk_vq_reset(struct vhost_blk_vq *bvq)
{
	bvq->queue.write_through = false;
	memset(bvq->queue.serial, 0, sizeof(bvq->queue.serial));
	memset(bvq->stats, 0, sizeof(bvq->stats));
}

/**
 * vhost_blk_vq_start - let the worker serve a vring that has addresses
 * @bvq:  the vring
 * @disk: the backend
 *
 * Context: process, dev.mutex and vq.mutex held. vhost_blk_vq_free() has to
 * follow, also after an error.
 *
 * Return: 0, or -EFAULT the rings or the log cannot be accessed, -EINVAL the
 * ring is too large, -ENOMEM.
 */
int vhost_blk_vq_start(struct vhost_blk_vq *bvq, struct vhost_blk_disk *disk)
{
	struct vhost_virtqueue *vq = &bvq->vq;
	int ret;

	lockdep_assert_held(&vq->mutex);

	if (!vhost_vq_access_ok(vq))
		return -EFAULT;
	if (vq->num > VHOST_BLK_MAX_VQ_SIZE)
		return -EINVAL;
	bvq->slots = kvcalloc(vq->num, disk->ops->slot_bytes, GFP_KERNEL_ACCOUNT);
	if (!bvq->slots)
		return -ENOMEM;

	bvq->untranslated = false;
	vhost_blk_iotlb_forget(bvq);
	bvq->queue.disk = disk;
	bvq->queue.mm = vq->dev->mm;
	if (disk->ops->pins_pages)
		bvq->queue.pins = vhost_blk_pins_create(vq->dev->mm);
	vhost_vq_set_backend(vq, disk);
	ret = vhost_vq_init_access(vq);
	if (!ret && vq->kick)
		ret = vhost_poll_start(&vq->poll, vq->kick);
	return ret;
}

/**
 * vhost_blk_vq_halt - fetch no more requests
 * @bvq: the vring
 *
 * Those in flight go on; passes that are under way are over after
 * vhost_dev_flush().
 *
 * Context: process, dev.mutex held.
 */
void vhost_blk_vq_halt(struct vhost_blk_vq *bvq)
{
	struct vhost_virtqueue *vq = &bvq->vq;

	mutex_lock(&vq->mutex);
	vhost_vq_set_backend(vq, NULL);
	/* What waits for a translation of the used ring waits no longer. */
	if (vq->iotlb && bvq->slots && !vhost_blk_work_queue(vq, &bvq->done_work))
		queue_work(system_unbound_wq, &bvq->orphan_work);
	mutex_unlock(&vq->mutex);
}

bool vhost_blk_vq_is_drained(struct vhost_blk_vq *bvq)
{
	return !READ_ONCE(bvq->inflight);
}

/**
 * vhost_blk_vq_free - give back what vhost_blk_vq_start() took
 * @bvq: a vring that is drained, or was never started
 *
 * Context: process, dev.mutex held, and no work of the device running.
 */
void vhost_blk_vq_free(struct vhost_blk_vq *bvq)
{
	flush_work(&bvq->orphan_work);
	vhost_blk_pins_destroy(bvq->queue.pins);
	bvq->queue.pins = NULL;
	kvfree(bvq->slots);
	bvq->slots = NULL;
	bvq->queue.disk = NULL;
}
