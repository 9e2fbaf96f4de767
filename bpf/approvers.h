/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Approvers: what some rule may want. An event is approved if any one value
 * fits either of its files; what no approver fits is dropped here.
 *
 * Where a path is not fully known (truncated, as given, detached) a name can
 * prove nothing, and the event passes.
 */
#ifndef FIM_APPROVERS_H
#define FIM_APPROVERS_H

#include "maps.h"
#include "hash.h"

#define FIM_UNSURE (FIM_TRUNCATED | FIM_AS_GIVEN | FIM_DETACHED | FIM_DELETED)

#define FIM_FOLD_CHUNK 16

FIM_ONCE struct fim_policy *fim_policy(__u32 serial, __u32 type)
{
	__u32 key = (serial & 1) * FIM_TYPES + type;

	return bpf_map_lookup_elem(&policies, &key);
}

FIM_ONCE int fim_listed(struct fim_slot *slot, __u32 kind, __u64 value)
{
	struct fim_approver key = {
		.value = value,
		.kind = kind,
		.bank = slot->bank,
	};
	__u64 *mask = bpf_map_lookup_elem(&approvers, &key);

	return mask && (*mask & slot->bits);
}

/* What needs no name: flags, owners, layers. */
__noinline int fim_approve_plain(__u32 index, __u32 flags_any)
{
	struct fim_slot *slot = fim_slot_at(index);
	struct fim_event *event;
	__u32 kinds;

	if (!slot)
		return 0;
	event = &slot->event;
	kinds = slot->kinds;
	if ((kinds & FIM_BY_FLAGS) && (event->flags & flags_any))
		return 1;
	if ((kinds & FIM_BY_RDONLY) && !(event->flags & O_ACCMODE))
		return 1;
	if ((kinds & FIM_BY_UPPER) && ((event->file[0].flags | event->file[1].flags) & FIM_UPPER))
		return 1;
	if ((kinds & FIM_BY_UID) && fim_listed(slot, FIM_BY_UID, event->uid))
		return 1;
	return (kinds & FIM_BY_AUID) && fim_listed(slot, FIM_BY_AUID, event->auid);
}

static __always_inline int fim_approve_basename(struct fim_slot *slot)
{
	return (slot->kinds & FIM_BY_BASENAME) && slot->depth &&
	       fim_listed(slot, FIM_BY_BASENAME, slot->hashes[0]);
}

/*
 * Goes from the root one component down. A prefix stands for what lies
 * strictly below it. 0 at the end of the path or when approved.
 */
__noinline int fim_fold_step(__u32 index)
{
	struct fim_slot *slot = fim_slot_at(index);
	__u64 left;

	if (!slot || !slot->left)
		return 0;
	if ((slot->kinds & FIM_BY_PREFIX) && fim_listed(slot, FIM_BY_PREFIX, slot->fold))
		goto approved;
	left = slot->left - 1;
	if (left >= FIM_DEPTH_MAX)
		return 0;
	slot->fold = fim_mix(slot->fold, slot->hashes[left]);
	slot->left = left;
	if (left)
		return 1;
	if (!(slot->kinds & FIM_BY_PATH) || !fim_listed(slot, FIM_BY_PATH, slot->fold))
		return 0;
approved:
	slot->approved = 1;
	return 0;
}

__noinline int fim_fold_chunk(__u32 index)
{
	int i;

	for (i = 0; i < FIM_FOLD_CHUNK; i++)
		if (!fim_fold_step(index))
			return 0;
	return 1;
}

/* Whether a path whose components have been hashed is wanted. */
static __always_inline int fim_approve_names(struct fim_slot *slot, __u32 index)
{
	int i;

	if (fim_approve_basename(slot))
		return 1;
	slot->fold = FIM_HASH_SEED;
	slot->left = slot->depth;
	slot->approved = 0;
	for (i = 0; i < FIM_DEPTH_MAX / FIM_FOLD_CHUNK; i++)
		if (!fim_fold_chunk(index))
			break;
	return slot->approved;
}

/* Whether the path that was walked last is wanted. */
__noinline int fim_approve_path(__u32 index)
{
	struct fim_slot *slot = fim_slot_at(index);

	if (!slot || !(slot->kinds & FIM_BY_NAME))
		return 0;
	if (slot->event.file[slot->which & 1].flags & FIM_UNSURE)
		return 1;
	return fim_approve_names(slot, index);
}

#endif /* FIM_APPROVERS_H */
