// SPDX-License-Identifier: GPL-2.0-only
/* Every ioctl of /dev/vhost-blk: what it takes, what it refuses and how. */
#include "vt_test.h"

/* Exactly what this version implements. */
#define OFFERED (VT_F(VIRTIO_F_VERSION_1) | VT_F(VIRTIO_F_ANY_LAYOUT) |		\
		 VT_F(VIRTIO_F_NOTIFY_ON_EMPTY) | VT_F(VIRTIO_RING_F_INDIRECT_DESC) | \
		 VT_F(VIRTIO_RING_F_EVENT_IDX) | VT_F(VIRTIO_BLK_F_FLUSH) |	\
		 VT_F(VIRTIO_BLK_F_MQ) | VT_F(VIRTIO_BLK_F_SEG_MAX) |		\
		 VT_F(VIRTIO_BLK_F_SIZE_MAX) | VT_F(VIRTIO_BLK_F_BLK_SIZE) |	\
		 VT_F(VIRTIO_BLK_F_TOPOLOGY) | VT_F(VIRTIO_BLK_F_RO) |		\
		 VT_F_RANGES | VT_F(VIRTIO_BLK_F_CONFIG_WCE) |			\
		 VT_F(VHOST_F_LOG_ALL) | VT_F(VIRTIO_F_ACCESS_PLATFORM))

struct cmd {
	const char *name;
	unsigned long nr;
};

#define CMD(nr) { #nr, nr }

static const struct cmd vring_cmd[] = {
	CMD(VHOST_SET_VRING_NUM), CMD(VHOST_SET_VRING_ADDR), CMD(VHOST_SET_VRING_BASE),
	CMD(VHOST_GET_VRING_BASE), CMD(VHOST_SET_VRING_KICK), CMD(VHOST_SET_VRING_CALL),
	CMD(VHOST_SET_VRING_ERR), CMD(VHOST_SET_VRING_BUSYLOOP_TIMEOUT),
	CMD(VHOST_GET_VRING_BUSYLOOP_TIMEOUT),
};

static const struct cmd device_cmd[] = {
	CMD(VHOST_SET_FEATURES), CMD(VHOST_SET_MEM_TABLE), CMD(VHOST_SET_LOG_BASE),
	CMD(VHOST_SET_LOG_FD), CMD(VHOST_BLK_SET_BACKEND), CMD(VHOST_BLK_SET_SERIAL),
	CMD(VHOST_BLK_SET_WCE), CMD(VHOST_BLK_GET_STATS),
};

/* ---- a device nobody owns ---- */

FIXTURE(fresh) { int fd; };

FIXTURE_SETUP(fresh)
{
	self->fd = open(VT_DEV, O_RDWR);
	ASSERT_LE(0, self->fd);
}

FIXTURE_TEARDOWN(fresh)
{
	close(self->fd);
}

/* F01 */
TEST_F(fresh, needs_owner)
{
	uint64_t arg[16] = {};

	for (unsigned int i = 0; i < ARRAY_SIZE(vring_cmd); i++) {
		EXPECT_EQ(-EPERM, vt_ioctl(self->fd, vring_cmd[i].nr, arg, sizeof(arg)))
			TH_LOG("%s", vring_cmd[i].name);
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(device_cmd); i++) {
		EXPECT_EQ(-EPERM, vt_ioctl(self->fd, device_cmd[i].nr, arg, sizeof(arg)))
			TH_LOG("%s", device_cmd[i].name);
	}
	EXPECT_EQ(-EPERM, vt_ioctl(self->fd, VHOST_RESET_OWNER, NULL, 0));
	/* not even to detach, nor is the argument looked at first */
	EXPECT_EQ(-EPERM, vt_ioctl(self->fd, VHOST_BLK_SET_BACKEND,
				   &(struct vhost_blk_backend) { .fd = -1 }, 8));
	EXPECT_EQ(-EPERM, vt_ioctl(self->fd, VHOST_BLK_SET_BACKEND, NULL, 0));
}

/* F01 */
TEST_F(fresh, one_owner)
{
	EXPECT_EQ(0, vt_ioctl(self->fd, VHOST_SET_OWNER, NULL, 0));
	EXPECT_EQ(-EBUSY, vt_ioctl(self->fd, VHOST_SET_OWNER, NULL, 0));
	EXPECT_EQ(0, vt_ioctl(self->fd, VHOST_RESET_OWNER, NULL, 0));
	EXPECT_EQ(-EPERM, vt_ioctl(self->fd, VHOST_RESET_OWNER, NULL, 0));
	EXPECT_EQ(0, vt_ioctl(self->fd, VHOST_SET_OWNER, NULL, 0));
}

/* F02 */
TEST_F(fresh, features)
{
	uint64_t features = 0, ack;

	ASSERT_EQ(0, vt_ioctl(self->fd, VHOST_GET_FEATURES, &features, 8));
	EXPECT_EQ(OFFERED, features);
	ASSERT_EQ(0, vt_ioctl(self->fd, VHOST_SET_OWNER, NULL, 0));
	for (int bit = 0; bit < 64; bit++) {
		ack = VT_F(bit);
		EXPECT_EQ(OFFERED & ack ? 0 : -EOPNOTSUPP,
			  vt_ioctl(self->fd, VHOST_SET_FEATURES, &ack, 8)) TH_LOG("bit %d", bit);
	}
	ack = OFFERED;
	EXPECT_EQ(0, vt_ioctl(self->fd, VHOST_SET_FEATURES, &ack, 8));
	ack = 0;
	EXPECT_EQ(0, vt_ioctl(self->fd, VHOST_SET_FEATURES, &ack, 8));
}

