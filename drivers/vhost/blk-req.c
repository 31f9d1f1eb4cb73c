// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost_blk, guest side: from a descriptor chain to a checked request, and the
 * status byte back.
 *
 * Everything that comes from the guest is copied once, then checked, then used.
 * Section numbers are those of the virtio 1.2 specification.
 */
#include <linux/kernel.h>
#include <linux/nospec.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/uio.h>
#include <linux/virtio_byteorder.h>
#include <uapi/linux/virtio_blk.h>

#include "blk.h"

/* Legacy drivers may set this bit in the type (5.2.3.1); it asks for nothing. */
#define VHOST_BLK_T_BARRIER	0x80000000U

/**
 * vhost_blk_execute_get_id - answer VIRTIO_BLK_T_GET_ID; the same for all disks
 * @req: a checked request
 *
 * Context: the queue's worker with the owner's mm, vq.mutex held; may fault.
 */
void vhost_blk_execute_get_id(struct vhost_blk_req *req)
{
	struct vhost_blk_queue *queue = req->queue;
	size_t len = min_t(u64, req->data_bytes, sizeof(queue->serial));
	struct iov_iter to;

	iov_iter_init(&to, ITER_DEST, req->iov, req->nr_iov, len);
	if (copy_to_iter(queue->serial, len, &to) != len) {
		vhost_blk_req_end(req, VIRTIO_BLK_S_IOERR);
		return;
	}
	req->in_bytes = len;
	vhost_blk_req_end(req, VIRTIO_BLK_S_OK);
}

static const struct vhost_blk_op vhost_blk_ops[] = {
	[VIRTIO_BLK_T_IN] = {
		.type		= VIRTIO_BLK_T_IN,
		.stat		= VHOST_BLK_STAT(read),
		.exec		= VHOST_BLK_EXEC_RW,
		.feature	= -1,
		.payload	= VHOST_BLK_PAYLOAD_IN,
		.length		= VHOST_BLK_LENGTH_BLOCKS,
	},
	[VIRTIO_BLK_T_OUT] = {
		.type		= VIRTIO_BLK_T_OUT,
		.stat		= VHOST_BLK_STAT(write),
		.exec		= VHOST_BLK_EXEC_RW,
		.feature	= -1,
		.payload	= VHOST_BLK_PAYLOAD_OUT,
		.length		= VHOST_BLK_LENGTH_BLOCKS,
		.writes		= true,
	}, {
		.type		= VIRTIO_BLK_T_FLUSH,
		.stat		= VHOST_BLK_STAT(flush),
		.exec		= VHOST_BLK_EXEC_FLUSH,
		.feature	= VIRTIO_BLK_F_FLUSH,
		.payload	= VHOST_BLK_PAYLOAD_NONE,
		.length		= VHOST_BLK_LENGTH_ANY,
	}, {
		.type		= VIRTIO_BLK_T_GET_ID,
		.stat		= VHOST_BLK_STAT(other),
		.exec		= VHOST_BLK_EXEC_GET_ID,
		.feature	= -1,
		.payload	= VHOST_BLK_PAYLOAD_IN,
		.length		= VHOST_BLK_LENGTH_ANY,
	}, {
		.type		= VIRTIO_BLK_T_DISCARD,
		.stat		= VHOST_BLK_STAT(discard),
		.exec		= VHOST_BLK_EXEC_RANGES,
		.feature	= VIRTIO_BLK_F_DISCARD,
		.payload	= VHOST_BLK_PAYLOAD_OUT,
		.length		= VHOST_BLK_LENGTH_RANGES,
		.writes		= true,
	}, {
		.type		= VIRTIO_BLK_T_WRITE_ZEROES,
		.stat		= VHOST_BLK_STAT(write_zeroes),
		.exec		= VHOST_BLK_EXEC_RANGES,
		.feature	= VIRTIO_BLK_F_WRITE_ZEROES,
		.payload	= VHOST_BLK_PAYLOAD_OUT,
		.length		= VHOST_BLK_LENGTH_RANGES,
		.flags		= VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP,
		.writes		= true,
	}, {
		.type		= VIRTIO_BLK_T_SECURE_ERASE,
		.stat		= VHOST_BLK_STAT(discard),
		.exec		= VHOST_BLK_EXEC_RANGES,
		.feature	= VIRTIO_BLK_F_SECURE_ERASE,
		.payload	= VHOST_BLK_PAYLOAD_OUT,
		.length		= VHOST_BLK_LENGTH_RANGES,
		.writes		= true,
	},
};

