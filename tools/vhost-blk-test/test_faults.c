// SPDX-License-Identifier: GPL-2.0-only
/*
 * Disks that fail, go away or change their size while they are attached: the
 * guest gets the right status byte, the first error counts, the next request
 * and the detach are fine.
 */
#include <linux/loop.h>

#include "vt_test.h"

#define IN	VIRTIO_BLK_T_IN
#define OUT	VIRTIO_BLK_T_OUT
#define OK	VIRTIO_BLK_S_OK
#define IOERR	VIRTIO_BLK_S_IOERR

FIXTURE(faults) {
	struct vt_dev dev;
	struct vt_bdev disk;	/* made by the test */
	struct vt_bdev over;	/* what lies over it, if anything */
	struct vt_queue *q;
	uint64_t data;		/* 4 MiB */
};

#define faults_data FIXTURE_DATA(faults)

FIXTURE_SETUP(faults)
{
	self->disk.fd = -1;
	self->over.fd = -1;
	ASSERT_EQ(0, vt_dev_init(&self->dev, &(struct vt_opts) {}));
	self->q = &self->dev.q[0];
	self->data = vt_alloc_in(&self->dev.mem, 1, 4 * VT_MIB, 4096);
}

FIXTURE_TEARDOWN(faults)
{
	EXPECT_EQ(0, vt_queue_idle(self->q));
	EXPECT_EQ(0, vt_detach(&self->dev));
	vt_dev_fini(&self->dev);
	vt_bdev_destroy(&self->over);
	vt_bdev_destroy(&self->disk);
}

static int block_attr(const struct vt_bdev *bdev, const char *attr, const char *value)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/block/%s/%s", bdev->name, attr);
	return vt_write_file(path, value);
}

/* H01: some sectors are bad; a request that touches them fails, others do not */
TEST_F(faults, bad_sectors)
{
	ASSERT_EQ(0, vt_null_create(&self->disk, "vbtbad", &(struct vt_null_opts) {}));
	ASSERT_EQ(0, vt_null_attr("vbtbad", "badblocks", "+100-107"));
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	for (int i = 0; i < 2; i++) {
		uint32_t type = i ? IN : OUT;

		EXPECT_EQ(OK, vt_io(self->q, type, 92, self->data, 4096));
		EXPECT_EQ(IOERR, vt_io(self->q, type, 100, self->data, 4096));
		EXPECT_EQ(IOERR, vt_io(self->q, type, 93, self->data, 4096));
		EXPECT_EQ(OK, vt_io(self->q, type, 108, self->data, 4096));
		/* bounced */
		EXPECT_EQ(IOERR, vt_io(self->q, type, 100, self->data + 1, 4096));
	}
	ASSERT_EQ(0, vt_null_attr("vbtbad", "badblocks", "-100-107"));
	EXPECT_EQ(OK, vt_io(self->q, IN, 100, self->data, 4096));
}

/* H02: any of the bios of a large request fails, the last one too */
TEST_F(faults, one_bio_of_many)
{
	static const char *const bad[] = { "0-0", "1000-1000", "3000-3000", "8191-8191" };
	char text[32];

	ASSERT_EQ(0, vt_null_create(&self->disk, "vbtbad", &(struct vt_null_opts) {}));
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	for (unsigned int i = 0; i < ARRAY_SIZE(bad); i++) {
		snprintf(text, sizeof(text), "+%s", bad[i]);
		ASSERT_EQ(0, vt_null_attr("vbtbad", "badblocks", text));
		EXPECT_EQ(IOERR, vt_io(self->q, OUT, 0, self->data, 4 * VT_MIB));
		EXPECT_EQ(IOERR, vt_io(self->q, IN, 0, self->data, 4 * VT_MIB));
		snprintf(text, sizeof(text), "-%s", bad[i]);
		ASSERT_EQ(0, vt_null_attr("vbtbad", "badblocks", text));
		EXPECT_EQ(OK, vt_io(self->q, IN, 0, self->data, 4 * VT_MIB));
	}
}

/* H01, H07: a disk that fails everything, flushes included, and recovers */
TEST_F(faults, dm_error)
{
	static const char error[] = "0 65536 error";
	char linear[128];
	int r;

	ASSERT_EQ(0, vt_null_create(&self->disk, "vbtlow",
				    &(struct vt_null_opts) { .cache_mib = 8 }));
	snprintf(linear, sizeof(linear), "0 65536 linear %s 0", self->disk.path);
	r = vt_dm_create(&self->over, "vbterror", linear);
	if (r == -ENOENT)
		SKIP(return, "no dmsetup here");
	ASSERT_EQ(0, r);
	ASSERT_EQ(0, vt_attach(&self->dev, self->over.fd));
	EXPECT_EQ(OK, vt_io(self->q, VIRTIO_BLK_T_FLUSH, 0, 0, 0));
	ASSERT_EQ(0, vt_dm_reload(&self->over, error));
	EXPECT_EQ(IOERR, vt_io(self->q, OUT, 0, self->data, 4096));
	EXPECT_EQ(IOERR, vt_io(self->q, IN, 0, self->data, 4 * VT_MIB));
	EXPECT_EQ(IOERR, vt_io(self->q, IN, 0, self->data + 1, 65536));
	ASSERT_EQ(0, vt_dm_reload(&self->over, linear));
	EXPECT_EQ(0, vt_good(self->q));
	EXPECT_EQ(OK, vt_io(self->q, VIRTIO_BLK_T_FLUSH, 0, 0, 0));
}

