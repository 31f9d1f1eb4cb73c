// SPDX-License-Identifier: GPL-2.0-only
/* Counters and tracepoints: each request is told once, by its kind, with what came of it. */
#include "vt_test.h"

#define IN		VIRTIO_BLK_T_IN
#define OUT		VIRTIO_BLK_T_OUT
#define FLUSH		VIRTIO_BLK_T_FLUSH
#define GET_ID		VIRTIO_BLK_T_GET_ID
#define DISCARD		VIRTIO_BLK_T_DISCARD
#define ZEROES		VIRTIO_BLK_T_WRITE_ZEROES
#define ERASE		VIRTIO_BLK_T_SECURE_ERASE
#define OK		VIRTIO_BLK_S_OK
#define IOERR		VIRTIO_BLK_S_IOERR
#define UNSUPP		VIRTIO_BLK_S_UNSUPP
#define FEATURES	(VT_F_BASE | VT_F_EVENT_IDX | VT_F_RANGES)
#define DELAY_NS	(2 * 1000 * 1000)

FIXTURE(stats) {
	struct vt_dev dev;
	struct vt_bdev disk;
	struct vt_event event;
	struct vhost_blk_stats seen;
	uint64_t data, ranges;
};

#define stats_data FIXTURE_DATA(stats)

FIXTURE_SETUP(stats)
{
	struct vt_null_opts null = { .mib = 8, .delay_ns = DELAY_NS, .discard = true };
	struct vt_opts opts = { .features = FEATURES, .nr_queues = 3 };

	ASSERT_EQ(0, vt_null_create(&self->disk, "vbtstats", &null));
	ASSERT_EQ(0, vt_dev_init(&self->dev, &opts));
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	self->data = vt_alloc(&self->dev.mem, VT_MIB);
	self->ranges = vt_alloc(&self->dev.mem, 4096);
}

FIXTURE_TEARDOWN(stats)
{
	vt_event_stop(&self->event);
	EXPECT_EQ(0, vt_good(&self->dev.q[0]));
	for (unsigned int i = 0; i < self->dev.nr_queues; i++)
		EXPECT_EQ(0, vt_queue_idle(&self->dev.q[i]));
	EXPECT_EQ(0, vt_detach(&self->dev));
	vt_dev_fini(&self->dev);
	vt_bdev_destroy(&self->disk);
}

static int stats_get(struct vt_dev *dev, struct vhost_blk_stats *stats)
{
	memset(stats, 0xee, sizeof(*stats));
	return vt_ioctl(dev->fd, VHOST_BLK_GET_STATS, stats, sizeof(*stats));
}

/* How much each counter grew since the last time, but for the nanoseconds. */
static int stats_grew(stats_data *self, struct vhost_blk_stats *grew)
{
	struct vhost_blk_stats now;
	uint64_t *to = (uint64_t *)grew, *from = (uint64_t *)&self->seen;
	int r = stats_get(&self->dev, &now);

	for (unsigned int i = 0; i < sizeof(now) / sizeof(*to); i++)
		to[i] = ((uint64_t *)&now)[i] - from[i];
	self->seen = now;
	return r;
}

static void expect_stat(struct __test_metadata *_metadata, const struct vhost_blk_stat *stat,
			uint64_t ops, uint64_t bytes, uint64_t errors, uint64_t least_ns)
{
	EXPECT_EQ(ops, stat->ops);
	EXPECT_EQ(bytes, stat->bytes);
	EXPECT_EQ(errors, stat->errors);
	EXPECT_LE(least_ns, stat->ns);
	/* nor more than any wait may take */
	EXPECT_GE(ops * vt_timeout_ms() * 1000000ULL, stat->ns);
}

static int ranges_run(stats_data *self, uint32_t type, unsigned int nr, uint32_t sectors)
{
	for (unsigned int i = 0; i < nr; i++)
		vt_range_write(&self->dev.mem, self->ranges, i, 64 * i, sectors, 0);
	return vt_io(&self->dev.q[0], type, 0, self->ranges, nr * VT_RANGE_BYTES);
}

