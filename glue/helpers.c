// SPDX-License-Identifier: GPL-2.0
/*
 * C inlines and macros that Rust cannot call. No logic lives here: each
 * function is the shortest way from a Rust call to the kernel's inline.
 */
#include <linux/fsnotify.h>
#include <linux/lockdep.h>
#include <linux/mm.h>
#include <linux/namei.h>
#include <linux/pipe_fs_i.h>
#include <linux/seqlock.h>
#include "bindings.h"

/* inodes */

void lfs_inode_lock(struct inode *inode)
{
	inode_lock(inode);
}

void lfs_inode_unlock(struct inode *inode)
{
	inode_unlock(inode);
}

/**
 * lfs_inode_trylock() - inode_trylock(), a directory's as that of a parent
 *
 * Which inode_lock_nested() has an argument for, and inode_trylock() has not:
 * lockdep hears of the lock once more.
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

int lfs_inode_lock_killable(struct inode *inode)
{
	return down_write_killable(&inode->i_rwsem);
}

/**
 * lfs_inode_trylock_apart() - inode_trylock() for one of any number of locks
 * @inode: the inode
 *
 * A task that waits for none of them while it has one cannot deadlock, in
 * whatever order it takes them. lockdep has room for 48 locks of a task, so it
 * does not hear of these, as it does not of a freeze's between freeze_super()
 * and thaw_super() (lockdep_sb_freeze_release()).
 */
bool lfs_inode_trylock_apart(struct inode *inode)
{
	if (!inode_trylock(inode))
		return false;
	rwsem_release(&inode->i_rwsem.dep_map, _RET_IP_);
	return true;
}

void lfs_inode_unlock_apart(struct inode *inode)
{
	rwsem_acquire(&inode->i_rwsem.dep_map, 0, 1, _RET_IP_);
	inode_unlock(inode);
}

/* Such a lock, while what asserts that it is held is called. */
void lfs_inode_show_lock(struct inode *inode, bool as_parent)
{
	rwsem_acquire(&inode->i_rwsem.dep_map, as_parent ? I_MUTEX_PARENT : I_MUTEX_NORMAL, 1,
		      _RET_IP_);
}

void lfs_inode_hide_lock(struct inode *inode)
{
	rwsem_release(&inode->i_rwsem.dep_map, _RET_IP_);
}

bool lfs_trylock_renames(struct super_block *sb)
{
	return mutex_trylock(&sb->s_vfs_rename_mutex);
}

void lfs_unlock_renames(struct super_block *sb)
{
	mutex_unlock(&sb->s_vfs_rename_mutex);
}

/* Tells tasks that are alive from each other. */
s64 lfs_current_id(void)
{
	return (unsigned long)current;
}

/**
 * lfs_inode_lock_owner() - which process has an inode's lock for writing
 * @inode: the inode
 *
 * Mirrors rwsem_owner_flags(), which is static: while a writer has the lock,
 * the owner is its task, without flags but RWSEM_NONSPINNABLE. A task that had
 * the lock within this RCU section is freed after it, as in
 * rwsem_spin_on_owner(). An rwsem of PREEMPT_RT keeps its owner elsewhere.
 *
 * Return: its number for the caller; 0 if there is none, or it is not known.
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

bool lfs_inode_trylock_shared(struct inode *inode)
{
	return inode_trylock_shared(inode);
}

void lfs_inode_unlock_shared(struct inode *inode)
{
	inode_unlock_shared(inode);
}

loff_t lfs_i_size_read(const struct inode *inode)
{
	return i_size_read(inode);
}

void lfs_i_size_write(struct inode *inode, loff_t size)
{
	i_size_write(inode, size);
}

bool lfs_has_bmap(const struct inode *inode)
{
	return inode->i_mapping->a_ops->bmap;
}

bool lfs_inode_is_new(struct inode *inode)
{
	return inode_state_read_once(inode) & I_NEW;
}

#define LFS_COPIED_FLAGS \
	(S_SYNC | S_NOATIME | S_APPEND | S_IMMUTABLE | S_DIRSYNC | S_NOSEC)

static void copy_content_attributes(struct inode *to, struct inode *from)
{
	inode_set_mtime_to_ts(to, inode_get_mtime(from));
	inode_set_ctime_to_ts(to, inode_get_ctime(from));
	i_size_write(to, i_size_read(from));
	to->i_blocks = from->i_blocks;
	to->i_flags = (to->i_flags & ~LFS_COPIED_FLAGS) |
		      (from->i_flags & LFS_COPIED_FLAGS) | S_NOCMTIME;
}

/*
 * The mode that our inode has. Where the lower mount is nosuid, a file's set-id
 * bits are hidden from it: bprm_fill_uid() asks our inode, on a mount of ours
 * that may not be nosuid. A directory's decides about groups only.
 */
