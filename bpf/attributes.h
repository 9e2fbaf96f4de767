/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Operations on an object: truncate, chmod, chown, utimes, extended attributes.
 * The functions that take the object serve calls by name and by descriptor
 * alike, so one program enters and resolves, and a refusal by the file's
 * permissions is reported with its path. A call by name enters the function
 * that looks the name up before: a refusal there is reported by the caller's
 * text, and one by a read-only mount by the object that the lookup found.
 */
#ifndef FIM_ATTRIBUTES_H
#define FIM_ATTRIBUTES_H

#include "kernel.h"
#include "event.h"
#include "drift.h"
#include "slot.h"
#include "scope.h"
#include "path.h"
#include "base.h"
#include "context.h"
#include "operation.h"
#include "resolve.h"
#include "judge.h"
#include "returns.h"
#include "names.h"
#include "open.h"

/* 1: the function at FIM_AT_FTRUNCATE takes a descriptor, not a file. */
const volatile __u8 fim_ftruncate_by_fd = 0;

/* 1: the hook at which its object is known takes a file, not a path. */
const volatile __u8 fim_ftruncate_of_file = 0;

/* Calls by name, which are entered before their object is known. */
#define FIM_BY_PATH_POINTS                                                                                   \
	(1ULL << FIM_AT_TRUNCATE_PATH | 1ULL << FIM_AT_CHMOD_PATH | 1ULL << FIM_AT_CHOWN_PATH |              \
	 1ULL << FIM_AT_UTIMES_PATH | 1ULL << FIM_AT_SETXATTR_PATH | 1ULL << FIM_AT_REMOVEXATTR_PATH |       \
	 1ULL << FIM_AT_CHATTR_PATH)

/* Calls whose name is kept beside those: the old name of a link, and a mount of which no object is known. */
#define FIM_NAME_KEPT (1ULL << FIM_AT_LINK | FIM_AT_SETATTRS)

static __always_inline int fim_is_among(__u32 point, __u64 points)
{
	return points >> (point & (FIM_POINTS - 1)) & 1;
}

/*
 * filename_lookup(int dfd, struct filename *name, flags, struct path *path, ..): the name of an object
 * that is not opened, created, moved or removed; before 5.15 the old name of
 * a link too.
 */
static __always_inline int lookup_given(void *ctx, __u32 family)
{
	struct fim_inflight *op = fim_op_lookup();
	__u64 out;

	if (!op || op->nested)
		return 0;
	out = fim_arg(ctx, family, 3);
	if (fim_found_is_expected(op, 0, out))
		fim_op_again(op, fim_frame(ctx, family));
	if (op->state != FIM_ENTERED)
		return 0;
	if (fim_is_among(op->point, 1ULL << FIM_AT_LINK | FIM_BY_PATH_POINTS))
		fim_found_expect(op, 0, out);
	if (op->quiet || op->keeps)
		return 0;
	if (fim_is_among(op->point, FIM_NAME_KEPT | FIM_BY_PATH_POINTS))
		fim_op_add_name(op, family, 0, (void *)fim_arg(ctx, family, 1), fim_arg(ctx, family, 0));
	return 0;
}

/* Returns the operation that a call by name began further up the stack, if this is part of one. */
static __always_inline struct fim_inflight *fim_op_lookup_by_name(__u64 frame, __u32 type)
{
	struct fim_inflight *op = fim_op_lookup();

	if (!op || op->type != type || frame >= op->frame || !fim_is_among(op->point, FIM_BY_PATH_POINTS))
		return NULL;
	return op;
}

/*
 * Whether a call by name is over whose object was seen, and whose return was not. A call by descriptor that
 * follows has the path of a file, and not the one that the lookup of the name filled in. `path` is NULL
 * where the kernel passes on the dentry alone.
 */
static __always_inline int fim_is_left(struct fim_inflight *op, struct path *path, struct dentry *dentry)
{
	struct path *out = fim_found_of(op, 0)->out;

	if (op->nested || op->state == FIM_ENTERED || !out)
		return 0;
	return path ? path != out : BPF_CORE_READ(out, dentry) != dentry;
}

