/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where kernels differ in what is read here, newest first. Functions that were
 * renamed, and arguments that moved, are data in agent/hooks.py: they are
 * looked up by name in the running kernel's BTF before anything is loaded.
 *
 * 7.0   struct filename keeps `name` in an embedded struct __filename_head
 *       ("allow incomplete imports of filenames"): found by name all the same.
 * 6.15  struct dentry has `d_name` in a union, const beside the writable
 *       __d_name ("make struct dentry::d_name const"): found by name.
 * 6.5   FMODE_BACKING marks the real file that overlayfs opens below its own
 *       ("fs: use backing_file container for internal files with fake
 *       f_path"). Before, FMODE_NOACCOUNT is the only mark of it, and later
 *       kernels set both.
 */
#ifndef FIM_DRIFT_H
#define FIM_DRIFT_H

#include "kernel.h"

#define FMODE_WRITE	0x2
#define FMODE_EXEC	0x20 /* in f_flags: __FMODE_EXEC */
#define FMODE_CREATED	0x100000
#define FMODE_BACKING	0x2000000
#define FMODE_NOACCOUNT 0x20000000

/* A file that a file system opened for itself below the one asked for. */
static __always_inline int fim_is_backing(fmode_t mode)
{
	return !!(mode & (FMODE_BACKING | FMODE_NOACCOUNT));
}

/*
 * overlayfs is a module, and modules have BTF only from 5.11, so its inode is
 * not described everywhere. Since 4.8 the upper dentry follows the embedded
 * inode directly ("ovl: store real inode pointer in ->i_private" and what came
 * of it: struct ovl_inode { ..; struct inode vfs_inode; struct dentry
 * *__upperdentry; ..}).
 */
static __always_inline int fim_is_upper(struct inode *inode)
{
	void *upper = NULL;

	bpf_probe_read_kernel(&upper, sizeof(upper), (void *)inode + bpf_core_type_size(struct inode));
	return upper != NULL;
}

#endif /* FIM_DRIFT_H */
