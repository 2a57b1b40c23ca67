// SPDX-License-Identifier: GPL-2.0
/*
 * Quotas of the lower filesystem, by the calls of quotactl(2)
 * (fs/quota/quota.c). Leaves out s_umount: the lower mount keeps the superblock
 * alive.
 */
#include <linux/delay.h>
#include <linux/fs.h>
#include <linux/overflow.h>
#include <linux/quota.h>
#include <linux/sched/signal.h>
#include <linux/timekeeping.h>
#include "bindings.h"

/**
 * over_limit() - the excess over one pair of limits
 *
 * Mirrors the decision of dquot_add_space() and dquot_add_inodes().
 */
static u64 over_limit(u64 used, u64 more, u64 hard, u64 soft, s64 timer)
{
	u64 sum;

	if (check_add_overflow(used, more, &sum))
		sum = U64_MAX;
	if (hard && sum > hard)
		return sum - hard;
	if (soft && sum > soft && timer && ktime_get_real_seconds() > timer)
		return sum - soft;
	return 0;
}

/**
 * lfs_quota_over() - the excess of a request over the limits of one quota
 * @sb: the lower filesystem
 * @type: USRQUOTA, GRPQUOTA or PRJQUOTA
 * @id: the id in the initial user namespace
 * @bytes: the requested space
 * @inodes: the requested inodes
 *
 * Mirrors dquot_add_space() and dquot_add_inodes() and
 * xfs_dqresv_check(). Leaves out realtime space, and grace periods that the
 * request would start.
 *
 * Return: the excess in bytes or inodes, 0 if within the limits, or an errno
 * without quota.
 */
long long lfs_quota_over(struct super_block *sb, int type, u32 id, u64 bytes, u64 inodes)
{
	struct qc_dqblk di = {};
	struct kqid qid;
	u64 over;
	int err;

	if (!sb->s_qcop || !sb->s_qcop->get_dqblk)
		return -ENOSYS;
	qid = make_kqid(&init_user_ns, type, id);
	if (!qid_valid(qid))
		return -EINVAL;
	err = sb->s_qcop->get_dqblk(sb, qid, &di);
	if (err)
		return err;
	over = over_limit(di.d_ino_count, inodes, di.d_ino_hardlimit, di.d_ino_softlimit,
			  di.d_ino_timer);
	over = max(over, over_limit(di.d_space, bytes, di.d_spc_hardlimit, di.d_spc_softlimit,
				    di.d_spc_timer));
	return min_t(u64, over, LLONG_MAX);
}

/**
 * lfs_fsuid() - current_fsuid() in the initial namespace: the owner of new
 *	objects
 */
u32 lfs_fsuid(void)
{
	return from_kuid(&init_user_ns, current_fsuid());
}

/**
 * lfs_fsgid() - current_fsgid() in the initial namespace: the group of new
 *	objects
 */
u32 lfs_fsgid(void)
{
	return from_kgid(&init_user_ns, current_fsgid());
}

/**
 * lfs_sleep_killable() - schedule_timeout_killable(); false if a fatal signal
 *	is pending
 */
bool lfs_sleep_killable(unsigned int milliseconds)
{
	schedule_timeout_killable(msecs_to_jiffies(milliseconds));
	return !fatal_signal_pending(current);
}