/* Enters an operation, or goes on with that of a call by name, and starts its record. NULL: no record. */
static __always_inline struct fim_inflight *fim_op_enter_object(void *ctx, __u32 family, __u32 point,
								__u32 type, __u32 flags, __u32 mode,
								struct path *path, struct dentry *dentry)
{
	__u64 frame = fim_frame(ctx, family);
	struct fim_inflight *op = fim_op_lookup_by_name(frame, type);

	if (op && !fim_is_left(op, path, dentry)) {
		if (op->nested || op->state != FIM_ENTERED)
			return NULL;
	} else {
		if (!fim_op_enter(frame, point, type))
			return NULL;
		op = fim_op_lookup();
		if (!op)
			return NULL;
	}
	op->flags = flags;
	op->mode = mode;
	return fim_op_record(op, family) ? op : NULL;
}

static __always_inline int fim_op_judge_path(void *ctx, __u32 family, struct fim_inflight *op,
					     struct path *path)
{
	struct fim_object object = {
		.dentry = BPF_CORE_READ(path, dentry),
		.mount = fim_path_mount(path),
	};

	return fim_op_judge(ctx, family, op, &object);
}

/* A point whose function takes a path first; besides it, only a mode is reported. */
#define FIM_PATH_POINT(name, point, type, mode)                                                              \
	static __always_inline int name##_enter(void *ctx, __u32 family)                                     \
	{                                                                                                    \
		struct path *path = (void *)fim_arg(ctx, family, 0);                                         \
		struct fim_inflight *op =                                                                    \
			fim_op_enter_object(ctx, family, point, type, 0, mode, path, NULL);                  \
                                                                                                             \
		if (op)                                                                                      \
			fim_op_judge_path(ctx, family, op, path);                                            \
		return 0;                                                                                    \
	}                                                                                                    \
	FIM_SHORT_EXIT(name, point)

/* vfs_truncate(struct path *path, loff_t length) */
FIM_PATH_POINT(truncate, FIM_AT_TRUNCATE, FIM_TRUNCATE, 0)

/* chmod_common(struct path *path, umode_t mode) */
FIM_PATH_POINT(chmod, FIM_AT_CHMOD, FIM_CHMOD, fim_arg(ctx, family, 1) & 07777)

/* vfs_utimes(struct path *path, struct timespec64 *times) */
FIM_PATH_POINT(utimes, FIM_AT_UTIMES, FIM_UTIMES, 0)

/* truncate(2) itself: on 5.10 the compiler inlined the function that it calls */
FIM_PLAIN_POINT(truncate_path, FIM_AT_TRUNCATE_PATH, FIM_TRUNCATE)

/* do_utimes(int dfd, const char *filename, ..) */
FIM_PLAIN_POINT(utimes_path, FIM_AT_UTIMES_PATH, FIM_UTIMES)

/* path_setxattr(..), path_removexattr(..), since 6.13 path_setxattrat(..), path_removexattrat(..) */
FIM_PLAIN_POINT(setxattr_path, FIM_AT_SETXATTR_PATH, FIM_SETXATTR)
FIM_PLAIN_POINT(removexattr_path, FIM_AT_REMOVEXATTR_PATH, FIM_REMOVEXATTR)

/* do_fchmodat(int dfd, const char *filename, umode_t mode, ..) */
static __always_inline int chmod_path_enter(void *ctx, __u32 family)
{
	struct fim_inflight *op;

	if (!fim_op_enter(fim_frame(ctx, family), FIM_AT_CHMOD_PATH, FIM_CHMOD))
		return 0;
	op = fim_op_lookup();
	if (op)
		op->mode = fim_arg(ctx, family, 2) & 07777;
	return 0;
}
FIM_EXIT(chmod_path, FIM_AT_CHMOD_PATH)

