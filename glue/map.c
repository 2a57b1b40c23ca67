// SPDX-License-Identifier: GPL-2.0
/*
 * C inlines and macros for shared writable mappings: areas, faults, the folios
 * behind them.
 */
#include <linux/magic.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/rmap.h>
#include <linux/sched.h>
#include "bindings.h"

/*
 * One page table entry for each page: a fault that maps a huge page writable
 * would make two megabytes writable by one notification.
 */
void lfs_map_by_pages(struct vm_area_struct *area)
{
	vm_flags_set(area, VM_NOHUGEPAGE);
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

/* Copies out of the locked folio of the fault. */
void lfs_fault_copy(struct vm_fault *vmf, loff_t pos, void *to, size_t len)
{
	struct folio *folio = page_folio(vmf->page);
	size_t offset = offset_in_folio(folio, pos);

	if (IS_ENABLED(CONFIG_HIGHMEM))
		memcpy_from_folio(to, folio, offset, len);
	else
		lfs_copy(to, folio_address(folio) + offset, len);
}

/*
 * Makes every mapping of a range read-only and clean, so that the next store
 * faults. Under the folio's lock, which a fault holds until its entry is in the
 * page table: none slips through.
 */
void lfs_write_protect(struct address_space *mapping, loff_t pos, loff_t len)
{
	pgoff_t index = pos >> PAGE_SHIFT, last = (pos + len - 1) >> PAGE_SHIFT;
	struct folio_batch batch;

	folio_batch_init(&batch);
	while (filemap_get_folios(mapping, &index, last, &batch)) {
		for (unsigned int i = 0; i < folio_batch_count(&batch); i++) {
			struct folio *folio = batch.folios[i];

			folio_lock(folio);
			if (folio->mapping == mapping && folio_mkclean(folio))
				folio_mark_dirty(folio);
			folio_unlock(folio);
		}
		folio_batch_release(&batch);
		cond_resched();
	}
}

/* A moment's rest in a fault, which is tried again after it. */
void lfs_nap(void)
{
	schedule_timeout_killable(1);
}
