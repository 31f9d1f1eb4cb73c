// SPDX-License-Identifier: GPL-2.0-only
/*
 * G17: every kind of memory that a guest may be made of, memory that is taken
 * away while requests are in flight, and an owner that is short of it.
 */
#include <sys/mount.h>
#include <sys/swap.h>
#include <sys/sysinfo.h>

#include "vt_test.h"

#define IN	VIRTIO_BLK_T_IN
#define OUT	VIRTIO_BLK_T_OUT
#define OK	VIRTIO_BLK_S_OK
#define IOERR	VIRTIO_BLK_S_IOERR

#define EXTRA_GPA	0x200000000ULL
#define EXTRA_SIZE	(8 * VT_MIB)
#define HUGE_SIZE	(2 * VT_MIB)

FIXTURE(memory) {
	struct vt_dev dev;
	struct vt_queue *q;
	struct vt_bdev disk;	/* made by the test */
	struct vt_bdev lower;	/* below it, if anything */
	uint8_t *extra;		/* memory at EXTRA_GPA */
	int file;		/* what it maps, if anything */
	bool attached;
};

#define memory_data FIXTURE_DATA(memory)

FIXTURE_SETUP(memory)
{
	self->disk.fd = -1;
	self->lower.fd = -1;
	self->file = -1;
	self->extra = MAP_FAILED;
	ASSERT_EQ(0, vt_dev_init(&self->dev,
				 &(struct vt_opts) { .features = VT_F_BASE | VT_F_EVENT_IDX }));
	self->q = &self->dev.q[0];
}

FIXTURE_TEARDOWN(memory)
{
	EXPECT_EQ(0, vt_queue_idle(self->q));
	if (self->attached)
		EXPECT_EQ(0, vt_good(self->q));
	EXPECT_EQ(0, vt_detach(&self->dev));
	vt_dev_fini(&self->dev);
	if (self->extra != MAP_FAILED)
		munmap(self->extra, EXTRA_SIZE);
	if (self->file >= 0)
		close(self->file);
	vt_bdev_destroy(&self->disk);
	vt_bdev_destroy(&self->lower);
}

static int attach(memory_data *self, const struct vt_bdev *disk)
{
	int r = vt_attach(&self->dev, disk->fd);

	self->attached = !r;
	return r;
}

/* Tell the device of self->extra, besides its ordinary memory. */
static int extra_set(memory_data *self)
{
	struct {
		struct vhost_memory head;
		struct vhost_memory_region r[VT_NR_REGIONS + 1];
	} table = { .head.nregions = VT_NR_REGIONS + 1 };

	for (int i = 0; i < VT_NR_REGIONS; i++)
		table.r[i] = (struct vhost_memory_region) {
			.guest_phys_addr = self->dev.mem.region[i].gpa,
			.memory_size = self->dev.mem.region[i].size,
			.userspace_addr = (uintptr_t)self->dev.mem.region[i].dev,
		};
	table.r[VT_NR_REGIONS] = (struct vhost_memory_region) {
		.guest_phys_addr = EXTRA_GPA, .memory_size = EXTRA_SIZE,
		.userspace_addr = (uintptr_t)self->extra,
	};
	return vt_ioctl(self->dev.fd, VHOST_SET_MEM_TABLE, &table, sizeof(table));
}

static int memfd_of(size_t size, unsigned int flags)
{
	int fd = memfd_create("vhost-blk-extra", MFD_CLOEXEC | flags);

	if (fd >= 0 && ftruncate(fd, size)) {
		close(fd);
		return -errno;
	}
	return fd;
}

/* An unlinked file on a file system with a page cache of its own. */
static int file_of(size_t size)
{
	char path[] = "/var/tmp/vhost-blk-XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);

	if (fd < 0)
		return -errno;
	unlink(path);
	return ftruncate(fd, size) ? -errno : fd;
}

/* ---- data goes in and out ---- */

/* Out of one half of the extra memory, into the other. */
static int there_and_back(memory_data *self, size_t at, uint32_t len, uint64_t seed)
{
	const size_t half = EXTRA_SIZE / 2;
	uint8_t *from = self->extra + at, *to = self->extra + half + at;

	vt_fill(from, len, seed, 8);
	memset(to, 0xee, len);
	to[len] = 0xc5;
	if (vt_io(self->q, OUT, 8, EXTRA_GPA + at, len))
		return -EIO;
	if (vt_io(self->q, IN, 8, EXTRA_GPA + half + at, len))
		return -EIO;
	if (vt_check(from, len, seed, 8) >= 0 || vt_check(to, len, seed, 8) >= 0)
		return -EILSEQ;
	return to[len] == 0xc5 ? 0 : -EFAULT;
}

