// SPDX-License-Identifier: GPL-2.0-only
/* Which bios a block device was given, told by the block_bio_queue event. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "vt.h"

#define TRACEFS	"/sys/kernel/tracing"

static int trace_set(const struct vt_trace *trace, const char *file, const char *value)
{
	char path[192];

	snprintf(path, sizeof(path), "%s/%s", trace->dir, file);
	return vt_write_file(path, value);
}

int vt_trace_start(struct vt_trace *trace, const struct vt_bdev *bdev)
{
	char filter[48];
	struct stat st;
	int r;

	if (fstat(bdev->fd, &st))
		return -errno;
	if (access(TRACEFS "/instances", F_OK) && mount("tracefs", TRACEFS, "tracefs", 0, NULL))
		return -ENOENT;
	snprintf(trace->dir, sizeof(trace->dir), TRACEFS "/instances/vhost-blk-test-%d", getpid());
	/*
	 * An instance inherits this: whether its events make the scheduler record
	 * the names of tasks. Nobody reads them here, and to patch the scheduler's
	 * code for each test is what emulators are worst at.
	 */
	r = vt_write_file(TRACEFS "/options/record-cmd", "0");
	if (r)
		return r;
	r = mkdir(trace->dir, 0700) ? -errno : 0;
	r = vt_write_file(TRACEFS "/options/record-cmd", "1") ?: r;
	if (r)
		return r;
	/* The kernel's dev_t has 20 bits of minor. */
	snprintf(filter, sizeof(filter), "dev == %u",
		 major(st.st_rdev) << 20 | minor(st.st_rdev));
	r = trace_set(trace, "events/block/block_bio_queue/filter", filter);
	return r ?: trace_set(trace, "events/block/block_bio_queue/enable", "1");
}

/*
 * rwbs: an F before the operation is a preflush, one after it FUA. To write zeroes
 * is N in older kernels, WZ in newer ones.
 */
static void count_line(struct vt_trace_count *c, const char *rwbs, unsigned int nr_sectors,
		       unsigned int position)
{
	if (rwbs[0] == 'F') {
		c->flushes++;
		if (!c->first_flush)
			c->first_flush = position;
		rwbs++;
	}
	if (!nr_sectors)
		return;
	if (rwbs[0] == 'R') {
		c->reads++;
		return;
	}
	c->last_write = position;
	if (rwbs[0] == 'D')
		c->discards++;
	else if (rwbs[0] == 'N' || rwbs[1] == 'Z')
		c->zeroes++;
	else if (rwbs[0] == 'W')
		c->writes++;
	if (rwbs[0] == 'W' && rwbs[1] == 'F')
		c->fua_writes++;
}

int vt_trace_read(struct vt_trace *trace, struct vt_trace_count *count)
{
	unsigned int nr_sectors, position = 0;
	char path[192], line[512], rwbs[16];
	FILE *f;

	memset(count, 0, sizeof(*count));
	snprintf(path, sizeof(path), "%s/trace", trace->dir);
	f = fopen(path, "re");
	if (!f)
		return -errno;
	while (fgets(line, sizeof(line), f)) {
		char *p = strstr(line, "block_bio_queue: ");

		if (!p || sscanf(p, "block_bio_queue: %*u,%*u %15s %*u + %u",
				 rwbs, &nr_sectors) != 2)
			continue;
		count_line(count, rwbs, nr_sectors, ++position);
	}
	fclose(f);
	/* Start afresh for the next read: opening it for writing is enough. */
	f = fopen(path, "we");
	return f ? fclose(f) : -errno;
}

void vt_trace_stop(struct vt_trace *trace)
{
	if (!trace->dir[0])
		return;
	trace_set(trace, "events/block/block_bio_queue/enable", "0");
	rmdir(trace->dir);
	trace->dir[0] = '\0';
}
