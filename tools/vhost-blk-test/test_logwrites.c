// SPDX-License-Identifier: GPL-2.0-only
/*
 * I01, I02: what the driver was promised is on the medium at every moment when
 * the power could fail. A dm-log-writes target between the module and a disk
 * with a cache logs what is written and flushed; a mark in the log tells where
 * the driver had learned what. The log is replayed in memory up to each entry:
 * what was flushed by then is on the medium, of the rest any part may be.
 *
 * The format of the log is described in drivers/md/dm-log-writes.c.
 */
#include <linux/dm-ioctl.h>

#include "ledger.h"
#include "vt_test.h"

#define AREA		(5 * VT_MIB / 4)
#define MIN_CUTS	1000
#define MAX_WRITES	1150
#define LOG_MIB		96

#define LOG_MAGIC	0x6a736677736872ULL
#define LOG_FLUSH	1U
#define LOG_FUA		2U
#define LOG_MARK	8U

struct log_super {
	uint64_t magic, version, nr_entries;
	uint32_t sectorsize;
};

/* Takes a block; the data of a mark follows it there, other data in the next blocks. */
struct log_entry {
	uint64_t sector, nr_sectors, flags, data_len;
};

struct entry {
	uint32_t flags, unit, nr;
	uint32_t *id;		/* write that each unit is of */
	uint32_t nr_stable;	/* of a mark: how many stable writes the driver knew */
};

FIXTURE(logwrites) {
	struct vt_dev dev;
	struct vt_bdev disk, log, dm;
	struct vt_ledger ledger;
	struct vt_writer writer;
	int dm_control;
	struct entry *entry;
	uint32_t nr_entries, nr_marks;
	/* the replay */
	uint32_t *base;		/* what is on the medium for sure */
	uint32_t *image;	/* and what may be */
	uint32_t *floor;	/* what the driver relies on */
	uint64_t random;
	unsigned int nr_images, nr_bad;
};

FIXTURE_VARIANT(logwrites) {
	bool flush;		/* the driver acked FLUSH */
	bool loop;		/* what is below: a loop device, or null_blk with a cache */
	unsigned int lbs, nr_queues;
};

FIXTURE_VARIANT_ADD(logwrites, flush_512) { .flush = true, .lbs = 512, .nr_queues = 1 };
FIXTURE_VARIANT_ADD(logwrites, flush_4096) { .flush = true, .lbs = 4096, .nr_queues = 3 };
FIXTURE_VARIANT_ADD(logwrites, flush_loop) {
	.flush = true, .loop = true, .lbs = 512, .nr_queues = 2,
};
FIXTURE_VARIANT_ADD(logwrites, through_512) { .lbs = 512, .nr_queues = 1 };
FIXTURE_VARIANT_ADD(logwrites, through_4096) { .lbs = 4096, .nr_queues = 2 };

FIXTURE_SETUP(logwrites)
{
	struct vt_opts opts = {
		.features = variant->flush ? VT_F_BASE : VT_F_BASE & ~VT_F_FLUSH,
		.nr_queues = variant->nr_queues, .num = 1024,
		.indirect = variant->lbs == 4096,
	};
	/* Time for what is wrong with the order to show. */
	struct vt_null_opts null = {
		.mib = 16, .lbs = variant->lbs, .cache_mib = 8, .delay_ns = 1000 * 1000,
	};

	self->dm_control = -1;
	self->disk.fd = -1;
	self->log.fd = -1;
	self->dm.fd = -1;
	self->dev.fd = -1;
	if (vt_modprobe("dm_log_writes", ""))
		SKIP(return, "no dm-log-writes in this kernel");
	ASSERT_EQ(0, variant->loop ? vt_loop_create(&self->disk, 16 * VT_MIB, variant->lbs) :
				     vt_null_create(&self->disk, "vbtdata", &null));
	null = (struct vt_null_opts) { .mib = LOG_MIB, .lbs = variant->lbs };
	ASSERT_EQ(0, vt_null_create(&self->log, "vbtlog", &null));
	ASSERT_EQ(0, vt_dev_init(&self->dev, &opts));
	self->writer.dev = &self->dev;
	self->writer.ledger = &self->ledger;
	/* Of two flushes at once the log would show what the first did with that. */
	self->writer.nr_flushes = variant->flush;
	self->writer.hot_units = 64;
	vt_writer_init(&self->writer);
}

