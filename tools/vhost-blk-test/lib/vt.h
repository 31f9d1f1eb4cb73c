/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A driver for split virtqueues of /dev/vhost-blk in an ordinary process, with
 * what its users need around it: guest memory, backing devices, data patterns.
 * The "guest" is this process: it fills descriptors, the kernel serves them.
 *
 * Every function that can fail returns -errno. Nothing here prints.
 */
#ifndef VT_H
#define VT_H

#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <linux/vhost.h>
#include <linux/vhost_blk.h>
#include <linux/virtio_blk.h>
#include <linux/virtio_config.h>
#include <linux/virtio_ring.h>

/* Rings and request headers are written in host order, which must be theirs. */
_Static_assert(__BYTE_ORDER == __LITTLE_ENDIAN, "big endian hosts are not supported");

#define VT_DEV		"/dev/vhost-blk"
#define VT_MIB		(1024UL * 1024)
#define VT_SECTOR	512U
#define VT_F(bit)	(1ULL << (bit))

/* Limits that are part of the module's contract. */
#define VT_SEG_MAX	510U
#define VT_NR_QUEUES	16U

/* What a modern driver acks; NOTIFY_ON_EMPTY would blur interrupt counts. */
#define VT_F_BASE	(VT_F(VIRTIO_F_VERSION_1) | VT_F(VIRTIO_RING_F_INDIRECT_DESC) | \
			 VT_F(VIRTIO_BLK_F_FLUSH) | VT_F(VIRTIO_BLK_F_MQ) | \
			 VT_F(VIRTIO_BLK_F_SEG_MAX) | VT_F(VIRTIO_BLK_F_SIZE_MAX) | \
			 VT_F(VIRTIO_BLK_F_BLK_SIZE) | VT_F(VIRTIO_BLK_F_TOPOLOGY))
#define VT_F_EVENT_IDX	VT_F(VIRTIO_RING_F_EVENT_IDX)
#define VT_F_RANGES	(VT_F(VIRTIO_BLK_F_DISCARD) | VT_F(VIRTIO_BLK_F_WRITE_ZEROES) | \
			 VT_F(VIRTIO_BLK_F_SECURE_ERASE))
#define VT_F_FLUSH	VT_F(VIRTIO_BLK_F_FLUSH)

/* Milliseconds any wait may take: 5000, or $VT_TIMEOUT_MS. */
int vt_timeout_ms(void);
/* Repetitions of a loop: @n, multiplied by $VT_LOOPS (1) for long runs. */
unsigned int vt_loops(unsigned int n);
/* But no more than @most, which is what the test's deadline is made for. */
unsigned int vt_loops_to(unsigned int n, unsigned int most);
int64_t vt_now_ms(void);

/* ---- guest memory (mem.c) ---- */

/*
 * Regions 0 and 1 meet in guest physical memory but not in the mappings that
 * the device is told about; region 2 lies apart, above 4 GiB. All are views of
 * one memfd, which the test itself sees through a mapping of its own: the
 * device's view can lose pages while the test still reads what is in them.
 */
#define VT_NR_REGIONS	3

struct vt_region {
	uint64_t gpa;
	size_t size;
	size_t offset;		/* in the memfd */
	uint8_t *dev;		/* the device's mapping */
	size_t used;		/* bytes given out by vt_alloc */
	size_t limit;		/* vt_alloc stops here */
};

struct vt_mem {
	int fd;
	size_t size;
	uint8_t *view;		/* the test's mapping, the regions in a row */
	struct vt_region region[VT_NR_REGIONS];
};

