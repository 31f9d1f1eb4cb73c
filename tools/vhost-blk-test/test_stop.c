// SPDX-License-Identifier: GPL-2.0-only
/*
 * VHOST_BLK_BACKEND_STOP_ON_*: the guest does not learn that the disk failed a
 * request. The vring stops, the VMM is told, and the request is in the vring again
 * for who serves it next.
 */
#include "vt_test.h"

#define IN	VIRTIO_BLK_T_IN
#define OUT	VIRTIO_BLK_T_OUT
#define FLUSH	VIRTIO_BLK_T_FLUSH
#define OK	VIRTIO_BLK_S_OK
#define IOERR	VIRTIO_BLK_S_IOERR
#define UNSUPP	VIRTIO_BLK_S_UNSUPP

#define ON_READ		VHOST_BLK_BACKEND_STOP_ON_READ_ERROR
#define ON_WRITE	VHOST_BLK_BACKEND_STOP_ON_WRITE_ERROR
#define ON_ENOSPC	VHOST_BLK_BACKEND_STOP_ON_ENOSPC

#define BAD		1024	/* first of 8 bad sectors */

FIXTURE(stop) {
	struct vt_dev dev;
	struct vt_bdev disk;
	struct vt_queue *q;
	struct vt_log log;
	uint64_t data;		/* 1 MiB */
	uint8_t *p;
};

#define stop_data FIXTURE_DATA(stop)

FIXTURE_VARIANT(stop) {
	unsigned int num;
	uint16_t base;
	bool indirect;
};

FIXTURE_VARIANT_ADD(stop, direct) { .num = 256 };
FIXTURE_VARIANT_ADD(stop, indirect_wraps) { .num = 16, .base = 65530, .indirect = true };

static int bad_sectors(bool on)
{
	return vt_null_attr("vbtstop", "badblocks", on ? "+1024-1031" : "-1024-1031");
}

static int attach(struct vt_dev *dev, int fd, uint32_t flags)
{
	struct vhost_blk_backend b = { .fd = fd, .flags = flags };

	return vt_ioctl(dev->fd, VHOST_BLK_SET_BACKEND, &b, sizeof(b));
}

FIXTURE_SETUP(stop)
{
	struct vt_opts opts = {
		.num = variant->num, .indirect = variant->indirect, .nr_queues = 2,
		.features = VT_F_BASE,
	};

	ASSERT_EQ(0, vt_null_create(&self->disk, "vbtstop", &(struct vt_null_opts) {}));
	ASSERT_EQ(0, vt_dev_init(&self->dev, &opts));
	self->q = &self->dev.q[0];
	for (unsigned int i = 0; i < 2; i++)
		ASSERT_EQ(0, vt_vring_reset(&self->dev, i, variant->base));
	self->data = vt_alloc(&self->dev.mem, VT_MIB);
	self->p = vt_ptr(&self->dev.mem, self->data);
	ASSERT_EQ(0, bad_sectors(true));
}

FIXTURE_TEARDOWN(stop)
{
	bad_sectors(false);
	vt_detach(&self->dev);
	EXPECT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	for (unsigned int i = 0; i < 2; i++) {
		EXPECT_EQ(0, vt_good(&self->dev.q[i]));
		EXPECT_EQ(0, vt_queue_idle(&self->dev.q[i]));
	}
	EXPECT_EQ(0, vt_detach(&self->dev));
	vt_dev_fini(&self->dev);
	vt_log_fini(&self->log);
	vt_bdev_destroy(&self->disk);
}

/* Submit @req, which fails, and wait until the VMM is told. */
static int submit_bad(struct vt_queue *q, struct vt_req *req)
{
	int r;

	vt_event_count(q->err, 0);
	r = vt_req_submit(q, req);
	return r ?: vt_event_count(q->err, vt_timeout_ms()) ? 0 : -ETIMEDOUT;
}

/* The vring's base is @req's, and the ring names it there. */
static bool is_put_back(stop_data *self, const struct vt_req *req, uint16_t base)
{
	return vt_vring_base(&self->dev, self->q->index) == base &&
	       self->q->avail->ring[base % self->q->num] == req->head;
}

static void fetched_all(struct __test_metadata *_metadata, stop_data *self, uint32_t flags,
			struct vt_req *req)
{
	struct vt_used u;

	ASSERT_EQ(0, attach(&self->dev, self->disk.fd, flags));
	ASSERT_EQ(0, submit_bad(self->q, req));
	EXPECT_EQ(0, vt_used_get(self->q, &u));
	ASSERT_EQ(0, vt_detach(&self->dev));
	EXPECT_EQ(0, vt_used_get(self->q, &u));
	EXPECT_EQ(VT_STATUS_NONE, vt_status_read(&self->dev.mem,
						 vt_status_gpa(self->q, req->head)));
}

