/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Slots: memory in which a program builds a record.
 *
 * A program holds a slot while it runs and never when it returns: what a thread
 * needs later, while it may sleep, is put into keep.h and charged to its user.
 * Each processor has slots of its own. They are claimed, because a program can
 * be preempted between two instructions, and the next program on that CPU would
 * overwrite the record. Then programs take one of a few slots that all share.
 */
#ifndef FIM_SLOT_H
#define FIM_SLOT_H

#include "kernel.h"
#include "entry.h"
#include "event.h"
#include "maps.h"

#define FIM_PAYLOAD_MAX	 (5 * FIM_PATH_MAX)
#define FIM_OWN_SLOTS	 2 /* of each processor */
#define FIM_CPU_SLOTS	 (FIM_CPUS * FIM_OWN_SLOTS)
#define FIM_SHARED_SLOTS 64 /* their indexes follow */
#define FIM_NO_SLOT	 0xffffffffU
#define FIM_HASH_WORDS	 (FIM_NAME_SIZE / 8)

/* What an event is about: one or two files, and the caller's texts for an approved record. */
struct fim_object {
	struct dentry *dentry;
	struct mount *mount;
	struct dentry *dentry2; /* NULL: there is one file */
	struct mount *mount2;
	const char *name; /* addresses, or NULL */
	const char *source;
};

struct fim_slot {
	struct fim_event event;
	char payload[FIM_PAYLOAD_MAX]; /* a record ends within this */
	/* The rest never leaves the kernel. */
	union { /* the current component, padded with zeros */
		char name[FIM_NAME_SIZE + 8];
		__u64 words[FIM_HASH_WORDS + 1];
	};
	__u64 hash;		     /* of the current component */
	__u64 hashes[FIM_DEPTH_MAX]; /* of the components, the last one first */
	struct fim_entry entry;	     /* a name that a walk passes */
	struct dentry *dentry;	     /* current place of a walk */
	struct dentry *top;	     /* root of the mount on which that place is */
	struct mount *mount;
	__u64 fold;		  /* hash of the directories down to `left` */
	__u64 above;		  /* hash of the directories above the component that was folded last */
	__u64 prefixes;		  /* mask of the events that a prefix approves there */
	__u64 bits;		  /* of the event in an approver's mask */
	__u32 used;		  /* bytes of the payload */
	__u32 start;		  /* of the current path in the payload */
	__u32 depth;		  /* components of the current path */
	__u32 left;		  /* components that are not folded yet */
	__u32 which;		  /* index of the current file */
	__u32 local;		  /* 1: files of its file system may be discarded */
	__u32 bank;		  /* of the policy that judges */
	__u32 kinds;		  /* the policy's, enum fim_kind */
	__u32 folded;		  /* 1: all components of the current path were folded */
	__u32 approved;		  /* result of folding a path */
	__u32 text;		  /* start of the current text in the payload */
	__u32 text_left;	  /* bytes of it that are not split yet */
	__u32 text_end;		  /* where its current component ends */
	__u32 text_last;	  /* 1: only its last component counts */
	__u32 text_start;	  /* where its last component starts, with `text_last` */
	__u32 text_plain;	  /* 1: it has no `.`, `..` or doubled slash */
	__u32 claims;		  /* programs that want it: 1 has it */
	__u64 place;		  /* address of a string that is read */
	struct fim_object object; /* for the program that judges it, at the end of a tail call */
};

/* Both ends of a record are addressed by offset in one stretch of memory. */
_Static_assert(__builtin_offsetof(struct fim_slot, payload) == sizeof(struct fim_event),
	       "the payload follows the header without a gap");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FIM_CPU_SLOTS + FIM_SHARED_SLOTS);
	__type(key, __u32);
	__type(value, struct fim_slot);
} slots SEC(".maps");

/* Indexes of unused shared slots; the loader fills it. */
struct {
	__uint(type, BPF_MAP_TYPE_STACK);
	__uint(max_entries, FIM_SHARED_SLOTS);
	__uint(value_size, sizeof(__u32));
} free_slots SEC(".maps");

static __always_inline struct fim_slot *fim_slot_lookup_inline(__u32 index)
{
	return bpf_map_lookup_elem(&slots, &index);
}

/* For all but the deepest functions: the verifier allows eight frames. */
FIM_ONCE struct fim_slot *fim_slot_lookup(__u32 index)
{
	return fim_slot_lookup_inline(index);
}

/*
 * Claims a slot. Of two programs at most one gets it, because each counts its
 * claim before it looks; neither may, and then both look elsewhere. (Atomic
 * operations that return a value came in 5.12.)
 */
FIM_ONCE int fim_slot_claim(__u32 index)
{
	struct fim_slot *slot = fim_slot_lookup_inline(index);

	if (!slot)
		return 0;
	__sync_fetch_and_add(&slot->claims, 1);
	if (*(volatile __u32 *)&slot->claims == 1)
		return 1;
	__sync_fetch_and_add(&slot->claims, -1);
	return 0;
}

/* Returns the index of a free slot, or FIM_NO_SLOT. The caller counts an event for which there is none. */
FIM_ONCE __u32 fim_slot_get(void)
{
	__u32 index = (bpf_get_smp_processor_id() & (FIM_CPUS - 1)) * FIM_OWN_SLOTS;
	__u32 shared = FIM_NO_SLOT;

	if (fim_slot_claim(index))
		return index;
	if (fim_slot_claim(index + 1))
		return index + 1;
	if (bpf_map_pop_elem(&free_slots, &shared))
		return FIM_NO_SLOT;
	return shared;
}

/*
 * Gives a slot back. The stack has room for all shared ones. If the kernel still
 * refuses, fim_slot_get() fails earlier, and is counted.
 */
FIM_ONCE void fim_slot_put(__u32 index)
{
	struct fim_slot *slot;

	if (index == FIM_NO_SLOT)
		return;
	if (index >= FIM_CPU_SLOTS) {
		bpf_map_push_elem(&free_slots, &index, BPF_ANY);
		return;
	}
	slot = fim_slot_lookup(index);
	if (slot)
		__sync_fetch_and_add(&slot->claims, -1);
}

#endif /* FIM_SLOT_H */
