// SPDX-License-Identifier: GPL-2.0
/*
 * Inodes: locks, sizes, attributes and extents. Most functions call one inline or
 * macro that Rust cannot call. Those for lockdep, lfs_inode_lock_owner(), the
 * copies and comparisons of attributes, and those of extents have code of their
 * own.
 */
#include <linux/fsnotify.h>
#include <linux/lockdep.h>
#include <linux/mm.h>
#include <linux/seqlock.h>
#include "bindings.h"

/**
 * lfs_inode_lock() - inode_lock()
 */
void lfs_inode_lock(struct inode *inode)
{
	inode_lock(inode);
}

/**
 * lfs_inode_unlock() - inode_unlock()
 */
void lfs_inode_unlock(struct inode *inode)
{
	inode_unlock(inode);
}

/**
 * lfs_inode_trylock() - inode_trylock(); for a directory with the class
 *	I_MUTEX_PARENT
 *
 * inode_trylock() has no subclass argument, as inode_lock_nested() has. So the
 * lock is released and acquired again in lockdep's view only.
 */
bool lfs_inode_trylock(struct inode *inode)
{
	if (!inode_trylock(inode))
		return false;
	if (S_ISDIR(inode->i_mode)) {
		rwsem_release(&inode->i_rwsem.dep_map, _RET_IP_);
		rwsem_acquire(&inode->i_rwsem.dep_map, I_MUTEX_PARENT, 1, _RET_IP_);
	}
	return true;
}

/**
 * lfs_inode_lock_killable() - inode_lock_killable()
 */
int lfs_inode_lock_killable(struct inode *inode)
{
	return down_write_killable(&inode->i_rwsem);
}

/**
 * lfs_inode_trylock_apart() - inode_trylock() for one of any number of locks
 * @inode: the inode
 *
 * The locks may be taken in any order, since the task never waits for one of
 * them while holding another. lockdep tracks at most 48 locks of a task, so
 * these are hidden from lockdep, as lockdep_sb_freeze_release() does between
 * freeze_super() and thaw_super().
 */
bool lfs_inode_trylock_apart(struct inode *inode)
{
	if (!inode_trylock(inode))
		return false;
	rwsem_release(&inode->i_rwsem.dep_map, _RET_IP_);
	return true;
}

/**
 * lfs_inode_unlock_apart() - inode_unlock() after lfs_inode_trylock_apart()
 */
void lfs_inode_unlock_apart(struct inode *inode)
{
	rwsem_acquire(&inode->i_rwsem.dep_map, 0, 1, _RET_IP_);
	inode_unlock(inode);
}

/**
 * lfs_inode_show_lock() - make a lock of lfs_inode_trylock_apart() visible to
 *	lockdep
 *
 * For calls that assert that the lock is held (lockdep_assert_held()).
 */
void lfs_inode_show_lock(struct inode *inode, bool as_parent)
{
	rwsem_acquire(&inode->i_rwsem.dep_map, as_parent ? I_MUTEX_PARENT : I_MUTEX_NORMAL, 1,
		      _RET_IP_);
}

/**
 * lfs_inode_hide_lock() - undo lfs_inode_show_lock()
 */
void lfs_inode_hide_lock(struct inode *inode)
{
	rwsem_release(&inode->i_rwsem.dep_map, _RET_IP_);
}

/**
 * lfs_trylock_renames() - mutex_trylock() of s_vfs_rename_mutex, as
 *	lock_rename() locks
 */
bool lfs_trylock_renames(struct super_block *sb)
{
	return mutex_trylock(&sb->s_vfs_rename_mutex);
}

/**
 * lfs_unlock_renames() - undo lfs_trylock_renames()
 */
void lfs_unlock_renames(struct super_block *sb)
{
	mutex_unlock(&sb->s_vfs_rename_mutex);
}

/**
 * lfs_current_id() - the address of current, unique among the live tasks
 */
s64 lfs_current_id(void)
{
	return (unsigned long)current;
}

/**
 * lfs_inode_lock_owner() - the process that holds an inode's lock for writing
 * @inode: the inode
 *
 * Mirrors rwsem_owner_flags(), which is static: while a writer holds the lock,
 * the owner field is the writer's task, with no flag but RWSEM_NONSPINNABLE.
 * The task is freed one RCU grace period after the unlock at the earliest, as
 * rwsem_spin_on_owner() relies on. Leaves out CONFIG_PREEMPT_RT, where the
 * owner is in another field.
 *
 * Return: the process id in the caller's namespace; 0 if unlocked or unknown.
 */
