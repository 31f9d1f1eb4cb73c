// SPDX-License-Identifier: GPL-2.0-only
/*
 * Drives virtio-blk back ends over their vrings, as guests would, and prints what
 * a request costs: one line of JSON.
 *
 * usage: vring_cost [OPTION...] BACKEND...
 *   BACKEND         a block device, which /dev/vhost-blk then serves, or the socket
 *                   of a vhost-user-blk back end; all of the same kind
 *   --bytes N       of a request (4096)
 *   --depth N       requests in flight on each queue (32); that many are published
 *                   at once, and all awaited
 *   --queues N      (1) of each back end
 *   --workers N     of each device (1), which share its queues; Linux 6.5 and later
 *   --indirect      each request is one descriptor and a table
 *   --requests N    to count, beyond those that are not (20000)
 *   --write PERCENT of the requests (50)
 *
 * Offsets are random. What set-up and the first requests take does not count: a run
 * of N/4 requests and one of N/4 + N differ by N. Nanoseconds are those of
 * CLOCK_MONOTONIC; where a clock tick is an instruction, they are instructions. With
 * several block devices also the kernel's memory for each but the first, in KiB.
 */
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <linux/fs.h>

#include "vhost_user.h"
#include "vt.h"

#define BUFFER_BYTES	(16 * VT_MIB)
/* What a vhost-user back end must have at least. */
#define USER_BYTES	(1024 * VT_MIB)

struct options {
	char **backend;
	unsigned int nr_backends;
	unsigned int bytes, depth, queues, requests, write_percent, workers;
	bool indirect;
};

/* What is counted, of this process, of the device and of the whole machine. */
enum { NS, KICKS, CALLS, SWITCHES, PINS, NR_COUNTERS };

static const char *const counter_name[NR_COUNTERS] = {
	"ns", "kicks", "calls", "switches", "pins",
};

/* A request whose place never changes: only type and sector do. */
struct slot {
	uint16_t head;
	volatile struct vring_desc *data;
	volatile struct virtio_blk_outhdr *hdr;
	volatile uint8_t *status;
};

struct driver {
	struct vt_dev dev;
	uint64_t blocks;
	uint64_t nr_kicks, nr_calls;
	struct slot *slot;	/* depth of them for each queue */
	uint64_t random;
};

static void __attribute__((noreturn)) die(const char *what, int error)
{
	fprintf(stderr, "vring_cost: %s: %s\n", what, strerror(-error));
	exit(1);
}

/* Below @below, which is less than 2^32. */
static uint32_t rnd(struct driver *d, uint64_t below)
{
	d->random ^= d->random << 13;
	d->random ^= d->random >> 7;
	d->random ^= d->random << 17;
	return (d->random >> 32) * below >> 32;
}

/* A number that stands after @name in a file of the kernel's; 0 if there is none. */
static double number_of(const char *path, const char *name)
{
	char line[512];
	double n = 0;
	FILE *f = fopen(path, "r");

	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, name, strlen(name)) && line[strlen(name)] == ' ')
			n = atof(line + strlen(name));
	if (f)
		fclose(f);
	return n;
}

/* Tells the emulator that counting begins or ends: see tools/qemu/profile.c. */
static void mark(void)
{
#ifdef __x86_64__
	asm volatile("nopl 0x6b6c6276(%rax,%rax,1)");
#endif
}

static void count(const struct driver *d, const struct options *o, double counter[NR_COUNTERS])
{
	struct timespec ts;

	counter[KICKS] = 0;
	counter[CALLS] = 0;
	for (unsigned int i = 0; i < o->nr_backends; i++) {
		counter[KICKS] += d[i].nr_kicks;
		counter[CALLS] += d[i].nr_calls;
	}
	counter[SWITCHES] = number_of("/proc/stat", "ctxt");
	counter[PINS] = number_of("/proc/vmstat", "nr_foll_pin_acquired");
	clock_gettime(CLOCK_MONOTONIC, &ts);
	mark();
	counter[NS] = ts.tv_sec * 1e9 + ts.tv_nsec;
}

static void batch_start(struct driver *d, const struct options *o, unsigned int queue)
{
	struct vt_queue *q = &d->dev.q[queue];
	uint32_t sectors = o->bytes / VT_SECTOR, limit = o->write_percent * (UINT32_MAX / 100);

	for (unsigned int i = 0; i < o->depth; i++) {
		struct slot *s = &d->slot[queue * o->depth + i];
		uint32_t block = rnd(d, d->blocks);
		/* The low bits have not been used for the block. */
		bool write = (uint32_t)d->random < limit;

		s->hdr->type = write ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN;
		s->hdr->sector = (uint64_t)block * sectors;
		s->data->flags = VRING_DESC_F_NEXT | (write ? 0 : VRING_DESC_F_WRITE);
		*s->status = VT_STATUS_NONE;
		q->avail->ring[q->avail_idx++ & (q->num - 1)] = s->head;
	}
	vt_publish(q);
	d->nr_kicks += vt_kick_needed(q);
}

