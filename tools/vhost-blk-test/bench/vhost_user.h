/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef VHOST_USER_H
#define VHOST_USER_H

/*
 * From now on vt_dev_init() and the like talk with the vhost-user back end that
 * listens at @path, instead of with /dev/vhost-blk.
 */
void vhost_user_select(const char *path);

#endif
