// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost_blk, host side: raw image files.
 *
 * Reads and writes are started on the device's worker, without waiting, as
 * asynchronous direct I/O where the file system has it. What would have to wait
 * (a hole to fill, pages to read into the cache, a frozen file system, fsync,
 * fallocate) goes on in a workqueue of the file's own, from where the first
 * attempt came to. So no request keeps the worker, and a slow file system
 * keeps nobody else's files.
 *
 * A file is used either through the page cache or past it, never both: they
 * share pages, and one would write back what the other has just replaced.
 */
#include <linux/blkdev.h>
#include <linux/bvec.h>
#include <linux/cgroup.h>
#include <linux/cred.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/kthread.h>
#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/stat.h>
#include <linux/workqueue.h>

#include "blk.h"
#include "blk-trace.h"

/* Pieces of payload that a slot has room for itself. */
#define VHOST_BLK_FILE_INLINE_IOV	8

/* Pages of one bounced or zeroing write. */
#define VHOST_BLK_FILE_VECS		(SZ_64K / PAGE_SIZE)

/* Requests of one file that may wait in the workqueue at once. */
#define VHOST_BLK_FILE_MAX_ACTIVE	64

/**
 * struct vhost_blk_file - an open image file
 * @disk:       what all disks have; first
 * @wq:         for what has to wait; only while attached
 * @blkcg:      control group that attached it: pays for what waits, too
 * @lbs_bytes:  logical block size: what direct I/O has to be aligned to in the file
 * @mem_mask:   of what it has to be aligned to in memory
 * @direct:     past the page cache
 */
struct vhost_blk_file {
	struct vhost_blk_disk disk;
	struct workqueue_struct *wq;
	struct cgroup_subsys_state *blkcg;
	unsigned int lbs_bytes;
	unsigned int mem_mask;
	bool direct;
};

/**
 * struct vhost_blk_file_req - slot of one vring entry, with the host's half
 * @req:        the guest's half; first
 * @iocb:       of the attempt that does not wait
 * @work:       goes on after it
 * @run:        what @work does. Return: 0 or -errno
 * @ret:        of the last step: bytes or -errno
 * @done_bytes: payload read or written so far
 * @started:    there is something to reap
 * @stable:     nothing is left in a cache of what was written
 * @iov:        copy of the payload's pieces
 * @inline_iov: room for a few
 */
struct vhost_blk_file_req {
	struct vhost_blk_req req;
	struct kiocb iocb;
	struct work_struct work;
	int (*run)(struct vhost_blk_file_req *fr);
	long ret;
	u64 done_bytes;
	bool started;
	bool stable;
	struct iovec *iov;
	struct iovec inline_iov[VHOST_BLK_FILE_INLINE_IOV];
};

static struct vhost_blk_file *to_vhost_blk_file(const struct vhost_blk_disk *disk)
{
	return container_of(disk, struct vhost_blk_file, disk);
}

static struct vhost_blk_file_req *to_file_req(struct vhost_blk_req *req)
{
	return container_of(req, struct vhost_blk_file_req, req);
}

static struct file *vhost_blk_req_file(const struct vhost_blk_file_req *fr)
{
	return fr->req.queue->disk->file;
}

/* ---- what has to wait ---- */

/*
 * With the rights of who opened the file, because a kernel thread may use reserved
 * blocks, and on the owner's account.
 */
static void vhost_blk_file_work(struct work_struct *work)
{
	struct vhost_blk_file_req *fr = container_of(work, struct vhost_blk_file_req, work);
	struct mm_struct *mm = fr->req.queue->mm;
	const struct cred *old;

	kthread_use_mm(mm);
	kthread_associate_blkcg(to_vhost_blk_file(fr->req.queue->disk)->blkcg);
	old = override_creds(vhost_blk_req_file(fr)->f_cred);
	fr->ret = fr->run(fr);
	revert_creds(old);
	kthread_associate_blkcg(NULL);
	kthread_unuse_mm(mm);
	/* The slot is somebody else's from here on. */
	vhost_blk_req_done(&fr->req);
}

