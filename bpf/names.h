/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Operations on names: unlink, rmdir, mkdir, rename, link, symlink, mknod. */
#ifndef FIM_NAMES_H
#define FIM_NAMES_H

#include "kernel.h"
#include "event.h"
#include "path.h"
#include "context.h"
#include "operation.h"
#include "resolve.h"
#include "judge.h"
#include "refusal.h"
#include "returns.h"

/* 1: the kernel calls the LSM hook twice for an exchange, first with both names swapped. */
const volatile __u8 fim_exchange_twice = 0;

#define RENAME_EXCHANGE 2

/* 1: the function at FIM_AT_LINK takes struct filename. */
const volatile __u8 fim_link_by_filename = 0;

/* A point whose entry notes nothing, and whose function returns an int. */
#define FIM_PLAIN_POINT(name, point_, type)                                                                  \
	static __always_inline int name##_enter(void *ctx, __u32 family)                                     \
	{                                                                                                    \
		fim_op_enter(fim_frame(ctx, family), point_, type);                                          \
		return 0;                                                                                    \
	}                                                                                                    \
	FIM_EXIT(name, point_)

FIM_PLAIN_POINT(unlink, FIM_AT_UNLINK, FIM_UNLINK)
FIM_PLAIN_POINT(rmdir, FIM_AT_RMDIR, FIM_RMDIR)
FIM_PLAIN_POINT(symlink, FIM_AT_SYMLINK, FIM_SYMLINK)
FIM_EXIT(mkdir, FIM_AT_MKDIR)
FIM_EXIT(mknod, FIM_AT_MKNOD)
FIM_EXIT(rename, FIM_AT_RENAME)
FIM_EXIT(link, FIM_AT_LINK)

/* The mode is known before the request may be refused; without the umask, which applies to what is made. */
static __always_inline void fim_op_enter_mode(void *ctx, __u32 family, __u32 point, __u32 type)
{
	struct fim_inflight *op;

	if (!fim_op_enter(fim_frame(ctx, family), point, type))
		return;
	op = fim_op_lookup();
	if (op)
		op->mode = fim_arg(ctx, family, 2);
}

/* do_mkdirat(int dfd, struct filename *name, umode_t mode) */
static __always_inline int mkdir_enter(void *ctx, __u32 family)
{
	fim_op_enter_mode(ctx, family, FIM_AT_MKDIR, FIM_MKDIR);
	return 0;
}

/* do_mknodat(int dfd, struct filename *name, umode_t mode, unsigned int dev) */
static __always_inline int mknod_enter(void *ctx, __u32 family)
{
	fim_op_enter_mode(ctx, family, FIM_AT_MKNOD, FIM_MKNOD);
	return 0;
}

/* unix_bind(struct socket *sock, ..): a path in the address becomes a socket's name, as by mknod */
static __always_inline int bind_enter(void *ctx, __u32 family)
{
	struct fim_inflight *op;

	if (!fim_op_enter(fim_frame(ctx, family), FIM_AT_BIND, FIM_MKNOD))
		return 0;
	op = fim_op_lookup();
	if (op)
		op->mode = S_IFSOCK | 0777;
	return 0;
}
FIM_EXIT(bind, FIM_AT_BIND)

/* do_renameat2(olddfd, from, newdfd, to, unsigned int flags) */
static __always_inline int rename_enter(void *ctx, __u32 family)
{
	struct fim_inflight *op;

	if (!fim_op_enter(fim_frame(ctx, family), FIM_AT_RENAME, FIM_RENAME))
		return 0;
	op = fim_op_lookup();
	if (op)
		op->flags = fim_arg(ctx, family, 4);
	return 0;
}

/* Copies a short name to the thread's place, without a record. Returns 0 if it has none, or the name is long.
 */
static __always_inline int fim_op_place_name(struct fim_inflight *op, __u32 family, __u32 which,
					     struct filename *filename)
{
	if (FIM_READS_BY_CAST || !op->owns ||
	    (op->keeps != FIM_KEEPS_NOTHING && op->keeps != FIM_KEEPS_NAMES) ||
	    !fim_place_name((__u64)BPF_CORE_READ(filename, name), which))
		return 0;
	op->keeps = FIM_KEEPS_NAMES;
	op->placed |= 1U << (which & 1);
	op->family = family;
	return 1;
}

