/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Refusals: requests that the kernel refused before it knew the object. They
 * are reported by the caller's text, read from the kernel's own copy of it.
 */
#ifndef FIM_REFUSAL_H
#define FIM_REFUSAL_H

#include "kernel.h"
#include "event.h"
#include "slot.h"
#include "base.h"
#include "path.h"
#include "record.h"
#include "judge.h"
#include "operation.h"
#include "found.h"

/*
 * Errors that make an event even where no object was resolved. Others say that
 * there is no such file (ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG), or that the
 * request was malformed or ran out of something. EADDRINUSE: bind(2) found the name.
 */
#define FIM_REFUSALS                                                                                         \
	(1ULL << EPERM | 1ULL << EACCES | 1ULL << EBUSY | 1ULL << EEXIST | 1ULL << EXDEV | 1ULL << EISDIR |  \
	 1ULL << ETXTBSY | 1ULL << ENOSPC | 1ULL << EROFS | 1ULL << ENOTEMPTY)

static __always_inline int fim_is_refusal(__s64 ret)
{
	return ret == -EADDRINUSE || (ret < 0 && ret > -64 && ((FIM_REFUSALS >> -ret) & 1));
}

__noinline int __fim_read_name(__u32 index, __u64 filename, __u32 which)
{
	struct filename *name = (void *)filename;
	__u32 at = offsetof(struct fim_event, file[0].given);

	if (which & 1)
		at = offsetof(struct fim_event, file[1].given);
	return fim_append_text(index, BPF_CORE_READ(name, name), at);
}

/* Copies a name into the record before the kernel looks it up, in case that the lookup is refused. */
static __always_inline int fim_read_name(__u32 index, struct filename *filename, __u32 which)
{
	return __fim_read_name(index, (__u64)filename, which);
}

/* Resolves the directory that a text starts from. User space joins both, and follows no links. */
__noinline int fim_resolve_base(__u32 index, __u32 which, int dfd)
{
	struct fim_slot *slot = fim_slot_lookup(index);
	struct path *base;
	__u32 at;

	if (!slot)
		return 0;
	if (!slot->event.file[which & 1].given.length)
		return 0;
	slot->event.file[which & 1].flags |= FIM_AS_GIVEN;
	at = slot->event.file[which & 1].given.offset;
	if (at >= FIM_PAYLOAD_MAX)
		return 0;
	base = fim_base_path(dfd, slot->payload[at] == '/');
	if (!base)
		return 0;
	fim_walk_begin(slot, which, BPF_CORE_READ(base, dentry), fim_path_mount(base));
	return fim_walk_rest(index);
}

/* Gives an operation a slot that its name is copied to. Returns 0 if none is free. */
static __always_inline int fim_op_take_slot(struct fim_inflight *op, __u32 family)
{
	op->slot = fim_slot_get();
	return fim_record_start(op->slot, op->type, family);
}

/*
 * Counts a request that was refused before its object was known, and puts its
 * names into a slot. Returns 0 if there is nothing to judge.
 */
__noinline int fim_refusal_begin(__u32 family)
{
	struct fim_inflight *op = fim_op_lookup();
	struct fim_policy *policy;
	struct fim_slot *slot;

	if (!op || !(op->filename || op->keeps || (op->lacks & FIM_LACKS_ROOM)))
		return 0; /* without a name there is nothing to report */
	policy = fim_policy_admit(op->type);
	if (!policy)
		return 0;
	if (fim_is_hopeless(policy, op->type, op->flags)) {
		fim_count(op->type, approver_rejected);
		return 0;
	}
	if (op->filename && fim_op_take_slot(op, family)) {
		fim_read_name(op->slot, op->filename, 0);
		op->names = 1;
	} else if (op->filename || (op->lacks & FIM_LACKS_ROOM) || !fim_op_fetch(op)) {
		goto no_room;
	}
	slot = fim_slot_lookup(op->slot);
	if (!slot)
		goto no_room;
	slot->event.flags = op->flags;
	slot->event.mode = op->mode;
	if (op->type == FIM_CHOWN) {
		slot->event.new_uid = op->new_uid;
		slot->event.new_gid = op->new_gid;
	}
	return 1;
no_room:
	fim_lose(op->type, no_slot);
	return 0;
}

