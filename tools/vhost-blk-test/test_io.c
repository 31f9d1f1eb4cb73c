// SPDX-License-Identifier: GPL-2.0-only
/* Ordinary requests: what a healthy driver sends, in every ring format. */
#include "vt_test.h"

FIXTURE(io) {
	struct vt_dev dev;
	struct vt_bdev *disk;
};

FIXTURE_VARIANT(io) {
	bool indirect, event_idx, lbs4k;
	unsigned int nr_queues;
};

#define IO_VARIANT(name, ind, event, nr, big)				\
FIXTURE_VARIANT_ADD(io, name) {						\
	.indirect = ind, .event_idx = event, .nr_queues = nr, .lbs4k = big, \
}

IO_VARIANT(direct_noevent_1q_512, 0, 0, 1, 0);
IO_VARIANT(direct_noevent_1q_4096, 0, 0, 1, 1);
IO_VARIANT(direct_noevent_4q_512, 0, 0, 4, 0);
IO_VARIANT(direct_noevent_4q_4096, 0, 0, 4, 1);
IO_VARIANT(direct_event_1q_512, 0, 1, 1, 0);
IO_VARIANT(direct_event_1q_4096, 0, 1, 1, 1);
IO_VARIANT(direct_event_4q_512, 0, 1, 4, 0);
IO_VARIANT(direct_event_4q_4096, 0, 1, 4, 1);
IO_VARIANT(indirect_noevent_1q_512, 1, 0, 1, 0);
IO_VARIANT(indirect_noevent_1q_4096, 1, 0, 1, 1);
IO_VARIANT(indirect_noevent_4q_512, 1, 0, 4, 0);
IO_VARIANT(indirect_noevent_4q_4096, 1, 0, 4, 1);
IO_VARIANT(indirect_event_1q_512, 1, 1, 1, 0);
IO_VARIANT(indirect_event_1q_4096, 1, 1, 1, 1);
IO_VARIANT(indirect_event_4q_512, 1, 1, 4, 0);
IO_VARIANT(indirect_event_4q_4096, 1, 1, 4, 1);

FIXTURE_SETUP(io)
{
	struct vt_opts opts = {
		.features = VT_F_BASE | (variant->event_idx ? VT_F_EVENT_IDX : 0),
		.nr_queues = variant->nr_queues,
		.num = 1024,
		.indirect = variant->indirect,
	};

	self->disk = variant->lbs4k ? &vt_disk_4k : &vt_disk;
	ASSERT_EQ(0, vt_dev_init(&self->dev, &opts));
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk->fd));
}

FIXTURE_TEARDOWN(io)
{
	for (unsigned int i = 0; i < self->dev.nr_queues; i++)
		EXPECT_EQ(0, vt_queue_idle(&self->dev.q[i]));
	EXPECT_EQ(0, vt_detach(&self->dev));
	vt_dev_fini(&self->dev);
}

/* A01: what one queue wrote another reads. */
TEST_F(io, write_read)
{
	unsigned int nr = self->dev.nr_queues, lbs = self->disk->lbs;
	uint64_t gpa = vt_alloc(&self->dev.mem, 8192);
	void *p = vt_ptr(&self->dev.mem, gpa);

	for (unsigned int i = 0; i < 2 * nr; i++) {
		struct vt_queue *wq = &self->dev.q[i % nr], *rq = &self->dev.q[(i + 1) % nr];
		uint64_t sector = 16 * (i + 1);

		vt_fill(p, lbs, i, sector);
		ASSERT_EQ(0, vt_io(wq, VIRTIO_BLK_T_OUT, sector, gpa, lbs));
		memset(p, 0x55, 8192);
		ASSERT_EQ(0, vt_io(rq, VIRTIO_BLK_T_IN, sector, gpa, lbs));
		EXPECT_EQ(-1, vt_check(p, lbs, i, sector));
		/* not a byte more than was asked for */
		EXPECT_EQ(-1, vt_check_byte(p + lbs, 8192 - lbs, 0x55));
	}
}

