/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Slots: memory in which one operation builds its record.
 *
 * A slot belongs to one operation of one thread and is not per-CPU memory:
 * a program can be preempted between two instructions, and the next program on
 * that CPU would overwrite the record.
 */
#ifndef FIM_SLOT_H
#define FIM_SLOT_H

#include "kernel.h"
#include "event.h"

#define FIM_PAYLOAD_MAX (5 * FIM_PATH_MAX)
#define FIM_SLOTS	256 /* events in flight with a record */
#define FIM_NO_SLOT	0xffffffffU
#define FIM_HASH_WORDS	(FIM_NAME_SIZE / 8)

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
	struct dentry *dentry;	     /* current place of a walk */
	struct mount *mount;
	__u64 fold;		  /* hash of the directories down to `left` */
	__u64 bits;		  /* of the event in an approver's mask */
	__u32 used;		  /* bytes of the payload */
	__u32 start;		  /* of the current path in the payload */
	__u32 depth;		  /* components of the current path */
	__u32 left;		  /* components that are not folded yet */
	__u32 which;		  /* index of the current file */
	__u32 local;		  /* 1: files of its file system may be discarded */
	__u32 bank;		  /* of the policy that judges */
	__u32 kinds;		  /* the policy's, enum fim_kind */
	__u32 approved;		  /* result of folding a path */
	__u32 text;		  /* start of the current text in the payload */
	__u32 text_left;	  /* bytes of it that are not split yet */
	__u32 text_end;		  /* where its current component ends */
	__u32 text_plain;	  /* 1: it has no `.`, `..` or doubled slash */
	struct fim_object object; /* for the program that judges it, at the end of a tail call */
};

/* Both ends of a record are addressed by offset in one stretch of memory. */
_Static_assert(__builtin_offsetof(struct fim_slot, payload) == sizeof(struct fim_event),
	       "the payload follows the header without a gap");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FIM_SLOTS);
	__type(key, __u32);
	__type(value, struct fim_slot);
} slots SEC(".maps");

/* Indexes of unused slots; the loader fills it. */
struct {
	__uint(type, BPF_MAP_TYPE_STACK);
	__uint(max_entries, FIM_SLOTS);
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

/* Returns the index of a free slot, or FIM_NO_SLOT. The caller counts an event for which there is none. */
static __always_inline __u32 fim_slot_get(void)
{
	__u32 index = FIM_NO_SLOT;

	if (bpf_map_pop_elem(&free_slots, &index))
		return FIM_NO_SLOT;
	return index;
}

/* The stack has room for all slots. If the kernel still refuses, fim_slot_get() fails earlier, and is
 * counted. */
static __always_inline void fim_slot_put(__u32 index)
{
	if (index != FIM_NO_SLOT)
		bpf_map_push_elem(&free_slots, &index, BPF_ANY);
}

#endif /* FIM_SLOT_H */
