/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * System calls, entered and left: what is left to attach to where the kernel's
 * own functions cannot be had.
 *
 * An object that is asked for by name is told in the caller's words, which are
 * read from its memory: it may change them before the kernel reads them, and
 * links in them are not followed. One that is asked for by a descriptor is
 * known like elsewhere. Which calls there are, and which argument is what, is
 * data in agent/syscalls.py.
 */
#ifndef FIM_SYSCALLS_H
#define FIM_SYSCALLS_H

#include "attributes.h"

#define FIM_CALLS	 512 /* numbers of native calls; 32-bit ones follow */
#define FIM_X32		 0x40000000
#define FIM_TS_COMPAT	 2 /* arch/x86/include/asm/thread_info.h */
#define FIM_ARGUMENTS	 8 /* six, and a power of two */
#define FIM_AT_REMOVEDIR 0x200

#define ENOENT	     2
#define EBADF	     9
#define ENOMEM	     12
#define EFAULT	     14
#define ENOTDIR	     20
#define EINVAL	     22
#define ENFILE	     23
#define EMFILE	     24
#define ENAMETOOLONG 36
#define ENOSYS	     38
#define ELOOP	     40
#define ERESTARTSYS  512 /* never seen by the caller: the call begins anew */

/* One call: places of its arguments, from 1; 0: it has none of the kind. */
struct fim_syscall {
	__u8 type; /* enum fim_type + 1; 0: the call is not followed */
	__u8 fd;   /* the object, by its descriptor */
	__u8 path[FIM_FILES];
	__u8 dfd[FIM_FILES]; /* where the paths start; else the working directory */
	__u8 flags;
	__u8 mode;
	__u8 name;    /* a text, for event.name */
	__u8 source;  /* a text, for event.source */
	__u8 owner;   /* user, the group follows */
	__u8 how;     /* struct open_how */
	__u32 always; /* flags that the call stands for */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2 * FIM_CALLS);
	__type(key, __u32);
	__type(value, struct fim_syscall);
} syscalls SEC(".maps");

/* What a call was given, until it returns. */
struct fim_call {
	__u64 args[FIM_ARGUMENTS];
	__u32 number;
	__s32 fd; /* the object, or -1: it is named */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32); /* thread */
	__type(value, struct fim_call);
} calls SEC(".maps");

struct trace_event_raw_sys_enter {
	long id;
	unsigned long args[6];
} __attribute__((preserve_access_index));

struct trace_event_raw_sys_exit {
	long id;
	long ret;
} __attribute__((preserve_access_index));

struct thread_info___status {
	__u32 status;
} __attribute__((preserve_access_index));

struct task_struct___info {
	struct thread_info___status thread_info;
} __attribute__((preserve_access_index));

/* The place of a call in the table; 32-bit calls of other machines than x86 have none. */
static __always_inline __u32 fim_call_number(long id)
{
	struct task_struct___info *task = (void *)bpf_get_current_task();
	__u32 number = (__u32)id & ~FIM_X32;

	if (number >= FIM_CALLS)
		return 2 * FIM_CALLS;
	if (bpf_core_field_exists(task->thread_info.status) &&
	    (BPF_CORE_READ(task, thread_info.status) & FIM_TS_COMPAT))
		return FIM_CALLS + number;
	return number;
}

static __always_inline struct fim_call *fim_call(void)
{
	__u32 tid = bpf_get_current_pid_tgid();

	return bpf_map_lookup_elem(&calls, &tid);
}

static __always_inline __u64 fim_given_arg(struct fim_call *call, __u8 place)
{
	return place ? call->args[fim_index(place - 1, FIM_ARGUMENTS)] : 0;
}

/* Appends a text of the caller's, unless it is there already. */
__noinline int fim_take_text(__u32 index, __u64 address, __u32 at)
{
	struct fim_slot *slot = fim_slot_at(index);
	struct fim_text *text;
	__u64 place = at;
	__u64 used;
	long size;

	barrier_var(place); /* the bound is to be in the register that is added */
	if (!slot || !address || place > sizeof(slot->event) - sizeof(*text))
		return 0;
	text = (void *)&slot->event + place;
	used = slot->used;
	if (text->length || used > FIM_PAYLOAD_MAX - FIM_PATH_MAX)
		return 0;
	size = bpf_probe_read_user_str(slot->payload + used, FIM_PATH_MAX, (void *)address);
	if (size < 1)
		return 0;
	text->offset = used;
	text->length = size;
	slot->used = used + size;
	return 1;
}

