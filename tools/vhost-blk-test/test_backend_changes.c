// SPDX-License-Identifier: GPL-2.0-only
/*
 * What happens to a disk, and to the host around it, while it serves: it is
 * shared, suspended, scheduled in another way, short of tags, throttled, and
 * CPUs go away. Data stays right, requests come back, a stop ends.
 */
#include <glob.h>
#include <sys/mount.h>

#include "vt_test.h"

#define IN	VIRTIO_BLK_T_IN
#define OUT	VIRTIO_BLK_T_OUT
#define OK	VIRTIO_BLK_S_OK
#define NR_QUEUES	2

FIXTURE(changes) {
	struct vt_dev dev;
	struct vt_load load[NR_QUEUES];
	struct vt_bdev disk, over;	/* made by the test */
	uint64_t data;			/* 2 MiB */
};

#define changes_data FIXTURE_DATA(changes)

static const struct vt_opts changes_opts = {
	.nr_queues = NR_QUEUES, .features = VT_F_BASE | VT_F_EVENT_IDX,
};

FIXTURE_SETUP(changes)
{
	self->disk.fd = -1;
	self->over.fd = -1;
	ASSERT_EQ(0, vt_dev_init(&self->dev, &changes_opts));
	self->data = vt_alloc(&self->dev.mem, 2 * VT_MIB);
}

FIXTURE_TEARDOWN(changes)
{
	if (self->dev.fd >= 0) {
		for (int i = 0; i < NR_QUEUES; i++)
			EXPECT_EQ(0, vt_queue_idle(&self->dev.q[i]));
		EXPECT_EQ(0, vt_detach(&self->dev));
	}
	vt_dev_fini(&self->dev);
	vt_bdev_destroy(&self->over);
	vt_bdev_destroy(&self->disk);
}

static void load_start(struct __test_metadata *_metadata, changes_data *self,
		       const struct vt_bdev *disk)
{
	ASSERT_EQ(0, vt_attach(&self->dev, disk->fd));
	vt_load_spread(self->load, NR_QUEUES, &self->dev, disk);
	for (int i = 0; i < NR_QUEUES; i++) {
		/* some disks here are slow: not much to write and to read back */
		self->load[i].nr_sectors = 1024;
		ASSERT_EQ(0, vt_load_start(&self->load[i]));
	}
}

static void load_goes_on(struct __test_metadata *_metadata, changes_data *self)
{
	vt_loads_go_on(_metadata, self->load, NR_QUEUES, 20);
}

static void load_stop(struct __test_metadata *_metadata, changes_data *self)
{
	vt_loads_stop(_metadata, self->load, NR_QUEUES);
}

static uint64_t nr_done(changes_data *self)
{
	uint64_t n = 0;

	for (int i = 0; i < NR_QUEUES; i++)
		n += __atomic_load_n(&self->load[i].nr_done, __ATOMIC_ACQUIRE);
	return n;
}

/* ---- G13: not alone on the disk ---- */

static int write_here_read_there(struct vt_queue *here, struct vt_queue *there,
				 uint64_t gpa_here, uint64_t gpa_there, uint64_t seed)
{
	const uint32_t len = 64 * 1024;
	void *p = vt_ptr(&there->dev->mem, gpa_there);

	vt_fill(vt_ptr(&here->dev->mem, gpa_here), len, seed, 100);
	if (vt_io(here, OUT, 100, gpa_here, len))
		return -EIO;
	memset(p, 0, len);
	if (vt_io(there, IN, 100, gpa_there, len))
		return -EIO;
	return vt_check(p, len, seed, 100) < 0 ? 0 : -EILSEQ;
}