static void vhost_blk_file_defer(struct vhost_blk_file_req *fr,
				 int (*run)(struct vhost_blk_file_req *fr))
{
	fr->started = true;
	fr->run = run;
	INIT_WORK(&fr->work, vhost_blk_file_work);
	queue_work(to_vhost_blk_file(fr->req.queue->disk)->wq, &fr->work);
}

/* ---- reads and writes ---- */

static bool vhost_blk_file_reads(const struct vhost_blk_file_req *fr)
{
	return !fr->req.op->writes;
}

/*
 * The pieces live in the vring's scratch array, which the next request
 * overwrites, but what is not done at once needs them later.
 */
static int vhost_blk_file_iov_save(struct vhost_blk_file_req *fr)
{
	struct vhost_blk_req *req = &fr->req;

	fr->iov = fr->inline_iov;
	if (req->nr_iov > VHOST_BLK_FILE_INLINE_IOV) {
		fr->iov = kmalloc_array(req->nr_iov, sizeof(*fr->iov),
					GFP_NOIO | __GFP_NOWARN);
		if (!fr->iov)
			return -ENOMEM;
		atomic_inc(&req->queue->disk->copies);
	}
	memcpy(fr->iov, req->iov, req->nr_iov * sizeof(*fr->iov));
	return 0;
}

static void vhost_blk_file_iov_free(struct vhost_blk_file_req *fr)
{
	if (fr->iov && fr->iov != fr->inline_iov) {
		kfree(fr->iov);
		atomic_dec(&fr->req.queue->disk->copies);
	}
	fr->iov = NULL;
}

/* Where the payload that is not done yet lies. */
static void vhost_blk_file_iter(const struct vhost_blk_file_req *fr, struct iov_iter *iter)
{
	iov_iter_init(iter, vhost_blk_file_reads(fr) ? ITER_DEST : ITER_SOURCE,
		      fr->iov, fr->req.nr_iov, fr->req.data_bytes);
	iov_iter_advance(iter, fr->done_bytes);
}

static void vhost_blk_file_iocb_init(struct vhost_blk_file_req *fr, struct kiocb *iocb,
				     u64 pos)
{
	init_sync_kiocb(iocb, vhost_blk_req_file(fr));
	iocb->ki_pos = pos;
	iocb->ki_flags &= ~IOCB_DIRECT;
	if (to_vhost_blk_file(fr->req.queue->disk)->direct)
		iocb->ki_flags |= IOCB_DIRECT;
	if (fr->stable)
		iocb->ki_flags |= IOCB_DSYNC;
}

/* Read or write at @pos and wait for it. Return: bytes, 0 at the end of the file, -errno. */
static ssize_t vhost_blk_file_rw_sync(struct vhost_blk_file_req *fr, u64 pos,
				      struct iov_iter *iter)
{
	struct file *file = vhost_blk_req_file(fr);
	struct kiocb iocb;
	ssize_t ret;

	vhost_blk_file_iocb_init(fr, &iocb, pos);
	if (vhost_blk_file_reads(fr))
		return file->f_op->read_iter(&iocb, iter);
	file_start_write(file);
	ret = file->f_op->write_iter(&iocb, iter);
	file_end_write(file);
	return ret;
}

static u64 vhost_blk_file_pos(const struct vhost_blk_file_req *fr)
{
	return (fr->req.sector << VHOST_BLK_SECTOR_SHIFT) + fr->done_bytes;
}

static int vhost_blk_file_run_rw(struct vhost_blk_file_req *fr)
{
	struct iov_iter iter;
	ssize_t ret;

	while (fr->done_bytes < fr->req.data_bytes) {
		vhost_blk_file_iter(fr, &iter);
		ret = vhost_blk_file_rw_sync(fr, vhost_blk_file_pos(fr), &iter);
		if (ret <= 0)
			return ret ?: -EIO;	/* the file shrank */
		fr->done_bytes += ret;
	}
	return 0;
}

