// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost_blk, host side: checked reads and writes become bios.
 *
 * A request is worked off in windows. A window maps as much of the payload as
 * its bios hold: the slot's own bio, with inline bvecs, serves the usual sizes
 * without any allocation; a larger request gets bigger bios, up to
 * VHOST_BLK_WINDOW_BIOS at once, as long as memory and the backend's budget
 * allow. If they do not, the slot's own bio carries the request piece by
 * piece. So a request of any size makes progress, and the memory that a guest
 * can make the host allocate or pin for one request is bounded. What all of
 * them hold together is bounded too: vhost_blk_disk_is_full() stops fetching.
 *
 * Payload that the device cannot address (an odd address, a length that is not
 * whole logical blocks) goes through bounce pages.
 */
#include <linux/mm.h>
#include <linux/slab.h>

#include "blk-bdev.h"
#include "blk-pins.h"
#include "blk-trace.h"

/* What all requests of one device together may hold. */
#define VHOST_BLK_MAX_LARGE_BIOS	256

static struct bio_set vhost_blk_bio_set;

static bool vhost_blk_reads_medium(const struct vhost_blk_bdev_req *br)
{
	return !br->req.op->writes;
}

/*
 * The block layer drops FUA for a device without cache and emulates it with a
 * flush where the device has none.
 */
static blk_opf_t vhost_blk_rw_opf(const struct vhost_blk_bdev_req *br)
{
	if (vhost_blk_reads_medium(br))
		return REQ_OP_READ;
	if (br->stable)
		return REQ_OP_WRITE | REQ_SYNC | REQ_IDLE | REQ_FUA;
	return REQ_OP_WRITE | REQ_SYNC | REQ_IDLE;
}

/* Where a request does not go on where the last one ended, to look for one is in vain. */
static blk_opf_t vhost_blk_merge_opf(const struct vhost_blk_bdev_req *br)
{
	const struct vhost_blk_queue *queue = br->req.queue;

	return queue->limits.merges_in_plug && br->sector != queue->next_sector ? REQ_NOMERGE : 0;
}

/* A bio of the window, or its submitter, is done. */
static void vhost_blk_pending_put(struct vhost_blk_bdev_req *br)
{
	if (atomic_dec_and_test(&br->pending))
		vhost_blk_req_done(&br->req);
}

static void vhost_blk_bio_end_io(struct bio *bio)
{
	struct vhost_blk_bdev_req *br = bio->bi_private;

	if (unlikely(bio->bi_status))
		vhost_blk_error_set(br, bio->bi_status);
	vhost_blk_pending_put(br);
}

/**
 * vhost_blk_bio_submit - submit a bio of the window
 * @br:  the request, whose pending counts this bio
 * @bio: its bio
 *
 * Context: the queue's worker; may sleep for a free tag of the device.
 */
void vhost_blk_bio_submit(struct vhost_blk_bdev_req *br, struct bio *bio)
{
	bio->bi_private = br;
	bio->bi_end_io = vhost_blk_bio_end_io;
	submit_bio(bio);
}

/*
 * Let the block layer take tags for the requests that follow as well. It forgets the
 * number when it has taken them.
 */
static void vhost_blk_tags_expect(const struct vhost_blk_queue *queue)
{
	if (queue->limits.tag_batch)
		current->plug->nr_ios = min(queue->nr_ready, queue->limits.tag_batch);
}

/* ---- payload cursor ---- */

/* Leaves the cursor on a piece that has bytes left, or at the end. */
static void vhost_blk_cursor_advance(struct vhost_blk_bdev_req *br, u64 bytes)
{
	br->left -= bytes;
	br->sector += bytes >> SECTOR_SHIFT;
	br->skip += bytes;
	while (br->left && br->skip >= br->iov->iov_len) {
		br->skip -= br->iov->iov_len;
		br->iov++;
	}
}

/*
 * The pieces live in the vring's scratch array, which the next request
 * overwrites: keep a copy if they are needed after execute().
 */
