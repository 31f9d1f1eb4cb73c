// SPDX-License-Identifier: GPL-2.0-only
/* Which of its versions a block may hold, told by what was acknowledged when. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ledger.h"

#define CHECK_BYTES	65536

int vt_ledger_init(struct vt_ledger *l, uint32_t nr_units, uint32_t unit_bytes,
		   uint32_t max_writes, bool write_through)
{
	static uint32_t seed;

	memset(l, 0, sizeof(*l));
	l->nr_units = nr_units;
	l->unit_bytes = unit_bytes;
	l->write_through = write_through;
	l->seed = ++seed;
	l->max_writes = max_writes;
	l->first_unstable = 1;
	l->write = calloc(max_writes + 1, sizeof(*l->write));
	l->stable = calloc(max_writes, sizeof(*l->stable));
	return l->write && l->stable ? 0 : -ENOMEM;
}

void vt_ledger_fini(struct vt_ledger *l)
{
	free(l->write);
	free(l->stable);
	memset(l, 0, sizeof(*l));
}

static uint64_t mix(uint64_t x)
{
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

/* The first word names the write, the others depend on it, on the place and on theirs. */
static uint64_t first_word(const struct vt_ledger *l, uint32_t id)
{
	return (uint64_t)l->seed << 32 | id;
}

static uint64_t other_words(const struct vt_ledger *l, uint32_t unit, uint32_t id)
{
	return mix(mix((uint64_t)unit << 32 | id) + l->seed);
}

static void unit_fill(const struct vt_ledger *l, uint32_t unit, uint32_t id, uint8_t *p)
{
	uint64_t w = first_word(l, id), others = other_words(l, unit, id);

	for (uint32_t i = 0; i < l->unit_bytes; i += sizeof(w), w = others + i)
		memcpy(p + i, &w, sizeof(w));
}

uint32_t vt_ledger_write(struct vt_ledger *l, uint32_t unit, uint32_t nr, void *buf)
{
	uint32_t id = l->nr_writes + 1;

	if (id > l->max_writes || unit + nr > l->nr_units)
		abort();
	for (uint32_t u = 0; u < nr; u++)
		unit_fill(l, unit + u, id, (uint8_t *)buf + (size_t)u * l->unit_bytes);
	l->nr_writes = id;
	l->write[id] = (struct vt_ledger_write) { .unit = unit, .nr = nr, .issued = ++l->now };
	return id;
}

static void stable_add(struct vt_ledger *l, uint32_t id)
{
	l->write[id].stable = true;
	l->stable[l->nr_stable++] = id;
	while (l->first_unstable <= l->nr_writes && l->write[l->first_unstable].stable)
		l->first_unstable++;
}

void vt_ledger_write_end(struct vt_ledger *l, uint32_t id)
{
	l->write[id].ended = ++l->now;
	if (l->write_through)
		stable_add(l, id);
}

uint32_t vt_ledger_flush(struct vt_ledger *l)
{
	return ++l->now;
}

void vt_ledger_flush_end(struct vt_ledger *l, uint32_t issued)
{
	for (uint32_t id = l->first_unstable; id <= l->nr_writes; id++) {
		const struct vt_ledger_write *w = &l->write[id];

		if (!w->stable && w->ended && w->ended < issued)
			stable_add(l, id);
	}
}

uint32_t vt_ledger_read(const struct vt_ledger *l, uint32_t unit, const void *buf)
{
	uint64_t w, others;
	uint32_t id;

	memcpy(&w, buf, sizeof(w));
	if (!w)
		return vt_check_byte(buf, l->unit_bytes, 0) < 0 ? VT_LEDGER_NONE : VT_LEDGER_BAD;
	id = w;
	if (w != first_word(l, id) || !id || id > l->nr_writes ||
	    unit - l->write[id].unit >= l->write[id].nr)
		return VT_LEDGER_BAD;
	others = other_words(l, unit, id);
	for (uint32_t i = sizeof(w); i < l->unit_bytes; i += sizeof(w)) {
		memcpy(&w, (const uint8_t *)buf + i, sizeof(w));
		if (w != others + i)
			return VT_LEDGER_BAD;
	}
	return id;
}

void vt_ledger_floor(const struct vt_ledger *l, uint32_t *floor, uint32_t from, uint32_t to)
{
	for (; from < to; from++) {
		const struct vt_ledger_write *w = &l->write[l->stable[from]];

		for (uint32_t u = w->unit; u < w->unit + w->nr; u++)
			if (floor[u] < w->issued)
				floor[u] = w->issued;
	}
}

bool vt_ledger_allows(const struct vt_ledger *l, const uint32_t *floor, uint32_t unit,
		      uint32_t id)
{
	if (id == VT_LEDGER_NONE)
		return !floor[unit];
	return id != VT_LEDGER_BAD && (!l->write[id].ended || l->write[id].ended > floor[unit]);
}

/* Read a disk in pieces: what is in them, unit by unit, is compared with the ledger. */
static int check_pieces(const struct vt_ledger *l, const uint32_t *floor, int fd, uint8_t *buf)
{
	uint32_t nr = CHECK_BYTES / l->unit_bytes, at = 0;
	int bad = 0;

	for (uint32_t u = 0; u < l->nr_units; u++, at++) {
		off_t offset = (off_t)u * l->unit_bytes;
		uint32_t id;

		at %= nr;
		if (!at && pread(fd, buf, CHECK_BYTES, offset) < (ssize_t)l->unit_bytes)
			return -EIO;
		id = vt_ledger_read(l, u, buf + (size_t)at * l->unit_bytes);
		bad += !vt_ledger_allows(l, floor, u, id);
	}
	return bad;
}

int vt_ledger_check_disk(const struct vt_ledger *l, const char *path)
{
	uint32_t *floor = calloc(l->nr_units, sizeof(*floor));
	uint8_t *buf = aligned_alloc(4096, CHECK_BYTES);
	int fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	int bad = -EIO;

	if (floor && buf && fd >= 0) {
		vt_ledger_floor(l, floor, 0, l->nr_stable);
		bad = check_pieces(l, floor, fd, buf);
	}
	if (fd >= 0)
		close(fd);
	free(buf);
	free(floor);
	return bad;
}
