/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What bcc compiles in the guest: the same hooks, as kprobes only. Their names
 * must not begin with bcc's own prefixes: it attaches such programs by itself.
 */
#include "kernel.h"
#include "event.h"

/* The context is that of a kprobe. */
#define FIM_KPROBE FIM_BCC

#include "points.h"

#define KPROBE(name, phase, function)                                                                        \
	int on_kprobe__##name##__##phase(void *ctx)                                                          \
	{                                                                                                    \
		return name##_##phase(ctx, FIM_BCC);                                                         \
	}
FIM_RESOLVES(KPROBE)
FIM_ENTERS(KPROBE)
FIM_AFTER_LOST_RETURNS(KPROBE)
FIM_TASKS(KPROBE)

#define KRETPROBE(name, function)                                                                            \
	int on_kretprobe__##name##__exit(void *ctx)                                                          \
	{                                                                                                    \
		return name##_exit(ctx, FIM_BCC);                                                            \
	}
FIM_EXITS(KRETPROBE)

/* Programs write the hash tables here as well, see maps.h. object_file.py names their section later. */
#undef SEC
#define SEC(name)
#include "map_writer.bpf.c"
