// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost_blk, descriptor chains: a short way to fetch those that drivers make.
 *
 * vhost_get_vq_desc() translates each address by a tree and knows every case.
 * Here is only the usual one: no IOMMU, no log, little endian, a well-formed chain
 * each of whose pieces lies in one region of memory. For all else nothing is decided:
 * vhost core's function starts from the beginning, and is the one that says
 * what is wrong with a chain. Section numbers are those of virtio 1.2.
 */
#include <linux/nospec.h>
#include <linux/uaccess.h>
#include <linux/vhost_iotlb.h>

#include "blk-vq.h"

/* Most descriptors of an indirect table: next is 16 bits wide. */
#define VHOST_BLK_TABLE_MAX	(U16_MAX + 1)

static void __user *vhost_blk_region_user(const struct vhost_blk_region *region, u64 addr)
{
	return (void __user *)(uintptr_t)(addr + region->offset);
}

/* A region that is none of the hints. NULL: the piece does not lie in one region. */
static noinline void __user *
vhost_blk_desc_search(const struct vhost_virtqueue *vq, struct vhost_blk_hints *hints,
		      u64 addr, u64 last)
{
	const struct vhost_iotlb_map *map = vhost_iotlb_itree_first(vq->umem, addr, last);
	struct vhost_blk_region *region = &hints->region[hints->oldest];

	if (!map || addr < map->start || last > map->last || map->perm != VHOST_MAP_RW)
		return NULL;
	region->start = map->start;
	region->last = map->last;
	region->offset = map->addr - map->start;
	hints->oldest = !hints->oldest;
	return vhost_blk_region_user(region, addr);
}

/*
 * Where in the owner's address space is a piece of guest memory? NULL: not in one
 * region.
 */
static __always_inline void __user *
vhost_blk_desc_translate(const struct vhost_virtqueue *vq, struct vhost_blk_hints *hints,
			 u64 addr, u32 len)
{
	u64 last = addr + len - 1;
	unsigned int i;

	if (unlikely(!len || last < addr))
		return NULL;
	for (i = 0; i < ARRAY_SIZE(hints->region); i++)
		if (addr >= hints->region[i].start && last <= hints->region[i].last)
			return vhost_blk_region_user(&hints->region[i], addr);
	return vhost_blk_desc_search(vq, hints, addr, last);
}

/**
 * vhost_blk_desc_is_empty - is there surely nothing to fetch?
 * @vq: the vring
 *
 * vhost_vq_avail_empty() would keep the index that it reads, and not check it.
 *
 * Context: as vhost_blk_desc_get().
 */
bool vhost_blk_desc_is_empty(struct vhost_virtqueue *vq)
{
	__virtio16 idx;

	return vq->avail_idx == vq->last_avail_idx && !vq->iotlb &&
	       !get_user(idx, &vq->avail->idx) &&
	       vhost16_to_cpu(vq, idx) == vq->last_avail_idx;
}

/* Return: the next head that the driver made available, vq->num if there is none, or -errno. */
static int vhost_blk_desc_head(struct vhost_virtqueue *vq)
{
	const __le16 __user *entry = (const __le16 __user *)vq->avail->ring;
	__le16 raw;
	u16 idx;

	if (vq->avail_idx == vq->last_avail_idx) {
		if (get_user(raw, (const __le16 __user *)&vq->avail->idx))
			return -EFAULT;
		idx = le16_to_cpu(raw);
		if (idx == vq->last_avail_idx)
			return vq->num;
		if ((u16)(idx - vq->last_avail_idx) > vq->num)
			return -EINVAL;
		vq->avail_idx = idx;
		/* The index is read before the entries. Pairs with the driver's barrier. */
		smp_rmb();
	}
	if (get_user(raw, entry + (vq->last_avail_idx & (vq->num - 1))))
		return -EFAULT;
	idx = le16_to_cpu(raw);
	return idx < vq->num ? idx : -EINVAL;
}

/**
 * struct vhost_blk_chain - a chain that is copied, but not translated yet
 * @table: what its descriptors are in
 * @num:   entries of @table
 * @nr:    pieces in vq->iov, with guest addresses
 * @nr_in: those of them that are device-writable, the last ones
 */
struct vhost_blk_chain {
	const struct vring_desc __user *table;
	unsigned int num;
	unsigned int nr;
	unsigned int nr_in;
};

