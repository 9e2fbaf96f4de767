/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Operations in flight, by thread: what the programs of one operation hand to the next. */
#ifndef FIM_INFLIGHT_H
#define FIM_INFLIGHT_H

#include "kernel.h"
#include "event.h"
#include "cpus.h"

/* Functions that are entered and left; agent/hooks/points.py has the same order. */
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
	FIM_AT_EXEC_OPEN,
	FIM_AT_MOVE_MOUNT32,
	FIM_AT_MOUNT_SETATTR,
	FIM_AT_MOUNT_SETATTR32,
	FIM_AT_PIVOT_ROOT,
	FIM_AT_PIVOT_ROOT32,
	FIM_AT_RECONFIGURE,
	FIM_AT_CHATTR,
	FIM_AT_CHATTR_PATH,
	FIM_AT_IOCTL,
	FIM_AT_IOCTL32,
	FIM_AT_BIND,
	FIM_AT_PARENT,
	FIM_AT_OPEN_TREE_ATTR,
	FIM_AT_OPEN_TREE_ATTR32,
	FIM_AT_WANT_WRITE_FILE,
	FIM_POINTS = 64,
};

#define FIM_AT_SYSCALL (FIM_POINTS - 1) /* any of agent/hooks/syscalls.py */

/* Calls that are reported by the caller's text even if they succeed: no program sees their object. */
#define FIM_AT_SETATTRS                                                                                      \
	(1ULL << FIM_AT_MOUNT_SETATTR | 1ULL << FIM_AT_MOUNT_SETATTR32 | 1ULL << FIM_AT_OPEN_TREE_ATTR |     \
	 1ULL << FIM_AT_OPEN_TREE_ATTR32)

/* Operations that are followed out of scope too, because they make discarders stale. */
#define FIM_INVALIDATES                                                                                      \
	(1U << FIM_UNLINK | 1U << FIM_RMDIR | 1U << FIM_RENAME | 1U << FIM_LINK | 1U << FIM_MOUNT |          \
	 1U << FIM_UMOUNT)

/* The points at which those begin and return. */
#define FIM_INVALIDATING_POINTS                                                                              \
	(1ULL << FIM_AT_UNLINK | 1ULL << FIM_AT_RMDIR | 1ULL << FIM_AT_RENAME | 1ULL << FIM_AT_LINK |        \
	 1ULL << FIM_AT_MOUNT | 1ULL << FIM_AT_UMOUNT | 1ULL << FIM_AT_MOVE_MOUNT |                          \
	 1ULL << FIM_AT_MOVE_MOUNT32 | 1ULL << FIM_AT_PIVOT_ROOT | 1ULL << FIM_AT_PIVOT_ROOT32)

#define FIM_NAMES                                                                                            \
	(1U << FIM_UNLINK | 1U << FIM_RMDIR | 1U << FIM_MKDIR | 1U << FIM_RENAME | 1U << FIM_LINK |          \
	 1U << FIM_SYMLINK | 1U << FIM_MKNOD)

/* Whether operations of this type are on names. */
static __always_inline int fim_is_among_names(__u32 type)
{
	return FIM_NAMES >> (type & 31) & 1;
}

/*
 * Calls by name that ask to write to the mount before they call the function that takes the object: a
 * read-only mount refuses them in between, when the object is found already.
 */
#define FIM_WRITES_FIRST                                                                                     \
	(1ULL << FIM_AT_CHOWN_PATH | 1ULL << FIM_AT_SETXATTR_PATH | 1ULL << FIM_AT_REMOVEXATTR_PATH)

enum fim_state {
	FIM_ENTERED, /* the object is not known */
	FIM_SEEN,    /* the event is counted, and no record waits */
	FIM_PENDING, /* a record waits for the return value */
};

/* Why an operation may end without the record that it should have had. */
enum fim_lack {
	FIM_LACKS_ROOM = 1 << 0,  /* for its name: no free slot, or its user keeps too much */
	FIM_LACKS_MOUNT = 1 << 1, /* its object is known, the mount is not */
};

struct fim_charge {
	__u32 account;
	__u32 charged; /* 1: the account counts this operation */
};

