// SPDX-License-Identifier: GPL-2.0-only
/*
 * Everything that can fail inside the kernel does, once, one place after the
 * other: allocations, copies from and to user space, the submission of a bio.
 * An ioctl returns an error and can be repeated; a request is answered, or the
 * error eventfd fires and the ring works again. Needs a kernel with fault
 * injection, as the sanitizer host has it.
 */
#include "vt_test.h"

#define IN	VIRTIO_BLK_T_IN
#define OUT	VIRTIO_BLK_T_OUT
#define OK	VIRTIO_BLK_S_OK
#define IOERR	VIRTIO_BLK_S_IOERR

/* A sweep that is longer than this does not end. */
#define MAX_NTH	2000

#define NEED_FAULTS() do {						\
	if (vt_fault_init())						\
		SKIP(return, "no fault injection in this kernel");	\
} while (0)

/* ---- ioctls: H05, H06 ---- */

/* The life of a device; each step returns 0 or -errno and may be repeated. */
static int step_open(struct vt_dev *dev)
{
	dev->fd = open(VT_DEV, O_RDWR | O_CLOEXEC);
	return dev->fd < 0 ? -errno : 0;
}

static int step_owner(struct vt_dev *dev)
{
	return vt_ioctl(dev->fd, VHOST_SET_OWNER, NULL, 0);
}

static int step_features(struct vt_dev *dev)
{
	uint64_t offered;

	return vt_ioctl(dev->fd, VHOST_GET_FEATURES, &offered, sizeof(offered)) ?:
	       vt_ioctl(dev->fd, VHOST_SET_FEATURES, &dev->features, sizeof(dev->features));
}

static int step_mem_table(struct vt_dev *dev)
{
	return vt_mem_set(&dev->mem, dev->fd);
}

static int step_vring(struct vt_dev *dev)
{
	return vt_vring_set(dev, 0, dev->q[0].avail_idx);
}

static int step_serial(struct vt_dev *dev)
{
	struct vhost_blk_serial serial = { .serial = "fault" };

	return vt_ioctl(dev->fd, VHOST_BLK_SET_SERIAL, &serial, sizeof(serial));
}

static int step_query(struct vt_dev *dev)
{
	struct vhost_blk_query query;
	int r = vt_query(dev->fd, vt_disk.fd, &query);

	return r ?: query.features & VT_F_FLUSH ? 0 : -EINVAL;
}

static int step_attach(struct vt_dev *dev)
{
	return vt_attach(dev, vt_disk.fd);
}

static int step_good(struct vt_dev *dev)
{
	return vt_good(&dev->q[0]);
}

static int step_vring_base(struct vt_dev *dev)
{
	int r = vt_vring_base(dev, 0);

	if (r < 0)
		return r;
	return r == dev->q[0].avail_idx ? 0 : -ERANGE;
}

static int step_reset_owner(struct vt_dev *dev)
{
	return vt_ioctl(dev->fd, VHOST_RESET_OWNER, NULL, 0);
}

static int step_close(struct vt_dev *dev)
{
	int r = close(dev->fd) ? -errno : 0;

	dev->fd = -1;
	return r;
}

enum {
	OPEN, OWNER, FEATURES, MEM_TABLE, VRING, SERIAL, QUERY, ATTACH, GOOD, DETACH,
	VRING_BASE, ATTACH_AGAIN, GOOD_AGAIN, RESET_OWNER, CLOSE, NR_STEPS
};

static int (*const steps[NR_STEPS])(struct vt_dev *dev) = {
	[OPEN] = step_open,
	[OWNER] = step_owner,
	[FEATURES] = step_features,
	[MEM_TABLE] = step_mem_table,
	[VRING] = step_vring,
	[SERIAL] = step_serial,
	[QUERY] = step_query,
	[ATTACH] = step_attach,
	[GOOD] = step_good,
	[DETACH] = vt_detach,
	[VRING_BASE] = step_vring_base,
	[ATTACH_AGAIN] = step_attach,
	[GOOD_AGAIN] = step_good,
	[RESET_OWNER] = step_reset_owner,
	[CLOSE] = step_close,
};

FIXTURE(control) {
	struct vt_dev dev;
	int nth;		/* /proc/self/fail-nth */
};

#define control_data FIXTURE_DATA(control)

