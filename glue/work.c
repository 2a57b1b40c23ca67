// SPDX-License-Identifier: GPL-2.0
/*
 * Work items, and calls that are made by a worker.
 */
#include <linux/workqueue.h>
#include "bindings.h"

struct lfs_call {
	struct work_struct work;
	void (*function)(void *argument);
	void *argument;
};

/**
 * lfs_call_work() - work function of lfs_call_on()
 */
static void lfs_call_work(struct work_struct *work)
{
	struct lfs_call *call = container_of(work, struct lfs_call, work);

	call->function(call->argument);
}

/**
 * lfs_call_on() - call a function on a workqueue and wait
 *
 * Mirrors work_on_cpu(). Leaves out the choice of a CPU.
 */
static void lfs_call_on(struct workqueue_struct *wq, void (*function)(void *), void *argument)
{
	struct lfs_call call = { .function = function, .argument = argument };

	INIT_WORK_ONSTACK(&call.work, lfs_call_work);
	queue_work(wq, &call.work);
	flush_work(&call.work);
	destroy_work_on_stack(&call.work);
}

/**
 * lfs_call_on_workqueue() - call a function without the caller's limits
 *
 * In a worker the caller's RLIMIT_FSIZE, signals, quota exemptions and memory
 * cgroup do not apply.
 */
void lfs_call_on_workqueue(void (*function)(void *), void *argument)
{
	lfs_call_on(system_dfl_wq, function, argument);
}

/**
 * lfs_call_on_new_stack() - call a function with a fresh kernel stack
 *
 * On another workqueue than lfs_call_on_workqueue(), which the function may
 * call: otherwise nested calls could occupy all workers.
 */
void lfs_call_on_new_stack(void (*function)(void *), void *argument)
{
	lfs_call_on(system_long_wq, function, argument);
}

/**
 * lfs_init_work() - INIT_WORK(), a macro
 */
void lfs_init_work(struct work_struct *work, void (*function)(struct work_struct *))
{
	INIT_WORK(work, function);
}

/**
 * lfs_init_delayed_work() - INIT_DELAYED_WORK(), a macro
 */
void lfs_init_delayed_work(struct delayed_work *work,
			   void (*function)(struct work_struct *))
{
	INIT_DELAYED_WORK(work, function);
}

/**
 * lfs_alloc_workqueue() - alloc_workqueue(), a macro
 */
struct workqueue_struct *lfs_alloc_workqueue(const char *name)
{
	/*
	 * Not WQ_MEM_RECLAIM: lower filesystems flush queues without it (xfs when it
	 * is full), which a queue with it must not wait for. Reclaim waits for none
	 * of our work, so no rescuer is needed.
	 */
	return alloc_workqueue("%s", WQ_UNBOUND, 0, name);
}

/**
 * lfs_queue_work() - queue_work()
 */
bool lfs_queue_work(struct workqueue_struct *queue, struct work_struct *work)
{
	return queue_work(queue, work);
}

/**
 * lfs_queue_delayed_work() - queue_delayed_work() with a delay in seconds
 */
bool lfs_queue_delayed_work(struct workqueue_struct *queue, struct delayed_work *work,
			    unsigned int seconds)
{
	return queue_delayed_work(queue, work, secs_to_jiffies(seconds));
}