/* Attach a dm device over a new disk. -ENOENT: there is no such target, or no dmsetup. */
static int over_attach(faults_data *self, const char *target, const char *args)
{
	char text[128];
	int r;

	snprintf(text, sizeof(text), "dm_%s", target);
	if (vt_modprobe(text, ""))
		return -ENOENT;
	r = vt_null_create(&self->disk, "vbtlow", &(struct vt_null_opts) { .cache_mib = 8 });
	if (r)
		return r;
	snprintf(text, sizeof(text), "0 65536 %s %s %s", target, self->disk.path, args);
	return vt_dm_create(&self->over, "vbtover", text) ?: vt_attach(&self->dev, self->over.fd);
}

/* H01: a sector that cannot be read until it is written again, as on a real disk */
TEST_F(faults, dm_dust)
{
	const uint32_t len = VT_MIB / 2;	/* in bios of 512 bytes each */
	int r;

	r = over_attach(self, "dust", "0 512");
	if (r == -ENOENT)
		SKIP(return, "no dm-dust in this kernel, or no dmsetup here");
	ASSERT_EQ(0, r);
	EXPECT_EQ(OK, vt_io(self->q, OUT, 0, self->data, len));
	ASSERT_EQ(0, vt_dm_message(&self->over, "addbadblock 100"));
	ASSERT_EQ(0, vt_dm_message(&self->over, "enable"));
	EXPECT_EQ(OK, vt_io(self->q, IN, 92, self->data, 4096));
	EXPECT_EQ(IOERR, vt_io(self->q, IN, 93, self->data, 4096));
	EXPECT_EQ(IOERR, vt_io(self->q, IN, 100, self->data, 512));
	EXPECT_EQ(IOERR, vt_io(self->q, IN, 64, self->data + 1, 65536));
	EXPECT_EQ(IOERR, vt_io(self->q, IN, 0, self->data, len));
	EXPECT_EQ(OK, vt_io(self->q, IN, 101, self->data, 4096));
	EXPECT_EQ(OK, vt_io(self->q, OUT, 100, self->data, 512));
	EXPECT_EQ(OK, vt_io(self->q, IN, 100, self->data, 512));
	EXPECT_EQ(OK, vt_io(self->q, IN, 0, self->data, len));
	EXPECT_EQ(0, vt_good(self->q));
}

/* H01: a disk that is down, then takes no writes, then is up again */
TEST_F(faults, dm_flakey)
{
	static const struct { const char *args; uint8_t in, out; } states[] = {
		{ "0 60", IOERR, IOERR },
		{ "0 60 1 error_writes", OK, IOERR },
		{ "60 0", OK, OK },
	};
	char table[128];
	int r;

	r = over_attach(self, "flakey", "0 0 60");
	if (r == -ENOENT)
		SKIP(return, "no dm-flakey in this kernel, or no dmsetup here");
	ASSERT_EQ(0, r);
	for (unsigned int i = 0; i < ARRAY_SIZE(states); i++) {
		snprintf(table, sizeof(table), "0 65536 flakey %s 0 %s", self->disk.path,
			 states[i].args);
		if (i)
			ASSERT_EQ(0, vt_dm_reload(&self->over, table));
		EXPECT_EQ(states[i].out, vt_io(self->q, OUT, 64, self->data, 4096));
		EXPECT_EQ(states[i].out, vt_io(self->q, OUT, 64, self->data + 1, 65536));
		EXPECT_EQ(states[i].out, vt_io(self->q, VIRTIO_BLK_T_FLUSH, 0, 0, 0));
		EXPECT_EQ(states[i].in, vt_io(self->q, IN, 64, self->data, 4096));
		EXPECT_EQ(states[i].in, vt_io(self->q, IN, 0, self->data, 4 * VT_MIB));
	}
	EXPECT_EQ(0, vt_good(self->q));
}