/* Between the guest's memory and @bvecs. */
static int vhost_blk_file_bounce_copy(struct vhost_blk_file_req *fr,
				      const struct bio_vec *bvecs, size_t bytes)
{
	struct iov_iter iter;
	size_t len, copied;

	vhost_blk_file_iter(fr, &iter);
	for (; bytes; bytes -= len, bvecs++) {
		len = min_t(size_t, bytes, PAGE_SIZE);
		if (vhost_blk_file_reads(fr))
			copied = copy_page_to_iter(bvecs->bv_page, 0, len, &iter);
		else
			copied = copy_page_from_iter(bvecs->bv_page, 0, len, &iter);
		if (copied != len)
			return -EFAULT;
	}
	return 0;
}

static int vhost_blk_file_bounce(struct vhost_blk_file_req *fr, struct bio_vec *bvecs)
{
	size_t bytes = min_t(u64, fr->req.data_bytes - fr->done_bytes, SZ_64K);
	struct iov_iter iter;
	ssize_t ret;

	if (!vhost_blk_file_reads(fr) && vhost_blk_file_bounce_copy(fr, bvecs, bytes))
		return -EFAULT;
	iov_iter_bvec(&iter, vhost_blk_file_reads(fr) ? ITER_DEST : ITER_SOURCE, bvecs,
		      DIV_ROUND_UP(bytes, PAGE_SIZE), bytes);
	ret = vhost_blk_file_rw_sync(fr, vhost_blk_file_pos(fr), &iter);
	if (ret <= 0)
		return ret ?: -EIO;
	if (vhost_blk_file_reads(fr) && vhost_blk_file_bounce_copy(fr, bvecs, ret))
		return -EFAULT;
	fr->done_bytes += ret;
	return 0;
}

static void vhost_blk_file_bvecs_free(struct bio_vec *bvecs)
{
	unsigned int i;

	for (i = 0; i < VHOST_BLK_FILE_VECS && bvecs[i].bv_page; i++)
		__free_page(bvecs[i].bv_page);
}

static int vhost_blk_file_bvecs_alloc(struct bio_vec *bvecs)
{
	unsigned int i;

	for (i = 0; i < VHOST_BLK_FILE_VECS; i++) {
		bvecs[i].bv_page = alloc_page(GFP_NOIO | __GFP_NOWARN);
		if (!bvecs[i].bv_page)
			return -ENOMEM;
		bvecs[i].bv_len = PAGE_SIZE;
	}
	return 0;
}

/* Payload that direct I/O does not take where it lies. */
static int vhost_blk_file_run_bounce(struct vhost_blk_file_req *fr)
{
	struct bio_vec bvecs[VHOST_BLK_FILE_VECS] = {};
	int ret = vhost_blk_file_bvecs_alloc(bvecs);

	while (!ret && fr->done_bytes < fr->req.data_bytes)
		ret = vhost_blk_file_bounce(fr, bvecs);
	vhost_blk_file_bvecs_free(bvecs);
	return ret;
}

/* The attempt that does not wait has ended, in any context. */
static void vhost_blk_file_complete(struct kiocb *iocb, long ret)
{
	struct vhost_blk_file_req *fr = container_of(iocb, struct vhost_blk_file_req, iocb);

	if (!vhost_blk_file_reads(fr)) {
		__sb_writers_acquired(file_inode(iocb->ki_filp)->i_sb, SB_FREEZE_WRITE);
		file_end_write(iocb->ki_filp);
	}
	fr->ret = ret;
	vhost_blk_req_done(&fr->req);
}

/* The attempt that does not wait: if it would have to, vhost_blk_file_reap() goes on. */
static void vhost_blk_file_try(struct vhost_blk_file_req *fr)
{
	struct file *file = vhost_blk_req_file(fr);
	const struct cred *old;
	struct iov_iter iter;
	ssize_t ret;

	vhost_blk_file_iocb_init(fr, &fr->iocb, vhost_blk_file_pos(fr));
	fr->iocb.ki_flags |= IOCB_NOWAIT;
	fr->iocb.ki_complete = vhost_blk_file_complete;
	vhost_blk_file_iter(fr, &iter);
	if (!vhost_blk_file_reads(fr)) {
		if (!file_start_write_trylock(file)) {
			vhost_blk_file_defer(fr, vhost_blk_file_run_rw);
			return;
		}
		/* For lockdep: who ends the write is not known. */
		__sb_writers_release(file_inode(file)->i_sb, SB_FREEZE_WRITE);
	}
	old = override_creds(file->f_cred);
	if (vhost_blk_file_reads(fr))
		ret = file->f_op->read_iter(&fr->iocb, &iter);
	else
		ret = file->f_op->write_iter(&fr->iocb, &iter);
	revert_creds(old);
	if (ret != -EIOCBQUEUED)
		vhost_blk_file_complete(&fr->iocb, ret);
}

