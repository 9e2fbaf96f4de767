/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Programs for tests, which run on any host: programs of type syscall, from
 * 5.14, are attached to nothing and run on request.
 */
#include "kernel.h"
#include "event.h"
#include "maps.h"
#include "slot.h"
#include "hash.h"
#include "names.h"
#include "attributes.h"
#include "tasks.h"
#include "syscalls.h"

struct fim_check {
	char name[FIM_NAME_SIZE];
	__u64 length;
	__u64 hash;
	__u64 short_hash;
	__u64 records;
	__u64 sent;
};

/* Computes the hash of a component. */
SEC("syscall")
int check__hash(struct fim_check *check)
{
	struct fim_slot *slot = fim_slot_lookup(0);

	if (!slot)
		return 1;
	bpf_probe_read_kernel(slot->name, FIM_NAME_SIZE, check->name);
	check->hash = fim_hash_name(slot, 0, check->length);
	check->short_hash = fim_hash_short(fim_number(check->name));
	return 0;
}

/* Sends records of growing size, each with its number as the time, until the ring is full. */
SEC("syscall")
int check__ring(struct fim_check *check)
{
	struct fim_slot *slot = fim_slot_lookup(0);
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

/* Fills in what identifies the file of a descriptor, as an event begins. */
SEC("syscall")
int check__identify(struct fim_check *check)
{
	struct path *path = fim_fd_path(check->length);

	if (!path)
		return 1;
	fim_fill_file(0, 0, BPF_CORE_READ(path, dentry), fim_path_mount(path));
	return 0;
}

/* Resolves its path, as that event goes on. */
SEC("syscall")
int check__resolve(struct fim_check *check)
{
	struct path *path = fim_fd_path(check->length);

	if (!path)
		return 1;
	__fim_judge_file(0, 0, (__u64)BPF_CORE_READ(path, dentry), (__u64)fim_path_mount(path));
	return 0;
}

/* Hooks as a trampoline runs them: the context holds the arguments, and before an exit the return value. */
#define CHECK(hook)                                                                                          \
	SEC("syscall")                                                                                       \
	int check__##hook(void *ctx)                                                                         \
	{                                                                                                    \
		return hook(ctx, FIM_FENTRY);                                                                \
	}

CHECK(mkdir_enter)
CHECK(parent_given)
CHECK(mkdir_exit)
CHECK(unlink_enter)
CHECK(unlink_exit)
CHECK(setxattr_path_enter)
CHECK(setxattr_enter)
CHECK(setxattr_path_exit)

/* A system call begins or returns: the context is a tracepoint's. */
SEC("syscall")
int check__syscall_enter(void *ctx)
{
	return syscall_enter(ctx, FIM_TRACEPOINT);
}

SEC("syscall")
int check__syscall_exit(void *ctx)
{
	return syscall_exit(ctx, FIM_TRACEPOINT);
}

/* Asks to report the end of the current process. */
SEC("syscall")
int check__claim_end(void *ctx)
{
	return fim_claim_end((void *)bpf_get_current_task());
}