/* One bio is refused when it is submitted, by what @space bytes are left of. */
static void refuse_one(struct __test_metadata *_metadata, faults_data *self,
		       unsigned int space, struct vt_req req)
{
	char text[24];

	snprintf(text, sizeof(text), "%u", space);
	ASSERT_EQ(0, vt_fault_set("fail_make_request", "times", "1"));
	ASSERT_EQ(0, vt_fault_set("fail_make_request", "space", text));
	ASSERT_EQ(0, vt_fault_set("fail_make_request", "probability", "100"));
	EXPECT_EQ(IOERR, vt_io(self->q, req.type, 0, self->data, req.len)) {
		TH_LOG("type %u, %u bytes, after %u", req.type, req.len, space);
	}
	/* the fault is used up */
	EXPECT_EQ(OK, vt_io(self->q, req.type, 0, self->data, req.len));
	ASSERT_EQ(0, vt_fault_set("fail_make_request", "probability", "0"));
	EXPECT_EQ(0, vt_good(self->q));
}

/* H01, H02: no matter which bio of a request it is */
TEST_F(faults, refused_bios)
{
	/* a bio of 1 MiB that finds no more than this left is refused: the first to the last */
	static const unsigned int space[] = { 0, 2 * VT_MIB, 3 * VT_MIB, 4 * VT_MIB };

	if (vt_fault_init())
		SKIP(return, "no fault injection in this kernel");
	ASSERT_EQ(0, vt_null_create(&self->disk, "vbtrefuse",
				    &(struct vt_null_opts) { .cache_mib = 8 }));
	ASSERT_EQ(0, block_attr(&self->disk, "make-it-fail", "1"));
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	for (unsigned int type = IN; type <= OUT; type++) {
		refuse_one(_metadata, self, 0, (struct vt_req) { .type = type, .len = 4096 });
		for (unsigned int i = 0; i < ARRAY_SIZE(space); i++)
			refuse_one(_metadata, self, space[i],
				   (struct vt_req) { .type = type, .len = 4 * VT_MIB });
	}
	refuse_one(_metadata, self, 0, (struct vt_req) { .type = VIRTIO_BLK_T_FLUSH });
}

/* H04, H03: the disk does not answer; the block layer gives up on it after a while */
TEST_F(faults, timeout)
{
	int64_t start;

	if (vt_fault_init() || vt_fault_set("fail_io_timeout", "verbose", "0"))
		SKIP(return, "no fault injection in this kernel");
	ASSERT_EQ(0, vt_null_create(&self->disk, "vbtmute", &(struct vt_null_opts) {}));
	ASSERT_EQ(0, block_attr(&self->disk, "queue/io_timeout", "500"));
	ASSERT_EQ(0, block_attr(&self->disk, "io-timeout-fail", "1"));
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	for (unsigned int type = IN; type <= OUT; type++) {
		ASSERT_EQ(0, vt_fault_set("fail_io_timeout", "times", "1"));
		ASSERT_EQ(0, vt_fault_set("fail_io_timeout", "probability", "100"));
		start = vt_now_ms();
		EXPECT_EQ(IOERR, vt_io(self->q, type, 0, self->data, type ? 4 * VT_MIB : 4096));
		EXPECT_LE(400, vt_now_ms() - start);
		EXPECT_EQ(OK, vt_io(self->q, type, 0, self->data, 4096));
		ASSERT_EQ(0, vt_fault_set("fail_io_timeout", "probability", "0"));
		EXPECT_EQ(0, vt_good(self->q));
	}
}

static int scsi_debug_set(const char *attr, const char *value)
{
	char path[96];

	snprintf(path, sizeof(path), "/sys/bus/pseudo/drivers/scsi_debug/%s", attr);
	return vt_write_file(path, value);
}

/* H03: an error of the medium, with sense data */
TEST_F(faults, scsi_medium_error)
{
	/* where scsi_debug has its bad sectors: 4660 to 4669 */
	const uint64_t bad = 0x1234;

	if (vt_scsi_debug_create(&self->disk, 16, 512) == -ENODEV)
		SKIP(return, "no scsi_debug in this kernel");
	ASSERT_LE(0, self->disk.fd);
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	EXPECT_EQ(OK, vt_io(self->q, OUT, bad, self->data, 4096));
	EXPECT_EQ(OK, vt_io(self->q, IN, bad, self->data, 4096));
	ASSERT_EQ(0, scsi_debug_set("opts", "2"));
	EXPECT_EQ(OK, vt_io(self->q, IN, bad - 8, self->data, 4096));
	EXPECT_EQ(IOERR, vt_io(self->q, IN, bad, self->data, 4096));
	EXPECT_EQ(IOERR, vt_io(self->q, IN, bad - 7, self->data, 4096));
	EXPECT_EQ(IOERR, vt_io(self->q, IN, bad - 64, self->data + 1, 65536));
	EXPECT_EQ(IOERR, vt_io(self->q, IN, bad - 4096, self->data, 4 * VT_MIB));
	EXPECT_EQ(OK, vt_io(self->q, IN, bad + 10, self->data, 4096));
	ASSERT_EQ(0, scsi_debug_set("opts", "0"));
	EXPECT_EQ(OK, vt_io(self->q, IN, bad, self->data, 4096));
	EXPECT_EQ(0, vt_good(self->q));
}

