/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The life of an operation: it is entered, its object is seen, it returns.
 *
 *	enter	the kernel begins to serve a request; nothing is resolved yet
 *	resolve	the object is known: filters, path; a record is made ready
 *	exit	the return value is known: the record goes out
 *
 * The three run as separate programs and meet in `inflight`. The first object
 * wins: what the kernel does below it on behalf of the same request (copying
 * up in overlayfs, asking again after ESTALE) is not another event.
 */
#ifndef FIM_OPERATION_H
#define FIM_OPERATION_H

#include "record.h"
#include "approvers.h"

/* Functions that are entered and left. */
enum fim_point {
	FIM_AT_OPEN,
	FIM_AT_OPEN_ROOT,
	FIM_AT_UNLINK,
	FIM_AT_RMDIR,
	FIM_AT_MKDIR,
	FIM_AT_RENAME,
	FIM_AT_LINK,
	FIM_AT_SYMLINK,
	FIM_AT_MKNOD,
	FIM_AT_TRUNCATE,
	FIM_AT_FTRUNCATE,
	FIM_AT_CHMOD,
	FIM_AT_CHOWN,
	FIM_AT_UTIMES,
	FIM_AT_SETXATTR,
	FIM_AT_REMOVEXATTR,
	FIM_AT_SET_ACL,
	FIM_AT_REMOVE_ACL,
	FIM_AT_MOUNT,
	FIM_AT_UMOUNT,
	FIM_AT_MOVE_MOUNT,
	FIM_AT_TRUNCATE_PATH,
	FIM_AT_CHMOD_PATH,
	FIM_AT_CHOWN_PATH,
	FIM_AT_UTIMES_PATH,
	FIM_AT_SETXATTR_PATH,
	FIM_AT_REMOVEXATTR_PATH,
	FIM_POINTS = 32,
};

#define FIM_AT_SYSCALL (FIM_POINTS - 1) /* any of agent/hooks/syscalls.py */

/*
 * How many arguments the function at each point has here: fexit finds the
 * return value behind them (bpf_get_func_ret() came in 5.17).
 */
const volatile __u8 fim_arguments[FIM_POINTS] = {};

#define FIM_WRITE_FLAGS (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | O_APPEND)

#define FIM_ANCESTORS 16 /* how far up a scope is looked for */

/* Operations that discarders must hear of, whoever does them. */
#define FIM_INVALIDATES                                                                                      \
	(1U << FIM_UNLINK | 1U << FIM_RMDIR | 1U << FIM_RENAME | 1U << FIM_LINK | 1U << FIM_MOUNT |          \
	 1U << FIM_UMOUNT)

/*
 * Refusals that are events even where no object was resolved. Others say that
 * there is no such file (ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG), or that the
 * request was malformed or ran out of something.
 */
#define FIM_REFUSALS                                                                                         \
	(1ULL << EPERM | 1ULL << EACCES | 1ULL << EBUSY | 1ULL << EEXIST | 1ULL << EXDEV | 1ULL << EISDIR |  \
	 1ULL << ETXTBSY | 1ULL << ENOSPC | 1ULL << EROFS | 1ULL << ENOTEMPTY)

/*
 * Arguments as numbers, whatever the program's type. Of a trampoline they are
 * read like foreign memory, because the verifier would type them as pointers,
 * and those cannot be handed to a global function on 5.10.
 */
static __always_inline __u64 fim_arg(void *ctx, __u32 family, int n)
{
	struct pt_regs *regs = ctx;
	__u64 value = 0;

	if (family == FIM_KPROBE || family == FIM_KPROBE_MULTI) {
		switch (n) {
		case 0:
			return PT_REGS_PARM1(regs);
		case 1:
			return PT_REGS_PARM2(regs);
		case 2:
			return PT_REGS_PARM3(regs);
		case 3:
			return PT_REGS_PARM4(regs);
		case 4:
			return PT_REGS_PARM5(regs);
		default:
			return FIM_PARM6(regs);
		}
	}
	bpf_probe_read_kernel(&value, sizeof(value), (__u64 *)ctx + n);
	return value;
}

