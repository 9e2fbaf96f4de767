/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What user space writes into hash tables while events flow. Programs of type
 * syscall, from 5.14 ("bpf: Introduce bpf_sys_bpf() helper and program type."),
 * run when they are told to, and unlike bpf(2) on a map they keep no tracing
 * program off their CPU meanwhile: see maps.h. agent/kernel/tell.py runs them.
 */
#include "maps.h"

struct fim_tell_approver {
	struct fim_approver key;
	__u64 value;
	__s64 error;
};

struct fim_tell_discarder {
	struct fim_discarder key;
	struct fim_discard value;
	__s64 error;
};

/* Keys and values go over the stack: before 6.1 helpers do not take them from the context. */
SEC("syscall")
int tell__approvers__update(struct fim_tell_approver *told)
{
	struct fim_approver key = told->key;
	__u64 value = told->value;

	told->error = bpf_map_update_elem(&approvers, &key, &value, BPF_ANY);
	return 0;
}

SEC("syscall")
int tell__approvers__delete(struct fim_tell_approver *told)
{
	struct fim_approver key = told->key;

	told->error = bpf_map_delete_elem(&approvers, &key);
	return 0;
}

SEC("syscall")
int tell__discarders__update(struct fim_tell_discarder *told)
{
	struct fim_discarder key = told->key;
	struct fim_discard value = told->value;

	told->error = bpf_map_update_elem(&discarders, &key, &value, BPF_ANY);
	return 0;
}
