/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The moment when the object of an operation is known: its record is judged. */
#ifndef FIM_RESOLVE_H
#define FIM_RESOLVE_H

#include "kernel.h"
#include "event.h"
#include "maps.h"
#include "slot.h"
#include "path.h"
#include "judge.h"
#include "operation.h"

/* Ends the judgement of an operation that is rejected without a record, and counts it. */
static __always_inline int fim_op_reject(struct fim_inflight *op)
{
	op->state = FIM_SEEN;
	fim_op_forget(op);
	fim_count_rejected(op->type);
	return 0;
}

/*
 * Whether an operation on this name needs no record to be rejected. An operation on two
 * names does if that holds for both.
 */
static __always_inline int fim_op_is_unwatched(struct fim_inflight *op, __u32 family, struct dentry *dentry,
					       struct vfsmount *mnt)
{
	return !op->quiet && fim_is_unwatched(family, op->type, op->flags, dentry, mnt);
}

/* Judges the record of an operation. An approved one gets the caller's texts. */
static __always_inline int fim_op_judge_here(struct fim_inflight *op, const struct fim_object *object)
{
	int approved = fim_judge(op->slot, object);

	if (approved && object->name)
		fim_append_text(op->slot, object->name, offsetof(struct fim_event, name));
	if (approved && object->source)
		fim_append_text(op->slot, object->source, offsetof(struct fim_event, source));
	fim_op_judged(op, approved);
	return 0;
}

/*
 * Judges as the last thing that a program does. Where it can jump to another
 * program for that, the verifier checks the larger part of all of them once.
 */
static __always_inline int fim_op_judge(void *ctx, __u32 family, struct fim_inflight *op,
					const struct fim_object *object)
{
	struct fim_slot *slot;

	if (!FIM_JUDGES_APART(family))
		return fim_op_judge_here(op, object);
	slot = fim_slot_lookup(op->slot);
	if (!slot)
		return 0;
	slot->object = *object;
	fim_tail_call(ctx, family, FIM_TAIL_JUDGE);
	fim_lose(op->type, abandoned);
	fim_op_drop(op);
	return 0;
}

/* The program that those jump to. */
static __always_inline int fim_op_judge_tail(void)
{
	struct fim_inflight *op = fim_op_lookup();
	struct fim_slot *slot = op ? fim_slot_lookup(op->slot) : NULL;

	return slot ? fim_op_judge_here(op, &slot->object) : 0;
}

#endif /* FIM_RESOLVE_H */
