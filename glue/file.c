// SPDX-License-Identifier: GPL-2.0
/*
 * Lower files: reads, writes, splices and ioctls as fs/backing-file.c makes
 * them, and references to dentries and files.
 */
#include <linux/fsnotify.h>
#include <linux/mm.h>
#include <linux/pipe_fs_i.h>
#include "bindings.h"

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

/**
 * lfs_get_file() - get_file()
 */
struct file *lfs_get_file(struct file *file)
{
	return get_file(file);
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
 * Mirrors kernel_read(). Uses vfs_iocb_iter_read(), so that O_DIRECT of the file
 * can be ignored. Leaves out the file's position.
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
 * file can be ignored. Leaves out the file's position.
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
 *
 * Mirrors the check in kiocb_set_rw_flags(), which looks at the upper file.
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