static void all_sizes(struct __test_metadata *_metadata, memory_data *self)
{
	static const struct { size_t at; uint32_t len; } mix[] = {
		{ 0, 512 }, { 512, 4096 }, { 4096, 65536 }, { 1536, 128 << 10 },
		{ HUGE_SIZE - 4096, 8192 }, { 4096, 3 << 20 },
		{ 1, 512 }, { 4095, 65536 }, { HUGE_SIZE - 511, 128 << 10 },
	};

	ASSERT_NE(MAP_FAILED, (void *)self->extra);
	ASSERT_EQ(0, extra_set(self));
	ASSERT_EQ(0, attach(self, &vt_disk));
	for (unsigned int i = 0; i < ARRAY_SIZE(mix); i++) {
		EXPECT_EQ(0, there_and_back(self, mix[i].at, mix[i].len, i)) {
			TH_LOG("%u bytes at %zu", mix[i].len, mix[i].at);
		}
	}
}

static void *map(int fd, int prot, int flags)
{
	return mmap(NULL, EXTRA_SIZE, prot, flags, fd, 0);
}

TEST_F(memory, shared_anonymous)
{
	self->extra = map(-1, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS);
	all_sizes(_metadata, self);
}

TEST_F(memory, private_anonymous)
{
	self->extra = map(-1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
	all_sizes(_metadata, self);
}

/* Pages that were never touched: the zero page out, new pages in. */
TEST_F(memory, untouched)
{
	self->extra = map(-1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
	ASSERT_NE(MAP_FAILED, (void *)self->extra);
	ASSERT_EQ(0, extra_set(self));
	ASSERT_EQ(0, attach(self, &vt_disk));
	EXPECT_EQ(OK, vt_io(self->q, OUT, 0, EXTRA_GPA, VT_MIB));
	EXPECT_EQ(-1, vt_check_byte(self->extra, VT_MIB, 0));
	EXPECT_EQ(0, there_and_back(self, 2 * VT_MIB, VT_MIB, 1));
	EXPECT_EQ(OK, vt_io(self->q, IN, 0, EXTRA_GPA + 7 * VT_MIB, 65536));
	EXPECT_EQ(-1, vt_check_byte(self->extra + 7 * VT_MIB, 4096, 0));
}

static long kib_of(const char *path, const char *key)
{
	char line[128];
	FILE *f = fopen(path, "re");
	long n, most = 0;

	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, key, strlen(key))) {
			n = strtol(line + strlen(key), NULL, 10);
			most = n > most ? n : most;
		}
	if (f)
		fclose(f);
	return most;
}

