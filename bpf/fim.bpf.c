/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The object: all families over one set of maps. The loader offers the
 * verifier only the programs that it chose.
 */
#include "kernel.h"
#include "trampoline.bpf.c"
#include "kprobe.bpf.c"
#include "kprobe_multi.bpf.c"
#include "tracepoint.bpf.c"
#include "tell.bpf.c"
#include "probe.bpf.c"
#include "check.bpf.c"

char LICENSE[] SEC("license") = "Dual BSD/GPL";
