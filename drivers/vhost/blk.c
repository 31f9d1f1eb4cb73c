// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost_blk: in-kernel virtio-blk backend.
 *
 * This file is the control side: the character device and its ioctls, attach
 * and drain, and the two loops that run on the device's worker, one that
 * fetches requests from a vring and one that returns them.
 */
#include <linux/blkdev.h>
#include <linux/kthread.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/nospec.h>
#include <linux/slab.h>
#include <linux/vhost.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <uapi/linux/virtio_blk.h>

#include "vhost.h"
#include "blk.h"
#include "blk-compat.h"

/*
 * One pass over a vring ends after this many requests or bytes, so that the
 * other vrings of the worker get their turn.
 */
#define VHOST_BLK_PASS_REQS	256
#define VHOST_BLK_PASS_BYTES	SZ_8M

/* Offered only where code implements it: no VHOST_F_LOG_ALL, no ACCESS_PLATFORM. */
#define VHOST_BLK_FEATURES (BIT_ULL(VIRTIO_F_VERSION_1) |		\
			    BIT_ULL(VIRTIO_F_ANY_LAYOUT) |		\
			    BIT_ULL(VIRTIO_F_NOTIFY_ON_EMPTY) |		\
			    BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC) |	\
			    BIT_ULL(VIRTIO_RING_F_EVENT_IDX) |		\
			    BIT_ULL(VIRTIO_BLK_F_SIZE_MAX) |		\
			    BIT_ULL(VIRTIO_BLK_F_SEG_MAX) |		\
			    BIT_ULL(VIRTIO_BLK_F_RO) |			\
			    BIT_ULL(VIRTIO_BLK_F_BLK_SIZE) |		\
			    BIT_ULL(VIRTIO_BLK_F_FLUSH) |		\
			    BIT_ULL(VIRTIO_BLK_F_TOPOLOGY) |		\
			    BIT_ULL(VIRTIO_BLK_F_MQ))

/**
 * struct vhost_blk_vq - one vring of a device
 * @vq:        vhost core's part; first
 * @queue:     what requests have to know of it
 * @slots:     one per vring entry, indexed by head; only while attached
 * @inflight:  slots in use
 * @in_pass:   the worker is in a pass over this vring and reaps at its end
 * @stalled:   a pass ended because the backend was full; the next reap goes on
 * @done:      requests to reap
 * @done_work: reaps them on the worker
 * @orphan_work: reaps them when the worker is gone
 */
struct vhost_blk_vq {
	struct vhost_virtqueue vq;
	struct vhost_blk_queue queue;
	void *slots;
	unsigned int inflight;
	bool in_pass;
	bool stalled;
	struct llist_head done;
	struct vhost_work done_work;
	struct work_struct orphan_work;
};

/**
 * struct vhost_blk - one open /dev/vhost-blk
 * @dev:        vhost core's part
 * @bdev:       the backend; NULL while detached
 * @drain_wait: woken when a vring has nothing in flight any more
 * @vqs:        for vhost core
 * @bvqs:       the vrings
 */
struct vhost_blk {
	struct vhost_dev dev;
	struct vhost_blk_bdev *bdev;
	wait_queue_head_t drain_wait;
	struct vhost_virtqueue *vqs[VHOST_BLK_MAX_VQS];
	struct vhost_blk_vq bvqs[VHOST_BLK_MAX_VQS];
};

static struct vhost_blk *to_vhost_blk(struct vhost_blk_vq *bvq)
{
	return container_of(bvq->vq.dev, struct vhost_blk, dev);
}

/* ---- one request ---- */

static struct vhost_blk_req *vhost_blk_slot(struct vhost_blk_vq *bvq, unsigned int head)
{
	return bvq->slots + head * vhost_blk_bdev_slot_bytes;
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
	bvq->inflight++;
	return req;
}

