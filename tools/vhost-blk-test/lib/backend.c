// SPDX-License-Identifier: GPL-2.0-only
/* Block devices to serve: made for a test, removed after it. */
#include <fcntl.h>
#include <glob.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <linux/fs.h>
#include <linux/loop.h>

#include "vt.h"

#define NULLB_DIR	"/sys/kernel/config/nullb"

enum { KIND_NONE, KIND_NULL, KIND_LOOP, KIND_SCSI, KIND_DM };

__attribute__((format(printf, 1, 2)))
static int run(const char *fmt, ...)
{
	char cmd[1024];
	va_list ap;
	int n, r;

	n = snprintf(cmd, sizeof(cmd), "PATH=$PATH:/usr/sbin:/sbin; ");
	va_start(ap, fmt);
	vsnprintf(cmd + n, sizeof(cmd) - n, fmt, ap);
	va_end(ap);
	r = system(cmd);
	if (WIFEXITED(r) && WEXITSTATUS(r) == 127)
		return -ENOENT;
	return r ? -EIO : 0;
}

int vt_write_file(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n;
	int r = 0;

	if (fd < 0)
		return -errno;
	n = write(fd, value, strlen(value));
	if (n != (ssize_t)strlen(value))
		r = n < 0 ? -errno : -EIO;
	close(fd);
	return r;
}

int vt_read_long(const char *path, long *value)
{
	FILE *f = fopen(path, "re");
	int r = 0;

	if (!f)
		return -errno;
	if (fscanf(f, "%ld", value) != 1)
		r = -EINVAL;
	fclose(f);
	return r;
}

int vt_modprobe(const char *module, const char *args)
{
	char path[96];

	snprintf(path, sizeof(path), "/sys/module/%s", module);
	if (access(path, F_OK) == 0)
		return 0;
	run("modprobe -q %s %s || busybox modprobe %s %s", module, args, module, args);
	return access(path, F_OK) ? -ENODEV : 0;
}

/* Open what appears in /dev a moment after the device does. */
static int bdev_open(struct vt_bdev *bdev)
{
	int64_t end = vt_now_ms() + vt_timeout_ms();

	do {
		bdev->fd = open(bdev->path, O_RDWR | O_CLOEXEC);
		if (bdev->fd >= 0)
			break;
		usleep(1000);
	} while (vt_now_ms() < end);
	if (bdev->fd < 0)
		return -errno;
	if (ioctl(bdev->fd, BLKGETSIZE64, &bdev->bytes) ||
	    ioctl(bdev->fd, BLKSSZGET, &bdev->lbs))
		return -errno;
	return 0;
}

int vt_null_attr(const char *name, const char *attr, const char *value)
{
	char path[160];

	snprintf(path, sizeof(path), NULLB_DIR "/%s/%s", name, attr);
	return vt_write_file(path, value);
}

static int null_set(const char *name, const char *attr, unsigned long value)
{
	char text[24];

	snprintf(text, sizeof(text), "%lu", value);
	return vt_null_attr(name, attr, text);
}

static int null_configure(const char *name, const struct vt_null_opts *o)
{
	int r = null_set(name, "size", o->mib ?: 64);

	r = r ?: null_set(name, "blocksize", o->lbs ?: 512);
	r = r ?: null_set(name, "memory_backed", !o->volatile_data);
	r = r ?: null_set(name, "submit_queues", o->nr_queues ?: 1);
	r = r ?: null_set(name, "hw_queue_depth", o->depth ?: 64);
	if (o->cache_mib)
		r = r ?: null_set(name, "cache_size", o->cache_mib);
	if (o->discard)
		r = r ?: null_set(name, "discard", 1);
	r = r ?: null_set(name, "irqmode", o->delay_ns ? 2 : 1);
	if (o->delay_ns)
		r = r ?: null_set(name, "completion_nsec", o->delay_ns);
	/* The attribute is there without the feature, and then refuses power. */
	if (o->zoned && !r)
		r = null_set(name, "zoned", 1) || null_set(name, "zone_size", 4) ||
		    null_set(name, "power", 1) ? -EOPNOTSUPP : 0;
	else
		r = r ?: null_set(name, "power", 1);
	return r;
}

