/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What a disk may hold after a power cut (ledger.c), and a driver that keeps
 * many writes and flushes in flight and enters them there (writer.c).
 *
 * The disk is a row of units, each a logical block: what a drive writes whole or
 * not at all. A unit of data names the write that it is of. A write is stable
 * once a flush that was issued after it had ended has ended, or, in
 * write-through mode, once it has ended itself.
 */
#ifndef VT_LEDGER_H
#define VT_LEDGER_H

#include "vt.h"

#define VT_LEDGER_NONE	0U		/* a unit that was never written */
#define VT_LEDGER_BAD	UINT32_MAX	/* torn, foreign or misplaced data */

struct vt_ledger_write {
	uint32_t unit, nr;
	uint32_t issued, ended;	/* times; ended 0: it may still reach the disk */
	bool stable;
};

struct vt_ledger {
	uint32_t nr_units, unit_bytes;
	bool write_through;
	uint32_t seed;		/* data of another ledger is foreign */
	uint32_t now;		/* counts events */
	struct vt_ledger_write *write;	/* by their number, from 1 */
	uint32_t nr_writes, max_writes, first_unstable;
	uint32_t *stable;	/* writes in the order in which they became it */
	uint32_t nr_stable;
};

int vt_ledger_init(struct vt_ledger *l, uint32_t nr_units, uint32_t unit_bytes,
		   uint32_t max_writes, bool write_through);
void vt_ledger_fini(struct vt_ledger *l);
/* A write is about to be issued: fill @buf with what it writes. Returns its number. */
uint32_t vt_ledger_write(struct vt_ledger *l, uint32_t unit, uint32_t nr, void *buf);
void vt_ledger_write_end(struct vt_ledger *l, uint32_t id);
/* A flush is about to be issued: returns what vt_ledger_flush_end wants to know. */
uint32_t vt_ledger_flush(struct vt_ledger *l);
void vt_ledger_flush_end(struct vt_ledger *l, uint32_t issued);
/* Which write @buf, found on @unit, is of. */
uint32_t vt_ledger_read(const struct vt_ledger *l, uint32_t unit, const void *buf);
/*
 * @floor has an entry for each unit: when the youngest stable write to it was
 * issued. Enter the stable writes from the @from-th to the @to-th.
 */
void vt_ledger_floor(const struct vt_ledger *l, uint32_t *floor, uint32_t from, uint32_t to);
/* May @unit hold write @id? Not if that had ended before a stable one was issued. */
bool vt_ledger_allows(const struct vt_ledger *l, const uint32_t *floor, uint32_t unit,
		      uint32_t id);
/* Read the units from a disk: how many hold what they may not; -errno. */
int vt_ledger_check_disk(const struct vt_ledger *l, const char *path);

#define VT_WRITER_WRITES	16	/* in flight */
#define VT_WRITER_FLUSHES	4
#define VT_WRITER_BYTES		(VT_MIB + 65536)	/* of the largest write */

struct vt_writer {
	struct vt_dev *dev;
	struct vt_ledger *ledger;
	unsigned int nr_flushes;	/* at once, 0: none */
	unsigned int flush_odds;	/* one to this for each of them */
	unsigned int hot_units;		/* where half of the writes go */
	uint64_t random;
	struct vt_writer_slot {
		struct vt_req req;
		struct vt_queue *q;	/* NULL: the slot is free */
		uint64_t data;
		uint32_t id;
	} slot[VT_WRITER_WRITES + VT_WRITER_FLUSHES];
	unsigned int inflight, nr_failed;
};

/* Zeroed but for what the caller says. Takes most of the device's memory. */
void vt_writer_init(struct vt_writer *w);
/* Issue some writes, if there is room, and perhaps flushes. 0, or -errno. */
int vt_writer_issue(struct vt_writer *w);
/* Wait until something has ended and enter it. 0, or -errno. */
int vt_writer_reap(struct vt_writer *w);
/* Reap until nothing is in flight. */
int vt_writer_drain(struct vt_writer *w);

#endif /* VT_LEDGER_H */