static void round_free(FIXTURE_DATA(logwrites) *self)
{
	for (uint32_t i = 0; i < self->nr_entries; i++)
		free(self->entry[i].id);
	free(self->entry);
	free(self->base);
	free(self->image);
	free(self->floor);
	self->entry = NULL;
	self->base = self->image = self->floor = NULL;
	self->nr_entries = self->nr_marks = 0;
	vt_ledger_fini(&self->ledger);
}

FIXTURE_TEARDOWN(logwrites)
{
	round_free(self);
	vt_dev_fini(&self->dev);
	close(self->dm_control);
	vt_bdev_destroy(&self->dm);
	vt_bdev_destroy(&self->log);
	vt_bdev_destroy(&self->disk);
}

/* Put a mark with a number into the log, behind all that the driver was told. */
static int mark(FIXTURE_DATA(logwrites) *self, uint32_t nr)
{
	union {
		struct dm_ioctl io;
		char room[sizeof(struct dm_ioctl) + sizeof(struct dm_target_msg) + 32];
	} arg;
	char *text = arg.room + sizeof(struct dm_ioctl) + sizeof(struct dm_target_msg);

	memset(&arg, 0, sizeof(arg));
	arg.io.version[0] = DM_VERSION_MAJOR;
	arg.io.data_size = sizeof(arg);
	arg.io.data_start = sizeof(struct dm_ioctl);
	strcpy(arg.io.name, self->dm.dm);
	sprintf(text, "mark %u", nr);
	self->nr_marks++;
	return ioctl(self->dm_control, DM_TARGET_MSG, &arg) ? -errno : 0;
}

/* Run the load through the log target, which is gone afterwards: the log is complete. */
static int log_write(FIXTURE_DATA(logwrites) *self)
{
	struct vt_ledger *l = &self->ledger;
	uint32_t marked = 0;
	int r = 0;

	while (l->nr_writes + VT_WRITER_WRITES <= MAX_WRITES && !r) {
		r = vt_writer_issue(&self->writer);
		r = r ?: vt_writer_reap(&self->writer);
		if (r || l->nr_stable == marked)
			continue;
		marked = l->nr_stable;
		r = mark(self, marked);
	}
	r = r ?: vt_writer_drain(&self->writer);
	r = r ?: mark(self, l->nr_stable);
	if (!r && self->writer.nr_failed)
		r = -EIO;
	return r;
}

static int log_read(int fd, void *buf, size_t bytes, off_t *at)
{
	ssize_t n = bytes ? pread(fd, buf, bytes, *at) : 0;

	if (n != (ssize_t)bytes)
		return n < 0 ? -errno : -EIO;
	*at += bytes;
	return 0;
}

/* Every block in the log is whole, ours and in its place. */
static int entry_data_check(FIXTURE_DATA(logwrites) *self, struct entry *e, const uint8_t *p)
{
	e->id = calloc(e->nr + 1, sizeof(*e->id));
	if (!e->id)
		return -ENOMEM;
	for (uint32_t i = 0; i < e->nr; i++, p += self->ledger.unit_bytes) {
		e->id[i] = vt_ledger_read(&self->ledger, e->unit + i, p);
		if (e->id[i] == VT_LEDGER_BAD || e->id[i] == VT_LEDGER_NONE)
			return -EILSEQ;
	}
	return 0;
}

