/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Paths that the current task holds: its descriptors, its root and its working directory. */
#ifndef FIM_BASE_H
#define FIM_BASE_H

#include "kernel.h"

/* Returns the address of a descriptor's path, or NULL if it is not open. */
static __always_inline struct path *fim_fd_path(int fd)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	struct file **files, *file = NULL;

	if (fd < 0 || fd >= BPF_CORE_READ(task, files, fdt, max_fds))
		return NULL;
	files = BPF_CORE_READ(task, files, fdt, fd);
	fim_read_kernel(&file, sizeof(file), files + fd);
	if (!file)
		return NULL;
	return (void *)file + bpf_core_field_offset(struct file, f_path);
}

/* Returns the address of the directory's path that a text starts from, or NULL. */
static __always_inline struct path *fim_base_path(int dfd, int absolute)
{
	struct task_struct *task = (void *)bpf_get_current_task();
	void *fs;

	if (!absolute && dfd != AT_FDCWD)
		return fim_fd_path(dfd);
	fs = BPF_CORE_READ(task, fs);
	if (absolute)
		return fs + bpf_core_field_offset(struct fs_struct, root);
	return fs + bpf_core_field_offset(struct fs_struct, pwd);
}

#endif /* FIM_BASE_H */