static bool vhost_blk_file_can_try(const struct vhost_blk_file_req *fr)
{
	const struct vhost_blk_file *image = to_vhost_blk_file(fr->req.queue->disk);

	/* Few file systems copy into the page cache without waiting. */
	return (image->disk.file->f_mode & FMODE_NOWAIT) &&
	       (image->direct || vhost_blk_file_reads(fr));
}

static bool vhost_blk_file_payload_aligned(const struct vhost_blk_req *req)
{
	const struct vhost_blk_file *image = to_vhost_blk_file(req->queue->disk);
	unsigned int i;

	if (!image->direct)
		return true;
	for (i = 0; i < req->nr_iov; i++)
		if (((unsigned long)req->iov[i].iov_base & image->mem_mask) ||
		    (req->iov[i].iov_len & (image->lbs_bytes - 1)))
			if (req->iov[i].iov_len)
				return false;
	return true;
}

static void vhost_blk_file_execute_rw(struct vhost_blk_req *req)
{
	struct vhost_blk_file_req *fr = to_file_req(req);

	fr->started = true;
	fr->run = NULL;
	fr->done_bytes = 0;
	fr->stable = vhost_blk_queue_is_write_through(req->queue);
	fr->ret = vhost_blk_file_iov_save(fr);
	if (fr->ret)
		vhost_blk_req_done(req);
	else if (!vhost_blk_file_payload_aligned(req))
		vhost_blk_file_defer(fr, vhost_blk_file_run_bounce);
	else if (vhost_blk_file_can_try(fr))
		vhost_blk_file_try(fr);
	else
		vhost_blk_file_defer(fr, vhost_blk_file_run_rw);
}

/* ---- FLUSH, DISCARD, WRITE_ZEROES ---- */

static int vhost_blk_file_run_fsync(struct vhost_blk_file_req *fr)
{
	return vfs_fsync(vhost_blk_req_file(fr), 1);
}

static void vhost_blk_file_execute_flush(struct vhost_blk_req *req)
{
	struct vhost_blk_file_req *fr = to_file_req(req);

	fr->stable = true;
	vhost_blk_file_defer(fr, vhost_blk_file_run_fsync);
}

/* For a file system that cannot zero a range without unmapping it. */
static int vhost_blk_file_write_zeroes(struct vhost_blk_file_req *fr, u64 pos, u64 left)
{
	struct bio_vec bvecs[VHOST_BLK_FILE_VECS];
	struct iov_iter iter;
	unsigned int i;
	size_t bytes;
	ssize_t ret;

	for (i = 0; i < VHOST_BLK_FILE_VECS; i++)
		bvecs[i] = (struct bio_vec) { .bv_page = ZERO_PAGE(0), .bv_len = PAGE_SIZE };
	while (left) {
		bytes = min_t(u64, left, SZ_64K);
		iov_iter_bvec(&iter, ITER_SOURCE, bvecs, VHOST_BLK_FILE_VECS, bytes);
		ret = vhost_blk_file_rw_sync(fr, pos, &iter);
		if (ret <= 0)
			return ret ?: -EIO;
		if (READ_ONCE(fr->req.queue->disk->abort))
			return -EIO;
		pos += ret;
		left -= ret;
	}
	return 0;
}

static int vhost_blk_file_range_zero(struct vhost_blk_file_req *fr,
				     const struct vhost_blk_range *range, u64 pos, u64 bytes)
{
	int mode = FALLOC_FL_ZERO_RANGE, ret;

	if (range->flags & VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP)
		mode = FALLOC_FL_PUNCH_HOLE;
	ret = vfs_fallocate(vhost_blk_req_file(fr), mode | FALLOC_FL_KEEP_SIZE, pos, bytes);
	if (ret == -EOPNOTSUPP)
		ret = vhost_blk_file_write_zeroes(fr, pos, bytes);
	return ret;
}