/* Until the device has returned all that was published. */
static void batch_wait(struct driver *d, const struct options *o, unsigned int queue)
{
	struct vt_queue *q = &d->dev.q[queue];

	while (q->used->idx != q->avail_idx) {
		*vt_used_event(q) = q->used->idx;
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (q->used->idx == q->avail_idx)
			break;
		uint64_t n;

		/*
		 * poll() and its timeout would cost as much as the device's part, so it
		 * blocks, whatever vt_dev_init() or the back end has set.
		 */
		while (read(q->call, &n, sizeof(n)) != sizeof(n))
			if (errno != EAGAIN || fcntl(q->call, F_SETFL, 0))
				die("a call does not arrive", -errno);
		d->nr_calls += n;
	}
	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	for (unsigned int i = 0; i < o->depth; i++)
		if (*d->slot[queue * o->depth + i].status)
			die("a request failed", -EIO);
}

/* For all requests together, which take few seconds. */
static void out_of_time(int signal __attribute__((unused)))
{
	static const char text[] = "vring_cost: a request does not return\n";

	(void)!write(STDERR_FILENO, text, sizeof(text) - 1);
	_exit(1);
}

/* A multiple of this is run. */
static unsigned int batch(const struct options *o)
{
	return o->nr_backends * o->queues * o->depth;
}

static void run(struct driver *d, const struct options *o, unsigned int requests)
{
	unsigned int nr = o->nr_backends * o->queues;

	for (unsigned int n = 0; n < requests; n += batch(o)) {
		for (unsigned int i = 0; i < nr; i++)
			batch_start(&d[i / o->queues], o, i % o->queues);
		for (unsigned int i = 0; i < nr; i++)
			batch_wait(&d[i / o->queues], o, i % o->queues);
	}
}

static void desc_write(volatile struct vring_desc *desc, uint64_t gpa, uint32_t len,
		       uint16_t flags, uint16_t next)
{
	desc->addr = gpa;
	desc->len = len;
	desc->flags = flags;
	desc->next = next;
}

/* Request @i of queue @q, whose payload is at @data. */
static void slot_init(struct vt_queue *q, const struct options *o, unsigned int i,
		      struct slot *s, uint64_t data)
{
	struct vt_mem *mem = &q->dev->mem;
	uint64_t gpa = vt_alloc_in(mem, 0, 4 * sizeof(struct vring_desc), 16);
	volatile struct vring_desc *desc = q->desc;
	unsigned int at = 3 * i;

	s->head = at;
	if (o->indirect) {
		uint64_t table = vt_alloc_in(mem, 0, 3 * sizeof(*desc), 16);

		s->head = i;
		desc_write(&desc[i], table, 3 * sizeof(*desc), VRING_DESC_F_INDIRECT, 0);
		desc = vt_ptr(mem, table);
		at = 0;
	}
	s->hdr = vt_ptr(mem, gpa);
	s->hdr->ioprio = 0;
	s->status = vt_ptr(mem, gpa + sizeof(*s->hdr));
	s->data = &desc[at + 1];
	desc_write(&desc[at], gpa, sizeof(*s->hdr), VRING_DESC_F_NEXT, at + 1);
	desc_write(&desc[at + 1], data, o->bytes, VRING_DESC_F_NEXT, at + 2);
	desc_write(&desc[at + 2], gpa + sizeof(*s->hdr), 1, VRING_DESC_F_WRITE, 0);
}

static void slots_init(struct driver *d, const struct options *o)
{
	unsigned int nr = o->queues * o->depth, most = BUFFER_BYTES / o->bytes;
	uint64_t buffer[nr];

	d->slot = calloc(nr, sizeof(*d->slot));
	if (!d->slot)
		die("requests", -ENOMEM);
	for (unsigned int i = 0; i < nr; i++) {
		/* Large requests share buffers. */
		buffer[i] = i < most ? vt_alloc(&d->dev.mem, o->bytes) : buffer[i % most];
		/* The first touch of a page is not what is measured. */
		memset(vt_ptr(&d->dev.mem, buffer[i]), i, o->bytes);
		slot_init(&d->dev.q[i / o->depth], o, i % o->depth, &d->slot[i], buffer[i]);
	}
}

/* Each queue has a worker of its own, or shares one. */
static void workers_init(struct vt_dev *dev, const struct options *o)
{
	int worker[VT_NR_QUEUES], r;

	for (unsigned int i = 0; o->workers > 1 && i < o->queues; i++) {
		if (i < o->workers)
			worker[i] = vt_worker_new(dev);
		r = worker[i % o->workers];
		r = r < 0 ? r : vt_worker_attach(dev, i, r);
		if (r < 0)
			die("several workers", r);
	}
}

