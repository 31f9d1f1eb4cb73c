// SPDX-License-Identifier: GPL-2.0-only
/*
 * Random requests from many threads at once, every byte verified, over every
 * kind of disk, and while ioctls are hammered.
 *   VT_SECONDS   how long the longest test runs (10); the others take a 10th or 20th
 */
#include "vt_test.h"

#define NR_DEVS		2
#define NR_QUEUES	4
#define NR_LOADS	(NR_DEVS * NR_QUEUES)
/* More than the longest run: the harness wants a number when it is built. */
#define DEADLINE_S	3600

static unsigned int run_ms(void)
{
	const char *s = getenv("VT_SECONDS");
	unsigned int n = s ? strtoul(s, NULL, 10) : 0;

	return 1000 * (n ?: 10);
}

FIXTURE(stress) {
	struct vt_dev dev[NR_DEVS];
	struct vt_load load[NR_LOADS];
	unsigned int nr_devs;
	struct vt_bdev disk, lower[2];
};

#define stress_data FIXTURE_DATA(stress)

FIXTURE_SETUP(stress)
{
	self->disk.fd = -1;
	self->lower[0].fd = -1;
	self->lower[1].fd = -1;
}

FIXTURE_TEARDOWN(stress)
{
	for (unsigned int i = 0; i < self->nr_devs; i++)
		vt_dev_fini(&self->dev[i]);
	vt_bdev_destroy(&self->disk);
	vt_bdev_destroy(&self->lower[0]);
	vt_bdev_destroy(&self->lower[1]);
}

/* Every other device without EVENT_IDX. All have a share of one disk. */
static void start(struct __test_metadata *_metadata, stress_data *self,
		  const struct vt_bdev *disk, unsigned int nr_devs)
{
	struct vt_opts opts = { .nr_queues = NR_QUEUES, .num = 128 };

	for (unsigned int i = 0; i < nr_devs; i++) {
		opts.features = i ? VT_F_BASE : VT_F_BASE | VT_F_EVENT_IDX;
		self->nr_devs = i + 1;
		ASSERT_EQ(0, vt_dev_init(&self->dev[i], &opts));
		if (!i)
			vt_load_spread(self->load, nr_devs * NR_QUEUES, &self->dev[0], disk);
		ASSERT_EQ(0, vt_attach(&self->dev[i], disk->fd));
		for (unsigned int k = 0; k < NR_QUEUES; k++)
			self->load[i * NR_QUEUES + k].q = &self->dev[i].q[k];
	}
	for (unsigned int i = 0; i < nr_devs * NR_QUEUES; i++)
		ASSERT_EQ(0, vt_load_start(&self->load[i]));
}

static bool load_failed(const stress_data *self)
{
	for (unsigned int i = 0; i < NR_LOADS; i++)
		if (__atomic_load_n(&self->load[i].error, __ATOMIC_ACQUIRE))
			return true;
	return false;
}

static void run_for(stress_data *self, unsigned int ms)
{
	int64_t end = vt_now_ms() + ms;

	while (vt_now_ms() < end && !load_failed(self))
		usleep(10000);
}

static void stop(struct __test_metadata *_metadata, stress_data *self)
{
	uint64_t nr_done = 0;

	for (unsigned int i = 0; i < self->nr_devs * NR_QUEUES; i++) {
		struct vt_load *l = &self->load[i];

		EXPECT_EQ(0, vt_load_stop(l)) {
			TH_LOG("%s", l->what);
		}
		EXPECT_LT(0, l->nr_done);
		nr_done += l->nr_done;
		vt_load_free(l);
	}
	TH_LOG("%lu requests", (unsigned long)nr_done);
	for (unsigned int i = 0; i < self->nr_devs; i++) {
		for (unsigned int k = 0; k < NR_QUEUES; k++)
			EXPECT_EQ(0, vt_good(&self->dev[i].q[k]));
		EXPECT_EQ(0, vt_detach(&self->dev[i]));
	}
}

/* J01 */
TEST_F_TIMEOUT(stress, threads_and_queues, DEADLINE_S)
{
	struct vt_null_opts opts = { .nr_queues = 2, .cache_mib = 8, .delay_ns = 20000 };

	ASSERT_EQ(0, vt_null_create(&self->disk, "vbtstress", &opts));
	start(_metadata, self, &self->disk, NR_DEVS);
	run_for(self, run_ms());
	stop(_metadata, self);
}

/* ---- J02: the same over other disks ---- */

