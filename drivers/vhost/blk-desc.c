// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost_blk, descriptor chains: a short way to fetch those that drivers make.
 *
 * vhost_get_vq_desc() translates each address by a tree and knows every case.
 * Here is only the usual one: no IOMMU, no log, a well-formed chain each of
 * whose pieces lies in one region of memory. For all else nothing is decided:
 * vhost core's function starts from the beginning, and is the one that says
 * what is wrong with a chain. Section numbers are those of virtio 1.2.
 */
#include <linux/nospec.h>
#include <linux/uaccess.h>
#include <linux/vhost_iotlb.h>

#include "blk-vq.h"

/* Most descriptors of an indirect table: next is 16 bits wide. */
#define VHOST_BLK_TABLE_MAX	(U16_MAX + 1)

/*
 * Where in the owner's address space is a piece of guest memory? NULL: not in
 * one region. The regions that were used last are looked at first: a guest often
 * has two that matter, below and above 4 GiB.
 */
static void __user *vhost_blk_desc_translate(const struct vhost_virtqueue *vq,
					     struct vhost_blk_hints *hints, u64 addr, u32 len)
{
	const struct vhost_iotlb_map *map = hints->map[0];
	u64 last = addr + len - 1;

	if (unlikely(!len || last < addr))
		return NULL;
	if (!map || addr < map->start || last > map->last) {
		map = hints->map[1];
		if (!map || addr < map->start || last > map->last)
			map = vhost_iotlb_itree_first(vq->umem, addr, last);
		if (!map || addr < map->start || last > map->last || map->perm != VHOST_MAP_RW)
			return NULL;
		hints->map[1] = hints->map[0];
		hints->map[0] = map;
	}
	return (void __user *)(uintptr_t)(map->addr + (addr - map->start));
}

/*
 * The table that an indirect descriptor refers to (2.7.5.3), which must be the only
 * one of its chain.
 */
static const struct vring_desc __user *
vhost_blk_desc_table(struct vhost_virtqueue *vq, struct vhost_blk_hints *hints,
		     const struct vring_desc *desc, unsigned int *num)
{
	u32 len = vhost32_to_cpu(vq, desc->len);

	if (len % sizeof(*desc) || len / sizeof(*desc) > VHOST_BLK_TABLE_MAX ||
	    (desc->flags & cpu_to_vhost16(vq, VRING_DESC_F_NEXT)))
		return NULL;
	*num = len / sizeof(*desc);
	return vhost_blk_desc_translate(vq, hints, vhost64_to_cpu(vq, desc->addr), len);
}

/* Return: the next head that the driver made available, vq->num if there is none, or -errno. */
static int vhost_blk_desc_head(struct vhost_virtqueue *vq)
{
	__virtio16 raw;
	u16 idx;

	if (vq->avail_idx == vq->last_avail_idx) {
		if (get_user(raw, &vq->avail->idx))
			return -EFAULT;
		idx = vhost16_to_cpu(vq, raw);
		if (idx == vq->last_avail_idx)
			return vq->num;
		if ((u16)(idx - vq->last_avail_idx) > vq->num)
			return -EINVAL;
		vq->avail_idx = idx;
		/* The index is read before the entries. Pairs with the driver's barrier. */
		smp_rmb();
	}
	if (get_user(raw, &vq->avail->ring[vq->last_avail_idx & (vq->num - 1)]))
		return -EFAULT;
	idx = vhost16_to_cpu(vq, raw);
	return idx < vq->num ? idx : -EINVAL;
}

/* Fetch the chain that begins at @head into vq->iov. Return: false if it is not a usual one. */
static bool vhost_blk_desc_chain(struct vhost_virtqueue *vq, struct vhost_blk_hints *hints,
				 unsigned int head, unsigned int *nr_out, unsigned int *nr_in)
{
	const struct vring_desc __user *table = vq->desc;
	unsigned int i = head, num = vq->num, nr;
	struct iovec *iov = vq->iov;
	struct vring_desc desc __aligned(8);
	u16 flags;

	*nr_out = 0;
	*nr_in = 0;
	for (nr = 0; nr < ARRAY_SIZE(vq->iov); nr++, iov++) {
		if (i >= num || !vhost_blk_copy_16(&desc, table + array_index_nospec(i, num)))
			return false;
		flags = vhost16_to_cpu(vq, desc.flags);
		if (flags & VRING_DESC_F_INDIRECT) {
			if (nr || table != vq->desc)
				return false;
			table = vhost_blk_desc_table(vq, hints, &desc, &num);
			if (!table || !vhost_blk_copy_16(&desc, table))
				return false;
			flags = vhost16_to_cpu(vq, desc.flags);
			if (flags & VRING_DESC_F_INDIRECT)
				return false;
		}
		iov->iov_len = vhost32_to_cpu(vq, desc.len);
		iov->iov_base = vhost_blk_desc_translate(vq, hints, vhost64_to_cpu(vq, desc.addr),
							 iov->iov_len);
		if (!iov->iov_base)
			return false;
		if (flags & VRING_DESC_F_WRITE)
			++*nr_in;
		else if (!*nr_in)
			++*nr_out;
		else
			return false;
		if (!(flags & VRING_DESC_F_NEXT))
			return true;
		i = vhost16_to_cpu(vq, desc.next);
	}
	return false;
}

/**
 * vhost_blk_desc_get - fetch the next chain, if it is a usual one
 * @vq:     the vring, without IOTLB and log; vq->iov is filled
 * @hints:  regions of its memory table; only while vq.mutex is held
 * @nr_out: how many pieces are device-readable, these come first
 * @nr_in:  how many are device-writable
 *
 * Context: the queue's worker with the owner's mm, vq.mutex held; may fault.
 *
 * Return: its head; vq->num if there is none; -errno if vhost_get_vq_desc() has to
 * look, for which nothing has been fetched.
 */
int vhost_blk_desc_get(struct vhost_virtqueue *vq, struct vhost_blk_hints *hints,
		       unsigned int *nr_out, unsigned int *nr_in)
{
	int head = vhost_blk_desc_head(vq);

	if (head < 0 || head == vq->num)
		return head;
	if (!vhost_blk_desc_chain(vq, hints, head, nr_out, nr_in))
		return -EINVAL;
	vq->last_avail_idx++;
	return head;
}