TEST_F(memory, transparent_huge_pages)
{
	if (access("/sys/kernel/mm/transparent_hugepage/enabled", F_OK))
		SKIP(return, "this kernel has no transparent huge pages");
	self->extra = map(-1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
	ASSERT_EQ(0, madvise(self->extra, EXTRA_SIZE, MADV_HUGEPAGE));
	memset(self->extra, 1, EXTRA_SIZE);
	EXPECT_LT(0, kib_of("/proc/self/smaps", "AnonHugePages:"));
	all_sizes(_metadata, self);
}

TEST_F(memory, hugetlb)
{
	static const char nr[] = "/proc/sys/vm/nr_hugepages";
	long before = 0;

	if (vt_read_long(nr, &before))
		SKIP(return, "this kernel has no hugetlb");
	ASSERT_EQ(0, vt_write_file(nr, "8"));
	self->file = memfd_of(EXTRA_SIZE, MFD_HUGETLB);
	ASSERT_LE(0, self->file);
	self->extra = map(self->file, PROT_READ | PROT_WRITE, MAP_SHARED);
	all_sizes(_metadata, self);
	vt_detach(&self->dev);
	munmap(self->extra, EXTRA_SIZE);
	close(self->file);
	self->extra = MAP_FAILED;
	self->file = -1;
	ASSERT_EQ(0, vt_mem_set(&self->dev.mem, self->dev.fd));
	/* all of them come back: no page is still pinned */
	EXPECT_EQ(8, kib_of("/proc/meminfo", "HugePages_Free:"));
	EXPECT_EQ(0, vt_write_file(nr, "0"));
	ASSERT_EQ(0, attach(self, &vt_disk));
}

TEST_F(memory, shared_file)
{
	self->file = file_of(EXTRA_SIZE);
	ASSERT_LE(0, self->file);
	self->extra = map(self->file, PROT_READ | PROT_WRITE, MAP_SHARED);
	all_sizes(_metadata, self);
	/* what was read arrived in the file, too */
	EXPECT_EQ(0, msync(self->extra, EXTRA_SIZE, MS_SYNC));
}

/* A private mapping of a file: reads go into copies. */
TEST_F(memory, private_file)
{
	static uint8_t buf[65536];

	self->file = file_of(EXTRA_SIZE);
	ASSERT_LE(0, self->file);
	self->extra = map(self->file, PROT_READ | PROT_WRITE, MAP_PRIVATE);
	all_sizes(_metadata, self);
	for (size_t at = 0; at < EXTRA_SIZE; at += sizeof(buf)) {
		ASSERT_EQ((ssize_t)sizeof(buf), pread(self->file, buf, sizeof(buf), at));
		EXPECT_EQ(-1, vt_check_byte(buf, sizeof(buf), 0));
	}
}

/* ROM: it can be written to the disk; a read into it fails and changes nothing. */
static void read_only(struct __test_metadata *_metadata, memory_data *self, int flags)
{
	static uint8_t pattern[4 * 65536], buf[4 * 65536];
	int ro;
	char path[32];

	self->file = file_of(EXTRA_SIZE);
	ASSERT_LE(0, self->file);
	vt_fill(pattern, sizeof(pattern), 17, 0);
	ASSERT_EQ((ssize_t)sizeof(pattern), pwrite(self->file, pattern, sizeof(pattern), 0));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", self->file);
	ro = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, ro);
	self->extra = map(ro, PROT_READ, flags);
	close(ro);
	ASSERT_NE(MAP_FAILED, (void *)self->extra);
	ASSERT_EQ(0, extra_set(self));
	ASSERT_EQ(0, attach(self, &vt_disk));

	for (uint32_t odd = 0; odd < 2; odd++) {
		uint64_t gpa = vt_alloc(&self->dev.mem, 65536);

		/* from the pattern's first sector, or one byte later */
		EXPECT_EQ(OK, vt_io(self->q, OUT, 0, EXTRA_GPA + odd, 65536));
		EXPECT_EQ(OK, vt_io(self->q, IN, 0, gpa, 65536));
		EXPECT_EQ(0, memcmp(pattern + odd, vt_ptr(&self->dev.mem, gpa), 65536));
		EXPECT_EQ(IOERR, vt_io(self->q, IN, 1024, EXTRA_GPA + odd, 4096));
		EXPECT_EQ(IOERR, vt_io(self->q, IN, 1024, EXTRA_GPA + odd, 2 * 65536));
	}
	ASSERT_EQ((ssize_t)sizeof(buf), pread(self->file, buf, sizeof(buf), 0));
	EXPECT_EQ(0, memcmp(pattern, buf, sizeof(buf)));
	EXPECT_EQ(0, memcmp(pattern, self->extra, sizeof(buf)));
}

TEST_F(memory, read_only_file)
{
	read_only(_metadata, self, MAP_SHARED);
}

TEST_F(memory, read_only_private_file)
{
	read_only(_metadata, self, MAP_PRIVATE);
}

/* A file that is shorter than its mapping: SIGBUS for a process, IOERR here. */
TEST_F(memory, beyond_end_of_file)
{
	self->file = file_of(EXTRA_SIZE / 2);
	ASSERT_LE(0, self->file);
	self->extra = map(self->file, PROT_READ | PROT_WRITE, MAP_SHARED);
	ASSERT_NE(MAP_FAILED, (void *)self->extra);
	ASSERT_EQ(0, extra_set(self));
	ASSERT_EQ(0, attach(self, &vt_disk));
	for (uint32_t odd = 0; odd < 2; odd++) {
		uint64_t end = EXTRA_GPA + EXTRA_SIZE / 2 + odd;

		EXPECT_EQ(OK, vt_io(self->q, OUT, 0, end - 65536 - odd, 65536));
		EXPECT_EQ(OK, vt_io(self->q, IN, 0, end - 65536 - odd, 65536));
		EXPECT_EQ(IOERR, vt_io(self->q, OUT, 0, end, 4096));
		EXPECT_EQ(IOERR, vt_io(self->q, IN, 0, end, 4096));
		EXPECT_EQ(IOERR, vt_io(self->q, IN, 0, end - 65536 - odd, VT_MIB));
	}
}

