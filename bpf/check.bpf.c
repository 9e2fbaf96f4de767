/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Parts of the rest that tests can run on any host, without a hook: programs
 * of type syscall run only when they are told to, from 5.14.
 */
#include "record.h"

struct fim_check {
	char name[FIM_NAME_SIZE];
	__u64 length;
	__u64 hash;
	__u64 records;
	__u64 sent;
};

/* The hash of a component. */
SEC("syscall")
int check__hash(struct fim_check *check)
{
	struct fim_slot *slot = fim_slot_at(0);

	if (!slot)
		return 1;
	bpf_probe_read_kernel(slot->name, FIM_NAME_SIZE, check->name);
	check->hash = fim_hash_name(slot, 0, check->length);
	return 0;
}

/* Records of growing size, each with its number as the time, until the ring is full. */
SEC("syscall")
int check__ring(struct fim_check *check)
{
	struct fim_slot *slot = fim_slot_at(0);
	__u64 i, size;

	if (!slot)
		return 1;
	for (i = 0; i < 512; i++) {
		if (i >= check->records)
			break;
		size = sizeof(struct fim_event) + (i & 63);
		slot->event.time = i;
		slot->event.size = size;
		if (bpf_ringbuf_output(&ring, slot, size, 0))
			break;
	}
	check->sent = i;
	return 0;
}
