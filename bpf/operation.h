/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The life of an operation: one request of one thread, from the entry of a
 * kernel function to its return.
 *
 *	                     (none of this thread)
 *	                        |                 ^
 *	                  enter |                 | exit: leave
 *	                        v                 |
 *	                 +-------------+          |
 *	 given: name +-->| FIM_ENTERED |--------->+  no event: not found, malformed
 *	mount, object +--|             |          |
 *	                 +-------------+          |
 *	   resolve: rejected |       | resolve: approved
 *	   or out of scope   |       | exit with a refusal: approved by its object or text
 *	                     v       v            |
 *	          +----------+   +-------------+  |
 *	          | FIM_SEEN |   | FIM_PENDING |--+  the record is sent
 *	          +----------+   +-------------+  |
 *	                     |                    |
 *	                     +--------------------+  counted already
 *
 *	A signal may interrupt a call that sleeps. Whether it then fails with EINTR or
 *	starts again is known when the signal is handled (restart.h), or when the
 *	thread enters the same function again. Until then it stays FIM_PENDING.
 *
 *	abandon: the next enter of the thread, or its end, finds the operation in
 *	any of the three states, because the program at the return did not run.
 *	FIM_PENDING is counted as abandoned, for the event is certain; FIM_ENTERED
 *	as unentered, for it may have been a refusal. Then all is as after leave.
 *
 * Every arrow is a program of its own (hook phases in agent/hooks/points.py).
 * Between two of them the thread
 *
 *	sleeps, is preempted and changes processors: state is found by thread
 *	(inflight.h), and so is a record or a name that is needed later
 *	(keep.h). A thread that sleeps holds no slot, and what it holds is bounded
 *	for each account;
 *
 *	looks the same name up again, because the file system says that what it had
 *	found is stale (ESTALE), and may find another object: fim_op_again() goes back
 *	to FIM_ENTERED, and the last object counts;
 *
 *	works below the request (copying up in overlayfs): that is no other event;
 *
 *	begins another operation: fim_is_nested() lists the cases. `nested` counts
 *	them, and while it is not 0 no hook but exit belongs to the outer one;
 *
 *	loses a program, because the kernel skips one that would recurse: each state
 *	must tolerate that the next transition never happens (fim_is_left()).
 */
#ifndef FIM_OPERATION_H
#define FIM_OPERATION_H

#include "kernel.h"
#include "context.h"
#include "entry.h"
#include "event.h"
#include "inflight.h"
#include "maps.h"
#include "slot.h"
#include "account.h"
#include "keep.h"
#include "cpus.h"
#include "scope.h"
#include "policy.h"
#include "discarders.h"
#include "record.h"

/* Frees the record or the name that the operation keeps. */
static __always_inline void fim_op_forget(struct fim_inflight *op)
{
	__u32 keeps = op->keeps;

	op->keeps = FIM_KEEPS_NOTHING;
	if (keeps == FIM_KEEPS_SMALL || keeps == FIM_KEEPS_LARGE)
		fim_kept_free(keeps, op->charge.account);
}

/* An operation is in flight no more, or never was. */
static __always_inline void fim_op_uncharge(struct fim_charge *charge)
{
	struct fim_account *account = charge->charged ? fim_account_lookup(charge->account) : NULL;
	struct fim_cpu *cpu = fim_cpu_own();

	charge->charged = 0;
	if (account)
		__sync_fetch_and_add(&account->operations, -1);
	if (cpu)
		__sync_fetch_and_add(&cpu->operations, -1);
}

/*
 * Frees what the operation holds. Should the kernel not delete its entry, an
 * operation without slot and record is left, which counts nothing.
 */
static __always_inline void fim_op_free(struct fim_inflight *op)
{
	__u32 slot = op->slot;

	op->slot = FIM_NO_SLOT;
	op->state = FIM_SEEN;
	fim_op_forget(op);
	fim_slot_put(slot);
	fim_op_uncharge(&op->charge);
	fim_op_delete(op);
}

/* Makes discarders stale once more as an operation ends: a path may have been resolved meanwhile. */
static __always_inline void fim_op_invalidate(struct fim_inflight *op)
{
	if (op->bumps > 0)
		fim_bump_epoch(op->bump[0]);
	if (op->bumps > 1)
		fim_bump_epoch(op->bump[1]);
	if (op->moves)
		fim_bump_generation();
}

