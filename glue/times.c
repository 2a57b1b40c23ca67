// SPDX-License-Identifier: GPL-2.0
/*
 * Access times: the flags of our mount and the file decide, the lower inode
 * keeps them.
 */
#include <linux/fs.h>
#include <linux/mount.h>
#include "bindings.h"

/* Whether stores through mappings have moved the times below. */
static bool times_differ(const struct inode *inode, const struct inode *below)
{
	return inode->i_mtime_sec != below->i_mtime_sec ||
	       inode->i_mtime_nsec != below->i_mtime_nsec ||
	       inode->i_ctime_sec != below->i_ctime_sec ||
	       /* Without the bit that says that the time was queried. */
	       ((inode->i_ctime_nsec ^ below->i_ctime_nsec) & ~I_CTIME_QUERIED);
}

static noinline void copy_times(struct inode *inode, const struct inode *below)
{
	inode_set_mtime_to_ts(inode, inode_get_mtime(below));
	inode_set_ctime_to_ts(inode, inode_get_ctime(below));
}

/**
 * lfs_file_accessed - note that a program has read an open file of ours
 * @own: our file
 * @lower: its lower file, which is open with O_NOATIME
 *
 * As ovl_file_accessed(): touch_atime() compares our inode's times, so those
 * that stores through mappings have moved below come first. It ends in
 * ->update_time, that is in lfs_update_atime(). Unlike there, nothing is asked
 * where the lower mount keeps no access times.
 *
 * Also takes over the lower size: the VFS reads ours before some hooks are
 * called (copy_file_range(2), FIONREAD, a lock from the file's end on).
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
 * lfs_update_atime - set the access time of a lower inode to now
 * @inode: our inode, which gets a copy
 * @mnt: the lower mount
 * @lower: the lower inode
 *
 * As touch_atime() on the lower inode, without asking relatime or strictatime
 * of the lower mount: those of ours were asked. Where the lower mount or inode
 * keeps no access times, none is set. As there, errors are of no interest, and
 * a frozen filesystem is not waited for.
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