int vt_mem_init(struct vt_mem *mem);
void vt_mem_fini(struct vt_mem *mem);
/* Map the device's views of @mem's memfd in this process (after a fork). */
int vt_mem_map(struct vt_mem *mem);
/* The test's address of @gpa, NULL when no region has it. */
void *vt_ptr(const struct vt_mem *mem, uint64_t gpa);
/* The device's address of @gpa, as VHOST_SET_VRING_ADDR wants it. */
void *vt_dev_ptr(const struct vt_mem *mem, uint64_t gpa);
/* A fresh range of guest memory; aborts when a region is full. */
uint64_t vt_alloc_in(struct vt_mem *mem, int region, size_t size, size_t align);
uint64_t vt_alloc(struct vt_mem *mem, size_t size);
/* Guest physical address where regions 0 and 1 meet; 1 MiB around it is free. */
uint64_t vt_boundary(const struct vt_mem *mem);
/* The first address after region 1: 16 MiB from here on are in no region. */
uint64_t vt_end(const struct vt_mem *mem);
/* A guest physical address that no region has. */
uint64_t vt_hole(const struct vt_mem *mem);
/* Change the device's view of a page range: PROT_NONE unmaps it. */
int vt_dev_protect(struct vt_mem *mem, uint64_t gpa, size_t size, int prot);
/* Tell @fd about @mem, or that it lies @shift bytes higher than here. */
int vt_mem_set(const struct vt_mem *mem, int fd);
int vt_mem_set_at(const struct vt_mem *mem, int fd, uint64_t shift);
/* Pages that the kernel holds pinned for whomever; -ENOENT: this kernel does not count them. */
long vt_pinned_pages(void);
/* Wait until they are at most @max. */
int vt_pinned_wait(long max);

/* ---- virtqueues (queue.c) ---- */

/* One descriptor to be; flags: VRING_DESC_F_WRITE, the chain is the lib's. */
struct vt_seg {
	uint64_t gpa;
	uint32_t len;
	uint16_t flags;
};

struct vt_used {
	uint16_t head;
	uint32_t len;
};

struct vt_req;
struct vt_dev;

struct vt_slot {
	bool busy;		/* published and not yet in the used ring */
	uint16_t nr_desc;	/* ring descriptors of the chain that starts here */
	struct vt_req *req;	/* filled when the head comes back, or NULL */
	uint64_t table;		/* indirect table, grown on demand */
	unsigned int table_len;
};

struct vt_queue {
	struct vt_dev *dev;
	unsigned int index, num;
	uint64_t desc_gpa, avail_gpa, used_gpa, slot_gpa;
	volatile struct vring_desc *desc;
	volatile struct vring_avail *avail;
	volatile struct vring_used *used;
	int kick, call, err;	/* eventfds */
	uint16_t avail_idx;	/* what the next publish writes */
	uint16_t kicked_idx;	/* avail_idx when a kick was last considered */
	uint16_t used_idx;	/* next used entry to look at */
	uint16_t *next_free;
	uint16_t free_head;
	unsigned int nr_free;	/* ring descriptors */
	unsigned int inflight;
	struct vt_slot *slot;	/* one per head */
};

/* Where the driver of @q wants its next interrupt (EVENT_IDX). */
volatile uint16_t *vt_used_event(struct vt_queue *q);
/* Where the device of @q wants its next kick (EVENT_IDX). */
volatile uint16_t *vt_avail_event(struct vt_queue *q);

/*
 * Write a chain into the ring, or one descriptor and a table, and its head into
 * the avail ring; the device sees it after vt_publish. Returns the head, or
 * -ENOSPC when descriptors are short.
 */
int vt_add(struct vt_queue *q, const struct vt_seg *seg, unsigned int n, bool indirect);
/* As vt_add for descriptors that the caller wrote itself, also broken ones. */
void vt_add_head(struct vt_queue *q, uint16_t head);
void vt_publish(struct vt_queue *q);
void vt_kick(struct vt_queue *q);
/* Kick only if the device asked for it; true if it did. */
bool vt_kick_needed(struct vt_queue *q);
/* vt_add, vt_publish, vt_kick. */
int vt_submit(struct vt_queue *q, const struct vt_seg *seg, unsigned int n, bool indirect);
/* 1: one entry taken; 0: none there; -EPROTO: its head is not in flight. */
int vt_used_get(struct vt_queue *q, struct vt_used *u);
/*
 * Wait for one used entry, asleep on the call eventfd. 0, -ETIMEDOUT, -EPROTO,
 * or -ECOMM when an entry came but no call did.
 */
