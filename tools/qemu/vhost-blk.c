/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * vhost-blk-pci: virtio-blk whose requests the host kernel serves
 *
 * The device is virtio-blk with a second engine.  Properties, config space,
 * reset, migration state and the engine in QEMU are the parent's.  Once the
 * guest's driver is ready and the drive is plain raw on a host block device or
 * file, the virtqueues are handed to /dev/vhost-blk, and taken back when QEMU
 * needs the drive itself.
 *
 *   OFF     the parent's ioeventfd is stopped: no driver, or VM not running
 *   QEMU    the parent serves the virtqueues
 *   VHOST   the kernel serves them
 *   PAUSED  the kernel owns them but serves none (drained section)
 *
 *   OFF -> QEMU -> VHOST <-> PAUSED -> QEMU, and any state -> OFF
 *
 * A block job, a snapshot, throttling, a format, a dirty bitmap or a migration
 * needs QEMU's engine; so does a request that fails in the kernel where rerror
 * or werror say more than "report": the kernel leaves it in its virtqueue, and
 * QEMU's engine tries it again and does what the policy says.
 *
 * Only vhost_blk_settle(), in the main loop, decides where to go; the drain
 * callbacks at most pause the kernel, because they may run in an iothread.
 * The state is protected by the AioContext lock of the drive, or by the BQL
 * alone in a QEMU that has no such lock.
 *
 * Built into QEMU, or as a shared object for a stock QEMU (VHOST_BLK_PLUGIN).
 */

#include "qemu/osdep.h"
#include <sys/ioctl.h>
#include <linux/falloc.h>
#include <linux/vhost.h>
#include <linux/vhost_blk.h>
#include "qapi/error.h"
#include "qemu/ctype.h"
#include "qemu/cutils.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "qemu/timer.h"
#include "qemu/units.h"
#include "block/aio-wait.h"
#include "block/block_int.h"
#include "block/dirty-bitmap.h"
#include "block/write-threshold.h"
#include "hw/qdev-properties.h"
#include "hw/virtio/vhost.h"
#include "hw/virtio/virtio-access.h"
#include "hw/virtio/virtio-blk.h"
#include "hw/virtio/virtio-bus.h"
#include "hw/virtio/virtio-pci.h"
#include "migration/misc.h"
#include "monitor/monitor.h"
#include "qapi/visitor.h"

/* Not "vhost-blk-device": a machine compat property sets a default on that. */
#define TYPE_VHOST_BLK "vhost-blk"
OBJECT_DECLARE_TYPE(VHostBlk, VHostBlkClass, VHOST_BLK)

#define VHOST_BLK_NODE "/dev/vhost-blk"

/*
 * Throttling and dirty bitmaps are switched on without a drained section, and
 * off, so no callback tells.  Nor does one tell when QEMU's engine is done with
 * a request that had failed, or when a host device has grown.  Look this often.
 */
#define VHOST_BLK_POLL_MS 250

/* The kernel takes what is more as this. */
#define VHOST_BLK_POLL_US_MAX 1000

/* ---- what differs between QEMU 7.2 and 10.0 ---- */

#if QEMU_VERSION_MAJOR < 10

#include "sysemu/runstate.h"

typedef Notifier VHostBlkNotifier;
typedef Property VHostBlkProperty;
#define VHOST_BLK_END_OF_PROPERTIES DEFINE_PROP_END_OF_LIST()

/* The block layer itself keeps the handlers quiet in a drained section. */
static const bool vhost_blk_quiets_handlers;

static bool vhost_blk_may_attach(VirtIOBlock *s)
{
    return true;
}

static AioContext *vhost_blk_lock(VirtIOBlock *s)
{
    AioContext *ctx = blk_get_aio_context(s->blk);

    aio_context_acquire(ctx);
    return ctx;
}

static void vhost_blk_unlock(AioContext *ctx)
{
    aio_context_release(ctx);
}

static bool vhost_blk_ioeventfd_failed(VirtIOBlock *s)
{
    return s->dataplane_disabled;
}

/* Where QEMU's engine serves virtqueue @index. */
static AioContext *vhost_blk_vq_ctx(VirtIOBlock *s, unsigned index)
{
    return s->conf.iothread ? iothread_get_aio_context(s->conf.iothread)
                            : qemu_get_aio_context();
}

static void vhost_blk_migration_changed(VHostBlkNotifier *n, bool migrating);

static void vhost_blk_migration_notify(Notifier *n, void *data)
{
    if (migration_in_setup(data)) {
        vhost_blk_migration_changed(n, true);
    } else if (migration_has_finished(data) || migration_has_failed(data)) {
        vhost_blk_migration_changed(n, false);
    }
}

static void vhost_blk_watch_migration(VHostBlkNotifier *n)
{
    n->notify = vhost_blk_migration_notify;
    add_migration_state_change_notifier(n);
}

static void vhost_blk_unwatch_migration(VHostBlkNotifier *n)
{
    remove_migration_state_change_notifier(n);
}

#else

#include "system/runstate.h"

typedef NotifierWithReturn VHostBlkNotifier;
typedef const Property VHostBlkProperty;
#define VHOST_BLK_END_OF_PROPERTIES

/* That is the device's task. */
static const bool vhost_blk_quiets_handlers = true;

static bool vhost_blk_may_attach(VirtIOBlock *s)
{
    return !blk_in_drain(s->blk);
}

static AioContext *vhost_blk_lock(VirtIOBlock *s)
{
    return NULL;
}

static void vhost_blk_unlock(AioContext *ctx)
{
}

static bool vhost_blk_ioeventfd_failed(VirtIOBlock *s)
{
    return s->ioeventfd_disabled;
}

/* Where QEMU's engine serves virtqueue @index. */
static AioContext *vhost_blk_vq_ctx(VirtIOBlock *s, unsigned index)
{
    return s->vq_aio_context[index];
}

static void vhost_blk_migration_changed(VHostBlkNotifier *n, bool migrating);

static int vhost_blk_migration_notify(NotifierWithReturn *n, MigrationEvent *e,
                                      Error **errp)
{
    vhost_blk_migration_changed(n, e->type == MIG_EVENT_PRECOPY_SETUP);
    return 0;
}

static void vhost_blk_watch_migration(VHostBlkNotifier *n)
{
    migration_add_notifier(n, vhost_blk_migration_notify);
}

static void vhost_blk_unwatch_migration(VHostBlkNotifier *n)
{
    migration_remove_notifier(n);
}

#endif

/* ---- the device ---- */

typedef enum VHostBlkState {
    VHOST_BLK_OFF,
    VHOST_BLK_QEMU,
    VHOST_BLK_VHOST,
    VHOST_BLK_PAUSED,
} VHostBlkState;

static const char *const vhost_blk_state_name[] = {
    [VHOST_BLK_OFF] = "off",
    [VHOST_BLK_QEMU] = "qemu",
    [VHOST_BLK_VHOST] = "vhost",
    [VHOST_BLK_PAUSED] = "paused",
};

struct VHostBlk {
    VirtIOBlock parent_obj;
    OnOffAuto vhost;         /* property: is /dev/vhost-blk to be used? */
    char *vhostfd;           /* property: a number, or a monitor fd's name */
    uint32_t poll_us;        /* property: how long the kernel may poll a queue */
    Error *no_vhost;         /* why there is no vhost_dev; NULL: there is one */
    struct vhost_dev dev;
    struct vhost_virtqueue *vqs;
    struct vhost_blk_stats stats; /* what of the kernel's is accounted for */
    uint64_t changes;        /* of the engine */
    VHostBlkState state;
    int disk_fd;             /* what the kernel serves, while it owns the vqs */
    bool disk_unmaps;        /* the kernel can discard on it */
    uint32_t kernel_vqs;     /* bit by index: virtqueues it was told of */
    bool settling;           /* vhost_blk_settle() is on the stack */
    bool refused;            /* the kernel did not take it; no use to poll */
    bool migrating;          /* QEMU's engine logs what it writes to memory */
    QEMUBH *bh;
    QEMUTimer *poll;
    char *reason;            /* why QEMU serves */
    VHostBlkNotifier migration;
};

