// SPDX-License-Identifier: GPL-2.0
/*
 * Our dentries beside the lower ones: d_fsdata, and what ->d_revalidate compares.
 */
#include <linux/fs.h>
#include <linux/namei.h>
#include <linux/rcupdate.h>
#include <linux/seqlock.h>
#include "bindings.h"

/**
 * lfs_alias - one of an inode's names that are in memory
 * @inode: the inode
 * @index: which of them
 *
 * As find_acceptable_alias() goes through them, but one at a time: the caller
 * sleeps in between. Names that were removed are passed over.
 *
 * Return: a reference, or NULL where there are not as many.
 */
struct dentry *lfs_alias(struct inode *inode, unsigned int index)
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

/*
 * d_fsdata is the lower dentry, and in its lowest bit whether an operation of
 * ours is changing what the name means. The bit is set before anything changes
 * below, and cleared after our own dentry was moved, dropped or bound, each of
 * which moves its d_seq.
 */
#define LFS_CHANGING_BIT 0
#define LFS_CHANGING (1UL << LFS_CHANGING_BIT)

static struct dentry *lower_part(unsigned long data)
{
	return (struct dentry *)(data & ~LFS_CHANGING);
}

static unsigned long *data_of(const struct dentry *upper)
{
	return (unsigned long *)&upper->d_fsdata;
}

/* The lower dentry, without a reference; NULL when there is none. */
struct dentry *lfs_lower(const struct dentry *upper)
{
	return lower_part(READ_ONCE(*data_of(upper)));
}

/* A reference to what the lower dentry of @upper is now; NULL when there is none. */
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

/* Takes over a reference to @lower; gives back the one to what was there before. */
struct dentry *lfs_set_lower(struct dentry *upper, struct dentry *lower)
{
	unsigned long *data = data_of(upper);
	unsigned long old = READ_ONCE(*data);

	while (!try_cmpxchg_release(data, &old,
				    (unsigned long)lower | (old & LFS_CHANGING)))
		;
	return lower_part(old);
}

void lfs_begin_change(struct dentry *upper)
{
	set_bit(LFS_CHANGING_BIT, data_of(upper));
	/* Before any change below: who sees that sees the bit. */
	smp_mb__after_atomic();
}

void lfs_end_change(struct dentry *upper)
{
	/* After all changes of @upper: who sees no bit sees d_seq moved. */
	clear_bit_unlock(LFS_CHANGING_BIT, data_of(upper));
}

/* Asked after the lower dentry was looked at. */
bool lfs_is_changing(const struct dentry *upper)
{
	smp_rmb();
	return smp_load_acquire(data_of(upper)) & LFS_CHANGING;
}

unsigned int lfs_sequence(const struct dentry *dentry)
{
	return read_seqcount_begin(&dentry->d_seq);
}

bool lfs_sequence_changed(const struct dentry *dentry, unsigned int sequence)
{
	return read_seqcount_retry(&dentry->d_seq, sequence);
}

/*
 * Whether @dentry is hashed, in the directory @dir, under @name. Safe in RCU
 * walk: names and dentries are freed after a grace period, and the sequence
 * count tells a torn read.
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

bool lfs_is_unhashed(const struct dentry *dentry)
{
	return d_unhashed(dentry);
}

bool lfs_has_lost_its_name(const struct dentry *dentry)
{
	return d_unhashed(dentry) && !(dentry->d_flags & DCACHE_OP_REVALIDATE);
}

/*
 * What cannot be stacked on, after ovl_dentry_weird(): a name that a mount may
 * come up at, and a directory whose names are not compared byte by byte. A
 * filesystem that has such directories has hash and compare functions for all
 * names, which do the usual in all others.
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

/* The lower filesystem's own d_revalidate, as ovl_revalidate_real() asks it. */
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

/*
 * What protects the lower object itself, whoever asks: it is immutable, its
 * filesystem is read-only, a security module has its own mind. Safe in RCU walk
 * when @mask has MAY_NOT_BLOCK.
 */
int lfs_lower_permission(struct inode *lower, int mask)
{
	return inode_permission(&nop_mnt_idmap, lower, mask);
}