/* Copies the caller's text, in case that the kernel refuses the request before its object is known. */
static __always_inline void fim_op_add_name(struct fim_inflight *op, __u32 family, __u32 which,
					    struct filename *filename, int dfd)
{
	if (op->lacks & FIM_LACKS_ROOM)
		return;
	if (fim_op_place_name(op, family, which, filename)) {
		op->dfd[fim_index(which, FIM_FILES)] = dfd;
		op->names = which + 1;
		return;
	}
	if (op->keeps ? !fim_op_fetch(op) : !fim_op_take_slot(op, family))
		goto lacking;
	op->dfd[fim_index(which, FIM_FILES)] = dfd;
	fim_read_name(op->slot, filename, which);
	op->names = which + 1;
	if (fim_op_keep())
		return;
lacking:
	op->lacks |= FIM_LACKS_ROOM;
}

/* do_linkat(olddfd, struct filename *old, newdfd, new, flags): the kernel looks the old name up elsewhere */
static __always_inline int link_enter(void *ctx, __u32 family)
{
	struct fim_inflight *op;

	if (!fim_op_enter(fim_frame(ctx, family), FIM_AT_LINK, FIM_LINK))
		return 0;
	op = fim_op_lookup();
	if (!op || op->quiet)
		return 0;
	op->names = 1;
	if (fim_link_by_filename)
		fim_op_add_name(op, family, 0, (void *)fim_arg(ctx, family, 1), fim_arg(ctx, family, 0));
	return 0;
}

/*
 * filename_parentat(int dfd, struct filename *name, flags, struct path *parent, ..): where all of them look
 * up the directories of their names. The kernel's copy of a name is certain to
 * exist here for the last time: some callers free it before they return.
 */
static __always_inline int parent_given(void *ctx, __u32 family)
{
	struct fim_inflight *op = fim_op_lookup();
	__u64 out;

	if (!op || op->nested || !fim_is_among_names(op->type))
		return 0;
	out = fim_arg(ctx, family, 3);
	if (fim_found_is_expected(op, 0, out) || fim_found_is_expected(op, 1, out))
		fim_op_again(op, fim_frame(ctx, family));
	if (op->state != FIM_ENTERED || op->names >= FIM_FILES)
		return 0;
	if (op->type == FIM_LINK)
		fim_found_note(op, 0); /* the lookup of the old name has returned */
	fim_found_expect(op, op->names, out);
	if (op->quiet) {
		op->names++;
		return 0;
	}
	fim_op_add_name(op, family, op->names, (void *)fim_arg(ctx, family, 1), fim_arg(ctx, family, 0));
	return 0;
}

/*
 * After each lookup of its directories, an operation on names asks to write to the mount. Where no
 * program is at filename_parentat(), because trampolines take six arguments before 6.6, only that
 * shows that it looks its names up again. What a file system asks for meanwhile is deeper in the stack.
 */
static __always_inline void fim_op_ask(struct fim_inflight *op, __u64 frame)
{
	if (op->state != FIM_ENTERED && op->asks == frame)
		fim_op_again(op, frame);
	if (op->state == FIM_ENTERED && op->asks < frame)
		op->asks = frame;
}

/* The directory of a name was found, or not. Before 5.15 the function returns the name or an error. */
static __always_inline int parent_exit(void *ctx, __u32 family)
{
	struct fim_inflight *op = fim_op_lookup();

	if (!op || op->nested || op->quiet || op->state != FIM_ENTERED || !fim_is_among_names(op->type) ||
	    !op->names)
		return 0;
	if ((__u32)fim_ret(ctx, family, FIM_AT_PARENT) < (__u32)-MAX_ERRNO)
		fim_found_note(op, op->names - 1);
	return 0;
}

/* security_path_unlink(struct path *dir, struct dentry *dentry); rmdir too */
static __always_inline int fim_resolve_removal(void *ctx, __u32 family, __u32 type)
{
	struct fim_inflight *op = fim_op_lookup_entered(type);
	struct fim_object object = {};
	struct dentry *dentry;
	struct vfsmount *mnt;
	struct path *dir;

	if (!op)
		return 0;
	dir = fim_arg_pointer(ctx, family, 0);
	dentry = fim_arg_pointer(ctx, family, 1);
	mnt = fim_field(family, dir, mnt);
	fim_op_touch(op, family, dentry);
	if (fim_op_is_unwatched(op, family, dentry, mnt))
		return fim_op_reject(op);
	object.dentry = fim_untyped(family, dentry);
	object.mount = fim_real_mount(fim_untyped(family, mnt));
	return fim_op_record(op, family) ? fim_op_judge(ctx, family, op, &object) : 0;
}

static __always_inline int unlink_resolve(void *ctx, __u32 family)
{
	return fim_resolve_removal(ctx, family, FIM_UNLINK);
}

