// SPDX-License-Identifier: GPL-2.0-only
/*
 * A hostile guest, and a careless VMM: structured, seeded fuzzing of the rings,
 * the descriptor tables, the request headers, guest memory and the ioctls.
 *
 *   fuzz [--seconds S | --rounds N] [--seed SEED]
 *
 * A round opens a device, does a few hundred random things to it while a thread
 * rewrites guest memory, then gives the device fresh rings: a good request must
 * pass and the close must return. Round k of seed S is round 0 of seed S + k, so
 * what a failing round prints replays it (but for the racing thread's timing).
 * TAP on stdout, one point for all rounds. Exit: 0 or 1.
 */
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>

#include "vt.h"

#define ROUND_SECONDS	60	/* deadline of a round; far above what one takes */
#define POOL_PAGES	64

struct fuzz {
	struct vt_dev dev;
	struct vt_bdev bdev;
	uint64_t rng;
	uint64_t seed;
	uint64_t pool;		/* guest memory that requests use */
	uint64_t tables;	/* indirect tables */
	struct vt_iotlb iotlb;	/* in rounds with an IOMMU */
	struct vt_log log;
	bool stop;		/* for the racing thread */
	unsigned long chains, kicks, ioctls, rings;
};

static uint64_t next(uint64_t *s)
{
	/* xorshift64*: never 0 once seeded with something else */
	*s ^= *s >> 12;
	*s ^= *s << 25;
	*s ^= *s >> 27;
	return *s * 0x2545f4914f6cdd1dULL;
}

static uint64_t rnd(struct fuzz *f, uint64_t n)
{
	return next(&f->rng) % n;
}

static bool chance(struct fuzz *f, unsigned int percent)
{
	return rnd(f, 100) < percent;
}

/* Mostly memory that a request may use, sometimes what it had better not. */
static uint64_t any_gpa(struct fuzz *f)
{
	const struct vt_queue *q = &f->dev.q[rnd(f, f->dev.nr_queues)];

	switch (rnd(f, 20)) {
	case 0:
		return vt_hole(&f->dev.mem);
	case 1:
		return vt_boundary(&f->dev.mem) - rnd(f, 4096);
	case 2:
		return q->desc_gpa + rnd(f, 64);
	case 3:
		return q->avail_gpa + rnd(f, 64);
	case 4:
		return q->used_gpa + rnd(f, 64);
	case 5:
		return f->tables + rnd(f, 4096);
	case 6:
		return next(&f->rng);
	case 7:
		return UINT64_MAX - rnd(f, 4096);
	case 8 ... 10:
		return f->pool + rnd(f, POOL_PAGES * 4096);
	default:
		return f->pool + rnd(f, POOL_PAGES * 8) * 512;
	}
}

static uint32_t any_len(struct fuzz *f)
{
	switch (rnd(f, 16)) {
	case 0:
		return 0;
	case 1:
		return 1;
	case 2:
		return rnd(f, 512);
	case 3:
		return next(&f->rng);
	case 4:
		return 0x80000000;
	case 5:
		return UINT32_MAX;
	case 6:
		return 1 << 20;
	default:
		return 512 * (1 + rnd(f, 64));
	}
}

static uint16_t any_flags(struct fuzz *f)
{
	uint16_t flags = chance(f, 50) ? VRING_DESC_F_WRITE : 0;

	if (chance(f, 5))
		flags |= VRING_DESC_F_INDIRECT;
	if (chance(f, 3))
		flags |= next(&f->rng);
	return flags;
}

static void any_header(struct fuzz *f, uint64_t gpa)
{
	static const uint32_t types[] = { 0, 1, 4, 8, 11, 13, 14, 0x80000000, 0x80000001, 2 };
	uint32_t type = types[chance(f, 80) ? rnd(f, 6) : rnd(f, 10)];
	uint64_t sector = rnd(f, f->bdev.bytes / 512);

	if (chance(f, 5))
		type = next(&f->rng);
	if (chance(f, 10))
		sector = f->bdev.bytes / 512 - rnd(f, 3);
	if (chance(f, 5))
		sector = next(&f->rng);
	vt_hdr_write(&f->dev.mem, gpa, type, sector);
}

