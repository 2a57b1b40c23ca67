// SPDX-License-Identifier: GPL-2.0
/*
 * Shared writable mappings: areas, page faults and their folios.
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

/* Exported to modules; the declarations are in fs/internal.h. */
struct file *alloc_empty_backing_file(int flags, const struct cred *cred,
				      const struct file *user_file);
void backing_file_set_user_path(struct file *f, const struct path *path);

/**
 * lfs_map_by_pages() - map an area by single pages (VM_NOHUGEPAGE)
 *
 * Mirrors hugepage_madvise() for MADV_NOHUGEPAGE, for an area that is new and in
 * no list of khugepaged.
 * A write fault on a huge mapping makes 2 MiB writable with one ->page_mkwrite.
 */
void lfs_map_by_pages(struct vm_area_struct *area)
{
	vm_flags_set(area, VM_NOHUGEPAGE);
}

/**
 * lfs_only_page_mkwrite() - clear all other vm_ops that make pages writable
 *
 * Mirrors nothing. Without them the VM falls back to ->fault and ->page_mkwrite,
 * which save the page.
 */
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
 * lfs_open_to_map() - open a lower file for mappings, without fanotify events
 * @own: the upper file, whose path the backing file shows
 * @lower: its lower file
 *
 * Mirrors backing_file_open(), which calls vfs_open(). Leaves out
 * fsnotify_open() and the permission events: ->mmap calls this under mmap_lock,
 * and a listener of FAN_OPEN_PERM may need that lock to answer (reading
 * /proc/PID/smaps, or as a thread of the same process). The open of @lower has
 * sent the events. Events of FAN_PRE_ACCESS are kept, as @lower has them.
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

/**
 * lfs_real_inode() - d_real_inode()
 */
struct inode *lfs_real_inode(const struct dentry *dentry)
{
	return d_real_inode(dentry);
}

/**
 * lfs_is_dax() - IS_DAX(), a macro
 */
bool lfs_is_dax(const struct inode *inode)
{
	return IS_DAX(inode);
}

/**
 * lfs_is_remote() - whether writeback needs a file that is open for writing
 *
 * Mirrors nothing: no flag of the VFS says so. True for network filesystems and
 * FUSE, by s_magic.
 */
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

/**
 * lfs_pagefault_start() - sb_start_pagefault()
 */
void lfs_pagefault_start(struct super_block *sb)
{
	sb_start_pagefault(sb);
}

/**
 * lfs_pagefault_end() - sb_end_pagefault()
 */
void lfs_pagefault_end(struct super_block *sb)
{
	sb_end_pagefault(sb);
}

/**
 * may_be_large() - whether the faulting page is, or may become, part of a large
 *	folio
 */
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

/**
 * map_unlocked() - map a page read-only with the fault's lock dropped
 *
 * Mirrors the retry in fault_in_user_writeable(). Returns VM_FAULT_RETRY.
 */
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

/**
 * lfs_map_read_only() - map the page of a write fault read-only
 * @vmf: the fault
 * @lower: the lower filesystem's vm_ops
 *
 * A write fault on an unmapped page makes the whole folio writable at once. So
 * the page is mapped read-only first; the repeated store then faults for this
 * page alone. Mirrors do_fault_around() for one page.
 *
 * Return: 0 if the fault must be handled by the lower ->fault.
 */
vm_fault_t lfs_map_read_only(struct vm_fault *vmf, const struct vm_operations_struct *lower)
{
	unsigned int flags = vmf->flags;
	vm_fault_t ret;

	/* madvise() may clear VM_NOHUGEPAGE; a huge entry is possible then. */
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

/**
 * lfs_fault_lock() - lock the folio of a fault
 *
 * Mirrors filemap_page_mkwrite(). False if the folio was truncated meanwhile.
 */
bool lfs_fault_lock(struct vm_fault *vmf)
{
	struct folio *folio = page_folio(vmf->page);

	folio_lock(folio);
	if (folio->mapping == vmf->vma->vm_file->f_mapping)
		return true;
	folio_unlock(folio);
	return false;
}

/**
 * lfs_fault_unlock() - folio_unlock()
 */
void lfs_fault_unlock(struct vm_fault *vmf)
{
	folio_unlock(page_folio(vmf->page));
}

/**
 * lfs_fault_range() - the file range that the fault makes writable, up to
 *	i_size
 * @vmf: the fault, whose folio is locked
 * @pos: the start of the range
 *
 * Mirrors finish_fault(). Without a page table entry the fault maps the whole
 * folio (set_pte_range());
 * with a read-only entry only the page (wp_page_reuse()).
 *
 * Return: the length of the range.
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

/**
 * lfs_fault_copy() - memcpy_from_folio() of the locked folio, by lfs_copy()
 *
 * -EIO if the folio contains a hardware-poisoned page.
 */
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

/**
 * lfs_write_protect() - make a file range read-only and clean in all page
 *	tables
 *
 * Mirrors writeback's folio_mkclean(). Under the folio lock, which a fault
 * holds until the page table entry is set, so no fault is missed.
 */
void lfs_write_protect(struct address_space *mapping, loff_t pos, loff_t len)
{
	pgoff_t index = pos >> PAGE_SHIFT, last = (pos + len - 1) >> PAGE_SHIFT;

	while (index <= last) {
		/* Look the folio up again under its lock, since pages migrate. */
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

/**
 * lfs_sleep_one_tick() - schedule_timeout_killable(1)
 */
void lfs_sleep_one_tick(void)
{
	schedule_timeout_killable(1);
}
