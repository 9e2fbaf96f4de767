// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
/* Counts the programs that children of one process execute. */
#include <linux/bpf.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

/* As much of the kernel's type as is read; its offsets are those of the kernel that loads this. */
struct task_struct {
	struct task_struct *real_parent;
	int tgid;
} __attribute__((preserve_access_index));

const volatile int parent = 0;

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} seen SEC(".maps");

SEC("raw_tp/sched_process_exec")
int count_exec(void *context)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	__u32 zero = 0;
	__u64 *count;

	if (BPF_CORE_READ(task, real_parent, tgid) != parent)
		return 0;
	count = bpf_map_lookup_elem(&seen, &zero);
	if (count)
		*count += 1;
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