static int vhost_blk_iov_save(struct vhost_blk_bdev_req *br)
{
	struct vhost_blk_req *req = &br->req;

	if (br->saved)
		return 0;
	br->saved = kmemdup(req->iov, req->nr_iov * sizeof(*req->iov),
			    GFP_NOIO | __GFP_NOWARN);
	if (!br->saved)
		return -ENOMEM;
	atomic_inc(&req->queue->disk->copies);
	br->iov = br->saved + (br->iov - req->iov);
	req->iov = br->saved;
	return 0;
}

static void vhost_blk_iov_free(struct vhost_blk_bdev_req *br)
{
	if (!br->saved)
		return;
	kfree(br->saved);
	br->saved = NULL;
	atomic_dec(&br->req.queue->disk->copies);
}

static void vhost_blk_cursor_iter(const struct vhost_blk_bdev_req *br,
				  struct iov_iter *iter, u64 bytes)
{
	unsigned int nr = br->req.nr_iov - (br->iov - br->req.iov);

	iov_iter_init(iter, vhost_blk_reads_medium(br) ? ITER_DEST : ITER_SOURCE,
		      br->iov, nr, br->skip + bytes);
	iov_iter_advance(iter, br->skip);
}

/* ---- mapping guest pages ---- */

/*
 * Add the next stretch of payload that is contiguous in the owner's address
 * space. Return: bytes added, 0 if the bio is full, -errno.
 */
static ssize_t vhost_blk_bio_map_piece(struct vhost_blk_bdev_req *br, struct bio *bio)
{
	unsigned long addr = (unsigned long)br->iov->iov_base + br->skip;
	unsigned int nr_free = bio->bi_max_vecs - bio->bi_vcnt;
	unsigned int offset = offset_in_page(addr);
	size_t room = (size_t)nr_free * PAGE_SIZE;
	struct bio_vec *bv = bio->bi_io_vec + bio->bi_vcnt;
	struct page **pages, **page;
	unsigned int nr_pages;
	size_t bytes, left;
	int pinned;

	if (room <= offset)
		return 0;
	bytes = min_t(size_t, br->iov->iov_len - br->skip, room - offset);
	bytes = round_down(bytes, bdev_logical_block_size(bio->bi_bdev));
	if (!bytes)
		return 0;

	/* The end of the bvec table holds the pages until the bvecs overtake them. */
	nr_pages = DIV_ROUND_UP(offset + bytes, PAGE_SIZE);
	pages = (struct page **)(bio->bi_io_vec + bio->bi_max_vecs) - nr_pages;
	pinned = pin_user_pages_fast(addr, nr_pages,
				     vhost_blk_reads_medium(br) ? FOLL_WRITE : 0,
				     pages);
	if (unlikely(pinned != nr_pages)) {
		if (pinned > 0)
			unpin_user_pages(pages, pinned);
		return -EFAULT;
	}

	/*
	 * One bvec a page, also where pages touch: each was pinned once and is
	 * unpinned once. The block layer merges neighbours.
	 */
	for (page = pages, left = bytes; left; bv++) {
		unsigned int len = min_t(size_t, left, PAGE_SIZE - offset);

		bv->bv_page = *page++;
		bv->bv_len = len;
		bv->bv_offset = offset;
		left -= len;
		offset = 0;
	}
	bio->bi_vcnt += nr_pages;
	bio->bi_iter.bi_size += bytes;
	return bytes;
}

/*
 * The usual small request: all of its payload is in one page, and that is pinned
 * already. Return: true if so.
 */
static bool vhost_blk_bio_map_pinned(struct vhost_blk_bdev_req *br, struct bio *bio,
				     unsigned long addr)
{
	struct bio_vec *bv = bio->bi_io_vec;

	br->pin = vhost_blk_pin_get(br->req.queue->pins, addr, vhost_blk_reads_medium(br));
	if (!br->pin)
		return false;
	bv->bv_page = br->pin->page;
	bv->bv_len = br->left;
	bv->bv_offset = offset_in_page(addr);
	bio->bi_vcnt = 1;
	bio->bi_iter.bi_size = br->left;
	br->sector += br->left >> SECTOR_SHIFT;
	br->left = 0;
	return true;
}

