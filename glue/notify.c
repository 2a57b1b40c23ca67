// SPDX-License-Identifier: GPL-2.0
/*
 * What a change of a file's content owes to other users of the file, where the
 * change does not come through open(2) and write(2): leases are broken, swap
 * files are refused, and watchers are notified. Write access (i_writecount) is
 * in helpers.c.
 */
#include <linux/filelock.h>
#include <linux/fs.h>
#include <linux/fsnotify.h>
#include "bindings.h"

/**
 * lfs_has_lease - whether somebody holds a lease that a write would break
 * @inode: the inode; the caller has its write access
 *
 * Mirrors the test in break_lease() and __break_lease() without breaking
 * anything. pNFS layouts (FL_LAYOUT) are left out: break_layout() is for
 * changes of a file's blocks, and is the lower filesystem's.
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

/* As open(2) for writing breaks leases; with O_NONBLOCK it does not wait for their holders. */
int lfs_break_lease(struct inode *inode, bool wait)
{
	return break_lease(inode, O_WRONLY | (wait ? 0 : O_NONBLOCK));
}

bool lfs_is_swapfile(struct inode *inode)
{
	return IS_SWAPFILE(inode);
}

bool lfs_has_watchers(struct super_block *sb)
{
	return fsnotify_sb_has_watchers(sb);
}

/**
 * lfs_notify_changed - report that an object has changed
 * @inode: the object
 * @path: one of its names, seen through a mount; without a dentry, it has none
 * @content: whether its content has changed
 * @attributes: whether attributes have
 *
 * Mirrors fsnotify_modify() and fsnotify_change(): a change of content is
 * reported with the path, for marks on mounts; one of attributes with the
 * dentry, since notify_change() knows no mount. A name that this mount does not
 * show, and an object without a name, have no event with a path.
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