/* Nothing is opened exclusively: what one device has acknowledged the other reads. */
TEST_F(changes, two_devices_on_one_disk)
{
	struct vt_dev other;
	struct vt_load load;
	uint64_t data;

	ASSERT_EQ(0, vt_dev_init(&other, &changes_opts));
	data = vt_alloc(&other.mem, VT_MIB);
	ASSERT_EQ(0, vt_attach(&self->dev, vt_disk.fd));
	/* the same open file in both */
	ASSERT_EQ(0, vt_attach(&other, vt_disk.fd));
	for (int i = 0; i < 20; i++) {
		ASSERT_EQ(0, write_here_read_there(&self->dev.q[0], &other.q[1],
						   self->data, data, 2 * i));
		ASSERT_EQ(0, write_here_read_there(&other.q[0], &self->dev.q[1],
						   data, self->data, 2 * i + 1));
	}
	ASSERT_EQ(0, vt_detach(&self->dev));

	/* one comes and goes while the other works */
	vt_load_spread(&load, 1, &other, &vt_disk);
	ASSERT_EQ(0, vt_load_start(&load));
	for (int i = 0; i < 10; i++) {
		ASSERT_EQ(0, vt_attach(&self->dev, vt_disk.fd));
		ASSERT_EQ(0, vt_load_more(&load, 10));
		ASSERT_EQ(0, vt_detach(&self->dev));
	}
	EXPECT_EQ(0, vt_load_stop(&load)) {
		TH_LOG("%s", load.what);
	}
	vt_load_free(&load);
	vt_dev_fini(&other);
}

#define MNT	"/tmp/vhost-blk-mnt"

static int mount_ext4(const struct vt_bdev *disk)
{
	mkdir(MNT, 0700);
	vt_modprobe("ext4", "");
	return mount(disk->path, MNT, "ext4", 0, NULL) ? -errno : 0;
}

