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

struct logwrites {
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

FIXTURE(logwrites) {
	struct logwrites lw;
};

FIXTURE_VARIANT(logwrites) {
	bool flush;		/* the driver acked FLUSH */
	bool loop;		/* what is below: a loop device, or null_blk with a cache */
	unsigned int lbs, nr_queues;
};

FIXTURE_VARIANT_ADD(logwrites, flush_512) { .flush = true, .lbs = 512, .nr_queues = 1 };
FIXTURE_VARIANT_ADD(logwrites, flush_4096) { .flush = true, .lbs = 4096, .nr_queues = 3 };
FIXTURE_VARIANT_ADD(logwrites, flush_loop) {
	.flush = true,
	.loop = true,
	.lbs = 512,
	.nr_queues = 2,
};

FIXTURE_VARIANT_ADD(logwrites, through_512) { .lbs = 512, .nr_queues = 1 };
FIXTURE_VARIANT_ADD(logwrites, through_4096) { .lbs = 4096, .nr_queues = 2 };

FIXTURE_SETUP(logwrites)
{
	struct logwrites *lw = &self->lw;
	struct vt_opts opts = {
		.features = variant->flush ? VT_F_BASE : VT_F_BASE & ~VT_F_FLUSH,
		.nr_queues = variant->nr_queues, .num = 1024,
		.indirect = variant->lbs == 4096,
	};
	/* Time for what is wrong with the order to show. */
	struct vt_null_opts null = {
		.mib = 16, .lbs = variant->lbs, .cache_mib = 8, .delay_ns = 1000 * 1000,
	};

	lw->dm_control = -1;
	lw->disk.fd = -1;
	lw->log.fd = -1;
	lw->dm.fd = -1;
	lw->dev.fd = -1;
	if (vt_modprobe("dm_log_writes", ""))
		SKIP(return, "no dm-log-writes in this kernel");
	ASSERT_EQ(0, variant->loop ? vt_loop_create(&lw->disk, 16 * VT_MIB, variant->lbs) :
				     vt_null_create(&lw->disk, "vbtdata", &null));
	null = (struct vt_null_opts) { .mib = LOG_MIB, .lbs = variant->lbs };
	ASSERT_EQ(0, vt_null_create(&lw->log, "vbtlog", &null));
	ASSERT_EQ(0, vt_dev_init(&lw->dev, &opts));
	lw->writer.dev = &lw->dev;
	lw->writer.ledger = &lw->ledger;
	/* Of two flushes at once the log would show what the first did with that. */
	lw->writer.nr_flushes = variant->flush;
	lw->writer.flush_odds = 2;
	lw->writer.hot_units = 64;
	vt_writer_init(&lw->writer);
}

static void round_free(struct logwrites *lw)
{
	for (uint32_t i = 0; i < lw->nr_entries; i++)
		free(lw->entry[i].id);
	free(lw->entry);
	free(lw->base);
	free(lw->image);
	free(lw->floor);
	lw->entry = NULL;
	lw->base = NULL;
	lw->image = NULL;
	lw->floor = NULL;
	lw->nr_entries = 0;
	lw->nr_marks = 0;
	vt_ledger_fini(&lw->ledger);
}

FIXTURE_TEARDOWN(logwrites)
{
	struct logwrites *lw = &self->lw;

	round_free(lw);
	vt_dev_fini(&lw->dev);
	close(lw->dm_control);
	vt_bdev_destroy(&lw->dm);
	vt_bdev_destroy(&lw->log);
	vt_bdev_destroy(&lw->disk);
}

/* Put a mark with a number into the log, behind all that the driver was told. */
static int log_mark(struct logwrites *lw, uint32_t nr)
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
	strcpy(arg.io.name, lw->dm.dm);
	sprintf(text, "mark %u", nr);
	lw->nr_marks++;
	return ioctl(lw->dm_control, DM_TARGET_MSG, &arg) ? -errno : 0;
}

