/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * System calls, entered and left: what is left to attach to where the kernel's
 * own functions cannot be had.
 *
 * An object that is asked for by name is told in the caller's words, which are
 * read from its memory: it may change them before the kernel reads them, and
 * links in them are not followed. One that is asked for by a descriptor is
 * known like elsewhere.
 */
#ifndef FIM_SYSCALLS_H
#define FIM_SYSCALLS_H

#include "spelling.h"

/* Starts the record of a call that names its object; whether all of it could be read. */
__noinline int fim_name_begin(void)
{
	struct fim_inflight *op = fim_operation();

	if (!op)
		return 0;
	op->names = FIM_FILES; /* nobody else gives any */
	op->slot = fim_take_slot();
	if (!fim_start(op->slot, op->type, FIM_TRACEPOINT))
		return 0;
	return fim_take_texts(op->slot);
}

/* Whether closing this descriptor closes a file that was open for writing: it has no other. */
__noinline int fim_closes(int fd)
{
	struct path *path = fim_path_of(fd);
	struct file *file;
	fmode_t mode;

	if (!path)
		return 0;
	file = (void *)path - bpf_core_field_offset(struct file, f_path);
	mode = BPF_CORE_READ(file, f_mode);
	return (mode & FMODE_WRITE) && (mode & FMODE_OPENED) && fim_is_last(file) &&
	       (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) == S_IFREG;
}

/* Whether an open asks for no access, which is no event. */
static __always_inline int fim_opens_nothing(struct fim_inflight *op)
{
	return op->type == FIM_OPEN && (op->flags & O_PATH);
}

/* The descriptor that a call is about, or -1. */
static __always_inline int fim_call_fd(struct fim_call *call, struct fim_syscall *row)
{
	if (row->fd)
		return fim_given_arg(call, row->fd);
	if (row->type == FIM_UTIMES + 1 && row->dfd[0] && !fim_given_arg(call, row->path[0]))
		return fim_given_arg(call, row->dfd[0]);
	return -1;
}

/* Follows a call; 0 if it is not to be. */
__noinline int fim_call_begin(void)
{
	struct fim_call *call = fim_call();
	struct fim_inflight *op;
	struct fim_syscall *row;
	__u32 type;

	if (!call)
		return 0;
	row = bpf_map_lookup_elem(&syscalls, &call->number);
	if (!row)
		return 0;
	type = row->type - 1;
	call->fd = fim_call_fd(call, row);
	if (type == FIM_UNLINK && (fim_given_arg(call, row->flags) & FIM_AT_REMOVEDIR))
		type = FIM_RMDIR;
	if ((row->fd && !fim_path_of(call->fd)) || (type == FIM_CLOSE && !fim_closes(call->fd)))
		return 0;
	if (!fim_enter(~0ULL, FIM_AT_SYSCALL, type))
		return 0;
	op = fim_operation();
	if (!op)
		return 0;
	call->readable = fim_take_how(op, call, row);
	if (!op->quiet && !fim_opens_nothing(op))
		return 1;
	return fim_leave();
}

/* What a call gives beside names, flags and mode. */
static __always_inline void fim_take_owner(struct fim_slot *slot, struct fim_call *call)
{
	struct fim_syscall *row = bpf_map_lookup_elem(&syscalls, &call->number);

	if (!row || !row->owner)
		return;
	slot->event.new_uid = fim_given_arg(call, row->owner);
	slot->event.new_gid = fim_given_arg(call, row->owner + 1);
}

/* An object that is known by its descriptor is judged at once. */
static __always_inline void fim_descriptor_begin(struct fim_inflight *op, struct fim_call *call)
{
	struct path *path = fim_path_of(call->fd);
	struct fim_slot *slot;

	if (!path)
		return;
	slot = fim_record(op, FIM_TRACEPOINT);
	if (!slot)
		return;
	fim_take_owner(slot, call);
	fim_keep(op, fim_judge(op->slot, (__u64)BPF_CORE_READ(path, dentry), fim_mount_of(path), 0, 0));
	if (op->state == FIM_PENDING)
		fim_take_texts(op->slot);
}