static const struct vhost_blk_op *vhost_blk_op_find(u32 type)
{
	unsigned int i;

	if (likely(type <= VIRTIO_BLK_T_OUT))
		return &vhost_blk_ops[array_index_nospec(type, VIRTIO_BLK_T_OUT + 1)];
	for (i = VIRTIO_BLK_T_OUT + 1; i < ARRAY_SIZE(vhost_blk_ops); i++)
		if (vhost_blk_ops[i].type == type)
			return &vhost_blk_ops[i];
	return NULL;
}

static u64 vhost_blk_iov_bytes(const struct iovec *iov, unsigned int nr)
{
	u64 bytes = 0;

	while (nr--)
		bytes += iov++->iov_len;
	return bytes;
}

/* The status is the last device-writable byte of the chain (5.2.6). */
static u8 __user *vhost_blk_iov_pop_status(struct iovec *iov, unsigned int nr)
{
	while (nr--) {
		if (!iov[nr].iov_len)
			continue;
		iov[nr].iov_len--;
		return iov[nr].iov_base + iov[nr].iov_len;
	}
	return NULL;
}

/*
 * Take @left bytes off the front of the device-readable pieces; the driver may
 * lay them over any number of these (VIRTIO_F_ANY_LAYOUT, 2.7.4).
 */
static int vhost_blk_iov_pop(struct iovec *iov, unsigned int nr, void *to, size_t left)
{
	for (; nr && left; nr--, iov++) {
		size_t len = min(left, iov->iov_len);

		if (copy_from_user(to, iov->iov_base, len))
			return -EFAULT;
		iov->iov_base += len;
		iov->iov_len -= len;
		to += len;
		left -= len;
	}
	return left ? -EINVAL : 0;
}

/*
 * What copy_from_user() does, inline, for 16 bytes, each of them once; @from must be
 * aligned to 8 bytes for this to work. Return: false if nothing was copied.
 */
static bool vhost_blk_copy_16(void *to, const void __user *from)
{
	const u64 __user *word = from;
	u64 *out = to;

	if (!IS_ALIGNED((unsigned long)from, sizeof(*word)) ||
	    !user_access_begin(word, 2 * sizeof(*word)))
		return false;
	unsafe_get_user(out[0], word, fault);
	unsafe_get_user(out[1], word + 1, fault);
	user_access_end();
	return true;

fault:
	user_access_end();
	return false;
}

static int vhost_blk_hdr_pop(struct iovec *iov, unsigned int nr, struct virtio_blk_outhdr *hdr)
{
	BUILD_BUG_ON(sizeof(*hdr) != 16);
	if (likely(nr && iov->iov_len >= sizeof(*hdr) && vhost_blk_copy_16(hdr, iov->iov_base))) {
		iov->iov_base += sizeof(*hdr);
		iov->iov_len -= sizeof(*hdr);
		return 0;
	}
	return vhost_blk_iov_pop(iov, nr, hdr, sizeof(*hdr));
}

/* Whole logical blocks inside the medium; no sum here can wrap. */
static bool vhost_blk_sectors_ok(const struct vhost_blk_limits *limits, u64 sector,
				 u64 nr_sectors)
{
	if ((sector | nr_sectors) & ((limits->lbs_bytes >> VHOST_BLK_SECTOR_SHIFT) - 1))
		return false;
	return nr_sectors <= limits->capacity_sectors &&
	       sector <= limits->capacity_sectors - nr_sectors;
}

