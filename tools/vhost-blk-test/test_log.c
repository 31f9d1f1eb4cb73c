// SPDX-License-Identifier: GPL-2.0-only
/*
 * The dirty log of a live migration (group L): each page of guest memory that the
 * device writes to is marked, whatever it writes, however it gets there and
 * whenever logging is switched on.
 */
#include "vt_test.h"

#define IN		VIRTIO_BLK_T_IN
#define OUT		VIRTIO_BLK_T_OUT
#define GET_ID		VIRTIO_BLK_T_GET_ID
#define OK		VIRTIO_BLK_S_OK
#define IOERR		VIRTIO_BLK_S_IOERR
#define PAGE		VT_LOG_PAGE
#define FEATURES	(VT_F_BASE | VT_F_EVENT_IDX | VT_F_RANGES)
#define FILLED		(5 * VT_MIB)	/* of the disk */
#define LARGE		(4 * VT_MIB)

/* Where the device may write: nothing else is in here. */
struct areas {
	uint64_t low;		/* in region 1, LOW_BYTES */
	uint64_t high;		/* in region 2, HIGH_BYTES */
	uint64_t status;	/* STATUS_BYTES of status bytes */
};

#define LOW_BYTES	(8 * VT_MIB)
#define HIGH_BYTES	(VT_MIB / 2)
#define STATUS_BYTES	(256 * 1024UL)

static int areas_init(struct areas *a, struct vt_dev *dev)
{
	struct vt_queue *q = &dev->q[0];
	int r = 0;

	a->low = vt_alloc_in(&dev->mem, 1, LOW_BYTES, PAGE);
	a->high = vt_alloc_in(&dev->mem, 2, HIGH_BYTES, PAGE);
	a->status = vt_alloc_in(&dev->mem, 1, STATUS_BYTES, PAGE);
	memset(vt_ptr(&dev->mem, a->status), VT_STATUS_NONE, STATUS_BYTES);
	/* No two sectors of the disk are alike, nor like what memory holds now. */
	vt_fill(vt_ptr(&dev->mem, a->low), FILLED, 1, 0);
	r = vt_io(q, OUT, 0, a->low, FILLED);
	memset(vt_ptr(&dev->mem, a->low), 0, LOW_BYTES);
	return r;
}

FIXTURE(log) {
	struct vt_dev dev;
	struct vt_queue *q;
	struct vt_log log;
	struct areas area;
	struct vt_chain *c;
	uint64_t hdr;		/* in region 0 */
};

#define log_data FIXTURE_DATA(log)

FIXTURE_VARIANT(log) {
	uint64_t features;
	bool indirect;
};

FIXTURE_VARIANT_ADD(log, direct) { .features = FEATURES };
FIXTURE_VARIANT_ADD(log, indirect) {
	.features = FEATURES & ~VT_F_EVENT_IDX, .indirect = true,
};

FIXTURE_SETUP(log)
{
	struct vt_opts opts = { .features = variant->features, .indirect = variant->indirect };

	self->c = calloc(1, sizeof(*self->c));
	ASSERT_NE(NULL, self->c);
	ASSERT_EQ(0, vt_dev_init(&self->dev, &opts));
	ASSERT_EQ(0, vt_attach(&self->dev, vt_disk.fd));
	self->q = &self->dev.q[0];
	self->hdr = vt_alloc_in(&self->dev.mem, 0, 64, 16);
	ASSERT_EQ(0, vt_log_init(&self->log, &self->dev));
	ASSERT_EQ(0, areas_init(&self->area, &self->dev));
	ASSERT_EQ(0, vt_log_start(&self->log));
}

FIXTURE_TEARDOWN(log)
{
	EXPECT_EQ(0, vt_good(self->q));
	EXPECT_EQ(0, vt_queue_idle(self->q));
	EXPECT_EQ(0, vt_event_count(self->q->err, 0));
	EXPECT_EQ(0, vt_detach(&self->dev));
	vt_dev_fini(&self->dev);
	vt_log_fini(&self->log);
	free(self->c);
}

/* The bits may be set a moment after the request is back: wait for them. */
static int marked_wait(const struct vt_log *log, uint64_t gpa, uint64_t bytes)
{
	unsigned int want = (gpa + bytes - 1) / PAGE - gpa / PAGE + 1;
	int64_t end = vt_now_ms() + vt_timeout_ms();

	while (vt_log_count(log, gpa, bytes) < want) {
		if (vt_now_ms() > end)
			return -ETIMEDOUT;
		usleep(1000);
	}
	return 0;
}

