// SPDX-License-Identifier: GPL-2.0-only
/* Kicks and calls: when they are owed, when they must not come, none lost. */
#include "vt_test.h"

FIXTURE(notify) {
	struct vt_dev dev;
	struct vt_queue *q;
	uint64_t data;
};

#define notify_data FIXTURE_DATA(notify)

FIXTURE_VARIANT(notify) { uint64_t features; };
FIXTURE_VARIANT_ADD(notify, event) { .features = VT_F_BASE | VT_F_EVENT_IDX };
FIXTURE_VARIANT_ADD(notify, noevent) { .features = VT_F_BASE };

static void setup(struct __test_metadata *_metadata, struct vt_dev *dev, uint64_t features,
		  unsigned int nr_queues)
{
	struct vt_opts opts = {
		.features = features, .nr_queues = nr_queues, .num = 256, .indirect = true,
	};

	ASSERT_EQ(0, vt_dev_init(dev, &opts));
	ASSERT_EQ(0, vt_attach(dev, vt_disk.fd));
}

FIXTURE_SETUP(notify)
{
	setup(_metadata, &self->dev, variant->features, 1);
	self->q = &self->dev.q[0];
	self->data = vt_alloc(&self->dev.mem, 65536);
}

FIXTURE_TEARDOWN(notify)
{
	EXPECT_EQ(0, vt_queue_idle(self->q));
	EXPECT_EQ(0, vt_detach(&self->dev));
	vt_dev_fini(&self->dev);
}

/* The cheapest request: the worker answers it without any I/O. */
static struct vt_req cheap(uint64_t data)
{
	return (struct vt_req) { .type = VIRTIO_BLK_T_GET_ID, .data = data, .len = 20 };
}

/* Run @nr cheap requests one after another, looking at the used ring only. */
static int run_unasked(struct vt_queue *q, uint64_t data, int nr)
{
	struct vt_req req = cheap(data);
	struct vt_used u;
	int r = 0;

	while (nr-- && !r) {
		r = vt_req_add(q, &req);
		vt_publish(q);
		vt_kick(q);
		r = r ?: vt_wait_polling(q, &u, vt_timeout_ms());
	}
	return r;
}

/* All calls so far and none later: a detach ends what the worker is about. */
static uint64_t calls_total(struct vt_dev *dev)
{
	vt_detach(dev);
	return vt_event_count(dev->q[0].call, 0);
}

/* E01: no call before the entry that was named, exactly one after it */
TEST(used_event)
{
	static const int gap[] = { 0, 1, 9, 200 };
	struct vt_dev dev;
	struct vt_queue *q = &dev.q[0];
	uint64_t data;

	setup(_metadata, &dev, VT_F_BASE | VT_F_EVENT_IDX, 1);
	data = vt_alloc(&dev.mem, 4096);
	for (unsigned int i = 0; i < ARRAY_SIZE(gap); i++) {
		/* the first completion after an attach always calls */
		ASSERT_EQ(0, run_unasked(q, data, 1));
		ASSERT_EQ(1, vt_event_count(q->call, vt_timeout_ms()));

		*vt_used_event(q) = q->used_idx + gap[i];
		ASSERT_EQ(0, run_unasked(q, data, gap[i]));
		EXPECT_EQ(0, vt_event_count(q->call, 0));
		ASSERT_EQ(0, run_unasked(q, data, 1));
		EXPECT_EQ(1, vt_event_count(q->call, vt_timeout_ms()));
		/* passed: not before the index comes round again */
		ASSERT_EQ(0, run_unasked(q, data, 20));
		EXPECT_EQ(0, calls_total(&dev));
		ASSERT_EQ(0, vt_attach(&dev, vt_disk.fd));
	}
	EXPECT_EQ(0, vt_detach(&dev));
	vt_dev_fini(&dev);
}

/* E02 */
TEST(no_interrupt)
{
	struct vt_dev dev;
	struct vt_queue *q = &dev.q[0];
	uint64_t data;

	setup(_metadata, &dev, VT_F_BASE, 1);
	data = vt_alloc(&dev.mem, 4096);
	q->avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	ASSERT_EQ(0, run_unasked(q, data, 20));
	EXPECT_EQ(0, calls_total(&dev));
	q->avail->flags = 0;
	ASSERT_EQ(0, vt_attach(&dev, vt_disk.fd));
	ASSERT_EQ(0, run_unasked(q, data, 20));
	EXPECT_EQ(20, calls_total(&dev));
	vt_dev_fini(&dev);
}

