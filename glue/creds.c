// SPDX-License-Identifier: GPL-2.0
/*
 * Credentials: macros and inlines, and copies of the mounter's credentials for
 * a caller.
 */
#include <linux/cred.h>
#include <linux/security.h>
#include "bindings.h"

/**
 * lfs_kernel_cred() - kernel_cred(), a macro
 */
const struct cred *lfs_kernel_cred(void)
{
	return kernel_cred();
}

/**
 * lfs_current_cred() - current_cred(), a macro
 */
const struct cred *lfs_current_cred(void)
{
	return current_cred();
}

/**
 * lfs_override_creds() - override_creds()
 */
const struct cred *lfs_override_creds(const struct cred *cred)
{
	return override_creds(cred);
}

/**
 * lfs_revert_creds() - revert_creds()
 */
void lfs_revert_creds(const struct cred *cred)
{
	revert_creds(cred);
}

/**
 * lfs_may_exceed() - whether the caller may use reserved blocks
 *
 * Mirrors capable(CAP_SYS_RESOURCE), which ext4 and quotas check. Leaves out
 * the audit record, since a negative result refuses nothing.
 */
bool lfs_may_exceed(void)
{
	return cap_raised(current_cred()->cap_effective, CAP_SYS_RESOURCE) &&
	       ns_capable_noaudit(&init_user_ns, CAP_SYS_RESOURCE);
}

/**
 * lfs_cred_for() - copy the mounter's credentials for a change on behalf of the
 *	caller
 * @mounter: the mounter's credentials
 * @may_exceed: lfs_may_exceed()
 *
 * Mirrors ovl_override_creator_creds(). In addition to the fsids takes groups
 * and CAP_SYS_RESOURCE from the caller, so that space is charged to, and
 * reserved blocks are granted to, the caller.
 */
const struct cred *lfs_cred_for(const struct cred *mounter, bool may_exceed)
{
	const struct cred *caller = override_creds(mounter);
	struct cred *cred = prepare_creds();

	revert_creds(caller);
	if (!cred)
		return NULL;
	cred->fsuid = caller->fsuid;
	cred->fsgid = caller->fsgid;
	set_groups(cred, caller->group_info);
	if (may_exceed)
		cap_raise(cred->cap_effective, CAP_SYS_RESOURCE);
	else
		cap_lower(cred->cap_effective, CAP_SYS_RESOURCE);
	return cred;
}

/**
 * lfs_cred_labels() - whether a security module labels new files
 * @cred: any credentials
 *
 * Mirrors nothing: ovl_override_creator_creds() asks the module for each new
 * file, which copies credentials. A module that labels files also labels
 * credentials: SELinux and Smack.
 */
bool lfs_cred_labels(const struct cred *cred)
{
	struct lsm_prop prop = {};

	security_cred_getlsmprop(cred, &prop);
#ifdef CONFIG_SECURITY_SELINUX
	if (prop.selinux.secid)
		return true;
#endif
#ifdef CONFIG_SECURITY_SMACK
	if (prop.smack.skp)
		return true;
#endif
	return false;
}

/**
 * lfs_cred_labelled() - copy the current credentials to create a file with the
 *	caller's label
 * @dentry: the file's dentry, with its parent
 * @mode: the file's mode
 *
 * Mirrors the use of security_dentry_create_files_as() in
 * ovl_override_creator_creds().
 *
 * Return: the copy, or an ERR_PTR.
 */
const struct cred *lfs_cred_labelled(struct dentry *dentry, umode_t mode)
{
	struct cred *cred = prepare_creds();
	int err;

	if (!cred)
		return ERR_PTR(-ENOMEM);
	err = security_dentry_create_files_as(dentry, mode, &dentry->d_name,
					      current_real_cred(), cred);
	if (!err)
		return cred;
	abort_creds(cred);
	return ERR_PTR(err);
}
