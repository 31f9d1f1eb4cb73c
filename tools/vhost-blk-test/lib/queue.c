// SPDX-License-Identifier: GPL-2.0-only
/* The driver's side of a split virtqueue (virtio 1.x, section 2.7). */
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "vt.h"

/* A full barrier where the driver writes one index and then reads another. */
#define vt_mb()		__atomic_thread_fence(__ATOMIC_SEQ_CST)
#define vt_wmb()	__atomic_thread_fence(__ATOMIC_RELEASE)
#define vt_rmb()	__atomic_thread_fence(__ATOMIC_ACQUIRE)

static bool event_idx(const struct vt_queue *q)
{
	return q->dev->features & VT_F_EVENT_IDX;
}

volatile uint16_t *vt_used_event(struct vt_queue *q)
{
	return &q->avail->ring[q->num];
}

volatile uint16_t *vt_avail_event(struct vt_queue *q)
{
	return (volatile uint16_t *)&q->used->ring[q->num];
}

static uint16_t desc_take(struct vt_queue *q)
{
	uint16_t i = q->free_head;

	q->free_head = q->next_free[i];
	q->nr_free--;
	return i;
}

static void chain_put(struct vt_queue *q, uint16_t head)
{
	uint16_t last = head;

	/* The chain is still linked through next_free, in order. */
	for (int i = 1; i < q->slot[head].nr_desc; i++)
		last = q->next_free[last];
	q->next_free[last] = q->free_head;
	q->free_head = head;
	q->nr_free += q->slot[head].nr_desc;
	q->slot[head].nr_desc = 0;
}

static void desc_write(volatile struct vring_desc *d, const struct vt_seg *seg,
		       uint16_t flags, uint16_t next)
{
	d->addr = seg->gpa;
	d->len = seg->len;
	d->flags = seg->flags | flags;
	d->next = next;
}

static void table_write(struct vt_queue *q, uint16_t head, const struct vt_seg *seg,
			unsigned int n)
{
	struct vt_slot *slot = &q->slot[head];
	struct vring_desc *table;

	if (slot->table_len < n) {
		slot->table = vt_alloc_in(&q->dev->mem, 0, n * sizeof(*table), 16);
		slot->table_len = n;
	}
	table = vt_ptr(&q->dev->mem, slot->table);
	for (unsigned int i = 0; i < n; i++)
		desc_write(&table[i], &seg[i], i + 1 < n ? VRING_DESC_F_NEXT : 0, i + 1);
}

void vt_add_head(struct vt_queue *q, uint16_t head)
{
	q->avail->ring[q->avail_idx % q->num] = head;
	q->avail_idx++;
	if (head < q->num && !q->slot[head].busy) {
		q->slot[head].busy = true;
		q->inflight++;
	}
}

int vt_add(struct vt_queue *q, const struct vt_seg *seg, unsigned int n, bool indirect)
{
	unsigned int need = indirect ? 1 : n;
	uint16_t head = q->free_head, at = head;

	if (!n || need > q->nr_free)
		return -ENOSPC;
	if (indirect) {
		struct vt_seg one = { .len = n * sizeof(struct vring_desc) };

		table_write(q, desc_take(q), seg, n);
		one.gpa = q->slot[head].table;
		desc_write(&q->desc[head], &one, VRING_DESC_F_INDIRECT, 0);
	} else {
		for (unsigned int i = 0; i < n; i++) {
			at = desc_take(q);
			desc_write(&q->desc[at], &seg[i],
				   i + 1 < n ? VRING_DESC_F_NEXT : 0, q->free_head);
		}
	}
	q->slot[head].nr_desc = need;
	q->slot[head].req = NULL;
	vt_add_head(q, head);
	return head;
}

void vt_publish(struct vt_queue *q)
{
	vt_wmb();
	q->avail->idx = q->avail_idx;
}

void vt_kick(struct vt_queue *q)
{
	uint64_t one = 1;

	q->kicked_idx = q->avail_idx;
	if (write(q->kick, &one, sizeof(one)) != sizeof(one))
		return;		/* only a full counter can refuse: a kick is pending */
}