/* Ranges of a discard, most of them good, anywhere that requests find their payload. */
static void any_ranges(struct fuzz *f)
{
	uint64_t gpa = f->pool + rnd(f, POOL_PAGES * 8 - 2) * 512;
	uint64_t end = f->bdev.bytes / 512;

	for (unsigned int i = 0; i < VT_RANGES_MAX; i++) {
		uint64_t sector = chance(f, 98) ? rnd(f, end - 256) : end - rnd(f, 3);

		vt_range_write(&f->dev.mem, gpa, i, chance(f, 99) ? sector : next(&f->rng),
			       chance(f, 98) ? rnd(f, 256) : next(&f->rng),
			       chance(f, 98) ? 0 : chance(f, 50) ? 1 : next(&f->rng));
	}
}

/* A chain in ring or table @d of @num entries: header, payload, status; then damage. */
static unsigned int any_chain(struct fuzz *f, volatile struct vring_desc *d,
			      unsigned int first, unsigned int num, bool in_ring)
{
	unsigned int n = 1 + rnd(f, chance(f, 10) ? num : 6), i, at = first;
	uint64_t hdr = f->pool + rnd(f, POOL_PAGES * 128) * 32;
	bool write = chance(f, 50);

	any_header(f, hdr);
	if (chance(f, 20))
		any_ranges(f);
	for (i = 0; i < n; i++) {
		unsigned int to = in_ring ? rnd(f, num) : i + 1;
		struct vring_desc new = {
			.addr = chance(f, 90) ? f->pool + rnd(f, POOL_PAGES * 8) * 512 : any_gpa(f),
			.len = chance(f, 20) ? 16 * (1 + rnd(f, 66)) :
			       chance(f, 90) ? 512 * (1 + rnd(f, 16)) : any_len(f),
			.flags = write ? VRING_DESC_F_WRITE : 0,
			.next = to,
		};

		if (i == 0) {
			new.addr = hdr;
			new.len = chance(f, 90) ? 16 : any_len(f);
			new.flags = 0;
		} else if (i == n - 1) {
			new.len = chance(f, 90) ? 1 : any_len(f);
			new.flags = VRING_DESC_F_WRITE;
		}
		if (chance(f, 5))
			new.flags = any_flags(f);
		if (i != n - 1)
			new.flags |= VRING_DESC_F_NEXT;
		if (chance(f, 2))
			new.next = next(&f->rng);
		d[at] = new;
		at = to % num;
	}
	return n;
}

static void do_chain(struct fuzz *f, struct vt_queue *q)
{
	uint16_t head = rnd(f, q->num);

	f->chains++;
	if (chance(f, 30)) {
		uint64_t table = f->tables + rnd(f, 16) * 1024;
		unsigned int n = any_chain(f, vt_ptr(&f->dev.mem, table), 0, 64, false);

		q->desc[head] = (struct vring_desc) {
			.addr = chance(f, 5) ? any_gpa(f) :
				table + (chance(f, 5) ? rnd(f, 16) : 0),
			.len = chance(f, 95) ? n * 16 : any_len(f),
			.flags = VRING_DESC_F_INDIRECT | (chance(f, 5) ? VRING_DESC_F_NEXT : 0) |
				 (chance(f, 10) ? VRING_DESC_F_WRITE : 0),
			.next = rnd(f, q->num),
		};
	} else {
		any_chain(f, q->desc, head, q->num, true);
	}
	if (chance(f, 2))
		head = next(&f->rng);
	q->avail->ring[q->avail_idx % q->num] = head;
	q->avail_idx++;
	__atomic_thread_fence(__ATOMIC_RELEASE);
	q->avail->idx = chance(f, 99) ? q->avail_idx : next(&f->rng);
	if (chance(f, 5))
		q->avail->flags = rnd(f, 4);
	if (chance(f, 5))
		*vt_used_event(q) = next(&f->rng);
}

