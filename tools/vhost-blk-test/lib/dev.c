// SPDX-License-Identifier: GPL-2.0-only
/* Set-up of /dev/vhost-blk as a VMM does it. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include "vt.h"

#define COMPAT_ROOM	8192

const struct vt_transport *vt_transport;

static void *compat_arg;	/* below 4 GiB once vt_ioctl_compat was called */

int vt_ioctl_compat(void)
{
#ifdef __x86_64__
	long r = 20;	/* getpid in the i386 table */

	/* A 64-bit kernel without an i386 entry, as user-mode Linux is. */
	asm volatile("int $0x80" : "+a" (r) : : "memory", "r8", "r9", "r10", "r11");
	if (r != getpid())
		return -EOPNOTSUPP;
	compat_arg = mmap(NULL, COMPAT_ROOM, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	return compat_arg == MAP_FAILED ? -errno : 0;
#else
	return -EOPNOTSUPP;
#endif
}

static long ioctl_compat(int fd, unsigned long cmd, void *arg, size_t size)
{
#ifdef __x86_64__
	long r = 54;	/* ioctl in the i386 table, which int 0x80 always uses */

	memcpy(compat_arg, arg, size);
	asm volatile("int $0x80" : "+a" (r)
		     : "b" (fd), "c" (cmd), "d" (compat_arg)
		     : "memory", "r8", "r9", "r10", "r11");
	memcpy(arg, compat_arg, size);
	return (int)r;
#else
	return -EOPNOTSUPP;
#endif
}

int vt_ioctl(int fd, unsigned long cmd, void *arg, size_t size)
{
	if (vt_transport)
		return vt_transport->ioctl(fd, cmd, arg, size);
	if (compat_arg && size <= COMPAT_ROOM)
		return ioctl_compat(fd, cmd, arg, size);
	return ioctl(fd, cmd, arg) < 0 ? -errno : 0;
}

int vt_vring_fd(struct vt_dev *dev, unsigned long cmd, unsigned int i, int fd)
{
	struct vhost_vring_file f = { .index = i, .fd = fd };

	return vt_ioctl(dev->fd, cmd, &f, sizeof(f));
}

int vt_vring_base(struct vt_dev *dev, unsigned int i)
{
	struct vhost_vring_state s = { .index = i };
	int r = vt_ioctl(dev->fd, VHOST_GET_VRING_BASE, &s, sizeof(s));

	return r < 0 ? r : (int)s.num;
}

int vt_vring_set(struct vt_dev *dev, unsigned int i, uint16_t base)
{
	struct vt_queue *q = &dev->q[i];
	struct vhost_vring_state s = { .index = i, .num = q->num };
	struct vhost_vring_addr a = {
		.index = i,
		.desc_user_addr = (uintptr_t)vt_dev_ptr(&dev->mem, q->desc_gpa),
		.avail_user_addr = (uintptr_t)vt_dev_ptr(&dev->mem, q->avail_gpa),
		.used_user_addr = (uintptr_t)vt_dev_ptr(&dev->mem, q->used_gpa),
	};
	int r;

	r = vt_ioctl(dev->fd, VHOST_SET_VRING_NUM, &s, sizeof(s));
	s.num = base;
	r = r ?: vt_ioctl(dev->fd, VHOST_SET_VRING_BASE, &s, sizeof(s));
	r = r ?: vt_ioctl(dev->fd, VHOST_SET_VRING_ADDR, &a, sizeof(a));
	r = r ?: vt_vring_fd(dev, VHOST_SET_VRING_KICK, i, q->kick);
	r = r ?: vt_vring_fd(dev, VHOST_SET_VRING_CALL, i, q->call);
	r = r ?: vt_vring_fd(dev, VHOST_SET_VRING_ERR, i, q->err);
	return r;
}

static size_t avail_bytes(const struct vt_queue *q)
{
	return sizeof(struct vring_avail) + (q->num + 1) * sizeof(__virtio16);
}

static size_t used_bytes(const struct vt_queue *q)
{
	return sizeof(struct vring_used) + q->num * sizeof(struct vring_used_elem) +
	       sizeof(__virtio16);
}

static void queue_clear(struct vt_queue *q, uint16_t base)
{
	memset((void *)q->desc, 0, q->num * sizeof(*q->desc));
	memset((void *)q->avail, 0, avail_bytes(q));
	memset((void *)q->used, 0, used_bytes(q));
	for (unsigned int i = 0; i < q->num; i++) {
		q->next_free[i] = i + 1;
		q->slot[i].busy = false;
		q->slot[i].nr_desc = 0;
		q->slot[i].req = NULL;
	}
	q->free_head = 0;
	q->nr_free = q->num;
	q->inflight = 0;
	q->avail->idx = base;
	q->used->idx = base;
	q->avail_idx = base;
	q->kicked_idx = base;
	q->used_idx = base;
}

static int queue_init(struct vt_dev *dev, unsigned int i, unsigned int num)
{
	struct vt_queue *q = &dev->q[i];
	struct vt_mem *mem = &dev->mem;

	q->dev = dev;
	q->index = i;
	q->num = num;
	/*
	 * Pages of their own, so that a test can take them away one by one, but
	 * no better aligned than promised: 16, 2 and 4 bytes (2.7).
	 */
	q->desc_gpa = vt_alloc_in(mem, 0, num * sizeof(*q->desc) + 16, 4096) + 16;
	q->avail_gpa = vt_alloc_in(mem, 0, avail_bytes(q) + 2, 4096) + 2;
	q->used_gpa = vt_alloc_in(mem, 0, used_bytes(q) + 4, 4096) + 4;
	q->slot_gpa = vt_alloc_in(mem, 0, num * 32, 4096);
	q->desc = vt_ptr(mem, q->desc_gpa);
	q->avail = vt_ptr(mem, q->avail_gpa);
	q->used = vt_ptr(mem, q->used_gpa);
	q->next_free = calloc(num, sizeof(*q->next_free));
	q->slot = calloc(num, sizeof(*q->slot));
	q->kick = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	q->call = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	q->err = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (!q->next_free || !q->slot || q->kick < 0 || q->call < 0 || q->err < 0)
		return -ENOMEM;
	queue_clear(q, 0);
	return vt_vring_set(dev, i, 0);
}

int vt_vring_reset(struct vt_dev *dev, unsigned int i, uint16_t base)
{
	struct vt_queue *q = &dev->q[i];

	queue_clear(q, base);
	vt_event_count(q->kick, 0);
	vt_event_count(q->call, 0);
	vt_event_count(q->err, 0);
	return vt_vring_set(dev, i, base);
}

int vt_dev_open(struct vt_dev *dev)
{
	int r;

	dev->fd = vt_transport ? vt_transport->open() : open(VT_DEV, O_RDWR | O_CLOEXEC);
	if (dev->fd < 0)
		return -errno;
	r = !dev->only_these ? 0 : vt_ioctl(dev->fd, VHOST_BLK_SET_NUM_QUEUES, &dev->nr_queues,
					    sizeof(dev->nr_queues));
	r = r ?: vt_ioctl(dev->fd, VHOST_SET_OWNER, NULL, 0);
	r = r ?: vt_ioctl(dev->fd, VHOST_SET_FEATURES, &dev->features, sizeof(dev->features));
	return r ?: vt_mem_set(&dev->mem, dev->fd);
}

int vt_dev_init(struct vt_dev *dev, const struct vt_opts *opts)
{
	unsigned int num = opts->num ?: 256;
	int r;

	memset(dev, 0, sizeof(*dev));
	dev->fd = -1;
	dev->features = opts->features ?: VT_F_BASE;
	dev->indirect = opts->indirect;
	dev->only_these = opts->only_these;
	dev->nr_queues = opts->nr_queues ?: 1;
	r = vt_mem_init(&dev->mem);
	r = r ?: vt_dev_open(dev);
	for (unsigned int i = 0; !r && i < dev->nr_queues; i++)
		r = queue_init(dev, i, num);
	return r;
}

void vt_dev_fini(struct vt_dev *dev)
{
	if (dev->fd >= 0)
		close(dev->fd);
	dev->fd = -1;
	for (unsigned int i = 0; i < dev->nr_queues; i++) {
		struct vt_queue *q = &dev->q[i];

		if (!q->slot)
			continue;
		close(q->kick);
		close(q->call);
		close(q->err);
		free(q->next_free);
		free(q->slot);
	}
	vt_mem_fini(&dev->mem);
}

int vt_attach(struct vt_dev *dev, int bdev_fd)
{
	struct vhost_blk_backend b = { .fd = bdev_fd };

	return vt_ioctl(dev->fd, VHOST_BLK_SET_BACKEND, &b, sizeof(b));
}

int vt_detach(struct vt_dev *dev)
{
	return vt_attach(dev, -1);
}

int vt_query(int fd, int bdev_fd, struct vhost_blk_query *query)
{
	memset(query, 0, sizeof(*query));
	query->fd = bdev_fd;
	return vt_ioctl(fd, VHOST_BLK_QUERY_BACKEND, query, sizeof(*query));
}

int vt_worker_new(const struct vt_dev *dev)
{
	struct vhost_worker_state s = {};
	int r = vt_ioctl(dev->fd, VHOST_NEW_WORKER, &s, sizeof(s));

	return r ?: (int)s.worker_id;
}

int vt_worker_attach(const struct vt_dev *dev, unsigned int i, unsigned int id)
{
	struct vhost_vring_worker w = { .index = i, .worker_id = id };

	return vt_ioctl(dev->fd, VHOST_ATTACH_VRING_WORKER, &w, sizeof(w));
}