TEST_F(fresh, num_queues)
{
	static const struct {
		uint32_t nr;
		int r;
	} asked[] = {
		{ 0, -EINVAL }, { VT_NR_QUEUES + 1, -EINVAL }, { UINT32_MAX, -EINVAL },
		{ VT_NR_QUEUES, 0 }, { 3, 0 }, { 4, -EINVAL }, { 3, 0 }, { 2, 0 },
	};
	uint32_t arg[16] = {}, one = 1;

	EXPECT_EQ(-EFAULT, vt_ioctl(self->fd, VHOST_BLK_SET_NUM_QUEUES, NULL, 0));
	for (unsigned int i = 0; i < ARRAY_SIZE(asked); i++) {
		arg[0] = asked[i].nr;
		EXPECT_EQ(asked[i].r, vt_ioctl(self->fd, VHOST_BLK_SET_NUM_QUEUES, arg, 4))
			TH_LOG("%u", asked[i].nr);
	}
	ASSERT_EQ(0, vt_ioctl(self->fd, VHOST_SET_OWNER, NULL, 0));
	EXPECT_EQ(-EBUSY, vt_ioctl(self->fd, VHOST_BLK_SET_NUM_QUEUES, &one, 4));
	for (unsigned int i = 0; i < ARRAY_SIZE(vring_cmd); i++) {
		arg[0] = 2;
		EXPECT_EQ(-ENOBUFS, vt_ioctl(self->fd, vring_cmd[i].nr, arg, sizeof(arg)))
			TH_LOG("%s", vring_cmd[i].name);
	}
	arg[0] = 1;
	EXPECT_EQ(0, vt_ioctl(self->fd, VHOST_GET_VRING_BASE, arg, sizeof(arg)));
	/* for the next owner, too */
	ASSERT_EQ(0, vt_ioctl(self->fd, VHOST_RESET_OWNER, NULL, 0));
	ASSERT_EQ(0, vt_ioctl(self->fd, VHOST_SET_OWNER, NULL, 0));
	EXPECT_EQ(0, vt_ioctl(self->fd, VHOST_GET_VRING_BASE, arg, sizeof(arg)));
	arg[0] = 2;
	EXPECT_EQ(-ENOBUFS, vt_ioctl(self->fd, VHOST_GET_VRING_BASE, arg, sizeof(arg)));
	ASSERT_EQ(0, vt_ioctl(self->fd, VHOST_RESET_OWNER, NULL, 0));
	EXPECT_EQ(0, vt_ioctl(self->fd, VHOST_BLK_SET_NUM_QUEUES, &one, 4));
}

/* F14 */
TEST_F(fresh, unknown_ioctl)
{
	static const unsigned long nr[] = {
		_IO(VHOST_VIRTIO, 0x4f), _IO(VHOST_VIRTIO, 0x5f), _IOW(VHOST_VIRTIO, 0x50, int),
		VHOST_VSOCK_SET_RUNNING, VHOST_NET_SET_BACKEND, 0, ~0UL, BLKGETSIZE64,
	};
	uint64_t arg[16] = {};

	ASSERT_EQ(0, vt_ioctl(self->fd, VHOST_SET_OWNER, NULL, 0));
	for (unsigned int i = 0; i < ARRAY_SIZE(nr); i++) {
		EXPECT_EQ(-ENOTTY, vt_ioctl(self->fd, nr[i], arg, sizeof(arg)))
			TH_LOG("ioctl %#lx", nr[i]);
	}
}

/* F06 */
TEST_F(fresh, detach_of_nothing)
{
	struct vhost_blk_backend none = { .fd = -1 };

	ASSERT_EQ(0, vt_ioctl(self->fd, VHOST_SET_OWNER, NULL, 0));
	EXPECT_EQ(0, vt_ioctl(self->fd, VHOST_BLK_SET_BACKEND, &none, sizeof(none)));
	EXPECT_EQ(0, vt_ioctl(self->fd, VHOST_BLK_SET_BACKEND, &none, sizeof(none)));
}

/* F05 */
TEST_F(fresh, attach_without_vrings)
{
	struct vhost_blk_backend b = { .fd = vt_disk.fd };

	ASSERT_EQ(0, vt_ioctl(self->fd, VHOST_SET_OWNER, NULL, 0));
	EXPECT_EQ(-EINVAL, vt_ioctl(self->fd, VHOST_BLK_SET_BACKEND, &b, sizeof(b)));
	EXPECT_EQ(0, vt_exclusive(&vt_disk));
}

/* ---- a device with two vrings, not attached ---- */

FIXTURE(uapi) {
	struct vt_dev dev;
	int fd;
};

FIXTURE_SETUP(uapi)
{
	struct vt_opts opts = { .nr_queues = 2, .num = 64 };

	ASSERT_EQ(0, vt_dev_init(&self->dev, &opts));
	self->fd = self->dev.fd;
}

FIXTURE_TEARDOWN(uapi)
{
	vt_dev_fini(&self->dev);
	EXPECT_EQ(0, vt_exclusive(&vt_disk));
}

/* Run @fn in another process: its return value. */
static int in_child(int (*fn)(int), int arg)
{
	pid_t pid = fork();
	int status;

	if (!pid)
		_exit(fn(arg));
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -1;
	return WEXITSTATUS(status);
}

