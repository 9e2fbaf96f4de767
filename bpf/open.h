/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Opens, whatever asks for them: open, openat, openat2, io_uring, a handle. */
#ifndef FIM_OPEN_H
#define FIM_OPEN_H

#include "kernel.h"
#include "event.h"
#include "drift.h"
#include "path.h"
#include "context.h"
#include "operation.h"
#include "resolve.h"
#include "judge.h"
#include "returns.h"
#include "caller.h"

/*
 * Rejects an open at its entry that no rule can want, whatever it opens, and
 * counts it: neither an operation nor a record is begun. The agent opens a file
 * with O_SYNC to see whether all hooks of an open work (agent/service/alive.py).
 */
static __always_inline int fim_open_reject(__u32 flags)
{
	struct fim_config *cfg = fim_config_lookup();
	struct fim_policy *policy;

	if (!cfg || (flags & O_SYNC) == O_SYNC)
		return 0;
	policy = fim_policy_lookup(cfg->serial, FIM_OPEN);
	if (!policy || !fim_is_hopeless(policy, FIM_OPEN, flags))
		return 0;
	if (fim_is_in_scope())
		fim_count_rejected(FIM_OPEN);
	return 1;
}

/*
 * Whether the operation in flight is over, because its return was not seen, although fim_is_nested() would
 * take an open for one within it: what a file system opens while it is mounted, it opens in the system call
 * that mounts it, and a driver opens no firmware by a handle.
 */
static __always_inline int fim_is_left_by_open(struct fim_inflight *op)
{
	__u32 call;

	if (op->point != FIM_AT_MOUNT && op->point != FIM_AT_OPEN)
		return 0;
	call = fim_caller_call();
	if (op->point == FIM_AT_MOUNT)
		return call != op->call;
	return call == FIM_OPEN_BY_HANDLE || call == FIM_OPEN_BY_HANDLE32;
}

/* do_filp_open(int dfd, struct filename *pathname, struct open_flags *op) */
static __always_inline int open_enter(void *ctx, __u32 family)
{
	struct open_flags *how = fim_arg_pointer(ctx, family, 2);
	__u32 flags = fim_field(family, how, open_flag);
	struct fim_inflight *op = fim_op_lookup();
	struct filename *filename;

	/* O_PATH asks for no access; an exec is an event of its own. */
	if (flags & (O_PATH | FMODE_EXEC))
		return 0;
	if (!op && fim_open_reject(flags))
		return 0;
	if (op && op->point == FIM_AT_MOUNT && fim_is_left_by_open(op))
		op->frame = 0; /* it contains nothing */
	/* The core dump of a thread that a signal ends while it opens a file: the open does not start again.
	 */
	if (op && op->asked != flags)
		op->interrupted = 0;
	if (!fim_op_enter(fim_frame(ctx, family), FIM_AT_OPEN, FIM_OPEN))
		return 0;
	op = fim_op_lookup();
	if (!op)
		return 0;
	op->dfd[0] = (__u64)fim_arg_pointer(ctx, family, 0);
	op->filename = fim_arg_pointer(ctx, family, 1);
	op->flags = flags;
	op->asked = flags;
	op->mode = fim_field(family, how, mode) & 07777;
	if (flags & (O_CREAT | O_TRUNC)) {
		filename = fim_arg_pointer(ctx, family, 1);
		op->text = fim_field(family, filename, name);
	}
	return 0;
}

/* do_file_open_root(..): open_by_handle_at and the kernel's own opens, which have no text */
static __always_inline int open_root_enter(void *ctx, __u32 family)
{
	struct fim_inflight *op = fim_op_lookup();

	if (op && fim_is_left_by_open(op))
		op->frame = 0;
	fim_op_enter(fim_frame(ctx, family), FIM_AT_OPEN_ROOT, FIM_OPEN);
	return 0;
}

/* do_open_execat(int fd, struct filename *name, ..): a program that is to run, a script, an interpreter */
static __always_inline int exec_open_enter(void *ctx, __u32 family)
{
	struct fim_inflight *op;

	if (!fim_op_enter(fim_frame(ctx, family), FIM_AT_EXEC_OPEN, FIM_EXEC))
		return 0;
	op = fim_op_lookup();
	if (!op)
		return 0;
	op->dfd[0] = fim_arg(ctx, family, 0);
	op->filename = (void *)fim_arg(ctx, family, 1);
	return 0;
}

/* The open or exec of which a program may note the object. It may be refused yet. */
static __always_inline struct fim_inflight *fim_op_lookup_opening(void)
{
	struct fim_inflight *op = fim_op_lookup();

	if (!op || op->nested || op->quiet || (op->point != FIM_AT_OPEN && op->point != FIM_AT_EXEC_OPEN))
		return NULL;
	return op;
}

/*
 * complete_walk(struct nameidata *nd): a lookup has found its object, if an open
 * has not created it. All lookups of names pass here.
 */
static __always_inline int walked_given(void *ctx, __u32 family)
{
	struct fim_inflight *op = fim_op_lookup_opening();
	struct nameidata___lookup *nd;

	if (!op)
		return 0;
	nd = fim_arg_object(ctx, family, 0);
	if (!FIM_LOOKS_UP(nd, op->filename) || (op->state != FIM_ENTERED && op->lookup != nd))
		return 0;
	op->lookup = nd;
	if (op->state != FIM_ENTERED)
		fim_op_again(op, fim_frame(ctx, family));
	if (op->state == FIM_ENTERED)
		fim_op_reach(op, (void *)nd + bpf_core_field_offset(struct nameidata___lookup, path));
	return 0;
}