/* A02 */
TEST_F(io, used_len)
{
	struct vt_queue *q = &self->dev.q[0];
	struct vt_req req = { .sector = 0, .len = 8192, .data = vt_alloc(&self->dev.mem, 8192) };

	req.type = VIRTIO_BLK_T_OUT;
	ASSERT_EQ(0, vt_req_run(q, &req));
	EXPECT_EQ(VIRTIO_BLK_S_OK, req.status);
	EXPECT_EQ(1, req.used_len);
	req.type = VIRTIO_BLK_T_IN;
	ASSERT_EQ(0, vt_req_run(q, &req));
	EXPECT_EQ(VIRTIO_BLK_S_OK, req.status);
	EXPECT_EQ(8193, req.used_len);
	req.type = VIRTIO_BLK_T_GET_ID;
	ASSERT_EQ(0, vt_req_run(q, &req));
	EXPECT_EQ(VIRTIO_BLK_S_OK, req.status);
	EXPECT_EQ(21, req.used_len);
	req.type = VIRTIO_BLK_T_FLUSH;
	req.len = 0;
	ASSERT_EQ(0, vt_req_run(q, &req));
	EXPECT_EQ(VIRTIO_BLK_S_OK, req.status);
	EXPECT_EQ(1, req.used_len);
}

static void big(struct __test_metadata *_metadata, struct vt_dev *dev, uint32_t len,
		uint32_t seg_bytes)
{
	struct vt_req req = { .sector = 64, .len = len, .seg_bytes = seg_bytes };
	void *p;

	req.data = vt_alloc_in(&dev->mem, 1, len, 4096);
	p = vt_ptr(&dev->mem, req.data);
	vt_fill(p, len, len, req.sector);
	req.type = VIRTIO_BLK_T_OUT;
	ASSERT_EQ(0, vt_req_run(&dev->q[0], &req));
	ASSERT_EQ(VIRTIO_BLK_S_OK, req.status);
	EXPECT_EQ(1, req.used_len);
	memset(p, 0, len);
	req.type = VIRTIO_BLK_T_IN;
	ASSERT_EQ(0, vt_req_run(&dev->q[0], &req));
	ASSERT_EQ(VIRTIO_BLK_S_OK, req.status);
	EXPECT_EQ(len + 1, req.used_len);
	EXPECT_EQ(-1, vt_check(p, len, len, req.sector));
	dev->mem.region[1].used -= len;
}

/* A03: more pages than one bio holds, one segment and as many as there may be */
TEST_F(io, large)
{
	big(_metadata, &self->dev, VT_MIB, 4096);
	big(_metadata, &self->dev, 4 * VT_MIB, 0);
	big(_metadata, &self->dev, VT_SEG_MAX * 4096, 4096);
}

/* A04 */
TEST_F(io, edges)
{
	uint64_t gpa = vt_alloc(&self->dev.mem, 65536), nr = self->disk->bytes / VT_SECTOR;
	unsigned int lbs = self->disk->lbs;
	struct vt_queue *q = &self->dev.q[0];
	void *p = vt_ptr(&self->dev.mem, gpa);

	vt_fill(p, 65536, 1, 0);
	EXPECT_EQ(0, vt_io(q, VIRTIO_BLK_T_OUT, 0, gpa, lbs));
	EXPECT_EQ(0, vt_io(q, VIRTIO_BLK_T_OUT, nr - lbs / VT_SECTOR, gpa, lbs));
	EXPECT_EQ(0, vt_io(q, VIRTIO_BLK_T_OUT, nr - 128, gpa, 65536));
	memset(p, 0, 65536);
	EXPECT_EQ(0, vt_io(q, VIRTIO_BLK_T_IN, nr - 128, gpa, 65536));
	EXPECT_EQ(-1, vt_check(p, 65536, 1, 0));
	EXPECT_EQ(VIRTIO_BLK_S_IOERR, vt_io(q, VIRTIO_BLK_T_IN, nr, gpa, lbs));
	EXPECT_EQ(VIRTIO_BLK_S_IOERR, vt_io(q, VIRTIO_BLK_T_IN, nr - lbs / VT_SECTOR, gpa, 65536));
}

/* A05, A06: the sector of a flush means nothing */
TEST_F(io, flush)
{
	struct vt_queue *q = &self->dev.q[self->dev.nr_queues - 1];

	EXPECT_EQ(0, vt_io(q, VIRTIO_BLK_T_FLUSH, 0, 0, 0));
	EXPECT_EQ(0, vt_io(q, VIRTIO_BLK_T_FLUSH, 8, 0, 0));
	EXPECT_EQ(0, vt_io(q, VIRTIO_BLK_T_FLUSH, ~0ULL, 0, 0));
}

