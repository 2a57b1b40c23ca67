// SPDX-License-Identifier: GPL-2.0
/*
 * Access times: the flags of our mount and the file decide, the lower inode
 * keeps them.
 */
#include <linux/fs.h>
#include <linux/mount.h>
#include "bindings.h"

/**
 * lfs_file_accessed - note that a program has read an open file of ours
 * @own: our file
 * @lower: its lower file, which is open with O_NOATIME
 *
 * As ovl_file_accessed(): touch_atime() compares our inode's times, so those
 * that stores through mappings have moved below come first. It ends in
 * ->update_time, that is in lfs_update_atime(). Unlike there, nothing is asked
 * where the lower mount keeps no access times.
 */
void lfs_file_accessed(struct file *own, const struct file *lower)
{
	struct inode *inode = file_inode(own);
	const struct inode *below = file_inode(lower);
	struct timespec64 mtime = inode_get_mtime(below);
	struct timespec64 ctime = inode_get_ctime(below);
	struct timespec64 own_mtime = inode_get_mtime(inode);
	struct timespec64 own_ctime = inode_get_ctime(inode);

	if ((own->f_flags & O_NOATIME) || (lower->f_path.mnt->mnt_flags & MNT_NOATIME))
		return;
	if (!timespec64_equal(&own_mtime, &mtime))
		inode_set_mtime_to_ts(inode, mtime);
	if (!timespec64_equal(&own_ctime, &ctime))
		inode_set_ctime_to_ts(inode, ctime);
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