/*
 * may_open([idmap,] const struct path *path, ..), where no program is at complete_walk(). An open
 * that may create is refused before this if it finds a directory, what must not exist, or another
 * user's file in a directory that all may write to.
 */
static __always_inline int may_open_given(void *ctx, __u32 family)
{
	struct fim_inflight *op = fim_op_lookup_opening();

	/* A file system that opens what it looks up has opened it by now. */
	if (op && op->state == FIM_ENTERED)
		fim_op_reach(op, (void *)fim_arg_after_idmap(ctx, family, 0));
	return 0;
}

/*
 * An open that may create or truncate asks to write to the mount, before it is
 * allowed to: of the directory in which it looks for the name, and to truncate of
 * the file once that is found. Notes which one it is. A name that a symbolic link
 * had is not in the caller's text.
 */
static __always_inline void fim_open_note_place(struct fim_inflight *op)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct nameidata___lookup *nd;
	struct fim_look look = {};
	struct inode *inode;

	if (!(op->flags & (O_CREAT | O_TRUNC)))
		return;
	nd = (void *)BPF_CORE_READ(task, nameidata);
	if (!nd)
		return;
	op->lookup = nd;
	fim_look_read(&look, nd);
	fim_op_reach_spot(op, &look.spot);
	inode = op->inode;
	op->beside = !(op->flags & O_TRUNC) || (BPF_CORE_READ(inode, i_mode) & S_IFMT) == S_IFDIR;
	if (op->beside && (__u64)look.name - (__u64)op->text >= FIM_PATH_MAX)
		op->reached = NULL;
}

/*
 * An open whose object was known asks to write to a mount. If that is the mount of a
 * directory in which it looks for the name, it looks again: what it creates then
 * passes no complete_walk(). To copy a file up, overlayfs asks for another mount; to
 * truncate, an open asks when its lookup is at the object.
 */
static __always_inline void fim_open_look_again(struct fim_inflight *op, struct vfsmount *mnt, __u64 frame)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct nameidata___lookup *nd = (void *)BPF_CORE_READ(task, nameidata);

	if (!nd || (void *)nd != op->lookup || BPF_CORE_READ(nd, path.mnt) != mnt ||
	    BPF_CORE_READ(nd, path.dentry) == op->reached)
		return;
	fim_op_again(op, frame);
}

/* security_file_open(struct file *file) */
static __always_inline int open_resolve(void *ctx, __u32 family)
{
	struct fim_inflight *op = fim_op_lookup_entered(FIM_OPEN);
	struct fim_slot *slot;
	struct fim_object object = {};
	struct dentry *dentry;
	struct vfsmount *mnt;
	struct file *file;
	fmode_t mode;

	if (!op)
		return 0;
	file = fim_arg_pointer(ctx, family, 0);
	mode = fim_field(family, file, f_mode);
	if (fim_is_backing(mode))
		return 0;
	op->flags = fim_field(family, file, f_flags);
	dentry = fim_field(family, file, f_path.dentry);
	mnt = fim_field(family, file, f_path.mnt);
	object.dentry = fim_untyped(family, dentry);
	object.mount = fim_real_mount(fim_untyped(family, mnt));
	op->reached = object.dentry;
	if (fim_op_is_unwatched(op, family, dentry, mnt))
		return fim_op_reject(op);
	slot = fim_op_record(op, family);
	if (!slot)
		return 0;
	if (mode & FMODE_CREATED)
		slot->event.file[0].flags = FIM_CREATED;
	return fim_op_judge(ctx, family, op, &object);
}

/* The function returns a pointer or an error; the number of the descriptor is not known here. */
static __always_inline int fim_open_returns(void *ctx, __u32 family, __u32 point)
{
	struct fim_inflight *op = fim_op_lookup_returning(point);
	__s64 ret;

	if (!op)
		return 0;
	ret = fim_ret(ctx, family, point);
	if ((__u64)ret < (__u64)-MAX_ERRNO)
		ret = 0;
	if (FIM_TAILS(family))
		return fim_op_hand_over(ctx, family, op, ret);
	fim_op_refuse_reached(op, family, ret);
	return fim_op_return(ctx, family, op, ret);
}

/*
 * fd_install(unsigned int fd, struct file *file): the caller gets its descriptor.
 * A kretprobe has room for so many calls: while more opens sleep, the kernel loses
 * the returns of all. An open whose return was seen is over by now.
 */
static __always_inline int installed_given(void *ctx, __u32 family)
{
	struct fim_inflight *op = fim_op_lookup_inline();
	struct file *file;

	if (!op || op->nested || op->interrupted || op->point != FIM_AT_OPEN || op->state != FIM_PENDING)
		return 0;
	file = (void *)fim_arg(ctx, family, 1);
	if (BPF_CORE_READ(file, f_path.dentry) != op->reached)
		return 0; /* of another call: that open failed */
	return fim_op_end(ctx, family, op, 0);
}

static __always_inline int open_exit(void *ctx, __u32 family)
{
	return fim_open_returns(ctx, family, FIM_AT_OPEN);
}

/* An exec that is not refused here is reported once the program runs. */
static __always_inline int exec_open_exit(void *ctx, __u32 family)
{
	return fim_open_returns(ctx, family, FIM_AT_EXEC_OPEN);
}

static __always_inline int open_root_exit(void *ctx, __u32 family)
{
	return fim_open_returns(ctx, family, FIM_AT_OPEN_ROOT);
}

#endif /* FIM_OPEN_H */
