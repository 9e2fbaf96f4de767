/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How many operations are in flight, by which a user's are bounded: operation.h. */
#ifndef FIM_LANES_H
#define FIM_LANES_H

#include "kernel.h"
#include "maps.h"

#define FIM_OPERATIONS	       16384
#define FIM_CROWD	       (FIM_OPERATIONS / 4)  /* in flight, from which on accounts are charged */
#define FIM_ACCOUNT_OPERATIONS (FIM_OPERATIONS / 16) /* of one account, among those that are charged */
#define FIM_LANE_PERIOD	       64		     /* operations of a lane from one look to the next */

/*
 * How many operations are in flight is counted in lanes: one may end in another
 * lane than it began, so only the sum counts, and sometimes is looked at.
 */
struct fim_lane {
	__s64 operations;
	__u32 begun;
	__u32 crowded;	   /* 1: there were many when this lane looked last */
	__u64 reserved[6]; /* a cache line each */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FIM_LANES);
	__type(key, __u32);
	__type(value, struct fim_lane);
} lanes SEC(".maps");

static __always_inline struct fim_lane *fim_lane_lookup(__u32 lane)
{
	return bpf_map_lookup_elem(&lanes, &lane);
}

static __always_inline struct fim_lane *fim_lane_own(void)
{
	return fim_lane_lookup(bpf_get_smp_processor_id() & (FIM_LANES - 1));
}

/* Looks how many operations are in flight, in all lanes. */
__noinline int fim_lanes_look(void)
{
	struct fim_lane *own = fim_lane_own(), *lane;
	__s64 operations = 0;
	__u32 i;

	for (i = 0; i < FIM_LANES; i++) {
		lane = fim_lane_lookup(i);
		if (lane)
			operations += lane->operations;
	}
	if (own)
		own->crowded = operations > FIM_CROWD;
	return 0;
}

#endif /* FIM_LANES_H */