struct VHostBlkClass {
    VirtioDeviceClass parent_class;
    DeviceRealize parent_realize;
    DeviceUnrealize parent_unrealize;
    void (*parent_set_config)(VirtIODevice *vdev, const uint8_t *config);
    void (*parent_set_status)(VirtIODevice *vdev, uint8_t status);
    int (*parent_start_ioeventfd)(VirtIODevice *vdev);
    void (*parent_stop_ioeventfd)(VirtIODevice *vdev);
    void (*parent_queue_reset)(VirtIODevice *vdev, uint32_t index);
    void (*parent_queue_enable)(VirtIODevice *vdev, uint32_t index);
};

/* ---- features ---- */

/* Newer than the headers of QEMU 7.2. */
#ifndef VIRTIO_BLK_F_SECURE_ERASE
#define VIRTIO_BLK_F_SECURE_ERASE 16
#endif
#ifndef VIRTIO_BLK_F_ZONED
#define VIRTIO_BLK_F_ZONED 17
#endif
#ifndef VIRTIO_F_NOTIFICATION_DATA
#define VIRTIO_F_NOTIFICATION_DATA 38
#endif

/*
 * Bits that change what a request or a ring may look like.  The guest is offered
 * what QEMU's engine can do; one that the kernel lacks and the guest uses keeps
 * the drive in QEMU.  RING_RESET is not among them, a reset needs no kernel.
 */
static const int vhost_blk_engine_bits[] = {
    VIRTIO_BLK_F_BARRIER,
    VIRTIO_BLK_F_SCSI,
    VIRTIO_BLK_F_FLUSH,
    VIRTIO_BLK_F_CONFIG_WCE,
    VIRTIO_BLK_F_DISCARD,
    VIRTIO_BLK_F_WRITE_ZEROES,
    VIRTIO_BLK_F_SECURE_ERASE,
    VIRTIO_BLK_F_ZONED,
    VIRTIO_F_NOTIFY_ON_EMPTY,
    VIRTIO_F_ANY_LAYOUT,
    VIRTIO_RING_F_INDIRECT_DESC,
    VIRTIO_RING_F_EVENT_IDX,
    VIRTIO_F_VERSION_1,
    VIRTIO_F_RING_PACKED,
    VIRTIO_F_IN_ORDER,
    VIRTIO_F_ORDER_PLATFORM,
    VIRTIO_F_SR_IOV,
    VIRTIO_F_NOTIFICATION_DATA,
    VHOST_INVALID_FEATURE_BIT
};

/* What the guest acknowledged and the kernel has to know of. */
static uint64_t vhost_blk_acked_features(VHostBlk *v)
{
    return VIRTIO_DEVICE(v)->guest_features & v->dev.features &
           ~(1ULL << VHOST_F_LOG_ALL | 1ULL << VIRTIO_F_ACCESS_PLATFORM);
}

/* Engine bits that the guest acknowledged and the kernel does not have. */
static uint64_t vhost_blk_missing_features(VHostBlk *v)
{
    uint64_t acked = VIRTIO_DEVICE(v)->guest_features;

    /* Legacy drivers are always offered it; with scsi=off both refuse them. */
    if (!virtio_has_feature(VIRTIO_BLK(v)->host_features, VIRTIO_BLK_F_SCSI)) {
        acked &= ~(1ULL << VIRTIO_BLK_F_SCSI);
    }
    return acked & ~vhost_get_features(&v->dev, vhost_blk_engine_bits, acked);
}

/* ---- can the kernel serve the drive? ---- */

/*
 * Return the node of the host block device or file that the drive is, byte for
 * byte, with nothing in between that a request would miss; NULL and @errp if
 * not.
 */
static BlockDriverState *vhost_blk_host_node(BlockBackend *blk, Error **errp)
{
    BlockDriverState *bs = blk_bs(blk), *host = bs;
    const char *fmt;

    if (!bs) {
        error_setg(errp, "the drive has no medium");
        return NULL;
    }
    if (!g_strcmp0(bdrv_get_format_name(bs), "raw") && bs->file) {
        host = bs->file->bs;
    }
    fmt = bdrv_get_format_name(host);
    if (g_strcmp0(fmt, "host_device") && g_strcmp0(fmt, "file")) {
        error_setg(errp, "it is not a raw image on a host block device or in a "
                   "file (driver '%s')", fmt ?: "none");
        return NULL;
    }
    if ((bs->open_flags | host->open_flags) & BDRV_O_INACTIVE) {
        error_setg(errp, "it belongs to another QEMU (inactive)");
        return NULL;
    }
    if (!(host->open_flags & BDRV_O_NOCACHE)) {
        error_setg(errp, "it goes through the host's page cache (use "
                   "cache=none or cache.direct=on)");
        return NULL;
    }
    if (bdrv_getlength(bs) != bdrv_getlength(host)) {
        error_setg(errp, "it is only a part of the host block device or file "
                   "(offset or size option)");
        return NULL;
    }
    return host;
}

/* Does this node do something to requests, or keep books about them? */
static bool vhost_blk_node_is_passive(BlockDriverState *bs, Error **errp)
{
    if (qatomic_read(&bs->copy_on_read) ||
        bs->detect_zeroes != BLOCKDEV_DETECT_ZEROES_OPTIONS_OFF) {
        error_setg(errp, "copy-on-read or detect-zeroes is on");
        return false;
    }
    if (bdrv_write_threshold_get(bs) || bdrv_dirty_bitmap_first(bs)) {
        error_setg(errp, "it has a dirty bitmap or a write threshold");
        return false;
    }
    return true;
}

static BlockDriverState *vhost_blk_plain(VHostBlk *v, Error **errp)
{
    VirtIOBlock *s = VIRTIO_BLK(v);
    BlockDriverState *host;
    uint64_t missing;

    if (v->no_vhost) {
        error_propagate(errp, error_copy(v->no_vhost));
        return NULL;
    }
    if (v->migrating) {
        error_setg(errp, "the virtual machine is being migrated");
        return NULL;
    }
    if (migration_in_incoming_postcopy()) {
        error_setg(errp, "pages of the virtual machine are still to come");
        return NULL;
    }
    missing = vhost_blk_missing_features(v);
    host = vhost_blk_host_node(s->blk, errp);
    if (!host || !vhost_blk_node_is_passive(host, errp) ||
        !vhost_blk_node_is_passive(blk_bs(s->blk), errp)) {
        return NULL;
    }
    if (blk_get_public(s->blk)->throttle_group_member.throttle_state) {
        error_setg(errp, "it is throttled");
        return NULL;
    }
    if (!virtio_device_ioeventfd_enabled(VIRTIO_DEVICE(v))) {
        error_setg(errp, "ioeventfd is off");
        return NULL;
    }
    if (virtio_host_has_feature(VIRTIO_DEVICE(v), VIRTIO_F_ACCESS_PLATFORM)) {
        error_setg(errp, "iommu_platform is on");
        return NULL;
    }
    if (missing) {
        error_setg(errp, "the guest uses features that " VHOST_BLK_NODE
                   " lacks (0x%" PRIx64 ")", missing);
        return NULL;
    }
    return host;
}

/*
 * Remember why QEMU serves the drive.  Say so, once for each reason, unless the
 * kernel has served it: then it is what somebody has just asked for.
 */
