// SPDX-License-Identifier: GPL-2.0-only
/*
 * Image files on a disk that is slow, loses power or is frozen: requests wait
 * without keeping each other, and what was promised is there afterwards.
 */
#include <sys/sysmacros.h>

#include "vt_test.h"

#define IN		VIRTIO_BLK_T_IN
#define OUT		VIRTIO_BLK_T_OUT
#define FLUSH		VIRTIO_BLK_T_FLUSH
#define OK		VIRTIO_BLK_S_OK
#define FEATURES	(VT_F_BASE | VT_F_EVENT_IDX | VT_F_RANGES | VT_F(VIRTIO_BLK_F_CONFIG_WCE))
#define IMAGE_BYTES	(16 * VT_MIB)
#define FS_MIB		128
#define LEN		16384U
#define NR		16		/* requests at once, 1 MiB apart */
#define SEED		9

static uint64_t nth_sector(unsigned int i)
{
	return i * VT_MIB / VT_SECTOR;
}

/* ---- a disk that holds what it is given until it is told to let go ---- */

FIXTURE(held) {
	struct vt_bdev disk, delay;
	struct vt_fs fs;
	struct vt_event given;	/* to any disk */
	struct vt_dev dev;
	struct vt_queue *q;
	struct vt_req req[NR];
	uint64_t data;
	int fd;
	const char *lacks;	/* what this needs and is not here */
};

#define held_data FIXTURE_DATA(held)

/* The harness does not take a SKIP in a set-up for an answer. */
#define DISK_OR_SKIP() do {						\
	if (self->lacks)						\
		SKIP(return, "%s", self->lacks);			\
} while (0)

FIXTURE_VARIANT(held) {
	const char *type;
	bool direct;
};

FIXTURE_VARIANT_ADD(held, ext4) { .type = "ext4", .direct = true };
FIXTURE_VARIANT_ADD(held, btrfs) { .type = "btrfs" };	/* through the page cache */

static int delay_set(held_data *self, unsigned int ms)
{
	/* Not by freezing the file system, which would have to write when it is thawed. */
	return vt_dm_suspend(&self->delay, true) ?:
	       vt_delay_set(&self->delay, &self->disk, (struct vt_delay) { ms, ms, ms });
}

static int held_create(held_data *self, const char *type)
{
	int r;

	r = vt_null_create(&self->disk, "vbtfile", &(struct vt_null_opts) { .mib = FS_MIB });
	if (r)
		return r;
	r = vt_delay_create(&self->delay, "vbtfile", &self->disk, (struct vt_delay) {});
	if (r == -ENODEV || r == -ENOENT) {
		self->lacks = "no dm-delay in this kernel, or no dmsetup here";
		return -EOPNOTSUPP;
	}
	r = r ?: vt_fs_create(&self->fs, type, &self->delay);
	if (r == -EOPNOTSUPP)
		self->lacks = self->fs.lacks;
	return r;
}

FIXTURE_SETUP(held)
{
	struct vt_opts opts = { .features = FEATURES };
	int r;

	self->disk.fd = -1;
	self->delay.fd = -1;
	self->dev.fd = -1;
	self->fd = -1;
	r = held_create(self, variant->type);
	if (r == -EOPNOTSUPP)
		return;
	ASSERT_EQ(0, r);
	self->fd = vt_image_create(&self->fs, "image", variant->direct ? O_DIRECT : 0, IMAGE_BYTES);
	ASSERT_LE(0, self->fd);
	ASSERT_EQ(0, vt_dev_init(&self->dev, &opts));
	ASSERT_EQ(0, vt_attach(&self->dev, self->fd));
	self->q = &self->dev.q[0];
	self->data = vt_alloc(&self->dev.mem, IMAGE_BYTES);
	vt_fill(vt_ptr(&self->dev.mem, self->data), IMAGE_BYTES, SEED, 0);
	ASSERT_EQ(OK, vt_io(self->q, OUT, 0, self->data, IMAGE_BYTES));
	ASSERT_EQ(OK, vt_io(self->q, FLUSH, 0, 0, 0));
	/* so that reads have to wait for the disk */
	ASSERT_EQ(0, posix_fadvise(self->fd, 0, 0, POSIX_FADV_DONTNEED));
	for (unsigned int i = 0; i < NR; i++)
		self->req[i] = (struct vt_req) {
			.type = IN, .sector = nth_sector(i), .len = LEN,
			.data = self->data + i * VT_MIB,
		};
}

