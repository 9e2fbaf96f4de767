/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * One tiny program for each type, to see whether it fires on this kernel: some
 * load and attach, and are never called (an LSM program on a kernel whose lsm=
 * lacks bpf). agent/kernel/capabilities.py opens a file and reads the counts.
 * The raw tracepoint is the control: every kernel has it. The function and the
 * LSM hook named here are those of most kernels; the loader sets the names that
 * this kernel has, from PROBED and RESOLVES of agent/hooks/points.py.
 */
#include "kernel.h"

enum fim_probe {
	FIM_PROBE_PID, /* no count: the process whose open is counted */
	FIM_PROBE_RAW_TP,
	FIM_PROBE_LSM,
	FIM_PROBE_FENTRY,
	FIM_PROBE_FEXIT,
	FIM_PROBE_KPROBE,
	FIM_PROBE_KRETPROBE,
	FIM_PROBE_KPROBE_MULTI,
	FIM_PROBE_TRACEPOINT,
	FIM_PROBE_SYSCALL,
	FIM_PROBE_READ,
	FIM_PROBE_CAST,
	FIM_PROBE_SKIPS,
	FIM_PROBES,
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FIM_PROBES);
	__type(key, __u32);
	__type(value, __u64);
} probes SEC(".maps");

static __always_inline int fim_probe_count(__u32 probe)
{
	__u32 pid = FIM_PROBE_PID;
	__u64 *wanted = bpf_map_lookup_elem(&probes, &pid);
	__u64 *count = bpf_map_lookup_elem(&probes, &probe);

	if (wanted && count && *wanted == bpf_get_current_pid_tgid() >> 32)
		__sync_fetch_and_add(count, 1);
	return 0;
}

#define FIM_PROBE(name, section, probe)                                                                      \
	SEC(section)                                                                                         \
	int probe__##name(void *ctx)                                                                         \
	{                                                                                                    \
		return fim_probe_count(probe);                                                               \
	}

FIM_PROBE(raw_tp, "raw_tp/sys_enter", FIM_PROBE_RAW_TP)
FIM_PROBE(lsm, "lsm/file_open", FIM_PROBE_LSM)
FIM_PROBE(fentry, "fentry/security_file_open", FIM_PROBE_FENTRY)
FIM_PROBE(fexit, "fexit/security_file_open", FIM_PROBE_FEXIT)
FIM_PROBE(tracepoint, "tp/syscalls/sys_enter_openat", FIM_PROBE_TRACEPOINT)
FIM_PROBE(syscall, "syscall", FIM_PROBE_SYSCALL)

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} probe_tails SEC(".maps");

/* See `multi_tails` in maps.h. */
struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} probe_multi_tails SEC(".maps");

/*
 * Real programs of these types make calls and tail calls (kprobe.bpf.c). A kernel that
 * does not compile programs verifies all of such a program and then refuses it: "bpf:
 * allow for tailcalls in BPF subprograms for x64 JIT". On arm64 no program makes both:
 * before 6.0 no kernel allows that there. The map stays empty, so the tail call returns.
 */
#if defined(__TARGET_ARCH_x86)
#define FIM_PROBE_CALLED __noinline
#else
#define FIM_PROBE_CALLED static __always_inline
#endif

FIM_PROBE_CALLED int fim_probe_called(__u32 probe)
{
	return fim_probe_count(probe);
}

#define FIM_PROBE_JUMPING(name, section, probe, map)                                                         \
	SEC(section)                                                                                         \
	int probe__##name(void *ctx)                                                                         \
	{                                                                                                    \
		fim_probe_called(probe);                                                                     \
		bpf_tail_call(ctx, &map, 0);                                                                 \
		return 0;                                                                                    \
	}

FIM_PROBE_JUMPING(kprobe, "kprobe/security_file_open", FIM_PROBE_KPROBE, probe_tails)
FIM_PROBE_JUMPING(kretprobe, "kretprobe/security_file_open", FIM_PROBE_KRETPROBE, probe_tails)
FIM_PROBE_JUMPING(kprobe_multi, "kprobe.multi/security_file_open", FIM_PROBE_KPROBE_MULTI, probe_multi_tails)

/* Both ways to read the kernel's memory (read.h): they read a number that a helper knows too. */
SEC("raw_tp/sys_enter")
int probe__read(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u32 tgid = 0;

	bpf_probe_read_kernel(&tgid, sizeof(tgid), __builtin_preserve_access_index(&task->tgid));
	return tgid == bpf_get_current_pid_tgid() >> 32 ? fim_probe_count(FIM_PROBE_READ) : 0;
}

SEC("raw_tp/sys_enter")
int probe__cast(void *ctx)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	const __u32 *tgid = fim_cast(__builtin_preserve_access_index(&task->tgid));

	return *tgid == bpf_get_current_pid_tgid() >> 32 ? fim_probe_count(FIM_PROBE_CAST) : 0;
}

#define FIM_LINGER_NS	 20000000 /* several ticks at 250 Hz */
#define FIM_LINGER_TURNS 64
#define FIM_LINGER_LOOKS 1024

/* Each loop is a function of its own, which the verifier checks once. */
__noinline int fim_linger_briefly(__u64 until)
{
	int i;

	for (i = 0; i < FIM_LINGER_LOOKS; i++)
		if (bpf_ktime_get_ns() >= until)
			return 0;
	return 1;
}

__noinline int fim_linger_longer(__u64 until)
{
	int i;

	for (i = 0; i < FIM_LINGER_TURNS; i++)
		if (!fim_linger_briefly(until))
			return 0;
	return 1;
}

/*
 * Runs until several ticks have passed. A kernel may preempt a program on a
 * trampoline, and from 5.12 it skips the same program for other tasks on that CPU
 * meanwhile: "bpf: Add per-program recursion prevention mechanism".
 */
SEC("fentry/security_file_open")
int probe__skips(void *ctx)
{
	__u64 until = bpf_ktime_get_ns() + FIM_LINGER_NS;
	__u32 pid = FIM_PROBE_PID;
	__u64 *wanted = bpf_map_lookup_elem(&probes, &pid);
	int i;

	if (!wanted || *wanted != bpf_get_current_pid_tgid() >> 32)
		return 0;
	for (i = 0; i < FIM_LINGER_TURNS; i++)
		if (!fim_linger_longer(until))
			break;
	return 0;
}