/* Every kind, well and badly, on all queues */
TEST_F(stats, kinds)
{
	struct vt_queue *q = self->dev.q;
	struct vhost_blk_stats n;

	ASSERT_EQ(0, stats_grew(self, &n));
	expect_stat(_metadata, &n.read, 0, 0, 0, 0);
	expect_stat(_metadata, &n.other, 0, 0, 0, 0);
	ASSERT_EQ(OK, vt_io(&q[0], IN, 0, self->data, 4096));
	ASSERT_EQ(OK, vt_io(&q[1], IN, 0, self->data + 1, 8192));
	ASSERT_EQ(OK, vt_io(&q[2], IN, 0, self->data, VT_MIB));
	ASSERT_EQ(IOERR, vt_io(&q[2], IN, UINT64_MAX, self->data, 4096));
	ASSERT_EQ(OK, vt_io(&q[1], OUT, 0, self->data, 512));
	ASSERT_EQ(OK, vt_io(&q[2], FLUSH, 0, 0, 0));
	ASSERT_EQ(0, stats_grew(self, &n));
	expect_stat(_metadata, &n.read, 4, 4096 + 8192 + VT_MIB, 1, 3 * DELAY_NS);
	expect_stat(_metadata, &n.write, 1, 512, 0, DELAY_NS);
	expect_stat(_metadata, &n.flush, 1, 0, 0, 0);
	expect_stat(_metadata, &n.discard, 0, 0, 0, 0);
	expect_stat(_metadata, &n.write_zeroes, 0, 0, 0, 0);
	expect_stat(_metadata, &n.other, 0, 0, 0, 0);

	ASSERT_EQ(OK, ranges_run(self, DISCARD, 3, 16));
	ASSERT_EQ(UNSUPP, ranges_run(self, ERASE, 1, 16));
	ASSERT_EQ(OK, ranges_run(self, ZEROES, 5, 8));
	ASSERT_EQ(OK, ranges_run(self, ZEROES, 1, 0));
	ASSERT_EQ(IOERR, ranges_run(self, ZEROES, 1, UINT32_MAX));
	ASSERT_EQ(OK, vt_io(&q[0], GET_ID, 0, self->data, 20));
	ASSERT_EQ(UNSUPP, vt_io(&q[0], 99, 0, 0, 0));
	ASSERT_EQ(IOERR, vt_io(&q[0], OUT, 0, self->data, 0));
	ASSERT_EQ(0, stats_grew(self, &n));
	expect_stat(_metadata, &n.read, 0, 0, 0, 0);
	expect_stat(_metadata, &n.write, 1, 0, 1, 0);
	expect_stat(_metadata, &n.flush, 0, 0, 0, 0);
	expect_stat(_metadata, &n.discard, 2, 3 * 16 * VT_SECTOR, 1, DELAY_NS);
	expect_stat(_metadata, &n.write_zeroes, 3, 5 * 8 * VT_SECTOR, 1, DELAY_NS);
	EXPECT_EQ(2, n.other.ops);
	EXPECT_EQ(1, n.other.errors);
}

/* A request without a header counts as something, and one that the disk fails as an error */
TEST_F(stats, errors)
{
	struct vt_queue *q = &self->dev.q[0];
	struct vt_chain *c = calloc(1, sizeof(*c));
	struct vhost_blk_stats n;

	ASSERT_NE(NULL, c);
	vt_in(c, self->data, 1);
	EXPECT_EQ(1, vt_chain_run(q, c, false));
	free(c);
	ASSERT_EQ(0, vt_null_attr(self->disk.name, "badblocks", "+64-71"));
	ASSERT_EQ(IOERR, vt_io(q, IN, 64, self->data, 4096));
	ASSERT_EQ(IOERR, vt_io(q, OUT, 0, self->data, VT_MIB));
	ASSERT_EQ(IOERR, ranges_run(self, DISCARD, 3, 8));
	ASSERT_EQ(0, vt_null_attr(self->disk.name, "badblocks", "-64-71"));
	ASSERT_EQ(0, stats_grew(self, &n));
	expect_stat(_metadata, &n.other, 1, 0, 1, 0);
	expect_stat(_metadata, &n.read, 1, 0, 1, 0);
	expect_stat(_metadata, &n.write, 1, 0, 1, 0);
	expect_stat(_metadata, &n.discard, 1, 0, 1, 0);
}

