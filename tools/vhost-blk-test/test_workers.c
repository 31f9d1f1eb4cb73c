// SPDX-License-Identifier: GPL-2.0-only
/*
 * Several workers for one device (Linux 6.5 and later): a worker per queue,
 * queues that move from one worker to another under load, workers that are
 * freed, and every way to stop with all of them busy. G18.
 */
#include <dirent.h>
#include <sys/utsname.h>

#include "vt_test.h"

#define NR_QUEUES	4
#define NOBODY		0x12345678

static int worker_free(const struct vt_dev *dev, unsigned int id)
{
	struct vhost_worker_state s = { .worker_id = id };

	return vt_ioctl(dev->fd, VHOST_FREE_WORKER, &s, sizeof(s));
}

static int worker_of(const struct vt_dev *dev, unsigned int queue)
{
	struct vhost_vring_worker w = { .index = queue };
	int r = vt_ioctl(dev->fd, VHOST_GET_VRING_WORKER, &w, sizeof(w));

	return r ?: (int)w.worker_id;
}

static bool kernel_has_workers(void)
{
	unsigned int major = 0, minor = 0;
	struct utsname u;

	uname(&u);
	if (sscanf(u.release, "%u.%u", &major, &minor) != 2)
		return false;
	return major > 6 || (major == 6 && minor >= 5);
}

FIXTURE(workers) {
	struct vt_dev dev;
	struct vt_bdev disk;
	struct vt_load load[NR_QUEUES];
	int id[NR_QUEUES];
};

#define workers_data FIXTURE_DATA(workers)

static const struct vt_opts workers_opts = {
	.nr_queues = NR_QUEUES, .num = 128, .features = VT_F_BASE | VT_F_EVENT_IDX,
};

FIXTURE_SETUP(workers)
{
	struct vt_null_opts opts = { .delay_ns = 200000, .nr_queues = 2, .depth = 512 };

	self->disk.fd = -1;
	ASSERT_EQ(0, vt_null_create(&self->disk, "vbtwork", &opts));
	ASSERT_EQ(0, vt_dev_init(&self->dev, &workers_opts));
}

FIXTURE_TEARDOWN(workers)
{
	for (int i = 0; i < NR_QUEUES && self->dev.fd >= 0; i++)
		EXPECT_EQ(0, vt_queue_idle(&self->dev.q[i]));
	vt_dev_fini(&self->dev);
	EXPECT_EQ(0, vt_exclusive(&self->disk));
	vt_bdev_destroy(&self->disk);
}

#define NEEDS_WORKERS do {						\
	if (!kernel_has_workers())					\
		SKIP(return, "this kernel has one worker a device");	\
} while (0)

static void worker_per_queue(struct __test_metadata *_metadata, workers_data *self)
{
	for (int i = 0; i < NR_QUEUES; i++) {
		self->id[i] = vt_worker_new(&self->dev);
		ASSERT_LE(0, self->id[i]);
		ASSERT_EQ(0, vt_worker_attach(&self->dev, i, self->id[i]));
		EXPECT_EQ(self->id[i], worker_of(&self->dev, i));
	}
}

static void load_start(struct __test_metadata *_metadata, workers_data *self)
{
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	vt_load_spread(self->load, NR_QUEUES, &self->dev, &self->disk);
	for (int i = 0; i < NR_QUEUES; i++)
		ASSERT_EQ(0, vt_load_start(&self->load[i]));
}

/* Kernels before 6.5 know none of these ioctls. */
TEST_F(workers, unknown_to_old_kernels)
{
	if (kernel_has_workers())
		SKIP(return, "this kernel has several workers a device");
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	EXPECT_EQ(-ENOTTY, vt_worker_new(&self->dev));
	EXPECT_EQ(-ENOTTY, worker_free(&self->dev, 0));
	EXPECT_EQ(-ENOTTY, vt_worker_attach(&self->dev, 0, 0));
	EXPECT_EQ(-ENOTTY, worker_of(&self->dev, 0));
	EXPECT_EQ(0, vt_good(&self->dev.q[0]));
	EXPECT_EQ(0, vt_detach(&self->dev));
}

