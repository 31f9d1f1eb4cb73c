// SPDX-License-Identifier: GPL-2.0-only
/* File systems made for a test, and image files on them. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>

#include <linux/falloc.h>

#include "vt.h"

/* Small and quick to make; mkfs.xfs wants to be told that this is meant. */
static const struct fs_kind {
	const char *type, *mkfs, *make, *options;
} kinds[] = {
	{ "ext4", "mkfs.ext4", "-q -F -b 4096 -E lazy_itable_init=1,nodiscard",
	  "noinit_itable,commit=600" },
	{ "xfs", "mkfs.xfs", "--unsupported -q -f -K -l size=8m 2>/dev/null", "" },
	/* commit: what is removed is free, and chunks are, after a commit only */
	{ "btrfs", "mkfs.btrfs", "-q -f -K -m single -d single >/dev/null 2>&1", "commit=1" },
	{ "tmpfs", NULL, NULL, "size=128m,huge=never" },
};

static const struct fs_kind *kind_find(const char *type)
{
	for (unsigned int i = 0; i < sizeof(kinds) / sizeof(*kinds); i++)
		if (!strcmp(kinds[i].type, type))
			return &kinds[i];
	return NULL;
}

static bool kernel_lists(const char *type)
{
	char line[64], name[32];
	bool found = false;
	FILE *f = fopen("/proc/filesystems", "re");

	while (f && !found && fgets(line, sizeof(line), f))
		found = (sscanf(line, "nodev %31s", name) == 1 ||
			 sscanf(line, "%31s", name) == 1) && !strcmp(name, type);
	if (f)
		fclose(f);
	return found;
}

static bool kernel_has(const char *type)
{
	return kernel_lists(type) || (!vt_modprobe(type, "") && kernel_lists(type));
}

static int fs_make(struct vt_fs *fs, const struct fs_kind *kind)
{
	char command[256];
	int r;

	/* The options may end in a redirection. */
	snprintf(command, sizeof(command), "PATH=$PATH:/usr/sbin:/sbin; %s %s %s",
		 kind->mkfs, fs->disk, kind->make);
	r = system(command);
	if (WIFEXITED(r) && WEXITSTATUS(r) == 127) {
		snprintf(fs->lacks, sizeof(fs->lacks), "no %s here", kind->mkfs);
		return -EOPNOTSUPP;
	}
	return r ? -EIO : 0;
}

int vt_fs_mount(struct vt_fs *fs)
{
	const struct fs_kind *kind = kind_find(fs->type);

	if (mount(kind->mkfs ? fs->disk : "none", fs->dir, fs->type, 0, kind->options))
		return -errno;
	fs->mounted = true;
	return 0;
}

int vt_fs_create(struct vt_fs *fs, const char *type, const struct vt_bdev *disk)
{
	const struct fs_kind *kind = kind_find(type);
	int r = 0;

	memset(fs, 0, sizeof(*fs));
	snprintf(fs->type, sizeof(fs->type), "%s", type);
	if (!kind_find(type))
		return -EINVAL;
	if (!kernel_has(type)) {
		snprintf(fs->lacks, sizeof(fs->lacks), "no %s in this kernel", type);
		return -EOPNOTSUPP;
	}
	if (disk)
		snprintf(fs->disk, sizeof(fs->disk), "%s", disk->path);
	if (kind->mkfs)
		r = fs_make(fs, kind);
	snprintf(fs->dir, sizeof(fs->dir), "/tmp/vhost-blk-test-XXXXXX");
	if (!r && !mkdtemp(fs->dir))
		r = -errno;
	return r ?: vt_fs_mount(fs);
}

int vt_fs_umount(struct vt_fs *fs)
{
	if (fs->mounted && umount(fs->dir))
		return -errno;
	fs->mounted = false;
	return 0;
}

int vt_fs_renew(struct vt_fs *fs)
{
	int r = vt_fs_umount(fs);

	return r ?: fs_make(fs, kind_find(fs->type)) ?: vt_fs_mount(fs);
}

int vt_fs_destroy(struct vt_fs *fs)
{
	int64_t end = vt_now_ms() + vt_timeout_ms();
	int r;

	/* What a process that was killed had open is let go of a moment after it has gone. */
	while ((r = vt_fs_umount(fs)) == -EBUSY && vt_now_ms() < end)
		usleep(1000);
	if (r == -EBUSY)
		umount2(fs->dir, MNT_DETACH);
	if (fs->dir[0])
		rmdir(fs->dir);
	memset(fs, 0, sizeof(*fs));
	return r;
}

/* In Linux both file systems take what XFS began with. */
#define FS_SHUTDOWN		_IOR('X', 125, __u32)
#define FS_SHUTDOWN_NOLOGFLUSH	2

int vt_fs_shutdown(const struct vt_fs *fs)
{
	__u32 how = FS_SHUTDOWN_NOLOGFLUSH;
	int fd = open(fs->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;

	if (fd < 0)
		return -errno;
	if (ioctl(fd, FS_SHUTDOWN, &how))
		r = errno == ENOTTY ? -EOPNOTSUPP : -errno;
	close(fd);
	return r;
}

int vt_fs_fill(const struct vt_fs *fs, const char *name)
{
	off_t at = 0;
	int fd = vt_image_create(fs, name, 0, 0);

	if (fd < 0)
		return fd;
	for (off_t size = 64 * VT_MIB; size >= 4096; size /= 2)
		while (!fallocate(fd, 0, at, size))
			at += size;
	return fd;
}

int vt_image_open(const struct vt_fs *fs, const char *name, int flags)
{
	char path[96];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", fs->dir, name);
	fd = open(path, flags | O_CLOEXEC, 0600);
	return fd < 0 ? -errno : fd;
}

static int image_try(const struct vt_fs *fs, const char *name, int flags, uint64_t bytes)
{
	int fd, r;

	vt_image_remove(fs, name);
	fd = vt_image_open(fs, name, flags | O_RDWR | O_CREAT | O_EXCL);
	if (fd < 0 || !ftruncate(fd, bytes))
		return fd;
	r = -errno;
	close(fd);
	return r;
}

int vt_image_create(const struct vt_fs *fs, const char *name, int flags, uint64_t bytes)
{
	int64_t end = vt_now_ms() + 6 * vt_timeout_ms();
	int fd;

	/* What was removed just now is free in btrfs some commits later. */
	while ((fd = image_try(fs, name, flags, bytes)) == -ENOSPC && vt_now_ms() < end)
		sync();
	return fd;
}

int vt_image_remove(const struct vt_fs *fs, const char *name)
{
	char path[96];

	snprintf(path, sizeof(path), "%s/%s", fs->dir, name);
	return unlink(path) ? -errno : 0;
}

long vt_image_blocks(int fd)
{
	struct stat st;

	/* Some file systems count what is to be allocated or freed only then. */
	if (fsync(fd) || fstat(fd, &st))
		return -errno;
	return st.st_blocks;
}
