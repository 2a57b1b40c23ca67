// SPDX-License-Identifier: GPL-2.0
/*
 * The history's own files: lookups, renames, handles, and the lock of a history.
 */
#include <linux/fs.h>
#include <linux/exportfs.h>
#include <linux/filelock.h>
#include <linux/namei.h>
#include "bindings.h"

/**
 * lfs_store_lookup() - lookup_noperm_unlocked()
 */
struct dentry *lfs_store_lookup(struct dentry *parent, const char *name, unsigned int len)
{
	return lookup_noperm_unlocked(&QSTR_LEN(name, len), parent);
}

/**
 * lfs_store_start_creating() - start_creating_noperm()
 */
struct dentry *lfs_store_start_creating(struct dentry *parent, const char *name,
					unsigned int len)
{
	return start_creating_noperm(parent, &QSTR_LEN(name, len));
}

/**
 * lfs_store_start_removing() - start_removing_noperm()
 */
struct dentry *lfs_store_start_removing(struct dentry *parent, const char *name,
					unsigned int len)
{
	return start_removing_noperm(parent, &QSTR_LEN(name, len));
}

/**
 * lfs_store_rename() - start_renaming(), vfs_rename() and end_renaming()
 *
 * Mirrors filename_renameat2(). Leaves out flags and delegations: only the history
 * uses its files.
 */
int lfs_store_rename(struct dentry *from, const char *from_name, unsigned int from_len,
		     struct dentry *to, const char *to_name, unsigned int to_len)
{
	struct renamedata rd = {
		.mnt_idmap = &nop_mnt_idmap,
		.old_parent = from,
		.new_parent = to,
	};
	int ret = start_renaming(&rd, 0, &QSTR_LEN(from_name, from_len),
				 &QSTR_LEN(to_name, to_len));

	if (ret)
		return ret;
	ret = vfs_rename(&rd);
	end_renaming(&rd);
	return ret;
}

/**
 * lfs_store_is_mount_point() - d_mountpoint()
 */
bool lfs_store_is_mount_point(const struct dentry *dentry)
{
	return d_mountpoint(dentry);
}

/**
 * lfs_store_encode_handle() - exportfs_encode_fh()
 */
int lfs_store_encode_handle(struct dentry *dentry, void *words, int *count)
{
	return exportfs_encode_fh(dentry, words, count, 0);
}

/**
 * lfs_store_lock_file() - flock(2) with LOCK_EX | LOCK_NB
 *
 * Mirrors flock(2). Leaves out security_file_lock(), which concerns the caller.
 * The lock is released with the file.
 */
int lfs_store_lock_file(struct file *file)
{
	struct file_lock *lock = locks_alloc_lock();
	int ret;

	if (!lock)
		return -ENOMEM;
	lock->c.flc_file = file;
	lock->c.flc_owner = file;
	lock->c.flc_pid = task_tgid_nr(current);
	lock->c.flc_flags = FL_FLOCK;
	lock->c.flc_type = F_WRLCK;
	lock->fl_end = OFFSET_MAX;
	if (file->f_op->flock)
		ret = file->f_op->flock(file, F_SETLK, lock);
	else
		ret = locks_lock_file_wait(file, lock);
	locks_free_lock(lock);
	return ret;
}