/*
 * Copy the chain that begins at entry @i. Return: 0 if it is a usual one,
 * VRING_DESC_F_INDIRECT if its first descriptor, which is in vq->iov, says that the
 * chain is elsewhere, -errno else.
 */
static int vhost_blk_desc_copy(struct vhost_virtqueue *vq, struct vhost_blk_chain *chain,
			       unsigned int i)
{
	const struct vring_desc __user *table = chain->table;
	struct iovec *iov = vq->iov, *const end = iov + ARRAY_SIZE(vq->iov);
	const unsigned int num = chain->num;
	const __le64 __user *from;
	unsigned int nr_in = 0;
	int ret = -EINVAL;
	__le64 addr, rest;
	u16 flags;

	BUILD_BUG_ON(sizeof(*table) != sizeof(addr) + sizeof(rest));
	/* One section for all of them: to open it takes longer than to copy one. */
	if (!IS_ALIGNED((unsigned long)table, sizeof(*from)) ||
	    !user_access_begin(table, num * sizeof(*table)))
		return -EINVAL;
	do {
		if (unlikely(i >= num || iov == end))
			goto out;
		from = (const __le64 __user *)(table + array_index_nospec(i, num));
		unsafe_get_user(addr, from, out);
		unsafe_get_user(rest, from + 1, out);
		/* After the address: len, 32 bits wide, flags and next, 16 each. */
		flags = le64_to_cpu(rest) >> 32;
		iov->iov_base = (void __user *)(uintptr_t)le64_to_cpu(addr);
		iov->iov_len = (u32)le64_to_cpu(rest);
		iov++;
		if (unlikely(flags & VRING_DESC_F_INDIRECT)) {
			/* It must be the only one (2.7.5.3.1). */
			if (iov == vq->iov + 1 && !(flags & VRING_DESC_F_NEXT))
				ret = VRING_DESC_F_INDIRECT;
			goto out;
		}
		if (flags & VRING_DESC_F_WRITE)
			nr_in++;
		else if (unlikely(nr_in))
			goto out;
		i = le64_to_cpu(rest) >> 48;
	} while (flags & VRING_DESC_F_NEXT);
	chain->nr = iov - vq->iov;
	chain->nr_in = nr_in;
	ret = 0;
out:
	user_access_end();
	return ret;
}

/* Go to the table that the descriptor in vq->iov refers to (2.7.5.3). */
static bool vhost_blk_desc_enter(struct vhost_virtqueue *vq, struct vhost_blk_hints *hints,
				 struct vhost_blk_chain *chain)
{
	size_t len = vq->iov->iov_len;

	chain->table = vhost_blk_desc_translate(vq, hints, (uintptr_t)vq->iov->iov_base, len);
	chain->num = len / sizeof(*chain->table);
	return chain->table && !(len % sizeof(*chain->table)) && chain->num <= VHOST_BLK_TABLE_MAX;
}

/* Fetch the chain that begins at @head into vq->iov. Return: false if it is not a usual one. */
static bool vhost_blk_desc_chain(struct vhost_virtqueue *vq, struct vhost_blk_hints *hints,
				 unsigned int head, unsigned int *nr_out, unsigned int *nr_in)
{
	struct vhost_blk_chain chain = { .table = vq->desc, .num = vq->num };
	struct iovec *iov = vq->iov, *end;
	unsigned int i = head, level;
	int ret;

	/* A table must not refer to another (2.7.5.3.1). */
	for (level = 0; level < 2; level++) {
		ret = vhost_blk_desc_copy(vq, &chain, i);
		if (ret != VRING_DESC_F_INDIRECT)
			break;
		if (!vhost_blk_desc_enter(vq, hints, &chain))
			return false;
		i = 0;
	}
	if (ret)
		return false;
	for (end = iov + chain.nr; iov < end; iov++) {
		iov->iov_base = vhost_blk_desc_translate(vq, hints, (uintptr_t)iov->iov_base,
							 iov->iov_len);
		if (!iov->iov_base)
			return false;
	}
	*nr_out = chain.nr - chain.nr_in;
	*nr_in = chain.nr_in;
	return true;
}

/**
 * vhost_blk_desc_get - fetch the next chain, if it is a usual one
 * @vq:     the vring, little endian, without IOTLB and log; vq->iov is filled
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
