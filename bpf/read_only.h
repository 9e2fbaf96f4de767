/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Changes by a descriptor that a read-only mount refuses: fchown(2),
 * fsetxattr(2), fremovexattr(2) and the ioctls of chattr(1). The kernel asks for
 * write access to the mount before it calls the function at which such a change
 * is entered otherwise. So the change is entered here, if the mount is read-only:
 * what it is follows from the system call.
 */
#ifndef FIM_READ_ONLY_H
#define FIM_READ_ONLY_H

#include "kernel.h"
#include "event.h"
#include "context.h"
#include "operation.h"
#include "resolve.h"
#include "returns.h"
#include "attributes.h"
#include "chattr.h"
#include "caller.h"
#include "text.h"

#define FIM_CHANGES	16
#define FIM_CHANGE_BITS 10 /* of an index in the table of system calls; the event type + 1 follows */
#define FIM_FCHOWN16	(FIM_CALLS + 95) /* takes ids of 16 bits */

/* The system calls that change the object of a descriptor, and their event types: agent/hooks/syscalls.py. */
const volatile __u16 fim_changes[FIM_CHANGES] = {};

/* A change, and the arguments that follow its descriptor. */
struct fim_change {
	__u32 type; /* enum fim_type, or FIM_TYPES: the call is none of these */
	__u32 call; /* index in the table */
	__u64 second;
	__u64 third;
};

/* Returns the event type of a call, or FIM_TYPES. */
static __always_inline __u32 fim_change_type(__u32 call)
{
	__u32 change;
	int i;

	for (i = 0; i < FIM_CHANGES; i++) {
		change = fim_changes[i];
		if (change && (change & ((1U << FIM_CHANGE_BITS) - 1)) == call)
			return (change >> FIM_CHANGE_BITS) - 1;
	}
	return FIM_TYPES;
}

#if defined(__TARGET_ARCH_x86) || defined(__x86_64__)
static __always_inline void fim_change_read(struct fim_change *change, struct pt_regs *regs)
{
	change->call = fim_call_of(regs);
	if (change->call < FIM_CALLS) {
		change->second = BPF_CORE_READ(regs, si);
		change->third = BPF_CORE_READ(regs, dx);
	} else {
		change->second = (__u32)BPF_CORE_READ(regs, cx);
		change->third = (__u32)BPF_CORE_READ(regs, dx);
	}
}
#else
static __always_inline void fim_change_read(struct fim_change *change, struct pt_regs *regs)
{
	change->call = fim_call_of(regs);
	change->second = BPF_CORE_READ((struct user_pt_regs *)regs, regs[1]);
	change->third = BPF_CORE_READ((struct user_pt_regs *)regs, regs[2]);
}
#endif

/*
 * Finds out what the current thread changes. A worker of io_uring sets attributes
 * of descriptors, and comes here from 6.13 on.
 */
static __always_inline void fim_change_find(struct fim_change *change)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u32 flags = BPF_CORE_READ(task, flags);
	struct pt_regs *regs = NULL;

	change->type = flags & PF_IO_WORKER ? FIM_SETXATTR : FIM_TYPES;
	if (!(flags & (PF_IO_WORKER | PF_KTHREAD)))
		regs = fim_user_regs();
	if (!regs)
		return;
	fim_change_read(change, regs);
	change->type = fim_change_type(change->call);
	if (change->type == FIM_CHATTR && !fim_is_setting_flags(change->second))
		change->type = FIM_TYPES;
	if (change->call == FIM_FCHOWN16) {
		change->second = (__s16)change->second == -1 ? ~0U : (__u16)change->second;
		change->third = (__s16)change->third == -1 ? ~0U : (__u16)change->third;
	}
}

/* Returns the flags of an inode that a change asks for. */
static __always_inline __u32 fim_change_flags(struct fim_change *change)
{
	__u32 flags = 0;

	if (change->type != FIM_CHATTR)
		return 0;
	bpf_probe_read_user(&flags, sizeof(flags), (void *)change->third);
	return (__u32)change->second == FIM_FSSETXATTR ? fim_inode_flags(flags) : flags;
}

