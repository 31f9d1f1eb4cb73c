// SPDX-License-Identifier: GPL-2.0-only
/* What a VMM with a virtual IOMMU does: answers the device's IOTLB misses. */
#include <poll.h>
#include <string.h>
#include <unistd.h>
#include <sys/eventfd.h>

#include "vt.h"

int vt_iotlb_send(struct vt_dev *dev, uint8_t type, const struct vt_iotlb_map *map)
{
	struct vhost_msg msg;
	ssize_t n;

	memset(&msg, 0, sizeof(msg));
	msg.type = VHOST_IOTLB_MSG;
	msg.iotlb.type = type;
	msg.iotlb.iova = map->iova;
	msg.iotlb.size = map->size;
	msg.iotlb.uaddr = (uintptr_t)map->to;
	msg.iotlb.perm = map->perm;
	n = write(dev->fd, &msg, sizeof(msg));
	return n < 0 ? -errno : n == sizeof(msg) ? 0 : -EIO;
}

/* The mapping that @iova is in, cut to a piece. */
static bool map_find(const struct vt_iotlb *iotlb, uint64_t iova, struct vt_iotlb_map *map)
{
	const struct vt_mem *mem = &iotlb->dev->mem;
	uint64_t at, end;
	unsigned int i;

	for (i = 0; i < iotlb->nr_maps; i++) {
		*map = iotlb->map[i];
		if (iova - map->iova < map->size)
			break;
	}
	for (unsigned int k = 0; i == iotlb->nr_maps && k < VT_NR_REGIONS; k++) {
		const struct vt_region *r = &mem->region[k];

		*map = (struct vt_iotlb_map) { r->gpa, r->size, r->dev, VHOST_ACCESS_RW };
		if (iova - r->gpa < r->size)
			break;
		if (k == VT_NR_REGIONS - 1)
			return false;
	}
	at = iova & ~(iotlb->piece - 1);
	if (at < map->iova)
		at = map->iova;
	end = (iova | (iotlb->piece - 1)) + 1;
	if (end > map->iova + map->size)
		end = map->iova + map->size;
	map->to = (uint8_t *)map->to + (at - map->iova);
	map->iova = at;
	map->size = end - at;
	return true;
}

int vt_iotlb_answer(struct vt_iotlb *iotlb, uint64_t iova)
{
	struct vt_iotlb_map map;

	/* What is nowhere gets no answer, as in a real IOMMU. */
	if (!map_find(iotlb, iova, &map))
		return 0;
	return vt_iotlb_send(iotlb->dev, VHOST_IOTLB_UPDATE, &map);
}

static void miss_take(struct vt_iotlb *iotlb)
{
	struct vhost_msg msg;
	ssize_t n = read(iotlb->dev->fd, &msg, sizeof(msg));
	int r = 0;

	if (n != sizeof(msg) || msg.type != VHOST_IOTLB_MSG ||
	    msg.iotlb.type != VHOST_IOTLB_MISS) {
		iotlb->error = n < 0 ? -errno : -EPROTO;
		return;
	}
	/* Counted first: what it was asked for may be done as soon as it is answered. */
	__atomic_store_n(&iotlb->last_miss, msg.iotlb.iova, __ATOMIC_RELEASE);
	__atomic_fetch_add(&iotlb->nr_misses, 1, __ATOMIC_RELEASE);
	if (!__atomic_load_n(&iotlb->mute, __ATOMIC_ACQUIRE))
		r = vt_iotlb_answer(iotlb, msg.iotlb.iova);
	if (r)
		iotlb->error = r;
}

static void *answer_all(void *arg)
{
	struct vt_iotlb *iotlb = arg;
	struct pollfd pfd[2] = {
		{ .fd = iotlb->dev->fd, .events = POLLIN }, { .fd = iotlb->stop, .events = POLLIN },
	};

	while (!iotlb->error && poll(pfd, 2, -1) > 0 && !pfd[1].revents) {
		if (pfd[0].revents & POLLIN)
			miss_take(iotlb);
		else if (pfd[0].revents)
			iotlb->error = -EIO;
	}
	return NULL;
}

int vt_iotlb_start(struct vt_iotlb *iotlb, struct vt_dev *dev)
{
	int r;

	iotlb->dev = dev;
	iotlb->piece = iotlb->piece ?: 4096;
	r = vt_mem_set_at(&dev->mem, dev->fd, VT_IOTLB_SHIFT) ?: vt_log_used(dev, false);
	if (r)
		return r;
	iotlb->stop = eventfd(0, EFD_CLOEXEC);
	if (iotlb->stop < 0)
		return -errno;
	return -pthread_create(&iotlb->thread, NULL, answer_all, iotlb);
}

void vt_iotlb_stop(struct vt_iotlb *iotlb)
{
	if (!iotlb->thread)
		return;
	eventfd_write(iotlb->stop, 1);
	pthread_join(iotlb->thread, NULL);
	close(iotlb->stop);
	iotlb->thread = 0;
}

int vt_iotlb_prefetch(struct vt_iotlb *iotlb)
{
	struct vt_dev *dev = iotlb->dev;
	int r = 0;

	for (unsigned int i = 0; i < dev->nr_queues && !r; i++) {
		struct vt_queue *q = &dev->q[i];
		const struct { uint64_t from, bytes; } part[] = {
			{ q->desc_gpa, q->num * sizeof(*q->desc) },
			{ q->avail_gpa, 6 + q->num * 2 },
			{ q->used_gpa, 6 + q->num * sizeof(struct vring_used_elem) },
		};

		for (unsigned int k = 0; k < 3; k++)
			for (uint64_t at = part[k].from & ~4095ULL;
			     at < part[k].from + part[k].bytes && !r; at += 4096)
				r = vt_iotlb_answer(iotlb, at);
	}
	return r;
}

int vt_iotlb_miss_wait(const struct vt_iotlb *iotlb, unsigned int nr)
{
	int64_t end = vt_now_ms() + vt_timeout_ms();

	while (__atomic_load_n(&iotlb->nr_misses, __ATOMIC_ACQUIRE) <= nr) {
		if (vt_now_ms() > end)
			return -ETIMEDOUT;
		usleep(1000);
	}
	return 0;
}