static int child_ioctls(int fd)
{
	struct vhost_blk_backend b = { .fd = -1 };
	struct vhost_blk_query query;
	uint64_t arg[16] = {};

	if (vt_ioctl(fd, VHOST_BLK_SET_BACKEND, &b, sizeof(b)) != -EPERM)
		return 1;
	if (vt_ioctl(fd, VHOST_SET_OWNER, NULL, 0) != -EBUSY)
		return 2;
	if (vt_ioctl(fd, VHOST_RESET_OWNER, NULL, 0) != -EPERM)
		return 3;
	for (unsigned int i = 0; i < ARRAY_SIZE(device_cmd); i++)
		if (vt_ioctl(fd, device_cmd[i].nr, arg, sizeof(arg)) != -EPERM)
			return 10 + i;
	for (unsigned int i = 0; i < ARRAY_SIZE(vring_cmd); i++)
		if (vt_ioctl(fd, vring_cmd[i].nr, arg, sizeof(arg)) != -EPERM)
			return 20 + i;
	/* what anyone may ask */
	if (vt_ioctl(fd, VHOST_GET_FEATURES, arg, sizeof(arg)))
		return 4;
	return vt_query(fd, vt_disk.fd, &query) ? 5 : 0;
}

/* F01 */
TEST_F(uapi, other_process)
{
	EXPECT_EQ(0, in_child(child_ioctls, self->fd));
	ASSERT_EQ(0, vt_attach(&self->dev, vt_disk.fd));
	EXPECT_EQ(0, in_child(child_ioctls, self->fd));
	EXPECT_EQ(0, vt_good(&self->dev.q[0]));
}

/* Both ioctls that take a backend agree on which fds are one. */
static void refused(struct __test_metadata *_metadata, struct vt_dev *dev, int error, int fd)
{
	struct vhost_blk_query query;

	EXPECT_EQ(error, vt_attach(dev, fd));
	EXPECT_EQ(error, vt_query(dev->fd, fd, &query));
}

/* F03 */
TEST_F(uapi, bad_fd)
{
	struct vhost_blk_query query;
	int fd = open(vt_disk.path, O_RDWR);

	ASSERT_LE(0, fd);
	close(fd);
	refused(_metadata, &self->dev, -EBADF, fd);
	refused(_metadata, &self->dev, -EBADF, -2);
	refused(_metadata, &self->dev, -EBADF, -4096);
	refused(_metadata, &self->dev, -EBADF, 1 << 20);
	refused(_metadata, &self->dev, -EBADF, INT32_MAX);
	refused(_metadata, &self->dev, -EBADF, INT32_MIN);
	EXPECT_EQ(-EBADF, vt_query(self->fd, -2, &query));
	fd = open(vt_disk.path, O_PATH);
	ASSERT_LE(0, fd);
	refused(_metadata, &self->dev, -EBADF, fd);
	close(fd);
}

/* F04 */
TEST_F(uapi, not_a_disk)
{
	int fd[5], n = 0;

	fd[n++] = open("/dev/null", O_RDWR);
	fd[n++] = open("/", O_RDONLY | O_DIRECTORY);
	fd[n++] = eventfd(0, 0);
	fd[n++] = socket(AF_UNIX, SOCK_STREAM, 0);
	fd[n++] = dup(self->fd);
	for (int i = 0; i < n; i++) {
		ASSERT_LE(0, fd[i]);
		refused(_metadata, &self->dev, -ENOTBLK, fd[i]);
		close(fd[i]);
	}
}

/* F07 */
TEST_F(uapi, write_only_fd)
{
	int fd = open(vt_disk.path, O_WRONLY);

	ASSERT_LE(0, fd);
	refused(_metadata, &self->dev, -EINVAL, fd);
	close(fd);
}

TEST_F(uapi, flags)
{
	struct vhost_blk_backend b = { .fd = vt_disk.fd, .flags = 0x80 };
	struct vhost_blk_query query = { .fd = vt_disk.fd, .flags = 0x80000000 };

	EXPECT_EQ(-EINVAL, vt_ioctl(self->fd, VHOST_BLK_SET_BACKEND, &b, sizeof(b)));
	b.fd = -1;
	EXPECT_EQ(-EINVAL, vt_ioctl(self->fd, VHOST_BLK_SET_BACKEND, &b, sizeof(b)));
	EXPECT_EQ(-EINVAL, vt_ioctl(self->fd, VHOST_BLK_QUERY_BACKEND, &query, sizeof(query)));
}

/* F05, F06 */
TEST_F(uapi, attach_twice)
{
	ASSERT_EQ(0, vt_attach(&self->dev, vt_disk.fd));
	EXPECT_EQ(-EBUSY, vt_attach(&self->dev, vt_disk.fd));
	EXPECT_EQ(-EBUSY, vt_attach(&self->dev, vt_disk_4k.fd));
	EXPECT_EQ(0, vt_good(&self->dev.q[0]));
	EXPECT_EQ(0, vt_detach(&self->dev));
	EXPECT_EQ(0, vt_detach(&self->dev));
	ASSERT_EQ(0, vt_attach(&self->dev, vt_disk_4k.fd));
	EXPECT_EQ(0, vt_good(&self->dev.q[0]));
	EXPECT_EQ(0, vt_good(&self->dev.q[1]));
	EXPECT_EQ(0, vt_detach(&self->dev));
	ASSERT_EQ(0, vt_attach(&self->dev, vt_disk.fd));
	EXPECT_EQ(0, vt_good(&self->dev.q[1]));
}

