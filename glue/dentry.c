// SPDX-License-Identifier: GPL-2.0
/*
 * Dentries: the lower one in d_fsdata, aliases, and the checks of ->d_revalidate
 * and ->permission. Most of it has code of its own: it runs in RCU walk or under
 * spinlocks, on fields that have no accessor.
 */
#include <linux/fs.h>
#include <linux/namei.h>
#include <linux/rcupdate.h>
#include <linux/seqlock.h>
#include "bindings.h"

/**
 * lfs_nth_alias() - one of an inode's hashed aliases
 * @inode: the inode
 * @index: which of them
 *
 * Mirrors find_acceptable_alias(), which visits all aliases; here one per call,
 * since the caller sleeps in between. Leaves out unhashed aliases, which were
 * removed.
 *
 * Return: a reference, or NULL if there are not as many.
 */
struct dentry *lfs_nth_alias(struct inode *inode, unsigned int index)
{
	struct dentry *alias, *found = NULL;

	spin_lock(&inode->i_lock);
	hlist_for_each_entry(alias, &inode->i_dentry, d_alias) {
		if (d_unhashed(alias) || index--)
			continue;
		found = dget(alias);
		break;
	}
	spin_unlock(&inode->i_lock);
	return found;
}

/**
 * lfs_read_link() - vfs_get_link() and do_delayed_call()
 * @link: a positive dentry of a symbolic link
 * @target: where the target goes, without a NUL
 * @room: how many bytes fit there
 *
 * Return: the target's length, or a negative errno.
 */
int lfs_read_link(struct dentry *link, char *target, int room)
{
	DEFINE_DELAYED_CALL(done);
	const char *found = vfs_get_link(link, &done);
	size_t length;

	if (IS_ERR(found))
		return PTR_ERR(found);
	length = strnlen(found, room);
	memcpy(target, found, length);
	do_delayed_call(&done);
	return length;
}

/*
 * d_fsdata holds the lower dentry; its lowest bit is set while an upper
 * operation changes the lower name. The bit is set before the lower change, and
 * cleared after the upper dentry was moved, unhashed or bound, each of which
 * changes d_seq.
 */
#define LFS_CHANGING_BIT 0
#define LFS_CHANGING (1UL << LFS_CHANGING_BIT)

/**
 * lower_part() - the pointer in d_fsdata, without the mark
 */
static struct dentry *lower_part(unsigned long data)
{
	return (struct dentry *)(data & ~LFS_CHANGING);
}

/**
 * data_of() - d_fsdata as a word for bit operations
 */
static unsigned long *data_of(const struct dentry *upper)
{
	return (unsigned long *)&upper->d_fsdata;
}

/**
 * lfs_lower() - the lower dentry, without a reference, or NULL
 */
struct dentry *lfs_lower(const struct dentry *upper)
{
	return lower_part(READ_ONCE(*data_of(upper)));
}

/**
 * lfs_get_lower() - a reference to the present lower dentry, or NULL
 *
 * Mirrors dget_parent(): under RCU, since lfs_set_lower() may run concurrently.
 */
struct dentry *lfs_get_lower(const struct dentry *upper)
{
	struct dentry *lower;

	rcu_read_lock();
	lower = lfs_lower(upper);
	if (lower && !lockref_get_not_dead(&lower->d_lockref))
		lower = NULL;
	rcu_read_unlock();
	return lower;
}

/**
 * lfs_set_lower() - replace the lower dentry
 * @upper: the upper dentry
 * @lower: a reference that passes to @upper
 *
 * Mirrors the assignment to d_fsdata in ecryptfs_set_dentry_lower(). The exchange
 * is atomic, since lfs_get_lower() reads without a lock, and keeps the mark.
 *
 * Return: the old lower dentry, whose reference passes to the caller.
 */
struct dentry *lfs_set_lower(struct dentry *upper, struct dentry *lower)
{
	unsigned long *data = data_of(upper);
	unsigned long old = READ_ONCE(*data);

	while (!try_cmpxchg_release(data, &old,
				    (unsigned long)lower | (old & LFS_CHANGING)))
		;
	return lower_part(old);
}

/**
 * lfs_begin_change() - mark a dentry whose lower name is about to change
 *
 * Mirrors write_seqcount_begin() of d_seq, which d_move() calls only after the
 * lower change. Leaves out the count: the change of d_seq follows.
 */
void lfs_begin_change(struct dentry *upper)
{
	set_bit(LFS_CHANGING_BIT, data_of(upper));
	/*
	 * Orders the bit before the lower change: a reader of the change sees
	 * the bit.
	 */
	smp_mb__after_atomic();
}

/**
 * lfs_end_change() - clear the mark of lfs_begin_change()
 */
void lfs_end_change(struct dentry *upper)
{
	/*
	 * Orders the changes of @upper before the bit: a reader that sees no
	 * bit sees the new d_seq.
	 */
	clear_bit_unlock(LFS_CHANGING_BIT, data_of(upper));
}

