// SPDX-License-Identifier: GPL-2.0-only
/*
 * A page of guest memory that stays pinned from one request to the next: it is never
 * taken for what the VMM, or the kernel, has put in its place, and not kept for long.
 * What is in flight while memory is taken away is test_memory.c's.
 */
#include <linux/falloc.h>
#include <sys/wait.h>

#include "vt_test.h"

#define IN	VIRTIO_BLK_T_IN
#define OUT	VIRTIO_BLK_T_OUT
#define OK	VIRTIO_BLK_S_OK
#define IOERR	VIRTIO_BLK_S_IOERR

#define PAGE		4096U
#define NR_PAGES	16
/* What is on the disk: a pattern in each page, of a seed by its number. */
#define SECTOR(n)	((n) * (PAGE / VT_SECTOR))
#define SEED(n)		(1000 + (n))

FIXTURE(pins) {
	struct vt_dev dev;
	struct vt_queue *q;
	struct vt_bdev disk;
	uint64_t gpa;		/* NR_PAGES, which the tests map anew */
	uint8_t *mem;		/* where */
	uint64_t other;		/* one page, which stays */
	bool kept;		/* this kernel tells of changes, so pages stay pinned */
};

#define pins_data FIXTURE_DATA(pins)

static int map(pins_data *self, unsigned int first, unsigned int n, int prot, int flags, int fd)
{
	void *p = self->mem + first * PAGE;

	return mmap(p, n * PAGE, prot, flags | MAP_FIXED, fd, 0) == p ? 0 : -errno;
}