/* A11, A12 */
TEST_F(io, get_id)
{
	static const char serial[20] = "01234567890123456789";
	struct vhost_blk_serial arg;
	uint64_t gpa = vt_alloc(&self->dev.mem, 4096);
	uint8_t *p = vt_ptr(&self->dev.mem, gpa);
	struct vt_queue *q = &self->dev.q[0];
	struct vt_req req = { .type = VIRTIO_BLK_T_GET_ID, .data = gpa, .len = 20, .seg_bytes = 7 };

	memcpy(arg.serial, serial, sizeof(arg.serial));
	ASSERT_EQ(0, vt_ioctl(self->dev.fd, VHOST_BLK_SET_SERIAL, &arg, sizeof(arg)));
	memset(p, 0x55, 4096);
	ASSERT_EQ(0, vt_io(q, VIRTIO_BLK_T_GET_ID, 0, gpa, 20));
	EXPECT_EQ(0, memcmp(p, serial, 20));
	EXPECT_EQ(-1, vt_check_byte(p + 20, 64, 0x55));

	memset(p, 0x55, 4096);
	ASSERT_EQ(0, vt_req_run(q, &req));
	EXPECT_EQ(VIRTIO_BLK_S_OK, req.status);
	EXPECT_EQ(21, req.used_len);
	EXPECT_EQ(0, memcmp(p, serial, 20));

	memset(p, 0x55, 4096);
	ASSERT_EQ(0, vt_io(q, VIRTIO_BLK_T_GET_ID, 0, gpa, 8));
	EXPECT_EQ(0, memcmp(p, serial, 8));
	EXPECT_EQ(-1, vt_check_byte(p + 8, 64, 0x55));

	memset(p, 0x55, 4096);
	ASSERT_EQ(0, vt_io(q, VIRTIO_BLK_T_GET_ID, 5, gpa, 64));
	EXPECT_EQ(0, memcmp(p, serial, 20));
	EXPECT_EQ(0, vt_io(q, VIRTIO_BLK_T_GET_ID, 0, gpa, 0));

	memset(&arg, 0, sizeof(arg));
	memcpy(arg.serial, "short", 5);
	ASSERT_EQ(0, vt_ioctl(self->dev.fd, VHOST_BLK_SET_SERIAL, &arg, sizeof(arg)));
	ASSERT_EQ(0, vt_io(q, VIRTIO_BLK_T_GET_ID, 0, gpa, 20));
	EXPECT_EQ(0, memcmp(p, arg.serial, 20));
}

/* A13: the ring full of requests, every head back once, data right */
TEST_F(io, queue_depth)
{
	unsigned int lbs = self->disk->lbs, n, max = self->dev.indirect ? 512 : 1024 / 3;
	uint64_t gpa = vt_alloc(&self->dev.mem, max * lbs);
	struct vt_queue *q = &self->dev.q[self->dev.nr_queues - 1];
	struct vt_req *req = calloc(max, sizeof(*req));
	uint8_t *p = vt_ptr(&self->dev.mem, gpa);

	ASSERT_NE(NULL, req);
	for (int pass = 0; pass < 2; pass++) {
		for (n = 0; n < max; n++) {
			req[n].type = pass ? VIRTIO_BLK_T_IN : VIRTIO_BLK_T_OUT;
			/* every other place, so that nothing can be merged away */
			req[n].sector = n * 2 * (lbs / VT_SECTOR);
			req[n].data = gpa + n * lbs;
			req[n].len = lbs;
			if (pass)
				memset(p + n * lbs, 0, lbs);
			else
				vt_fill(p + n * lbs, lbs, 13, req[n].sector);
			ASSERT_EQ(0, vt_req_add(q, &req[n]));
		}
		vt_publish(q);
		vt_kick(q);
		ASSERT_EQ(0, vt_wait_all(q));
		for (n = 0; n < max; n++) {
			ASSERT_EQ(true, req[n].done);
			ASSERT_EQ(VIRTIO_BLK_S_OK, req[n].status);
			ASSERT_EQ(-1, vt_check(p + n * lbs, lbs, 13, req[n].sector));
		}
	}
	free(req);
}

/* A15 */
TEST_F(io, ioprio)
{
	struct vt_req req = {
		.type = VIRTIO_BLK_T_IN, .len = 4096, .ioprio = 1,
		.data = vt_alloc(&self->dev.mem, 4096),
	};

	ASSERT_EQ(0, vt_req_run(&self->dev.q[0], &req));
	EXPECT_EQ(VIRTIO_BLK_S_OK, req.status);
	req.ioprio = ~0U;
	ASSERT_EQ(0, vt_req_run(&self->dev.q[0], &req));
	EXPECT_EQ(VIRTIO_BLK_S_OK, req.status);
}

