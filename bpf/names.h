/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Operations on names: unlink, rmdir, mkdir, rename, link, symlink, mknod. */
#ifndef FIM_NAMES_H
#define FIM_NAMES_H

#include "returns.h"

#define FIM_NAMES                                                                                            \
	(1U << FIM_UNLINK | 1U << FIM_RMDIR | 1U << FIM_MKDIR | 1U << FIM_RENAME | 1U << FIM_LINK |          \
	 1U << FIM_SYMLINK | 1U << FIM_MKNOD)

/* 1: the LSM hook is called twice for an exchange, and first the other way round. */
const volatile __u8 fim_exchange_twice = 0;

#define RENAME_EXCHANGE 2

/* 1: the function at FIM_AT_LINK is given names that the kernel has copied already. */
const volatile __u8 fim_link_by_filename = 0;

/* Functions that are only entered and left, returning an int. */
#define FIM_PLAIN_POINT(name, point_, type)                                                                  \
	static __always_inline int name##_enter(void *ctx, __u32 family)                                     \
	{                                                                                                    \
		fim_enter(fim_frame(ctx, family), point_, type);                                             \
		return 0;                                                                                    \
	}                                                                                                    \
	FIM_EXIT(name, point_)

FIM_PLAIN_POINT(unlink, FIM_AT_UNLINK, FIM_UNLINK)
FIM_PLAIN_POINT(rmdir, FIM_AT_RMDIR, FIM_RMDIR)
FIM_PLAIN_POINT(mkdir, FIM_AT_MKDIR, FIM_MKDIR)
FIM_PLAIN_POINT(symlink, FIM_AT_SYMLINK, FIM_SYMLINK)
FIM_PLAIN_POINT(mknod, FIM_AT_MKNOD, FIM_MKNOD)
FIM_EXIT(rename, FIM_AT_RENAME)
FIM_EXIT(link, FIM_AT_LINK)

/* do_renameat2(olddfd, from, newdfd, to, unsigned int flags) */
static __always_inline int rename_enter(void *ctx, __u32 family)
{
	struct fim_inflight *op;

	if (!fim_enter(fim_frame(ctx, family), FIM_AT_RENAME, FIM_RENAME))
		return 0;
	op = fim_operation();
	if (op)
		op->flags = fim_arg(ctx, family, 4);
	return 0;
}

/* Copies a name as the caller gave it, in case that is all there will be. */
static __always_inline void fim_give(struct fim_inflight *op, __u32 family, __u32 which, __u64 filename,
				     int dfd)
{
	if (op->slot == FIM_NO_SLOT) {
		op->slot = fim_take_slot();
		if (!fim_start(op->slot, op->type, family))
			return;
	}
	op->dfd[fim_index(which, FIM_FILES)] = dfd;
	fim_take_name(op->slot, filename, which);
	op->names = which + 1;
}

/* do_linkat(olddfd, struct filename *old, newdfd, new, flags); the old name is looked up by others too */
static __always_inline int link_enter(void *ctx, __u32 family)
{
	struct fim_inflight *op;

	if (!fim_enter(fim_frame(ctx, family), FIM_AT_LINK, FIM_LINK))
		return 0;
	op = fim_operation();
	if (!op || op->quiet)
		return 0;
	op->names = 1;
	if (fim_link_by_filename)
		fim_give(op, family, 0, fim_arg(ctx, family, 1), fim_arg(ctx, family, 0));
	return 0;
}

/*
 * filename_parentat(int dfd, struct filename *name, ..): all of them look up
 * the directory of their name, or names, here. This is the last time that the
 * kernel's copy is there for certain: some callers free it before they return.
 */
static __always_inline int parent_given(void *ctx, __u32 family)
{
	struct fim_inflight *op = fim_operation();

	if (!op || op->nested || op->quiet || op->state != FIM_ENTERED ||
	    !(FIM_NAMES & (1U << (op->type & 31))) || op->names >= FIM_FILES)
		return 0;
	fim_give(op, family, op->names, fim_arg(ctx, family, 1), fim_arg(ctx, family, 0));
	return 0;
}