/* Whether a rule may want events of this type. */
static __always_inline int fim_is_wanted(__u32 type)
{
	struct fim_config *cfg = fim_config_lookup();
	struct fim_policy *policy = cfg ? fim_policy_lookup(cfg->serial, type) : NULL;

	return policy && policy->mode != FIM_REJECT_ALL;
}

/* Enters a change for which no other function was entered, and starts its record. NULL: no record. */
static __always_inline struct fim_inflight *fim_change_enter(void *ctx, __u32 family,
							     struct fim_change *change)
{
	struct fim_inflight *op;
	struct fim_slot *slot;

	if (change->type >= FIM_TYPES || !fim_is_wanted(change->type) ||
	    !fim_op_enter(fim_frame(ctx, family), FIM_AT_WANT_WRITE_FILE, change->type))
		return NULL;
	op = fim_op_lookup();
	if (!op)
		return NULL;
	op->flags = fim_change_flags(change);
	slot = fim_op_record(op, family);
	if (!slot)
		return NULL;
	if (change->type == FIM_CHOWN) {
		slot->event.new_uid = change->second;
		slot->event.new_gid = change->third;
	}
	return op;
}

/*
 * Whether the operation in flight is this change: before 5.13 an ioctl is entered
 * earlier, from 6.13 a call by name and one by descriptor are one function. Any
 * other was abandoned.
 */
static __always_inline int fim_is_change(struct fim_inflight *op, struct fim_change *change)
{
	__u64 both = 1ULL << FIM_AT_SETXATTR_PATH | 1ULL << FIM_AT_REMOVEXATTR_PATH;

	return op->nested || op->point == FIM_AT_SYSCALL ||
	       (fim_is_among(op->point, both | 1ULL << FIM_AT_IOCTL) &&
		(change->type >= FIM_TYPES || change->type == op->type));
}

/* Starts the record of a change that the mount of this file will refuse. */
static __always_inline int fim_change_refused(void *ctx, __u32 family, struct path *path)
{
	struct fim_inflight *op = fim_op_lookup();
	struct fim_change change = {};

	fim_change_find(&change);
	if (!op || !fim_is_change(op, &change))
		op = fim_change_enter(ctx, family, &change);
	else if (op->nested || op->state != FIM_ENTERED || op->point == FIM_AT_SYSCALL ||
		 !fim_op_record(op, family))
		return 0;
	if (!op)
		return 0;
	if (op->type == change.type && (op->type == FIM_SETXATTR || op->type == FIM_REMOVEXATTR))
		fim_read_text(op->slot, change.second, offsetof(struct fim_event, name));
	return fim_op_judge_path(ctx, family, op, path);
}

/* mnt_want_write_file(struct file *file) */
static __always_inline int want_write_file_given(void *ctx, __u32 family)
{
	struct file *file = fim_arg_pointer(ctx, family, 0);
	struct vfsmount *mnt = fim_untyped(family, fim_field(family, file, f_path.mnt));
	/* Of the same load: for a second one the compiler would compute with the context. */
	struct path *path = fim_untyped(family, file) + bpf_core_field_offset(struct file, f_path);
	struct fim_inflight *op = fim_op_lookup();

	fim_note_mount(mnt);
	if (op && op->point == FIM_AT_WANT_WRITE_FILE)
		fim_op_abandon(op); /* the function never calls itself: its return was not seen */
	if (!fim_is_read_only(mnt) || fim_is_internal(fim_real_mount(mnt)))
		return 0;
	return fim_change_refused(ctx, family, path);
}

static __always_inline int want_write_file_exit(void *ctx, __u32 family)
{
	struct fim_inflight *op = fim_op_lookup_inline();
	__s32 ret;

	if (!op || op->nested || op->point != FIM_AT_WANT_WRITE_FILE)
		return 0;
	ret = fim_ret(ctx, family, FIM_AT_WANT_WRITE_FILE);
	if (!FIM_TAILS(family) && fim_op_is_foretold(op, ret))
		return fim_op_void(op);
	return fim_op_end(ctx, family, op, ret);
}

#endif /* FIM_READ_ONLY_H */