FIXTURE_VARIANT(control) {
	int step;
	int min;		/* places where it fails, at least */
	bool never;		/* it reports no error all the same */
};

#define control_kind FIXTURE_VARIANT(control)

FIXTURE_VARIANT_ADD(control, open) { .step = OPEN, .min = 2 };
FIXTURE_VARIANT_ADD(control, set_owner) { .step = OWNER, .min = 16 };
FIXTURE_VARIANT_ADD(control, features) { .step = FEATURES, .min = 2 };
FIXTURE_VARIANT_ADD(control, set_mem_table) { .step = MEM_TABLE, .min = 4 };
FIXTURE_VARIANT_ADD(control, set_vring) { .step = VRING, .min = 6 };
FIXTURE_VARIANT_ADD(control, set_serial) { .step = SERIAL, .min = 1 };
FIXTURE_VARIANT_ADD(control, query_backend) { .step = QUERY, .min = 3 };
FIXTURE_VARIANT_ADD(control, attach) { .step = ATTACH, .min = 3 };
FIXTURE_VARIANT_ADD(control, detach) { .step = DETACH, .min = 1 };
FIXTURE_VARIANT_ADD(control, get_vring_base) { .step = VRING_BASE, .min = 1 };
FIXTURE_VARIANT_ADD(control, attach_again) { .step = ATTACH_AGAIN, .min = 3 };
FIXTURE_VARIANT_ADD(control, reset_owner) { .step = RESET_OWNER, .min = 1 };
FIXTURE_VARIANT_ADD(control, close) { .step = CLOSE, .never = true };

FIXTURE_SETUP(control)
{
	ASSERT_EQ(0, vt_dev_init(&self->dev, &(struct vt_opts) {}));
	ASSERT_EQ(0, step_close(&self->dev));
	self->nth = vt_fault_open(getpid());
}

FIXTURE_TEARDOWN(control)
{
	vt_dev_fini(&self->dev);
	EXPECT_EQ(0, vt_exclusive(&vt_disk));
}

/*
 * Through all steps, with the @nth fault in one of them, which is then done
 * again. Return: 1 if there was a fault, 0 if there are not that many places.
 */
static int life_with_fault(struct __test_metadata *_metadata, control_data *self,
			   const control_kind *variant, unsigned int nth)
{
	struct vt_dev *dev = &self->dev;
	int left = -1;

	for (int i = 0; i < NR_STEPS; i++) {
		int r;

		if (i == variant->step) {
			ASSERT_EQ(0, vt_fault_arm(self->nth, nth));
			r = steps[i](dev);
			left = vt_fault_disarm(self->nth);
			ASSERT_LE(0, left);
			if (left || variant->never)
				EXPECT_EQ(0, r);
			if (!r)
				continue;
			EXPECT_EQ(true, r == -ENOMEM || r == -EFAULT) {
				TH_LOG("fault %u: %s", nth, strerror(-r));
			}
		}
		r = steps[i](dev);
		ASSERT_EQ(0, r) {
			TH_LOG("step %d after fault %u in step %d: %s", i, nth, variant->step,
			       strerror(-r));
		}
	}
	return !left;
}

TEST_F(control, sweep)
{
	int nth = 1;

	NEED_FAULTS();
	ASSERT_LE(0, self->nth);
	while (life_with_fault(_metadata, self, variant, nth))
		ASSERT_GT(MAX_NTH, ++nth);
	EXPECT_LE(variant->min, nth - 1);
	TH_LOG("%d places", nth - 1);
}

/* ---- requests: H05, H06, H01 (fail_make_request) ---- */

#define DATA_BYTES	(2 * VT_MIB + 8192)
#define BLANK		(24 * 1024)	/* sector from which nothing is stored yet */

FIXTURE(data) {
	struct vt_dev dev;
	struct vt_bdev disk;
	long pinned;		/* pages, before the test */
	struct vt_queue *q;
	uint64_t data;
	int nth;		/* the worker's fail-nth */
	int nr_ok, nr_ioerr, nr_unanswered;
};

#define data_data FIXTURE_DATA(data)

FIXTURE_VARIANT(data) {
	uint32_t type, len, seg_bytes, odd;
	bool indirect;
	bool blank;		/* the disk has to allocate memory for it, too */
	int min;		/* places where it fails, at least */
	int lost;		/* those of them that cost the answer, at least */
};