static int vhost_blk_file_run_ranges(struct vhost_blk_file_req *fr)
{
	struct vhost_blk_req *req = &fr->req;
	unsigned int i;
	int ret = 0;

	for (i = 0; i < req->nr_ranges && !ret; i++) {
		const struct vhost_blk_range *range = &req->ranges[i];
		u64 pos = range->sector << VHOST_BLK_SECTOR_SHIFT;
		u64 bytes = (u64)range->nr_sectors << VHOST_BLK_SECTOR_SHIFT;

		if (!bytes)
			continue;
		if (READ_ONCE(req->queue->disk->abort))
			ret = -EIO;
		else if (req->op->type == VIRTIO_BLK_T_WRITE_ZEROES)
			ret = vhost_blk_file_range_zero(fr, range, pos, bytes);
		else
			ret = vfs_fallocate(req->queue->disk->file,
					    FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
					    pos, bytes);
	}
	return ret;
}

static void vhost_blk_file_execute_ranges(struct vhost_blk_req *req)
{
	struct vhost_blk_file_req *fr = to_file_req(req);

	/* A file system cannot promise that nothing is left of what it frees. */
	if (req->op->type == VIRTIO_BLK_T_SECURE_ERASE) {
		vhost_blk_req_end(req, VIRTIO_BLK_S_UNSUPP);
		return;
	}
	if (vhost_blk_req_is_ignored(req)) {
		vhost_blk_req_end(req, VIRTIO_BLK_S_OK);
		return;
	}
	fr->stable = false;
	vhost_blk_file_defer(fr, vhost_blk_file_run_ranges);
}

/* ---- reaping ---- */

/* The attempt has ended. Return: true if nothing is left to do; @fr->ret is 0 or -errno. */
static bool vhost_blk_file_try_is_over(struct vhost_blk_file_req *fr)
{
	if (fr->ret > 0)
		fr->done_bytes += fr->ret;
	if (fr->ret > 0 && fr->done_bytes == fr->req.data_bytes)
		fr->ret = 0;
	else if (fr->ret >= 0 || fr->ret == -EAGAIN || fr->ret == -EOPNOTSUPP)
		return false;
	return true;
}

static bool vhost_blk_file_reap(struct vhost_blk_req *req)
{
	struct vhost_blk_file_req *fr = to_file_req(req);

	if (!fr->started)	/* ended without I/O */
		return true;
	if (!fr->run && !vhost_blk_file_try_is_over(fr)) {
		vhost_blk_file_defer(fr, vhost_blk_file_run_rw);
		return false;
	}
	/* Ranges are not written through, and the cache may have been switched off just now. */
	if (!fr->ret && req->op->writes && !fr->stable &&
	    vhost_blk_queue_is_write_through(req->queue)) {
		fr->stable = true;
		vhost_blk_file_defer(fr, vhost_blk_file_run_fsync);
		return false;
	}
	fr->started = false;
	vhost_blk_file_iov_free(fr);
	req->error = fr->ret;
	req->status = vhost_blk_status_from_blk(errno_to_blk_status(fr->ret));
	if (req->op->payload == VHOST_BLK_PAYLOAD_IN)
		req->in_bytes = req->data_bytes;
	return true;
}

/* ---- the file ---- */

/*
 * Direct I/O if blocks of 512 bytes can be had with it, which is what images
 * are made for, or if whoever opened the file asked for it.
 */
static int vhost_blk_file_choose_io(struct vhost_blk_file *image, struct file *file)
{
	unsigned int offset_align = i_blocksize(file_inode(file));
	struct kstat stat;
	int ret;

	image->lbs_bytes = SECTOR_SIZE;
	if (!(file->f_mode & FMODE_CAN_ODIRECT))
		return 0;
	ret = vfs_getattr(&file->f_path, &stat, STATX_DIOALIGN, AT_STATX_SYNC_AS_STAT);
	if (ret)
		return ret;
	image->mem_mask = SECTOR_SIZE - 1;
	if (stat.result_mask & STATX_DIOALIGN) {
		if (!stat.dio_offset_align)
			return 0;
		image->mem_mask = stat.dio_mem_align - 1;
		offset_align = max_t(unsigned int, stat.dio_offset_align, SECTOR_SIZE);
	}
	image->direct = offset_align == SECTOR_SIZE ||
			((file->f_flags & O_DIRECT) && offset_align <= PAGE_SIZE);
	if (image->direct)
		image->lbs_bytes = offset_align;
	return 0;
}