/* The mount that a directory's path lies on. */
static __always_inline __u64 fim_mount_of(struct path *path)
{
	return (__u64)fim_real_mount(BPF_CORE_READ(path, mnt));
}

/* security_path_unlink(struct path *dir, struct dentry *dentry); rmdir too */
static __always_inline int fim_removes(void *ctx, __u32 family, __u32 type)
{
	struct fim_inflight *op = fim_resolving(type);
	struct fim_object object = {};

	if (!op)
		return 0;
	object.dentry = fim_arg(ctx, family, 1);
	fim_touches(op, object.dentry);
	if (!fim_record(op, family))
		return 0;
	object.mount = fim_mount_of((void *)fim_arg(ctx, family, 0));
	return fim_judge_last(ctx, family, op, &object);
}

static __always_inline int unlink_resolve(void *ctx, __u32 family)
{
	return fim_removes(ctx, family, FIM_UNLINK);
}

static __always_inline int rmdir_resolve(void *ctx, __u32 family)
{
	return fim_removes(ctx, family, FIM_RMDIR);
}

/* security_path_rename(old_dir, old_dentry, new_dir, new_dentry, ..) */
static __always_inline int rename_resolve(void *ctx, __u32 family)
{
	struct fim_inflight *op = fim_resolving(FIM_RENAME);
	struct path *from, *to, *other;
	struct fim_object object;
	__u64 old, new, swap;

	if (!op)
		return 0;
	from = (void *)fim_arg(ctx, family, 0);
	old = fim_arg(ctx, family, 1);
	to = (void *)fim_arg(ctx, family, 2);
	new = fim_arg(ctx, family, 3);
	if (family == FIM_LSM && fim_exchange_twice && (op->flags & RENAME_EXCHANGE)) {
		other = from;
		from = to;
		to = other;
		swap = old;
		old = new;
		new = swap;
	}
	fim_touches(op, old);
	fim_touches(op, new);
	if (!fim_record(op, family))
		return 0;
	object = (struct fim_object){ old, fim_mount_of(from), new, fim_mount_of(to) };
	return fim_judge_last(ctx, family, op, &object);
}

/* security_path_link(old_dentry, struct path *new_dir, new_dentry) */
static __always_inline int link_resolve(void *ctx, __u32 family)
{
	struct fim_inflight *op = fim_resolving(FIM_LINK);
	struct fim_object object = {};

	if (!op)
		return 0;
	object.dentry = fim_arg(ctx, family, 0);
	object.mount = fim_mount_of((void *)fim_arg(ctx, family, 1));
	object.dentry2 = fim_arg(ctx, family, 2);
	object.mount2 = object.mount;
	fim_touches(op, object.dentry);
	fim_creates(op, object.dentry2);
	return fim_record(op, family) ? fim_judge_last(ctx, family, op, &object) : 0;
}

/* security_path_mkdir(struct path *dir, struct dentry *dentry, ..) and alike */
static __always_inline int fim_makes(void *ctx, __u32 family, __u32 type)
{
	struct fim_inflight *op = fim_resolving(type);
	struct fim_object object = {};

	if (!op)
		return 0;
	object.mount = fim_mount_of((void *)fim_arg(ctx, family, 0));
	object.dentry = fim_arg(ctx, family, 1);
	if (type == FIM_SYMLINK)
		object.name = fim_arg(ctx, family, 2);
	else
		op->mode = (umode_t)fim_arg(ctx, family, 2);
	fim_creates(op, object.dentry);
	return fim_record(op, family) ? fim_judge_last(ctx, family, op, &object) : 0;
}

static __always_inline int mkdir_resolve(void *ctx, __u32 family)
{
	return fim_makes(ctx, family, FIM_MKDIR);
}

static __always_inline int mknod_resolve(void *ctx, __u32 family)
{
	return fim_makes(ctx, family, FIM_MKNOD);
}

static __always_inline int symlink_resolve(void *ctx, __u32 family)
{
	return fim_makes(ctx, family, FIM_SYMLINK);
}

#endif /* FIM_NAMES_H */
