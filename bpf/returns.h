/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The return of an operation: its return value, the inode that it created, and the record. */
#ifndef FIM_RETURNS_H
#define FIM_RETURNS_H

#include "kernel.h"
#include "event.h"
#include "maps.h"
#include "slot.h"
#include "record.h"
#include "context.h"
#include "operation.h"
#include "refusal.h"

/*
 * Fills in the inode that a new name got. The kernel may have freed the name's
 * dentry meanwhile, and used it again: it must still be that name.
 */
__noinline int fim_fill_created(__u32 index)
{
	struct fim_inflight *op = fim_op_lookup();
	struct fim_slot *slot = fim_slot_lookup(index);
	struct dentry *dentry;
	struct inode *inode;
	__u32 which;

	if (!op || !slot)
		return 0;
	which = op->type == FIM_LINK;
	dentry = op->created;
	inode = BPF_CORE_READ(dentry, d_inode);
	if (!inode || BPF_CORE_READ(dentry, d_parent) != op->parent ||
	    BPF_CORE_READ(dentry, d_name.hash_len) != op->name_hash)
		return 0;
	slot->event.file[which].flags |= FIM_CREATED;
	return fim_fill_inode(index, which, inode);
}

/*
 * Returns the operation that ends at this point, if it is followed. One that had
 * no room advanced the generation as it began, and does so again.
 */
static __always_inline struct fim_inflight *fim_op_lookup_returning(__u32 point)
{
	struct fim_inflight *op = fim_op_lookup_inline();

	if (!op && (FIM_INVALIDATING_POINTS >> point & 1))
		fim_bump_generation();
	if (op && op->nested) {
		__sync_fetch_and_add(&op->nested, -1);
		return NULL;
	}
	return op && op->point == point ? op : NULL;
}

/* Whether a signal ended the call, which may begin anew. */
static __always_inline int fim_is_interrupted(__s64 ret)
{
	return ret == -ERESTARTSYS || ret == -ERESTARTNOINTR || ret == -ERESTARTNOHAND ||
	       ret == -ERESTART_RESTARTBLOCK;
}

/* Whether this thread serves requests of others, as io_uring's do: it has no call that could begin anew. */
static __always_inline int fim_is_worker(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	return !!(BPF_CORE_READ(task, flags) & (PF_IO_WORKER | PF_KTHREAD));
}

static __always_inline int fim_op_finish(void *ctx, struct fim_inflight *op, __s64 ret)
{
	struct fim_slot *slot;

	if (op->state != FIM_PENDING) {
		if (ret >= 0 && fim_op_changed_unseen(op))
			op->moves = 1;
		return fim_op_leave();
	}
	if (fim_is_interrupted(ret)) {
		if (!fim_is_worker()) {
			op->ret = ret;
			op->interrupted = 1;
			return 0;
		}
		ret = -EINTR;
	}
	if (op->slot == FIM_NO_SLOT && !fim_op_fetch(op))
		fim_lose(op->type, no_slot);
	slot = fim_slot_lookup(op->slot);
	if (slot) {
		slot->event.retval = ret;
		if (op->type == FIM_CHATTR)
			slot->event.flags = op->flags; /* may have been read at the return only */
		fim_record_submit(ctx, op->slot);
	}
	return fim_op_leave();
}

/*
 * Jumps to the program that serves all returns, so that the verifier checks the
 * larger part of them once. A program that calls no function of its own may do
 * that on every architecture. If the jump fails, the operation stays in flight
 * and is counted as abandoned.
 */
static __always_inline int fim_op_hand_over(void *ctx, __u32 family, struct fim_inflight *op, __s64 ret)
{
	op->ret = ret;
	fim_tail_call(ctx, family, FIM_TAIL_RETURNED);
	return 0;
}

static __always_inline int fim_op_end(void *ctx, __u32 family, struct fim_inflight *op, __s64 ret)
{
	return FIM_TAILS(family) ? fim_op_hand_over(ctx, family, op, ret) : fim_op_finish(ctx, op, ret);
}