struct fim_inflight {
	__u64 frame;		   /* address on the stack at entry */
	struct filename *filename; /* open: the kernel's copy of the name */
	void *lookup;		   /* open: the kernel's state of the lookup, on its stack */
	const char *text;	   /* open that may create or truncate: that name; ioctl: its argument */
	struct dentry *created;	   /* will get an inode, or NULL */
	struct dentry *reached;	   /* open, exec, ftruncate: was found, and may be refused yet; or NULL */
	struct mount *reached_on;  /* its mount */
	struct inode *inode;	   /* of what was reached */
	struct dentry *parent;	   /* directory of what is created or was reached */
	__u64 name_hash;	   /* hash and length of its name */
	__u64 asks;		   /* names: frame at which it asks to write to the mount */
	__u32 new_uid;		   /* chown: as asked for */
	__u32 new_gid;
	__u32 slot;  /* index while a program runs, else FIM_NO_SLOT */
	__u32 keeps; /* enum fim_keeping: its names, and once it is pending its record */
	struct fim_charge charge;
	__u32 point;  /* enum fim_point */
	__u32 type;   /* enum fim_type */
	__u32 state;  /* enum fim_state */
	__u32 quiet;  /* 1: out of scope, only invalidates discarders */
	__u32 lacks;  /* enum fim_lack */
	__u32 nested; /* operations that began inside this one */
	__u32 flags;  /* as asked for */
	__u32 mode;
	__u32 names;	      /* index of the caller's next text */
	__s32 dfd[FIM_FILES]; /* base directories of those texts */
	__u32 bumps;	      /* epochs to advance again at the return */
	__u32 bump[FIM_FILES];
	__u32 moves; /* 1: advance the generation at the return: a directory or a mount moves */
	__s32 ret;   /* return value, for the program at the end of a tail call or when a signal is handled */
	__u32 interrupted; /* 1: the handling of a signal decides whether the call starts again */
	__u32 asked;	   /* flags of an open as its caller wrote them */
	__u32 family;	   /* enum fim_family, of the program that copied its names */
	__u16 placed;	   /* mask of the names in this thread's place in keep.h */
	__u16 beside;	   /* open: 1: the directory of the name was reached, not the object */
	__u32 owns;	   /* 1: no other operation uses that place */
	__u32 owner;	   /* of the place: the thread id inverted, or 0 */
	__u32 index;	   /* in `operations` */
	__u32 call;	   /* mount: the system call of the thread, caller.h */
};

/*
 * Each thread id has a place in `operations`, modulo FIM_BUSY. A thread that finds
 * no other operation there begins its own in that place, and owns it until it
 * ends. Any other thread takes one of the FIM_OPERATIONS that follow, which
 * `inflight` finds.
 */
#define FIM_BUSY  1024 /* a power of two */
#define FIM_NO_OP 0xffffffffU

/*
 * Only processors that show stores in their order may pass a place on: the owner
 * takes its id away before it takes itself off the count. (Atomic operations of
 * programs order nothing before 5.12.)
 */
#if defined(__TARGET_ARCH_x86) || defined(__x86_64__)
#define FIM_OWNS_PLACES 1
#else
#define FIM_OWNS_PLACES 0
#endif

/* Where a name of the operation lies: found.h. */
struct fim_found {
	struct path *out;      /* where the kernel puts what it finds: on the stack of the call */
	struct dentry *dentry; /* what it found, or NULL */
	struct mount *mount;
	struct inode *inode;
	struct dentry *parent;
	__u64 name_hash;
};

struct fim_operation {
	struct fim_inflight op; /* first: programs have its address */
	struct fim_found found[FIM_FILES];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FIM_BUSY + FIM_OPERATIONS);
	__type(key, __u32);
	__type(value, struct fim_operation);
} operations SEC(".maps");

/* Indexes of unused operations that are no thread's place; the loader fills it. */
struct {
	__uint(type, BPF_MAP_TYPE_STACK);
	__uint(max_entries, FIM_OPERATIONS);
	__uint(value_size, sizeof(__u32));
} free_operations SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, FIM_OPERATIONS);
	__type(key, __u32);   /* thread */
	__type(value, __u32); /* index in `operations` */
} inflight SEC(".maps");

