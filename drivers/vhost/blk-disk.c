// SPDX-License-Identifier: GPL-2.0-only
/*
 * vhost_blk, host side: what all kinds of disks have in common.
 */
#include <linux/blkdev.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/log2.h>
#include <uapi/linux/virtio_blk.h>

#include "blk.h"

/* The kind of disk that a file is; ERR_PTR if none. */
static const struct vhost_blk_disk_ops *vhost_blk_disk_kind(const struct file *file)
{
	if (S_ISBLK(file_inode(file)->i_mode))
		return &vhost_blk_bdev_ops;
	if (S_ISREG(file_inode(file)->i_mode))
		return &vhost_blk_file_ops;
	return ERR_PTR(-ENOTBLK);
}

static struct vhost_blk_disk *vhost_blk_disk_open(struct file *file)
{
	const struct vhost_blk_disk_ops *ops = vhost_blk_disk_kind(file);
	struct vhost_blk_disk *disk;

	if (IS_ERR(ops))
		return ERR_CAST(ops);
	if (!(file->f_mode & FMODE_READ))
		return ERR_PTR(-EINVAL);
	disk = ops->get(file);
	if (!IS_ERR(disk)) {
		disk->ops = ops;
		disk->file = file;
	}
	return disk;
}

/**
 * vhost_blk_disk_get - take a disk by its file descriptor
 * @fd: of the calling process
 *
 * Context: process; may sleep.
 *
 * Return: the disk, or ERR_PTR: -EBADF no open file, -ENOTBLK neither a block
 * device nor a regular file, -EINVAL not open for reading, or open for appending,
 * -EOPNOTSUPP zoned, -ENOMEM.
 */
struct vhost_blk_disk *vhost_blk_disk_get(int fd)
{
	struct vhost_blk_disk *disk;
	struct file *file;

	file = fget(fd);
	if (!file)
		return ERR_PTR(-EBADF);
	disk = vhost_blk_disk_open(file);
	if (IS_ERR(disk))
		fput(file);
	return disk;
}

/**
 * vhost_blk_disk_put - let go of a disk
 * @disk: from vhost_blk_disk_get(); nothing in flight
 */
void vhost_blk_disk_put(struct vhost_blk_disk *disk)
{
	struct file *file = disk->file;

	disk->ops->put(disk);
	fput(file);
}

/**
 * vhost_blk_status_from_blk - the only converter to the guest's vocabulary
 * @error: of the block layer
 *
 * Return: VIRTIO_BLK_S_*.
 */
u8 vhost_blk_status_from_blk(blk_status_t error)
{
	switch (error) {
	case BLK_STS_OK:
		return VIRTIO_BLK_S_OK;
	case BLK_STS_NOTSUPP:
		return VIRTIO_BLK_S_UNSUPP;
	default:
		return VIRTIO_BLK_S_IOERR;
	}
}

/* Drivers cut ranges at just these limits, and the next one has to begin at a block. */
static __virtio32 vhost_blk_config_limit(u32 sectors, unsigned int lbs_bytes)
{
	return __cpu_to_virtio32(true, round_down(sectors, lbs_bytes >> VHOST_BLK_SECTOR_SHIFT));
}

/* Limits of ranges, in 512-byte sectors (5.2.4). Returns the features to take back. */
static u64 vhost_blk_config_ranges(struct virtio_blk_config *config,
				   const struct vhost_blk_geometry *geometry,
				   unsigned int lbs)
{
	u32 granularity = max(geometry->discard_granularity_sectors, 1U);
	u64 missing = 0;

	if (geometry->discard_sectors) {
		config->max_discard_sectors =
			vhost_blk_config_limit(geometry->discard_sectors, lbs);
		config->max_discard_seg = __cpu_to_virtio32(true, VHOST_BLK_RANGES_MAX);
		config->discard_sector_alignment = __cpu_to_virtio32(true, granularity);
	} else {
		missing |= BIT_ULL(VIRTIO_BLK_F_DISCARD);
	}
	if (geometry->secure_erase_sectors) {
		config->max_secure_erase_sectors =
			vhost_blk_config_limit(geometry->secure_erase_sectors, lbs);
		config->max_secure_erase_seg = __cpu_to_virtio32(true, VHOST_BLK_RANGES_MAX);
		config->secure_erase_sector_alignment = __cpu_to_virtio32(true, granularity);
	} else {
		missing |= BIT_ULL(VIRTIO_BLK_F_SECURE_ERASE);
	}
	config->max_write_zeroes_sectors =
		vhost_blk_config_limit(geometry->write_zeroes_sectors, lbs);
	config->max_write_zeroes_seg = __cpu_to_virtio32(true, VHOST_BLK_RANGES_MAX);
	config->write_zeroes_may_unmap = geometry->write_zeroes_unmap;
	return missing;
}

/**
 * vhost_blk_disk_query - describe a disk as virtio-blk
 * @disk:  the disk
 * @query: features is narrowed to this disk, config filled (5.2.4)
 *
 * Context: process; may sleep.
 */
void vhost_blk_disk_query(const struct vhost_blk_disk *disk,
			  struct vhost_blk_query *query)
{
	struct virtio_blk_config *config = (struct virtio_blk_config *)query->config;
	struct vhost_blk_geometry geometry = {};
	struct vhost_blk_limits limits;
	unsigned int lbs;

	BUILD_BUG_ON(sizeof(*config) > sizeof(query->config));
	memset(query->config, 0, sizeof(query->config));
	disk->ops->limits(disk, &limits);
	disk->ops->geometry(disk, &geometry);
	if (limits.read_only) {
		geometry.discard_sectors = 0;
		geometry.secure_erase_sectors = 0;
	} else {
		query->features &= ~BIT_ULL(VIRTIO_BLK_F_RO);
	}
	lbs = limits.lbs_bytes;
	query->features &= ~vhost_blk_config_ranges(config, &geometry, lbs);

	config->capacity = __cpu_to_virtio64(true, limits.capacity_sectors);
	config->size_max = __cpu_to_virtio32(true, VHOST_BLK_SIZE_MAX);
	config->seg_max = __cpu_to_virtio32(true, VHOST_BLK_SEG_MAX);
	config->blk_size = __cpu_to_virtio32(true, lbs);
	config->physical_block_exp = ilog2(geometry.pbs_bytes / lbs);
	config->alignment_offset = geometry.alignment_bytes / lbs;
	config->min_io_size = __cpu_to_virtio16(true, min_t(u32, U16_MAX,
							    geometry.io_min_bytes / lbs));
	config->opt_io_size = __cpu_to_virtio32(true, geometry.io_opt_bytes / lbs);
	config->wce = geometry.write_cache;
	config->num_queues = __cpu_to_virtio16(true, VHOST_BLK_MAX_VQS);
}