/* Whether an operation that may have succeeded changed names of which no program saw one. */
static __always_inline int fim_op_changed_unseen(struct fim_inflight *op)
{
	return op->state == FIM_ENTERED && (FIM_INVALIDATES & (1U << (op->type & 31)));
}

/* Ends an operation at its return. */
__noinline int fim_op_leave(void)
{
	struct fim_inflight *op = fim_op_lookup();

	if (!op)
		return 0;
	fim_op_invalidate(op);
	fim_op_free(op);
	return 0;
}

/*
 * Ends an operation whose return was not seen, and counts what is lost by that:
 * a pending record, or what may have been the refusal of an object that was
 * never seen. Inline, because the tracepoint of all system calls has no stack
 * left for another call.
 */
static __always_inline void fim_op_abandon(struct fim_inflight *op)
{
	if (op->state == FIM_PENDING)
		fim_lose(op->type, abandoned);
	else if (op->state == FIM_ENTERED && !op->quiet)
		fim_lose(op->type, unentered);
	if (fim_op_changed_unseen(op))
		fim_bump_generation();
	fim_op_leave();
}

/* Ends the first try of a call that starts again: it is not an event of its own. */
__noinline int fim_op_repeat(void)
{
	struct fim_inflight *op = fim_op_lookup_inline();

	if (!op)
		return 0;
	fim_count_undo(op->type);
	return fim_op_leave();
}

/* --- enter ---------------------------------------------------------------- */

/*
 * Whether an operation begins inside the one in flight: a file system opens
 * its image while it is mounted, a driver its firmware while its device is
 * opened. Any other operation in flight was abandoned. (The frame alone cannot
 * decide: the kernel randomizes where the stack of a system call begins.)
 */
static __always_inline int fim_is_nested(struct fim_inflight *outer, __u32 point, __u64 frame)
{
	/* A call that is reported as a whole is not reported by its parts as well. */
	if (outer->point == FIM_AT_SYSCALL)
		return point != FIM_AT_SYSCALL;
	if (frame >= outer->frame)
		return 0;
	return ((point == FIM_AT_OPEN || point == FIM_AT_RECONFIGURE) && outer->point == FIM_AT_MOUNT) ||
	       (point == FIM_AT_RECONFIGURE && outer->type == FIM_UMOUNT) ||
	       (point == FIM_AT_OPEN_ROOT && outer->type == FIM_OPEN);
}

/*
 * Charges an operation to its user while many are in flight, so that a user
 * whose threads sleep leaves room for those of others. Returns 0 if the user
 * has its share.
 */
static __always_inline int fim_op_admit(struct fim_charge *charge)
{
	struct fim_cpu *cpu = fim_cpu_own();
	struct fim_account *account;

	if (!cpu)
		return 1;
	if (!(cpu->begun & (FIM_CPU_PERIOD - 1)))
		fim_cpus_sum();
	cpu->begun++; /* other programs may count at the same time: that does not matter here */
	__sync_fetch_and_add(&cpu->operations, 1);
	if (!cpu->crowded)
		return 1;
	charge->account = fim_account_find();
	account = fim_account_lookup(charge->account);
	if (!account)
		return 1;
	/* Counted before it is compared: of threads that do this at once none exceeds the limit. */
	__sync_fetch_and_add(&account->operations, 1);
	if (account->operations > FIM_ACCOUNT_OPERATIONS) {
		__sync_fetch_and_add(&account->operations, -1);
		goto refused;
	}
	charge->charged = 1;
	return 1;
refused:
	__sync_fetch_and_add(&cpu->operations, -1);
	return 0;
}

/* Returns 1 if the operation is followed. */
__noinline int fim_op_enter(__u64 frame, __u32 point, __u32 type)
{
	struct fim_inflight *op, *outer = fim_op_lookup();
	struct fim_charge charge = {};
	__u32 quiet;

	if (outer && outer->interrupted && outer->point == point && outer->type == type) {
		fim_op_repeat();
		outer = NULL;
	}
	if (outer && fim_is_nested(outer, point, frame)) {
		__sync_fetch_and_add(&outer->nested, 1);
		return 0;
	}
	if (outer)
		fim_op_abandon(outer);
	quiet = !fim_is_in_scope();
	if (quiet && !(FIM_INVALIDATES & (1U << (type & 31))))
		return 0;
	if (!fim_op_admit(&charge))
		goto lost;
	op = fim_op_insert();
	if (!op) {
		fim_op_uncharge(&charge);
		goto lost;
	}
	op->frame = frame;
	op->slot = FIM_NO_SLOT;
	op->charge = charge;
	op->point = point;
	op->type = type;
	op->quiet = quiet;
	return 1;
lost:
	fim_lose(type, unentered);
	if (FIM_INVALIDATES & (1U << (type & 31)))
		fim_bump_generation();
	return 0;
}

