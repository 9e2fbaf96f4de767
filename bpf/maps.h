/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Maps that user space shares: what it sets, what programs count, and the ways
 * out. agent/kernel/maps.py mirrors the structures; tests compare them.
 *
 * User space does not use bpf(2) on a map while events flow. While the kernel
 * serves such a call it disables tracing programs on that CPU
 * (bpf_disable_instrumentation()). If it is preempted meanwhile, a kprobe on
 * that CPU misses other tasks: 883 of 12,000 runs on 7.3 beside a loop that
 * inserted discarders. So arrays are memory that both sides map, and the
 * programs of map_writer.bpf.c write the hash tables.
 */
#ifndef FIM_MAPS_H
#define FIM_MAPS_H

#include "kernel.h"
#include "event.h"

#define FIM_EPOCHS 65536 /* a power of two */
#define FIM_BANKS  2
#define FIM_CPUS   64 /* one for each processor, a power of two; more processors than that share them */

/*
 * A small array that lies in a section of its own, so that programs have its
 * address: an access is no call, cannot fail, and needs no instructions that the
 * kernel inserts as it loads the program. User space maps it as it maps an array
 * with BPF_F_MMAPABLE. Small, because 5.10 allocates as much at once to fill it. Where
 * bcc compiles it is such an array: bcc.h.
 */
#ifndef FIM_BCC_H
#define FIM_CELLS(name, type, count) type name[count] SEC(".data." #name)
#define fim_cell(name, index, count) (&name[fim_index(index, count)])
#endif

/*
 * Limits an index to less than `size`, a power of two. The barrier keeps the
 * compiler from dropping the mask where it knows the bounds: the verifier may
 * not know them.
 */
#define fim_index(value, size)                                                                               \
	({                                                                                                   \
		__u64 index_ = (value);                                                                      \
		barrier_var(index_);                                                                         \
		index_ &((size)-1);                                                                          \
	})

/* --- what user space sets ------------------------------------------------- */

struct fim_config {
	__u32 serial;	 /* of the policy in force; its lowest bit selects the bank */
	__u32 agent;	 /* the agent's own process, which is not reported */
	__u32 scope;	 /* report this process and its descendants only; 0: everything */
	__u32 remembers; /* 1: all hooks are attached that make discarders stale, and what directories.h has
			  */
};
_Static_assert(sizeof(struct fim_config) == 16, "agent/kernel/maps.py: CONFIG");

FIM_CELLS(config, struct fim_config, 1);

/* How a type of events is filtered. Before user space sets a policy, all are rejected. */
enum fim_mode {
	FIM_REJECT_ALL,
	FIM_APPROVE,
	FIM_FORWARD_ALL,
};

/* What can approve an event. */
enum fim_kind {
	FIM_BY_BASENAME = 1 << 0,
	FIM_BY_PATH = 1 << 1,
	FIM_BY_PREFIX = 1 << 2,
	FIM_BY_FLAGS = 1 << 3,
	FIM_BY_RDONLY = 1 << 4,
	FIM_BY_UID = 1 << 5,
	FIM_BY_AUID = 1 << 6,
	FIM_BY_UPPER = 1 << 7,
	FIM_BY_INODE = 1 << 8, /* on any file system */
};

/* Bits of an approver's mask from here on count only for events that write. */
#define FIM_WRITING 32

#define FIM_BY_NAME (FIM_BY_BASENAME | FIM_BY_PATH | FIM_BY_PREFIX)

struct fim_policy {
	__u32 mode;  /* enum fim_mode */
	__u32 kinds; /* enum fim_kind, those in use */
	__u32 flags_any;
	__u32 read_kinds; /* those in use for opens that do not write */
};
_Static_assert(sizeof(struct fim_policy) == 16, "agent/kernel/maps.py: POLICY");

FIM_CELLS(policies, struct fim_policy, FIM_BANKS *FIM_TYPES); /* bank * FIM_TYPES + type */

struct fim_approver {
	__u64 value; /* hash of a name, or an id */
	__u32 kind;  /* one of enum fim_kind */
	__u32 bank;
};
_Static_assert(sizeof(struct fim_approver) == 16, "agent/kernel/maps.py: APPROVER");

/* Allocated in advance: 5.10 warns about tracing programs whose maps allocate later. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, struct fim_approver);
	__type(value, __u64); /* event mask; above it the mask of FIM_WRITING */
} approvers SEC(".maps");

struct fim_discarder {
	__u64 identity; /* of an inode: see discarders.h */
	__u32 mount_id;
	__u32 level; /* 0: the inode itself, n: everything n levels below it */
};
_Static_assert(sizeof(struct fim_discarder) == 16, "agent/kernel/maps.py: DISCARDER");

struct fim_discard {
	__u64 mask;    /* event mask */
	__u64 expires; /* ns, CLOCK_BOOTTIME */
	__u32 serial;
	__u32 generation;
	__u32 epoch;
	__u32 reserved;
};
_Static_assert(sizeof(struct fim_discard) == 32, "agent/kernel/maps.py: DISCARD");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 32768);
	__type(key, struct fim_discarder);
	__type(value, struct fim_discard);
} discarders SEC(".maps");

/* --- what makes discarders stale ------------------------------------------ */

FIM_CELLS(generation, __u32, 1);

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FIM_EPOCHS);
	__type(key, __u32); /* of an inode: fim_epoch_key() */
	__type(value, __u32);
} epochs SEC(".maps");