static struct vhost_blk_disk *vhost_blk_file_get(struct file *file)
{
	struct vhost_blk_file *image;
	int ret;

	if (!file->f_op->read_iter || !file->f_op->write_iter || (file->f_flags & O_APPEND))
		return ERR_PTR(-EINVAL);
	image = kzalloc(sizeof(*image), GFP_KERNEL_ACCOUNT);
	if (!image)
		return ERR_PTR(-ENOMEM);
	ret = vhost_blk_file_choose_io(image, file);
	if (ret) {
		kfree(image);
		return ERR_PTR(ret);
	}
	return &image->disk;
}

static void vhost_blk_file_put(struct vhost_blk_disk *disk)
{
	kfree(to_vhost_blk_file(disk));
}

static int vhost_blk_file_attach(struct vhost_blk_disk *disk)
{
	struct vhost_blk_file *image = to_vhost_blk_file(disk);

	image->wq = alloc_workqueue("vhost-blk-file", WQ_UNBOUND, VHOST_BLK_FILE_MAX_ACTIVE);
	if (!image->wq)
		return -ENOMEM;
#ifdef CONFIG_BLK_CGROUP
	image->blkcg = task_get_css(current, io_cgrp_id);
#endif
	return 0;
}

static void vhost_blk_file_detach(struct vhost_blk_disk *disk)
{
	struct vhost_blk_file *image = to_vhost_blk_file(disk);

	destroy_workqueue(image->wq);
	if (image->blkcg)
		css_put(image->blkcg);
}

/* A file can grow and shrink while it is attached; a sector it has a part of does not count. */
static void vhost_blk_file_limits(const struct vhost_blk_disk *disk,
				  struct vhost_blk_limits *limits)
{
	limits->capacity_sectors = i_size_read(file_inode(disk->file)) >> VHOST_BLK_SECTOR_SHIFT;
	limits->lbs_bytes = to_vhost_blk_file(disk)->lbs_bytes;
	limits->read_only = !(disk->file->f_mode & FMODE_WRITE);
}

static void vhost_blk_file_geometry(const struct vhost_blk_disk *disk,
				    struct vhost_blk_geometry *geometry)
{
	const struct vhost_blk_file *image = to_vhost_blk_file(disk);
	unsigned int block_bytes = i_blocksize(file_inode(disk->file));

	geometry->pbs_bytes = max(image->lbs_bytes, block_bytes);
	geometry->io_min_bytes = geometry->pbs_bytes;
	geometry->write_cache = true;
	geometry->write_zeroes_sectors = VHOST_BLK_RANGE_SECTORS_MAX;
	if (!disk->file->f_op->fallocate)
		return;
	geometry->discard_sectors = VHOST_BLK_RANGE_SECTORS_MAX;
	geometry->discard_granularity_sectors = geometry->pbs_bytes >> VHOST_BLK_SECTOR_SHIFT;
	geometry->write_zeroes_unmap = true;
}

const struct vhost_blk_disk_ops vhost_blk_file_ops = {
	.slot_bytes	= sizeof(struct vhost_blk_file_req),
	.execute	= {
		[VHOST_BLK_EXEC_RW]	= vhost_blk_file_execute_rw,
		[VHOST_BLK_EXEC_FLUSH]	= vhost_blk_file_execute_flush,
		[VHOST_BLK_EXEC_RANGES]	= vhost_blk_file_execute_ranges,
		[VHOST_BLK_EXEC_GET_ID]	= vhost_blk_execute_get_id,
	},
	.reap		= vhost_blk_file_reap,
	.get		= vhost_blk_file_get,
	.attach		= vhost_blk_file_attach,
	.detach		= vhost_blk_file_detach,
	.put		= vhost_blk_file_put,
	.limits		= vhost_blk_file_limits,
	.geometry	= vhost_blk_file_geometry,
};
