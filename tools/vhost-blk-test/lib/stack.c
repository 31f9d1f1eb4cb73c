// SPDX-License-Identifier: GPL-2.0-only
/* What users keep disks on: block devices over disks in memory, made by stack.sh or dmsetup. */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <linux/random.h>

#include "vt.h"

#define NAME		"vbt"	/* of what stack.sh makes */
#define LINE_BYTES	64
#define STACK_MIB	16
#define STACK_SECTORS	(STACK_MIB * (unsigned int)(VT_MIB / VT_SECTOR))

/* What stack.sh prints goes line by line to @line. Returns how many, or -errno. */
__attribute__((format(printf, 3, 4)))
static int script(char (*line)[LINE_BYTES], unsigned int nr, const char *fmt, ...)
{
	const char *end = strstr(__FILE__, "/lib/");
	unsigned int n = 0, len;
	char cmd[512];
	va_list ap;
	FILE *f;
	int r;

	len = snprintf(cmd, sizeof(cmd), "%.*s/stack.sh ", end ? (int)(end - __FILE__) : 1,
		       end ? __FILE__ : ".");
	va_start(ap, fmt);
	vsnprintf(cmd + len, sizeof(cmd) - len, fmt, ap);
	va_end(ap);
	f = popen(cmd, "re");
	if (!f)
		return -errno;
	while (n < nr && fgets(line[n], sizeof(*line), f)) {
		line[n][strcspn(line[n], "\n")] = 0;
		n++;
	}
	r = pclose(f);
	if (WIFEXITED(r) && WEXITSTATUS(r) == 4)
		return -EOPNOTSUPP;
	return r ? -EIO : (int)n;
}

static int lower_null(struct vt_stack *s, unsigned int nr)
{
	static const char * const name[] = { "vbtlow0", "vbtlow1" };
	struct vt_null_opts opts = {
		.mib = STACK_MIB, .cache_mib = 4, .discard = true,
	};
	int r = 0;

	for (unsigned int i = 0; i < nr && !r; i++)
		r = vt_null_create(&s->lower[i], name[i], &opts);
	return r;
}

static int lower_file(struct vt_stack *s)
{
	int fd, r;

	strcpy(s->file, "/tmp/vhost-blk-test-XXXXXX");
	fd = mkstemp(s->file);
	if (fd < 0)
		return -errno;
	r = ftruncate(fd, STACK_MIB * VT_MIB) ? -errno : 0;
	close(fd);
	return r;
}

/* Run "stack.sh create" with the kind and its arguments, open the disk. */
__attribute__((format(printf, 3, 4)))
static int make_script(struct vt_stack *s, const char *kind, const char *fmt, ...)
{
	char line[1][LINE_BYTES] = { "" }, args[160];
	va_list ap;
	int r;

	va_start(ap, fmt);
	vsnprintf(args, sizeof(args), fmt, ap);
	va_end(ap);
	s->script = kind;
	r = script(line, 1, "create %s " NAME " %s", kind, args);
	if (r == -EOPNOTSUPP)
		snprintf(s->lacks, sizeof(s->lacks), "%s", line[0]);
	if (r != 1)
		return r < 0 ? r : -EIO;
	return vt_bdev_open(&s->disk, line[0]);
}

static int make_dm(struct vt_stack *s, const char *module, const char *name, const char *table)
{
	if (vt_modprobe(module, "")) {
		snprintf(s->lacks, sizeof(s->lacks), "this kernel has no %s", module);
		return -EOPNOTSUPP;
	}
	return vt_dm_create(&s->disk, name, table);
}

static int make_loop(struct vt_stack *s)
{
	return vt_loop_create(&s->disk, STACK_MIB * VT_MIB, 512);
}

static int make_loop_4k(struct vt_stack *s)
{
	return vt_loop_create(&s->disk, STACK_MIB * VT_MIB, 4096);
}

static int make_brd(struct vt_stack *s)
{
	return vt_modprobe("brd", "rd_nr=1 rd_size=16384") ?: vt_bdev_open(&s->disk, "ram0");
}

/* Pieces that lie on two disks, with odd boundaries, so that bios are split. */
static int make_dm_linear(struct vt_stack *s)
{
	return lower_null(s, 2) ?:
	       make_dm(s, "dm_mod", "vbtlinear",
		       "0 4001 linear /dev/vbtlow0 7\n"
		       "4001 8000 linear /dev/vbtlow1 100\n"
		       "12001 8479 linear /dev/vbtlow0 5000");
}

static int make_dm_crypt(struct vt_stack *s)
{
	char table[192];

	snprintf(table, sizeof(table), "0 %u crypt aes-xts-plain64 %064d 0 /dev/vbtlow0 0",
		 STACK_SECTORS, 1);
	return lower_null(s, 1) ?: make_dm(s, "dm_crypt", "vbtcrypt", table);
}

