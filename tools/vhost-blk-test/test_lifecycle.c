// SPDX-License-Identifier: GPL-2.0-only
/*
 * Every way in which a device stops while requests are in flight: it waits for
 * them, no longer, and lets everything go.
 */
#include "vt_test.h"

#define DELAY_MS	500
/* Requests larger than the module submits at once take several delays. */
#define STOP_MS		(3 * DELAY_MS + vt_timeout_ms())
#define NR_LOAD		8

FIXTURE(life) {
	struct vt_dev dev;
	struct vt_bdev disk;
	struct vt_req load[NR_LOAD];
	int excl;		/* exclusive open file of the disk */
	long refcnt;		/* of the module, without self->dev */
};

#define life_data FIXTURE_DATA(life)

static long module_refcnt(void)
{
	long n = -1;

	vt_read_long("/sys/module/vhost_blk/refcnt", &n);
	return n;
}

static const struct vt_opts life_opts = {
	.nr_queues = 2, .features = VT_F_BASE | VT_F_EVENT_IDX,
};

FIXTURE_SETUP(life)
{
	struct vt_null_opts opts = { .delay_ns = DELAY_MS * 1000000UL, .depth = 512 };

	self->refcnt = module_refcnt();
	ASSERT_EQ(0, vt_null_create(&self->disk, "vbtlife", &opts));
	ASSERT_EQ(0, vt_dev_init(&self->dev, &life_opts));
	self->excl = open(self->disk.path, O_RDWR | O_EXCL | O_CLOEXEC);
	ASSERT_LE(0, self->excl);
}

FIXTURE_TEARDOWN(life)
{
	if (self->excl >= 0)
		close(self->excl);
	vt_dev_fini(&self->dev);
	EXPECT_EQ(0, vt_exclusive(&self->disk));
	EXPECT_EQ(0, vt_inflight(&self->disk));
	EXPECT_EQ(self->refcnt, module_refcnt());
	vt_bdev_destroy(&self->disk);
}

/* Attach with a file that the module alone keeps open: exclusive opens fail until it lets go. */
static void attach_and_hand_over(struct __test_metadata *_metadata, life_data *self)
{
	ASSERT_EQ(0, vt_attach(&self->dev, self->excl));
	close(self->excl);
	self->excl = -1;
	ASSERT_EQ(-EBUSY, vt_exclusive(&self->disk));
}

/* Small and large, aligned and bounced, in both directions, on both queues. */
static void load(struct __test_metadata *_metadata, life_data *self)
{
	static const struct { uint32_t type, len, odd; } mix[NR_LOAD] = {
		{ VIRTIO_BLK_T_OUT, 4096, 0 }, { VIRTIO_BLK_T_IN, 4096, 0 },
		{ VIRTIO_BLK_T_IN, 1 << 20, 0 }, { VIRTIO_BLK_T_OUT, 1 << 20, 0 },
		{ VIRTIO_BLK_T_OUT, 128 << 10, 1 }, { VIRTIO_BLK_T_IN, 128 << 10, 1 },
		{ VIRTIO_BLK_T_IN, 10 << 20, 0 }, { VIRTIO_BLK_T_FLUSH, 0, 0 },
	};

	for (int i = 0; i < NR_LOAD; i++) {
		struct vt_req *req = &self->load[i];

		*req = (struct vt_req) {
			.type = mix[i].type, .len = mix[i].len,
			.sector = mix[i].len ? i * 4096 : 0,
			.data = vt_alloc(&self->dev.mem, mix[i].len + 4096) + mix[i].odd,
		};
		ASSERT_EQ(0, vt_req_submit(&self->dev.q[i & 1], req));
	}
	ASSERT_EQ(0, vt_fetched_wait(&self->dev.q[0]));
	ASSERT_EQ(0, vt_fetched_wait(&self->dev.q[1]));
	ASSERT_EQ(0, vt_inflight_wait(&self->disk, 1));
}

/* Take what is in the used rings; everything that was fetched must be there. */
static void all_returned(struct __test_metadata *_metadata, life_data *self)
{
	for (int i = 0; i < 2; i++) {
		struct vt_queue *q = &self->dev.q[i];
		struct vt_used u;

		while (vt_used_get(q, &u) == 1)
			;
		EXPECT_EQ(0, vt_queue_idle(q));
		EXPECT_EQ(q->avail_idx, q->used_idx);
	}
	for (int i = 0; i < NR_LOAD; i++) {
		EXPECT_EQ(true, self->load[i].done);
		EXPECT_EQ(VIRTIO_BLK_S_OK, self->load[i].status);
	}
}

