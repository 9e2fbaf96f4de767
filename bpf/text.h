/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Texts: paths as the caller wrote them, split and hashed for approvers.
 *
 * A text is split from its end, so that the hashes of its components, and then
 * those of the directory that it starts from, lie in the order of a walk. One
 * with `.`, `..` or doubled slashes is left to user space.
 */
#ifndef FIM_TEXT_H
#define FIM_TEXT_H

#include "kernel.h"
#include "event.h"
#include "maps.h"
#include "slot.h"
#include "hash.h"
#include "path.h"
#include "base.h"

#define FIM_TEXT_CHUNK 16 /* cubed: bytes of a text */

/* Hashes one component. Returns 0 if it is none, or does not fit. */
static __always_inline int fim_text_component(struct fim_slot *slot, __u32 index, __u64 start, __u64 size)
{
	__u64 from = slot->text + start;
	__u64 depth = slot->depth;

	if (!size)
		return 0;
	barrier_var(from);
	barrier_var(size); /* one comparison for the verifier: LLVM would join both in another register */
	if (size >= FIM_NAME_SIZE || from >= FIM_PAYLOAD_MAX - FIM_NAME_SIZE || depth >= FIM_DEPTH_MAX)
		return 0;
	fim_copy_text(slot->name, size, slot->payload + from, &slot->place);
	if (slot->name[0] == '.' && (size == 1 || (size == 2 && slot->name[1] == '.')))
		return 0;
	slot->hashes[fim_index(depth, FIM_DEPTH_MAX)] = fim_hash_name(slot, index, size);
	slot->depth = depth + 1;
	return 1;
}

/* Goes one byte to the left. Returns 0 at the end. */
__noinline int fim_text_step(__u32 index)
{
	struct fim_slot *slot = fim_slot_lookup(index);
	__u64 left, at, size, start = 0;

	if (!slot)
		return 0;
	left = slot->text_left;
	if (left) {
		left--;
		slot->text_left = left;
		at = slot->text + left;
		barrier_var(at);
		if (at >= FIM_PAYLOAD_MAX)
			return 0;
		if (slot->payload[at] != '/')
			return 1;
		start = left + 1;
	}
	size = slot->text_end - start;
	slot->text_end = left;
	if (start && !size && slot->text_last)
		return 1; /* a slash behind the last name */
	if (!start && !size && slot->text_last)
		return 0;
	if (!start && !size)
		goto plain;
	if (!fim_text_component(slot, index, start, size))
		return 0;
	if (start && !slot->text_last)
		return 1;
	slot->text_start = start;
plain:
	slot->text_plain = 1;
	return 0;
}

__noinline int fim_text_chunk(__u32 index)
{
	int i;

	for (i = 0; i < FIM_TEXT_CHUNK; i++)
		if (!fim_text_step(index))
			return 0;
	return 1;
}

__noinline int fim_text_stretch(__u32 index)
{
	int i;

	for (i = 0; i < FIM_TEXT_CHUNK; i++)
		if (!fim_text_chunk(index))
			return 0;
	return 1;
}

/* Splits a file's text and hashes its components, or the last one. Returns whether that could be done. */
__noinline int fim_text_split(__u32 index, __u32 which, __u32 last)
{
	struct fim_slot *slot = fim_slot_lookup(index);
	struct fim_text *given;
	int i;

	if (!slot)
		return 0;
	given = &slot->event.file[which & 1].given;
	slot->text = given->offset;
	slot->text_left = given->length - 1;
	slot->text_end = slot->text_left;
	slot->text_last = last;
	slot->text_plain = 0;
	slot->depth = 0;
	for (i = 0; i < FIM_TEXT_CHUNK; i++)
		if (!fim_text_stretch(index))
			break;
	return slot->text_plain;
}

/* Walks the directory that a text starts from. Other threads may move it before the call returns. */
__noinline int fim_text_walk_base(__u32 index, __u32 which, int dfd)
{
	struct fim_slot *slot = fim_slot_lookup(index);
	struct path *base;
	__u32 depth, at;

	if (!slot)
		return 0;
	at = slot->event.file[which & 1].given.offset;
	if (at >= FIM_PAYLOAD_MAX)
		return 0;
	slot->event.file[which & 1].flags |= FIM_AS_GIVEN;
	base = fim_base_path(dfd, slot->payload[at] == '/');
	if (!base)
		return 0;
	depth = slot->depth;
	fim_walk_begin(slot, which, BPF_CORE_READ(base, dentry), fim_path_mount(base));
	slot->depth = depth;
	return fim_walk_rest(index);
}

/* Appends a text from the caller's memory, unless the record has it already. */
__noinline int fim_read_text(__u32 index, __u64 address, __u32 at)
{
	struct fim_slot *slot = fim_slot_lookup(index);
	struct fim_text *text;
	__u64 place = at;
	__u64 used;
	long size;

	barrier_var(place); /* the verifier needs the bound in the register that is added */
	if (!slot || !address || place > sizeof(slot->event) - sizeof(*text))
		return 0;
	text = (void *)&slot->event + place;
	used = slot->used;
	if (text->length || used > FIM_PAYLOAD_MAX - FIM_PATH_MAX)
		return 0;
	size = bpf_probe_read_user_str(slot->payload + used, FIM_PATH_MAX, (void *)address);
	if (size < 0)
		return 0;
	if (!size) { /* what 5.10 returns for an empty string: the object may be that of a descriptor */
		slot->payload[used] = 0;
		size = 1;
	}
	text->offset = used;
	text->length = size;
	slot->used = used + size;
	return 1;
}

#endif /* FIM_TEXT_H */