/* E02: a driver that acked it is called when the ring ran empty, asked for or not */
TEST(notify_on_empty)
{
	struct vt_dev dev;
	struct vt_queue *q = &dev.q[0];
	uint64_t data;

	setup(_metadata, &dev, VT_F_BASE | VT_F(VIRTIO_F_NOTIFY_ON_EMPTY), 1);
	data = vt_alloc(&dev.mem, 4096);
	q->avail->flags = VRING_AVAIL_F_NO_INTERRUPT;
	ASSERT_EQ(0, run_unasked(q, data, 20));
	EXPECT_EQ(20, calls_total(&dev));
	vt_dev_fini(&dev);
}

/* E03: one kick for many heads, each head's own kick, kicks for nothing */
TEST_F(notify, coalescing)
{
	struct vt_queue *q = self->q;
	struct vt_req req[64];

	for (int each = 0; each < 2; each++) {
		for (int i = 0; i < 64; i++) {
			req[i] = (struct vt_req) {
				.type = VIRTIO_BLK_T_IN, .sector = i, .len = 512,
				.data = self->data + 512 * i,
			};
			ASSERT_EQ(0, vt_req_add(q, &req[i]));
			if (each) {
				vt_publish(q);
				vt_kick(q);
			}
		}
		vt_publish(q);
		vt_kick(q);
		ASSERT_EQ(0, vt_wait_all(q));
	}
	for (int i = 0; i < 64; i++)
		vt_kick(q);
	EXPECT_EQ(0, vt_good(q));
	EXPECT_EQ(0, vt_event_count(q->err, 0));
}

/* What was published before the attach is served by the attach, without a kick. */
TEST_F(notify, attach_kicks)
{
	struct vt_req req = cheap(self->data);

	ASSERT_EQ(0, vt_detach(&self->dev));
	ASSERT_EQ(0, vt_req_add(self->q, &req));
	vt_publish(self->q);
	ASSERT_EQ(0, vt_attach(&self->dev, vt_disk.fd));
	EXPECT_EQ(0, vt_req_wait(self->q, &req));
	EXPECT_EQ(21, req.used_len);
}

static int64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

/*
 * E04: publish one request a varying moment after another, all through the time
 * that the first one takes: so also when the worker has found the ring empty
 * and not yet asked for a kick. Kick only when told to: a wakeup that is lost on
 * either side stalls the ring.
 */
static void two_apart(struct __test_metadata *_metadata, notify_data *self,
		      const struct vt_req *kind, unsigned int n, bool asleep)
{
	int64_t start, end, took = 10000;
	struct vt_queue *q = self->q;
	struct vt_req req[2];
	struct vt_used u;
	int r = 0;

	for (unsigned int i = 0; i < n; i++) {
		req[0] = *kind;
		req[1] = *kind;
		start = now_ns();
		ASSERT_EQ(0, vt_req_submit(q, &req[0]));
		end = start + took * (i * 7919 % 1000) / 1000;
		while (now_ns() < end)
			;
		ASSERT_EQ(0, vt_req_submit(q, &req[1]));
		end = start + vt_timeout_ms() * 1000000LL;
		while (q->inflight && r >= 0 && now_ns() < end)
			r = asleep ? vt_wait(q, &u) : vt_used_get(q, &u);
		ASSERT_EQ(0, q->inflight) {
			TH_LOG("round %u of %u got stuck: %d", i, n, r);
		}
		/* follows the usual time, whatever the machine */
		took += (now_ns() - start - took) / 16;
	}
}

TEST_F_TIMEOUT(notify, lost_wakeup, 1800)
{
	struct vt_req req = cheap(self->data);

	two_apart(_metadata, self, &req, vt_loops(10000), false);
	two_apart(_metadata, self, &req, vt_loops(2000), true);
}

/* The same where the worker does not sleep at once, as the disk will soon be done. */
TEST_F_TIMEOUT(notify, lost_wakeup_quick_disk, 1800)
{
	struct vt_null_opts opts = { .delay_ns = 10000, .volatile_data = true };
	struct vt_req req = { .type = VIRTIO_BLK_T_IN, .data = self->data, .len = 4096 };
	struct vt_bdev disk;

	ASSERT_EQ(0, vt_null_create(&disk, "vbtquick", &opts));
	ASSERT_EQ(0, vt_detach(&self->dev));
	ASSERT_EQ(0, vt_attach(&self->dev, disk.fd));
	two_apart(_metadata, self, &req, vt_loops(1500), false);
	two_apart(_metadata, self, &req, vt_loops(500), true);
	EXPECT_EQ(0, vt_detach(&self->dev));
	vt_bdev_destroy(&disk);
}