/* The return from a point where the object was known at the entry. */
static __always_inline int fim_op_exit_short(void *ctx, __u32 family, __u32 point)
{
	struct fim_inflight *op = fim_op_lookup_returning(point);

	return op ? fim_op_end(ctx, family, op, (__s32)fim_ret(ctx, family, point)) : 0;
}

static __always_inline int fim_op_return(void *ctx, __u32 family, struct fim_inflight *op, __s64 ret)
{
	if (op->state == FIM_ENTERED && !op->quiet &&
	    (fim_is_refusal(ret) || (ret >= 0 && (FIM_AT_SETATTRS >> (op->point & (FIM_POINTS - 1)) & 1))))
		fim_op_refused(op, family);
	else if (op->state == FIM_ENTERED && !op->quiet && (op->lacks & FIM_LACKS_MOUNT))
		fim_lose(op->type, unentered);
	else if (op->state == FIM_PENDING && op->created && ret >= 0 && fim_op_fetch(op))
		fim_fill_created(op->slot);
	return fim_op_finish(ctx, op, ret);
}

/*
 * Judges the object of an operation that the kernel refused once it had found
 * it: the one that links and descriptors led to, whatever the caller's text was.
 * The kernel holds it no more, and may have used its memory again.
 */
static __always_inline void fim_op_refuse_reached(struct fim_inflight *op, __u32 family, __s64 ret)
{
	struct fim_object object = { .dentry = op->reached, .mount = op->reached_on };

	if (op->state != FIM_ENTERED || op->quiet || op->beside || !fim_op_is_reached(op))
		return;
	if (!fim_is_refusal(ret) && op->point != FIM_AT_FTRUNCATE)
		return;
	if (!fim_op_record(op, family))
		return;
	if (fim_judge(op->slot, &object))
		op->state = FIM_PENDING;
	else
		fim_op_drop(op);
}

/*
 * Whether this is a change of which read_only.h foretold that its mount refuses it,
 * and the mount does not: it is entered anew where the kernel makes it.
 */
static __always_inline int fim_op_is_foretold(struct fim_inflight *op, __s64 ret)
{
	return op->point == FIM_AT_WANT_WRITE_FILE && !ret;
}

/* Ends such an operation, which is no event of its own. */
static __always_inline int fim_op_void(struct fim_inflight *op)
{
	return op->state == FIM_PENDING ? fim_op_repeat() : fim_op_leave();
}

/*
 * The end of every return that jumps. Where the object was known at the entry
 * no inode was created and no name is kept, and this only finishes.
 */
static __always_inline int fim_op_exit_tail(void *ctx, __u32 family)
{
	struct fim_inflight *op = fim_op_lookup();

	if (!op)
		return 0;
	if (fim_op_is_foretold(op, op->ret))
		return fim_op_void(op);
	fim_op_refuse_reached(op, family, op->ret);
	return fim_op_return(ctx, family, op, op->ret);
}

/* The return from a point where names are looked up, and may be created. */
static __always_inline int fim_op_exit(void *ctx, __u32 family, __u32 point)
{
	struct fim_inflight *op = fim_op_lookup_returning(point);
	__s64 ret;

	if (!op)
		return 0;
	ret = (__s32)fim_ret(ctx, family, point);
	return FIM_TAILS(family) ? fim_op_hand_over(ctx, family, op, ret)
				 : fim_op_return(ctx, family, op, ret);
}

#define FIM_EXIT(name, point)                                                                                \
	static __always_inline int name##_exit(void *ctx, __u32 family)                                      \
	{                                                                                                    \
		return fim_op_exit(ctx, family, point);                                                      \
	}

#define FIM_SHORT_EXIT(name, point)                                                                          \
	static __always_inline int name##_exit(void *ctx, __u32 family)                                      \
	{                                                                                                    \
		return fim_op_exit_short(ctx, family, point);                                                \
	}

#endif /* FIM_RETURNS_H */
