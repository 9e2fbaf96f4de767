/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Mounting and unmounting: events, which also make all discarders stale. */
#ifndef FIM_MOUNTS_H
#define FIM_MOUNTS_H

#include "kernel.h"
#include "event.h"
#include "path.h"
#include "discarders.h"
#include "context.h"
#include "operation.h"
#include "resolve.h"
#include "returns.h"
#include "attributes.h"
#include "caller.h"

/* Enters an operation that may change paths. Discarders become stale out of scope too. */
static __always_inline struct fim_inflight *fim_op_enter_moving(void *ctx, __u32 family, __u32 point,
								__u32 type)
{
	struct fim_inflight *op;

	fim_bump_generation();
	if (!fim_op_enter(fim_frame(ctx, family), point, type))
		return NULL;
	op = fim_op_lookup();
	if (op)
		op->moves = 1;
	return op;
}

/* path_mount(const char *dev_name, struct path *path, const char *type, unsigned long flags, ..) */
static __always_inline int mount_enter(void *ctx, __u32 family)
{
	struct fim_inflight *op = fim_op_enter_moving(ctx, family, FIM_AT_MOUNT, FIM_MOUNT);
	struct fim_object object = {};
	struct path *path;

	if (!op)
		return 0;
	op->flags = fim_arg(ctx, family, 3);
	op->call = fim_caller_call();
	if (!fim_op_record(op, family))
		return 0;
	path = (void *)fim_arg(ctx, family, 1);
	object.dentry = BPF_CORE_READ(path, dentry);
	object.mount = fim_path_mount(path);
	object.name = (void *)fim_arg(ctx, family, 2);
	object.source = (void *)fim_arg(ctx, family, 0);
	return fim_op_judge(ctx, family, op, &object);
}
FIM_SHORT_EXIT(mount, FIM_AT_MOUNT)

/* path_umount(struct path *path, int flags) */
static __always_inline int umount_enter(void *ctx, __u32 family)
{
	struct fim_inflight *op = fim_op_enter_moving(ctx, family, FIM_AT_UMOUNT, FIM_UMOUNT);

	if (!op)
		return 0;
	op->flags = fim_arg(ctx, family, 1);
	if (!fim_op_record(op, family))
		return 0;
	return fim_op_judge_path(ctx, family, op, (void *)fim_arg(ctx, family, 0));
}
FIM_SHORT_EXIT(umount, FIM_AT_UMOUNT)

/* Flags of mount(2), include/uapi/linux/mount.h. */
#define MS_REMOUNT 32
#define MS_BIND	   4096
#define MS_MOVE	   8192
#define FIM_MNT_NO 7 /* MNT_NOSUID, MNT_NODEV, MNT_NOEXEC; those of mount(2) are twice these */

#define FIM_SB_FLAGS                                                                                         \
	0xffff /* of a file system that have the numbers of mount(2); others are the kernel's own */

/* Attributes of mount_setattr(2) that have the same numbers as flags of mount(2). */
#define FIM_MOUNT_ATTRS 15

/* A call that moves mounts, by the caller's registers. */
#define FIM_MOVING_POINT(name, point)                                                                        \
	static __always_inline int name##_enter(void *ctx, __u32 family)                                     \
	{                                                                                                    \
		fim_op_enter_moving(ctx, family, point, FIM_MOUNT);                                          \
		return 0;                                                                                    \
	}                                                                                                    \
	FIM_SHORT_EXIT(name, point)

/* move_mount(2): attaches a mount of fsmount(2) or open_tree(2), or moves one; the same for 32-bit callers */
FIM_MOVING_POINT(move_mount, FIM_AT_MOVE_MOUNT)
FIM_MOVING_POINT(move_mount32, FIM_AT_MOVE_MOUNT32)

/* pivot_root(2): moves the root of a namespace */
FIM_MOVING_POINT(pivot_root, FIM_AT_PIVOT_ROOT)
FIM_MOVING_POINT(pivot_root32, FIM_AT_PIVOT_ROOT32)

/* Returns as flags of mount(2) how a mount is mounted. */
static __always_inline __u32 fim_mount_flags(struct mount *mount)
{
	__u32 flags = BPF_CORE_READ(mount, mnt.mnt_flags);

	return ((flags & MNT_READONLY) || (BPF_CORE_READ(mount, mnt.mnt_sb, s_flags) & MS_RDONLY)) |
	       (flags & FIM_MNT_NO) << 1;
}

/* Judges a mount by the place where it appears, with type and source of the mount that does. */
static __always_inline int fim_op_judge_mount(void *ctx, __u32 family, struct fim_inflight *op,
					      struct path *place, struct mount *mount)
{
	struct fim_object object = {
		.dentry = BPF_CORE_READ(place, dentry),
		.mount = fim_path_mount(place),
		.name = BPF_CORE_READ(mount, mnt.mnt_sb, s_type, name),
		.source = fim_mount_source(mount),
	};

	return fim_op_record(op, family) ? fim_op_judge(ctx, family, op, &object) : 0;
}

/* security_move_mount(struct path *from_path, struct path *to_path) */
static __always_inline int move_mount_resolve(void *ctx, __u32 family)
{
	struct fim_inflight *op = fim_op_lookup_entered(FIM_MOUNT);
	struct mount *mount;
	struct mnt_namespace *ns;

	if (!op || (op->point != FIM_AT_MOVE_MOUNT && op->point != FIM_AT_MOVE_MOUNT32))
		return 0;
	mount = fim_path_mount((void *)fim_arg(ctx, family, 0));
	ns = BPF_CORE_READ(mount, mnt_ns);
	op->flags = fim_mount_flags(mount);
	if (ns && !fim_is_anonymous(ns))
		op->flags |= MS_MOVE;
	return fim_op_judge_mount(ctx, family, op, (void *)fim_arg(ctx, family, 1), mount);
}

