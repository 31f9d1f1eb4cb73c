// SPDX-License-Identifier: GPL-2.0-only
/* How often something happens in the kernel: a trace event, or a call of a function. */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "vt.h"

#define TRACEFS	"/sys/kernel/tracing"
#define PROBE	"vhost_blk_test/hit"

static int event_enable(struct vt_event *event, const char *value)
{
	char path[192];

	snprintf(path, sizeof(path), "%s/events/%s/enable", event->dir, event->name);
	return vt_write_file(path, value);
}

int vt_event_start(struct vt_event *event, const char *name)
{
	memset(event, 0, sizeof(*event));
	if (access(TRACEFS "/instances", F_OK) && mount("tracefs", TRACEFS, "tracefs", 0, NULL))
		return -ENOENT;
	snprintf(event->name, sizeof(event->name), "%s", name);
	snprintf(event->dir, sizeof(event->dir), TRACEFS "/instances/vhost-blk-event-%d",
		 getpid());
	if (mkdir(event->dir, 0700))
		return -errno;
	return event_enable(event, "1");
}

int vt_event_start_call(struct vt_event *event, const char *function)
{
	char command[128];

	memset(event, 0, sizeof(*event));
	if (access(TRACEFS "/instances", F_OK) && mount("tracefs", TRACEFS, "tracefs", 0, NULL))
		return -ENOENT;
	if (access(TRACEFS "/kprobe_events", F_OK))
		return -ENOENT;
	/* left by a run that was killed */
	vt_write_file(TRACEFS "/kprobe_events", "-:" PROBE);
	snprintf(command, sizeof(command), "p:" PROBE " %s", function);
	return vt_write_file(TRACEFS "/kprobe_events", command) ?: vt_event_start(event, PROBE);
}

int vt_event_find(const struct vt_event *event, const char *text, char *line, size_t size)
{
	char path[128], buf[512];
	int nr = 0;
	FILE *f;

	snprintf(path, sizeof(path), "%s/trace", event->dir);
	f = fopen(path, "re");
	if (!f)
		return -errno;
	while (fgets(buf, sizeof(buf), f)) {
		if (buf[0] == '#' || !strstr(buf, text))
			continue;
		nr++;
		if (line)
			snprintf(line, size, "%s", buf);
	}
	fclose(f);
	return nr;
}

int vt_event_count_all(const struct vt_event *event)
{
	return vt_event_find(event, "", NULL, 0);
}

void vt_event_stop(struct vt_event *event)
{
	if (!event->dir[0])
		return;
	event_enable(event, "0");
	rmdir(event->dir);
	if (!strcmp(event->name, PROBE))
		vt_write_file(TRACEFS "/kprobe_events", "-:" PROBE);
	event->dir[0] = '\0';
}
