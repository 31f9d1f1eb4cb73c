// SPDX-License-Identifier: GPL-2.0-only
/*
 * scribe DISK SECOND: write and verify in a guest all the while, many requests in
 * flight, and know for each block of 4 KiB which version was completed last. A read
 * that finds an older one finds a lost write: fio, which compares checksums of a
 * block with itself, would take it for good.
 *
 * Linked statically. Takes commands on stdin, a line each, and answers with one line,
 * "ok ..." or "BAD ...", which is repeated from the first error on:
 *   run USEC    go on, with a pause of that many microseconds after each completion
 *   pause       complete what is in flight and stay so
 *   check       pause, then compare the whole disk
 *   end         pause and exit
 * It is an error if SECOND seconds go by without a completion.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BLOCK		4096U
#define MAX_RUN		8U	/* blocks of one request */
#define DEPTH		32U

struct slot {
	struct iocb iocb;
	uint8_t *buf;
	uint32_t at, nr;	/* its blocks */
	bool used;
};

static struct slot slots[DEPTH];
static struct { uint32_t version; bool busy; } *blocks;
static uint32_t nr_blocks, in_flight;
static uint64_t nr_reads, nr_writes, nr_flushes, state = 88172645463325252ULL;
static aio_context_t ctx;
static int disk;
static unsigned int limit;	/* seconds without a completion */
static char wrong[160];		/* what went wrong first */

__attribute__((format(printf, 1, 2))) static void complain(const char *format, ...)
{
	va_list args;

	if (wrong[0])
		return;
	va_start(args, format);
	vsnprintf(wrong, sizeof(wrong), format, args);
	va_end(args);
}

static uint32_t rnd(uint32_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (state >> 16) % below;
}

/* Each word names version and place, so that no part of a block is like another. */
static uint64_t word(uint32_t block, uint32_t version, uint32_t i)
{
	return version ? (uint64_t)version << 40 | (uint64_t)block << 12 | i : 0;
}

static void fill(uint8_t *buf, uint32_t block, uint32_t version)
{
	uint64_t *p = (uint64_t *)buf;

	for (uint32_t i = 0; i < BLOCK / 8; i++)
		p[i] = word(block, version, i);
}

static void compare(const uint8_t *buf, uint32_t block)
{
	const uint64_t *p = (const uint64_t *)buf;

	for (uint32_t i = 0; i < BLOCK / 8; i++) {
		if (p[i] == word(block, blocks[block].version, i))
			continue;
		complain("block %u, byte %u: version %u of block %u instead of version %u",
			 block, i * 8, (uint32_t)(p[i] >> 40), (uint32_t)(p[i] >> 12 & 0xfffffff),
			 blocks[block].version);
		return;
	}
}

/* Requests never overlap: what a read has to find is known then. */
static bool blocks_take(uint32_t at, uint32_t nr)
{
	for (uint32_t i = 0; i < nr; i++) {
		if (blocks[at + i].busy)
			return false;
	}
	for (uint32_t i = 0; i < nr; i++)
		blocks[at + i].busy = true;
	return true;
}

static void slot_submit(struct slot *s, uint16_t opcode, uint32_t at, uint32_t nr)
{
	struct iocb *iocb = &s->iocb;

	s->at = at;
	s->nr = nr;
	s->used = true;
	memset(iocb, 0, sizeof(*iocb));
	iocb->aio_data = (uintptr_t)s;
	iocb->aio_fildes = disk;
	iocb->aio_lio_opcode = opcode;
	if (opcode != IOCB_CMD_FDSYNC) {
		iocb->aio_buf = (uintptr_t)s->buf;
		iocb->aio_nbytes = nr * BLOCK;
		iocb->aio_offset = (int64_t)at * BLOCK;
	}
	if (syscall(SYS_io_submit, ctx, 1, &iocb) == 1)
		in_flight++;
	else
		complain("io_submit: %s", strerror(errno));
}

