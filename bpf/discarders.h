/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Discarders: inodes that no rule can match, as user space has proved, and
 * directories for what lies one to three levels below them.
 *
 * A discarder is valid while everything that its proof rests on is unchanged.
 * It carries the policy's serial, the generation and the epoch of its inode, as
 * they were before the path of the event that taught it was resolved: a proof
 * that arrives late is stale when it arrives. fim_check_place() sees that the
 * path belongs to the inodes. Renaming, linking and unlinking
 * advance the inode's epoch; moving a directory and any mount advance the
 * generation. Both happen before the operation and again after it, because a
 * path can be resolved in between. An operation whose object was not seen
 * advances the generation. What advances without an operation (invalidation.h)
 * does so only before it; what slips through is bounded by `expires`.
 *
 * The address distinguishes an inode from all others: numbers repeat in subvolumes
 * and snapshots, in layers, and after files were removed. When the kernel frees
 * an inode, which ends the address' meaning, the epoch advances as well.
 */
#ifndef FIM_DISCARDERS_H
#define FIM_DISCARDERS_H

#include "kernel.h"
#include "event.h"
#include "maps.h"
#include "slot.h"
#include "hash.h"

/* Returns a number that no other inode has as long as this one lives: one to one, and no address to leak. */
static __always_inline __u64 fim_identity(struct inode *inode)
{
	return inode ? fim_mix(FIM_HASH_SEED, (__u64)inode) : 0;
}

static __always_inline __u32 fim_epoch_key(__u64 identity)
{
	return identity & (FIM_EPOCHS - 1);
}

FIM_ONCE __u32 fim_epoch_read(__u64 identity)
{
	__u32 key = fim_epoch_key(identity);
	__u32 *epoch = bpf_map_lookup_elem(&epochs, &key);

	return epoch ? *epoch : 0;
}

static __always_inline __u32 fim_generation_read(void)
{
	__u32 *value = fim_cell(generation, 0, 1);

	return value ? *(volatile __u32 *)value : 0;
}

static __always_inline void fim_bump_generation(void)
{
	__u32 *value = fim_cell(generation, 0, 1);

	if (value)
		__sync_fetch_and_add(value, 1);
}

FIM_ONCE void fim_bump_epoch(__u32 key)
{
	__u32 *epoch = bpf_map_lookup_elem(&epochs, &key);

	if (epoch)
		__sync_fetch_and_add(epoch, 1);
}

/*
 * DCACHE_MOUNTED: something is mounted on this name in some namespace, and its path changes with the name.
 * Bit 16 on 5.10, 6.1 and 6.12, 15 on 7.3. The bit of other kernels only makes discarders stale too often.
 */
#define FIM_MOUNTED 0x18000

/*
 * Clears what a file would be discarded by, if the file has moved since that was
 * read: its path is in another directory than the one whose inode was noted, and
 * would prove of that one what holds for the other. A file moves after its epoch
 * has advanced, and its directory differs afterwards; so if both are the same the
 * path was read in this directory. Directories above that move advance the
 * generation, which the event has from before.
 */
__noinline int fim_check_place(__u32 index, __u32 which, __u64 at)
{
	struct fim_slot *slot = fim_slot_lookup(index);
	struct dentry *dentry = (void *)at;
	__u64 identity, above;
	struct fim_file *file;
	__u32 epoch;

	if (!slot)
		return 0;
	file = &slot->event.file[fim_index(which, FIM_FILES)];
	identity = file->identities[0];
	above = file->identities[1];
	epoch = file->epochs[0];
	if (!above || (fim_identity(BPF_CORE_READ(dentry, d_parent, d_inode)) == above &&
		       (!identity || fim_epoch_read(identity) == epoch)))
		return 1;
	slot = fim_slot_lookup(index);
	if (!slot)
		return 0;
	file = &slot->event.file[fim_index(which, FIM_FILES)];
	file->identities[0] = 0;
	file->identities[1] = 0;
	file->identities[2] = 0;
	file->identities[3] = 0;
	return 0;
}

/* Whether a valid discarder of this level drops the event for one of its files. */
__noinline int fim_is_discarded_at(__u32 index, __u32 which, __u32 level)
{
	struct fim_slot *slot = fim_slot_lookup(index);
	struct fim_discarder key = { .level = level };
	struct fim_discard *found;
	struct fim_event *event;
	struct fim_file *file;

	if (!slot || level > FIM_PARENTS)
		return 0;
	event = &slot->event;
	file = &event->file[which & 1];
	key.identity = file->identities[fim_index(level, 4)];
	if (!key.identity)
		return 0;
	key.mount_id = file->mount_id;
	found = bpf_map_lookup_elem(&discarders, &key);
	return found && found->serial == event->serial && found->generation == event->generation &&
	       found->epoch == file->epochs[fim_index(level, 4)] && found->expires >= event->time &&
	       (found->mask >> (event->type & 31) & 1);
}

/* Whether one file of the event is discarded. */
static __always_inline int fim_is_discarded(__u32 index, __u32 which, struct fim_file *file)
{
	__u32 level;

	for (level = 1; level <= FIM_PARENTS; level++)
		if (fim_is_discarded_at(index, which, level))
			return 1;
	/* A rule may match a file by another of its names. */
	if (file->nlink != 1 && (file->mode & S_IFMT) != S_IFDIR)
		return 0;
	return fim_is_discarded_at(index, which, 0);
}

#endif /* FIM_DISCARDERS_H */