/* do_fchownat(int dfd, const char *filename, uid_t user, gid_t group, ..) */
static __always_inline int chown_path_enter(void *ctx, __u32 family)
{
	struct fim_inflight *op;

	if (!fim_op_enter(fim_frame(ctx, family), FIM_AT_CHOWN_PATH, FIM_CHOWN))
		return 0;
	op = fim_op_lookup();
	if (!op)
		return 0;
	op->new_uid = fim_arg(ctx, family, 2);
	op->new_gid = fim_arg(ctx, family, 3);
	return 0;
}
FIM_EXIT(chown_path, FIM_AT_CHOWN_PATH)

/* chown_common(struct path *path, uid_t user, gid_t group) */
static __always_inline int chown_enter(void *ctx, __u32 family)
{
	struct path *path = (void *)fim_arg(ctx, family, 0);
	struct fim_inflight *op = fim_op_enter_object(ctx, family, FIM_AT_CHOWN, FIM_CHOWN, 0, 0, path, NULL);
	struct fim_slot *slot;

	if (!op)
		return 0;
	slot = fim_slot_lookup(op->slot);
	if (!slot)
		return 0;
	slot->event.new_uid = fim_arg(ctx, family, 1);
	slot->event.new_gid = fim_arg(ctx, family, 2);
	return fim_op_judge_path(ctx, family, op, path);
}
FIM_SHORT_EXIT(chown, FIM_AT_CHOWN)

/* do_ftruncate(struct file *file, ..), before 6.9 do_sys_ftruncate(fd, ..) */
static __always_inline int ftruncate_enter(void *ctx, __u32 family)
{
	__u64 first = fim_arg(ctx, family, 0);
	struct fim_inflight *op;
	struct path *path;

	if (fim_ftruncate_by_fd) {
		path = fim_fd_path(first); /* another thread may open it yet, before the kernel looks */
		if (!fim_op_enter(fim_frame(ctx, family), FIM_AT_FTRUNCATE, FIM_TRUNCATE))
			return 0;
		op = fim_op_lookup();
		if (op && path)
			fim_op_reach(op, path);
		return 0;
	}
	path = (void *)first + bpf_core_field_offset(struct file, f_path);
	op = fim_op_enter_object(ctx, family, FIM_AT_FTRUNCATE, FIM_TRUNCATE, 0, 0, path, NULL);
	return op ? fim_op_judge_path(ctx, family, op, path) : 0;
}

/*
 * security_file_truncate(struct file *file), before 6.2 security_path_truncate(struct path *path): another
 * thread may have closed the descriptor since the entry, and opened another file in its place.
 */
static __always_inline int ftruncate_resolve(void *ctx, __u32 family)
{
	struct fim_inflight *op = fim_op_lookup_entered(FIM_TRUNCATE);
	void *object = (void *)fim_arg(ctx, family, 0);

	if (!op || op->point != FIM_AT_FTRUNCATE || !fim_op_record(op, family))
		return 0;
	if (fim_ftruncate_of_file)
		object += bpf_core_field_offset(struct file, f_path);
	return fim_op_judge_path(ctx, family, op, object);
}

/* What was refused before that hook is judged by the descriptor at the entry. */
static __always_inline int ftruncate_exit(void *ctx, __u32 family)
{
	struct fim_inflight *op = fim_op_lookup_returning(FIM_AT_FTRUNCATE);
	__s32 ret = fim_ret(ctx, family, FIM_AT_FTRUNCATE);

	if (!op)
		return 0;
	if (FIM_TAILS(family))
		return fim_op_hand_over(ctx, family, op, ret);
	fim_op_refuse_reached(op, family, ret);
	return fim_op_finish(ctx, op, ret);
}

/* --- extended attributes -------------------------------------------------- */

#define FIM_WRITERS	65536 /* a power of two */
#define FIM_MOUNT_ALIGN 64    /* of a struct mount: the kernel aligns them to cache lines */