static void vhost_blk_req_put(struct vhost_blk_vq *bvq, struct vhost_blk_req *req)
{
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
	 * llist_add() is a full barrier: either this sees the end of the pass,
	 * or the reap at its end sees the request. Both is harmless.
	 */
	if (!llist_add(&req->done, &bvq->done) || READ_ONCE(bvq->in_pass))
		return;
	if (!vhost_blk_work_queue(&bvq->vq, &bvq->done_work))
		queue_work(system_unbound_wq, &bvq->orphan_work);
}

/* Start what the guest asked for. Return: payload bytes, for the pass's weight. */
static u64 vhost_blk_req_start(struct vhost_blk_vq *bvq, unsigned int head,
			       unsigned int nr_out, unsigned int nr_in)
{
	struct vhost_virtqueue *vq = &bvq->vq;
	struct vhost_blk_req *req = vhost_blk_req_get(bvq, head);
	u64 bytes;
	u8 status;

	if (unlikely(!req)) {
		vq_err(vq, "head %u published while it is in flight\n", head);
		vhost_add_used_and_signal(vq->dev, vq, head, 0);
		return 0;
	}
	status = vhost_blk_req_parse(req, vq->iov, nr_out, nr_in);
	if (unlikely(!req->status_addr))
		vq_err(vq, "head %u has no room for the status byte\n", head);
	bytes = req->data_bytes;
	if (likely(status == VIRTIO_BLK_S_OK))
		req->op->execute(req);
	else
		vhost_blk_req_end(req, status);
	return bytes;
}

/* ---- the loops ---- */

/*
 * Return requests to the guest: status bytes, then one used ring update and
 * one signal for all of them.
 */
static void vhost_blk_reap(struct vhost_blk_vq *bvq)
{
	struct vhost_virtqueue *vq = &bvq->vq;
	struct vhost_blk_req *req, *next;
	struct llist_node *list;
	unsigned int nr = 0;

	lockdep_assert_held(&vq->mutex);

	list = llist_reverse_order(llist_del_all(&bvq->done));
	llist_for_each_entry_safe(req, next, list, done) {
		if (!vhost_blk_bdev_reap(req))
			continue;
		vq->heads[nr].id = cpu_to_vhost32(vq, req->head);
		vq->heads[nr].len = cpu_to_vhost32(vq, vhost_blk_req_status_put(req));
		vhost_blk_req_put(bvq, req);
		nr++;
	}
	if (!nr)
		return;
	vhost_blk_add_used_and_signal_n(vq, vq->heads, nr);
	if (unlikely(bvq->stalled)) {
		bvq->stalled = false;
		vhost_poll_queue(&vq->poll);
	}
	if (!bvq->inflight)
		wake_up(&to_vhost_blk(bvq)->drain_wait);
}

static void vhost_blk_handle_done(struct vhost_work *work)
{
	struct vhost_blk_vq *bvq = container_of(work, struct vhost_blk_vq, done_work);

	mutex_lock(&bvq->vq.mutex);
	vhost_blk_reap(bvq);
	mutex_unlock(&bvq->vq.mutex);
}

/*
 * A worker that is a thread of the owner dies with it, while I/O is still in
 * flight. The device keeps the owner's mm until it is cleaned up.
 */
static void vhost_blk_handle_orphans(struct work_struct *work)
{
	struct vhost_blk_vq *bvq = container_of(work, struct vhost_blk_vq, orphan_work);
	struct mm_struct *mm = bvq->vq.dev->mm;

	kthread_use_mm(mm);
	vhost_blk_handle_done(&bvq->done_work);
	kthread_unuse_mm(mm);
}

/* Fetch and start requests until the vring is empty, broken or has had its share. */
static void vhost_blk_fetch(struct vhost_blk_vq *bvq)
{
	struct vhost_virtqueue *vq = &bvq->vq;
	unsigned int nr_out, nr_in;
	int head, nr = 0;
	u64 bytes = 0;

	do {
		/* With nothing in flight here, others hold it all: be modest and go on. */
		if (unlikely(bvq->inflight && vhost_blk_bdev_is_full(bvq->queue.bdev))) {
			bvq->stalled = true;
			break;
		}
		head = vhost_get_vq_desc(vq, vq->iov, ARRAY_SIZE(vq->iov),
					 &nr_out, &nr_in, NULL, NULL);
		/* Broken: vhost core signalled the error eventfd. Wait for a kick. */
		if (unlikely(head < 0))
			break;
		if (head == vq->num) {
			if (likely(!vhost_enable_notify(vq->dev, vq)))
				break;
			vhost_disable_notify(vq->dev, vq);
			continue;
		}
		bytes += vhost_blk_req_start(bvq, head, nr_out, nr_in);
	} while (!vhost_exceeds_weight(vq, ++nr, min_t(u64, bytes, INT_MAX)));
}

