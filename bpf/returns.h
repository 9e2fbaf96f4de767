/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The end of an operation: its return value, what it made, and the record.
 */
#ifndef FIM_RETURNS_H
#define FIM_RETURNS_H

#include "given.h"

static __always_inline int fim_is_refusal(__s64 ret)
{
	return ret < 0 && ret > -64 && ((FIM_REFUSALS >> -ret) & 1);
}

/*
 * The inode that a new name got. The name's dentry may have been freed in the
 * meantime and even reused: it counts only if it still is that name.
 */
__noinline int fim_created(__u32 index)
{
	struct fim_inflight *op = fim_operation();
	struct fim_slot *slot = fim_slot_at(index);
	struct dentry *dentry;
	struct inode *inode;
	__u32 which;

	if (!op || !slot)
		return 0;
	which = op->type == FIM_LINK;
	dentry = (void *)op->created;
	inode = BPF_CORE_READ(dentry, d_inode);
	if (!inode || (__u64)BPF_CORE_READ(dentry, d_parent) != op->parent ||
	    BPF_CORE_READ(dentry, d_name.hash_len) != op->stamp)
		return 0;
	slot->event.file[which].flags |= FIM_CREATED;
	return fim_fill_inode(index, which, (__u64)inode);
}

/* Ends an operation: discarders once more, then everything is given back. */
__noinline int fim_leave(void)
{
	__u32 tid = bpf_get_current_pid_tgid();
	struct fim_inflight *op = fim_operation();

	if (!op)
		return 0;
	if (op->bumps > 0)
		fim_bump_epoch(op->bump[0]);
	if (op->bumps > 1)
		fim_bump_epoch(op->bump[1]);
	if (op->moves)
		fim_bump_generation();
	fim_give_slot(op->slot);
	bpf_map_delete_elem(&inflight, &tid);
	return 0;
}

/* The operation that returns at this point, if that is one that is followed. */
static __always_inline struct fim_inflight *fim_returning(__u32 point)
{
	struct fim_inflight *op = fim_operation_inline();

	if (op && op->nested) {
		__sync_fetch_and_add(&op->nested, -1);
		return NULL;
	}
	return op && op->point == point ? op : NULL;
}

static __always_inline int fim_finish(void *ctx, struct fim_inflight *op, __s64 ret)
{
	struct fim_slot *slot = fim_slot_at(op->slot);

	if (op->state == FIM_PENDING && slot) {
		slot->event.retval = ret;
		fim_submit(ctx, op->slot);
	}
	return fim_leave();
}

/*
 * Hands over to the program that serves all returns, so that the verifier sees
 * the larger part of them once. A program that calls no function of its own may
 * do that on every architecture. If it fails, the operation stays in flight
 * and is counted as abandoned.
 */
static __always_inline int fim_hand_over(void *ctx, struct fim_inflight *op, __s64 ret)
{
	op->ret = ret;
	bpf_tail_call(ctx, &tails, FIM_TAIL_RETURNED);
	return 0;
}

/* Returns from where the object was known at the entry. */
static __always_inline int fim_exit_short(void *ctx, __u32 family, __u32 point, __s64 ret)
{
	struct fim_inflight *op = fim_returning(point);

	if (!op)
		return 0;
	return FIM_TAILS(family) ? fim_hand_over(ctx, op, ret) : fim_finish(ctx, op, ret);
}

static __always_inline int fim_return(void *ctx, __u32 family, struct fim_inflight *op, __s64 ret)
{
	if (op->state == FIM_ENTERED && !op->quiet && fim_is_refusal(ret))
		fim_refused(family);
	else if (op->state == FIM_PENDING && op->created && ret >= 0)
		fim_created(op->slot);
	return fim_finish(ctx, op, ret);
}

/*
 * What all returns hand over to. Where the object was known at the entry,
 * nothing was created and no name is kept: then this only finishes.
 */
static __always_inline int fim_returned(void *ctx, __u32 family)
{
	struct fim_inflight *op = fim_operation();

	return op ? fim_return(ctx, family, op, op->ret) : 0;
}

/* Returns from where names are looked up, and perhaps made. */
static __always_inline int fim_exit(void *ctx, __u32 family, __u32 point, __s64 ret)
{
	struct fim_inflight *op = fim_returning(point);

	if (!op)
		return 0;
	return FIM_TAILS(family) ? fim_hand_over(ctx, op, ret) : fim_return(ctx, family, op, ret);
}

#define FIM_EXIT(name, point)                                                                                \
	static __always_inline int name##_exit(void *ctx, __u32 family)                                      \
	{                                                                                                    \
		return fim_exit(ctx, family, point, (__s32)fim_ret(ctx, family, point));                     \
	}

#define FIM_SHORT_EXIT(name, point)                                                                          \
	static __always_inline int name##_exit(void *ctx, __u32 family)                                      \
	{                                                                                                    \
		return fim_exit_short(ctx, family, point, (__s32)fim_ret(ctx, family, point));               \
	}

#endif /* FIM_RETURNS_H */