int vt_null_create(struct vt_bdev *bdev, const char *name, const struct vt_null_opts *opts)
{
	char dir[128];
	int r;

	memset(bdev, 0, sizeof(*bdev));
	bdev->fd = -1;
	r = vt_modprobe("null_blk", "nr_devices=0");
	if (r)
		return r;
	if (access(NULLB_DIR, F_OK) &&
	    mount("configfs", "/sys/kernel/config", "configfs", 0, NULL))
		return -errno;
	snprintf(dir, sizeof(dir), NULLB_DIR "/%s", name);
	if (!access(dir, F_OK)) {	/* left by a run that was killed */
		null_set(name, "power", 0);
		rmdir(dir);
	}
	if (mkdir(dir, 0755))
		return -errno;
	bdev->kind = KIND_NULL;
	snprintf(bdev->name, sizeof(bdev->name), "%s", name);
	snprintf(bdev->path, sizeof(bdev->path), "/dev/%s", name);
	r = null_configure(name, opts);
	return r ?: bdev_open(bdev);
}

int vt_null_power_cycle(struct vt_bdev *bdev)
{
	int r;

	close(bdev->fd);
	bdev->fd = -1;
	r = null_set(bdev->name, "power", 0);
	r = r ?: null_set(bdev->name, "power", 1);
	return r ?: bdev_open(bdev);
}

int vt_loop_unbound(struct vt_bdev *bdev)
{
	int ctl, nr;

	memset(bdev, 0, sizeof(*bdev));
	bdev->fd = -1;
	vt_modprobe("loop", "");
	ctl = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	if (ctl < 0)
		return -errno;
	nr = ioctl(ctl, LOOP_CTL_GET_FREE);
	close(ctl);
	if (nr < 0)
		return -errno;
	bdev->kind = KIND_LOOP;
	snprintf(bdev->name, sizeof(bdev->name), "loop%d", nr);
	snprintf(bdev->path, sizeof(bdev->path), "/dev/loop%d", nr);
	return bdev_open(bdev);
}

int vt_loop_over(struct vt_bdev *bdev, int fd, unsigned int lbs, uint32_t flags)
{
	struct loop_config config = { .fd = fd, .block_size = lbs, .info.lo_flags = flags };
	int r = vt_loop_unbound(bdev);

	if (r)
		return r;
	if (ioctl(bdev->fd, LOOP_CONFIGURE, &config))
		return -errno;
	close(bdev->fd);
	return bdev_open(bdev);
}

int vt_loop_create(struct vt_bdev *bdev, uint64_t bytes, unsigned int lbs)
{
	int fd = memfd_create("vhost-blk-test-disk", MFD_CLOEXEC), r;

	if (fd < 0)
		return -errno;
	r = ftruncate(fd, bytes) ? -errno : 0;
	r = r ?: vt_loop_over(bdev, fd, lbs, 0);
	close(fd);
	return r;
}

int vt_scsi_debug_create_args(struct vt_bdev *bdev, const char *args)
{
	const char *where = "/sys/bus/pseudo/drivers/scsi_debug/adapter*/host*/target*/*/block/*";
	int64_t end = vt_now_ms() + vt_timeout_ms();
	glob_t g;
	int r;

	memset(bdev, 0, sizeof(*bdev));
	bdev->fd = -1;
	/* Nothing asks for the disk driver where there is no udev. */
	vt_modprobe("sd_mod", "");
	r = vt_modprobe("scsi_debug", args);
	if (r)
		return r;
	bdev->kind = KIND_SCSI;
	while (glob(where, 0, NULL, &g)) {
		if (vt_now_ms() > end)
			return -ETIMEDOUT;
		usleep(10000);
	}
	snprintf(bdev->name, sizeof(bdev->name), "%s", strrchr(g.gl_pathv[0], '/') + 1);
	snprintf(bdev->path, sizeof(bdev->path), "/dev/%s", bdev->name);
	globfree(&g);
	return bdev_open(bdev);
}

int vt_scsi_debug_create(struct vt_bdev *bdev, unsigned int mib, unsigned int lbs)
{
	char args[96];

	snprintf(args, sizeof(args), "dev_size_mb=%u sector_size=%u delay=0", mib, lbs);
	return vt_scsi_debug_create_args(bdev, args);
}

/* Without udev dmsetup has to make the node itself. */
#define DMSETUP	"DM_DISABLE_UDEV=1 dmsetup"