static void vhost_blk_handle_vq(struct vhost_blk_vq *bvq)
{
	struct vhost_virtqueue *vq = &bvq->vq;
	struct vhost_blk_bdev *bdev;
	struct blk_plug plug;

	mutex_lock(&vq->mutex);
	/* Once stopped, requests in flight still need the queue as it is. */
	bdev = vhost_vq_get_backend(vq);
	if (!bdev)
		goto unlock;

	bvq->queue.bdev = bdev;
	bvq->queue.features = vq->acked_features;
	bvq->queue.little_endian = vhost_is_little_endian(vq);
	vhost_blk_bdev_limits(bdev, &bvq->queue.limits);
	vhost_disable_notify(vq->dev, vq);

	WRITE_ONCE(bvq->in_pass, true);
	blk_start_plug(&plug);
	vhost_blk_fetch(bvq);
	blk_finish_plug(&plug);
	WRITE_ONCE(bvq->in_pass, false);
	/* Pairs with the barrier in vhost_blk_req_done(). */
	smp_mb();
	vhost_blk_reap(bvq);
unlock:
	mutex_unlock(&vq->mutex);
}

static void vhost_blk_handle_kick(struct vhost_work *work)
{
	struct vhost_virtqueue *vq = container_of(work, struct vhost_virtqueue, poll.work);

	vhost_blk_handle_vq(container_of(vq, struct vhost_blk_vq, vq));
}

/* ---- attach and drain ---- */

static bool vhost_blk_vq_is_drained(struct vhost_blk_vq *bvq)
{
	return !READ_ONCE(bvq->inflight);
}

/*
 * Stop all vrings and let the backend go. Returns when every request that was
 * fetched is back in its used ring and nothing refers to the backend.
 */
static void vhost_blk_stop(struct vhost_blk *blk)
{
	unsigned int i;

	lockdep_assert_held(&blk->dev.mutex);
	if (!blk->bdev)
		return;

	for (i = 0; i < ARRAY_SIZE(blk->bvqs); i++) {
		struct vhost_virtqueue *vq = &blk->bvqs[i].vq;

		mutex_lock(&vq->mutex);
		vhost_vq_set_backend(vq, NULL);
		vhost_poll_stop(&vq->poll);
		mutex_unlock(&vq->mutex);
	}
	/* Passes that saw the backend are over after this, so inflight only falls. */
	vhost_dev_flush(&blk->dev);
	for (i = 0; i < ARRAY_SIZE(blk->bvqs); i++)
		wait_event(blk->drain_wait, vhost_blk_vq_is_drained(&blk->bvqs[i]));
	/* The reap that ended the last request may still be touching its vring. */
	vhost_dev_flush(&blk->dev);

	for (i = 0; i < ARRAY_SIZE(blk->bvqs); i++) {
		flush_work(&blk->bvqs[i].orphan_work);
		kvfree(blk->bvqs[i].slots);
		blk->bvqs[i].slots = NULL;
		blk->bvqs[i].queue.bdev = NULL;
	}
	vhost_blk_bdev_detach(blk->bdev);
	vhost_blk_bdev_put(blk->bdev);
	blk->bdev = NULL;
}

