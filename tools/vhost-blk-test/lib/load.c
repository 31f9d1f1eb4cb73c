// SPDX-License-Identifier: GPL-2.0-only
/*
 * Verified load: a thread drives one queue with random requests on its own part
 * of a disk. It knows what every sector must hold, so that a write which is
 * lost, repeated or misplaced, and a read which brings anything else, is seen.
 */
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vt.h"

#define ROOM_GAP	4096	/* before and after a request's data, for odd addresses */
#define CANARY		0xc5
#define CANARY_BYTES	32
#define POISON		0xee
#define NO_WRITE	0	/* generation of a sector with unknown content */
#define MAX_SEGS	8

struct vt_load_slot {
	struct vt_req req;
	uint64_t room;
	uint32_t at, nr;	/* sectors of the load's part */
	uint16_t gen;
	bool busy;
};

static uint32_t rnd(struct vt_load *l, uint32_t below)
{
	l->random = l->random * 6364136223846793005ULL + 1442695040888963407ULL;
	return (l->random >> 33) % below;
}

__attribute__((format(printf, 3, 4)))
static void load_fail(struct vt_load *l, int error, const char *fmt, ...)
{
	va_list ap;

	if (l->error)
		return;
	va_start(ap, fmt);
	vsnprintf(l->what, sizeof(l->what), fmt, ap);
	va_end(ap);
	__atomic_store_n(&l->error, error, __ATOMIC_RELEASE);
}

static void range_busy(struct vt_load *l, const struct vt_load_slot *s, bool busy)
{
	memset(l->sector_busy + s->at, busy, s->nr);
}

static bool range_is_free(const struct vt_load *l, const struct vt_load_slot *s)
{
	return !memchr(l->sector_busy + s->at, 1, s->nr);
}

static void range_gen(struct vt_load *l, const struct vt_load_slot *s, uint16_t gen)
{
	for (uint32_t i = 0; i < s->nr; i++)
		l->gen[s->at + i] = gen;
}

/* Make what no pattern has out of what the request is to overwrite, and around it. */
static void read_prepare(struct vt_load *l, const struct vt_req *req)
{
	uint8_t *p = vt_ptr(&l->q->dev->mem, req->data);

	for (uint32_t i = 0; i < req->len; i += VT_SECTOR)
		memset(p + i, POISON, 8);
	memset(p + req->len - 8, POISON, 8);
	memset(p - CANARY_BYTES, CANARY, CANARY_BYTES);
	memset(p + req->len, CANARY, CANARY_BYTES);
}

static void read_check(struct vt_load *l, const struct vt_load_slot *s)
{
	uint8_t *p = vt_ptr(&l->q->dev->mem, s->req.data);
	uint64_t sector = l->sector + s->at;

	if (vt_check_byte(p - CANARY_BYTES, CANARY_BYTES, CANARY) >= 0 ||
	    vt_check_byte(p + s->req.len, CANARY_BYTES, CANARY) >= 0)
		load_fail(l, -EILSEQ, "queue %u: a read of %u sectors at %lu wrote around its data",
			  l->q->index, s->nr, (unsigned long)sector);
	for (uint32_t i = 0; i < s->nr; i++) {
		ssize_t at;

		if (l->gen[s->at + i] == NO_WRITE)
			continue;
		at = vt_check(p + i * VT_SECTOR, VT_SECTOR, l->gen[s->at + i], sector + i);
		if (at >= 0)
			load_fail(l, -EILSEQ, "queue %u: sector %lu differs at byte %zd",
				  l->q->index, (unsigned long)(sector + i), at);
	}
}

