// SPDX-License-Identifier: GPL-2.0
/*
 * Superblocks and mounts: syncs, messages and options of a mount.
 */
#include <linux/fs.h>
#include <linux/mount.h>
#include "bindings.h"

/**
 * lfs_sync_filesystem() - sync_filesystem() with s_umount held for reading
 *
 * Mirrors the body of syncfs(2). Leaves out errseq_check_and_advance(), which
 * needs the caller's file: syncfs(2) calls it for the upper superblock.
 */
int lfs_sync_filesystem(struct super_block *sb)
{
	int ret;

	down_read(&sb->s_umount);
	ret = sync_filesystem(sb);
	up_read(&sb->s_umount);
	return ret;
}

/**
 * lfs_sync_metadata() - make an inode durable that cannot be opened
 * @sb: the lower filesystem
 * @inode: a symbolic link, device, pipe or socket
 *
 * Mirrors sync_filesystem(). Leaves out writeback_inodes_sb(), so other files'
 * data stay dirty. sync_inode_metadata() writes inodes that the filesystem does
 * not journal; ->sync_fs() then writes the journal.
 */
int lfs_sync_metadata(struct super_block *sb, struct inode *inode)
{
	int ret = sync_inode_metadata(inode, 1);

	if (ret || !sb->s_op->sync_fs)
		return ret;
	down_read(&sb->s_umount);
	ret = sb->s_op->sync_fs(sb, 1);
	up_read(&sb->s_umount);
	return ret;
}

/**
 * lfs_fs_error() - errorf(), a macro
 */
void lfs_fs_error(struct fs_context *fc, const char *sentence)
{
	errorf(fc, "loggerfs: %s", sentence);
}

/**
 * lfs_seq_option() - add an option to /proc/mounts
 *
 * Mirrors seq_show_option(), an inline, for an optional value.
 */
void lfs_seq_option(struct seq_file *seq, const char *name, const char *value)
{
	seq_putc(seq, ',');
	seq_puts(seq, name);
	if (value) {
		seq_putc(seq, '=');
		seq_escape(seq, value, ", \t\n\\");
	}
}