/* ---- other disks ---- */

FIXTURE(disk) {
	struct vt_dev dev;
	struct vt_bdev bdev;
};

FIXTURE_SETUP(disk)
{
	self->bdev.fd = -1;
	ASSERT_EQ(0, vt_dev_init(&self->dev, &(struct vt_opts) { .num = 256 }));
}

FIXTURE_TEARDOWN(disk)
{
	EXPECT_EQ(0, vt_queue_idle(&self->dev.q[0]));
	EXPECT_EQ(0, vt_detach(&self->dev));
	vt_dev_fini(&self->dev);
	vt_bdev_destroy(&self->bdev);
}

/* How many writes the disk's block layer has merged into others; -errno. */
static long writes_merged(const struct vt_bdev *bdev)
{
	char path[64];
	long n = -EIO;
	FILE *f;

	snprintf(path, sizeof(path), "/sys/block/%s/stat", bdev->name);
	f = fopen(path, "re");
	if (!f)
		return -errno;
	if (fscanf(f, "%*d %*d %*d %*d %*d %ld", &n) != 1)
		n = -EIO;
	fclose(f);
	return n;
}

/* Neighbours are still found where the worker spares the block layer to look for some. */
TEST_F(disk, neighbours_merge)
{
	static const char *const scheduler[] = { "none", "mq-deadline" };
	struct vt_null_opts opts = { .mib = 8, .delay_ns = 100000 };
	uint64_t gpa = vt_alloc(&self->dev.mem, 32 * 4096);
	struct vt_queue *q = &self->dev.q[0];
	struct vt_req req[32];
	long before;

	ASSERT_EQ(0, vt_null_create(&self->bdev, "vbtmerge", &opts));
	for (unsigned int s = 0; s < ARRAY_SIZE(scheduler); s++) {
		ASSERT_EQ(0, vt_bdev_queue_set(&self->bdev, "scheduler", scheduler[s]));
		ASSERT_EQ(0, vt_attach(&self->dev, self->bdev.fd));
		before = writes_merged(&self->bdev);
		ASSERT_LE(0, before);
		for (int i = 0; i < 32; i++) {
			vt_fill(vt_ptr(&self->dev.mem, gpa + 4096 * i), 4096, 7, 8 * i);
			req[i] = (struct vt_req) {
				.type = VIRTIO_BLK_T_OUT, .sector = 8 * i, .data = gpa + 4096 * i,
				.len = 4096,
			};
			ASSERT_EQ(0, vt_req_add(q, &req[i]));
		}
		vt_publish(q);
		vt_kick(q);
		ASSERT_EQ(0, vt_wait_all(q));
		/* The first two requests cannot, the worker may be slow to see the others. */
		EXPECT_LE(before + 15, writes_merged(&self->bdev)) {
			TH_LOG("%s", scheduler[s]);
		}
		memset(vt_ptr(&self->dev.mem, gpa), 0, 32 * 4096);
		ASSERT_EQ(0, vt_io(q, VIRTIO_BLK_T_IN, 0, gpa, 32 * 4096));
		EXPECT_EQ(-1, vt_check(vt_ptr(&self->dev.mem, gpa), 32 * 4096, 7, 0));
		ASSERT_EQ(0, vt_detach(&self->dev));
	}
}

/* A14: an area that was never written reads as zeros */
TEST_F(disk, never_written)
{
	struct vt_null_opts opts = { .mib = 8 };
	uint64_t gpa = vt_alloc(&self->dev.mem, 4096);
	uint8_t *p = vt_ptr(&self->dev.mem, gpa);

	ASSERT_EQ(0, vt_null_create(&self->bdev, "vbtnew", &opts));
	ASSERT_EQ(0, vt_attach(&self->dev, self->bdev.fd));
	memset(p, 0x55, 4096);
	ASSERT_EQ(0, vt_io(&self->dev.q[0], VIRTIO_BLK_T_IN, 80, gpa, 4096));
	EXPECT_EQ(-1, vt_check_byte(p, 4096, 0));
}