FIXTURE_TEARDOWN(held)
{
	/* also when the test has failed half-way */
	if (self->fd >= 0)
		EXPECT_EQ(0, delay_set(self, 0));
	vt_event_stop(&self->given);
	if (self->q) {
		EXPECT_EQ(0, vt_good(self->q));
		EXPECT_EQ(0, vt_queue_idle(self->q));
		EXPECT_EQ(0, vt_detach(&self->dev));
	}
	vt_dev_fini(&self->dev);
	if (self->fd >= 0)
		close(self->fd);
	/* nobody has a file open any more */
	EXPECT_EQ(0, vt_fs_destroy(&self->fs));
	vt_bdev_destroy(&self->delay);
	vt_bdev_destroy(&self->disk);
}

/* Wait until the disk has been given that many reads; none of them has ended. */
static int held_wait(held_data *self, unsigned int nr)
{
	int64_t end = vt_now_ms() + vt_timeout_ms();
	char read[48];
	struct stat st;
	int seen;

	if (fstat(self->delay.fd, &st))
		return -errno;
	snprintf(read, sizeof(read), "block_bio_queue: %u,%u R", major(st.st_rdev),
		 minor(st.st_rdev));
	while ((seen = vt_event_find(&self->given, read, NULL, 0)) < (int)nr) {
		if (seen < 0 || vt_now_ms() > end)
			return seen < 0 ? seen : -ETIMEDOUT;
		usleep(1000);
	}
	return 0;
}

/* Put NR requests in flight, all of them at once, on the disk. */
static void held_start(struct __test_metadata *_metadata, held_data *self)
{
	ASSERT_EQ(0, delay_set(self, 20 * vt_timeout_ms()));
	ASSERT_EQ(0, vt_event_start(&self->given, "block/block_bio_queue"));
	for (unsigned int i = 0; i < NR; i++) {
		memset(vt_ptr(&self->dev.mem, self->req[i].data), 0, LEN);
		ASSERT_EQ(0, vt_req_submit(self->q, &self->req[i]));
	}
	ASSERT_EQ(0, held_wait(self, NR));
}

static void held_check(struct __test_metadata *_metadata, held_data *self)
{
	for (unsigned int i = 0; i < NR; i++) {
		const struct vt_req *req = &self->req[i];

		EXPECT_EQ(true, req->done);
		EXPECT_EQ(OK, req->status);
		EXPECT_EQ(-1, vt_check(vt_ptr(&self->dev.mem, req->data), LEN, SEED, req->sector));
	}
}

/* A slow disk keeps neither the worker nor other requests */
TEST_F(held, at_once)
{
	struct vt_req id = { .type = VIRTIO_BLK_T_GET_ID, .len = 20 };

	DISK_OR_SKIP();
	held_start(_metadata, self);
	id.data = vt_alloc_in(&self->dev.mem, 2, 64, 64);
	ASSERT_EQ(0, vt_req_run(self->q, &id));
	EXPECT_EQ(OK, id.status);
	for (unsigned int i = 0; i < NR; i++)
		EXPECT_EQ(false, self->req[i].done);
	ASSERT_EQ(0, delay_set(self, 0));
	ASSERT_EQ(0, vt_wait_all(self->q));
	held_check(_metadata, self);
}

static void *detach(void *arg)
{
	return (void *)(intptr_t)vt_detach(arg);
}

/* G03: a detach returns when all that was fetched is in the used ring */
TEST_F(held, detached)
{
	struct vt_used u;
	pthread_t thread;
	void *ret;

	DISK_OR_SKIP();
	held_start(_metadata, self);
	ASSERT_EQ(0, pthread_create(&thread, NULL, detach, &self->dev));
	usleep(50 * 1000);
	EXPECT_EQ(EBUSY, pthread_tryjoin_np(thread, &ret));
	ASSERT_EQ(0, delay_set(self, 0));
	ASSERT_EQ(0, pthread_join(thread, &ret));
	EXPECT_EQ(0, (intptr_t)ret);
	for (unsigned int i = 0; i < NR; i++)
		ASSERT_EQ(1, vt_used_get(self->q, &u));
	held_check(_metadata, self);
	ASSERT_EQ(0, vt_attach(&self->dev, self->fd));
}

