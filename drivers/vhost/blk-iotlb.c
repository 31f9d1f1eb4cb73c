// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost_blk: addresses that a virtual IOMMU translates (VIRTIO_F_ACCESS_PLATFORM).
 *
 * vhost core translates, and asks the VMM for what it does not know. What the VMM
 * says is taken here, because core's own way to do that locks all vrings in a
 * way that lockdep follows to the 8th only.
 */
#include <linux/bitmap.h>
#include <linux/slab.h>
#include <linux/vhost_iotlb.h>

#include "blk-vq.h"

static void vhost_blk_vqs_lock(struct vhost_blk *blk)
{
	unsigned int i;

	for (i = 0; i < blk->dev.nvqs; i++)
		mutex_lock_nest_lock(&blk->bvqs[i]->vq.mutex, &blk->dev.mutex);
}

static void vhost_blk_vqs_unlock(struct vhost_blk *blk)
{
	unsigned int i;

	for (i = 0; i < blk->dev.nvqs; i++)
		mutex_unlock(&blk->bvqs[i]->vq.mutex);
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

static bool vhost_blk_iotlb_asks(struct list_head *questions, const struct vhost_virtqueue *vq)
{
	struct vhost_msg_node *node;

	list_for_each_entry(node, questions, node)
		if (node->vq == vq)
			return true;
	return false;
}

/*
 * Let those vrings try again whose questions this has answered, and only those: one
 * that still waits would ask once more, and every answer would make more questions.
 * One that the VMM has not read yet is to come back first, for the same reason.
 */
static void vhost_blk_iotlb_answered(struct vhost_blk *blk, const struct vhost_iotlb_msg *msg)
{
	DECLARE_BITMAP(answered, VHOST_BLK_MAX_VQS) = {};
	struct vhost_dev *dev = &blk->dev;
	struct vhost_msg_node *node, *next;
	unsigned int i;

	spin_lock(&dev->iotlb_lock);
	list_for_each_entry_safe(node, next, &dev->pending_list, node) {
		if (node->msg.iotlb.iova < msg->iova ||
		    node->msg.iotlb.iova - msg->iova >= msg->size)
			continue;
		__set_bit(container_of(node->vq, struct vhost_blk_vq, vq)->queue.index, answered);
		list_del(&node->node);
		kfree(node);
	}
	for (i = 0; i < blk->dev.nvqs; i++) {
		struct vhost_blk_vq *bvq = blk->bvqs[i];

		if (!bvq->untranslated || vhost_blk_iotlb_asks(&dev->read_list, &bvq->vq))
			continue;
		if (!test_bit(i, answered) && vhost_blk_iotlb_asks(&dev->pending_list, &bvq->vq))
			continue;
		bvq->untranslated = false;
		vhost_poll_queue(&bvq->vq.poll);
	}
	spin_unlock(&dev->iotlb_lock);
}

/**
 * vhost_blk_iotlb_forget - what a vring's last driver asked does not matter any more
 * @bvq: a vring that is about to start
 *
 * There may never be an answer: the next driver must not wait for it, and what
 * waits must not grow with every driver. What the VMM has been told to read, but has
 * not read yet, stays: it may be about to read, and would wait for something new.
 *
 * Context: process, vq.mutex held.
 */
void vhost_blk_iotlb_forget(struct vhost_blk_vq *bvq)
{
	struct vhost_dev *dev = bvq->vq.dev;
	struct vhost_msg_node *node, *next;

	spin_lock(&dev->iotlb_lock);
	list_for_each_entry_safe(node, next, &dev->pending_list, node) {
		if (node->vq != &bvq->vq)
			continue;
		list_del(&node->node);
		kfree(node);
	}
	spin_unlock(&dev->iotlb_lock);
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
	for (i = 0; i < dev->nvqs; i++)
		memset(dev->vqs[i]->meta_iotlb, 0, sizeof(dev->vqs[i]->meta_iotlb));
	if (!ret && msg->type == VHOST_IOTLB_UPDATE)
		vhost_blk_iotlb_answered(blk, msg);
	vhost_blk_vqs_unlock(blk);
unlock:
	mutex_unlock(&dev->mutex);
	return ret;
}
