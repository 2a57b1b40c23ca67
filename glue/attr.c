// SPDX-License-Identifier: GPL-2.0
/*
 * Attributes: checks of the caller's rights, which the kernel makes in static
 * functions or for the upper inode only, and structures with bit fields.
 */
#include <linux/fs.h>
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/fileattr.h>
#include <linux/user_namespace.h>
#include <linux/posix_acl.h>
#include "bindings.h"

/**
 * lfs_owner_or_capable() - inode_owner_or_capable()
 */
bool lfs_owner_or_capable(struct inode *inode)
{
	return inode_owner_or_capable(&nop_mnt_idmap, inode);
}

/**
 * lfs_loses_set_group() - whether an ACL set by the caller clears S_ISGID
 * @inode: the object
 *
 * Mirrors the check in posix_acl_update_mode(): the lower filesystem applies it
 * to the mounter, so the caller is checked here, as in ovl_set_acl().
 */
bool lfs_loses_set_group(struct inode *inode)
{
	return (inode->i_mode & S_ISGID) && !in_group_p(inode->i_gid) &&
	       !capable_wrt_inode_uidgid(&nop_mnt_idmap, inode, CAP_FSETID);
}

/**
 * lfs_set_id_to_drop() - the set-id bits that a change clears
 * @lower: the lower inode
 * @valid: the ATTR_* flags of the change
 *
 * Mirrors do_truncate() and chown_common(), for the lower inode: the upper
 * inode of a nosuid lower mount has no set-id bits. Leaves out capabilities,
 * which the lower notify_change() removes.
 *
 * Return: ATTR_KILL_* flags.
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
 * lfs_drop_set_id() - clear set-id bits that the upper inode does not have
 * @dentry: the upper dentry, whose inode is locked
 * @lower: the lower inode
 *
 * Mirrors file_remove_privs(), which checks the upper inode. Leaves out
 * capabilities, which file_remove_privs() handles.
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
 * lfs_renames_wait() - whether lock_rename() of two directories would block now
 */
bool lfs_renames_wait(struct super_block *sb)
{
	return mutex_is_locked(&sb->s_vfs_rename_mutex);
}

/**
 * lfs_is_executing() - whether the caller is in execve(2)
 *
 * Mirrors the check of current->in_execve in tomoyo_domain().
 */
bool lfs_is_executing(void)
{
	return current->in_execve;
}

/**
 * lfs_may_set_capability() - whether the caller may set file capabilities
 * @inode: the file
 * @value: the raw value of security.capability
 * @size: its size
 *
 * Mirrors cap_convert_nscap(). Leaves out the conversion: the value is the one
 * that the filesystem stores. Capabilities of the initial namespace need
 * CAP_SETFCAP there; those of another namespace's root also may be set if the
 * caller's namespace maps that root.
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
 * lfs_may_be_linked() - whether the caller may add a link to an object
 * @inode: the object
 *
 * Mirrors may_linkat() with fs.protected_hardlinks=1, since the sysctl's
 * variable is static: owners may, and others if they may read and write a
 * regular file without set-id bits. Leaves out the checks of flags in
 * vfs_link().
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
 * lfs_may_have_set_ids() - whether the caller may set a file's present set-id
 *	bits
 * @inode: the file
 *
 * Mirrors setattr_prepare() for chmod(2): S_ISUID needs the owner, S_ISGID also
 * the group or CAP_FSETID. Stricter for a caller with CAP_FOWNER only: for
 * another user's file CAP_FSETID is required, since the owner may have cleared
 * the bits.
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

/**
 * lfs_may_be_made() - the check of CAP_MKNOD in vfs_mknod()
 *
 * Whiteouts need no capability.
 */
bool lfs_may_be_made(struct inode *inode)
{
	if (!S_ISCHR(inode->i_mode) && !S_ISBLK(inode->i_mode))
		return true;
	return IS_WHITEOUT(inode) || capable(CAP_MKNOD);
}

/**
 * lfs_put_acl() - posix_acl_release()
 */
void lfs_put_acl(struct posix_acl *acl)
{
	posix_acl_release(acl);
}

/**
 * lfs_folds_case() - whether FS_CASEFOLD_FL is set (struct file_kattr has bit
 *	fields)
 */
bool lfs_folds_case(const struct file_kattr *fa)
{
	return fa->flags & FS_CASEFOLD_FL;
}

/**
 * lfs_get_flags() - vfs_fileattr_get() into a struct without bit fields
 *
 * Leaves out fsx_nextents, which no caller reads.
 */
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

/**
 * lfs_set_flags() - vfs_fileattr_set() of FS_IOC_SETFLAGS flags
 *
 * Mirrors ioctl_setflags(). Leaves out get_user() and mnt_want_write_file(): the
 * caller has the flags and the write access.
 */
int lfs_set_flags(struct mnt_idmap *idmap, struct dentry *dentry, u32 flags)
{
	struct file_kattr fa = {};

	fileattr_fill_flags(&fa, flags);
	return vfs_fileattr_set(idmap, dentry, &fa);
}

/**
 * lfs_set_xflags() - vfs_fileattr_set() of FS_IOC_FSSETXATTR flags
 *
 * Mirrors ioctl_fssetxattr(). Leaves out the same as lfs_set_flags().
 */
int lfs_set_xflags(struct mnt_idmap *idmap, struct dentry *dentry, const struct lfs_flags *flags)
{
	struct file_kattr fa = {};

	fileattr_fill_xflags(&fa, flags->xflags);
	fa.fsx_extsize = flags->extent_size;
	fa.fsx_projid = flags->project;
	fa.fsx_cowextsize = flags->cow_extent_size;
	return vfs_fileattr_set(idmap, dentry, &fa);
}