/* A14: neither side sees stale data: attach writes the host's back, both ends drop the cache */
TEST_F(disk, host_cache)
{
	uint64_t gpa = vt_alloc(&self->dev.mem, 8192);
	uint8_t *p = vt_ptr(&self->dev.mem, gpa), host[8192];
	struct vt_queue *q = &self->dev.q[0];
	int fd = vt_disk.fd;

	/* dirty in the host's page cache when the guest starts */
	vt_fill(host, sizeof(host), 1, 0);
	ASSERT_EQ(8192, pwrite(fd, host, sizeof(host), 4 * VT_MIB));
	ASSERT_EQ(0, vt_attach(&self->dev, fd));
	ASSERT_EQ(0, vt_io(q, VIRTIO_BLK_T_IN, 4 * VT_MIB / VT_SECTOR, gpa, 8192));
	EXPECT_EQ(-1, vt_check(p, 8192, 1, 0));

	/* cached by the host while the guest runs, changed by the guest */
	ASSERT_EQ(8192, pread(fd, host, sizeof(host), 4 * VT_MIB));
	vt_fill(p, 8192, 2, 0);
	ASSERT_EQ(0, vt_io(q, VIRTIO_BLK_T_OUT, 4 * VT_MIB / VT_SECTOR, gpa, 8192));
	ASSERT_EQ(0, vt_detach(&self->dev));
	ASSERT_EQ(8192, pread(fd, host, sizeof(host), 4 * VT_MIB));
	EXPECT_EQ(-1, vt_check(host, 8192, 2, 0));
}

static void lbs_check(struct __test_metadata *_metadata, struct vt_dev *dev, unsigned int lbs)
{
	uint64_t gpa = vt_alloc(&dev->mem, 8192);
	struct vt_queue *q = &dev->q[0];
	bool whole = lbs == VT_SECTOR;
	unsigned int part = whole ? 256 : VT_SECTOR;

	EXPECT_EQ(0, vt_io(q, VIRTIO_BLK_T_OUT, 0, gpa, lbs));
	EXPECT_EQ(0, vt_io(q, VIRTIO_BLK_T_IN, lbs / VT_SECTOR, gpa, lbs));
	EXPECT_EQ(VIRTIO_BLK_S_IOERR, vt_io(q, VIRTIO_BLK_T_OUT, 0, gpa, part));
	EXPECT_EQ(VIRTIO_BLK_S_IOERR, vt_io(q, VIRTIO_BLK_T_IN, 0, gpa, lbs + part));
	if (!whole) {
		EXPECT_EQ(VIRTIO_BLK_S_IOERR, vt_io(q, VIRTIO_BLK_T_IN, 1, gpa, lbs));
		EXPECT_EQ(VIRTIO_BLK_S_IOERR, vt_io(q, VIRTIO_BLK_T_OUT, 1, gpa, lbs));
	}
	EXPECT_EQ(0, vt_good(q));
}

/* A16 */
TEST_F(disk, logical_block_sizes)
{
	for (unsigned int lbs = 512; lbs <= 4096; lbs *= 2) {
		struct vt_null_opts opts = { .mib = 8, .lbs = lbs };

		ASSERT_EQ(0, vt_null_create(&self->bdev, "vbtlbs", &opts));
		ASSERT_EQ(lbs, self->bdev.lbs);
		ASSERT_EQ(0, vt_attach(&self->dev, self->bdev.fd));
		lbs_check(_metadata, &self->dev, lbs);
		ASSERT_EQ(0, vt_detach(&self->dev));
		vt_bdev_destroy(&self->bdev);
	}
}

/* A17: a few odd capacities; the last block is there and the next one is not */
TEST_F(disk, odd_capacities)
{
	static const uint64_t bytes[] = { 512, 7 * 512, 511 * 512, VT_MIB - 512, VT_MIB + 1536 };
	uint64_t gpa = vt_alloc(&self->dev.mem, 4096);
	uint8_t *p = vt_ptr(&self->dev.mem, gpa);
	struct vt_queue *q = &self->dev.q[0];

	for (unsigned int i = 0; i < ARRAY_SIZE(bytes); i++) {
		uint64_t last = bytes[i] / VT_SECTOR - 1;

		ASSERT_EQ(0, vt_loop_create(&self->bdev, bytes[i], 512));
		ASSERT_EQ(bytes[i], self->bdev.bytes);
		ASSERT_EQ(0, vt_attach(&self->dev, self->bdev.fd));
		vt_fill(p, 512, i, last);
		EXPECT_EQ(0, vt_io(q, VIRTIO_BLK_T_OUT, last, gpa, 512));
		memset(p, 0, 512);
		EXPECT_EQ(0, vt_io(q, VIRTIO_BLK_T_IN, last, gpa, 512));
		EXPECT_EQ(-1, vt_check(p, 512, i, last));
		EXPECT_EQ(VIRTIO_BLK_S_IOERR, vt_io(q, VIRTIO_BLK_T_IN, last + 1, gpa, 512));
		EXPECT_EQ(VIRTIO_BLK_S_IOERR, vt_io(q, VIRTIO_BLK_T_OUT, last, gpa, 1024));
		ASSERT_EQ(0, vt_detach(&self->dev));
		vt_bdev_destroy(&self->bdev);
	}
}

