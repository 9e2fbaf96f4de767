/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * All state: what user space sets, what is counted, what is in flight.
 *
 * User space does not use bpf(2) on what it writes or reads while events flow.
 * While the kernel serves such a call on a map it keeps tracing programs off
 * that CPU (bpf_disable_instrumentation()), and where it can be preempted in
 * between, whoever runs then is not seen by a kprobe: 883 of 12,000 runs on 7.3
 * beside a loop that inserted discarders. Arrays are memory that both share,
 * hash tables are written by the programs of tell.bpf.c.
 */
#ifndef FIM_MAPS_H
#define FIM_MAPS_H

#include "kernel.h"
#include "event.h"

#define FIM_PAYLOAD_MAX (5 * FIM_PATH_MAX)
#define FIM_SLOTS	256 /* events in flight with a record */
#define FIM_NO_SLOT	0xffffffffU
#define FIM_EPOCHS	65536 /* a power of two */
#define FIM_HASH_WORDS	(FIM_NAME_SIZE / 8)
#define FIM_BANKS	2
#define FIM_LANES	64 /* of counters: processors share them beyond; a power of two */

/* What a record is about: one or two files, and texts of the caller's that it gets if it is kept. */
struct fim_object {
	__u64 dentry;
	__u64 mount;
	__u64 dentry2; /* 0: there is one file */
	__u64 mount2;
	__u64 name; /* addresses, or 0 */
	__u64 source;
};

/*
 * A record in the making, private to one operation of one task. It cannot be
 * per-CPU scratch: between two instructions a task may be preempted, and the
 * next one on that CPU would write over it.
 */
struct fim_slot {
	struct fim_event event;
	char payload[FIM_PAYLOAD_MAX]; /* a record ends within this */
	/* What follows never leaves the kernel. */
	union { /* the component at hand, padded */
		char name[FIM_NAME_SIZE + 8];
		__u64 words[FIM_HASH_WORDS + 1];
	};
	__u64 hash;
	__u64 hashes[FIM_DEPTH_MAX]; /* of the components, last one first */
	__u64 dentry;		     /* where the walk is */
	__u64 mount;
	__u64 fold;  /* hash of the directories down to `left` */
	__u64 bits;  /* of the event in an approver's mask */
	__u32 used;  /* bytes of the payload */
	__u32 start; /* of the path at hand in the payload */
	__u32 depth; /* components of the path at hand */
	__u32 left;  /* components still to be folded */
	__u32 which; /* file at hand */
	__u32 bank;
	__u32 kinds; /* the policy's, enum fim_kind */
	__u32 approved;
	struct fim_object object; /* for the program that judges it */
};

enum fim_state {
	FIM_ENTERED, /* the operation runs, its object is not known */
	FIM_SEEN,    /* counted, and already dropped by a filter */
	FIM_PENDING, /* holds a record that waits for the return value */
};

/* One operation of one task, from its entry to its return. */
struct fim_inflight {
	__u64 frame;	/* address of the stack at entry */
	__u64 filename; /* open: the kernel's copy of the name */
	__u64 created;	/* dentry that will get an inode, or 0 */
	__u64 parent;	/* dentry of its directory */
	__u64 stamp;	/* hash and length of its name; chown: what is asked for */
	__u32 slot;	/* index, or FIM_NO_SLOT */
	__u32 point;	/* enum fim_point */
	__u32 type;
	__u32 state;  /* enum fim_state */
	__u32 quiet;  /* out of scope: only invalidates discarders */
	__u32 nested; /* operations that began inside this one */
	__u32 flags;  /* as asked for */
	__u32 mode;
	__u32 names;	      /* which of the caller's texts is next */
	__s32 dfd[FIM_FILES]; /* base directories of those texts */
	__u32 bumps;	      /* epochs to advance again at the return */
	__u32 bump[FIM_FILES];
	__u32 moves; /* a directory or a mount: the generation too */
	__s32 ret;   /* for the program that a return hands over to */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32); /* thread */
	__type(value, struct fim_inflight);
} inflight SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FIM_SLOTS);
	__type(key, __u32);
	__type(value, struct fim_slot);
} slots SEC(".maps");

/* Indexes of unused slots; filled by the loader. */
struct {
	__uint(type, BPF_MAP_TYPE_STACK);
	__uint(max_entries, FIM_SLOTS);
	__uint(value_size, sizeof(__u32));
} free_slots SEC(".maps");

/* Processes whose end was told of; see tasks.h. */
struct fim_end {
	__u64 born;
	__u32 pid;
	__u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, struct fim_end);
	__type(value, __u32);
} ended SEC(".maps");

/* Mounts that tasks were about to write to; see attributes.h. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);   /* thread */
	__type(value, __u64); /* struct mount * */
} writing SEC(".maps");

