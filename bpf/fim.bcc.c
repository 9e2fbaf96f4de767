/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What bcc compiles in the guest: the same hooks, by kprobes alone. Their names
 * must not begin as bcc's own do, for those it attaches by itself.
 */
#include "kernel.h"
#include "event.h"

/* Whoever asks for a kprobe's registers means these, too. */
#define FIM_KPROBE FIM_BCC

#include "points.h"

#define KPROBE(name, phase, function)                                                                        \
	int on_kprobe__##name##__##phase(void *ctx)                                                          \
	{                                                                                                    \
		return name##_##phase(ctx, FIM_BCC);                                                         \
	}
FIM_RESOLVES(KPROBE)
FIM_ENTERS(KPROBE)
FIM_TASKS(KPROBE)

#define KRETPROBE(name, function)                                                                            \
	int on_kretprobe__##name##__exit(void *ctx)                                                          \
	{                                                                                                    \
		return name##_exit(ctx, FIM_BCC);                                                            \
	}
FIM_EXITS(KRETPROBE)

/* Hash tables are written by programs here as well, see maps.h. Their section is given to them afterwards. */
#undef SEC
#define SEC(name)
#include "tell.bpf.c"