static __always_inline void fim_follow(void)
{
	struct fim_call *call = fim_call();
	struct fim_inflight *op;

	if (!call || !fim_call_begin())
		return;
	op = fim_operation();
	if (!op)
		return;
	if (call->fd >= 0)
		fim_descriptor_begin(op, call);
	else if (fim_name_begin() && call->readable)
		fim_judge_names(op, call);
}

static __always_inline int syscall_enter(void *ctx, __u32 family)
{
	struct trace_event_raw_sys_enter *entered = ctx;
	struct fim_call call = {};
	struct fim_syscall *row;
	__u32 tid = bpf_get_current_pid_tgid();

	call.number = fim_call_number(entered->id);
	row = bpf_map_lookup_elem(&syscalls, &call.number);
	if (!row || !row->type || !fim_in_scope())
		return 0;
	call.args[0] = entered->args[0];
	call.args[1] = entered->args[1];
	call.args[2] = entered->args[2];
	call.args[3] = entered->args[3];
	call.args[4] = entered->args[4];
	call.args[5] = entered->args[5];
	if (bpf_map_update_elem(&calls, &tid, &call, BPF_ANY))
		fim_count(row->type - 1, unentered);
	else
		fim_follow();
	return 0;
}

/*
 * Errors that make no event of a call by name: there is no such file, or the
 * call was malformed or ran out of something. Operations on what is there may
 * be refused with EINVAL.
 */
#define FIM_NO_EVENT                                                                                         \
	(1ULL << ENOENT | 1ULL << EBADF | 1ULL << ENOMEM | 1ULL << EFAULT | 1ULL << ENOTDIR |                \
	 1ULL << ENFILE | 1ULL << EMFILE | 1ULL << ENAMETOOLONG | 1ULL << ENOSYS | 1ULL << ELOOP)

static __always_inline int fim_is_event(__u32 type, __s64 ret)
{
	__u64 none = FIM_NO_EVENT;

	if (ret >= 0)
		return 1;
	if (type < FIM_TRUNCATE)
		none |= 1ULL << EINVAL;
	return ret > -ERESTARTSYS && (ret <= -64 || !((none >> -ret) & 1));
}

/* What could not be read before. Whether there is a record of what the call names. */
__noinline int fim_name_read(void)
{
	struct fim_inflight *op = fim_operation();
	struct fim_call *call = fim_call();
	struct fim_syscall *row;

	if (!op || !call)
		return 0;
	row = bpf_map_lookup_elem(&syscalls, &call->number);
	if (!row)
		return 0;
	if (!call->readable && fim_take_how(op, call, row) && fim_opens_nothing(op))
		return 0;
	fim_count(op->type, seen);
	if (op->slot == FIM_NO_SLOT) {
		fim_count(op->type, no_slot);
		return 0;
	}
	if (fim_take_texts(op->slot))
		return 1;
	fim_count(op->type, abandoned);
	return 0;
}

/* Ends a call by name: only now is it known to be an event. */
static __always_inline void fim_name_end(struct fim_inflight *op)
{
	struct fim_call *call = fim_call();
	struct fim_slot *slot;

	if (!call || !fim_name_read())
		return;
	if (!call->judged)
		fim_judge_names(op, call);
	slot = fim_slot_at(op->slot);
	if (!slot)
		return;
	if (!call->approved) {
		fim_count(op->type, approver_rejected);
		return;
	}
	fim_take_owner(slot, call);
	op->state = FIM_PENDING;
}

static __always_inline int syscall_exit(void *ctx, __u32 family)
{
	struct trace_event_raw_sys_exit *left = ctx;
	struct fim_inflight *op = fim_operation();
	__u32 tid = bpf_get_current_pid_tgid();
	__s64 ret;

	if (!op || op->point != FIM_AT_SYSCALL)
		return 0;
	ret = (__s32)left->ret;
	if (op->state == FIM_ENTERED && fim_is_event(op->type, ret))
		fim_name_end(op);
	else if (op->state == FIM_PENDING)
		fim_take_texts(op->slot);
	/* An open returns a number; closing closes, whatever it says. */
	if (op->type == FIM_CLOSE || ret > 0)
		ret = 0;
	fim_finish(ctx, op, ret);
	bpf_map_delete_elem(&calls, &tid);
	return 0;
}

#endif /* FIM_SYSCALLS_H */
