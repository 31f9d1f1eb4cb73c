// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost_blk, host side: pages of the owner's memory that stay pinned for a while.
 *
 * To look a page up in the page tables, to pin and to unpin it costs a sixth of a
 * small request, and drivers often use the same buffers again. So a vring keeps pages
 * pinned after their request, by address, until
 *
 *   - the owner's address space changes there. An MMU notifier tells before it does:
 *     from then on the address has to be looked up again, and the page is let go with
 *     the last request that uses it, as if each had pinned it. This is how unmapped,
 *     discarded (balloon), moved, copied (fork), merged (KSM) or write-protected
 *     memory is never mistaken for what is there now.
 *   - it has not been used for a second or two. As long as it is pinned it cannot be
 *     moved or swapped, which is of no use for memory with I/O, but is for the rest.
 *   - another page wants its place in the table.
 *
 * Nobody waits for anybody: who invalidates a page that is in use takes its key away.
 * Only the queue's worker, which holds vq.mutex, gives keys.
 */
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "blk-pins.h"

/* How often it is looked at what has not been used. */
#define VHOST_BLK_PINS_AGE	HZ

/* Let a page go that had this key when it was looked at. */
static void vhost_blk_pin_drop(struct vhost_blk_pin *pin, unsigned long key)
{
	if (key && cmpxchg(&pin->key, key, 0) == key)
		vhost_blk_pin_put(pin);
}

static void vhost_blk_pin_drop_range(struct vhost_blk_pin *pin, unsigned long start,
				     unsigned long end)
{
	unsigned long key = READ_ONCE(pin->key);

	if ((key & PAGE_MASK) >= (start & PAGE_MASK) && (key & PAGE_MASK) < end)
		vhost_blk_pin_drop(pin, key);
}

/* ---- the owner's address space changes ---- */

static struct vhost_blk_pins *to_pins(struct mmu_notifier *notifier)
{
	return container_of(notifier, struct vhost_blk_pins, notifier);
}

static int vhost_blk_pins_invalidate_start(struct mmu_notifier *notifier,
					   const struct mmu_notifier_range *range)
{
	struct vhost_blk_pins *pins = to_pins(notifier);
	unsigned long addr, start = range->start & PAGE_MASK;
	unsigned int i;

	spin_lock(&pins->lock);
	pins->invalidating++;
	spin_unlock(&pins->lock);
	/* What is added from now on is refused, so nothing here is missed. */
	if ((range->end - start) >> PAGE_SHIFT >= VHOST_BLK_MAX_PINS) {
		for (i = 0; i < VHOST_BLK_MAX_PINS; i++)
			vhost_blk_pin_drop_range(&pins->pin[i], start, range->end);
	} else {
		for (addr = start; addr < range->end; addr += PAGE_SIZE)
			vhost_blk_pin_drop_range(vhost_blk_pin_of(pins, addr), start, range->end);
	}
	return 0;
}

static void vhost_blk_pins_invalidate_end(struct mmu_notifier *notifier,
					  const struct mmu_notifier_range *range)
{
	struct vhost_blk_pins *pins = to_pins(notifier);

	spin_lock(&pins->lock);
	pins->seq++;
	pins->invalidating--;
	spin_unlock(&pins->lock);
}

static const struct mmu_notifier_ops vhost_blk_pins_notifier_ops = {
	.invalidate_range_start	= vhost_blk_pins_invalidate_start,
	.invalidate_range_end	= vhost_blk_pins_invalidate_end,
};

/* ---- what has not been used ---- */

static void vhost_blk_pins_age_start(struct vhost_blk_pins *pins)
{
	lockdep_assert_held(&pins->lock);
	if (pins->ageing)
		return;
	pins->ageing = true;
	queue_delayed_work(system_unbound_wq, &pins->age, VHOST_BLK_PINS_AGE);
}

