// SPDX-License-Identifier: GPL-2.0-only
/*
 * The cache mode, switched while the device is in use: in write-through mode all
 * that is acknowledged survives a power cut, in write-back mode nothing is
 * flushed that nobody asked for.
 */
#include "ledger.h"
#include "vt_test.h"

#define IN		VIRTIO_BLK_T_IN
#define OUT		VIRTIO_BLK_T_OUT
#define DISCARD		VIRTIO_BLK_T_DISCARD
#define ZEROES		VIRTIO_BLK_T_WRITE_ZEROES
#define OK		VIRTIO_BLK_S_OK
#define FEATURES	(VT_F_BASE | VT_F_EVENT_IDX | VT_F_RANGES | VT_F(VIRTIO_BLK_F_CONFIG_WCE))
#define LEN		16384

/* A setup that finds no disk leaves no queue: the harness runs the test all the same. */
#define SKIP_WITHOUT_DISK()	do {						\
	if (!self->q)								\
		SKIP(return, "no such disk in this kernel, or no dmsetup here"); \
} while (0)

static int wce_set(struct vt_dev *dev, uint32_t wce)
{
	return vt_ioctl(dev->fd, VHOST_BLK_SET_WCE, &wce, sizeof(wce));
}

FIXTURE(wce) {
	struct vt_dev dev;
	struct vt_bdev disk;
	struct vt_trace trace;
	struct vt_queue *q;
	uint64_t data, ranges;
	uint8_t *p;
};

#define wce_data FIXTURE_DATA(wce)

FIXTURE_VARIANT(wce) {
	bool cache;		/* the disk has a volatile write cache */
	bool scsi;		/* and can write zeroes; else null_blk, which cannot */
};

FIXTURE_VARIANT_ADD(wce, cache) { .cache = true };
FIXTURE_VARIANT_ADD(wce, nocache) { .cache = false };
FIXTURE_VARIANT_ADD(wce, scsi) { .cache = true, .scsi = true };

FIXTURE_SETUP(wce)
{
	struct vt_null_opts null = { .cache_mib = variant->cache ? 32 : 0, .discard = true };
	int r;

	self->dev.fd = -1;
	if (variant->scsi)
		r = vt_scsi_debug_create_args(&self->disk, "dev_size_mb=8 delay=0 lbpu=1");
	else
		r = vt_null_create(&self->disk, "vbtwce", &null);
	if (r == -ENODEV)
		return;		/* each test says so */
	ASSERT_EQ(0, r);
	ASSERT_EQ(0, vt_dev_init(&self->dev, &(struct vt_opts) { .features = FEATURES }));
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	self->q = &self->dev.q[0];
	self->data = vt_alloc(&self->dev.mem, 2 * VT_MIB);
	self->ranges = vt_alloc(&self->dev.mem, 4096);
	self->p = vt_ptr(&self->dev.mem, self->data);
	ASSERT_EQ(0, vt_trace_start(&self->trace, &self->disk));
}

FIXTURE_TEARDOWN(wce)
{
	vt_trace_stop(&self->trace);
	if (self->q) {
		EXPECT_EQ(0, vt_good(self->q));
		EXPECT_EQ(0, vt_queue_idle(self->q));
		EXPECT_EQ(0, vt_detach(&self->dev));
	}
	vt_dev_fini(&self->dev);
	vt_bdev_destroy(&self->disk);
}

/* What changes the medium: plain, several bios, bounced, and by ranges. */
static const struct change {
	uint32_t type, len, odd;
	unsigned int nr_ranges;
	uint32_t flags;
} changes[] = {
	{ OUT, 512, 0, 0, 0 },
	{ OUT, LEN, 0, 0, 0 },
	{ OUT, 2 * VT_MIB - 4096, 0, 0, 0 },
	{ OUT, LEN, 1, 0, 0 },
	{ ZEROES, 0, 0, 1, 0 },
	{ ZEROES, 0, 0, 3, VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP },
	{ ZEROES, 0, 0, 8, 0 },
	{ DISCARD, 0, 0, 1, 0 },
	{ DISCARD, 0, 0, 8, 0 },
};

static int change_run(wce_data *self, const struct change *c)
{
	if (!c->nr_ranges)
		return vt_io(self->q, c->type, 0, self->data + c->odd, c->len);
	for (unsigned int i = 0; i < c->nr_ranges; i++)
		vt_range_write(&self->dev.mem, self->ranges, i, 64 * i, 32, c->flags);
	return vt_io(self->q, c->type, 0, self->ranges, c->nr_ranges * VT_RANGE_BYTES);
}