/* G01 */
TEST_F(life, close)
{
	int64_t start;

	attach_and_hand_over(_metadata, self);
	load(_metadata, self);
	start = vt_now_ms();
	close(self->dev.fd);
	self->dev.fd = -1;
	EXPECT_GT(STOP_MS, vt_now_ms() - start);
	EXPECT_EQ(0, vt_exclusive(&self->disk));
	all_returned(_metadata, self);
}

/* G04 */
TEST_F(life, detach)
{
	int64_t start;

	attach_and_hand_over(_metadata, self);
	load(_metadata, self);
	start = vt_now_ms();
	ASSERT_EQ(0, vt_detach(&self->dev));
	EXPECT_GT(STOP_MS, vt_now_ms() - start);
	EXPECT_EQ(0, vt_exclusive(&self->disk));
	all_returned(_metadata, self);
	for (int i = 0; i < 2; i++)
		EXPECT_EQ(self->dev.q[i].used->idx, vt_vring_base(&self->dev, i));
	/* and again */
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	load(_metadata, self);
	ASSERT_EQ(0, vt_detach(&self->dev));
	all_returned(_metadata, self);
}

/* G05 */
TEST_F(life, reset_owner)
{
	int64_t start;

	attach_and_hand_over(_metadata, self);
	load(_metadata, self);
	start = vt_now_ms();
	ASSERT_EQ(0, vt_ioctl(self->dev.fd, VHOST_RESET_OWNER, NULL, 0));
	EXPECT_GT(STOP_MS, vt_now_ms() - start);
	EXPECT_EQ(0, vt_exclusive(&self->disk));
	all_returned(_metadata, self);
	EXPECT_EQ(-EPERM, vt_detach(&self->dev));
}

/* A process with a device of its own under load, until it is told to end. */
static pid_t loaded_process(struct __test_metadata *_metadata, life_data *self)
{
	int ready[2], status;
	char c;
	pid_t pid;

	/* the disk is the child's alone */
	close(self->excl);
	self->excl = -1;
	ASSERT_EQ(0, pipe2(ready, O_CLOEXEC));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		int excl = open(self->disk.path, O_RDWR | O_EXCL);

		vt_dev_fini(&self->dev);
		if (vt_dev_init(&self->dev, &life_opts) ||
		    vt_attach(&self->dev, excl))
			_exit(1);
		load(_metadata, self);
		close(excl);
		if (write(ready[1], "r", 1) != 1)
			_exit(1);
		pause();
	}
	close(ready[1]);
	if (read(ready[0], &c, 1) != 1) {
		waitpid(pid, &status, 0);
		ASSERT_EQ(0, 1) {
			TH_LOG("the other process did not get ready: %#x", status);
		}
	}
	close(ready[0]);
	EXPECT_EQ(-EBUSY, vt_exclusive(&self->disk));
	return pid;
}

static void reap_process(struct __test_metadata *_metadata, life_data *self, pid_t pid)
{
	int64_t start = vt_now_ms();

	ASSERT_EQ(pid, waitpid(pid, NULL, 0));
	EXPECT_GT(STOP_MS, vt_now_ms() - start);
	/* the last put of a killed process's files may come a moment after it */
	while (vt_exclusive(&self->disk) && vt_now_ms() - start < STOP_MS)
		usleep(1000);
	EXPECT_EQ(0, vt_exclusive(&self->disk));
}

/* G02 */
TEST_F(life, sigkill)
{
	pid_t pid = loaded_process(_metadata, self);

	ASSERT_EQ(0, kill(pid, SIGKILL));
	reap_process(_metadata, self, pid);
}

/* G03 */
TEST_F(life, exit)
{
	pid_t pid = loaded_process(_metadata, self);

	/* a signal whose default is to exit in an orderly way */
	ASSERT_EQ(0, kill(pid, SIGTERM));
	reap_process(_metadata, self, pid);
}

static void *detach_run(void *arg)
{
	struct vt_dev *dev = arg;

	return (void *)(intptr_t)vt_detach(dev);
}

