/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Events that happen at once, with nothing to wait for: exec, fork, exit, and closing after writing. */
#ifndef FIM_TASKS_H
#define FIM_TASKS_H

#include "returns.h"

#define FIM_ARGS_MAX 4096

/* Starts a record outside of any operation; FIM_NO_SLOT if it is not wanted. */
static __always_inline __u32 fim_begin_once(__u32 type, __u32 family)
{
	return fim_in_scope() ? fim_begin(type, family, FIM_NO_SLOT) : FIM_NO_SLOT;
}

static __always_inline int fim_submit_once(void *ctx, __u32 index)
{
	fim_submit(ctx, index);
	fim_give_slot(index);
	return 0;
}

/* Filters and sends a record about a file. */
static __always_inline int fim_tell_file(void *ctx, __u32 index, struct file *file)
{
	__u64 mount = (__u64)fim_real_mount(BPF_CORE_READ(file, f_path.mnt));

	if (fim_judge(index, (__u64)BPF_CORE_READ(file, f_path.dentry), mount, 0, 0))
		fim_submit(ctx, index);
	fim_give_slot(index);
	return 0;
}

/* __fput(struct file *file): the last reference to an open file goes */
static __always_inline int close_once(void *ctx, __u32 family)
{
	struct file *file = (void *)fim_arg(ctx, family, 0);
	fmode_t mode = BPF_CORE_READ(file, f_mode);
	struct fim_slot *slot;
	struct mount *mount;
	__u32 index;

	if (!(mode & FMODE_WRITE) || fim_is_backing(mode) || !(mode & FMODE_OPENED) ||
	    (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFREG)
		return 0;
	/* Before 6.1 overlayfs copies up through files without a mark. */
	mount = fim_real_mount(BPF_CORE_READ(file, f_path.mnt));
	if (fim_is_internal(mount))
		return 0;
	index = fim_begin_once(FIM_CLOSE, family);
	slot = fim_slot_at(index);
	if (!slot)
		return 0;
	slot->event.flags = BPF_CORE_READ(file, f_flags);
	return fim_tell_file(ctx, index, file);
}

/* Copies a new program's arguments, which the kernel has just written there. */
__noinline int fim_take_args(__u32 index)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u64 start = BPF_CORE_READ(task, mm, arg_start);
	__u64 size = BPF_CORE_READ(task, mm, arg_end) - start;
	struct fim_slot *slot = fim_slot_at(index);
	__u64 used;

	if (!slot)
		return 0;
	used = slot->used;
	if (used > FIM_PAYLOAD_MAX - FIM_ARGS_MAX)
		return 0;
	if (size > FIM_ARGS_MAX)
		size = FIM_ARGS_MAX;
	barrier_var(size); /* the bound above is to be in the register that is passed */
	if (size > FIM_ARGS_MAX || bpf_probe_read_user(slot->payload + used, size, (void *)start))
		return 0;
	slot->event.source.offset = used;
	slot->event.source.length = size;
	slot->used = used + size;
	return 1;
}

/*
 * What was asked for, where an interpreter is run for it: the kernel has let
 * go of the script itself, and kept the text by which it was named.
 */
__noinline int fim_take_script(__u32 index, __u64 at)
{
	struct linux_binprm *program = (void *)at;
	const char *name = BPF_CORE_READ(program, filename);

	if (BPF_CORE_READ(program, interp) == name)
		return 0;
	fim_append_text(index, (__u64)name, offsetof(struct fim_event, file[1].given));
	return fim_resolve_base(index, 1, AT_FDCWD);
}

/* sched_process_exec(struct task_struct *, pid_t old_pid, struct linux_binprm *); finalize_exec(bprm) */
static __always_inline int exec_once(void *ctx, __u32 family)
{
	struct linux_binprm *program = (void *)fim_arg(ctx, family, family == FIM_TRACEPOINT ? 2 : 0);
	struct file *file = BPF_CORE_READ(program, file);
	__u32 index = fim_begin_once(FIM_EXEC, family);
	__u64 mount;

	if (index == FIM_NO_SLOT)
		return 0;
	fim_take_script(index, (__u64)program);
	mount = (__u64)fim_real_mount(BPF_CORE_READ(file, f_path.mnt));
	if (fim_judge(index, (__u64)BPF_CORE_READ(file, f_path.dentry), mount, 0, 0)) {
		fim_take_args(index);
		fim_submit(ctx, index);
	}
	fim_give_slot(index);
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
	index = fim_begin_once(FIM_FORK, family);
	slot = fim_slot_at(index);
	if (!slot)
		return 0;
	slot->event.new_uid = pid;
	slot->event.new_gid = pid;
	return fim_submit_once(ctx, index);
}

/*
 * Whether nobody has told of the end of this process. Where its last two
 * threads end at once, both may find that nothing of it lives any more.
 */
static __always_inline int fim_ends(struct task_struct *task)
{
	struct fim_end end = { .born = BPF_CORE_READ(task, group_leader, start_boottime) };
	__u32 told = 1;

	end.pid = BPF_CORE_READ(task, tgid);
	return !bpf_map_update_elem(&ended, &end, &told, BPF_NOEXIST);
}

/* What a parent will be told: kernel/exit.c, wait_task_zombie(). */
static __always_inline __u32 fim_status(struct task_struct *task)
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
	struct fim_slot *slot;
	__u32 index;

	fim_abandon();
	if (BPF_CORE_READ(task, signal, live.counter) || !fim_in_scope() || !fim_ends(task))
		return 0;
	index = fim_begin_once(FIM_EXIT, family);
	slot = fim_slot_at(index);
	if (!slot)
		return 0;
	slot->event.exit_code = fim_status(task);
	return fim_submit_once(ctx, index);
}

#endif /* FIM_TASKS_H */