/*
 * The kernel looks the names of this operation up again: something was stale, as user space
 * can make a file system say, and the names may lead elsewhere now. What was found is forgotten,
 * and so are copies of the names; what was rejected stays counted. `frame` is that of the lookup.
 */
FIM_ONCE void fim_op_again(struct fim_inflight *op, __u64 frame)
{
	struct fim_operation *place = (void *)op;

	if (op->interrupted || frame >= op->frame)
		return;
	if (op->state == FIM_PENDING)
		fim_count_undo(op->type);
	fim_op_forget(op);
	if (op->type == FIM_OPEN)
		op->flags = op->asked;
	op->state = FIM_ENTERED;
	op->names = op->type == FIM_LINK;
	op->placed = 0;
	op->lacks = 0;
	op->created = NULL;
	op->reached = NULL;
	op->beside = 0;
	place->found[0].out = NULL;
	place->found[0].dentry = NULL;
	place->found[1].out = NULL;
	place->found[1].dentry = NULL;
}

/* --- resolve -------------------------------------------------------------- */

/* Returns the operation of this type whose object is not known yet. */
static __always_inline struct fim_inflight *fim_op_lookup_entered(__u32 type)
{
	struct fim_inflight *op = fim_op_lookup();

	if (!op || op->type != type || op->state != FIM_ENTERED || op->nested)
		return NULL;
	return op;
}

/* Advances the epoch of an inode that the operation changes, and notes it for the return. */
static __always_inline void fim_op_touch(struct fim_inflight *op, __u32 family, struct dentry *dentry)
{
	struct inode *inode = fim_field(family, dentry, d_inode);
	__u32 n = op->bumps;
	__u32 key;

	if (!inode)
		return;
	key = fim_epoch_key(fim_identity(fim_untyped(family, inode)));
	fim_bump_epoch(key);
	op->bump[n & 1] = key;
	op->bumps = n + 1;
	if ((op->type == FIM_RENAME && (fim_field(family, inode, i_mode) & S_IFMT) == S_IFDIR) ||
	    (fim_field(family, dentry, d_flags) & FIM_MOUNTED)) {
		op->moves = 1;
		fim_bump_generation();
	}
}

/* Notes the object that an operation has reached, and that may be refused yet. */
static __always_inline void fim_op_reach_spot(struct fim_inflight *op, struct fim_spot *spot)
{
	struct fim_entry entry = {};

	fim_entry_read(&entry, spot->dentry);
	op->beside = 0;
	op->reached = spot->dentry;
	op->reached_on = fim_real_mount(spot->mnt);
	op->inode = entry.inode;
	op->parent = entry.parent;
	op->name_hash = entry.name_hash;
}

static __always_inline void fim_op_reach(struct fim_inflight *op, struct path *path)
{
	struct fim_spot spot = {};

	fim_spot_read(&spot, path);
	fim_op_reach_spot(op, &spot);
}

/* Whether the object that an operation reached still has the name by which it was reached. */
static __always_inline int fim_op_is_reached(struct fim_inflight *op)
{
	struct dentry *dentry = op->reached;
	struct fim_entry entry = {};

	if (!dentry)
		return 0;
	fim_entry_read(&entry, dentry);
	return entry.inode == op->inode && entry.parent == op->parent && entry.name_hash == op->name_hash;
}

/* Notes a name that gets its inode by this operation: returns.h fills it in. */
FIM_ONCE void fim_op_expect_inode(struct fim_inflight *op, struct dentry *dentry)
{
	struct fim_entry entry = {};

	fim_entry_read(&entry, dentry);
	op->created = dentry;
	op->parent = entry.parent;
	op->name_hash = entry.name_hash;
}