/* G06: the disk is kept open exactly as long as it works for us */
TEST_F(life, backend_outlives_its_bios)
{
	pthread_t thread;
	int64_t end;
	void *r;

	attach_and_hand_over(_metadata, self);
	load(_metadata, self);
	ASSERT_EQ(0, pthread_create(&thread, NULL, detach_run, &self->dev));
	end = vt_now_ms() + STOP_MS;
	EXPECT_EQ(-EBUSY, vt_exclusive(&self->disk));
	while (vt_exclusive(&self->disk) && vt_now_ms() < end)
		usleep(1000);
	EXPECT_EQ(0, vt_inflight(&self->disk));
	ASSERT_EQ(0, pthread_join(thread, &r));
	EXPECT_EQ(NULL, r);
	EXPECT_EQ(0, vt_exclusive(&self->disk));
	all_returned(_metadata, self);
}

struct kicker {
	struct vt_dev *dev;
	volatile bool stop;
};

static void *kicker_run(void *arg)
{
	struct kicker *k = arg;

	while (!k->stop) {
		vt_kick(&k->dev->q[0]);
		vt_kick(&k->dev->q[1]);
	}
	return NULL;
}

/* G04: kicks that come in all through the detach find a backend or none, not half of one */
TEST_F(life, detach_under_kicks)
{
	struct kicker k = { .dev = &self->dev };
	pthread_t thread;

	ASSERT_EQ(0, pthread_create(&thread, NULL, kicker_run, &k));
	for (int i = 0; i < 3; i++) {
		size_t used = self->dev.mem.region[1].used;

		ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
		load(_metadata, self);
		ASSERT_EQ(0, vt_detach(&self->dev));
		all_returned(_metadata, self);
		self->dev.mem.region[1].used = used;
	}
	k.stop = true;
	pthread_join(thread, NULL);
}

/* G09: the rings go on in another process from where this one left them */
TEST_F(life, resume_in_another_process)
{
	struct vt_req more[2] = {};
	int status, base[2];
	pid_t pid;

	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	load(_metadata, self);
	ASSERT_EQ(0, vt_detach(&self->dev));
	all_returned(_metadata, self);
	for (int i = 0; i < 2; i++) {
		base[i] = vt_vring_base(&self->dev, i);
		EXPECT_EQ(NR_LOAD / 2, base[i]);
		/* published, not kicked, not fetched by anyone */
		more[i] = (struct vt_req) { .type = VIRTIO_BLK_T_GET_ID, .len = 20 };
		more[i].data = vt_alloc(&self->dev.mem, 4096);
		ASSERT_EQ(0, vt_req_add(&self->dev.q[i], &more[i]));
		vt_publish(&self->dev.q[i]);
	}
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		int r = vt_dev_open(&self->dev);

		for (int i = 0; i < 2; i++)
			r = r ?: vt_vring_set(&self->dev, i, base[i]);
		r = r ?: vt_attach(&self->dev, self->disk.fd);
		for (int i = 0; i < 2; i++)
			r = r ?: vt_req_wait(&self->dev.q[i], &more[i]);
		for (int i = 0; i < 2; i++)
			r = r ?: vt_good(&self->dev.q[i]);
		r = r ?: vt_detach(&self->dev);
		for (int i = 0; i < 2; i++)
			if (vt_vring_base(&self->dev, i) != base[i] + 3)
				r = -ERANGE;
		_exit(-r);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_EQ(0, status);
	/* once each: the rings are shared memory */
	for (int i = 0; i < 2; i++)
		EXPECT_EQ(base[i] + 3, self->dev.q[i].used->idx);
}

/* G12: a forked child that closes its copy takes nothing away */
TEST_F(life, child_closes_its_copy)
{
	int status;
	pid_t pid;

	ASSERT_EQ(0, vt_attach(&self->dev, vt_disk.fd));
	pid = fork();
	if (!pid) {
		close(self->dev.fd);
		_exit(0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, vt_good(&self->dev.q[0]));
}

/* G12: another process, which is not the owner, holds the last reference */
TEST_F(life, last_reference_elsewhere)
{
	pid_t pid;

	attach_and_hand_over(_metadata, self);
	pid = fork();
	if (!pid) {
		pause();
		_exit(0);
	}
	ASSERT_LE(0, pid);
	close(self->dev.fd);
	self->dev.fd = -1;
	/* still alive, with the owner's memory */
	EXPECT_EQ(0, vt_good(&self->dev.q[0]));
	EXPECT_EQ(-EBUSY, vt_exclusive(&self->disk));
	load(_metadata, self);
	kill(pid, SIGKILL);
	reap_process(_metadata, self, pid);
	all_returned(_metadata, self);
}

/* ---- many starts and stops ---- */

FIXTURE(cycle) {
	struct vt_dev dev;
	struct vt_bdev disk;
};

FIXTURE_SETUP(cycle)
{
	struct vt_null_opts opts = { .delay_ns = 1000000 };
	struct vt_opts dev = { .nr_queues = 2, .features = VT_F_BASE | VT_F_EVENT_IDX };

	ASSERT_EQ(0, vt_null_create(&self->disk, "vbtcycle", &opts));
	ASSERT_EQ(0, vt_dev_init(&self->dev, &dev));
}

FIXTURE_TEARDOWN(cycle)
{
	vt_dev_fini(&self->dev);
	EXPECT_EQ(0, vt_exclusive(&self->disk));
	vt_bdev_destroy(&self->disk);
}

static struct vt_req *idle_req(struct vt_req *req, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++)
		if (req[i].done)
			return &req[i];
	return NULL;
}