static bool has_iommu(const struct fuzz *f)
{
	return f->dev.features & VT_F(VIRTIO_F_ACCESS_PLATFORM);
}

/* Bad sectors fail: the guest is told, or the request is put back into its ring. */
static void attach_any(struct fuzz *f)
{
	struct vhost_blk_backend b = {
		.fd = f->bdev.fd, .flags = chance(f, 50) && !has_iommu(f) ? rnd(f, 16) : 0,
	};

	vt_ioctl(f->dev.fd, VHOST_BLK_SET_BACKEND, &b, sizeof(b));
}

/* Empty rings, where the device can find them. */
static int rings_reset(struct fuzz *f)
{
	const struct vt_iotlb_map all = { .size = UINT64_MAX };
	int r = 0;

	for (unsigned int i = 0; i < f->dev.nr_queues && !r; i++)
		r = vt_vring_reset(&f->dev, i, 0);
	if (!has_iommu(f) || r)
		return r;
	/* Nonsense is not replaced by what overlaps with it. */
	return vt_iotlb_send(&f->dev, VHOST_IOTLB_INVALIDATE, &all) ?:
	       vt_log_used(&f->dev, false) ?: vt_iotlb_prefetch(&f->iotlb);
}

/* Fresh rings for a queue that a broken one has stopped. */
static void rings_renew(struct fuzz *f)
{
	f->rings++;
	vt_detach(&f->dev);
	rings_reset(f);
	attach_any(f);
}

static void mem_table_any(struct fuzz *f)
{
	struct {
		struct vhost_memory mem;
		struct vhost_memory_region region[4];
	} t = { .mem.nregions = rnd(f, 5) };

	for (unsigned int i = 0; i < 4; i++) {
		const struct vt_region *r = &f->dev.mem.region[rnd(f, VT_NR_REGIONS)];

		t.region[i] = (struct vhost_memory_region) {
			.guest_phys_addr = chance(f, 90) ? r->gpa : next(&f->rng),
			.memory_size = chance(f, 90) ? r->size : next(&f->rng),
			.userspace_addr = chance(f, 90) ? (uintptr_t)r->dev : next(&f->rng),
		};
	}
	vt_ioctl(f->dev.fd, VHOST_SET_MEM_TABLE, &t, sizeof(t));
	if (chance(f, 90))
		vt_mem_set(&f->dev.mem, f->dev.fd);
}

/* A log that covers all, a part or nothing, on and off. */
static void log_any(struct fuzz *f)
{
	switch (rnd(f, 5)) {
	case 0:
		vt_log_base(&f->dev, chance(f, 50) ? NULL : (void *)next(&f->rng));
		break;
	case 1:
		vt_log_base(&f->dev, f->log.bits);
		break;
	case 2:
		vt_log_features(&f->dev, chance(f, 50));
		break;
	case 3:
		vt_log_used(&f->dev, chance(f, 50));
		break;
	default:
		if (chance(f, 50))
			vt_log_start(&f->log);
		else
			vt_log_stop(&f->log);
		break;
	}
}

/* Translations come and go, also of what nobody asked for. */
static void iotlb_any(struct fuzz *f)
{
	struct vt_iotlb_map map = {
		.iova = any_gpa(f) & ~(chance(f, 90) ? 4095ULL : 0), .size = 4096 << rnd(f, 12),
		.perm = rnd(f, 4),
	};

	if (chance(f, 5))
		map.size = next(&f->rng);
	map.to = vt_dev_ptr(&f->dev.mem, f->pool);
	if (chance(f, 5))
		map.to = (void *)next(&f->rng);
	vt_iotlb_send(&f->dev, chance(f, 10) ? rnd(f, 256) : chance(f, 20) ?
		      VHOST_IOTLB_UPDATE : VHOST_IOTLB_INVALIDATE, &map);
	if (chance(f, 5))
		f->iotlb.mute = !f->iotlb.mute;
}