/* H04: a command gets lost, the host aborts it and sends it again: late, and once */
TEST_F(faults, scsi_retry)
{
	struct vt_req req = { .type = OUT, .sector = 64, .data = self->data, .len = 4096 };
	int64_t start;

	if (vt_scsi_debug_create(&self->disk, 16, 512) == -ENODEV)
		SKIP(return, "no scsi_debug in this kernel");
	ASSERT_LE(0, self->disk.fd);
	ASSERT_EQ(0, block_attr(&self->disk, "device/timeout", "1"));
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	vt_fill(vt_ptr(&self->dev.mem, self->data), 4096, 1, 64);
	ASSERT_EQ(0, scsi_debug_set("opts", "4"));
	/* the next command of all */
	ASSERT_EQ(0, scsi_debug_set("every_nth", "1"));
	start = vt_now_ms();
	ASSERT_EQ(0, vt_req_submit(self->q, &req));
	ASSERT_EQ(0, vt_inflight_wait(&self->disk, 1));
	ASSERT_EQ(0, scsi_debug_set("every_nth", "0"));
	ASSERT_EQ(0, vt_req_wait(self->q, &req));
	EXPECT_EQ(OK, req.status);
	EXPECT_LE(900, vt_now_ms() - start);
	EXPECT_EQ(OK, vt_io(self->q, IN, 64, self->data + 8192, 4096));
	EXPECT_EQ(-1, vt_check(vt_ptr(&self->dev.mem, self->data + 8192), 4096, 1, 64));
	EXPECT_EQ(0, vt_good(self->q));
}

/* G10: the disk is removed with requests in flight; they and later ones end */
TEST_F(faults, removed)
{
	struct vt_null_opts opts = { .delay_ns = 300 * 1000 * 1000 };
	struct vt_req req[16];

	ASSERT_EQ(0, vt_null_create(&self->disk, "vbtgone", &opts));
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	for (unsigned int i = 0; i < ARRAY_SIZE(req); i++) {
		req[i] = (struct vt_req) {
			.type = i % 2 ? IN : OUT, .sector = 2048 * i, .data = self->data,
			.len = i % 3 ? 4096 : 2 * VT_MIB,
		};
		ASSERT_EQ(0, vt_req_submit(self->q, &req[i]));
	}
	ASSERT_EQ(0, vt_inflight_wait(&self->disk, 1));
	ASSERT_EQ(0, vt_null_attr("vbtgone", "power", "0"));
	for (unsigned int i = 0; i < ARRAY_SIZE(req); i++) {
		ASSERT_EQ(0, vt_req_wait(self->q, &req[i]));
		EXPECT_EQ(true, req[i].status == OK || req[i].status == IOERR);
	}
	EXPECT_EQ(IOERR, vt_io(self->q, IN, 0, self->data, 4096));
	EXPECT_EQ(IOERR, vt_io(self->q, OUT, 0, self->data, 4096));
	EXPECT_EQ(0, vt_detach(&self->dev));
}

static int loop_limit(int fd, uint64_t bytes)
{
	struct loop_info64 info;

	if (ioctl(fd, LOOP_GET_STATUS64, &info))
		return -errno;
	info.lo_sizelimit = bytes;
	return ioctl(fd, LOOP_SET_STATUS64, &info) ? -errno : 0;
}

/* G11: the disk shrinks and grows; the bound of a request follows at once */
TEST_F(faults, resized)
{
	ASSERT_EQ(0, vt_loop_create(&self->disk, 8 * VT_MIB, 512));
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	EXPECT_EQ(OK, vt_io(self->q, OUT, 16376, self->data, 4096));
	EXPECT_EQ(IOERR, vt_io(self->q, OUT, 16384, self->data, 4096));

	ASSERT_EQ(0, loop_limit(self->disk.fd, 4 * VT_MIB));
	EXPECT_EQ(IOERR, vt_io(self->q, OUT, 16376, self->data, 4096));
	EXPECT_EQ(IOERR, vt_io(self->q, IN, 8192, self->data, 512));
	EXPECT_EQ(OK, vt_io(self->q, OUT, 8184, self->data, 4096));

	ASSERT_EQ(0, loop_limit(self->disk.fd, 0));
	EXPECT_EQ(OK, vt_io(self->q, IN, 16376, self->data, 4096));
	EXPECT_EQ(IOERR, vt_io(self->q, IN, 16384, self->data, 512));
}

VT_TEST_MAIN