int vt_wait(struct vt_queue *q, struct vt_used *u);
int vt_wait_ms(struct vt_queue *q, struct vt_used *u, int timeout_ms);
/* Wait until nothing is in flight. */
int vt_wait_all(struct vt_queue *q);
/* As vt_wait without a call eventfd and whatever was asked for. */
int vt_wait_polling(struct vt_queue *q, struct vt_used *u, int timeout_ms);
/* Events counted since the last call; waits up to @timeout_ms for the first. */
uint64_t vt_event_count(int eventfd, int timeout_ms);
/* Wait until the device has fetched all that was published (EVENT_IDX). */
int vt_fetched_wait(struct vt_queue *q);
/* No request may be in flight and nothing be left in the used ring. */
int vt_queue_idle(struct vt_queue *q);

/* ---- the device (dev.c) ---- */

struct vt_opts {
	uint64_t features;	/* acked; 0: VT_F_BASE */
	unsigned int nr_queues;	/* 0: 1 */
	bool only_these;	/* the device is to have no more */
	unsigned int num;	/* ring size, 0: 256 */
	bool indirect;		/* for the requests that the lib builds */
};

struct vt_dev {
	int fd;
	uint64_t features;
	bool indirect;
	bool only_these;
	unsigned int nr_queues;
	struct vt_mem mem;
	struct vt_queue q[VT_NR_QUEUES];
};

/*
 * Another back end than /dev/vhost-blk, which is set up by the same ioctls in another
 * form; for benchmarks. NULL: /dev/vhost-blk.
 */
struct vt_transport {
	int (*open)(void);	/* as open(): -1 and errno */
	int (*ioctl)(int fd, unsigned long cmd, void *arg, size_t size);
	int (*set_memory)(int fd, const struct vt_mem *mem);
};

extern const struct vt_transport *vt_transport;

/* ioctl() as -errno; @size is what @arg points to, for the 32-bit entry. */
int vt_ioctl(int fd, unsigned long cmd, void *arg, size_t size);
/* Let vt_ioctl enter the kernel as a 32-bit process would. */
int vt_ioctl_compat(void);

/* Open, own, negotiate, set memory and vrings; vt_attach starts it. */
int vt_dev_init(struct vt_dev *dev, const struct vt_opts *opts);
void vt_dev_fini(struct vt_dev *dev);
/* The first part of vt_dev_init, without vrings: dev->mem and features are set. */
int vt_dev_open(struct vt_dev *dev);
int vt_attach(struct vt_dev *dev, int bdev_fd);
int vt_detach(struct vt_dev *dev);
/* Hand the rings of queue @i to the device, its base included. */
int vt_vring_set(struct vt_dev *dev, unsigned int i, uint16_t base);
int vt_vring_base(struct vt_dev *dev, unsigned int i);
/* Empty rings for a detached queue, as a driver's reset would give it, from @base. */
int vt_vring_reset(struct vt_dev *dev, unsigned int i, uint16_t base);
int vt_vring_fd(struct vt_dev *dev, unsigned long cmd, unsigned int i, int fd);
int vt_query(int fd, int bdev_fd, struct vhost_blk_query *query);

/* Newer than the headers that this may be built with. */
#ifndef VHOST_NEW_WORKER
struct vhost_worker_state {
	unsigned int worker_id;
};

struct vhost_vring_worker {
	unsigned int index;
	unsigned int worker_id;
};