static uint64_t used_bytes(const struct vt_queue *q)
{
	return sizeof(struct vring_used) + q->num * sizeof(struct vring_used_elem) + 2;
}

/* Pages of the range, of the used ring and of the status byte are marked, and no others. */
static void marks_check(struct __test_metadata *_metadata, log_data *self, uint64_t gpa,
			uint64_t bytes, uint64_t status)
{
	const struct vt_log *log = &self->log;
	uint64_t used = self->q->used_gpa;

	ASSERT_EQ(0, marked_wait(log, used, 4));
	ASSERT_EQ(0, marked_wait(log, status, 1));
	if (bytes)
		ASSERT_EQ(0, marked_wait(log, gpa, bytes));
	EXPECT_EQ(vt_log_count_all(log), (bytes ? vt_log_count(log, gpa, bytes) : 0) +
		  vt_log_count(log, used, used_bytes(self->q)) + 1) {
		TH_LOG("%lu bytes at %#lx", (unsigned long)bytes, (unsigned long)gpa);
	}
}

/* A request with its data and its status byte anywhere. Returns used.len, or -errno. */
static int request(log_data *self, uint32_t type, uint64_t sector, uint64_t gpa, uint32_t len,
		   uint64_t status, bool indirect)
{
	vt_hdr_write(&self->dev.mem, self->hdr, type, sector);
	vt_out(self->c, self->hdr, 16);
	if (len && type == OUT)
		vt_out(self->c, gpa, len);
	if (len && type != OUT)
		vt_in(self->c, gpa, len);
	vt_in(self->c, status, 1);
	return vt_chain_run(self->q, self->c, indirect);
}

/* L01, L02: aligned and bounced, short and of many bios, in every region and over two */
TEST_F(log, reads)
{
	static const uint32_t len[] = { 4096, 65536, 65536 + 4096, HIGH_BYTES - 8192, LARGE };
	static const uint32_t odd[] = { 0, 512, 1, 4095 };
	uint64_t status = self->area.status;

	for (unsigned int i = 0; i < ARRAY_SIZE(len); i++)
		for (unsigned int k = 0; k < ARRAY_SIZE(odd); k++) {
			uint64_t at[] = {
				self->area.low + odd[k], self->area.high + odd[k],
				vt_boundary(&self->dev.mem) - 2048 - odd[k],
			};

			for (unsigned int n = 0; n < ARRAY_SIZE(at); n++) {
				uint32_t bytes = n && len[i] > HIGH_BYTES - 8192 ? 8192 : len[i];
				uint8_t *p = vt_ptr(&self->dev.mem, at[n]);

				vt_log_clear(&self->log);
				status += 5;
				ASSERT_EQ((int)bytes + 1, request(self, IN, 8, at[n], bytes,
								  status, variant->indirect));
				ASSERT_EQ(-1, vt_check(p, bytes, 1, 8)) {
					TH_LOG("%u bytes to place %u, off by %u", bytes, n, odd[k]);
				}
				marks_check(_metadata, self, at[n], bytes, status);
			}
		}
}

/* L01: data in pieces here and there, with the status byte behind the last of them */
TEST_F(log, pieces)
{
	const uint64_t low = self->area.low;
	uint32_t bytes = 0;

	vt_log_clear(&self->log);
	vt_hdr_write(&self->dev.mem, self->hdr, IN, 0);
	vt_out(self->c, self->hdr, 16);
	for (unsigned int i = 0; i < 32; i++) {
		uint32_t len = i % 2 ? 4095 : 4097;

		vt_in(self->c, low + i * 5 * PAGE + i * 77, len);
		bytes += len;
	}
	vt_in(self->c, self->area.high + PAGE - 1, 1);
	vt_in(self->c, self->area.high + 3 * PAGE - 2000, 4095);
	bytes += 4096;
	vt_in(self->c, self->area.status + 9 * PAGE, 1);
	ASSERT_EQ((int)bytes + 1, vt_chain_run(self->q, self->c, variant->indirect));
	for (unsigned int i = 0; i < 32; i++)
		ASSERT_EQ(0, marked_wait(&self->log, low + i * 5 * PAGE + i * 77, 4095));
	ASSERT_EQ(0, marked_wait(&self->log, self->area.high, 1));
	ASSERT_EQ(0, marked_wait(&self->log, self->area.high + 3 * PAGE - 2000, 4095));
	ASSERT_EQ(0, marked_wait(&self->log, self->area.status + 9 * PAGE, 1));
	/* what lies between them was not written to */
	EXPECT_EQ(0, vt_log_count(&self->log, low + 3 * PAGE, PAGE));
	EXPECT_EQ(0, vt_log_count(&self->log, self->area.high + PAGE, PAGE));
	EXPECT_EQ(0, vt_log_count(&self->log, self->area.status, PAGE));
}