#define data_kind FIXTURE_VARIANT(data)

#define KIND(name, ...) FIXTURE_VARIANT_ADD(data, name) { __VA_ARGS__ }

KIND(in_4k, .type = IN, .len = 4096, .min = 2, .lost = 1);
KIND(out_4k_indirect, .type = OUT, .len = 4096, .indirect = true, .min = 3);
KIND(out_blank, .type = OUT, .len = 8192, .blank = true, .min = 5);
KIND(in_bounced, .type = IN, .len = 65536, .odd = 1, .min = 30);
KIND(out_bounced, .type = OUT, .len = 65536, .odd = 1, .min = 30);
/* several windows of bounce pages, and pieces that have to be saved for them */
KIND(in_bounced_long, .type = IN, .len = 160 << 10, .seg_bytes = 5000, .odd = 3, .min = 80);
KIND(in_large, .type = IN, .len = DATA_BYTES, .min = 6);
KIND(out_large, .type = OUT, .len = DATA_BYTES, .seg_bytes = 128 << 10, .indirect = true, .min = 6);
KIND(flush, .type = VIRTIO_BLK_T_FLUSH, .min = 2, .lost = 1);
KIND(get_id, .type = VIRTIO_BLK_T_GET_ID, .len = 20, .min = 2, .lost = 1);

static int make_it_fail(const struct vt_bdev *bdev, const char *value)
{
	char path[96];

	snprintf(path, sizeof(path), "/sys/block/%s/make-it-fail", bdev->name);
	return vt_write_file(path, value);
}

FIXTURE_SETUP(data)
{
	struct vt_null_opts null = { .cache_mib = 32 };
	struct vt_opts opts = { .indirect = variant->indirect };

	self->pinned = vt_pinned_pages();
	ASSERT_EQ(0, vt_null_create(&self->disk, "vbtinject", &null));
	ASSERT_EQ(0, vt_dev_init(&self->dev, &opts));
	self->q = &self->dev.q[0];
	self->data = vt_alloc_in(&self->dev.mem, 1, DATA_BYTES + 4096, 4096);
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
}

FIXTURE_TEARDOWN(data)
{
	EXPECT_EQ(0, vt_queue_idle(self->q));
	EXPECT_EQ(0, vt_detach(&self->dev));
	EXPECT_EQ(0, vt_inflight(&self->disk));
	EXPECT_EQ(0, vt_pinned_wait(self->pinned));
	vt_dev_fini(&self->dev);
	EXPECT_EQ(0, vt_exclusive(&self->disk));
	vt_bdev_destroy(&self->disk);
}

/* 1: @req is answered; 0: the error eventfd fired instead; or -errno. */
static int answer_or_error(struct vt_queue *q, const struct vt_req *req)
{
	struct pollfd pfd[] = {
		{ .fd = q->call, .events = POLLIN }, { .fd = q->err, .events = POLLIN },
	};
	int64_t end = vt_now_ms() + vt_timeout_ms(), left;
	struct vt_used u;
	int r;

	do {
		r = vt_used_get(q, &u);
		if (r < 0 || req->done)
			return r < 0 ? r : 1;
		left = end - vt_now_ms();
		if (left <= 0 || poll(pfd, 2, left) < 1)
			return -ETIMEDOUT;
		if (pfd[0].revents)
			vt_event_count(q->call, 0);
	} while (pfd[0].revents);
	return vt_event_count(q->err, 0) ? 0 : -EPROTO;
}

/* A ring that stopped goes on with the next kick, or after a new start if the answer is lost. */
static void ring_repair(struct __test_metadata *_metadata, data_data *self,
			struct vt_req *req)
{
	struct vt_queue *q = self->q;
	struct vt_used u;
	int base = vt_vring_base(&self->dev, 0);

	self->nr_unanswered++;
	if (base != q->avail_idx) {
		ASSERT_EQ((uint16_t)(q->avail_idx - 1), base);
		vt_kick(q);
		ASSERT_EQ(0, vt_req_wait(q, req));
		EXPECT_EQ(OK, req->status);
		return;
	}
	ASSERT_EQ(0, vt_detach(&self->dev));
	ASSERT_EQ(0, vt_used_get(q, &u)) {
		TH_LOG("an answer came after the error event");
	}
	ASSERT_EQ(0, vt_vring_reset(&self->dev, 0, base));
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
}

