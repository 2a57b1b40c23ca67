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