/*
 * Counts an event whose object is known and starts its record in a free slot.
 * Returns the slot's index, or FIM_NO_SLOT if the policy rejects the event
 * unseen or no slot is free.
 */
__noinline __u32 fim_event_begin(__u32 type, __u32 family, __u32 flags)
{
	struct fim_policy *policy = fim_policy_admit(type);
	__u32 index;

	if (!policy)
		return FIM_NO_SLOT;
	if (fim_is_hopeless(policy, type, flags)) {
		fim_count(type, approver_rejected);
		return FIM_NO_SLOT;
	}
	index = fim_slot_get();
	if (fim_record_start(index, type, family))
		return index;
	fim_lose(type, no_slot);
	return FIM_NO_SLOT;
}

/* Starts the record of an operation whose object is known. Returns NULL if none is wanted or to be had. */
static __always_inline struct fim_slot *fim_op_record(struct fim_inflight *op, __u32 family)
{
	struct fim_slot *slot;

	op->state = FIM_SEEN;
	if (op->quiet)
		return NULL;
	fim_op_forget(op); /* names are for a request that is refused before */
	op->slot = fim_event_begin(op->type, family, op->flags);
	slot = fim_slot_lookup(op->slot);
	if (!slot)
		return NULL;
	slot->event.flags = op->flags;
	slot->event.mode = op->mode;
	return slot;
}

/* Gives the slot back, with what is in it. */
static __always_inline void fim_op_drop(struct fim_inflight *op)
{
	__u32 index = op->slot;

	op->slot = FIM_NO_SLOT;
	fim_slot_put(index);
}

/* Keeps what is in the slot while the thread may sleep. Returns 0 if its user may keep no more. */
__noinline int fim_op_keep(void)
{
	struct fim_inflight *op = fim_op_lookup();

	if (!op)
		return 0;
	fim_op_forget(op);
	if (!FIM_READS_BY_CAST && op->owns && fim_place_keep(op->slot)) {
		op->keeps = FIM_KEEPS_PLACE;
	} else {
		if (!op->charge.charged)
			op->charge.account = fim_account_find();
		op->keeps = fim_keep(op->slot, op->charge.account);
	}
	fim_op_drop(op);
	return op->keeps != FIM_KEEPS_NOTHING;
}

/* Appends a name that the thread's place has to the record. */
static __always_inline void fim_place_append(struct fim_slot *slot, struct fim_kept *place, __u32 which)
{
	struct fim_text *text = &slot->event.file[which].given;
	__u64 used = slot->used;
	long size;

	if (used > FIM_PAYLOAD_MAX - FIM_PATH_MAX || FIM_READS_BY_CAST)
		return;
	size = fim_read_long_string(slot->payload + used, sizeof(place->names[0]), place->names[which],
				    &slot->place);
	if (size < 1)
		return;
	text->offset = used;
	text->length = size;
	slot->used = used + size;
}

/* Starts a record with the names in the thread's place. Returns its slot's index, or FIM_NO_SLOT. */
__noinline __u32 fim_place_record(__u32 type, __u32 family, __u32 placed)
{
	struct fim_kept *place = fim_place_lookup();
	__u32 index = fim_slot_get();
	struct fim_slot *slot;

	if (!fim_record_start(index, type, family))
		return FIM_NO_SLOT;
	slot = fim_slot_lookup(index);
	if (!slot || !place)
		return index;
	if (placed & 1)
		fim_place_append(slot, place, 0);
	if (placed & 2)
		fim_place_append(slot, place, 1);
	return index;
}

/* Puts what was kept into a slot again. Returns 0 if there is nothing, or no free slot. */
static __always_inline int fim_op_fetch(struct fim_inflight *op)
{
	if (op->keeps == FIM_KEEPS_NOTHING)
		return 0;
	if (op->keeps == FIM_KEEPS_NAMES)
		op->slot = fim_place_record(op->type, op->family, op->placed);
	else
		op->slot = fim_kept_copy(op->keeps);
	return op->slot != FIM_NO_SLOT;
}

/* Keeps an approved record until the return, and drops any other. */
static __always_inline void fim_op_judged(struct fim_inflight *op, int approved)
{
	if (!approved) {
		fim_op_drop(op);
		return;
	}
	if (fim_op_keep()) {
		op->state = FIM_PENDING;
		return;
	}
	fim_lose(op->type, no_slot);
}

#endif /* FIM_OPERATION_H */
