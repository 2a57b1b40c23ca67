// SPDX-License-Identifier: GPL-2.0
/*
 * What of a lower filesystem's quotas is asked, through the calls that quotactl(2)
 * uses (fs/quota/quota.c), without s_umount: our mount of it keeps it there.
 */
#include <linux/delay.h>
#include <linux/fs.h>
#include <linux/overflow.h>
#include <linux/quota.h>
#include <linux/sched/signal.h>
#include <linux/timekeeping.h>
#include "bindings.h"

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
 * lfs_quota_over - how far a request is over the limits of one quota
 * @sb: the lower filesystem
 * @type: USRQUOTA, GRPQUOTA or PRJQUOTA
 * @id: whose, in the initial user namespace
 * @bytes: how much space is asked for
 * @inodes: how many inodes are asked for
 *
 * Decides as check_bdq() and check_idq() (fs/quota/dquot.c) and xfs_dqresv_check() do. Leaves out
 * realtime space, and grace periods that would begin with the request.
 *
 * Returns how many bytes (or inodes) it is over; 0: not at all; a negative errno: nobody counts.
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

/* Who new objects belong to. */
u32 lfs_fsuid(void)
{
	return from_kuid(&init_user_ns, current_fsuid());
}

u32 lfs_fsgid(void)
{
	return from_kgid(&init_user_ns, current_fsgid());
}

/* Waits; false: the caller was killed. */
bool lfs_pause(unsigned int milliseconds)
{
	schedule_timeout_killable(msecs_to_jiffies(milliseconds));
	return !fatal_signal_pending(current);
}