#define VHOST_NEW_WORKER		_IOR(VHOST_VIRTIO, 0x8, struct vhost_worker_state)
#define VHOST_FREE_WORKER		_IOW(VHOST_VIRTIO, 0x9, struct vhost_worker_state)
#define VHOST_ATTACH_VRING_WORKER	_IOW(VHOST_VIRTIO, 0x15, struct vhost_vring_worker)
#define VHOST_GET_VRING_WORKER		_IOWR(VHOST_VIRTIO, 0x16, struct vhost_vring_worker)
#endif

/* A worker more (Linux 6.5 and later). Returns its id, or -errno. */
int vt_worker_new(const struct vt_dev *dev);
/* Let worker @id serve queue @i from now on. */
int vt_worker_attach(const struct vt_dev *dev, unsigned int i, unsigned int id);

/* ---- the log of writes to guest memory (log.c) ---- */

#define VT_LOG_PAGE	4096U	/* what a bit stands for, whatever the host's page size */

struct vt_log {
	struct vt_dev *dev;
	uint8_t *bits;		/* from guest physical address 0 on */
	size_t bytes;
};

int vt_log_init(struct vt_log *log, struct vt_dev *dev);
void vt_log_fini(struct vt_log *log);
/* Empty it and tell the device, as a VMM does: base, feature, used rings. */
int vt_log_start(struct vt_log *log);
int vt_log_stop(struct vt_log *log);
/* Parts of the two above. */
int vt_log_base(struct vt_dev *dev, const void *bits);
int vt_log_features(struct vt_dev *dev, bool on);
int vt_log_used(struct vt_dev *dev, bool on);
void vt_log_clear(struct vt_log *log);
/* Is the page with @gpa marked? */
bool vt_log_has(const struct vt_log *log, uint64_t gpa);
/* How many of a range's pages are, and how many in all. */
unsigned int vt_log_count(const struct vt_log *log, uint64_t gpa, uint64_t bytes);
unsigned int vt_log_count_all(const struct vt_log *log);

/* ---- an IOMMU between driver and device (iotlb.c) ---- */

/*
 * With VIRTIO_F_ACCESS_PLATFORM acked, what this library calls a guest physical
 * address is one that the driver uses on the bus (an IOVA); the device is told
 * that memory lies this much higher, and how to translate.
 */
#define VT_IOTLB_SHIFT	0x10000000ULL
#define VT_IOTLB_MAPS	64

struct vt_iotlb_map {
	uint64_t iova, size;
	void *to;		/* the device's address */
	uint8_t perm;		/* VHOST_ACCESS_* */
};

struct vt_iotlb {
	struct vt_dev *dev;
	uint64_t piece;		/* most that an answer maps; a power of 2 */
	bool mute;		/* do not answer */
	struct vt_iotlb_map map[VT_IOTLB_MAPS];	/* before the regions */
	unsigned int nr_maps;
	/* results */
	unsigned int nr_misses;
	uint64_t last_miss;
	int error;
	/* private */
	pthread_t thread;
	int stop;
};

/* Give @dev's memory and rings their addresses and answer its misses from now on. */
int vt_iotlb_start(struct vt_iotlb *iotlb, struct vt_dev *dev);
void vt_iotlb_stop(struct vt_iotlb *iotlb);
int vt_iotlb_send(struct vt_dev *dev, uint8_t type, const struct vt_iotlb_map *map);
/* Translate what the rings of @dev need, before it is attached. */
int vt_iotlb_prefetch(struct vt_iotlb *iotlb);
/* Answer what is asked for @iova. */
int vt_iotlb_answer(struct vt_iotlb *iotlb, uint64_t iova);
/* Wait until there were more than @nr misses. */
int vt_iotlb_miss_wait(const struct vt_iotlb *iotlb, unsigned int nr);

/* ---- requests (req.c) ---- */

struct vt_req {
	uint32_t type;
	uint64_t sector;
	uint64_t data;		/* guest physical */
	uint32_t len;		/* bytes */
	uint32_t seg_bytes;	/* cut the data in segments of this; 0: one */
	uint32_t ioprio;
	/* results */
	bool done;
	uint16_t head;
	uint8_t status;
	uint32_t used_len;
};