static umode_t own_mode(umode_t mode, umode_t hidden)
{
	return S_ISREG(mode) ? mode & ~hidden : mode;
}

/* What the VFS reads off our inode itself, after the model of ovl_copyattr(). */
void lfs_copy_attributes(struct inode *to, struct inode *from, bool is_kept, umode_t hidden)
{
	spin_lock(&to->i_lock);
	to->i_uid = from->i_uid;
	to->i_gid = from->i_gid;
	to->i_mode = own_mode(from->i_mode, hidden);
	/* A name of the history's own is none. */
	set_nlink(to, is_kept ? 0 : from->i_nlink);
	inode_set_atime_to_ts(to, inode_get_atime(from));
	copy_content_attributes(to, from);
	spin_unlock(&to->i_lock);
}

/*
 * Whether our inode lacks something of the lower one that the VFS reads off it.
 * Any other change moves the change time; the size may follow that later, and a
 * coarse clock may give two changes one time.
 */
bool lfs_attributes_differ(const struct inode *to, const struct inode *from, bool is_kept,
			   umode_t hidden)
{
	return to->i_mode != own_mode(READ_ONCE(from->i_mode), hidden) ||
	       !uid_eq(to->i_uid, from->i_uid) ||
	       !gid_eq(to->i_gid, from->i_gid) ||
	       ((to->i_flags ^ READ_ONCE(from->i_flags)) & LFS_COPIED_FLAGS) ||
	       to->i_nlink != (is_kept ? 0 : from->i_nlink) ||
	       i_size_read(to) != i_size_read(from) ||
	       to->i_ctime_sec != from->i_ctime_sec ||
	       /* Without the bit that says that the time was queried. */
	       ((to->i_ctime_nsec ^ from->i_ctime_nsec) & ~I_CTIME_QUERIED);
}

/* What a change of the content may have changed of it. */
void lfs_copy_content_attributes(struct inode *to, struct inode *from)
{
	spin_lock(&to->i_lock);
	copy_content_attributes(to, from);
	spin_unlock(&to->i_lock);
}

/* A class for each stacking depth, as overlayfs has: our order is upper, then lower. */
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

/* Of an inode of ours that goes. Pages live in the lower mapping: to look costs less. */
void lfs_drop_pages(struct inode *inode)
{
	if (!mapping_empty(&inode->i_data))
		truncate_inode_pages_final(&inode->i_data);
}

bool lfs_writably_mapped(struct inode *inode)
{
	return mapping_writably_mapped(inode->i_mapping);
}

int lfs_get_write_access(struct inode *inode)
{
	return get_write_access(inode);
}

void lfs_put_write_access(struct inode *inode)
{
	put_write_access(inode);
}

/* ACLs are cached on the lower inode only; O_DIRECT opens need a direct_IO. */
void lfs_allow_all_caching(struct inode *inode)
{
#ifdef CONFIG_FS_POSIX_ACL
	inode->i_acl = inode->i_default_acl = ACL_DONT_CACHE;
#endif
}

/*
 * As kernel_read() and kernel_write(), but through the page cache also where
 * the file is open with O_DIRECT: neither our buffers nor the ranges that we
 * save and put back are aligned to blocks.
 */
static void init_cached_kiocb(struct kiocb *iocb, struct file *file, loff_t at)
{
	init_sync_kiocb(iocb, file);
	iocb->ki_flags &= ~IOCB_DIRECT;
	iocb->ki_pos = at;
}

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

int lfs_fiemap(struct inode *inode, struct fiemap_extent_info *info, u64 start, u64 len)
{
	if (!inode->i_op->fiemap)
		return -EOPNOTSUPP;
	return inode->i_op->fiemap(inode, info, start, len);
}

/* Without room for them they are only counted. */
s64 lfs_count_extents(struct inode *inode, u64 start, u64 len)
{
	struct fiemap_extent_info info = {};
	int ret = lfs_fiemap(inode, &info, start, len);

	return ret ?: (s64)info.fi_extents_mapped;
}

/* dentries */

struct dentry *lfs_dget(struct dentry *dentry)
{
	return dget(dentry);
}

bool lfs_is_positive(const struct dentry *dentry)
{
	return d_is_positive(dentry);
}

/* files */

struct file *lfs_get_file(struct file *file)
{
	return get_file(file);
}

static void lfs_lower_kiocb(struct kiocb *k, struct kiocb *iocb, struct file *lower)
{
	init_sync_kiocb(k, lower);
	k->ki_pos = iocb->ki_pos;
	k->ki_ioprio = iocb->ki_ioprio;
	k->ki_flags = (k->ki_flags & ~(IOCB_DIRECT | IOCB_APPEND)) |
		      (iocb->ki_flags & (IOCB_DIRECT | IOCB_DSYNC | IOCB_SYNC |
					 IOCB_NOWAIT | IOCB_DONTCACHE));
}

