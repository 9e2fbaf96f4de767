/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The object: all families of programs over one set of maps. The loader loads
 * only the programs that it chose. A developer who waits for a verdict compiles
 * only the families that the hook set needs.
 */
#include "kernel.h"
#ifndef FIM_WITHOUT_TRAMPOLINE
#include "trampoline.bpf.c"
#endif
#ifndef FIM_WITHOUT_KPROBE
#include "kprobe.bpf.c"
#endif
#ifndef FIM_WITHOUT_KPROBE_MULTI
#include "kprobe_multi.bpf.c"
#endif
#ifndef FIM_WITHOUT_TRACEPOINT
#include "tracepoint.bpf.c"
#endif
#include "map_writer.bpf.c"
#include "probe.bpf.c"
#include "check.bpf.c"

char LICENSE[] SEC("license") = "Dual BSD/GPL";