static __always_inline __s64 fim_ret(void *ctx, __u32 family, __u32 point)
{
	if (family == FIM_KPROBE || family == FIM_KPROBE_MULTI)
		return PT_REGS_RC((struct pt_regs *)ctx);
	return fim_arg(ctx, family, fim_arguments[point]);
}

/* Where on the stack we are: an operation inside another one is further down. */
static __always_inline __u64 fim_frame(void *ctx, __u32 family)
{
	__u64 address = 0;

	if (family == FIM_KPROBE || family == FIM_KPROBE_MULTI)
		return PT_REGS_SP((struct pt_regs *)ctx);
	bpf_probe_read_kernel(&address, sizeof(address), &ctx);
	return address;
}

static __always_inline struct fim_inflight *fim_operation_inline(void)
{
	__u32 tid = bpf_get_current_pid_tgid();

	return bpf_map_lookup_elem(&inflight, &tid);
}

FIM_ONCE struct fim_inflight *fim_operation(void)
{
	return fim_operation_inline();
}

__noinline __u64 fim_parent_of(__u64 task)
{
	return (__u64)BPF_CORE_READ((struct task_struct *)task, real_parent);
}

__noinline __u32 fim_process_of(__u64 task)
{
	return BPF_CORE_READ((struct task_struct *)task, tgid);
}

/* Whether what the current task does is reported. */
__noinline int fim_in_scope(void)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct fim_config *cfg = fim_config();
	__u64 task;
	int i;

	if (!cfg || tgid == cfg->agent)
		return 0;
	if (!cfg->scope || tgid == cfg->scope)
		return 1;
	task = bpf_get_current_task();
	for (i = 0; i < FIM_ANCESTORS; i++) {
		task = fim_parent_of(task);
		if (fim_process_of(task) == cfg->scope)
			return 1;
	}
	return 0;
}

/* Lets go of an operation whose return was not seen. */
__noinline int fim_abandon(void)
{
	struct fim_inflight *op = fim_operation();
	__u32 tid = bpf_get_current_pid_tgid();

	if (!op)
		return 0;
	if (op->state == FIM_PENDING)
		fim_count(op->type, abandoned);
	fim_give_slot(op->slot);
	bpf_map_delete_elem(&inflight, &tid);
	return 1;
}

/* --- enter -----------------------------------------------------------------
 */

/*
 * Whether an operation begins inside the one that is in flight: a file system
 * opens its image while it is mounted, a driver its firmware while its device
 * is opened. All else that is in flight was left there, because the kernel
 * skipped the program at its return. (The frame alone cannot tell: where a
 * system call's stack begins is random.)
 */
static __always_inline int fim_nests(struct fim_inflight *outer, __u32 point, __u64 frame)
{
	/* What a system call is told by as a whole is not told by its parts. */
	if (outer->point == FIM_AT_SYSCALL)
		return point != FIM_AT_SYSCALL;
	if (frame >= outer->frame)
		return 0;
	return (point == FIM_AT_OPEN && outer->point == FIM_AT_MOUNT) ||
	       (point == FIM_AT_OPEN_ROOT && outer->type == FIM_OPEN);
}

/* 1 if the operation is to be followed. */
__noinline int fim_enter(__u64 frame, __u32 point, __u32 type)
{
	__u32 tid = bpf_get_current_pid_tgid();
	struct fim_inflight fresh = {}, *outer = fim_operation();

	if (outer && fim_nests(outer, point, frame)) {
		__sync_fetch_and_add(&outer->nested, 1);
		return 0;
	}
	if (outer)
		fim_abandon();
	fresh.quiet = !fim_in_scope();
	if (fresh.quiet && !(FIM_INVALIDATES & (1U << (type & 31))))
		return 0;
	fresh.frame = frame;
	fresh.slot = FIM_NO_SLOT;
	fresh.point = point;
	fresh.type = type;
	if (!bpf_map_update_elem(&inflight, &tid, &fresh, BPF_ANY))
		return 1;
	fim_count(type, unentered);
	return 0;
}

