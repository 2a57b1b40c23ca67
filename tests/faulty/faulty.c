// SPDX-License-Identifier: GPL-2.0
/*
 * Makes the n-th call of a chosen hook of one filesystem fail. For tests only; in C because kprobes
 * have no Rust abstraction.
 *
 * It reads the filesystem's own tables of operations and puts a kprobe on each function that it
 * finds there. A call for another superblock passes; so the filesystem is a real one with all that
 * it does, no layer is added, and stock kernels can be tested. Below it, requests to its disk
 * are hooks: "block_read", "block_write", and "block_flush", which flushes the disk cache.
 * Memory is a hook as well, on a kernel with fault injection: "alloc" is what is allocated with
 * the tested module on the stack, and no function of the lower filesystem in between: what those
 * make of it is their own matter.
 *
 * /sys/kernel/debug/faulty takes one command per write, and returns counts on a read:
 *
 *   attach FILE            puts probes on the functions that serve FILE and its directory
 *   detach                 takes them off
 *   text START END         where the tested module's code lies, for "alloc"
 *   arm HOOK WHO NTH TIMES MODE [ERRNO]
 *                          zeroes all counts; from now on the NTH call of HOOK fails, and the next
 *                          TIMES - 1 (0: all that follow). WHO is "self", the process that armed,
 *                          or "others": workers. MODE is "fail" (returns -ERRNO, does nothing),
 *                          "after" (does it and returns -ERRNO), "short" (writes half of it)
 *   disarm                 nothing fails any more; counts go on
 *   stub FUNCTION VALUE    from now on FUNCTION, of any module, does nothing and returns VALUE
 *   unstub                 it is itself again
 */
#include <linux/bio.h>
#include <linux/debugfs.h>
#include <linux/err.h>
#include <linux/exportfs.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/objtool.h>
#include <linux/seq_file.h>
#include <linux/stacktrace.h>
#include <linux/string.h>
#include <linux/uio.h>
#include <linux/xattr.h>

#include "target.h"

struct hook {
	const char *name;
	enum way way;
	/* Calls since arming: of the process that armed, of others. */
	atomic_long_t calls[2];
};

#define HOOK(name, way) { #name, way }
static struct hook hooks[] = {
	HOOK(write_iter, KIOCB_1), HOOK(read_iter, KIOCB_1), HOOK(llseek, FILE_1),
	HOOK(fsync, FILE_1), HOOK(fallocate, FILE_1), HOOK(copy_file_range, FILE_1),
	HOOK(remap_file_range, FILE_1), HOOK(splice_write, FILE_2), HOOK(splice_read, FILE_1),
	HOOK(iterate_shared, FILE_1), HOOK(open, INODE_1), HOOK(mmap_prepare, DESC_1),
	HOOK(mmap, FILE_1), HOOK(lookup, INODE_1), HOOK(create, INODE_2), HOOK(link, INODE_2),
	HOOK(unlink, INODE_1), HOOK(symlink, INODE_2), HOOK(mkdir, INODE_2), HOOK(rmdir, INODE_1),
	HOOK(mknod, INODE_2), HOOK(rename, INODE_2), HOOK(tmpfile, INODE_2), HOOK(setattr, DENTRY_2),
	HOOK(getattr, PATH_2), HOOK(listxattr, DENTRY_1), HOOK(fileattr_set, DENTRY_2),
	HOOK(set_acl, DENTRY_2), HOOK(fiemap, INODE_1), HOOK(setxattr, DENTRY_3), HOOK(getxattr, DENTRY_2),
	HOOK(write_begin, MAPPING_2), HOOK(writepages, MAPPING_1), HOOK(read_folio, FOLIO_2),
	HOOK(sync_fs, SUPER_1), HOOK(statfs, DENTRY_1), HOOK(fh_to_dentry, SUPER_1),
	HOOK(alloc, SLAB), HOOK(alloc_pages, PAGES),
	HOOK(block_read, BIO_READ), HOOK(block_write, BIO_WRITE), HOOK(block_flush, BIO_FLUSH),
};

