// SPDX-License-Identifier: GPL-2.0-only
/* Guest memory: one memfd, seen by the device in pieces and by the test whole. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/mman.h>

#include "vt.h"

#define VT_BASE_GPA	0x10000000ULL
#define VT_HIGH_GPA	0x140000000ULL

int64_t vt_now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

static unsigned long env_number(const char *name, unsigned long fallback)
{
	const char *s = getenv(name);
	unsigned long n = s ? strtoul(s, NULL, 10) : 0;

	return n ? n : fallback;
}

int vt_timeout_ms(void)
{
	return env_number("VT_TIMEOUT_MS", 5000);
}

unsigned int vt_loops(unsigned int n)
{
	return n * env_number("VT_LOOPS", 1);
}

unsigned int vt_loops_to(unsigned int n, unsigned int most)
{
	unsigned int loops = vt_loops(n);

	return loops < most ? loops : most;
}

static void region_set(struct vt_mem *mem, int i, uint64_t gpa, size_t size)
{
	struct vt_region *r = &mem->region[i];

	memset(r, 0, sizeof(*r));
	r->gpa = gpa;
	r->size = size;
	r->limit = size;
	r->offset = mem->size;
	mem->size += size;
}

int vt_mem_map(struct vt_mem *mem)
{
	const size_t guard = 64 * 1024;

	/* Reserved with room on both sides: no two views may touch. */
	for (int i = 0; i < VT_NR_REGIONS; i++) {
		struct vt_region *r = &mem->region[i];
		uint8_t *p = mmap(NULL, r->size + 2 * guard, PROT_NONE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		if (p == MAP_FAILED)
			return -errno;
		r->dev = p + guard;
		if (mmap(r->dev, r->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
			 mem->fd, r->offset) == MAP_FAILED)
			return -errno;
	}
	return 0;
}

int vt_mem_init(struct vt_mem *mem)
{
	memset(mem, 0, sizeof(*mem));
	region_set(mem, 0, VT_BASE_GPA, 6 * VT_MIB);
	region_set(mem, 1, VT_BASE_GPA + 6 * VT_MIB, 26 * VT_MIB);
	region_set(mem, 2, VT_HIGH_GPA, 1 * VT_MIB);
	/* Keep what lies around the boundary free for vt_boundary. */
	mem->region[0].limit -= VT_MIB;
	mem->region[1].used = VT_MIB;

	mem->fd = memfd_create("vhost-blk-test", MFD_CLOEXEC);
	if (mem->fd < 0)
		return -errno;
	if (ftruncate(mem->fd, mem->size))
		return -errno;
	mem->view = mmap(NULL, mem->size, PROT_READ | PROT_WRITE, MAP_SHARED, mem->fd, 0);
	if (mem->view == MAP_FAILED)
		return -errno;
	return vt_mem_map(mem);
}

void vt_mem_fini(struct vt_mem *mem)
{
	const size_t guard = 64 * 1024;

	for (int i = 0; i < VT_NR_REGIONS; i++)
		if (mem->region[i].dev)
			munmap(mem->region[i].dev - guard, mem->region[i].size + 2 * guard);
	if (mem->view)
		munmap(mem->view, mem->size);
	if (mem->fd > 0)
		close(mem->fd);
	memset(mem, 0, sizeof(*mem));
}

static const struct vt_region *region_find(const struct vt_mem *mem, uint64_t gpa)
{
	for (int i = 0; i < VT_NR_REGIONS; i++)
		if (gpa - mem->region[i].gpa < mem->region[i].size)
			return &mem->region[i];
	return NULL;
}

void *vt_ptr(const struct vt_mem *mem, uint64_t gpa)
{
	const struct vt_region *r = region_find(mem, gpa);

	return r ? mem->view + r->offset + (gpa - r->gpa) : NULL;
}

