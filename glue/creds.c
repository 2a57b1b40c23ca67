// SPDX-License-Identifier: GPL-2.0
/*
 * Credentials: macros and inlines that Rust cannot call, and the copy of the
 * mounter's that carries what a change keeps of its caller.
 */
#include <linux/cred.h>
#include <linux/security.h>
#include "bindings.h"

const struct cred *lfs_kernel_cred(void)
{
	return kernel_cred();
}

const struct cred *lfs_current_cred(void)
{
	return current_cred();
}

const struct cred *lfs_override_creds(const struct cred *cred)
{
	return override_creds(cred);
}

void lfs_revert_creds(const struct cred *cred)
{
	revert_creds(cred);
}

/**
 * lfs_may_exceed - whether the caller may use what is reserved
 *
 * As capable(CAP_SYS_RESOURCE), which ext4 and quotas ask when space is taken,
 * but without an audit record: nothing is refused for the answer.
 */
bool lfs_may_exceed(void)
{
	return cap_raised(current_cred()->cap_effective, CAP_SYS_RESOURCE) &&
	       ns_capable_noaudit(&init_user_ns, CAP_SYS_RESOURCE);
}

/**
 * lfs_cred_for - a copy of the mounter's credentials for changes of the caller's
 * @mounter: the mounter's
 * @may_exceed: lfs_may_exceed()
 *
 * What is created is owned by the caller, and space is charged and granted as to
 * the caller. After the model of ovl_override_creator_creds(), which takes the
 * owner off an inode made before, and keeps the mounter's groups and never lets
 * anybody use what is reserved: here all of that is the caller's.
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
 * lfs_cred_labels - whether a security module gives new files labels
 * @cred: anybody's credentials
 *
 * Those that do tell a label of the credentials, too.
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
 * lfs_cred_labelled - a copy of the present credentials that makes a file with
 *		       the label that the task would give it itself
 * @dentry: the file's dentry, with its parent
 * @mode: the file's mode
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