static int busyloop_set(struct vt_dev *dev, unsigned int usec)
{
	struct vhost_vring_state state = { .num = usec };

	return vt_ioctl(dev->fd, VHOST_SET_VRING_BUSYLOOP_TIMEOUT, &state, sizeof(state));
}

/* The same where the worker polls for requests, more or less long. */
TEST_F_TIMEOUT(notify, lost_wakeup_busy_polling, 1800)
{
	struct vt_req req = cheap(self->data);

	ASSERT_EQ(0, busyloop_set(&self->dev, 50));
	two_apart(_metadata, self, &req, vt_loops(1500), false);
	two_apart(_metadata, self, &req, vt_loops(300), true);
	ASSERT_EQ(0, busyloop_set(&self->dev, UINT32_MAX));
	two_apart(_metadata, self, &req, vt_loops(300), true);
}

/* How many kicks the device asks for in @n requests that are a little apart; -errno */
static int kicks_wanted(struct vt_queue *q, uint64_t data, int n)
{
	struct vt_used u;
	int kicks = 0, r;

	while (n--) {
		struct vt_req req = cheap(data);
		int64_t end;

		r = vt_req_add(q, &req);
		if (r)
			return r;
		vt_publish(q);
		kicks += vt_kick_needed(q);
		r = vt_wait_polling(q, &u, vt_timeout_ms());
		if (r)
			return r;
		end = now_ns() + 30000;
		while (now_ns() < end)
			;
	}
	return kicks;
}

/* A worker that polls sees a driver's next request without a kick. */
TEST_F_TIMEOUT(notify, busy_polling, 120)
{
	int asleep, polling;
	int64_t end;

	if (sysconf(_SC_NPROCESSORS_ONLN) < 2)
		SKIP(return, "the driver needs the one CPU");
	asleep = kicks_wanted(self->q, self->data, 300);
	ASSERT_LE(0, asleep);
	ASSERT_EQ(0, busyloop_set(&self->dev, 1000));
	/* On a busy machine it is seldom let: without, each request needs a kick. */
	end = vt_now_ms() + 10000;
	do {
		polling = kicks_wanted(self->q, self->data, 300);
		ASSERT_LE(0, polling);
	} while (polling >= asleep * 95 / 100 && vt_now_ms() < end);
	EXPECT_LT(polling, asleep * 95 / 100);
	TH_LOG("%d kicks, %d with polling", asleep, polling);
}

/* Nanoseconds that @n requests take, each followed by one to the other queue; -errno */
static int64_t turns_ns(struct vt_dev *dev, uint64_t data, int n)
{
	int64_t start = now_ns();

	for (int i = 0; i < 2 * n; i++) {
		struct vt_req req = cheap(data);
		struct vt_used u;
		int r = vt_req_submit(&dev->q[i & 1], &req);

		r = r ?: vt_wait_polling(&dev->q[i & 1], &u, vt_timeout_ms());
		if (r)
			return r;
	}
	return now_ns() - start;
}

/* What comes to another queue of the worker that polls one does not wait for that. */
TEST_F_TIMEOUT(notify, busy_polling_gives_way, 120)
{
	int64_t asleep, polling, end;
	struct vt_dev dev;
	uint64_t data;

	setup(_metadata, &dev, variant->features, 2);
	data = vt_alloc(&dev.mem, 4096);
	end = vt_now_ms() + 10000;
	do {
		ASSERT_EQ(0, busyloop_set(&dev, 0));
		asleep = turns_ns(&dev, data, 200);
		ASSERT_LT(0, asleep);
		ASSERT_EQ(0, busyloop_set(&dev, 1000));
		polling = turns_ns(&dev, data, 200);
		ASSERT_LT(0, polling);
	} while (polling >= asleep * 5 / 4 && vt_now_ms() < end);
	EXPECT_LT(polling, asleep * 5 / 4);
	TH_LOG("%lld us a turn, %lld us with polling", (long long)asleep / 200000,
	       (long long)polling / 200000);
	EXPECT_EQ(0, vt_detach(&dev));
	vt_dev_fini(&dev);
}

/* E05 */
TEST_F(notify, no_call_fd)
{
	struct vt_used u;
	struct vt_req req = cheap(self->data);

	ASSERT_EQ(0, vt_vring_fd(&self->dev, VHOST_SET_VRING_CALL, 0, VHOST_FILE_UNBIND));
	ASSERT_EQ(0, vt_req_submit(self->q, &req));
	ASSERT_EQ(0, vt_wait_polling(self->q, &u, vt_timeout_ms()));
	EXPECT_EQ(21, req.used_len);
	EXPECT_EQ(0, vt_event_count(self->q->call, 0));
	ASSERT_EQ(0, vt_vring_fd(&self->dev, VHOST_SET_VRING_CALL, 0, self->q->call));
	EXPECT_EQ(0, vt_good(self->q));
}