u32 lfs_inode_lock_owner(struct inode *inode)
{
	u32 pid = 0;
#ifndef CONFIG_PREEMPT_RT
	const unsigned long reader = 1, flags = 3;
	unsigned long owner;

	rcu_read_lock();
	owner = atomic_long_read(&inode->i_rwsem.owner);
	if (!(owner & reader) && (owner & ~flags))
		pid = task_tgid_vnr((struct task_struct *)(owner & ~flags));
	rcu_read_unlock();
#endif
	return pid;
}

/**
 * lfs_inode_trylock_shared() - inode_trylock_shared()
 */
bool lfs_inode_trylock_shared(struct inode *inode)
{
	return inode_trylock_shared(inode);
}

/**
 * lfs_inode_unlock_shared() - inode_unlock_shared()
 */
void lfs_inode_unlock_shared(struct inode *inode)
{
	inode_unlock_shared(inode);
}

/**
 * lfs_i_size_read() - i_size_read()
 */
loff_t lfs_i_size_read(const struct inode *inode)
{
	return i_size_read(inode);
}

/**
 * lfs_copy_size() - copy i_size to the upper inode
 *
 * Mirrors the end of ovl_file_modified(). Under i_lock, as lfs_copy_attr(): no
 * other code writes the upper i_size, and i_size_write() needs one writer at a
 * time.
 */
void lfs_copy_size(struct inode *to, struct inode *from)
{
	spin_lock(&to->i_lock);
	i_size_write(to, i_size_read(from));
	spin_unlock(&to->i_lock);
}

/**
 * lfs_has_bmap() - whether the inode has ->bmap
 *
 * Mirrors the check in bmap(). Leaves out the call, so that nothing is mapped.
 */
bool lfs_has_bmap(const struct inode *inode)
{
	return inode->i_mapping->a_ops->bmap;
}

/**
 * lfs_inode_is_new() - whether iget5_locked() has returned a new inode (I_NEW)
 */
bool lfs_inode_is_new(struct inode *inode)
{
	return inode_state_read_once(inode) & I_NEW;
}

#define LFS_COPIED_FLAGS \
	(S_SYNC | S_NOATIME | S_APPEND | S_IMMUTABLE | S_DIRSYNC | S_NOSEC)

/**
 * copy_content_attr() - the part of ovl_copyattr() that a write may change
 *
 * Adds i_blocks and i_flags. S_NOCMTIME: the lower filesystem sets the times.
 */
static void copy_content_attr(struct inode *to, struct inode *from)
{
	inode_set_mtime_to_ts(to, inode_get_mtime(from));
	inode_set_ctime_to_ts(to, inode_get_ctime(from));
	i_size_write(to, i_size_read(from));
	to->i_blocks = from->i_blocks;
	to->i_flags = (to->i_flags & ~LFS_COPIED_FLAGS) |
		      (from->i_flags & LFS_COPIED_FLAGS) | S_NOCMTIME;
}

/**
 * upper_mode() - the mode of the upper inode
 *
 * On a nosuid lower mount a file's set-id bits are cleared: bprm_fill_uid()
 * checks MNT_NOSUID of the upper mount, which may lack the flag. A directory's
 * S_ISGID is kept, since it affects the group of new files only.
 */
static umode_t upper_mode(umode_t mode, umode_t hidden)
{
	return S_ISREG(mode) ? mode & ~hidden : mode;
}

/**
 * lfs_copy_attr() - copy to the upper inode the attributes that the VFS reads
 *	directly
 *
 * Mirrors ovl_copyattr(). Adds i_nlink, i_blocks and i_flags; an orphan has no
 * links.
 */
void lfs_copy_attr(struct inode *to, struct inode *from, bool is_orphan, umode_t hidden)
{
	spin_lock(&to->i_lock);
	to->i_uid = from->i_uid;
	to->i_gid = from->i_gid;
	to->i_mode = upper_mode(from->i_mode, hidden);
	/* An orphan's only links are the history's, which do not count. */
	set_nlink(to, is_orphan ? 0 : from->i_nlink);
	inode_set_atime_to_ts(to, inode_get_atime(from));
	copy_content_attr(to, from);
	spin_unlock(&to->i_lock);
}

/**
 * lfs_attr_differs() - whether lfs_copy_attr() would change the upper inode
 *
 * Mirrors nothing: ovl_copyattr() copies after each change, and a lower inode
 * that others change is unsupported there. Leaves out mtime and i_blocks, since
 * any other change of the lower inode moves ctime. i_size is compared too,
 * since ctime is set before i_size in some filesystems, and two changes within
 * one tick of a coarse clock have the same ctime. Callable in RCU walk.
 */