/* How often the threads of this process that are workers went to sleep, each. */
static unsigned int worker_sleeps(unsigned long *sleeps, unsigned int max)
{
	DIR *dir = opendir("/proc/self/task");
	char path[300], line[128];
	struct dirent *task;
	unsigned int n = 0;
	bool is_worker;
	FILE *f;

	while (dir && (task = readdir(dir))) {
		snprintf(path, sizeof(path), "/proc/self/task/%s/status", task->d_name);
		f = fopen(path, "re");
		if (!f)
			continue;
		is_worker = fgets(line, sizeof(line), f) && !strncmp(line, "Name:\tvhost-", 12);
		while (is_worker && n < max && fgets(line, sizeof(line), f))
			if (sscanf(line, "voluntary_ctxt_switches: %lu", &sleeps[n]) == 1)
				n++;
		fclose(f);
	}
	if (dir)
		closedir(dir);
	return n;
}

/* Each of them works, the one that came with the device does not. */
TEST_F(workers, one_per_queue)
{
	unsigned long before[8], after[8];
	unsigned int idle = 0;

	NEEDS_WORKERS;
	for (int i = 1; i < NR_QUEUES; i++)
		EXPECT_EQ(worker_of(&self->dev, 0), worker_of(&self->dev, i));
	worker_per_queue(_metadata, self);
	load_start(_metadata, self);
	ASSERT_EQ(NR_QUEUES + 1, worker_sleeps(before, 8));
	vt_loads_go_on(_metadata, self->load, NR_QUEUES, 200);
	ASSERT_EQ(NR_QUEUES + 1, worker_sleeps(after, 8));
	for (int i = 0; i < NR_QUEUES + 1; i++)
		idle += after[i] - before[i] == 0;
	EXPECT_EQ(1, idle);
	vt_loads_stop(_metadata, self->load, NR_QUEUES);
	EXPECT_EQ(0, vt_detach(&self->dev));
}

/* Queues change their workers while they are busy, and the workers come and go. */
TEST_F_TIMEOUT(workers, move_under_load, 300)
{
	int id[3];

	NEEDS_WORKERS;
	load_start(_metadata, self);
	id[0] = worker_of(&self->dev, 0);
	for (int i = 1; i < 3; i++) {
		id[i] = vt_worker_new(&self->dev);
		ASSERT_LE(0, id[i]);
	}
	srand(18);
	for (unsigned int n = 0; n < vt_loops_to(30, 1000); n++) {
		unsigned int q = rand() % NR_QUEUES;
		int to = rand() % 3, r;

		ASSERT_EQ(0, vt_worker_attach(&self->dev, q, id[to]));
		ASSERT_EQ(id[to], worker_of(&self->dev, q));
		ASSERT_EQ(0, vt_load_more(&self->load[q], 3)) {
			TH_LOG("%s", self->load[q].what);
		}
		/* a worker that has nothing to do is replaced */
		to = rand() % 3;
		r = worker_free(&self->dev, id[to]);
		if (r == -EBUSY)
			continue;
		ASSERT_EQ(0, r);
		id[to] = vt_worker_new(&self->dev);
		ASSERT_LE(0, id[to]);
	}
	vt_loads_go_on(_metadata, self->load, NR_QUEUES, 20);
	vt_loads_stop(_metadata, self->load, NR_QUEUES);
	EXPECT_EQ(0, vt_detach(&self->dev));
}

TEST_F(workers, free)
{
	int first, second;

	NEEDS_WORKERS;
	first = worker_of(&self->dev, 0);
	second = vt_worker_new(&self->dev);
	ASSERT_LE(0, second);
	EXPECT_NE(first, second);
	load_start(_metadata, self);
	/* also the queues that are not in use have a worker */
	for (unsigned int i = 0; i < VT_NR_QUEUES; i++) {
		EXPECT_EQ(-EBUSY, worker_free(&self->dev, first));
		EXPECT_EQ(0, vt_worker_attach(&self->dev, i, second));
		EXPECT_EQ(-EBUSY, worker_free(&self->dev, second));
	}
	/* nobody needs the one that came with the device */
	EXPECT_EQ(0, worker_free(&self->dev, first));
	EXPECT_EQ(-ENODEV, worker_free(&self->dev, first));
	EXPECT_EQ(-ENODEV, vt_worker_attach(&self->dev, 0, first));
	vt_loads_go_on(_metadata, self->load, NR_QUEUES, 20);
	vt_loads_stop(_metadata, self->load, NR_QUEUES);
	/* a detach takes the workers from nobody */
	EXPECT_EQ(0, vt_detach(&self->dev));
	EXPECT_EQ(-EBUSY, worker_free(&self->dev, second));
	EXPECT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	EXPECT_EQ(0, vt_good(&self->dev.q[3]));
	EXPECT_EQ(0, vt_detach(&self->dev));
}