static __always_inline int rmdir_resolve(void *ctx, __u32 family)
{
	return fim_resolve_removal(ctx, family, FIM_RMDIR);
}

/* security_path_rename(old_dir, old_dentry, new_dir, new_dentry, ..) */
static __always_inline int rename_resolve(void *ctx, __u32 family)
{
	struct fim_inflight *op = fim_op_lookup_entered(FIM_RENAME);
	struct dentry *old, *new, *swap;
	struct path *from, *to, *other;
	struct fim_object object = {};
	struct vfsmount *mnt, *mnt2;

	if (!op)
		return 0;
	from = fim_arg_pointer(ctx, family, 0);
	old = fim_arg_pointer(ctx, family, 1);
	to = fim_arg_pointer(ctx, family, 2);
	new = fim_arg_pointer(ctx, family, 3);
	if (family == FIM_LSM && fim_exchange_twice && (op->flags & RENAME_EXCHANGE)) {
		other = from;
		from = to;
		to = other;
		swap = old;
		old = new;
		new = swap;
	}
	mnt = fim_field(family, from, mnt);
	mnt2 = fim_field(family, to, mnt);
	fim_op_touch(op, family, old);
	fim_op_touch(op, family, new);
	if (fim_op_is_unwatched(op, family, old, mnt) && fim_op_is_unwatched(op, family, new, mnt2))
		return fim_op_reject(op);
	object.dentry = fim_untyped(family, old);
	object.mount = fim_real_mount(fim_untyped(family, mnt));
	object.dentry2 = fim_untyped(family, new);
	object.mount2 = fim_real_mount(fim_untyped(family, mnt2));
	return fim_op_record(op, family) ? fim_op_judge(ctx, family, op, &object) : 0;
}

/* security_path_link(old_dentry, struct path *new_dir, new_dentry) */
static __always_inline int link_resolve(void *ctx, __u32 family)
{
	struct fim_inflight *op = fim_op_lookup_entered(FIM_LINK);
	struct fim_object object = {};
	struct dentry *old, *new;
	struct vfsmount *mnt;
	struct path *dir;

	if (!op)
		return 0;
	old = fim_arg_pointer(ctx, family, 0);
	dir = fim_arg_pointer(ctx, family, 1);
	new = fim_arg_pointer(ctx, family, 2);
	mnt = fim_field(family, dir, mnt);
	object.dentry = fim_untyped(family, old);
	object.mount = fim_real_mount(fim_untyped(family, mnt));
	object.dentry2 = fim_untyped(family, new);
	object.mount2 = object.mount;
	fim_op_touch(op, family, old);
	fim_op_expect_inode(op, object.dentry2);
	if (fim_op_is_unwatched(op, family, old, mnt) && fim_op_is_unwatched(op, family, new, mnt))
		return fim_op_reject(op);
	return fim_op_record(op, family) ? fim_op_judge(ctx, family, op, &object) : 0;
}

/* security_path_mkdir(struct path *dir, struct dentry *dentry, ..); symlink and mknod too */
static __always_inline int fim_resolve_creation(void *ctx, __u32 family, __u32 type)
{
	struct fim_inflight *op = fim_op_lookup_entered(type);
	struct fim_object object = {};
	struct dentry *dentry;
	struct vfsmount *mnt;
	struct path *dir;

	if (!op)
		return 0;
	dir = fim_arg_pointer(ctx, family, 0);
	dentry = fim_arg_pointer(ctx, family, 1);
	mnt = fim_field(family, dir, mnt);
	object.dentry = fim_untyped(family, dentry);
	object.mount = fim_real_mount(fim_untyped(family, mnt));
	if (type == FIM_SYMLINK)
		object.name = (void *)fim_arg(ctx, family, 2);
	else
		op->mode = (umode_t)fim_arg(ctx, family, 2);
	fim_op_expect_inode(op, object.dentry);
	if (fim_op_is_unwatched(op, family, dentry, mnt))
		return fim_op_reject(op);
	return fim_op_record(op, family) ? fim_op_judge(ctx, family, op, &object) : 0;
}

static __always_inline int mkdir_resolve(void *ctx, __u32 family)
{
	return fim_resolve_creation(ctx, family, FIM_MKDIR);
}

static __always_inline int mknod_resolve(void *ctx, __u32 family)
{
	return fim_resolve_creation(ctx, family, FIM_MKNOD);
}

static __always_inline int symlink_resolve(void *ctx, __u32 family)
{
	return fim_resolve_creation(ctx, family, FIM_SYMLINK);
}

#endif /* FIM_NAMES_H */