/* A refused attach leaves what was there before. */
TEST_F(uapi, attach_after_refusal)
{
	EXPECT_EQ(-EBADF, vt_attach(&self->dev, -5));
	ASSERT_EQ(0, vt_attach(&self->dev, vt_disk.fd));
	EXPECT_EQ(-EBUSY, vt_attach(&self->dev, vt_disk.fd));
	EXPECT_EQ(0, vt_good(&self->dev.q[0]));
}

static int set_addr(struct vt_dev *dev, uint64_t desc, uint64_t avail, uint64_t used)
{
	struct vhost_vring_addr a = {
		.index = 0, .desc_user_addr = desc, .avail_user_addr = avail,
		.used_user_addr = used,
	};

	return vt_ioctl(dev->fd, VHOST_SET_VRING_ADDR, &a, sizeof(a));
}

/* F05, D07 */
TEST_F(uapi, rings_out_of_reach)
{
	struct vt_dev *dev = &self->dev;
	uint64_t desc = (uintptr_t)vt_dev_ptr(&dev->mem, dev->q[0].desc_gpa);
	uint64_t avail = (uintptr_t)vt_dev_ptr(&dev->mem, dev->q[0].avail_gpa);
	uint64_t used = (uintptr_t)vt_dev_ptr(&dev->mem, dev->q[0].used_gpa);
	const uint64_t kernel = 0xffff888000000000ULL;

	ASSERT_EQ(0, set_addr(dev, kernel, avail, used));
	EXPECT_EQ(-EFAULT, vt_attach(dev, vt_disk.fd));
	ASSERT_EQ(0, set_addr(dev, desc, kernel, used));
	EXPECT_EQ(-EFAULT, vt_attach(dev, vt_disk.fd));
	ASSERT_EQ(0, set_addr(dev, desc, avail, kernel));
	EXPECT_EQ(-EFAULT, vt_attach(dev, vt_disk.fd));
	/* a user's address with nothing there */
	ASSERT_EQ(0, set_addr(dev, desc, avail, 4096));
	EXPECT_EQ(-EFAULT, vt_attach(dev, vt_disk.fd));
	EXPECT_EQ(0, vt_exclusive(&vt_disk));

	ASSERT_EQ(0, set_addr(dev, desc, avail, used));
	ASSERT_EQ(0, vt_attach(dev, vt_disk.fd));
	EXPECT_EQ(0, vt_good(&dev->q[0]));
	/* no change for the worse while it runs either */
	EXPECT_EQ(-EINVAL, set_addr(dev, kernel, avail, used));
	EXPECT_EQ(0, vt_good(&dev->q[0]));
}

/* D07 */
TEST_F(uapi, rings_misaligned_or_overlapping)
{
	struct vt_dev *dev = &self->dev;
	uint64_t at = (uintptr_t)vt_dev_ptr(&dev->mem, dev->q[0].desc_gpa);

	EXPECT_EQ(-EINVAL, set_addr(dev, at, at + 1, at));
	EXPECT_EQ(-EINVAL, set_addr(dev, at, at, at + 2));
	ASSERT_EQ(0, set_addr(dev, at, at, at));
	EXPECT_EQ(0, vt_attach(dev, vt_disk.fd));
	vt_kick(&dev->q[0]);
	EXPECT_EQ(0, vt_good(&dev->q[1]));
	EXPECT_EQ(0, vt_detach(dev));
	ASSERT_EQ(0, vt_vring_reset(dev, 0, 0));
	ASSERT_EQ(0, vt_attach(dev, vt_disk.fd));
	EXPECT_EQ(0, vt_good(&dev->q[0]));
}

static int set_state(struct vt_dev *dev, unsigned long cmd, unsigned int index, unsigned int num)
{
	struct vhost_vring_state s = { .index = index, .num = num };

	return vt_ioctl(dev->fd, cmd, &s, sizeof(s));
}

/* F08 */
TEST_F(uapi, vring_num)
{
	struct vt_dev *dev = &self->dev;
	static const unsigned int bad[] = { 0, 3, 63, 65, 0xffff, 0x10000, 0x80000000 };

	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++)
		EXPECT_EQ(-EINVAL, set_state(dev, VHOST_SET_VRING_NUM, 0, bad[i]));
	ASSERT_EQ(0, vt_attach(dev, vt_disk.fd));
	EXPECT_EQ(-EBUSY, set_state(dev, VHOST_SET_VRING_NUM, 0, 64));
	EXPECT_EQ(0, vt_good(&dev->q[0]));
	ASSERT_EQ(0, vt_detach(dev));
	/* the module's own limit is looked at when it is attached */
	EXPECT_EQ(0, set_state(dev, VHOST_SET_VRING_NUM, 0, 2048));
	EXPECT_EQ(-EINVAL, vt_attach(dev, vt_disk.fd));
	EXPECT_EQ(0, set_state(dev, VHOST_SET_VRING_NUM, 0, 64));
	ASSERT_EQ(0, vt_attach(dev, vt_disk.fd));
	EXPECT_EQ(0, vt_good(&dev->q[0]));
}

