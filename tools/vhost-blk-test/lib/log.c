// SPDX-License-Identifier: GPL-2.0-only
/* The log of what a device writes to guest memory, a bit for each page of it. */
#include <string.h>
#include <sys/mman.h>

#include "vt.h"

#define PAGE_OF(gpa)	((gpa) / VT_LOG_PAGE)

int vt_log_init(struct vt_log *log, struct vt_dev *dev)
{
	const struct vt_region *last = &dev->mem.region[VT_NR_REGIONS - 1];

	memset(log, 0, sizeof(*log));
	log->dev = dev;
	log->bytes = PAGE_OF(last->gpa + last->size + VT_IOTLB_SHIFT - 1) / 8 + 1;
	log->bits = mmap(NULL, log->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
	return log->bits == MAP_FAILED ? -errno : 0;
}

void vt_log_fini(struct vt_log *log)
{
	if (log->bits)
		munmap(log->bits, log->bytes);
	log->bits = NULL;
}

int vt_log_base(struct vt_dev *dev, const void *bits)
{
	uint64_t base = (uintptr_t)bits;

	return vt_ioctl(dev->fd, VHOST_SET_LOG_BASE, &base, sizeof(base));
}

/* The rings' addresses once more, with or without the order to log the used ring. */
int vt_log_used(struct vt_dev *dev, bool on)
{
	int r = 0;

	for (unsigned int i = 0; i < dev->nr_queues && !r; i++) {
		struct vt_queue *q = &dev->q[i];
		struct vhost_vring_addr a = {
			.index = i, .flags = on ? 1 << VHOST_VRING_F_LOG : 0,
			.desc_user_addr = (uintptr_t)vt_dev_ptr(&dev->mem, q->desc_gpa),
			.avail_user_addr = (uintptr_t)vt_dev_ptr(&dev->mem, q->avail_gpa),
			.used_user_addr = (uintptr_t)vt_dev_ptr(&dev->mem, q->used_gpa),
			.log_guest_addr = q->used_gpa,
		};

		/* With an IOTLB these are addresses that the driver uses. */
		if (dev->features & VT_F(VIRTIO_F_ACCESS_PLATFORM)) {
			a.desc_user_addr = q->desc_gpa;
			a.avail_user_addr = q->avail_gpa;
			a.used_user_addr = q->used_gpa;
		}
		r = vt_ioctl(dev->fd, VHOST_SET_VRING_ADDR, &a, sizeof(a));
	}
	return r;
}

int vt_log_features(struct vt_dev *dev, bool on)
{
	uint64_t features = dev->features | (on ? VT_F(VHOST_F_LOG_ALL) : 0);

	return vt_ioctl(dev->fd, VHOST_SET_FEATURES, &features, sizeof(features));
}

int vt_log_start(struct vt_log *log)
{
	vt_log_clear(log);
	return vt_log_base(log->dev, log->bits) ?: vt_log_features(log->dev, true) ?:
	       vt_log_used(log->dev, true);
}

int vt_log_stop(struct vt_log *log)
{
	return vt_log_features(log->dev, false) ?: vt_log_used(log->dev, false);
}

void vt_log_clear(struct vt_log *log)
{
	for (size_t i = 0; i < log->bytes; i++)
		__atomic_store_n(&log->bits[i], 0, __ATOMIC_RELAXED);
}

bool vt_log_has(const struct vt_log *log, uint64_t gpa)
{
	uint64_t page = PAGE_OF(gpa);

	return page / 8 < log->bytes &&
	       __atomic_load_n(&log->bits[page / 8], __ATOMIC_ACQUIRE) >> page % 8 & 1;
}

unsigned int vt_log_count(const struct vt_log *log, uint64_t gpa, uint64_t bytes)
{
	unsigned int n = 0;

	for (uint64_t page = PAGE_OF(gpa); bytes && page <= PAGE_OF(gpa + bytes - 1); page++)
		n += vt_log_has(log, page * VT_LOG_PAGE);
	return n;
}

unsigned int vt_log_count_all(const struct vt_log *log)
{
	unsigned int n = 0;

	for (size_t i = 0; i < log->bytes; i++)
		n += __builtin_popcount(log->bits[i]);
	return n;
}
