// SPDX-License-Identifier: GPL-2.0
/*
 * The bugs of the broken module that are committed in C; bugs.rs calls them.
 */
#include <linux/compiler.h>
#include <linux/slab.h>

void broken_shift(void);
void broken_c_use_after_free(void);

/* Shifts by more bits than the number has. */
noinline void broken_shift(void)
{
	int bits = 40;
	int one = 1;

	OPTIMIZER_HIDE_VAR(bits);
	one <<= bits;
	OPTIMIZER_HIDE_VAR(one);
}

/* Reads memory that it gave back. */
noinline void broken_c_use_after_free(void)
{
	char *bytes = kzalloc(256, GFP_KERNEL);

	if (!bytes)
		return;
	OPTIMIZER_HIDE_VAR(bytes);
	kfree(bytes);
	OPTIMIZER_HIDE_VAR(bytes);
	(void)READ_ONCE(bytes[1]);
}
