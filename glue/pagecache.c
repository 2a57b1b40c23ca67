// SPDX-License-Identifier: GPL-2.0
/*
 * The lower page cache: copies and searches without a read or write of the
 * file.
 */
#include <linux/folio_batch.h>
#include <linux/pagemap.h>
#include <linux/rcupdate_wait.h>
#include <linux/sched/signal.h>
#include <linux/shmem_fs.h>
#include <linux/uaccess.h>
#include "bindings.h"

/**
 * lfs_copy_cached() - copy bytes from the page cache, without I/O
 *
 * Mirrors filemap_read() for pages that are up to date; stops at the first
 * other page. Leaves out readahead and hardware-poisoned pages. The caller's
 * inode lock excludes writes through the upper file.
 *
 * Return: the number of bytes copied.
 */
size_t lfs_copy_cached(struct address_space *mapping, loff_t pos, void *to, size_t len)
{
	size_t done = 0;

	while (done < len) {
		struct folio *folio = filemap_get_folio(mapping, (pos + done) >> PAGE_SHIFT);
		size_t offset, n;

		if (IS_ERR(folio))
			break;
		/* To read damaged memory is fatal for the machine; a read of the file fails instead. */
		if (!folio_test_uptodate(folio) || folio_contain_hwpoisoned_page(folio)) {
			folio_put(folio);
			break;
		}
		offset = offset_in_folio(folio, pos + done);
		n = min(folio_size(folio) - offset, len - done);
		if (IS_ENABLED(CONFIG_HIGHMEM))
			memcpy_from_folio(to + done, folio, offset, n);
		else
			lfs_copy(to + done, folio_address(folio) + offset, n);
		folio_put(folio);
		done += n;
	}
	return done;
}

/**
 * lfs_read_into_cache() - read a range into the page cache, without readahead
 * @file: open file
 * @pos: first byte
 * @len: number of bytes
 *
 * Mirrors force_page_cache_readahead(), which is not exported, with one
 * request. filemap_read() would read ahead: the extra pages count as data for
 * SEEK_HOLE over unwritten space. Errors are left to the read that follows.
 */
void lfs_read_into_cache(struct file *file, loff_t pos, size_t len)
{
	struct address_space *mapping = file->f_mapping;
	struct file_ra_state ra = {};
	pgoff_t index = pos >> PAGE_SHIFT;
	DEFINE_READAHEAD(ractl, file, &ra, mapping, index);
	loff_t end = min_t(loff_t, pos + len, i_size_read(mapping->host));

	if (!mapping->a_ops->readahead || end <= pos)
		return;
	filemap_invalidate_lock_shared(mapping);
	page_cache_ra_unbounded(&ractl, DIV_ROUND_UP_ULL(end, PAGE_SIZE) - index, 0);
	filemap_invalidate_unlock_shared(mapping);
}

/**
 * lfs_is_killed() - fatal_signal_pending()
 */
bool lfs_is_killed(void)
{
	return fatal_signal_pending(current);
}

/**
 * lfs_resched_killable() - cond_resched() and fatal_signal_pending() in a long
 *	loop
 *
 * Mirrors the loop of generic_perform_write().
 *
 * Return: 0, or -EINTR if a fatal signal is pending.
 */
int lfs_resched_killable(void)
{
	cond_resched();
	return fatal_signal_pending(current) ? -EINTR : 0;
}

/**
 * lfs_copy_to_folio() - memcpy_to_folio() by lfs_copy()
 *
 * Leaves out flush_dcache_folio(), which does nothing on x86-64.
 *
 * Return: the number of bytes that fit into the folio.
 */
size_t lfs_copy_to_folio(struct folio *folio, loff_t pos, const void *from, size_t len)
{
	size_t offset = offset_in_folio(folio, pos);
	size_t n = min(folio_size(folio) - offset, len);

	if (IS_ENABLED(CONFIG_HIGHMEM))
		memcpy_to_folio(folio, offset, from, n);
	else
		lfs_copy(folio_address(folio) + offset, from, n);
	return n;
}

/**
 * lfs_fill_cached() - copy bytes to cached pages of a tmpfs file
 *
 * Mirrors generic_perform_write() for pages that are up to date; stops at the
 * first other page. Leaves out ->write_begin and ->write_end, which for such
 * pages only lock and dirty the folio. The inode is locked.
 *
 * Return: the number of bytes copied.
 */
size_t lfs_fill_cached(struct address_space *mapping, loff_t pos, const void *from, size_t len)
{
	pgoff_t index = pos >> PAGE_SHIFT, last = (pos + len - 1) >> PAGE_SHIFT;
	struct folio_batch batch;
	size_t done = 0;
	bool go = true;

	folio_batch_init(&batch);
	while (go && done < len && filemap_get_folios(mapping, &index, last, &batch)) {
		for (unsigned int i = 0; i < folio_batch_count(&batch); i++) {
			struct folio *folio = batch.folios[i];

			go = go && folio_contains(folio, (pos + done) >> PAGE_SHIFT) &&
			     folio_trylock(folio);
			if (!go)
				continue;
			go = folio->mapping == mapping && folio_test_uptodate(folio) &&
			     !folio_contain_hwpoisoned_page(folio);
			if (go) {
				done += lfs_copy_to_folio(folio, pos + done, from + done, len - done);
				folio_mark_dirty(folio);
			}
			folio_unlock(folio);
		}
		folio_batch_release(&batch);
	}
	return done;
}

