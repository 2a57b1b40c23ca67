// SPDX-License-Identifier: GPL-2.0
/*
 * Inlines, and structures with bit fields, of what is an object's attributes: as
 * helpers.c, without logic.
 */
#include <linux/fs.h>
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/fileattr.h>
#include <linux/user_namespace.h>
#include <linux/posix_acl.h>
#include "bindings.h"

bool lfs_owner_or_capable(struct inode *inode)
{
	return inode_owner_or_capable(&nop_mnt_idmap, inode);
}

/**
 * lfs_loses_set_group - whether an ACL that the caller sets takes the setgid bit away
 * @inode: the object
 *
 * As posix_acl_update_mode() asks in the lower filesystem, which sees the
 * mounter there; after the model of ovl_set_acl()'s own check.
 */
bool lfs_loses_set_group(struct inode *inode)
{
	return (inode->i_mode & S_ISGID) && !in_group_p(inode->i_gid) &&
	       !capable_wrt_inode_uidgid(&nop_mnt_idmap, inode, CAP_FSETID);
}

/**
 * lfs_set_id_to_drop - which set-id bits a change takes with it
 * @lower: the lower inode
 * @valid: what is changed
 *
 * As do_truncate() and chown_common() ask, but the lower inode: where set-id
 * bits are hidden from ours, they have found none. Return: ATTR_KILL_* flags.
 */
unsigned int lfs_set_id_to_drop(struct inode *lower, unsigned int valid)
{
	if (!S_ISREG(lower->i_mode) || (valid & ATTR_MODE))
		return 0;
	if (valid & (ATTR_UID | ATTR_GID))
		return setattr_should_drop_sgid(&nop_mnt_idmap, lower);
	if (valid & ATTR_SIZE)
		return setattr_should_drop_suidgid(&nop_mnt_idmap, lower);
	return 0;
}

/**
 * lfs_drop_set_id - take set-id bits that are hidden from our inode away, as a write must
 * @dentry: our dentry, whose inode is locked
 * @lower: the lower inode
 *
 * As file_remove_privs(), which asks our inode. Capabilities are left to that.
 */
int lfs_drop_set_id(struct dentry *dentry, struct inode *lower)
{
	struct iattr attr = { };
	int kill = setattr_should_drop_suidgid(&nop_mnt_idmap, lower);

	if (!kill)
		return 0;
	attr.ia_valid = ATTR_FORCE | kill;
	return notify_change(&nop_mnt_idmap, dentry, &attr, NULL);
}

/**
 * lfs_renames_wait - whether lock_rename() of two directories would wait now
 * @sb: the superblock of both
 */
bool lfs_renames_wait(struct super_block *sb)
{
	return mutex_is_locked(&sb->s_vfs_rename_mutex);
}

/**
 * lfs_is_executing - whether the caller is in execve(2)
 */
bool lfs_is_executing(void)
{
	return current->in_execve;
}

/**
 * lfs_may_set_capability - whether the caller may give a file these capabilities
 * @inode: the file
 * @value: security.capability as the filesystem keeps it
 * @size: its size
 *
 * As cap_convert_nscap(), but for a value that needs no conversion: those that
 * count in the first user namespace are its administrators' to set; those of
 * another one's root, also of who has that one mapped.
 */
bool lfs_may_set_capability(struct inode *inode, const void *value, size_t size)
{
	const struct vfs_ns_cap_data *data = value;

	if (!capable_wrt_inode_uidgid(&nop_mnt_idmap, inode, CAP_SETFCAP))
		return false;
	if (ns_capable(&init_user_ns, CAP_SETFCAP))
		return true;
	return size == XATTR_CAPS_SZ_3 &&
	       kuid_has_mapping(current_user_ns(), KUIDT_INIT(le32_to_cpu(data->rootid)));
}

/**
 * lfs_may_be_linked - whether the caller may give an object one more name
 * @inode: the object
 *
 * As may_linkat() with fs.protected_hardlinks=1: the owner may, and others where
 * they may read and write a plain file that is run with nobody else's rights.
 * Left out is what vfs_link() asks of flags, and the setting itself, which is
 * static there.
 */
bool lfs_may_be_linked(struct inode *inode)
{
	umode_t mode = inode->i_mode;

	if (inode_owner_or_capable(&nop_mnt_idmap, inode))
		return true;
	if (!S_ISREG(mode) || (mode & S_ISUID) ||
	    (mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP))
		return false;
	return !inode_permission(&nop_mnt_idmap, inode, MAY_READ | MAY_WRITE);
}

/**
 * lfs_may_have_set_ids - whether the caller may give a file its set-id bits
 * @inode: the file
 *
 * As setattr_prepare() asks chmod(2): the owner sets S_ISUID, S_ISGID with the
 * group or CAP_FSETID. That one does as the owner (CAP_FOWNER) gives no bits to
 * other users' files without CAP_FSETID, which is more than chmod(2) asks: such
 * a file was taken away, by its owner perhaps.
 */
bool lfs_may_have_set_ids(struct inode *inode)
{
	umode_t mode = inode->i_mode;
	bool group = (mode & (S_ISGID | S_IXGRP)) == (S_ISGID | S_IXGRP);

	if (!S_ISREG(mode) || (!(mode & S_ISUID) && !group))
		return true;
	if (!inode_owner_or_capable(&nop_mnt_idmap, inode))
		return false;
	if (!uid_eq(inode->i_uid, current_fsuid()))
		return capable_wrt_inode_uidgid(&nop_mnt_idmap, inode, CAP_FSETID);
	return !group || in_group_p(inode->i_gid) ||
	       capable_wrt_inode_uidgid(&nop_mnt_idmap, inode, CAP_FSETID);
}

/* As vfs_mknod() asks: whiteouts are anybody's. */
bool lfs_may_be_made(struct inode *inode)
{
	if (!S_ISCHR(inode->i_mode) && !S_ISBLK(inode->i_mode))
		return true;
	return IS_WHITEOUT(inode) || capable(CAP_MKNOD);
}

void lfs_put_acl(struct posix_acl *acl)
{
	posix_acl_release(acl);
}

bool lfs_folds_case(const struct file_kattr *fa)
{
	return fa->flags & FS_CASEFOLD_FL;
}

int lfs_get_flags(struct dentry *dentry, struct lfs_flags *flags)
{
	struct file_kattr fa = {};
	int err = vfs_fileattr_get(dentry, &fa);

	*flags = (struct lfs_flags) {
		.flags = fa.flags,
		.xflags = fa.fsx_xflags,
		.extent_size = fa.fsx_extsize,
		.project = fa.fsx_projid,
		.cow_extent_size = fa.fsx_cowextsize,
	};
	return err;
}

int lfs_set_flags(struct mnt_idmap *idmap, struct dentry *dentry, u32 flags)
{
	struct file_kattr fa = {};

	fileattr_fill_flags(&fa, flags);
	return vfs_fileattr_set(idmap, dentry, &fa);
}

int lfs_set_xflags(struct mnt_idmap *idmap, struct dentry *dentry, const struct lfs_flags *flags)
{
	struct file_kattr fa = {};

	fileattr_fill_xflags(&fa, flags->xflags);
	fa.fsx_extsize = flags->extent_size;
	fa.fsx_projid = flags->project;
	fa.fsx_cowextsize = flags->cow_extent_size;
	return vfs_fileattr_set(idmap, dentry, &fa);
}