/*
 * Mounts that threads asked to write to, until they have done so: the address of
 * a struct mount, and in its lowest bits the upper ones of the thread. Each is
 * one word, which two threads with the same place cannot mix.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FIM_WRITERS);
	__type(key, __u32); /* lower bits of the thread, plus a secret of its upper ones */
	__type(value, __u64);
} writing SEC(".maps");

/*
 * Without the secret a user could start a thread that has the place of another's,
 * and replace what that one noted. Place and upper bits give the thread.
 */
static __always_inline __u64 *fim_writing_lookup(__u32 tid)
{
	__u32 place = (tid + fim_mix(fim_account_seed, tid / FIM_WRITERS)) & (FIM_WRITERS - 1);

	return bpf_map_lookup_elem(&writing, &place);
}

/*
 * The functions below take a dentry and no mount. But every system call asks to
 * write to the mount first, in the same thread. If another thread took the place
 * meanwhile, fim_xattr_lost() counts the event.
 */
static __always_inline int fim_note_mount(struct vfsmount *mnt)
{
	__u64 mount = (__u64)fim_real_mount(mnt);
	__u32 tid = bpf_get_current_pid_tgid();
	__u64 *place = fim_writing_lookup(tid);
	__u64 upper = tid / FIM_WRITERS;

	if (!place)
		return 0;
	if (mount % FIM_MOUNT_ALIGN || upper >= FIM_MOUNT_ALIGN)
		mount = upper = 0; /* no kernel has these: pid_max is below 1 << 22 */
	*(volatile __u64 *)place = mount | upper;
	return 0;
}

/* Whether a mount refuses changes. */
static __always_inline int fim_is_read_only(struct vfsmount *mnt)
{
	return (BPF_CORE_READ(mnt, mnt_flags) & MNT_READONLY) ||
	       (BPF_CORE_READ(mnt, mnt_sb, s_flags) & MS_RDONLY);
}

/* mnt_want_write(struct vfsmount *mnt) */
static __always_inline int want_write_given(void *ctx, __u32 family)
{
	struct vfsmount *mnt = fim_arg_object(ctx, family, 0);
	struct fim_inflight *op = fim_op_lookup();

	if (op && !op->nested && fim_is_among_names(op->type))
		fim_op_ask(op, fim_frame(ctx, family));
	if (op && op->state != FIM_ENTERED && op->point == FIM_AT_OPEN && !op->nested)
		fim_open_look_again(op, mnt, fim_frame(ctx, family));
	if (op && op->state == FIM_ENTERED && !op->nested && !op->quiet) {
		if (op->point == FIM_AT_OPEN)
			fim_open_note_place(op);
		else if (fim_is_among(op->point, FIM_WRITES_FIRST) && fim_is_read_only(mnt))
			fim_found_note(op, 0);
	}
	return fim_note_mount(mnt);
}

static __always_inline struct mount *fim_noted_mount(void)
{
	__u32 tid = bpf_get_current_pid_tgid();
	__u64 *place = fim_writing_lookup(tid);
	__u64 noted = place ? *(volatile __u64 *)place : 0;

	if (!noted || noted % FIM_MOUNT_ALIGN != tid / FIM_WRITERS)
		return NULL;
	return (void *)(noted - noted % FIM_MOUNT_ALIGN);
}

/*
 * The thread writes to the mount no more. A note that stayed would name the mount
 * of a change that another operation makes later, such as the attributes that
 * overlayfs sets while an open copies a file up: from 6.7 it asks no mount before.
 */
static __always_inline int fim_forget_mount(void)
{
	__u64 *place = fim_writing_lookup(bpf_get_current_pid_tgid());

	if (place && fim_noted_mount())
		*(volatile __u64 *)place = 0;
	return 0;
}

/* mnt_drop_write(struct vfsmount *mnt) */
static __always_inline int drop_write_given(void *ctx, __u32 family)
{
	return fim_forget_mount();
}

/* mnt_drop_write_file(struct file *file) */
static __always_inline int drop_write_file_given(void *ctx, __u32 family)
{
	return fim_forget_mount();
}