static int vhost_blk_vq_start(struct vhost_blk_vq *bvq, struct vhost_blk_bdev *bdev)
{
	struct vhost_virtqueue *vq = &bvq->vq;
	int ret;

	lockdep_assert_held(&vq->mutex);

	if (!vhost_vq_access_ok(vq))
		return -EFAULT;
	if (vq->num > VHOST_BLK_MAX_VQ_SIZE)
		return -EINVAL;
	bvq->slots = kvcalloc(vq->num, vhost_blk_bdev_slot_bytes, GFP_KERNEL_ACCOUNT);
	if (!bvq->slots)
		return -ENOMEM;

	vhost_vq_set_backend(vq, bdev);
	ret = vhost_vq_init_access(vq);
	if (!ret && vq->kick)
		ret = vhost_poll_start(&vq->poll, vq->kick);
	return ret;
}

/* Start every vring that has addresses. */
static int vhost_blk_start(struct vhost_blk *blk)
{
	unsigned int i, nr_started = 0;
	int ret = 0;

	for (i = 0; i < ARRAY_SIZE(blk->bvqs) && !ret; i++) {
		struct vhost_virtqueue *vq = &blk->bvqs[i].vq;

		mutex_lock(&vq->mutex);
		if (vq->desc && vq->avail && vq->used) {
			ret = vhost_blk_vq_start(&blk->bvqs[i], blk->bdev);
			nr_started++;
		}
		mutex_unlock(&vq->mutex);
	}
	if (!ret && !nr_started)
		ret = -EINVAL;
	return ret;
}

/* Kicks before the attach were lost: look at every vring once. */
static void vhost_blk_kick_all(struct vhost_blk *blk)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(blk->bvqs); i++)
		if (blk->bvqs[i].slots)
			vhost_poll_queue(&blk->bvqs[i].vq.poll);
}

static int vhost_blk_attach(struct vhost_blk *blk, int fd)
{
	struct vhost_blk_bdev *bdev;
	int ret;

	if (blk->bdev)
		return -EBUSY;
	bdev = vhost_blk_bdev_get(fd);
	if (IS_ERR(bdev))
		return PTR_ERR(bdev);
	ret = vhost_blk_bdev_attach(bdev);
	if (ret)
		goto put_bdev;

	blk->bdev = bdev;
	ret = vhost_blk_start(blk);
	if (ret) {
		vhost_blk_stop(blk);
		return ret;
	}
	vhost_blk_kick_all(blk);
	return 0;

put_bdev:
	vhost_blk_bdev_put(bdev);
	return ret;
}

/* ---- ioctls: all but GET_FEATURES and QUERY_BACKEND are for the owner ---- */

/**
 * vhost_blk_set_backend - VHOST_BLK_SET_BACKEND
 * @blk:  the device
 * @argp: struct vhost_blk_backend
 *
 * Context: process, dev.mutex held; a detach waits for the block device.
 *
 * Return: 0, or -EFAULT; -EINVAL flags, no vring set up, a vring larger than
 * VHOST_BLK_MAX_VQ_SIZE, or an fd that is not open for reading; -EBADF;
 * -ENOTBLK; -EOPNOTSUPP zoned device; -EBUSY attached already; -ENOMEM.
 */
static long vhost_blk_set_backend(struct vhost_blk *blk, void __user *argp)
{
	struct vhost_blk_backend backend;

	if (copy_from_user(&backend, argp, sizeof(backend)))
		return -EFAULT;
	if (backend.flags)
		return -EINVAL;
	if (backend.fd != -1)
		return vhost_blk_attach(blk, backend.fd);
	vhost_blk_stop(blk);
	return 0;
}

static long vhost_blk_set_serial(struct vhost_blk *blk, void __user *argp)
{
	struct vhost_blk_serial serial;
	unsigned int i;

	if (copy_from_user(&serial, argp, sizeof(serial)))
		return -EFAULT;
	for (i = 0; i < ARRAY_SIZE(blk->bvqs); i++) {
		struct vhost_blk_vq *bvq = &blk->bvqs[i];

		mutex_lock(&bvq->vq.mutex);
		memcpy(bvq->queue.serial, serial.serial, sizeof(serial.serial));
		mutex_unlock(&bvq->vq.mutex);
	}
	return 0;
}