bool lfs_attr_differs(const struct inode *to, const struct inode *from, bool is_orphan,
			   umode_t hidden)
{
	return to->i_mode != upper_mode(READ_ONCE(from->i_mode), hidden) ||
	       !uid_eq(to->i_uid, from->i_uid) ||
	       !gid_eq(to->i_gid, from->i_gid) ||
	       ((to->i_flags ^ READ_ONCE(from->i_flags)) & LFS_COPIED_FLAGS) ||
	       to->i_nlink != (is_orphan ? 0 : from->i_nlink) ||
	       i_size_read(to) != i_size_read(from) ||
	       to->i_ctime_sec != from->i_ctime_sec ||
	       /* I_CTIME_QUERIED is not part of the time. */
	       ((to->i_ctime_nsec ^ from->i_ctime_nsec) & ~I_CTIME_QUERIED);
}

/**
 * lfs_copy_content_attr() - copy the attributes that a write may change
 *
 * The part of ovl_copyattr() that a write needs. Leaves out owner, mode, links
 * and atime.
 */
void lfs_copy_content_attr(struct inode *to, struct inode *from)
{
	spin_lock(&to->i_lock);
	copy_content_attr(to, from);
	spin_unlock(&to->i_lock);
}

/**
 * lfs_annotate_locks() - set the lockdep class of i_rwsem by stacking depth
 *
 * Mirrors ovl_lockdep_annotate_inode_mutex_key(): the upper inode is locked
 * before the lower one. Leaves out
 * the key of struct ovl_inode's mutex, which has no counterpart here.
 */
void lfs_annotate_locks(struct inode *inode)
{
#ifdef CONFIG_LOCKDEP
	static struct lock_class_key file_key[FILESYSTEM_MAX_STACK_DEPTH];
	static struct lock_class_key dir_key[FILESYSTEM_MAX_STACK_DEPTH];
	int depth = clamp(inode->i_sb->s_stack_depth - 1, 0,
			  FILESYSTEM_MAX_STACK_DEPTH - 1);

	if (S_ISDIR(inode->i_mode))
		lockdep_set_class(&inode->i_rwsem, &dir_key[depth]);
	else
		lockdep_set_class(&inode->i_rwsem, &file_key[depth]);
#endif
}

/**
 * lfs_drop_pages() - truncate_inode_pages_final() if the upper mapping has
 *	pages
 *
 * Mirrors evict() for an inode without ->evict_inode. Leaves out clear_inode(),
 * which the hook calls. Pages belong to the lower mapping, so the upper one is
 * nearly always empty; the check is cheaper than the call.
 */
void lfs_drop_pages(struct inode *inode)
{
	if (!mapping_empty(&inode->i_data))
		truncate_inode_pages_final(&inode->i_data);
}

/**
 * lfs_writably_mapped() - mapping_writably_mapped()
 */
bool lfs_writably_mapped(struct inode *inode)
{
	return mapping_writably_mapped(inode->i_mapping);
}

/**
 * lfs_get_write_access() - get_write_access()
 */
int lfs_get_write_access(struct inode *inode)
{
	return get_write_access(inode);
}

/**
 * lfs_put_write_access() - put_write_access()
 */
void lfs_put_write_access(struct inode *inode)
{
	put_write_access(inode);
}

/**
 * lfs_allow_all_caching() - disable the upper ACL cache
 *
 * Mirrors ovl_fill_inode(): ACLs are cached on the lower inode only.
 */
void lfs_allow_all_caching(struct inode *inode)
{
#ifdef CONFIG_FS_POSIX_ACL
	inode->i_acl = inode->i_default_acl = ACL_DONT_CACHE;
#endif
}

/**
 * lfs_fiemap() - the lower ->fiemap
 *
 * Mirrors ioctl_fiemap(), which is static. Leaves out the copy of the request
 * from user memory, done by the VFS for the upper file.
 */
int lfs_fiemap(struct inode *inode, struct fiemap_extent_info *info, u64 start, u64 len)
{
	if (!inode->i_op->fiemap)
		return -EOPNOTSUPP;
	return inode->i_op->fiemap(inode, info, start, len);
}

/**
 * lfs_count_extents() - count extents by ->fiemap
 *
 * Mirrors FS_IOC_FIEMAP with fm_extent_count of 0, where
 * fiemap_fill_next_extent() only counts. Leaves out FIEMAP_FLAG_SYNC: a count
 * before delayed allocation is enough.
 */
s64 lfs_count_extents(struct inode *inode, u64 start, u64 len)
{
	struct fiemap_extent_info info = {};
	int ret = lfs_fiemap(inode, &info, start, len);

	return ret ?: (s64)info.fi_extents_mapped;
}
