// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost_blk: in-kernel virtio-blk backend.
 *
 * This file is the control side: the character device and its ioctls, attach
 * and drain.
 */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/vhost.h>

#include "blk-vq.h"
#include "blk-compat.h"
#include "blk-trace.h"

#define VHOST_BLK_BACKEND_STOP_FLAGS (VHOST_BLK_BACKEND_STOP_ON_READ_ERROR |	\
				      VHOST_BLK_BACKEND_STOP_ON_WRITE_ERROR |	\
				      VHOST_BLK_BACKEND_STOP_ON_ENOSPC)
#define VHOST_BLK_BACKEND_FLAGS (VHOST_BLK_BACKEND_NO_UNMAP | VHOST_BLK_BACKEND_STOP_FLAGS)

#define VHOST_BLK_FEATURES (BIT_ULL(VIRTIO_F_VERSION_1) |		\
			    BIT_ULL(VIRTIO_F_ANY_LAYOUT) |		\
			    BIT_ULL(VIRTIO_F_NOTIFY_ON_EMPTY) |		\
			    BIT_ULL(VIRTIO_F_ACCESS_PLATFORM) |		\
			    BIT_ULL(VHOST_F_LOG_ALL) |			\
			    BIT_ULL(VIRTIO_RING_F_INDIRECT_DESC) |	\
			    BIT_ULL(VIRTIO_RING_F_EVENT_IDX) |		\
			    BIT_ULL(VIRTIO_BLK_F_SIZE_MAX) |		\
			    BIT_ULL(VIRTIO_BLK_F_SEG_MAX) |		\
			    BIT_ULL(VIRTIO_BLK_F_RO) |			\
			    BIT_ULL(VIRTIO_BLK_F_BLK_SIZE) |		\
			    BIT_ULL(VIRTIO_BLK_F_FLUSH) |		\
			    BIT_ULL(VIRTIO_BLK_F_TOPOLOGY) |		\
			    BIT_ULL(VIRTIO_BLK_F_CONFIG_WCE) |		\
			    BIT_ULL(VIRTIO_BLK_F_MQ) |			\
			    BIT_ULL(VIRTIO_BLK_F_DISCARD) |		\
			    BIT_ULL(VIRTIO_BLK_F_WRITE_ZEROES) |	\
			    BIT_ULL(VIRTIO_BLK_F_SECURE_ERASE))

/* Opens since the module was loaded. */
static atomic_t vhost_blk_nr_opens;

/* ---- attach and drain ---- */

/*
 * Fetch no more, and wait until every request that was fetched is back in its
 * used ring and no work of the device refers to one.
 */
static void vhost_blk_drain(struct vhost_blk *blk)
{
	unsigned int i;

	lockdep_assert_held(&blk->dev.mutex);
	for (i = 0; i < blk->dev.nvqs; i++)
		vhost_blk_vq_halt(blk->bvqs[i]);
	/* Passes that saw the backend are over after this, so inflight only falls. */
	vhost_dev_flush(&blk->dev);
	for (i = 0; i < blk->dev.nvqs; i++)
		wait_event(blk->drain_wait, vhost_blk_vq_is_drained(blk->bvqs[i]));
	/* Who added the last request to the list may still be about to queue work. */
	synchronize_rcu_expedited();
	/* The reap that ended the last request may still be touching its vring. */
	vhost_dev_flush(&blk->dev);
	for (i = 0; i < blk->dev.nvqs; i++)
		vhost_blk_vq_put_back(blk->bvqs[i]);
}

/* Stop all vrings and let the backend go: nothing refers to it afterwards. */
static void vhost_blk_stop(struct vhost_blk *blk)
{
	struct vhost_virtqueue *vq;
	unsigned int i;

	lockdep_assert_held(&blk->dev.mutex);
	if (!blk->disk)
		return;

	vhost_blk_drain(blk);
	for (i = 0; i < blk->dev.nvqs; i++) {
		vq = &blk->bvqs[i]->vq;
		mutex_lock(&vq->mutex);
		vhost_poll_stop(&vq->poll);
		mutex_unlock(&vq->mutex);
		vhost_blk_vq_free(blk->bvqs[i]);
	}
	/* A kick that came before its poll was stopped finds no backend. */
	vhost_dev_flush(&blk->dev);
	blk->disk->ops->detach(blk->disk);
	vhost_blk_disk_put(blk->disk);
	blk->disk = NULL;
}

