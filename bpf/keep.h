/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Records and names that wait for the return of a call, in which the thread may
 * sleep for as long as it likes.
 *
 * A thread that owns its place in an array (inflight.h) keeps there what is small;
 * the place is its own, so that no account is charged. What is large, or has no
 * place, is found by thread, and all is where reads are casts (read.h). Of that each account may keep a part
 * of either kind.
 */
#ifndef FIM_KEEP_H
#define FIM_KEEP_H

#include "kernel.h"
#include "event.h"
#include "maps.h"
#include "slot.h"
#include "account.h"
#include "inflight.h"

#define FIM_KEPT	 4096
#define FIM_KEPT_SIZE	 768 /* bytes of header and payload */
#define FIM_KEPT_LARGE	 128
#define FIM_ACCOUNT_KEPT 1024 /* of one account */
#define FIM_LARGE_WEIGHT 64   /* a large one counts as so many small ones */

/* What an operation keeps. */
enum fim_keeping {
	FIM_KEEPS_NOTHING,
	FIM_KEEPS_SMALL,
	FIM_KEEPS_LARGE,
	FIM_KEEPS_PLACE, /* a record, in the thread's place */
	FIM_KEEPS_NAMES, /* only names, in the thread's place */
};

struct fim_kept {
	union {
		char bytes[FIM_KEPT_SIZE];
		struct fim_event event; /* `size` is that of the payload */
		char names[FIM_FILES][FIM_KEPT_SIZE / FIM_FILES];
	};
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FIM_BUSY);
	__type(key, __u32); /* of a thread, modulo FIM_BUSY */
	__type(value, struct fim_kept);
} places SEC(".maps");

static __always_inline struct fim_kept *fim_place_lookup(void)
{
	__u32 place = bpf_get_current_pid_tgid() & (FIM_BUSY - 1);

	return bpf_map_lookup_elem(&places, &place);
}

/* Copies a name to the thread's place. Returns 0 if it may not fit; the place must be the thread's own. */
__noinline int fim_place_name(__u64 text, __u32 which)
{
	struct fim_kept *place = fim_place_lookup();
	long size;

	if (!place)
		return 0;
	size = fim_read_long_string(place->names[which & 1], sizeof(place->names[0]), (void *)text,
				    (void *)place);
	return size > 0 && size < sizeof(place->names[0]);
}

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FIM_KEPT);
	__type(key, __u32); /* thread */
	__type(value, struct fim_kept);
} kept SEC(".maps");

struct fim_kept_large {
	char bytes[sizeof(struct fim_event) + FIM_PAYLOAD_MAX];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FIM_KEPT_LARGE);
	__type(key, __u32); /* thread */
	__type(value, struct fim_kept_large);
} kept_large SEC(".maps");

static __always_inline __u32 fim_keeping_weight(__u32 keeping)
{
	return keeping == FIM_KEEPS_LARGE ? FIM_LARGE_WEIGHT : 1;
}

/* Copies the record in this slot to the thread's place, which must be its own. Returns 0 if it is too large.
 */
__noinline int fim_place_keep(__u32 index)
{
	struct fim_slot *slot = fim_slot_lookup(index);
	struct fim_kept *place = fim_place_lookup();
	__u64 size;

	if (!slot || !place)
		return 0;
	size = sizeof(struct fim_event) + slot->used;
	barrier_var(size); /* the verifier needs the bound in the register that is passed */
	if (size > FIM_KEPT_SIZE)
		return 0;
	slot->event.size = slot->used;
	fim_copy_some(place, size, slot);
	return 1;
}

/* Copies the record in the thread's place to a slot. Returns 0 if there is none. */
static __always_inline int fim_place_fetch(struct fim_slot *slot)
{
	struct fim_kept *place = fim_place_lookup();
	__u64 size;

	if (!place || FIM_READS_BY_CAST)
		return 0;
	size = sizeof(struct fim_event) + place->event.size;
	barrier_var(size); /* the verifier needs the bound in the register that is passed */
	if (size > FIM_KEPT_SIZE)
		return 0;
	fim_copy_some(slot, size, place);
	return 1;
}

/* Keeps the record in this slot for the current thread. Returns enum fim_keeping. */
__noinline __u32 fim_keep(__u32 index, __u32 charged)
{
	struct fim_account *account = fim_account_lookup(charged);
	struct fim_slot *slot = fim_slot_lookup(index);
	__u32 tid = bpf_get_current_pid_tgid();
	__u32 keeping = FIM_KEEPS_SMALL;
	long error;

	if (!account || !slot)
		return FIM_KEEPS_NOTHING;
	if (slot->used > FIM_KEPT_SIZE - sizeof(struct fim_event))
		keeping = FIM_KEEPS_LARGE;
	/* Counted before it is compared: of threads that do this at once none exceeds the limit. */
	__sync_fetch_and_add(&account->kept, fim_keeping_weight(keeping));
	if (account->kept > FIM_ACCOUNT_KEPT)
		goto none;
	slot->event.size = slot->used;
	if (keeping == FIM_KEEPS_SMALL)
		error = bpf_map_update_elem(&kept, &tid, slot, BPF_ANY);
	else
		error = bpf_map_update_elem(&kept_large, &tid, slot, BPF_ANY);
	if (!error)
		return keeping;
none:
	__sync_fetch_and_add(&account->kept, -(__s32)fim_keeping_weight(keeping));
	return FIM_KEEPS_NOTHING;
}

/* Copies the current thread's record to a slot. Returns the slot's index, or FIM_NO_SLOT. */
__noinline __u32 fim_kept_copy(__u32 keeping)
{
	__u32 tid = bpf_get_current_pid_tgid();
	__u32 index = fim_slot_get();
	struct fim_slot *slot = fim_slot_lookup(index);
	void *from;

	if (!slot)
		return FIM_NO_SLOT;
	if (keeping == FIM_KEEPS_LARGE) {
		from = bpf_map_lookup_elem(&kept_large, &tid);
		if (!from)
			goto none;
		fim_copy(slot, sizeof(struct fim_kept_large), from);
	} else if (keeping == FIM_KEEPS_PLACE) {
		if (!fim_place_fetch(slot))
			goto none;
	} else {
		from = bpf_map_lookup_elem(&kept, &tid);
		if (!from)
			goto none;
		fim_copy(slot, sizeof(struct fim_kept), from);
	}
	slot->used = slot->event.size;
	slot->bank = slot->event.serial & 1;
	return index;
none:
	fim_slot_put(index);
	return FIM_NO_SLOT;
}

/* Frees the current thread's record, and what it charges. */
__noinline int fim_kept_free(__u32 keeping, __u32 charged)
{
	struct fim_account *account = fim_account_lookup(charged);
	__u32 tid = bpf_get_current_pid_tgid();

	if (keeping == FIM_KEEPS_LARGE)
		bpf_map_delete_elem(&kept_large, &tid);
	else
		bpf_map_delete_elem(&kept, &tid);
	if (account)
		__sync_fetch_and_add(&account->kept, -(__s32)fim_keeping_weight(keeping));
	return 1;
}

#endif /* FIM_KEEP_H */
