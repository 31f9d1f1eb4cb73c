/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * Userspace interface of vhost_blk, the in-kernel virtio-blk backend.
 *
 * A VMM opens /dev/vhost-blk, claims it with VHOST_SET_OWNER, describes guest
 * memory and vrings with the generic vhost ioctls of <linux/vhost.h>, and
 * starts the device with VHOST_BLK_SET_BACKEND.
 */
#ifndef _UAPI_LINUX_VHOST_BLK_H
#define _UAPI_LINUX_VHOST_BLK_H

#include <linux/types.h>
#include <linux/ioctl.h>

/* VHOST_VIRTIO of <linux/vhost.h>, which does not compile as C++ everywhere. */
#define VHOST_BLK_IOCTL		0xAF

/* Most virtqueues one device can have (VHOST_SET_VRING_* indices 0..15). */
#define VHOST_BLK_MAX_VQS	16

/* Bytes of the serial number that VIRTIO_BLK_T_GET_ID returns. */
#define VHOST_BLK_SERIAL_BYTES	20

/* Room for struct virtio_blk_config, larger than any version of it. */
#define VHOST_BLK_CONFIG_BYTES	128

/*
 * Keep every block of the disk allocated: DISCARD is answered without doing
 * anything, and WRITE_ZEROES never unmaps.
 */
#define VHOST_BLK_BACKEND_NO_UNMAP	(1U << 0)

/*
 * Do not tell the guest of a request that the disk fails, but stop its vring and
 * signal its VHOST_SET_VRING_ERR eventfd. The detach that follows leaves all such
 * requests of a vring in its available ring, where its base (VHOST_GET_VRING_BASE)
 * is that of the first: whoever serves the vring next tries them again. Requests
 * that the device itself refuses are answered in any case.
 */
#define VHOST_BLK_BACKEND_STOP_ON_READ_ERROR	(1U << 1)
/* Every other request, not only writes. */
#define VHOST_BLK_BACKEND_STOP_ON_WRITE_ERROR	(1U << 2)
/* Those of them that fail because there is no space. */
#define VHOST_BLK_BACKEND_STOP_ON_ENOSPC	(1U << 3)

/**
 * struct vhost_blk_backend - argument of VHOST_BLK_SET_BACKEND
 * @fd:    an open block device or image file, or -1 to detach
 * @flags: VHOST_BLK_BACKEND_*
 */
struct vhost_blk_backend {
	__s32 fd;
	__u32 flags;
};

/**
 * struct vhost_blk_serial - argument of VHOST_BLK_SET_SERIAL
 * @serial: ASCII, padded with NUL; 20 characters have no NUL
 */
struct vhost_blk_serial {
	__u8 serial[VHOST_BLK_SERIAL_BYTES];
};

/**
 * struct vhost_blk_query - argument of VHOST_BLK_QUERY_BACKEND
 * @fd:       in: an open block device or image file; -1 to ask for @flags only
 * @flags:    in: must be 0; out: the VHOST_BLK_BACKEND_* that there are
 * @features: out: virtio feature bits this backend would be offered with
 * @config:   out: struct virtio_blk_config, little endian, zero padded
 */
struct vhost_blk_query {
	__s32 fd;
	__u32 flags;
	__u64 features;
	__u8 config[VHOST_BLK_CONFIG_BYTES];
};

/**
 * struct vhost_blk_stat - requests of one kind
 * @ops:    that ended, well or not
 * @bytes:  of payload, or of the ranges they name; of those that ended well
 * @ns:     from fetch to completion, of all that ended, in nanoseconds
 * @errors: that did not end with VIRTIO_BLK_S_OK
 */
struct vhost_blk_stat {
	__u64 ops;
	__u64 bytes;
	__u64 ns;
	__u64 errors;
};

/**
 * struct vhost_blk_stats - argument of VHOST_BLK_GET_STATS
 * @read:         VIRTIO_BLK_T_IN
 * @write:        VIRTIO_BLK_T_OUT
 * @flush:        VIRTIO_BLK_T_FLUSH
 * @discard:      VIRTIO_BLK_T_DISCARD and VIRTIO_BLK_T_SECURE_ERASE
 * @write_zeroes: VIRTIO_BLK_T_WRITE_ZEROES
 * @other:        VIRTIO_BLK_T_GET_ID, unknown types, requests without a header
 *
 * Summed over all vrings since VHOST_SET_OWNER; detaching changes nothing.
 */
struct vhost_blk_stats {
	struct vhost_blk_stat read;
	struct vhost_blk_stat write;
	struct vhost_blk_stat flush;
	struct vhost_blk_stat discard;
	struct vhost_blk_stat write_zeroes;
	struct vhost_blk_stat other;
};

/*
 * Attach a disk and start every vring that is set up, or detach it
 * (fd == -1): the detach returns once every request that was fetched from a
 * vring has been completed in its used ring. May be repeated, also with
 * another disk, without setting the vrings up again.
 */
#define VHOST_BLK_SET_BACKEND	_IOW(VHOST_BLK_IOCTL, 0x50, struct vhost_blk_backend)

/* Set what VIRTIO_BLK_T_GET_ID returns; 20 NULs when never set. */
#define VHOST_BLK_SET_SERIAL	_IOW(VHOST_BLK_IOCTL, 0x51, struct vhost_blk_serial)

/* Ask what a disk would be offered as. Needs no owner, no vring. */
#define VHOST_BLK_QUERY_BACKEND	_IOWR(VHOST_BLK_IOCTL, 0x52, struct vhost_blk_query)

/* Read the counters. */
#define VHOST_BLK_GET_STATS	_IOR(VHOST_BLK_IOCTL, 0x53, struct vhost_blk_stats)

/*
 * Set the cache mode, VIRTIO_BLK_F_CONFIG_WCE's writeback field (5.2.5.2):
 * 1 write-back (as after VHOST_SET_OWNER), 0 write-through: every write and
 * every discard that is acknowledged after the ioctl returned is stable, and
 * so is all that was acknowledged before. A guest that did not acknowledge
 * VIRTIO_BLK_F_FLUSH has write-through in any case. At any time.
 */
#define VHOST_BLK_SET_WCE	_IOW(VHOST_BLK_IOCTL, 0x54, __u32)

/*
 * Have no more virtqueues than this, to spare the memory of the others: from 1 to as
 * many as there are, which is VHOST_BLK_MAX_VQS at first. Before VHOST_SET_OWNER, or
 * after VHOST_RESET_OWNER. Other indices are then as those above VHOST_BLK_MAX_VQS.
 */
#define VHOST_BLK_SET_NUM_QUEUES _IOW(VHOST_BLK_IOCTL, 0x55, __u32)

#endif /* _UAPI_LINUX_VHOST_BLK_H */