bool vt_kick_needed(struct vt_queue *q)
{
	uint16_t old = q->kicked_idx;
	bool need;

	vt_mb();
	need = event_idx(q) ? vring_need_event(*vt_avail_event(q), q->avail_idx, old) :
			      !(q->used->flags & VRING_USED_F_NO_NOTIFY);
	q->kicked_idx = q->avail_idx;
	if (need)
		vt_kick(q);
	return need;
}

int vt_submit(struct vt_queue *q, const struct vt_seg *seg, unsigned int n, bool indirect)
{
	int head = vt_add(q, seg, n, indirect);

	if (head >= 0) {
		vt_publish(q);
		vt_kick(q);
	}
	return head;
}

static void req_done(struct vt_queue *q, const struct vt_used *u)
{
	struct vt_req *req = q->slot[u->head].req;

	if (!req)
		return;
	req->used_len = u->len;
	req->status = vt_status_read(&q->dev->mem, vt_status_gpa(q, u->head));
	req->done = true;
	q->slot[u->head].req = NULL;
}

int vt_used_get(struct vt_queue *q, struct vt_used *u)
{
	volatile struct vring_used_elem *e = &q->used->ring[q->used_idx % q->num];
	uint32_t id;

	if (q->used->idx == q->used_idx)
		return 0;
	vt_rmb();
	id = e->id;
	u->head = id;
	u->len = e->len;
	q->used_idx++;
	if (id >= q->num || !q->slot[id].busy)
		return -EPROTO;
	q->slot[id].busy = false;
	q->inflight--;
	if (q->slot[id].nr_desc)
		chain_put(q, id);
	req_done(q, u);
	return 1;
}

uint64_t vt_event_count(int eventfd, int timeout_ms)
{
	struct pollfd pfd = { .fd = eventfd, .events = POLLIN };
	uint64_t n = 0;

	if (poll(&pfd, 1, timeout_ms) != 1 || read(eventfd, &n, sizeof(n)) != sizeof(n))
		return 0;
	return n;
}

/* Ask for an interrupt at the next entry; the caller looks once more after. */
static void call_enable(struct vt_queue *q)
{
	q->avail->flags = 0;
	if (event_idx(q))
		*vt_used_event(q) = q->used_idx;
	vt_mb();
}

int vt_wait_ms(struct vt_queue *q, struct vt_used *u, int timeout_ms)
{
	int64_t end = vt_now_ms() + timeout_ms, left;
	int r = vt_used_get(q, u);

	while (!r) {
		call_enable(q);
		r = vt_used_get(q, u);
		if (r)
			break;
		left = end - vt_now_ms();
		if (left <= 0 || !vt_event_count(q->call, left)) {
			r = vt_used_get(q, u);
			return r < 0 ? r : r ? -ECOMM : -ETIMEDOUT;
		}
		r = vt_used_get(q, u);
	}
	return r < 0 ? r : 0;
}

int vt_wait(struct vt_queue *q, struct vt_used *u)
{
	return vt_wait_ms(q, u, vt_timeout_ms());
}

int vt_wait_all(struct vt_queue *q)
{
	struct vt_used u;
	int r = 0;

	while (q->inflight && !r)
		r = vt_wait(q, &u);
	return r;
}

int vt_wait_polling(struct vt_queue *q, struct vt_used *u, int timeout_ms)
{
	int64_t end = vt_now_ms() + timeout_ms;
	int r;

	do {
		r = vt_used_get(q, u);
		if (r)
			return r < 0 ? r : 0;
		usleep(200);
	} while (vt_now_ms() < end);
	return -ETIMEDOUT;
}

int vt_fetched_wait(struct vt_queue *q)
{
	int64_t end = vt_now_ms() + vt_timeout_ms();

	/* It says where it wants the next kick just before it goes to sleep. */
	while (*vt_avail_event(q) != q->avail_idx) {
		if (vt_now_ms() > end)
			return -ETIMEDOUT;
		usleep(1000);
	}
	return 0;
}

int vt_queue_idle(struct vt_queue *q)
{
	if (q->inflight)
		return -EBUSY;
	return q->used->idx == q->used_idx ? 0 : -EPROTO;
}
