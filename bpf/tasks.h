/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Events of a single hook, which have no return to wait for: exec, fork, exit, and closing after writing. */
#ifndef FIM_TASKS_H
#define FIM_TASKS_H

#include "kernel.h"
#include "event.h"
#include "drift.h"
#include "maps.h"
#include "slot.h"
#include "scope.h"
#include "path.h"
#include "record.h"
#include "context.h"
#include "operation.h"
#include "judge.h"
#include "refusal.h"
#include "returns.h"

#define FIM_ARGS_MAX 4096

/* Starts a record outside of any operation. Returns FIM_NO_SLOT if none is wanted or to be had. */
static __always_inline __u32 fim_event_begin_once(__u32 type, __u32 family)
{
	return fim_is_in_scope() ? fim_event_begin(type, family, 0) : FIM_NO_SLOT;
}

static __always_inline int fim_record_submit_once(void *ctx, __u32 index)
{
	fim_record_submit(ctx, index);
	fim_slot_put(index);
	return 0;
}

/* Filters and sends a record about a file. */
static __always_inline int fim_record_submit_file(void *ctx, __u32 index, struct file *file)
{
	struct fim_object object = {
		.dentry = BPF_CORE_READ(file, f_path.dentry),
		.mount = fim_real_mount(BPF_CORE_READ(file, f_path.mnt)),
	};

	if (fim_judge(index, &object))
		fim_record_submit(ctx, index);
	fim_slot_put(index);
	return 0;
}

/* __fput(struct file *file): the last reference to an open file is gone */
static __always_inline int close_once(void *ctx, __u32 family)
{
	struct file *file = fim_arg_pointer(ctx, family, 0);
	fmode_t mode = BPF_CORE_READ(file, f_mode);
	struct fim_slot *slot;
	struct mount *mount;
	__u32 index;

	if (!(mode & FMODE_WRITE) || fim_is_backing(mode) || !(mode & FMODE_OPENED) ||
	    (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFREG)
		return 0;
	/* Before 6.1 overlayfs copies up through files that carry no mark. */
	mount = fim_real_mount(BPF_CORE_READ(file, f_path.mnt));
	if (fim_is_internal(mount))
		return 0;
	index = fim_event_begin_once(FIM_CLOSE, family);
	slot = fim_slot_lookup(index);
	if (!slot)
		return 0;
	slot->event.flags = BPF_CORE_READ(file, f_flags);
	return fim_record_submit_file(ctx, index, file);
}

/* Copies a new program's arguments from its memory, where the kernel has just written them. */
__noinline int fim_read_args(__u32 index)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u64 start = BPF_CORE_READ(task, mm, arg_start);
	__u64 size = BPF_CORE_READ(task, mm, arg_end) - start;
	struct fim_slot *slot = fim_slot_lookup(index);
	__u64 used;

	if (!slot)
		return 0;
	used = slot->used;
	if (used > FIM_PAYLOAD_MAX - FIM_ARGS_MAX)
		return 0;
	if (size > FIM_ARGS_MAX)
		size = FIM_ARGS_MAX;
	barrier_var(size); /* the verifier needs the bound in the register that is passed */
	if (size > FIM_ARGS_MAX || bpf_probe_read_user(slot->payload + used, size, (void *)start))
		return 0;
	slot->event.source.offset = used;
	slot->event.source.length = size;
	slot->used = used + size;
	return 1;
}

__noinline int __fim_read_script(__u32 index, __u64 at)
{
	struct linux_binprm *program = (void *)at;
	const char *name = BPF_CORE_READ(program, filename);

	if (BPF_CORE_READ(program, interp) == name)
		return 0;
	fim_append_text(index, name, offsetof(struct fim_event, file[1].given));
	return fim_resolve_base(index, 1, AT_FDCWD);
}

/*
 * Copies the name of a script that an interpreter runs. The kernel has released
 * the script's file by now, and kept the text that named it.
 */
static __always_inline int fim_read_script(__u32 index, struct linux_binprm *program)
{
	return __fim_read_script(index, (__u64)program);
}