static void over(struct __test_metadata *_metadata, stress_data *self)
{
	start(_metadata, self, &self->disk, 1);
	run_for(self, run_ms() / 20);
	stop(_metadata, self);
}

TEST_F_TIMEOUT(stress, loop, DEADLINE_S)
{
	ASSERT_EQ(0, vt_loop_create(&self->disk, 16 * VT_MIB, 512));
	over(_metadata, self);
}

TEST_F_TIMEOUT(stress, loop_4k, DEADLINE_S)
{
	ASSERT_EQ(0, vt_loop_create(&self->disk, 16 * VT_MIB, 4096));
	over(_metadata, self);
}

TEST_F_TIMEOUT(stress, brd, DEADLINE_S)
{
	ASSERT_EQ(0, vt_modprobe("brd", "rd_nr=1 rd_size=16384"));
	ASSERT_EQ(0, vt_bdev_open(&self->disk, "ram0"));
	over(_metadata, self);
}

static void lower_disks(struct __test_metadata *_metadata, stress_data *self)
{
	struct vt_null_opts opts = { .mib = 16 };

	ASSERT_EQ(0, vt_null_create(&self->lower[0], "vbtlow0", &opts));
	ASSERT_EQ(0, vt_null_create(&self->lower[1], "vbtlow1", &opts));
}

/* Pieces that lie on two disks, with odd boundaries, so that bios are split. */
TEST_F_TIMEOUT(stress, dm_linear, DEADLINE_S)
{
	lower_disks(_metadata, self);
	ASSERT_EQ(0, vt_dm_create(&self->disk, "vbtlinear",
				  "0 4001 linear /dev/vbtlow0 7\n"
				  "4001 8000 linear /dev/vbtlow1 100\n"
				  "12001 8479 linear /dev/vbtlow0 5000"));
	over(_metadata, self);
}

TEST_F_TIMEOUT(stress, dm_crypt, DEADLINE_S)
{
	char table[192];

	if (vt_modprobe("dm_crypt", ""))
		SKIP(return, "this kernel has no dm-crypt");
	lower_disks(_metadata, self);
	snprintf(table, sizeof(table), "0 32768 crypt aes-xts-plain64 %064d 0 %s 0", 1,
		 self->lower[0].path);
	ASSERT_EQ(0, vt_dm_create(&self->disk, "vbtcrypt", table));
	over(_metadata, self);
}

/* MD's RAID 1, without metadata. Both halves hold the same afterwards. */
TEST_F_TIMEOUT(stress, md_raid1, DEADLINE_S)
{
	const size_t len = 8 * VT_MIB;
	char *half[2];

	if (vt_modprobe("dm_raid", ""))
		SKIP(return, "this kernel has no dm-raid");
	lower_disks(_metadata, self);
	ASSERT_EQ(0, vt_dm_create(&self->disk, "vbtraid",
				  "0 32768 raid raid1 2 0 nosync 2 - /dev/vbtlow0 - /dev/vbtlow1"));
	over(_metadata, self);
	for (int i = 0; i < 2; i++) {
		half[i] = malloc(len);
		ASSERT_EQ(len, (size_t)pread(self->lower[i].fd, half[i], len, 0));
	}
	EXPECT_EQ(0, memcmp(half[0], half[1], len));
	free(half[0]);
	free(half[1]);
}

static void over_scsi_debug(struct __test_metadata *_metadata, stress_data *self,
			    const char *args)
{
	int r = vt_scsi_debug_create_args(&self->disk, args);

	if (r == -ENODEV)
		SKIP(return, "this kernel has no scsi_debug");
	ASSERT_EQ(0, r);
	over(_metadata, self);
}

TEST_F_TIMEOUT(stress, scsi_debug, DEADLINE_S)
{
	over_scsi_debug(_metadata, self, "dev_size_mb=16 delay=0");
}

/* Protection information is made and checked below the module. */
TEST_F_TIMEOUT(stress, scsi_debug_dif, DEADLINE_S)
{
	over_scsi_debug(_metadata, self, "dev_size_mb=16 delay=0 dif=1 dix=1");
}

/* Completions from a timer interrupt, small transfers, 4 KiB blocks. */
TEST_F_TIMEOUT(stress, scsi_debug_4k, DEADLINE_S)
{
	over_scsi_debug(_metadata, self, "dev_size_mb=16 ndelay=20000 sector_size=4096");
}

/* ---- J03 ---- */