/* What this device adds to the generic ones. */
static void do_own_ioctl(struct fuzz *f)
{
	struct vhost_blk_stats stats;
	uint32_t wce = chance(f, 90) ? rnd(f, 2) : next(&f->rng), nr = rnd(f, VT_NR_QUEUES + 2);

	switch (rnd(f, 5)) {
	case 0:
		vt_ioctl(f->dev.fd, VHOST_BLK_SET_WCE, &wce, sizeof(wce));
		break;
	case 1:
		vt_ioctl(f->dev.fd, VHOST_BLK_GET_STATS, &stats, sizeof(stats));
		break;
	case 2:
		log_any(f);
		break;
	case 3:
		vt_ioctl(f->dev.fd, VHOST_BLK_SET_NUM_QUEUES, &nr, sizeof(nr));
		break;
	default:
		iotlb_any(f);
		break;
	}
}

/* Things a VMM may do, at any moment, also with nonsense in them. */
static void do_ioctl(struct fuzz *f)
{
	static const unsigned long fds[] = {
		VHOST_SET_VRING_KICK, VHOST_SET_VRING_CALL, VHOST_SET_VRING_ERR,
	};
	static const unsigned long states[] = {
		VHOST_SET_VRING_NUM, VHOST_SET_VRING_BASE, VHOST_GET_VRING_BASE,
		VHOST_SET_VRING_BUSYLOOP_TIMEOUT, VHOST_SET_VRING_ENDIAN,
	};
	unsigned int i = rnd(f, f->dev.nr_queues + 1);
	struct vhost_vring_state state = { .index = i, .num = rnd(f, 600) };
	struct vhost_blk_serial serial = { { 0 } };
	struct vhost_blk_query query;
	uint64_t features = next(&f->rng);
	struct vt_queue *q = &f->dev.q[i % f->dev.nr_queues];

	f->ioctls++;
	if (chance(f, 25)) {
		do_own_ioctl(f);
		return;
	}
	switch (rnd(f, 16)) {
	case 0:
		vt_detach(&f->dev);
		break;
	case 1:
		attach_any(f);
		break;
	case 2:
		mem_table_any(f);
		break;
	case 3:
		vt_vring_fd(&f->dev, fds[rnd(f, 3)], i, -1);
		break;
	case 4:
		vt_vring_fd(&f->dev, fds[rnd(f, 3)], i, rnd(f, 40));
		break;
	case 5:
		vt_vring_fd(&f->dev, VHOST_SET_VRING_KICK, i, q->kick);
		break;
	case 6:
		vt_vring_fd(&f->dev, VHOST_SET_VRING_CALL, i, q->call);
		break;
	case 7 ... 8:
		vt_ioctl(f->dev.fd, states[rnd(f, 5)], &state, sizeof(state));
		break;
	case 9:
		vt_ioctl(f->dev.fd, VHOST_SET_FEATURES, &features, sizeof(features));
		break;
	case 10:
		features &= f->dev.features;
		vt_ioctl(f->dev.fd, VHOST_SET_FEATURES, &features, sizeof(features));
		break;
	case 11:
		vt_ioctl(f->dev.fd, VHOST_BLK_SET_SERIAL, &serial, sizeof(serial));
		break;
	case 12:
		vt_query(f->dev.fd, chance(f, 50) ? f->bdev.fd : (int)rnd(f, 20), &query);
		break;
	case 13:
		vt_dev_protect(&f->dev.mem, f->pool + rnd(f, POOL_PAGES) * 4096, 4096,
			       chance(f, 50) ? PROT_NONE : PROT_READ | PROT_WRITE);
		break;
	case 14:
		vt_vring_set(&f->dev, i % f->dev.nr_queues, rnd(f, 65536));
		break;
	default:
		rings_renew(f);
		break;
	}
}