#define VT_STATUS_NONE	0xaa	/* what a status byte holds before the device writes it */

/* Where the header (16 bytes) and the status byte of @head are. */
uint64_t vt_hdr_gpa(const struct vt_queue *q, uint16_t head);
uint64_t vt_status_gpa(const struct vt_queue *q, uint16_t head);
void vt_hdr_write(struct vt_mem *mem, uint64_t gpa, uint32_t type, uint64_t sector);
uint8_t vt_status_read(struct vt_mem *mem, uint64_t gpa);
/* Write header and descriptors of @req into the ring, unpublished. */
int vt_req_add(struct vt_queue *q, struct vt_req *req);
int vt_req_submit(struct vt_queue *q, struct vt_req *req);
/* Wait until @req is done; others may finish meanwhile. */
int vt_req_wait(struct vt_queue *q, struct vt_req *req);
int vt_req_run(struct vt_queue *q, struct vt_req *req);
/*
 * Run one request. Returns its status byte, or -errno; -EBADMSG when used.len
 * is not what the type and status call for.
 */
int vt_io(struct vt_queue *q, uint32_t type, uint64_t sector, uint64_t gpa, uint32_t len);
/* Write range number @i of a DISCARD, WRITE_ZEROES or SECURE_ERASE whose payload is at @gpa. */
#define VT_RANGE_BYTES	16U
#define VT_RANGES_MAX	64U	/* in one request */

void vt_range_write(struct vt_mem *mem, uint64_t gpa, unsigned int i, uint64_t sector,
		    uint32_t nr_sectors, uint32_t flags);
/* A chain written descriptor by descriptor: vt_out is device-readable, vt_in writable. */
#define VT_CHAIN_MAX	1200

struct vt_chain {
	unsigned int n;
	struct vt_seg seg[VT_CHAIN_MAX];
};

void vt_out(struct vt_chain *c, uint64_t gpa, uint32_t len);
void vt_in(struct vt_chain *c, uint64_t gpa, uint32_t len);
/* Submit, wait, empty @c for the next use. Returns used.len, or -errno. */
int vt_chain_run(struct vt_queue *q, struct vt_chain *c, bool indirect);

/* Write and read back 4 KiB on queue @q: 0, or -errno. */
int vt_good(struct vt_queue *q);

/* ---- data patterns (req.c) ---- */

/* Every sector of a pattern names its seed, number and word. */
void vt_fill(void *buf, size_t len, uint64_t seed, uint64_t sector);
/* Offset of the first byte that differs, or -1. */
ssize_t vt_check(const void *buf, size_t len, uint64_t seed, uint64_t sector);
ssize_t vt_check_byte(const void *buf, size_t len, uint8_t byte);

/* ---- backing devices (backend.c) ---- */

struct vt_bdev {
	int fd;			/* O_RDWR */
	char name[32];		/* as in /sys/block */
	char path[64];
	uint64_t bytes;
	uint32_t lbs;		/* logical block size, bytes */
	int kind;
	char dm[32];
};

struct vt_null_opts {
	unsigned long mib;	/* 0: 64 */
	unsigned int lbs;	/* 0: 512 */
	unsigned int cache_mib;	/* volatile write cache, 0: none */
	unsigned long delay_ns;	/* time a request takes, 0: none */
	unsigned int nr_queues;	/* 0: 1 */
	unsigned int depth;	/* requests it takes at once per queue, 0: 64 */
	bool volatile_data;	/* do not keep what is written */
	bool discard;		/* takes discards, and reads zeroes after them */
	bool zoned;		/* -EOPNOTSUPP: not in this kernel */
};

