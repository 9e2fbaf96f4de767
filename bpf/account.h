/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Accounts: what one user holds of the memory that all users share, and what
 * that user lost by it. A bound for each account keeps the rest for the others.
 *
 * An account is not simply a user id: a user may have many ids in a namespace
 * of its own, and containers share the id 0.
 *
 *	process                          account
 *	a user                           its id
 *	root                             its cgroup
 *	in a user namespace of a user    the id of the owner of the outermost one
 *	in a user namespace of root      the outermost user namespace
 *
 * Accounts are places in an array, found by a hash: two users may share one, at
 * 1 to FIM_ACCOUNTS / 2; a user never shares one with root.
 */
#ifndef FIM_ACCOUNT_H
#define FIM_ACCOUNT_H

#include "kernel.h"
#include "maps.h"
#include "hash.h"

#define FIM_USER_CHUNK 6 /* squared: levels of user namespaces; the kernel allows 32 below the first */

/* Random, so that no user can choose a user or thread id that shares a place with that of another. */
const volatile __u64 fim_account_seed = 0;

/*
 * Returns the user namespace above another one, or 0 if that is the first one.
 * Inline, as fim_user_ns_outermost() is: each nested call takes at least 32 of
 * the 512 bytes of stack, and the tracepoint of all system calls has none left.
 */
static __always_inline __u64 fim_user_ns_above(__u64 at)
{
	struct user_namespace *ns = (void *)at;

	if (BPF_CORE_READ(ns, level) <= 1)
		return 0;
	return (__u64)BPF_CORE_READ(ns, parent);
}

/* Goes up some levels, but not to the first user namespace. */
__noinline __u64 fim_user_ns_climb(__u64 at)
{
	__u64 above;
	int i;

	for (i = 0; i < FIM_USER_CHUNK; i++) {
		above = fim_user_ns_above(at);
		if (!above)
			break;
		at = above;
	}
	return at;
}

/* Returns the outermost user namespace below the first; the first if the task is in none. */
static __always_inline __u64 fim_user_ns_outermost(__u64 at)
{
	__u64 above;
	int i;

	for (i = 0; i < FIM_USER_CHUNK; i++) {
		above = fim_user_ns_climb(at);
		if (above == at)
			break;
		at = above;
	}
	return at;
}

/* Returns the index of the current task's account. Only ids are read, which stay the same during a call. */
__noinline __u32 fim_account_find(void)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct user_namespace *ns = (void *)fim_user_ns_outermost((__u64)BPF_CORE_READ(task, cred, user_ns));
	__u32 uid = bpf_get_current_uid_gid();
	__u64 root = 0;

	if (BPF_CORE_READ(ns, level) > 0) {
		uid = BPF_CORE_READ(ns, owner.val);
		root = BPF_CORE_READ(ns, ns.inum);
	}
	if (uid)
		return fim_mix(fim_account_seed, uid) & (FIM_ACCOUNTS / 2 - 1);
	if (!root)
		root = bpf_get_current_cgroup_id();
	return FIM_ACCOUNTS / 2 + (fim_mix(fim_account_seed, root) & (FIM_ACCOUNTS / 2 - 1));
}

FIM_ONCE struct fim_account *fim_account_lookup(__u32 index)
{
	return bpf_map_lookup_elem(&accounts, &index);
}

/* Notes that an event of the current task is lost, for which the caller counts the reason. */
__noinline int fim_account_lose(void)
{
	struct fim_account *account = fim_account_lookup(fim_account_find());

	if (!account)
		return 0;
	account->uid = bpf_get_current_uid_gid();
	__sync_fetch_and_add(&account->lost, 1);
	return 1;
}

/* Counts a lost event of the current task under a reason, and for its user. */
#define fim_lose(type, counter) (fim_account_lose(), fim_count(type, counter))

#define FIM_SECOND 1000000000ULL

/*
 * Whether a record of this size may take room in the ring. Three quarters of it
 * are free for all. In the last one each account may use a sixteenth of the ring
 * at once and a sixteenth more every second: the user who fills the ring
 * finds it full, and the others do not.
 */
__noinline int fim_ring_admits(__u32 size)
{
	struct fim_account *account;
	__u64 room, now;

	if (fim_use_perf)
		return 1;
	room = bpf_ringbuf_query(&ring, FIM_RING_SIZE);
	if (bpf_ringbuf_query(&ring, FIM_RING_WAITS) < room / 4 * 3)
		return 1;
	account = fim_account_lookup(fim_account_find());
	if (!account)
		return 1;
	now = bpf_ktime_get_ns();
	if (account->paid_until < now)
		account->paid_until = now;
	if (account->paid_until > now + FIM_SECOND)
		return 0;
	__sync_fetch_and_add(&account->paid_until, size * (16 * FIM_SECOND / (room | 1)));
	return 1;
}

#endif /* FIM_ACCOUNT_H */
