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
 * 6.9   ftruncate is done by do_ftruncate(file), before by
 *       do_sys_ftruncate(fd) ("fs: split do_sys_ftruncate"): fim_ftruncate_by_fd
 * 6.5   FMODE_BACKING marks the real file that overlayfs opens below its own
 *       ("fs: use backing_file container for internal files with fake
 *       f_path"). Before, FMODE_NOACCOUNT is the only mark of it, and later
 *       kernels set both.
 * 6.2   ACLs are set by vfs_set_acl(), no more by vfs_setxattr() ("acl: add
 *       vfs_set_acl()"): a point of its own, best effort.
 * 5.15  do_linkat() is given struct filename, before that what the caller
 *       pointed to ("namei: add getname_uflags()" and what follows):
 *       fim_link_by_filename.
 * 5.12  vfs_setxattr() and others are given the mount's user namespace, from
 *       6.3 its struct mnt_idmap, before all else ("fs: make helpers idmap mount
 *       aware", "fs: port xattr to mnt_idmap"): fim_has_idmap().
 */
#ifndef FIM_DRIFT_H
#define FIM_DRIFT_H

#include "kernel.h"

#define FMODE_OPENED	0x80000
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

struct vfsmount___userns {
	void *mnt_userns;
} __attribute__((preserve_access_index));

struct vfsmount___idmap {
	void *mnt_idmap;
} __attribute__((preserve_access_index));

/* Mounts carry what the leading argument is taken from. */
static __always_inline int fim_has_idmap(void)
{
	return bpf_core_field_exists(((struct vfsmount___userns *)0)->mnt_userns) ||
	       bpf_core_field_exists(((struct vfsmount___idmap *)0)->mnt_idmap);
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