/* F08: a ring that grew between two attaches has room for all its heads */
TEST_F(uapi, vring_num_grows)
{
	struct vt_dev *dev = &self->dev;
	struct vt_queue *q = &dev->q[0];
	uint64_t data = vt_alloc(&dev->mem, 1024 * 512), room = vt_alloc(&dev->mem, 65536);
	struct vt_req *req = calloc(1024, sizeof(*req));

	ASSERT_NE(NULL, req);
	ASSERT_EQ(0, vt_attach(dev, vt_disk.fd));
	EXPECT_EQ(0, vt_good(q));
	ASSERT_EQ(0, vt_detach(dev));

	/* a bigger ring at another place, with bookkeeping to match */
	q->num = 1024;
	q->desc_gpa = room;
	q->avail_gpa = room + 16384;
	q->used_gpa = room + 32768;
	q->slot_gpa = vt_alloc(&dev->mem, 1024 * 32);
	q->desc = vt_ptr(&dev->mem, q->desc_gpa);
	q->avail = vt_ptr(&dev->mem, q->avail_gpa);
	q->used = vt_ptr(&dev->mem, q->used_gpa);
	free(q->next_free);
	free(q->slot);
	q->next_free = calloc(q->num, sizeof(*q->next_free));
	q->slot = calloc(q->num, sizeof(*q->slot));
	dev->indirect = true;
	ASSERT_EQ(0, vt_vring_reset(dev, 0, 0));
	ASSERT_EQ(0, vt_attach(dev, vt_disk.fd));
	for (int i = 0; i < 1024; i++) {
		req[i] = (struct vt_req) {
			.type = VIRTIO_BLK_T_IN, .sector = i, .data = data + 512 * i, .len = 512,
		};
		ASSERT_EQ(0, vt_req_add(q, &req[i]));
	}
	vt_publish(q);
	vt_kick(q);
	ASSERT_EQ(0, vt_wait_all(q));
	for (int i = 0; i < 1024; i++)
		EXPECT_EQ(VIRTIO_BLK_S_OK, req[i].status);
	free(req);
}

/* F09 */
TEST_F(uapi, vring_base)
{
	struct vt_dev *dev = &self->dev;

	EXPECT_EQ(-EINVAL, set_state(dev, VHOST_SET_VRING_BASE, 0, 0x10000));
	ASSERT_EQ(0, vt_attach(dev, vt_disk.fd));
	EXPECT_EQ(-EBUSY, set_state(dev, VHOST_SET_VRING_BASE, 0, 0));
	for (int i = 0; i < 5; i++)
		EXPECT_EQ(0, vt_good(&dev->q[0]));
	ASSERT_EQ(0, vt_detach(dev));
	EXPECT_EQ(10, vt_vring_base(dev, 0));
	EXPECT_EQ(10, dev->q[0].used->idx);
	EXPECT_EQ(0, vt_vring_base(dev, 1));
	/* goes on where it was */
	ASSERT_EQ(0, vt_attach(dev, vt_disk.fd));
	EXPECT_EQ(0, vt_good(&dev->q[0]));
	ASSERT_EQ(0, vt_detach(dev));
	EXPECT_EQ(12, vt_vring_base(dev, 0));
}

/* F10 */
TEST_F(uapi, vring_index)
{
	uint32_t arg[16] = {};

	for (unsigned int i = 0; i < ARRAY_SIZE(vring_cmd); i++) {
		static const uint32_t index[] = { VT_NR_QUEUES, 255, 0x80000000, 0xffffffff };

		for (unsigned int j = 0; j < ARRAY_SIZE(index); j++) {
			arg[0] = index[j];
			EXPECT_EQ(-ENOBUFS, vt_ioctl(self->fd, vring_cmd[i].nr, arg, sizeof(arg)))
				TH_LOG("%s index %u", vring_cmd[i].name, index[j]);
		}
	}
	EXPECT_EQ(0, set_state(&self->dev, VHOST_SET_VRING_NUM, VT_NR_QUEUES - 1, 16));
}

/* F10 */
TEST_F(uapi, bad_pointers)
{
	void *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct vhost_blk_query *query = page;
	void *end = (char *)page + 4096;

	ASSERT_NE(MAP_FAILED, page);
	munmap(end, 4096);
	for (unsigned int i = 0; i < ARRAY_SIZE(vring_cmd); i++) {
		EXPECT_EQ(-EFAULT, vt_ioctl(self->fd, vring_cmd[i].nr, NULL, 0))
			TH_LOG("%s", vring_cmd[i].name);
		EXPECT_EQ(-EFAULT, vt_ioctl(self->fd, vring_cmd[i].nr, end, 0))
			TH_LOG("%s", vring_cmd[i].name);
	}
	for (unsigned int i = 0; i < ARRAY_SIZE(device_cmd); i++) {
		EXPECT_EQ(-EFAULT, vt_ioctl(self->fd, device_cmd[i].nr, NULL, 0))
			TH_LOG("%s", device_cmd[i].name);
		EXPECT_EQ(-EFAULT, vt_ioctl(self->fd, device_cmd[i].nr, (char *)end - 3, 0))
			TH_LOG("%s", device_cmd[i].name);
	}
	EXPECT_EQ(-EFAULT, vt_ioctl(self->fd, VHOST_GET_FEATURES, NULL, 0));
	EXPECT_EQ(-EFAULT, vt_ioctl(self->fd, VHOST_GET_FEATURES, (char *)end - 3, 0));
	EXPECT_EQ(-EFAULT, vt_ioctl(self->fd, VHOST_BLK_QUERY_BACKEND, NULL, 0));
	/* may be read, may not be written */
	query->fd = vt_disk.fd;
	ASSERT_EQ(0, mprotect(page, 4096, PROT_READ));
	EXPECT_EQ(-EFAULT, vt_ioctl(self->fd, VHOST_BLK_QUERY_BACKEND, query, 0));
	munmap(page, 4096);
}

