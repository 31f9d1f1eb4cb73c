// SPDX-License-Identifier: GPL-2.0-only
/*
 * What users keep disks on when one local disk is not enough: disks behind a
 * network, disks in software on top of others. Verified loads over each of them,
 * and what such a disk may do meanwhile: lose a half, be copied, be one of many.
 */
#include <sys/sysmacros.h>

#include "vt_test.h"

#define NR_QUEUES	2
#define NR_REQUESTS	150	/* of each load, at least */

/* The loads end well, and what they wrote is there for whoever opens the disk after them. */
static void finish(struct __test_metadata *_metadata, struct vt_dev *dev, struct vt_load *load,
		   unsigned int nr, const struct vt_bdev *disk)
{
	for (unsigned int i = 0; i < nr; i++) {
		EXPECT_EQ(0, vt_load_stop(&load[i])) {
			TH_LOG("%s: %s", disk->name, load[i].what);
		}
	}
	EXPECT_EQ(VIRTIO_BLK_S_OK, vt_io(load[0].q, VIRTIO_BLK_T_FLUSH, 0, 0, 0));
	ASSERT_EQ(0, vt_detach(dev));
	EXPECT_EQ(0, vt_exclusive(disk));
	for (unsigned int i = 0; i < nr; i++) {
		EXPECT_EQ(0, vt_load_compare(&load[i], disk->fd)) {
			TH_LOG("%s: %s", disk->name, load[i].what);
		}
		vt_load_free(&load[i]);
	}
	ASSERT_EQ(0, vt_attach(dev, disk->fd));
	for (unsigned int i = 0; i < nr; i++)
		EXPECT_EQ(0, vt_good(load[i].q));
	EXPECT_EQ(0, vt_detach(dev));
}

/* ---- J02: one disk of each kind ---- */

FIXTURE(stacked) {
	struct vt_dev dev;
	struct vt_load load[NR_QUEUES];
	struct vt_stack stack;
};

#define stacked_data FIXTURE_DATA(stacked)

FIXTURE_VARIANT(stacked) { const char *kind; };
FIXTURE_VARIANT_ADD(stacked, loop) { "loop" };
FIXTURE_VARIANT_ADD(stacked, loop_4k) { "loop_4k" };
FIXTURE_VARIANT_ADD(stacked, brd) { "brd" };
FIXTURE_VARIANT_ADD(stacked, dm_linear) { "dm_linear" };
FIXTURE_VARIANT_ADD(stacked, dm_crypt) { "dm_crypt" };
FIXTURE_VARIANT_ADD(stacked, dm_thin) { "dm_thin" };
FIXTURE_VARIANT_ADD(stacked, md_raid1) { "md_raid1" };
FIXTURE_VARIANT_ADD(stacked, nvme_tcp) { "nvme_tcp" };
FIXTURE_VARIANT_ADD(stacked, nvme_loop) { "nvme_loop" };
FIXTURE_VARIANT_ADD(stacked, lio_ram) { "lio_ram" };
FIXTURE_VARIANT_ADD(stacked, lio_file) { "lio_file" };
FIXTURE_VARIANT_ADD(stacked, nbd) { "nbd" };

FIXTURE_SETUP(stacked)
{
	struct vt_opts opts = { .nr_queues = NR_QUEUES, .features = VT_F_BASE | VT_F_EVENT_IDX };

	ASSERT_EQ(0, vt_dev_init(&self->dev, &opts));
}

FIXTURE_TEARDOWN(stacked)
{
	vt_dev_fini(&self->dev);
	vt_stack_destroy(&self->stack);
}

TEST_F(stacked, load)
{
	struct vt_bdev *disk = &self->stack.disk;

	VT_STACK_OR_SKIP(&self->stack, variant->kind);
	vt_load_spread(self->load, NR_QUEUES, &self->dev, disk);
	ASSERT_EQ(0, vt_attach(&self->dev, disk->fd));
	for (int i = 0; i < NR_QUEUES; i++) {
		/* nvmet hands memory on without a look at what the disk below takes. */
		self->load[i].aligned = !strcmp(variant->kind, "nvme_loop");
		ASSERT_EQ(0, vt_load_start(&self->load[i]));
	}
	vt_loads_go_on(_metadata, self->load, NR_QUEUES, vt_loops(NR_REQUESTS));
	finish(_metadata, &self->dev, self->load, NR_QUEUES, disk);
}

/* ---- a mirror loses a half, gets it back and loses the other one ---- */

