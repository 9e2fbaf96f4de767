/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Approvers: values that some rule looks for. One value that fits either of its
 * files approves an event; an event that no value fits is dropped.
 *
 * Where a path is not fully known (truncated, as given, detached) a name proves
 * nothing, and the event passes. A deleted file is judged by its last path, which
 * is the one that user space compares.
 */
#ifndef FIM_APPROVERS_H
#define FIM_APPROVERS_H

#include "kernel.h"
#include "event.h"
#include "maps.h"
#include "slot.h"
#include "hash.h"

#define FIM_UNSURE (FIM_TRUNCATED | FIM_AS_GIVEN | FIM_DETACHED)

#define FIM_FOLD_CHUNK 16

/* Returns the mask of the events that a value approves. */
FIM_ONCE __u64 fim_listed(__u32 bank, __u32 kind, __u64 value)
{
	struct fim_approver key = {
		.value = value,
		.kind = kind,
		.bank = bank,
	};
	__u64 *mask = bpf_map_lookup_elem(&approvers, &key);

	return mask ? *mask : 0;
}

static __always_inline int fim_is_listed(struct fim_slot *slot, __u32 kind, __u64 value)
{
	return !!(fim_listed(slot->bank, kind, value) & slot->bits);
}

/* Whether flags, users, inodes or layers approve the event, for which no path is needed. */
__noinline int fim_is_approved_unnamed(__u32 index, __u32 flags_any)
{
	struct fim_slot *slot = fim_slot_lookup(index);
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
	if ((kinds & FIM_BY_INODE) && (fim_is_listed(slot, FIM_BY_INODE, event->file[0].inode) ||
				       fim_is_listed(slot, FIM_BY_INODE, event->file[1].inode)))
		return 1;
	if ((kinds & FIM_BY_UID) && fim_is_listed(slot, FIM_BY_UID, event->uid))
		return 1;
	return (kinds & FIM_BY_AUID) && fim_is_listed(slot, FIM_BY_AUID, event->auid);
}

static __always_inline int fim_is_approved_basename(struct fim_slot *slot)
{
	return (slot->kinds & FIM_BY_BASENAME) && slot->depth &&
	       fim_is_listed(slot, FIM_BY_BASENAME, slot->hashes[0]);
}

/*
 * Adds the next component to the hash of the path from the root. A prefix approves
 * paths below it, not itself; what prefixes approve for other types is noted for
 * directories.h. Returns 0 at the end of the path, or once it is approved.
 */
__noinline int fim_fold_step(__u32 index)
{
	struct fim_slot *slot = fim_slot_lookup(index);
	__u64 left;

	if (!slot || !slot->left)
		return 0;
	slot->prefixes |= fim_listed(slot->bank, FIM_BY_PREFIX, slot->fold);
	if (slot->prefixes & slot->bits)
		goto approved;
	left = slot->left - 1;
	if (left >= FIM_DEPTH_MAX)
		return 0;
	slot->above = slot->fold;
	slot->fold = fim_mix(slot->fold, slot->hashes[left]);
	slot->left = left;
	if (left)
		return 1;
	slot->folded = 1;
	if (!(slot->kinds & FIM_BY_PATH) || !fim_is_listed(slot, FIM_BY_PATH, slot->fold))
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

/* Whether its names approve a path whose components have been hashed. */
static __always_inline int fim_is_approved_name(struct fim_slot *slot, __u32 index)
{
	int i;

	if (fim_is_approved_basename(slot))
		return 1;
	slot->fold = FIM_HASH_SEED;
	slot->left = slot->depth;
	slot->approved = 0;
	slot->prefixes = 0;
	for (i = 0; i < FIM_DEPTH_MAX / FIM_FOLD_CHUNK; i++)
		if (!fim_fold_chunk(index))
			break;
	return slot->approved;
}

/* Whether its names approve the path that was walked last. */
__noinline int fim_is_approved_path(__u32 index)
{
	struct fim_slot *slot = fim_slot_lookup(index);

	if (!slot || !(slot->kinds & FIM_BY_NAME))
		return 0;
	if (slot->event.file[slot->which & 1].flags & FIM_UNSURE)
		return 1;
	return fim_is_approved_name(slot, index);
}

#endif /* FIM_APPROVERS_H */