static int entry_read(FIXTURE_DATA(logwrites) *self, int fd, uint8_t *buf, off_t *at)
{
	struct entry *e = &self->entry[self->nr_entries];
	struct log_entry head;
	int r;

	r = log_read(fd, buf, self->ledger.unit_bytes, at);
	if (r)
		return r;
	memcpy(&head, buf, sizeof(head));
	e->flags = head.flags;
	e->unit = head.sector;
	e->nr = head.nr_sectors;
	if (head.nr_sectors > VT_WRITER_BYTES / self->ledger.unit_bytes ||
	    head.sector + head.nr_sectors > self->ledger.nr_units)
		return -ERANGE;
	self->nr_entries++;
	if (e->flags & LOG_MARK) {
		buf[sizeof(head) + head.data_len] = '\0';
		/* The target's own last mark is no number: 0. */
		e->nr_stable = strtoul((char *)buf + sizeof(head), NULL, 10);
		return 0;
	}
	r = log_read(fd, buf, (size_t)e->nr * self->ledger.unit_bytes, at);
	return r ?: entry_data_check(self, e, buf);
}

static int log_parse(FIXTURE_DATA(logwrites) *self)
{
	int fd = open(self->log.path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	uint8_t *buf = aligned_alloc(4096, VT_WRITER_BYTES);
	struct log_super super = {};
	off_t at = 0;
	int r = -ENOMEM;

	if (fd >= 0 && buf)
		r = log_read(fd, buf, self->ledger.unit_bytes, &at);
	if (!r) {
		memcpy(&super, buf, sizeof(super));
		self->entry = calloc(super.nr_entries + 1, sizeof(*self->entry));
		if (super.magic != LOG_MAGIC || super.version != 1 ||
		    super.sectorsize != self->ledger.unit_bytes || !self->entry)
			r = -EINVAL;
	}
	while (!r && self->nr_entries < super.nr_entries)
		r = entry_read(self, fd, buf, &at);
	/* A log that ended too early would prove less than it seems to. */
	if (!r && !(self->nr_entries && self->entry[self->nr_entries - 1].flags & LOG_MARK))
		r = -ENODATA;
	free(buf);
	if (fd >= 0)
		close(fd);
	return r;
}

static uint32_t rnd(FIXTURE_DATA(logwrites) *self, uint32_t below)
{
	self->random = self->random * 6364136223846793005ULL + 1442695040888963407ULL;
	return (self->random >> 33) % below;
}

static void image_check(FIXTURE_DATA(logwrites) *self, uint32_t cut, const char *kind)
{
	const struct vt_ledger *l = &self->ledger;

	self->nr_images++;
	for (uint32_t u = 0; u < l->nr_units; u++) {
		if (vt_ledger_allows(l, self->floor, u, self->image[u]))
			continue;
		if (!self->nr_bad++)
			fprintf(stderr, "# cut at entry %u, %s: block %u is of write %u, "
				"but one issued at %u is stable\n",
				cut, kind, u, self->image[u], self->floor[u]);
		return;
	}
}

enum part { NOTHING, ALL, HALF, TORN };

/* The medium if power fails at @cut, when all before @from has been flushed. */
static void cut_check(FIXTURE_DATA(logwrites) *self, uint32_t from, uint32_t cut,
		      enum part part)
{
	static const char *const name[] = {
		"without the cache", "with the cache", "with half of the cache",
		"with torn writes",
	};

	memcpy(self->image, self->base, self->ledger.nr_units * sizeof(*self->image));
	for (; from < cut; from++) {
		const struct entry *e = &self->entry[from];
		bool all = part == ALL || e->flags & LOG_FUA || (part == HALF && rnd(self, 2));

		if (e->flags & LOG_MARK)
			continue;
		for (uint32_t i = 0; i < e->nr; i++)
			if (all || (part == TORN && rnd(self, 2)))
				self->image[e->unit + i] = e->id[i];
	}
	image_check(self, cut, name[part]);
}

/* Everything from @from up to and with @to is on the medium for sure. */
static void base_advance(FIXTURE_DATA(logwrites) *self, uint32_t from, uint32_t to)
{
	for (; from <= to; from++)
		for (uint32_t i = 0; i < self->entry[from].nr; i++)
			self->base[self->entry[from].unit + i] = self->entry[from].id[i];
}

/* Cut the power behind each entry of the log. Returns the number of such places. */
static unsigned int log_replay(FIXTURE_DATA(logwrites) *self)
{
	uint32_t from = 0, known = 0, nr_units = self->ledger.nr_units;
	unsigned int count[16] = {};

	self->base = calloc(nr_units, sizeof(*self->base));
	self->image = calloc(nr_units, sizeof(*self->image));
	self->floor = calloc(nr_units, sizeof(*self->floor));
	for (uint32_t at = 0; at < self->nr_entries; at++) {
		const struct entry *e = &self->entry[at];

		count[e->flags & 15]++;
		if (e->flags & LOG_MARK && e->nr_stable > known) {
			vt_ledger_floor(&self->ledger, self->floor, known, e->nr_stable);
			known = e->nr_stable;
		}
		/* A flush covers what is before it; with no cache to cover so does FUA. */
		if (e->flags & LOG_FLUSH || (e->flags & (LOG_FUA | LOG_MARK) && from == at)) {
			base_advance(self, from, at);
			from = at + 1;
		}
		cut_check(self, from, at + 1, NOTHING);
		for (enum part part = ALL; from <= at && part <= TORN; part++)
			cut_check(self, from, at + 1, part);
	}
	fprintf(stderr, "# %u writes; log: %u writes, %u with FUA, %u flushes, %u marks; %u images\n",
		self->ledger.nr_writes, count[0], count[LOG_FUA], count[LOG_FLUSH],
		count[LOG_MARK], self->nr_images);
	return known == self->ledger.nr_stable ? self->nr_entries - count[LOG_MARK] : 0;
}

/* One disk, one load, one log. */
static void round_run(struct __test_metadata *_metadata, FIXTURE_DATA(logwrites) *self,
		      bool flush)
{
	uint32_t lbs = self->disk.lbs;
	char table[160];

	snprintf(table, sizeof(table), "0 %lu log-writes %s %s",
		 (unsigned long)(self->disk.bytes / VT_SECTOR), self->disk.path, self->log.path);
	ASSERT_EQ(0, vt_dm_create(&self->dm, "vbtlogwrites", table));
	ASSERT_EQ(0, vt_ledger_init(&self->ledger, AREA / lbs, lbs, MAX_WRITES, !flush));
	self->dm_control = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->dm_control);
	ASSERT_EQ(0, vt_attach(&self->dev, self->dm.fd));
	ASSERT_EQ(0, log_write(self));
	for (unsigned int i = 0; i < self->dev.nr_queues; i++)
		ASSERT_EQ(0, vt_queue_idle(&self->dev.q[i]));
	ASSERT_EQ(0, vt_detach(&self->dev));
	close(self->dm_control);
	self->dm_control = -1;
	vt_bdev_destroy(&self->dm);
	ASSERT_EQ(0, vt_exclusive(&self->log));
	EXPECT_EQ(0, vt_ledger_check_disk(&self->ledger, self->disk.path));
	ASSERT_EQ(0, log_parse(self));
	EXPECT_LE(MIN_CUTS, log_replay(self));
	EXPECT_EQ(0, self->nr_bad);
	round_free(self);
}

/* Each round tells its data from that of the last by the ledger's seed: start from zeros. */
static int disk_clear(const struct vt_bdev *disk)
{
	void *zero = calloc(1, AREA);
	int r = pwrite(disk->fd, zero, AREA, 0) == (ssize_t)AREA && !fsync(disk->fd) ? 0 : -EIO;

	free(zero);
	return r;
}

TEST_F_TIMEOUT(logwrites, every_cut, 3600)
{
	for (unsigned int i = 0; i < vt_loops(1); i++) {
		self->random = self->writer.random = i;
		ASSERT_EQ(0, disk_clear(&self->disk));
		round_run(_metadata, self, variant->flush);
		if (self->nr_bad)
			break;
	}
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	EXPECT_EQ(0, vt_good(&self->dev.q[0]));
	EXPECT_EQ(0, vt_detach(&self->dev));
}

VT_TEST_MAIN
