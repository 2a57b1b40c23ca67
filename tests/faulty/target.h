/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What is tested: whether a call, a request or an allocation belongs to it.
 */
#include <linux/bio.h>
#include <linux/blkdev.h>
#include <linux/fs.h>
#include <linux/kallsyms.h>
#include <linux/kprobes.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/pagemap.h>
#include <linux/stacktrace.h>
#include <linux/string.h>
#include <linux/xattr.h>

/* Which argument leads to the superblock, and how. */
enum way {
	KIOCB_1, FILE_1, FILE_2, INODE_1, INODE_2, DENTRY_1, DENTRY_2, DENTRY_3, PATH_2,
	MAPPING_1, MAPPING_2, FOLIO_2, SUPER_1, DESC_1, SLAB, PAGES, BIO_READ, BIO_WRITE, BIO_FLUSH,
};

static struct super_block *target;
static struct block_device *target_disk;
/* The tested module's code. */
static unsigned long text_start, text_end;

static struct super_block *superblock(enum way way, struct pt_regs *regs)
{
	void *first = (void *)regs->di, *second = (void *)regs->si, *third = (void *)regs->dx;
	struct address_space *mapping;

	switch (way) {
	case KIOCB_1:
		return file_inode(((struct kiocb *)first)->ki_filp)->i_sb;
	case FILE_1:
		return file_inode(first)->i_sb;
	case FILE_2:
		return file_inode(second)->i_sb;
	case INODE_1:
		return ((struct inode *)first)->i_sb;
	case INODE_2:
		return ((struct inode *)second)->i_sb;
	case DENTRY_1:
		return ((struct dentry *)first)->d_sb;
	case DENTRY_2:
		return ((struct dentry *)second)->d_sb;
	case DENTRY_3:
		return ((struct dentry *)third)->d_sb;
	case PATH_2:
		return ((struct path *)second)->dentry->d_sb;
	case MAPPING_1:
		return ((struct address_space *)first)->host->i_sb;
	case MAPPING_2:
		return ((struct address_space *)second)->host->i_sb;
	case FOLIO_2:
		mapping = ((struct folio *)second)->mapping;
		return mapping ? mapping->host->i_sb : NULL;
	case SUPER_1:
		return first;
	case DESC_1:
		return file_inode(((struct vm_area_desc *)first)->file)->i_sb;
	default:
		return NULL;
	}
}
NOKPROBE_SYMBOL(superblock);

/* Whether this is a function of a lower filesystem. */
static bool is_lowers(unsigned long address)
{
	static const char *const prefixes[] = {
		"ext4_", "__ext4_", "jbd2_", "__jbd2_", "shmem_", "xfs_", "xlog_", "btrfs_",
	};
	char name[KSYM_SYMBOL_LEN];

	sprint_symbol_no_offset(name, address);
	for (unsigned int i = 0; i < ARRAY_SIZE(prefixes); i++)
		if (!strncmp(name, prefixes[i], strlen(prefixes[i])))
			return true;
	return false;
}
NOKPROBE_SYMBOL(is_lowers);

/* An interrupt's allocations are not those of the module that it interrupts. */
static bool is_in_interrupt(void)
{
	/* The breakpoint of a probe counts as one. */
	unsigned long own = in_nmi() ? HARDIRQ_OFFSET : 0;

	return hardirq_count() > own || in_serving_softirq();
}
NOKPROBE_SYMBOL(is_in_interrupt);

/* Whether an allocation may fail, and the tested module asks for it. */
static bool is_our_allocation(gfp_t flags)
{
	unsigned long entries[48];
	unsigned int n, ours = 0;

	if ((flags & __GFP_NOFAIL) || !text_end || is_in_interrupt())
		return false;
	n = stack_trace_save(entries, ARRAY_SIZE(entries), 1);
	/* The probe's own frames: this module may lie where the range of the other's size reaches. */
	while (ours < n && (entries[ours] < text_start || entries[ours] >= text_end ||
			    within_module(entries[ours], THIS_MODULE)))
		ours++;
	if (ours == n)
		return false;
	while (ours--)
		if (is_lowers(entries[ours]))
			return false;
	return true;
}
NOKPROBE_SYMBOL(is_our_allocation);

static bool is_our_request(enum way way, struct bio *bio)
{
	if (!target_disk || bio->bi_bdev != target_disk)
		return false;
	switch (way) {
	case BIO_READ:
		return bio_op(bio) == REQ_OP_READ;
	case BIO_WRITE:
		return bio_op(bio) == REQ_OP_WRITE && bio_has_data(bio);
	default:
		return bio->bi_opf & REQ_PREFLUSH;
	}
}
NOKPROBE_SYMBOL(is_our_request);

/* Which file's bytes a request carries. */
static unsigned long inode_of(struct bio *bio)
{
	struct address_space *mapping = NULL;

	if (bio_has_data(bio) && bio->bi_io_vec)
		mapping = folio_mapping(page_folio(bio_first_page_all(bio)));
	return mapping && mapping->host->i_sb == target ? mapping->host->i_ino : 0;
}
NOKPROBE_SYMBOL(inode_of);