#define MD	"/sys/block/md_vbt/md"

FIXTURE(mirror) {
	struct vt_dev dev;
	struct vt_load load[NR_QUEUES];
	struct vt_stack stack;
};

/* The disk fails, or the admin says that it has. */
FIXTURE_VARIANT(mirror) { bool by_admin; };
FIXTURE_VARIANT_ADD(mirror, disk_fails) { false };
FIXTURE_VARIANT_ADD(mirror, set_faulty) { true };

FIXTURE_SETUP(mirror)
{
	ASSERT_EQ(0, vt_dev_init(&self->dev, &(struct vt_opts) { .nr_queues = NR_QUEUES }));
}

FIXTURE_TEARDOWN(mirror)
{
	vt_dev_fini(&self->dev);
	vt_stack_destroy(&self->stack);
}

static int degraded_wait(long want)
{
	int64_t end = vt_now_ms() + vt_timeout_ms();
	long degraded;
	int r;

	do {
		r = vt_read_long(MD "/degraded", &degraded);
		if (r || degraded == want)
			return r;
		usleep(10000);
	} while (vt_now_ms() < end);
	return -ETIMEDOUT;
}

/* Write to an attribute that may refuse for a moment. */
static int md_set(const char *attr, const char *value)
{
	int64_t end = vt_now_ms() + vt_timeout_ms();
	char path[96];
	int r;

	snprintf(path, sizeof(path), MD "/%s", attr);
	do {
		r = vt_write_file(path, value);
		if (r != -EBUSY)
			return r;
		usleep(10000);
	} while (vt_now_ms() < end);
	return r;
}

static int half_set(const struct vt_bdev *half, const char *attr, const char *value)
{
	char path[64];

	snprintf(path, sizeof(path), "dev-%s/%s", half->name, attr);
	return md_set(path, value);
}

/* The kernel lets go of it a moment later. */
static int half_remove(const struct vt_bdev *half)
{
	int64_t end = vt_now_ms() + vt_timeout_ms();
	int r = half_set(half, "state", "remove");
	char path[64];

	snprintf(path, sizeof(path), MD "/dev-%s", half->name);
	while (!r && !access(path, F_OK)) {
		usleep(10000);
		r = vt_now_ms() > end ? -ETIMEDOUT : 0;
	}
	return r;
}

/* A new disk takes the place of the one that has failed, and is filled. */
static int half_replace(const struct vt_bdev *half)
{
	char value[32];
	struct stat st;
	int r;

	if (fstat(half->fd, &st))
		return -errno;
	r = half_remove(half);
	snprintf(value, sizeof(value), "%u:%u", major(st.st_rdev), minor(st.st_rdev));
	r = r ?: md_set("new_dev", value);
	snprintf(value, sizeof(value), "%lu", (unsigned long)(half->bytes / 1024));
	r = r ?: half_set(half, "size", value);
	/* In KiB per second; by default it makes way for any load. */
	r = r ?: md_set("sync_speed_min", "1000000");
	return r ?: md_set("sync_action", "recover");
}

/* A load knows no error: the first one that reached the guest would fail it. */
TEST_F(mirror, half_fails)
{
	struct vt_bdev *half = &self->stack.lower[2];
	unsigned long nr;
	char table[128];

	VT_STACK_OR_SKIP(&self->stack, "md_raid1");
	nr = half->bytes / VT_SECTOR;
	vt_load_spread(self->load, NR_QUEUES, &self->dev, &self->stack.disk);
	ASSERT_EQ(0, degraded_wait(0));
	ASSERT_EQ(0, vt_attach(&self->dev, self->stack.disk.fd));
	for (int i = 0; i < NR_QUEUES; i++)
		ASSERT_EQ(0, vt_load_start(&self->load[i]));
	vt_loads_go_on(_metadata, self->load, NR_QUEUES, 50);

	snprintf(table, sizeof(table), "0 %lu error", nr);
	EXPECT_EQ(0, vt_dm_reload(half, table));
	if (variant->by_admin)
		EXPECT_EQ(0, half_set(half, "state", "faulty"));
	EXPECT_EQ(0, degraded_wait(1));
	vt_loads_go_on(_metadata, self->load, NR_QUEUES, vt_loops(NR_REQUESTS));

	snprintf(table, sizeof(table), "0 %lu linear %s 0", nr, self->stack.lower[1].path);
	EXPECT_EQ(0, vt_dm_reload(half, table));
	EXPECT_EQ(0, half_replace(half));
	EXPECT_EQ(0, degraded_wait(0));
	EXPECT_EQ(0, half_set(&self->stack.lower[0], "state", "faulty"));
	EXPECT_EQ(0, degraded_wait(1));
	vt_loads_go_on(_metadata, self->load, NR_QUEUES, vt_loops(NR_REQUESTS));
	finish(_metadata, &self->dev, self->load, NR_QUEUES, &self->stack.disk);
}

