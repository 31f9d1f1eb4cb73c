// SPDX-License-Identifier: GPL-2.0-only
/*
 * H04: a disk that refuses every second request for now, so that the block
 * layer sends it again. That has to be asked for when null_blk is loaded, so
 * this program loads it itself. Needs a kernel whose null_blk can do so.
 */
#include "vt_test.h"

#define NR_LOAD		24
#define SECTORS_APART	2048	/* 1 MiB */

FIXTURE(requeue) {
	struct vt_dev dev;
	struct vt_bdev disk;
	struct vt_event requeues;
	struct vt_req load[NR_LOAD];
};

#define requeue_data FIXTURE_DATA(requeue)

FIXTURE_VARIANT(requeue) {
	unsigned long delay_ns;
	bool indirect;
};

FIXTURE_VARIANT_ADD(requeue, at_once) { .indirect = true };
FIXTURE_VARIANT_ADD(requeue, delayed) { .delay_ns = 5 * 1000 * 1000 };

FIXTURE_SETUP(requeue)
{
	struct vt_null_opts null = { .delay_ns = variant->delay_ns };
	struct vt_opts opts = { .indirect = variant->indirect };

	ASSERT_EQ(0, vt_null_create(&self->disk, "vbtrequeue", &null));
	ASSERT_EQ(0, vt_dev_init(&self->dev, &opts));
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
}

FIXTURE_TEARDOWN(requeue)
{
	EXPECT_EQ(0, vt_queue_idle(&self->dev.q[0]));
	EXPECT_EQ(0, vt_detach(&self->dev));
	EXPECT_EQ(0, vt_inflight(&self->disk));
	vt_dev_fini(&self->dev);
	EXPECT_EQ(0, vt_exclusive(&self->disk));
	vt_event_stop(&self->requeues);
	vt_bdev_destroy(&self->disk);
}

/* All at once, in sizes that take one bio, several, and bounce pages. */
static void load_run(struct __test_metadata *_metadata, requeue_data *self,
		     uint32_t type, unsigned int seed)
{
	static const uint32_t len[] = { 4096, 512, 65536, VT_MIB };
	struct vt_mem *mem = &self->dev.mem;
	size_t mark = mem->region[1].used;

	for (int i = 0; i < NR_LOAD; i++) {
		struct vt_req *req = &self->load[i];

		*req = (struct vt_req) {
			.type = type, .len = len[i % ARRAY_SIZE(len)], .sector = i * SECTORS_APART,
		};
		req->data = vt_alloc(mem, req->len + 4096) + i % 3;
		if (type == VIRTIO_BLK_T_OUT)
			vt_fill(vt_ptr(mem, req->data), req->len, seed, req->sector);
		else
			memset(vt_ptr(mem, req->data), 0, req->len);
		ASSERT_EQ(0, vt_req_add(&self->dev.q[0], req));
	}
	vt_publish(&self->dev.q[0]);
	vt_kick(&self->dev.q[0]);
	/* an answer that comes twice is an error here */
	ASSERT_EQ(0, vt_wait_all(&self->dev.q[0]));
	for (int i = 0; i < NR_LOAD; i++) {
		struct vt_req *req = &self->load[i];

		EXPECT_EQ(VIRTIO_BLK_S_OK, req->status);
		EXPECT_EQ(-1, vt_check(vt_ptr(mem, req->data), req->len, seed, req->sector));
	}
	mem->region[1].used = mark;
}

TEST_F_TIMEOUT(requeue, all_come_back_once, 300)
{
	if (access("/sys/module/null_blk/parameters/requeue", F_OK))
		SKIP(return, "no fault injection in this kernel's null_blk");
	ASSERT_EQ(0, vt_event_start(&self->requeues, "block/block_rq_requeue"));
	for (unsigned int i = 0; i < vt_loops(10); i++) {
		load_run(_metadata, self, VIRTIO_BLK_T_OUT, i);
		load_run(_metadata, self, VIRTIO_BLK_T_IN, i);
		EXPECT_EQ(VIRTIO_BLK_S_OK,
			  vt_io(&self->dev.q[0], VIRTIO_BLK_T_FLUSH, 0, 0, 0));
	}
	EXPECT_EQ(0, vt_good(&self->dev.q[0]));
	EXPECT_LT(NR_LOAD, vt_event_count_all(&self->requeues));
}

/*
 * -EAGAIN if one of its disks is in use, 0 also if it is not loaded. A file system
 * that was on one lets go of it a moment after it was unmounted.
 */
static int null_blk_unload(void)
{
	int64_t end = vt_now_ms() + vt_timeout_ms();

	while (syscall(SYS_delete_module, "null_blk", O_NONBLOCK)) {
		if (errno == ENOENT)
			return 0;
		if (errno != EAGAIN || vt_now_ms() > end)
			return -errno;
		usleep(10000);
	}
	return 0;
}

static void null_blk_reset(void)
{
	null_blk_unload();
}

int main(int argc, char **argv)
{
	int r = null_blk_unload();

	if (r || access(VT_DEV, R_OK | W_OK)) {
		ksft_print_header();
		ksft_exit_fail_msg("unloading null_blk: %s; %s and root are needed\n",
				   strerror(-r), VT_DEV);
	}
	/* every second, always, from the first on, without end */
	vt_modprobe("null_blk", "nr_devices=0 requeue=2,100,0,-1");
	/* The next program is to find it as it usually is. */
	atexit(null_blk_reset);
	return test_harness_run(argc, argv);
}