/* What the device reads is what O_DIRECT reads, all over the disk. */
static int reads_as_host_does(changes_data *self)
{
	int fd = open(self->disk.path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	const size_t len = VT_MIB;
	char *host = aligned_alloc(4096, len);
	int r = fd < 0 || !host ? -ENOMEM : 0;

	for (uint64_t at = 0; !r && at < self->disk.bytes; at += len) {
		if (pread(fd, host, len, at) != (ssize_t)len)
			r = -EIO;
		r = r ?: vt_io(&self->dev.q[0], IN, at / VT_SECTOR, self->data, len);
		if (!r && memcmp(host, vt_ptr(&self->dev.mem, self->data), len))
			r = -EILSEQ;
	}
	free(host);
	close(fd);
	return r;
}

static int file_write(const char *path, uint64_t seed)
{
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	static char buf[256 * 1024];
	int r = 0;

	vt_fill(buf, sizeof(buf), seed, 0);
	if (fd < 0 || write(fd, buf, sizeof(buf)) != sizeof(buf) || fsync(fd))
		r = -errno;
	close(fd);
	return r;
}

/* A disk with a mounted file system is taken, too, and read as the file system left it. */
TEST_F(changes, mounted_disk)
{
	char cmd[128];
	int ro;

	ASSERT_EQ(0, vt_null_create(&self->disk, "vbtmnt", &(struct vt_null_opts) { .mib = 16 }));
	snprintf(cmd, sizeof(cmd), "PATH=$PATH:/sbin:/usr/sbin mkfs.ext4 -q %s", self->disk.path);
	ASSERT_EQ(0, system(cmd));
	ASSERT_EQ(0, mount_ext4(&self->disk));
	ro = open(self->disk.path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, ro);
	EXPECT_EQ(0, file_write(MNT "/before", 1));
	EXPECT_EQ(0, vt_attach(&self->dev, ro));
	EXPECT_EQ(0, reads_as_host_does(self));
	/* ext4's superblock */
	EXPECT_EQ(OK, vt_io(&self->dev.q[0], IN, 2, self->data, 1024));
	EXPECT_EQ(0xef53, *(uint16_t *)((char *)vt_ptr(&self->dev.mem, self->data) + 0x38));
	EXPECT_EQ(0, file_write(MNT "/while", 2));
	EXPECT_EQ(0, reads_as_host_does(self));
	EXPECT_EQ(0, vt_detach(&self->dev));
	EXPECT_EQ(0, file_write(MNT "/after", 3));
	close(ro);
	EXPECT_EQ(0, umount(MNT));
	/* the detach dropped nothing that the file system had yet to write */
	snprintf(cmd, sizeof(cmd), "PATH=$PATH:/sbin:/usr/sbin fsck.ext4 -fn %s >/dev/null 2>&1",
		 self->disk.path);
	EXPECT_EQ(0, system(cmd));
}

/* Who wants the disk for the device alone opens it so; that holds until the detach. */
TEST_F(changes, exclusive_disk)
{
	int excl;

	ASSERT_EQ(0, vt_null_create(&self->disk, "vbtmnt", &(struct vt_null_opts) { .mib = 16 }));
	excl = open(self->disk.path, O_RDWR | O_EXCL | O_CLOEXEC);
	ASSERT_LE(0, excl);
	ASSERT_EQ(0, vt_attach(&self->dev, excl));
	close(excl);
	EXPECT_EQ(-EBUSY, mount_ext4(&self->disk));
	ASSERT_EQ(0, vt_detach(&self->dev));
	EXPECT_EQ(0, vt_exclusive(&self->disk));
}

/* ---- G14: the disk is suspended ---- */

#define DELAY_MS	30
#define STOP_MS		(DELAY_MS + 5000)
#define PAUSE_MS	200

static void suspendable(struct __test_metadata *_metadata, changes_data *self)
{
	struct vt_null_opts opts = { .delay_ns = DELAY_MS * 1000000UL };
	char table[96];

	ASSERT_EQ(0, vt_null_create(&self->disk, "vbtlow", &opts));
	snprintf(table, sizeof(table), "0 65536 linear %s 0", self->disk.path);
	ASSERT_EQ(0, vt_dm_create(&self->over, "vbtsuspend", table));
}

/* Until nothing that was submitted goes on: what is in flight waits in the suspended disk. */
static void wait_for_standstill(struct __test_metadata *_metadata, changes_data *self)
{
	int64_t end = vt_now_ms() + 5000;
	uint64_t before;

	do {
		ASSERT_GT(end, vt_now_ms());
		before = nr_done(self);
		usleep(PAUSE_MS * 1000);
	} while (nr_done(self) != before);
	EXPECT_EQ(0, vt_inflight(&self->disk));
}

static void suspend_under_load(struct __test_metadata *_metadata, changes_data *self, bool noflush)
{
	suspendable(_metadata, self);
	load_start(_metadata, self, &self->over);
	for (unsigned int n = 0; n < vt_loops_to(1, 20); n++) {
		load_goes_on(_metadata, self);
		ASSERT_EQ(0, vt_dm_suspend(&self->over, noflush));
		wait_for_standstill(_metadata, self);
		for (int i = 0; i < NR_QUEUES; i++)
			EXPECT_LT(0, self->load[i].q->inflight);
		ASSERT_EQ(0, vt_dm_resume(&self->over));
	}
	load_goes_on(_metadata, self);
	load_stop(_metadata, self);
}

TEST_F_TIMEOUT(changes, suspend_resume, 300)
{
	suspend_under_load(_metadata, self, false);
}

TEST_F_TIMEOUT(changes, suspend_resume_noflush, 300)
{
	suspend_under_load(_metadata, self, true);
}

/* Requests in flight in a disk that is suspended. */
static void suspended_requests(struct __test_metadata *_metadata, changes_data *self,
			       struct vt_req *req, unsigned int nr)
{
	ASSERT_EQ(0, vt_dm_suspend(&self->over, false));
	for (unsigned int i = 0; i < nr; i++) {
		req[i] = (struct vt_req) {
			.type = i & 1, .sector = i * 256, .data = self->data + i * 128 * 1024,
			.len = i & 2 ? 128 * 1024 : 4096,
		};
		ASSERT_EQ(0, vt_req_submit(&self->dev.q[i & 1], &req[i]));
	}
	ASSERT_EQ(0, vt_fetched_wait(&self->dev.q[0]));
	ASSERT_EQ(0, vt_fetched_wait(&self->dev.q[1]));
}

static void *detach_run(void *arg)
{
	return (void *)(intptr_t)vt_detach(arg);
}

static void *close_run(void *arg)
{
	struct vt_dev *dev = arg;
	int fd = dev->fd;

	dev->fd = -1;
	return (void *)(intptr_t)close(fd);
}

/* A stop cannot end before the disk goes on, and ends soon after. */
static void stop_while_suspended(struct __test_metadata *_metadata, changes_data *self,
				 void *(*stop)(void *))
{
	struct timespec until;
	struct vt_req req[8];
	pthread_t thread;
	struct vt_used u;
	int64_t start;
	void *r;

	suspendable(_metadata, self);
	ASSERT_EQ(0, vt_attach(&self->dev, self->over.fd));
	suspended_requests(_metadata, self, req, 8);
	ASSERT_EQ(0, pthread_create(&thread, NULL, stop, &self->dev));
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += PAUSE_MS * 1000000L;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	EXPECT_EQ(ETIMEDOUT, pthread_timedjoin_np(thread, &r, &until));
	for (int i = 0; i < 2; i++)
		EXPECT_EQ(0, self->dev.q[i].used->idx);
	start = vt_now_ms();
	ASSERT_EQ(0, vt_dm_resume(&self->over));
	ASSERT_EQ(0, pthread_join(thread, &r));
	EXPECT_GT(STOP_MS, vt_now_ms() - start);
	EXPECT_EQ(NULL, r);
	for (int i = 0; i < 2; i++) {
		while (vt_used_get(&self->dev.q[i], &u) == 1)
			;
		EXPECT_EQ(0, vt_queue_idle(&self->dev.q[i]));
	}
	for (int i = 0; i < 8; i++)
		EXPECT_EQ(true, req[i].done && req[i].status == OK);
	EXPECT_EQ(0, vt_inflight(&self->over));
}

TEST_F(changes, detach_while_suspended)
{
	stop_while_suspended(_metadata, self, detach_run);
}

TEST_F(changes, close_while_suspended)
{
	stop_while_suspended(_metadata, self, close_run);
}

/* A process with requests in flight in the suspended disk, until it is killed. */
static pid_t suspended_process(struct __test_metadata *_metadata, changes_data *self)
{
	struct vt_req req[8];
	int ready[2];
	pid_t pid;
	char c;

	ASSERT_EQ(0, pipe2(ready, O_CLOEXEC));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		vt_dev_fini(&self->dev);
		if (vt_dev_init(&self->dev, &changes_opts) ||
		    vt_attach(&self->dev, self->over.fd))
			_exit(1);
		self->data = vt_alloc(&self->dev.mem, 2 * VT_MIB);
		suspended_requests(_metadata, self, req, 8);
		if (write(ready[1], "r", 1) != 1)
			_exit(1);
		pause();
	}
	close(ready[1]);
	ASSERT_EQ(1, read(ready[0], &c, 1));
	close(ready[0]);
	return pid;
}