static void vhost_blk_explain(VHostBlk *v, Error *err)
{
    BlockDriverState *bs = blk_bs(VIRTIO_BLK(v)->blk);

    if (g_strcmp0(v->reason, error_get_pretty(err))) {
        g_free(v->reason);
        v->reason = g_strdup(error_get_pretty(err));
        if (!v->changes && v->vhost != ON_OFF_AUTO_OFF) {
            warn_reportf_err(err, "vhost-blk-pci: QEMU itself serves drive "
                             "'%s', not the kernel: ",
                             bs ? bdrv_get_device_or_node_name(bs) : "");
            return;
        }
    }
    error_free(err);
}

/* ---- the host block device or file ---- */

/*
 * Does the file system free what is discarded?  Of one that cannot, the kernel
 * knows only when it is asked to, and then the guest would see a discard fail,
 * which QEMU just ignores.  There is nothing to free behind the end of a file.
 */
static bool vhost_blk_file_unmaps(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 &&
           (!S_ISREG(st.st_mode) ||
            fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                      QEMU_ALIGN_UP(st.st_size, MiB) + MiB, MiB) == 0 ||
            errno != EOPNOTSUPP);
}

/* The kernel is the authority on what it can serve. */
static bool vhost_blk_query(VHostBlk *v, int disk_fd, Error **errp)
{
    VirtIOBlock *s = VIRTIO_BLK(v);
    struct vhost_blk_query query = { .fd = disk_fd };
    struct virtio_blk_config have, want;

    if (ioctl((uintptr_t)v->dev.opaque, VHOST_BLK_QUERY_BACKEND, &query)) {
        error_setg_errno(errp, errno, VHOST_BLK_NODE " does not serve it");
        return false;
    }
    memcpy(&have, query.config, sizeof(have));
    memset(&want, 0, sizeof(want));
    VIRTIO_DEVICE_GET_CLASS(v)->get_config(VIRTIO_DEVICE(v), (void *)&want);
    if (le64_to_cpu(have.capacity) << BDRV_SECTOR_BITS !=
        blk_getlength(s->blk)) {
        error_setg(errp, "its size in QEMU is not that of the host block "
                   "device or file");
        return false;
    }
    if (le32_to_cpu(have.blk_size) > s->conf.conf.logical_block_size) {
        error_setg(errp, "the host block device or file needs "
                   "logical_block_size=%u", le32_to_cpu(have.blk_size));
        return false;
    }
    if (le32_to_cpu(have.seg_max) < virtio_ldl_p(VIRTIO_DEVICE(v),
                                                 &want.seg_max)) {
        error_setg(errp, "queue-size=%u allows requests of more than %u "
                   "segments", s->conf.queue_size, le32_to_cpu(have.seg_max));
        return false;
    }
    v->disk_unmaps = virtio_has_feature(query.features, VIRTIO_BLK_F_DISCARD) &&
                     vhost_blk_file_unmaps(disk_fd);
    return true;
}

