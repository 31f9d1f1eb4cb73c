// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * QEMU plugin: which instructions a guest with one CPU executes, by address.
 *
 * usage: -plugin profile.so,out=FILE
 *
 * The guest says when, by three marks: a no-op that compilers do not emit (see mark() in
 * tools/vhost-blk-test/bench/vring_cost.c). What comes between the second and the third
 * counts, less what comes between the first and the second. FILE then has a line for each
 * translated block that ran: its address, and how many instructions of it did.
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <qemu-plugin.h>

/* One each time that QEMU translates it. */
struct block {
	uint64_t address, insns, runs;
	int64_t sum;
	struct block *next;
};

static const uint8_t mark_insn[] = { 0x0f, 0x1f, 0x84, 0x00, 0x76, 0x62, 0x6c, 0x6b };
static const int mark_weight[] = { 1, -2, 1 };

static struct block *blocks;
static unsigned int nr_marks;
static const char *out;

QEMU_PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_VERSION;

static void write_file(void)
{
	FILE *f = fopen(out, "w");

	if (!f) {
		perror(out);
		exit(1);
	}
	for (const struct block *b = blocks; b; b = b->next)
		if (b->sum)
			fprintf(f, "%016" PRIx64 " %" PRId64 "\n", b->address,
				b->sum * (int64_t)b->insns);
	fclose(f);
}

static void mark(unsigned int cpu, void *data)
{
	(void)cpu;
	(void)data;
	if (nr_marks == sizeof(mark_weight) / sizeof(*mark_weight))
		return;
	for (struct block *b = blocks; b; b = b->next)
		b->sum += mark_weight[nr_marks] * (int64_t)b->runs;
	if (++nr_marks == sizeof(mark_weight) / sizeof(*mark_weight))
		write_file();
}

static void run(unsigned int cpu, void *block)
{
	(void)cpu;
	((struct block *)block)->runs++;
}

static bool is_mark(const struct qemu_plugin_insn *insn)
{
	uint8_t bytes[sizeof(mark_insn)];

	if (qemu_plugin_insn_size(insn) != sizeof(bytes))
		return false;
#if QEMU_PLUGIN_VERSION < 3
	memcpy(bytes, qemu_plugin_insn_data(insn), sizeof(bytes));
#else
	qemu_plugin_insn_data(insn, bytes, sizeof(bytes));
#endif
	return !memcmp(bytes, mark_insn, sizeof(bytes));
}

static void translate(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
	struct block *b = calloc(1, sizeof(*b));

	(void)id;
	if (!b)
		abort();
	b->address = qemu_plugin_tb_vaddr(tb);
	b->insns = qemu_plugin_tb_n_insns(tb);
	b->next = blocks;
	blocks = b;
	qemu_plugin_register_vcpu_tb_exec_cb(tb, run, QEMU_PLUGIN_CB_NO_REGS, b);
	for (size_t i = 0; i < b->insns; i++) {
		struct qemu_plugin_insn *insn = qemu_plugin_tb_get_insn(tb, i);

		if (is_mark(insn))
			qemu_plugin_register_vcpu_insn_exec_cb(insn, mark, QEMU_PLUGIN_CB_NO_REGS,
							       NULL);
	}
}

QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int argc,
					   char **argv)
{
	(void)info;
	if (argc != 1 || strncmp(argv[0], "out=", 4)) {
		fprintf(stderr, "profile: give out=FILE\n");
		return -1;
	}
	out = strdup(argv[0] + 4);
	qemu_plugin_register_vcpu_tb_trans_cb(id, translate);
	return 0;
}