/* sched_process_exec(struct task_struct *, pid_t old_pid, struct linux_binprm *); finalize_exec(bprm) */
static __always_inline int exec_once(void *ctx, __u32 family)
{
	struct linux_binprm *program = (void *)fim_arg(ctx, family, family == FIM_TRACEPOINT ? 2 : 0);
	struct file *file = BPF_CORE_READ(program, file);
	__u32 index = fim_event_begin_once(FIM_EXEC, family);
	struct fim_object object = {};

	if (index == FIM_NO_SLOT)
		return 0;
	fim_read_script(index, program);
	object.dentry = BPF_CORE_READ(file, f_path.dentry);
	object.mount = fim_real_mount(BPF_CORE_READ(file, f_path.mnt));
	if (fim_judge(index, &object)) {
		fim_read_args(index);
		fim_record_submit(ctx, index);
	}
	fim_slot_put(index);
	return 0;
}

/* sched_process_fork(struct task_struct *parent, *child), wake_up_new_task(child); threads are no event */
static __always_inline int fork_once(void *ctx, __u32 family)
{
	struct task_struct *child = (void *)fim_arg(ctx, family, family == FIM_TRACEPOINT ? 1 : 0);
	__u32 pid = BPF_CORE_READ(child, tgid);
	struct fim_slot *slot;
	__u32 index;

	if (pid != BPF_CORE_READ(child, pid))
		return 0;
	index = fim_event_begin_once(FIM_FORK, family);
	slot = fim_slot_lookup(index);
	if (!slot)
		return 0;
	slot->event.child_pid = pid;
	return fim_record_submit_once(ctx, index);
}

/* Processes whose end was reported. */
struct fim_end {
	__u64 born; /* ns, CLOCK_BOOTTIME */
	__u32 pid;
	__u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct fim_end);
	__type(value, __u32);
} ended SEC(".maps");

/*
 * Returns 1 to the first thread that asks to report the end of its process. If
 * the last two threads end at the same time, both may find no live thread.
 */
static __always_inline int fim_claim_end(struct task_struct *task)
{
	struct fim_end end = { .born = BPF_CORE_READ(task, group_leader, start_boottime) };
	__u32 reported = 1;
	int error; /* the upper half is undefined on some kernels: see drift.h */

	end.pid = BPF_CORE_READ(task, tgid);
	error = bpf_map_update_elem(&ended, &end, &reported, BPF_NOEXIST);
	if (error && error != -EEXIST)
		fim_lose(FIM_EXIT, unentered);
	return !error;
}

/* Returns the status that the parent will get: kernel/exit.c, wait_task_zombie(). */
static __always_inline __u32 fim_exit_status(struct task_struct *task)
{
	struct signal_struct *signal = BPF_CORE_READ(task, signal);

	if (BPF_CORE_READ(signal, flags) & SIGNAL_GROUP_EXIT)
		return BPF_CORE_READ(signal, group_exit_code);
	return BPF_CORE_READ(task, group_leader, exit_code);
}

/* sched_process_exit(..), taskstats_exit(..): the last thread of a process */
static __always_inline int exit_once(void *ctx, __u32 family)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct fim_inflight *op = fim_op_lookup();
	struct fim_slot *slot;
	__u32 index;

	if (op && op->interrupted) { /* by the signal that ends the thread */
		op->interrupted = 0;
		fim_op_finish(ctx, op, -EINTR);
	}
	op = fim_op_lookup(); /* again: the record may have ended it */
	if (op)
		fim_op_abandon(op);
	if (BPF_CORE_READ(task, signal, live.counter) || !fim_is_in_scope() || !fim_claim_end(task))
		return 0;
	index = fim_event_begin_once(FIM_EXIT, family);
	slot = fim_slot_lookup(index);
	if (!slot)
		return 0;
	slot->event.exit_code = fim_exit_status(task);
	return fim_record_submit_once(ctx, index);
}

#endif /* FIM_TASKS_H */