/* As backing_file_read_iter() and backing_file_write_iter() ask it. */
static bool may_be_direct(const struct kiocb *iocb, const struct file *lower)
{
	return !(iocb->ki_flags & IOCB_DIRECT) || (lower->f_mode & FMODE_CAN_ODIRECT);
}

/*
 * Synchronous on purpose: the record of a write is placed when it is done. Past
 * vfs_iocb_iter_read() and vfs_iocb_iter_write(): they ask the security modules
 * about the caller and the lower file, which is the mounter's; about the caller
 * and our file the VFS has asked. Beyond that nothing below asks who writes, but
 * whether the caller may use what is reserved: so, other than overlayfs, these
 * calls and lfs_splice_write() keep the caller's credentials.
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
 * @iocb: a write to our file, whose inode is locked
 * @lower: the lower file
 * @iter: the bytes
 * @waits: whether the caller's pages may be waited for
 *
 * Without @waits as gfs2_file_buffered_write() under its glock: a page that
 * would have to be waited for ends the write (fewer bytes, or -EFAULT), since
 * room of the journal is held. lfs_fault_in() brings it. A direct write takes
 * pages by get_user_pages(), which this does not change.
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
 * lfs_fault_in() - see to it that a write finds its first bytes in memory
 * @iocb: a write that the VFS has started (file_start_write() and kin)
 * @iter: memory of the caller
 * @window: how many bytes of it
 *
 * A page that has to be waited for may never come (FUSE, userfaultfd), so the
 * VFS's write access is given back meanwhile: a freeze must not wait for it.
 * It was taken by file_start_write() for a synchronous call, and by
 * kiocb_start_write(), which hides it from lockdep, for another.
 *
 * A direct write takes the pages itself, and memory of the kernel is there.
 *
 * Return: how many of the first bytes are there, as far as @window; 0 if nothing
 * has to be brought; -EFAULT if not one byte can be had.
 */