static bool vhost_blk_is_in_one_page(const struct vhost_blk_bdev_req *br, const struct bio *bio,
				     unsigned long addr)
{
	return br->left <= PAGE_SIZE - offset_in_page(addr) &&
	       br->left == br->iov->iov_len - br->skip &&
	       !(br->left & (bdev_logical_block_size(bio->bi_bdev) - 1));
}

static int vhost_blk_bio_map(struct vhost_blk_bdev_req *br, struct bio *bio)
{
	unsigned long addr = (unsigned long)br->iov->iov_base + br->skip, seq;
	struct vhost_blk_pins *pins = br->req.queue->pins;
	ssize_t bytes;

	if (pins && vhost_blk_is_in_one_page(br, bio, addr)) {
		if (likely(vhost_blk_bio_map_pinned(br, bio, addr)))
			return 0;
		seq = vhost_blk_pins_seq(pins);
		bytes = vhost_blk_bio_map_piece(br, bio);
		if (bytes < 0)
			return bytes;
		br->pin = vhost_blk_pin_add(pins, addr, bio->bi_io_vec->bv_page,
					    vhost_blk_reads_medium(br), seq);
		vhost_blk_cursor_advance(br, bytes);
		return 0;
	}
	while (br->left) {
		bytes = vhost_blk_bio_map_piece(br, bio);
		if (bytes < 0)
			return bytes;
		if (!bytes)
			break;
		vhost_blk_cursor_advance(br, bytes);
	}
	return 0;
}

static void vhost_blk_bio_unmap(struct vhost_blk_bdev_req *br, struct bio *bio)
{
	/* Overtakes in the other direction: page i ends before bvec i does. */
	struct page **pages = (struct page **)bio->bi_io_vec, *page;
	bool dirty = vhost_blk_reads_medium(br);
	unsigned int i;

	/* Most bios have one page, which needs no search for others of its folio. */
	if (likely(bio->bi_vcnt == 1)) {
		page = bio->bi_io_vec->bv_page;
		if (dirty && !PageDirty(page))
			set_page_dirty_lock(page);
		if (likely(br->pin)) {
			vhost_blk_pin_put(br->pin);
			br->pin = NULL;
		} else {
			unpin_user_page(page);
		}
		return;
	}
	for (i = 0; i < bio->bi_vcnt; i++)
		pages[i] = bio->bi_io_vec[i].bv_page;
	unpin_user_pages_dirty_lock(pages, bio->bi_vcnt, dirty);
}

/* ---- bouncing ---- */

/* Fill the slot's own bio with new pages, and those with what is written. */
static noinline int vhost_blk_bio_bounce(struct vhost_blk_bdev_req *br, struct bio *bio)
{
	struct vhost_blk_disk *disk = br->req.queue->disk;
	size_t bytes = min_t(u64, br->left, SZ_64K), left;
	struct iov_iter from;

	vhost_blk_cursor_iter(br, &from, bytes);
	for (left = bytes; left; left -= min_t(size_t, left, PAGE_SIZE)) {
		size_t len = min_t(size_t, left, PAGE_SIZE);
		struct page *page = alloc_page(GFP_NOIO | __GFP_NOWARN);

		if (!page)
			return -ENOMEM;
		atomic_inc(&disk->bounce_pages);
		__bio_add_page(bio, page, len, 0);
		if (!vhost_blk_reads_medium(br) &&
		    copy_page_from_iter(page, 0, len, &from) != len)
			return -EFAULT;
	}
	/* What was read is copied out in the reap, from the same place. */
	if (vhost_blk_reads_medium(br))
		return vhost_blk_iov_save(br);
	vhost_blk_cursor_advance(br, bytes);
	return 0;
}