/* A read and a write fail, come back, and go well once the disk does. */
TEST_F(stop, retried)
{
	for (unsigned int i = 0; i < 2; i++) {
		struct vt_req req = {
			.type = i ? OUT : IN, .sector = BAD, .data = self->data, .len = 4096,
		};

		for (unsigned int k = 0; k < 2; k++) {	/* bounced as well */
			uint16_t base = variant->base + i * 2 + k;

			req.data = self->data + k;
			ASSERT_EQ(0, bad_sectors(true));
			fetched_all(_metadata, self, ON_READ | ON_WRITE, &req);
			EXPECT_EQ(true, is_put_back(self, &req, base));
			/* fails once more, without a kick */
			vt_event_count(self->q->err, 0);
			ASSERT_EQ(0, attach(&self->dev, self->disk.fd, ON_READ | ON_WRITE));
			EXPECT_NE(0, vt_event_count(self->q->err, vt_timeout_ms()));
			ASSERT_EQ(0, vt_detach(&self->dev));
			EXPECT_EQ(true, is_put_back(self, &req, base));
			ASSERT_EQ(0, bad_sectors(false));
			vt_fill(self->p + k, 4096, 9, BAD);
			ASSERT_EQ(0, attach(&self->dev, self->disk.fd, ON_READ | ON_WRITE));
			ASSERT_EQ(0, vt_req_wait(self->q, &req));
			EXPECT_EQ(OK, req.status);
			EXPECT_EQ(i ? 1 : 4097, req.used_len);
			ASSERT_EQ(0, vt_detach(&self->dev));
		}
	}
}

/*
 * Bad ones among good ones: the good ones end, all bad ones are put back, behind
 * the last entry that was fetched, and everything ends well later.
 */
TEST_F(stop, among_others)
{
	struct vt_req req[14];
	const unsigned int nr = variant->indirect ? 14 : ARRAY_SIZE(req);
	unsigned int nr_done = 0, nr_bad = 0;
	uint16_t base;

	for (unsigned int i = 0; i < nr; i++) {
		bool bad = i % 3 == 1;

		nr_bad += bad;
		vt_fill(self->p + i * 4096, 4096, i, bad ? BAD : i * 8);
		req[i] = (struct vt_req) {
			.type = OUT, .sector = bad ? BAD : i * 8, .len = 4096,
			.data = self->data + i * 4096,
		};
		ASSERT_EQ(0, vt_req_add(self->q, &req[i]));
		vt_publish(self->q);
	}
	vt_event_count(self->q->err, 0);
	ASSERT_EQ(0, attach(&self->dev, self->disk.fd, ON_WRITE));
	EXPECT_NE(0, vt_event_count(self->q->err, vt_timeout_ms()));
	ASSERT_EQ(0, vt_detach(&self->dev));
	for (struct vt_used u; vt_used_get(self->q, &u) == 1; )
		nr_done++;
	EXPECT_GE(nr - nr_bad, nr_done);
	/* what has not been done is there from the base on, and nothing else is */
	base = vt_vring_base(&self->dev, 0);
	EXPECT_EQ((uint16_t)(variant->base + nr_done), base);
	for (uint16_t at = base; at != (uint16_t)(variant->base + nr); at++)
		for (unsigned int i = 0; i < nr; i++)
			if (req[i].head == self->q->avail->ring[at % self->q->num])
				EXPECT_EQ(false, req[i].done);
	/* the other vring is not concerned */
	ASSERT_EQ(0, attach(&self->dev, self->disk.fd, ON_WRITE));
	EXPECT_EQ(0, vt_good(&self->dev.q[1]));
	ASSERT_EQ(0, vt_detach(&self->dev));
	ASSERT_EQ(0, bad_sectors(false));
	ASSERT_EQ(0, attach(&self->dev, self->disk.fd, ON_WRITE));
	ASSERT_EQ(0, vt_wait_all(self->q));
	for (unsigned int i = 0; i < nr; i++)
		EXPECT_EQ(OK, req[i].status);
}