/*
 * Whether a file system below another is asked, by the one above: overlayfs works
 * with the credentials of whoever mounted it. io_uring may lend credentials to its
 * workers, too, for calls that are events.
 */
static __always_inline int fim_is_below_another(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();

	return BPF_CORE_READ(task, cred) != BPF_CORE_READ(task, real_cred) && !fim_is_worker();
}

/*
 * Counts a change whose mount is not known: the hook that notes it was skipped,
 * or the map had no room. What a file system does below another is no event. If
 * an operation above is followed, it is past its entry already; none is followed
 * of a type that no rule wants. One that began by name may yet be refused, and be
 * reported by its text: its return decides.
 */
static __always_inline void fim_xattr_lost(__u32 type)
{
	struct fim_inflight *op = fim_op_lookup();

	if (!op && fim_is_in_scope() && !fim_is_below_another())
		fim_lose(type, unentered);
	else if (op && op->type == type && op->state == FIM_ENTERED && !op->nested)
		op->lacks |= FIM_LACKS_MOUNT;
}

/*
 * If this is a call by overlayfs below an operation that was entered at the same
 * function, its return is not that of the operation.
 */
static __always_inline int fim_op_below(void *ctx, __u32 family, __u32 point)
{
	struct fim_inflight *op = fim_op_lookup();

	if (op && op->point == point && fim_frame(ctx, family) < op->frame)
		__sync_fetch_and_add(&op->nested, 1);
	return 0;
}

/* A function that takes a dentry, of which the mount was noted before. */
static __always_inline int fim_op_enter_noted(void *ctx, __u32 family, __u32 point, __u32 type, __u32 flags,
					      const char *name)
{
	struct dentry *dentry = (void *)fim_arg_after_idmap(ctx, family, 0);
	struct mount *mount = fim_noted_mount();
	struct fim_object object = { .dentry = dentry, .mount = mount, .name = name };
	struct fim_inflight *op;

	if (mount && fim_is_internal(mount))
		return fim_op_below(ctx, family, point);
	if (!mount || BPF_CORE_READ(mount, mnt.mnt_sb) != BPF_CORE_READ(dentry, d_sb)) {
		fim_xattr_lost(type);
		return fim_op_below(ctx, family, point);
	}
	op = fim_op_enter_object(ctx, family, point, type, flags, 0, NULL, dentry);
	return op ? fim_op_judge(ctx, family, op, &object) : 0;
}

/* vfs_*(.., struct dentry *dentry, const char *name, ..); `flags` is the place of an argument, or 0 */
static __always_inline int fim_xattr_enter(void *ctx, __u32 family, __u32 point, __u32 type, int flags)
{
	return fim_op_enter_noted(ctx, family, point, type,
				  flags ? fim_arg_after_idmap(ctx, family, flags) : 0,
				  (void *)fim_arg_after_idmap(ctx, family, 1));
}

#define FIM_XATTR_POINT(name, point, type, flags)                                                            \
	static __always_inline int name##_enter(void *ctx, __u32 family)                                     \
	{                                                                                                    \
		return fim_xattr_enter(ctx, family, point, type, flags);                                     \
	}                                                                                                    \
	FIM_SHORT_EXIT(name, point)

/* vfs_setxattr([idmap,] dentry, name, value, size, flags) */
FIM_XATTR_POINT(setxattr, FIM_AT_SETXATTR, FIM_SETXATTR, 4)

/* vfs_removexattr([idmap,] dentry, name) */
FIM_XATTR_POINT(removexattr, FIM_AT_REMOVEXATTR, FIM_REMOVEXATTR, 0)

/* vfs_set_acl(idmap, dentry, acl_name, ..): ACLs from 6.2 on */
FIM_XATTR_POINT(set_acl, FIM_AT_SET_ACL, FIM_SETXATTR, 0)

/* vfs_remove_acl(idmap, dentry, acl_name) */
FIM_XATTR_POINT(remove_acl, FIM_AT_REMOVE_ACL, FIM_REMOVEXATTR, 0)

#endif /* FIM_ATTRIBUTES_H */