/* Cut the data at random; @odd: anywhere, else between sectors. */
static unsigned int cut(struct vt_load *l, const struct vt_req *req, struct vt_seg *seg, bool odd)
{
	uint16_t flags = req->type == VIRTIO_BLK_T_OUT ? 0 : VRING_DESC_F_WRITE;
	uint32_t unit = odd ? 1 : l->lbs, at = 0, part;
	unsigned int n = 0, parts = 1 + rnd(l, 2) * rnd(l, MAX_SEGS);

	while (at < req->len) {
		part = req->len - at;
		if (--parts && part > unit)
			part = unit * (1 + rnd(l, part / unit));
		else
			part = req->len - at;
		seg[n++] = (struct vt_seg) { req->data + at, part, flags };
		at += part;
		if (!parts)
			break;
	}
	return n;
}

static int request_add(struct vt_load *l, struct vt_load_slot *s, bool odd)
{
	struct vt_queue *q = l->q;
	struct vt_mem *mem = &q->dev->mem;
	struct vt_seg seg[MAX_SEGS + 2];
	uint16_t slot = q->free_head;
	unsigned int n = 1;
	int head;

	if (!q->nr_free)
		return -ENOSPC;
	vt_hdr_write(mem, vt_hdr_gpa(q, slot), s->req.type, s->req.sector);
	*(uint8_t *)vt_ptr(mem, vt_status_gpa(q, slot)) = VT_STATUS_NONE;
	seg[0] = (struct vt_seg) { vt_hdr_gpa(q, slot), 16, 0 };
	if (s->req.len)
		n += cut(l, &s->req, seg + 1, odd);
	seg[n++] = (struct vt_seg) { vt_status_gpa(q, slot), 1, VRING_DESC_F_WRITE };
	head = vt_add(q, seg, n, rnd(l, 2));
	if (head < 0)
		return head;
	s->req.done = false;
	s->req.head = head;
	q->slot[head].req = &s->req;
	s->busy = true;
	return 0;
}

/* A range that no other request is using, or false. */
static bool range_pick(struct vt_load *l, struct vt_load_slot *s)
{
	uint32_t unit = l->lbs / VT_SECTOR, max = l->max_bytes / l->lbs;

	/* most are small */
	s->nr = unit * (1 + rnd(l, rnd(l, 4) ? max / 8 + 1 : max));
	s->at = unit * rnd(l, (l->nr_sectors - s->nr) / unit + 1);
	return range_is_free(l, s);
}

static bool request_make(struct vt_load *l, struct vt_load_slot *s)
{
	bool odd = !l->aligned && !rnd(l, 4);
	uint32_t kind = rnd(l, 32);

	s->req = (struct vt_req) { .type = kind & 1 ? VIRTIO_BLK_T_OUT : VIRTIO_BLK_T_IN };
	s->nr = 0;
	if (kind == 0) {
		s->req.type = VIRTIO_BLK_T_FLUSH;
		return !request_add(l, s, false);
	}
	if (!range_pick(l, s))
		return false;
	s->req.sector = l->sector + s->at;
	s->req.len = s->nr * VT_SECTOR;
	s->req.data = s->room + ROOM_GAP / 2 + (odd ? rnd(l, 511) + 1 : rnd(l, 4) * 512);
	if (s->req.type == VIRTIO_BLK_T_OUT) {
		if (++l->last_gen == NO_WRITE)
			l->last_gen++;
		s->gen = l->last_gen;
		vt_fill(vt_ptr(&l->q->dev->mem, s->req.data), s->req.len, s->gen, s->req.sector);
	} else {
		read_prepare(l, &s->req);
	}
	if (request_add(l, s, odd)) {
		s->busy = false;
		return false;
	}
	range_busy(l, s, true);
	return true;
}