static noinline void vhost_blk_bio_unbounce(struct vhost_blk_bdev_req *br, struct bio *bio)
{
	struct vhost_blk_disk *disk = br->req.queue->disk;
	bool copy = vhost_blk_reads_medium(br) && !br->error;
	unsigned int i, bytes = 0;
	struct iov_iter to;

	if (copy)
		vhost_blk_cursor_iter(br, &to, min_t(u64, br->left,
						     bio->bi_max_vecs * PAGE_SIZE));
	for (i = 0; i < bio->bi_vcnt; i++) {
		struct bio_vec *bv = &bio->bi_io_vec[i];

		if (copy && copy_page_to_iter(bv->bv_page, 0, bv->bv_len, &to) != bv->bv_len)
			vhost_blk_error_set(br, BLK_STS_IOERR);
		bytes += bv->bv_len;
		__free_page(bv->bv_page);
		atomic_dec(&disk->bounce_pages);
	}
	if (copy)
		vhost_blk_cursor_advance(br, bytes);
}

/* ---- windows ---- */

static struct bio *vhost_blk_bio_own(struct vhost_blk_bdev_req *br)
{
	bio_init(&br->bio, vhost_blk_req_bdev(&br->req)->bdev, br->vecs,
		 VHOST_BLK_INLINE_VECS, vhost_blk_rw_opf(br) | vhost_blk_merge_opf(br));
	br->bio.bi_ioprio = br->req.queue->ioprio;
	br->own_used = true;
	return &br->bio;
}

/* A bigger bio; NULL when memory or the budget is short: never wait for either. */
static noinline struct bio *vhost_blk_bio_large(struct vhost_blk_bdev_req *br)
{
	struct vhost_blk_bdev *bdev = vhost_blk_req_bdev(&br->req);
	struct vhost_blk_bio *large;
	struct bio *bio;

	if (atomic_inc_return(&bdev->large_bios) > VHOST_BLK_MAX_LARGE_BIOS)
		goto undo_count;
	bio = bio_alloc_bioset(bdev->bdev, BIO_MAX_VECS, vhost_blk_rw_opf(br),
			       GFP_NOWAIT | __GFP_NOWARN, &vhost_blk_bio_set);
	if (!bio)
		goto undo_count;
	large = container_of(bio, struct vhost_blk_bio, bio);
	large->next = br->large;
	br->large = large;
	return bio;

undo_count:
	atomic_dec(&bdev->large_bios);
	return NULL;
}

/* The bio for the next stretch of payload; NULL when the window is full. */
static struct bio *vhost_blk_bio_next(struct vhost_blk_bdev_req *br, unsigned int nr)
{
	struct bio *bio;

	/* What does not fit into the slot's own bio goes on in a large one. */
	if (nr || (!br->bounce && br->left > SZ_64K)) {
		if (br->bounce || nr == VHOST_BLK_WINDOW_BIOS)
			return NULL;
		bio = vhost_blk_bio_large(br);
		if (bio || br->own_used)
			return bio;
	}
	return vhost_blk_bio_own(br);
}

static void vhost_blk_window_submit(struct vhost_blk_bdev_req *br)
{
	struct bio *bio;
	unsigned int nr;
	int ret = 0;

	atomic_set(&br->pending, 1);
	for (nr = 0; br->left; nr++) {
		u64 before = br->left;

		bio = vhost_blk_bio_next(br, nr);
		if (!bio)
			break;
		bio->bi_iter.bi_sector = br->sector;
		ret = br->bounce ? vhost_blk_bio_bounce(br, bio) :
				   vhost_blk_bio_map(br, bio);
		/* The reap releases what a failed mapping leaves in the bio. */
		if (ret || !bio->bi_vcnt)
			break;
		/* The last one is counted in place of the submitter. */
		if (!br->left || br->left == before) {	/* a bounced read: the reap advances */
			vhost_blk_bio_submit(br, bio);
			return;
		}
		atomic_inc(&br->pending);
		vhost_blk_bio_submit(br, bio);
	}
	if (!ret && !nr)	/* the block size grew under the request */
		ret = -EIO;
	if (!ret && br->left)
		ret = vhost_blk_iov_save(br);
	if (ret)
		vhost_blk_error_set(br, errno_to_blk_status(ret));
	vhost_blk_pending_put(br);
}