TEST_F(changes, sigkill_while_suspended)
{
	int64_t start;
	pid_t pid;

	suspendable(_metadata, self);
	pid = suspended_process(_metadata, self);
	close(self->over.fd);
	self->over.fd = -1;
	ASSERT_EQ(0, kill(pid, SIGKILL));
	usleep(PAUSE_MS * 1000);
	EXPECT_EQ(0, waitpid(pid, NULL, WNOHANG));
	start = vt_now_ms();
	ASSERT_EQ(0, vt_dm_resume(&self->over));
	ASSERT_EQ(pid, waitpid(pid, NULL, 0));
	/* the last put of a killed process's files may come a moment after it */
	while (vt_exclusive(&self->over) && vt_now_ms() - start < STOP_MS)
		usleep(1000);
	EXPECT_EQ(0, vt_exclusive(&self->over));
	EXPECT_GT(STOP_MS, vt_now_ms() - start);
}

/* ---- G15: the disk's queue is changed ---- */

/* Names of the schedulers that /sys/block/.../scheduler lists, without brackets. */
static unsigned int schedulers(const struct vt_bdev *disk, char name[][32], unsigned int max)
{
	char path[96], text[256] = "";
	unsigned int n = 0;
	FILE *f;

	vt_modprobe("mq-deadline", "");
	vt_modprobe("bfq", "");
	vt_modprobe("kyber-iosched", "");
	snprintf(path, sizeof(path), "/sys/block/%s/queue/scheduler", disk->name);
	f = fopen(path, "re");
	if (!f)
		return 0;
	if (!fgets(text, sizeof(text), f))
		text[0] = '\0';
	fclose(f);
	for (char *s = strtok(text, "[\n ]"); s && n < max; s = strtok(NULL, "[\n ]"))
		snprintf(name[n++], 32, "%s", s);
	return n;
}