/* E05 */
TEST_F(notify, no_err_fd)
{
	ASSERT_EQ(0, vt_vring_fd(&self->dev, VHOST_SET_VRING_ERR, 0, VHOST_FILE_UNBIND));
	vt_add_head(self->q, 0xffff);
	vt_publish(self->q);
	vt_kick(self->q);
	EXPECT_EQ(0, vt_detach(&self->dev));
	EXPECT_EQ(0, vt_event_count(self->q->err, 0));
	ASSERT_EQ(0, vt_vring_reset(&self->dev, 0, 0));
	ASSERT_EQ(0, vt_attach(&self->dev, vt_disk.fd));
	EXPECT_EQ(0, vt_good(self->q));
}

/* E05: the call eventfd changes under load; every completion is told to one of them */
TEST_F(notify, call_fd_replaced)
{
	struct vt_queue *q = self->q;
	int other = eventfd(0, EFD_NONBLOCK), first = q->call;

	ASSERT_LE(0, other);
	for (int i = 0; i < 100; i++) {
		struct vt_req req = cheap(self->data);

		ASSERT_EQ(0, vt_req_submit(q, &req));
		q->call = i & 1 ? first : other;
		ASSERT_EQ(0, vt_vring_fd(&self->dev, VHOST_SET_VRING_CALL, 0, q->call));
		/* told through the one before: then the entry is there already */
		ASSERT_EQ(0, vt_req_wait(q, &req));
	}
	ASSERT_EQ(0, vt_vring_fd(&self->dev, VHOST_SET_VRING_CALL, 0, first));
	q->call = first;
	close(other);
}

/* E05 */
TEST_F(notify, kick_fd_replaced)
{
	struct vt_queue *q = self->q;
	struct vt_req req = cheap(self->data);
	int other = eventfd(0, EFD_NONBLOCK), first = q->kick;

	ASSERT_LE(0, other);
	ASSERT_EQ(0, vt_vring_fd(&self->dev, VHOST_SET_VRING_KICK, 0, other));
	q->kick = other;
	EXPECT_EQ(0, vt_good(q));

	/* unbound: a kick is nobody's; what was written is seen when it is bound again */
	ASSERT_EQ(0, vt_vring_fd(&self->dev, VHOST_SET_VRING_KICK, 0, VHOST_FILE_UNBIND));
	ASSERT_EQ(0, vt_req_add(q, &req));
	vt_publish(q);
	vt_kick(q);
	ASSERT_EQ(0, vt_vring_fd(&self->dev, VHOST_SET_VRING_KICK, 0, other));
	EXPECT_EQ(0, vt_req_wait(q, &req));

	ASSERT_EQ(0, vt_vring_fd(&self->dev, VHOST_SET_VRING_KICK, 0, first));
	q->kick = first;
	EXPECT_EQ(0, vt_good(q));
	close(other);
}

/* E06: two queues of a worker that never run dry */
TEST_F(notify, fairness)
{
	unsigned int done[2] = {}, depth = 64;
	struct vt_req req[2][64];
	struct vt_dev dev;
	uint64_t data;
	int64_t end;

	setup(_metadata, &dev, variant->features, 2);
	data = vt_alloc(&dev.mem, 4096);
	for (unsigned int i = 0; i < 2 * depth; i++) {
		req[i % 2][i / 2] = cheap(data);
		ASSERT_EQ(0, vt_req_submit(&dev.q[i % 2], &req[i % 2][i / 2]));
	}
	end = vt_now_ms() + 1000;
	while (vt_now_ms() < end) {
		for (int i = 0; i < 2; i++) {
			struct vt_queue *q = &dev.q[i];
			struct vt_used u;
			int r;

			while ((r = vt_used_get(q, &u)) == 1) {
				done[i]++;
				for (unsigned int j = 0; j < depth; j++)
					if (req[i][j].done)
						ASSERT_EQ(0, vt_req_add(q, &req[i][j]));
			}
			ASSERT_EQ(0, r);
			vt_publish(q);
			vt_kick_needed(q);
		}
	}
	TH_LOG("%u and %u", done[0], done[1]);
	EXPECT_LT(0.45 * (done[0] + done[1]), done[0]);
	EXPECT_LT(0.45 * (done[0] + done[1]), done[1]);
	EXPECT_EQ(0, vt_detach(&dev));
	vt_dev_fini(&dev);
}

VT_TEST_MAIN