/* security_sb_pivotroot(struct path *old_path, struct path *new_path): the old root appears at old_path */
static __always_inline int pivot_root_resolve(void *ctx, __u32 family)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct fim_inflight *op = fim_op_lookup_entered(FIM_MOUNT);
	struct mount *mount;

	if (!op || (op->point != FIM_AT_PIVOT_ROOT && op->point != FIM_AT_PIVOT_ROOT32))
		return 0;
	mount = fim_real_mount(BPF_CORE_READ(task, fs, root.mnt));
	op->flags = fim_mount_flags(mount) | MS_MOVE;
	return fim_op_judge_mount(ctx, family, op, (void *)fim_arg(ctx, family, 0), mount);
}

/* Returns the attributes to set: the fourth argument, in the registers that the function is given. */
static __always_inline __u64 fim_attribute_flags(struct pt_regs *regs, int compat)
{
	__u64 attributes = 0, address;

#if defined(__TARGET_ARCH_x86) || defined(__x86_64__)
	address = compat ? (__u32)BPF_CORE_READ(regs, si) : BPF_CORE_READ(regs, r10);
#else
	address = BPF_CORE_READ((struct user_pt_regs *)regs, regs[3]);
#endif
	bpf_probe_read_user(&attributes, sizeof(attributes), (void *)address);
	return attributes & FIM_MOUNT_ATTRS;
}

/* mount_setattr(2): the object is known by the caller's text alone */
static __always_inline int fim_setattr_enter(void *ctx, __u32 family, __u32 point, int compat)
{
	struct fim_inflight *op;

	if (!fim_op_enter(fim_frame(ctx, family), point, FIM_MOUNT))
		return 0;
	op = fim_op_lookup();
	if (op)
		op->flags =
			MS_REMOUNT | MS_BIND | fim_attribute_flags((void *)fim_arg(ctx, family, 0), compat);
	return 0;
}

static __always_inline int mount_setattr_enter(void *ctx, __u32 family)
{
	return fim_setattr_enter(ctx, family, FIM_AT_MOUNT_SETATTR, 0);
}

static __always_inline int mount_setattr32_enter(void *ctx, __u32 family)
{
	return fim_setattr_enter(ctx, family, FIM_AT_MOUNT_SETATTR32, 1);
}

/* Whether open_tree_attr(2) changes a mount, and not only a copy (OPEN_TREE_CLONE, OPEN_TREE_NAMESPACE). */
static __always_inline int fim_is_setting_mount(__u64 flags, __u64 attributes)
{
	return attributes && !(flags & 3);
}

/* open_tree_attr(2), from 6.15: the arguments of mount_setattr(2) */
static __always_inline int fim_open_tree_enter(void *ctx, __u32 family, __u32 point, int compat)
{
	struct pt_regs *regs = (void *)fim_arg(ctx, family, 0);
	__u64 flags, attributes;

#if defined(__TARGET_ARCH_x86) || defined(__x86_64__)
	flags = BPF_CORE_READ(regs, dx);
	attributes = compat ? (__u32)BPF_CORE_READ(regs, si) : BPF_CORE_READ(regs, r10);
#else
	flags = BPF_CORE_READ((struct user_pt_regs *)regs, regs[2]);
	attributes = BPF_CORE_READ((struct user_pt_regs *)regs, regs[3]);
#endif
	if (!fim_is_setting_mount(flags, attributes))
		return 0;
	return fim_setattr_enter(ctx, family, point, compat);
}

static __always_inline int open_tree_attr_enter(void *ctx, __u32 family)
{
	return fim_open_tree_enter(ctx, family, FIM_AT_OPEN_TREE_ATTR, 0);
}

static __always_inline int open_tree_attr32_enter(void *ctx, __u32 family)
{
	return fim_open_tree_enter(ctx, family, FIM_AT_OPEN_TREE_ATTR32, 1);
}
FIM_EXIT(open_tree_attr, FIM_AT_OPEN_TREE_ATTR)
FIM_EXIT(open_tree_attr32, FIM_AT_OPEN_TREE_ATTR32)
FIM_EXIT(mount_setattr, FIM_AT_MOUNT_SETATTR)
FIM_EXIT(mount_setattr32, FIM_AT_MOUNT_SETATTR32)

/* reconfigure_super(struct fs_context *fc): a remount by fspick(2) and fsconfig(2), which names no mount */
static __always_inline int reconfigure_enter(void *ctx, __u32 family)
{
	struct fs_context *fc = (void *)fim_arg(ctx, family, 0);
	struct fim_object object = {};
	struct fim_inflight *op;
	struct dentry *dentry;

	if (!fim_op_enter(fim_frame(ctx, family), FIM_AT_RECONFIGURE, FIM_MOUNT))
		return 0;
	op = fim_op_lookup();
	if (!op)
		return 0;
	op->flags = MS_REMOUNT | (BPF_CORE_READ(fc, sb_flags) & FIM_SB_FLAGS);
	if (!fim_op_record(op, family))
		return 0;
	dentry = BPF_CORE_READ(fc, root);
	object.dentry = dentry;
	object.mount = fim_any_mount(BPF_CORE_READ(dentry, d_sb));
	object.name = BPF_CORE_READ(fc, fs_type, name);
	object.source = BPF_CORE_READ(fc, source);
	return fim_op_judge(ctx, family, op, &object);
}
FIM_SHORT_EXIT(reconfigure, FIM_AT_RECONFIGURE)

/* cleanup_mnt(struct mount *mnt): another mount may get its id */
static __always_inline int unmounted_once(void *ctx, __u32 family)
{
	fim_bump_generation();
	return 0;
}

#endif /* FIM_MOUNTS_H */