/* ---- a snapshot under load ---- */

#define PLACE_BYTES	4096U
#define NR_PLACES	128U

/*
 * A journal: entry n goes to place n % NR_PLACES when entry n - 1 has been
 * acknowledged. At any one point in time the disk holds all up to some entry.
 */
struct journal {
	struct vt_queue *q;
	uint64_t sector, data;
	uint32_t issued, acked;
	bool stop;
	int error;
	pthread_t thread;
};

static void *journal_run(void *arg)
{
	struct journal *j = arg;
	uint32_t n = 0;

	while (!__atomic_load_n(&j->stop, __ATOMIC_ACQUIRE) && !j->error) {
		uint64_t at = j->sector + ++n % NR_PLACES * (PLACE_BYTES / VT_SECTOR);

		vt_fill(vt_ptr(&j->q->dev->mem, j->data), PLACE_BYTES, n, at);
		__atomic_store_n(&j->issued, n, __ATOMIC_RELEASE);
		j->error = vt_io(j->q, VIRTIO_BLK_T_OUT, at, j->data, PLACE_BYTES);
		if (!j->error && n % 16 == 0)
			j->error = vt_io(j->q, VIRTIO_BLK_T_FLUSH, 0, 0, 0);
		if (!j->error)
			__atomic_store_n(&j->acked, n, __ATOMIC_RELEASE);
	}
	return NULL;
}

static int journal_more(struct journal *j, uint32_t nr)
{
	uint32_t from = __atomic_load_n(&j->acked, __ATOMIC_ACQUIRE);
	int64_t end = vt_now_ms() + vt_timeout_ms();

	while (__atomic_load_n(&j->acked, __ATOMIC_ACQUIRE) - from < nr) {
		if (vt_now_ms() > end)
			return -ETIMEDOUT;
		usleep(1000);
	}
	return 0;
}

/* Does the disk, read into @p, hold all up to entry @last and nothing younger? */
static bool journal_ends_at(const struct journal *j, const uint8_t *p, uint32_t last)
{
	for (uint32_t n = last; n && n + NR_PLACES > last; n--) {
		uint32_t place = n % NR_PLACES;

		if (vt_check(p + place * PLACE_BYTES, PLACE_BYTES, n,
			     j->sector + place * (PLACE_BYTES / VT_SECTOR)) >= 0)
			return false;
	}
	return true;
}

/* The entry that a disk's journal ends at, one of these; 0: it holds no point in time. */
static uint32_t journal_read(const struct journal *j, int fd, uint32_t from, uint32_t to)
{
	const size_t len = NR_PLACES * PLACE_BYTES;
	uint8_t *p = malloc(len);
	uint32_t last = 0;

	if (p && pread(fd, p, len, j->sector * VT_SECTOR) == (ssize_t)len)
		for (uint32_t n = from; n <= to && !last; n++)
			last = journal_ends_at(j, p, n) ? n : 0;
	free(p);
	return last;
}

FIXTURE(snapshot) {
	struct vt_dev dev;
	struct vt_load load;
	struct journal journal;
	struct vt_stack stack;
	struct vt_bdev copy;
};

#define snapshot_data FIXTURE_DATA(snapshot)

FIXTURE_SETUP(snapshot)
{
	self->copy.fd = -1;
	ASSERT_EQ(0, vt_dev_init(&self->dev, &(struct vt_opts) { .nr_queues = 2 }));
}

FIXTURE_TEARDOWN(snapshot)
{
	vt_dev_fini(&self->dev);
	vt_bdev_destroy(&self->copy);
	vt_stack_destroy(&self->stack);
}

static int snapshot_take(snapshot_data *self)
{
	struct vt_bdev *pool = &self->stack.lower[2], *disk = &self->stack.disk;
	char table[96];
	int r;

	r = vt_dm_suspend(disk, false);
	r = r ?: vt_dm_message(pool, "create_snap 1 0");
	r = vt_dm_resume(disk) ?: r;
	snprintf(table, sizeof(table), "0 %lu thin %s 1", (unsigned long)(disk->bytes / VT_SECTOR),
		 pool->path);
	return r ?: vt_dm_create(&self->copy, "vbtcopy", table);
}