static void vhost_blk_window_release(struct vhost_blk_bdev_req *br)
{
	struct vhost_blk_bdev *bdev = vhost_blk_req_bdev(&br->req);
	struct vhost_blk_bio *large;

	while ((large = br->large)) {
		br->large = large->next;
		vhost_blk_bio_unmap(br, &large->bio);
		bio_put(&large->bio);
		atomic_dec(&bdev->large_bios);
	}
	if (br->own_used) {
		if (br->bounce)
			vhost_blk_bio_unbounce(br, &br->bio);
		else if (likely(!br->req.ranges))	/* theirs is nobody's memory */
			vhost_blk_bio_unmap(br, &br->bio);
		bio_uninit(&br->bio);
		br->own_used = false;
	}
}

/* Does the device take the payload where it lies? */
static bool vhost_blk_payload_aligned(const struct vhost_blk_req *req)
{
	const struct vhost_blk_limits *limits = &req->queue->limits;
	const struct iovec *iov;

	for (iov = req->iov; iov < req->iov + req->nr_iov; iov++) {
		/* What is left of a descriptor that held just the header. */
		if (!iov->iov_len)
			continue;
		if (((unsigned long)iov->iov_base & limits->addr_mask) ||
		    (iov->iov_len & (limits->lbs_bytes - 1)))
			return false;
	}
	return true;
}

/**
 * vhost_blk_bdev_execute_rw - read or write the medium
 * @req: a checked request: whole blocks inside the medium
 *
 * Context: the queue's worker with the owner's mm, vq.mutex held; may sleep
 * for a free tag of the device.
 */
void vhost_blk_bdev_execute_rw(struct vhost_blk_req *req)
{
	struct vhost_blk_bdev_req *br = to_bdev_req(req);

	br->error = BLK_STS_OK;
	br->bounce = !vhost_blk_payload_aligned(req);
	br->stable = vhost_blk_queue_is_write_through(req->queue);
	br->iov = req->iov;
	br->skip = 0;
	br->left = req->data_bytes;
	br->sector = req->sector;
	vhost_blk_cursor_advance(br, 0);	/* over empty pieces */
	vhost_blk_tags_expect(req->queue);
	vhost_blk_window_submit(br);
	req->queue->next_sector = req->sector + (req->data_bytes >> SECTOR_SHIFT);
}

/**
 * vhost_blk_bdev_reap - release what a window held, go on or finish
 * @req: a request whose bios have all ended
 *
 * Context: the queue's worker with the owner's mm, vq.mutex held; may sleep.
 *
 * Return: true if the request has ended and req->status says how; false if
 * more of it was submitted: it comes back through vhost_blk_req_done().
 */
bool vhost_blk_bdev_reap(struct vhost_blk_req *req)
{
	struct vhost_blk_bdev_req *br = to_bdev_req(req);
	struct blk_plug plug;

	/* Ended without I/O: bad request, GET_ID, FLUSH of a device without cache. */
	if (!br->own_used && !br->large && !br->error)
		return true;

	vhost_blk_window_release(br);
	if (br->left && !br->error && !req->ranges) {
		blk_start_plug(&plug);
		vhost_blk_window_submit(br);
		blk_finish_plug(&plug);
		return false;
	}
	if (unlikely(br->error || req->ranges || vhost_blk_bdev_is_volatile(br)) &&
	    vhost_blk_bdev_go_on(br))
		return false;
	vhost_blk_iov_free(br);
	req->status = VIRTIO_BLK_S_OK;
	if (unlikely(br->error)) {
		req->status = vhost_blk_status_from_blk(br->error);
		req->error = blk_status_to_errno(br->error);
		br->error = BLK_STS_OK;
	}
	if (req->op->payload == VHOST_BLK_PAYLOAD_IN)
		req->in_bytes = req->data_bytes;
	return true;
}

int __init vhost_blk_bdev_init(void)
{
	return bioset_init(&vhost_blk_bio_set, VHOST_BLK_WINDOW_BIOS,
			   offsetof(struct vhost_blk_bio, bio), BIOSET_NEED_BVECS);
}

void vhost_blk_bdev_exit(void)
{
	bioset_exit(&vhost_blk_bio_set);
}