static long vhost_blk_set_features(struct vhost_blk *blk, void __user *argp)
{
	u64 features;
	unsigned int i;

	if (copy_from_user(&features, argp, sizeof(features)))
		return -EFAULT;
	if (features & ~VHOST_BLK_FEATURES)
		return -EOPNOTSUPP;
	/* A ring's layout and byte order are not to change under its requests. */
	if (blk->bdev && features != blk->bvqs[0].vq.acked_features)
		return -EBUSY;
	for (i = 0; i < ARRAY_SIZE(blk->bvqs); i++) {
		struct vhost_virtqueue *vq = &blk->bvqs[i].vq;

		mutex_lock(&vq->mutex);
		vq->acked_features = features;
		mutex_unlock(&vq->mutex);
	}
	return 0;
}

static long vhost_blk_reset_owner(struct vhost_blk *blk, void __user *argp)
{
	struct vhost_iotlb *umem = vhost_dev_reset_owner_prepare();
	unsigned int i;

	if (!umem)
		return -ENOMEM;
	vhost_blk_stop(blk);
	vhost_dev_stop(&blk->dev);
	vhost_dev_reset_owner(&blk->dev, umem);
	for (i = 0; i < ARRAY_SIZE(blk->bvqs); i++)
		memset(&blk->bvqs[i].queue, 0, sizeof(blk->bvqs[i].queue));
	return 0;
}

static long vhost_blk_get_features(void __user *argp)
{
	u64 features = VHOST_BLK_FEATURES;

	return copy_to_user(argp, &features, sizeof(features)) ? -EFAULT : 0;
}

/**
 * vhost_blk_query_backend - VHOST_BLK_QUERY_BACKEND
 * @argp: struct vhost_blk_query
 *
 * Context: process; may sleep. Any process may ask, before SET_OWNER too.
 *
 * Return: 0, or -EFAULT; -EINVAL flags or an fd that is not open for reading;
 * -EBADF; -ENOTBLK; -EOPNOTSUPP zoned device; -ENOMEM.
 */
static long vhost_blk_query_backend(void __user *argp)
{
	struct vhost_blk_query query;
	struct vhost_blk_bdev *bdev;

	if (copy_from_user(&query, argp, sizeof(query)))
		return -EFAULT;
	if (query.flags)
		return -EINVAL;
	bdev = vhost_blk_bdev_get(query.fd);
	if (IS_ERR(bdev))
		return PTR_ERR(bdev);
	query.features = VHOST_BLK_FEATURES;
	vhost_blk_bdev_query(bdev, &query);
	vhost_blk_bdev_put(bdev);
	return copy_to_user(argp, &query, sizeof(query)) ? -EFAULT : 0;
}

/* vhost core reads a vring index from the argument of whatever it is given. */
static bool vhost_blk_is_vring_ioctl(unsigned int cmd)
{
	return _IOC_TYPE(cmd) == VHOST_VIRTIO &&
	       _IOC_NR(cmd) >= _IOC_NR(VHOST_SET_VRING_NUM) &&
	       _IOC_NR(cmd) <= _IOC_NR(VHOST_GET_VRING_BUSYLOOP_TIMEOUT);
}

static long vhost_blk_core_ioctl(struct vhost_blk *blk, unsigned int cmd,
				 void __user *argp)
{
	long ret = vhost_dev_ioctl(&blk->dev, cmd, argp);

	if (ret == -ENOIOCTLCMD)
		ret = vhost_blk_worker_ioctl(&blk->dev, cmd, argp);
	if (ret == -ENOIOCTLCMD && vhost_blk_is_vring_ioctl(cmd))
		return vhost_vring_ioctl(&blk->dev, cmd, argp);
	/* A pass that is under way may have used what was replaced. */
	vhost_dev_flush(&blk->dev);
	return ret;
}

static const struct {
	unsigned int cmd;
	long (*fn)(struct vhost_blk *blk, void __user *argp);
} vhost_blk_owner_ioctls[] = {
	{ VHOST_BLK_SET_BACKEND, vhost_blk_set_backend },
	{ VHOST_BLK_SET_SERIAL, vhost_blk_set_serial },
	{ VHOST_SET_FEATURES, vhost_blk_set_features },
	{ VHOST_RESET_OWNER, vhost_blk_reset_owner },
};