/* F10: eventfds that are none */
TEST_F(uapi, bad_eventfds)
{
	static const struct cmd cmd[] = {
		CMD(VHOST_SET_VRING_KICK), CMD(VHOST_SET_VRING_CALL), CMD(VHOST_SET_VRING_ERR),
	};

	for (unsigned int i = 0; i < ARRAY_SIZE(cmd); i++) {
		EXPECT_EQ(-EBADF, vt_vring_fd(&self->dev, cmd[i].nr, 0, -2));
		EXPECT_EQ(-EBADF, vt_vring_fd(&self->dev, cmd[i].nr, 0, 1 << 20));
		EXPECT_EQ(-EINVAL, vt_vring_fd(&self->dev, cmd[i].nr, 0, vt_disk.fd));
	}
	ASSERT_EQ(0, vt_attach(&self->dev, vt_disk.fd));
	EXPECT_EQ(0, vt_good(&self->dev.q[0]));
}

struct flipper {
	volatile uint32_t *word;
	uint32_t a, b;
	volatile bool stop;
};

static void *flipper_run(void *arg)
{
	struct flipper *f = arg;

	while (!f->stop) {
		*f->word = f->a;
		*f->word = f->b;
	}
	return NULL;
}

/* F11: an argument that changes while it is read is one of its values */
TEST_F(uapi, argument_rewritten)
{
	struct vhost_vring_state s = { .num = 64 };
	struct vhost_blk_backend b = { .fd = -1 };
	struct flipper index = { .word = &s.index, .a = 0, .b = 0xfffffff0 };
	struct flipper fd = { .word = (uint32_t *)&b.fd, .a = vt_disk.fd, .b = -1 };
	pthread_t thread;
	int r;

	ASSERT_EQ(0, pthread_create(&thread, NULL, flipper_run, &index));
	for (unsigned int i = 0; i < vt_loops(2000); i++) {
		r = vt_ioctl(self->fd, VHOST_SET_VRING_NUM, &s, sizeof(s));
		EXPECT_EQ(true, r == 0 || r == -ENOBUFS) TH_LOG("got %d", r);
	}
	index.stop = true;
	pthread_join(thread, NULL);

	ASSERT_EQ(0, pthread_create(&thread, NULL, flipper_run, &fd));
	for (unsigned int i = 0; i < vt_loops(50); i++) {
		r = vt_ioctl(self->fd, VHOST_BLK_SET_BACKEND, &b, sizeof(b));
		EXPECT_EQ(true, r == 0 || r == -EBUSY) TH_LOG("got %d", r);
	}
	fd.stop = true;
	pthread_join(thread, NULL);
	ASSERT_EQ(0, vt_detach(&self->dev));
	ASSERT_EQ(0, vt_attach(&self->dev, vt_disk.fd));
	EXPECT_EQ(0, vt_good(&self->dev.q[0]));
}

static int set_table(struct vt_dev *dev, unsigned int nr, uint32_t padding)
{
	size_t size = sizeof(struct vhost_memory) + nr * sizeof(struct vhost_memory_region);
	struct vhost_memory *m = calloc(1, size);
	uint64_t user = (uintptr_t)dev->mem.region[2].dev;
	int r;

	m->nregions = nr;
	m->padding = padding;
	for (unsigned int i = 0; i < nr; i++)
		m->regions[i] = (struct vhost_memory_region) { i * 4096, 4096, user, 0 };
	r = vt_ioctl(dev->fd, VHOST_SET_MEM_TABLE, m, size);
	free(m);
	return r;
}

/* F12 */
TEST_F(uapi, memory_table)
{
	struct vt_req req = { .type = VIRTIO_BLK_T_IN, .len = 512 };
	struct vt_dev *dev = &self->dev;
	long max = 64;

	req.data = dev->mem.region[1].gpa;
	vt_read_long("/sys/module/vhost/parameters/max_mem_regions", &max);
	EXPECT_EQ(0, set_table(dev, 0, 0));
	EXPECT_EQ(0, set_table(dev, 1, 0));
	EXPECT_EQ(0, set_table(dev, max, 0));
	EXPECT_EQ(-E2BIG, set_table(dev, max + 1, 0));
	EXPECT_EQ(-EOPNOTSUPP, set_table(dev, 1, 1));

	/* swapped while requests run: same memory, nothing is lost */
	ASSERT_EQ(0, vt_mem_set(&dev->mem, dev->fd));
	ASSERT_EQ(0, vt_attach(dev, vt_disk.fd));
	for (int i = 0; i < 200; i++) {
		ASSERT_EQ(0, vt_req_submit(&dev->q[i & 1], &req));
		ASSERT_EQ(0, vt_mem_set(&dev->mem, dev->fd));
		ASSERT_EQ(0, vt_req_wait(&dev->q[i & 1], &req));
		ASSERT_EQ(VIRTIO_BLK_S_OK, req.status);
	}
	/* none at all while attached: the next request finds nothing */
	EXPECT_EQ(0, set_table(dev, 0, 0));
	ASSERT_EQ(0, vt_req_submit(&dev->q[0], &req));
	EXPECT_NE(0, vt_event_count(dev->q[0].err, vt_timeout_ms()));
	ASSERT_EQ(0, vt_detach(dev));
	ASSERT_EQ(0, vt_mem_set(&dev->mem, dev->fd));
	ASSERT_EQ(0, vt_vring_reset(dev, 0, 0));
	ASSERT_EQ(0, vt_attach(dev, vt_disk.fd));
	EXPECT_EQ(0, vt_good(&dev->q[0]));
}

