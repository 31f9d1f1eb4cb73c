// SPDX-License-Identifier: GPL-2.0-only
/* Random writes of all kinds, overlapping each other, and flushes between them. */
#include <poll.h>
#include <string.h>

#include "ledger.h"

static uint32_t rnd(struct vt_writer *w, uint32_t below)
{
	w->random = w->random * 6364136223846793005ULL + 1442695040888963407ULL;
	return (w->random >> 33) % below;
}

void vt_writer_init(struct vt_writer *w)
{
	for (unsigned int i = 0; i < VT_WRITER_WRITES; i++)
		w->slot[i].data = vt_alloc_in(&w->dev->mem, 1, VT_WRITER_BYTES + 4096, 4096);
}

/*
 * Sizes that take each way through the module: mapped whole, one unit, bounced
 * in one or several windows, a larger bio, several bios.
 */
static uint32_t bytes_pick(struct vt_writer *w, bool *odd)
{
	uint32_t kind = rnd(w, 128), unit = w->ledger->unit_bytes, bytes;

	*odd = false;
	if (kind < 72)
		return 4096;
	if (kind < 92)
		return unit;
	if (kind < 127) {
		*odd = kind < 108;
		bytes = unit + rnd(w, kind % 4 ? 40000 : 200000);
		return bytes / unit * unit;
	}
	return VT_WRITER_BYTES - rnd(w, 8) * unit;
}

static int write_issue(struct vt_writer *w, struct vt_writer_slot *s)
{
	struct vt_ledger *l = w->ledger;
	uint32_t unit, nr, room;
	bool odd;
	int r;

	s->req = (struct vt_req) { .type = VIRTIO_BLK_T_OUT, .len = bytes_pick(w, &odd) };
	nr = s->req.len / l->unit_bytes;
	room = l->nr_units - nr + 1;
	/* A part of the disk is written again and again, also while it is. */
	unit = rnd(w, rnd(w, 2) && w->hot_units < room ? w->hot_units : room);
	s->req.sector = (uint64_t)unit * (l->unit_bytes / VT_SECTOR);
	s->req.data = s->data + (odd ? 1 + rnd(w, 500) : 0);
	s->req.seg_bytes = rnd(w, 2) ? 4096 : 0;
	r = vt_req_add(s->q, &s->req);
	if (!r)
		s->id = vt_ledger_write(l, unit, nr, vt_ptr(&w->dev->mem, s->req.data));
	return r;
}

static int flush_issue(struct vt_writer *w, struct vt_writer_slot *s)
{
	int r;

	s->req = (struct vt_req) { .type = VIRTIO_BLK_T_FLUSH };
	r = vt_req_add(s->q, &s->req);
	if (!r)
		s->id = vt_ledger_flush(w->ledger);
	return r;
}

static int slot_issue(struct vt_writer *w, struct vt_writer_slot *s, bool flush)
{
	int r;

	s->q = &w->dev->q[rnd(w, w->dev->nr_queues)];
	r = flush ? flush_issue(w, s) : write_issue(w, s);
	if (r) {
		s->q = NULL;
		/* The ring is full: what is in flight will make room. */
		return r == -ENOSPC && w->inflight ? 0 : r;
	}
	w->inflight++;
	vt_publish(s->q);
	vt_kick_needed(s->q);
	return 0;
}

int vt_writer_issue(struct vt_writer *w)
{
	struct vt_writer_slot *flush = w->slot + VT_WRITER_WRITES;
	unsigned int i, nr = 1 + rnd(w, VT_WRITER_WRITES / 2);
	int r = 0;

	/* First, so that they leave something unstable for a power cut to take. */
	for (i = 0; i < w->nr_flushes && !r; i++)
		if (!flush[i].q && !rnd(w, w->flush_odds))
			r = slot_issue(w, &flush[i], true);
	/* Some at a time, so that flushes come while other writes are under way. */
	for (i = 0; i < VT_WRITER_WRITES && !r && nr; i++) {
		if (w->slot[i].q)
			continue;
		r = slot_issue(w, &w->slot[i], false);
		nr--;
	}
	return r;
}

static void slot_end(struct vt_writer *w, struct vt_writer_slot *s)
{
	if (s->req.status != VIRTIO_BLK_S_OK)
		w->nr_failed++;
	else if (s->req.type == VIRTIO_BLK_T_FLUSH)
		vt_ledger_flush_end(w->ledger, s->id);
	else
		vt_ledger_write_end(w->ledger, s->id);
	s->q = NULL;
	w->inflight--;
}

/* Take what came back: how many, or -errno. */
static int collect(struct vt_writer *w)
{
	unsigned int i, before = w->inflight;
	struct vt_used u;
	int r = 0;

	for (i = 0; i < w->dev->nr_queues && r >= 0; i++)
		do
			r = vt_used_get(&w->dev->q[i], &u);
		while (r > 0);
	if (r < 0)
		return r;
	/*
	 * Flushes first: those that came back together with writes were issued
	 * before these had ended, and an entry is to be no earlier than the event.
	 */
	for (i = VT_WRITER_WRITES + VT_WRITER_FLUSHES; i-- > 0;)
		if (w->slot[i].q && w->slot[i].req.done)
			slot_end(w, &w->slot[i]);
	return before - w->inflight;
}

int vt_writer_reap(struct vt_writer *w)
{
	int64_t end = vt_now_ms() + vt_timeout_ms();
	struct pollfd pfd[VT_NR_QUEUES];
	int r;

	for (unsigned int i = 0; i < w->dev->nr_queues; i++)
		pfd[i] = (struct pollfd) { .fd = w->dev->q[i].call, .events = POLLIN };
	while ((r = collect(w)) == 0) {
		if (vt_now_ms() > end || poll(pfd, w->dev->nr_queues, vt_timeout_ms()) < 1)
			return -ETIMEDOUT;
		/* Reset the counters first, then look: what comes now is seen. */
		for (unsigned int i = 0; i < w->dev->nr_queues; i++)
			vt_event_count(w->dev->q[i].call, 0);
	}
	return r < 0 ? r : 0;
}

int vt_writer_drain(struct vt_writer *w)
{
	int r = 0;

	while (w->inflight && !r)
		r = vt_writer_reap(w);
	return r;
}