TEST_F(workers, bad_arguments)
{
	NEEDS_WORKERS;
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	EXPECT_EQ(-ENODEV, vt_worker_attach(&self->dev, 0, NOBODY));
	EXPECT_EQ(-ENODEV, worker_free(&self->dev, NOBODY));
	EXPECT_EQ(-ENOBUFS, vt_worker_attach(&self->dev, VT_NR_QUEUES, worker_of(&self->dev, 0)));
	EXPECT_EQ(-ENOBUFS, worker_of(&self->dev, VT_NR_QUEUES));
	EXPECT_EQ(-ENOBUFS, worker_of(&self->dev, UINT32_MAX));
	EXPECT_EQ(-EFAULT, vt_ioctl(self->dev.fd, VHOST_NEW_WORKER, NULL, 0));
	EXPECT_EQ(-EFAULT, vt_ioctl(self->dev.fd, VHOST_FREE_WORKER, NULL, 0));
	EXPECT_EQ(-EFAULT, vt_ioctl(self->dev.fd, VHOST_ATTACH_VRING_WORKER, NULL, 0));
	EXPECT_EQ(-EFAULT, vt_ioctl(self->dev.fd, VHOST_GET_VRING_WORKER, NULL, 0));
	EXPECT_EQ(0, vt_good(&self->dev.q[0]));
	EXPECT_EQ(0, vt_detach(&self->dev));
	/* without an owner there are none */
	ASSERT_EQ(0, vt_ioctl(self->dev.fd, VHOST_RESET_OWNER, NULL, 0));
	EXPECT_EQ(-EPERM, vt_worker_new(&self->dev));
	EXPECT_EQ(-EPERM, worker_of(&self->dev, 0));
	ASSERT_EQ(0, vt_ioctl(self->dev.fd, VHOST_SET_OWNER, NULL, 0));
	EXPECT_LE(0, worker_of(&self->dev, 0));
}

/* ---- stops with every worker busy ---- */

#define DELAY_MS	200
#define STOP_MS		(2 * DELAY_MS + 5000)

static void slow_disk(struct __test_metadata *_metadata, workers_data *self)
{
	struct vt_null_opts opts = { .delay_ns = DELAY_MS * 1000000UL, .depth = 512 };

	vt_bdev_destroy(&self->disk);
	ASSERT_EQ(0, vt_null_create(&self->disk, "vbtwork", &opts));
}

/* Requests in flight on each queue. */
static void busy(struct __test_metadata *_metadata, workers_data *self)
{
	static struct vt_req req[4 * NR_QUEUES];

	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	for (int i = 0; i < 4 * NR_QUEUES; i++) {
		req[i] = (struct vt_req) {
			.type = i / NR_QUEUES & 1, .sector = i * 1024,
			.len = i & 8 ? 128 * 1024 : 4096,
			.data = vt_alloc(&self->dev.mem, 130 * 1024) + (i & 4 ? 1 : 0),
		};
		ASSERT_EQ(0, vt_req_submit(&self->dev.q[i % NR_QUEUES], &req[i]));
	}
	for (int i = 0; i < NR_QUEUES; i++)
		ASSERT_EQ(0, vt_fetched_wait(&self->dev.q[i]));
	ASSERT_EQ(0, vt_inflight_wait(&self->disk, 4));
}

/* Each queue has a worker of its own, and requests in flight. */
static void workers_busy(struct __test_metadata *_metadata, workers_data *self)
{
	slow_disk(_metadata, self);
	worker_per_queue(_metadata, self);
	busy(_metadata, self);
}