/*
 * Judges a refused request by the place where one of its names lies: a directory,
 * or the object itself for the old name of a link and for a change of an object.
 * Returns -1 if its text does not end with a name. The inode stays unknown:
 * approvers by inode were asked before.
 */
__noinline int __fim_judge_place(__u32 index, __u32 which, __u64 at, __u64 on)
{
	struct fim_slot *slot = fim_slot_lookup(index);
	struct dentry *dentry = (void *)at;
	struct fim_file *file;
	__u32 type, depth = 0;

	if (!slot)
		return -1;
	type = slot->event.type;
	file = &slot->event.file[which & 1];
	if (!file->given.length)
		return -1;
	if ((type == FIM_LINK && !(which & 1)) || (type != FIM_OPEN && !fim_is_among_names(type))) {
		file->given.length = 0; /* the object itself was found */
	} else {
		if (!fim_text_split(index, which, 1))
			return -1;
		file->given.offset += slot->text_start;
		file->given.length -= slot->text_start;
		depth = 1;
	}
	file->device = BPF_CORE_READ(dentry, d_sb, s_dev);
	fim_walk_begin(slot, which, dentry, (void *)on);
	slot->depth = depth;
	fim_walk_rest(index);
	if (!(slot->kinds & FIM_BY_NAME))
		return 0;
	return (file->flags & FIM_UNSURE) || fim_is_approved_name(slot, index);
}

/* Judges one name of a refused request by where it lies. Returns -1 if that is not known. */
static __always_inline int fim_judge_place(struct fim_inflight *op, __u32 which)
{
	struct fim_found *place;

	if (op->beside)
		return fim_op_is_reached(op)
			       ? __fim_judge_place(op->slot, which, (__u64)op->reached, (__u64)op->reached_on)
			       : -1;
	if (!fim_is_among_names(op->type) && !(FIM_WRITES_FIRST >> (op->point & (FIM_POINTS - 1)) & 1))
		return -1;
	place = fim_found_lookup(op, which);
	return place ? __fim_judge_place(op->slot, which, (__u64)place->dentry, (__u64)place->mount) : -1;
}

/* Judges one name of a refused request, as user space will. */
static __always_inline int fim_judge_name(struct fim_inflight *op, __u32 which)
{
	int approved = fim_judge_place(op, which);

	return approved < 0 ? fim_judge_text(op->slot, which, op->dfd[which & 1]) : approved;
}

/*
 * Judges a refused request by its texts, as user space will: it joins them with
 * the directories that they start from. Counts a rejection.
 */
static __always_inline int fim_judge_refused(struct fim_inflight *op)
{
	struct fim_slot *slot = fim_slot_lookup(op->slot);
	struct fim_policy *policy = slot ? fim_policy_consult(slot) : NULL;
	enum fim_opinion opinion;
	int approved;

	if (!policy)
		return 0;
	opinion = fim_judge_unnamed(slot, op->slot, policy);
	if (opinion == FIM_REJECTED)
		goto rejected;
	approved = opinion == FIM_APPROVED;
	approved |= fim_judge_name(op, 0);
	if (op->names > 1)
		approved |= fim_judge_name(op, 1);
	if (approved)
		return 1;
rejected:
	fim_count(op->type, approver_rejected);
	return 0;
}

/* Makes the record of a request that was refused before its object was known, if a rule may want it. */
static __always_inline void fim_op_refused(struct fim_inflight *op, __u32 family)
{
	if (fim_refusal_begin(family) && fim_judge_refused(op))
		op->state = FIM_PENDING;
}

#endif /* FIM_REFUSAL_H */