/* A17: sectors that need more than 32 bits */
TEST_F(disk, beyond_2_tib)
{
	struct vt_null_opts opts = { .mib = 3 * VT_MIB };	/* 3 TiB, sparse */
	uint64_t gpa = vt_alloc(&self->dev.mem, 4096), far = 5ULL << 30;
	uint8_t *p = vt_ptr(&self->dev.mem, gpa);
	struct vt_queue *q = &self->dev.q[0];

	ASSERT_EQ(0, vt_null_create(&self->bdev, "vbthuge", &opts));
	ASSERT_EQ(0, vt_attach(&self->dev, self->bdev.fd));
	vt_fill(p, 4096, 1, far);
	ASSERT_EQ(0, vt_io(q, VIRTIO_BLK_T_OUT, far, gpa, 4096));
	/* where a sector cut to 32 bits would have put it */
	ASSERT_EQ(0, vt_io(q, VIRTIO_BLK_T_IN, (uint32_t)far, gpa, 4096));
	EXPECT_EQ(-1, vt_check_byte(p, 4096, 0));
	ASSERT_EQ(0, vt_io(q, VIRTIO_BLK_T_IN, far, gpa, 4096));
	EXPECT_EQ(-1, vt_check(p, 4096, 1, far));
	EXPECT_EQ(0, vt_io(q, VIRTIO_BLK_T_IN, self->bdev.bytes / VT_SECTOR - 8, gpa, 4096));
	EXPECT_EQ(VIRTIO_BLK_S_IOERR,
		  vt_io(q, VIRTIO_BLK_T_IN, self->bdev.bytes / VT_SECTOR - 7, gpa, 4096));
}

/* A13: a slow write does not hold up a read behind it */
TEST_F(disk, out_of_order)
{
	struct vt_req slow = { .type = VIRTIO_BLK_T_OUT, .len = 4096 };
	struct vt_req fast = { .type = VIRTIO_BLK_T_IN, .len = 4096, .sector = 64 };
	struct vt_queue *q = &self->dev.q[0];
	char table[192];
	int r;

	if (vt_modprobe("dm_delay", ""))
		SKIP(return, "no dm-delay in this kernel");
	snprintf(table, sizeof(table), "0 65536 delay %s 0 0 %s 0 500", vt_disk.path, vt_disk.path);
	r = vt_dm_create(&self->bdev, "vbtdelay", table);
	if (r == -ENOENT)
		SKIP(return, "no dmsetup here");
	ASSERT_EQ(0, r);
	ASSERT_EQ(0, vt_attach(&self->dev, self->bdev.fd));
	slow.data = vt_alloc(&self->dev.mem, 4096);
	fast.data = vt_alloc(&self->dev.mem, 4096);
	ASSERT_EQ(0, vt_req_submit(q, &slow));
	ASSERT_EQ(0, vt_req_submit(q, &fast));
	ASSERT_EQ(0, vt_req_wait(q, &fast));
	EXPECT_EQ(false, slow.done);
	ASSERT_EQ(0, vt_req_wait(q, &slow));
	EXPECT_EQ(VIRTIO_BLK_S_OK, slow.status);
	EXPECT_EQ(VIRTIO_BLK_S_OK, fast.status);
}

/* A03: more than the module submits at once */
TEST_F(disk, sixteen_mib)
{
	ASSERT_EQ(0, vt_attach(&self->dev, vt_disk.fd));
	big(_metadata, &self->dev, 16 * VT_MIB, 0);
	big(_metadata, &self->dev, 12 * VT_MIB, 64 * 1024);
}

/* Block devices of other kinds than null_blk */
/*
 * More requests at once than the module's budget of bios or bounce pages: the
 * ones beyond it go on in smaller steps and end well too.
 */
