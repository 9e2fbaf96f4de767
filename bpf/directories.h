/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Directories that the judge has seen: the hash of the path of each, and which
 * events some prefix approves below it. An event on a name in one of them is
 * rejected by that and by the name, without a record and without a walk.
 *
 * What is remembered of a directory becomes stale as a discarder does, by the
 * policy's serial, the generation and the epoch of its inode (discarders.h), and
 * is used only while every hook that makes discarders stale is attached.
 */
#ifndef FIM_DIRECTORIES_H
#define FIM_DIRECTORIES_H

#include "kernel.h"
#include "event.h"
#include "maps.h"
#include "slot.h"
#include "context.h"
#include "hash.h"
#include "path.h"
#include "policy.h"
#include "approvers.h"
#include "discarders.h"

#define FIM_DIRECTORIES 8192 /* a power of two */
#define FIM_DIRECTORY_EXPIRY                                                                                 \
	6000 /* jiffies: a minute at 100 in a second, the fewest that a kernel counts                        \
	      */

/* Two directories may share a place; the last one stays. */
struct fim_directory {
	__u64 identity; /* of its inode */
	__u64 mount;
	__u64 fold;	/* hash of its path */
	__u64 prefixes; /* mask of the events that a prefix approves below it */
	__u64 since;	/* jiffies */
	__u32 serial;	/* of the policy */
	__u32 generation;
	__u32 epoch;
	__u32 reserved;
	__u64 check; /* hash of the rest: another processor may be writing, and nothing orders its writes */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FIM_DIRECTORIES);
	__type(key, __u32);
	__type(value, struct fim_directory);
} directories SEC(".maps");

static __always_inline struct fim_directory *fim_directory_lookup(__u64 identity, __u64 mount)
{
	__u32 place = fim_mix(identity, mount) & (FIM_DIRECTORIES - 1);

	return bpf_map_lookup_elem(&directories, &place);
}

static __always_inline __u64 fim_directory_check(const struct fim_directory *directory)
{
	__u64 hash = fim_mix(FIM_HASH_SEED, directory->identity);

	hash = fim_mix(hash, directory->mount);
	hash = fim_mix(hash, directory->fold);
	hash = fim_mix(hash, directory->prefixes);
	hash = fim_mix(hash, directory->since);
	hash = fim_mix(hash, (__u64)directory->serial << 32 | directory->generation);
	return fim_mix(hash, directory->epoch);
}

/* Remembers the directory of the file that was just walked and rejected, if its path is certain. */
__noinline int fim_directory_note(__u32 index, __u32 which, __u64 on)
{
	struct fim_directory fresh = {}, *place;
	struct fim_slot *slot = fim_slot_lookup(index);
	struct fim_file *file;

	if (!slot)
		return 0;
	file = &slot->event.file[fim_index(which, FIM_FILES)];
	if (!file->identities[1] || (file->flags & FIM_UNSURE) || !slot->folded ||
	    slot->depth >= FIM_DEPTH_MAX || slot->used - slot->start > FIM_PATH_MAX - FIM_NAME_SIZE)
		return 0;
	fresh.identity = file->identities[1];
	fresh.mount = on;
	fresh.fold = slot->above;
	fresh.prefixes = slot->prefixes;
	fresh.since = bpf_jiffies64();
	fresh.serial = slot->event.serial;
	fresh.generation = slot->event.generation;
	fresh.epoch = file->epochs[1];
	fresh.check = fim_directory_check(&fresh);
	place = fim_directory_lookup(fresh.identity, on);
	if (place)
		*place = fresh;
	return 1;
}

/* Copies what is known of a directory. Returns 0 if nothing valid is. */
static __always_inline int fim_directory_recall(struct fim_directory *found, __u64 identity, __u64 mount,
						__u32 serial)
{
	struct fim_directory *place = fim_directory_lookup(identity, mount);

	if (!place)
		return 0;
	*found = *place;
	asm volatile("" ::: "memory"); /* what is checked below is the copy */
	return found->identity == identity && found->mount == mount && found->serial == serial &&
	       found->generation == fim_generation_read() && found->epoch == fim_epoch_read(identity) &&
	       bpf_jiffies64() - found->since < FIM_DIRECTORY_EXPIRY &&
	       found->check == fim_directory_check(found);
}

/* Returns the hash of a name; 0 if it cannot be read, or no slot is free. */
__noinline __u64 fim_hash_long(__u64 name)
{
	__u32 index = fim_slot_get();
	struct fim_slot *slot = fim_slot_lookup(index);
	__u64 hash = 0;
	long size;

	if (!slot)
		return 0;
	size = fim_read_string(slot->name, FIM_NAME_SIZE, (void *)name, &slot->place);
	if (size < 2)
		goto out;
	barrier_var(size); /* keeps both bounds: the verifier needs each of them */
	if (size > FIM_NAME_SIZE)
		goto out;
	hash = fim_hash_name(slot, index, size - 1);
out:
	fim_slot_put(index);
	return hash;
}

/* Whether a name in a directory with this hash approves an event; 1 too if it cannot be read. */
static __always_inline int fim_is_approved_entry(__u64 name, __u64 fold, __u64 bits, __u32 kinds, __u32 bank)
{
	__u64 hash = fim_hash_short(name);

	if (!hash)
		hash = fim_hash_long(name);
	if (!hash)
		return 1;
	return ((kinds & FIM_BY_BASENAME) && (fim_listed(bank, FIM_BY_BASENAME, hash) & bits)) ||
	       ((kinds & FIM_BY_PATH) && (fim_listed(bank, FIM_BY_PATH, fim_mix(fold, hash)) & bits));
}

/* Whether what is remembered of a file's directory, and its name, reject an event on it. */
__noinline int __fim_is_unwatched(__u32 type, __u32 flags, __u64 above, __u64 name, __u64 on)
{
	struct fim_config *cfg = fim_config_lookup();
	struct fim_directory directory;
	struct fim_policy *policy;
	__u32 kinds, serial;
	__u64 bits;

	if (!cfg || !cfg->remembers)
		return 0;
	serial = cfg->serial;
	policy = fim_policy_lookup(serial, type);
	if (!policy || policy->mode != FIM_APPROVE)
		return 0;
	kinds = fim_policy_kinds(policy, type, flags, &bits);
	if (!kinds)
		return 1;
	if (kinds & ~FIM_BY_NAME)
		return 0;
	if (!fim_directory_recall(&directory, fim_identity((void *)above), on, serial) ||
	    (directory.prefixes & bits))
		return 0;
	if (!(kinds & (FIM_BY_BASENAME | FIM_BY_PATH)))
		return 1;
	return !fim_is_approved_entry(name, directory.fold, bits, kinds, serial & 1);
}

/*
 * Whether an event on a name can be rejected by what is remembered. The pointers are the
 * program's own, typed where it has them so.
 */
static __always_inline int fim_is_unwatched(__u32 family, __u32 type, __u32 flags, struct dentry *dentry,
					    struct vfsmount *mnt)
{
	struct dentry *parent = fim_field(family, dentry, d_parent);
	struct inode *above;

	if (parent == dentry || dentry == fim_field(family, mnt, mnt_root))
		return 0;
	above = fim_field(family, parent, d_inode);
	if (!above)
		return 0;
	return __fim_is_unwatched(type, flags, (__u64)fim_untyped(family, above),
				  (__u64)fim_untyped(family, fim_field(family, dentry, d_name.name)),
				  (__u64)fim_real_mount(fim_untyped(family, mnt)));
}

#endif /* FIM_DIRECTORIES_H */