struct probe {
	void *function;
	struct kprobe entry;
	struct kretprobe exit;
	bool has_exit;
	struct hook *hook;
};

enum mode { FAIL, AFTER, SHORT };

static struct probe probes[80];
static unsigned int n_probes;
static DEFINE_MUTEX(lock);

/* What is to fail; read by the probes. */
static struct hook *armed;
static pid_t arming;
static unsigned int armed_who;
static long armed_nth, armed_times;
static enum mode armed_mode;
static int armed_errno;
static atomic_long_t failed;

/* Where the last failure was made. */
static unsigned long trace[24];
static unsigned int trace_len;
/* Whose bytes the last request carried that failed: 0 is the filesystem's own, or none. */
static unsigned long failed_inode;

asmlinkage void faulty_return(void);
asm(".text\n"
    ".type faulty_return, @function\n"
    "faulty_return:\n"
    ANNOTATE_NOENDBR "\n"
    ASM_RET
    ".size faulty_return, .-faulty_return\n");

/* Takes the place of submit_bio_noacct. */
static void fail_request(struct bio *bio)
{
	bio_io_error(bio);
}

static bool is_ours(struct hook *hook, struct pt_regs *regs)
{
	switch (hook->way) {
	case SLAB:
		return READ_ONCE(armed) == hook && is_our_allocation(regs->si);
	case PAGES:
		return READ_ONCE(armed) == hook && is_our_allocation(regs->di);
	case BIO_READ:
	case BIO_WRITE:
	case BIO_FLUSH:
		return is_our_request(hook->way, (struct bio *)regs->di);
	default:
		return target && superblock(hook->way, regs) == target;
	}
}
NOKPROBE_SYMBOL(is_ours);

/* Counts a call; whether it is one that fails. */
static bool is_due(struct hook *hook)
{
	unsigned int who = current->tgid == READ_ONCE(arming) ? 0 : 1;
	long call = atomic_long_inc_return(&hook->calls[who]);

	if (READ_ONCE(armed) != hook || who != armed_who || call < armed_nth)
		return false;
	return !armed_times || call < armed_nth + armed_times;
}
NOKPROBE_SYMBOL(is_due);

static void note_failure(void)
{
	atomic_long_inc(&failed);
	trace_len = stack_trace_save(trace, ARRAY_SIZE(trace), 1);
}
NOKPROBE_SYMBOL(note_failure);

static int at_entry(struct kprobe *kp, struct pt_regs *regs)
{
	struct hook *hook = container_of(kp, struct probe, entry)->hook;

	if (!is_ours(hook, regs) || !is_due(hook) || armed_mode == AFTER)
		return 0;
	if (armed_mode == SHORT) {
		struct iov_iter *iter = (struct iov_iter *)regs->si;

		if (iter->count < 2)
			return 0;
		note_failure();
		iov_iter_truncate(iter, iter->count / 2);
		return 0;
	}
	note_failure();
	if (hook->way >= BIO_READ) {
		failed_inode = inode_of((struct bio *)regs->di);
		regs->ip = (unsigned long)fail_request;
		return 1;
	}
	regs->ax = hook->way == PAGES ? 1 : -(long)armed_errno;
	regs->ip = (unsigned long)faulty_return;
	return 1;
}
NOKPROBE_SYMBOL(at_entry);

/* That there is one keeps the kernel from optimising the probe to one that cannot skip a call. */
static void after_entry(struct kprobe *kp, struct pt_regs *regs, unsigned long flags)
{
}

/* Runs before the entry's probe, which counts: as the younger one of two at the same place. */
static int at_call(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	struct hook *hook = container_of(get_kretprobe(ri), struct probe, exit)->hook;
	unsigned int who = current->tgid == READ_ONCE(arming) ? 0 : 1;
	long call = atomic_long_read(&hook->calls[who]) + 1;
	bool due = READ_ONCE(armed) == hook && is_ours(hook, regs) && who == armed_who &&
		   call >= armed_nth && (!armed_times || call < armed_nth + armed_times);

	return due ? 0 : 1;
}
NOKPROBE_SYMBOL(at_call);

