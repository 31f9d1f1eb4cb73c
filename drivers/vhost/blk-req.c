// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost_blk, guest side: from a descriptor chain to a checked request, and the
 * status byte back.
 *
 * Everything that comes from the guest is copied once, then checked, then used.
 * Section numbers are those of the virtio 1.2 specification.
 */
#include <linux/kernel.h>
#include <linux/uaccess.h>
#include <linux/uio.h>
#include <linux/virtio_byteorder.h>
#include <uapi/linux/virtio_blk.h>

#include "blk.h"

/* Legacy drivers may set this bit in the type (5.2.3.1); it asks for nothing. */
#define VHOST_BLK_T_BARRIER	0x80000000U

static void vhost_blk_execute_get_id(struct vhost_blk_req *req)
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
	{
		.type		= VIRTIO_BLK_T_IN,
		.execute	= vhost_blk_execute_rw,
		.feature	= -1,
		.payload	= VHOST_BLK_PAYLOAD_IN,
		.length		= VHOST_BLK_LENGTH_BLOCKS,
	}, {
		.type		= VIRTIO_BLK_T_OUT,
		.execute	= vhost_blk_execute_rw,
		.feature	= -1,
		.payload	= VHOST_BLK_PAYLOAD_OUT,
		.length		= VHOST_BLK_LENGTH_BLOCKS,
		.writes		= true,
	}, {
		.type		= VIRTIO_BLK_T_FLUSH,
		.execute	= vhost_blk_execute_flush,
		.feature	= VIRTIO_BLK_F_FLUSH,
		.payload	= VHOST_BLK_PAYLOAD_NONE,
		.length		= VHOST_BLK_LENGTH_ANY,
	}, {
		.type		= VIRTIO_BLK_T_GET_ID,
		.execute	= vhost_blk_execute_get_id,
		.feature	= -1,
		.payload	= VHOST_BLK_PAYLOAD_IN,
		.length		= VHOST_BLK_LENGTH_ANY,
	},
};

static const struct vhost_blk_op *vhost_blk_op_find(u32 type)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(vhost_blk_ops); i++)
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
 * Take the header off the front of the device-readable pieces; the driver may
 * lay it over any number of them (VIRTIO_F_ANY_LAYOUT, 2.7.4).
 */
static int vhost_blk_iov_pop_header(struct iovec *iov, unsigned int nr,
				    struct virtio_blk_outhdr *hdr)
{
	u8 *to = (u8 *)hdr;
	size_t left = sizeof(*hdr);

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

/* Whole blocks, inside the medium; no sum here can wrap. */
static bool vhost_blk_range_ok(const struct vhost_blk_req *req)
{
	const struct vhost_blk_limits *limits = &req->queue->limits;
	u64 sectors = req->data_bytes >> VHOST_BLK_SECTOR_SHIFT;

	/* used.len is 32 bits wide and counts the status byte as well */
	if (!req->data_bytes || req->data_bytes >= U32_MAX)
		return false;
	if (req->data_bytes & (limits->lbs_bytes - 1))
		return false;
	if (req->sector & ((limits->lbs_bytes >> VHOST_BLK_SECTOR_SHIFT) - 1))
		return false;
	return sectors <= limits->capacity_sectors &&
	       req->sector <= limits->capacity_sectors - sectors;
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
	if (op->length == VHOST_BLK_LENGTH_BLOCKS && !vhost_blk_range_ok(req))
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
 * Return: VIRTIO_BLK_S_OK if req->op->execute() may be called, else the status
 * to end the request with.
 */
u8 vhost_blk_req_parse(struct vhost_blk_req *req, struct iovec *iov,
		       unsigned int nr_out, unsigned int nr_in)
{
	bool le = req->queue->little_endian;
	struct virtio_blk_outhdr hdr;
	u64 in_bytes, out_bytes;
	u32 type;

	req->status_addr = vhost_blk_iov_pop_status(iov + nr_out, nr_in);
	if (!req->status_addr || vhost_blk_iov_pop_header(iov, nr_out, &hdr))
		return VIRTIO_BLK_S_IOERR;

	type = __virtio32_to_cpu(le, hdr.type) & ~VHOST_BLK_T_BARRIER;
	req->sector = __virtio64_to_cpu(le, hdr.sector);
	req->op = vhost_blk_op_find(type);
	if (!req->op)
		return VIRTIO_BLK_S_UNSUPP;

	out_bytes = vhost_blk_iov_bytes(iov, nr_out);
	in_bytes = vhost_blk_iov_bytes(iov + nr_out, nr_in);
	if (req->op->payload == VHOST_BLK_PAYLOAD_IN) {
		req->iov = iov + nr_out;
		req->nr_iov = nr_in;
		req->data_bytes = in_bytes;
	} else {
		req->iov = iov;
		req->nr_iov = nr_out;
		req->data_bytes = out_bytes;
	}
	return vhost_blk_req_check(req, in_bytes, out_bytes);
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
