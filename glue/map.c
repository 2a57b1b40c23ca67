// SPDX-License-Identifier: GPL-2.0
/*
 * C inlines and macros for shared writable mappings: areas, faults, the folios
 * behind them.
 */
#include <linux/backing-file.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/rmap.h>
#include <linux/sched.h>
#include <linux/shmem_fs.h>
#include "bindings.h"

/* Exported, and declared in fs/internal.h. */
struct file *alloc_empty_backing_file(int flags, const struct cred *cred,
				      const struct file *user_file);
void backing_file_set_user_path(struct file *f, const struct path *path);

/*
 * One page table entry for each page: a fault that maps a huge page writable
 * would make two megabytes writable by one notification.
 */
void lfs_map_by_pages(struct vm_area_struct *area)
{
	vm_flags_set(area, VM_NOHUGEPAGE);
}

/* Leaves page_mkwrite as the only way to a writable page. */
void lfs_only_page_mkwrite(struct vm_operations_struct *ops)
{
	ops->pfn_mkwrite = NULL;
	ops->huge_fault = NULL;
	ops->mapped = NULL;
#ifdef CONFIG_USERFAULTFD
	ops->uffd_ops = NULL;
#endif
}

/**
 * lfs_open_to_map - open a lower file for mappings, without fanotify events
 * @own: our file, whose path the backing file shows
 * @lower: its lower file
 *
 * As backing_file_open(), but ->mmap calls it, under mmap_lock. A listener of
 * FAN_OPEN_PERM may need that lock to answer (it reads /proc/PID/smaps, or is a
 * thread of the same process), so no event may be waited for here; the event of
 * this open was @lower's. backing_file_open() has no way to ask for that, hence
 * its parts: vfs_open() without fsnotify_open(). Where @lower has events before
 * content is used (FAN_PRE_ACCESS), faults on the mapping have them, too.
 */
struct file *lfs_open_to_map(struct file *own, struct file *lower)
{
	const struct path *path = &own->f_path;
	struct file *file;
	int ret;

	file = alloc_empty_backing_file(O_RDONLY | O_LARGEFILE | O_NOATIME,
					lower->f_cred, own);
	if (IS_ERR(file))
		return file;
	path_get(path);
	backing_file_set_user_path(file, path);
	file_set_fsnotify_mode(file, FMODE_NONOTIFY);
	file->__f_path.mnt = lower->f_path.mnt;
	ret = finish_open(file, lower->f_path.dentry, NULL);
	if (ret) {
		fput(file);
		return ERR_PTR(ret);
	}
	if (FMODE_FSNOTIFY_HSM(lower->f_mode))
		file_set_fsnotify_mode(file, lower->f_mode & FMODE_FSNOTIFY_MASK);
	return file;
}

/* The inode that the pages of a dentry's file belong to. */
struct inode *lfs_real_inode(const struct dentry *dentry)
{
	return d_real_inode(dentry);
}

bool lfs_is_dax(const struct inode *inode)
{
	return IS_DAX(inode);
}

/* Filesystems that write back through a file that is open for writing. */
bool lfs_is_remote(const struct super_block *sb)
{
	switch (sb->s_magic) {
	case AFS_FS_MAGIC:
	case CEPH_SUPER_MAGIC:
	case CIFS_SUPER_MAGIC:
	case FUSE_SUPER_MAGIC:
	case NFS_SUPER_MAGIC:
	case SMB2_SUPER_MAGIC:
	case V9FS_MAGIC:
		return true;
	default:
		return false;
	}
}

void lfs_pagefault_start(struct super_block *sb)
{
	sb_start_pagefault(sb);
}

void lfs_pagefault_end(struct super_block *sb)
{
	sb_end_pagefault(sb);
}

/* Whether the page of a fault lies in a folio of many, or may come to. */
static bool may_be_large(struct vm_fault *vmf)
{
	struct address_space *mapping = vmf->vma->vm_file->f_mapping;
	struct folio *folio = filemap_get_folio(mapping, vmf->pgoff);
	bool large;

	if (IS_ERR(folio))
		return !shmem_mapping(mapping);
	large = folio_test_large(folio);
	folio_put(folio);
	return large;
}