/*
 * How many operations there are of the threads that share a place. Most threads
 * have none, and this shows it at the least cost. A count may be too large, which
 * costs time; it is never too small.
 */
FIM_CELLS(busy, __u32, FIM_BUSY); /* of a thread, modulo FIM_BUSY */

static __always_inline __u32 *fim_busy_lookup(__u32 tid)
{
	return fim_cell(busy, tid, FIM_BUSY);
}

static __always_inline struct fim_inflight *fim_op_at(__u32 index)
{
	return bpf_map_lookup_elem(&operations, &index);
}

static __always_inline __u32 __fim_op_index(void)
{
	__u32 tid = bpf_get_current_pid_tgid();
	__u32 *count = fim_busy_lookup(tid), *found;
	struct fim_inflight *op;

	if (!count || !*(volatile __u32 *)count)
		return FIM_NO_OP;
	op = fim_op_at(tid & (FIM_BUSY - 1));
	if (op && op->owner == ~tid)
		return tid & (FIM_BUSY - 1);
	found = bpf_map_lookup_elem(&inflight, &tid);
	return found ? *found : FIM_NO_OP;
}

/* Returns the index of the current thread's operation, or FIM_NO_OP. */
__noinline __u32 fim_op_index(void)
{
	return __fim_op_index();
}

/*
 * For programs at returns: they jump to another one, and before 6.0 arm64 does not
 * allow that beside a function of their own.
 */
static __always_inline struct fim_inflight *fim_op_lookup_inline(void)
{
#if defined(__TARGET_ARCH_arm64)
	return fim_op_at(__fim_op_index());
#else
	return fim_op_at(fim_op_index());
#endif
}

/* Returns the index of an operation for the current thread, which has none, or FIM_NO_OP. */
static __always_inline __u32 fim_op_claim(__u32 tid, int owns)
{
	__u32 index = FIM_NO_OP;

	if (owns)
		return tid & (FIM_BUSY - 1);
	if (bpf_map_pop_elem(&free_operations, &index))
		return FIM_NO_OP;
	if (!(int)bpf_map_update_elem(&inflight, &tid, &index, BPF_ANY))
		return index;
	bpf_map_push_elem(&free_operations, &index, BPF_ANY);
	return FIM_NO_OP;
}

/*
 * Begins the operation of the current thread, which has none, and clears it. Returns NULL
 * if there is no room. Of the threads that share a place at most one owns it: each counts
 * itself before it looks, and one that sees another does not own it.
 */
static __always_inline struct fim_inflight *fim_op_insert(void)
{
	__u32 tid = bpf_get_current_pid_tgid();
	__u32 *count = fim_busy_lookup(tid);
	struct fim_operation *place;
	__u32 index, owns;

	if (!count)
		return NULL;
	__sync_fetch_and_add(count, 1);
	owns = FIM_OWNS_PLACES && *(volatile __u32 *)count == 1;
	index = fim_op_claim(tid, owns);
	place = (void *)fim_op_at(index);
	if (!place) {
		__sync_fetch_and_add(count, -1);
		return NULL;
	}
	__builtin_memset(&place->op, 0, sizeof(place->op));
	place->op.owns = owns;
	place->op.owner = owns ? ~tid : 0;
	place->op.index = index;
	/* Another thread's would be an address on its stack: a lookup that was not followed notes none. */
	place->found[0].out = NULL;
	place->found[0].dentry = NULL;
	place->found[1].out = NULL;
	place->found[1].dentry = NULL;
	return &place->op;
}

/* Ends the operation of the current thread. */
static __always_inline void fim_op_delete(struct fim_inflight *op)
{
	__u32 tid = bpf_get_current_pid_tgid();
	__u32 *count = fim_busy_lookup(tid);
	__u32 index = op->index;

	if (op->owns)
		*(volatile __u32 *)&op->owner = 0;
	else if ((int)bpf_map_delete_elem(&inflight, &tid))
		return;
	else
		bpf_map_push_elem(&free_operations, &index, BPF_ANY);
	if (count)
		__sync_fetch_and_add(count, -1);
}

FIM_ONCE struct fim_inflight *fim_op_lookup(void)
{
	return fim_op_lookup_inline();
}

#endif /* FIM_INFLIGHT_H */