int vt_dm_create(struct vt_bdev *bdev, const char *name, const char *table)
{
	struct stat st;
	int r;

	memset(bdev, 0, sizeof(*bdev));
	bdev->fd = -1;
	vt_modprobe("dm_mod", "");
	run(DMSETUP " remove -f %s 2>/dev/null", name);
	r = run(DMSETUP " create %s --table '%s'", name, table);
	if (r)
		return r;
	bdev->kind = KIND_DM;
	snprintf(bdev->dm, sizeof(bdev->dm), "%s", name);
	snprintf(bdev->path, sizeof(bdev->path), "/dev/mapper/%s", name);
	if (stat(bdev->path, &st))
		return -errno;
	snprintf(bdev->name, sizeof(bdev->name), "dm-%u", minor(st.st_rdev));
	return bdev_open(bdev);
}

int vt_dm_reload(struct vt_bdev *bdev, const char *table)
{
	return run(DMSETUP " load %s --table '%s'", bdev->dm, table) ?:
	       run(DMSETUP " resume %s", bdev->dm);
}

static void delay_table(char *table, size_t size, const struct vt_bdev *below, struct vt_delay ms)
{
	snprintf(table, size, "0 %lu delay %s 0 %u %s 0 %u %s 0 %u",
		 (unsigned long)(below->bytes / VT_SECTOR), below->path, ms.read,
		 below->path, ms.write, below->path, ms.flush);
}

int vt_delay_create(struct vt_bdev *bdev, const char *name, const struct vt_bdev *below,
		    struct vt_delay ms)
{
	char table[256];

	memset(bdev, 0, sizeof(*bdev));
	bdev->fd = -1;
	if (vt_modprobe("dm_delay", ""))
		return -ENODEV;
	delay_table(table, sizeof(table), below, ms);
	return vt_dm_create(bdev, name, table);
}

int vt_delay_set(struct vt_bdev *bdev, const struct vt_bdev *below, struct vt_delay ms)
{
	char table[256];

	delay_table(table, sizeof(table), below, ms);
	return vt_dm_reload(bdev, table);
}

int vt_dm_suspend(struct vt_bdev *bdev, bool noflush)
{
	return run(DMSETUP " suspend %s %s", noflush ? "--noflush --nolockfs" : "", bdev->dm);
}

int vt_dm_resume(struct vt_bdev *bdev)
{
	return run(DMSETUP " resume %s", bdev->dm);
}

int vt_bdev_open(struct vt_bdev *bdev, const char *name)
{
	memset(bdev, 0, sizeof(*bdev));
	snprintf(bdev->name, sizeof(bdev->name), "%s", name);
	snprintf(bdev->path, sizeof(bdev->path), "/dev/%s", name);
	return bdev_open(bdev);
}

int vt_bdev_queue_set(const struct vt_bdev *bdev, const char *attr, const char *value)
{
	char path[96];

	snprintf(path, sizeof(path), "/sys/block/%s/queue/%s", bdev->name, attr);
	return vt_write_file(path, value);
}

int vt_dm_message(const struct vt_bdev *bdev, const char *message)
{
	return run(DMSETUP " message %s 0 %s", bdev->dm, message);
}

void vt_bdev_destroy(struct vt_bdev *bdev)
{
	char dir[128];

	if (bdev->kind == KIND_LOOP && bdev->fd >= 0)
		ioctl(bdev->fd, LOOP_CLR_FD);
	if (bdev->fd >= 0)
		close(bdev->fd);
	if (bdev->kind == KIND_NULL) {
		null_set(bdev->name, "power", 0);
		snprintf(dir, sizeof(dir), NULLB_DIR "/%s", bdev->name);
		rmdir(dir);
	}
	if (bdev->kind == KIND_SCSI)
		run("rmmod scsi_debug");
	if (bdev->kind == KIND_DM)
		run(DMSETUP " remove %s", bdev->dm);
	memset(bdev, 0, sizeof(*bdev));
	bdev->fd = -1;
}

int vt_exclusive(const struct vt_bdev *bdev)
{
	int fd = open(bdev->path, O_RDWR | O_EXCL | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

int vt_inflight(const struct vt_bdev *bdev)
{
	int reads = 0, writes = 0, n;
	char path[96];
	FILE *f;

	snprintf(path, sizeof(path), "/sys/block/%s/inflight", bdev->name);
	f = fopen(path, "re");
	if (!f)
		return -errno;
	n = fscanf(f, "%d %d", &reads, &writes);
	fclose(f);
	return n == 2 ? reads + writes : -EINVAL;
}

int vt_inflight_wait(const struct vt_bdev *bdev, unsigned int nr)
{
	int64_t end = vt_now_ms() + vt_timeout_ms();

	while (vt_inflight(bdev) < (int)nr) {
		if (vt_now_ms() > end)
			return -ETIMEDOUT;
		usleep(1000);
	}
	return 0;
}
