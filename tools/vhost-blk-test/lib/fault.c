// SPDX-License-Identifier: GPL-2.0-only
/* Faults that the kernel injects into itself: memory, copies from and to user space, bios. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mount.h>

#include "vt.h"

#define DEBUGFS	"/sys/kernel/debug"

static int debugfs_mount(void)
{
	if (!access(DEBUGFS "/block", F_OK))
		return 0;
	return mount("debugfs", DEBUGFS, "debugfs", 0, NULL) && errno != EBUSY ? -errno : 0;
}

/* The kernel's default is to print a stack for each fault, as for a bug. */
static const char *const fault_kinds[] = {
	"failslab", "fail_page_alloc", "fail_usercopy", "fail_make_request",
};

int vt_fault_set(const char *kind, const char *attr, const char *value)
{
	char path[128];

	snprintf(path, sizeof(path), DEBUGFS "/%s/%s", kind, attr);
	return vt_write_file(path, value);
}

int vt_fault_init(void)
{
	int r = debugfs_mount();

	for (unsigned int i = 0; !r && i < sizeof(fault_kinds) / sizeof(*fault_kinds); i++)
		r = vt_fault_set(fault_kinds[i], "verbose", "0");
	/* Allocations that may sleep, of one page, of high memory: all may fail. */
	r = r ?: vt_fault_set("failslab", "ignore-gfp-wait", "N");
	r = r ?: vt_fault_set("fail_page_alloc", "ignore-gfp-wait", "N");
	r = r ?: vt_fault_set("fail_page_alloc", "ignore-gfp-highmem", "N");
	return r ?: vt_fault_set("fail_page_alloc", "min-order", "0");
}

int vt_fault_open(int tid)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/fail-nth", tid);
	fd = open(path, O_RDWR | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int vt_fault_arm(int fd, unsigned int nth)
{
	char text[16];
	int n = snprintf(text, sizeof(text), "%u", nth);

	return pwrite(fd, text, n, 0) == n ? 0 : -errno;
}

int vt_fault_disarm(int fd)
{
	char text[16] = "";
	ssize_t n = pread(fd, text, sizeof(text) - 1, 0);

	/* Reading and writing it are themselves copies that can be made to fail. */
	if (n < 0)
		return errno == EFAULT ? 1 : -errno;
	if (vt_fault_arm(fd, 0) && errno != EFAULT)
		return -errno;
	return atoi(text);
}

int vt_worker_tid(void)
{
	char want[32], comm[32], path[288];
	int tid = -ESRCH;
	struct dirent *e;
	DIR *proc;
	FILE *f;

	snprintf(want, sizeof(want), "vhost-%d\n", getpid());
	proc = opendir("/proc");
	if (!proc)
		return -errno;
	while (tid < 0 && (e = readdir(proc))) {
		snprintf(path, sizeof(path), "/proc/%s/comm", e->d_name);
		f = atoi(e->d_name) ? fopen(path, "re") : NULL;
		if (!f)
			continue;
		if (fgets(comm, sizeof(comm), f) && !strcmp(comm, want))
			tid = atoi(e->d_name);
		fclose(f);
	}
	closedir(proc);
	return tid;
}

#define KMEMLEAK	DEBUGFS "/kmemleak"

int vt_kmemleak_count(char *report, size_t size)
{
	char line[256];
	size_t len = 0;
	int nr = 0;
	FILE *f;

	if (access(KMEMLEAK, R_OK | W_OK))
		return -ENOENT;
	/* It takes no object for lost that is younger than five seconds. */
	sleep(6);
	/* An object that moved during one scan is found in the next. */
	if (vt_write_file(KMEMLEAK, "scan") || vt_write_file(KMEMLEAK, "scan"))
		return -EIO;
	f = fopen(KMEMLEAK, "re");
	if (!f)
		return -errno;
	report[0] = '\0';
	while (fgets(line, sizeof(line), f)) {
		nr += !strncmp(line, "unreferenced object", 19);
		if (len + strlen(line) + 3 < size)
			len += sprintf(report + len, "# %s", line);
	}
	fclose(f);
	return nr;
}