static void driver_init(struct driver *d, const struct options *o, const char *backend)
{
	struct vt_opts opts = {
		.features = VT_F_BASE | VT_F_EVENT_IDX, .nr_queues = o->queues,
		.only_these = true, .num = o->depth > 80 ? 512 : 256,
	};
	struct stat st;
	uint64_t bytes = 0;
	int fd = -1, r;

	d->random = 88172645463325252ULL;
	if (stat(backend, &st))
		die(backend, -errno);
	if (S_ISSOCK(st.st_mode)) {
		/* Its capacity is not asked for: the caller gives it what is this large. */
		bytes = USER_BYTES;
		opts.only_these = false;
		vhost_user_select(backend);
		r = vt_dev_init(&d->dev, &opts);
	} else {
		fd = open(backend, O_RDWR | O_CLOEXEC);
		if (fd < 0 || ioctl(fd, BLKGETSIZE64, &bytes))
			die(backend, -errno);
		r = vt_dev_init(&d->dev, &opts);
		if (!r)
			workers_init(&d->dev, o);
		r = r ?: vt_attach(&d->dev, fd);
	}
	if (r)
		die("cannot start the device", r);
	if (fd >= 0)
		close(fd);
	d->blocks = bytes / o->bytes;
	slots_init(d, o);
}

static unsigned int parse(const char *s, unsigned int least, unsigned int most)
{
	char *end;
	unsigned long n = strtoul(s, &end, 0);

	if (*end || n < least || n > most) {
		fprintf(stderr, "vring_cost: %s is not a number from %u to %u\n", s, least, most);
		exit(2);
	}
	return n;
}

static void options_parse(struct options *o, int argc, char **argv)
{
	static const struct option names[] = {
		{ "bytes", 1, NULL, 0 }, { "depth", 1, NULL, 1 }, { "queues", 1, NULL, 2 },
		{ "requests", 1, NULL, 3 }, { "write", 1, NULL, 4 }, { "workers", 1, NULL, 5 },
		{ "indirect", 0, NULL, 6 }, { },
	};
	static const struct {
		unsigned int least, most;
	} range[] = {
		{ VT_SECTOR, VT_MIB }, { 1, 128 }, { 1, VT_NR_QUEUES }, { 1, 1 << 30 }, { 0, 100 },
		{ 1, VT_NR_QUEUES },
	};
	unsigned int *const number[] = {
		&o->bytes, &o->depth, &o->queues, &o->requests, &o->write_percent,
		&o->workers,
	};
	int i;

	*o = (struct options) {
		.bytes = 4096, .depth = 32, .queues = 1, .workers = 1,
		.requests = 20000, .write_percent = 50,
	};
	while ((i = getopt_long(argc, argv, "", names, NULL)) != -1) {
		if (i > 6)
			exit(2);
		else if (i == 6)
			o->indirect = true;
		else
			*number[i] = parse(optarg, range[i].least, range[i].most);
	}
	o->bytes &= ~(VT_SECTOR - 1);
	if (optind == argc) {
		fprintf(stderr, "usage: vring_cost [OPTION...] BLOCK-DEVICE...|SOCKET...\n");
		exit(2);
	}
	o->backend = argv + optind;
	o->nr_backends = argc - optind;
}

/* What the kernel holds that is not freed when memory is short: objects, stacks, tables. */
static double kernel_kib(void)
{
	FILE *f = fopen("/proc/sys/vm/stat_refresh", "w");

	/* Each CPU counts for itself for a while. */
	if (f) {
		fputs("1", f);
		fclose(f);
	}
	return number_of("/proc/meminfo", "SUnreclaim:") +
	       number_of("/proc/meminfo", "VmallocUsed:");
}

int main(int argc, char **argv)
{
	double counter[3][NR_COUNTERS], kib = 0;
	struct driver *driver;
	struct options o;
	unsigned int nr[2];

	options_parse(&o, argc, argv);
	driver = calloc(o.nr_backends, sizeof(*driver));
	if (!driver)
		die("back ends", -ENOMEM);
	for (unsigned int i = 0; i < o.nr_backends; i++) {
		driver_init(&driver[i], &o, o.backend[i]);
		/* What the first one takes may be there for all of them. */
		if (!i)
			kib = kernel_kib();
	}
	kib = kernel_kib() - kib;
	signal(SIGALRM, out_of_time);
	alarm(60);
	nr[0] = (o.requests / 4 + batch(&o) - 1) / batch(&o) * batch(&o);
	nr[1] = nr[0] + (o.requests + batch(&o) - 1) / batch(&o) * batch(&o);
	run(driver, &o, nr[0]);
	for (unsigned int i = 0; i < 2; i++) {
		count(driver, &o, counter[i]);
		run(driver, &o, nr[i]);
	}
	count(driver, &o, counter[2]);

	printf("{\"bytes\":%u,\"depth\":%u,\"queues\":%u,\"indirect\":%s,", o.bytes, o.depth,
	       o.queues, o.indirect ? "true" : "false");
	printf("\"devices\":%u", o.nr_backends);
	for (unsigned int i = 0; i < NR_COUNTERS; i++)
		printf(",\"%s\":%.4f", counter_name[i],
		       ((counter[2][i] - counter[1][i]) - (counter[1][i] - counter[0][i])) /
		       (nr[1] - nr[0]));
	if (o.nr_backends > 1 && !vt_transport)
		printf(",\"memory_kib\":%.0f", kib / (o.nr_backends - 1));
	printf("}\n");
	return 0;
}