/* Write to an attribute of the null_blk disk @name. */
int vt_null_attr(const char *name, const char *attr, const char *value);
/* null_blk with the given name, which must not be in use by another program. */
int vt_null_create(struct vt_bdev *bdev, const char *name, const struct vt_null_opts *opts);
/* Power off and on: what was only in its write cache is lost. */
int vt_null_power_cycle(struct vt_bdev *bdev);
/* A loop device over the file @fd; flags: LO_FLAGS_*. */
int vt_loop_over(struct vt_bdev *bdev, int fd, unsigned int lbs, uint32_t flags);
/* A loop device over @bytes of memory. */
int vt_loop_create(struct vt_bdev *bdev, uint64_t bytes, unsigned int lbs);
/* A loop device with nothing behind it: capacity 0. */
int vt_loop_unbound(struct vt_bdev *bdev);
int vt_scsi_debug_create(struct vt_bdev *bdev, unsigned int mib, unsigned int lbs);
/* With the module's parameters. -ENODEV: this kernel has no scsi_debug. */
int vt_scsi_debug_create_args(struct vt_bdev *bdev, const char *args);
/* Device mapper table in the form dmsetup takes. -ENOENT: no dmsetup here. */
int vt_dm_create(struct vt_bdev *bdev, const char *name, const char *table);
/* Load a new table into it: waits for I/O in flight. */
int vt_dm_reload(struct vt_bdev *bdev, const char *table);
/* How long requests take, in milliseconds; discards as writes. */
struct vt_delay {
	unsigned int read, write, flush;
};

/* A dm-delay over all of @below. -ENODEV: not in this kernel; -ENOENT: no dmsetup here. */
int vt_delay_create(struct vt_bdev *bdev, const char *name, const struct vt_bdev *below,
		    struct vt_delay ms);
/* Also lets go at once what it holds. */
int vt_delay_set(struct vt_bdev *bdev, const struct vt_bdev *below, struct vt_delay ms);
int vt_dm_message(const struct vt_bdev *bdev, const char *message);
/* Keep what is submitted to it from going on; waits for I/O in flight unless @noflush. */
int vt_dm_suspend(struct vt_bdev *bdev, bool noflush);
int vt_dm_resume(struct vt_bdev *bdev);
/* A block device that is there and stays: nothing is destroyed with it. */
int vt_bdev_open(struct vt_bdev *bdev, const char *name);
void vt_bdev_destroy(struct vt_bdev *bdev);
/* Write @value into a file of the device's queue directory in sysfs. */
int vt_bdev_queue_set(const struct vt_bdev *bdev, const char *attr, const char *value);
/* Write @value into a file of sysfs or configfs. */
int vt_write_file(const char *path, const char *value);
int vt_read_long(const char *path, long *value);
/* Load a kernel module that may be built in. */
int vt_modprobe(const char *module, const char *args);
/* Requests that the block device has in flight. */
int vt_inflight(const struct vt_bdev *bdev);
/* Wait until they are at least @nr. */
int vt_inflight_wait(const struct vt_bdev *bdev, unsigned int nr);
/* 0 if nobody else holds the block device, else -EBUSY. */
int vt_exclusive(const struct vt_bdev *bdev);

/* ---- what users keep disks on (stack.c) ---- */

#define VT_STACK_LOWER	3

/* A disk and what it lies on. */
struct vt_stack {
	struct vt_bdev disk, lower[VT_STACK_LOWER];
	char lacks[64];		/* why there is none: -EOPNOTSUPP */
	/* private */
	const char *script;
	char file[32];
};

/*
 * A disk of 8 to 16 MiB: loop, loop_4k, brd, dm_linear, dm_crypt, dm_thin, md_raid1,
 * nvme_tcp, nvme_loop, lio_ram, lio_file, nbd. -EOPNOTSUPP: this
 * kernel has none. To be destroyed in any case.
 */
int vt_stack_create(struct vt_stack *s, const char *kind);
void vt_stack_destroy(struct vt_stack *s);
/* @nr SCSI disks of @mib each in memory, as vt_stack_create. */
int vt_luns_create(struct vt_bdev *lun, unsigned int nr, unsigned int mib);
void vt_luns_destroy(struct vt_bdev *lun, unsigned int nr);