/* The file system can go once the file is let go of */
TEST_F(held, holds_the_file)
{
	DISK_OR_SKIP();
	close(self->fd);
	self->fd = -1;
	EXPECT_EQ(-EBUSY, vt_fs_umount(&self->fs));
	EXPECT_EQ(0, vt_good(self->q));
	ASSERT_EQ(0, vt_detach(&self->dev));
	EXPECT_EQ(0, vt_fs_umount(&self->fs));
	ASSERT_EQ(0, vt_fs_mount(&self->fs));
	self->fd = vt_image_open(&self->fs, "image", O_RDWR | (variant->direct ? O_DIRECT : 0));
	ASSERT_EQ(0, vt_attach(&self->dev, self->fd));
}

/* A process with a device of its own that has requests in flight and waits to be killed. */
static void doomed(held_data *self, int ready)
{
	struct vt_opts opts = { .features = FEATURES };
	struct vt_dev dev;
	struct vt_req req[NR];
	char ok = 1;

	if (vt_dev_init(&dev, &opts) || vt_attach(&dev, self->fd))
		_exit(1);
	for (unsigned int i = 0; i < NR; i++) {
		req[i] = self->req[i];
		req[i].type = i % 2 ? IN : OUT;
		req[i].data = vt_alloc(&dev.mem, LEN);
		if (vt_req_submit(&dev.q[0], &req[i]))
			_exit(2);
	}
	if (vt_fetched_wait(&dev.q[0]) || write(ready, &ok, 1) != 1)
		_exit(3);
	for (;;)
		pause();
}

/* G05: the owner is killed with requests in flight */
TEST_F(held, killed)
{
	int status, ready[2];
	char ok = 0;
	pid_t pid;

	DISK_OR_SKIP();
	ASSERT_EQ(0, vt_detach(&self->dev));
	vt_dev_fini(&self->dev);
	self->q = NULL;
	ASSERT_EQ(0, pipe(ready));
	ASSERT_EQ(0, delay_set(self, 20 * vt_timeout_ms()));
	ASSERT_EQ(0, vt_event_start(&self->given, "block/block_bio_queue"));
	pid = fork();
	if (!pid)
		doomed(self, ready[1]);
	ASSERT_LT(0, pid);
	close(ready[1]);
	ASSERT_EQ(1, read(ready[0], &ok, 1));
	ASSERT_EQ(0, held_wait(self, 1));
	ASSERT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(0, delay_set(self, 0));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(true, WIFSIGNALED(status));
	close(ready[0]);
	/* the tear-down finds out whether its file is let go of */
	ASSERT_EQ(0, vt_dev_init(&self->dev, &(struct vt_opts) { .features = FEATURES }));
	ASSERT_EQ(0, vt_attach(&self->dev, self->fd));
	EXPECT_EQ(0, vt_good(&self->dev.q[0]));
}

/* Writes wait for the thaw; reads and whatever else comes do not wait for writes */
TEST_F(held, frozen)
{
	uint64_t more;
	int dir;

	DISK_OR_SKIP();
	more = vt_alloc(&self->dev.mem, LEN);
	dir = open(self->fs.dir, O_RDONLY | O_DIRECTORY);
	ASSERT_LE(0, dir);
	ASSERT_EQ(0, ioctl(dir, FIFREEZE, 0));
	for (unsigned int i = 0; i < NR / 2; i++) {
		self->req[i].type = OUT;
		ASSERT_EQ(0, vt_req_submit(self->q, &self->req[i]));
	}
	ASSERT_EQ(0, vt_fetched_wait(self->q));
	for (unsigned int i = NR / 2; i < NR; i++) {
		EXPECT_EQ(OK, vt_io(self->q, IN, nth_sector(i), more, LEN));
		EXPECT_EQ(-1, vt_check(vt_ptr(&self->dev.mem, more), LEN, SEED, nth_sector(i)));
	}
	EXPECT_EQ(OK, vt_io(self->q, VIRTIO_BLK_T_GET_ID, 0, more, 20));
	for (unsigned int i = 0; i < NR / 2; i++)
		EXPECT_EQ(false, self->req[i].done);
	ASSERT_EQ(0, ioctl(dir, FITHAW, 0));
	close(dir);
	ASSERT_EQ(0, vt_wait_all(self->q));
	for (unsigned int i = 0; i < NR / 2; i++)
		EXPECT_EQ(OK, self->req[i].status);
}

/* ---- power cuts ---- */

FIXTURE(stable) {
	struct vt_bdev disk;
	struct vt_fs fs;
	struct vt_dev dev;
	struct vt_trace trace;
	struct vt_queue *q;
	uint64_t data, ranges;
	int fd;
	const char *lacks;
};

#define stable_data FIXTURE_DATA(stable)

