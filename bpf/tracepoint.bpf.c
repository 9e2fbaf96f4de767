/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Tracepoints: stable places, with the same arguments on every kernel. */
#include "points.h"
#include "syscalls.h"

#define RAW_TRACEPOINT(name, phase, tracepoint)                                                              \
	SEC("raw_tp/" #tracepoint)                                                                           \
	int raw_tp__##name##__##phase(void *ctx)                                                             \
	{                                                                                                    \
		return name##_##phase(ctx, FIM_TRACEPOINT);                                                  \
	}
FIM_TRACEPOINTS(RAW_TRACEPOINT)

/*
 * Attached through perf, where the kernel does not preempt the program: while one
 * is preempted the kernel skips it for other tasks on that CPU.
 */
SEC("tp/raw_syscalls/sys_enter")
int tracepoint__syscall__enter(void *ctx)
{
	return syscall_enter(ctx, FIM_TRACEPOINT);
}

SEC("tp/raw_syscalls/sys_exit")
int tracepoint__syscall__exit(void *ctx)
{
	return syscall_exit(ctx, FIM_TRACEPOINT);
}