TEST_F_TIMEOUT(changes, scheduler, 300)
{
	struct vt_null_opts opts = { .delay_ns = 200000 };
	static const char *const depth[] = { "4", "32", "256" };
	char name[8][32];
	unsigned int n;

	ASSERT_EQ(0, vt_null_create(&self->disk, "vbtsched", &opts));
	n = schedulers(&self->disk, name, 8);
	ASSERT_LE(2, n);
	load_start(_metadata, self, &self->disk);
	for (unsigned int i = 0; i < vt_loops_to(2, 50) * n; i++) {
		ASSERT_EQ(0, vt_bdev_queue_set(&self->disk, "scheduler", name[i % n])) {
			TH_LOG("%s", name[i % n]);
		}
		load_goes_on(_metadata, self);
		/* without a scheduler the disk's own depth is the limit */
		for (unsigned int k = 0; k < ARRAY_SIZE(depth); k++) {
			if (vt_bdev_queue_set(&self->disk, "nr_requests", depth[k]))
				continue;
			load_goes_on(_metadata, self);
		}
	}
	load_stop(_metadata, self);
}

TEST_F_TIMEOUT(changes, hardware_queues, 300)
{
	struct vt_null_opts opts = { .delay_ns = 200000, .nr_queues = 1 };
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	char text[16];

	ASSERT_EQ(0, vt_null_create(&self->disk, "vbtsched", &opts));
	load_start(_metadata, self, &self->disk);
	for (unsigned int i = 0; i < vt_loops_to(8, 1000); i++) {
		/* no more than CPUs */
		snprintf(text, sizeof(text), "%ld", 1 + i % cpus);
		ASSERT_EQ(0, vt_null_attr(self->disk.name, "submit_queues", text));
		load_goes_on(_metadata, self);
	}
	load_stop(_metadata, self);
}

/* ---- G16 ---- */

TEST_F_TIMEOUT(changes, cpu_hotplug, 300)
{
	static const char cpu[] = "/sys/devices/system/cpu/cpu1/online";
	struct vt_null_opts opts = { .delay_ns = 200000, .nr_queues = 2 };

	if (access(cpu, W_OK))
		SKIP(return, "this kernel has no second CPU that can be switched off");
	ASSERT_EQ(0, vt_null_create(&self->disk, "vbtcpu", &opts));
	load_start(_metadata, self, &self->disk);
	for (unsigned int i = 0; i < vt_loops_to(4, 100); i++) {
		ASSERT_EQ(0, vt_write_file(cpu, "0"));
		load_goes_on(_metadata, self);
		ASSERT_EQ(0, vt_write_file(cpu, "1"));
		load_goes_on(_metadata, self);
	}
	load_stop(_metadata, self);
}

/* ---- J04: submitting blocks ---- */