/* All changes in the mode that the device is in: is each made stable, or is none? */
static void changes_check(struct __test_metadata *_metadata, wce_data *self, bool stable)
{
	struct vt_trace_count n;

	for (unsigned int i = 0; i < ARRAY_SIZE(changes); i++) {
		bool fua;

		ASSERT_EQ(OK, change_run(self, &changes[i]));
		ASSERT_EQ(0, vt_trace_read(&self->trace, &n));
		EXPECT_LE(1, n.writes + n.zeroes + n.discards);
		fua = n.fua_writes && n.fua_writes == n.writes + n.zeroes + n.discards;
		if (stable) {
			EXPECT_EQ(true, fua || n.first_flush > n.last_write) {
				TH_LOG("type %u: %u (%u FUA), %u, %u; %u flushes", changes[i].type,
				       n.writes, n.fua_writes, n.zeroes, n.discards, n.flushes);
			}
		} else {
			EXPECT_EQ(0, n.fua_writes + n.flushes);
		}
	}
}

/* Each change is made stable in write-through mode, and none in write-back mode */
TEST_F(wce, bios)
{
	struct vt_trace_count n;

	SKIP_WITHOUT_DISK();
	changes_check(_metadata, self, false);
	ASSERT_EQ(0, wce_set(&self->dev, 0));
	/* what was acknowledged before becomes stable */
	ASSERT_EQ(0, vt_trace_read(&self->trace, &n));
	EXPECT_EQ(variant->cache, n.flushes == 1);
	changes_check(_metadata, self, variant->cache);
	ASSERT_EQ(0, wce_set(&self->dev, 1));
	ASSERT_EQ(0, vt_trace_read(&self->trace, &n));
	changes_check(_metadata, self, false);
	/* a read is none of its business, and a flush is what it was */
	ASSERT_EQ(0, wce_set(&self->dev, 0));
	ASSERT_EQ(0, vt_trace_read(&self->trace, &n));
	ASSERT_EQ(OK, vt_io(self->q, IN, 0, self->data, LEN));
	ASSERT_EQ(0, vt_trace_read(&self->trace, &n));
	EXPECT_EQ(0, n.writes + n.flushes);
	ASSERT_EQ(OK, vt_io(self->q, VIRTIO_BLK_T_FLUSH, 0, 0, 0));
	ASSERT_EQ(0, vt_trace_read(&self->trace, &n));
	EXPECT_EQ(variant->cache, n.flushes == 1);
}

/* What lasts: the mode belongs to the device, not to its backend, until its owner goes */
TEST_F(wce, lasts)
{
	struct vt_trace_count n;

	SKIP_WITHOUT_DISK();
	ASSERT_EQ(0, vt_detach(&self->dev));
	ASSERT_EQ(0, wce_set(&self->dev, 0));
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	ASSERT_EQ(0, vt_trace_read(&self->trace, &n));
	changes_check(_metadata, self, variant->cache);
	ASSERT_EQ(0, vt_detach(&self->dev));
	ASSERT_EQ(0, vt_ioctl(self->dev.fd, VHOST_RESET_OWNER, NULL, 0));
	ASSERT_EQ(0, vt_ioctl(self->dev.fd, VHOST_SET_OWNER, NULL, 0));
	ASSERT_EQ(0, vt_ioctl(self->dev.fd, VHOST_SET_FEATURES, &self->dev.features, 8));
	ASSERT_EQ(0, vt_mem_set(&self->dev.mem, self->dev.fd));
	ASSERT_EQ(0, vt_vring_reset(&self->dev, 0, 0));
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	ASSERT_EQ(0, vt_trace_read(&self->trace, &n));
	changes_check(_metadata, self, false);
}

/* A driver that cannot flush has write-through, whatever is set */
TEST_F(wce, no_flush)
{
	uint64_t features = FEATURES & ~VT_F_FLUSH;
	struct vt_trace_count n;

	SKIP_WITHOUT_DISK();
	ASSERT_EQ(0, vt_detach(&self->dev));
	ASSERT_EQ(0, vt_ioctl(self->dev.fd, VHOST_SET_FEATURES, &features, 8));
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	for (unsigned int i = 0; i < 2; i++) {
		ASSERT_EQ(0, wce_set(&self->dev, i));
		ASSERT_EQ(0, vt_trace_read(&self->trace, &n));
		changes_check(_metadata, self, variant->cache);
	}
}

