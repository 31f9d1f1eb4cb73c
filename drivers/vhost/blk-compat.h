/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Differences between the kernels that vhost_blk builds for: all of them are
 * here. What can be seen in the vhost.h in use is probed there by Kbuild
 * (HAVE_*), because stable kernels take API changes back.
 */
#ifndef _VHOST_BLK_COMPAT_H
#define _VHOST_BLK_COMPAT_H

#include "vhost.h"

/*
 * Queue work on the worker of a vring. False: there is no worker (any more).
 * vhost core had one worker a device before it had one a vring.
 */
static inline bool vhost_blk_work_queue(struct vhost_virtqueue *vq,
					struct vhost_work *work)
{
#ifdef HAVE_VHOST_VQ_WORK_QUEUE
	return vhost_vq_work_queue(vq, work);
#else
	vhost_work_queue(vq->dev, work);
	return true;
#endif
}

/* Does the worker of a vring have something else to do? */
static inline bool vhost_blk_has_work(struct vhost_virtqueue *vq)
{
#ifdef HAVE_VHOST_VQ_WORK_QUEUE
	return vhost_vq_has_work(vq);
#else
	return vhost_has_work(vq->dev);
#endif
}

/* Publish used entries; newer cores can batch them in order as well. */
static inline void vhost_blk_add_used_n(struct vhost_virtqueue *vq,
					struct vring_used_elem *heads, unsigned int count)
{
#ifdef HAVE_VHOST_ADD_USED_NHEADS
	vhost_add_used_n(vq, heads, NULL, count);
#else
	vhost_add_used_n(vq, heads, count);
#endif
}

/* VHOST_NEW_WORKER and the like, under dev.mutex. */
static inline long vhost_blk_worker_ioctl(struct vhost_dev *dev, unsigned int cmd,
					  void __user *argp)
{
#ifdef HAVE_VHOST_WORKER_IOCTL
	return vhost_worker_ioctl(dev, cmd, argp);
#else
	return -ENOIOCTLCMD;
#endif
}

/* Begin to translate addresses; older cores took a flag that they did not look at. */
static inline int vhost_blk_iotlb_init(struct vhost_dev *dev)
{
#ifdef HAVE_VHOST_IOTLB_FLAG
	return vhost_init_device_iotlb(dev, true);
#else
	return vhost_init_device_iotlb(dev);
#endif
}

#endif /* _VHOST_BLK_COMPAT_H */
