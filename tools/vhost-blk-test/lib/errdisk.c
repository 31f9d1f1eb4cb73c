// SPDX-License-Identifier: GPL-2.0-only
/*
 * A disk that fails with any error there is: a loop device, which turns the
 * -errno of direct I/O into a block layer status, over a file whose FUSE server
 * picks the -errno. The server knows one directory with one file in it.
 */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <linux/fuse.h>
#include <linux/loop.h>

#include "vt.h"

#define FILE_ID		2
#define MAX_BYTES	VT_MIB	/* of one read or write */

struct server {
	int fd;			/* /dev/fuse */
	uint8_t *data;
	uint64_t bytes;
	volatile struct vt_err_range *range;
};

static void reply(const struct server *s, uint64_t unique, int err, const void *data,
		  size_t len)
{
	struct fuse_out_header out = {
		.len = sizeof(out) + (err ? 0 : len), .error = err, .unique = unique,
	};
	struct iovec iov[] = {
		{ &out, sizeof(out) }, { (void *)data, err ? 0 : len },
	};

	/* Only a request that was taken back can refuse its answer. */
	if (writev(s->fd, iov, 2) < 0 && errno != ENOENT)
		_exit(1);
}

static struct fuse_attr file_attr(const struct server *s, uint64_t id)
{
	return (struct fuse_attr) {
		.ino = id, .nlink = 1, .blksize = 4096,
		.mode = id == FILE_ID ? S_IFREG | 0600 : S_IFDIR | 0700,
		.size = id == FILE_ID ? s->bytes : 0,
	};
}

static int err_at(const struct server *s, uint64_t offset)
{
	for (int i = 0; i < VT_NR_ERR_RANGES; i++)
		if (offset >= s->range[i].from && offset < s->range[i].to)
			return s->range[i].err;
	return 0;
}

static void serve_init(const struct server *s, const struct fuse_in_header *h)
{
	const struct fuse_init_in *in = (const void *)(h + 1);
	struct fuse_init_out out = {
		.major = FUSE_KERNEL_VERSION, .minor = in->minor,
		.flags = FUSE_BIG_WRITES | FUSE_MAX_PAGES, .max_readahead = 0,
		.max_write = MAX_BYTES, .max_pages = MAX_BYTES / getpagesize(),
	};

	reply(s, h->unique, 0, &out, sizeof(out));
}

static void serve_lookup(const struct server *s, const struct fuse_in_header *h)
{
	struct fuse_entry_out out = {
		.nodeid = FILE_ID, .entry_valid = 3600, .attr_valid = 3600,
		.attr = file_attr(s, FILE_ID),
	};

	reply(s, h->unique, strcmp((const char *)(h + 1), "disk") ? -ENOENT : 0,
	      &out, sizeof(out));
}

static void serve_getattr(const struct server *s, const struct fuse_in_header *h)
{
	struct fuse_attr_out out = {
		.attr_valid = 3600, .attr = file_attr(s, h->nodeid),
	};

	reply(s, h->unique, 0, &out, sizeof(out));
}

static void serve_read(const struct server *s, const struct fuse_in_header *h)
{
	const struct fuse_read_in *in = (const void *)(h + 1);
	bool inside = in->offset + in->size <= s->bytes;

	reply(s, h->unique, inside ? err_at(s, in->offset) : -EINVAL,
	      s->data + in->offset, in->size);
}

static void serve_write(const struct server *s, const struct fuse_in_header *h)
{
	const struct fuse_write_in *in = (const void *)(h + 1);
	struct fuse_write_out out = { .size = in->size };
	bool inside = in->offset + in->size <= s->bytes;
	int err = inside ? err_at(s, in->offset) : -EINVAL;

	if (!err)
		memcpy(s->data + in->offset, in + 1, in->size);
	reply(s, h->unique, err, &out, sizeof(out));
}

static void serve(const struct server *s, const struct fuse_in_header *h)
{
	static const struct fuse_open_out opened = { .fh = 1 };

	switch (h->opcode) {
	case FUSE_INIT:
		return serve_init(s, h);
	case FUSE_LOOKUP:
		return serve_lookup(s, h);
	case FUSE_GETATTR:
		return serve_getattr(s, h);
	case FUSE_OPEN:
		return reply(s, h->unique, 0, &opened, sizeof(opened));
	case FUSE_READ:
		return serve_read(s, h);
	case FUSE_WRITE:
		return serve_write(s, h);
	case FUSE_FSYNC:
	case FUSE_FLUSH:
	case FUSE_RELEASE:
		return reply(s, h->unique, 0, NULL, 0);
	case FUSE_FORGET:
	case FUSE_BATCH_FORGET:
	case FUSE_INTERRUPT:
		return;		/* no answer is expected */
	default:
		reply(s, h->unique, -EOPNOTSUPP, NULL, 0);
	}
}

static void server_run(struct server *s)
{
	size_t size = MAX_BYTES + 65536;
	struct fuse_in_header *h = malloc(size);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	s->data = calloc(1, s->bytes);
	if (!h || !s->data)
		_exit(1);
	for (;;) {
		ssize_t n = read(s->fd, h, size);

		if (n >= (ssize_t)sizeof(*h))
			serve(s, h);
		else if (n >= 0 || (errno != EINTR && errno != EAGAIN && errno != ENOENT))
			_exit(0);	/* unmounted */
	}
}

int vt_errdisk_create(struct vt_errdisk *disk, struct vt_bdev *bdev, uint64_t bytes)
{
	struct server s = { .bytes = bytes };
	char text[96];
	int r, fd;

	bdev->fd = -1;
	disk->server = 0;
	strcpy(disk->dir, "/tmp/vhost-blk-test-XXXXXX");
	disk->range = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (disk->range == MAP_FAILED || !mkdtemp(disk->dir))
		return -errno;
	s.range = disk->range;
	vt_modprobe("fuse", "");
	s.fd = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (s.fd < 0)
		return errno == ENOENT || errno == ENODEV ? -ENOENT : -errno;
	snprintf(text, sizeof(text), "fd=%d,rootmode=40000,user_id=0,group_id=0", s.fd);
	if (mount("vhost-blk-test", disk->dir, "fuse", MS_NOSUID | MS_NODEV, text))
		return -errno;
	disk->server = fork();
	if (!disk->server)
		server_run(&s);
	/* Whoever keeps this open would keep what a dead server owes from failing. */
	close(s.fd);
	if (disk->server < 0)
		return -errno;
	snprintf(text, sizeof(text), "%s/disk", disk->dir);
	fd = open(text, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = vt_loop_over(bdev, fd, 512, LO_FLAGS_DIRECT_IO);
	close(fd);
	return r;
}

void vt_errdisk_destroy(struct vt_errdisk *disk)
{
	umount2(disk->dir, MNT_DETACH);
	if (disk->server > 0) {
		kill(disk->server, SIGKILL);
		waitpid(disk->server, NULL, 0);
	}
	rmdir(disk->dir);
	if (disk->range)
		munmap((void *)disk->range, 4096);
}
