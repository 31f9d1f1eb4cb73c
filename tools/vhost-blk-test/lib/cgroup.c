// SPDX-License-Identifier: GPL-2.0-only
/* Control groups, version 2: what a process may use, and what it has used. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include "vt.h"

#define CGROUP_DIR	"/sys/fs/cgroup"

static int cgroup_path(char *path, size_t size, const char *name, const char *file)
{
	int n = snprintf(path, size, CGROUP_DIR "/%s%s%s", name, file ? "/" : "", file ?: "");

	return n < (int)size ? 0 : -ENAMETOOLONG;
}

int vt_cgroup_create(const char *name, const char *controller)
{
	char path[128], enable[32];
	int r;

	if (access(CGROUP_DIR "/cgroup.controllers", R_OK) &&
	    mount("cgroup2", CGROUP_DIR, "cgroup2", 0, NULL))
		return -errno;
	snprintf(enable, sizeof(enable), "+%s", controller);
	r = vt_write_file(CGROUP_DIR "/cgroup.subtree_control", enable);
	if (r)
		return r;
	r = cgroup_path(path, sizeof(path), name, NULL);
	rmdir(path);	/* left by a run that was killed */
	return r ?: mkdir(path, 0755) ? -errno : 0;
}

int vt_cgroup_set(const char *name, const char *file, const char *value)
{
	char path[128];

	return cgroup_path(path, sizeof(path), name, file) ?: vt_write_file(path, value);
}

int vt_cgroup_get(const char *name, const char *file, const char *key, long *value)
{
	char path[128], line[256], *at;
	int r = cgroup_path(path, sizeof(path), name, file);
	FILE *f;

	if (r)
		return r;
	f = fopen(path, "re");
	if (!f)
		return -errno;
	r = -ENODATA;
	while (r && fgets(line, sizeof(line), f)) {
		at = strstr(line, key);
		if (at) {
			*value = strtol(at + strlen(key), NULL, 10);
			r = 0;
		}
	}
	fclose(f);
	return r;
}

int vt_cgroup_remove(const char *name)
{
	int64_t end = vt_now_ms() + vt_timeout_ms();
	char path[128];

	cgroup_path(path, sizeof(path), name, NULL);
	/* What a process that has ended leaves in it goes a moment later. */
	while (rmdir(path)) {
		if (errno != EBUSY || vt_now_ms() > end)
			return -errno;
		usleep(1000);
	}
	return 0;
}