/* G08: stopped at any moment, the rings agree, and the next start goes on */
TEST_F_TIMEOUT(cycle, start_stop, 300)
{
	struct vt_req req[64];
	uint64_t data = vt_alloc(&self->dev.mem, 64 * 8192);
	struct vt_used u;
	int r;

	srand(8);
	for (int i = 0; i < 64; i++)
		req[i].done = true;
	for (unsigned int n = 0; n < vt_loops_to(200, 1000); n++) {
		ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
		for (int k = rand() % 20; k >= 0; k--) {
			struct vt_req *next = idle_req(req, 64);

			if (!next)
				break;
			*next = (struct vt_req) {
				.type = rand() % 2, .sector = rand() % 1000,
				.len = 512 * (1 + rand() % 8),
				.data = data + (next - req) * 8192 + rand() % 2,
			};
			ASSERT_EQ(0, vt_req_submit(&self->dev.q[rand() % 2], next));
		}
		usleep(rand() % 2000);
		ASSERT_EQ(0, vt_detach(&self->dev));
		for (int i = 0; i < 2; i++) {
			struct vt_queue *q = &self->dev.q[i];

			ASSERT_EQ(vt_vring_base(&self->dev, i), q->used->idx);
			while ((r = vt_used_get(q, &u)) == 1)
				;
			ASSERT_EQ(0, r);
		}
	}
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, vt_wait_all(&self->dev.q[i]));
		EXPECT_EQ(0, vt_good(&self->dev.q[i]));
	}
	for (int i = 0; i < 64; i++)
		EXPECT_EQ(true, req[i].done);
	ASSERT_EQ(0, vt_detach(&self->dev));
}

struct toggler {
	struct vt_dev *dev;
	int fd, unexpected;
};

static void *toggler_run(void *arg)
{
	struct toggler *t = arg;
	int r;

	for (unsigned int i = 0; i < vt_loops_to(100, 1000); i++) {
		r = vt_attach(t->dev, i & 1 ? -1 : t->fd);
		if (r && r != -EBUSY)
			t->unexpected = r;
	}
	return NULL;
}

/* Any thread of the owner may attach and detach, also two at a time. */
TEST_F_TIMEOUT(cycle, two_threads, 300)
{
	struct toggler t[2] = {
		{ .dev = &self->dev, .fd = self->disk.fd },
		{ .dev = &self->dev, .fd = vt_disk.fd },
	};
	pthread_t thread[2];

	ASSERT_EQ(0, pthread_create(&thread[0], NULL, toggler_run, &t[0]));
	ASSERT_EQ(0, pthread_create(&thread[1], NULL, toggler_run, &t[1]));
	for (int i = 0; i < 2; i++) {
		pthread_join(thread[i], NULL);
		EXPECT_EQ(0, t[i].unexpected);
	}
	ASSERT_EQ(0, vt_detach(&self->dev));
	ASSERT_EQ(0, vt_attach(&self->dev, vt_disk.fd));
	EXPECT_EQ(0, vt_good(&self->dev.q[0]));
	ASSERT_EQ(0, vt_detach(&self->dev));
}

FIXTURE(node) {
};

FIXTURE_SETUP(node)
{
}

FIXTURE_TEARDOWN(node)
{
}

/* G07: nothing is left behind by devices that are only opened and closed */
TEST_F_TIMEOUT(node, open_close, 300)
{
	long before = module_refcnt();

	for (unsigned int i = 0; i < 10000; i++) {
		int fd = open(VT_DEV, O_RDWR);

		ASSERT_LE(0, fd);
		if (i % 100 == 0)
			ASSERT_EQ(0, vt_ioctl(fd, VHOST_SET_OWNER, NULL, 0));
		close(fd);
	}
	EXPECT_EQ(before, module_refcnt());
}

VT_TEST_MAIN