static bool vhost_blk_blocks_ok(const struct vhost_blk_req *req)
{
	/* used.len is 32 bits wide and counts the status byte as well */
	if (!req->data_bytes || req->data_bytes >= U32_MAX)
		return false;
	if (req->data_bytes & ((1U << VHOST_BLK_SECTOR_SHIFT) - 1))
		return false;
	return vhost_blk_sectors_ok(&req->queue->limits, req->sector,
				    req->data_bytes >> VHOST_BLK_SECTOR_SHIFT);
}

/* ---- ranges of DISCARD, WRITE_ZEROES and SECURE_ERASE ---- */

/**
 * vhost_blk_req_ranges_free - forget the ranges of a request, if it has some
 * @req: a request that has ended
 *
 * Context: the queue's worker, vq.mutex held.
 */
void vhost_blk_req_ranges_free(struct vhost_blk_req *req)
{
	if (req->ranges != &req->range) {
		kfree(req->ranges);
		atomic_dec(&req->queue->disk->copies);
	}
	req->ranges = NULL;
}

static int vhost_blk_ranges_alloc(struct vhost_blk_req *req)
{
	if (req->nr_ranges == 1) {
		req->ranges = &req->range;
		return 0;
	}
	req->ranges = kmalloc_array(req->nr_ranges, sizeof(*req->ranges),
				    GFP_KERNEL | __GFP_NOWARN);
	if (!req->ranges)
		return -ENOMEM;
	atomic_inc(&req->queue->disk->copies);
	return 0;
}

/* Little endian for legacy drivers too (5.2.6.1). */
static u8 vhost_blk_range_pop(struct vhost_blk_req *req, struct iovec *iov,
			      unsigned int nr, struct vhost_blk_range *range)
{
	struct virtio_blk_discard_write_zeroes wire;

	if (vhost_blk_iov_pop(iov, nr, &wire, sizeof(wire)))
		return VIRTIO_BLK_S_IOERR;
	range->sector = le64_to_cpu(wire.sector);
	range->nr_sectors = le32_to_cpu(wire.num_sectors);
	range->flags = le32_to_cpu(wire.flags);
	/* Reserved flags, and unmapping where it makes no sense (5.2.6.2). */
	if (range->flags & ~req->op->flags)
		return VIRTIO_BLK_S_UNSUPP;
	if (req->queue->disk->flags & VHOST_BLK_BACKEND_NO_UNMAP)
		range->flags &= ~VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP;
	if (range->nr_sectors > VHOST_BLK_RANGE_SECTORS_MAX ||
	    !vhost_blk_sectors_ok(&req->queue->limits, range->sector, range->nr_sectors))
		return VIRTIO_BLK_S_IOERR;
	return VIRTIO_BLK_S_OK;
}

/* All of them are copied and checked before the first is worked on. */
static u8 vhost_blk_ranges_pop(struct vhost_blk_req *req, struct iovec *iov,
			       unsigned int nr)
{
	u64 nr_ranges = req->data_bytes / sizeof(struct virtio_blk_discard_write_zeroes);
	unsigned int i;
	u8 status;

	if (!nr_ranges || nr_ranges > VHOST_BLK_RANGES_MAX ||
	    req->data_bytes % sizeof(struct virtio_blk_discard_write_zeroes))
		return VIRTIO_BLK_S_IOERR;
	req->nr_ranges = nr_ranges;
	if (vhost_blk_ranges_alloc(req))
		return VIRTIO_BLK_S_IOERR;
	for (i = 0; i < nr_ranges; i++) {
		status = vhost_blk_range_pop(req, iov, nr, &req->ranges[i]);
		if (status != VIRTIO_BLK_S_OK)
			return status;
	}
	return VIRTIO_BLK_S_OK;
}

/*
 * Check a request against its row of the table. @in_bytes and @out_bytes are
 * what the chain holds besides header and status.
 */
