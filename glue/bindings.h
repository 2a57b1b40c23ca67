/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Input of bindgen: headers that the kernel crate's bindings lack, constants
 * made of BIT() and __force, and the prototypes of the functions in glue/.
 * Types that kernel::bindings has are taken from there.
 */
#ifndef LOGGERFS_BINDINGS_H
#define LOGGERFS_BINDINGS_H

#include <linux/backing-file.h>
#include <linux/blkdev.h>
#include <linux/cred.h>
#include <linux/crc32c.h>
#include <linux/exportfs.h>
#include <linux/fadvise.h>
#include <linux/falloc.h>
#include <linux/fiemap.h>
#include <linux/file.h>
#include <linux/fileattr.h>
#include <linux/filelock.h>
#include <linux/fs.h>
#include <linux/fs_context.h>
#include <linux/fs_parser.h>
#include <linux/fs_stack.h>
#include <linux/iversion.h>
#include <linux/mount.h>
#include <linux/namei.h>
#include <linux/pagemap.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/shmem_fs.h>
#include <linux/splice.h>
#include <linux/splice.h>
#include <linux/statfs.h>
#include <linux/uio.h>
#include <linux/workqueue.h>
#include <linux/xattr.h>

/* Definitions, so for bindgen only: each C file would get its own copy. */
#ifdef __BINDGEN__
const unsigned long LFS_CONST_SB_RDONLY = SB_RDONLY;
const unsigned long LFS_CONST_SB_ACTIVE = SB_ACTIVE;
const unsigned long LFS_CONST_SB_SYNCHRONOUS = SB_SYNCHRONOUS;
const unsigned long LFS_CONST_SB_POSIXACL = SB_POSIXACL;
const unsigned long LFS_CONST_SB_NOSEC = SB_NOSEC;
const unsigned long LFS_CONST_SB_I_NOUMASK = SB_I_NOUMASK;
const unsigned long LFS_CONST_SB_I_NODEV = SB_I_NODEV;
const unsigned long LFS_CONST_SB_I_NOEXEC = SB_I_NOEXEC;
const int LFS_CONST_MNT_NOSUID = MNT_NOSUID;
const int LFS_CONST_MNT_NODEV = MNT_NODEV;
const int LFS_CONST_MNT_NOEXEC = MNT_NOEXEC;
const unsigned long LFS_CONST_SB_I_EVM_HMAC_UNSUPPORTED = SB_I_EVM_HMAC_UNSUPPORTED;
const unsigned int LFS_CONST_FMODE_READ = (__force unsigned int)FMODE_READ;
const unsigned int LFS_CONST_FMODE_WRITE = (__force unsigned int)FMODE_WRITE;
const unsigned int LFS_CONST_FMODE_OPENED = (__force unsigned int)FMODE_OPENED;
const unsigned int LFS_CONST_FMODE_CAN_ODIRECT = (__force unsigned int)FMODE_CAN_ODIRECT;
const unsigned int LFS_CONST_FMODE_NOWAIT = (__force unsigned int)FMODE_NOWAIT;
const unsigned int LFS_CONST_FOP_DONTCACHE = (__force unsigned int)FOP_DONTCACHE;
const unsigned int LFS_CONST_IOCB_DONTCACHE = (__force unsigned int)IOCB_DONTCACHE;
const unsigned int LFS_CONST_FS_IOC_GETVERSION = FS_IOC_GETVERSION;
const unsigned int LFS_CONST_FS_IOC_GETFSLABEL = FS_IOC_GETFSLABEL;
const unsigned int LFS_CONST_FITRIM = FITRIM;
const unsigned int LFS_CONST_IOCB_APPEND = (__force unsigned int)IOCB_APPEND;
const unsigned int LFS_CONST_IOCB_NOWAIT = (__force unsigned int)IOCB_NOWAIT;
const unsigned int LFS_CONST_IOCB_DIRECT = (__force unsigned int)IOCB_DIRECT;
const unsigned int LFS_CONST_IOCB_DSYNC = (__force unsigned int)IOCB_DSYNC;
const unsigned int LFS_CONST_IOCB_SYNC = (__force unsigned int)IOCB_SYNC;
const unsigned int LFS_CONST_LOOKUP_FOLLOW = LOOKUP_FOLLOW;
const unsigned int LFS_CONST_LOOKUP_DIRECTORY = LOOKUP_DIRECTORY;
const unsigned int LFS_CONST_LOOKUP_RCU = LOOKUP_RCU;
const unsigned int LFS_CONST_VM_SHARED = (unsigned int)VM_SHARED;
const unsigned int LFS_CONST_VM_MAYWRITE = (unsigned int)VM_MAYWRITE;
const unsigned int LFS_CONST_MAX_STACK_DEPTH = FILESYSTEM_MAX_STACK_DEPTH;
const int LFS_CONST_FALLOC_KEEP_SIZE = FALLOC_FL_KEEP_SIZE;
const int LFS_CONST_POSIX_FADV_DONTNEED = POSIX_FADV_DONTNEED;
const int LFS_CONST_FALLOC_PUNCH_HOLE = FALLOC_FL_PUNCH_HOLE;
const int LFS_CONST_FALLOC_COLLAPSE_RANGE = FALLOC_FL_COLLAPSE_RANGE;
const int LFS_CONST_FALLOC_ZERO_RANGE = FALLOC_FL_ZERO_RANGE;
const int LFS_CONST_FALLOC_INSERT_RANGE = FALLOC_FL_INSERT_RANGE;
const int LFS_CONST_FALLOC_UNSHARE_RANGE = FALLOC_FL_UNSHARE_RANGE;
const int LFS_CONST_FALLOC_WRITE_ZEROES = FALLOC_FL_WRITE_ZEROES;
const int LFS_CONST_ACL_TYPE_ACCESS = ACL_TYPE_ACCESS;
const int LFS_CONST_ACL_TYPE_DEFAULT = ACL_TYPE_DEFAULT;
const int LFS_CONST_REMAP_DEDUP = REMAP_FILE_DEDUP;
const unsigned int LFS_CONST_SPLICE_NONBLOCK = SPLICE_F_NONBLOCK;
#endif