/* ---- the ioctl ---- */

FIXTURE(mode) {
	struct vt_dev dev;
	struct vt_bdev disk;
	struct vt_trace trace;
	uint64_t data;
};

#define mode_data FIXTURE_DATA(mode)

FIXTURE_SETUP(mode)
{
	struct vt_null_opts null = { .cache_mib = 32 };

	ASSERT_EQ(0, vt_null_create(&self->disk, "vbtwce", &null));
	ASSERT_EQ(0, vt_dev_init(&self->dev, &(struct vt_opts) { .features = FEATURES }));
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	self->data = vt_alloc(&self->dev.mem, LEN);
	ASSERT_EQ(0, vt_trace_start(&self->trace, &self->disk));
}

FIXTURE_TEARDOWN(mode)
{
	vt_trace_stop(&self->trace);
	EXPECT_EQ(0, vt_good(&self->dev.q[0]));
	EXPECT_EQ(0, vt_queue_idle(&self->dev.q[0]));
	EXPECT_EQ(0, vt_detach(&self->dev));
	vt_dev_fini(&self->dev);
	vt_bdev_destroy(&self->disk);
}

/* Is the device in write-back mode, as it was, and was nothing flushed? */
static void write_back_check(struct __test_metadata *_metadata, mode_data *self)
{
	struct vt_trace_count n;

	ASSERT_EQ(OK, vt_io(&self->dev.q[0], OUT, 0, self->data, LEN));
	ASSERT_EQ(0, vt_trace_read(&self->trace, &n));
	EXPECT_EQ(1, n.writes);
	EXPECT_EQ(0, n.fua_writes + n.flushes);
}

/* F01, F10 */
TEST_F(mode, arguments)
{
	static const uint32_t bad[] = { 2, 3, 256, 0x80000000, UINT32_MAX };
	uint32_t wce = 0;
	int fd;

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++)
		EXPECT_EQ(-EINVAL, wce_set(&self->dev, bad[i]));
	EXPECT_EQ(-EFAULT, vt_ioctl(self->dev.fd, VHOST_BLK_SET_WCE, NULL, 0));
	fd = open(VT_DEV, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, fd);
	EXPECT_EQ(-EPERM, vt_ioctl(fd, VHOST_BLK_SET_WCE, &wce, sizeof(wce)));
	close(fd);
	write_back_check(_metadata, self);
}

/* F01: a process that does not own the device */
TEST_F(mode, other_process)
{
	int status;
	pid_t pid = fork();

	if (!pid)
		_exit(wce_set(&self->dev, 0) != -EPERM);
	ASSERT_LT(0, pid);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	write_back_check(_metadata, self);
}

/* Toggled all the time under load, with its data checked */
TEST_F(mode, hammered)
{
	struct vt_load load;

	vt_load_spread(&load, 1, &self->dev, &self->disk);
	ASSERT_EQ(0, vt_load_start(&load));
	for (unsigned int i = 0; i < vt_loops(20); i++) {
		for (unsigned int k = 0; k < 5; k++)
			ASSERT_EQ(0, wce_set(&self->dev, (i + k) % 2));
		vt_loads_go_on(_metadata, &load, 1, 5);
	}
	vt_loads_stop(_metadata, &load, 1);
	ASSERT_EQ(0, wce_set(&self->dev, 1));
}

/* ---- writes in flight while the mode changes ---- */

#define NR_HELD	8

FIXTURE(held) {
	struct vt_dev dev;
	struct vt_bdev disk;
	struct vt_bdev delay;	/* holds writes until told to let them go */
	struct vt_trace trace;	/* of the disk below */
	struct vt_req req[NR_HELD];
	struct vt_queue *q;
	uint64_t ranges;
};

#define held_data FIXTURE_DATA(held)

static int let_go(held_data *self)
{
	return vt_delay_set(&self->delay, &self->disk, (struct vt_delay) {});
}