/* L01: the answer to GET_ID is written by other code */
TEST_F(log, get_id)
{
	const uint64_t at = self->area.low + 2 * PAGE - 10;

	for (unsigned int i = 0; i < 2; i++) {
		vt_log_clear(&self->log);
		ASSERT_EQ(21, request(self, GET_ID, 0, at + i * 10, 20, self->area.status + i,
				      variant->indirect));
		marks_check(_metadata, self, at + i * 10, 20, self->area.status + i);
	}
}

/* L02, L03: what is not read into memory leaves its status byte there, and that is all */
TEST_F(log, no_data)
{
	uint64_t range = self->area.low + 16 * PAGE, status = self->area.status;

	vt_range_write(&self->dev.mem, range, 0, 0, 8, 0);
	vt_log_clear(&self->log);
	ASSERT_EQ(1, request(self, OUT, 0, self->area.low, 65536, status, variant->indirect));
	ASSERT_EQ(1, request(self, OUT, 0, self->area.low + 1, 65536, status, variant->indirect));
	ASSERT_EQ(1, request(self, OUT, 0, self->area.low, LARGE, status, variant->indirect));
	ASSERT_EQ(1, request(self, VIRTIO_BLK_T_FLUSH, 0, 0, 0, status, variant->indirect));
	marks_check(_metadata, self, 0, 0, status);
	/* refused ones */
	vt_log_clear(&self->log);
	ASSERT_EQ(1, request(self, 99, 0, 0, 0, status + PAGE, variant->indirect));
	marks_check(_metadata, self, 0, 0, status + PAGE);
	vt_log_clear(&self->log);
	ASSERT_EQ(1, request(self, IN, UINT64_MAX, self->area.low, 4096, status,
			     variant->indirect));
	ASSERT_EQ(0, marked_wait(&self->log, status, 1));
	ASSERT_EQ(0, marked_wait(&self->log, self->q->used_gpa, 4));
}

/* L03: ranges, too */
TEST_F(log, ranges)
{
	uint64_t gpa = self->area.low + 16 * PAGE;

	vt_log_clear(&self->log);
	for (unsigned int i = 0; i < VT_RANGES_MAX; i++)
		vt_range_write(&self->dev.mem, gpa, i, 64 * i, 32, 0);
	/* on the side of the driver: OUT's */
	vt_hdr_write(&self->dev.mem, self->hdr, VIRTIO_BLK_T_WRITE_ZEROES, 0);
	vt_out(self->c, self->hdr, 16);
	vt_out(self->c, gpa, VT_RANGES_MAX * VT_RANGE_BYTES);
	vt_in(self->c, self->area.status, 1);
	ASSERT_EQ(1, vt_chain_run(self->q, self->c, variant->indirect));
	EXPECT_EQ(OK, vt_status_read(&self->dev.mem, self->area.status));
	marks_check(_metadata, self, 0, 0, self->area.status);
}

/* Off means off, and on again means on. */
TEST_F(log, off_and_on)
{
	uint64_t status = self->area.status;
	unsigned int all;

	for (unsigned int i = 0; i < 3; i++) {
		ASSERT_EQ(0, vt_log_stop(&self->log));
		vt_log_clear(&self->log);
		ASSERT_EQ(4097, request(self, IN, 8, self->area.low, 4096, status, false));
		ASSERT_EQ(4097, request(self, IN, 8, self->area.low + 1, 4096, status, false));
		ASSERT_EQ(0, vt_log_start(&self->log));
		/* switching it on writes nothing but the used ring, perhaps just now */
		all = vt_log_count_all(&self->log);
		EXPECT_LE(all, vt_log_count(&self->log, self->q->used_gpa, used_bytes(self->q)));
		ASSERT_EQ(4097, request(self, IN, 8, self->area.high, 4096, status, false));
		marks_check(_metadata, self, self->area.high, 4096, status);
	}
}

