/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* kprobe and kretprobe: they need neither BTF of the function nor a trampoline. */
#include "points.h"

#define KPROBE(name, phase, function)                                                                        \
	SEC("kprobe/" #function)                                                                             \
	int kprobe__##name##__##phase(void *ctx)                                                             \
	{                                                                                                    \
		return name##_##phase(ctx, FIM_KPROBE);                                                      \
	}
FIM_RESOLVES(KPROBE)
FIM_ENTERS(KPROBE)
FIM_AFTER_LOST_RETURNS(KPROBE)
FIM_TASKS(KPROBE)

#define KRETPROBE(name, function)                                                                            \
	SEC("kretprobe/" #function)                                                                          \
	int kretprobe__##name##__exit(void *ctx)                                                             \
	{                                                                                                    \
		return name##_exit(ctx, FIM_KPROBE);                                                         \
	}
FIM_EXITS(KRETPROBE)

#if FIM_JUDGES_APART(FIM_KPROBE)
SEC("kprobe")
int tail__kprobe(void *ctx)
{
	return fim_op_judge_tail();
}
#endif

SEC("kretprobe")
int tail__kretprobe(void *ctx)
{
	return fim_op_exit_tail(ctx, FIM_KPROBE);
}
