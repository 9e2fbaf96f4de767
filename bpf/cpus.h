/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Counts the operations in flight, by which operation.h bounds those of one user. */
#ifndef FIM_CPUS_H
#define FIM_CPUS_H

#include "kernel.h"
#include "maps.h"

#define FIM_OPERATIONS	       16384
#define FIM_CROWD	       (FIM_OPERATIONS / 4)  /* in flight, from which on accounts are charged */
#define FIM_ACCOUNT_OPERATIONS (FIM_OPERATIONS / 16) /* of one account, among those that are charged */
#define FIM_CPUS_CHUNK	       8  /* CPUs that one function adds up: the verifier follows it once */
#define FIM_CPU_PERIOD	       64 /* a CPU counts all operations after so many of its own */

/*
 * Each CPU counts operations in a row of its own. One may end on another CPU
 * than it began on, so a single row means nothing and the sum is what counts.
 */
struct fim_cpu {
	__s64 operations;
	__u32 begun;
	__u32 crowded;	   /* 1: there were many when this CPU last added them up */
	__u64 reserved[6]; /* a cache line each */
};

FIM_CELLS(cpus, struct fim_cpu, FIM_CPUS);

static __always_inline struct fim_cpu *fim_cpu_lookup(__u32 cpu)
{
	return fim_cell(cpus, cpu, FIM_CPUS);
}

static __always_inline struct fim_cpu *fim_cpu_own(void)
{
	return fim_cpu_lookup(bpf_get_smp_processor_id());
}

/* Adds up the operations in flight of some CPUs. */
__noinline __s64 fim_cpus_sum_chunk(__u32 first)
{
	__s64 operations = 0;
	struct fim_cpu *cpu;
	__u32 i;

	for (i = 0; i < FIM_CPUS_CHUNK; i++) {
		cpu = fim_cpu_lookup(first + i);
		if (cpu)
			operations += cpu->operations;
	}
	return operations;
}

/* Adds up the operations in flight of all CPUs. */
__noinline int fim_cpus_sum(void)
{
	struct fim_cpu *own = fim_cpu_own();
	__s64 operations = 0;
	__u32 i;

	for (i = 0; i < FIM_CPUS; i += FIM_CPUS_CHUNK)
		operations += fim_cpus_sum_chunk(i);
	if (own)
		own->crowded = operations > FIM_CROWD;
	return 0;
}

#endif /* FIM_CPUS_H */