/* inodes */
void lfs_inode_lock(struct inode *inode);
void lfs_inode_unlock(struct inode *inode);
bool lfs_inode_trylock(struct inode *inode);
u32 lfs_inode_lock_owner(struct inode *inode);
int lfs_inode_lock_killable(struct inode *inode);
bool lfs_inode_trylock_apart(struct inode *inode);
void lfs_inode_unlock_apart(struct inode *inode);
void lfs_inode_show_lock(struct inode *inode, bool as_parent);
void lfs_inode_hide_lock(struct inode *inode);
bool lfs_trylock_renames(struct super_block *sb);
void lfs_unlock_renames(struct super_block *sb);
s64 lfs_current_id(void);
bool lfs_inode_trylock_shared(struct inode *inode);
void lfs_inode_unlock_shared(struct inode *inode);
loff_t lfs_i_size_read(const struct inode *inode);
void lfs_copy_size(struct inode *to, struct inode *from);
bool lfs_has_bmap(const struct inode *inode);
bool lfs_inode_is_new(struct inode *inode);
bool lfs_attr_differs(const struct inode *to, const struct inode *from, bool is_orphan,
			   umode_t hidden);
void lfs_copy_attr(struct inode *to, struct inode *from, bool is_orphan, umode_t hidden);
void lfs_copy_content_attr(struct inode *to, struct inode *from);
void lfs_annotate_locks(struct inode *inode);
void lfs_drop_pages(struct inode *inode);
bool lfs_writably_mapped(struct inode *inode);
int lfs_get_write_access(struct inode *inode);
void lfs_put_write_access(struct inode *inode);
void lfs_allow_all_caching(struct inode *inode);
ssize_t lfs_read_cached(struct file *file, void *buf, size_t len, loff_t at);
ssize_t lfs_write_cached(struct file *file, const void *buf, size_t len, loff_t at);
int lfs_fiemap(struct inode *inode, struct fiemap_extent_info *info, u64 start, u64 len);
s64 lfs_count_extents(struct inode *inode, u64 start, u64 len);

/* dentries */
struct dentry *lfs_dget(struct dentry *dentry);
bool lfs_is_positive(const struct dentry *dentry);
int lfs_read_link(struct dentry *link, char *target, int room);
struct dentry *lfs_lower(const struct dentry *upper);
struct dentry *lfs_get_lower(const struct dentry *upper);
struct dentry *lfs_set_lower(struct dentry *upper, struct dentry *lower);
void lfs_begin_change(struct dentry *upper);
void lfs_end_change(struct dentry *upper);
bool lfs_is_changing(const struct dentry *upper);
unsigned int lfs_sequence(const struct dentry *dentry);
bool lfs_sequence_changed(const struct dentry *dentry, unsigned int sequence);
bool lfs_same_place(const struct qstr *name, const struct dentry *lower,
		    const struct inode *dir);
bool lfs_is_unhashed(const struct dentry *dentry);
bool lfs_has_lost_its_name(const struct dentry *dentry);
bool lfs_is_unsupported(const struct dentry *dentry);
int lfs_revalidate(struct dentry *dentry, unsigned int flags);
int lfs_lower_permission(struct inode *lower, int mask);