static bool vhost_blk_is_same(const struct stat *a, const struct stat *b)
{
    if (S_ISBLK(a->st_mode)) {
        return S_ISBLK(b->st_mode) && a->st_rdev == b->st_rdev;
    }
    return S_ISREG(a->st_mode) && S_ISREG(b->st_mode) &&
           a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/*
 * Is @fd open on what @host is?  Nothing else must ever be written to.  The
 * node's own fd is the first member of block/file-posix.c's state; if it were
 * not, this would fail and QEMU would keep the drive.
 */
static bool vhost_blk_is_disk(int fd, BlockDriverState *host, Error **errp)
{
    struct stat ours, nodes;

    if (fstat(fd, &ours) || fstat(*(int *)host->opaque, &nodes) ||
        !vhost_blk_is_same(&ours, &nodes)) {
        error_setg(errp, "'%s' is another device or file than before",
                   host->filename);
        return false;
    }
    return true;
}

/*
 * Open what is behind @host a second time: the node keeps its fd private.
 * The path may lead elsewhere by now.
 */
static int vhost_blk_open_disk(VHostBlk *v, BlockDriverState *host,
                               Error **errp)
{
    int mode = blk_is_writable(VIRTIO_BLK(v)->blk) ? O_RDWR : O_RDONLY;
    int fd = qemu_open(host->filename, mode | O_DIRECT, errp);

    if (fd < 0) {
        return -1;
    }
    if (vhost_blk_is_disk(fd, host, errp) && vhost_blk_query(v, fd, errp)) {
        return fd;
    }
    qemu_close(fd);
    return -1;
}

/*
 * Where QEMU ignores discards the kernel must do so, too: because the user did
 * not ask for them (discard=ignore), or because the disk has none.
 */
static uint32_t vhost_blk_backend_flags(VHostBlk *v, BlockDriverState *host)
{
    int flags = blk_bs(VIRTIO_BLK(v)->blk)->open_flags & host->open_flags;

    return v->disk_unmaps && (flags & BDRV_O_UNMAP) ?
           0 : VHOST_BLK_BACKEND_NO_UNMAP;
}

/* Which requests that fail the kernel is to leave to QEMU (rerror, werror). */
static uint32_t vhost_blk_error_flags(VHostBlk *v)
{
    BlockBackend *blk = VIRTIO_BLK(v)->blk;
    uint32_t flags = 0;

    if (blk_get_on_error(blk, true) != BLOCKDEV_ON_ERROR_REPORT) {
        flags |= VHOST_BLK_BACKEND_STOP_ON_READ_ERROR;
    }
    switch (blk_get_on_error(blk, false)) {
    case BLOCKDEV_ON_ERROR_REPORT:
        break;
    case BLOCKDEV_ON_ERROR_ENOSPC:
        flags |= VHOST_BLK_BACKEND_STOP_ON_ENOSPC;
        break;
    default:
        flags |= VHOST_BLK_BACKEND_STOP_ON_WRITE_ERROR;
        break;
    }
    return flags;
}

/* Whether writes have to be stable is in QEMU's hands, and the guest's. */
static int vhost_blk_set_wce(VHostBlk *v)
{
    uint32_t wce = blk_enable_write_cache(VIRTIO_BLK(v)->blk);

    if (ioctl((uintptr_t)v->dev.opaque, VHOST_BLK_SET_WCE, &wce)) {
        return -errno;
    }
    return 0;
}

static int vhost_blk_set_backend(VHostBlk *v, int disk_fd, uint32_t flags)
{
    struct vhost_blk_backend backend = { .fd = disk_fd, .flags = flags };

    if (ioctl((uintptr_t)v->dev.opaque, VHOST_BLK_SET_BACKEND, &backend)) {
        return -errno;
    }
    return 0;
}

/* ---- what the monitor shows ---- */

static void vhost_blk_account_one(BlockAcctStats *to, enum BlockAcctType type,
                                  const struct vhost_blk_stat *now,
                                  const struct vhost_blk_stat *last)
{
    uint64_t ops = now->ops - last->ops, errors = now->errors - last->errors;

    to->nr_ops[type] += ops - errors;
    to->failed_ops[type] += errors;
    to->nr_bytes[type] += now->bytes - last->bytes;
    to->total_time_ns[type] += now->ns - last->ns;
    if (ops) {
        to->last_access_time_ns = qemu_clock_get_ns(QEMU_CLOCK_REALTIME);
    }
}

/* Add what the kernel has done to what query-blockstats shows. */
static void vhost_blk_account(VHostBlk *v)
{
    BlockAcctStats *to = blk_get_stats(VIRTIO_BLK(v)->blk);
    struct vhost_blk_stats *last = &v->stats, now;

    if (ioctl((uintptr_t)v->dev.opaque, VHOST_BLK_GET_STATS, &now)) {
        return;
    }
    qemu_mutex_lock(&to->lock);
    vhost_blk_account_one(to, BLOCK_ACCT_READ, &now.read, &last->read);
    vhost_blk_account_one(to, BLOCK_ACCT_WRITE, &now.write, &last->write);
    vhost_blk_account_one(to, BLOCK_ACCT_WRITE, &now.write_zeroes,
                          &last->write_zeroes);
    vhost_blk_account_one(to, BLOCK_ACCT_FLUSH, &now.flush, &last->flush);
    vhost_blk_account_one(to, BLOCK_ACCT_UNMAP, &now.discard, &last->discard);
    qemu_mutex_unlock(&to->lock);
    *last = now;
}

/*
 * QEMU asks a host device for its size only when it is told to, by
 * block_resize.  Do that for the user when a device has grown.
 */
static void vhost_blk_follow_size(VHostBlk *v, int disk_fd)
{
    BlockBackend *blk;
    int64_t bytes = lseek(disk_fd, 0, SEEK_END);

    if (bytes <= blk_getlength(VIRTIO_BLK(v)->blk)) {
        return;
    }
    blk = blk_new_with_bs(blk_bs(VIRTIO_BLK(v)->blk), BLK_PERM_RESIZE,
                          BLK_PERM_ALL, NULL);
    if (blk) {
        blk_truncate(blk, bytes, false, PREALLOC_MODE_OFF, 0, NULL);
        blk_unref(blk);
    }
}

/* ---- engines; all with the drive's AioContext locked ---- */

/*
 * Any bitmap here is younger than take_over(), and has missed what the kernel
 * wrote since.
 */
static void vhost_blk_dirty_all(BlockDriverState *bs)
{
    BdrvDirtyBitmap *bitmap;

    qemu_mutex_lock(&bs->dirty_bitmap_mutex);
    for (bitmap = bdrv_dirty_bitmap_first(bs); bitmap;
         bitmap = bdrv_dirty_bitmap_next(bitmap)) {
        if (bdrv_dirty_bitmap_enabled(bitmap) &&
            !bdrv_dirty_bitmap_readonly(bitmap)) {
            bdrv_set_dirty_bitmap_locked(bitmap, 0,
                                         bdrv_dirty_bitmap_size(bitmap));
        }
    }
    qemu_mutex_unlock(&bs->dirty_bitmap_mutex);
}

/*
 * May run without the BQL.  When it returns, no request is in flight.  The graph
 * still is the one that the kernel served: it only changes in drained sections.
 */
static void vhost_blk_pause(VHostBlk *v)
{
    BlockDriverState *bs = blk_bs(VIRTIO_BLK(v)->blk);
    int ret = vhost_blk_set_backend(v, -1, 0);

    /* Whoever drains relies on it: going on would corrupt the drive. */
    if (ret < 0) {
        error_report("vhost-blk-pci: cannot pause the kernel's engine: %s",
                     strerror(-ret));
        abort();
    }
    v->state = VHOST_BLK_PAUSED;
    if (bs) {
        vhost_blk_dirty_all(bs);
        if (bs->file) {
            vhost_blk_dirty_all(bs->file->bs);
        }
    }
}

static int vhost_blk_resume(VHostBlk *v, BlockDriverState *host, Error **errp)
{
    int ret = vhost_blk_set_wce(v);

    if (ret == 0) {
        ret = vhost_blk_set_backend(v, v->disk_fd,
                                    vhost_blk_backend_flags(v, host) |
                                    vhost_blk_error_flags(v));
    }
    if (ret < 0) {
        error_setg_errno(errp, -ret, VHOST_BLK_NODE " cannot start");
        return ret;
    }
    v->state = VHOST_BLK_VHOST;
    return 0;
}

/*
 * Make the kernel forget the rings.  There is no other way to take one back,
 * and the driver that runs after a reset may use fewer of them: the kernel
 * would go on to walk memory that is no ring any more.
 */
static void vhost_blk_forget_rings(VHostBlk *v)
{
    struct vhost_vring_addr addr = { 0 };

    for (addr.index = 0; addr.index < v->dev.nvqs; addr.index++) {
        v->dev.vhost_ops->vhost_set_vring_addr(&v->dev, &addr);
    }
}

static bool vhost_blk_kernel_owns(VHostBlk *v)
{
    return v->state == VHOST_BLK_VHOST || v->state == VHOST_BLK_PAUSED;
}

/* Take the rings back.  Their indices are QEMU's again after this. */
static void vhost_blk_leave_kernel(VHostBlk *v)
{
    if (v->state == VHOST_BLK_VHOST) {
        vhost_blk_pause(v);
    }
    vhost_blk_account(v);
    vhost_dev_stop(&v->dev, VIRTIO_DEVICE(v), false);
    vhost_blk_forget_rings(v);
    qemu_close(v->disk_fd);
    v->disk_fd = -1;
}

static void vhost_blk_detach_handler_bh(void *opaque)
{
    virtio_queue_aio_detach_host_notifier(opaque,
                                          qemu_get_current_aio_context());
}

/* When it returns, no handler runs any more, in no iothread. */
static void vhost_blk_detach_handlers_sync(VHostBlk *v)
{
    unsigned i;

    for (i = 0; i < VIRTIO_BLK(v)->conf.num_queues; i++) {
        aio_wait_bh_oneshot(vhost_blk_vq_ctx(VIRTIO_BLK(v), i),
                            vhost_blk_detach_handler_bh,
                            virtio_get_queue(VIRTIO_DEVICE(v), i));
    }
}

static void vhost_blk_detach_handlers(VHostBlk *v)
{
    unsigned i;

    for (i = 0; i < VIRTIO_BLK(v)->conf.num_queues; i++) {
        virtio_queue_aio_detach_host_notifier(
            virtio_get_queue(VIRTIO_DEVICE(v), i),
            vhost_blk_vq_ctx(VIRTIO_BLK(v), i));
    }
}

static void vhost_blk_attach_handlers(VHostBlk *v)
{
    unsigned i;

    for (i = 0; i < VIRTIO_BLK(v)->conf.num_queues; i++) {
        virtio_queue_aio_attach_host_notifier(
            virtio_get_queue(VIRTIO_DEVICE(v), i),
            vhost_blk_vq_ctx(VIRTIO_BLK(v), i));
    }
}

/* Let QEMU's engine serve the rings, from where the kernel stopped. */
static void vhost_blk_enter_qemu(VHostBlk *v)
{
    unsigned i;

    v->state = VHOST_BLK_QEMU;
    for (i = 0; i < v->dev.nvqs; i++) {
        VirtQueue *vq = virtio_get_queue(VIRTIO_DEVICE(v), i);

        /* The kernel may have suppressed kicks, and swallowed some. */
        virtio_queue_set_notification(vq, 1);
        event_notifier_set(virtio_queue_get_host_notifier(vq));
    }
    /* Else the end of the drained section does it. */
    if (vhost_blk_may_attach(VIRTIO_BLK(v))) {
        vhost_blk_attach_handlers(v);
    }
}

static void vhost_blk_hand_back(VHostBlk *v)
{
    vhost_blk_leave_kernel(v);
    v->changes++;
    vhost_blk_enter_qemu(v);
}

/* Did something come up while QEMU's engine was drained? */
static bool vhost_blk_may_start(VHostBlk *v)
{
    VirtIOBlock *s = VIRTIO_BLK(v);
    BlockDriverState *bs = blk_bs(s->blk);

    /* s->rq: requests to be retried once the VM goes on (rerror, werror). */
    return v->state == VHOST_BLK_QEMU && bs && !bs->quiesce_counter &&
           !s->rq && !VIRTIO_DEVICE(v)->broken &&
           (VIRTIO_DEVICE(v)->status & VIRTIO_CONFIG_S_DRIVER_OK);
}

static int vhost_blk_start_kernel(VHostBlk *v, BlockDriverState *host,
                                  Error **errp)
{
    unsigned i;
    int ret;

    v->kernel_vqs = 0;
    for (i = 0; i < v->dev.nvqs; i++) {
        if (virtio_queue_get_desc_addr(VIRTIO_DEVICE(v), i)) {
            v->kernel_vqs |= 1U << i;
        }
    }
    v->dev.acked_features = vhost_blk_acked_features(v);
    ret = vhost_dev_start(&v->dev, VIRTIO_DEVICE(v), false);
    if (ret < 0) {
        error_setg_errno(errp, -ret, VHOST_BLK_NODE " cannot be set up");
    } else {
        ret = vhost_blk_resume(v, host, errp);
        if (ret < 0) {
            vhost_dev_stop(&v->dev, VIRTIO_DEVICE(v), false);
        }
    }
    if (ret < 0) {
        v->refused = true;
        vhost_blk_forget_rings(v);
    }
    return ret;
}

static void vhost_blk_take_over(VHostBlk *v, BlockDriverState *host)
{
    Error *err = NULL;

    v->disk_fd = vhost_blk_open_disk(v, host, &err);
    if (v->disk_fd < 0) {
        v->refused = true;
        vhost_blk_explain(v, err);
        return;
    }
    vhost_blk_detach_handlers_sync(v);
    blk_drain(VIRTIO_BLK(v)->blk);

    /* Both waited in a nested event loop, so ask again. */
    if (vhost_blk_may_start(v) &&
        vhost_blk_plain(v, &err) == host &&
        vhost_blk_start_kernel(v, host, &err) == 0) {
        v->changes++;
        g_free(v->reason);
        v->reason = NULL;
        return;
    }
    qemu_close(v->disk_fd);
    v->disk_fd = -1;
    if (v->state == VHOST_BLK_QEMU) {
        vhost_blk_enter_qemu(v);
    }
    if (err) {
        vhost_blk_explain(v, err);
    } else {
        qemu_bh_schedule(v->bh);
    }
}

/* Go where the drive can be served now. */
static void vhost_blk_settle_locked(VHostBlk *v)
{
    BlockDriverState *bs = blk_bs(VIRTIO_BLK(v)->blk), *host;
    Error *err = NULL;

    /* The end of the drained section asks again. */
    if (v->state == VHOST_BLK_OFF || (bs && bs->quiesce_counter)) {
        return;
    }
    host = vhost_blk_plain(v, &err);
    switch (v->state) {
    case VHOST_BLK_QEMU:
        if (!host) {
            vhost_blk_explain(v, err);
        } else if (vhost_blk_may_start(v)) {
            vhost_blk_take_over(v, host);
        }
        break;
    case VHOST_BLK_PAUSED:
        /* A drained section may have put another node below the drive. */
        if (!host || !vhost_blk_is_disk(v->disk_fd, host, &err) ||
            vhost_blk_resume(v, host, &err) < 0) {
            vhost_blk_hand_back(v);
            vhost_blk_explain(v, err);
            qemu_bh_schedule(v->bh);
        }
        break;
    default:
        if (!host) {
            vhost_blk_hand_back(v);
            vhost_blk_explain(v, err);
        }
        break;
    }
}

/* Main loop, BQL held. */
static void vhost_blk_settle(void *opaque)
{
    VHostBlk *v = opaque;
    AioContext *ctx;

    /* take_over() waits in a nested event loop, which may run this again. */
    if (v->settling) {
        return;
    }
    v->settling = true;
    ctx = vhost_blk_lock(VIRTIO_BLK(v));
    vhost_blk_settle_locked(v);
    vhost_blk_unlock(ctx);
    v->settling = false;
}

static void vhost_blk_poll_locked(VHostBlk *v)
{
    if (v->state == VHOST_BLK_VHOST) {
        vhost_blk_account(v);
        vhost_blk_follow_size(v, v->disk_fd);
    }
}

static void vhost_blk_poll(void *opaque)
{
    VHostBlk *v = opaque;
    AioContext *ctx = vhost_blk_lock(VIRTIO_BLK(v));

    vhost_blk_poll_locked(v);
    vhost_blk_unlock(ctx);
    if (v->state != VHOST_BLK_QEMU || !v->refused) {
        vhost_blk_settle(v);
    }
    if (v->state != VHOST_BLK_OFF) {
        timer_mod(v->poll, qemu_clock_get_ms(QEMU_CLOCK_REALTIME) +
                           VHOST_BLK_POLL_MS);
    }
}

/* ---- callbacks of the block layer ---- */

static void vhost_blk_drained_begin(void *opaque)
{
    VHostBlk *v = opaque;

    if (v->state == VHOST_BLK_VHOST) {
        vhost_blk_pause(v);
    } else if (v->state == VHOST_BLK_QEMU && !v->settling &&
               vhost_blk_quiets_handlers) {
        vhost_blk_detach_handlers(v);
    }
}

static void vhost_blk_drained_end(void *opaque)
{
    VHostBlk *v = opaque;

    /* take_over() attaches them itself, or hands over. */
    if (v->state == VHOST_BLK_QEMU && !v->settling &&
        vhost_blk_quiets_handlers) {
        vhost_blk_attach_handlers(v);
    }
    /* The end of take_over()'s own drain needs no decision. */
    if (v->state != VHOST_BLK_OFF && !v->settling) {
        v->refused = false;
        qemu_bh_schedule(v->bh);
    }
}

static void vhost_blk_resized_bh(void *opaque)
{
    virtio_notify_config(VIRTIO_DEVICE(opaque));
}

static void vhost_blk_resized(void *opaque)
{
    /* May run in an iothread; the config interrupt needs the BQL. */
    aio_bh_schedule_oneshot(qemu_get_aio_context(), vhost_blk_resized_bh,
                            opaque);
}

static const BlockDevOps vhost_blk_dev_ops = {
    .resize_cb = vhost_blk_resized,
    .drained_begin = vhost_blk_drained_begin,
    .drained_end = vhost_blk_drained_end,
};

/* ---- callbacks of virtio ---- */

static int vhost_blk_start_ioeventfd(VirtIODevice *vdev)
{
    VHostBlk *v = VHOST_BLK(vdev);
    int ret = VHOST_BLK_GET_CLASS(v)->parent_start_ioeventfd(vdev);

    /* Without notifiers the parent serves, too. */
    if (ret == 0 && !vhost_blk_ioeventfd_failed(VIRTIO_BLK(v)) &&
        v->state == VHOST_BLK_OFF) {
        v->refused = false;
        v->state = VHOST_BLK_QEMU;
        qemu_bh_schedule(v->bh);
        timer_mod(v->poll, qemu_clock_get_ms(QEMU_CLOCK_REALTIME) +
                           VHOST_BLK_POLL_MS);
    }
    return ret;
}

static void vhost_blk_stop_ioeventfd(VirtIODevice *vdev)
{
    VHostBlk *v = VHOST_BLK(vdev);
    AioContext *ctx;

    qemu_bh_cancel(v->bh);
    timer_del(v->poll);
    ctx = vhost_blk_lock(VIRTIO_BLK(v));
    if (vhost_blk_kernel_owns(v)) {
        vhost_blk_leave_kernel(v);
    }
    v->state = VHOST_BLK_OFF;
    vhost_blk_unlock(ctx);
    VHOST_BLK_GET_CLASS(v)->parent_stop_ioeventfd(vdev);
}

static void vhost_blk_set_status(VirtIODevice *vdev, uint8_t status)
{
    VHostBlk *v = VHOST_BLK(vdev);

    VHOST_BLK_GET_CLASS(v)->parent_set_status(vdev, status);
    /* A legacy driver may have started ioeventfd before, by its first kick. */
    if ((status & VIRTIO_CONFIG_S_DRIVER_OK) && v->state == VHOST_BLK_QEMU) {
        qemu_bh_schedule(v->bh);
    }
}

/* The guest switches the write cache (VIRTIO_BLK_F_CONFIG_WCE). */
static void vhost_blk_set_config(VirtIODevice *vdev, const uint8_t *config)
{
    VHostBlk *v = VHOST_BLK(vdev);
    AioContext *ctx;

    VHOST_BLK_GET_CLASS(v)->parent_set_config(vdev, config);
    ctx = vhost_blk_lock(VIRTIO_BLK(v));
    /*
     * In any other state it is done before the kernel serves again.  If the
     * flush fails that makes the past stable: so may that of QEMU's engine.
     */
    if (v->state == VHOST_BLK_VHOST && vhost_blk_set_wce(v) < 0) {
        vhost_blk_hand_back(v);
    }
    vhost_blk_unlock(ctx);
}

/* Which queues there are is only told to the kernel when it takes over. */
static void vhost_blk_queues_change(VHostBlk *v)
{
    AioContext *ctx = vhost_blk_lock(VIRTIO_BLK(v));

    if (vhost_blk_kernel_owns(v)) {
        vhost_blk_hand_back(v);
        qemu_bh_schedule(v->bh);
    }
    vhost_blk_unlock(ctx);
}

/* VIRTIO_F_RING_RESET (2.6.1) */
static void vhost_blk_queue_reset(VirtIODevice *vdev, uint32_t index)
{
    VHostBlk *v = VHOST_BLK(vdev);

    vhost_blk_queues_change(v);
    if (VHOST_BLK_GET_CLASS(v)->parent_queue_reset) {
        VHOST_BLK_GET_CLASS(v)->parent_queue_reset(vdev, index);
    }
}

/*
 * One enabled while the kernel serves the others has its addresses already, but
 * the kernel has never had it: nothing must be taken back for it, neither an
 * index nor mapped memory.
 */
static void vhost_blk_queue_enable(VirtIODevice *vdev, uint32_t index)
{
    VHostBlk *v = VHOST_BLK(vdev);
    hwaddr desc = virtio_queue_get_desc_addr(vdev, index);
    hwaddr avail = virtio_queue_get_avail_addr(vdev, index);
    hwaddr used = virtio_queue_get_used_addr(vdev, index);
    bool is_new = vhost_blk_kernel_owns(v) && index < v->dev.nvqs &&
                  !(v->kernel_vqs & 1U << index);

    if (is_new) {
        virtio_queue_set_rings(vdev, index, 0, 0, 0);
    }
    vhost_blk_queues_change(v);
    if (is_new) {
        virtio_queue_set_rings(vdev, index, desc, avail, used);
    }
    if (VHOST_BLK_GET_CLASS(v)->parent_queue_enable) {
        VHOST_BLK_GET_CLASS(v)->parent_queue_enable(vdev, index);
    }
}

static struct vhost_dev *vhost_blk_get_vhost(VirtIODevice *vdev)
{
    return &VHOST_BLK(vdev)->dev;
}

/*
 * The kernel met a ring that it cannot walk, or left a request that failed in
 * its ring: QEMU's engine will find the same, and do what it does then.
 */
static void vhost_blk_kernel_error(EventNotifier *n)
{
    struct vhost_virtqueue *vq = container_of(n, struct vhost_virtqueue,
                                              error_notifier);
    VHostBlk *v = container_of(vq->dev, VHostBlk, dev);
    AioContext *ctx;

    if (!event_notifier_test_and_clear(n)) {
        return;
    }
    ctx = vhost_blk_lock(VIRTIO_BLK(v));
    if (v->state == VHOST_BLK_VHOST) {
        vhost_blk_hand_back(v);
    }
    vhost_blk_unlock(ctx);
}

static void vhost_blk_migration_changed(VHostBlkNotifier *n, bool migrating)
{
    VHostBlk *v = container_of(n, VHostBlk, migration);

    v->migrating = migrating;
    /* At setup it has to be over before the first page is sent. */
    vhost_blk_settle(v);
}

/* ---- life ---- */

/* An open /dev/vhost-blk, ours to close; or -1 and @errp. */
static int vhost_blk_open_vhost(VHostBlk *v, Error **errp)
{
    struct vhost_blk_query query = { .fd = -1 };
    int fd;

    if (!v->vhostfd) {
        fd = qemu_open(VHOST_BLK_NODE, O_RDWR, NULL);
        if (fd < 0) {
            error_setg_errno(errp, errno, "cannot open " VHOST_BLK_NODE);
            error_append_hint(errp, "Load the module with 'modprobe "
                              "vhost_blk', and give the user who runs QEMU "
                              "read and write permission on " VHOST_BLK_NODE
                              ", or pass it open with vhostfd=.\n");
        }
        return fd;
    }
    fd = monitor_fd_param(monitor_cur(), v->vhostfd, errp);
    if (fd < 0) {
        error_prepend(errp, "vhostfd: ");
        return -1;
    }
    /* vhost_blk looks at the fd inside; nothing else knows this ioctl. */
    if (fcntl(fd, F_GETFD) < 0 ||
        (ioctl(fd, VHOST_BLK_QUERY_BACKEND, &query) && errno != EBADF)) {
        error_setg(errp, "vhostfd=%s is not an open " VHOST_BLK_NODE,
                   v->vhostfd);
        /* A mistyped number may be an fd that QEMU needs. */
        if (!qemu_isdigit(v->vhostfd[0])) {
            close(fd);
        }
        return -1;
    }
    return fd;
}

/*
 * Has the module what this device relies on?  Must be asked before
 * vhost_dev_init(), which blocks migration for one that cannot log.
 */
static bool vhost_blk_is_current(int vhostfd, Error **errp)
{
    const uint64_t need = 1ULL << VHOST_F_LOG_ALL |
                          1ULL << VIRTIO_BLK_F_CONFIG_WCE;
    const uint32_t flags = VHOST_BLK_BACKEND_NO_UNMAP |
                           VHOST_BLK_BACKEND_STOP_ON_READ_ERROR |
                           VHOST_BLK_BACKEND_STOP_ON_WRITE_ERROR |
                           VHOST_BLK_BACKEND_STOP_ON_ENOSPC;
    struct vhost_blk_query query = { .fd = -1 };
    uint64_t have;

    if (ioctl(vhostfd, VHOST_GET_FEATURES, &have) ||
        ioctl(vhostfd, VHOST_BLK_QUERY_BACKEND, &query) ||
        (have & need) != need || (query.flags & flags) != flags) {
        error_setg(errp, "the kernel's vhost_blk module is too old");
        return false;
    }
    return true;
}

static void vhost_blk_cleanup_vhost(VHostBlk *v)
{
    if (v->vqs) {
        vhost_dev_cleanup(&v->dev);
        g_free(v->vqs);
        v->vqs = NULL;
    }
}

static int vhost_blk_set_serial(VHostBlk *v)
{
    VirtIOBlock *s = VIRTIO_BLK(v);
    struct vhost_blk_serial serial = { 0 };

    /* 20 characters have no NUL, as in the parent's GET_ID. */
    if (s->conf.serial) {
        strpadcpy((char *)serial.serial, sizeof(serial.serial), s->conf.serial,
                  0);
    }
    return ioctl((uintptr_t)v->dev.opaque, VHOST_BLK_SET_SERIAL, &serial);
}

/* @vhostfd is consumed in any case. */
static int vhost_blk_init_vhost(VHostBlk *v, int vhostfd, Error **errp)
{
    VirtIOBlock *s = VIRTIO_BLK(v);
    uint32_t nr = s->conf.num_queues;
    int ret, i;

    /*
     * To spare the memory of the others.  A module without this ioctl refuses it
     * as all else that an owner may do.
     */
    if (ioctl(vhostfd, VHOST_BLK_SET_NUM_QUEUES, &nr) && errno != EPERM) {
        ret = -errno;
        error_setg_errno(errp, errno, VHOST_BLK_NODE " takes no %" PRIu32
                         " virtqueues", nr);
        close(vhostfd);
        return ret;
    }
    v->vqs = g_new0(struct vhost_virtqueue, s->conf.num_queues);
    v->dev.nvqs = s->conf.num_queues;
    v->dev.vqs = v->vqs;
    ret = vhost_dev_init(&v->dev, (void *)(uintptr_t)vhostfd,
                         VHOST_BACKEND_TYPE_KERNEL, v->poll_us, errp);
    if (ret < 0) {
        g_free(v->vqs);
        v->vqs = NULL;
        return ret;
    }
    for (i = 0; i < s->conf.num_queues; i++) {
        event_notifier_set_handler(&v->vqs[i].error_notifier,
                                   vhost_blk_kernel_error);
    }
    if (vhost_blk_set_serial(v)) {
        ret = -errno;
        error_setg_errno(errp, errno, VHOST_BLK_NODE " takes no serial number");
        vhost_blk_cleanup_vhost(v);
    }
    return ret;
}

/* Who names an fd wants that one. */
static bool vhost_blk_may_go_without(VHostBlk *v)
{
    return v->vhost != ON_OFF_AUTO_ON && !v->vhostfd;
}

/* Find /dev/vhost-blk, or decide to go without: -1 and v->no_vhost, or @errp. */
static int vhost_blk_find_vhost(VHostBlk *v, Error **errp)
{
    Error *err = NULL;
    int vhostfd = -1;

    if (v->vhost == ON_OFF_AUTO_OFF) {
        error_setg(&v->no_vhost, "vhost=off");
        return -1;
    }
    vhostfd = vhost_blk_open_vhost(v, &err);
    if (vhostfd >= 0 && vhost_blk_is_current(vhostfd, &err)) {
        return vhostfd;
    }
    if (vhostfd >= 0) {
        close(vhostfd);
    }
    if (!vhost_blk_may_go_without(v)) {
        error_propagate(errp, err);
        return -1;
    }
    v->no_vhost = err;
    return -1;
}

static void vhost_blk_realize(DeviceState *dev, Error **errp)
{
    VHostBlk *v = VHOST_BLK(dev);
    VirtIOBlock *s = VIRTIO_BLK(dev);
    VHostBlkClass *vc = VHOST_BLK_GET_CLASS(v);
    Error *err = NULL;
    int vhostfd;

    if (s->conf.num_queues > VHOST_BLK_MAX_VQS &&
        s->conf.num_queues != VIRTIO_BLK_AUTO_NUM_QUEUES) {
        error_setg(errp, "num-queues must be at most %d", VHOST_BLK_MAX_VQS);
        return;
    }
    if (v->poll_us > VHOST_BLK_POLL_US_MAX) {
        error_setg(errp, "poll-us must be at most %d", VHOST_BLK_POLL_US_MAX);
        return;
    }
    vhostfd = vhost_blk_find_vhost(v, &err);
    if (err) {
        error_propagate(errp, err);
        return;
    }
    vc->parent_realize(dev, &err);
    if (err) {
        error_propagate(errp, err);
        if (vhostfd >= 0) {
            close(vhostfd);
        }
        goto no_parent;
    }
    if (vhostfd >= 0 && vhost_blk_init_vhost(v, vhostfd, &err) < 0) {
        if (!vhost_blk_may_go_without(v)) {
            error_propagate(errp, err);
            vc->parent_unrealize(dev);
            goto no_parent;
        }
        v->no_vhost = err;
        err = NULL;
    }

    /* Both engines signal by the same eventfds, without a mask. */
    VIRTIO_DEVICE(dev)->use_guest_notifier_mask = false;
    v->state = VHOST_BLK_OFF;
    v->disk_fd = -1;
    v->bh = qemu_bh_new(vhost_blk_settle, v);
    v->poll = timer_new_ms(QEMU_CLOCK_REALTIME, vhost_blk_poll, v);
    vhost_blk_watch_migration(&v->migration);
    blk_set_dev_ops(s->blk, &vhost_blk_dev_ops, v);
    /* The source of a migration still has it: that says nothing of later. */
    if (!runstate_check(RUN_STATE_INMIGRATE) && !vhost_blk_plain(v, &err)) {
        vhost_blk_explain(v, err);
    }
    return;

no_parent:
    error_free(v->no_vhost);
    v->no_vhost = NULL;
}

static void vhost_blk_unrealize(DeviceState *dev)
{
    VHostBlk *v = VHOST_BLK(dev);

    assert(v->state == VHOST_BLK_OFF);
    blk_set_dev_ops(VIRTIO_BLK(v)->blk, NULL, NULL);
    vhost_blk_unwatch_migration(&v->migration);
    timer_free(v->poll);
    qemu_bh_delete(v->bh);
    vhost_blk_cleanup_vhost(v);
    g_free(v->reason);
    v->reason = NULL;
    error_free(v->no_vhost);
    v->no_vhost = NULL;
    VHOST_BLK_GET_CLASS(v)->parent_unrealize(dev);
}

static char *vhost_blk_get_engine(Object *obj, Error **errp)
{
    return g_strdup(vhost_blk_state_name[VHOST_BLK(obj)->state]);
}

static char *vhost_blk_get_reason(Object *obj, Error **errp)
{
    return g_strdup(VHOST_BLK(obj)->reason ?: "");
}

static void vhost_blk_get_changes(Object *obj, Visitor *visitor,
                                  const char *name, void *opaque, Error **errp)
{
    visit_type_uint64(visitor, name, &VHOST_BLK(obj)->changes, errp);
}

static VHostBlkProperty vhost_blk_properties[] = {
    DEFINE_PROP_ON_OFF_AUTO("vhost", VHostBlk, vhost, ON_OFF_AUTO_AUTO),
    DEFINE_PROP_STRING("vhostfd", VHostBlk, vhostfd),
    DEFINE_PROP_UINT32("poll-us", VHostBlk, poll_us, 0),
    VHOST_BLK_END_OF_PROPERTIES
};

static void vhost_blk_class_init(ObjectClass *klass, void *data)
{
    VirtioDeviceClass *vdc = VIRTIO_DEVICE_CLASS(klass);
    VHostBlkClass *vc = VHOST_BLK_CLASS(klass);

    device_class_set_props(DEVICE_CLASS(klass), vhost_blk_properties);
    object_class_property_add_str(klass, "engine", vhost_blk_get_engine, NULL);
    object_class_property_set_description(klass, "engine",
        "who serves the virtqueues: off, qemu, vhost or paused");
    object_class_property_add_str(klass, "engine-reason", vhost_blk_get_reason,
                                  NULL);
    object_class_property_set_description(klass, "engine-reason",
        "why QEMU serves the virtqueues and not the kernel, if so");
    object_class_property_add(klass, "engine-changes", "uint64",
                              vhost_blk_get_changes, NULL, NULL, NULL);
    object_class_property_set_description(klass, "engine-changes",
        "how often the virtqueues went from QEMU to the kernel or back");

    vc->parent_realize = vdc->realize;
    vc->parent_unrealize = vdc->unrealize;
    vc->parent_set_config = vdc->set_config;
    vc->parent_set_status = vdc->set_status;
    vc->parent_start_ioeventfd = vdc->start_ioeventfd;
    vc->parent_stop_ioeventfd = vdc->stop_ioeventfd;
    vc->parent_queue_reset = vdc->queue_reset;
    vc->parent_queue_enable = vdc->queue_enable;
    vdc->realize = vhost_blk_realize;
    vdc->unrealize = vhost_blk_unrealize;
    vdc->set_config = vhost_blk_set_config;
    vdc->set_status = vhost_blk_set_status;
    vdc->start_ioeventfd = vhost_blk_start_ioeventfd;
    vdc->stop_ioeventfd = vhost_blk_stop_ioeventfd;
    vdc->queue_reset = vhost_blk_queue_reset;
    vdc->queue_enable = vhost_blk_queue_enable;
    vdc->get_vhost = vhost_blk_get_vhost;
}

static const TypeInfo vhost_blk_info = {
    .name = TYPE_VHOST_BLK,
    .parent = TYPE_VIRTIO_BLK,
    .instance_size = sizeof(VHostBlk),
    .class_size = sizeof(VHostBlkClass),
    .class_init = vhost_blk_class_init,
};

/* ---- on PCI ---- */

#define TYPE_VHOST_BLK_PCI "vhost-blk-pci-base"
OBJECT_DECLARE_SIMPLE_TYPE(VHostBlkPCI, VHOST_BLK_PCI)

struct VHostBlkPCI {
    VirtIOPCIProxy parent_obj;
    VHostBlk vdev;
};

static VHostBlkProperty vhost_blk_pci_properties[] = {
    DEFINE_PROP_UINT32("class", VirtIOPCIProxy, class_code, 0),
    DEFINE_PROP_BIT("ioeventfd", VirtIOPCIProxy, flags,
                    VIRTIO_PCI_FLAG_USE_IOEVENTFD_BIT, true),
    DEFINE_PROP_UINT32("vectors", VirtIOPCIProxy, nvectors,
                       DEV_NVECTORS_UNSPECIFIED),
    VHOST_BLK_END_OF_PROPERTIES
};

static void vhost_blk_pci_realize(VirtIOPCIProxy *proxy, Error **errp)
{
    VHostBlkPCI *dev = VHOST_BLK_PCI(proxy);
    VirtIOBlkConf *conf = &VIRTIO_BLK(&dev->vdev)->conf;

    if (conf->num_queues == VIRTIO_BLK_AUTO_NUM_QUEUES) {
        conf->num_queues = MIN(virtio_pci_optimal_num_queues(0),
                               VHOST_BLK_MAX_VQS);
    }
    if (proxy->nvectors == DEV_NVECTORS_UNSPECIFIED) {
        proxy->nvectors = conf->num_queues + 1;
    }
    qdev_realize(DEVICE(&dev->vdev), BUS(&proxy->bus), errp);
}

static void vhost_blk_pci_class_init(ObjectClass *klass, void *data)
{
    DeviceClass *dc = DEVICE_CLASS(klass);
    PCIDeviceClass *pc = PCI_DEVICE_CLASS(klass);

    set_bit(DEVICE_CATEGORY_STORAGE, dc->categories);
    dc->desc = "virtio-blk served by the host kernel (vhost_blk)";
    device_class_set_props(dc, vhost_blk_pci_properties);
    VIRTIO_PCI_CLASS(klass)->realize = vhost_blk_pci_realize;
    pc->vendor_id = PCI_VENDOR_ID_REDHAT_QUMRANET;
    pc->device_id = PCI_DEVICE_ID_VIRTIO_BLOCK;
    pc->revision = VIRTIO_PCI_ABI_VERSION;
    pc->class_id = PCI_CLASS_STORAGE_SCSI;
}

/* QEMU 10.0 has done it for every property of the class, 7.2 for few. */
static void vhost_blk_pci_alias(VHostBlkPCI *dev, const char *name)
{
    if (!object_property_find(OBJECT(dev), name)) {
        object_property_add_alias(OBJECT(dev), name, OBJECT(&dev->vdev), name);
    }
}

static void vhost_blk_pci_instance_init(Object *obj)
{
    VHostBlkPCI *dev = VHOST_BLK_PCI(obj);

    virtio_instance_init_common(obj, &dev->vdev, sizeof(dev->vdev),
                                TYPE_VHOST_BLK);
    object_property_add_alias(obj, "bootindex", OBJECT(&dev->vdev),
                              "bootindex");
    vhost_blk_pci_alias(dev, "engine");
    vhost_blk_pci_alias(dev, "engine-reason");
    vhost_blk_pci_alias(dev, "engine-changes");
}

static const VirtioPCIDeviceTypeInfo vhost_blk_pci_info = {
    .base_name = TYPE_VHOST_BLK_PCI,
    .generic_name = "vhost-blk-pci",
    .transitional_name = "vhost-blk-pci-transitional",
    .non_transitional_name = "vhost-blk-pci-non-transitional",
    .instance_size = sizeof(VHostBlkPCI),
    .instance_init = vhost_blk_pci_instance_init,
    .class_init = vhost_blk_pci_class_init,
};

static void vhost_blk_register_types(void)
{
    type_register_static(&vhost_blk_info);
    virtio_pci_types_register(&vhost_blk_pci_info);
}

#ifndef VHOST_BLK_PLUGIN
type_init(vhost_blk_register_types)
#else

/* ---- as a shared object for a stock QEMU ---- */

#include "qemu/qemu-plugin.h"
#include "qapi/qapi-commands-control.h"

QEMU_PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_VERSION;

/* This file uses QEMU's internals: any other build may lay them out anew. */
static bool vhost_blk_qemu_is_ours(void)
{
    VersionInfo *info = qmp_query_version(NULL);
    bool same = !strcmp(info->package, VHOST_BLK_QEMU_PACKAGE);

    if (!same) {
        error_report("vhost-blk: this plugin is for QEMU %s, but this is QEMU "
                     "%" PRId64 ".%" PRId64 ".%" PRId64 " (%s); run "
                     "build-plugin.sh again", VHOST_BLK_QEMU_PACKAGE,
                     info->qemu->major, info->qemu->minor, info->qemu->micro,
                     info->package);
    }
    qapi_free_VersionInfo(info);
    return same;
}

/* A QEMU of the right name may still be somebody's own build of it. */
static bool vhost_blk_layout_is_ours(void)
{
    static const struct {
        const char *type;
        const char *property;
        size_t offset;
    } expected[] = {
        { TYPE_VIRTIO_BLK, "discard", offsetof(VirtIOBlock, host_features) },
        { TYPE_VIRTIO_DEVICE, "x-disable-legacy-check",
          offsetof(VirtIODevice, disable_legacy_check) },
        { TYPE_VIRTIO_PCI, "ats", offsetof(VirtIOPCIProxy, flags) },
    };
    unsigned i;

    for (i = 0; i < ARRAY_SIZE(expected); i++) {
        ObjectClass *klass = object_class_by_name(expected[i].type);
        ObjectProperty *op = klass ? object_class_property_find(
                                         klass, expected[i].property) : NULL;

        if (!op || ((Property *)op->opaque)->offset != expected[i].offset) {
            error_report("vhost-blk: type '%s' of this QEMU differs from the "
                         "one this plugin was built for; run build-plugin.sh "
                         "again", expected[i].type);
            return false;
        }
    }
    return true;
}

QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id,
                                           const qemu_info_t *info,
                                           int argc, char **argv)
{
    if (!vhost_blk_qemu_is_ours() || !vhost_blk_layout_is_ours()) {
        return 1;
    }
    if (object_class_by_name(TYPE_VHOST_BLK)) {
        error_report("vhost-blk: this QEMU has the device already");
        return 1;
    }
    vhost_blk_register_types();
    return 0;
}
#endif /* VHOST_BLK_PLUGIN */