struct hammer {
	struct vt_dev *dev;
	const struct vt_bdev *disk;
	volatile bool stop;
	unsigned int nr;
	int unexpected;
	const char *what;
};

static void expect(struct hammer *h, const char *what, int want, int got)
{
	h->nr++;
	if (got == want || h->what)
		return;
	h->what = what;
	h->unexpected = got;
}

#define HAMMER(want, call) expect(h, #call, want, call)

/* What a VMM does, and may do, while its guest runs. */
static void hammer_good(struct hammer *h, unsigned int i)
{
	struct vt_queue *q = &h->dev->q[i];
	struct vhost_blk_query query;
	struct vhost_blk_serial serial = { "hammer" };
	int fd = h->dev->fd;
	uint64_t features;

	HAMMER(0, vt_ioctl(fd, VHOST_GET_FEATURES, &features, sizeof(features)));
	HAMMER(0, vt_query(fd, h->disk->fd, &query));
	HAMMER(0, vt_ioctl(fd, VHOST_SET_FEATURES, &h->dev->features, sizeof(features)));
	HAMMER(0, vt_mem_set(&h->dev->mem, fd));
	HAMMER(0, vt_vring_fd(h->dev, VHOST_SET_VRING_CALL, i, q->call));
	HAMMER(0, vt_vring_fd(h->dev, VHOST_SET_VRING_ERR, i, -1));
	HAMMER(0, vt_vring_fd(h->dev, VHOST_SET_VRING_ERR, i, q->err));
	/* A kick that nobody polls for stays in the eventfd. */
	HAMMER(0, vt_vring_fd(h->dev, VHOST_SET_VRING_KICK, i, -1));
	HAMMER(0, vt_vring_fd(h->dev, VHOST_SET_VRING_KICK, i, q->kick));
	HAMMER(0, vt_vring_base(h->dev, i) < 0);
	HAMMER(0, vt_ioctl(fd, VHOST_BLK_SET_SERIAL, &serial, sizeof(serial)));
}

static void hammer_bad(struct hammer *h, unsigned int i)
{
	struct vhost_vring_state state = { .index = i, .num = 64 };
	uint64_t features = VT_F(60);
	int fd = h->dev->fd;

	HAMMER(-EBUSY, vt_attach(h->dev, h->disk->fd));
	HAMMER(-EBUSY, vt_ioctl(fd, VHOST_SET_OWNER, NULL, 0));
	HAMMER(-EBUSY, vt_ioctl(fd, VHOST_SET_VRING_NUM, &state, sizeof(state)));
	HAMMER(-EBUSY, vt_ioctl(fd, VHOST_SET_VRING_BASE, &state, sizeof(state)));
	HAMMER(-EOPNOTSUPP, vt_ioctl(fd, VHOST_SET_FEATURES, &features, sizeof(features)));
	HAMMER(-EFAULT, vt_ioctl(fd, VHOST_SET_MEM_TABLE, NULL, 0));
	HAMMER(-EFAULT, vt_ioctl(fd, VHOST_SET_FEATURES, NULL, 0));
	HAMMER(-ENOBUFS, vt_vring_fd(h->dev, VHOST_SET_VRING_CALL, 1000, -1));
	HAMMER(-EBADF, vt_vring_fd(h->dev, VHOST_SET_VRING_KICK, i, 1000));
	HAMMER(-ENOTTY, vt_ioctl(fd, _IO(VHOST_VIRTIO, 0x5f), NULL, 0));
}

static void *hammer_run(void *arg)
{
	struct hammer *h = arg;

	while (!h->stop)
		for (unsigned int i = 0; i < NR_QUEUES; i++) {
			hammer_good(h, i);
			hammer_bad(h, i);
		}
	return NULL;
}

TEST_F_TIMEOUT(stress, ioctls_hammered, DEADLINE_S)
{
	struct vt_null_opts opts = { .nr_queues = 2, .delay_ns = 100000 };
	struct hammer h = { .dev = &self->dev[0], .disk = &self->disk };
	pthread_t thread[2];

	ASSERT_EQ(0, vt_null_create(&self->disk, "vbtstress", &opts));
	start(_metadata, self, &self->disk, 1);
	for (int i = 0; i < 2; i++)
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, hammer_run, &h));
	run_for(self, run_ms() / 10);
	h.stop = true;
	for (int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	EXPECT_EQ(NULL, h.what) {
		TH_LOG("%s: %d", h.what, h.unexpected);
	}
	TH_LOG("%u ioctls", h.nr);
	stop(_metadata, self);
}

VT_TEST_MAIN