/* --- what user space sets ------------------------------------------------- */

struct fim_config {
	__u32 serial; /* of the policy in force; its lowest bit is the bank */
	__u32 agent;  /* the agent's own process, which is not reported */
	__u32 scope;  /* this process and its descendants only; 0: everything */
	__u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct fim_config);
} config SEC(".maps");

/* What becomes of a type. Before there is a policy, nothing is reported. */
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
};

/* Bits of an approver's mask that count only for events that write. */
#define FIM_WRITING 32

#define FIM_BY_NAME (FIM_BY_BASENAME | FIM_BY_PATH | FIM_BY_PREFIX)

struct fim_policy {
	__u32 mode;  /* enum fim_mode */
	__u32 kinds; /* enum fim_kind, those in use */
	__u32 flags_any;
	__u32 read_kinds; /* those in use for opens that do not write */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FIM_BANKS *FIM_TYPES);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32); /* bank * FIM_TYPES + type */
	__type(value, struct fim_policy);
} policies SEC(".maps");

struct fim_approver {
	__u64 value; /* hash of a name, or an id */
	__u32 kind;
	__u32 bank;
};

/* Made in advance: 5.10 warns of tracing programs whose maps allocate later. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, struct fim_approver);
	__type(value, __u64); /* event mask, above it that of FIM_WRITING */
} approvers SEC(".maps");

struct fim_discarder {
	__u64 inode;
	__u32 device;
	__u32 mount_id;
	__u32 level; /* 0: the inode itself, 1..: whatever lies so far below */
	__u32 reserved;
};

struct fim_discard {
	__u64 mask;    /* event mask */
	__u64 expires; /* ns, CLOCK_BOOTTIME */
	__u32 serial;
	__u32 generation;
	__u32 epoch;
	__u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 32768);
	__type(key, struct fim_discarder);
	__type(value, struct fim_discard);
} discarders SEC(".maps");

/* --- what makes discarders stale ------------------------------------------ */

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u32);
} generation SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FIM_EPOCHS);
	__type(key, __u32); /* hash of device and inode */
	__type(value, __u32);
} epochs SEC(".maps");

/* --- what is counted ------------------------------------------------------ */

/*
 * Each processor has a lane of its own, and still adds atomically: a program
 * can be preempted in the middle of an increment, and the ledger is exact.
 *
 * seen = approver_rejected + discarded + submitted
 *      + ring_full + oversize + no_slot + abandoned
 * as soon as nothing is in flight.
 */
struct fim_counts {
	__u64 seen;
	__u64 approver_rejected;
	__u64 discarded;
	__u64 submitted;
	__u64 ring_full;
	__u64 oversize;
	__u64 no_slot;	 /* all records in use */
	__u64 abandoned; /* the program at the return was not run */
	__u64 unentered; /* no room for one more operation: never seen */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FIM_LANES *FIM_TYPES);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32); /* lane * FIM_TYPES + type */
	__type(value, struct fim_counts);
} counts SEC(".maps");

/* --- ways out --------------------------------------------------------------
 */

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 23); /* bytes; the loader may change it */
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} perf SEC(".maps");

/* Programs that others hand over to; filled by the loader, agent/kernel/tails.py. */
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

/* --- constants, set before the programs are verified -----------------------
 */

/* 1: perf buffer, 0: ring buffer. The other map is then never created. */
const volatile __u32 fim_use_perf = 0;

/*
 * An index below `size`, a power of two, that stays so: what the compiler knows
 * to be in bounds it does not mask, and the verifier may know less.
 */
#define fim_index(value, size)                                                                               \
	({                                                                                                   \
		__u64 index_ = (value);                                                                      \
		barrier_var(index_);                                                                         \
		index_ &((size)-1);                                                                          \
	})

FIM_ONCE void fim_add(__u32 type, __u32 counter)
{
	__u32 lane = bpf_get_smp_processor_id() & (FIM_LANES - 1);
	__u32 key = lane * FIM_TYPES + type;
	struct fim_counts *found = bpf_map_lookup_elem(&counts, &key);

	if (found)
		__sync_fetch_and_add((__u64 *)found + counter, 1);
}

#define fim_count(type, counter) fim_add(type, offsetof(struct fim_counts, counter) / sizeof(__u64))

static __always_inline struct fim_slot *fim_slot_inline(__u32 index)
{
	return bpf_map_lookup_elem(&slots, &index);
}

/* For all but the deepest functions: the verifier allows eight frames. */
FIM_ONCE struct fim_slot *fim_slot_at(__u32 index)
{
	return fim_slot_inline(index);
}

FIM_ONCE struct fim_config *fim_config(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&config, &zero);
}

#endif /* FIM_MAPS_H */
