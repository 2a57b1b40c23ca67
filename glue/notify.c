// SPDX-License-Identifier: GPL-2.0
/*
 * Other users of a file whose content a revert changes: leases, swap files,
 * watchers. Write access (i_writecount) is in inode.c.
 */
#include <linux/filelock.h>
#include <linux/fs.h>
#include <linux/fsnotify.h>
#include "bindings.h"

/**
 * lfs_has_lease() - whether a lease exists that a write would break
 * @inode: the inode, with write access of the caller
 *
 * Mirrors the test in break_lease() and __break_lease() without breaking the
 * lease. Leaves out pNFS layouts (FL_LAYOUT): break_layout() concerns a file's
 * blocks and is called by the lower filesystem.
 */
bool lfs_has_lease(struct inode *inode)
{
	struct file_lock_context *ctx = locks_inode_context(inode);
	struct file_lease *lease;
	bool found = false;

	if (!ctx)
		return false;
	/* As in break_lease(): pairs with the barrier in generic_add_lease(). */
	smp_mb();
	if (list_empty_careful(&ctx->flc_lease))
		return false;
	spin_lock(&ctx->flc_lock);
	list_for_each_entry(lease, &ctx->flc_lease, c.flc_list) {
		if (!(lease->c.flc_flags & FL_LAYOUT)) {
			found = true;
			break;
		}
	}
	spin_unlock(&ctx->flc_lock);
	return found;
}

/**
 * lfs_break_lease() - break_lease() as for open(2) with O_WRONLY
 *
 * Without @wait as for O_NONBLOCK.
 */
int lfs_break_lease(struct inode *inode, bool wait)
{
	return break_lease(inode, O_WRONLY | (wait ? 0 : O_NONBLOCK));
}

/**
 * lfs_is_swapfile() - IS_SWAPFILE(), a macro
 */
bool lfs_is_swapfile(struct inode *inode)
{
	return IS_SWAPFILE(inode);
}

/**
 * lfs_has_watchers() - fsnotify_sb_has_watchers()
 */
bool lfs_has_watchers(struct super_block *sb)
{
	return fsnotify_sb_has_watchers(sb);
}

/**
 * lfs_notify_changed() - send the events of a change of an object
 * @inode: the object
 * @path: one of its names and a mount; the dentry may be NULL
 * @content: whether the content has changed
 * @attributes: whether attributes have changed
 *
 * Mirrors fsnotify_modify() and fsnotify_change(). FS_MODIFY carries the path,
 * for marks on mounts, unless the name is not below the mount's root; FS_ATTRIB
 * carries the dentry, since notify_change() has no mount. Without a dentry only
 * the inode's marks are notified.
 */
void lfs_notify_changed(struct inode *inode, const struct path *path, bool content,
			bool attributes)
{
	if (!path->dentry) {
		fsnotify_inode(inode, (content ? FS_MODIFY : 0) | (attributes ? FS_ATTRIB : 0));
		return;
	}
	if (content) {
		if (path->mnt && is_subdir(path->dentry, path->mnt->mnt_root))
			fsnotify_path(path, FS_MODIFY);
		else
			fsnotify_dentry(path->dentry, FS_MODIFY);
	}
	if (attributes)
		fsnotify_dentry(path->dentry, FS_ATTRIB);
}
