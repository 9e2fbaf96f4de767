/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Operations that are followed by their system calls, where programs cannot be
 * attached to the kernel's functions.
 *
 * An object that has a name is reported by the caller's text, read from its
 * memory: the caller may change it before the kernel reads it, and links in it
 * are not followed. An object that has a descriptor is resolved as elsewhere.
 */
#ifndef FIM_SYSCALLS_H
#define FIM_SYSCALLS_H

#include "kernel.h"
#include "event.h"
#include "drift.h"
#include "maps.h"
#include "slot.h"
#include "scope.h"
#include "policy.h"
#include "base.h"
#include "path.h"
#include "record.h"
#include "operation.h"
#include "judge.h"
#include "returns.h"
#include "attributes.h"
#include "calls.h"

/* Starts the record of a call that names its object. Returns whether all texts could be read. */
__noinline int fim_call_begin_named(void)
{
	struct fim_inflight *op = fim_op_lookup();

	if (!op)
		return 0;
	op->names = FIM_FILES; /* no other hook adds one */
	op->slot = fim_slot_get();
	if (!fim_record_start(op->slot, op->type, FIM_TRACEPOINT))
		return 0;
	return fim_read_texts(op->slot);
}

/* Whether this descriptor is the last one of a file that was open for writing. */
__noinline int fim_is_last_close(int fd)
{
	struct path *path = fim_fd_path(fd);
	struct file *file;
	fmode_t mode;

	if (!path)
		return 0;
	file = (void *)path - bpf_core_field_offset(struct file, f_path);
	mode = BPF_CORE_READ(file, f_mode);
	return (mode & FMODE_WRITE) && (mode & FMODE_OPENED) && fim_is_last(file) &&
	       (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) == S_IFREG;
}

/* Whether an open asks for no access, and so is no event. */
static __always_inline int fim_is_open_without_access(struct fim_inflight *op)
{
	return op->type == FIM_OPEN && (op->flags & O_PATH);
}

/* Returns the descriptor of a call's object, or -1. */
static __always_inline int fim_call_fd(struct fim_call *call, struct fim_syscall *row)
{
	if (row->fd)
		return fim_call_arg(call, row->fd);
	if ((row->type == FIM_UTIMES + 1 || row->type == FIM_CHATTR + 1) && row->dfd[0] &&
	    !fim_call_arg(call, row->path[0]))
		return fim_call_arg(call, row->dfd[0]);
	return -1;
}

/* Enters a call's operation. Returns 0 if it is not followed. */
__noinline int fim_call_begin(void)
{
	struct fim_call *call = fim_call_lookup();
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
	if (type == FIM_UNLINK && (fim_call_arg(call, row->flags) & FIM_AT_REMOVEDIR))
		type = FIM_RMDIR;
	if ((row->fd && !fim_fd_path(call->fd)) || (type == FIM_CLOSE && !fim_is_last_close(call->fd)))
		return 0;
	if (!fim_op_enter(~0ULL, FIM_AT_SYSCALL, type))
		return 0;
	op = fim_op_lookup();
	if (!op)
		return 0;
	call->readable = fim_call_read_how(op, call, row);
	if (!op->quiet && !fim_is_open_without_access(op))
		return 1;
	return fim_op_leave();
}

/* Fills in the owner that a call asks for. */
static __always_inline void fim_fill_owner(struct fim_slot *slot, struct fim_call *call)
{
	struct fim_syscall *row = bpf_map_lookup_elem(&syscalls, &call->number);

	if (!row || !row->owner)
		return;
	slot->event.new_uid = fim_call_arg(call, row->owner);
	slot->event.new_gid = fim_call_arg(call, row->owner + 1);
}

/* Judges a call whose object has a descriptor. */
static __always_inline void fim_call_begin_descriptor(struct fim_inflight *op, struct fim_call *call)
{
	struct path *path = fim_fd_path(call->fd);
	struct fim_object object = {};
	struct fim_slot *slot;
	int approved;

	if (!path)
		return;
	slot = fim_op_record(op, FIM_TRACEPOINT);
	if (!slot)
		return;
	fim_fill_owner(slot, call);
	object.dentry = BPF_CORE_READ(path, dentry);
	object.mount = fim_path_mount(path);
	approved = fim_judge(op->slot, &object);
	if (approved)
		fim_read_texts(op->slot);
	fim_op_judged(op, approved);
}

static __always_inline int fim_call_dfd(struct fim_call *call, __u8 place)
{
	return place ? (int)fim_call_arg(call, place) : AT_FDCWD;
}

/* Judges a call by its texts, and keeps the result in `call`. Counts nothing: it may turn out to be no event.
 */
static __always_inline void fim_judge_call(struct fim_inflight *op, struct fim_call *call)
{
	struct fim_syscall *row = bpf_map_lookup_elem(&syscalls, &call->number);
	struct fim_slot *slot = fim_slot_lookup(op->slot);
	struct fim_policy *policy;
	enum fim_opinion opinion;
	int approved;

	if (!row || !slot)
		return;
	slot->event.flags = op->type == FIM_UNLINK || op->type == FIM_RMDIR ? 0 : op->flags;
	slot->event.mode = op->mode;
	policy = fim_policy_consult(slot);
	if (!policy)
		return;
	call->judged = 1;
	if (policy->mode == FIM_REJECT_ALL)
		return;
	opinion = fim_judge_unnamed(slot, op->slot, policy);
	if (opinion == FIM_REJECTED)
		return;
	approved = opinion == FIM_APPROVED;
	approved |= fim_judge_text(op->slot, 0, fim_call_dfd(call, row->dfd[0]));
	if (row->path[1])
		approved |= fim_judge_text(op->slot, 1, fim_call_dfd(call, row->dfd[1]));
	call->approved = approved;
}