/**
 * lfs_is_changing() - whether the mark is set; called after reading the lower
 *	dentry
 */
bool lfs_is_changing(const struct dentry *upper)
{
	smp_rmb();
	return smp_load_acquire(data_of(upper)) & LFS_CHANGING;
}

/**
 * lfs_sequence() - read_seqcount_begin() of d_seq
 */
unsigned int lfs_sequence(const struct dentry *dentry)
{
	return read_seqcount_begin(&dentry->d_seq);
}

/**
 * lfs_sequence_changed() - read_seqcount_retry() of d_seq
 */
bool lfs_sequence_changed(const struct dentry *dentry, unsigned int sequence)
{
	return read_seqcount_retry(&dentry->d_seq, sequence);
}

/**
 * lfs_same_place() - whether a dentry is hashed in a directory under a name
 * @name: the name
 * @dentry: the dentry
 * @dir: the directory, compared only
 *
 * Mirrors the comparison of __d_lookup_rcu(). Callable in RCU walk: names and
 * dentries are freed after a grace period, and d_seq detects a torn read.
 * Leaves out ->d_compare: directories with their own comparison are refused by
 * lfs_is_unsupported().
 */
bool lfs_same_place(const struct qstr *name, const struct dentry *dentry,
		    const struct inode *dir)
{
	const unsigned char *dentry_name;
	unsigned int seq, len;
	bool same;

	rcu_read_lock();
	do {
		seq = read_seqcount_begin(&dentry->d_seq);
		dentry_name = READ_ONCE(dentry->d_name.name);
		len = READ_ONCE(dentry->d_name.len);
		same = !d_unhashed(dentry) && len == name->len &&
		       READ_ONCE(READ_ONCE(dentry->d_parent)->d_inode) == dir;
		if (read_seqcount_retry(&dentry->d_seq, seq))
			continue;
		if (same)
			same = !memcmp(dentry_name, name->name, len);
	} while (read_seqcount_retry(&dentry->d_seq, seq));
	rcu_read_unlock();
	return same;
}

/**
 * lfs_is_unhashed() - d_unhashed()
 */
bool lfs_is_unhashed(const struct dentry *dentry)
{
	return d_unhashed(dentry);
}

/**
 * lfs_has_lost_its_name() - whether a local dentry was unlinked or replaced
 *
 * Mirrors d_unlinked(), also for a root. Leaves out dentries with
 * ->d_revalidate: a remote filesystem also unhashes dentries that it only
 * invalidates.
 */
bool lfs_has_lost_its_name(const struct dentry *dentry)
{
	return d_unhashed(dentry) && !(dentry->d_flags & DCACHE_OP_REVALIDATE);
}

/**
 * lfs_is_unsupported() - whether a dentry cannot be stacked on
 *
 * Mirrors ovl_dentry_weird(): automount points, and directories whose names are
 * not compared byte by byte. A filesystem with casefolding sets hash and
 * compare functions for all dentries, so its directories are checked by
 * IS_CASEFOLDED().
 */
bool lfs_is_unsupported(const struct dentry *dentry)
{
	const struct inode *inode = d_inode(dentry);

	if (!inode)
		return false;
	if (dentry->d_flags & (DCACHE_NEED_AUTOMOUNT | DCACHE_MANAGE_TRANSIT))
		return true;
	if (!d_can_lookup(dentry) && !d_is_file(dentry) && !d_is_symlink(dentry))
		return true;
	if (sb_has_encoding(dentry->d_sb))
		return IS_CASEFOLDED(inode);
	return dentry->d_flags & (DCACHE_OP_HASH | DCACHE_OP_COMPARE);
}

/**
 * lfs_revalidate() - the lower ->d_revalidate
 *
 * Mirrors ovl_revalidate_real(). Leaves out d_invalidate() of the lower dentry:
 * the VFS invalidates the upper one. In RCU walk -ECHILD, since the name
 * snapshot may not be taken there.
 */
int lfs_revalidate(struct dentry *dentry, unsigned int flags)
{
	struct name_snapshot name;
	struct dentry *parent;
	int ret;

	if (!(dentry->d_flags & DCACHE_OP_REVALIDATE))
		return 1;
	if (flags & LOOKUP_RCU)
		return -ECHILD;
	parent = dget_parent(dentry);
	take_dentry_name_snapshot(&name, dentry);
	ret = dentry->d_op->d_revalidate(d_inode(parent), &name.name, dentry, flags);
	release_dentry_name_snapshot(&name);
	dput(parent);
	return ret;
}

/**
 * lfs_lower_permission() - inode_permission() of the lower inode
 *
 * Mirrors ovl_permission(). Leaves out override_creds(), which the caller has
 * called. Checks S_IMMUTABLE, a read-only superblock and
 * security modules. Callable in RCU walk if @mask has MAY_NOT_BLOCK.
 */
int lfs_lower_permission(struct inode *lower, int mask)
{
	return inode_permission(&nop_mnt_idmap, lower, mask);
}
