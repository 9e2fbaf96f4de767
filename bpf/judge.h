/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The judge: decides whether an event goes to user space. What an event is
 * about comes in three forms: objects that the kernel resolved, texts that a
 * system call was given, and texts of a request that the kernel refused.
 * fim_judge_unnamed() decides first for all three, at the least cost; only
 * where it leaves the decision to names are paths resolved and compared.
 */
#ifndef FIM_JUDGE_H
#define FIM_JUDGE_H

#include "kernel.h"
#include "event.h"
#include "maps.h"
#include "slot.h"
#include "policy.h"
#include "path.h"
#include "approvers.h"
#include "discarders.h"
#include "directories.h"
#include "record.h"
#include "text.h"

enum fim_opinion {
	FIM_REJECTED,
	FIM_APPROVED,
	FIM_UNDECIDED, /* names decide */
};

static __always_inline enum fim_opinion fim_judge_unnamed(struct fim_slot *slot, __u32 index,
							  struct fim_policy *policy)
{
	if (policy->mode == FIM_FORWARD_ALL || fim_is_approved_unnamed(index, policy->flags_any))
		return FIM_APPROVED;
	return (slot->kinds & FIM_BY_NAME) ? FIM_UNDECIDED : FIM_REJECTED;
}

/* --- objects -------------------------------------------------------------- */

/* Walks one file's path. Returns whether its names approve the event. */
__noinline int __fim_judge_file(__u32 index, __u32 which, __u64 dentry, __u64 mount)
{
	struct fim_slot *slot = fim_slot_lookup(index);

	if (!slot)
		return 0;
	fim_walk_begin(slot, which, (void *)dentry, (void *)mount);
	fim_walk_rest(index);
	fim_check_place(index, which, dentry);
	if (fim_is_approved_path(index))
		return 1;
	fim_directory_note(index, which, mount);
	return 0;
}

/* The second file is absent if its dentry is 0. */
__noinline int __fim_judge(__u32 index, __u64 dentry, __u64 mount, __u64 dentry2, __u64 mount2)
{
	struct fim_slot *slot = fim_slot_lookup(index);
	struct fim_policy *policy;
	enum fim_opinion opinion;
	int approved;

	if (!slot)
		return 0;
	policy = fim_policy_consult(slot);
	if (!policy)
		return 0;
	fim_fill_file(index, 0, (void *)dentry, (void *)mount);
	if (dentry2)
		fim_fill_file(index, 1, (void *)dentry2, (void *)mount2);
	opinion = fim_judge_unnamed(slot, index, policy);
	if (opinion == FIM_REJECTED)
		goto rejected;
	/* A script of which only the caller's text is known may have any name. */
	approved = opinion == FIM_APPROVED ||
		   ((slot->event.file[1].flags & FIM_AS_GIVEN) && (slot->kinds & FIM_BY_NAME));
	if (fim_is_discarded(index, 0, &slot->event.file[0]) &&
	    (!dentry2 || fim_is_discarded(index, 1, &slot->event.file[1]))) {
		fim_count(slot->event.type, discarded);
		return 0;
	}
	approved |= __fim_judge_file(index, 0, dentry, mount);
	if (dentry2)
		approved |= __fim_judge_file(index, 1, dentry2, mount2);
	if (approved)
		return 1;
rejected:
	fim_count(slot->event.type, approver_rejected);
	return 0;
}

/*
 * Fills in the object's files, resolves their paths and judges. Either of two
 * files may approve the event, only both together discard it. Returns 0, and
 * counts why, if the event is dropped.
 */
static __always_inline int fim_judge(__u32 index, const struct fim_object *object)
{
	return __fim_judge(index, (__u64)object->dentry, (__u64)object->mount, (__u64)object->dentry2,
			   (__u64)object->mount2);
}

/* --- texts ---------------------------------------------------------------- */

/* Resolves one text as far as possible. Returns whether it approves the event. */
__noinline int fim_judge_text(__u32 index, __u32 which, int dfd)
{
	struct fim_slot *slot = fim_slot_lookup(index);
	int sure;

	if (!slot || !slot->event.file[which & 1].given.length)
		return 0;
	sure = fim_text_split(index, which, 0);
	sure &= fim_text_walk_base(index, which, dfd);
	if (!(slot->kinds & FIM_BY_NAME))
		return 0;
	if (!sure || (slot->event.file[which & 1].flags & (FIM_UNSURE & ~FIM_AS_GIVEN)))
		return 1;
	return fim_is_approved_name(slot, index);
}

#endif /* FIM_JUDGE_H */
