/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What makes discarders stale and is no event: inodes that the kernel frees, and
 * names that it changes without a system call on them, as overlayfs does in its
 * layers, and nfsd and ksmbd for their clients.
 */
#ifndef FIM_INVALIDATION_H
#define FIM_INVALIDATION_H

#include "kernel.h"
#include "discarders.h"
#include "filesystems.h"
#include "context.h"

/* security_inode_free(struct inode *inode): another inode may get its address */
static __always_inline int freed_once(void *ctx, __u32 family)
{
	struct inode *inode = fim_arg_pointer(ctx, family, 0);
	struct super_block *sb = fim_field(family, inode, i_sb);

	/* Sockets, pipes and the like come and go by the thousand, and have no discarders. */
	if (fim_is_local(fim_field(family, sb, s_magic)))
		fim_bump_epoch(fim_epoch_key(fim_identity(fim_untyped(family, inode))));
	return 0;
}

/* Makes stale what rests on a name that changes. The path of all below a directory changes with its name. */
static __always_inline void fim_touch_moved(__u32 family, struct dentry *dentry)
{
	struct inode *inode = fim_field(family, dentry, d_inode);

	if (!inode)
		return;
	fim_bump_epoch(fim_epoch_key(fim_identity(fim_untyped(family, inode))));
	if ((fim_field(family, inode, i_mode) & S_IFMT) == S_IFDIR ||
	    (fim_field(family, dentry, d_flags) & FIM_MOUNTED))
		fim_bump_generation();
}

static __always_inline int fim_touch_both(void *ctx, __u32 family)
{
	fim_touch_moved(family, fim_arg_pointer(ctx, family, 0));
	fim_touch_moved(family, fim_arg_pointer(ctx, family, 1));
	return 0;
}

/* d_move(struct dentry *dentry, struct dentry *target) */
static __always_inline int moved_once(void *ctx, __u32 family)
{
	return fim_touch_both(ctx, family);
}

/* d_exchange(struct dentry *dentry1, struct dentry *dentry2) */
static __always_inline int exchanged_once(void *ctx, __u32 family)
{
	return fim_touch_both(ctx, family);
}

/* security_inode_link(struct dentry *old_dentry, struct inode *dir, struct dentry *new_dentry) */
static __always_inline int linked_once(void *ctx, __u32 family)
{
	fim_touch_moved(family, fim_arg_pointer(ctx, family, 0));
	return 0;
}

/* security_inode_unlink(struct inode *dir, struct dentry *dentry) */
static __always_inline int unlinked_once(void *ctx, __u32 family)
{
	fim_touch_moved(family, fim_arg_pointer(ctx, family, 1));
	return 0;
}

#endif /* FIM_INVALIDATION_H */
