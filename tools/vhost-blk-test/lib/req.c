// SPDX-License-Identifier: GPL-2.0-only
/* virtio-blk requests (virtio 1.x, section 5.2.6) and the data in them. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vt.h"

uint64_t vt_hdr_gpa(const struct vt_queue *q, uint16_t head)
{
	return q->slot_gpa + head * 32;
}

uint64_t vt_status_gpa(const struct vt_queue *q, uint16_t head)
{
	return vt_hdr_gpa(q, head) + 16;
}

void vt_hdr_write(struct vt_mem *mem, uint64_t gpa, uint32_t type, uint64_t sector)
{
	struct virtio_blk_outhdr *hdr = vt_ptr(mem, gpa);

	hdr->type = type;
	hdr->ioprio = 0;
	hdr->sector = sector;
}

uint8_t vt_status_read(struct vt_mem *mem, uint64_t gpa)
{
	return *(volatile uint8_t *)vt_ptr(mem, gpa);
}

static bool data_is_in(uint32_t type)
{
	return type == VIRTIO_BLK_T_IN || type == VIRTIO_BLK_T_GET_ID;
}

int vt_req_add(struct vt_queue *q, struct vt_req *req)
{
	uint16_t flags = data_is_in(req->type) ? VRING_DESC_F_WRITE : 0;
	struct vt_mem *mem = &q->dev->mem;
	struct vt_seg seg[VT_SEG_MAX + 2];
	uint16_t slot = q->free_head;
	unsigned int n = 0;
	int head;

	if (!q->nr_free)
		return -ENOSPC;
	vt_hdr_write(mem, vt_hdr_gpa(q, slot), req->type, req->sector);
	((struct virtio_blk_outhdr *)vt_ptr(mem, vt_hdr_gpa(q, slot)))->ioprio = req->ioprio;
	*(uint8_t *)vt_ptr(mem, vt_status_gpa(q, slot)) = VT_STATUS_NONE;

	seg[n++] = (struct vt_seg) { vt_hdr_gpa(q, slot), 16, 0 };
	for (uint32_t at = 0, part; at < req->len; at += part) {
		part = req->len - at;
		if (req->seg_bytes && part > req->seg_bytes)
			part = req->seg_bytes;
		if (n > VT_SEG_MAX)
			return -E2BIG;
		seg[n++] = (struct vt_seg) { req->data + at, part, flags };
	}
	seg[n++] = (struct vt_seg) { vt_status_gpa(q, slot), 1, VRING_DESC_F_WRITE };
	head = vt_add(q, seg, n, q->dev->indirect);
	if (head < 0)
		return head;
	req->done = false;
	req->head = head;
	q->slot[head].req = req;
	return 0;
}

int vt_req_submit(struct vt_queue *q, struct vt_req *req)
{
	int r = vt_req_add(q, req);

	if (r)
		return r;
	vt_publish(q);
	vt_kick_needed(q);
	return 0;
}

int vt_req_wait(struct vt_queue *q, struct vt_req *req)
{
	struct vt_used u;
	int r = 0;

	while (!req->done && !r)
		r = vt_wait(q, &u);
	return r;
}

int vt_req_run(struct vt_queue *q, struct vt_req *req)
{
	return vt_req_submit(q, req) ?: vt_req_wait(q, req);
}

int vt_io(struct vt_queue *q, uint32_t type, uint64_t sector, uint64_t gpa, uint32_t len)
{
	struct vt_req req = { .type = type, .sector = sector, .data = gpa, .len = len };
	uint32_t want = 1;
	int r = vt_req_run(q, &req);

	if (r)
		return r;
	if (req.status == VIRTIO_BLK_S_OK && type == VIRTIO_BLK_T_IN)
		want = len + 1;
	if (req.status == VIRTIO_BLK_S_OK && type == VIRTIO_BLK_T_GET_ID)
		want = (len < VHOST_BLK_SERIAL_BYTES ? len : VHOST_BLK_SERIAL_BYTES) + 1;
	return req.used_len == want ? req.status : -EBADMSG;
}

void vt_range_write(struct vt_mem *mem, uint64_t gpa, unsigned int i, uint64_t sector,
		    uint32_t nr_sectors, uint32_t flags)
{
	struct virtio_blk_discard_write_zeroes range = {
		.sector = htole64(sector), .num_sectors = htole32(nr_sectors),
		.flags = htole32(flags),
	};

	memcpy(vt_ptr(mem, gpa + i * VT_RANGE_BYTES), &range, sizeof(range));
}

static void seg_add(struct vt_chain *c, uint64_t gpa, uint32_t len, uint16_t flags)
{
	if (c->n == VT_CHAIN_MAX)
		abort();
	c->seg[c->n++] = (struct vt_seg) { gpa, len, flags };
}

void vt_out(struct vt_chain *c, uint64_t gpa, uint32_t len)
{
	seg_add(c, gpa, len, 0);
}

void vt_in(struct vt_chain *c, uint64_t gpa, uint32_t len)
{
	seg_add(c, gpa, len, VRING_DESC_F_WRITE);
}

int vt_chain_run(struct vt_queue *q, struct vt_chain *c, bool indirect)
{
	struct vt_used u;
	int head = vt_submit(q, c->seg, c->n, indirect);
	int r;

	c->n = 0;
	if (head < 0)
		return head;
	r = vt_wait(q, &u);
	if (r)
		return r;
	return u.head == head ? (int)u.len : -EPROTO;
}

int vt_good(struct vt_queue *q)
{
	static uint64_t seed = 0x600d;
	const uint32_t len = 4096;
	struct vt_region *r = &q->dev->mem.region[1];
	size_t used = r->used;
	uint64_t gpa = vt_alloc(&q->dev->mem, len);
	void *p = vt_ptr(&q->dev->mem, gpa);
	int ret;

	seed++;
	r->used = used;		/* given back: nothing is in flight afterwards */
	vt_fill(p, len, seed, 8);
	ret = vt_io(q, VIRTIO_BLK_T_OUT, 8, gpa, len);
	if (ret)
		return ret < 0 ? ret : -EIO;
	memset(p, 0, len);
	ret = vt_io(q, VIRTIO_BLK_T_IN, 8, gpa, len);
	if (ret)
		return ret < 0 ? ret : -EIO;
	return vt_check(p, len, seed, 8) < 0 ? 0 : -EILSEQ;
}

