// SPDX-License-Identifier: GPL-2.0-only
/* Which of its versions a block may hold, told by what was acknowledged when. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ledger.h"

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
	l->first_unsettled = 1;
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

static void settle(struct vt_ledger *l, uint32_t id, bool stable)
{
	l->write[id].settled = true;
	if (stable)
		l->stable[l->nr_stable++] = id;
	while (l->first_unsettled <= l->nr_writes && l->write[l->first_unsettled].settled)
		l->first_unsettled++;
}

void vt_ledger_write_end(struct vt_ledger *l, uint32_t id)
{
	l->write[id].ended = ++l->now;
	if (l->write_through)
		settle(l, id, true);
}

uint32_t vt_ledger_flush(struct vt_ledger *l)
{
	return ++l->now;
}

void vt_ledger_flush_end(struct vt_ledger *l, uint32_t issued)
{
	for (uint32_t id = l->first_unsettled; id <= l->nr_writes; id++) {
		const struct vt_ledger_write *w = &l->write[id];

		if (!w->settled && w->ended && w->ended < issued)
			settle(l, id, true);
	}
}

void vt_ledger_power_cut(struct vt_ledger *l)
{
	l->now++;
	for (uint32_t id = l->first_unsettled; id <= l->nr_writes; id++) {
		if (l->write[id].settled)
			continue;
		if (!l->write[id].ended)
			l->write[id].ended = l->now;
		settle(l, id, false);
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

int vt_ledger_check_disk(const struct vt_ledger *l, const char *path)
{
	size_t bytes = (size_t)l->nr_units * l->unit_bytes;
	uint32_t *floor = calloc(l->nr_units, sizeof(*floor));
	uint8_t *buf = aligned_alloc(4096, bytes);
	int fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	int bad = 0;

	if (!floor || !buf || fd < 0 || pread(fd, buf, bytes, 0) != (ssize_t)bytes)
		bad = -EIO;
	else
		vt_ledger_floor(l, floor, 0, l->nr_stable);
	for (uint32_t u = 0; bad >= 0 && u < l->nr_units; u++) {
		uint32_t id = vt_ledger_read(l, u, buf + (size_t)u * l->unit_bytes);

		bad += !vt_ledger_allows(l, floor, u, id);
	}
	if (fd >= 0)
		close(fd);
	free(buf);
	free(floor);
	return bad;
}