/* F12: regions that overlap are refused or not, but nothing breaks */
TEST_F(uapi, memory_overlapping)
{
	struct {
		struct vhost_memory head;
		struct vhost_memory_region r[2];
	} table = { .head.nregions = 2 };

	for (int i = 0; i < 2; i++)
		table.r[i] = (struct vhost_memory_region) {
			i * 4096, 65536, (uintptr_t)self->dev.mem.region[2].dev, 0,
		};
	vt_ioctl(self->fd, VHOST_SET_MEM_TABLE, &table, sizeof(table));
	/* one that ends beyond the last address */
	table.r[1].guest_phys_addr = ~0ULL - 4095;
	vt_ioctl(self->fd, VHOST_SET_MEM_TABLE, &table, sizeof(table));
	table.r[1].memory_size = 0;
	vt_ioctl(self->fd, VHOST_SET_MEM_TABLE, &table, sizeof(table));
	ASSERT_EQ(0, vt_mem_set(&self->dev.mem, self->fd));
	ASSERT_EQ(0, vt_attach(&self->dev, vt_disk.fd));
	EXPECT_EQ(0, vt_good(&self->dev.q[0]));
}

/* F13; the formats are in test_io */
TEST_F(uapi, serial)
{
	struct vhost_blk_serial serial = { "changed under way" };
	struct vt_dev *dev = &self->dev;
	uint64_t gpa = vt_alloc(&dev->mem, 4096);
	uint8_t *p = vt_ptr(&dev->mem, gpa);

	memset(p, 0x55, 64);
	ASSERT_EQ(0, vt_attach(dev, vt_disk.fd));
	EXPECT_EQ(0, vt_io(&dev->q[0], VIRTIO_BLK_T_GET_ID, 0, gpa, 20));
	EXPECT_EQ(-1, vt_check_byte(p, 20, 0));
	ASSERT_EQ(0, vt_ioctl(self->fd, VHOST_BLK_SET_SERIAL, &serial, sizeof(serial)));
	EXPECT_EQ(0, vt_io(&dev->q[1], VIRTIO_BLK_T_GET_ID, 0, gpa, 20));
	EXPECT_EQ(0, memcmp(p, serial.serial, 20));
	/* stays over a detach, goes with the owner */
	ASSERT_EQ(0, vt_detach(dev));
	ASSERT_EQ(0, vt_attach(dev, vt_disk.fd));
	EXPECT_EQ(0, vt_io(&dev->q[0], VIRTIO_BLK_T_GET_ID, 0, gpa, 20));
	EXPECT_EQ(0, memcmp(p, serial.serial, 20));
	ASSERT_EQ(0, vt_ioctl(self->fd, VHOST_RESET_OWNER, NULL, 0));
	ASSERT_EQ(0, vt_ioctl(self->fd, VHOST_SET_OWNER, NULL, 0));
	ASSERT_EQ(0, vt_ioctl(self->fd, VHOST_SET_FEATURES, &dev->features, 8));
	ASSERT_EQ(0, vt_mem_set(&dev->mem, self->fd));
	ASSERT_EQ(0, vt_vring_reset(dev, 0, 0));
	ASSERT_EQ(0, vt_attach(dev, vt_disk.fd));
	EXPECT_EQ(0, vt_io(&dev->q[0], VIRTIO_BLK_T_GET_ID, 0, gpa, 20));
	EXPECT_EQ(-1, vt_check_byte(p, 20, 0));
}

/* F15: only queue 3, and one that is set up too late */
TEST(sparse_queues)
{
	struct vt_dev dev;
	struct vt_req req = { .type = VIRTIO_BLK_T_GET_ID, .len = 20 };
	struct vt_used u;

	ASSERT_EQ(0, vt_dev_init(&dev, &(struct vt_opts) { .nr_queues = 4, .num = 16 }));
	ASSERT_EQ(0, vt_ioctl(dev.fd, VHOST_RESET_OWNER, NULL, 0));
	ASSERT_EQ(0, vt_ioctl(dev.fd, VHOST_SET_OWNER, NULL, 0));
	ASSERT_EQ(0, vt_ioctl(dev.fd, VHOST_SET_FEATURES, &dev.features, 8));
	ASSERT_EQ(0, vt_mem_set(&dev.mem, dev.fd));
	ASSERT_EQ(0, vt_vring_set(&dev, 3, 0));
	ASSERT_EQ(0, vt_attach(&dev, vt_disk.fd));
	EXPECT_EQ(0, vt_good(&dev.q[3]));

	ASSERT_EQ(0, vt_vring_set(&dev, 1, 0));
	req.data = vt_alloc(&dev.mem, 4096);
	ASSERT_EQ(0, vt_req_submit(&dev.q[1], &req));
	EXPECT_EQ(0, vt_good(&dev.q[3]));
	EXPECT_EQ(0, vt_used_get(&dev.q[1], &u));
	/* from the next attach on, with what was published meanwhile */
	ASSERT_EQ(0, vt_detach(&dev));
	ASSERT_EQ(0, vt_attach(&dev, vt_disk.fd));
	EXPECT_EQ(0, vt_req_wait(&dev.q[1], &req));
	EXPECT_EQ(0, vt_good(&dev.q[1]));
	EXPECT_EQ(0, vt_good(&dev.q[3]));
	vt_dev_fini(&dev);
}

