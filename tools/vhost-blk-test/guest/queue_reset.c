// SPDX-License-Identifier: GPL-2.0-only
/*
 * queue_reset PCI-ADDRESS: a virtio-blk driver in a guest's user space, because
 * Linux' own never resets a single virtqueue (virtio 1.2, 2.6.1 and 4.1.4.3.1).
 * The device, which no driver may be bound to, has to offer two queues.
 *
 * Linked statically. Takes commands on stdin, a line each, and answers with one line,
 * "ok ..." or "BAD ...":
 *   io Q         8 writes of 4 KiB, then reads that find them, on queue Q
 *   reset Q      reset queue Q, nothing is in flight on it
 *   enable Q     give it other memory and another size, and use it again
 *   turns N      N times: both queues busy, reset queue 0, see that nothing touches its
 *                memory any more while queue 1 completes all it has, enable queue 0
 *   end          reset the device and exit
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_pci.h>
#include <linux/virtio_ring.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define RING_RESET	40		/* VIRTIO_F_RING_RESET */
#define QUEUE_RESET	58		/* of the common configuration: le16 queue_reset */
#define HUGE		(2U << 20)
#define AREA		(HUGE / 4)	/* of one generation of a queue */
#define RINGS		8192U		/* at its start, then the slots */
#define SLOT		8192U
#define DEPTH		8U
#define BLOCK		4096U
#define POISON		0xa5

struct queue {
	uint8_t *area;
	struct vring vring;
	uint16_t avail, used;
	unsigned int generation;
	volatile uint16_t *notify;
};

static struct queue queues[2];
static volatile struct virtio_pci_common_cfg *common;
static uint8_t *huge;
static uint64_t huge_phys;
static unsigned int version;	/* what the next write writes */

__attribute__((format(printf, 1, 2), noreturn)) static void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	printf("BAD ");
	vprintf(format, args);
	printf("\n");
	va_end(args);
	exit(1);
}

static int64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000LL + ts.tv_nsec / 1000000;
}

/* ---- PCI ---- */

static int pci_open(const char *address, const char *name)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/%s", address, name);
	fd = open(path, O_RDWR | O_SYNC);
	if (fd < 0)
		die("%s: %s", path, strerror(errno));
	return fd;
}

