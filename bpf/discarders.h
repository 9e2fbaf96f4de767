/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Discarders: inodes, and directories for what lies one to three levels below,
 * of which user space proved that no rule can match them.
 *
 * One is valid as long as nothing happened that the proof rests on. Each
 * carries the policy's serial, the generation and the epoch of its inode, as
 * the event that taught it had read them before its path was resolved; a proof
 * that arrives late is therefore stale when it arrives. Renaming, linking and
 * unlinking advance the inode's epoch; moving a directory or any mount
 * advances the generation. Both happen before the operation and again after
 * it, because a path can be resolved in between. What changes a file behind
 * our back, such as a network file system's server, is bounded by `expires`.
 */
#ifndef FIM_DISCARDERS_H
#define FIM_DISCARDERS_H

#include "maps.h"
#include "hash.h"

static __always_inline __u32 fim_epoch_key(__u64 inode, __u32 device)
{
	return fim_mix(inode, device) & (FIM_EPOCHS - 1);
}

static __always_inline __u32 fim_epoch(__u64 inode, __u32 device)
{
	__u32 key = fim_epoch_key(inode, device);
	__u32 *epoch = bpf_map_lookup_elem(&epochs, &key);

	return epoch ? *epoch : 0;
}

static __always_inline __u32 fim_generation(void)
{
	__u32 zero = 0;
	__u32 *value = bpf_map_lookup_elem(&generation, &zero);

	return value ? *value : 0;
}

static __always_inline void fim_bump_generation(void)
{
	__u32 zero = 0;
	__u32 *value = bpf_map_lookup_elem(&generation, &zero);

	if (value)
		__sync_fetch_and_add(value, 1);
}

static __always_inline void fim_bump_epoch(__u32 key)
{
	__u32 *epoch = bpf_map_lookup_elem(&epochs, &key);

	if (epoch)
		__sync_fetch_and_add(epoch, 1);
}

/* The event bits that a valid discarder drops at this level. */
static __always_inline __u64 fim_discards(struct fim_event *event, struct fim_file *file, __u64 inode,
					  __u32 level, __u32 epoch)
{
	struct fim_discarder key = {
		.inode = inode,
		.device = file->device,
		.mount_id = file->mount_id,
		.level = level,
	};
	struct fim_discard *found;

	if (!inode)
		return 0;
	found = bpf_map_lookup_elem(&discarders, &key);
	if (!found || found->serial != event->serial || found->generation != event->generation ||
	    found->epoch != epoch || found->expires < event->time)
		return 0;
	return found->mask;
}

/* Whether one file of the event is discarded. */
int fim_discarded(__u32 index, __u32 which)
{
	struct fim_slot *slot = fim_slot_at(index);
	struct fim_event *event;
	struct fim_file *file;
	__u64 mask;

	if (!slot)
		return 0;
	event = &slot->event;
	file = &event->file[which & 1];
	mask = fim_discards(event, file, file->parents[0], 1, file->epochs[1]);
	mask |= fim_discards(event, file, file->parents[1], 2, file->epochs[2]);
	mask |= fim_discards(event, file, file->parents[2], 3, file->epochs[3]);
	if (file->nlink == 1 || (file->mode & S_IFMT) == S_IFDIR)
		mask |= fim_discards(event, file, file->inode, 0, file->epochs[0]);
	return mask >> (event->type & 31) & 1;
}

#endif /* FIM_DISCARDERS_H */