/* Judges a call by name, and keeps its texts until the return unless they cannot match. */
static __always_inline void fim_call_follow_named(struct fim_inflight *op, struct fim_call *call)
{
	if (fim_call_begin_named() && call->readable)
		fim_judge_call(op, call);
	if (call->judged && !call->approved)
		fim_op_drop(op);
	else
		fim_op_keep();
}

/* Begins the operation of a call. Returns 0 if it has none. */
static __always_inline int fim_call_follow(void)
{
	struct fim_call *call = fim_call_lookup();
	struct fim_inflight *op;

	if (!call || !fim_call_begin())
		return 0;
	op = fim_op_lookup();
	if (!op)
		return 0;
	if (call->fd >= 0)
		fim_call_begin_descriptor(op, call);
	else
		fim_call_follow_named(op, call);
	return 1;
}

static __always_inline int syscall_enter(void *ctx, __u32 family)
{
	struct trace_event_raw_sys_enter *entered = ctx;
	struct fim_call call = {};
	struct fim_syscall *row;
	__u32 tid = bpf_get_current_pid_tgid();

	call.number = fim_call_number(entered->id);
	row = bpf_map_lookup_elem(&syscalls, &call.number);
	if (!row || !row->type || !fim_is_in_scope())
		return 0;
	call.args[0] = entered->args[0];
	call.args[1] = entered->args[1];
	call.args[2] = entered->args[2];
	call.args[3] = entered->args[3];
	call.args[4] = entered->args[4];
	call.args[5] = entered->args[5];
	if (!fim_is_call(row, &call))
		return 0;
	if (bpf_map_update_elem(&calls, &tid, &call, BPF_ANY))
		fim_lose(row->type - 1, unentered);
	else if (!fim_call_follow())
		bpf_map_delete_elem(&calls, &tid);
	return 0;
}

/*
 * Errors that make no event of a call by name: there is no such file, or the
 * call was malformed or ran out of something. An operation on an object that
 * exists may be refused with EINVAL.
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

/* Reads what could not be read at the entry, and counts the event. Returns whether there is a record. */
__noinline int fim_call_read_named(void)
{
	struct fim_inflight *op = fim_op_lookup();
	struct fim_call *call = fim_call_lookup();
	struct fim_syscall *row;

	if (!op || !call)
		return 0;
	row = bpf_map_lookup_elem(&syscalls, &call->number);
	if (!row)
		return 0;
	if (!call->readable && fim_call_read_how(op, call, row) && fim_is_open_without_access(op))
		return 0;
	fim_count(op->type, seen);
	if (call->judged && !call->approved) {
		fim_count(op->type, approver_rejected);
		return 0;
	}
	if (!fim_op_fetch(op)) {
		fim_lose(op->type, no_slot);
		return 0;
	}
	if (fim_read_texts(op->slot))
		return 1;
	fim_lose(op->type, abandoned);
	return 0;
}

/* Ends a call by name, now that its return value shows that it is an event. */
static __always_inline void fim_call_end_named(struct fim_inflight *op)
{
	struct fim_call *call = fim_call_lookup();
	struct fim_slot *slot;

	if (!call || !fim_call_read_named())
		return;
	if (!call->judged)
		fim_judge_call(op, call);
	slot = fim_slot_lookup(op->slot);
	if (!slot)
		return;
	if (!call->approved) {
		fim_count(op->type, approver_rejected);
		return;
	}
	fim_fill_owner(slot, call);
	op->state = FIM_PENDING;
}

/* Reads the flags that could not be read at the entry: the kernel has read them since. */
static __always_inline void fim_call_read_again(struct fim_inflight *op)
{
	struct fim_call *call = fim_call_lookup();
	struct fim_syscall *row;

	if (op->type != FIM_CHATTR || !call || call->readable)
		return;
	row = bpf_map_lookup_elem(&syscalls, &call->number);
	if (row)
		fim_call_read_flags(op, call, row);
}

static __always_inline int syscall_exit(void *ctx, __u32 family)
{
	struct trace_event_raw_sys_exit *left = ctx;
	struct fim_inflight *op = fim_op_lookup();
	__u32 tid = bpf_get_current_pid_tgid();
	__s64 ret;

	if (!op || op->point != FIM_AT_SYSCALL)
		return 0;
	ret = (__s32)left->ret;
	if (op->state == FIM_ENTERED && fim_is_event(op->type, ret)) {
		fim_call_end_named(op);
	} else if (op->state == FIM_PENDING && fim_op_fetch(op)) {
		fim_read_texts(op->slot);
		fim_call_read_again(op);
	}
	/* An open returns a descriptor; a close succeeds whatever it returns. */
	if (op->type == FIM_CLOSE || ret > 0)
		ret = 0;
	fim_op_finish(ctx, op, ret);
	bpf_map_delete_elem(&calls, &tid);
	return 0;
}

#endif /* FIM_SYSCALLS_H */