/*
 * Reads what the caller points to: when the call begins, and what was not in
 * memory then once more when it returns, for then the kernel has fetched it.
 */
__noinline int fim_take_texts(__u32 index)
{
	struct fim_call *call = fim_call();
	struct fim_syscall *row;

	if (!call)
		return 0;
	row = bpf_map_lookup_elem(&syscalls, &call->number);
	if (!row)
		return 0;
	fim_take_text(index, fim_given_arg(call, row->path[0]), offsetof(struct fim_event, file[0].given));
	fim_take_text(index, fim_given_arg(call, row->path[1]), offsetof(struct fim_event, file[1].given));
	fim_take_text(index, fim_given_arg(call, row->name), offsetof(struct fim_event, name));
	fim_take_text(index, fim_given_arg(call, row->source), offsetof(struct fim_event, source));
	return 1;
}

/* The flags and the mode that were asked for. openat2 points to them. */
static __always_inline void fim_take_how(struct fim_inflight *op, struct fim_call *call,
					 struct fim_syscall *row)
{
	__u64 how[2] = {};

	op->flags = fim_given_arg(call, row->flags) | row->always;
	op->mode = (umode_t)fim_given_arg(call, row->mode);
	if (op->type == FIM_OPEN || op->type == FIM_CHMOD)
		op->mode &= 07777;
	if (!row->how)
		return;
	bpf_probe_read_user(how, sizeof(how), (void *)fim_given_arg(call, row->how));
	op->flags = how[0];
	op->mode = how[1] & 07777;
}

/* Starts the record of a call that names its object: texts now, all else when it returns. */
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

/* Where a text starts from, which other threads may move before the call returns. */
static __always_inline void fim_name_base(__u32 index, struct fim_call *call, __u8 place, __u32 which)
{
	fim_resolve_base(index, which, place ? (int)fim_given_arg(call, place) : AT_FDCWD);
}

__noinline int fim_name_bases(__u32 index)
{
	struct fim_slot *slot = fim_slot_at(index);
	struct fim_call *call = fim_call();
	struct fim_syscall *row;

	if (!slot || !call)
		return 0;
	row = bpf_map_lookup_elem(&syscalls, &call->number);
	if (!row)
		return 0;
	if (!(slot->event.file[0].flags & FIM_AS_GIVEN))
		fim_name_base(index, call, row->dfd[0], 0);
	if (!(slot->event.file[1].flags & FIM_AS_GIVEN))
		fim_name_base(index, call, row->dfd[1], 1);
	return 1;
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
	fim_take_how(op, call, row);
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
	fim_judge_path(op, path);
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
	else if (fim_name_begin())
		fim_name_bases(op->slot);
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

/* Ends a call by name: only now is it known to be an event. */
__noinline int fim_name_end(void)
{
	struct fim_inflight *op = fim_operation();
	struct fim_call *call = fim_call();
	struct fim_syscall *row;
	struct fim_slot *slot;

	if (!op || !call)
		return 0;
	row = bpf_map_lookup_elem(&syscalls, &call->number);
	slot = fim_slot_at(op->slot);
	if (!row || !slot) {
		fim_count(op->type, seen);
		fim_count(op->type, no_slot);
		return 0;
	}
	fim_take_texts(op->slot);
	fim_take_how(op, call, row);
	if (fim_opens_nothing(op))
		return 0;
	if (!slot->event.file[0].given.length) {
		fim_count(op->type, seen);
		fim_count(op->type, abandoned);
		return 0;
	}
	slot->event.flags = op->type == FIM_UNLINK || op->type == FIM_RMDIR ? 0 : op->flags;
	slot->event.mode = op->mode;
	fim_take_owner(slot, call);
	if (!fim_judge_given(slot, op->slot))
		return 0;
	op->state = FIM_PENDING;
	return 1;
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
	if (op->state == FIM_ENTERED && fim_is_event(op->type, ret)) {
		if (fim_name_end())
			fim_name_bases(op->slot);
	} else if (op->state == FIM_PENDING) {
		fim_take_texts(op->slot);
	}
	/* An open returns a number; closing closes, whatever it says. */
	if (op->type == FIM_CLOSE || ret > 0)
		ret = 0;
	fim_finish(ctx, op, ret);
	bpf_map_delete_elem(&calls, &tid);
	return 0;
}

#endif /* FIM_SYSCALLS_H */
