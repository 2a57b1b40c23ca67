// SPDX-License-Identifier: GPL-2.0
/*
 * Inlines and macros that Rust cannot call, and mirrors of static kernel
 * functions: inodes, files, superblocks, tasks, workqueues.
 */
#include <linux/fsnotify.h>
#include <linux/lockdep.h>
#include <linux/mm.h>
#include <linux/namei.h>
#include <linux/pipe_fs_i.h>
#include <linux/seqlock.h>
#include "bindings.h"

/* inodes */

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
 * lfs_i_size_write() - i_size_write()
 */
void lfs_i_size_write(struct inode *inode, loff_t size)
{
	i_size_write(inode, size);
}

/**
 * lfs_has_bmap() - whether the inode has ->bmap
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
void lfs_copy_attr(struct inode *to, struct inode *from, bool is_kept, umode_t hidden)
{
	spin_lock(&to->i_lock);
	to->i_uid = from->i_uid;
	to->i_gid = from->i_gid;
	to->i_mode = upper_mode(from->i_mode, hidden);
	/* An orphan's only links are the history's, which do not count. */
	set_nlink(to, is_kept ? 0 : from->i_nlink);
	inode_set_atime_to_ts(to, inode_get_atime(from));
	copy_content_attr(to, from);
	spin_unlock(&to->i_lock);
}

/**
 * lfs_attr_differs() - whether lfs_copy_attr() would change the upper inode
 *
 * Any other change of the lower inode moves ctime. i_size is compared too,
 * since ctime is set before i_size in some filesystems, and two changes within
 * one tick of a coarse clock have the same ctime. Callable in RCU walk.
 */