static long vhost_blk_locked_ioctl(struct vhost_blk *blk, unsigned int cmd,
				   void __user *argp)
{
	unsigned int i;
	long ret;

	lockdep_assert_held(&blk->dev.mutex);
	for (i = 0; i < ARRAY_SIZE(vhost_blk_owner_ioctls); i++) {
		if (vhost_blk_owner_ioctls[i].cmd != cmd)
			continue;
		ret = vhost_dev_check_owner(&blk->dev);
		return ret ? ret : vhost_blk_owner_ioctls[i].fn(blk, argp);
	}
	return vhost_blk_core_ioctl(blk, cmd, argp);
}

static long vhost_blk_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct vhost_blk *blk = file->private_data;
	void __user *argp = (void __user *)arg;
	long ret;

	switch (cmd) {
	case VHOST_GET_FEATURES:
		return vhost_blk_get_features(argp);
	case VHOST_BLK_QUERY_BACKEND:
		return vhost_blk_query_backend(argp);
	default:
		mutex_lock(&blk->dev.mutex);
		ret = vhost_blk_locked_ioctl(blk, cmd, argp);
		mutex_unlock(&blk->dev.mutex);
		return ret;
	}
}

/* ---- the character device ---- */

static int vhost_blk_open(struct inode *inode, struct file *file)
{
	struct vhost_blk *blk;
	unsigned int i;

	blk = kvzalloc(sizeof(*blk), GFP_KERNEL_ACCOUNT);
	if (!blk)
		return -ENOMEM;
	init_waitqueue_head(&blk->drain_wait);
	for (i = 0; i < ARRAY_SIZE(blk->bvqs); i++) {
		struct vhost_blk_vq *bvq = &blk->bvqs[i];

		blk->vqs[i] = &bvq->vq;
		bvq->vq.handle_kick = vhost_blk_handle_kick;
		init_llist_head(&bvq->done);
		vhost_work_init(&bvq->done_work, vhost_blk_handle_done);
		INIT_WORK(&bvq->orphan_work, vhost_blk_handle_orphans);
	}
	vhost_dev_init(&blk->dev, blk->vqs, ARRAY_SIZE(blk->vqs), UIO_MAXIOV,
		       VHOST_BLK_PASS_REQS, VHOST_BLK_PASS_BYTES, true, NULL);
	file->private_data = blk;
	return 0;
}

static int vhost_blk_release(struct inode *inode, struct file *file)
{
	struct vhost_blk *blk = file->private_data;

	mutex_lock(&blk->dev.mutex);
	vhost_blk_stop(blk);
	mutex_unlock(&blk->dev.mutex);
	vhost_dev_stop(&blk->dev);
	vhost_dev_cleanup(&blk->dev);
	kvfree(blk);
	return 0;
}

static const struct file_operations vhost_blk_fops = {
	.owner		= THIS_MODULE,
	.open		= vhost_blk_open,
	.release	= vhost_blk_release,
	.unlocked_ioctl	= vhost_blk_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
	.llseek		= noop_llseek,
};

static struct miscdevice vhost_blk_misc = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "vhost-blk",
	.fops	= &vhost_blk_fops,
};

static int __init vhost_blk_init(void)
{
	int ret = vhost_blk_bdev_init();

	BUILD_BUG_ON(VHOST_BLK_IOCTL != VHOST_VIRTIO);
	if (ret)
		return ret;
	ret = misc_register(&vhost_blk_misc);
	if (ret)
		vhost_blk_bdev_exit();
	return ret;
}
module_init(vhost_blk_init);

static void __exit vhost_blk_exit(void)
{
	misc_deregister(&vhost_blk_misc);
	vhost_blk_bdev_exit();
}
module_exit(vhost_blk_exit);

MODULE_LICENSE("GPL");
MODULE_AUTHOR("vhost_blk developers");
MODULE_DESCRIPTION("In-kernel virtio-blk backend");