static void request_end(struct vt_load *l, struct vt_load_slot *s)
{
	bool ok = s->req.status == VIRTIO_BLK_S_OK;
	uint32_t want = ok && s->req.type == VIRTIO_BLK_T_IN ? s->req.len + 1 : 1;

	s->busy = false;
	range_busy(l, s, false);
	if (!ok && !(l->may_fail && s->req.status == VIRTIO_BLK_S_IOERR))
		load_fail(l, -EIO, "queue %u: status %#x of type %u, sector %lu, %u bytes",
			  l->q->index, s->req.status, s->req.type,
			  (unsigned long)s->req.sector, s->req.len);
	if (s->req.used_len != want)
		load_fail(l, -EBADMSG, "queue %u: used.len %u, expected %u", l->q->index,
			  s->req.used_len, want);
	if (s->req.type == VIRTIO_BLK_T_OUT)
		range_gen(l, s, ok ? s->gen : NO_WRITE);
	else if (s->req.type == VIRTIO_BLK_T_IN && ok)
		read_check(l, s);
	l->nr_failed += !ok;
	__atomic_fetch_add(&l->nr_done, 1, __ATOMIC_RELEASE);
}

static void requests_reap(struct vt_load *l)
{
	for (unsigned int i = 0; i < l->depth; i++)
		if (l->slot[i].busy && l->slot[i].req.done)
			request_end(l, &l->slot[i]);
}

/* Many loads may share a slow machine: what counts is that the answer comes. */
static int load_timeout_ms(void)
{
	return 6 * vt_timeout_ms();
}

/* Wait for one request at least. */
static void load_wait(struct vt_load *l)
{
	struct vt_used u;
	int r = vt_wait_ms(l->q, &u, load_timeout_ms());

	if (r)
		load_fail(l, r, "queue %u: no answer, %u in flight, %lu done: %s", l->q->index,
			  l->q->inflight, (unsigned long)l->nr_done, strerror(-r));
	while (!r && (r = vt_used_get(l->q, &u)) == 1)
		r = 0;
	if (r < 0)
		load_fail(l, r, "queue %u: a used entry that is not in flight", l->q->index);
	requests_reap(l);
}

static void load_drain(struct vt_load *l)
{
	while (l->q->inflight && !l->error)
		load_wait(l);
}

/* Write or read all of the part, in large requests. */
static void load_sweep(struct vt_load *l, uint32_t type)
{
	struct vt_load_slot *s = &l->slot[0];

	for (uint32_t at = 0; at < l->nr_sectors && !l->error; at += s->nr) {
		s->at = at;
		s->nr = l->max_bytes / VT_SECTOR;
		if (s->nr > l->nr_sectors - at)
			s->nr = l->nr_sectors - at;
		s->req = (struct vt_req) {
			.type = type, .sector = l->sector + at, .len = s->nr * VT_SECTOR,
			.data = s->room + ROOM_GAP / 2,
		};
		s->gen = ++l->last_gen;
		if (type == VIRTIO_BLK_T_OUT)
			vt_fill(vt_ptr(&l->q->dev->mem, s->req.data), s->req.len, s->gen,
				s->req.sector);
		else
			read_prepare(l, &s->req);
		if (request_add(l, s, false))
			load_fail(l, -ENOSPC, "queue %u: no descriptors", l->q->index);
		vt_publish(l->q);
		vt_kick_needed(l->q);
		load_drain(l);
	}
}

static void *load_run(void *arg)
{
	struct vt_load *l = arg;

	if (!l->swept)
		load_sweep(l, VIRTIO_BLK_T_OUT);
	l->swept = true;
	while (!__atomic_load_n(&l->stop, __ATOMIC_ACQUIRE) && !l->error) {
		/* Bursts, so that batches and kicks of all sizes occur. */
		for (unsigned int burst = 1 + rnd(l, l->depth), i = 0; burst && i < l->depth; i++)
			if (!l->slot[i].busy && request_make(l, &l->slot[i]))
				burst--;
		vt_publish(l->q);
		vt_kick_needed(l->q);
		if (l->q->inflight)
			load_wait(l);
	}
	load_drain(l);
	return NULL;
}