/* Also a request that the guest is told went well must have gone well. */
static void answer_check(struct __test_metadata *_metadata, data_data *self,
			 const struct vt_req *req, uint64_t seed)
{
	void *p = vt_ptr(&self->dev.mem, req->data);
	uint32_t want = req->type == IN || req->type == VIRTIO_BLK_T_GET_ID ? req->len + 1 : 1;

	if (req->status == IOERR) {
		self->nr_ioerr++;
		EXPECT_EQ(1, req->used_len);
		return;
	}
	self->nr_ok++;
	EXPECT_EQ(OK, req->status);
	EXPECT_EQ(want, req->used_len);
	if (req->type == IN)
		EXPECT_EQ(-1, vt_check(p, req->len, seed, req->sector));
	if (req->type != OUT)
		return;
	memset(p, 0, req->len);
	EXPECT_EQ(OK, vt_io(self->q, IN, req->sector, self->data, req->len));
	EXPECT_EQ(-1, vt_check(vt_ptr(&self->dev.mem, self->data), req->len, seed, req->sector));
}

/* One request with the @nth fault on the worker. Return: as life_with_fault(). */
static int request_with_fault(struct __test_metadata *_metadata, data_data *self,
			      const data_kind *variant, unsigned int nth)
{
	struct vt_req req = {
		.type = variant->type, .len = variant->len, .seg_bytes = variant->seg_bytes,
		.data = self->data + variant->odd, .sector = variant->blank ? BLANK + nth * 16 : 64,
	};
	void *p = vt_ptr(&self->dev.mem, req.data);
	bool in = variant->type == IN;
	int r, left;

	vt_fill(p, req.len, in ? 1 : nth, req.sector);
	if (in) {
		ASSERT_EQ(OK, vt_io(self->q, OUT, req.sector, req.data, req.len));
		memset(p, 0, req.len);
	}
	ASSERT_EQ(0, vt_fault_arm(self->nth, nth));
	ASSERT_EQ(0, vt_req_submit(self->q, &req));
	r = answer_or_error(self->q, &req);
	left = vt_fault_disarm(self->nth);
	ASSERT_LE(0, r) {
		TH_LOG("fault %u: %s", nth, strerror(-r));
	}
	ASSERT_LE(0, left);
	if (left)
		EXPECT_EQ(OK, req.status);
	if (r)
		answer_check(_metadata, self, &req, in ? 1 : nth);
	else
		ring_repair(_metadata, self, &req);
	EXPECT_EQ(0, vt_queue_idle(self->q));
	EXPECT_EQ(0, vt_good(self->q));
	return !left;
}

TEST_F(data, sweep)
{
	int nth = 1;

	NEED_FAULTS();
	/* Bios without a probability, which leaves those that fail-nth hits. */
	ASSERT_EQ(0, make_it_fail(&self->disk, "1"));
	self->nth = vt_fault_open(vt_worker_tid());
	ASSERT_LE(0, self->nth);
	/* Else a page table may be missing, and user-mode Linux dies without memory for it. */
	ASSERT_EQ(OK, vt_io(self->q, IN, 64, self->data + variant->odd, DATA_BYTES));
	while (request_with_fault(_metadata, self, variant, nth))
		ASSERT_GT(MAX_NTH, ++nth);
	EXPECT_LE(variant->min, nth - 1);
	/* The usual descriptors and the header are read without such a place. */
	EXPECT_LE(1, self->nr_ioerr);
	EXPECT_LE(variant->lost, self->nr_unanswered);
	TH_LOG("%d places: %d OK, %d IOERR, %d not answered at once", nth - 1, self->nr_ok - 1,
	       self->nr_ioerr, self->nr_unanswered);
}

/* Tests with a fixture run after those without, in the order of the fixtures: this is the last. */
FIXTURE(leaks) {
	char report[4096];
};

FIXTURE_SETUP(leaks) {}
FIXTURE_TEARDOWN(leaks) {}

TEST_F(leaks, none)
{
	int r;

	NEED_FAULTS();
	r = vt_kmemleak_count(self->report, sizeof(self->report));
	if (r == -ENOENT)
		SKIP(return, "no kmemleak in this kernel");
	EXPECT_EQ(0, r) {
		TH_LOG("%d objects lost\n%s", r, self->report);
	}
}

VT_TEST_MAIN
