// SPDX-License-Identifier: GPL-2.0
/*
 * The calling task: its identity, and the scopes that it acts in.
 */
#include <linux/mm.h>
#include <linux/sched/mm.h>
#include "bindings.h"

/**
 * lfs_exe_path() - the path of the caller's executable
 *
 * Mirrors get_task_exe_file() for current, which needs no task lock.
 */
int lfs_exe_path(char *buf, int len, char **path)
{
	struct mm_struct *mm = current->mm;
	struct file *exe = mm ? get_file_active(&mm->exe_file) : NULL;

	if (!exe)
		return -ENOENT;
	*path = d_path(&exe->f_path, buf, len);
	fput(exe);
	return PTR_ERR_OR_ZERO(*path);
}

/**
 * lfs_arguments() - the first bytes of the caller's command line
 *
 * Mirrors get_mm_cmdline(): if the last byte is not NUL, the program has set a
 * title, which ends at the first NUL. Uses copy_from_user_nofault(), so callable
 * under any lock; leaves out bytes that are not resident, and setproctitle()'s
 * use of the environment, which is not for the log.
 *
 * The memory is read when the process changes a file for the first time. A probe
 * on sched_process_exec would see it before the program changes it. But programs
 * that take a password as an argument (mysql -p, curl -u) overwrite it, and such
 * a probe would put it into the log. It would also run at each exec of the
 * machine, and keep MAX_ARGS bytes for each process.
 */
int lfs_arguments(char *buf, int len)
{
	struct mm_struct *mm = current->mm;
	unsigned long start, end;
	char last = 0;

	if (!mm)
		return 0;
	start = READ_ONCE(mm->arg_start);
	end = READ_ONCE(mm->arg_end);
	if (end <= start)
		return 0;
	len = min_t(unsigned long, len, end - start);
	if (copy_from_user_nofault(buf, (void __user *)start, len))
		return 0;
	if (!copy_from_user_nofault(&last, (void __user *)(end - 1), 1) && last)
		return strnlen(buf, len);
	return len;
}

/**
 * lfs_argument_width() - the size of the pointers in the caller's argv
 * @stack: mm->start_stack: the address of argc, which argv follows
 * @first: the address of the first argument
 * @count: argc, as long as the program has not changed it
 *
 * Mirrors create_elf_tables(), whose elf_addr_t has 4 bytes for a 32-bit
 * program. in_compat_syscall() is about how the caller entered the kernel, not how
 * it was started; argv[0] is @first with one of the two sizes only.
 *
 * Return: 0 if argv[0] is no longer @first.
 */
static size_t lfs_argument_width(unsigned long stack, unsigned long first, unsigned long *count)
{
	u32 narrow[2];
	u64 wide[2];

	if (!copy_from_user_nofault(wide, (void __user *)stack, sizeof(wide)) && wide[1] == first) {
		*count = wide[0];
		return sizeof(u64);
	}
	if (!copy_from_user_nofault(narrow, (void __user *)stack, sizeof(narrow)) &&
	    narrow[1] == first) {
		*count = narrow[0];
		return sizeof(u32);
	}
	return 0;
}

/**
 * lfs_argument_starts() - where the caller's arguments begin
 * @starts: zeroes; gets bit n if an argument begins at byte n of the command line
 * @bytes: for how many bytes @starts has bits
 *
 * Reads argv as create_elf_tables() left it on the stack. getopt_long() changes
 * the order of the pointers, so only the set of them counts. Uses
 * copy_from_user_nofault(): callable under any lock, and the addresses in a
 * program's memory are compared, never followed. Leaves out programs with more
 * arguments than 1024, which bounds the time.
 *
 * Return: whether all pointers are still such that the set is the one of the
 * start of the program. setproctitle() and the like overwrite them.
 */
bool lfs_argument_starts(u64 *starts, u32 bytes)
{
	struct mm_struct *mm = current->mm;
	unsigned long first, length, at, count, i, offset;
	size_t width;
	u64 pointer;

	if (!mm)
		return false;
	first = READ_ONCE(mm->arg_start);
	length = READ_ONCE(mm->arg_end) - first;
	at = READ_ONCE(mm->start_stack);
	width = lfs_argument_width(at, first, &count);
	if (!width || count > 1024)
		return false;
	for (i = 0; i < count; i++) {
		at += width;
		/* Little-endian: the rest of a narrow pointer stays 0. */
		pointer = 0;
		if (copy_from_user_nofault(&pointer, (void __user *)at, width))
			return false;
		offset = pointer - first;
		if (offset >= length)
			return false;
		if (offset >= bytes)
			continue;
		if (starts[offset / 64] & BIT_ULL(offset % 64))
			return false;
		starts[offset / 64] |= BIT_ULL(offset % 64);
	}
	return true;
}