/* files */
struct file *lfs_get_file(struct file *file);
ssize_t lfs_read(struct kiocb *iocb, struct file *lower, struct iov_iter *iter);
ssize_t lfs_write(struct kiocb *iocb, struct file *lower, struct iov_iter *iter, bool waits);
ssize_t lfs_fault_in(struct kiocb *iocb, struct iov_iter *iter, size_t window);
size_t lfs_bytes_cut(struct iov_iter *iter, size_t count);
void lfs_bytes_uncut(struct iov_iter *iter, size_t cut);
int lfs_wait_for_pipe(struct pipe_inode_info *pipe, struct file *file, unsigned int flags);
ssize_t lfs_splice_write(struct file *lower, struct pipe_inode_info *pipe,
			 loff_t *pos, size_t len, unsigned int flags);
long lfs_lower_ioctl(struct file *lower, unsigned int command, unsigned long argument);
bool lfs_has_dontcache(const struct file *lower);
struct mnt_idmap *lfs_idmap(struct vfsmount *mnt);

/* page cache */
size_t lfs_copy_cached(struct address_space *mapping, loff_t pos, void *to, size_t len);
size_t lfs_fill_cached(struct address_space *mapping, loff_t pos, const void *from, size_t len);
size_t lfs_copy_to_folio(struct folio *folio, loff_t pos, const void *from, size_t len);
void lfs_read_into_cache(struct file *file, loff_t pos, size_t len);
bool lfs_is_killed(void);
int lfs_resched_killable(void);
bool lfs_is_shmem(const struct inode *inode);
loff_t lfs_clean_zeroes(struct address_space *mapping, loff_t pos, loff_t *end);
u64 lfs_cached_runs(const struct inode *inode, u64 start, u64 len);

/* shared writable mappings */
struct file *lfs_open_to_map(struct file *own, struct file *lower);
struct inode *lfs_real_inode(const struct dentry *dentry);
void lfs_map_by_pages(struct vm_area_struct *area);
void lfs_only_page_mkwrite(struct vm_operations_struct *ops);
bool lfs_is_dax(const struct inode *inode);
bool lfs_is_remote(const struct super_block *sb);
void lfs_pagefault_start(struct super_block *sb);
void lfs_pagefault_end(struct super_block *sb);
vm_fault_t lfs_map_read_only(struct vm_fault *vmf, const struct vm_operations_struct *lower);
bool lfs_fault_lock(struct vm_fault *vmf);
void lfs_fault_unlock(struct vm_fault *vmf);
size_t lfs_fault_range(struct vm_fault *vmf, loff_t *pos);
int lfs_fault_copy(struct vm_fault *vmf, loff_t pos, void *to, size_t len);
void lfs_write_protect(struct address_space *mapping, loff_t pos, loff_t len);
void lfs_sleep_one_tick(void);

/* superblocks */
int lfs_sync_filesystem(struct super_block *sb);
int lfs_sync_metadata(struct super_block *sb, struct inode *inode);
void lfs_fs_error(struct fs_context *fc, const char *sentence);
void lfs_seq_option(struct seq_file *seq, const char *name, const char *value);

/* tasks */
int lfs_exe_path(char *buf, int len, char **path);
int lfs_arguments(char *buf, int len);
bool lfs_argument_starts(u64 *starts, u32 bytes);
struct lfs_process {
	u64 start;
	u32 pid;
	u32 exec;
	u32 uid;
};
void lfs_process(struct lfs_process *process);
u64 lfs_real_time(u64 monotonic);
int lfs_parent_pid(void);
int lfs_session_id(void);
struct lfs_other_process {
	u64 start;
	u32 pid;
};
void lfs_process_group(struct lfs_other_process *leader, char *comm);
u32 lfs_ancestors(struct lfs_other_process *ancestors, u32 most);
u32 lfs_pid_for_caller(u32 pid);
void lfs_comm(char *buf);
bool lfs_owner_or_capable(struct inode *inode);
bool lfs_may_be_linked(struct inode *inode);
bool lfs_may_have_set_ids(struct inode *inode);
bool lfs_may_be_made(struct inode *inode);
bool lfs_loses_set_group(struct inode *inode);
unsigned int lfs_set_id_to_drop(struct inode *lower, unsigned int valid);
int lfs_drop_set_id(struct dentry *dentry, struct inode *lower);
bool lfs_is_executing(void);
bool lfs_renames_wait(struct super_block *sb);
bool lfs_may_set_capability(struct inode *inode, const void *value, size_t size);
void lfs_put_acl(struct posix_acl *acl);