FIXTURE_VARIANT(stable) {
	const char *type;
	bool direct;
	bool cannot_stop;	/* the file system cannot be told to write nothing any more */
};

FIXTURE_VARIANT_ADD(stable, ext4) { .type = "ext4" };
FIXTURE_VARIANT_ADD(stable, ext4_direct) { .type = "ext4", .direct = true };
FIXTURE_VARIANT_ADD(stable, xfs_direct) { .type = "xfs", .direct = true };
FIXTURE_VARIANT_ADD(stable, btrfs) { .type = "btrfs", .cannot_stop = true };

FIXTURE_SETUP(stable)
{
	struct vt_null_opts null = { .mib = FS_MIB, .cache_mib = FS_MIB, .discard = true };
	int r;

	self->fd = -1;
	self->dev.fd = -1;
	ASSERT_EQ(0, vt_null_create(&self->disk, "vbtfile", &null));
	r = vt_fs_create(&self->fs, variant->type, &self->disk);
	if (r == -EOPNOTSUPP) {
		self->lacks = self->fs.lacks;
		return;
	}
	ASSERT_EQ(0, r);
	self->fd = vt_image_create(&self->fs, "image", variant->direct ? O_DIRECT : 0, IMAGE_BYTES);
	ASSERT_LE(0, self->fd);
	/* Allocated, not written: to write there changes metadata, too. */
	ASSERT_EQ(0, fallocate(self->fd, 0, 0, IMAGE_BYTES));
	ASSERT_EQ(0, syncfs(self->fd));
	ASSERT_EQ(0, fsync(self->disk.fd));
	ASSERT_EQ(0, vt_dev_init(&self->dev, &(struct vt_opts) { .features = FEATURES }));
	ASSERT_EQ(0, vt_attach(&self->dev, self->fd));
	self->q = &self->dev.q[0];
	self->data = vt_alloc(&self->dev.mem, VT_MIB);
	self->ranges = vt_alloc(&self->dev.mem, 4096);
}

FIXTURE_TEARDOWN(stable)
{
	vt_trace_stop(&self->trace);
	if (self->q) {
		EXPECT_EQ(0, vt_queue_idle(self->q));
		EXPECT_EQ(0, vt_detach(&self->dev));
	}
	vt_dev_fini(&self->dev);
	if (self->fd >= 0)
		close(self->fd);
	/* nobody has a file open any more */
	EXPECT_EQ(0, vt_fs_destroy(&self->fs));
	vt_bdev_destroy(&self->disk);
}

static int wce_set(struct vt_dev *dev, uint32_t wce)
{
	return vt_ioctl(dev->fd, VHOST_BLK_SET_WCE, &wce, sizeof(wce));
}

/* Aligned and bounced, short and long. */
static int nth_write(stable_data *self, unsigned int i)
{
	uint64_t data = self->data + i % 3;
	uint32_t len = i % 2 ? LEN : VT_SECTOR;

	vt_fill(vt_ptr(&self->dev.mem, data), len, SEED, nth_sector(i));
	return vt_io(self->q, OUT, nth_sector(i), data, len);
}

/* How many of the first @nr writes are not there. */
static unsigned int nth_lost(stable_data *self, unsigned int nr)
{
	unsigned int lost = 0;
	uint8_t buf[LEN];

	for (unsigned int i = 0; i < nr; i++) {
		uint32_t len = i % 2 ? LEN : VT_SECTOR;

		if (pread(self->fd, buf, len, i * VT_MIB) != (ssize_t)len)
			return nr + 1;
		lost += vt_check(buf, len, SEED, nth_sector(i)) >= 0;
	}
	return lost;
}

/* Power off and on: all that the disk had not been told to keep is gone. */
static void power_cut(struct __test_metadata *_metadata, stable_data *self)
{
	ASSERT_EQ(0, vt_fs_shutdown(&self->fs));
	ASSERT_EQ(0, vt_detach(&self->dev));
	close(self->fd);
	self->fd = -1;
	ASSERT_EQ(0, vt_fs_umount(&self->fs));
	ASSERT_EQ(0, vt_null_power_cycle(&self->disk));
	ASSERT_EQ(0, vt_fs_mount(&self->fs));
	self->fd = vt_image_open(&self->fs, "image", O_RDWR);
	ASSERT_LE(0, self->fd);
}

static void power_on(struct __test_metadata *_metadata, stable_data *self)
{
	ASSERT_EQ(0, vt_attach(&self->dev, self->fd));
	EXPECT_EQ(0, vt_good(self->q));
}

