/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Filters for names that only the caller's text tells. */
#ifndef FIM_SPELLING_H
#define FIM_SPELLING_H

#include "calls.h"

#define FIM_PARSE_CHUNK 16 /* cubed: bytes of a text */

/*
 * A text is taken apart from its end, so that the hashes of its components and
 * then those of the directory that it starts from lie as a walk leaves them.
 * Where it has components that are none (`.`, `..`, doubled slashes) the path is
 * for user space to judge.
 */
static __always_inline int fim_parse_name(struct fim_slot *slot, __u32 index, __u64 start, __u64 size)
{
	__u64 from = slot->dentry + start;
	__u64 depth = slot->depth;

	barrier_var(from);
	barrier_var(size);
	if (!size || size >= FIM_NAME_SIZE || from >= FIM_PAYLOAD_MAX - FIM_NAME_SIZE ||
	    depth >= FIM_DEPTH_MAX)
		return 0;
	bpf_probe_read_kernel(slot->name, size, slot->payload + from);
	if (slot->name[0] == '.' && (size == 1 || (size == 2 && slot->name[1] == '.')))
		return 0;
	slot->hashes[fim_index(depth, FIM_DEPTH_MAX)] = fim_hash_name(slot, index, size);
	slot->depth = depth + 1;
	return 1;
}

/* One byte to the left: `left` are still to be looked at, the component at hand ends at `fold`. 0 at the end.
 */
__noinline int fim_parse_step(__u32 index)
{
	struct fim_slot *slot = fim_slot_at(index);
	__u64 left, at, size, start = 0;

	if (!slot)
		return 0;
	left = slot->left;
	if (left) {
		left--;
		slot->left = left;
		at = slot->dentry + left;
		barrier_var(at);
		if (at >= FIM_PAYLOAD_MAX)
			return 0;
		if (slot->payload[at] != '/')
			return 1;
		start = left + 1;
	}
	size = slot->fold - start;
	slot->fold = left;
	if (!start && !size)
		goto plain;
	if (!fim_parse_name(slot, index, start, size))
		return 0;
	if (start)
		return 1;
plain:
	slot->mount = 1;
	return 0;
}

__noinline int fim_parse_chunk(__u32 index)
{
	int i;

	for (i = 0; i < FIM_PARSE_CHUNK; i++)
		if (!fim_parse_step(index))
			return 0;
	return 1;
}

__noinline int fim_parse_stretch(__u32 index)
{
	int i;

	for (i = 0; i < FIM_PARSE_CHUNK; i++)
		if (!fim_parse_chunk(index))
			return 0;
	return 1;
}

/* Hashes a text's components; whether they are all there is to its path. */
__noinline int fim_parse(__u32 index, __u32 which)
{
	struct fim_slot *slot = fim_slot_at(index);
	struct fim_text *given;
	int i;

	if (!slot)
		return 0;
	given = &slot->event.file[which & 1].given;
	slot->dentry = given->offset;
	slot->left = given->length - 1;
	slot->fold = slot->left;
	slot->mount = 0;
	slot->depth = 0;
	for (i = 0; i < FIM_PARSE_CHUNK; i++)
		if (!fim_parse_stretch(index))
			break;
	return slot->mount;
}

/* Walks the directory that a text starts from, which other threads may move before the call returns. */
__noinline int fim_walk_base(__u32 index, __u32 which, int dfd)
{
	struct fim_slot *slot = fim_slot_at(index);
	struct path *base;
	__u32 depth, at;

	if (!slot)
		return 0;
	at = slot->event.file[which & 1].given.offset;
	if (at >= FIM_PAYLOAD_MAX)
		return 0;
	slot->event.file[which & 1].flags |= FIM_AS_GIVEN;
	base = fim_base(dfd, slot->payload[at] == '/');
	if (!base)
		return 0;
	depth = slot->depth;
	fim_walk_begin(slot, which, (__u64)BPF_CORE_READ(base, dentry),
		       (__u64)fim_real_mount(BPF_CORE_READ(base, mnt)));
	slot->depth = depth;
	return fim_walk_rest(index);
}

/* Resolves one of the names as far as that goes; whether it approves the event. */
__noinline int fim_judge_name(__u32 index, __u32 which, int dfd)
{
	struct fim_slot *slot = fim_slot_at(index);
	int sure;

	if (!slot || !slot->event.file[which & 1].given.length)
		return 0;
	sure = fim_parse(index, which);
	sure &= fim_walk_base(index, which, dfd);
	if (!(slot->kinds & FIM_BY_NAME))
		return 0;
	if (!sure || (slot->event.file[which & 1].flags & (FIM_UNSURE & ~FIM_AS_GIVEN)))
		return 1;
	return fim_approve_names(slot, index);
}

static __always_inline int fim_base_of(struct fim_call *call, __u8 place)
{
	return place ? (int)fim_given_arg(call, place) : AT_FDCWD;
}

/* Has the filters judge a call by name. */
static __always_inline void fim_judge_names(struct fim_inflight *op, struct fim_call *call)
{
	struct fim_syscall *row = bpf_map_lookup_elem(&syscalls, &call->number);
	struct fim_slot *slot = fim_slot_at(op->slot);
	struct fim_policy *policy;
	int approved;

	if (!row || !slot)
		return;
	slot->event.flags = op->type == FIM_UNLINK || op->type == FIM_RMDIR ? 0 : op->flags;
	slot->event.mode = op->mode;
	policy = fim_consult(slot);
	if (!policy)
		return;
	call->judged = 1;
	if (policy->mode == FIM_REJECT_ALL)
		return;
	approved = policy->mode == FIM_FORWARD_ALL || fim_approve_plain(op->slot, policy->flags_any);
	if (!approved && !(slot->kinds & FIM_BY_NAME))
		return;
	approved |= fim_judge_name(op->slot, 0, fim_base_of(call, row->dfd[0]));
	if (row->path[1])
		approved |= fim_judge_name(op->slot, 1, fim_base_of(call, row->dfd[1]));
	call->approved = approved;
}

#endif /* FIM_SPELLING_H */