/* Maps the page of a fault, as for a read, with the fault's lock given up. */
static vm_fault_t map_unlocked(struct vm_fault *vmf)
{
	struct mm_struct *mm = vmf->vma->vm_mm;
	unsigned long address = vmf->address;
	bool unlocked = false;

	release_fault_lock(vmf);
	if (!mmap_read_lock_killable(mm)) {
		fixup_user_fault(mm, address, 0, &unlocked);
		mmap_read_unlock(mm);
	}
	return VM_FAULT_RETRY;
}

/*
 * A store to a page that is not mapped would make all of its folio writable at
 * once. The page is mapped read-only instead: the store, tried again, faults
 * for this page alone. 0: that cannot be done.
 */
vm_fault_t lfs_map_read_only(struct vm_fault *vmf, const struct vm_operations_struct *lower)
{
	unsigned int flags = vmf->flags;
	vm_fault_t ret;

	/* Without VM_NOHUGEPAGE, which a program may take away, a huge entry could come. */
	if (!(flags & FAULT_FLAG_WRITE) || !lower->map_pages ||
	    !(vmf->vma->vm_flags & VM_NOHUGEPAGE) || !may_be_large(vmf))
		return 0;
	if (pmd_none(*vmf->pmd)) {
		if (!fault_flag_allow_retry_first(flags) || (flags & FAULT_FLAG_RETRY_NOWAIT))
			return 0;
		return map_unlocked(vmf);
	}
	vmf->flags &= ~FAULT_FLAG_WRITE;
	rcu_read_lock();
	ret = lower->map_pages(vmf, vmf->pgoff, vmf->pgoff);
	rcu_read_unlock();
	vmf->flags = flags;
	vmf->pte = NULL;
	return ret & VM_FAULT_NOPAGE;
}

/* Locks the faulting folio; false: it does not belong to the file any more. */
bool lfs_fault_lock(struct vm_fault *vmf)
{
	struct folio *folio = page_folio(vmf->page);

	folio_lock(folio);
	if (folio->mapping == vmf->vma->vm_file->f_mapping)
		return true;
	folio_unlock(folio);
	return false;
}

void lfs_fault_unlock(struct vm_fault *vmf)
{
	folio_unlock(page_folio(vmf->page));
}

/*
 * What the fault makes writable, up to the end of the file: where it begins, and
 * how many bytes it is. A fault that finds no entry in the page table maps the
 * whole folio; one that finds a read-only entry, its page.
 */
size_t lfs_fault_range(struct vm_fault *vmf, loff_t *pos)
{
	struct folio *folio = page_folio(vmf->page);
	size_t len = folio_size(folio);
	loff_t size = i_size_read(vmf->vma->vm_file->f_mapping->host);

	*pos = folio_pos(folio);
	if (vmf->pte) {
		*pos += (loff_t)folio_page_idx(folio, vmf->page) << PAGE_SHIFT;
		len = PAGE_SIZE;
	}
	if (*pos >= size)
		return 0;
	return min_t(loff_t, len, size - *pos);
}

/* Copies out of the locked folio of the fault, unless a part of its memory is damaged. */
int lfs_fault_copy(struct vm_fault *vmf, loff_t pos, void *to, size_t len)
{
	struct folio *folio = page_folio(vmf->page);
	size_t offset = offset_in_folio(folio, pos);

	if (folio_contain_hwpoisoned_page(folio))
		return -EIO;
	if (IS_ENABLED(CONFIG_HIGHMEM))
		memcpy_from_folio(to, folio, offset, len);
	else
		lfs_copy(to, folio_address(folio) + offset, len);
	return 0;
}

/*
 * Makes every mapping of a range read-only and clean, so that the next store
 * faults. Under the folio's lock, which a fault holds until its entry is in the
 * page table: none slips through.
 */
void lfs_write_protect(struct address_space *mapping, loff_t pos, loff_t len)
{
	pgoff_t index = pos >> PAGE_SHIFT, last = (pos + len - 1) >> PAGE_SHIFT;

	while (index <= last) {
		/* The one that is in the file once it is locked: pages migrate. */
		struct folio *folio = filemap_lock_folio(mapping, index);

		if (IS_ERR(folio)) {
			index++;
			continue;
		}
		if (folio_mkclean(folio))
			folio_mark_dirty(folio);
		index = folio_next_index(folio);
		folio_unlock(folio);
		folio_put(folio);
		cond_resched();
	}
}

/* A moment's rest in a fault, which is tried again after it. */
void lfs_nap(void)
{
	schedule_timeout_killable(1);
}
