/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Programs that write hash tables for user space while events flow. Programs of
 * type syscall, from 5.14 ("bpf: Introduce bpf_sys_bpf() helper and program
 * type."), run on request, and unlike bpf(2) on a map they do not disable tracing
 * programs on their CPU meanwhile: see maps.h. agent/kernel/map_writer.py runs them.
 */
#include "maps.h"

struct fim_write_approver {
	struct fim_approver key;
	__u64 value;
	__s64 error;
};

struct fim_write_discarder {
	struct fim_discarder key;
	struct fim_discard value;
	__s64 error;
};

/*
 * Keys and values are copied to the stack: before 6.1 helpers refuse those in the
 * context. Of an error the upper half is undefined on some kernels: see drift.h.
 */
SEC("syscall")
int write__approvers__update(struct fim_write_approver *request)
{
	struct fim_approver key = request->key;
	__u64 value = request->value;

	request->error = (int)bpf_map_update_elem(&approvers, &key, &value, BPF_ANY);
	return 0;
}

SEC("syscall")
int write__approvers__delete(struct fim_write_approver *request)
{
	struct fim_approver key = request->key;

	request->error = (int)bpf_map_delete_elem(&approvers, &key);
	return 0;
}

SEC("syscall")
int write__discarders__update(struct fim_write_discarder *request)
{
	struct fim_discarder key = request->key;
	struct fim_discard value = request->value;

	request->error = (int)bpf_map_update_elem(&discarders, &key, &value, BPF_ANY);
	return 0;
}