#define STABLE_OR_SKIP() do {						\
	DISK_OR_SKIP();							\
	if (variant->cannot_stop)					\
		SKIP(return, "this file system cannot be stopped");	\
} while (0)

/* I01: what was written before a flush is there, what was not flushed need not be */
TEST_F(stable, flushed)
{
	STABLE_OR_SKIP();
	for (unsigned int i = 0; i < NR; i++) {
		ASSERT_EQ(OK, nth_write(self, i));
		if (i == NR / 2 - 1)
			ASSERT_EQ(OK, vt_io(self->q, FLUSH, 0, 0, 0));
	}
	power_cut(_metadata, self);
	EXPECT_EQ(0, nth_lost(self, NR / 2));
	/* the disk does forget, if it has something to forget */
	EXPECT_LT(0, nth_lost(self, NR));
	power_on(_metadata, self);
}

/* I02: in write-through mode every write is there, and what zeroes or frees blocks */
TEST_F(stable, write_through)
{
	uint8_t buf[LEN];

	STABLE_OR_SKIP();
	for (unsigned int i = 0; i < NR / 2; i++)
		ASSERT_EQ(OK, nth_write(self, i));
	ASSERT_EQ(0, wce_set(&self->dev, 0));
	for (unsigned int i = NR / 2; i < NR; i++)
		ASSERT_EQ(OK, nth_write(self, i));
	vt_range_write(&self->dev.mem, self->ranges, 0, nth_sector(NR - 1), LEN / VT_SECTOR, 0);
	ASSERT_EQ(OK, vt_io(self->q, VIRTIO_BLK_T_WRITE_ZEROES, 0, self->ranges, VT_RANGE_BYTES));
	vt_range_write(&self->dev.mem, self->ranges, 0, nth_sector(NR - 3), LEN / VT_SECTOR, 0);
	ASSERT_EQ(OK, vt_io(self->q, VIRTIO_BLK_T_DISCARD, 0, self->ranges, VT_RANGE_BYTES));
	power_cut(_metadata, self);
	EXPECT_EQ(2, nth_lost(self, NR));
	ASSERT_EQ((ssize_t)LEN, pread(self->fd, buf, LEN, (NR - 1) * VT_MIB));
	EXPECT_EQ(-1, vt_check_byte(buf, LEN, 0));
	ASSERT_EQ((ssize_t)LEN, pread(self->fd, buf, LEN, (NR - 3) * VT_MIB));
	EXPECT_EQ(-1, vt_check_byte(buf, LEN, 0));
	power_on(_metadata, self);
}

/* A driver that cannot flush has write-through */
TEST_F(stable, no_flush)
{
	uint64_t features = FEATURES & ~VT_F_FLUSH;

	STABLE_OR_SKIP();
	ASSERT_EQ(0, vt_detach(&self->dev));
	ASSERT_EQ(0, vt_ioctl(self->dev.fd, VHOST_SET_FEATURES, &features, 8));
	ASSERT_EQ(0, vt_attach(&self->dev, self->fd));
	for (unsigned int i = 0; i < NR; i++)
		ASSERT_EQ(OK, nth_write(self, i));
	power_cut(_metadata, self);
	EXPECT_EQ(0, nth_lost(self, NR));
	power_on(_metadata, self);
}

/* A flush reaches the disk; in write-back mode nothing else does it */
TEST_F(stable, flushes)
{
	struct vt_trace_count n;

	DISK_OR_SKIP();
	ASSERT_EQ(0, vt_trace_start(&self->trace, &self->disk));
	for (unsigned int i = 0; i < NR; i++)
		ASSERT_EQ(OK, nth_write(self, i));
	ASSERT_EQ(0, vt_trace_read(&self->trace, &n));
	EXPECT_EQ(0, n.flushes + n.fua_writes);
	ASSERT_EQ(OK, vt_io(self->q, FLUSH, 0, 0, 0));
	ASSERT_EQ(0, vt_trace_read(&self->trace, &n));
	EXPECT_LE(1, n.flushes + n.fua_writes);
	ASSERT_EQ(0, wce_set(&self->dev, 0));
	ASSERT_EQ(0, vt_trace_read(&self->trace, &n));
	ASSERT_EQ(OK, nth_write(self, 0));
	ASSERT_EQ(0, vt_trace_read(&self->trace, &n));
	EXPECT_LE(1, n.flushes + n.fua_writes);
	EXPECT_EQ(0, vt_good(self->q));
}

VT_TEST_MAIN