/* A detach and another disk change nothing, another owner begins with zeroes */
TEST_F(stats, lasts)
{
	struct vhost_blk_stats n, zero = {};

	ASSERT_EQ(OK, vt_io(&self->dev.q[0], IN, 0, self->data, 4096));
	ASSERT_EQ(0, vt_detach(&self->dev));
	ASSERT_EQ(0, stats_get(&self->dev, &n));
	EXPECT_EQ(1, n.read.ops);
	ASSERT_EQ(0, vt_attach(&self->dev, vt_disk.fd));
	ASSERT_EQ(OK, vt_io(&self->dev.q[1], IN, 0, self->data, 4096));
	ASSERT_EQ(0, stats_get(&self->dev, &n));
	EXPECT_EQ(2, n.read.ops);
	EXPECT_EQ(8192, n.read.bytes);
	ASSERT_EQ(0, vt_detach(&self->dev));
	ASSERT_EQ(0, vt_ioctl(self->dev.fd, VHOST_RESET_OWNER, NULL, 0));
	ASSERT_EQ(0, vt_ioctl(self->dev.fd, VHOST_SET_OWNER, NULL, 0));
	ASSERT_EQ(0, stats_get(&self->dev, &n));
	EXPECT_EQ(0, memcmp(&n, &zero, sizeof(n)));
	ASSERT_EQ(0, vt_ioctl(self->dev.fd, VHOST_SET_FEATURES, &self->dev.features, 8));
	ASSERT_EQ(0, vt_mem_set(&self->dev.mem, self->dev.fd));
	ASSERT_EQ(0, vt_vring_reset(&self->dev, 0, 0));
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
}

/* F01, F10 */
TEST_F(stats, arguments)
{
	struct vhost_blk_stats n;
	int fd = open(VT_DEV, O_RDWR | O_CLOEXEC);

	ASSERT_LE(0, fd);
	EXPECT_EQ(-EPERM, vt_ioctl(fd, VHOST_BLK_GET_STATS, &n, sizeof(n)));
	close(fd);
	EXPECT_EQ(-EFAULT, vt_ioctl(self->dev.fd, VHOST_BLK_GET_STATS, NULL, 0));
}

/* Read all the time under load: nothing is lost, nothing runs backwards */
TEST_F(stats, under_load)
{
	struct vhost_blk_stats n, last = {};
	struct vt_load load[2];
	uint64_t done = 0, ops;

	ASSERT_EQ(0, vt_detach(&self->dev));
	ASSERT_EQ(0, vt_attach(&self->dev, vt_disk.fd));
	vt_load_spread(load, 2, &self->dev, &vt_disk);
	for (unsigned int i = 0; i < 2; i++) {
		load[i].nr_sectors = 1024;
		ASSERT_EQ(0, vt_load_start(&load[i]));
	}
	for (unsigned int i = 0; i < vt_loops(10); i++) {
		vt_loads_go_on(_metadata, load, 2, 3);
		for (unsigned int k = 0; k < 20; k++) {
			ASSERT_EQ(0, stats_get(&self->dev, &n));
			EXPECT_LE(last.read.ops, n.read.ops);
			EXPECT_LE(last.write.ns, n.write.ns);
			last = n;
		}
	}
	for (unsigned int i = 0; i < 2; i++)
		ASSERT_EQ(0, vt_load_stop(&load[i]));
	ASSERT_EQ(0, stats_get(&self->dev, &n));
	ops = n.read.ops + n.write.ops + n.flush.ops;
	for (unsigned int i = 0; i < 2; i++)
		done += load[i].nr_done;
	EXPECT_EQ(done, ops);
	EXPECT_EQ(0, n.read.errors + n.write.errors + n.flush.errors + n.other.ops);
	for (unsigned int i = 0; i < 2; i++)
		vt_load_free(&load[i]);
}

/* ---- tracepoints ---- */

/* Number after @field, which begins with a blank, in a line of the trace. */
static long long field(const char *line, const char *name)
{
	const char *p = strstr(line, name);

	return p ? strtoll(p + strlen(name), NULL, 10) : -1;
}

/* Wait for @nr lines with @text: the last word is written after the guest's. */
static int lines_wait(const struct vt_event *event, const char *text, char *line, size_t size,
		      int nr)
{
	int64_t end = vt_now_ms() + vt_timeout_ms();

	while (vt_event_find(event, text, line, size) < nr && vt_now_ms() < end)
		usleep(1000);
	return vt_event_find(event, text, line, size);
}

static int trace_start(stats_data *self)
{
	return vt_event_start(&self->event, "vhost_blk");
}