/* Whoever wants to know of it is told by an eventfd. */
TEST_F(log, eventfd)
{
	int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), none = -1;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, vt_ioctl(self->dev.fd, VHOST_SET_LOG_FD, &fd, sizeof(fd)));
	ASSERT_EQ(4097, request(self, IN, 8, self->area.low, 4096, self->area.status, false));
	EXPECT_NE(0, vt_event_count(fd, vt_timeout_ms()));
	ASSERT_EQ(0, vt_ioctl(self->dev.fd, VHOST_SET_LOG_FD, &none, sizeof(none)));
	vt_event_count(fd, 0);
	ASSERT_EQ(4097, request(self, IN, 8, self->area.low, 4096, self->area.status, false));
	EXPECT_EQ(0, vt_event_count(fd, 0));
	close(fd);
}

/* L05: a log where no log can be */
TEST_F(log, bad_base)
{
	void *const kernel = (void *)0xffffffff81000000UL, *const last = (void *)-4096UL;
	uint64_t features = self->dev.features;

	/* refused while it is in use; the old one stays */
	EXPECT_EQ(-EFAULT, vt_log_base(&self->dev, kernel));
	EXPECT_EQ(-EFAULT, vt_log_base(&self->dev, last));
	vt_log_clear(&self->log);
	ASSERT_EQ(4097, request(self, IN, 8, self->area.low, 4096, self->area.status, false));
	marks_check(_metadata, self, self->area.low, 4096, self->area.status);
	/* accepted while logging is off, but then it cannot be switched on */
	ASSERT_EQ(0, vt_log_stop(&self->log));
	if (vt_log_base(&self->dev, kernel) == 0)
		EXPECT_EQ(-EFAULT, vt_log_features(&self->dev, true));
	ASSERT_EQ(4097, request(self, IN, 8, self->area.low, 4096, self->area.status, false));
	/* nor can a device be attached that was told to */
	ASSERT_EQ(0, vt_detach(&self->dev));
	EXPECT_EQ(0, vt_log_base(&self->dev, kernel));
	if (vt_log_features(&self->dev, true) == 0)
		EXPECT_EQ(-EFAULT, vt_attach(&self->dev, vt_disk.fd));
	ASSERT_EQ(0, vt_log_base(&self->dev, self->log.bits));
	ASSERT_EQ(0, vt_ioctl(self->dev.fd, VHOST_SET_FEATURES, &features, sizeof(features)));
	ASSERT_EQ(0, vt_attach(&self->dev, vt_disk.fd));
}

/* F02: nothing but logging may be switched while the device is in use */
TEST_F(log, other_features)
{
	uint64_t features = self->dev.features | VT_F(VHOST_F_LOG_ALL), other;

	EXPECT_EQ(0, vt_ioctl(self->dev.fd, VHOST_SET_FEATURES, &features, 8));
	other = features ^ VT_F_EVENT_IDX;
	EXPECT_EQ(-EBUSY, vt_ioctl(self->dev.fd, VHOST_SET_FEATURES, &other, 8));
	other = (self->dev.features ^ VT_F_FLUSH) & ~VT_F(VHOST_F_LOG_ALL);
	EXPECT_EQ(-EBUSY, vt_ioctl(self->dev.fd, VHOST_SET_FEATURES, &other, 8));
	/* and it still is on */
	vt_log_clear(&self->log);
	ASSERT_EQ(4097, request(self, IN, 8, self->area.low, 4096, self->area.status, false));
	marks_check(_metadata, self, self->area.low, 4096, self->area.status);
}

