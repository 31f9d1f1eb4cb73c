/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The last test of a program that uses the test disks; to be included at its end.
 */
FIXTURE(unload) {
	struct vt_bdev disk;
};

/* Any of them: the module is loaded also where all of the above was skipped. */
FIXTURE_SETUP(unload)
{
	ASSERT_EQ(0, vt_test_disk_open(&self->disk, "vtdsecure"));
}

FIXTURE_TEARDOWN(unload)
{
}

/* None of the above has left a reference to a disk. */
TEST_F(unload, disks)
{
	vt_bdev_destroy(&self->disk);
	EXPECT_EQ(0, vt_test_disk_unload());
}