static volatile uint8_t *map_bar(const char *address, const struct virtio_pci_cap *cap)
{
	char name[16];
	void *bar;
	int fd;

	snprintf(name, sizeof(name), "resource%u", cap->bar);
	fd = pci_open(address, name);
	bar = mmap(NULL, cap->offset + cap->length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (bar == MAP_FAILED)
		die("%s: %s", name, strerror(errno));
	close(fd);
	return (uint8_t *)bar + cap->offset;
}

/* Enable memory and bus mastering, not interrupts; then find the structures (4.1.4). */
static void pci_init(const char *address)
{
	static volatile uint8_t *notify;
	uint8_t config[256];
	uint16_t command = 0x0406;
	uint32_t multiplier = 0;
	int fd = pci_open(address, "config");

	if (pwrite(fd, &command, 2, 4) != 2 || pread(fd, config, 256, 0) != 256)
		die("config: %s", strerror(errno));
	for (unsigned int at = config[0x34]; at && at < 240; at = config[at + 1]) {
		struct virtio_pci_notify_cap *cap = (void *)&config[at];

		if (cap->cap.cap_vndr != 0x09)
			continue;
		if (cap->cap.cfg_type == VIRTIO_PCI_CAP_COMMON_CFG) {
			common = (void *)map_bar(address, &cap->cap);
		} else if (cap->cap.cfg_type == VIRTIO_PCI_CAP_NOTIFY_CFG) {
			notify = map_bar(address, &cap->cap);
			multiplier = cap->notify_off_multiplier;
		}
	}
	if (!common || !notify)
		die("this is no virtio 1 device");
	for (unsigned int q = 0; q < 2; q++) {
		common->queue_select = q;
		queues[q].notify = (void *)(notify + common->queue_notify_off * multiplier);
	}
	close(fd);
}

/* A page of 2 MiB is contiguous for the device, too. */
static void memory_init(void)
{
	uint64_t entry;
	int fd = open("/proc/self/pagemap", O_RDONLY);

	huge = mmap(NULL, HUGE, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_POPULATE, -1, 0);
	if (huge == MAP_FAILED)
		die("huge page: %s", strerror(errno));
	memset(huge, 0, HUGE);
	if (pread(fd, &entry, 8, (uintptr_t)huge / 4096 * 8) != 8 || !(entry << 9))
		die("pagemap tells no address");
	huge_phys = (entry & ((1ULL << 55) - 1)) * 4096;
	close(fd);
}

static uint64_t phys(const volatile void *p)
{
	return huge_phys + (uintptr_t)((const volatile uint8_t *)p - huge);
}

/* ---- the device ---- */

static void set_address(volatile uint32_t *lo, volatile uint32_t *hi, const void *p)
{
	*lo = (uint32_t)phys(p);
	*hi = phys(p) >> 32;
}

static void queue_enable(unsigned int q)
{
	struct queue *queue = &queues[q];
	unsigned int size = queue->generation % 2 ? 64 : 32;

	queue->area = huge + (q * 2 + queue->generation++ % 2) * AREA;
	memset(queue->area, 0, AREA);
	vring_init(&queue->vring, size, queue->area, 1024);
	queue->vring.avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	queue->avail = 0;
	queue->used = 0;
	common->queue_select = q;
	common->queue_size = size;
	set_address(&common->queue_desc_lo, &common->queue_desc_hi, queue->vring.desc);
	set_address(&common->queue_avail_lo, &common->queue_avail_hi, queue->vring.avail);
	set_address(&common->queue_used_lo, &common->queue_used_hi, queue->vring.used);
	common->queue_enable = 1;
	if (!common->queue_enable)
		die("queue %u: not enabled", q);
}

static void queue_reset(unsigned int q)
{
	volatile uint16_t *reset = (volatile uint16_t *)((volatile uint8_t *)common + QUEUE_RESET);
	int64_t end = now_ms() + 10000;

	common->queue_select = q;
	*reset = 1;
	while (*reset)
		if (now_ms() > end)
			die("queue %u: not reset within 10 s", q);
	if (common->queue_enable)
		die("queue %u: enabled after its reset", q);
}

static void device_init(void)
{
	const uint32_t want = 1U << (VIRTIO_F_VERSION_1 - 32) | 1U << (RING_RESET - 32);

	common->device_status = 0;
	while (common->device_status)
		;
	common->device_status = VIRTIO_CONFIG_S_ACKNOWLEDGE | VIRTIO_CONFIG_S_DRIVER;
	common->device_feature_select = 1;
	if ((common->device_feature & want) != want)
		die("no VIRTIO_F_RING_RESET: features 32.. are %#x", common->device_feature);
	common->guest_feature_select = 0;
	common->guest_feature = 1U << VIRTIO_BLK_F_MQ;
	common->guest_feature_select = 1;
	common->guest_feature = want;
	common->device_status |= VIRTIO_CONFIG_S_FEATURES_OK;
	if (!(common->device_status & VIRTIO_CONFIG_S_FEATURES_OK))
		die("features refused");
	if (common->num_queues < 2)
		die("it has only %u queue", common->num_queues);
	queue_enable(0);
	queue_enable(1);
	common->device_status |= VIRTIO_CONFIG_S_DRIVER_OK;
}

/* ---- requests; slot i of a queue has descriptors 3i to 3i + 2 ---- */

struct slot {
	struct virtio_blk_outhdr hdr;
	uint8_t status;
	uint8_t data[BLOCK] __attribute__((aligned(BLOCK)));
};

_Static_assert(sizeof(struct slot) <= SLOT, "slots overlap");

static struct slot *slot_of(struct queue *queue, unsigned int i)
{
	return (void *)(queue->area + RINGS + i * SLOT);
}

static uint32_t word(unsigned int q, unsigned int i, unsigned int which)
{
	return which << 8 | q << 4 | i;
}

static void put(struct queue *queue, unsigned int i, uint32_t type, uint64_t sector)
{
	struct slot *slot = slot_of(queue, i);
	struct vring_desc *desc = &queue->vring.desc[i * 3];

	slot->hdr.type = type;
	slot->hdr.ioprio = 0;
	slot->hdr.sector = sector;
	slot->status = 0xff;
	desc[0] = (struct vring_desc){ phys(&slot->hdr), sizeof(slot->hdr), 0, i * 3 + 1 };
	desc[1] = (struct vring_desc){ phys(slot->data), BLOCK, 0, i * 3 + 2 };
	desc[2] = (struct vring_desc){ phys(&slot->status), 1, VRING_DESC_F_WRITE, 0 };
	desc[0].flags = VRING_DESC_F_NEXT;
	desc[1].flags = VRING_DESC_F_NEXT;
	if (type == VIRTIO_BLK_T_IN)
		desc[1].flags |= VRING_DESC_F_WRITE;
	queue->vring.avail->ring[queue->avail++ % queue->vring.num] = i * 3;
}

/* One request for each slot, to the queue's own sectors. */
static void submit(unsigned int q, uint32_t type)
{
	struct queue *queue = &queues[q];

	for (unsigned int i = 0; i < DEPTH; i++) {
		uint32_t *data = (uint32_t *)slot_of(queue, i)->data;

		for (unsigned int n = 0; n < BLOCK / 4; n++)
			data[n] = type == VIRTIO_BLK_T_IN ? 0 : word(q, i, version);
		put(queue, i, type, (q * DEPTH + i) * (BLOCK / 512));
	}
	__sync_synchronize();
	queue->vring.avail->idx = queue->avail;
	__sync_synchronize();
	*queue->notify = q;
}

static void await(unsigned int q)
{
	struct queue *queue = &queues[q];
	volatile uint16_t *idx = &queue->vring.used->idx;
	int64_t end = now_ms() + 20000;

	queue->used += DEPTH;
	while (*idx != queue->used)
		if (now_ms() > end)
			die("queue %u: used index %u after 20 s, not %u", q, *idx, queue->used);
	for (unsigned int i = 0; i < DEPTH; i++)
		if (slot_of(queue, i)->status)
			die("queue %u: status %u", q, slot_of(queue, i)->status);
}

static void verify(unsigned int q)
{
	submit(q, VIRTIO_BLK_T_IN);
	await(q);
	for (unsigned int i = 0; i < DEPTH; i++) {
		uint32_t *data = (uint32_t *)slot_of(&queues[q], i)->data;

		for (unsigned int n = 0; n < BLOCK / 4; n++) {
			uint32_t wrote = word(q, i, version);

			if (data[n] != wrote)
				die("queue %u: read %#x, wrote %#x", q, data[n], wrote);
		}
	}
}

static void io(unsigned int q)
{
	version++;
	submit(q, VIRTIO_BLK_T_OUT);
	await(q);
	verify(q);
}

static void turn(void)
{
	uint8_t *area = queues[0].area;

	version++;
	submit(1, VIRTIO_BLK_T_OUT);
	submit(0, VIRTIO_BLK_T_IN);
	queue_reset(0);
	memset(area, POISON, AREA);
	*queues[0].notify = 0;
	await(1);
	verify(1);
	for (unsigned int i = 0; i < AREA; i++)
		if (area[i] != POISON)
			die("byte %u of a queue's memory written after its reset", i);
	queue_enable(0);
	io(0);
}

static void obey(const char *command, unsigned int n)
{
	if (!strcmp(command, "turns")) {
		while (n--)
			turn();
	} else if (n > 1) {
		die("there is no queue %u", n);
	} else if (!strcmp(command, "io")) {
		io(n);
	} else if (!strcmp(command, "reset")) {
		queue_reset(n);
	} else if (!strcmp(command, "enable")) {
		queue_enable(n);
	} else {
		die("there is no command '%s'", command);
	}
}

int main(int argc, char **argv)
{
	char line[64], command[16];
	unsigned int n;

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc != 2)
		die("usage: queue_reset PCI-ADDRESS");
	memory_init();
	pci_init(argv[1]);
	device_init();
	printf("ok\n");
	while (fgets(line, sizeof(line), stdin) && strcmp(line, "end\n")) {
		if (sscanf(line, "%15s %u", command, &n) != 2)
			die("what is '%s'?", line);
		obey(command, n);
		printf("ok\n");
	}
	common->device_status = 0;
	printf("ok\n");
	return 0;
}