/**
 * lfs_bytes_left() - iov_iter_count()
 */
size_t lfs_bytes_left(const struct iov_iter *bytes)
{
	return iov_iter_count(bytes);
}

/**
 * lfs_is_shmem() - shmem_mapping()
 */
bool lfs_is_shmem(const struct inode *inode)
{
	return shmem_mapping(inode->i_mapping);
}

/**
 * is_clean_zeroes() - whether a folio may cache unwritten space
 *
 * True for a clean, unused folio with a page of zeroes in [pos, end). Without
 * the folio lock, so a hint only: eviction checks again. The allowed references
 * are the page cache's, a per-CPU LRU batch's, and the caller's.
 */
static bool is_clean_zeroes(struct folio *folio, loff_t pos, loff_t end)
{
	if (!folio_test_uptodate(folio) || folio_test_dirty(folio) ||
	    folio_test_writeback(folio) || folio_test_locked(folio) ||
	    folio_mapped(folio) || folio_contain_hwpoisoned_page(folio) ||
	    folio_ref_count(folio) > folio_nr_pages(folio) + folio_has_private(folio) + 2)
		return false;
	pos = max(round_down(pos, PAGE_SIZE), folio_pos(folio));
	end = min(end, folio_next_pos(folio));
	for (; pos < end; pos += PAGE_SIZE) {
		void *page = kmap_local_folio(folio, offset_in_folio(folio, pos));
		bool is_zero = !memchr_inv(page, 0, PAGE_SIZE);

		kunmap_local(page);
		if (is_zero)
			return true;
	}
	return false;
}

/**
 * lfs_clean_zeroes() - find clean pages that make unwritten space count as data
 * @mapping: a lower file's mapping
 * @pos: start of the search
 * @end: end of the search; set to the end of the last folio found
 *
 * iomap_seek_data() takes a cached page over unwritten space for data
 * (mapping_seek_hole_data()), also if the page is clean. Mirrors the loop of
 * mapping_seek_hole_data().
 *
 * Return: the offset of the first of a run of such folios, or -1.
 */
loff_t lfs_clean_zeroes(struct address_space *mapping, loff_t pos, loff_t *end)
{
	pgoff_t index = pos >> PAGE_SHIFT, last = (*end - 1) >> PAGE_SHIFT;
	loff_t found = -1, to = -1;
	struct folio_batch batch;
	bool go = true;

	folio_batch_init(&batch);
	while (go && !lfs_is_killed() && filemap_get_folios(mapping, &index, last, &batch)) {
		for (unsigned int i = 0; i < folio_batch_count(&batch); i++) {
			struct folio *folio = batch.folios[i];
			bool is = go && (found < 0 || folio_pos(folio) == to) &&
				  is_clean_zeroes(folio, pos, *end);

			go = go && (is || found < 0);
			if (!is)
				continue;
			if (found < 0)
				found = folio_pos(folio);
			to = folio_next_pos(folio);
		}
		folio_batch_release(&batch);
		cond_resched();
	}
	if (found >= 0)
		*end = to;
	return found;
}

/**
 * lfs_cached_runs() - count the runs of adjacent cached pages in a range
 *
 * Mirrors filemap_range_has_page(), but counts.
 */
u64 lfs_cached_runs(const struct inode *inode, u64 start, u64 len)
{
	XA_STATE(xas, &inode->i_mapping->i_pages, start >> PAGE_SHIFT);
	pgoff_t last = (start + len - 1) >> PAGE_SHIFT;
	pgoff_t next = 0;
	void *entry;
	u64 runs = 0;

	rcu_read_lock();
	xas_for_each(&xas, entry, last) {
		if (xas_retry(&xas, entry))
			continue;
		if (!runs || xas.xa_index != next)
			runs++;
		next = xas.xa_index + 1;
		if (!xa_is_value(entry))
			next = folio_next_index(entry);
		if (need_resched()) {
			xas_pause(&xas);
			cond_resched_rcu();
		}
	}
	rcu_read_unlock();
	return runs;
}

/**
 * lfs_copy() - memcpy() by rep movsq
 *
 * Without FSRM the kernel's memcpy() is a loop of moves, which is slower for
 * pages.
 */
void lfs_copy(void *to, const void *from, size_t len)
{
#ifdef CONFIG_X86_64
	size_t words = len / 8;

	asm volatile("rep movsq" : "+D"(to), "+S"(from), "+c"(words) : : "memory");
	len %= 8;
#endif
	memcpy(to, from, len);
}
