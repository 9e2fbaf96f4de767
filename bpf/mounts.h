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

/* move_mount(2): attaches a mount of fsmount(2) or open_tree(2), or moves one */
static __always_inline int move_mount_enter(void *ctx, __u32 family)
{
	fim_op_enter_moving(ctx, family, FIM_AT_MOVE_MOUNT, FIM_MOUNT);
	return 0;
}
FIM_SHORT_EXIT(move_mount, FIM_AT_MOVE_MOUNT)

/* security_move_mount(struct path *from_path, struct path *to_path) */
static __always_inline int move_mount_resolve(void *ctx, __u32 family)
{
	struct fim_inflight *op = fim_op_lookup_entered(FIM_MOUNT);

	if (!op || op->point != FIM_AT_MOVE_MOUNT || !fim_op_record(op, family))
		return 0;
	return fim_op_judge_path(ctx, family, op, (void *)fim_arg(ctx, family, 1));
}

/* cleanup_mnt(struct mount *mnt): another mount may get its id */
static __always_inline int unmounted_once(void *ctx, __u32 family)
{
	fim_bump_generation();
	return 0;
}

#endif /* FIM_MOUNTS_H */
