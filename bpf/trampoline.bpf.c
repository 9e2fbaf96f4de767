/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * LSM, fentry and fexit: programs on BPF trampolines. The functions named here
 * are those of most kernels; the loader sets the ones that this kernel has.
 */
#include "points.h"

#define LSM(name, hook)                                                                                      \
	SEC("lsm/" #hook)                                                                                    \
	int lsm__##name##__resolve(void *ctx)                                                                \
	{                                                                                                    \
		return name##_resolve(ctx, FIM_LSM);                                                         \
	}
FIM_LSM_RESOLVES(LSM)

#define FENTRY(name, phase, function)                                                                        \
	SEC("fentry/" #function)                                                                             \
	int fentry__##name##__##phase(void *ctx)                                                             \
	{                                                                                                    \
		return name##_##phase(ctx, FIM_FENTRY);                                                      \
	}
FIM_RESOLVES(FENTRY)
FIM_ENTERS(FENTRY)

#define FEXIT(name, function)                                                                                \
	SEC("fexit/" #function)                                                                              \
	int fexit__##name##__exit(void *ctx)                                                                 \
	{                                                                                                    \
		return name##_exit(ctx, FIM_FENTRY);                                                         \
	}
FIM_EXITS(FEXIT)
