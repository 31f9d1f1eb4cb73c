// SPDX-License-Identifier: GPL-2.0-only
/*
 * Both halves of test_powercut.sh, linked statically for the guest.
 *
 *   powercut write DISK SHARED    in the guest: write until killed
 *   powercut verify DISK SHARED   on the host: is all there that was acknowledged?
 *
 * SHARED is memory that outlives the guest: the file behind an ivshmem device.
 * It says for each block which version was last submitted, and which one the
 * guest's kernel had called stable: to tell takes one store, which is
 * out of the guest at once. All sectors of a block then hold versions between.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define BLOCK		4096U
#define SECTOR		512U
#define NR_BLOCKS	8192U
#define NR_THREADS	4U
#define OWN_BLOCKS	(NR_BLOCKS / NR_THREADS)
#define MAX_RUN		16U	/* blocks of one write */
#define MAX_BATCH	64U	/* writes before a flush */

struct shared {
	uint32_t nr_acked;
	uint8_t room[BLOCK - 4];
	struct {
		uint32_t submitted, stable;
	} block[NR_BLOCKS];
};

struct writer {
	pthread_t thread;
	struct shared *shared;
	const char *disk;
	uint32_t first;		/* block of its part */
	uint64_t random;
	bool cached;		/* through the guest's page cache */
};

__attribute__((noreturn)) static void die(const char *what)
{
	perror(what);
	exit(2);
}

static uint32_t rnd(struct writer *w, uint32_t below)
{
	w->random = w->random * 6364136223846793005ULL + 1442695040888963407ULL;
	return (w->random >> 33) % below;
}

/* The first word names version and place, the others follow from it. */
static uint64_t sector_word(uint32_t block, uint32_t sector, uint32_t version, uint32_t i)
{
	uint64_t name = (uint64_t)version << 32 | block << 3 | sector;

	return i ? (name + i) * 0x9e3779b97f4a7c15ULL : name;
}

static void block_fill(uint8_t *p, uint32_t block, uint32_t version)
{
	for (uint32_t s = 0; s < BLOCK / SECTOR; s++) {
		for (uint32_t i = 0; i < SECTOR / 8; i++, p += 8) {
			uint64_t w = sector_word(block, s, version, i);

			memcpy(p, &w, 8);
		}
	}
}

/* The version of a sector; -1: torn, or of another place */
static int64_t sector_version(const uint8_t *p, uint32_t block, uint32_t s)
{
	static const uint8_t zero[SECTOR];
	uint64_t w, version;

	if (!memcmp(p, zero, SECTOR))
		return 0;
	memcpy(&w, p, 8);
	version = w >> 32;
	for (uint32_t i = 0; i < SECTOR / 8; i++) {
		memcpy(&w, p + 8 * i, 8);
		if (w != sector_word(block, s, version, i))
			return -1;
	}
	return version;
}

/* Write some of our blocks. @flags: RWF_DSYNC or 0 */
static void run_write(struct writer *w, int fd, uint8_t *buf, uint32_t at, uint32_t nr, int flags)
{
	struct iovec iov = { buf, nr * BLOCK };

	for (uint32_t i = 0; i < nr; i++) {
		uint32_t version = w->shared->block[at + i].submitted + 1;

		__atomic_store_n(&w->shared->block[at + i].submitted, version, __ATOMIC_SEQ_CST);
		block_fill(buf + i * BLOCK, at + i, version);
	}
	if (pwritev2(fd, &iov, 1, (off_t)at * BLOCK, flags) != (ssize_t)iov.iov_len)
		die("write");
}

static void run_ack(struct writer *w, uint32_t at, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++)
		__atomic_store_n(&w->shared->block[at + i].stable,
				 w->shared->block[at + i].submitted, __ATOMIC_SEQ_CST);
	__atomic_add_fetch(&w->shared->nr_acked, 1, __ATOMIC_SEQ_CST);
}

static void *writer_main(void *arg)
{
	struct { uint32_t at, nr; } batch[MAX_BATCH];
	struct writer *w = arg;
	uint8_t *buf = aligned_alloc(BLOCK, MAX_RUN * BLOCK);
	int fd = open(w->disk, O_RDWR | (w->cached ? 0 : O_DIRECT));

	if (!buf || fd < 0)
		die(w->disk);
	for (;;) {
		/* A write that is stable by itself, or many and a flush after them. */
		uint32_t n = rnd(w, 4) ? 1 + rnd(w, MAX_BATCH) : 1;

		for (uint32_t i = 0; i < n; i++) {
			batch[i].nr = 1 + rnd(w, 2) * rnd(w, MAX_RUN);
			batch[i].at = w->first + rnd(w, OWN_BLOCKS - batch[i].nr);
			run_write(w, fd, buf, batch[i].at, batch[i].nr, n == 1 ? RWF_DSYNC : 0);
		}
		if (n > 1 && fdatasync(fd))
			die("fdatasync");
		for (uint32_t i = 0; i < n; i++)
			run_ack(w, batch[i].at, batch[i].nr);
	}
	return NULL;
}

static int write_all(const char *disk, struct shared *shared)
{
	static struct writer writer[NR_THREADS];

	for (uint32_t i = 0; i < NR_THREADS; i++) {
		writer[i] = (struct writer) {
			.shared = shared, .disk = disk, .first = i * OWN_BLOCKS,
			.random = (uint64_t)shared->nr_acked << 8 | i, .cached = i % 4 == 3,
		};
		if (pthread_create(&writer[i].thread, NULL, writer_main, &writer[i]))
			die("pthread_create");
	}
	pthread_join(writer[0].thread, NULL);
	return 0;
}

static int verify(const char *disk, const struct shared *shared)
{
	uint32_t bad = 0, written = 0, lost = 0;
	uint8_t *buf = aligned_alloc(BLOCK, BLOCK);
	int fd = open(disk, O_RDONLY | O_DIRECT);

	if (!buf || fd < 0)
		die(disk);
	for (uint32_t b = 0; b < NR_BLOCKS; b++) {
		bool newest = true;

		if (pread(fd, buf, BLOCK, (off_t)b * BLOCK) != BLOCK)
			die("read");
		written += shared->block[b].submitted > 0;
		for (uint32_t s = 0; s < BLOCK / SECTOR; s++) {
			int64_t v = sector_version(buf + s * SECTOR, b, s);

			newest &= v == shared->block[b].submitted;
			if (v >= shared->block[b].stable && v <= shared->block[b].submitted)
				continue;
			if (!bad++)
				printf("block %u, sector %u: version %ld, but %u is stable\n",
				       b, s, (long)v, shared->block[b].stable);
		}
		lost += !newest;
	}
	printf("%u stable writes, %u of %u blocks not as last written, %u sectors wrong\n",
	       shared->nr_acked, lost, written, bad);
	return bad != 0;
}

int main(int argc, char **argv)
{
	struct shared *shared;
	int fd;

	if (argc != 4) {
		fprintf(stderr, "usage: powercut write|verify DISK SHARED\n");
		return 2;
	}
	fd = open(argv[3], O_RDWR);
	if (fd < 0)
		die(argv[3]);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (shared == MAP_FAILED)
		die("mmap");
	return strcmp(argv[1], "write") ? verify(argv[2], shared) : write_all(argv[2], shared);
}