FIXTURE_SETUP(held)
{
	struct vt_null_opts null = { .cache_mib = 32, .discard = true };
	struct vt_delay held = { .write = 20 * vt_timeout_ms() };
	int r;

	self->delay.fd = -1;
	self->dev.fd = -1;
	ASSERT_EQ(0, vt_null_create(&self->disk, "vbtwce", &null));
	r = vt_delay_create(&self->delay, "vbtwce", &self->disk, held);
	if (r == -ENODEV || r == -ENOENT)
		return;		/* each test says so */
	ASSERT_EQ(0, r);
	ASSERT_EQ(0, vt_dev_init(&self->dev, &(struct vt_opts) { .features = FEATURES }));
	ASSERT_EQ(0, vt_attach(&self->dev, self->delay.fd));
	self->q = &self->dev.q[0];
	self->ranges = vt_alloc(&self->dev.mem, 4096);
	ASSERT_EQ(0, vt_trace_start(&self->trace, &self->disk));
	for (unsigned int i = 0; i < NR_HELD; i++) {
		self->req[i] = (struct vt_req) {
			.type = OUT, .sector = 64 * i, .len = LEN,
			.data = vt_alloc(&self->dev.mem, LEN + 4096) + i % 2,
		};
		vt_fill(vt_ptr(&self->dev.mem, self->req[i].data), LEN, 3, 64 * i);
	}
}

FIXTURE_TEARDOWN(held)
{
	vt_trace_stop(&self->trace);
	if (self->q) {
		EXPECT_EQ(0, vt_queue_idle(self->q));
		EXPECT_EQ(0, vt_detach(&self->dev));
	}
	vt_dev_fini(&self->dev);
	vt_bdev_destroy(&self->delay);
	vt_bdev_destroy(&self->disk);
}

static void *write_through(void *arg)
{
	return (void *)(intptr_t)wce_set(arg, 0);
}

/*
 * I01: neither a write that was acknowledged before, nor one that was in flight
 * when the mode changed and is acknowledged after, is lost in a power cut.
 */
TEST_F(held, in_flight)
{
	struct vt_queue *q = self->q;
	pthread_t thread;
	void *ret;

	SKIP_WITHOUT_DISK();
	for (unsigned int i = 0; i < NR_HELD; i++)
		ASSERT_EQ(0, vt_req_submit(q, &self->req[i]));
	ASSERT_EQ(0, vt_fetched_wait(q));
	/* It may wait for them, or leave it to them to become stable. */
	ASSERT_EQ(0, pthread_create(&thread, NULL, write_through, &self->dev));
	usleep(100 * 1000);
	ASSERT_EQ(0, let_go(self));
	ASSERT_EQ(0, vt_wait_all(q));
	ASSERT_EQ(0, pthread_join(thread, &ret));
	ASSERT_EQ(0, (intptr_t)ret);
	for (unsigned int i = 0; i < NR_HELD; i++)
		EXPECT_EQ(OK, self->req[i].status);
	vt_trace_stop(&self->trace);
	ASSERT_EQ(0, vt_detach(&self->dev));
	vt_bdev_destroy(&self->delay);
	ASSERT_EQ(0, vt_null_power_cycle(&self->disk));
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	for (unsigned int i = 0; i < NR_HELD; i++) {
		uint8_t *p = vt_ptr(&self->dev.mem, self->req[i].data);

		memset(p, 0, LEN);
		ASSERT_EQ(OK, vt_io(q, IN, 64 * i, self->req[i].data, LEN));
		EXPECT_EQ(-1, vt_check(p, LEN, 3, 64 * i));
	}
	EXPECT_EQ(0, vt_good(q));
}

/* A flush that makes ranges stable comes when they have been worked off, not with them */
TEST_F(held, flush_after_ranges)
{
	static const uint32_t type[] = { DISCARD, ZEROES };
	struct vt_delay held = { .write = 20 * vt_timeout_ms() };
	struct vt_trace_count n;

	SKIP_WITHOUT_DISK();
	ASSERT_EQ(0, wce_set(&self->dev, 0));
	ASSERT_EQ(0, vt_trace_read(&self->trace, &n));
	for (unsigned int i = 0; i < ARRAY_SIZE(type); i++) {
		for (unsigned int k = 0; k < NR_HELD; k++)
			vt_range_write(&self->dev.mem, self->ranges, k, 64 * k, 32, 0);
		self->req[0] = (struct vt_req) {
			.type = type[i], .data = self->ranges, .len = NR_HELD * VT_RANGE_BYTES,
		};
		ASSERT_EQ(0, vt_delay_set(&self->delay, &self->disk, held));
		ASSERT_EQ(0, vt_req_submit(self->q, &self->req[0]));
		ASSERT_EQ(0, vt_fetched_wait(self->q));
		ASSERT_EQ(0, vt_trace_read(&self->trace, &n));
		EXPECT_EQ(0, n.flushes);
		ASSERT_EQ(0, let_go(self));
		ASSERT_EQ(0, vt_req_wait(self->q, &self->req[0]));
		EXPECT_EQ(OK, self->req[0].status);
		ASSERT_EQ(0, vt_trace_read(&self->trace, &n));
		EXPECT_LE(NR_HELD, n.discards + n.zeroes + n.writes);
		EXPECT_EQ(true, n.first_flush > n.last_write || n.fua_writes == n.writes);
		if (type[i] == DISCARD)
			EXPECT_GT(n.first_flush, n.last_write);
	}
}