/* struct file_kattr without its bit fields, which bindgen makes opaque. */
struct lfs_flags {
	u32 flags;
	u32 xflags;
	u32 extent_size;
	u32 project;
	u32 cow_extent_size;
};
bool lfs_folds_case(const struct file_kattr *fa);
int lfs_get_flags(struct dentry *dentry, struct lfs_flags *flags);
int lfs_set_flags(struct mnt_idmap *idmap, struct dentry *dentry, u32 flags);
int lfs_set_xflags(struct mnt_idmap *idmap, struct dentry *dentry, const struct lfs_flags *flags);

/* quotas */
long long lfs_quota_over(struct super_block *sb, int type, u32 id, u64 bytes, u64 inodes);
u32 lfs_fsuid(void);
u32 lfs_fsgid(void);
bool lfs_sleep_killable(unsigned int milliseconds);

/* calls in a kernel thread, with its credentials and limits */
void lfs_call_on_workqueue(void (*function)(void *), void *argument);
void lfs_call_on_new_stack(void (*function)(void *), void *argument);

size_t lfs_bytes_left(const struct iov_iter *bytes);

/* other users of a file whose content a revert changes */
bool lfs_has_lease(struct inode *inode);
int lfs_break_lease(struct inode *inode, bool wait);
bool lfs_is_swapfile(struct inode *inode);
bool lfs_has_watchers(struct super_block *sb);
void lfs_notify_changed(struct inode *inode, const struct path *path, bool content,
			bool attributes);

/* names that a revert changes */
struct dentry *lfs_cached_child(struct dentry *parent, const char *name, unsigned int len);
struct dentry *lfs_child(struct dentry *parent, const char *name, unsigned int len);
struct dentry *lfs_nth_alias(struct inode *inode, unsigned int index);
struct dentry *lfs_parent(struct dentry *dentry);
struct dentry *lfs_lookup_same_name(struct dentry *parent, struct dentry *other, bool is_locked);
int lfs_start_renaming(struct renamedata *rd, struct dentry *old, const char *name,
		       unsigned int len);
void lfs_name_removed(struct dentry *dentry);
void lfs_name_added(struct dentry *dentry);
void lfs_name_linked(struct dentry *dentry, struct inode *inode);
void lfs_name_moved(struct dentry *dentry, struct dentry *target);
void lfs_names_exchanged(struct dentry *a, struct dentry *b);
void lfs_clear_dead(struct inode *inode);
void lfs_inode_lock_parent(struct inode *inode);
void lfs_inode_lock_child(struct inode *inode);
int lfs_may_change_names(struct inode *dir);
int lfs_path_unlink(struct vfsmount *mnt, struct dentry *dir, struct dentry *child);
int lfs_path_mknod(struct vfsmount *mnt, struct dentry *dir, struct dentry *child,
		   struct inode *inode);
int lfs_path_rename(struct vfsmount *mnt, struct dentry *old_dir, struct dentry *child,
		    struct dentry *new_dir, struct dentry *target, unsigned int flags);

/* store */
struct dentry *lfs_store_lookup(struct dentry *parent, const char *name, unsigned int len);
struct dentry *lfs_store_start_creating(struct dentry *parent, const char *name,
					unsigned int len);
struct dentry *lfs_store_start_removing(struct dentry *parent, const char *name,
					unsigned int len);
int lfs_store_rename(struct dentry *from, const char *from_name, unsigned int from_len,
		     struct dentry *to, const char *to_name, unsigned int to_len);
bool lfs_store_is_mount_point(const struct dentry *dentry);
int lfs_store_encode_handle(struct dentry *dentry, void *words, int *count);
int lfs_store_lock_file(struct file *file);

/* credentials */
const struct cred *lfs_kernel_cred(void);
const struct cred *lfs_current_cred(void);
const struct cred *lfs_override_creds(const struct cred *cred);
void lfs_revert_creds(const struct cred *cred);
bool lfs_may_exceed(void);
const struct cred *lfs_cred_for(const struct cred *mounter, bool may_exceed);
bool lfs_cred_labels(const struct cred *cred);
const struct cred *lfs_cred_labelled(struct dentry *dentry, umode_t mode);

/* scope, worker */
void lfs_copy(void *to, const void *from, size_t len);
unsigned int lfs_nofs_save(void);
void lfs_nofs_restore(unsigned int flags);
void lfs_init_work(struct work_struct *work, void (*function)(struct work_struct *));
void lfs_init_delayed_work(struct delayed_work *work,
			   void (*function)(struct work_struct *));
struct workqueue_struct *lfs_alloc_workqueue(const char *name);
bool lfs_queue_work(struct workqueue_struct *queue, struct work_struct *work);
bool lfs_queue_delayed_work(struct workqueue_struct *queue, struct delayed_work *work,
			    unsigned int seconds);

void lfs_file_accessed(struct file *own, const struct file *lower);
void lfs_update_atime(struct inode *inode, struct vfsmount *mnt, struct inode *lower);

#endif