void *vt_dev_ptr(const struct vt_mem *mem, uint64_t gpa)
{
	const struct vt_region *r = region_find(mem, gpa);

	return r ? r->dev + (gpa - r->gpa) : NULL;
}

static int vm_counter(const char *name, long *value)
{
	char line[96];
	size_t len = strlen(name);
	int r = -ENOENT;
	FILE *f = fopen("/proc/vmstat", "re");

	if (!f)
		return -errno;
	while (r && fgets(line, sizeof(line), f)) {
		if (strncmp(line, name, len) || line[len] != ' ')
			continue;
		*value = strtol(line + len, NULL, 10);
		r = 0;
	}
	fclose(f);
	return r;
}

long vt_pinned_pages(void)
{
	long acquired, released;

	/* What each CPU has counted for itself is added up first. */
	vt_write_file("/proc/sys/vm/stat_refresh", "1");
	if (vm_counter("nr_foll_pin_acquired", &acquired) ||
	    vm_counter("nr_foll_pin_released", &released))
		return -ENOENT;
	return acquired - released;
}

int vt_pinned_wait(long max)
{
	int64_t end = vt_now_ms() + vt_timeout_ms();

	/* Others pin pages, too, but not for long: 9p does for each read and write. */
	while (vt_pinned_pages() > max) {
		if (vt_now_ms() > end)
			return -ETIMEDOUT;
		usleep(1000);
	}
	return 0;
}

/* Threads that drive a vring each allocate indirect tables while they run. */
uint64_t vt_alloc_in(struct vt_mem *mem, int region, size_t size, size_t align)
{
	struct vt_region *r = &mem->region[region];
	size_t used = __atomic_load_n(&r->used, __ATOMIC_RELAXED), at;

	do {
		at = (used + align - 1) / align * align;
		/* A test that wants more than there is has a bug of its own. */
		if (at + size > r->limit)
			abort();
	} while (!__atomic_compare_exchange_n(&r->used, &used, at + size, false,
					      __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	return r->gpa + at;
}

uint64_t vt_alloc(struct vt_mem *mem, size_t size)
{
	return vt_alloc_in(mem, 1, size, 4096);
}

uint64_t vt_boundary(const struct vt_mem *mem)
{
	return mem->region[1].gpa;
}

uint64_t vt_end(const struct vt_mem *mem)
{
	return mem->region[1].gpa + mem->region[1].size;
}

uint64_t vt_hole(const struct vt_mem *mem)
{
	return vt_end(mem) + 16 * VT_MIB;
}

int vt_dev_protect(struct vt_mem *mem, uint64_t gpa, size_t size, int prot)
{
	const struct vt_region *r = region_find(mem, gpa);
	uint8_t *p = vt_dev_ptr(mem, gpa);

	if (!p)
		return -EINVAL;
	if (prot == PROT_NONE)
		return munmap(p, size) ? -errno : 0;
	if (mmap(p, size, prot, MAP_SHARED | MAP_FIXED, mem->fd,
		 r->offset + (gpa - r->gpa)) == MAP_FAILED)
		return -errno;
	return 0;
}

int vt_mem_set_at(const struct vt_mem *mem, int fd, uint64_t shift)
{
	struct {
		struct vhost_memory head;
		struct vhost_memory_region r[VT_NR_REGIONS];
	} table = { .head.nregions = VT_NR_REGIONS };

	for (int i = 0; i < VT_NR_REGIONS; i++)
		table.r[i] = (struct vhost_memory_region) {
			.guest_phys_addr = mem->region[i].gpa + shift,
			.memory_size = mem->region[i].size,
			.userspace_addr = (uintptr_t)mem->region[i].dev,
		};
	return vt_ioctl(fd, VHOST_SET_MEM_TABLE, &table, sizeof(table));
}

int vt_mem_set(const struct vt_mem *mem, int fd)
{
	return vt_transport ? vt_transport->set_memory(fd, mem) : vt_mem_set_at(mem, fd, 0);
}
