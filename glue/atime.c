// SPDX-License-Identifier: GPL-2.0
/*
 * Access times. The flags of the upper mount and inode decide; the lower inode
 * stores the times.
 */
#include <linux/fs.h>
#include <linux/mount.h>
#include "bindings.h"

/**
 * times_differ() - whether writes through mappings have moved the lower times
 */
static bool times_differ(const struct inode *inode, const struct inode *below)
{
	return inode->i_mtime_sec != below->i_mtime_sec ||
	       inode->i_mtime_nsec != below->i_mtime_nsec ||
	       inode->i_ctime_sec != below->i_ctime_sec ||
	       /* Without the bit that says that the time was queried. */
	       ((inode->i_ctime_nsec ^ below->i_ctime_nsec) & ~I_CTIME_QUERIED);
}

/**
 * copy_times() - copy mtime and ctime of the lower inode
 */
static noinline void copy_times(struct inode *inode, const struct inode *below)
{
	inode_set_mtime_to_ts(inode, inode_get_mtime(below));
	inode_set_ctime_to_ts(inode, inode_get_ctime(below));
}

/**
 * lfs_file_accessed() - file_accessed() for an upper file
 * @own: the upper file
 * @lower: its lower file, which is open with O_NOATIME
 *
 * Mirrors ovl_file_accessed(). touch_atime() compares the times of the upper
 * inode (relatime), so mtime and ctime are copied first; it calls
 * ->update_time, hence lfs_update_atime(). Leaves out the call if the lower
 * mount has MNT_NOATIME.
 *
 * Also copies the lower size, which the VFS reads from the upper inode before
 * some hooks (copy_file_range(2), FIONREAD, F_SETLK with SEEK_END).
 */
void lfs_file_accessed(struct file *own, const struct file *lower)
{
	struct inode *inode = file_inode(own);
	const struct inode *below = file_inode(lower);
	loff_t size = i_size_read(below);

	if (unlikely(size != i_size_read(inode)))
		i_size_write(inode, size);
	if ((own->f_flags & O_NOATIME) || (lower->f_path.mnt->mnt_flags & MNT_NOATIME))
		return;
	if (unlikely(times_differ(inode, below)))
		copy_times(inode, below);
	touch_atime(&own->f_path);
}

/**
 * lfs_update_atime() - set the access time of a lower inode to now
 * @inode: the upper inode, which gets a copy
 * @mnt: the lower mount
 * @lower: the lower inode
 *
 * Mirrors touch_atime() on the lower inode. Leaves out relatime and strictatime
 * of the lower mount, since those of the upper mount were checked; noatime and
 * nodiratime apply. As in touch_atime(), errors are ignored and a frozen
 * filesystem is not waited for.
 */
void lfs_update_atime(struct inode *inode, struct vfsmount *mnt, struct inode *lower)
{
	if (IS_NOATIME(lower) || (mnt->mnt_flags & MNT_NOATIME))
		return;
	if (S_ISDIR(lower->i_mode) &&
	    ((lower->i_sb->s_flags & SB_NODIRATIME) || (mnt->mnt_flags & MNT_NODIRATIME)))
		return;
	if (!sb_start_write_trylock(lower->i_sb))
		return;
	if (!mnt_get_write_access(mnt)) {
		if (lower->i_op->update_time)
			lower->i_op->update_time(lower, FS_UPD_ATIME, 0);
		else
			generic_update_time(lower, FS_UPD_ATIME, 0);
		mnt_put_write_access(mnt);
	}
	sb_end_write(lower->i_sb);
	inode_set_atime_to_ts(inode, inode_get_atime(lower));
}