bool lfs_attr_differs(const struct inode *to, const struct inode *from, bool is_kept,
			   umode_t hidden)
{
	return to->i_mode != upper_mode(READ_ONCE(from->i_mode), hidden) ||
	       !uid_eq(to->i_uid, from->i_uid) ||
	       !gid_eq(to->i_gid, from->i_gid) ||
	       ((to->i_flags ^ READ_ONCE(from->i_flags)) & LFS_COPIED_FLAGS) ||
	       to->i_nlink != (is_kept ? 0 : from->i_nlink) ||
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
 * For ->evict_inode. Pages belong to the lower mapping, so the upper one is
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
 * As ovl_fill_inode() does: ACLs are cached on the lower inode only.
 */
void lfs_allow_all_caching(struct inode *inode)
{
#ifdef CONFIG_FS_POSIX_ACL
	inode->i_acl = inode->i_default_acl = ACL_DONT_CACHE;
#endif
}

/**
 * init_cached_kiocb() - a synchronous kiocb without IOCB_DIRECT
 *
 * The buffers and ranges of captures and reverts are not aligned to blocks.
 */
static void init_cached_kiocb(struct kiocb *iocb, struct file *file, loff_t at)
{
	init_sync_kiocb(iocb, file);
	iocb->ki_flags &= ~IOCB_DIRECT;
	iocb->ki_pos = at;
}

/**
 * lfs_read_cached() - kernel_read() through the page cache
 *
 * Mirrors __kernel_read(). Uses vfs_iocb_iter_read(), so that O_DIRECT of the
 * file can be ignored.
 */
ssize_t lfs_read_cached(struct file *file, void *buf, size_t len, loff_t at)
{
	struct kvec vec = {
		.iov_base = buf,
		.iov_len = min_t(size_t, len, MAX_RW_COUNT),
	};
	struct iov_iter iter;
	struct kiocb iocb;

	init_cached_kiocb(&iocb, file, at);
	iov_iter_kvec(&iter, ITER_DEST, &vec, 1, vec.iov_len);
	return vfs_iocb_iter_read(file, &iocb, &iter);
}

/**
 * lfs_write_cached() - kernel_write() through the page cache
 *
 * Mirrors kernel_write(). Uses vfs_iocb_iter_write(), so that O_DIRECT of the
 * file can be ignored.
 */
ssize_t lfs_write_cached(struct file *file, const void *buf, size_t len, loff_t at)
{
	struct kvec vec = {
		.iov_base = (void *)buf,
		.iov_len = min_t(size_t, len, MAX_RW_COUNT),
	};
	struct iov_iter iter;
	struct kiocb iocb;

	init_cached_kiocb(&iocb, file, at);
	iov_iter_kvec(&iter, ITER_SOURCE, &vec, 1, vec.iov_len);
	return vfs_iocb_iter_write(file, &iocb, &iter);
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
 * With fi_extents_max of 0 fiemap_fill_next_extent() only counts.
 */
s64 lfs_count_extents(struct inode *inode, u64 start, u64 len)
{
	struct fiemap_extent_info info = {};
	int ret = lfs_fiemap(inode, &info, start, len);

	return ret ?: (s64)info.fi_extents_mapped;
}

/* dentries */

/**
 * lfs_dget() - dget()
 */
struct dentry *lfs_dget(struct dentry *dentry)
{
	return dget(dentry);
}

/**
 * lfs_is_positive() - d_is_positive()
 */
bool lfs_is_positive(const struct dentry *dentry)
{
	return d_is_positive(dentry);
}

/* files */

/**
 * lfs_get_file() - get_file()
 */
struct file *lfs_get_file(struct file *file)
{
	return get_file(file);
}

/**
 * lfs_lower_kiocb() - a synchronous kiocb for the lower file
 *
 * Mirrors the synchronous part of backing_file_read_iter() and
 * backing_file_write_iter(). Leaves out asynchronous I/O: the line of a write
 * is placed when the write has ended.
 */
static void lfs_lower_kiocb(struct kiocb *k, struct kiocb *iocb, struct file *lower)
{
	init_sync_kiocb(k, lower);
	k->ki_pos = iocb->ki_pos;
	k->ki_ioprio = iocb->ki_ioprio;
	k->ki_flags = (k->ki_flags & ~(IOCB_DIRECT | IOCB_APPEND)) |
		      (iocb->ki_flags & (IOCB_DIRECT | IOCB_DSYNC | IOCB_SYNC |
					 IOCB_NOWAIT | IOCB_DONTCACHE));
}

/**
 * may_be_direct() - the check of IOCB_DIRECT in backing_file_read_iter()
 */
static bool may_be_direct(const struct kiocb *iocb, const struct file *lower)
{
	return !(iocb->ki_flags & IOCB_DIRECT) || (lower->f_mode & FMODE_CAN_ODIRECT);
}

/**
 * lfs_read() - read from the lower file
 * @iocb: a read of the upper file
 * @lower: the lower file
 * @iter: the buffer
 *
 * Mirrors backing_file_read_iter(). Calls ->read_iter directly instead of
 * vfs_iocb_iter_read(): that calls rw_verify_area(), hence security modules,
 * with the caller and the mounter's file, and the VFS has called them for the
 * upper file. Unlike overlayfs keeps the caller's credentials: below
 * ->read_iter only the right to reserved blocks is checked, which is the
 * caller's.
 *
 * Return: the number of bytes read, or an errno.
 */
ssize_t lfs_read(struct kiocb *iocb, struct file *lower, struct iov_iter *iter)
{
	struct kiocb k;
	ssize_t ret;

	if (!lower->f_op->read_iter || !may_be_direct(iocb, lower))
		return -EINVAL;
	lfs_lower_kiocb(&k, iocb, lower);
	ret = lower->f_op->read_iter(&k, iter);
	if (ret >= 0)
		fsnotify_access(lower);
	iocb->ki_pos = k.ki_pos;
	lfs_file_accessed(iocb->ki_filp, lower);
	return ret;
}

/**
 * lfs_write() - write to the lower file
 * @iocb: a write to the upper file, whose inode is locked
 * @lower: the lower file
 * @iter: the bytes
 * @waits: whether to wait for pages of the caller's memory
 *
 * Mirrors backing_file_write_iter(). Calls ->write_iter directly and keeps the
 * caller's credentials for the reasons given at lfs_read().
 *
 * Without @waits pagefault_disable() makes the write short (or -EFAULT) at a
 * page that is not resident, as in gfs2_file_buffered_write(), since a journal
 * reservation is held. lfs_fault_in() then faults the page in. A direct write
 * pins pages by get_user_pages(), which pagefault_disable() does not affect.
 *
 * Return: the number of bytes written, or an errno.
 */
ssize_t lfs_write(struct kiocb *iocb, struct file *lower, struct iov_iter *iter, bool waits)
{
	struct kiocb k;
	ssize_t ret;

	if (!lower->f_op->write_iter || !may_be_direct(iocb, lower))
		return -EINVAL;
	lfs_lower_kiocb(&k, iocb, lower);
	k.ki_flags |= IOCB_WRITE;
	file_start_write(lower);
	if (waits || (k.ki_flags & IOCB_DIRECT)) {
		ret = lower->f_op->write_iter(&k, iter);
	} else {
		pagefault_disable();
		ret = lower->f_op->write_iter(&k, iter);
		pagefault_enable();
	}
	if (ret > 0)
		fsnotify_modify(lower);
	file_end_write(lower);
	iocb->ki_pos = k.ki_pos;
	return ret;
}

/**
 * lfs_fault_in() - fault in the first bytes of a write
 * @iocb: a write for which the VFS has called file_start_write() or
 *	kiocb_start_write()
 * @iter: the caller's memory
 * @window: the number of bytes to fault in
 *
 * Mirrors the fault_in_iov_iter_readable() in gfs2_file_buffered_write(). A
 * fault may block forever (FUSE, userfaultfd), so the write access is dropped
 * meanwhile: a freeze must not wait for the fault. The VFS has taken the write
 * access by file_start_write() for a synchronous call, else by
 * kiocb_start_write().
 *
 * A direct write pins the pages itself, and kernel memory is always resident.
 *
 * Return: the number of resident first bytes, at most @window; 0 if no fault is
 * necessary; -EFAULT if the first byte is not accessible.
 */
ssize_t lfs_fault_in(struct kiocb *iocb, struct iov_iter *iter, size_t window)
{
	size_t size = min(iov_iter_count(iter), window);
	size_t missing;

	if ((iocb->ki_flags & IOCB_DIRECT) || !user_backed_iter(iter))
		return 0;
	pagefault_disable();
	/* write(2) has a single buffer; skip the iteration over segments. */
	if (likely(iter_is_ubuf(iter)))
		missing = fault_in_readable(iter->ubuf + iter->iov_offset, size);
	else
		missing = fault_in_iov_iter_readable(iter, size);
	pagefault_enable();
	if (likely(!missing))
		return size;
	if (is_sync_kiocb(iocb))
		file_end_write(iocb->ki_filp);
	else
		kiocb_end_write(iocb);
	missing = fault_in_iov_iter_readable(iter, size);
	if (is_sync_kiocb(iocb))
		file_start_write(iocb->ki_filp);
	else
		kiocb_start_write(iocb);
	return missing != size ? size - missing : -EFAULT;
}

/**
 * lfs_bytes_cut() - iov_iter_truncate(); returns the number of bytes cut off
 */
size_t lfs_bytes_cut(struct iov_iter *iter, size_t count)
{
	size_t all = iov_iter_count(iter);

	iov_iter_truncate(iter, count);
	return all - iov_iter_count(iter);
}

/**
 * lfs_bytes_uncut() - iov_iter_reexpand() by the result of lfs_bytes_cut()
 */
void lfs_bytes_uncut(struct iov_iter *iter, size_t cut)
{
	iov_iter_reexpand(iter, iov_iter_count(iter) + cut);
}

/**
 * lfs_wait_for_pipe() - wait for data in a pipe
 * @pipe: the pipe of a splice to @file
 * @file: an upper file for which the VFS has called file_start_write()
 * @flags: SPLICE_F_NONBLOCK and others
 *
 * Mirrors ipipe_prep(), which is static, with the wait of pipe_wait_readable().
 * Leaves out SIGPIPE, which concerns writers. The write access is dropped while
 * waiting, as in lfs_fault_in().
 *
 * Return: 0 if there is data or no writer, or an errno.
 */
int lfs_wait_for_pipe(struct pipe_inode_info *pipe, struct file *file, unsigned int flags)
{
	int ret;

	if (!pipe_is_empty(pipe) || !READ_ONCE(pipe->writers))
		return 0;
	if (flags & SPLICE_F_NONBLOCK)
		return -EAGAIN;
	file_end_write(file);
	ret = wait_event_interruptible(pipe->rd_wait, !pipe_is_empty(pipe) ||
						      !READ_ONCE(pipe->writers));
	file_start_write(file);
	return ret;
}

/**
 * lfs_splice_write() - splice from a pipe to the lower file
 *
 * Mirrors backing_file_splice_write(). Leaves out override_creds() for the
 * reasons given at lfs_read().
 */
ssize_t lfs_splice_write(struct file *lower, struct pipe_inode_info *pipe,
			 loff_t *pos, size_t len, unsigned int flags)
{
	ssize_t ret;

	if (!lower->f_op->splice_write)
		return -EINVAL;
	file_start_write(lower);
	ret = lower->f_op->splice_write(pipe, lower, pos, len, flags);
	file_end_write(lower);
	return ret;
}

/**
 * lfs_lower_ioctl() - an ioctl of the lower filesystem
 *
 * Mirrors vfs_ioctl(), which is static. Leaves out security_file_ioctl(), which
 * ioctl(2) has called for the upper file. Keeps the caller's credentials, since
 * the lower filesystem checks capabilities (FITRIM).
 */
long lfs_lower_ioctl(struct file *lower, unsigned int command, unsigned long argument)
{
	long ret;

	if (!lower->f_op->unlocked_ioctl)
		return -ENOTTY;
	ret = lower->f_op->unlocked_ioctl(lower, command, argument);
	return ret == -ENOIOCTLCMD ? -ENOTTY : ret;
}

/**
 * lfs_has_dontcache() - whether the lower filesystem has FOP_DONTCACHE
 */
bool lfs_has_dontcache(const struct file *lower)
{
	return lower->f_op->fop_flags & FOP_DONTCACHE;
}

/**
 * lfs_idmap() - mnt_idmap()
 */
struct mnt_idmap *lfs_idmap(struct vfsmount *mnt)
{
	return mnt_idmap(mnt);
}

/* superblocks */

/**
 * lfs_sync_filesystem() - sync_filesystem() with s_umount held for reading
 *
 * Mirrors the body of syncfs(2).
 */
int lfs_sync_filesystem(struct super_block *sb)
{
	int ret;

	down_read(&sb->s_umount);
	ret = sync_filesystem(sb);
	up_read(&sb->s_umount);
	return ret;
}

/**
 * lfs_sync_metadata() - make an inode durable that cannot be opened
 * @sb: the lower filesystem
 * @inode: a symbolic link, device, pipe or socket
 *
 * Mirrors sync_filesystem(). Leaves out writeback_inodes_sb(), so other files'
 * data stay dirty. sync_inode_metadata() writes inodes that the filesystem does
 * not journal; ->sync_fs() then writes the journal.
 */
int lfs_sync_metadata(struct super_block *sb, struct inode *inode)
{
	int ret = sync_inode_metadata(inode, 1);

	if (ret || !sb->s_op->sync_fs)
		return ret;
	down_read(&sb->s_umount);
	ret = sb->s_op->sync_fs(sb, 1);
	up_read(&sb->s_umount);
	return ret;
}

/**
 * lfs_fs_error() - errorf(), a macro
 */
void lfs_fs_error(struct fs_context *fc, const char *sentence)
{
	errorf(fc, "loggerfs: %s", sentence);
}

/**
 * lfs_seq_option() - add an option to /proc/mounts
 *
 * Mirrors seq_show_option(), an inline, for an optional value.
 */
void lfs_seq_option(struct seq_file *seq, const char *name, const char *value)
{
	seq_putc(seq, ',');
	seq_puts(seq, name);
	if (value) {
		seq_putc(seq, '=');
		seq_escape(seq, value, ", \t\n\\");
	}
}

/* tasks */

/**
 * lfs_exe_path() - the path of the caller's executable
 *
 * Mirrors get_task_exe_file() for current, which needs no task lock.
 */
int lfs_exe_path(char *buf, int len, char **path)
{
	struct mm_struct *mm = current->mm;
	struct file *exe = mm ? get_file_active(&mm->exe_file) : NULL;

	if (!exe)
		return -ENOENT;
	*path = d_path(&exe->f_path, buf, len);
	fput(exe);
	return PTR_ERR_OR_ZERO(*path);
}

/**
 * lfs_arguments() - the first bytes of the caller's command line
 *
 * Mirrors get_mm_cmdline(). Uses copy_from_user_nofault(), so callable under
 * any lock; leaves out bytes that are not resident, and setproctitle()'s use of
 * the environment.
 */
int lfs_arguments(char *buf, int len)
{
	struct mm_struct *mm = current->mm;
	unsigned long start, end;

	if (!mm)
		return 0;
	start = READ_ONCE(mm->arg_start);
	end = READ_ONCE(mm->arg_end);
	if (end <= start)
		return 0;
	len = min_t(unsigned long, len, end - start);
	return copy_from_user_nofault(buf, (void __user *)start, len) ? 0 : len;
}

/**
 * lfs_process() - the key of the calling process
 *
 * Changes with exec and setuid. Called at each operation, so only fields of
 * current are read. In the initial user namespace kuid values are uids.
 */
void lfs_process(struct lfs_process *process)
{
	process->start = current->group_leader->start_boottime;
	process->pid = task_tgid_nr(current);
	process->exec = READ_ONCE(current->self_exec_id);
	/* The initial user namespace maps each id to the same number. */
	process->uid = __kuid_val(current_uid());
}

/**
 * lfs_real_time() - convert CLOCK_BOOTTIME to CLOCK_REALTIME
 * @boottime: nanoseconds of CLOCK_BOOTTIME
 *
 * Unlike ktime_mono_to_real() uses the offset of the first call: a process
 * keeps its start time, and thus its identity in the log, if the clock is set
 * later.
 *
 * Return: nanoseconds since the epoch.
 */
u64 lfs_real_time(u64 boottime)
{
	static atomic64_t offset;
	s64 now = ktime_to_ns(ktime_sub(ktime_get_real(), ktime_get_boottime()));

	/* Only the first call sets the offset; 0 means unset. */
	atomic64_cmpxchg(&offset, 0, now);
	return boottime + atomic64_read(&offset);
}

/**
 * lfs_parent_pid() - task_tgid_nr() of the parent, as in proc_pid_status()
 */
int lfs_parent_pid(void)
{
	int pid;

	rcu_read_lock();
	pid = task_tgid_nr(rcu_dereference(current->real_parent));
	rcu_read_unlock();
	return pid;
}

/**
 * lfs_session_id() - task_session_nr_ns() in the initial namespace
 */
int lfs_session_id(void)
{
	return task_session_nr_ns(current, &init_pid_ns);
}

/**
 * lfs_pid_for_caller() - translate a pid of the initial namespace to the
 *	caller's
 */
u32 lfs_pid_for_caller(u32 pid)
{
	u32 found;

	rcu_read_lock();
	found = pid_vnr(find_pid_ns(pid, &init_pid_ns));
	rcu_read_unlock();
	return found;
}

/**
 * lfs_comm() - the comm of the caller's group leader
 *
 * Mirrors get_task_comm(), a macro.
 */
void lfs_comm(char *buf)
{
	strscpy(buf, current->group_leader->comm, TASK_COMM_LEN);
}

/* calls made in a kernel thread */

struct lfs_call {
	struct work_struct work;
	void (*function)(void *argument);
	void *argument;
};

/**
 * lfs_call_work() - work function of lfs_call_on()
 */
static void lfs_call_work(struct work_struct *work)
{
	struct lfs_call *call = container_of(work, struct lfs_call, work);

	call->function(call->argument);
}

/**
 * lfs_call_on() - call a function on a workqueue and wait
 *
 * Mirrors work_on_cpu(). Leaves out the choice of a CPU.
 */
static void lfs_call_on(struct workqueue_struct *wq, void (*function)(void *), void *argument)
{
	struct lfs_call call = { .function = function, .argument = argument };

	INIT_WORK_ONSTACK(&call.work, lfs_call_work);
	queue_work(wq, &call.work);
	flush_work(&call.work);
	destroy_work_on_stack(&call.work);
}

/**
 * lfs_call_on_workqueue() - call a function without the caller's limits
 *
 * In a worker the caller's RLIMIT_FSIZE, signals, quota exemptions and memory
 * cgroup do not apply.
 */
void lfs_call_on_workqueue(void (*function)(void *), void *argument)
{
	lfs_call_on(system_dfl_wq, function, argument);
}

/**
 * lfs_call_on_new_stack() - call a function with a fresh kernel stack
 *
 * On another workqueue than lfs_call_on_workqueue(), which the function may
 * call: otherwise nested calls could occupy all workers.
 */
void lfs_call_on_new_stack(void (*function)(void *), void *argument)
{
	lfs_call_on(system_long_wq, function, argument);
}

/* scope, worker */

/**
 * lfs_copy() - memcpy() by rep movsq
 *
 * Without FSRM the kernel's memcpy() is a loop of moves, which is slower for
 * pages.
 */
void lfs_copy(void *to, const void *from, size_t len)
{
#ifdef CONFIG_X86_64
	size_t words = len / 8;

	asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
	len %= 8;
#endif
	memcpy(to, from, len);
}

/**
 * lfs_nofs_save() - memalloc_nofs_save()
 */
unsigned int lfs_nofs_save(void)
{
	return memalloc_nofs_save();
}

/**
 * lfs_nofs_restore() - memalloc_nofs_restore()
 */
void lfs_nofs_restore(unsigned int flags)
{
	memalloc_nofs_restore(flags);
}

/**
 * lfs_init_work() - INIT_WORK(), a macro
 */
void lfs_init_work(struct work_struct *work, void (*function)(struct work_struct *))
{
	INIT_WORK(work, function);
}

/**
 * lfs_init_delayed_work() - INIT_DELAYED_WORK(), a macro
 */
void lfs_init_delayed_work(struct delayed_work *work,
			   void (*function)(struct work_struct *))
{
	INIT_DELAYED_WORK(work, function);
}

/**
 * lfs_alloc_workqueue() - alloc_workqueue(), a macro
 */
struct workqueue_struct *lfs_alloc_workqueue(const char *name)
{
	/*
	 * Not WQ_MEM_RECLAIM: lower filesystems flush queues without it (xfs when it
	 * is full), which a queue with it must not wait for. Reclaim waits for none
	 * of our work, so no rescuer is needed.
	 */
	return alloc_workqueue("%s", WQ_UNBOUND, 0, name);
}

/**
 * lfs_queue_work() - queue_work()
 */
bool lfs_queue_work(struct workqueue_struct *queue, struct work_struct *work)
{
	return queue_work(queue, work);
}

/**
 * lfs_queue_delayed_work() - queue_delayed_work() with a delay in seconds
 */
bool lfs_queue_delayed_work(struct workqueue_struct *queue, struct delayed_work *work,
			    unsigned int seconds)
{
	return queue_delayed_work(queue, work, secs_to_jiffies(seconds));
}