/* The other virtual CPU: rewrites headers, payload and tables while they are read. */
static void *race(void *arg)
{
	struct fuzz *f = arg;
	uint64_t rng = f->seed | 1;
	uint64_t *pool = vt_ptr(&f->dev.mem, f->pool);
	uint64_t *tables = vt_ptr(&f->dev.mem, f->tables);

	while (!__atomic_load_n(&f->stop, __ATOMIC_RELAXED)) {
		uint64_t r = next(&rng);

		if (r % 4)
			pool[(r >> 8) % (POOL_PAGES * 512)] = r % 3 ? r % 16 : next(&rng);
		else
			tables[(r >> 8) % 2048] = next(&rng);
	}
	return NULL;
}

static void steps(struct fuzz *f)
{
	unsigned int n = 100 + rnd(f, 300);

	while (n--) {
		struct vt_queue *q = &f->dev.q[rnd(f, f->dev.nr_queues)];

		if (chance(f, 85))
			do_chain(f, q);
		else
			do_ioctl(f);
		if (chance(f, 40)) {
			f->kicks++;
			vt_kick(q);
		}
		if (chance(f, 4))
			rings_renew(f);
	}
}

/* All of the device's state that steps() may have changed, put right. */
static int recover(struct fuzz *f)
{
	uint32_t wce = 1;
	int r;

	r = vt_detach(&f->dev);
	r = r ?: vt_dev_protect(&f->dev.mem, f->pool, POOL_PAGES * 4096, PROT_READ | PROT_WRITE);
	r = r ?: vt_log_base(&f->dev, f->log.bits);
	r = r ?: vt_ioctl(f->dev.fd, VHOST_BLK_SET_WCE, &wce, sizeof(wce));
	r = r ?: vt_ioctl(f->dev.fd, VHOST_SET_FEATURES, &f->dev.features, sizeof(uint64_t));
	if (has_iommu(f))
		r = r ?: vt_iotlb_start(&f->iotlb, &f->dev);
	else
		r = r ?: vt_mem_set(&f->dev.mem, f->dev.fd);
	r = r ?: rings_reset(f);
	r = r ?: vt_attach(&f->dev, f->bdev.fd);
	for (unsigned int i = 0; i < f->dev.nr_queues && !r; i++)
		r = vt_good(&f->dev.q[i]);
	return r;
}

/* What the driver acks: all of it as a rule, or as little as a driver can do with. */
static uint64_t any_features(struct fuzz *f)
{
	uint64_t features = VT_F(VIRTIO_BLK_F_MQ);

	if (chance(f, 80))
		features = VT_F_BASE | VT_F_RANGES | VT_F(VIRTIO_BLK_F_CONFIG_WCE);
	if (chance(f, 50))
		features |= VT_F_EVENT_IDX;
	if (chance(f, 20))
		features |= VT_F(VIRTIO_F_ACCESS_PLATFORM);
	return features;
}