/* ---- file systems and image files (image.c) ---- */

struct vt_fs {
	char dir[40];		/* where it is mounted */
	char lacks[64];		/* why there is none: -EOPNOTSUPP */
	/* private */
	char type[8], disk[64];
	bool mounted;
};

/*
 * A new file system, mounted: ext4, xfs or btrfs on @disk, of 128 MiB at least, or
 * tmpfs (128 MiB). -EOPNOTSUPP: this kernel has none. To be destroyed in any case.
 */
int vt_fs_create(struct vt_fs *fs, const char *type, const struct vt_bdev *disk);
int vt_fs_mount(struct vt_fs *fs);
/* -EBUSY: somebody has a file open. */
int vt_fs_umount(struct vt_fs *fs);
/* Make it anew, empty; a kind that has a disk. */
int vt_fs_renew(struct vt_fs *fs);
int vt_fs_destroy(struct vt_fs *fs);
/* Write nothing any more: a power cut as the disk sees it. -EOPNOTSUPP: it cannot. */
int vt_fs_shutdown(const struct vt_fs *fs);
/* A file that takes all there is. Returns its fd. */
int vt_fs_fill(const struct vt_fs *fs, const char *name);
int vt_image_open(const struct vt_fs *fs, const char *name, int flags);
/* A new sparse file, open for reading and writing. Returns its fd. */
int vt_image_create(const struct vt_fs *fs, const char *name, int flags, uint64_t bytes);
int vt_image_remove(const struct vt_fs *fs, const char *name);
/* What it has allocated, in units of 512 bytes. */
long vt_image_blocks(int fd);

/* ---- verified load (load.c) ---- */

struct vt_load_slot;

struct vt_load {
	/* what the caller says; vt_load_spread fills in the first lines */
	struct vt_queue *q;	/* nobody else uses it meanwhile */
	uint64_t sector;	/* nobody else writes to this part of the disk */
	uint32_t nr_sectors;
	uint32_t lbs;		/* 0: 512 */
	uint64_t random;	/* seed, 0: from the queue */
	uint32_t max_bytes;	/* of a request, 0: 64 KiB */
	unsigned int depth;	/* requests at once, 0: 8 */
	bool aligned;		/* nothing to bounce */
	bool may_fail;		/* IOERR is an answer, too; OK still means right data */
	/* results */
	uint64_t nr_done, nr_failed;
	int error;		/* the first one */
	char what[120];		/* and what it was */
	/* private */
	pthread_t thread;
	struct vt_load_slot *slot;
	uint16_t *gen, last_gen;
	uint8_t *sector_busy;
	bool stop, swept;
};

/* @n loads over the queues of @dev, each with a part of @disk. */
void vt_load_spread(struct vt_load *load, unsigned int n, struct vt_dev *dev,
		    const struct vt_bdev *disk);
/* Go on from where it was stopped, if it was. */
int vt_load_start(struct vt_load *load);
/* Wait until @nr more requests have ended well. */
int vt_load_more(struct vt_load *load, unsigned int nr);
/* Let what is in flight end, read everything back. Returns the first error. */
int vt_load_stop(struct vt_load *load);
/* Stopped: compare its part of the disk as the host reads it from @fd. */
int vt_load_compare(struct vt_load *load, int fd);
void vt_load_free(struct vt_load *load);

/* ---- control groups (cgroup.c) ---- */

/* Below the root of the version 2 hierarchy, with @controller: "io" or "memory". */
int vt_cgroup_create(const char *name, const char *controller);
/* Also how a process enters: file cgroup.procs, value 0. */
int vt_cgroup_set(const char *name, const char *file, const char *value);
/* The number that follows the first @key in @file; -ENODATA: no such key. */
int vt_cgroup_get(const char *name, const char *file, const char *key, long *value);
int vt_cgroup_remove(const char *name);