/* ---- memory goes away while a request has it ---- */

#define DELAY_MS	300

/* A disk that moves the data late; null_blk's own delay comes after it has done so. */
static int late_disk(memory_data *self)
{
	int r = vt_null_create(&self->lower, "vbtmem", &(struct vt_null_opts) {});
	char table[96];

	snprintf(table, sizeof(table), "0 65536 delay %s 0 %u", self->lower.path, DELAY_MS);
	return r ?: vt_dm_create(&self->disk, "vbtlate", table);
}

enum take { TAKE_UNMAP, TAKE_REMAP, TAKE_DONTNEED, TAKE_MOVE };

static int take_away(memory_data *self, enum take how, uint8_t **moved)
{
	void *p;

	switch (how) {
	case TAKE_UNMAP:
		return munmap(self->extra, EXTRA_SIZE);
	case TAKE_REMAP:
		p = mmap(self->extra, EXTRA_SIZE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		return p == self->extra ? 0 : -1;
	case TAKE_DONTNEED:
		return madvise(self->extra, EXTRA_SIZE, MADV_DONTNEED);
	case TAKE_MOVE:
		p = mremap(self->extra, EXTRA_SIZE, EXTRA_SIZE, MREMAP_MAYMOVE | MREMAP_FIXED,
			   *moved);
		return p == *moved ? 0 : -1;
	}
	return -1;
}

/*
 * The device keeps the pages that it was given: a write stores what they held,
 * a read ends in them, and not in what has their address meanwhile.
 */
static void taken_in_flight(struct __test_metadata *_metadata, memory_data *self, enum take how)
{
	uint64_t gpa = vt_alloc(&self->dev.mem, 65536);
	struct vt_req out = { .type = OUT, .data = EXTRA_GPA, .len = 65536 };
	struct vt_req in = { .type = IN, .sector = 1024, .data = EXTRA_GPA + VT_MIB, .len = 65536 };
	uint8_t *moved = map(-1, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS);
	bool gone = how == TAKE_UNMAP || how == TAKE_MOVE;

	ASSERT_EQ(0, late_disk(self));
	self->extra = map(-1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS);
	ASSERT_NE(MAP_FAILED, (void *)self->extra);
	ASSERT_EQ(0, extra_set(self));
	ASSERT_EQ(0, attach(self, &self->disk));
	vt_fill(vt_ptr(&self->dev.mem, gpa), 65536, 1, 1024);
	ASSERT_EQ(OK, vt_io(self->q, OUT, 1024, gpa, 65536));

	vt_fill(self->extra, 65536, 2, 0);
	ASSERT_EQ(0, vt_req_submit(self->q, &out));
	ASSERT_EQ(0, vt_req_submit(self->q, &in));
	ASSERT_EQ(0, vt_fetched_wait(self->q));
	ASSERT_EQ(0, take_away(self, how, &moved));
	ASSERT_EQ(1, self->q->used->idx);
	ASSERT_EQ(0, vt_wait_all(self->q));
	EXPECT_EQ(OK, out.status);
	EXPECT_EQ(OK, in.status);

	if (gone)
		EXPECT_EQ(IOERR, vt_io(self->q, OUT, 0, EXTRA_GPA, 4096));
	if (!gone)
		EXPECT_EQ(-1, vt_check_byte(self->extra, EXTRA_SIZE, 0));
	if (how == TAKE_MOVE)
		EXPECT_EQ(-1, vt_check(moved + VT_MIB, 65536, 1, 1024));
	EXPECT_EQ(OK, vt_io(self->q, IN, 0, gpa, 65536));
	EXPECT_EQ(-1, vt_check(vt_ptr(&self->dev.mem, gpa), 65536, 2, 0));
	munmap(moved, EXTRA_SIZE);
	if (gone)
		self->extra = MAP_FAILED;
}

TEST_F(memory, unmapped_in_flight)
{
	taken_in_flight(_metadata, self, TAKE_UNMAP);
}

TEST_F(memory, remapped_in_flight)
{
	taken_in_flight(_metadata, self, TAKE_REMAP);
}

TEST_F(memory, dontneed_in_flight)
{
	taken_in_flight(_metadata, self, TAKE_DONTNEED);
}

TEST_F(memory, moved_in_flight)
{
	taken_in_flight(_metadata, self, TAKE_MOVE);
}

#define MNT	"/tmp/vhost-blk-mem"

/* A file of zeros on a file system of its own, which is on a disk. */
static int file_on_disk(struct vt_bdev *disk)
{
	static const char zeros[65536];
	char cmd[128];
	int r, fd;

	r = vt_null_create(disk, "vbtmemfs", &(struct vt_null_opts) { .mib = 16 });
	if (r)
		return r;
	snprintf(cmd, sizeof(cmd), "PATH=$PATH:/sbin:/usr/sbin mkfs.ext4 -q %s", disk->path);
	mkdir(MNT, 0700);
	vt_modprobe("ext4", "");
	if (system(cmd) || mount(disk->path, MNT, "ext4", 0, NULL))
		return -EIO;
	fd = open(MNT "/file", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd >= 0 && (ftruncate(fd, EXTRA_SIZE) ||
			pwrite(fd, zeros, sizeof(zeros), 0) != sizeof(zeros) || fsync(fd)))
		return -EIO;
	return fd;
}

/*
 * The page cache is written back while a read is on its way into it: it has to
 * be dirty again afterwards, or what was read is gone with the cache.
 */
TEST_F(memory, written_back_in_flight)
{
	struct vt_req in = { .type = IN, .sector = 1024, .data = EXTRA_GPA, .len = 65536 };
	uint64_t gpa = vt_alloc(&self->dev.mem, 65536);
	struct vt_bdev fs = { .fd = -1 };
	uint8_t *p = vt_ptr(&self->dev.mem, gpa);

	self->file = file_on_disk(&fs);
	ASSERT_LE(0, self->file);
	self->extra = map(self->file, PROT_READ | PROT_WRITE, MAP_SHARED);
	ASSERT_NE(MAP_FAILED, (void *)self->extra);
	ASSERT_EQ(0, late_disk(self));
	ASSERT_EQ(0, extra_set(self));
	ASSERT_EQ(0, attach(self, &self->disk));
	vt_fill(p, 65536, 1, 1024);
	ASSERT_EQ(OK, vt_io(self->q, OUT, 1024, gpa, 65536));

	ASSERT_EQ(0, vt_req_submit(self->q, &in));
	ASSERT_EQ(0, vt_fetched_wait(self->q));
	ASSERT_EQ(0, msync(self->extra, 65536, MS_SYNC));
	ASSERT_EQ(1, self->q->used->idx);
	ASSERT_EQ(0, vt_req_wait(self->q, &in));
	EXPECT_EQ(OK, in.status);
	munmap(self->extra, EXTRA_SIZE);
	self->extra = MAP_FAILED;
	ASSERT_EQ(0, vt_mem_set(&self->dev.mem, self->dev.fd));
	ASSERT_EQ(0, fsync(self->file));
	ASSERT_EQ(0, vt_write_file("/proc/sys/vm/drop_caches", "3"));
	ASSERT_EQ(65536, pread(self->file, p, 65536, 0));
	EXPECT_EQ(-1, vt_check(p, 65536, 1, 1024));
	close(self->file);
	self->file = -1;
	EXPECT_EQ(0, umount(MNT));
	vt_bdev_destroy(&fs);
}

/*
 * Again and again, at any moment of a request's life. All of the mappings are
 * of one memfd, so a request that ends with OK has to have brought its data.
 */
TEST_F_TIMEOUT(memory, mapping_races, 300)
{
	struct vt_null_opts opts = { .delay_ns = 200000 };
	struct vt_region *r = &self->dev.mem.region[1];
	struct vt_load load;
	uint8_t *spare = mmap(NULL, r->size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_EQ(0, vt_null_create(&self->disk, "vbtmem", &opts));
	ASSERT_EQ(0, attach(self, &self->disk));
	vt_load_spread(&load, 1, &self->dev, &self->disk);
	load.depth = 16;
	ASSERT_EQ(0, vt_load_start(&load));
	/* the first sweep is not part of the race */
	ASSERT_EQ(0, vt_load_more(&load, 50));
	load.may_fail = true;
	srand(17);
	for (unsigned int n = 0; n < vt_loops_to(200, 5000); n++) {
		switch (rand() % 3) {
		case 0:
			ASSERT_EQ(0, madvise(r->dev, r->size, MADV_DONTNEED));
			break;
		case 1:
			ASSERT_EQ(0, munmap(r->dev, r->size));
			break;
		case 2:
			ASSERT_EQ(spare, mremap(r->dev, r->size, r->size,
						MREMAP_MAYMOVE | MREMAP_FIXED, spare));
			break;
		}
		usleep(rand() % 500);
		ASSERT_EQ(r->dev, mmap(r->dev, r->size, PROT_READ | PROT_WRITE,
				       MAP_SHARED | MAP_FIXED, self->dev.mem.fd, r->offset));
		ASSERT_EQ(0, vt_load_more(&load, 1 + rand() % 8)) {
			TH_LOG("%s", load.what);
		}
	}
	EXPECT_EQ(0, vt_load_stop(&load)) {
		TH_LOG("%s", load.what);
	}
	EXPECT_LT(0, load.nr_failed);
	EXPECT_LT(load.nr_failed, load.nr_done);
	vt_load_free(&load);
	munmap(spare, r->size);
}

/* ---- too little memory ---- */

#define CGROUP		"vhost-blk-mem"
#define GROUP_MIB	10

static int swap_on(struct vt_bdev *swap)
{
	char cmd[128];
	int r = vt_null_create(swap, "vbtswap", &(struct vt_null_opts) { .mib = 128 });

	if (r)
		return r;
	snprintf(cmd, sizeof(cmd), "PATH=$PATH:/sbin:/usr/sbin mkswap %s >/dev/null", swap->path);
	if (system(cmd))
		return -EIO;
	return swapon(swap->path, 0) ? -errno : 0;
}

/*
 * The guest's memory is several times what its group may have: pages go to the
 * swap disk and come back for every request.
 */
static int squeezed_owner(memory_data *self)
{
	struct vt_region *r = &self->dev.mem.region[1];
	struct vt_load load;
	int ret;

	ret = vt_dev_init(&self->dev, &(struct vt_opts) { .features = VT_F_BASE | VT_F_EVENT_IDX });
	ret = ret ?: vt_attach(&self->dev, self->disk.fd);
	if (ret)
		return ret;
	vt_load_spread(&load, 1, &self->dev, &self->disk);
	load.depth = 32;
	ret = vt_load_start(&load);
	for (unsigned int n = 0; !ret && n < vt_loops_to(1, 100); n++) {
		/* the other memory of the guest wants to be in, as well */
		for (size_t at = 12 * VT_MIB; at < r->size; at += 4096)
			self->dev.mem.view[r->offset + at]++;
		ret = vt_load_more(&load, 50);
	}
	ret = vt_load_stop(&load) ?: ret;
	if (ret)
		fprintf(stderr, "# %s\n", load.what);
	return ret ?: vt_detach(&self->dev);
}

/*
 * Reclaim in a page fault, down to the swap disk, with KASAN's larger frames:
 * user-mode Linux does not double its stacks for KASAN as other machines do.
 */
static bool stacks_are_too_small(void)
{
	struct sysinfo info;

	if (access("/proc/exitcode", F_OK))	/* user-mode Linux has that */
		return false;
	sysinfo(&info);
	return kib_of("/proc/meminfo", "KernelStack:") / info.procs < 24;
}

TEST_F_TIMEOUT(memory, small_group_and_swap, 300)
{
	struct vt_bdev swap = { .fd = -1 };
	char text[32];
	int status;
	long n = 0;
	pid_t pid;

	if (stacks_are_too_small())
		SKIP(return, "this kernel's stacks are too small for its sanitizers");
	if (vt_cgroup_create(CGROUP, "memory"))
		SKIP(return, "this kernel has no memory controller");
	ASSERT_EQ(0, swap_on(&swap));
	snprintf(text, sizeof(text), "%lu", GROUP_MIB * VT_MIB);
	ASSERT_EQ(0, vt_cgroup_set(CGROUP, "memory.max", text));
	ASSERT_EQ(0, vt_null_create(&self->disk, "vbtmem", &(struct vt_null_opts) {}));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		vt_dev_fini(&self->dev);
		if (vt_cgroup_set(CGROUP, "cgroup.procs", "0"))
			_exit(1);
		_exit(squeezed_owner(self) ? 2 : 0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(0, vt_cgroup_get(CGROUP, "memory.events", "max ", &n));
	EXPECT_LT(0, n);
	EXPECT_EQ(0, vt_cgroup_get(CGROUP, "memory.events", "oom_kill ", &n));
	EXPECT_EQ(0, n);
	EXPECT_EQ(0, vt_cgroup_remove(CGROUP));
	EXPECT_EQ(0, swapoff(swap.path));
	vt_bdev_destroy(&swap);
	ASSERT_EQ(0, attach(self, &self->disk));
}

VT_TEST_MAIN
