/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* kprobe.multi: the same registers, attached by fprobe without a breakpoint. From 5.18, with CONFIG_FPROBE.
 */
#include "points.h"

#define KPROBE_MULTI(name, phase, function)                                                                  \
	SEC("kprobe.multi/" #function)                                                                       \
	int kprobe_multi__##name##__##phase(void *ctx)                                                       \
	{                                                                                                    \
		return name##_##phase(ctx, FIM_KPROBE_MULTI);                                                \
	}
FIM_RESOLVES(KPROBE_MULTI)
FIM_ENTERS(KPROBE_MULTI)
FIM_TASKS(KPROBE_MULTI)

#define KRETPROBE_MULTI(name, function)                                                                      \
	SEC("kretprobe.multi/" #function)                                                                    \
	int kretprobe_multi__##name##__exit(void *ctx)                                                       \
	{                                                                                                    \
		return name##_exit(ctx, FIM_KPROBE_MULTI);                                                   \
	}
FIM_EXITS(KRETPROBE_MULTI)

#if FIM_JUDGES_APART(FIM_KPROBE_MULTI)
SEC("kprobe.multi")
int tail_multi__kprobe(void *ctx)
{
	return fim_op_judge_tail();
}
#endif

SEC("kretprobe.multi")
int tail_multi__kretprobe(void *ctx)
{
	return fim_op_exit_tail(ctx, FIM_KPROBE_MULTI);
}