/* The log's memory goes away: the host is fine, the queue can be used again. */
TEST_F(log, unmapped)
{
	size_t at = self->area.low / PAGE / 8 / 4096 * 4096;
	struct vt_used u;

	ASSERT_EQ(0, munmap(self->log.bits + at, 4096));
	vt_hdr_write(&self->dev.mem, self->hdr, IN, 8);
	vt_out(self->c, self->hdr, 16);
	vt_in(self->c, self->area.low, 65536);
	vt_in(self->c, self->area.status, 1);
	ASSERT_LE(0, vt_submit(self->q, self->c->seg, self->c->n, false));
	self->c->n = 0;
	/* It comes back, called for or not. */
	EXPECT_EQ(0, vt_wait_polling(self->q, &u, vt_timeout_ms()));
	ASSERT_NE(MAP_FAILED, mmap(self->log.bits + at, 4096, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	ASSERT_EQ(0, vt_detach(&self->dev));
	vt_event_count(self->q->err, 0);
	ASSERT_EQ(0, vt_attach(&self->dev, vt_disk.fd));
	vt_log_clear(&self->log);
	ASSERT_EQ(4097, request(self, IN, 8, self->area.low, 4096, self->area.status, false));
	marks_check(_metadata, self, self->area.low, 4096, self->area.status);
}

/* ---- under load ---- */

#define NR_QUEUES	2
#define NR_JOBS		16	/* in flight on each queue */

struct job {
	uint64_t hdr;
	int head;
	bool busy;
};

/* Reads from anywhere on the disk to anywhere in memory; writes now and then. */
struct reader {
	struct vt_queue *q;
	const struct areas *area;
	bool only_out;
	bool stop;
	uint64_t random;
	uint64_t nr_done;
	int error;
	pthread_t thread;
	struct job job[NR_JOBS];
};

FIXTURE(proof) {
	struct vt_dev dev;
	struct vt_bdev delay;
	struct vt_log log;
	struct areas area;
	struct reader reader[NR_QUEUES];
	uint8_t *snapshot;
};

#define proof_data FIXTURE_DATA(proof)

FIXTURE_SETUP(proof)
{
	struct vt_opts opts = { .features = FEATURES, .nr_queues = NR_QUEUES };

	self->delay.fd = -1;
	ASSERT_EQ(0, vt_dev_init(&self->dev, &opts));
	ASSERT_EQ(0, vt_attach(&self->dev, vt_disk.fd));
	ASSERT_EQ(0, vt_log_init(&self->log, &self->dev));
	ASSERT_EQ(0, areas_init(&self->area, &self->dev));
	self->snapshot = malloc(self->dev.mem.size);
	ASSERT_NE(NULL, self->snapshot);
	for (unsigned int i = 0; i < NR_QUEUES; i++) {
		struct reader *r = &self->reader[i];

		*r = (struct reader) { .q = &self->dev.q[i], .area = &self->area, .random = i + 1 };
		for (unsigned int k = 0; k < NR_JOBS; k++)
			r->job[k].hdr = vt_alloc_in(&self->dev.mem, 0, 16, 16);
	}
}

FIXTURE_TEARDOWN(proof)
{
	for (unsigned int i = 0; i < NR_QUEUES; i++) {
		EXPECT_EQ(0, vt_queue_idle(&self->dev.q[i]));
		EXPECT_EQ(0, vt_event_count(self->dev.q[i].err, 0));
		EXPECT_EQ(0, vt_good(&self->dev.q[i]));
	}
	EXPECT_EQ(0, vt_detach(&self->dev));
	vt_dev_fini(&self->dev);
	vt_log_fini(&self->log);
	vt_bdev_destroy(&self->delay);
	free(self->snapshot);
}

static uint32_t rnd(struct reader *r, uint32_t below)
{
	r->random = r->random * 6364136223846793005ULL + 1442695040888963407ULL;
	return (r->random >> 33) % below;
}

static uint32_t any_type(struct reader *r)
{
	uint32_t kind = rnd(r, 32);

	if (r->only_out)
		return kind % 8 ? OUT : VIRTIO_BLK_T_FLUSH;
	return kind == 0 ? GET_ID : kind == 1 ? OUT : kind == 2 ? VIRTIO_BLK_T_FLUSH :
	       kind == 3 ? 99 : IN;
}

static uint32_t any_length(struct reader *r, uint32_t type)
{
	uint32_t kind = rnd(r, 64);

	if (type == VIRTIO_BLK_T_FLUSH || type == 99)
		return 0;
	if (type == GET_ID)
		return 20;
	if (kind == 0)
		return LARGE;
	return kind < 32 ? 4096 : VT_SECTOR * (1 + rnd(r, kind < 60 ? 32 : 512));
}

static int job_start(struct reader *r, struct job *job)
{
	struct vt_mem *mem = &r->q->dev->mem;
	uint32_t type = any_type(r), len = any_length(r, type);
	bool high = len < HIGH_BYTES / 2 && rnd(r, 8) == 0;
	uint32_t odd = rnd(r, 4) ? 0 : rnd(r, 4096);
	uint64_t room = (high ? HIGH_BYTES : LOW_BYTES) - len - odd, data;
	uint16_t flags = type == OUT ? 0 : VRING_DESC_F_WRITE;
	struct vt_seg seg[4] = { { job->hdr, 16, 0 } };
	unsigned int n = 1;

	vt_hdr_write(mem, job->hdr, type, rnd(r, (FILLED - LARGE) / VT_SECTOR));
	data = (high ? r->area->high : r->area->low) + rnd(r, room / PAGE) * PAGE + odd;
	if (len) {
		uint32_t first = rnd(r, 2) ? len : 1 + rnd(r, len);

		seg[n++] = (struct vt_seg) { data, first, flags };
		if (first < len)
			seg[n++] = (struct vt_seg) { data + first, len - first, flags };
	}
	seg[n++] = (struct vt_seg) {
		r->area->status + rnd(r, STATUS_BYTES), 1, VRING_DESC_F_WRITE
	};
	job->head = vt_add(r->q, seg, n, rnd(r, 2));
	job->busy = job->head >= 0;
	return job->busy ? 0 : job->head;
}

static int jobs_reap(struct reader *r)
{
	struct vt_used u;
	int ret = vt_wait(r->q, &u);

	while (!ret) {
		for (unsigned int i = 0; i < NR_JOBS; i++)
			if (r->job[i].head == u.head)
				r->job[i].busy = false;
		__atomic_fetch_add(&r->nr_done, 1, __ATOMIC_RELEASE);
		ret = vt_used_get(r->q, &u);
		if (ret <= 0)
			return ret;
		ret = 0;
	}
	return ret;
}

static void *reader_run(void *arg)
{
	struct reader *r = arg;

	while (!r->error) {
		bool stop = __atomic_load_n(&r->stop, __ATOMIC_ACQUIRE);

		for (unsigned int i = 0; i < NR_JOBS && !stop && !r->error; i++)
			if (!r->job[i].busy)
				r->error = job_start(r, &r->job[i]);
		if (!r->q->inflight)
			break;
		vt_publish(r->q);
		vt_kick_needed(r->q);
		if (!r->error)
			r->error = jobs_reap(r);
	}
	return NULL;
}

static void readers_start(struct __test_metadata *_metadata, proof_data *self)
{
	for (unsigned int i = 0; i < NR_QUEUES; i++) {
		self->reader[i].stop = false;
		ASSERT_EQ(0, pthread_create(&self->reader[i].thread, NULL, reader_run,
					    &self->reader[i]));
	}
}

static void readers_go_on(struct __test_metadata *_metadata, proof_data *self, unsigned int nr)
{
	int64_t end = vt_now_ms() + vt_timeout_ms();

	for (unsigned int i = 0; i < NR_QUEUES; i++) {
		struct reader *r = &self->reader[i];
		uint64_t goal = __atomic_load_n(&r->nr_done, __ATOMIC_ACQUIRE) + nr;

		while (__atomic_load_n(&r->nr_done, __ATOMIC_ACQUIRE) < goal) {
			ASSERT_EQ(0, r->error);
			ASSERT_GT(end, vt_now_ms());
			usleep(1000);
		}
	}
}

static void readers_stop(struct __test_metadata *_metadata, proof_data *self)
{
	for (unsigned int i = 0; i < NR_QUEUES; i++) {
		__atomic_store_n(&self->reader[i].stop, true, __ATOMIC_RELEASE);
		pthread_join(self->reader[i].thread, NULL);
		EXPECT_EQ(0, self->reader[i].error);
	}
}

/* Only the driver writes to region 0, but for the used rings. */
static bool is_drivers(const struct vt_dev *dev, uint64_t gpa)
{
	if (gpa - dev->mem.region[0].gpa >= dev->mem.region[0].size - VT_MIB)
		return false;
	for (unsigned int i = 0; i < dev->nr_queues; i++)
		if (gpa / PAGE == dev->q[i].used_gpa / PAGE)
			return false;
	return true;
}

/*
 * Compare memory with what it was, page by page. How many differ; @unlogged: how
 * many of these are not marked, and @first of them.
 */
static unsigned int memory_compare(const proof_data *self, unsigned int *unlogged,
				   uint64_t *first)
{
	const struct vt_mem *mem = &self->dev.mem;
	unsigned int nr = 0;

	*unlogged = 0;
	for (unsigned int i = 0; i < VT_NR_REGIONS; i++)
		for (size_t at = 0; at < mem->region[i].size; at += PAGE) {
			uint64_t gpa = mem->region[i].gpa + at;
			size_t offset = mem->region[i].offset + at;

			if (is_drivers(&self->dev, gpa) ||
			    !memcmp(mem->view + offset, self->snapshot + offset, PAGE))
				continue;
			nr++;
			if (vt_log_has(&self->log, gpa))
				continue;
			if (!*unlogged)
				*first = gpa;
			++*unlogged;
		}
	return nr;
}

static void memory_check(struct __test_metadata *_metadata, const proof_data *self,
			 unsigned int at_least)
{
	unsigned int nr, unlogged;
	uint64_t first = 0;

	nr = memory_compare(self, &unlogged, &first);
	EXPECT_LE(at_least, nr);
	EXPECT_EQ(0, unlogged) {
		TH_LOG("%u pages changed, %u of them unlogged, the first at %#lx", nr, unlogged,
		       (unsigned long)first);
	}
}

static void snapshot(proof_data *self)
{
	memcpy(self->snapshot, self->dev.mem.view, self->dev.mem.size);
}

/* The proof: what changes after logging was switched on is marked, all of it. */
TEST_F_TIMEOUT(proof, under_load, 3600)
{
	readers_start(_metadata, self);
	for (unsigned int i = 0; i < vt_loops(5); i++) {
		readers_go_on(_metadata, self, 1 + i % 20);
		ASSERT_EQ(0, vt_log_start(&self->log));
		snapshot(self);
		readers_go_on(_metadata, self, 30);
		/* as a migration ends: the device stops, then the log is read for the last time */
		ASSERT_EQ(0, vt_detach(&self->dev));
		memory_check(_metadata, self, 10);
		ASSERT_EQ(0, vt_log_stop(&self->log));
		ASSERT_EQ(0, vt_attach(&self->dev, vt_disk.fd));
	}
	readers_stop(_metadata, self);
}

/*
 * As a migration goes on: bits are taken and memory is copied while the device
 * runs; in the end the copy is what memory is.
 */
TEST_F_TIMEOUT(proof, migration, 3600)
{
	struct vt_mem *mem = &self->dev.mem;

	for (unsigned int round = 0; round < vt_loops(1); round++) {
		unsigned int unlogged;
		uint64_t first = 0;

		readers_start(_metadata, self);
		readers_go_on(_metadata, self, 5);
		ASSERT_EQ(0, vt_log_start(&self->log));
		snapshot(self);
		for (unsigned int pass = 0; pass < 6; pass++) {
			readers_go_on(_metadata, self, 20);
			if (pass == 5)
				ASSERT_EQ(0, vt_detach(&self->dev));
			for (size_t i = 0; i < self->log.bytes; i++) {
				uint8_t bits = __atomic_exchange_n(&self->log.bits[i], 0,
								   __ATOMIC_SEQ_CST);

				for (unsigned int b = 0; b < 8; b++) {
					uint8_t *p = vt_ptr(mem, (i * 8 + b) * PAGE);

					if (p && bits & 1 << b)
						memcpy(self->snapshot + (p - mem->view), p, PAGE);
				}
			}
		}
		EXPECT_EQ(0, memory_compare(self, &unlogged, &first)) {
			TH_LOG("%u pages differ, the first at %#lx", unlogged,
			       (unsigned long)first);
		}
		ASSERT_EQ(0, vt_log_stop(&self->log));
		ASSERT_EQ(0, vt_attach(&self->dev, vt_disk.fd));
		readers_stop(_metadata, self);
	}
}

/* L03: of a load that only writes, status bytes and used rings are all there is */
TEST_F(proof, only_out)
{
	unsigned int expected = 0;

	for (unsigned int i = 0; i < NR_QUEUES; i++)
		self->reader[i].only_out = true;
	ASSERT_EQ(0, vt_log_start(&self->log));
	snapshot(self);
	readers_start(_metadata, self);
	readers_go_on(_metadata, self, 50);
	readers_stop(_metadata, self);
	ASSERT_EQ(0, vt_detach(&self->dev));
	memory_check(_metadata, self, 1);
	expected = vt_log_count(&self->log, self->area.status, STATUS_BYTES);
	EXPECT_LE(1, expected);
	for (unsigned int i = 0; i < NR_QUEUES; i++)
		expected += vt_log_count(&self->log, self->dev.q[i].used_gpa,
					 used_bytes(&self->dev.q[i]));
	EXPECT_EQ(expected, vt_log_count_all(&self->log));
	ASSERT_EQ(0, vt_log_stop(&self->log));
	ASSERT_EQ(0, vt_attach(&self->dev, vt_disk.fd));
}

/* L04: on and off as fast as it goes, with data checked and all requests answered */
TEST_F(proof, toggled)
{
	readers_start(_metadata, self);
	for (unsigned int i = 0; i < vt_loops(20); i++) {
		ASSERT_EQ(0, vt_log_start(&self->log));
		if (i % 4 == 0)
			readers_go_on(_metadata, self, 2);
		ASSERT_EQ(0, vt_log_stop(&self->log));
		if (i % 8 == 0)
			readers_go_on(_metadata, self, 2);
	}
	readers_go_on(_metadata, self, 20);
	readers_stop(_metadata, self);
}

/* L04: as above, with a load that checks its data */
TEST_F(proof, toggled_verified)
{
	struct vt_load load[NR_QUEUES];

	/* room that the areas have taken */
	vt_load_spread(load, NR_QUEUES, &self->dev, &vt_disk);
	for (unsigned int i = 0; i < NR_QUEUES; i++) {
		load[i].nr_sectors = 1024;
		ASSERT_EQ(0, vt_load_start(&load[i]));
	}
	for (unsigned int i = 0; i < vt_loops(10); i++) {
		ASSERT_EQ(0, vt_log_start(&self->log));
		vt_loads_go_on(_metadata, load, NR_QUEUES, 3);
		ASSERT_EQ(0, vt_log_stop(&self->log));
		vt_loads_go_on(_metadata, load, NR_QUEUES, 1);
	}
	vt_loads_stop(_metadata, load, NR_QUEUES);
}

/*
 * Requests that were fetched without logging and are still under way when it is
 * switched on: when that returns, nothing changes any more that is not marked.
 */
TEST_F(proof, slow_reads)
{
	static const uint32_t len[] = { 4096, LARGE, 65536, 200 * 1024 };
	struct vt_req req[ARRAY_SIZE(len)];
	struct vt_queue *q = &self->dev.q[0];
	int r = vt_delay_create(&self->delay, "vbtlog", &vt_disk,
				(struct vt_delay) { 100, 100, 100 });

	if (r == -ENODEV || r == -ENOENT)
		SKIP(return, "no dm-delay in this kernel, or no dmsetup here");
	ASSERT_EQ(0, r);
	ASSERT_EQ(0, vt_detach(&self->dev));
	ASSERT_EQ(0, vt_attach(&self->dev, self->delay.fd));
	for (unsigned int round = 0; round < 2; round++) {
		uint64_t at = self->area.low;

		memset(vt_ptr(&self->dev.mem, at), 0x33, LOW_BYTES);
		for (unsigned int i = 0; i < ARRAY_SIZE(len); i++) {
			req[i] = (struct vt_req) {
				.type = IN, .data = at, .len = len[i],
			};
			/* some of them bounced, but no more than a few times 64 KiB */
			req[i].data += i > 1 && (i + round) % 2;
			at += len[i] + 2 * PAGE;
			ASSERT_EQ(0, vt_req_submit(q, &req[i]));
		}
		ASSERT_EQ(0, vt_fetched_wait(q));
		ASSERT_EQ(0, vt_log_start(&self->log));
		snapshot(self);
		ASSERT_EQ(0, vt_wait_all(q));
		for (unsigned int i = 0; i < ARRAY_SIZE(len); i++)
			EXPECT_EQ(OK, req[i].status);
		ASSERT_EQ(0, vt_detach(&self->dev));
		memory_check(_metadata, self, 0);
		ASSERT_EQ(0, vt_log_stop(&self->log));
		ASSERT_EQ(0, vt_attach(&self->dev, self->delay.fd));
	}
	ASSERT_EQ(0, vt_detach(&self->dev));
	ASSERT_EQ(0, vt_attach(&self->dev, vt_disk.fd));
}

/* H01: reads that fail, all or part of them: what they left in memory is marked */
TEST_F(proof, failed_reads)
{
	struct vt_queue *q = &self->dev.q[0];

	ASSERT_EQ(0, vt_log_start(&self->log));
	snapshot(self);
	ASSERT_EQ(0, vt_null_attr(vt_disk.name, "badblocks", "+4096-4096"));
	EXPECT_EQ(IOERR, vt_io(q, IN, 4090, self->area.low, 8192));
	EXPECT_EQ(IOERR, vt_io(q, IN, 0, self->area.low + 16 * PAGE, LARGE));
	EXPECT_EQ(IOERR, vt_io(q, IN, 3900, self->area.low + LARGE + 32 * PAGE + 1, 256 * 1024));
	ASSERT_EQ(0, vt_null_attr(vt_disk.name, "badblocks", "-4096-4096"));
	ASSERT_EQ(0, vt_detach(&self->dev));
	memory_check(_metadata, self, 0);
	ASSERT_EQ(0, vt_log_stop(&self->log));
	ASSERT_EQ(0, vt_attach(&self->dev, vt_disk.fd));
}

VT_TEST_MAIN