static int map_new(pins_data *self, unsigned int first, unsigned int n)
{
	return map(self, first, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
}

/* Pages of the whole machine that are pinned. */
static long pinned(void)
{
	static const char *const name[] = { "nr_foll_pin_acquired", "nr_foll_pin_released" };
	long n[2] = {};
	char line[128];
	FILE *f;

	/* Each CPU counts for itself for a while. */
	vt_write_file("/proc/sys/vm/stat_refresh", "1");
	f = fopen("/proc/vmstat", "r");
	while (f && fgets(line, sizeof(line), f))
		for (int i = 0; i < 2; i++)
			if (!strncmp(line, name[i], strlen(name[i])))
				n[i] = atol(line + strlen(name[i]));
	if (f)
		fclose(f);
	return n[0] - n[1];
}

/*
 * The same, but for what others have pinned for a moment. In a test host with Linux 6.12
 * each line of output does that: a write to 9P without a cache pins the page meanwhile.
 */
static long pinned_settled(void)
{
	int64_t end = vt_now_ms() + 10000;
	long n;

	while ((n = pinned()) && vt_now_ms() < end)
		usleep(50000);
	return n;
}

/* A request on page @n of the memory. */
static int page_io(pins_data *self, uint32_t type, unsigned int on_disk, unsigned int n)
{
	return vt_io(self->q, type, SECTOR(on_disk), self->gpa + n * PAGE, PAGE);
}

/* Is page @n of the memory what was read from page @on_disk? */
static bool has(const pins_data *self, unsigned int n, unsigned int on_disk)
{
	return vt_check(self->mem + n * PAGE, PAGE, SEED(on_disk), SECTOR(on_disk)) == -1;
}

/* Is it what a write of page @n of the memory stored there? */
static bool disk_has(pins_data *self, unsigned int on_disk, uint64_t seed)
{
	return vt_io(self->q, IN, SECTOR(on_disk), self->other, PAGE) == OK &&
	       vt_check(vt_ptr(&self->dev.mem, self->other), PAGE, seed, 0) == -1;
}

/* Pages 0 and 1 are read into, 2 and 3 written from. */
static int use(pins_data *self)
{
	for (unsigned int i = 0; i < 3; i++) {
		for (unsigned int n = 0; n < 4; n++) {
			int r = page_io(self, n < 2 ? IN : OUT, n < 2 ? n : 8 + n, n);

			if (r)
				return r;
		}
	}
	return 0;
}

/* After a change: all four of them are what the process sees. */
static void used_anew(struct __test_metadata *_metadata, pins_data *self)
{
	EXPECT_EQ(OK, page_io(self, IN, 4, 0));
	EXPECT_EQ(true, has(self, 0, 4));
	EXPECT_EQ(OK, page_io(self, IN, 5, 1));
	EXPECT_EQ(true, has(self, 1, 5));
	for (unsigned int n = 2; n < 4; n++) {
		vt_fill(self->mem + n * PAGE, PAGE, 77 + n, 0);
		EXPECT_EQ(OK, page_io(self, OUT, 10 + n, n));
		EXPECT_EQ(true, disk_has(self, 10 + n, 77 + n));
	}
}

FIXTURE_SETUP(pins)
{
	uint8_t *p;

	self->disk.fd = -1;
	ASSERT_EQ(0, vt_null_create(&self->disk, "vbtpins", &(struct vt_null_opts) {}));
	ASSERT_EQ(0, vt_dev_init(&self->dev,
				 &(struct vt_opts) { .features = VT_F_BASE | VT_F_EVENT_IDX }));
	self->q = &self->dev.q[0];
	self->gpa = vt_alloc_in(&self->dev.mem, 1, NR_PAGES * PAGE, PAGE);
	self->other = vt_alloc_in(&self->dev.mem, 1, PAGE, PAGE);
	self->mem = vt_dev_ptr(&self->dev.mem, self->gpa);
	p = vt_ptr(&self->dev.mem, self->other);
	ASSERT_EQ(0, map_new(self, 0, NR_PAGES));
	ASSERT_EQ(0, pinned_settled());
	ASSERT_EQ(0, vt_attach(&self->dev, self->disk.fd));
	for (unsigned int n = 0; n < NR_PAGES; n++) {
		vt_fill(p, PAGE, SEED(n), SECTOR(n));
		ASSERT_EQ(OK, vt_io(self->q, OUT, SECTOR(n), self->other, PAGE));
	}
	self->kept = pinned() > 0;
	ASSERT_EQ(0, use(self));
}

FIXTURE_TEARDOWN(pins)
{
	EXPECT_EQ(0, vt_queue_idle(self->q));
	EXPECT_EQ(0, vt_good(self->q));
	EXPECT_EQ(0, vt_detach(&self->dev));
	vt_dev_fini(&self->dev);
	vt_bdev_destroy(&self->disk);
}

/* All kernels that are tested have MMU notifiers. */
TEST_F(pins, kept)
{
	EXPECT_EQ(true, self->kept);
}

TEST_F(pins, replaced)
{
	ASSERT_EQ(0, map_new(self, 0, 4));
	used_anew(_metadata, self);
}

TEST_F(pins, unmapped)
{
	ASSERT_EQ(0, munmap(self->mem, 4 * PAGE));
	for (unsigned int n = 0; n < 4; n++)
		EXPECT_EQ(IOERR, page_io(self, n < 2 ? IN : OUT, 8, n));
	ASSERT_EQ(0, map_new(self, 0, 4));
	used_anew(_metadata, self);
}

/* As a balloon does it. */
TEST_F(pins, discarded)
{
	ASSERT_EQ(0, madvise(self->mem, 4 * PAGE, MADV_DONTNEED));
	used_anew(_metadata, self);
}

/* The same with more than the table of pages has room for. */
TEST_F(pins, discarded_with_much_else)
{
	struct vt_region *r = &self->dev.mem.region[1];

	ASSERT_EQ(0, madvise(r->dev, r->size, MADV_DONTNEED));
	used_anew(_metadata, self);
}

/* As a balloon does it where the memory is shared. */
TEST_F(pins, punched_out)
{
	int fd = memfd_create("vhost-blk-pins", MFD_CLOEXEC);

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, 4 * PAGE));
	ASSERT_EQ(0, map(self, 0, 4, PROT_READ | PROT_WRITE, MAP_SHARED, fd));
	ASSERT_EQ(0, use(self));
	ASSERT_EQ(0, fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4 * PAGE));
	used_anew(_metadata, self);
	ASSERT_EQ(0, ftruncate(fd, 0));
	/* Beyond the end of the file there is no page. */
	EXPECT_EQ(IOERR, page_io(self, IN, 4, 0));
	EXPECT_EQ(IOERR, page_io(self, OUT, 10, 2));
	close(fd);
	ASSERT_EQ(0, map_new(self, 0, 4));
}

TEST_F(pins, moved)
{
	uint8_t *to = self->mem + 8 * PAGE;

	ASSERT_EQ(to, mremap(self->mem, 4 * PAGE, 4 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, to));
	for (unsigned int n = 0; n < 4; n++)
		EXPECT_EQ(IOERR, page_io(self, n < 2 ? IN : OUT, 8, n));
	ASSERT_EQ(0, map_new(self, 0, 4));
	used_anew(_metadata, self);
	/* what was moved is as it was */
	EXPECT_EQ(true, vt_check(to, PAGE, SEED(0), SECTOR(0)) == -1);
	EXPECT_EQ(true, vt_check(to + PAGE, PAGE, SEED(1), SECTOR(1)) == -1);
}

