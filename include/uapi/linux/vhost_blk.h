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

/**
 * struct vhost_blk_backend - argument of VHOST_BLK_SET_BACKEND
 * @fd:    an open block device, or -1 to detach
 * @flags: must be 0
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
 * @fd:       in: an open block device
 * @flags:    in: must be 0
 * @features: out: virtio feature bits this backend would be offered with
 * @config:   out: struct virtio_blk_config, little endian, zero padded
 */
struct vhost_blk_query {
	__s32 fd;
	__u32 flags;
	__u64 features;
	__u8 config[VHOST_BLK_CONFIG_BYTES];
};

/*
 * Attach a block device and start every vring that is set up, or detach it
 * (fd == -1): the detach returns once every request that was fetched from a
 * vring has been completed in its used ring. May be repeated, also with
 * another block device, without setting the vrings up again.
 */
#define VHOST_BLK_SET_BACKEND	_IOW(VHOST_BLK_IOCTL, 0x50, struct vhost_blk_backend)

/* Set what VIRTIO_BLK_T_GET_ID returns; 20 NULs when never set. */
#define VHOST_BLK_SET_SERIAL	_IOW(VHOST_BLK_IOCTL, 0x51, struct vhost_blk_serial)

/* Ask what a block device would be offered as. Needs no owner, no vring. */
#define VHOST_BLK_QUERY_BACKEND	_IOWR(VHOST_BLK_IOCTL, 0x52, struct vhost_blk_query)

#endif /* _UAPI_LINUX_VHOST_BLK_H */