/**
 * lfs_process() - the key of the calling process
 *
 * Mirrors the fields of /proc/PID/stat and /proc/PID/status for current. Leaves
 * out the locks of do_task_stat(), which reads other tasks.
 * Changes with exec and setuid. Called at each operation, so only fields of
 * current are read. In the initial user namespace kuid values are uids.
 */
void lfs_process(struct lfs_process *process)
{
	process->start = current->group_leader->start_boottime;
	process->pid = task_tgid_nr(current);
	process->exec = READ_ONCE(current->self_exec_id);
	/* The initial user namespace maps each id to the same number. */
	process->uid = __kuid_val(current_uid());
}

/**
 * lfs_real_time() - convert CLOCK_BOOTTIME to CLOCK_REALTIME
 * @boottime: nanoseconds of CLOCK_BOOTTIME
 *
 * Unlike ktime_mono_to_real() uses the offset of the first call: a process
 * keeps its start time, and thus its identity in the log, if the clock is set
 * later.
 *
 * Return: nanoseconds since the epoch.
 */
u64 lfs_real_time(u64 boottime)
{
	static atomic64_t offset;
	s64 now = ktime_to_ns(ktime_sub(ktime_get_real(), ktime_get_boottime()));

	/* Only the first call sets the offset; 0 means unset. */
	atomic64_cmpxchg(&offset, 0, now);
	return boottime + atomic64_read(&offset);
}

/**
 * lfs_parent_pid() - task_tgid_nr() of the parent, as in proc_pid_status()
 */
int lfs_parent_pid(void)
{
	int pid;

	rcu_read_lock();
	pid = task_tgid_nr(rcu_dereference(current->real_parent));
	rcu_read_unlock();
	return pid;
}

/**
 * lfs_session_id() - task_session_nr_ns() in the initial namespace
 */
int lfs_session_id(void)
{
	return task_session_nr_ns(current, &init_pid_ns);
}

/**
 * lfs_process_group() - the caller's process group and its leader
 * @leader: the leader's pid in the initial namespace, which is the group's id,
 *	and its start time in CLOCK_BOOTTIME; 0 if the leader has ended
 * @comm: TASK_COMM_LEN bytes for the leader's comm; empty if it has ended
 *
 * Mirrors task_pgrp_nr_ns() and find_task_by_pid_ns(). The struct pid of a group
 * lives as long as the group has members, so no other process has its number.
 */
void lfs_process_group(struct lfs_other_process *leader, char *comm)
{
	struct task_struct *task;
	struct pid *group;

	rcu_read_lock();
	group = task_pgrp(current);
	task = pid_task(group, PIDTYPE_TGID);
	leader->pid = pid_nr(group);
	leader->start = task ? task->start_boottime : 0;
	strscpy(comm, task ? task->comm : "", TASK_COMM_LEN);
	rcu_read_unlock();
}

/**
 * lfs_ancestors() - the parent of the calling process, its parent, and so on
 * @ancestors: pids in the initial namespace, and start times in CLOCK_BOOTTIME
 * @most: how many of them there is room for
 *
 * Mirrors the walk of yama's task_is_descendant(): a process under RCU keeps its
 * parent alive. Leaves out the first process of the machine, which is also the
 * parent of processes whose own one has ended.
 *
 * Return: how many there are.
 */
u32 lfs_ancestors(struct lfs_other_process *ancestors, u32 most)
{
	struct task_struct *task;
	u32 count = 0;

	rcu_read_lock();
	task = rcu_dereference(current->group_leader->real_parent);
	while (count < most) {
		task = rcu_dereference(task->group_leader);
		if (task_tgid_nr(task) <= 1)
			break;
		ancestors[count].pid = task_tgid_nr(task);
		ancestors[count].start = task->start_boottime;
		count++;
		task = rcu_dereference(task->real_parent);
	}
	rcu_read_unlock();
	return count;
}

/**
 * lfs_pid_for_caller() - translate a pid of the initial namespace to the
 *	caller's
 */
u32 lfs_pid_for_caller(u32 pid)
{
	u32 found;

	rcu_read_lock();
	found = pid_vnr(find_pid_ns(pid, &init_pid_ns));
	rcu_read_unlock();
	return found;
}

/**
 * lfs_comm() - the comm of the caller's group leader
 *
 * Mirrors get_task_comm(), a macro.
 */
void lfs_comm(char *buf)
{
	strscpy(buf, current->group_leader->comm, TASK_COMM_LEN);
}

/**
 * lfs_nofs_save() - memalloc_nofs_save()
 */
unsigned int lfs_nofs_save(void)
{
	return memalloc_nofs_save();
}

/**
 * lfs_nofs_restore() - memalloc_nofs_restore()
 */
void lfs_nofs_restore(unsigned int flags)
{
	memalloc_nofs_restore(flags);
}