/* Each flag for its own kind; the rest is answered, as without. */
TEST_F(stop, kinds)
{
	ASSERT_EQ(0, attach(&self->dev, self->disk.fd, ON_READ));
	EXPECT_EQ(IOERR, vt_io(self->q, OUT, BAD, self->data, 4096));
	ASSERT_EQ(0, vt_detach(&self->dev));
	ASSERT_EQ(0, attach(&self->dev, self->disk.fd, ON_WRITE));
	EXPECT_EQ(IOERR, vt_io(self->q, IN, BAD, self->data, 4096));
	ASSERT_EQ(0, vt_detach(&self->dev));
	ASSERT_EQ(0, attach(&self->dev, self->disk.fd, ON_ENOSPC));
	EXPECT_EQ(IOERR, vt_io(self->q, IN, BAD, self->data, 4096));
	EXPECT_EQ(IOERR, vt_io(self->q, OUT, BAD, self->data, 4096));
	ASSERT_EQ(0, vt_detach(&self->dev));
	/* what is wrong with the request itself */
	ASSERT_EQ(0, attach(&self->dev, self->disk.fd, ON_READ | ON_WRITE | ON_ENOSPC));
	EXPECT_EQ(IOERR, vt_io(self->q, OUT, self->disk.bytes / 512, self->data, 4096));
	EXPECT_EQ(IOERR, vt_io(self->q, IN, 0, self->data, 100));
	EXPECT_EQ(UNSUPP, vt_io(self->q, 77, 0, self->data, 512));
	EXPECT_EQ(OK, vt_io(self->q, FLUSH, 0, 0, 0));
}

/* ENOSPC is a kind of its own, and what a disk does not have is no failure. */
TEST_F(stop, no_space)
{
	struct vt_req req = { .type = OUT, .data = self->data, .len = 4096 };
	struct vt_errdisk err = {};
	struct vt_bdev disk = { .fd = -1 };
	int r = vt_errdisk_create(&err, &disk, 8 * VT_MIB);

	if (r == -ENOENT)
		SKIP(return, "no FUSE in this kernel");
	ASSERT_EQ(0, r);
	err.range[0] = (struct vt_err_range) { 0, VT_MIB, -ENOSPC };
	err.range[1] = (struct vt_err_range) { VT_MIB, 2 * VT_MIB, -EOPNOTSUPP };
	ASSERT_EQ(0, attach(&self->dev, disk.fd, ON_ENOSPC));
	EXPECT_EQ(IOERR, vt_io(self->q, IN, 0, self->data, 4096));
	EXPECT_EQ(UNSUPP, vt_io(self->q, OUT, 2048, self->data, 4096));
	EXPECT_EQ(0, submit_bad(self->q, &req));
	EXPECT_EQ(0, vt_detach(&self->dev));
	EXPECT_EQ(false, req.done);
	err.range[0].err = 0;
	EXPECT_EQ(0, attach(&self->dev, disk.fd, ON_ENOSPC));
	EXPECT_EQ(0, vt_req_wait(self->q, &req));
	EXPECT_EQ(OK, req.status);
	EXPECT_EQ(0, vt_detach(&self->dev));
	vt_bdev_destroy(&disk);
	vt_errdisk_destroy(&err);
}

/* Kicks do not make a stopped vring go on; guest memory that is gone loses nothing. */
TEST_F(stop, avail_is_gone)
{
	struct vt_req req = { .type = IN, .sector = BAD, .data = self->data, .len = 4096 };
	struct vt_req more = { .type = IN, .sector = 0, .data = self->data, .len = 4096 };
	uint64_t page = self->q->avail_gpa & ~4095ULL;
	struct vt_used u;

	ASSERT_EQ(0, attach(&self->dev, self->disk.fd, ON_READ));
	ASSERT_EQ(0, submit_bad(self->q, &req));
	ASSERT_EQ(0, vt_req_submit(self->q, &more));
	EXPECT_EQ(0, vt_good(&self->dev.q[1]));
	EXPECT_EQ(0, vt_used_get(self->q, &u));
	/* it cannot be put back: the guest is told */
	ASSERT_EQ(0, vt_dev_protect(&self->dev.mem, page, 4096, PROT_READ));
	ASSERT_EQ(0, vt_detach(&self->dev));
	ASSERT_EQ(0, vt_dev_protect(&self->dev.mem, page, 4096, PROT_READ | PROT_WRITE));
	ASSERT_EQ(0, vt_req_wait(self->q, &req));
	EXPECT_EQ(IOERR, req.status);
	ASSERT_EQ(0, attach(&self->dev, self->disk.fd, ON_READ));
	ASSERT_EQ(0, vt_req_wait(self->q, &more));
	EXPECT_EQ(OK, more.status);
}

