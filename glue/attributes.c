// SPDX-License-Identifier: GPL-2.0
/*
 * Inlines, and structures with bit fields, of what is an object's attributes: as
 * helpers.c, without logic.
 */
#include <linux/fs.h>
#include <linux/fileattr.h>
#include <linux/posix_acl.h>
#include "bindings.h"

bool lfs_owner_or_capable(struct inode *inode)
{
	return inode_owner_or_capable(&nop_mnt_idmap, inode);
}

void lfs_put_acl(struct posix_acl *acl)
{
	posix_acl_release(acl);
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