static void many(struct __test_metadata *_metadata, struct vt_dev *dev, uint64_t data,
		 uint32_t len)
{
	static struct vt_req reqs[80];
	struct vt_queue *q = &dev->q[0];

	vt_fill(vt_ptr(&dev->mem, data), len, 9, 0);
	ASSERT_EQ(VIRTIO_BLK_S_OK, vt_io(q, VIRTIO_BLK_T_OUT, 0, data, len));
	memset(vt_ptr(&dev->mem, data), 0, len);
	for (unsigned int i = 0; i < ARRAY_SIZE(reqs); i++) {
		reqs[i] = (struct vt_req) { .type = VIRTIO_BLK_T_IN, .data = data, .len = len };
		ASSERT_EQ(0, vt_req_add(q, &reqs[i]));
	}
	vt_publish(q);
	vt_kick(q);
	for (unsigned int i = 0; i < ARRAY_SIZE(reqs); i++) {
		ASSERT_EQ(0, vt_req_wait(q, &reqs[i]));
		EXPECT_EQ(VIRTIO_BLK_S_OK, reqs[i].status);
		EXPECT_EQ(len + 1, reqs[i].used_len);
	}
	EXPECT_EQ(-1, vt_check(vt_ptr(&dev->mem, data), len, 9, 0));
}

TEST_F(disk, beyond_the_budget)
{
	/* Longer than it takes to copy what is read: all of them pile up. */
	struct vt_null_opts opts = { .delay_ns = 1500UL * 1000 * 1000, .depth = 4096 };

	ASSERT_EQ(0, vt_null_create(&self->bdev, "vbtmany", &opts));
	ASSERT_EQ(0, vt_attach(&self->dev, self->bdev.fd));
	many(_metadata, &self->dev, vt_alloc_in(&self->dev.mem, 1, 4 * VT_MIB, 4096), 4 * VT_MIB);
	many(_metadata, &self->dev, vt_alloc_in(&self->dev.mem, 1, VT_MIB, 4096) + 1, 64 * 1024);
}

/* The host copies 4 MiB at a time for a guest and not more: 64 of 80 such requests */
TEST_F(disk, copies_are_bounded)
{
	struct vt_null_opts opts = { .delay_ns = 1500UL * 1000 * 1000, .depth = 4096 };
	struct vt_queue *q = &self->dev.q[0];
	static struct vt_req reqs[80];
	int inflight, most = 0;
	uint64_t data;

	ASSERT_EQ(0, vt_null_create(&self->bdev, "vbtbound", &opts));
	ASSERT_EQ(0, vt_attach(&self->dev, self->bdev.fd));
	data = vt_alloc_in(&self->dev.mem, 1, 128 * 1024, 4096) + 1;
	for (unsigned int i = 0; i < ARRAY_SIZE(reqs); i++) {
		reqs[i] = (struct vt_req) {
			.type = VIRTIO_BLK_T_IN, .data = data, .len = 64 * 1024,
		};
		ASSERT_EQ(0, vt_req_add(q, &reqs[i]));
	}
	vt_publish(q);
	vt_kick(q);
	ASSERT_EQ(0, vt_inflight_wait(&self->bdev, 64));
	while (q->used->idx == q->used_idx) {	/* the first is on its way back */
		inflight = vt_inflight(&self->bdev);
		most = inflight > most ? inflight : most;
		usleep(1000);
	}
	EXPECT_EQ(64, most);
	for (unsigned int i = 0; i < ARRAY_SIZE(reqs); i++) {
		ASSERT_EQ(0, vt_req_wait(q, &reqs[i]));
		EXPECT_EQ(VIRTIO_BLK_S_OK, reqs[i].status);
	}
}

TEST_F(disk, zoned_is_refused)
{
	struct vhost_blk_query query;
	int r = vt_null_create(&self->bdev, "vbtzoned", &(struct vt_null_opts) { .zoned = true });

	if (r == -EOPNOTSUPP)
		SKIP(return, "no zoned block devices in this kernel");
	ASSERT_EQ(0, r);
	EXPECT_EQ(-EOPNOTSUPP, vt_attach(&self->dev, self->bdev.fd));
	EXPECT_EQ(-EOPNOTSUPP, vt_query(self->dev.fd, self->bdev.fd, &query));
}