/* ---- what reaches a block device (trace.c) ---- */

struct vt_trace {
	char dir[96];
};

struct vt_trace_count {
	unsigned int reads, writes, fua_writes, flushes;
	unsigned int discards, zeroes;	/* requests to unmap, and to write zeroes */
	unsigned int first_flush, last_write;	/* position, from 1; 0: none */
};

/* Record the bios that are queued to @bdev. -ENOENT: no tracefs. */
int vt_trace_start(struct vt_trace *trace, const struct vt_bdev *bdev);
int vt_trace_read(struct vt_trace *trace, struct vt_trace_count *count);
void vt_trace_stop(struct vt_trace *trace);

/* ---- a disk that fails as it is told (errdisk.c) ---- */

/* Reads and writes that start in here fail with @err; -EIO and the like, 0: none. */
struct vt_err_range {
	uint64_t from, to;	/* bytes */
	int err;
};

#define VT_NR_ERR_RANGES	2

struct vt_errdisk {
	volatile struct vt_err_range *range;	/* VT_NR_ERR_RANGES of them */
	pid_t server;
	char dir[64];
};

/* A loop device over a file of a FUSE server. -ENOENT: no FUSE in this kernel. */
int vt_errdisk_create(struct vt_errdisk *disk, struct vt_bdev *bdev, uint64_t bytes);
/* After vt_bdev_destroy of the loop device. */
void vt_errdisk_destroy(struct vt_errdisk *disk);

/* ---- disks with rare properties (testdisk.c) ---- */

/* What disk/vt_disk.c, whose disks they are, is made with. */
#define VT_ERASED		0xe5	/* what bytes of vtdsecure hold that were erased */
#define VT_ERASE_SECTORS_MAX	100U	/* most that it erases at once */
#define VT_ERASE_GRANULARITY	16U	/* sectors */

/* vtdsecure, vtdonesegment or vtdlate, 4 MiB each; loads $VHOST_BLK_TEST_DISK if need be. */
int vt_test_disk_open(struct vt_bdev *bdev, const char *name);
/* -EWOULDBLOCK: somebody uses a disk of it. */
int vt_test_disk_unload(void);
/* What vtdsecure did since it was loaded: erase_bios or erased_sectors. */
long vt_test_disk_count(const char *what);

/* ---- what happens in the kernel (event.c) ---- */

struct vt_event {
	char name[64], dir[96];
};

/* Record a trace event, named as in block/block_rq_requeue, or all of block. -ENOENT: none here. */
int vt_event_start(struct vt_event *event, const char *name);
/* Count the calls of a function, named as in module:function. */
int vt_event_start_call(struct vt_event *event, const char *function);
int vt_event_count_all(const struct vt_event *event);
/* How many have @text in their line; the last of them goes to @line, if there is one. */
int vt_event_find(const struct vt_event *event, const char *text, char *line, size_t size);
void vt_event_stop(struct vt_event *event);

/* ---- injected faults (fault.c) ---- */

/* Make all kinds of faults possible. Not 0: this kernel has no fault injection. */
int vt_fault_init(void);
/* One knob of one kind, for instance fail_make_request, probability. */
int vt_fault_set(const char *kind, const char *attr, const char *value);
/* The thread @tid's countdown, for the two below. */
int vt_fault_open(int tid);
/* From now on the @nth place in this thread where something can fail does; 0: none. */
int vt_fault_arm(int fd, unsigned int nth);
/* No more faults. How many places were left: 0 if it did fail; or -errno. */
int vt_fault_disarm(int fd);
/* Thread id of the worker of this process's device; a kernel thread. */
int vt_worker_tid(void);
/*
 * How many objects are lost, and what they are; takes six seconds. Or -errno, -ENOENT:
 * this kernel has no kmemleak. Nothing is forgotten: the runner counts once more.
 */
int vt_kmemleak_count(char *report, size_t size);

#endif /* VT_H */
