// SPDX-License-Identifier: GPL-2.0-only
/* Disks of disk/vt_disk.c, a kernel module of the tests. */
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/syscall.h>

#include "vt.h"

/* As the runner says, else as it was built for this machine. */
static int module_open(void)
{
	const char *path = getenv("VHOST_BLK_TEST_DISK");
	char self[PATH_MAX], beside[PATH_MAX + 32];
	ssize_t len;
	int fd;

	if (!path) {
		len = readlink("/proc/self/exe", self, sizeof(self) - 1);
		if (len < 0)
			return -errno;
		self[len] = 0;
		snprintf(beside, sizeof(beside), "%s/../disk/vt_disk.ko", dirname(self));
		path = beside;
	}
	fd = open(path, O_RDONLY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int vt_test_disk_open(struct vt_bdev *bdev, const char *name)
{
	int fd = module_open(), r = 0;

	bdev->fd = -1;
	if (fd < 0)
		return fd;
	/* It stays until it is unloaded, which takes an emulated kernel a second. */
	if (syscall(SYS_finit_module, fd, "", 0) && errno != EEXIST)
		r = -errno;
	close(fd);
	return r ?: vt_bdev_open(bdev, name);
}

int vt_test_disk_unload(void)
{
	int64_t end = vt_now_ms() + vt_timeout_ms();

	while (syscall(SYS_delete_module, "vt_disk", O_NONBLOCK)) {
		/* Who looks at new disks may have it open. */
		if (errno != EWOULDBLOCK || vt_now_ms() > end)
			return -errno;
		usleep(10000);
	}
	return 0;
}

long vt_test_disk_count(const char *what)
{
	char path[96];
	long value;
	int r;

	snprintf(path, sizeof(path), "/sys/module/vt_disk/parameters/%s", what);
	r = vt_read_long(path, &value);
	return r ?: value;
}
