/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The caller's text: what is left to tell of a request that the kernel refused
 * before it had resolved the name. It is read from the kernel's own copy.
 */
#ifndef FIM_GIVEN_H
#define FIM_GIVEN_H

#include "operation.h"

/* Copies a name before it is looked up, in case that is all there will be. */
__noinline int fim_take_name(__u32 index, __u64 filename, __u32 which)
{
	struct filename *name = (void *)filename;
	__u32 at = offsetof(struct fim_event, file[0].given);

	if (which & 1)
		at = offsetof(struct fim_event, file[1].given);
	return fim_append_text(index, (__u64)BPF_CORE_READ(name, name), at);
}

/* Address of the path of one of the current task's descriptors. */
static __always_inline struct path *fim_path_of(int fd)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct file **files, *file = NULL;

	if (fd < 0 || fd >= BPF_CORE_READ(task, files, fdt, max_fds))
		return NULL;
	files = BPF_CORE_READ(task, files, fdt, fd);
	bpf_probe_read_kernel(&file, sizeof(file), files + fd);
	if (!file)
		return NULL;
	return (void *)file + bpf_core_field_offset(struct file, f_path);
}

/* Address of the directory that a text starts from. */
static __always_inline struct path *fim_base(int dfd, int absolute)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	void *fs;

	if (!absolute && dfd != AT_FDCWD)
		return fim_path_of(dfd);
	fs = BPF_CORE_READ(task, fs);
	if (absolute)
		return fs + bpf_core_field_offset(struct fs_struct, root);
	return fs + bpf_core_field_offset(struct fs_struct, pwd);
}

/* Resolves the base of one text. User space joins them, without links. */
__noinline int fim_resolve_base(__u32 index, __u32 which, int dfd)
{
	struct fim_slot *slot = fim_slot_at(index);
	struct path *base;
	__u32 at;

	if (!slot)
		return 0;
	if (!slot->event.file[which & 1].given.length)
		return 0;
	slot->event.file[which & 1].flags |= FIM_AS_GIVEN;
	at = slot->event.file[which & 1].given.offset;
	if (at >= FIM_PAYLOAD_MAX)
		return 0;
	base = fim_base(dfd, slot->payload[at] == '/');
	if (!base)
		return 0;
	fim_walk_begin(slot, which, (__u64)BPF_CORE_READ(base, dentry),
		       (__u64)fim_real_mount(BPF_CORE_READ(base, mnt)));
	return fim_walk_rest(index);
}

/* Whether a record of which only the caller's text is known is wanted. */
static __always_inline int fim_judge_given(struct fim_slot *slot, __u32 index)
{
	struct fim_policy *policy = fim_admit(slot->event.type);

	if (!policy || !fim_consult(slot))
		return 0;
	if (policy->mode == FIM_FORWARD_ALL || (slot->kinds & FIM_BY_NAME))
		return 1;
	if (fim_approve_plain(index, policy->flags_any))
		return 1;
	fim_count(slot->event.type, approver_rejected);
	return 0;
}

/* Makes the record of a request that was refused before its object was known.
 */
__noinline int fim_refused(__u32 family)
{
	struct fim_inflight *op = fim_operation();
	struct fim_slot *slot;
	__u32 index;

	if (!op)
		return 0;
	if (op->filename) {
		op->slot = fim_take_slot();
		if (!fim_start(op->slot, op->type, family)) {
			fim_count(op->type, seen);
			fim_count(op->type, no_slot);
			return 0;
		}
		fim_take_name(op->slot, op->filename, 0);
		op->names = 1;
	}
	index = op->slot;
	slot = fim_slot_at(index);
	if (!slot || !op->names)
		return 0;
	slot->event.flags = op->flags;
	slot->event.mode = op->mode;
	if (op->type == FIM_CHOWN) {
		slot->event.new_uid = op->stamp;
		slot->event.new_gid = op->stamp >> 32;
	}
	if (!fim_judge_given(slot, index))
		return 0;
	fim_resolve_base(index, 0, op->dfd[0]);
	if (op->names > 1)
		fim_resolve_base(index, 1, op->dfd[1]);
	op->state = FIM_PENDING;
	return 1;
}

#endif /* FIM_GIVEN_H */
