/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Differences between the kernels that vhost_blk builds for: all of them are
 * here. What can be seen in the vhost.h in use is probed there by Kbuild
 * (HAVE_*), because stable kernels take API changes back.
 */
#ifndef _VHOST_BLK_COMPAT_H
#define _VHOST_BLK_COMPAT_H

struct vhost_virtqueue;
struct vhost_work;

#ifdef _VHOST_H
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
#endif /* _VHOST_H */

#endif /* _VHOST_BLK_COMPAT_H */
