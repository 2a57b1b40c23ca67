// SPDX-License-Identifier: GPL-2.0
/*
 * The dcache and fsnotify updates of vfs_unlink(), vfs_rename() and others, for
 * changes by a revert. The parent directory is locked.
 */
#include <linux/fs.h>
#include <linux/fsnotify.h>
#include <linux/namei.h>
#include <linux/security.h>
#include "bindings.h"

/**
 * lfs_cached_child() - try_lookup_noperm(): the child if cached, else NULL
 */
struct dentry *lfs_cached_child(struct dentry *parent, const char *name, unsigned int len)
{
	return try_lookup_noperm(&QSTR_LEN(name, len), parent);
}

/**
 * lfs_child() - lookup_noperm(): the child, negative if absent
 */
struct dentry *lfs_child(struct dentry *parent, const char *name, unsigned int len)
{
	return lookup_noperm(&QSTR_LEN(name, len), parent);
}

/**
 * lfs_parent() - dget_parent()
 */
struct dentry *lfs_parent(struct dentry *dentry)
{
	return dget_parent(dentry);
}

/**
 * lfs_lookup_same_name() - look up the name of one dentry in another directory
 * @parent: the directory
 * @other: the dentry whose name is looked up
 * @is_locked: whether the caller has locked @parent
 *
 * Mirrors lookup_noperm() and lookup_noperm_unlocked(). The name is a snapshot,
 * since a rename of @other may run concurrently.
 */
struct dentry *lfs_lookup_same_name(struct dentry *parent, struct dentry *other, bool is_locked)
{
	struct name_snapshot name;
	struct dentry *found;

	take_dentry_name_snapshot(&name, other);
	if (is_locked)
		found = lookup_noperm(&QSTR_LEN(name.name.name, name.name.len), parent);
	else
		found = lookup_noperm_unlocked(&QSTR_LEN(name.name.name, name.name.len), parent);
	release_dentry_name_snapshot(&name);
	return found;
}

/**
 * lfs_start_renaming() - start_renaming_dentry() of an upper name
 */
int lfs_start_renaming(struct renamedata *rd, struct dentry *old, const char *name,
		       unsigned int len)
{
	return start_renaming_dentry(rd, 0, old, &QSTR_LEN(name, len));
}

/**
 * lfs_name_removed() - the end of vfs_unlink() and vfs_rmdir()
 *
 * The object is locked. Leaves out detach_mounts(): mount points are refused
 * before.
 */
void lfs_name_removed(struct dentry *dentry)
{
	struct inode *inode = d_inode(dentry);

	if (d_is_dir(dentry)) {
		shrink_dcache_parent(dentry);
		inode->i_flags |= S_DEAD;
	}
	dont_mount(dentry);
	if (!d_is_dir(dentry))
		fsnotify_link_count(inode);
	d_delete_notify(d_inode(dentry->d_parent), dentry);
	d_drop(dentry);
}

/**
 * lfs_name_added() - the end of vfs_create(), vfs_mknod(), vfs_symlink() and
 *	vfs_mkdir()
 */
void lfs_name_added(struct dentry *dentry)
{
	if (d_is_dir(dentry))
		fsnotify_mkdir(d_inode(dentry->d_parent), dentry);
	else
		fsnotify_create(d_inode(dentry->d_parent), dentry);
}

/**
 * lfs_name_linked() - the end of vfs_link()
 */
void lfs_name_linked(struct dentry *dentry, struct inode *inode)
{
	fsnotify_link(d_inode(dentry->d_parent), inode, dentry);
}

/**
 * lfs_name_moved() - the end of vfs_rename(); @target is negative
 *
 * Leaves out the update of a replaced target: reverts never replace.
 */
void lfs_name_moved(struct dentry *dentry, struct dentry *target)
{
	struct inode *from = d_inode(dentry->d_parent);
	struct inode *to = d_inode(target->d_parent);
	struct name_snapshot old;

	take_dentry_name_snapshot(&old, dentry);
	d_move(dentry, target);
	fsnotify_move(from, to, &old.name, d_is_dir(dentry), NULL, dentry);
	release_dentry_name_snapshot(&old);
}

/**
 * lfs_names_exchanged() - the end of vfs_rename() with RENAME_EXCHANGE
 */
void lfs_names_exchanged(struct dentry *a, struct dentry *b)
{
	struct inode *dir_a = d_inode(a->d_parent);
	struct inode *dir_b = d_inode(b->d_parent);
	struct name_snapshot old_a, old_b;

	take_dentry_name_snapshot(&old_a, a);
	take_dentry_name_snapshot(&old_b, b);
	d_exchange(a, b);
	fsnotify_move(dir_a, dir_b, &old_a.name, d_is_dir(a), NULL, a);
	fsnotify_move(dir_b, dir_a, &old_b.name, d_is_dir(b), NULL, b);
	release_dentry_name_snapshot(&old_a);
	release_dentry_name_snapshot(&old_b);
}

/**
 * lfs_clear_dead() - undo the S_DEAD of vfs_rmdir() for a directory that was
 *	restored
 */
void lfs_clear_dead(struct inode *inode)
{
	inode->i_flags &= ~S_DEAD;
}

/**
 * lfs_inode_lock_parent() - inode_lock_nested() with I_MUTEX_PARENT
 */
void lfs_inode_lock_parent(struct inode *inode)
{
	inode_lock_nested(inode, I_MUTEX_PARENT);
}

/**
 * lfs_inode_lock_child() - inode_lock_nested() with I_MUTEX_CHILD
 */
void lfs_inode_lock_child(struct inode *inode)
{
	inode_lock_nested(inode, I_MUTEX_CHILD);
}

/**
 * lfs_may_change_names() - the inode_permission() call of may_create_dentry() and
 *	may_delete_dentry()
 */
int lfs_may_change_names(struct inode *dir)
{
	return inode_permission(&nop_mnt_idmap, dir, MAY_WRITE | MAY_EXEC);
}

/**
 * lfs_path_unlink() - security_path_unlink(), as filename_unlinkat() calls it
 *
 * Of the path hooks only those of unlink, mknod and rename are exported. So a
 * directory's removal is checked as a file's, and a new link as a new file. The
 * parent is locked.
 */
int lfs_path_unlink(struct vfsmount *mnt, struct dentry *dir, struct dentry *child)
{
	struct path path = { .mnt = mnt, .dentry = dir };

	return security_path_unlink(&path, child);
}

/**
 * lfs_path_mknod() - security_path_mknod(), as filename_mknodat() calls it
 */
int lfs_path_mknod(struct vfsmount *mnt, struct dentry *dir, struct dentry *child,
		   struct inode *inode)
{
	struct path path = { .mnt = mnt, .dentry = dir };

	return security_path_mknod(&path, child, inode->i_mode, new_encode_dev(inode->i_rdev));
}

/**
 * lfs_path_rename() - security_path_rename(), as filename_renameat2() calls it
 *
 * @child must be positive. Both parents are locked.
 */
int lfs_path_rename(struct vfsmount *mnt, struct dentry *old_dir, struct dentry *child,
		    struct dentry *new_dir, struct dentry *target, unsigned int flags)
{
	struct path from = { .mnt = mnt, .dentry = old_dir };
	struct path to = { .mnt = mnt, .dentry = new_dir };

	return security_path_rename(&from, child, &to, target, flags);
}
