// SPDX-License-Identifier: GPL-2.0
/*
 * The dcache and notifications after a change of names that came from a revert:
 * what the VFS does after a program's. The directory is locked.
 */
#include <linux/fs.h>
#include <linux/fsnotify.h>
#include <linux/namei.h>
#include <linux/security.h>
#include "bindings.h"

/* The child if it is in the dcache; NULL if not. */
struct dentry *lfs_cached_child(struct dentry *parent, const char *name, unsigned int len)
{
	return try_lookup_noperm(&QSTR_LEN(name, len), parent);
}

/* The child, looked up if it is not in the dcache; negative if there is none. */
struct dentry *lfs_child(struct dentry *parent, const char *name, unsigned int len)
{
	return lookup_noperm(&QSTR_LEN(name, len), parent);
}

struct dentry *lfs_parent(struct dentry *dentry)
{
	return dget_parent(dentry);
}

/* What is called in @parent, locked by the caller or not, as @other is in its own. */
struct dentry *lfs_namesake(struct dentry *parent, struct dentry *other, bool is_locked)
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

/* As vfs_rename() wants it, for two of our own directories. */
int lfs_start_renaming(struct renamedata *rd, struct dentry *old, const char *name,
		       unsigned int len)
{
	return start_renaming_dentry(rd, 0, old, &QSTR_LEN(name, len));
}

/* The end of vfs_unlink() and vfs_rmdir(); the object is locked. */
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

/* The end of vfs_create(), vfs_mkdir() and kin. */
void lfs_name_added(struct dentry *dentry)
{
	if (d_is_dir(dentry))
		fsnotify_mkdir(d_inode(dentry->d_parent), dentry);
	else
		fsnotify_create(d_inode(dentry->d_parent), dentry);
}

/* The end of vfs_link(). */
void lfs_name_linked(struct dentry *dentry, struct inode *inode)
{
	fsnotify_link(d_inode(dentry->d_parent), inode, dentry);
}

/* The end of vfs_rename(); @target is negative. */
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

/* The same, with RENAME_EXCHANGE. */
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

/* A directory that was removed is back. */
void lfs_not_dead(struct inode *inode)
{
	inode->i_flags &= ~S_DEAD;
}

void lfs_inode_lock_parent(struct inode *inode)
{
	inode_lock_nested(inode, I_MUTEX_PARENT);
}

void lfs_inode_lock_child(struct inode *inode)
{
	inode_lock_nested(inode, I_MUTEX_CHILD);
}

int lfs_may_change_names(struct inode *dir)
{
	return inode_permission(&nop_mnt_idmap, dir, MAY_WRITE | MAY_EXEC);
}

/*
 * The hooks that do_unlinkat(), do_mknodat() and do_renameat2() call with the
 * path of the caller, before the VFS's own checks. Those of link(2), rmdir(2),
 * chmod(2) and chown(2) are not exported: a directory's removal is asked as a
 * file's, another name as a new file. Parents are locked.
 */
int lfs_path_unlink(struct vfsmount *mnt, struct dentry *dir, struct dentry *child)
{
	struct path path = { .mnt = mnt, .dentry = dir };

	return security_path_unlink(&path, child);
}

int lfs_path_mknod(struct vfsmount *mnt, struct dentry *dir, struct dentry *child,
		   struct inode *inode)
{
	struct path path = { .mnt = mnt, .dentry = dir };

	return security_path_mknod(&path, child, inode->i_mode, new_encode_dev(inode->i_rdev));
}

/* @child must be positive. */
int lfs_path_rename(struct vfsmount *mnt, struct dentry *old_dir, struct dentry *child,
		    struct dentry *new_dir, struct dentry *target, unsigned int flags)
{
	struct path from = { .mnt = mnt, .dentry = old_dir };
	struct path to = { .mnt = mnt, .dentry = new_dir };

	return security_path_rename(&from, child, &to, target, flags);
}