/* The pool's metadata on one disk, its data on the other one; volume 0 as large as that. */
static int make_dm_thin(struct vt_stack *s)
{
	char table[96];
	int r = lower_null(s, 2);

	if (!r && vt_modprobe("dm_thin_pool", "")) {
		strcpy(s->lacks, "this kernel has no dm-thin");
		return -EOPNOTSUPP;
	}
	snprintf(table, sizeof(table), "0 %u thin-pool /dev/vbtlow0 /dev/vbtlow1 128 0",
		 STACK_SECTORS);
	r = r ?: vt_dm_create(&s->lower[2], "vbtpool", table);
	r = r ?: vt_dm_message(&s->lower[2], "create_thin 0");
	snprintf(table, sizeof(table), "0 %u thin /dev/mapper/vbtpool 0", STACK_SECTORS / 2);
	return r ?: vt_dm_create(&s->disk, "vbtthin", table);
}

/* The second half is what a test can make fail. */
static int make_md_raid1(struct vt_stack *s)
{
	char table[64];

	snprintf(table, sizeof(table), "0 %u linear /dev/vbtlow1 0", STACK_SECTORS);
	return lower_null(s, 2) ?: vt_dm_create(&s->lower[2], "vbtleg", table) ?:
	       make_script(s, "md-raid1", "vbtlow0 %s", s->lower[2].name);
}

static int make_nvme_tcp(struct vt_stack *s)
{
	return lower_null(s, 1) ?: make_script(s, "nvme-tcp", "vbtlow0");
}

static int make_nvme_loop(struct vt_stack *s)
{
	return lower_null(s, 1) ?: make_script(s, "nvme-loop", "vbtlow0");
}

static int make_lio_ram(struct vt_stack *s)
{
	return make_script(s, "lio-ram", "%u 1", STACK_MIB);
}

static int make_lio_file(struct vt_stack *s)
{
	return lower_file(s) ?: make_script(s, "lio-file", "%s", s->file);
}

/*
 * nbd-server's TLS library waits for random numbers, also when nobody wants TLS, and
 * user-mode Linux never has enough to begin with.
 */
static int random_begin(void)
{
	struct {
		struct rand_pool_info head;
		char data[32];
	} pool = { { 256, sizeof(pool.data) }, "not random, but for tests only" };
	int fd = open("/dev/random", O_RDWR | O_NONBLOCK | O_CLOEXEC), r = 0;
	char byte;

	if (fd < 0)
		return -errno;
	if (read(fd, &byte, 1) != 1 && ioctl(fd, RNDADDENTROPY, &pool))
		r = -errno;
	close(fd);
	return r;
}

static int make_nbd(struct vt_stack *s)
{
	return random_begin() ?: lower_file(s) ?: make_script(s, "nbd", "%s", s->file);
}

static const struct {
	const char *kind;
	int (*make)(struct vt_stack *s);
} stacks[] = {
	{ "loop", make_loop }, { "loop_4k", make_loop_4k }, { "brd", make_brd },
	{ "dm_linear", make_dm_linear }, { "dm_crypt", make_dm_crypt },
	{ "dm_thin", make_dm_thin }, { "md_raid1", make_md_raid1 },
	{ "nvme_tcp", make_nvme_tcp }, { "nvme_loop", make_nvme_loop },
	{ "lio_ram", make_lio_ram }, { "lio_file", make_lio_file }, { "nbd", make_nbd },
	{}
};

int vt_stack_create(struct vt_stack *s, const char *kind)
{
	memset(s, 0, sizeof(*s));
	s->disk.fd = -1;
	for (unsigned int i = 0; i < VT_STACK_LOWER; i++)
		s->lower[i].fd = -1;
	for (unsigned int i = 0; stacks[i].kind; i++)
		if (!strcmp(kind, stacks[i].kind))
			return stacks[i].make(s);
	return -EINVAL;
}

void vt_stack_destroy(struct vt_stack *s)
{
	vt_bdev_destroy(&s->disk);
	if (s->script)
		script(NULL, 0, "destroy %s " NAME, s->script);
	/* The later ones lie on the earlier ones. */
	for (unsigned int i = VT_STACK_LOWER; i-- > 0;)
		vt_bdev_destroy(&s->lower[i]);
	if (s->file[0])
		unlink(s->file);
	s->script = NULL;
	s->file[0] = 0;
}

int vt_luns_create(struct vt_bdev *lun, unsigned int nr, unsigned int mib)
{
	char (*line)[LINE_BYTES] = calloc(nr, sizeof(*line));
	int r = script(line, nr, "create lio-ram " NAME "lun %u %u", mib, nr);

	if (r >= 0)
		r = r == (int)nr ? 0 : -EIO;
	for (unsigned int i = 0; i < nr && !r; i++)
		r = vt_bdev_open(&lun[i], line[i]);
	free(line);
	return r;
}

void vt_luns_destroy(struct vt_bdev *lun, unsigned int nr)
{
	for (unsigned int i = 0; i < nr; i++)
		vt_bdev_destroy(&lun[i]);
	script(NULL, 0, "destroy lio-ram " NAME "lun");
}