/* One tag for all: the worker sleeps in the disk, and yet everyone is served. */
TEST_F(changes, one_tag)
{
	struct vt_null_opts opts = { .delay_ns = 2000000, .depth = 1 };
	struct vt_req many[64], one = { .type = IN, .len = 512, .data = self->data };
	int64_t start;

	ASSERT_EQ(0, vt_null_create(&self->disk, "vbttag", &opts));
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	for (int i = 0; i < 64; i++) {
		many[i] = (struct vt_req) {
			.type = i & 1, .len = i ? 4096 : VT_MIB, .data = self->data,
			.sector = i * 64,
		};
		ASSERT_EQ(0, vt_req_add(&self->dev.q[0], &many[i]));
	}
	start = vt_now_ms();
	vt_publish(&self->dev.q[0]);
	vt_kick(&self->dev.q[0]);
	ASSERT_EQ(0, vt_req_run(&self->dev.q[1], &one));
	EXPECT_EQ(OK, one.status);
	EXPECT_GT(1000, vt_now_ms() - start);
	for (int i = 0; i < 64; i++) {
		ASSERT_EQ(0, vt_req_wait(&self->dev.q[0], &many[i]));
		EXPECT_EQ(OK, many[i].status);
	}
	EXPECT_EQ(0, vt_detach(&self->dev));
	/* and with a stop in the middle */
	load_start(_metadata, self, &self->disk);
	load_goes_on(_metadata, self);
	load_stop(_metadata, self);
}

/* ---- J04, J05: the owner's control group ---- */

#define CGROUP	"vhost-blk-io"

static const char *disk_number(const struct vt_bdev *disk)
{
	static char text[32];
	char path[64];
	FILE *f;

	snprintf(path, sizeof(path), "/sys/block/%s/dev", disk->name);
	f = fopen(path, "re");
	if (!f)
		return NULL;
	if (fscanf(f, "%31s", text) != 1)
		text[0] = '\0';
	fclose(f);
	return text;
}

/* A number of the disk's line in io.stat, 0 if it has none. */
static long io_stat(const struct vt_bdev *disk, const char *key)
{
	char path[] = "/sys/fs/cgroup/" CGROUP "/io.stat", line[256], *at;
	const char *number = disk_number(disk);
	FILE *f = fopen(path, "re");
	long n = 0;

	if (!f)
		return -errno;
	while (number && fgets(line, sizeof(line), f)) {
		at = strstr(line, key);
		if (at && !strncmp(line, number, strlen(number)) && line[strlen(number)] == ' ')
			n = strtol(at + strlen(key), NULL, 10);
	}
	fclose(f);
	return n;
}

/* Run @owner in a process of the group, with a device of its own. */
static pid_t group_start(changes_data *self, int (*owner)(changes_data *self))
{
	pid_t pid = fork();
	int r;

	if (pid)
		return pid;
	vt_dev_fini(&self->dev);
	r = vt_cgroup_set(CGROUP, "cgroup.procs", "0");
	r = r ?: vt_dev_init(&self->dev, &changes_opts);
	if (r)
		_exit(1);
	self->data = vt_alloc(&self->dev.mem, 2 * VT_MIB);
	r = vt_attach(&self->dev, self->disk.fd);
	r = r ?: owner(self);
	r = r ?: vt_detach(&self->dev);
	_exit(r ? 2 : 0);
}

static int group_wait(pid_t pid)
{
	int status = -1;

	return waitpid(pid, &status, 0) == pid ? status : -errno;
}

#define OWNER_MIB	4

static int io_of_owner(changes_data *self)
{
	struct vt_queue *q = &self->dev.q[0];
	int r = 0;

	for (unsigned int i = 0; !r && i < OWNER_MIB; i++) {
		r = vt_io(q, OUT, 2048 * i, self->data, VT_MIB);
		r = r ?: vt_io(q, IN, 2048 * i, self->data, VT_MIB);
	}
	/* bounced */
	return r ?: vt_io(q, OUT, 0, self->data + 1, 4096);
}