/* --- resolve ---------------------------------------------------------------
 */

/* The operation of this type whose object is being looked for. */
static __always_inline struct fim_inflight *fim_resolving(__u32 type)
{
	struct fim_inflight *op = fim_operation();

	if (!op || op->type != type || op->state != FIM_ENTERED || op->nested)
		return NULL;
	return op;
}

/* Advances an inode's epoch now and, when the operation returns, again. */
static __always_inline void fim_touches(struct fim_inflight *op, __u64 dentry)
{
	struct inode *inode = BPF_CORE_READ((struct dentry *)dentry, d_inode);
	__u32 n = op->bumps;
	__u32 key;

	if (!inode)
		return;
	key = fim_epoch_key(BPF_CORE_READ(inode, i_ino), BPF_CORE_READ(inode, i_sb, s_dev));
	fim_bump_epoch(key);
	op->bump[n & 1] = key;
	op->bumps = n + 1;
	if ((BPF_CORE_READ(inode, i_mode) & S_IFMT) == S_IFDIR && op->type == FIM_RENAME) {
		op->moves = 1;
		fim_bump_generation();
	}
}

/* Counts an event; 0 if the policy rejects its whole type. */
static __always_inline struct fim_policy *fim_admit(__u32 type)
{
	struct fim_config *cfg = fim_config();
	struct fim_policy *policy;

	fim_count(type, seen);
	if (!cfg)
		return NULL;
	policy = fim_policy(cfg->serial, type);
	if (policy && policy->mode != FIM_REJECT_ALL)
		return policy;
	fim_count(type, approver_rejected);
	return NULL;
}

/*
 * Counts an event whose object is known and starts its record; the slot's
 * index, or FIM_NO_SLOT if it is not wanted or cannot be had.
 */
__noinline __u32 fim_begin(__u32 type, __u32 family, __u32 index)
{
	struct fim_policy *policy = fim_admit(type);
	struct fim_slot *slot;

	if (!policy)
		goto none;
	if (index == FIM_NO_SLOT)
		index = fim_take_slot();
	slot = fim_slot_at(index);
	if (!slot) {
		fim_count(type, no_slot);
		return FIM_NO_SLOT;
	}
	fim_start(index, type, family);
	return index;
none:
	fim_give_slot(index);
	return FIM_NO_SLOT;
}

/* What approvers have to go by; all but an open counts as writing. */
static __always_inline struct fim_policy *fim_consult(struct fim_slot *slot)
{
	struct fim_event *event = &slot->event;
	struct fim_policy *policy = fim_policy(event->serial, event->type);
	__u64 bit = 1ULL << (event->type & 31);

	if (!policy)
		return NULL;
	slot->bits = bit;
	slot->kinds = policy->read_kinds;
	if (event->type != FIM_OPEN || (event->flags & FIM_WRITE_FLAGS)) {
		slot->bits = bit | bit << FIM_WRITING;
		slot->kinds = policy->kinds;
	}
	return policy;
}

/* Walks one file's path; whether its names approve the event. */
__noinline int fim_judge_file(__u32 index, __u32 which, __u64 dentry, __u64 mount)
{
	struct fim_slot *slot = fim_slot_at(index);

	if (!slot)
		return 0;
	fim_walk_begin(slot, which, dentry, mount);
	fim_walk_rest(index);
	return fim_approve_path(index);
}

/*
 * Filters an event and resolves its paths, the cheap steps first; 0 if it is
 * to be dropped. The second file is absent if its dentry is 0.
 */