static int at_exit(struct kretprobe_instance *ri, struct pt_regs *regs)
{
	if (IS_ERR_VALUE(regs->ax))
		return 0;
	note_failure();
	regs->ax = -(long)armed_errno;
	return 0;
}
NOKPROBE_SYMBOL(at_exit);

static int add(const char *name, void *function)
{
	struct probe *probe = &probes[n_probes];
	struct hook *hook = NULL;
	int ret;

	if (!function)
		return 0;
	for (unsigned int i = 0; i < ARRAY_SIZE(hooks); i++)
		if (!strcmp(hooks[i].name, name))
			hook = &hooks[i];
	if (!hook || n_probes == ARRAY_SIZE(probes))
		return -ENOSPC;
	for (unsigned int i = 0; i < n_probes; i++)
		if (probes[i].hook == hook && probes[i].function == function)
			return 0;
	memset(probe, 0, sizeof(*probe));
	probe->hook = hook;
	/* Registering moves the probe's own address past the start of the function. */
	probe->function = function;
	probe->entry.addr = function;
	probe->entry.pre_handler = at_entry;
	probe->entry.post_handler = after_entry;
	ret = register_kprobe(&probe->entry);
	if (ret) {
		pr_err("faulty: no probe on %ps for %s: error %d\n", function, name, ret);
		return ret;
	}
	n_probes++;
	return 0;
}

static void remove_exits(void)
{
	for (unsigned int i = 0; i < n_probes; i++) {
		if (probes[i].has_exit)
			unregister_kretprobe(&probes[i].exit);
		probes[i].has_exit = false;
	}
}

static int add_exits(struct hook *hook)
{
	for (unsigned int i = 0; i < n_probes; i++) {
		struct kretprobe *exit = &probes[i].exit;
		int ret;

		if (probes[i].hook != hook)
			continue;
		memset(exit, 0, sizeof(*exit));
		exit->kp.addr = probes[i].function;
		exit->entry_handler = at_call;
		exit->handler = at_exit;
		exit->maxactive = 64;
		ret = register_kretprobe(exit);
		if (ret)
			return ret;
		probes[i].has_exit = true;
	}
	return 0;
}

static void disarm(void)
{
	WRITE_ONCE(armed, NULL);
	remove_exits();
}

/* The function that does nothing. */
static struct kprobe stub;
static char stub_name[KSYM_NAME_LEN];
static unsigned long stub_value;

static int at_stub(struct kprobe *kp, struct pt_regs *regs)
{
	regs->ax = stub_value;
	regs->ip = (unsigned long)faulty_return;
	return 1;
}
NOKPROBE_SYMBOL(at_stub);

static void unstub(void)
{
	if (stub.symbol_name)
		unregister_kprobe(&stub);
	memset(&stub, 0, sizeof(stub));
}

static int make_stub(const char *words)
{
	int ret;

	unstub();
	if (sscanf(words, "%63s %ld", stub_name, &stub_value) != 2)
		return -EINVAL;
	stub.symbol_name = stub_name;
	stub.pre_handler = at_stub;
	stub.post_handler = after_entry;
	ret = register_kprobe(&stub);
	if (ret)
		stub.symbol_name = NULL;
	return ret;
}

static void detach(void)
{
	disarm();
	unstub();
	target = NULL;
	target_disk = NULL;
	while (n_probes)
		unregister_kprobe(&probes[--n_probes].entry);
}

#define ADD(table, name) do { if (!ret) ret = add(#name, (void *)(table)->name); } while (0)

static int add_file(const struct file_operations *f)
{
	int ret = 0;

	ADD(f, write_iter);
	ADD(f, read_iter);
	ADD(f, llseek);
	ADD(f, fsync);
	ADD(f, fallocate);
	ADD(f, copy_file_range);
	ADD(f, remap_file_range);
	ADD(f, splice_write);
	ADD(f, splice_read);
	ADD(f, iterate_shared);
	ADD(f, open);
	ADD(f, mmap_prepare);
	ADD(f, mmap);
	return ret;
}

