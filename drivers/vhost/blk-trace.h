/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tracepoints of vhost_blk. "dev" numbers the opens of /dev/vhost-blk since the
 * module was loaded; vhost_blk_attach says which disk it got, and the process
 * that is traced there is the owner.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM vhost_blk

#if !defined(_VHOST_BLK_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define _VHOST_BLK_TRACE_H

#include <linux/fs.h>
#include <linux/kdev_t.h>
#include <linux/tracepoint.h>

#include "blk.h"

/* What a request is of, until its header is known. */
#define VHOST_BLK_TRACE_NO_TYPE	U32_MAX

/* A disk was attached; ino is that of an image file, 0 for a block device. */
TRACE_EVENT(vhost_blk_attach,
	TP_PROTO(unsigned int dev, const struct file *file),
	TP_ARGS(dev, file),
	TP_STRUCT__entry(
		__field(unsigned int, dev)
		__field(dev_t, disk)
		__field(u64, ino)
	),
	TP_fast_assign(
		const struct inode *inode = file_inode(file);

		__entry->dev = dev;
		__entry->disk = S_ISBLK(inode->i_mode) ? inode->i_rdev : inode->i_sb->s_dev;
		__entry->ino = S_ISBLK(inode->i_mode) ? 0 : inode->i_ino;
	),
	TP_printk("dev=%u disk=%d:%d ino=%llu", __entry->dev,
		  MAJOR(__entry->disk), MINOR(__entry->disk), __entry->ino)
);

/* A pass over a vring begins: the guest kicked, or there was more than one pass takes. */
TRACE_EVENT(vhost_blk_kick,
	TP_PROTO(const struct vhost_blk_queue *queue),
	TP_ARGS(queue),
	TP_STRUCT__entry(
		__field(unsigned int, dev)
		__field(unsigned int, vq)
	),
	TP_fast_assign(
		__entry->dev = queue->dev_id;
		__entry->vq = queue->index;
	),
	TP_printk("dev=%u vq=%u", __entry->dev, __entry->vq)
);

/* A checked request goes to the disk. */
TRACE_EVENT(vhost_blk_submit,
	TP_PROTO(const struct vhost_blk_req *req),
	TP_ARGS(req),
	TP_STRUCT__entry(
		__field(unsigned int, dev)
		__field(unsigned int, vq)
		__field(unsigned int, head)
		__field(u32, type)
		__field(u64, sector)
		__field(u64, bytes)
	),
	TP_fast_assign(
		__entry->dev = req->queue->dev_id;
		__entry->vq = req->queue->index;
		__entry->head = req->head;
		__entry->type = req->op->type;
		__entry->sector = req->sector;
		__entry->bytes = req->data_bytes;
	),
	TP_printk("dev=%u vq=%u head=%u type=%u sector=%llu bytes=%llu",
		  __entry->dev, __entry->vq, __entry->head, __entry->type,
		  __entry->sector, __entry->bytes)
);

/* A request goes back to the guest; the latency is from the begin of its pass. */
TRACE_EVENT(vhost_blk_complete,
	TP_PROTO(const struct vhost_blk_req *req, u64 latency_ns),
	TP_ARGS(req, latency_ns),
	TP_STRUCT__entry(
		__field(unsigned int, dev)
		__field(unsigned int, vq)
		__field(unsigned int, head)
		__field(u32, type)
		__field(u64, sector)
		__field(u64, bytes)
		__field(u8, status)
		__field(u64, latency_ns)
	),
	TP_fast_assign(
		__entry->dev = req->queue->dev_id;
		__entry->vq = req->queue->index;
		__entry->head = req->head;
		__entry->type = req->op ? req->op->type : VHOST_BLK_TRACE_NO_TYPE;
		__entry->sector = req->op ? req->sector : 0;
		__entry->bytes = req->data_bytes;
		__entry->status = req->status;
		__entry->latency_ns = latency_ns;
	),
	TP_printk("dev=%u vq=%u head=%u type=%u sector=%llu bytes=%llu status=%u latency_ns=%llu",
		  __entry->dev, __entry->vq, __entry->head, __entry->type,
		  __entry->sector, __entry->bytes, __entry->status, __entry->latency_ns)
);

/*
 * What the guest is not told: why the disk failed a request (head >= 0), or why
 * a vring could not be read (head -1).
 */
TRACE_EVENT(vhost_blk_error,
	TP_PROTO(const struct vhost_blk_queue *queue, int desc, int error),
	TP_ARGS(queue, desc, error),
	TP_STRUCT__entry(
		__field(unsigned int, dev)
		__field(unsigned int, vq)
		__field(int, head)
		__field(int, error)
	),
	TP_fast_assign(
		__entry->dev = queue->dev_id;
		__entry->vq = queue->index;
		__entry->head = desc;
		__entry->error = error;
	),
	TP_printk("dev=%u vq=%u head=%d error=%d", __entry->dev, __entry->vq,
		  __entry->head, __entry->error)
);

#endif /* _VHOST_BLK_TRACE_H */

#undef TRACE_INCLUDE_PATH
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_PATH .
#define TRACE_INCLUDE_FILE blk-trace
#include <trace/define_trace.h>
