// SPDX-License-Identifier: GPL-2.0-only
/*
 * H08: newer kernels make the worker a thread of the owner, which a SIGKILL
 * ends with it. What is still in flight then comes back through a workqueue.
 */
#include <dirent.h>

#include "vt_test.h"

#define DELAY_MS	500
/* The largest request takes two windows, the bounced one three. */
#define STOP_MS		(3 * DELAY_MS + 5000)
#define NR_LOAD		6
#define SECTORS_APART	32768	/* 16 MiB */

FIXTURE(orphans) {
	struct vt_dev dev;
	struct vt_bdev disk;
	struct vt_event calls;
	struct vt_req load[NR_LOAD];
};

#define orphans_data FIXTURE_DATA(orphans)

/* Is the worker of this process's device one of its threads? */
static bool worker_is_own_thread(void)
{
	char path[288], comm[32];
	bool found = false;
	struct dirent *e;
	DIR *tasks = opendir("/proc/self/task");
	FILE *f;

	while (tasks && (e = readdir(tasks))) {
		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", e->d_name);
		f = fopen(path, "re");
		if (!f)
			continue;
		if (fgets(comm, sizeof(comm), f) && !strncmp(comm, "vhost-", 6))
			found = true;
		fclose(f);
	}
	if (tasks)
		closedir(tasks);
	return found;
}

FIXTURE_SETUP(orphans)
{
	struct vt_null_opts null = { .mib = 128, .delay_ns = DELAY_MS * 1000000UL, .depth = 512 };
	struct vt_opts opts = { .features = VT_F_BASE | VT_F_EVENT_IDX };

	ASSERT_EQ(0, vt_dev_init(&self->dev, &opts));
	ASSERT_EQ(0, vt_null_create(&self->disk, "vbtorphan", &null));
}

FIXTURE_TEARDOWN(orphans)
{
	vt_event_stop(&self->calls);
	vt_dev_fini(&self->dev);
	vt_bdev_destroy(&self->disk);
}

/* Small, large, bounced, with a flush; nothing is kicked. */
static void load_publish(struct __test_metadata *_metadata, orphans_data *self)
{
	static const struct { uint32_t type, len, odd; } mix[NR_LOAD] = {
		{ VIRTIO_BLK_T_OUT, 4096, 0 }, { VIRTIO_BLK_T_IN, 4096, 0 },
		{ VIRTIO_BLK_T_OUT, 10 << 20, 0 }, { VIRTIO_BLK_T_OUT, 160 << 10, 1 },
		{ VIRTIO_BLK_T_IN, 160 << 10, 1 }, { VIRTIO_BLK_T_FLUSH, 0, 0 },
	};

	for (int i = 0; i < NR_LOAD; i++) {
		struct vt_req *req = &self->load[i];

		*req = (struct vt_req) {
			.type = mix[i].type, .len = mix[i].len, .sector = i * SECTORS_APART,
			.data = vt_alloc(&self->dev.mem, mix[i].len + 4096) + mix[i].odd,
		};
		vt_fill(vt_ptr(&self->dev.mem, req->data), req->len, 7, req->sector);
		ASSERT_EQ(0, vt_req_add(&self->dev.q[0], req));
	}
	vt_publish(&self->dev.q[0]);
}

/* The owner: serves this process's rings, in the same memory, until it is killed. */
static pid_t owner_start(struct __test_metadata *_metadata, orphans_data *self)
{
	pid_t pid = fork();
	int excl;

	ASSERT_LE(0, pid);
	if (pid)
		return pid;
	close(self->dev.fd);
	/* Nobody else can open the disk like this until the module lets go. */
	excl = open(self->disk.path, O_RDWR | O_EXCL);
	if (vt_dev_open(&self->dev) || vt_vring_set(&self->dev, 0, 0) ||
	    vt_attach(&self->dev, excl))
		_exit(1);
	close(excl);
	for (;;)
		pause();
}

/* Everything was answered, reads went into the memory of an owner that is no more. */
static void load_check(struct __test_metadata *_metadata, orphans_data *self)
{
	struct vt_queue *q = &self->dev.q[0];
	struct vt_used u;
	void *buf = NULL;
	int fd;

	while (vt_used_get(q, &u) == 1)
		;
	EXPECT_EQ(0, vt_queue_idle(q));
	fd = open(self->disk.path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, posix_memalign(&buf, 4096, 10 << 20));
	for (int i = 0; i < NR_LOAD; i++) {
		struct vt_req *req = &self->load[i];

		EXPECT_EQ(true, req->done);
		EXPECT_EQ(VIRTIO_BLK_S_OK, req->status);
		if (req->type == VIRTIO_BLK_T_IN)
			EXPECT_EQ(-1, vt_check_byte(vt_ptr(&self->dev.mem, req->data),
						    req->len, 0));
		if (req->type != VIRTIO_BLK_T_OUT)
			continue;
		EXPECT_EQ(req->len, pread(fd, buf, req->len, req->sector * VT_SECTOR));
		EXPECT_EQ(-1, vt_check(buf, req->len, 7, req->sector));
	}
	free(buf);
	close(fd);
}

TEST_F(orphans, owner_killed)
{
	int64_t start;
	int status, r;
	pid_t pid;

	if (!worker_is_own_thread())
		SKIP(return, "the worker is no thread of its owner in this kernel");
	r = vt_event_start_call(&self->calls, "vhost_blk:vhost_blk_handle_orphans");
	if (r == -ENOENT)
		SKIP(return, "no kprobe events in this kernel");
	ASSERT_EQ(0, r);
	load_publish(_metadata, self);
	pid = owner_start(_metadata, self);
	EXPECT_EQ(0, vt_fetched_wait(&self->dev.q[0]));
	EXPECT_EQ(0, vt_inflight_wait(&self->disk, 1));
	EXPECT_EQ(-EBUSY, vt_exclusive(&self->disk));
	EXPECT_EQ(0, vt_event_count_all(&self->calls));

	start = vt_now_ms();
	ASSERT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(true, WIFSIGNALED(status));
	/* the last put of a killed process's files may come a moment after it */
	while (vt_exclusive(&self->disk) && vt_now_ms() - start < STOP_MS)
		usleep(1000);
	EXPECT_EQ(0, vt_exclusive(&self->disk));
	EXPECT_GT(STOP_MS, vt_now_ms() - start);
	EXPECT_LT(0, vt_event_count_all(&self->calls));
	load_check(_metadata, self);
}

VT_TEST_MAIN