/* --- what is counted ------------------------------------------------------ */

/*
 * Each processor has counters of its own and still adds atomically, because a
 * program can be preempted in the middle of an increment.
 *
 * seen = approver_rejected + discarded + submitted
 *      + ring_full + oversize + no_slot + abandoned
 * as soon as no operation is in flight.
 *
 * Every map operation that can fail is counted under one of the last four, or
 * leads to another one that is.
 */
struct fim_counts {
	__u64 seen;
	__u64 approver_rejected;
	__u64 discarded;
	__u64 submitted;
	__u64 ring_full;
	__u64 oversize;
	__u64 no_slot;	 /* no memory for a record, or its user holds too much of it */
	__u64 abandoned; /* the program at the return was not run */
	__u64 unentered; /* never seen: not followed from the entry, or not to the object and the return */
};
_Static_assert(sizeof(struct fim_counts) == 9 * sizeof(__u64), "agent/kernel/maps.py: COUNTS");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FIM_CPUS *FIM_TYPES);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32); /* cpu * FIM_TYPES + type */
	__type(value, struct fim_counts);
} counts SEC(".maps");

#define FIM_ACCOUNTS 16384 /* a power of two */

/* What one user holds and has lost: account.h. */
struct fim_account {
	__u64 paid_until; /* ns, CLOCK_MONOTONIC: until then its share of the ring is used */
	__u64 lost;	  /* events, whatever the reason */
	__u32 operations; /* in flight while there are many: operation.h */
	__u32 kept;	  /* records that wait for a return: keep.h */
	__u32 uid;	  /* of the last event that was lost */
	__u32 reserved;
};
_Static_assert(sizeof(struct fim_account) == 32, "agent/kernel/maps.py: ACCOUNT");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FIM_ACCOUNTS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct fim_account);
} accounts SEC(".maps");

/* --- ways out ------------------------------------------------------------- */

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 23); /* bytes; the loader may change it */
} ring SEC(".maps");

#define FIM_RING_WAITS 0 /* BPF_RB_AVAIL_DATA: bytes that user space has not read */
#define FIM_RING_SIZE  1 /* BPF_RB_RING_SIZE */

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} perf SEC(".maps");

/* Programs at the end of a tail call; the loader fills the map, agent/kernel/tails.py. */
enum fim_tail {
	FIM_TAIL_RETURNED,
	FIM_TAIL_JUDGE,
	FIM_TAIL_COUNT,
};

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, FIM_TAIL_COUNT);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} tails SEC(".maps");

/* The same for kprobe.multi: the kernel lets programs of one way to attach share a map. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, FIM_TAIL_COUNT);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} multi_tails SEC(".maps");

/* Jumps to another program of this family; returns if the kernel refuses. */
static __always_inline void fim_tail_call(void *ctx, __u32 family, __u32 tail)
{
	if (family == FIM_KPROBE_MULTI)
		bpf_tail_call(ctx, &multi_tails, tail);
	else
		bpf_tail_call(ctx, &tails, tail);
}

/* 1: perf buffer, 0: ring buffer. The loader sets it before programs are verified; the other map is not made.
 */
const volatile __u32 fim_use_perf = 0;

/* --- access --------------------------------------------------------------- */

#define FIM_COUNTERS (sizeof(struct fim_counts) / sizeof(__u64))

/* Global: the verifier checks it once a program, and there are many calls. */
__noinline int fim_count_add(__u32 type, __u32 counter)
{
	__u32 cpu = bpf_get_smp_processor_id() & (FIM_CPUS - 1);
	__u32 key = cpu * FIM_TYPES + type;
	struct fim_counts *found = bpf_map_lookup_elem(&counts, &key);
	__u64 place = counter;

	barrier_var(place); /* the verifier needs the bound in the register that is added */
	if (!found || place >= FIM_COUNTERS)
		return 0;
	__sync_fetch_and_add((__u64 *)found + place, 1);
	return 1;
}

/* Counts an event that was seen and rejected at the same moment. */
__noinline int fim_count_rejected(__u32 type)
{
	__u32 cpu = bpf_get_smp_processor_id() & (FIM_CPUS - 1);
	__u32 key = cpu * FIM_TYPES + type;
	struct fim_counts *found = bpf_map_lookup_elem(&counts, &key);

	if (!found)
		return 0;
	__sync_fetch_and_add(&found->seen, 1);
	__sync_fetch_and_add(&found->approver_rejected, 1);
	return 1;
}

/* Reverses the count of an operation that is not an event. */
__noinline int fim_count_undo(__u32 type)
{
	__u32 cpu = bpf_get_smp_processor_id() & (FIM_CPUS - 1);
	__u32 key = cpu * FIM_TYPES + type;
	struct fim_counts *found = bpf_map_lookup_elem(&counts, &key);

	if (!found)
		return 0;
	__sync_fetch_and_add(&found->seen, -1);
	return 1;
}

#define fim_count(type, counter) fim_count_add(type, offsetof(struct fim_counts, counter) / sizeof(__u64))

/* Like all that returns a cell, NULL only where bcc compiles. */
static __always_inline struct fim_config *fim_config_lookup(void)
{
	return fim_cell(config, 0, 1);
}

#endif /* FIM_MAPS_H */