static void all_returned(struct __test_metadata *_metadata, workers_data *self)
{
	struct vt_used u;

	for (int i = 0; i < NR_QUEUES; i++) {
		while (vt_used_get(&self->dev.q[i], &u) == 1)
			EXPECT_EQ(VIRTIO_BLK_S_OK,
				  vt_status_read(&self->dev.mem,
						 vt_status_gpa(&self->dev.q[i], u.head)));
		EXPECT_EQ(0, vt_queue_idle(&self->dev.q[i]));
		EXPECT_EQ(4, self->dev.q[i].used->idx);
	}
	EXPECT_EQ(0, vt_inflight(&self->disk));
}

TEST_F(workers, detach)
{
	int64_t start;

	NEEDS_WORKERS;
	workers_busy(_metadata, self);
	start = vt_now_ms();
	ASSERT_EQ(0, vt_detach(&self->dev));
	EXPECT_GT(STOP_MS, vt_now_ms() - start);
	all_returned(_metadata, self);
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	for (int i = 0; i < NR_QUEUES; i++)
		EXPECT_EQ(self->id[i], worker_of(&self->dev, i));
	EXPECT_EQ(0, vt_good(&self->dev.q[NR_QUEUES - 1]));
	ASSERT_EQ(0, vt_detach(&self->dev));
}

TEST_F(workers, close)
{
	int64_t start;

	NEEDS_WORKERS;
	workers_busy(_metadata, self);
	start = vt_now_ms();
	close(self->dev.fd);
	self->dev.fd = -1;
	EXPECT_GT(STOP_MS, vt_now_ms() - start);
	all_returned(_metadata, self);
}

TEST_F(workers, reset_owner)
{
	int64_t start;

	NEEDS_WORKERS;
	workers_busy(_metadata, self);
	start = vt_now_ms();
	ASSERT_EQ(0, vt_ioctl(self->dev.fd, VHOST_RESET_OWNER, NULL, 0));
	EXPECT_GT(STOP_MS, vt_now_ms() - start);
	all_returned(_metadata, self);
}

/* Move every queue while its requests are in flight: they come back through the new worker. */
TEST_F(workers, move_in_flight)
{
	struct vt_used u;
	int id;

	NEEDS_WORKERS;
	workers_busy(_metadata, self);
	id = vt_worker_new(&self->dev);
	ASSERT_LE(0, id);
	for (int i = 0; i < NR_QUEUES; i++) {
		ASSERT_EQ(0, vt_worker_attach(&self->dev, i, id));
		ASSERT_EQ(0, worker_free(&self->dev, self->id[i]));
	}
	for (int i = 0; i < NR_QUEUES; i++)
		while (self->dev.q[i].inflight)
			ASSERT_EQ(0, vt_wait(&self->dev.q[i], &u));
	ASSERT_EQ(0, vt_detach(&self->dev));
}

/* The workers are threads of the owner: they die with it, before its I/O ends. */
TEST_F(workers, sigkill)
{
	int ready[2];
	int64_t start;
	pid_t pid;
	char c;

	NEEDS_WORKERS;
	slow_disk(_metadata, self);
	ASSERT_EQ(0, pipe2(ready, O_CLOEXEC));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		vt_dev_fini(&self->dev);
		if (vt_dev_init(&self->dev, &workers_opts))
			_exit(1);
		worker_per_queue(_metadata, self);
		busy(_metadata, self);
		if (write(ready[1], "r", 1) != 1)
			_exit(1);
		pause();
	}
	close(ready[1]);
	ASSERT_EQ(1, read(ready[0], &c, 1));
	close(ready[0]);
	start = vt_now_ms();
	ASSERT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(pid, waitpid(pid, NULL, 0));
	/* the last put of a killed process's files may come a moment after it */
	while (vt_inflight(&self->disk) && vt_now_ms() - start < STOP_MS)
		usleep(1000);
	EXPECT_GT(STOP_MS, vt_now_ms() - start);
	EXPECT_EQ(0, vt_inflight(&self->disk));
	/* the next owner is served */
	close(self->disk.fd);
	self->disk.fd = open(self->disk.path, O_RDWR | O_CLOEXEC);
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	EXPECT_EQ(0, vt_good(&self->dev.q[0]));
	EXPECT_EQ(0, vt_detach(&self->dev));
}

VT_TEST_MAIN