static int add_inode(const struct inode_operations *i)
{
	int ret = 0;

	ADD(i, lookup);
	ADD(i, create);
	ADD(i, link);
	ADD(i, unlink);
	ADD(i, symlink);
	ADD(i, mkdir);
	ADD(i, rmdir);
	ADD(i, mknod);
	ADD(i, rename);
	ADD(i, tmpfile);
	ADD(i, setattr);
	ADD(i, getattr);
	ADD(i, listxattr);
	ADD(i, fileattr_set);
	ADD(i, set_acl);
	ADD(i, fiemap);
	return ret;
}

static int add_super(struct super_block *sb, const struct address_space_operations *a)
{
	const struct xattr_handler *const *handler = sb->s_xattr;
	int ret = 0;

	ADD(a, write_begin);
	ADD(a, writepages);
	ADD(a, read_folio);
	ADD(sb->s_op, sync_fs);
	ADD(sb->s_op, statfs);
	if (sb->s_export_op)
		ADD(sb->s_export_op, fh_to_dentry);
	for (; handler && *handler && !ret; handler++) {
		ret = add("setxattr", (*handler)->set);
		if (!ret)
			ret = add("getxattr", (*handler)->get);
	}
	return ret;
}

/* What no table names. The first two are there in kernels with fault injection only. */
static int add_symbols(void)
{
	static const struct { const char *hook, *symbol; } places[] = {
		{ "alloc", "should_failslab" },
		{ "alloc_pages", "should_fail_alloc_page" },
		{ "block_read", "submit_bio_noacct" },
		{ "block_write", "submit_bio_noacct" },
		{ "block_flush", "submit_bio_noacct" },
	};
	int ret = 0;

	for (unsigned int i = 0; i < ARRAY_SIZE(places) && !ret; i++) {
		struct kprobe finder = { .symbol_name = places[i].symbol };

		if (register_kprobe(&finder))
			continue;
		unregister_kprobe(&finder);
		ret = add(places[i].hook, finder.addr);
	}
	return ret;
}

static int attach(const char *path)
{
	struct file *file = filp_open(path, O_RDWR | O_LARGEFILE, 0), *dir;
	struct inode *inode;
	struct path above;
	int ret;

	if (IS_ERR(file))
		return PTR_ERR(file);
	inode = file_inode(file);
	/* Probing takes a second: not again for another mount of the same kind. */
	if (n_probes && probes[0].function == file->f_op->write_iter) {
		target = inode->i_sb;
		target_disk = target->s_bdev;
		fput(file);
		return 0;
	}
	detach();
	above.mnt = file->f_path.mnt;
	above.dentry = file->f_path.dentry->d_parent;
	dir = dentry_open(&above, O_RDONLY | O_DIRECTORY | O_LARGEFILE, current_cred());
	if (IS_ERR(dir)) {
		fput(file);
		return PTR_ERR(dir);
	}
	ret = add_file(file->f_op);
	if (!ret)
		ret = add_file(dir->f_op);
	if (!ret)
		ret = add_inode(inode->i_op);
	if (!ret)
		ret = add_inode(file_inode(dir)->i_op);
	if (!ret)
		ret = add_super(inode->i_sb, inode->i_mapping->a_ops);
	if (!ret)
		ret = add_symbols();
	target = inode->i_sb;
	target_disk = target->s_bdev;
	fput(dir);
	fput(file);
	if (ret)
		detach();
	return ret;
}