/* ---- power cuts under load ---- */

#define AREA		(16 * VT_MIB)
#define MAX_WRITES	4000

FIXTURE(cut) {
	struct vt_dev dev;
	struct vt_bdev disk;
	struct vt_ledger ledger;
	struct vt_writer writer;
};

FIXTURE_VARIANT(cut) { unsigned int lbs; };
FIXTURE_VARIANT_ADD(cut, lbs_512) { .lbs = 512 };
FIXTURE_VARIANT_ADD(cut, lbs_4096) { .lbs = 4096 };

FIXTURE_SETUP(cut)
{
	struct vt_opts opts = {
		.features = FEATURES & ~VT_F_EVENT_IDX, .num = 1024, .nr_queues = 2,
	};

	self->disk.fd = -1;
	ASSERT_EQ(0, vt_dev_init(&self->dev, &opts));
	self->writer.dev = &self->dev;
	self->writer.ledger = &self->ledger;
	self->writer.hot_units = AREA / variant->lbs / 16;
	vt_writer_init(&self->writer);
}

FIXTURE_TEARDOWN(cut)
{
	vt_ledger_fini(&self->ledger);
	vt_dev_fini(&self->dev);
	vt_bdev_destroy(&self->disk);
}

static int load_steps(struct vt_writer *w, unsigned int steps)
{
	int r = 0;

	while (steps-- && !r && w->ledger->nr_writes + VT_WRITER_WRITES <= MAX_WRITES)
		r = vt_writer_issue(w) ?: vt_writer_reap(w);
	return r;
}

/* Write-back, the switch with writes in flight, write-through, power off in the middle. */
static int switch_and_cut(struct vt_writer *w, struct vt_bdev *disk, unsigned int i)
{
	struct vt_ledger *l = w->ledger;
	uint32_t flush;
	int r;

	r = wce_set(w->dev, 1);
	r = r ?: load_steps(w, 3 + i % 5);
	r = r ?: vt_writer_issue(w);
	flush = vt_ledger_flush(l);
	r = r ?: wce_set(w->dev, 0);
	vt_ledger_flush_end(l, flush);
	l->write_through = true;
	r = r ?: load_steps(w, i % 3 ? 1 + i % 7 : 0);
	r = r ?: vt_writer_issue(w);
	r = r ?: vt_null_attr(disk->name, "power", "0");
	return r ?: vt_writer_drain(w);
}

/* I01, I02: all that was acknowledged when the mode changed, and all that was after */
TEST_F_TIMEOUT(cut, under_load, 3600)
{
	struct vt_null_opts null = {
		.cache_mib = 32, .lbs = variant->lbs, .delay_ns = 500 * 1000,
	};
	struct vt_writer *w = &self->writer;
	struct vt_ledger *l = &self->ledger;

	for (unsigned int i = 0; i < vt_loops(5); i++) {
		ASSERT_EQ(0, vt_null_create(&self->disk, "vbtwcecut", &null));
		ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
		ASSERT_EQ(0, vt_ledger_init(l, AREA / variant->lbs, variant->lbs, MAX_WRITES,
					    false));
		w->random = i;
		w->nr_failed = 0;
		ASSERT_EQ(0, switch_and_cut(w, &self->disk, i));
		for (unsigned int q = 0; q < self->dev.nr_queues; q++)
			ASSERT_EQ(0, vt_queue_idle(&self->dev.q[q]));
		ASSERT_EQ(0, vt_detach(&self->dev));
		ASSERT_EQ(0, vt_null_attr(self->disk.name, "irqmode", "1"));
		ASSERT_EQ(0, vt_null_power_cycle(&self->disk));
		EXPECT_EQ(0, vt_ledger_check_disk(l, self->disk.path));
		EXPECT_LT(0, l->nr_stable);
		vt_ledger_fini(l);
		ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
		EXPECT_EQ(0, vt_good(&self->dev.q[0]));
		EXPECT_EQ(0, vt_detach(&self->dev));
		vt_bdev_destroy(&self->disk);
	}
}

VT_TEST_MAIN
