// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost_blk: addresses that a virtual IOMMU translates (VIRTIO_F_ACCESS_PLATFORM).
 *
 * vhost core translates, and asks the VMM for what it does not know. What the VMM
 * says is taken here, because core's own way to do that locks all vrings in a
 * way that lockdep follows to the 8th only.
 */
#include <linux/slab.h>
#include <linux/vhost_iotlb.h>

#include "blk-vq.h"

static void vhost_blk_vqs_lock(struct vhost_blk *blk)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(blk->bvqs); i++)
		mutex_lock_nest_lock(&blk->bvqs[i].vq.mutex, &blk->dev.mutex);
}

static void vhost_blk_vqs_unlock(struct vhost_blk *blk)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(blk->bvqs); i++)
		mutex_unlock(&blk->bvqs[i].vq.mutex);
}

static int vhost_blk_iotlb_change(struct vhost_iotlb *iotlb, const struct vhost_iotlb_msg *msg)
{
	u64 last = msg->iova + msg->size - 1;

	switch (msg->type) {
	case VHOST_IOTLB_UPDATE:
		if (!access_ok((void __user *)(unsigned long)msg->uaddr, msg->size))
			return -EFAULT;
		return vhost_iotlb_add_range(iotlb, msg->iova, last, msg->uaddr, msg->perm);
	case VHOST_IOTLB_INVALIDATE:
		vhost_iotlb_del_range(iotlb, msg->iova, last);
		return 0;
	default:
		return -EINVAL;
	}
}

/* Whatever was asked for is forgotten: all vrings try again, and ask again. */
static void vhost_blk_iotlb_retry(struct vhost_blk *blk)
{
	struct vhost_msg_node *node, *next;
	LIST_HEAD(asked);
	unsigned int i;

	spin_lock(&blk->dev.iotlb_lock);
	list_splice_init(&blk->dev.pending_list, &asked);
	spin_unlock(&blk->dev.iotlb_lock);
	list_for_each_entry_safe(node, next, &asked, node)
		kfree(node);
	for (i = 0; i < ARRAY_SIZE(blk->bvqs); i++)
		if (blk->bvqs[i].slots)
			vhost_poll_queue(&blk->bvqs[i].vq.poll);
}

/**
 * vhost_blk_iotlb_msg - what the VMM says of addresses
 * @dev:  vhost core's part of the device
 * @asid: address space, of no concern
 * @msg:  VHOST_IOTLB_UPDATE or VHOST_IOTLB_INVALIDATE
 *
 * Context: process; may sleep.
 *
 * Return: 0, or -EFAULT no ACCESS_PLATFORM, or a range that wraps or is not the
 * process's; -EINVAL another message; -ENOMEM.
 */
int vhost_blk_iotlb_msg(struct vhost_dev *dev, u32 asid, struct vhost_iotlb_msg *msg)
{
	struct vhost_blk *blk = container_of(dev, struct vhost_blk, dev);
	unsigned int i;
	int ret = -EFAULT;

	mutex_lock(&dev->mutex);
	if (!dev->iotlb)
		goto unlock;
	vhost_blk_vqs_lock(blk);
	ret = vhost_blk_iotlb_change(dev->iotlb, msg);
	for (i = 0; i < ARRAY_SIZE(blk->bvqs); i++) {
		memset(blk->bvqs[i].vq.meta_iotlb, 0, sizeof(blk->bvqs[i].vq.meta_iotlb));
		blk->bvqs[i].untranslated = false;
	}
	vhost_blk_vqs_unlock(blk);
	if (!ret && msg->type == VHOST_IOTLB_UPDATE)
		vhost_blk_iotlb_retry(blk);
unlock:
	mutex_unlock(&dev->mutex);
	return ret;
}