/* L: what is put back is logged as every other write to guest memory. */
TEST_F(stop, logged)
{
	struct vt_req req = { .type = IN, .sector = BAD, .data = self->data, .len = 4096 };

	ASSERT_EQ(0, vt_log_init(&self->log, &self->dev));
	ASSERT_EQ(0, vt_log_start(&self->log));
	fetched_all(_metadata, self, ON_READ, &req);
	EXPECT_EQ(true, is_put_back(self, &req, variant->base));
	EXPECT_EQ(true, vt_log_has(&self->log, self->q->avail_gpa + 4 +
				   variant->base % self->q->num * 2));
	EXPECT_EQ(false, vt_log_has(&self->log, self->data));
	/* switching the log off lets the vring try again, which fails again */
	ASSERT_EQ(0, attach(&self->dev, self->disk.fd, ON_READ));
	EXPECT_NE(0, vt_event_count(self->q->err, vt_timeout_ms()));
	vt_event_count(self->q->err, 0);
	ASSERT_EQ(0, vt_log_stop(&self->log));
	EXPECT_NE(0, vt_event_count(self->q->err, vt_timeout_ms()));
	ASSERT_EQ(0, vt_detach(&self->dev));
	EXPECT_EQ(true, is_put_back(self, &req, variant->base));
}

/* L03: so is the status of one that cannot be put back. */
TEST_F(stop, logged_when_told)
{
	struct vt_req req = { .type = IN, .sector = BAD, .data = self->data, .len = 4096 };
	uint64_t page = self->q->avail_gpa & ~4095ULL;

	ASSERT_EQ(0, vt_log_init(&self->log, &self->dev));
	ASSERT_EQ(0, vt_log_start(&self->log));
	ASSERT_EQ(0, attach(&self->dev, self->disk.fd, ON_READ));
	ASSERT_EQ(0, submit_bad(self->q, &req));
	EXPECT_EQ(false, vt_log_has(&self->log, vt_status_gpa(self->q, req.head)));
	ASSERT_EQ(0, vt_dev_protect(&self->dev.mem, page, 4096, PROT_READ));
	ASSERT_EQ(0, vt_detach(&self->dev));
	ASSERT_EQ(0, vt_dev_protect(&self->dev.mem, page, 4096, PROT_READ | PROT_WRITE));
	ASSERT_EQ(0, vt_req_wait(self->q, &req));
	EXPECT_EQ(IOERR, req.status);
	EXPECT_EQ(true, vt_log_has(&self->log, vt_status_gpa(self->q, req.head)));
	ASSERT_EQ(0, vt_log_stop(&self->log));
}

/* The device is closed, or its owner changes, while a request is kept. */
TEST_F(stop, closed)
{
	struct vt_req req = { .type = IN, .sector = BAD, .data = self->data, .len = 4096 };

	ASSERT_EQ(0, attach(&self->dev, self->disk.fd, ON_READ));
	ASSERT_EQ(0, submit_bad(self->q, &req));
	close(self->dev.fd);
	EXPECT_EQ(0, vt_exclusive(&self->disk));
	ASSERT_EQ(0, vt_dev_open(&self->dev));
	for (unsigned int i = 0; i < 2; i++)
		ASSERT_EQ(0, vt_vring_reset(&self->dev, i, variant->base));
}

/* Where the rings are the driver's IOMMU knows: nothing can be put back. */
TEST(with_iommu)
{
	struct vt_opts opts = { .features = VT_F_BASE | VT_F(VIRTIO_F_ACCESS_PLATFORM) };
	struct vt_iotlb iotlb = {};
	struct vt_dev dev;

	ASSERT_EQ(0, vt_dev_init(&dev, &opts));
	ASSERT_EQ(0, vt_iotlb_start(&iotlb, &dev));
	ASSERT_EQ(0, vt_iotlb_prefetch(&iotlb));
	EXPECT_EQ(-EOPNOTSUPP, attach(&dev, vt_disk.fd, ON_READ));
	EXPECT_EQ(0, vt_attach(&dev, vt_disk.fd));
	EXPECT_EQ(0, vt_good(&dev.q[0]));
	EXPECT_EQ(0, vt_detach(&dev));
	vt_iotlb_stop(&iotlb);
	vt_dev_fini(&dev);
}

/* A VMM can ask which flags there are. */
TEST(asked)
{
	struct vhost_blk_query query;
	struct vt_dev dev;

	ASSERT_EQ(0, vt_dev_init(&dev, &(struct vt_opts) {}));
	ASSERT_EQ(0, vt_query(dev.fd, -1, &query));
	EXPECT_EQ(ON_READ | ON_WRITE | ON_ENOSPC | VHOST_BLK_BACKEND_NO_UNMAP, query.flags);
	EXPECT_EQ(0, query.features);
	EXPECT_EQ(-EINVAL, attach(&dev, vt_disk.fd, query.flags + 1 + query.flags));
	EXPECT_EQ(-EINVAL, attach(&dev, vt_disk.fd, (query.flags + 1) | ON_READ));
	vt_dev_fini(&dev);
}

VT_TEST_MAIN
