/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The scope: which processes are reported. */
#ifndef FIM_SCOPE_H
#define FIM_SCOPE_H

#include "kernel.h"
#include "maps.h"

#define FIM_ANCESTORS_CHUNK 4 /* squared: levels that are searched for the scope's process */

/* Tasks are numbers here because global functions take pointers only from 5.12. */
__noinline __u64 fim_task_parent(__u64 task)
{
	return (__u64)BPF_CORE_READ((struct task_struct *)task, real_parent);
}

__noinline __u32 fim_task_tgid(__u64 task)
{
	return BPF_CORE_READ((struct task_struct *)task, tgid);
}

/* Goes up some levels. Returns the ancestor that it reaches, or 0 if it passes this process. */
__noinline __u64 fim_task_climb(__u64 task, __u32 tgid)
{
	int i;

	for (i = 0; i < FIM_ANCESTORS_CHUNK; i++) {
		task = fim_task_parent(task);
		if (fim_task_tgid(task) == tgid)
			return 0;
	}
	return task;
}

/* Whether operations of the current task are reported. */
__noinline int fim_is_in_scope(void)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	struct fim_config *cfg = fim_config_lookup();
	__u64 task;
	int i;

	if (!cfg || tgid == cfg->agent)
		return 0;
	if (!cfg->scope || tgid == cfg->scope)
		return 1;
	task = bpf_get_current_task();
	for (i = 0; i < FIM_ANCESTORS_CHUNK; i++) {
		task = fim_task_climb(task, cfg->scope);
		if (!task)
			return 1;
	}
	return 0;
}

#endif /* FIM_SCOPE_H */
