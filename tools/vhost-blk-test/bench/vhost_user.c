// SPDX-License-Identifier: GPL-2.0-only
/*
 * The front end's side of the vhost-user protocol, as far as a benchmark needs it:
 * the ioctls that set up a vhost device, as messages on a Unix socket.
 *
 * Without VHOST_USER_F_PROTOCOL_FEATURES a ring is enabled from the start.
 */
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "vhost_user.h"
#include "vt.h"

#define VERSION		1U

struct message {
	uint32_t request;
	uint32_t flags;
	uint32_t size;		/* of what follows */
	union {
		uint64_t u64;
		struct vhost_vring_state state;
		struct vhost_vring_addr addr;
		struct {
			uint32_t nr_regions;
			uint32_t padding;
			struct {
				uint64_t gpa, size, user_addr, offset;
			} region[VT_NR_REGIONS];
		} memory;
	};
} __attribute__((packed));

static const char *socket_path;

static int send_message(int fd, struct message *m, const int *fds, unsigned int nr_fds)
{
	union {
		char bytes[CMSG_SPACE(VT_NR_REGIONS * sizeof(int))];
		struct cmsghdr align;
	} control = {};
	struct iovec iov = { m, offsetof(struct message, u64) + m->size };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	m->flags = VERSION;
	if (nr_fds) {
		msg.msg_control = &control;
		msg.msg_controllen = CMSG_SPACE(nr_fds * sizeof(int));
		*CMSG_FIRSTHDR(&msg) = (struct cmsghdr) {
			.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
			.cmsg_len = CMSG_LEN(nr_fds * sizeof(int)),
		};
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), fds, nr_fds * sizeof(int));
	}
	return sendmsg(fd, &msg, 0) == (ssize_t)iov.iov_len ? 0 : -EIO;
}

/* The back end's memory table: the same memfd for each region. */
static int send_memory(int fd, const struct vt_mem *mem)
{
	struct message m = { .request = 5, .size = sizeof(m.memory) };
	int fds[VT_NR_REGIONS];

	m.memory.nr_regions = VT_NR_REGIONS;
	for (unsigned int i = 0; i < VT_NR_REGIONS; i++) {
		const struct vt_region *r = &mem->region[i];

		fds[i] = mem->fd;
		m.memory.region[i].gpa = r->gpa;
		m.memory.region[i].size = r->size;
		m.memory.region[i].user_addr = (uintptr_t)r->dev;
		m.memory.region[i].offset = r->offset;
	}
	return send_message(fd, &m, fds, VT_NR_REGIONS);
}

static int send_vring_fd(int fd, uint32_t request, const struct vhost_vring_file *file)
{
	struct message m = { .request = request, .size = sizeof(m.u64), .u64 = file->index };

	return send_message(fd, &m, &file->fd, 1);
}

static int vhost_user_ioctl(int fd, unsigned long cmd, void *arg, size_t size)
{
	static const struct {
		unsigned long cmd;
		uint32_t request;
		bool is_fd;
	} messages[] = {
		{ VHOST_SET_FEATURES, 2, false }, { VHOST_SET_OWNER, 3, false },
		{ VHOST_SET_VRING_NUM, 8, false }, { VHOST_SET_VRING_ADDR, 9, false },
		{ VHOST_SET_VRING_BASE, 10, false }, { VHOST_SET_VRING_KICK, 12, true },
		{ VHOST_SET_VRING_CALL, 13, true }, { VHOST_SET_VRING_ERR, 14, true },
		{ },
	};
	struct message m = { .size = size };

	for (unsigned int i = 0; messages[i].cmd; i++) {
		if (messages[i].cmd != cmd)
			continue;
		if (messages[i].is_fd)
			return send_vring_fd(fd, messages[i].request, arg);
		m.request = messages[i].request;
		if (size)
			memcpy(&m.u64, arg, size);
		return send_message(fd, &m, NULL, 0);
	}
	return -EOPNOTSUPP;
}

static int vhost_user_open(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", socket_path);
	if (fd < 0 || connect(fd, (struct sockaddr *)&addr, sizeof(addr)))
		return -1;
	return fd;
}

static const struct vt_transport vhost_user = {
	.open = vhost_user_open, .ioctl = vhost_user_ioctl, .set_memory = send_memory,
};

void vhost_user_select(const char *path)
{
	socket_path = path;
	vt_transport = &vhost_user;
}