/* What may not be written any more is not, and what was pinned to be read is not either. */
TEST_F(pins, protected)
{
	ASSERT_EQ(0, mprotect(self->mem, 4 * PAGE, PROT_READ));
	EXPECT_EQ(IOERR, page_io(self, IN, 4, 0));
	EXPECT_EQ(true, has(self, 0, 0));
	for (unsigned int i = 0; i < 2; i++)
		EXPECT_EQ(OK, page_io(self, OUT, 10, 2));
	EXPECT_EQ(IOERR, page_io(self, IN, 4, 2));
	EXPECT_EQ(true, self->mem[2 * PAGE] == 0);
	ASSERT_EQ(0, mprotect(self->mem, 4 * PAGE, PROT_READ | PROT_WRITE));
	used_anew(_metadata, self);
	/* The other way round: what was pinned to be written may be read. */
	vt_fill(self->mem, PAGE, 5, 0);
	EXPECT_EQ(OK, page_io(self, OUT, 10, 0));
	EXPECT_EQ(true, disk_has(self, 10, 5));
}

/* A page without content is the kernel's page of zeros until it is written to. */
TEST_F(pins, first_written)
{
	ASSERT_EQ(0, map_new(self, 2, 1));
	for (unsigned int i = 0; i < 2; i++)
		ASSERT_EQ(OK, page_io(self, OUT, 10, 2));
	ASSERT_EQ(OK, vt_io(self->q, IN, SECTOR(10), self->other, PAGE));
	EXPECT_EQ(-1, vt_check_byte(vt_ptr(&self->dev.mem, self->other), PAGE, 0));
	vt_fill(self->mem + 2 * PAGE, PAGE, 9, 0);
	EXPECT_EQ(OK, page_io(self, OUT, 10, 2));
	EXPECT_EQ(true, disk_has(self, 10, 9));
}

/* Neither process sees what is the other's. */
TEST_F(pins, forked)
{
	int pipes[2][2], status;
	char c = 0;
	pid_t child;

	ASSERT_EQ(0, pipe(pipes[0]));
	ASSERT_EQ(0, pipe(pipes[1]));
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		/* It writes first, so that pages it shares become the parent's, or its own. */
		self->mem[PAGE] = 0x55;
		self->mem[3 * PAGE] = 0x55;
		if (write(pipes[0][1], &c, 1) != 1 || read(pipes[1][0], &c, 1) != 1)
			_exit(2);
		_exit(has(self, 0, 0) && self->mem[PAGE] == 0x55 && self->mem[2 * PAGE] == 0 &&
		      self->mem[3 * PAGE] == 0x55 ? 0 : 1);
	}
	ASSERT_EQ(1, read(pipes[0][0], &c, 1));
	used_anew(_metadata, self);
	ASSERT_EQ(1, write(pipes[1][1], &c, 1));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
	used_anew(_metadata, self);
	for (int i = 0; i < 4; i++)
		close(pipes[i / 2][i % 2]);
}

static long number_in(const char *path)
{
	char s[32] = "";
	FILE *f = fopen(path, "r");
	long n = f && fgets(s, sizeof(s), f) ? atol(s) : -1;

	if (f)
		fclose(f);
	return n;
}

/* Pages with the same content become one. */
TEST_F_TIMEOUT(pins, merged, 120)
{
	static const char *const settings[][2] = {
		{ "/sys/kernel/mm/ksm/sleep_millisecs", "5" },
		{ "/sys/kernel/mm/ksm/pages_to_scan", "10000" },
		{ "/sys/kernel/mm/ksm/run", "1" },
	};
	int64_t end = vt_now_ms() + 60000;

	if (number_in("/sys/kernel/mm/ksm/run") < 0)
		SKIP(return, "this kernel does not merge pages");
	ASSERT_EQ(0, madvise(self->mem, NR_PAGES * PAGE, MADV_MERGEABLE));
	for (unsigned int n = 0; n < 8; n++)
		memset(self->mem + n * PAGE, 0x3c, PAGE);
	ASSERT_EQ(0, use(self));
	for (unsigned int n = 0; n < 8; n++)
		memset(self->mem + n * PAGE, 0x3c, PAGE);
	for (unsigned int i = 0; i < ARRAY_SIZE(settings); i++)
		ASSERT_EQ(0, vt_write_file(settings[i][0], settings[i][1]));
	/* All eight: those that were pinned are let go when it comes to them. */
	while (number_in("/sys/kernel/mm/ksm/pages_sharing") < 7 && vt_now_ms() < end)
		usleep(10000);
	EXPECT_LE(7, number_in("/sys/kernel/mm/ksm/pages_sharing"));
	used_anew(_metadata, self);
	for (unsigned int n = 4; n < 8; n++)
		EXPECT_EQ(-1, vt_check_byte(self->mem + n * PAGE, PAGE, 0x3c));
	EXPECT_EQ(0, vt_write_file("/sys/kernel/mm/ksm/run", "2"));
}

/*
 * The page is replaced at any moment of a request. Whichever the request was for, the
 * next one is for what is there then.
 */