static u8 vhost_blk_req_check(const struct vhost_blk_req *req, u64 in_bytes,
			      u64 out_bytes)
{
	const struct vhost_blk_op *op = req->op;

	if (op->feature >= 0 && !vhost_blk_queue_has_feature(req->queue, op->feature))
		return VIRTIO_BLK_S_UNSUPP;
	if (op->writes && req->queue->limits.read_only)
		return VIRTIO_BLK_S_IOERR;
	if (in_bytes && op->payload != VHOST_BLK_PAYLOAD_IN)
		return VIRTIO_BLK_S_IOERR;
	if (out_bytes && op->payload != VHOST_BLK_PAYLOAD_OUT)
		return VIRTIO_BLK_S_IOERR;
	if (op->length == VHOST_BLK_LENGTH_BLOCKS && !vhost_blk_blocks_ok(req))
		return VIRTIO_BLK_S_IOERR;
	return VIRTIO_BLK_S_OK;
}

/**
 * vhost_blk_req_parse - make a request of a descriptor chain
 * @req:    a fresh slot; op, iov, data_bytes, sector and status_addr are set
 * @iov:    the chain's pieces in the owner's address space, device-readable
 *          ones first; header and status are cut off in place
 * @nr_out: how many are device-readable
 * @nr_in:  how many are device-writable
 *
 * Context: the queue's worker with the owner's mm, vq.mutex held; may fault.
 *
 * Return: VIRTIO_BLK_S_OK if the disk may execute the request, else the status
 * to end it with.
 */
u8 vhost_blk_req_parse(struct vhost_blk_req *req, struct iovec *iov,
		       unsigned int nr_out, unsigned int nr_in)
{
	bool le = req->queue->little_endian;
	struct virtio_blk_outhdr hdr __aligned(8);
	struct iovec *in = iov + nr_out;
	u64 in_bytes, out_bytes;
	u32 type;
	u8 status;

	req->status_addr = vhost_blk_iov_pop_status(in, nr_in);
	if (!req->status_addr || vhost_blk_hdr_pop(iov, nr_out, &hdr))
		return VIRTIO_BLK_S_IOERR;
	/* What nothing is left of, usually. */
	if (!in[nr_in - 1].iov_len)
		nr_in--;
	if (!iov->iov_len) {
		iov++;
		nr_out--;
	}

	type = __virtio32_to_cpu(le, hdr.type) & ~VHOST_BLK_T_BARRIER;
	req->sector = __virtio64_to_cpu(le, hdr.sector);
	req->op = vhost_blk_op_find(type);
	if (!req->op)
		return VIRTIO_BLK_S_UNSUPP;

	out_bytes = vhost_blk_iov_bytes(iov, nr_out);
	in_bytes = vhost_blk_iov_bytes(in, nr_in);
	if (req->op->payload == VHOST_BLK_PAYLOAD_IN) {
		req->iov = in;
		req->nr_iov = nr_in;
		req->data_bytes = in_bytes;
	} else {
		req->iov = iov;
		req->nr_iov = nr_out;
		req->data_bytes = out_bytes;
	}
	status = vhost_blk_req_check(req, in_bytes, out_bytes);
	if (status == VIRTIO_BLK_S_OK && req->op->length == VHOST_BLK_LENGTH_RANGES)
		status = vhost_blk_ranges_pop(req, iov, nr_out);
	return status;
}

/**
 * vhost_blk_req_status_put - tell the guest how a request ended
 * @req: an ended request
 *
 * Context: the queue's worker with the owner's mm, vq.mutex held; may fault.
 *
 * Return: used.len: bytes written to the chain, the status byte included; 0 if
 * the status byte could not be written.
 */
u32 vhost_blk_req_status_put(const struct vhost_blk_req *req)
{
	if (!req->status_addr || put_user(req->status, req->status_addr))
		return 0;
	return req->status == VIRTIO_BLK_S_OK ? req->in_bytes + 1 : 1;
}