ssize_t lfs_fault_in(struct kiocb *iocb, struct iov_iter *iter, size_t window)
{
	size_t size = min(iov_iter_count(iter), window);
	size_t missing;

	if ((iocb->ki_flags & IOCB_DIRECT) || !user_backed_iter(iter))
		return 0;
	pagefault_disable();
	/* write(2) has one buffer: without the way through its segments. */
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

/* How many bytes are taken out of @iter's sight, so that @count of them are left. */
size_t lfs_bytes_cut(struct iov_iter *iter, size_t count)
{
	size_t all = iov_iter_count(iter);

	iov_iter_truncate(iter, count);
	return all - iov_iter_count(iter);
}

/* Takes back lfs_bytes_cut(), with what it answered. */
void lfs_bytes_uncut(struct iov_iter *iter, size_t cut)
{
	iov_iter_reexpand(iter, iov_iter_count(iter) + cut);
}

/**
 * lfs_wait_for_pipe() - wait until a pipe has something for a file
 * @pipe: the pipe of a splice to @file
 * @file: a file of ours, for which the VFS has called file_start_write()
 * @flags: SPLICE_F_NONBLOCK and others
 *
 * Mirrors ipipe_prep(), which is static, with the wait of pipe_wait_readable().
 * The write access is given back while it waits, as in lfs_fault_in().
 *
 * Return: 0 (there is something, or no writer is left), or an errno.
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
 * lfs_lower_ioctl - an ioctl of the lower filesystem
 *
 * Mirrors vfs_ioctl(), which is static. Leaves out security_file_ioctl(): the
 * system call has asked it about our file. The caller's credentials stay, since
 * the lower filesystem asks for capabilities of its own (FITRIM).
 */
long lfs_lower_ioctl(struct file *lower, unsigned int command, unsigned long argument)
{
	long ret;

	if (!lower->f_op->unlocked_ioctl)
		return -ENOTTY;
	ret = lower->f_op->unlocked_ioctl(lower, command, argument);
	return ret == -ENOIOCTLCMD ? -ENOTTY : ret;
}

/* Whether the filesystem of @lower answers reads and writes with RWF_DONTCACHE. */
bool lfs_has_dontcache(const struct file *lower)
{
	return lower->f_op->fop_flags & FOP_DONTCACHE;
}

struct mnt_idmap *lfs_idmap(struct vfsmount *mnt)
{
	return mnt_idmap(mnt);
}

/* superblocks */

int lfs_sync_filesystem(struct super_block *sb)
{
	int ret;

	down_read(&sb->s_umount);
	ret = sync_filesystem(sb);
	up_read(&sb->s_umount);
	return ret;
}

/**
 * lfs_sync_metadata - make an inode durable that no file can be opened for
 * @sb: the lower filesystem
 * @inode: a symbolic link, device, pipe or socket of it
 *
 * As sync_filesystem(), without writeback_inodes_sb(): other files' data stay
 * dirty. Inodes that their filesystem does not log are written by
 * sync_inode_metadata(); ->sync_fs() then writes out the log.
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

void lfs_fs_error(struct fs_context *fc, const char *sentence)
{
	errorf(fc, "loggerfs: %s", sentence);
}

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

/* Never faults, so it may be called under any lock; what is not resident is left out. */
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

/* What tells a process from another, and from itself before an exec: asked at each operation. */
void lfs_process(struct lfs_process *process)
{
	process->start = current->group_leader->start_boottime;
	process->pid = task_tgid_nr(current);
	process->exec = READ_ONCE(current->self_exec_id);
	/* The initial user namespace maps each id to itself. */
	process->uid = __kuid_val(current_uid());
}

/**
 * lfs_real_time() - the time of day at a time since boot
 * @boottime: nanoseconds of CLOCK_BOOTTIME
 *
 * By the clock as it was when this was first asked: a process that started
 * then keeps its start time, and so its identity in the log, when the clock is
 * set or the machine was suspended. ktime_mono_to_real(), which asks the clock
 * as it is, would make another process of it.
 *
 * Return: nanoseconds since the epoch.
 */
u64 lfs_real_time(u64 boottime)
{
	static atomic64_t offset;
	s64 now = ktime_to_ns(ktime_sub(ktime_get_real(), ktime_get_boottime()));

	/* The first one holds; 0 is no difference that a clock has. */
	atomic64_cmpxchg(&offset, 0, now);
	return boottime + atomic64_read(&offset);
}

int lfs_parent_pid(void)
{
	int pid;

	rcu_read_lock();
	pid = task_tgid_nr(rcu_dereference(current->real_parent));
	rcu_read_unlock();
	return pid;
}

int lfs_session_id(void)
{
	return task_session_nr_ns(current, &init_pid_ns);
}

u32 lfs_pid_for_caller(u32 pid)
{
	u32 found;

	rcu_read_lock();
	found = pid_vnr(find_pid_ns(pid, &init_pid_ns));
	rcu_read_unlock();
	return found;
}

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

static void lfs_call_work(struct work_struct *work)
{
	struct lfs_call *call = container_of(work, struct lfs_call, work);

	call->function(call->argument);
}

static void lfs_call_on(struct workqueue_struct *wq, void (*function)(void *), void *argument)
{
	struct lfs_call call = { .function = function, .argument = argument };

	INIT_WORK_ONSTACK(&call.work, lfs_call_work);
	queue_work(wq, &call.work);
	flush_work(&call.work);
	destroy_work_on_stack(&call.work);
}

void lfs_call_in_kthread(void (*function)(void *), void *argument)
{
	lfs_call_on(system_dfl_wq, function, argument);
}

/*
 * The function may call lfs_call_in_kthread(): on a workqueue of its own, so that
 * any number of these calls leaves that one's workers free.
 */
void lfs_call_on_new_stack(void (*function)(void *), void *argument)
{
	lfs_call_on(system_long_wq, function, argument);
}

/* scope, worker */

/* As memcpy(), which is a loop of plain moves where the processor has no FSRM. */
void lfs_copy(void *to, const void *from, size_t len)
{
#ifdef CONFIG_X86_64
	size_t words = len / 8;

	asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
	len %= 8;
#endif
	memcpy(to, from, len);
}

unsigned int lfs_nofs_save(void)
{
	return memalloc_nofs_save();
}

void lfs_nofs_restore(unsigned int flags)
{
	memalloc_nofs_restore(flags);
}

void lfs_init_work(struct work_struct *work, void (*function)(struct work_struct *))
{
	INIT_WORK(work, function);
}

void lfs_init_delayed_work(struct delayed_work *work,
			   void (*function)(struct work_struct *))
{
	INIT_DELAYED_WORK(work, function);
}

struct workqueue_struct *lfs_alloc_workqueue(const char *name)
{
	/*
	 * Not WQ_MEM_RECLAIM: lower filesystems flush queues without it (xfs when it
	 * is full), which a queue with it must not wait for. Reclaim waits for none
	 * of our work, so no rescuer is needed.
	 */
	return alloc_workqueue("%s", WQ_UNBOUND, 0, name);
}

bool lfs_queue_work(struct workqueue_struct *queue, struct work_struct *work)
{
	return queue_work(queue, work);
}

bool lfs_queue_delayed_work(struct workqueue_struct *queue, struct delayed_work *work,
			    unsigned int seconds)
{
	return queue_delayed_work(queue, work, secs_to_jiffies(seconds));
}