/* Half of the requests write, of 64 one flushes. */
static void slot_start(struct slot *s)
{
	uint32_t nr = 1 + rnd(2) * rnd(MAX_RUN), at = rnd(nr_blocks - nr);

	if (!rnd(64)) {
		slot_submit(s, IOCB_CMD_FDSYNC, 0, 0);
	} else if (blocks_take(at, nr)) {
		bool writes = rnd(2);

		for (uint32_t i = 0; writes && i < nr; i++)
			fill(s->buf + i * BLOCK, at + i, blocks[at + i].version + 1);
		slot_submit(s, writes ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD, at, nr);
	}
}

static void slot_end(struct slot *s, int64_t res)
{
	bool writes = s->iocb.aio_lio_opcode == IOCB_CMD_PWRITE;

	s->used = false;
	if (res != s->nr * BLOCK)
		complain("request %u of %u blocks at %u: result %ld", s->iocb.aio_lio_opcode,
			 s->nr, s->at, (long)res);
	for (uint32_t i = 0; i < s->nr; i++) {
		if (writes)
			blocks[s->at + i].version++;
		else
			compare(s->buf + i * BLOCK, s->at + i);
		blocks[s->at + i].busy = false;
	}
	if (!s->nr)
		nr_flushes++;
	else if (writes)
		nr_writes++;
	else
		nr_reads++;
}

static void reap(void)
{
	struct timespec timeout = { .tv_sec = limit };
	struct io_event event[DEPTH];
	int n = syscall(SYS_io_getevents, ctx, 1, DEPTH, event, &timeout);

	if (n < 0 && errno == EINTR)
		return;
	if (n <= 0) {
		complain("%u requests in flight, and none completed in %u s", in_flight, limit);
		in_flight = 0;
	}
	for (int i = 0; i < n; i++) {
		in_flight--;
		slot_end((struct slot *)(uintptr_t)event[i].data, event[i].res);
	}
}

/* The whole disk against what was written last. */
static void check(void)
{
	for (uint32_t at = 0; at < nr_blocks && !wrong[0];) {
		for (uint32_t i = 0; i < DEPTH && at < nr_blocks; i++) {
			uint32_t nr = nr_blocks - at < MAX_RUN ? nr_blocks - at : MAX_RUN;

			slot_submit(&slots[i], IOCB_CMD_PREAD, at, nr);
			at += nr;
		}
		while (in_flight)
			reap();
	}
}

/* Return whether to run, with a pause of @usec; exits at the end. */
static bool command(unsigned int *usec)
{
	char line[64];
	bool run;

	if (!fgets(line, sizeof(line), stdin))
		exit(1);
	run = sscanf(line, "run %u", usec) == 1;
	while (!run && in_flight)
		reap();
	if (!strcmp(line, "check\n") && !wrong[0])
		check();
	if (wrong[0])
		printf("BAD %s\n", wrong);
	else
		printf("ok %lu writes, %lu reads, %lu flushes\n", nr_writes, nr_reads, nr_flushes);
	if (!strcmp(line, "end\n"))
		exit(wrong[0] != 0);
	return run && !wrong[0];
}

static void setup(const char *path)
{
	uint64_t bytes = 0;

	disk = open(path, O_RDWR | O_DIRECT);
	if (disk < 0 || ioctl(disk, BLKGETSIZE64, &bytes) || syscall(SYS_io_setup, DEPTH, &ctx)) {
		perror(path);
		exit(2);
	}
	nr_blocks = bytes / BLOCK;
	blocks = calloc(nr_blocks, sizeof(*blocks));
	for (uint32_t i = 0; i < DEPTH; i++)
		slots[i].buf = aligned_alloc(BLOCK, MAX_RUN * BLOCK);
	setvbuf(stdout, NULL, _IOLBF, 0);
	setvbuf(stdin, NULL, _IONBF, 0);
}

int main(int argc, char **argv)
{
	struct pollfd input = { .fd = STDIN_FILENO, .events = POLLIN };
	unsigned int usec = 0;
	bool run = false;

	if (argc != 3)
		return 2;
	limit = atoi(argv[2]);
	setup(argv[1]);
	for (;;) {
		if (!run || poll(&input, 1, 0) > 0)
			run = command(&usec);
		for (uint32_t i = 0; run && i < DEPTH; i++) {
			if (!slots[i].used)
				slot_start(&slots[i]);
		}
		if (in_flight)
			reap();
		run &= !wrong[0];
		if (run && usec)
			usleep(usec);
	}
}