static uint64_t pattern_word(uint64_t seed, uint64_t sector, unsigned int word)
{
	return (seed << 48) ^ (sector << 8) ^ word ^ 0x9e3779b97f4a7c15ULL;
}

void vt_fill(void *buf, size_t len, uint64_t seed, uint64_t sector)
{
	uint64_t w;

	for (size_t i = 0; i + sizeof(w) <= len; i += sizeof(w)) {
		w = pattern_word(seed, sector + i / VT_SECTOR, i % VT_SECTOR / sizeof(w));
		memcpy((uint8_t *)buf + i, &w, sizeof(w));
	}
}

ssize_t vt_check(const void *buf, size_t len, uint64_t seed, uint64_t sector)
{
	uint64_t w, seen;

	for (size_t i = 0; i + sizeof(w) <= len; i += sizeof(w)) {
		w = pattern_word(seed, sector + i / VT_SECTOR, i % VT_SECTOR / sizeof(w));
		memcpy(&seen, (const uint8_t *)buf + i, sizeof(seen));
		if (seen != w)
			return i;
	}
	return -1;
}

ssize_t vt_check_byte(const void *buf, size_t len, uint8_t byte)
{
	const uint8_t *p = buf;

	for (size_t i = 0; i < len; i++)
		if (p[i] != byte)
			return i;
	return -1;
}