__noinline int fim_judge(__u32 index, __u64 dentry, __u64 mount, __u64 dentry2, __u64 mount2)
{
	struct fim_slot *slot = fim_slot_at(index);
	struct fim_policy *policy;
	int approved;

	if (!slot)
		return 0;
	policy = fim_consult(slot);
	if (!policy)
		return 0;
	fim_fill_file(index, 0, dentry, mount);
	if (dentry2)
		fim_fill_file(index, 1, dentry2, mount2);
	approved = policy->mode == FIM_FORWARD_ALL || fim_approve_plain(index, policy->flags_any);
	/* A script of which only the caller's text is known may be any. */
	if ((slot->event.file[1].flags & FIM_AS_GIVEN) && (slot->kinds & FIM_BY_NAME))
		approved = 1;
	if (!approved && !(slot->kinds & FIM_BY_NAME))
		goto rejected;
	if (fim_discarded(index, 0, &slot->event.file[0]) &&
	    (!dentry2 || fim_discarded(index, 1, &slot->event.file[1]))) {
		fim_count(slot->event.type, discarded);
		return 0;
	}
	approved |= fim_judge_file(index, 0, dentry, mount);
	if (dentry2)
		approved |= fim_judge_file(index, 1, dentry2, mount2);
	if (approved)
		return 1;
rejected:
	fim_count(slot->event.type, approver_rejected);
	return 0;
}

/* Starts the record of an operation whose object is known. */
static __always_inline struct fim_slot *fim_record(struct fim_inflight *op, __u32 family)
{
	struct fim_slot *slot;

	op->state = FIM_SEEN;
	if (op->quiet)
		return NULL;
	op->slot = fim_begin(op->type, family, op->slot);
	slot = fim_slot_at(op->slot);
	if (!slot)
		return NULL;
	slot->event.flags = op->flags;
	slot->event.mode = op->mode;
	return slot;
}

/* Keeps the record until the return, or lets it go. */
static __always_inline void fim_keep(struct fim_inflight *op, int kept)
{
	if (kept) {
		op->state = FIM_PENDING;
		return;
	}
	fim_give_slot(op->slot);
	op->slot = FIM_NO_SLOT;
}

/* Judges the record of an operation. One that is kept gets the caller's texts. */
static __always_inline int fim_decide(struct fim_inflight *op, const struct fim_object *object)
{
	fim_keep(op, fim_judge(op->slot, object->dentry, object->mount, object->dentry2, object->mount2));
	if (op->state != FIM_PENDING)
		return 0;
	if (object->name)
		fim_append_text(op->slot, object->name, offsetof(struct fim_event, name));
	if (object->source)
		fim_append_text(op->slot, object->source, offsetof(struct fim_event, source));
	return 0;
}

/*
 * The same as the last thing that a program does. Where it can be handed over,
 * the verifier sees the larger part of all these programs once.
 */
static __always_inline int fim_judge_last(void *ctx, __u32 family, struct fim_inflight *op,
					  const struct fim_object *object)
{
	struct fim_slot *slot;

	if (!FIM_JUDGES_APART(family))
		return fim_decide(op, object);
	slot = fim_slot_at(op->slot);
	if (!slot)
		return 0;
	slot->object = *object;
	bpf_tail_call(ctx, &tails, FIM_TAIL_JUDGE);
	fim_count(op->type, abandoned);
	return 0;
}

/* What those programs hand over to. */
static __always_inline int fim_judge_apart(void)
{
	struct fim_inflight *op = fim_operation();
	struct fim_slot *slot = op ? fim_slot_at(op->slot) : NULL;

	return slot ? fim_decide(op, &slot->object) : 0;
}

/* Remembers a name that gets its inode only by this operation. */
static __always_inline void fim_creates(struct fim_inflight *op, __u64 dentry)
{
	struct dentry *new = (void *)dentry;

	op->created = dentry;
	op->parent = (__u64)BPF_CORE_READ(new, d_parent);
	op->stamp = BPF_CORE_READ(new, d_name.hash_len);
}

#endif /* FIM_OPERATION_H */