/* F15: all of them */
TEST(all_queues)
{
	struct vt_dev dev;

	ASSERT_EQ(0, vt_dev_init(&dev, &(struct vt_opts) { .nr_queues = 16, .num = 1024 }));
	ASSERT_EQ(0, vt_attach(&dev, vt_disk.fd));
	for (int i = 0; i < 16; i++)
		EXPECT_EQ(0, vt_good(&dev.q[i]));
	vt_dev_fini(&dev);
}

/* No queues but these: attached, switched, reset and closed as with all of them. */
TEST(no_other_queues)
{
	struct vt_opts opts = { .nr_queues = 2, .only_these = true };
	uint64_t features = VT_F_BASE | VT_F(VIRTIO_F_ACCESS_PLATFORM);
	struct vhost_blk_stats stats;
	struct vt_dev dev;

	ASSERT_EQ(0, vt_dev_init(&dev, &opts));
	for (unsigned int i = 0; i < 2; i++) {
		ASSERT_EQ(0, vt_attach(&dev, vt_disk.fd));
		for (unsigned int j = 0; j < 2; j++)
			EXPECT_EQ(0, vt_good(&dev.q[j]));
		EXPECT_EQ(0, vt_ioctl(dev.fd, VHOST_BLK_SET_WCE, &(uint32_t) { i }, 4));
		EXPECT_EQ(0, vt_ioctl(dev.fd, VHOST_BLK_GET_STATS, &stats, sizeof(stats)));
		EXPECT_LT(0, stats.read.ops);
		ASSERT_EQ(0, vt_detach(&dev));
	}
	EXPECT_EQ(0, vt_ioctl(dev.fd, VHOST_SET_FEATURES, &features, 8));
	EXPECT_EQ(0, vt_ioctl(dev.fd, VHOST_RESET_OWNER, NULL, 0));
	vt_dev_fini(&dev);
}

/* The smallest rings there are */
TEST(small_rings)
{
	for (unsigned int num = 1; num <= 4; num *= 2) {
		struct vt_opts opts = { .num = num, .indirect = true };
		struct vt_dev dev;

		ASSERT_EQ(0, vt_dev_init(&dev, &opts));
		ASSERT_EQ(0, vt_attach(&dev, vt_disk.fd));
		for (int i = 0; i < 5; i++)
			EXPECT_EQ(0, vt_good(&dev.q[0]));
		vt_dev_fini(&dev);
	}
}

/* F16: the rest of what vhost core serves is taken as any vhost device takes it */
TEST_F(uapi, generic_ioctls)
{
	uint64_t base = (uintptr_t)self->dev.mem.view, features = VT_F_BASE | VT_F_EVENT_IDX;
	struct vhost_vring_state s = { .index = 1, .num = 50 };
	int fd = eventfd(0, 0);

	ASSERT_LE(0, fd);
	EXPECT_EQ(0, vt_ioctl(self->fd, VHOST_SET_LOG_BASE, &base, 8));
	EXPECT_EQ(0, vt_ioctl(self->fd, VHOST_SET_LOG_FD, &fd, 4));
	EXPECT_EQ(0, vt_ioctl(self->fd, VHOST_SET_LOG_FD, &(int) { -1 }, 4));
	EXPECT_EQ(0, vt_ioctl(self->fd, VHOST_SET_VRING_BUSYLOOP_TIMEOUT, &s, sizeof(s)));
	s.num = 0;
	EXPECT_EQ(0, vt_ioctl(self->fd, VHOST_GET_VRING_BUSYLOOP_TIMEOUT, &s, sizeof(s)));
	EXPECT_EQ(50, s.num);
	EXPECT_EQ(1, s.index);
	s.num = 0;
	EXPECT_EQ(0, vt_ioctl(self->fd, VHOST_SET_VRING_BUSYLOOP_TIMEOUT, &s, sizeof(s)));
	close(fd);
	ASSERT_EQ(0, vt_attach(&self->dev, vt_disk.fd));
	EXPECT_EQ(0, vt_good(&self->dev.q[0]));
	/* features of a running device: the same or none */
	EXPECT_EQ(0, vt_ioctl(self->fd, VHOST_SET_FEATURES, &self->dev.features, 8));
	EXPECT_EQ(-EBUSY, vt_ioctl(self->fd, VHOST_SET_FEATURES, &features, 8));
	EXPECT_EQ(0, vt_good(&self->dev.q[0]));
}

/* F14: the same by a 32-bit process's system calls */
TEST(compat)
{
	struct vhost_blk_query query;
	struct vt_dev dev;

	if (vt_ioctl_compat())
		SKIP(return, "no 32-bit system calls on this architecture");
	ASSERT_EQ(0, vt_dev_init(&dev, &(struct vt_opts) {}));
	ASSERT_EQ(0, vt_query(dev.fd, vt_disk.fd, &query));
	EXPECT_EQ(VT_SEG_MAX, ((struct virtio_blk_config *)query.config)->seg_max);
	EXPECT_EQ(-EBADF, vt_attach(&dev, -2));
	ASSERT_EQ(0, vt_attach(&dev, vt_disk.fd));
	EXPECT_EQ(0, vt_good(&dev.q[0]));
	EXPECT_EQ(0, vt_detach(&dev));
	EXPECT_EQ(2, vt_vring_base(&dev, 0));
	vt_dev_fini(&dev);
}

VT_TEST_MAIN
