/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Raw tracepoints: stable places, with the same arguments on every kernel. */
#include "points.h"

#define RAW_TRACEPOINT(name, phase, tracepoint)                                                              \
	SEC("raw_tp/" #tracepoint)                                                                           \
	int raw_tp__##name##__##phase(void *ctx)                                                             \
	{                                                                                                    \
		return name##_##phase(ctx, FIM_TRACEPOINT);                                                  \
	}
FIM_TRACEPOINTS(RAW_TRACEPOINT)