TEST_F_TIMEOUT(pins, raced, 300)
{
	srand(17);
	for (unsigned int i = 0; i < vt_loops_to(500, 20000); i++) {
		struct vt_req req = {
			.type = IN, .sector = SECTOR(4), .data = self->gpa, .len = PAGE,
		};
		unsigned int page = 5 + i % 3;

		ASSERT_EQ(0, vt_req_submit(self->q, &req));
		for (volatile int wait = rand() % 20000; wait > 0; wait--)
			;
		ASSERT_EQ(0, i & 1 ? madvise(self->mem, PAGE, MADV_DONTNEED) : map_new(self, 0, 1));
		ASSERT_EQ(0, vt_req_wait(self->q, &req));
		ASSERT_EQ(OK, page_io(self, IN, page, 0));
		ASSERT_EQ(true, has(self, 0, page)) {
			TH_LOG("round %u", i);
		}
	}
}

/*
 * The page is the last of many that are discarded at once. Requests that find it while the
 * others go must not be the reason that it is found afterwards.
 */
TEST_F_TIMEOUT(pins, raced_with_much_else, 300)
{
	const size_t size = 12 * VT_MIB;
	uint64_t gpa = vt_alloc_in(&self->dev.mem, 1, size, PAGE), last = gpa + size - PAGE;
	uint8_t *p = vt_dev_ptr(&self->dev.mem, gpa);
	struct vt_req req[64];

	ASSERT_EQ(p, mmap(p, size, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	for (unsigned int i = 0; i < vt_loops_to(20, 500); i++) {
		unsigned int page = 5 + i % 3;

		memset(p, 1, size);
		for (unsigned int j = 0; j < ARRAY_SIZE(req); j++) {
			req[j] = (struct vt_req) {
				.type = IN, .sector = SECTOR(4), .data = last, .len = PAGE,
			};
			ASSERT_EQ(0, vt_req_submit(self->q, &req[j]));
		}
		ASSERT_EQ(0, madvise(p, size, MADV_DONTNEED));
		ASSERT_EQ(0, vt_wait_all(self->q));
		ASSERT_EQ(OK, vt_io(self->q, IN, SECTOR(page), last, PAGE));
		ASSERT_EQ(-1, vt_check(p + size - PAGE, PAGE, SEED(page), SECTOR(page))) {
			TH_LOG("round %u", i);
		}
	}
}

/* Pages that would have the same place in a table of any size up to 16 MiB, both in flight. */
TEST_F(pins, same_place)
{
	struct vt_region *r = &self->dev.mem.region[1];
	uint64_t far = self->gpa + 16 * VT_MIB;
	struct vt_req req[2];

	ASSERT_GE(r->gpa + r->size, far + PAGE);
	for (unsigned int i = 0; i < 100; i++) {
		for (unsigned int j = 0; j < 2; j++)
			req[j] = (struct vt_req) {
				.type = IN, .sector = SECTOR(4 + (i + j) % 4), .len = PAGE,
				.data = j ? far : self->gpa,
			};
		memset(self->mem, 0, PAGE);
		memset(vt_ptr(&self->dev.mem, far), 0, PAGE);
		ASSERT_EQ(0, vt_req_submit(self->q, &req[0]));
		ASSERT_EQ(0, vt_req_submit(self->q, &req[1]));
		ASSERT_EQ(0, vt_wait_all(self->q));
		ASSERT_EQ(OK, req[0].status);
		ASSERT_EQ(OK, req[1].status);
		ASSERT_EQ(true, has(self, 0, 4 + i % 4));
		ASSERT_EQ(-1, vt_check(vt_ptr(&self->dev.mem, far), PAGE, SEED(4 + (i + 1) % 4),
				       SECTOR(4 + (i + 1) % 4)));
	}
}

/* What has no I/O for a while can be moved and swapped again. */
TEST_F_TIMEOUT(pins, let_go, 60)
{
	int64_t end;

	if (!self->kept)
		SKIP(return, "nothing stays pinned");
	EXPECT_LT(0, pinned());
	EXPECT_EQ(0, pinned_settled());
	/* While it is used it stays. */
	ASSERT_EQ(0, use(self));
	end = vt_now_ms() + 3000;
	while (vt_now_ms() < end) {
		ASSERT_EQ(OK, page_io(self, IN, 4, 0));
		ASSERT_LT(0, pinned());
		usleep(100000);
	}
	used_anew(_metadata, self);
}

TEST_F(pins, let_go_with_the_disk)
{
	EXPECT_EQ(0, vt_detach(&self->dev));
	EXPECT_EQ(0, pinned_settled());
	EXPECT_EQ(0, vt_attach(&self->dev, self->disk.fd));
}

VT_TEST_MAIN