static void snapshot_check(struct __test_metadata *_metadata, snapshot_data *self)
{
	struct journal *j = &self->journal;
	uint32_t before, after, last;

	EXPECT_EQ(0, journal_more(j, NR_PLACES + 20));
	before = __atomic_load_n(&j->acked, __ATOMIC_ACQUIRE);
	EXPECT_EQ(0, snapshot_take(self));
	after = __atomic_load_n(&j->issued, __ATOMIC_ACQUIRE);
	last = journal_read(j, self->copy.fd, before, after);
	EXPECT_NE(0, last) {
		TH_LOG("no state between entries %u and %u", before, after);
	}
	/* What is written from now on leaves the copy alone. */
	EXPECT_EQ(0, journal_more(j, NR_PLACES));
	vt_loads_go_on(_metadata, &self->load, 1, vt_loops(NR_REQUESTS));
	EXPECT_EQ(0, ioctl(self->copy.fd, BLKFLSBUF));
	EXPECT_EQ(last, journal_read(j, self->copy.fd, last, last));
}

TEST_F(snapshot, point_in_time)
{
	struct vt_bdev *disk = &self->stack.disk;
	struct journal *j = &self->journal;

	VT_STACK_OR_SKIP(&self->stack, "dm_thin");
	vt_load_spread(&self->load, 1, &self->dev, disk);
	j->q = &self->dev.q[1];
	j->sector = self->load.nr_sectors;
	j->data = vt_alloc(&self->dev.mem, PLACE_BYTES);
	ASSERT_EQ(0, vt_attach(&self->dev, disk->fd));
	ASSERT_EQ(0, vt_load_start(&self->load));
	ASSERT_EQ(0, pthread_create(&j->thread, NULL, journal_run, j));
	snapshot_check(_metadata, self);
	__atomic_store_n(&j->stop, true, __ATOMIC_RELEASE);
	pthread_join(j->thread, NULL);
	EXPECT_EQ(0, j->error);
	EXPECT_EQ(0, vt_queue_idle(j->q));
	finish(_metadata, &self->dev, &self->load, 1, disk);
	EXPECT_EQ(j->acked, journal_read(j, disk->fd, j->acked, j->acked));
}

/* ---- many disks at once ---- */

#define NR_LUNS		42
#define LUN_MIB		4
#define LUN_SECTORS	512	/* that its load uses */

FIXTURE(forty_two) {
	struct vt_bdev lun[NR_LUNS];
	struct vt_dev dev[NR_LUNS];
	struct vt_load load[NR_LUNS];
	unsigned int nr_devs;
};

FIXTURE_SETUP(forty_two)
{
	for (unsigned int i = 0; i < NR_LUNS; i++)
		self->lun[i].fd = -1;
}

FIXTURE_TEARDOWN(forty_two)
{
	for (unsigned int i = 0; i < self->nr_devs; i++)
		vt_dev_fini(&self->dev[i]);
	vt_luns_destroy(self->lun, NR_LUNS);
}

TEST_F(forty_two, luns)
{
	int r = vt_luns_create(self->lun, NR_LUNS, LUN_MIB);

	if (r == -EOPNOTSUPP)
		SKIP(return, "this kernel has no LIO");
	ASSERT_EQ(0, r);
	for (unsigned int i = 0; i < NR_LUNS; i++) {
		self->nr_devs = i + 1;
		ASSERT_EQ(0, vt_dev_init(&self->dev[i], &(struct vt_opts) { .num = 64 }));
		ASSERT_EQ(0, vt_attach(&self->dev[i], self->lun[i].fd));
		vt_load_spread(&self->load[i], 1, &self->dev[i], &self->lun[i]);
		self->load[i].nr_sectors = LUN_SECTORS;
		/* No two disks get the same data. */
		self->load[i].last_gen = UINT16_MAX / NR_LUNS * i;
		self->load[i].random = i + 1;
	}
	for (unsigned int i = 0; i < NR_LUNS; i++)
		ASSERT_EQ(0, vt_load_start(&self->load[i]));
	/* All have started: from here on they run at the same time. */
	vt_loads_go_on(_metadata, self->load, NR_LUNS, vt_loops(50));
	for (unsigned int i = 0; i < NR_LUNS; i++)
		finish(_metadata, &self->dev[i], &self->load[i], 1, &self->lun[i]);
}

VT_TEST_MAIN