static int fuzz_round(struct fuzz *f)
{
	struct vt_opts opts = { 0 };
	pthread_t racer;
	int r;

	f->rng = f->seed * 0x9e3779b97f4a7c15ULL | 1;
	opts.nr_queues = 1 + rnd(f, 3);
	opts.num = 8 << rnd(f, 5);
	opts.features = any_features(f);
	memset(&f->dev, 0, sizeof(f->dev));
	memset(&f->iotlb, 0, sizeof(f->iotlb));
	r = vt_dev_init(&f->dev, &opts);
	r = r ?: vt_log_init(&f->log, &f->dev);
	f->iotlb.piece = 4096 << rnd(f, 10);
	if (has_iommu(f))
		r = r ?: vt_iotlb_start(&f->iotlb, &f->dev) ?: vt_iotlb_prefetch(&f->iotlb);
	if (r)
		return r;
	f->pool = vt_alloc_in(&f->dev.mem, 1, POOL_PAGES * 4096, 4096);
	f->tables = vt_alloc_in(&f->dev.mem, 1, 16 * 1024, 4096);
	attach_any(f);
	f->stop = false;
	if (pthread_create(&racer, NULL, race, f))
		return -EAGAIN;
	steps(f);
	__atomic_store_n(&f->stop, true, __ATOMIC_RELAXED);
	pthread_join(racer, NULL);
	/* Whatever it could not make sense of in between does not count. */
	vt_iotlb_stop(&f->iotlb);
	f->iotlb = (struct vt_iotlb) { .piece = f->iotlb.piece };
	r = recover(f);
	vt_iotlb_stop(&f->iotlb);
	vt_dev_fini(&f->dev);
	vt_log_fini(&f->log);
	return r;
}

static char deadline_text[80];	/* what to say if this round hangs */

static void on_deadline(int sig)
{
	(void)sig;
	if (write(STDOUT_FILENO, deadline_text, strlen(deadline_text)) < 0)
		_exit(2);
	_exit(1);
}

static int run(struct fuzz *f, unsigned long seconds, unsigned long rounds)
{
	int64_t end = vt_now_ms() + seconds * 1000;
	unsigned long n;
	int r = 0;

	for (n = 0; !r && (rounds ? n < rounds : vt_now_ms() < end); n++) {
		if (n % 100 == 0)
			printf("# round %lu, seed %llu\n", n, (unsigned long long)f->seed);
		snprintf(deadline_text, sizeof(deadline_text),
			 "not ok 1 fuzz: a round hangs; replay with --rounds 1 --seed %llu\n",
			 (unsigned long long)f->seed);
		alarm(ROUND_SECONDS);
		r = fuzz_round(f);
		alarm(0);
		if (r)
			printf("# seed %llu: %s; replay with --rounds 1 --seed %llu\n",
			       (unsigned long long)f->seed, strerror(-r),
			       (unsigned long long)f->seed);
		f->seed++;
	}
	printf("# %lu rounds, %lu chains, %lu kicks, %lu ioctls, %lu fresh rings\n", n, f->chains,
	       f->kicks, f->ioctls, f->rings);
	return r;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seconds", required_argument, NULL, 's' },
		{ "rounds", required_argument, NULL, 'r' },
		{ "seed", required_argument, NULL, 'S' },
		{ 0 }
	};
	struct vt_null_opts disk = { .lbs = 512, .cache_mib = 4, .discard = true };
	unsigned long seconds = 60, rounds = 0;
	static struct fuzz f = { .seed = 1 };
	int c, r;

	while ((c = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (c) {
		case 's':
			seconds = strtoul(optarg, NULL, 0);
			break;
		case 'r':
			rounds = strtoul(optarg, NULL, 0);
			break;
		case 'S':
			f.seed = strtoull(optarg, NULL, 0);
			break;
		default:
			fprintf(stderr, "usage: fuzz [--seconds S | --rounds N] [--seed SEED]\n");
			return 2;
		}
	}
	setvbuf(stdout, NULL, _IOLBF, 0);
	printf("TAP version 13\n1..1\n");
	r = vt_null_create(&f.bdev, "vbfuzz", &disk) ?:
	    vt_null_attr("vbfuzz", "badblocks", "+4096-4607");
	if (r) {
		printf("not ok 1 fuzz: null_blk: %s\n", strerror(-r));
		return 1;
	}
	signal(SIGALRM, on_deadline);
	r = run(&f, seconds, rounds);
	vt_bdev_destroy(&f.bdev);
	printf("%sok 1 fuzz\n", r ? "not " : "");
	return r ? 1 : 0;
}