static int arm(const char *words)
{
	char name[32], who[8], mode[8];
	struct hook *hook = NULL;
	long nth, times;
	int error = 0;

	if (sscanf(words, "%31s %7s %ld %ld %7s %d", name, who, &nth, &times, mode, &error) < 5)
		return -EINVAL;
	disarm();
	for (unsigned int i = 0; i < ARRAY_SIZE(hooks); i++) {
		atomic_long_set(&hooks[i].calls[0], 0);
		atomic_long_set(&hooks[i].calls[1], 0);
		if (!strcmp(hooks[i].name, name))
			hook = &hooks[i];
	}
	if (strcmp(who, "self") && strcmp(who, "others"))
		return -EINVAL;
	armed_who = !strcmp(who, "others");
	armed_mode = !strcmp(mode, "after") ? AFTER : !strcmp(mode, "short") ? SHORT : FAIL;
	if (!hook || (armed_mode == SHORT && strcmp(name, "write_iter")) ||
	    (armed_mode != FAIL && hook->way >= SLAB))
		return -EINVAL;
	armed_nth = nth;
	armed_times = times;
	armed_errno = error;
	atomic_long_set(&failed, 0);
	trace_len = 0;
	failed_inode = 0;
	WRITE_ONCE(arming, current->tgid);
	if (armed_mode == AFTER) {
		int ret = add_exits(hook);

		if (ret) {
			remove_exits();
			return ret;
		}
	}
	smp_wmb();
	WRITE_ONCE(armed, hook);
	return 0;
}

static int command(char *text)
{
	if (!strncmp(text, "attach ", 7))
		return attach(text + 7);
	if (!strncmp(text, "arm ", 4))
		return arm(text + 4);
	if (!strncmp(text, "text ", 5))
		return sscanf(text + 5, "%lx %lx", &text_start, &text_end) == 2 ? 0 : -EINVAL;
	if (!strncmp(text, "stub ", 5))
		return make_stub(text + 5);
	if (!strcmp(text, "unstub"))
		unstub();
	else if (!strcmp(text, "disarm"))
		disarm();
	else if (!strcmp(text, "detach"))
		detach();
	else
		return -EINVAL;
	return 0;
}

static ssize_t faulty_write(struct file *file, const char __user *from, size_t len, loff_t *pos)
{
	char *text = memdup_user_nul(from, min_t(size_t, len, PATH_MAX));
	int ret;

	if (IS_ERR(text))
		return PTR_ERR(text);
	mutex_lock(&lock);
	ret = command(strim(text));
	mutex_unlock(&lock);
	kfree(text);
	return ret ?: len;
}

static int faulty_show(struct seq_file *seq, void *unused)
{
	mutex_lock(&lock);
	seq_printf(seq, "failed %ld %lu\n", atomic_long_read(&failed), failed_inode);
	for (unsigned int i = 0; i < ARRAY_SIZE(hooks); i++) {
		bool found = false;

		for (unsigned int p = 0; p < n_probes; p++)
			found |= probes[p].hook == &hooks[i];
		if (found)
			seq_printf(seq, "hook %s %ld %ld\n", hooks[i].name,
				   atomic_long_read(&hooks[i].calls[0]),
				   atomic_long_read(&hooks[i].calls[1]));
	}
	seq_puts(seq, "trace");
	for (unsigned int i = 0; i < trace_len; i++)
		seq_printf(seq, " %ps", (void *)trace[i]);
	seq_puts(seq, "\n");
	mutex_unlock(&lock);
	return 0;
}

static int faulty_open(struct inode *inode, struct file *file)
{
	return single_open(file, faulty_show, NULL);
}

static const struct file_operations faulty_fops = {
	.owner = THIS_MODULE,
	.open = faulty_open,
	.read = seq_read,
	.write = faulty_write,
	.llseek = seq_lseek,
	.release = single_release,
};

static struct dentry *control;

static int __init faulty_init(void)
{
	control = debugfs_create_file("faulty", 0600, NULL, NULL, &faulty_fops);
	return PTR_ERR_OR_ZERO(control);
}

static void __exit faulty_exit(void)
{
	debugfs_remove(control);
	mutex_lock(&lock);
	detach();
	mutex_unlock(&lock);
}

module_init(faulty_init);
module_exit(faulty_exit);

MODULE_DESCRIPTION("Makes chosen calls of a filesystem fail: for the tests of LoggerFS");
MODULE_LICENSE("GPL");
