/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * System calls and their arguments. agent/hooks/syscalls.py lists the calls,
 * and what each of their arguments is.
 */
#ifndef FIM_CALLS_H
#define FIM_CALLS_H

#include "kernel.h"
#include "event.h"
#include "maps.h"
#include "slot.h"
#include "text.h"
#include "operation.h"
#include "chattr.h"
#include "mounts.h"
#include "caller.h"

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

/* One call: the places of its arguments from 1, 0 for none. */
struct fim_syscall {
	__u8 type; /* enum fim_type + 1; 0: the call is not followed */
	__u8 fd;   /* descriptor of the object */
	__u8 path[FIM_FILES];
	__u8 dfd[FIM_FILES]; /* directories that the paths start from; 0: the working directory */
	__u8 flags;
	__u8 mode;
	__u8 name;    /* a text, for event.name */
	__u8 source;  /* a text, for event.source */
	__u8 owner;   /* user, the group follows */
	__u8 how;     /* struct open_how */
	__u32 always; /* flags of an open that the call implies, or the type of what it creates */
};
_Static_assert(sizeof(struct fim_syscall) == 16, "agent/hooks/syscalls.py: ROW");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2 * FIM_CALLS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct fim_syscall);
} syscalls SEC(".maps");

/* A call's arguments, until it returns, as long as its operation is in flight. */
struct fim_call {
	__u64 args[FIM_ARGUMENTS];
	__u32 number;
	__s32 fd;	/* descriptor of the object, or -1: it has a name */
	__u32 readable; /* 1: its flags could be read when it began */
	__u32 judged;	/* 1: `approved` is known */
	__u32 approved;
	__u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries,
	       FIM_BUSY + FIM_OPERATIONS); /* the bounds of one user's operations hold for it too */
	__type(key, __u32);		   /* thread */
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

static __always_inline struct fim_call *fim_call_lookup(void)
{
	__u32 tid = bpf_get_current_pid_tgid();

	return bpf_map_lookup_elem(&calls, &tid);
}

static __always_inline __u64 fim_call_arg(struct fim_call *call, __u8 place)
{
	return place ? call->args[fim_index(place - 1, FIM_ARGUMENTS)] : 0;
}

/*
 * Reads the caller's strings when the call begins. Strings that are not in memory
 * then are read when it returns, because the kernel has fetched them meanwhile.
 * Returns whether the record has all paths.
 */
__noinline int fim_read_texts(__u32 index)
{
	struct fim_call *call = fim_call_lookup();
	struct fim_syscall *row;
	struct fim_slot *slot;

	if (!call)
		return 0;
	row = bpf_map_lookup_elem(&syscalls, &call->number);
	if (!row)
		return 0;
	slot = fim_slot_lookup(index);
	if (!slot)
		return 0;
	fim_read_text(index, fim_call_arg(call, row->path[0]), offsetof(struct fim_event, file[0].given));
	fim_read_text(index, fim_call_arg(call, row->path[1]), offsetof(struct fim_event, file[1].given));
	fim_read_text(index, fim_call_arg(call, row->name), offsetof(struct fim_event, name));
	fim_read_text(index, fim_call_arg(call, row->source), offsetof(struct fim_event, source));
	return slot->event.file[0].given.length && (!row->path[1] || slot->event.file[1].given.length);
}

/*
 * Whether a call is one of those that its row is about. An open_tree_attr sets
 * attributes of the mount itself or of a copy. An ioctl has a command. The
 * address of a bind has a path if it is of AF_UNIX and does not begin with a zero;
 * the argument becomes that of the path.
 */
static __always_inline int fim_is_call(struct fim_syscall *row, struct fim_call *call)
{
	__u8 head[4] = {}; /* the family, and the start of the path */

	if (row->type == FIM_MOUNT + 1 && row->how)
		return fim_is_setting_mount(fim_call_arg(call, row->flags), fim_call_arg(call, row->how));
	if (row->type == FIM_CHATTR + 1 && row->fd)
		return fim_is_setting_flags(call->args[1]);
	if (row->always != S_IFSOCK)
		return 1;
	if (call->args[2] < sizeof(head) || bpf_probe_read_user(head, sizeof(head), (void *)call->args[1]))
		return 0;
	call->args[1] += 2;
	return head[0] == AF_UNIX && !head[1] && head[2];
}

/* Reads the inode's flags that the caller asks for: a word of either kind. */
static __always_inline int fim_call_read_flags(struct fim_inflight *op, struct fim_call *call,
					       struct fim_syscall *row)
{
	__u32 flags = 0;

	if (bpf_probe_read_user(&flags, sizeof(flags), (void *)fim_call_arg(call, row->how)))
		return 0;
	op->flags = !row->fd || (__u32)call->args[1] == FIM_FSSETXATTR ? fim_inode_flags(flags) : flags;
	return 1;
}

/* Reads the flags and the mode that the caller asks for. Returns 0 if openat2's cannot be read. */
static __always_inline int fim_call_read_how(struct fim_inflight *op, struct fim_call *call,
					     struct fim_syscall *row)
{
	__u64 how[2] = {};

	op->flags = fim_call_arg(call, row->flags) | row->always;
	op->mode = (umode_t)fim_call_arg(call, row->mode);
	if (row->always == S_IFSOCK) {
		op->flags = 0;
		op->mode = S_IFSOCK | 0777;
	}
	if (op->type == FIM_OPEN || op->type == FIM_CHMOD)
		op->mode &= 07777;
	if (!row->how)
		return 1;
	if (op->type == FIM_MOUNT) {
		op->flags = 0;
		return 1;
	}
	if (op->type == FIM_CHATTR)
		return fim_call_read_flags(op, call, row);
	if (bpf_probe_read_user(how, sizeof(how), (void *)fim_call_arg(call, row->how)))
		return 0;
	op->flags = how[0];
	op->mode = how[1] & 07777;
	return 1;
}

#endif /* FIM_CALLS_H */