/* The device goes away: requests that can go over whole disks end early. */
static void vhost_blk_abort(struct vhost_blk *blk)
{
	lockdep_assert_held(&blk->dev.mutex);
	if (blk->disk)
		WRITE_ONCE(blk->disk->abort, true);
	vhost_blk_stop(blk);
}

/* Start every vring that has addresses. */
static int vhost_blk_start(struct vhost_blk *blk)
{
	unsigned int i, nr_started = 0;
	int ret = 0;

	for (i = 0; i < blk->dev.nvqs && !ret; i++) {
		struct vhost_virtqueue *vq = &blk->bvqs[i]->vq;

		mutex_lock(&vq->mutex);
		if (vq->desc && vq->avail && vq->used) {
			ret = vhost_blk_vq_start(blk->bvqs[i], blk->disk);
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

	for (i = 0; i < blk->dev.nvqs; i++)
		if (blk->bvqs[i]->slots)
			vhost_poll_queue(&blk->bvqs[i]->vq.poll);
}

/* Go on after vhost_blk_drain(), with the same vrings. */
static void vhost_blk_resume(struct vhost_blk *blk)
{
	unsigned int i;

	for (i = 0; i < blk->dev.nvqs; i++) {
		struct vhost_virtqueue *vq = &blk->bvqs[i]->vq;

		mutex_lock(&vq->mutex);
		if (blk->bvqs[i]->slots)
			vhost_vq_set_backend(vq, blk->disk);
		mutex_unlock(&vq->mutex);
	}
	vhost_blk_kick_all(blk);
}

static int vhost_blk_attach(struct vhost_blk *blk, int fd, u32 flags)
{
	struct vhost_blk_disk *disk;
	int ret;

	if (blk->disk)
		return -EBUSY;
	disk = vhost_blk_disk_get(fd);
	if (IS_ERR(disk))
		return PTR_ERR(disk);
	disk->flags = flags;
	ret = disk->ops->attach(disk);
	if (ret)
		goto put_disk;

	blk->disk = disk;
	ret = vhost_blk_start(blk);
	if (ret) {
		vhost_blk_stop(blk);
		return ret;
	}
	trace_vhost_blk_attach(blk->id, disk->file);
	vhost_blk_kick_all(blk);
	return 0;

put_disk:
	vhost_blk_disk_put(disk);
	return ret;
}

/* ---- ioctls: all but GET_FEATURES, QUERY_BACKEND and SET_NUM_QUEUES are for the owner ---- */

/**
 * vhost_blk_set_backend - VHOST_BLK_SET_BACKEND
 * @blk:  the device
 * @argp: struct vhost_blk_backend
 *
 * Context: process, dev.mutex held; a detach waits for the disk.
 *
 * Return: 0, or -EFAULT; -EINVAL flags, no vring set up, a vring larger than
 * VHOST_BLK_MAX_VQ_SIZE, or an fd that is not open for reading, or for
 * appending; -EBADF; -ENOTBLK; -EOPNOTSUPP zoned device, or STOP_ON_* with
 * VIRTIO_F_ACCESS_PLATFORM; -EBUSY attached already; -ENOMEM.
 */
static long vhost_blk_set_backend(struct vhost_blk *blk, void __user *argp)
{
	struct vhost_blk_backend backend;

	if (copy_from_user(&backend, argp, sizeof(backend)))
		return -EFAULT;
	if (backend.flags & ~VHOST_BLK_BACKEND_FLAGS)
		return -EINVAL;
	/* What is put back is put where the VMM has the ring, not the driver's IOMMU. */
	if (backend.flags & VHOST_BLK_BACKEND_STOP_FLAGS && blk->bvqs[0]->vq.iotlb)
		return -EOPNOTSUPP;
	if (backend.fd != -1)
		return vhost_blk_attach(blk, backend.fd, backend.flags);
	vhost_blk_stop(blk);
	return 0;
}

static long vhost_blk_set_serial(struct vhost_blk *blk, void __user *argp)
{
	struct vhost_blk_serial serial;
	unsigned int i;

	if (copy_from_user(&serial, argp, sizeof(serial)))
		return -EFAULT;
	for (i = 0; i < blk->dev.nvqs; i++) {
		struct vhost_blk_vq *bvq = blk->bvqs[i];

		mutex_lock(&bvq->vq.mutex);
		memcpy(bvq->queue.serial, serial.serial, sizeof(serial.serial));
		mutex_unlock(&bvq->vq.mutex);
	}
	return 0;
}

/* Switch the cache mode of all vrings; what is in flight is told at its end. */
static void vhost_blk_write_through_set(struct vhost_blk *blk, bool on)
{
	unsigned int i;

	for (i = 0; i < blk->dev.nvqs; i++) {
		struct vhost_blk_vq *bvq = blk->bvqs[i];

		mutex_lock(&bvq->vq.mutex);
		bvq->queue.write_through = on;
		mutex_unlock(&bvq->vq.mutex);
	}
}

/**
 * vhost_blk_set_wce - VHOST_BLK_SET_WCE
 * @blk:  the device
 * @argp: __u32
 *
 * Context: process, dev.mutex held; may wait for a flush of the disk.
 *
 * Return: 0, or -EFAULT; -EINVAL neither 0 nor 1; the -errno of the flush: the
 * mode is set, but what was acknowledged before may be lost.
 */
static long vhost_blk_set_wce(struct vhost_blk *blk, void __user *argp)
{
	u32 wce;

	if (copy_from_user(&wce, argp, sizeof(wce)))
		return -EFAULT;
	if (wce > 1)
		return -EINVAL;
	vhost_blk_write_through_set(blk, !wce);
	if (wce || !blk->disk || !(blk->disk->file->f_mode & FMODE_WRITE))
		return 0;
	return vfs_fsync(blk->disk->file, 1);
}

static long vhost_blk_get_stats(struct vhost_blk *blk, void __user *argp)
{
	union {
		struct vhost_blk_stats stats;
		u64 counters[sizeof(struct vhost_blk_stats) / sizeof(u64)];
	} sum = {};
	unsigned int i, j;

	for (i = 0; i < blk->dev.nvqs; i++) {
		struct vhost_blk_vq *bvq = blk->bvqs[i];
		u64 *counters = (u64 *)bvq->stats;

		mutex_lock(&bvq->vq.mutex);
		for (j = 0; j < ARRAY_SIZE(sum.counters); j++)
			sum.counters[j] += counters[j];
		mutex_unlock(&bvq->vq.mutex);
	}
	return copy_to_user(argp, &sum.stats, sizeof(sum.stats)) ? -EFAULT : 0;
}

static void vhost_blk_features_set(struct vhost_blk *blk, u64 features)
{
	unsigned int i;

	for (i = 0; i < blk->dev.nvqs; i++) {
		struct vhost_virtqueue *vq = &blk->bvqs[i]->vq;

		mutex_lock(&vq->mutex);
		vq->acked_features = features;
		/* vhost core goes on to translate once it has begun to. */
		if (!(features & BIT_ULL(VIRTIO_F_ACCESS_PLATFORM)))
			vq->iotlb = NULL;
		mutex_unlock(&vq->mutex);
	}
}

/*
 * What requests in flight will write is not recorded when the log is switched
 * on: let them end first.
 */
static void vhost_blk_features_change(struct vhost_blk *blk, u64 features)
{
	if (blk->disk)
		vhost_blk_drain(blk);
	vhost_blk_features_set(blk, features);
	if (blk->disk)
		vhost_blk_resume(blk);
}

/**
 * vhost_blk_set_features - VHOST_SET_FEATURES
 * @blk:  the device
 * @argp: __u64
 *
 * While a disk is attached only VHOST_F_LOG_ALL may change; what was fetched
 * before has then ended when this returns.
 *
 * Context: process, dev.mutex held; may wait for the disk.
 *
 * Return: 0, or -EFAULT, also when the log that is to be used cannot be
 * accessed; -EOPNOTSUPP unknown features; -EBUSY; -ENOMEM.
 */
static long vhost_blk_set_features(struct vhost_blk *blk, void __user *argp)
{
	u64 features, changed;
	int ret;

	if (copy_from_user(&features, argp, sizeof(features)))
		return -EFAULT;
	if (features & ~VHOST_BLK_FEATURES)
		return -EOPNOTSUPP;
	changed = features ^ blk->bvqs[0]->vq.acked_features;
	/* A ring's layout and byte order are not to change under its requests. */
	if (blk->disk && (changed & ~BIT_ULL(VHOST_F_LOG_ALL)))
		return -EBUSY;
	if ((features & BIT_ULL(VHOST_F_LOG_ALL)) && !vhost_log_access_ok(&blk->dev))
		return -EFAULT;
	if (changed & features & BIT_ULL(VIRTIO_F_ACCESS_PLATFORM)) {
		ret = vhost_blk_iotlb_init(&blk->dev);
		if (ret)
			return ret;
	}
	if (changed)
		vhost_blk_features_change(blk, features);
	return 0;
}

static long vhost_blk_reset_owner(struct vhost_blk *blk, void __user *argp)
{
	struct vhost_iotlb *umem = vhost_dev_reset_owner_prepare();
	unsigned int i;

	if (!umem)
		return -ENOMEM;
	vhost_blk_abort(blk);
	vhost_dev_stop(&blk->dev);
	vhost_dev_reset_owner(&blk->dev, umem);
	for (i = 0; i < blk->dev.nvqs; i++)
		vhost_blk_vq_reset(blk->bvqs[i]);
	return 0;
}

static long vhost_blk_get_features(void __user *argp)
{
	u64 features = VHOST_BLK_FEATURES;

	return copy_to_user(argp, &features, sizeof(features)) ? -EFAULT : 0;
}

/* Give back all but the first @nr vrings. */
static void vhost_blk_vqs_free(struct vhost_blk *blk, unsigned int nr)
{
	unsigned int i;

	for (i = nr; i < ARRAY_SIZE(blk->bvqs); i++) {
		kvfree(blk->bvqs[i]);
		blk->bvqs[i] = NULL;
	}
}

/**
 * vhost_blk_set_num_queues - VHOST_BLK_SET_NUM_QUEUES
 * @blk:  the device
 * @argp: __u32
 *
 * A vring takes 72 KiB, most of them from VHOST_SET_OWNER on.
 *
 * Context: process, dev.mutex held.
 *
 * Return: 0, or -EFAULT; -EBUSY there is an owner; -EINVAL 0, or more than it has.
 */
static long vhost_blk_set_num_queues(struct vhost_blk *blk, void __user *argp)
{
	u32 nr;

	if (copy_from_user(&nr, argp, sizeof(nr)))
		return -EFAULT;
	if (vhost_dev_has_owner(&blk->dev))
		return -EBUSY;
	if (!nr || nr > blk->dev.nvqs)
		return -EINVAL;
	/* vhost core has nothing in a vring before there is an owner. */
	blk->dev.nvqs = nr;
	vhost_blk_vqs_free(blk, nr);
	return 0;
}

/**
 * vhost_blk_query_backend - VHOST_BLK_QUERY_BACKEND
 * @argp: struct vhost_blk_query
 *
 * Context: process; may sleep. Any process may ask, before SET_OWNER too.
 *
 * Return: 0, or -EFAULT; -EINVAL flags or an fd as for VHOST_BLK_SET_BACKEND;
 * -EBADF; -ENOTBLK; -EOPNOTSUPP zoned device; -ENOMEM.
 */
static long vhost_blk_query_backend(void __user *argp)
{
	struct vhost_blk_query query;
	struct vhost_blk_disk *disk;

	if (copy_from_user(&query, argp, sizeof(query)))
		return -EFAULT;
	if (query.flags)
		return -EINVAL;
	query.flags = VHOST_BLK_BACKEND_FLAGS;
	if (query.fd != -1) {
		disk = vhost_blk_disk_get(query.fd);
		if (IS_ERR(disk))
			return PTR_ERR(disk);
		query.features = VHOST_BLK_FEATURES;
		vhost_blk_disk_query(disk, &query);
		vhost_blk_disk_put(disk);
	}
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
	{ VHOST_BLK_SET_WCE, vhost_blk_set_wce },
	{ VHOST_BLK_GET_STATS, vhost_blk_get_stats },
	{ VHOST_SET_FEATURES, vhost_blk_set_features },
	{ VHOST_RESET_OWNER, vhost_blk_reset_owner },
};

static long vhost_blk_locked_ioctl(struct vhost_blk *blk, unsigned int cmd,
				   void __user *argp)
{
	unsigned int i;
	long ret;

	lockdep_assert_held(&blk->dev.mutex);
	if (cmd == VHOST_BLK_SET_NUM_QUEUES)
		return vhost_blk_set_num_queues(blk, argp);
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

static void vhost_blk_free(struct vhost_blk *blk)
{
	vhost_blk_vqs_free(blk, 0);
	kfree(blk);
}

static int vhost_blk_open(struct inode *inode, struct file *file)
{
	struct vhost_blk *blk;
	unsigned int i;

	blk = kzalloc(sizeof(*blk), GFP_KERNEL_ACCOUNT);
	if (!blk)
		return -ENOMEM;
	init_waitqueue_head(&blk->drain_wait);
	blk->id = atomic_inc_return(&vhost_blk_nr_opens);
	for (i = 0; i < ARRAY_SIZE(blk->bvqs); i++) {
		blk->bvqs[i] = kvzalloc(sizeof(*blk->bvqs[i]), GFP_KERNEL_ACCOUNT);
		if (!blk->bvqs[i])
			goto free;
		blk->vqs[i] = &blk->bvqs[i]->vq;
		vhost_blk_vq_init(blk->bvqs[i], blk->id, i);
	}
	vhost_dev_init(&blk->dev, blk->vqs, ARRAY_SIZE(blk->vqs), UIO_MAXIOV,
		       VHOST_BLK_PASS_REQS, VHOST_BLK_PASS_BYTES, true, vhost_blk_iotlb_msg);
	file->private_data = blk;
	return 0;

free:
	vhost_blk_free(blk);
	return -ENOMEM;
}

static int vhost_blk_release(struct inode *inode, struct file *file)
{
	struct vhost_blk *blk = file->private_data;

	mutex_lock(&blk->dev.mutex);
	vhost_blk_abort(blk);
	mutex_unlock(&blk->dev.mutex);
	vhost_dev_stop(&blk->dev);
	vhost_dev_cleanup(&blk->dev);
	vhost_blk_free(blk);
	return 0;
}

static ssize_t vhost_blk_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	struct vhost_blk *blk = iocb->ki_filp->private_data;

	return vhost_chr_read_iter(&blk->dev, to, iocb->ki_filp->f_flags & O_NONBLOCK);
}

static ssize_t vhost_blk_write_iter(struct kiocb *iocb, struct iov_iter *from)
{
	struct vhost_blk *blk = iocb->ki_filp->private_data;

	return vhost_chr_write_iter(&blk->dev, from);
}

static __poll_t vhost_blk_poll(struct file *file, poll_table *wait)
{
	struct vhost_blk *blk = file->private_data;

	return vhost_chr_poll(file, &blk->dev, wait);
}

/* Reading and writing is for messages about the IOTLB (ACCESS_PLATFORM). */
static const struct file_operations vhost_blk_fops = {
	.owner		= THIS_MODULE,
	.open		= vhost_blk_open,
	.release	= vhost_blk_release,
	.unlocked_ioctl	= vhost_blk_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
	.read_iter	= vhost_blk_read_iter,
	.write_iter	= vhost_blk_write_iter,
	.poll		= vhost_blk_poll,
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