static void vhost_blk_pins_age(struct work_struct *work)
{
	struct vhost_blk_pins *pins = container_of(to_delayed_work(work),
						   struct vhost_blk_pins, age);
	bool any = false;
	unsigned int i;

	spin_lock(&pins->lock);
	pins->ageing = false;
	spin_unlock(&pins->lock);
	for (i = 0; i < VHOST_BLK_MAX_PINS; i++) {
		struct vhost_blk_pin *pin = &pins->pin[i];
		unsigned long key = READ_ONCE(pin->key);

		if (!key)
			continue;
		any = true;
		if (READ_ONCE(pin->young))
			WRITE_ONCE(pin->young, false);
		else
			vhost_blk_pin_drop(pin, key);
	}
	if (!any)
		return;
	spin_lock(&pins->lock);
	vhost_blk_pins_age_start(pins);
	spin_unlock(&pins->lock);
}

/* ---- what the vring does ---- */

/**
 * vhost_blk_pin_add - keep a page
 * @pins:  the vring's pages
 * @addr:  its address in the owner's memory
 * @page:  the page, just pinned for a request
 * @write: it was pinned to be written
 * @seq:   what vhost_blk_pins_seq() said before it was pinned
 *
 * Context: the queue's worker, vq.mutex held.
 *
 * Return: the page, with the reference of that request; NULL: it is not kept, and the
 * request unpins it.
 */
struct vhost_blk_pin *vhost_blk_pin_add(struct vhost_blk_pins *pins, unsigned long addr,
					struct page *page, bool write, unsigned long seq)
{
	struct vhost_blk_pin *pin = vhost_blk_pin_of(pins, addr);
	bool added = false;

	vhost_blk_pin_drop(pin, READ_ONCE(pin->key));
	/* A request, or who invalidates it, still has the one that was there. */
	if (atomic_read_acquire(&pin->users))
		return NULL;
	spin_lock(&pins->lock);
	if (!pins->invalidating && pins->seq == seq) {
		pin->page = page;
		atomic_set(&pin->users, 2);
		WRITE_ONCE(pin->young, true);
		/* Who sees the key sees the page. */
		smp_store_release(&pin->key, (addr & PAGE_MASK) | VHOST_BLK_PIN_VALID |
				  (write ? VHOST_BLK_PIN_WRITE : 0));
		vhost_blk_pins_age_start(pins);
		added = true;
	}
	spin_unlock(&pins->lock);
	return added ? pin : NULL;
}

/**
 * vhost_blk_pins_create - make room for the pages of a vring
 * @mm: the owner's address space
 *
 * Context: process; may sleep.
 *
 * Return: room, or NULL: there is no memory or a signal is pending. All works without.
 */
struct vhost_blk_pins *vhost_blk_pins_create(struct mm_struct *mm)
{
	struct vhost_blk_pins *pins;

	BUILD_BUG_ON(VHOST_BLK_MAX_PINS & (VHOST_BLK_MAX_PINS - 1));
	pins = kvzalloc(sizeof(*pins), GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!pins)
		return NULL;
	spin_lock_init(&pins->lock);
	INIT_DELAYED_WORK(&pins->age, vhost_blk_pins_age);
	pins->mm = mm;
	pins->notifier.ops = &vhost_blk_pins_notifier_ops;
	if (mmu_notifier_register(&pins->notifier, mm)) {
		kvfree(pins);
		return NULL;
	}
	return pins;
}

/**
 * vhost_blk_pins_destroy - let all pages go
 * @pins: the pages of a vring with nothing in flight; can be NULL
 *
 * Context: process; may sleep.
 */
void vhost_blk_pins_destroy(struct vhost_blk_pins *pins)
{
	unsigned int i;

	if (!pins)
		return;
	mmu_notifier_unregister(&pins->notifier, pins->mm);
	cancel_delayed_work_sync(&pins->age);
	for (i = 0; i < VHOST_BLK_MAX_PINS; i++)
		vhost_blk_pin_drop(&pins->pin[i], pins->pin[i].key);
	kvfree(pins);
}