TEST_F(disk, scsi_debug)
{
	int r = vt_scsi_debug_create(&self->bdev, 8, 512);

	if (r == -ENODEV)
		SKIP(return, "no scsi_debug in this kernel");
	ASSERT_EQ(0, r);
	ASSERT_EQ(0, vt_attach(&self->dev, self->bdev.fd));
	EXPECT_EQ(0, vt_good(&self->dev.q[0]));
	lbs_check(_metadata, &self->dev, 512);
	EXPECT_EQ(0, vt_io(&self->dev.q[0], VIRTIO_BLK_T_FLUSH, 0, 0, 0));
	/* rmmod below needs the disk let go */
	ASSERT_EQ(0, vt_detach(&self->dev));
}

/*
 * The guest's pages go to the disk as they are if they can. Told from a copy by
 * the number of bios: copies are made in pieces of 64 KiB.
 */
TEST_F(disk, aligned_is_not_copied)
{
	static const uint32_t type[] = { VIRTIO_BLK_T_OUT, VIRTIO_BLK_T_IN };
	struct vt_queue *q = &self->dev.q[0];
	struct vt_trace_count n;
	struct vt_trace trace;
	uint64_t data;

	ASSERT_EQ(0, vt_null_create(&self->bdev, "vbtcopy", &(struct vt_null_opts) {}));
	ASSERT_EQ(0, vt_attach(&self->dev, self->bdev.fd));
	data = vt_alloc_in(&self->dev.mem, 1, 2 * VT_MIB, 4096);
	ASSERT_EQ(0, vt_trace_start(&trace, &self->bdev));
	for (unsigned int i = 0; i < ARRAY_SIZE(type); i++) {
		EXPECT_EQ(0, vt_io(q, type[i], 0, data, VT_MIB));
		EXPECT_EQ(0, vt_trace_read(&trace, &n));
		EXPECT_EQ(1, n.writes + n.reads);
		EXPECT_EQ(0, vt_io(q, type[i], 0, data + 1, VT_MIB));
		EXPECT_EQ(0, vt_trace_read(&trace, &n));
		EXPECT_EQ(16, n.writes + n.reads);
	}
	vt_trace_stop(&trace);
}

/*
 * Protection information is made for each piece of memory on its own: one that
 * ends inside a block must not get there. 4 is enough for the disk's DMA.
 */
TEST_F(disk, protection_information)
{
	static const uint32_t offset[] = { 4, 512, 2052, 4092 };
	const uint32_t len = 5 * 8192;
	struct vt_queue *q = &self->dev.q[0];
	int r = vt_scsi_debug_create_args(&self->bdev, "dev_size_mb=8 delay=0 dif=1 dix=1");
	uint64_t from, to;

	if (r == -ENODEV)
		SKIP(return, "no scsi_debug in this kernel");
	ASSERT_EQ(0, r);
	ASSERT_EQ(0, vt_attach(&self->dev, self->bdev.fd));
	from = vt_alloc_in(&self->dev.mem, 1, 65536, 4096);
	to = vt_alloc_in(&self->dev.mem, 1, 65536, 4096);
	for (unsigned int i = 0; i < ARRAY_SIZE(offset); i++) {
		uint8_t *p = vt_ptr(&self->dev.mem, to + offset[i]);

		vt_fill(vt_ptr(&self->dev.mem, from + offset[i]), len, i, 8);
		ASSERT_EQ(0, vt_io(q, VIRTIO_BLK_T_OUT, 8, from + offset[i], len));
		ASSERT_EQ(0, vt_io(q, VIRTIO_BLK_T_IN, 8, to + offset[i], len));
		EXPECT_EQ(-1, vt_check(p, len, i, 8));
	}
	ASSERT_EQ(0, vt_detach(&self->dev));
}

TEST_F(disk, dm_linear_on_brd)
{
	char table[64];
	struct stat st;
	int r;

	if (vt_modprobe("brd", "rd_nr=1 rd_size=16384") || stat("/dev/ram0", &st))
		SKIP(return, "no brd in this kernel");
	snprintf(table, sizeof(table), "0 16384 linear /dev/ram0 8");
	r = vt_dm_create(&self->bdev, "vbtlinear", table);
	if (r == -ENOENT)
		SKIP(return, "no dmsetup here");
	ASSERT_EQ(0, r);
	ASSERT_EQ(0, vt_attach(&self->dev, self->bdev.fd));
	EXPECT_EQ(0, vt_good(&self->dev.q[0]));
	EXPECT_EQ(0, vt_io(&self->dev.q[0], VIRTIO_BLK_T_FLUSH, 0, 0, 0));
	big(_metadata, &self->dev, VT_MIB, 8192);
}

VT_TEST_MAIN