/* What threads must not do side by side: take guest memory. */
static int load_alloc(struct vt_load *l)
{
	struct vt_mem *mem = &l->q->dev->mem;

	l->slot = calloc(l->depth, sizeof(*l->slot));
	l->gen = calloc(l->nr_sectors, sizeof(*l->gen));
	l->sector_busy = calloc(l->nr_sectors, 1);
	if (!l->slot || !l->gen || !l->sector_busy)
		return -ENOMEM;
	for (unsigned int i = 0; i < l->depth; i++)
		l->slot[i].room = vt_alloc(mem, l->max_bytes + 2 * ROOM_GAP);
	for (unsigned int i = 0; i < l->q->num; i++) {
		struct vt_slot *slot = &l->q->slot[i];

		if (slot->table_len >= MAX_SEGS + 2)
			continue;
		slot->table_len = MAX_SEGS + 2;
		slot->table = vt_alloc_in(mem, 0, slot->table_len * sizeof(struct vring_desc), 16);
	}
	return 0;
}

int vt_load_start(struct vt_load *l)
{
	int r = 0;

	l->lbs = l->lbs ?: VT_SECTOR;
	l->max_bytes = l->max_bytes ?: 64 * 1024;
	l->depth = l->depth ?: 8;
	l->random = l->random ?: l->q->index + 1;
	l->stop = false;
	if (!l->slot)
		r = load_alloc(l);
	return r ?: -pthread_create(&l->thread, NULL, load_run, l);
}

int vt_load_more(struct vt_load *l, unsigned int nr)
{
	uint64_t done = __atomic_load_n(&l->nr_done, __ATOMIC_ACQUIRE);
	int64_t end = vt_now_ms() + load_timeout_ms();

	while (__atomic_load_n(&l->nr_done, __ATOMIC_ACQUIRE) - done < nr) {
		int error = __atomic_load_n(&l->error, __ATOMIC_ACQUIRE);

		if (error || vt_now_ms() > end)
			return error ?: -ETIMEDOUT;
		usleep(1000);
	}
	return 0;
}

int vt_load_stop(struct vt_load *l)
{
	bool may_fail = l->may_fail;

	__atomic_store_n(&l->stop, true, __ATOMIC_RELEASE);
	pthread_join(l->thread, NULL);
	l->may_fail = false;
	load_sweep(l, VIRTIO_BLK_T_IN);
	l->may_fail = may_fail;
	return l->error ?: vt_queue_idle(l->q);
}

int vt_load_compare(struct vt_load *l, int fd)
{
	size_t len = (size_t)l->nr_sectors * VT_SECTOR;
	uint8_t *p = malloc(len);

	if (!p || pread(fd, p, len, l->sector * VT_SECTOR) != (ssize_t)len)
		load_fail(l, -EIO, "queue %u: the host cannot read the disk", l->q->index);
	for (uint32_t i = 0; i < l->nr_sectors && !l->error; i++)
		if (l->gen[i] != NO_WRITE &&
		    vt_check(p + (size_t)i * VT_SECTOR, VT_SECTOR, l->gen[i], l->sector + i) >= 0)
			load_fail(l, -EILSEQ, "queue %u: the host reads sector %lu differently",
				  l->q->index, (unsigned long)(l->sector + i));
	free(p);
	return l->error;
}

void vt_load_free(struct vt_load *l)
{
	free(l->slot);
	free(l->gen);
	free(l->sector_busy);
	l->slot = NULL;
}

void vt_load_spread(struct vt_load *load, unsigned int n, struct vt_dev *dev,
		    const struct vt_bdev *disk)
{
	uint64_t unit = disk->lbs / VT_SECTOR, each = disk->bytes / VT_SECTOR / n;

	/* No more than is swept in no time, emulated too. */
	if (each > VT_MIB / VT_SECTOR)
		each = VT_MIB / VT_SECTOR;
	each = each / unit * unit;
	memset(load, 0, n * sizeof(*load));
	for (unsigned int i = 0; i < n; i++) {
		load[i].q = &dev->q[i % dev->nr_queues];
		load[i].sector = each * i;
		load[i].nr_sectors = each;
		load[i].lbs = disk->lbs;
		load[i].random = i + 1;
	}
}