/* Run the load through the log target, which is gone afterwards: the log is complete. */
static int log_write(struct logwrites *lw)
{
	struct vt_ledger *l = &lw->ledger;
	uint32_t marked = 0;
	int r = 0;

	while (l->nr_writes + VT_WRITER_WRITES <= MAX_WRITES && !r) {
		r = vt_writer_issue(&lw->writer);
		r = r ?: vt_writer_reap(&lw->writer);
		if (r || l->nr_stable == marked)
			continue;
		marked = l->nr_stable;
		r = log_mark(lw, marked);
	}
	r = r ?: vt_writer_drain(&lw->writer);
	r = r ?: log_mark(lw, l->nr_stable);
	if (!r && lw->writer.nr_failed)
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
static int entry_data_check(struct logwrites *lw, struct entry *e, const uint8_t *p)
{
	e->id = calloc(e->nr + 1, sizeof(*e->id));
	if (!e->id)
		return -ENOMEM;
	for (uint32_t i = 0; i < e->nr; i++, p += lw->ledger.unit_bytes) {
		e->id[i] = vt_ledger_read(&lw->ledger, e->unit + i, p);
		if (e->id[i] == VT_LEDGER_BAD || e->id[i] == VT_LEDGER_NONE)
			return -EILSEQ;
	}
	return 0;
}

static int entry_read(struct logwrites *lw, int fd, uint8_t *buf, off_t *at)
{
	struct entry *e = &lw->entry[lw->nr_entries];
	struct log_entry head;
	int r;

	r = log_read(fd, buf, lw->ledger.unit_bytes, at);
	if (r)
		return r;
	memcpy(&head, buf, sizeof(head));
	e->flags = head.flags;
	e->unit = head.sector;
	e->nr = head.nr_sectors;
	if (head.nr_sectors > VT_WRITER_BYTES / lw->ledger.unit_bytes ||
	    head.sector + head.nr_sectors > lw->ledger.nr_units)
		return -ERANGE;
	lw->nr_entries++;
	if (e->flags & LOG_MARK) {
		buf[sizeof(head) + head.data_len] = '\0';
		/* The target's own last mark is no number: 0. */
		e->nr_stable = strtoul((char *)buf + sizeof(head), NULL, 10);
		return 0;
	}
	r = log_read(fd, buf, (size_t)e->nr * lw->ledger.unit_bytes, at);
	return r ?: entry_data_check(lw, e, buf);
}

static int log_parse(struct logwrites *lw)
{
	int fd = open(lw->log.path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	uint8_t *buf = aligned_alloc(4096, VT_WRITER_BYTES);
	struct log_super super = {};
	off_t at = 0;
	int r = -ENOMEM;

	if (fd >= 0 && buf)
		r = log_read(fd, buf, lw->ledger.unit_bytes, &at);
	if (!r) {
		memcpy(&super, buf, sizeof(super));
		lw->entry = calloc(super.nr_entries + 1, sizeof(*lw->entry));
		if (super.magic != LOG_MAGIC || super.version != 1 ||
		    super.sectorsize != lw->ledger.unit_bytes || !lw->entry)
			r = -EINVAL;
	}
	while (!r && lw->nr_entries < super.nr_entries)
		r = entry_read(lw, fd, buf, &at);
	/* A log that ended too early would prove less than it seems to. */
	if (!r && !(lw->nr_entries && lw->entry[lw->nr_entries - 1].flags & LOG_MARK))
		r = -ENODATA;
	free(buf);
	if (fd >= 0)
		close(fd);
	return r;
}

static uint32_t rnd(struct logwrites *lw, uint32_t below)
{
	lw->random = lw->random * 6364136223846793005ULL + 1442695040888963407ULL;
	return (lw->random >> 33) % below;
}

static void image_check(struct logwrites *lw, uint32_t cut, const char *kind)
{
	const struct vt_ledger *l = &lw->ledger;

	lw->nr_images++;
	for (uint32_t u = 0; u < l->nr_units; u++) {
		if (vt_ledger_allows(l, lw->floor, u, lw->image[u]))
			continue;
		if (!lw->nr_bad++)
			fprintf(stderr, "# cut at entry %u, %s: block %u is too old (write %u)\n",
				cut, kind, u, lw->image[u]);
		return;
	}
}

enum part { NOTHING, ALL, HALF, TORN };

/* The medium if power fails at @cut, when all before @from has been flushed. */
static void cut_check(struct logwrites *lw, uint32_t from, uint32_t cut,
		      enum part part)
{
	static const char *const name[] = {
		"without the cache", "with the cache", "with half of the cache",
		"with torn writes",
	};

	memcpy(lw->image, lw->base, lw->ledger.nr_units * sizeof(*lw->image));
	for (; from < cut; from++) {
		const struct entry *e = &lw->entry[from];
		bool all = part == ALL || e->flags & LOG_FUA || (part == HALF && rnd(lw, 2));

		if (e->flags & LOG_MARK)
			continue;
		for (uint32_t i = 0; i < e->nr; i++)
			if (all || (part == TORN && rnd(lw, 2)))
				lw->image[e->unit + i] = e->id[i];
	}
	image_check(lw, cut, name[part]);
}

/* Everything from @from up to and with @to is on the medium for sure. */
static void base_advance(struct logwrites *lw, uint32_t from, uint32_t to)
{
	for (; from <= to; from++)
		for (uint32_t i = 0; i < lw->entry[from].nr; i++)
			lw->base[lw->entry[from].unit + i] = lw->entry[from].id[i];
}

/* Cut the power behind each entry of the log. Returns the number of such places. */
static unsigned int log_replay(struct logwrites *lw)
{
	uint32_t from = 0, known = 0, nr_units = lw->ledger.nr_units;
	unsigned int count[16] = {};

	lw->base = calloc(nr_units, sizeof(*lw->base));
	lw->image = calloc(nr_units, sizeof(*lw->image));
	lw->floor = calloc(nr_units, sizeof(*lw->floor));
	for (uint32_t at = 0; at < lw->nr_entries; at++) {
		const struct entry *e = &lw->entry[at];

		count[e->flags & 15]++;
		if (e->flags & LOG_MARK && e->nr_stable > known) {
			vt_ledger_floor(&lw->ledger, lw->floor, known, e->nr_stable);
			known = e->nr_stable;
		}
		/* A flush covers what is before it; with no cache to cover so does FUA. */
		if (e->flags & LOG_FLUSH || (e->flags & (LOG_FUA | LOG_MARK) && from == at)) {
			base_advance(lw, from, at);
			from = at + 1;
		}
		cut_check(lw, from, at + 1, NOTHING);
		for (enum part part = ALL; from <= at && part <= TORN; part++)
			cut_check(lw, from, at + 1, part);
	}
	fprintf(stderr, "# log: %u writes, %u with FUA, %u flushes, %u marks; %u images\n",
		count[0], count[LOG_FUA], count[LOG_FLUSH], count[LOG_MARK], lw->nr_images);
	/* The target has put the last mark itself. */
	if (known != lw->ledger.nr_stable || count[LOG_MARK] != lw->nr_marks + 1)
		return 0;
	return lw->nr_entries - count[LOG_MARK];
}

/* One disk, one load, one log. */
static void round_run(struct __test_metadata *_metadata, struct logwrites *lw,
		      bool flush)
{
	uint32_t lbs = lw->disk.lbs;
	char table[160];

	snprintf(table, sizeof(table), "0 %lu log-writes %s %s",
		 (unsigned long)(lw->disk.bytes / VT_SECTOR), lw->disk.path, lw->log.path);
	ASSERT_EQ(0, vt_dm_create(&lw->dm, "vbtlogwrites", table));
	ASSERT_EQ(0, vt_ledger_init(&lw->ledger, AREA / lbs, lbs, MAX_WRITES, !flush));
	lw->dm_control = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, lw->dm_control);
	ASSERT_EQ(0, vt_attach(&lw->dev, lw->dm.fd));
	ASSERT_EQ(0, log_write(lw));
	for (unsigned int i = 0; i < lw->dev.nr_queues; i++)
		ASSERT_EQ(0, vt_queue_idle(&lw->dev.q[i]));
	ASSERT_EQ(0, vt_detach(&lw->dev));
	close(lw->dm_control);
	lw->dm_control = -1;
	vt_bdev_destroy(&lw->dm);
	ASSERT_EQ(0, vt_exclusive(&lw->log));
	EXPECT_EQ(0, vt_ledger_check_disk(&lw->ledger, lw->disk.path));
	ASSERT_EQ(0, log_parse(lw));
	EXPECT_LE(MIN_CUTS, log_replay(lw));
	EXPECT_EQ(0, lw->nr_bad);
	round_free(lw);
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
	struct logwrites *lw = &self->lw;

	for (unsigned int i = 0; i < vt_loops(1); i++) {
		lw->random = i;
		lw->writer.random = i;
		ASSERT_EQ(0, disk_clear(&lw->disk));
		round_run(_metadata, lw, variant->flush);
		if (lw->nr_bad)
			break;
	}
	ASSERT_EQ(0, vt_attach(&lw->dev, lw->disk.fd));
	EXPECT_EQ(0, vt_good(&lw->dev.q[0]));
	EXPECT_EQ(0, vt_detach(&lw->dev));
}

VT_TEST_MAIN