/* J05 */
TEST_F(changes, io_is_the_owners)
{
	ASSERT_EQ(0, vt_null_create(&self->disk, "vbtacct", &(struct vt_null_opts) {}));
	if (vt_cgroup_create(CGROUP, "io"))
		SKIP(return, "this kernel has no io controller");
	EXPECT_EQ(0, group_wait(group_start(self, io_of_owner)));
	EXPECT_EQ(OWNER_MIB * VT_MIB, io_stat(&self->disk, "rbytes="));
	EXPECT_EQ(OWNER_MIB * VT_MIB + 4096, io_stat(&self->disk, "wbytes="));
	EXPECT_EQ(0, vt_cgroup_remove(CGROUP));
}

/* J05: also of an image file with holes, which are written in a workqueue */
TEST_F(changes, file_io_is_the_owners)
{
	struct vt_fs fs = {};
	int disk;

	ASSERT_EQ(0, vt_null_create(&self->disk, "vbtacct", &(struct vt_null_opts) {
		.mib = 160,
	}));
	if (vt_cgroup_create(CGROUP, "io"))
		SKIP(return, "this kernel has no io controller");
	disk = self->disk.fd;
	EXPECT_EQ(0, vt_fs_create(&fs, "ext4", &self->disk));
	self->disk.fd = vt_image_create(&fs, "image", O_DIRECT, 16 * VT_MIB);
	EXPECT_LE(0, self->disk.fd);
	EXPECT_EQ(0, group_wait(group_start(self, io_of_owner)));
	close(self->disk.fd);
	self->disk.fd = disk;
	EXPECT_EQ(0, vt_fs_destroy(&fs));
	EXPECT_LE(OWNER_MIB * VT_MIB, io_stat(&self->disk, "rbytes="));
	EXPECT_LE(OWNER_MIB * VT_MIB + 4096, io_stat(&self->disk, "wbytes="));
	EXPECT_EQ(0, vt_cgroup_remove(CGROUP));
}

/* Writes that the limit holds up for a second; reads on the other queue are not. */
static int throttled_owner(changes_data *self)
{
	struct vt_req req[4];
	int r = 0;

	for (int i = 0; !r && i < 4; i++) {
		req[i] = (struct vt_req) {
			.type = OUT, .sector = 2048 * i, .len = VT_MIB, .data = self->data,
		};
		r = vt_req_submit(&self->dev.q[0], &req[i]);
	}
	for (int i = 0; !r && i < 20; i++)
		r = vt_io(&self->dev.q[1], IN, 0, self->data + VT_MIB, 4096);
	if (!r && self->dev.q[0].used->idx == 4)
		r = -ETIME;
	r = r ?: vt_wait_all(&self->dev.q[0]);
	for (int i = 0; !r && i < 4; i++)
		r = req[i].status;
	return r;
}

/* J04: the group's limit slows its owner's writes down, and nothing else */
TEST_F(changes, throttled)
{
	int64_t start;
	char limit[64];
	pid_t pid;

	ASSERT_EQ(0, vt_null_create(&self->disk, "vbtthrottle", &(struct vt_null_opts) {}));
	if (vt_cgroup_create(CGROUP, "io"))
		SKIP(return, "this kernel has no io controller");
	snprintf(limit, sizeof(limit), "%s wbps=%lu", disk_number(&self->disk), 4 * VT_MIB);
	if (vt_cgroup_set(CGROUP, "io.max", limit)) {
		vt_cgroup_remove(CGROUP);
		SKIP(return, "this kernel has no io.max");
	}
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	start = vt_now_ms();
	pid = group_start(self, throttled_owner);
	/* another owner of the same disk, who has no limit */
	for (int i = 0; i < 20; i++)
		EXPECT_EQ(0, vt_good(&self->dev.q[0]));
	EXPECT_EQ(0, waitpid(pid, NULL, WNOHANG));
	EXPECT_EQ(0, group_wait(pid));
	EXPECT_LT(500, vt_now_ms() - start);
	EXPECT_EQ(0, vt_cgroup_remove(CGROUP));
}

VT_TEST_MAIN