/* A request from its kick to its end, with all that is known about it */
TEST_F(stats, tracepoints)
{
	struct vt_req req = { .type = IN, .sector = 24, .data = self->data, .len = 8192 };
	const struct vt_event *event = &self->event;
	char line[512] = "";
	int r = trace_start(self);
	long long dev;

	if (r == -ENOENT)
		SKIP(return, "no tracing in this kernel");
	ASSERT_EQ(0, r);
	ASSERT_EQ(0, vt_req_run(&self->dev.q[2], &req));
	ASSERT_EQ(OK, req.status);
	ASSERT_EQ(1, lines_wait(event, "vhost_blk_complete: ", line, sizeof(line), 1));
	dev = field(line, " dev=");
	EXPECT_LE(0, dev);
	EXPECT_EQ(2, field(line, " vq="));
	EXPECT_EQ(req.head, field(line, " head="));
	EXPECT_EQ(IN, field(line, " type="));
	EXPECT_EQ(24, field(line, " sector="));
	EXPECT_EQ(8192, field(line, " bytes="));
	EXPECT_EQ(OK, field(line, " status="));
	EXPECT_LE(DELAY_NS, field(line, " latency_ns="));
	EXPECT_GT(vt_timeout_ms() * 1000000LL, field(line, " latency_ns="));
	ASSERT_EQ(1, vt_event_find(event, "vhost_blk_submit: ", line, sizeof(line)));
	EXPECT_EQ(dev, field(line, " dev="));
	EXPECT_EQ(2, field(line, " vq="));
	EXPECT_EQ(req.head, field(line, " head="));
	EXPECT_EQ(IN, field(line, " type="));
	EXPECT_EQ(24, field(line, " sector="));
	EXPECT_EQ(8192, field(line, " bytes="));
	ASSERT_LE(1, vt_event_find(event, "vhost_blk_kick: ", line, sizeof(line)));
	EXPECT_EQ(dev, field(line, " dev="));
	EXPECT_EQ(2, field(line, " vq="));
	EXPECT_EQ(0, vt_event_find(event, "vhost_blk_error: ", NULL, 0));
}

/* One line each, whatever becomes of it */
TEST_F(stats, traced_once)
{
	const struct vt_event *event = &self->event;
	struct vt_queue *q = &self->dev.q[0];
	char line[512] = "";
	int r = trace_start(self);

	if (r == -ENOENT)
		SKIP(return, "no tracing in this kernel");
	ASSERT_EQ(0, r);
	for (unsigned int i = 0; i < 10; i++)
		ASSERT_EQ(OK, vt_io(q, i % 2 ? IN : OUT, 0, self->data, 512 << i));
	EXPECT_EQ(10, lines_wait(event, "vhost_blk_complete: ", NULL, 0, 10));
	EXPECT_EQ(10, vt_event_find(event, "vhost_blk_submit: ", NULL, 0));
	/* refused before it gets to the disk */
	ASSERT_EQ(UNSUPP, vt_io(q, 99, 5, 0, 0));
	EXPECT_EQ(11, lines_wait(event, "vhost_blk_complete: ", line, sizeof(line), 11));
	EXPECT_EQ(UNSUPP, field(line, " status="));
	EXPECT_EQ(10, vt_event_find(event, "vhost_blk_submit: ", NULL, 0));
	/* failed by it */
	ASSERT_EQ(0, vt_null_attr(self->disk.name, "badblocks", "+64-71"));
	ASSERT_EQ(IOERR, vt_io(q, IN, 64, self->data, 4096));
	ASSERT_EQ(0, vt_null_attr(self->disk.name, "badblocks", "-64-71"));
	EXPECT_EQ(12, lines_wait(event, "vhost_blk_complete: ", line, sizeof(line), 12));
	EXPECT_EQ(IOERR, field(line, " status="));
	EXPECT_LE(1, vt_event_find(event, "vhost_blk_error: ", line, sizeof(line)));
	EXPECT_GT(0, field(line, " error="));
	EXPECT_LE(0, field(line, " head="));
	/* a ring that is broken */
	vt_add_head(q, q->num);
	vt_publish(q);
	vt_kick(q);
	EXPECT_NE(0, vt_event_count(q->err, vt_timeout_ms()));
	EXPECT_LE(1, lines_wait(event, " head=-1 ", line, sizeof(line), 1));
	EXPECT_GT(0, field(line, " error="));
	ASSERT_EQ(0, vt_detach(&self->dev));
	ASSERT_EQ(0, vt_vring_reset(&self->dev, 0, 0));
	/* and which disk it is */
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	EXPECT_EQ(1, vt_event_find(event, "vhost_blk_attach: ", line, sizeof(line)));
	EXPECT_LE(0, field(line, " dev="));
}

VT_TEST_MAIN
