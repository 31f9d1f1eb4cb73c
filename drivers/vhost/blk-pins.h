/* SPDX-License-Identifier: GPL-2.0-only */
/* Pages of the owner's memory that stay pinned from one request to the next: blk-pins.c. */
#ifndef _VHOST_BLK_PINS_H
#define _VHOST_BLK_PINS_H

#include <linux/atomic.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/spinlock.h>
#include <linux/workqueue.h>

/* Pages that a vring keeps, at most; a power of 2. */
#define VHOST_BLK_MAX_PINS	1024

/* Low bits of struct vhost_blk_pin.key. */
#define VHOST_BLK_PIN_VALID	1UL
#define VHOST_BLK_PIN_WRITE	2UL

/**
 * struct vhost_blk_pin - a page that stays pinned
 * @key:   its address in the owner's memory and VHOST_BLK_PIN_*; 0: not to be used again.
 *         Who makes it 0 gives back the reference that goes with it.
 * @page:  the page, valid for who has a reference
 * @users: references: one of the key, one of each request
 * @young: it was used since it was last looked at
 */
struct vhost_blk_pin {
	unsigned long key;
	struct page *page;
	atomic_t users;
	bool young;
};

/**
 * struct vhost_blk_pins - the pages of a vring that stay pinned
 * @notifier:     tells when the owner's address space changes
 * @mm:           that
 * @lock:         serialises what is added with what is invalidated
 * @invalidating: ranges that are changing right now
 * @seq:          how many have changed
 * @ageing:       @age is going to run
 * @age:          lets go what has not been used for a while
 * @pin:          by page number
 */
struct vhost_blk_pins {
	struct mmu_notifier notifier;
	struct mm_struct *mm;
	spinlock_t lock;	/* innermost */
	unsigned int invalidating;
	unsigned long seq;
	bool ageing;
	struct delayed_work age;
	struct vhost_blk_pin pin[VHOST_BLK_MAX_PINS];
};

static inline struct vhost_blk_pin *vhost_blk_pin_of(struct vhost_blk_pins *pins,
						     unsigned long addr)
{
	return &pins->pin[(addr >> PAGE_SHIFT) % VHOST_BLK_MAX_PINS];
}

/**
 * vhost_blk_pin_put - give back a reference
 * @pin: the page, which the caller must not use any more
 *
 * Context: any that may free a page.
 */
static inline void vhost_blk_pin_put(struct vhost_blk_pin *pin)
{
	struct page *page = pin->page;

	if (unlikely(atomic_dec_and_test(&pin->users)))
		unpin_user_page(page);
}

/**
 * vhost_blk_pin_get - is the page at an address pinned already?
 * @pins:  the vring's pages
 * @addr:  an address in the owner's memory
 * @write: it will be written
 *
 * Context: the queue's worker, vq.mutex held.
 *
 * Return: the page, with a reference; or NULL.
 */
static inline struct vhost_blk_pin *vhost_blk_pin_get(struct vhost_blk_pins *pins,
						      unsigned long addr, bool write)
{
	struct vhost_blk_pin *pin = vhost_blk_pin_of(pins, addr);
	unsigned long want = (addr & PAGE_MASK) | VHOST_BLK_PIN_VALID | VHOST_BLK_PIN_WRITE;
	unsigned long key = READ_ONCE(pin->key);

	if (key != want && (write || key != (want & ~VHOST_BLK_PIN_WRITE)))
		return NULL;
	if (unlikely(!atomic_inc_not_zero(&pin->users)))
		return NULL;
	/* A full barrier. Who invalidates the page from now on finds it in use. */
	if (unlikely(READ_ONCE(pin->key) != key)) {
		vhost_blk_pin_put(pin);
		return NULL;
	}
	WRITE_ONCE(pin->young, true);
	return pin;
}

/**
 * vhost_blk_pins_seq - to be asked before a page is pinned that is to be added
 * @pins: the vring's pages
 *
 * Return: what vhost_blk_pin_add() wants to know.
 */
static inline unsigned long vhost_blk_pins_seq(const struct vhost_blk_pins *pins)
{
	unsigned long seq = READ_ONCE(pins->seq);

	/* Pairs with the lock in vhost_blk_pin_add(). */
	smp_rmb();
	return seq;
}

#ifdef CONFIG_MMU_NOTIFIER
struct vhost_blk_pins *vhost_blk_pins_create(struct mm_struct *mm);
void vhost_blk_pins_destroy(struct vhost_blk_pins *pins);
struct vhost_blk_pin *vhost_blk_pin_add(struct vhost_blk_pins *pins, unsigned long addr,
					struct page *page, bool write, unsigned long seq);
#else
static inline struct vhost_blk_pins *vhost_blk_pins_create(struct mm_struct *mm)
{
	return NULL;
}

static inline void vhost_blk_pins_destroy(struct vhost_blk_pins *pins)
{
}

static inline struct vhost_blk_pin *vhost_blk_pin_add(struct vhost_blk_pins *pins,
						      unsigned long addr, struct page *page,
						      bool write, unsigned long seq)
{
	return NULL;
}
#endif

#endif /* _VHOST_BLK_PINS_H */
